"""What a finished sentence is worth: the joint log-probability J, and the score that hypotheses are sorted by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

REWARD = 0.25  # nats per word and unit of weight; this and the rule for whole captions: docs/results.md


@dataclass(frozen=True)
class Objective:
    """The log-linear product of both models over a finished sentence Y, in nats.

    ``J(Y) = weight_forward * log P_forward(Y) + weight_backward * log P_backward(Y)``, over the whole sentence, known
    words and END / START included (``scope="sentence"``), or over the terms of its blank positions alone
    (``scope="blank"``). The *score* that hypotheses are sorted by is J after the length rule. With equal weights this
    is the objective of Sun, Lee and Batra (CVPR 2017).

    Attributes:
        weight_forward: weight of the forward model; 0 drops its term altogether.
        weight_backward: weight of the backward model; 0 drops its term altogether.
        length: ``"none"``: J itself, which favours short sentences; ``"average"``: ``J / (words + 1)``; a number:
            ``J + number * words``, a reward in nats per word; ``"auto"``: ``"none"`` where the width is known; where
            a template has a range of widths, a reward of a quarter of a nat per word for each model, times its weight
            (with equal weights of 1, ``J + 0.5 * words``); for a whole caption, ``"average"``. Both were chosen on
            validation captions, see docs/results.md.
        scope: ``"sentence"`` or ``"blank"``. With ``"blank"`` and a width to be found, ``length="none"`` is refused: an
            empty blank would always win. It also wins with ``"average"`` wherever a width of 0 is allowed; a reward
            per word is the rule to use there.

    Raises:
        ValueError: a weight that is negative or not finite, both weights 0, or an unknown rule or scope.
    """

    weight_forward: float = 1.0
    weight_backward: float = 1.0
    length: str | float = "auto"
    scope: str = "sentence"

    def __post_init__(self) -> None:
        for name in ("weight_forward", "weight_backward"):
            weight = getattr(self, name)
            if not (isinstance(weight, Real) and math.isfinite(weight) and float(weight) >= 0):
                raise ValueError(f"{name}={weight!r}: a weight is a finite number, 0 or larger")
        if self.weight_forward == self.weight_backward == 0:
            raise ValueError("weight_forward and weight_backward are both 0: nothing is left to rank by")
        if isinstance(self.length, str):
            if self.length not in ("auto", "none", "average"):
                raise ValueError(f'length={self.length!r}: use "auto", "none", "average", or a reward per word in nats')
        elif not (isinstance(self.length, Real) and math.isfinite(self.length)):
            raise ValueError(f"length={self.length!r}: a reward per word is a finite number of nats")
        if self.scope not in ("sentence", "blank"):
            raise ValueError(f'scope={self.scope!r}: use "sentence" or "blank"')

    def length_rule(self, width: str, weight: float | None = None) -> str | float:
        """The rule in force: ``"auto"`` resolved.

        Args:
            width: ``"known"``; or what the search has to find: a ``"range"``, or that of a ``"whole"`` caption.
            weight: of all models that are ranked by together; None: the objective's.

        Raises:
            ValueError: blank-only scoring without a length rule where the width is for the search to find.
        """
        rule = self.length
        if rule == "auto":
            both = self.weight_forward + self.weight_backward
            reward = REWARD * (both if weight is None else weight)
            rules: dict[str, str | float] = {"known": "none", "range": reward, "whole": "average"}
            rule = rules[width]
        if rule == "none" and self.scope == "blank" and width != "known":
            raise ValueError(
                'scope="blank" with length="none" and a width to be found: the empty blank would always win. '
                "Use a reward per word, such as length=2.0"
            )
        return rule


def apply_length_rule(value: float, words: int, rule: str | float) -> float:
    """The score of a sentence of ``words`` words whose J is ``value``; see `Objective`."""
    if rule == "none":
        return value
    if rule == "average":
        return value / (words + 1)
    return value + float(rule) * words


def value_needed(score: float, words: int, rule: str | float) -> float:
    """The J that a sentence of ``words`` words needs for a score: what `apply_length_rule` undoes."""
    if rule == "none":
        return score
    if rule == "average":
        return score * (words + 1)
    return score - float(rule) * words


def total(terms: Sequence[Any]) -> Any:
    """The sum of log-probabilities: of numbers without rounding in between, of tensors with its graph."""
    if not terms or isinstance(terms[0], float):
        return math.fsum(terms)
    return sum(terms[1:], start=terms[0])
