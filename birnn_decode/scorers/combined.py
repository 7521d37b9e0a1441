"""Scorers made of scorers: several as one, with other probabilities, or with other ids."""

from __future__ import annotations

import math
import operator
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.scorers.answers import backend_of, checked_pair
from birnn_decode.scorers.protocol import Scorer, as_scorer, never_of, room_of
from birnn_decode.template import Vocabulary
from birnn_decode.tokenizers import as_vocabulary


class Combined:
    """What scorers made of scorers have in common: they pass on what those inside say of themselves.

    A member of `Scorer` that may be left out is offered where the class has it, with an underscore in front, and every
    scorer inside offers it; the attribute is None otherwise.

    Args:
        members: the scorers inside, by their names in error messages.

    Raises:
        ValueError: they differ in their ids or in their direction.
    """

    join: Callable[[Sequence[Any]], Any] | None
    prefill: Callable[[Any, Array, Array], tuple[Array, Any]] | None
    score: Callable[[Any, Array, Sequence[tuple[int, ...]]], Sequence[Array]] | None

    def __init__(self, members: Mapping[str, Scorer]):
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
        for name in ("join", "prefill", "score"):
            offered = len(_given(scorers, name)) == len(scorers)
            setattr(self, name, getattr(self, f"_{name}", None) if offered else None)

    def modules(self) -> Iterator[Any]:
        """The PyTorch modules of all scorers inside."""
        for modules in _given(self._members.values(), "modules"):
            yield from modules()

    def room(self, context: Any) -> float | None:
        """The most tokens that all scorers inside can read of a sentence about the images of a context."""
        most = min(map(room_of, self._members.values(), self._contexts(context)))
        return None if math.isinf(most) else most

    def _contexts(self, context: Any) -> Sequence[Any]:
        """Those of the scorers inside."""
        return [context]

    def _common(self, attribute: str) -> Any:
        """What all of those that have the attribute say; None where none has it."""
        said = {name: getattr(scorer, attribute, None) for name, scorer in self._members.items()}
        said = {name: value for name, value in said.items() if value is not None}
        first, value = next(iter(said.items()), (None, None))
        for name, other in said.items():
            if other != value:
                raise ValueError(
                    f"{first} has {attribute} {value!r}, and {name} has {other!r}: the scorers of an ensemble read in "
                    "one direction and share their ids"
                    + ("" if attribute == "direction" else "; MappedScorer gives a scorer other ids")
                )
        return value


