"""Scorers of models with ``get_logprobs_state``: the family of ImageCaptioning.pytorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from birnn_decode.scorers.state import first_tensor
from birnn_decode.scorers.torch import TorchScorer
from birnn_decode.scorers.wrappers import OPTIONS


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

    OPTIONS = OPTIONS - {"model", "encode"} | {"features"}

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        features: Callable[[Sequence[Any]], Sequence[torch.Tensor | None]],
        **declared: Any,
    ):
        own: Any = model

        def encode(images: Sequence[Any]) -> Any:
            given = features(images)
            if not isinstance(given, (tuple, list)) or not all(
                feature is None or isinstance(feature, torch.Tensor) for feature in given
            ):
                raise TypeError(
                    f"features gave a {type(given).__name__}; it must give a tuple of tensors, or None in places, as "
                    + ("_prepare_feature takes them" if hasattr(own, "_prepare_feature") else "get_logprobs_state does")
                )
            return own._prepare_feature(*given) if hasattr(own, "_prepare_feature") else given

        def start(prepared: Any) -> Any:
            tensor = first_tensor(prepared)
            return own.init_hidden(0 if tensor is None else len(tensor))

        def step(tokens: torch.Tensor, state: Any, prepared: Any) -> tuple[torch.Tensor, Any]:
            log_probs, state = own.get_logprobs_state(tokens, *prepared, state)
            return log_probs, state

        super().__init__(
            step,
            start,
            batch_axis=1,
            condition=tuple,
            normalized=True,
            **{
                "vocab_size": own.vocab_size + 1,
                "start_token": getattr(own, "bos_idx", 0),
                "end_token": getattr(own, "eos_idx", 0),
                "never": {getattr(own, "pad_idx", 0)},
                "encode": encode,
                "model": model,
                **declared,
            },
        )
