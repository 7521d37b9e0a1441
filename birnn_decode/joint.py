"""The front door for models with one softmax over both sides: see `birnn_decode.search.joint` for what is computed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from birnn_decode.call import (
    BACKWARD,
    FORWARD,
    SWEEPS,
    Call,
    Constraints,
    Lengths,
    Sampling,
    Templates,
    check_count,
    check_methods,
    checked_rows,
)
from birnn_decode.constraints import Diversity
from birnn_decode.objective import Objective, apply_length_rule, total
from birnn_decode.result import DecodeResult, Hypothesis, Round, StopReason
from birnn_decode.scorers.joint import halves_of
from birnn_decode.search.bscd import bscd
from birnn_decode.search.joint import (
    Coupling,
    JointFinalist,
    JointRanking,
    best_distinct,
    rank_joint,
    read_all,
    score_and_forget,
    score_finalists,
)
from birnn_decode.search.sweep import open_templates, sweep
from birnn_decode.template import MAX_WIDTH, FixedTemplate, Vocabulary

JOINT_METHODS = ("birnn-f", "birnn-b", "birnn-rerank", "birnn-gibbs", "birnn-bscd")


def joint_decode(
    model: Any,
    image: Any,
    template: Templates = None,
    *,
    beam_size: int = 5,
    max_rounds: int = 10,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    widths: Collection[int] | None = None,
    memory_limit: int | None = None,
) -> Any:
    """Search with a model that has one softmax over both sides: Beam-Search Coordinate Descent with a joint splice.

    Both halves' beams begin as classical beam searches of each half by itself. Then sweeps take turns, in which a
    prefix b, a word v and the other half's beam b' are joined by log p(v | b, b') and not by a sum of two
    log-probabilities. Every sentence met is ranked by its exact pseudo-log-likelihood, the sum over its words of the
    log-probability of each given all others.

    Args:
        model: a `JointScorer`, such as a `birnn_decode.models.BiRNN`.
        image: as for `bscd_decode`.
        template: as for `bscd_decode`. None, a whole caption, needs ``widths``: such a model does not say where a
            sentence ends.
        beam_size: B, prefixes kept per position and hypotheses returned.
        max_rounds: rounds of a left-to-right and a right-to-left sweep; 0 leaves it at the two beam searches.
        objective: its ``scope`` says whether the words of blank positions count or those of the whole sentence, its
            ``length`` how widths are compared; ``"auto"`` is ``"none"``, and ``"average"`` where the width is to be
            found and the words of blanks alone count, of which the fewest would always win (an empty blank wins all the
            same, so that a rule must be given where a width of 0 is allowed).
            Its weights are those of two models' log-probabilities, which there are not: they stay 1.
        vocabulary: as for `bscd_decode`.
        constraints: as for `bscd_decode`. A score hook is given what each half says by itself, and half of what it
            changes there counts, so that what it takes off the scores of both is taken off the word's one term.
        diversity: as for `bscd_decode`.
        widths: whole captions only: the lengths to search.
        memory_limit: as for `bscd_decode`.

    Returns:
        as `bscd_decode`. A hypothesis has ``pseudo_log_prob`` and ``token_conditionals``, and no J. The search begins
        with what each half makes of the template by itself: where one finds its known words impossible, ``stop`` is
        ``"dead_end"``, whatever the two together would say.

    Raises:
        TypeError, ValueError: something given cannot be right; the message says what would be. Also ValueError where a
            half, or ``combine``, returns NaN or +inf.
    """
    check_count("max_rounds", max_rounds, least=0)
    call = _JointCall(
        model, image, template, beam_size, objective, vocabulary, widths, memory_limit, constraints, diversity
    )
    return call.answer(call.in_groups(lambda part: part.search_jointly("birnn-bscd", max_rounds)))


def joint_gibbs_decode(
    model: Any,
    image: Any,
    template: Templates = None,
    *,
    beam_size: int = 5,
    sweeps: int = SWEEPS,
    rows: int | Sequence[int] | None = None,
    scan: str = "ordered",
    restart_after: int = 20,
    seed: int = 0,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    widths: Collection[int] | None = None,
    memory_limit: int | None = None,
) -> Any:
    """Gibbs sampling from a model with one softmax over both sides: the generative stochastic network itself.

    This is what Berglund et al. (Bidirectional Recurrent Neural Networks as Generative Models, NeurIPS 2015) fill gaps
    with. A chain begins with a sentence drawn from the forward half, and then draws one blank position after the other
    from p(w_t | all other words). What it comes to after each sweep is ranked by the pseudo-log-likelihood.

    Arguments as `gibbs_decode`'s and `joint_decode`'s; results as `joint_decode`'s, where ``rounds`` are sweeps.
    """
    sampling = Sampling(sweeps, None, scan, restart_after, seed)
    call = _JointCall(
        model, image, template, beam_size, objective, vocabulary, widths, memory_limit, constraints, diversity
    )
    sampling = replace(sampling, rows=checked_rows(rows, call.items))
    return call.answer(call.in_groups(lambda part: part.sample_jointly(sampling)))


def joint_compare(
    model: Any,
    image: Any,
    template: Templates = None,
    *,
    methods: Sequence[str] = JOINT_METHODS,
    beam_size: int = 5,
    max_rounds: int = 10,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    widths: Collection[int] | None = None,
    memory_limit: int | None = None,
) -> Any:
    """Several methods on the same input; arguments as `joint_decode`'s.

    Args:
        model: as for `joint_decode`.
        image: as for `joint_decode`.
        template: as for `joint_decode`.
        methods: which, and in which order. ``"birnn-f"`` and ``"birnn-b"``: beam search with one half by itself, ranked
            by its own log-probability when the blank is full, as by `beam_decode`; ``"birnn-rerank"``: both halves'
            beams, ranked by the objective; ``"birnn-bscd"``: `joint_decode`; ``"birnn-gibbs"``: `joint_gibbs_decode`,
            given as many rows as ``"birnn-bscd"`` took, which must be among the methods.
        beam_size: as for `joint_decode`.
        max_rounds: of ``"birnn-bscd"``.
        objective: as for `joint_decode`.
        vocabulary: as for `joint_decode`.
        constraints: as for `joint_decode`; of all methods.
        diversity: as for `joint_decode`; of all methods.
        widths: as for `joint_decode`.
        memory_limit: as for `joint_decode`.

    Returns:
        method name to `DecodeResult`, or a list of such dicts; each method searches anew.
    """
    check_count("max_rounds", max_rounds, least=0)
    check_methods(methods, JOINT_METHODS)
    if "birnn-gibbs" in methods and "birnn-bscd" not in methods:
        raise ValueError(
            'methods has "birnn-gibbs" without "birnn-bscd": sampling is given as many rows as birnn-bscd takes'
        )
    call = _JointCall(
        model, image, template, beam_size, objective, vocabulary, widths, memory_limit, constraints, diversity
    )
    run = {
        "birnn-f": lambda part: part.search_half(FORWARD),
        "birnn-b": lambda part: part.search_half(BACKWARD),
        "birnn-rerank": lambda part: part.search_jointly("birnn-rerank", 0),
        "birnn-bscd": lambda part: part.search_jointly("birnn-bscd", max_rounds),
    }
    found = {name: call.in_groups(run[name]) for name in methods if name in run}
    if "birnn-gibbs" in methods:
        sampling = Sampling(rows=[result.rows_evaluated for result in found["birnn-bscd"]])
        found["birnn-gibbs"] = call.in_groups(lambda part: part.sample_jointly(sampling))
    return call.answer([{name: found[name][item] for name in methods} for item in range(call.items)])


def joint_score_sentences(
    model: Any,
    image: Any,
    sentences: Sequence[Any],
    *,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
) -> Any:
    """The pseudo-log-likelihood of sentences from anywhere, and its terms, every word told from all others.

    Arguments and results are as `score_sentences`'s, without gradients. For two models of a pair, give
    ``JointModel(model_f, model_b)``.
    """
    call = _JointCall(model, image, None, 1, objective, vocabulary, None, None, given=True)
    return call.answer(call.score_jointly(list(sentences) if call.batch else [sentences]))


@dataclass(frozen=True)
class Cycle:
    """Two positions of a sentence, two words for each, and how far the model's conditionals there are from compatible.

    Attributes:
        positions: (i, j), i before j.
        first: the words a and a' of position i; a is the sentence's own.
        second: the words b and b' of position j; b is the sentence's own.
        gap: nats by which the way round (a, b), (a', b), (a', b'), (a, b') and back is more probable than the same way
            round backwards, each step a draw of one word given all others; 0 if the conditionals are compatible. Since
            the words are drawn along the way, it is above 0 more often than below: average its size. It is infinite
            where one way is impossible.
    """

    positions: tuple[int, int]
    first: tuple[int, int]
    second: tuple[int, int]
    gap: float


def joint_cycles(
    model: Any,
    image: Any,
    sentences: Sequence[Any],
    *,
    cycles: int = 10,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
) -> Any:
    """How far a model's conditionals are from being those of any joint distribution.

    A model that gives p(w_t | all other words) for each t need not have a distribution over sentences that these are
    conditionals of. It has one, if no word is impossible, just where going round each cycle of sentences that differ in
    two words is as probable one way as the other (Kolmogorov's criterion, for the chain that Gibbs sampling is)::

        log [ p(a' | b) p(b' | a') p(a | b') p(b | a) ]  −  log [ p(b' | a) p(a' | b') p(b | a') p(a | b) ]  =  0

    with a, a' at one position, b, b' at another and all other words of the sentence given. What Gibbs sampling comes to
    in the long run, and what a pseudo-log-likelihood means, depends on how near to 0 that is.

    Args:
        model: a `JointScorer`.
        image: as for `bscd_decode`; a list is a batch.
        sentences: for one image a list of sentences, each a text or a sequence of ids; for a list of images a list of
            such lists. Those of a single word have no cycle, nor have those that are impossible themselves.
        cycles: tried for each sentence: the positions are drawn at random, a' from p(· | b) without a, and b' from
            p(· | a') without b, so that the words are such as a sampler comes by.
        seed: of what is drawn.
        vocabulary: as for `bscd_decode`.

    Returns:
        for each sentence a list of `Cycle`; a list of such lists for a list of images.
    """
    check_count("cycles", cycles, least=1)
    check_count("seed", seed, least=0)
    call = _JointCall(model, image, None, 1, Objective(), vocabulary, None, None, given=True)
    return call.answer(call.cycles_of(list(sentences) if call.batch else [sentences], cycles, seed))


class _JointCall(Call):
    """One call of this front door: its arguments, checked, and the searches over them."""

    def __init__(
        self,
        model: Any,
        image: Any,
        template: Templates,
        beam_size: int,
        objective: Objective,
        vocabulary: Vocabulary | None,
        widths: Collection[int] | None,
        memory_limit: int | None,
        constraints: Constraints = (),
        diversity: Diversity | None = None,
        given: bool = False,
    ):
        forward, backward = halves_of(model)
        self.model = model
        if isinstance(objective, Objective) and (objective.weight_forward, objective.weight_backward) != (1, 1):
            raise ValueError(f"{objective}: one softmax over both sides has nothing to weigh; leave the weights at 1")
        lengths = Lengths() if widths is None else Lengths(widths, max_length=MAX_WIDTH)
        halves = {FORWARD: forward, BACKWARD: backward}
        vocabulary = getattr(model, "vocabulary", None) if vocabulary is None else vocabulary
        checked = None if given else lengths
        super().__init__(
            halves, image, template, beam_size, objective, vocabulary, checked, memory_limit, constraints, diversity
        )
        self.demands.share = 0.5
        if not given and widths is None and None in self.templates:
            raise ValueError(
                "a model with one softmax over both sides does not say where a sentence ends: give a template, or the "
                "lengths of a whole caption, as in widths=range(5, 15)"
            )

    def _modules(self) -> list[Any]:
        return [*self.scorers.values(), self.model]

    def _rules(self, weight: float | None = None) -> list[str | float]:
        if self.objective.length != "auto":
            return super()._rules()
        open_blanks = [self.objective.scope == "blank" and width != "known" for width in self.widths]
        for item in np.flatnonzero(open_blanks).tolist():
            fixed = self.fixed[item]
            counts = self.lengths.widths if fixed is None else [one.blank_count for one in fixed]
            if 0 in (counts or ()):
                raise ValueError(
                    f'scope="blank", and the blank of the {self._name_of(item)} may be empty, which would always win: '
                    "use a reward per word, such as length=0.5"
                )
        return ["average" if blank else "none" for blank in open_blanks]

    def _coupling(self) -> Coupling:
        combine = getattr(self.model, "combine", None)
        # Known words are told from the blanks around them, so that their scores are needed, too.
        forward, backward = self._directions(every_score=True, every_state=combine is not None)
        return Coupling(forward, backward, combine)

    def _ranking(self) -> JointRanking:
        return JointRanking(self.objective.scope, self.rules, self.demands)

    def search_jointly(self, method: str, max_rounds: int) -> list[DecodeResult]:
        """BSCD; without rounds, the rerank."""
        if not self.items:
            return []
        began = time.perf_counter()
        with self._inference():
            coupling = self._coupling()
            both = (coupling.forward, coupling.backward)
            searches, rows = bscd(
                *both, self._problems([]), self.beam_size, max_rounds, sweep=coupling.sweep, splices=None
            )
            finalists = [
                JointFinalist(search.problem.item, search.problem.template, words)
                for search in searches
                for words in itertools.chain(*search.met)
            ]
            answers = rank_joint(finalists, self.items, coupling, self._ranking(), self.beam_size)
        seconds = time.perf_counter() - began
        rerank = method == "birnn-rerank"
        settings = [method if rerank else f"{method}|rounds:{max_rounds}"]
        ends = self._ends(searches, rows, rerank)
        return [
            self._joint_result(item, answer, coupling, stop, trace, settings, seconds)
            for item, (answer, (stop, trace)) in enumerate(zip(answers, ends, strict=True))
        ]

    def search_half(self, name: str) -> list[DecodeResult]:
        """Classical beam search with one half; the other takes part in scoring the answers alone."""
        if not self.items:
            return []
        began = time.perf_counter()
        with self._inference():
            coupling = self._coupling()
            direction = coupling.forward if name == FORWARD else coupling.backward
            rules = super()._rules(weight=1.0)  # it is ranked as one model by itself
            problems = self._problems([])
            open_templates(direction, problems)
            found: list[list[JointFinalist]] = [[] for _ in range(self.items)]
            for problem, frontier in zip(problems, sweep(direction, problems, self.beam_size), strict=True):
                nodes = np.empty(0, np.int64) if frontier is None else frontier[-1][frontier[-1] >= 0]
                lanes = [direction.lane(problem.template)] * len(nodes)
                finalists = [
                    JointFinalist(problem.item, problem.template, words) for words in direction.sentences(nodes, lanes)
                ]
                self.demands.settle(finalists, {direction: 1.0})
                for one, log_prob in zip(finalists, direction.tree.log_probs[nodes].tolist(), strict=True):
                    assert one.penalty is not None
                    one.score = apply_length_rule(log_prob + one.penalty, len(one.words), rules[one.item])
                found[problem.item] += finalists
            swept = direction.tree.rows.tolist()
            answers = [best_distinct(own, self.beam_size) for own in found]
            score_and_forget(coupling, answers)
        seconds = time.perf_counter() - began
        method = "birnn-f" if name == FORWARD else "birnn-b"
        results = []
        for item, answer in enumerate(answers):
            stop = StopReason.SINGLE_SWEEP if answer else StopReason.DEAD_END
            trace = [Round(swept[item], len({one.words for one in found[item]}))]
            results.append(self._joint_result(item, answer, coupling, stop, trace, [method], seconds, rules[item]))
        return results

    def sample_jointly(self, sampling: Sampling) -> list[DecodeResult]:
        """Gibbs sampling."""
        if not self.items:
            return []
        began = time.perf_counter()
        with self._inference():
            coupling = self._coupling()
            directions = (coupling.forward, coupling.backward)
            problems = self._problems([])
            for direction in directions:
                open_templates(direction, problems)

            def take(fresh: list[JointFinalist], spent: Sequence[bool]) -> None:
                score_finalists(coupling, fresh)

            seen, traces = self.sampled(
                directions, problems, sampling, JointFinalist, take, conditional=coupling.conditional
            )
            finalists = [one for own in seen for one in own.values()]
            answers = rank_joint(finalists, self.items, coupling, self._ranking(), self.beam_size)
        seconds = time.perf_counter() - began
        settings = [f"birnn-{sampling}"]
        results = []
        for item, answer in enumerate(answers):
            stop = StopReason.BUDGET if seen[item] else StopReason.DEAD_END
            budget = sampling.told(self.numbers[item])
            results.append(self._joint_result(item, answer, coupling, stop, traces[item], settings + budget, seconds))
        return results

    def score_jointly(self, sentences: Sequence[Any]) -> list[list[Hypothesis]]:
        """The hypotheses of given sentences, one list per item."""
        words = self.words_of_items(sentences)
        if not self.items:
            return []
        finalists = [
            [JointFinalist(item, FixedTemplate.all_blank(len(one)), one) for one in own]
            for item, own in enumerate(words)
        ]
        with self._inference():
            score_and_forget(self._coupling(), finalists)
        ranking = self._ranking()
        for own in finalists:
            for one in own:
                one.score = ranking.score(one)
        return [[self._joint_hypothesis(one) for one in own] for own in finalists]

    def cycles_of(self, sentences: Sequence[Any], cycles: int, seed: int) -> list[list[list[Cycle]]]:
        """The cycles of given sentences, one list of lists per item."""
        words = self.words_of_items(sentences)
        if not self.items:
            return []
        found: list[list[list[Cycle]]] = [[[] for _ in own] for own in words]
        with self._inference():
            coupling = self._coupling()
            for item, own in enumerate(words):
                for number, one in enumerate(own):
                    random = np.random.default_rng([seed, item, number])
                    if len(one) > 1:
                        found[item][number] = _cycles(coupling, item, one, cycles, random, self.never)
                for direction in (coupling.forward, coupling.backward):
                    direction.tree.forget([item])
        return found

    def _joint_result(
        self,
        item: int,
        answer: Sequence[JointFinalist],
        coupling: Coupling,
        stop: StopReason,
        trace: Sequence[Round],
        settings: Sequence[str],
        seconds: float,
        rule: str | float | None = None,
    ) -> DecodeResult:
        hypotheses = [self._joint_hypothesis(one) for one in answer]
        settings = [*settings, f"scope:{self.objective.scope}"]
        both = (coupling.forward, coupling.backward)
        return self._made(item, hypotheses, both, stop, trace, settings, seconds, rule)

    def _joint_hypothesis(self, one: JointFinalist) -> Hypothesis:
        assert one.terms is not None
        return Hypothesis(
            tokens=one.words,
            text=None if self.vocabulary is None else self._text(one, self.vocabulary),
            blanks=one.template.blanks(one.words),
            score=one.score,
            joint=None,
            log_prob_forward=None,
            log_prob_backward=None,
            token_log_probs_forward=None,
            token_log_probs_backward=None,
            pseudo_log_prob=total(one.terms),
            token_conditionals=tuple(one.terms),
            penalty=one.penalty or 0.0,
            broken=one.broken,
        )


def _cycles(
    coupling: Coupling,
    item: int,
    words: tuple[int, ...],
    cycles: int,
    random: np.random.Generator,
    never: Collection[int],
) -> list[Cycle]:
    """Random cycles around one sentence; none where a position has no second word, or neither way can be gone."""
    places = [tuple(sorted(random.choice(len(words), 2, replace=False).tolist())) for _ in range(cycles)]
    i, j = ([place[side] for place in places] for side in (0, 1))
    a, b = ([words[at] for at in positions] for positions in (i, j))
    every = np.arange(cycles)

    def conditionals(positions: Sequence[int], changed: Sequence[int], to: Sequence[int]) -> np.ndarray:
        """For each cycle log p(· | rest) at one position, another having been changed, float64 [cycles, vocab]."""
        sentences = [(*words[:at], word, *words[at + 1 :]) for at, word in zip(changed, to, strict=True)]
        before = [one[:at] for one, at in zip(sentences, positions, strict=True)]
        behind = [one[:at:-1] for one, at in zip(sentences, positions, strict=True)]
        left = read_all(coupling.forward, [item] * cycles, before)[every, [len(one) for one in before]]
        right = read_all(coupling.backward, [item] * cycles, behind)[every, [len(one) for one in behind]]
        return coupling.forward.tree.backend.numbers(coupling.log_probs(left, right))

    def drawn(log_probs: np.ndarray, stands: Sequence[int]) -> list[int]:
        """A word from each row, not the one that stands there unless no other is possible."""
        tokens = []
        for row, taken in zip(log_probs, stands, strict=True):
            chances = np.exp(row)
            chances[[*never, taken]] = 0
            total_chance = chances.sum()
            tokens.append(int(random.choice(len(chances), p=chances / total_chance)) if total_chance > 0 else taken)
        return tokens

    at_i = conditionals(i, j, b)
    new_a = drawn(at_i, a)
    at_j_new = conditionals(j, i, new_a)
    new_b = drawn(at_j_new, b)
    at_i_new = conditionals(i, j, new_b)
    at_j = conditionals(j, i, a)
    found = []
    for cycle in range(cycles):
        first, second = (a[cycle], new_a[cycle]), (b[cycle], new_b[cycle])
        if first[0] == first[1] or second[0] == second[1]:
            continue
        way = (at_i[cycle, first[1]], at_j_new[cycle, second[1]], at_i_new[cycle, first[0]], at_j[cycle, second[0]])
        back = (at_j[cycle, second[1]], at_i_new[cycle, first[1]], at_j_new[cycle, second[0]], at_i[cycle, first[0]])
        if -math.inf in way and -math.inf in back:
            continue
        found.append(Cycle((i[cycle], j[cycle]), first, second, float(np.sum(way) - np.sum(back))))
    return found
