"""The front door: `decode`, `compare`, `score_sentences` and `bscd_decode`."""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from birnn_decode.methods import BSCD, METHODS, Method, Outcome, Search
from birnn_decode.objective import Objective
from birnn_decode.posterior import Posterior, posterior_of
from birnn_decode.record import Record
from birnn_decode.request import DEFAULTS, Options, Request, ask
from birnn_decode.result import Compared, DecodeResult, Hypothesis, Round, StopReason
from birnn_decode.scorers.pair import Pair
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.finalists import Finalist
from birnn_decode.search.holding import name_of
from birnn_decode.search.memory import OverLimitError
from birnn_decode.search.pair import PairCoupling
from birnn_decode.template import FixedTemplate, Template, Vocabulary
from birnn_decode.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Unpack

    OneTemplate: TypeAlias = Template | str | None

Function = TypeVar("Function", bound=Callable[..., Any])


def _with_options(function: Function) -> Function:
    """Show the keywords of `Options` in the signature of a function, in place of ``**options``."""
    given = inspect.signature(function)
    shown = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
    types = {name: getattr(kind, "__forward_arg__", kind) for name, kind in Options.__annotations__.items()}
    shown += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[name])
        for name, default in DEFAULTS.items()
    ]
    function.__signature__ = given.replace(parameters=shown)  # type: ignore[attr-defined]
    return function


@overload
def decode(
    models: Any, source: list[Any], template: Any = None, method: Method = BSCD(), **options: Unpack[Options]
) -> list[DecodeResult]: ...
@overload
def decode(
    models: Any, source: Any, template: list[OneTemplate], method: Method = BSCD(), **options: Unpack[Options]
) -> list[DecodeResult]: ...
@overload
def decode(
    models: Any, source: Any, template: OneTemplate = None, method: Method = BSCD(), **options: Unpack[Options]
) -> DecodeResult: ...
@_with_options
def decode(models: Any, source: Any, template: Any = None, method: Method = BSCD(), **options: Unpack[Options]) -> Any:
    """Find the sentences that the models score best for a source and a template.

    Args:
        models: a `Pair` of a forward and a backward model, or a `JointModel` or other `JointScorer` with one softmax
            over both sides.
        source: one source as the models' ``encode`` takes it: an image, a sentence to translate, sound; None for models
            without sources. Only a list is a batch. A tensor or a tuple is one source.
        template: text such as ``"a girl and {1-6} a wind board"``, a `Template`, or None for a whole caption whose
            length the search finds. A list has one template for each source. One template serves all sources of a list,
            and one source serves all templates of a list (default: None).
        method: `BSCD`, `BeamSearch`, `Rerank`, `Gibbs` or `Exact` (default: ``BSCD()``).
        **options: the keywords of `Options`: ``beam_size``, ``objective``, ``vocabulary``, ``constraints``,
            ``accept``, ``diversity``, ``widths``, ``min_length``, ``max_length``, ``memory_limit``,
            ``rows_per_call`` and ``record``.

    Returns:
        a `DecodeResult`; a list of them if ``source`` or ``template`` is a list, decoded as one batch.

    Raises:
        TypeError: an argument has the wrong type, or ``accept`` returned something other than True or False. The
            message says what would be right.
        ValueError: an argument has a wrong value, the method does not fit the models, no sentence can satisfy the
            constraints, or a model returned NaN or +inf. The message says what would be right.

    Example:
        >>> from birnn_decode import BeamSearch, decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> models, picture = default_pair(), make_scene(seed=2, number=4).picture()
        >>> decode(models, picture, "a small green circle {8-11} above a large yellow star").best.text
        'a small green circle is to the right of a small purple triangle which is above a large yellow star'
        >>> decode(models, picture, "a small _ circle", BeamSearch("forward")).best.text
        'a small purple circle'
    """
    request = ask(models, source, template, options)
    results = _answer(request, _checked("method", method, request), {})
    return results if request.batch else results[0]


