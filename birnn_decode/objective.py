"""What a finished sentence is worth: the joint log-probability J, and the score that sorts hypotheses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from birnn_decode.checks import check_choice, check_number

REWARD = 0.25  # nats per word and unit of weight; docs/results.md has the measurements


@dataclass(frozen=True)
class Objective:
    """Define what a finished sentence is worth, in nats.

    The joint log-probability of a sentence Y is
    ``J(Y) = weight_forward * log P_forward(Y) + weight_backward * log P_backward(Y)``. Its terms are those of all
    words, known words included, and of END and START. With ``scope="blank"`` only the terms of the missing words count.
    The *score*, which sorts hypotheses, is J after the length rule. Equal weights give the objective of Sun, Lee and
    Batra (CVPR 2017).

    Args:
        weight_forward: Weight of the forward model, 0 or larger. A weight of 0 drops the model's term (default: 1).
        weight_backward: Weight of the backward model, 0 or larger. A weight of 0 drops the model's term (default: 1).
        length: Rule that makes sentences of different lengths comparable (default: ``"auto"``).

            - ``"none"``: the score is J. It favours short sentences.
            - ``"average"``: the score is ``J / (words + 1)``.
            - A number r: the score is ``J + r * words``. r is a reward in nats per word.
            - ``"auto"``: ``"none"`` if all sentences of the template have the same length. If a template has a range
              of widths, a reward of 0.25 nats per word and unit of weight, which is 0.5 with both weights at 1. For a
              whole caption, ``"average"``.
        scope: ``"sentence"``: J has the terms of the whole sentence. ``"blank"``: J has only the terms of the missing
            words. If the width of the blank is open, ``scope="blank"`` with ``length="none"`` is an error, because the
            empty blank would always win. With ``"average"`` it still wins if width 0 is allowed: use a reward per
            word (default: ``"sentence"``).

    Raises:
        TypeError: A weight or a reward is not a number, or a name is not text.
        ValueError: A weight is negative or not finite, both weights are 0, or a rule or scope is unknown.

    Example:
        >>> Objective(weight_backward=0.5, length=2.0)
        Objective(weight_forward=1.0, weight_backward=0.5, length=2.0, scope='sentence')
    """

    weight_forward: float = 1.0
    weight_backward: float = 1.0
    length: str | float = "auto"
    scope: str = "sentence"

    def __post_init__(self) -> None:
        for name in ("weight_forward", "weight_backward"):
            check_number(name, getattr(self, name), "a finite number, 0 or larger", least=0)
        if self.weight_forward == self.weight_backward == 0:
            raise ValueError("weight_forward and weight_backward must not both be 0: no term would be left to rank by.")
        if self.length not in ("auto", "none", "average"):
            what = '"auto", "none", "average" or a finite number of nats per word'
            if isinstance(self.length, str):
                raise ValueError(f"length must be {what}, got {self.length!r}.")
            check_number("length", self.length, what)
        check_choice("scope", self.scope, ("sentence", "blank"))

    def length_rule(self, width: str, weight: float | None = None) -> str | float:
        """Return the length rule in force, with ``"auto"`` resolved.

        Args:
            width: ``"known"``: all sentences have the same length. ``"range"``: the template has a range of widths.
                ``"whole"``: the length of a whole caption is open.
            weight: Sum of the weights of the models that rank the sentences (default: the sum of both weights).

        Returns:
            ``"none"``, ``"average"``, or a reward in nats per word.

        Raises:
            ValueError: The scope is ``"blank"``, the width is open, and the rule is ``"none"``.

        Example:
            >>> Objective().length_rule("range")
            0.5
        """
        rule = self.length
        if rule == "auto":
            weight = self.weight_forward + self.weight_backward if weight is None else weight
            rules: dict[str, str | float] = {"known": "none", "range": REWARD * weight, "whole": "average"}
            rule = rules[width]
        if rule == "none" and self.scope == "blank" and width != "known":
            raise ValueError(
                'scope="blank" with length="none" needs a known width: the empty blank would always win. '
                "Use a reward per word, such as length=2.0."
            )
        return rule


def apply_length_rule(value: float, words: int, rule: str | float) -> float:
    """Return the score of a sentence of ``words`` words whose J is ``value``; see `Objective`."""
    if rule == "average":
        return value / (words + 1)
    return value if rule == "none" else value + float(rule) * words


def value_needed(score: float, words: int, rule: str | float) -> float:
    """Return the J that a sentence of ``words`` words needs to reach ``score``: the inverse of `apply_length_rule`."""
    if rule == "average":
        return score * (words + 1)
    return score if rule == "none" else score - float(rule) * words


def total(terms: Sequence[Any]) -> Any:
    """Return the sum of log-probabilities: of floats rounded only once, of tensors with their graph."""
    if not terms or isinstance(terms[0], float):
        return math.fsum(terms)
    return sum(terms[1:], start=terms[0])
