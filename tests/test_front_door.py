"""What a caller gives and gets: texts, batches, scorers, settings, and the errors for what cannot be right."""

import gc
import itertools
import json
import re
import weakref

import numpy as np
import pytest
from tables import coupled, pair, words_of

from birnn_decode import (
    BSCD,
    BeamSearch,
    DecodeResult,
    Objective,
    Pair,
    PrefixScorer,
    Rerank,
    Scorer,
    StepScorer,
    Template,
    as_scorer,
    bscd_decode,
    compare,
    decode,
    score_sentences,
)
from birnn_decode.search.bscd import bscd
from birnn_decode.search.sweep import Prior

V = 6


class Letters:
    """Words a, b, c, … are ids 2, 3, 4, …"""

    def encode(self, text):
        return [ord(word) - ord("a") + 2 for word in text.split()]

    def decode(self, ids):
        return " ".join(chr(token - 2 + ord("a")) for token in ids)


def test_texts():
    forward, backward = pair(1, V)
    result = bscd_decode(forward, backward, None, "a _ {0-2} b", vocabulary=Letters())
    assert isinstance(result, DecodeResult)
    for hypothesis in result.hypotheses:
        assert hypothesis.text == Letters().decode(hypothesis.tokens)
        assert hypothesis.text.startswith("a ")
        assert hypothesis.text.endswith(" b")
        assert hypothesis.blanks == (hypothesis.tokens[1:-1],)
    backward.vocabulary = Letters()
    assert bscd_decode(forward, backward, None, "a _ {0-2} b") == result
    assert bscd_decode(forward, backward, None, Template.blank([2], (1, 3), [3])).hypotheses == result.hypotheses
    scored = score_sentences(Pair(forward, backward), None, ["a c b", [2, 4, 3], np.array([2, 4, 3])])
    assert scored[0] == scored[1] == scored[2]


def test_lists_in_lists_out():
    forward, backward = pair(2, V)
    one, two = Template.blank([2], 1, [3]), Template.blank([3], 2)
    single = bscd_decode(forward, backward, 0, one)
    assert bscd_decode(forward, backward, [0], one) == [single]
    assert bscd_decode(forward, backward, [0, 1], one) == [single, bscd_decode(forward, backward, 1, one)]
    assert bscd_decode(forward, backward, 0, [one, two]) == [single, bscd_decode(forward, backward, 0, two)]
    assert bscd_decode(forward, backward, [], one) == []
    assert bscd_decode(forward, backward, 0, []) == []
    assert decode(Pair(forward, None), [], method=BeamSearch("forward")) == []
    assert compare(Pair(forward, backward), [], one) == []
    assert compare(Pair(forward, backward), [0, 1], one)[0] == compare(Pair(forward, backward), 0, one)
    assert score_sentences(Pair(forward, backward), [], []) == []
    assert score_sentences(Pair(forward, backward), [0, 1], [[], [[2]]])[0] == []


def test_compare_is_every_method_on_the_same_input():
    forward, backward = pair(3, V)
    template = Template.blank([2], 2, [3])
    models, options = Pair(forward, backward), {"beam_size": 3}
    names = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "bscd"]
    results = compare(models, None, template, [*names[:-1], BSCD(max_rounds=4)], **options)
    assert list(results) == names
    assert list(compare(models, None, template)) == names
    alone = {
        "urnn-f": decode(Pair(forward, None), None, template, BeamSearch("forward"), **options),
        "urnn-b": decode(Pair(None, backward), None, template, BeamSearch("backward"), **options),
        "urnn-f+end": decode(Pair(forward, None), None, template, BeamSearch("forward", "sentence"), **options),
        "urnn-b+end": decode(Pair(None, backward), None, template, BeamSearch("backward", "sentence"), **options),
        "rerank": decode(Pair(forward, backward), None, template, Rerank(), **options),
        "bscd": bscd_decode(forward, backward, None, template, max_rounds=4, **options),
    }
    for name, result in results.items():
        assert [one.tokens for one in result.hypotheses] == [one.tokens for one in alone[name].hypotheses]
        assert [one.score for one in result.hypotheses] == [one.score for one in alone[name].hypotheses]
        scored = score_sentences(Pair(forward, backward), None, [one.tokens for one in result.hypotheses])
        for hypothesis, own in zip(result.hypotheses, scored, strict=True):
            assert hypothesis.joint == pytest.approx(own.score)
            assert hypothesis.log_prob_forward == pytest.approx(own.log_prob_forward)
            assert hypothesis.log_prob_backward == pytest.approx(own.log_prob_backward)
    assert results["bscd"] == alone["bscd"]
    assert results["rerank"] == alone["rerank"]
    assert compare(Pair(forward, backward), None, max_length=3)["urnn-f"].hypotheses


