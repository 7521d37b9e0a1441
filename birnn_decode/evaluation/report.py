"""Reports: figures of methods with intervals, differences between methods, and files of both."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from birnn_decode.evaluation.blanks import Question
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.metrics import Metric, caption_metrics, mean_metric
from birnn_decode.evaluation.search_errors import EXACT, proofs_told, search_errors
from birnn_decode.result import DecodeResult, Hypothesis

AGAINST_OTHERS = ("bscd", "birnn-bscd")  # the first of these in a report is compared with all other methods


@dataclass(frozen=True)
class Report:
    """The figures of one set of questions.

    Attributes:
        name: what was asked, such as "50% of the words, width known".
        questions: number of questions.
        figures: for each method, its metrics with 95 % intervals; see `interval`.
        differences: for each other method, ``against`` minus this method on the same resamples; empty without BSCD.
        milliseconds: decoding time of each method per question, in ms. Batches are decoded as a whole.
        signatures: for each method, the parts of the signature that all of its results share.
        answers: for each method, a list in COCO's format of results: the id of the image or the number of the line, the
            answer ("" if there is none), the signature, and for a blank the original sentence as ``truth``.
        notes: lines about what was left out or is special.
        against: the method that is compared with all others: "bscd", or "birnn-bscd" if there is no pair
            (default: "bscd").

    Example:
        >>> from birnn_decode.evaluation import Interval, Report
        >>> figures = {"bscd": {"J": Interval(-7.5, -9.0, -6.0)}}
        >>> made = Report("half", 20, figures, {}, {"bscd": 4.0}, {"bscd": "bscd|rounds:10"}, {"bscd": []}, [])
        >>> made.figures["bscd"]["J"].value
        -7.5
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
        """Return everything except the answers as a dictionary for JSON.

        Returns:
            The attributes by name. Numbers that do not exist are None.

        Example:
            >>> from birnn_decode.evaluation import Interval, Report
            >>> figures = {"bscd": {"J": Interval(-7.5, float("nan"), float("nan"))}}
            >>> made = Report("half", 20, figures, {}, {"bscd": 4.0}, {"bscd": "bscd"}, {"bscd": []}, [])
            >>> made.to_dict()["figures"]
            {'bscd': {'J': {'value': -7.5, 'low': None, 'high': None}}}
        """
        plain: dict[str, Any] = {name: value for name, value in vars(self).items() if name != "answers"}
        for name in ("figures", "differences"):
            plain[name] = {
                method: {metric: _without_nan(asdict(one)) for metric, one in own.items()}
                for method, own in plain[name].items()
            }
        return plain


