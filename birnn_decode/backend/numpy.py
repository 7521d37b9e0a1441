"""The backend for NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from birnn_decode.backend import HIGHEST_LOG_PROB, Array, Normalised, same

IN_CACHE = 2**19  # entries that a processor's cache holds
PASSES_UP_TO = 60  # k passes of argmax beat a partial sort up to here


class NumpyBackend:
    """See `birnn_decode.backend.Backend`.

    Scores are kept as the scorer gave them, beside their log-normaliser: finding the k best of each row first and
    normalising those alone saves a pass over everything.
    """

    def __init__(self, dtype: npt.DTypeLike):
        self.dtype = np.dtype(dtype)

    def indices(self, values: Any) -> Array:
        return np.asarray(values, dtype=np.int64)

    def array(self, values: Any) -> Array:
        if hasattr(values, "cpu"):  # a PyTorch tensor, from the other direction's scorer
            values = values.cpu().numpy()
        with _overflow_to_inf():
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
        with _overflow_to_inf():
            for some in _pieces(len(scores), scores.shape[-1]):
                shifted = scores[some] - peak[some, None]
                np.exp(shifted, out=shifted).sum(axis=-1, out=total[some])
        total[dead] = 1  # a row of -inf alone is left as it is
        return Normalised(scores, (peak + np.log(total)).astype(np.float64), faulty)

    def log_probs(self, scores: Array, normalized: bool) -> tuple[Array, list[int]]:
        scores, normaliser, faulty = self.normalise(scores, normalized)
        if normaliser is not None:
            with _overflow_to_inf():
                scores = scores - normaliser[:, None].astype(self.dtype)
        return scores, faulty

    def gather(self, blocks: Sequence[Array], block_of: np.ndarray, rows: np.ndarray, stays: bool = False) -> Array:
        if len(blocks) == 1:
            return blocks[0][rows]
        gathered = np.empty((len(rows), blocks[0].shape[-1]), dtype=self.dtype)
        for number, block in enumerate(blocks):
            here = block_of == number
            gathered[here] = block[rows[here]]
        return gathered

    def numbers(self, scores: Array) -> np.ndarray:
        return np.array(scores, dtype=np.float64)

    def pick(self, scores: Array, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        picked: np.ndarray = scores[rows, tokens].astype(np.float64)
        return picked

    def max_over_beams(self, scores: Array, offsets: np.ndarray, weight: float) -> Array:
        shift = self.array(offsets)
        with _overflow_to_inf():
            reach = (scores.reshape(*shift.shape, -1) + shift[..., None]).max(axis=1)
            return reach if weight == 1 else reach * weight

    def masks(self, allowed: Sequence[frozenset[int] | None], banned: Sequence[int], vocab_size: int) -> Array:
        masks = np.empty((len(allowed), vocab_size), dtype=self.dtype)
        for tokens, rows in same(allowed).items():
            mask = np.zeros(vocab_size, dtype=self.dtype)
            if tokens is None:
                mask[list(banned)] = -np.inf
            else:
                mask[:] = -np.inf
                mask[sorted(tokens)] = 0
            masks[rows] = mask
        return masks

    def best(
        self,
        scores: Array,
        offsets: np.ndarray,
        weight: float,
        steer: Array | None,
        banned: Sequence[int],
        k: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shift = self.array(offsets)
        problems, beams = shift.shape
        vocab = scores.shape[-1]
        scores = scores.reshape(problems, beams, vocab)
        values = np.empty((problems, beams, min(k, vocab)), dtype=self.dtype)
        tokens = np.empty(values.shape, dtype=np.int64)
        with _overflow_to_inf():
            for some in _pieces(problems, beams * vocab):
                total = np.multiply(scores[some], weight) if weight else np.zeros_like(scores[some])
                if steer is not None:
                    total += steer.reshape(problems, -1, vocab)[some]
                total[..., list(banned)] = -np.inf
                own_values, own_tokens = _take_top_k(total.reshape(-1, vocab), k)
                values[some], tokens[some] = (part.reshape(-1, *values.shape[1:]) for part in (own_values, own_tokens))
            values = (values + shift[..., None]).reshape(problems, -1)
        flat = (tokens.reshape(problems, beams, -1) + np.arange(beams)[:, None] * vocab).reshape(problems, -1)
        # Candidates stand in the order of their flat index where their values are equal, and the sort is stable.
        order = np.argsort(-values, axis=-1, kind="stable")[:, :k]
        flat = np.take_along_axis(flat, order, -1)
        chosen = np.take_along_axis(scores.reshape(problems, -1), flat, -1).astype(np.float64)
        return np.take_along_axis(values, order, -1), flat, chosen

    def pair_log_probs(self, left: Array, right: Array, problems: int) -> Iterator[Array]:
        vocab = left.shape[-1]
        left, right = left.reshape(problems, -1, vocab), right.reshape(problems, -1, vocab)
        log_totals = self._pair_log_totals(left, right)
        log_totals[np.isneginf(log_totals)] = 0  # all of its sums are -inf, and stay so
        with _overflow_to_inf():
            for other in range(right.shape[1]):
                pairs = left + right[:, None, other]
                pairs -= log_totals[:, :, other, None]
                yield pairs.reshape(-1, vocab)

    def _pair_log_totals(self, left: Array, right: Array) -> Array:
        """``log sum exp (left + right)`` of every pair, [problems, beams, others]: one product of matrices."""
        parts, peaks = [], []
        with _overflow_to_inf(), np.errstate(divide="ignore"):
            for scores in (left, right):
                peak = scores.max(axis=-1)
                peak[np.isneginf(peak)] = 0
                parts.append(np.exp(scores - peak[..., None]))
                peaks.append(peak)
            totals = parts[0] @ parts[1].swapaxes(1, 2)
            log_totals = np.log(totals) + peaks[0][:, :, None] + peaks[1][:, None]
            # Where the product has underflowed, or may have lost digits by it, the sums are taken one by one.
            info = np.finfo(self.dtype)
            problem, beam, other = np.nonzero(totals < left.shape[-1] * info.tiny / info.eps)
            for some in _pieces(len(problem), left.shape[-1]):
                pairs = left[problem[some], beam[some]] + right[problem[some], other[some]]
                peak = pairs.max(axis=-1)
                shift = np.where(np.isneginf(peak), 0, peak)
                log_total = shift + np.log(np.exp(pairs - shift[:, None]).sum(axis=-1))
                log_totals[problem[some], beam[some], other[some]] = log_total
        return log_totals

    def best_other(self, log_probs: Iterable[Array], offsets: np.ndarray) -> tuple[Array, Array]:
        best = which = None
        with _overflow_to_inf():
            for other, pairs in enumerate(log_probs):
                shift = self.array(offsets[:, other]).repeat(len(pairs) // len(offsets))
                reach = pairs + shift[:, None]
                if best is None or which is None:
                    best, which = reach, np.zeros(reach.shape, dtype=np.int32)
                    continue
                better = reach > best
                np.copyto(best, reach, where=better)
                which[better] = other
        return best, which

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        return _take_top_k(x.copy(), k)


def _pieces(rows: int, size: int) -> list[slice]:
    """Slices of so many rows of that size, each of which several operations find in a cache, one after the other."""
    at_a_time = max(1, IN_CACHE // size)
    return [slice(begin, begin + at_a_time) for begin in range(0, rows, at_a_time)]


def _overflow_to_inf() -> np.errstate:
    """A sum below the lowest number is -inf, and meant so: models mask with the lowest number of their dtype."""
    return np.errstate(over="ignore")


def _take_top_k(x: Array, k: int) -> tuple[Array, Array]:
    """`NumpyBackend.top_k`, using ``x`` up."""
    rows, n = x.shape
    k = min(k, n)
    if k > PASSES_UP_TO:
        return _partial_sort(x, k)
    values = np.empty((rows, k), dtype=x.dtype)
    index = np.empty((rows, k), dtype=np.int64)
    every = np.arange(rows)
    for rank in range(k):
        index[:, rank] = at = x.argmax(axis=1)  # the first of equal values
        values[:, rank] = x[every, at]
        x[every, at] = -np.inf
    for row in np.flatnonzero(np.isneginf(values).any(axis=1)):
        # Fewer than k values are alive: the dead places take the lowest indices left, so that none stands twice.
        alive = int((values[row] > -np.inf).sum())
        taken = index[row, :alive]
        index[row, alive:] = np.setdiff1d(np.arange(k), taken)[: k - alive]
    return values, index


def _partial_sort(x: Array, k: int) -> tuple[Array, Array]:
    values = np.empty((len(x), k), dtype=x.dtype)
    index = np.empty((len(x), k), dtype=np.int64)
    for row, line in enumerate(x):
        edge = np.partition(line, -k)[-k]
        candidates = np.flatnonzero(line >= edge)
        index[row] = candidates[np.argsort(-line[candidates], kind="stable")][:k]
        values[row] = line[index[row]]
    return values, index
