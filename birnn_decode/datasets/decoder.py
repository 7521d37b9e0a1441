"""Answer batches of questions: read their pictures, decode them, and turn every fault of a question into its answer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birnn_decode.captions.features import Features, read_features
from birnn_decode.datasets.answers import answer
from birnn_decode.datasets.parts import Answered
from birnn_decode.datasets.questions import Batch, Question
from birnn_decode.decoding import decode
from birnn_decode.methods import Method
from birnn_decode.request import Models
from birnn_decode.result import DecodeResult
from birnn_decode.scorers.protocol import eval_mode
from birnn_decode.template import Template

# Faults of a question. Any other exception, such as a lack of memory, ends the run.
FAULTS = (ValueError, TypeError, OSError)


@dataclass(frozen=True)
class Job:
    """What is asked of every question.

    Attributes:
        method: the method.
        options: the keywords of `decode`.
        images: the folder that paths of images are relative to.
        features: the file of feature vectors; None if there is none.
        device: the device that the models are moved to; None if they stay where they are.
        threads: the number of threads of PyTorch.
    """

    method: Method
    options: Mapping[str, Any]
    images: Path
    features: Path | None
    device: str | None
    threads: int


@dataclass(frozen=True)
class Prepared:
    """A batch that has been read.

    Attributes:
        batch: the batch.
        asked: the questions without a fault, by place in the batch, each with its source and template.
        faults: the faults of the others, by place in the batch.
    """

    batch: Batch
    asked: Mapping[int, tuple[Any, Any]]
    faults: Mapping[int, str]


class Decoder:
    """Models and everything else that batches need.

    Args:
        models: the models, as for `decode`.
        job: what is asked.
    """

    def __init__(self, models: Any, job: Job):
        self.job = job
        self.wrapped = Models.wrap(models, job.options.get("vocabulary"))
        self.models = models
        if job.device is not None:
            for scorer in self.wrapped.scorers.values():
                for module in scorer.modules() if hasattr(scorer, "modules") else ():
                    module.to(job.device)
        self.encoder = self._common_encoder()
        self.features: Features | None = None if job.features is None else read_features(job.features)
        self.rows = {} if self.features is None else {name: row for row, name in enumerate(self.features.ids)}

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Keep the models in eval mode, and PyTorch at the number of threads."""
        with eval_mode([*self.wrapped.scorers.values(), self.models]), threads(self.job.threads):
            yield

    def prepare(self, batch: Batch) -> Prepared:
        """Read the pictures of a batch and encode them; read its templates."""
        asked: dict[int, tuple[Any, Any]] = {}
        faults: dict[int, str] = {}
        pictures: dict[int, Any] = {}
        for place, question in enumerate(batch.questions):
            try:
                source = self._source(question)
                asked[place] = source, self._template(question)
                if self.encoder is not None and isinstance(source, Path):
                    pictures[place] = self.encoder.prepare(source)
                elif isinstance(source, Path):
                    from birnn_decode.models.encoder import open_picture

                    asked[place] = open_picture(source), asked[place][1]
            except FAULTS as error:
                asked.pop(place, None)
                faults[place] = _line(error)
        if pictures:
            import torch

            assert self.encoder is not None
            device = next((one.device for one in getattr(self.encoder, "parameters", tuple)()), self.job.device)
            with torch.no_grad():
                vectors = self.encoder(torch.stack(list(pictures.values())).to(device))
            asked |= {place: (vector, asked[place][1]) for place, vector in zip(pictures, vectors, strict=True)}
        return Prepared(batch, asked, faults)

    def answer(self, prepared: Prepared) -> Answered:
        """Decode a batch that has been read."""
        began = time.perf_counter()
        places = list(prepared.asked)
        found = self._decoded(places, prepared)
        seconds = time.perf_counter() - began
        faults = {**prepared.faults, **{place: one for place, one in found.items() if isinstance(one, str)}}
        lines = [
            answer(question, None, faults[place]) if place in faults else answer(question, found[place])  # type: ignore[arg-type]
            for place, question in enumerate(prepared.batch.questions)
        ]
        return Answered(prepared.batch, lines, len(faults), seconds)

    def _decoded(self, places: Sequence[int], prepared: Prepared) -> dict[int, DecodeResult | str]:
        """The results of some questions. If the search refuses them, each half is asked by itself."""
        if not places:
            return {}
        sources, templates = (list(own) for own in zip(*(prepared.asked[place] for place in places), strict=True))
        try:
            if len(places) == 1:
                results = [decode(self.models, sources[0], templates[0], self.job.method, **self.job.options)]
            else:
                results = decode(self.models, sources, templates, self.job.method, **self.job.options)
        except FAULTS as error:
            if len(places) == 1:
                return {places[0]: _line(error)}
            middle = len(places) // 2
            return {**self._decoded(places[:middle], prepared), **self._decoded(places[middle:], prepared)}
        return dict(zip(places, results, strict=True))

    def _source(self, question: Question) -> Any:
        """The source of a question: a path of a picture, a vector, a text, or None."""
        given = {name: question.fields[name] for name in ("image", "features", "source") if _given(question, name)}
        if len(given) > 1:
            raise ValueError(f"the question has {' and '.join(given)}: give one of them")
        name, value = next(iter(given.items()), (None, None))
        if (wanted := self._wanted) is not None and name not in wanted:
            needed = " or ".join("no source" if one is None else one for one in wanted)
            raise ValueError(f"the question has {name or 'no source'}, and the model needs {needed}")
        if name == "features":
            return self._vector(value)
        if name is None:
            return None
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, got {value!r}")
        return self.job.images / value if name == "image" else value

    @property
    def _wanted(self) -> Sequence[str | None] | None:
        """The kinds of sources that the models take; None if that is not known."""
        half = getattr(self.models, "forward_half", None) or getattr(self.models, "forward", None)
        if getattr(half, "source_vocabulary", None) is not None:
            return ("source",)
        size = getattr(half, "feature_size", None)
        if size is None:
            return None
        return ("image", "features") if size and self.encoder is not None else ("features",) if size else (None,)

    def _vector(self, given: Any) -> np.ndarray:
        if isinstance(given, list):
            try:
                with np.errstate(over="ignore"):  # what is too large becomes infinite
                    vector = np.array(given, dtype=np.float32)
            except (ValueError, TypeError, OverflowError):
                vector = np.array(np.nan)
            if vector.ndim != 1 or not np.isfinite(vector).all():
                raise ValueError("features must be a list of finite numbers, or a key into the file of features")
            return vector
        if self.features is None:
            raise ValueError(f"features is the key {given!r}, and no file of features was given (--features)")
        if str(given) not in self.rows:
            raise ValueError(f"the file of features has no vector of {given!r}")
        return np.asarray(self.features.vectors[self.rows[str(given)]])

    def _template(self, question: Question) -> Template | None:
        if not _given(question, "template"):
            return None
        text = question.fields["template"]
        if not isinstance(text, str) or not text:
            raise ValueError(f"the template must be text such as 'a _ dog', got {text!r}; without it: a whole caption")
        return Template.from_text(text, self.wrapped.needed_vocabulary("a template in text"))

    def _common_encoder(self) -> Any:
        """The image encoder, if all models have the same one: then every picture is encoded once."""
        encoders = {id(one): one for one in (getattr(one, "encoder", None) for one in self.wrapped.scorers.values())}
        (encoder,) = encoders.values() if len(encoders) == 1 else (None,)
        return encoder if hasattr(encoder, "prepare") else None


def fingerprint(models: Models) -> str:
    """Return a checksum of the weights and the words of models, as far as they are PyTorch modules.

    Args:
        models: the wrapped models.
    """
    digest = hashlib.sha256()
    for name, scorer in models.scorers.items():
        digest.update(f"{name} {type(scorer).__name__} {scorer.vocab_size}".encode())
        for module in scorer.modules() if hasattr(scorer, "modules") else ():
            for own in (module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
                for key, tensor in own:
                    digest.update(key.encode())
                    digest.update(tensor.detach().cpu().flatten().view(sys.modules["torch"].uint8).numpy().tobytes())
    if hasattr(models.vocabulary, "config"):
        digest.update(json.dumps(models.vocabulary.config, sort_keys=True, default=str).encode())
    return digest.hexdigest()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch, if it is there, compute with a number of threads."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _given(question: Question, name: str) -> bool:
    return question.fields.get(name) is not None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
