"""The commands with models that were trained on lines: evaluate, curves, fill, compare and caption."""

import csv
import functools
import json
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("click")

import command
import torch
from command import run_here

from birnn_decode import compare
from birnn_decode.captions import middle_blank
from birnn_decode.models import BiRNN, LSTMCaptioner, Translator, load_pair, save_birnn, save_pair
from birnn_decode.vocabularies import (
    ByteVocabulary,
    CharacterVocabulary,
    SpacedVocabulary,
)

output_of = functools.partial(command.output_of, runner=run_here)
refusal_of = functools.partial(command.refusal_of, runner=run_here)

MOLECULES = ["CC(=O)O", "CCO", "C1CC1", "CC(C)=O", "OCC(=O)N", "c1ccccc1", "CC#N", "NCC=O", "CC(=O)NC", "C=CC=O"]
GERMAN = ["ein Hund schläft .", "Zwei Männer , die laufen", "ein Mann läuft .", "der Hund läuft"]
ENGLISH = ["a dog sleeps .", "Two men , who walk", "a man walks .", "the dog walks"]
FEW = ["--methods", "rerank,bscd", "--beam-size", "3"]


PROGRAMS = os.environ["PATH"]


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """METEOR takes seconds to start."""
    monkeypatch.setenv("PATH", "/nowhere")


def some(text):
    """The check of the file mine.py."""
    return sum(map(ord, text)) % 4 == 1


VOCABULARIES = {
    "characters": CharacterVocabulary("()=#123CONcn"),
    "bytes": ByteVocabulary(),
    "words": SpacedVocabulary(sorted({word for line in ENGLISH for word in line.split()})),
}


