"""Probabilities of sentences and words against full enumeration: the true ones are always inside their intervals."""

import json
import math
from functools import cache

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Impatient, TableScorer, pair, reference_template, seeds, table_options, templates, words_of

from birnn_decode import (
    BSCD,
    AllowAt,
    BanAt,
    BanWords,
    BeamSearch,
    Diversity,
    Exact,
    Gibbs,
    MustAppear,
    NoRepeatedNgram,
    Objective,
    Pair,
    Rerank,
    Template,
    decode,
)
from birnn_decode.search import exact
from birnn_decode.search import leaves as leaves_module
from birnn_decode.template import Gap

V = 6
BLANK = Template.BLANK
ROUNDING = 1e-9
J = Objective()
ALL = 10**9
WIDE = Template.from_tokens([2, BLANK, BLANK, frozenset([2, 4]), BLANK, 3])
CERTIFYING = [(1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 3.5), (0.0, 1.0), (1.5, 0.0)]

# Constraints, and whether a sentence satisfies them, given the words at its blanks.
CONSTRAINED = [
    ([], lambda words, blank: True),
    ([], lambda words, blank: True),
    ([BanWords([3])], lambda words, blank: 3 not in blank),
    ([MustAppear([4])], lambda words, blank: 4 in blank),
    ([NoRepeatedNgram(1)], lambda words, blank: len(set(words)) == len(words)),
    ([AllowAt([2, 5], 0)], lambda words, blank: words[0] in (2, 5)),
    ([BanAt([5], -1), MustAppear([2])], lambda words, blank: words[-1] != 5 and 2 in blank),
]


@st.composite
def asked(draw):
    """A template with at least one position, of one or of several widths."""
    if draw(st.booleans()):
        return Template.from_tokens([*draw(templates(V, max_length=4)), BLANK])
    word = st.integers(2, V - 1)
    parts = draw(st.lists(word, min_size=1, max_size=2))
    for _ in range(draw(st.integers(1, 2))):
        low = draw(st.integers(0, 2))
        parts += [Gap(low, draw(st.integers(low, 2))), draw(word)]
    return Template(tuple(parts))


def enumerated(models, template, objective=J, satisfied=lambda words, blank: True):
    """P(Y) of every possible sentence that satisfies the constraints, in some choice of widths."""
    both = [reference.Model(cache(one.log_probs), one.end) for one in (model.model() for model in models)]
    weights, masses = (objective.weight_forward, objective.weight_backward), {}
    for fixed in template.fixed():
        allowed, _ = reference_template(fixed.positions, words_of(V))
        for words in reference.sentences(allowed):
            if satisfied(words, [word for blank in fixed.blanks(words) for word in blank]):
                masses[words] = math.exp(reference.joint(*both, words, weights))
    total = math.fsum(masses.values())
    return {words: mass / total for words, mass in masses.items() if mass}


def satisfiable(template, satisfied):
    """Whether some sentence, of whatever probability, satisfies constraints."""
    return any(
        satisfied(words, [word for blank in fixed.blanks(words) for word in blank])
        for fixed in template.fixed()
        for words in reference.sentences(reference_template(fixed.positions, words_of(V))[0])
    )


def words_at(probabilities, length, position):
    """The probability of each word at a position of the sentences of a length."""
    spans = spans_between(probabilities, length, position, position + 1)
    return {word: value for (word,), value in spans.items()}


def spans_between(probabilities, length, begin, end):
    """The probability of the words between two positions of the sentences of a length."""
    some = {words: value for words, value in probabilities.items() if len(words) == length}
    total = math.fsum(some.values())
    sums = {}
    for words, value in some.items():
        sums[words[begin:end]] = sums.get(words[begin:end], 0.0) + value / total
    return sums


def positions_of(template, best):
    """The positions of the words in the blanks of a hypothesis."""
    return [at for begin, end in runs_of(template, best) for at in range(begin, end)]


def runs_of(template, best):
    """Where each blank of a hypothesis begins and ends."""
    return next(
        fixed.runs
        for fixed in template.fixed()
        if len(fixed) == len(best.tokens)
        and fixed.blanks(best.tokens) == best.blanks
        and all(word == one for word, one in zip(best.tokens, fixed.positions, strict=True) if isinstance(one, int))
    )


def assert_between(given, true):
    assert 0 <= given.low <= given.estimate <= given.high <= 1
    assert given.low - ROUNDING <= true <= given.high + ROUNDING


