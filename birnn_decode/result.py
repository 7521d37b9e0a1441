"""What a decode returns: hypotheses with all their terms, why the search stopped, and what it cost."""

from __future__ import annotations

import enum
import html
import math
from dataclasses import dataclass, field
from typing import Any

from birnn_decode.markup import shaded, table
from birnn_decode.posterior import Posterior
from birnn_decode.record import Record, plain


class StopReason(str, enum.Enum):
    """Tell why a search ended. A reason is equal to its name.

    Example:
        >>> StopReason.CONVERGED == "converged"
        True
    """

    # From the least settled to the most settled; see ``settled``.
    INTERRUPTED = "interrupted"
    BUDGET = "budget"
    MAX_ROUNDS = "max_rounds"
    CYCLE = "cycle"
    NO_GAIN = "no_gain"
    DEAD_END = "dead_end"
    CONVERGED = "converged"
    SINGLE_SWEEP = "single_sweep"
    PROVED = "proved"

    def __str__(self) -> str:
        return self.value

    def settled(self) -> int:
        """Return the rank of the reason, from the least settled to the most settled.

        Returns:
            The rank, from 0 for an interrupted search to 8 for a proof.
        """
        return list(StopReason).index(self)

    @property
    def advice(self) -> str:
        """What the reason means, and what you can do.

        Example:
            >>> StopReason.PROVED.advice
            'No other sentence that the template, the constraints and accept allow has a higher score.'
        """
        return _ADVICE[self]


_ADVICE = {
    StopReason.CONVERGED: "A round changed nothing: further rounds would give the same sentences. A larger beam may "
    "find better ones.",
    StopReason.CYCLE: "The beams of an earlier round came back: further rounds would repeat for ever. The best "
    "sentences of all rounds are returned. A larger beam often ends the cycle.",
    StopReason.NO_GAIN: "The last rounds found nothing better, or little was left to try. A larger beam may find a "
    "better sentence.",
    StopReason.MAX_ROUNDS: "The search used all its rounds, and the last round still changed the beams. The best "
    "sentences so far are returned. Raise max_rounds to continue.",
    StopReason.DEAD_END: "In one direction, every continuation had probability 0. The best sentences found before are "
    "returned, if there are any. Try a larger beam, or a template that the models find more probable.",
    StopReason.SINGLE_SWEEP: "The search has no rounds: each direction was searched once, without look-ahead.",
    StopReason.BUDGET: "The sweeps, rows or seconds allowed are used up. The best sentences so far are returned. Allow "
    "more to continue: sampling never ends by itself, and a proof may be close if the gap is small.",
    StopReason.PROVED: "No other sentence that the template, the constraints and accept allow has a higher score.",
    StopReason.INTERRUPTED: "The search was interrupted. The best sentences so far are returned, with an upper bound "
    "on the score of all other sentences.",
}


