"""Pictures of how methods do as they are given more."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birnn_decode.evaluation.curves import BEAM, LEAD, ROUNDS, ROWS, Point, curve
from birnn_decode.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "urnn-f": "tab:blue",
    "urnn-b": "tab:orange",
    "urnn-f+end": "tab:cyan",
    "urnn-b+end": "tab:olive",
    "rerank": "tab:purple",
    "gibbs": "tab:brown",
    "bscd": "tab:red",
}
MARKERS = dict(zip(COLOURS, "v^<>sDo", strict=True))
SIZE = (6.4, 4.4)  # inches


def draw_curves(points: Sequence[Point], folder: Path, title: str, fixed_beam: int) -> list[Path]:
    """Draw what was measured, each figure as PNG and SVG; bands and bars are 95 % intervals.

    Args:
        points: of `birnn_decode.evaluation.curves.measure`.
        folder: where the files go.
        title: what was asked.
        fixed_beam: B while something else was varied.

    Returns:
        the files.
    """
    above = f"mean J above rerank's at B = {fixed_beam} [nats]"
    figures = {
        "right-against-beam": _against_beam(points, "exactly right", "share of blanks filled exactly right"),
        "words-against-beam": _against_beam(points, "words right", "share of missing words at their place"),
        "joint-against-beam": _against_beam(points, LEAD, above),
        "joint-against-rows": _against_rows(points, above),
        "joint-against-rounds": _against_rounds(points, above),
    }
    written = []
    for name, figure in figures.items():
        if figure is None:
            continue
        figure.axes[0].set_title(title, fontsize=10)
        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            # Without a date in it, the same figures give the same file.
            figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            written.append(folder / f"{name}.{kind}")
            write_whole(written[-1], buffer.getvalue())
    return written


def _against_beam(points: Sequence[Point], metric: str, label: str) -> Figure | None:
    curves = {
        method: [point for point in own if metric in point.figures] for method, own in curve(points, BEAM).items()
    }
    if not any(curves.values()):
        return None
    figure, axes = _axes("beam size B", label)
    for method, own in curves.items():
        _line(axes, method, [point.setting for point in own], [point.figures[metric] for point in own])
    _scale(axes, sorted({point.setting for own in curves.values() for point in own}))
    return _finished(figure, axes)


def _against_rows(points: Sequence[Point], label: str) -> Figure | None:
    curves = {method: own for method, own in curve(points, BEAM).items() if method in ("rerank", "bscd")}
    curves.update(curve(points, ROWS))
    if not curves:
        return None
    figure, axes = _axes("rows per question (tokens read by hypotheses, both models)", label)
    for method, own in curves.items():
        rows = [point.figures["rows"].value for point in own]
        _line(axes, method, rows, [point.figures[LEAD] for point in own])
        for point, at in zip(own, rows, strict=True):
            name = f"B={point.setting}" if point.along == BEAM else f"×{point.setting}"
            axes.annotate(
                name,
                (at, point.figures[LEAD].value),
                xytext=(0, 6 if method == "bscd" else -11),
                textcoords="offset points",
                fontsize=7,
                ha="center",
                color=COLOURS[method],
            )
    axes.set_xscale("log")
    return _finished(figure, axes)


def _against_rounds(points: Sequence[Point], label: str) -> Figure | None:
    curves = curve(points, ROUNDS)
    if not curves:
        return None
    figure, axes = _axes("rounds allowed (0: rerank)", label)
    for method, own in curves.items():
        _line(axes, method, [point.setting for point in own], [point.figures[LEAD] for point in own])
    axes.set_xticks(sorted({point.setting for own in curves.values() for point in own}))
    return _finished(figure, axes)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _line(axes: Axes, method: str, x: Sequence[float], figures: Sequence[Any]) -> None:
    colour = COLOURS[method]
    axes.plot(x, [one.value for one in figures], marker=MARKERS[method], markersize=4, color=colour, label=method)
    axes.fill_between(x, [one.low for one in figures], [one.high for one in figures], color=colour, alpha=0.12, lw=0)


def _scale(axes: Axes, beam_sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(beam_sizes, [str(size) for size in beam_sizes])
    axes.minorticks_off()


def _finished(figure: Figure, axes: Axes) -> Figure:
    axes.legend(fontsize=8)
    return figure
