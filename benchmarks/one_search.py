"""One version of the library, which answers what `search.py` asks: one_search.py QUESTIONS [PAIR].

QUESTIONS is a file of PyTorch with sources, and with sentences whose missing tokens are None. Every line that is read
is a request in JSON: which of the questions, the beam size, and the rows of an exact search or null for BSCD. The
answer is a line of JSON, too. Nothing but the front door of the library is used, so earlier versions can be asked.
"""

import json
import sys
import time

import torch

import birnn_decode
from birnn_decode import BSCD, Exact, Template, decode
from birnn_decode.models import default_pair, load_pair


def main(questions, *pair):
    torch.set_num_threads(1)
    models = load_pair(*pair) if pair else default_pair()
    sources, sentences = torch.load(questions)
    templates = [
        Template.from_tokens([Template.BLANK if token is None else token for token in tokens]) for tokens in sentences
    ]
    print(json.dumps(birnn_decode.__file__), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        some = slice(request["begin"], request["end"])
        method = BSCD() if request["exact"] is None else Exact(max_rows=request["exact"])
        began = time.perf_counter()
        results = decode(models, sources[some], templates[some], method, beam_size=request["beam_size"])
        seconds = time.perf_counter() - began
        answers = [
            {
                "J": [one.joint for one in result.hypotheses],
                "text": result.best.text,
                "rows": result.rows_evaluated,
                "of rounds": [part.rows for part in result.trace],
                "proved": result.proved,
            }
            for result in results
        ]
        print(json.dumps({"seconds": seconds, "answers": answers}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
