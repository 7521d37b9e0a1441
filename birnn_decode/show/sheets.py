"""Contact sheets: pictures and sentences in one HTML file, with regions outlined in the colours of their words."""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from birnn_decode.captions.datasets import Box

# Colours that people with the common kinds of colour blindness can tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C5A00", "#6A3D9A")
PIXELS = 256
STYLE = (
    "body{font-family:sans-serif;margin:1.5em}main{display:flex;flex-wrap:wrap;gap:1.5em}figure{margin:0;width:256px}"
    "svg{width:256px;height:auto;display:block}figcaption{padding-top:.4em;line-height:1.4}"
    ".word{font-weight:bold}.note{color:#555;font-size:85%}"
)


@dataclass(frozen=True)
class Card:
    """One picture with one sentence on a contact sheet.

    Attributes:
        picture: the picture, a PIL image.
        words: the words of the sentence.
        regions: for each word the box of its region; None if the word goes to the whole picture, or if the place of its
            region is not known. Empty: None for all words.
        note: what stands below the sentence, such as a name and a score.
    """

    picture: Any
    words: Sequence[str]
    regions: Sequence[Box | None] = ()
    note: str = ""


def colours_of(regions: Sequence[Box | None]) -> dict[Box, str]:
    """Return a colour for each different box, in the order of the words.

    Args:
        regions: for each word the box of its region, or None.

    Returns:
        The colours, in hexadecimal notation. After the last one, they begin again.

    Example:
        >>> from birnn_decode.show.sheets import colours_of
        >>> colours_of([(0, 0, 0.5, 0.5), None, (0.5, 0, 1, 1), (0, 0, 0.5, 0.5)])
        {(0, 0, 0.5, 0.5): '#0072B2', (0.5, 0, 1, 1): '#D55E00'}
    """
    boxes = dict.fromkeys(box for box in regions if box is not None)
    return dict(zip(boxes, itertools.cycle(COLOURS), strict=False))


def sheet(title: str, cards: Sequence[Card]) -> str:
    """Make a contact sheet.

    The file holds the pictures themselves, without scripts and without links. All texts are escaped.

    Args:
        title: the heading.
        cards: pictures and sentences, the best first.

    Returns:
        The text of an HTML file.

    Example:
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.show.sheets import Card, sheet
        >>> picture = make_scene(seed=2, number=4).picture(32)
        >>> made = sheet("a <circle>", [Card(picture, ["a", "circle"], [None, (0.1, 0.1, 0.5, 0.5)], "4.png")])
        >>> "a &lt;circle&gt;" in made, made.count("<rect")
        (True, 1)
    """
    figures = "\n".join(_figure(card) for card in cards)
    head = html.escape(title)
    legend = "<p>A word has the colour of its region. Black words belong to the whole picture.</p>\n"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{head}</title><style>{STYLE}</style>'
        f"</head>\n<body>\n<h1>{head}</h1>\n{legend if any(any(card.regions) for card in cards) else ''}<main>\n"
        f"{figures}\n</main>\n</body>\n</html>\n"
    )


def _figure(card: Card) -> str:
    picture = card.picture.convert("RGB")
    picture.thumbnail((PIXELS, PIXELS))
    width, height = picture.size
    data = io.BytesIO()
    picture.save(data, format="PNG")
    colours = colours_of(card.regions)
    outlines = "".join(
        f'<rect x="{left * width + 1:.1f}" y="{top * height + 1:.1f}" width="{(right - left) * width - 2:.1f}" '
        f'height="{(bottom - top) * height - 2:.1f}" fill="none" stroke="{colour}" '
        f'stroke-width="3"/>'
        for (left, top, right, bottom), colour in colours.items()
    )
    image = base64.b64encode(data.getvalue()).decode()
    regions = card.regions or [None] * len(card.words)
    words = " ".join(
        html.escape(word)
        if box is None
        else f'<span class="word" style="color:{colours[box]}">{html.escape(word)}</span>'
        for word, box in zip(card.words, regions, strict=True)
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(" ".join(card.words))}">'
        f'<image href="data:image/png;base64,{image}" width="{width}" height="{height}"/>{outlines}</svg>'
        f'<figcaption>{words}<br><span class="note">{html.escape(card.note)}</span>'
        "</figcaption></figure>"
    )
