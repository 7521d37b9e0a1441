"""The benchmarks of the search: their questions, and the figures of two versions and of each method."""

import csv
import importlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from birnn_decode import BSCD, decode  # noqa: E402
from birnn_decode.models import GRUCaptioner, save_pair  # noqa: E402
from birnn_decode.vocabularies import CharacterVocabulary  # noqa: E402

ROOT = Path(__file__).parent.parent
DIGITS = ["".join("abcdefghijklmnopq"[(start + pixel) % 17] for pixel in range(64)) for start in range(5)]


@pytest.fixture
def benchmark_of(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A folder with pairs and data, as the benchmarks expect them."""
    vocabulary = CharacterVocabulary("abcdefghijklmnopq")
    models = [
        GRUCaptioner(vocabulary, direction=direction, feature_size=0, hidden_size=4)
        for direction in ("forward", "backward")
    ]
    for name in ("digits", "molecules"):
        (tmp_path / name).mkdir()
        save_pair(*models, tmp_path / f"{name}.safetensors")
    (tmp_path / "digits" / "test.txt").write_text("\n".join(DIGITS) + "\n")
    (tmp_path / "molecules" / "val.smi").write_text("abcdefgh\nabc\n")
    for name in ("DATA", "PAIRS"):
        monkeypatch.setenv(f"BIRNN_DECODE_{name}", str(tmp_path))
    return tmp_path


def test_a_digit_has_a_hole_in_its_middle(benchmark_of, folders):
    pair, asked = benchmark_of("questions").questions("digits", 0.25, 3)
    assert len({question.source.name for question in asked}) == 3
    for question in asked:
        (template,) = question.template.fixed()
        missing = np.array([template.undecided(at) for at in range(64)]).reshape(8, 8)
        assert missing[2:6, 2:6].all()
        assert missing.sum() == 16
        (line,) = question.source.captions
        assert line in DIGITS
        assert list(question.truths[0]) == pair.forward.vocabulary.encode(line)
        found = decode(pair, question.image, question.template).best
        assert [one for one, gone in zip(found.text, missing.flat, strict=True) if not gone] == [
            one for one, gone in zip(line, missing.flat, strict=True) if not gone
        ]


def test_the_hole_of_a_digit_has_one_size(benchmark_of, folders):
    with pytest.raises(ValueError, match=r"blank is 0\.5: .* give 0\.25"):
        benchmark_of("questions").questions("digits", 0.5, 3)


def test_molecules_are_of_the_split_that_is_asked_for(benchmark_of, folders):
    _, (question,) = benchmark_of("questions").questions("molecules", 0.5, 3, "val")
    assert question.truth == "abcdefgh"
    (template,) = question.template.fixed()
    assert [template.undecided(at) for at in range(8)] == [False, False, True, True, True, True, False, False]


def test_j_against_rows_is_that_of_the_methods(benchmark_of, capsys):
    benchmark_of("search_figure").main("scenes", "0.5", "3", "2")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = {(row["method"], row["minus"], row["metric"]): float(row["value"]) for row in rows}
    assert {(row["blank"], row["setting"], row["questions"]) for row in rows} == {("0.5", "beam size 2", "3")}
    pair, asked = benchmark_of("questions").questions("scenes", 0.5, 3)
    results = [decode(pair, one.image, one.template, BSCD(), beam_size=2) for one in asked]
    assert found["bscd", "", "rows"] == pytest.approx(np.mean([one.rows_evaluated for one in results]))
    assert found["bscd", "", "J"] == pytest.approx(np.mean([one.best.joint for one in results]), abs=1e-3)
    for method in ("urnn-f+end", "urnn-b+end", "rerank", "gibbs"):
        lead = found["bscd", "", "J"] - found[method, "", "J"]
        assert found["bscd", method, "J"] == pytest.approx(lead, abs=1e-3)


@pytest.mark.process
def test_two_versions_are_asked_the_same_questions(benchmark_of):
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone of the repository")
    command = [sys.executable, "benchmarks/search.py", "HEAD", "scenes", "0.5", "3", "1,2"]
    done = subprocess.run(
        [*command, "--repetitions", "2", "--exact", "2000"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["beam size"], row["version"]) for row in rows] == [
        ("1", "HEAD"),
        ("1", "present"),
        ("2", "HEAD"),
        ("2", "present"),
    ]
    pair, asked = benchmark_of("questions").questions("scenes", 0.5, 3)
    for size, before, row in ((1, *rows[:2]), (2, *rows[2:])):
        results = [decode(pair, one.image, one.template, BSCD(), beam_size=size) for one in asked]
        joints = [[one.joint for one in result.hypotheses] for result in results]
        assert float(row["J"]) == pytest.approx(np.mean([own[0] for own in joints]), abs=1e-3)
        assert float(row["J of B"]) == pytest.approx(np.mean([np.mean(own) for own in joints]), abs=1e-3)
        assert float(row["rows"]) == pytest.approx(np.mean([one.rows_evaluated for one in results]), rel=1e-4)
        parts = ("rows of beams", "rows of rounds", "rows after")
        assert float(row["rows"]) == pytest.approx(sum(float(row[part]) for part in parts), rel=1e-4)
        assert float(row["J gained"]) == pytest.approx(float(row["J"]) - float(before["J"]), abs=1e-3)
        assert float(row["ratio of rows"]) == pytest.approx(float(row["rows"]) / float(before["rows"]), rel=1e-4)
        assert float(row["seconds"]) > 0
        assert 0 <= float(row["missed"]) <= 1
        assert int(row["proved"]) <= int(row["questions"]) == 3
