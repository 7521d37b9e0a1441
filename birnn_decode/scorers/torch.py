"""Scorers from PyTorch decoders whose state is a structure of tensors, or is kept in the decoder's buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from birnn_decode.backend import Array
from birnn_decode.scorers.answers import checked_pair
from birnn_decode.scorers.state import (
    Condition,
    check_rows,
    first_tensor,
    has_cache,
    join_rows,
    put_away,
    select_rows,
    state_bytes,
    taken_out,
)
from birnn_decode.scorers.wrappers import Declared, Wrapper

if TYPE_CHECKING:
    from typing_extensions import Unpack


class TorchScorer(Wrapper):
    """A `Scorer` from a step function over a state of tensors.

    The state is any nesting of tuples, named tuples, lists and dicts of tensors and caches. Which axis of a tensor
    counts the rows is declared, never guessed: ``batch_axis`` is one number for all of them, or the same nesting with a
    number for each tensor, or None for a whole branch that is the same for all rows. ``select`` and ``join`` follow
    from it. A cache that reorders itself has the name of its method, which takes the rows as a tensor, in the place of
    the number: it is called on a copy, and the step is given a copy, too, so that both may change what they are given.

    What the decoder looks at of the image goes into ``condition``, all that changes from step to step into the state.

    Example, a `torch.nn.LSTM`, whose (h, c) have the rows on axis 1::

        def step(tokens, state):
            output, state = lstm(embedding(tokens)[:, None], state)
            return project(output[:, 0]), state

        scorer = TorchScorer(step, start=lambda features: (h0(features)[None], c0(features)[None]), batch_axis=1,
                             encode=lambda images: cnn(torch.stack(images)), vocab_size=10_000,
                             start_token=1, end_token=2, aligned=False, model=captioner)

    Args:
        step: ``(tokens [R], state) -> (scores [R, vocab_size], state)``; tokens are on the device of the state, or else
            of the model. It must not change the tensors of the state it is given.
        start: ``context -> state`` of one row per image.
        batch_axis: see above.
        condition: ``context ->`` nested tensors with the images on axis 0, or None in places; for decoders that look at
            the image at every step: ``step`` is called with ``(tokens, state, the condition of each row)``. Unlike what
            is in the state it is expanded once, and not moved when beams change places within their image.
        normalized: whether ``step`` returns log-probabilities rather than logits.
        aligned: whether all rows of a call must have read equally many tokens (caches); plain RNN states need not.
        declared: what every wrapper is told, ids first; see `Wrapper`.
    """

    def __init__(
        self,
        step: Callable[..., tuple[torch.Tensor, Any]],
        start: Callable[[Any], Any],
        *,
        batch_axis: Any,
        condition: Callable[[Any], Any] | None = None,
        normalized: bool = False,
        aligned: bool = True,
        **declared: Unpack[Declared],
    ):
        super().__init__(**declared)
        self.batch_axis = batch_axis
        self.normalized = normalized
        self.aligned = aligned
        self._start = start
        self._step = step
        self._condition = condition
        if has_cache(batch_axis):
            self.join = None  # type: ignore[assignment]

    def encode(self, images: Sequence[Any]) -> tuple[int, Any]:
        """How many images there are, and whatever the model needs of them."""
        return len(images), super().encode(images)

    def start(self, context: tuple[int, Any]) -> tuple[Condition | None, Any]:
        """What is known of the images, and the state of one row per image.

        Raises:
            ValueError: a tensor of either has another number of rows on its declared axis than there are images.
            TypeError: ``batch_axis`` does not fit the state.
        """
        images, encoded = context
        condition = None
        if self._condition is not None:
            condition = Condition.of(self._condition(encoded), images)
        return condition, self._checked(self._start(encoded), images)

    def step(self, tokens: Array, state: tuple[Condition | None, Any]) -> tuple[torch.Tensor, Any]:
        """Read tokens; checks the new state as `start` does."""
        condition, own = state
        tokens = torch.as_tensor(tokens, device=self._device(condition, own))
        own = taken_out(own, self.batch_axis)
        returned = self._step(tokens, own) if condition is None else self._step(tokens, own, condition.rows())
        scores, own = checked_pair(returned, "TorchScorer's step")
        return scores, (condition, self._checked(own, len(tokens)))

    def _checked(self, state: Any, rows: int) -> Any:
        state = put_away(state, self.batch_axis)
        check_rows(state, rows, self.batch_axis)
        return state

    def select(self, state: tuple[Condition | None, Any], rows: Array) -> tuple[Condition | None, Any]:
        """Gather rows of every tensor."""
        rows = torch.as_tensor(rows, device=self._device(*state))
        selected: tuple[Condition | None, Any] = select_rows(state, rows, (0, self.batch_axis))
        return selected

    def join(self, states: Sequence[tuple[Condition | None, Any]]) -> tuple[Condition | None, Any]:
        """The rows of several states; what is the same for all rows is the first's."""
        joined: tuple[Condition | None, Any] = join_rows(states, (0, self.batch_axis))
        return joined

    def state_bytes(self, state: tuple[Condition | None, Any]) -> int:
        """The memory that a state takes."""
        return state_bytes(state[1])

    def _device(self, condition: Condition | None, state: Any) -> torch.device | None:
        """Of the first tensor of the state or the condition, else of the model."""
        tensor = first_tensor(state)
        if tensor is None and condition is not None:
            tensor = first_tensor(condition.known)
        if tensor is None and self._model is not None:
            tensor = next(self._model.parameters(), None)
        return None if tensor is None else tensor.device


