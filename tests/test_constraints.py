"""Constraints against enumeration of all sentences that satisfy them, alone and in pairs, by every method."""

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import reference
import reference_joint
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tables import (
    END,
    START,
    TableScorer,
    one_sided,
    pair,
    reference_template,
    seeds,
    table_options,
    templates,
    words_of,
)

from birnn_decode import (
    BSCD,
    AllowAt,
    BanAt,
    BanWords,
    BeamSearch,
    Diversity,
    Exact,
    Gibbs,
    JointModel,
    MustAppear,
    NoRepeatedNgram,
    Objective,
    Pair,
    Rerank,
    Template,
    WordCount,
    bscd_decode,
    compare,
    decode,
    score_sentences,
)
from birnn_decode.constraints import Ruled, Unlike
from birnn_decode.search.bscd import bscd
from birnn_decode.search.direction import Direction
from birnn_decode.search.free import free_search
from birnn_decode.search.gibbs import gibbs
from birnn_decode.search.holding import Demands, Held, Problem
from birnn_decode.search.joint import JointCoupling
from birnn_decode.search.pair import PairCoupling
from birnn_decode.search.sweep import open_templates
from birnn_decode.search.tree import Encoded, PrefixTree
from birnn_decode.template import FixedTemplate

V = 6
WORDS = words_of(V)
BLANK = Template.BLANK
EVERY = 4**4 + 1  # more than there are sentences, so that a beam holds them all
WEIGHTS = [(1.0, 1.0), (1.0, 1.0), (0.3, 2.0), (0.0, 1.0), (1.0, 0.0)]


@cache
def _lowered(seed, up, position, prefix):
    rng = np.random.default_rng([seed, position, len(prefix), *prefix])
    change = up - rng.exponential(1.5, size=V)
    change[rng.random(V) < 0.1] = -math.inf
    change.setflags(write=False)
    return change


class Lowers:
    """A score hook that takes something off every score, and rules words out: other ones behind every prefix."""

    def __init__(self, seed, up=0.0, looks=True):
        self.seed, self.up, self.looks = seed, up, looks

    def __repr__(self):
        return f"Lowers({self.seed})"

    def change(self, position, prefix):
        return _lowered(self.seed, self.up, (position + 100) * self.looks, tuple(prefix))

    def __call__(self, position, prefix, scores):
        assert scores.shape == (V,)
        assert scores.max() < 1e-9
        scores += self.change(position, prefix)  # may be written to
        return scores


def grams(words, size):
    return [words[begin : begin + size] for begin in range(len(words) - size + 1)]


def drawn(kind, rng):
    """A constraint, and whether a sentence satisfies it, given the positions of its blanks."""
    some = frozenset(rng.choice(WORDS, size=rng.integers(1, 3), replace=False).tolist())
    position, size = int(rng.integers(-3, 3)), int(rng.integers(1, 4))
    low, high = sorted(rng.integers(0, 4, size=2).tolist())

    def at(words):
        return words[position : position + 1 or None] if -len(words) <= position < len(words) else ()

    return {
        "ban": (BanWords(some), lambda words, blanks: not any(words[at] in some for at in blanks)),
        "allow at": (AllowAt(some, position), lambda words, blanks: set(at(words)) <= some),
        "ban at": (BanAt(some, position), lambda words, blanks: not set(at(words)) & some),
        "must": (MustAppear(some), lambda words, blanks: some <= {words[at] for at in blanks}),
        "n-gram": (
            NoRepeatedNgram(size),
            lambda words, blanks: len(set(grams(words, size))) == len(grams(words, size)),
        ),
        "count": (WordCount(low, high), lambda words, blanks: low <= len(blanks) <= high),
        "hook": (Lowers(int(rng.integers(1000))), lambda words, blanks: True),
    }[kind]


KINDS = ["ban", "allow at", "ban at", "must", "n-gram", "count", "hook"]
ALONE_AND_IN_PAIRS = [*itertools.combinations(KINDS, 1), *itertools.combinations_with_replacement(KINDS, 2)]


def problem(seed):
    """A random template, at most four positions or a range of widths, and models to fill it with."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(rng.integers(1, 5)):
        kind = rng.integers(4)
        some = frozenset(rng.choice(WORDS, size=rng.integers(2, 4), replace=False).tolist())
        parts.append(min(some) if kind == 0 else some if kind == 1 else BLANK)
    template = Template.from_tokens(parts)
    if rng.random() < 0.3:
        template = Template.blank(parts[:1] if isinstance(parts[0], int) else [], (0, 3), [WORDS[-1]])
    options = {"sharpness": [0.3, 1.0, 3.0][rng.integers(3)], "minus_inf": [0.0, 0.25][rng.integers(2)]}
    models = pair(seed, V, aligned=bool(rng.integers(2)), join=bool(rng.integers(2)), **options)
    return models, template, Objective(*WEIGHTS[rng.integers(len(WEIGHTS))], length=[0.5, "none"][rng.integers(2)])


def change_of(hooks, words, blanks, reverse):
    """What hooks add to one model's score of a sentence."""
    ordered = words[::-1] if reverse else words
    places = [len(words) - 1 - at if reverse else at for at in blanks]
    changes = [
        hook.change(at, ordered[:place])[words[at]] for hook in hooks for at, place in zip(blanks, places, strict=True)
    ]
    return math.fsum(changes)


def enumerated(models, template, objective, constraints, k=None, costs=lambda words, blanks: 0.0):
    """All sentences that satisfy constraints, by score; and how many there are, impossible ones included."""
    both = [reference.Model(cache(one.log_probs), one.end) for one in (model.model() for model in models)]
    weights = objective.weight_forward, objective.weight_backward
    hooks = [one for one, _ in constraints if isinstance(one, Lowers)]
    scored, satisfying = [], 0
    for fixed in template.fixed():
        allowed, blanks = reference_template(fixed.positions, WORDS)
        for words in reference.sentences(allowed):
            if not all(satisfied(words, sorted(blanks)) for _, satisfied in constraints):
                continue
            satisfying += 1
            value = reference.joint(*both, words, weights) - costs(words, blanks)
            for weight, reverse in zip(weights, (False, True), strict=True):
                value += weight * change_of(hooks, words, sorted(blanks), reverse) if weight else 0.0
            scored.append((reference.length_rule(value, len(words), objective.length), words))
    return reference.top(scored, k or len(scored)), satisfying


