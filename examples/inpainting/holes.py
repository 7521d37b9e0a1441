"""Holes of pictures: in the middle, random blocks and random regions, as in the paper on Context Encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

SHARE = 0.25  # of the picture that a hole takes
BLOCKS = 4  # random blocks may overlap
SMOOTH = 0.12  # of the picture's width: how large the bays of a random region are

Size = tuple[int, int]


def centre(size: Size, random: np.random.Generator | None = None, side: int | None = None) -> np.ndarray:
    """Cut a square out of the middle.

    Args:
        size: height and width of the picture.
        random: not used; the other kinds of holes need it.
        side: side of the square in pixels (default: half of the shorter side of the picture).

    Returns:
        The hole, bool [height, width].

    Raises:
        ValueError: the hole is larger than the picture.
    """
    side = min(size) // 2 if side is None else side
    return square(size, side, (size[0] - side) // 2, (size[1] - side) // 2)


def square(size: Size, side: int, top: int, left: int) -> np.ndarray:
    """Cut out a square; what lies outside of the picture is left away.

    Raises:
        ValueError: the hole is larger than the picture.
    """
    height, width = size
    if not 0 < side < min(size):
        raise ValueError(
            f"a hole of {side} × {side} pixels does not fit into a picture of {width} × {height}; "
            f"give a side from 1 to {min(size) - 1}"
        )
    hole = np.zeros(size, dtype=bool)
    hole[max(top, 0) : top + side, max(left, 0) : left + side] = True
    return hole


def blocks(size: Size, random: np.random.Generator) -> np.ndarray:
    """Cut out four small squares at random places, at most a quarter of the picture together."""
    side = max(1, int((SHARE * size[0] * size[1] / BLOCKS) ** 0.5))
    places = [random.integers(0, [size[0] - side + 1, size[1] - side + 1]) for _ in range(BLOCKS)]
    return np.any([square(size, side, *place) for place in places], axis=0)


def regions(size: Size, random: np.random.Generator) -> np.ndarray:
    """Cut out a region of any shape, a quarter of the picture: where smooth noise is largest."""
    noise = ndimage.gaussian_filter(random.normal(size=size), max(1.0, SMOOTH * min(size)))
    return noise > np.quantile(noise, 1 - SHARE)


KINDS: dict[str, Callable[[Size, np.random.Generator], np.ndarray]] = {
    "centre": centre,
    "blocks": blocks,
    "regions": regions,
}


def draw(kinds: Sequence[str], count: int, size: Size, random: np.random.Generator) -> np.ndarray:
    """Draw holes, each of one of the kinds, bool [count, height, width]."""
    return np.stack([KINDS[kinds[random.integers(len(kinds))]](size, random) for _ in range(count)])


def ring(holes: np.ndarray, width: int) -> np.ndarray:
    """Return the known pixels at most ``width`` pixels away from each hole, bool [count, height, width]."""
    around = ndimage.binary_dilation(holes, np.ones((1, 3, 3), dtype=bool), iterations=width)
    return around & ~holes
