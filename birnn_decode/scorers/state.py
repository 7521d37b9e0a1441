"""States of PyTorch decoders: nested tensors and caches whose batch axis is declared.

Which axis of a tensor counts the rows is declared, never guessed. ``axes`` is a number for all tensors of a state, or
the same nesting as the state with a number for each tensor, None for a part that all rows share, or the name of the
method by which a cache reorders itself.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from birnn_decode.backend import Array
from birnn_decode.scorers.wrappers import Wrapper


@dataclass(frozen=True, eq=False)
class Condition:
    """What a decoder knows about N images, for rows of these images.

    The tensors are expanded to rows only if the rows belong to other images than in the call before. Beams change
    places within their image at every step, and this needs no copy.

    Args:
        known: Nested tensors with the images on axis 0. Parts may be None.
        images: Number of the image of each row.
        last: Images of the last expansion and its result. All conditions of one context share this list.
    """

    known: Any
    images: list[int]
    last: list[Any] = field(default_factory=list)

    @staticmethod
    def of(known: Any, images: int) -> Condition:
        """Make the condition of N images with one row each.

        Raises:
            TypeError: A part of ``known`` is not a tensor.
            ValueError: A tensor does not count the images on axis 0.
        """
        checked_state(known, images, 0, "condition")
        return Condition(known, list(range(images)))

    def select(self, rows: Any) -> Condition:
        """Return the condition of the given rows."""
        return Condition(self.known, [self.images[row] for row in torch.as_tensor(rows).tolist()], self.last)

    def rows(self) -> Any:
        """Expand the tensors [N, …] to rows [R, …]. The result must not be changed."""
        if not self.last or self.last[0] != self.images:
            self.last[:] = [self.images, select_rows(self.known, self.images, 0)]
        return self.last[1]

    @staticmethod
    def join(several: Sequence[Condition]) -> Condition:
        """Join the rows of several conditions of one context."""
        first = several[0]
        return Condition(first.known, [image for one in several for image in one.images], first.last)


@dataclass(frozen=True, eq=False)
class Cached:
    """A cache and the rows that are selected from it. The cache itself never changes.

    `own` makes the copy that a step may change, and selects the rows in this copy. A cache that is selected from and
    then stepped is therefore copied once.

    Args:
        cache: Cache.
        method: Name of the method of the cache that selects rows. It takes a tensor of row numbers, and it returns a
            new cache or changes its own.
        selected: Selected rows, int64 [R]; None for all rows.
    """

    cache: Any
    method: str
    selected: torch.Tensor | None = None

    def select(self, rows: Any) -> Cached:
        """Return the given rows."""
        rows = torch.as_tensor(rows)
        return Cached(self.cache, self.method, rows if self.selected is None else self.selected[rows])

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values, in bytes; 0 for a cache without layers."""
        layers = [layer for part in _parts(self.cache) for layer in getattr(part, "layers", ())]
        tensors = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))

    def own(self, tokens: int | None = None) -> Any:
        """Return a cache of the selected rows that a step may change.

        Args:
            tokens: Number of last tokens whose keys and values are kept. The tokens before them must be padding in all
                selected rows. (default: None, keep all)
        """
        new = _copy(self.cache)
        if tokens is not None and new.get_seq_length() > tokens:  # before the rows are copied
            for layer in new.layers:
                if layer.keys is not None:
                    layer.keys, layer.values = layer.keys[:, :, -tokens:], layer.values[:, :, -tokens:]
        if self.selected is None:
            return new
        returned = getattr(new, self.method)(self.selected)
        return new if returned is None else returned

    @staticmethod
    def join(several: Sequence[Cached]) -> Cached:
        """Join the rows of several growing caches of Hugging Face. Those of fewer tokens are padded on the left.

        Raises:
            TypeError: A cache is of another kind.
        """
        return Cached(_joined([one.own() for one in several]), several[0].method)


def _copy(cache: Any) -> Any:
    """Copy a cache.

    Growing caches of Hugging Face replace their tensors and never write into them. A copy can share the tensors. All
    tensors of any other cache are copied.
    """
    if not _grows(cache):
        try:
            return copy.deepcopy(cache)
        except RuntimeError as error:  # PyTorch does not copy a tensor that has a graph
            raise TypeError(
                f"a {type(cache).__name__} cannot be copied while gradients are recorded. Make its tensors the state, "
                "or score without gradients"
            ) from error
    new = copy.copy(cache)
    if hasattr(cache, "self_attention_cache"):
        new.self_attention_cache = _copy(cache.self_attention_cache)
        new.cross_attention_cache = _copy(cache.cross_attention_cache)
        new.is_updated = dict(cache.is_updated)
    else:
        new.layers = [copy.copy(layer) for layer in cache.layers]
    return new