def assert_equal(result, expected):
    assert all(one.broken for one in result.hypotheses) or not any(one.broken for one in result.hypotheses)
    found = [(one.score, one.tokens) for one in result.hypotheses if not one.broken]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-9)
    assert sorted(words for _, words in found) == sorted(words for _, words in expected)


@pytest.fixture
def met(monkeypatch):
    """Every sentence that a search has come to, the answers and all others."""
    met, settle = [], Demands.settle

    def settle_and_tell(self, finalists, weights):
        finalists = list(finalists)
        met.extend(finalists)
        settle(self, finalists, weights)

    monkeypatch.setattr(Demands, "settle", settle_and_tell)
    return met


@pytest.mark.parametrize("kinds", ALONE_AND_IN_PAIRS, ids="+".join)
def test_equals_enumeration_of_all_that_satisfy(kinds, met):
    """And is held by the search: it meets nothing else, where a beam holds all that may come to satisfy them."""
    checked = 0
    for seed in range(1000, 1008):
        rng = np.random.default_rng([seed, *map(ord, "".join(kinds))])
        models, template, objective = problem(seed)
        drawn_ones = [drawn(kind, rng) for kind in kinds]
        constraints = [one for one, _ in drawn_ones]
        expected, satisfying = enumerated(models, template, objective, drawn_ones)
        options = {"objective": objective, "constraints": constraints}
        if not satisfying:
            assert_clash(models, template, objective, drawn_ones)
            continue
        checked += bool(expected)
        assert_equal(bscd_decode(*models, None, template, beam_size=EVERY, max_rounds=1, **options), expected)
        few = int(rng.integers(1, 5))
        proof = decode(Pair(*models), None, template, Exact(max_rows=10**9), beam_size=few, **options)
        assert_equal(proof, expected[:few])
        assert proof.proved or not expected
        if "hook" not in kinds and not models[0].minus_inf:  # else a beam may have nothing left that satisfies
            met.clear()
            proof = decode(Pair(*models), None, template, Exact(max_rows=10**9), beam_size=EVERY, **options)
            assert_equal(proof, expected)
            assert met
            assert not any(one.broken for one in met)
    assert checked


def assert_clash(models, template, objective, drawn_ones):
    with pytest.raises(
        ValueError, match="no sentence fills the template and satisfies these constraints together"
    ) as raised:
        bscd_decode(*models, None, template, objective=objective, constraints=[one for one, _ in drawn_ones])
    names = str(raised.value).partition("constraints together: ")[2].split("; ")
    named = [one for one in drawn_ones if str(one[0]) in names]
    assert named
    for fewer in (named, *([one for one in named if one is not left_out] for left_out in named)):
        if len({str(one) for one, _ in fewer}) < len(fewer):
            continue  # two of a kind, either of which is enough
        _, satisfying = enumerated(models, template, objective, fewer)
        assert bool(satisfying) == (len(fewer) < len(named))


@pytest.mark.parametrize("kinds", ALONE_AND_IN_PAIRS, ids="+".join)
def test_one_direction_alone_and_the_rerank_hold_them_too(kinds):
    for seed in range(2000, 2003):
        rng = np.random.default_rng([seed, *map(ord, "".join(kinds))])
        models, template, _ = problem(seed)
        drawn_ones = [drawn(kind, rng) for kind in kinds]
        options = {"beam_size": EVERY, "constraints": [one for one, _ in drawn_ones]}
        for direction, weights in (("forward", (1.0, 0.0)), ("backward", (0.0, 1.0))):
            objective = Objective(*weights, length="none")
            expected, satisfying = enumerated(models, template, objective, drawn_ones)
            if satisfying:
                model = models[direction == "backward"]
                result = decode(
                    one_sided(model, direction),
                    None,
                    template,
                    BeamSearch(direction, "sentence"),
                    objective=objective,
                    **options,
                )
                assert_equal(result, expected)
                assert_equal(decode(Pair(*models), None, template, Rerank(), objective=objective, **options), expected)


@pytest.mark.parametrize("kinds", ALONE_AND_IN_PAIRS, ids="+".join)
def test_a_model_with_one_softmax_holds_them_too(kinds, met):
    """By its sweeps, by its halves alone and by sampling; half of what hooks change in each half counts."""
    for seed in range(3004, 3012):
        rng = np.random.default_rng([seed, *map(ord, "".join(kinds))])
        models, template, _ = problem(seed)
        drawn_ones = [drawn(kind, rng) for kind in kinds]
        constraints = [one for one, _ in drawn_ones]
        hooks = [one for one in constraints if isinstance(one, Lowers)]
        both = [model.model().log_probs for model in models]
        conditionals = reference_joint.Conditionals(reference_joint.additive(*both))
        scored = []
        for fixed in template.fixed():
            allowed, blanks = reference_template(fixed.positions, WORDS)
            for words in reference.sentences(allowed):
                if all(satisfied(words, sorted(blanks)) for _, satisfied in drawn_ones):
                    value = reference_joint.pseudo_log_likelihood(conditionals, words)
                    value += sum(change_of(hooks, words, sorted(blanks), reverse) for reverse in (False, True)) / 2
                    scored.append((reference.length_rule(value, len(words), 0.5), words))
        if not scored:
            continue
        expected = reference.top(scored, EVERY)
        options = {"objective": Objective(length=0.5), "constraints": constraints}
        met.clear()
        result = decode(JointModel(*models), None, template, BSCD(max_rounds=1), beam_size=EVERY, **options)
        assert_equal(result, expected)
        assert hooks or models[0].minus_inf or not any(one.broken for one in met)
        results = compare(JointModel(*models), None, template, beam_size=2, **options)
        satisfying = {words for _, words in scored}
        for one in itertools.chain(*(result.hypotheses for result in results.values())):
            assert one.broken or one.tokens in satisfying
            assert one.pseudo_log_prob == pytest.approx(reference_joint.pseudo_log_likelihood(conditionals, one.tokens))


