"""The front door: from models, images and templates to a search, and from its outcome to results."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from birnn_decode.call import (
    BACKWARD,
    DEFAULT_MAX_LENGTH,
    FORWARD,
    SWEEPS,
    Call,
    Constraints,
    Lengths,
    Sampling,
    Templates,
    check_count,
    check_methods,
    checked_objective,
    checked_rows,
)
from birnn_decode.constraints import Diversity
from birnn_decode.objective import Objective, total
from birnn_decode.result import DecodeResult, Hypothesis, Round, StopReason
from birnn_decode.search.bscd import Search, bscd
from birnn_decode.search.exact import Budget, exact
from birnn_decode.search.finalists import Finalist, Ranking, rank_finalists
from birnn_decode.search.free import free_search
from birnn_decode.search.problem import Direction, Problem
from birnn_decode.search.scoring import score_given
from birnn_decode.search.sweep import Prior, open_templates, sweep
from birnn_decode.template import MAX_WIDTH, FixedTemplate, Vocabulary

METHODS = ("urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "gibbs", "bscd", "exact")
COMPARED = tuple(name for name in METHODS if name not in ("gibbs", "exact"))
MAX_ROWS = 20_000  # of an item, for a proof


def bscd_decode(
    model_f: Any,
    model_b: Any,
    image: Any,
    template: Templates = None,
    *,
    beam_size: int = 5,
    max_rounds: int = 10,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    prior: Any = None,
    prior_weight: float = 1.0,
    widths: Collection[int] | None = None,
    min_length: int = 0,
    max_length: int = DEFAULT_MAX_LENGTH,
    memory_limit: int | None = None,
) -> Any:
    """Search with both models: Beam-Search Coordinate Descent (Sun, Lee and Batra, CVPR 2017, Algorithm 1).

    Args:
        model_f: the forward model: a `Scorer`, or what `as_scorer` makes one of.
        model_b: the backward model, which reads sentences right to left.
        image: one of the images that the models' ``encode`` takes a list of; None for models without. Only a list is a
            batch: a tensor or a tuple is one image.
        template: text such as ``"a girl and _ _ _ a wind board"`` (see `Template`), a `Template`, or None for a whole
            caption whose length the search finds. A list is a batch; a single one serves all images, and a single image
            serves a list of templates.
        beam_size: B, prefixes kept per position and hypotheses returned.
        max_rounds: rounds of a left-to-right and a right-to-left sweep; 0 is `rerank_decode`.
        objective: what a finished sentence is worth.
        vocabulary: to read text templates and to write ``text``; taken from the forward (else the backward) model's
            ``vocabulary`` if not given. A Hugging Face tokenizer is one, too; its special tokens fill no blank.
        constraints: what the words in the blanks must be like: `BanWords`, `AllowAt`, `BanAt`, `MustAppear`,
            `NoRepeatedNgram`, `WordCount`, and functions ``(position, prefix, scores) -> scores``, score hooks (see
            `birnn_decode.constraints.Hook`). The search holds them in both directions; J is not changed by them. Where
            it comes by no sentence that satisfies them all, the best others are returned, and their ``broken`` names
            what they break.
        diversity: hypotheses that differ from each other; see `Diversity`. Each group is searched by itself.
        prior: log-probabilities, [vocab] or [positions, vocab] (sentence order, nats), that are subtracted where a
            forward and a backward beam are joined. It steers the search and is no part of J. A token whose prior is
            -inf is not chosen there. None, the default, is the paper.
        prior_weight: what the prior is multiplied with.
        widths: whole captions only: the lengths to search, instead of those that the free searches find.
        min_length: whole captions only: fewest words.
        max_length: whole captions only: most words; no more are written than the models can read (``max_tokens``).
        memory_limit: bytes that the scores and states that a search keeps may take at a time; what the models need for
            a step is not counted. A batch that would take more is searched in parts, with the same answers; a single
            item is searched whatever it takes. ``rows_evaluated`` leaves out what a batch had read when it turned out
            too large. None: no limit.

    Returns:
        a `DecodeResult`, or a list of them if ``image`` or ``template`` is a list: one per item, decoded as one batch.

    Raises:
        TypeError, ValueError: something given cannot be right; the message says what would be. Also ValueError where a
            model returns NaN or +inf, and where no sentence can satisfy the constraints, with those that clash.
    """
    check_count("max_rounds", max_rounds, least=0)
    models = {FORWARD: model_f, BACKWARD: model_b}
    lengths = Lengths(widths, min_length, max_length)
    call = _PairCall(
        models, image, template, beam_size, objective, vocabulary, lengths, memory_limit, constraints, diversity
    )
    checked_prior = _checked_prior(prior, prior_weight, call)
    return call.answer(call.in_groups(lambda part: part.search_both("bscd", max_rounds, checked_prior)))


def rerank_decode(
    model_f: Any,
    model_b: Any,
    image: Any,
    template: Templates = None,
    *,
    beam_size: int = 5,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    widths: Collection[int] | None = None,
    min_length: int = 0,
    max_length: int = DEFAULT_MAX_LENGTH,
    memory_limit: int | None = None,
) -> Any:
    """The final beams of both unidirectional searches, reordered by J; arguments and results as `bscd_decode`'s."""
    models = {FORWARD: model_f, BACKWARD: model_b}
    lengths = Lengths(widths, min_length, max_length)
    call = _PairCall(
        models, image, template, beam_size, objective, vocabulary, lengths, memory_limit, constraints, diversity
    )
    return call.answer(call.in_groups(lambda part: part.search_both("rerank", 0, None)))


