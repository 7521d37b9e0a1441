"""Captioned images of files: Karpathy's split files, COCO's captions and Flickr's token files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from birnn_decode.captions.vocabulary import UNK, WordVocabulary

SPLITS = ("train", "val", "test")
KARPATHY = """Karpathy's {"images": [{"filename", "split", "sentences": [{"raw"}]}]}"""
COCO = """COCO's {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}"""
FLICKR = "Flickr's lines NAME#N<TAB>caption"


@dataclass(frozen=True)
class CaptionedImage:
    """An image's name and what people wrote about it.

    Attributes:
        name: file name of the image.
        image_id: what COCO's files of results call it.
        split: "train", "val" or "test".
        captions: as they are written.
    """

    name: str
    image_id: int | str
    split: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionFile:
    """The images of one file or several.

    Attributes:
        images: each with at least one caption; no two have the same name.
        left_out: what the files hold besides, in words, and how much of it.
    """

    images: tuple[CaptionedImage, ...]
    left_out: Mapping[str, int]

    def of(self, split: str) -> list[CaptionedImage]:
        """The images of a split.

        Raises:
            ValueError: there are none; the message names the splits that there are.
        """
        images = [image for image in self.images if image.split == split]
        if not images:
            counts = Counter(image.split for image in self.images)
            there = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts))
            raise ValueError(f"no image is of the split {split!r}; there are images of {there or 'no split at all'}")
        return images


def read_captions(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    lists: Mapping[str, str | os.PathLike[str]] | None = None,
) -> CaptionFile:
    """The captioned images of a file in one of three layouts, told by what is in it.

    Karpathy's split file (JSON) says of each image which split it is of; "restval" counts as "train". COCO's captions
    (JSON) and Flickr's token file do not say. Blank captions, and images that have no other, are left out and counted.

    Args:
        path: of the file, in UTF-8.
        split: what all images of a COCO or Flickr file are for: "train", "val" or "test".
        lists: for a Flickr file instead, each split's text file with one image name per line. Images in no list are
            left out and counted; so are names that the captions lack.

    Raises:
        OSError: a file cannot be read.
        ValueError: it is of another layout or damaged, two images have the same name, an image is in two lists, no
            image has a caption, or ``split`` or ``lists`` do not go with the layout.
    """
    path = os.fspath(path)
    if split is not None and lists is not None:
        raise ValueError("give split= for all images, or lists= for those of each split, not both")
    for name in (split,) if split is not None else lists or ():
        if name not in SPLITS:
            raise ValueError(f"{name!r} is no split: the splits are train, val and test")
    text = _read_text(path)
    left_out: Counter[str] = Counter()
    if not text.lstrip().startswith(("{", "[")):
        return _gather(path, _flickr(path, text, split, lists, left_out), left_out)
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is JSON nested too deeply to be captions") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged JSON, or cut short: {error}") from None
    if lists is not None:
        raise ValueError(f"{path} is JSON; lists= and --list are for Flickr's token files")
    if isinstance(data, dict) and isinstance(data.get("images"), list):
        if isinstance(data.get("annotations"), list):
            return _gather(path, _coco(path, data, split), left_out)
        if all(isinstance(image, dict) and "sentences" in image for image in data["images"][:1]):
            return _gather(path, _karpathy(path, data, split), left_out)
    raise ValueError(f"{path} is JSON, but of neither layout that is read: {KARPATHY} or {COCO}")


def merge(files: Iterable[CaptionFile]) -> CaptionFile:
    """The images of several files as those of one; what was left out adds up.

    Raises:
        ValueError: two files have an image of the same name.
    """
    images: dict[str, CaptionedImage] = {}
    left_out: Counter[str] = Counter()
    for file in files:
        for image in file.images:
            if image.name in images:
                raise ValueError(f"two of the files have an image named {image.name!r}")
            images[image.name] = image
        left_out.update(file.left_out)
    return CaptionFile(tuple(images.values()), dict(left_out))


def encode_captions(
    images: Sequence[CaptionedImage], vocabulary: WordVocabulary, max_words: int
) -> tuple[list[list[list[int]]], Mapping[str, int]]:
    """The captions of images as ids of words, UNK for the words that the vocabulary lacks.

    Returns:
        For each image the captions that are of 1 to ``max_words`` words, perhaps none; and how many were left out,
        counted by the reason.

    Raises:
        ValueError: ``max_words`` is below 1.
    """
    if max_words < 1:
        raise ValueError(f"max_words={max_words!r}: a caption has at least one word")
    left_out: Counter[str] = Counter()
    encoded: list[list[list[int]]] = []
    for image in images:
        encoded.append([])
        for caption in image.captions:
            ids = vocabulary.encode(caption, unknown=UNK)
            if not ids:
                left_out["captions without a word"] += 1
            elif len(ids) > max_words:
                left_out[f"captions of more than {max_words} words"] += 1
            else:
                encoded[-1].append(ids)
    return encoded, dict(left_out)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Say in one line that names the file why it cannot be read.

    Raises:
        OSError: of the kind that was raised inside.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder, not a file") from None
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror or error}") from None


def _read_text(path: str) -> str:
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