def small_pair(vocabulary, kind=LSTMCaptioner, **settings):
    torch.manual_seed(1)
    sizes = {"embedding_size": 6, "hidden_size": 6, **settings}
    return [kind(vocabulary, direction=way, **sizes) for way in ("forward", "backward")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Saved pairs that nobody has trained, and files of lines and of sources."""
    folder = tmp_path_factory.mktemp("lines")
    for name, vocabulary in VOCABULARIES.items():
        save_pair(*small_pair(vocabulary, feature_size=0), folder / name)
    save_pair(*small_pair(VOCABULARIES["words"], feature_size=4), folder / "vectors")
    (folder / "test.smi").write_text("".join(f"{line}\n" for line in MOLECULES))
    (folder / "test.en").write_text("".join(f"{line}\n" for line in ENGLISH))
    (folder / "test.de").write_text("".join(f"{line}\n" for line in GERMAN))
    np.save(folder / "four.npy", np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32))
    np.save(folder / "five.npy", np.zeros((4, 5), dtype=np.float32))
    (folder / "mine.py").write_text(
        "def some(text): return sum(map(ord, text)) % 4 == 1\n"
        "def odd(text): return 'odd'\n"
        "def failing(text): raise RuntimeError('no such molecule')\n"
        "number = 5\n"
    )
    return folder


def figures_of(folder):
    with (folder / "figures.csv").open(newline="") as file:
        return {
            (row["blank"], row["method"], row["minus"], row["metric"]): float(row["value"])
            for row in csv.DictReader(file)
        }


def answers_of(folder, kind, method="bscd"):
    return json.loads((folder / f"answers-{kind}-{method}.json").read_text())


def test_blanks_in_lines_of_characters(files, tmp_path):
    """The figures are those of the library, and answers are the line with other characters in its middle."""
    given = ["--lines", "test=test.smi", "--model", "characters", "--blank", "0.5", *FEW, "--out", tmp_path / "out"]
    printed = output_of("evaluate", *given, folder=files)
    name = "50% of the characters, width known"
    assert f"{name}: 10 questions" in printed
    assert "95 % interval over lines" in printed
    for word in ("BLEU", "METEOR", "image", "caption", "left out"):
        assert word not in printed
    vocabulary, models = VOCABULARIES["characters"], load_pair(files / "characters")
    truths = [vocabulary.encode(line) for line in MOLECULES]
    templates = [middle_blank(truth, 0.5) for truth in truths]
    found = compare(models, [None] * len(MOLECULES), templates, ["rerank", "bscd"], beam_size=3)
    figures = figures_of(tmp_path / "out")
    for method in ("rerank", "bscd"):
        best = [own[method].best for own in found]
        joint = np.mean([one.joint for one in best])
        assert figures[name, method, "", "J"] == pytest.approx(joint)
        right = [
            [a == b for a, b, position in zip(one.tokens, truth, template.fixed()[0].positions, strict=True)
             if not isinstance(position, int)]
            for one, truth, template in zip(best, truths, templates, strict=True)
        ]  # fmt: skip
        assert figures[name, method, "", "words right"] == pytest.approx(np.mean(np.concatenate(right)))
        answers = answers_of(tmp_path / "out", "50-percent-of-the-characters-width-known", method)
        assert [one["caption"] for one in answers] == [vocabulary.decode(one.tokens) for one in best]
        assert [one["truth"] for one in answers] == MOLECULES
        assert [one["image_id"] for one in answers] == list(range(1, 11))


def test_a_file_is_divided(files, tmp_path):
    lines = [f"C{'C' * (number % 7)}O{'N' * (number // 7)}" for number in range(200)]
    (tmp_path / "all.smi").write_text("".join(f"{line}\n\n" for line in lines))
    given = ["--lines", tmp_path / "all.smi", "--model", "characters", "--blank", "0.3", "--methods", "rerank"]
    out = ["--split", "val", "--out", tmp_path / "out"]
    printed = output_of("evaluate", *given, *out, folder=files)
    assert "left out: 200 empty lines" in printed
    answers = answers_of(tmp_path / "out", "30-percent-of-the-characters-width-known", "rerank")
    assert 3 <= len(answers) <= 20
    assert all(lines[one["image_id"] // 2] == one["truth"] for one in answers)


def test_characters_that_the_model_lacks(files, tmp_path):
    """Around the blank they are written as they are; a line with one in its blank is left out."""
    (tmp_path / "own.smi").write_text("ßCCO\nCßCC\nC C%O\n")
    given = ["--lines", f"test={tmp_path / 'own.smi'}", "--model", "characters", "--blank", "0.3", *FEW]
    printed = output_of("evaluate", *given, "--out", tmp_path / "out", folder=files)
    assert "left out of the split: 2 sentences with a character in the blank that the vocabulary lacks" in printed
    (answer,) = answers_of(tmp_path / "out", "30-percent-of-the-characters-width-known")
    assert answer["truth"] == "ßCCO"
    assert (answer["caption"][0], len(answer["caption"])) == ("ß", 4)


@pytest.mark.parametrize("model", ["characters", "words"])
def test_whole_lines(model, files, tmp_path):
    """They may be as long as the longest line, which says nothing about any of them."""
    lines, name = ([*MOLECULES, "C" * 45], "long.smi") if model == "characters" else (ENGLISH, "long.en")
    (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    given = ["--lines", f"test={tmp_path / name}", "--model", model, "--blank", "whole", *FEW]
    printed = output_of("evaluate", *given, "--out", tmp_path / "out", folder=files)
    assert f"whole lines: {len(lines)} questions" in printed
    answers = answers_of(tmp_path / "out", "whole-lines")
    assert [one["image_id"] for one in answers] == list(range(1, len(lines) + 1))
    most = 45 if model == "characters" else 30
    assert f"|lengths:0-{most}|" in answers[0]["signature"]


def test_words_have_the_metrics_of_words(files):
    pytest.importorskip("pycocoevalcap")
    given = ["--lines", "test=test.en", "--model", "words", "--blank", "0.5", *FEW]
    printed = output_of("evaluate", *given, folder=files)
    assert "50% of the words, width known: 4 questions" in printed
    assert "BLEU-4" in printed
    assert "METEOR is left out" in printed


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs java")
@pytest.mark.usefixtures("small_meteor")
def test_with_java_the_metrics_have_meteor(files, tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", PROGRAMS)
    given = ["--lines", "test=test.en", "--model", "words", "--blank", "0.5", *FEW, "--out", tmp_path / "out"]
    assert "left out" not in output_of("evaluate", *given, folder=files)
    assert 0 < figures_of(tmp_path / "out")["50% of the words, width known", "bscd", "", "METEOR"] < 1


def test_feature_vectors_are_sources(files, tmp_path):
    given = ["--lines", "test=test.en", "--sources", "test=four.npy", "--model", "vectors", "--blank", "0.5", *FEW]
    output_of("evaluate", *given, "--out", tmp_path / "out", folder=files)
    models, vectors = load_pair(files / "vectors"), np.load(files / "four.npy")
    templates = [middle_blank(VOCABULARIES["words"].encode(line), 0.5) for line in ENGLISH]
    found = compare(models, list(vectors), templates, ["bscd"], beam_size=3)
    joint = figures_of(tmp_path / "out")["50% of the words, width known", "bscd", "", "J"]
    assert joint == pytest.approx(np.mean([own["bscd"].best.joint for own in found]))


def test_a_birnn_of_lines(files, tmp_path):
    save_birnn(BiRNN(*small_pair(VOCABULARIES["characters"], feature_size=0)), tmp_path / "birnn")
    given = ["--lines", "test=test.smi", "--birnn", tmp_path / "birnn", "--blank", "0.5", "--methods", "birnn-bscd"]
    assert "50% of the characters, width known: 10 questions" in output_of("evaluate", *given, folder=files)


def test_a_check_of_finished_sentences(files, tmp_path):
    given = ["--lines", "test=test.smi", "--model", "characters", "--blank", "0.5", *FEW]
    printed = output_of("evaluate", *given, "--check", "mine.py:some", "--out", tmp_path / "out", folder=files)
    assert "valid in B" in printed
    name, figures = "50% of the characters, width known", figures_of(tmp_path / "out")
    templates = [middle_blank(VOCABULARIES["characters"].encode(line), 0.5) for line in MOLECULES]
    found = compare(load_pair(files / "characters"), [None] * 10, templates, ["rerank", "bscd"], beam_size=3)
    for method in ("rerank", "bscd"):
        passed = [[some(one.text) for one in own[method].hypotheses] for own in found]
        assert 0 < np.mean([own[0] for own in passed]) < np.mean(list(map(any, passed))) < 1
        assert figures[name, method, "", "valid"] == pytest.approx(np.mean([own[0] for own in passed]))
        assert figures[name, method, "", "valid in B"] == pytest.approx(np.mean(list(map(any, passed))))
    for metric in ("valid", "valid in B"):
        difference = figures[name, "bscd", "", metric] - figures[name, "rerank", "", metric]
        assert figures[name, "bscd", "rerank", metric] == pytest.approx(difference)
    assert "valid" not in output_of("evaluate", *given, folder=files)


def test_curves_of_lines(files, tmp_path):
    pytest.importorskip("matplotlib")
    more = ["--beam-sizes", "1,2", "--beam-size", "2", "--rounds", "1", "--budgets", "1", "--limit", "4"]
    given = ["--lines", "test=test.smi", "--model", "characters", *more, "--out", tmp_path / "curves"]
    assert "curves.csv and 10 pictures are in" in output_of("curves", *given, folder=files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --captions and --lines"),
        (["--lines", "test=test.smi", "--captions", "x.json"], "give one of --captions and --lines"),
        (["--lines", "test=test.smi", "--no-image"], "--no-image does not go with --lines: leave --no-image out"),
        (["--lines", "test=test.smi", "--features", "x.npz"], "--features does not go with --lines"),
        (["--lines", "test=test.smi", "--images", "."], "--images does not go with --lines"),
        (["--lines", "test=test.smi", "--list", "test=a"], "--list does not go with --lines"),
        (["--captions", "x.json", "--sources", "test.de"], "--sources does not go with --captions"),
        (["--lines", "val=test.smi"], "--lines test=FILE is missing"),
        (["--lines", "test=none.smi"], "there is no file none.smi"),
        (["--lines", "test=test.smi", "--sources", "test=test.de"], "test.smi has 10 lines, and test.de has 4 sources"),
        (["--lines", "test=test.en", "--sources", "test=test.de"], "with no sources, but got source sentences: see "),
        (["--lines", "test=test.en", "--sources", "test=four.npy"], "with no sources, but got feature vectors of 4"),
        (["--lines", "test=test.en", "--model", "vectors"], "with feature vectors of 4 numbers, but got no sources"),
        (["--lines", "test=test.en", "--model", "vectors", "--sources", "test=five.npy"], "got feature vectors of 5"),
        (["--lines", "test=test.en", "--model", "vectors", "--sources", "test=test.de"], "but got source sentences"),
        (["--lines", "test=test.de"], "knows only 14% of the characters of these lines: it was trained on other lines"),
        (["--lines", "test=test.smi", "--min-words", "50"], "no sentence is left to ask about: 10 sentences of"),
        (["--lines", "test=test.smi", "--check", "mine"], "mine: write module:function, or file.py:function"),
        (["--lines", "test=test.smi", "--check", "none.py:valid"], "there is no file none.py"),
        (["--lines", "test=test.smi", "--check", "nonesuch:valid"], "there is no module nonesuch"),
        (["--lines", "test=test.smi", "--check", "mine.py:number"], "mine.py has no function number"),
        (["--lines", "test=test.smi", "--check", "mine.py:failing"], "mine.py:failing raised RuntimeError: no such"),
        (["--lines", "test=test.smi", "--check", "mine.py:odd"], "returned 'odd' for "),
    ],
)  # fmt: skip
def test_refusals_of_an_evaluation(arguments, message, files):
    model = [] if "--model" in arguments else ["--model", "characters"]
    blank = ["--blank", "0.5", "--methods", "rerank", "--limit", "2"]
    assert message in refusal_of("evaluate", *arguments, *model, *blank, folder=files)


def test_filling_a_molecule(files):
    answer = json.loads(output_of("fill", "-", "CC(=O)_C", "--model", "characters", "--json", folder=files))
    (found,) = compare(load_pair(files / "characters"), None, ["CC(=O)_C"], ["bscd"])
    assert (answer["source"], answer["template"]) == ("-", "CC(=O)_C")
    texts = [one["text"] for one in answer["methods"]["bscd"]["hypotheses"]]
    assert texts == [one.text for one in found["bscd"].hypotheses]
    assert all(len(text) == 8 for text in texts)


def test_a_feature_vector_is_a_source(files, tmp_path):
    vector = np.load(files / "four.npy")[1]
    np.save(tmp_path / "one.npy", vector)
    given = [tmp_path / "one.npy", "--model", "vectors", "--json"]
    answer = json.loads(output_of("fill", given[0], "a _ _ .", *given[1:], folder=files))
    (found,) = compare(load_pair(files / "vectors"), vector, ["a _ _ ."], ["bscd"])
    assert answer["methods"]["bscd"]["hypotheses"][0]["joint"] == pytest.approx(found["bscd"].best.joint)
    answer = json.loads(output_of("caption", *given, folder=files))
    whole = compare(load_pair(files / "vectors"), vector, None, ["bscd"])["bscd"]
    assert answer["template"] is None
    assert answer["methods"]["bscd"]["hypotheses"][0]["text"] == whole.best.text


class TestTranslators:
    """Models of a source text."""

    @pytest.fixture(scope="class")
    @staticmethod
    def pair(files):
        source = SpacedVocabulary(sorted({word for line in GERMAN for word in line.split()}))
        made = small_pair(VOCABULARIES["words"], Translator, source_vocabulary=source)
        save_pair(*made, files / "translator")
        return load_pair(files / "translator")

    def test_evaluating(self, pair, files, tmp_path):
        given = ["--lines", "test=test.en", "--sources", "test=test.de", "--model", "translator"]
        asked = ["--blank", "0.5,whole", *FEW, "--out", tmp_path / "out"]
        printed = output_of("evaluate", *given, *asked, folder=files)
        assert "whole lines: 4 questions" in printed
        templates = [middle_blank(VOCABULARIES["words"].encode(line), 0.5) for line in ENGLISH]
        for kind, own in (("50% of the words, width known", templates), ("whole lines", [None] * 4)):
            found = compare(pair, GERMAN, own, ["bscd"], beam_size=3)
            joint = figures_of(tmp_path / "out")[kind, "bscd", "", "J"]
            assert joint == pytest.approx(np.mean([one["bscd"].best.joint for one in found]))

    def test_one_sentence(self, pair, files):
        whole = compare(pair, GERMAN[2], None, ["bscd"])["bscd"]
        answer = json.loads(output_of("caption", GERMAN[2], "--model", "translator", "--json", folder=files))
        assert answer["source"] == GERMAN[2]
        assert answer["methods"]["bscd"]["hypotheses"][0]["text"] == whole.best.text
        printed = output_of("compare", GERMAN[2], "a _ walks .", "--model", "translator", folder=files)
        assert "urnn-f" in printed

    @pytest.mark.usefixtures("pair")
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["fill", "-", "a _"], "this model needs a source sentence: - is for models that were trained without s"),
            (["fill", " ", "a _"], "give a source of at least one word"),
            (["evaluate", "--lines", "test=test.en"], "with source sentences, but got no sources: see --sources"),
            (["evaluate", "--lines", "test=test.en", "--sources", "test=four.npy"], "but got feature vectors of 4 num"),
        ],
    )
    def test_refusals(self, arguments, message, files):
        assert message in refusal_of(*arguments, "--model", "translator", folder=files)


class TestTemplates:
    """A file of templates."""

    TEMPLATES = ("CC_O", "C{1-3}O", "C1_C_1", "(=O)__")

    @pytest.fixture(scope="class")
    @staticmethod
    def expected(files):
        return compare(load_pair(files / "characters"), None, list(TestTemplates.TEMPLATES), ["bscd"])

    def test_one_line_for_each(self, expected, files, tmp_path):
        (tmp_path / "some.txt").write_text("".join(f"{one}\n" for one in self.TEMPLATES))
        given = ["fill", "-", "--templates", tmp_path / "some.txt", "--model", "characters"]
        texts = [own["bscd"].best.text for own in expected]
        assert output_of(*given, folder=files).splitlines() == texts
        answers = json.loads(output_of(*given, "--json", folder=files))["answers"]
        assert [one["methods"]["bscd"]["hypotheses"][0]["text"] for one in answers] == texts
        assert all(len(one["methods"]["bscd"]["hypotheses"]) == 5 for one in answers)

    @pytest.mark.parametrize(
        ("lines", "more", "message"),
        [
            ("CC_O\n", ["CC_"], "give TEMPLATE or --templates FILE, one of them"),
            ("CC_O\nC{x}\n", [], "some.txt, line 2: cannot read '{x}' in the template"),
            ("CC_O\n\n", [], "some.txt, line 2"),
            ("CCß_\n", [], "some.txt, line 1: the vocabulary lacks the character 'ß'"),
            ("", [], "some.txt is empty"),
            (None, [], "there is no file of templates "),
        ],
    )
    def test_refusals(self, lines, more, message, files, tmp_path):
        if lines is not None:
            (tmp_path / "some.txt").write_text(lines)
        given = ["fill", "-", *more, "--templates", tmp_path / "some.txt", "--model", "characters"]
        assert message in refusal_of(*given, folder=files)


class TestAccepting:
    """A check of finished sentences decides which of them come first."""

    @pytest.mark.parametrize("command", [["fill", "-", "CC__C"], ["compare", "-", "CC__C"], ["caption", "-"]])
    def test_accepted_ones_come_first(self, command, files):
        given = [*command, "--model", "characters", "--accept", "mine.py:some", "--json"]
        hypotheses = json.loads(output_of(*given, folder=files))["methods"]["bscd"]["hypotheses"]
        passed = [some(one["text"]) for one in hypotheses]
        assert passed[0]
        assert passed == sorted(passed, reverse=True)
        assert [one["broken"] == [] for one in hypotheses] == passed
        assert {*hypotheses[-1]["broken"]} <= {"accept:some"}

    def test_evaluating(self, files, tmp_path):
        """More best answers pass than without, and no fewer than pass among the B best found."""
        given = ["--lines", "test=test.smi", "--model", "characters", "--blank", "0.5", *FEW, "--check", "mine.py:some"]
        figures = []
        for name, more in (("plain", []), ("accepting", ["--accept", "mine.py:some"])):
            output_of("evaluate", *given, *more, "--out", tmp_path / name, folder=files)
            figures.append(figures_of(tmp_path / name))
        valid = "50% of the characters, width known", "bscd", "", "valid"
        in_top = (*valid[:3], "valid in B")
        assert figures[0][valid] < figures[0][in_top] <= figures[1][valid] == figures[1][in_top]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fill", "-"], "give TEMPLATE or --templates FILE, one of them"),
        (["fill", "-", "CßC_"], "the vocabulary lacks the character 'ß' (U+00DF; it has 12 characters)"),
        (["fill", "CC", "CC_"], "the model was trained without sources: write - in place of SOURCE"),
        (["fill", "-", "CC_", "--accept", "mine"], "mine: write module:function, or file.py:function"),
        (["caption", "-", "--accept", "none.py:valid"], "there is no file none.py"),
        (["compare", "-", "CC_", "--accept", "mine.py:number"], "mine.py has no function number"),
        (["fill", "-", "a _", "--model", "vectors"], "a picture or a .npy file with its feature vector: - is for"),
        (["fill", "x.png", "a _", "--model", "vectors"], "has no image encoder and cannot see pictures: see `train"),
        (["fill", "none.npy", "a _", "--model", "vectors"], "there is no feature vector none.npy"),
        (["fill", "mine.npy", "a _", "--model", "vectors"], "mine.npy is not a .npy file of numbers: "),
        (["fill", "four.npy", "a _", "--model", "vectors"], "must have one feature vector, an array of floats [featur"),
        (["caption", "long.npy", "--model", "vectors"], "with feature vectors of 4 numbers, but got feature vectors"),
    ],
)  # fmt: skip
def test_refusals_of_the_others(arguments, message, files):
    (files / "mine.npy").write_text("no numbers")
    np.save(files / "long.npy", np.zeros(5))
    model = [] if "--model" in arguments else ["--model", "characters"]
    assert message in refusal_of(*arguments, *model, folder=files)