def beam_decode(
    model: Any,
    image: Any,
    template: Templates = None,
    *,
    direction: str,
    rank: str = "blank",
    beam_size: int = 5,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    widths: Collection[int] | None = None,
    min_length: int = 0,
    max_length: int = DEFAULT_MAX_LENGTH,
    memory_limit: int | None = None,
) -> Any:
    """Classical beam search with one model: URNN-f and URNN-b.

    Args:
        model: the scorer that is searched.
        image: as for `bscd_decode`.
        template: as for `bscd_decode`.
        direction: ``"forward"`` or ``"backward"``: which way ``model`` reads sentences.
        rank: ``"blank"``: by the model's log-probability up to the last blank position in its reading order, before the
            known words behind it are read (URNN-f, URNN-b as in the paper); ``"sentence"``: by its log-probability of
            the whole sentence (URNN-f+end, URNN-b+end). A caption written freely is always ranked with its end.
        beam_size: B.
        objective: only its length rule is used, for widths that the search has to find.
        vocabulary: as for `bscd_decode`.
        constraints: as for `bscd_decode`.
        diversity: as for `bscd_decode`.
        widths: as for `bscd_decode`.
        min_length: as for `bscd_decode`.
        max_length: as for `bscd_decode`. If nothing finishes by then, unfinished hypotheses are returned, flagged.
        memory_limit: as for `bscd_decode`.

    Returns:
        as `bscd_decode`; ``score`` is what the hypotheses are ranked by.
    """
    if direction not in (FORWARD, BACKWARD):
        raise ValueError(f'direction={direction!r}: use "forward" or "backward", the way the model reads sentences')
    if rank not in ("blank", "sentence"):
        raise ValueError(f'rank={rank!r}: use "blank" or "sentence"')
    lengths = Lengths(widths, min_length, max_length)
    objective = replace(checked_objective(objective), scope="sentence")  # what counts is said by `rank`
    models = {direction: model}
    call = _PairCall(
        models, image, template, beam_size, objective, vocabulary, lengths, memory_limit, constraints, diversity
    )
    return call.answer(call.in_groups(lambda part: part.search_one(direction, rank)))