class BufferScorer(TorchScorer):
    """A `Scorer` of a decoder that keeps its state in its own buffers, as Meshed-Memory Transformers do.

    Such a decoder is not re-entrant. Here its buffers are taken out after each call, and copies of the rows' own are
    put back before the next; in between they are what they were before. So one decoder serves any number of searches,
    those of both directions included.

    Args:
        step: ``(tokens [R], memory) -> scores [R, vocab_size]``; ``memory`` has the rows of what ``encode`` returned.
        buffers: names of the decoder's buffers that are its state, as ``model.named_buffers()`` gives them.
        stateful: ``rows -> context manager`` inside which the decoder keeps its state, from its beginning on.
        model: the decoder, or what it belongs to.
        batch_axis: the axis of the buffers that counts the rows; for several kinds of them a dict from name to axis.
        normalized: whether ``step`` returns log-probabilities rather than logits.
        declared: what every wrapper is told, ids first; see `Wrapper`. ``encode`` returns tensors with the images on
            axis 0, nested as the memory is to be.

    Raises:
        ValueError: the model has no such buffer.
    """

    def __init__(
        self,
        step: Callable[[torch.Tensor, Any], torch.Tensor],
        buffers: Sequence[str],
        stateful: Callable[[int], contextlib.AbstractContextManager[Any]],
        *,
        model: torch.nn.Module,
        batch_axis: Any = 0,
        normalized: bool = False,
        **declared: Any,
    ):
        modules = dict(model.named_modules())
        self._places: dict[str, tuple[dict[str, Any], str]] = {}
        for name in buffers:
            path, _, own = name.rpartition(".")
            if path not in modules or own not in modules[path]._buffers:
                there = ", ".join(name for name, _ in model.named_buffers()) or "none at all"
                raise ValueError(f"{type(model).__name__} has no buffer {name!r}; it has {there}")
            self._places[name] = modules[path]._buffers, own

        def begin(memory: Any) -> Any:
            tensor = first_tensor(memory)
            with self._kept(), stateful(0 if tensor is None else len(tensor)):
                return self._taken()

        def advance(tokens: torch.Tensor, own: Any, memory: Any) -> tuple[torch.Tensor, Any]:
            with self._kept(), stateful(len(tokens)):
                # A decoder may count in place.
                self._put({name: buffer.clone() for name, buffer in own.items()})
                return step(tokens, memory), self._taken()

        super().__init__(
            advance,
            begin,
            batch_axis=batch_axis,
            condition=lambda memory: memory,
            normalized=normalized,
            aligned=True,
            model=model,
            **declared,
        )

    def _taken(self) -> dict[str, torch.Tensor]:
        return {name: buffers[own] for name, (buffers, own) in self._places.items()}

    def _put(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, (buffers, own) in self._places.items():
            buffers[own] = state[name]

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        before = self._taken()
        try:
            yield
        finally:
            self._put(before)
