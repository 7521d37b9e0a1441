"""Gibbs sampling: every draw against slow conditionals, answers against enumeration, and what a caller counts on."""

import gc
import importlib.util
import itertools
import math
import re
import weakref
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
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
    table_options,
    templates,
    words_of,
)
from test_bscd import assert_same, hypotheses

from birnn_decode import (
    BSCD,
    BeamSearch,
    Gibbs,
    Objective,
    Pair,
    PrefixScorer,
    Rerank,
    StopReason,
    Template,
    compare,
    decode,
    score_sentences,
)
from birnn_decode.backend import backend_for
from birnn_decode.search import gibbs as gibbs_module
from birnn_decode.search.chains import Chain
from birnn_decode.search.finalists import Finalist, Ranking, rank_finalists
from birnn_decode.search.sweep import open_templates
from birnn_decode.template import Gap

V = 6
WORDS = words_of(V)
BLANK = Template.BLANK
LIBRARIES = ["numpy", *(["torch"] if importlib.util.find_spec("torch") else [])]
beam_sizes = st.sampled_from([1, 2, 3, 8])
scans = st.sampled_from(["ordered", "random"])
weights = st.sampled_from([(1.0, 1.0), (1.0, 1.0), (0.3, 3.0), (2.0, 0.5), (0.0, 1.0), (1.0, 0.0)])


# ------------------------------------------------------------------------------------------ one draw


@dataclass
class Draw:
    """What was drawn from what."""

    chain: object
    at: int
    words: tuple  # of the chain, before
    log_probs: np.ndarray
    token: int | None


def record(monkeypatch):
    """Every draw from now on, in order."""
    drawn = []

    def recording_round(coupling, moving, original=gibbs_module._draw):
        asked = [(chain, at, tuple(chain.words)) for chain, at in moving if -1 not in chain.words[:at]]
        begin = len(drawn)
        original(coupling, moving)
        for draw, (chain, at, words) in zip(drawn[begin:], asked, strict=True):
            assert draw.chain is chain
            draw.at, draw.words = at, words

    def recording_draw(chain, log_probs, original=Chain.draw):
        before = log_probs.copy()
        drawn.append(Draw(chain, -1, (), before, original(chain, log_probs)))
        return drawn[-1].token

    monkeypatch.setattr(gibbs_module, "_draw", recording_round)
    monkeypatch.setattr(Chain, "draw", recording_draw)
    return drawn


def conditional(forward, backward, words, at, allowed, weights):
    """The log-probabilities of the allowed tokens at a position, given all other words; -inf where all are.

    While a word behind it is missing, the forward model says it alone.
    """
    before, behind = words[:at], words[:at:-1]
    sides = [(forward, before, weights[0]), (backward, behind, weights[1])]
    if -1 in words:
        sides = [(forward, before, 1.0)]
    scores = dict.fromkeys(sorted(allowed), 0.0)
    for model, prefix, weight in sides:
        for token in scores:
            if weight:
                scores[token] += weight * model.log_probs(prefix)[token]
    highest = logsumexp(list(scores.values()))
    return {token: score - highest if highest > -math.inf else -math.inf for token, score in scores.items()}


@settings(max_examples=100)
@given(
    seed=seeds,
    template=templates(V),
    beam_size=st.sampled_from([1, 2, 3]),
    weights=weights,
    ids=st.sampled_from([(START, END), (0, 0)]),
    table=table_options,
    members=members,
    normalized=st.booleans(),
    never=st.sampled_from([None, frozenset({3}), frozenset({2, 5})]),
    scan=scans,
)
# The known word in front is impossible for the forward model, that behind for the backward one.
@example(
    seed=5,
    template=[2, 3, BLANK, 4, BLANK, 5, 2],
    beam_size=3,
    weights=(2.0, 0.5),
    ids=(START, END),
    table={"sharpness": 1.0, "minus_inf": 0.4},
    members={"aligned": True},
    normalized=False,
    never=None,
    scan="ordered",
)
def test_a_word_is_drawn_from_the_product_of_both_conditionals(
    seed, template, beam_size, weights, ids, table, members, normalized, never, scan
):
    forward, backward = pair(seed, V, ids=ids, normalized=normalized, never=never, **table, **members)
    allowed, blanks = reference_template(template, [word for word in words_of(V, ids) if word not in (never or ())])
    with pytest.MonkeyPatch.context() as monkeypatch:
        drawn = record(monkeypatch)
        decode(
            Pair(forward, backward),
            1,
            Template.from_tokens(template),
            Gibbs(sweeps=5, scan=scan, restart_after=3, seed=seed),
            beam_size=beam_size,
            objective=Objective(*weights),
        )
    assert bool(drawn) == bool(blanks)
    words_of_chain = {}
    for draw in drawn:
        known = [next(iter(tokens)) if at not in blanks else -1 for at, tokens in enumerate(allowed)]
        # The words are those that were drawn before, or none where a chain begins.
        assert list(draw.words) in ([*words_of_chain.get(id(draw.chain), known)], known)
        expected = conditional(forward.model(1), backward.model(1), draw.words, draw.at, allowed[draw.at], weights)
        assert draw.at in blanks
        assert not np.isnan(draw.log_probs).any()
        possible = [token for token, log_prob in expected.items() if log_prob > -math.inf]
        assert np.flatnonzero(draw.log_probs > -math.inf).tolist() == possible
        words_of_chain[id(draw.chain)] = list(draw.words)
        if not possible:
            assert draw.token is None
            continue
        assert draw.token in possible
        words_of_chain[id(draw.chain)][draw.at] = draw.token
        own = draw.log_probs - logsumexp(draw.log_probs)
        assert [own[token] for token in possible] == pytest.approx([expected[token] for token in possible], abs=1e-9)