@overload
def compare(
    models: Any, source: list[Any], template: Any = None, methods: Any = None, **options: Unpack[Options]
) -> list[Compared]: ...
@overload
def compare(
    models: Any, source: Any, template: list[OneTemplate], methods: Any = None, **options: Unpack[Options]
) -> list[Compared]: ...
@overload
def compare(
    models: Any, source: Any, template: OneTemplate = None, methods: Any = None, **options: Unpack[Options]
) -> Compared: ...
@_with_options
def compare(models: Any, source: Any, template: Any = None, methods: Any = None, **options: Unpack[Options]) -> Any:
    """Answer the same question with several methods.

    Each method searches anew, so its ``rows_evaluated`` is its own. With a `Pair` of two models, the hypotheses of all
    methods have J and the terms of both models. ``rows_evaluated`` includes the rows read for these.

    Args:
        models: as for `decode`.
        source: as for `decode`.
        template: as for `decode`.
        methods: a list of methods or of their names: ``"urnn-f"``, ``"urnn-b"``, ``"urnn-f+end"``, ``"urnn-b+end"``,
            ``"rerank"``, ``"gibbs"`` (as many rows as BSCD takes), ``"bscd"``, ``"bscd-paper"``, ``"exact"``. Default:
            all methods that fit the models, except ``"gibbs"``, ``"bscd-paper"`` and ``"exact"``.
        **options: as for `decode`.

    Returns:
        a dict of results by the names of the methods, which a notebook shows as a table; a list of dicts if ``source``
        or ``template`` is a list.

    Raises:
        TypeError: as `decode`.
        ValueError: as `decode`; or a name is unknown, or two methods have one name.

    Example:
        >>> from birnn_decode import BSCD, compare
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> found = compare(default_pair(), picture, "a small _ circle _ _ above a _ _ star", ["urnn-f", BSCD()])
        >>> {name: round(result.best.joint, 1) for name, result in found.items()}
        {'urnn-f': -33.9, 'bscd': -29.1}
    """
    request = ask(models, source, template, options)
    found: dict[Method, list[DecodeResult]] = {}
    results = {one.name: _answer(request, one, found) for one in _checked_methods(methods, request)}
    of_items = [Compared({name: own[item] for name, own in results.items()}) for item in range(len(request.items))]
    return of_items if request.batch else of_items[0]


@_with_options
def bscd_decode(
    model_f: Any,
    model_b: Any,
    image: Any,
    template: Any = None,
    *,
    max_rounds: int = 10,
    prior: Any = None,
    prior_weight: float = 1.0,
    splices: bool = True,
    **options: Unpack[Options],
) -> Any:
    """Decode with Beam-Search Coordinate Descent.

    This is a short form of ``decode(Pair(model_f, model_b), image, template, BSCD(...), **options)``.

    Args:
        model_f: the forward model: a `Scorer`, or any model that `as_scorer` can wrap.
        model_b: the backward model, which reads sentences right to left.
        image: the source; see `decode`.
        template: the template; see `decode` (default: None, a whole caption).
        max_rounds: see `BSCD` (default: 10).
        prior: see `BSCD` (default: None).
        prior_weight: see `BSCD` (default: 1.0).
        splices: see `BSCD` (default: True).
        **options: as for `decode`.

    Returns:
        a `DecodeResult`, or a list of them; see `decode`.

    Raises:
        TypeError: as `decode`.
        ValueError: as `decode`.

    Example:
        >>> from birnn_decode import bscd_decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> pair = default_pair()
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> bscd_decode(pair.forward, pair.backward, picture, "a small _ circle").stop
        <StopReason.NO_GAIN: 'no_gain'>
    """
    return decode(Pair(model_f, model_b), image, template, BSCD(max_rounds, prior, prior_weight, splices), **options)


