"""Free-running beam search: whole sentences of unknown length, END among the candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from birnn_decode.search.holding import Held, Hold
from birnn_decode.search.problem import Direction
from birnn_decode.search.sweep import choose, stacked
from birnn_decode.search.tree import Nodes


@dataclass(frozen=True)
class FreeHypothesis:
    """A sentence that one direction has written freely.

    Attributes:
        words: in the direction's reading order.
        score: the log-probability of the words and, if finished, of END, less what they have paid; nats.
        finished: whether it took END.
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
) -> list[list[FreeHypothesis]]:
    """Classical beam search from START, all items in one batch.

    At each step the B best of all continuations are kept, END being one of them. Those that took END are finished, and
    the B best finished are remembered. An item leaves when no open hypothesis can still rise above its worst finished
    one, or at ``max_length`` words.

    Args:
        direction: who writes.
        items: for which items.
        beam_size: B.
        min_length: END is no candidate before that many words.
        max_length: hypotheses with that many words either take END next or are dropped.
        held: what must be satisfied by what is written for an item; one left out is not asked for anything.

    Returns:
        for each item its finished hypotheses, best first; the open ones of ``max_length`` words if nothing finished.
    """
    tree, end = direction.tree, direction.tree.scorer.end_token
    beams: dict[int, Nodes] = {item: tree.roots[item : item + 1] for item in items}
    finished: dict[int, list[FreeHypothesis]] = {item: [] for item in items}
    for length in range(max_length + 1):
        if not beams:
            break
        nodes = np.concatenate(list(beams.values()))
        tree.read(nodes)
        banned = [token for token in direction.banned if token != end or length < min_length]
        holds = [Hold(held[item], length) if item in held else None for item in beams] if held else []
        chosen = choose(direction, stacked(list(beams.values())), 1.0, None, banned, beam_size, holds)
        tree.done(nodes)
        before, beams = beams, {}
        for item, children in zip(before, chosen, strict=True):
            children = children[children >= 0]
            ends = tree.tokens[children] == end
            done, own = finished[item], held.get(item)
            done += [replace(one, words=one.words[:-1]) for one in _hypotheses(direction, children[ends], True, own)]
            done.sort(key=lambda hypothesis: (-hypothesis.score, hypothesis.words))
            del done[beam_size:]
            if length == max_length and not done:
                done += _hypotheses(direction, before[item], False, own)
            still_open = children[~ends]
            if len(still_open) and len(done) == beam_size:
                (best_open,) = _scores(direction, still_open[:1], own)
                still_open = still_open if best_open > done[-1].score else still_open[:0]
            if len(still_open):
                beams[item] = still_open
    return [finished[item] for item in items]


def _hypotheses(direction: Direction, nodes: Nodes, finished: bool, held: Held | None) -> list[FreeHypothesis]:
    scores = _scores(direction, nodes, held)
    return [
        FreeHypothesis(words, score, finished) for words, score in zip(direction.tree.words(nodes), scores, strict=True)
    ]


def _scores(direction: Direction, nodes: Nodes, held: Held | None) -> list[float]:
    """The log-probabilities of prefixes, less what they have paid."""
    sums: list[float] = direction.tree.log_probs[nodes].tolist()
    if held is None:
        return sums
    paid = [held.paid(direction, node) for node in nodes.tolist()]
    return [log_prob + one.changes - one.cost for log_prob, one in zip(sums, paid, strict=True)]
