"""The methods: ways to answer a question. A method is a value, and everything that belongs to it is a field.

A method has a ``name`` for tables. Its ``check`` checks that it fits a ``Request``. Its ``search`` takes a request, or
a part of one, and returns an ``Outcome`` for each item.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from birnn_decode.checks import check_choice, check_count, check_flag, check_number
from birnn_decode.objective import Objective
from birnn_decode.posterior import Masses
from birnn_decode.request import BACKWARD, FORWARD, Request
from birnn_decode.result import DecodeResult, Round, StopReason
from birnn_decode.search.bscd import Search as Descent
from birnn_decode.search.bscd import bscd
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.exact import Budget, exact
from birnn_decode.search.finalists import Finalist, Ranking
from birnn_decode.search.gibbs import SCANS, gibbs
from birnn_decode.search.holding import Problem
from birnn_decode.search.pair import PairCoupling
from birnn_decode.search.sweep import Prior, open_templates
from birnn_decode.template import FixedTemplate


@dataclass(frozen=True)
class Outcome:
    """The answer to one item, before it becomes a `DecodeResult`.

    Attributes:
        answers: the best sentences, with their scores.
        stop: why the search ended.
        trace: one entry per round.
        signature: the parts of the signature that name the method and its settings.
        rule: the length rule of the scores.
        upper_bound: an upper bound of the score of any sentence that is accepted; None if there is none.
        proved: whether the answers are proved to be the best.
        masses: what is known of the probabilities of sentences; None if the search was not one for J.
    """

    answers: Sequence[Finalist]
    stop: StopReason
    trace: Sequence[Round]
    signature: Sequence[str]
    rule: str | float
    upper_bound: float | None = None
    proved: bool = False
    masses: Masses | None = field(default_factory=Masses)


Search: TypeAlias = Callable[[Request], tuple[Coupling, list[Outcome]]]


class Method(ABC):
    """A way to answer a question."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the method in tables."""

    @property
    def needs(self) -> Collection[str]:
        """The directions that there must be models for."""
        return (FORWARD, BACKWARD)

    def check(self, request: Request) -> None:
        """Check that the method fits a request.

        Raises:
            ValueError: the method does not fit.
        """
        scorers = request.models.scorers
        for name in self.needs:
            if name not in scorers:
                raise ValueError(
                    f"{self} needs a {name} model, and the Pair has none. Give Pair(model_f, model_b), or use "
                    f"BeamSearch({next(iter(scorers))!r})."
                )

    def plan(self, request: Request, results_of: Callable[[Method], Sequence[DecodeResult]]) -> Search:
        """Return the search of a whole request, which is called for each of its parts and groups.

        Args:
            request: the whole request.
            results_of: gives the results of another method for the same request.
        """
        return self.search

    @abstractmethod
    def search(self, request: Request) -> tuple[Coupling, list[Outcome]]:
        """Search for the best sentences.

        Returns:
            the opened models, and one outcome per item.
        """


