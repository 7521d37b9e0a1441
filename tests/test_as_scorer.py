"""What is recognised as a model, what is asked for where it is not, and what the models can read."""

import types

import numpy as np
import pytest

from birnn_decode import (
    PrefixScorer,
    StepScorer,
    Template,
    as_scorer,
    beam_decode,
    bscd_decode,
    gibbs_decode,
    score_sentences,
)

V = 6
IDS = {"vocab_size": V, "start_token": 0, "end_token": 1}


def table(images, prefixes):
    """Scores by the last two tokens."""
    rows = np.asarray(prefixes)
    before = rows[:, -2] if rows.shape[1] > 1 else rows[:, -1]
    return np.sin(np.arange(V)[None] * (1.0 + rows[:, -1:]) + 3 * before[:, None])


def prefix_scorer(**more):
    return PrefixScorer(table, **{**IDS, **more})


def test_a_function_becomes_a_prefix_scorer():
    wrapped = as_scorer(table, "forward", **IDS)
    assert isinstance(wrapped, PrefixScorer)
    assert wrapped.direction == "forward"
    template = Template.blank([2], 2, [3])
    one, other = (beam_decode(scorer, None, template, direction="forward") for scorer in (wrapped, prefix_scorer()))
    assert one.hypotheses == other.hypotheses


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (table, {}, "function.*to make a PrefixScorer of a function.*needs vocab_size=, start_token=, end_token="),
        (table, {"vocab_size": 3}, "needs start_token=, end_token=$"),
        (StepScorer, {}, "which is not a Scorer: it lacks"),  # the class, not one of its kind
        (
            object(),
            {},
            "which is not a Scorer: it lacks vocab_size, start_token, end_token, encode, start, step, select",
        ),
        (None, {}, "None, which is not a Scorer"),
        (prefix_scorer(), {"vocabulary": None, "end_token": 2}, "a scorer already, which vocabulary, end_token cannot"),
        (
            table,
            {**IDS, "aligned": False},
            "as_scorer has no option aligned for a builtins.function; there are direction",
        ),
        (types.SimpleNamespace(get_logprobs_state=1), {}, "needs features= a function from a list of images"),
    ],
)
def test_what_is_asked_for(model, options, message):
    with pytest.raises(TypeError, match=message):
        as_scorer(model, "backward", **options)


def test_a_scorer_passes_through():
    scorer = prefix_scorer()
    assert as_scorer(scorer) is scorer
    assert as_scorer(scorer, "backward") is scorer


def test_direction_is_heeded():
    forward, backward = prefix_scorer(direction="forward"), prefix_scorer(direction="backward")
    bscd_decode(forward, backward, None, Template.blank([], 2))
    with pytest.raises(ValueError, match="given as the forward one reads backward"):
        bscd_decode(backward, forward, None, Template.blank([], 2))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"direction": "left"}, ValueError, 'direction=\'left\': use "forward" or "backward"'),
        ({"max_tokens": 0}, ValueError, "max_tokens=0: it is a whole number, 1 or larger, because START is one"),
        ({"max_tokens": 2.5}, ValueError, "max_tokens=2.5: it is a whole number"),
        ({"model": [table]}, TypeError, "model is a list: give the torch.nn.Module that is put in eval mode"),
        ({"never": 0}, TypeError, "never=0: give a set of ids"),
        ({"never": "ab"}, TypeError, "never='ab': give a set of ids"),
    ],
)
def test_wrong_declarations(given, error, message):
    with pytest.raises(error, match=message):
        prefix_scorer(**given)


class Counting:
    """Scores, and how long the longest prefix was."""

    def __init__(self):
        self.longest = 0

    def __call__(self, images, prefixes):
        self.longest = max(self.longest, prefixes.shape[1])
        return table(images, prefixes)


def limited(forward=4, backward=None):
    return (
        PrefixScorer(Counting(), **IDS, max_tokens=forward),
        PrefixScorer(Counting(), vocab_size=V, start_token=1, end_token=0, max_tokens=backward),
    )


