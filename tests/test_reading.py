"""Rows of words that one call reads: which of them share a call, and what they are read for."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birnn_decode.search.reading import Asked, Limits, batches

V, ROOM = 5, 12
depths = [0, 2, 2, 5]  # of the nodes that rows begin with; their numbers are 0 to 3
asked_for = st.builds(
    lambda node, words, last, kept: Asked((0, node, *words), last, kept),
    st.integers(0, 3),
    st.lists(st.integers(0, 1), max_size=4),
    st.one_of(st.none(), st.integers(0, V - 1)),
    st.booleans(),
)


def grouped(asked, aligned, room=ROOM):
    firsts = np.array([depths[one.row[1]] for one in asked])
    return batches(asked, firsts, firsts if aligned else np.zeros_like(firsts), Limits(room, None, V))


@given(asked=st.lists(asked_for, min_size=1, max_size=12), aligned=st.booleans(), room=st.sampled_from([9, 10, 12]))
def test_calls_read_all_that_is_asked_for_and_nothing_twice(asked, aligned, room):
    found = grouped(asked, aligned, room)
    served = [one for batch in found for several in batch.asked for one in several]
    assert sorted(map(str, served)) == sorted(map(str, asked))
    kept = {one.row for one in asked if one.kept}
    rows = [row for batch in found for row in batch.rows]
    assert len(rows) == len(set(rows))
    for one, other in itertools.permutations(rows, 2):
        assert other[: len(one)] != one or one in kept, "the beginning of a row is read once more"
    for batch in found:
        tokens = batch.tokens(np.full(len(batch.rows), 7), padding=9)
        longest = tokens.shape[1]
        for row, flag, several, read in zip(batch.rows, batch.kept, batch.asked, tokens.tolist(), strict=True):
            assert flag == (row in kept)
            assert not flag or len(row) - 1 == longest, "the state after padding is kept"
            assert all(row[: len(one.row)] == one.row for one in several)
            assert read == [7, *row[2:], *[9] * (longest - len(row) + 1)]
            assert depths[row[1]] + longest <= max(room, depths[row[1]] + len(row) - 1), "padding takes positions"
        if aligned:
            assert len({depths[row[1]] for row in batch.rows}) == 1
        assert list(batch.rows) == sorted(batch.rows)  # the rows of an item stand next to each other


@given(asked=st.lists(asked_for, min_size=1, max_size=12))
def test_new_prefixes_are_numbered_once_and_know_where_their_scores_are(asked):
    child_of, count = {}, 4
    words = {node: (node,) for node in range(4)}  # of each node: the node that it begins with, and the words
    for batch in grouped(asked, aligned=True):
        walked = batch.walk(child_of, count, V)
        place_of = {}  # of the words, where their scores are
        for row, begin in zip(batch.rows, batch.begins, strict=False):
            for end in range(2, len(row) + 1):
                place_of.setdefault(row[1:end], begin + end - 2)
        for number, (item, parent, token, place) in enumerate(walked.new, count):
            words[number] = (*words[parent], token)
            assert (item, child_of[parent * V + token]) == (0, number)
            assert words[batch_node(walked.places, place)] == words[parent]
        assert [words[node] for node in walked.ends] == [row[1:] for row in batch.rows]
        assert all(place_of[words[node]] == place for node, place in walked.places.items())
        count += len(walked.new)
    assert len(set(words.values())) == count
    for one in asked:
        whole = one.row[1:] if one.last is None else (*one.row[1:], one.last)
        assert whole in words.values()


def batch_node(places, place):
    return next(node for node, own in places.items() if own == place)


def test_rows_that_go_on_share_a_call_with_shorter_ones_that_do_not():
    asked = [
        Asked((0, 0, 1, 1), 2, True),
        Asked((0, 1, 1), 2, False),
        Asked((0, 2, 1), 2, True),
        Asked((0, 3), 2, False),
    ]
    rows = [list(batch.rows) for batch in grouped(asked, aligned=False)]
    assert sorted(rows) == [[(0, 0, 1, 1)], [(0, 1, 1), (0, 2, 1), (0, 3)]]


@pytest.mark.parametrize(("short", "calls"), [(6, 1), (40, 2)])
def test_many_short_rows_are_not_padded(short, calls):
    asked = [Asked((0, node, *range(length - 1)), None, False) for node, length in [(0, 9), *[(1, 3)] * short]]
    asked = [Asked((number, *one.row[1:]), None, False) for number, one in enumerate(asked)]
    found = grouped(asked, aligned=False)
    assert len(found) == calls
