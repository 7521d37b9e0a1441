"""Regions of the pictures that a command works on: from a file of feature vectors, or made of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birnn_decode.captions import CaptionedImage
from birnn_decode.cli.common import PICTURES_AT_A_TIME, Data, progress

if TYPE_CHECKING:
    import torch

    from birnn_decode.captions import CaptionFile

MADE = ("whole", "grid", "boxes")
GIVEN = "given"


def kind_of(regions: str | None) -> str:
    """Return the kind of regions that --regions asks for: one of ``MADE``, or ``GIVEN`` for a file.

    Raises:
        click.UsageError: the value is neither a kind nor a file.
    """
    if regions is None or regions in MADE:
        return regions or "whole"
    if not Path(regions).is_file():
        raise click.UsageError(f"--regions {regions}: give {', '.join(MADE)}, or a file of features of regions")
    return GIVEN


def region_inputs(
    data: Data,
    file: CaptionFile,
    images: Sequence[CaptionedImage],
    kind: str,
    regions: str | None,
    encoder: Any,
) -> dict[str, torch.Tensor]:
    """Return the feature vectors of the regions of images, [regions, feature_size], by name.

    Images without features or without a picture are left out. All have the same number of regions.

    Args:
        data: where the images are.
        file: the file of the captions.
        images: the images that are wanted.
        kind: ``GIVEN`` or one of ``MADE``.
        regions: the value of --regions; for ``GIVEN`` the path of the file.
        encoder: the image encoder; None if there is none.

    Raises:
        click.UsageError: the options do not say where the regions come from.
        OSError: a file cannot be read.
        ValueError: no image has features, or boxes are asked for and no image has one.
    """
    import torch

    if kind == GIVEN:
        if regions is None or regions in MADE:
            raise click.UsageError("the model was trained on regions of a file: give --regions FILE")
        from birnn_decode.captions import read_regions

        features = read_regions(regions)
        vectors = torch.from_numpy(features.vectors)
        rows = dict(zip((image.name for image in file.images), features.rows(file.images), strict=True))
        found = {image.name: vectors[row] for image in images if (row := rows[image.name]) is not None}
        if not found:
            raise ValueError(f"{regions} has no regions for any of the images, for example {images[0].name}")
        return found
    if kind == "whole":
        if data.no_image:
            raise click.UsageError("--no-image: pictures are ranked here; give --features or --images")
        inputs, _ = data.inputs(file, images, encoder)
        return {name: vector[None] for name, vector in inputs.items() if vector is not None}
    if data.images is None:
        raise click.UsageError(f"regions of the kind {kind} are made of pictures: give --images FOLDER")
    if encoder is None:
        raise click.UsageError("--images needs an image encoder: see `birnn-decode train --encoder`")
    return _made(data.images, images, kind, encoder)


def _made(folder: Path, images: Sequence[CaptionedImage], kind: str, encoder: Any) -> dict[str, torch.Tensor]:
    """Make the regions of the pictures in a folder. Missing pictures are left out."""
    import torch

    from birnn_decode.models import region_features

    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    there = [image for image in images if (folder / image.name).is_file()]
    if not there:
        raise FileNotFoundError(f"{folder} has none of the pictures, for example {images[0].name}")
    if kind == "boxes" and not any(image.regions for image in there):
        raise ValueError('no image of the captions\' file has "regions" with boxes: use whole or grid')
    vectors: dict[str, torch.Tensor] = {}
    with progress() as bar:
        task = bar.add_task("encoding regions", total=len(there))
        for begin in range(0, len(there), PICTURES_AT_A_TIME):
            some = there[begin : begin + PICTURES_AT_A_TIME]
            boxes = [[region.box for region in image.regions] for image in some]
            found = region_features(encoder, [folder / image.name for image in some], kind, boxes).cpu()
            vectors.update(zip((image.name for image in some), found, strict=True))
            bar.advance(task, len(some))
    most = max(map(len, vectors.values()))
    return {name: torch.cat([own, own[:1].expand(most - len(own), -1)]) for name, own in vectors.items()}
