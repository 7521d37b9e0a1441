"""What a record costs: `pytest benchmarks/test_record.py -s`.

The same questions are asked with and without a record, by turns: one at a time, and as one batch. What the recorder
costs when it is off is the ratio of seconds that ``benchmarks/search.py REV scenes 0.5 50 5`` prints, REV being a
commit before there were records. The page of a usual search is measured as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from measuring import in_turns, record
from questions import SCENES, questions

from birnn_decode import BSCD, BeamSearch, compare, decode
from birnn_decode.show import trace_page

MOST_BYTES = 10**6


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("method", [BSCD(), BeamSearch("forward")], ids=lambda one: one.name)
def test_with_and_without(benchmark: Any, method: Any, batch: bool) -> None:
    """Questions with half of the words missing, with five beams."""
    models, asked = questions(SCENES, 0.5, 2 if benchmark.disabled else 30)

    def ask(recorded: bool) -> None:
        if batch:
            decode(models, [one.image for one in asked], [one.template for one in asked], method, record=recorded)
        else:
            for one in asked:
                decode(models, one.image, one.template, method, record=recorded)

    times = in_turns(benchmark, {"without": lambda: ask(False), "with": lambda: ask(True)})
    record(benchmark, "record", method=method.name, batch=batch, **times.ratio("with", "without"))


def test_page(benchmark: Any, tmp_path: Path) -> None:
    """The time to write a page, and its size."""
    models, asked = questions(SCENES, 0.5, 1)
    results = compare(models, asked[0].image, asked[0].template, record=True)
    path = tmp_path / "trace.html"
    benchmark.pedantic(lambda: trace_page(results, path), rounds=1 if benchmark.disabled else 5)
    size = path.stat().st_size
    assert size <= MOST_BYTES
    record(benchmark, "trace page", bytes=size)
