"""Templates: which tokens are allowed at each position of a sentence, and how wide its blanks are."""

from __future__ import annotations

import enum
import itertools
import math
import operator
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Protocol, TypeAlias

from birnn_decode.tokenizers import as_vocabulary

MAX_WIDTH_COMBINATIONS = 64
MAX_WIDTH = 10_000  # of one blank: more is a slip of the finger, not a sentence
TOKENS_PER_WORD = 4  # at most, where words are made of subwords


class Blank(enum.Enum):
    """A position whose word is missing: every word of the vocabulary is allowed there."""

    BLANK = "_"

    def __repr__(self) -> str:
        return "BLANK"


BLANK: Final = Blank.BLANK

Position: TypeAlias = "int | frozenset[int] | Blank"
"""One position of a sentence: a known word (its id), a set of allowed ids, or any word (``BLANK``)."""


class Vocabulary(Protocol):
    """Text to token ids and back. START and END are neither expected nor wanted in the ids.

    What splits words into subwords may have three members more, as
    `birnn_decode.tokenizers.TokenizerVocabulary` has: ``encode_pieces``, ``keeps_space``, ``word_classes``.
    """

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a piece of text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...


@dataclass(frozen=True)
class Gap:
    """A blank of ``low`` to ``high`` missing words.

    Attributes:
        low: fewest.
        high: most.
        allowed: which ids each of them may take; None: any. Unlike a set of allowed ids in a `Template`, it does not
            ask for ids that a scorer never writes: the front door takes those out.
    """

    low: int
    high: int
    allowed: frozenset[int] | None = None

    def __post_init__(self) -> None:
        for width in (self.low, self.high):
            if not hasattr(width, "__index__"):
                raise TypeError(f"a blank of {width!r} words: a width is a whole number, or a pair (low, high) of them")
        if not 0 <= self.low <= self.high:
            raise ValueError(f"a blank of {self.low} to {self.high} words: widths must satisfy 0 <= low <= high")
        if self.high > MAX_WIDTH:
            raise ValueError(f"a blank of {self.high} words: at most {MAX_WIDTH} are searched")
        if self.allowed is not None:
            if not isinstance(self.allowed, frozenset):
                raise TypeError(f"a blank that allows {self.allowed!r}: give a frozenset of ids, or None for any")
            if self.high and not self.allowed:
                raise ValueError(f"a blank of up to {self.high} words that allows no id: the set is empty")


