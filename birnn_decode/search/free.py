"""Free-running beam search: whole sentences of unknown length, END among the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from birnn_decode.search.problem import Direction
from birnn_decode.search.sweep import choose, stacked
from birnn_decode.search.tree import Nodes


@dataclass(frozen=True)
class FreeHypothesis:
    """A sentence that one direction has written freely.

    Attributes:
        words: in the direction's reading order.
        log_prob: of the words and, if finished, of END; nats.
        finished: whether it took END.
    """

    words: tuple[int, ...]
    log_prob: float
    finished: bool


def free_search(
    direction: Direction, items: Sequence[int], beam_size: int, min_length: int, max_length: int
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
        chosen = choose(direction, stacked(list(beams.values())), 1.0, None, banned, beam_size)
        tree.done(nodes)
        before, beams = beams, {}
        for item, children in zip(before, chosen, strict=True):
            children = children[children >= 0]
            ends = tree.tokens[children] == end
            done = finished[item]
            done += [replace(one, words=one.words[:-1]) for one in _hypotheses(direction, children[ends], True)]
            done.sort(key=lambda hypothesis: (-hypothesis.log_prob, hypothesis.words))
            del done[beam_size:]
            if length == max_length and not done:
                done += _hypotheses(direction, before[item], False)
            still_open = children[~ends]
            if len(still_open) and (len(done) < beam_size or tree.log_probs[still_open[0]] > done[-1].log_prob):
                beams[item] = still_open
    return [finished[item] for item in items]


def _hypotheses(direction: Direction, nodes: Nodes, finished: bool) -> list[FreeHypothesis]:
    sums = direction.tree.log_probs[nodes].tolist()
    return [
        FreeHypothesis(words, log_prob, finished)
        for words, log_prob in zip(direction.tree.words(nodes), sums, strict=True)
    ]
