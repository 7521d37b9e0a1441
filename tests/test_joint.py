"""Models with one softmax over both sides: against a slow reference, full enumeration, and chains that are known."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import reference
import reference_joint
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import random_logits
from scipy.special import logsumexp
from scipy.stats import chisquare
from tables import (
    END,
    START,
    TableScorer,
    coupled,
    members,
    one_sided,
    pair,
    reference_template,
    seeds,
    templates,
    words_of,
)
from test_backend import LIBRARIES, make
from test_bscd import assert_same, hypotheses, mirrored_table

from birnn_decode import (
    BSCD,
    BeamSearch,
    Diversity,
    Gibbs,
    JointModel,
    Objective,
    Pair,
    PrefixScorer,
    Rerank,
    Template,
    compare,
    decode,
    score_sentences,
)
from birnn_decode.search import joint as joint_search
from birnn_decode.search.bscd import bscd
from birnn_decode.search.gibbs import gibbs
from birnn_decode.search.joint import JointCoupling
from birnn_decode.template import Gap

V = 6
JOINT_METHODS = ("urnn-f", "urnn-b", "rerank", "gibbs", "bscd", "bscd-paper")
WORDS = words_of(V)
BLANK = Template.BLANK
beam_sizes = st.sampled_from([1, 2, 3, 5, 40])
scopes = st.sampled_from(["sentence", "blank"])
table_options = st.fixed_dictionaries(
    {"sharpness": st.sampled_from([0.3, 1.0, 3.0]), "minus_inf": st.sampled_from([0.0, 0.0, 0.2])}
)


def rows_of(model, image=0):
    """The table of a `TableScorer`, as logits."""
    return lambda prefix: random_logits(model._seed(image), prefix, model.vocab_size, model.sharpness, model.minus_inf)


def added(forward, backward, image=0):
    return reference_joint.Conditionals(reference_joint.additive(rows_of(forward, image), rows_of(backward, image)))


def table_of_both(seed, library="numpy"):
    """A ``combine`` over a table with a row of its own for every pair of prefixes, and what it says of one pair."""

    def scores(left, right):
        return random_logits(seed + 31, (*left, 50, *right), V, 2.0)

    def combine(left, right):
        assert len(left) == len(right) > 0
        rows = np.array([scores(own, others) for (_, own), (_, others) in zip(left, right, strict=True)])
        if library == "torch":
            import torch

            return torch.from_numpy(rows)
        return rows

    return combine, reference_joint.Conditionals(scores)


def counted(scope, blanks):
    return None if scope == "sentence" else blanks


@settings(max_examples=120)
@given(
    seed=seeds,
    template=templates(V, max_length=6),
    beam_size=beam_sizes,
    max_rounds=st.sampled_from([0, 1, 2, 10]),
    scope=scopes,
    table=table_options,
    members=members,
    joined=st.booleans(),
    splices=st.booleans(),
)
def test_equals_the_slow_reference(seed, template, beam_size, max_rounds, scope, table, members, joined, splices):
    combine, conditionals = None, None
    if joined:
        table, members = {**table, "minus_inf": 0.0}, {**members, "join": True}
        combine, conditionals = table_of_both(seed)
    forward, backward = pair(seed, V, **table, **members)
    conditionals = conditionals or added(forward, backward)
    allowed, blanks = reference_template(template, WORDS)
    expected = reference_joint.bscd(
        (forward.model(), backward.model()),
        conditionals,
        allowed,
        blanks,
        beam_size,
        max_rounds,
        counted(scope, blanks),
        splicing=splices,
    )
    result = decode(
        JointModel(forward, backward, combine),
        None,
        Template.from_tokens(template),
        BSCD(max_rounds=max_rounds, splices=splices),
        beam_size=beam_size,
        objective=Objective(scope=scope),
    )
    assert_same(hypotheses(result), expected.hypotheses)
    assert (result.stop, result.rounds) == (expected.stop, expected.rounds)
    assert sum(entry.new_sentences for entry in result.trace) == len(expected.pool)
    for one in result.hypotheses:
        assert one.token_conditionals == pytest.approx(reference_joint.terms(conditionals, one.tokens), abs=1e-9)
        assert one.pseudo_log_prob == pytest.approx(sum(one.token_conditionals))
        assert (one.joint, one.log_prob_forward, one.token_log_probs_backward) == (None, None, None)


@settings(max_examples=60)
@given(
    seed=seeds,
    template=templates(V, max_length=4),
    beam_size=beam_sizes,
    scope=scopes,
    table=table_options,
    joined=st.booleans(),
)
def test_against_full_enumeration(seed, template, beam_size, scope, table, joined):
    """A beam that holds every sentence is exact; a smaller one never exceeds the best nor falls below the rerank."""
    combine, conditionals = table_of_both(seed) if joined else (None, None)
    if joined or scope == "blank":  # there a half may find a word impossible that counts for nothing
        table = {**table, "minus_inf": 0.0}
    model = JointModel(*pair(seed, V, **table), combine)
    conditionals = conditionals or added(model.forward_half, model.backward_half)
    allowed, blanks = reference_template(template, WORDS)
    every = reference_joint.enumerate_best(conditionals, allowed, 4**4, counted(scope, blanks))
    options = {"template": Template.from_tokens(template), "objective": Objective(scope=scope)}
    complete = decode(model, None, beam_size=4**4, **options)
    assert_same(hypotheses(complete), every)
    narrow = decode(model, None, beam_size=beam_size, **options)
    reranked = decode(model, None, method=BSCD(max_rounds=0), beam_size=beam_size, **options)
    for found, bound in zip(hypotheses(narrow), every, strict=False):
        assert found[0] <= bound[0] + 1e-9
    for found, floor in zip(hypotheses(narrow), hypotheses(reranked), strict=False):
        assert found[0] >= floor[0] - 1e-9


@settings(max_examples=60)
@given(seed=seeds, template=templates(V, max_length=4), beam_size=beam_sizes, scope=scopes, table=table_options)
def test_more_rounds_never_lower_the_best(seed, template, beam_size, scope, table):
    model = JointModel(*pair(seed, V, **table))
    best = -math.inf
    for max_rounds in range(5):
        result = decode(
            model,
            None,
            Template.from_tokens(template),
            BSCD(max_rounds=max_rounds),
            beam_size=beam_size,
            objective=Objective(scope=scope),
        )
        if result.hypotheses:
            assert result.best.score >= best
            best = result.best.score


@settings(max_examples=60)
@given(
    seed=seeds,
    template=templates(V),
    beam_size=st.sampled_from([1, 2, 3]),
    table=table_options,
    splices=st.booleans(),
)
def test_mirrored_problem_with_halves_swapped(seed, template, beam_size, table, splices):
    forward, backward = pair(seed, V, **table)
    coupling, problems = coupled(forward, backward, Template.from_tokens(template), kind=JointCoupling)
    (search,), _ = bscd(coupling, problems, beam_size, 4, splices=splices)
    halves, mirrored = (
        (mirrored_table(backward, False), mirrored_table(forward, True)),
        Template.from_tokens(template[::-1]),
    )
    swapped, problems = coupled(*halves, mirrored, kind=JointCoupling)
    (mirror,), _ = bscd(replace(swapped, directions=swapped.directions[::-1]), problems, beam_size, 4, splices=splices)
    assert [[words[::-1] for words in new] for new in mirror.met] == search.met
    assert (mirror.stop, mirror.rounds) == (search.stop, search.rounds)


@settings(max_examples=60)
@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=1, max_size=4),
    beam_size=beam_sizes,
    scope=scopes,
    table=table_options,
    members=members,
)
def test_no_prefix_is_read_twice(seed, batch, beam_size, scope, table, members):
    models = pair(seed, V, **table, **members)
    results = decode(
        JointModel(*models),
        list(range(len(batch))),
        [Template.from_tokens(one) for one in batch],
        beam_size=beam_size,
        objective=Objective(scope=scope),
    )
    assert sum(result.rows_evaluated for result in results) == sum(model.tokens_read for model in models)
    for model in models:
        assert len(model.read) == len(set(model.read)) or members["steps"]


def test_a_splice_is_read_outward_by_both_halves():
    """A third of the candidates goes on after each step, so most sentences cost few rows."""
    model = JointModel(*pair(1, V))
    template = Template.from_tokens([BLANK] * 12)
    spliced, paper = (decode(model, None, template, BSCD(splices=splices), beam_size=4) for splices in (True, False))
    assert spliced.rows_evaluated < paper.rows_evaluated
    assert spliced.signature.startswith("birnn-bscd|")
    assert paper.signature.startswith("birnn-bscd-paper|")


@given(seed=seeds, words=st.lists(st.sampled_from(WORDS), max_size=6), table=table_options, joined=st.booleans())
def test_sentences_from_elsewhere_are_scored(seed, words, table, joined):
    combine, conditionals = table_of_both(seed) if joined else (None, None)
    model = JointModel(*pair(seed, V, **table, steps=True), combine)
    conditionals = conditionals or added(model.forward_half, model.backward_half)
    ((one, other),) = score_sentences(model, [0], [[words, [2, 3]]])
    assert one.token_conditionals == pytest.approx(reference_joint.terms(conditionals, tuple(words)), abs=1e-9)
    assert one.score == one.pseudo_log_prob == pytest.approx(sum(one.token_conditionals))
    assert other.tokens == (2, 3)


@settings(max_examples=40)
@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=2, max_size=5),
    beam_size=beam_sizes,
    table=table_options,
    members=members,
    method=st.sampled_from(JOINT_METHODS),
)
def test_answers_do_not_depend_on_the_batch(seed, batch, beam_size, table, members, method):
    model = JointModel(*pair(seed, V, **table, **members))
    templates = [Template.from_tokens(template) for template in batch]
    images = list(range(len(batch)))
    options = {"methods": [method], "beam_size": beam_size}
    together = compare(model, images, templates, **options)
    alone = [compare(model, image, template, **options) for image, template in zip(images, templates, strict=True)]
    for many, single in zip(together, alone, strict=True):
        assert_same(hypotheses(many[method]), hypotheses(single[method]))
        assert many[method].trace == single[method].trace
        assert many[method].rows_evaluated == single[method].rows_evaluated
    parts = compare(model, images, templates, memory_limit=20_000, **options)
    for many, single in zip(parts, alone, strict=True):
        assert_same(hypotheses(many[method]), hypotheses(single[method]))


@settings(max_examples=40)
@given(
    seed=seeds,
    batch=st.lists(templates(V, max_length=4), min_size=1, max_size=2),
    beam_size=beam_sizes,
    table=table_options,
    joined=st.booleans(),
)
def test_torch_equals_numpy(seed, batch, beam_size, table, joined):
    pytest.importorskip("torch")
    answers = []
    for libraries in (("numpy", "numpy"), ("torch", "torch"), ("numpy", "torch"), ("torch", "numpy")):
        halves = [
            TableScorer(seed + 1_000_003 * backward, V, backward=backward, library=library, **table)
            for backward, library in zip((False, True), libraries, strict=True)
        ]
        combine = table_of_both(seed, libraries[0])[0] if joined else None
        images = list(range(len(batch)))
        templates = [Template.from_tokens(one) for one in batch]
        answers.append(decode(JointModel(*halves, combine), images, templates, beam_size=beam_size))
        for half in halves:
            half.check_untouched()
    for first, *others in zip(*answers, strict=True):
        for other in others:
            assert_same(hypotheses(other), hypotheses(first))
            assert (other.stop, other.trace, other.rows_evaluated) == (first.stop, first.trace, first.rows_evaluated)


@settings(max_examples=25)
@given(seed=seeds, beam_size=beam_sizes, widths=st.sets(st.integers(0, 3), min_size=1), scope=scopes)
def test_how_widths_are_compared(seed, beam_size, widths, scope):
    """By the sum; where blanks alone count, and their width is open, it is shared out over the words."""
    model = JointModel(*pair(seed, V))
    if scope == "blank" and len(widths) > 1 and 0 in widths:
        with pytest.raises(ValueError, match=r"because the empty blank would always win\. Give a reward per word"):
            decode(model, None, widths=widths, beam_size=4**3, objective=Objective(scope=scope))
        return
    conditionals = added(model.forward_half, model.backward_half)
    rule = "average" if scope == "blank" and len(widths) > 1 else "none"
    every = [
        (score / (len(words) + 1) if rule == "average" else score, words)
        for width in widths
        for score, words in reference_joint.enumerate_best(conditionals, [frozenset(WORDS)] * width, 4**3)
    ]
    found = decode(model, None, widths=widths, beam_size=4**3, objective=Objective(scope=scope))
    assert f"|length:{rule}|" in found.signature
    assert_same(hypotheses(found), reference.top(every, 4**3))
    rewarded = decode(model, None, widths=widths, beam_size=beam_size, objective=Objective(length=1.5))
    for one in rewarded.hypotheses:
        assert one.score == pytest.approx(one.pseudo_log_prob + 1.5 * len(one.tokens))


def test_blanks_of_several_lengths_are_compared_by_their_mean():
    model = JointModel(*pair(0, V))
    found = decode(model, None, widths=[1, 3], beam_size=40, objective=Objective(scope="blank"))
    for one in found.hypotheses:
        assert one.score == pytest.approx(one.pseudo_log_prob / (len(one.tokens) + 1))
    assert {len(one.tokens) for one in found.hypotheses} == {1, 3}


@given(seed=seeds)
def test_a_sentence_that_several_widths_give_counts_as_the_best_of_them(seed):
    """Which of its words fill blanks differs."""
    model = JointModel(*pair(seed, V))
    conditionals = added(model.forward_half, model.backward_half)
    template = Template((Gap(0, 1), 3, Gap(0, 1)))
    every = {}
    for before in (0, 1):
        for behind in (0, 1):
            allowed = [frozenset(WORDS)] * before + [frozenset([3])] + [frozenset(WORDS)] * behind
            blanks = {at for at in range(len(allowed)) if at != before}
            for score, words in reference_joint.enumerate_best(conditionals, allowed, 4**3, blanks):
                every[words] = max(every.get(words, -math.inf), score + 2.0 * len(words))
    found = decode(model, None, template, beam_size=4**3, objective=Objective(scope="blank", length=2.0))
    assert_same(hypotheses(found), reference.top(((score, words) for words, score in every.items()), 4**3))


# ------------------------------------------------------------------------------------- halves alone, and all methods


@settings(max_examples=50)
@given(seed=seeds, template=templates(V), beam_size=beam_sizes, table=table_options)
def test_a_half_alone_is_beam_search(seed, template, beam_size, table):
    model = JointModel(*pair(seed, V, **table))
    template = Template.from_tokens(template)
    found = compare(model, 1, template, ["urnn-f", "urnn-b"], beam_size=beam_size)
    for name, half, direction in (
        ("urnn-f", model.forward_half, "forward"),
        ("urnn-b", model.backward_half, "backward"),
    ):
        expected = decode(one_sided(half, direction), 1, template, BeamSearch(direction), beam_size=beam_size)
        assert [one.tokens for one in found[name].hypotheses] == [one.tokens for one in expected.hypotheses]
        if template.gaps:  # what precedes the first blank counts in neither
            assert [one.score for one in found[name].hypotheses] == pytest.approx(
                [one.score for one in expected.hypotheses], abs=1e-9
            )
        scored = score_sentences(model, 1, [one.tokens for one in found[name].hypotheses])
        assert [one.pseudo_log_prob for one in found[name].hypotheses] == pytest.approx(
            [one.pseudo_log_prob for one in scored], abs=1e-9
        )


@settings(max_examples=40)
@given(seed=seeds, beam_size=beam_sizes, low=st.integers(0, 2), rule=st.sampled_from(["auto", "average", 1.5]))
def test_a_half_alone_ranks_widths_as_beam_search_does(seed, beam_size, low, rule):
    model = JointModel(*pair(seed, V))
    template, objective = Template((Gap(low, 3), 2, Gap(1, 2))), Objective(length=rule)
    options = {"beam_size": beam_size, "objective": objective}
    found = compare(model, None, template, ["urnn-f", "urnn-b"], **options)
    for name, half, direction in (
        ("urnn-f", model.forward_half, "forward"),
        ("urnn-b", model.backward_half, "backward"),
    ):
        expected = decode(one_sided(half, direction), None, template, BeamSearch(direction), **options)
        assert [one.tokens for one in found[name].hypotheses] == [one.tokens for one in expected.hypotheses]
        assert found[name].length_rule == expected.length_rule
        assert f"|length:{expected.length_rule}" in found[name].signature
        assert found[name].trace == expected.trace


def test_groups_share_the_rows_of_sampling():
    model, template = JointModel(*pair(3, V)), Template.from_tokens([2, BLANK, BLANK, BLANK, 3])
    found = compare(model, None, template, ["bscd", "gibbs"], beam_size=4, diversity=Diversity(4, 0.5))
    bscd, gibbs = found["bscd"], found["gibbs"]
    assert f"|rows:{bscd.rows_evaluated}|" in gibbs.signature
    assert "|beams:4|" in gibbs.signature
    assert gibbs.rows_evaluated - 4 * gibbs.trace[-1].rows < 2 * bscd.rows_evaluated


def test_gibbs_is_given_the_rows_of_bscd():
    model = JointModel(*pair(3, V))
    template = Template.from_tokens([2, BLANK, BLANK, BLANK, 3])
    found = compare(model, None, template, JOINT_METHODS)
    assert list(found) == list(JOINT_METHODS)
    rows = found["bscd"].rows_evaluated
    gibbs = found["gibbs"]
    assert gibbs.rows_evaluated - gibbs.trace[-1].rows < rows <= gibbs.rows_evaluated
    assert f"|rows:{rows}|" in gibbs.signature
    reranked = decode(model, None, template, BSCD(max_rounds=0))
    assert hypotheses(found["rerank"]) == hypotheses(reranked)
    assert found["bscd"].best.score >= found["rerank"].best.score


# ------------------------------------------------------------------------------------------------------------- Gibbs


@settings(max_examples=50)
@given(seed=seeds, template=templates(V), table=table_options, joined=st.booleans())
def test_a_word_is_drawn_given_all_others(seed, template, table, joined):
    """From the forward half alone while words are missing, and from the softmax over both sides afterwards."""
    combine, conditionals = None, None
    if joined:
        table = {**table, "minus_inf": 0.0}
        combine, conditionals = table_of_both(seed)
    forward, backward = pair(seed, V, steps=True, **table)
    conditionals = conditionals or added(forward, backward)
    allowed, blanks = reference_template(template, WORDS)
    drawn = []

    def recording(coupling, moving, original=JointCoupling.conditional):
        before = [(tuple(chain.words), at) for chain, at in moving]
        given = original(coupling, moving)
        drawn.extend(zip(before, given.copy(), strict=True))
        return given

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(JointCoupling, "conditional", recording)
        decode(
            JointModel(forward, backward, combine),
            None,
            Template.from_tokens(template),
            Gibbs(sweeps=4, restart_after=2),
            beam_size=2,
        )
    assert bool(drawn) == bool(blanks)
    for (words, at), log_probs in drawn:
        expected = rows_of(forward)(words[:at]) if -1 in words else conditionals(words[:at], words[:at:-1])
        ids = sorted(allowed[at])
        found, expected = log_probs[ids], np.asarray(expected)[ids]
        if np.isneginf(expected).all():
            assert np.isneginf(found).all()
        else:
            assert found - logsumexp(found) == pytest.approx(expected - logsumexp(expected), abs=1e-9)


def chain_model(seed, words=3):
    """A Bi-RNN that knows a first-order chain of words 2, 3, …, and the chain's log-probabilities of a step.

    p(v | rest) ∝ p(v | word before) · p(word behind | v): these are conditionals of one distribution.
    """
    size = words + 2
    steps = np.log(np.random.default_rng(seed).dirichlet(np.ones(size), size=size))

    def half(start, end, read):
        return PrefixScorer(read, vocab_size=size, start_token=start, end_token=end)

    forward = half(START, END, lambda context, prefixes: steps[prefixes[:, -1]])
    backward = half(END, START, lambda context, prefixes: steps[:, prefixes[:, -1]].T)
    return JointModel(forward, backward), steps


def test_gibbs_comes_to_the_distribution_that_the_conditionals_are_of():
    """In the long run sentences come as often as the chain has them, given what is known."""
    model, steps = chain_model(5)
    template = Template.from_tokens([2, BLANK, BLANK, 4])
    every = {(2, a, b, 4): steps[2, a] + steps[a, b] + steps[b, 4] for a in (2, 3, 4) for b in (2, 3, 4)}
    log_total = logsumexp(list(every.values()))
    counts = dict.fromkeys(every, 0)

    def counting(*given, original=gibbs):
        *given, met = given
        sweeps = []

        def met_and_counted(sentences):
            sweeps.append(1)
            if len(sweeps) > 10:  # the beginning is forgotten by then
                for _, words in sentences:
                    counts[words] += 1
            return met(sentences)

        original(*given, met_and_counted)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("birnn_decode.methods.gibbs", counting)
        decode(model, None, template, Gibbs(sweeps=11, restart_after=20, seed=1), beam_size=400)
    assert sum(counts.values()) == 400
    expected = [400 * math.exp(log_prob - log_total) for log_prob in every.values()]
    assert chisquare(list(counts.values()), expected).pvalue > 1e-3


# ------------------------------------------------------------------------------------------- what a backend computes

entries = st.one_of(st.floats(-3, 3), st.just(-math.inf), st.sampled_from([-1e4, 1e4, -700.0, 700.0]))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@given(data=st.data())
def test_normalisers_of_all_pairs(library, dtype, data):
    """One product of matrices, and where it underflows the sums themselves; -inf stays -inf and never becomes NaN."""
    problems, beams, others, vocab = (data.draw(st.integers(1, most)) for most in (2, 3, 3, 6))
    shapes = (problems * beams, vocab), (problems * others, vocab)
    left, right = (
        np.array(data.draw(st.lists(entries, min_size=rows * size, max_size=rows * size)), dtype).reshape(rows, size)
        for rows, size in shapes
    )
    (given_left, backend), (given_right, _) = make(library, left), make(library, right)
    found = [np.asarray(one) for one in backend.pair_log_probs(given_left, given_right, problems)]
    assert len(found) == others
    for other, log_probs in enumerate(found):
        assert log_probs.dtype == dtype
        sums = left.astype(float) + np.repeat(right[other::others], beams, axis=0)
        highest = sums.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            expected = np.where(np.isneginf(highest), -np.inf, sums - logsumexp(sums, axis=1, keepdims=True))
        assert np.array_equal(np.isneginf(log_probs), np.isneginf(expected))
        finite = expected > -np.inf
        tolerance = {"float64": 1e-9, "float32": 1e-2}[dtype]  # scores of 10,000 have few digits behind the point
        assert log_probs[finite] == pytest.approx(expected[finite], abs=tolerance, rel=1e-5)
    assert np.array_equal(np.asarray(given_left), left)
    assert np.array_equal(np.asarray(given_right), right)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("dtype", "depths"), [("float64", (-700.0, -745.0)), ("float32", (-85.0, -103.0))])
def test_products_that_lose_digits_are_taken_again(library, dtype, depths):
    """Between the least normal number and nothing at all a product is above 0 and wrong."""
    for depth in np.linspace(*depths, 24):
        left = np.array([[0.0, depth, depth + 1.0]], dtype)
        right = np.array([[depth, 0.0, 1.0]], dtype)
        (given_left, backend), (given_right, _) = make(library, left), make(library, right)
        (found,) = (np.asarray(one, dtype=float) for one in backend.pair_log_probs(given_left, given_right, 1))
        sums = left.astype(float) + right.astype(float)
        expected = sums - logsumexp(sums, axis=1, keepdims=True)
        assert found == pytest.approx(expected, abs={"float64": 1e-12, "float32": 3e-5}[dtype])


@pytest.mark.parametrize("library", LIBRARIES)
@given(data=st.data())
def test_the_best_of_the_others(library, data):
    problems, beams, others, vocab = (data.draw(st.integers(1, most)) for most in (2, 3, 3, 4))
    few = st.one_of(st.integers(-2, 2).map(float), st.just(-math.inf))
    size = problems * beams * vocab
    terms = [
        np.array(data.draw(st.lists(few, min_size=size, max_size=size))).reshape(problems * beams, vocab)
        for _ in range(others)
    ]
    offsets = np.array(data.draw(st.lists(few, min_size=problems * others, max_size=problems * others)))
    offsets = offsets.reshape(problems, others)
    arrays = [make(library, one) for one in terms]
    best, which = arrays[0][1].best_other([array for array, _ in arrays], offsets)
    sums = np.array([one + np.repeat(offsets[:, other], beams)[:, None] for other, one in enumerate(terms)])
    assert np.array_equal(np.asarray(best), sums.max(axis=0))
    assert np.array_equal(np.asarray(which), sums.argmax(axis=0))  # the first of equals
    for array, own in zip(arrays, terms, strict=True):
        assert np.array_equal(np.asarray(array[0]), own)


def test_memory_is_that_of_the_beams():
    """Never all pairs of beams times the vocabulary, not even where all products underflow."""
    beams, vocab = 24, 20_000
    peaked = np.full((beams, vocab), -2000.0)
    peaked[np.arange(beams), np.arange(beams)] = 0
    array, backend = make("numpy", peaked)
    other, _ = make("numpy", np.roll(peaked, 100, axis=1))
    tracemalloc.start()
    best, _ = backend.best_other(backend.pair_log_probs(array, other, 1), np.zeros((1, beams)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.isfinite(best).all()
    assert peak < 8 * array.nbytes < array.nbytes * beams / 2


@pytest.mark.parametrize("block", [1, 3 * V, 7 * V])
def test_sentences_are_scored_in_blocks(block, monkeypatch):
    model = JointModel(*pair(1, V))
    asked = [[[2, 3, 4], [2, 4], [], [5]], [[3, 3, 3, 2]]]
    expected = score_sentences(model, [0, 1], asked)
    monkeypatch.setattr(joint_search, "LARGEST_BLOCK", block)
    assert score_sentences(model, [0, 1], asked) == expected


def test_what_was_read_for_an_item_goes_when_it_is_scored(monkeypatch):
    """Of many finished sentences few are held at a time."""
    held = []

    def scoring(coupling, finalists, original=JointCoupling._score_together):
        original(coupling, finalists)
        trees = (coupling.forward.tree, coupling.backward.tree)
        held.append([{int(tree.items[node]) for node in range(len(tree)) if tree.known(node)} for tree in trees])

    monkeypatch.setattr(joint_search, "LARGEST_BLOCK", 1)
    monkeypatch.setattr(JointCoupling, "_score_together", scoring)
    score_sentences(JointModel(*pair(1, V)), [0, 1, 2], [[[2, 3, 4], [2, 4]], [[3, 3, 3]], [[4]]])
    assert held == [[{item}, {item}] for item in range(3)]


# ------------------------------------------------------------------------------------------------ what cannot be right


def test_what_is_no_joint_model():
    forward, backward = pair(1, V)
    template = Template.from_tokens([2, BLANK])
    for model in (forward, None, JointModel(forward, 3)):
        with pytest.raises(
            TypeError,
            match=r"models must be Pair\(model_f, model_b\), a JointModel or another JointScorer, got|is not a Scorer",
        ):
            decode(model, None, template)
    joined = JointModel(forward, backward)
    for method in (BSCD(), Rerank()):
        with pytest.raises(TypeError, match=r"whose (two )?halves have one softmax"):
            decode(Pair(joined, joined), None, template, method)
    with pytest.raises(TypeError, match=r"combine must be a function \(left, right\) -> scores, or None, got 3"):
        decode(JointModel(forward, backward, 3), None, template)
    without_join = TableScorer(1, V, join=False)
    with pytest.raises(
        TypeError, match=r"combine needs join\(states\) -> state of both halves, and the forward half has none"
    ):
        decode(JointModel(without_join, backward, lambda left, right: None), None, template)
    model = JointModel(forward, backward)
    with pytest.raises(ValueError, match=r"does not predict where a sentence ends\. Give a template, or .* widths="):
        decode(model, None)
    with pytest.raises(ValueError, match=r"nothing to weigh. Leave both weights at 1"):
        decode(model, None, template, objective=Objective(2.0, 1.0))
    with pytest.raises(ValueError, match="are for whole captions"):
        decode(model, None, template, widths=[2])
    with pytest.raises(TypeError, match="widths must be a list of whole numbers, got 3"):
        decode(model, None, widths=3)
    with pytest.raises(ValueError, match=r"widths=\[\]: give at least one length"):
        decode(model, None, widths=[])
    for methods, error, message in (
        ("urnn-f", TypeError, "methods must be a list of methods or of their names, got 'urnn-f'"),
        (3, TypeError, "methods must be a list of methods or of their names, got 3"),
        ([], ValueError, r"methods is empty\. Give at least one method"),
        (["birnn-f"], ValueError, "methods has 'birnn-f', which is not a method. The names are urnn-f, urnn-b"),
        (["urnn-f", "urnn-f"], ValueError, "methods has two methods of the name 'urnn-f'"),
        (["exact"], ValueError, "Exact.* needs a Pair"),
        (["urnn-f+end"], ValueError, "BeamSearch.* needs a Pair"),
    ):
        with pytest.raises(error, match=message):
            compare(model, None, template, methods)
    with pytest.raises(ValueError, match="rows has 2 numbers for 1 items"):
        decode(model, None, template, Gibbs(rows=[1, 2]))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_none(wrong):
    forward, backward = pair(1, V)

    def combine(left, right):
        rows = np.zeros((len(left), V))
        rows[-1, 2] = wrong
        return rows

    with pytest.raises(ValueError, match=r"combine returned NaN or \+inf for item 0, between \(2,\) and \(3,\)"):
        decode(JointModel(forward, backward, combine), None, Template.from_tokens([2, BLANK, 3]))
    with pytest.raises(ValueError, match=r"combine returned scores of shape \(1, 2\); expected \(1, 6\)"):
        decode(
            JointModel(forward, backward, lambda left, right: np.zeros((len(left), 2))),
            None,
            Template.from_tokens([2, BLANK, 3]),
        )


@pytest.mark.parametrize("limit", [None, 1, 2000])
def test_the_item_of_a_fault_is_named_in_parts_of_a_batch_too(limit):
    forward, backward = pair(1, V)

    def combine(left, right):
        wrong = [image == 3 for image, _ in left]
        return np.where(np.array(wrong)[:, None], np.nan, np.zeros((len(left), V)))

    with pytest.raises(ValueError, match=r"combine returned NaN or \+inf for item 3, between"):
        decode(
            JointModel(forward, backward, combine),
            [0, 1, 2, 3],
            Template.from_tokens([2, BLANK, BLANK]),
            memory_limit=limit,
        )


def test_scores_that_are_no_array():
    forward, backward = pair(1, V)
    with pytest.raises(TypeError, match=r"combine returned scores of type builtins.NoneType; they must be"):
        decode(JointModel(forward, backward, lambda left, right: None), None, Template.from_tokens([2, BLANK]))


def test_modules_of_combine_are_in_eval_mode():
    torch = pytest.importorskip("torch")

    class Combine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = torch.nn.Dropout(0.5)

        def forward(self, left, right):
            return self.dropout(torch.ones(len(left), V))

        def other(self, left, right):
            return self(left, right)

    combine = Combine()
    for function in (combine, combine.other):
        models = [JointModel(*pair(1, V, library="torch"), function) for _ in range(2)]
        one, two = (score_sentences(model, None, [[2, 3, 4]])[0].pseudo_log_prob for model in models)
        assert one == two == pytest.approx(-3 * math.log(V))
        assert combine.dropout.training


def test_no_items():
    model = JointModel(*pair(1, V))
    assert decode(model, [], []) == decode(model, [], [], Gibbs()) == compare(model, [], []) == []
    assert score_sentences(model, [], []) == []


def test_nothing_that_is_possible():
    """No sentence, and no error before somebody wants the best."""
    model = JointModel(*pair(1, V, minus_inf=1.0))
    found = compare(model, None, Template.from_tokens([2, BLANK]))
    for name, result in found.items():
        assert result.hypotheses == ()
        assert result.stop in ("dead_end", "budget"), name
    assert score_sentences(model, None, [[2, 3]])[0].pseudo_log_prob == -math.inf
