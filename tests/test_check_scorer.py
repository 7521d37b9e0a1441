"""The check of scorers: a sound wrapping passes, and every planted fault is named."""

import copy
import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from command import output_of, run
from torch import nn

from birnn_decode import PrefixScorer, StepScorer
from birnn_decode.captions import make_scene
from birnn_decode.models import GRUCaptioner, default_pair
from birnn_decode.scorers import MappedScorer
from birnn_decode.scorers.check import check_scorer
from birnn_decode.scorers.recurrent import RecurrentScorer
from birnn_decode.scorers.torch import TorchScorer

PAD, START, END, UNK = range(4)
SLOTS = [
    ["red", "blue", "green", "yellow"],
    ["circle", "square", "star"],
    ["left", "above"],
    ["red", "blue", "green", "yellow"],
    ["circle", "square", "star"],
]
TEXTS = {"left": "left of", "above": "high above"}
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "of", "high", *dict.fromkeys(itertools.chain(*SLOTS))]
V, FEATURES, HIDDEN, LAYERS = len(WORDS), sum(map(len, SLOTS)), 32, 2
NEVER = {PAD, START, END, UNK}


class Words:
    def __init__(self, words=WORDS):
        self.words = words

    def __len__(self):
        return len(self.words)

    def encode(self, text):
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(self.words[token] for token in ids)


def examples(count, seed):
    """Feature vectors and captions."""
    rng = np.random.default_rng(seed)
    drawn = [[rng.integers(len(slot)) for slot in SLOTS] for _ in range(count)]
    hot = [np.concatenate([np.eye(len(slot))[at] for slot, at in zip(SLOTS, row, strict=True)]) for row in drawn]
    chosen = [[slot[at] for slot, at in zip(SLOTS, row, strict=True)] for row in drawn]
    captions = [f"a {row[0]} {row[1]} {TEXTS[row[2]]} a {row[3]} {row[4]}" for row in chosen]
    vectors = torch.tensor(np.array(hot) + rng.normal(0, 0.05, (count, FEATURES)), dtype=torch.float32)
    return vectors, captions