@dataclass(frozen=True)
class FixedTemplate:
    """A template whose blanks all have one width: exactly one entry per word of the sentence.

    Attributes:
        positions: what is allowed at each position, in sentence order; START and END are implied.
        runs: ``(begin, end)`` of each blank in ``positions``; a blank of width 0 has ``begin == end``.
    """

    positions: tuple[Position, ...]
    runs: tuple[tuple[int, int], ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A search looks templates up many times.
        object.__setattr__(self, "_hash", hash((self.positions, self.runs)))

    def __hash__(self) -> int:
        return self._hash

    def __len__(self) -> int:
        return len(self.positions)

    def undecided(self, position: int) -> bool:
        """Whether the word at ``position`` is for the search to choose."""
        return not isinstance(self.positions[position], int)

    @property
    def blank_count(self) -> int:
        """How many words are for the search to choose."""
        return sum(map(self.undecided, range(len(self))))

    def blanks(self, words: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """What ``words``, a sentence of this length, put into each blank."""
        return tuple(tuple(words[begin:end]) for begin, end in self.runs)

    @staticmethod
    def all_blank(width: int) -> FixedTemplate:
        """A whole sentence of ``width`` missing words."""
        return FixedTemplate((BLANK,) * width, ((0, width),))


_MARKER = re.compile(r"\\[_{]|_|\{")
_WIDTH = re.compile(r"\{\s*(\d+)\s*(?:-\s*(\d+)\s*)?\}")
_WORDS = re.compile(r"\{\s*(\d+)\s+words?\s*\}")


@dataclass(frozen=True)
class _Written:
    """A blank of a template in text, as it is written there; ``words`` says that it counts words, not tokens."""

    notation: str
    low: int
    high: int
    words: bool = False

    def gaps(self, vocabulary: Any, opens: bool) -> list[Gap]:
        """What it asks for; ``opens`` says that the sentence begins with it."""
        if not self.words or not hasattr(vocabulary, "word_classes"):
            return [Gap(self.low, self.high)]
        classes = vocabulary.word_classes()
        more = Gap(0, TOKENS_PER_WORD - 1 if classes.go_on else 0, classes.go_on)
        first = Gap(1, 1, classes.begin | classes.open if opens else classes.begin)
        return [gap for number in range(self.low) for gap in (Gap(1, 1, classes.begin) if number else first, more)]


def _read(text: str) -> tuple[list[str], list[list[_Written]]]:
    """The known pieces of a template in text, and the blanks between each two of them, one behind the other."""
    pieces, blanks = [""], list[list[_Written]]()
    at = 0
    while match := _MARKER.search(text, at):
        pieces[-1] += text[at : match.start()]
        at = match.end()
        marker = match.group()
        if marker.startswith("\\"):
            pieces[-1] += marker[1]
            continue
        if marker == "_":
            written = _Written("_", 1, 1)
        elif words := _WORDS.match(text, match.start()):
            written = _Written(words[0], int(words[1]), int(words[1]), words=True)
            at = words.end()
        elif width := _WIDTH.match(text, match.start()):
            written = _Written(width[0], int(width[1]), int(width[2] or width[1]))
            at = width.end()
        else:
            raise ValueError(
                f"cannot read {text[match.start() : match.start() + 12]!r} in the template {text!r}: a blank is "
                r"_, {3} or {1-6}, or {2 words}; write \{ for a literal brace"
            )
        if written.low > written.high:
            raise ValueError(
                f"the blank {written.notation} in the template {text!r} ends before it begins: {{a-b}}, a <= b"
            )
        if not pieces[-1].strip() and blanks:  # nothing but white space since the last one
            blanks[-1].append(written)
            pieces[-1] = ""
        else:
            blanks.append([written])
            pieces.append("")
    pieces[-1] += text[at:]
    pieces[0], pieces[-1] = (piece if piece.strip() else "" for piece in (pieces[0], pieces[-1]))
    return pieces, blanks


@dataclass(frozen=True)
class Template:
    r"""The known and the missing words of a sentence.

    Written as text, ``_`` is one missing word, ``{3}`` three, ``{1-6}`` one to six (0 is legal), ``\_`` and ``\{``
    stand for themselves, and everything else goes through the vocabulary. From ids, use `from_tokens` or `blank`.
    Neighbouring blanks are one blank, and their ranges add. A *blank* is a run of positions that are not known:
    missing words and sets of allowed ids alike.

    With a tokenizer of subwords, ``_``, ``{3}`` and ``{1-6}`` count its tokens; ``{2 words}`` counts words, each of
    which is a token that begins one and up to three that continue it. Elsewhere ``{2 words}`` is ``{2}``.

    Attributes:
        parts: known ids, sets of allowed ids and `Gap`\ s, in sentence order; START and END are implied.
        spelling: where the template was given as text, its known pieces as they were written, each with the number of
            its ids, and its blanks with their widths in tokens (see `birnn_decode.spelling`); no part of what makes
            templates equal.

    Raises:
        TypeError: a part is none of these.
        ValueError: an empty set of allowed ids, a negative id or width, or more than 64 combinations of widths.
    """

    parts: tuple[int | frozenset[int] | Gap, ...]
    spelling: tuple[tuple[str, int] | Gap, ...] | None = field(default=None, compare=False, repr=False)

    BLANK: ClassVar[Blank] = BLANK

    def __post_init__(self) -> None:
        merged: list[int | frozenset[int] | Gap] = []
        for number, given in enumerate(self.parts):
            part = _checked_part(given, number)
            before = merged[-1] if merged else None
            if isinstance(part, Gap) and isinstance(before, Gap) and part.allowed == before.allowed:
                merged[-1] = Gap(before.low + part.low, before.high + part.high, part.allowed)
            else:
                merged.append(part)
        object.__setattr__(self, "parts", tuple(merged))
        combinations = math.prod(gap.high - gap.low + 1 for gap in self.gaps)
        if combinations > MAX_WIDTH_COMBINATIONS:
            raise ValueError(
                f"the blanks of this template have {combinations} combinations of widths; at most "
                f"{MAX_WIDTH_COMBINATIONS} are searched. Narrow the ranges, or decode them in several calls"
            )

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The blanks, in sentence order, but for sets of allowed ids; several for one blank that counts words."""
        return tuple(part for part in self.parts if isinstance(part, Gap))

    @property
    def width_known(self) -> bool:
        """Whether all sentences are of one length."""
        return all(gap.low == gap.high for gap in self.gaps)

    @classmethod
    def from_text(cls, text: str, vocabulary: Vocabulary) -> Template:
        r"""Read a template such as ``"a girl and {1-6} a wind board"``.

        Args:
            text: known text with ``_``, ``{n}``, ``{a-b}`` and ``{n words}`` for what is missing; ``\_`` and ``\{`` are
                literal.
            vocabulary: turns the pieces of known text into ids; a Hugging Face tokenizer is one, too.

        Raises:
            ValueError: what is no blank, a known word that the vocabulary lacks, or too many widths.
        """
        vocabulary = as_vocabulary(vocabulary)
        pieces, blanks = _read(text)
        if hasattr(vocabulary, "word_classes"):
            _check_word_count([written for some in blanks for written in some if written.words])
        if hasattr(vocabulary, "encode_pieces"):
            encoded = vocabulary.encode_pieces(pieces)
        else:
            encoded = [vocabulary.encode(piece) if piece else () for piece in pieces]
        parts: list[int | frozenset[int] | Gap] = []
        spelling: list[tuple[str, int] | Gap] = []
        for number, (piece, ids) in enumerate(zip(pieces, encoded, strict=True)):
            if number:
                gaps = [
                    gap
                    for place, written in enumerate(blanks[number - 1])
                    for gap in written.gaps(vocabulary, opens=not parts and not place)
                ]
                parts += gaps
                spelling.append(Gap(sum(gap.low for gap in gaps), sum(gap.high for gap in gaps)))
            known = [operator.index(token) for token in ids]
            parts += known
            spelling.append((piece, len(known)))
        return cls(tuple(parts), tuple(spelling))

    @classmethod
    def from_tokens(cls, tokens: Iterable[int | Blank | Collection[int]]) -> Template:
        """Make a template from one entry per position: an id, ``Template.BLANK``, or a set of allowed ids."""
        parts: list[int | frozenset[int] | Gap] = []
        for number, token in enumerate(tokens):
            if token is BLANK:
                parts.append(Gap(1, 1))
            elif isinstance(token, (set, frozenset)):
                parts.append(frozenset(_checked_id(one, number) for one in token))
            else:
                parts.append(_checked_id(token, number))
        return cls(tuple(parts))

    @classmethod
    def blank(cls, prefix: Iterable[int], width: int | tuple[int, int], suffix: Iterable[int] = ()) -> Template:
        """Known ids, one blank of ``width`` words (or of ``(low, high)``), known ids."""
        low, high = width if isinstance(width, tuple) else (width, width)
        return cls((*prefix, Gap(low, high), *suffix))

    def to_text(self, vocabulary: Vocabulary) -> str:
        """The template as text that `from_text` reads back; ids are joined to words by the vocabulary.

        Raises:
            ValueError: the template has a set of allowed ids, or counts words in subwords, which have no notation in
                text once they are ids; or it has ids that the vocabulary makes of no text.
        """
        vocabulary = as_vocabulary(vocabulary)
        pieces: list[str] = []
        for is_known, group in itertools.groupby(self.parts, key=lambda part: isinstance(part, int)):
            parts = list(group)
            if is_known:
                ids = [part for part in parts if isinstance(part, int)]
                behind = getattr(vocabulary, "decode_behind", vocabulary.decode)
                text = behind(ids) if pieces else vocabulary.decode(ids)
                pieces.append(re.sub(r"[_{]", r"\\\g<0>", text))
                continue
            for part in parts:
                if not isinstance(part, Gap) or part.allowed is not None:
                    raise ValueError("a set of allowed ids has no notation in text; keep the Template itself")
                if part.low == part.high:
                    pieces.append(" ".join("_" * part.low) or "{0}")
                else:
                    pieces.append(f"{{{part.low}-{part.high}}}")
        if not hasattr(vocabulary, "encode_pieces"):
            return " ".join(pieces)
        # The space in front of a known piece is its own; the one behind it is a token of its own to some tokenizers.
        plain = "".join(pieces)
        blank = r"(?=(?<!\\)(?:_|\{))"
        for text in (re.sub(rf"(?<=\S){blank}", " ", plain), re.sub(blank, " ", plain), plain):
            if Template.from_text(text, vocabulary) == self:
                return text
        raise ValueError("no text reads back as this template; keep the Template itself")

    def within(self, vocab_size: int, never: Collection[int]) -> Template:
        """The same template, whose blanks allow no id that the scorers lack or that a blank never takes."""
        if all(gap.allowed is None for gap in self.gaps):
            return self
        possible = frozenset(range(vocab_size)) - frozenset(never)

        def narrowed(part: int | frozenset[int] | Gap) -> int | frozenset[int] | Gap:
            if not isinstance(part, Gap) or part.allowed is None:
                return part
            allowed = part.allowed & possible
            return replace(part, high=part.high if allowed else 0, allowed=allowed)

        return replace(self, parts=tuple(narrowed(part) for part in self.parts))

    def fixed(self) -> tuple[FixedTemplate, ...]:
        """One template of fixed widths for every combination of widths, narrow ones first."""
        ranges = [range(gap.low, gap.high + 1) for gap in self.gaps]
        return tuple(self._with_widths(widths) for widths in itertools.product(*ranges))

    def _with_widths(self, widths: Sequence[int]) -> FixedTemplate:
        positions: list[Position] = []
        runs: list[tuple[int, int]] = []
        remaining = iter(widths)
        for is_known, group in itertools.groupby(self.parts, key=lambda part: isinstance(part, int)):
            begin = len(positions)
            for part in group:
                if isinstance(part, Gap):
                    allowed: Position = BLANK if part.allowed is None else part.allowed
                    positions.extend([allowed] * next(remaining))
                else:
                    positions.append(part)
            if not is_known:
                runs.append((begin, len(positions)))
        return FixedTemplate(tuple(positions), tuple(runs))


def check_against_vocabulary(
    template: Template,
    vocab_size: int,
    boundaries: Collection[int],
    never: Collection[int],
    name: str = "template",
) -> None:
    """Check at the door that a template can be satisfied by some sentence of the vocabulary.

    Args:
        template: what was asked for.
        vocab_size: ids must be below it.
        boundaries: the START and END ids of the scorers, which cannot be words of a sentence.
        never: ids that a blank never takes.
        name: what it is called in messages.

    Raises:
        ValueError: an id out of range or a START or END id among the words, or a blank that allows no word at all.
    """
    for number, part in enumerate(template.parts):
        if isinstance(part, Gap):
            if part.high and len(set(never)) >= vocab_size:
                raise ValueError(f"the blank (part {number} of the {name}) allows no word: every id is a `never` id")
            if part.low and part.allowed is not None:
                possible = part.allowed.difference(never, boundaries)
                if not any(token < vocab_size for token in possible):
                    raise ValueError(
                        f"the blank (part {number} of the {name}) allows no word: none of its {len(part.allowed)} ids "
                        f"is one that the scorers write (below {vocab_size}, and no START, END or `never` id)"
                    )
            continue
        for token in [part] if isinstance(part, int) else sorted(part):
            if token >= vocab_size:
                raise ValueError(
                    f"part {number} of the {name} has id {token}, but the scorers' vocabulary has ids 0 to "
                    f"{vocab_size - 1}"
                )
            if token in boundaries:
                raise ValueError(
                    f"part {number} of the {name} has id {token}, which is START or END of a scorer: both are "
                    f"implied, and a {name} lists the words between them only"
                )


def _checked_id(token: object, number: int) -> int:
    try:
        return operator.index(token)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"part {number} of the template is {token!r}; it must be an id, Template.BLANK, or a set of allowed ids"
        ) from None


def _checked_part(part: object, number: int) -> int | frozenset[int] | Gap:
    if isinstance(part, Gap):
        return part
    allowed = part if isinstance(part, frozenset) else frozenset([_checked_id(part, number)])
    if not allowed:
        raise ValueError(f"part {number} of the template allows no token: the set is empty")
    if min(allowed) < 0:
        raise ValueError(f"part {number} of the template has id {min(allowed)}; ids are 0 or larger")
    return next(iter(allowed)) if len(allowed) == 1 else allowed


def _check_word_count(counted: Sequence[_Written]) -> None:
    """Check that the blanks that count words of subwords have few enough combinations of widths."""
    words = sum(written.low for written in counted)
    most = next(one for one in itertools.count() if TOKENS_PER_WORD ** (one + 1) > MAX_WIDTH_COMBINATIONS)
    if words > most:
        combinations = TOKENS_PER_WORD**words if words < 10 else f"{TOKENS_PER_WORD}^{words}"
        raise ValueError(
            f"{' and '.join(written.notation for written in counted)} may be 1 to {TOKENS_PER_WORD} tokens each, "
            f"{combinations} combinations; at most {most} words per template, or count tokens: "
            f"{{{words}-{3 * words}}}"
        )
