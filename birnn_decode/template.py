"""Templates: which tokens are allowed at each position of a sentence, and how wide its blanks are."""

from __future__ import annotations

import codecs
import contextlib
import enum
import itertools
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

from birnn_decode.checks import check_count
from birnn_decode.files import reading
from birnn_decode.tokenizers import as_vocabulary

MAX_WIDTH_COMBINATIONS = 64
MAX_WIDTH = 10_000  # words of one blank: a larger number is a typing error
TOKENS_PER_WORD = 4  # largest number of subword tokens of a word
MAX_WORDS = 3  # of {n words} in subwords: TOKENS_PER_WORD**MAX_WORDS is MAX_WIDTH_COMBINATIONS


class Blank(enum.Enum):
    """A missing word: every word of the vocabulary is allowed at its position."""

    BLANK = "_"

    def __repr__(self) -> str:
        return "BLANK"


BLANK: Final = Blank.BLANK

Position: TypeAlias = "int | frozenset[int] | Blank"
"""One position of a sentence: a known word (its id), a set of allowed ids, or any word (``BLANK``)."""


class Vocabulary(Protocol):
    """Convert text to token ids and back. The ids do not include START and END.

    A vocabulary of subwords may have three more members: ``encode_pieces``, ``keeps_space`` and ``word_classes``. See
    ``birnn_decode.tokenizers.TokenizerVocabulary``. A vocabulary may have the member ``exact``. It is True if white
    space has ids like every other character.
    """

    def encode(self, text: str) -> Sequence[int]:
        """Return the token ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids."""


@dataclass(frozen=True)
class Gap:
    """A blank of ``low`` to ``high`` missing words.

    Args:
        low: Smallest number of words.
        high: Largest number of words, at most 10,000.
        allowed: Ids that each of the words may have. None: any id (default: None). It may contain ids that a scorer
            never writes; they are left out when decoding starts.

    Raises:
        TypeError: A width is not an integer, or ``allowed`` is not a frozenset of ids.
        ValueError: A width is negative or too large, ``low`` is larger than ``high``, or ``allowed`` is empty.

    Example:
        >>> Template((5, Gap(1, 3), 8)).width_known
        False
    """

    low: int
    high: int
    allowed: frozenset[int] | None = None

    def __post_init__(self) -> None:
        low, high = check_count("Gap.low", self.low), check_count("Gap.high", self.high)
        if not low <= high <= MAX_WIDTH:
            raise ValueError(f"a blank must have low <= high <= {MAX_WIDTH} words, got {low} to {high} words.")
        if self.allowed is not None:
            if not isinstance(self.allowed, frozenset):
                raise TypeError(f"Gap.allowed must be a frozenset of ids, or None for any id, got {self.allowed!r}.")
            for token in self.allowed:
                check_count("each id in Gap.allowed", token)
            if high and not self.allowed:
                raise ValueError(f"Gap.allowed must have at least one id for a blank of up to {high} words, got none.")


Part: TypeAlias = "int | frozenset[int] | Gap"
"""One part of a template: a known word (its id), a set of allowed ids, or a `Gap`."""


