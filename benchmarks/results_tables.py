"""The tables of docs/results.md, from the folder that benchmarks/results.sh has filled: results_tables.py FOLDER."""

import csv
import json
import sys
from pathlib import Path

COLUMNS = ("exactly right", "words right", "BLEU-4", "ROUGE-L", "CIDEr", "METEOR", "J", "PLL", "rows")
LENGTH_COLUMNS = ("word F1", "exactly right", "words too many", "BLEU-4", "CIDEr", "METEOR")
SEARCH_ERRORS = ("search errors", "score lost", "below the bound")
COMPARED = ("exactly right", "words right", "J", "PLL")
LENGTH_RULES = ("none", "average", "0.5", "1", "2", "3")


def main(folder):
    for name in ("ucm", "ucm-birnn", "ucm-birnn-alone", "ucm-whole", "flickr", "flickr-birnn", "flickr-birnn-alone"):
        if (folder / name / "figures.json").exists():
            for one in json.loads((folder / name / "figures.json").read_text())["reports"]:
                print_report(name, one)
    for path in sorted(folder.glob("*-curves-*/curves.csv")):
        print_rows(path)
    for path in sorted(folder.glob("*-exact-*/figures.json")):
        print_search_errors(path)
    for data, method in (("ucm", "bscd"), ("flickr", "bscd"), ("ucm-birnn", "birnn-bscd")):
        print_lengths(folder, data, method)


def print_report(name, one):
    print(f"### {name}: {one['name']}, {one['questions']} questions\n")
    first = next(iter(one["figures"].values()))
    columns = [column for column in COLUMNS if column in first]
    rows = [
        [method, *(cell(figures[column]) for column in columns), f"{one['milliseconds'][method]:.0f}"]
        for method, figures in one["figures"].items()
    ]
    print_table(["method", *columns, "ms"], rows)
    columns = [column for column in COMPARED if column in first]
    rows = [
        [method, *(cell(figures[column], sign="+") for column in columns)]
        for method, figures in one["differences"].items()
    ]
    print_table([f"{one['against']} minus", *columns], rows)
    for note in one["notes"]:
        print(f"- {note}")
    print()


def print_search_errors(path):
    (one,) = json.loads(path.read_text())["reports"]
    print(f"### {path.parent.name}: {one['name']}, {one['questions']} questions\n")
    rows = [
        [method, *(cell(figures[name]) for name in SEARCH_ERRORS), cell(figures["rows"])]
        for method, figures in one["figures"].items()
    ]
    print_table(["method", *SEARCH_ERRORS, "rows"], rows)
    for note in one["notes"]:
        print(f"- {note}")
    print()


def print_rows(path):
    with path.open(newline="") as file:
        points = list(csv.DictReader(file))
    print(f"### {path.parent.name}\n")
    found = {}
    for point in points:
        found.setdefault((point["along"], point["method"], int(point["setting"])), {})[point["metric"]] = point
    rows = [
        [method, f"{along} {setting}", *(cell(figures[name]) for name in ("rows", "J", "exactly right", "words right"))]
        for (along, method, setting), figures in found.items()
        if method in ("rerank", "gibbs", "bscd")
    ]
    print_table(["method", "setting", "rows", "J", "exactly right", "words right"], rows)


def print_lengths(folder, data, method):
    rows = []
    for blank in ("0.25", "0.5", "whole"):
        for rule in LENGTH_RULES:
            path = folder / f"{data}-length-{blank}-{rule}" / "figures.json"
            if path.exists():
                (one,) = json.loads(path.read_text())["reports"]
                figures = one["figures"][method]
                rows.append([blank, rule, *(cell(figures[name]) if name in figures else "" for name in LENGTH_COLUMNS)])
    if rows:
        print(f"### {data}: widths to be found, {method}\n")
        print_table(["blank", "rule", *LENGTH_COLUMNS], rows)


def print_table(head, rows):
    print(f"| {' | '.join(head)} |")
    print(f"|{'|'.join('---' for _ in head)}|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def cell(figure, sign=""):
    value, low, high = (
        float("nan") if figure[name] in (None, "") else float(figure[name]) for name in ("value", "low", "high")
    )
    digits = 0 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
