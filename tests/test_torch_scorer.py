"""PyTorch decoders whose states are tensors with a declared batch axis."""

from typing import NamedTuple

import numpy as np
import pytest
from test_bscd import assert_same, hypotheses

from birnn_decode import Pair, PrefixScorer, Template, bscd_decode, score_sentences

torch = pytest.importorskip("torch")

from birnn_decode.scorers.state import Condition, join_rows, select_rows  # noqa: E402
from birnn_decode.scorers.torch import TorchScorer  # noqa: E402

START, END, V, HIDDEN = 0, 1, 7, 8
TEMPLATES = [
    Template.from_tokens([2, Template.BLANK, Template.BLANK, 5]),
    Template.from_tokens([Template.BLANK, 3, 4, {2, 6}, Template.BLANK]),
    Template.blank([], (0, 2), [4]),
]


class LSTM(torch.nn.Module):
    """A captioner with two layers, whose state has its rows on axis 1."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = torch.nn.Embedding(V, HIDDEN)
        self.lstm = torch.nn.LSTM(HIDDEN, HIDDEN, num_layers=2, batch_first=True)
        self.project = torch.nn.Linear(HIDDEN, V)
        self.double()
        with torch.no_grad():
            self.project.weight *= 5

    def start(self, features):
        h = torch.stack([features, features.flip(-1)])
        return h, torch.tanh(h)

    def step(self, tokens, state):
        output, state = self.lstm(self.embedding(tokens)[:, None], state)
        return self.project(output[:, 0]), state

    def whole(self, features, prefixes):
        output, _ = self.lstm(self.embedding(prefixes), self.start(features))
        return self.project(output[:, -1])


def ids(backward):
    return {"vocab_size": V, "start_token": END if backward else START, "end_token": START if backward else END}


def features():
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(3, HIDDEN, dtype=torch.float64, generator=generator))


class Nested(NamedTuple):
    layers: list
    steps: torch.Tensor
    shared: dict


def flat_scorer(model, backward):
    return TorchScorer(model.step, model.start, batch_axis=1, encode=torch.stack, aligned=False, **ids(backward))


def nested_scorer(model, backward):
    """Wrap the same model with a nested state: axes 1, 0 and -1, and a part that all rows share."""

    def pack(h, c, steps):
        return Nested([{"h": h}, {"c": c.movedim(1, -1)}], steps, {"note": "shared by all rows", "none": None})

    def start(features):
        h, c = model.start(features)
        return pack(h, c, torch.zeros(len(features), dtype=torch.int64))

    def step(tokens, state):
        scores, (h, c) = model.step(tokens, (state.layers[0]["h"], state.layers[1]["c"].movedim(-1, 1).contiguous()))
        return scores, pack(h, c, state.steps + 1)

    return TorchScorer(step, start, batch_axis=([{"h": 1}, {"c": -1}], 0, None), encode=torch.stack, **ids(backward))


def prefix_scorer(model, backward):
    return PrefixScorer(model.whole, encode=torch.stack, **ids(backward))


def test_a_model_is_in_eval_mode_while_decoding():
    model = LSTM(1).train()
    seen = []
    model.project.register_forward_hook(lambda module, *_: seen.append(module.training))
    settings = {"batch_axis": 1, "encode": torch.stack, "aligned": False, **ids(False)}
    score_sentences(Pair(TorchScorer(model.step, model.start, model=model, **settings), None), features()[0], [[2]])
    assert seen == [False, False]
    assert model.training
    assert model.project.training
    score_sentences(Pair(TorchScorer(model.step, model.start, **settings), None), features()[0], [[2]])
    assert seen == [False, False, True, True]


@pytest.mark.parametrize("other", [nested_scorer, prefix_scorer])
def test_every_wrapping_of_a_model_gives_the_same_answers(other):
    models = LSTM(1), LSTM(2)
    answers = [
        bscd_decode(wrap(models[0], False), wrap(models[1], True), features(), TEMPLATES)
        for wrap in (flat_scorer, other)
    ]
    for one, two in zip(*answers, strict=True):
        assert len(one.hypotheses) == 5
        assert_same(hypotheses(one), hypotheses(two))
        assert one.trace == two.trace  # the order of the finalists depends on the size of the batches
    whole = [
        bscd_decode(wrap(models[0], False), wrap(models[1], True), features()[0], max_length=4)
        for wrap in (flat_scorer, other)
    ]
    assert_same(hypotheses(whole[0]), hypotheses(whole[1]))


def test_scores_are_those_of_one_pass_over_the_sentence():
    model = LSTM(3)
    for image in features():
        (scored,) = score_sentences(Pair(flat_scorer(model, False), None), image, [[2, 3, 5]])
        with torch.no_grad():
            terms = [
                torch.log_softmax(model.whole(image[None], torch.tensor([[START, 2, 3, 5][: at + 1]])), -1)[0, token]
                for at, token in enumerate([2, 3, 5, END])
            ]
        assert scored.token_log_probs_forward == pytest.approx([float(term) for term in terms])
        assert scored.log_prob_backward is None
        assert scored.joint is None


def test_states_and_graphs():
    """Decoding builds no graph and returns plain numbers. The model can be trained afterwards."""
    model = LSTM(4)
    scorer = flat_scorer(model, False)
    seen = []

    def step(tokens, state):
        before = [tensor.clone() for tensor in state]
        scores, after = model.step(tokens, state)
        assert all(torch.equal(one, two) for one, two in zip(before, state, strict=True))
        seen.append(scores.requires_grad)
        return scores, after

    scorer._step = step
    result = bscd_decode(scorer, flat_scorer(LSTM(5), True), features()[0], TEMPLATES[0])
    assert seen
    assert not any(seen)
    assert isinstance(result.best.score, float)
    loss = model.whole(features()[0][None], torch.tensor([[START, *result.best.tokens]])).sum()
    loss.backward()
    assert model.project.weight.grad is not None


def test_a_model_that_builds_a_buffer_while_decoding_can_be_trained_afterwards():
    class Lazy(LSTM):
        scale = None

        def step(self, tokens, state):
            if self.scale is None:
                self.scale = torch.linspace(0.5, 1, V, dtype=torch.float64)
            scores, state = super().step(tokens, state)
            return scores * self.scale, state

    model = Lazy(6)
    bscd_decode(flat_scorer(model, False), flat_scorer(LSTM(7), True), features()[0], TEMPLATES[0])
    scores, _ = model.step(torch.tensor([START]), model.start(features()[0][None]))
    scores.sum().backward()
    assert model.project.weight.grad is not None


def test_select_and_join():
    axes = {"a": 0, "b": 1, "c": None}
    state = {"a": torch.arange(3), "b": torch.arange(6).reshape(2, 3), "c": 7}
    chosen = select_rows(state, torch.tensor([2, 0, 0]), axes)
    assert chosen["a"].tolist() == [2, 0, 0]
    assert chosen["b"].tolist() == [[2, 0, 0], [5, 3, 3]]
    assert chosen["c"] == 7
    assert select_rows(state, np.array([1]), axes)["a"].tolist() == [1]
    chosen["a"][0] = 99
    assert state["a"].tolist() == [0, 1, 2]
    joined = join_rows([state, chosen], axes)
    assert joined["a"].tolist() == [0, 1, 2, 99, 0, 0]
    assert joined["b"].tolist() == [[0, 1, 2, 2, 0, 0], [3, 4, 5, 5, 3, 3]]


def test_a_condition_is_expanded_once_for_rows_of_the_same_images():
    known = {"regions": torch.arange(6.0).reshape(3, 2), "masks": None}
    whole = Condition.of(known, 3)
    beams = whole.select(torch.tensor([0, 0, 2, 2]))
    expanded = beams.rows()
    assert expanded["regions"].tolist() == [[0, 1], [0, 1], [4, 5], [4, 5]]
    assert expanded["masks"] is None
    assert beams.select([1, 0, 3, 3]).rows() is expanded  # beams change places within their image
    assert beams.select([2, 3, 0, 1]).rows()["regions"].tolist() == [[4, 5], [4, 5], [0, 1], [0, 1]]
    assert beams.rows()["regions"].tolist() == expanded["regions"].tolist()
    assert Condition.join([beams.select([3]), whole]).rows()["regions"].tolist() == [[4, 5], [0, 1], [2, 3], [4, 5]]
    with pytest.raises(
        ValueError, match=r"condition\['regions'\] is a tensor of shape \(3, 2\), and its axis 0 must count 2"
    ):
        Condition.of(known, 2)


@pytest.mark.parametrize(
    ("batch_axis", "error", "message"),
    [
        (
            0,
            ValueError,
            r"state\[0\] is a tensor of shape \(2, 1, 8\), and its axis 0 must count 1 rows. Correct batch_axis",
        ),
        (-1, ValueError, r"its axis -1 must count 1 rows"),
        (3, ValueError, r"state\[0\] is a tensor of shape"),
        ((1,), TypeError, r"state has 2 entries, and batch_axis has 1 there"),
        ({"h": 1, "c": 1}, TypeError, r"batch_axis has no entry for state\[0\]"),
        (("1", 1), TypeError, r"state\[0\] is a Tensor, which has no method '1' to reorder its rows"),
    ],
)
def test_wrong_declarations(batch_axis, error, message):
    model = LSTM(1)
    scorer = TorchScorer(model.step, model.start, batch_axis=batch_axis, encode=torch.stack, **ids(False))
    with pytest.raises(error, match=message):
        bscd_decode(scorer, flat_scorer(LSTM(2), True), features()[0], TEMPLATES[0])


def test_a_state_that_cannot_be_gathered():
    model = LSTM(1)
    scorer = TorchScorer(
        lambda tokens, state: (model.step(tokens, state[:2])[0], state),
        lambda features: (*model.start(features), 0),
        batch_axis=1,
        encode=torch.stack,
        **ids(False),
    )
    with pytest.raises(TypeError, match=r"state\[2\] is a int; .*Set batch_axis to None there"):
        bscd_decode(scorer, flat_scorer(LSTM(2), True), features()[0], TEMPLATES[0])


def test_half_precision_is_searched_in_single():
    """Sums of log-probabilities in half precision would be wrong by more than 0.1."""

    def half(model, backward):
        scorer = flat_scorer(model, backward)
        step = scorer._step
        scorer._step = lambda tokens, state: (lambda out: (out[0].half(), out[1]))(step(tokens, state))
        return scorer

    models = LSTM(1), LSTM(2)
    result = bscd_decode(half(models[0], False), half(models[1], True), features()[0], TEMPLATES[0])
    (again,) = score_sentences(
        Pair(flat_scorer(models[0], False), flat_scorer(models[1], True)), features()[0], [result.best.tokens]
    )
    assert result.best.score == pytest.approx(again.score, abs=0.02)
    assert result.best.score == pytest.approx(
        np.sum(result.best.token_log_probs_forward + result.best.token_log_probs_backward)
    )