@dataclass(frozen=True)
class Hypothesis:
    """Hold one sentence and its log-probabilities under the models.

    All log-probabilities are in nats, over the full vocabulary: no constraint changes them. They are floats, or tensors
    of shape [] with an autograd graph if `score_sentences` was called with ``gradients=True``.

    Attributes:
        tokens: Ids of all words of the sentence, known words included, START and END left out.
        text: The sentence as text. What a text template says stands in it as it was written. None without a vocabulary.
        blanks: For each blank of the template, in sentence order, the ids of the words that fill it. A whole caption is
            one blank.
        score: The number that hypotheses are sorted by: J plus `Hypothesis.penalty`, after the length rule. In place of
            J, `BeamSearch` uses the log-probability under its own model, and a model with one softmax over both sides
            (`JointModel`) the terms of the pseudo-log-likelihood that the objective's ``scope`` counts.
        joint: J, the weighted sum of both models' log-probabilities over the terms that the objective's ``scope``
            counts, before the length rule. None if there is only one model, or the sentence is not finished.
        log_prob_forward: log P(sentence, END) under the forward model: the sum of
            `Hypothesis.token_log_probs_forward`. None without a forward model.
        log_prob_backward: log P(sentence, START) under the backward model: the sum of
            `Hypothesis.token_log_probs_backward`. None without a backward model.
        token_log_probs_forward: log P(word | all words before it) for each word in sentence order, then the term of
            END.
        token_log_probs_backward: log P(word | all words after it) for each word in sentence order, then the term of
            START.
        penalty: What score hooks and `Diversity` add to J in the score, in nats, before the length rule. No part of J.
        broken: Names of the constraints that the sentence violates. Some are violated only if the search found no
            sentence that satisfies all of them. If ``accept`` did not accept the sentence, the last name is that of the
            check, for example ``"accept:is_molecule"``.
        finished: False if a search for a whole caption reached ``max_length`` before the model wrote END. The
            log-probabilities then have no term of END.
        pseudo_log_prob: Pseudo-log-likelihood of the whole sentence: the sum of `Hypothesis.token_conditionals`. None
            except for a `JointModel` or another `JointScorer`.
        token_conditionals: log P(word | all other words of the sentence) for each word in sentence order. None
            except for a `JointModel` or another `JointScorer`.
        runs: For each blank of the template, where it begins and ends in the sentence, from 0. The words of `blanks`
            are those of ``tokens[begin:end]``.

    Example:
        >>> from birnn_decode import decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> best = decode(default_pair(), picture, "a small green circle _ _ _ _ a small purple triangle").best
        >>> best.text
        'a small green circle to the right of a small purple triangle'
        >>> round(best.joint, 2) == round(best.log_prob_forward + best.log_prob_backward, 2)
        True
    """

    tokens: tuple[int, ...]
    text: str | None
    blanks: tuple[tuple[int, ...], ...]
    score: float
    joint: float | None = None
    log_prob_forward: float | None = None
    log_prob_backward: float | None = None
    token_log_probs_forward: tuple[float, ...] | None = None
    token_log_probs_backward: tuple[float, ...] | None = None
    penalty: float = 0.0
    broken: tuple[str, ...] = ()
    finished: bool = True
    pseudo_log_prob: float | None = None
    token_conditionals: tuple[float, ...] | None = None
    runs: tuple[tuple[int, int], ...] = ()

    def _html(self) -> str:
        """Write the sentence with words shaded by their log-probability under both models, and blanks in bold."""
        terms = [
            own
            for own in (self.token_log_probs_forward, self.token_log_probs_backward, self.token_conditionals)
            if own is not None
        ]
        text = str(self.tokens) if self.text is None else self.text
        words, between = text.split(" "), " "
        if len(words) != len(self.tokens):
            words, between = [*text], ""
        if len(words) != len(self.tokens) or not terms:  # subwords
            return html.escape(text)
        log_probs = [math.fsum(float(own[place]) for own in terms) for place in range(len(words))]
        marked = {place for begin, end in self.runs for place in range(begin, end)}
        return shaded(words, log_probs, marked, between)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dict for JSON.

        Returns:
            The dict. Tuples become lists, and minus infinity becomes the string ``"-inf"``.

        Example:
            >>> Hypothesis((5, 7), "a dog", ((7,),), -1.5).to_dict()["blanks"]
            [[7]]
        """
        return plain(self)


@dataclass(frozen=True)
class Round:
    """Hold what one round of sweeps did.

    Round 0 of `BSCD` is the two beam searches that it starts from. A round of `Gibbs` is one sweep of every chain,
    and its rows include the rows that score the new sentences.

    Attributes:
        rows: Rows that the models evaluated in this round; see `DecodeResult.rows_evaluated`.
        new_sentences: Number of finished sentences that no earlier round had found.

    Example:
        >>> Round(rows=98, new_sentences=3).rows
        98
    """

    rows: int
    new_sentences: int


@dataclass(frozen=True)
class DecodeResult:
    """Hold the answer for one source and template.

    Attributes:
        hypotheses: The best sentences found, at most ``beam_size``, all different, highest score first. Of equal
            scores, the lower sequence of ids comes first. With ``accept``, all accepted sentences come before the
            others.
        stop: Why the search ended; ``stop.advice`` says it in a sentence. If several widths were searched, the reason
            of the width that was furthest from done.
        rounds: Number of rounds that were started, including the last one, which confirms that nothing changes. If
            several widths were searched, the largest number.
        rows_evaluated: Number of rows that the models evaluated for this item. A row is one token read by one
            hypothesis.
        signature: The method and its settings in one line, for a log or a paper's footnote.
        trace: One entry per round, round 0 first. Rows that are in ``rows_evaluated`` but in no round scored the last
            sentences, or belong to a proof.
        seconds: Wall-clock time of the search, for all items of a batch together. Not compared when results are
            compared.
        length_rule: Length rule of the scores, with ``"auto"`` resolved; see `Objective`.
        proved: True if no other sentence that the template and the constraints allow has a higher score than these
            hypotheses. Only `Exact` proves; False means that nothing was proved. With ``accept``, no other accepted
            sentence has a higher score than the accepted hypotheses. If hypotheses follow that were not accepted, there
            are no other accepted sentences, and these hypotheses are the best of the sentences not accepted. With
            `Diversity`, each group is the best that the groups before it leave.
        upper_bound: No sentence that the template, the constraints and ``accept`` allow has a score above this, in
            nats. None if there is no bound, -inf if there is no possible sentence. It equals the score of the best
            hypothesis if that one is accepted and proved to be the best.
        posterior: Probabilities of the hypotheses and of the words at the blank positions. None if the hypotheses are
            not ranked by the J of whole sentences: with a `JointModel`, `BeamSearch`, ``scope="blank"``, score hooks or
            `Diversity`. None, too, if there is no hypothesis, or if the hypotheses violate a constraint.
        record: What the search saw and kept. None without ``record=True``. Not compared when results are compared.

    Example:
        >>> from birnn_decode import decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> result = decode(default_pair(), picture, "a small green circle _ _ _ _ a small purple triangle")
        >>> result.stop, result.rounds, result.proved
        (<StopReason.CONVERGED: 'converged'>, 2, False)
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
    posterior: Posterior | None = None
    record: Record | None = field(default=None, compare=False, repr=False)

    @property
    def gap(self) -> float | None:
        """How much better than the best hypothesis another sentence may be, in nats.

        0 if the hypotheses are proved to be the best. None if there is no upper bound. inf if there is a bound, but no
        hypothesis that satisfies the constraints and is accepted by ``accept``.

        Example:
            >>> one = Hypothesis((5,), "a", ((5,),), -1.5)
            >>> DecodeResult((one,), StopReason.BUDGET, 2, 40, "exact", (), 0.1, "none", upper_bound=-1.0).gap
            0.5
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
            ValueError: There is no hypothesis.

        Example:
            >>> one = Hypothesis((5,), "a", ((5,),), -1.5)
            >>> DecodeResult((one,), StopReason.CONVERGED, 2, 40, "bscd", (), 0.1, "none").best.text
            'a'
        """
        if not self.hypotheses:
            raise ValueError(
                "no hypothesis: every sentence that the search found has probability 0 under a model that counts. "
                f"It stopped with {self.stop}: {self.stop.advice}"
            )
        return self.hypotheses[0]

    def _repr_html_(self) -> str:
        """Write the hypotheses as a table for a notebook."""
        rows = [
            [str(rank), one._html(), *_cells(one), "" if self.posterior is None else _share(self, rank - 1)]
            for rank, one in enumerate(self.hypotheses, 1)
        ]
        stop = f"{self.stop} after {self.rounds} round{'' if self.rounds == 1 else 's'}, {self.rows_evaluated} rows"
        return f"{table(['', 'sentence', *_HEADER, 'P'], rows)}<small>{html.escape(stop)}. {_SHADES}</small>"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, the advice and the gap as a dict for JSON.

        Returns:
            The dict. Tuples become lists, and infinities become the strings ``"inf"`` and ``"-inf"``.

        Example:
            >>> DecodeResult((), StopReason.DEAD_END, 0, 7, "bscd", (), 0.1, "none").to_dict()["stop"]
            'dead_end'
        """
        return {**plain(self), "stop": str(self.stop), "advice": self.stop.advice, "gap": plain(self.gap)}


class Compared(dict[str, DecodeResult]):
    """Hold the results of several methods, by the names of the methods.

    All are about one source and template. It is a dict, which a notebook shows as a table.

    Example:
        >>> one = Hypothesis((5,), "a", ((5,),), -1.5)
        >>> result = DecodeResult((one,), StopReason.CONVERGED, 2, 40, "bscd", (), 0.1, "none")
        >>> list(Compared(bscd=result))
        ['bscd']
    """

    def _repr_html_(self) -> str:
        """Write the best sentences as a table for a notebook."""
        rows = []
        for name, result in self.items():
            if result.hypotheses:
                best = result.best
                rows.append([html.escape(name), best._html(), *_cells(best), str(result.rows_evaluated)])
            else:
                rows.append([html.escape(name), f"<i>no sentence ({result.stop})</i>", *[""] * len(_HEADER), ""])
        return f"{table(['method', 'sentence', *_HEADER, 'rows'], rows)}<small>{_SHADES}</small>"


_HEADER = ("score", "J", "log P→", "log P←")
_SHADES = "A word is darker if the two models together find it less probable. The words in the blanks are in bold."


def _cells(one: Hypothesis) -> list[str]:
    """Return the numbers of a hypothesis."""
    joint = one.joint if one.joint is not None else one.pseudo_log_prob
    numbers = one.score, joint, one.log_prob_forward, one.log_prob_backward
    return ["" if number is None else f"{float(number):.2f}" for number in numbers]


def _share(result: DecodeResult, place: int) -> str:
    """Return the probability of a hypothesis."""
    assert result.posterior is not None
    return f"{result.posterior.hypotheses[place].estimate:.2f}"
