"""Turn pictures into feature vectors."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import nn

from birnn_decode.files import reading


class ImageEncoder(Protocol):
    """A model that turns pictures into feature vectors.

    An encoder that is a ``torch.nn.Module`` is trained with its captioners and saved in their file.

    Attributes:
        config: the encoder's ``kind`` and its settings, as JSON can hold them.
        feature_size: size of the feature vectors.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import SmallCNN
        >>> encoder = SmallCNN(pixels=16, channels=(4, 8)).eval()
        >>> prepared = encoder.prepare(make_scene(0, 0).picture())
        >>> encoder(torch.stack([prepared, prepared])).shape == (2, encoder.feature_size)
        True
    """

    config: dict[str, Any]
    feature_size: int

    def prepare(self, picture: Any) -> torch.Tensor:
        """Turn one picture into the tensor that the encoder reads.

        Args:
            picture: a picture that `open_picture` takes.

        Returns:
            The tensor. All pictures give the same shape, so that they can be stacked.
        """

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Compute feature vectors.

        Args:
            pictures: prepared pictures, [N, …].

        Returns:
            Feature vectors [N, feature_size].
        """


def open_picture(picture: Any) -> Image.Image:
    """Open a picture as an upright RGB image.

    The orientation that a camera stores is applied. Transparent parts become white.

    Args:
        picture: a PIL image, a path, or an array [height, width, 3] or [height, width] of uint8, or of floats from 0
            to 1.

    Returns:
        The picture as a PIL image in mode RGB.

    Raises:
        OSError: the file does not exist or cannot be read.
        TypeError: ``picture`` is none of these kinds.
        ValueError: the array has another shape, type or range.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.models import open_picture
        >>> open_picture(np.zeros((20, 30), np.uint8)).size  # width, height
        (30, 20)
    """
    if isinstance(picture, (str, os.PathLike)):
        with reading(picture, "picture"):
            picture = _opened(picture)
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
        raise ValueError(f"the range of a picture of mode {picture.mode} is unknown; give 8 or 16 bits per colour")
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("RGB")


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    try:
        with Image.open(path) as opened:
            opened.load()
    except (UnidentifiedImageError, SyntaxError):
        raise OSError("it is not in an image format that Pillow reads") from None
    except Image.DecompressionBombError:
        raise OSError("it is larger than Pillow reads (PIL.Image.MAX_IMAGE_PIXELS)") from None
    return opened


def _from_array(array: np.ndarray | torch.Tensor) -> Image.Image:
    values = np.asarray(array.detach().cpu() if isinstance(array, torch.Tensor) else array)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3) or not values.size:
        hint = "; use permute(1, 2, 0) to move the colours last" if values.ndim == 3 and values.shape[0] == 3 else ""
        raise ValueError(
            f"an array of shape {values.shape} is not a picture: give a picture [height, width, 3] or [height, width], "
            f"or a feature vector [feature_size]{hint}"
        )
    if np.issubdtype(values.dtype, np.floating):
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("the values of a picture of floats must be from 0 to 1")
        values = (values * 255).round().astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(f"a picture must be an array of uint8, or of floats from 0 to 1, got {values.dtype}")
    return Image.fromarray(values)


SHARPNESS = 3.0  # of the softmax over a map; with 1 it starts nearly uniform, so every mean place is the middle


class SmallCNN(nn.Module):
    """A small convolutional image encoder that is trained with its captioners.

    Each level has two layers, and the second one halves the width and height. For each channel of the last map, the
    feature vector holds its largest value and the place where it responds: the mean place under a softmax over the map
    (the spatial softmax of Levine et al., End-to-End Training of Deep Visuomotor Policies, JMLR 2016).

    Args:
        pixels: width and height that pictures are resized to, divisible by 2 to the power of the number of levels
            (default: 64).
        channels: number of channels of each level (default: 16, 32, 64). A feature vector has three numbers per channel
            of the last level.

    Example:
        >>> from birnn_decode.models import SmallCNN
        >>> SmallCNN(pixels=32, channels=(8, 16)).feature_size
        48
    """

    kind: ClassVar[str] = "small-cnn"

    def __init__(self, pixels: int = 64, channels: Sequence[int] = (16, 32, 64)):
        super().__init__()
        self.config = {"kind": self.kind, "pixels": pixels, "channels": list(channels)}
        self.pixels = pixels
        self.feature_size = 3 * channels[-1]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([3, *channels]):
            for inputs, stride in ((before, 1), (after, 2)):
                layers += [nn.Conv2d(inputs, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        last = channels[-1]
        self.layers = nn.Sequential(*layers, nn.Conv2d(last, last, 3, padding=1, bias=False), nn.BatchNorm2d(last))

    def prepare(self, picture: Any) -> torch.Tensor:
        """Resize one picture.

        Args:
            picture: a picture that `open_picture` takes.

        Returns:
            The pixels, uint8 [3, pixels, pixels].
        """
        resized = open_picture(picture).resize((self.pixels, self.pixels), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Compute feature vectors, on the device of the encoder.

        Args:
            pictures: prepared pictures, uint8 [N, 3, pixels, pixels].

        Returns:
            Feature vectors [N, feature_size].
        """
        return self._pooled(self._maps(pictures))[:, 0]

    def cells(self, pictures: torch.Tensor, cells: int) -> torch.Tensor:
        """Compute feature vectors of the cells of a grid.

        The vector of a cell is that of its part of the last map.

        Args:
            pictures: prepared pictures, uint8 [N, 3, pixels, pixels].
            cells: number of cells in each direction.

        Returns:
            Feature vectors, row by row, [N, cells * cells, feature_size].
        """
        return self._pooled(self._maps(pictures), cells)

    def _maps(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layers(pictures.to(next(self.parameters())) / 255)  # [N, channels, height, width]

    @staticmethod
    def _pooled(maps: torch.Tensor, cells: int = 1) -> torch.Tensor:
        """The largest value and the place of each channel in each cell, [N, cells * cells, feature_size]."""
        across, down = (torch.linspace(-1, 1, size, dtype=maps.dtype, device=maps.device) for size in maps.shape[:1:-1])
        found = []
        for rows, columns in windows(maps.shape[2], maps.shape[3], cells):
            part = maps[:, :, rows, columns]
            there = (SHARPNESS * part).flatten(2).softmax(dim=-1).view_as(part)
            x = (there.sum(dim=2) * across[columns]).sum(dim=-1)
            y = (there.sum(dim=3) * down[rows]).sum(dim=-1)
            found.append(torch.cat([part.amax(dim=(2, 3)), x, y], dim=1))
        return torch.stack(found, dim=1)


def windows(height: int, width: int, cells: int) -> list[tuple[slice, slice]]:
    """Return the rows and the columns of a map that belong to each cell of a grid, row by row.

    Cells overlap if the size of the map is not a multiple of ``cells``, as in PyTorch's adaptive pooling.
    """

    def parts(size: int) -> list[slice]:
        return [slice(at * size // cells, -(-(at + 1) * size // cells)) for at in range(cells)]

    return list(itertools.product(parts(height), parts(width)))
