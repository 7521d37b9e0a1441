"""Fill blanks for pictures: pictures.py FOLDER MODEL.

FOLDER has the pictures that docs/results/pictures.csv names, and MODEL is the file of a pair. Prints that file with new
answers.
"""

import csv
import sys
from pathlib import Path

from birnn_decode import compare
from birnn_decode.models import load_pair

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def main(folder, model):
    with (RESULTS / "pictures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    methods = list(rows[0])[2:]
    pictures = [Path(folder) / row["picture"] for row in rows]
    found = compare(load_pair(Path(model)), pictures, [row["template"] for row in rows], methods)
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row, results in zip(rows, found, strict=True):
        words = {method: result.best.text.split() for method, result in results.items()}
        before = row["template"].split().index("_")
        behind = len(row["template"].split()) - row["template"].split().count("_") - before
        writer.writerow({**row, **{method: " ".join(own[before : len(own) - behind]) for method, own in words.items()}})


if __name__ == "__main__":
    main(*sys.argv[1:])
