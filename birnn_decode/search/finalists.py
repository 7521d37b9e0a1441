"""The last step: every finished sentence that the search has met is scored, and the best are returned.

Most of the terms of a finalist are known from the sweeps; the rest is read now, word by word, in both directions. Since
log-probabilities are never above 0, a finalist's score can only fall while it is read: its score so far is an upper
bound. So this is a best-first search: the finalists of the highest bounds are read on, and those that stand complete
above all other bounds are the answers; the rest is dropped as it is. Finalists that share a prefix share its reading.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from birnn_decode.objective import apply_length_rule, total
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
        at: for each direction the prefix whose scores it waits for.
        score: what it is ranked by, with the terms known so far: an upper bound until all that count are known.
        lacking: the directions in which terms that count are missing.
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
        self.at: dict[Direction, Node] = {}
        self.score = 0.0
        self.lacking: list[Direction] = []
        self._counted: dict[tuple[Ranking, Direction], Sequence[int]] = {}
        self._tokens: dict[Direction, tuple[int, ...]] = {}
        for direction in directions:
            end = (direction.tree.scorer.end_token,) if finished else ()
            self._tokens[direction] = direction.words_in_reading_order(words) + end
            self.at[direction] = direction.tree.roots[item]
            self.walk(direction)

    def lacks(self, direction: Direction) -> bool:
        """Whether any term is missing."""
        return len(self.terms[direction]) < len(self._tokens[direction])

    def value(self, ranking: Ranking) -> float:
        """The weighted sum of the terms that count, as far as they are known."""
        value = 0.0
        for direction, weight in ranking.weights.items():
            terms = self.terms[direction]
            value += weight * total([terms[place] for place in self._places(ranking, direction) if place < len(terms)])
        return value

    def rank(self, ranking: Ranking) -> None:
        """Renew the score, and what it lacks."""
        self.score = apply_length_rule(self.value(ranking), len(self.words), ranking.rules[self.item])
        self.lacking = []
        for direction in ranking.weights:
            places = self._places(ranking, direction)
            if self.lacks(direction) and places and places[-1] >= len(self.terms[direction]):
                self.lacking.append(direction)

    def _places(self, ranking: Ranking, direction: Direction) -> Sequence[int]:
        places = self._counted.get((ranking, direction))
        if places is None:
            places = self._counted[ranking, direction] = ranking.counted(direction, self.item, self.template)
        return places

    def next(self, direction: Direction) -> tuple[Node, int]:
        """The prefix whose scores it waits for, and the token that follows."""
        return self.at[direction], self._tokens[direction][len(self.terms[direction])]

    def walk(self, direction: Direction) -> None:
        """Collect the terms that the tree knows."""
        tokens, terms, node = self._tokens[direction], self.terms[direction], self.at[direction]
        while len(terms) < len(tokens):
            child = direction.tree.children.get((node, tokens[len(terms)]))
            if child is None:
                break
            terms.append(child.term)
            node = child
        self.at[direction] = node


class Readers:
    """The finalists that lack terms of one direction, by the prefix whose scores they wait for."""

    def __init__(self, finalists: Sequence[Finalist], direction: Direction):
        self.direction = direction
        self.waiting: dict[Node, list[Finalist]] = {}
        self._wait(finalists)
        # The scores that the sweeps have left in the tree need no reading.
        self.advance([node for node in self.waiting if node.scores is not None])

    def advance(self, prefixes: Iterable[Node]) -> list[Finalist]:
        """Read the next word of all finalists that wait for some prefixes; returns those finalists."""
        moved = [one for prefix in dict.fromkeys(prefixes) for one in self.waiting.pop(prefix, ())]
        self.direction.tree.extend([one.next(self.direction) for one in moved])
        for one in moved:
            one.walk(self.direction)
        self._wait(moved)
        return moved

    def finish(self) -> None:
        """Read all of them to the end."""
        while self.waiting:
            self.advance(list(self.waiting))

    def _wait(self, finalists: Iterable[Finalist]) -> None:
        for one in finalists:
            if one.lacks(self.direction):
                self.waiting.setdefault(one.at[self.direction], []).append(one)


def rank_finalists(
    finalists: Sequence[Finalist],
    items: int,
    directions: Sequence[Direction],
    ranking: Ranking,
    keep: int,
    sweeps_follow: bool = False,
) -> list[list[Finalist]]:
    """The best distinct sentences of each item, with all their terms in all directions.

    Args:
        finalists: of all items, in the order of meeting.
        items: how many items there are.
        directions: whose terms are reported.
        ranking: what they are ranked by.
        keep: at most so many per item.
        sweeps_follow: whether what is read here may be asked for again.

    Returns:
        for each item finalists of finite score, best first; equal scores: the lower sequence of ids first.
    """
    for direction in directions:
        direction.tree.sweeping = sweeps_follow
    pools: list[list[Finalist]] = [[] for _ in range(items)]
    met: dict[tuple[int, FixedTemplate, tuple[int, ...]], Finalist] = {}
    for one in finalists:
        if met.setdefault((one.item, one.template, one.words), one) is one:
            pools[one.item].append(one)
    readers = {direction: Readers(list(met.values()), direction) for direction in ranking.weights}
    for one in met.values():
        one.rank(ranking)

    answers: list[list[Finalist]] = [[] for _ in range(items)]
    going = list(range(items))
    longest = [1 + max((len(one.words) for one in pool), default=0) for pool in pools]
    for tick in itertools.count():
        reading = []
        for item in going:
            # A few at a time waste no rows, but where bounds decide little they take many calls. Once there was time to
            # read a sentence from end to end, all that can still win are read together.
            at_a_time = keep if tick < longest[item] else len(pools[item])
            answers[item], most_promising = _top(pools[item], keep, at_a_time)
            reading += most_promising
        if not reading:
            break
        going = sorted({one.item for one in reading})
        for direction, reader in readers.items():
            for moved in reader.advance([one.at[direction] for one in reading if direction in one.lacking]):
                moved.rank(ranking)

    for direction in directions:
        Readers([one for answer in answers for one in answer], direction).finish()
    return answers


def _top(pool: list[Finalist], keep: int, at_a_time: int) -> tuple[list[Finalist], list[Finalist]]:
    """The answers, and the most promising of those that must be read on before the answers are known."""
    pool.sort(key=lambda one: (-one.score, one.words))
    complete: dict[tuple[int, ...], Finalist] = {}
    reading: list[Finalist] = []
    for one in pool:
        if one.score == -math.inf or len(complete) == keep or len(reading) == at_a_time:
            break
        if one.lacking:
            reading.append(one)
        else:
            complete.setdefault(one.words, one)
    return list(complete.values()), reading
