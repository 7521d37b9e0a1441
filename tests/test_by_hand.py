"""Small cases whose answers and row counts are worked out on paper."""

import numpy as np
import pytest

from birnn_decode import BeamSearch, Objective, Pair, Rerank, StepScorer, Template, bscd_decode, compare, decode
from birnn_decode.search.direction import Direction
from birnn_decode.search.finalists import Finalist, Ranking, rank_finalists
from birnn_decode.search.tree import Encoded, PrefixTree

# Words: a 2, b 3, c 4, d 5. START 0, END 1.
A, B, C, D = 2, 3, 4, 5
V = 6


def bigrams(table, start, end):
    """A scorer of p(next | last) given as {last: {next: p}}; what is not listed has probability 0."""
    scores = np.full((V, V), -np.inf)
    for last, row in table.items():
        for token, probability in row.items():
            scores[last, token] = np.log(probability)
    scores.setflags(write=False)
    pushed = []

    def step(tokens, state):
        pushed.extend(tokens.tolist())
        return scores[tokens], None

    scorer = StepScorer(
        step=step,
        start=lambda context: None,
        select=lambda state, rows: None,
        join=lambda states: None,
        vocab_size=V,
        start_token=start,
        end_token=end,
        normalized=True,
    )
    scorer.pushed = pushed
    return scorer


def trellis():
    """``a _ d``, on which each direction alone is led astray.

    Forward, b is the likely word after a, but d hardly ever follows b; backward, c is the likely word before d, but a
    hardly ever precedes c. The word that joins both ends is a itself, second for both.

        P→(a b d) = 1 · .5 · .01 · 1    P→(a c d) = 1 · .1 · .5 · 1     P→(a a d) = 1 · .3 · .1 · 1
        P←(a b d) = 1 · .1 · .5 · .5    P←(a c d) = 1 · .5 · .01 · .5   P←(a a d) = 1 · .3 · .5 · .5
        J         = log .000125         J         = log .000125         J         = log .00225
    """
    forward = bigrams(
        {0: {A: 1.0}, A: {B: 0.5, A: 0.3, C: 0.1, D: 0.1}, B: {D: 0.01, B: 0.99}, C: {D: 0.5, C: 0.5}, D: {1: 1.0}},
        0,
        1,
    )
    backward = bigrams(
        {
            1: {D: 1.0},
            D: {C: 0.5, A: 0.3, B: 0.1, D: 0.1},
            C: {A: 0.01, C: 0.99},
            B: {A: 0.5, B: 0.5},
            A: {0: 0.5, A: 0.5},
        },
        1,
        0,
    )
    return forward, backward


def test_each_direction_alone_is_led_astray_and_both_together_are_not():
    forward, backward = trellis()
    template = Template.blank([A], 1, [D])
    results = compare(Pair(forward, backward), None, template, beam_size=1)
    words = {name: result.best.blanks for name, result in results.items()}
    assert words == {
        "urnn-f": ((B,),),
        "urnn-b": ((C,),),
        "urnn-f+end": ((B,),),
        "urnn-b+end": ((C,),),
        "rerank": ((B,),),
        "bscd": ((A,),),
    }
    best = results["bscd"].best
    assert np.exp(best.token_log_probs_forward) == pytest.approx([1, 0.3, 0.1, 1])
    assert np.exp(best.token_log_probs_backward) == pytest.approx([0.5, 0.3, 1, 0.5])


def test_rows_of_a_beam_search():
    forward, _ = trellis()
    result = decode(Pair(forward, None), None, Template.blank([A], 2, [D]), BeamSearch("forward"), beam_size=2)
    # The sweep reads START and a once, then its two first words; the second words are chosen and not read by it.
    assert result.trace[0].rows == 2 + 2
    # The answers' terms need the two second words and, behind each, the known d.
    assert result.rows_evaluated == 2 + 2 + 2 + 2
    assert len(forward.pushed) == result.rows_evaluated