def report(
    name: str,
    questions: Sequence[Question],
    batches: Sequence[Sequence[Mapping[str, DecodeResult]]],
    *,
    captioning: bool = True,
    check: Callable[[str], bool] | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Compare the answers of methods with the right sentences.

    If a search found no sentence, its answer is not right, has no right words, and has no J. If the method ``"exact"``
    is among the methods, the report has the search errors of all methods.

    Args:
        name: what was asked.
        questions: the questions, at least one.
        batches: for each question, method name to result, grouped in the batches that were decoded together; see `ask`.
        captioning: whether to add the metrics of captioning papers (default: True). They take some seconds and need the
            extra ``evaluation``, and some need Java; see `caption_metrics`. They are for sentences of words.
        check: a check of finished sentences. The report then has the shares of questions whose best answer passes
            ("valid"), and with an answer among the B best that passes ("valid in B") (default: None, no check).
        notes: lines for the notes of the report.

    Returns:
        The report.

    Example:
        >>> from birnn_decode import compare
        >>> from birnn_decode.captions import CaptionedImage, make_scene
        >>> from birnn_decode.evaluation import blank_questions, report
        >>> from birnn_decode.models import default_pair
        >>> models = default_pair()
        >>> scene = make_scene(seed=2, number=4)
        >>> image = CaptionedImage("4.png", 4, "test", scene.captions[:1])
        >>> inputs = {"4.png": scene.picture()}
        >>> questions, _ = blank_questions([image], inputs, models.forward.vocabulary, fraction=0.5)
        >>> asked = [one.image for one in questions], [one.template for one in questions]
        >>> batch = compare(models, *asked, ["rerank", "bscd"])
        >>> made = report("half of the words", questions, [batch], captioning=False)
        >>> {method: figures["exactly right"].value for method, figures in made.figures.items()}
        {'rerank': 0.0, 'bscd': 1.0}
    """
    results = [result for batch in batches for result in batch]
    methods = list(results[0])
    metrics = metrics_of(questions, results)
    if check is not None:
        passes = functools.cache(check)  # methods often give the same answer
        for method, own in metrics.items():
            own += _valid(questions, [result[method] for result in results], passes)
    texts = {
        method: [question.text(_best(result[method])) for question, result in zip(questions, results, strict=True)]
        for method in methods
    }
    notes = list(notes)
    more = []
    if EXACT in methods:
        more.append(search_errors(results))
        notes.append(proofs_told(results))
    if captioning:
        of_captions, new_notes = caption_metrics(texts, [question.source.captions for question in questions])
        more.append(of_captions)
        notes += new_notes
    metrics = {method: [*own, *itertools.chain(*(one[method] for one in more))] for method, own in metrics.items()}
    images = [question.source.name for question in questions]
    against = next((method for method in AGAINST_OTHERS if method in methods), AGAINST_OTHERS[0])
    return Report(
        name=name,
        questions=len(questions),
        figures={method: {metric.name: interval(metric, images) for metric in own} for method, own in metrics.items()},
        differences={
            method: {
                ours.name: paired_difference(ours, theirs, images)
                for ours, theirs in zip(metrics[against], own, strict=True)
            }
            for method, own in metrics.items()
            if against in methods and method != against
        },
        # Every result of a batch has the time of the whole batch.
        milliseconds={
            method: 1000 * sum(batch[0][method].seconds for batch in batches) / len(results) for method in methods
        },
        signatures={method: _common_signature([result[method] for result in results]) for method in methods},
        answers={
            method: [
                {
                    "image_id": question.source.image_id,
                    "caption": text,
                    "signature": result[method].signature,
                    **({"truth": question.truth} if question.truth else {}),
                }
                for question, text, result in zip(questions, texts[method], results, strict=True)
            ]
            for method in methods
        },
        notes=notes,
        against=against,
    )


def metrics_of(questions: Sequence[Question], results: Sequence[Mapping[str, DecodeResult]]) -> dict[str, list[Metric]]:
    """Compute the metrics of each method that need no comparison of texts.

    All methods get the same metrics, those that apply to some answer.
    """
    first = [one for own in results for result in own.values() if (one := _best(result)) is not None]
    applies = {
        "right in Top-B": any("diversity:" in result.signature for result in results[0].values()),
        "broken": any(one.broken for one in first),
        "J": not first or any(one.joint is not None for one in first),
        "PLL": any(one.pseudo_log_prob is not None for one in first),
    }
    applies["distinct"] = applies["right in Top-B"]
    return {
        method: [
            metric
            for metric in _metrics(questions, [result[method] for result in results])
            if applies.get(metric.name, True)
        ]
        for method in results[0]
    }


def reports_csv(reports: Sequence[Report]) -> str:
    """Write reports as CSV, with one line per figure or difference.

    Args:
        reports: the reports.

    Returns:
        The text, with the columns blank, method, minus, metric, value, low, high and signature.

    Example:
        >>> from birnn_decode.evaluation import Interval, Report, reports_csv
        >>> figures = {"bscd": {"J": Interval(-7.5, -9.0, -6.0)}}
        >>> made = Report("half", 20, figures, {}, {"bscd": 4.0}, {"bscd": "bscd"}, {"bscd": []}, [])
        >>> print(reports_csv([made]), end="")
        blank,method,minus,metric,value,low,high,signature
        half,bscd,,J,-7.5,-9.0,-6.0,bscd
        half,bscd,,milliseconds,4.0,,,bscd
    """
    rows = []
    for one in reports:
        for method, figures in one.figures.items():
            time = Interval(one.milliseconds[method], math.nan, math.nan)
            for metric, figure in {**figures, "milliseconds": time}.items():
                rows.append([one.name, method, "", metric, *figure.cells(), one.signatures[method]])
        for method, figures in one.differences.items():
            signature = f"{one.signatures[one.against]} minus {one.signatures[method]}"
            for metric, figure in figures.items():
                rows.append([one.name, one.against, method, metric, *figure.cells(), signature])
    return csv_text(["blank", "method", "minus", "metric", "value", "low", "high", "signature"], rows)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def reports_json(reports: Sequence[Report], about: Mapping[str, Any]) -> str:
    """Write reports as JSON.

    Args:
        reports: the reports.
        about: further entries, such as the options of the command.

    Returns:
        The text of one object with the entries of ``about``, and with the list ``reports``; see `Report.to_dict`.

    Example:
        >>> import json
        >>> from birnn_decode.evaluation import reports_json
        >>> json.loads(reports_json([], {"beam_size": 5}))
        {'beam_size': 5, 'reports': []}
    """
    return json.dumps({**about, "reports": [one.to_dict() for one in reports]}, indent=1)


def _best(result: DecodeResult) -> Hypothesis | None:
    return result.hypotheses[0] if result.hypotheses else None


def _metrics(questions: Sequence[Question], results: Sequence[DecodeResult]) -> list[Metric]:
    """Compute all metrics of one method, also those that do not apply."""
    best = [_best(result) for result in results]
    asked = list(zip(questions, best, results, strict=True))
    metrics = [mean_metric("exactly right", [float(_right(question, one)) for question, one, _ in asked])]
    templates = [question.template for question in questions if question.template is not None]
    if len(templates) == len(questions):
        pairs = [
            (() if one is None else one.blanks[0], question.truths[0][question.blank]) for question, one, _ in asked
        ]
        placed = [(sum(a == b for a, b in zip(found, truth, strict=False)), len(truth)) for found, truth in pairs]
        metrics.append(
            Metric("words right", np.array(placed, dtype=np.float64), lambda sums: sums[..., 0] / sums[..., 1])
        )
        if not all(template.width_known for template in templates):
            metrics.append(mean_metric("word F1", [_overlap(found, truth) for found, truth in pairs]))
            metrics.append(mean_metric("words too many", [float(len(found) - len(truth)) for found, truth in pairs]))
    in_top = [float(any(_right(question, one) for one in result.hypotheses)) for question, _, result in asked]
    return [
        *metrics,
        mean_metric("right in Top-B", in_top),
        mean_metric("distinct", [_distinct(result.hypotheses) for result in results]),
        mean_metric("broken", [float(one is not None and bool(one.broken)) for one in best]),
        mean_metric("J", [None if one is None else one.joint for one in best]),
        mean_metric("PLL", [None if one is None else one.pseudo_log_prob for one in best]),
        mean_metric("rows", [float(result.rows_evaluated) for result in results]),
    ]


def _valid(
    questions: Sequence[Question], results: Sequence[DecodeResult], passes: Callable[[str], bool]
) -> list[Metric]:
    """Compute the shares of questions whose best answer, and any of whose answers, passes a check."""
    texts = [list(map(question.text, result.hypotheses)) for question, result in zip(questions, results, strict=True)]
    return [
        mean_metric("valid", [float(any(map(passes, own[:1]))) for own in texts]),
        mean_metric("valid in B", [float(any(map(passes, own))) for own in texts]),
    ]


def _right(question: Question, found: Hypothesis | None) -> bool:
    return found is not None and found.tokens in question.truths


def _distinct(hypotheses: Sequence[Hypothesis]) -> float:
    """Return distinct-2: the share of different pairs among the pairs of neighbours in the blanks of a Top-B."""
    pairs = [pair for one in hypotheses for blank in one.blanks for pair in itertools.pairwise(blank)]
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def _overlap(found: Sequence[int], truth: Sequence[int]) -> float:
    """Return the F1 of the words, in any order."""
    return 2 * (Counter(found) & Counter(truth)).total() / max(1, len(found) + len(truth))


def _common_signature(results: Sequence[DecodeResult]) -> str:
    """Return the parts of the signature that all results share."""
    parts = [result.signature.split("|") for result in results]
    return "|".join(part for part in parts[0] if all(part in other for other in parts))


def _without_nan(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(number) else number for name, number in numbers.items()}
