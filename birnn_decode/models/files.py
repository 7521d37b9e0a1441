"""Model files: two captioners, a pair or a Bi-RNN, with their words and their encoder, in one safetensors file."""

from __future__ import annotations

import json
import os
from importlib import resources
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from birnn_decode.captions.vocabulary import SPECIAL, WordVocabulary
from birnn_decode.files import write_whole
from birnn_decode.models.birnn import BiRNN
from birnn_decode.models.captioner import Captioner, GRUCaptioner, LSTMCaptioner, MultimodalRNN
from birnn_decode.models.encoder import ImageEncoder, SmallCNN
from birnn_decode.models.pretrained import EfficientNetLite0, TorchvisionEncoder

PAIR, BIRNN = "birnn_decode pair 1", "birnn_decode birnn 1"
KINDS = {PAIR: "a pair of captioners", BIRNN: "a Bi-RNN"}
CAPTIONERS: dict[str, type[Captioner]] = {kind.kind: kind for kind in (MultimodalRNN, LSTMCaptioner, GRUCaptioner)}
ENCODERS: dict[str, Any] = {kind.kind: kind for kind in (SmallCNN, EfficientNetLite0, TorchvisionEncoder)}
FORWARD, BACKWARD, ENCODER = "forward.", "backward.", "encoder."


def save_pair(model_f: Captioner, model_b: Captioner, path: str | os.PathLike[str]) -> None:
    """Write a pair of captioners to a file that `load_pair` reads: all of it or nothing.

    Raises:
        OSError: it cannot be written there.
        ValueError: the two have different words, image encoders or directions than a pair has.
    """
    if (model_f.direction, model_b.direction) != ("forward", "backward"):
        raise ValueError(f"a pair reads forward and backward; these read {model_f.direction} and {model_b.direction}")
    if model_f.vocabulary != model_b.vocabulary:
        raise ValueError("the captioners of a pair have the same words at the same ids; these do not")
    if model_b.encoder is not model_f.encoder:
        raise ValueError("the captioners of a pair share one image encoder; these have one each")
    _save(PAIR, model_f, model_b, path)


def save_birnn(model: BiRNN, path: str | os.PathLike[str]) -> None:
    """Write a Bi-RNN to a file that `load_birnn` reads: all of it or nothing.

    Raises:
        TypeError: it is none.
        OSError: it cannot be written there.
    """
    if not isinstance(model, BiRNN):
        raise TypeError(f"save_birnn keeps a BiRNN, not a {type(model).__name__}; save_pair keeps two captioners")
    _save(BIRNN, model.forward_half, model.backward_half, path)


def load_birnn(path: str | os.PathLike[str]) -> BiRNN:
    """The Bi-RNN of a file, in eval mode.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a file that `save_birnn` wrote.
    """
    return BiRNN(*load_captioners(path, BIRNN)[1:]).eval()


def _save(kind: str, model_f: Captioner, model_b: Captioner, path: str | os.PathLike[str]) -> None:
    """Write two captioners that share words and encoder."""
    encoder = model_f.encoder
    about = {
        "forward": model_f.config,
        "backward": model_b.config,
        "encoder": None if encoder is None else encoder.config,
        "words": model_f.vocabulary.words[len(SPECIAL) :],
    }
    parts = {FORWARD: model_f, BACKWARD: model_b, **({ENCODER: encoder} if isinstance(encoder, nn.Module) else {})}
    tensors = {
        prefix + name: tensor.detach().cpu().contiguous()
        for prefix, part in parts.items()
        for name, tensor in part.state_dict().items()
        if prefix == ENCODER or not name.startswith(ENCODER)
    }
    write_whole(path, save(tensors, {kind: json.dumps(about)}))


def load_pair(path: str | os.PathLike[str]) -> tuple[Captioner, Captioner]:
    """The forward and the backward captioner of a file, in eval mode.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a file that `save_pair` wrote.
    """
    return load_captioners(path, PAIR)[1:]


def load_captioners(path: str | os.PathLike[str], *kinds: str) -> tuple[str, Captioner, Captioner]:
    """What a file is of, and its forward and backward captioner, in eval mode.

    Args:
        path: the file.
        kinds: what it may be of: some of `KINDS`; none: all of them.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a file of these.
    """
    kinds = kinds or tuple(KINDS)
    name = os.fspath(path)
    if os.path.isdir(name):
        raise IsADirectoryError(f"{name} is a folder, not a model file")
    try:
        with safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies, since the tensors of the file would change with it.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - it is no dict
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no model file {name}") from None
    except OSError as error:
        raise OSError(f"cannot read the model file {name}: {error}") from None
    except SafetensorError as error:
        raise ValueError(f"{name} is not a model file: {error}") from None
    kind = next((kind for kind in kinds if kind in metadata), None)
    if kind is None:
        wanted = " or ".join(KINDS[kind] for kind in kinds)
        others = [f"it is of {what}" for other, what in KINDS.items() if other in metadata]
        reason = others[0] if others else f"it has no {' and no '.join(map(repr, kinds))}"
        raise ValueError(f"{name} is a safetensors file, but not of {wanted}: {reason}")
    try:
        about = json.loads(metadata[kind])
        with torch.random.fork_rng(devices=[]):  # the weights drawn here give way to those of the file
            encoder = None if about["encoder"] is None else make_encoder(about["encoder"])
            vocabulary = WordVocabulary(about["words"])
            pair = tuple(_captioner(about[side], vocabulary, encoder) for side in ("forward", "backward"))
        for prefix, captioner in zip((FORWARD, BACKWARD), pair, strict=True):
            own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            shared = {key: tensor for key, tensor in tensors.items() if key.startswith(ENCODER)}
            captioner.load_state_dict({**own, **shared}, assign=True)
    except ModuleNotFoundError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is damaged: its weights, words and configuration do not fit together") from error
    return kind, pair[0].eval(), pair[1].eval()


def default_pair() -> tuple[Captioner, Captioner]:
    """The forward and the backward captioner that come with the package, trained on rendered scenes."""
    with resources.as_file(resources.files("birnn_decode") / "data" / "scenes.safetensors") as path:
        return load_pair(path)


def make_encoder(config: dict[str, Any]) -> ImageEncoder:
    """The encoder of a configuration, as encoders say it of themselves (`ImageEncoder.config`).

    Raises:
        LookupError, TypeError, ValueError: there is none like that.
    """
    settings = dict(config)
    encoder: ImageEncoder = ENCODERS[settings.pop("kind")](**settings)
    return encoder


def _captioner(config: dict[str, Any], vocabulary: WordVocabulary, encoder: ImageEncoder | None) -> Captioner:
    settings = dict(config)
    return CAPTIONERS[settings.pop("kind")](vocabulary, **settings, encoder=encoder)
