"""The reference Bi-RNN: its logits, its training, its file, and the commands that train and evaluate one."""

import csv
import importlib.util
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from command import output_of, refusal_of, run_here  # noqa: E402
from test_captioners import FEATURES, KINDS, WORDS, captioner, images, pair  # noqa: E402
from test_training import counting_data, new_pair  # noqa: E402

from birnn_decode import Exact, MustAppear, compare, decode, score_sentences  # noqa: E402
from birnn_decode.captions import WordVocabulary, make_scene  # noqa: E402
from birnn_decode.models import (  # noqa: E402
    BiRNN,
    GRUCaptioner,
    LSTMCaptioner,
    SmallCNN,
    load_birnn,
    load_pair,
    save_birnn,
    save_pair,
)
from birnn_decode.training import BiRNNTraining, CaptionedImages, Recipe, Training, evaluate_birnn  # noqa: E402

SENTENCES = ["a girl and wind", "board", "a board and a girl and a wind"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_word_is_told_from_all_others(kind):
    """The logits in one pass, with captions of several lengths side by side, are those of both halves, added."""
    model = BiRNN(*pair(kind))
    captions = [WORDS.encode(sentence) for sentence in SENTENCES]
    features = torch.tensor(np.array(images()))
    with torch.no_grad():
        logits = iter(model(features, captions))
        for row, words in enumerate(captions):
            for at in range(len(words)):
                before = [model.forward_half.start_token, *words[:at]]
                behind = [model.backward_half.start_token, *words[:at:-1]]
                one = model.forward_half(features[row : row + 1], torch.tensor([before]))[0, -1]
                other = model.backward_half(features[row : row + 1], torch.tensor([behind]))[0, -1]
                assert torch.allclose(next(logits), one + other)
        assert next(logits, None) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_knows_what_the_model_does(kind):
    """The pseudo-log-likelihood that a search reports is the loss that the model is trained with."""
    model = BiRNN(*pair(kind, dropout=0.5)).train()
    scored = [one for (one,) in score_sentences(model, images(), [[sentence] for sentence in SENTENCES])]
    assert model.training
    assert model.forward_half.training
    captions = [WORDS.encode(sentence) for sentence in SENTENCES]
    data = CaptionedImages(torch.tensor(np.array(images())), [[words] for words in captions])
    terms = [term for one in scored for term in one.token_conditionals]
    assert evaluate_birnn(model, data, batch_size=2) == pytest.approx(-np.mean(terms))
    with torch.no_grad():
        log_probs = model(data.images, captions).log_softmax(dim=-1)
    expected = log_probs[torch.arange(len(terms)), [word for words in captions for word in words]]
    assert terms == pytest.approx(expected.tolist())
    best = decode(model, images()[0], "a _ _ board").best
    assert best.text.split()[0::3] == ["a", "board"]
    assert not {0, 1, 2, 3} & set(best.tokens)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_birnn_learns_what_can_be_learnt(optimizer):
    """All but the first word tell which caption it is of; the first of "one" alone is known by the image."""
    data = counting_data()
    model = BiRNN(*new_pair())
    rate = {"adam": 0.05, "rmsprop": 0.005}[optimizer]
    training = BiRNNTraining(model, data, data, Recipe(60, 2, optimizer, rate))
    losses = []
    epochs = list(training.run(on_step=losses.append))
    assert epochs == training.history
    assert (training.steps_done, training.steps) == (60, 60)
    assert losses == pytest.approx([one.training for one in epochs], rel=1e-5)
    assert epochs[-1].validation < 0.05 < epochs[0].validation
    assert epochs[-1].validation == evaluate_birnn(model, data)
    assert training.best.validation == min(epoch.validation for epoch in epochs)
    assert decode(model, data.images[1].numpy(), "one _ three").best.text == "one two three"


def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path):
    data = counting_data()
    recipe = Recipe(4, 1)
    whole = BiRNN(*new_pair(dropout=0.3))
    expected = list(BiRNNTraining(whole, data, data, recipe, seed=7).run())
    stopped = BiRNNTraining(BiRNN(*new_pair(dropout=0.3)), data, data, recipe, seed=7)
    epochs = stopped.run()
    assert [next(epochs), next(epochs)] == expected[:2]
    stopped.save(tmp_path / "checkpoint")
    resumed = BiRNN(*new_pair(seed=99, dropout=0.3))
    training = BiRNNTraining(resumed, data, data, recipe, seed=7)
    training.resume(tmp_path / "checkpoint")
    assert list(training.run()) == expected[2:]
    assert training.history == expected
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    of_pair = Training(*new_pair(dropout=0.3), data, data, recipe, seed=7)
    with pytest.raises(ValueError, match="cannot be resumed, because the kind of model changed since"):
        of_pair.resume(tmp_path / "checkpoint")


