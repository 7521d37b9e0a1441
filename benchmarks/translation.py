"""Score translations with BLEU and chrF: translation.py ANSWERS REFERENCES, in CSV.

ANSWERS is the folder that ``birnn-decode evaluate --blank whole --out ANSWERS`` has written, and REFERENCES the file of
lines that it was given as ``test=FILE``. Intervals are those of paired bootstrap resampling (1,000 resamples). The
p-value of a method is that of the difference to rerank. The third part has the scores by the length of the reference.
"""

import csv
import json
import os
import sys
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from birnn_decode.lines import read_lines

BASELINE = "rerank"
PREFIX = "answers-whole-lines-"
LENGTHS = ((1, 9), (10, 13), (14, 99))  # words of the reference
SEED = "0"


def main(answers, references):
    os.environ.setdefault("SACREBLEU_SEED", SEED)
    written = {
        path.stem.removeprefix(PREFIX): {one["image_id"]: one["caption"] for one in json.loads(path.read_text())}
        for path in sorted(answers.glob(f"{PREFIX}*.json"))
    }
    answered = next(iter(written.values()))
    truths = {line.number: line.text for line in read_lines(references).split() if line.number in answered}
    found = {name: [texts[number] for number in truths] for name, texts in written.items()}
    systems = [(name, found[name]) for name in sorted(found, key=lambda name: name != BASELINE)]
    output = csv.writer(sys.stdout, lineterminator="\n")
    output.writerow(["method", "setting", "metric", "value", "low", "high", "questions"])
    for name, score in scored(systems, list(truths.values())):
        output.writerow([name, "", *score])
    for low, high in LENGTHS:
        some = [number for number, text in enumerate(truths.values()) if low <= len(text.split()) <= high]
        references = [list(truths.values())[number] for number in some]
        own = [(name, [texts[number] for number in some]) for name, texts in systems]
        for name, score in scored(own, references):
            output.writerow([name, f"references of {low} to {high} words", *score])


def scored(systems, references):
    """Each system with its metrics, values, intervals and number of sentences."""
    metrics = {"BLEU": BLEU(), "chrF": CHRF()}
    # The first system is the baseline.
    _, scores = PairedTest(systems, metrics, [references], test_type="bs", n_samples=1000)()
    for metric, results in scores.items():
        if metric == "System":
            continue
        for (name, _), one in zip(systems, results, strict=True):
            value, width = one.score, one.ci
            yield name, [metric, f"{value:.2f}", f"{value - width:.2f}", f"{value + width:.2f}", len(references)]
            if one.p_value is not None:
                yield name, [f"{metric}: p-value against {BASELINE}", f"{one.p_value:.4f}", "", "", len(references)]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
