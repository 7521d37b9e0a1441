"""Files of captions in the three layouts that are read, and what is wrong with those that are not."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birnn_decode.captions import (
    CaptionedImage,
    CaptionFile,
    Region,
    WordVocabulary,
    encode_captions,
    merge,
    read_captions,
)

DATA = os.environ.get("BIRNN_DECODE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="BIRNN_DECODE_DATA does not name the folder of real captions")


@pytest.fixture
def write(tmp_path):
    """Write text, bytes, or anything else as JSON to a file, and say where it is."""

    def written(content, name="captions"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            path.write_bytes(text.encode("utf-8"))
        return path

    return written


def fails(path, message, kind=ValueError, **options):
    """Reading a file ends in an error of one line that names the file, and is as a regular expression says."""
    with pytest.raises(kind, match=message) as caught:
        read_captions(path, **options)
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120 + 3 * len(str(path)) + 200


def image(name, split="train", *raw, **more):
    return {"filename": name, "split": split, "sentences": [{"raw": text, "tokens": ["x"]} for text in raw], **more}


def karpathy(*images):
    return {"images": list(images), "dataset": "some"}


def coco(images, annotations):
    return {
        "info": {},
        "images": [{"id": key, "file_name": name} for key, name in images],
        "annotations": [{"id": 7, "image_id": key, "caption": caption} for key, caption in annotations],
    }


FLICKR = "a.jpg#0\tA dog .\na.jpg#1\tOne dog .\nb.jpg#0\tA cat .\nc.jpg.1#0\tA #1\tcow .\n"


def test_karpathy(write):
    file = read_captions(
        write(
            karpathy(
                image("1.tif", "train", "A  field .", "Felder!", imgid=0, cocoid=391895),
                image("2.tif", "restval", "A house .", imgid=1),
                image("3.tif", "val", "A road ."),
                image("4.tif", "test", "A ship .", imgid="four"),
            )
        )
    )
    assert file == CaptionFile(
        (
            CaptionedImage("1.tif", 391895, "train", ("A  field .", "Felder!")),
            CaptionedImage("2.tif", 1, "train", ("A house .",)),
            CaptionedImage("3.tif", "3.tif", "val", ("A road .",)),
            CaptionedImage("4.tif", "four", "test", ("A ship .",)),
        ),
        {},
    )
    assert file.of("train") == list(file.images[:2])
    assert file.of("test") == [file.images[3]]


def test_regions_of_karpathys(write):
    boxes = [{"box": [0, 0.25, 0.5, 1], "label": "red ball"}, {"box": [0.1, 0.1, 0.2, 0.2]}]
    first, second = read_captions(write(karpathy(image("a", "val", "A", regions=boxes), image("b", "val", "B")))).images
    assert first.regions == (Region((0, 0.25, 0.5, 1), "red ball"), Region((0.1, 0.1, 0.2, 0.2), ""))
    assert second.regions == ()


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (5, r"image 1 \(a\) needs a list under 'regions'"),
        ([5], r"image 1 \(a\), region 1 needs a list of four numbers under 'box'"),
        ([{"label": "ball"}], "region 1 needs a list of four numbers under 'box'"),
        ([{"box": [0, 0, 1]}], "region 1 needs a list of four numbers under 'box'"),
        ([{"box": [0, 0, 1, "1"]}], "region 1 needs a list of four numbers under 'box'"),
        ([{"box": [0, 0, 1, True]}], "region 1 needs a list of four numbers under 'box'"),
        ([{"box": [0, 0, 64, 64]}], r"region 1: a box must be left, top, .* from 0 to 1, .* got \[0, 0, 64, 64\]"),
        ([{"box": [0, 0, 1, 1]}, {"box": [1, 0, 0, 1]}], "region 2: a box must be"),
        ([{"box": [0, 0, 1, 1], "label": 5}], "region 1 needs text under 'label'"),
    ],
)
def test_what_is_wrong_with_regions(write, regions, message):
    fails(write(karpathy(image("a", "val", "A", regions=regions))), message)


def test_coco(write):
    path = write(coco([(9, "x.jpg"), (4, "y.jpg")], [(4, "A dog\n"), (9, "A cat"), (4, "A hound")]))
    assert read_captions(path, split="val") == CaptionFile(
        (CaptionedImage("x.jpg", 9, "val", ("A cat",)), CaptionedImage("y.jpg", 4, "val", ("A dog\n", "A hound"))), {}
    )


def test_flickr_with_lists(write):
    train, test = write("c.jpg.1\r\n\nb.jpg \nz.jpg\ny.jpg\n", "train.txt"), write("z.png\na.jpg", "test.txt")
    lists = {"train": train, "test": str(test)}
    file = read_captions(write(FLICKR + "d.jpg#0\tA bird\ne.jpg#0\tA bee\n"), lists=lists)
    assert file.images == (
        CaptionedImage("a.jpg", "a.jpg", "test", ("A dog .", "One dog .")),
        CaptionedImage("b.jpg", "b.jpg", "train", ("A cat .",)),
        CaptionedImage("c.jpg.1", "c.jpg.1", "train", ("A #1\tcow .",)),
    )
    assert file.left_out == {"images in no split list": 2, "images in a split list that have no captions": 3}
    assert read_captions(write(FLICKR), lists=lists).left_out == {"images in a split list that have no captions": 3}


def test_flickr_with_one_split(write):
    file = read_captions(write(FLICKR), split="test")
    assert [(image.name, image.split) for image in file.images] == [
        ("a.jpg", "test"),
        ("b.jpg", "test"),
        ("c.jpg.1", "test"),
    ]
    assert file.left_out == {}


def test_a_flickr_file_of_windows_and_its_lines(write):
    file = read_captions(
        write("\ufeffa b#c.jpg#0\tA dog\u2028or\x0btwo\r\n\r\na b#c.jpg#1\tA cat".encode()), split="val"
    )
    assert file.images == (CaptionedImage("a b#c.jpg", "a b#c.jpg", "val", ("A dog\u2028or\x0btwo", "A cat")),)


def test_a_json_file_may_begin_with_a_byte_order_mark_and_lines(write):
    path = write(("\ufeff \n" + json.dumps(karpathy(image("ä.tif", "val", "ö")), ensure_ascii=False)).encode())
    assert read_captions(path).images == (CaptionedImage("ä.tif", "ä.tif", "val", ("ö",)),)


def test_blank_captions_are_counted(write):
    expected = {"empty captions": 3, "images without captions": 2}
    file = read_captions(
        write(karpathy(image("1", "train", "", "a", " \t"), image("2", "train"), image("3", "val", "\n")))
    )
    assert [(image.name, image.captions) for image in file.images] == [("1", ("a",))]
    assert file.left_out == expected
    file = read_captions(
        write(coco([(1, "1"), (2, "2"), (3, "3")], [(3, ""), (1, " "), (1, "a"), (1, " ")])), split="test"
    )
    assert [(image.name, image.captions) for image in file.images] == [("1", ("a",))]
    assert file.left_out == expected
    file = read_captions(write("1#0\t\n1#1\ta\n2#0\t \n2#1\t\n"), split="val")
    assert [(image.name, image.captions) for image in file.images] == [("1", ("a",))]
    assert file.left_out == {"empty captions": 3, "images without captions": 1}


def test_a_split_of_which_there_is_no_image(write):
    file = read_captions(write(karpathy(image("1", "train", "a"), image("2", "test", "a"), image("3", "test", "b"))))
    with pytest.raises(
        ValueError, match=r"no image is in the split 'val'; splits with images: test \(2\), train \(1\)"
    ):
        file.of("val")
    with pytest.raises(ValueError, match=r"splits with images: none$"):
        merge([]).of("val")


def test_files_that_cannot_be_read(write, tmp_path):
    fails(tmp_path / "none", "^there is no file ", FileNotFoundError)
    fails(tmp_path, "is a folder, not a file$", IsADirectoryError)
    fails("x" * 5000, "^cannot read the file x*: .*too long", OSError, split="val")
    fails(write(""), "is empty$")
    fails(write("\ufeff \n\n"), "is empty$")
    fails(write(b"\x89PNG\r\n"), "is not text in UTF-8: byte 0x89 in line 1$")
    fails(write("a.jpg#0\tA\nb.jpg#0\tä\n".encode("latin-1")), "is not text in UTF-8: byte 0xe4 in line 2$")


def test_json_that_is_damaged(write):
    whole = json.dumps(karpathy(image("1.tif", "train", "a"), image("2.tif", "val", "b")), indent=1)
    fails(write(whole[:-30]), r"is damaged JSON, or cut short: .* line \d+ column \d+ \(char \d+\)$")
    fails(write("[" * 100000), "is JSON that is nested too deeply")


@given(st.integers(1, 240))
def test_json_that_is_cut_short_is_never_taken_for_a_whole(tmp_path_factory, length):
    whole = json.dumps(karpathy(image("1.tif", "train", "a", "b"), image("2.tif", "val", "b")))
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_text(whole[: min(length, len(whole) - 1)], encoding="utf-8")
    fails(path, "is damaged JSON, or cut short: .* line 1 column")


@pytest.mark.parametrize(
    "other",
    [
        [],
        [{"image_id": 3, "caption": "A dog"}],
        {},
        {"images": {"1.tif": []}},
        {"images": ["1.tif"]},
        {"images": [{"id": 1, "file_name": "x.jpg"}]},
        {"annotations": []},
        {"images": "x", "annotations": []},
        {"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": {}},
    ],
)
def test_json_of_another_layout(write, other):
    message = r"is JSON, but has neither of the two layouts that are read: "
    fails(write(other), message + r"Karpathy's \{\"images\": .* or COCO's \{\"images\": ")


def test_what_is_wrong_with_karpathys(write):
    good = image("1.tif", "val", "a")
    fails(
        write(karpathy(good, image("2.tif", "dev", "a"))),
        r"image 2 \(2\.tif\) is in the split 'dev'; use train, val, test or",
    )
    fails(write(karpathy(good, {"split": "val", "sentences": []})), "image 2 needs text under 'filename'")
    fails(write(karpathy(good, "2.tif")), "image 2 needs text under 'filename'")
    fails(write(karpathy(good, {**good, "split": 1})), r"image 2 \(1\.tif\) needs text under 'split'")
    fails(write(karpathy(good, {**good, "sentences": {}})), r"image 2 \(1\.tif\) needs a list under 'sentences'")
    fails(write(karpathy(good, {"filename": "2", "split": "val"})), r"image 2 \(2\) needs a list under 'sentences'")
    for wrong in ({"tokens": ["a"]}, {"raw": None}, "a"):
        path = write(karpathy({**good, "sentences": [{"raw": "a"}, wrong]}))
        fails(path, r"image 1 \(1\.tif\), sentence 2 needs text under 'raw'")
    for wrong in (True, None, 1.5):
        fails(write(karpathy({**good, "imgid": wrong})), r"image 1 \(1\.tif\) needs a number or text under 'imgid'")
    fails(write(karpathy(good, good)), "has two images named '1.tif'")
    for none in (karpathy(), karpathy(image("1", "val", "")), coco([], [])):
        fails(write(none), "has no image with a caption$", split="val" if "annotations" in none else None)


def test_what_is_wrong_with_cocos(write):
    images, notes = [(1, "x.jpg")], [(1, "a")]
    fails(write(coco(images, notes)), "names no splits: give the split by split= or SPLIT=FILE$")
    fails(
        write(coco(images, [*notes, (72, "b")])), "annotation 2 belongs to the image 72, which is not in", split="val"
    )
    fails(write(coco(images, [("1", "b")])), "annotation 1 belongs to the image '1', which is not in", split="val")
    fails(write(coco([*images, (1, "y.jpg")], notes)), "two images with the id 1$", split="val")
    fails(write(coco([*images, (2, "x.jpg")], [*notes, (2, "b")])), "two images named 'x.jpg'$", split="val")
    fails(write(coco([*images, (True, "y.jpg")], notes)), "image 2 needs a number or text under 'id'", split="val")
    fails(write(coco([*images, (2, None)], notes)), "image 2 needs text under 'file_name'", split="val")
    fails(write(coco(images, [(1, None)])), "annotation 1 needs text under 'caption'", split="val")
    fails(write(coco(images, [(None, "a")])), "annotation 1 needs a number or text under 'image_id'", split="val")


def test_what_is_wrong_with_flickrs(write):
    for wrong in ("b.jpg\tA dog", "b.jpg#0 A dog", "b.jpg#x\tA dog", "b.jpg#\tA dog", "#0\tA dog", "A dog #1 runs"):
        fails(
            write(f"a.jpg#0\ta\n\n{wrong}\n"),
            rf", line 3: {re.escape(repr(wrong))} is not NAME#N<TAB>caption$",
            split="val",
        )
    fails(
        write("image,caption\n"),
        ", line 1: .* is not NAME#N<TAB>caption; a file of captions has such lines, or Karp.* COCO",
    )
    fails(write(f"{'long ' * 1000}\n"), ", line 1: '(long ){8}' is not")
    fails(write(FLICKR + "a.jpg#1\tAgain\n"), ", line 5: a second caption a.jpg#1$", split="val")
    fails(write(FLICKR), "names no splits: give a text file .* for each split, by lists= or --list, or give one split")
    fails(write(FLICKR), "names no splits", lists={})


def test_what_is_wrong_with_lists(write, tmp_path):
    path, train, val = write(FLICKR), write("a.jpg\nb.jpg\n", "train"), write("c.jpg.1\nb.jpg\n", "val")
    with pytest.raises(ValueError, match=r"^'b.jpg' is in two lists, train and val; it may be in one$"):
        read_captions(path, lists={"train": train, "val": val})
    other = write("a.png\nb.png\n", "other")
    fails(path, f"has none of the 2 images of {re.escape(str(other))}, such as 'a.png'$", lists={"val": other})
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere"):
        read_captions(path, lists={"val": tmp_path / "nowhere"})
    with pytest.raises(ValueError, match="empty is empty"):
        read_captions(path, lists={"val": write("", "empty")})


def test_options_that_make_no_sense(write):
    path, train = write(FLICKR), write("a.jpg\n", "train")
    with pytest.raises(ValueError, match=r"^'dev' is not a split; use train, val or test$"):
        read_captions(path, split="dev")
    with pytest.raises(ValueError, match="'restval' is not a split"):
        read_captions(path, lists={"train": train, "restval": train})
    with pytest.raises(ValueError, match=r"give either split= for all images or lists= .*, not both$"):
        read_captions(path, split="val", lists={"train": train})
    own = write(karpathy(image("1.tif", "val", "a")))
    fails(own, "names the split of each image itself; split= and SPLIT=FILE are for other", split="val")
    fails(own, "is JSON; lists= and --list are for Flickr's token files", lists={"train": train})
    fails(write(coco([(1, "x")], [(1, "a")])), "is JSON; lists= and --list are for", lists={"train": train})


def test_merging(write):
    one = read_captions(write(coco([(1, "x"), (2, "y")], [(1, "a"), (1, "")])), split="train")
    two = read_captions(write(coco([(1, "z"), (2, "u"), (3, "v")], [(1, "a")])), split="val")
    both = merge([one, two])
    assert both.images == one.images + two.images
    assert both.left_out == {"images without captions": 3, "empty captions": 1}
    with pytest.raises(ValueError, match="two of the files have an image named 'x'"):
        merge([one, two, one])


def test_words_that_a_vocabulary_lacks_become_another_id():
    words = WordVocabulary(["circle", "square", "red"])
    assert words.encode("A red sqare, red circle!", unknown=3) == [3, 6, 3, 6, 4]
    assert words.encode("sqare", unknown=0) == [0]
    assert words.encode("red square", unknown=3) == words.encode("red square")
    with pytest.raises(ValueError, match="the vocabulary lacks 'sqare'"):
        words.encode("red sqare", unknown=None)


def test_captions_become_ids():
    images = [
        CaptionedImage("1", 1, "train", ("A red dog!", "… .", "red", "red red red red")),
        CaptionedImage("2", 2, "train", ("dog dog dog dog dog", "—")),
        CaptionedImage("3", 3, "train", ("Red a red",)),
    ]
    encoded, left_out = encode_captions(images, WordVocabulary(["a", "red"]), 3)
    assert encoded == [[[4, 5, 3], [5]], [], [[5, 4, 5]]]
    assert left_out == {"captions without a word": 2, "captions of more than 3 words": 2}
    assert encode_captions(images[2:], WordVocabulary(["a"]), 3) == ([[[3, 4, 3]]], {})
    with pytest.raises(ValueError, match="max_words must be a positive integer, got 0"):
        encode_captions(images, WordVocabulary(["a"]), 0)


@given(
    st.lists(st.lists(st.lists(st.sampled_from(["a", "b", "…", "zebra"]), max_size=6).map(" ".join), max_size=4)),
    st.integers(1, 5),
)
def test_every_caption_is_kept_or_counted(captions, max_words):
    images = [CaptionedImage(str(at), at, "train", tuple(of)) for at, of in enumerate(captions)]
    encoded, left_out = encode_captions(images, WordVocabulary(["a", "b"]), max_words)
    assert len(encoded) == len(images)
    assert all(1 <= len(ids) <= max_words for of in encoded for ids in of)
    assert sum(map(len, encoded)) + sum(left_out.values()) == sum(map(len, captions))
    assert 0 not in left_out.values()


@needs_data
def test_flickr8k():
    folder = Path(DATA) / "flickr8k"
    lists = {"train": "train", "val": "dev", "test": "test"}
    file = read_captions(
        folder / "Flickr8k.token.txt",
        lists={split: folder / f"Flickr_8k.{name}Images.txt" for split, name in lists.items()},
    )
    assert {split: len(file.of(split)) for split in lists} == {"train": 6000, "val": 1000, "test": 1000}
    assert file.left_out == {"images in no split list": 92}
    captions = [caption for image in file.of("train") for caption in image.captions]
    assert len(captions) == 30_000
    assert len(WordVocabulary.from_captions(captions, min_count=5)) - 4 == 2537


@needs_data
def test_ucm_captions():
    file = read_captions(Path(DATA) / "ucm" / "dataset.json")
    assert {split: len(file.of(split)) for split in ("train", "val", "test")} == {
        "train": 1680,
        "val": 210,
        "test": 210,
    }
    assert file.left_out == {}
    assert {len(image.captions) for image in file.images} == {5}
    (ten,) = [image for image in file.images if image.name == "10.tif"]
    assert ten.image_id == 9
