"""What methods made of questions: figures with their intervals, method against method, and files of both."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.evaluation.blanks import Question
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.metrics import Metric, caption_metrics, mean_metric
from birnn_decode.evaluation.search_errors import EXACT, proofs_told, search_errors
from birnn_decode.result import DecodeResult, Hypothesis

AGAINST_OTHERS = ("bscd", "birnn-bscd")  # the first that is there is compared with all others


@dataclass(frozen=True)
class Report:
    """The figures of one set of questions.

    Attributes:
        name: what was asked, such as "50 % of the words".
        questions: how many.
        figures: method to metric to figure, with 95 % intervals over images (see `interval`).
        differences: BSCD minus each other method, on the same resamples; empty without BSCD.
        milliseconds: method to decoding time per question, batches and all.
        signatures: method to the signature of its results, without what differs from question to question.
        answers: for each method COCO's list of results: the image's id and the answer, "" where none was found. Besides
            the signature of its result, and of a blank the caption that it was made in, as ``truth``.
        notes: what is to be known besides.
        against: the method that the others are compared with: BSCD of a pair, or of a Bi-RNN where there is no pair.
    """

    name: str
    questions: int
    figures: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    milliseconds: Mapping[str, float]
    signatures: Mapping[str, str]
    answers: Mapping[str, Sequence[Mapping[str, Any]]]
    notes: Sequence[str]
    against: str = AGAINST_OTHERS[0]

    def to_dict(self) -> dict[str, Any]:
        """All but the answers, ready for JSON; a figure that there is not is None."""
        return {
            "name": self.name,
            "questions": self.questions,
            "figures": _plain(self.figures),
            "differences": _plain(self.differences),
            "against": self.against,
            "milliseconds": dict(self.milliseconds),
            "signatures": dict(self.signatures),
            "notes": list(self.notes),
        }


def report(
    name: str,
    questions: Sequence[Question],
    batches: Sequence[Sequence[Mapping[str, DecodeResult]]],
    *,
    captioning: bool = True,
    notes: Sequence[str] = (),
) -> Report:
    """Compare the answers with the captions.

    A search that has found no sentence is not right, has none of the words, and no J. Where ``"exact"`` was asked, too,
    the methods' search errors are told.

    Args:
        name: what was asked.
        questions: at least one.
        batches: for each question, method name to result, in the batches that were decoded together (see `ask`).
        captioning: whether to give the metrics of captioning papers as well (see `caption_metrics`), which takes some
            seconds, the extra ``evaluation``, and Java for all of them.
        notes: what is to be known besides.
    """
    results = [result for batch in batches for result in batch]
    methods = list(results[0])
    metrics = metrics_of(questions, results)
    texts = {
        method: [question.text(_best(result[method])) for question, result in zip(questions, results, strict=True)]
        for method in methods
    }
    notes = list(notes)
    if EXACT in methods:
        of_search = search_errors(results)
        for method in methods:
            metrics[method] += of_search[method]
        notes.append(proofs_told(results))
    if captioning:
        of_captions, more = caption_metrics(texts, [question.source.captions for question in questions])
        notes += more
        for method in methods:
            metrics[method] += of_captions[method]
    images = [question.source.name for question in questions]
    against = next((method for method in AGAINST_OTHERS if method in methods), AGAINST_OTHERS[0])
    others = [method for method in methods if method != against] if against in methods else []
    return Report(
        name=name,
        questions=len(questions),
        figures={method: {metric.name: interval(metric, images) for metric in metrics[method]} for method in methods},
        differences={
            method: {
                ours.name: paired_difference(ours, theirs, images)
                for ours, theirs in zip(metrics[against], metrics[method], strict=True)
            }
            for method in others
        },
        milliseconds={
            # Every result of a batch tells the time of all of it.
            method: 1000 * sum(batch[0][method].seconds for batch in batches) / len(results)
            for method in methods
        },
        signatures={method: _common_signature([result[method] for result in results]) for method in methods},
        answers={
            method: [
                {
                    "image_id": question.source.image_id,
                    "caption": text,
                    "signature": result[method].signature,
                    **({"truth": " ".join(question.words)} if question.words else {}),
                }
                for question, text, result in zip(questions, texts[method], results, strict=True)
            ]
            for method in methods
        },
        notes=notes,
        against=against,
    )


def metrics_of(questions: Sequence[Question], results: Sequence[Mapping[str, DecodeResult]]) -> dict[str, list[Metric]]:
    """What can be told of each method's best answers without comparing texts."""
    found = {method: [_best(result[method]) for result in results] for method in results[0]}
    scored = [one for best in found.values() for one in best if one is not None]
    scores = ["J"] if any(one.joint is not None for one in scored) or not scored else []
    scores += ["PLL"] if any(one.pseudo_log_prob is not None for one in scored) else []
    more = set()
    if any("diversity:" in one.signature for one in results[0].values()):
        more.add("right in Top-B")
    if any(one.broken for best in found.values() for one in best if one is not None):
        more.add("broken")
    return {
        method: _metrics(questions, best, [result[method] for result in results], scores, more)
        for method, best in found.items()
    }