def gibbs_decode(
    model_f: Any,
    model_b: Any,
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
    min_length: int = 0,
    max_length: int = DEFAULT_MAX_LENGTH,
    memory_limit: int | None = None,
) -> Any:
    """Gibbs sampling from the product of both models' conditionals, and the best sentences that it came by.

    This is how Berglund et al. (Bidirectional Recurrent Neural Networks as Generative Models, NeurIPS 2015) fill gaps.
    A chain begins with a sentence drawn from the forward model, and then draws one blank position after the other anew,
    given all other words. What it comes to after each sweep is ranked by J.

    Args:
        model_f: as for `bscd_decode`.
        model_b: as for `bscd_decode`.
        image: as for `bscd_decode`.
        template: as for `bscd_decode`. A caption written freely has the lengths that the free beam searches find.
        beam_size: chains side by side (for each width, where several are allowed), and hypotheses returned.
        sweeps: of each chain, at most; one draws as many words as there are blank positions.
        rows: an item's sampling ends with the sweep in which so many rows have gone through the models, those included
            that score what was drawn; a sequence gives one number per item. With ``diversity`` each group has its share
            of them. None: no limit but ``sweeps``.
        scan: ``"ordered"``: left to right and back by turns; ``"random"``: positions at random.
        restart_after: so many sweeps after its beginning a chain begins anew.
        seed: of everything that is drawn. What is drawn for an item does not depend on its batch.
        objective: as for `bscd_decode`; its weights are also those of the conditionals in their product.
        vocabulary: as for `bscd_decode`.
        constraints: as for `bscd_decode`.
        diversity: as for `bscd_decode`.
        widths: as for `bscd_decode`.
        min_length: as for `bscd_decode`.
        max_length: as for `bscd_decode`.
        memory_limit: as for `bscd_decode`.

    Returns:
        as `bscd_decode`; ``rounds`` are sweeps. All prefixes read for an item are kept until the call ends.

    Raises:
        TypeError, ValueError: as `bscd_decode`.
    """
    sampling = Sampling(sweeps, None, scan, restart_after, seed)
    models = {FORWARD: model_f, BACKWARD: model_b}
    lengths = Lengths(widths, min_length, max_length)
    call = _PairCall(
        models, image, template, beam_size, objective, vocabulary, lengths, memory_limit, constraints, diversity
    )
    sampling = replace(sampling, rows=checked_rows(rows, call.items))
    return call.answer(call.in_groups(lambda part: part.sample(sampling)))


def exact_decode(
    model_f: Any,
    model_b: Any,
    image: Any,
    template: Templates = None,
    *,
    beam_size: int = 5,
    max_rounds: int = 10,
    max_rows: int = MAX_ROWS,
    max_seconds: float | None = None,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    widths: Collection[int] | None = None,
    memory_limit: int | None = None,
) -> Any:
    """The best of all sentences that a template allows, proved: branch and bound with both models.

    BSCD comes first. Then two best-first searches, one in each direction, look for what could be better and end when
    nothing is left; `birnn_decode.search.exact` states the bound. An interruption (Ctrl-C) ends the search, not the
    program, as soon as there is something to return: the best that has been found by then, with a bound. Before the
    first BSCD is over, it is a `KeyboardInterrupt` as elsewhere.

    Args:
        model_f: as for `bscd_decode`.
        model_b: as for `bscd_decode`.
        image: as for `bscd_decode`.
        template: as for `bscd_decode`; for whole captions (None), give ``widths``.
        beam_size: B, sentences returned and proved; and of BSCD.
        max_rounds: of BSCD.
        max_rows: of an item, those of BSCD included: where so many have gone through the models, the search ends
            without a proof. With ``diversity`` each group has its share of them.
        max_seconds: after so many from the beginning of the call, the search ends without a proof, but not before BSCD
            is over; None: no limit. What is found by then depends on the machine.
        objective: as for `bscd_decode`; what is proved is proved of the score.
        vocabulary: as for `bscd_decode`.
        constraints: as for `bscd_decode`.
        diversity: as for `bscd_decode`.
        widths: whole captions only: the lengths among which the best sentence is sought.
        memory_limit: as for `bscd_decode`.

    Returns:
        as `bscd_decode`. ``proved`` says whether the hypotheses are the B best of all, or with ``diversity`` those of
        each group the best that the groups before it leave; ``stop`` is ``"proved"``, ``"budget"``, ``"interrupted"``,
        or ``"dead_end"`` where no sentence that satisfies the constraints is possible; ``upper_bound`` holds for the
        score of every sentence that does, and ``gap`` is how far it is above the best hypothesis (0 where that is the
        best of all, whatever the others are).

    Raises:
        TypeError, ValueError: as `bscd_decode`; ValueError also for a whole caption without ``widths``.
    """
    check_count("max_rounds", max_rounds, least=0)
    check_count("max_rows", max_rows, least=1)
    began = time.perf_counter()
    _check_seconds(max_seconds)
    models = {FORWARD: model_f, BACKWARD: model_b}
    lengths = Lengths() if widths is None else Lengths(widths, max_length=MAX_WIDTH)
    call = _PairCall(
        models, image, template, beam_size, objective, vocabulary, lengths, memory_limit, constraints, diversity
    )
    call.check_provable()
    budget = Budget(max_rows, max_seconds, began, call.groups)
    return call.answer(call.in_groups(lambda part: part.prove(max_rounds, budget)))


