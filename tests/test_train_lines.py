"""The command `train` on lines of any kind."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("click")

import command  # noqa: E402
from command import command_line, run_here  # noqa: E402

from birnn_decode import decode  # noqa: E402
from birnn_decode.models import Translator, load_birnn, load_pair  # noqa: E402
from birnn_decode.vocabularies import (  # noqa: E402
    ByteVocabulary,
    CharacterVocabulary,
    Normalisation,
    SpacedVocabulary,
    SubwordVocabulary,
)

output_of = functools.partial(command.output_of, runner=run_here)
refusal_of = functools.partial(command.refusal_of, runner=run_here)

TINY = ["--hidden-size", "8", "--epochs", "1"]
NUMBERS = ["zero", "Eins", "zwei", "drei!", "vier"]


def number_line(number):
    return " ".join(NUMBERS[int(digit)] for digit in np.base_repr(number, 5))


@pytest.fixture
def files(tmp_path):
    """Numbers in words, their digits as sources, and vectors as sources."""
    lines = [number_line(number) for number in range(120)]
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "sources.txt").write_text("".join(f"{' '.join(np.base_repr(number, 5))}\n" for number in range(120)))
    np.save(tmp_path / "sources.npy", np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32))
    return tmp_path


def train(folder, *options, out="pair"):
    return output_of("train", "--lines", "lines.txt", *options, *TINY, "--out", out, folder=folder)


def tokenizer_file(folder):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=40, special_tokens=["<unk>"], show_progress=False)
    made.train([str(folder / "lines.txt")], trainer)
    made.save(str(folder / "tokenizer.json"))
    return "tokenizer.json"


@pytest.mark.parametrize("kind", ["words", "characters", "bytes", "tokenizer"])
def test_every_kind_of_tokens(kind, files):
    """Case and symbols are kept, and the vocabulary comes with the pair."""
    name = tokenizer_file(files) if kind == "tokenizer" else kind
    printed = train(files, "--tokens", name)
    models = load_pair(files / "pair")
    vocabulary = models.forward.vocabulary
    expected = {
        "words": SpacedVocabulary(sorted(NUMBERS)),
        "characters": CharacterVocabulary(sorted({*"".join(NUMBERS), " "})),
        "bytes": ByteVocabulary(),
    }
    if kind == "tokenizer":
        assert vocabulary == SubwordVocabulary.read(files / name)
    else:
        assert vocabulary == expected[kind]
    assert f"train: 113 lines, val: 4 lines; {len(vocabulary) - 4} {vocabulary.kind}" in printed
    assert decode(models, None, "Eins {1-3} drei!").best.text.startswith("Eins")


def test_normalisation_is_stored_with_the_pair(files):
    train(files, "--tokens", "words", "--lower-case", "--unicode-form", "NFC")
    vocabulary = load_pair(files / "pair").forward.vocabulary
    assert vocabulary == SpacedVocabulary(sorted(map(str.lower, NUMBERS)), Normalisation(True, "NFC"))
    assert vocabulary.decode(vocabulary.encode("EINS")) == "eins"


def test_sentences_as_sources(files):
    printed = train(files, "--tokens", "words", "--sources", "sources.txt", "--source-tokens", "characters")
    assert "translator, " in printed
    models = load_pair(files / "pair")
    assert isinstance(models.forward, Translator)
    assert models.forward.source_vocabulary == CharacterVocabulary(" 01234")
    assert decode(models, "1 2", "Eins _").best.text.startswith("Eins ")
    train(files, "--tokens", "characters", "--sources", "sources.txt", out="other")
    assert load_pair(files / "other").backward.source_vocabulary == CharacterVocabulary(" 01234")


def test_vectors_as_sources(files):
    train(files, "--tokens", "words", "--sources", "sources.npy")
    forward = load_pair(files / "pair").forward
    assert forward.feature_size == 3
    vectors = np.load(files / "sources.npy")
    torch.testing.assert_close(forward.feature_mean, torch.from_numpy(vectors.mean(axis=0)), rtol=0, atol=0.2)
    assert decode(load_pair(files / "pair"), vectors[0], "Eins _").best.text.startswith("Eins ")


def test_files_of_their_own_for_each_split(files):
    (files / "val.txt").write_text("zwei vier\nzero\n")
    lines = ["--lines", "train=lines.txt", "--lines", "val=val.txt"]
    printed = output_of("train", *lines, "--tokens", "words", *TINY, "--out", "pair", folder=files)
    assert "train: 120 lines, val: 2 lines" in printed


@pytest.mark.parametrize(
    "options", [["--kind", "birnn"], ["--captioner", "gru"], ["--precision", "bfloat16", "--half"]]
)
def test_other_kinds_of_models(options, files):
    train(files, "--tokens", "characters", *options)
    loaded = (load_birnn if "birnn" in options else load_pair)(files / "pair")
    template = decode(loaded, None, "Eins ____ drei!")
    assert len(template.best.text) == len("Eins ____ drei!")


def test_what_is_left_out_is_said(files):
    (files / "lines.txt").write_text("one two\n\n" + "one two three four\n" * 3 + "one two\n")
    (files / "val.txt").write_text("one five\n")
    given = ["--lines", "train=lines.txt", "--lines", "val=val.txt", "--tokens", "words", "--max-tokens", "3", *TINY]
    refused = refusal_of("train", *given, "--out", "pair", folder=files)
    assert "1 of 1 lines of val have tokens that the vocabulary lacks: 'five' (1). Give --unknown unk" in refused
    assert not (files / "pair").exists()
    printed = output_of("train", *given, "--unknown", "unk", "--out", "pair", folder=files)
    assert "left out: 1 empty lines" in printed
    assert "left out of train: 3 lines of more than 3 tokens" in printed
    assert "1 of 1 lines of val have tokens that the vocabulary lacks: 'five' (1); they are UNK" in printed
    assert "train: 2 lines, val: 1 lines" in printed


def test_min_count(files):
    (files / "lines.txt").write_text("a b\n" * 30 + "a c\n" + "".join(f"a b {'a ' * n}\n" for n in range(40)))
    refused = refusal_of(
        "train", "--lines", "lines.txt", "--tokens", "words", "--min-count", "2", *TINY, "--out", "pair", folder=files
    )
    assert "'c' (1)" in refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--tokens is missing: give words, characters, bytes, or a tokenizer.json"),
        (["--tokens", "syllables"], "--tokens syllables: give words, characters, bytes, or a tokenizer.json"),
        (["--tokens", "no.json"], "no.json is not a tokenizer file: give a tokenizer.json"),
        (["--tokens", "words", "--sources", "short.txt"], "lines.txt has 120 lines, and short.txt has 2 sources"),
        (["--tokens", "words", "--sources", "latin.txt"], "latin.txt is not text in UTF-8: byte 0xe9 in line 2"),
        (["--tokens", "words", "--sources", "none.txt"], "there is no file none.txt"),
        (["--tokens", "words", "--captions", "x.json", "--no-image"], "give one of --captions and --lines"),
        (["--tokens", "words", "--features", "x.npz"], "--features does not go with --lines"),
        (["--tokens", "words", "--encoder", "efficientnet-lite0"], "--encoder goes with images"),
        (["--tokens", "words", "--lines", "val=lines.txt"], "--lines: give one FILE that is divided, or a SPLIT=FILE"),
        (["--tokens", "words", "--max-tokens", "0"], "--max-tokens"),
        (["--tokens", "words", "--sources", "train=sources.txt"], "--sources FILE is missing"),
        (["--tokens", "words", "--sources", "sources.npy", "--source-tokens", "words"], "--source-tokens goes with"),
        (["--tokens", "words", "--preset", "translator"], "if --sources are sentences, and only then"),
        (
            ["--tokens", "words", "--sources", "sources.txt", "--kind", "birnn"],
            "leave out --preset, --captioner and --kind",
        ),
    ],
)
def test_bad_input(options, said, files):
    """One line, nothing written."""
    (files / "no.json").write_text("{}")
    (files / "short.txt").write_text("a\nb\n")
    (files / "latin.txt").write_bytes("a\ncafé\n".encode("latin-1"))
    before = sorted(file.name for file in files.iterdir())
    assert said in refusal_of("train", "--lines", "lines.txt", *options, *TINY, "--out", "pair", folder=files)
    assert sorted(file.name for file in files.iterdir()) == before


def test_a_split_without_a_file(files):
    given = ["--lines", "train=lines.txt", "--tokens", "words", *TINY, "--out", "pair"]
    assert "--lines val=FILE is missing: give a FILE for each split, or one FILE" in refusal_of(
        "train", *given, folder=files
    )


@pytest.mark.parametrize(("name", "said"), [("val.npy", "vectors of 2 numbers"), ("val.txt", "sentences")])
def test_sources_of_two_kinds(name, said, files):
    np.save(files / "val.npy", np.zeros((120, 2)))
    (files / "val.txt").write_text("a\n" * 120)
    given = ["--lines", "train=lines.txt", "--lines", "val=lines.txt", "--tokens", "words", *TINY, "--out", "pair"]
    sources = ["--sources", "train=sources.npy", "--sources", f"val={name}"]
    assert f"the sources of train are vectors of 3 numbers, and those of val are {said}: give the same kind" in (
        refusal_of("train", *given, *sources, folder=files)
    )


@pytest.mark.parametrize("options", [["--tokens", "words"], ["--source-tokens", "bytes"], ["--lower-case"]])
def test_options_of_lines_do_not_go_with_captions(options, files):
    refused = refusal_of("train", "--captions", "x.json", "--no-image", *options, "--out", "pair", folder=files)
    assert f"{options[0]} goes with --lines: leave {options[0]} out with --captions" in refused


def test_without_the_package_for_subwords(files, monkeypatch):
    (files / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    given = ["train", "--lines", "lines.txt", "--tokens", "tokenizer.json", *TINY, "--out", "pair"]
    assert "the extra birnn_decode[tokenizers] brings it" in refusal_of(*given, folder=files)


def test_kernels_of_few_shapes_are_kept(files, monkeypatch):
    """With bfloat16, oneDNN's caches would take gigabytes. What the user has set stays."""
    caches = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    for cache in caches:
        monkeypatch.setenv(cache, "")  # so that it is as before after the test
        monkeypatch.delenv(cache)
    train(files, "--tokens", "words")
    assert not os.environ.keys() & set(caches)
    monkeypatch.setenv(caches[1], "7")
    train(files, "--tokens", "words", "--precision", "bfloat16", out="other")
    assert [os.environ[cache] for cache in caches] == ["64", "7"]