@settings(max_examples=40)
@given(seed=seeds, table=table_options, beam_size=st.integers(1, 4), kinds=st.lists(st.sampled_from(KINDS), max_size=2))
def test_small_beams_give_only_what_satisfies_and_its_own_score(seed, table, beam_size, kinds):
    """Whatever a search finds: it satisfies or says what it breaks, J is the sentence's, and score is J and penalty."""
    rng = np.random.default_rng(seed)
    models, template, objective = problem(seed)
    drawn_ones = [drawn(kind, rng) for kind in kinds]
    constraints = [one for one, _ in drawn_ones]
    _, satisfying = enumerated(models, template, objective, drawn_ones)
    if not satisfying:
        return
    hooks = [one for one in constraints if isinstance(one, Lowers)]
    options = {"beam_size": beam_size, "objective": objective, "constraints": constraints}
    methods = ["rerank", "gibbs", "bscd", "exact"]
    results = compare(Pair(*models), None, template, methods, **options)
    for result in results.values():
        broken = [bool(one.broken) for one in result.hypotheses]
        assert all(broken) or not any(broken)
        assert not (result.proved and any(broken))
        for one in result.hypotheses:
            (fixed,) = (fixed for fixed in template.fixed() if len(fixed) == len(one.tokens))
            blanks = sorted(reference_template(fixed.positions, WORDS)[1])
            names = [str(each) for each, satisfied in drawn_ones if not satisfied(one.tokens, blanks)]
            assert sorted(one.broken) == sorted(names)
            penalty = 0.0
            for weight, reverse in ((objective.weight_forward, False), (objective.weight_backward, True)):
                penalty += weight * change_of(hooks, one.tokens, blanks, reverse) if weight else 0.0
            assert one.penalty == pytest.approx(penalty)
            (alone,) = score_sentences(Pair(*models), None, [one.tokens], objective=objective)
            assert one.joint == pytest.approx(alone.joint)
            value = reference.length_rule(one.joint + penalty, len(one.tokens), objective.length)
            assert one.score == pytest.approx(value)


def told(result):
    return [(one.tokens, round(one.score, 6), one.broken) for one in result.hypotheses]


@st.composite
def constrained(draw):
    """A seed and a table's options, a template and constraints that some sentence keeps."""
    seed, template, table = draw(seeds), draw(templates(V)), draw(table_options)
    rng = np.random.default_rng(seed)
    drawn_ones = [drawn(kind, rng) for kind in draw(st.lists(st.sampled_from(KINDS[:5]), min_size=1, max_size=2))]
    kept = enumerated(pair(seed, V, **table), Template.from_tokens(template), Objective(length="none"), drawn_ones)[1]
    assume(kept)
    return seed, table, template, [one for one, _ in drawn_ones]


@settings(max_examples=40)
@given(problem=constrained(), beam_size=st.integers(1, 4))
def test_libraries_agree(problem, beam_size):
    pytest.importorskip("torch")
    seed, table, template, constraints = problem
    alone, same = (
        bscd_decode(
            *pair(seed, V, library=library, **table),
            None,
            Template.from_tokens(template),
            beam_size=beam_size,
            constraints=constraints,
        )
        for library in ("numpy", "torch")
    )
    assert told(same) == told(alone)


@settings(max_examples=40)
@given(problem=constrained(), beam_size=st.integers(1, 4))
def test_mirrors_agree(problem, beam_size):
    """Without sweeps, which start with the forward direction."""
    seed, table, template, constraints = problem
    options = {"beam_size": beam_size, "max_rounds": 0}
    forward, backward = pair(seed, V, **table)
    straight = bscd_decode(forward, backward, None, Template.from_tokens(template), constraints=constraints, **options)
    mirrored = [
        type(one)(one.words, -1 - one.position) if isinstance(one, (AllowAt, BanAt)) else one for one in constraints
    ]
    swapped = (
        TableScorer(model.seed, V, ids=(END, START), backward=model is forward, **table)
        for model in (backward, forward)
    )
    mirror = bscd_decode(*swapped, None, Template.from_tokens(template[::-1]), constraints=mirrored, **options)
    assert [(words[::-1], score) for words, score, _ in told(mirror)] == [one[:2] for one in told(straight)]


@pytest.mark.parametrize("diversity", [None, Diversity(3, 0.7)])
def test_an_item_is_searched_as_if_it_were_alone(diversity):
    models = pair(5, V)
    asked = [Template.from_tokens(one) for one in ([BLANK] * 3, [2, BLANK, BLANK, 4], [BLANK, 4, BLANK], [BLANK] * 2)]
    options = {"constraints": [MustAppear([3]), NoRepeatedNgram(1), Lowers(1)], "diversity": diversity, "beam_size": 3}
    together = bscd_decode(*models, [0, 1, 2, 3], asked, **options)
    for image, (template, result) in enumerate(zip(asked, together, strict=True)):
        assert told(bscd_decode(*models, image, template, **options)) == told(result)
        assert result.hypotheses
    split = bscd_decode(*models, [0, 1, 2, 3], asked, memory_limit=1, **options)
    assert list(map(told, split)) == list(map(told, together))


@pytest.mark.parametrize("seed", range(12))
def test_what_must_appear_in_other_items_changes_nothing(seed):
    """Blanks that begin at different places, and a beam that is shared out among one to three banks."""
    models = pair(seed, 7, sharpness=3.0)
    asked = [Template.from_tokens(one) for one in ([2, *[BLANK] * 3], [BLANK] * 3, [BLANK, 4, BLANK, BLANK])]
    for words in ([5, 6], [2, 3, 5]):
        options = {"constraints": [MustAppear(words)], "beam_size": 4}
        for direction, model in zip(("forward", "backward"), models, strict=True):
            together = decode(one_sided(model, direction), [0, 1, 2], asked, BeamSearch(direction), **options)
            alone = [
                decode(one_sided(model, direction), at, one, BeamSearch(direction), **options)
                for at, one in enumerate(asked)
            ]
            assert list(map(told, together)) == list(map(told, alone))
        joined = decode(JointModel(*models), [0, 1, 2], asked, **options)
        alone = [decode(JointModel(*models), image, one, **options) for image, one in enumerate(asked)]
        assert list(map(told, joined)) == list(map(told, alone))