def _joined(caches: Sequence[Any]) -> Any:
    """Join the rows of caches in the first of them."""
    for cache in caches:
        if not _grows(cache):
            raise TypeError(f"caches of type {type(cache).__name__} cannot be joined; only growing caches can")
    for parts in zip(*map(_parts, caches), strict=True):
        for layers in zip(*[part.layers for part in parts], strict=True):
            if layers[0].keys is not None:  # some layers attend to nothing that is kept
                layers[0].keys = _stacked([layer.keys for layer in layers])
                layers[0].values = _stacked([layer.values for layer in layers])
    return caches[0]


def _stacked(several: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the rows of keys or values, [rows, heads, tokens, size], with zeros in front of shorter ones."""
    longest = max(one.shape[2] for one in several)
    missing = [longest - one.shape[2] for one in several]
    pad = torch.nn.functional.pad
    return torch.cat([pad(one, (0, 0, more, 0)) if more else one for one, more in zip(several, missing, strict=True)])


def _grows(cache: Any) -> bool:
    """Return whether a cache is one of Hugging Face's that only replace their tensors."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not all(isinstance(part, transformers.Cache) for part in _parts(cache)):
        return False
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    growing = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in growing for part in _parts(cache) for layer in part.layers)


def _parts(cache: Any) -> list[Any]:
    """Return the two halves of a cache of an encoder and a decoder, or else the cache itself."""
    if hasattr(cache, "self_attention_cache"):
        return [cache.self_attention_cache, cache.cross_attention_cache]
    return [cache]


class RowsOfTensors:
    """Methods of a scorer that follow from the ``batch_axis`` of its states."""

    batch_axis: Any

    def select(self, state: Any, rows: Array) -> Any:
        """Make a state from some rows of another state; see `Scorer.select`."""
        return select_rows(state, rows, self.batch_axis)

    def join(self, states: Sequence[Any]) -> Any:
        """Make one state from the rows of several states, one state after the other."""
        return join_rows(states, self.batch_axis)

    def state_bytes(self, state: Any) -> int:
        """Return the memory that a state takes, in bytes."""
        return state_bytes(state)


class TensorScorer(Wrapper, RowsOfTensors):
    """Base of the scorers whose state is a pair: a structure of tensors, and the `Condition` of its rows or None.

    Args:
        start: Function ``context -> structure of tensors`` with one row per image.
        batch_axis: Axes of the structure.
        condition: Function ``context -> nested tensors`` with the images on axis 0, or None.
        declared: See `Wrapper`.
    """

    def __init__(
        self, start: Callable[[Any], Any], batch_axis: Any, condition: Callable[[Any], Any] | None, **declared: Any
    ):
        super().__init__(**declared)
        self.batch_axis = (batch_axis, 0)
        self._start = start
        self._condition = condition

    def encode(self, images: Sequence[Any]) -> tuple[int, Any]:
        """Return the number of images and what the model needs to know about them; see `Scorer.encode`."""
        return len(images), super().encode(images)

    def start(self, context: tuple[int, Any]) -> tuple[Any, Condition | None]:
        """Make the state in which no token has been read; see `Scorer.start`.

        Raises:
            TypeError: The declared axes do not fit the state.
            ValueError: A tensor does not have one row per image.
        """
        images, encoded = context
        condition = None if self._condition is None else Condition.of(self._condition(encoded), images)
        return self._checked(self._start(encoded), images), condition

    def _checked(self, state: Any, rows: int) -> Any:
        return checked_state(state, rows, self.batch_axis[0])


def select_rows(state: Any, rows: Array, axes: Any) -> Any:
    """Make a structure of the given rows of every tensor."""

    def gather(leaves: Sequence[Any], axis: Any, path: tuple[Any, ...]) -> Any:
        leaf = leaves[0]
        if isinstance(leaf, torch.Tensor):
            there = isinstance(rows, torch.Tensor) and rows.device == leaf.device
            return leaf.index_select(axis, rows if there else torch.as_tensor(rows, device=leaf.device))
        return leaf if leaf is None else leaf.select(rows)

    return _map(gather, axes, state)