def compare(
    model_f: Any,
    model_b: Any,
    image: Any,
    template: Templates = None,
    *,
    methods: Sequence[str] = COMPARED,
    beam_size: int = 5,
    max_rounds: int = 10,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    constraints: Constraints = (),
    diversity: Diversity | None = None,
    prior: Any = None,
    prior_weight: float = 1.0,
    max_rows: int = MAX_ROWS,
    widths: Collection[int] | None = None,
    min_length: int = 0,
    max_length: int = DEFAULT_MAX_LENGTH,
    memory_limit: int | None = None,
) -> Any:
    """Several methods on the same input; arguments as `bscd_decode`'s.

    Args:
        model_f: as for `bscd_decode`.
        model_b: as for `bscd_decode`.
        image: as for `bscd_decode`.
        template: as for `bscd_decode`.
        methods: which, and in which order: ``"urnn-f"``, ``"urnn-b"``, ``"urnn-f+end"``, ``"urnn-b+end"``,
            ``"rerank"``, ``"gibbs"``, ``"bscd"``, ``"exact"`` (see `exact_decode`). Gibbs sampling is given as many
            rows as BSCD took for the item, which must be among the methods; where its chains come by the same prefixes
            again and again, which costs no rows, it ends after 100 sweeps with fewer.
        beam_size: as for `bscd_decode`.
        max_rounds: of BSCD.
        objective: as for `bscd_decode`.
        vocabulary: as for `bscd_decode`.
        constraints: as for `bscd_decode`; of all methods.
        diversity: as for `bscd_decode`; of all methods.
        prior: of BSCD.
        prior_weight: of BSCD.
        max_rows: of the exact search, as for `exact_decode`.
        widths: as for `bscd_decode`.
        min_length: as for `bscd_decode`.
        max_length: as for `bscd_decode`.
        memory_limit: as for `bscd_decode`.

    Returns:
        method name to `DecodeResult`, or a list of such dicts. Each method searches anew, so that its
        ``rows_evaluated`` is its own; the hypotheses of all of them carry J and the terms of both models (whose rows
        are counted, too).
    """
    check_count("max_rounds", max_rounds, least=0)
    check_methods(methods, METHODS)
    if "gibbs" in methods and "bscd" not in methods:
        raise ValueError('methods has "gibbs" without "bscd": sampling is given as many rows as BSCD takes')
    check_count("max_rows", max_rows, least=1)
    models = {FORWARD: model_f, BACKWARD: model_b}
    lengths = Lengths(widths, min_length, max_length)
    call = _PairCall(
        models, image, template, beam_size, objective, vocabulary, lengths, memory_limit, constraints, diversity
    )
    checked_prior = _checked_prior(prior, prior_weight, call)
    if "exact" in methods:
        call.check_provable()
    budget = Budget(max_rows, groups=call.groups)
    run: dict[str, Callable[[_PairCall], list[DecodeResult]]] = {
        "urnn-f": lambda part: part.search_one(FORWARD, "blank"),
        "urnn-b": lambda part: part.search_one(BACKWARD, "blank"),
        "urnn-f+end": lambda part: part.search_one(FORWARD, "sentence"),
        "urnn-b+end": lambda part: part.search_one(BACKWARD, "sentence"),
        "rerank": lambda part: part.search_both("rerank", 0, None),
        "bscd": lambda part: part.search_both("bscd", max_rounds, checked_prior),
        "exact": lambda part: part.prove(max_rounds, budget),
    }
    found = {name: call.in_groups(run[name]) for name in methods if name != "gibbs"}
    if "gibbs" in methods:
        sampling = Sampling(rows=[result.rows_evaluated for result in found["bscd"]])
        found["gibbs"] = call.in_groups(lambda part: part.sample(sampling))
    return call.answer([{name: found[name][item] for name in methods} for item in range(call.items)])


