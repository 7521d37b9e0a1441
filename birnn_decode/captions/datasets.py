"""Read captioned images from files: Karpathy's split files, COCO's captions and Flickr's token files."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from birnn_decode.checks import check_count
from birnn_decode.files import reading
from birnn_decode.vocabularies import UNK, WordVocabulary

SPLITS = ("train", "val", "test")
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom: fractions of the width and the height
KARPATHY = """Karpathy's {"images": [{"filename", "split", "sentences": [{"raw"}]}]}"""
COCO = """COCO's {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}"""


@dataclass(frozen=True)
class Region:
    """A box in an image, with a name for what it shows.

    Attributes:
        box: left, top, right and bottom, as fractions of the width and the height of the image.
        label: what the box shows, such as "red circle".

    Raises:
        ValueError: ``box`` does not lie in the image, or is empty.

    Example:
        >>> from birnn_decode.captions import Region
        >>> Region((0.25, 0.25, 0.5, 0.75), "red circle").label
        'red circle'
    """

    box: Box
    label: str = ""

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"a box must be left, top, right and bottom from 0 to 1, with left < right and top < bottom, got "
                f"{list(self.box)}"
            )


@dataclass(frozen=True)
class CaptionedImage:
    """The name of an image and its captions.

    Attributes:
        name: file name of the image.
        image_id: id of the image, as in COCO's result files.
        split: "train", "val" or "test".
        captions: the captions as text.
        regions: boxes in the image (default: none).

    Example:
        >>> from birnn_decode.captions import CaptionedImage
        >>> image = CaptionedImage("1.jpg", 1, "train", ("A cat sleeps.", "There is a cat."))
        >>> len(image.captions)
        2
    """

    name: str
    image_id: int | str
    split: str
    captions: tuple[str, ...]
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class CaptionFile:
    """The captioned images of one file, or of several merged files.

    Attributes:
        images: the images. Each has at least one caption, and no two have the same name.
        left_out: what was left out, in words, and how many times.

    Example:
        >>> from birnn_decode.captions import CaptionedImage, CaptionFile
        >>> file = CaptionFile((CaptionedImage("1.jpg", 1, "val", ("A cat.",)),), {"empty captions": 1})
        >>> [image.name for image in file.of("val")]
        ['1.jpg']
    """

    images: tuple[CaptionedImage, ...]
    left_out: Mapping[str, int]

    def of(self, split: str) -> list[CaptionedImage]:
        """Return the images of one split.

        Args:
            split: "train", "val" or "test".

        Returns:
            The images, in the order of the file.

        Raises:
            ValueError: the split has no images. The message lists the splits that have some.
        """
        images = [image for image in self.images if image.split == split]
        if not images:
            counts = Counter(image.split for image in self.images)
            there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
            raise ValueError(f"no image is in the split {split!r}; splits with images: {there or 'none'}")
        return images


def read_captions(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    lists: Mapping[str, str | os.PathLike[str]] | None = None,
) -> CaptionFile:
    """Read the captioned images of a file.

    Three layouts are read; the content of the file decides which one it is. Karpathy's split file (JSON) names the
    split of each image; its "restval" counts as "train". COCO's captions (JSON) and Flickr's token file do not name
    splits, so ``split`` or ``lists`` must be given. In Karpathy's split file an image may have a list "regions" of
    {"box": [left, top, right, bottom], "label"}, see `Region`. Empty captions, and images that have no other captions,
    are left out and counted.

    Args:
        path: the file, in UTF-8.
        split: for a COCO or Flickr file: the split of all its images, "train", "val" or "test" (default: None).
        lists: for a Flickr file, in place of ``split``: for each split a text file with one image name per line.
            Images that are in no list, and names in a list that have no captions, are left out and counted
            (default: None).

    Returns:
        The images and what was left out.

    Raises:
        OSError: a file cannot be read.
        ValueError: the file has another layout or is damaged; two images have the same name; an image is in two lists;
            no image has a caption; or ``split`` or ``lists`` does not fit the layout.

    Example:
        >>> import json, pathlib, tempfile
        >>> from birnn_decode.captions import read_captions
        >>> sentences = [{"raw": "A cat sleeps."}, {"raw": "There is a cat."}]
        >>> images = [{"filename": "1.jpg", "split": "train", "sentences": sentences}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "captions.json"
        ...     with path.open("w") as file:
        ...         json.dump({"images": images}, file)
        ...     read_captions(path).of("train")[0].captions
        ('A cat sleeps.', 'There is a cat.')
    """
    path = os.fspath(path)
    if split is not None and lists is not None:
        raise ValueError("give either split= for all images or lists= with the images of each split, not both")
    for name in (split,) if split is not None else lists or ():
        if name not in SPLITS:
            raise ValueError(f"{name!r} is not a split; use train, val or test")
    text = _read_text(path)
    left_out: Counter[str] = Counter()
    if text.lstrip().startswith(("{", "[")):
        if lists is not None:
            raise ValueError(f"{path} is JSON; lists= and --list are for Flickr's token files")
        images = _json_images(path, text, split)
    else:
        images = _flickr(path, text, split, lists or {}, left_out)
    found: dict[str, CaptionedImage] = {}
    for image in images:
        if image.name in found:
            raise ValueError(f"{path} has two images named {image.name!r}")
        captions = tuple(caption for caption in image.captions if caption.strip())
        left_out["empty captions"] += len(image.captions) - len(captions)
        left_out["images without captions"] += not captions
        found[image.name] = replace(image, captions=captions)
    captioned = tuple(image for image in found.values() if image.captions)
    if not captioned:
        raise ValueError(f"{path} has no image with a caption")
    return CaptionFile(captioned, dict(+left_out))


