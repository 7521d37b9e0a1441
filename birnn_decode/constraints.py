"""Constraints: what the words in the blanks must be like, in addition to being probable.

Every search applies the constraints while it searches. What a constraint says about a single position is written into
the template, as a set of allowed words, so that each search obeys it without further code. What a constraint says about
several positions together is asked for one position at a time, given the *decided* words: the known words of the
template and the words that a search has chosen so far, on either side. Both directions apply the same constraints.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np

from birnn_decode.checks import check_count, check_number
from birnn_decode.template import BLANK, FixedTemplate, Position, Template
from birnn_decode.tokenizers import ids_of_word

Words: TypeAlias = "Collection[int | str]"
"""Words, each one token: ids or, if there is a vocabulary, text.

Some tokenizers have one token for a word at the beginning of a sentence and another one after a space. Text stands for
the token after a space. At position 0 it stands for the token at the beginning, and for both in `BanWords`.
"""

Hook: TypeAlias = Callable[[int, tuple[int, ...], np.ndarray], Any]
"""A score hook, ``(position, prefix, scores) -> scores``: called for each prefix that a blank position follows.

``position`` is the position of the next word in the sentence, from 0. If a model writes a whole caption from its end,
the length is unknown and positions count from the end: -1, -2, ... ``prefix`` holds the words that the model has read,
in its reading order; the last one stands next to the position. ``scores`` are the model's log-probabilities of the next
word, in nats, float64 [vocab]. The search uses the returned array, of the same shape, in their place; -inf excludes a
word.
"""

UNDECIDED = -1
LOOKED_AT = 2_000  # words that `possible` tries before it leaves the question to the search


class ClashError(ValueError):
    """No sentence that a template allows satisfies the constraints.

    Attributes:
        item: Number of the item in the call, from 0.
    """

    def __init__(self, message: str, item: int):
        super().__init__(message)
        self.item = item


@dataclass(frozen=True)
class Ruled:
    """Words that may not stand at a position.

    Attributes:
        out: These words are ruled out.
        only: All words except these are ruled out. None: no such rule.
    """

    out: frozenset[int] = frozenset()
    only: frozenset[int] | None = None

    def __and__(self, other: Ruled) -> Ruled:
        sets = [one.only for one in (self, other) if one.only is not None]
        return Ruled(self.out | other.out, frozenset.intersection(*sets) if sets else None)

    def __contains__(self, token: int) -> bool:
        return token in self.out or (self.only is not None and token not in self.only)

    def flags(self, vocab_size: int) -> np.ndarray:
        """Return whether each token is ruled out, [vocab]."""
        flags = np.full(vocab_size, self.only is not None)
        flags[list(self.only or ())] = False
        flags[list(self.out)] = True
        return flags


class Constraint:
    """A requirement on the words in the blanks.

    The methods ask about a template of fixed widths and, except for ``narrowed``, about the words of a sentence that
    fills it, with -1 at the positions that are not decided yet.

    Attributes:
        joins: Whether the constraint is about several positions together.
    """

    joins: ClassVar[bool] = False

    def resolved(self, models: Any) -> Constraint:
        """Return the same constraint with its words read as ids, by the vocabulary of the models of a request."""
        return self

    def fits(self, template: FixedTemplate) -> bool:
        """Return whether a sentence of this number of words may satisfy the constraint."""
        return True

    def narrowed(self, at: int, template: FixedTemplate, allowed: frozenset[int]) -> frozenset[int]:
        """Return those of the allowed words at a position that the constraint accepts in any sentence."""
        return allowed

    def ruled_out(self, words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
        """Return what may not stand at an undecided position, given the words that are decided elsewhere."""
        return Ruled()

    def broken(self, words: Sequence[int], template: FixedTemplate) -> bool:
        """Return whether the decided words violate the constraint."""
        return False

    def seen_from(self, reverse: bool) -> bool:
        """Return whether ``narrowed`` needs only the beginning of the sentence or, with ``reverse``, only its end."""
        return True

    def satisfied(self, words: Sequence[int], template: FixedTemplate) -> bool:
        """Return whether a whole sentence satisfies the constraint."""
        return (
            self.fits(template)
            and all(self.narrowed(at, template, frozenset([word])) for at, word in enumerate(words))
            and not self.broken(words, template)
        )


@dataclass(frozen=True)
class OfWords(Constraint):
    """A constraint that names words.

    Attributes:
        words: Ids or text, one token each.
        ids: The ids of the words; without those of text until the constraint is resolved.
        kind: What the constraint is called in results.
    """

    kind: ClassVar[str]
    words: Words
    ids: frozenset[int] = field(default=frozenset(), init=False, repr=False)

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.words, (str, bytes)) or not isinstance(self.words, Collection):
            raise TypeError(f"{name}.words must be a list of words or ids, got {self.words!r}.")
        if not len(self.words) or "" in tuple(self.words):
            raise ValueError(f"{name}.words must have at least one word or id, none of them empty, got {self.words!r}.")
        words = [
            word
            if isinstance(word, str)
            else check_count(f"each of {name}.words", word, what="text or an id, 0 or larger")
            for word in self.words
        ]
        object.__setattr__(self, "words", tuple(words))
        object.__setattr__(self, "ids", frozenset(word for word in words if isinstance(word, int)))

    def __str__(self) -> str:
        return f"{self.kind}: {self._listed()}"

    def _listed(self) -> str:
        return ", ".join(map(str, self.words))

    def resolved(self, models: Any) -> Constraint:
        ids = set(self.ids)
        for word in self.words:
            if isinstance(word, str):
                vocabulary = models.needed_vocabulary(f"the word {word!r} of a constraint")
                meant, *others = self._meant(*ids_of_word(vocabulary, word))
                if len(meant) != 1:
                    raise ValueError(f"{self}: {word!r} is {len(meant)} tokens, not one. Give its tokens by their ids.")
                ids.update(meant, *(other for other in others if len(other) == 1))
        for token in sorted(ids):
            models.check_ids(Template((token,)), str(self))
        resolved = replace(self)
        object.__setattr__(resolved, "ids", frozenset(ids))
        return resolved

    def _meant(self, inside: list[int], first: list[int]) -> tuple[list[int], ...]:
        """Return the ids that text stands for: those ``inside`` a sentence, those of its ``first`` word, or both."""
        return (inside,)


@dataclass(frozen=True)
class BanWords(OfWords):
    """Keep words out of all blanks.

    The known words of the template may still include them.

    Args:
        words: Words to keep out: ids or text, one token each.

    Raises:
        TypeError: ``words`` is not a list, or one of them is neither text nor an id.
        ValueError: ``words`` is empty, or has an empty text or a negative id.

    Example:
        >>> str(BanWords(["wind", "sail"]))
        'banned: wind, sail'
    """

    kind: ClassVar[str] = "banned"

    def _meant(self, inside: list[int], first: list[int]) -> tuple[list[int], ...]:
        return inside, first

    def narrowed(self, at: int, template: FixedTemplate, allowed: frozenset[int]) -> frozenset[int]:
        return _without(allowed, self.ids) if template.undecided(at) else allowed


@dataclass(frozen=True)
class _AtPosition(OfWords):
    """A constraint on the word at one position of the sentence."""

    position: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(
            f"{type(self).__name__}.position",
            self.position,
            least=None,
            what="a whole number, such as 0 for the first word or -1 for the last",
        )

    def __str__(self) -> str:
        return f"{self.kind} at position {self.position}: {self._listed()}"

    def _meant(self, inside: list[int], first: list[int]) -> tuple[list[int], ...]:
        return (first,) if self.position == 0 else (inside,)

    def seen_from(self, reverse: bool) -> bool:
        return (self.position < 0) == reverse

    def narrowed(self, at: int, template: FixedTemplate, allowed: frozenset[int]) -> frozenset[int]:
        here = at == self.position or at == len(template) + self.position
        return self._accepted(allowed) if here else allowed

    def _accepted(self, allowed: frozenset[int]) -> frozenset[int]:
        """Return those of the allowed words that may stand at the position."""
        return _without(allowed, self.ids)


@dataclass(frozen=True)
class AllowAt(_AtPosition):
    """Allow only these words at a position of the sentence.

    The constraint is satisfied if the sentence is too short to have the position.

    Args:
        words: Words that may stand there: ids or text, one token each.
        position: Position of the word in the sentence: 0 is the first word, -1 the last.

    Raises:
        TypeError: ``words`` is not a list of text and ids, or ``position`` is not an integer.
        ValueError: ``words`` is empty, or has an empty text or a negative id.

    Example:
        >>> str(AllowAt(["a", "the"], position=0))
        'only at position 0: a, the'
    """

    kind: ClassVar[str] = "only"

    def _accepted(self, allowed: frozenset[int]) -> frozenset[int]:
        return allowed & self.ids


@dataclass(frozen=True)
class BanAt(_AtPosition):
    """Keep words out of one position of the sentence.

    Args:
        words: Words that may not stand there: ids or text, one token each.
        position: Position of the word in the sentence: 0 is the first word, -1 the last.

    Raises:
        TypeError: ``words`` is not a list of text and ids, or ``position`` is not a whole number.
        ValueError: ``words`` is empty, has an empty text, or has a negative id.

    Example:
        >>> str(BanAt(["and"], position=-1))
        'banned at position -1: and'
    """

    kind: ClassVar[str] = "banned"


@dataclass(frozen=True)
class MustAppear(OfWords):
    """Require words in the blanks, each at least once, in any order.

    The beam is shared among prefixes with few and with many of these words (dynamic beam allocation: Post and Vilar,
    *Fast Lexically Constrained Decoding*, NAACL 2018). The words therefore need not wait for the last blank positions.

    Args:
        words: Words that must occur: ids or text, one token each.

    Raises:
        TypeError: ``words`` is not a list, or one of them is neither text nor an id.
        ValueError: ``words`` is empty, or has an empty text or a negative id.

    Example:
        >>> str(MustAppear(["boy"]))
        'must appear: boy'
    """

    joins: ClassVar[bool] = True
    kind: ClassVar[str] = "must appear"

    def missing(self, words: Sequence[int], template: FixedTemplate) -> frozenset[int]:
        """Return the required words that no blank has yet.

        Args:
            words: Ids of the sentence; -1 at the positions that are not decided yet.
            template: Template of fixed widths that the sentence fills.

        Returns:
            The ids of these words.
        """
        return self.ids - {word for at, word in enumerate(words) if template.undecided(at)}

    def ruled_out(self, words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
        missing = self.missing(words, template)
        left = [place for place, word in enumerate(words) if word == UNDECIDED and place != at]
        if not missing or _places_for(missing, left, template):
            return Ruled()
        return Ruled(only=frozenset(word for word in missing if _places_for(missing - {word}, left, template)))

    def broken(self, words: Sequence[int], template: FixedTemplate) -> bool:
        left = [place for place, word in enumerate(words) if word == UNDECIDED]
        return not _places_for(self.missing(words, template), left, template)


@dataclass(frozen=True)
class NoRepeatedNgram(Constraint):
    """Forbid the same n words in a row twice in a sentence. Known words count too.

    Args:
        size: Number of words in a row (n). 1: no word occurs twice.

    Raises:
        TypeError: ``size`` is not an integer.
        ValueError: ``size`` is less than 1.

    Example:
        >>> str(NoRepeatedNgram(2))
        'no repeated 2-gram'
    """

    joins: ClassVar[bool] = True
    size: int

    def __post_init__(self) -> None:
        check_count("NoRepeatedNgram.size", self.size, least=1)

    def ruled_out(self, words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
        filled = list(words)
        out = set()
        for begin in range(max(0, at - self.size + 1), min(at, len(words) - self.size) + 1):
            for other in range(len(words) - self.size + 1):
                # The word that would make this n-gram equal to the other one.
                filled[at] = words[other + at - begin]
                if other != begin and filled[at] != UNDECIDED:
                    own, theirs = (filled[start : start + self.size] for start in (begin, other))
                    if own == theirs and UNDECIDED not in own:
                        out.add(filled[at])
        return Ruled(frozenset(out))

    def broken(self, words: Sequence[int], template: FixedTemplate) -> bool:
        ngrams = [tuple(words[begin : begin + self.size]) for begin in range(len(words) - self.size + 1)]
        decided = [ngram for ngram in ngrams if UNDECIDED not in ngram]
        return len(set(decided)) < len(decided)

    def __str__(self) -> str:
        return f"no repeated {self.size}-gram"


@dataclass(frozen=True)
class WordCount(Constraint):
    """Bound the number of words in all blanks together.

    For a whole caption, this is the length of the caption.

    Args:
        least: Smallest number of words (default: 0).
        most: Largest number of words. None: any number (default: None).

    Raises:
        TypeError: A number is not an integer.
        ValueError: A number is negative, or ``least`` is larger than ``most``.

    Example:
        >>> str(WordCount(2, 4))
        '2 to 4 words in the blanks'
    """

    least: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        least = check_count("WordCount.least", self.least)
        if self.most is not None and least > check_count("WordCount.most", self.most):
            raise ValueError(f"WordCount.least must not be larger than most, got {least} and {self.most}.")

    def seen_from(self, reverse: bool) -> bool:
        return False

    def fits(self, template: FixedTemplate) -> bool:
        return self.least <= template.blank_count <= (math.inf if self.most is None else self.most)

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least} words in the blanks"
        return f"{self.least} to {'any number of' if self.most is None else self.most} words in the blanks"


@dataclass(frozen=True)
class Unlike(Constraint):
    """Exclude sentences that another group has found.

    Attributes:
        sentences: Ids of the words of each sentence.
    """

    joins: ClassVar[bool] = True
    sentences: Sequence[tuple[int, ...]]

    def ruled_out(self, words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
        before, behind = tuple(words[:at]), tuple(words[at + 1 :])
        as_long = [one for one in self.sentences if len(one) == len(words)]
        return Ruled(frozenset(one[at] for one in as_long if one[:at] == before and one[at + 1 :] == behind))

    def broken(self, words: Sequence[int], template: FixedTemplate) -> bool:
        return tuple(words) in self.sentences

    def __str__(self) -> str:
        return "no sentence of another group"


@dataclass(frozen=True)
class Diversity:
    """Divide the beam into groups whose sentences differ.

    The groups are decoded one after the other. A sentence pays for each word in a blank that an earlier group has at
    the same position, counted from the beginning of the sentence: ``strength`` nats for each sentence of that group.
    No sentence is returned twice.

    This is Diverse Beam Search with Hamming diversity (Vijayakumar et al., AAAI 2018), with one difference. There, a
    group avoids the words that earlier groups chose at the same step. Here, it avoids the words of their finished
    sentences, because both directions must agree on what a sentence pays.

    Args:
        groups: Number of groups. ``beam_size`` must be a multiple of it.
        strength: Penalty in nats, 0 or larger.

    Raises:
        TypeError: ``groups`` is not an integer, or ``strength`` is not a number.
        ValueError: ``groups`` is less than 1, or ``strength`` is negative or not finite.

    Example:
        >>> Diversity(groups=3, strength=0.5)
        Diversity(groups=3, strength=0.5)
    """

    groups: int
    strength: float

    def __post_init__(self) -> None:
        check_count("Diversity.groups", self.groups, least=1)
        check_number("Diversity.strength", self.strength, "a finite number of nats, 0 or larger", least=0)

    def __str__(self) -> str:
        return f"diversity:{self.groups},{self.strength:g}"


def narrow(
    constraints: Sequence[Constraint], template: FixedTemplate, everything: frozenset[int]
) -> FixedTemplate | None:
    """Return a template with only the words that the constraints accept at each position, taken by itself.

    Args:
        constraints: Constraints whose words are resolved.
        template: Template of fixed widths.
        everything: All words that a blank may take.

    Returns:
        The narrowed template, or None if some position is left without a word.
    """
    if not all(constraint.fits(template) for constraint in constraints):
        return None
    positions: list[Position] = []
    for at, position in enumerate(template.positions):
        before = everything if position is BLANK else frozenset([position]) if isinstance(position, int) else position
        after = before
        for constraint in constraints:
            after = constraint.narrowed(at, template, after)
        if before and not after:
            return None
        positions.append(position if len(after) == len(before) else after)
    return FixedTemplate(tuple(positions), template.runs)


def joining(constraints: Sequence[Constraint]) -> list[Constraint]:
    """Return the constraints on several positions, with all words that must appear in one of them.

    Two separate `MustAppear` would each count on the same free positions.
    """
    words = frozenset[int]().union(*(one.ids for one in constraints if isinstance(one, MustAppear)))
    must = [MustAppear(sorted(words))] if words else []
    return must + [one for one in constraints if one.joins and not isinstance(one, MustAppear)]


def ruled_out(constraints: Sequence[Constraint], words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
    """Return what the constraints together rule out at a position; see ``Constraint.ruled_out``."""
    return functools.reduce(operator.and_, (one.ruled_out(words, at, template) for one in constraints), Ruled())


def possible(constraints: Sequence[Constraint], template: FixedTemplate, everything: frozenset[int]) -> bool:
    """Return whether a sentence that fills a template can satisfy the constraints; True if that takes long to decide.

    Args:
        constraints: Constraints whose words are resolved.
        template: Template of fixed widths, as the caller gave it.
        everything: All words that a blank may take.
    """
    narrowed = narrow(constraints, template, everything)
    if narrowed is None:
        return False
    constraints = joining(constraints)
    if not constraints:
        return True
    words = [position if isinstance(position, int) else UNDECIDED for position in narrowed.positions]
    if any(constraint.broken(words, narrowed) for constraint in constraints):
        return False
    named = frozenset(words).union(*(constraint.ids for constraint in constraints if isinstance(constraint, OfWords)))
    alike = _alike(narrowed, everything, named)
    blanks = [at for at, word in enumerate(words) if word == UNDECIDED]

    def choices(at: int) -> Iterator[int]:
        """Yield words to try at a position, as long as the words before it stay the same."""
        ruled = ruled_out(constraints, words, at, narrowed)
        for tokens in alike[at]:
            # No constraint distinguishes these words: of those that are not in the sentence yet, one is enough.
            used = [token for token in dict.fromkeys(words) if token in tokens]
            unused = itertools.islice((token for token in tokens if token not in used), 1)
            yield from (token for token in (*used, *unused) if token not in ruled)

    chosen: list[Iterator[int]] = []  # the words not yet tried, for each blank position that has been reached
    for _ in range(LOOKED_AT):
        if len(chosen) == len(blanks):
            return True
        chosen.append(choices(blanks[len(chosen)]))
        while chosen:
            at = blanks[len(chosen) - 1]
            words[at] = UNDECIDED
            token = next(chosen[-1], None)
            if token is not None:
                words[at] = token
                break
            chosen.pop()
        else:
            return False
    return True


def clash(
    constraints: Sequence[Constraint], templates: Sequence[FixedTemplate], everything: frozenset[int]
) -> list[str]:
    """Return the names of constraints that no sentence can satisfy together. None of them could be left out."""
    needed = dict(enumerate(constraints))
    for number in range(len(constraints)):
        fewer = {other: one for other, one in needed.items() if other != number}
        if not any(possible(list(fewer.values()), template, everything) for template in templates):
            needed = fewer
    return [str(one) for one in needed.values()]


def _alike(
    template: FixedTemplate, everything: frozenset[int], named: frozenset[int]
) -> list[Sequence[dict[int, None]]]:
    """Return the words allowed at each position, in ordered sets that no position and no constraint distinguishes.

    Args:
        template: Template of fixed widths.
        everything: All words that a blank may take.
        named: Words that constraints or the template name. Each is a separate set.
    """
    several = {everything if one is BLANK else one for one in template.positions if not isinstance(one, int)}
    classes: dict[tuple[bool | int, ...], dict[int, None]] = {}
    for token in sorted(frozenset[int]().union(*several)):
        alone = token if token in named else UNDECIDED
        classes.setdefault((alone, *(token in one for one in several)), {})[token] = None
    of_set = {one: [tokens for tokens in classes.values() if next(iter(tokens)) in one] for one in several}
    return [
        [] if isinstance(position, int) else of_set[everything if position is BLANK else position]
        for position in template.positions
    ]


def _places_for(tokens: Collection[int], places: Sequence[int], template: FixedTemplate) -> bool:
    """Return whether each of the words can have its own place among undecided positions (a bipartite matching)."""
    if len(tokens) > len(places):
        return False
    taken: dict[int, int] = {}

    def place(token: int, tried: set[int]) -> bool:
        for at in places:
            position = template.positions[at]
            if at not in tried and (position is BLANK or (isinstance(position, frozenset) and token in position)):
                tried.add(at)
                if at not in taken or place(taken[at], tried):
                    taken[at] = token
                    return True
        return False

    return all(place(token, set()) for token in tokens)


@functools.lru_cache(maxsize=64)
def _without(allowed: frozenset[int], banned: frozenset[int]) -> frozenset[int]:
    """Return the difference of two sets. It is cached because most blanks of a call ask for the same one."""
    return allowed - banned
