"""Tables of hypotheses for the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from birnn_decode.result import DecodeResult, Hypothesis
from birnn_decode.template import Template, Vocabulary

RIGHT = "✓"


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
    by_score = [] if width_known(template) else ["score"]
    for name in (*by_score, "J", "log P→", "log P←", *(["right"] if truth is not None else []), "rows", "ms"):
        table.add_column(name, justify="center" if name == "right" else "right", no_wrap=True)
    for method, result in results.items():
        cost = [f"{result.rows_evaluated}", f"{1000 * result.seconds:.0f}"]
        for one in result.hypotheses[:top]:
            right = [] if truth is None else [RIGHT if one.tokens == tuple(truth) else ""]
            score = [one.score] if by_score else []
            numbers = (*score, one.joint, one.log_prob_forward, one.log_prob_backward)
            table.add_row(method, sentence(one, vocabulary, template), *map(_number, numbers), *right, *cost)
            method, cost = "", ["", ""]
        if not result.hypotheses:
            nothing = [""] * (len(table.columns) - 4)
            table.add_row(method, Text(f"no sentence ({result.stop})", style="italic"), *nothing, *cost)
    return table


def width_known(template: Template | None) -> bool:
    """Whether all sentences are of one length, so that they are ranked by their sums as they are."""
    return template is not None and all(gap.low == gap.high for gap in template.gaps)


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