def test_an_encoder_is_trained_along():
    encoder = SmallCNN(pixels=16, channels=(4, 2))
    before = [one.clone() for one in encoder.parameters()]
    pictures = torch.stack([encoder.prepare(make_scene(0, number).picture()) for number in range(2)])
    data = CaptionedImages(pictures, counting_data().captions)
    model = BiRNN(*new_pair(encoder, feature_size=6))
    list(BiRNNTraining(model, data, data, Recipe(1, 2)).run())
    assert not any(torch.equal(one, two) for one, two in zip(before[:1], encoder.parameters(), strict=False))


def test_captions_without_words_have_nothing_to_be_told():
    data = counting_data()
    some = CaptionedImages(data.images, [[[], *data.captions[0]], *([[]] for _ in data.captions[1:])])
    model = BiRNN(*new_pair())
    (epoch,) = BiRNNTraining(model, some, some, Recipe(1, 1)).run()
    only = CaptionedImages(data.images[:1], data.captions[:1])
    assert epoch.validation == pytest.approx(evaluate_birnn(model, only), abs=1e-6)


def test_what_is_no_birnn(tmp_path):
    forward, backward = pair(GRUCaptioner)
    with pytest.raises(
        TypeError, match=r"a half of a BiRNN must be a captioner, such as an LSTMCaptioner, got NoneType"
    ):
        BiRNN(forward, None)
    with pytest.raises(TypeError, match=r"save_birnn takes a BiRNN, got list; use save_pair for two captioners"):
        save_birnn([forward, backward], tmp_path / "x")
    data = counting_data()
    with pytest.raises(TypeError, match=r"BiRNNTraining takes a BiRNN, got GRUCaptioner; use Training for a pair"):
        BiRNNTraining(forward, data, data, Recipe(1, 1))


def test_features_are_brought_to_one_scale_for_both_halves():
    model = BiRNN(*pair(LSTMCaptioner))
    features = 3.0 * torch.randn(50, FEATURES, generator=torch.Generator().manual_seed(0)) + 7.0
    model.standardise(features)
    one, other = (captioner(LSTMCaptioner, way) for way in ("forward", "backward"))
    for half, alone in ((model.forward_half, one), (model.backward_half, other)):
        alone.standardise(features)
        for name, value in alone.named_buffers():
            assert torch.equal(dict(half.named_buffers())[name], value)
        assert any(
            not torch.equal(value, dict(captioner(LSTMCaptioner, half.direction).named_buffers())[name])
            for name, value in half.named_buffers()
        )


