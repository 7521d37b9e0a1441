"""Models with one softmax over both sides: against a slow reference, full enumeration, and chains that are known."""

import math
import tracemalloc

import numpy as np
import pytest
import reference
import reference_joint
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import random_logits
from scipy.special import logsumexp
from scipy.stats import chisquare
from tables import END, START, TableScorer, members, pair, reference_template, seeds, templates, words_of
from test_backend import LIBRARIES, make
from test_bscd import assert_same, hypotheses

from birnn_decode import (
    Diversity,
    JointModel,
    Objective,
    PrefixScorer,
    Template,
    beam_decode,
    bscd_decode,
    joint_compare,
    joint_cycles,
    joint_decode,
    joint_gibbs_decode,
    joint_score_sentences,
    rerank_decode,
)
from birnn_decode.joint import JOINT_METHODS
from birnn_decode.search import gibbs as gibbs_module
from birnn_decode.search import joint as joint_search
from birnn_decode.template import Gap

V = 6
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
)
def test_equals_the_slow_reference(seed, template, beam_size, max_rounds, scope, table, members, joined):
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
    )
    result = joint_decode(
        JointModel(forward, backward, combine),
        None,
        Template.from_tokens(template),
        beam_size=beam_size,
        max_rounds=max_rounds,
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
    complete = joint_decode(model, None, beam_size=4**4, **options)
    assert_same(hypotheses(complete), every)
    narrow = joint_decode(model, None, beam_size=beam_size, **options)
    reranked = joint_decode(model, None, beam_size=beam_size, max_rounds=0, **options)
    for found, bound in zip(hypotheses(narrow), every, strict=False):
        assert found[0] <= bound[0] + 1e-9
    for found, floor in zip(hypotheses(narrow), hypotheses(reranked), strict=False):
        assert found[0] >= floor[0] - 1e-9


@given(seed=seeds, words=st.lists(st.sampled_from(WORDS), max_size=6), table=table_options, joined=st.booleans())
def test_sentences_from_elsewhere_are_scored(seed, words, table, joined):
    combine, conditionals = table_of_both(seed) if joined else (None, None)
    model = JointModel(*pair(seed, V, **table, prefill=True), combine)
    conditionals = conditionals or added(model.forward_half, model.backward_half)
    ((one, other),) = joint_score_sentences(model, [0], [[words, [2, 3]]])
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
    methods = [method] if method != "birnn-gibbs" else ["birnn-bscd", method]
    options = {"methods": methods, "beam_size": beam_size}
    together = joint_compare(model, images, templates, **options)
    alone = [
        joint_compare(model, image, template, **options) for image, template in zip(images, templates, strict=True)
    ]
    for many, single in zip(together, alone, strict=True):
        assert_same(hypotheses(many[method]), hypotheses(single[method]))
        assert many[method].trace == single[method].trace
        assert many[method].rows_evaluated == single[method].rows_evaluated
    parts = joint_compare(model, images, templates, memory_limit=20_000, **options)
    for many, single in zip(parts, alone, strict=True):
        assert_same(hypotheses(many[method]), hypotheses(single[method]))


@settings(max_examples=40)
@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=1, max_size=3),
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
        answers.append(joint_decode(JointModel(*halves, combine), images, templates, beam_size=beam_size))
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
        with pytest.raises(ValueError, match=r"may be empty, which would always win: use a reward per word"):
            joint_decode(model, None, widths=widths, beam_size=4**3, objective=Objective(scope=scope))
        return
    conditionals = added(model.forward_half, model.backward_half)
    rule = "average" if scope == "blank" and len(widths) > 1 else "none"
    every = [
        (score / (len(words) + 1) if rule == "average" else score, words)
        for width in widths
        for score, words in reference_joint.enumerate_best(conditionals, [frozenset(WORDS)] * width, 4**3)
    ]
    found = joint_decode(model, None, widths=widths, beam_size=4**3, objective=Objective(scope=scope))
    assert f"|length:{rule}|" in found.signature
    assert_same(hypotheses(found), reference.top(every, 4**3))
    rewarded = joint_decode(model, None, widths=widths, beam_size=beam_size, objective=Objective(length=1.5))
    for one in rewarded.hypotheses:
        assert one.score == pytest.approx(one.pseudo_log_prob + 1.5 * len(one.tokens))


