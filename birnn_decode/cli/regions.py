"""Regions of the pictures that a command works on: from a file of feature vectors, or made of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birnn_decode.captions import CaptionedImage
from birnn_decode.cli.common import Data, encode_pictures

if TYPE_CHECKING:
    import torch

    from birnn_decode.captions import CaptionFile

GIVEN = "given"


def kind_of(regions: str | None) -> str:
    """Return the kind of regions that --regions asks for: ``GIVEN`` for a file.

    Raises:
        click.UsageError: the value is neither a kind nor a file.
    """
    from birnn_decode.models.regions import KINDS

    if regions is None or regions in KINDS:
        return regions or "whole"
    if not Path(regions).is_file():
        raise click.UsageError(f"--regions {regions}: give {', '.join(KINDS)}, or a file of features of regions")
    return GIVEN


def region_inputs(
    data: Data,
    file: CaptionFile,
    images: Sequence[CaptionedImage],
    kind: str,
    regions: Path | None,
    encoder: Any,
) -> dict[str, torch.Tensor]:
    """Return the feature vectors of the regions of images, [regions, feature_size], by name.

    Images without features or without a picture are left out. All have the same number of regions.

    Args:
        data: where the images are.
        file: the file of the captions.
        images: the images that are wanted.
        kind: ``GIVEN``, or what the regions are that are made of the pictures.
        regions: for ``GIVEN``: the file.
        encoder: the image encoder; None if there is none.

    Raises:
        click.UsageError: the options do not say where the regions come from.
        OSError: a file cannot be read.
        ValueError: no image has features, or boxes are asked for and no image has one.
    """
    if data.no_image:
        raise click.UsageError("--no-image: pictures are ranked here; give --features or --images")
    if kind == GIVEN:
        if regions is None:
            raise click.UsageError("the model was trained on regions of a file: give --regions FILE")
        import torch

        from birnn_decode.captions import read_regions

        vectors = read_regions(regions).of(file.images)
        found = {image.name: torch.from_numpy(vectors[image.name]) for image in images if image.name in vectors}
        if not found:
            raise ValueError(f"{regions} has no regions for any of the images, for example {images[0].name}")
        return found
    if kind == "whole":
        data.check_pictures()
        inputs, _ = data.inputs(file, images, encoder)
        return {name: vector[None] for name, vector in inputs.items() if vector is not None}
    if data.images is None:
        raise click.UsageError(f"regions of the kind {kind} are made of pictures: give --images FOLDER")
    if encoder is None:
        raise click.UsageError("--images needs an image encoder: see `birnn-decode train --encoder`")
    return encode_pictures(data.images, images, encoder, kind)