def test_models_that_mask_with_the_lowest_number():
    """Sums of such masks are below every number: impossible, and no reason for a warning."""
    lowest = np.finfo(np.float64).min
    scores = np.zeros((V, V))
    scores[:, 2:4] = lowest

    def scorer(start, end):
        return PrefixScorer(
            lambda context, prefixes: scores[prefixes[:, -1]], vocab_size=V, start_token=start, end_token=end
        )

    template = Template.from_tokens([2, BLANK, BLANK])
    result = decode(
        Pair(scorer(0, 1), scorer(1, 0)), None, template, Gibbs(sweeps=20), beam_size=40, objective=Objective(2.0, 2.0)
    )
    assert {one.tokens for one in result.hypotheses if one.score > lowest} == set()
    masked = decode(Pair(scorer(0, 1), scorer(1, 0)), None, Template.blank((), 2), Gibbs(sweeps=20), beam_size=40)
    assert {one.tokens for one in masked.hypotheses} == {(4, 4), (4, 5), (5, 4), (5, 5)}


def opened(forward, backward, template, weights=(1.0, 1.0)):
    """A coupling for one item and the item's problems, with their known words read."""
    coupling, problems = coupled(forward, backward, template, weights)
    for direction in coupling.directions:
        open_templates(direction, problems)
    return coupling, problems


