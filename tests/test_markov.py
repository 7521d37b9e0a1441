"""Markov chains whose two directions agree: with the right prior the splice is exact, and Viterbi is the bound."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from birnn_decode import PrefixScorer, Template, bscd_decode
from birnn_decode.search import sweep as sweep_module

START, END = 0, 1


def chain(seed, words, length, sharpness=2.0):
    rng = np.random.default_rng(seed)

    def distribution(*shape):
        weights = np.exp(sharpness * rng.normal(size=shape))
        return weights / weights.sum(axis=-1, keepdims=True)

    transitions = [distribution(words, words) for _ in range(length - 1)]
    return reference.MarkovChain(distribution(words), transitions, list(range(2, words + 2)), END, words + 2)


def scorers(markov, vocab_size):
    def scorer(model):
        def log_probs(context, prefixes):
            return np.array([model.log_probs(tuple(int(token) for token in prefix[1:])) for prefix in prefixes])

        return PrefixScorer(log_probs, vocab_size=vocab_size, start_token=START, end_token=END, normalized=True)

    return scorer(markov.forward()), scorer(markov.backward())


def log_prob(markov, words):
    return sum(reference.token_terms(markov.forward(), words, False))


@given(
    seed=st.integers(0, 10**6),
    words=st.integers(2, 5),
    length=st.integers(2, 5),
    beam_size=st.sampled_from([1, 2, 4]),
)
def test_with_the_marginal_as_prior_every_splice_score_is_the_log_probability(seed, words, length, beam_size):
    markov = chain(seed, words, length)
    forward, backward = scorers(markov, words + 2)
    seen = []

    def recording_look_ahead(opposite, beams, holds, original=sweep_module.look_ahead):
        seen.append({"opposite": [words[::-1] for words in opposite.tree.words(beams[beams >= 0])]})
        return original(opposite, beams, holds)

    def recording_choose(
        direction, beams, weight, steer, banned, beam_size, holds, noting, original=sweep_module.choose
    ):
        if steer is not None:
            tree, beam = direction.tree, beams[beams >= 0]
            totals = direction.weight * tree.offsets(beam)[:, None] + tree.gather(beam) + steer
            seen[-1].update(reverse=direction.reverse, own=tree.words(beam), totals=totals.tolist())
        return original(direction, beams, weight, steer, banned, beam_size, holds, noting)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sweep_module, "look_ahead", recording_look_ahead)
        monkeypatch.setattr(sweep_module, "choose", recording_choose)
        template, options = Template.blank((), length), {"prior": markov.marginals(), "splices": False}
        bscd_decode(forward, backward, None, template, beam_size=beam_size, **options)
    assert seen
    for step in seen:
        opposite = step["opposite"]
        for prefix, totals in zip(step["own"], step["totals"], strict=True):
            for word in range(2, words + 2):
                if step["reverse"]:
                    spliced = [(*rest[::-1], word, *prefix[::-1]) for rest in opposite]
                else:
                    spliced = [(*prefix, word, *rest) for rest in opposite]
                best = max(log_prob(markov, sentence) for sentence in spliced)
                assert totals[word] == pytest.approx(best, abs=1e-9)


@given(seed=st.integers(0, 10**6), beam_size=st.sampled_from([1, 3, 600]), with_prior=st.booleans())
@settings(max_examples=30)
def test_viterbi_bounds_bscd_and_a_complete_beam_reaches_it(seed, beam_size, with_prior):
    markov = chain(seed, 4, 4)
    allowed = [{2, 3, 4, 5}, {4}, {3, 5}, {2, 3, 4, 5}]
    template = Template.from_tokens([Template.BLANK, 4, {3, 5}, Template.BLANK])
    prior = markov.marginals() if with_prior else None
    result = bscd_decode(*scorers(markov, 6), None, template, beam_size=beam_size, prior=prior)
    exact = markov.viterbi(beam_size, allowed)
    for hypothesis, (bound, words) in zip(result.hypotheses, exact, strict=False):
        assert hypothesis.score <= 2 * bound + 1e-9
        if beam_size == 600:
            assert hypothesis.tokens == words
            assert hypothesis.score == pytest.approx(2 * bound)
    if beam_size == 600:
        assert len(result.hypotheses) == len(exact) == 4 * 2 * 4


@pytest.mark.parametrize("seed", range(3))
def test_viterbi_bounds_bscd_at_size(seed):
    length, words = 20, 60
    markov = chain(seed, words, length)
    known = {0: 7, 9: 30, 19: 11}
    template = Template.from_tokens([known.get(position, Template.BLANK) for position in range(length)])
    allowed = [{known[at]} if at in known else set(range(2, words + 2)) for at in range(length)]
    (bound, _), *_ = markov.viterbi(5, allowed)
    scores = [
        bscd_decode(
            *scorers(markov, words + 2), None, template, prior=markov.marginals(), max_rounds=max_rounds
        ).best.score
        for max_rounds in (0, 10)
    ]
    # The splice is exact here, the search is not: it need not reach the bound.
    assert -math.inf < scores[0] <= scores[1] <= 2 * bound + 1e-9
