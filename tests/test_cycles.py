"""How far a joint model's conditionals are from those of one distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import END, START, pair, seeds
from test_joint import WORDS, V, added, chain_model, table_of_both

from birnn_decode import JointModel, PrefixScorer
from birnn_decode.evaluation import joint_cycles


def test_conditionals_of_one_distribution_have_no_gap():
    model, _ = chain_model(7)
    (cycles,) = joint_cycles(model, None, [[2, 3, 4, 2, 3]], cycles=40)
    assert len(cycles) > 30
    assert [one.gap for one in cycles] == pytest.approx([0] * len(cycles), abs=1e-9)
    assert len({one.positions for one in cycles}) > 5


@given(seed=seeds, words=st.lists(st.sampled_from(WORDS), min_size=2, max_size=5), joined=st.booleans())
def test_the_gap_of_a_cycle(seed, words, joined):
    combine, conditionals = table_of_both(seed) if joined else (None, None)
    model = JointModel(*pair(seed, V), combine)
    conditionals = conditionals or added(model.forward_half, model.backward_half)

    def step(at, to, **others):
        """Log p(to at a position | the other words), some of which are changed."""
        changed = list(words)
        for position, word in others.items():
            changed[int(position[1:])] = word
        changed[at] = to
        return conditionals(tuple(changed[:at]), tuple(changed[:at:-1]))[to]

    ((cycles, single),) = joint_cycles(model, [0], [[words, [2]]], cycles=5, seed=seed)
    assert single == []
    assert cycles
    for one in cycles:
        (i, j), (a, new_a), (b, new_b) = one.positions, one.first, one.second
        assert i < j
        assert (a, b) == (words[i], words[j])
        assert new_a != a
        assert new_b != b
        assert {new_a, new_b} <= set(WORDS)
        at_i, at_j = f"p{i}", f"p{j}"
        way = step(i, new_a, **{at_j: b}) + step(j, new_b, **{at_i: new_a})
        way += step(i, a, **{at_j: new_b}) + step(j, b, **{at_i: a})
        back = step(j, new_b, **{at_i: a}) + step(i, new_a, **{at_j: new_b})
        back += step(j, b, **{at_i: new_a}) + step(i, a, **{at_j: b})
        assert one.gap == pytest.approx(way - back, abs=1e-9)
    assert joint_cycles(model, [0], [[words, [2]]], cycles=5, seed=seed) == [[cycles, []]]


def test_words_that_cannot_be_exchanged_have_no_cycle():
    """One word is all that is possible there."""
    scores = np.full((V, V), -np.inf)
    scores[:, 3] = 0
    halves = [
        PrefixScorer(lambda context, prefixes: scores[prefixes[:, -1]], vocab_size=V, start_token=start, end_token=end)
        for start, end in ((START, END), (END, START))
    ]
    assert joint_cycles(JointModel(*halves), None, [[3, 3]]) == [[]]


def test_sentences_that_are_impossible_have_no_cycle():
    """Neither way around begins, nor comes back: that says nothing of whether the model is compatible."""
    row = np.array([-np.inf, -np.inf, 0.0, -1.0, -0.5, -np.inf])
    halves = [
        PrefixScorer(
            lambda context, prefixes: np.tile(row, (len(prefixes), 1)), vocab_size=V, start_token=start, end_token=end
        )
        for start, end in ((START, END), (END, START))
    ]
    assert joint_cycles(JointModel(*halves), None, [[5, 5, 5]]) == [[]]
    ((cycles,),) = joint_cycles(JointModel(*halves), [None], [[[2, 3, 4]]])
    assert cycles
    assert [one.gap for one in cycles] == pytest.approx([0.0] * len(cycles), abs=1e-9)


def test_what_cannot_be_asked():
    model = JointModel(*pair(1, V))
    assert joint_cycles(model, [], []) == []
    with pytest.raises(ValueError, match="cycles must be a positive integer, got 0"):
        joint_cycles(model, None, [[2, 3]], cycles=0)
