"""Caches that know how to reorder themselves: objects that hold keys and values and change when they are used."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch


class Cached:
    """A cache, and which of its rows are meant; what is done to it is done to copies.

    Rows are gathered when a step asks for its copy, in that copy: a cache that is selected from and then stepped is
    copied once.

    Args:
        cache: never changed.
        method: of the cache, called with a tensor of rows; it may return a new cache or change the one it has.
        rows: int64 [R]; None: all, as they are.
    """

    __slots__ = ("_cache", "_method", "_rows")

    def __init__(self, cache: Any, method: str, rows: torch.Tensor | None = None):
        self._cache = cache
        self._method = method
        self._rows = rows

    def select(self, rows: Any) -> Cached:
        """The given rows."""
        rows = torch.as_tensor(rows)
        return Cached(self._cache, self._method, rows if self._rows is None else self._rows[rows])

    @property
    def nbytes(self) -> int:
        """The memory that the keys and values take; 0 for caches that have no layers of them."""
        halves = [getattr(self._cache, half, None) for half in ("self_attention_cache", "cross_attention_cache")]
        layers = [layer for one in (self._cache, *halves) for layer in getattr(one, "layers", ())]
        tensors = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))

    def own(self) -> Any:
        """A cache of the rows, for a step to change."""
        new = _copy(self._cache)
        if self._rows is None:
            return new
        returned = getattr(new, self._method)(self._rows)
        return new if returned is None else returned

    @staticmethod
    def join(several: Sequence[Cached]) -> Cached:
        """The rows of several of Hugging Face's growing caches, which have all read equally many tokens.

        Raises:
            TypeError: a cache of another kind.
        """
        return Cached(_joined([one.own() for one in several]), several[0]._method)


def _copy(cache: Any) -> Any:
    """A copy that may be changed and leaves the cache as it is.

    Hugging Face's growing caches put new tensors in the place of old ones and never write into one, so that their
    copies share tensors. Of any other cache every tensor is copied.
    """
    if not _grows(cache):
        try:
            return copy.deepcopy(cache)
        except RuntimeError as error:  # PyTorch copies no tensor that is a part of a graph
            raise TypeError(
                f"a {type(cache).__name__} cannot be copied while gradients are recorded: make its tensors the state, "
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
    for cache in caches:
        if not _grows(cache):
            raise TypeError(f"there is no telling how to join caches of type {type(cache).__name__}")
    new = caches[0]
    if hasattr(new, "self_attention_cache"):
        new.self_attention_cache = _joined([cache.self_attention_cache for cache in caches])
        new.cross_attention_cache = _joined([cache.cross_attention_cache for cache in caches])
        return new
    for number, layer in enumerate(new.layers):
        layer.keys = torch.cat([cache.layers[number].keys for cache in caches])
        layer.values = torch.cat([cache.layers[number].values for cache in caches])
    return new


def _grows(cache: Any) -> bool:
    """Whether it is one of Hugging Face's caches that only ever replace their tensors."""
    transformers = sys.modules.get("transformers")
    if transformers is None:
        return False
    if isinstance(cache, transformers.EncoderDecoderCache):
        return _grows(cache.self_attention_cache) and _grows(cache.cross_attention_cache)
    if not isinstance(cache, transformers.Cache):
        return False
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)
