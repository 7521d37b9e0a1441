"""Blanks in captions, to see how well a method fills them."""

from __future__ import annotations

from collections.abc import Sequence

from birnn_decode.template import Template


def middle_blank(tokens: Sequence[int], fraction: float) -> Template:
    """A caption without the middle ``fraction`` of its words.

    The blank is ``max(1, round(fraction * words))`` words wide (Sun, Lee and Batra's fill-in-the-blank task); where the
    words that stay are odd in number, one more of them stays behind the blank.

    Raises:
        ValueError: the caption has no words, or the fraction is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction!r}: it is above 0 and at most 1")
    if not tokens:
        raise ValueError("the caption has no words to remove")
    width = max(1, round(fraction * len(tokens)))
    begin = (len(tokens) - width) // 2
    return Template.blank(tokens[:begin], width, tokens[begin + width :])
