"""Gibbs sampling of blanks, the usual way to fill them from models that look at a word from both sides.

A chain holds a whole sentence. One blank position after the other is drawn anew, given all other words, from the
product of both models' conditionals. Generative stochastic networks fill gaps this way (Berglund et al., Bidirectional
Recurrent Neural Networks as Generative Models, NeurIPS 2015):

    p(w_t | rest)  ∝  p→(w_t | w_<t) ^ λ→  ·  p←(w_t | w_>t) ^ λ←

The sentences of the chains are ranked by the objective, like those of every method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from birnn_decode.constraints import UNDECIDED
from birnn_decode.search.chains import Chain, read_up_to
from birnn_decode.search.coupling import Coupling
from birnn_decode.search.holding import Problem, weighed

SCANS = ("ordered", "random")


def gibbs(
    coupling: Coupling,
    problems: Sequence[Problem],
    chains: int,
    sampling: Any,
    met: Callable[[Sequence[tuple[Problem, tuple[int, ...]]]], Sequence[bool]],
) -> None:
    """Sample all problems in one batch.

    Args:
        coupling: the models. The first direction begins the chains, which have no words on its other side at first.
        problems: the problems whose blanks are drawn.
        chains: the number of chains per problem.
        sampling: a `Gibbs`, whose fields say how the chains are run. A sweep draws as many words as the problem has
            blank positions.
        met: called after each sweep with the chains' sentences, in sentence order. It returns for each item whether
            sampling goes on.
    """
    going = [
        Chain(problem, coupling.directions, (sampling.seed, number)) for problem in problems for number in range(chains)
    ]
    if coupling.recorder is not None:
        coupling.recorder.begin(problems, chains)
    for sweep in range(sampling.sweeps):
        if coupling.recorder is not None:
            coupling.recorder.begin_round(dict.fromkeys(chain.problem for chain in going))
        since_begin = sweep % (sampling.restart_after + 1)
        for chain in going:
            if not since_begin:
                chain.begin()
        schedules = [chain.schedule(sampling.scan, since_begin) for chain in going]
        for tick in range(max((len(schedule) for schedule in schedules), default=0)):
            _draw(
                coupling,
                [(chain, plan[tick]) for chain, plan in zip(going, schedules, strict=True) if tick < len(plan)],
            )
        goes_on = met([(chain.problem, tuple(chain.words)) for chain in going if chain.complete])
        going = [chain for chain in going if goes_on[chain.problem.item]]
        if not going:
            break


def _draw(coupling: Coupling, moving: Sequence[tuple[Chain, int]]) -> None:
    """Draw one word of each chain."""
    directions = coupling.directions
    # A chain in which a word could not be drawn waits for its next beginning.
    moving = [(chain, at) for chain, at in moving if -1 not in chain.words[:at]]
    banned = list(directions[0].banned)
    chances = coupling.conditional(moving)
    hooked = [row for row, (chain, _) in enumerate(moving) if chain.problem.held and chain.problem.held.hooks]
    for direction in directions if hooked else ():
        rows = [row for row in hooked if moving[row][0].complete or direction is directions[0]]
        nodes = read_up_to(direction, [moving[row] for row in rows])
        for row, node in zip(rows, nodes.tolist(), strict=True):
            chain, at = moving[row]
            assert chain.problem.held is not None
            change = chain.problem.held.change(direction, node, at)
            chances[row] += weighed(change, direction.weight if chain.complete else 1.0)
    for (chain, at), log_probs in zip(moving, chances, strict=True):
        allowed, held = chain.problem.template.positions[at], chain.problem.held
        ruled_out = banned
        if isinstance(allowed, frozenset):
            ruled_out = sorted(frozenset(range(len(log_probs))) - allowed)
        log_probs[ruled_out] = -math.inf
        token = None
        if held is not None:
            for word, cost in held.cost(at).items():
                log_probs[word] -= cost
            others = [*chain.words[:at], UNDECIDED, *chain.words[at + 1 :]]
            flags = held.ruled_out(others, at).flags(len(log_probs))
            token = chain.draw(np.where(flags, -math.inf, log_probs))
        if token is None:  # the next draws may repair a violated constraint
            token = chain.draw(log_probs)
        if token is not None:
            chain.put(at, token)
            if coupling.recorder is not None:
                coupling.recorder.draw(chain, chain.problem, at, token, log_probs)