@dataclass(frozen=True)
class BeamSearch(Method):
    """Search with one model by classical beam search: URNN-f and URNN-b.

    Args:
        direction: ``"forward"`` or ``"backward"``, the model to search with.
        rank: ``"blank"`` ranks by the model's log-probability up to the last blank position in its reading order,
            before it reads the known words behind it (URNN-f and URNN-b in the paper). ``"sentence"`` ranks by its
            log-probability of the whole sentence (URNN-f+end, URNN-b+end). A caption written freely is always ranked
            with its end (default: ``"blank"``).

    The other model, if there is one, only scores the answers.

    Example:
        >>> from birnn_decode import BeamSearch
        >>> BeamSearch("forward").name, BeamSearch("backward", rank="sentence").name
        ('urnn-f', 'urnn-b+end')
    """

    direction: str
    rank: str = "blank"

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, (FORWARD, BACKWARD))
        check_choice("rank", self.rank, ("blank", "sentence"))

    @property
    def name(self) -> str:
        """The name in tables, for example ``"urnn-f"`` or ``"urnn-b+end"``."""
        return f"urnn-{self.direction[0]}{'+end' if self.rank == 'sentence' else ''}"

    @property
    def needs(self) -> Collection[str]:
        """The direction that there must be a model for."""
        return (self.direction,)

    def check(self, request: Request) -> None:
        """Check the models of a request."""
        super().check(request)
        if self.rank == "sentence" and not request.models.kind.writes:
            raise ValueError(
                f"{self} needs a Pair, because a half of a joint model does not predict where a sentence ends. Use "
                f"BeamSearch({self.direction!r})."
            )

    def search(self, request: Request) -> tuple[Coupling, list[Outcome]]:
        """Search with one model, and rank what it has found by its own log-probability."""
        coupling = request.coupling(single_sweep=True)
        direction = next(one for one in coupling.directions if one.tree.name == self.direction)
        written = request.write_freely(coupling, [direction]) if request.lengths.widths is None else []
        searches, (rows,) = bscd(replace(coupling, directions=(direction,)), request.problems(), request.share, 0)
        finalists = [*_met(searches), *written]
        scopes = ["reach" if self.rank == "blank" and not request.writes(one) else "sentence" for one in request.items]
        ranking = Ranking({direction: 1.0}, scopes, request.length_rules(1.0), request.demands)
        answers = coupling.rank_alone(direction, finalists, request.share, ranking)
        met = Counter(item for item, _ in {(one.item, one.words) for one in finalists})
        signature = coupling.signature(self.name, [f"beam-{self.direction}", f"rank:{self.rank}"], ())
        return coupling, [
            Outcome(
                own,
                StopReason.SINGLE_SWEEP if met[item] else StopReason.DEAD_END,
                [Round(rows[item], met[item])],
                signature,
                ranking.rules[item],
                masses=None,
            )
            for item, own in enumerate(answers)
        ]


@dataclass(frozen=True)
class Rerank(Method):
    """Rank the final beams of both unidirectional searches by the objective.

    Example:
        >>> from birnn_decode import Rerank
        >>> Rerank().name
        'rerank'
    """

    name = "rerank"

    def search(self, request: Request) -> tuple[Coupling, list[Outcome]]:
        """Search with each model, and rank all sentences that they have found."""
        coupling = request.coupling()
        _, outcomes = _descend(request, coupling, coupling.signature(self.name, (), ()), 0)
        # It was asked for no rounds, so it has ended as it should.
        return coupling, [
            one if one.stop == StopReason.DEAD_END else replace(one, stop=StopReason.SINGLE_SWEEP) for one in outcomes
        ]


@dataclass(frozen=True)
class BSCD(Method):
    """Search with both models by Beam-Search Coordinate Descent.

    The beams of each direction look ahead through the beams of the other direction.

    The algorithm is Algorithm 1 of Sun, Lee and Batra (Bidirectional Beam Search, CVPR 2017), with splices: before the
    first round and after each round, the best sentences of a prefix of a forward beam, a word, and a suffix of a
    backward beam are tried. The search ends after two rounds without a better sentence, or when at most ``beam_size``
    new splices are left to try. ``BSCD(splices=False)`` is the algorithm as published. It finds worse sentences, and
    with a pair it reads more rows. With a joint model, the beams are joined by log p(v | b, b') instead of a sum of two
    log-probabilities.

    Args:
        max_rounds: the largest number of rounds, each of a left-to-right and a right-to-left sweep (default: 10).
        prior: log-probabilities, [vocab] or [positions, vocab] in sentence order, in nats, that are subtracted when a
            forward and a backward beam are joined. The prior steers the search and is no part of J. A word whose prior
            is -inf is never chosen. Pairs only (default: None, no prior, as in the paper).
        prior_weight: the factor of the prior (default: 1.0).
        splices: whether splices are tried (default: True).

    Example:
        >>> from birnn_decode import BSCD
        >>> BSCD(max_rounds=3)
        BSCD(max_rounds=3, prior=None, prior_weight=1.0, splices=True)
        >>> BSCD().name, BSCD(splices=False).name
        ('bscd', 'bscd-paper')
    """

    max_rounds: int = 10
    prior: Any = field(default=None, compare=False)
    prior_weight: float = 1.0
    splices: bool = True
    _prior: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("max_rounds", self.max_rounds)
        check_flag("splices", self.splices)
        check_number("prior_weight", self.prior_weight)
        if self.prior is not None:
            prior = Prior.given(self.prior, self.prior_weight).log_probs
            object.__setattr__(self, "prior", prior)
            # Two arrays cannot be compared by ==.
            object.__setattr__(self, "_prior", f"{prior.shape} {hashlib.sha256(prior.tobytes()).hexdigest()}")

    @property
    def name(self) -> str:
        """The name in tables, for example ``"bscd"``. Without splices: ``"bscd-paper"``."""
        return "bscd" if self.splices else "bscd-paper"

    def check(self, request: Request) -> None:
        """Check the models of a request, and that the prior fits them."""
        super().check(request)
        if self.prior is not None:
            if request.models.kind is not PairCoupling:
                raise ValueError("prior needs a Pair: a joint model has no marginals to subtract. Leave prior out.")
            lengths = [None if one is None else len(one) for item in request.items for one in item.fixed or (None,)]
            Prior(self.prior, self.prior_weight).check(request.models.vocab_size, lengths)

    def search(self, request: Request) -> tuple[Coupling, list[Outcome]]:
        """Run Algorithm 1, and rank all sentences that its sweeps have met."""
        coupling = request.coupling()
        prior = Prior(self.prior, self.prior_weight) if self.prior is not None and self.prior_weight else None
        settings = [f"rounds:{self.max_rounds}"] + ([] if prior is None else [f"prior:{prior.weight:g}"])
        signature = coupling.signature(self.name, settings, ())
        return coupling, _descend(request, coupling, signature, self.max_rounds, prior, self.splices)[1]


