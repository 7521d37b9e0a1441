"""Free-running beam search: whole sentences of unknown length, END among the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from birnn_decode.search.problem import Direction
from birnn_decode.search.sweep import choose
from birnn_decode.search.tree import Node


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
    beams: dict[int, Sequence[Node]] = {item: [tree.roots[item]] for item in items}
    finished: dict[int, list[FreeHypothesis]] = {item: [] for item in items}
    for length in range(max_length + 1):
        if not beams:
            break
        tree.read([node for beam in beams.values() for node in beam])
        banned = [token for token in direction.banned if token != end or length < min_length]
        chosen = choose(direction, list(beams.values()), 1.0, None, banned, beam_size)
        before, beams = beams, {}
        for item, children in zip(before, chosen, strict=True):
            done = finished[item]
            for child in children:
                if child.token == end:
                    done.append(FreeHypothesis(child.words()[:-1], child.log_prob, True))
            done.sort(key=lambda hypothesis: (-hypothesis.log_prob, hypothesis.words))
            del done[beam_size:]
            if length == max_length and not done:
                done += [FreeHypothesis(node.words(), node.log_prob, False) for node in before[item]]
            still_open = [child for child in children if child.token != end]
            if still_open and (len(done) < beam_size or still_open[0].log_prob > done[-1].log_prob):
                beams[item] = still_open
    return [finished[item] for item in items]
