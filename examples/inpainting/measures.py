"""How good filled pictures are: errors, sharpness, J, and whether a classifier still recognises them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio
from sklearn.svm import SVC

from birnn_decode.evaluation import Interval, interval, mean_metric, paired_difference
from examples.inpainting import holes
from examples.inpainting.data import Pictures
from examples.inpainting.filling import BEAM_SIZE, SEARCHES, Filled

CROP = 16  # side of the part of a scene in which a shape is recognised
SHAPE_SIDE = 10  # side of a hole over a shape
FEWER = 100  # pictures with other holes than the one in the middle, and with more beams
WIDE = 50  # beams
OFF = 3  # pixels that the hole is beside the middle of the shape, at most


@dataclass(frozen=True)
class Task:
    """Pictures with holes, and what is to be recognised in them.

    Attributes:
        name: kind of the holes.
        numbers: the true pictures, int64 [N, height, width].
        missing: the holes, bool [N, height, width].
        labels: the digit of each picture, or the shape that its hole covers; empty if nothing is known.
        methods: the searches that fill the holes.
        beam_size: number of beginnings that they keep at each pixel.
    """

    name: str
    numbers: np.ndarray
    missing: np.ndarray
    labels: list = field(default_factory=list)
    methods: tuple[str, ...] = SEARCHES
    beam_size: int = BEAM_SIZE


def tasks(pictures: Pictures, side: int | None, seed: int) -> list[Task]:
    """Return the tasks for the test pictures: for scenes a hole over a large shape, for others each kind of holes.

    Args:
        pictures: the pictures.
        side: side of the hole in the middle, or over the shape, in pixels; None: half of the picture, or 10.
        seed: seed of the holes.

    Raises:
        ValueError: the hole is larger than the picture.
    """
    random = np.random.default_rng([seed, 1])
    numbers, size = pictures.test, pictures.size
    if pictures.colours:
        large = [next(shape for shape in shapes if shape.size == "large") for shapes in pictures.test_labels]
        cut = []
        for shape in large:
            middle = np.array([shape.y, shape.x]) * size + random.integers(-OFF, OFF + 1, size=2)
            cut.append(holes.square(size, side or SHAPE_SIDE, *(middle - (side or SHAPE_SIDE) / 2).round().astype(int)))
        return [Task("shape", numbers, np.stack(cut), large)]
    middle = np.repeat(holes.centre(size, side=side)[None], len(numbers), axis=0)
    found = [Task("centre", numbers, middle, pictures.test_labels)]
    fewer, labels = numbers[:FEWER], pictures.test_labels[:FEWER]
    for kind in ("blocks", "regions"):
        found.append(Task(kind, fewer, holes.draw([kind], len(fewer), size, random), labels))
    found.append(Task(f"centre, B = {WIDE}", fewer, middle[:FEWER], labels, ("rerank", "bscd"), WIDE))
    return found


class DigitReader:
    """A support vector machine that was trained on whole digits."""

    def __init__(self, pictures: Pictures):
        values = pictures.values(pictures.train)
        self.classifier = SVC().fit(values.reshape(len(values), -1), pictures.train_labels)

    def __call__(self, filled: Filled, labels: Sequence[int]) -> list[int]:
        """Return the digit that the classifier sees in each filled picture."""
        return self.classifier.predict(filled.values.reshape(len(filled.values), -1)).tolist()


class ShapeReader:
    """A support vector machine that was trained on the shapes of whole scenes, each cut out, in its own colour."""

    def __init__(self, pictures: Pictures):
        self.colours = pictures.colours
        cut, kinds = [], []
        for numbers, shapes in zip(pictures.train, pictures.train_labels, strict=True):
            cut += [self.crop(numbers, shape) for shape in shapes]
            kinds += [shape.kind for shape in shapes]
        self.classifier = SVC().fit(np.stack(cut), kinds)

    def crop(self, numbers: np.ndarray, shape) -> np.ndarray:
        """Return which pixels around the middle of a shape have its colour, [CROP²]."""
        height, width = numbers.shape
        top, left = int(shape.y * height), int(shape.x * width)
        own = np.pad(numbers == self.colours[shape.colour], CROP // 2)
        return own[top : top + CROP, left : left + CROP].ravel().astype(float)

    def __call__(self, filled: Filled, labels: Sequence) -> list[str]:
        """Return the kind of shape that the classifier sees at the place of each shape."""
        cut = [self.crop(numbers, shape) for numbers, shape in zip(filled.numbers, labels, strict=True)]
        return self.classifier.predict(np.stack(cut)).tolist()


def reader(pictures: Pictures) -> DigitReader | ShapeReader | None:
    """Return what recognises the pictures; None if there are no labels."""
    if not pictures.train_labels:
        return None
    return ShapeReader(pictures) if pictures.colours else DigitReader(pictures)


def recognised(read: Sequence, labels: Sequence) -> np.ndarray:
    """Return which pictures are recognised as what they were, float64 [N]."""
    right = [getattr(label, "kind", label) for label in labels]
    return (np.array(read) == np.array(right)).astype(float)


def in_holes(each: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return the mean of values [N, height, width] over the hole of each picture, float64 [N]."""
    return (each * missing).sum((1, 2)) / missing.sum((1, 2))


