"""How far the conditionals of a joint model are from those of any joint distribution."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birnn_decode.checks import check_count
from birnn_decode.request import ask
from birnn_decode.search.joint import JointCoupling, read_all
from birnn_decode.template import Vocabulary


@dataclass(frozen=True)
class Cycle:
    """Two positions of a sentence with two words each, and the gap between both ways.

    Attributes:
        positions: (i, j), i before j.
        first: the words a and a' of position i; a is the sentence's own word.
        second: the words b and b' of position j; b is the sentence's own word.
        gap: the log-probability, in nats, of going round (a, b), (a', b), (a', b'), (a, b'), (a, b) minus the
            log-probability of going round the other way. Each step draws one word given all others. It is 0 if the
            conditionals are compatible, and infinite if one way is impossible. The words are drawn along the first way,
            so the gap is positive more often than negative: average its absolute value.

    Example:
        >>> from birnn_decode.evaluation import Cycle
        >>> Cycle(positions=(0, 2), first=(5, 6), second=(7, 8), gap=0.25).gap
        0.25
    """

    positions: tuple[int, int]
    first: tuple[int, int]
    second: tuple[int, int]
    gap: float


def joint_cycles(
    model: Any,
    source: Any,
    sentences: Sequence[Any],
    *,
    cycles: int = 10,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
) -> Any:
    """Measure how far a joint model's conditionals are from a joint distribution.

    A model that gives p(w_t | all other words) for each t need not have a distribution over sentences with these
    conditionals. If no word is impossible, it has one exactly if going round each cycle of sentences that differ in two
    words is as probable one way as the other (Kolmogorov's criterion, for the chain of Gibbs sampling)::

        log [ p(a' | b) p(b' | a') p(a | b') p(b | a) ]  −  log [ p(b' | a) p(a' | b') p(b | a') p(a | b) ]  =  0

    with a, a' at one position, b, b' at another, and all other words of the sentence given. The nearer this is to 0,
    the more the pseudo-log-likelihood and the sentences of Gibbs sampling mean.

    Args:
        model: a `JointModel` or another `JointScorer`.
        source: one source, or a list of them.
        sentences: a list of sentences, each a text or a sequence of ids; a list of such lists for a list of sources.
            A sentence of one word, or of probability 0, has no cycles.
        cycles: the number of cycles tried for each sentence. The positions are drawn at random, a' from p(· | b)
            without a, and b' from p(· | a') without b (default: 10).
        seed: the seed of all draws (default: 0).
        vocabulary: as for `decode`.

    Returns:
        for each sentence a list of `Cycle`; a list of such lists for a list of sources.

    Raises:
        TypeError: ``model`` is not a joint model, or another argument has the wrong type.
        ValueError: an argument has a wrong value.

    Example:
        >>> from birnn_decode import JointModel
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.evaluation import joint_cycles
        >>> from birnn_decode.models import default_pair
        >>> pair, picture = default_pair(), make_scene(seed=2, number=4).picture()
        >>> found = joint_cycles(JointModel(pair.forward, pair.backward), picture, ["a small green circle"], cycles=3)
        >>> len(found), len(found[0]) <= 3
        (1, True)
    """
    check_count("cycles", cycles, 1)
    check_count("seed", seed)
    request = ask(model, source, None, {"vocabulary": vocabulary}, sentences)
    found: list[list[list[Cycle]]] = []
    with request.models.inference():
        coupling = request.coupling()
        if not isinstance(coupling, JointCoupling):
            raise TypeError(
                "model must be a JointModel or another JointScorer: a Pair has no conditional probabilities."
            )
        for item, own in enumerate(request.sentences or ()):
            randoms = [np.random.default_rng([seed, item, number]) for number in range(len(own))]
            found.append(
                [
                    _cycles(coupling, item, words, cycles, random, request.models.never)
                    for words, random in zip(own, randoms, strict=True)
                ]
            )
            for direction in coupling.directions:
                direction.tree.forget([item])
    return found if request.batch else found[0]


def _cycles(
    coupling: JointCoupling,
    item: int,
    words: tuple[int, ...],
    cycles: int,
    random: np.random.Generator,
    never: Collection[int],
) -> list[Cycle]:
    """Draw cycles around one sentence. Leave out cycles without a second word, or impossible both ways."""
    if len(words) < 2:
        return []
    i, j = np.sort([random.choice(len(words), 2, replace=False) for _ in range(cycles)]).T.tolist()
    a, b = ([words[at] for at in positions] for positions in (i, j))
    every = np.arange(cycles)

    def conditionals(positions: Sequence[int], changed: Sequence[int], to: Sequence[int]) -> np.ndarray:
        """Return log p(· | rest) at one position of each cycle, after a change of another, float64 [cycles, vocab]."""
        sentences = [(*words[:at], word, *words[at + 1 :]) for at, word in zip(changed, to, strict=True)]
        before = [one[:at] for one, at in zip(sentences, positions, strict=True)]
        behind = [one[:at:-1] for one, at in zip(sentences, positions, strict=True)]
        left = read_all(coupling.forward, [item] * cycles, before)[every, [len(one) for one in before]]
        right = read_all(coupling.backward, [item] * cycles, behind)[every, [len(one) for one in behind]]
        return coupling.forward.tree.backend.numbers(coupling.log_probs(left, right))

    def drawn(log_probs: np.ndarray, stands: Sequence[int]) -> list[int]:
        """Draw a word from each row other than the present one, or the present one if no other is possible."""
        tokens = []
        for row, taken in zip(log_probs, stands, strict=True):
            chances = np.exp(row)
            chances[[*never, taken]] = 0
            tokens.append(int(random.choice(len(chances), p=chances / chances.sum())) if chances.any() else taken)
        return tokens

    at_i = conditionals(i, j, b)
    new_a = drawn(at_i, a)
    at_j_new = conditionals(j, i, new_a)
    new_b = drawn(at_j_new, b)
    at_i_new = conditionals(i, j, new_b)
    at_j = conditionals(j, i, a)
    found = []
    for cycle in range(cycles):
        first, second = (a[cycle], new_a[cycle]), (b[cycle], new_b[cycle])
        if first[0] == first[1] or second[0] == second[1]:
            continue
        way = (at_i[cycle, first[1]], at_j_new[cycle, second[1]], at_i_new[cycle, first[0]], at_j[cycle, second[0]])
        back = (at_j[cycle, second[1]], at_i_new[cycle, first[1]], at_j_new[cycle, second[0]], at_i[cycle, first[0]])
        if -math.inf not in way or -math.inf not in back:
            found.append(Cycle((i[cycle], j[cycle]), first, second, float(np.sum(way) - np.sum(back))))
    return found
