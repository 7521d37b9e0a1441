"""The backend for NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from birnn_decode.backend.base import (
    HIGHEST_LOG_PROB,
    Array,
    Backend,
    Best,
    Floats,
    Ints,
    Normalised,
    overflow_to_inf,
)

PASSES_UP_TO = 60  # up to this k, k passes of argmax are faster than a partial sort


class NumpyBackend(Backend):
    """The operations for NumPy.

    Scores are kept as the scorer returned them, with their log-normaliser. Finding the k best of each row first and
    normalising only those saves a pass over all scores.
    """

    library: ClassVar[Any] = np
    in_cache: ClassVar[int] = 2**19

    def __init__(self, dtype: npt.DTypeLike):
        self.dtype = np.dtype(dtype)

    def indices(self, values: Any) -> Array:
        return np.asarray(values, dtype=np.int64)

    def array(self, values: Any) -> Array:
        if hasattr(values, "cpu"):  # a PyTorch tensor from the scorer of the other direction
            values = values.cpu().numpy()
        with overflow_to_inf():
            return np.asarray(values, dtype=self.dtype)

    def normalise(self, scores: Array, normalized: bool) -> Normalised:
        alone = scores.base is None and scores.flags.c_contiguous
        scores = scores.astype(self.dtype, order="C", copy=not alone)
        peak = scores.max(axis=-1)  # NaN wins a max, and so does +inf
        faulty = np.flatnonzero(~(peak < (HIGHEST_LOG_PROB if normalized else np.inf))).tolist()
        if normalized or faulty:
            return Normalised(scores, None, faulty)
        dead = np.isneginf(peak)
        peak[dead] = 0
        total = np.empty_like(peak)
        with overflow_to_inf():
            for some in self._pieces(len(scores), scores.shape[-1]):
                shifted = scores[some] - peak[some, None]
                np.exp(shifted, out=shifted).sum(axis=-1, out=total[some])
        total[dead] = 1  # a row of only -inf stays as it is
        return Normalised(scores, (peak + np.log(total)).astype(np.float64), faulty)

    def log_probs(self, scores: Array, normalized: bool) -> tuple[Array, list[int]]:
        scores, normaliser, faulty = self.normalise(scores, normalized)
        if normaliser is not None:
            with overflow_to_inf():
                scores = scores - normaliser[:, None].astype(self.dtype)
        return scores, faulty

    def gather(self, blocks: Sequence[Array], block_of: Ints, rows: Ints, stays: bool = False) -> Array:
        if len(blocks) == 1:
            return blocks[0][rows]
        gathered = np.empty((len(rows), blocks[0].shape[-1]), dtype=self.dtype)
        for number, block in enumerate(blocks):
            here = block_of == number
            gathered[here] = block[rows[here]]
        return gathered

    def numbers(self, scores: Array) -> Floats:
        return np.array(scores, dtype=np.float64)

    def pick(self, scores: Array, rows: Ints, tokens: Ints) -> Floats:
        return scores[rows, tokens].astype(np.float64)

    def max_over_beams(self, scores: Array, offsets: Floats, weight: float) -> Array:
        shift = self.array(offsets)
        with overflow_to_inf():
            reach = (scores.reshape(*shift.shape, -1) + shift[..., None]).max(axis=1)
            return reach if weight == 1 else reach * weight

    def best(
        self, scores: Array, offsets: Floats, weight: float, steer: Array | None, banned: Sequence[int], k: int
    ) -> Best:
        shift = self.array(offsets)
        problems, beams = shift.shape
        vocab = scores.shape[-1]
        scores = scores.reshape(problems, beams, vocab)
        values = np.empty((problems, beams, min(k, vocab)), dtype=self.dtype)
        tokens = np.empty(values.shape, dtype=np.int64)
        with overflow_to_inf():
            for some in self._pieces(problems, beams * vocab):
                total = np.multiply(scores[some], weight) if weight else np.zeros_like(scores[some])
                if steer is not None:
                    total += steer.reshape(problems, -1, vocab)[some]
                total[..., list(banned)] = -np.inf
                own_values, own_tokens = _take_top_k(total.reshape(-1, vocab), k)
                values[some], tokens[some] = (part.reshape(-1, *values.shape[1:]) for part in (own_values, own_tokens))
            values = (values + shift[..., None]).reshape(problems, -1)
        flat = (tokens.reshape(problems, beams, -1) + np.arange(beams)[:, None] * vocab).reshape(problems, -1)
        # Candidates of equal value are in the order of their flat index, and the sort is stable.
        order = np.argsort(-values, axis=-1, kind="stable")[:, :k]
        flat = np.take_along_axis(flat, order, -1)
        chosen = np.take_along_axis(scores.reshape(problems, -1), flat, -1).astype(np.float64)
        return np.take_along_axis(values, order, -1), flat, chosen

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        return _take_top_k(x.copy(), k)


def _take_top_k(x: Array, k: int) -> tuple[Array, Array]:
    """Do what ``NumpyBackend.top_k`` does, and overwrite ``x``."""
    k = min(k, x.shape[1])
    if k > PASSES_UP_TO:
        return _partial_sort(x, k)
    values = np.empty((len(x), k), dtype=x.dtype)
    index = np.empty((len(x), k), dtype=np.int64)
    every = np.arange(len(x))
    for rank in range(k):
        index[:, rank] = at = x.argmax(axis=1)  # the first of equal values
        values[:, rank] = x[every, at]
        x[every, at] = -np.inf
    for row in np.flatnonzero(np.isneginf(values).any(axis=1)):
        # Fewer than k values are possible: the other places take the lowest indices left, so that none occurs twice.
        alive = int((values[row] > -np.inf).sum())
        index[row, alive:] = np.setdiff1d(np.arange(k), index[row, :alive])[: k - alive]
    return values, index


def _partial_sort(x: Array, k: int) -> tuple[Array, Array]:
    """Return values and indices as ``NumpyBackend.top_k`` does, for large k."""
    index = np.empty((len(x), k), dtype=np.int64)
    for row, line in enumerate(x):
        candidates = np.flatnonzero(line >= np.partition(line, -k)[-k])
        index[row] = candidates[np.argsort(-line[candidates], kind="stable")][:k]
    return np.take_along_axis(x, index, axis=1), index
