"""Scorers made of other scorers: a mixture of several, other probabilities, or other ids."""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.scorers.answers import backend_of, bad_scores, checked_pair, whole_number
from birnn_decode.scorers.protocol import Scorer, as_scorer, never_of, room_of
from birnn_decode.template import Vocabulary
from birnn_decode.tokenizers import as_vocabulary


class Combined:
    """Base class of the scorers made of scorers; it passes on what the inner scorers declare.

    The optional methods ``join``, ``steps`` and ``score`` are offered if the class has a method of the same name with
    an underscore and every inner scorer offers the method. Otherwise the attribute is None.

    Args:
        members: Inner scorers by their names in error messages.

    Raises:
        ValueError: The inner scorers differ in their ids or in their direction.
    """

    join: Callable[[Sequence[Any]], Any] | None
    steps: Callable[[Array, Any], tuple[Array, Any]] | None
    score: Callable[[Any, Array, Sequence[tuple[int, ...]]], Sequence[Array]] | None

    def __init__(self, members: Mapping[str, Any]):
        self._members = members
        scorers = list(members.values())
        self.vocab_size: int = self._common("vocab_size")
        self.start_token: int = self._common("start_token")
        self.end_token: int = self._common("end_token")
        self.direction: str | None = self._common("direction")
        self.never = frozenset[int]().union(*map(never_of, scorers))
        self.aligned = any(getattr(scorer, "aligned", True) for scorer in scorers)
        self.max_tokens: int | None = min(_given(scorers, "max_tokens"), default=None)
        self.vocabulary: Vocabulary | None = next(iter(_given(scorers, "vocabulary")), None)
        for name in ("join", "steps", "score"):
            offered = len(_given(scorers, name)) == len(scorers)
            setattr(self, name, getattr(self, f"_{name}", None) if offered else None)

    def modules(self) -> Iterator[Any]:
        """Iterate over the PyTorch modules of all inner scorers."""
        return itertools.chain.from_iterable(modules() for modules in _given(self._members.values(), "modules"))

    def room(self, context: Any) -> float | None:
        """Return the largest number of tokens of a sentence that all inner scorers can read, or None.

        Args:
            context: Result of `encode` for the images of a search.
        """
        most = min(map(room_of, self._members.values(), self._contexts(context)))
        return None if math.isinf(most) else most

    def _contexts(self, context: Any) -> Any:
        """Return the contexts of the inner scorers."""
        return [context]

    def _common(self, attribute: str) -> Any:
        """Return the value of an attribute that all inner scorers share; None if none of them has the attribute."""
        pairs = [(name, getattr(scorer, attribute, None)) for name, scorer in self._members.items()]
        given = [(name, value) for name, value in pairs if value is not None]
        first, shared = given[0] if given else ("", None)
        for name, value in given:
            if value != shared:
                advice = "" if attribute == "direction" else ". MappedScorer gives a scorer other ids"
                raise ValueError(
                    f"{first} has {attribute} {shared!r}, and {name} has {value!r}; the scorers of an ensemble must "
                    f"read in one direction and share their ids{advice}"
                )
        return shared

    def _checked(self, name: str, call: str, shape: tuple[int, ...], *arguments: Any) -> tuple[Array, Any]:
        """Call ``step`` or ``steps`` of an inner scorer; return log-probabilities of this shape, and the state."""
        scorer = self._members[name]
        scores, state = checked_pair(getattr(scorer, call)(*arguments), f"{name} scorer's {call}")
        return _log_probs(scores, getattr(scorer, "normalized", False), shape, name), state


class _Changed(Combined):
    """Base class of the scorers around one inner scorer."""

    def __init__(self, scorer: Any):
        self.scorer: Any = as_scorer(scorer)
        super().__init__({"inner": self.scorer})

    def encode(self, images: Sequence[Any]) -> Any:
        """Encode the images with the inner scorer; see `Scorer.encode`."""
        return self.scorer.encode(images)

    def start(self, context: Any) -> Any:
        """Make the state in which no token has been read; see `Scorer.start`."""
        return self.scorer.start(context)

    def select(self, state: Any, rows: Array) -> Any:
        """Make a state from some rows of another state; see `Scorer.select`."""
        return self.scorer.select(state, rows)

    def _join(self, states: Sequence[Any]) -> Any:
        return self.scorer.join(states)


