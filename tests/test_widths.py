"""Widths that the search has to find: ranges in a template, and whole captions."""

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from tables import END, START, members, one_sided, pair, reference_template, seeds, table_options, words_of
from test_bscd import assert_same, hypotheses

from birnn_decode import BeamSearch, Objective, Pair, Rerank, Template, bscd_decode, decode
from birnn_decode.template import Gap

V = 5
WORDS = words_of(V)
rules = st.sampled_from(["auto", "average", "none", 1.5, -0.5])
ranges = st.tuples(st.integers(0, 2), st.integers(0, 2)).map(lambda pair: Gap(pair[0], pair[0] + pair[1]))


def in_force(rule, width="range", weight=2.0):
    """``auto`` resolved: the reward is a quarter of a nat for each unit of the models' weights."""
    return rule if rule != "auto" else {"known": "none", "range": 0.25 * weight, "whole": "average"}[width]


@given(
    seed=seeds,
    parts=st.lists(st.one_of(ranges, st.integers(2, V - 1), st.just(frozenset([2, 3]))), max_size=4),
    beam_size=st.sampled_from([1, 2, 3, 40]),
    scope=st.sampled_from(["sentence", "blank"]),
    rule=rules,
    table=table_options,
    members=members,
)
def test_ranges_of_widths(seed, parts, beam_size, scope, rule, table, members):
    forward, backward = pair(seed, V, **table, **members)
    template = Template(tuple(parts))
    rule = 1.5 if (scope, rule) == ("blank", "none") else rule
    rule_in_force = in_force(rule, "known" if len(template.fixed()) == 1 else "range")
    scored = []
    for fixed in template.fixed():
        allowed, blanks = reference_template(fixed.positions, WORDS)
        models = forward.model(), backward.model()
        counted = None if scope == "sentence" else blanks
        for words in reference.bscd(*models, allowed, blanks, beam_size, 10, counted=counted).pool:
            joint = reference.joint(*models, words, counted=counted)
            scored.append((reference.length_rule(joint, len(words), rule_in_force), words))
    objective = Objective(length=rule, scope=scope)
    result = bscd_decode(forward, backward, None, template, beam_size=beam_size, objective=objective)
    assert_same(hypotheses(result), reference.top(scored, beam_size))
    for model in (forward, backward):
        once = len(model.read) == len(set(model.read))
        assert once or hasattr(model, "steps"), "widths of one template share their prefixes"


@given(
    seed=seeds,
    parts=st.lists(st.one_of(ranges, st.integers(2, V - 1), st.just(frozenset([2, 3]))), max_size=4),
    beam_size=st.sampled_from([1, 2, 3, 40]),
    direction=st.sampled_from(["forward", "backward"]),
    rank=st.sampled_from(["blank", "sentence"]),
    rule=rules,
    table=table_options,
    members=members,
)
def test_templates_filled_by_one_model(seed, parts, beam_size, direction, rank, rule, table, members):
    reverse = direction == "backward"
    scorer = pair(seed, V, **table, **members)[reverse]
    template = Template(tuple(parts))
    scored = []
    for fixed in template.fixed():
        allowed, blanks = reference_template(fixed.positions, WORDS)
        frontiers = reference.classical(scorer.model(), allowed, beam_size, reverse, blanks)
        for words in reference.finished_sentences(allowed, frontiers, reverse) if frontiers else ():
            terms = reference.token_terms(scorer.model(), words, reverse)
            if rank == "blank" and not blanks:
                terms = []
            elif rank == "blank":
                terms = terms[min(blanks) : len(words)] if reverse else terms[: max(blanks) + 1]
            rule_in_force = in_force(rule, "known" if len(template.fixed()) == 1 else "range", weight=1.0)
            scored.append((reference.length_rule(sum(terms), len(words), rule_in_force), words))
    result = decode(
        one_sided(scorer, direction),
        None,
        template,
        BeamSearch(direction, rank=rank),
        beam_size=beam_size,
        objective=Objective(length=rule),
    )
    assert_same(hypotheses(result), reference.top(scored, beam_size))
    assert result.stop == ("single_sweep" if scored else "dead_end")


@given(
    seed=seeds,
    beam_size=st.sampled_from([1, 2, 3, 40]),
    lengths=st.sampled_from([(0, 3), (1, 3), (2, 2), (0, 0), (0, 5)]),
    rule=rules,
    ids=st.sampled_from([(START, END), (0, 0)]),
    table=table_options,
    members=members,
)
def test_whole_captions(seed, beam_size, lengths, rule, ids, table, members):
    forward, backward = pair(seed, V, ids=ids, **table, **members)
    shortest, longest = lengths
    expected = reference.whole_caption(
        forward.model(),
        backward.model(),
        words_of(V, ids),
        beam_size,
        10,
        longest,
        shortest,
        length=in_force(rule, "whole"),
    )
    options = {"beam_size": beam_size, "min_length": shortest, "max_length": longest}
    result = bscd_decode(forward, backward, None, objective=Objective(length=rule), **options)
    assert_same(hypotheses(result), expected.hypotheses)
    assert all(shortest <= len(hypothesis.tokens) <= longest for hypothesis in result.hypotheses)
    for model in (forward, backward):
        once = len(model.read) == len(set(model.read))
        assert once or hasattr(model, "steps"), "free searches and widths share their prefixes"
    assert result.rows_evaluated == forward.tokens_read + backward.tokens_read


