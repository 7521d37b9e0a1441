"""Model files: two captioners (a pair or a Bi-RNN) or an alignment model, with words and encoder, in safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from birnn_decode.files import reading, write_whole
from birnn_decode.models.alignment import AlignmentModel
from birnn_decode.models.birnn import BiRNN
from birnn_decode.models.captioner import Captioner, GRUCaptioner, LSTMCaptioner, MultimodalRNN, check_together
from birnn_decode.models.encoder import SmallCNN
from birnn_decode.models.pretrained import EfficientNetLite0, TorchvisionEncoder
from birnn_decode.models.translator import Translator
from birnn_decode.scorers.pair import Pair
from birnn_decode.vocabularies import WordVocabulary, vocabulary_of

PAIR, BIRNN, ALIGNMENT = "birnn_decode pair 1", "birnn_decode birnn 1", "birnn_decode alignment 1"
KINDS = {PAIR: "a pair of captioners", BIRNN: "a Bi-RNN", ALIGNMENT: "an alignment model"}
CAPTIONERS: dict[str, type[Captioner]] = {
    kind.kind: kind for kind in (MultimodalRNN, LSTMCaptioner, GRUCaptioner, Translator)
}
ENCODERS: dict[str, Any] = {kind.kind: kind for kind in (SmallCNN, EfficientNetLite0, TorchvisionEncoder)}
FORWARD, BACKWARD, ENCODER = "forward.", "backward.", "encoder."


def save_pair(model_f: Captioner, model_b: Captioner, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write a pair of captioners to a file, completely or not at all.

    Args:
        model_f: the captioner that reads forward.
        model_b: the captioner that reads backward.
        path: the file to write; `load_pair` reads it.
        half: whether to store the weights in half precision, which makes the file half as large (default: False). What
            the models know of their data, such as the scale of features, stays in single precision.

    Raises:
        OSError: the file cannot be written.
        ValueError: the captioners have other directions, different words or different image encoders.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.models import default_pair, save_pair
        >>> models = default_pair()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "pair.safetensors"
        ...     save_pair(models.forward, models.backward, path)
        ...     path.exists()
        True
    """
    check_together(model_f, model_b, "the captioners of a pair")
    _save(PAIR, model_f, model_b, path, half)