class Net(nn.Module):
    """An LSTM of two layers that begins with the image and sees it with every word."""

    def __init__(self, seed, vocab_size=V):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(vocab_size, 16, padding_idx=PAD)
        self.begin = nn.Linear(FEATURES, LAYERS * HIDDEN)
        self.see = nn.Linear(FEATURES, 16)
        self.lstm = nn.LSTM(32, HIDDEN, num_layers=LAYERS, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.project = nn.Linear(HIDDEN, vocab_size)

    def start(self, features):
        h = torch.tanh(self.begin(features)).unflatten(1, (LAYERS, HIDDEN)).transpose(0, 1).contiguous()
        return (h, torch.zeros_like(h)), torch.tanh(self.see(features))

    def read(self, tokens, state):
        memory, seen = state
        along = seen[:, None].expand(-1, tokens.shape[1], -1)
        hidden, memory = self.lstm(torch.cat([self.embedding(tokens), along], -1), memory)
        return self.project(self.dropout(hidden)), (memory, seen)

    def step(self, tokens, state):
        logits, state = self.read(tokens[:, None], state)
        return logits[:, 0], state

    def whole(self, features, prefixes):
        return self.read(prefixes, self.start(features))[0][:, -1]


def train(net, backward):
    features, captions = examples(512, seed=1)
    words = [Words().encode(caption) for caption in captions]
    begin, end = (END, START) if backward else (START, END)
    tokens = torch.tensor([[begin, *(row[::-1] if backward else row), end] for row in words])
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for at in range(150):
        some = torch.arange(at * 64, at * 64 + 64) % len(tokens)
        logits, _ = net.read(tokens[some, :-1], net.start(features[some]))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[some, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


@pytest.fixture(scope="module")
def nets():
    return {"forward": train(Net(0), False), "backward": train(Net(1), True)}


AXES = ((1, 1), 0)


def ids(way="forward"):
    start, end = (END, START) if way == "backward" else (START, END)
    return {"vocab_size": V, "start_token": start, "end_token": end, "never": NEVER}


def wrapped(net, way="forward", *, step=None, start=None, **changes):
    settings = {"batch_axis": AXES, "encode": torch.stack, "aligned": False, "model": net, **ids(way), **changes}
    return TorchScorer(step or net.step, start or net.start, **settings)


def by_hand(net, select=None, **changes):
    """The same as a StepScorer; select gets h and c in one tuple with what is seen."""

    def gather(state, rows):
        (h, c), seen = state
        rows = torch.as_tensor(rows)
        return (h[:, rows], c[:, rows]), seen[rows]

    def step(tokens, state):
        return net.step(torch.as_tensor(tokens), state)

    settings = {"encode": torch.stack, **ids(), **changes}
    scorer = StepScorer(settings.pop("step", step), settings.pop("start", net.start), select or gather, **settings)
    scorer.modules = net.modules
    return scorer


def recurrent(net, way="forward"):
    return RecurrentScorer(
        embed=lambda tokens, seen: torch.cat(
            [net.embedding(tokens), seen[:, None].expand(-1, tokens.shape[1], -1)], -1
        ),
        recurrent=net.lstm,
        project=net.project,
        start=lambda features: net.start(features)[0],
        encode=torch.stack,
        condition=lambda features: net.start(features)[1],
        vocabulary=Words(),
        model=net,
        **ids(way),
    )


def reference(net, way="forward"):
    scorer = PrefixScorer(net.whole, encode=torch.stack, **ids(way))
    scorer.modules = net.modules
    return scorer


IMAGES, CAPTIONS = examples(12, seed=2)
KNOWN = {"captions": CAPTIONS, "vocabulary": Words()}


def check(model, way="forward", images=IMAGES, **given):
    return check_scorer(model, list(images), direction=way, **given)


# Sound scorers.


def ruled_out(net):
    """Log-probabilities of which some are set to -inf, without a new normalisation."""

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return scores.log_softmax(-1).index_fill(1, torch.tensor([5, 7]), -torch.inf), state

    return wrapped(net, step=step, normalized=True)


def turned_around(net):
    """The padding id of the module is not that of the new order."""
    net = copy.deepcopy(net)
    net.embedding.padding_idx = PAD
    return MappedScorer(wrapped(net), range(V - 1, -1, -1))


class Cached:
    """A Transformer-like decoder of one layer: keys and values of what was read, positions, rows aligned."""

    def __init__(self, seed, max_tokens=None):
        torch.manual_seed(seed)
        self.embedding, self.positions = torch.randn(V, 16), torch.randn(12, 16)
        self.parts = torch.randn(4, 16, 16) / 4
        self.output, self.image = torch.randn(16, V), torch.randn(FEATURES, 16) / 4
        self.max_tokens = max_tokens

    def start(self, features):
        return (features @ self.image)[:, None, :], torch.zeros(len(features), 0, 16)

    def step(self, tokens, state):
        image, read = state
        at = read.shape[1]
        if self.max_tokens is not None and at >= self.max_tokens:
            raise IndexError("no position embedding for this")
        read = torch.cat([read, (self.embedding[tokens] + self.positions[at])[:, None]], dim=1)
        memory = torch.cat([image, read], dim=1)
        query, keys, values = read[:, -1:] @ self.parts[0], memory @ self.parts[1], memory @ self.parts[2]
        weights = torch.softmax(query @ keys.mT / 4, dim=-1)
        return (weights @ values @ self.parts[3])[:, 0] @ self.output, (image, read)


def cached(max_tokens=None, **changes):
    model = Cached(3, max_tokens)
    scorer = TorchScorer(model.step, model.start, batch_axis=0, encode=torch.stack, **{**ids(), **changes})
    if max_tokens is not None:
        scorer.max_tokens = max_tokens
    return scorer


def bigrams(start=START, end=END, captions=tuple(CAPTIONS), turned=False, power=1):
    counts = np.full((V, V), 1e-3)
    for caption in captions:
        words = Words().encode(caption)
        words = words[::-1] if turned else words
        np.add.at(counts, ([start, *words], [*words, end]), 1)
    table = counts / counts.sum(1, keepdims=True)
    table = np.log(np.linalg.matrix_power(table, power))
    return StepScorer(
        step=lambda tokens, state: (table[tokens], state),
        start=lambda images: None,
        select=lambda state, rows: None,
        join=lambda states: None,
        normalized=True,
        vocab_size=V,
        start_token=start,
        end_token=end,
        never=NEVER,
    )


def numpy_with_state():
    """NumPy scores of the image and the last two words, -inf for some; its state is a dict."""
    rng = np.random.default_rng(0)
    table, seen = rng.normal(size=(V, V)), rng.normal(size=(FEATURES, V))
    table[:, PAD] = -np.inf

    def step(tokens, state):
        scores = table[tokens] + 0.5 * np.where(np.isinf(table), 0, table)[state["last"]] + state["image"]
        return scores, {"last": tokens, "image": state["image"]}

    return StepScorer(
        step,
        lambda context: {"last": np.zeros(len(context), dtype=int), "image": context @ seen},
        lambda state, rows: {name: values[rows] for name, values in state.items()},
        join=lambda states: {name: np.concatenate([state[name] for state in states]) for name in states[0]},
        encode=lambda images: np.stack([np.asarray(image) for image in images]),
        **ids(),
    )


SOUND = {
    "torch": lambda nets: (wrapped(nets["forward"]), KNOWN),
    "torch, no captions": lambda nets: (wrapped(nets["forward"]), {}),
    "torch, two images": lambda nets: (wrapped(nets["forward"]), {"images": IMAGES[:2]}),
    "backward": lambda nets: (wrapped(nets["backward"], "backward"), {"way": "backward", **KNOWN}),
    "no direction": lambda nets: (wrapped(nets["forward"]), {"way": None, **KNOWN}),
    "by hand": lambda nets: (by_hand(nets["forward"]), KNOWN),
    "recurrent": lambda nets: (recurrent(nets["forward"]), {"captions": CAPTIONS}),
    "recurrent, with its reference": lambda nets: (
        recurrent(nets["backward"], "backward"),
        {"way": "backward", "reference": reference(nets["backward"], "backward"), **KNOWN},
    ),
    "prefixes": lambda nets: (reference(nets["forward"]), KNOWN),
    "both": lambda nets: (recurrent(nets["forward"]), {"other": recurrent(nets["backward"], "backward")}),
    "half precision": lambda nets: (
        wrapped(
            nets["forward"], step=lambda *given: (lambda out: (out[0].half(), out[1]))(nets["forward"].step(*given))
        ),
        KNOWN,
    ),
    "bfloat16": lambda nets: (wrapped(Net(5).bfloat16()), {"images": IMAGES.bfloat16()}),
    "untrained": lambda nets: (wrapped(Net(6)), KNOWN),
    "untrained, backward": lambda nets: (recurrent(Net(7), "backward"), {"way": "backward", "captions": CAPTIONS}),
    "a cache": lambda nets: (cached(), KNOWN),
    "a cache and a limit": lambda nets: (cached(max_tokens=3), KNOWN),
    "captions of few words": lambda nets: (wrapped(Net(6)), {"images": IMAGES[:3], "captions": [[5], [6], [7, 8]]}),
    "one token": lambda nets: (cached(max_tokens=1), KNOWN),
    "two tokens": lambda nets: (cached(max_tokens=2), KNOWN),
    "bigrams": lambda nets: (bigrams(), KNOWN),
    "bigrams, backward": lambda nets: (bigrams(END, START, turned=True), {"way": "backward", **KNOWN}),
    "numpy": lambda nets: (numpy_with_state(), KNOWN),
    "words ruled out": lambda nets: (ruled_out(nets["forward"]), {}),
    "in another order": lambda nets: (turned_around(nets["forward"]), {}),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_scorers_pass(nets, name):
    model, given = SOUND[name](nets)
    report = check(model, **given)
    assert report.ok, str(report)
    assert not report.faults
    assert report


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scale", [1, 5])
def test_random_weights_pass(seed, scale):
    net = Net(10 + seed)
    with torch.no_grad():
        net.project.weight *= scale
    report = check(wrapped(net), seed=seed, **KNOWN)
    assert report.ok, str(report)


def test_the_default_pair_passes():
    models = default_pair()
    forward, backward = models.forward, models.backward
    scenes = [make_scene(2, number) for number in range(4)]
    pictures, captions = [scene.picture() for scene in scenes], [scene.captions[0] for scene in scenes]
    for model, other in ((forward, backward), (backward, forward)):
        report = check_scorer(model, pictures, captions=captions, other=other)
        assert report.ok, str(report)
        assert {finding.check for finding in report.findings if finding.status == "skipped"} == {"reference"}
    assert check_scorer(forward, pictures).ok


def test_a_wrong_start_is_told_by_first_words():
    forward = default_pair().forward
    scenes = [make_scene(seed=7, number=number) for number in range(12)]
    given = {"captions": [scene.captions[0] for scene in scenes], "vocabulary": forward.vocabulary}
    forward.start_token = 0
    report = check_scorer(forward, [scene.picture() for scene in scenes], **given)
    assert [finding.fault for finding in report.faults] == ["start and end"]
    assert "declare start_token=1" in report.faults[0].cure
    assert "first words of the captions are more likely after id" in report.faults[0].message


def test_a_captioner_without_images():
    from birnn_decode.captions import WordVocabulary

    model = GRUCaptioner(WordVocabulary(WORDS[4:]), direction="forward", feature_size=0, hidden_size=8)
    report = check_scorer(model, [None, None])
    assert report.ok
    (features,) = [finding for finding in report.findings if finding.check == "features"]
    assert (features.status, features.message) == (
        "skipped",
        "all images give the same scores, so a row does not show which image it belongs to",
    )


# Planted faults: (model, what check is given), the fault, words of its message.

FAULTY = {}


def fault(name, *words):
    def register(plant):
        FAULTY[plant.__name__] = (plant, name, words)
        return plant

    return register


@fault("batch axis", "batch_axis", "axis 0")
def layers_for_rows(nets):
    return wrapped(nets["forward"], batch_axis=((0, 0), 0)), {"images": IMAGES[:LAYERS]}


@fault("batch axis", "batch_axis")
def layers_for_rows_three_images(nets):
    return wrapped(nets["forward"], batch_axis=((1, 0), 0)), {"images": IMAGES[:3]}


def on_axis_0(state, rows):
    (h, c), seen = state
    rows = torch.as_tensor(rows)
    return (h[rows], c[rows]), seen[rows]


@fault("batch axis", "axis 1 counts the rows, but select gathers on axis 0")
def hand_made_select_two_images(nets):
    return by_hand(nets["forward"], on_axis_0), {"images": IMAGES[:LAYERS]}


@fault("batch axis", "select raised IndexError")
def hand_made_select(nets):
    return by_hand(nets["forward"], on_axis_0), {}


@fault("batch axis", "counts the rows, but select does not change it")
def shared_memory_of_words(nets):
    return wrapped(nets["forward"], batch_axis=((None, None), 0)), {}


@fault("features", "features of the images, but select does not gather them", "they do not change")
def features_not_gathered(nets):
    return wrapped(nets["forward"], batch_axis=((1, 1), None)), {}


def closure(net, rows_of, hidden=True):
    """What is seen stays in a closure, and rows_of says which of it belongs to R rows."""
    kept = {}

    def start(features):
        (h, c), kept["seen"] = net.start(features)
        return h if hidden else torch.zeros_like(h), c

    def step(tokens, state):
        logits, (memory, _) = net.step(tokens, (state, rows_of(kept["seen"], len(tokens))))
        return logits, memory

    return wrapped(net, step=step, start=start, batch_axis=1)


@fault("features", "is scored with image", "features")
def features_in_a_closure(nets):
    return closure(nets["forward"], lambda seen, rows: seen[torch.arange(rows) % len(seen)], hidden=False), KNOWN


@fault("features", "is scored with")
def features_in_a_closure_and_a_state(nets):
    return closure(nets["forward"], lambda seen, rows: seen[torch.arange(rows) % len(seen)]), KNOWN


@fault("features", "raised RuntimeError", "another number of rows")
def a_mask_of_n_images(nets):
    net = nets["forward"]
    kept = {}

    def start(features):
        kept["mask"] = torch.zeros(len(features), V)
        return net.start(features)

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return scores + kept["mask"], state

    return wrapped(net, start=start, step=step), {}


@fault("features", "in the batch of all", "with image 0's features")
def features_of_the_first_image(nets):
    return closure(nets["forward"], lambda seen, rows: seen[:1].expand(rows, -1), hidden=False), KNOWN


@fault("features", "after a later encode")
def features_kept_by_encode_for_start(nets):
    net = nets["forward"]
    kept = {}

    def encode(images):
        kept["features"] = torch.stack(images)
        return kept["features"]

    return wrapped(net, encode=encode, start=lambda features: net.start(kept["features"][: len(features)])), {}


@fault("features", "after a later encode")
def features_kept_by_start_for_step(nets):
    net = nets["forward"]
    kept = {}

    def start(features):
        (h, c), kept["seen"] = net.start(features)
        return h, c, torch.arange(len(features))

    def step(tokens, state):
        h, c, images = state
        logits, ((h, c), _) = net.step(tokens, ((h, c), kept["seen"][images]))
        return logits, (h, c, images)

    return wrapped(net, start=start, step=step, batch_axis=(1, 1, 0)), {}


@fault("features", "rows of scores for each row of tokens")
def features_expanded_twice_of_one_image(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return scores.repeat_interleave(2, dim=0), state

    return wrapped(net, step=step), {}


@fault("features", "rows of scores for each row of tokens")
def features_expanded_twice(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return scores.repeat_interleave(len(tokens), dim=0), state

    return wrapped(net, step=step), {}


@fault("features", "select does not gather", "they get shape")
def memory_repeated_by_select(nets):
    net = nets["forward"]

    def select(state, rows):
        (h, c), seen = state
        rows = torch.as_tensor(rows)
        return (h[:, rows], c[:, rows]), seen[rows].repeat_interleave(2, dim=0)

    def step(tokens, state):
        memory, seen = state
        logits, (memory, _) = net.step(torch.as_tensor(tokens), (memory, seen[: len(tokens)]))
        return logits, (memory, seen)

    return by_hand(net, select, step=step), {}


@fault("features", "a later encode")
def features_kept_by_encode(nets):
    net = nets["forward"]
    kept = {}

    def encode(images):
        kept["seen"] = torch.tanh(net.see(torch.stack(images)))
        return torch.stack(images)

    def start(features):
        (h, c), _ = net.start(features)
        return (torch.zeros_like(h), c), torch.arange(len(features))

    def step(tokens, state):
        memory, image = state
        logits, (memory, _) = net.step(tokens, (memory, kept["seen"][image]))
        return logits, (memory, image)

    return wrapped(net, encode=encode, start=start, step=step), {}


@fault("mutation", "step changes the state that it is given")
def memory_in_place(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, (memory, _) = net.step(tokens, state)
        for old, new in zip(state[0], memory, strict=True):
            old.copy_(new)
        return scores, state

    return wrapped(net, step=step), KNOWN


@fault("mutation", "state")
def a_cache_that_grows(nets):
    model = Cached(3)

    def step(tokens, state):
        image, read = state
        scores, after = model.step(
            torch.as_tensor(tokens), (image, torch.stack(read, 1) if read else torch.zeros(len(image), 0, 16))
        )
        read.append(after[1][:, -1])
        return scores, (image, read)

    return StepScorer(
        step,
        lambda features: (model.start(features)[0], []),
        lambda state, rows: (
            state[0][torch.as_tensor(rows)],
            [part[torch.as_tensor(rows)] for part in state[1]],
        ),
        encode=torch.stack,
        **ids(),
    ), {}


@fault("mutation", "keep nothing in the model between steps")
def memory_in_the_module(nets):
    net = nets["forward"]

    def start(features):
        net.kept, seen = net.start(features)
        return seen

    def step(tokens, seen):
        scores, (net.kept, _) = net.step(tokens, (net.kept, seen))
        return scores, seen

    return wrapped(net, start=start, step=step, batch_axis=0), {}


@fault("randomness", "dropout", "model=")
def dropout_left_on(nets):
    return wrapped(nets["forward"].train(), model=None), KNOWN


@fault("randomness", "dropout", "training=self.training")
def functional_dropout(nets):
    net = nets["forward"]

    def start(features):
        return net.start(nn.functional.dropout(features, 0.2))

    return wrapped(net, start=start), KNOWN


@fault("normalisation", "they are logits", "log_softmax")
def logits_called_log_probabilities(nets):
    return wrapped(nets["forward"], normalized=True), KNOWN


@fault("normalisation", "probabilities", "sum to 1")
def probabilities(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return torch.softmax(scores, -1), state

    return wrapped(net, step=step), KNOWN


@fault("start and end", "swapped", f"start_token={END}, end_token={START}")
def swapped_ids_backward(nets):
    swapped = {"start_token": START, "end_token": END}
    return wrapped(nets["backward"], "backward", **swapped), {"way": "backward", **KNOWN}


@fault("start and end", "swapped", f"start_token={START}, end_token={END}")
def swapped_ids_forward(nets):
    return wrapped(nets["forward"], "backward"), KNOWN


@fault("start and end", "for the reference")
def swapped_ids_against_a_reference(nets):
    return wrapped(nets["forward"], "backward"), {"reference": reference(nets["forward"])}


def lagging(net):
    def step(tokens, state):
        (h, _), _ = state
        return net.project(h[-1]), net.step(tokens, state)[1]

    return step


@fault("alignment", "the word that was just read", "off by one")
def scores_before_reading(nets):
    return wrapped(nets["forward"], step=lagging(nets["forward"])), KNOWN


@fault("alignment", "the word that was just read")
def scores_before_reading_backward(nets):
    net = nets["backward"]
    return wrapped(net, "backward", step=lagging(net)), {"way": "backward", **KNOWN}


@fault("alignment", "off by one", "one token later")
def scores_before_reading_against_a_reference(nets):
    net = nets["forward"]
    return wrapped(net, step=lagging(net)), {"reference": reference(net)}


@fault("alignment", "the word after the next")
def scores_after_the_next(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return net.step(scores.argmax(-1), state)[0], state

    return wrapped(net, step=step), KNOWN


@fault("alignment", "the word after the next")
def bigrams_of_two_steps(nets):
    return bigrams(power=2), KNOWN


@fault("alignment", "START is read twice")
def start_reads_start(nets):
    net = nets["forward"]

    def start(features):
        return net.step(torch.full((len(features),), START), net.start(features))[1]

    return wrapped(net, start=start), {"reference": reference(net)}


@fault("alignment", "steps", "one token later")
def steps_off_by_one(nets):
    scorer = recurrent(nets["forward"])
    whole = scorer.steps

    def steps(tokens, state):
        scores, state = whole(tokens, state)
        return torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1]], 1), state

    scorer.steps = steps
    return scorer, KNOWN


@fault("special tokens", "0 ('<pad>')", "not in never")
def pad_may_fill_a_blank(nets):
    return wrapped(nets["forward"], never={START, END, UNK}), KNOWN


@fault("special tokens", "padding_idx", "not in never")
def padding_index_may_fill_a_blank(nets):
    return wrapped(nets["forward"], never={START, END}), {}


@fault("special tokens", "calls it special", "add it to never")
def special_ids_of_the_vocabulary(nets):
    words = Words(["pad!", "start!", "end!", "unk!", *WORDS[4:]])
    words.special_ids = [0, 1, 2, 3]
    return wrapped(nets["forward"], never={PAD}, vocabulary=words), {}


def diverted(net, token, share):
    """A share of the probability goes to one id."""

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        probabilities = (1 - share) * torch.softmax(scores, -1) + share * (torch.arange(V) == token)
        return torch.log(probabilities), state

    return step


@fault("special tokens", "0 ('<pad>')", "lost to the words")
def pad_is_a_word(nets):
    return wrapped(nets["forward"], step=diverted(nets["forward"], PAD, 0.05)), KNOWN


@fault("special tokens", "0 ('<pad>')", "lost to the words")
def pad_is_nearly_everything(nets):
    return wrapped(nets["forward"], step=diverted(nets["forward"], PAD, 0.99)), KNOWN


@fault("special tokens", "start_token", "lost to the words")
def start_is_a_word(nets):
    return wrapped(nets["forward"], step=diverted(nets["forward"], START, 0.3)), {}


@fault("special tokens", "in never", "lost to the words")
def a_word_in_never(nets):
    return wrapped(nets["forward"], never={*NEVER, WORDS.index("a")}), KNOWN


@fault("batch", "BatchNorm")
def batch_norm_in_training(nets):
    norm = nn.BatchNorm1d(FEATURES)
    return wrapped(nets["forward"], encode=lambda images: norm(torch.stack(images))), KNOWN


@fault("batch", "its scores depend on the batch")
def the_mean_of_the_batch(nets):
    def encode(images):
        features = torch.stack(images)
        return features - features.mean(0)

    return wrapped(nets["forward"], encode=encode), KNOWN


@fault("batch", "its scores depend on the batch")
def the_place_in_the_batch(nets):
    net = nets["forward"]

    def encode(images):
        features = torch.stack(images)
        return features * torch.linspace(1, 0.5, len(features))[:, None]

    return wrapped(net, encode=encode), {}


@fault("finite", "float16", "bfloat16", "overflow")
def half_precision_overflows(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return (scores * 1e5).half(), state

    return wrapped(net, step=step), KNOWN


@fault("finite", "NaN")
def not_a_number_after_a_word(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        return scores.masked_fill((tokens == WORDS.index("star"))[:, None], torch.nan), state

    return wrapped(net, step=step), KNOWN


@fault("vocabulary", f"scores {V} ids", f"vocab_size is {V + 1}")
def another_width(nets):
    return wrapped(nets["forward"], vocab_size=V + 1), {}


@fault("vocabulary", "the vocabulary has")
def another_vocabulary(nets):
    return wrapped(nets["forward"]), {"vocabulary": Words([*WORDS, "more"])}


@fault("vocabulary", "the other direction's")
def another_size_of_the_other(nets):
    return wrapped(nets["forward"]), {"other": wrapped(nets["backward"], "backward", vocab_size=V + 3)}


@fault("vocabulary", "'red' here, but 'circle' in the other direction's scorer")
def other_words(nets):
    words = list(WORDS)
    at = WORDS.index("red"), WORDS.index("circle")
    words[at[0]], words[at[1]] = words[at[1]], words[at[0]]
    other = wrapped(nets["backward"], "backward", vocabulary=Words(words))
    return wrapped(nets["forward"], vocabulary=Words()), {"other": other}


@fault("vocabulary", "out of range", "IndexError")
def an_embedding_of_fewer_ids(nets):
    net = nets["forward"]

    def step(tokens, state):
        nn.functional.embedding(tokens, net.embedding.weight[:-1])
        return net.step(tokens, state)

    return wrapped(net, step=step), {}


@fault("vocabulary", f"id {V}, outside of its vocabulary")
def start_out_of_range(nets):
    return wrapped(nets["forward"], start_token=V), {}


@fault("views", "select", "overwritten")
def one_buffer_for_all_selections(nets):
    buffers = {}

    def into(part, axis, rows, name):
        key = name, len(rows)
        buffers.setdefault(key, torch.empty_like(part.index_select(axis, rows)))
        return torch.index_select(part, axis, rows, out=buffers[key])

    def select(state, rows):
        (h, c), seen = state
        rows = torch.as_tensor(rows)
        h, c, seen = h.clone(), c.clone(), seen.clone()
        return (into(h, 1, rows, "h"), into(c, 1, rows, "c")), into(seen, 0, rows, "seen")

    return by_hand(nets["forward"], select), KNOWN


@fault("views", "select changes the state that it is given")
def reordered_in_place(nets):
    class State:
        def __init__(self, parts):
            self.parts = parts

    def select(state, rows):
        (h, c), seen = state.parts
        rows = torch.as_tensor(rows)
        state.parts = (h[:, rows], c[:, rows]), seen[rows]
        return state

    net = nets["forward"]

    def step(tokens, state):
        scores, parts = net.step(torch.as_tensor(tokens), state.parts)
        return scores, State(parts)

    return by_hand(net, select, start=lambda features: State(net.start(features)), step=step), KNOWN


@fault("direction", "reads the other way", "pass it as the forward model")
def forward_given_as_backward(nets):
    return wrapped(nets["forward"]), {"way": "backward", **KNOWN}


@fault("direction", "reads the other way", "start_token and end_token swapped", f"start_token={START}")
def forward_given_as_backward_with_its_ids(nets):
    return wrapped(nets["forward"], "backward"), {"way": "backward", **KNOWN}


@fault("direction", "reads the other way", "pass it as the backward model")
def backward_given_as_forward(nets):
    return wrapped(nets["backward"], "backward"), KNOWN


@fault("direction", "swapped")
def it_says_that_it_reads_the_other_way(nets):
    model = wrapped(nets["backward"], "backward")
    model.direction = "backward"
    return model, {}


# Faults beyond the thirteen.


@fault("scores", "buffer")
def one_buffer_for_all_scores(nets):
    net = nets["forward"]
    buffers = {}

    def step(tokens, state):
        scores, state = net.step(tokens, state)
        buffer = buffers.setdefault(len(tokens), torch.empty_like(scores))
        return buffer.copy_(scores), state

    return wrapped(net, step=step), KNOWN


@fault("join", "joined")
def joined_in_the_wrong_order(nets):
    scorer = wrapped(nets["forward"])
    right = scorer.join
    scorer.join = lambda states: right(states[::-1])
    return scorer, KNOWN


@fault("join", "aligned=True")
def a_cache_that_is_not_aligned(nets):
    return cached(aligned=False), {}


@fault("steps", "the state that steps returns")
def steps_leaves_the_first_state(nets):
    scorer = recurrent(nets["forward"])
    whole = scorer.steps
    scorer.steps = lambda tokens, state: (whole(tokens, state)[0], state)
    return scorer, KNOWN


@fault("steps", "other scores than step")
def steps_begins_anew(nets):
    """Right for known words at the beginning, and wrong for words after a state."""
    scorer = recurrent(nets["forward"])
    whole = scorer.steps

    def steps(tokens, state):
        hidden, condition = state
        fresh = tuple(torch.zeros_like(part) for part in hidden)
        return whole(tokens, state if int(tokens[0, 0]) == scorer.start_token else (fresh, condition))

    scorer.steps = steps
    return scorer, KNOWN


@fault("steps", "steps changes the state")
def steps_writes_into_its_state(nets):
    scorer = recurrent(nets["forward"])
    whole = scorer.steps

    def steps(tokens, state):
        scores, after = whole(tokens, state)
        for part in state[0]:
            part.mul_(0.5).add_(1)
        return scores, after

    scorer.steps = steps
    return scorer, KNOWN


@fault("score", "other log-probabilities")
def score_in_bits(nets):
    scorer = recurrent(nets["forward"])
    whole = scorer.score
    scorer.score = lambda *given: [terms / np.log(2) for terms in whole(*given)]
    return scorer, KNOWN


@fault("select", "as if it had read other tokens")
def select_mixes_hypotheses(nets):
    """Rows of the same image differ in the tokens that they have read."""

    def select(state, rows):
        (h, c), seen = state
        rows = torch.as_tensor(rows)
        return (h[:, rows], c[:, rows.sort().values]), seen[rows]

    return by_hand(nets["forward"], lambda state, rows: select(state, rows), **ids()), {
        "images": IMAGES[:1].repeat(3, 1)
    }


@fault("reference", "differ from the reference's")
def another_model(nets):
    return wrapped(nets["forward"]), {"reference": reference(Net(9))}


@fault("shapes", "not a pair")
def scores_alone(nets):
    return wrapped(nets["forward"], step=None), {"model": "alone"}


@fault("length", "captions of up to 9 tokens", "max_tokens")
def positions_that_run_out(nets):
    net = nets["forward"]

    def start(features):
        return *net.start(features), torch.zeros(len(features), dtype=torch.int64)

    def step(tokens, state):
        nn.functional.embedding(state[2], torch.zeros(6, 1))
        scores, after = net.step(tokens, state[:2])
        return scores, (*after, state[2] + 1)

    return wrapped(net, start=start, step=step, batch_axis=(1, 0, 0)), KNOWN


@fault("shapes", "RuntimeError: the weather is bad")
def an_exception(nets):
    def step(tokens, state):
        raise RuntimeError("the weather is bad\nmore of it")

    return wrapped(nets["forward"], step=step), {}


def scores_alone_model(net):
    scorer = by_hand(net)
    right = scorer.step
    scorer.step = lambda tokens, state: right(tokens, state)[0]
    return scorer


@fault("finite", "NaN", "while a caption was read")
def not_a_number_late_in_a_sentence(nets):
    net = nets["forward"]

    def start(features):
        return *net.start(features), torch.zeros(len(features), dtype=torch.int64)

    def step(tokens, state):
        scores, after = net.step(tokens, state[:2])
        return scores.masked_fill((state[2] > 5)[:, None], torch.nan), (*after, state[2] + 1)

    return wrapped(net, start=start, step=step, batch_axis=(1, 0, 0)), KNOWN


@fault("batch", "row 8 of", "in a batch of 4 rows")
def rows_beyond_the_eighth(nets):
    net = nets["forward"]

    def step(tokens, state):
        scores, after = net.step(tokens, state)
        return torch.cat([scores[:8], scores[8:] * 0.5]), after

    return wrapped(net, step=step), {}


@fault("shapes", "steps returned scores of type builtins.list")
def steps_returns_a_list(nets):
    scorer = recurrent(nets["forward"])
    scorer.steps = lambda tokens, state: ([1], None)
    return scorer, {}


@fault("score", "score returned a NoneType")
def score_returns_nothing(nets):
    scorer = recurrent(nets["forward"])
    scorer.score = lambda context, items, sentences: None
    return scorer, {}


@fault("score", "TypeError", "cannot be used")
def score_returns_numbers(nets):
    scorer = recurrent(nets["forward"])
    scorer.score = lambda context, items, sentences: [0.0 for _ in sentences]
    return scorer, {}


class NoLength(Words):
    def __len__(self):
        raise RuntimeError("ask later")


@fault("vocabulary", "RuntimeError: ask later")
def a_vocabulary_that_fails(nets):
    return wrapped(nets["forward"]), {"vocabulary": NoLength()}


@pytest.mark.parametrize("name", FAULTY)
def test_planted_faults_are_named(nets, name):
    plant, expected, words = FAULTY[name]
    try:
        model, given = plant(nets)
        if given.pop("model", None) if given is not KNOWN else None:
            model = scores_alone_model(nets["forward"])
        report = check(model, **given)
    finally:
        for net in nets.values():
            net.eval()
    assert not report
    assert [finding.fault for finding in report.faults] == [expected], str(report)
    (finding,) = report.faults
    told = f"{finding.message} -> {finding.cure}"
    for word in words:
        assert word in told
    assert "Traceback" not in str(report)
    assert "\n" not in told


def test_every_fault_of_the_list_is_planted():
    assert {name for _, name, _ in FAULTY.values()} >= {
        "batch axis",
        "features",
        "mutation",
        "randomness",
        "normalisation",
        "start and end",
        "alignment",
        "special tokens",
        "batch",
        "finite",
        "vocabulary",
        "views",
        "direction",
    }


# The report, and what cannot be checked.


def test_the_report(nets):
    report = check(wrapped(nets["forward"], batch_axis=((1, 1), None)))
    lines = str(report).splitlines()
    assert lines[0] == "forward scorer: 1 fault"
    status = {finding.check: finding.status for finding in report.findings}
    assert [line.split()[0] for line in lines[1:6]] == ["vocabulary", "shapes", "finite", "randomness", "normalisation"]
    assert (status["batch axis"], status["features"], status["views"]) == ("ok", "FAULT", "skipped")
    left_out = [finding.message for finding in report.findings].count("because features failed")
    assert f"  {f'{left_out} more':14} skipped  because features failed" in lines
    assert lines[-2].startswith("features: when select reorders the rows")
    assert lines[-1].startswith("  likely cure: put the features of the images into the state")
    assert repr(report).startswith("<forward scorer: features: when select")
    assert repr(check(wrapped(nets["forward"]))) == "<forward scorer: no fault found>"
    needs = {finding.message for finding in check(wrapped(nets["forward"])).findings if finding.status == "skipped"}
    assert needs == {
        "needs captions=...",
        "needs reference=...",
        "the scorer has no steps",
        "the scorer has no score",
    }
    assert "needs direction=..." in str(check(wrapped(nets["forward"]), way=None, **KNOWN))


def test_the_model_is_left_as_it_was(nets):
    net = nets["forward"].train()
    before = {name: values.clone() for name, values in net.state_dict().items()}

    modes = set()

    def encode(images):
        modes.add((net.training, torch.is_grad_enabled()))
        return torch.stack(images)

    state = torch.get_rng_state()
    assert check(wrapped(net, encode=encode), **KNOWN).ok
    assert modes == {(False, False)}
    assert net.training
    assert net.lstm.training
    assert all(torch.equal(before[name], values) for name, values in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    net.eval()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"images": IMAGES[:1]}, ValueError, "at least 2 different images"),
        ({"images": "ab"}, TypeError, "give a list of images"),
        ({"direction": "left"}, ValueError, 'must be "forward" or "backward"'),
        ({"captions": CAPTIONS[:2]}, ValueError, "12 images, 2 captions"),
        ({"captions": CAPTIONS}, ValueError, "need a vocabulary"),
        ({"captions": ["a purple circle"] * 12, "vocabulary": Words()}, ValueError, "caption 0, 'a purple circle'"),
        ({"captions": [[4, 99]] * 12}, ValueError, "outside the vocabulary"),
        ({"captions": [[START, 4, END]] * 12}, ValueError, "give only the ids of the words"),
    ],
)
def test_what_cannot_be_checked(nets, given, error, message):
    with pytest.raises(error, match=message):
        check_scorer(wrapped(nets["forward"]), **{"images": list(IMAGES), **given})


def test_what_is_no_scorer():
    with pytest.raises(TypeError, match="not a Scorer"):
        check_scorer(object(), [1, 2])


# The command.

MINE = """
import numpy as np
from birnn_decode import StepScorer

WORDS = ["<start>", "<end>", "a", "cat", "sat"]


class Words:
    def encode(self, text):
        return [WORDS.index(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(WORDS[token] for token in ids)


def scorer(start, end, path, normalized=True):
    table = np.full((5, 5), 0.01)
    table[path[:-1], path[1:]] = 1
    table = np.log(table / table.sum(1, keepdims=True)) + (0 if normalized is True else 1)
    return StepScorer(lambda tokens, state: (table[tokens], None), lambda images: None, lambda state, rows: None,
                      vocab_size=5, start_token=start, end_token=end, normalized=True)


def good():
    return {
        "images": [1, 2, 3, 4], "forward": scorer(0, 1, [0, 2, 3, 4, 1]), "backward": scorer(1, 0, [1, 4, 3, 2, 0]),
        "captions": ["a cat sat"] * 4, "vocabulary": Words(),
    }


def faulty():
    return {**good(), "backward": scorer(1, 0, [1, 4, 3, 2, 0], normalized=False)}


def swapped():
    return {**good(), "backward": good()["forward"], "forward": good()["backward"]}


def one_image():
    return {**good(), "images": [1]}


def raises():
    raise KeyError("no such file")


def leaves():
    raise SystemExit("usage: mine.py")


def returns_a_list():
    return []


def unknown():
    return {**good(), "caption": []}


def no_images():
    return {"forward": None}


def no_models():
    return {"images": [1, 2]}


number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked")
    (folder / "mine.py").write_text(textwrap.dedent(MINE))
    (folder / "broken.py").write_text("import numpy\nraise RuntimeError('half written')")
    (folder / "needs.py").write_text("import a_package_that_is_not_here")
    return folder


@pytest.mark.process
def test_check_on_the_command_line(folder):
    printed = output_of("check", "mine:good", folder=folder)
    assert printed.startswith("forward scorer: no fault found\n  vocabulary     ok\n")
    assert "\n\nbackward scorer: no fault found\n" in printed
    assert "direction      ok" in printed
    done = run("check", folder / "mine.py:faulty")
    assert (done.returncode, done.stderr) == (1, "")
    assert "forward scorer: no fault found" in done.stdout
    assert "backward scorer: 1 fault" in done.stdout
    assert "normalisation  FAULT" in done.stdout
    assert "likely cure: leave out normalized=True" in done.stdout
    assert "mine:factory" in output_of("check", "--help", runner=here)


def here(*arguments, folder=None):
    """In this process, with what is imported from a folder forgotten afterwards."""
    from command import run_here

    path, modules = list(sys.path), set(sys.modules)
    try:
        return run_here(*arguments, folder=folder)
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name in ("mine", "broken", "needs"):
                del sys.modules[name]


@pytest.mark.process
def test_numpy_scorers_need_no_torch(folder):
    program = """
import sys

sys.modules["torch"] = None
from birnn_decode.scorers.check import check_scorer
import mine

given = mine.good()
told = {"captions": given["captions"], "vocabulary": given["vocabulary"]}
print(check_scorer(given["forward"], given["images"], direction="forward", other=given["backward"], **told).ok)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.process
def test_swapped_models_on_the_command_line(folder):
    done = here("check", "mine:swapped", folder=folder)
    assert done.returncode == 1
    assert done.stdout.count("direction      FAULT") == 2


@pytest.mark.process
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("mine", "write module:function"),
        ("nothing:good", "no module nothing"),
        ("nothing.py:good", "no file nothing.py"),
        ("mine:nothing", "mine has no function nothing"),
        ("mine:number", "mine has no function number"),
        ("mine:raises", "mine:raises raised KeyError: 'no such file'"),
        ("mine:leaves", "mine:leaves raised SystemExit: usage: mine.py"),
        ("mine:returns_a_list", "returned a list; it must return a dict"),
        ("mine:unknown", "unknown key caption; known are images"),
        ("mine:no_images", 'returned no "images"'),
        ("mine:no_models", 'neither "forward" nor "backward"'),
        ("mine:one_image", "at least 2 different images"),
        ("broken:good", "importing broken raised RuntimeError: half written"),
        ("needs.py:good", "importing needs.py raised ModuleNotFoundError: No module named 'a_package"),
    ],
)
def test_mistakes_on_the_command_line(folder, factory, message):
    done = here("check", factory, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("birnn-decode: ")
    assert message in line
