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
    spans = [direction.span(problem.template) for problem in problems]
    readings = [direction.reading_order(problem.template.positions) for problem in problems]
    beams: list[list[tuple[Node, ...]]] = []
    for problem, reading, (begin, _) in zip(problems, readings, spans, strict=True):
        beams.append([(tree.find(problem.item, _known(reading[:begin])),)])

    for tick in _lockstep(spans, tree.aligned):
        alive = [(number, position) for number, position in tick if beams[number][-1]]
        given, blank = {}, {}
        for number, position in alive:
            token = readings[number][position]
            if isinstance(token, int):
                given[number] = [(node, token) for node in beams[number][-1]]
            else:
                blank[number] = position
        tree.read(
            [node for number in blank for node in beams[number][-1]],
            follow=[pair for pairs in given.values() for pair in pairs],
        )
        for number, pairs in given.items():
            # The look-ahead is the same for all beams here, so every beam that is not impossible passes.
            children = [tree.children[pair] for pair in pairs]
            if weight:
                children = [child for child in children if child.log_prob > NEVER]
                children.sort(key=lambda child: -child.log_prob)
            beams[number].append(tuple(children))
        if blank:
            steer, banned = _steer(direction, problems, readings, spans, blank, opposite, ahead, prior)
            chosen = choose(direction, [beams[number][-1] for number in blank], weight, steer, banned, beam_size)
            for number, pairs in zip(blank, chosen, strict=True):
                beams[number].append(tuple(tree.children[pair] for pair in pairs))
    return [tuple(beam) if beam[-1] else None for beam in beams]


def choose(
    direction: Direction,
    beams: Sequence[Sequence[Node]],
    weight: float,
    steer: Array | None,
    banned: Sequence[int],
    beam_size: int,
) -> list[list[tuple[Node, int]]]:
    """The B best continuations of each beam of read nodes, best first; their children are in the tree afterwards.

    Args:
        direction: whose tree the nodes are in.
        beams: for each problem at least one node, with scores.
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
    values, places = tree.backend.best(scores, offsets, weight, steer, banned, beam_size)
    chosen = []
    for beam, row_values, row_places in zip(beams, values, places, strict=True):
        found = [
            divmod(place, scores.shape[-1])
            for value, place in zip(row_values, row_places, strict=True)
            if value > NEVER
        ]
        chosen.append([(beam[number], token) for number, token in found])
    tree.read((), follow=[pair for pairs in chosen for pair in pairs])
    return chosen


def look_ahead(opposite: Direction, beams: Sequence[Sequence[Node]]) -> Array:
    """The g of each problem, [problems, vocab]: the best that the opposite beams can make of each token."""
    widest = max(len(beam) for beam in beams)
    offsets = [[node.offset for node in beam] + [NEVER] * (widest - len(beam)) for beam in beams]
    return opposite.tree.backend.max_over_beams(
        opposite.tree.gather(_padded(beams, widest)), offsets, opposite.weight
    )  # [problems, vocab]


def _steer(
    direction: Direction,
    problems: Sequence[Problem],
    readings: Sequence[tuple[Position, ...]],
    spans: Sequence[tuple[int, int]],
    blank: dict[int, int],
    opposite: Direction | None,
    ahead: Sequence[Frontier],
    prior: Prior | None,
) -> tuple[Array | None, Sequence[int]]:
    """What is added to the candidates of each problem for every beam alike, [problems, vocab]; and the banned ids."""
    backend = direction.tree.backend
    steer = None
    if opposite is not None and opposite.weight:
        # The opposite beams that have everything behind this position, and nothing else.
        behind = [ahead[number][spans[number][1] - 1 - position] for number, position in blank.items()]
        steer = backend.array(look_ahead(opposite, behind))
    banned: Sequence[int] = direction.banned
    allowed = [token if isinstance(token, frozenset) else None for token in (readings[n][p] for n, p in blank.items())]
    if any(tokens is not None for tokens in allowed):
        # A set of allowed ids may name one that a blank never takes, so the ban goes into the masks.
        masks = backend.masks(allowed, banned, direction.tree.scorer.vocab_size)
        steer, banned = masks if steer is None else steer + masks, ()
    if opposite is not None and prior is not None:
        positions = [
            len(problems[number].template) - 1 - position if direction.reverse else position
            for number, position in blank.items()
        ]
        subtracted = backend.array(np.stack([prior.at(position) for position in positions]))
        steer = -subtracted if steer is None else steer - subtracted
    return steer, banned


def _known(positions: Sequence[Position]) -> tuple[int, ...]:
    return tuple(token for token in positions if isinstance(token, int))


def _padded(beams: Sequence[Sequence[Node]], width: int) -> list[Node]:
    return [node for beam in beams for node in (*beam, *[beam[0]] * (width - len(beam)))]


def _lockstep(spans: Sequence[tuple[int, int]], aligned: bool) -> Iterator[list[tuple[int, int]]]:
    """Tick by tick, the (problem, position) pairs that move together.

    Where every row of a call must have read equally many tokens, they move position by position; else all begin
    together.
    """
    starts = [0 if aligned else begin for begin, _ in spans]
    first = min((begin - start for (begin, _), start in zip(spans, starts, strict=True)), default=0)
    last = max((end - start for (_, end), start in zip(spans, starts, strict=True)), default=0)
    for tick in range(first, last):
        yield [
            (number, start + tick)
            for number, ((begin, end), start) in enumerate(zip(spans, starts, strict=True))
            if begin <= start + tick < end
        ]