def join_rows(states: Sequence[Any], axes: Any) -> Any:
    """Make one structure of the rows of several, one structure after the other."""

    def join(leaves: Sequence[Any], axis: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(leaves[0], torch.Tensor):
            return torch.cat(list(leaves), dim=axis)
        return leaves[0] if leaves[0] is None else type(leaves[0]).join(leaves)

    return _map(join, axes, *states)


def state_bytes(state: Any) -> int:
    """Return the memory of the tensors and caches of a structure, in bytes. Conditions count as 0."""
    return sum(leaf.nbytes for leaf in _leaves(state) if isinstance(leaf, (torch.Tensor, Cached)))


def checked_state(state: Any, rows: int, axes: Any, name: str = "state") -> Any:
    """Check that every tensor has ``rows`` rows on its declared axis, and put every cache into a `Cached`.

    Args:
        state: Structure of tensors and caches.
        rows: Number of rows.
        axes: Declared axes.
        name: Name of the structure in messages. Parts of a "condition" may be None.

    Returns:
        The same structure, with a `Cached` in the place of every cache.

    Raises:
        TypeError: The declared axes do not fit the structure.
        ValueError: A tensor has another number of rows.
    """

    def check(leaves: Sequence[Any], axis: Any, path: tuple[Any, ...]) -> Any:
        leaf = leaves[0]
        if isinstance(axis, str):
            if callable(getattr(leaf, axis, None)):
                return Cached(leaf, axis)
            raise TypeError(
                f"{_place(path)} is a {type(leaf).__name__}, which has no method {axis!r} to reorder its rows; correct "
                "batch_axis"
            )
        if leaf is None:
            if name == "condition":
                return None
            raise TypeError(
                f"{_place(path)} is None, which has no rows; give zeros, or set batch_axis to None there if all rows "
                "share it"
            )
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(
                f"{_place(path)} is a {type(leaf).__name__}; a {name} is made of tensors in tuples, lists and dicts. "
                "Set batch_axis to None there if all rows share it, or to the name of its method if it is a cache that "
                "reorders itself"
            )
        if not isinstance(axis, int):
            raise TypeError(
                f"{_place(path)} is a tensor, and its batch_axis is {axis!r}; batch_axis must be a number there, or "
                "None"
            )
        if not -leaf.ndim <= axis < leaf.ndim or leaf.shape[axis] != rows:
            raise ValueError(
                f"{_place(path)} is a tensor of shape {tuple(leaf.shape)}, and its axis {axis} must count {rows} rows. "
                + ("Put the images on axis 0" if name == "condition" else "Correct batch_axis, or set it to None")
            )
        return leaf

    return _map(check, axes, state, path=(name,))


def taken_out(state: Any, axes: Any) -> Any:
    """Put a copy of the cache, which a step may change, in the place of every `Cached`."""
    if not has_cache(axes):
        return state
    return _map(lambda leaves, axis, path: leaves[0].own() if isinstance(axis, str) else leaves[0], axes, state)


def has_cache(axes: Any) -> bool:
    """Return whether the axes declare a cache."""
    return any(isinstance(axis, str) for axis in _leaves(axes))


def first_tensor(state: Any) -> torch.Tensor | None:
    """Return the first tensor of a structure, or None."""
    return next((leaf for leaf in _leaves(state) if isinstance(leaf, torch.Tensor)), None)


def rows_of(state: Any) -> int:
    """Return the length of axis 0 of the first tensor of a structure; 0 if there is none."""
    tensor = first_tensor(state)
    return 0 if tensor is None else len(tensor)


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, (tuple, list, Mapping)):
        for entry in state.values() if isinstance(state, Mapping) else state:
            yield from _leaves(entry)
    else:
        yield state


def _map(function: Callable[..., Any], axes: Any, *states: Any, path: tuple[Any, ...] = ("state",)) -> Any:
    """Make a structure like ``states`` of ``function(the leaves at one place, their axis or method, the place)``."""
    first = states[0]
    if axes is None:
        return first
    if isinstance(axes, str) or not isinstance(first, (tuple, list, Mapping)):
        return function(states, axes, path)

    def entry(key: Any) -> Any:
        place = (*path, key)
        return _map(function, _axes_at(axes, key, place), *(state[key] for state in states), path=place)

    if isinstance(first, Mapping):
        mapping: Any = copy.copy(first)  # the same type of mapping, which may refuse update()
        for key in first:
            mapping[key] = entry(key)
        return mapping
    if not isinstance(axes, int) and len(axes) != len(first):
        raise TypeError(f"{_place(path)} has {len(first)} entries, and batch_axis has {len(axes)} there")
    entries = map(entry, range(len(first)))
    return type(first)(*entries) if hasattr(first, "_fields") else type(first)(entries)


def _axes_at(axes: Any, key: Any, place: tuple[Any, ...]) -> Any:
    if isinstance(axes, int):
        return axes
    try:
        return axes[key]
    except (KeyError, IndexError, TypeError):
        raise TypeError(f"batch_axis has no entry for {_place(place)}") from None


def _place(path: tuple[Any, ...]) -> str:
    return "".join([str(path[0]), *(f"[{key!r}]" for key in path[1:])])
