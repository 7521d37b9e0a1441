"""The page of results: its tables are those of the CSV files, and new measurements reach the CSV files."""

import csv
import importlib
import re
import shutil
from pathlib import Path

import pytest

from birnn_decode.evaluation import Interval, Report, reports_json

ROOT = Path(__file__).parent.parent


@pytest.fixture
def results_page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("results_page")


@pytest.fixture
def results_csv(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("results_csv")


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_pages_are_made_from_the_csv_files(results_page):
    texts = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in results_page.PAGES]
    for text in texts:
        assert results_page.page(text, results_page.Results(ROOT / "docs" / "results")) == text
    text = "".join(texts)
    assert re.findall(r"<!-- table: (.*) -->", text) == list(results_page.TABLES)
    assert re.findall(r"\(results/(.*)\.png\)", text) == list(results_page.FIGURES)


def test_a_table_that_differs_is_written_anew(results_page):
    results = results_page.Results(ROOT / "docs" / "results")
    text = "before\n\n<!-- table: cycles -->\n| old |\n| --- |\n\n| another |\n"
    made = results_page.page(text, results)
    assert made == f"before\n\n<!-- table: cycles -->\n{results_page.cycles(results)}\n| another |\n"
    assert results_page.page(made, results) == made


def test_every_figure_can_be_drawn(results_page):
    pytest.importorskip("matplotlib")
    results = results_page.Results(ROOT / "docs" / "results")
    for name, draw in results_page.FIGURES.items():
        axes = draw(results).axes
        assert all(own.lines or own.containers for own in axes), name
        assert (ROOT / "docs" / "results" / f"{name}.png").exists()


