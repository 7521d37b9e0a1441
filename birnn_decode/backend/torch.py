"""The backend for PyTorch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from birnn_decode.backend import HIGHEST_LOG_PROB, Array, Normalised

INF = float("inf")


class TorchBackend:
    """See `birnn_decode.backend.Backend`. Scores are kept as log-probabilities: `log_softmax` is one fused pass."""

    def __init__(self, dtype: torch.dtype, device: torch.device):
        self.dtype = dtype
        self.device = device

    def indices(self, values: Sequence[int]) -> Array:
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def array(self, values: Any) -> Array:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def normalise(self, scores: Array, normalized: bool) -> Normalised:
        scores = scores.to(dtype=self.dtype, device=self.device)
        if normalized:
            if scores.untyped_storage().nbytes() > scores.nbytes or not scores.is_contiguous():
                scores = scores.clone(memory_format=torch.contiguous_format)
            return Normalised(scores, None, _rows_where(~(scores.amax(dim=-1) < HIGHEST_LOG_PROB)))
        log_probs = torch.log_softmax(scores, dim=-1)
        # A NaN or +inf anywhere makes the whole row NaN, so one column shows it; so does a row of -inf alone.
        suspects = _rows_where(log_probs[:, 0].isnan())
        if not suspects:
            return Normalised(log_probs, None, [])
        is_dead = scores[suspects].isneginf().all(dim=-1).tolist()
        dead = self.indices([row for row, flag in zip(suspects, is_dead, strict=True) if flag])
        # Filled before and after, so that a graph has no NaN to spread.
        log_probs = torch.log_softmax(scores.index_fill(0, dead, 0), dim=-1).index_fill(0, dead, -INF)
        return Normalised(log_probs, None, [row for row, flag in zip(suspects, is_dead, strict=True) if not flag])

    def gather(self, blocks: Sequence[Array], rows: Sequence[tuple[int, int]]) -> Array:
        if len(blocks) == 1:
            return blocks[0].index_select(0, self.indices([row for _, row in rows]))
        gathered = torch.empty((len(rows), blocks[0].shape[-1]), dtype=self.dtype, device=self.device)
        for number, block in enumerate(blocks):
            here = [place for place, (block_of, _) in enumerate(rows) if block_of == number]
            wanted = self.indices([rows[place][1] for place in here])
            gathered.index_copy_(0, self.indices(here), block.index_select(0, wanted))
        return gathered

    def numbers(self, scores: Array) -> np.ndarray:
        numbers: np.ndarray = scores.detach().to("cpu", torch.float64, copy=True).numpy()
        return numbers

    def pick(self, scores: Array, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
        picked: list[float] = scores[self.indices(rows), self.indices(tokens)].tolist()
        return picked

    def max_over_beams(self, scores: Array, offsets: Sequence[Sequence[float]], weight: float) -> Array:
        shift = self.array(offsets)
        reach = (scores.reshape(*shift.shape, -1) + shift[..., None]).amax(dim=1)
        return reach if weight == 1 else reach * weight

    def masks(self, allowed: Sequence[frozenset[int] | None], banned: Sequence[int], vocab_size: int) -> Array:
        masks = torch.zeros((len(allowed), vocab_size), dtype=self.dtype, device=self.device)
        for mask, tokens in zip(masks, allowed, strict=True):
            if tokens is None:
                mask[self.indices(banned)] = -INF
            else:
                mask.fill_(-INF)
                mask[self.indices(sorted(tokens))] = 0
        return masks

    def best(
        self,
        scores: Array,
        offsets: Sequence[Sequence[float]],
        weight: float,
        steer: Array | None,
        banned: Sequence[int],
        k: int,
    ) -> tuple[list[list[float]], list[list[int]]]:
        shift = self.array(offsets)
        problems, beams = shift.shape
        scores = scores.reshape(problems, beams, -1)
        if weight == 0:
            scores = torch.zeros_like(scores)
        elif weight != 1:
            scores = scores * weight
        total = scores + shift[..., None]
        if steer is not None:
            total += steer[:, None]
        total[..., self.indices(banned)] = -INF
        values, index = self.top_k(total.reshape(problems, -1), k)
        return values.tolist(), index.tolist()

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        k = min(k, x.shape[-1])
        # One more than asked for, so that a tie across the edge shows: torch.topk breaks ties as it likes.
        values, index = x.topk(min(k + 1, x.shape[-1]), dim=-1)
        tied = _rows_where(((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -INF)).any(dim=-1))
        values, index = values[:, :k], index[:, :k]
        if tied:
            ordered = x[tied].sort(dim=-1, descending=True, stable=True)
            values, index = values.clone(), index.clone()
            values[tied], index[tied] = ordered.values[:, :k], ordered.indices[:, :k]
        return values, index


def _rows_where(flags: torch.Tensor) -> list[int]:
    return flags.nonzero().squeeze(-1).tolist() if flags.any() else []
