"""Sheets of filled pictures, in the manner of Figure 1 of the Context Encoders' paper."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from birnn_decode.files import write_whole
from examples.inpainting.data import Pictures

CELL = 1.25  # inches
DPI = 110
HOLE = np.array([0.93, 0.55, 0.75])  # a colour that no palette here has
OUTLINE, RIGHT, WRONG = "#D6277F", "#00703C", "#C1003B"


def draw_picture(axes: Axes, values: np.ndarray, missing: np.ndarray, cover: bool = False) -> None:
    """Draw a picture [channels, height, width] and the outline of its hole. ``cover``: hide what is in the hole."""
    shown = np.broadcast_to(np.moveaxis(values, 0, -1), (*missing.shape, 3)).copy()
    if cover:
        shown[missing] = HOLE
    axes.imshow(shown.clip(0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("0.7")
    height, width = missing.shape
    fine = np.kron(np.pad(missing, 1), np.ones((10, 10)))
    axes.contour(
        np.linspace(-1.5, width + 0.5, 10 * (width + 2), endpoint=False) + 0.05,
        np.linspace(-1.5, height + 0.5, 10 * (height + 2), endpoint=False) + 0.05,
        fine,
        levels=[0.5],
        colors=OUTLINE,
        linewidths=0.9,
    )
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def draw_sheet(
    path: Path,
    pictures: Pictures,
    numbers: np.ndarray,
    missing: np.ndarray,
    columns: Mapping[str, np.ndarray],
    read: Mapping[str, Sequence],
    right: Sequence,
) -> None:
    """Draw one row for each picture: the input, what each method filled in, and the truth.

    Args:
        path: the PNG file to write.
        pictures: where the palette comes from.
        numbers: the true pictures, int64 [N, height, width].
        missing: their holes, bool [N, height, width].
        columns: filled pictures, [N, channels, height, width], by the title of their column.
        read: what the classifier reads in the filled pictures, by the title of their column; may be empty.
        right: what it should read.
    """
    true = pictures.values(numbers)
    titles = ["input", *columns, "truth"]
    count = len(numbers)
    height = (CELL + 0.22) * count + 0.5 if read else CELL * count + 0.45
    figure = Figure(figsize=(CELL * len(titles) + 0.2, height), dpi=DPI, layout="constrained")
    grid = figure.subplots(count, len(titles), squeeze=False)
    for row, axes in enumerate(grid):
        for title, one in zip(titles, axes, strict=True):
            values = columns[title][row] if title in columns else true[row]
            draw_picture(one, values, missing[row], cover=title == "input")
            if row == 0:
                one.set_title(title, fontsize=9)
            if title in read:
                said, ok = read[title][row], read[title][row] == right[row]
                one.set_xlabel(f"{said} {'✓' if ok else '✗'}", color=RIGHT if ok else WRONG, fontsize=8, labelpad=2)
            elif title == "truth" and len(right):
                one.set_xlabel(str(right[row]), fontsize=8, labelpad=2)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, completely or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"optimize": True})
    write_whole(path, buffer.getvalue())
