"""The backend for PyTorch tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from birnn_decode.backend.base import HIGHEST_LOG_PROB, Array, Backend, Best, Floats, Ints, Normalised

PIECE = 128  # entries of one piece of a row, in `_largest`
LONG = 2**15  # from this number of entries on, several fast operations beat one slow one


class TorchBackend(Backend):
    """The operations for PyTorch.

    Scores are kept as the scorer returned them, with their log-normaliser, so that no second array of their size is
    kept. Intermediate results go into buffers that are used again: the operating system hands out new memory page by
    page, which takes longer than the computation.
    """

    library: ClassVar[Any] = torch
    in_cache: ClassVar[int] = 2**18

    def __init__(self, dtype: torch.dtype, device: torch.device):
        self.dtype = dtype
        self.device = device
        self._queues = device.type == "cuda"
        self._buffers: dict[str, torch.Tensor] = {}
        self._views: dict[str, torch.Tensor] = {}  # the last view of each buffer
        self._banned: tuple[Sequence[int], Array] | None = None

    def indices(self, values: Any) -> Array:
        is_array = isinstance(values, np.ndarray) and values.dtype == np.int64
        return self._upload(torch.from_numpy(values) if is_array else torch.as_tensor(values, dtype=torch.int64))

    def array(self, values: Any) -> Array:
        # An array of the scorer of the other direction may be read-only, which PyTorch warns about.
        if isinstance(values, np.ndarray) and not values.flags.writeable:
            values = values.copy()
        return self._upload(torch.as_tensor(values, dtype=self.dtype))

    def _upload(self, values: torch.Tensor) -> torch.Tensor:
        # The copy to a GPU is queued. The copy from one is not: its values would be read too early.
        return values if values.device == self.device else values.to(self.device, non_blocking=self._queues)

    def normalise(self, scores: Array, normalized: bool) -> Normalised:
        scores = scores.to(dtype=self.dtype, device=self.device)
        if scores.untyped_storage().nbytes() > scores.nbytes or not scores.is_contiguous():
            scores = scores.clone(memory_format=torch.contiguous_format)
        if normalized:
            faulty = ~(scores.amax(dim=-1) < HIGHEST_LOG_PROB)  # NaN is not below anything
            return Normalised(scores, None, faulty.nonzero().flatten().tolist())
        normaliser = self.numbers(self._log_sum_exp(scores.detach()))
        # NaN or +inf makes the normaliser of its row NaN. So does a row of only -inf, which stays as it is.
        if not np.isnan(normaliser).any():
            return Normalised(scores, normaliser, [])
        dead = scores.isneginf().all(dim=-1).cpu().numpy()
        normaliser[dead] = 0
        return Normalised(scores, normaliser, np.flatnonzero(np.isnan(normaliser)).tolist())

    def _log_sum_exp(self, scores: torch.Tensor) -> torch.Tensor:
        """Return log sum exp of each row, [rows], several times as fast as ``torch.logsumexp``."""
        pieces = self._pieces(len(scores), scores.shape[-1])
        if len(pieces) > 1:
            return torch.cat([self._log_sum_exp(scores[piece]) for piece in pieces])
        log_probs = torch.log_softmax(scores, dim=-1, out=self._buffer("log_probs", scores.shape))
        return scores.amax(dim=-1) - log_probs.amax(dim=-1)

    def log_probs(self, scores: Array, normalized: bool) -> tuple[Array, list[int]]:
        scores = scores.to(dtype=self.dtype, device=self.device)
        faulty = self.normalise(scores, normalized).faulty
        if normalized:
            return scores, faulty
        # Dead rows are filled before and after log_softmax, so that no NaN spreads in the graph.
        dead = scores.detach().isneginf().all(dim=-1, keepdim=True)
        return torch.log_softmax(scores.masked_fill(dead, 0), dim=-1).masked_fill(dead, -math.inf), faulty

    def gather(self, blocks: Sequence[Array], block_of: Ints, rows: Ints, stays: bool = False) -> Array:
        shape = (len(rows), blocks[0].shape[-1])
        gathered = (
            torch.empty(shape, dtype=self.dtype, device=self.device) if stays else self._buffer("gathered", shape)
        )
        if len(blocks) == 1:
            return torch.index_select(blocks[0], 0, self.indices(rows), out=gathered)
        order, bounds = _by_block(block_of, len(blocks))
        places, own = self.indices(np.stack([np.argsort(order), rows[order]]))
        ordered = self._buffer("ordered", shape)
        for block, (begin, end) in zip(blocks, bounds, strict=True):
            torch.index_select(block, 0, own[begin:end], out=ordered[begin:end])
        return torch.index_select(ordered, 0, places, out=gathered)

    def numbers(self, scores: Array) -> Floats:
        return scores.detach().cpu().numpy().astype(np.float64)

    def pick(self, scores: Array, rows: Ints, tokens: Ints) -> Floats:
        return self.numbers(scores.take(self.indices(rows * scores.shape[-1] + tokens)))

    def pick_from(self, blocks: Sequence[Array], block_of: Ints, rows: Ints, tokens: Ints) -> Floats:
        if len(blocks) < 2:
            return np.empty(0) if not blocks else self.pick(blocks[0], rows, tokens)
        order, bounds = _by_block(block_of, len(blocks))
        flat = self.indices((rows * blocks[0].shape[-1] + tokens)[order])
        picked = np.empty(len(rows))
        picked[order] = self.numbers(
            torch.cat([block.take(flat[begin:end]) for block, (begin, end) in zip(blocks, bounds, strict=True)])
        )
        return picked

    def max_over_beams(self, scores: Array, offsets: Floats, weight: float) -> Array:
        shift = self.array(offsets)
        by_problem = scores.view(*shift.shape, -1)
        reach = torch.add(by_problem, shift[..., None], out=self._buffer("reach", by_problem.shape)).amax(dim=1)
        return reach if weight == 1 else reach * weight

    def best(
        self, scores: Array, offsets: Floats, weight: float, steer: Array | None, banned: Sequence[int], k: int
    ) -> Best:
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
            total.index_fill_(-1, self._banned[1], -math.inf)
        return self._best_of(total.view(problems, -1), scores.view(problems, -1), k)

    def _best_of(self, total: torch.Tensor, scores: torch.Tensor, k: int) -> Best:
        """Return the k largest of each row of ``total``, their indices, and what ``scores`` has there.

        All three leave the device in one transfer.
        """
        k = min(k, total.shape[-1])
        # One more than k, to see a tie across the edge: torch.topk orders equal values arbitrarily.
        values, index = _largest(total, min(k + 1, total.shape[-1]))
        picked = scores.gather(1, index)
        fetched = torch.stack([values.double(), index.double(), picked.double()]).cpu().numpy()
        if _tied(fetched[0]).any():
            values, index = self.top_k(total, k)
            fetched = torch.stack([values.double(), index.double(), scores.gather(1, index).double()]).cpu().numpy()
        values_there, index_there, picked_there = fetched[:, :, :k]
        return values_there, index_there.astype(np.int64), picked_there

    def _buffer(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """Return an uninitialised tensor of a shape, with the same memory each time for the same name."""
        view = self._views.get(name)
        if view is None or view.shape != shape:
            size = math.prod(shape)
            buffer = self._buffers.get(name)
            if buffer is None or len(buffer) < size:
                buffer = self._buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
            view = self._views[name] = buffer[:size].view(*shape)
        return view

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        k = min(k, x.shape[-1])
        # One more than k, to see a tie across the edge: torch.topk orders equal values arbitrarily.
        values, index = _largest(x, min(k + 1, x.shape[-1]))
        tied = _tied(values.cpu().numpy())
        values, index = values[:, :k], index[:, :k]
        if tied.any():
            rows = self.indices(np.flatnonzero(tied))
            ordered = x[rows].sort(dim=-1, descending=True, stable=True)
            values, index = values.clone(), index.clone()
            values[rows], index[rows] = ordered.values[:, :k], ordered.indices[:, :k]
        return values, index


def _by_block(block_of: np.ndarray, blocks: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return an order that puts those of the same block together, and where each block begins and ends in it."""
    ends = [0, *np.cumsum(np.bincount(block_of, minlength=blocks)).tolist()]
    return np.argsort(block_of, kind="stable"), list(itertools.pairwise(ends))


def _tied(values: np.ndarray) -> np.ndarray:
    """Tell in which rows of descending values two that are possible are equal."""
    return ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -math.inf)).any(axis=-1)


def _largest(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what ``torch.topk`` does along the last axis, faster for long rows.

    The k largest entries of a row are in the k pieces of it with the largest maxima. Finding the maxima takes one fast
    pass. ``torch.topk`` takes several slow ones, and here it sees only those pieces.
    """
    pieces = x.shape[-1] // PIECE
    if x.numel() < LONG or pieces < 4 * k:
        return x.topk(k, dim=-1)
    end = pieces * PIECE
    best = x[:, :end].view(len(x), pieces, PIECE).amax(dim=-1).topk(k, dim=-1).indices
    index = (PIECE * best[..., None] + torch.arange(PIECE, device=x.device)).flatten(1)  # [rows, k * PIECE]
    if end < x.shape[-1]:
        index = torch.cat([index, torch.arange(end, x.shape[-1], device=x.device).expand(len(x), -1)], dim=-1)
    values, at = x.gather(1, index).topk(k, dim=-1)
    return values, index.gather(1, at)
