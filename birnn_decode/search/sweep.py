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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.search.problem import Direction, Problem
from birnn_decode.search.tree import Node
from birnn_decode.template import Position

NEVER = float("-inf")

Frontier: TypeAlias = "tuple[tuple[Node, ...], ...]"
"""The beams of a finished sweep, best first: before the first blank position, and after each position of the span."""


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
    beginnings = []
    for problem in problems:
        begin, end = direction.span(problem.template)
        if begin < end:
            beginnings.append((problem.item, _known(direction.reading_order(problem.template.positions)[:begin])))
    direction.tree.open(beginnings)


@dataclass(eq=False)
class _Lane:
    """One problem's way through a sweep.

    Attributes:
        problem: what is searched.
        reading: its positions in reading order.
        begin: the place, in reading order, of its first blank position.
        end: one past that of its last.
        beams: the frontier so far.
        ahead: the opposite direction's frontier, if there is a look-ahead.
    """

    problem: Problem
    reading: tuple[Position, ...]
    begin: int
    end: int
    beams: list[tuple[Node, ...]]
    ahead: Frontier | None

    def behind(self, place: int) -> tuple[Node, ...]:
        """The opposite beams that have read everything behind a place, and nothing else."""
        assert self.ahead is not None
        return self.ahead[self.end - 1 - place]


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
    tree = direction.tree
    weight = 1.0 if opposite is None else direction.weight
    lanes = []
    for number, problem in enumerate(problems):
        begin, end = direction.span(problem.template)
        reading = direction.reading_order(problem.template.positions)
        start = tree.find(problem.item, _known(reading[:begin]))
        lanes.append(_Lane(problem, reading, begin, end, [(start,)], ahead[number] if opposite else None))

    for tick in _lockstep(lanes, tree.aligned):
        alive = [(lane, place) for lane, place in tick if lane.beams[-1]]
        blank = [(lane, place) for lane, place in alive if not isinstance(lane.reading[place], int)]
        known = [
            (lane, [(node, token) for node in lane.beams[-1]])
            for lane, place in alive
            if isinstance(token := lane.reading[place], int)
        ]
        tree.read(
            [node for lane, _ in blank for node in lane.beams[-1]],
            follow=[pair for _, pairs in known for pair in pairs],
        )
        for lane, pairs in known:
            # The look-ahead is the same for all beams here, so every beam that is not impossible passes.
            passed = [tree.children[pair] for pair in pairs]
            if weight:
                passed = [child for child in passed if child.log_prob > NEVER]
                passed.sort(key=lambda child: -child.log_prob)
            lane.beams.append(tuple(passed))
        if blank:
            steer, banned = _steer(direction, opposite, blank, prior)
            chosen = choose(direction, [lane.beams[-1] for lane, _ in blank], weight, steer, banned, beam_size)
            for (lane, _), children in zip(blank, chosen, strict=True):
                lane.beams.append(children)
    return [tuple(lane.beams) if lane.beams[-1] else None for lane in lanes]


def choose(
    direction: Direction,
    beams: Sequence[Sequence[Node]],
    weight: float,
    steer: Array | None,
    banned: Sequence[int],
    beam_size: int,
) -> list[tuple[Node, ...]]:
    """The B best continuations of each beam, best first.

    Args:
        direction: whose tree the nodes are in.
        beams: for each problem at least one node, read.
        weight: of the prefix's log-probability.
        steer: [problems, vocab], added for every beam; None: nothing.
        banned: ids that are no candidates.
        beam_size: B.
    """
    tree = direction.tree
    widest = max(len(beam) for beam in beams)
    offsets = [
        [weight * node.offset if weight else 0.0 for node in beam] + [NEVER] * (widest - len(beam)) for beam in beams
    ]
    scores = tree.gather(_padded(beams, widest))  # [problems * beams, vocab]
    values, flats = tree.backend.best(scores, offsets, weight, steer, banned, beam_size)
    vocab_size = tree.scorer.vocab_size
    chosen = [
        [
            (beam[flat // vocab_size], flat % vocab_size)
            for value, flat in zip(row_values, row_flats, strict=True)
            if value > NEVER
        ]
        for beam, row_values, row_flats in zip(beams, values, flats, strict=True)
    ]
    tree.extend([pair for pairs in chosen for pair in pairs])
    return [tuple(tree.children[pair] for pair in pairs) for pairs in chosen]


def look_ahead(opposite: Direction, beams: Sequence[Sequence[Node]]) -> Array:
    """The g of each problem, [problems, vocab]: the best that the opposite beams can make of each token."""
    widest = max(len(beam) for beam in beams)
    offsets = [[node.offset for node in beam] + [NEVER] * (widest - len(beam)) for beam in beams]
    return opposite.tree.backend.max_over_beams(
        opposite.tree.gather(_padded(beams, widest)), offsets, opposite.weight
    )  # [problems, vocab]


def _steer(
    direction: Direction, opposite: Direction | None, blank: Sequence[tuple[_Lane, int]], prior: Prior | None
) -> tuple[Array | None, Sequence[int]]:
    """What is added to the candidates of each problem for every beam alike, [problems, vocab]; and the banned ids."""
    backend = direction.tree.backend
    steer = None
    if opposite is not None and opposite.weight:
        steer = backend.array(look_ahead(opposite, [lane.behind(place) for lane, place in blank]))
    banned: Sequence[int] = direction.banned
    allowed = [tokens if isinstance(tokens := lane.reading[place], frozenset) else None for lane, place in blank]
    if any(tokens is not None for tokens in allowed):
        # A set of allowed ids may name one that a blank never takes, so the ban goes into the masks.
        masks = backend.masks(allowed, banned, direction.tree.scorer.vocab_size)
        steer, banned = masks if steer is None else steer + masks, ()
    if opposite is not None and prior is not None:
        rows = [prior.at(direction.position(place, lane.problem.template)) for lane, place in blank]
        subtracted = backend.array(np.stack(rows))
        steer = -subtracted if steer is None else steer - subtracted
    return steer, banned


def _known(positions: Sequence[Position]) -> tuple[int, ...]:
    return tuple(token for token in positions if isinstance(token, int))


def _padded(beams: Sequence[Sequence[Node]], width: int) -> list[Node]:
    return [node for beam in beams for node in (*beam, *[beam[0]] * (width - len(beam)))]


def _lockstep(lanes: Sequence[_Lane], aligned: bool) -> Iterator[list[tuple[_Lane, int]]]:
    """Tick by tick, the (lane, place) pairs that move together.

    Where every row of a call must have read equally many tokens, they move place by place; else all begin
    together.
    """
    starts = [0 if aligned else lane.begin for lane in lanes]
    first = min((lane.begin - start for lane, start in zip(lanes, starts, strict=True)), default=0)
    last = max((lane.end - start for lane, start in zip(lanes, starts, strict=True)), default=0)
    for tick in range(first, last):
        moving = [(lane, start + tick) for lane, start in zip(lanes, starts, strict=True)]
        yield [(lane, place) for lane, place in moving if lane.begin <= place < lane.end]