@dataclass(frozen=True)
class Gibbs(Method):
    """Sample with a Gibbs sampler, and return the best sentences of its chains.

    This is how Berglund et al. (Bidirectional Recurrent Neural Networks as Generative Models, NeurIPS 2015) fill gaps.
    A chain begins with a sentence drawn from the forward model. Then it draws one blank position after the other anew,
    given all other words. The sentence after each sweep is scored with the objective. ``beam_size`` is the number of
    chains for each width, and of hypotheses returned. All prefixes read for an item are kept until the call ends.

    Args:
        sweeps: the largest number of sweeps of each chain. A sweep draws as many words as there are blank positions
            (default: 100).
        rows: the rows that an item may take. Sampling ends with the sweep that reaches them; scoring the sentences
            counts, too. A number, a list with one number for each item, or a method, for example ``BSCD()``: as many
            rows as this method takes for the same item. The groups of a diverse beam share them (default: None, no
            limit).
        scan: ``"ordered"`` draws left to right and back in turn, ``"random"`` draws positions at random (default:
            ``"ordered"``).
        restart_after: the number of sweeps after which a chain begins anew (default: 20).
        seed: the seed of all draws. The draws of an item do not depend on its batch (default: 0).

    Example:
        >>> from birnn_decode import BSCD, Gibbs
        >>> Gibbs(rows=BSCD()).name
        'gibbs'
    """

    name = "gibbs"

    sweeps: int = 100
    rows: int | Sequence[int] | Method | None = None
    scan: str = "ordered"
    restart_after: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("sweeps", self.sweeps, 1)
        check_count("restart_after", self.restart_after, 1)
        check_count("seed", self.seed)
        check_choice("scan", self.scan, SCANS)
        if self.rows is not None and not isinstance(self.rows, Method):
            budgets = tuple(self.rows) if isinstance(self.rows, (list, tuple)) else (self.rows,)
            for budget in budgets:
                check_count("rows", budget, 1, "a positive integer, a list of them, or a method")
            object.__setattr__(self, "rows", budgets if isinstance(self.rows, (list, tuple)) else self.rows)

    def check(self, request: Request) -> None:
        """Check the models of a request, and the number of ``rows``."""
        super().check(request)
        if isinstance(self.rows, tuple) and len(self.rows) != len(request.items):
            raise ValueError(
                f"rows has {len(self.rows)} numbers for {len(request.items)} items. Give one for each, or one number."
            )
        if isinstance(self.rows, Method):
            self.rows.check(request)

    def plan(self, request: Request, results_of: Callable[[Method], Sequence[DecodeResult]]) -> Search:
        """Return the search, with the rows of another method if ``rows`` is a method."""
        if not isinstance(self.rows, Method):
            return self.search
        return replace(self, rows=[result.rows_evaluated for result in results_of(self.rows)]).search

    def search(self, request: Request) -> tuple[Coupling, list[Outcome]]:
        """Sample sentences, and rank all of them."""
        coupling = request.coupling()
        budgets: list[Any] = [
            self.rows[one.number] if isinstance(self.rows, tuple) else self.rows for one in request.items
        ]
        written = request.write_freely(coupling, coupling.directions) if request.lengths.widths is None else ()
        problems = request.problems(written)
        for direction in coupling.directions:
            open_templates(direction, problems)
        shares = [math.inf if own is None else max(own // request.groups, 1) for own in budgets]
        seen: list[set[tuple[FixedTemplate, tuple[int, ...]]]] = [set() for _ in request.items]
        traces = [[Round(coupling.rows(item), 0)] for item in range(len(request.items))]
        answers: list[list[Finalist]] = [[] for _ in request.items]
        # An item without problems has no chains, and no sweeps.
        possible = {problem.item for problem in problems}
        spent = [item not in possible for item in range(len(request.items))]

        def met(sentences: Sequence[tuple[Problem, tuple[int, ...]]]) -> list[bool]:
            fresh = []
            for problem, words in sentences:
                if (problem.template, words) not in seen[problem.item]:
                    seen[problem.item].add((problem.template, words))
                    fresh.append(Finalist(problem.item, problem.template, words))
            pool = [one for item, own in enumerate(answers) if not spent[item] for one in own]
            ranked = coupling.rank([*pool, *fresh], request.share, more_follows=True)
            new = Counter(one.item for one in fresh)
            for item, trace in enumerate(traces):
                if not spent[item]:
                    answers[item] = ranked[item]
                    rows = coupling.rows(item)
                    trace.append(Round(rows - sum(one.rows for one in trace), new[item]))
                    spent[item] = rows >= shares[item]
            return [not one for one in spent]

        gibbs(coupling, problems, request.share, self, met)
        settings = [f"scan:{self.scan}", f"sweeps:{self.sweeps}", f"restart:{self.restart_after}", f"seed:{self.seed}"]
        return coupling, [
            Outcome(
                own,
                StopReason.BUDGET if seen[item] else StopReason.DEAD_END,
                traces[item],
                coupling.signature(self.name, settings, [] if budgets[item] is None else [f"rows:{budgets[item]}"]),
                request.items[item].rule,
            )
            for item, own in enumerate(answers)
        ]


@dataclass(frozen=True)
class Exact(Method):
    """Prove the best of all sentences that a template allows, by branch and bound.

    BSCD comes first: with ``beam_size`` beams, and then with twice as many, as long as that finds better sentences and
    half of the rows are left. Then two best-first searches, one in each direction, look for better sentences and end
    when none is left; ``birnn_decode.search.exact`` states and proves the bound. Press Ctrl-C to stop the search early.
    It returns the best sentences found so far, with an upper bound on what it may have missed. Before the first BSCD
    has ended, Ctrl-C raises ``KeyboardInterrupt``. Whole captions need ``widths``. Score hooks must not raise scores.
    With ``accept``, the proof and the bound are about accepted sentences. If fewer than ``beam_size`` sentences are
    accepted, a proof needs every possible sentence.

    Args:
        max_rounds: the largest number of rounds of BSCD (default: 10).
        max_rows: the rows that an item may take, including BSCD's. Without a proof by then, the search ends. The groups
            of a diverse beam share them (default: 20,000).
        max_seconds: the seconds that the search may take, without encoding the sources (default: None, no limit).
        mass: a share of the probability, more than 0 and at most 1. The search then goes on until the best sentences
            are proved and the sentences found are certain to have this share of the probability; see `Posterior`.
            `DecodeResult.proved` is about the best sentences alone. It needs ``scope="sentence"``, weights that are at
            least 1 or equal to 0, no score hooks and no ``diversity`` (default: None, the search ends with the proof).

    Example:
        >>> from birnn_decode import Exact
        >>> Exact(max_rows=5_000).name
        'exact'
    """

    name = "exact"

    max_rounds: int = 10
    max_rows: int = 20_000
    max_seconds: float | None = None
    mass: float | None = None

    def __post_init__(self) -> None:
        check_count("max_rounds", self.max_rounds)
        check_count("max_rows", self.max_rows, 1)
        if self.max_seconds is not None:
            check_number("max_seconds", self.max_seconds, "a positive number of seconds, or None for no limit")
            if self.max_seconds <= 0:
                raise ValueError(f"max_seconds must be a positive number of seconds, got {self.max_seconds!r}.")
        if self.mass is not None:
            what = "a number above 0 and at most 1, or None"
            check_number("mass", self.mass, what)
            if not 0 < self.mass <= 1:
                raise ValueError(f"mass must be {what}, got {self.mass!r}.")

    def check(self, request: Request) -> None:
        """Check the models and the widths of a request."""
        super().check(request)
        if request.models.kind is not PairCoupling:
            raise ValueError(
                f"{self} needs a Pair, because its bound is a bound of J. With a joint model, use BSCD with a larger "
                "beam_size."
            )
        if any(request.writes(item) for item in request.items):
            raise ValueError(
                f"{self} of a whole caption needs the lengths that the caption may have: give widths, for example "
                "widths=range(5, 9), or a template such as '{5-8}'."
            )
        if self.mass is not None:
            self._check_mass(request)

    def _check_mass(self, request: Request) -> None:
        objective = request.objective
        if objective.scope != "sentence":
            raise ValueError(
                f'{self} needs scope="sentence", because the probability of a sentence has all of its terms. Leave '
                "mass or scope out."
            )
        if not _certifies(objective):
            raise ValueError(
                f"{self} needs weights that are at least 1 or equal to 0, because otherwise nothing bounds the "
                f"probability of the sentences not found, got {objective}. Raise the weights, or leave mass out."
            )
        if request.demands.hooks:
            raise ValueError(
                f"{self} works without score hooks only, because a hook changes scores and no probabilities. Leave "
                "mass or the hooks out."
            )
        if request.diversity is not None:
            raise ValueError(
                f"{self} works without diversity only, because each group searches a part of the sentences. Leave mass "
                "or diversity out."
            )

    def plan(self, request: Request, results_of: Callable[[Method], Sequence[DecodeResult]]) -> Search:
        """Return the search with a budget that all parts and groups of the request share."""
        budget = Budget(self.max_rows, self.max_seconds, time.perf_counter(), request.groups)
        return lambda part: self._prove(replace(part, demands=part.demands.lowering()), budget)

    def search(self, request: Request) -> tuple[Coupling, list[Outcome]]:
        """Run BSCD, and then look for better sentences until the budget is used up."""
        return self.plan(request, lambda method: [])(request)

    def _prove(self, request: Request, budget: Budget) -> tuple[Coupling, list[Outcome]]:
        coupling = request.coupling()
        settings = [f"rounds:{self.max_rounds}", str(budget), *([] if self.mass is None else [f"mass:{self.mass:g}"])]
        signature = coupling.signature(self.name, settings, ())
        try:
            problems, outcomes = _descend(request, coupling, signature, self.max_rounds, more_follows=True)
        except KeyboardInterrupt:
            if not budget.begun:  # there is nothing to return
                raise
            budget.interrupted = True
            rows = [coupling.rows(item) for item in range(len(request.items))]
            problems = request.problems()
            outcomes = _outcomes(request, signature, [[] for _ in request.items], [], [rows])
        answers = [list(one.answers) for one in outcomes]
        if not budget.interrupted:
            _widen(coupling, problems, answers, request.share, self.max_rounds, budget)
        proofs = exact(coupling, problems, answers, request.share, budget, self.mass)
        budget.begun = True
        found = []
        for one, proof in zip(outcomes, proofs, strict=True):
            assert proof.stop is not None
            accepted = (own.score for own in proof.answers if not own.broken and not own.rejected)
            upper = max(proof.upper, *accepted, -math.inf)
            masses = Masses(proof.known, proof.unknown if _certifies(request.objective) else None)
            found.append(
                replace(
                    one,
                    answers=proof.answers,
                    stop=proof.stop,
                    upper_bound=upper,
                    proved=proof.proved,
                    masses=masses,
                )
            )
        return coupling, found


def _certifies(objective: Objective) -> bool:
    """Tell whether the bound of a leaf bounds its mass; see ``birnn_decode.search.exact``."""
    return all(weight >= 1 or weight == 0 for weight in (objective.weight_forward, objective.weight_backward))


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        BeamSearch(FORWARD),
        BeamSearch(BACKWARD),
        BeamSearch(FORWARD, "sentence"),
        BeamSearch(BACKWARD, "sentence"),
        Rerank(),
        Gibbs(rows=BSCD()),
        BSCD(),
        BSCD(splices=False),
        Exact(),
    )
}