def test_results_for_machines():
    forward, backward = pair(4, V)
    result = bscd_decode(forward, backward, None, Template.blank([2], 2, [3]), vocabulary=Letters(), beam_size=2)
    read = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert read["hypotheses"][0]["tokens"] == list(result.best.tokens)
    assert read["stop"] == result.stop
    assert read["advice"] == result.stop.advice
    assert f"{result.stop}" == result.stop.value
    assert result.signature == (
        "bscd|rounds:10|weights:1,1|scope:sentence|beams:2|length:none|version:" + result.signature.split(":")[-1]
    )
    whole = bscd_decode(forward, backward, None, max_length=4, prior=np.zeros(V), prior_weight=0.5)
    assert "|prior:0.5|" in whole.signature
    assert "|length:average|lengths:0-4|" in whole.signature


def test_a_known_word_may_be_one_that_is_never_an_answer():
    unknown = 5
    forward, backward = pair(6, V, never=frozenset({unknown}))
    result = bscd_decode(forward, backward, None, Template.from_tokens([unknown, Template.BLANK]), beam_size=40)
    assert {one.tokens for one in result.hypotheses} == {(unknown, word) for word in words_of(V) if word != unknown}
    asked = bscd_decode(forward, backward, None, Template.from_tokens([unknown, {2, unknown}]), beam_size=40)
    assert {one.tokens for one in asked.hypotheses} == {(unknown, 2), (unknown, unknown)}
    # A blank takes no id that either scorer rules out.
    backward.never = frozenset({4})
    both = bscd_decode(forward, backward, None, Template.from_tokens([Template.BLANK]), beam_size=40)
    assert {one.tokens for one in both.hypotheses} == {(2,), (3,)}


def test_a_prior_steers_the_search_and_is_no_part_of_the_score():
    forward, backward = pair(7, V)
    prior = np.zeros(V)
    prior[2] = -np.inf
    template = Template.blank([2], 3, [3])  # known words stand, whatever the prior says
    plain = bscd_decode(forward, backward, None, template, beam_size=1)
    assert bscd_decode(forward, backward, None, template, prior=prior, prior_weight=0, beam_size=1) == plain
    flat = bscd_decode(forward, backward, None, template, prior=np.full((5, V), -1.0), beam_size=1)
    assert flat.hypotheses == plain.hypotheses
    # The initial beams are classical; what the sweeps add has no word that the prior rules out.
    added = []
    for seed in range(20):
        forward, backward = pair(seed, V)
        result = bscd_decode(forward, backward, None, template, prior=prior, beam_size=2)
        (scored,) = score_sentences(Pair(forward, backward), None, [result.best.tokens])
        assert result.best.score == pytest.approx(scored.score)
        coupling, problems = coupled(forward, backward, template)
        (search,), _ = bscd(coupling, problems, 2, 10, Prior(prior, 1.0), splices=False)
        added += itertools.chain(*search.met[1:])
    assert added
    assert all(2 not in tokens[1:-1] for tokens in added)


def test_scorers():
    forward, _ = pair(8, V)
    assert as_scorer(forward) is forward
    assert isinstance(forward, Scorer)
    assert not isinstance(object(), Scorer)
    bigram = np.random.default_rng(0).normal(size=(V, V))
    by_step = StepScorer(
        step=lambda tokens, state: (bigram[tokens], None),
        start=lambda context: None,
        select=lambda state, rows: None,
        vocab_size=V,
        start_token=0,
        end_token=1,
    )
    by_prefix = PrefixScorer(
        lambda context, prefixes: bigram[prefixes[:, -1]], vocab_size=V, start_token=0, end_token=1
    )
    template = Template.blank([2], 2, [3])
    answers = [decode(Pair(scorer, None), None, template, BeamSearch("forward")) for scorer in (by_step, by_prefix)]
    assert answers[0].hypotheses == answers[1].hypotheses
    assert answers[0].rows_evaluated == answers[1].rows_evaluated