def assert_true(result, template, probabilities, beam_size):
    """Every interval of a result holds the true probability."""
    given, best = result.posterior, result.best
    for own, one in zip(given.hypotheses, result.hypotheses, strict=True):
        assert_between(own, probabilities[one.tokens])
    for at, own in zip(positions_of(template, best), given.words, strict=True):
        true = words_at(probabilities, len(best.tokens), at)
        assert 1 <= len(own) <= min(beam_size, len(true))
        assert best.tokens[at] in true
        assert len({one.token for one in own}) == len(own)
        estimates = [one.probability.estimate for one in own]
        assert estimates == sorted(estimates, reverse=True)
        for one in own:
            assert_between(one.probability, true[one.token])
    for (begin, end), own in zip(runs_of(template, best), given.spans, strict=True):
        true = spans_between(probabilities, len(best.tokens), begin, end)
        assert 1 <= len(own) <= min(beam_size, len(true))
        estimates = [one.probability.estimate for one in own]
        assert estimates == sorted(estimates, reverse=True)
        for one in own:
            assert_between(one.probability, true[one.tokens])
    assert len(result.hypotheses) <= given.sentences <= len(probabilities)
    # So many sentences have at most this share.
    most = math.fsum(sorted(probabilities.values(), reverse=True)[: given.sentences])
    low, high = given.mass
    assert 0 <= low <= min(1, most + ROUNDING)
    assert high == 1


def ends(given):
    """All intervals of a posterior."""
    parts = [*given.words, *given.spans]
    return [*given.hypotheses, *(one.probability for own in parts for one in own)]


# ----------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("leaves", ["many", "one"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
@settings(max_examples=80)
@given(
    seed=seeds,
    template=asked(),
    weights=st.sampled_from(CERTIFYING),
    constraints=st.sampled_from(CONSTRAINED),
    rows=st.sampled_from([1, 10, 20, 40, 80, 160, ALL]),
    rounds=st.integers(0, 1),
    beam_size=st.integers(1, 4),
    rule=st.sampled_from(["auto", "average", 2.0]),
    mass=st.sampled_from([None, None, 0.3, 0.9, 1.0]),
    table=table_options,
)
def test_the_truth_is_inside(
    library, leaves, seed, template, weights, constraints, rows, rounds, beam_size, rule, mass, table
):
    """Whatever the budget; also where every leaf that is not the best of its expansion waits in the rest."""
    if library == "torch":
        pytest.importorskip("torch")
    models, objective = pair(seed, V, library=library, **table), Objective(*weights, length=rule)
    probabilities = enumerated(models, template, objective, constraints[1])
    options = {"beam_size": beam_size, "objective": objective, "constraints": constraints[0]}
    with pytest.MonkeyPatch.context() as patch:
        if leaves == "one":
            patch.setattr(leaves_module, "CHUNK", 1)
            patch.setattr(leaves_module, "LEAVES", 1)
        method = Exact(rounds, rows, mass=mass)
        if not satisfiable(template, constraints[1]):
            with pytest.raises(ValueError, match="no sentence fills the template"):
                decode(Pair(*models), None, template, method, **options)
            return
        result = decode(Pair(*models), None, template, method, **options)
    if not probabilities or not result.hypotheses or result.best.broken:
        assert result.posterior is None
        assert not probabilities or rows < ALL
        return
    assert_true(result, template, probabilities, beam_size)
    assert all(one.low > 0 for one in result.posterior.hypotheses)
    if mass is not None and result.stop == "proved":
        assert result.posterior.mass[0] >= mass - ROUNDING
    if rows == ALL:
        assert result.proved
    if rows == ALL and mass == 1:
        assert result.posterior.mass[0] == pytest.approx(1.0)
        assert [one.low for one in ends(result.posterior)] == pytest.approx(
            [one.high for one in ends(result.posterior)]
        )
        assert result.posterior.hypotheses[0].low == pytest.approx(probabilities[result.best.tokens])