def _descend(
    request: Request,
    coupling: Coupling,
    signature: Sequence[str],
    max_rounds: int,
    prior: Prior | None = None,
    splices: bool = True,
    more_follows: bool = False,
) -> tuple[list[Problem], list[Outcome]]:
    """Run BSCD, and rank every finished sentence that it has met: the problems, and the outcome of each item."""
    written = request.write_freely(coupling, coupling.directions)
    problems = request.problems(written)
    searches, rows = bscd(coupling, problems, request.share, max_rounds, prior, splices)
    widths = request.lengths.widths
    fitting = [one for one in written if one.finished and (widths is None or len(one.words) in widths)]
    answers = coupling.rank([*_met(searches), *fitting], request.share, more_follows)
    return problems, _outcomes(request, signature, answers, searches, rows)


def _widen(
    coupling: Coupling,
    problems: Sequence[Problem],
    answers: list[list[Finalist]],
    keep: int,
    max_rounds: int,
    budget: Budget,
) -> None:
    """Run BSCD with more and more beams, as long as it finds better sentences for an item.

    Args:
        coupling: the models.
        problems: the problems, after ``bscd`` with ``keep`` beams.
        answers: the best sentences of each item; better ones take their place.
        keep: the largest number of answers per item.
        max_rounds: the largest number of rounds.
        budget: the limits of the call.
    """
    beam_size = keep
    going = {problem.item for problem in problems}
    try:
        while True:
            # With twice the beams, BSCD takes about twice the rows, but many of them have been read already.
            going = {item for item in going if 2 * coupling.rows(item) <= budget.share}
            if not going or budget.late:
                return
            beam_size *= 2
            searches, _ = bscd(coupling, [one for one in problems if one.item in going], beam_size, max_rounds)
            known = [one for item in going for one in answers[item]]
            ranked = coupling.rank([*known, *_met(searches)], keep, more_follows=True)
            for item in list(going):
                before = [one.words for one in answers[item]]
                answers[item] = ranked[item]
                if before == [one.words for one in answers[item]]:
                    going.remove(item)
    except KeyboardInterrupt:
        budget.interrupted = True


