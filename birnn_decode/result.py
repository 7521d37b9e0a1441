"""What a decode returns: hypotheses with all their terms, why the search stopped, and what it cost."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, fields
from typing import Any


class StopReason(str, enum.Enum):
    """Why a search ended. Compares equal to its name: ``result.stop == "converged"``."""

    CONVERGED = "converged"
    CYCLE = "cycle"
    MAX_ROUNDS = "max_rounds"
    DEAD_END = "dead_end"
    SINGLE_SWEEP = "single_sweep"
    BUDGET = "budget"
    PROVED = "proved"
    INTERRUPTED = "interrupted"

    def __str__(self) -> str:
        return self.value

    @property
    def advice(self) -> str:
        """What the reason means and what one may do about it."""
        return _ADVICE[self]


_ADVICE = {
    StopReason.CONVERGED: "A round changed nothing: more rounds would not either. A larger beam may still find more.",
    StopReason.CYCLE: "The beams came back to an earlier round's and would go round for ever; the best sentence of all "
    "rounds is returned. A larger beam often settles.",
    StopReason.MAX_ROUNDS: "The last round allowed was over before a round changed nothing; the best sentence so far "
    "is returned. Raise max_rounds to go on.",
    StopReason.DEAD_END: "A sweep had no continuation with a probability above 0 left; the best sentence met before is "
    "returned, if any. A larger beam, or a template that the models find less impossible, helps.",
    StopReason.SINGLE_SWEEP: "Searched without look-ahead, each direction by itself.",
    StopReason.BUDGET: "The sweeps, rows or seconds allowed are used up; the best sentence so far is returned. Allow "
    "more to go on: sampling has no end of its own, and a proof may be near where the gap is small.",
    StopReason.PROVED: "No sentence that the template allows has a higher score than those returned.",
    StopReason.INTERRUPTED: "The search was interrupted; the best sentence so far is returned, with a bound of the "
    "score that any other may have.",
}


@dataclass(frozen=True)
class Hypothesis:
    """A sentence and what the models say of it. All log-probabilities are in nats, over the full vocabulary.

    They are numbers, or tensors [] with a graph where `score_sentences` was asked for gradients.

    Attributes:
        tokens: the ids of the sentence's words, known ones included; START and END left out.
        text: the sentence, decoded by the vocabulary, with what a text template said in its own letters; None without
            a vocabulary.
        blanks: one tuple of ids per blank of the template, in sentence order; a whole caption is one blank.
        score: what the hypothesis is ranked by: J after weights, scope, penalty and length rule; for `beam_decode` the
            one model's own log-probability instead of J; for `joint_decode` the part of the pseudo-log-likelihood that
            the objective's scope counts.
        joint: J, the value of the objective before the length rule; None unless both models were given and the
            sentence is finished.
        log_prob_forward: log P of the whole sentence, END included, under the forward model; None where that model
            was not given. It is the sum of ``token_log_probs_forward``.
        log_prob_backward: the same of the backward model, its START included.
        token_log_probs_forward: one term per word, in sentence order, then the term of END.
        token_log_probs_backward: one term per word, in sentence order, then the term of START.
        pseudo_log_prob: the pseudo-log-likelihood of the whole sentence, the sum of ``token_conditionals``; None unless
            a model with one softmax over both sides was given.
        token_conditionals: for each word, in sentence order, its log-probability given all other words of the
            sentence; None where ``pseudo_log_prob`` is.
        penalty: what score hooks and `Diversity` add to J in ``score``, before the length rule, in nats; no part of J.
        broken: the constraints that it breaks, by name: the search found no sentence that satisfies them all.
        finished: False for a free search's hypothesis that reached the maximum length without END; its
            log-probability and terms then leave END out.
    """

    tokens: tuple[int, ...]
    text: str | None
    blanks: tuple[tuple[int, ...], ...]
    score: float
    joint: float | None
    log_prob_forward: float | None
    log_prob_backward: float | None
    token_log_probs_forward: tuple[float, ...] | None
    token_log_probs_backward: tuple[float, ...] | None
    penalty: float = 0.0
    broken: tuple[str, ...] = ()
    finished: bool = True
    pseudo_log_prob: float | None = None
    token_conditionals: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; a log-probability of minus infinity becomes the string ``"-inf"``."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}


@dataclass(frozen=True)
class Round:
    """What one round of sweeps did; round 0 is the two beam searches that BSCD starts from.

    For Gibbs sampling a round is one sweep of every chain, and its rows include scoring what was drawn.

    Attributes:
        rows: rows that went through the models for it (see `DecodeResult.rows_evaluated`).
        new_sentences: finished sentences that no earlier round had met.
    """

    rows: int
    new_sentences: int


@dataclass(frozen=True)
class DecodeResult:
    """The answer to one item.

    Attributes:
        hypotheses: at most ``beam_size``, best first, distinct; equal scores: the lower sequence of ids first.
        stop: why the search ended. With several widths: the reason of the width that was furthest from settled.
        rounds: rounds of sweeps that were begun, the confirming one included; with several widths, the most.
        rows_evaluated: rows that went through the models for this item; a row is one token read by one hypothesis.
        signature: the method and its settings, for a paper's footnote or a log.
        trace: one entry per round, round 0 first; the rows that are missing to ``rows_evaluated`` scored the finalists,
            or went into the proof.
        seconds: wall-clock time of the search, of all items of its batch together; no part of what makes results equal.
        length_rule: the length rule that scores are made with, ``"auto"`` resolved; see `Objective`.
        proved: whether the hypotheses are the best of all sentences that the template allows and the constraints leave;
            False where nobody has looked, as in all searches but `exact_decode`'s. With `Diversity`: whether those of
            each group are the best that the groups before it leave.
        upper_bound: no such sentence has a score above this (nats); that of the best hypothesis where it is known to be
            the best of all, though the others may not be; -inf where there is none that is possible. None where there
            is no bound.
    """

    hypotheses: tuple[Hypothesis, ...]
    stop: StopReason
    rounds: int
    rows_evaluated: int
    signature: str
    trace: tuple[Round, ...]
    seconds: float = field(compare=False)
    length_rule: str | float
    proved: bool = False
    upper_bound: float | None = None

    @property
    def gap(self) -> float | None:
        """How far the score of the best sentence may be above that of the best hypothesis, in nats; 0: it is the best.

        None where there is no bound; inf where there is one, and no hypothesis that satisfies the constraints.
        """
        if self.upper_bound is None:
            return None
        if self.proved:
            return 0.0
        if not self.hypotheses or self.best.broken:
            return math.inf
        return self.upper_bound - self.best.score

    @property
    def best(self) -> Hypothesis:
        """The first hypothesis.

        Raises:
            ValueError: there is none.
        """
        if not self.hypotheses:
            raise ValueError(
                "no hypothesis: every sentence that the search met has probability 0 under a model that counts. "
                f"It stopped with {self.stop}: {self.stop.advice}"
            )
        return self.hypotheses[0]

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {
            "hypotheses": [hypothesis.to_dict() for hypothesis in self.hypotheses],
            "stop": str(self.stop),
            "advice": self.stop.advice,
            "rounds": self.rounds,
            "rows_evaluated": self.rows_evaluated,
            "signature": self.signature,
            "trace": [{"rows": entry.rows, "new_sentences": entry.new_sentences} for entry in self.trace],
            "seconds": self.seconds,
            "length_rule": self.length_rule,
            "proved": self.proved,
            "upper_bound": _plain(self.upper_bound),
            "gap": _plain(self.gap),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "detach"):  # scored with gradients
        value = value.detach().item()
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
