"""The operations that a backend has, and what both backends do alike."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""An array of the backend's library."""

Floats: TypeAlias = np.ndarray
"""A NumPy array of float64."""

Ints: TypeAlias = np.ndarray
"""A NumPy array of int64."""

Best: TypeAlias = tuple[np.ndarray, Ints, Floats]
"""Values, flat indices and scores of the best candidates; see ``Backend.best``."""

HIGHEST_LOG_PROB = 1e-3
"""Largest log-probability that is accepted. Rounding in half precision gives values slightly above 0."""


class Normalised(NamedTuple):
    """Scores in the form that a backend keeps: the log-probability of a token is ``scores - normaliser``."""

    scores: Array  # [rows, vocab]
    normaliser: Floats | None  # [rows]; None: the scores are log-probabilities already
    faulty: list[int]  # rows with NaN or +inf, or with a log-probability above 0


class Backend(abc.ABC):
    """The operations of one array library. -inf means impossible, and no operation changes its input.

    Attributes:
        library: The module, NumPy or PyTorch.
        in_cache: Number of entries that stay in a processor's cache from one operation to the next.
        dtype: The dtype of scores.
    """

    library: ClassVar[Any]
    in_cache: ClassVar[int]
    dtype: Any

    @abc.abstractmethod
    def indices(self, values: Any) -> Array:
        """Return a NumPy array or a list as an int64 array on the scores' device."""

    @abc.abstractmethod
    def array(self, values: Any) -> Array:
        """Return a list, or an array of either library, as an array of the scores' dtype and device."""

    @abc.abstractmethod
    def normalise(self, scores: Array, normalized: bool) -> Normalised:
        """Prepare a scorer's scores [rows, vocab]. A row of only -inf stays so and is not faulty.

        The returned array may be the scorer's own. It is never a view of a larger array, which would stay in memory.
        """

    @abc.abstractmethod
    def log_probs(self, scores: Array, normalized: bool) -> tuple[Array, list[int]]:
        """Return log-probabilities of scores [rows, vocab], with their autograd graph if any, and the faulty rows."""

    @abc.abstractmethod
    def gather(self, blocks: Sequence[Array], block_of: Ints, rows: Ints, stays: bool = False) -> Array:
        """Return row ``rows[i]`` of ``blocks[block_of[i]]`` for each i, [rows, vocab].

        With ``stays``, the returned array is the caller's to keep. Otherwise the next call overwrites it.
        """

    @abc.abstractmethod
    def numbers(self, scores: Array) -> Floats:
        """Return a new NumPy array of float64 with the same values."""

    @abc.abstractmethod
    def pick(self, scores: Array, rows: Ints, tokens: Ints) -> Floats:
        """Return ``scores[rows[i], tokens[i]]`` for each i."""

    def pick_from(self, blocks: Sequence[Array], block_of: Ints, rows: Ints, tokens: Ints) -> Floats:
        """Return ``blocks[block_of[i]][rows[i], tokens[i]]`` for each i."""
        picked = np.empty(len(rows))
        for number, block in enumerate(blocks):
            here = block_of == number
            picked[here] = self.pick(block, rows[here], tokens[here])
        return picked

    @abc.abstractmethod
    def max_over_beams(self, scores: Array, offsets: Floats, weight: float) -> Array:
        """Return ``weight * max over beams of (scores + offsets)``, [problems, vocab].

        Args:
            scores: [problems * beams, vocab].
            offsets: [problems, beams].
            weight: Factor of the maximum.
        """

    @abc.abstractmethod
    def best(
        self, scores: Array, offsets: Floats, weight: float, steer: Array | None, banned: Sequence[int], k: int
    ) -> Best:
        """Return the k best of ``weight * scores + offsets + steer`` over all beams and tokens of each problem.

        Args:
            scores: [problems * beams, vocab].
            offsets: [problems, beams]; -inf: no such beam.
            weight: Factor of the scores. 0 drops them, -inf entries included.
            steer: [problems, vocab], added for every beam, or [problems, beams, vocab].
            banned: Tokens that are never chosen.
            k: Number of candidates.

        Returns:
            NumPy arrays [problems, <= k] in the order of ``top_k``: the values, the flat indices
            ``beam * vocab + token``, and the entries of ``scores`` there, as float64.
        """

    @abc.abstractmethod
    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        """Return values and indices of the k largest of each row of [rows, n], both [rows, min(k, n)].

        Values descend. Of equal values, the lower index comes first. The indices of a row are distinct.
        """

    def masks(self, allowed: Sequence[frozenset[int] | None], banned: Sequence[int], vocab_size: int) -> Array:
        """Return 0 for allowed tokens and -inf for others, [problems, vocab]; None allows all except ``banned``."""
        number_of = {tokens: number for number, tokens in enumerate(dict.fromkeys(allowed))}
        masks = np.full((len(number_of), vocab_size), -np.inf, dtype=np.float32)
        for tokens, mask in zip(number_of, masks, strict=True):
            if tokens is None:
                mask[:] = 0
                mask[list(banned)] = -np.inf
            else:
                mask[list(tokens)] = 0
        return self.array(masks)[self.indices([number_of[tokens] for tokens in allowed])]

    def pair_log_probs(self, left: Array, right: Array, problems: int) -> Iterator[Array]:
        """Yield log-probabilities of one softmax over the sum of two scores, for each pair of beams of a problem.

        Args:
            left: [problems * beams, vocab].
            right: [problems * others, vocab].
            problems: Number of problems.

        Yields:
            For each of the others, ``log_softmax(left + right of that other)``, [problems * beams, vocab]. A row is all
            -inf if the two scores leave no token possible.
        """
        vocab = left.shape[-1]
        left, right = left.reshape(problems, -1, vocab), right.reshape(problems, -1, vocab)
        log_totals = self._pair_log_totals(left, right)
        log_totals[self.library.isneginf(log_totals)] = 0  # these sums are all -inf and stay so
        with overflow_to_inf():
            for other in range(right.shape[1]):
                pairs = left + right[:, None, other]
                pairs -= log_totals[:, :, other, None]
                yield pairs.reshape(-1, vocab)

    def _pair_log_totals(self, left: Array, right: Array) -> Array:
        """Return ``log sum exp (left + right)`` of each pair, [problems, beams, others], as one product of matrices."""
        xp, vocab = self.library, left.shape[-1]
        with overflow_to_inf(), np.errstate(divide="ignore"):
            (one, one_peak), (two, two_peak) = self._exp(left), self._exp(right)
            totals = one @ two.swapaxes(1, 2)
            log_totals = xp.log(totals) + one_peak[:, :, None] + two_peak[:, None]
            # If the product may have underflowed, or lost digits by it, the sum of the pair is computed by itself.
            info = xp.finfo(self.dtype)
            lost = xp.where(totals < vocab * info.tiny / info.eps)
            for some in self._pieces(len(lost[0]), vocab):
                problem, beam, other = (places[some] for places in lost)
                pairs, peak = self._exp(left[problem, beam] + right[problem, other])
                log_totals[problem, beam, other] = xp.log(pairs.sum(axis=-1)) + peak
        return log_totals

    def _exp(self, scores: Array) -> tuple[Array, Array]:
        """Return ``exp(scores - peak)`` and the peak of each row; a row of only -inf has the peak 0."""
        peak = self.library.amax(scores, axis=-1)
        peak[self.library.isneginf(peak)] = 0
        shifted = scores - peak[..., None]
        return self.library.exp(shifted, out=shifted), peak

    def best_other(self, log_probs: Iterable[Array], offsets: Floats) -> tuple[Array, Array]:
        """Return the largest of ``log_probs + offsets`` over the others, and the number of the other that has it.

        Args:
            log_probs: For each of the others [problems * beams, vocab], such as ``pair_log_probs`` yields.
            offsets: [problems, others]; -inf: no such other.

        Returns:
            Two arrays [problems * beams, vocab]. The second one holds whole numbers, 0 where all are -inf.
        """
        with overflow_to_inf():
            for other, pairs in enumerate(log_probs):
                reach = pairs + self.array(np.repeat(offsets[:, other], len(pairs) // len(offsets)))[:, None]
                if other == 0:
                    best, which = reach, self.library.zeros_like(reach, dtype=self.library.int32)
                else:
                    which[reach > best] = other
                    self.library.maximum(best, reach, out=best)
        return best, which

    def _pieces(self, rows: int, size: int) -> list[slice]:
        """Return slices of rows of this size, each small enough for the cache."""
        at_a_time = max(1, self.in_cache // size)
        return [slice(begin, begin + at_a_time) for begin in range(0, rows, at_a_time)]


def overflow_to_inf() -> np.errstate:
    """Return a context in which sums below the lowest number become -inf silently.

    Models that mask tokens with the lowest number of their dtype make such sums, and -inf is what they mean.
    """
    return np.errstate(over="ignore")