def test_blanks_of_several_lengths_are_compared_by_their_mean():
    model = JointModel(*pair(0, V))
    found = joint_decode(model, None, widths=[1, 3], beam_size=40, objective=Objective(scope="blank"))
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
    found = joint_decode(model, None, template, beam_size=4**3, objective=Objective(scope="blank", length=2.0))
    assert_same(hypotheses(found), reference.top(((score, words) for words, score in every.items()), 4**3))


# ------------------------------------------------------------------------------------- halves alone, and all methods


@settings(max_examples=50)
@given(seed=seeds, template=templates(V), beam_size=beam_sizes, table=table_options)
def test_a_half_alone_is_beam_search(seed, template, beam_size, table):
    model = JointModel(*pair(seed, V, **table))
    template = Template.from_tokens(template)
    found = joint_compare(model, 1, template, methods=["birnn-f", "birnn-b"], beam_size=beam_size)
    for name, half, direction in (
        ("birnn-f", model.forward_half, "forward"),
        ("birnn-b", model.backward_half, "backward"),
    ):
        expected = beam_decode(half, 1, template, direction=direction, beam_size=beam_size)
        assert [one.tokens for one in found[name].hypotheses] == [one.tokens for one in expected.hypotheses]
        if template.gaps:  # what precedes the first blank counts in neither
            assert [one.score for one in found[name].hypotheses] == pytest.approx(
                [one.score for one in expected.hypotheses], abs=1e-9
            )
        scored = joint_score_sentences(model, 1, [one.tokens for one in found[name].hypotheses])
        assert [one.pseudo_log_prob for one in found[name].hypotheses] == pytest.approx(
            [one.pseudo_log_prob for one in scored], abs=1e-9
        )


@settings(max_examples=40)
@given(seed=seeds, beam_size=beam_sizes, low=st.integers(0, 2), rule=st.sampled_from(["auto", "average", 1.5]))
def test_a_half_alone_ranks_widths_as_beam_search_does(seed, beam_size, low, rule):
    model = JointModel(*pair(seed, V))
    template, objective = Template((Gap(low, 3), 2, Gap(1, 2))), Objective(length=rule)
    options = {"beam_size": beam_size, "objective": objective}
    found = joint_compare(model, None, template, methods=["birnn-f", "birnn-b"], **options)
    for name, half, direction in (
        ("birnn-f", model.forward_half, "forward"),
        ("birnn-b", model.backward_half, "backward"),
    ):
        expected = beam_decode(half, None, template, direction=direction, **options)
        assert [one.tokens for one in found[name].hypotheses] == [one.tokens for one in expected.hypotheses]
        assert found[name].length_rule == expected.length_rule
        assert f"|length:{expected.length_rule}" in found[name].signature
        assert found[name].trace == expected.trace


def test_groups_share_the_rows_of_sampling():
    model, template = JointModel(*pair(3, V)), Template.from_tokens([2, BLANK, BLANK, BLANK, 3])
    found = joint_compare(model, None, template, beam_size=4, diversity=Diversity(4, 0.5))
    bscd, gibbs = found["birnn-bscd"], found["birnn-gibbs"]
    assert f"|rows:{bscd.rows_evaluated}|" in gibbs.signature
    assert "|beams:4|" in gibbs.signature
    assert gibbs.rows_evaluated - 4 * gibbs.trace[-1].rows < 2 * bscd.rows_evaluated


