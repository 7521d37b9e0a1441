"""Sentences that two initial beams make together: a prefix of one, a word, and what the other has read behind it.

Before the sweeps take turns, both directions have beams for every position that nobody has led astray yet. At a blank
position t each prefix b and word v has a b' behind it that suits it best (Eq. 3 of Sun, Lee and Batra, CVPR 2017):

    weight · (s_b + log p(v | b))  +  weight' · (s'_b' + log p'(v | b'))

A sweep goes on with the prefix and the word, and forgets b' as it chooses the next words anew. Where b · v · b' was a
good sentence, that may be the last that is seen of it. So the best few of each position are candidates of the search,
which J decides among like all others: their scores are there, so that to find them takes no call of a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from birnn_decode.search.holding import NEVER, Hold, Restraint
from birnn_decode.search.problem import SOME, Direction, Problem
from birnn_decode.search.sweep import (
    Frontier,
    Prior,
    beam_scores,
    best_of,
    holds_of,
    lockstep,
    stacked,
    steering,
)

AT_EACH_POSITION = 2  # the second costs little and finds much, those after it the other way round: docs/results.md


def splices(
    first: Direction,
    second: Direction,
    problems: Sequence[Problem],
    beams: tuple[Sequence[Frontier], Sequence[Frontier]],
    prior: Prior | None = None,
) -> list[list[tuple[int, ...]]]:
    """The best splices of every problem at each blank position, as sentences.

    Args:
        first: the direction that gives the prefix and the word.
        second: the one that gives what comes behind.
        problems: what is searched.
        beams: the frontiers of both, one per problem.
        prior: subtracted, as in a sweep.

    Returns:
        for each problem, position by position, the best first.
    """
    found: list[list[tuple[int, ...]]] = [[] for _ in problems]
    lanes = [first.lane(problem.template) for problem in problems]
    begins, ends = (np.array([getattr(lane, name) for lane in lanes], dtype=np.int64) for name in ("begin", "end"))
    codes, mine, theirs = stacked([lane.codes for lane in lanes]), stacked(beams[0]), stacked(beams[1])
    for numbers, places in lockstep(begins, ends, aligned=False):
        blank = codes[numbers, places] < 0
        numbers, places = numbers[blank], places[blank]
        if not len(numbers):
            continue
        left, behind = mine[numbers, places - begins[numbers]], theirs[numbers, ends[numbers] - 1 - places]
        asked = [(lanes[number], place) for number, place in zip(numbers.tolist(), places.tolist(), strict=True)]
        holds = holds_of([problems[number] for number in numbers], places)
        some = SOME in codes[numbers, places]
        steer, banned = steering(first, second, asked, behind, holds, some, prior)
        restraint = Restraint(first, holds, left, first.weight) if holds else None
        scores, offsets = beam_scores(first, left, first.weight)
        backend = first.tree.backend
        values, flats, _ = best_of(backend, scores, offsets, first.weight, steer, banned, AT_EACH_POSITION, restraint)
        rows, ranks = np.nonzero(values > NEVER)
        which, tokens = np.divmod(flats[rows, ranks], first.tree.scorer.vocab_size)
        prefixes = first.tree.words(left[rows, which])
        chosen_for = [holds[row] for row in rows] if holds else []
        suffixes = second.tree.words(_best_behind(second, behind[rows], tokens, chosen_for))
        for row, prefix, token, suffix in zip(rows.tolist(), prefixes, tokens.tolist(), suffixes, strict=True):
            problem = problems[numbers[row]]
            words = first.words_in_reading_order((*prefix, token, *suffix[::-1]))
            if problem.held is None or not problem.held.broken(words):
                found[numbers[row]].append(words)
    return found


def _best_behind(second: Direction, beams: np.ndarray, tokens: np.ndarray, holds: Sequence[Hold | None]) -> np.ndarray:
    """Of the nodes [rows, beams] the one of each row that makes most of its token, [rows]."""
    nodes = np.where(beams >= 0, beams, beams[:, :1])
    picked = second.tree.pick(nodes.reshape(-1), np.repeat(tokens, nodes.shape[1]))
    sums = second.tree.offsets(nodes) + picked.reshape(nodes.shape)
    if holds and second.weight:
        paid = Restraint(second, [hold and hold.across() for hold in holds], nodes, second.weight)
        sums += (paid.shift + paid.extra[np.arange(len(nodes)), :, tokens]) / second.weight
    best: np.ndarray = nodes[np.arange(len(nodes)), sums.argmax(axis=1)]
    return best