def score_sentences(
    model_f: Any,
    model_b: Any,
    image: Any,
    sentences: Sequence[Any],
    *,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    gradients: bool = False,
) -> Any:
    """J and its terms for sentences from anywhere, every one read to its end.

    Args:
        model_f: the forward model, or None.
        model_b: the backward model, or None.
        image: as for `bscd_decode`; a list is a batch.
        sentences: for one image a list of sentences, each a text or a sequence of ids; for a list of images a list of
            such lists.
        objective: the sentences' widths are known, so ``length="auto"`` is ``"none"``. For ``scope="blank"`` every word
            counts as blank.
        vocabulary: as for `bscd_decode`.
        gradients: for PyTorch models: True makes every number of the hypotheses a tensor [] with its graph, to be used
            in a loss, and leaves the models in the mode, training or eval, that they are in. (On a GPU, PyTorch's
            recurrent layers give gradients in training mode only.)

    Returns:
        for each sentence, in the order given, a `Hypothesis`; a list of such lists for a list of images. Without one of
        the models ``score`` is of the other's term alone.

    Raises:
        TypeError, ValueError: as `bscd_decode`; TypeError also where gradients are asked of models without PyTorch.
    """
    models = {name: model for name, model in ((FORWARD, model_f), (BACKWARD, model_b)) if model is not None}
    if not models:
        raise TypeError("score_sentences needs a forward or a backward model; both are None")
    objective = checked_objective(objective)
    weights = {FORWARD: objective.weight_forward, BACKWARD: objective.weight_backward}
    if not any(weights[name] for name in models):
        raise ValueError(f"{objective} gives weight 0 to the only model there is: nothing is left to score by")
    call = _PairCall(models, image, None, 1, objective, vocabulary, None, gradients=gradients)
    return call.answer(call.score(list(sentences) if call.batch else [sentences]))


