"""What makes a decode fast, each piece with and without: `make bench`, or `pytest benchmarks/test_tricks.py -s`.

The plain way stands here and takes the place of the fast one while it is timed; both find the same sentences.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from measuring import in_turns, record  # noqa: E402
from models import gpt2, lstm, scorer  # noqa: E402
from questions import SCENES, questions  # noqa: E402

import birnn_decode.backend.torch as torch_backend  # noqa: E402
import birnn_decode.scorers.recurrent as recurrent  # noqa: E402
import birnn_decode.search.finalists as finalists  # noqa: E402
from birnn_decode import BSCD, BeamSearch, Pair, Template, decode  # noqa: E402
from birnn_decode.search.tree import PrefixTree  # noqa: E402


@contextlib.contextmanager
def instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    """Another value in the place of an attribute."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, other)
        yield


def fresh(self: Any, name: str, shape: Any) -> Any:
    return torch.empty(*shape, dtype=self.dtype, device=self.device)


def all_read(pool: Any, items: Any, keep: int, patient: Any, top: Any = finalists._Pool.top) -> Any:
    """The answers once every finalist is complete."""
    best, *_ = top(pool, items, keep, patient)
    reading = np.flatnonzero(items[pool.items] & ~pool.complete & (pool.scores > -np.inf))
    return best, reading, np.ones_like(reading, dtype=bool)


def word_by_word(tree: Any, *given: Any, begin: Any = PrefixTree.__init__, **options: Any) -> None:
    """One word per call, as with a scorer that has no ``steps``."""
    begin(tree, *given, **options)
    tree.in_blocks = False


PLAIN_TOP = lambda x, k: x.topk(k, dim=-1)  # noqa: E731
ON_BOARD = "the pair on board, half of the words missing"
MODELS = {
    "LSTM 256, V = 10,000": lambda direction: lstm(direction, 256, 10_000),
    "LSTM 512, V = 10,000": lambda direction: lstm(direction, 512, 10_000),
    "GPT-2, 4 layers of 256, V = 10,000": lambda direction: scorer(gpt2(direction), direction),
}
# what, where (models, items, method), how it is taken away
TRICKS: dict[str, tuple[tuple[str, int, str], Callable[[], contextlib.AbstractContextManager[Any]]]] = {
    "top-k by the maxima of pieces": (
        ("LSTM 256, V = 10,000", 64, "beam"),
        lambda: instead(torch_backend, "_largest", PLAIN_TOP),
    ),
    "buffers that are used again": (
        ("LSTM 256, V = 10,000", 64, "beam"),
        lambda: instead(torch_backend.TorchBackend, "_buffer", fresh),
    ),
    "log-normaliser in pieces that fit a cache": (
        ("LSTM 256, V = 10,000", 64, "beam"),
        lambda: instead(torch_backend.TorchBackend, "in_cache", 2**62),
    ),
    "cells for steps of few rows": (
        ("LSTM 512, V = 10,000", 1, "beam"),
        lambda: instead(recurrent, "FEW_ROWS", 0),
    ),
    "finalists dropped by their bounds": (
        (ON_BOARD, 64, "bscd"),
        lambda: instead(finalists._Pool, "top", all_read),
    ),
    "several words per call": (
        ("LSTM 256, V = 10,000", 1, "bscd"),
        lambda: instead(PrefixTree, "__init__", word_by_word),
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_trick(benchmark: Any, trick: str) -> None:
    (kind, items, method), plainly = TRICKS[trick]
    if benchmark.disabled:
        items = 1
    if kind == ON_BOARD:
        models, asked = questions(SCENES, 0.5, items)
        images, templates = [one.image for one in asked], [one.template for one in asked]
    else:
        models = Pair(*(MODELS[kind](direction) for direction in ("forward", "backward")))
        images = [None] * items
        templates = [Template.blank([5 + item % 7, 6, 7], 10, [8, 9 + item % 5]) for item in range(items)]

    def search() -> Any:
        if method == "beam":
            return decode(Pair(models.forward), images, templates, BeamSearch("forward"))
        return decode(models, images, templates, BSCD(max_rounds=3))

    def before() -> Any:
        with plainly():
            return search()

    assert [one.best.tokens for one in before()] == [one.best.tokens for one in search()]
    times = in_turns(benchmark, {"before": before, "after": search})
    record(
        benchmark,
        "tricks",
        trick=trick,
        where=f"{kind}, N = {items}, {method}",
        before_ms=1e3 * times.median("before"),
        after_ms=1e3 * times.median("after"),
        **times.ratio("before", "after"),
    )
