"""NumPy against PyTorch: time outside of the scorer, on the same search: `pytest benchmarks/test_backends.py -s`.

The scorer looks its scores up in a table, so that both libraries search over the same numbers; what it takes is counted
and subtracted.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from measuring import Times, in_turns, record  # noqa: E402

from birnn_decode import BSCD, BeamSearch, Pair, Template, decode  # noqa: E402

WORDS, ROUNDS = 400, 3


class Table:
    """A scorer whose scores depend on the last word only; keeps count of its own time."""

    aligned = False

    def __init__(self, vocab_size: int, reverse: bool, library: str):
        scores = np.random.default_rng(reverse).normal(0, 4, (WORDS, vocab_size)).astype(np.float32)
        self._scores = scores if library == "numpy" else torch.from_numpy(scores)
        self.vocab_size = vocab_size
        self.start_token, self.end_token = (2, 1) if reverse else (1, 2)
        self.seconds = 0.0

    def encode(self, images: Any) -> int:
        return len(images)

    def start(self, images: int) -> np.ndarray:
        return np.zeros(images)

    def step(self, tokens: Any, state: np.ndarray) -> tuple[Any, np.ndarray]:
        began = time.perf_counter()
        scores = self._scores[tokens % WORDS]
        self.seconds += time.perf_counter() - began
        return scores, state

    def select(self, state: np.ndarray, rows: Any) -> np.ndarray:
        return state[np.asarray(rows)]

    def join(self, states: Any) -> np.ndarray:
        return np.concatenate(states)


@pytest.mark.parametrize("method", ["beam", "bscd"])
@pytest.mark.parametrize(("items", "vocab_size"), [(1, 2_500), (1, 10_000), (64, 2_500), (64, 10_000)])
def test_backends(benchmark: Any, items: int, vocab_size: int, method: str) -> None:
    if benchmark.disabled and items > 1:
        pytest.skip("only one item where nothing is timed")
    pairs = {
        library: [Table(vocab_size, reverse, library) for reverse in (False, True)] for library in ("numpy", "torch")
    }
    templates = [Template.blank([5 + item % 7, 6, 7], 10, [8, 9 + item % 5]) for item in range(items)]
    outside = Times({library: [] for library in pairs})
    answers = {}

    def search(library: str) -> None:
        pair = pairs[library]
        for scorer in pair:
            scorer.seconds = 0.0
        began = time.perf_counter()
        if method == "beam":
            results = decode(Pair(pair[0]), None, templates, BeamSearch("forward"))
        else:
            results = decode(Pair(*pair), None, templates, BSCD(max_rounds=ROUNDS))
        outside[library].append(time.perf_counter() - began - sum(scorer.seconds for scorer in pair))
        answers[library] = [one.best.tokens for one in results]

    in_turns(benchmark, {library: lambda library=library: search(library) for library in pairs})
    assert answers["numpy"] == answers["torch"]
    record(
        benchmark,
        "backends",
        model=f"V = {vocab_size:,}",
        items=items,
        method=method,
        numpy_ms=1e3 * outside.median("numpy"),
        torch_ms=1e3 * outside.median("torch"),
        **outside.ratio("numpy", "torch"),
    )
