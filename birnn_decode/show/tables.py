"""Tables of hypotheses for the terminal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from birnn_decode.evaluation import Interval, Report
from birnn_decode.evaluation.search_errors import NAMES
from birnn_decode.result import DecodeResult, Hypothesis
from birnn_decode.template import Template, Vocabulary

RIGHT = "✓"
CAPTION_METRICS = ("BLEU", "ROUGE", "METEOR", "CIDEr")
MOST_WITH_BOTH_ENDS = 5  # columns whose intervals are shown by both ends, and not by half their width


def answers_table(
    results: Mapping[str, DecodeResult],
    vocabulary: Vocabulary,
    template: Template | None = None,
    *,
    truth: Sequence[int] | None = None,
    top: int = 1,
) -> Table:
    """The best sentences of each method, what they are worth, and what finding them cost.

    Args:
        results: method name to result, as `birnn_decode.compare` returns them.
        vocabulary: to write the sentences.
        template: what was asked for: the words that were missing stand out; None: a whole caption.
        truth: the ids of the sentence that the template was made of; sentences that are it get a mark.
        top: how many sentences of each method.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("sentence")
    there = [one for result in results.values() for one in result.hypotheses]
    numbers = {"J": "joint", "log P→": "log_prob_forward", "log P←": "log_prob_backward", "PLL": "pseudo_log_prob"}
    penalised = any(one.penalty for one in there)
    if template is None or not template.width_known or penalised:  # else sentences are ranked by their sums as they are
        numbers = {"score": "score", **numbers}
    numbers = {name: key for name, key in numbers.items() if any(getattr(one, key) is not None for one in there)}
    for name in (*numbers, *(["right"] if truth is not None else []), "rows"):
        table.add_column(name, justify="center" if name == "right" else "right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True, min_width=4)  # sentences break alike in the next run
    for method, result in results.items():
        cost = [f"{result.rows_evaluated}", f"{1000 * result.seconds:.0f}"]
        for one in result.hypotheses[:top]:
            right = [] if truth is None else [RIGHT if one.tokens == tuple(truth) else ""]
            worth = [_number(getattr(one, key)) for key in numbers.values()]
            table.add_row(method, sentence(one, vocabulary, template), *worth, *right, *cost)
            method, cost = "", ["", ""]
        if not result.hypotheses:
            nothing = [""] * (len(table.columns) - 4)
            table.add_row(method, Text(f"no sentence ({result.stop})", style="italic"), *nothing, *cost)
    return table


def sentence(hypothesis: Hypothesis, vocabulary: Vocabulary, template: Template | None) -> Text:
    """A sentence in which the words that the template lacks stand out."""
    if template is None:
        return Text(vocabulary.decode(list(hypothesis.tokens)))
    pieces = []
    blanks = iter(hypothesis.blanks)
    for known, parts in itertools.groupby(template.parts, key=lambda part: isinstance(part, int)):
        ids = [part for part in parts if isinstance(part, int)] if known else list(next(blanks))
        if ids:
            pieces.append(Text(vocabulary.decode(ids), style="" if known else "bold green"))
    return Text(" ").join(pieces)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def report_tables(report: Report) -> list[Table]:
    """What methods found, how near it is to the captions and to the best sentence, and how BSCD compares with each."""
    first = next(iter(report.figures.values()))
    of_captions = [name for name in first if name.startswith(CAPTION_METRICS)]
    of_search = [name for name in first if name in NAMES]
    of_blanks = [name for name in first if name not in (*of_captions, *of_search)]
    tables = [_figures("method", report.figures, of_blanks, report.milliseconds)]
    if of_captions:
        tables.append(_figures("method", report.figures, of_captions))
    if of_search:
        tables.append(_figures("method", report.figures, of_search))
    if report.differences:
        head = f"{report.against} minus"
        tables.append(_figures(head, report.differences, [name for name in of_blanks if name != "rows"]))
        if of_captions:
            tables.append(_figures(head, report.differences, of_captions))
    return tables


def _figures(
    head: str,
    figures: Mapping[str, Mapping[str, Interval]],
    metrics: Sequence[str],
    milliseconds: Mapping[str, float] | None = None,
) -> Table:
    """A line per method, and a column per metric: the figure and its interval."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (head, *metrics, *(["ms"] if milliseconds else [])):
        table.add_column(name, justify="left" if name == head else "right", no_wrap=True)
    narrow = len(metrics) > MOST_WITH_BOTH_ENDS
    for method, own in figures.items():
        cells = [_interval(own[name], signed=head != "method", narrow=narrow) for name in metrics]
        table.add_row(method, *cells, *([f"{milliseconds[method]:.0f}"] if milliseconds else []))
    return table


def _interval(figure: Interval, signed: bool, narrow: bool) -> str:
    if math.isnan(figure.value):
        return "-"
    digits = 0 if abs(figure.value) >= 100 else 2 if abs(figure.value) >= 10 else 3
    sign = "+" if signed else ""
    value = f"{figure.value:{sign}.{digits}f}"
    if math.isnan(figure.low):
        return value
    if narrow:
        return f"{value} ±{(figure.high - figure.low) / 2:.{digits}f}"
    return f"{value} [{figure.low:{sign}.{digits}f}, {figure.high:{sign}.{digits}f}]"
