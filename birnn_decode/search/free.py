"""Free beam search: whole sentences of unknown length, with END among the candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import Held, Hold, Paid
from birnn_decode.search.recorder import Recorder
from birnn_decode.search.sweep import choose, stacked
from birnn_decode.search.tree import Nodes


@dataclass(frozen=True)
class FreeHypothesis:
    """A sentence that one direction has written freely.

    Attributes:
        words: the words, in the direction's reading order.
        score: the log-probability of the words and, if finished, of END, minus what they have paid; nats.
        finished: whether the sentence took END.
    """

    words: tuple[int, ...]
    score: float
    finished: bool


def free_search(
    direction: Direction,
    items: Sequence[int],
    beam_size: int,
    min_length: int,
    max_length: int,
    held: Mapping[int, Held] = {},
    recorder: Recorder | None = None,
) -> list[list[FreeHypothesis]]:
    """Run classical beam search from START, all items in one batch.

    Each step takes the B best continuations, END being one of them. A hypothesis that takes END is finished, and the B
    best finished ones are kept. The B best continuations with another word stay open. An item leaves the batch if no
    open hypothesis can still rise above its worst finished one, or at ``max_length`` words.

    Args:
        direction: the direction that writes.
        items: the numbers of the items.
        beam_size: B.
        min_length: END is no candidate before this number of words.
        max_length: a hypothesis with this number of words takes END next or is dropped.
        held: the constraints on each item; items without constraints are left out.
        recorder: what notes the search; None if there is no record.

    Returns:
        for each item its finished hypotheses, best first; the open ones of ``max_length`` words if nothing finished.
    """
    tree, end = direction.tree, direction.tree.scorer.end_token
    beams: dict[int, Nodes] = {item: tree.roots[item : item + 1] for item in items}
    finished: dict[int, list[FreeHypothesis]] = {item: [] for item in items}
    tape = None if recorder is None else recorder.write(direction, items, beam_size)
    for length in range(max_length + 1):
        if not beams:
            break
        nodes = np.concatenate(list(beams.values()))
        tree.read(nodes)
        banned = [token for token in direction.banned if token != end or length < min_length]
        holds = [Hold(held[item], length) if item in held else None for item in beams] if held else []
        open_beams = stacked(list(beams.values()))
        noting = None
        if tape is not None:
            position = -1 - length if direction.reverse else length
            noting = tape.at(np.array(list(beams)), [position] * len(beams), open_beams, None)
        chosen = choose(direction, open_beams, 1.0, None, banned, beam_size, holds, noting)
        longer = chosen.copy()
        some = np.flatnonzero(((tree.tokens[chosen] == end) & (chosen >= 0)).any(axis=1))
        if len(some) and length < max_length:  # places that END has taken go to the next best words
            held_of_some = [holds[number] for number in some] if holds else []
            longer[some] = choose(
                direction, open_beams[some], 1.0, None, [*banned, end], beam_size, held_of_some, lift=False
            )
        tree.done(nodes)
        before, beams = beams, {}
        for item, children, still_open in zip(before, chosen, longer, strict=True):
            children = children[children >= 0]
            ends = tree.tokens[children] == end
            done, own = finished[item], held.get(item)
            done += _hypotheses(direction, children[ends], True, own)
            done.sort(key=lambda hypothesis: (-hypothesis.score, hypothesis.words))
            del done[beam_size:]
            if length == max_length and not done:
                done += _hypotheses(direction, before[item], False, own)
            still_open = still_open[(still_open >= 0) & (tree.tokens[still_open] != end)]
            full = len(done) == beam_size
            if len(still_open) and not (full and _scores(direction, still_open[:1], own)[0] <= done[-1].score):
                beams[item] = still_open
    return [finished[item] for item in items]


def _hypotheses(direction: Direction, nodes: Nodes, finished: bool, held: Held | None) -> list[FreeHypothesis]:
    """Return the hypotheses of prefixes. END is no word of a finished one."""
    return [
        FreeHypothesis(words[:-1] if finished else words, score, finished)
        for words, score in zip(direction.tree.words(nodes), _scores(direction, nodes, held), strict=True)
    ]


def _scores(direction: Direction, nodes: Nodes, held: Held | None) -> list[float]:
    """Return the log-probabilities of prefixes, minus what they have paid."""
    paid = [Paid() if held is None else held.paid(direction, node) for node in nodes.tolist()]
    log_probs = direction.tree.log_probs[nodes].tolist()
    return [log_prob + one.changes - one.cost for log_prob, one in zip(log_probs, paid, strict=True)]
