"""Templates: which tokens are allowed at each position of a sentence, and how wide its blanks are."""

from __future__ import annotations

import enum
import itertools
import math
import operator
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, TypeAlias

MAX_WIDTH_COMBINATIONS = 64
MAX_WIDTH = 10_000  # of one blank: more is a slip of the finger, not a sentence


class Blank(enum.Enum):
    """A position whose word is missing: every word of the vocabulary is allowed there."""

    BLANK = "_"

    def __repr__(self) -> str:
        return "BLANK"


BLANK: Final = Blank.BLANK

Position: TypeAlias = "int | frozenset[int] | Blank"
"""One position of a sentence: a known word (its id), a set of allowed ids, or any word (``BLANK``)."""


class Vocabulary(Protocol):
    """Text to token ids and back. START and END are neither expected nor wanted in the ids."""

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a piece of text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...


@dataclass(frozen=True)
class Gap:
    """A blank of ``low`` to ``high`` missing words."""

    low: int
    high: int

    def __post_init__(self) -> None:
        for width in (self.low, self.high):
            if not hasattr(width, "__index__"):
                raise TypeError(f"a blank of {width!r} words: a width is a whole number, or a pair (low, high) of them")
        if not 0 <= self.low <= self.high:
            raise ValueError(f"a blank of {self.low} to {self.high} words: widths must satisfy 0 <= low <= high")
        if self.high > MAX_WIDTH:
            raise ValueError(f"a blank of {self.high} words: at most {MAX_WIDTH} are searched")


@dataclass(frozen=True)
class FixedTemplate:
    """A template whose blanks all have one width: exactly one entry per word of the sentence.

    Attributes:
        positions: what is allowed at each position, in sentence order; START and END are implied.
        runs: ``(begin, end)`` of each blank in ``positions``; a blank of width 0 has ``begin == end``.
    """

    positions: tuple[Position, ...]
    runs: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.positions)

    def undecided(self, position: int) -> bool:
        """Whether the word at ``position`` is for the search to choose."""
        return not isinstance(self.positions[position], int)

    def blanks(self, words: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """What ``words``, a sentence of this length, put into each blank."""
        return tuple(tuple(words[begin:end]) for begin, end in self.runs)

    @staticmethod
    def all_blank(width: int) -> FixedTemplate:
        """A whole sentence of ``width`` missing words."""
        return FixedTemplate((BLANK,) * width, ((0, width),))


_MARKER = re.compile(r"\\[_{]|_|\{")
_WIDTH = re.compile(r"\{\s*(\d+)\s*(?:-\s*(\d+)\s*)?\}")


@dataclass(frozen=True)
class Template:
    r"""The known and the missing words of a sentence.

    Written as text, ``_`` is one missing word, ``{3}`` three, ``{1-6}`` one to six (0 is legal), ``\_`` and ``\{``
    stand for themselves, and everything else goes through the vocabulary. From ids, use `from_tokens` or `blank`.
    Neighbouring blanks are one blank, and their ranges add. A *blank* is a run of positions that are not known:
    missing words and sets of allowed ids alike.

    Attributes:
        parts: known ids, sets of allowed ids and `Gap`\ s, in sentence order; START and END are implied.

    Raises:
        TypeError: a part is none of these.
        ValueError: an empty set of allowed ids, a negative id or width, or more than 64 combinations of widths.
    """

    parts: tuple[int | frozenset[int] | Gap, ...]

    BLANK: ClassVar[Blank] = BLANK

    def __post_init__(self) -> None:
        merged: list[int | frozenset[int] | Gap] = []
        for number, given in enumerate(self.parts):
            part = _checked_part(given, number)
            before = merged[-1] if merged else None
            if isinstance(part, Gap) and isinstance(before, Gap):
                merged[-1] = Gap(before.low + part.low, before.high + part.high)
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
        """The blanks of any-word positions, in sentence order."""
        return tuple(part for part in self.parts if isinstance(part, Gap))

    @property
    def width_known(self) -> bool:
        """Whether all sentences are of one length."""
        return all(gap.low == gap.high for gap in self.gaps)

    @classmethod
    def from_text(cls, text: str, vocabulary: Vocabulary) -> Template:
        r"""Read a template such as ``"a girl and {1-6} a wind board"``.

        Args:
            text: known text with ``_``, ``{n}`` and ``{a-b}`` for missing words; ``\_`` and ``\{`` are literal.
            vocabulary: its ``encode`` turns each piece of known text into ids.
        """
        parts: list[int | frozenset[int] | Gap] = []
        piece, at = "", 0

        def flush() -> None:
            nonlocal piece
            if piece and not piece.isspace():
                parts.extend(operator.index(token) for token in vocabulary.encode(piece))
            piece = ""

        while match := _MARKER.search(text, at):
            piece += text[at : match.start()]
            at = match.end()
            marker = match.group()
            if marker.startswith("\\"):
                piece += marker[1]
                continue
            flush()
            if marker == "_":
                parts.append(Gap(1, 1))
                continue
            width = _WIDTH.match(text, match.start())
            if width is None:
                raise ValueError(
                    f"cannot read {text[match.start() : match.start() + 12]!r} in the template {text!r}: a blank is "
                    r"_, {3} or {1-6}; write \{ for a literal brace"
                )
            low, high = int(width[1]), int(width[2] or width[1])
            if low > high:
                raise ValueError(
                    f"the blank {width[0]} in the template {text!r} ends before it begins: {{a-b}}, a <= b"
                )
            parts.append(Gap(low, high))
            at = width.end()
        piece += text[at:]
        flush()
        return cls(tuple(parts))

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
            ValueError: the template has a set of allowed ids, which has no notation in text.
        """
        pieces: list[str] = []
        for is_known, group in itertools.groupby(self.parts, key=lambda part: isinstance(part, int)):
            parts = list(group)
            if is_known:
                text = vocabulary.decode([part for part in parts if isinstance(part, int)])
                pieces.append(re.sub(r"[_{]", r"\\\g<0>", text))
                continue
            for part in parts:
                if not isinstance(part, Gap):
                    raise ValueError("a set of allowed ids has no notation in text; keep the Template itself")
                if part.low == part.high:
                    pieces.append(" ".join("_" * part.low) or "{0}")
                else:
                    pieces.append(f"{{{part.low}-{part.high}}}")
        return " ".join(pieces)

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
                    positions.extend([BLANK] * next(remaining))
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
