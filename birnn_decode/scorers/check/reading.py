"""A scorer as its checks use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from birnn_decode.backend import Array, Backend, backend_for
from birnn_decode.scorers.protocol import Scorer

_FRESH = object()


class Fault(Exception):
    """What a check found."""

    def __init__(self, fault: str, message: str, cure: str):
        super().__init__(fault)
        self.fault, self.message, self.cure = fault, message, cure


class Skip(Exception):
    """Why a check cannot be made."""


class Broken(Exception):
    """An exception inside of the model."""

    def __init__(self, where: str, error: Exception):
        super().__init__(where)
        self.where, self.error = where, error
        self.line = f"{where} raised {type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Of an exception's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


class Reader:
    """A scorer as the checks use it: every call may fail, scores are checked for their shape and copied at once."""

    def __init__(self, scorer: Scorer, images: Sequence[Any]):
        self.scorer = scorer
        self.images = images
        self.normalized = bool(getattr(scorer, "normalized", False))
        self.dtype = ""
        self.device = ""
        self._backend: Backend | None = None

    def indices(self, values: Sequence[int] | np.ndarray) -> Array:
        """Numbers as the scorer takes them: NumPy's at first, then of the scores' library."""
        numbers = [int(value) for value in values]
        return np.asarray(numbers, dtype=np.int64) if self._backend is None else self._backend.indices(numbers)

    def matrix(self, rows: Sequence[Sequence[int]]) -> Array:
        """Rows of equally many tokens as the scorer takes them."""
        flat = self.indices([token for row in rows for token in row])
        return flat.reshape(len(rows), -1)

    def call(self, name: str, *arguments: Any) -> Any:
        """A member of the scorer, called; raises `Broken` for whatever it raises."""
        try:
            return getattr(self.scorer, name)(*arguments)
        except Exception as error:
            raise Broken(name, error) from None

    def begin(self, numbers: Sequence[int]) -> Any:
        """The state of one row for each of the images numbered."""
        return self.call("start", self.encode(numbers))

    def encode(self, numbers: Sequence[int]) -> Any:
        """The context of the images numbered."""
        return self.call("encode", [self.images[number] for number in numbers])

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The given rows of a state."""
        return self.call("select", state, self.indices(rows))

    def step(self, tokens: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
        """Scores [R, vocab], a copy, and the state."""
        scores, state = self.step_raw(tokens, state)
        return numbers_of(scores), state

    def step_raw(self, tokens: Sequence[int], state: Any) -> tuple[Array, Any]:
        """As `step`, with the scores as the scorer returned them."""
        returned = self.call("step", self.indices(tokens), state)
        scores, state = self.pair(returned, "step")
        self.check_shape(scores, (len(tokens),), "step")
        return scores, state

    def pair(self, returned: Any, name: str) -> tuple[Any, Any]:
        """What should be (scores, state)."""
        if not isinstance(returned, tuple) or len(returned) != 2:
            kind = type(returned).__name__
            raise Fault("shapes", f"{name} returned a {kind}, not a pair", f"return (scores, state) from {name}")
        return returned

    def check_shape(self, scores: Any, leading: tuple[int, ...], name: str) -> None:
        """Check that scores [*leading, vocab_size] are such; a `Fault` says what they are instead."""
        try:
            backend = backend_for(scores)
        except TypeError as error:
            raise Fault(
                "shapes",
                str(error).replace("step", name, 1),
                "return a NumPy array or a PyTorch tensor of floating-point scores",
            ) from None
        if self._backend is None:
            self._backend = backend
            self.dtype = str(scores.dtype).rpartition(".")[2]
            self.device = str(getattr(scores, "device", "cpu"))
        shape = tuple(scores.shape)
        width = self.scorer.vocab_size
        wanted = (*leading, width)
        if shape == wanted:
            return
        told = f"{name} returned scores of shape {shape}; expected {wanted}"
        if shape[:-1] == leading:
            raise Fault(
                "vocabulary",
                f"{told}: the model scores {shape[-1]} ids, and vocab_size says {width}",
                f"declare vocab_size={shape[-1]}, or give the model that goes with the vocabulary of {width} ids",
            )
        rows = leading[0]
        if len(shape) == len(wanted) and shape[0] % rows == 0 and shape[0] > rows:
            raise Fault(
                "features",
                f"{told}: {shape[0] // rows} rows of scores for every row of tokens; what is known of the images is "
                "expanded once more than it should be",
                "keep the image's features in the state, one row for each row of tokens, and expand them nowhere else",
            )
        raise Fault("shapes", told, f"return one row of vocab_size scores for each row of tokens from {name}")

    def run(
        self, numbers: Sequence[int], tokens: Sequence[Sequence[int]] | np.ndarray, state: Any = _FRESH
    ) -> np.ndarray:
        """Scores [R, t, vocab] of a plain run from `encode` on, for rows of images ``numbers``; tokens [R, t]."""
        state = self.begin(numbers) if state is _FRESH else state
        scores = []
        for column in np.asarray(tokens).T:
            values, state = self.step(column.tolist(), state)
            scores.append(values)
        return np.stack(scores, axis=1)

    def log_probs(self, scores: np.ndarray) -> np.ndarray:
        """Scores [..., vocab] as log-probabilities."""
        return scores if self.normalized else scores - log_sum_exp(scores)


def numbers_of(scores: Array) -> np.ndarray:
    """A copy as float64."""
    if isinstance(scores, np.ndarray):
        return scores.astype(np.float64)
    return np.array(scores.detach().cpu().double().numpy())


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Over the last axis, which stays; 0 where all is -inf."""
    highest = scores.max(axis=-1, keepdims=True)
    highest = np.where(np.isneginf(highest), 0, highest)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(scores - highest).sum(axis=-1, keepdims=True)) + highest
    return np.where(np.isneginf(total), 0, total)
