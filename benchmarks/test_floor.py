"""What a decode costs beside its models: `make bench`, or `pytest benchmarks/test_floor.py -s`.

Every call of a decode is written down and then made again, with the same tokens and states, straight on the model with
nothing else: that is the floor. The models are a captioner of the library and a `transformers.GPT2LMHeadModel`; the
state of the latter is a cache, of which each call gets a copy that is made beforehand and not timed.

Two models with random weights disagree about everything, so that BSCD would go on until it is stopped; with real pairs
it takes two or three rounds, and here three.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from floor import Recorded, alone  # noqa: E402
from measuring import in_turns, record  # noqa: E402
from models import gpt2, lstm, scorer  # noqa: E402

from birnn_decode import BSCD, BeamSearch, Pair, Template, decode  # noqa: E402

MISSING, ROUNDS = 10, 3
SIZES = {
    "LSTM 512, V = 10,000": (lambda direction: lstm(direction, 512, 10_000), (1, 64)),
    "LSTM 256, V = 2,500": (lambda direction: lstm(direction, 256, 2_500), (1, 64)),
    "GPT-2, 4 layers of 256, V = 10,000": (gpt2, (1, 32)),
}
CASES = [(name, items, method) for name, (_, sizes) in SIZES.items() for items in sizes for method in ("beam", "bscd")]


@pytest.mark.parametrize(("name", "items", "method"), CASES)
def test_floor(benchmark: Any, name: str, items: int, method: str) -> None:
    if benchmark.disabled and items > 1:
        pytest.skip("only one item where nothing is timed")
    models = {direction: SIZES[name][0](direction) for direction in ("forward", "backward")}
    scorers = {direction: scorer(model, direction) for direction, model in models.items()}
    templates = [Template.blank([5 + item % 7, 6, 7], MISSING, [8, 9 + item % 5]) for item in range(items)]

    def search(forward: Any, backward: Any) -> Any:
        if method == "beam":
            return decode(Pair(forward), None, templates, BeamSearch("forward"))
        return decode(Pair(forward, backward), None, templates, BSCD(max_rounds=ROUNDS))

    recorded = {direction: Recorded(one) for direction, one in scorers.items()}
    results = search(*recorded.values())

    def model_calls() -> None:
        for program in prepared:
            program()

    prepared: list[Any] = []

    def prepare() -> None:
        prepared[:] = [alone(models[direction], one.calls) for direction, one in recorded.items()]

    with torch.no_grad():
        times = in_turns(
            benchmark, {"decode": lambda: search(*scorers.values()), "floor": model_calls}, before={"floor": prepare}
        )
    record(
        benchmark,
        "model floor",
        model=name,
        items=items,
        method=method,
        ms=1e3 * times.median("decode"),
        floor_ms=1e3 * times.median("floor"),
        **times.ratio("decode", "floor"),
        calls=sum(len(one.calls) for one in recorded.values()),
        rows=sum(result.rows_evaluated for result in results),
    )
