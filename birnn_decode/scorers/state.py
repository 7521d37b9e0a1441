"""States of PyTorch decoders: nested tensors and caches whose batch axis is declared, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from birnn_decode.backend import Array
from birnn_decode.scorers.caches import copy_of, joined, reordered


def select_rows(state: Any, rows: Array, axes: Any) -> Any:
    """A structure of tensors with the given rows of each; ``axes`` as `TorchScorer`'s ``batch_axis``."""

    def gather(leaves: list[Any], axis: int | str) -> Any:
        if isinstance(axis, str):
            return reordered(leaves[0], axis, torch.as_tensor(rows))
        return leaves[0].index_select(axis, torch.as_tensor(rows, device=leaves[0].device))

    return _map(gather, axes, state)


def join_rows(states: Sequence[Any], axes: Any) -> Any:
    """One structure of the rows of several, one structure after another."""
    return _map(
        lambda leaves, axis: joined(leaves) if isinstance(axis, str) else torch.cat(leaves, axis), axes, *states
    )


def own_caches(state: Any, axes: Any) -> Any:
    """The same structure with copies of the caches, for a step that changes them."""
    return _map(lambda leaves, axis: copy_of(leaves[0]) if isinstance(axis, str) else leaves[0], axes, state)


def check_rows(state: Any, rows: int, axes: Any) -> None:
    """Check that every tensor has as many rows as there should be, where they are declared to be.

    Raises:
        ValueError: one has not.
        TypeError: the declaration does not fit the structure.
    """
    for path, tensor, axis in _leaves(state, axes):
        if isinstance(axis, str):
            continue
        if not -tensor.ndim <= axis < tensor.ndim or tensor.shape[axis] != rows:
            raise ValueError(
                f"{path} has shape {tuple(tensor.shape)}, and batch_axis says that its axis {axis} counts the "
                f"rows, of which there are {rows}; declare the axis that does, or None if all rows share it"
            )


def _map(function: Callable[[list[Any], Any], Any], axes: Any, *states: Any) -> Any:
    """A structure like the states' of ``function(the tensors or caches at this place, their axis or method)``."""
    first = states[0]
    if axes is None:
        return first
    if isinstance(first, torch.Tensor) or isinstance(axes, str):
        return function(list(states), axes)
    if isinstance(first, Mapping):
        return {key: _map(function, _axes_at(axes, key), *(state[key] for state in states)) for key in first}
    entries = [_map(function, _axes_at(axes, at), *(state[at] for state in states)) for at in range(len(first))]
    return type(first)(*entries) if hasattr(first, "_fields") else type(first)(entries)


def has_cache(axes: Any) -> bool:
    """Whether a cache is declared anywhere."""
    if isinstance(axes, (Mapping, list, tuple)):
        return any(map(has_cache, axes.values() if isinstance(axes, Mapping) else axes))
    return isinstance(axes, str)


def first_tensor(state: Any, axes: Any) -> torch.Tensor | None:
    """The first tensor with rows, if there is one."""
    return next((leaf for _, leaf, _ in _leaves(state, axes) if isinstance(leaf, torch.Tensor)), None)


def _leaves(state: Any, axes: Any, path: str = "state") -> Iterator[tuple[str, Any, int | str]]:
    """(where, tensor, axis) of every tensor with rows, (where, cache, method) of every cache.

    Raises:
        TypeError: the declaration does not fit the state, or the state holds what cannot be gathered.
    """
    if axes is None:
        return
    if state is None:
        raise TypeError(
            f"{path} is None, which has no rows: give zeros, or declare None as its batch_axis if all rows share it"
        )
    if isinstance(axes, str):
        if not callable(getattr(state, axes, None)):
            raise TypeError(
                f"{path} is a {type(state).__name__}, which has no method {axes!r} to reorder itself by; batch_axis is "
                "the name of such a method, a number, or None"
            )
        yield path, state, axes
    elif isinstance(state, torch.Tensor):
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
