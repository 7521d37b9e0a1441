"""From pictures to feature vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import nn


class ImageEncoder(Protocol):
    """What makes feature vectors of pictures. One that is a `torch.nn.Module` is trained and saved with its captioners.

    Attributes:
        config: what tells it from others, ready for JSON: its ``kind`` and settings.
        feature_size: of its vectors.
    """

    config: dict[str, Any]
    feature_size: int

    def prepare(self, picture: Any) -> torch.Tensor:
        """A picture (see `open_picture`) as the encoder takes it."""
        ...

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Feature vectors [N, feature_size] of prepared pictures [N, …]."""
        ...


def open_picture(picture: Any) -> Image.Image:
    """A picture as an RGB image, upright as its camera meant it; what is transparent becomes white.

    Args:
        picture: a PIL image, a path, or an array [height, width, 3] or [height, width] of uint8, or of floats from 0
            to 1.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError, ValueError: it is not a picture.
    """
    if isinstance(picture, (str, os.PathLike)):
        path = os.fspath(picture)
        try:
            with Image.open(path) as opened:
                opened.load()
                picture = opened
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no picture {path}") from None
        except (UnidentifiedImageError, SyntaxError):
            raise OSError(f"{path} is not a picture that can be read") from None
        except Image.DecompressionBombError:
            raise OSError(f"the picture {path} is larger than Pillow reads (PIL.Image.MAX_IMAGE_PIXELS)") from None
        except OSError as error:
            raise OSError(f"cannot read the picture {path}: {error.strerror or error}") from None
    elif isinstance(picture, (np.ndarray, torch.Tensor)):
        picture = _from_array(picture)
    if not isinstance(picture, Image.Image):
        raise TypeError(
            f"{picture!r} is not a picture: give a PIL image, a path, an array [height, width, 3], or a feature vector"
        )
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(f"a picture of mode {picture.mode} has no agreed white; give 8 or 16 bits per colour")
    if picture.has_transparency_data:
        canvas = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(canvas, picture.convert("RGBA"))
    rgb: Image.Image = picture.convert("RGB")
    return rgb


def _from_array(array: np.ndarray | torch.Tensor) -> Image.Image:
    values = np.asarray(array.detach().cpu() if isinstance(array, torch.Tensor) else array)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3) or not values.size:
        hint = "; permute(1, 2, 0) moves the colours last" if values.ndim == 3 and values.shape[0] == 3 else ""
        raise ValueError(
            f"an array of shape {values.shape} is not a picture: a picture is [height, width, 3] or [height, width], a "
            f"feature vector [features]{hint}"
        )
    if np.issubdtype(values.dtype, np.floating):
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("a picture of floats has values from 0 to 1; this one has others")
        values = (values * 255).round().astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(f"a picture is an array of uint8, or of floats from 0 to 1; this one is of {values.dtype}")
    return Image.fromarray(values)


SHARPNESS = 3.0  # of the softmax over a map; at 1 it starts out nearly even, and every place is the middle


class SmallCNN(nn.Module):
    """A small convolutional image encoder, to be trained with the captioners that use it.

    Each level is two layers, the second of which halves the picture. Of the last map's channels it is read how strongly
    each responds, and where: the mean place under a softmax over the map (the spatial softmax of Levine et al.,
    End-to-End Training of Deep Visuomotor Policies, JMLR 2016). Captions speak of where things are.

    Args:
        pixels: width and height that pictures are brought to; divisible by 2 to the number of levels.
        channels: of each level; the vectors have three numbers per channel of the last.
    """

    kind: ClassVar[str] = "small-cnn"

    def __init__(self, pixels: int = 64, channels: Sequence[int] = (16, 32, 64)):
        super().__init__()
        self.config = {"kind": self.kind, "pixels": pixels, "channels": list(channels)}
        self.pixels = pixels
        self.feature_size = 3 * channels[-1]
        layers: list[nn.Module] = []
        before = 3
        for after in channels:
            for inputs, stride in ((before, 1), (after, 2)):
                layers += [nn.Conv2d(inputs, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        self.layers = nn.Sequential(
            *layers, nn.Conv2d(before, before, 3, padding=1, bias=False), nn.BatchNorm2d(before)
        )

    def prepare(self, picture: Any) -> torch.Tensor:
        """A picture (see `open_picture`) as `forward` takes it: uint8 [3, pixels, pixels]."""
        resized = open_picture(picture).resize((self.pixels, self.pixels), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """From uint8 [N, 3, pixels, pixels] to feature vectors [N, feature_size]."""
        weight = cast(torch.Tensor, self.layers[0].weight)
        maps = self.layers(pictures.to(weight.device, weight.dtype) / 255)  # [N, channels, height, width]
        there = (SHARPNESS * maps).flatten(2).softmax(dim=-1).view_as(maps)
        across, down = (torch.linspace(-1, 1, size, dtype=maps.dtype, device=maps.device) for size in maps.shape[:1:-1])
        x, y = (there.sum(dim=2) * across).sum(dim=-1), (there.sum(dim=3) * down).sum(dim=-1)
        return torch.cat([maps.amax(dim=(2, 3)), x, y], dim=1)
