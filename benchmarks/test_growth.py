"""How time and memory grow with what is decoded: `make bench`, or `pytest benchmarks/test_growth.py -s`.

Items, beams, missing words, vocabulary and the number of widths of a template are each varied by a factor of 16 while
the others stay at a point where the varied one matters. An exponent is the slope of log time over log size: 1 is
linear. k widths have k(k + 1) / 2 positions, and fewer rows for each the more prefixes they share, so that their time
is compared with both, too. `upper` is the slope over the upper half of the sizes, where what every call costs weighs
least.

The memory is that of one decode in a process of its own (`one_decode.py`), beside a bound: one and a half times the
scores of all rows read, three times one row of scores for each item and blank position, and the states.

The look-ahead of a sweep costs O(B·V). Timed beside it: all B·V·B sums that the paper takes its top-B over, formed, and
reduced to the best of each prefix and word, so that both choose B different ones. The ratio is naive over library.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from measuring import in_turns, record

torch = pytest.importorskip("torch")

from one_decode import PROCESS, Point, row_count  # noqa: E402

from birnn_decode.backend.torch import TorchBackend  # noqa: E402

SIZES = {
    "items": (4, 8, 16, 32, 64),
    "beams": (2, 4, 8, 16, 32),
    "words": (2, 4, 8, 16, 32),
    "vocabulary": (1_000, 2_000, 4_000, 8_000, 16_000),
    "widths": (1, 2, 4, 8, 16),
}
METHODS = ("bscd", "beam")
BASE = Point()
SMOKE = Point(items=2, beams=2, words=2, vocabulary=100, hidden=16)
BEAMS = (2, 5, 10, 20, 50)  # of the look-ahead
VOCABULARY = 10_000


def points(along, smoke):
    return {size: replace(SMOKE if smoke else BASE, **{along: size}) for size in SIZES[along][: 2 if smoke else None]}


def exponents(sizes, seconds):
    """The slope over all sizes, and over the upper half of them."""
    half = len(sizes) // 2
    return {
        name: float(np.polyfit(np.log(sizes[begin:]), np.log(seconds[begin:]), 1)[0])
        for name, begin in (("exponent", 0), ("upper", half if len(sizes) > 2 else 0))
    }


@pytest.mark.parametrize("along", SIZES)
def test_time(benchmark, along):
    curve = points(along, benchmark.disabled)
    rows = {}

    def program(method, size):
        def run():
            rows[method, size] = row_count(curve[size].decode(method))

        curve[size].pair()  # made before anything is timed
        return run

    programs = {f"{method} {size}": program(method, size) for method in METHODS for size in curve}
    times = in_turns(benchmark, programs)
    for method in METHODS:
        seconds = [times.median(f"{method} {size}") for size in curve]
        counts = [rows[method, size] for size in curve]
        for size, median, count in zip(curve, seconds, counts, strict=True):
            record(benchmark, "growth", along=along, size=size, method=method, ms=1000 * median, rows=count)
        record(benchmark, "growth exponents", along=along, method=method, **exponents(list(curve), seconds))
        if along == "widths":
            positions = [size * (size + 1) // 2 for size in curve]
            for name, counted in (("positions of widths", positions), ("rows of widths", counts)):
                if len(set(counted)) > 1:  # the smallest templates may have equally many rows
                    record(benchmark, "growth exponents", along=name, method=method, **exponents(counted, seconds))


@pytest.mark.skipif(not (PROCESS / "clear_refs").exists(), reason="peaks of memory are read from Linux's /proc")
def test_memory(benchmark):
    measured = [(along, size, point) for along in SIZES for size, point in points(along, benchmark.disabled).items()]

    def run():
        for along, size, point in measured[: 1 if benchmark.disabled else None]:
            used = peak(point)
            bound = point.bound(used["rows"])
            record(benchmark, "memory", along=along, size=size, peak_mib=used["peak_mib"], bound_mib=bound)

    benchmark.pedantic(run, rounds=1)


def peak(point):
    program = Path(__file__).with_name("one_decode.py")
    command = [sys.executable, str(program), json.dumps(asdict(point))]
    # The library that is measured here, wherever it was imported from.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    if used is None:
        pytest.skip("this system does not let a process reset its peak of memory")
    return used


@pytest.mark.parametrize("beams", BEAMS)
def test_look_ahead(benchmark, beams):
    vocabulary = 100 if benchmark.disabled else VOCABULARY
    backend = TorchBackend(torch.float32, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    own, other = (torch.randn(beams, vocabulary, generator=generator).log_softmax(dim=-1) for _ in range(2))
    own_sums, other_sums = np.random.default_rng(0).normal(-10, 1, (2, 1, beams))
    pairs = {}

    def library():
        ahead = backend.max_over_beams(other, other_sums, 1.0)
        _, flat, _ = backend.best(own, own_sums, 1.0, ahead, (), beams)
        pairs["library"] = np.asarray(flat)[0]

    def naive():
        left = own + backend.array(own_sums[0])[:, None]
        right = other + backend.array(other_sums[0])[:, None]
        sums = left[:, :, None] + right.T.contiguous()[None]  # [B, V, B']
        pairs["naive"] = sums.amax(dim=-1).flatten().topk(beams).indices.numpy()

    times = in_turns(benchmark, {"library": library, "naive": naive}, repetitions=21)
    assert pairs["library"].tolist() == pairs["naive"].tolist()
    record(
        benchmark,
        "look-ahead",
        beams=beams,
        ms=1000 * times.median("library"),
        naive_ms=1000 * times.median("naive"),
        **times.ratio("naive", "library"),
    )
