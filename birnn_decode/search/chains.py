"""Chains of Gibbs sampling: sentences whose blanks are drawn one after the other."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import Problem
from birnn_decode.search.tree import Nodes


class Chain:
    """One sentence that is sampled.

    Args:
        problem: the problem whose blanks are drawn.
        directions: the forward and the backward direction.
        seed: the seed; the chains of one item have different ones.

    Attributes:
        problem: the problem whose blanks are drawn.
        words: the words, in sentence order; -1 for words not drawn yet.
        blanks: the blank positions.
        paths: for each direction the prefixes of the sentence that it has read, from the root on.
    """

    def __init__(self, problem: Problem, directions: Sequence[Direction], seed: Sequence[int]):
        self.problem = problem
        self.blanks = [at for at in range(len(problem.template)) if problem.template.undecided(at)]
        self._roots = {direction: int(direction.tree.roots[problem.item]) for direction in directions}
        # The template is part of the seed, so the draws of an item do not depend on the rest of its batch.
        positions = [sorted(at) if isinstance(at, frozenset) else at for at in problem.template.positions]
        self._random = np.random.default_rng([*seed, zlib.crc32(repr(positions).encode())])
        self.begin()

    def begin(self) -> None:
        """Forget all words drawn."""
        self.words = [position if isinstance(position, int) else -1 for position in self.problem.template.positions]
        self.paths: dict[Direction, list[int]] = {direction: [root] for direction, root in self._roots.items()}

    @property
    def complete(self) -> bool:
        """Whether every blank has a word."""
        return -1 not in self.words

    def schedule(self, scan: str, sweep: int) -> list[int]:
        """Return the positions that a sweep draws: left to right and back in turn, or as many at random.

        The first sweep of a chain goes left to right with either scan, because every blank needs a word first.
        """
        if not self.complete:
            return self.blanks
        if scan == "random":
            return [self.blanks[number] for number in self._random.integers(len(self.blanks), size=len(self.blanks))]
        return self.blanks if sweep % 2 == 0 else self.blanks[::-1]

    def draw(self, log_probs: np.ndarray) -> int | None:
        """Draw a token by log-probabilities up to a constant, [vocab]; None if all are impossible."""
        highest = log_probs.max()
        if highest == -math.inf:
            return None
        with np.errstate(over="ignore"):
            reach = np.cumsum(np.exp(log_probs - highest))
        # A draw at the very end is the last possible token, not one past it.
        return int(min(np.searchsorted(reach, self._random.random() * reach[-1], side="right"), np.argmax(reach)))

    def put(self, position: int, token: int) -> None:
        """Write a word, and forget the prefixes that have another word there."""
        if self.words[position] == token:
            return
        self.words[position] = token
        for direction, path in self.paths.items():
            del path[direction.position(position, len(self.words)) + 1 :]


def product(directions: Sequence[Direction], moving: Sequence[tuple[Chain, int]]) -> np.ndarray:
    """Return the weighted sum of both directions' scores; of the first direction alone while a chain begins."""
    total = np.zeros((len(moving), directions[0].tree.scorer.vocab_size))
    for direction in directions:
        # While a chain begins, only the first direction knows all words on its side.
        begins = float(direction is directions[0])
        weights = np.array([direction.weight if chain.complete else begins for chain, _ in moving])
        rows = np.flatnonzero(weights)
        nodes = read_up_to(direction, [moving[row] for row in rows.tolist()])
        if len(nodes):
            # A draw depends neither on the normaliser of a row nor on its prefix's log-probability, which may be -inf.
            scores = direction.tree.backend.numbers(direction.tree.gather(nodes))
            with np.errstate(over="ignore"):  # models mask with the lowest number there is
                total[rows] += weights[rows, None] * scores
    return total


def read_up_to(direction: Direction, asked: Sequence[tuple[Chain, int]]) -> Nodes:
    """Return the prefixes of all words before some positions, in reading order, with their scores."""
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
