"""Write the tables of docs/ranking.md from what benchmarks/ranking.sh has measured: ranking_page.py [OUT].

With OUT, its figures are first collected in docs/results/ranking.csv. In the page, every table follows a comment
``<!-- table: NAME -->``.
"""

import csv
import io
import re
import sys
from pathlib import Path

from birnn_decode.files import write_whole

DOCS = Path(__file__).parent.parent / "docs"
FIGURES = DOCS / "results" / "ranking.csv"
RUNS = ("ucm", "ucm-karpathy", "heldout-pair", "heldout-cells")
DIRECTIONS = ("picture → sentences", "sentence → pictures")
SHOWN = ("R@1", "R@5", "R@10", "median rank")
TABLE = re.compile(r"(<!-- table: (.*) -->\n)(?:\|.*\n)*")
MODELS = {
    "boxes": "alignment, boxes",
    "cells": "alignment, grid",
    "whole": "alignment, whole",
    "grid": "alignment, grid",
    "karpathy": "alignment, whole, karpathy",
}


def collected(folder):
    """The rows of all runs in a folder, each with the name of its run."""
    rows = []
    for run in RUNS:
        with (folder / run / "figures.csv").open(newline="", encoding="utf-8") as file:
            rows += [{"run": run, **row} for row in csv.DictReader(file)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def table(rows, counting, ends, label=lambda run, ranker: ranker):
    """A table of some rows: a line per ranker, and the measures in both directions."""
    found = {(row["run"], row["ranker"], row["counting"], row["direction"], row["metric"]): row for row in rows}
    lines = [
        "| ranker | " + " | ".join(f"{metric} {way}" for way in ("p → s", "s → p") for metric in SHOWN) + " |",
        "| --- |" + " --- |" * (2 * len(SHOWN)),
    ]
    for run, ranker in dict.fromkeys((row["run"], row["ranker"]) for row in rows):
        cells = []
        for direction in DIRECTIONS:
            for metric in SHOWN:
                row = found[run, ranker, counting, direction, metric]
                value, low, high = (float(row[name]) for name in ("value", "low", "high"))
                digits = 1 if "rank" in metric else 3
                half = f" ±{(high - low) / 2:.{digits}f}" if ends else ""
                cells.append(f"{value:.{digits}f}{half}")
        lines.append(f"| {label(run, ranker)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tables(rows):
    """The text of each table by its name."""
    ucm = [row for row in rows if row["run"].startswith("ucm")]
    scenes = [row for row in rows if not row["run"].startswith("ucm")]

    def named(run, ranker):
        first, then, second = ranker.rpartition(", then ")
        name, plus, rest = second.partition(" + ")
        return f"{first}{then}{MODELS.get(name, name)}{plus}{rest}"

    return {
        "scenes": table(scenes, "own", True, named),
        "ucm, own sentences": table(ucm, "own", True, named),
        "ucm, equal sentences": table(ucm, "equal", False, named),
    }


def page(text, rows):
    made = tables(rows)
    return TABLE.sub(lambda match: match[1] + made[match[2]], text)


def read_rows():
    with FIGURES.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_whole(FIGURES, collected(Path(sys.argv[1])).encode())
    path = DOCS / "ranking.md"
    write_whole(path, page(path.read_text(encoding="utf-8"), read_rows()).encode())
