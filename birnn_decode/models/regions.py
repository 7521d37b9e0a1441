"""Regions of pictures: the whole picture, the cells of a grid, or given boxes, and a feature vector for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from birnn_decode.captions.datasets import Box
from birnn_decode.checks import check_choice
from birnn_decode.models.encoder import ImageEncoder, open_picture

CELLS = 4  # of a grid, in each direction
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
KINDS = ("whole", "grid", "boxes")


def region_boxes(kind: str, boxes: Sequence[Box] = (), seen: Box = WHOLE) -> list[Box]:
    """Return the places of the regions of a picture.

    Args:
        kind: ``"whole"``: the whole picture alone. ``"grid"``: the whole picture and 4 × 4 cells, row by row.
            ``"boxes"``: the whole picture and ``boxes``.
        boxes: boxes in the picture, each (left, top, right, bottom) as fractions of its width and height (default:
            none).
        seen: the part of the picture that the encoder sees, and that a grid divides (default: the whole picture).

    Returns:
        The boxes of all regions, the whole picture first.

    Raises:
        ValueError: ``kind`` is none of the three.

    Example:
        >>> from birnn_decode.models import region_boxes
        >>> region_boxes("grid")[:2]
        [(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.25, 0.25)]
    """
    check_choice("kind", kind, KINDS)
    if kind == "boxes":
        return [WHOLE, *boxes]
    places = range(CELLS) if kind == "grid" else ()
    left, top, right, bottom = seen
    width, height = (right - left) / CELLS, (bottom - top) / CELLS
    return [
        WHOLE,
        *(
            (left + x * width, top + y * height, left + (x + 1) * width, top + (y + 1) * height)
            for y in places
            for x in places
        ),
    ]


def known_places(kind: str, regions: int, boxes: Sequence[Box] = (), seen: Box = WHOLE) -> list[Box | None]:
    """Return the places of the regions of an alignment model, as far as they are known.

    Args:
        kind: as for `AlignmentModel`. Given regions are taken for the cells of a grid if their number is that of a
            grid.
        regions: the number of regions of the picture.
        boxes: as for `region_boxes` (default: none).
        seen: as for `region_boxes` (default: the whole picture).

    Returns:
        For each region its box; None for the whole picture, which says nothing about a word, for a region that stands
        for a missing one, and if the place is not known.
    """
    if kind == "given":
        kind = "grid" if regions == 1 + CELLS**2 else "whole"
    _, *places = region_boxes(kind, boxes, seen)
    return [None, *places, *[None] * (regions - 1 - len(places))]


@torch.no_grad()
def region_features(encoder: ImageEncoder, pictures: Sequence[Any], kind: str, boxes: Any = None) -> torch.Tensor:
    """Compute a feature vector for each region of some pictures.

    The whole picture has the feature vector of the encoder. A cell of a grid has that of the part of the encoder's last
    feature map. A box has that of the picture in which everything outside of the box is hidden by the median colour of
    the picture, so that size and place of what is in the box stay the same.

    Args:
        encoder: the image encoder. For ``"grid"`` it must have a method ``cells``, as `SmallCNN` and
            `EfficientNetLite0` have.
        pictures: pictures that `open_picture` takes.
        kind: the kind of regions, see `region_boxes`.
        boxes: for ``"boxes"``: the boxes of each picture, see `region_boxes` (default: None).

    Returns:
        The feature vectors [pictures, regions, feature_size]. If a picture has fewer boxes than another, its first
        region is repeated.

    Raises:
        ValueError: ``kind`` is none of the three, the encoder has no cells, or ``boxes`` has not a list for each
            picture.

    Example:
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import SmallCNN, region_features
        >>> encoder = SmallCNN(pixels=16, channels=(4, 8)).eval()
        >>> scene = make_scene(seed=0, number=0)
        >>> boxes = [shape.box for shape in scene.shapes]
        >>> region_features(encoder, [scene.picture(16)], "boxes", [boxes]).shape
        torch.Size([1, 4, 24])
    """
    check_choice("kind", kind, KINDS)
    device = next((one.device for one in getattr(encoder, "parameters", tuple)()), None)
    opened = [open_picture(picture) for picture in pictures]
    prepared = torch.stack([encoder.prepare(picture) for picture in opened]).to(device)
    whole = encoder(prepared)[:, None]
    if kind == "whole":
        return whole
    if kind == "grid":
        if not hasattr(encoder, "cells"):
            raise ValueError(f"{type(encoder).__name__} has no cells of a feature map: use whole pictures or boxes")
        return torch.cat([whole, encoder.cells(prepared, CELLS)], dim=1)
    if boxes is None or len(boxes) != len(opened):
        raise ValueError(f"give a list of boxes for each of the {len(opened)} pictures")
    shown = [_alone(picture, box) for picture, own in zip(opened, boxes, strict=True) for box in own]
    found = encoder(torch.stack([encoder.prepare(one) for one in shown]).to(device)) if shown else whole[:0, 0]
    parts = torch.split_with_sizes(found, [len(own) for own in boxes])
    return stacked([torch.cat([own, part]) for own, part in zip(whole, parts, strict=True)])


def stacked(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the feature vectors of the regions of pictures; if a picture has fewer, repeat its first region.

    Args:
        vectors: the feature vectors of each picture, [regions, feature_size].

    Returns:
        The feature vectors, [pictures, regions, feature_size].
    """
    most = max(map(len, vectors))
    return torch.stack([torch.cat([own, own[:1].expand(most - len(own), -1)]) for own in vectors])


def _alone(picture: Image.Image, box: Box) -> Image.Image:
    """The picture with everything outside of the box hidden."""
    pixels = np.asarray(picture)
    hidden = Image.new("RGB", picture.size, tuple(np.median(pixels, axis=(0, 1)).astype(np.uint8).tolist()))
    left, top, right, bottom = (round(part * side) for part, side in zip(box, picture.size * 2, strict=True))
    corners = left, top, max(right, left + 1), max(bottom, top + 1)
    hidden.paste(picture.crop(corners), corners)
    return hidden
