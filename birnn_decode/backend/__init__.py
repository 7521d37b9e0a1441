"""The array operations that a search needs, once for NumPy and once for PyTorch.

A private protocol and a small one: the search keeps its book-keeping (which prefix, which parent, which sum) in NumPy
arrays of integers and float64, and hands only what has a vocabulary axis to a backend. The backend follows the first
scores that a scorer returns: their library, their device, their dtype (half precision is computed in float32).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""An array of the backend's library."""

HIGHEST_LOG_PROB = 1e-3
"""Log-probabilities are never above 0, but for rounding in half precision."""


class Normalised(NamedTuple):
    """Scores as a backend likes to keep them: the log-probability of a token is ``scores - normaliser``."""

    scores: Array  # [rows, vocab]
    normaliser: np.ndarray | None  # float64 [rows]; None: the scores are log-probabilities already
    faulty: list[int]  # rows with NaN or +inf, or with what is no log-probability and should be


class Backend(Protocol):
    """What a search needs of an array library. -inf is a real -inf and means impossible; nothing changes its input."""

    def indices(self, values: Any) -> Array:
        """An int64 array on the scores' device, of a NumPy array or a list."""
        ...

    def array(self, values: Any) -> Array:
        """An array of the scores' dtype and device, from lists or from another backend's array."""
        ...

    def normalise(self, scores: Array, normalized: bool) -> Normalised:
        """Prepare a scorer's scores [rows, vocab]; a row that is all -inf stays so and is not faulty.

        What is returned holds no more memory than its own: no view of a larger array. It may be the scorer's own.
        """
        ...

    def log_probs(self, scores: Array, normalized: bool) -> tuple[Array, list[int]]:
        """Log-probabilities of scores [rows, vocab], with their graph where there is one; and the faulty rows."""
        ...

    def gather(self, blocks: Sequence[Array], block_of: np.ndarray, rows: np.ndarray, stays: bool = False) -> Array:
        """Row ``rows[i]`` of array ``block_of[i]`` of several [*, vocab], in this order: [rows, vocab].

        What is returned holds until the next call, or for as long as it is wanted if it ``stays``.
        """
        ...

    def numbers(self, scores: Array) -> np.ndarray:
        """The same as a new NumPy array of float64."""
        ...

    def pick(self, scores: Array, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """``scores[rows[i], tokens[i]]`` as float64."""
        ...

    def max_over_beams(self, scores: Array, offsets: np.ndarray, weight: float) -> Array:
        """``weight * max over beams of (scores + offsets)``: [problems * beams, vocab] to [problems, vocab]."""
        ...

    def masks(self, allowed: Sequence[frozenset[int] | None], banned: Sequence[int], vocab_size: int) -> Array:
        """[problems, vocab]: 0 where a token is allowed, -inf elsewhere; None allows all but the banned."""
        ...

    def best(
        self,
        scores: Array,
        offsets: np.ndarray,
        weight: float,
        steer: Array | None,
        banned: Sequence[int],
        k: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k best of ``weight * scores + offsets + steer`` over all beams and tokens of each problem.

        Args:
            scores: [problems * beams, vocab].
            offsets: [problems, beams]; -inf: no such beam.
            weight: 0 drops the scores, -inf entries included.
            steer: [problems, vocab], added for every beam, or [problems, beams, vocab].
            banned: tokens never taken.
            k: how many.

        Returns:
            NumPy arrays [problems, <= k], as `top_k` orders them: values, flat indices ``beam * vocab + token``, and
            the ``scores`` that stand there, as float64.
        """
        ...

    def pair_log_probs(self, left: Array, right: Array, problems: int) -> Iterator[Array]:
        """Log-probabilities of one softmax over the sum of two scores, for every pair of beams of a problem.

        Args:
            left: [problems * beams, vocab].
            right: [problems * others, vocab].
            problems: how many there are.

        Yields:
            for each of the others in turn ``log_softmax(left + right of that other)``, [problems * beams, vocab]; -inf
            all along where the two leave no token possible.
        """
        ...

    def best_other(self, log_probs: Iterable[Array], offsets: np.ndarray) -> tuple[Array, Array]:
        """The largest of ``log_probs + offsets`` over some others, and whose it is.

        Args:
            log_probs: for each of the others [problems * beams, vocab], such as `pair_log_probs` yields.
            offsets: [problems, others]; -inf: no such other.

        Returns:
            [problems * beams, vocab] both; the second holds whole numbers, 0 where all are -inf.
        """
        ...

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        """Values and indices [rows, min(k, n)] of the largest of [rows, n].

        Descending; equal values: the lower index first; the indices of a row are unique; -inf means dead.
        """
        ...


def same(sets: Sequence[frozenset[int] | None]) -> dict[frozenset[int] | None, list[int]]:
    """The numbers of the places in which each set stands: many positions allow the same."""
    places: dict[frozenset[int] | None, list[int]] = {}
    for place, tokens in enumerate(sets):
        places.setdefault(tokens, []).append(place)
    return places


def backend_for(scores: Array, source: str = "step") -> Backend:
    """The backend of a scorer's scores, by their type; imports no library that is not imported already.

    Args:
        scores: an array of either library.
        source: what returned them, for the message.

    Raises:
        TypeError: they are neither a NumPy array nor a PyTorch tensor of floating-point numbers.
    """
    if isinstance(scores, np.ndarray) and np.issubdtype(scores.dtype, np.floating):
        from birnn_decode.backend.numpy import NumpyBackend

        return NumpyBackend(np.float32 if scores.dtype.itemsize < 4 else scores.dtype)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(scores, torch.Tensor) and scores.is_floating_point():
        from birnn_decode.backend.torch import TorchBackend

        return TorchBackend(scores.dtype if scores.dtype.itemsize >= 4 else torch.float32, scores.device)
    kind = f"{type(scores).__module__}.{type(scores).__qualname__}"
    dtype = getattr(scores, "dtype", None)
    raise TypeError(
        f"{source} returned scores of type {kind}{'' if dtype is None else f' ({dtype})'}; they must be a NumPy array "
        "or a PyTorch tensor of floating-point numbers"
    )


def no_graph() -> contextlib.AbstractContextManager[Any]:
    """No autograd graph inside, where PyTorch is in use at all.

    This is `torch.no_grad` and not `torch.inference_mode`: a model that builds a buffer in its first call (a mask, a
    table of positions) would keep an inference tensor, and could not be trained on afterwards.
    """
    torch = sys.modules.get("torch")
    return contextlib.nullcontext() if torch is None else torch.no_grad()
