"""Wrappers that make a scorer from plain functions, for NumPy and PyTorch alike."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.template import Vocabulary


class Wrapper:
    """Base class of all wrappers, with the arguments that they share.

    A wrapper passes these arguments on as ``**declared``. They say what a search must know about a model besides how
    to step it.

    The reading direction of a model follows from its ids and from the order of its training sentences. If a backward
    model was trained on reversed sentences, it has the same ``start_token`` and ``end_token`` as the forward model. If
    START and END were reversed together with the words, the two ids change places.

    Args:
        vocab_size: Number of ids.
        start_token: Id that begins a sentence, in the reading order of the model.
        end_token: Id that ends a sentence, in the reading order of the model.
        encode: Function ``images -> context``, called once per search. The context is what ``start`` is given.
            (default: the list of images)
        never: Ids that are not words, such as PAD and UNK. START and END always count as members. (default: none)
        vocabulary: Object with ``encode(text) -> ids`` and ``decode(ids) -> text``. (default: None)
        direction: "forward" or "backward", the direction in which the model reads. A model that is given for the other
            direction is then refused. (default: None, not known)
        max_tokens: Largest number of tokens of a sentence that the model can read, START included, such as the size of
            its table of positions. Longer sentences are refused before any token is read. (default: None, no limit)
        model: ``torch.nn.Module`` that is put in eval mode while decoding, and restored. Without it, put the model in
            eval mode yourself: with dropout, every call would return another result. (default: None)

    Raises:
        TypeError: ``never`` is not a collection, or ``model`` is not a module.
        ValueError: ``direction`` or ``max_tokens`` has an illegal value.

    Example:
        A wrapper of your own adds ``start``, ``step`` and ``select``:

        >>> import numpy as np
        >>> from birnn_decode import Scorer
        >>> from birnn_decode.scorers import Wrapper
        >>> class Uniform(Wrapper):
        ...     def start(self, context):
        ...         return None
        ...
        ...     def step(self, tokens, state):
        ...         return np.zeros((len(tokens), self.vocab_size)), state
        ...
        ...     def select(self, state, rows):
        ...         return state
        >>> scorer = Uniform(vocab_size=6, start_token=0, end_token=1, max_tokens=20)
        >>> isinstance(scorer, Scorer), scorer.max_tokens
        (True, 20)
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
            raise ValueError(f'direction must be "forward" or "backward", got {direction!r}')
        if max_tokens is not None and (not hasattr(max_tokens, "__index__") or max_tokens < 1):
            raise ValueError(f"max_tokens must be a positive integer, because START is one token, got {max_tokens!r}")
        if isinstance(never, str) or not isinstance(never, Collection):
            raise TypeError(f"never must be a set of ids, such as {{0, 3}}, got {never!r}")
        if model is not None and not hasattr(model, "modules"):
            raise TypeError(
                f"model must be the torch.nn.Module to put in eval mode, got a {type(model).__name__}. Leave it out if "
                "there is none"
            )
        self.vocab_size = vocab_size
        self.start_token = start_token
        self.end_token = end_token
        self.never = frozenset(never)
        self.vocabulary = vocabulary
        self.direction = direction
        self.max_tokens = max_tokens
        self._model = model
        self._encode = encode or list

    def encode(self, images: Sequence[Any]) -> Any:
        """Compute what the model needs to know about the images; see `Scorer.encode`."""
        return self._encode(images)

    def modules(self) -> Iterator[Any]:
        """Return the PyTorch modules that are put in eval mode while decoding.

        Returns:
            Iterator over the modules of ``model``; empty if there is none.
        """
        return iter(()) if self._model is None else iter(self._model.modules())


OPTIONS = frozenset(inspect.signature(Wrapper).parameters)


class StepScorer(Wrapper):
    """Make a `Scorer` from its functions.

    Each argument is the method of `Scorer` of the same name. If the state of a PyTorch decoder consists of tensors,
    `birnn_decode.scorers.torch.TorchScorer` needs fewer functions: it derives ``select`` and ``join``.

    Args:
        step: Function ``(tokens [R], state) -> (scores [R, vocab_size], state)``.
        start: Function ``context -> state`` with one row per image.
        select: Function ``(state, rows) -> state``.
        join: Function ``states -> state``. (default: None)
        steps: Function ``(tokens [R, t], state) -> (scores [R, t, vocab_size], state)``. (default: None)
        score: Function ``(context, items, sentences) -> arrays of log-probabilities``. (default: None)
        normalized: True if ``step`` returns log-probabilities, False if it returns logits. (default: False)
        aligned: True if all rows of a call must have read the same number of tokens. (default: True)
        **declared: Arguments of every wrapper; see `Wrapper`. ``vocab_size``, ``start_token`` and ``end_token`` are
            required.

    Example:
        A bigram model needs no state.

        >>> import numpy as np
        >>> from birnn_decode import StepScorer
        >>> logits = np.log([[1, 1, 4, 4], [1, 1, 1, 1], [1, 2, 1, 6], [1, 7, 1, 1]])
        >>> scorer = StepScorer(
        ...     step=lambda tokens, state: (logits[tokens], state),
        ...     start=lambda context: None,
        ...     select=lambda state, rows: None,
        ...     vocab_size=4, start_token=0, end_token=1,
        ... )
        >>> scores, state = scorer.step(np.array([0]), scorer.start(scorer.encode(["an image"])))
        >>> scores.round(2).tolist()
        [[0.0, 0.0, 1.39, 1.39]]
    """

    def __init__(
        self,
        step: Callable[[Array, Any], tuple[Array, Any]],
        start: Callable[[Any], Any],
        select: Callable[[Any, Array], Any],
        *,
        join: Callable[[Sequence[Any]], Any] | None = None,
        steps: Callable[[Array, Any], tuple[Array, Any]] | None = None,
        score: Callable[[Any, Array, Sequence[tuple[int, ...]]], Sequence[Any]] | None = None,
        normalized: bool = False,
        aligned: bool = True,
        **declared: Any,
    ):
        super().__init__(**declared)
        self.step = step
        self.start = start
        self.select = select
        self.join = join
        self.steps = steps
        self.score = score
        self.normalized = normalized
        self.aligned = aligned


