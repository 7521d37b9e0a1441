"""Gibbs sampling of blanks: what one does with two models that look at a word from both sides and cannot search.

A chain holds a whole sentence. One blank position after the other is drawn anew, given all other words, from the
product of what both models make of its side (generative stochastic networks as Berglund et al., Bidirectional Recurrent
Neural Networks as Generative Models, NeurIPS 2015, fill gaps):

    p(w_t | rest)  ∝  p→(w_t | w_<t) ^ λ→  ·  p←(w_t | w_>t) ^ λ←

The sentences that a chain comes by are ranked by J as every method's are.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from birnn_decode.constraints import UNDECIDED
from birnn_decode.search.holding import weighed
from birnn_decode.search.problem import Direction, Problem
from birnn_decode.search.tree import Nodes

SCANS = ("ordered", "random")


class Chain:
    """One sentence on its way.

    Args:
        problem: whose blanks are drawn.
        directions: the forward and the backward one.
        seed: chains of one item have different ones.

    Attributes:
        problem: whose blanks are drawn.
        words: in sentence order; -1 where nothing has been drawn yet.
        blanks: the blank positions.
        paths: for each direction the prefixes of the sentence that it has read, from the root on.
    """

    def __init__(self, problem: Problem, directions: Sequence[Direction], seed: Sequence[int]):
        self.problem = problem
        self.blanks = [at for at in range(len(problem.template)) if problem.template.undecided(at)]
        self._roots = {direction: int(direction.tree.roots[problem.item]) for direction in directions}
        # The template is part of the seed: what is drawn for an item depends on nothing else of its batch.
        positions = [sorted(at) if isinstance(at, frozenset) else at for at in problem.template.positions]
        self._random = np.random.default_rng([*seed, zlib.crc32(repr(positions).encode())])
        self.begin()

    def begin(self) -> None:
        """Forget what has been drawn."""
        self.words = [position if isinstance(position, int) else -1 for position in self.problem.template.positions]
        self.paths: dict[Direction, list[int]] = {direction: [root] for direction, root in self._roots.items()}

    @property
    def complete(self) -> bool:
        """Whether every blank holds a word."""
        return -1 not in self.words

    def schedule(self, scan: str, sweep: int) -> list[int]:
        """The positions that a sweep draws: left to right and back by turns, or as many at random.

        A sweep that begins a chain goes left to right, whatever the scan: every blank needs a word first.
        """
        if not self.complete:
            return self.blanks
        if scan == "random":
            return [self.blanks[number] for number in self._random.integers(len(self.blanks), size=len(self.blanks))]
        return self.blanks if sweep % 2 == 0 else self.blanks[::-1]

    def draw(self, log_probs: np.ndarray) -> int | None:
        """A token by its log-probability, up to a constant, [vocab]; None where all are impossible."""
        highest = log_probs.max()
        if highest == -math.inf:
            return None
        with np.errstate(over="ignore"):
            reach = np.cumsum(np.exp(log_probs - highest))
        # A draw that falls on the very end is the last possible token, not one past it.
        return int(min(np.searchsorted(reach, self._random.random() * reach[-1], side="right"), np.argmax(reach)))

    def put(self, position: int, token: int) -> None:
        """Write a word; the prefixes that had another one there are no longer the sentence's."""
        if self.words[position] == token:
            return
        self.words[position] = token
        for direction, path in self.paths.items():
            del path[direction.position(position, len(self.words)) + 1 :]


Conditional: TypeAlias = Callable[[Sequence[Direction], Sequence[tuple[Chain, int]]], np.ndarray]


def gibbs(
    directions: Sequence[Direction],
    problems: Sequence[Problem],
    chains: int,
    *,
    scan: str,
    sweeps: int,
    restart_after: int,
    seed: int,
    met: Callable[[Sequence[tuple[Problem, tuple[int, ...]]]], Sequence[bool]],
    conditional: Conditional | None = None,
) -> None:
    """Sample all problems in one batch.

    Args:
        directions: both; the first begins the chains, which at first have nothing on the other side.
        problems: whose blanks are drawn.
        chains: per problem, side by side.
        scan: ``"ordered"`` or ``"random"``: which position comes next.
        sweeps: of each chain, at most; a sweep draws as many words as the problem has blank positions.
        restart_after: so many sweeps after its first a chain begins anew.
        seed: of everything that is drawn.
        met: called after each sweep with the sentences, in sentence order, that the chains have come to; says for each
            item whether it goes on.
        conditional: the log-probabilities, up to a constant for each row, [moving, vocab], of the words to be drawn by
            some chains at some positions, [moving]; None: those of the product of both directions.
    """
    going = [Chain(problem, directions, (seed, number)) for problem in problems for number in range(chains)]
    for sweep in range(sweeps):
        since_begin = sweep % (restart_after + 1)
        for chain in going:
            if not since_begin:
                chain.begin()
        schedules = [chain.schedule(scan, since_begin) for chain in going]
        for tick in range(max((len(schedule) for schedule in schedules), default=0)):
            moving = [(chain, plan[tick]) for chain, plan in zip(going, schedules, strict=True) if tick < len(plan)]
            _draw(directions, moving, conditional or product)
        goes_on = met([(chain.problem, tuple(chain.words)) for chain in going if chain.complete])
        going = [chain for chain in going if goes_on[chain.problem.item]]
        if not going:
            break


