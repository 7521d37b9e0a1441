"""The best beam behind a word: the beam of the other direction that gives the most to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from birnn_decode.search.direction import Direction
from birnn_decode.search.holding import Hold, Restraint
from birnn_decode.search.tree import Nodes


def best_behind(
    direction: Direction, beams: Nodes, tokens: np.ndarray, holds: Sequence[Hold | None]
) -> tuple[Nodes, np.ndarray]:
    """Return the node of each row of beams with the best sum for the row's token, and these sums.

    Args:
        direction: the direction of the beams.
        beams: nodes that have been read, [rows, beams], -1 for none; the first of each row is one.
        tokens: one for each row.
        holds: what the beams of each row pay; empty if there are no constraints.

    Returns:
        nodes and sums in nats, [rows] each.
    """
    nodes = np.where(beams >= 0, beams, beams[:, :1])
    picked = direction.tree.pick(nodes.reshape(-1), np.repeat(tokens, nodes.shape[1]))
    sums = direction.tree.offsets(nodes) + picked.reshape(nodes.shape)
    rows = np.arange(len(nodes))
    if holds and direction.weight:
        paid = Restraint(direction, [hold and hold.across() for hold in holds], nodes, direction.weight)
        sums += (paid.shift + paid.extra[rows, :, tokens]) / direction.weight
    best = sums.argmax(axis=1)
    return nodes[rows, best], sums[rows, best]
