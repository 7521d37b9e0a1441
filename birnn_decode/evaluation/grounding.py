"""Grounding: does a word go to a region that shows its object?"""

from __future__ import annotations

from collections.abc import Sequence

from birnn_decode.captions.datasets import Box, Region
from birnn_decode.vocabularies import words_of


def word_regions(words: Sequence[str], regions: Sequence[Region]) -> dict[int, int]:
    """Find the words that name exactly one of some labelled regions.

    Args:
        words: the words of a sentence.
        regions: regions with labels, such as "red circle".

    Returns:
        For the place of each such word the number of its region.

    Example:
        >>> from birnn_decode.captions import Region
        >>> from birnn_decode.evaluation import word_regions
        >>> regions = [Region((0, 0, 0.5, 0.5), "red circle"), Region((0.5, 0, 1, 0.5), "blue star")]
        >>> word_regions(["a", "red", "circle"], regions)
        {1: 0, 2: 0}
    """
    named = [set(words_of(region.label)) for region in regions]
    found = {}
    for place, word in enumerate(words):
        owners = [number for number, own in enumerate(named) if word in own]
        if len(owners) == 1:
            found[place] = owners[0]
    return found


def grounded(
    words: Sequence[str], aligned: Sequence[int], places: Sequence[Box | None], regions: Sequence[Region]
) -> list[tuple[bool, float]]:
    """Say which words of a sentence go to a region that shows their object.

    Args:
        words: the words.
        aligned: for each word the number of its region, as `AlignmentModel.align` returns it.
        places: the box of each of these regions; None for the whole picture, and if the place is not known.
        regions: the labelled regions of the picture.

    Returns:
        For each word that names exactly one labelled region whether its region shows it, and the probability that one
        drawn by chance does, of the whole picture and the regions with a box.

    Example:
        >>> from birnn_decode.captions import Region
        >>> from birnn_decode.evaluation import grounded
        >>> left, right = (0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5)
        >>> regions = [Region(left, "red circle"), Region(right, "blue star")]
        >>> grounded(["a", "red", "star"], [0, 1, 0], [None, left, right, (0, 0.5, 1, 1)], regions)
        [(True, 0.25), (False, 0.25)]
    """
    found = []
    drawn = 1 + sum(place is not None for place in places)
    for at, number in word_regions(words, regions).items():
        fits = [place is not None and shows(place, number, regions) for place in places]
        found.append((fits[aligned[at]], sum(fits) / drawn))
    return found


def shows(box: Box, number: int, regions: Sequence[Region]) -> bool:
    """Say whether a box shows one of some regions.

    It does if it overlaps this region, and no other one more. The whole picture shows everything, so it says nothing
    about a word. It does not count as showing a region.

    Args:
        box: the box, (left, top, right, bottom).
        number: the number of the region.
        regions: all regions of the picture.

    Returns:
        True or False.

    Example:
        >>> from birnn_decode.captions import Region
        >>> from birnn_decode.evaluation import shows
        >>> regions = [Region((0, 0, 0.5, 0.5), "red circle"), Region((0.5, 0, 1, 0.5), "blue star")]
        >>> shows((0.25, 0.25, 0.5, 0.5), 0, regions), shows((0, 0, 1, 1), 0, regions)
        (True, False)
    """
    if box == (0, 0, 1, 1):
        return False
    overlaps = [_overlap(box, region.box) for region in regions]
    return overlaps[number] > 0 and overlaps[number] == max(overlaps)


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)