def _gather(path: str, images: Iterable[CaptionedImage], left_out: Counter[str]) -> CaptionFile:
    kept = []
    names = set()
    for image in images:
        if image.name in names:
            raise ValueError(f"{path} has two images named {image.name!r}")
        names.add(image.name)
        captions = tuple(caption for caption in image.captions if caption.strip())
        left_out["empty captions"] += len(image.captions) - len(captions)
        if captions:
            kept.append(replace(image, captions=captions))
        else:
            left_out["images without captions"] += 1
    if not kept:
        raise ValueError(f"{path} has no image with a caption")
    return CaptionFile(tuple(kept), dict(+left_out))


def _karpathy(path: str, data: dict[str, Any], split: str | None) -> Iterator[CaptionedImage]:
    if split is not None:
        raise ValueError(f"{path} says itself which split each image is of; split= and SPLIT=FILE are for others")
    for number, image in enumerate(data["images"], start=1):
        where = f"{path}: image {number}"
        name = _text(image, "filename", where)
        where += f" ({name})"
        of = _text(image, "split", where)
        of = "train" if of == "restval" else of
        if of not in SPLITS:
            raise ValueError(f"{where} is of the split {of!r}; the splits are train, val, test and restval")
        sentences = image.get("sentences")
        if not isinstance(sentences, list):
            raise ValueError(f"{where} has no list 'sentences'")
        captions = tuple(_text(sentence, "raw", f"{where}, sentence {at}") for at, sentence in enumerate(sentences, 1))
        key = next((key for key in ("cocoid", "imgid") if key in image), None)
        yield CaptionedImage(name, name if key is None else _id(image, key, where), of, captions)


def _coco(path: str, data: dict[str, Any], split: str | None) -> Iterator[CaptionedImage]:
    if split is None:
        raise ValueError(
            f"{path} has COCO's layout, which knows no splits: say which one its images are of, by split= or SPLIT=FILE"
        )
    names: dict[int | str, str] = {}
    for number, image in enumerate(data["images"], start=1):
        where = f"{path}: image {number}"
        image_id = _id(image, "id", where)
        if image_id in names:
            raise ValueError(f"{path} has two images of the id {image_id!r}")
        names[image_id] = _text(image, "file_name", where)
    captions: dict[int | str, list[str]] = {image_id: [] for image_id in names}
    for number, annotation in enumerate(data["annotations"], start=1):
        where = f"{path}: annotation {number}"
        image_id = _id(annotation, "image_id", where)
        if image_id not in captions:
            raise ValueError(f"{where} is of the image {image_id!r}, which is not among the file's images")
        captions[image_id].append(_text(annotation, "caption", where))
    for image_id, name in names.items():
        yield CaptionedImage(name, image_id, split, tuple(captions[image_id]))


def _flickr(
    path: str,
    text: str,
    split: str | None,
    lists: Mapping[str, str | os.PathLike[str]] | None,
    left_out: Counter[str],
) -> Iterator[CaptionedImage]:
    captions: dict[str, dict[str, str]] = {}
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, _, which = key.rpartition("#")
        if not tab or not name or not which.isdecimal():
            other = f"; a file of captions is this, {KARPATHY} or {COCO}" if number == 1 else ""
            raise ValueError(f"{path}, line {number}: {line[:40]!r} is not NAME#N<TAB>caption{other}")
        if which in captions.setdefault(name, {}):
            raise ValueError(f"{path}, line {number}: a second caption {key}")
        captions[name][which] = caption
    if split is None and not lists:
        raise ValueError(
            f"{path} has Flickr's layout, which knows no splits: give a text file of image names for each, by lists= "
            f"or --list, or say which one all its images are of, by split= or SPLIT=FILE"
        )
    splits = dict.fromkeys(captions, split) if split is not None else _splits(path, captions, lists or {}, left_out)
    for name, written in captions.items():
        of = splits.get(name)
        if of is None:
            left_out["images in no split list"] += 1
        else:
            yield CaptionedImage(name, name, of, tuple(written.values()))


def _splits(
    path: str, captions: Mapping[str, object], lists: Mapping[str, str | os.PathLike[str]], left_out: Counter[str]
) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split, at in lists.items():
        names = {line.strip() for line in _lines(_read_text(os.fspath(at))) if line.strip()}
        if names.isdisjoint(captions):
            raise ValueError(f"{path} has none of the {len(names)} images of {os.fspath(at)}, such as {min(names)!r}")
        for name in sorted(names & splits.keys()):
            raise ValueError(f"{name!r} is in two lists, those of {splits[name]} and {split}")
        splits.update(dict.fromkeys(names, split))
    left_out["images in a split list that have no captions"] += len(splits.keys() - captions.keys())
    return splits


def _lines(text: str) -> list[str]:
    # Not str.splitlines, for which a line also ends at characters that captions may contain.
    return text.replace("\r\n", "\n").split("\n")


def _text(item: Any, key: str, where: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"{where} has no text {key!r}")
    return value


def _id(item: Any, key: str, where: str) -> int | str:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, (int, str)) or isinstance(value, bool):
        raise ValueError(f"{where} has no {key!r} that is a number or text")
    return value
