"""The questions of the benchmarks that compare methods: rendered scenes, and real captions if they are there.

The pair that comes with the library and rendered scenes are always there. For UCM-Captions and the text of Flickr8k,
set ``BIRNN_DECODE_DATA`` to the folder DATA of ``benchmarks/results.sh``, and ``BIRNN_DECODE_PAIRS`` to its folder OUT,
which has the trained pairs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from birnn_decode import Pair
from birnn_decode.captions import CaptionedImage
from birnn_decode.captions.scenes import make_scenes
from birnn_decode.cli.common import Data
from birnn_decode.evaluation import Question, blank_questions
from birnn_decode.models import default_pair, load_pair

SCENES, UCM, FLICKR = "scenes", "UCM", "Flickr8k text"
MIN_WORDS = 6


def there_is() -> list[str]:
    """The names of the data sets that are there."""
    if not {"BIRNN_DECODE_DATA", "BIRNN_DECODE_PAIRS"} <= set(os.environ):
        return [SCENES]
    _, pairs = _folders()
    files = {UCM: "ucm.safetensors", FLICKR: "flickr.safetensors"}
    return [SCENES, *(name for name, file in files.items() if (pairs / file).exists())]


def questions(name: str, blank: float, limit: int) -> tuple[Pair, list[Question]]:
    """The pair of a data set, and at most ``limit`` questions about its test captions, drawn at random."""
    pair, images, inputs = {SCENES: _scenes, UCM: _ucm, FLICKR: _flickr}[name]()
    asked, _ = blank_questions(images, inputs, pair.forward.vocabulary, blank, min_words=MIN_WORDS)
    drawn = np.random.default_rng(0).permutation(len(asked))[:limit]
    return pair, [asked[number] for number in sorted(drawn.tolist())]


def _scenes() -> tuple[Pair, list[CaptionedImage], Mapping[str, Any]]:
    pair = default_pair()
    scenes = make_scenes(200, seed=2, captions=1)
    images = [CaptionedImage(str(number), number, "test", scene.captions) for number, scene in enumerate(scenes)]
    with torch.no_grad():
        features = pair.forward.encode([scene.picture() for scene in scenes])
    return pair, images, dict(zip((image.name for image in images), features, strict=True))


def _ucm() -> tuple[Pair, list[CaptionedImage], Mapping[str, Any]]:
    data, pairs = _folders()
    features = data / "ucm" / "features_effnetlite0.npz"
    return _test(pairs / "ucm.safetensors", Data((str(data / "ucm" / "dataset.json"),), (), features, None, False))


def _flickr() -> tuple[Pair, list[CaptionedImage], Mapping[str, Any]]:
    data, pairs = _folders()
    captions, names = (data / "flickr8k" / name for name in ("Flickr8k.token.txt", "Flickr_8k.testImages.txt"))
    return _test(pairs / "flickr.safetensors", Data((str(captions),), (f"test={names}",), None, None, True))


def _test(pair: Path, data: Data) -> tuple[Pair, list[CaptionedImage], Mapping[str, Any]]:
    file = data.read()
    images = [image for image in file.images if image.split == "test"]
    return load_pair(pair), images, data.inputs(file, images, None)[0]


def _folders() -> tuple[Path, Path]:
    return Path(os.environ["BIRNN_DECODE_DATA"]), Path(os.environ["BIRNN_DECODE_PAIRS"])
