"""Beam-Search Coordinate Descent: Algorithm 1 of Sun, Lee and Batra (CVPR 2017, arXiv 1705.08759).

    1  initialise the forward and the backward beams with classical beam search
    2  repeat
    3      left-to-right sweep, the backward beams held fixed as its look-ahead
    4      right-to-left sweep, the new forward beams held fixed as its look-ahead
    5  until the beams do not change

The paper leaves two things open. First, what "do not change" means: here the ordered prefixes at every position, of
both directions, are the same as in the round before. If they are the same as in an earlier round, the search would
repeat itself for ever and ends, too. Second, which sentences to return. No sweep maximises J: its criterion changes
with the position, and its last words are chosen almost by one direction alone. So the sentences at the end of *every*
sweep are candidates, and the objective decides among them afterwards. That is ``bscd(..., splices=False)``.

**Splicing** finds better sentences in the same beams, and takes fewer rows:

    1a     read the best splices of the beams outward, B of them to their ends, and keep the best sentences
    4a     the same with the new beams and with the best sentences so far, and half of B
    5      until ``PATIENCE`` rounds have found no better sentence, or neither the beams nor the best sentence change,
           or line 1a or 4a has found at most B splices that were not read before, and the best sentence is an old one,
           or one that both initial beam searches ended with

``birnn_decode.search.splices`` says what a splice is, and ``birnn_decode.search.halving`` how the best ones are found.
If few splices are new, the beams hold little else that is worth reading, and further rounds rarely find a better
sentence, as measured on validation data. So an easy question ends with line 1a, before the first round. Where the two
models disagree about the best sentence, at least one round follows.

The sentences at the end of a sweep are splices, too, so they need not be scored one by one. Only the sentences of the
initial beams are always candidates in the end, so the answers are never worse than those of the rerank.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from birnn_decode.result import StopReason
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction
from birnn_decode.search.halving import Splicing
from birnn_decode.search.holding import NEVER, Problem
from birnn_decode.search.recorder import Recorder
from birnn_decode.search.splices import Splices
from birnn_decode.search.sweep import Ahead, Prior, open_templates

# Measured on validation data: captions, molecules and pictures of digits.
PATIENCE = 2  # rounds without a better sentence
GAP = 7.0  # nats; a splice whose value is lower than the best one's by more is not read
AT_EACH_POSITION = 4  # splices, times B
BASE, PER_BLANK = 2.0, 0.5  # the sentences looked at, times B: a number, and one for each blank position
AGAIN = 4  # the same sentence is a splice at several positions: splices looked at, for each one that is read


class Best(NamedTuple):
    """One of the best sentences of a search.

    Attributes:
        rejected: whether the check of finished sentences has not accepted it.
        score: its score before the length rule, in nats.
        words: the words, in sentence order.
    """

    rejected: bool
    score: float
    words: tuple[int, ...]

    @property
    def key(self) -> tuple[bool, float, tuple[int, ...]]:
        """The sorting key: the best sentence comes first."""
        return self.rejected, -self.score, self.words


@dataclass(eq=False)
class Search:
    """The search of one problem: its beams, and the sentences that it has met.

    Attributes:
        problem: the problem.
        beams: the current frontier of each direction, and its bytes.
        met: for each round the finished sentences that are new in it, in sentence order.
        best: the best sentences that splicing has found, best first.
        stop: why the search ended; None while it goes on.
        rounds: the number of rounds begun.
    """

    problem: Problem
    beams: dict[Direction, tuple[Any, bytes]] = field(default_factory=dict)
    met: list[list[tuple[int, ...]]] = field(default_factory=lambda: [[]])
    best: list[Best] = field(default_factory=list)
    stop: StopReason | None = None
    rounds: int = 0
    _times: Counter[tuple[int, ...]] = field(default_factory=Counter)
    _tried: set[tuple[int, ...]] = field(default_factory=set)
    _new: int = 0
    _idle: int = 0
    _replies: dict[tuple[Direction, bytes], Any] = field(default_factory=dict)
    _history: list[tuple[bytes, ...]] = field(default_factory=list)

    def meet(self, sentences: Sequence[tuple[int, ...]]) -> None:
        """Record finished sentences."""
        for sentence in sentences:
            self._times[sentence] += 1
            if self._times[sentence] == 1:
                self.met[-1].append(sentence)

    def try_splices(self, sentences: Sequence[tuple[int, ...]], most: int) -> list[int]:
        """Return the numbers of the sentences that are worth reading, and record them.

        Args:
            sentences: splices, best first.
            most: the largest number of different sentences that are looked at. Those that were read before count, so
                beams that have changed little bring few new ones.
        """
        chosen: list[int] = []
        looked: set[tuple[int, ...]] = set()
        for number, words in enumerate(sentences):
            if len(looked) == most:
                break
            looked.add(words)
            if words not in self._tried:
                self._tried.add(words)
                if self.problem.held is None or not self.problem.held.broken(words):
                    chosen.append(number)
        self._new = len(chosen)
        return chosen

    def begin_round(self) -> None:
        """Begin a new round."""
        self.rounds += 1
        self.met.append([])

    def improve(self, found: Sequence[Best], keep: int) -> None:
        """Add to the best sentences, and count the rounds without a better one.

        Args:
            found: sentences; -inf is the score of one that a score hook forbids, which is spliced nevertheless.
            keep: the number of sentences that are kept.
        """
        before = self.best[:1]
        self.best = sorted([*self.best, *found], key=lambda one: one.key)[:keep]
        self.meet([one.words for one in found])
        self._idle = self._idle + 1 if self.best[:1] == before else 0

    def end_round(self, beam_size: int, splicing: bool) -> None:
        """Compare the beams with those of earlier rounds, and end the search if nothing changes any more.

        Args:
            beam_size: B.
            splicing: whether splices are read.
        """
        beams = tuple(key for _, key in self.beams.values())
        same, cycle = beams in self._history[-1:], beams in self._history
        self._history.append(beams)
        gained = splicing and not self._idle
        # Both initial beam searches ended with the best sentence if they and the splices have met it.
        agreed = any(self._times[one.words] > 2 for one in self.best[:1])
        few = self._new <= beam_size and (agreed or not gained)
        if same and not gained:
            self.stop = StopReason.CONVERGED
        elif cycle and not gained:
            self.stop = StopReason.CYCLE
        elif (few or self._idle >= PATIENCE) and any(one.score > NEVER for one in self.best):
            # Without a sentence that can be returned, the search goes on. Without splices, ``best`` is empty.
            self.stop = StopReason.NO_GAIN


def bscd(
    coupling: Coupling,
    problems: Sequence[Problem],
    beam_size: int,
    max_rounds: int,
    prior: Prior | None = None,
    splices: bool = True,
) -> tuple[list[Search], list[list[int]]]:
    """Search all problems in one batch. A problem that has ended leaves the batch.

    Args:
        coupling: the models. The first of its directions sweeps first in each round; forward in the paper. With a
            single direction, ``max_rounds`` must be 0.
        problems: the problems.
        beam_size: B.
        max_rounds: the largest number of rounds; 0 runs the two initial beam searches only.
        prior: the prior to be subtracted when beams of both directions are joined.
        splices: whether splices are read. False: the algorithm of the paper.

    Returns:
        one search per problem; and for each round, round 0 first, the rows of each item up to its end.
    """
    directions = coupling.directions
    splicing = coupling.splicing if splices and max_rounds else None
    searches = [Search(problem) for problem in problems]
    recorder = coupling.recorder
    if recorder is not None:
        recorder.begin(problems, beam_size)
    for direction in directions:  # line 1
        open_templates(direction, problems)
        _move(searches, direction, coupling.sweep(direction, problems, beam_size))
    going = [search for search in searches if search.stop is None]
    if splicing is not None:
        _splice(splicing, going, beam_size, beam_size, prior, recorder)  # line 1a
    rows = [_rows(coupling)]
    for search in going:
        search.end_round(beam_size, splicing is not None)
    going = [search for search in going if search.stop is None]

    while going and len(rows) <= max_rounds:  # line 2
        for search in going:
            search.begin_round()
        if recorder is not None:
            recorder.begin_round([search.problem for search in going])
        for direction, opposite in zip(directions, reversed(directions), strict=True):  # lines 3 and 4
            unsettled = [search for search in going if search.stop is None]
            # A sweep depends on the opposite beams alone, so the sweep after the same beams is not repeated.
            new = [search for search in unsettled if (direction, search.beams[opposite][1]) not in search._replies]
            ahead = Ahead(opposite, [search.beams[opposite][0] for search in new], prior)
            swept = coupling.sweep(direction, [search.problem for search in new], beam_size, ahead)
            if recorder is not None:
                recorder.repeat(direction, [search.problem for search in unsettled if search not in new])
            for search, frontier in zip(new, swept, strict=True):
                search._replies[direction, search.beams[opposite][1]] = frontier
            replies = [search._replies[direction, search.beams[opposite][1]] for search in unsettled]
            _move(unsettled, direction, replies, meet=splicing is None)
        going = [search for search in going if search.stop is None]
        if splicing is not None:
            _splice(splicing, going, beam_size, (beam_size + 1) // 2, prior, recorder)  # line 4a
        for search in going:
            search.end_round(beam_size, splicing is not None)  # line 5
        rows.append(_rows(coupling))
        going = [search for search in going if search.stop is None]

    for search in searches:
        search.stop = search.stop or StopReason.MAX_ROUNDS
    return searches, rows


def _rows(coupling: Coupling) -> list[int]:
    """Return the rows of each item so far."""
    return np.sum([direction.tree.rows for direction in coupling.directions], axis=0).tolist()


def _move(searches: Sequence[Search], direction: Direction, frontiers: Sequence[Any], meet: bool = True) -> None:
    """Replace the beams of one direction. A dead end keeps the old beams and ends the search.

    Args:
        searches: the searches.
        direction: the direction.
        frontiers: its new frontiers, one per search.
        meet: whether the sentences at their ends are recorded.
    """
    moved = []
    for search, frontier in zip(searches, frontiers, strict=True):
        if frontier is None:
            search.stop = StopReason.DEAD_END
        else:
            search.beams[direction] = (frontier, frontier.tobytes())
            moved.append((search, frontier[-1][frontier[-1] >= 0]))
    if moved and meet:
        lanes = [direction.lane(search.problem.template) for search, last in moved for _ in last]
        sentences = iter(direction.sentences(np.concatenate([last for _, last in moved]), lanes))
        for search, last in moved:
            search.meet(list(itertools.islice(sentences, len(last))))


def _splice(
    splicing: Splicing,
    searches: Sequence[Search],
    beam_size: int,
    complete: int,
    prior: Prior | None,
    recorder: Recorder | None,
) -> None:
    """Read the best splices that were not read before, some of them to their ends, and keep the best sentences.

    Args:
        splicing: what finds splices and reads them.
        searches: the searches.
        beam_size: B.
        complete: the largest number of splices of each search that are read to their ends.
        prior: the prior to be subtracted when beams of both directions are joined.
        recorder: what notes the search; None if there is no record.
    """
    if not searches:
        return
    problems = [search.problem for search in searches]
    beams = [[search.beams[direction][0] for search in searches] for direction in splicing.directions]
    best = [[one.words for one in search.best] for search in searches]
    splices = splicing.find(problems, beams, best, AT_EACH_POSITION * beam_size, prior)
    blanks = [problem.template.blank_count for problem in problems]
    most = np.array([int(beam_size * (BASE + PER_BLANK * count)) for count in blanks], dtype=np.int64)
    splices = splices.take(_worth_reading(splices, AGAIN * most))
    sentences = splicing.sentences(splices)
    begins = np.searchsorted(splices.numbers, np.arange(len(searches) + 1)).tolist()
    chosen = np.array(
        [
            begin + one
            for number, (begin, end) in enumerate(itertools.pairwise(begins))
            for one in searches[number].try_splices(sentences[begin:end], int(most[number]))
        ],
        dtype=np.int64,
    )
    splices, sentences = splices.take(chosen), [sentences[one] for one in chosen.tolist()]
    candidates = splicing.candidates(problems, splices, sentences)
    some, scores = candidates.best(complete)
    if recorder is not None:
        read = dict(zip(some.tolist(), scores.tolist(), strict=True))
        recorder.splice(splicing.directions[0], problems, splices.columns, sentences, read)
    found: list[list[Best]] = [[] for _ in searches]
    for one, score in zip(some.tolist(), scores.tolist(), strict=True):
        found[candidates.numbers[one]].append(Best(bool(candidates.rejected[one]), score, sentences[one]))
    for search, own in zip(searches, found, strict=True):
        search.improve(own, beam_size)


def _worth_reading(splices: Splices, most: np.ndarray) -> np.ndarray:
    """Return the numbers of the best splices, problem by problem, best first.

    Args:
        splices: the splices.
        most: the largest number of splices of each problem.
    """
    order = np.lexsort((-splices.values, splices.numbers))
    numbers, values = splices.numbers[order], splices.values[order]
    first = np.searchsorted(numbers, numbers)
    ranks = np.arange(len(order)) - first
    return order[(ranks < most[numbers]) & (values >= values[first] - GAP) & (values > NEVER)]