@pytest.mark.parametrize("seed", range(12))
def test_whole_captions(seed):
    """Of given lengths: all that satisfy. Written freely: nothing that does not."""
    rng = np.random.default_rng(seed)
    models = pair(seed, V, sharpness=1.0)
    objective = Objective(length="average")
    drawn_ones = [drawn(kind, rng) for kind in rng.choice(KINDS, size=2, replace=False)]
    constraints = [one for one, _ in drawn_ones]
    options = {"objective": objective, "constraints": constraints}
    lengths = [Template.from_tokens([BLANK] * width) for width in (1, 2, 3)]
    scored = []
    for template in lengths:
        scored += enumerated(models, template, objective, drawn_ones)[0]
    expected = reference.top(scored, EVERY)
    if not expected:
        with pytest.raises(ValueError, match="no sentence fills the caption"):
            bscd_decode(*models, None, None, widths=[1, 2, 3], **options)
        return
    assert_equal(bscd_decode(*models, None, None, widths=[1, 2, 3], beam_size=EVERY, **options), expected)
    freely = [
        bscd_decode(*models, None, None, max_length=6, beam_size=4, **options),
        decode(Pair(models[0], None), None, None, BeamSearch("forward"), max_length=6, beam_size=4, **options),
        decode(Pair(None, models[1]), None, None, BeamSearch("backward"), max_length=6, beam_size=4, **options),
    ]
    for result in freely:
        for one in result.hypotheses:
            broken = [str(each) for each, satisfied in drawn_ones if not satisfied(one.tokens, range(len(one.tokens)))]
            assert sorted(one.broken) == sorted(broken)
            assert not (one.finished and broken)
    assert freely[0].hypotheses


def test_free_writing_equals_enumeration_where_the_beam_holds_everything():
    models = pair(11, V, sharpness=0.3)
    drawn_ones = [drawn(kind, np.random.default_rng(4)) for kind in ("must", "n-gram")]
    # Positions are not known to a backward model that writes freely.
    drawn_ones.append((Lowers(5, looks=False), lambda words, blanks: True))
    constraints = [one for one, _ in drawn_ones]
    for direction, weights in (("forward", (1.0, 0.0)), ("backward", (0.0, 1.0))):
        objective = Objective(*weights, length="none")
        scored = []
        for width in range(4):
            scored += enumerated(models, Template.from_tokens([BLANK] * width), objective, drawn_ones)[0]
        result = decode(
            one_sided(models[direction == "backward"], direction),
            None,
            None,
            BeamSearch(direction),
            max_length=3,
            beam_size=EVERY,
            objective=Objective(length="none"),
            constraints=constraints,
        )
        assert_equal(result, reference.top(scored, EVERY))


def test_sampling_comes_by_the_best_that_satisfies_and_nothing_that_does_not(met):
    for seed in range(6):
        models = pair(seed, V, sharpness=0.3)
        template = Template.from_tokens([BLANK, BLANK, 3, BLANK])
        drawn_ones = [drawn(kind, np.random.default_rng(seed)) for kind in ("must", "n-gram")]
        expected, _ = enumerated(models, template, Objective(length="none"), drawn_ones)
        if expected:
            constraints = [one for one, _ in drawn_ones]
            result = decode(Pair(*models), None, template, Gibbs(sweeps=60), beam_size=40, constraints=constraints)
            assert told(result)[0][0] == expected[0][1]
    assert met
    assert not any(one.broken for one in met)


@pytest.mark.parametrize("seed", range(16))
def test_groups_avoid_what_those_before_have(seed):
    """Each group finds the best of J less what it shares with the groups before; the proof says so for all."""
    models, template, objective = problem(seed)
    strength = 4.0
    found = []
    for group in range(3):

        def costs(words, blanks, before=tuple(found)):
            same = sum(len(other) > at and other[at] == words[at] for other in before for at in blanks)
            return strength * same

        def new(words, blanks, before=tuple(found)):
            return words not in before

        expected, _ = enumerated(models, template, objective, [(None, new)], 2, costs)
        if not expected:
            break
        result = decode(
            Pair(*models),
            None,
            template,
            Exact(max_rows=10**9),
            beam_size=2 * (group + 1),
            diversity=Diversity(group + 1, strength),
            objective=objective,
        )
        assert result.proved
        found += [words for _, words in expected]
        assert sorted(one.tokens for one in result.hypotheses) == sorted(found)
        scores = {words: score for score, words in expected}
        for one in result.hypotheses:
            if one.tokens in scores:
                assert one.score == pytest.approx(scores[one.tokens])
                assert one.score == pytest.approx(
                    reference.length_rule(one.joint + one.penalty, len(one.tokens), objective.length)
                )


@st.composite
def penalties(draw):
    """A template, models to fill it with, and a hook or costs of words, or both."""
    seed, template, table = draw(seeds), draw(templates(V)), draw(table_options)
    rng = np.random.default_rng(seed)
    allowed, blanks = reference_template(template, WORDS)
    hook = draw(st.sampled_from([None, Lowers(seed), Lowers(seed, up=2.0)]))
    costs = [dict(zip(WORDS, rng.exponential(1.0, len(WORDS)).tolist(), strict=True)) for _ in template]
    costs = costs if hook is None or draw(st.booleans()) else []
    penalty = reference.Penalty(len(template), blanks, hook and hook.change, costs)
    return pair(seed, V, **table), Template.from_tokens(template), allowed, penalty, [] if hook is None else [hook]


