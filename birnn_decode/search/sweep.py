"""The sweep: one direction moves over the blanks of a template, with or without a look-ahead.

A beam holds B prefixes b, each with its log-probability so far s_b. At a blank position t the sweep keeps the

    top-B over (b, v) of   weight · (s_b + log p(v | b))  +  g_t(v)  −  prior_weight · prior_t(v)

and the new prefix carries s_b + log p(v | b) alone. Without g and prior this is classical beam search. In BSCD (Sun,
Lee and Batra, CVPR 2017, Eq. 3 and 6) the look-ahead g comes from the opposite beams b' that cover t+1 … end:

    g_t(v) = weight' · max over b' of  [ s'_{b'} + log p'(v | b') ]

The paper takes the top-B over (b, v, b'). The maximum over b' does not depend on b, so g_t is one maximum over B rows,
and a step costs O(B·V). Each (b, v) occurs once, so no prefix stands twice in a beam.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from birnn_decode.backend import Array, Backend
from birnn_decode.search.direction import SOME, Direction, Lane
from birnn_decode.search.holding import NEVER, Hold, Problem, Restraint, holds_of
from birnn_decode.search.recorder import RUNNERS_UP, Opposite, Recorder, Turned
from birnn_decode.search.tree import NONE, Nodes

AT_A_TIME = 2**18  # scores that are compared at a time, of all beams; so many fit into a processor's cache

Frontier: TypeAlias = np.ndarray
"""The beams of a finished sweep, nodes [1 + places, beams]: the beam before the first blank, and the beam after each
place of the span. The best prefix comes first; -1 fills a beam that has fewer."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Log-probabilities to be subtracted when beams of both directions are joined.

    Attributes:
        log_probs: [vocab], or [positions, vocab] in sentence order; nats.
        weight: the factor of the log-probabilities.
    """

    log_probs: np.ndarray
    weight: float

    @classmethod
    def given(cls, prior: Any, weight: float) -> Prior:
        """Check an array that a user has given.

        Raises:
            TypeError, ValueError: it holds no log-probabilities.
        """
        if hasattr(prior, "detach"):
            prior = prior.detach().cpu().double()
        try:
            log_probs = np.array(prior, dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"prior must be an array of log-probabilities, got {prior!r}.") from None
        if log_probs.ndim not in (1, 2):
            raise ValueError(f"prior must have shape [vocab] or [positions, vocab], got {log_probs.shape}.")
        if not (log_probs < np.inf).all():
            raise ValueError("prior has NaN or +inf. It must hold log-probabilities, -inf for words that never occur.")
        log_probs.flags.writeable = False
        return cls(log_probs, weight)

    def check(self, vocab_size: int, lengths: Collection[int | None]) -> None:
        """Check that the prior fits sentences of given lengths; None stands for an unknown length.

        Raises:
            ValueError: the prior does not fit.
        """
        shape = self.log_probs.shape
        if shape[-1] != vocab_size:
            raise ValueError(
                f"prior must have shape [{vocab_size}] or [positions, {vocab_size}], because the models have "
                f"{vocab_size} ids, got {shape}."
            )
        if len(shape) == 2 and set(lengths) - {shape[0]}:
            raise ValueError(
                f"prior has {shape[0]} positions, but not every sentence asked for has {shape[0]} words. If lengths "
                "differ or are unknown, give one table [vocab]."
            )

    def at(self, position: int) -> np.ndarray:
        """Return what to subtract at a position of the sentence, [vocab]; +inf for tokens that the prior rules out."""
        log_probs = self.log_probs if self.log_probs.ndim == 1 else self.log_probs[position]
        # P(left, v) P(right, v) / P(v) with P(v) = 0 is an impossible sentence, not an infinitely good one.
        return np.where(np.isneginf(log_probs), np.inf, self.weight * log_probs)


@dataclass(frozen=True, eq=False)
class Ahead:
    """What a sweep looks ahead through.

    Attributes:
        opposite: the direction that is held fixed.
        frontiers: its frontiers, one per problem.
        prior: the prior to be subtracted; None if there is none.
    """

    opposite: Direction
    frontiers: Sequence[Any]
    prior: Prior | None = None


def open_templates(direction: Direction, problems: Sequence[Problem]) -> None:
    """Read the known words before the first blank of every problem with a blank."""
    lanes = [direction.lane(problem.template) for problem in problems]
    direction.tree.open(
        (problem.item, lane.beginning) for problem, lane in zip(problems, lanes, strict=True) if lane.end
    )


@dataclass(frozen=True, eq=False)
class Turn:
    """Blank positions at which problems choose their next words at the same time.

    Attributes:
        numbers: the numbers of the problems, [turns].
        done: the number of places that the moving direction has read of each span, [turns].
        behind: the number of places that the opposite direction reads to cover all after the position, [turns].
        beams: the prefixes to be continued, nodes [turns, beams], -1 for none.
        asked: for each problem its lane and the place.
        holds: the constraints there; an empty list if no problem has any.
        masked: whether a set of words is allowed at any of the places.
    """

    numbers: np.ndarray
    done: np.ndarray
    behind: np.ndarray
    beams: Nodes
    asked: Sequence[tuple[Lane, int]]
    holds: Sequence[Hold | None]
    masked: bool


class Course:
    """The path of one direction over the blanks of problems, all of them side by side.

    Args:
        direction: the direction that moves.
        problems: the problems, after ``open_templates``.

    Attributes:
        aligned: whether all rows of a call must have read equally many words; see ``lockstep``.
        begins: the place where each span begins, [problems].
        ends: one past the place where each span ends, [problems].
        codes: the codes of the lanes, [problems, places]; see ``Lane``.
    """

    def __init__(self, direction: Direction, problems: Sequence[Problem]):
        self._tree = direction.tree
        self.aligned = direction.tree.aligned
        self._problems = problems
        self._lanes = [direction.lane(problem.template) for problem in problems]
        self.begins, self.ends = (
            np.array([getattr(lane, name) for lane in self._lanes], dtype=np.int64) for name in ("begin", "end")
        )
        self.codes = stacked([lane.codes for lane in self._lanes])

    def start(self, beam_size: int) -> np.ndarray:
        """Return empty frontiers, nodes [problems, 1 + places, B], with the prefixes before the first blank."""
        places = max((self.ends - self.begins).max(initial=0), 0)
        beams = np.full((len(self._problems), 1 + places, beam_size), -1)
        for own, problem, lane in zip(beams, self._problems, self._lanes, strict=True):
            own[0, 0] = self._tree.find(problem.item, lane.beginning)
        return beams

    def turns(self, beams: np.ndarray, by_sum: bool) -> Iterator[Turn]:
        """Read on, and stop at each blank position. The caller writes the words chosen there into ``beams``.

        Args:
            beams: what ``start`` returned.
            by_sum: whether beams are put in the order of their log-probabilities after known words, and impossible
                ones dropped; else they stay as they are.
        """
        tree = self._tree
        for numbers, places in lockstep(self.begins, self.ends, self.aligned):
            done = places - self.begins[numbers]
            held = beams[numbers, done]  # [moving, beams]
            alive = held[:, 0] >= 0
            if not alive.all():
                numbers, places, done, held = numbers[alive], places[alive], done[alive], held[alive]
            code = self.codes[numbers, places]  # [moving]
            known = code >= 0
            if known.any():
                follows, to = held[known], (numbers[known], done[known] + 1)
                there = follows >= 0
                blank = ~known
                numbers, places, held = numbers[blank], places[blank], held[blank]
                children = tree.read(held[held >= 0], follows[there], np.repeat(code[known], there.sum(axis=1)))
                # The look-ahead at a known word is the same for all beams, so every beam that is possible passes.
                passed = np.full_like(follows, -1)
                passed[there] = children
                beams[to] = _in_order(passed, tree.log_probs) if by_sum else passed
            else:
                tree.read(held[held >= 0])
            if len(numbers):
                yield self.turn(numbers, places, held)

    def turn(self, numbers: np.ndarray, places: np.ndarray, beams: Nodes) -> Turn:
        """Return the turn of some problems at some blank places."""
        lanes = [self._lanes[number] for number in numbers.tolist()]
        return Turn(
            numbers,
            places - self.begins[numbers],
            self.ends[numbers] - 1 - places,
            beams,
            list(zip(lanes, places.tolist(), strict=True)),
            holds_of([self._problems[number] for number in numbers], places),
            SOME in self.codes[numbers, places],
        )

    def of_each(self, values: np.ndarray) -> list[np.ndarray]:
        """Cut values [problems, 1 + places, B] to the span of each problem."""
        return [own[: 1 + lane.end - lane.begin] for own, lane in zip(values, self._lanes, strict=True)]


def sweep(
    direction: Direction,
    problems: Sequence[Problem],
    beam_size: int,
    ahead: Ahead | None = None,
    recorder: Recorder | None = None,
) -> list[Frontier | None]:
    """Sweep one direction over the blanks of every problem, all problems in one batch.

    Args:
        direction: the direction that moves.
        problems: the problems, after ``open_templates``.
        beam_size: B.
        ahead: the look-ahead. None: classical beam search by the direction's own log-probability, with weight 1.
        recorder: what notes the sweep; None if there is no record.

    Returns:
        one frontier per problem; None for a dead end, if no candidate has a sum above -inf.
    """
    weight = 1.0 if ahead is None else direction.weight
    course = Course(direction, problems)
    beams = course.start(beam_size)
    held_fixed = stacked([] if ahead is None else ahead.frontiers)  # [problems, 1 + places, beams]
    view = None
    if ahead is not None and ahead.opposite.weight and problems:
        view = View(course, ahead.opposite, held_fixed)
    tape = None if recorder is None else recorder.sweep(direction, problems, None if ahead is None else ahead.opposite)
    for turn in course.turns(beams, by_sum=weight > 0):
        behind = None if ahead is None else held_fixed[turn.numbers, turn.behind]
        seen = None if view is None else view.at(turn)
        steer, banned = steering(direction, turn, seen, None if ahead is None else ahead.prior)
        noting = (
            None
            if tape is None
            else tape.at(turn.numbers, positions(direction, turn), turn.beams, far_side(direction, turn, ahead, behind))
        )
        beams[turn.numbers, turn.done + 1] = choose(
            direction, turn.beams, weight, steer, banned, beam_size, turn.holds, noting
        )
        direction.tree.done(turn.beams[turn.beams >= 0])
    return [frontier if frontier[-1, 0] >= 0 else None for frontier in course.of_each(beams)]


def choose(
    direction: Direction,
    beams: Nodes,
    weight: float,
    steer: Array | None,
    banned: Sequence[int],
    beam_size: int,
    holds: Sequence[Hold | None] = (),
    noting: Turned | None = None,
    lift: bool = True,
) -> Nodes:
    """Return the B best continuations of each beam, nodes [problems, B], best first; -1 fills a beam with fewer.

    If constraints rule out every possible word, they are lifted for this choice. A sentence that violates them is
    better than none, and it is reported as violating them.

    Args:
        direction: the direction of the nodes.
        beams: nodes [problems, beams] with scores, at least one in each row.
        weight: the weight of the prefix's log-probability.
        steer: [problems, vocab], added for every beam; None: nothing.
        banned: ids that are no candidates.
        beam_size: B.
        holds: the constraints of each problem; empty if there are none.
        noting: what notes the candidates; None if there is no record.
        lift: whether constraints are lifted if they rule out every possible word.
    """
    tree = direction.tree
    restraint = Restraint(direction, holds, beams, weight) if holds else None
    scores, offsets = beam_scores(direction, beams, weight)
    more = 0 if noting is None else RUNNERS_UP
    values, flats, picked = best_of(tree.backend, scores, offsets, weight, steer, banned, beam_size, restraint, more)
    if noting is not None:
        noting.saw(values, flats, picked, restraint, beam_size)
        values, flats, picked = (column[:, :beam_size] for column in (values, flats, picked))
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
        if stuck and lift:
            own = None if steer is None else steer[tree.backend.indices(stuck)]
            some = None if noting is None else noting.of(stuck)
            chosen[stuck] = choose(direction, beams[stuck], weight, own, banned, beam_size, loose, some)
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
    more: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do the same as ``Backend.best`` for ``beam_size`` and ``more`` candidates, under constraints if there are any.

    If words must appear, candidates form banks by the number of such words that they have, and each bank has its
    share of the beam. A prefix that has taken such a word early is then not crowded out by prefixes that put it off
    (Post and Vilar, NAACL 2018). Places that a bank cannot fill go to the best candidates of the others, and there are
    no further candidates.
    """
    if restraint is None:
        return backend.best(scores, offsets, weight, steer, banned, beam_size + more)
    beams = offsets.shape[1]
    offsets = offsets + restraint.shift[:, :beams]
    extra = restraint.extra[:, :beams]

    def best(extra: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = backend.array(extra)
        return backend.best(scores, offsets, weight, own if steer is None else own + steer[:, None], banned, k)

    if restraint.banks is None:
        return best(extra, beam_size + more)
    banks = restraint.banks[:, :beams]
    parts = [best(np.where(banks == bank, extra, NEVER), beam_size) for bank in range(int(banks.max()) + 1)]
    values, flats, picked = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
    share = beam_size // (1 + banks.max(axis=(1, 2)))  # of the item alone, independent of the batch
    ranks = np.concatenate([np.arange(part[0].shape[1]) for part in parts])
    late = (ranks >= share[:, None]) | (values == NEVER)
    order = np.lexsort((flats, -values, late), axis=1)[:, :beam_size]
    values, flats, picked = (np.take_along_axis(column, order, 1) for column in (values, flats, picked))
    order = np.lexsort((flats, -values), axis=1)
    values, flats, picked = (np.take_along_axis(column, order, 1) for column in (values, flats, picked))
    return values, flats, picked


class View:
    """The look-ahead of a sweep, computed for several places at once, up to ``AT_A_TIME`` scores.

    Args:
        course: the path of the moving direction.
        opposite: the direction that is held fixed.
        held_fixed: its beams, nodes [problems, 1 + places, beams].
    """

    def __init__(self, course: Course, opposite: Direction, held_fixed: np.ndarray):
        scores = held_fixed.shape[-1] * opposite.tree.scorer.vocab_size
        self._places = blank_places(course, AT_A_TIME // scores, course.aligned)
        self._course, self._opposite, self._held_fixed = course, opposite, held_fixed
        self._rows = np.full(held_fixed.shape[:2], -1)  # of ``_seen``
        self._seen: Array = None

    def at(self, turn: Turn) -> Array:
        """Return the look-ahead of each problem of a turn, [turns, vocab]. Turns come in the order of the course."""
        while (rows := self._rows[turn.numbers, turn.done])[0] < 0:
            numbers, places = next(self._places)
            several = self._course.turn(numbers, places, NONE)
            self._seen = look_ahead(self._opposite, self._held_fixed[numbers, several.behind], several.holds)
            self._rows[:] = -1
            self._rows[numbers, several.done] = np.arange(len(numbers))
        begin, end = int(rows[0]), int(rows[0]) + len(rows)
        in_place = (rows == np.arange(begin, end)).all()
        return self._seen[begin:end] if in_place else self._seen[self._opposite.tree.backend.indices(rows)]


def look_ahead(opposite: Direction, beams: Nodes, holds: Sequence[Hold | None] = ()) -> Array:
    """Return the look-ahead g of each problem, [problems, vocab]: the best opposite score of each token.

    Words that constraints rule out after an opposite beam are not excluded, because other words may stand there in the
    end. What the opposite beams have paid counts.

    Args:
        opposite: the opposite direction.
        beams: its beams, nodes [problems, beams].
        holds: the constraints at the places that the moving direction chooses words for; empty if there are none.
    """
    backend, weight = opposite.tree.backend, opposite.weight
    across = [hold and hold.across() for hold in holds]
    restraint = Restraint(opposite, across, beams, weight) if across else None
    scores, offsets = beam_scores(opposite, beams, 1.0)
    if restraint is not None:
        width = offsets.shape[1]
        # The maximum is taken before the weight is applied.
        offsets = offsets + restraint.shift[:, :width] / weight
        scores = scores + backend.array(restraint.extra[:, :width].reshape(len(scores), -1) / weight)
    return backend.max_over_beams(scores, offsets, weight)


def beam_scores(direction: Direction, beams: Nodes, weight: float) -> tuple[Array, np.ndarray]:
    """Return the scores of beams, [problems * beams, vocab], and their weighted offsets, [problems, beams].

    An offset of -inf marks a beam that is not there.
    """
    there = beams >= 0
    if not there.all():
        widest = int(there.sum(axis=1).max())
        beams, there = beams[:, :widest], there[:, :widest]
        beams = np.where(there, beams, beams[:, :1])
    offsets = weight * direction.tree.offsets(beams) if weight else np.zeros(beams.shape)
    offsets[~there] = NEVER
    return direction.tree.gather(beams.reshape(-1)), offsets


def steering(
    direction: Direction, turn: Turn, seen: Array | None = None, prior: Prior | None = None
) -> tuple[Array | None, Sequence[int]]:
    """Return what is added to the candidates of every beam alike, [turns, vocab], and the banned ids.

    Args:
        direction: the direction that moves.
        turn: the blank places.
        seen: the look-ahead, [turns, vocab]; None if there is none.
        prior: the prior to be subtracted; None if there is none.
    """
    backend = direction.tree.backend
    steer = None if seen is None else backend.array(seen)
    banned: Sequence[int] = direction.banned
    if turn.masked:
        # A set of allowed ids may include ids that a blank never takes, so the masks include the ban.
        allowed = [tokens if isinstance(tokens := lane.positions[at], frozenset) else None for lane, at in turn.asked]
        masks = backend.masks(allowed, banned, direction.tree.scorer.vocab_size)
        steer, banned = masks if steer is None else steer + masks, ()
    if prior is not None:
        rows = [prior.at(position) for position in positions(direction, turn)]
        subtracted = backend.array(np.stack(rows))
        steer = -subtracted if steer is None else steer - subtracted
    return steer, banned


def positions(direction: Direction, turn: Turn) -> list[int]:
    """Return the position in the sentence of each place of a turn."""
    return [direction.position(place, len(lane.positions)) for lane, place in turn.asked]


def far_side(direction: Direction, turn: Turn, ahead: Ahead | None, behind: Nodes | None) -> Opposite | None:
    """Return what a record has to know of the look-ahead of a turn."""
    if ahead is None or behind is None:
        return None
    prior = [] if ahead.prior is None else [ahead.prior.at(position) for position in positions(direction, turn)]
    return Opposite(ahead.opposite, behind, turn.holds, prior)


def _in_order(beams: Nodes, log_probs: np.ndarray) -> Nodes:
    """Return beams without impossible prefixes, best first. Equal ones keep their order."""
    sums = np.where(beams >= 0, log_probs[beams], NEVER)
    order = np.argsort(-sums, axis=1, kind="stable")
    beams = np.take_along_axis(beams, order, 1)
    return np.where(np.take_along_axis(sums, order, 1) > NEVER, beams, -1)


def stacked(arrays: Sequence[np.ndarray], behind: float = -1) -> np.ndarray:
    """Stack arrays of different lengths into one; ``behind`` fills the shorter ones."""
    if not arrays:
        return np.empty((0, 0), dtype=np.int64)
    stacked = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), behind)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def lockstep(begins: np.ndarray, ends: np.ndarray, aligned: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, tick by tick, the numbers of the lanes that move together, and their places.

    If every row of a call must have read equally many tokens (``aligned``), lanes move place by place. Else all begin
    together.
    """
    starts = np.zeros_like(begins) if aligned else begins
    enter, leave = begins - starts, ends - starts
    changes = np.unique(np.concatenate([enter, leave])).tolist()  # ticks at which the moving set changes
    for since, until in itertools.pairwise(changes):
        numbers = np.flatnonzero((enter <= since) & (since < leave))
        if len(numbers):
            for tick in range(since, until):
                yield numbers, starts[numbers] + tick


def blank_places(course: Course, at_a_time: int = 1, aligned: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the numbers of problems and their blank places, until all were named.

    Args:
        course: the course over the problems.
        at_a_time: the number of blank places that are joined; at least one place of each problem is.
        aligned: see ``lockstep``.
    """
    several: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for numbers, places in lockstep(course.begins, course.ends, aligned):
        blank = course.codes[numbers, places] < 0
        if not blank.any():
            continue
        if several and count + blank.sum() > at_a_time:
            yield np.concatenate([one for one, _ in several]), np.concatenate([one for _, one in several])
            several, count = [], 0
        several.append((numbers[blank], places[blank]))
        count += int(blank.sum())
    if several:
        yield np.concatenate([one for one, _ in several]), np.concatenate([one for _, one in several])
