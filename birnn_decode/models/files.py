"""Model files: a captioner's weights, configuration and words in one safetensors file."""

from __future__ import annotations

import json
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from birnn_decode.captions.vocabulary import SPECIAL, WordVocabulary
from birnn_decode.models.captioner import Captioner, GRUCaptioner, LSTMCaptioner, MultimodalRNN
from birnn_decode.models.encoder import SmallCNN

FORMAT = "birnn_decode captioner 1"
CAPTIONERS: dict[str, type[Captioner]] = {kind.kind: kind for kind in (MultimodalRNN, LSTMCaptioner, GRUCaptioner)}
ENCODERS = {SmallCNN.kind: SmallCNN}


def save_captioner(captioner: Captioner, path: str | os.PathLike[str]) -> None:
    """Write a captioner to a file that `load_captioner` reads: all of it or nothing.

    Raises:
        OSError: it cannot be written there.
    """
    path = Path(path)
    encoder = None if captioner.encoder is None else captioner.encoder.config
    words = captioner.vocabulary.words[len(SPECIAL) :]
    metadata = {FORMAT: json.dumps({"config": {**captioner.config, "encoder": encoder}, "words": words})}
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save {path}: there is no folder {path.parent}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in captioner.state_dict().items()}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as beside:
        temporary = Path(beside) / path.name
        temporary.write_bytes(save(tensors, metadata))
        os.replace(temporary, path)


def load_captioner(path: str | os.PathLike[str]) -> Captioner:
    """The captioner of a file, in eval mode.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a file that `save_captioner` wrote.
    """
    name = os.fspath(path)
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
    if FORMAT not in metadata:
        raise ValueError(f"{name} is a safetensors file, but not of a captioner: it has no {FORMAT!r}")
    try:
        about = json.loads(metadata[FORMAT])
        captioner = _build(about["config"], WordVocabulary(about["words"]))
        captioner.load_state_dict(tensors, assign=True)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is damaged: its weights, words and configuration do not fit together") from error
    return captioner.eval()


def default_pair() -> tuple[Captioner, Captioner]:
    """The forward and the backward captioner that come with the package, trained on rendered scenes."""
    forward, backward = (
        resources.files("birnn_decode") / "data" / f"scenes-{direction}.safetensors"
        for direction in ("forward", "backward")
    )
    with resources.as_file(forward) as path_f, resources.as_file(backward) as path_b:
        return load_captioner(path_f), load_captioner(path_b)


def _build(config: dict[str, Any], vocabulary: WordVocabulary) -> Captioner:
    settings = dict(config)
    kind = CAPTIONERS[settings.pop("kind")]
    encoder = settings.pop("encoder")
    with torch.device("meta"):  # nothing is drawn at random and thrown away
        if encoder is not None:
            encoder = ENCODERS[encoder.pop("kind")](**encoder)
        return kind(vocabulary, **settings, encoder=encoder)
