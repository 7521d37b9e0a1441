"""Write a sentence that fills a template as text, with the text of the template kept character for character."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from birnn_decode.template import Gap, Template, Vocabulary, is_exact
from birnn_decode.tokenizers import as_vocabulary


def spell(template: Template, words: Sequence[int], runs: Sequence[tuple[int, int]], vocabulary: Vocabulary) -> str:
    """Write a sentence as text; the known text of its template is kept character for character.

    See `spell_blanks`.
    """
    if template.spelling is None:
        return as_vocabulary(vocabulary).decode(list(words))
    return spell_blanks(template, words, runs, vocabulary)[0]


def spell_blanks(
    template: Template, words: Sequence[int], runs: Sequence[tuple[int, int]], vocabulary: Vocabulary
) -> tuple[str, list[tuple[int, int]]]:
    """Write a sentence as text, and say where in the text its blanks are.

    White space is that of the template's text, and what the words in the blanks need. An empty blank leaves no space
    behind.

    Args:
        template: the template that the sentence fills.
        words: ids of the sentence.
        runs: ``(begin, end)`` of each blank in the sentence; see ``FixedTemplate``.
        vocabulary: decodes the words in the blanks, or the whole sentence if the template was not given as text.

    Returns:
        The text, and ``(begin, end)`` in it of what fills the blanks.
    """
    vocabulary = as_vocabulary(vocabulary)
    words = list(words)
    if template.spelling is None:
        text = vocabulary.decode(words)
        shown = {at: _agreement(text, vocabulary.decode(words[:at])) if at else 0 for run in runs for at in run}
        return text, [(shown[begin], shown[end]) for begin, end in runs]
    speller = _Speller(vocabulary, words)
    text = speller.spell(_with_widths(template.spelling, [end - at for at, end in runs]))
    return text, speller.blanks


def _with_widths(spelling: Sequence[tuple[str, int] | Gap], widths: Sequence[int]) -> list[tuple[str | None, int]]:
    """The spelling with the width of each blank in place of its range, and None in place of its text.

    Blanks with no ids between them are one blank of the template. The first of them takes as much of its width as the
    others do not need.
    """
    remaining = iter(widths)
    spelled: list[tuple[str | None, int]] = []
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
            spelled.append((None, min(entry.high, left - needed)))
            left -= min(entry.high, left - needed)
    return spelled


@dataclass
class _Speller:
    """Puts the known pieces and the words in the blanks together.

    Attributes:
        vocabulary: decodes the words.
        words: ids of the sentence.
        text: the text so far.
        at: number of ids that are written so far.
        blanks: where the blanks are in the text.
    """

    vocabulary: Any
    words: list[int]
    text: str = ""
    at: int = 0
    blanks: list[tuple[int, int]] = field(default_factory=list)

    def spell(self, entries: Iterable[tuple[str | None, int]]) -> str:
        """The text of entries: known pieces, or None for a blank, each with the number of its ids."""
        emptied = False  # whether the entry before is an empty blank
        exact = is_exact(self.vocabulary)
        for piece, width in entries:
            begin = len(self.text)
            if exact:
                self.text += self.vocabulary.decode(self.words[self.at : self.at + width]) if piece is None else piece
            elif piece is None:
                emptied = not self._fill(width)
            elif piece:
                self._piece(piece, width, emptied)
                emptied = False
            if piece is None:
                self.blanks.append((begin, len(self.text)))
            self.at += width
        return self.text.rstrip() if emptied and not self._own_space() else self.text

    def _fill(self, width: int) -> bool:
        """Write the words in a blank; return False if there are none."""
        fill = self._decoded(width)
        bare = fill.lstrip()
        written = _space_behind(self.text)
        if not self.text:
            shown = bare
        elif written:
            # The space that is written already is that of the blank's first word, unless that space has its own ids.
            shown = fill[min(len(fill) - len(bare), max(0, written - self._own_space())) :]
        else:
            shown = bare if bare and fill != bare and not self._needs_space(self.text, bare) else fill
        self.text += shown
        return bool(fill)

    def _piece(self, piece: str, width: int, emptied: bool) -> None:
        """Write a known piece; ``emptied``: the entry before it is an empty blank."""
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

    def _decoded(self, width: int) -> str:
        """The text of the next ids, with the white space before them."""
        before, ids = self.words[: self.at], self.words[self.at : self.at + width]
        shown = self.vocabulary.decode(before) if before else ""
        text = self.vocabulary.decode([*before, *ids])
        if text.startswith(shown):
            return text[len(shown) :]
        return f" {self.vocabulary.decode(ids)}" if ids else ""  # the ids change the text before them

    def _own_space(self) -> int:
        """Number of characters of white space at the end of the text that have ids of their own."""
        return _space_behind(self.vocabulary.decode(self.words[: self.at])) if self.at else 0

    def _needs_space(self, before: str, after: str) -> bool:
        """Whether the space that the vocabulary puts between two texts is needed to read them back."""
        if hasattr(self.vocabulary, "keeps_space"):
            return bool(self.vocabulary.keeps_space(before, after))
        return before[-1].isalnum() and after[0].isalnum()


def _agreement(one: str, other: str) -> int:
    """Number of characters at the beginning that two texts share."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _space_behind(text: str) -> int:
    """Number of characters of white space at the end of a text."""
    return len(text) - len(text.rstrip())
