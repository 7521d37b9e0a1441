"""What is asked where methods are compared: held-out scenes, or real captions where there are some.

With the folder of `benchmarks/results.sh` in ``BIRNN_DECODE_DATA``, and the pairs that it trains (``ucm.safetensors``,
``flickr.safetensors``) in the folder ``BIRNN_DECODE_PAIRS``, there are UCM-Captions and the text of Flickr8k; the pair
on board and rendered scenes are always there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from birnn_decode.captions import CaptionedImage
from birnn_decode.captions.scenes import make_scenes
from birnn_decode.cli.common import Data
from birnn_decode.evaluation import Question, blank_questions
from birnn_decode.models import default_pair, load_pair

SCENES, UCM, FLICKR = "scenes", "UCM", "Flickr8k text"
MIN_WORDS = 6


def there_is() -> list[str]:
    """The data sets that can be asked about here."""
    if not {"BIRNN_DECODE_DATA", "BIRNN_DECODE_PAIRS"} <= set(os.environ):
        return [SCENES]
    _, pairs = _folders()
    files = {UCM: "ucm.safetensors", FLICKR: "flickr.safetensors"}
    return [SCENES, *(name for name, file in files.items() if (pairs / file).exists())]


def questions(name: str, blank: float, limit: int) -> tuple[tuple[Any, Any], list[Question]]:
    """The pair of a data set, and questions about its test captions, drawn at random where there are more."""
    pair, images, inputs = {SCENES: _scenes, UCM: _ucm, FLICKR: _flickr}[name]()
    asked, _ = blank_questions(images, inputs, pair[0].vocabulary, blank, min_words=MIN_WORDS)
    drawn = np.random.default_rng(0).permutation(len(asked))[:limit]
    return pair, [asked[number] for number in sorted(drawn.tolist())]


def _scenes() -> tuple[tuple[Any, Any], list[CaptionedImage], Mapping[str, Any]]:
    pair = default_pair()
    scenes = make_scenes(200, seed=2, captions=1)
    images = [CaptionedImage(str(number), number, "test", scene.captions) for number, scene in enumerate(scenes)]
    with torch.no_grad():
        features = pair[0].encode([scene.picture() for scene in scenes])
    return pair, images, dict(zip((image.name for image in images), features, strict=True))


def _ucm() -> tuple[tuple[Any, Any], list[CaptionedImage], Mapping[str, Any]]:
    data, pairs = _folders()
    features = data / "ucm" / "features_effnetlite0.npz"
    return _test(pairs / "ucm.safetensors", Data((str(data / "ucm" / "dataset.json"),), (), features, None, False))


def _flickr() -> tuple[tuple[Any, Any], list[CaptionedImage], Mapping[str, Any]]:
    data, pairs = _folders()
    captions, names = (data / "flickr8k" / name for name in ("Flickr8k.token.txt", "Flickr_8k.testImages.txt"))
    return _test(pairs / "flickr.safetensors", Data((str(captions),), (f"test={names}",), None, None, True))


def _test(pair: Path, data: Data) -> tuple[tuple[Any, Any], list[CaptionedImage], Mapping[str, Any]]:
    file = data.read()
    images = [image for image in file.images if image.split == "test"]
    return load_pair(pair), images, data.inputs(file, images, None)[0]


def _folders() -> tuple[Path, Path]:
    return Path(os.environ["BIRNN_DECODE_DATA"]), Path(os.environ["BIRNN_DECODE_PAIRS"])