class EnsembleScorer(Combined):
    """Mixture of the probabilities of several scorers of one reading direction.

    log p(token | prefix) = log Σ w_i p_i(token | prefix), in nats. A token is impossible (-inf) only if it is
    impossible for all members. An id must mean the same word to every member; `in_vocabulary` gives a scorer the ids
    of another. The members must all be NumPy models or all be PyTorch models. They get the same images.

    ``join``, ``steps`` and ``score`` exist if every member has them. An id that is not a word for one member is not a
    word for the ensemble.

    Args:
        scorers: Members, as scorers or models that `as_scorer` can wrap.
        weights: One weight per member, 0 or larger. They are divided by their sum. (default: equal weights)

    Attributes:
        scorers: Members.
        weights: Weights w_i, whose sum is 1.

    Raises:
        TypeError: A member cannot be wrapped as a scorer.
        ValueError: There is no member; members differ in vocabulary size, START, END or direction; or the weights are
            illegal.

    Example:
        >>> import numpy as np
        >>> from birnn_decode import StepScorer
        >>> from birnn_decode.scorers import EnsembleScorer
        >>> def constant(probabilities):
        ...     scores = np.log([probabilities])
        ...     return StepScorer(
        ...         lambda tokens, state: (scores, state), lambda context: None, lambda state, rows: None,
        ...         vocab_size=4, start_token=0, end_token=1,
        ...     )
        >>> one, two = constant([0.1, 0.3, 0.5, 0.1]), constant([0.1, 0.7, 0.1, 0.1])
        >>> ensemble = EnsembleScorer([one, two], weights=[3, 1])
        >>> log_probs, _ = ensemble.step(np.array([0]), ensemble.start(ensemble.encode(["an image"])))
        >>> np.exp(log_probs).round(2).tolist()
        [[0.1, 0.4, 0.4, 0.1]]
    """

    normalized = True

    def __init__(self, scorers: Sequence[Any], weights: Sequence[float] | None = None):
        if not isinstance(scorers, Iterable):
            raise TypeError(f"scorers must be a list of scorers, got a {type(scorers).__name__}")
        members: dict[str, Any] = {}
        for number, scorer in enumerate(scorers):
            name = f"scorers[{number}]"
            try:
                members[name] = as_scorer(scorer)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from error
        if not members:
            raise ValueError("there are no scorers: give a list of at least one")
        super().__init__(members)
        self.scorers = tuple(members.values())
        self.weights = _shares([1.0] * len(members) if weights is None else weights, len(members))

    def encode(self, images: Sequence[Any]) -> tuple[Any, ...]:
        """Compute what each member needs to know about the images; see `Scorer.encode`."""
        return tuple(scorer.encode(images) for scorer in self.scorers)

    def _contexts(self, context: Any) -> Any:
        return context

    def start(self, context: tuple[Any, ...]) -> tuple[Any, ...]:
        """Make the tuple of the members' states; see `Scorer.start`."""
        return self._each("start", context)

    def step(self, tokens: Array, state: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
        """Read one token per row and mix the probabilities; see `Scorer.step`.

        Raises:
            TypeError: A member does not return a pair, or its scores belong to another library than the others'.
            ValueError: Scores of a member are NaN, +inf, log-probabilities above 0, or of a wrong shape.
        """
        return self._mix_read("step", (len(tokens), self.vocab_size), [(tokens, own) for own in state])

    def select(self, state: tuple[Any, ...], rows: Array) -> tuple[Any, ...]:
        """Select rows of the state of each member; see `Scorer.select`."""
        return self._each("select", state, rows)

    def _join(self, states: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        return self._each("join", tuple(zip(*states, strict=True)))

    def _steps(self, tokens: Array, state: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
        return self._mix_read("steps", (*tokens.shape, self.vocab_size), [(tokens, own) for own in state])

    def _score(self, context: tuple[Any, ...], items: Array, sentences: Sequence[tuple[int, ...]]) -> list[Array]:
        scored = []
        for name, arrays in zip(self._members, self._each("score", context, items, sentences), strict=True):
            if len(arrays) != len(sentences):
                raise ValueError(f"score of {name} returned {len(arrays)} arrays for {len(sentences)} sentences")
            pairs = zip(arrays, sentences, strict=True)
            scored.append([_log_probs(terms, True, (len(words) + 1,), name) for terms, words in pairs])
        return [self._mix(terms) for terms in zip(*scored, strict=True)]

    def _each(self, method: str, own: tuple[Any, ...], *arguments: Any) -> tuple[Any, ...]:
        """Call a method of every member with what belongs to the member and with arguments that all share."""
        return tuple(getattr(one, method)(part, *arguments) for one, part in zip(self.scorers, own, strict=True))

    def _mix_read(self, call: str, shape: tuple[int, ...], each: Sequence[Any]) -> tuple[Array, tuple[Any, ...]]:
        """Mix what ``step`` or ``steps`` of the members returns for the arguments of each."""
        pairs = zip(self._members, each, strict=True)
        log_probs, states = zip(*[self._checked(name, call, shape, *own) for name, own in pairs], strict=True)
        return self._mix(log_probs), states

    def _mix(self, log_probs: Sequence[Array]) -> Array:
        """Compute log Σ w_i exp(log_probs[i])."""
        libraries = [_library(array) for array in log_probs]
        library = libraries[0]
        if len(set(libraries)) > 1:
            kinds = ", ".join(f"{name} {one.__name__}" for name, one in zip(self._members, libraries, strict=True))
            raise TypeError(f"the scores of the scorers of an ensemble must be of one library; they are {kinds}")
        if library is not np:
            log_probs = [array.to(log_probs[0].device) for array in log_probs]
        log_weights = [math.log(weight) if weight else -math.inf for weight in self.weights]
        terms = library.stack([array + shift for array, shift in zip(log_probs, log_weights, strict=True)])
        # Where every term is -inf, the gradients would be -inf - -inf = NaN.
        dead = library.amax(terms, 0) == -math.inf
        terms = library.where(dead, 0.0, terms)
        return library.where(dead, -math.inf, np.logaddexp.reduce(terms) if library is np else terms.logsumexp(0))


class _Adjusted(NamedTuple):
    state: Any  # of the inner scorer
    prefixes: Array | None  # [R, t], START in front; None: nothing was read, or there is no hook


class AdjustedScorer(_Changed):
    """Scorer with another temperature, or with scores that a function changes.

    The log-probabilities of the inner scorer, in nats, are divided by the temperature. Then the hook is called. The
    search normalises the result over the whole vocabulary. There is no method ``score``: finished sentences are read
    step by step, so that the hook counts in J as well.

    Args:
        scorer: Inner scorer, or a model that `as_scorer` can wrap.
        temperature: T in p^(1/T), larger than 0. A temperature above 1 makes the distribution flatter. (default: 1.0)
        hook: Function ``(prefixes [R, t], scores [R, vocab_size]) -> scores``, called like the logits processors of
            Hugging Face; a ``LogitsProcessorList`` is a hook. Prefixes are int64, in the reading order of the scorer,
            with START as the first column. Set a score to -inf to make a token impossible. The rows may belong to
            several images, so treat each row by itself. The hook may change both arrays. (default: None)

    Attributes:
        scorer: Inner scorer.
        temperature: Temperature.
        hook: Hook, or None.

    Raises:
        TypeError: The model cannot be wrapped as a scorer, or the hook is not callable.
        ValueError: The temperature is not a finite number above 0.

    Example:
        No word twice:

        >>> import numpy as np
        >>> from birnn_decode import BeamSearch, Pair, PrefixScorer, Template, decode
        >>> from birnn_decode.scorers import AdjustedScorer
        >>> def prefers_high_ids(images, prefixes):
        ...     return np.tile(np.arange(6.0), (len(prefixes), 1))
        >>> def no_word_twice(prefixes, scores):
        ...     np.put_along_axis(scores, prefixes[:, 1:], -np.inf, axis=1)
        ...     return scores
        >>> scorer = PrefixScorer(prefers_high_ids, vocab_size=6, start_token=0, end_token=1)
        >>> adjusted = AdjustedScorer(scorer, temperature=2.0, hook=no_word_twice)
        >>> blanks, forward = Template.blank([], 3), BeamSearch("forward")
        >>> decode(Pair(scorer, None), None, blanks, forward).best.tokens
        (5, 5, 5)
        >>> decode(Pair(adjusted, None), None, blanks, forward).best.tokens
        (5, 4, 3)
    """

    normalized = False

    def __init__(self, scorer: Any, *, temperature: float = 1.0, hook: Callable[[Array, Array], Array] | None = None):
        if not hasattr(temperature, "__float__") or not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")
        if hook is not None and not callable(hook):
            raise TypeError(f"hook must be a function (prefixes, scores) -> scores, got a {type(hook).__name__}")
        super().__init__(scorer)
        self.temperature = temperature
        self.hook: Any = hook
        # A hook gets the prefixes of all rows as one rectangle.
        self.aligned = self.aligned or hook is not None

    def start(self, context: Any) -> _Adjusted:
        """Make the state in which no token has been read; see `Scorer.start`."""
        return _Adjusted(self.scorer.start(context), None)

    def step(self, tokens: Array, state: _Adjusted) -> tuple[Array, _Adjusted]:
        """Read one token per row; return the adjusted scores; see `Scorer.step`.

        Raises:
            TypeError: The inner scorer does not return a pair, or the hook does not return an array of the same kind.
            ValueError: Inner scores are NaN, +inf or log-probabilities above 0, or scores have a wrong shape.
        """
        scores, inner = self._tempered("step", (len(tokens),), tokens, state.state)
        if self.hook is None:
            return scores, _Adjusted(inner, None)
        prefixes = self._extended(state.prefixes, _ids_like(tokens, scores)[:, None])
        return self._hooked(prefixes, scores), _Adjusted(inner, prefixes)

    def select(self, state: _Adjusted, rows: Array) -> _Adjusted:
        """Make a state from some rows of another state; see `Scorer.select`."""
        inner, prefixes = state
        if prefixes is not None:
            prefixes = prefixes[_ids_like(rows, prefixes)]
        return _Adjusted(self.scorer.select(inner, rows), prefixes)

    def _join(self, states: Sequence[_Adjusted]) -> _Adjusted:
        inner, prefixes = zip(*states, strict=True)
        first = prefixes[0]  # None for one is None for all: their rows have read the same number of tokens
        joined = None if first is None else _library(first).concatenate(prefixes, 0)
        return _Adjusted(self.scorer.join(inner), joined)

    def _steps(self, tokens: Array, state: _Adjusted) -> tuple[Array, _Adjusted]:
        scores, inner = self._tempered("steps", tuple(tokens.shape), tokens, state.state)
        if self.hook is None:
            return scores, _Adjusted(inner, None)
        prefixes = self._extended(state.prefixes, _ids_like(tokens, scores))
        before = prefixes.shape[1] - tokens.shape[1]
        hooked = [self._hooked(prefixes[:, : before + at + 1], scores[:, at]) for at in range(tokens.shape[1])]
        return _library(scores).stack(hooked, 1), _Adjusted(inner, prefixes)

    def _extended(self, prefixes: Array | None, tokens: Array) -> Array:
        """Return prefixes with more tokens, [R, t], at their ends."""
        if prefixes is None:
            return tokens
        return _library(tokens).concatenate([_ids_like(prefixes, tokens), tokens], 1)

    def _tempered(self, call: str, shape: tuple[int, ...], *arguments: Any) -> tuple[Array, Any]:
        """Return scores and state. The scores are a new array, even if the temperature is 1: the hook may change it."""
        log_probs, inner = self._checked("inner", call, (*shape, self.vocab_size), *arguments)
        with np.errstate(over="ignore"):  # some models mask with the lowest number of their dtype
            return log_probs / self.temperature, inner

    def _hooked(self, prefixes: Array, scores: Array) -> Array:
        hooked = self.hook(prefixes.copy() if _library(prefixes) is np else prefixes.clone(), scores)
        if not isinstance(hooked, type(scores)):
            raise TypeError(f"the hook must return scores [rows, vocab_size], got a {type(hooked).__name__}")
        backend_of(hooked, tuple(scores.shape), "rows, vocab_size", "the hooked scorer")
        return hooked


class MappedScorer(_Changed):
    """Scorer with its ids in another order.

    Use it if the vocabularies of two models have the same words in different orders. `in_vocabulary` finds the order
    from the words.

    Args:
        scorer: Inner scorer, or a model that `as_scorer` can wrap.
        ids: Ids of the inner scorer in the new order: ``ids[v]`` is the id of the inner scorer that gets the new id v.
            Each of its ids must appear once.
        vocabulary: Vocabulary with the new ids. The one of the inner scorer has the old ids and is not passed on.
            (default: None)

    Attributes:
        scorer: Inner scorer.
        ids: Ids of the inner scorer in the new order, as a tuple.

    Raises:
        TypeError: The model cannot be wrapped as a scorer, or an id is not an integer.
        ValueError: An id is missing, appears twice or is not an id of the scorer.

    Example:
        >>> import numpy as np
        >>> from birnn_decode import PrefixScorer
        >>> from birnn_decode.scorers import MappedScorer
        >>> def last_again(images, prefixes):
        ...     return np.eye(4)[prefixes[:, -1]]
        >>> scorer = PrefixScorer(last_again, vocab_size=4, start_token=0, end_token=1)
        >>> mapped = MappedScorer(scorer, [2, 3, 0, 1])
        >>> mapped.start_token, mapped.end_token
        (2, 3)
        >>> mapped.step(np.array([2]), mapped.start(mapped.encode([None])))[0].tolist()
        [[0.0, 0.0, 1.0, 0.0]]
    """

    def __init__(self, scorer: Any, ids: Iterable[int], *, vocabulary: Vocabulary | None = None):
        super().__init__(scorer)
        self.normalized: bool = getattr(self.scorer, "normalized", False)
        self.vocabulary = vocabulary
        self.ids = _permutation(ids, self.vocab_size)
        new = {own: token for token, own in enumerate(self.ids)}
        self.start_token, self.end_token = new[self.start_token], new[self.end_token]
        self.never = frozenset(new[token] for token in self.never)
        self._indices: dict[Any, Array] = {}  # the ids as an array, by device

    def step(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Read one token per row; put its scores in the new order; see `Scorer.step`.

        Raises:
            TypeError: The inner scorer does not return a pair, or its scores are not an array.
            ValueError: The scores have a wrong shape.
        """
        return self._mapped("step", (len(tokens),), self._index_like(tokens)[tokens], state)

    def _steps(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        return self._mapped("steps", tuple(tokens.shape), self._index_like(tokens)[tokens], state)

    def _score(self, context: Any, items: Array, sentences: Sequence[tuple[int, ...]]) -> Any:
        return self.scorer.score(context, items, [tuple(self.ids[word] for word in words) for words in sentences])

    def _mapped(self, call: str, shape: tuple[int, ...], *arguments: Any) -> tuple[Array, Any]:
        scores, state = checked_pair(getattr(self.scorer, call)(*arguments), f"inner scorer's {call}")
        backend_of(scores, (*shape, self.vocab_size), "…, vocab_size", "the inner scorer")
        return scores[..., self._index_like(scores)], state

    def _index_like(self, array: Array) -> Array:
        device = None if _library(array) is np else array.device
        if device not in self._indices:
            self._indices[device] = _ids_like(self.ids, array)
        return self._indices[device]


def in_vocabulary(scorer: Any, vocabulary: Any) -> Scorer:
    """Give a scorer the ids of another vocabulary with the same words.

    The words of a vocabulary are its attribute ``words`` (a list of words by id), or those of its method
    ``get_vocab()`` (a dict from word to id, as in Hugging Face's tokenizers). If a model has more ids than words, the
    ids without a word keep their order.

    Args:
        scorer: Scorer with a ``vocabulary`` that has its ids, or a model that `as_scorer` can wrap.
        vocabulary: Vocabulary to change to. It becomes the ``vocabulary`` of the result.

    Returns:
        A `MappedScorer`, or the scorer itself if it has this vocabulary already.

    Raises:
        TypeError: The model cannot be wrapped as a scorer, has no vocabulary, or a vocabulary does not list its words.
        ValueError: One vocabulary has words that the other lacks, has a word or an id twice, or has an id that the
            scorer does not have.

    Example:
        >>> from birnn_decode import PrefixScorer
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.scorers import in_vocabulary
        >>> own, other = WordVocabulary(["a", "cat"]), WordVocabulary(["cat", "a"])
        >>> scorer = PrefixScorer(None, vocab_size=6, start_token=1, end_token=2, vocabulary=own)
        >>> in_vocabulary(scorer, other).ids
        (0, 1, 2, 3, 5, 4)
    """
    known = as_scorer(scorer)
    vocabulary = as_vocabulary(vocabulary)
    own = as_vocabulary(getattr(known, "vocabulary", None))
    if own is None:
        raise TypeError("the scorer has no vocabulary; give its ids in the new order: MappedScorer(scorer, ids)")
    size = known.vocab_size
    old, new = _words(own, "scorer's", size), _words(vocabulary, "given", size)
    lacking = [
        f"the {name} vocabulary lacks {len(words)} of the other's words: {', '.join(map(repr, words[:3]))}"
        + (", …" if len(words) > 3 else "")
        for name, its, others in (("given", new, old), ("scorer's", old, new))
        if (words := [word for word in others if word not in its])
    ]
    if lacking:
        raise ValueError(f"{'; '.join(lacking)}. Both must have the same words, in any order")
    if own is vocabulary or (old == new and own == vocabulary):
        return known
    # Ids without a word are mapped to ids without a word, the first to the first.
    wordless = [sorted(set(range(size)).difference(ids.values())) for ids in (new, old)]
    ids = dict(zip(*wordless, strict=True)) | {token: old[word] for word, token in new.items()}
    return MappedScorer(known, [ids[token] for token in range(size)], vocabulary=vocabulary)


def _words(vocabulary: Any, name: str, vocab_size: int) -> dict[str, int]:
    """Return the id of each word."""
    listed = getattr(vocabulary, "words", None)
    if listed is not None and not callable(listed):
        pairs = [(word, token) for token, word in enumerate(listed)]
    elif hasattr(vocabulary, "get_vocab"):
        pairs = list(vocabulary.get_vocab().items())
    else:
        raise TypeError(
            f"the {name} vocabulary is a {type(vocabulary).__name__} with neither words nor get_vocab(). Give the ids "
            "of the scorer in the new order: MappedScorer(scorer, ids)"
        )
    for what, values in (("word", [word for word, _ in pairs]), ("id", [token for _, token in pairs])):
        if doubled := _doubled(values):
            raise ValueError(f"the {name} vocabulary has the {what} {doubled[0]!r} twice; give each {what} once")
    for word, token in pairs:
        if not 0 <= token < vocab_size:
            raise ValueError(f"the {name} vocabulary has id {token} for {word!r}; the scorer has {vocab_size} ids")
    return dict(pairs)


def _permutation(ids: Iterable[int], vocab_size: int) -> tuple[int, ...]:
    """Check that each of ``range(vocab_size)`` appears once."""
    numbers = [whole_number(token, "an id of ids") for token in ids]
    every = range(vocab_size)
    wrong = [
        *[f"{token} is not an id" for token in numbers if token not in every][:1],
        *[f"{token} appears twice" for token in _doubled(numbers)][:1],
        *[f"{token} is missing" for token in sorted(set(every).difference(numbers))][:1],
    ]
    if wrong:
        raise ValueError(
            f"ids must have each of the scorer's {vocab_size} ids, 0 to {vocab_size - 1}, once: {', '.join(wrong)}"
        )
    return tuple(numbers)


def _shares(weights: Sequence[float], members: int) -> tuple[float, ...]:
    """Return the weights divided by their sum."""
    numbers = [float(weight) for weight in weights]
    if len(numbers) != members:
        raise ValueError(f"there are {len(numbers)} weights for {members} scorers; give one weight per scorer")
    if not all(0 <= weight < math.inf for weight in numbers) or not any(numbers):
        raise ValueError(f"weights must be finite, 0 or larger, and not all 0, got {numbers}")
    highest = max(numbers)  # first, so that the sum does not overflow
    total = math.fsum(weight / highest for weight in numbers)
    return tuple(weight / highest / total for weight in numbers)


def _log_probs(scores: Array, normalized: bool, shape: tuple[int, ...], name: str) -> Array:
    """Return the log-probabilities, in nats, of scores [..., vocab_size]; half precision becomes float32.

    A row that is all -inf stays as it is. Bad scores are refused here, because the search would not see them after a
    mixture or a second normalisation. The result may be the same array.
    """
    backend = backend_of(scores, shape, "…, vocab_size" if len(shape) > 1 else "words + 1", f"the {name} scorer")
    log_probs, faulty = backend.log_probs(scores.reshape(-1, shape[-1]), normalized)
    if faulty:
        raise bad_scores(name, f"in row {faulty[0]}", normalized)
    return log_probs.reshape(shape)


def _library(array: Array) -> Any:
    """Return NumPy or PyTorch, without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def _ids_like(ids: Any, array: Array) -> Array:
    """Return ids as an int64 array of the same library and device as another array."""
    library = _library(array)
    where = {} if library is np else {"device": array.device}
    return library.asarray(ids, dtype=library.int64, **where)


def _given(scorers: Iterable[Scorer], attribute: str) -> list[Any]:
    """Return the attributes that are there and are not None."""
    return [value for scorer in scorers if (value := getattr(scorer, attribute, None)) is not None]


def _doubled(values: Iterable[Any]) -> list[Any]:
    """Return the values that appear more than once."""
    return [value for value, times in Counter(values).items() if times > 1]