@settings(max_examples=60)
@given(seed=seeds, template=asked(), method=st.sampled_from([BSCD(), Rerank(), Gibbs(sweeps=3)]), table=table_options)
def test_other_methods_estimate(seed, template, method, table):
    models = pair(seed, V, **table)
    probabilities = enumerated(models, template)
    result = decode(Pair(*models), None, template, method, beam_size=3)
    if not result.hypotheses:
        assert result.posterior is None
        return
    assert_true(result, template, probabilities, 3)
    given = result.posterior
    assert given.mass == (0.0, 1.0)
    assert given.sentences == len(result.hypotheses)
    total = math.fsum(probabilities[one.tokens] for one in result.hypotheses)
    assert [one.high for one in given.hypotheses] == pytest.approx(
        [probabilities[one.tokens] / total for one in result.hypotheses]
    )
    assert {(one.low, one.high == one.estimate) for one in given.hypotheses} == {(0.0, True)}
    assert {(one.probability.low, one.probability.high) for own in given.words for one in own} <= {(0.0, 1.0)}


@settings(max_examples=40)
@given(seed=seeds, rows=st.sampled_from([1, 30, 60, ALL]), weights=st.sampled_from([(0.5, 1.0), (3.0, 0.9)]))
def test_weights_below_one_have_no_lower_end(seed, rows, weights):
    models, objective = pair(seed, V, sharpness=3.0), Objective(*weights)
    result = decode(Pair(*models), None, WIDE, Exact(max_rows=rows), beam_size=2, objective=objective)
    assert_true(result, WIDE, enumerated(models, WIDE, objective), 2)
    assert result.posterior.mass == (0.0, 1.0)
    assert {one.low for one in ends(result.posterior)} == {0.0}


def test_the_intervals_close_with_rows():
    models = pair(5, V, sharpness=1.0)
    lows = [
        decode(Pair(*models), None, WIDE, Exact(max_rows=rows, mass=1.0)).posterior.mass[0]
        for rows in (1, 150, 250, ALL)
    ]
    assert lows == sorted(set(lows))
    assert lows[-1] == pytest.approx(1.0)


class Sure(TableScorer):
    """A scorer whose sentences have exactly four words: those of a prefix have all of its probability."""

    def _scores(self, read):
        scores = np.array(super()._scores(read))
        for row, (_, words) in zip(scores, read, strict=True):
            end = row[self.end_token]
            row[[self.start_token, self.end_token]] = -np.inf
            if len(words) == 4:
                row[:] = -np.inf
                row[self.end_token] = end
        return scores

    def model(self, image=0):
        def log_probs(words):
            with np.errstate(divide="ignore"):
                scores = self._scores([(image, words)])[0]
            return scores - np.logaddexp.reduce(scores)

        return reference.Model(log_probs, self.end_token)


@pytest.mark.parametrize("leaves", [1, 32])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_bounds_that_nothing_may_be_missing_from(weights, leaves, monkeypatch):
    """With one model of this kind, the bounds of all leaves sum to 1 exactly, and Z is 1."""
    monkeypatch.setattr(leaves_module, "CHUNK", leaves)
    monkeypatch.setattr(leaves_module, "LEAVES", leaves)
    template, objective = Template.from_tokens([BLANK] * 4), Objective(*weights)
    for seed in range(10):
        models = Sure(seed, V, sharpness=0.5), Sure(seed + 1_000_003, V, backward=True, sharpness=0.5)
        probabilities = enumerated(models, template, objective)
        for rows in (1, 20, 30, 40, 60, ALL):
            method = Exact(max_rounds=0, max_rows=rows)
            result = decode(Pair(*models), None, template, method, beam_size=2, objective=objective)
            assert_true(result, template, probabilities, 2)
            if rows == ALL and leaves > V:  # else words that are dropped count each time that the rest is divided
                for own, one in zip(result.posterior.hypotheses, result.hypotheses, strict=True):
                    assert own.low == pytest.approx(probabilities[one.tokens], rel=0.05)


def test_a_bound_of_other_lengths_does_not_count_for_words():
    """Where one length is read to its end and the others are not, the words of its sentences are certain."""
    template = Template((2, Gap(1, 4), 3))
    seen = 0
    for seed in range(10):
        models = pair(seed, V, sharpness=1.0)
        result = decode(Pair(*models), None, template, Exact(max_rows=400, mass=1.0), objective=Objective(length=-2.0))
        assert_true(result, template, enumerated(models, template), 5)
        if len(result.posterior.words) == 1 and result.stop == "budget":
            seen += 1
            ((first, *_),) = result.posterior.words
            assert first.probability.low == pytest.approx(first.probability.high)
            assert result.posterior.hypotheses[0].low < 0.99 * result.posterior.hypotheses[0].high
    assert seen


