"""The calls of a decode, made again straight on the model: what a decode would take if the search took no time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Recorded:
    """A scorer that writes down what it is asked."""

    def __init__(self, scorer: Any):
        self._scorer = scorer
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def step(self, tokens: Any, state: Any) -> Any:
        self.calls.append((tokens, state))
        return self._scorer.step(tokens, state)

    def steps(self, tokens: Any, state: Any) -> Any:
        self.calls.append((tokens, state))
        return self._scorer.steps(tokens, state)


def alone(model: Any, calls: list[tuple[Any, ...]]) -> Callable[[], None]:
    """A program that makes the calls again and keeps nothing that they return; preparing it is not a part of it."""
    if hasattr(model, "project"):
        prepared = [(model.tokens(tokens), state) for tokens, state in calls]

        def steps() -> None:
            for tokens, state in prepared:
                (model.step if tokens.ndim == 1 else model.steps)(tokens, state)

        return steps
    device = model.device
    own = [((tokens if tokens.ndim == 2 else tokens[:, None]), state.cache.own()) for tokens, state in calls]

    def passes() -> None:
        for tokens, cache in own:
            model(_tensor(tokens, device), past_key_values=cache, use_cache=True)

    return passes


def _tensor(tokens: Any, device: Any) -> Any:
    import torch

    return torch.as_tensor(tokens, device=device)