class Rigged:
    """A random number generator that gives the numbers it is told."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


def a_chain(*numbers):
    coupling, problems = opened(*pair(1, V), Template.blank((), 1))
    chain = Chain(problems[0], coupling.directions, (0, 0))
    if numbers:
        chain._random = Rigged(*numbers)
    return chain


@given(
    log_probs=st.lists(
        st.one_of(st.floats(-30, 30), st.floats(-30, 0).map(lambda x: x - 5000), st.just(-math.inf)), min_size=1
    ),
    number=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1 - 2**-53, 1.0])),
)
@example(log_probs=[-math.inf, 0.0, -math.inf, -1.0, -math.inf], number=0.0)
@example(log_probs=[-math.inf, 0.0, -math.inf, -1.0, -math.inf], number=1.0)
def test_the_token_drawn_is_where_the_number_falls(log_probs, number):
    """At the edges, too: an impossible token is never drawn."""
    token = a_chain(number).draw(np.array(log_probs))
    highest = max(log_probs)
    if highest == -math.inf:
        assert token is None
        return
    assert log_probs[token] > -math.inf
    probabilities = np.exp(np.array(log_probs) - logsumexp(log_probs))
    assert probabilities[:token].sum() - 1e-9 <= number <= probabilities[: token + 1].sum() + 1e-9


def test_tokens_are_drawn_as_often_as_they_are_probable():
    probabilities = np.array([0.0, 0.5, 0.0, 0.3, 0.15, 0.05, 0.0])
    with np.errstate(divide="ignore"):
        log_probs = np.log(probabilities) - 2000
    chain = a_chain()
    counts = np.bincount([chain.draw(log_probs.copy()) for _ in range(5000)], minlength=7)
    assert counts[probabilities == 0].tolist() == [0, 0, 0]
    assert chisquare(counts[probabilities > 0], 5000 * probabilities[probabilities > 0]).pvalue > 1e-3


def sample(coupling, problems, chains, sweeps, **options):
    """For each sweep the sentences, by problem, that it came to, and the draws it made."""
    after = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        drawn = record(monkeypatch)

        def met(sentences):
            after.append(([(problems.index(problem), words) for problem, words in sentences], drawn[:]))
            drawn.clear()
            return [True]

        gibbs_module.gibbs(coupling, problems, chains, Gibbs(sweeps=sweeps, **options), met)
    return after


def assert_frequencies(found, log_probs):
    """Sentences come as often as they should."""
    assert set(found) <= set(log_probs)
    expected = {words: math.exp(log_prob) for words, log_prob in log_probs.items() if log_prob > -math.inf}
    assert sum(expected.values()) == pytest.approx(1)
    counts = Counter(found)
    assert chisquare([counts[words] for words in expected], [len(found) * p for p in expected.values()]).pvalue > 1e-3


@pytest.mark.parametrize("minus_inf", [0.0, 0.25])
def test_a_chain_begins_with_a_sentence_of_the_forward_model(minus_inf):
    """The words of the blanks are drawn one after the other; what is known behind them has no say."""
    forward, backward = pair(8, V, minus_inf=minus_inf)
    template = [BLANK, 4, {2, 5}]
    allowed, blanks = reference_template(template, WORDS)
    coupling, problems = opened(forward, backward, Template.from_tokens(template), weights=(0.0, 1.0))
    ((sentences, _),) = sample(coupling, problems, 2000, 1)
    log_probs = {
        words: sum(
            conditional(forward.model(), None, (*words[:at], -1, -1, -1)[:3], at, allowed[at], (1, 0))[words[at]]
            for at in sorted(blanks)
        )
        for words in reference.sentences(allowed)
    }
    assert len(sentences) == 2000
    assert_frequencies([words for _, words in sentences], log_probs)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.0)])
def test_a_single_blank_is_drawn_from_the_product(weights):
    forward, backward = pair(5, V)
    coupling, problems = opened(forward, backward, Template.from_tokens([2, BLANK, 4]), weights)
    _, (sentences, _) = sample(coupling, problems, 2000, 2)
    log_probs = conditional(forward.model(), backward.model(), (2, 2, 4), 1, WORDS, weights)
    assert_frequencies([words for _, words in sentences], {(2, word, 4): p for word, p in log_probs.items()})


# ------------------------------------------------------------------------------------------ the order of drawing


SCATTERED = [BLANK, 4, BLANK, {2, 3}, 5, 2, BLANK]  # blank positions 0, 2, 3, 6


def positions(sweep):
    return [draw.at for draw in sweep[1]]


@pytest.mark.parametrize("restart_after", [1, 2, 3, 20])
def test_an_ordered_scan_goes_left_to_right_and_back_by_turns(restart_after):
    coupling, problems = opened(*pair(6, V), Template.from_tokens(SCATTERED))
    after = sample(coupling, problems, 1, 10, restart_after=restart_after)
    assert len(after) == 10
    for number, sweep in enumerate(after):
        since_begin = number % (restart_after + 1)
        assert positions(sweep) == ([0, 2, 3, 6] if since_begin % 2 == 0 else [6, 3, 2, 0])
        assert [(-1 in draw.words) for draw in sweep[1]] == [since_begin == 0] * 4
        # A chain that begins anew has forgotten everything.
        assert (sweep[1][0].words.count(-1) == 4) == (since_begin == 0)
        last = sweep[1][-1]
        assert sweep[0] == [(0, (*last.words[: last.at], last.token, *last.words[last.at + 1 :]))]


@pytest.mark.parametrize("restart_after", [4, 100])
def test_a_random_scan_draws_as_many_words_as_there_are_blanks(restart_after):
    coupling, problems = opened(*pair(7, V), Template.from_tokens(SCATTERED))
    after = sample(coupling, problems, 2, 100, scan="random", restart_after=restart_after)
    orders = set()
    for number, sweep in enumerate(after):
        for chain in {id(draw.chain) for draw in sweep[1]}:
            order = [draw.at for draw in sweep[1] if id(draw.chain) == chain]
            assert len(order) == 4
            if number % (restart_after + 1) == 0:
                assert order == [0, 2, 3, 6]
            else:
                orders.add(tuple(order))
    counts = Counter(itertools.chain(*orders))
    assert set(counts) == {0, 2, 3, 6}
    assert min(counts.values()) > 0.8 * sum(counts.values()) / 4
    assert len(orders) > 60


def test_chains_have_their_own_random_numbers():
    """Of one item, of its widths, and of other seeds; the same seed gives the same."""

    def begun(seed):
        coupling, problems = opened(*pair(8, V, sharpness=0.3), Template.blank([2], (8, 9), [3]))
        return sample(coupling, problems, 3, 2, seed=seed)[0][0]

    drawn = begun(0)
    assert begun(0) == drawn
    assert len(set(drawn)) == 6
    assert not {words for _, words in drawn} & {words for _, words in begun(1)}
    narrow = {words[1:9] for number, words in drawn if number == 0}
    assert not narrow & {words[1:9] for number, words in drawn if number == 1}


def test_chains_of_a_batch_are_read_together():
    """The calls of a model do not grow with the number of chains."""
    calls = []
    for beam_size, items in ((1, 1), (4, 6)):
        models = pair(9, V, sharpness=0.3, aligned=False)
        rows = []
        for model in models:

            def step(tokens, state, step=model.step, rows=rows):
                rows.append(len(tokens))
                return step(tokens, state)

            model.step = step
        images = list(range(items))
        with pytest.MonkeyPatch.context() as monkeypatch:
            # What finalists cost is no matter here.
            monkeypatch.setattr("birnn_decode.search.pair.rank_finalists", lambda pool, count, *_, **__: [[]] * count)
            decode(Pair(*models), images, Template.blank([2], 6, [3]), Gibbs(sweeps=6), beam_size=beam_size)
        calls.append(len(rows))
        assert sum(rows) > 4 * len(rows) or items == 1
    # In a tick a chain needs what was read, a word more, or all of a side; with many chains one of them needs most.
    assert calls[1] <= 2 * (2 + 6) + 6 * 6 * 2 * 2 < 24 * calls[0] / 4


# ------------------------------------------------------------------------------------------ the answers


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scan", ["ordered", "random"])
def test_long_runs_find_the_best_sentences_there_are(seed, scan):
    template = [BLANK, 3, BLANK, {2, 4, 5}]
    forward, backward = pair(seed, V, minus_inf=0.25 if seed % 2 else 0.0)
    allowed, blanks = reference_template(template, WORDS)
    sampling = Gibbs(sweeps=120, scan=scan, restart_after=3)
    for both, scope in (((1.0, 1.0), "sentence"), ((0.5, 1.5), "sentence"), ((1.0, 1.0), "blank")):
        expected = reference.enumerate_best(
            forward.model(), backward.model(), allowed, 8, both, None if scope == "sentence" else blanks
        )
        objective = Objective(*both, scope=scope)
        result = decode(
            Pair(forward, backward), None, Template.from_tokens(template), sampling, beam_size=8, objective=objective
        )
        assert expected
        assert_same(hypotheses(result)[:2], expected[:2])
        # Below the best, one that is rarely drawn may be missing; none is better than it can be.
        assert all(one[0] <= bound[0] + 1e-9 for one, bound in zip(hypotheses(result), expected, strict=False))


@settings(max_examples=60)
@given(
    seed=seeds,
    template=templates(V),
    beam_size=beam_sizes,
    weights=weights,
    scope=st.sampled_from(["sentence", "blank"]),
    table=table_options,
    members=members,
    scan=scans,
)
def test_every_hypothesis_is_what_it_says(seed, template, beam_size, weights, scope, table, members, scan):
    """Distinct, allowed, ordered; score, J, log-probabilities and terms are those of the finished sentence."""
    forward, backward = pair(seed, V, **table, **members)
    allowed, blanks = reference_template(template, WORDS)
    objective = Objective(*weights, scope=scope)
    result = decode(
        Pair(forward, backward),
        1,
        Template.from_tokens(template),
        Gibbs(sweeps=6, scan=scan, restart_after=2),
        beam_size=beam_size,
        objective=objective,
    )
    found = result.hypotheses
    assert len(found) <= beam_size
    assert len({one.tokens for one in found}) == len(found)
    assert [(-one.score, one.tokens) for one in found] == sorted((-one.score, one.tokens) for one in found)
    if not table["minus_inf"]:
        assert found
    for one in found:
        assert all(token in tokens for token, tokens in zip(one.tokens, allowed, strict=True))
        assert [token for blank in one.blanks for token in blank] == [one.tokens[at] for at in sorted(blanks)]
        assert one.score == one.joint > -math.inf
        counted = None if scope == "sentence" else blanks
        joint = reference.joint(forward.model(1), backward.model(1), one.tokens, weights, counted)
        assert one.score == pytest.approx(joint, abs=1e-9)
    scored = score_sentences(Pair(forward, backward), 1, [one.tokens for one in found], objective=Objective(*weights))
    for one, same in zip(found, scored, strict=True):
        assert one.token_log_probs_forward == pytest.approx(same.token_log_probs_forward, abs=1e-9)
        assert one.token_log_probs_backward == pytest.approx(same.token_log_probs_backward, abs=1e-9)
        assert one.log_prob_forward == pytest.approx(same.log_prob_forward)
        assert one.log_prob_backward == pytest.approx(same.log_prob_backward)
        if scope == "sentence":
            assert one.joint == pytest.approx(same.joint, abs=1e-9)


def drawn_sentences(monkeypatch):
    """The distinct sentences handed over after each sweep, by item."""
    sweeps = []

    def recording(*given, original=gibbs_module.gibbs):
        *given, met = given

        def recording_met(sentences):
            sweeps.append([(problem.item, problem.template, words) for problem, words in sentences])
            return met(sentences)

        return original(*given, recording_met)

    monkeypatch.setattr("birnn_decode.methods.gibbs", recording)
    return sweeps


@settings(max_examples=60)
@given(seed=seeds, template=templates(V), beam_size=beam_sizes, table=table_options, width=st.integers(0, 1))
def test_the_best_of_all_that_was_drawn_are_returned(seed, template, beam_size, table, width):
    """Whatever sweep they were drawn in; and the trace says how many were new."""
    forward, backward = pair(seed, V, **table)
    template = Template((Gap(0, width), 2, *Template.from_tokens(template).parts, 2, Gap(0, width)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        sweeps = drawn_sentences(monkeypatch)
        result = decode(Pair(forward, backward), None, template, Gibbs(sweeps=8, restart_after=3), beam_size=beam_size)
    rule = 0.5 if width else "none"
    known = set()
    for sweep, entry in zip(sweeps, result.trace[1:], strict=True):
        assert entry.new_sentences == len(set(sweep) - known)
        known |= set(sweep)
    scored = {
        words: reference.length_rule(reference.joint(forward.model(), backward.model(), words), len(words), rule)
        for _, _, words in known
    }
    assert_same(hypotheses(result), reference.top([(score, words) for words, score in scored.items()], beam_size))
    assert (result.trace[0].new_sentences, result.rounds, result.stop == StopReason.BUDGET) == (0, 8, bool(known))


batches = st.lists(st.one_of(templates(V), st.none()), min_size=2, max_size=4)


@settings(max_examples=40)
@given(
    seed=seeds,
    batch=batches,
    beam_size=st.sampled_from([1, 3]),
    table=table_options,
    members=members,
    share_image=st.booleans(),
    scan=scans,
    rows=st.one_of(st.none(), st.lists(st.integers(1, 60), min_size=4, max_size=4)),
    weights=weights,
)
def test_answers_do_not_depend_on_the_batch(seed, batch, beam_size, table, members, share_image, scan, rows, weights):
    forward, backward = pair(seed, V, **table, **members)
    templates = [None if one is None else Template.from_tokens(one) for one in batch]
    sampling = Gibbs(sweeps=5, scan=scan, restart_after=2, seed=seed)
    options = {"beam_size": beam_size, "objective": Objective(*weights)}
    lengths = {"max_length": 3} if None in batch else {}
    images = [3] * len(batch) if share_image else list(range(len(batch)))
    rows = rows and rows[: len(batch)]
    together = decode(
        Pair(forward, backward),
        3 if share_image else images,
        templates,
        replace(sampling, rows=rows),
        **options,
        **lengths,
    )
    alone = [
        decode(
            Pair(forward, backward),
            image,
            template,
            replace(sampling, rows=rows and rows[item]),
            **options,
            **lengths if template is None else {},
        )
        for item, (image, template) in enumerate(zip(images, templates, strict=True))
    ]
    assert together == alone


@settings(max_examples=40)
@given(
    seed=seeds,
    template=templates(V),
    beam_size=beam_sizes,
    table=table_options,
    members=members,
    normalized=st.booleans(),
    scan=scans,
)
def test_scorers_of_every_kind_give_the_same_answer(seed, template, beam_size, table, members, normalized, scan):
    """Aligned or not, with the optional members or without, normalised by themselves or by the search."""
    sampling = Gibbs(sweeps=5, scan=scan, restart_after=2)
    template = Template.from_tokens([3, *template])

    def sampled(**options):
        return decode(Pair(*pair(seed, V, **table, **options)), 1, template, sampling, beam_size=beam_size)

    one_by_one = {"join": False, "aligned": members["aligned"]}
    plain = sampled(**one_by_one)
    other = sampled(**members)
    if not members["steps"]:
        assert other == plain
    # In which order sentences are scored depends on what a call may hold.
    turned = sampled(aligned=not members["aligned"])
    assert turned.hypotheses == plain.hypotheses
    # What is read in one call is read a sweep earlier, and also where no chain gets so far.
    assert other.hypotheses == plain.hypotheses
    assert [entry.new_sentences for entry in other.trace] == [entry.new_sentences for entry in plain.trace]
    own = sampled(normalized=normalized, **members)
    assert_same(hypotheses(own), hypotheses(plain))
    assert own.trace == other.trace


@settings(max_examples=40)
@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=1, max_size=3),
    beam_size=beam_sizes,
    table=table_options,
    members=members,
    normalized=st.booleans(),
)
def test_torch_equals_numpy(seed, batch, beam_size, table, members, normalized):
    pytest.importorskip("torch")
    answers = []
    for libraries in (("numpy", "numpy"), ("torch", "torch"), ("numpy", "torch")):
        options = {"normalized": normalized, **table, **members}
        models = (
            TableScorer(seed, V, library=libraries[0], **options),
            TableScorer(seed + 1_000_003, V, backward=True, library=libraries[1], **options),
        )
        images = list(range(len(batch)))
        templates = [Template.from_tokens(one) for one in batch]
        answers.append(decode(Pair(*models), images, templates, Gibbs(sweeps=5, restart_after=3), beam_size=beam_size))
        for model in models:
            model.check_untouched()
    for in_numpy, *others in zip(*answers, strict=True):
        for other in others:
            assert_same(hypotheses(other), hypotheses(in_numpy))
            assert (other.stop, other.trace) == (in_numpy.stop, in_numpy.trace)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_as_numbers_of_their_own(library, dtype):
    values = np.array([[0.5, -math.inf, 3.0], [-1.25, 2.0, 0.1]], dtype=dtype)
    scores = values.copy()
    if library == "torch":
        import torch

        scores = torch.from_numpy(scores).requires_grad_()
    numbers = backend_for(scores).numbers(scores)
    assert isinstance(numbers, np.ndarray)
    assert numbers.dtype == np.float64
    assert np.array_equal(numbers, values)
    numbers[:] = 7.0
    assert np.array_equal(np.asarray(scores.detach() if library == "torch" else scores), values)


def test_the_seed():
    forward, backward = pair(10, V, sharpness=0.3)
    template = Template.blank([2], 6, [3])
    models = Pair(forward, backward)
    answers = [decode(models, None, template, Gibbs(sweeps=3, seed=seed), beam_size=2) for seed in range(4)]
    assert len({result.best.tokens for result in answers}) > 1
    for seed, result in enumerate(answers):
        assert decode(models, None, template, Gibbs(sweeps=3, seed=seed), beam_size=2) == result
    assert decode(models, None, template, Gibbs(sweeps=3), beam_size=2) == answers[0]


# ------------------------------------------------------------------------------------------ rows


@settings(max_examples=60)
@given(
    seed=seeds,
    batch=st.lists(templates(V), min_size=1, max_size=3),
    beam_size=beam_sizes,
    table=table_options,
    members=members,
    scope=st.sampled_from(["sentence", "blank"]),
    scan=scans,
)
def test_rows_evaluated_is_a_true_count(seed, batch, beam_size, table, members, scope, scan):
    """A prefix is pushed through a model once, however often chains come by it."""
    models = pair(seed, V, **table, **members)
    results = decode(
        Pair(*models),
        list(range(len(batch))),
        [Template.from_tokens(one) for one in batch],
        Gibbs(sweeps=6, scan=scan, restart_after=2),
        beam_size=beam_size,
        objective=Objective(scope=scope),
    )
    assert sum(result.rows_evaluated for result in results) == sum(model.tokens_read for model in models)
    for model in models:
        # A call that reads several words leaves no state in between, so some of them may have to be read again.
        once = len(model.read) == len(set(model.read))
        assert once or members["steps"], "a prefix was pushed twice"
    for result in results:
        assert sum(entry.rows for entry in result.trace) == result.rows_evaluated


@settings(max_examples=60)
@given(
    seed=seeds, template=templates(V), beam_size=st.sampled_from([1, 3]), rows=st.integers(1, 300), table=table_options
)
def test_a_budget_of_rows_ends_with_the_sweep_that_reaches_it(seed, template, beam_size, rows, table):
    models = pair(seed, V, **table)
    options = {"template": Template.from_tokens(template), "beam_size": beam_size}
    free = decode(Pair(*models), None, method=Gibbs(sweeps=8), **options)
    limited = decode(Pair(*models), None, method=Gibbs(sweeps=8, rows=rows), **options)
    spent = list(itertools.accumulate(entry.rows for entry in free.trace))
    last = next((number for number in range(1, 9) if spent[number] >= rows), 8)
    assert limited.rounds == last
    assert limited.trace == free.trace[: last + 1]
    assert limited.rows_evaluated == spent[last]
    assert limited.hypotheses == decode(Pair(*models), None, method=Gibbs(sweeps=last), **options).hypotheses


def test_a_budget_for_each_item():
    models = pair(11, V, sharpness=0.3)
    template = Template.blank([2], 6, [3])
    budgets = [5, 400, 150]
    together = decode(Pair(*models), [0, 1, 2], template, Gibbs(rows=budgets))
    for image, (result, budget) in enumerate(zip(together, budgets, strict=True)):
        assert result == decode(Pair(*models), image, template, Gibbs(rows=budget))
        assert result.rows_evaluated - result.trace[-1].rows < budget <= result.rows_evaluated
    assert together[0].rounds == 1 < together[2].rounds < together[1].rounds < 100
    shared = decode(Pair(*models), [0, 1, 2], template, Gibbs(rows=150))
    assert shared[2] == together[2]
    assert shared == decode(Pair(*models), [0, 1, 2], template, Gibbs(rows=np.int64(150)))
    assert decode(Pair(*models), 2, template, Gibbs(rows=[150])) == shared[2]
    assert (
        decode(Pair(*models), [], template, Gibbs(rows=3)) == decode(Pair(*models), [], template, Gibbs(rows=[])) == []
    )


def test_finalists_between_sweeps_leave_the_scores_in_the_tree():
    template = Template.from_tokens([BLANK, 3, BLANK])
    coupling, problems = opened(*pair(12, V), template)
    both = coupling.directions
    ranking = Ranking(dict.fromkeys(both, 1.0), ["sentence"], ["none"])

    def ranked(words, **options):
        finalists = [Finalist(0, problems[0].template, words)]
        return rank_finalists(finalists, 1, both, ranking, 1, **options)

    def kept():
        nodes = {direction: np.arange(len(direction.tree)) for direction in both}
        return {
            (direction.reverse, *words)
            for direction, own in nodes.items()
            for words in direction.tree.words(own[direction.tree.known(own)])
        }

    ((first,),) = ranked((2, 3, 4), sweeps_follow=True)
    assert [len(terms) for terms in first.terms.values()] == [4, 4]
    assert kept() == {(False,), (False, 2, 3), (True,), (True, 4, 3)}
    ranked((5, 3, 2))
    assert kept() == set()  # nobody asks again
    assert not any(direction.tree.sweeping for direction in both)


# ------------------------------------------------------------------------------------------ templates


def test_nothing_blank():
    for scan in ("ordered", "random"):
        forward, backward = pair(13, V)
        result = decode(Pair(forward, backward), None, Template((2, 3, 4)), Gibbs(sweeps=3, scan=scan))
        assert [one.tokens for one in result.hypotheses] == [(2, 3, 4)]
        assert [one.blanks for one in result.hypotheses] == [()]
        assert [entry.new_sentences for entry in result.trace] == [0, 1, 0, 0]
        assert [entry.rows for entry in result.trace] == [0, 8, 0, 0]


def test_blanks_that_may_be_empty():
    forward, backward = pair(14, V)
    template = Template((2, Gap(0, 2), 3, Gap(0, 1)))
    result = decode(
        Pair(forward, backward), None, template, Gibbs(sweeps=10), beam_size=40, objective=Objective(length="none")
    )
    sentences = {
        (2, *one, 3, *other)
        for width in range(3)
        for one in itertools.product(WORDS, repeat=width)
        for other in [(), *((word,) for word in WORDS)]
    }
    assert {one.tokens for one in result.hypotheses} <= sentences
    assert {len(one.tokens) for one in result.hypotheses} == {2, 3, 4, 5}
    for one in result.hypotheses:
        joint = reference.joint(forward.model(), backward.model(), one.tokens)
        assert one.joint == one.score == pytest.approx(joint)
    # The same words in other blanks are one sentence.
    assert len({one.tokens for one in result.hypotheses}) == len(result.hypotheses)
    only = decode(Pair(forward, backward), None, Template((Gap(0, 0),)), Gibbs())
    assert [(one.tokens, one.blanks) for one in only.hypotheses] == [((), ((),))]


def test_a_beam_of_more_than_all_sentences():
    forward, backward = pair(15, V, sharpness=0.3)
    allowed, _ = reference_template([BLANK, {2, 3}], WORDS)
    result = decode(Pair(forward, backward), None, Template.from_tokens([BLANK, {2, 3}]), Gibbs(), beam_size=20)
    assert_same(hypotheses(result), reference.enumerate_best(forward.model(), backward.model(), allowed, 20))
    assert len(result.hypotheses) == 8


def test_sets_of_allowed_ids_and_ids_that_are_never_drawn():
    forward, backward = pair(16, V, never=frozenset({5}))
    template = Template.from_tokens([{4}, BLANK, {2, 5}, 5])
    result = decode(Pair(forward, backward), None, template, Gibbs(sweeps=40), beam_size=40)
    assert {one.tokens for one in result.hypotheses} == {(4, word, other, 5) for word in (2, 3, 4) for other in (2, 5)}
    backward.never = frozenset({4})  # either scorer rules ids out for both
    result = decode(Pair(forward, backward), None, Template.blank((), 2), Gibbs(sweeps=40), beam_size=40)
    assert {one.tokens for one in result.hypotheses} == set(itertools.product((2, 3), repeat=2))


def test_whole_captions_of_the_lengths_asked_for():
    forward, backward = pair(17, V)
    result = decode(Pair(forward, backward), None, method=Gibbs(), widths=[1, 2], beam_size=30)
    expected = [
        (reference.length_rule(reference.joint(forward.model(), backward.model(), words), len(words), "average"), words)
        for width in (1, 2)
        for words in itertools.product(WORDS, repeat=width)
    ]
    assert len(expected) == 20
    assert_same(hypotheses(result), reference.top(expected, 30))
    assert "|length:average|lengths:1,2|" in result.signature
    # Nothing is searched freely where the lengths are given.
    assert max(len(words) for model in (forward, backward) for _, words in model.read) == 2


@pytest.mark.parametrize("seed", range(4))
def test_whole_captions_of_the_lengths_that_are_written_freely(seed):
    forward, backward = pair(seed, V)
    options = {"beam_size": 4, "min_length": 1, "max_length": 3}
    result = decode(Pair(forward, backward), None, method=Gibbs(sweeps=60), **options)
    lengths = {
        len(words)
        for model in (forward, backward)
        for _, words, _ in reference.free_search(model.model(), WORDS, 4, 3, 1)
    }
    expected = reference.top(
        [
            (reference.joint(forward.model(), backward.model(), words) / (len(words) + 1), words)
            for width in lengths
            for words in itertools.product(WORDS, repeat=width)
        ],
        4,
    )
    assert_same(hypotheses(result)[:1], expected[:1])
    assert {len(one.tokens) for one in result.hypotheses} <= lengths
    assert all(one.finished and one.blanks == (one.tokens,) for one in result.hypotheses)
    assert "|length:average|lengths:1-3|" in result.signature


def dying(table, start, end):
    """A scorer of p(next | last), by image, given as {last: {next: p}}; what is not listed is impossible."""

    def log_probs(context, prefixes):
        scores = np.full((len(prefixes), V), -np.inf)
        for row, image, prefix in zip(scores, context, prefixes, strict=True):
            for token, probability in table.get((image, int(prefix[-1])), {}).items():
                row[token] = math.log(probability)
        return scores

    return PrefixScorer(log_probs, vocab_size=V, start_token=start, end_token=end, normalized=True)


def test_a_forward_model_that_cannot_begin():
    """Nothing can be drawn, even if J leaves the forward model out; the neighbours in a batch do not mind."""
    flat = dict.fromkeys(range(V), 1 / V)
    forward = dying({("alive", last): flat for last in range(V)}, START, END)
    backward = dying({(image, last): flat for last in range(V) for image in ("alive", "dead")}, END, START)
    template = Template.blank([2], 3)
    for objective in (Objective(), Objective(0.0, 1.0)):
        dead, alive = decode(
            Pair(forward, backward), ["dead", "alive"], template, Gibbs(sweeps=4, restart_after=2), objective=objective
        )
        assert (dead.hypotheses, dead.stop) == ((), "dead_end")
        assert dead == decode(
            Pair(forward, backward), "dead", template, Gibbs(sweeps=4, restart_after=2), objective=objective
        )
        assert sum(entry.new_sentences for entry in dead.trace) == 0
        with pytest.raises(ValueError, match=r"no hypothesis: .* It stopped with dead_end"):
            _ = dead.best
        assert alive.hypotheses
    # Neither direction can write a caption: there is no length to sample at, alone or among others.
    backward = dying({("alive", last): flat for last in range(V)}, END, START)
    dead, alive = decode(Pair(forward, backward), ["dead", "alive"], method=Gibbs(sweeps=4), max_length=3)
    assert (dead.hypotheses, dead.stop, dead.rounds) == ((), "dead_end", 0)
    assert dead == decode(Pair(forward, backward), "dead", method=Gibbs(sweeps=4), max_length=3)
    assert alive.rounds == 4


def test_a_chain_that_died_on_its_way_begins_again():
    """b is what nearly every chain begins with, and behind it comes nothing."""
    forward = dying({(0, START): {3: 0.9, 4: 0.1}, (0, 4): {5: 1.0}, (0, 5): {END: 1.0}}, START, END)
    flat = dict.fromkeys(range(V), 1 / V)
    backward = dying({(0, last): flat for last in range(V)}, END, START)
    result = decode(Pair(forward, backward), 0, Template.blank((), 2), Gibbs(sweeps=60), beam_size=2)
    assert [one.tokens for one in result.hypotheses] == [(4, 5)]
    assert result.stop == "budget"
    assert result.trace[1].new_sentences == 0  # both chains died in their first sweep


def test_a_word_that_nothing_can_replace_stands():
    """Both models agree on no word at all: every conditional is empty, and the chain stays what it was."""
    forward = dying({(0, last): {4: 1.0} for last in range(V)}, START, END)
    backward = dying({(0, last): {3: 1.0} for last in range(V)}, END, START)
    with pytest.MonkeyPatch.context() as monkeypatch:
        drawn = record(monkeypatch)
        result = decode(Pair(forward, backward), 0, Template.blank((), 2), Gibbs(sweeps=3), beam_size=1)
    assert [draw.token for draw in drawn] == [4, 4, None, None, None, None]
    assert [draw.words for draw in drawn[2:]] == [(4, 4)] * 4
    # A sentence was drawn; its probability is 0.
    assert (result.hypotheses, result.stop) == ((), "budget")
    assert [entry.new_sentences for entry in result.trace] == [0, 1, 0, 0]
    with pytest.raises(ValueError, match=r"no hypothesis: .* It stopped with budget"):
        _ = result.best


# ------------------------------------------------------------------------------------------ the objective and the door


@pytest.mark.parametrize("length", ["none", "average", 2.0, "auto"])
def test_length_rules(length):
    forward, backward = pair(18, V)
    objective = Objective(2.0, 0.5, length=length)
    result = decode(
        Pair(forward, backward),
        None,
        Template.blank([2], (0, 2), [3]),
        Gibbs(restart_after=5),
        beam_size=30,
        objective=objective,
    )
    rule = 0.25 * (2.0 + 0.5) if length == "auto" else length
    expected = [
        (reference.length_rule(reference.joint(forward.model(), backward.model(), words, (2.0, 0.5)), len(words), rule))
        for words in (one.tokens for one in result.hypotheses)
    ]
    assert [one.score for one in result.hypotheses] == pytest.approx(expected)
    assert expected == sorted(expected, reverse=True)
    assert {len(one.tokens) for one in result.hypotheses} == {2, 3, 4}
    blank = Objective(scope="blank", length=length)
    if rule == "none":
        with pytest.raises(ValueError, match="the empty blank would always win"):
            decode(Pair(forward, backward), None, Template.blank([2], (0, 2), [3]), Gibbs(), objective=blank)


def test_the_signature_has_the_settings():
    forward, backward = pair(19, V)
    template = Template.blank([2], 1, [3])
    result = decode(Pair(forward, backward), None, template, Gibbs(), beam_size=2)
    version = result.signature.split(":")[-1]
    assert result.signature == (
        "gibbs|scan:ordered|sweeps:100|restart:20|seed:0|weights:1,1|scope:sentence|beams:2|length:none|"
        f"version:{version}"
    )
    other = decode(
        Pair(forward, backward),
        [0, 1],
        template,
        Gibbs(sweeps=7, rows=[50, 60], scan="random", restart_after=3, seed=11),
        objective=Objective(0.5, 2, scope="blank"),
    )[1]
    assert other.signature == (
        "gibbs|scan:random|sweeps:7|restart:3|seed:11|weights:0.5,2|scope:blank|rows:60|beams:5|length:none|"
        f"version:{version}"
    )


def test_budget_is_a_reason_to_stop():
    result = decode(Pair(*pair(20, V)), None, Template.blank([2], 1, [3]), Gibbs(sweeps=2))
    assert result.stop is StopReason.BUDGET
    assert (result.stop, str(result.stop)) == ("budget", "budget")
    assert "used up" in result.stop.advice
    assert result.to_dict()["stop"] == "budget"
    assert result.to_dict()["advice"] == result.stop.advice


TEMPLATE = Template.blank([2], 1, [3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scan": "left"}, ValueError, "scan must be 'ordered' or 'random', got 'left'"),
        ({"scan": None}, TypeError, "scan must be 'ordered' or 'random', got None"),
        ({"sweeps": 0}, ValueError, "sweeps must be a positive integer, got 0"),
        ({"sweeps": 2.0}, TypeError, "sweeps must be a positive integer, got 2.0"),
        ({"restart_after": 0}, ValueError, "restart_after must be a positive integer, got 0"),
        ({"restart_after": None}, TypeError, "restart_after must be a positive integer, got None"),
        ({"seed": -1}, ValueError, "seed must be a whole number, 0 or larger, got -1"),
        ({"seed": "a"}, TypeError, "seed must be a whole number, 0 or larger, got 'a'"),
        ({"rows": 0}, ValueError, "rows must be a positive integer, a list of them, or a method, got 0"),
        ({"rows": 1.5}, TypeError, "rows must be a positive integer, a list of them, or a method, got 1.5"),
        ({"rows": [5, 0]}, ValueError, "rows must be a positive integer, a list of them, or a method, got 0"),
        ({"rows": [5, None]}, TypeError, "rows must be a positive integer, a list of them, or a method, got None"),
        ({"rows": [5]}, ValueError, "rows has 1 numbers for 2 items. Give one for each, or one number"),
        ({"rows": [5, 6, 7]}, ValueError, "rows has 3 numbers for 2 items"),
    ],
)
def test_errors_at_the_door(options, error, message):
    models = pair(21, V)
    with pytest.raises(error, match=re.escape(message)):
        decode(Pair(*models), [0, 1], TEMPLATE, Gibbs(**options))
    assert not any(model.read for model in models)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beam_size": 0}, ValueError, "beam_size must be a positive integer, got 0"),
        (
            {"objective": "average"},
            TypeError,
            "objective must be an Objective, for example Objective(length='average'), got 'average'",
        ),
        ({"widths": [2]}, ValueError, "are for whole captions (template=None)"),
    ],
)
def test_errors_in_the_question(options, error, message):
    models = pair(21, V)
    with pytest.raises(error, match=re.escape(message)):
        decode(Pair(*models), [0, 1], TEMPLATE, Gibbs(), **options)
    assert not any(model.read for model in models)


@pytest.mark.parametrize("template", [None, Template.from_tokens([2, BLANK, 3, BLANK, BLANK])])
def test_nothing_is_left_in_memory(template):
    """Without the help of the cycle collector, which may run long after."""
    alive = []
    forward, backward = pair(22, V)
    for model in (forward, backward):

        def step(tokens, state, step=model.step):
            scores, state = step(tokens, state)
            alive.append(weakref.ref(scores))
            return scores, state

        model.step = step
    gc.disable()
    try:
        result = decode(Pair(forward, backward), None, template, Gibbs(sweeps=5, rows=200, restart_after=2))
        compare(Pair(forward, backward), None, template, ["gibbs", "bscd"])
        assert result.hypotheses
        assert alive
        assert not any(reference() is not None for reference in alive)
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------ compare


ALL = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "gibbs", "bscd"]


@settings(max_examples=60)
@given(
    seed=seeds,
    batch=st.lists(templates(V, max_length=4), min_size=1, max_size=3),
    beam_size=st.sampled_from([1, 3]),
    methods=st.lists(st.sampled_from(ALL), min_size=1, unique=True),
    sharpness=st.sampled_from([0.3, 3.0]),
    weights=weights,
)
def test_methods_are_what_they_are_alone(seed, batch, beam_size, methods, sharpness, weights):
    """In the order asked for, whatever else is compared."""
    models = pair(seed, V, sharpness=sharpness)
    templates = [Template.from_tokens(one) for one in batch]
    images = list(range(len(batch)))
    objective = Objective(*weights)
    options = {"beam_size": beam_size, "objective": objective}
    rounds = BSCD(max_rounds=4)
    values = {"bscd": rounds, "gibbs": Gibbs(rows=rounds)}
    compared = compare(Pair(*models), images, templates, [values.get(name, name) for name in methods], **options)
    assert [list(results) for results in compared] == [methods] * len(batch)
    searched = decode(Pair(*models), images, templates, rounds, **options)
    rows = [result.rows_evaluated for result in searched]
    alone = {
        "bscd": lambda: searched,
        "rerank": lambda: decode(Pair(*models), images, templates, Rerank(), **options),
        "gibbs": lambda: decode(Pair(*models), images, templates, Gibbs(rows=rows), **options),
    }
    for number, (direction, rank) in enumerate(itertools.product(("forward", "backward"), ("blank", "sentence"))):
        name = f"urnn-{direction[0]}{'+end' if rank == 'sentence' else ''}"
        alone[name] = lambda number=number, direction=direction, rank=rank: decode(
            one_sided(models[number // 2], direction),
            images,
            templates,
            BeamSearch(direction, rank=rank),
            beam_size=beam_size,
        )
    for name in methods:
        own = [results[name] for results in compared]
        if name in ("bscd", "rerank", "gibbs"):
            assert own == alone[name]()
        else:
            for one, same in zip(own, alone[name](), strict=True):
                assert_same(hypotheses(one), hypotheses(same))
    if "gibbs" in methods:
        for results, budget in zip(compared, rows, strict=True):
            result = results["gibbs"]
            if result.rounds > 1:
                assert result.rows_evaluated - result.trace[-1].rows < budget
            assert result.rows_evaluated >= budget or result.rounds == 100


def test_what_is_compared_does_not_change_the_others():
    models = pair(23, V, sharpness=0.3)
    template = Template.blank([2], 4, [3])
    every = compare(Pair(*models), None, template, ALL)
    assert list(every) == ALL
    plain = compare(Pair(*models), None, template)
    assert list(plain) == [name for name in ALL if name != "gibbs"]
    assert plain == {name: result for name, result in every.items() if name != "gibbs"}
    turned = compare(Pair(*models), None, template, ALL[::-1])
    assert list(turned) == ALL[::-1]
    assert turned == every
    assert compare(Pair(*models), None, template, ("gibbs", "bscd")) == {
        name: every[name] for name in ("gibbs", "bscd")
    }
    assert compare(Pair(*models), [], template, ALL) == []
    # Sampling takes as many rows as BSCD would, whether BSCD is compared or not.
    assert compare(Pair(*models), None, template, ["gibbs"]) == {"gibbs": every["gibbs"]}
    # Gibbs sampling is under way for as long as BSCD takes, and not for all of its sweeps.
    gibbs, bscd = every["gibbs"], every["bscd"]
    assert gibbs.rows_evaluated - gibbs.trace[-1].rows < bscd.rows_evaluated <= gibbs.rows_evaluated
    assert f"|rows:{bscd.rows_evaluated}|" in gibbs.signature
    assert 1 < gibbs.rounds < 100


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        ([], ValueError, "methods is empty. Give at least one method"),
        ("bscd", TypeError, "methods must be a list of methods or of their names, got 'bscd'"),
        (
            [None],
            TypeError,
            "every entry of methods must be a value such as BSCD() or BeamSearch('forward'), got None",
        ),
        (
            ["bscd", "viterbi"],
            ValueError,
            "methods has 'viterbi', which is not a method. The names are urnn-f, urnn-b, urnn-f+end, urnn-b+end, "
            "rerank, gibbs, bscd, bscd-paper, exact",
        ),
        (["bscd", "rerank", "bscd"], ValueError, "methods has two methods of the name 'bscd'"),
        (["bscd", BSCD(max_rounds=1)], ValueError, "methods has two methods of the name 'bscd'"),
    ],
)
def test_methods_that_cannot_be_compared(methods, error, message):
    models = pair(24, V)
    with pytest.raises(error, match=re.escape(message)):
        compare(Pair(*models), None, TEMPLATE, methods)
    assert not any(model.read for model in models)
