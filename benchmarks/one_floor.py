"""One version of the library, which decodes for `before.py`: one_floor.py MODEL ITEMS THREADS.

The models and templates are those of `test_floor.py`. Every line that is read asks for one more decode by BSCD. The
answer is a line of JSON.
"""

import json
import sys
import time

import torch
from floor import Recorded
from models import gpt2, lstm, scorer

import birnn_decode
from birnn_decode import BSCD, Pair, Template, decode

MODELS = {
    "lstm-256": lambda direction: lstm(direction, 256, 2_500),
    "lstm-512": lambda direction: lstm(direction, 512, 10_000),
    "gpt2": gpt2,
}


def main(name, items, threads):
    torch.set_num_threads(int(threads))
    scorers = [scorer(MODELS[name](direction), direction) for direction in ("forward", "backward")]
    templates = [Template.blank([5 + item % 7, 6, 7], 10, [8, 9 + item % 5]) for item in range(int(items))]

    def search(*models):
        return decode(Pair(*models), None, templates, BSCD(max_rounds=3))

    recorded = [Recorded(one) for one in scorers]
    rows = sum(result.rows_evaluated for result in search(*recorded))
    about = {"calls": sum(len(one.calls) for one in recorded), "rows": rows}
    print(json.dumps(birnn_decode.__file__), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        search(*scorers)
        print(json.dumps({"seconds": time.perf_counter() - began, **about}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
