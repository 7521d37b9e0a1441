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
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking
from birnn_decode.search.holding import NEVER, Problem
from birnn_decode.search.splices import Splices, find_splices
from birnn_decode.search.sweep import Frontier, Prior, stacked

FACTOR = 3  # measured on validation data: 2 takes more rows, 4 loses good sentences


class _Reading:
    """What one direction has read of candidates, in columns.

    Args:
        direction: the direction.
        asked: the problem of each candidate.
        ranking: the terms that count.
        nodes: the prefixes that the candidates begin with, [candidates].
        rows: the words and the end of each candidate, in reading order.

    Attributes:
        tree: the prefixes that the direction has read.
        tokens: the words, in reading order, and the end, [candidates, places]; -1 after them.
        lengths: the number of tokens, [candidates].
        known: the number of known terms, [candidates].
        sums: the sum of the known terms that count, in nats, [candidates].
        counts: their number, [candidates].
        lacking: the number of terms that count and are not known, [candidates].
    """

    def __init__(
        self,
        direction: Direction,
        asked: Sequence[Problem],
        ranking: Ranking,
        nodes: np.ndarray,
        rows: Sequence[tuple[int, ...]],
    ):
        self.tree = direction.tree
        self._nodes = nodes.copy()
        self.tokens = stacked([np.array(row, dtype=np.int64) for row in rows])
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self.known = self.tree.depths[nodes]
        self._begun = self.known.copy()
        counted = {one: ranking.counted(direction, one.item, one.template) for one in set(asked)}
        self._counted = np.zeros(self.tokens.shape, dtype=bool)
        for own, one in zip(self._counted, asked, strict=True):
            own[list(counted[one])] = True
        self.sums, self.counts = np.zeros(len(nodes)), np.zeros(len(nodes), dtype=np.int64)
        at, depths = nodes.copy(), self.known.copy()
        while len(some := np.flatnonzero(depths > 0)):
            depths[some] -= 1
            self._add(some, depths[some], self.tree.terms[at[some]])
            at[some] = self.tree.parents[at[some]]
        self.lacking = self._counted.sum(axis=1) - self.counts

    def _add(self, some: np.ndarray, places: np.ndarray, terms: np.ndarray) -> None:
        counted = self._counted[some, places]
        with np.errstate(over="ignore"):  # models mask with the lowest number there is
            self.sums[some] += np.where(counted, terms, 0.0)
        self.counts[some] += counted

    def advance(self, some: np.ndarray, words: int) -> None:
        """Read candidates on until they have read ``words`` words behind the prefixes that they began with."""
        goals = np.minimum(self._begun[some] + words, self.lengths[some])
        while len(going := some[self.known[some] < goals]):
            if self.tree.aligned:
                going = going[self.known[going] == self.known[going].min()]
            places = self.known[going]
            self._nodes[going] = self.tree.extend(self._nodes[going], self.tokens[going, places])
            self._add(going, places, self.tree.terms[self._nodes[going]])
            self.known[going] += 1
            self.lacking[going] -= self._counted[going, places]


@dataclass(frozen=True, eq=False)
class Splicing:
    """The search for good splices of a pair.

    Attributes:
        directions: the direction of the prefixes, and that of the suffixes.
        ranking: the score of finished sentences.
    """

    directions: Sequence[Direction]
    ranking: Ranking

    def find(
        self,
        problems: Sequence[Problem],
        beams: Sequence[Sequence[Frontier]],
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

    def settle(self, problem: Problem, words: tuple[int, ...]) -> None:
        """Record what a sentence that was read to its end pays, because it is spliced from now on."""
        if problem.held is not None:
            for direction in self.ranking.weights:
                problem.held.pay_all(direction, problem.item, words)

    def candidates(
        self, problems: Sequence[Problem], splices: Splices, sentences: Sequence[tuple[int, ...]]
    ) -> Candidates:
        """Return splices, and the sentences that they make, as candidates."""
        return Candidates(self.directions, problems, splices, sentences, self.ranking)


class Candidates:
    """Candidates for good sentences, read outward from their joins.

    Args:
        directions: the direction of the prefixes, and that of the suffixes.
        problems: the problems.
        splices: the splices.
        sentences: their words, in sentence order.
        ranking: the score of finished sentences.

    Attributes:
        numbers: the numbers of the candidates' problems.
        rejected: flags of candidates that the check of finished sentences does not accept.
    """

    def __init__(
        self,
        directions: Sequence[Direction],
        problems: Sequence[Problem],
        splices: Splices,
        sentences: Sequence[tuple[int, ...]],
        ranking: Ranking,
    ):
        self.numbers = splices.numbers
        asked = [problems[number] for number in self.numbers.tolist()]
        self.rejected = ranking.demands.rejected(
            [Finalist(one.item, one.template, words) for one, words in zip(asked, sentences, strict=True)]
        )
        self._problems = len(problems)
        self._weights = ranking.weights
        self._readings: dict[Direction, _Reading] = {}
        # What words have paid up to the join stays with a candidate. What the other words pay is not looked at.
        pays = np.array([one.held is not None and bool(one.held.hooks or one.held.costs) for one in asked], dtype=bool)
        paid = splices.values.copy()
        for direction, nodes in zip(directions, (splices.left, splices.right), strict=True):
            if direction not in ranking.weights:
                continue
            paid -= direction.weight * direction.tree.log_probs[nodes]
            end = (direction.tree.scorer.end_token,)
            rows = [direction.words_in_reading_order(words) + end for words in sentences]
            self._readings[direction] = _Reading(direction, asked, ranking, nodes, rows)
        self._paid = np.where(pays, paid, 0.0)

    def best(self, keep: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the candidates outward, ever fewer of them, and the best ones to their ends.

        Args:
            keep: the largest number of candidates per problem that are read to their ends.

        Returns:
            the numbers of these candidates; and their scores, in nats, of all terms.
        """
        some = np.arange(len(self.numbers))
        longest = max((reading.tokens.shape[1] for reading in self._readings.values()), default=0)
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
        for reading in self._readings.values():
            reading.advance(some, words)

    def _scores(self, some: np.ndarray) -> np.ndarray:
        """Return the scores of candidates, with an estimate of what they lack."""
        scores, numbers = self._paid[some], self.numbers[some]
        for direction, reading in self._readings.items():
            finite = some[reading.sums[some] > NEVER]
            sums, counts = (
                np.bincount(self.numbers[finite], column[finite], self._problems)
                for column in (reading.sums, reading.counts)
            )
            mean = sums / np.maximum(counts, 1)
            with np.errstate(over="ignore"):
                scores = scores + self._weights[direction] * (
                    reading.sums[some] + mean[numbers] * reading.lacking[some]
                )
        return scores

    def _highest(self, some: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the best of some candidates, ``counts[number]`` of each problem, best first."""
        scores = self._scores(some)
        order = np.lexsort((-scores, self.rejected[some], self.numbers[some]))
        some, scores = some[order], scores[order]
        numbers = self.numbers[some]
        ranks = np.arange(len(some)) - np.searchsorted(numbers, numbers)
        return some[(ranks < counts[numbers]) & (scores > NEVER)]
