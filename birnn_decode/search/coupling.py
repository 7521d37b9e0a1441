"""Couplings: what a kind of models brings to a search.

A pair of models and a joint model are searched by the same algorithms. They differ in two things: how a prefix, a word
and the beams of the other direction are joined, and how finished sentences are scored. A ``Coupling`` answers both
questions. ``birnn_decode.search.pair`` and ``birnn_decode.search.joint`` implement it.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from birnn_decode.backend import Array
from birnn_decode.objective import Objective
from birnn_decode.search.chains import Chain
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking
from birnn_decode.search.halving import Splicing
from birnn_decode.search.holding import Demands, Problem
from birnn_decode.search.recorder import Recorder
from birnn_decode.search.sweep import Ahead


@dataclass(eq=False)
class Coupling(ABC):
    """The models of one search, opened.

    Attributes:
        directions: the directions that there are models for, forward first.
        objective: the objective.
        rules: the length rule of each item.
        demands: the constraints on sentences.
        combine: for a joint model, ``(left state, right state) -> scores [R, vocab]`` of the halves' states of R rows
            each; None: the halves' scores are added.
        recorder: what notes the search; None if there is no record.
        writes: whether one direction alone knows where a sentence ends.
        share: the share of a score hook's change that counts in each direction.
        every_score: whether the scores at known words are needed.
    """

    directions: tuple[Direction, ...]
    objective: Objective
    rules: Sequence[str | float]
    demands: Demands
    combine: Callable[[Any, Any], Array] | None = None
    recorder: Recorder | None = None

    writes: ClassVar[bool]
    share: ClassVar[float]
    every_score: ClassVar[bool]

    @property
    def items(self) -> int:
        """The number of items."""
        return len(self.rules)

    @functools.cached_property
    def ranking(self) -> Ranking:
        """The score of finished sentences under the objective."""
        return Ranking(self.weights, [self.objective.scope] * self.items, self.rules, self.demands)

    @property
    @abstractmethod
    def splicing(self) -> Splicing:
        """What finds good splices."""

    @property
    def weights(self) -> Mapping[Direction, float]:
        """The weight of each direction that counts."""
        return {direction: direction.weight for direction in self.directions if direction.weight}

    def rows(self, item: int) -> int:
        """Return the rows that have gone through the models for an item so far."""
        return sum(int(direction.tree.rows[item]) for direction in self.directions)

    def note(self, finalists: Sequence[Finalist]) -> None:
        """Note sentences that are ranked, if there is a record."""
        if self.recorder is not None:
            self.recorder.rank((one.item, one.words) for one in finalists)

    @abstractmethod
    def sweep(
        self, direction: Direction, problems: Sequence[Problem], beam_size: int, ahead: Ahead | None = None
    ) -> Sequence[Any]:
        """Sweep one direction over all problems; see ``birnn_decode.search.sweep.sweep``.

        Two frontiers are equal if their ``tobytes`` are. Entry -1 of a frontier is the beam after the last blank.
        """

    @abstractmethod
    def conditional(self, moving: Sequence[tuple[Chain, int]]) -> np.ndarray:
        """Return log-probabilities, up to a constant, of the words that chains draw at positions, [moving, vocab]."""

    @abstractmethod
    def rank(self, finalists: Sequence[Finalist], keep: int, more_follows: bool = False) -> list[list[Finalist]]:
        """Return the best distinct sentences of each item under the objective.

        Args:
            finalists: the finished sentences of all items.
            keep: the largest number of answers per item.
            more_follows: whether scores read here may be needed again.
        """

    @abstractmethod
    def rank_alone(
        self, direction: Direction, finalists: Sequence[Finalist], keep: int, ranking: Ranking
    ) -> list[list[Finalist]]:
        """Return the best distinct sentences of each item under one direction's own log-probability."""

    @abstractmethod
    def score(self, finalists: Sequence[Finalist], gradients: bool) -> None:
        """Score given sentences, each read to its end."""

    @abstractmethod
    def described(self, finalist: Finalist) -> dict[str, Any]:
        """Return the fields of a ``Hypothesis`` that hold log-probabilities."""

    @abstractmethod
    def signature(self, method: str, settings: Sequence[str], budget: Sequence[str]) -> list[str]:
        """Return the parts of a signature that name the method, its settings and the objective."""

    @staticmethod
    @abstractmethod
    def length_rule(objective: Objective, width: str, shortest: int) -> str | float:
        """Return the length rule of an item.

        Args:
            objective: the objective.
            width: ``"known"``, ``"range"`` or ``"whole"``; see ``Objective.length_rule``.
            shortest: the fewest words that the blanks may have.
        """