@pytest.mark.parametrize(
    "template", [None, Template.from_tokens([2, Template.BLANK, 3, Template.BLANK, Template.BLANK])]
)
def test_nothing_is_left_in_memory(template):
    """Without the help of the cycle collector, which may run long after."""
    alive = []
    forward, backward = pair(9, V)
    for model in (forward, backward):

        def step(tokens, state, step=model.step):
            scores, state = step(tokens, state)
            alive.append(weakref.ref(scores))
            return scores, state

        model.step = step
    gc.disable()
    try:
        result = bscd_decode(forward, backward, None, template)
        compare(Pair(forward, backward), None, template)
        assert result.hypotheses
        assert alive
        assert not any(reference() is not None for reference in alive)
    finally:
        gc.enable()


def test_prefix_scorers_see_the_context_of_their_rows():
    tables = np.random.default_rng(0).normal(size=(3, V, V))

    def function(context, prefixes):
        assert len(context) == len(prefixes)
        return np.stack([table[prefix[-1]] for table, prefix in zip(context, prefixes, strict=True)])

    template = Template.blank([2], 2, [3])
    for encode in (None, np.stack):
        scorer = PrefixScorer(function, encode=encode, vocab_size=V, start_token=0, end_token=1)
        together = decode(Pair(scorer, None), list(tables), template, BeamSearch("forward"))
        alone = [decode(Pair(scorer, None), table, template, BeamSearch("forward")) for table in tables]
        assert together == alone
        assert len({result.best.score for result in alone}) == 3
    scorer = PrefixScorer(function, encode=lambda images: 5, vocab_size=V, start_token=0, end_token=1)
    with pytest.raises(
        TypeError, match="encode returned a int; a PrefixScorer needs a list or an array with one entry per"
    ):
        decode(Pair(scorer, None), tables[0], template, BeamSearch("forward"))


MODELS = pair(10, V)
TEMPLATE = Template.blank([2], 1, [3])


