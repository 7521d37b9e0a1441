"""What BSCD adds to the two beam searches that it begins with: `pytest benchmarks/test_one_question.py -s`.

Questions are asked one at a time, as a user who tries a pair does, with a quarter or half of the words missing. The
beam searches return their sentences, so each of them also reads the ends of its five best.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from measuring import in_turns, record
from questions import questions, there_is

from birnn_decode import BSCD, BeamSearch, Pair, Rerank, decode
from birnn_decode.methods import Method


@pytest.mark.parametrize("blank", [0.25, 0.5])
@pytest.mark.parametrize("name", there_is())
def test_one_at_a_time(benchmark: Any, name: str, blank: float) -> None:
    models, asked = questions(name, blank, 2 if benchmark.disabled else 50)
    single = {"forward": Pair(models.forward), "backward": Pair(None, models.backward)}

    def ask(pair: Pair, method: Method) -> None:
        for one in asked:
            decode(pair, one.image, one.template, method)

    def beam_searches() -> None:
        for direction, pair in single.items():
            ask(pair, BeamSearch(direction))

    programs = {"BSCD": lambda: ask(models, BSCD()), "rerank": lambda: ask(models, Rerank()), "two": beam_searches}
    times = in_turns(benchmark, programs)
    for method in ("BSCD", "rerank"):
        about = {"data": name, "missing": blank, "method": method, "ms": 1000 * times.median(method) / len(asked)}
        record(benchmark, "one question", **about, **times.ratio(method, "two"))
