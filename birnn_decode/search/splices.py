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

from birnn_decode.search.behind import best_behind
from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import NEVER, Problem, Restraint
from birnn_decode.search.sweep import (
    AT_A_TIME,
    Course,
    Frontier,
    Prior,
    beam_scores,
    best_of,
    blank_places,
    look_ahead,
    stacked,
    steering,
)
from birnn_decode.search.tree import Nodes


@dataclass(frozen=True, eq=False)
class Splices:
    """Splices of several problems, in columns.

    Attributes:
        numbers: the number of the problem.
        left: the prefix with the word, a node of the first direction.
        right: the suffix with the word, a node of the second direction.
        values: the sum of the formula above, in nats, minus what the words have paid.
        sums: the sum without that.
    """

    numbers: np.ndarray
    left: Nodes
    right: Nodes
    values: np.ndarray
    sums: np.ndarray

    def take(self, some: np.ndarray) -> Splices:
        """Return some of the splices."""
        return Splices(*(column[some] for column in self.columns))

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """All columns, in the order above."""
        return self.numbers, self.left, self.right, self.values, self.sums

    @classmethod
    def joined(cls, several: Sequence[Splices]) -> Splices:
        """Join splices."""
        empty = np.empty(0, dtype=np.int64)
        parts = [cls(empty, empty, empty, np.empty(0), np.empty(0)), *several]
        return cls(*map(np.concatenate, zip(*(one.columns for one in parts), strict=True)))


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
    found = []
    scores_at_a_place = (mine.shape[2] + theirs.shape[2]) * first.tree.scorer.vocab_size
    for numbers, places in blank_places(course, AT_A_TIME // scores_at_a_place):
        left = mine[numbers, places - course.begins[numbers]]
        turn = course.turn(numbers, places, left)
        behind, holds = theirs[numbers, turn.behind], turn.holds
        seen = look_ahead(second, behind, turn.holds) if second.weight else None
        steer, banned = steering(first, turn, seen, prior)
        restraint = Restraint(first, holds, left, first.weight) if holds else None
        scores, offsets = beam_scores(first, left, first.weight)
        backend = first.tree.backend
        values, flats, picked = best_of(backend, scores, offsets, first.weight, steer, banned, count, restraint)
        rows, ranks = np.nonzero(values > NEVER)
        which, tokens = np.divmod(flats[rows, ranks], first.tree.scorer.vocab_size)
        chosen_for = [holds[row] for row in rows.tolist()] if holds else []
        suffixes, _ = best_behind(second, behind[rows], tokens, chosen_for)
        nodes = (
            first.tree.grow(left[rows, which], tokens, picked[rows, ranks]),
            second.tree.grow(suffixes, tokens, second.tree.pick(suffixes, tokens)),
        )
        sums = np.zeros(len(rows))
        for direction, own in zip(directions, nodes, strict=True):
            if direction.weight:
                sums += direction.weight * direction.tree.log_probs[own]
        found.append(Splices(numbers[rows], *nodes, values[rows, ranks], sums))
    return Splices.joined(found)


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
    # A direction that does not count has not read the sentences.
    several = sentences if direction.weight else [[] for _ in sentences]
    both = np.concatenate([stacked(frontiers), prefixes(direction, course, problems, several)], axis=2)
    return np.take_along_axis(both, once(both), 2)


def prefixes(
    direction: Direction,
    course: Course,
    problems: Sequence[Problem],
    sentences: Sequence[Sequence[tuple[int, ...]]],
) -> np.ndarray:
    """Return the prefixes of sentences that were read, nodes [problems, 1 + places, sentences]; -1 for none."""
    places = (course.ends - course.begins).max(initial=0)
    found = np.full((len(problems), 1 + places, max(map(len, sentences), default=0)), -1)
    for number, (problem, several) in enumerate(zip(problems, sentences, strict=True)):
        begin, end = course.begins[number], course.ends[number]
        for column, words in enumerate(several):
            nodes = direction.tree.path(problem.item, direction.words_in_reading_order(words)[: max(end - 1, 0)])
            found[number, : end - begin, column] = nodes[begin:]
    return found


def once(nodes: np.ndarray) -> np.ndarray:
    """Write -1 over nodes that stand before on the last axis, and return an order that puts -1 last."""
    earlier = np.tri(nodes.shape[2], k=-1, dtype=bool)
    nodes[((nodes[..., None] == nodes[..., None, :]) & earlier).any(axis=-1)] = -1
    return np.argsort(nodes < 0, axis=2, kind="stable")
