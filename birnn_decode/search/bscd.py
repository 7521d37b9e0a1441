"""Beam-Search Coordinate Descent: Algorithm 1 of Sun, Lee and Batra (CVPR 2017, arXiv 1705.08759).

    1  initialise the forward and the backward beams with classical beam search
    2  repeat
    3      left-to-right sweep, the backward beams held fixed as its look-ahead
    4      right-to-left sweep, the new forward beams held fixed as its look-ahead
    5  until the beams do not change

What the paper leaves open: the beams have changed unless the ordered prefixes at every position, of both directions,
are those of the round before; if they are those of an earlier round instead, the search would go round for ever and
ends. No sweep maximises J (what it scores changes with its position, and its last words are chosen almost by one
direction alone), so the sentences at the end of *every* sweep are candidates, and the best splices of the initial beams
are, too (`birnn_decode.search.splices`). J decides among them afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birnn_decode.result import StopReason
from birnn_decode.search.problem import Direction, Problem
from birnn_decode.search.splices import splices
from birnn_decode.search.sweep import Frontier, Prior, open_templates, sweep


@dataclass(eq=False)
class Search:
    """The search of one problem: what it carries from sweep to sweep, and what it has met.

    Attributes:
        problem: what is searched.
        beams: the present frontier of each direction, and the same as bytes.
        met: for each round the finished sentences, in sentence order, that no round before had met.
        stop: why it ended; None while it goes on.
        rounds: rounds begun.
    """

    problem: Problem
    beams: dict[Direction, tuple[Frontier, bytes]] = field(default_factory=dict)
    met: list[list[tuple[int, ...]]] = field(default_factory=lambda: [[]])
    stop: StopReason | None = None
    rounds: int = 0
    _seen: set[tuple[int, ...]] = field(default_factory=set)
    _replies: dict[tuple[Direction, bytes], Frontier | None] = field(default_factory=dict)
    _history: list[tuple[bytes, ...]] = field(default_factory=list)

    def meet(self, sentences: Sequence[tuple[int, ...]]) -> None:
        """Remember finished sentences."""
        for sentence in sentences:
            if sentence not in self._seen:
                self._seen.add(sentence)
                self.met[-1].append(sentence)

    def end_round(self) -> None:
        """Compare the beams with those of the rounds before."""
        beams = tuple(key for _, key in self.beams.values())
        if self._history and beams == self._history[-1]:
            self.stop = StopReason.CONVERGED
        elif beams in self._history:
            self.stop = StopReason.CYCLE
        self._history.append(beams)


def bscd(
    first: Direction,
    second: Direction,
    problems: Sequence[Problem],
    beam_size: int,
    max_rounds: int,
    prior: Prior | None = None,
    sweep: Callable[..., Sequence[Any]] = sweep,
    splices: Callable[..., Sequence[Sequence[tuple[int, ...]]]] | None = splices,
) -> tuple[list[Search], list[list[int]]]:
    """Search all problems in one batch; those that have ended leave it.

    Args:
        first: the direction that sweeps first in each round; forward in the paper.
        second: the other one.
        problems: what is searched.
        beam_size: B.
        max_rounds: 0 leaves it at the two initial beam searches.
        prior: subtracted where both directions' beams are joined.
        sweep: what is called for every sweep, as `birnn_decode.search.sweep.sweep` is. Its frontiers are told apart by
            their bytes, and their last entry is the beams that have filled the last blank.
        splices: what makes sentences of the initial beams, as `birnn_decode.search.splices.splices` does; None: nobody.

    Returns:
        one search per problem, and for each round, 0 first, the rows pushed up to its end for each item.
    """
    searches = [Search(problem) for problem in problems]
    for direction in (first, second):
        open_templates(direction, problems)
        _move_all(searches, direction, sweep(direction, problems, beam_size))
    rows = [_rows(first, second)]
    for search in searches:
        if search.stop is None:
            search.end_round()

    for number in range(1, max_rounds + 1):
        going = [search for search in searches if search.stop is None]
        if not going:
            break
        for search in going:
            search.rounds = number
            search.met.append([])
        if number == 1 and splices is not None:
            beams = tuple([search.beams[direction][0] for search in going] for direction in (first, second))
            made = splices(first, second, [search.problem for search in going], beams, prior)
            for search, sentences in zip(going, made, strict=True):
                search.meet(sentences)
        for direction, opposite in ((first, second), (second, first)):
            unsettled = [search for search in going if search.stop is None]
            _sweep_all(unsettled, direction, opposite, beam_size, prior, sweep)
        for search in going:
            if search.stop is None:
                search.end_round()
        rows.append(_rows(first, second))

    for search in searches:
        search.stop = search.stop or StopReason.MAX_ROUNDS
    return searches, rows


def _sweep_all(
    searches: Sequence[Search],
    direction: Direction,
    opposite: Direction,
    beam_size: int,
    prior: Prior | None,
    sweep: Callable[..., Sequence[Any]],
) -> None:
    """One half of a round: every search's beams in ``direction`` are renewed against those in ``opposite``."""
    # A sweep depends on the opposite beams alone. What it has replied to them before, it would reply again, so that the
    # round that confirms the beams costs next to nothing.
    new = [search for search in searches if (direction, search.beams[opposite][1]) not in search._replies]
    ahead = [search.beams[opposite][0] for search in new]
    swept = sweep(direction, [search.problem for search in new], beam_size, opposite, ahead, prior)
    for search, frontier in zip(new, swept, strict=True):
        search._replies[direction, search.beams[opposite][1]] = frontier
    _move_all(searches, direction, [search._replies[direction, search.beams[opposite][1]] for search in searches])


def _move_all(searches: Sequence[Search], direction: Direction, frontiers: Sequence[Frontier | None]) -> None:
    """Move on to what a sweep has left; a dead end leaves the old frontier standing and ends the search."""
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


def _rows(first: Direction, second: Direction) -> list[int]:
    rows: list[int] = (first.tree.rows + second.tree.rows).tolist()
    return rows
