"""Curves: how methods do with larger beams, more rounds and more rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from birnn_decode.decoding import compare
from birnn_decode.evaluation.blanks import Question
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.metrics import Metric
from birnn_decode.evaluation.report import csv_text, metrics_of
from birnn_decode.methods import BSCD, Gibbs
from birnn_decode.result import DecodeResult

BEAM, ROUNDS, ROWS = "beam size", "rounds", "times the rows of bscd"
LEAD = "J above rerank's"  # at the fixed beam size; paired, so the spread of the captions drops out


@dataclass(frozen=True)
class Point:
    """One method at one setting.

    Attributes:
        along: the setting that varies: ``BEAM``, ``ROUNDS``, or ``ROWS`` (the budget of Gibbs sampling).
        method: the name of the method.
        setting: the beam size, the largest number of rounds, or the budget in multiples of BSCD's rows.
        figures: the figure of each metric, ``LEAD`` among them.
    """

    along: str
    method: str
    setting: int
    figures: Mapping[str, Interval]


def measure(
    models: Any,
    questions: Sequence[Question],
    *,
    beam_sizes: Sequence[int],
    fixed_beam: int,
    rounds: int,
    budgets: Sequence[int],
    batch_size: int = 64,
) -> Iterator[list[Point]]:
    """Put the same questions again with each setting.

    Args:
        models: a `Pair`.
        questions: the questions.
        beam_sizes: the beam sizes for every method but Gibbs sampling.
        fixed_beam: B while another setting varies.
        rounds: BSCD is measured with at most 0, 1, … of them.
        budgets: Gibbs sampling is measured with these multiples of the rows that BSCD takes for the same question, and
            of its default sweeps.
        batch_size: the number of questions decoded at a time (default: 64).

    Yields:
        after each setting its points: one per method, or one.
    """
    names = [question.source.name for question in questions]
    parts = [slice(begin, begin + batch_size) for begin in range(0, len(questions), batch_size)]

    def answers(beam_size: int, methods: Iterable[Any]) -> list[Mapping[str, DecodeResult]]:
        """Answer all questions, each part of them by its own methods; None: those of `compare`."""
        found: list[Mapping[str, DecodeResult]] = []
        for part, own in zip(parts, methods, strict=False):
            sources, templates = [one.image for one in questions[part]], [one.template for one in questions[part]]
            found += compare(models, sources, templates, own, beam_size=beam_size)
        return found

    def points(along: str, setting: int, beam_size: int, methods: Iterable[Any]) -> list[Point]:
        made = []
        for method, own in metrics_of(questions, answers(beam_size, methods)).items():
            figures = {metric.name: interval(metric, names) for metric in own}
            figures[LEAD] = paired_difference(_joint(own), base, names)
            made.append(Point(along, method, setting, figures))
        return made

    base = _joint(metrics_of(questions, answers(fixed_beam, repeat(["rerank"])))["rerank"])
    for beam_size in beam_sizes:
        yield points(BEAM, beam_size, beam_size, repeat(None))
    for most in range(rounds + 1):
        yield points(ROUNDS, most, fixed_beam, repeat([BSCD(most)]))
    spent = [one["bscd"].rows_evaluated for one in answers(fixed_beam, repeat(["bscd"]))]
    for budget in budgets:
        rows = [budget * one for one in spent]
        yield points(ROWS, budget, fixed_beam, [[Gibbs(Gibbs.sweeps * budget, rows[part])] for part in parts])


def _joint(metrics: Sequence[Metric]) -> Metric:
    return next(metric for metric in metrics if metric.name == "J")


def steps(beam_sizes: Sequence[int], rounds: int, budgets: Sequence[int]) -> int:
    """How many times `measure` yields."""
    return len(beam_sizes) + rounds + 1 + len(budgets)


def points_csv(points: Sequence[Point]) -> str:
    """One line for each figure."""
    return csv_text(
        ["along", "setting", "method", "metric", "value", "low", "high"],
        (
            [point.along, point.setting, point.method, metric, *figure.cells()]
            for point in points
            for metric, figure in point.figures.items()
        ),
    )


def curve(points: Sequence[Point], along: str) -> dict[str, list[Point]]:
    """The points of one curve per method, by rising setting."""
    chosen = sorted((point for point in points if point.along == along), key=lambda point: point.setting)
    methods = dict.fromkeys(point.method for point in chosen)
    return {method: [point for point in chosen if point.method == method] for method in methods}
