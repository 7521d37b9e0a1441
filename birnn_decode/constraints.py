"""Constraints: what the words in the blanks must be like, besides probable.

Every search holds them while it searches. What a constraint says of one position at a time becomes part of the
template, as a set of allowed words, so that every search obeys it without knowing. What it says of several positions
together, it says of one position given what is *decided* of the sentence: the known words of the template and those
that a search has chosen so far, on whichever side. Both directions hold the same constraints, each from its own side.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar, TypeAlias

import numpy as np

from birnn_decode.template import BLANK, FixedTemplate, Position

Words: TypeAlias = "Collection[int | str]"
"""Words by their ids or, where there is a vocabulary, as text: one token each.

Where a tokenizer has other tokens at the beginning of a sentence than behind a space, text stands for those that it is
within a sentence; at position 0 for those at the beginning; and where `BanWords` bans them everywhere, for both.
"""

Hook: TypeAlias = Callable[[int, tuple[int, ...], np.ndarray], Any]
"""A score hook, ``(position, prefix, scores) -> scores``, called for each prefix that a blank position comes after.

The position is that of the next word in the sentence, from 0; from -1 downwards where a model writes a whole caption
from its end and its length is not known yet. The prefix holds the words that the model has read, in its own reading
order: the last of them stands next to the position. The scores are its log-probabilities of the next word, in nats,
float64 [vocab]; what is returned, of the same shape, takes their place in the search (-inf: not this word).
"""

UNDECIDED = -1
LOOKED_AT = 2_000  # words that are tried, before it is left to the search whether constraints can be satisfied


class ClashError(ValueError):
    """No sentence that a template allows satisfies the constraints.

    Attributes:
        item: of the call, by its number.
    """

    def __init__(self, message: str, item: int):
        super().__init__(message)
        self.item = item


@dataclass(frozen=True)
class Ruled:
    """What may not stand at a position.

    Attributes:
        out: these words.
        only: and all but these, if not None.
    """

    out: frozenset[int] = frozenset()
    only: frozenset[int] | None = None

    def __and__(self, other: Ruled) -> Ruled:
        sets = [one.only for one in (self, other) if one.only is not None]
        return Ruled(self.out | other.out, frozenset.intersection(*sets) if sets else None)

    def __bool__(self) -> bool:
        return bool(self.out) or self.only is not None

    def __contains__(self, token: int) -> bool:
        return token in self.out or (self.only is not None and token not in self.only)

    def flags(self, vocab_size: int) -> np.ndarray:
        """Whether each token is ruled out, [vocab]."""
        flags = np.full(vocab_size, self.only is not None)
        flags[list(self.only or ())] = False
        flags[list(self.out)] = True
        return flags


class Constraint:
    """What is asked of the words in the blanks; see the classes that follow.

    A template that comes with a question is one of fixed widths, and words are those of a sentence that fills it, -1
    where nothing is decided yet.

    Attributes:
        joins: whether it says something of several positions together.
    """

    joins: ClassVar[bool] = False

    def resolved(self, ids: Callable[[OfWords, Words], frozenset[int]]) -> Constraint:
        """The same, its words read as ids."""
        return self

    def fits(self, template: FixedTemplate) -> bool:
        """Whether a sentence of that many words may satisfy it."""
        return True

    def narrowed(self, at: int, template: FixedTemplate, allowed: frozenset[int]) -> frozenset[int]:
        """Which of the words that are allowed at a position it leaves there, whatever else the sentence says."""
        return allowed

    def ruled_out(self, words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
        """What may not stand at a position where nothing is decided, given what is decided elsewhere."""
        return Ruled()

    def broken(self, words: Sequence[int], template: FixedTemplate) -> bool:
        """Whether what is decided breaks it."""
        return False

    def seen_from(self, reverse: bool) -> bool:
        """Whether what it says of single positions can be told from the sentence's beginning, or from its end."""
        return True

    def satisfied(self, words: Sequence[int], template: FixedTemplate) -> bool:
        """Whether a whole sentence satisfies it."""
        positions = all(self.narrowed(at, template, frozenset([word])) for at, word in enumerate(words))
        return self.fits(template) and positions and not self.broken(words, template)


