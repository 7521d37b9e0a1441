"""Splices: sentences that two initial beams make together, of a prefix, a word and the opposite beam's words.

Before the first round, both directions have beams for every position. At a blank position t, each prefix b and word v
has a best opposite beam b' (Eq. 3 of Sun, Lee and Batra, CVPR 2017), by

    weight · (s_b + log p(v | b))  +  weight' · (s'_b' + log p'(v | b'))

A sweep goes on with the prefix and the word. It forgets b', because it chooses the next words anew. If b · v · b' was a
good sentence, it may never be seen again. So the best few of each position become candidates of the search, and J
decides among all candidates. Their scores are known already, so finding them takes no call of a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import NEVER, Hold, Problem, Restraint
from birnn_decode.search.sweep import Ahead, Course, Frontier, Prior, beam_scores, best_of, lockstep, stacked, steering

AT_EACH_POSITION = 2  # measured: the second splice costs little and finds much, later ones cost more than they find


def splices(
    first: Direction,
    second: Direction,
    problems: Sequence[Problem],
    beams: Sequence[Sequence[Frontier]],
    prior: Prior | None = None,
) -> list[list[tuple[int, ...]]]:
    """Return the best splices of every problem at each blank position, as sentences.

    Args:
        first: the direction of the prefix and the word.
        second: the direction of the words after them.
        problems: the problems.
        beams: the frontiers of both directions, one per problem.
        prior: the prior to be subtracted, as in a sweep.

    Returns:
        for each problem, position by position, the best splice first.
    """
    found: list[list[tuple[int, ...]]] = [[] for _ in problems]
    course = Course(first, problems)
    mine, theirs = stacked(beams[0]), stacked(beams[1])
    for numbers, places in lockstep(course.begins, course.ends, aligned=False):
        blank = course.codes[numbers, places] < 0
        numbers, places = numbers[blank], places[blank]
        if not len(numbers):
            continue
        left = mine[numbers, places - course.begins[numbers]]
        turn = course.turn(numbers, places, left)
        behind, holds = theirs[numbers, turn.behind], turn.holds
        steer, banned = steering(first, turn, Ahead(second, beams[1], prior), behind)
        restraint = Restraint(first, holds, left, first.weight) if holds else None
        scores, offsets = beam_scores(first, left, first.weight)
        backend = first.tree.backend
        values, flats, _ = best_of(backend, scores, offsets, first.weight, steer, banned, AT_EACH_POSITION, restraint)
        rows, ranks = np.nonzero(values > NEVER)
        which, tokens = np.divmod(flats[rows, ranks], first.tree.scorer.vocab_size)
        prefixes = first.tree.words(left[rows, which])
        chosen_for = [holds[row] for row in rows.tolist()] if holds else []
        suffixes = second.tree.words(_best_behind(second, behind[rows], tokens, chosen_for))
        for row, prefix, token, suffix in zip(rows.tolist(), prefixes, tokens.tolist(), suffixes, strict=True):
            problem = problems[numbers[row]]
            words = first.words_in_reading_order((*prefix, token, *suffix[::-1]))
            if problem.held is None or not problem.held.broken(words):
                found[numbers[row]].append(words)
    return found


def _best_behind(second: Direction, beams: np.ndarray, tokens: np.ndarray, holds: Sequence[Hold | None]) -> np.ndarray:
    """Return the node of each row of ``beams``, [rows, beams], with the best sum for its token, [rows]."""
    nodes = np.where(beams >= 0, beams, beams[:, :1])
    picked = second.tree.pick(nodes.reshape(-1), np.repeat(tokens, nodes.shape[1]))
    sums = second.tree.offsets(nodes) + picked.reshape(nodes.shape)
    if holds and second.weight:
        paid = Restraint(second, [hold and hold.across() for hold in holds], nodes, second.weight)
        sums += (paid.shift + paid.extra[np.arange(len(nodes)), :, tokens]) / second.weight
    return nodes[np.arange(len(nodes)), sums.argmax(axis=1)]
