"""Measure what splices find for a Bi-RNN, by share of missing words and beam size: joint_splices.py BIRNN LIMIT.

For example, with ``BIRNN_DECODE_DATA`` and ``BIRNN_DECODE_PAIRS`` as for the other benchmarks:

    python benchmarks/joint_splices.py OUT/ucm-birnn-small.safetensors 400

The questions are about UCM-Captions, with the words of the pair in ``BIRNN_DECODE_PAIRS``. Prints CSV, which
``results_csv.py`` collects. A difference is that of the pseudo-log-likelihood (PLL), on the same questions and with the
same beam size.
"""

import csv
import sys

from questions import UCM, questions

from birnn_decode import BSCD, Rerank, compare
from birnn_decode.evaluation import interval, mean_metric, paired_difference
from birnn_decode.models import load_birnn

BATCH = 20
METHODS = [Rerank(), BSCD(splices=False), BSCD()]


def main(birnn, limit):
    model = load_birnn(birnn)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["blank", "setting", "method", "minus", "metric", "value", "low", "high", "questions"])
    for blank in (0.5, 0.75):
        _, asked = questions(UCM, blank, int(limit))
        for beam_size in (1, 2, 5):
            for *about, figure in figures(model, asked, beam_size):
                writer.writerow([blank, f"beam size {beam_size}", *about, *figure.cells(), len(asked)])
            sys.stdout.flush()


def figures(model, asked, beam_size):
    """For each figure the method, the method that is subtracted, the metric, and the figure itself."""
    found = []
    for begin in range(0, len(asked), BATCH):
        some = asked[begin : begin + BATCH]
        sources, templates = [one.image for one in some], [one.template for one in some]
        found += compare(model, sources, templates, METHODS, beam_size=beam_size)
    names = [question.source.name for question in asked]
    scores = {name: mean_metric("PLL", [one[name].best.pseudo_log_prob for one in found]) for name in found[0]}
    for name, score in scores.items():
        yield f"birnn-{name}", "", "PLL", interval(score, names)
        rows = mean_metric("rows", [one[name].rows_evaluated for one in found])
        yield f"birnn-{name}", "", "rows", interval(rows, names)
        if name != "bscd":
            yield "birnn-bscd", f"birnn-{name}", "PLL", paired_difference(scores["bscd"], score, names)


if __name__ == "__main__":
    main(*sys.argv[1:])