class Text:
    def __init__(self, **members):
        self.__dict__.update(members)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda f, b: bscd_decode(f, None, None, TEMPLATE),
            ValueError,
            "needs a backward model, and the Pair has none",
        ),
        (
            lambda f, b: bscd_decode(Text(vocab_size=3), b, None),
            TypeError,
            "it lacks start_token, end_token, encode, start",
        ),
        (
            lambda f, b: bscd_decode(f, pair(1, 9)[1], None),
            ValueError,
            "forward model has 6 ids and the backward model 9",
        ),
        (
            lambda f, b: bscd_decode(f, b, None, "a _"),
            TypeError,
            "a template in text needs a vocabulary with encode(text)",
        ),
        (
            lambda f, b: bscd_decode(f, b, None, (2, 3)),
            TypeError,
            "the template must be a text, a Template (from ids: Template.from_tokens), or None",
        ),
        (lambda f, b: bscd_decode(f, b, [0, 1], [TEMPLATE]), ValueError, "got 2 sources and 1 templates"),
        (
            lambda f, b: bscd_decode(f, b, 0, Template((9,))),
            ValueError,
            "id 9, but the scorers' vocabulary has ids 0 to 5",
        ),
        (lambda f, b: bscd_decode(f, b, 0, Template((1,))), ValueError, "id 1, which is START or END of a scorer"),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, beam_size=0),
            ValueError,
            "beam_size must be a positive integer, got 0",
        ),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, beam_size=2.0),
            TypeError,
            "beam_size must be a positive integer, got 2.0",
        ),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, max_rounds=-1),
            ValueError,
            "max_rounds must be a whole number, 0 or larger, got -1",
        ),
        (lambda f, b: bscd_decode(f, b, 0, TEMPLATE, widths=[2]), ValueError, "are for whole captions (template=None)"),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, max_length=9),
            ValueError,
            "are for whole captions (template=None)",
        ),
        (
            lambda f, b: bscd_decode(f, b, 0, min_length=5, max_length=4),
            ValueError,
            "min_length=5 is more than max_length=4",
        ),
        (
            lambda f, b: bscd_decode(f, b, 0, widths=[40], max_length=30),
            ValueError,
            "widths=[40]: give at least one length, all from 0 to 30 words (min_length, max_length)",
        ),
        (lambda f, b: bscd_decode(f, b, 0, widths=[]), ValueError, "widths=[]"),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, prior=np.zeros(5)),
            ValueError,
            "prior must have shape [6] or [positions, 6], because the models have 6 ids, got (5,)",
        ),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, prior=np.full(V, np.nan)),
            ValueError,
            "prior has NaN or +inf",
        ),
        (lambda f, b: bscd_decode(f, b, 0, TEMPLATE, prior=np.zeros((2, V))), ValueError, "prior has 2 positions"),
        (lambda f, b: bscd_decode(f, b, 0, prior=np.zeros((2, V))), ValueError, "prior has 2 positions"),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, prior=np.zeros(V), prior_weight=np.inf),
            ValueError,
            "prior_weight must be a finite number, got inf",
        ),
        (
            lambda f, b: BeamSearch("left"),
            ValueError,
            "direction must be 'forward' or 'backward', got 'left'",
        ),
        (lambda f, b: BeamSearch("forward", rank="end"), ValueError, "rank must be 'blank' or 'sentence', got 'end'"),
        (
            lambda f, b: score_sentences(Pair(None, None), 0, []),
            TypeError,
            "models is a Pair of None and None. Give at least one model.",
        ),
        (lambda f, b: score_sentences(Pair(f, b), 0, "a b"), TypeError, "the sentences of a source must be a list"),
        (
            lambda f, b: score_sentences(Pair(f, b), 0, [2, 3]),
            TypeError,
            "a sentence must be a text or a sequence of ids, got 2",
        ),
        (
            lambda f, b: score_sentences(Pair(f, b), 0, [[2.5]]),
            TypeError,
            "a sentence must be a text or a sequence of ids, got [2.5]",
        ),
        (
            lambda f, b: score_sentences(Pair(f, b), [0], [2]),
            TypeError,
            "the sentences of a source must be a list, even a single sentence, got 2",
        ),
        (lambda f, b: score_sentences(Pair(f, b), 0, [[2, 9]]), ValueError, "part 1 of the sentence has id 9"),
        (
            lambda f, b: score_sentences(Pair(f, None), 0, [[2]], objective=Objective(0, 1)),
            ValueError,
            "weight 0 to the only model of the Pair",
        ),
        (
            lambda f, b: score_sentences(Pair(f, b), 0, [[2]], objective="average"),
            TypeError,
            "objective must be an Objective, for example Objective(length='average'), got 'average'",
        ),
        (
            lambda f, b: bscd_decode(f, b, 0, "_", vocabulary={"a": 1}),
            TypeError,
            "vocabulary must have encode(text) -> ids and decode(ids) -> text, got a builtins.dict without encode",
        ),
        (
            lambda f, b: as_scorer(StepScorer(None, None, None, vocab_size=None, start_token=0, end_token=0)),
            TypeError,
            "the given scorer's vocab_size must be an integer, got None",
        ),
        (
            lambda f, b: bscd_decode(f, b, 0, TEMPLATE, objective="average"),
            TypeError,
            "objective must be an Objective, for example Objective(length='average'), got 'average'",
        ),
        (
            lambda f, b: decode(Pair(f, None), 0, method=BeamSearch("forward"), objective=2),
            TypeError,
            "objective must be an Objective, for example Objective(length='average'), got 2",
        ),
        (lambda f, b: bscd_decode(f, b, 0, widths=3), TypeError, "widths must be a list of whole numbers, got 3"),
        (lambda f, b: bscd_decode(f, b, [0, 1], [TEMPLATE, Template((9,))]), ValueError, "template of item 1 has id 9"),
        (lambda f, b: bscd_decode(f, b, 0, [2, 3]), TypeError, "Only a list is one template for each source"),
        (
            lambda f, b: Template.blank([2], 1.5),
            TypeError,
            "width must be an integer or a pair (low, high) of integers, got 1.5",
        ),
        (
            lambda f, b: Template.blank([2], [1, 3]),
            TypeError,
            "width must be an integer or a pair (low, high) of integers, got [1, 3]",
        ),
        (
            lambda f, b: as_scorer(StepScorer(None, None, None, vocab_size=3, start_token=None, end_token=0)),
            TypeError,
            "the given scorer's start_token: an id must be an integer, got None",
        ),
        (lambda f, b: score_sentences(Pair(f, b), [0], []), ValueError, "got 1 sources and 0 lists of sentences"),
        (lambda f, b: score_sentences(Pair(f, b), 0, [[2, 1]]), ValueError, "id 1, which is START or END"),
        (
            lambda f, b: bscd_decode(
                f, b, 0, Template.blank([], (0, 2)), objective=Objective(scope="blank", length="none")
            ),
            ValueError,
            "the empty blank would always win",
        ),
        (
            lambda f, b: as_scorer(StepScorer(None, None, None, vocab_size=3, start_token=0, end_token=3)),
            ValueError,
            "the given scorer's end_token has id 3, outside of its vocabulary of 3 ids",
        ),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(*MODELS)
    assert not any(model.read for model in MODELS), "nothing was pushed through a model before the error"