def test_rows_of_rerank_and_bscd():
    forward, backward = trellis()
    template = Template.blank([A], 1, [D])
    # Each sweep reads the boundary and its known word: 4 rows. Forward finds b, backward c, and each direction already
    # knows its term of the other's word, too. What is missing are the terms behind that: the blank's word and the known
    # word after it must be read, for b and for c, in both directions: 8 rows. (Their J is the same, so neither can be
    # dropped on the way.)
    reranked = decode(Pair(forward, backward), None, template, Rerank(), beam_size=1)
    assert reranked.trace[0].rows == 4
    assert reranked.rows_evaluated == 4 + 8 == len(forward.pushed) + len(backward.pushed)

    forward, backward = trellis()
    result = bscd_decode(forward, backward, None, template, beam_size=1, splices=False)
    # The sweeps of a single blank read nothing new. They find a, whose terms of the blank promise most (.3 · .3 against
    # .05 for b and c). The directions read by turns, a word of the best bound each: forward a (.009 is left), backward
    # b (.025), forward c (.025), backward b (.0125), forward c (.025, as d is sure to end), backward c (.00025) and
    # forward b (.000125). Now a is the best again and stays so: forward its last word, backward both, which leaves
    # .00225, and that is the end of b and c: 4 rows for a, 3 for each of them.
    assert [entry.rows for entry in result.trace] == [4, 0, 0]
    assert [entry.new_sentences for entry in result.trace] == [2, 1, 0]
    assert (result.stop, result.rounds) == ("converged", 2)
    assert result.best.tokens == (A, A, D)
    assert result.rows_evaluated == 4 + 4 + 2 * 3 == len(forward.pushed) + len(backward.pushed)


def test_rows_of_splices():
    forward, backward = trellis()
    result = bscd_decode(forward, backward, None, Template.blank([A], 1, [D]), beam_size=1)
    # The beams take 4 rows, as above. With one blank, two splices are looked at: a, and b or c, which
    # are equal.
    # Both directions read their words, 4 rows, and see that a is better. Both read one word more, and it is complete.
    # The first round finds no new splice, which ends the search. In the end, 3 rows show that b and c, the finalists of
    # the beams, are worse.
    assert [entry.rows for entry in result.trace] == [4 + 4 + 2, 0]
    assert [entry.new_sentences for entry in result.trace] == [3, 0]
    assert (result.stop, result.rounds) == ("no_gain", 1)
    assert result.best.tokens == (A, A, D)
    assert result.rows_evaluated == len(forward.pushed) + len(backward.pushed) == 4 + 4 + 2 + 3


def test_few_splices_are_all_read_to_their_ends_and_no_round_follows():
    forward, backward = trellis()
    result = bscd_decode(forward, backward, None, Template.blank([A], 1, [D]), beam_size=4)
    # The beams take 4 rows, as above, and hold every word that there is. All four splices are read to their ends: the
    # word of the blank and the known word behind it, in both directions. The one with d turns out to be impossible.
    assert [entry.rows for entry in result.trace] == [4 + 4 * (2 + 2)]
    assert (result.stop, result.rounds) == ("no_gain", 0)
    assert {one.tokens for one in result.hypotheses} == {(A, one, D) for one in (A, B, C)}
    assert result.rows_evaluated == len(forward.pushed) + len(backward.pushed) == 4 + 4 * (2 + 2)


def test_a_finalist_that_cannot_win_is_not_read():
    # Two candidates for `a _ d`; b is hopeless in its own first term, c is certain everywhere.
    sure = bigrams({0: {A: 1.0}, A: {C: 0.99, B: 0.01}, C: {D: 1.0}, B: {D: 1.0}, D: {1: 1.0}}, 0, 1)
    mirror = bigrams({1: {D: 1.0}, D: {C: 0.99, B: 0.01}, C: {A: 1.0}, B: {A: 1.0}, A: {0: 1.0}}, 1, 0)
    template = Template.blank([A], 1, [D])
    result = decode(Pair(sure, mirror), None, template, Rerank(), beam_size=1)
    assert result.best.tokens == (A, C, D)
    # 2 rows a direction for the sweeps, and c and the known word behind it for the only finalist.
    assert result.rows_evaluated == 2 * (2 + 2)
    wide = decode(Pair(sure, mirror), None, template, Rerank(), beam_size=2)
    assert [one.tokens for one in wide.hypotheses] == [(A, C, D), (A, B, D)]
    assert wide.rows_evaluated == 2 * (2 + 4)


