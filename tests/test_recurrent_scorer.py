"""Wrapped decoders made of PyTorch's recurrent layers and cells."""

import itertools

import numpy as np
import pytest
from test_bscd import assert_same, hypotheses

from birnn_decode import Pair, PrefixScorer, Template, bscd_decode, score_sentences

torch = pytest.importorskip("torch")

from birnn_decode.scorers.recurrent import FEW_ROWS, RecurrentScorer, run_layers  # noqa: E402

START, END, V, HIDDEN = 0, 1, 7, 6
TEMPLATES = [
    Template.from_tokens([2, Template.BLANK, Template.BLANK, 5]),
    Template.from_tokens([Template.BLANK, 3, 4, {2, 6}, Template.BLANK]),
    Template.blank([2, 3], (0, 2), [4]),
]
LAYERS = [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM]
CELLS = [torch.nn.RNNCell, torch.nn.GRUCell, torch.nn.LSTMCell]
PARTS = [
    *((f"{kind.__name__}-{layers}-{order}", kind, {"num_layers": layers, "batch_first": order == "batch-first"})
      for kind, layers, order in itertools.product(LAYERS, (1, 2), ("batch-first", "time-first"))),
    *((f"{kind.__name__}-{layers}", kind, layers) for kind, layers in itertools.product(CELLS, (None, 1, 2))),
]  # fmt: skip


def ids(backward):
    return {"vocab_size": V, "start_token": END if backward else START, "end_token": START if backward else END}


