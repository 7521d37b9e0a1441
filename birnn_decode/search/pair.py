"""A pair of models in a search: two distributions, joined by a weighted sum of their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from birnn_decode.objective import Objective, total
from birnn_decode.search.chains import Chain, product
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking, rank_finalists
from birnn_decode.search.halving import Splicing
from birnn_decode.search.holding import Problem
from birnn_decode.search.scoring import score_given
from birnn_decode.search.sweep import Ahead, Frontier, sweep


class PairCoupling(Coupling):
    """A forward and a backward model, or one of them. Finished sentences are ranked by J; see `Objective`."""

    writes = True
    share = 1.0
    every_score = False

    def sweep(
        self, direction: Direction, problems: Sequence[Problem], beam_size: int, ahead: Ahead | None = None
    ) -> list[Frontier | None]:
        """Sweep one direction over all problems."""
        return sweep(direction, problems, beam_size, ahead, self.recorder)

    @property
    def splicing(self) -> Splicing:
        """What finds good splices."""
        return Splicing(self.directions, self.ranking)

    def conditional(self, moving: Sequence[tuple[Chain, int]]) -> np.ndarray:
        """Return the weighted sums of both models' log-probabilities, [moving, vocab]."""
        return product(self.directions, moving)

    def rank(self, finalists: Sequence[Finalist], keep: int, more_follows: bool = False) -> list[list[Finalist]]:
        """Return the best sentences of each item by J."""
        self.note(finalists)
        return rank_finalists(finalists, self.items, self.directions, self.ranking, keep, more_follows)

    def rank_alone(
        self, direction: Direction, finalists: Sequence[Finalist], keep: int, ranking: Ranking
    ) -> list[list[Finalist]]:
        """Return the best sentences of each item; the other model only scores the answers."""
        self.note(finalists)
        return rank_finalists(finalists, self.items, self.directions, ranking, keep)

    def score(self, finalists: Sequence[Finalist], gradients: bool) -> None:
        """Score given sentences with J and its terms."""
        for direction in self.directions:
            words = [direction.words_in_reading_order(one.words) for one in finalists]
            terms = score_given(direction.tree, [one.item for one in finalists], words, gradients)
            for finalist, own in zip(finalists, terms, strict=True):
                finalist.terms[direction] = own
        for finalist in finalists:
            finalist.score = self.ranking.score(finalist)

    def described(self, finalist: Finalist) -> dict[str, Any]:
        """Return J, both log-probabilities and their terms in sentence order."""
        has_joint = len(self.directions) > 1 and finalist.finished
        fields: dict[str, Any] = {"joint": self.ranking.value(finalist) if has_joint else None}
        words = len(finalist.words)
        for direction in self.directions:
            own, name = tuple(finalist.terms[direction]), direction.tree.name
            fields[f"log_prob_{name}"] = total(own)
            fields[f"token_log_probs_{name}"] = own[:words][::-1] + own[words:] if direction.reverse else own
        return fields

    def signature(self, method: str, settings: Sequence[str], budget: Sequence[str]) -> list[str]:
        """Return the method, its settings and the objective; a beam search by one model has no objective."""
        if method.startswith("urnn"):
            return [*settings]
        weights = f"weights:{self.objective.weight_forward:g},{self.objective.weight_backward:g}"
        return [method, *settings, weights, f"scope:{self.objective.scope}", *budget]

    @staticmethod
    def length_rule(objective: Objective, width: str, shortest: int) -> str | float:
        """Return the rule of the objective."""
        return objective.length_rule(width)
