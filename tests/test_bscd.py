"""The batched search against the slow reference, full enumeration, and the properties it must have."""

import math

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from tables import (
    END,
    START,
    TableScorer,
    members,
    pair,
    reference_template,
    seeds,
    table_options,
    templates,
    words_of,
)

from birnn_decode import Objective, Template, bscd_decode, rerank_decode, score_sentences
from birnn_decode.search.bscd import bscd
from birnn_decode.search.problem import Direction, Problem, branching_depths
from birnn_decode.search.tree import PrefixTree

V = 6
WORDS = words_of(V)
beam_sizes = st.sampled_from([1, 2, 3, 5, 40])
weights = st.sampled_from([(1.0, 1.0), (1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (1.0, 0.0)])


def hypotheses(result):
    return [(hypothesis.score, hypothesis.tokens) for hypothesis in result.hypotheses]


def assert_same(found, expected):
    """The same sentences in the same order, with the same scores."""
    assert [words for _, words in found] == [words for _, words in expected]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-9)


def blank_positions(scope, blanks):
    return None if scope == "sentence" else blanks


@given(
    seed=seeds,
    template=templates(V),
    beam_size=beam_sizes,
    max_rounds=st.sampled_from([0, 1, 2, 10]),
    weights=weights,
    scope=st.sampled_from(["sentence", "blank"]),
    ids=st.sampled_from([(START, END), (0, 0)]),
    table=table_options,
    members=members,
    normalized=st.booleans(),
)
def test_equals_the_slow_reference(
    seed, template, beam_size, max_rounds, weights, scope, ids, table, members, normalized
):
    forward, backward = pair(seed, V, ids=ids, normalized=normalized, **table, **members)
    allowed, blanks = reference_template(template, words_of(V, ids))
    expected = reference.bscd(
        forward.model(),
        backward.model(),
        allowed,
        blanks,
        beam_size,
        max_rounds,
        weights,
        counted=blank_positions(scope, blanks),
    )
    result = bscd_decode(
        forward,
        backward,
        None,
        Template.from_tokens(template),
        beam_size=beam_size,
        max_rounds=max_rounds,
        objective=Objective(*weights, scope=scope),
    )
    assert_same(hypotheses(result), expected.hypotheses)
    assert (result.stop, result.rounds) == (expected.stop, expected.rounds)
    assert sum(entry.new_sentences for entry in result.trace) == len(expected.pool)


@given(seed=seeds, template=templates(V, max_length=4), beam_size=beam_sizes, weights=weights, table=table_options)
def test_against_full_enumeration(seed, template, beam_size, weights, table):
    """A beam that holds every sentence is exact; smaller ones never exceed the best nor fall below the rerank."""
    forward, backward = pair(seed, V, **table)
    allowed, _ = reference_template(template, WORDS)
    every = reference.enumerate_best(forward.model(), backward.model(), allowed, 4**4, weights)
    options = {"template": Template.from_tokens(template), "objective": Objective(*weights)}

    result = bscd_decode(forward, backward, None, beam_size=beam_size, **options)
    reranked = rerank_decode(forward, backward, None, beam_size=beam_size, **options)
    for found, bound in zip(hypotheses(result), every[:beam_size], strict=False):
        assert found[0] <= bound[0] + 1e-9
    for found, floor in zip(hypotheses(result), hypotheses(reranked), strict=False):
        assert found[0] >= floor[0] - 1e-9
    assert len(result.hypotheses) >= len(reranked.hypotheses)

    complete = bscd_decode(forward, backward, None, beam_size=4**4, **options)
    if not (0.0 in weights and table["minus_inf"]):  # a model without weight may still end its own search
        assert_same(hypotheses(complete), every)


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


@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=2, max_size=5),
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


@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=1, max_size=4),
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

    scored = score_sentences(forward, backward, 1, [one.tokens for one in found], objective=Objective(*weights))
    for hypothesis, one in zip(found, scored, strict=True):
        assert one.tokens == hypothesis.tokens
        assert one.token_log_probs_forward == pytest.approx(hypothesis.token_log_probs_forward, abs=1e-9)
        assert one.token_log_probs_backward == pytest.approx(hypothesis.token_log_probs_backward, abs=1e-9)
        if scope == "sentence":
            assert one.score == pytest.approx(hypothesis.score, abs=1e-9)


def directions(forward, backward, template, banned=(START, END)):
    """Both directions of one item, for tests below the front door."""
    fixed = template.fixed()
    made = []
    for scorer, reverse in ((forward, False), (backward, True)):
        tree = PrefixTree(scorer, scorer.encode([None]), [0], [branching_depths(fixed, reverse)], "a")
        made.append(Direction(tree, 1.0, reverse, banned))
    return made, [Problem(0, one) for one in fixed]


def mirrored_table(scorer, backward):
    """The same table, reading the other way."""
    return TableScorer(
        scorer.seed, V, backward=backward, ids=(END, START), sharpness=scorer.sharpness, minus_inf=scorer.minus_inf
    )


@given(seed=seeds, template=templates(V), beam_size=st.sampled_from([1, 2, 3]), table=table_options)
def test_mirrored_problem_with_sweeps_swapped(seed, template, beam_size, table):
    forward, backward = pair(seed, V, **table)
    (first, second), problems = directions(forward, backward, Template.from_tokens(template))
    (search,), _ = bscd(first, second, problems, beam_size, 4)
    (other, one), problems = directions(
        mirrored_table(backward, False), mirrored_table(forward, True), Template.from_tokens(template[::-1])
    )
    (mirror,), _ = bscd(one, other, problems, beam_size, 4)
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
    members = {**members, "prefill": False}
    forward, backward = pair(seed, V, sharpness=sharpness, **members)
    allowed, blanks = reference_template(template, WORDS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorded = sweeps_of_reference(monkeypatch)
        reference.bscd(forward.model(), backward.model(), allowed, blanks, beam_size, 10)
    prefixes = [
        {prefix for frontiers in recorded[reverse] for beams in frontiers[:-1] for prefix, _ in beams}
        for reverse in (False, True)
    ]
    result = bscd_decode(forward, backward, None, Template.from_tokens(template), beam_size=beam_size)
    assert sum(entry.rows for entry in result.trace) == sum(len(distinct) for distinct in prefixes)
    for model, distinct in zip((forward, backward), prefixes, strict=True):
        read = [words for _, words in model.read]
        assert len(read) == len(set(read)), "a prefix was pushed twice"
        assert set(read[: len(distinct)]) == distinct
    assert result.rows_evaluated == forward.tokens_read + backward.tokens_read


@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=1, max_size=4),
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
        assert len(model.read) == len(set(model.read)), "a prefix was pushed twice"
