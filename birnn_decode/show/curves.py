"""Curves of how methods do with larger beams, more rounds and more rows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from birnn_decode.evaluation.curves import BEAM, LEAD, ROUNDS, ROWS, Point, curve
from birnn_decode.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, which colour-blind readers can distinguish.
COLOURS = {
    "urnn-f": "#56B4E9",
    "urnn-b": "#E69F00",
    "urnn-f+end": "#0072B2",
    "urnn-b+end": "#D55E00",
    "rerank": "#CC79A7",
    "gibbs": "#009E73",
    "bscd": "#000000",
}
MARKERS = dict(zip(COLOURS, "v^<>sDo", strict=True))
SIZE = (6.4, 4.4)  # inches
AXES = {
    "beam": "beam size B",
    "rows": "rows per question (tokens read by hypotheses, both models)",
    "rounds": "rounds allowed (0: rerank)",
}


def draw_curves(points: Sequence[Point], folder: Path, title: str, fixed_beam: int) -> list[Path]:
    """Draw measured curves, each as a PNG and an SVG file.

    Bands are 95 % intervals. A figure without points is left out.

    Args:
        points: results of ``birnn_decode.evaluation.curves.measure``.
        folder: existing folder for the files.
        title: title of each figure.
        fixed_beam: beam size at which rounds and rows were varied.

    Returns:
        The paths of the files.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from birnn_decode.evaluation import Interval
        >>> from birnn_decode.evaluation.curves import Point
        >>> shares = {1: 0.42, 5: 0.58}
        >>> points = [
        ...     Point("beam size", "bscd", size, {"words right": Interval(share, share - 0.1, share + 0.1)})
        ...     for size, share in shares.items()
        ... ]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     drawn = draw_curves(points, Path(folder), "half of the words missing", fixed_beam=5)
        >>> [path.name for path in drawn]
        ['words-against-beam.png', 'words-against-beam.svg']
    """
    above = f"mean J above rerank's at B = {fixed_beam} [nats]"
    by_beam = curve(points, BEAM)
    by_rows = {method: by_beam[method] for method in ("rerank", "bscd") if method in by_beam} | curve(points, ROWS)
    written = []
    for name, curves, metric, label in (
        ("right-against-beam", by_beam, "exactly right", "share of blanks filled exactly right"),
        ("words-against-beam", by_beam, "words right", "share of missing words at their place"),
        ("joint-against-beam", by_beam, LEAD, above),
        ("joint-against-rows", by_rows, LEAD, above),
        ("joint-against-rounds", curve(points, ROUNDS), LEAD, above),
    ):
        there = {method: own for method, own in curves.items() if metric in own[0].figures}
        if not there:
            continue
        figure = _figure(there, metric, name.rpartition("-")[2])
        figure.axes[0].set_ylabel(label)
        figure.axes[0].set_title(title, fontsize=10)
        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            # Without a date, equal figures give equal files.
            figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            written.append(folder / f"{name}.{kind}")
            write_whole(written[-1], buffer.getvalue())
    return written


def _figure(curves: Mapping[str, Sequence[Point]], metric: str, along: str) -> Figure:
    """One metric of each method against "beam", "rows" or "rounds"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(AXES[along])
    axes.grid(alpha=0.3)
    for method, own in curves.items():
        colour = COLOURS[method]
        places = [point.figures["rows"].value if along == "rows" else point.setting for point in own]
        values, lows, highs = np.array([astuple(point.figures[metric]) for point in own]).T
        axes.plot(places, values, marker=MARKERS[method], markersize=4, color=colour, label=method)
        axes.fill_between(places, lows, highs, color=colour, alpha=0.12, lw=0)
        for point, place, value in zip(own, places, values, strict=True) if along == "rows" else ():
            axes.annotate(
                f"B={point.setting}" if point.along == BEAM else f"×{point.setting}",
                (place, value),
                xytext=(0, 6 if method == "bscd" else -11),
                textcoords="offset points",
                fontsize=7,
                ha="center",
                color=colour,
            )
    if along != "rounds":
        axes.set_xscale("log")
    if along != "rows":
        settings = sorted({point.setting for own in curves.values() for point in own})
        axes.set_xticks(settings, map(str, settings))
        axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure
