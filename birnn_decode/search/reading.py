"""Which rows of words are read in which call of ``steps``, a scorer's method that reads several words per row.

A row is a prefix whose parent has a state, and the words to be read after it. A row that is the beginning of another is
read with it, so that every word is read by as few rows as possible. Rows of different lengths share a call: the shorter
ones are padded. If padding the rows of one length would add more than ``WORTH_A_CALL`` tokens, they get a call of their
own. After padding a state is of no use, so rows whose state is kept share a call only with rows of their
own length, and with shorter ones whose state is not kept.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

LARGEST_BLOCK = 2**24  # scores that one call returns at most, tokens * vocab_size
WORTH_A_CALL = 64  # tokens; if padding takes more than these, another call is faster

Row: TypeAlias = tuple[int, ...]
"""An item, a node whose parent has a state, and the words to be read after the node."""


class Asked(NamedTuple):
    """What one prefix asks for.

    Attributes:
        row: the row that reads the prefix and the words after it.
        last: a word whose log-probability after the row is wanted; None if there is none.
        kept: whether the state after the row is kept.
    """

    row: Row
    last: int | None
    kept: bool


class Walked(NamedTuple):
    """The prefixes along the rows of a call.

    Attributes:
        places: for each node that was read, the place of its scores.
        new: item, parent, token, and place of the parent's scores of each new node.
        ends: the node that each row ends with.
    """

    places: dict[int, int]
    new: list[tuple[int, int, int, int]]
    ends: list[int]


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one call, and what they are read for.

    Attributes:
        rows: the rows, those of an item next to each other.
        kept: whether the state after each row is kept.
        asked: for each row what is asked of it or of its beginning.
    """

    rows: Sequence[Row]
    kept: Sequence[bool]
    asked: Sequence[Sequence[Asked]]

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each row."""
        return [len(row) - 1 for row in self.rows]

    def tokens(self, firsts: np.ndarray, padding: int) -> np.ndarray:
        """Return the tokens of the rows, [rows, tokens], given those of the nodes that the rows begin with."""
        lengths = self.lengths
        tokens = np.full((len(self.rows), max(lengths)), padding)
        tokens[:, 0] = firsts
        for own, row, length in zip(tokens, self.rows, lengths, strict=True):
            own[1:length] = row[2:]
        return tokens

    @property
    def begins(self) -> list[int]:
        """The place where the scores of each row begin if all are joined without padding; and their number."""
        return [0, *itertools.accumulate(self.lengths)]

    def walk(self, child_of: dict[int, int], count: int, vocab_size: int) -> Walked:
        """Number the new prefixes along the rows, and add them to ``child_of``.

        Args:
            child_of: ``parent * vocab_size + token`` to the child.
            count: the number of nodes so far.
            vocab_size: the size of the vocabulary.
        """
        walked = Walked({}, [], [])

        def child(item: int, node: int, token: int) -> int:
            key = node * vocab_size + token
            if key not in child_of:
                child_of[key] = count + len(walked.new)
                walked.new.append((item, node, token, walked.places[node]))
            return child_of[key]

        for row, begin, several in zip(self.rows, self.begins, self.asked, strict=False):
            for one in several:
                item, node, *tokens = one.row
                walked.places.setdefault(node, begin)
                for place, token in enumerate(tokens, begin + 1):
                    node = child(item, node, token)
                    walked.places.setdefault(node, place)
                if one.row == row:
                    end = node
                if one.last is not None:
                    child(item, node, one.last)
            walked.ends.append(end)
        return walked


class Limits(NamedTuple):
    """What one call may read.

    Attributes:
        tokens: the largest number of tokens of a prefix, START included. Padding counts.
        rows: the largest number of rows; None for no limit.
        vocab_size: the size of the vocabulary.
    """

    tokens: float
    rows: int | None
    vocab_size: int

    def rows_of(self, length: int) -> int:
        """Return the largest number of rows with ``length`` tokens."""
        most = max(1, LARGEST_BLOCK // (length * self.vocab_size))
        return most if self.rows is None else min(most, self.rows)


def batches(asked: Sequence[Asked], depths: np.ndarray, kinds: np.ndarray, limits: Limits) -> list[Batch]:
    """Return the calls that read what is asked for.

    Args:
        asked: what is asked for.
        depths: the depth of the node that each row begins with, [asked].
        kinds: rows of different kinds are not read in one call, [asked].
        limits: what one call may read.
    """
    of: dict[Row, tuple[int, int]] = {}
    kept: set[Row] = set()
    for one, depth, kind in zip(asked, depths.tolist(), kinds.tolist(), strict=True):
        of[one.row] = kind, depth
        if one.kept:
            kept.add(one.row)
    rows = _longest(sorted(of), kept)
    asked_of: dict[Row, list[Asked]] = {row: [] for row in rows}
    for one in asked:
        asked_of[rows[bisect.bisect_left(rows, one.row)]].append(one)
    lengths: dict[int, dict[int, list[Row]]] = {}  # kind, and length with padding: the rows
    alike = Counter((of[row][0], len(row)) for row in rows)
    for row in sorted(rows, key=lambda row: (row not in kept, -len(row))):
        kind, depth = of[row]
        groups = lengths.setdefault(kind, {})
        fitting = [] if row in kept else [one for one in groups if one >= len(row) and depth + one - 1 <= limits.tokens]
        length = min(fitting, default=len(row))
        if alike[kind, len(row)] * (length - len(row)) > WORTH_A_CALL:
            length = len(row)
        groups.setdefault(length, []).append(row)
    found = []
    for groups in lengths.values():
        for length, group in groups.items():
            group.sort()
            at_a_time = limits.rows_of(length - 1)
            for begin in range(0, len(group), at_a_time):
                some = group[begin : begin + at_a_time]
                found.append(Batch(some, [row in kept for row in some], [asked_of[row] for row in some]))
    return found


def _longest(rows: Sequence[Row], kept: set[Row]) -> list[Row]:
    """Return the rows, in ascending order, without those that are the beginning of another and need no state."""
    return [row for row, other in itertools.pairwise([*rows, ()]) if row in kept or other[: len(row)] != row]
