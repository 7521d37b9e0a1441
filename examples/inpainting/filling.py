"""Fill holes with each method: Context Encoders, and searches over the pixel models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from birnn_decode import Pair, compare, score_sentences
from examples.inpainting import pixels
from examples.inpainting.context_encoder import ContextEncoder
from examples.inpainting.data import Pictures, nearest

AT_A_TIME = 60  # pictures that are searched as one batch
BEAM_SIZE = 5
SEARCHES = ("urnn-f", "urnn-b", "rerank", "bscd")


@dataclass(frozen=True)
class Filled:
    """What a method made of pictures with holes.

    Attributes:
        values: the filled pictures as colours from 0 to 1, float32 [N, channels, height, width].
        numbers: the same as numbers of the palette, int64 [N, height, width]. A Context Encoder paints any colour; the
            nearest one of the palette counts.
        joint: J of each picture of ``numbers`` under the pixel models, in nats, [N].
        beam: all completions that a search found, best first, int64 [N, B, height, width]; if it found fewer than B,
            the last one is repeated.
        rows: number of pixels that the search read for each picture, [N]; NaN if nothing was searched.
    """

    values: np.ndarray
    numbers: np.ndarray
    joint: np.ndarray
    beam: np.ndarray
    rows: np.ndarray


def paint(model: ContextEncoder, pair: Pair, pictures: Pictures, numbers: np.ndarray, missing: np.ndarray) -> Filled:
    """Fill holes with a Context Encoder.

    Args:
        model: the Context Encoder.
        pair: the pixel models, which score what it painted.
        pictures: where the palette comes from.
        numbers: the pictures, int64 [N, height, width]. The pixels of the holes are not read.
        missing: the holes, bool [N, height, width].
    """
    values = model.fill(pictures.values(numbers), missing)
    rounded = np.where(missing, nearest(np.moveaxis(values, 1, -1), pictures.palette), numbers)
    return not_searched(pair, values, rounded)


def not_searched(pair: Pair, values: np.ndarray, numbers: np.ndarray) -> Filled:
    """Return pictures that no search found, with their J."""
    return Filled(values, numbers, joint(pair, numbers), numbers[:, None], np.full(len(values), np.nan))


def joint(pair: Pair, numbers: np.ndarray) -> np.ndarray:
    """Return J of whole pictures, in nats, float64 [N]."""
    scored = score_sentences(pair, [None] * len(numbers), [[line] for line in pixels.sentences(numbers)])
    return np.array([one.joint for (one,) in scored])


def search(
    pair: Pair,
    pictures: Pictures,
    numbers: np.ndarray,
    missing: np.ndarray,
    progress: Progress,
    methods: Sequence[str] = SEARCHES,
    beam_size: int = BEAM_SIZE,
) -> dict[str, Filled]:
    """Fill holes by searches over the pixel models, by the names of the methods.

    Args:
        pair: the pixel models.
        pictures: where the palette comes from.
        numbers: the pictures, int64 [N, height, width]. The pixels of the holes are not read.
        missing: the holes, bool [N, height, width]. Each run of missing pixels in reading order is one blank.
        progress: shows how far it is.
        methods: names of methods of `birnn_decode.compare`.
        beam_size: number of beginnings that are kept at each pixel.
    """
    asked = pixels.templates(numbers, missing)
    results = []
    task = progress.add_task(f"{pictures.name}: {', '.join(methods)}, B = {beam_size}", total=len(asked))
    for begin in range(0, len(asked), AT_A_TIME):
        some = asked[begin : begin + AT_A_TIME]
        results += compare(pair, None, some, list(methods), beam_size=beam_size)
        progress.advance(task, len(some))
    filled = {}
    for method in methods:
        best = [result[method].best for result in results]
        made = pixels.pictures([one.tokens for one in best], pictures.size)
        rows = np.array([float(result[method].rows_evaluated) for result in results])
        beams = [[one.tokens for one in result[method].hypotheses] for result in results]
        beams = [pixels.pictures((own + own[-1:] * beam_size)[:beam_size], pictures.size) for own in beams]
        joints = np.array([one.joint for one in best])
        filled[method] = Filled(pictures.values(made), made, joints, np.stack(beams), rows)
    return filled