# ---------------------------------------------------------------------------------------------------------------- mass


def test_the_search_goes_on_for_the_mass():
    more = 0
    for seed in range(10):
        models = pair(seed, V, sharpness=1.0)
        probabilities = enumerated(models, WIDE)
        alone = decode(Pair(*models), None, WIDE, Exact(max_rows=ALL), beam_size=1)
        for mass in (0.5, 0.9, 0.99, 1.0):
            result = decode(Pair(*models), None, WIDE, Exact(max_rows=ALL, mass=mass), beam_size=1)
            assert (result.stop, result.proved, result.gap) == ("proved", True, 0.0)
            assert result.upper_bound == result.best.score
            assert result.hypotheses == alone.hypotheses
            assert result.posterior.mass[0] >= mass
            assert_true(result, WIDE, probabilities, 1)
            more += result.rows_evaluated > alone.rows_evaluated
            assert f"mass:{mass:g}" in result.signature.split("|")
        assert "mass" not in alone.signature
        assert len(set(models[0].read)) < len(models[0].read)  # of several calls
    assert more > 20


def test_a_mass_that_a_budget_does_not_reach():
    """The best sentence is proved then, and the search was ended by the budget."""
    models = pair(3, V, sharpness=3.0)
    rows = decode(Pair(*models), None, WIDE, Exact(max_rows=ALL, mass=1e-9), beam_size=1).rows_evaluated
    result = decode(Pair(*models), None, WIDE, Exact(max_rows=rows + 1, mass=1.0), beam_size=1)
    assert (result.stop, result.proved, result.gap) == ("budget", True, 0.0)
    assert 0 < result.posterior.mass[0] < 1
    unproved = decode(Pair(*models), None, WIDE, Exact(max_rounds=0, max_rows=1, mass=1e-9), beam_size=1)
    assert (unproved.stop, unproved.proved) == ("budget", False)
    assert unproved.gap > 0


@pytest.mark.parametrize("beam_size", [1, 2, 20])
def test_the_empty_blank_counts(beam_size):
    """Its sentence has no leaf, and may be worse than the best ones."""
    template = Template((2, Gap(0, 1), 3))
    for seed in range(10):
        models = pair(seed, V, sharpness=3.0)
        probabilities = enumerated(models, template)
        for mass in (None, 1.0):
            objective = Objective(length=20.0)  # the empty blank is the worst
            method = Exact(max_rounds=0, max_rows=ALL, mass=mass)
            result = decode(Pair(*models), None, template, method, beam_size=beam_size, objective=objective)
            assert_true(result, template, probabilities, beam_size)
            assert result.rows_evaluated == sum(model.tokens_read for model in models)
            if mass:
                assert result.posterior.sentences == len(probabilities) == 5
            for model in models:
                model.tokens_read = 0


def test_the_same_sentence_of_several_widths_counts_once():
    template = Template((Gap(0, 2), 2, Gap(0, 2)))
    models = pair(1, V)
    probabilities = enumerated(models, template)
    result = decode(Pair(*models), None, template, Exact(max_rows=ALL, mass=1.0), beam_size=3)
    assert_true(result, template, probabilities, 3)
    assert result.posterior.sentences == len(probabilities) < sum(4 ** (len(fixed) - 1) for fixed in template.fixed())
    assert [one.low for one in result.posterior.hypotheses] == pytest.approx(
        [probabilities[one.tokens] for one in result.hypotheses]
    )


def test_rejected_sentences_count():
    """A check of finished sentences does not change the distribution."""

    class Letters:
        def encode(self, text):
            return [" abcdef".index(one) for one in text]

        def decode(self, ids):
            return "".join(" abcdef"[one] for one in ids)

    models = pair(2, V)
    probabilities = enumerated(models, WIDE)
    options = {"beam_size": 2, "vocabulary": Letters(), "accept": lambda text: text.count("b") == 2}
    result = decode(Pair(*models), None, WIDE, Exact(max_rows=ALL, mass=1.0), **options)
    assert not result.best.broken
    assert_true(result, WIDE, probabilities, 2)
    assert result.posterior.hypotheses[0].low == pytest.approx(probabilities[result.best.tokens])
    assert [one.text for one in result.posterior.words[0]] == [
        Letters().decode([one.token]) for one in result.posterior.words[0]
    ]