@pytest.mark.process
def test_an_interruption_within_an_epoch_loses_nothing(files):
    """The epoch goes on where it was, and the model is the one of a training that was not interrupted."""
    (files / "lines.txt").write_text("".join(f"{number_line(number)}\n" for number in range(6000)))
    (files / "val.txt").write_text(number_line(99) + "\n")
    lines = ["--lines", "train=lines.txt", "--lines", "val=val.txt", "--tokens", "characters"]
    given = ["train", *lines, "--hidden-size", "16", "--epochs", "1"]
    program = (
        "import os, signal\n"
        "from birnn_decode import training\n"
        "calls, loss = [], training._loss\n"
        "def interrupted(*given):\n"
        "    calls.append(given)\n"
        "    if len(calls) == 41: os.kill(os.getpid(), signal.SIGINT)\n"  # in the middle of step 21
        "    return loss(*given)\n"
        "training._loss = interrupted\n"
        "from birnn_decode.cli import main\n"
        "main()\n"
    )
    line = [command_line()[0], "-c", program, *given, "--out", "stopped"]
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, cwd=files, preexec_fn=command.heed_interrupts
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted: stopped holds the pair as it is; --resume continues\n"
    steps = torch.load(files / "stopped.checkpoint", weights_only=True)["steps_done"]
    assert steps == 21
    output_of(*given, "--out", "stopped", "--resume", folder=files)
    output_of(*given, "--out", "whole", folder=files)
    assert (files / "stopped").read_bytes() == (files / "whole").read_bytes()
    losses = [(files / f"{name}.csv").read_text().splitlines() for name in ("stopped", "whole")]
    assert [line.rpartition(",")[0] for line in losses[0]] == [line.rpartition(",")[0] for line in losses[1]]


def test_the_words_of_the_progress_bar(files, monkeypatch):
    """Loss and speed are shown while it runs."""
    from birnn_decode.cli import training

    shown, read = [], []

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def add_task(self, *_, **__):
            return 0

        def advance(self, _):
            read.append(len(shown))

        def update(self, _, **what):
            shown.append(json.dumps(what))

    monkeypatch.setattr(training, "progress", Bar)
    train(files, "--tokens", "words")
    assert read == [0] * 4  # passes over the lines, before the training
    assert len(shown) == 2
    assert all("epoch 1, loss " in one and " words/s" in one for one in shown)
