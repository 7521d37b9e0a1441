"""Blanks filled by every method, and what is said of it."""

import math

import pytest
from tables import pair

from birnn_decode import DecodeResult, StopReason, compare
from birnn_decode.captions import middle_blank
from birnn_decode.evaluation import MethodFigures, fill_blanks, summarise

CAPTIONS = [[2, 3, 4, 5], [5, 5], [3, 2, 4], [4, 4, 4, 2, 3], [2]]
IMAGES = [0, 1, 2, 3, 4]


def test_every_caption_is_filled_whatever_the_batches():
    models = pair(3, 6)
    templates = [middle_blank(caption, 0.5) for caption in CAPTIONS]
    expected = compare(*models, IMAGES, templates, beam_size=2)
    for batch_size in (1, 2, 64):
        assert list(fill_blanks(*models, IMAGES, CAPTIONS, 0.5, beam_size=2, batch_size=batch_size)) == expected
    with pytest.raises(ValueError, match="4 images and 5 captions: give one caption for each image"):
        list(fill_blanks(*models, IMAGES[1:], CAPTIONS, 0.5))


def test_figures_of_a_method():
    models = pair(3, 6)
    results = list(fill_blanks(*models, IMAGES, CAPTIONS, 0.5))
    found = [list(result["bscd"].best.tokens) for result in results]
    captions = [found[0], found[1], *CAPTIONS[2:]]
    right = [tokens == caption for tokens, caption in zip(found, captions, strict=True)]
    share = sum(right) / 5
    assert 2 <= sum(right) < 5
    figures = summarise(results, captions)
    assert list(figures) == list(results[0])
    assert figures["bscd"] == MethodFigures(
        exactly_right=share,
        standard_error=pytest.approx(math.sqrt(share * (1 - share) / 5)),
        mean_joint=pytest.approx(sum(result["bscd"].best.joint for result in results) / 5),
        mean_rows=sum(result["bscd"].rows_evaluated for result in results) / 5,
    )


def test_a_search_that_found_nothing_is_not_right():
    nothing = DecodeResult((), StopReason.DEAD_END, 1, 7, "", (), seconds=0.0)
    figures = summarise([{"bscd": nothing}], [[2]])["bscd"]
    assert (figures.exactly_right, figures.mean_rows) == (0, 7)
    assert math.isnan(figures.mean_joint)


def test_the_time_is_that_of_the_batch():
    results = compare(*pair(3, 6), IMAGES, [middle_blank(caption, 0.5) for caption in CAPTIONS])
    for method in results[0]:
        assert len({result[method].seconds for result in results}) == 1
        assert results[0][method].seconds > 0
