"""Scorers from PyTorch decoders whose state is a structure of tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch

from birnn_decode.backend import Array
from birnn_decode.template import Vocabulary


class TorchScorer:
    """A `Scorer` from a step function over a state of tensors.

    The state is any nesting of tuples, named tuples, lists and dicts of tensors. Which axis of a tensor counts the rows
    is declared, never guessed: ``batch_axis`` is one number for all of them, or the same nesting with a number for each
    tensor, or None for a whole branch that is the same for all rows. ``select`` and ``join`` follow from it.

    Example, a `torch.nn.LSTM`, whose (h, c) have the rows on axis 1::

        def step(tokens, state):
            output, state = lstm(embedding(tokens)[:, None], state)
            return project(output[:, 0]), state

        scorer = TorchScorer(step, start=lambda features: (h0(features)[None], c0(features)[None]), batch_axis=1,
                             encode=lambda images: cnn(torch.stack(images)), vocab_size=10_000,
                             start_token=1, end_token=2, aligned=False, model=captioner)

    Args:
        step: ``(tokens [R], state) -> (scores [R, vocab_size], state)``; tokens are on the device of the state. It must
            not change the tensors of the state it is given.
        start: ``context -> state`` of one row per image.
        batch_axis: see above.
        vocab_size: number of ids.
        start_token: begins a sentence in this model's reading direction.
        end_token: ends it.
        encode: ``list of images -> context``; the list itself if not given.
        normalized: whether ``step`` returns log-probabilities rather than logits.
        aligned: whether all rows of a call must have read equally many tokens (caches); plain RNN states need not.
        never: ids that are no words; START and END always are.
        vocabulary: text to ids and back.
        model: what all of this belongs to: it is put in eval mode while decoding, and back. Without it, that is up to
            you; dropout left on gives another answer every time.
    """

    def __init__(
        self,
        step: Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]],
        start: Callable[[Any], Any],
        *,
        batch_axis: Any,
        vocab_size: int,
        start_token: int,
        end_token: int,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        normalized: bool = False,
        aligned: bool = True,
        never: Collection[int] = (),
        vocabulary: Vocabulary | None = None,
        model: torch.nn.Module | None = None,
    ):
        self.batch_axis = batch_axis
        self.vocab_size = vocab_size
        self.start_token = start_token
        self.end_token = end_token
        self.normalized = normalized
        self.aligned = aligned
        self.never = frozenset(never)
        self.vocabulary = vocabulary
        self._model = model
        self._encode = encode or list
        self._start = start
        self._step = step

    def modules(self) -> Iterator[torch.nn.Module]:
        """What is put in eval mode while decoding."""
        return iter(()) if self._model is None else self._model.modules()

    def encode(self, images: Sequence[Any]) -> tuple[int, Any]:
        """How many images there are, and whatever the model needs of them."""
        return len(images), self._encode(images)

    def start(self, context: tuple[int, Any]) -> Any:
        """The state of one row per image.

        Raises:
            ValueError: a tensor of the state has another number of rows on its declared axis than there are images.
            TypeError: ``batch_axis`` does not fit the state.
        """
        images, encoded = context
        state = self._start(encoded)
        check_rows(state, images, self.batch_axis)
        return state

    def step(self, tokens: Array, state: Any) -> tuple[torch.Tensor, Any]:
        """Read tokens; checks the new state as `start` does."""
        device = next((tensor.device for _, tensor, _ in _leaves(state, self.batch_axis)), torch.device("cpu"))
        scores, state = self._step(torch.as_tensor(tokens, device=device), state)
        check_rows(state, len(tokens), self.batch_axis)
        return scores, state

    def select(self, state: Any, rows: Array) -> Any:
        """Gather rows of every tensor."""
        return select_rows(state, rows, self.batch_axis)

    def join(self, states: Sequence[Any]) -> Any:
        """The rows of several states; what is the same for all rows is the first's."""
        return join_rows(states, self.batch_axis)


def select_rows(state: Any, rows: Array, axes: Any) -> Any:
    """A structure of tensors with the given rows of each; ``axes`` as `TorchScorer`'s ``batch_axis``."""

    def gather(tensors: list[torch.Tensor], axis: int) -> torch.Tensor:
        return tensors[0].index_select(axis, torch.as_tensor(rows, device=tensors[0].device))

    return _map(gather, axes, state)


def join_rows(states: Sequence[Any], axes: Any) -> Any:
    """One structure of the rows of several, one structure after another."""
    return _map(lambda tensors, axis: torch.cat(tensors, dim=axis), axes, *states)


def check_rows(state: Any, rows: int, axes: Any) -> None:
    """Check that every tensor has as many rows as there should be, where they are declared to be.

    Raises:
        ValueError: one has not.
        TypeError: the declaration does not fit the structure.
    """
    for path, tensor, axis in _leaves(state, axes):
        if not -tensor.ndim <= axis < tensor.ndim or tensor.shape[axis] != rows:
            raise ValueError(
                f"{path} has shape {tuple(tensor.shape)}, and batch_axis says that its axis {axis} counts the "
                f"rows, of which there are {rows}; declare the axis that does, or None if all rows share it"
            )


def _map(function: Callable[[list[torch.Tensor], int], torch.Tensor], axes: Any, *states: Any) -> Any:
    """A structure like the states' of ``function(the tensors at this place, their axis)``."""
    first = states[0]
    if axes is None:
        return first
    if isinstance(first, torch.Tensor):
        return function(list(states), axes)
    if isinstance(first, Mapping):
        return {key: _map(function, _axes_at(axes, key), *(state[key] for state in states)) for key in first}
    entries = [_map(function, _axes_at(axes, at), *(state[at] for state in states)) for at in range(len(first))]
    return type(first)(*entries) if hasattr(first, "_fields") else type(first)(entries)


def _leaves(state: Any, axes: Any, path: str = "state") -> Iterator[tuple[str, torch.Tensor, int]]:
    """(where, tensor, axis) of every tensor with rows.

    Raises:
        TypeError: the declaration does not fit the state, or the state holds what cannot be gathered.
    """
    if axes is None:
        return
    if state is None:
        raise TypeError(
            f"{path} is None, which has no rows: give zeros, or declare None as its batch_axis if all rows share it"
        )
    if isinstance(state, torch.Tensor):
        if not isinstance(axes, int):
            raise TypeError(f"{path} is a tensor, and batch_axis has {axes!r} there; it must be a number or None")
        yield path, state, axes
    elif isinstance(state, Mapping):
        for key, entry in state.items():
            yield from _leaves(entry, _axes_at(axes, key, path), f"{path}[{key!r}]")
    elif isinstance(state, (list, tuple)):
        if not isinstance(axes, int) and len(axes) != len(state):
            raise TypeError(f"{path} has {len(state)} entries, and batch_axis has {len(axes)} there")
        for at, entry in enumerate(state):
            yield from _leaves(entry, _axes_at(axes, at, path), f"{path}[{at}]")
    else:
        raise TypeError(
            f"{path} is a {type(state).__name__}; a state is made of tensors in tuples, lists and dicts. Where all "
            "rows share a value, declare None as its batch_axis"
        )


def _axes_at(axes: Any, key: Any, path: str = "state") -> Any:
    if isinstance(axes, int):
        return axes
    try:
        return axes[key]
    except (KeyError, IndexError, TypeError):
        raise TypeError(f"batch_axis has no entry for {path}[{key!r}]") from None
