"""Caches that know how to reorder themselves: objects that hold keys and values and change when they are used."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch


def copy_of(cache: Any) -> Any:
    """A copy that may be changed, by a step or a reordering, and leaves the cache as it is.

    Hugging Face's growing caches put new tensors in the place of old ones and never write into one, so that their
    copies share tensors. Of any other cache every tensor is copied.
    """
    if not _grows(cache):
        return copy.deepcopy(cache)
    new = copy.copy(cache)
    if hasattr(cache, "self_attention_cache"):
        new.self_attention_cache = copy_of(cache.self_attention_cache)
        new.cross_attention_cache = copy_of(cache.cross_attention_cache)
        new.is_updated = dict(cache.is_updated)
    else:
        new.layers = [copy.copy(layer) for layer in cache.layers]
    return new


def reordered(cache: Any, method: str, rows: Any) -> Any:
    """The given rows of a cache, through its own method, which may return a new cache or change the one it has."""
    new = copy_of(cache)
    returned = getattr(new, method)(rows)
    return new if returned is None else returned


def joined(caches: Sequence[Any]) -> Any:
    """The rows of several of Hugging Face's growing caches, which have all read equally many tokens.

    Raises:
        TypeError: a cache of another kind.
    """
    for cache in caches:
        if not _grows(cache):
            raise TypeError(f"there is no telling how to join caches of type {type(cache).__name__}")
    new = copy_of(caches[0])
    if hasattr(new, "self_attention_cache"):
        new.self_attention_cache = joined([cache.self_attention_cache for cache in caches])
        new.cross_attention_cache = joined([cache.cross_attention_cache for cache in caches])
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
