"""Fill-in-the-blank: every method fills the same blanks, and is asked how often it finds the very words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birnn_decode.captions.blanks import middle_blank
from birnn_decode.decode import compare
from birnn_decode.result import DecodeResult


@dataclass(frozen=True)
class MethodFigures:
    """What a method did over many captions.

    Attributes:
        exactly_right: share of the captions whose missing words it found, all of them.
        standard_error: of that share.
        mean_joint: mean J of its best sentences, in nats.
        mean_rows: rows evaluated per caption.
    """

    exactly_right: float
    standard_error: float
    mean_joint: float
    mean_rows: float


def fill_blanks(
    model_f: Any,
    model_b: Any,
    images: Sequence[Any],
    captions: Sequence[Sequence[int]],
    fraction: float,
    *,
    beam_size: int = 5,
    batch_size: int = 64,
) -> Iterator[dict[str, DecodeResult]]:
    """Take the middle out of captions (see `middle_blank`) and let every method of `compare` fill the blank.

    Args:
        model_f: the forward model.
        model_b: the backward model.
        images: one per caption.
        captions: the ids of their words.
        fraction: of the words that are taken out.
        beam_size: B.
        batch_size: captions decoded at a time.

    Yields:
        for each caption, method name to result.

    Raises:
        ValueError: other numbers of images and of captions.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: give one caption for each image")
    for begin in range(0, len(captions), batch_size):
        some = slice(begin, begin + batch_size)
        templates = [middle_blank(caption, fraction) for caption in captions[some]]
        yield from compare(model_f, model_b, list(images[some]), templates, beam_size=beam_size)


def summarise(
    results: Sequence[Mapping[str, DecodeResult]], captions: Sequence[Sequence[int]]
) -> dict[str, MethodFigures]:
    """The figures of each method; a search that found no sentence is not right, and has no J."""
    figures = {}
    for method in results[0]:
        own = [result[method] for result in results]
        found = [result.best if result.hypotheses else None for result in own]
        right = sum(
            one is not None and one.tokens == tuple(caption) for one, caption in zip(found, captions, strict=True)
        ) / len(own)
        joints = [one.joint for one in found if one is not None and one.joint is not None]
        figures[method] = MethodFigures(
            exactly_right=right,
            standard_error=math.sqrt(right * (1 - right) / len(own)),
            mean_joint=sum(joints) / len(joints) if joints else math.nan,
            mean_rows=sum(result.rows_evaluated for result in own) / len(own),
        )
    return figures
