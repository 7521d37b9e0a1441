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

    def next(self, direction: Direction) -> tuple[Node, int]:
        """The prefix whose scores it waits for, and the token that follows."""
        return self._at[direction], self._tokens[direction][len(self.terms[direction])]

    def is_complete(self, direction: Direction) -> bool:
        """Whether all of its terms are known."""
        return len(self.terms[direction]) == len(self._tokens[direction])

    def value(self, ranking: Ranking) -> float:
        """The weighted sum of the terms that count, as far as they are known."""
        value = 0.0
        for direction, weight in ranking.weights.items():
            terms = self.terms[direction]
            places = ranking.counted(direction, self.item, self.template)
            value += weight * math.fsum(terms[place] for place in places if place < len(terms))
        return value

    def rank(self, ranking: Ranking) -> bool:
        """Renew the score; whether all terms that count are known."""
        self.score = apply_length_rule(self.value(ranking), len(self.words), ranking.rules[self.item])
        return all(
            len(self.terms[direction]) > max(ranking.counted(direction, self.item, self.template), default=-1)
            or self.is_complete(direction)
            for direction in ranking.weights
        )

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

    @staticmethod
    def advance(reading: Sequence[Finalist], waiting: Sequence[Finalist], direction: Direction) -> None:
        """Read one more word of some, and of all that wait for the same prefix."""
        prefixes = {finalist._at[direction] for finalist in reading if not finalist.is_complete(direction)}
        followers = [
            finalist
            for finalist in waiting
            if finalist._at[direction] in prefixes and not finalist.is_complete(direction)
        ]
        direction.tree.read((), follow=[finalist.next(direction) for finalist in followers])
        for finalist in followers:
            finalist._walk(direction)


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
    for finalist in finalists:
        pools[finalist.item].append(finalist)
    for direction in directions:
        direction.tree.sweeping = False
        known = [f for f in finalists if not f.is_complete(direction) and f.next(direction)[0].scores is not None]
        Finalist.advance(known, known, direction)

    answers: list[list[Finalist]] = [[] for _ in range(items)]
    while True:
        reading = []
        for item, pool in enumerate(pools):
            ranked = {finalist: finalist.rank(ranking) for finalist in pool}
            pool.sort(key=lambda finalist: (-finalist.score, finalist.words))
            answers[item] = _distinct([f for f in pool if ranked[f] and f.score > -math.inf], keep)
            worst = answers[item][-1].score if len(answers[item]) == keep else -math.inf
            pools[item] = [f for f in pool if f.score > -math.inf and f.score >= worst]
            reading += [finalist for finalist in pools[item] if not ranked[finalist]][:keep]
        if not reading:
            break
        waiting = [finalist for pool in pools for finalist in pool]
        for direction in directions:
            if direction in ranking.weights:
                Finalist.advance(reading, waiting, direction)

    winners = [finalist for answer in answers for finalist in answer]
    read_to_the_end(winners, directions)
    return answers


def read_to_the_end(finalists: Sequence[Finalist], directions: Sequence[Direction]) -> None:
    """Find all terms of some finalists."""
    for direction in directions:
        while reading := [finalist for finalist in finalists if not finalist.is_complete(direction)]:
            Finalist.advance(reading, reading, direction)


def _distinct(finalists: Sequence[Finalist], keep: int) -> list[Finalist]:
    """The first of each sentence."""
    first: dict[tuple[int, ...], Finalist] = {}
    for finalist in finalists:
        first.setdefault(finalist.words, finalist)
    return list(first.values())[:keep]