def merge(files: Iterable[CaptionFile]) -> CaptionFile:
    """Merge several files into one.

    Args:
        files: the files; no two may have an image of the same name.

    Returns:
        All images, and the sums of what was left out.

    Raises:
        ValueError: two files have an image of the same name.

    Example:
        >>> from birnn_decode.captions import CaptionedImage, CaptionFile, merge
        >>> first = CaptionFile((CaptionedImage("1.jpg", 1, "train", ("A cat.",)),), {"empty captions": 1})
        >>> second = CaptionFile((CaptionedImage("2.jpg", 2, "val", ("A dog.",)),), {"empty captions": 2})
        >>> both = merge([first, second])
        >>> len(both.images), both.left_out
        (2, {'empty captions': 3})
    """
    files = list(files)
    images = tuple(image for file in files for image in file.images)
    for name, times in Counter(image.name for image in images).items():
        if times > 1:
            raise ValueError(f"two of the files have an image named {name!r}; names must differ")
    return CaptionFile(images, dict(sum((Counter(file.left_out) for file in files), Counter())))


def encode_captions(
    images: Sequence[CaptionedImage], vocabulary: WordVocabulary, max_words: int
) -> tuple[list[list[list[int]]], Mapping[str, int]]:
    """Turn captions into word ids.

    Words that are not in the vocabulary become UNK. Captions without a word, or with more than ``max_words`` words, are
    left out.

    Args:
        images: the images with their captions.
        vocabulary: gives the ids.
        max_words: largest number of words of a caption.

    Returns:
        For each image its captions as lists of ids, possibly none; and how many captions were left out, by reason.

    Raises:
        ValueError: ``max_words`` is less than 1.

    Example:
        >>> from birnn_decode.captions import CaptionedImage, WordVocabulary, encode_captions
        >>> images = [CaptionedImage("1.jpg", 1, "train", ("A cat.", "A cat sleeps on a mat."))]
        >>> encode_captions(images, WordVocabulary(["a", "cat"]), max_words=3)
        ([[[4, 5]]], {'captions of more than 3 words': 1})
    """
    check_count("max_words", max_words, least=1)
    left_out: Counter[str] = Counter()
    encoded = [[vocabulary.encode(caption, unknown=UNK) for caption in image.captions] for image in images]
    for ids in itertools.chain.from_iterable(encoded):
        left_out["captions without a word"] += not ids
        left_out[f"captions of more than {max_words} words"] += len(ids) > max_words
    return [[ids for ids in own if 1 <= len(ids) <= max_words] for own in encoded], dict(+left_out)


def _read_text(path: str) -> str:
    """Read a file of UTF-8 text that is not empty."""
    with reading(path), open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} is not text in UTF-8: byte 0x{data[error.start]:02x} in line {line}") from None
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text


