"""Successive halving: find the good sentences among many splices without scoring them all.

A splice is a prefix, a word at a position t, and a suffix. Its forward terms are known up to t, and its backward terms
down to t. The other terms must be read, and nearly all splices turn out to be bad sentences. The terms next to the join
tell most: there, the prefix and the suffix read words that they were not made for.

So all candidates are read outward from their joins, by the same number of words in both directions: 1 word, then 3,
then 9 and so on. Each time, a third of the candidates goes on (successive halving: Jamieson and Talwalkar, AISTATS
2016; here with the factor 3). A bad splice costs two rows instead of a whole sentence.

**What is compared.** A sentence of L words has L + 1 terms in each direction. After the same number of words, wherever
t is, candidates of a problem lack nearly the same number of terms. What a candidate lacks is estimated by the mean of
the terms that the direction knows of all candidates. The estimate only decides what is read on. Every score that a
search reports is the sum of all terms.

This is so for a pair. ``birnn_decode.search.joint`` says which terms of a joint model are known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking
from birnn_decode.search.holding import NEVER, Problem
from birnn_decode.search.splices import Splices, find_splices
from birnn_decode.search.sweep import Prior, stacked
from birnn_decode.search.tree import Nodes

FACTOR = 3  # measured on validation data: 2 takes more rows, 4 loses good sentences


class Reader:
    """Candidates as one direction reads them on from the prefixes that they begin with, in columns.

    Args:
        direction: the direction.
        nodes: the prefixes, [candidates].
        rows: the tokens of each candidate, in reading order.

    Attributes:
        tree: the prefixes that the direction has read.
        tokens: the tokens, [candidates, places]; -1 after them.
        lengths: their number, [candidates].
        known: the number of tokens whose terms are known, [candidates]. All tokens before the last of them are read.
        paths: the prefixes of each candidate that are known, from the root on, nodes [candidates, 1 + places].
    """

    def __init__(self, direction: Direction, nodes: Nodes, rows: Sequence[tuple[int, ...]]):
        self.tree = direction.tree
        self.tokens = stacked([np.array(row, dtype=np.int64) for row in rows])
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self.known = self.tree.depths[nodes]
        self._begun = self.known.copy()
        self.paths = np.full((len(nodes), 1 + self.tokens.shape[1]), -1)
        at = nodes.copy()
        for depth in range(int(self.known.max(initial=-1)), -1, -1):
            there = self.known >= depth
            self.paths[there, depth] = at[there]
            at[there] = self.tree.parents[at[there]]

    def advance(self, some: np.ndarray, words: int) -> None:
        """Read candidates on until they have read ``words`` words behind the prefixes that they began with."""
        goals = np.minimum(self._begun[some] + words, self.lengths[some])
        behind = self.known[some] < goals
        some, goals = some[behind], goals[behind]
        if not len(some):
            return
        known = self.known[some]
        rows = list(zip(some.tolist(), known.tolist(), goals.tolist(), strict=True))
        unread = [self.tokens[row, since:until].tolist() for row, since, until in rows]
        paths = self.tree.follow(self.paths[some, known], unread, goals < self.lengths[some])
        for (row, since, until), path in zip(rows, paths, strict=True):
            self.paths[row, since + 1 : until + 1] = path
        self.known[some] = goals


class Known(Protocol):
    """The terms that are known of candidates.

    Attributes:
        longest: after so many words every candidate is read to its end.
        sums: the sum of the known terms that count, in nats, [candidates].
        counts: their number, [candidates].
        lacking: the number of terms that count and are not known, [candidates].
    """

    longest: int
    sums: np.ndarray
    counts: np.ndarray
    lacking: np.ndarray

    def advance(self, some: np.ndarray, words: int) -> None:
        """Read some candidates until they have read ``words`` words outward from their joins."""


class _Terms:
    """The terms of one direction of a pair; see ``Known``.

    Args:
        reader: the candidates, with their ends.
        counted: for each candidate the places of the terms that count, in reading order.
    """

    def __init__(self, reader: Reader, counted: Sequence[Sequence[int]]):
        self._reader = reader
        self.longest = reader.tokens.shape[1]
        self._counted = np.zeros(reader.tokens.shape, dtype=bool)
        for own, places in zip(self._counted, counted, strict=True):
            own[list(places)] = True
        self.sums, self.counts = np.zeros(len(counted)), np.zeros(len(counted), dtype=np.int64)
        self.lacking = self._counted.sum(axis=1)
        self._add(np.arange(len(counted)), np.zeros_like(reader.known))

    def advance(self, some: np.ndarray, words: int) -> None:
        """Read some candidates until they have read ``words`` words outward from their joins."""
        before = self._reader.known.copy()
        self._reader.advance(some, words)
        self._add(some, before)

    def _add(self, some: np.ndarray, before: np.ndarray) -> None:
        """Add the terms of places that were not known before."""
        reader = self._reader
        places = np.arange(reader.tokens.shape[1])
        new = (places >= before[some, None]) & (places < reader.known[some, None]) & self._counted[some]
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            self.sums[some] += np.where(new, reader.tree.terms[reader.paths[some, 1:]], 0.0).sum(axis=1)
        count = new.sum(axis=1)
        self.counts[some] += count
        self.lacking[some] -= count


@dataclass(frozen=True, eq=False)
class Splicing:
    """The search for good splices of a pair. Other kinds of models take other splices, and know other terms of them.

    Attributes:
        directions: the direction of the prefixes, and that of the suffixes.
        ranking: the score of finished sentences.
    """

    directions: Sequence[Direction]
    ranking: Ranking

    def find(
        self,
        problems: Sequence[Problem],
        beams: Sequence[Sequence[Any]],
        best: Sequence[Sequence[tuple[int, ...]]],
        count: int,
        prior: Prior | None,
    ) -> Splices:
        """Return the best splices at each blank position of every problem; see ``find_splices``."""
        return find_splices(self.directions, problems, beams, best, count, prior)

    def sentences(self, splices: Splices) -> list[tuple[int, ...]]:
        """Return the sentences that splices make, in sentence order."""
        first, second = self.directions
        pairs = zip(first.tree.words(splices.left), second.tree.words(splices.right), strict=True)
        return [first.words_in_reading_order((*prefix, *suffix[-2::-1])) for prefix, suffix in pairs]

    def pay(self, problem: Problem, words: tuple[int, ...]) -> float:
        """Record what a sentence that was read to its end pays, because it is spliced from now on, and return it."""
        assert problem.held is not None
        weights = self.ranking.weights
        paid = [problem.held.pay_all(direction, problem.item, words) for direction in weights]
        changes = sum(weight * own.changes for weight, own in zip(weights.values(), paid, strict=True))
        return changes - paid[0].cost  # the same for both directions

    def candidates(
        self, problems: Sequence[Problem], splices: Splices, sentences: Sequence[tuple[int, ...]]
    ) -> Candidates:
        """Return splices, and the sentences that they make, as candidates."""
        asked = [problems[number] for number in splices.numbers.tolist()]
        rejected = self.ranking.demands.rejected(
            [Finalist(one.item, one.template, words) for one, words in zip(asked, sentences, strict=True)]
        )
        pays = np.array([one.held is not None and bool(one.held.hooks or one.held.costs) for one in asked], dtype=bool)
        paid = np.where(pays, splices.values - splices.sums, 0.0)
        known = self._known(asked, splices, sentences)

        def pay(one: int) -> float:
            return self.pay(asked[one], sentences[one])

        return Candidates(splices.numbers, len(problems), rejected, known, paid, pays, pay)

    def _known(
        self, asked: Sequence[Problem], splices: Splices, sentences: Sequence[tuple[int, ...]]
    ) -> Sequence[tuple[float, Known]]:
        """Return weights, and what is known of the candidates; ``asked`` has the problem of each candidate."""
        found = []
        for direction, nodes in zip(self.directions, (splices.left, splices.right), strict=True):
            if direction in self.ranking.weights:
                end = (direction.tree.scorer.end_token,)
                rows = [direction.words_in_reading_order(words) + end for words in sentences]
                counted = {one: self.ranking.counted(direction, one.item, one.template) for one in set(asked)}
                terms = _Terms(Reader(direction, nodes, rows), [counted[one] for one in asked])
                found.append((self.ranking.weights[direction], terms))
        return found


class Candidates:
    """Candidates for good sentences, read outward from their joins.

    Args:
        numbers: the number of each candidate's problem.
        problems: the number of problems.
        rejected: flags of candidates that the check of finished sentences does not accept.
        known: weights, and the terms that count with them.
        paid: what the words up to the join have paid, in nats, [candidates].
        pays: flags of candidates whose words pay.
        pay: returns what a candidate pays that was read to its end. Until then, ``paid`` counts.

    Attributes:
        numbers: the number of each candidate's problem.
        rejected: flags of candidates that the check of finished sentences does not accept.
    """

    def __init__(
        self,
        numbers: np.ndarray,
        problems: int,
        rejected: np.ndarray,
        known: Sequence[tuple[float, Known]],
        paid: np.ndarray,
        pays: np.ndarray,
        pay: Callable[[int], float],
    ):
        self.numbers = numbers
        self.rejected = rejected
        self._problems = problems
        self._known = known
        self._paid = paid
        self._pays = pays
        self._pay = pay

    def best(self, keep: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the candidates outward, ever fewer of them, and the best ones to their ends.

        Args:
            keep: the largest number of candidates per problem that are read to their ends.

        Returns:
            the numbers of these candidates; and their scores, in nats, of all terms.
        """
        some = np.arange(len(self.numbers))
        longest = max((known.longest for _, known in self._known), default=0)
        for words in itertools.takewhile(lambda words: words < longest, (FACTOR**step for step in itertools.count())):
            sizes = np.bincount(self.numbers[some], minlength=self._problems)
            if (sizes <= keep).all():
                break
            # Problems with few candidates read these to their ends, whatever their batch does.
            self._advance(some[sizes[self.numbers[some]] > keep], words)
            some = self._highest(some, np.maximum(-(-sizes // FACTOR), keep))
        self._advance(some, longest)
        some = self._highest(some, np.full(self._problems, keep))
        return some, self._scores(some)

    def _advance(self, some: np.ndarray, words: int) -> None:
        for _, known in self._known:
            known.advance(some, words)
        done = some[self._pays[some]]
        for _, known in self._known:
            done = done[known.lacking[done] == 0]
        self._paid[done] = [self._pay(one) for one in done.tolist()]
        self._pays[done] = False

    def _scores(self, some: np.ndarray) -> np.ndarray:
        """Return the scores of candidates, with an estimate of the terms that they lack."""
        scores, numbers = self._paid[some], self.numbers[some]
        for weight, known in self._known:
            finite = some[known.sums[some] > NEVER]
            sums, counts = (
                np.bincount(self.numbers[finite], column[finite], self._problems)
                for column in (known.sums, known.counts)
            )
            mean = sums / np.maximum(counts, 1)
            with np.errstate(over="ignore"):
                scores = scores + weight * (known.sums[some] + mean[numbers] * known.lacking[some])
        return scores

    def _highest(self, some: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the best of some candidates that the models allow, ``counts[number]`` of each problem, best first."""
        scores = self._scores(some)
        order = np.lexsort((-scores, self.rejected[some], self.numbers[some]))
        some, scores = some[order], scores[order]
        numbers = self.numbers[some]
        ranks = np.arange(len(some)) - np.searchsorted(numbers, numbers)
        possible = np.logical_and.reduce([known.sums[some] > NEVER for _, known in self._known])
        return some[(ranks < counts[numbers]) & possible]
