"""States of PyTorch decoders: nested tensors and caches whose batch axis is declared, and what follows from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from birnn_decode.backend import Array
from birnn_decode.scorers.caches import Cached


class Condition:
    """What is known of N images, for rows of them.

    It is expanded to rows when those come to stand for other images than in the call before, and not at every step:
    beams change places within their image, whose regions stay where they are.

    Args:
        known: nested tensors with the images on axis 0, or None in places.
        images: which image each row is of.
        last: the images that were last asked for, and what was given; shared by all conditions of one context.
    """

    __slots__ = ("_images", "_known", "_last")

    def __init__(self, known: Any, images: Sequence[int], last: list[Any] | None = None):
        self._known = known
        self._images = list(images)
        self._last: list[Any] = [] if last is None else last

    @staticmethod
    def of(known: Any, images: int) -> Condition:
        """What is known of so many images, for one row each.

        Raises:
            ValueError: a tensor has another number of images on axis 0.
        """
        for path, tensor in _tensors(known, "condition"):
            if not tensor.ndim or len(tensor) != images:
                raise ValueError(
                    f"{path} has shape {tuple(tensor.shape)}; its axis 0 must count the images, of which there are "
                    f"{images}"
                )
        return Condition(known, range(images))

    @property
    def known(self) -> Any:
        """Of all N images."""
        return self._known

    def select(self, rows: Any) -> Condition:
        """The given rows."""
        return Condition(self._known, [self._images[row] for row in torch.as_tensor(rows).tolist()], self._last)

    def rows(self) -> Any:
        """The known of each row's image, [R, …] where it is [N, …] of the images; for reading only."""
        if not self._last or self._last[0] != self._images:
            self._last[:] = [self._images, select_rows(self._known, self._images, 0)]
        return self._last[1]

    @staticmethod
    def join(several: Sequence[Condition]) -> Condition:
        """The rows of several conditions of one context."""
        first = several[0]
        return Condition(first._known, [image for one in several for image in one._images], first._last)


def select_rows(state: Any, rows: Array, axes: Any) -> Any:
    """A structure of tensors with the given rows of each; ``axes`` as `TorchScorer`'s ``batch_axis``."""

    def gather(leaves: list[Any], axis: Any) -> Any:
        if isinstance(leaves[0], torch.Tensor):
            return leaves[0].index_select(axis, torch.as_tensor(rows, device=leaves[0].device))
        return leaves[0].select(rows)

    return _map(gather, axes, state)


def join_rows(states: Sequence[Any], axes: Any) -> Any:
    """One structure of the rows of several, one structure after another."""

    def join(leaves: list[Any], axis: Any) -> Any:
        if isinstance(leaves[0], (Cached, Condition)):
            return type(leaves[0]).join(leaves)
        return torch.cat(leaves, dim=axis)

    return _map(join, axes, *states)


def state_bytes(state: Any) -> int:
    """The memory that the tensors of a structure take; what is known of the images is not counted."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, Cached):
        return state.nbytes
    if isinstance(state, Mapping):
        return sum(map(state_bytes, state.values()))
    return sum(map(state_bytes, state)) if isinstance(state, (list, tuple)) else 0


def put_away(state: Any, axes: Any) -> Any:
    """The same structure with a `Cached` in the place of each cache.

    Raises:
        TypeError: a cache has no method of the declared name.
    """

    def kept(leaves: list[Any], axis: Any) -> Any:
        if not isinstance(axis, str):
            return leaves[0]
        if not callable(getattr(leaves[0], axis, None)):
            raise TypeError(
                f"a part of the state is a {type(leaves[0]).__name__}, which has no method {axis!r} to reorder itself "
                "by; batch_axis is the name of such a method, a number, or None"
            )
        return Cached(leaves[0], axis)

    return _map(kept, axes, state) if has_cache(axes) else state


def taken_out(state: Any, axes: Any) -> Any:
    """What was put away, with caches of its own for a step that changes them."""
    if not has_cache(axes):
        return state
    return _map(lambda leaves, axis: leaves[0].own() if isinstance(axis, str) else leaves[0], axes, state)


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


def _map(function: Callable[[list[Any], Any], Any], axes: Any, *states: Any) -> Any:
    """A structure like the states' of ``function(what is at this place in each, its axis or method)``."""
    first = states[0]
    if axes is None or first is None:
        return first
    if isinstance(first, (torch.Tensor, Cached, Condition)) or isinstance(axes, str):
        return function(list(states), axes)
    if not isinstance(first, (tuple, list)):
        new = copy.copy(first)  # a mapping, of whatever type it is
        for key in first:
            new[key] = _map(function, _axes_at(axes, key), *(state[key] for state in states))
        return new
    entries = [_map(function, _axes_at(axes, at), *(state[at] for state in states)) for at in range(len(first))]
    return type(first)(*entries) if hasattr(first, "_fields") else type(first)(entries)


def has_cache(axes: Any) -> bool:
    """Whether a cache is declared anywhere."""
    if isinstance(axes, (Mapping, list, tuple)):
        return any(map(has_cache, axes.values() if isinstance(axes, Mapping) else axes))
    return isinstance(axes, str)


def first_tensor(state: Any) -> torch.Tensor | None:
    """The first tensor of a structure, if there is one."""
    return next((tensor for _, tensor in _tensors(state)), None)


def _tensors(state: Any, path: str = "state") -> Iterator[tuple[str, torch.Tensor]]:
    """(where, tensor) of every tensor."""
    if isinstance(state, torch.Tensor):
        yield path, state
    elif isinstance(state, Mapping):
        for key, entry in state.items():
            yield from _tensors(entry, f"{path}[{key!r}]")
    elif isinstance(state, (list, tuple)):
        for at, entry in enumerate(state):
            yield from _tensors(entry, f"{path}[{at}]")


def _leaves(state: Any, axes: Any, path: str = "state") -> Iterator[tuple[str, torch.Tensor, int]]:
    """(where, tensor, axis) of every tensor with rows.

    Raises:
        TypeError: the declaration does not fit the state, or the state holds what cannot be gathered.
    """
    if axes is None or isinstance(state, (Cached, Condition)):
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
            "rows share a value, declare None as its batch_axis; for a cache that reorders itself, its method's name"
        )


def _axes_at(axes: Any, key: Any, path: str = "state") -> Any:
    if isinstance(axes, int):
        return axes
    try:
        return axes[key]
    except (KeyError, IndexError, TypeError):
        raise TypeError(f"batch_axis has no entry for {path}[{key!r}]") from None