@dataclass(frozen=True)
class OfWords(Constraint):
    """A constraint that names words.

    Attributes:
        words: ids, or text.
        ids: the words by their ids; none before it is resolved.
    """

    words: Words
    ids: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.words, (str, bytes)) or not isinstance(self.words, Collection) or not len(self.words):
            raise TypeError(f"{type(self).__name__} of {self.words!r}: give a list of words or ids")
        object.__setattr__(self, "ids", frozenset())

    @property
    def inside(self) -> bool:
        """Whether words given as text stand for the tokens that they are within a sentence."""
        return True

    @property
    def first(self) -> bool:
        """Whether they stand for those that they are at its beginning, where a tokenizer has others for these."""
        return False

    def resolved(self, ids: Callable[[OfWords, Words], frozenset[int]]) -> Constraint:
        resolved = replace(self)
        object.__setattr__(resolved, "ids", ids(self, self.words))
        return resolved

    def _listed(self) -> str:
        return ", ".join(str(word) for word in self.words)


@dataclass(frozen=True)
class BanWords(OfWords):
    """Words that fill no blank. What the template says itself may be among them.

    Attributes:
        words: ids, or text.
    """

    @property
    def first(self) -> bool:
        return True

    def narrowed(self, at: int, template: FixedTemplate, allowed: frozenset[int]) -> frozenset[int]:
        return _without(allowed, self.ids) if template.undecided(at) else allowed

    def __str__(self) -> str:
        return f"banned: {self._listed()}"


@dataclass(frozen=True)
class _AtPosition(OfWords):
    position: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self.position, "__index__"):
            raise TypeError(f"{type(self).__name__} at position {self.position!r}: it is a whole number, 0 the first")

    @property
    def inside(self) -> bool:
        return self.position != 0

    @property
    def first(self) -> bool:
        return self.position == 0

    def seen_from(self, reverse: bool) -> bool:
        return (self.position < 0) == reverse

    def _here(self, at: int, template: FixedTemplate) -> bool:
        return at == self.position or at == len(template) + self.position


@dataclass(frozen=True)
class AllowAt(_AtPosition):
    """The only words that may stand at a position of the sentence; nothing where the sentence is too short to have it.

    Attributes:
        words: ids, or text.
        position: of the word in the sentence, 0 the first, -1 the last.
    """

    def narrowed(self, at: int, template: FixedTemplate, allowed: frozenset[int]) -> frozenset[int]:
        return allowed & self.ids if self._here(at, template) else allowed

    def __str__(self) -> str:
        return f"only at position {self.position}: {self._listed()}"


@dataclass(frozen=True)
class BanAt(_AtPosition):
    """Words that may not stand at a position of the sentence.

    Attributes:
        words: ids, or text.
        position: of the word in the sentence, 0 the first, -1 the last.
    """

    def narrowed(self, at: int, template: FixedTemplate, allowed: frozenset[int]) -> frozenset[int]:
        return _without(allowed, self.ids) if self._here(at, template) else allowed

    def __str__(self) -> str:
        return f"banned at position {self.position}: {self._listed()}"


@dataclass(frozen=True)
class MustAppear(OfWords):
    """Words that must stand in the blanks, each at least once, in any order.

    A beam keeps places for prefixes with few and with many of them (dynamic beam allocation: Post and Vilar, Fast
    Lexically Constrained Decoding, NAACL 2018), so that they need not wait for the last blank positions.

    Attributes:
        words: ids, or text.
    """

    joins: ClassVar[bool] = True

    @classmethod
    def of(cls, ids: frozenset[int]) -> MustAppear:
        """These words, resolved."""
        made = cls(tuple(sorted(ids)))
        object.__setattr__(made, "ids", ids)
        return made

    def missing(self, words: Sequence[int], template: FixedTemplate) -> frozenset[int]:
        """Those that no blank has yet."""
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

    def __str__(self) -> str:
        return f"must appear: {self._listed()}"


