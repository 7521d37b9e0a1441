"""The sweep: one direction's way over the blanks of a template, with or without a look-ahead.

At a blank position t a beam of B prefixes, each with its log-probability so far s_b, keeps

    top-B over (b, v) of   weight · (s_b + log p(v | b))  +  g_t(v)  −  prior_weight · prior_t(v)

and the new prefix carries s_b + log p(v | b) alone. Without g and prior that is classical beam search. In BSCD (Sun,
Lee and Batra, CVPR 2017, Eq. 3 and 6) the look-ahead comes from the opposite direction's beams that cover t+1 … end:

    g_t(v) = weight' · max over b' of  [ s'_{b'} + log p'(v | b') ]

The paper takes its top-B over (b, v, b'). The maximum over b' does not depend on b, so g_t is one maximum over B rows
and a step costs O(B·V); and every (b, v) is met once, so that no prefix stands twice in a beam.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.search.holding import NEVER, Hold, Restraint
from birnn_decode.search.problem import SOME, Direction, Lane, Problem
from birnn_decode.search.tree import Nodes

Frontier: TypeAlias = np.ndarray
"""The beams of a finished sweep, nodes [1 + places, beams]: those before the first blank position, and those after each
place of the span; best first, and -1 behind them where there are fewer."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Log-probabilities that the splice subtracts.

    Attributes:
        log_probs: [vocab], or [positions, vocab] in sentence order; nats.
        weight: what they are multiplied with.
    """

    log_probs: np.ndarray
    weight: float

    def at(self, position: int) -> np.ndarray:
        """What is subtracted at a position of the sentence, [vocab]; +inf where the prior rules a token out."""
        log_probs = self.log_probs if self.log_probs.ndim == 1 else self.log_probs[position]
        # P(left, v) P(right, v) / P(v) with P(v) = 0 is no sentence at all, not an infinitely good one.
        return np.where(np.isneginf(log_probs), np.inf, self.weight * log_probs)


def open_templates(direction: Direction, problems: Sequence[Problem]) -> None:
    """Read the known words before the first blank of every problem that has one."""
    lanes = [direction.lane(problem.template) for problem in problems]
    direction.tree.open(
        (problem.item, lane.beginning) for problem, lane in zip(problems, lanes, strict=True) if lane.end
    )


@dataclass(frozen=True, eq=False)
class Turn:
    """Blank positions at which problems are to choose at the same time.

    Attributes:
        numbers: of the problems, [turns].
        done: how many places of their spans they have behind them, [turns].
        behind: how many the opposite direction has, where it has read everything behind the position, [turns].
        beams: the prefixes that are continued, nodes with scores [turns, beams], -1 where there is none.
        reads: all of these in a row.
        asked: for each problem its lane and the place.
        holds: what its constraints are asked there; empty: no problem has any.
        masked: whether a set of words is allowed at any of the places.
    """

    numbers: np.ndarray
    done: np.ndarray
    behind: np.ndarray
    beams: Nodes
    reads: Nodes
    asked: Sequence[tuple[Lane, int]]
    holds: Sequence[Hold | None]
    masked: bool


class Course:
    """The way of one direction over the blanks of problems, all of them side by side.

    Args:
        direction: the one that moves.
        problems: what is searched, after `open_templates`.
        beam_size: B.

    Attributes:
        beams: nodes [problems, 1 + places, B] as in a `Frontier`, -1 where nothing has been chosen.
    """

    def __init__(self, direction: Direction, problems: Sequence[Problem], beam_size: int):
        self._tree = direction.tree
        self._problems = problems
        self._lanes = [direction.lane(problem.template) for problem in problems]
        self._begins, self._ends = (
            np.array([getattr(lane, name) for lane in self._lanes], dtype=np.int64) for name in ("begin", "end")
        )
        self._codes = stacked([lane.codes for lane in self._lanes])  # [problems, places]
        places = max((self._ends - self._begins).max(initial=0), 0)
        self.beams = np.full((len(problems), 1 + places, beam_size), -1)
        for own, problem, lane in zip(self.beams, problems, self._lanes, strict=True):
            own[0, 0] = self._tree.find(problem.item, lane.beginning)

    def turns(self, by_sum: bool) -> Iterator[Turn]:
        """Read on, and stop wherever somebody has to choose: what is chosen is to be put into ``beams``.

        Args:
            by_sum: whether beams are in the order of their log-probabilities behind known words, without those that
                these make impossible; else they stay as they are.
        """
        beams, tree = self.beams, self._tree
        for numbers, places in lockstep(self._begins, self._ends, tree.aligned):
            done = places - self._begins[numbers]
            held = beams[numbers, done]  # [moving, beams]
            alive = held[:, 0] >= 0
            if not alive.all():
                numbers, places, done, held = numbers[alive], places[alive], done[alive], held[alive]
            code = self._codes[numbers, places]  # [moving]
            known = code >= 0
            if known.any():
                follows, to = held[known], (numbers[known], done[known] + 1)
                there = follows >= 0
                blank = ~known
                numbers, places, done, held = numbers[blank], places[blank], done[blank], held[blank]
                reads = held[held >= 0]
                children = tree.read(reads, follows[there], np.repeat(code[known], there.sum(axis=1)))
                code = code[blank]
                # The look-ahead is the same for all beams here, so every beam that is not impossible passes.
                passed = np.full_like(follows, -1)
                passed[there] = children
                beams[to] = _in_order(passed, tree.log_probs) if by_sum else passed
            else:
                reads = held[held >= 0]
                tree.read(reads)
            if len(reads):
                behind = self._ends[numbers] - 1 - places
                lanes = [self._lanes[number] for number in numbers.tolist()]
                asked = list(zip(lanes, places.tolist(), strict=True))
                holds = holds_of([self._problems[number] for number in numbers], places)
                yield Turn(numbers, done, behind, held, reads, asked, holds, SOME in code)

    def of_each(self, values: np.ndarray) -> list[np.ndarray]:
        """What [problems, 1 + places, B] hold for each problem, as far as its span goes."""
        return [own[: 1 + lane.end - lane.begin] for own, lane in zip(values, self._lanes, strict=True)]


def sweep(
    direction: Direction,
    problems: Sequence[Problem],
    beam_size: int,
    opposite: Direction | None = None,
    ahead: Sequence[Frontier] = (),
    prior: Prior | None = None,
) -> list[Frontier | None]:
    """Sweep one direction over the blanks of every problem, all problems in one batch.

    Args:
        direction: the one that moves.
        problems: what is searched, after `open_templates`.
        beam_size: B.
        opposite: the direction that is held fixed; None: classical beam search, by the direction's own
            log-probability whatever its weight.
        ahead: the frontiers of ``opposite``, one per problem.
        prior: subtracted where there is a look-ahead.

    Returns:
        one frontier per problem; None where no prefix was left whose sum is above -inf (a dead end).
    """
    weight = 1.0 if opposite is None else direction.weight
    course = Course(direction, problems, beam_size)
    held_fixed = stacked(ahead)  # [problems, 1 + places, beams]
    for turn in course.turns(by_sum=weight > 0):
        behind = held_fixed[turn.numbers, turn.behind] if opposite else None
        steer, banned = steering(direction, opposite, turn.asked, behind, turn.holds, turn.masked, prior)
        chosen = choose(direction, turn.beams, weight, steer, banned, beam_size, turn.holds)
        course.beams[turn.numbers, turn.done + 1] = chosen
        direction.tree.done(turn.reads)
    return [frontier if frontier[-1, 0] >= 0 else None for frontier in course.of_each(course.beams)]


def choose(
    direction: Direction,
    beams: Nodes,
    weight: float,
    steer: Array | None,
    banned: Sequence[int],
    beam_size: int,
    holds: Sequence[Hold | None] = (),
) -> Nodes:
    """The B best continuations of each beam, best first, [problems, B]; -1 behind them where there are fewer.

    Where constraints rule out all that is possible, they are left aside for this once: a sentence that breaks them is
    better than none, and is known by it in the end.

    Args:
        direction: whose tree the nodes are in.
        beams: nodes [problems, beams] with scores, -1 behind them where there are fewer; at least one in each row.
        weight: of the prefix's log-probability.
        steer: [problems, vocab], added for every beam; None: nothing.
        banned: ids that are no candidates.
        beam_size: B.
        holds: what the constraints of each problem are asked; empty: there are none.
    """
    tree = direction.tree
    restraint = Restraint(direction, holds, beams, weight) if holds else None
    scores, offsets = beam_scores(direction, beams, weight)
    values, flats, picked = best_of(tree.backend, scores, offsets, weight, steer, banned, beam_size, restraint)
    alive = np.zeros((len(beams), beam_size), dtype=bool)
    alive[:, : values.shape[1]] = values > NEVER
    chosen = np.full(alive.shape, -1)
    rows, ranks = np.nonzero(alive)
    which, tokens = np.divmod(flats[rows, ranks], tree.scorer.vocab_size)
    parents = beams[rows, which]
    chosen[alive] = tree.grow(parents, tokens, picked[rows, ranks])
    if restraint is not None:
        restraint.pay(rows, which, parents, chosen[alive])
        stuck, loose = restraint.stuck(chosen)
        if stuck:
            own = None if steer is None else steer[tree.backend.indices(stuck)]
            chosen[stuck] = choose(direction, beams[stuck], weight, own, banned, beam_size, loose)
    return chosen


def best_of(
    backend: Backend,
    scores: Array,
    offsets: np.ndarray,
    weight: float,
    steer: Array | None,
    banned: Sequence[int],
    beam_size: int,
    restraint: Restraint | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `Backend.best`, under constraints if there are any.

    Where words must appear, candidates are in banks by how many of them they have, and each bank has its share of the
    beam, so that a prefix that has paid for such a word early is not crowded out by those that put it off (Post and
    Vilar, NAACL 2018). What a bank cannot fill goes to the best of the others.
    """
    if restraint is None:
        return backend.best(scores, offsets, weight, steer, banned, beam_size)
    beams = offsets.shape[1]
    offsets = offsets + restraint.shift[:, :beams]
    extra = restraint.extra[:, :beams]

    def best(extra: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = backend.array(extra)
        return backend.best(scores, offsets, weight, own if steer is None else own + steer[:, None], banned, beam_size)

    if restraint.banks is None:
        return best(extra)
    banks = restraint.banks[:, :beams]
    parts = [best(np.where(banks == bank, extra, NEVER)) for bank in range(int(banks.max()) + 1)]
    values, flats, picked = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
    share = beam_size // (1 + banks.max(axis=(1, 2)))  # an item's, whatever else is in the batch
    ranks = np.concatenate([np.arange(part[0].shape[1]) for part in parts])
    late = (ranks >= share[:, None]) | (values == NEVER)
    order = np.lexsort((flats, -values, late), axis=1)[:, :beam_size]
    values, flats, picked = (np.take_along_axis(column, order, 1) for column in (values, flats, picked))
    order = np.lexsort((flats, -values), axis=1)
    values, flats, picked = (np.take_along_axis(column, order, 1) for column in (values, flats, picked))
    return values, flats, picked


def look_ahead(opposite: Direction, beams: Nodes, holds: Sequence[Hold | None] = ()) -> Array:
    """The g of each problem, [problems, vocab]: the best that the opposite beams [problems, beams] make of a token.

    What constraints rule out behind the opposite beams does not count: other words may stand there in the end. What
    these have paid does.
    """
    backend, weight = opposite.tree.backend, opposite.weight
    restraint = Restraint(opposite, holds, beams, weight) if holds else None
    scores, offsets = beam_scores(opposite, beams, 1.0)
    if restraint is not None:
        width = offsets.shape[1]
        # The maximum is taken before the weight is put to it.
        offsets = offsets + restraint.shift[:, :width] / weight
        scores = scores + backend.array(restraint.extra[:, :width].reshape(len(scores), -1) / weight)
    return backend.max_over_beams(scores, offsets, weight)


def holds_of(problems: Sequence[Problem], places: np.ndarray) -> list[Hold | None]:
    """What the constraints of problems are asked at some places; empty: no problem has any."""
    if all(problem.held is None for problem in problems):
        return []
    return [
        None if problem.held is None else Hold(problem.held, place)
        for problem, place in zip(problems, places.tolist(), strict=True)
    ]


def beam_scores(direction: Direction, beams: Nodes, weight: float) -> tuple[Array, np.ndarray]:
    """The scores [problems * beams, vocab] of beams, and what is added to their ``weight``-fold, [problems, beams]."""
    there = beams >= 0
    if not there.all():
        widest = int(there.sum(axis=1).max())
        beams, there = beams[:, :widest], there[:, :widest]
        beams = np.where(there, beams, beams[:, :1])
    offsets = weight * direction.tree.offsets(beams) if weight else np.zeros(beams.shape)
    offsets[~there] = NEVER
    return direction.tree.gather(beams.reshape(-1)), offsets


def steering(
    direction: Direction,
    opposite: Direction | None,
    asked: Sequence[tuple[Lane, int]],
    behind: Nodes | None,
    holds: Sequence[Hold | None],
    masked: bool,
    prior: Prior | None,
) -> tuple[Array | None, Sequence[int]]:
    """What is added to the candidates at some (lane, place), for every beam alike, [asked, vocab]; and the banned ids.

    Args:
        direction: the one that moves.
        opposite: the one that is held fixed.
        asked: lanes and their blank places.
        behind: the opposite beams that have read everything behind each place, and nothing else, [asked, beams].
        holds: what the constraints of each are asked; empty: there are none.
        masked: whether a set of words is allowed at any of the places.
        prior: subtracted where there is a look-ahead.
    """
    backend = direction.tree.backend
    steer = None
    if opposite is not None and opposite.weight:
        assert behind is not None
        steer = backend.array(look_ahead(opposite, behind, [hold and hold.across() for hold in holds]))
    banned: Sequence[int] = direction.banned
    if masked:
        # A set of allowed ids may name one that a blank never takes, so the ban goes into the masks.
        allowed = [tokens if isinstance(tokens := lane.positions[place], frozenset) else None for lane, place in asked]
        masks = backend.masks(allowed, banned, direction.tree.scorer.vocab_size)
        steer, banned = masks if steer is None else steer + masks, ()
    if opposite is not None and prior is not None:
        rows = [prior.at(direction.position(place, len(lane.positions))) for lane, place in asked]
        subtracted = backend.array(np.stack(rows))
        steer = -subtracted if steer is None else steer - subtracted
    return steer, banned


def _in_order(beams: Nodes, log_probs: np.ndarray) -> Nodes:
    """Beams without the impossible, best first; equals stay as they stand."""
    sums = np.where(beams >= 0, log_probs[beams], NEVER)
    order = np.argsort(-sums, axis=1, kind="stable")
    beams = np.take_along_axis(beams, order, 1)
    return np.where(np.take_along_axis(sums, order, 1) > NEVER, beams, -1)


def stacked(arrays: Sequence[np.ndarray], behind: float = -1) -> np.ndarray:
    """Arrays of different lengths as one, with the same number behind all that are shorter."""
    if not arrays:
        return np.empty((0, 0), dtype=np.int64)
    stacked = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), behind)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def lockstep(begins: np.ndarray, ends: np.ndarray, aligned: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tick by tick, the numbers of the lanes that move together, and their places.

    Where every row of a call must have read equally many tokens, they move place by place; else all begin
    together.
    """
    starts = np.zeros_like(begins) if aligned else begins
    enter, leave = begins - starts, ends - starts
    changes = np.unique(np.concatenate([enter, leave])).tolist()  # ticks at which others move than before
    for since, until in itertools.pairwise(changes):
        numbers = np.flatnonzero((enter <= since) & (since < leave))
        if len(numbers):
            for tick in range(since, until):
                yield numbers, starts[numbers] + tick
