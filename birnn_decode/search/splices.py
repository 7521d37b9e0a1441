"""Splices: sentences that beams of both directions make together, of a prefix, a word and a suffix.

At a blank position t, each prefix b and word v has a best suffix b' of the other direction (Eq. 3 of Sun, Lee and
Batra, CVPR 2017), by

    weight · (s_b + log p(v | b))  +  weight' · (s'_b' + log p'(v | b'))

A sweep goes on with the prefix and the word. It forgets b', because it chooses the next words anew. If b · v · b' was a
good sentence, it may never be seen again. So the best splices become candidates of the search. Their sums are known
already, so finding them takes no call of a model. ``birnn_decode.search.halving`` finds out which of them are good
sentences.

The prefixes and suffixes are the current beams, and those of the best sentences found so far. A good sentence is thus
crossed with all beams at every position, and with each word at every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import NEVER, Hold, Problem, Restraint
from birnn_decode.search.sweep import Ahead, Course, Frontier, Prior, beam_scores, best_of, lockstep, stacked, steering
from birnn_decode.search.tree import Nodes


@dataclass(frozen=True, eq=False)
class Splices:
    """Splices of several problems, in columns.

    Attributes:
        numbers: the number of the problem.
        left: the prefix with the word, a node of the first direction.
        right: the suffix with the word, a node of the second direction.
        values: the sum of the formula above, in nats, minus what the words have paid.
    """

    numbers: np.ndarray
    left: Nodes
    right: Nodes
    values: np.ndarray

    def take(self, some: np.ndarray) -> Splices:
        """Return some of the splices."""
        return Splices(self.numbers[some], self.left[some], self.right[some], self.values[some])


def find_splices(
    directions: Sequence[Direction],
    problems: Sequence[Problem],
    beams: Sequence[Sequence[Frontier]],
    best: Sequence[Sequence[tuple[int, ...]]],
    count: int,
    prior: Prior | None = None,
) -> Splices:
    """Return the best splices at each blank position of every problem.

    Args:
        directions: the direction of the prefix and the word, and that of the suffix.
        problems: the problems.
        beams: the frontiers of both directions, one per problem.
        best: for each problem sentences that every direction that counts has read to the end.
        count: the largest number of splices per position.
        prior: the prior to be subtracted, as in a sweep.
    """
    first, second = directions
    course = Course(first, problems)
    mine = with_sentences(first, course, problems, beams[0], best)
    theirs = with_sentences(second, Course(second, problems), problems, beams[1], best)
    empty = np.empty(0, dtype=np.int64)
    found = [Splices(empty, empty, empty, np.empty(0))]
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
        values, flats, picked = best_of(backend, scores, offsets, first.weight, steer, banned, count, restraint)
        rows, ranks = np.nonzero(values > NEVER)
        which, tokens = np.divmod(flats[rows, ranks], first.tree.scorer.vocab_size)
        chosen_for = [holds[row] for row in rows.tolist()] if holds else []
        suffixes = _best_behind(second, behind[rows], tokens, chosen_for)
        found.append(
            Splices(
                numbers[rows],
                first.tree.grow(left[rows, which], tokens, picked[rows, ranks]),
                second.tree.grow(suffixes, tokens, second.tree.pick(suffixes, tokens)),
                values[rows, ranks],
            )
        )
    columns = zip(*((one.numbers, one.left, one.right, one.values) for one in found), strict=True)
    return Splices(*map(np.concatenate, columns))


def with_sentences(
    direction: Direction,
    course: Course,
    problems: Sequence[Problem],
    frontiers: Sequence[Frontier],
    sentences: Sequence[Sequence[tuple[int, ...]]],
) -> np.ndarray:
    """Return beams and the prefixes of sentences, no prefix twice: nodes [problems, 1 + places, prefixes].

    Args:
        direction: the direction.
        course: its course over the problems.
        problems: the problems.
        frontiers: the beams of each problem.
        sentences: the sentences of each problem, in sentence order. Every direction that counts has read them to the
            end.
    """
    beams = stacked(frontiers)
    own = np.full((*beams.shape[:2], max(map(len, sentences), default=0)), -1)
    # A direction that does not count has not read the sentences.
    for number, (problem, several) in enumerate(zip(problems, sentences, strict=True)) if direction.weight else ():
        begin, end = course.begins[number], course.ends[number]
        for column, words in enumerate(several):
            nodes = direction.tree.path(problem.item, direction.words_in_reading_order(words)[: max(end - 1, 0)])
            own[number, : end - begin, column] = nodes[begin:]
    both = np.concatenate([beams, own], axis=2)
    earlier = np.tri(both.shape[2], k=-1, dtype=bool)
    both[((both[..., None] == both[..., None, :]) & earlier).any(axis=-1)] = -1
    return np.take_along_axis(both, np.argsort(both < 0, axis=2, kind="stable"), 2)


def _best_behind(second: Direction, beams: np.ndarray, tokens: np.ndarray, holds: Sequence[Hold | None]) -> np.ndarray:
    """Return the node of each row of ``beams``, [rows, beams], with the best sum for its token, [rows]."""
    nodes = np.where(beams >= 0, beams, beams[:, :1])
    picked = second.tree.pick(nodes.reshape(-1), np.repeat(tokens, nodes.shape[1]))
    sums = second.tree.offsets(nodes) + picked.reshape(nodes.shape)
    if holds and second.weight:
        paid = Restraint(second, [hold and hold.across() for hold in holds], nodes, second.weight)
        sums += (paid.shift + paid.extra[np.arange(len(nodes)), :, tokens]) / second.weight
    return nodes[np.arange(len(nodes)), sums.argmax(axis=1)]
