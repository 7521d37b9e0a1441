"""Write the tables and pictures for docs/performance.md: report.py OUT_FOLDER BENCHMARK_JSON….

``pytest benchmarks --benchmark-json=…`` writes BENCHMARK_JSON, with the rows that ``benchmarks/measuring.py`` recorded.
Each figure becomes a table, which is printed and written to OUT_FOLDER/performance_tables.md. If ``PICTURES`` has an
entry for the figure, a picture is drawn in OUT_FOLDER too.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birnn_decode.files import write_whole
from birnn_decode.show import curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Row = dict[str, Any]

COLOURS = {**curves.COLOURS, "beam": "#0072B2", "birnn_decode": "#000000", "bound": "0.6"}
OTHER_COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
SLOPE = {"color": "0.5", "lw": 0.9, "ls": ":", "zorder": 1}
AXES = {
    "items": "items in the batch",
    "beams": "beam size B",
    "words": "missing words",
    "vocabulary": "words in the vocabulary",
    "widths": "widths that the blank may have",
    "rows": "mean rows per question",
    "ms": "median time per question [ms]",
}


@dataclass(frozen=True)
class Picture:
    """How to draw the rows of a figure: as lines over a logarithmic axis, or as horizontal bars if ``x`` is empty.

    Bars of ratios get a line at 1. Bars of the column "ratio" get whiskers from the columns "low" and "high".

    Attributes:
        label: label of the axis of the values.
        split: columns by which rows are divided into groups of bars, or into panels.
        values: column that is drawn; if there are several, each is a series with the name that it maps to.
        series: column with the names of series; "" if there is none.
        x: columns of the horizontal axes; several columns make panels side by side.
        log: whether the axis of the values is logarithmic; bars of ratios then begin at 1.
        mark: column whose values are written at the points of lines.
        slope: whether each line has a thin line of slope 1 beside it.
    """

    label: str
    split: tuple[str, ...]
    values: dict[str, str]
    series: str = ""
    x: tuple[str, ...] = ()
    log: bool = True
    mark: str = ""
    slope: bool = False

    def draw(self, rows: Sequence[Row]) -> Figure:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            values = {column: row.get(column, "") for column in self.split}
            key = ", ".join(one if isinstance(one, str) else f"{column} {one}" for column, one in values.items())
            groups.setdefault(key, []).append(row)
        names = dict.fromkeys(name for name, _, _ in self.numbers(rows))
        colours = {name: COLOURS.get(name, OTHER_COLOURS[n % len(OTHER_COLOURS)]) for n, name in enumerate(names)}
        figure = self.draw_lines(groups, colours) if self.x else self.draw_bars(groups, colours)
        found = [axes.get_legend_handles_labels() for axes in figure.axes]
        handles = {label: one for several, labels in found for one, label in zip(several, labels, strict=True) if label}
        if handles:
            fitting = int(12 * figure.get_figwidth() / max(map(len, handles)))  # columns of the longest name
            legend = {"loc": "outside upper center", "ncols": max(1, min(4, fitting)), "fontsize": 8}
            title = f"numbers: {self.mark} size" if self.mark else None
            figure.legend(handles.values(), handles, title=title, title_fontsize=8, **legend)
        return figure

    def numbers(self, rows: Sequence[Row]) -> list[tuple[str, Row, str]]:
        """Series, row and column of each finite number."""
        return [
            (str(row.get(self.series, "")) if self.series else name, row, column)
            for row in rows
            for column, name in self.values.items()
            if math.isfinite(number(row, column))
        ]

    def draw_bars(self, groups: dict[str, list[Row]], colours: dict[str, str]) -> Figure:
        of_ratios = all(column.endswith("ratio") for column in self.values)
        base = int(of_ratios and self.log)
        bars = {key: self.numbers(own) for key, own in groups.items()}
        figure = new_figure(8, 1.2 + sum(max(0.24 * len(own) + 0.16, 0.36) for own in bars.values()))
        axes = figure.add_subplot()
        axes.margins(x=0.12)  # space for the numbers
        if self.log:
            log_axis(axes.xaxis)
        y, centres = 0.0, []
        for own in bars.values():
            centres.append(y + (len(own) - 1) / 2)
            for name, row, column in own:
                value, low, high = row[column], number(row, "low"), number(row, "high")
                axes.barh(y, value - base, 0.86, base, color=colours[name], label=name)
                end = max(value, base)
                if column == "ratio" and low <= high:  # the end of the bar may lie outside of the interval
                    axes.errorbar((low + high) / 2, y, xerr=(high - low) / 2, color="black", capsize=2.5, lw=1)
                    end = max(end, high)
                beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 7}
                box = {"fc": "white", "ec": "none", "pad": 0.6}  # covers the line at 1
                axes.annotate(cell(column, value), (end, y), bbox=box, **beside)
                y += 1
            y += 0.7
        if of_ratios:
            axes.axvline(1, color="black", lw=1, ls="--")
        axes.set_yticks(centres, [textwrap.fill(key, 38) for key in groups], fontsize=8)
        axes.set_ylim(y - 0.7, -1)
        axes.set_xlabel(self.label)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        return figure

    def draw_lines(self, groups: dict[str, list[Row]], colours: dict[str, str]) -> Figure:
        panels = [(key, own, x) for key, own in groups.items() for x in self.x]
        across = len(self.x) if len(self.x) > 1 else min(3, len(panels))
        down = math.ceil(len(panels) / across)
        figure = new_figure((6.4, 8.4, 10.5)[across - 1], 4.6 if len(panels) == 1 else 2.7 * down + 0.6)
        grid = figure.subplots(down, across, squeeze=False, sharey="row" if len(self.x) > 1 else False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, (key, own, x) in zip(grid.flat, panels, strict=False):
            log_axis(axes.xaxis)
            if self.log:
                log_axis(axes.yaxis)
            axes.margins(0.08, 0.14)
            drawn = [one for one in self.numbers(own) if number(one[1], x) > 0]
            for name, colour in colours.items():
                points = sorted((row[x], row[column], row.get(self.mark)) for who, row, column in drawn if who == name)
                if points:
                    self.draw_line(axes, points, name, colour)
            along = self.split == ("along",)  # the panel's name is the name of the axis
            axes.set_xlabel(AXES.get(key, key) if along else AXES.get(x, x))
            axes.set_title("" if along else key, fontsize=9)
            axes.grid(alpha=0.3)
        for axes in grid[:, 0]:
            axes.set_ylabel(self.label)
        if self.slope:
            grid[0, 0].plot([], [], label="slope 1", **SLOPE)  # last in the legend
        return figure

    def draw_line(self, axes: Axes, points: Sequence[tuple[float, float, Any]], name: str, colour: str) -> None:
        xs, ys, marks = zip(*points, strict=True)
        axes.plot(xs, ys, color=colour, marker=curves.MARKERS.get(name, "o"), markersize=4, label=name)
        if self.slope:
            axes.plot([xs[0], xs[-1]], [ys[0], ys[0] * xs[-1] / xs[0]], **SLOPE)
        above = name == "bscd"  # the other line lies below
        sides = {"ha": "right", "va": "bottom"} if above else {"ha": "left", "va": "top"}
        offset = {"xytext": (-2, 4) if above else (3, -4), "textcoords": "offset points", "fontsize": 7}
        for x, y, mark in zip(xs, ys, marks, strict=True) if self.mark else ():
            axes.annotate(str(mark), (x, y), color=colour, **sides, **offset)


FLOOR = "time over that of the model's own calls (whiskers: quartiles)"
BACKENDS = {"numpy_ms": "NumPy", "torch_ms": "PyTorch"}
# In the order of the sections. None: a table without a picture.
PICTURES: dict[str, Picture | None] = {
    "model floor": Picture(FLOOR, ("model", "items"), {"ratio": ""}, "method", log=False),
    "generate": Picture("time [ms]", ("items",), {"ms": ""}, "method"),
    "rerank and bscd": Picture(
        "mean J [nats]", ("data", "blank"), {"J": ""}, "method", ("rows", "ms"), log=False, mark="beam"
    ),
    "equal J": None,
    "rounds": Picture("rows of the sweeps, ratio", ("blank",), {"sweep_rows_ratio": ""}, "data", log=False),
    "growth": Picture("time [ms]", ("along",), {"ms": ""}, "method", ("size",), slope=True),
    "growth exponents": None,
    "memory": Picture("memory [MiB]", ("along",), {"peak_mib": "peak", "bound_mib": "bound"}, x=("size",)),
    "look-ahead": Picture("time [ms]", (), {"ms": "look-ahead", "naive_ms": "naive look-ahead"}, x=("beams",)),
    "backends": Picture("time outside of the scorer [ms]", ("model", "items", "method"), BACKENDS),
    "start": None,
    "data sets": None,
    "memory of data sets": None,
    "tricks": Picture("time before over time after (whiskers: quartiles)", ("trick", "where"), {"ratio": ""}),
}


def read_figures(paths: Sequence[Path]) -> dict[str, list[Row]]:
    """Read the rows of each figure. If a benchmark is in several files, the last file counts.

    Raises:
        OSError: a file cannot be read.
        LookupError: a file has no figures; the message names the file.
    """
    recorded: dict[str, dict[str, list[Row]]] = {}
    for path in paths:
        text = path.read_bytes()
        try:
            for benchmark in json.loads(text)["benchmarks"]:
                figures = benchmark["extra_info"].get("figures", {})
                recorded[benchmark["fullname"]] = {name: [dict(row) for row in rows] for name, rows in figures.items()}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise LookupError(f"{path} was not written by pytest --benchmark-json: give such a file") from None
    found: dict[str, list[Row]] = {name: [] for name in PICTURES}
    for figures in recorded.values():
        for name, rows in figures.items():
            found.setdefault(name, []).extend(rows)
    if not any(found.values()):
        raise LookupError(f"{', '.join(map(str, paths))}: no figures; run the benchmarks again with --benchmark-json")
    return {name: rows for name, rows in found.items() if rows}


def table(name: str, rows: Sequence[Row]) -> str:
    """Write a section with a table; "low" and "high" stand in brackets after the column before them."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    of_spread = columns[columns.index("low") - 1] if {"low", "high"} < set(columns) else ""
    columns = [column for column in columns if not of_spread or column not in ("low", "high")]
    heads = [column.replace("_", " ").replace("mib", "MiB") for column in columns]
    lines = [[head + " [low, high]" * (column == of_spread) for head, column in zip(heads, columns, strict=True)]]
    lines.append(["---"] * len(columns))
    for row in rows:
        ends = [cell(of_spread, row[end]) for end in ("low", "high") if of_spread and end in row]
        spread = f" [{', '.join(ends)}]" if ends else ""
        lines.append([cell(column, row.get(column, "")) + spread * (column == of_spread) for column in columns])
    return "\n".join([f"### {name}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def cell(column: str, value: Any) -> str:
    """Format a value: ratios with two decimals, other numbers with at least three digits."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "–" if value is None else str(value).replace("|", "\\|")
    if isinstance(value, int) or not math.isfinite(value) or column in ("blank", "size"):  # settings are not rounded
        return f"{value:,}"
    digits = math.floor(math.log10(abs(value))) + 1 if value else 1  # before the point; negative for zeros after it
    if column.endswith("ratio"):
        decimals = max(2, 2 - digits)  # 0.0042 is not 0.00
    else:
        decimals = 2 if column in ("J", "exponent") else max(0, 3 - digits)  # methods differ little in J
    return f"{value:,.{decimals}f}"


def number(row: Row, column: str) -> float:
    value = row.get(column)
    return float(value) if isinstance(value, (int, float)) else math.nan


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def log_axis(axis: Axis) -> None:
    """Make an axis logarithmic with plain numbers as labels, even if it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    class Locator(LogLocator):
        def tick_values(self, vmin: float, vmax: float) -> Any:
            decades = math.log10(vmax / vmin)
            if decades < 0.8:
                return MaxNLocator(4).tick_values(vmin, vmax)
            self.set_params(subs=(1, 2, 5) if decades < 2.2 else (1,))
            return super().tick_values(vmin, vmax)

    (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    axis.set_major_locator(Locator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tables and pictures of recorded benchmarks.")
    parser.add_argument("out_folder", type=Path, help="folder for performance_tables.md and the pictures")
    parser.add_argument("benchmark_json", type=Path, nargs="+", help="files of pytest benchmarks --benchmark-json=…")
    arguments = parser.parse_args()
    folder = arguments.out_folder
    try:
        figures = read_figures(arguments.benchmark_json)
    except (OSError, LookupError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    text = "\n".join(table(name, rows) for name, rows in figures.items())
    print(text, end="")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "performance_tables.md", text.encode())
        for name, rows in figures.items():
            if picture := PICTURES.get(name):
                buffer = io.BytesIO()
                picture.draw(rows).savefig(buffer, format="png", dpi=150)
                write_whole(folder / f"{name.replace(' ', '-')}.png", buffer.getvalue())
    except ModuleNotFoundError as error:
        parser.exit(2, f"{parser.prog}: {error.name} is not installed: install birnn_decode[figures]\n")
    except OSError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
