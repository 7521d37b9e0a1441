"""The last step: every finished sentence that the search has met is scored, and the best are returned.

Most of the terms of a finalist are known from the sweeps; the rest is read now, word by word, in both directions. Since
log-probabilities are never above 0, a finalist's score can only fall while it is read: its score so far is an upper
bound. So this is a best-first search. Of each item the finalists of the highest bounds, as many as there are answers,
are read on: whatever the others come to, no search that goes by these bounds could do without them. The directions take
turns, so that a bound which one of them has lowered saves the other's reading. When they all stand complete, they are
the answers, and the rest is dropped as it is. Finalists that share a prefix share its reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from birnn_decode.objective import apply_length_rule, total
from birnn_decode.search.holding import Demands
from birnn_decode.search.problem import Direction
from birnn_decode.template import FixedTemplate

PATIENCE = 2  # sentences of an item, one after the other
ROUNDING = 1e-9  # nats by which a sum that is kept up to date may be off


@dataclass(eq=False)
class Finalist:
    """A sentence, and what it is worth once it is ranked.

    Attributes:
        item: whose sentence.
        template: what it was found for.
        words: in sentence order.
        finished: whether END belongs to it.
        terms: for each direction its log-probabilities, in reading order.
        score: what it is ranked by.
        penalty: what hooks and other sentences add to its J in the ranking, nats; None: not known yet.
        broken: the constraints that it breaks, by name.
    """

    item: int
    template: FixedTemplate
    words: tuple[int, ...]
    finished: bool = True
    terms: dict[Direction, list[float]] = field(default_factory=dict)
    score: float = 0.0
    penalty: float | None = None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Ranking:
    """What finalists are ranked by.

    Attributes:
        weights: of each direction's log-probability; a direction left out does not count.
        scopes: which terms count, for each item: ``"sentence"``: all, the end's included; ``"blank"``: those of blank
            positions; ``"reach"``: those up to the last blank position in the direction's reading order.
        rules: the length rule of each item, resolved.
        demands: what is asked of sentences besides.
    """

    weights: Mapping[Direction, float]
    scopes: Sequence[str]
    rules: Sequence[str | float]
    demands: Demands = field(default_factory=Demands)

    def counted(self, direction: Direction, item: int, template: FixedTemplate) -> Sequence[int]:
        """The places, in reading order, of the terms that count; the end stands behind the last word."""
        if self.scopes[item] == "sentence":
            return range(len(template) + 1)
        lane = direction.lane(template)
        if self.scopes[item] == "reach":
            return range(lane.end)
        places: list[int] = np.flatnonzero(lane.codes < 0).tolist()
        return places

    def value(self, one: Finalist) -> float:
        """The weighted sum of the terms that count."""
        value = 0.0
        for direction, weight in self.weights.items():
            terms = one.terms[direction]
            places = self.counted(direction, one.item, one.template)
            value += weight * total([terms[place] for place in places if place < len(terms)])
        return value

    def score(self, one: Finalist) -> float:
        """The same less its penalty, under the length rule."""
        return apply_length_rule(self.value(one) + (one.penalty or 0.0), len(one.words), self.rules[one.item])


class _Reader:
    """What one direction has read of some finalists, in columns.

    Attributes:
        tokens: the words, in reading order, and the end, [finalists, places]; -1 behind them.
        lengths: how many there are, [finalists].
        known: how many terms are known, [finalists].
        terms: log-probabilities in nats, [finalists, places]; 0 where they are not known.
        aligned: whether the rows of a call must have read equally many words.
    """

    def __init__(self, finalists: Sequence[Finalist], direction: Direction):
        self._tree = direction.tree
        self.aligned = direction.tree.aligned
        end = (direction.tree.scorer.end_token,)
        rows = [direction.words_in_reading_order(one.words) + (end if one.finished else ()) for one in finalists]
        longest = max(map(len, rows), default=0)
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self.tokens = np.array([row + (-1,) * (longest - len(row)) for row in rows], dtype=np.int64)
        self.known = np.zeros(len(rows), dtype=np.int64)
        self.terms = np.zeros((len(rows), longest))
        self._at = self._tree.roots[[one.item for one in finalists]]  # the prefixes whose scores they wait for
        every = np.arange(len(rows))
        self._walk(every)
        # The scores that the sweeps have left in the tree need no reading.
        while len(free := every[(self.known < self.lengths) & self._tree.known(self._at)]):
            self._read(free)

    def advance(self, some: np.ndarray, at: int = 0) -> tuple[np.ndarray, int]:
        """Read the next word of some finalists in one call.

        Where the rows of a call must have read equally many words, these are the finalists that have read fewest, but
        no fewer than ``at``.

        Returns:
            those that this has moved, others among them; and how many words the next call has read at least.
        """
        some = some[self.known[some] < self.lengths[some]]
        if self.aligned:
            depths = self._tree.depths[self._at[some]]
            at = int(depths[depths >= at].min(initial=np.iinfo(np.int64).max - 1))
            some = some[depths == at]
        if len(some):
            # What is read now is not kept, so that all who wait for it are served.
            wanted = np.zeros(len(self._tree), dtype=bool)
            wanted[self._at[some]] = True
            some = np.flatnonzero(wanted[self._at] & (self.known < self.lengths))
            self._read(some)
        return some, at + 1

    def finish(self, some: np.ndarray) -> None:
        """Read some finalists to the end."""
        while (self.known[some] < self.lengths[some]).any():
            self.advance(some)

    def _read(self, some: np.ndarray) -> None:
        self._move(some, self._tree.extend(self._at[some], self.tokens[some, self.known[some]]))
        self._walk(some)

    def _walk(self, some: np.ndarray) -> None:
        """Collect the terms that the tree knows."""
        while len(some := some[self.known[some] < self.lengths[some]]):
            children = self._tree.children(self._at[some], self.tokens[some, self.known[some]])
            some, children = some[children >= 0], children[children >= 0]
            self._move(some, children)

    def _move(self, some: np.ndarray, children: np.ndarray) -> None:
        self.terms[some, self.known[some]] = self._tree.terms[children]
        self.known[some] += 1
        self._at[some] = children


class _Pool:
    """Finalists, in columns, and how far the directions that count have read them.

    Attributes:
        finalists: what there is, no sentence twice for one template.
        items: whose each is.
        readers: of each direction.
        scores: what each is ranked by: an upper bound until it is complete. -inf: out of the race.
        complete: whether all terms that count are known.
    """

    def __init__(self, finalists: Sequence[Finalist], directions: Sequence[Direction], ranking: Ranking):
        self.finalists = finalists
        self.items = np.array([one.item for one in finalists], dtype=np.int64)
        self.readers = {direction: _Reader(finalists, direction) for direction in directions}
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
        self._counted: dict[Direction, np.ndarray] = {}  # [finalists, places]: whether a term counts
        self._needed: dict[Direction, np.ndarray] = {}  # [finalists]: how many terms, up to the last that counts
        for direction in ranking.weights:
            reader = self.readers[direction]
            counted = np.zeros(reader.terms.shape, dtype=bool)
            for row, one, length in zip(counted, finalists, reader.lengths.tolist(), strict=True):
                row[[at for at in ranking.counted(direction, one.item, one.template) if at < length]] = True
            self._counted[direction] = counted
            places = np.arange(1, counted.shape[1] + 1)
            self._needed[direction] = (counted * places).max(axis=1, initial=0)
        self.update(np.arange(len(finalists)))

    def update(self, some: np.ndarray) -> None:
        """Renew the scores of finalists that were read."""
        some = some[~self.complete[some]]
        values, lacking = np.zeros(len(some)), np.zeros(len(some), dtype=bool)
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            for direction, weight in self._ranking.weights.items():
                reader = self.readers[direction]
                values += weight * np.where(self._counted[direction][some], reader.terms[some], 0.0).sum(axis=1)
                lacking |= reader.known[some] < self._needed[direction][some]
        values += self._penalties[some]
        self.scores[some] = values / self._divisors[some] + self._rewards[some] + ROUNDING
        for number in some[~lacking].tolist():
            self._complete(number)

    def _complete(self, number: int) -> None:
        one = self.finalists[number]
        self.complete[number] = True
        self.scores[number] = self._ranking.score(self.with_terms(number))
        # One sentence may have been found for several choices of widths: the best of them counts.
        other = self._best.setdefault((one.item, one.words), number)
        if other != number:
            worse = number if self.scores[number] <= self.scores[other] else other
            self._best[one.item, one.words] = number + other - worse
            self.scores[worse] = -np.inf

    def with_terms(self, number: int) -> Finalist:
        """A finalist, with what is known of it."""
        one = self.finalists[number]
        for direction, reader in self.readers.items():
            one.terms[direction] = reader.terms[number, : reader.known[number]].tolist()
        return one

    def top(self, items: np.ndarray, keep: int, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best of some items by rank, and those that have to be read on.

        Args:
            items: flags, [items].
            keep: how many answers an item has.
            patient: flags, [items]: only the ``keep`` best are read on, not all that may still be among them.

        Returns:
            numbers of finalists, the items' in turn, each at most ``keep`` and best first; and of the incomplete.
        """
        some = np.flatnonzero(items[self.items] & (self.scores > -np.inf))
        some = some[np.lexsort((self._order[some], -self.scores[some], self.items[some]))]
        mine, complete = self.items[some], self.complete[some]
        first = np.searchsorted(mine, mine)  # where the item's finalists begin
        rank = np.arange(len(some)) - first
        before = np.cumsum(complete) - complete  # complete ones that rank higher
        reading = ~complete & np.where(patient[mine], rank < keep, before - before[first] < keep)
        return some[rank < keep], some[reading]