def test_the_csv_files_are_tidy():
    rows = read(ROOT / "docs" / "results" / "figures.csv")
    keys = [(row["run"], row["blank"], row["setting"], row["method"], row["minus"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    for row in rows:
        value, low, high = (float(row[name]) if row[name] else None for name in ("value", "low", "high"))
        assert value is not None
        assert (low is None) == (high is None)
        # Ends that were printed with another number of digits may lie on the other side of the value by a rounding.
        assert low is None or low - 0.006 <= value <= high + 0.006
    assert {row["run"] for row in rows} <= {row["run"] for row in read(ROOT / "docs" / "results" / "runs.csv")}


def test_new_measurements_replace_their_run_and_no_other(results_csv, tmp_path, monkeypatch):
    folder, results = tmp_path / "out", tmp_path / "results"
    shutil.copytree(ROOT / "docs" / "results", results, ignore=shutil.ignore_patterns("*.png"))
    monkeypatch.setattr(results_csv, "RESULTS", results)
    before = read(results / "figures.csv")

    def run(name, command, printed=""):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.run").write_text(f"2027-01-02\t{command}\n")
        (folder / f"{name}.txt").write_text(printed)
        (folder / name).mkdir()

    run("ucm-exact-0.25-5", "birnn-decode evaluate --limit 7 --blank 0.25")
    figures = {
        "bscd": {"J": Interval(-1.23456, -2.0, -0.5)},
        "exact": {"J": Interval(-1.0, float("nan"), float("nan"))},
    }
    notes = [
        "left out of the split: 45 captions of fewer than 6 words",
        "exact: the best sentence is proved of 98.0% of the questions, and all returned sentences of 90.7%; 35 rows in "
        "the median",
        "another note",
    ]
    differences = {"exact": {"J": Interval(-0.2, -0.3, 0.0)}}
    times = {"bscd": 5.0, "exact": 8.0}
    name = "25% of the words, width known"
    made = Report(name, 7, figures, differences, times, dict.fromkeys(times, "s"), dict.fromkeys(times, ()), notes)
    (folder / "ucm-exact-0.25-5" / "figures.json").write_text(reports_json([made], {}))
    run("ucm-curves-0.5", "birnn-decode curves --limit 20 --blank 0.5")
    (folder / "ucm-curves-0.5" / "curves.csv").write_text(
        "along,setting,method,metric,value,low,high\nrounds,2,bscd,J,-3.5,-4,-3\n"
    )
    run("ucm-train", "birnn-decode train")
    (folder / "ucm.safetensors.csv").write_text(
        "number,validation_forward,validation_backward,seconds\n1,1,2,10\n2,0.5,0.7,10\n3,0.6,0.8,11\n"
    )
    run(
        "ucm-birnn-compatibility",
        "benchmarks/compatibility.py",
        "cycles at neighbours: 870, |gap| mean 1.82, quartiles 0.77, 1.50, 2.58, above 1 nat 0.67\n"
        " 1.0 words missing, scope sentence: 0.883 of 300 exactly right, 2.0 rounds; converged 300\n"
        " 1.0 words missing, scope blank   : 0.893 of 300 exactly right, 2.0 rounds; converged 300\n",
    )
    run(
        "flickr-splices",
        "benchmarks/splices.py",
        "blank,setting,method,metric,value,questions\n0.5,splices 2,bscd,J,-9,20\n",
    )
    results_csv.main(folder)

    after = read(results / "figures.csv")
    measured = {path.stem for path in folder.glob("*.run")}
    assert [row for row in after if row["run"] not in measured] == [row for row in before if row["run"] not in measured]
    found = {
        (row["run"], row["blank"], row["setting"], row["method"], row["minus"], row["metric"]): row
        for row in after
        if row["run"] in measured
    }

    def told(*key):
        row = found.pop(key)
        return [row[name] for name in ("data", "split", "value", "low", "high", "questions")]

    exact = "ucm-exact-0.25-5", "0.25", "beam size 5"
    ucm, seven = "UCM-Captions", ["", "", "7"]
    assert told(*exact, "bscd", "", "J") == [ucm, "test", "-1.2346", "-2", "-0.5", "7"]
    assert told(*exact, "exact", "", "J") == [ucm, "test", "-1", *seven]
    assert told(*exact, "bscd", "", "milliseconds") == [ucm, "test", "5", *seven]
    assert told(*exact, "exact", "", "milliseconds") == [ucm, "test", "8", *seven]
    assert told(*exact, "bscd", "exact", "J") == [ucm, "test", "-0.2", "-0.3", "0", "7"]
    assert told(*exact, "", "", "left out: captions of fewer than 6 words") == [ucm, "test", "45", *seven]
    assert told(*exact, "exact", "", "best sentence proved") == [ucm, "test", "0.98", *seven]
    assert told(*exact, "exact", "", "all sentences proved") == [ucm, "test", "0.907", *seven]
    assert told(*exact, "exact", "", "median rows") == [ucm, "test", "35", *seven]
    assert told("ucm-curves-0.5", "0.5", "rounds 2", "bscd", "", "J") == [ucm, "test", "-3.5", "-4", "-3", "20"]
    losses = {"epochs": "3", "epoch kept": "2", "validation loss": "0.6", "training seconds": "31"}
    for metric, value in losses.items():
        assert told("ucm-train", "", "", "pair", "", metric) == [ucm, "train", value, "", "", ""]
    compatible = "ucm-birnn-compatibility"
    assert told(compatible, "", "positions neighbours", "birnn", "", "median gap") == [ucm, "val", "1.5", "", "", "200"]
    for scope, right in (("sentence", "0.883"), ("blank", "0.893")):
        where = compatible, "0.01", f"scope {scope}", "birnn-bscd", "", "exactly right"
        assert told(*where) == [ucm, "val", right, "", "", "300"]
    where = "flickr-splices", "0.5", "splices 2", "bscd", "", "J"
    assert told(*where) == ["Flickr8k text", "test", "-9", "", "", "20"]
    assert {key[-1] for key in found} == {"cycles", *results_csv.GAPS} - {"median gap"}
    runs = {row["run"]: row for row in read(results / "runs.csv")}
    assert runs["ucm-train"] == {"run": "ucm-train", "date": "2027-01-02", "command": "birnn-decode train", "note": ""}
    assert runs["ucm-whole"]["command"].startswith("birnn-decode evaluate --captions DATA/ucm/dataset.json")
