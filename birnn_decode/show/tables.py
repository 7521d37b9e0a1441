"""Tables of sentences and reports for the terminal."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from birnn_decode.evaluation import Interval, Report
from birnn_decode.evaluation.search_errors import NAMES
from birnn_decode.posterior import Posterior, Probability
from birnn_decode.result import DecodeResult, Hypothesis
from birnn_decode.spelling import spell_blanks
from birnn_decode.template import Template, Vocabulary

LOOK: dict[str, Any] = {"box": None, "pad_edge": False, "header_style": "bold"}
NUMBERS = {
    "score": "score",
    "J": "joint",
    "log P→": "log_prob_forward",
    "log P←": "log_prob_backward",
    "PLL": "pseudo_log_prob",
}
CAPTION_METRICS = ("BLEU", "ROUGE", "METEOR", "CIDEr")
MOST_WITH_BOTH_ENDS = 5  # a table with more columns shows half the width of each interval instead of its ends


def answers_table(
    results: Mapping[str, DecodeResult],
    vocabulary: Vocabulary,
    template: Template | None = None,
    *,
    truth: Sequence[int] | None = None,
    checks: Mapping[str, Callable[[str], bool]] | None = None,
    top: int = 1,
) -> Table:
    """Make a table of the best sentences of each method.

    Columns are the sentence, its scores, and the rows and milliseconds of the search. Scores that no sentence has are
    left out.

    Args:
        results: method name to result, as from `compare`.
        vocabulary: the vocabulary of the sentences.
        template: the template, whose missing words are shown in bold; None for a whole caption (default: None).
        truth: ids of the original sentence (default: None). Sentences that equal it get a mark.
        checks: functions of the text of a sentence, by the name of their column (default: none). Sentences for which
            a function returns True get a mark in its column.
        top: number of sentences of each method (default: 1).

    Returns:
        The table, to be printed by a ``rich`` console.

    Example:
        >>> from birnn_decode import compare
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> models = default_pair()
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> results = compare(models, picture, "a small _ circle above {3} yellow star", ["rerank", "bscd"])
        >>> table = answers_table(results, models.forward.vocabulary, top=2)
        >>> [column.header for column in table.columns]
        ['method', 'sentence', 'score', 'J', 'log P→', 'log P←', 'rows', 'ms']
        >>> table.row_count
        4
    """
    there = [one for result in results.values() for one in result.hypotheses]
    # Without a penalty, and with known widths, the score equals J or PLL.
    score_matters = template is None or not template.width_known or any(one.penalty for one in there)
    numbers = {
        name: key
        for name, key in NUMBERS.items()
        if any(getattr(one, key) is not None for one in there) and (name != "score" or score_matters)
    }
    marks: dict[str, Callable[[Hypothesis], bool]] = {}
    if truth is not None:
        marks["right"] = lambda one: one.tokens == tuple(truth)
    for name, check in (checks or {}).items():
        marks[name] = functools.partial(_passes, check)
    table = Table(
        Column("method", no_wrap=True),
        "sentence",
        *(Column(name, justify="right", no_wrap=True) for name in numbers),
        *(Column(name, justify="center", no_wrap=True) for name in marks),
        Column("rows", justify="right", no_wrap=True),
        Column("ms", justify="right", no_wrap=True, min_width=4),  # so that lines break alike in every run
        **LOOK,
    )
    for method, result in results.items():
        cost = [f"{result.rows_evaluated}", f"{1000 * result.seconds:.0f}"]
        for one in result.hypotheses[:top]:
            values = [getattr(one, key) for key in numbers.values()]
            cells = ["" if value is None else f"{value:.2f}" for value in values]
            cells += ["✓" if fits(one) else "" for fits in marks.values()]
            table.add_row(method, sentence(one, vocabulary, template), *cells, *cost)
            method, cost = "", ["", ""]
        if not result.hypotheses:
            why = Text(f"no sentence ({result.stop})", style="italic")
            table.add_row(method, why, *[""] * (len(table.columns) - 4), *cost)
    return table


def posterior_table(posterior: Posterior, top: int = 3) -> Table:
    """Make a table of the most probable words of each blank and of each position.

    Args:
        posterior: the probabilities of a result.
        top: number of alternatives (default: 3).

    Returns:
        The table, to be printed by a ``rich`` console. Probabilities with known bounds are followed by these.

    Example:
        >>> from birnn_decode import decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> result = decode(default_pair(), picture, "a small green circle is _ _ large yellow star")
        >>> posterior_table(result.posterior).row_count
        5
    """
    table = Table(Column("missing", no_wrap=True), "most probable", Column("P", justify="right", no_wrap=True), **LOOK)
    for number, spans in enumerate(posterior.spans, 1):
        name = "the blank" if len(posterior.spans) == 1 else f"blank {number}"
        for span in spans[:top]:
            table.add_row(name, Text(str(span.tokens) if span.text is None else span.text), _chance(span.probability))
            name = ""
    if len(posterior.words) > 1:
        for number, words in enumerate(posterior.words, 1):
            best, *others = words[:top]
            shown = Text(str(best.token) if best.text is None else best.text)
            for one in others:
                shown.append(f"   {one.token if one.text is None else one.text} {_chance(one.probability)}", "dim")
            table.add_row(f"word {number}", shown, _chance(best.probability))
    return table


def _chance(probability: Probability) -> str:
    """Write a probability, with its bounds if there is a lower one."""
    text = f"{probability.estimate:.2f}"
    return text if not probability.low else f"{text} [{probability.low:.2f}, {probability.high:.2f}]"


def _passes(check: Callable[[str], bool], hypothesis: Hypothesis) -> bool:
    return hypothesis.text is not None and check(hypothesis.text)


def sentence(hypothesis: Hypothesis, vocabulary: Vocabulary, template: Template | None) -> Text:
    """Write a sentence, with the words that fill the blanks of the template in bold."""
    template = template or Template(())
    blanks = iter(hypothesis.blanks)
    runs: list[tuple[int, int]] = []
    at = 0
    for known, parts in itertools.groupby(template.parts, key=lambda part: isinstance(part, int)):
        begin, at = at, at + len(list(parts) if known else next(blanks))
        runs += [] if known else [(begin, at)]
    shown, spans = spell_blanks(template, hypothesis.tokens, runs, vocabulary)
    text = Text(shown)
    for begin, end in spans:
        blank = shown[begin:end]
        text.stylize("bold green", begin + len(blank) - len(blank.lstrip()), end)
    return text


def report_tables(report: Report) -> list[Table]:
    """Make the tables of a report.

    Args:
        report: the report.

    Returns:
        Tables of the answers, of the captioning metrics, of search errors, and of the differences to other methods.
        Tables without columns are left out.

    Example:
        >>> from birnn_decode.evaluation import Interval, Report
        >>> figures = {"bscd": {"J": Interval(-7.5, -9.0, -6.0), "BLEU-1": Interval(0.5, 0.25, 0.75)}}
        >>> made = Report("half", 20, figures, {}, {"bscd": 4.0}, {"bscd": "bscd"}, {"bscd": []}, [])
        >>> [[column.header for column in table.columns] for table in report_tables(made)]
        [['method', 'J', 'ms'], ['method', 'BLEU-1']]
    """
    first = next(iter(report.figures.values()))
    of_captions = [name for name in first if name.startswith(CAPTION_METRICS)]
    of_search = [name for name in first if name in NAMES]
    of_blanks = [name for name in first if name not in (*of_captions, *of_search)]
    tables = [_figures("method", report.figures, of_blanks, report.milliseconds)]
    tables += [_figures("method", report.figures, names) for names in (of_captions, of_search) if names]
    if report.differences:
        compared = [name for name in of_blanks if name != "rows"]
        tables += [
            _figures(f"{report.against} minus", report.differences, names) for names in (compared, of_captions) if names
        ]
    return tables


def ranking_tables(figures: Mapping[str, Mapping[str, Mapping[str, Interval]]]) -> dict[str, Table]:
    """Make the tables of a ranking, one for each direction, as in Table 1 of Karpathy and Fei-Fei (CVPR 2015).

    Args:
        figures: for each ranker what `rank_figures` returned.

    Returns:
        For each direction a table with a line per ranker and a column per measure.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import rank_figures
        >>> made = ranking_tables({"exact": rank_figures(np.eye(3), [0, 1, 2])})
        >>> [column.header for column in made["sentence → pictures"].columns]
        ['ranker', 'R@1', 'R@5', 'R@10', 'median rank', 'mean rank']
    """
    first = next(iter(figures.values()))
    return {
        direction: _figures("ranker", {name: own[direction] for name, own in figures.items()}, list(first[direction]))
        for direction in first
    }


def _figures(
    head: str,
    figures: Mapping[str, Mapping[str, Interval]],
    metrics: Sequence[str],
    milliseconds: Mapping[str, float] | None = None,
) -> Table:
    """Make a table with a line per method and a column per metric: the figure and its interval."""
    names = [*metrics, *(["ms"] if milliseconds else [])]
    columns = [Column(head, no_wrap=True), *(Column(name, justify="right", no_wrap=True) for name in names)]
    table = Table(*columns, **LOOK)
    narrow = len(metrics) > MOST_WITH_BOTH_ENDS
    for method, own in figures.items():
        cells = [_interval(own[name], signed=head.endswith("minus"), narrow=narrow) for name in metrics]
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