def rank_finalists(
    finalists: Iterable[Finalist],
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
        for each item finalists of finite score, best first; equal scores: the lower sequence of ids first. Those that
        break a constraint only where there are no others.
    """
    met: dict[tuple[int, FixedTemplate, tuple[int, ...]], Finalist] = {}
    for one in finalists:
        met.setdefault((one.item, one.template, one.words), one)
    if not ranking.demands:
        return _rank(list(met.values()), items, directions, ranking, keep, sweeps_follow)
    ranking.demands.settle(met.values(), ranking.weights)
    sound = [one for one in met.values() if not one.broken]
    more = sweeps_follow or len(sound) < len(met)
    answers = _rank(sound, items, directions, ranking, keep, more)
    broken = [one for one in met.values() if one.broken and not answers[one.item]]
    others = _rank(broken, items, directions, ranking, keep, sweeps_follow)
    return [own or other for own, other in zip(answers, others, strict=True)]


def _rank(
    finalists: list[Finalist],
    items: int,
    directions: Sequence[Direction],
    ranking: Ranking,
    keep: int,
    sweeps_follow: bool,
) -> list[list[Finalist]]:
    """Rank finalists of which none is there twice; see `rank_finalists`."""
    answers: list[list[Finalist]] = [[] for _ in range(items)]
    if not finalists:
        return answers
    pool = _Pool(finalists, directions, ranking)
    if not sweeps_follow:
        for direction in directions:
            direction.tree.end_sweeps()
    longest = np.zeros(items)
    np.maximum.at(longest, pool.items, [1 + len(one.words) for one in pool.finalists])
    # To read no more than must be read saves rows, but where bounds decide little it takes many calls. Once there was
    # time to read some sentences from end to end in every direction, all that can still win are read together.
    patience = PATIENCE * len(ranking.weights) * longest
    going = np.ones(items, dtype=bool)
    calls = np.zeros(items)
    best = []
    readers = itertools.cycle([pool.readers[direction] for direction in ranking.weights])
    reader, at = next(readers), 0
    while True:
        top, reading = pool.top(going, keep, calls < patience)
        undecided = np.zeros(items, dtype=bool)
        undecided[pool.items[reading]] = True
        best.append(top[~undecided[pool.items[top]]])
        going = undecided
        if not going.any():
            break
        # From the first word to the last in one direction, then in the other, so that an item may be read in the same
        # calls as all others and yet at the same turn as alone.
        moved, at = reader.advance(reading, at)
        if len(moved):
            pool.update(moved)
            calls[np.unique(pool.items[moved])] += 1
        if not len(moved) or not reader.aligned:
            reader, at = next(readers), 0

    numbers = np.concatenate(best)
    for reader in pool.readers.values():
        reader.finish(numbers)
    for number in numbers.tolist():
        one = pool.with_terms(number)
        one.score = float(pool.scores[number])
        answers[one.item].append(one)
    return answers
