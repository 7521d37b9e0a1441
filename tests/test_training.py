"""Training a pair, and the script that trains the one that comes with the package."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from command import heed_interrupts  # noqa: E402

from birnn_decode import Pair, score_sentences  # noqa: E402
from birnn_decode.captions import WordVocabulary, make_scenes  # noqa: E402
from birnn_decode.lines import read_lines  # noqa: E402
from birnn_decode.models import GRUCaptioner, LSTMCaptioner, SmallCNN, Translator, load_pair  # noqa: E402
from birnn_decode.models.files import CAPTIONERS  # noqa: E402
from birnn_decode.training import (  # noqa: E402
    PRESETS,
    CaptionedImages,
    Recipe,
    TextLines,
    Training,
    evaluate_pair,
    fit_encoder,
)

SCRIPT = Path(__file__).parents[1] / "examples" / "train_scenes.py"
WORDS = WordVocabulary(["one", "two", "three"])


def counting_data():
    """Each image is a number, and its captions count up to it."""
    captions = [[WORDS.encode("one two three"[: 3 + 4 * image])] * 2 for image in range(2)]
    return CaptionedImages(torch.eye(2), captions)


def new_pair(encoder=None, seed=0, kind=GRUCaptioner, **settings):
    torch.manual_seed(seed)
    sizes = {"feature_size": 2, "embedding_size": 8, "hidden_size": 16, **settings}
    return [kind(WORDS, direction=direction, encoder=encoder, **sizes) for direction in ("forward", "backward")]


def counting_lines(folder, with_sources=False):
    """Lines that count up, in a file; as sources, their last words."""
    (folder / "lines.txt").write_text("one\none two\none two three\n")
    if not with_sources:
        return TextLines(read_lines(folder / "lines.txt").split(), WORDS)
    (folder / "sources.txt").write_text("one\ntwo\nthree\n")
    return TextLines(read_lines(folder / "lines.txt", folder / "sources.txt").split(), WORDS, WORDS)


FREE = {"captions": {}, "lines": {"feature_size": 0}}  # by the kind of data


def epochs_of(pair, data, recipe, seed=0):
    return list(Training(*pair, data, data, recipe, seed).run())


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_a_pair_learns_what_can_be_learnt(optimizer):
    data = counting_data()
    pair = new_pair()
    rate = {"adam": 0.05, "rmsprop": 0.005, "sgd": 0.5}[optimizer]
    training = Training(*pair, data, data, Recipe(60, 2, optimizer, rate))
    losses = []
    epochs = list(training.run(on_step=losses.append))
    assert [epoch.number for epoch in epochs] == list(range(1, 61))
    assert epochs == training.history
    assert (training.steps_done, training.steps) == (60, 60)
    assert losses == pytest.approx([(one.training_forward + one.training_backward) / 2 for one in epochs], rel=1e-5)
    assert epochs[-1].validation < 0.05 < epochs[0].validation
    assert (epochs[-1].validation_forward, epochs[-1].validation_backward) == evaluate_pair(*pair, data)
    assert training.best.validation == min(epoch.validation for epoch in epochs)
    assert list(training.run()) == []


def test_gradients_are_clipped():
    """Cut off number by number, scaled down as a whole, or as they are; the optimizer is given nothing larger."""
    data = counting_data()
    sizes = {}
    for name, clip in (("none", (None, None)), ("norm", (0.01, None)), ("value", (None, 0.001))):
        pair = new_pair()
        training = Training(*pair, data, data, Recipe(1, 2, clip_norm=clip[0], clip_value=clip[1]))
        list(training.run())
        gradients = torch.cat([one.grad.flatten() for model in pair for one in model.parameters()])
        sizes[name] = (gradients.norm().item(), gradients.abs().max().item())
    assert sizes["norm"][0] == pytest.approx(0.01, rel=1e-3)
    assert sizes["value"][1] == pytest.approx(0.001)
    assert sizes["none"][0] > 0.02
    assert sizes["none"][1] > 0.002


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name, tmp_path):
    """Each can be trained with, and the one that is named after a paper says what the paper says."""
    preset = PRESETS[name]
    recipe = dataclasses.replace(preset.recipe, epochs=1)
    kind = CAPTIONERS[preset.captioner]
    sizes = {"embedding_size": preset.embedding_size, "hidden_size": preset.hidden_size, "dropout": preset.dropout}
    if kind is Translator:
        data = counting_lines(tmp_path, with_sources=True)
        pair = [
            Translator(WORDS, direction=direction, source_vocabulary=WORDS, **sizes)
            for direction in ("forward", "backward")
        ]
    else:
        data, pair = counting_data(), new_pair(kind=kind, **sizes)
    (epoch,) = epochs_of(pair, data, recipe)
    assert epoch.validation > 0
    if name == "karpathy":
        assert (preset.captioner, preset.hidden_size, recipe.optimizer) == ("multimodal-rnn", 512, "rmsprop")
        assert (5 * recipe.batch_size, recipe.clip_value, recipe.clip_norm) == (100, 5.0, None)
        assert preset.dropout > 0


def test_a_training_that_diverges_is_stopped():
    data = counting_data()
    pair = new_pair()
    with torch.no_grad():
        pair[1].output.bias.fill_(torch.inf)
    training = Training(*pair, data, data, Recipe(1, learning_rate=0.25))
    with pytest.raises(ValueError, match=r"has diverged in epoch 1: .* try a lower learning rate than 0.25"):
        list(training.run())
    assert training.history == []


def test_padding_takes_no_part():
    """Short captions beside long ones count as they do alone."""
    data = counting_data()
    pair = new_pair(seed=3)
    with torch.no_grad():
        (batch,) = data.batches(2)
        together, words = Training._losses_of(pair, batch)
        alone = [Training._losses_of(pair, one) for one in data.batches(1)]
    assert words == sum(counted for _, counted in alone)
    assert together.tolist() == pytest.approx(sum(losses for losses, _ in alone).tolist(), rel=1e-5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(optimizer, after, tmp_path):
    data = counting_data()
    recipe = Recipe(4, 1, optimizer)

    def weights(pair):
        return [value.clone() for model in pair for value in model.state_dict().values()]

    whole = new_pair(dropout=0.3)
    expected = epochs_of(whole, data, recipe, seed=7)

    stopped = new_pair(dropout=0.3)
    training = Training(*stopped, data, data, recipe, seed=7)
    steps = []

    def one_step(_):
        steps.append(1)
        if len(steps) == 2 * after + 1:  # in the middle of an epoch
            raise Killed

    def until_killed():
        for _ in training.run(one_step):
            training.save(tmp_path / "checkpoint")

    with pytest.raises(Killed):
        until_killed()

    resumed = new_pair(seed=99, dropout=0.3)
    torch.rand(5)
    training = Training(*resumed, data, data, recipe, seed=7)
    training.resume(tmp_path / "checkpoint")
    assert training.history == expected[:after]
    assert training.steps_done == 2 * after
    assert list(training.run()) == expected[after:]
    assert training.history == expected
    assert all(torch.equal(one, two) for one, two in zip(weights(whole), weights(resumed), strict=True))


@pytest.mark.parametrize("kind", ["captions", "lines"])
def test_a_run_that_was_stopped_within_an_epoch(kind, tmp_path):
    """Its steps are not taken twice and none is left out: the weights are those of a run that was not stopped."""
    data = counting_data() if kind == "captions" else counting_lines(tmp_path)
    recipe = Recipe(3, 1)
    whole = new_pair(dropout=0.3, **FREE[kind])
    expected = epochs_of(whole, data, recipe, seed=7)
    steps = len(data) + 1 + len(data) // 2

    training = Training(*new_pair(dropout=0.3, **FREE[kind]), data, data, recipe, seed=7)

    def stop(_):
        if training.steps_done == steps:
            raise Killed

    with pytest.raises(Killed):
        list(training.run(stop))
    training.save(tmp_path / "checkpoint")
    list(training.run())
    resumed = new_pair(seed=99, dropout=0.3, **FREE[kind])
    again = Training(*resumed, data, data, recipe, seed=7)
    again.resume(tmp_path / "checkpoint")
    assert (again.steps_done, len(again.history)) == (steps, 1)
    list(again.run())
    assert training.history == again.history == expected
    assert again.steps_done == again.steps
    for one, two in zip(whole, resumed, strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(two.state_dict()[name], value, rtol=0, atol=0)


def test_sources_of_other_words_are_not_resumed(tmp_path):
    """The ids of the sources would mean other words."""
    (tmp_path / "lines.txt").write_text("one\none two\n")
    (tmp_path / "sources.txt").write_text("eins\neins zwei\n")

    def training(words):
        vocabulary = WordVocabulary(words)
        data = TextLines(read_lines(tmp_path / "lines.txt", tmp_path / "sources.txt").split(), WORDS, vocabulary)
        sizes = {"embedding_size": 4, "hidden_size": 4, "source_vocabulary": vocabulary}
        pair = [Translator(WORDS, direction=direction, **sizes) for direction in ("forward", "backward")]
        return Training(*pair, data, data, Recipe(2, 1))

    training(["eins", "zwei"]).save(tmp_path / "checkpoint")
    training(["eins", "zwei"]).resume(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="because the vocabulary of the sources changed since it was written"):
        training(["zwei", "eins"]).resume(tmp_path / "checkpoint")


def test_a_training_ends_early():
    """If the validation loss has not become lower for as many epochs as the patience."""
    data = counting_data()
    training = Training(*new_pair(), data, data, Recipe(30, 1, learning_rate=1e-12, patience=2))  # it learns nothing
    assert [epoch.number for epoch in training.run()] == [1, 2, 3]
    assert training.finished
    training = Training(*new_pair(), data, data, Recipe(5, 1, learning_rate=0.01, patience=2))  # it always learns
    assert len(list(training.run())) == 5
    with pytest.raises(ValueError, match="patience must be"):
        Recipe(3, patience=0)


def test_a_checkpoint_of_another_device_is_resumed(tmp_path, monkeypatch):
    """Its tensors say that they were on a device that this machine may lack."""
    data = counting_data()
    recipe = Recipe(2, 1)
    expected = epochs_of(new_pair(), data, recipe)
    training = Training(*new_pair(), data, data, recipe)
    next(training.run())
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        training.save(tmp_path / "checkpoint")
    resumed = Training(*new_pair(seed=99), data, data, recipe)
    resumed.resume(tmp_path / "checkpoint")
    assert [*resumed.history, *resumed.run()] == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_on_cuda(dropout, tmp_path):
    """Batches follow the models; a checkpoint is resumed on the same device as if nothing had been, and on the CPU."""
    data = counting_data()
    recipe = Recipe(4, 1)

    def training(device, seed=0):
        pair = [model.to(device) for model in new_pair(seed=seed, dropout=dropout)]
        return Training(*pair, data, data, recipe)

    on_cuda = training("cuda")
    epochs = []
    for epoch in on_cuda.run():
        epochs.append(epoch)
        if epoch.number == 2:
            on_cuda.save(tmp_path / "checkpoint")
    again, on_cpu = training("cuda", seed=99), training("cpu", seed=99)
    again.resume(tmp_path / "checkpoint")
    assert [one.validation for one in again.run()] == pytest.approx([one.validation for one in epochs[2:]], rel=1e-4)
    on_cpu.resume(tmp_path / "checkpoint")
    resumed = [one.validation for one in on_cpu.run()]
    assert len(resumed) == 2
    if not dropout:
        assert resumed == pytest.approx([one.validation for one in epochs[2:]], rel=1e-3)
        assert epochs[-1].validation == pytest.approx(list(training("cpu").run())[-1].validation, rel=1e-3)


def test_what_cannot_be_resumed(tmp_path):
    data = counting_data()
    recipe = Recipe(2, 1)
    path = tmp_path / "checkpoint"
    training = Training(*new_pair(), data, data, recipe)
    next(training.run())
    training.save(path)
    other = CaptionedImages(torch.eye(2) + 1, data.captions)
    words = CaptionedImages(torch.eye(2), [data.captions[0], data.captions[0]])
    changed = {
        "the settings of the training": Training(*new_pair(), data, data, Recipe(3, 1)),
        "the seed": Training(*new_pair(), data, data, recipe, seed=1),
        "the captioners": Training(*new_pair(kind=LSTMCaptioner), data, data, recipe),
        "the training data": Training(*new_pair(), other, data, recipe),
        "the validation data": Training(*new_pair(), data, words, recipe),
    }
    for what, one in changed.items():
        with pytest.raises(ValueError, match=f"cannot be resumed, because {what} changed since"):
            one.resume(path)
    again = Training(*new_pair(), data, data, recipe)
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*nothing$"):
        again.resume(tmp_path / "nothing")
    content = path.read_bytes()
    for damaged in (b"", b"some text", content[:1000], content[:-30]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checkpoint is damaged, or not a checkpoint"):
            again.resume(path)
    torch.save({"format": "another"}, path)
    with pytest.raises(ValueError, match="checkpoint is damaged, or not a checkpoint"):
        again.resume(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be a positive integer, got 0"),
        ({"epochs": 1, "batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"epochs": 1, "optimizer": "lion"}, "optimizer must be 'adam' or 'rmsprop' or 'sgd', got 'lion'"),
        ({"epochs": 1, "learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"epochs": 1, "learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
    ],
)
def test_what_is_no_recipe(settings, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


def test_losses_are_nats_per_word():
    """What training counts is what scoring says, END included, whatever stands beside it in a batch."""
    data = counting_data()
    pair = new_pair(seed=3)
    words, sums = 0, [0.0, 0.0]
    for image, captions in zip(data.images, data.captions, strict=True):
        for scored in score_sentences(Pair(*pair), image, list(captions)):
            words += len(scored.token_log_probs_forward)
            sums = [sums[0] + scored.log_prob_forward, sums[1] + scored.log_prob_backward]
    for batch_size in (1, 2):
        losses = evaluate_pair(*pair, data, batch_size)
        assert losses == pytest.approx([-one / words for one in sums], rel=1e-5)


@pytest.mark.parametrize("epochs", [1, 2, 5, 10])
def test_any_number_of_steps(epochs):
    data = counting_data()
    pair = new_pair()
    before = pair[0].output.weight.clone()
    assert len(epochs_of(pair, data, Recipe(epochs, 2))) == epochs
    assert not torch.equal(before, pair[0].output.weight)


def test_features_of_another_precision():
    data = counting_data()
    double = CaptionedImages(data.images.double(), data.captions)
    assert epochs_of(new_pair(), data, Recipe(1)) == epochs_of(new_pair(), double, Recipe(1))


def test_what_is_no_training_data():
    with pytest.raises(ValueError, match="a list of captions for each image, got 1 for 2 images"):
        CaptionedImages(torch.eye(2), [[[4]]])
    with pytest.raises(ValueError, match="image 1 has no caption"):
        CaptionedImages(torch.eye(2), [[[4]], []])
    with pytest.raises(ValueError, match="there are no images"):
        CaptionedImages(torch.zeros(0, 2), [])
    data = counting_data()
    with pytest.raises(ValueError, match="the model given as the forward one reads backward"):
        Training(*new_pair()[::-1], data, data, Recipe(1))


def test_training_is_the_same_for_the_same_seed():
    data = counting_data()
    runs = [epochs_of(new_pair(dropout=0.2), data, Recipe(3, 1), seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def scenes_data(encoder):
    scenes = make_scenes(4, seed=0, captions=2)
    vocabulary = WordVocabulary.from_captions(caption for scene in scenes for caption in scene.captions)
    pictures = torch.stack([encoder.prepare(scene.picture(16)) for scene in scenes])
    captions = [[vocabulary.encode(caption) for caption in scene.captions] for scene in scenes]
    return vocabulary, CaptionedImages(pictures, captions)


def test_an_encoder_learns_which_words_stand_together():
    torch.manual_seed(0)
    encoder = SmallCNN(16, (8, 8))
    _, data = scenes_data(encoder)
    of_steps = []
    losses = list(fit_encoder(encoder, data, epochs=40, batch_size=2, learning_rate=0.02, on_step=of_steps.append))
    assert len(losses) == 40
    assert losses == pytest.approx([(one + two) / 2 for one, two in zip(of_steps[::2], of_steps[1::2], strict=True)])
    assert losses[-1] < 0.2 * losses[0]


def test_a_shared_encoder_is_trained_by_both():
    torch.manual_seed(0)
    encoder = SmallCNN(16, (8, 2))
    vocabulary, data = scenes_data(encoder)
    data = CaptionedImages(data.images.double(), data.captions)
    pair = [
        LSTMCaptioner(
            vocabulary, direction=direction, feature_size=6, embedding_size=4, hidden_size=4, encoder=encoder
        ).double()
        for direction in ("forward", "backward")
    ]
    gradients = []
    for models in (pair, pair[:1], pair[1:]):
        encoder.zero_grad()
        losses, _ = Training._losses_of(pair, *data.batches(len(data)))
        sum(losses[pair.index(model)] for model in models).backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()])
    for both, forward, backward in zip(*gradients, strict=True):
        assert torch.allclose(both, forward + backward, atol=1e-9)
        assert forward.abs().sum() > 0
        assert backward.abs().sum() > 0
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    epoch = next(Training(*pair, data, data, Recipe(2, 2)).run())
    assert all(not torch.equal(value, before[name]) for name, value in encoder.named_parameters())
    assert not encoder.training
    assert epoch.validation == (epoch.validation_forward + epoch.validation_backward) / 2


@pytest.mark.process
def test_the_training_script(tmp_path):
    command = [sys.executable, "-W", "error", str(SCRIPT), "--scenes", "40", "--epochs", "2", "--out", "pair"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("epoch") for line in done.stdout.splitlines()) == 2
    pair = load_pair(tmp_path / "pair")
    assert [model.direction for model in (pair.forward, pair.backward)] == ["forward", "backward"]
    assert "circle" in pair.forward.vocabulary.words


@pytest.mark.process
def test_an_interrupted_training_leaves_a_pair(tmp_path):
    command = [sys.executable, "-u", str(SCRIPT), "--scenes", "40", "--epochs", "100000", "--out", "pair"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_interrupts}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as running:
        assert any("saved" in line for line in running.stdout)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    assert running.returncode == 1
    assert "interrupted; the best pair so far is in pair" in errors
    assert "Traceback" not in errors
    load_pair(tmp_path / "pair")
