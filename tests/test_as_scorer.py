"""Models that as_scorer recognises, messages for other models, and limits of what models can read."""

import numpy as np
import pytest

from birnn_decode import (
    BeamSearch,
    Gibbs,
    Pair,
    PrefixScorer,
    StepScorer,
    Template,
    as_scorer,
    bscd_decode,
    decode,
    score_sentences,
)

V = 6
IDS = {"vocab_size": V, "start_token": 0, "end_token": 1}


def table(images, prefixes):
    """Return scores that depend on the last two tokens."""
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
    one, other = (
        decode(Pair(scorer, None), None, template, BeamSearch("forward")) for scorer in (wrapped, prefix_scorer())
    )
    assert one.hypotheses == other.hypotheses


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            table,
            {},
            r"function: .*needs vocab_size= \(number of ids\), start_token= .*, end_token= .* to make a PrefixScorer",
        ),
        (table, {"vocab_size": 3}, r"needs start_token= \(id that begins a sentence\), end_token= \(id that ends"),
        (StepScorer, {}, "which is not a Scorer: it lacks"),  # the class, not an instance
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
            "as_scorer has no option aligned for a builtins.function. The options are direction",
        ),
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
        ({"direction": "left"}, ValueError, 'direction must be "forward" or "backward", got \'left\''),
        ({"max_tokens": 0}, ValueError, "max_tokens must be a positive integer, because START is one token, got 0"),
        ({"max_tokens": 2.5}, ValueError, "max_tokens must be a positive integer.* got 2.5"),
        ({"model": [table]}, TypeError, "model must be the torch.nn.Module to put in eval mode, got a list"),
        ({"never": 0}, TypeError, "never must be a set of ids.* got 0"),
        ({"never": "ab"}, TypeError, "never must be a set of ids.* got 'ab'"),
    ],
)
def test_wrong_declarations(given, error, message):
    with pytest.raises(error, match=message):
        prefix_scorer(**given)


class Counting:
    """The same scores, with a record of the longest prefix."""

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
        lambda: score_sentences(Pair(*models), None, [[2, 3], [2, 3, 4, 5]]),
        lambda: decode(Pair(*models), None, Template.blank([], 4), Gibbs()),
    ):
        with pytest.raises(ValueError, match="has up to 4 words, but the models read at most 3 words"):
            call()
        assert [model.function.longest for model in models] == [0, 0]
    assert bscd_decode(*models, None, Template.blank([2], (0, 2))).hypotheses
    assert score_sentences(Pair(*models), None, [[2, 3, 4]])
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
        with pytest.raises(
            ValueError, match=f"a caption of {words} words is asked for, but the models read at most 3 words"
        ):
            bscd_decode(*models, None, **asked)


def test_the_models_that_come_along_are_scorers_of_their_own():
    pytest.importorskip("torch")
    from birnn_decode.models import default_pair

    models = default_pair()
    forward, backward = models.forward, models.backward
    assert as_scorer(forward, "forward") is forward
    with pytest.raises(ValueError, match="given as the forward one reads backward: are the two models swapped"):
        as_scorer(backward, "forward")


def test_a_limit_that_is_no_number():
    scorer = prefix_scorer()
    scorer.max_tokens = "20"
    with pytest.raises(TypeError, match="the forward scorer's max_tokens must be an integer, got '20'"):
        decode(Pair(scorer, None), None, Template.blank([], 1), BeamSearch("forward"))


def test_prefixes_are_tensors_where_the_model_is_a_module():
    torch = pytest.importorskip("torch")
    embedding = torch.nn.Embedding(V, V)
    seen = []

    def function(images, prefixes):
        seen.append(prefixes)
        return embedding(prefixes[:, -1])

    scorer = as_scorer(function, model=embedding, **IDS)
    assert decode(Pair(scorer, None), {"of": "any kind"}, Template.blank([2], 2), BeamSearch("forward")).hypotheses
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
            TypeError, match=f"features returned a {kind}; it must return a tuple of tensors, .* _prepare_feature"
        ):
            scorer.encode([torch.ones(6)])
    with pytest.raises(
        TypeError, match=r"needs features= \(a function from a list of images .*to make a LogprobsState"
    ):
        as_scorer(model)
    with pytest.raises(
        TypeError, match=r"as_scorer has no option encode for a standins.NewFC. The options are .*features"
    ):
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
        decode(Pair(scorer, None), None, Template.blank([2], 2), BeamSearch("forward"))