def test_gibbs_is_given_the_rows_of_bscd():
    model = JointModel(*pair(3, V))
    template = Template.from_tokens([2, BLANK, BLANK, BLANK, 3])
    found = joint_compare(model, None, template)
    assert list(found) == list(JOINT_METHODS)
    rows = found["birnn-bscd"].rows_evaluated
    gibbs = found["birnn-gibbs"]
    assert gibbs.rows_evaluated - gibbs.trace[-1].rows < rows <= gibbs.rows_evaluated
    assert f"|rows:{rows}|" in gibbs.signature
    reranked = joint_decode(model, None, template, max_rounds=0)
    assert hypotheses(found["birnn-rerank"]) == hypotheses(reranked)
    assert found["birnn-bscd"].best.score >= found["birnn-rerank"].best.score


# ------------------------------------------------------------------------------------------------------------- Gibbs


@settings(max_examples=50)
@given(seed=seeds, template=templates(V), table=table_options, joined=st.booleans())
def test_a_word_is_drawn_given_all_others(seed, template, table, joined):
    """From the forward half alone while words are missing, and from the softmax over both sides afterwards."""
    combine, conditionals = None, None
    if joined:
        table = {**table, "minus_inf": 0.0}
        combine, conditionals = table_of_both(seed)
    forward, backward = pair(seed, V, prefill=True, **table)
    conditionals = conditionals or added(forward, backward)
    allowed, blanks = reference_template(template, WORDS)
    drawn = []

    def recording(directions, moving, conditional, original=gibbs_module._draw):
        moving = [(chain, at) for chain, at in moving if -1 not in chain.words[:at]]
        before = [(tuple(chain.words), at) for chain, at in moving]
        given = conditional(directions, moving)
        drawn.extend(zip(before, given, strict=True))
        original(directions, moving, lambda *_: given)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(gibbs_module, "_draw", recording)
        joint_gibbs_decode(
            JointModel(forward, backward, combine),
            None,
            Template.from_tokens(template),
            beam_size=2,
            sweeps=4,
            restart_after=2,
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

    def counting(*args, met, original=gibbs_module.gibbs, **options):
        sweeps = []

        def met_and_counted(sentences):
            sweeps.append(1)
            if len(sweeps) > 10:  # the beginning is forgotten by then
                for _, words in sentences:
                    counts[words] += 1
            return met(sentences)

        original(*args, met=met_and_counted, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("birnn_decode.call.gibbs", counting)
        joint_gibbs_decode(model, None, template, beam_size=400, sweeps=11, restart_after=20, seed=1)
    assert sum(counts.values()) == 400
    expected = [400 * math.exp(log_prob - log_total) for log_prob in every.values()]
    assert chisquare(list(counts.values()), expected).pvalue > 1e-3


# ------------------------------------------------------------------------------------------------------------ cycles


def test_conditionals_of_one_distribution_have_no_gap():
    model, _ = chain_model(7)
    (cycles,) = joint_cycles(model, None, [[2, 3, 4, 2, 3]], cycles=40)
    assert len(cycles) > 30
    assert [one.gap for one in cycles] == pytest.approx([0] * len(cycles), abs=1e-9)
    assert len({one.positions for one in cycles}) > 5


@given(seed=seeds, words=st.lists(st.sampled_from(WORDS), min_size=2, max_size=5), joined=st.booleans())
def test_the_gap_of_a_cycle(seed, words, joined):
    combine, conditionals = table_of_both(seed) if joined else (None, None)
    model = JointModel(*pair(seed, V), combine)
    conditionals = conditionals or added(model.forward_half, model.backward_half)

    def step(at, to, **others):
        """Log p(to at a position | the other words), some of which are changed."""
        changed = list(words)
        for position, word in others.items():
            changed[int(position[1:])] = word
        changed[at] = to
        return conditionals(tuple(changed[:at]), tuple(changed[:at:-1]))[to]

    ((cycles, single),) = joint_cycles(model, [0], [[words, [2]]], cycles=5, seed=seed)
    assert single == []
    assert cycles
    for one in cycles:
        (i, j), (a, new_a), (b, new_b) = one.positions, one.first, one.second
        assert i < j
        assert (a, b) == (words[i], words[j])
        assert new_a != a
        assert new_b != b
        assert {new_a, new_b} <= set(WORDS)
        at_i, at_j = f"p{i}", f"p{j}"
        way = step(i, new_a, **{at_j: b}) + step(j, new_b, **{at_i: new_a})
        way += step(i, a, **{at_j: new_b}) + step(j, b, **{at_i: a})
        back = step(j, new_b, **{at_i: a}) + step(i, new_a, **{at_j: new_b})
        back += step(j, b, **{at_i: new_a}) + step(i, a, **{at_j: b})
        assert one.gap == pytest.approx(way - back, abs=1e-9)
    assert joint_cycles(model, [0], [[words, [2]]], cycles=5, seed=seed) == [[cycles, []]]


def test_words_that_cannot_be_exchanged_have_no_cycle():
    """One word is all that is possible there."""
    scores = np.full((V, V), -np.inf)
    scores[:, 3] = 0
    halves = [
        PrefixScorer(lambda context, prefixes: scores[prefixes[:, -1]], vocab_size=V, start_token=start, end_token=end)
        for start, end in ((START, END), (END, START))
    ]
    assert joint_cycles(JointModel(*halves), None, [[3, 3]]) == [[]]


def test_sentences_that_are_impossible_have_no_cycle():
    """Neither way around begins, nor comes back: that says nothing of whether the model is compatible."""
    row = np.array([-np.inf, -np.inf, 0.0, -1.0, -0.5, -np.inf])
    halves = [
        PrefixScorer(
            lambda context, prefixes: np.tile(row, (len(prefixes), 1)), vocab_size=V, start_token=start, end_token=end
        )
        for start, end in ((START, END), (END, START))
    ]
    assert joint_cycles(JointModel(*halves), None, [[5, 5, 5]]) == [[]]
    ((cycles,),) = joint_cycles(JointModel(*halves), [None], [[[2, 3, 4]]])
    assert cycles
    assert [one.gap for one in cycles] == pytest.approx([0.0] * len(cycles), abs=1e-9)


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
    expected = joint_score_sentences(model, [0, 1], asked)
    monkeypatch.setattr(joint_search, "LARGEST_BLOCK", block)
    assert joint_score_sentences(model, [0, 1], asked) == expected


def test_what_was_read_for_an_item_goes_when_it_is_scored(monkeypatch):
    """Of many finished sentences few are held at a time."""
    held = []

    def scoring(coupling, finalists, original=joint_search.score_finalists):
        original(coupling, finalists)
        trees = (coupling.forward.tree, coupling.backward.tree)
        held.append([{int(tree.items[node]) for node in range(len(tree)) if tree.known(node)} for tree in trees])

    monkeypatch.setattr(joint_search, "LARGEST_BLOCK", 1)
    monkeypatch.setattr(joint_search, "score_finalists", scoring)
    joint_score_sentences(JointModel(*pair(1, V)), [0, 1, 2], [[[2, 3, 4], [2, 4]], [[3, 3, 3]], [[4]]])
    assert held == [[{item}, {item}] for item in range(3)]


# ------------------------------------------------------------------------------------------------ what cannot be right


def test_what_is_no_joint_model():
    forward, backward = pair(1, V)
    template = Template.from_tokens([2, BLANK])
    for model in (forward, None, JointModel(forward, 3)):
        with pytest.raises(TypeError, match=r"without forward_half and backward_half|is not a Scorer"):
            joint_decode(model, None, template)
    for decode in (bscd_decode, rerank_decode):
        with pytest.raises(TypeError, match=r"whose halves have one softmax: decode with joint_decode"):
            decode(JointModel(forward, backward), JointModel(forward, backward), None, template)
    with pytest.raises(
        TypeError, match=r"the model's combine is 3; it is a function \(left, right\) -> scores, or None"
    ):
        joint_decode(JointModel(forward, backward, 3), None, template)
    without_join = TableScorer(1, V, join=False)
    with pytest.raises(TypeError, match=r"has a combine, and its forward half no join\(states\) -> state"):
        joint_decode(JointModel(without_join, backward, lambda left, right: None), None, template)
    model = JointModel(forward, backward)
    with pytest.raises(ValueError, match=r"does not say where a sentence ends: give a template, or .* widths="):
        joint_decode(model, None)
    with pytest.raises(ValueError, match="has nothing to weigh; leave the weights at 1"):
        joint_decode(model, None, template, objective=Objective(2.0, 1.0))
    with pytest.raises(ValueError, match="are for whole captions"):
        joint_decode(model, None, template, widths=[2])
    with pytest.raises(TypeError, match="give a list of whole numbers"):
        joint_decode(model, None, widths=3)
    with pytest.raises(ValueError, match=r"widths=\[\]: give at least one length, all from 0 to 10000 words$"):
        joint_decode(model, None, widths=[])
    for methods in ("birnn-f", 3, [], ["bscd"], ["birnn-f", "birnn-f"]):
        with pytest.raises(ValueError, match="give some of birnn-f, birnn-b"):
            joint_compare(model, None, template, methods=methods)
    with pytest.raises(ValueError, match='"birnn-gibbs" without "birnn-bscd"'):
        joint_compare(model, None, template, methods=["birnn-gibbs"])
    with pytest.raises(ValueError, match="scan='zigzag'"):
        joint_gibbs_decode(model, None, template, scan="zigzag")
    with pytest.raises(ValueError, match="rows has 2 numbers for 1 items"):
        joint_gibbs_decode(model, None, template, rows=[1, 2])
    with pytest.raises(ValueError, match="cycles=0: it is a whole number, 1 or larger"):
        joint_cycles(model, None, [[2, 3]], cycles=0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_none(wrong):
    forward, backward = pair(1, V)

    def combine(left, right):
        rows = np.zeros((len(left), V))
        rows[-1, 2] = wrong
        return rows

    with pytest.raises(ValueError, match=r"combine returned NaN or \+inf for item 0, between \(2,\) and \(3,\)"):
        joint_decode(JointModel(forward, backward, combine), None, Template.from_tokens([2, BLANK, 3]))
    with pytest.raises(ValueError, match=r"combine returned scores of shape \(1, 2\); expected \(1, 6\)"):
        joint_decode(
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
        joint_decode(
            JointModel(forward, backward, combine),
            [0, 1, 2, 3],
            Template.from_tokens([2, BLANK, BLANK]),
            memory_limit=limit,
        )


def test_scores_that_are_no_array():
    forward, backward = pair(1, V)
    with pytest.raises(TypeError, match=r"combine returned scores of type builtins.NoneType; they must be"):
        joint_decode(JointModel(forward, backward, lambda left, right: None), None, Template.from_tokens([2, BLANK]))


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
        one, two = (joint_score_sentences(model, None, [[2, 3, 4]])[0].pseudo_log_prob for model in models)
        assert one == two == pytest.approx(-3 * math.log(V))
        assert combine.dropout.training


def test_no_items():
    model = JointModel(*pair(1, V))
    assert joint_decode(model, [], []) == joint_gibbs_decode(model, [], []) == joint_compare(model, [], []) == []
    assert joint_score_sentences(model, [], []) == joint_cycles(model, [], []) == []


def test_nothing_that_is_possible():
    """No sentence, and no error before somebody wants the best."""
    model = JointModel(*pair(1, V, minus_inf=1.0))
    found = joint_compare(model, None, Template.from_tokens([2, BLANK]))
    for name, result in found.items():
        assert result.hypotheses == ()
        assert result.stop in ("dead_end", "budget"), name
    assert joint_score_sentences(model, None, [[2, 3]])[0].pseudo_log_prob == -math.inf