def test_nothing_blank():
    forward, backward = trellis()
    template = Template.from_tokens([A, C, D])
    result = bscd_decode(forward, backward, None, template)
    assert [one.tokens for one in result.hypotheses] == [(A, C, D)]
    assert result.best.blanks == ()
    assert (result.stop, result.rounds) == ("converged", 1)
    assert result.rows_evaluated == 2 * 4  # START and three words, once a direction
    assert result.best.score == pytest.approx(np.log([1, 0.1, 0.5, 1, 1, 0.5, 0.01, 0.5]).sum())
    assert (
        decode(Pair(forward, None), None, template, BeamSearch("forward")).best.score == 0
    )  # no term lies before a blank


def test_ties_go_to_the_lower_ids():
    forward = bigrams({last: dict.fromkeys((1, A, B, C, D), 0.2) for last in range(V)}, 0, 1)
    backward = bigrams({last: dict.fromkeys((0, A, B, C, D), 0.2) for last in range(V)}, 1, 0)
    template = Template.blank((), 2)
    result = decode(Pair(forward, None), None, template, BeamSearch("forward"), beam_size=3)
    assert [one.tokens for one in result.hypotheses] == [(A, A), (A, B), (A, C)]
    # Beams of 3: the forward sweep keeps aa, ab, ac; the backward one aa, ba, ca.
    joint = bscd_decode(forward, backward, None, template, beam_size=3)
    assert [one.tokens for one in joint.hypotheses] == [(A, A), (A, B), (A, C)]
    every = bscd_decode(forward, backward, None, template, beam_size=16)
    assert [one.tokens for one in every.hypotheses] == [(x, y) for x in (A, B, C, D) for y in (A, B, C, D)]


def test_a_bound_that_may_still_tie_is_read_on():
    # One unit each: a 1, a b 1 and its end 1; c 0, c d 0 and its end 1. So c d is complete when a b still has to be
    # read, both stand at 1, and a b has the lower ids.
    log_probs = np.full((V, V), -np.inf)
    log_probs[0, [A, C]] = [-1, 0]
    log_probs[A, B] = log_probs[C, D] = log_probs[B, 1] = 0
    log_probs[D, 1] = -1
    scorer = StepScorer(
        step=lambda tokens, state: (log_probs[tokens], None),
        start=lambda context: None,
        select=lambda state, rows: None,
        join=lambda states: None,
        vocab_size=V,
        start_token=0,
        end_token=1,
        normalized=True,
    )
    tree = PrefixTree(scorer, "forward", Encoded(scorer.encode([None]), [0], 1, [0]), [None])
    direction = Direction(tree, 1.0, False, (0, 1))
    (template,) = Template.from_tokens([Template.BLANK, Template.BLANK]).fixed()
    finalists = [Finalist(0, template, words) for words in ((C, D), (A, B))]
    ((best,),) = rank_finalists(finalists, 1, [direction], Ranking({direction: 1.0}, ["sentence"], ["none"]), 1)
    assert (best.words, best.score) == ((A, B), -1)
    assert len(tree) == 2 + 2 * 3  # nothing of them was left unread


