"""Scorers of models with ``get_logprobs_state``: the family of ImageCaptioning.pytorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from birnn_decode.scorers.torch import TorchScorer


class LogprobsStateScorer(TorchScorer):
    """A `Scorer` of a model that is stepped by ``get_logprobs_state(it, *features, state)``.

    Models of this family (fc, att2in, up-down, AoA, transformer) begin, end and pad with id 0, have one id more than
    words, return log-probabilities, and have their rows on axis 1 of every tensor of the state; a transformer's state
    is an empty list at first, and then all tokens read so far. One that takes a state row of zeros to mean the first
    step is given exactly the rows that it returned.

    Args:
        model: has ``get_logprobs_state`` and ``init_hidden(rows)``.
        features: ``list of images -> what get_logprobs_state takes between tokens and state``: a tuple of tensors with
            one row per image, or None in places. A model that has ``_prepare_feature`` is called with it, so that
            ``features`` gives what that takes: ``(fc_feats, att_feats, att_masks)``.
        declared: see `Wrapper`; the ids and the size of the vocabulary are the model's own where they are not given.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        features: Callable[[Sequence[Any]], Sequence[torch.Tensor | None]],
        **declared: Any,
    ):
        own: Any = model

        def start(encoded: Sequence[torch.Tensor | None]) -> Any:
            prepared = own._prepare_feature(*encoded) if hasattr(own, "_prepare_feature") else encoded
            rows = next((len(feature) for feature in encoded if feature is not None), 0)
            there = {place: feature for place, feature in enumerate(prepared) if feature is not None}
            return (len(prepared), there), own.init_hidden(rows)

        def step(tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            (places, there), memory = state
            log_probs, memory = own.get_logprobs_state(tokens, *map(there.get, range(places)), memory)
            return log_probs, (state[0], memory)

        super().__init__(
            step,
            start,
            batch_axis=((None, 0), 1),
            normalized=True,
            **{
                "vocab_size": own.vocab_size + 1,
                "start_token": getattr(own, "bos_idx", 0),
                "end_token": getattr(own, "eos_idx", 0),
                "never": {getattr(own, "pad_idx", 0)},
                "encode": features,
                "model": model,
                **declared,
            },
        )