def direction(model, reverse, weight=1.0):
    """A direction of one item of which every score is kept."""
    encoded = Encoded(model.encode([None]), [0], 1, [0])
    tree = PrefixTree(model, "backward" if reverse else "forward", encoded, [None])
    return Direction(tree, weight, reverse, (START, END))


def searched(models, template, penalty, hooks, weights=(1.0, 1.0), share=1.0, kind=PairCoupling):
    """A coupling, opened, and a problem that has to pay, for what is below the front door."""
    (fixed,) = template.fixed()
    costs = [cost if fixed.undecided(at) else {} for at, cost in enumerate(penalty.costs)]
    problem = Problem(0, fixed, Held(fixed, (), hooks, costs, share))
    coupling = kind(
        tuple(
            direction(model, reverse, weight)
            for model, reverse, weight in zip(models, (False, True), weights, strict=True)
        ),
        Objective(*weights),
        ["none"],
        Demands(),
    )
    for one in coupling.directions:
        open_templates(one, [problem])
    return coupling, problem


@settings(max_examples=150)
@given(
    problem=penalties(),
    beam_size=st.integers(1, 4),
    max_rounds=st.integers(0, 4),
    weights=st.sampled_from([(1.0, 1.0), (0.3, 2.0), (0.0, 1.0), (1.0, 0.0)]),
)
def test_what_words_cost_steers_as_in_the_slow_reference(problem, beam_size, max_rounds, weights):
    """Every sentence that small beams meet: prefixes pay once for their words, and the other side's are looked at."""
    models, template, allowed, penalty, hooks = problem
    expected = reference.bscd(
        *(model.model() for model in models),
        allowed,
        penalty.blanks,
        beam_size,
        max_rounds,
        weights,
        penalty=penalty,
    )
    coupling, asked = searched(models, template, penalty, hooks, weights)
    (search,), _ = bscd(coupling, [asked], beam_size, max_rounds)
    assert set(itertools.chain(*search.met)) == expected.pool
    assert (search.stop, search.rounds) == (expected.stop, expected.rounds)


@settings(max_examples=150)
@given(problem=penalties(), beam_size=st.integers(1, 4), max_rounds=st.integers(0, 3), splices=st.booleans())
def test_and_a_search_with_one_softmax(problem, beam_size, max_rounds, splices):
    models, template, allowed, penalty, hooks = problem
    penalty = replace(penalty, share=0.5)
    halves = [model.model() for model in models]
    conditionals = reference_joint.Conditionals(reference_joint.additive(*(half.log_probs for half in halves)))
    expected = reference_joint.bscd(
        halves, conditionals, allowed, penalty.blanks, beam_size, max_rounds, penalty=penalty, splicing=splices
    )
    coupling, asked = searched(models, template, penalty, hooks, share=0.5, kind=JointCoupling)
    (search,), _ = bscd(coupling, [asked], beam_size, max_rounds, splices=splices)
    assert set(itertools.chain(*search.met)) == expected.pool
    assert (search.stop, search.rounds) == (expected.stop, expected.rounds)


@settings(max_examples=60)
@given(seed=seeds, beam_size=st.integers(1, 4), table=table_options)
def test_and_a_caption_that_is_written_freely(seed, beam_size, table):
    """Of either direction: word costs are those of positions from the beginning, which only the forward one knows."""
    costs = [dict.fromkeys(WORDS, 0.0) | {WORDS[at % len(WORDS)]: 1.5} for at in range(4)]
    model = TableScorer(seed, V, **table)
    held = Held(FixedTemplate.all_blank(4), costs=costs, may_end=lambda words: True)
    (found,) = free_search(direction(model, False), [0], beam_size, 0, 4, {0: held})

    class Paying:
        """The same model with what words cost taken off: nothing else is looked at when one side writes alone."""

        def __call__(self, prefix):
            row = np.array(model.model().log_probs(prefix), dtype=float)
            for word, cost in costs[len(prefix)].items() if len(prefix) < 4 else ():
                row[word] -= cost
            return row

    expected = reference.free_search(reference.Model(Paying(), END), WORDS, beam_size, 4)
    assert {(one.words, one.finished) for one in found} == {(words, finished) for _, words, finished in expected}


@settings(max_examples=40)
@given(seed=seeds, beam_size=st.integers(1, 3), strength=st.sampled_from([0.0, 0.5, 3.0]))
def test_a_group_that_writes_freely_pays_for_the_words_of_those_before(seed, beam_size, strength):
    model = TableScorer(seed, V, sharpness=0.3)
    options = {"max_length": 4, "objective": Objective(length="none")}
    alone = decode(Pair(model, None), None, method=BeamSearch("forward"), beam_size=beam_size, **options)
    assume(alone.best.finished)
    first = [one.tokens for one in alone.hypotheses]

    def log_probs(prefix):
        row = np.array(model.model().log_probs(prefix), dtype=float)
        for other in first:
            if len(other) > len(prefix):
                row[other[len(prefix)]] -= strength
        if prefix in first:
            row[END] = -math.inf
        if len(prefix) == 3:  # the longest sentences can be told before their last word
            row[[other[3] for other in first if len(other) == 4 and other[:3] == prefix]] = -math.inf
        return row

    expected = [
        words for _, words, done in reference.free_search(reference.Model(log_probs, END), WORDS, beam_size, 4) if done
    ]
    groups = decode(
        Pair(model, None),
        None,
        method=BeamSearch("forward"),
        beam_size=2 * beam_size,
        diversity=Diversity(2, strength),
        **options,
    )
    assume(all(one.finished for one in groups.hypotheses))
    assert {one.tokens for one in groups.hypotheses} == {*first, *expected}


