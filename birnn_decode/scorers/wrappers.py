"""Scorers from plain callables, for NumPy and PyTorch alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.template import Vocabulary


class StepScorer:
    """A `Scorer` from its functions; every argument is the member of `Scorer` of the same name.

    Example, a bigram model, which needs no state::

        scorer = StepScorer(
            step=lambda tokens, state: (table[tokens], state),
            start=lambda context: None,
            select=lambda state, rows: None,
            vocab_size=12, start_token=0, end_token=0,
        )

    For PyTorch decoders whose state is made of tensors, `birnn_decode.scorers.torch.TorchScorer` derives ``select`` and
    ``join``.

    Args:
        step: ``(tokens [R], state) -> (scores [R, vocab_size], state)``.
        start: ``context -> state`` of one row per image.
        select: ``(state, rows) -> state``.
        vocab_size: number of ids.
        start_token: begins a sentence in this model's reading direction.
        end_token: ends it.
        encode: ``list of images -> context``; the list itself if not given.
        join: ``states -> state``, optional.
        prefill: ``(context, items, prefixes) -> (scores, state)``, optional.
        score: ``(context, items, sentences) -> arrays of log-probabilities``, optional.
        normalized: whether ``step`` returns log-probabilities rather than logits.
        aligned: whether all rows of a call must have read equally many tokens.
        never: ids that are no words; START and END always are.
        vocabulary: text to ids and back.
    """

    def __init__(
        self,
        step: Callable[[Array, Any], tuple[Array, Any]],
        start: Callable[[Any], Any],
        select: Callable[[Any, Array], Any],
        *,
        vocab_size: int,
        start_token: int,
        end_token: int,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        join: Callable[[Sequence[Any]], Any] | None = None,
        prefill: Callable[[Any, Array, Array], tuple[Array, Any]] | None = None,
        score: Callable[[Any, Array, Sequence[tuple[int, ...]]], Sequence[Any]] | None = None,
        normalized: bool = False,
        aligned: bool = True,
        never: Collection[int] = (),
        vocabulary: Vocabulary | None = None,
    ):
        self.step = step
        self.start = start
        self.select = select
        self.vocab_size = vocab_size
        self.start_token = start_token
        self.end_token = end_token
        self.encode = encode or list
        self.join = join
        self.prefill = prefill
        self.score = score
        self.normalized = normalized
        self.aligned = aligned
        self.never = frozenset(never)
        self.vocabulary = vocabulary


class _Prefixes(NamedTuple):
    context: Any
    images: np.ndarray  # [R]
    tokens: np.ndarray  # [R, t], START in front


class PrefixScorer:
    """A `Scorer` from a function that scores whole prefixes: O(T²) work for T words, but no state to get wrong.

    Args:
        function: ``(context, prefix_tokens [R, t]) -> scores [R, vocab_size]`` of the next token. START is the first
            column. ``context`` has one entry per row: the entries of what ``encode`` returned, repeated as needed.
            Prefixes are tensors on the device of the context where that holds tensors, and NumPy arrays in the first
            call otherwise.
        vocab_size: number of ids.
        start_token: begins a sentence in this model's reading direction.
        end_token: ends it.
        encode: ``list of images -> context``: a list or an array with one entry per image along its first axis; the
            list itself if not given.
        normalized: whether the function returns log-probabilities rather than logits.
        never: ids that are no words; START and END always are.
        vocabulary: text to ids and back.
    """

    aligned = True

    def __init__(
        self,
        function: Callable[[Any, Array], Array],
        *,
        vocab_size: int,
        start_token: int,
        end_token: int,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        normalized: bool = False,
        never: Collection[int] = (),
        vocabulary: Vocabulary | None = None,
    ):
        self.function = function
        self.vocab_size = vocab_size
        self.start_token = start_token
        self.end_token = end_token
        self.normalized = normalized
        self.never = frozenset(never)
        self.vocabulary = vocabulary
        self._encode = encode or list

    def encode(self, images: Sequence[Any]) -> Any:
        """Whatever the function needs of the images.

        Raises:
            TypeError: it does not have one entry per image.
        """
        context = self._encode(images)
        if not (isinstance(context, list) or hasattr(context, "shape")) or len(context) != len(images):
            size = f" of {len(context)}" if hasattr(context, "__len__") else ""
            raise TypeError(
                f"encode returned a {type(context).__name__}{size}; a PrefixScorer needs a list or an array with one "
                f"entry per image, of which there are {len(images)}"
            )
        return context

    def start(self, context: Any) -> _Prefixes:
        """One empty prefix per image."""
        return _Prefixes(context, np.arange(len(context)), np.empty((len(context), 0), dtype=np.int64))

    def step(self, tokens: Array, state: _Prefixes) -> tuple[Array, _Prefixes]:
        """Score the prefixes that are one token longer."""
        context = state.context
        prefixes = np.concatenate([state.tokens, _host(tokens)[:, None]], axis=1)
        if isinstance(context, list):
            rows: Any = [context[image] for image in state.images]
        else:
            rows = context[_like(state.images, context)]
        return self.function(rows, _like(prefixes, tokens, rows)), _Prefixes(context, state.images, prefixes)

    def select(self, state: _Prefixes, rows: Array) -> _Prefixes:
        """Gather rows."""
        rows = _host(rows)
        return _Prefixes(state.context, state.images[rows], state.tokens[rows])

    def join(self, states: Sequence[_Prefixes]) -> _Prefixes:
        """The rows of several states."""
        images = np.concatenate([state.images for state in states])
        return _Prefixes(states[0].context, images, np.concatenate([state.tokens for state in states]))


def _host(array: Array) -> np.ndarray:
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)


def _like(array: np.ndarray, *models: Any) -> Array:
    """A copy of the array on the device of the first tensor among some arrays or lists of them, if there is one."""
    torch = sys.modules.get("torch")
    for model in models:
        first = model[0] if isinstance(model, list) and model else model
        if torch is not None and isinstance(first, torch.Tensor):
            return torch.tensor(array, device=first.device)
    return array.copy()
