"""The two directions, and templates in the order in which a direction reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from birnn_decode.search.tree import Nodes, PrefixTree
from birnn_decode.template import Blank, FixedTemplate, Position

BLANK, SOME = -1, -2  # what stands for no known word


class Lane:
    """A template in one direction's reading order.

    Attributes:
        positions: what is allowed at each place.
        codes: the same as numbers, int64 [places]: the known word, ``BLANK``, or ``SOME`` for a set of allowed words.
        begin: the place of the first blank position, where a sweep begins.
        end: one past the place of the last blank position, where a sweep ends. If nothing is blank, both are 0.
        beginning: the known words before the first blank.
        rest: the known words after the last blank.
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
    """One model and the order in which it reads a sentence. A *place* is a position counted in this order.

    Attributes:
        tree: the prefixes that the model has read.
        weight: the weight of the model's log-probability in J.
        reverse: whether the model reads right to left.
        banned: ids that a blank never takes.
        lanes: the lanes of the templates seen so far.
    """

    tree: PrefixTree
    weight: float
    reverse: bool
    banned: tuple[int, ...]
    lanes: dict[FixedTemplate, Lane] = field(default_factory=dict)

    def lane(self, template: FixedTemplate) -> Lane:
        """Return a template in reading order."""
        lane = self.lanes.get(template)
        if lane is None:
            positions = template.positions[::-1] if self.reverse else template.positions
            codes = [BLANK if one is Blank.BLANK else SOME if isinstance(one, frozenset) else one for one in positions]
            lane = self.lanes[template] = Lane(positions, np.array(codes, dtype=np.int64))
        return lane

    def words_in_reading_order(self, words: tuple[int, ...]) -> tuple[int, ...]:
        """Turn words from sentence order to reading order, or back."""
        return words[::-1] if self.reverse else words

    def sentences(self, nodes: Nodes, lanes: Sequence[Lane]) -> list[tuple[int, ...]]:
        """Complete prefixes that end with the last blank of their lanes: the sentences, in sentence order."""
        return [
            self.words_in_reading_order(words + lane.rest)
            for words, lane in zip(self.tree.words(nodes), lanes, strict=True)
        ]

    def position(self, place: int, words: int) -> int:
        """Turn a place into a position of a sentence with ``words`` words, or a position into a place."""
        return words - 1 - place if self.reverse else place


def branching_depths(templates: Sequence[FixedTemplate], reverse: bool) -> frozenset[int]:
    """Find the depths, in words read, at which more than one token may follow in sentences of these templates."""
    follow: dict[int, set[Position | None]] = {}
    for template in templates:
        ordered = template.positions[::-1] if reverse else template.positions
        for depth, position in enumerate((*ordered, None)):  # None: the end
            follow.setdefault(depth, set()).add(position)
    sure = {depth for depth, (one, *more) in follow.items() if not more and (one is None or isinstance(one, int))}
    return frozenset(follow) - sure