def gradient(values: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from its upper and left neighbours, [N, channels, height, width].

    At the first row and column the difference is 0.
    """
    down = np.diff(values, axis=2, prepend=values[:, :, :1])
    right = np.diff(values, axis=3, prepend=values[:, :, :, :1])
    return np.hypot(down, right)


def measure(filled: Filled, task: Task, pictures: Pictures, read: Sequence) -> dict[str, np.ndarray]:
    """Return each measure of each picture, by the name of the measure, [N]."""
    true = pictures.values(task.numbers)
    found = {
        "squared error": in_holes(((filled.values - true) ** 2).mean(1), task.missing),
        "right": in_holes(filled.numbers == task.numbers, task.missing),
        "J": filled.joint,
        "sharpness": in_holes(gradient(filled.values).mean(1), task.missing),
    }
    return found | ({"recognised": recognised(read, task.labels)} if len(read) else {})


def psnr(filled: Filled, task: Task, pictures: Pictures) -> float:
    """Return the peak signal-to-noise ratio of all missing pixels together, in decibels."""
    true = np.moveaxis(pictures.values(task.numbers), 1, -1)[task.missing]
    painted = np.moveaxis(filled.values, 1, -1)[task.missing]
    if np.array_equal(true, painted):
        return float("inf")
    return float(peak_signal_noise_ratio(true, painted, data_range=1))


def mean(values: np.ndarray) -> Interval:
    """Return the mean over pictures with its 95 % interval."""
    return interval(mean_metric("", values), range(len(values)))


def difference(values: np.ndarray, others: np.ndarray) -> Interval:
    """Return the mean difference of the same pictures with its 95 % interval."""
    return paired_difference(mean_metric("", values), mean_metric("", others), range(len(values)))


@dataclass
class Results:
    """Everything that is measured, as rows of a CSV file, and as tables for the terminal."""

    rows: list[tuple[str, str, str, str, Interval]] = field(default_factory=list)

    def add(self, pictures: str, hole: str, name: str, measures: Mapping[str, Interval]) -> None:
        """Add the measures of a method."""
        self.rows += [(pictures, hole, name, measure, value) for measure, value in measures.items()]

    def csv(self) -> str:
        """Return all rows as the text of a CSV file."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["pictures", "hole", "method", "measure", "value", "low", "high"])
        writer.writerows([*row[:4], *row[4].cells()] for row in self.rows)
        return text.getvalue()

    def tables(self) -> list[Table]:
        """Return a table for each kind of pictures and holes, methods down, measures across."""
        found = []
        for pictures, hole in dict.fromkeys(row[:2] for row in self.rows):
            own = [row[2:] for row in self.rows if row[:2] == (pictures, hole)]
            columns = list(dict.fromkeys(name for _, name, _ in own))
            table = Table("", *columns, box=None, pad_edge=False, title=f"{pictures}, {hole}", title_justify="left")
            for method in dict.fromkeys(name for name, _, _ in own):
                cells = {column: shown(value) for name, column, value in own if name == method}
                table.add_row(method, *(cells.get(column, "") for column in columns))
            found.append(table)
        return found


def shown(value: Interval) -> str:
    """Return a figure and its interval as text, such as "0.880 [0.846, 0.912]"."""
    digits = 1 if abs(value.value) >= 10 else 3 if abs(value.value) >= 0.01 else 4
    number, low, high = (f"{round(one, digits) + 0.0:.{digits}f}" for one in (value.value, value.low, value.high))
    return number if np.isnan(value.low) else f"{number} [{low}, {high}]"