def score_sentences(
    models: Any,
    source: Any,
    sentences: Sequence[Any],
    *,
    objective: Objective = Objective(),
    vocabulary: Vocabulary | None = None,
    gradients: bool = False,
) -> Any:
    """Score given sentences with the objective and its terms.

    Every sentence is read to its end.

    Args:
        models: as for `decode`. A `Pair` may have only one model.
        source: as for `decode`; a list is a batch.
        sentences: a list of sentences, each a text or a sequence of ids; a list of such lists for a list of sources.
        objective: the score (default: ``Objective()``). Widths are known, so ``length="auto"`` is ``"none"``. With
            ``scope="blank"`` every word counts as blank.
        vocabulary: as for `decode`.
        gradients: for a `Pair` of PyTorch models. If True, every number of the hypotheses is a tensor [] with its
            graph, for use in a loss, and the models stay in the mode, training or eval, that they are in. (On a GPU,
            PyTorch's recurrent layers give gradients in training mode only.) Default: False.

    Returns:
        a list with a `Hypothesis` for each sentence, in the order given; a list of such lists for a list of sources.
        With one model, ``score`` is the term of this model alone.

    Raises:
        TypeError: as `decode`; or gradients are asked of models without PyTorch.
        ValueError: as `decode`; or gradients are asked of a joint model.

    Example:
        >>> from birnn_decode import score_sentences
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> scored = score_sentences(default_pair(), picture, ["a small green circle", "a small red circle"])
        >>> [round(one.joint, 1) for one in scored]
        [-35.7, -67.7]
    """
    if gradients and not isinstance(models, Pair):
        raise ValueError("gradients=True needs a Pair. The scores of a joint model have no graph.")
    request = ask(models, source, None, Options(objective=objective, vocabulary=vocabulary), sentences, gradients)
    finalists = [
        [Finalist(item, FixedTemplate.all_blank(len(words)), words) for words in own]
        for item, own in enumerate(request.sentences or ())
    ]
    with request.models.inference(gradients):
        coupling = request.coupling()
        coupling.score(list(itertools.chain(*finalists)), gradients)
    scored = [[_hypothesis(request, coupling, one) for one in own] for own in finalists]
    return scored if request.batch else scored[0]


def _checked(name: str, method: Any, request: Request) -> Method:
    if not isinstance(method, Method):
        raise TypeError(f"{name} must be a value such as BSCD() or BeamSearch('forward'), got {method!r}.")
    method.check(request)
    return method


def _checked_methods(methods: Any, request: Request) -> list[Method]:
    """Return the methods that are given by value or by name; by default, those that fit the models."""
    if methods is None:
        return [METHODS[name] for name in request.models.compared]
    if isinstance(methods, (str, Method)) or not isinstance(methods, Sequence):
        raise TypeError(f"methods must be a list of methods or of their names, got {methods!r}.")
    if not methods:
        raise ValueError("methods is empty. Give at least one method, or leave methods out for the default.")
    if unknown := [one for one in methods if isinstance(one, str) and one not in METHODS]:
        raise ValueError(f"methods has {unknown[0]!r}, which is not a method. The names are {', '.join(METHODS)}.")
    values = (METHODS[one] if isinstance(one, str) else one for one in methods)
    found = [_checked("every entry of methods", one, request) for one in values]
    names = [one.name for one in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"methods has two methods of the name {twice[0]!r}. Compare them in two calls.")
    return found


def _answer(request: Request, method: Method, found: dict[Method, list[DecodeResult]]) -> list[DecodeResult]:
    """Answer a request by a method, one result per item.

    Args:
        request: the request.
        method: the method.
        found: the results of methods for this request. The results of this method, and of methods that it depends on,
            are added.
    """
    if method not in found:
        found[method] = _in_groups(request, method.plan(request, lambda other: _answer(request, other, found)))
    return found[method]


def _hypothesis(request: Request, coupling: Coupling, one: Finalist) -> Hypothesis:
    """Return a ranked sentence with everything that the caller wants to know of it."""
    models, template = request.models, request.items[one.item].template
    return Hypothesis(
        tokens=one.words,
        text=None if models.vocabulary is None else models.text(template, one.words, one.template.runs),
        blanks=one.template.blanks(one.words),
        score=one.score,
        penalty=one.penalty or 0.0,
        broken=one.broken + (request.demands.check_names if one.rejected else ()),
        finished=one.finished,
        runs=one.template.runs,
        **coupling.described(one),
    )


def _in_groups(request: Request, search: Search) -> list[DecodeResult]:
    """Search for each group in turn, each with its share of the beam; see `Diversity`."""
    if request.groups == 1:
        return _in_parts(request, search)
    found: list[list[DecodeResult]] = [[] for _ in request.items]
    for _ in range(request.groups):
        avoided = [[one.tokens for result in own for one in result.hypotheses] for own in found]
        for own, result in zip(found, _in_parts(request.group(avoided), search), strict=True):
            own.append(result)
    return [_of_groups(own, frozenset(request.demands.check_names)) for own in found]