@pytest.mark.parametrize("mass", [None, 1.0])
@pytest.mark.parametrize("room", [1, exact.AT_ONCE])
def test_an_interruption_leaves_intervals(mass, room, monkeypatch):
    monkeypatch.setattr(exact, "AT_ONCE", room)
    batch = [WIDE, Template((2, Gap(0, 2), 3))]
    forward, plain = pair(7, V)
    probabilities = [enumerated((forward, plain), one) for one in batch]
    stops = set()
    for calls in range(14, 60, 3):
        backward = Impatient(7 + 1_000_003, V, backward=True)
        backward.calls_left = calls
        try:
            results = decode(Pair(forward, backward), [None] * 2, batch, Exact(1, ALL, mass=mass), beam_size=2)
        except KeyboardInterrupt:
            assert not stops, "BSCD was over"
            continue
        for one, template, own in zip(results, batch, probabilities, strict=True):
            assert_true(one, template, own, 2)
            assert one.posterior.mass[0] > 0
            stops.add(str(one.stop))
    assert "interrupted" in stops


# ---------------------------------------------------------------------------------------------- what has none, and why


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (BSCD(), {"objective": Objective(scope="blank")}),
        (Exact(), {"objective": Objective(scope="blank")}),
        (BSCD(), {"constraints": [lambda position, prefix, scores: scores - 1]}),
        (Exact(), {"constraints": [lambda position, prefix, scores: scores - 1]}),
        (BSCD(), {"diversity": Diversity(groups=2, strength=1.0)}),
        (Exact(), {"diversity": Diversity(groups=2, strength=1.0)}),
        (BeamSearch("forward"), {}),
    ],
)
def test_no_posterior(method, options):
    result = decode(Pair(*pair(0, V)), None, WIDE, method, beam_size=2, **options)
    assert result.hypotheses
    assert result.posterior is None
    assert result.to_dict()["posterior"] is None


def test_a_whole_caption_has_a_posterior():
    models = pair(0, V)
    result = decode(Pair(*models), None, None, beam_size=3)
    assert len(result.posterior.words) == len(result.best.tokens)
    assert math.fsum(one.estimate for one in result.posterior.hypotheses) == pytest.approx(1.0)
    certain = decode(Pair(*models), None, None, Exact(max_rows=ALL, mass=1.0), beam_size=3, widths=[1, 3])
    both = Template.from_tokens([BLANK]), Template.from_tokens([BLANK] * 3)
    weights = [math.fsum(math.exp(value) for value in joints(models, one)) for one in both]
    assert certain.posterior.sentences == 4 + 4**3
    assert certain.posterior.hypotheses[0].low == pytest.approx(math.exp(certain.best.joint) / math.fsum(weights))


def joints(models, template):
    """J of all sentences."""
    allowed, _ = reference_template(template.fixed()[0].positions, words_of(V))
    return [reference.joint(*(one.model() for one in models), words) for words in reference.sentences(allowed)]


def test_it_is_a_dict_for_json():
    result = decode(Pair(*pair(0, V)), None, WIDE, Exact(mass=0.5), beam_size=2)
    read = json.loads(json.dumps(result.to_dict(), allow_nan=False))["posterior"]
    assert read["mass"] == list(result.posterior.mass)
    first = result.posterior.words[0][0]
    assert read["words"][0][0]["token"] == first.token
    assert read["words"][0][0]["probability"] == vars(first.probability)
    assert len(read["hypotheses"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": Objective(scope="blank")}, r"Exact\(.*mass=0.9\) needs scope=\"sentence\""),
        ({"objective": Objective(0.5, 1.0)}, "weights that are at least 1 or equal to 0"),
        ({"constraints": [lambda position, prefix, scores: scores]}, "works without score hooks only"),
        ({"diversity": Diversity(groups=2, strength=1.0), "beam_size": 4}, "works without diversity only"),
    ],
)
def test_a_mass_that_cannot_be_asked(options, message):
    with pytest.raises(ValueError, match=message):
        decode(Pair(*pair(0, V)), None, WIDE, Exact(mass=0.9), **options)


def test_a_mass_of_weights_that_are_certain():
    result = decode(Pair(*pair(0, V)), None, WIDE, Exact(mass=0.9), objective=Objective(0.0, 1.0))
    assert result.posterior.mass[0] >= 0.9
