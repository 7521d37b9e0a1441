"""The backend for PyTorch tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from birnn_decode.backend import HIGHEST_LOG_PROB, Array, Normalised, same

INF = float("inf")
PIECE = 128  # of a row whose largest entries are looked for
LONG = 2**15  # so many entries are worth several operations instead of one
IN_CACHE = 2**18  # entries that several operations, one after the other, find in a processor's cache


class TorchBackend:
    """See `birnn_decode.backend.Backend`.

    Scores are kept as the scorer gave them, beside their log-normaliser, so that nothing of their size is written that
    is to stay. What is computed from them goes into buffers that are used again and again: fresh memory is handed out
    page by page, which takes longer than the computation.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device):
        self.dtype = dtype
        self.device = device
        self._buffers: dict[str, torch.Tensor] = {}
        self._banned: tuple[Sequence[int], Array] | None = None

    def indices(self, values: Any) -> Array:
        return torch.as_tensor(values, dtype=torch.int64, device=self.device)

    def array(self, values: Any) -> Array:
        if isinstance(values, np.ndarray) and not values.flags.writeable:  # a scorer's own, from the other direction
            values = values.copy()
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def normalise(self, scores: Array, normalized: bool) -> Normalised:
        scores = scores.to(dtype=self.dtype, device=self.device)
        if scores.untyped_storage().nbytes() > scores.nbytes or not scores.is_contiguous():
            scores = scores.clone(memory_format=torch.contiguous_format)
        if normalized:
            return Normalised(scores, None, _rows_where(~(scores.amax(dim=-1) < HIGHEST_LOG_PROB)))
        at_a_time = max(1, IN_CACHE // scores.shape[-1])
        if len(scores) <= at_a_time:
            normaliser = self.numbers(self._log_sum_exp(scores.detach()))
        else:
            normaliser = self.numbers(torch.cat([self._log_sum_exp(some) for some in scores.detach().split(at_a_time)]))
        # NaN or +inf anywhere makes the whole row NaN; so does a row of -inf alone, which is left as it is.
        if not np.isnan(normaliser).any():
            return Normalised(scores, normaliser, [])
        dead = scores.isneginf().all(dim=-1).cpu().numpy()
        faulty = np.flatnonzero(np.isnan(normaliser) & ~dead).tolist()
        normaliser[dead] = 0
        return Normalised(scores, normaliser, faulty)

    def _log_sum_exp(self, scores: torch.Tensor) -> torch.Tensor:
        """[rows]; several times as fast as `torch.logsumexp`."""
        log_probs = torch.log_softmax(scores, dim=-1, out=self._buffer("log_probs", scores.shape))
        return scores.amax(dim=-1) - log_probs.amax(dim=-1)

    def log_probs(self, scores: Array, normalized: bool) -> tuple[Array, list[int]]:
        scores = scores.to(dtype=self.dtype, device=self.device)
        faulty = self.normalise(scores, normalized).faulty
        if normalized:
            return scores, faulty
        # Filled before and after, so that a graph has no NaN to spread.
        dead = scores.detach().isneginf().all(dim=-1, keepdim=True)
        return torch.log_softmax(scores.masked_fill(dead, 0), dim=-1).masked_fill(dead, -INF), faulty

    def gather(self, blocks: Sequence[Array], block_of: np.ndarray, rows: np.ndarray, stays: bool = False) -> Array:
        shape = (len(rows), blocks[0].shape[-1])
        gathered = (
            torch.empty(shape, dtype=self.dtype, device=self.device) if stays else self._buffer("gathered", shape)
        )
        if len(blocks) == 1:
            return torch.index_select(blocks[0], 0, self.indices(rows), out=gathered)
        for number, block in enumerate(blocks):
            here = np.flatnonzero(block_of == number)
            gathered.index_copy_(0, self.indices(here), block.index_select(0, self.indices(rows[here])))
        return gathered

    def numbers(self, scores: Array) -> np.ndarray:
        numbers: np.ndarray = scores.detach().cpu().numpy().astype(np.float64)
        return numbers

    def pick(self, scores: Array, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return self.numbers(scores.take(self.indices(rows * scores.shape[-1] + tokens)))

    def max_over_beams(self, scores: Array, offsets: np.ndarray, weight: float) -> Array:
        shift = self.array(offsets)
        by_problem = scores.view(*shift.shape, -1)
        reach = torch.add(by_problem, shift[..., None], out=self._buffer("reach", by_problem.shape)).amax(dim=1)
        return reach if weight == 1 else reach * weight

    def masks(self, allowed: Sequence[frozenset[int] | None], banned: Sequence[int], vocab_size: int) -> Array:
        masks = torch.empty((len(allowed), vocab_size), dtype=self.dtype, device=self.device)
        for tokens, rows in same(allowed).items():
            mask = torch.zeros(vocab_size, dtype=self.dtype, device=self.device)
            if tokens is None:
                mask[self.indices(banned)] = -INF
            else:
                mask.fill_(-INF)
                mask[self.indices(sorted(tokens))] = 0
            masks[self.indices(rows)] = mask
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
        scores = scores.view(problems, beams, -1)
        total = self._buffer("total", scores.shape)
        if weight == 1:
            torch.add(scores, shift[..., None], out=total)
        elif weight:
            torch.mul(scores, weight, out=total).add_(shift[..., None])
        else:
            total.copy_(shift[..., None])
        if steer is not None:
            total += steer.reshape(problems, -1, steer.shape[-1])
        if banned:
            if self._banned is None or self._banned[0] != banned:
                self._banned = banned, self.indices(banned)
            total.index_fill_(-1, self._banned[1], -INF)
        values, index = self.top_k(total.view(problems, -1), k)
        chosen = scores.view(problems, -1).gather(1, index)
        return values.cpu().numpy(), index.cpu().numpy(), self.numbers(chosen)

    def pair_log_probs(self, left: Array, right: Array, problems: int) -> Iterator[Array]:
        left, right = (scores.view(problems, -1, scores.shape[-1]) for scores in (left, right))
        log_totals = self._pair_log_totals(left, right)
        log_totals.masked_fill_(log_totals.isneginf(), 0)  # all of its sums are -inf, and stay so
        for other in range(right.shape[1]):
            pairs = left + right[:, None, other]
            yield pairs.sub_(log_totals[:, :, other, None]).flatten(0, 1)

    def _pair_log_totals(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """``log sum exp (left + right)`` of every pair, [problems, beams, others]: one product of matrices."""
        parts, peaks = [], []
        for scores in (left, right):
            peak = scores.amax(dim=-1)
            peak.masked_fill_(peak.isneginf(), 0)
            parts.append((scores - peak[..., None]).exp_())
            peaks.append(peak)
        totals = parts[0] @ parts[1].mT
        log_totals = totals.log() + peaks[0][:, :, None] + peaks[1][:, None]
        # Where the product has underflowed, or may have lost digits by it, the sums are taken one by one.
        info = torch.finfo(self.dtype)
        lost = (totals < left.shape[-1] * info.tiny / info.eps).nonzero()
        at_a_time = max(1, IN_CACHE // left.shape[-1])
        for begin in range(0, len(lost), at_a_time):
            problem, beam, other = lost[begin : begin + at_a_time].unbind(1)
            log_totals[problem, beam, other] = torch.logsumexp(left[problem, beam] + right[problem, other], dim=-1)
        return log_totals

    def best_other(self, log_probs: Iterable[Array], offsets: np.ndarray) -> tuple[Array, Array]:
        best = which = None
        for other, pairs in enumerate(log_probs):
            shift = self.array(offsets[:, other]).repeat_interleave(len(pairs) // len(offsets))
            reach = pairs + shift[:, None]
            if best is None or which is None:
                best, which = reach, torch.zeros_like(reach, dtype=torch.int32)
                continue
            which.masked_fill_(reach > best, other)
            torch.maximum(best, reach, out=best)
        return best, which

    def _buffer(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """A tensor of a shape that holds anything, the same memory whenever a name is asked for."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return buffer[:size].view(*shape)

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        k = min(k, x.shape[-1])
        # One more than asked for, so that a tie across the edge shows: torch.topk breaks ties as it likes.
        values, index = _largest(x, min(k + 1, x.shape[-1]))
        seen = values.cpu().numpy()
        same = seen[:, 1:] == seen[:, :-1]
        values, index = values[:, :k], index[:, :k]
        if same.any() and (same & (seen[:, 1:] > -INF)).any():
            rows = self.indices(np.flatnonzero((same & (seen[:, 1:] > -INF)).any(axis=-1)))
            ordered = x[rows].sort(dim=-1, descending=True, stable=True)
            values, index = values.clone(), index.clone()
            values[rows], index[rows] = ordered.values[:, :k], ordered.indices[:, :k]
        return values, index


def _largest(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `torch.topk` along the last axis, for rows of any length.

    The k largest of a long row are in the k pieces of it whose maxima are the largest. To find the maxima takes one
    fast pass, and what is left to `torch.topk`, which takes several slow ones, is short.
    """
    pieces = x.shape[-1] // PIECE
    if x.numel() < LONG or pieces < 4 * k:
        return x.topk(k, dim=-1)
    end = pieces * PIECE
    best = x[:, :end].view(len(x), pieces, PIECE).amax(dim=-1).topk(k, dim=-1).indices
    inside = torch.arange(PIECE, device=x.device)
    index = (PIECE * best[..., None] + inside).flatten(1)  # [rows, k * PIECE]
    if end < x.shape[-1]:
        index = torch.cat([index, torch.arange(end, x.shape[-1], device=x.device).expand(len(x), -1)], dim=-1)
    values, at = x.gather(1, index).topk(k, dim=-1)
    return values, index.gather(1, at)


def _rows_where(flags: torch.Tensor) -> list[int]:
    return flags.nonzero().squeeze(-1).tolist() if flags.any() else []
