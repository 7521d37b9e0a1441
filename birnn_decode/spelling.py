"""The text of a sentence that fills a template: what was written stands in it character for character."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from birnn_decode.template import Gap, Template, Vocabulary
from birnn_decode.tokenizers import as_vocabulary


def spell(template: Template, words: Sequence[int], runs: Sequence[tuple[int, int]], vocabulary: Vocabulary) -> str:
    """The text of a sentence, in which what the template was written with stands character for character.

    White space is what was written, and what the words in the blanks need: none is left over by an empty blank.

    Args:
        template: that the sentence fills.
        words: ids of the sentence.
        runs: ``(begin, end)`` of each blank in it; see `FixedTemplate`.
        vocabulary: decodes what is in the blanks; all of it where the template was not given as text.
    """
    vocabulary = as_vocabulary(vocabulary)
    if template.spelling is None:
        return vocabulary.decode(list(words))
    return _Speller(vocabulary, words).spell(_with_widths(template.spelling, [end - at for at, end in runs]))


def _with_widths(spelling: Sequence[tuple[str, int] | Gap], widths: Sequence[int]) -> list[tuple[str, int] | int]:
    """A spelling whose blanks have the widths of the template's; known pieces stay, blanks become their width.

    Where nothing between two blanks has ids, they are one blank of the template, and the first of them takes what the
    others can do without.
    """
    remaining = iter(widths)
    spelled: list[tuple[str, int] | int] = []
    for is_known, group in itertools.groupby(spelling, key=lambda entry: not isinstance(entry, Gap) and entry[1] > 0):
        entries = list(group)
        gaps = [entry for entry in entries if isinstance(entry, Gap)]
        left = next(remaining) if gaps and not is_known else 0
        needed = sum(gap.low for gap in gaps)
        for entry in entries:
            if not isinstance(entry, Gap):
                spelled.append(entry)
                continue
            needed -= entry.low
            spelled.append(min(entry.high, left - needed))
            left -= min(entry.high, left - needed)
    return spelled


class _Speller:
    """Puts known pieces, as they were written, and what fills the blanks between them together.

    Attributes:
        text: so far.
        at: how many ids it stands for.
    """

    def __init__(self, vocabulary: Any, words: Sequence[int]):
        self.vocabulary = vocabulary
        self.words = list(words)
        self.text = ""
        self.at = 0

    def spell(self, entries: Iterable[tuple[str, int] | int]) -> str:
        """The text of known pieces, each with the number of its ids, and of blanks, of which the width is given."""
        emptied = False  # whether a blank with nothing in it stands right before
        for entry in entries:
            if isinstance(entry, int):
                emptied = not self._fill(entry)
            elif entry[0]:
                self._piece(*entry, emptied)
                emptied = False
        return self.text.rstrip() if emptied and not self._own_space() else self.text

    def _fill(self, width: int) -> bool:
        """Write what is in a blank; False if that is nothing."""
        fill = self._decoded(width)
        bare = fill.lstrip()
        written = _space_behind(self.text)
        if not self.text:
            shown = bare
        elif written:
            # The space that was written is the one in front of the blank's first word, unless it has ids of its own.
            begin = min(len(fill) - len(bare), max(0, written - self._own_space()))
            shown = fill[begin:]
        else:
            shown = bare if bare and fill != bare and not self._needs_space(self.text, bare) else fill
        self.text += shown
        self.at += width
        return bool(fill)

    def _piece(self, piece: str, width: int, emptied: bool) -> None:
        """Write a known piece; ``emptied``: an empty blank stands before it."""
        spaced = bool(width) and self._decoded(width)[:1].isspace()
        if emptied and not self.text:
            piece = piece.lstrip(" ")
        elif emptied and piece[0].isspace():
            self.text = self.text.rstrip()
        elif self.text and not piece[0].isspace() and not (emptied and self._own_space()):
            shown = self.text.rstrip() if emptied else self.text
            if not (spaced and shown and not shown[-1].isspace() and self._needs_space(shown, piece)):
                self.text = shown
            elif not self.text[-1].isspace():
                self.text += " "
        self.text += piece
        self.at += width

    def _decoded(self, width: int) -> str:
        """The text of the next ids, with the white space that stands in front of them."""
        before, ids = self.words[: self.at], self.words[self.at : self.at + width]
        shown: str = self.vocabulary.decode(before) if before else ""
        text: str = self.vocabulary.decode([*before, *ids])
        if text.startswith(shown):
            return text[len(shown) :]
        alone: str = self.vocabulary.decode(ids)  # what stands before reads differently with them
        return f" {alone}" if ids else ""

    def _own_space(self) -> int:
        """How much of the white space at the end of the text has ids of its own."""
        return _space_behind(self.vocabulary.decode(self.words[: self.at])) if self.at else 0

    def _needs_space(self, before: str, after: str) -> bool:
        """Whether two texts would read differently without the space that the vocabulary puts between them."""
        if hasattr(self.vocabulary, "keeps_space"):
            return bool(self.vocabulary.keeps_space(before, after))
        return before[-1].isalnum() and after[0].isalnum()


def _space_behind(text: str) -> int:
    """How many characters of white space a text ends with."""
    return len(text) - len(text.rstrip())
