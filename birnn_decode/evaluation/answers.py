"""Describe the answers of a data set: counts, metrics, distributions, and which answers to look at."""

from __future__ import annotations

import heapq
import importlib.util
import math
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.datasets.answers import read_answers
from birnn_decode.evaluation.bootstrap import Interval, interval
from birnn_decode.evaluation.metrics import caption_metrics, mean_metric
from birnn_decode.vocabularies import words_of

METHOD = "answers"  # the name of the only method in a table of metrics
SHOWN = 20  # examples, slow questions and kinds of errors
BINS = 20
SEED = 0


@dataclass(frozen=True)
class Histogram:
    """How often the values of an interval occur.

    Attributes:
        edges: the edges of the intervals, ascending, one more than there are counts.
        counts: the number of values in each interval.
        median: the median of all values.
    """

    edges: Sequence[float]
    counts: Sequence[int]
    median: float


@dataclass(frozen=True)
class AnswersReport:
    """The figures of a file of answers.

    Attributes:
        name: the file.
        answers: the number of answers.
        errors: for each error, the number of answers that have it; the most frequent first.
        without: the number of answers that are no errors, and have no sentence.
        stops: for each stop reason, the number of answers.
        signatures: for each signature, the number of answers.
        metrics: the metrics of the answers that have references, with 95 % intervals; empty if there are none.
        compared: the number of answers that have references.
        joint: the distribution of J, in nats; None if there is no J.
        widths: the distribution of the number of words in the blanks of an answer; None if there is no answer.
        slowest: the answers that took the most rows, the most first.
        examples: answers drawn at random, in the order of the file.
        failed: the first answers that are errors.
        notes: lines about what is missing.

    Example:
        >>> from pathlib import Path
        >>> from birnn_decode.evaluation import describe
        >>> line = '{"id": 1, "text": "a dog", "joint": -2.5, "stop": "converged", "rows": 7, "error": null}'
        >>> size = Path("answers.jsonl").write_text(line)
        >>> described = describe("answers.jsonl")
        >>> described.answers, described.stops, described.joint.median
        (1, {'converged': 1}, -2.5)
    """

    name: str
    answers: int
    errors: Mapping[str, int]
    without: int
    stops: Mapping[str, int]
    signatures: Mapping[str, int]
    metrics: Mapping[str, Interval]
    compared: int
    joint: Histogram | None
    widths: Histogram | None
    slowest: Sequence[Mapping[str, Any]]
    examples: Sequence[Mapping[str, Any]]
    failed: Sequence[Mapping[str, Any]]
    notes: Sequence[str]


def describe(path: str | os.PathLike[str]) -> AnswersReport:
    """Describe a file of answers.

    An answer is exactly right if it is the same text as a reference. If the reference has several words, case and
    punctuation do not count.

    Args:
        path: a file of answers that `birnn_decode.datasets.decode_dataset` wrote, in JSON Lines or Parquet.

    Returns:
        The figures.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has no answers, or is damaged.

    Example:
        >>> from pathlib import Path
        >>> from birnn_decode.evaluation import describe
        >>> line = '{"id": 1, "text": null, "error": "there is no picture 1.png"}'
        >>> size = Path("answers.jsonl").write_text(line)
        >>> describe("answers.jsonl").errors
        {'there is no picture …': 1}
    """
    errors: Counter[str] = Counter()
    stops: Counter[str] = Counter()
    signatures: Counter[str] = Counter()
    joints: list[float] = []
    widths: list[int] = []
    compared: list[tuple[str, list[str]]] = []
    slowest: list[tuple[int, int, Mapping[str, Any]]] = []
    examples: list[tuple[int, Mapping[str, Any]]] = []
    failed: list[Mapping[str, Any]] = []
    draw, count, without = random.Random(SEED), 0, 0
    for number, one in enumerate(read_answers(path)):
        count += 1
        if one["error"] is not None:
            errors[_kind(one["error"])] += 1
            failed += [one][: SHOWN - len(failed)]
            continue
        stops[str(one.get("stop"))] += 1
        signatures[str(one.get("signature"))] += 1
        text = one["text"]
        without += text is None
        if isinstance(joint := one.get("joint"), float) and math.isfinite(joint):
            joints.append(joint)
        if isinstance(width := one.get("width"), int):
            widths.append(width)
        references = one.get("references")
        if isinstance(references, list) and references and all(isinstance(reference, str) for reference in references):
            compared.append((text or "", references))
        rows = (one.get("rows") or 0, -number, one)
        (heapq.heappush if len(slowest) < SHOWN else heapq.heappushpop)(slowest, rows)
        # Every answer has the same chance to be among the examples (Vitter's algorithm R).
        seen = number + 1 - sum(errors.values())
        if len(examples) < SHOWN:
            examples.append((number, one))
        elif (place := draw.randrange(seen)) < SHOWN:
            examples[place] = number, one
    if not count:
        raise ValueError(f"{os.fspath(path)} has no answers")
    metrics, notes = _metrics(compared)
    return AnswersReport(
        name=os.path.basename(path),
        answers=count,
        errors=dict(errors.most_common()),
        without=without,
        stops=dict(stops.most_common()),
        signatures=dict(signatures.most_common()),
        metrics=metrics,
        compared=len(compared),
        joint=_histogram(joints),
        widths=_histogram(widths),
        slowest=[one for _, _, one in sorted(slowest, key=lambda entry: entry[:2], reverse=True)],
        examples=[one for _, one in sorted(examples, key=lambda entry: entry[0])],
        failed=failed,
        notes=notes,
    )


def _metrics(compared: Sequence[tuple[str, list[str]]]) -> tuple[dict[str, Interval], list[str]]:
    if not compared:
        return {}, ["no metrics: the questions had no references"]
    texts, references = [text for text, _ in compared], [own for _, own in compared]
    metrics = [mean_metric("exactly right", [float(_right(text, own)) for text, own in compared])]
    notes = []
    if importlib.util.find_spec("pycocoevalcap") is None:
        notes = ["no BLEU, ROUGE-L, METEOR and CIDEr: install birnn_decode[evaluation] for these"]
    elif any(" " in reference for own in references for reference in own):  # lines of characters have no words
        of_captions, notes = caption_metrics({METHOD: texts}, references)
        metrics += of_captions[METHOD]
    items = [str(number) for number in range(len(compared))]
    return {metric.name: interval(metric, items) for metric in metrics}, notes


def _right(text: str, references: Sequence[str]) -> bool:
    return any(text == one or (" " in one.strip() and words_of(text) == words_of(one)) for one in references)


def _histogram(values: Sequence[float]) -> Histogram | None:
    if not values:
        return None
    whole = all(isinstance(value, int) for value in values)
    span = max(values) - min(values)
    if whole and span < BINS:  # a bar for each number
        edges = np.arange(min(values), max(values) + 2) - 0.5
    else:
        edges = np.histogram_bin_edges(values, bins=BINS)
    counts, edges = np.histogram(values, bins=edges)
    return Histogram(edges.tolist(), counts.tolist(), float(np.median(values)))


def _kind(error: str) -> str:
    """An error without what differs from one question to the next: quoted texts, paths and numbers."""
    return " ".join(_constant(error))


def _constant(error: str) -> Iterator[str]:
    quoted = False
    for word in error.split():
        opens, closes = word.startswith(("'", '"')), word.rstrip(",;:.").endswith(("'", '"'))
        if quoted or opens:
            if not quoted:
                yield "…"
            quoted = not closes
        else:
            yield "…" if any(sign in word for sign in "/\\") or any(sign.isdigit() for sign in word) else word