@dataclass(frozen=True)
class FixedTemplate:
    """A template whose blanks have fixed widths: one entry for each word of the sentence.

    Attributes:
        positions: What is allowed at each position, in sentence order. START and END are implied.
        runs: ``(begin, end)`` of each blank in ``positions``. If a blank has width 0, ``begin == end``.
    """

    positions: tuple[Position, ...]
    runs: tuple[tuple[int, int], ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The hash is computed once, because a search looks templates up many times.
        object.__setattr__(self, "_hash", hash((self.positions, self.runs)))

    def __hash__(self) -> int:
        return self._hash

    def __len__(self) -> int:
        return len(self.positions)

    def undecided(self, position: int) -> bool:
        """Return whether the search chooses the word at ``position``."""
        return not isinstance(self.positions[position], int)

    @property
    def blank_count(self) -> int:
        """Number of words that the search chooses."""
        return sum(map(self.undecided, range(len(self))))

    def blanks(self, words: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Return the part of ``words``, a sentence of this length, that fills each blank."""
        return tuple(tuple(words[begin:end]) for begin, end in self.runs)

    @staticmethod
    def all_blank(width: int) -> FixedTemplate:
        """Return the template of a whole sentence of ``width`` missing words."""
        return FixedTemplate((BLANK,) * width, ((0, width),))


# A mark and all backslashes before it. They are special only there: elsewhere, as in F/C=C\F, they are text.
_MARK = re.compile(
    r"(?<!\\)(?P<escapes>\\*)(?P<mark>_|\{\s*(?P<low>\d+)\s*(?:-\s*(?P<high>\d+)\s*|(?P<words>(?<=\s)words?\s*))?\}"
    r"|(?P<brace>\{))"
)


class _Written(NamedTuple):
    """A blank as it is written in a template; ``words`` says that it counts words, not tokens."""

    notation: str
    low: int
    high: int
    words: bool

    def gaps(self, vocabulary: Any, opens: bool) -> list[Gap]:
        """Return its gaps; ``opens`` says that the sentence begins with it."""
        if self.words and is_exact(vocabulary):
            raise ValueError(
                f"{self.notation} counts words, and the vocabulary ({vocabulary!r}) has none: count its tokens, as in "
                "{4-12}."
            )
        if not self.words or not hasattr(vocabulary, "word_classes"):
            return [Gap(self.low, self.high)]
        classes = vocabulary.word_classes()
        more = Gap(0, TOKENS_PER_WORD - 1 if classes.go_on else 0, classes.go_on)
        first = Gap(1, 1, classes.begin | classes.open if opens else classes.begin)
        return [gap for number in range(self.low) for gap in (Gap(1, 1, classes.begin) if number else first, more)]


def is_exact(vocabulary: Any) -> bool:
    """Whether white space is text like any other to a vocabulary: it has ids, and `decode` adds none."""
    return bool(getattr(vocabulary, "exact", False))


def _read(text: str, exact: bool) -> tuple[list[str], list[list[_Written]]]:
    """Return the known pieces of a template in text, and the blanks in front of each piece.

    White space alone is a piece only if the vocabulary is ``exact``.
    """

    def has_text(piece: str) -> bool:
        return bool(piece if exact else piece.strip())

    pieces, blanks = [""], [list[_Written]()]
    at = 0
    for match in _MARK.finditer(text):
        pieces[-1] += text[at : match.start()]
        at = match.end()
        literal, odd = divmod(len(match["escapes"]), 2)
        pieces[-1] += "\\" * literal
        if odd:
            pieces[-1] += match["mark"]
            continue
        if match["brace"]:
            begin = match.start("mark")
            raise ValueError(
                f"cannot read {text[begin : begin + 12]!r} in the template {text!r}: a blank is "
                r"_, {3} or {1-6}, or {2 words}; write \{ for a literal brace."
            )
        low = int(match["low"] or 1)
        written = _Written(match["mark"], low, int(match["high"] or low), bool(match["words"]))
        if blanks[-1] and not has_text(pieces[-1]):  # only white space since the last blank
            pieces[-1] = ""
            blanks[-1].append(written)
        else:
            pieces.append("")
            blanks.append([written])
    pieces[-1] += text[at:]
    pieces[0], pieces[-1] = (piece if has_text(piece) else "" for piece in (pieces[0], pieces[-1]))
    return pieces, blanks


def _composed(entries: Iterable[tuple[bool, str]], spaced: Callable[[str], bool]) -> str:
    """Write blanks (True) and known pieces as a template that `_read` reads.

    A space is written before a blank if ``spaced`` says so of the text before it.
    """
    text = ""
    for is_blank, entry in entries:
        if not is_blank:
            text += re.sub(r"(\\*)([_{])", r"\1\1\\\2", entry)
            continue
        text += " " if spaced(text) else ""
        text += "\\" * (len(text) - len(text.rstrip("\\"))) + entry
    return text


def _never(text: str) -> bool:
    return False


def _always(text: str) -> bool:
    return True


def _behind_text(text: str) -> bool:
    return bool(text[-1:].strip())


@dataclass(frozen=True)
class Template:
    r"""Define the known and the missing words of a sentence.

    Make a template with `from_text`, `from_tokens` or `blank`. `decode` also takes the text itself. START and END are
    implied. A *blank* is a run of positions whose word is not known: missing words and sets of allowed ids.
    Neighbouring blanks become one blank, and their ranges of widths add. Two templates are equal if their parts are
    equal.

    In text, a blank is written in one of these ways:

    - ``_``: one missing word. ``{3}``: three words. ``{1-6}``: one to six words. The smallest width may be 0.
    - ``{2 words}``: two words, for a tokenizer of subwords. There, the other forms count tokens, and each of the two
      words is one token that begins a word and up to three that continue it. With a vocabulary of words, ``{2 words}``
      is the same as ``{2}``.
    - ``\_`` and ``\{`` are a literal underscore and a literal brace. Backslashes are special only directly before ``_``
      and ``{``. There, two of them are one literal backslash: ``F/C=C\\_`` is ``F/C=C\`` and a blank.

    If the tokens of the vocabulary are characters or bytes, ``_`` is one missing character or byte, and white space is
    known text like everything else.

    Args:
        parts: Known ids, sets of allowed ids, ``Template.BLANK``, and gaps with a range of widths, in sentence order.

    Attributes:
        spelling: If the template was read from text, each known piece of the text with its number of ids, and each
            blank with its widths in tokens. Results repeat the known pieces as they were written. Otherwise None.

    Raises:
        TypeError: ``parts`` is not a tuple, or a part is none of these.
        ValueError: A set of allowed ids is empty, an id is negative, or there are more than 64 combinations of widths.

    Example:
        >>> from birnn_decode.captions import WordVocabulary
        >>> words = WordVocabulary(["a", "girl", "runs"])
        >>> template = Template.from_text("a girl {1-3}", words)
        >>> template.width_known
        False
        >>> template.to_text(words)
        'a girl {1-3}'
    """

    parts: tuple[Part, ...]
    spelling: tuple[tuple[str, int] | Gap, ...] | None = field(default=None, init=False, compare=False, repr=False)

    BLANK: ClassVar[Blank] = BLANK

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple):
            raise TypeError(f"Template.parts must be a tuple, got {self.parts!r}; for text, use Template.from_text.")
        merged: list[Part] = []
        for number, given in enumerate(self.parts):
            part = _checked_part(given, number)
            before = merged[-1] if merged else None
            if isinstance(part, Gap) and isinstance(before, Gap) and part.allowed == before.allowed:
                merged[-1] = Gap(before.low + part.low, before.high + part.high, part.allowed)
            else:
                merged.append(part)
        object.__setattr__(self, "parts", tuple(merged))
        if (combinations := math.prod(gap.high - gap.low + 1 for gap in self.gaps)) > MAX_WIDTH_COMBINATIONS:
            raise ValueError(
                f"the blanks of this template have {combinations} combinations of widths; at most "
                f"{MAX_WIDTH_COMBINATIONS} are searched. Narrow the ranges, or decode them in several calls."
            )

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps in sentence order. Sets of allowed ids are not included.

        Example:
            >>> Template.blank([5], (1, 3)).gaps
            (Gap(low=1, high=3, allowed=None),)
        """
        return tuple(part for part in self.parts if isinstance(part, Gap))

    @property
    def width_known(self) -> bool:
        """Whether all sentences of the template have the same length.

        Example:
            >>> Template.blank([5], (1, 3)).width_known
            False
        """
        return all(gap.low == gap.high for gap in self.gaps)

    @classmethod
    def from_text(cls, text: str, vocabulary: Vocabulary) -> Template:
        r"""Read a template from text.

        Args:
            text: Known text with ``_``, ``{n}``, ``{a-b}`` and ``{n words}`` for missing words. ``\_`` and ``\{`` are
                literal, and ``\\_`` is a literal backslash and a blank.
            vocabulary: Converts the known text to ids: anything with ``encode(text) -> ids`` and
                ``decode(ids) -> text``, or a Hugging Face tokenizer.

        Raises:
            ValueError: A brace does not begin a blank, the vocabulary does not have a known word, or there are too many
                combinations of widths.

        Returns:
            The template.

        Example:
            >>> from birnn_decode.captions import WordVocabulary
            >>> words = WordVocabulary(["a", "girl", "board"])
            >>> Template.from_text("a girl {1-6} board", words).parts
            (4, 5, Gap(low=1, high=6, allowed=None), 6)
            >>> from birnn_decode.vocabularies import CharacterVocabulary
            >>> Template.from_text("CC{0-2}O", CharacterVocabulary("CO")).parts
            (4, 4, Gap(low=0, high=2, allowed=None), 5)
        """
        vocabulary = as_vocabulary(vocabulary)
        pieces, blanks = _read(text, is_exact(vocabulary))
        if hasattr(vocabulary, "word_classes"):
            _check_word_count([blank for written in blanks for blank in written if blank.words])
        if hasattr(vocabulary, "encode_pieces"):
            encoded = vocabulary.encode_pieces(pieces)
        else:
            encoded = [vocabulary.encode(piece) if piece else () for piece in pieces]
        parts: list[Part] = []
        spelling: list[tuple[str, int] | Gap] = []
        for piece, ids, written in zip(pieces, encoded, blanks, strict=True):
            gaps: list[Gap] = []
            for blank in written:
                gaps += blank.gaps(vocabulary, opens=not parts and not gaps)
            if written:
                spelling.append(Gap(sum(gap.low for gap in gaps), sum(gap.high for gap in gaps)))
            spelling.append((piece, len(ids)))
            parts += [*gaps, *ids]
        return cls(tuple(parts))._spelled(spelling)

    @classmethod
    def from_tokens(cls, tokens: Iterable[int | Blank | Set[int] | Gap]) -> Template:
        """Make a template from one entry per position.

        Args:
            tokens: For each position an id, ``Template.BLANK``, or a set of allowed ids.

        Returns:
            The template.

        Raises:
            TypeError: An entry is none of these.
            ValueError: A set is empty, or an id is negative.

        Example:
            >>> Template.from_tokens([5, Template.BLANK, Template.BLANK, 4]).parts
            (5, Gap(low=2, high=2, allowed=None), 4)
        """
        return cls(tuple(tokens))  # type: ignore[arg-type]  # checked and converted

    @classmethod
    def blank(cls, prefix: Iterable[int], width: int | tuple[int, int], suffix: Iterable[int] = ()) -> Template:
        """Make a template of known ids, one blank, and known ids.

        Args:
            prefix: Ids before the blank.
            width: Number of missing words, or a pair ``(low, high)``.
            suffix: Ids after the blank (default: none).

        Returns:
            The template.

        Raises:
            TypeError: ``width`` is neither an integer nor a pair of integers.
            ValueError: A width is negative, or ``low`` is larger than ``high``.

        Example:
            >>> Template.blank([5], (1, 3), [4]).parts
            (5, Gap(low=1, high=3, allowed=None), 4)
        """
        try:
            gap = Gap(*(width if isinstance(width, tuple) else (width, width)))
        except TypeError:
            raise TypeError(f"width must be an integer or a pair (low, high) of integers, got {width!r}.") from None
        return cls((*prefix, gap, *suffix))

    def to_text(self, vocabulary: Vocabulary) -> str:
        """Return the template as text that `from_text` reads back.

        Args:
            vocabulary: Converts known ids to text.

        Returns:
            The text.

        Raises:
            ValueError: No text reads back as this template. Sets of allowed ids have no notation in text, and neither
                have the subword tokens of ``{n words}``.

        Example:
            >>> from birnn_decode.captions import WordVocabulary
            >>> Template.blank([4], (1, 3), [5]).to_text(WordVocabulary(["a", "dog"]))
            'a {1-3} dog'
        """
        vocabulary = as_vocabulary(vocabulary)
        exact = is_exact(vocabulary)
        entries: list[tuple[bool, str]] = []
        for is_known, group in itertools.groupby(self.parts, key=lambda part: isinstance(part, int)):
            parts: list[Any] = list(group)
            if is_known:
                decode = getattr(vocabulary, "decode_behind", vocabulary.decode) if entries else vocabulary.decode
                entries.append((False, decode(parts)))
                continue
            for part in parts:
                if not isinstance(part, Gap) or part.allowed is not None:
                    raise ValueError("a set of allowed ids has no notation in text. Keep the Template itself.")
                one_by_one = part.low == 1 or (part.low and not exact)  # spaces between them would be known text
                fixed = " ".join("_" * part.low) if one_by_one else f"{{{part.low}}}"
                entries.append((True, fixed if part.low == part.high else f"{{{part.low}-{part.high}}}"))
        if not exact and not hasattr(vocabulary, "encode_pieces"):
            return " ".join(_composed([entry], _never) for entry in entries)
        # The space before a known piece belongs to the piece. For some tokenizers the space after it is a token.
        for spaced in (_never,) if exact else (_behind_text, _always, _never):
            text = _composed(entries, spaced)
            with contextlib.suppress(ValueError):  # the text of special tokens may be unknown
                if Template.from_text(text, vocabulary) == self:
                    return text
        raise ValueError("no text reads back as this template. Keep the Template itself.")

    def within(self, vocab_size: int, never: Collection[int]) -> Template:
        """Return the same template, with gaps that allow only ids of a vocabulary.

        Args:
            vocab_size: Number of ids.
            never: Ids that no gap allows.

        Returns:
            The template. Gaps that allow any id stay as they are.

        Example:
            >>> Template((Gap(1, 2, frozenset({2, 9})),)).within(5, never={0}).gaps
            (Gap(low=1, high=2, allowed=frozenset({2})),)
        """
        if all(gap.allowed is None for gap in self.gaps):
            return self
        parts = list(self.parts)
        for number, part in enumerate(parts):
            if isinstance(part, Gap) and part.allowed is not None:
                allowed = frozenset(token for token in part.allowed if token < vocab_size and token not in never)
                parts[number] = replace(part, high=part.high if allowed else 0, allowed=allowed)
        return Template(tuple(parts))._spelled(self.spelling)

    def _spelled(self, spelling: Sequence[tuple[str, int] | Gap] | None) -> Template:
        """Return this new template with its spelling."""
        object.__setattr__(self, "spelling", spelling and tuple(spelling))
        return self

    def fixed(self) -> tuple[FixedTemplate, ...]:
        """Return one template of fixed widths for each combination of widths.

        Returns:
            The templates, narrow ones first.

        Example:
            >>> [one.positions for one in Template.blank([5], (0, 2)).fixed()]
            [(5,), (5, BLANK), (5, BLANK, BLANK)]
        """
        ranges = [range(gap.low, gap.high + 1) for gap in self.gaps]
        return tuple(self._with_widths(widths) for widths in itertools.product(*ranges))

    def _with_widths(self, widths: Sequence[int]) -> FixedTemplate:
        """Return the template whose gaps have these widths."""
        positions: list[Position] = []
        runs: list[tuple[int, int]] = []
        remaining = iter(widths)
        for is_known, group in itertools.groupby(self.parts, key=lambda part: isinstance(part, int)):
            begin = len(positions)
            for part in group:
                if isinstance(part, Gap):
                    positions += [BLANK if part.allowed is None else part.allowed] * next(remaining)
                else:
                    positions.append(part)
            if not is_known:
                runs.append((begin, len(positions)))
        return FixedTemplate(tuple(positions), tuple(runs))


def read_templates(path: str | os.PathLike[str], vocabulary: Vocabulary) -> list[Template]:
    r"""Read a file of templates.

    The file is text in UTF-8 and has one template per line, as `Template.from_text` reads it. Only ``\n`` and ``\r\n``
    end a line.

    Args:
        path: The file.
        vocabulary: Converts known text to ids.

    Returns:
        The templates, in order.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file has no line, or a line is empty, is not UTF-8, or is not a template of the vocabulary. The
            message names the file and the line.

    Example:
        >>> from pathlib import Path
        >>> from birnn_decode.vocabularies import CharacterVocabulary
        >>> size = Path("molecules.txt").write_text("CC_O\nC{1-3}O\n")
        >>> [template.gaps for template in read_templates("molecules.txt", CharacterVocabulary("CO"))]
        [(Gap(low=1, high=1, allowed=None),), (Gap(low=1, high=3, allowed=None),)]
    """
    with reading(path, "file of templates"), open(path, "rb") as file:
        lines = file.read().removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:  # the last line is ended, too
        del lines[-1]
    if not lines:
        raise ValueError(f"{os.fspath(path)} is empty: write one template per line.")
    templates = []
    for number, line in enumerate(lines, start=1):
        try:
            template = Template.from_text(line.removesuffix(b"\r").decode(), vocabulary)
        except UnicodeDecodeError as error:
            wrong = line[error.start]
            raise ValueError(
                f"{os.fspath(path)}, line {number}: byte 0x{wrong:02x} is not UTF-8; save the file as UTF-8."
            ) from None
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}, line {number}: {error}") from None
        if not template.parts:
            raise ValueError(f"{os.fspath(path)}, line {number}: there is no template; write one on each line.")
        templates.append(template)
    return templates


def check_against_vocabulary(
    template: Template, vocab_size: int, boundaries: Collection[int], never: Collection[int], name: str = "template"
) -> None:
    """Check that some sentence of the vocabulary can fill a template.

    Args:
        template: Template that was given.
        vocab_size: Number of ids.
        boundaries: The START and END ids of the scorers, and others that they read beside them. They are no words.
        never: Ids that a blank never takes.
        name: What the template is called in messages.

    Raises:
        ValueError: An id is out of range or is START or END, or a blank allows no word.
    """
    for number, part in enumerate(template.parts):
        if isinstance(part, Gap):
            if part.high and len(set(never)) >= vocab_size:
                raise ValueError(f"the blank (part {number} of the {name}) allows no word: every id is a `never` id.")
            if (
                part.low
                and part.allowed is not None
                and not any(token < vocab_size for token in part.allowed.difference(never, boundaries))
            ):
                raise ValueError(
                    f"the blank (part {number} of the {name}) allows no word: none of its {len(part.allowed)} ids "
                    f"is one that the scorers write (below {vocab_size}, and not START, END or a `never` id)."
                )
            continue
        for token in [part] if isinstance(part, int) else sorted(part):
            if token >= vocab_size:
                raise ValueError(
                    f"part {number} of the {name} has id {token}, but the scorers' vocabulary has ids 0 to "
                    f"{vocab_size - 1}."
                )
            if token in boundaries:
                raise ValueError(
                    f"part {number} of the {name} has id {token}, which is START or END of a scorer, or is read before "
                    f"the words of every sentence. These are implied, and a {name} lists only the words between them."
                )


def _checked_part(part: Any, number: int) -> Part:
    """Return a part of a template in the form that `Template` keeps."""
    if isinstance(part, Gap):
        return part
    if part is BLANK:
        return Gap(1, 1)
    name, what = f"part {number} of the template", "an id (0 or larger), a set of ids, or Template.BLANK"
    allowed = frozenset(check_count(name, one, what=what) for one in (part if isinstance(part, Set) else [part]))
    if not allowed:
        raise ValueError(f"{name} allows no token: its set of ids is empty.")
    return next(iter(allowed)) if len(allowed) == 1 else allowed


def _check_word_count(counted: Sequence[_Written]) -> None:
    """Check that the blanks that count words in subwords have few enough combinations of widths."""
    if (words := sum(written.low for written in counted)) > MAX_WORDS:
        combinations = TOKENS_PER_WORD**words if words < 10 else f"{TOKENS_PER_WORD}^{words}"
        raise ValueError(
            f"{' and '.join(written.notation for written in counted)} may be 1 to {TOKENS_PER_WORD} tokens each, "
            f"{combinations} combinations; at most {MAX_WORDS} words per template, or count tokens: "
            f"{{{words}-{3 * words}}}."
        )