def features():
    return list(torch.randn(3, HIDDEN, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


class Decoder(torch.nn.Module):
    """A captioner made of these parts. ``whole`` reads a prefix from its first word, in its own loop."""

    def __init__(self, kind, options, seed, conditioned):
        super().__init__()
        torch.manual_seed(seed)
        self.conditioned = conditioned
        self.embedding = torch.nn.Embedding(V, HIDDEN)
        inputs = 2 * HIDDEN if conditioned else HIDDEN
        if kind in LAYERS:
            self.recurrent = kind(inputs, HIDDEN, **options)
            self.depth = options["num_layers"]
        else:
            self.depth = options or 1
            cells = [kind(inputs if layer == 0 else HIDDEN, HIDDEN) for layer in range(self.depth)]
            self.recurrent = cells[0] if options is None else torch.nn.ModuleList(cells)
        self.kind = kind
        self.project = torch.nn.Linear(HIDDEN, V)
        self.double()
        with torch.no_grad():
            self.project.weight *= 8

    def embed(self, tokens, images=None):
        words = self.embedding(tokens)  # [R, t, HIDDEN]
        if images is None:
            return words
        return torch.cat([words, images[:, None].expand(-1, tokens.shape[1], -1)], dim=-1)

    def start(self, images):
        layers = [images * (layer + 1) for layer in range(self.depth)]
        if self.kind in LAYERS:
            h = torch.stack(layers)
            return (h, torch.tanh(h)) if self.kind is torch.nn.LSTM else h
        states = [(h, torch.tanh(h)) if self.kind is torch.nn.LSTMCell else h for h in layers]
        return states if isinstance(self.recurrent, torch.nn.ModuleList) else states[0]

    def whole(self, images, prefixes):
        inputs = self.embed(prefixes, images if self.conditioned else None)
        state = self.start(images)
        if self.kind in LAYERS:
            first = self.recurrent.batch_first
            output, _ = self.recurrent(inputs if first else inputs.transpose(0, 1), state)
            return self.project(output[:, -1] if first else output[-1])
        cells = self.recurrent if isinstance(self.recurrent, torch.nn.ModuleList) else [self.recurrent]
        states = list(state) if isinstance(self.recurrent, torch.nn.ModuleList) else [state]
        for at in range(prefixes.shape[1]):
            below = inputs[:, at]
            for layer, cell in enumerate(cells):
                states[layer] = cell(below, states[layer])
                below = states[layer][0] if self.kind is torch.nn.LSTMCell else states[layer]
        return self.project(below)


def wrapped(decoder, backward):
    return RecurrentScorer(
        decoder.embed,
        decoder.recurrent,
        decoder.project,
        decoder.start,
        encode=torch.stack,
        condition=(lambda images: images) if decoder.conditioned else None,
        model=decoder,
        **ids(backward),
    )


def by_prefix(decoder, backward):
    return PrefixScorer(decoder.whole, encode=torch.stack, **ids(backward))


@pytest.mark.parametrize(("kind", "options"), [part[1:] for part in PARTS], ids=[part[0] for part in PARTS])
@pytest.mark.parametrize("conditioned", [False, True], ids=["", "conditioned"])
def test_wrapped_decoders_answer_as_their_whole_passes(kind, options, conditioned):
    decoders = [Decoder(kind, options, seed, conditioned) for seed in (1, 2)]
    answers = [
        bscd_decode(wrap(decoders[0], False), wrap(decoders[1], True), features(), TEMPLATES)
        for wrap in (wrapped, by_prefix)
    ]
    for one, two in zip(*answers, strict=True):
        assert_same(hypotheses(one), hypotheses(two))
        # Rows depend on how many words a call can read.
        assert [entry.new_sentences for entry in one.trace] == [entry.new_sentences for entry in two.trace]
    sentences = [hypothesis.tokens for hypothesis in answers[0][2].hypotheses]
    scores = [
        [one.score for one in score_sentences(Pair(wrap(decoders[0], False), None), features()[2], sentences)]
        for wrap in (wrapped, by_prefix)
    ]
    assert scores[0] == pytest.approx(scores[1])


def test_modules_are_in_eval_mode_while_decoding():
    decoder = Decoder(torch.nn.LSTM, {"num_layers": 2, "dropout": 0.5, "batch_first": True}, 1, False).train()
    backward = Decoder(torch.nn.GRUCell, 2, 2, False).train()
    scorers = wrapped(decoder, False), wrapped(backward, True)
    seen = []
    decoder.project.register_forward_hook(lambda module, *_: seen.append(module.training))
    first = bscd_decode(*scorers, features()[0], TEMPLATES[0])
    assert first == bscd_decode(*scorers, features()[0], TEMPLATES[0])
    assert seen
    assert not any(seen)
    assert decoder.recurrent.training
    assert decoder.project.training
    assert all(cell.training for cell in backward.recurrent)
    seen.clear()
    parts = RecurrentScorer(
        decoder.embedding, decoder.recurrent, decoder.project, decoder.start, encode=torch.stack, **ids(False)
    )
    score_sentences(Pair(parts, None), features()[0], [[2]])
    assert seen
    assert not any(seen)


def test_parts_that_do_not_fit():
    linear = torch.nn.Linear(2, 2)
    for part in (linear, [linear], "lstm", []):
        with pytest.raises(TypeError, match=r"it must be a torch\.nn\.RNN, GRU or LSTM, a cell, or a list of cells"):
            RecurrentScorer(linear, part, linear, linear, **ids(False))
    with pytest.raises(ValueError, match="which reads in both directions at once"):
        RecurrentScorer(linear, torch.nn.GRU(2, 2, bidirectional=True), linear, linear, **ids(False))
    decoder = Decoder(torch.nn.LSTM, {"num_layers": 1}, 1, False)
    scorer = wrapped(decoder, False)
    scorer._start = lambda images: [state.transpose(0, 1) for state in decoder.start(images)]
    with pytest.raises(ValueError, match=r"state\[0\] is a tensor of shape \(3, 1, 6\), and its axis 1 must count 3"):
        score_sentences(Pair(scorer, None), features(), [[[2]], [[3]], [[4]]])
    scorer._start = lambda images: None
    with pytest.raises(TypeError, match="state is None, which has no rows; give zeros"):
        score_sentences(Pair(scorer, None), features(), [[[2]], [[3]], [[4]]])
    for given, what in (([torch.zeros(1, HIDDEN)], "1 states"), (torch.zeros(2, HIDDEN), "a Tensor")):
        scorer = wrapped(Decoder(torch.nn.GRUCell, 2, 1, False), False)
        scorer._start = lambda images, given=given: given
        with pytest.raises(ValueError, match=f"start returned {what}; it must return a list of 2 states, one per cell"):
            score_sentences(Pair(scorer, None), features()[0], [[2]])
    assert np.isfinite(score_sentences(Pair(wrapped(decoder, False), None), features()[0], [[2]])[0].score)


@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "kind", [*LAYERS, lambda *sizes, **options: torch.nn.RNN(*sizes, nonlinearity="relu", **options)]
)
def test_single_steps_are_those_of_the_layers(kind, bias, rows):
    """Few rows are computed by cells, many rows by the layer."""
    torch.manual_seed(0)
    layers = kind(3, HIDDEN, num_layers=2, bias=bias, batch_first=True).double()
    called = []
    layers.register_forward_hook(lambda *_: called.append(1))
    memory = torch.randn(2, rows, HIDDEN, dtype=torch.float64)
    if layers.mode == "LSTM":
        memory = (memory, torch.randn_like(memory))
    inputs = torch.randn(rows, 1, 3, dtype=torch.float64)
    found = run_layers(layers, inputs, memory)
    assert len(called) == (rows > FEW_ROWS)
    torch.testing.assert_close(found, layers(inputs, memory))


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_layers_that_no_cell_computes():
    """Layers with projected states, and layers with dropout in train mode."""
    torch.manual_seed(0)
    projected = torch.nn.LSTM(3, HIDDEN, proj_size=2, batch_first=True)
    inputs, memory = torch.randn(4, 1, 3), (torch.randn(1, 4, 2), torch.randn(1, 4, HIDDEN))
    torch.testing.assert_close(run_layers(projected, inputs, memory), projected(inputs, memory))
    dropping = torch.nn.GRU(3, HIDDEN, num_layers=2, dropout=0.999, batch_first=True)
    start = torch.zeros(2, 4, HIDDEN)
    assert not torch.allclose(run_layers(dropping, inputs, start)[0], run_layers(dropping.eval(), inputs, start)[0])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", LAYERS)
def test_an_output_layer_may_change_its_input(kind, layers):
    """The next step must not read the changed hidden state."""
    torch.manual_seed(0)
    embedding, recurrent = torch.nn.Embedding(V, HIDDEN), kind(HIDDEN, HIDDEN, layers, batch_first=True)
    linear = torch.nn.Linear(HIDDEN, V)

    def start(vectors):
        return recurrent(vectors[:, None])[1]

    found = []
    for in_place in (False, True):
        project = torch.nn.Sequential(torch.nn.ReLU(inplace=in_place), linear)
        scorer = RecurrentScorer(embedding, recurrent, project, start, encode=torch.stack, **ids(backward=False))
        state = scorer.start(scorer.encode([torch.ones(HIDDEN)]))
        with torch.no_grad():
            _, state = scorer.step(np.array([START]), state)
            found.append(scorer.step(np.array([3]), state)[0])
    assert torch.equal(*found)