def _in_parts(request: Request, search: Search) -> list[DecodeResult]:
    """Search a batch; if it keeps more than the memory limit, search each half by itself."""
    if not request.items:
        return []
    began = time.perf_counter()
    try:
        with request.models.inference():
            coupling, outcomes = search(request)
    except OverLimitError:
        pass  # the halves are searched outside of this block, which keeps all that the failed search has read
    else:
        seconds = time.perf_counter() - began
        return [_result(request, coupling, item, outcome, seconds) for item, outcome in enumerate(outcomes)]
    middle = len(request.items) // 2
    halves = slice(0, middle), slice(middle, None)
    return [result for half in halves for result in _in_parts(request.part(half), search)]


def _result(request: Request, coupling: Coupling, item: int, outcome: Outcome, seconds: float) -> DecodeResult:
    rule = outcome.rule
    settings = [
        *outcome.signature,
        f"beams:{request.beam_size}",
        f"length:{rule if isinstance(rule, str) else format(rule, 'g')}",
        *([f"lengths:{request.lengths}"] if request.items[item].fixed is None else ()),
        *map(str, request.demands.constraints),
        *(f"hook:{name_of(one)}" for one in request.demands.hooks),
        *request.demands.check_names,
        *([] if request.diversity is None else [str(request.diversity)]),
        f"version:{__version__}",
    ]
    hypotheses = tuple(_hypothesis(request, coupling, one) for one in outcome.answers)
    return DecodeResult(
        hypotheses=hypotheses,
        stop=outcome.stop,
        rounds=len(outcome.trace) - 1,
        rows_evaluated=coupling.rows(item),
        signature="|".join(settings),
        trace=tuple(outcome.trace),
        seconds=seconds,
        length_rule=rule,
        proved=outcome.proved,
        upper_bound=outcome.upper_bound,
        posterior=_posterior(request, outcome, hypotheses),
        record=_record(request, coupling, item),
    )


def _posterior(request: Request, outcome: Outcome, hypotheses: Sequence[Hypothesis]) -> Posterior | None:
    """Return the probabilities of what was found; None if J is not that of whole sentences of a pair."""
    answers, models = outcome.answers, request.models
    changed = request.demands.hooks or request.diversity is not None
    whole = models.kind is PairCoupling and request.objective.scope == "sentence" and not changed
    if outcome.masses is None or not whole or not answers or any(one.broken for one in answers):
        return None
    joints = {one.tokens: one.joint for one in hypotheses if one.joint is not None}
    return posterior_of(joints, answers[0].template, outcome.masses, request.beam_size, models.spelled)


def _record(request: Request, coupling: Coupling, item: int) -> Record | None:
    """Return the record of an item; None if nothing was recorded."""
    models, recorder = request.models, coupling.recorder
    return None if recorder is None else recorder.record(item, models.vocab_size, models.spelled)


def _of_groups(found: Sequence[DecodeResult], checks: frozenset[str]) -> DecodeResult:
    """Join the results of an item's groups. Hypotheses that violate constraints stay only if all do.

    Args:
        found: the results of the groups.
        checks: the name of the check of finished sentences, if there is one. It is no constraint.
    """
    hypotheses = {one.tokens: one for result in reversed(found) for one in result.hypotheses}
    sound = [one for one in hypotheses.values() if checks.issuperset(one.broken)]
    ranked = sorted(
        sound or hypotheses.values(), key=lambda one: (not checks.isdisjoint(one.broken), -one.score, one.tokens)
    )
    rounds = itertools.zip_longest(*(result.trace for result in found), fillvalue=Round(0, 0))
    return replace(
        found[0],
        hypotheses=tuple(ranked),
        stop=min((result.stop for result in found), key=StopReason.settled),
        rounds=max(result.rounds for result in found),
        rows_evaluated=sum(result.rows_evaluated for result in found),
        trace=tuple(Round(sum(one.rows for one in same), sum(one.new_sentences for one in same)) for same in rounds),
        seconds=sum(result.seconds for result in found),
        proved=all(result.proved for result in found),
        record=None if found[0].record is None else Record.joined([one.record for one in found if one.record]),
    )