class _PairCall(Call):
    """A call with a forward and a backward model, or one of them, and the searches over its items."""

    def check_provable(self) -> None:
        """Check that the sentences among which the best is sought are known before the search."""
        if None in self.fixed and self.lengths.widths is None:
            raise ValueError(
                "an exact search of a whole caption needs the lengths that it may have: give widths=, such as "
                "widths=range(5, 9), or a template such as '{5-8}'"
            )

    def search_both(self, method: str, max_rounds: int, prior: Prior | None) -> list[DecodeResult]:
        """BSCD; without rounds, the rerank."""
        if not self.items:
            return []
        began = time.perf_counter()
        with self._inference():
            directions = self._directions()
            ranking = self._joint(directions)
            _, searches, rows, answers = self._descend(directions, ranking, max_rounds, prior)
        seconds = time.perf_counter() - began
        settings = [method if method == "rerank" else f"{method}|rounds:{max_rounds}"]
        settings += [] if prior is None else [f"prior:{prior.weight:g}"]
        settings += self._objective_settings()
        ends = self._ends(searches, rows, rerank=method == "rerank")
        return [
            self._result(item, answer, directions, ranking, stop, trace, settings, seconds)
            for item, (answer, (stop, trace)) in enumerate(zip(answers, ends, strict=True))
        ]

    def _descend(
        self,
        directions: Sequence[Direction],
        ranking: Ranking,
        max_rounds: int,
        prior: Prior | None,
        more_follows: bool = False,
    ) -> tuple[list[Problem], list[Search], list[list[int]], list[list[Finalist]]]:
        """Run BSCD: the problems, their searches, the rows of each round, and the best sentences of each item."""
        written = [self._write_freely(direction) for direction in directions]
        problems = self._problems(written)
        forward, backward = directions
        searches, rows = bscd(forward, backward, problems, self.beam_size, max_rounds, prior)
        finalists = [
            Finalist(search.problem.item, search.problem.template, words)
            for search in searches
            for new in search.met
            for words in new
        ]
        finalists += [
            one
            for one in itertools.chain(*written)
            if one.finished and len(one.words) in (self.lengths.widths or (len(one.words),))
        ]
        answers = rank_finalists(finalists, self.items, directions, ranking, self.beam_size, more_follows)
        return problems, searches, rows, answers

    def prove(self, max_rounds: int, budget: Budget) -> list[DecodeResult]:
        """BSCD, and then the exact search, which begins with its answers."""
        checked = copy.copy(self)
        checked.demands = self.demands.lowering()
        return checked._prove(max_rounds, budget)

    def _prove(self, max_rounds: int, budget: Budget) -> list[DecodeResult]:
        if not self.items:
            return []
        began = time.perf_counter()
        with self._inference():
            directions = self._directions()
            ranking = self._joint(directions)
            try:
                descent = self._descend(directions, ranking, max_rounds, None, more_follows=True)
            except KeyboardInterrupt:
                if not budget.begun:  # there is nothing to return
                    raise
                budget.interrupted = True
                rows_so_far = [self._rows(directions, item) for item in range(self.items)]
                descent = self._problems([]), [], [rows_so_far], [[] for _ in range(self.items)]
            budget.begun = True
            problems, searches, rows, answers = descent
            proofs = exact(problems, directions, answers, ranking, self.beam_size, budget)
        seconds = time.perf_counter() - began
        settings = [f"exact|rounds:{max_rounds}|{budget}", *self._objective_settings()]
        results = []
        for item, (proof, (_, trace)) in enumerate(zip(proofs, self._ends(searches, rows), strict=True)):
            assert proof.stop is not None
            result = self._result(item, proof.answers, directions, ranking, proof.stop, trace, settings, seconds)
            best = max((one.score for one in result.hypotheses if not one.broken), default=-math.inf)
            proved = proof.stop == StopReason.PROVED
            results.append(replace(result, proved=proved, upper_bound=max(best, proof.upper)))
        return results

    def sample(self, sampling: Sampling) -> list[DecodeResult]:
        """Gibbs sampling."""
        if not self.items:
            return []
        began = time.perf_counter()
        with self._inference():
            directions = self._directions()
            freely = self.lengths.widths is None
            written = [self._write_freely(direction) for direction in directions] if freely else []
            problems = self._problems(written)
            for direction in directions:
                open_templates(direction, problems)
            ranking = self._joint(directions)
            answers: list[list[Finalist]] = [[] for _ in range(self.items)]

            def take(fresh: list[Finalist], spent: Sequence[bool]) -> None:
                """Rank what was drawn among the best so far."""
                pool = [one for item, answer in enumerate(answers) if not spent[item] for one in answer] + fresh
                ranked = rank_finalists(pool, self.items, directions, ranking, self.beam_size, sweeps_follow=True)
                answers[:] = [old if spent[item] else ranked[item] for item, old in enumerate(answers)]

            seen, traces = self.sampled(directions, problems, sampling, Finalist, take)
        seconds = time.perf_counter() - began
        settings = [str(sampling), *self._objective_settings()]
        results = []
        for item, (answer, trace) in enumerate(zip(answers, traces, strict=True)):
            stop = StopReason.BUDGET if seen[item] else StopReason.DEAD_END
            budget = sampling.told(self.numbers[item])
            results.append(self._result(item, answer, directions, ranking, stop, trace, settings + budget, seconds))
        return results

    def search_one(self, name: str, rank: str) -> list[DecodeResult]:
        """Classical beam search with one model; the other, if there is one, scores the answers and no more."""
        if not self.items:
            return []
        began = time.perf_counter()
        with self._inference():
            directions = self._directions(sweeps=1)
            (direction,) = (one for one in directions if one.tree.name == name)
            freely = self.lengths.widths is None
            written = self._write_freely(direction) if freely else []
            problems = self._problems([])
            open_templates(direction, problems)
            swept_to = [
                (problem, int(node))
                for problem, frontier in zip(problems, sweep(direction, problems, self.beam_size), strict=True)
                for node in (() if frontier is None else frontier[-1])
                if node >= 0
            ]
            found = direction.sentences(
                np.array([node for _, node in swept_to], dtype=np.int64),
                [direction.lane(problem.template) for problem, _ in swept_to],
            )
            finalists = [
                Finalist(problem.item, problem.template, words)
                for (problem, _), words in zip(swept_to, found, strict=True)
            ]
            finalists += written
            swept = direction.tree.rows.tolist()
            scopes = ["reach" if rank == "blank" and (fixed or not freely) else "sentence" for fixed in self.fixed]
            rules = self._rules(weight=1.0)
            ranking = Ranking({direction: 1.0}, scopes, rules, self.demands)
            answers = rank_finalists(finalists, self.items, directions, ranking, self.beam_size)
        seconds = time.perf_counter() - began
        joint = self._joint(directions)
        met: list[set[tuple[int, ...]]] = [set() for _ in range(self.items)]
        for finalist in finalists:
            met[finalist.item].add(finalist.words)
        results = []
        for item, answer in enumerate(answers):
            stop = StopReason.SINGLE_SWEEP if met[item] else StopReason.DEAD_END
            trace = [Round(swept[item], len(met[item]))]
            settings = [f"beam-{name}", f"rank:{rank}"]
            results.append(self._result(item, answer, directions, joint, stop, trace, settings, seconds, rules[item]))
        return results

    def score(self, sentences: Sequence[Any]) -> list[list[Hypothesis]]:
        """The hypotheses of given sentences, one list per item."""
        words_of = self.words_of_items(sentences)
        if not self.items:
            return []
        with self._inference():
            directions = self._directions()
            finalists = [
                Finalist(item, FixedTemplate.all_blank(len(words)), words)
                for item, given in enumerate(words_of)
                for words in given
            ]
            for direction in directions:
                terms = score_given(
                    direction.tree.scorer,
                    direction.tree.context,
                    [one.item for one in finalists],
                    [direction.words_in_reading_order(one.words) for one in finalists],
                    direction.tree.name,
                    self.gradients,
                )
                for finalist, own in zip(finalists, terms, strict=True):
                    finalist.terms[direction] = own
        ranking = self._joint(directions)
        scored: list[list[Hypothesis]] = [[] for _ in range(self.items)]
        for finalist in finalists:
            finalist.score = ranking.score(finalist)
            scored[finalist.item].append(self._hypothesis(finalist, directions, ranking))
        return scored

    def _write_freely(self, direction: Direction) -> list[Finalist]:
        """What one direction writes for the items that are whole captions."""
        items = [item for item, fixed in enumerate(self.fixed) if fixed is None]
        low, high = self.lengths.min_length, self.lengths.max_length
        held = {item: self.demands.hold_freely(item, direction.reverse, high) for item in items}
        found = free_search(
            direction, items, self.beam_size, low, high, {item: one for item, one in held.items() if one is not None}
        )
        return [
            Finalist(
                item,
                FixedTemplate.all_blank(len(hypothesis.words)),
                direction.words_in_reading_order(hypothesis.words),
                hypothesis.finished,
            )
            for item, hypotheses in zip(items, found, strict=True)
            for hypothesis in hypotheses
        ]

    def _objective_settings(self) -> list[str]:
        weights = f"weights:{self.objective.weight_forward:g},{self.objective.weight_backward:g}"
        return [weights, f"scope:{self.objective.scope}"]

    def _joint(self, directions: Sequence[Direction]) -> Ranking:
        """The objective."""
        weights = {direction: direction.weight for direction in directions if direction.weight}
        return Ranking(weights, [self.objective.scope] * self.items, self.rules, self.demands)

    def _result(
        self,
        item: int,
        answer: Sequence[Finalist],
        directions: Sequence[Direction],
        joint: Ranking,
        stop: StopReason,
        trace: Sequence[Round],
        settings: Sequence[str],
        seconds: float,
        rule: str | float | None = None,
    ) -> DecodeResult:
        hypotheses = [self._hypothesis(finalist, directions, joint) for finalist in answer]
        return self._made(item, hypotheses, directions, stop, trace, settings, seconds, rule)

    def _hypothesis(self, finalist: Finalist, directions: Sequence[Direction], joint: Ranking) -> Hypothesis:
        terms: dict[str, tuple[float, ...] | None] = {FORWARD: None, BACKWARD: None}
        for direction in directions:
            own = tuple(finalist.terms[direction])
            words = len(finalist.words)
            terms[direction.tree.name] = own[:words][::-1] + own[words:] if direction.reverse else own
        log_probs = {name: None if own is None else total(own) for name, own in terms.items()}
        return Hypothesis(
            tokens=finalist.words,
            text=None if self.vocabulary is None else self._text(finalist, self.vocabulary),
            blanks=finalist.template.blanks(finalist.words),
            score=finalist.score,
            joint=joint.value(finalist) if len(directions) > 1 and finalist.finished else None,
            log_prob_forward=log_probs[FORWARD],
            log_prob_backward=log_probs[BACKWARD],
            token_log_probs_forward=terms[FORWARD],
            token_log_probs_backward=terms[BACKWARD],
            penalty=finalist.penalty or 0.0,
            broken=finalist.broken,
            finished=finalist.finished,
        )