def _draw(directions: Sequence[Direction], moving: Sequence[tuple[Chain, int]], conditional: Conditional) -> None:
    """Draw one word of each chain."""
    # Where a word could not be drawn, the chain waits for its next beginning.
    moving = [(chain, at) for chain, at in moving if -1 not in chain.words[:at]]
    banned = list(directions[0].banned)
    chances = conditional(directions, moving)
    hooked = [row for row, (chain, _) in enumerate(moving) if chain.problem.held and chain.problem.held.hooks]
    for direction in directions if hooked else ():
        rows = [row for row in hooked if moving[row][0].complete or direction is directions[0]]
        nodes = read_up_to(direction, [moving[row] for row in rows])
        for row, node in zip(rows, nodes.tolist(), strict=True):
            chain, at = moving[row]
            assert chain.problem.held is not None
            change = chain.problem.held.change(direction, node, at)
            chances[row] += weighed(change, direction.weight if chain.complete else 1.0)
    for (chain, at), log_probs in zip(moving, chances, strict=True):
        allowed, held = chain.problem.template.positions[at], chain.problem.held
        ruled_out = banned
        if isinstance(allowed, frozenset):
            ruled_out = sorted(frozenset(range(len(log_probs))) - allowed)
        log_probs[ruled_out] = -math.inf
        token = None
        if held is not None:
            for word, cost in held.cost(at).items():
                log_probs[word] -= cost
            others = [*chain.words[:at], UNDECIDED, *chain.words[at + 1 :]]
            flags = held.ruled_out(others, at).flags(len(log_probs))
            token = chain.draw(np.where(flags, -math.inf, log_probs))
        if token is None:  # what breaks a constraint may be mended by the next words
            token = chain.draw(log_probs)
        if token is not None:
            chain.put(at, token)


def product(directions: Sequence[Direction], moving: Sequence[tuple[Chain, int]]) -> np.ndarray:
    """The weighted sum of both directions' scores; of the first alone where a chain is being begun."""
    total = np.zeros((len(moving), directions[0].tree.scorer.vocab_size))
    for direction in directions:
        # As long as a chain is being begun, only the first direction knows all words on its side.
        begins = float(direction is directions[0])
        weights = np.array([direction.weight if chain.complete else begins for chain, _ in moving])
        rows = np.flatnonzero(weights)
        nodes = read_up_to(direction, [moving[row] for row in rows.tolist()])
        if len(nodes):
            # Neither what normalises a row nor what its prefix is worth, which may be -inf, matters to a draw from it.
            scores = direction.tree.backend.numbers(direction.tree.gather(nodes))
            with np.errstate(over="ignore"):  # models mask with the lowest number there is
                total[rows] += weights[rows, None] * scores
    return total


def read_up_to(direction: Direction, asked: Sequence[tuple[Chain, int]]) -> Nodes:
    """The prefixes that hold everything before some positions, in reading order, with their scores."""
    places = [direction.position(at, len(chain.words)) for chain, at in asked]
    while True:
        behind = [
            (chain, place)
            for (chain, _), place in zip(asked, places, strict=True)
            if len(chain.paths[direction]) <= place
        ]
        if not behind:
            break
        paths = [chain.paths[direction] for chain, _ in behind]
        words = [
            chain.words[direction.position(len(path) - 1, len(chain.words))]
            for (chain, _), path in zip(behind, paths, strict=True)
        ]
        children = direction.tree.extend(np.array([path[-1] for path in paths]), np.array(words))
        for path, child in zip(paths, children.tolist(), strict=True):
            path.append(child)
    nodes = np.array([chain.paths[direction][place] for (chain, _), place in zip(asked, places, strict=True)], np.int64)
    direction.tree.read(nodes)
    return nodes
