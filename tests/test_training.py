"""Training a pair, and the script that trains the one that comes with the package."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from birnn_decode import score_sentences  # noqa: E402
from birnn_decode.captions import WordVocabulary, make_scenes  # noqa: E402
from birnn_decode.models import GRUCaptioner, LSTMCaptioner, SmallCNN, load_captioner  # noqa: E402
from birnn_decode.training import CaptionedImages, _losses, evaluate_pair, fit_encoder, fit_pair  # noqa: E402

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


def test_a_pair_learns_what_can_be_learnt():
    data = counting_data()
    pair = new_pair()
    steps = []
    epochs = list(
        fit_pair(*pair, data, data, epochs=60, batch_size=2, learning_rate=0.05, on_step=lambda *at: steps.append(at))
    )
    assert [epoch.number for epoch in epochs] == list(range(1, 61))
    assert steps == [(done, 60) for done in range(1, 61)]
    assert epochs[-1].validation < 0.05 < epochs[0].validation
    assert (epochs[-1].validation_forward, epochs[-1].validation_backward) == evaluate_pair(*pair, data)


def test_losses_are_nats_per_word():
    """What training counts is what scoring says, END included, whatever stands beside it in a batch."""
    data = counting_data()
    pair = new_pair(seed=3)
    words, sums = 0, [0.0, 0.0]
    for image, captions in zip(data.images, data.captions, strict=True):
        for scored in score_sentences(*pair, image, list(captions)):
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
    assert len(list(fit_pair(*pair, data, data, epochs=epochs, batch_size=2))) == epochs
    assert not torch.equal(before, pair[0].output.weight)


def test_features_of_another_precision():
    data = counting_data()
    double = CaptionedImages(data.images.double(), data.captions)
    assert list(fit_pair(*new_pair(), data, data, epochs=1)) == list(fit_pair(*new_pair(), double, double, epochs=1))


def test_what_is_no_training_data():
    with pytest.raises(ValueError, match="2 images and captions for 1: give some for each"):
        CaptionedImages(torch.eye(2), [[[4]]])
    with pytest.raises(ValueError, match="image 1 has no caption"):
        CaptionedImages(torch.eye(2), [[[4]], []])
    with pytest.raises(ValueError, match="there are no images"):
        CaptionedImages(torch.zeros(0, 2), [])
    data = counting_data()
    with pytest.raises(ValueError, match="the model given as the forward one reads backward"):
        next(fit_pair(*new_pair()[::-1], data, data, epochs=1))


def test_training_is_the_same_for_the_same_seed():
    data = counting_data()
    runs = [list(fit_pair(*new_pair(dropout=0.2), data, data, epochs=3, batch_size=1, seed=seed)) for seed in (1, 1, 2)]
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
    steps = []
    losses = list(
        fit_encoder(encoder, data, epochs=40, batch_size=2, learning_rate=0.02, on_step=lambda *at: steps.append(at))
    )
    assert len(losses) == 40
    assert steps[-1] == (80, 80)
    assert losses[-1] < 0.2 * losses[0]


def test_a_shared_encoder_is_trained_by_both():
    encoder = SmallCNN(16, (8, 2))
    vocabulary, data = scenes_data(encoder)
    pair = [
        LSTMCaptioner(vocabulary, direction=direction, feature_size=6, embedding_size=4, hidden_size=4, encoder=encoder)
        for direction in ("forward", "backward")
    ]
    gradients = []
    for models in (pair, pair[:1], pair[1:]):
        encoder.zero_grad()
        loss_f, loss_b, _ = _losses(tuple(pair), data, range(len(data)))
        sum({pair[0]: loss_f, pair[1]: loss_b}[model] for model in models).backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()])
    for both, forward, backward in zip(*gradients, strict=True):
        assert torch.allclose(both, forward + backward, atol=1e-5)
        assert forward.abs().sum() > 0
        assert backward.abs().sum() > 0
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    epoch = next(fit_pair(*pair, data, data, epochs=2, batch_size=2))
    assert all(not torch.equal(value, before[name]) for name, value in encoder.named_parameters())
    assert not encoder.training
    assert epoch.validation == (epoch.validation_forward + epoch.validation_backward) / 2


@pytest.mark.process
def test_the_training_script(tmp_path):
    command = [sys.executable, "-W", "error", str(SCRIPT), "--scenes", "40", "--epochs", "2", "--out", "pair"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("epoch") for line in done.stdout.splitlines()) == 2
    pair = [load_captioner(tmp_path / "pair" / f"scenes-{name}.safetensors") for name in ("forward", "backward")]
    assert [model.direction for model in pair] == ["forward", "backward"]
    assert "circle" in pair[0].vocabulary.words


@pytest.mark.process
def test_an_interrupted_training_leaves_a_pair(tmp_path):
    command = [sys.executable, "-u", str(SCRIPT), "--scenes", "40", "--epochs", "100000", "--out", "pair"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert any("saved" in line for line in running.stdout)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    assert running.returncode == 1
    assert "interrupted; what was saved is in pair" in errors
    assert "Traceback" not in errors
    for name in ("forward", "backward"):
        load_captioner(tmp_path / "pair" / f"scenes-{name}.safetensors")
