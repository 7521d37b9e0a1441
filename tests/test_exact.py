"""The exact search against full enumeration, and what it says when it has to end early."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import (
    FIRST_WORD,
    Impatient,
    TableScorer,
    members,
    pair,
    reference_template,
    seeds,
    table_options,
    templates,
    words_of,
)

from birnn_decode import Exact, Objective, Pair, Template, bscd_decode, compare, decode
from birnn_decode.search import exact
from birnn_decode.search import leaves as leaves_module
from birnn_decode.template import Gap

V = 6
BLANK = Template.BLANK
WEIGHTS = [(1.0, 1.0), (1.0, 1.0), (0.3, 3.0), (2.0, 0.5), (0.0, 1.0), (1.0, 0.0)]


def told(result):
    """A result without its time."""
    return {name: value for name, value in result.to_dict().items() if name != "seconds"}


def enumerated(models, template, beam_size, objective):
    """The best (score, words) of all sentences that a template allows, at all of its widths."""
    scored = []
    both = [reference.Model(cache(one.log_probs), one.end) for one in (model.model() for model in models)]
    for fixed in template.fixed():
        allowed, blanks = reference_template(fixed.positions, words_of(V))
        rule = objective.length_rule("known" if template.width_known else "range")
        counted = blanks if objective.scope == "blank" else None
        weights = (objective.weight_forward, objective.weight_backward)
        for words in reference.sentences(allowed):
            value = reference.joint(*both, words, weights, counted)
            scored.append((reference.length_rule(value, len(words), rule), words))
    return reference.top(scored, beam_size)


def assert_best(result, expected):
    assert (result.proved, result.stop, result.gap) == (True, "proved", 0.0)
    found = [(one.score, one.tokens) for one in result.hypotheses]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-9)
    if len({round(score, 6) for score, _ in expected}) == len(expected):
        assert [words for _, words in found] == [words for _, words in expected]


def drawn(seed):
    """A random template of few positions, and the models and options to fill it with."""
    rng = np.random.default_rng(seed)

    def position():
        kind = rng.integers(4)
        if kind < 2:
            return BLANK
        some = rng.choice(np.arange(FIRST_WORD, V), size=1 if kind == 2 else rng.integers(1, 4), replace=False).tolist()
        return some[0] if kind == 2 else frozenset(some)

    template = [position() for _ in range(rng.integers(1, 5))]
    if not any(isinstance(one, frozenset) or one is BLANK for one in template):
        template[rng.integers(len(template))] = BLANK
    models = pair(
        seed,
        V,
        sharpness=[0.3, 1.0, 3.0][rng.integers(3)],
        minus_inf=[0.0, 0.0, 0.25][rng.integers(3)],
        aligned=bool(rng.integers(2)),
        join=bool(rng.integers(2)),
        steps=bool(rng.integers(2)),
    )
    objective = Objective(*WEIGHTS[rng.integers(len(WEIGHTS))], scope=["sentence", "blank"][rng.integers(2)])
    beam_size = int(rng.integers(1, 6))
    method = Exact(max_rounds=int(rng.integers(3)), max_rows=10**9)
    options = {"beam_size": beam_size, "objective": objective}
    template = Template.from_tokens(template)
    if rng.random() < 0.25:
        low = int(rng.integers(3))
        template = Template((*template.parts[:2], FIRST_WORD, Gap(low, int(rng.integers(low, 3))), V - 1))
    return models, template, method, options


@pytest.mark.parametrize("leaves", ["many", "one"])
@pytest.mark.parametrize("begin", range(0, 400, 100))
def test_equals_full_enumeration(begin, leaves, monkeypatch):
    """In half of the problems, every leaf that is not the best of its expansion waits in the rest.

    The problems are small. `make thorough` asks ten thousand larger ones.
    """
    if leaves == "one":
        monkeypatch.setattr(leaves_module, "CHUNK", 1)
        monkeypatch.setattr(leaves_module, "LEAVES", 1)
    for seed in range(begin, begin + 100):
        models, template, method, options = drawn(seed + 1000 * (leaves == "one"))
        result = decode(Pair(*models), None, template, method, **options)
        assert_best(result, enumerated(models, template, options["beam_size"], options["objective"]))
        assert result.rows_evaluated == sum(model.tokens_read for model in models)
        for model in models:
            # Nothing is read twice, BSCD's prefixes included, if there is a state after each word.
            assert len(set(model.read)) == len(model.read) or hasattr(model, "steps")


def test_the_table_has_the_highest_key_of_a_leaf_that_can_have_a_word(monkeypatch):
    """All bounds of the other side are made of it."""
    checked, tables = leaves_module.Side.table, []

    def table(side):
        found = checked(side)
        keys, words = side.leaves.key[side.open], side.leaves.words[side.open]
        for blank, word in np.ndindex(found.shape):
            can = (words[:, blank] == word) | (words[:, blank] < 0)
            assert found[blank, word] == keys[can].max(initial=-math.inf)
        tables.append(found)
        return found

    monkeypatch.setattr(leaves_module.Side, "table", table)
    for seed in range(30):
        models, template, method, options = drawn(seed)
        decode(Pair(*models), None, template, method, **options)
    assert len(tables) > 100


@st.composite
def ranges(draw):
    """Known words and one or two blanks of unknown widths."""
    word = st.integers(FIRST_WORD, V - 1)
    parts = list(draw(st.lists(word, max_size=2)))
    for _ in range(draw(st.integers(1, 2))):
        low = draw(st.integers(0, 2))
        parts += [Gap(low, draw(st.integers(low, 2))), draw(word)]
    return Template(tuple(parts))


objectives = st.builds(
    lambda weights, rule, scope: Objective(
        *weights, length=0.5 if (rule, scope) == ("none", "blank") else rule, scope=scope
    ),
    st.sampled_from(WEIGHTS),
    st.sampled_from(["auto", "none", "average", 2.0, -1.5]),
    st.sampled_from(["sentence", "blank"]),
)


@settings(max_examples=60)
@given(
    seed=seeds,
    template=ranges(),
    beam_size=st.integers(1, 5),
    objective=objectives,
    table=table_options,
    members=members,
)
def test_all_widths_share_the_incumbent(seed, template, beam_size, objective, table, members):
    models = pair(seed, V, **table, **members)
    result = decode(Pair(*models), None, template, Exact(max_rows=10**9), beam_size=beam_size, objective=objective)
    assert_best(result, enumerated(models, template, beam_size, objective))


def test_whole_captions_of_given_lengths():
    models = pair(3, V)
    objective = Objective(length="average")
    result = decode(Pair(*models), None, None, Exact(max_rows=10**9), widths=[1, 3, 4], objective=objective)
    scored = [
        (reference.joint(models[0].model(), models[1].model(), words) / (width + 1), words)
        for width in (1, 3, 4)
        for words in itertools.product(words_of(V), repeat=width)
    ]
    assert_best(result, reference.top(scored, 5))


@settings(max_examples=100)
@given(
    seed=seeds,
    template=st.one_of(templates(V, max_length=6).map(Template.from_tokens), ranges()),
    rows=st.integers(1, 120),
    objective=objectives,
    table=table_options,
)
def test_a_budget_leaves_a_bound(seed, template, rows, objective, table):
    models = pair(seed, V, **table)
    options = {"beam_size": 2, "objective": objective}
    result = decode(Pair(*models), None, template, Exact(max_rows=rows), **options)
    expected = enumerated(models, template, 2, objective)
    start = bscd_decode(*models, None, template, **options)
    if expected:
        assert result.upper_bound >= expected[0][0] - 1e-9
    assert result.gap >= 0
    assert [one.score for one in result.hypotheses] <= [score + 1e-9 for score, _ in expected]
    assert [one.score for one in start.hypotheses] <= [one.score for one in result.hypotheses]
    if result.proved:
        assert_best(result, expected)
    else:
        assert result.stop == "budget"
        # Only to tell all terms of an answer is a word read beyond the budget.
        assert result.rows_evaluated <= max(rows, start.rows_evaluated) + 2 * 2 * (1 + max(map(len, template.fixed())))
    if result.gap == 0 and expected:
        assert result.best.score == pytest.approx(expected[0][0], abs=1e-9)


@pytest.mark.parametrize("rule", ["average", 2.0, -3.0])
def test_a_bound_is_one_of_scores(rule):
    """Where the beam has missed the best sentence, and other lengths have other scores for the same J."""
    template, objective = Template((2, Gap(1, 3), 3)), Objective(length=rule)
    missed = 0
    for seed in range(30):
        models = pair(seed, V, sharpness=3.0)
        result = decode(
            Pair(*models), None, template, Exact(max_rounds=0, max_rows=1), beam_size=1, objective=objective
        )
        ((score, _),) = enumerated(models, template, 1, objective)
        assert result.upper_bound >= score - 1e-9
        missed += result.best.score < score - 1e-6
    assert missed > 3


def test_bounds_fall_with_rows():
    template = Template.from_tokens([2, *[BLANK] * 6, 3])
    models = pair(5, V, sharpness=0.3)
    bounds = [decode(Pair(*models), None, template, Exact(max_rows=rows)).upper_bound for rows in (60, 300, 1500)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


def test_seconds_end_it():
    models = pair(0, V, sharpness=0.3)
    result = decode(Pair(*models), None, Template.from_tokens([BLANK] * 6), Exact(max_seconds=1e-6))
    start = bscd_decode(*models, None, Template.from_tokens([BLANK] * 6))
    assert (result.proved, result.stop) == (False, "budget")
    assert result.hypotheses == start.hypotheses
    assert result.gap > 0


@pytest.mark.parametrize(("limit", "reward"), [(None, 0.0), (1, 0.0), (1, 20.0)])
def test_an_interruption_gives_the_best_so_far(limit, reward):
    objective = Objective(length=reward)
    asked = [Template.from_tokens([2, *[BLANK] * 3, 3]), Template.from_tokens([BLANK] * 3)]

    def models(calls):
        forward, backward = pair(7, V, sharpness=0.3)[0], Impatient(7 + 1_000_003, V, backward=True, sharpness=0.3)
        backward.calls_left = calls
        return forward, backward

    best = [enumerated(models(math.inf), one, 1, objective)[0][0] for one in asked]
    start = bscd_decode(*models(math.inf), [0, 0], asked, max_rounds=1, objective=objective)
    method = Exact(max_rounds=1, max_rows=10**6)
    seen = set()
    for calls in range(200):
        try:
            results = decode(Pair(*models(calls)), [0, 0], asked, method, memory_limit=limit, objective=objective)
        except KeyboardInterrupt:
            assert calls < 40, "BSCD was over"
            assert not seen, "there was something to return"
            continue
        for result, score, first in zip(results, best, start, strict=True):
            assert result.stop in ("interrupted", "proved")
            assert result.proved == (result.stop == "proved")
            assert score <= result.upper_bound + 1e-9
            if result.hypotheses:
                assert first.best.score <= result.best.score <= score + 1e-9
            else:  # its turn had not come
                assert limit
                assert (result.gap, result.stop) == (math.inf, "interrupted")
            seen.add(str(result.stop))
        if limit and results[0].stop == "interrupted":
            assert results[1].stop == "interrupted", "it went on"
        if {str(result.stop) for result in results} == {"proved"}:
            break
    else:
        pytest.fail("it never came to an end")
    assert seen == {"interrupted", "proved"}


@settings(max_examples=40)
@given(seed=seeds, batch=st.lists(templates(V), min_size=1, max_size=4), table=table_options, members=members)
def test_an_item_does_not_depend_on_its_batch(seed, batch, table, members):
    models = pair(seed, V, **table, **members)
    asked = [Template.from_tokens(one) for one in batch]
    together = decode(Pair(*models), list(range(len(batch))), asked, Exact(max_rows=60), beam_size=3)
    alone = [
        decode(Pair(*models), [0] * at + [at], asked[at], Exact(max_rows=60), beam_size=3)[-1]
        for at in range(len(asked))
    ]
    assert [one.hypotheses for one in together] == [one.hypotheses for one in alone]
    assert list(map(told, together)) == list(map(told, alone))


@pytest.mark.parametrize("reward", [0.0, 2.0])
def test_an_item_whose_turn_has_not_come_has_a_bound(reward, monkeypatch):
    monkeypatch.setattr(exact, "AT_ONCE", 1)
    models = pair(7, V, sharpness=0.3)[0], Impatient(7 + 1_000_003, V, backward=True, sharpness=0.3)
    objective = Objective(length=reward)
    asked = [Template.from_tokens([2, *[BLANK] * 4, 3]), Template((2, Gap(1, 3), 3)), Template.from_tokens([2, 3])]
    best = [enumerated(models, one, 1, objective)[0][0] for one in asked]
    models[1].calls_left = 80
    results = decode(Pair(*models), [0] * 3, asked, Exact(max_rounds=1), objective=objective)
    assert [str(one.stop) for one in results] == ["interrupted", "interrupted", "proved"]
    assert all(one.upper_bound >= score - 1e-9 for one, score in zip(results, best, strict=True))


def test_items_that_wait_for_room_have_the_same_answers(monkeypatch):
    models = pair(1, V)
    asked = [Template.from_tokens([2, *[BLANK] * width]) for width in (1, 4, 2, 3)]
    together = decode(Pair(*models), [0] * 4, asked, Exact())
    monkeypatch.setattr(exact, "AT_ONCE", 1)
    assert list(map(told, decode(Pair(*models), [0] * 4, asked, Exact()))) == list(map(told, together))


@settings(max_examples=20)
@given(seed=seeds, template=templates(V), table=table_options, scope=st.sampled_from(["sentence", "blank"]))
def test_both_libraries_prove_the_same(seed, template, table, scope):
    pytest.importorskip("torch")
    objective, template = Objective(scope=scope), Template.from_tokens(template)
    results = [
        decode(Pair(*pair(seed, V, library=library, **table)), None, template, Exact(), objective=objective)
        for library in ("numpy", "torch")
    ]
    numpy, torch = results
    assert [one.tokens for one in numpy.hypotheses] == [one.tokens for one in torch.hypotheses]
    assert [one.score for one in numpy.hypotheses] == pytest.approx([one.score for one in torch.hypotheses], abs=1e-9)
    assert (numpy.proved, numpy.rows_evaluated) == (torch.proved, torch.rows_evaluated)


def test_nothing_is_possible():
    class Never(TableScorer):
        def _scores(self, read):
            return np.full((len(read), V), -np.inf)

    result = decode(Pair(Never(0, V), pair(0, V)[1]), None, Template.from_tokens([2, BLANK, BLANK]), Exact())
    assert (result.proved, result.hypotheses, result.gap) == (True, (), 0.0)
    assert result.to_dict()["upper_bound"] == "-inf"


def test_other_searches_prove_nothing():
    results = compare(Pair(*pair(0, V)), None, Template.from_tokens([2, BLANK]), ["bscd", "exact"])
    assert (results["bscd"].proved, results["bscd"].upper_bound, results["bscd"].gap) == (False, None, None)
    assert results["exact"].proved
    assert results["exact"].best.score >= results["bscd"].best.score


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": None}, "of a whole caption needs the lengths that the caption may have: give widths"),
        ({"template": None, "widths": []}, "give at least one length"),
        ({"widths": [3]}, "widths, min_length and max_length are for whole captions"),
    ],
)
def test_what_cannot_be_asked(options, message):
    template = options.pop("template", Template.from_tokens([2, BLANK]))
    with pytest.raises(ValueError, match=message):
        decode(Pair(*pair(0, V)), None, template, Exact(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rows": 0}, "max_rows must be a positive integer, got 0"),
        ({"max_seconds": 0}, "max_seconds must be a positive number of seconds.*, got 0"),
        ({"max_seconds": math.nan}, "max_seconds must be a positive number of seconds.*, got nan"),
    ],
)
def test_a_search_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Exact(**options)


def test_a_comparison_asks_for_lengths_too():
    with pytest.raises(ValueError, match="give widths"):
        compare(Pair(*pair(0, V)), None, methods=["bscd", "exact"])
