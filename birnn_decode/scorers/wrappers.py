"""Scorers from plain callables, for NumPy and PyTorch alike, and what all wrappers are told of their model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.template import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Ids(TypedDict):
    """What every wrapper must be told; see `Wrapper`."""

    vocab_size: int
    start_token: int
    end_token: int


class Declared(Ids, total=False):
    """What every wrapper may be told; see `Wrapper`."""

    encode: Callable[[Sequence[Any]], Any] | None
    never: Collection[int]
    vocabulary: Vocabulary | None
    direction: str | None
    max_tokens: int | None
    model: Any


OPTIONS = Declared.__required_keys__ | Declared.__optional_keys__


def ids_of(never: Collection[int]) -> frozenset[int]:
    """The ids that are no words, as a set.

    Raises:
        TypeError: they are no collection.
    """
    if isinstance(never, str) or not isinstance(never, Collection):
        raise TypeError(f"never={never!r}: give a set of ids, such as {{0, 3}}")
    return frozenset(never)


class Wrapper:
    """What every wrapper is told of its model, beyond how to step it.

    Ids and order are all that makes a backward model: one that was trained on reversed text has the ``start_token`` and
    the ``end_token`` of its forward twin; one that was trained on text reversed with its START and END has them
    exchanged; two that share weights are two wrappers of one module.

    Args:
        vocab_size: number of ids.
        start_token: begins a sentence in this model's reading direction.
        end_token: ends it.
        encode: ``list of images -> context``; the list itself if not given.
        never: ids that are no words; START and END always are.
        vocabulary: text to ids and back.
        direction: ``"forward"`` or ``"backward"``, the way the model reads sentences: a caller who mixes the two up is
            told so.
        max_tokens: the most tokens, START included, that the model can read of a sentence: the rows of its table of
            positions. Sentences for which that is not enough are refused before any is read, and captions are written
            freely up to it. None: no limit.
        model: the `torch.nn.Module` that all of this belongs to: it is put in eval mode while decoding, and back.
            Without it, that is up to you; dropout left on gives another answer every time.

    Raises:
        ValueError: another direction, or room for no token.
        TypeError: the model has no modules to put in eval mode.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        start_token: int,
        end_token: int,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        never: Collection[int] = (),
        vocabulary: Vocabulary | None = None,
        direction: str | None = None,
        max_tokens: int | None = None,
        model: Any = None,
    ):
        if direction not in ("forward", "backward", None):
            raise ValueError(f'direction={direction!r}: use "forward" or "backward", the way the model reads sentences')
        if max_tokens is not None and (not hasattr(max_tokens, "__index__") or max_tokens < 1):
            raise ValueError(
                f"max_tokens={max_tokens!r}: it is a whole number, 1 or larger, because START is one token"
            )
        if model is not None and not hasattr(model, "modules"):
            raise TypeError(
                f"model is a {type(model).__name__}: give the torch.nn.Module that is put in eval mode, or leave it out"
            )
        self.vocab_size = vocab_size
        self.start_token = start_token
        self.end_token = end_token
        self.never = ids_of(never)
        self.vocabulary = vocabulary
        self.direction = direction
        self.max_tokens = max_tokens
        self._model = model
        self._encode = encode or list

    def encode(self, images: Sequence[Any]) -> Any:
        """Whatever the model needs of the images."""
        return self._encode(images)

    def modules(self) -> Iterator[Any]:
        """What is put in eval mode while decoding."""
        return iter(()) if self._model is None else iter(self._model.modules())


class StepScorer(Wrapper):
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
        join: ``states -> state``, optional.
        prefill: ``(context, items, prefixes) -> (scores, state)``, optional.
        score: ``(context, items, sentences) -> arrays of log-probabilities``, optional.
        normalized: whether ``step`` returns log-probabilities rather than logits.
        aligned: whether all rows of a call must have read equally many tokens.
        declared: what every wrapper is told, ids first; see `Wrapper`.
    """

    def __init__(
        self,
        step: Callable[[Array, Any], tuple[Array, Any]],
        start: Callable[[Any], Any],
        select: Callable[[Any, Array], Any],
        *,
        join: Callable[[Sequence[Any]], Any] | None = None,
        prefill: Callable[[Any, Array, Array], tuple[Array, Any]] | None = None,
        score: Callable[[Any, Array, Sequence[tuple[int, ...]]], Sequence[Any]] | None = None,
        normalized: bool = False,
        aligned: bool = True,
        **declared: Unpack[Declared],
    ):
        super().__init__(**declared)
        self.step = step
        self.start = start
        self.select = select
        self.join = join
        self.prefill = prefill
        self.score = score
        self.normalized = normalized
        self.aligned = aligned


class _Prefixes(NamedTuple):
    context: Any
    images: np.ndarray  # [R]
    tokens: np.ndarray  # [R, t], START in front


class PrefixScorer(Wrapper):
    """A `Scorer` from a function that scores whole prefixes: O(T²) work for T words, but no state to get wrong.

    Args:
        function: ``(context, prefix_tokens [R, t]) -> scores [R, vocab_size]`` of the next token. START is the first
            column. ``context`` has one entry per row: the entries of what ``encode`` returned, repeated as needed.
            Prefixes are tensors where the context holds tensors or there is a ``model``, on its device; without either
            they are NumPy arrays in the first call.
        normalized: whether the function returns log-probabilities rather than logits.
        declared: what every wrapper is told, ids first; see `Wrapper`. ``encode`` returns a list or an array with one
            entry per image along its first axis.
    """

    aligned = True

    def __init__(
        self,
        function: Callable[[Any, Array], Array],
        *,
        normalized: bool = False,
        **declared: Unpack[Declared],
    ):
        super().__init__(**declared)
        self.function = function
        self.normalized = normalized

    def encode(self, images: Sequence[Any]) -> Any:
        """Whatever the function needs of the images.

        Raises:
            TypeError: it does not have one entry per image.
        """
        context = super().encode(images)
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
        weights = None if self._model is None else next(self._model.parameters(), None)
        prefixes_there = _like(prefixes, tokens, rows, weights)
        return self.function(rows, prefixes_there), _Prefixes(context, state.images, prefixes)

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