def save_birnn(model: BiRNN, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write a Bi-RNN to a file, completely or not at all.

    Args:
        model: the Bi-RNN.
        path: the file to write; `load_birnn` reads it.
        half: see `save_pair` (default: False).

    Raises:
        OSError: the file cannot be written.
        TypeError: ``model`` is not a `BiRNN`.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.models import BiRNN, default_pair, save_birnn
        >>> models = default_pair()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "birnn.safetensors"
        ...     save_birnn(BiRNN(models.forward, models.backward), path)
        ...     path.exists()
        True
    """
    if not isinstance(model, BiRNN):
        raise TypeError(f"save_birnn takes a BiRNN, got {type(model).__name__}; use save_pair for two captioners")
    _save(BIRNN, model.forward_half, model.backward_half, path, half)


def load_pair(path: str | os.PathLike[str]) -> Pair:
    """Load a pair of captioners.

    Args:
        path: a file that `save_pair` or ``birnn-decode train`` wrote.

    Returns:
        The two captioners, in eval mode, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file does not hold a pair.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import GRUCaptioner, load_pair, save_pair
        >>> words = WordVocabulary(["a", "cat"])
        >>> model_f = GRUCaptioner(words, direction="forward", feature_size=3)
        >>> model_b = GRUCaptioner(words, direction="backward", feature_size=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "pair.safetensors"
        ...     save_pair(model_f, model_b, path)
        ...     models = load_pair(path)
        >>> models.forward.vocabulary == words
        True
    """
    return Pair(*load_captioners(path, PAIR)[1:])


def load_birnn(path: str | os.PathLike[str]) -> BiRNN:
    """Load a Bi-RNN.

    Args:
        path: a file that `save_birnn` or ``birnn-decode train --kind birnn`` wrote.

    Returns:
        The Bi-RNN, in eval mode, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file does not hold a Bi-RNN.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import BiRNN, GRUCaptioner, load_birnn, save_birnn
        >>> words = WordVocabulary(["a", "cat"])
        >>> model_f = GRUCaptioner(words, direction="forward", feature_size=3)
        >>> model_b = GRUCaptioner(words, direction="backward", feature_size=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "birnn.safetensors"
        ...     save_birnn(BiRNN(model_f, model_b), path)
        ...     model = load_birnn(path)
        >>> model.vocabulary == words
        True
    """
    return BiRNN(*load_captioners(path, BIRNN)[1:]).eval()


def default_pair() -> Pair:
    """Load the pair of captioners that comes with the package.

    The pair was trained on drawn scenes of coloured shapes, see `make_scenes`. It knows nothing else.

    Returns:
        The two captioners, in eval mode, on the CPU.

    Example:
        >>> from birnn_decode.models import default_pair
        >>> models = default_pair()
        >>> models.forward.vocabulary.encode("a red circle") == models.backward.vocabulary.encode("a red circle")
        True
    """
    with packaged("scenes") as path:
        return load_pair(path)


def molecule_pair() -> Pair:
    """Load the pair of molecules that comes with the package.

    It writes drug-like molecules as SMILES, character by character. It was trained without sources: the source of a
    molecule is None.

    Returns:
        The two captioners, in eval mode, on the CPU.

    Example:
        >>> from birnn_decode.models import molecule_pair
        >>> vocabulary = molecule_pair().forward.vocabulary
        >>> vocabulary.decode(vocabulary.encode("CC(=O)Nc1ccc(O)cc1"))
        'CC(=O)Nc1ccc(O)cc1'
    """
    with packaged("molecules") as path:
        return load_pair(path)


def packaged(name: str) -> AbstractContextManager[Path]:
    """Return the path of a pair that comes with the package; it is valid in a ``with`` statement."""
    return resources.as_file(resources.files("birnn_decode") / "data" / f"{name}.safetensors")


def load_captioners(path: str | os.PathLike[str], *kinds: str) -> tuple[str, Captioner, Captioner]:
    """Load the two captioners of a model file, in eval mode, and the kind of the file.

    Args:
        path: the file.
        *kinds: the kinds that are allowed, some of ``KINDS``; none means all of them.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not of one of these kinds.
    """
    kind, about, tensors, encoder = _loaded(path, kinds or (PAIR, BIRNN))
    with _fitting(path):
        vocabulary = vocabulary_of(about["vocabulary"]) if "vocabulary" in about else WordVocabulary(about["words"])
        more = {"encoder": encoder}
        if about.get("source_vocabulary") is not None:
            more["source_vocabulary"] = vocabulary_of(about["source_vocabulary"])
        with torch.random.fork_rng(devices=[]):  # the random first weights are replaced by those of the file
            pair = [_made(CAPTIONERS, about[way], vocabulary, **more) for way in ("forward", "backward")]
        for prefix, captioner in zip((FORWARD, BACKWARD), pair, strict=True):
            own = [key for key in tensors if key.startswith((prefix, ENCODER))]
            _fill(captioner, {key.removeprefix(prefix): tensors[key] for key in own})
    return kind, pair[0].eval(), pair[1].eval()


def save_alignment(model: AlignmentModel, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write an alignment model to a file, completely or not at all.

    Args:
        model: the alignment model.
        path: the file to write; `load_alignment` reads it.
        half: see `save_pair` (default: False).

    Raises:
        OSError: the file cannot be written.
        TypeError: ``model`` is not an `AlignmentModel`.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import AlignmentModel, load_alignment, save_alignment
        >>> model = AlignmentModel(WordVocabulary(["a", "cat"]), feature_size=3, hidden_size=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "alignment.safetensors"
        ...     save_alignment(model, path)
        ...     load_alignment(path).config == model.config
        True
    """
    if not isinstance(model, AlignmentModel):
        raise TypeError(f"save_alignment takes an AlignmentModel, got {type(model).__name__}")
    about = {
        "model": model.config,
        "encoder": None if model.encoder is None else model.encoder.config,
        "vocabulary": model.vocabulary.config,
    }
    _write(path, ALIGNMENT, about, {"": model}, half)


def load_alignment(path: str | os.PathLike[str]) -> AlignmentModel:
    """Load an alignment model.

    Args:
        path: a file that `save_alignment` or ``birnn-decode train --kind alignment`` wrote.

    Returns:
        The model, in eval mode, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file does not hold an alignment model.

    Example:
        >>> import pathlib, tempfile
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import AlignmentModel, load_alignment, save_alignment
        >>> model = AlignmentModel(WordVocabulary(["a", "cat"]), feature_size=3, hidden_size=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "alignment.safetensors"
        ...     save_alignment(model, path)
        ...     load_alignment(path).feature_size
        3
    """
    _, about, tensors, encoder = _loaded(path, (ALIGNMENT,))
    with _fitting(path):
        vocabulary = vocabulary_of(about["vocabulary"])
        with torch.random.fork_rng(devices=[]):
            model: AlignmentModel = _made(
                {AlignmentModel.kind: AlignmentModel}, about["model"], vocabulary, encoder=encoder
            )
        _fill(model, tensors)
    return model.eval()


@contextmanager
def _fitting(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors about parts that do not fit together into one line that names the file."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged: its weights, words and configuration do not fit together"
        ) from error


def _loaded(
    path: str | os.PathLike[str], kinds: Sequence[str]
) -> tuple[str, dict[str, Any], dict[str, torch.Tensor], Any]:
    """Read a file of one of these kinds: its kind, what it says of its models, the tensors, and the encoder."""
    name = os.fspath(path)
    try:
        # safe_open does not say in one line that a file is missing or a folder; open does.
        with reading(name, "model file"), open(name, "rb"), safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            # Tensors are copied because those of the file change with it.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(f"{name} is not a model file: {error}") from None
    kind = next((kind for kind in kinds if kind in metadata), None)
    if kind is None:
        wanted = " or ".join(KINDS[kind] for kind in kinds)
        found = next((what for other, what in KINDS.items() if other in metadata), "no model of this package")
        raise ValueError(f"{name} is a safetensors file, but does not hold {wanted}: it holds {found}")
    with _fitting(path):
        about = json.loads(metadata[kind])
        with torch.random.fork_rng(devices=[]):
            encoder = None if about["encoder"] is None else _made(ENCODERS, about["encoder"])
    return kind, about, tensors, encoder


def _fill(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give a model its weights. They may be stored in half precision; models compute in single precision."""
    whole = {key: one.float() if one.dtype == torch.float16 else one for key, one in weights.items()}
    model.load_state_dict(whole, assign=True)


def _made(kinds: dict[str, Any], config: dict[str, Any], *given: Any, **more: Any) -> Any:
    """Make a captioner or an encoder from its ``config``."""
    settings = dict(config)
    return kinds[settings.pop("kind")](*given, **settings, **more)


def _save(kind: str, model_f: Captioner, model_b: Captioner, path: str | os.PathLike[str], half: bool) -> None:
    """Write two captioners that share their words and their encoder."""
    encoder = model_f.encoder
    source_vocabulary = model_f.source_vocabulary
    about = {
        "forward": model_f.config,
        "backward": model_b.config,
        "encoder": None if encoder is None else encoder.config,
        "vocabulary": model_f.vocabulary.config,
        "source_vocabulary": None if source_vocabulary is None else source_vocabulary.config,
    }
    parts = {FORWARD: model_f, BACKWARD: model_b, **({ENCODER: encoder} if isinstance(encoder, nn.Module) else {})}
    _write(path, kind, about, parts, half)


def _write(
    path: str | os.PathLike[str], kind: str, about: dict[str, Any], parts: Mapping[str, nn.Module], half: bool
) -> None:
    """Write models, each with its prefix. The encoder that captioners share is a separate part, written once."""
    tensors = {
        prefix + name: tensor
        for prefix, part in parts.items()
        for name, tensor in part.state_dict().items()
        if prefix in ("", ENCODER) or not name.startswith(ENCODER)
    }
    if half:  # of the weights only: a mean or a variance may be beyond the range of half precision
        weights = {prefix + name for prefix, part in parts.items() for name, _ in part.named_parameters()}
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                tensors[name] = tensor.half() if name in weights else tensor.float()
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(ready, {kind: json.dumps(about)}))