def test_sampling_pays_what_words_cost():
    """A word that costs much is drawn from what is left of its probability."""
    models, template = pair(5, V), Template.from_tokens([2, BLANK, 4])
    costs = [{}, {3: 2.0, 5: 50.0}, {}]
    penalty = reference.Penalty(3, {1}, None, costs)
    coupling, asked = searched(models, template, penalty, [])
    drawn_words = []

    def met(sentences):
        drawn_words.extend(words[1] for _, words in sentences)
        return [True]

    gibbs(coupling, [asked], 500, Gibbs(sweeps=5), met)
    both = sum(np.array(model.model().log_probs(words)) for model, words in zip(models, ((2,), (4,)), strict=True))
    chances = np.exp([both[word] - costs[1].get(word, 0.0) for word in WORDS])
    found = np.array([drawn_words[500:].count(word) for word in WORDS]) / 2000
    assert found == pytest.approx(chances / chances.sum(), abs=0.04)


@pytest.mark.parametrize("method", [BSCD(), Rerank(), Gibbs(), Exact()])
def test_groups_may_have_sentences_of_different_lengths(method):
    template = Template.blank([2], (0, 3), [])
    for seed in range(6):
        models = pair(seed, V, sharpness=0.3)
        result = decode(Pair(*models), None, template, method, beam_size=6, diversity=Diversity(3, 0.5))
        assert len(result.hypotheses) == len({one.tokens for one in result.hypotheses}) == 6
        assert not any(one.broken for one in result.hypotheses)
        assert [one.score for one in result.hypotheses] == sorted(
            (one.score for one in result.hypotheses), reverse=True
        )


def test_groups_may_write_freely():
    models = pair(3, V, sharpness=0.3)
    result = bscd_decode(*models, None, max_length=5, beam_size=6, diversity=Diversity(3, 0.5))
    assert len({one.tokens for one in result.hypotheses}) == 6
    jointly = decode(JointModel(*models), None, widths=range(4), beam_size=6, diversity=Diversity(3, 0.5))
    assert len({one.tokens for one in jointly.hypotheses}) == 6


def test_groups_that_are_left_nothing_add_nothing():
    """Three sentences satisfy, and there are five groups: the proof is one, and nothing that breaks comes in front."""
    models = pair(3, V)
    template, options = Template.from_tokens([{2, 3, 4}]), {"beam_size": 5, "diversity": Diversity(5, 1.0)}
    result = decode(Pair(*models), None, template, Exact(), **options)
    assert (result.proved, result.stop, result.gap) == (True, "proved", 0.0)
    assert {one.tokens for one in result.hypotheses} == {(2,), (3,), (4,)}
    constraints = [MustAppear([3])]
    for method in (BSCD(), Exact()):
        result = decode(Pair(*models), None, template, method, constraints=constraints, **options)
        assert [(one.tokens, one.broken) for one in result.hypotheses] == [((3,), ())]
    assert (result.proved, result.gap) == (True, 0.0)


def test_groups_share_what_may_be_read():
    models, template = pair(3, V), Template.from_tokens([2, *[BLANK] * 4])
    options = {"beam_size": 4, "diversity": Diversity(4, 0.5)}
    result = decode(Pair(*models), None, template, Exact(max_rows=2), **options)
    assert (result.proved, result.stop) == (False, "budget")
    assert "|rows:2|" in result.signature
    assert "|beams:4|" in result.signature
    sampled = decode(Pair(*models), None, template, Gibbs(sweeps=10**6, rows=200), **options)
    alone = decode(Pair(*models), None, template, Gibbs(sweeps=10**6, rows=50), beam_size=1)
    assert sampled.rows_evaluated <= 4 * (alone.rows_evaluated + 20)
    assert "|rows:200|" in sampled.signature


def test_an_answer_that_breaks_a_constraint_proves_nothing():
    """The beam has walked into a trap, and the proof ends too early to find what satisfies."""
    constraints = [NoRepeatedNgram(1), MustAppear([3])]
    seen = set()
    for seed in range(40):
        models = pair(seed, V, minus_inf=0.25)
        for rows in (1, 30, 10**9):
            result = decode(
                Pair(*models),
                None,
                Template.from_tokens([BLANK] * 4),
                Exact(max_rounds=0, max_rows=rows),
                beam_size=1,
                constraints=constraints,
            )
            if result.hypotheses and result.best.broken:
                assert (result.proved, result.gap) == (False, math.inf)
                seen.add(str(result.stop))
                if rows == 10**9:
                    assert (result.stop, result.upper_bound) == ("dead_end", -math.inf)
            elif result.hypotheses:
                assert result.gap >= 0
    assert seen == {"budget", "dead_end"}


def test_words_that_must_appear_count_together():
    """Each by itself would think that all places left are its own."""
    for seed in range(20):
        model = pair(seed, V)[0]
        options = {"beam_size": 1}
        template = Template.from_tokens([BLANK] * 2)
        together = decode(
            Pair(model, None), None, template, BeamSearch("forward"), constraints=[MustAppear([3, 4])], **options
        )
        apart = decode(
            Pair(model, None),
            None,
            template,
            BeamSearch("forward"),
            constraints=[MustAppear([3]), MustAppear([4])],
            **options,
        )
        assert told(apart) == told(together)
        assert not apart.best.broken


def test_a_clash_that_only_a_sentence_shows():
    """Each leaves something at every position by itself."""
    models = pair(0, V)
    for template, constraints in (
        ([3, BLANK], [AllowAt([3], 1), NoRepeatedNgram(1)]),
        ([BLANK, BLANK], [AllowAt([3, 4], 0), AllowAt([3], 1), BanAt([4], 0), NoRepeatedNgram(1)]),
    ):
        with pytest.raises(ValueError, match=r"only at position .*; no repeated 1-gram"):
            bscd_decode(*models, None, Template.from_tokens(template), constraints=constraints)


def test_whether_a_long_blank_can_be_filled_is_found_out():
    """However many positions there are to try."""
    options = {"beam_size": 1, "constraints": [MustAppear([3])]}
    result = decode(Pair(pair(0, V)[0], None), None, Template.blank([], 1200), BeamSearch("forward"), **options)
    assert not result.best.broken


def test_a_constraint_that_is_given_twice_clashes_once():
    same = NoRepeatedNgram(1)
    with pytest.raises(ValueError, match=r"constraints together: no repeated 1-gram$"):
        bscd_decode(*pair(0, V), None, Template.from_tokens([2, 2, BLANK]), constraints=[same, same])


