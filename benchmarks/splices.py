"""What splices of the initial beams find, by how many of each position are candidates: splices.py [DATA BLANK LIMIT].

Printed are BSCD's search errors at B = 5 among the questions whose best sentence is proved, its mean J and its rows.
``BIRNN_DECODE_DATA`` and ``BIRNN_DECODE_PAIRS`` are as for the other benchmarks.
"""

import sys
from unittest import mock

import numpy as np
from questions import FLICKR, UCM, questions

from birnn_decode import bscd_decode, exact_decode
from birnn_decode.search import splices

BATCH = 20


def main(data=UCM, blank="0.5", limit="300"):
    pair, asked = questions(data, float(blank), int(limit))
    best = None
    if data != FLICKR:  # of whose text few are proved
        best = decoded(exact_decode, pair, asked, beam_size=1)
        print(f"{sum(one.proved for one in best)} of {len(best)} proved")
    for count in (0, 1, 2, 5):
        # With no splice there is none that is above -inf, whatever is looked for.
        least = splices.NEVER if count else np.inf
        with mock.patch.multiple(splices, AT_EACH_POSITION=max(count, 1), NEVER=least):
            found = decoded(bscd_decode, pair, asked)
        missed = "-"
        if best is not None:
            missed = sum(
                sure.proved and one.best.score < sure.best.score - 1e-4 for one, sure in zip(found, best, strict=True)
            )
        joint = np.mean([one.best.joint for one in found])
        rows = np.mean([one.rows_evaluated for one in found])
        print(f"{count} splices: {missed} missed, J {joint:.3f}, {rows:.1f} rows", flush=True)


def decoded(decode, pair, asked, **options):
    results = []
    for begin in range(0, len(asked), BATCH):
        some = asked[begin : begin + BATCH]
        results += decode(*pair, [one.image for one in some], [one.template for one in some], **options)
    return results


if __name__ == "__main__":
    main(*sys.argv[1:])
