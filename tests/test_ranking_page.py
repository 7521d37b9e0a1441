"""The page on ranking: its tables are those of the CSV file; the ceiling for scenes; the score as a third term."""

import csv
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from birnn_decode.captions import WordVocabulary, make_scene, make_scenes  # noqa: E402
from birnn_decode.models import AlignmentModel, default_pair, save_alignment  # noqa: E402

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmark_of(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_the_page_is_made_from_the_csv_file(benchmark_of):
    made = benchmark_of("ranking_page")
    text = (ROOT / "docs" / "ranking.md").read_text(encoding="utf-8")
    rows = made.read_rows()
    assert made.page(text, rows) == text
    assert re.findall(r"<!-- table: (.*) -->", text) == list(made.tables(rows))


def test_figures_are_collected(benchmark_of, tmp_path):
    made = benchmark_of("ranking_page")
    columns = ["ranker", "counting", "direction", "metric", "value", "low", "high"]
    for run in made.RUNS:
        (tmp_path / run).mkdir()
        with (tmp_path / run / "figures.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, ["J", "own", "both", "sum of recalls", "300.0", "290.0", "310.0"]])
    rows = list(csv.DictReader(made.collected(tmp_path).splitlines()))
    assert [row["run"] for row in rows] == list(made.RUNS)
    assert rows[0]["value"] == "300.0"


def test_the_ceiling_is_that_of_what_is_true(benchmark_of):
    """Sentences are true of their own scenes, and not if a colour, a size or a place is another one."""
    ceiling = benchmark_of("scenes_ceiling")
    for scene in make_scenes(200, seed=3, captions=2):
        for text in scene.captions:
            assert ceiling.probability(ceiling.read(text), scene) > 0
    scene = make_scene(seed=0, number=0, captions=1)
    text = "there is a small blue triangle to the right of a red square which is below a large yellow circle"
    assert scene.captions == (text,)
    for right, wrong in (("blue", "green"), ("small", "large"), ("right", "left"), ("below", "above")):
        assert ceiling.probability(ceiling.read(text.replace(right, wrong)), scene) == 0
    found = ceiling.ceilings(60)
    assert all(0.5 < share <= 1 for shares in found.values() for share in shares)
    for way in (0, 1):
        assert found["knows how sentences are drawn, too"][way] >= found["knows what is true"][way]


@pytest.mark.parametrize("shapes", [2, 3])
def test_the_ceiling_knows_how_often_authors_say_what(shapes, benchmark_of):
    """Among many sentences of one form, each choice of shapes and sizes is as frequent as it is probable."""
    ceiling = benchmark_of("scenes_ceiling")
    number = next(number for number in range(99) if len(make_scene(5, number).shapes) == shapes)
    scene = make_scene(5, number, captions=3000)
    meanings = [ceiling.read(text) for text in scene.captions]
    shares = {2: {2: 1.0}, 3: {2: 0.25, 3: 0.75}}[shapes]
    for mentions, share in shares.items():
        # Shapes are in the order of the sentence, and the first one is the subject: forms of one order of words.
        some = [own for own in meanings if [one for one, _, _ in own[1]][:1] == [0] and len(own[0]) == mentions]
        counts = Counter(repr(own[0]) for own in some)
        expected = {repr(own[0]): ceiling.probability(own, scene) / share for own in some}
        assert sum(abs(counts[one] / len(some) - expected[one]) for one in counts) < 0.35
        if mentions == 2:
            assert sum(expected.values()) == pytest.approx(1)
        assert sum(len(own[0]) == mentions for own in meanings) / len(meanings) == pytest.approx(share, abs=0.05)


@pytest.mark.process
def test_the_score_as_a_third_term(tmp_path):
    """A model with random weights is of no help, so that the weight is that of J alone, or nothing changes much."""
    images = []
    for number in range(24):
        scene = make_scene(seed=5, number=number, captions=1)
        scene.picture().save(tmp_path / f"{number}.png")
        regions = [{"box": list(shape.box), "label": shape.kind} for shape in scene.shapes]
        split = "val" if number < 12 else "test"
        sentences = [{"raw": text} for text in scene.captions]
        images.append({"filename": f"{number}.png", "split": split, "sentences": sentences, "regions": regions})
    (tmp_path / "captions.json").write_text(json.dumps({"images": images}))
    encoder = default_pair().forward.encoder
    torch.manual_seed(0)
    words = WordVocabulary(["a", "red", "circle"])
    size = encoder.feature_size
    save_alignment(
        AlignmentModel(words, feature_size=size, hidden_size=8, regions="boxes", encoder=encoder), tmp_path / "model"
    )
    options = ["--captions", tmp_path / "captions.json", "--images", tmp_path, "--alignment", tmp_path / "model"]
    script = ROOT / "examples" / "rerank_by_alignment.py"
    command = [sys.executable, "-W", "error", script, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("12 questions; weight of the score, chosen on 12 questions of val: ")
    shares = {line[:15].strip(): float(re.search(r"right ([\d.]+)", line)[1]) for line in lines[1:4]}
    assert [*shares] == ["J", "J + score", "any of the beam"]
    assert 0 < shares["J"] <= shares["any of the beam"] <= 1
    lead = float(re.search(r"minus J: ([+-][\d.]+)", lines[4])[1])
    assert lead == pytest.approx(shares["J + score"] - shares["J"], abs=2e-3)
    assert np.isfinite(lead)