def test_a_beam_that_cannot_satisfy_says_what_is_broken():
    """The only words that may follow the first choice repeat it: a beam of one walks into that, a larger does not."""

    class Trap:
        vocab_size, start_token, end_token, normalized = 5, 0, 1, True

        def encode(self, images):
            return None

        def start(self, context):
            return np.zeros((1, 1), dtype=np.int64)

        def step(self, tokens, state):
            rows = np.full((len(tokens), 5), -np.inf)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                row[[2, 3]] = np.log([0.9, 0.1]) if token == 0 else np.log([0.5, 0.5])
                if token == 2:
                    row[[2, 3]] = 0.0, -np.inf
                row[1] = -1.0
            return rows, state[: len(tokens)]

        def select(self, state, rows):
            return np.zeros((len(rows), 1), dtype=np.int64)

    template = Template.from_tokens([BLANK, BLANK])
    options = {"constraints": [NoRepeatedNgram(1)]}
    narrow = decode(Pair(Trap(), None), None, template, BeamSearch("forward"), beam_size=1, **options)
    assert [(one.tokens, one.broken) for one in narrow.hypotheses] == [((2, 2), ("no repeated 1-gram",))]
    wide = decode(Pair(Trap(), None), None, template, BeamSearch("forward"), beam_size=2, **options)
    assert [(one.tokens, one.broken) for one in wide.hypotheses] == [((3, 2), ())]


def test_words_that_must_appear_have_places_in_the_beam():
    """A word that is dear early and dearer late: without a place for those that have it the search puts it off."""
    early, late = math.log(0.1), math.log(1e-6)

    def log_probs(prefix):
        row = [math.log(0.45)] * 2 + [early if len(prefix) == 0 else late]
        return [-math.inf, -1.0, *row]

    class Model(TableScorer):
        def _scores(self, read):
            return np.array([log_probs(words) for _, words in read])

    model = Model(0, 5, normalized=True)
    template = Template.from_tokens([BLANK] * 3)
    result = decode(
        Pair(model, None), None, template, BeamSearch("forward"), beam_size=4, constraints=[MustAppear([4])]
    )
    assert result.best.tokens[0] == 4


def test_unlike_rules_out_the_last_word_of_a_sentence():
    constraint = Unlike([(2, 3, 4), (2, 5, 4)])
    template = FixedTemplate.all_blank(3)
    assert constraint.ruled_out([2, -1, 4], 1, template).out == {3, 5}
    assert constraint.ruled_out([2, -1, -1], 1, template) == Ruled()


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (MustAppear([3]), r"constraints must be a list of constraints and score hooks, got MustAppear"),
        ("banned", r"constraints must be a list of constraints and score hooks, got 'banned'"),
        ([3], r"every entry of constraints must be a constraint, such as BanWords, or a function, got 3"),
        ([BanWords], r"every entry of constraints must be a constraint, .* got <class .*BanWords'>"),
        ([BanWords([77])], r"banned: 77"),
        ([MustAppear([START])], r"must appear: 0"),
        ([BanWords(["word"])], r"the word 'word' of a constraint needs a vocabulary"),
        (
            [lambda position, prefix, scores: scores[:2]],
            r"hook <lambda> returned an array of shape \(2,\), float64 at position 0; expected numbers of shape \(6,\)",
        ),
        (
            [lambda position, prefix, scores: None],
            r"score hook <lambda> returned NoneType at position 0; expected numbers",
        ),
        (
            [lambda position, prefix, scores: scores.astype(str)],
            r"returned an array of shape \(6,\), <U32 at position 0; expected numbers",
        ),
        ([lambda position, prefix, scores: scores + math.inf], r"returned NaN or \+inf at position 0"),
    ],
)
def test_what_is_no_constraint_is_named(constraints, message):
    with pytest.raises((TypeError, ValueError), match=message):
        bscd_decode(*pair(0, V), None, Template.from_tokens([BLANK]), constraints=constraints)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BanWords("dog"), r"BanWords.words must be a list of words or ids, got 'dog'"),
        (lambda: BanWords(3), r"BanWords.words must be a list of words or ids, got 3"),
        (lambda: MustAppear([]), r"MustAppear.words must have at least one word or id, .* got \[\]"),
        (lambda: MustAppear(["dog", ""]), r"at least one word or id, none of them empty, got \['dog', ''\]"),
        (lambda: BanWords(np.array([], dtype=int)), r"at least one word or id, .* got array\(\[\], dtype=int64\)"),
        (lambda: BanWords([None]), r"each of BanWords.words must be text or an id, 0 or larger, got None"),
        (lambda: BanWords([3, True]), r"each of BanWords.words must be text or an id, 0 or larger, got True"),
        (lambda: BanWords([3, -1]), r"each of BanWords.words must be text or an id, 0 or larger, got -1"),
        (lambda: BanAt([2.0], 0), r"each of BanAt.words must be text or an id, 0 or larger, got 2.0"),
        (lambda: AllowAt([3]), r"missing 1 required positional argument: 'position'"),
        (lambda: AllowAt([3], position="first"), r"AllowAt.position must be a whole number, such as 0 .*, got 'first'"),
        (lambda: BanAt([3], position=False), r"BanAt.position must be a whole number, such as 0 .*, got False"),
        (lambda: NoRepeatedNgram(0), r"NoRepeatedNgram.size must be a positive integer, got 0"),
        (lambda: NoRepeatedNgram("2"), r"NoRepeatedNgram.size must be a positive integer, got '2'"),
        (lambda: NoRepeatedNgram(True), r"NoRepeatedNgram.size must be a positive integer, got True"),
        (lambda: WordCount(3, 2), r"WordCount.least must not be larger than most, got 3 and 2"),
        (lambda: WordCount(-1), r"WordCount.least must be a whole number, 0 or larger, got -1"),
        (lambda: WordCount(1.5), r"WordCount.least must be a whole number, 0 or larger, got 1.5"),
        (lambda: WordCount(0, "3"), r"WordCount.most must be a whole number, 0 or larger, got '3'"),
        (lambda: WordCount(True, 3), r"WordCount.least must be a whole number, 0 or larger, got True"),
        (lambda: Diversity(0, 1.0), r"Diversity.groups must be a positive integer, got 0"),
        (lambda: Diversity(True, 1.0), r"Diversity.groups must be a positive integer, got True"),
        (lambda: Diversity("2", 1.0), r"Diversity.groups must be a positive integer, got '2'"),
        (lambda: Diversity(2, -1.0), r"Diversity.strength must be a finite number of nats, 0 or larger, got -1.0"),
        (lambda: Diversity(2, math.inf), r"Diversity.strength must be a finite number of nats, 0 or larger, got inf"),
        (lambda: Diversity(2, "1"), r"Diversity.strength must be a finite number of nats, 0 or larger, got '1'"),
        (
            lambda: bscd_decode(*pair(0, V), None, beam_size=5, diversity=Diversity(2, 1.0)),
            r"beam_size must be a multiple of .* got beam_size=5 and 2 groups",
        ),
        (lambda: bscd_decode(*pair(0, V), None, diversity=0.5), r"diversity must be a Diversity, .* got 0.5"),
    ],
)
def test_what_cannot_be_right_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("method", [BSCD(), Gibbs(), Exact()])
def test_hooks_may_return_tensors(method):
    torch = pytest.importorskip("torch")
    models, template = pair(0, V), Template.from_tokens([BLANK, 2, BLANK])
    plain = Lowers(0)
    asked, same = (
        decode(Pair(*models), None, template, method, constraints=[hook])
        for hook in (plain, lambda position, prefix, scores: torch.tensor(plain(position, prefix, scores)))
    )
    assert told(same) == told(asked)
    assert asked.best.penalty < 0


