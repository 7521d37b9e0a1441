"""The last step: score every finished sentence that the search has met, and return the best.

Most terms of a finalist are known from the sweeps. The others are read now, in both directions. Since
log-probabilities are never above 0, the score of a finalist can only fall while it is read: its score so far is an
upper bound. The ranking is therefore a best-first search. It reads on the B finalists of each item with the highest
bounds, which any search with these bounds must read. The directions take turns, because a bound that one direction has
lowered saves reading in the other. When these B finalists are complete, they are the answers, and all others are
dropped unread. A prefix that several finalists share is read once.

If a call can read several words of a prefix, a finalist that is probably an answer is read to its end. Each of the n
other finalists of an item reads ``TOGETHER`` / n words before its bound is looked at again, and at least 1, then 2,
then 4. Otherwise all are read word by word.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birnn_decode.objective import apply_length_rule, total
from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import NEVER, Demands
from birnn_decode.search.sweep import stacked
from birnn_decode.template import FixedTemplate

# Words that the finalists of an item that are probably no answers read in one call, all together. On captions, 16 save
# one call for 3 more rows. From there to 64, one call costs 6 more rows.
TOGETHER = 16
PATIENCE = 2  # complete sentences per item and direction; see ``_rank``
ROUNDING = 1e-9  # nats by which an incremental sum may be off


@dataclass(eq=False)
class Finalist:
    """A finished sentence, and its score once it is ranked.

    Attributes:
        item: the number of its item.
        template: the template that it fills.
        words: the words, in sentence order.
        finished: whether END belongs to it.
        terms: for each direction of a pair the log-probabilities of words and end, in reading order.
        conditionals: log p(word | all other words) of each word under a joint model; None before it is scored.
        score: the score that it is ranked by.
        penalty: what hooks and costs of words add to the score, in nats; None if not known yet.
        broken: the names of the constraints that it violates.
        rejected: whether the check of finished sentences has not accepted it.
    """

    item: int
    template: FixedTemplate
    words: tuple[int, ...]
    finished: bool = True
    terms: dict[Direction, list[Any]] = field(default_factory=dict)
    conditionals: list[float] | None = None
    score: float = 0.0
    penalty: float | None = None
    broken: tuple[str, ...] = ()
    rejected: bool = False

    @property
    def tier(self) -> tuple[bool, bool]:
        """The first sorting key of answers: accepted sentences come before rejected ones, violations come last."""
        return bool(self.broken), self.rejected


@dataclass(frozen=True, eq=False)
class Ranking:
    """The score of finalists.

    Attributes:
        weights: the weight of each direction's log-probability. A direction that is left out does not count.
        scopes: for each item the terms that count. ``"sentence"``: all, the end included; ``"blank"``: those of blank
            positions; ``"reach"``: those up to the last blank position in the direction's reading order.
        rules: the length rule of each item.
        demands: the constraints on sentences.
    """

    weights: Mapping[Direction, float]
    scopes: Sequence[str]
    rules: Sequence[str | float]
    demands: Demands = field(default_factory=Demands)

    def counted(self, direction: Direction, item: int, template: FixedTemplate) -> Sequence[int]:
        """Return the places of the terms that count, in reading order. The end stands after the last word."""
        if self.scopes[item] == "sentence":
            return range(len(template) + 1)
        lane = direction.lane(template)
        if self.scopes[item] == "reach":
            return range(lane.end)
        return np.flatnonzero(lane.codes < 0).tolist()

    def value(self, one: Finalist) -> float:
        """Return the weighted sum of the terms that count."""
        value = 0.0
        for direction, weight in self.weights.items():
            terms = one.terms[direction]
            places = self.counted(direction, one.item, one.template)
            value += weight * total([terms[place] for place in places if place < len(terms)])
        return value

    def score(self, one: Finalist) -> float:
        """Return the value with the penalty, under the length rule."""
        return apply_length_rule(self.value(one) + (one.penalty or 0.0), len(one.words), self.rules[one.item])


class _Reader:
    """What one direction has read of finalists, in columns.

    Attributes:
        tree: the prefixes that the direction has read.
        tokens: the words, in reading order, and the end, [finalists, places]; -1 after them.
        lengths: the number of tokens, [finalists].
        known: the number of known terms, [finalists].
        terms: log-probabilities in nats, [finalists, places]; 0 where not known.
        counted: whether a term counts, [finalists, places].
        needed: the number of terms up to the last that counts, [finalists].
        blocks: the fewest words that each finalist reads in its next call, [finalists].
    """

    def __init__(self, finalists: Sequence[Finalist], direction: Direction, ranking: Ranking):
        self.tree = direction.tree
        end = (direction.tree.scorer.end_token,)
        rows = [direction.words_in_reading_order(one.words) + (end if one.finished else ()) for one in finalists]
        self.tokens = stacked([np.array(row, dtype=np.int64) for row in rows])
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self.known = np.zeros_like(self.lengths)
        self.terms = np.zeros(self.tokens.shape)
        self.counted = np.zeros(self.tokens.shape, dtype=bool)
        for counted, one, row in zip(self.counted, finalists, rows, strict=True):
            counted[[at for at in ranking.counted(direction, one.item, one.template) if at < len(row)]] = True
        self.needed = (self.counted * np.arange(1, self.tokens.shape[1] + 1)).max(axis=1, initial=0)
        self._items = np.array([one.item for one in finalists], dtype=np.int64)
        self.blocks = np.ones_like(self.lengths)
        self._at = self.tree.roots[self._items]  # the prefixes whose scores they wait for
        self._walk(np.arange(len(rows)))
        if self.tree.in_blocks:
            # All finalists of an item share the known words before its first blank.
            beginnings = [direction.lane(one.template).beginning for one in finalists]
            unread = np.flatnonzero(self.known <= [len(words) for words in beginnings]).tolist()
            self.tree.open({(finalists[number].item, beginnings[number]) for number in unread})
            self._walk(np.arange(len(rows)))
        # Scores that the sweeps have kept need no reading.
        while len(free := np.flatnonzero((self.known < self.lengths) & self.tree.known(self._at))):
            self._read(free, np.ones_like(free))

    def means(self) -> np.ndarray:
        """Return the mean of the known terms that count of each item's finalists, in nats, [items]."""
        there = self.counted & ~self._ahead() & (self.terms > NEVER)
        items = len(self.tree.roots)
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            sums = np.bincount(self._items, np.where(there, self.terms, 0.0).sum(axis=1), items)
        return sums / np.maximum(np.bincount(self._items, there.sum(axis=1), items), 1)

    def lacking(self) -> np.ndarray:
        """Return the number of terms that count and are not known, [finalists]."""
        return (self.counted & self._ahead()).sum(axis=1)

    def _ahead(self) -> np.ndarray:
        """Tell which places have no known term, [finalists, places]."""
        return np.arange(self.tokens.shape[1]) >= self.known[:, None]

    def advance(self, some: np.ndarray, likely: np.ndarray, at: int = 0) -> tuple[np.ndarray, int]:
        """Read the next words of some finalists.

        If a call can read several words, those that are ``likely`` to be answers are read to their ends, and each of
        the n others of an item by ``TOGETHER`` / n words, and at least 1, then 2, then 4. Otherwise the call reads one
        word. If its rows must have read equally many words, it reads the finalists that have read fewest words, but at
        least ``at``.

        Returns:
            the finalists that now have more terms; and ``at`` for the next call.
        """
        unread = self.known[some] < self.lengths[some]
        some, likely = some[unread], likely[unread]
        if self.tree.in_blocks:
            items = self._items[some]
            others = np.bincount(items[~likely], minlength=len(self.tree.roots))[items]
            share = np.maximum(TOGETHER // np.maximum(others, 1), self.blocks[some])
            self.blocks[some] *= 2
            self._read(some, np.where(likely, self.lengths[some], share))
            return some, at
        if self.tree.aligned:
            depths = self.tree.depths[self._at[some]]
            at = int(depths[depths >= at].min(initial=np.iinfo(np.int64).max - 1))
            some = some[depths == at]
        if len(some):
            # These scores are not kept, so every finalist that waits for them is served now.
            wanted = np.zeros(len(self.tree), dtype=bool)
            wanted[self._at[some]] = True
            some = np.flatnonzero(wanted[self._at] & (self.known < self.lengths))
            self._read(some, np.ones_like(some))
        return some, at + 1

    def finish(self, some: np.ndarray) -> None:
        """Read some finalists to the end."""
        self._read(some, self.lengths[some] - self.known[some])

    def _read(self, some: np.ndarray, words: np.ndarray) -> None:
        """Read some finalists on by so many words each, at most to their ends."""
        known = self.known[some]
        goals = np.minimum(known + words, self.lengths[some])
        rows = list(zip(some.tolist(), known.tolist(), goals.tolist(), strict=True))
        words_read = [self.tokens[row, since:until].tolist() for row, since, until in rows]
        paths = self.tree.follow(self._at[some], words_read, goals < self.lengths[some])
        for (row, since, until), path in zip(rows, paths, strict=True):
            if path:
                self.terms[row, since:until] = self.tree.terms[path]
                self._at[row] = path[-1]
        self.known[some] = goals
        self._walk(some)

    def _walk(self, some: np.ndarray) -> None:
        """Collect the terms that the tree knows already."""
        while len(some := some[self.known[some] < self.lengths[some]]):
            children = self.tree.children(self._at[some], self.tokens[some, self.known[some]])
            some, children = some[children >= 0], children[children >= 0]
            self.terms[some, self.known[some]] = self.tree.terms[children]
            self.known[some] += 1
            self._at[some] = children


class _Pool:
    """Finalists, in columns, with the terms read so far.

    Attributes:
        finalists: the finalists, no sentence twice for one template.
        items: the item of each.
        readers: the reader of each direction.
        scores: the score of each, an upper bound until it is complete; -inf if it can no longer win.
        complete: whether all terms that count are known.
    """

    def __init__(self, finalists: Sequence[Finalist], directions: Sequence[Direction], ranking: Ranking):
        self.finalists = finalists
        self.items = np.array([one.item for one in finalists], dtype=np.int64)
        self.readers = {direction: _Reader(finalists, direction, ranking) for direction in directions}
        self.scores = np.zeros(len(finalists))
        self.complete = np.zeros(len(finalists), dtype=bool)
        self._ranking = ranking
        self._best: dict[tuple[int, tuple[int, ...]], int] = {}  # (item, words): the complete finalist
        words = sorted(range(len(finalists)), key=lambda number: finalists[number].words)
        self._order = np.argsort(words, kind="stable")  # equal scores: the lower sequence of ids first
        rules = [ranking.rules[one.item] for one in finalists]
        lengths = np.array([len(one.words) for one in finalists])
        self._divisors = np.where([rule == "average" for rule in rules], lengths + 1, 1)
        self._penalties = np.array([one.penalty or 0.0 for one in finalists])
        self._rewards = lengths * np.array([0.0 if isinstance(rule, str) else float(rule) for rule in rules])
        self.update(np.arange(len(finalists)))

    def update(self, some: np.ndarray) -> None:
        """Update the scores of finalists that were read."""
        some = some[~self.complete[some]]
        values, lacking = np.zeros(len(some)), np.zeros(len(some), dtype=bool)
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            for direction, weight in self._ranking.weights.items():
                reader = self.readers[direction]
                values += weight * np.where(reader.counted[some], reader.terms[some], 0.0).sum(axis=1)
                lacking |= reader.known[some] < reader.needed[some]
        values += self._penalties[some]
        self.scores[some] = values / self._divisors[some] + self._rewards[some] + ROUNDING
        for number in some[~lacking].tolist():
            self._complete(number)

    def _complete(self, number: int) -> None:
        one = self.finalists[number]
        self.complete[number] = True
        self.scores[number] = self._ranking.score(self.with_terms(number))
        # The same sentence may fill several choices of widths; the best counts.
        best = self._best.get((one.item, one.words), number)
        better, worse = (number, best) if self.scores[number] > self.scores[best] else (best, number)
        if best != number:
            self.scores[worse] = NEVER
        self._best[one.item, one.words] = better

    def with_terms(self, number: int) -> Finalist:
        """Return a finalist with its known terms."""
        one = self.finalists[number]
        for direction, reader in self.readers.items():
            one.terms[direction] = reader.terms[number, : reader.known[number]].tolist()
        return one

    def top(
        self, items: np.ndarray, keep: np.ndarray, patient: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the best finalists of some items, and those that must be read on.

        What a finalist lacks is estimated by the mean of the known terms. So the score of the last answer can be
        estimated, too. Bounds that reach it must be lowered or become scores.

        Args:
            items: flags, [items].
            keep: the number of answers of each item, [items].
            patient: flags, [items]: read on only the ``keep`` best, not all that reach the last answer.

        Returns:
            numbers of finalists, item by item, at most ``keep`` each and best first; numbers of those to be read on;
            and whether each of the latter is an answer, so estimated.
        """
        some = np.flatnonzero(items[self.items] & (self.scores > NEVER))
        some = some[np.lexsort((self._order[some], -self.scores[some], self.items[some]))]
        mine, complete = self.items[some], self.complete[some]
        first = np.searchsorted(mine, mine)  # index of the first finalist of the item
        rank = np.arange(len(some)) - first
        estimates = self._estimates()[some]
        by_estimate = np.lexsort((rank, -estimates, mine))
        likely = np.empty(len(some), dtype=bool)
        likely[by_estimate] = rank < keep[mine]
        last = np.full(len(keep), NEVER)
        at_end = rank == keep[mine] - 1
        last[mine[at_end]] = estimates[by_estimate[at_end]]
        reading = ~complete & np.where(patient[mine], rank < keep[mine], self.scores[some] >= last[mine])
        return some[rank < keep[mine]], some[reading], likely[reading]

    def _estimates(self) -> np.ndarray:
        """Return the scores, with an estimate of what they lack."""
        lacking = np.zeros(len(self.finalists))
        for direction, weight in self._ranking.weights.items():
            reader = self.readers[direction]
            count = reader.lacking()
            with np.errstate(over="ignore", invalid="ignore"):
                lacking += np.where(count, weight * reader.means()[self.items] * count, 0.0)
        return np.where(self.complete, self.scores, self.scores + lacking / self._divisors)


def best_distinct(finalists: Iterable[Finalist], keep: int) -> list[Finalist]:
    """Return the best finalists of finite score of one item; those that violate a constraint only if all do.

    The same sentence may fill several choices of widths; the best counts.
    """
    finite = (one for one in finalists if one.score > NEVER)
    ranked = sorted(finite, key=lambda one: (one.tier, -one.score, one.words))
    best: dict[tuple[int, ...], Finalist] = {}
    for one in [one for one in ranked if not one.broken] or ranked:
        best.setdefault(one.words, one)
    return list(best.values())[:keep]


def rank_finalists(
    finalists: Iterable[Finalist],
    items: int,
    directions: Sequence[Direction],
    ranking: Ranking,
    keep: int,
    sweeps_follow: bool = False,
) -> list[list[Finalist]]:
    """Return the best distinct sentences of each item, with all their terms in all directions.

    Args:
        finalists: the finalists of all items, in the order of meeting.
        items: the number of items.
        directions: the directions whose terms are reported.
        ranking: the score of finalists.
        keep: the largest number of answers per item.
        sweeps_follow: whether scores read here may be needed again.

    Returns:
        for each item finalists of finite score: first those that the check has accepted, then the others, best first;
        equal scores: the lower sequence of ids first. Finalists that violate a constraint are returned only if there
        are no others.
    """
    met: dict[tuple[int, FixedTemplate, tuple[int, ...]], Finalist] = {}
    for one in finalists:
        met.setdefault((one.item, one.template, one.words), one)
    ranking.demands.settle(met.values(), ranking.weights)
    answers: list[list[Finalist]] = [[] for _ in range(items)]
    tiers = sorted({one.tier for one in met.values()})
    for tier in tiers:
        some = [one for one in met.values() if one.tier == tier and _may_follow(one, answers[one.item], keep)]
        room = np.array([keep - len(own) for own in answers])
        ranked = _rank(some, items, directions, ranking, room, sweeps_follow or tier != tiers[-1])
        for own, more in zip(answers, ranked, strict=True):
            own += more
    return answers


def _may_follow(one: Finalist, answers: Sequence[Finalist], keep: int) -> bool:
    """Tell whether a finalist may be returned after the answers of the tiers before."""
    if not answers:
        return True
    after_sound = bool(one.broken) and not answers[0].broken
    return len(answers) < keep and not after_sound and all(one.words != other.words for other in answers)


def _rank(
    finalists: list[Finalist],
    items: int,
    directions: Sequence[Direction],
    ranking: Ranking,
    keep: np.ndarray,
    sweeps_follow: bool,
) -> list[list[Finalist]]:
    """Rank distinct finalists of one tier, and keep some of each item, [items]; see ``rank_finalists``."""
    answers: list[list[Finalist]] = [[] for _ in range(items)]
    if not finalists:
        return answers
    pool = _Pool(finalists, directions, ranking)
    if not sweeps_follow:
        for direction in directions:
            direction.tree.end_sweeps()
    longest = np.zeros(items)
    np.maximum.at(longest, pool.items, [1 + len(one.words) for one in pool.finalists])
    # Reading only what must be read saves rows, but takes many calls if bounds decide little. After the calls that a
    # few complete sentences take in every direction, all finalists that probably must be read are read together. They
    # are read together at once if a call can read several words.
    in_blocks = any(direction.tree.in_blocks for direction in ranking.weights)
    patience = 0 if in_blocks else PATIENCE * len(ranking.weights) * longest
    going = np.ones(items, dtype=bool)
    calls = np.zeros(items)
    best = []
    readers = itertools.cycle([pool.readers[direction] for direction in ranking.weights])
    reader, at = next(readers), 0
    while True:
        top, reading, likely = pool.top(going, keep, calls < patience)
        undecided = np.zeros(items, dtype=bool)
        undecided[pool.items[reading]] = True
        best.append(top[~undecided[pool.items[top]]])
        going = undecided
        if not going.any():
            break
        # One direction reads from the first word to the last, then the other. An item is then read in the same order
        # in a batch as alone.
        moved, at = reader.advance(reading, likely, at)
        if len(moved):
            pool.update(moved)
            calls[np.unique(pool.items[moved])] += 1
        if not len(moved) or reader.tree.in_blocks or not reader.tree.aligned:
            reader, at = next(readers), 0

    numbers = np.concatenate(best)
    for reader in pool.readers.values():
        reader.finish(numbers)
    for number in numbers.tolist():
        one = pool.with_terms(number)
        one.score = float(pool.scores[number])
        answers[one.item].append(one)
    return answers
