"""Measure mean J against rows, by method and beam size: search_figure.py DATA BLANK LIMIT [BEAMS].

For example, with ``BIRNN_DECODE_DATA`` and ``BIRNN_DECODE_PAIRS`` as for the other benchmarks:

    python benchmarks/search_figure.py molecules 0.5 100 1,2,5,10,25

DATA is a data set of ``questions.py``, and BLANK the share of the words that are missing. Prints CSV, which
``results_csv.py`` collects. ``results_page.py`` draws the pictures from the collected files. A difference is that of J,
on the same questions and with the same beam size.
"""

import csv
import sys

from questions import questions

from birnn_decode import compare
from birnn_decode.evaluation import interval, mean_metric, paired_difference

BEAMS = "1,2,5,10,25"
BATCH = 20
METHODS = ["urnn-f+end", "urnn-b+end", "rerank", "gibbs", "bscd-paper", "bscd"]


def main(data, blank, limit, beams=BEAMS):
    pair, asked = questions(data, float(blank), int(limit))
    names = [question.source.name for question in asked]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["blank", "setting", "method", "minus", "metric", "value", "low", "high", "questions"])

    def write(method, minus, metric, figure):
        writer.writerow([blank, setting, method, minus, metric, *figure.cells(), len(asked)])

    for beam_size in map(int, beams.split(",")):
        setting = f"beam size {beam_size}"
        found = []
        for begin in range(0, len(asked), BATCH):
            some = asked[begin : begin + BATCH]
            sources, templates = [one.image for one in some], [one.template for one in some]
            found += compare(pair, sources, templates, METHODS, beam_size=beam_size)
        joints = {name: mean_metric("J", [one[name].best.joint for one in found]) for name in found[0]}
        for name, joint in joints.items():
            rows = mean_metric("rows", [one[name].rows_evaluated for one in found])
            write(name, "", "J", interval(joint, names))
            write(name, "", "rows", interval(rows, names))
        for name, joint in joints.items():
            if name != "bscd":
                write("bscd", name, "J", paired_difference(joints["bscd"], joint, names))
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