class _Prefixes(NamedTuple):
    context: Any
    images: np.ndarray  # [R]
    tokens: np.ndarray  # [R, t], START in front


class PrefixScorer(Wrapper):
    """Make a `Scorer` from a function that scores whole prefixes.

    There is no state that could be handled wrongly, but the function reads all tokens of a prefix at every step: the
    work for T words grows with T². Use it for small models and as the reference of `check_scorer`.

    Args:
        function: Function ``(context, prefixes [R, t]) -> scores [R, vocab_size]`` of the next token. START is the
            first column of ``prefixes``. ``context`` has one entry per row, taken from the result of ``encode``. If the
            context consists of tensors or ``model`` is given, the prefixes are tensors on the same device. Otherwise
            they are NumPy arrays in the first call.
        normalized: True if the function returns log-probabilities, False if it returns logits. (default: False)
        **declared: Arguments of every wrapper; see `Wrapper`. ``vocab_size``, ``start_token`` and ``end_token`` are
            required. ``encode`` must return a list or an array with one entry per image on its first axis.

    Example:
        >>> import numpy as np
        >>> from birnn_decode import PrefixScorer
        >>> def never_twice(images, prefixes):
        ...     scores = np.zeros((len(prefixes), 5))
        ...     np.put_along_axis(scores, prefixes, -np.inf, axis=1)
        ...     return scores
        >>> scorer = PrefixScorer(never_twice, vocab_size=5, start_token=0, end_token=1)
        >>> _, state = scorer.step(np.array([0]), scorer.start(scorer.encode(["an image"])))
        >>> scores, state = scorer.step(np.array([3]), state)
        >>> scores.tolist()
        [[-inf, 0.0, 0.0, -inf, 0.0]]
    """

    OPTIONS: ClassVar[frozenset[str]] = OPTIONS | {"normalized"}
    NEEDED: ClassVar[dict[str, str]] = {
        "vocab_size": "number of ids",
        "start_token": "id that begins a sentence",
        "end_token": "id that ends a sentence",
    }
    aligned = True

    def __init__(self, function: Callable[[Any, Array], Array], *, normalized: bool = False, **declared: Any):
        super().__init__(**declared)
        self.function = function
        self.normalized = normalized

    def encode(self, images: Sequence[Any]) -> Any:
        """Compute what the function needs to know about the images; see `Scorer.encode`.

        Raises:
            TypeError: The result does not have one entry per image.
        """
        context = super().encode(images)
        if not (isinstance(context, list) or hasattr(context, "shape")) or len(context) != len(images):
            size = f" of {len(context)}" if hasattr(context, "__len__") else ""
            raise TypeError(
                f"encode returned a {type(context).__name__}{size}; a PrefixScorer needs a list or an array with one "
                f"entry per image, here {len(images)}"
            )
        return context

    def start(self, context: Any) -> _Prefixes:
        """Make a state with one empty prefix per image; see `Scorer.start`."""
        return _Prefixes(context, np.arange(len(context)), np.empty((len(context), 0), dtype=np.int64))

    def step(self, tokens: Array, state: _Prefixes) -> tuple[Array, _Prefixes]:
        """Score the prefixes that are one token longer; see `Scorer.step`."""
        context, images, read = state
        prefixes = np.concatenate([read, _host(tokens)[:, None]], axis=1)
        rows = [context[image] for image in images] if isinstance(context, list) else context[_like(images, context)]
        weights = None if self._model is None else next(self._model.parameters(), None)
        return self.function(rows, _like(prefixes, tokens, rows, weights)), state._replace(tokens=prefixes)

    def select(self, state: _Prefixes, rows: Array) -> _Prefixes:
        """Make a state from some rows of another state; see `Scorer.select`."""
        rows = _host(rows)
        return _Prefixes(state.context, state.images[rows], state.tokens[rows])

    def join(self, states: Sequence[_Prefixes]) -> _Prefixes:
        """Make one state from the rows of several states, one state after the other."""
        contexts, images, tokens = zip(*states, strict=True)
        return _Prefixes(contexts[0], np.concatenate(images), np.concatenate(tokens))


def _host(array: Array) -> np.ndarray:
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)


def _like(array: np.ndarray, *models: Any) -> Array:
    """Copy an array to the device of the first tensor among ``models``, if there is one; a list counts as its first."""
    torch = sys.modules.get("torch")
    for model in models:
        first = model[0] if isinstance(model, list) and model else model
        if torch is not None and isinstance(first, torch.Tensor):
            return torch.tensor(array, device=first.device)
    return array.copy()
