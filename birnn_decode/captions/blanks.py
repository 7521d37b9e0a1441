"""Blanks in captions, to measure how well a method fills them."""

from __future__ import annotations

from collections.abc import Sequence

from birnn_decode.template import Template


def middle_blank(tokens: Sequence[int], fraction: float) -> Template:
    """Replace the middle of a caption by a blank.

    This is the fill-in-the-blank task of Sun, Lee and Batra. The blank is ``max(1, round(fraction * words))`` words
    wide. If an odd number of words stays, one more word stays after the blank than before it.

    Args:
        tokens: ids of the caption's words, in sentence order.
        fraction: share of the words to remove, above 0 and at most 1.

    Returns:
        The template: the words before the blank, the blank, and the words after it.

    Raises:
        ValueError: the caption has no words, or ``fraction`` is out of range.

    Example:
        >>> from birnn_decode.captions import middle_blank
        >>> template = middle_blank([4, 5, 6, 7, 8], 0.5)
        >>> template.fixed()[0].runs  # the blank begins at position 1 and ends before position 3
        ((1, 3),)
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction!r}")
    if not tokens:
        raise ValueError("the caption has no words, so no blank can be made in it")
    width = max(1, round(fraction * len(tokens)))
    begin = (len(tokens) - width) // 2
    return Template.blank(tokens[:begin], width, tokens[begin + width :])
