"""Small pieces of HTML with which notebooks show results. All texts are escaped, and there are no scripts."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Sequence

STRONGEST = 8.0  # nats; a word with this log-probability or a lower one has the strongest shade


def shaded(words: Sequence[str], log_probs: Sequence[float], marked: Collection[int], between: str = " ") -> str:
    """Write words, each with a shade that shows how improbable it is.

    Args:
        words: the words.
        log_probs: the log-probability of each, in nats.
        marked: the places of the words that are written in bold.
        between: what stands between words (default: a space).
    """
    spans = []
    for place, (word, log_prob) in enumerate(zip(words, log_probs, strict=True)):
        alpha = 0.55 * min(1.0, -log_prob / STRONGEST) if math.isfinite(log_prob) else 0.55
        weight = ";font-weight:bold;text-decoration:underline" if place in marked else ""
        spans.append(
            f'<span style="background:rgba(193,0,61,{max(alpha, 0.0):.2f}){weight}" title="{log_prob:.2f} nats">'
            f"{html.escape(word)}</span>"
        )
    return between.join(spans)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table. Cells hold HTML; the second column is text, and the others are aligned to the right."""
    sides = ["left" if place < 2 else "right" for place in range(len(header))]
    head = "".join(
        f'<th style="text-align:{side}">{html.escape(name)}</th>' for name, side in zip(header, sides, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:{side}">{cell}</td>' for cell, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
