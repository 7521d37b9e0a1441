"""The questions of the benchmarks that compare methods: captions, molecules, and pictures of digits as text.

The pair that comes with the library and rendered scenes are always there. For the other data sets, set
``BIRNN_DECODE_DATA`` to the folder DATA of ``benchmarks/results.sh``, and ``BIRNN_DECODE_PAIRS`` to its folder OUT,
which has the trained pairs and the lines of the digits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from birnn_decode import Pair, Template
from birnn_decode.captions import CaptionedImage
from birnn_decode.captions.scenes import make_scenes
from birnn_decode.cli.common import Data
from birnn_decode.evaluation import Question, blank_questions
from birnn_decode.lines import read_lines
from birnn_decode.models import default_pair, load_pair

SCENES, UCM, FLICKR, MOLECULES, DIGITS = "scenes", "UCM", "Flickr8k text", "molecules", "digits"
PAIRS = {
    UCM: "ucm.safetensors",
    FLICKR: "flickr.safetensors",
    MOLECULES: "molecules.safetensors",
    DIGITS: "digits.safetensors",
}
MIN_WORDS = 6
SEEDS = {"val": 3, "test": 2}  # of the scenes
SIDE = 8  # pixels of a digit
HOLE = slice(2, 6)  # the rows and the columns of a digit that are missing
SHARE = (HOLE.stop - HOLE.start) ** 2 / SIDE**2

Loaded = tuple[Sequence[CaptionedImage], Mapping[str, Any]]


def there_is() -> list[str]:
    """The names of the data sets of captions that are there."""
    if not {"BIRNN_DECODE_DATA", "BIRNN_DECODE_PAIRS"} <= set(os.environ):
        return [SCENES]
    return [SCENES, *(name for name in (UCM, FLICKR) if pair_file(name).exists())]


def pair_file(name: str) -> Path:
    """The file of the pair of a data set that is not `SCENES`."""
    return _folders()[1] / PAIRS[name]


def questions(name: str, blank: float, limit: int, split: str = "test") -> tuple[Pair, list[Question]]:
    """The pair of a data set, and at most ``limit`` questions about a split of it, drawn at random.

    ``blank`` is the share of the words or characters that are missing. Of a digit, the square of 4 × 4 pixels in the
    middle is missing, which is a share of 0.25.
    """
    if name == DIGITS and blank != SHARE:
        raise ValueError(f"blank is {blank:g}: a quarter of the pixels of a digit is missing, so give {SHARE:g}")
    pair = default_pair() if name == SCENES else load_pair(pair_file(name))
    if name == SCENES:
        images, inputs = _scenes(pair, split)
    elif name in (UCM, FLICKR):
        images, inputs = _captions(name, split)
    else:
        images, inputs = _lines(name, split)
    vocabulary = pair.forward.vocabulary
    if name == DIGITS:
        asked = [_with_hole(image, vocabulary) for image in images]
    else:
        asked, _ = blank_questions(images, inputs, vocabulary, blank, min_words=MIN_WORDS)
    drawn = np.random.default_rng(0).permutation(len(asked))[:limit]
    return pair, [asked[number] for number in sorted(drawn.tolist())]


def _scenes(pair: Pair, split: str) -> Loaded:
    scenes = make_scenes(200, seed=SEEDS[split], captions=1)
    images = [CaptionedImage(str(number), number, split, scene.captions) for number, scene in enumerate(scenes)]
    with torch.no_grad():
        features = pair.forward.encode([scene.picture() for scene in scenes])
    return images, dict(zip((image.name for image in images), features, strict=True))


def _captions(name: str, split: str) -> Loaded:
    folder = _folders()[0] / ("ucm" if name == UCM else "flickr8k")
    if name == UCM:
        data = Data((str(folder / "dataset.json"),), (), folder / "features_effnetlite0.npz", None, False)
    else:
        names = folder / f"Flickr_8k.{'dev' if split == 'val' else split}Images.txt"
        data = Data((str(folder / "Flickr8k.token.txt"),), (f"{split}={names}",), None, None, True)
    file = data.read()
    images = [image for image in file.images if image.split == split]
    return images, data.inputs(file, images, None)[0]


def _lines(name: str, split: str) -> Loaded:
    """Lines as captions of no image."""
    data, pairs = _folders()
    path = data / "molecules" / f"{split}.smi" if name == MOLECULES else pairs / "digits" / f"{split}.txt"
    images = [CaptionedImage(str(line.number), line.number, split, (line.text,)) for line in read_lines(path).split()]
    return images, dict.fromkeys(image.name for image in images)


def _with_hole(image: CaptionedImage, vocabulary: Any) -> Question:
    """A digit without the square in its middle: a blank in each of the middle rows."""
    pixels = vocabulary.encode(image.captions[0])
    missing = np.zeros((SIDE, SIDE), dtype=bool)
    missing[HOLE, HOLE] = True
    parts = [Template.BLANK if gone else pixel for pixel, gone in zip(pixels, missing.flat, strict=True)]
    words = tuple(vocabulary.split(image.captions[0]))
    return Question(None, image, Template.from_tokens(parts), (tuple(pixels),), words, vocabulary)


def _folders() -> tuple[Path, Path]:
    return Path(os.environ["BIRNN_DECODE_DATA"]), Path(os.environ["BIRNN_DECODE_PAIRS"])
