"""Pairs of captioners on file."""

import json
import resource
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from test_captioners import FEATURES, KINDS, WORDS, captioner, images, pair  # noqa: E402

from birnn_decode import Pair, score_sentences  # noqa: E402
from birnn_decode.captions import WordVocabulary, make_scene  # noqa: E402
from birnn_decode.files import write_whole  # noqa: E402
from birnn_decode.models import GRUCaptioner, LSTMCaptioner, SmallCNN, load_pair, save_pair  # noqa: E402
from birnn_decode.vocabularies import (  # noqa: E402
    ByteVocabulary,
    CharacterVocabulary,
    Normalisation,
    SpacedVocabulary,
)

FORMAT = "birnn_decode pair 1"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sees", ["features", "pictures", "nothing"])
def test_what_is_saved_is_loaded(kind, sees, tmp_path):
    encoder = SmallCNN(pixels=16, channels=(8, FEATURES // 3)) if sees == "pictures" else None
    models = pair(kind, dropout=0.25, encoder=encoder, feature_size=0 if sees == "nothing" else FEATURES)
    if sees != "nothing":
        for model in models:
            model.standardise(torch.randn(5, FEATURES).double())
    path = tmp_path / "pair.safetensors"
    path.write_text("what was there before")
    save_pair(*models, path)
    assert [file.name for file in tmp_path.iterdir()] == ["pair.safetensors"]
    random = torch.get_rng_state()
    loaded = load_pair(path)
    assert torch.equal(torch.get_rng_state(), random)
    image = {"features": images()[0], "pictures": make_scene(0, 0).picture(), "nothing": None}[sees]
    for before, after in zip(models, (loaded.forward, loaded.backward), strict=True):
        assert type(after) is kind
        assert after.config == before.config
        assert after.vocabulary == WORDS
        assert not after.training
        assert all(parameter.requires_grad for parameter in after.parameters())
    both = (Pair(*models), loaded)
    ((expected,), (scored,)) = (score_sentences(two, image, ["a girl and wind"]) for two in both)
    assert scored == expected
    assert loaded.forward.encoder is loaded.backward.encoder
    assert (loaded.forward.encoder is None) == (encoder is None)


def test_a_shared_encoder_is_saved_once(tmp_path):
    sizes = {}
    for name, encoder in (("without", None), ("with", SmallCNN(pixels=16, channels=(64, FEATURES // 3)))):
        save_pair(*pair(GRUCaptioner, encoder=encoder), tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
    weights = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    assert weights < sizes["with"] - sizes["without"] < 1.2 * weights


def test_a_loaded_pair_is_independent_of_its_file(tmp_path):
    first, second = pair(GRUCaptioner), pair(GRUCaptioner)
    with torch.no_grad():
        second[0].output.weight += 1
    save_pair(*first, tmp_path / "first")
    save_pair(*second, tmp_path / "second")
    save_pair(*first, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "first").read_bytes()
    loaded = load_pair(tmp_path / "first")
    with (tmp_path / "first").open("r+b") as file:  # in place
        file.write((tmp_path / "second").read_bytes())
    assert torch.equal(loaded.forward.output.weight, first[0].output.weight)


def test_a_saved_file_has_the_usual_permissions(tmp_path):
    save_pair(*pair(GRUCaptioner), tmp_path / "pair")
    (tmp_path / "file").touch()
    assert (tmp_path / "pair").stat().st_mode == (tmp_path / "file").stat().st_mode


@pytest.mark.process
def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The process may not write files of more than 100 bytes: as on a full disk, writing fails half way."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = "from birnn_decode.files import write_whole; import sys; write_whole(sys.argv[1], b'x' * 1000)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )
    assert f"OSError: cannot write {path}: File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write .*: there is no folder .*nowhere"):
        write_whole(tmp_path / "nowhere" / "file", b"")
    with pytest.raises(OSError, match=r"cannot write .*: Is a directory"):
        write_whole(tmp_path, b"")


def test_what_is_no_pair(tmp_path):
    forward, backward = pair(GRUCaptioner)
    with pytest.raises(
        ValueError, match="captioners of a pair must read forward and backward, but they read backward and forward"
    ):
        save_pair(backward, forward, tmp_path / "pair")
    other = GRUCaptioner(WordVocabulary(["a"]), direction="backward", feature_size=FEATURES)
    with pytest.raises(ValueError, match="of a pair must have the same words at the same ids"):
        save_pair(forward, other, tmp_path / "pair")
    seeing = [captioner(GRUCaptioner, direction, encoder=SmallCNN(16, (2,))) for direction in ("forward", "backward")]
    with pytest.raises(ValueError, match="of a pair must share one image encoder, but each has its own"):
        save_pair(*seeing, tmp_path / "pair")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_pair(tmp_path / "missing")
    for content in (b"", b"something else, of some length", b"\xff" * 64):
        (tmp_path / "text").write_bytes(content)
        with pytest.raises(ValueError, match="text is not a model file"):
            load_pair(tmp_path / "text")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other.safetensors is a safetensors file, but does not hold a pair of captioners"
    ):
        load_pair(tmp_path / "other.safetensors")
    models = pair(GRUCaptioner)
    about = {"forward": models[0].config, "backward": models[1].config, "encoder": None, "words": WORDS.words[4:]}
    good = json.dumps(about)
    for text in ("{}", "no json", good, good.replace('"gru"', '"other"'), good.replace("null", '{"kind": "cnn"}')):
        save_file({"weight": torch.zeros(2)}, tmp_path / "damaged", {FORMAT: text})
        with pytest.raises(ValueError, match="damaged is damaged: its weights, words and"):
            load_pair(tmp_path / "damaged")
    with pytest.raises(IsADirectoryError, match="is a folder, not a model file"):
        load_pair(tmp_path)


def test_only_weights_and_words_are_in_the_file(tmp_path):
    """Loading runs nothing that the file says: tensors and JSON."""
    save_pair(*pair(LSTMCaptioner), tmp_path / "pair")
    content = (tmp_path / "pair").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(json.loads(header.pop("__metadata__")[FORMAT])) == {
        "forward",
        "backward",
        "encoder",
        "vocabulary",
        "source_vocabulary",
    }
    assert {name.split(".")[0] for name in header} == {"forward", "backward"}


def test_files_of_earlier_versions_with_their_words_alone(tmp_path):
    """A file may name its words without the kind of vocabulary: then they are words of captions."""
    save_pair(*pair(LSTMCaptioner), tmp_path / "pair")
    content = (tmp_path / "pair").read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:size])
    about = json.loads(header["__metadata__"][FORMAT])
    about["words"] = about.pop("vocabulary")["tokens"]
    del about["source_vocabulary"]
    header["__metadata__"][FORMAT] = json.dumps(about)
    changed = json.dumps(header).encode()
    (tmp_path / "old").write_bytes(len(changed).to_bytes(8, "little") + changed + content[size:])
    assert load_pair(tmp_path / "old").forward.vocabulary == WORDS


def test_half_precision(tmp_path):
    models = pair(LSTMCaptioner)
    save_pair(*models, tmp_path / "whole")
    save_pair(*models, tmp_path / "half", half=True)
    assert (tmp_path / "half").stat().st_size < 0.7 * (tmp_path / "whole").stat().st_size
    loaded = load_pair(tmp_path / "half").forward
    for name, weights in models[0].state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], weights.half().float(), rtol=0, atol=0)