def _json_images(path: str, text: str, split: str | None) -> Iterator[CaptionedImage]:
    """Yield the images of a JSON file in Karpathy's or in COCO's layout."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is JSON that is nested too deeply to be a file of captions") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged JSON, or cut short: {error}") from None
    images = data.get("images") if isinstance(data, dict) else None
    if isinstance(images, list):
        if isinstance(data.get("annotations"), list):
            return _coco(path, data, split)
        if all(isinstance(image, dict) and "sentences" in image for image in images[:1]):
            return _karpathy(path, images, split)
    raise ValueError(f"{path} is JSON, but has neither of the two layouts that are read: {KARPATHY} or {COCO}")


def _karpathy(path: str, images: list[Any], split: str | None) -> Iterator[CaptionedImage]:
    if split is not None:
        raise ValueError(f"{path} names the split of each image itself; split= and SPLIT=FILE are for other layouts")
    for number, image in enumerate(images, start=1):
        where = f"{path}: image {number}"
        name = _entry(image, "filename", where)
        where += f" ({name})"
        of = _entry(image, "split", where)
        of = "train" if of == "restval" else of
        if of not in SPLITS:
            raise ValueError(f"{where} is in the split {of!r}; use train, val, test or restval")
        sentences = _entry(image, "sentences", where, list, "a list")
        captions = tuple(_entry(one, "raw", f"{where}, sentence {at}") for at, one in enumerate(sentences, start=1))
        key = next((key for key in ("cocoid", "imgid") if key in image), None)
        regions = tuple(
            _region(one, f"{where}, region {at}")
            for at, one in enumerate(_entry({"regions": [], **image}, "regions", where, list, "a list"), start=1)
        )
        yield CaptionedImage(name, name if key is None else _id(image, key, where), of, captions, regions)


def _region(region: Any, where: str) -> Region:
    box = _entry(region, "box", where, list, "a list of four numbers")
    if len(box) != 4 or not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in box):
        raise ValueError(f"{where} needs a list of four numbers under 'box'")
    label = _entry({"label": "", **region}, "label", where)
    try:
        return Region((box[0], box[1], box[2], box[3]), label)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _coco(path: str, data: dict[str, Any], split: str | None) -> Iterator[CaptionedImage]:
    if split is None:
        raise ValueError(f"{path} has COCO's layout, which names no splits: give the split by split= or SPLIT=FILE")
    captions: dict[int | str, tuple[str, list[str]]] = {}  # by the id of the image: its name, and its captions
    for number, image in enumerate(data["images"], start=1):
        where = f"{path}: image {number}"
        image_id = _id(image, "id", where)
        if image_id in captions:
            raise ValueError(f"{path} has two images with the id {image_id!r}")
        captions[image_id] = (_entry(image, "file_name", where), [])
    for number, annotation in enumerate(data["annotations"], start=1):
        where = f"{path}: annotation {number}"
        image_id = _id(annotation, "image_id", where)
        if image_id not in captions:
            raise ValueError(f"{where} belongs to the image {image_id!r}, which is not in the list of images")
        captions[image_id][1].append(_entry(annotation, "caption", where))
    for image_id, (name, own) in captions.items():
        yield CaptionedImage(name, image_id, split, tuple(own))


def _flickr(
    path: str,
    text: str,
    split: str | None,
    lists: Mapping[str, str | os.PathLike[str]],
    left_out: Counter[str],
) -> Iterator[CaptionedImage]:
    captions: dict[str, dict[str, str]] = {}
    for number, line in _lines(text):
        key, tab, caption = line.partition("\t")
        name, _, which = key.rpartition("#")
        if not tab or not name or not which.isdecimal():
            other = f"; a file of captions has such lines, or {KARPATHY} or {COCO}" if number == 1 else ""
            raise ValueError(f"{path}, line {number}: {line[:40]!r} is not NAME#N<TAB>caption{other}")
        if which in captions.setdefault(name, {}):
            raise ValueError(f"{path}, line {number}: a second caption {key}")
        captions[name][which] = caption
    if split is None and not lists:
        raise ValueError(
            f"{path} has Flickr's layout, which names no splits: give a text file of image names for each split, by "
            f"lists= or --list, or give one split for all images, by split= or SPLIT=FILE"
        )
    splits = dict.fromkeys(captions, split) if split is not None else _splits(path, captions, lists)
    left_out["images in a split list that have no captions"] += len(splits.keys() - captions.keys())
    left_out["images in no split list"] += len(captions.keys() - splits.keys())
    for name, written in captions.items():
        if name in splits:
            yield CaptionedImage(name, name, splits[name], tuple(written.values()))


def _splits(path: str, captions: Mapping[str, object], lists: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    """The split of each image name in the lists."""
    splits: dict[str, str] = {}
    for split, at in lists.items():
        names = {line.strip() for _, line in _lines(_read_text(os.fspath(at)))}
        if names.isdisjoint(captions):
            raise ValueError(f"{path} has none of the {len(names)} images of {os.fspath(at)}, such as {min(names)!r}")
        for name in sorted(names & splits.keys()):
            raise ValueError(f"{name!r} is in two lists, {splits[name]} and {split}; it may be in one")
        splits.update(dict.fromkeys(names, split))
    return splits


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    # str.splitlines would also end a line at characters that captions may contain.
    lines = text.replace("\r\n", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _entry(item: Any, key: str, where: str, kinds: Any = str, wanted: str = "text") -> Any:
    """The value of a key in an object of a JSON file, checked for its type."""
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{where} needs {wanted} under {key!r}")
    return value


def _id(item: Any, key: str, where: str) -> int | str:
    return _entry(item, key, where, (int, str), "a number or text")