def test_hooks_that_raise_scores_are_for_searches_without_a_proof():
    models, template = pair(0, V), Template.from_tokens([BLANK, BLANK])
    hook = Lowers(0, up=5.0)
    drawn_ones = [(hook, lambda words, blanks: True)]
    objective = Objective(length="none")
    expected, _ = enumerated(models, template, objective, drawn_ones)
    result = bscd_decode(*models, None, template, beam_size=EVERY, constraints=[hook])
    assert_equal(result, expected)
    assert any(one.penalty > 0 for one in result.hypotheses)
    with pytest.raises(
        ValueError, match=r"score hook Lowers raises a score at position 0\. Exact needs hooks that only lower"
    ):
        decode(Pair(*models), None, template, Exact(), beam_size=1, constraints=[hook])


def test_the_signature_names_constraints():
    constraints = [BanWords([3]), NoRepeatedNgram(2), Lowers(1)]
    result = decode(
        Pair(*pair(0, V)),
        None,
        Template.from_tokens([BLANK]),
        Rerank(),
        beam_size=4,
        constraints=constraints,
        diversity=Diversity(2, 0.5),
    )
    assert "|banned: 3|no repeated 2-gram|hook:Lowers|diversity:2,0.5|" in result.signature


class ThreeSteps(TableScorer):
    """Words 2 or 3, then 4, then 5, 6 or 3: sentences with 2 are more probable, unless they have to pay for it."""

    def __init__(self):
        super().__init__(0, 7, normalized=True)

    def _scores(self, read):
        rows = {
            0: [0, 0.01, 0.59, 0.4, 0, 0, 0],
            1: [0, 0.05, 0, 0, 0.95, 0, 0],
            2: [0, 0.02, 0, 0.3, 0, 0.35, 0.33],
            3: [0, 1, 0, 0, 0, 0, 0],
        }
        with np.errstate(divide="ignore"):
            return np.log([rows[len(words)] for _, words in read])


def test_what_a_prefix_has_paid_goes_with_it():
    """Both first words are in the beam until the third decides, when what the first has cost is two steps away."""
    template = Template.from_tokens([BLANK] * 3)

    def not_2(position, prefix, scores):
        scores[2] -= 1.0
        return scores

    options = {"beam_size": 2}
    plain = decode(Pair(ThreeSteps(), None), None, template, BeamSearch("forward"), **options)
    assert [one.tokens for one in plain.hypotheses] == [(2, 4, 5), (2, 4, 6)]
    hooked = decode(Pair(ThreeSteps(), None), None, template, BeamSearch("forward"), constraints=[not_2], **options)
    assert [one.tokens for one in hooked.hypotheses] == [(3, 4, 5), (3, 4, 6)]
    # The second group pays for 2, for 4, and for 5 and 6, all of which the first has.
    groups = decode(
        Pair(ThreeSteps(), None), None, template, BeamSearch("forward"), beam_size=4, diversity=Diversity(2, 1.0)
    )
    assert {one.tokens for one in groups.hypotheses} == {(2, 4, 5), (2, 4, 6), (3, 4, 3), (3, 4, 5)}


def test_a_word_waits_for_no_place_that_does_not_take_it():
    template = FixedTemplate((frozenset({2, 3}), frozenset({4, 5})), ((0, 2),))
    (three, four) = (MustAppear([word]) for word in (3, 4))
    assert three.ruled_out([-1, -1], 0, template).only == {3}
    assert four.ruled_out([-1, -1], 0, template) == Ruled()
    assert three.broken([2, -1], template)


def test_constraints_that_do_not_bite_change_nothing():
    for seed in range(20):
        models, template, objective = problem(seed)
        options = {"objective": objective, "beam_size": 3}
        plain = bscd_decode(*models, None, template, **options)
        idle = [NoRepeatedNgram(20), BanAt([2], position=50)]
        hooked = bscd_decode(*models, None, template, constraints=[lambda position, prefix, scores: scores], **options)
        held = bscd_decode(*models, None, template, constraints=idle, **options)
        assert told(hooked) == told(held) == told(plain)
        assert (held.rows_evaluated, held.stop, held.trace) == (plain.rows_evaluated, plain.stop, plain.trace)
