"""What a search is asked: fixed templates, and the directions that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from birnn_decode.search.holding import Held
from birnn_decode.search.tree import Nodes, PrefixTree
from birnn_decode.template import Blank, FixedTemplate, Position

BLANK, SOME = -1, -2  # what stands for no known word


@dataclass(frozen=True, eq=False)
class Problem:
    """One item at one choice of its blanks' widths.

    Attributes:
        item: the number of the item.
        template: its positions, in sentence order.
        held: what its sentences must satisfy besides; None: nothing.
    """

    item: int
    template: FixedTemplate
    held: Held | None = None


class Lane:
    """A template in one direction's reading order.

    Attributes:
        positions: what is allowed at each place.
        codes: the same as numbers, int64 [places]: the known word, `BLANK`, or `SOME` where a set of words is allowed.
        begin: where a sweep begins: the place of the first blank position.
        end: where it ends: one past that of the last; 0, as ``begin``, where nothing is blank.
        beginning: the known words before the first blank.
        rest: the known words behind the last.
    """

    def __init__(self, positions: tuple[Position, ...], codes: np.ndarray):
        self.positions = positions
        self.codes = codes
        undecided = np.flatnonzero(codes < 0).tolist()
        self.begin: int = undecided[0] if undecided else 0
        self.end: int = undecided[-1] + 1 if undecided else 0
        self.beginning: tuple[int, ...] = tuple(codes[: self.begin].tolist())
        self.rest: tuple[int, ...] = tuple(codes[self.end :].tolist())


@dataclass(frozen=True, eq=False)
class Direction:
    """One model's way through a sentence. A *place* is a position counted in its reading order.

    Attributes:
        tree: the prefixes that it has read.
        weight: of its log-probability in J.
        reverse: whether it reads right to left.
        banned: ids that a blank never takes.
        lanes: what `lane` has made of templates.
    """

    tree: PrefixTree
    weight: float
    reverse: bool
    banned: tuple[int, ...]
    lanes: dict[FixedTemplate, Lane] = field(default_factory=dict)

    def lane(self, template: FixedTemplate) -> Lane:
        """A template in reading order."""
        lane = self.lanes.get(template)
        if lane is None:
            positions = template.positions[::-1] if self.reverse else template.positions
            codes = [BLANK if one is Blank.BLANK else SOME if isinstance(one, frozenset) else one for one in positions]
            lane = self.lanes[template] = Lane(positions, np.array(codes, dtype=np.int64))
        return lane

    def words_in_reading_order(self, words: tuple[int, ...]) -> tuple[int, ...]:
        """Words from sentence order to reading order, or back."""
        return words[::-1] if self.reverse else words

    def sentences(self, nodes: Nodes, lanes: Sequence[Lane]) -> list[tuple[int, ...]]:
        """The sentences, in sentence order, of prefixes that end with the last blank of their lanes."""
        return [
            self.words_in_reading_order(words + lane.rest)
            for words, lane in zip(self.tree.words(nodes), lanes, strict=True)
        ]

    def position(self, place: int, words: int) -> int:
        """The position in a sentence of so many words of a place in reading order, or back."""
        return words - 1 - place if self.reverse else place


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
