"""The batched search against the slow reference, full enumeration, and the properties it must have."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import (
    END,
    START,
    TableScorer,
    coupled,
    members,
    pair,
    reference_template,
    seeds,
    table_options,
    templates,
    words_of,
)

from birnn_decode import (
    BeamSearch,
    Objective,
    Pair,
    PrefixScorer,
    Rerank,
    Template,
    bscd_decode,
    decode,
    score_sentences,
)
from birnn_decode.search.bscd import bscd
from birnn_decode.template import Gap

V = 6
WORDS = words_of(V)
beam_sizes = st.sampled_from([1, 2, 3, 5, 40])
weights = st.sampled_from([(1.0, 1.0), (1.0, 1.0), (0.3, 3.0), (2.0, 0.5), (0.0, 1.0), (1.0, 0.0)])


def hypotheses(result):
    return [(hypothesis.score, hypothesis.tokens) for hypothesis in result.hypotheses]


def assert_same(found, expected):
    """The same sentences in the same order, with the same scores."""
    assert [words for _, words in found] == [words for _, words in expected]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-9)


def blank_positions(scope, blanks):
    return None if scope == "sentence" else blanks


def priors(seed, positions, kind):
    """A table of log-probabilities, of one kind or another; some words never occur."""
    if kind == "none":
        return None
    rng = np.random.default_rng([seed, 1])  # other numbers than the models', which would cancel out
    prior = 2 * rng.normal(size=(V,) if kind == "vocab" else (positions, V))
    prior[rng.random(size=prior.shape) < 0.1] = -np.inf
    return prior


@settings(max_examples=250)
@given(
    seed=seeds,
    template=templates(V, max_length=7),
    beam_size=beam_sizes,
    max_rounds=st.sampled_from([0, 1, 2, 10]),
    weights=weights,
    scope=st.sampled_from(["sentence", "blank"]),
    ids=st.sampled_from([(START, END), (0, 0)]),
    table=table_options,
    members=members,
    normalized=st.booleans(),
    prior=st.sampled_from(["none", "none", "vocab", "positions, vocab"]),
    prior_weight=st.sampled_from([1.0, 0.5]),
    splices=st.booleans(),
)
def test_equals_the_slow_reference(
    seed, template, beam_size, max_rounds, weights, scope, ids, table, members, normalized, prior, prior_weight, splices
):
    forward, backward = pair(seed, V, ids=ids, normalized=normalized, **table, **members)
    allowed, blanks = reference_template(template, words_of(V, ids))
    prior = priors(seed, len(template), prior)
    expected = reference.bscd(
        forward.model(),
        backward.model(),
        allowed,
        blanks,
        beam_size,
        max_rounds,
        weights,
        prior=None if prior is None else np.broadcast_to(prior, (len(template), V)).tolist(),
        prior_weight=prior_weight,
        counted=blank_positions(scope, blanks),
        splicing=splices,
    )
    result = bscd_decode(
        forward,
        backward,
        None,
        Template.from_tokens(template),
        beam_size=beam_size,
        max_rounds=max_rounds,
        objective=Objective(*weights, scope=scope),
        prior=prior,
        prior_weight=prior_weight,
        splices=splices,
    )
    assert_same(hypotheses(result), expected.hypotheses)
    assert (result.stop, result.rounds) == (expected.stop, expected.rounds)
    assert sum(entry.new_sentences for entry in result.trace) == len(expected.pool)


@pytest.mark.parametrize("beam_size", [2, 4])
def test_flat_models_go_round_in_cycles(beam_size):
    """Long blanks of models that say little: the runs that do not settle, as in the slow reference."""
    template = [Template.BLANK] * 8
    stops = set()
    for seed in range(12):
        forward, backward = pair(seed, V, sharpness=0.3)
        allowed, blanks = reference_template(template, WORDS)
        expected = reference.bscd(
            forward.model(), backward.model(), allowed, blanks, beam_size, 12, (0.4, 2.0), splicing=False
        )
        result = bscd_decode(
            forward,
            backward,
            None,
            Template.from_tokens(template),
            beam_size=beam_size,
            max_rounds=12,
            splices=False,
            objective=Objective(0.4, 2.0),
        )
        assert_same(hypotheses(result), expected.hypotheses)
        assert (result.stop, result.rounds) == (expected.stop, expected.rounds)
        stops.add(str(result.stop))
    assert stops >= {"converged", "cycle"}


@given(seed=seeds, template=templates(V, max_length=4), beam_size=beam_sizes, weights=weights, table=table_options)
def test_against_full_enumeration(seed, template, beam_size, weights, table):
    """A beam that holds every sentence is exact; smaller ones never exceed the best nor fall below the rerank."""
    forward, backward = pair(seed, V, **table)
    allowed, _ = reference_template(template, WORDS)
    every = reference.enumerate_best(forward.model(), backward.model(), allowed, 4**4, weights)
    options = {"template": Template.from_tokens(template), "objective": Objective(*weights)}

    result = bscd_decode(forward, backward, None, beam_size=beam_size, **options)
    reranked = decode(Pair(forward, backward), None, method=Rerank(), beam_size=beam_size, **options)
    for found, bound in zip(hypotheses(result), every[:beam_size], strict=False):
        assert found[0] <= bound[0] + 1e-9
    for found, floor in zip(hypotheses(result), hypotheses(reranked), strict=False):
        assert found[0] >= floor[0] - 1e-9
    assert len(result.hypotheses) >= len(reranked.hypotheses)

    complete = bscd_decode(forward, backward, None, beam_size=4**4, **options)
    if not (0.0 in weights and table["minus_inf"]):  # a model without weight may still end its own search
        assert_same(hypotheses(complete), every)


@settings(max_examples=60)
@given(seed=seeds, template=templates(V), beam_size=beam_sizes, table=table_options)
def test_more_rounds_never_lower_the_best(seed, template, beam_size, table):
    forward, backward = pair(seed, V, **table)
    best = -math.inf
    for max_rounds in range(5):
        result = bscd_decode(
            forward, backward, None, Template.from_tokens(template), beam_size=beam_size, max_rounds=max_rounds
        )
        if result.hypotheses:
            assert result.best.score >= best
            best = result.best.score


@settings(max_examples=60)
@given(
    seed=seeds,
    batch=st.lists(templates(V, max_length=4), min_size=2, max_size=4),
    beam_size=beam_sizes,
    table=table_options,
    members=members,
    share_image=st.booleans(),
    weights=weights,
)
def test_answers_do_not_depend_on_the_batch(seed, batch, beam_size, table, members, share_image, weights):
    forward, backward = pair(seed, V, **table, **members)
    templates = [Template.from_tokens(template) for template in batch]
    options = {"beam_size": beam_size, "objective": Objective(*weights)}
    images = [3] * len(batch) if share_image else list(range(len(batch)))
    together = bscd_decode(forward, backward, 3 if share_image else images, templates, **options)
    alone = [
        bscd_decode(forward, backward, image, template, **options)
        for image, template in zip(images, templates, strict=True)
    ]
    assert together == alone
    assert bscd_decode(forward, backward, images, templates, **options) == alone


@settings(max_examples=60)
@given(
    seed=seeds,
    batch=st.lists(templates(V, max_length=4), min_size=1, max_size=3),
    beam_size=beam_sizes,
    table=table_options,
    members=members,
    normalized=st.booleans(),
)
def test_torch_equals_numpy(seed, batch, beam_size, table, members, normalized):
    pytest.importorskip("torch")
    answers = []
    for library in ("numpy", "torch"):
        models = pair(seed, V, library=library, normalized=normalized, **table, **members)
        images = list(range(len(batch)))
        answers.append(bscd_decode(*models, images, [Template.from_tokens(one) for one in batch], beam_size=beam_size))
        for model in models:
            model.check_untouched()
    for in_numpy, in_torch in zip(*answers, strict=True):
        assert_same(hypotheses(in_torch), hypotheses(in_numpy))
        assert in_torch.stop == in_numpy.stop
        assert in_torch.trace == in_numpy.trace
        assert in_torch.rows_evaluated == in_numpy.rows_evaluated


@settings(max_examples=60)
@given(seed=seeds, template=templates(V), beam_size=beam_sizes, table=table_options)
def test_directions_of_different_libraries(seed, template, beam_size, table):
    pytest.importorskip("torch")
    forward, backward = pair(seed, V, **table)
    expected = bscd_decode(forward, backward, None, Template.from_tokens(template), beam_size=beam_size)
    for libraries in (("numpy", "torch"), ("torch", "numpy")):
        mixed = [
            TableScorer(model.seed, V, backward=model is backward, library=library, **table)
            for model, library in zip((forward, backward), libraries, strict=True)
        ]
        result = bscd_decode(*mixed, None, Template.from_tokens(template), beam_size=beam_size)
        assert_same(hypotheses(result), hypotheses(expected))


@settings(max_examples=60)
@given(
    seed=seeds,
    template=templates(V),
    beam_size=beam_sizes,
    weights=weights,
    scope=st.sampled_from(["sentence", "blank"]),
    table=table_options,
    members=members,
)
def test_every_hypothesis_is_what_it_says(seed, template, beam_size, weights, scope, table, members):
    """Distinct, allowed, ordered; score, J, log-probabilities and terms are those of the finished sentence."""
    forward, backward = pair(seed, V, **table, **members)
    allowed, blanks = reference_template(template, WORDS)
    objective = Objective(*weights, scope=scope)
    result = bscd_decode(forward, backward, 1, Template.from_tokens(template), beam_size=beam_size, objective=objective)
    found = result.hypotheses
    assert len(found) <= beam_size
    assert len({hypothesis.tokens for hypothesis in found}) == len(found)
    assert [(-one.score, one.tokens) for one in found] == sorted((-one.score, one.tokens) for one in found)
    for hypothesis in found:
        assert len(hypothesis.tokens) == len(allowed)
        assert all(token in tokens for token, tokens in zip(hypothesis.tokens, allowed, strict=True))
        assert [t for blank in hypothesis.blanks for t in blank] == [hypothesis.tokens[at] for at in sorted(blanks)]
        terms_f = reference.token_terms(forward.model(1), hypothesis.tokens, False)
        terms_b = reference.token_terms(backward.model(1), hypothesis.tokens, True)
        assert hypothesis.token_log_probs_forward == pytest.approx(terms_f, abs=1e-9)
        assert hypothesis.token_log_probs_backward == pytest.approx(terms_b, abs=1e-9)
        assert hypothesis.log_prob_forward == math.fsum(hypothesis.token_log_probs_forward)
        assert hypothesis.log_prob_backward == math.fsum(hypothesis.token_log_probs_backward)
        joint = reference.joint(
            forward.model(1), backward.model(1), hypothesis.tokens, weights, blank_positions(scope, blanks)
        )
        assert hypothesis.joint == hypothesis.score == pytest.approx(joint, abs=1e-9)

    scored = score_sentences(Pair(forward, backward), 1, [one.tokens for one in found], objective=Objective(*weights))
    for hypothesis, one in zip(found, scored, strict=True):
        assert one.tokens == hypothesis.tokens
        assert one.token_log_probs_forward == pytest.approx(hypothesis.token_log_probs_forward, abs=1e-9)
        assert one.token_log_probs_backward == pytest.approx(hypothesis.token_log_probs_backward, abs=1e-9)
        if scope == "sentence":
            assert one.score == pytest.approx(hypothesis.score, abs=1e-9)


def of_image(only, start, end):
    """A model that writes random words about an image, and for the image None one word again and again."""

    def score(images, prefixes):
        scores = np.full((len(images), V), -np.inf)
        for own, image, prefix in zip(scores, images, np.asarray(prefixes).tolist(), strict=True):
            if image is None:
                own[[only, end]] = 0.0
            else:
                own[:] = 2 * np.random.default_rng([image, start, *prefix]).normal(size=V)
        return scores

    return PrefixScorer(score, vocab_size=V, start_token=start, end_token=end)


@pytest.mark.parametrize("first", range(0, 20, 2))
def test_a_problem_that_ends_within_a_sweep_leaves_those_behind_it_alone(first):
    """Each model alone can describe the second image; the two have no sentence in common."""
    models, template = Pair(of_image(4, START, END), of_image(5, END, START)), Template.blank([], 4)
    images = [first, None, first + 1]
    together = decode(models, images, template, beam_size=2)
    alone = [decode(models, image, template, beam_size=2) for image in images]
    assert [hypotheses(result) for result in together] == [hypotheses(result) for result in alone]
    assert [result.rows_evaluated for result in together] == [result.rows_evaluated for result in alone]
    assert together[1].hypotheses == ()


def mirrored_table(scorer, backward):
    """The same table, reading the other way."""
    return TableScorer(
        scorer.seed, V, backward=backward, ids=(END, START), sharpness=scorer.sharpness, minus_inf=scorer.minus_inf
    )


@settings(max_examples=60)
@given(seed=seeds, template=templates(V), beam_size=st.sampled_from([1, 2, 3]), table=table_options)
def test_mirrored_problem_gives_mirrored_answers(seed, template, beam_size, table):
    """Models swapped and template mirrored: beam search and rerank read the same thing from the other side."""
    forward, backward = pair(seed, V, **table)
    swapped = mirrored_table(backward, False), mirrored_table(forward, True)
    straight, mirrored = Template.from_tokens(template), Template.from_tokens(template[::-1])
    options = {"beam_size": beam_size}
    answers = [
        (
            decode(Pair(forward, backward), None, straight, Rerank(), **options),
            decode(Pair(*swapped), None, mirrored, Rerank(), **options),
        ),
        (
            decode(Pair(forward, None), None, straight, BeamSearch("forward"), **options),
            decode(Pair(None, swapped[1]), None, mirrored, BeamSearch("backward"), **options),
        ),
        (
            decode(Pair(None, backward), None, straight, BeamSearch("backward", "sentence"), **options),
            decode(Pair(swapped[0], None), None, mirrored, BeamSearch("forward", "sentence"), **options),
        ),
    ]
    for one, other in answers:
        assert [hypothesis.tokens[::-1] for hypothesis in other.hypotheses] == [
            hypothesis.tokens for hypothesis in one.hypotheses
        ]
        assert [hypothesis.score for hypothesis in other.hypotheses] == pytest.approx(
            [hypothesis.score for hypothesis in one.hypotheses], abs=1e-9
        )
        for hypothesis, mirror in zip(one.hypotheses, other.hypotheses, strict=True):
            if hypothesis.token_log_probs_forward is not None:
                *words, end = hypothesis.token_log_probs_forward
                assert mirror.token_log_probs_backward == (*reversed(words), end)


@given(seed=seeds, template=templates(V), beam_size=st.sampled_from([1, 2, 3]), table=table_options)
def test_mirrored_problem_with_sweeps_swapped(seed, template, beam_size, table):
    forward, backward = pair(seed, V, **table)
    coupling, problems = coupled(forward, backward, Template.from_tokens(template))
    (search,), _ = bscd(coupling, problems, beam_size, 4)
    swapped, problems = coupled(
        mirrored_table(backward, False), mirrored_table(forward, True), Template.from_tokens(template[::-1])
    )
    (mirror,), _ = bscd(replace(swapped, directions=swapped.directions[::-1]), problems, beam_size, 4)
    assert [[words[::-1] for words in new] for new in mirror.met] == search.met
    assert (mirror.stop, mirror.rounds) == (search.stop, search.rounds)


def sweeps_of_reference(monkeypatch):
    """Record the frontiers of every sweep that the reference makes."""
    recorded = {False: [], True: []}
    for name in ("classical", "sweep"):
        original = getattr(reference, name)

        def recording(*args, original=original, name=name, **options):
            frontiers = original(*args, **options)
            reverse = options.get("reverse", args[3] if name == "classical" else args[5])
            recorded[reverse].append(frontiers)
            return frontiers

        monkeypatch.setattr(reference, name, recording)
    return recorded


@given(seed=seeds, template=templates(V), beam_size=beam_sizes, sharpness=st.sampled_from([0.3, 3.0]), members=members)
def test_sweeps_push_every_distinct_prefix_once(seed, template, beam_size, sharpness, members):
    members = {**members, "steps": False}
    forward, backward = pair(seed, V, sharpness=sharpness, **members)
    allowed, blanks = reference_template(template, WORDS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorded = sweeps_of_reference(monkeypatch)
        reference.bscd(forward.model(), backward.model(), allowed, blanks, beam_size, 10, splicing=False)
    prefixes = [
        {prefix for frontiers in recorded[reverse] for beams in frontiers[:-1] for prefix, _ in beams}
        for reverse in (False, True)
    ]
    result = bscd_decode(forward, backward, None, Template.from_tokens(template), beam_size=beam_size, splices=False)
    assert sum(entry.rows for entry in result.trace) == sum(len(distinct) for distinct in prefixes)
    for model, distinct in zip((forward, backward), prefixes, strict=True):
        read = [words for _, words in model.read]
        assert len(read) == len(set(read)), "a prefix was pushed twice"
        assert set(read[: len(distinct)]) == distinct
    assert result.rows_evaluated == forward.tokens_read + backward.tokens_read


@settings(max_examples=60)
@given(
    seed=seeds,
    template=templates(V),
    beam_size=beam_sizes,
    table=table_options,
    width=st.integers(0, 2),
    members=members,
)
def test_reading_several_words_in_one_call_changes_no_answer(seed, template, beam_size, table, width, members):
    """With `steps` or without: the same answers. Rows are what was read; the words known at first are read once."""
    template = Template((2, 3, Gap(0, width), *Template.from_tokens(template).parts, 4, 5, 2))
    answers = []
    for steps in (False, True):
        models = pair(seed, V, **table, **{**members, "steps": steps})
        answers.append(bscd_decode(*models, 1, template, beam_size=beam_size))
        assert answers[-1].rows_evaluated == sum(model.tokens_read for model in models)
    assert answers[0].hypotheses == answers[1].hypotheses
    assert [entry.new_sentences for entry in answers[0].trace] == [entry.new_sentences for entry in answers[1].trace]
    assert answers[0].stop == answers[1].stop


@given(seed=seeds, template=templates(V), beam_size=beam_sizes, aligned=st.booleans())
def test_nothing_is_kept_where_nobody_asks_again(seed, template, beam_size, aligned):
    """Scores stay for blank positions only, and states where more than one word may follow."""
    template = Template.from_tokens([2, 3, *template, 4, Template.BLANK, 2])
    coupling, problems = coupled(*pair(seed, V, aligned=aligned), template)
    bscd(coupling, problems, beam_size, 4, splices=False)
    for direction in coupling.directions:
        tree, lane = direction.tree, direction.lane(problems[0].template)
        nodes = np.arange(len(tree))
        nodes = np.unique(tree.parents[nodes[tree.depths[nodes] > 0]])
        assert len(nodes)
        for node, depth, known in zip(nodes, tree.depths[nodes].tolist(), tree.known(nodes), strict=True):
            blank = lane.codes[depth] < 0
            assert known == blank
            if not blank and depth + 1 < lane.end:  # its only child was read
                assert tree._states.block[node] < 0
        for blocks in (tree._scores, tree._states):
            needed = set(blocks.block[: len(tree)].tolist())
            assert [value is not None for value in blocks.values] == [at in needed for at in range(len(blocks.values))]


@settings(max_examples=60)
@given(
    seed=seeds,
    batch=st.lists(templates(V, max_length=4), min_size=1, max_size=3),
    beam_size=beam_sizes,
    table=table_options,
    members=members,
)
def test_rows_evaluated_is_a_true_count(seed, batch, beam_size, table, members):
    models = pair(seed, V, **table, **members)
    results = bscd_decode(
        *models, list(range(len(batch))), [Template.from_tokens(one) for one in batch], beam_size=beam_size
    )
    assert sum(result.rows_evaluated for result in results) == sum(model.tokens_read for model in models)
    for model in models:
        # A call that reads several words leaves no state in between, so some of them may have to be read again.
        once = len(model.read) == len(set(model.read))
        assert once or members["steps"], "a prefix was pushed twice"


def counted_calls(models):
    """A list that grows by the rows of each call that is made from now on."""
    calls = []
    for model in models:

        def step(tokens, state, step=model.step):
            calls.append(len(tokens))
            return step(tokens, state)

        model.step = step
    return calls


def test_scoring_many_finalists_takes_few_calls():
    """Flat models and long known ends: bounds decide little, and finalists are not read one after another."""
    forward, backward = pair(1, V, sharpness=0.3, aligned=False)
    template = Template.from_tokens([2] * 12 + [Template.BLANK] * 6 + [3] * 12)
    calls = counted_calls((forward, backward))
    result = bscd_decode(forward, backward, None, template, beam_size=1, max_rounds=20, splices=False)
    assert sum(entry.new_sentences for entry in result.trace) > 10
    sweeps = 2 * 18 + result.rounds * 2 * 6
    # Each direction: one finalist at a time for 31 words, and after that all of the rest together.
    assert len(calls) <= sweeps + 2 * 31 + 2 * 31


def test_finalists_wait_for_each_other():
    """Where the rows of a call must have read equally many words, that takes few more calls than elsewhere."""
    template = Template.from_tokens([2] * 4 + [Template.BLANK] * 6 + [3] * 4)
    needed = {}
    for aligned in (True, False):
        models = pair(1, V, sharpness=0.3, aligned=aligned)
        calls = counted_calls(models)
        bscd_decode(*models, list(range(12)), [template] * 12, max_rounds=20)
        needed[aligned] = len(calls)
    assert needed[True] <= 2.5 * needed[False]


@pytest.mark.parametrize("beam_size", [1, 2])
def test_many_finalists_of_a_batch(beam_size):
    """Where all that can still win are read together, it is those of each item."""
    models = pair(1, V, sharpness=0.3)
    template = Template.from_tokens([2] * 4 + [Template.BLANK] * 6 + [3] * 4)
    options = {"beam_size": beam_size, "max_rounds": 20}
    alone = [bscd_decode(*models, image, template, **options) for image in range(4)]
    assert bscd_decode(*models, list(range(4)), [template] * 4, **options) == alone
    for image, result in enumerate(alone):
        for hypothesis in result.hypotheses:
            (one,) = score_sentences(Pair(*models), image, [hypothesis.tokens])
            assert one.score == pytest.approx(hypothesis.score, abs=1e-9)