def _check_seconds(seconds: Any) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, Real):
        raise TypeError(f"max_seconds={seconds!r}: it is a number of seconds, or None for no limit")
    if not float(seconds) > 0:
        raise ValueError(f"max_seconds={seconds!r}: it is a number of seconds above 0, or None for no limit")


def _checked_prior(prior: Any, weight: float, call: Call) -> Prior | None:
    if not (isinstance(weight, Real) and math.isfinite(weight)):
        raise ValueError(f"prior_weight={weight!r}: it is a finite number")
    if prior is None or weight == 0:
        return None
    if hasattr(prior, "detach"):
        prior = prior.detach().cpu().double()
    log_probs = np.asarray(prior, dtype=np.float64)
    if log_probs.ndim not in (1, 2) or log_probs.shape[-1] != call.vocab_size:
        raise ValueError(
            f"the prior has shape {log_probs.shape}; expected [vocab] = ({call.vocab_size},) or [positions, vocab]"
        )
    if not (log_probs < np.inf).all():
        raise ValueError("the prior has NaN or +inf: it holds log-probabilities, -inf for words that never occur")
    if log_probs.ndim == 2:
        lengths = {None if fixed is None else len(one) for fixed in call.fixed for one in (fixed or [()])}
        if lengths - {len(log_probs)}:
            raise ValueError(
                f"the prior has {len(log_probs)} positions, but not every sentence asked for has that many words; "
                "where lengths differ or are to be found, give one table [vocab]"
            )
    return Prior(log_probs, weight)