def reports_csv(reports: Sequence[Report]) -> str:
    """One line for each figure or difference: what was asked, method, metric, value, interval, signature."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["blank", "method", "minus", "metric", "value", "low", "high", "signature"])
    for one in reports:
        for method, figures in one.figures.items():
            for metric, figure in figures.items():
                writer.writerow([one.name, method, "", metric, *figure.cells(), one.signatures[method]])
            time = [repr(one.milliseconds[method]), "", ""]
            writer.writerow([one.name, method, "", "milliseconds", *time, one.signatures[method]])
        for method, figures in one.differences.items():
            for metric, figure in figures.items():
                signature = f"{one.signatures[one.against]} minus {one.signatures[method]}"
                writer.writerow([one.name, one.against, method, metric, *figure.cells(), signature])
    return text.getvalue()


def reports_json(reports: Sequence[Report], about: Mapping[str, Any]) -> str:
    """All figures, with what the user asked for."""
    return json.dumps({**about, "reports": [one.to_dict() for one in reports]}, indent=1)


def _best(result: DecodeResult) -> Hypothesis | None:
    return result.hypotheses[0] if result.hypotheses else None


def _metrics(
    questions: Sequence[Question],
    best: Sequence[Hypothesis | None],
    results: Sequence[DecodeResult],
    scores: Sequence[str],
    more: Collection[str],
) -> list[Metric]:
    right = [
        float(one is not None and one.tokens in question.truths) for question, one in zip(questions, best, strict=True)
    ]
    metrics = [mean_metric("exactly right", right)]
    if all(question.template is not None for question in questions):
        pairs = [
            (() if one is None else one.blanks[0], question.truths[0][question.blank])
            for question, one in zip(questions, best, strict=True)
        ]
        placed = [sum(a == b for a, b in zip(found, truth, strict=False)) for found, truth in pairs]
        counted = np.array([[hits, len(truth)] for hits, (_, truth) in zip(placed, pairs, strict=True)], dtype=float)
        metrics.append(Metric("words right", counted, lambda sums: sums[..., 0] / sums[..., 1]))
        if any(question.template is not None and not question.template.width_known for question in questions):
            metrics.append(mean_metric("word F1", [_overlap(found, truth) for found, truth in pairs]))
            metrics.append(mean_metric("words too many", [float(len(found) - len(truth)) for found, truth in pairs]))
    if "right in Top-B" in more:
        right = [
            float(any(one.tokens in question.truths for one in result.hypotheses))
            for question, result in zip(questions, results, strict=True)
        ]
        metrics.append(mean_metric("right in Top-B", right))
        metrics.append(mean_metric("distinct", [_distinct(result.hypotheses) for result in results]))
    if "broken" in more:
        metrics.append(mean_metric("broken", [float(one is not None and bool(one.broken)) for one in best]))
    for name in scores:
        values = [None if one is None else one.joint if name == "J" else one.pseudo_log_prob for one in best]
        metrics.append(mean_metric(name, [math.nan if value is None else value for value in values]))
    metrics.append(mean_metric("rows", [float(result.rows_evaluated) for result in results]))
    return metrics


def _distinct(hypotheses: Sequence[Hypothesis]) -> float:
    """Of all pairs of neighbours in the blanks of a Top-B, the share that is left if each counts once (distinct-2)."""
    pairs = [pair for one in hypotheses for blank in one.blanks for pair in itertools.pairwise(blank)]
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def _overlap(found: Sequence[int], truth: Sequence[int]) -> float:
    """F1 of the words, in whatever order."""
    common = sum(min(found.count(word), truth.count(word)) for word in set(found))
    return 2 * common / (len(found) + len(truth)) if common else 0.0


def _common_signature(results: Sequence[DecodeResult]) -> str:
    """The settings that all results have in common."""
    parts = [result.signature.split("|") for result in results]
    return "|".join(part for part in parts[0] if all(part in other for other in parts))


def _plain(figures: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        method: {
            metric: {
                name: None if math.isnan(value) else value
                for name, value in (("value", one.value), ("low", one.low), ("high", one.high))
            }
            for metric, one in of_method.items()
        }
        for method, of_method in figures.items()
    }
