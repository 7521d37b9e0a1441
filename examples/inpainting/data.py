"""Small pictures of few colours: scikit-learn's digits, drawn scenes, and the pictures of a folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from birnn_decode.captions import make_scenes
from birnn_decode.captions.scenes import BACKGROUNDS, COLOURS, Scene

GREYS = 4  # levels of a digit's pixel
SCENE_SIZE = 32  # pixels
DIGITS_TEST, DIGITS_VAL = 360, 160
SCENES_TRAIN, SCENES_VAL, SCENES_TEST = 1500, 60, 60
MOST_COLOURS = 64


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size whose pixels are numbers of a palette.

    Attributes:
        name: what the pictures are called in files and tables.
        palette: the colours, float64 [colours, channels] from 0 to 1. One channel: grey.
        train: pictures to learn from, int64 [N, height, width].
        val: pictures that decide when the training stops.
        test: pictures that no model has seen.
        train_labels: for digits the digit, for scenes the shapes of each picture; empty if nothing is known.
        test_labels: the same for ``test``.
        colours: for scenes the number of each named colour; otherwise empty.
    """

    name: str
    palette: np.ndarray
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    train_labels: list
    test_labels: list
    colours: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.shape[1:]

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """Return pixels as colours: [N, height, width] numbers to float32 [N, channels, height, width]."""
        return np.moveaxis(self.palette[numbers], -1, 1).astype(np.float32)

    def first(self, train: int, test: int) -> Pictures:
        """Return the first pictures of each part, for a quick run."""
        return replace(
            self,
            train=self.train[:train],
            val=self.val[:test],
            test=self.test[:test],
            train_labels=self.train_labels[:train],
            test_labels=self.test_labels[:test],
        )


def nearest(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return the number of the nearest colour of a palette, [..., channels] to int64 [...]."""
    return ((colours[..., None, :] - palette) ** 2).sum(-1).argmin(-1)


def digits() -> Pictures:
    """Return scikit-learn's 1,797 handwritten digits, 8 × 8 pixels, with their 17 levels reduced to 4."""
    from sklearn.datasets import load_digits

    given = load_digits()
    order = np.random.default_rng(0).permutation(len(given.target))
    numbers = (given.images[order] * GREYS // 17).astype(np.int64)
    labels = given.target[order].tolist()
    palette = np.linspace(0, 1, GREYS)[:, None]
    train = len(order) - DIGITS_TEST
    parts = numbers[: train - DIGITS_VAL], numbers[train - DIGITS_VAL : train], numbers[train:]
    return Pictures("digits", palette, *parts, labels[: train - DIGITS_VAL], labels[train:])


def scenes(train: int = SCENES_TRAIN, val: int = SCENES_VAL, test: int = SCENES_TEST) -> Pictures:
    """Draw scenes of two or three shapes, 32 × 32 pixels of 7 colours."""
    palette = np.array([BACKGROUNDS[0], *COLOURS.values()]) / 255
    drawn = [make_scenes(count, seed, captions=0) for seed, count in enumerate((train, val, test))]
    parts = [np.stack([_pixels(scene, palette) for scene in part]) for part in drawn]
    labels = [[scene.shapes for scene in part] for part in (drawn[0], drawn[2])]
    colours = {name: number for number, name in enumerate(COLOURS, start=1)}
    return Pictures("scenes", palette, *parts, *labels, colours)


def _pixels(scene: Scene, palette: np.ndarray) -> np.ndarray:
    picture = replace(scene, background=BACKGROUNDS[0]).picture(SCENE_SIZE)
    return nearest(np.asarray(picture) / 255, palette)


def folder(path: Path, colours: int | None = None) -> Pictures:
    """Read the pictures of a folder. One in ten is for validation and one in ten for the test.

    Args:
        path: a folder of PNG, GIF, BMP or JPEG files of one size.
        colours: reduce all pictures together to so many colours; None: keep their colours.

    Raises:
        ValueError: there are too few pictures, they differ in size, a file is no picture, or there are too many
            colours.
    """
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}; give digits, scenes or a folder of pictures")
    kinds = {".png", ".gif", ".bmp", ".jpg", ".jpeg"}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in kinds)
    if len(files) < 20:
        raise ValueError(f"{path} has {len(files)} pictures; give at least 20 (PNG, GIF, BMP or JPEG)")
    read = []
    for file in files:
        try:
            with Image.open(file) as opened:
                read.append(np.asarray(opened.convert("RGB")))
        except (UnidentifiedImageError, OSError):
            raise ValueError(f"{file} is no picture that Pillow can read; remove it, or repair it") from None
        if read[-1].shape != read[0].shape:
            (height, width), (first_height, first_width) = read[-1].shape[:2], read[0].shape[:2]
            raise ValueError(
                f"{file} has {width} × {height} pixels and {files[0].name} has {first_width} × {first_height}; "
                "give pictures of one size"
            )
    pixels = np.stack(read)
    found = np.unique(pixels.reshape(-1, 3), axis=0)
    if colours is not None and len(found) > colours:
        as_one = Image.fromarray(pixels.reshape(-1, pixels.shape[2], 3)).quantize(colours)
        found = np.asarray(as_one.getpalette()[: 3 * colours]).reshape(-1, 3)
    if len(found) > MOST_COLOURS:
        raise ValueError(
            f"the pictures of {path} have {len(found):,} colours, and a palette has at most {MOST_COLOURS}; "
            f"reduce them with --colours 8"
        )
    numbers = nearest(pixels / 255, found / 255)
    turn = np.arange(len(numbers)) % 10
    parts = numbers[turn < 8], numbers[turn == 8], numbers[turn == 9]
    return Pictures(path.resolve().name, found / 255, *parts, [], [])