def _outcomes(
    request: Request,
    signature: Sequence[str],
    answers: Sequence[list[Finalist]],
    searches: Sequence[Descent],
    rows: Sequence[Sequence[int]],
) -> list[Outcome]:
    """Return the outcome of each item, of all its widths together.

    Args:
        request: the request.
        signature: the parts of the signature that name the method and its settings.
        answers: the best sentences of each item.
        searches: the searches of BSCD.
        rows: for each round the rows of each item up to its end.
    """
    of_item: list[list[Descent]] = [[] for _ in request.items]
    for one in searches:
        of_item[one.problem.item].append(one)
    outcomes = []
    for item, own in enumerate(of_item):
        last = max((one.rounds for one in own), default=0)
        upto = [0, *(by_item[item] for by_item in rows[: last + 1])]
        trace = [
            Round(after - before, sum(len(one.met[number]) for one in own if number <= one.rounds))
            for number, (before, after) in enumerate(itertools.pairwise(upto))
        ]
        # Without a search, neither direction could write a caption at all.
        stop = min((one.stop for one in own if one.stop), key=StopReason.settled, default=StopReason.DEAD_END)
        outcomes.append(Outcome(answers[item], stop, trace, signature, request.items[item].rule))
    return outcomes


def _met(searches: Sequence[Descent]) -> list[Finalist]:
    """Return all finished sentences that searches have met."""
    return [
        Finalist(one.problem.item, one.problem.template, words)
        for one in searches
        for words in itertools.chain(*one.met)
    ]