class EnsembleScorer(Combined):
    """Several scorers of one reading direction as one: the mixture of their probabilities.

    log p(token | prefix) = log Σ w_i p_i(token | prefix), in nats. A token that is impossible for some members can
    still follow; what is impossible for all is -inf. An id must mean the same word to every member: `in_vocabulary`
    sees to that. Members are all NumPy's or all PyTorch's, and are given the same images.

    The state is the tuple of the members' states, the context that of their contexts. ``join``, ``prefill`` and
    ``score`` are there where every member has them; what is no word for one member is none for the ensemble.

    Args:
        scorers: the members.
        weights: one for each member, not negative; they are divided by their sum. Equal if not given.

    Attributes:
        scorers: the members.
        weights: w_i, whose sum is 1.

    Raises:
        TypeError: a member is no scorer.
        ValueError: there is none, they differ in vocabulary size, START, END or direction, or the weights are none.
    """

    normalized = True

    def __init__(self, scorers: Sequence[Any], weights: Sequence[float] | None = None):
        if not isinstance(scorers, Iterable):
            raise TypeError(f"EnsembleScorer takes a list of scorers; it was given a {type(scorers).__name__}")
        members = {}
        for number, scorer in enumerate(scorers):
            name = f"scorers[{number}]"
            try:
                members[name] = as_scorer(scorer)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{name}: {error}") from error
        if not members:
            raise ValueError("EnsembleScorer was given no scorers; it takes a list of at least one")
        super().__init__(members)
        self.scorers = tuple(members.values())
        self.weights = _shares([1.0] * len(members) if weights is None else weights, len(members))

    def encode(self, images: Sequence[Any]) -> tuple[Any, ...]:
        """What each member needs of the images."""
        return tuple(scorer.encode(images) for scorer in self.scorers)

    def _contexts(self, context: Any) -> Sequence[Any]:
        contexts: tuple[Any, ...] = context
        return contexts

    def start(self, context: tuple[Any, ...]) -> tuple[Any, ...]:
        """Each member's state, nothing read yet."""
        return tuple(scorer.start(own) for scorer, own in zip(self.scorers, context, strict=True))

    def step(self, tokens: Array, state: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
        """Log-probabilities [R, vocab_size] of the mixture, and each member's state after reading.

        Raises:
            TypeError: what a member returned is no pair, or not of the other members' library.
            ValueError: a member's scores are NaN, +inf, above 0 where they should be log-probabilities, or of a wrong
                shape.
        """
        read = [scorer.step(tokens, own) for scorer, own in zip(self.scorers, state, strict=True)]
        return self._mix_read(read, "step", (len(tokens), self.vocab_size))

    def select(self, state: tuple[Any, ...], rows: Array) -> tuple[Any, ...]:
        """Gather rows of each member's state."""
        return tuple(scorer.select(own, rows) for scorer, own in zip(self.scorers, state, strict=True))

    def _join(self, states: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        by_member = zip(*states, strict=True)
        return tuple(_member(scorer, "join")(own) for scorer, own in zip(self.scorers, by_member, strict=True))

    def _prefill(self, context: tuple[Any, ...], items: Array, prefixes: Array) -> tuple[Array, tuple[Any, ...]]:
        read = [
            _member(scorer, "prefill")(own, items, prefixes) for scorer, own in zip(self.scorers, context, strict=True)
        ]
        return self._mix_read(read, "prefill", (*prefixes.shape, self.vocab_size))

    def _score(self, context: tuple[Any, ...], items: Array, sentences: Sequence[tuple[int, ...]]) -> list[Array]:
        scored = []
        for (name, scorer), own in zip(self._members.items(), context, strict=True):
            arrays = _member(scorer, "score")(own, items, sentences)
            if len(arrays) != len(sentences):
                raise ValueError(f"{name}'s score gave {len(arrays)} arrays for {len(sentences)} sentences")
            scored.append(
                [
                    _log_probs(terms, True, (len(words) + 1,), name)
                    for terms, words in zip(arrays, sentences, strict=True)
                ]
            )
        return [self._mix(terms) for terms in zip(*scored, strict=True)]

    def _mix_read(self, read: Sequence[Any], call: str, shape: tuple[int, ...]) -> tuple[Array, tuple[Any, ...]]:
        """The mixture of what the members returned, (scores, state) each."""
        log_probs, states = [], []
        for (name, scorer), returned in zip(self._members.items(), read, strict=True):
            scores, state = checked_pair(returned, f"{name} scorer's {call}")
            log_probs.append(_log_probs(scores, getattr(scorer, "normalized", False), shape, name))
            states.append(state)
        return self._mix(log_probs), tuple(states)

    def _mix(self, log_probs: Sequence[Array]) -> Array:
        """The log Σ w_i exp(log_probs[i]) of each element."""
        library = _library(log_probs[0])
        if any(_library(array) is not library for array in log_probs):
            kinds = ", ".join(
                f"{name} {_library(a).__name__}" for name, a in zip(self._members, log_probs, strict=True)
            )
            raise TypeError(f"the scores of an ensemble's scorers must be of one library; they are of {kinds}")
        if library is not np:
            log_probs = [array.to(log_probs[0].device) for array in log_probs]
        log_weights = [math.log(weight) if weight else -math.inf for weight in self.weights]
        terms = library.stack([array + shift for array, shift in zip(log_probs, log_weights, strict=True)])
        peak = library.amax(terms, 0)
        # What is impossible for all is left out and put back, so that neither the values nor a graph have -inf - -inf.
        dead = peak == -math.inf
        peak = library.where(dead, 0.0, peak)
        total = library.log(library.exp(library.where(dead, 0.0, terms) - peak).sum(0)) + peak
        return library.where(dead, -math.inf, total)


class _Adjusted(NamedTuple):
    state: Any  # the inner scorer's
    prefixes: Array | None  # [R, t], START in front; None: nothing read yet, or no hook that wants them


class AdjustedScorer(Combined):
    """A scorer with other probabilities: those of another temperature, or what a function makes of them.

    The inner scorer's log-probabilities (nats) are divided by the temperature, the hook is applied, and the search
    normalises what comes out over the whole vocabulary. There is no ``score``: finished sentences are read step by
    step, so that the hook has its say in J, too.

    Example, no word twice::

        def no_word_twice(prefixes, scores):
            return scores.scatter(1, prefixes[:, 1:], -torch.inf)  # START, in front, may be the END as well

        scorer = AdjustedScorer(scorer, hook=no_word_twice)

    Args:
        scorer: the inner scorer.
        temperature: T in p^(1/T), above 0; more than 1 makes the distribution flatter.
        hook: ``(prefixes [R, t], scores [R, vocab_size]) -> scores``, the call of Hugging Face's logits processors; a
            LogitsProcessorList is one. Prefixes are int64 and in the scorer's reading order; its START is the first
            column and counts as read. -inf makes a token impossible. The rows may be those of several images, in any
            number, so it must treat each by itself; both arrays are the hook's own, to do with as it likes.

    Raises:
        TypeError: the scorer is no scorer, or the hook cannot be called.
        ValueError: the temperature is not above 0, or not finite.
    """

    normalized = False

    def __init__(self, scorer: Any, *, temperature: float = 1.0, hook: Callable[[Array, Array], Array] | None = None):
        if not hasattr(temperature, "__float__") or not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature!r}: it is a number above 0; 1 leaves probabilities as they are")
        if hook is not None and not callable(hook):
            raise TypeError(f"the hook is a {type(hook).__name__}; it is called as hook(prefixes, scores) -> scores")
        self.scorer = as_scorer(scorer)
        super().__init__({"inner": self.scorer})
        self.temperature = temperature
        self.hook = hook
        # A hook gets the prefixes of all rows as one rectangle.
        self.aligned = self.aligned or hook is not None

    def encode(self, images: Sequence[Any]) -> Any:
        """What the inner scorer needs of the images."""
        return self.scorer.encode(images)

    def start(self, context: Any) -> _Adjusted:
        """The inner scorer's state, nothing read yet."""
        return _Adjusted(self.scorer.start(context), None)

    def step(self, tokens: Array, state: _Adjusted) -> tuple[Array, _Adjusted]:
        """Adjusted scores [R, vocab_size], and the state after reading.

        Raises:
            TypeError: what the inner scorer or the hook returned is no pair or no array.
            ValueError: inner scores that are NaN, +inf, or above 0 where they should be log-probabilities; scores of a
                wrong shape, the hook's included.
        """
        scores, inner = checked_pair(self.scorer.step(tokens, state.state), "inner scorer's step")
        scores = self._tempered(scores, (len(tokens), self.vocab_size))
        if self.hook is None:
            return scores, _Adjusted(inner, None)
        prefixes = _ids_like(tokens, scores)[:, None]
        if state.prefixes is not None:
            prefixes = _library(scores).concatenate([_ids_like(state.prefixes, scores), prefixes], 1)
        return self._hooked(prefixes, scores), _Adjusted(inner, prefixes)

    def select(self, state: _Adjusted, rows: Array) -> _Adjusted:
        """Gather rows."""
        prefixes = state.prefixes
        if prefixes is not None:
            prefixes = prefixes[_ids_like(rows, prefixes)]
        return _Adjusted(self.scorer.select(state.state, rows), prefixes)

    def _join(self, states: Sequence[_Adjusted]) -> _Adjusted:
        inner = _member(self.scorer, "join")([state.state for state in states])
        prefixes = [state.prefixes for state in states]
        if prefixes[0] is None:  # then so are all: their rows have read equally many tokens
            return _Adjusted(inner, None)
        return _Adjusted(inner, _library(prefixes[0]).concatenate(prefixes, 0))

    def _prefill(self, context: Any, items: Array, prefixes: Array) -> tuple[Array, _Adjusted]:
        returned = _member(self.scorer, "prefill")(context, items, prefixes)
        scores, inner = checked_pair(returned, "inner scorer's prefill")
        scores = self._tempered(scores, (*prefixes.shape, self.vocab_size))
        if self.hook is None:
            return scores, _Adjusted(inner, None)
        prefixes = _ids_like(prefixes, scores)
        hooked = [self._hooked(prefixes[:, : at + 1], scores[:, at]) for at in range(prefixes.shape[1])]
        return _library(scores).stack(hooked, 1), _Adjusted(inner, prefixes)

    def _tempered(self, scores: Array, shape: tuple[int, ...]) -> Array:
        """A new array, whatever the temperature: the hook may write to it."""
        log_probs = _log_probs(scores, getattr(self.scorer, "normalized", False), shape, "inner")
        with np.errstate(over="ignore"):  # models mask with the lowest number of their dtype
            return log_probs / self.temperature

    def _hooked(self, prefixes: Array, scores: Array) -> Array:
        assert self.hook is not None
        hooked = self.hook(prefixes.copy() if _library(prefixes) is np else prefixes.clone(), scores)
        if not isinstance(hooked, type(scores)):
            raise TypeError(f"the hook returned a {type(hooked).__name__}; it must return scores, [rows, vocab_size]")
        backend_of(hooked, tuple(scores.shape), "rows, vocab_size", "the hooked scorer")
        return hooked


class MappedScorer(Combined):
    """A scorer with its ids in another order, so that two models whose vocabularies differ in it can decode together.

    Scores, states and everything else are the scorer's own; `in_vocabulary` finds ``ids`` by the words.

    Args:
        scorer: the inner scorer.
        ids: ``ids[v]`` is the scorer's own id of what is to be called v; each of its ids once.
        vocabulary: text to the new ids and back; the scorer's own knows the old ones, and is not passed on.

    Attributes:
        ids: the scorer's own ids, in the new order.

    Raises:
        TypeError: the scorer is no scorer, or an id is no whole number.
        ValueError: an id is missing, stands twice, or is none of the scorer's; the message names the first.
    """

    def __init__(self, scorer: Any, ids: Iterable[int], *, vocabulary: Vocabulary | None = None):
        self.scorer = as_scorer(scorer)
        super().__init__({"inner": self.scorer})
        self.normalized: bool = getattr(self.scorer, "normalized", False)
        self.vocabulary = vocabulary
        self.ids = _permutation(ids, self.vocab_size)
        new = {own: token for token, own in enumerate(self.ids)}
        self.start_token, self.end_token = new[self.start_token], new[self.end_token]
        self.never = frozenset(new[token] for token in self.never)
        self._indices: dict[Any, Array] = {}  # ids, for each library and device that asked

    def encode(self, images: Sequence[Any]) -> Any:
        """What the inner scorer needs of the images."""
        return self.scorer.encode(images)

    def start(self, context: Any) -> Any:
        """The inner scorer's state, nothing read yet."""
        return self.scorer.start(context)

    def step(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """The inner scorer's scores [R, vocab_size], their columns in the new order, and its state.

        Raises:
            TypeError: what it returned is no pair, or its scores are no array.
            ValueError: its scores have another shape.
        """
        return self._mapped(self.scorer.step(self._own(tokens), state), "step", (len(tokens), self.vocab_size))

    def select(self, state: Any, rows: Array) -> Any:
        """Gather rows."""
        return self.scorer.select(state, rows)

    def _join(self, states: Sequence[Any]) -> Any:
        return _member(self.scorer, "join")(states)

    def _prefill(self, context: Any, items: Array, prefixes: Array) -> tuple[Array, Any]:
        read = _member(self.scorer, "prefill")(context, items, self._own(prefixes))
        return self._mapped(read, "prefill", (*prefixes.shape, self.vocab_size))

    def _score(self, context: Any, items: Array, sentences: Sequence[tuple[int, ...]]) -> Sequence[Array]:
        own = [tuple(self.ids[word] for word in words) for words in sentences]
        scored: Sequence[Array] = _member(self.scorer, "score")(context, items, own)
        return scored

    def _own(self, tokens: Array) -> Array:
        return self._index_like(tokens)[tokens]

    def _mapped(self, returned: Any, call: str, shape: tuple[int, ...]) -> tuple[Array, Any]:
        scores, state = checked_pair(returned, f"inner scorer's {call}")
        backend_of(
            scores, shape, "…, vocab_size", "the inner scorer"
        )  # more columns than there are ids would go unnoticed
        return scores[..., self._index_like(scores)], state

    def _index_like(self, array: Array) -> Array:
        device = None if _library(array) is np else array.device
        if device not in self._indices:
            self._indices[device] = _ids_like(self.ids, array)
        return self._indices[device]


def in_vocabulary(scorer: Any, vocabulary: Any) -> Scorer:
    """The scorer with the ids of another vocabulary, which has the same words in another order.

    The words of a vocabulary are its ``words`` (the word of id 0, of id 1, …) or those of its ``get_vocab()`` (ids by
    word, Hugging Face's tokenizers). Ids that have no word, where a model has more ids than words, keep their order
    among each other.

    Args:
        scorer: with a ``vocabulary``, whose words are in the order of the scorer's ids.
        vocabulary: the one to change to; it is the ``vocabulary`` of what is returned.

    Returns:
        a `MappedScorer`; the scorer itself if its vocabulary is the given one already.

    Raises:
        TypeError: the scorer is no scorer or has no vocabulary, or a vocabulary does not tell its words.
        ValueError: one vocabulary has words that the other lacks, a word or an id twice, or an id beyond the scorer's.
    """
    known = as_scorer(scorer)
    vocabulary = as_vocabulary(vocabulary)
    own = as_vocabulary(getattr(known, "vocabulary", None))
    if own is None:
        raise TypeError(
            "the scorer has no vocabulary that would tell its words; MappedScorer(scorer, ids) takes the order of ids "
            "directly"
        )
    size = known.vocab_size
    old, new = _words(own, "scorer's", size), _words(vocabulary, "given", size)
    lacking = {
        "given": [word for word in old if word not in new],
        "scorer's": [word for word in new if word not in old],
    }
    if any(lacking.values()):
        lacks = (
            f"the {name} vocabulary lacks {len(words)} of the other's words: "
            + ", ".join([*map(repr, words[:3]), *(["…"] if len(words) > 3 else [])])
            for name, words in lacking.items()
            if words
        )
        raise ValueError(f"{'; '.join(lacks)}. Both must have the same words, in whatever order")
    if own is vocabulary or (old == new and own == vocabulary):
        return known
    # What has no word in the one vocabulary stands for what has none in the other, the first for the first.
    wordless = [sorted(set(range(size)).difference(ids.values())) for ids in (new, old)]
    ids = dict(zip(*wordless, strict=True)) | {token: old[word] for word, token in new.items()}
    return MappedScorer(known, [ids[token] for token in range(size)], vocabulary=vocabulary)


def _words(vocabulary: Any, name: str, vocab_size: int) -> dict[str, int]:
    """The id of each word."""
    listed = getattr(vocabulary, "words", None)
    if listed is not None and not callable(listed):
        pairs = [(word, token) for token, word in enumerate(listed)]
    elif hasattr(vocabulary, "get_vocab"):
        pairs = list(vocabulary.get_vocab().items())
    else:
        raise TypeError(
            f"the {name} vocabulary is a {type(vocabulary).__name__} with neither words nor get_vocab(), which would "
            "tell its words; MappedScorer(scorer, ids) takes the order of ids directly"
        )
    ids = dict(pairs)
    for what, values in (("word", [word for word, _ in pairs]), ("id", [token for _, token in pairs])):
        doubled = _first_doubled(values)
        if doubled is not None:
            raise ValueError(f"the {name} vocabulary has the {what} {doubled!r} twice; words and ids must be in pairs")
    for word, token in ids.items():
        if not 0 <= token < vocab_size:
            raise ValueError(f"the {name} vocabulary has id {token} for {word!r}; the scorer has {vocab_size} ids")
    return ids


def _permutation(ids: Iterable[int], vocab_size: int) -> tuple[int, ...]:
    """The ids as numbers, each of ``range(vocab_size)`` once."""
    numbers = []
    for token in ids:
        if not hasattr(token, "__index__"):
            raise TypeError(f"ids has {token!r}, which is no id; ids are whole numbers")
        numbers.append(operator.index(token))
    every, doubled = range(vocab_size), _first_doubled(numbers)
    foreign = next((token for token in numbers if token not in every), None)
    missing = next(iter(sorted(set(every).difference(numbers))), None)
    wrong = [
        *([] if foreign is None else [f"{foreign} is none of them"]),
        *([] if doubled is None else [f"{doubled} stands twice"]),
        *([] if missing is None else [f"{missing} is missing"]),
    ]
    if wrong:
        raise ValueError(
            f"ids must have each of the scorer's {vocab_size} ids, 0 to {vocab_size - 1}, once: {', '.join(wrong)}"
        )
    return tuple(numbers)


def _shares(weights: Sequence[float], members: int) -> tuple[float, ...]:
    """Weights divided by their sum."""
    numbers = [float(weight) for weight in weights]
    if len(numbers) != members:
        raise ValueError(f"there are {len(numbers)} weights for {members} scorers; give one for each")
    if not all(0 <= weight < math.inf for weight in numbers) or not any(numbers):
        raise ValueError(f"the weights are {numbers}; they must be finite, 0 or more, and not all of them 0")
    highest = max(numbers)  # first, so that the sum does not overflow
    total = math.fsum(weight / highest for weight in numbers)
    return tuple(weight / highest / total for weight in numbers)


def _log_probs(scores: Array, normalized: bool, shape: tuple[int, ...], name: str) -> Array:
    """Log-probabilities in nats of a scorer's scores [..., vocab], half precision in float32; may be the same array.

    A row that is all -inf stays so. What the search would refuse in a scorer is refused here: behind a mixture or a
    second normalisation it would not show.
    """
    backend = backend_of(scores, shape, "…, vocab_size" if len(shape) > 1 else "words + 1", f"the {name} scorer")
    log_probs, faulty = backend.log_probs(scores.reshape(-1, shape[-1]), normalized)
    for row in faulty:
        what = "NaN, +inf or a log-probability above 0" if normalized else "NaN or +inf"
        raise ValueError(
            f"the {name} scorer returned {what} in row {row}: scores must be finite, or -inf for the impossible"
            + (" (log-probabilities were expected: are they logits?)" if normalized else "")
        )
    return log_probs.reshape(shape)


def _library(array: Array) -> Any:
    """NumPy or PyTorch; imports nothing that is not imported already."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def _ids_like(ids: Any, array: Array) -> Array:
    """Ids as an int64 array of another's library, on its device."""
    library = _library(array)
    return (
        np.asarray(ids, np.int64) if library is np else library.as_tensor(ids, dtype=library.int64, device=array.device)
    )


def _given(scorers: Iterable[Scorer], attribute: str) -> list[Any]:
    """The attributes of those that have them."""
    values = (getattr(scorer, attribute, None) for scorer in scorers)
    return [value for value in values if value is not None]


def _member(scorer: Scorer, name: str) -> Any:
    """A member that may be left out, where it is known to be there."""
    return getattr(scorer, name)


def _first_doubled(values: Iterable[Any]) -> Any:
    """The first value that stands twice, or None."""
    return next((value for value, times in Counter(values).items() if times > 1), None)