def faulty(value, at, **members):
    """A pair whose forward model returns ``value`` for one token after the words ``at`` of image 7."""
    forward, backward = pair(11, V, **members)
    scores = forward._scores

    def poisoned(read):
        array = np.array(scores(read))
        for row, (image, words) in enumerate(read):
            if image == 7 and words == at:
                array[row, 3] = value
        return array

    forward._scores = poisoned
    return forward, backward


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("normalized", [True, False])
def test_nan_and_inf_name_direction_item_and_position(value, normalized):
    models = faulty(value, (2, 4), normalized=normalized)
    template = Template.from_tokens([2, 4, Template.BLANK])
    with pytest.raises(
        ValueError,
        match=r"the forward scorer returned NaN.*\+inf.* for item 1 at position 2 of its reading order, after the "
        r"words \(2, 4\)",
    ):
        bscd_decode(*models, [0, 7], template)
    assert bscd_decode(*models, [0, 1], template)[0].hypotheses


def test_logits_declared_as_log_probabilities():
    models = faulty(13.0, (2, 4), normalized=True)
    with pytest.raises(
        ValueError, match=r"a log-probability above 0 for item 0.*says normalized=True: are they logits"
    ):
        bscd_decode(*models, 7, Template.from_tokens([2, 4, Template.BLANK]))


def test_scores_of_a_wrong_shape():
    forward, backward = pair(12, V)
    forward.vocab_size = backward.vocab_size = V + 1
    step = forward.step
    forward.step = lambda tokens, state: (lambda out: (out[0][:, :V], out[1]))(step(tokens, state))
    with pytest.raises(ValueError, match=r"forward scorer returned scores of shape \(1, 6\); expected \(1, 7\)"):
        bscd_decode(forward, backward, None, TEMPLATE)


def test_what_is_no_pair_of_scores_and_state():
    forward, backward = pair(12, V)
    step = forward.step
    forward.step = lambda tokens, state: step(tokens, state)[0]
    with pytest.raises(TypeError, match=r"the forward scorer's step must return a pair \(scores, state\); .* ndarray"):
        bscd_decode(forward, backward, None, TEMPLATE)
    forward, backward = pair(12, V, steps=True)
    steps = forward.steps
    forward.steps = lambda *given: (lambda out: (out[0][:, -1], out[1]))(steps(*given))
    with pytest.raises(
        ValueError, match=r"scores of shape \(1, 6\); expected \(1, 2, 6\), \[rows, tokens, vocab_size\]"
    ):
        bscd_decode(forward, backward, None, TEMPLATE)


def test_the_widths_of_given_sentences_are_known():
    models = pair(13, V)
    objective = Objective(scope="blank", length="none")
    (scored,) = score_sentences(Pair(*models), None, [[2, 3]], objective=objective)
    every = (*scored.token_log_probs_forward[:-1], *scored.token_log_probs_backward[:-1])
    assert scored.score == pytest.approx(sum(every))
    (whole,) = score_sentences(Pair(*models), None, [[2, 3]])
    assert whole.score == whole.joint == pytest.approx(whole.log_prob_forward + whole.log_prob_backward)


def test_a_score_of_the_wrong_sign():
    forward, backward = pair(13, V, score=True)
    forward.score = lambda context, items, sentences: [np.full(len(words) + 1, 3.0) for words in sentences]
    with pytest.raises(ValueError, match=r"score gave 3.0 for item 0 .*log-probabilities are 0 or less"):
        score_sentences(Pair(forward, backward), None, [[2, 3]])


def test_scoring_nothing():
    models = pair(13, V, score=True)
    assert score_sentences(Pair(*models), None, []) == []
    assert score_sentences(Pair(*models), [0, 1], [[], []]) == [[], []]


def test_terms_of_a_wrong_number():
    forward, backward = pair(13, V, score=True)
    forward.score = lambda context, items, sentences: []
    with pytest.raises(ValueError, match="score gave 0 arrays for 1 sentences"):
        score_sentences(Pair(forward, backward), None, [[2, 3]])
    forward.score = lambda context, items, sentences: [np.zeros(len(words)) for words in sentences]
    with pytest.raises(ValueError, match="score gave 2 terms for a sentence of 2 words; it must give one per word and"):
        score_sentences(Pair(forward, backward), None, [[2, 3]])
    forward.score = lambda context, items, sentences: [np.full(len(words) + 1, np.nan) for words in sentences]
    with pytest.raises(
        ValueError, match="score gave nan for item 0 at position 0 of its reading order: log-probabilities"
    ):
        score_sentences(Pair(forward, backward), None, [[2, 3]])
