"""The last step: every finished sentence that the search has met is scored, and the best are returned.

Most of the terms of a finalist are known from the sweeps; the rest is read now, word by word, in both directions. Since
log-probabilities are never above 0, a finalist's score can only fall while it is read: its score so far is an upper
bound. So the most promising finalists are read first, and one whose bound has fallen below the score of the worst
answer is dropped unread. Finalists that share a prefix share its reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from birnn_decode.objective import apply_length_rule
from birnn_decode.search.problem import Direction
from birnn_decode.search.tree import Node
from birnn_decode.template import FixedTemplate


@dataclass(frozen=True, eq=False)
class Ranking:
    """What finalists are ranked by.

    Attributes:
        weights: of each direction's log-probability; a direction left out does not count.
        scopes: which terms count, for each item: ``"sentence"``: all, the end's included; ``"blank"``: those of blank
            positions; ``"reach"``: those up to the last blank position in the direction's reading order.
        rules: the length rule of each item, resolved.
    """

    weights: Mapping[Direction, float]
    scopes: Sequence[str]
    rules: Sequence[str | float]

    def counted(self, direction: Direction, item: int, template: FixedTemplate) -> Sequence[int]:
        """The places, in reading order, of the terms that count; the end stands behind the last word."""
        if self.scopes[item] == "sentence":
            return range(len(template) + 1)
        begin, end = direction.span(template)
        if self.scopes[item] == "reach":
            return range(end)
        reading = direction.reading_order(template.positions)
        return [place for place in range(begin, end) if not isinstance(reading[place], int)]


class Finalist:
    """A sentence and the terms known of it.

    Attributes:
        item: whose sentence.
        template: what it was found for.
        words: in sentence order.
        finished: whether END belongs to it.
        terms: for each direction the terms known so far, in reading order.
        score: what it is ranked by, with the terms known so far: an upper bound until all that count are known.
    """

    def __init__(
        self,
        item: int,
        template: FixedTemplate,
        words: tuple[int, ...],
        directions: Sequence[Direction],
        finished: bool = True,
    ):
        self.item = item
        self.template = template
        self.words = words
        self.finished = finished
        self.terms: dict[Direction, list[float]] = {direction: [] for direction in directions}
        self.score = 0.0
        self._tokens: dict[Direction, tuple[int, ...]] = {}
        self._at: dict[Direction, Node] = {}
        for direction in directions:
            end = (direction.tree.scorer.end_token,) if finished else ()
            self._tokens[direction] = direction.words_in_reading_order(words) + end
            self._at[direction] = direction.tree.roots[item]
            self._walk(direction)

    def lacks(self, direction: Direction, places: Sequence[int] | None = None) -> bool:
        """Whether terms are missing: of all places, or of those given."""
        needed = len(self._tokens[direction])
        if places is not None:
            needed = min(needed, max(places, default=-1) + 1)
        return len(self.terms[direction]) < needed

    def value(self, ranking: Ranking) -> float:
        """The weighted sum of the terms that count, as far as they are known."""
        value = 0.0
        for direction, weight in ranking.weights.items():
            terms = self.terms[direction]
            places = ranking.counted(direction, self.item, self.template)
            value += weight * math.fsum(terms[place] for place in places if place < len(terms))
        return value

    def rank(self, ranking: Ranking) -> None:
        """Renew the score."""
        self.score = apply_length_rule(self.value(ranking), len(self.words), ranking.rules[self.item])

    @staticmethod
    def advance(reading: Sequence[Finalist], waiting: Sequence[Finalist], direction: Direction) -> list[Finalist]:
        """Read one more word of some, and of all that wait for the same prefix; returns those that moved."""
        prefixes = {finalist._at[direction] for finalist in reading}
        moved = [one for one in waiting if one._at[direction] in prefixes and one.lacks(direction)]
        direction.tree.extend([one._next(direction) for one in moved])
        for one in moved:
            one._walk(direction)
        return moved

    @staticmethod
    def advance_unread(finalists: Sequence[Finalist], direction: Direction) -> None:
        """Collect the terms whose scores the sweeps have left in the tree."""
        known = [one for one in finalists if one.lacks(direction) and one._at[direction].scores is not None]
        Finalist.advance(known, known, direction)

    def _next(self, direction: Direction) -> tuple[Node, int]:
        """The prefix whose scores it waits for, and the token that follows."""
        return self._at[direction], self._tokens[direction][len(self.terms[direction])]

    def _walk(self, direction: Direction) -> None:
        """Collect the terms that the tree knows."""
        tokens, terms, node = self._tokens[direction], self.terms[direction], self._at[direction]
        while len(terms) < len(tokens):
            child = direction.tree.children.get((node, tokens[len(terms)]))
            if child is None:
                break
            terms.append(child.term)
            node = child
        self._at[direction] = node


def rank_finalists(
    finalists: Sequence[Finalist], items: int, directions: Sequence[Direction], ranking: Ranking, keep: int
) -> list[list[Finalist]]:
    """The best distinct sentences of each item, with all their terms in all directions.

    Args:
        finalists: of all items, in the order of meeting.
        items: how many items there are.
        directions: whose terms are reported.
        ranking: what they are ranked by.
        keep: at most so many per item.

    Returns:
        for each item finalists of finite score, best first; equal scores: the lower sequence of ids first.
    """
    pools: list[list[Finalist]] = [[] for _ in range(items)]
    met: dict[tuple[int, FixedTemplate, tuple[int, ...]], Finalist] = {}
    for one in finalists:
        if met.setdefault((one.item, one.template, one.words), one) is one:
            pools[one.item].append(one)
    for direction in directions:
        direction.tree.sweeping = False
        Finalist.advance_unread(finalists, direction)

    answers: list[list[Finalist]] = [[] for _ in range(items)]
    moved = {one for pool in pools for one in pool}
    while moved:
        for one in moved:
            one.rank(ranking)
        reading: dict[Direction, list[Finalist]] = {direction: [] for direction in ranking.weights}
        for item in sorted({one.item for one in moved}):
            pool = sorted(pools[item], key=lambda one: (-one.score, one.words))
            lacking = {one: _lacking(one, ranking) for one in pool}
            answers[item] = _distinct([one for one in pool if not lacking[one] and one.score > -math.inf], keep)
            worst = answers[item][-1].score if len(answers[item]) == keep else -math.inf
            pools[item] = [one for one in pool if one.score > -math.inf and one.score >= worst]
            for one in [one for one in pools[item] if lacking[one]][:keep]:
                for direction in lacking[one]:
                    reading[direction].append(one)
        waiting = [one for pool in pools for one in pool]
        moved = {one for direction, some in reading.items() for one in Finalist.advance(some, waiting, direction)}

    read_to_the_end([one for answer in answers for one in answer], directions)
    return answers


def read_to_the_end(finalists: Sequence[Finalist], directions: Sequence[Direction]) -> None:
    """Find all terms of some finalists."""
    for direction in directions:
        while reading := [one for one in finalists if one.lacks(direction)]:
            Finalist.advance(reading, reading, direction)


def _lacking(finalist: Finalist, ranking: Ranking) -> list[Direction]:
    """The directions in which terms that count are missing."""
    return [
        direction
        for direction in ranking.weights
        if finalist.lacks(direction, ranking.counted(direction, finalist.item, finalist.template))
    ]


def _distinct(finalists: Sequence[Finalist], keep: int) -> list[Finalist]:
    """The first of each sentence."""
    first: dict[tuple[int, ...], Finalist] = {}
    for finalist in finalists:
        first.setdefault(finalist.words, finalist)
    return list(first.values())[:keep]