@pytest.mark.parametrize("limits", [(4, None), (9, 4), (4, 4)])
def test_no_more_is_read_than_a_model_can(limits):
    """Four tokens are START and three words."""
    models = limited(*limits)
    for call in (
        lambda: bscd_decode(*models, None, Template.blank([2], 2, [3])),
        lambda: bscd_decode(*models, None, Template.blank([2], (0, 3))),
        lambda: score_sentences(*models, None, [[2, 3], [2, 3, 4, 5]]),
        lambda: gibbs_decode(*models, None, Template.blank([], 4)),
    ):
        with pytest.raises(ValueError, match="has 4 words at its widest, and the models read at most 3"):
            call()
        assert [model.function.longest for model in models] == [0, 0]
    assert bscd_decode(*models, None, Template.blank([2], (0, 2))).hypotheses
    assert score_sentences(*models, None, [[2, 3, 4]])
    assert [model.function.longest for model in models] == [4, 4]


def test_captions_are_written_up_to_what_a_model_can_read():
    models = limited(4, 6)
    result = bscd_decode(*models, None)
    assert result.hypotheses
    assert all(len(hypothesis.tokens) <= 3 for hypothesis in result.hypotheses)
    assert max(model.function.longest for model in models) == 4
    assert "lengths:0-3" in result.signature
    same = bscd_decode(
        prefix_scorer(), PrefixScorer(table, vocab_size=V, start_token=1, end_token=0), None, max_length=3
    )
    assert same.hypotheses == result.hypotheses
    for asked, words in (({"min_length": 4}, 4), ({"widths": [2, 5]}, 5)):
        with pytest.raises(ValueError, match=f"a caption of {words} words is asked for, and the models read at most 3"):
            bscd_decode(*models, None, **asked)


def test_the_models_that_come_along_are_scorers_of_their_own():
    pytest.importorskip("torch")
    from birnn_decode.models import default_pair

    forward, backward = default_pair()
    assert as_scorer(forward, "forward") is forward
    with pytest.raises(ValueError, match="given as the forward one reads backward: are the two models swapped"):
        as_scorer(backward, "forward")


def test_a_limit_that_is_no_number():
    scorer = prefix_scorer()
    scorer.max_tokens = "20"
    with pytest.raises(TypeError, match="the forward scorer's max_tokens is '20'; it is a whole number, or None"):
        beam_decode(scorer, None, Template.blank([], 1), direction="forward")


def test_prefixes_are_tensors_where_the_model_is_a_module():
    torch = pytest.importorskip("torch")
    embedding = torch.nn.Embedding(V, V)
    seen = []

    def function(images, prefixes):
        seen.append(prefixes)
        return embedding(prefixes[:, -1])

    scorer = as_scorer(function, model=embedding, **IDS)
    assert beam_decode(scorer, {"of": "any kind"}, Template.blank([2], 2), direction="forward").hypotheses
    assert all(isinstance(prefixes, torch.Tensor) for prefixes in seen)


def test_features_that_do_not_fit():
    torch = pytest.importorskip("torch")
    from standins import NewFC

    model = NewFC(12)
    for given, kind in (
        (torch.stack, "Tensor"),
        (lambda images: 3, "int"),
        (lambda images: (images, None, None), "tuple"),
    ):
        scorer = as_scorer(model, features=given)
        with pytest.raises(
            TypeError, match=f"features gave a {kind}; it must give a tuple of tensors, .* _prepare_feature"
        ):
            scorer.encode([torch.ones(6)])
    with pytest.raises(TypeError, match=r"as_scorer has no option encode for a standins.NewFC; there are .*features"):
        as_scorer(model, features=tuple, encode=list)


def test_ids_of_the_model_s_own():
    pytest.importorskip("torch")
    from standins import NewFC

    model = NewFC(12)
    scorer = as_scorer(model, features=model.collate)
    assert (scorer.vocab_size, scorer.start_token, scorer.end_token, scorer.never) == (12, 0, 0, {0})
    model.bos_idx, model.eos_idx, model.pad_idx = 3, 4, 5
    scorer = as_scorer(model, features=model.collate)
    assert (scorer.start_token, scorer.end_token, scorer.never) == (3, 4, {5})


def test_a_step_that_returns_no_pair():
    torch = pytest.importorskip("torch")
    from birnn_decode.scorers.torch import TorchScorer

    scorer = TorchScorer(lambda tokens, state: (1, 2, 3), lambda images: torch.ones(len(images)), batch_axis=0, **IDS)
    with pytest.raises(TypeError, match=r"TorchScorer's step must return a pair \(scores, state\); it returned tuple"):
        beam_decode(scorer, None, Template.blank([2], 2), direction="forward")
