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
sweep are candidates, and the best splices of the initial beams, too (``birnn_decode.search.splices``). The objective
decides among them afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birnn_decode.result import StopReason
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import Problem
from birnn_decode.search.sweep import Ahead, Prior, open_templates


@dataclass(eq=False)
class Search:
    """The search of one problem: its beams, and the sentences that it has met.

    Attributes:
        problem: the problem.
        beams: the current frontier of each direction, and its bytes.
        met: for each round the finished sentences that are new in it, in sentence order.
        stop: why the search ended; None while it goes on.
        rounds: the number of rounds begun.
    """

    problem: Problem
    beams: dict[Direction, tuple[Any, bytes]] = field(default_factory=dict)
    met: list[list[tuple[int, ...]]] = field(default_factory=lambda: [[]])
    stop: StopReason | None = None
    rounds: int = 0
    _seen: set[tuple[int, ...]] = field(default_factory=set)
    _replies: dict[tuple[Direction, bytes], Any] = field(default_factory=dict)
    _history: list[tuple[bytes, ...]] = field(default_factory=list)

    def meet(self, sentences: Sequence[tuple[int, ...]]) -> None:
        """Record finished sentences."""
        for sentence in sentences:
            if sentence not in self._seen:
                self._seen.add(sentence)
                self.met[-1].append(sentence)

    def begin_round(self) -> None:
        """Begin a new round."""
        self.rounds += 1
        self.met.append([])

    def end_round(self) -> None:
        """Compare the beams with those of earlier rounds."""
        beams = tuple(key for _, key in self.beams.values())
        if self._history and beams == self._history[-1]:
            self.stop = StopReason.CONVERGED
        elif beams in self._history:
            self.stop = StopReason.CYCLE
        self._history.append(beams)


def bscd(
    coupling: Coupling, problems: Sequence[Problem], beam_size: int, max_rounds: int, prior: Prior | None = None
) -> tuple[list[Search], list[list[int]]]:
    """Search all problems in one batch. A problem that has ended leaves the batch.

    Args:
        coupling: the models. The first of its directions sweeps first in each round; forward in the paper. With a
            single direction, ``max_rounds`` must be 0.
        problems: the problems.
        beam_size: B.
        max_rounds: the largest number of rounds; 0 runs the two initial beam searches only.
        prior: the prior to be subtracted when beams of both directions are joined.

    Returns:
        one search per problem; and for each round, round 0 first, the rows of each item up to its end.
    """
    directions = coupling.directions
    searches = [Search(problem) for problem in problems]
    for direction in directions:  # line 1
        open_templates(direction, problems)
        _move(searches, direction, coupling.sweep(direction, problems, beam_size))
    rows = [_rows(coupling)]
    going = [search for search in searches if search.stop is None]
    for search in going:
        search.end_round()

    while going and len(rows) <= max_rounds:  # line 2
        for search in going:
            search.begin_round()
        if len(rows) == 1:
            beams = [[search.beams[direction][0] for search in going] for direction in directions]
            spliced = coupling.splices([search.problem for search in going], beams, prior)
            for search, sentences in zip(going, spliced, strict=True):
                search.meet(sentences)
        for direction, opposite in zip(directions, reversed(directions), strict=True):  # lines 3 and 4
            unsettled = [search for search in going if search.stop is None]
            # A sweep depends on the opposite beams alone, so the sweep after the same beams is not repeated.
            new = [search for search in unsettled if (direction, search.beams[opposite][1]) not in search._replies]
            ahead = Ahead(opposite, [search.beams[opposite][0] for search in new], prior)
            swept = coupling.sweep(direction, [search.problem for search in new], beam_size, ahead)
            for search, frontier in zip(new, swept, strict=True):
                search._replies[direction, search.beams[opposite][1]] = frontier
            replies = [search._replies[direction, search.beams[opposite][1]] for search in unsettled]
            _move(unsettled, direction, replies)
        for search in going:
            if search.stop is None:
                search.end_round()  # line 5
        rows.append(_rows(coupling))
        going = [search for search in going if search.stop is None]

    for search in searches:
        search.stop = search.stop or StopReason.MAX_ROUNDS
    return searches, rows


def _rows(coupling: Coupling) -> list[int]:
    """Return the rows of each item so far."""
    return np.sum([direction.tree.rows for direction in coupling.directions], axis=0).tolist()


def _move(searches: Sequence[Search], direction: Direction, frontiers: Sequence[Any]) -> None:
    """Replace the beams of one direction. A dead end keeps the old beams and ends the search."""
    moved = []
    for search, frontier in zip(searches, frontiers, strict=True):
        if frontier is None:
            search.stop = StopReason.DEAD_END
        else:
            search.beams[direction] = (frontier, frontier.tobytes())
            moved.append((search, frontier[-1][frontier[-1] >= 0]))
    if moved:
        lanes = [direction.lane(search.problem.template) for search, last in moved for _ in last]
        sentences = iter(direction.sentences(np.concatenate([last for _, last in moved]), lanes))
        for search, last in moved:
            search.meet(list(itertools.islice(sentences, len(last))))