def test_halves_that_do_not_fit():
    forward, backward = pair(GRUCaptioner)
    with pytest.raises(
        ValueError, match="of a BiRNN must read forward and backward, but they read backward and forward"
    ):
        BiRNN(backward, forward)
    other = GRUCaptioner(WordVocabulary(["a"]), direction="backward", feature_size=FEATURES)
    with pytest.raises(ValueError, match="of a BiRNN must have the same words at the same ids"):
        BiRNN(forward, other)
    with pytest.raises(ValueError, match="must have the same feature_size, got 6 and 5"):
        BiRNN(forward, captioner(GRUCaptioner, "backward", feature_size=5))
    seeing = [captioner(GRUCaptioner, direction, encoder=SmallCNN(16, (2,))) for direction in ("forward", "backward")]
    with pytest.raises(ValueError, match="of a BiRNN must share one image encoder, but each has its own"):
        BiRNN(*seeing)


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("sees", ["features", "pictures", "nothing"])
def test_what_is_saved_is_loaded(sees, tmp_path):
    encoder = SmallCNN(pixels=16, channels=(8, FEATURES // 3)) if sees == "pictures" else None
    model = BiRNN(*pair(LSTMCaptioner, encoder=encoder, feature_size=0 if sees == "nothing" else FEATURES))
    if sees != "nothing":
        model.standardise(torch.randn(5, FEATURES).double())
    save_birnn(model, tmp_path / "model")
    loaded = load_birnn(tmp_path / "model")
    assert not loaded.training
    assert not loaded.forward_half.training
    assert loaded.vocabulary == WORDS
    assert loaded.forward_half.encoder is loaded.backward_half.encoder is loaded.encoder
    image = {"features": images()[0], "pictures": make_scene(0, 0).picture(), "nothing": None}[sees]
    scored = [score_sentences(one, image, SENTENCES) for one in (model, loaded)]
    assert scored[0] == scored[1]


def test_a_pair_is_no_birnn(tmp_path):
    halves = pair(LSTMCaptioner)
    save_pair(*halves, tmp_path / "pair")
    save_birnn(BiRNN(*halves), tmp_path / "birnn")
    with pytest.raises(
        ValueError, match=r"birnn is a safetensors file, but does not hold a pair of captioners: it holds a Bi"
    ):
        load_pair(tmp_path / "birnn")
    with pytest.raises(
        ValueError, match=r"pair is a safetensors file, but does not hold a Bi-RNN: it holds a pair of ca"
    ):
        load_birnn(tmp_path / "pair")


# ----------------------------------------------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Captions of eight images, five words each, and their features."""
    folder = tmp_path_factory.mktemp("data")
    entries, vectors = [], []
    for at in range(24):
        words = [["a", "the"][at % 2], ["red", "blue"][at // 2 % 2], ["box", "ball"][at // 4 % 2], "lies", "here"]
        split = ["train", "train", "val", "test"][at // 8] if at < 16 else "test"
        entries.append({"filename": f"{at}", "imgid": at, "split": split, "sentences": [{"raw": " ".join(words)}] * 2})
        vectors.append([at % 2, at // 2 % 2, at // 4 % 2])
    for entry in entries[4:8]:
        entry["split"] = "val"
    (folder / "captions.json").write_text(json.dumps({"images": entries}))
    np.savez(folder / "features.npz", a=np.array(vectors, np.float32), b=np.array([str(at) for at in range(24)]))
    return ["--captions", folder / "captions.json", "--features", folder / "features.npz"]


@pytest.fixture(scope="module")
def trained(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    settings = ["--hidden-size", "24", "--min-count", "1"]
    printed = {
        kind: output_of(
            "train", *given, "--kind", kind, "--out", folder / kind, *settings, "--epochs", "100", runner=run_here
        )
        for kind in ("pair", "birnn")
    }
    return folder, printed


@pytest.fixture
def without_captioning(monkeypatch):
    """The metrics of captioning papers take seconds, and are the same for all models."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pycocoevalcap" else find_spec(name))


def test_training_one(trained):
    folder, printed = trained
    lines = printed["birnn"].splitlines()
    assert lines[0].split(";")[1:] == printed["pair"].splitlines()[0].split(";")[1:]  # as many numbers
    assert lines[1].startswith("epoch  1: training ")
    assert lines[-1].startswith(f"{folder / 'birnn'}: the Bi-RNN of epoch ")
    with open(f"{folder / 'birnn'}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["number", "training", "validation", "seconds"]
    assert float(rows[-1]["validation"]) < 0.3 < float(rows[0]["validation"])
    models, birnn = load_pair(folder / "pair"), load_birnn(folder / "birnn")
    sizes = [sum(one.numel() for one in part.parameters()) for part in (models.forward, models.backward, birnn)]
    assert sizes[0] + sizes[1] == sizes[2]


def test_evaluating_a_pair_and_a_birnn(trained, given, tmp_path, without_captioning):
    folder, _ = trained
    models = ["--model", folder / "pair", "--birnn", folder / "birnn"]
    out = ["--blank", "0.25", "--out", tmp_path / "out"]
    printed = output_of("evaluate", *given, *models, *out, runner=run_here)
    reports = json.loads((tmp_path / "out" / "figures.json").read_text())["reports"]
    figures = reports[0]["figures"]
    assert list(figures)[-5:] == ["birnn-f", "birnn-b", "birnn-rerank", "birnn-gibbs", "birnn-bscd"]
    assert len(figures) == 12
    assert reports[0]["against"] == "bscd"
    assert "bscd minus" in printed
    assert figures["birnn-bscd"]["exactly right"]["value"] == figures["bscd"]["exactly right"]["value"] == 1
    # Every answer has both scores, whoever has found it.
    for metric in ("J", "PLL"):
        assert figures["bscd"][metric]["value"] == pytest.approx(figures["birnn-bscd"][metric]["value"], rel=1e-5)
    answers = json.loads((tmp_path / "out" / "answers-25-percent-of-the-words-width-known-bscd.json").read_text())
    entries = json.loads((given[1]).read_text())["images"]
    vectors = np.load(given[3])["a"]
    wanted = [one["image_id"] for one in answers]
    texts = [[one["caption"]] for one in answers]
    asked = [vectors[[entry["imgid"] for entry in entries].index(name)] for name in wanted]
    pair_models, birnn = load_pair(folder / "pair"), load_birnn(folder / "birnn")
    by_pair = np.mean([one.joint for (one,) in score_sentences(pair_models, asked, texts)])
    by_birnn = np.mean([one.pseudo_log_prob for (one,) in score_sentences(birnn, asked, texts)])
    assert figures["bscd"]["J"]["value"] == pytest.approx(by_pair, rel=1e-4)
    assert figures["bscd"]["PLL"]["value"] == pytest.approx(by_birnn, rel=1e-4)


def test_search_errors_of_both(trained, given, tmp_path, without_captioning):
    """The best sentence by J is proved; what a Bi-RNN's search finds may be another."""
    folder, _ = trained
    models = ["--model", folder / "pair", "--birnn", folder / "birnn", "--methods", "bscd,birnn-bscd"]
    asked = ["--blank", "0.25", "--exact", "1000", "--limit", "4", "--out", tmp_path / "out"]
    output_of("evaluate", *given, *models, *asked, runner=run_here)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())["reports"][0]["figures"]
    assert list(figures) == ["bscd", "birnn-bscd", "exact"]
    assert [one["search errors"]["value"] for one in figures.values()] == [0, 0, 0]
    assert figures["exact"]["rows"]["value"] > figures["bscd"]["rows"]["value"]


def test_evaluating_one_alone(trained, given, without_captioning):
    folder, _ = trained
    for file in ("birnn", "pair"):  # of a pair the scores are added
        printed = output_of("evaluate", *given, "--birnn", folder / file, "--blank", "0.25", runner=run_here)
        assert "birnn-bscd minus" in printed
        head = next(line for line in printed.splitlines() if line.startswith("method")).split()
        assert "PLL" in head
        assert "J" not in head


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--birnn", "BIRNN", "--methods", "bscd"], "--methods bscd: give --model as well"),
        (["--model", "PAIR", "--methods", "birnn-bscd"], "--methods birnn-bscd: give --birnn as well"),
        (["--birnn", "BIRNN", "--methods", "bsdc"], "--methods bsdc: use some of birnn-f,"),
        (["--birnn", "BIRNN", "--blank", "whole"], "a Bi-RNN does not predict where a sentence ends: ask a pair alone"),
        (
            ["--birnn", "BIRNN", "--exact", "100"],
            "--exact needs a pair, because its bound is a bound of J: give --model as well",
        ),
        (["--model", "BIRNN"], "does not hold a pair of captioners: it holds a Bi-RNN"),
        (["--model", "PAIR", "--birnn", "OTHER"], "has other words than --model"),
        (["--birnn", "none"], "there is no model file none"),
    ],
)
def test_refusals(arguments, message, trained, given, tmp_path):
    folder, _ = trained
    other = [captioner(GRUCaptioner, direction, feature_size=3) for direction in ("forward", "backward")]
    save_birnn(BiRNN(*other), tmp_path / "other")
    files = {"PAIR": folder / "pair", "BIRNN": folder / "birnn", "OTHER": tmp_path / "other"}
    line = refusal_of("evaluate", *given, *(files.get(one, one) for one in arguments), folder=tmp_path, runner=run_here)
    assert message in line


@pytest.fixture(scope="module")
def of_words(tmp_path_factory):
    """Files of a pair and of a Bi-RNN that nobody has trained, without images."""
    folder = tmp_path_factory.mktemp("words")
    torch.manual_seed(1)
    halves = [captioner(GRUCaptioner, way, feature_size=0) for way in ("forward", "backward", "forward", "backward")]
    save_pair(*halves[:2], folder / "pair")
    save_birnn(BiRNN(*halves[2:]), folder / "birnn")
    return folder


BLANKED = "a _ and _ wind"


def test_filling_by_a_birnn(of_words):
    asked = ["fill", "-", BLANKED, "--birnn", of_words / "birnn"]
    answer = json.loads(output_of(*asked, "--must", "girl", "--json", runner=run_here))["methods"]
    expected = decode(load_birnn(of_words / "birnn"), None, BLANKED, constraints=[MustAppear(["girl"])])
    assert list(answer) == ["birnn-bscd"]
    assert [one["text"] for one in answer["birnn-bscd"]["hypotheses"]] == [one.text for one in expected.hypotheses]
    assert answer["birnn-bscd"]["hypotheses"][0]["pseudo_log_prob"] == pytest.approx(expected.best.pseudo_log_prob)
    head, line, *_ = output_of(*asked, "--must", "girl", runner=run_here).splitlines()
    assert head.split() == ["method", "sentence", "PLL", "rows", "ms"]
    assert line.split()[-3] == f"{expected.best.pseudo_log_prob:.2f}"
    printed = output_of("fill", "-", "a {1-2} wind", "--birnn", of_words / "birnn", runner=run_here)
    assert "score: the value that ranks sentences of different lengths, PLL\n" in printed


def test_filling_with_a_proof(of_words):
    asked = ["fill", "-", BLANKED, "--model", of_words / "pair", "--beam-size", "2"]
    answer = json.loads(output_of(*asked, "--exact", "1000", "--json", runner=run_here))["methods"]
    models = load_pair(of_words / "pair")
    sure = decode(models, None, BLANKED, Exact(max_rows=1000), beam_size=2)
    assert list(answer) == ["exact"]
    assert answer["exact"]["proved"]
    assert sure.proved
    assert [one["text"] for one in answer["exact"]["hypotheses"]] == [one.text for one in sure.hypotheses]
    assert "exact: proved: no other sentence has a higher score" in output_of(
        *asked, "--exact", "1000", runner=run_here
    )
    unsure = decode(models, None, BLANKED, Exact(max_rows=1), beam_size=2)
    assert unsure.gap > 0
    printed = output_of(*asked, "--exact", "1", runner=run_here)
    assert f"exact: not proved; another sentence may have a score higher by up to {unsure.gap:.2f}\n" in printed
    asked[-1] = "3"
    rows, found = next(
        (rows, found)
        for rows in range(1, 1000)
        for found in [decode(models, None, BLANKED, Exact(max_rows=rows), beam_size=3)]
        if found.gap == 0
    )
    assert not found.proved
    assert "exact: the best sentence is proved\n" in output_of(*asked, "--exact", str(rows), runner=run_here)


def test_comparing_a_pair_and_a_birnn(of_words):
    """Every sentence has the scores of both; the sentences are those that each finds by itself."""
    models = ["--model", of_words / "pair", "--birnn", of_words / "birnn"]
    asked = ["compare", "-", BLANKED, "--exact", "1000"]
    answer = json.loads(output_of(*asked, *models, "--json", runner=run_here))["methods"]
    pair_models, birnn = load_pair(of_words / "pair"), load_birnn(of_words / "birnn")
    methods = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "bscd", Exact(max_rows=1000)]
    alone = compare(pair_models, None, BLANKED, methods)
    own = compare(birnn, None, BLANKED, ["urnn-f", "urnn-b", "rerank", "gibbs", "bscd"])
    alone |= {f"birnn-{name.removeprefix('urnn-')}": result for name, result in own.items()}
    assert list(answer) == list(alone)
    for method, result in alone.items():
        assert [one["text"] for one in answer[method]["hypotheses"]] == [one.text for one in result.hypotheses]
        for one in answer[method]["hypotheses"]:
            (of_pair,), (of_birnn,) = (
                score_sentences(pair_models, None, [one["text"]]),
                score_sentences(birnn, None, [one["text"]]),
            )
            assert one["joint"] == pytest.approx(of_pair.joint)
            assert one["log_prob_backward"] == pytest.approx(of_pair.log_prob_backward)
            assert one["pseudo_log_prob"] == pytest.approx(of_birnn.pseudo_log_prob)
    printed = output_of(*asked, *models, runner=run_here)
    assert printed.split("\n")[0].split() == ["method", "sentence", "J", "log", "P→", "log", "P←", "PLL", "rows", "ms"]
    assert "exact: proved: no other sentence" in printed
    printed = output_of("compare", "-", "a {1-2} wind", *models, runner=run_here)
    told = " ".join(printed.split())
    assert "J plus half a nat per word; of a Bi-RNN, PLL, of a half alone its log P plus a quarter of a nat" in told
    printed = output_of("compare", "-", BLANKED, *models[2:], runner=run_here)
    assert [line.split()[0] for line in printed.splitlines()[1:6]] == [
        "birnn-f",
        "birnn-b",
        "birnn-rerank",
        "birnn-gibbs",
        "birnn-bscd",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fill", "-", BLANKED, "--model", "pair", "--birnn", "birnn"],
            "give --model or --birnn; `compare` takes both",
        ),
        (
            ["fill", "-", BLANKED, "--birnn", "birnn", "--exact", "9"],
            "--exact needs a pair, because its bound is a bound of J",
        ),
        (
            ["compare", "-", BLANKED, "--birnn", "birnn", "--exact", "9"],
            "--exact needs a pair, because its bound is a bound of J",
        ),
        (["compare", "-", BLANKED, "--model", "pair", "--birnn", "other"], "has other words than --model"),
        (["compare", "-", BLANKED, "--model", "pair", "--birnn", "seeing"], "sees other images than --model"),
        (["fill", "x.png", BLANKED, "--birnn", "birnn"], "the model was trained without sources: write - in place"),
        (["fill", "x.png", BLANKED, "--birnn", "seeing"], "seeing has no image encoder and cannot see pictures"),
    ],
)
def test_refusals_where_sentences_are_filled(arguments, message, of_words):
    other = [
        GRUCaptioner(WordVocabulary(["red"]), direction=way, feature_size=0, hidden_size=4, embedding_size=4)
        for way in ("forward", "backward")
    ]
    save_birnn(BiRNN(*other), of_words / "other")
    save_birnn(BiRNN(*(captioner(GRUCaptioner, way) for way in ("forward", "backward"))), of_words / "seeing")
    files = {one: of_words / one for one in ("pair", "birnn", "other", "seeing")}
    assert message in refusal_of(*(files.get(one, one) for one in arguments), runner=run_here)
