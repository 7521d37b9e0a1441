"""What a search is asked: fixed templates, and the directions that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from birnn_decode.search.tree import Node, PrefixTree
from birnn_decode.template import FixedTemplate, Position


@dataclass(frozen=True, eq=False)
class Problem:
    """One item at one choice of its blanks' widths.

    Attributes:
        item: the number of the item.
        template: its positions, in sentence order.
    """

    item: int
    template: FixedTemplate


@dataclass(frozen=True, eq=False)
class Direction:
    """One model's way through a sentence. A *place* is a position counted in its reading order.

    Attributes:
        tree: the prefixes that it has read.
        weight: of its log-probability in J.
        reverse: whether it reads right to left.
        banned: ids that a blank never takes.
    """

    tree: PrefixTree
    weight: float
    reverse: bool
    banned: tuple[int, ...]

    def reading_order(self, entries: tuple[Position, ...]) -> tuple[Position, ...]:
        """Positions from sentence order to reading order, or back."""
        return entries[::-1] if self.reverse else entries

    def words_in_reading_order(self, words: tuple[int, ...]) -> tuple[int, ...]:
        """Words from sentence order to reading order, or back."""
        return words[::-1] if self.reverse else words

    def finish(self, node: Node, template: FixedTemplate) -> tuple[int, ...]:
        """The sentence, in sentence order, of a prefix whose rest is known."""
        rest = self.reading_order(template.positions)[node.depth :]
        return self.words_in_reading_order(node.words() + tuple(token for token in rest if isinstance(token, int)))

    def position(self, place: int, template: FixedTemplate) -> int:
        """The position in the sentence of a place in reading order."""
        return len(template) - 1 - place if self.reverse else place

    def span(self, template: FixedTemplate) -> tuple[int, int]:
        """The places where a sweep begins and ends: the first blank one, and one past the last; (0, 0): none."""
        undecided = [at for at in range(len(template)) if template.undecided(at)]
        if not undecided:
            return (0, 0)
        first, last = undecided[0], undecided[-1]
        return (len(template) - 1 - last, len(template) - first) if self.reverse else (first, last + 1)


def branching_depths(templates: Sequence[FixedTemplate], reverse: bool) -> frozenset[int]:
    """After how many words, in reading order, more than one token may follow in the sentences of these templates."""
    follow: dict[int, set[Position | None]] = {}
    undecided = set()
    for template in templates:
        ordered = template.positions[::-1] if reverse else template.positions
        for depth, position in enumerate((*ordered, None)):  # None: the end
            follow.setdefault(depth, set()).add(position)
            if position is not None and not isinstance(position, int):
                undecided.add(depth)
    return frozenset(depth for depth, tokens in follow.items() if depth in undecided or len(tokens) > 1)
