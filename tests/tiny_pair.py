"""A pair of NumPy models over sources of text, for tests that decode many questions; also a program that does so."""

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from birnn_decode import BeamSearch, Pair, StepScorer
from birnn_decode.datasets import decode_dataset
from birnn_decode.vocabularies import END, PAD, START, UNK, WordVocabulary

VOCABULARY = WordVocabulary(["a", "red", "green", "blue", "ball", "box", "cat", "lies", "sits", "here", "there"])
SOURCES = 7
ROOT = Path(__file__).parents[1]


def tiny_pair():
    """The scores of a word depend on the word before it and on the number in the source."""

    def scorer(seed, start, end):
        tables = np.random.default_rng(seed).normal(0, 2, (SOURCES, len(VOCABULARY), len(VOCABULARY)))
        one = StepScorer(
            step=lambda tokens, state: (tables[state, tokens], state),
            start=lambda context: context,
            select=lambda state, rows: state[rows],
            join=np.concatenate,
            aligned=False,
            encode=lambda sources: np.array([int(source) % SOURCES for source in sources]),
            vocab_size=len(VOCABULARY),
            start_token=start,
            end_token=end,
            never={PAD, UNK},
        )
        one.vocabulary = VOCABULARY
        return one

    return Pair(scorer(0, START, END), scorer(1, END, START))


def many_questions(count, seed=0):
    """Questions with blanks of several widths, and some with a fault."""
    draw = np.random.default_rng(seed)
    words = VOCABULARY.decode(range(4, len(VOCABULARY))).split()
    questions = []
    for number in range(count):
        sentence = draw.choice(words, draw.integers(4, 9)).tolist()
        blank = int(draw.integers(1, 4))
        begin = int(draw.integers(0, len(sentence) - blank))
        given = [*sentence[:begin], *["_"] * blank, *sentence[begin + blank :]]
        questions.append({"source": str(draw.integers(100)), "template": " ".join(given), "number": number})
        if draw.random() < 0.02:
            questions[-1]["template"] = "a zebra _"
    return questions


def write_lines(path, questions):
    path.write_text("".join(json.dumps(one) + "\n" for one in questions), encoding="utf-8")
    return path


def program(*arguments, code=None):
    """Start this file as a program, or ``code`` instead, where a warning is an error.

    It prints a line whenever answers have been written.
    """
    given = ["-c", code] if code else ["tests/tiny_pair.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.Popen(
        [sys.executable, "-W", "error", *given, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def failing_pair(failing, main):
    """The pair, which in a worker fails to load or, after some batches, to decode."""
    if os.getpid() == main:
        return tiny_pair()
    if failing == "load":
        raise MemoryError("too much to load")
    pair = tiny_pair()
    encode, calls = pair.forward.encode, itertools.count()

    def failing_encode(sources):
        if next(calls) == 5:
            raise MemoryError
        return encode(sources)

    pair.forward.encode = failing_encode
    return pair


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("questions")
    parser.add_argument("output")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=0.0)
    parser.add_argument("--failing")
    given = parser.parse_args()
    try:
        decode_dataset(
            functools.partial(failing_pair, given.failing, os.getpid()) if given.failing else tiny_pair,
            given.questions,
            BeamSearch("forward"),
            given.output,
            beam_size=2,
            batch_size=8,
            workers=given.workers,
            save_every=given.save_every,
            advance=lambda done, errors, total: print(done, flush=True),
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