def test_half_precision_keeps_the_scale_of_features(tmp_path):
    """The numbers may be outside of the range of half precision."""
    models = pair(LSTMCaptioner)
    for model in models:
        model.standardise(torch.tensor([[1e-9], [1e6]]) * torch.randn(2, model.feature_size))
    save_pair(*models, tmp_path / "half", half=True)
    loaded = load_pair(tmp_path / "half").forward
    torch.testing.assert_close(loaded.feature_mean, models[0].feature_mean.float(), rtol=0, atol=0)
    torch.testing.assert_close(loaded.feature_scale, models[0].feature_scale.float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "vocabulary",
    [
        CharacterVocabulary("(=)COc1"),
        SpacedVocabulary(["Ein", "Hund", "."], Normalisation(unicode_form="NFC")),
        ByteVocabulary(Normalisation(lower_case=True)),
    ],
    ids=lambda vocabulary: vocabulary.kind,
)
def test_every_kind_of_vocabulary_is_saved(vocabulary, tmp_path):
    sizes = {"feature_size": 0, "embedding_size": 4, "hidden_size": 4}
    save_pair(*(GRUCaptioner(vocabulary, direction=one, **sizes) for one in ("forward", "backward")), tmp_path / "pair")
    models = load_pair(tmp_path / "pair")
    assert models.forward.vocabulary == models.backward.vocabulary == vocabulary
    assert models.forward.vocabulary.normalisation == vocabulary.normalisation