@dataclass(frozen=True)
class NoRepeatedNgram(Constraint):
    """No so many words in a row stand twice in the sentence; its known words count, too.

    Attributes:
        size: how many; 1: no word twice.
    """

    joins: ClassVar[bool] = True
    size: int

    def __post_init__(self) -> None:
        if not hasattr(self.size, "__index__") or operator.index(self.size) < 1:
            raise ValueError(f"NoRepeatedNgram of {self.size!r} words: it is a whole number, 1 or larger")

    def ruled_out(self, words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
        filled = list(words)
        out = set()
        for begin in range(max(0, at - self.size + 1), min(at, len(words) - self.size) + 1):
            for other in range(len(words) - self.size + 1):
                # The word that stands in the other n-gram where this one lacks its own.
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
    """How many words the blanks take, all together; that of a whole caption is its length.

    Attributes:
        least: at least so many.
        most: at most so many; None: any number.
    """

    least: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        for count in (self.least, 0 if self.most is None else self.most):
            if not hasattr(count, "__index__") or operator.index(count) < 0:
                raise ValueError(f"WordCount of {count!r} words: it is a whole number, 0 or larger")
        if self.most is not None and self.least > self.most:
            raise ValueError(f"WordCount of {self.least} to {self.most} words: least is more than most")

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
    """None of some sentences over again.

    Attributes:
        sentences: in ids.
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
    """A Top-B whose members differ: the beam is divided among groups, each of which avoids the words of those before.

    After Vijayakumar et al. (Diverse Beam Search, AAAI 2018) with Hamming diversity. There a group avoids, at each
    step, what the beams of the groups before it chose at that step. A sentence that two directions are to agree on
    needs a penalty of its own: here it loses ``strength`` for each word in a blank and each sentence of the groups
    before it that has the same word at the same position, counted from the sentence's beginning.

    Attributes:
        groups: how many; `beam_size` must be a multiple of it.
        strength: nats.
    """

    groups: int
    strength: float

    def __post_init__(self) -> None:
        if not hasattr(self.groups, "__index__") or operator.index(self.groups) < 1:
            raise ValueError(f"Diversity of groups={self.groups!r}: it is a whole number, 1 or larger")
        if not (isinstance(self.strength, Real) and 0 <= float(self.strength) < math.inf):
            raise ValueError(f"Diversity of strength={self.strength!r}: it is a number of nats, 0 or larger")

    def __str__(self) -> str:
        return f"diversity:{self.groups},{self.strength:g}"


def narrow(
    constraints: Sequence[Constraint], template: FixedTemplate, everything: frozenset[int]
) -> FixedTemplate | None:
    """A template with what constraints leave at each position taken by itself; None where that is nothing.

    Args:
        constraints: resolved.
        template: of fixed widths.
        everything: all words that a blank takes.
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
    """Those constraints that say something of several positions, and all words that must appear as one.

    Apart, each would count all places that are left as its own.
    """
    joins = [one for one in constraints if one.joins]
    must = frozenset[int]().union(*(one.ids for one in joins if isinstance(one, MustAppear)))
    others = [one for one in joins if not isinstance(one, MustAppear)]
    return [*([MustAppear.of(must)] if must else []), *others]


def ruled_out(constraints: Sequence[Constraint], words: Sequence[int], at: int, template: FixedTemplate) -> Ruled:
    """What constraints together rule out at a position; see `Constraint.ruled_out`."""
    ruled = Ruled()
    for constraint in constraints:
        ruled &= constraint.ruled_out(words, at, template)
    return ruled


def possible(constraints: Sequence[Constraint], template: FixedTemplate, everything: frozenset[int]) -> bool:
    """Whether some sentence that fills a template satisfies constraints; yes, too, where that takes long to find out.

    Args:
        constraints: resolved.
        template: of fixed widths, as the caller gave it.
        everything: all words that a blank takes.
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
        """The words that may stand at a position, as long as nothing changes before it."""
        ruled = ruled_out(constraints, words, at, narrowed)
        for tokens in alike[at]:
            # Of words that no constraint tells apart, one that the sentence has not is as good as any other.
            used = [token for token in dict.fromkeys(words) if token in tokens]
            unused = itertools.islice((token for token in tokens if token not in used), 1)
            yield from (token for token in (*used, *unused) if token not in ruled)

    chosen: list[Iterator[int]] = []  # what is left to try at each blank position that has a word, and at the next
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
    """Constraints, by name, that no sentence can satisfy together, none of which could be left out."""
    needed = dict(enumerate(constraints))
    for number in range(len(constraints)):
        fewer = {other: one for other, one in needed.items() if other != number}
        if not any(possible(list(fewer.values()), template, everything) for template in templates):
            needed = fewer
    return [str(one) for one in needed.values()]


def _alike(
    template: FixedTemplate, everything: frozenset[int], named: frozenset[int]
) -> list[Sequence[dict[int, None]]]:
    """For each position the words allowed there, in ordered sets of those that no position and no constraint knows."""
    sets = {everything if position is BLANK else position for position in template.positions} - named
    several = [one for one in sets if isinstance(one, frozenset)]
    words = sorted(frozenset[int]().union(*several))
    classes: dict[tuple[bool | int, ...], dict[int, None]] = {}
    for token in words:
        alone = token if token in named else UNDECIDED
        classes.setdefault((alone, *(token in one for one in several)), {})[token] = None
    of_set = {one: [tokens for tokens in classes.values() if next(iter(tokens)) in one] for one in several}
    return [
        [] if isinstance(position, int) else of_set[everything if position is BLANK else position]
        for position in template.positions
    ]


def _places_for(tokens: Collection[int], places: Sequence[int], template: FixedTemplate) -> bool:
    """Whether each of some words has a place of its own among some undecided positions: a matching."""
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
    """Their difference; the same object for the same question, since most blanks of a call ask it of all words."""
    return allowed - banned
