"""BSCD beside what one would do instead, on questions about captions: `pytest benchmarks/test_methods.py -s`.

On held-out scenes with the pair on board; on UCM-Captions and the text of Flickr8k too, where `benchmarks/questions.py`
finds them. All questions are asked in batches of 64.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from measuring import in_turns, record
from questions import questions, there_is

import birnn_decode.search.pair
from birnn_decode import BSCD, BeamSearch, DecodeResult, Pair, Rerank, decode
from birnn_decode.evaluation import Question

BLANKS = (0.25, 0.5, 0.75)
BEAMS = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50)
BEAM = 5
QUESTIONS, BATCH = 200, 64
CASES = [(data, blank) for data in there_is() for blank in BLANKS]


def ask(models: Pair, method: Any, asked: Sequence[Question], **options: Any) -> list[DecodeResult]:
    """A method's results."""
    found = []
    for begin in range(0, len(asked), BATCH):
        some = asked[begin : begin + BATCH]
        found += decode(models, [one.image for one in some], [one.template for one in some], method, **options)
    return found


def figures(results: Sequence[DecodeResult]) -> dict[str, float]:
    """Mean J and rows; every method has an answer to every question."""
    return {
        "J": statistics.mean(one.best.joint for one in results if one.best.joint is not None),
        "rows": statistics.mean(one.rows_evaluated for one in results),
    }


@pytest.mark.parametrize(("data", "blank"), CASES)
def test_rerank(benchmark: Any, data: str, blank: float) -> None:
    """Beam sizes of both; then BSCD with 5 beams beside the smallest rerank that gets as far."""
    pair, asked = questions(data, blank, 8 if benchmark.disabled else QUESTIONS)
    methods = {
        method.name: lambda beam, method=method: ask(pair, method, asked, beam_size=beam)
        for method in (Rerank(), BSCD())
    }
    reached: dict[tuple[str, int], dict[str, float]] = {}
    for beam in BEAMS[3:5] if benchmark.disabled else BEAMS:
        for method, run in methods.items():
            began = time.perf_counter()
            reached[method, beam] = figures(run(beam))
            ms = 1e3 * (time.perf_counter() - began) / len(asked)
            row = {"data": data, "blank": blank, "method": method, "beam": beam, **reached[method, beam], "ms": ms}
            record(benchmark, "rerank and bscd", **row)
    goal = reached["bscd", BEAM]
    enough = [beam for method, beam in reached if method == "rerank" and reached[method, beam]["J"] >= goal["J"]]
    other = min(enough, default=max(beam for _, beam in reached))
    times = in_turns(benchmark, {"bscd": lambda: methods["bscd"](BEAM), "rerank": lambda: methods["rerank"](other)})
    record(
        benchmark,
        "equal J",
        data=data,
        blank=blank,
        beam=BEAM,
        J=goal["J"],
        rerank_beam=other,
        rerank_J=reached["rerank", other]["J"],
        rows_ratio=reached["rerank", other]["rows"] / goal["rows"],
        time_ratio=times.ratio("bscd", "rerank")["ratio"],
        low=times.ratio("bscd", "rerank")["low"],
        high=times.ratio("bscd", "rerank")["high"],
    )


@pytest.mark.parametrize(("data", "blank"), CASES)
def test_rounds(benchmark: Any, monkeypatch: pytest.MonkeyPatch, data: str, blank: float) -> None:
    """BSCD run to its end, over the two beam searches that it begins with.

    Rows of blank positions are those that give the scores of a blank word: 1 + (words - 1) * beams in a beam search.
    Final scoring is set against reading every finalist from START to its end in both directions, a prefix that several
    share but once, and against what is left of that behind the sweeps.
    """
    pair, asked = questions(data, blank, 8 if benchmark.disabled else 300)
    full, left = [], []
    rank = birnn_decode.search.pair.rank_finalists

    def counting(finalists: Any, items: int, directions: Any, *given: Any, **options: Any) -> Any:
        finalists = list(finalists)
        for direction in directions:
            prefixes = set()
            for one in finalists:
                words = direction.words_in_reading_order(one.words)
                prefixes |= {(one.item, words[:length]) for length in range(len(words) + 1)}
            tree = direction.tree
            nodes = np.arange(len(tree))
            nodes = nodes[tree.known(nodes)]
            read = set(zip(tree.items[nodes].tolist(), tree.words(nodes), strict=True))
            full.append(len(prefixes))
            left.append(len(prefixes - read) - _known_words(asked_now, direction.reverse))
        return rank(finalists, items, directions, *given, **options)

    results: list[DecodeResult] = []
    with monkeypatch.context() as patched:
        patched.setattr(birnn_decode.search.pair, "rank_finalists", counting)
        for begin in range(0, len(asked), BATCH):
            some = asked[begin : begin + BATCH]
            asked_now = [one.template for one in some]
            results += ask(pair, BSCD(), some)
    known = sum(_known_words([one.template], reverse) for one in asked for reverse in (False, True))
    first = sum(one.trace[0].rows for one in results)
    sweeps = sum(part.rows for one in results for part in one.trace)
    final = sum(one.rows_evaluated for one in results) - sweeps
    times = in_turns(
        benchmark,
        {
            "bscd": lambda: ask(pair, BSCD(), asked),
            "beams": lambda: [
                ask(Pair(pair.forward), BeamSearch("forward"), asked),
                ask(Pair(None, pair.backward), BeamSearch("backward"), asked),
            ],
        },
    )
    record(
        benchmark,
        "rounds",
        data=data,
        blank=blank,
        rounds=statistics.mean(one.rounds for one in results),
        sweep_rows_ratio=(sweeps - known) / (first - known),
        final_share=final / sum(full),
        final_share_of_the_unread=final / sum(left),
        rows_ratio=(sweeps + final) / first,
        time_ratio=times.ratio("bscd", "beams")["ratio"],
        low=times.ratio("bscd", "beams")["low"],
        high=times.ratio("bscd", "beams")["high"],
    )


def _known_words(templates: Sequence[Any], reverse: bool) -> int:
    """The rows that read START and the known words before a blank, but for the last, which gives the blank's scores."""
    total = 0
    for template in templates:
        (fixed,) = template.fixed()
        begin, end = fixed.runs[0]
        total += len(fixed) - end if reverse else begin
    return total