def test_beams_are_put_in_order_at_known_words():
    # After `b` or `c` comes the known d, then a blank of a or b. Sums as powers of 1/2, one unit each:
    #     b 1, b d 1 + 3 = 4;   c 2, c d 2 + 1 = 3;   then a 1 or b 2, whatever came before.
    # c d leads now, so c d a (4) is first, and of the tie c d b = b d a = 5 the one of the better beam survives.
    log_probs = np.full((V, V), -np.inf)
    log_probs[0, [B, C]] = [-1, -2]
    log_probs[B, D], log_probs[C, D] = -3, -1
    log_probs[D, [A, B]] = [-1, -2]
    scorer = StepScorer(
        step=lambda tokens, state: (log_probs[tokens], None),
        start=lambda context: None,
        select=lambda state, rows: None,
        vocab_size=V,
        start_token=0,
        end_token=1,
        normalized=True,
    )
    template = Template.from_tokens([Template.BLANK, D, Template.BLANK])
    result = decode(Pair(scorer, None), None, template, BeamSearch("forward"), beam_size=2)
    assert [(one.tokens, one.score) for one in result.hypotheses] == [((C, D, A), -4), ((C, D, B), -5)]


def test_equal_beams_stay_as_they_stand_at_known_words():
    scorer = bigrams({0: {B: 0.5, C: 0.5}, B: {D: 1.0}, C: {D: 1.0}, D: {A: 0.5, B: 0.5}}, 0, 1)
    template = Template.from_tokens([Template.BLANK, D, Template.BLANK])
    result = decode(Pair(scorer, None), None, template, BeamSearch("forward"), beam_size=2)
    # All four are worth the same. b came first, so b d stands before c d, and its words leave no room.
    assert [one.tokens for one in result.hypotheses] == [(B, D, A), (B, D, B)]


def test_beams_that_known_words_make_impossible_are_not_read():
    scorer = bigrams({0: {B: 0.5, C: 0.5}, B: {D: 1.0}, C: {A: 1.0}, D: {A: 1.0}, A: {1: 1.0}}, 0, 1)
    template = Template.from_tokens([Template.BLANK, D, Template.BLANK])
    result = decode(Pair(scorer, None), None, template, BeamSearch("forward"), beam_size=2)
    assert [one.tokens for one in result.hypotheses] == [(B, D, A)]
    # START, then b and c for what d is worth behind them, and b d alone.
    assert result.trace[0].rows == 1 + 2 + 1


def test_dead_ends():
    # Forward can never write d; backward never a. Together nothing is possible, and nothing raises before `best`.
    forward = bigrams({0: {A: 1.0}, A: {A: 0.5, 1: 0.5}}, 0, 1)
    backward = bigrams({1: {D: 1.0}, D: {D: 0.5, 0: 0.5}}, 1, 0)
    result = bscd_decode(forward, backward, None, Template.blank([A], 1, [D]))
    assert result.hypotheses == ()
    assert result.stop == "dead_end"
    with pytest.raises(ValueError, match=r"no hypothesis: every sentence.*dead_end"):
        _ = result.best
    # A direction without weight may call impossible what it likes.
    result = bscd_decode(forward, backward, None, Template.blank((), 1), objective=Objective(0, 1))
    assert result.best.tokens == (D,)
    assert result.best.log_prob_forward == -np.inf
    assert result.to_dict()["hypotheses"][0]["log_prob_forward"] == "-inf"


def test_beam_search_ranks_by_what_it_has_read():
    forward, backward = trellis()
    template = Template.blank([A], 1, [D])
    by_blank = decode(Pair(forward, None), None, template, BeamSearch("forward"), beam_size=3)
    assert [one.blanks for one in by_blank.hypotheses] == [((B,),), ((A,),), ((C,),)]
    assert by_blank.best.score == pytest.approx(np.log(0.5))
    assert by_blank.best.log_prob_forward == pytest.approx(np.log(0.5 * 0.01))
    assert by_blank.best.log_prob_backward is None
    assert by_blank.best.joint is None
    by_sentence = decode(Pair(forward, None), None, template, BeamSearch("forward", "sentence"), beam_size=3)
    assert [one.blanks for one in by_sentence.hypotheses] == [((C,),), ((A,),), ((B,),)]
    assert all(one.score == one.log_prob_forward for one in by_sentence.hypotheses)
    reverse = decode(Pair(None, backward), None, template, BeamSearch("backward"), beam_size=1)
    assert reverse.best.blanks == ((C,),)
    assert np.exp(reverse.best.token_log_probs_backward) == pytest.approx([0.01, 0.5, 1, 0.5])
