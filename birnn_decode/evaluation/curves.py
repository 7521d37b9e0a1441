"""How methods do as they are given more: larger beams, more rounds, more rows."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birnn_decode.call import SWEEPS
from birnn_decode.decode import COMPARED, bscd_decode, compare, gibbs_decode
from birnn_decode.evaluation.blanks import Question
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.metrics import Metric
from birnn_decode.evaluation.report import metrics_of
from birnn_decode.result import DecodeResult

BEAM, ROUNDS, ROWS = "beam size", "rounds", "times the rows of bscd"
LEAD = "J above rerank's"  # at the beam size that is fixed; paired, so that its interval is not that of the captions


@dataclass(frozen=True)
class Point:
    """One method at one setting.

    Attributes:
        along: what is varied: `BEAM`, `ROUNDS`, or `ROWS` (Gibbs sampling's budget).
        method: who.
        setting: the beam size, the most rounds, or the budget over what BSCD takes with the beam size that is fixed.
        figures: metric to figure, `LEAD` among them.
    """

    along: str
    method: str
    setting: int
    figures: Mapping[str, Interval]


def measure(
    model_f: Any,
    model_b: Any,
    questions: Sequence[Question],
    *,
    beam_sizes: Sequence[int],
    fixed_beam: int,
    rounds: int,
    budgets: Sequence[int],
    batch_size: int = 64,
) -> Iterator[list[Point]]:
    """Put the same questions again and again.

    Args:
        model_f: the forward model.
        model_b: the backward model.
        questions: what is asked.
        beam_sizes: at which every method but Gibbs sampling is measured.
        fixed_beam: B while something else is varied.
        rounds: BSCD is measured with at most 0, 1, … of them.
        budgets: Gibbs sampling is measured with so many times the rows that BSCD takes for the same question, and as
            many times its usual sweeps.
        batch_size: questions decoded at a time.

    Yields:
        after each setting its points: one per method, or one.
    """
    parts = [questions[begin : begin + batch_size] for begin in range(0, len(questions), batch_size)]
    inputs = [([one.image for one in part], [one.template for one in part]) for part in parts]

    images = [question.source.name for question in questions]

    def metrics(batches: Sequence[Sequence[Mapping[str, DecodeResult]]]) -> dict[str, list[Metric]]:
        return metrics_of(questions, [result for batch in batches for result in batch])

    def joint(own: Sequence[Metric]) -> Metric:
        return next(metric for metric in own if metric.name == "J")

    def points(along: str, setting: int, batches: Sequence[Sequence[Mapping[str, DecodeResult]]]) -> list[Point]:
        found = []
        for method, own in metrics(batches).items():
            figures = {metric.name: interval(metric, images) for metric in own}
            figures[LEAD] = paired_difference(joint(own), base, images)
            found.append(Point(along, method, setting, figures))
        return found

    reranked = [compare(model_f, model_b, *given, methods=["rerank"], beam_size=fixed_beam) for given in inputs]
    base = joint(metrics(reranked)["rerank"])
    for beam_size in beam_sizes:
        batches = [compare(model_f, model_b, *given, methods=COMPARED, beam_size=beam_size) for given in inputs]
        yield points(BEAM, beam_size, batches)
    for most in range(rounds + 1):
        found = [bscd_decode(model_f, model_b, *given, beam_size=fixed_beam, max_rounds=most) for given in inputs]
        yield points(ROUNDS, most, [[{"bscd": one} for one in results] for results in found])
    spent = [
        [one.rows_evaluated for one in bscd_decode(model_f, model_b, *given, beam_size=fixed_beam)] for given in inputs
    ]
    for budget in budgets:
        found = [
            gibbs_decode(
                model_f,
                model_b,
                *given,
                beam_size=fixed_beam,
                rows=[budget * rows for rows in own],
                sweeps=SWEEPS * budget,
            )
            for given, own in zip(inputs, spent, strict=True)
        ]
        yield points(ROWS, budget, [[{"gibbs": one} for one in results] for results in found])


def steps(beam_sizes: Sequence[int], rounds: int, budgets: Sequence[int]) -> int:
    """How many times `measure` yields."""
    return len(beam_sizes) + rounds + 1 + len(budgets)


def points_csv(points: Sequence[Point]) -> str:
    """One line for each figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["along", "setting", "method", "metric", "value", "low", "high"])
    for point in points:
        for metric, figure in point.figures.items():
            row = [point.along, point.setting, point.method, metric]
            writer.writerow([*row, *figure.cells()])
    return text.getvalue()


def curve(points: Sequence[Point], along: str) -> dict[str, list[Point]]:
    """The points of one curve per method, by rising setting."""
    chosen = sorted(
        (point for point in points if point.along == along), key=lambda point: (point.method, point.setting)
    )
    by_method = {method: list(own) for method, own in itertools.groupby(chosen, key=lambda point: point.method)}
    return {
        method: by_method[method] for method in dict.fromkeys(point.method for point in points) if method in by_method
    }