@given(
    seed=seeds,
    beam_size=st.sampled_from([1, 2, 3]),
    lengths=st.sampled_from([(0, 3), (1, 2), (0, 6)]),
    direction=st.sampled_from(["forward", "backward"]),
    rank=st.sampled_from(["blank", "sentence"]),
    table=table_options,
)
def test_captions_written_by_one_model(seed, beam_size, lengths, direction, rank, table):
    reverse = direction == "backward"
    model = pair(seed, V, **table)[reverse]
    expected = reference.free_search(model.model(), WORDS, beam_size, lengths[1], lengths[0])
    result = decode(
        one_sided(model, direction),
        None,
        method=BeamSearch(direction, rank=rank),
        beam_size=beam_size,
        objective=Objective(length="none"),
        min_length=lengths[0],
        max_length=lengths[1],
    )
    assert [(one.score, one.tokens, one.finished) for one in result.hypotheses] == [
        (pytest.approx(total, abs=1e-9), words[::-1] if reverse else words, finished)
        for total, words, finished in expected
    ]
    for hypothesis in result.hypotheses:
        own = hypothesis.token_log_probs_backward if reverse else hypothesis.token_log_probs_forward
        assert len(own) == len(hypothesis.tokens) + hypothesis.finished
        assert hypothesis.score == pytest.approx(sum(own), abs=1e-9)


def test_widths_instead_of_those_written_freely():
    forward, backward = pair(5, V)
    result = bscd_decode(forward, backward, None, widths=[2, 4], beam_size=3)
    assert {len(hypothesis.tokens) for hypothesis in result.hypotheses} <= {2, 4}
    fixed = [
        bscd_decode(
            forward, backward, None, Template.blank((), width), beam_size=3, objective=Objective(length="average")
        )
        for width in (2, 4)
    ]
    assert result.best.score >= max(one.best.score for one in fixed)
    only = decode(Pair(forward, None), None, method=BeamSearch("forward"), widths=[3], beam_size=2)
    assert (
        only.hypotheses
        == decode(Pair(forward, None), None, Template.blank((), 3), BeamSearch("forward"), beam_size=2).hypotheses
    )


def test_whole_captions_and_templates_in_one_batch():
    forward, backward = pair(11, V)
    template = Template.from_tokens([2, Template.BLANK, 3])
    together = bscd_decode(forward, backward, [0, 1, 2], [None, template, None], max_length=4)
    assert together[0] == bscd_decode(forward, backward, 0, max_length=4)
    assert together[1].hypotheses == bscd_decode(forward, backward, 1, template).hypotheses
    assert together[2] == bscd_decode(forward, backward, 2, max_length=4)


def test_the_same_sentence_from_two_choices_of_widths_is_one_hypothesis():
    forward, backward = pair(3, V)
    template = Template((Gap(0, 1), 2, Gap(0, 1)))
    result = bscd_decode(forward, backward, None, template, beam_size=40)
    tokens = [hypothesis.tokens for hypothesis in result.hypotheses]
    assert tokens.count((2, 2)) == 1
    assert len(tokens) == len(set(tokens)) == 1 + 3 + 3 - 1 + 9


def test_of_two_choices_of_widths_the_better_one_counts():
    """For blank-only scoring, `2 2` from `{0-1} 2 {0-1}` is worth the word in its blank: the first or the last."""
    template = Template((Gap(0, 1), 2, Gap(0, 1)))
    better = set()
    for seed in range(6):
        forward, backward = pair(seed, V)
        options = {"beam_size": 40, "objective": Objective(scope="blank", length=0.5)}
        result = bscd_decode(forward, backward, None, template, **options)
        (both,) = (hypothesis for hypothesis in result.hypotheses if hypothesis.tokens == (2, 2))
        first, last = (
            reference.joint(forward.model(), backward.model(), (2, 2), counted={position}) for position in (0, 1)
        )
        assert both.joint == pytest.approx(max(first, last))
        assert both.blanks == (((2,), ()) if first > last else ((), (2,)))
        better.add(first > last)
    assert better == {True, False}


def test_rerank_is_bscd_without_rounds():
    forward, backward = pair(9, V)
    for template in (None, Template((2, Gap(1, 3), 4))):
        lengths = {} if template else {"max_length": 5}
        rerank = decode(Pair(forward, backward), None, template, Rerank(), **lengths)
        without = bscd_decode(forward, backward, None, template, max_rounds=0, **lengths)
        assert rerank.hypotheses == without.hypotheses
        assert (rerank.stop, without.stop, without.rounds) == ("single_sweep", "max_rounds", 0)
