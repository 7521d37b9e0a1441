"""The reference translator: its equations, as a scorer, in searches, and trained on a toy language."""

import itertools
import random

import numpy as np
import pytest

from birnn_decode import BeamSearch, Exact, Pair, PrefixScorer, check_scorer, decode, score_sentences

torch = pytest.importorskip("torch")

from torch.nn.functional import cross_entropy  # noqa: E402

from birnn_decode.captions import WordVocabulary  # noqa: E402
from birnn_decode.models import BiRNN, LSTMCaptioner, Translator  # noqa: E402
from birnn_decode.models.captioner import check_together  # noqa: E402
from birnn_decode.scorers import state as states  # noqa: E402

GERMAN = WordVocabulary(["ein", "zwei", "drei", "hund", "katze", "rot", "blau"])
ENGLISH = WordVocabulary(["one", "two", "three", "dog", "cat", "red", "blue"])  # the same words at the same ids
SOURCES = ["ein Hund", "rot", "zwei Katze rot blau ein", "drei Hund blau"]
PAD, UNK = 0, 3


def translator(direction="forward", seed=0, vocabulary=ENGLISH, **settings):
    """A translator with random weights that are far from flat, in double precision."""
    torch.manual_seed(seed)
    sizes = {"embedding_size": 5, "hidden_size": 8, "source_vocabulary": GERMAN}
    model = Translator(vocabulary, direction=direction, **{**sizes, **settings}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
    return model.eval()


def pair(**settings):
    return Pair(translator("forward", 1, **settings), translator("backward", 2, **settings))


def last_scores(model):
    """The translator's own forward pass, as a function of all words so far."""
    return PrefixScorer(
        lambda sources, prefixes: model(model.encode(sources), model.tokens(prefixes))[:, -1],
        vocab_size=model.vocab_size,
        start_token=model.start_token,
        end_token=model.end_token,
        never=model.never,
        model=model,
    )


def lstm(weights, name, suffix, inputs, h, c):
    """A PyTorch LSTM layer by its equations: the hidden states [t, hidden], and the last h and c."""
    get = (weights[f"{name}.{part}_{suffix}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    to_input, to_hidden, *biases = get
    outputs = []
    for x in inputs:
        i, f, g, o = np.split(to_input @ x + to_hidden @ h + sum(biases), 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs), h, c


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(model, source, tokens):
    """The log-probabilities [t, vocab] after each token: the equations of the class, position after position."""
    w = {name: value.numpy() for name, value in model.state_dict().items()}
    vectors = w["source_embedding.weight"][source]
    zeros = np.zeros(model.config["hidden_size"])
    right, *ends_right = lstm(w, "source_recurrent", "l0", vectors, zeros, zeros)
    left, *ends_left = lstm(w, "source_recurrent", "l0_reverse", vectors[::-1], zeros, zeros)
    m = np.hstack([right, left[::-1]])  # [source, 2 hidden]
    ends = np.concatenate([ends_right[0], ends_left[0]])
    h1, c1, h2, c2 = np.split(np.tanh(w["to_memories.weight"] @ ends + w["to_memories.bias"]), 4)
    table = w["output.weight"]
    rows = []
    for token in tokens:
        _, h1, c1 = lstm(w, "lower", "l0", [table[token] * np.sqrt(table.shape[1])], h1, c1)
        scores = np.array([h1 @ w["to_keys.weight"] @ m_s for m_s in m]) / np.sqrt(len(h1))
        a = np.exp(scores) / np.exp(scores).sum()
        c_t = sum(a_s * w["to_values.weight"] @ m_s for a_s, m_s in zip(a, m, strict=True))
        _, h2, c2 = lstm(w, "upper", "l0", [np.concatenate([h1, c_t])], h2, c2)
        hidden = np.tanh(w["combine.weight"] @ np.concatenate([h2, c_t]) + w["combine.bias"])
        y = table @ hidden + w["output.bias"]
        rows.append(y - np.log(np.exp(y).sum()))
    return np.array(rows)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_equations(direction):
    model = translator(direction)
    tokens = [model.start_token, 4, 9, 5, 5]
    for source in SOURCES:
        with torch.no_grad():
            ours = model(model.encode([source]), torch.tensor([tokens]))[0].log_softmax(-1)
        assert np.allclose(ours, by_hand(model, GERMAN.encode(source), tokens))
    assert ours.max() - ours.min() > 1  # not flat


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_check_scorer_finds_no_fault(direction):
    model = translator(direction, dropout=0.5).train()
    other = translator({"forward": "backward", "backward": "forward"}[direction])
    report = check_scorer(model, SOURCES, reference=last_scores(model), other=other)
    assert report.ok, report
    assert model.training


def test_padding_changes_nothing():
    """A source in a batch of longer ones has the scores that it has alone, in single precision as well."""
    for model in (translator(), translator().float()):
        targets = ["one dog", "red red red red red", "two", "cat cat"]
        tokens = model.padded([ENGLISH.encode(target) for target in targets])
        with torch.no_grad():
            together = model(model.encode(SOURCES), tokens)
            for row, source in enumerate(SOURCES):
                length = len(ENGLISH.encode(targets[row])) + 1
                alone = model(model.encode([source]), tokens[row : row + 1, :length])[0]
                assert torch.allclose(together[row, :length], alone, atol=1e-5, rtol=0)
        assert not torch.allclose(together[0, 0], together[1, 0], atol=1e-2)  # the source matters


def test_sources_may_come_in_any_form():
    model = translator()
    ids = GERMAN.encode(SOURCES[2])
    forms = [SOURCES[2], ids, tuple(ids), np.array(ids), torch.tensor(ids), "Zwei Katze, rot blau ein!"]
    with torch.no_grad():
        memories, known = model.encode(forms)
        assert all(torch.allclose(one, memories[:, 0]) for one in memories.unbind(1))
        assert all(torch.allclose(one, part[0]) for part in known[:2] for one in part)
        unknown, _ = model.encode(["ein Wolf", [4, UNK]])
    assert torch.allclose(unknown[:, 0], unknown[:, 1])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (None, TypeError, r"source 1 is None; give a text, or a tuple of ids of the source vocabulary"),
        (7, TypeError, r"source 1 is 7; give a text, or a tuple of ids"),
        (b"ein", TypeError, r"source 1 is b'ein'; give a text, or a tuple of ids"),
        (["ein"], TypeError, r"source 1 is \['ein'\]; give a text, or whole numbers as ids"),
        (np.array([4.0]), TypeError, r"source 1 is array\(\[4.\]\); give a text, or whole numbers as ids"),
        ("", ValueError, r"source 1 is '', which has no words; give a source of at least one word"),
        (" ?! ", ValueError, r"source 1 is ' \?! ', which has no words"),
        ([], ValueError, r"source 1 is \[\], which has no words"),
        ([4, 11], ValueError, r"source 1 is \[4, 11\]; give ids from 0 to 10, as the source vocabulary has"),
        ([-1, 4], ValueError, r"source 1 is \[-1, 4\]; give ids from 0 to 10"),
    ],
)
def test_wrong_sources(source, error, message):
    with pytest.raises(error, match=message) as caught:
        translator().encode(["ein", source])
    assert len(str(caught.value).splitlines()) == 1


def test_long_sources_are_cut_in_messages():
    with pytest.raises(ValueError, match="source 0 is ") as caught:
        translator().encode([[99] * 1000])
    assert len(str(caught.value)) < 200


def test_stepping_equals_one_pass():
    model = translator()
    tokens = torch.tensor([[1, 4, 5, 6], [1, 8, 7, 4], [1, 5, 5, 5], [1, 9, 9, 4]])
    with torch.no_grad():
        context = model.encode(SOURCES)
        whole = model(context, tokens)
        state = model.start(context)
        for at in range(2):
            scores, state = model.step(tokens[:, at], state)
            assert torch.allclose(scores, whole[:, at])
        rows = [3, 1]  # half of the batch is done
        state = model.select(state, np.array(rows))
        for at in range(2, 4):
            scores, state = model.step(tokens[rows, at], state)
            assert torch.allclose(scores, whole[rows, at])


def test_a_source_is_expanded_once(monkeypatch):
    """Steps and beams that change places within their source share one copy of its keys and values."""
    model = translator()
    expanded = []
    select = states.select_rows
    monkeypatch.setattr(
        states, "select_rows", lambda known, rows, axes: expanded.append(rows) or select(known, rows, axes)
    )
    with torch.no_grad():
        context = model.encode(SOURCES[:2])
        expanded.clear()
        state = select(model.start(context), [0, 0, 0, 1, 1], model.batch_axis)
        for rows in ([0, 1, 2, 3, 4], [2, 0, 1, 4, 3], [1, 1, 1, 4, 4]):
            state = select(state, rows, model.batch_axis)
            _, state = model.step([4] * 5, state)
        assert expanded == [[0, 0, 0, 1, 1]]
        _, state = model.step([4, 4], select(state, [0, 3], model.batch_axis))
    assert expanded == [[0, 0, 0, 1, 1], [0, 1]]


def test_state_bytes_count_what_each_row_has():
    model = translator()
    with torch.no_grad():
        short, long = (model.start(model.encode([source] * 3)) for source in ("ein", "ein " * 50))
    assert model.state_bytes(short) == model.state_bytes(long) == 3 * 4 * 8 * 8  # rows, h and c of two layers, doubles


def test_j_is_that_of_a_teacher_forced_pass():
    models = pair()
    sentences = ["one dog", "two", "red blue cat one two"]
    for source in SOURCES[:2]:
        for sentence, scored in zip(sentences, score_sentences(models, source, sentences), strict=True):
            ids = ENGLISH.encode(sentence)
            expected = 0.0
            for model, words in ((models.forward, ids), (models.backward, ids[::-1])):
                log_probs = by_hand(model, GERMAN.encode(source), [model.start_token, *words])
                expected += log_probs[range(len(words) + 1), [*words, model.end_token]].sum()
            assert scored.joint == pytest.approx(expected)


def test_wide_beams_find_what_enumeration_finds():
    words = WordVocabulary(["x", "y", "z"])
    models = pair(vocabulary=words)
    sentences = [[*ids] for width in (1, 2, 3) for ids in itertools.product(range(4, 7), repeat=width)]
    results = decode(models, SOURCES, "{1-3}", beam_size=60)
    proved = decode(models, SOURCES, "{1-3}", Exact())
    for source, result, sure in zip(SOURCES, results, proved, strict=True):
        joint = [one.joint for one in score_sentences(models, source, sentences)]
        best = max(range(len(sentences)), key=joint.__getitem__)
        assert [*result.best.tokens] == sentences[best]
        assert result.best.joint == pytest.approx(joint[best])
        assert sure.proved
        assert sure.best.tokens == result.best.tokens


def test_a_batch_equals_its_sources_alone():
    models = pair()
    for more in ({}, {"method": BeamSearch("backward")}):
        for template in ("{0-3} dog", "one _ _ cat"):
            together = decode(models, SOURCES, template, **more)
            for source, result in zip(SOURCES, together, strict=True):
                alone = decode(models, source, template, **more)
                assert [one.tokens for one in alone.hypotheses] == [one.tokens for one in result.hypotheses]
                assert alone.best.score == pytest.approx(result.best.score)
    assert len({result.best.tokens for result in together}) > 1


def test_the_configuration_makes_it_again():
    model = translator("backward", dropout=0.25)
    assert model.config == {
        "kind": "translator",
        "direction": "backward",
        "embedding_size": 5,
        "hidden_size": 8,
        "dropout": 0.25,
    }
    settings = {name: value for name, value in model.config.items() if name != "kind"}
    again = Translator(ENGLISH, source_vocabulary=GERMAN, encoder=None, **settings).double()
    again.load_state_dict(model.state_dict(), assign=True)
    again.eval()
    tokens = model.padded([[4, 5]])
    with torch.no_grad():
        assert torch.equal(model(model.encode(["rot"]), tokens), again(again.encode(["rot"]), tokens))
    # A model file refuses tensors that share memory, and takes names that begin with "encoder." for an image encoder.
    tensors = [tensor for tensor in model.state_dict().values() if tensor.numel()]
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
    assert not any(name.startswith("encoder.") for name in model.state_dict())
    with pytest.raises(ValueError, match="a translator has no image encoder, got 3; leave encoder out"):
        Translator(ENGLISH, direction="forward", source_vocabulary=GERMAN, encoder=3)
    with pytest.raises(ValueError, match="direction must be 'forward' or 'backward', got 'sideways'"):
        translator("sideways")


def test_a_pair_has_one_source_vocabulary():
    models = pair()
    check_together(models.forward, models.backward, "the translators")
    french = translator("backward", source_vocabulary=WordVocabulary(["un", "chien"]))
    with pytest.raises(ValueError, match="the translators must have the same source vocabulary"):
        check_together(models.forward, french, "the translators")
    captioner = LSTMCaptioner(ENGLISH, direction="backward", feature_size=0)
    with pytest.raises(ValueError, match="the translators must have the same source vocabulary"):
        check_together(models.forward, captioner, "the translators")


def test_dropout_is_for_training_only():
    models = pair(dropout=0.5)
    plain = pair()
    models.forward.train()
    results = [decode(some, SOURCES[0], "one _ cat") for some in (models, models, plain)]
    assert len({result.best.score for result in results}) == 1
    assert models.forward.training
    tokens = models.forward.padded([[4, 5]])
    sums = [models.forward(models.forward.encode(SOURCES[:1]), tokens).sum() for _ in range(5)]
    assert len({one.item() for one in sums}) == 5
    dropped = []
    models.forward.dropout.register_forward_hook(lambda module, given, _: dropped.append(given[0].shape[-1]))
    models.forward(models.forward.encode(SOURCES[:1]), tokens)
    # The words and the states of the source, the words of the target, what the upper layer reads, the last states.
    assert dropped == [5, 16, 5, 16, 5]


def test_every_parameter_has_a_gradient():
    models = pair()
    sum(one.joint for one in score_sentences(models, SOURCES[2], ["one dog", "two"], gradients=True)).backward()
    for model in (models.forward, models.backward):
        for parameter in model.parameters():
            assert parameter.grad.abs().sum() > 0


def test_everything_is_on_the_device_of_the_model(monkeypatch):
    model = translator().to("meta")
    # PyTorch cannot sort back on this device, which has shapes but no numbers.
    unpacked = torch.empty(len(SOURCES), 5, 16, device="meta", dtype=torch.float64)
    monkeypatch.setattr("birnn_decode.models.translator.pad_packed_sequence", lambda *_, **__: (unpacked, None))
    memories, known = model.encode(SOURCES)
    state = model.start((memories, known))
    scores, state = model.step([model.start_token] * 4, state)
    parts = [scores, memories, *known, *state[0], *state[1], *state[2].rows()]
    assert {part.device.type for part in parts} == {"meta"}


def test_half_precision():
    models = pair()
    single = decode(models, SOURCES[0], "one _ _ cat")
    half = score_sentences(
        Pair(models.forward.to(torch.bfloat16), models.backward.to(torch.bfloat16)), SOURCES[0], [single.best.tokens]
    )
    assert half[0].joint == pytest.approx(single.best.joint, rel=0.1)


@pytest.fixture(scope="module")
def trained():
    """Two translators of a toy language: word for word, and in the opposite order."""
    torch.manual_seed(0)
    rng = random.Random(0)
    sizes = {"source_vocabulary": GERMAN, "embedding_size": 16, "hidden_size": 24}
    models = [Translator(ENGLISH, direction=direction, **sizes) for direction in ("forward", "backward")]
    descent = torch.optim.Adam([parameter for model in models for parameter in model.parameters()], lr=0.02)
    for _ in range(150):
        sources = [[rng.randrange(4, 11) for _ in range(rng.randint(1, 4))] for _ in range(64)]
        losses = []
        for model in models:
            padded = model.padded([source[::-1] for source in sources])
            logits = model(model.encode(sources), padded[:, :-1])
            losses.append(cross_entropy(logits.flatten(0, 1), padded[:, 1:].flatten(), ignore_index=PAD))
        descent.zero_grad()
        sum(losses).backward()
        descent.step()
    assert max(losses) < 0.1
    return Pair(*models)


QUESTIONS = {"ein Hund": "dog one", "rot": "red", "zwei Katze rot": "red cat two", "blau drei ein": "one three blue"}


def test_it_learns_to_translate(trained):
    for method in (BeamSearch("forward"), BeamSearch("backward")):
        found = decode(trained, list(QUESTIONS), method=method, max_length=6)
        assert [result.best.text for result in found] == list(QUESTIONS.values())
    found = decode(trained, list(QUESTIONS), max_length=6)
    assert [result.best.text for result in found] == list(QUESTIONS.values())


def test_it_fills_blanks(trained):
    assert decode(trained, "zwei Katze rot", "red _ two").best.text == "red cat two"
    assert decode(trained, "zwei Katze rot", "{0-3} two").best.text == "red cat two"
    assert decode(trained, "zwei", "_").best.text == "two"
    # The known words disagree with the source, and the blank still follows it.
    assert decode(trained, "zwei Katze rot", "blue _ two").best.blanks == (tuple(ENGLISH.encode("cat")),)


def test_captions_show_the_right_direction(trained):
    sources = [*QUESTIONS, "Katze Katze"]
    captions = [*QUESTIONS.values(), "cat cat"]
    for model in (trained.forward, trained.backward):
        assert check_scorer(model, sources, captions=captions).ok
    swapped = Translator(ENGLISH, direction="backward", source_vocabulary=GERMAN, embedding_size=16, hidden_size=24)
    swapped.load_state_dict(trained.forward.state_dict())
    assert not check_scorer(swapped, sources, captions=captions).ok


def test_two_translators_share_one_softmax():
    model = BiRNN(translator("forward", 1), translator("backward", 2))
    found = decode(model, SOURCES[2], "one _ _ cat").best
    halves = (model.forward_half, model.backward_half)
    ids = [*found.tokens]
    for place, log_prob in enumerate(found.token_conditionals):
        logits = 0
        for half, words in zip(halves, (ids[:place], ids[place + 1 :][::-1]), strict=True):
            tokens = [half.start_token, *words]
            logits = logits + by_hand(half, GERMAN.encode(SOURCES[2]), tokens)[-1]
        assert log_prob == pytest.approx(logits[ids[place]] - np.log(np.exp(logits).sum()))
