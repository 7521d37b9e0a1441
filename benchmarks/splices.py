"""Measure what splices of the initial beams find: splices.py [DATA BLANK LIMIT].

Prints CSV: for each number of splices per position, how many proved blanks BSCD misses at B = 5, its mean J and its
mean rows. ``BIRNN_DECODE_DATA`` and ``BIRNN_DECODE_PAIRS`` name folders, as for the other benchmarks.
"""

import csv
import sys
from unittest import mock

import numpy as np
from questions import FLICKR, UCM, questions

from birnn_decode import BSCD, Exact, decode
from birnn_decode.search import splices

BATCH = 20


def main(data=UCM, blank="0.5", limit="300"):
    pair, asked = questions(data, float(blank), int(limit))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["blank", "setting", "method", "metric", "value", "questions"])
    best = None
    if data != FLICKR:  # few of its blanks can be proved
        best = decoded(pair, asked, Exact(), beam_size=1)
        writer.writerow([blank, "", "exact", "proved", sum(one.proved for one in best), len(asked)])
    for count in (0, 1, 2, 5):
        # No splice has a score above infinity, so none is found.
        least = splices.NEVER if count else np.inf
        with mock.patch.multiple(splices, AT_EACH_POSITION=max(count, 1), NEVER=least):
            found = decoded(pair, asked, BSCD())
        figures = {
            "J": np.mean([one.best.joint for one in found]),
            "rows": np.mean([one.rows_evaluated for one in found]),
        }
        if best is not None:
            figures["missed"] = sum(
                sure.proved and one.best.score < sure.best.score - 1e-4 for one, sure in zip(found, best, strict=True)
            )
        for metric, value in figures.items():
            writer.writerow([blank, f"splices {count}", "bscd", metric, value, len(asked)])


def decoded(pair, asked, method, **options):
    results = []
    for begin in range(0, len(asked), BATCH):
        some = asked[begin : begin + BATCH]
        results += decode(pair, [one.image for one in some], [one.template for one in some], method, **options)
    return results


if __name__ == "__main__":
    main(*sys.argv[1:])
