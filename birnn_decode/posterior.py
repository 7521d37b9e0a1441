"""The probabilities of sentences and words: the distribution that a pair of models defines over a template.

P(Y | template, source) = exp J(Y) / Z, where Z is the sum of exp J over all sentences that the template and the
constraints allow. A search has met some of these sentences, and J of each is known. Their part of Z is K. What the
others have together is U: unknown, but `Exact` has an upper bound u of it. For an event with the known part A of K,

    A / (K + u)  <=  P  <=  (A + u) / (K + u),

because P = (A + a) / (K + U) for some part a of U, 0 <= a <= U <= u. For a single known sentence a is 0, and its
probability is at most A / K. Without a bound, u is infinite. All sums are computed as logarithms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from birnn_decode.template import FixedTemplate


@dataclass(frozen=True)
class Probability:
    """Hold what is known of a probability.

    Attributes:
        estimate: Probability among the sentences whose J is known.
        low: Lower bound of the probability; 0 if none is known.
        high: Upper bound of the probability; 1 if none is known.

    Example:
        >>> Probability(estimate=0.8, low=0.7, high=0.85).low
        0.7
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class WordProbability:
    """Hold a word at a blank position, and its probability there.

    Attributes:
        token: Id of the word.
        text: The word as text. None without a vocabulary.
        probability: Probability that the sentence has the word at this position.

    Example:
        >>> WordProbability(7, "dog", Probability(0.8, 0.7, 0.85)).probability.estimate
        0.8
    """

    token: int
    text: str | None
    probability: Probability


@dataclass(frozen=True)
class SpanProbability:
    """Hold words that fill a whole blank, and their probability there.

    Attributes:
        tokens: Ids of the words.
        text: The words as text. None without a vocabulary.
        probability: Probability that the sentence has these words at the positions of the blank.

    Example:
        >>> SpanProbability((5, 7), "a dog", Probability(0.8, 0.7, 0.85)).text
        'a dog'
    """

    tokens: tuple[int, ...]
    text: str | None
    probability: Probability


@dataclass(frozen=True)
class Posterior:
    """Hold the probabilities of the sentences and words that a search has found.

    They are those of the distribution ``P(Y | template, source) = exp J(Y) / Z`` over all sentences that the template
    and the constraints allow. J has the weights of the `Objective`, but no length rule. ``accept`` does not change the
    distribution.

    An estimate is the probability among the sentences whose J is known: the hypotheses and, with `Exact`, all other
    sentences that the search has completed. The true probability is between ``low`` and ``high``:

    - `Exact` has both ends if each weight of the objective is at least 1 or equal to 0. The more rows it reads, the
      closer they are.
    - All other methods, and `Exact` with a weight between 0 and 1, have no lower end (``low`` is 0). The upper end of
      a hypothesis holds, because Z is at least the sum over the known sentences. Words have no upper end (``high`` is
      1).

    The ends hold up to rounding, for models whose probabilities of the next word sum to at most 1.

    Attributes:
        hypotheses: Probability of each hypothesis, in the order of `DecodeResult.hypotheses`.
        words: For each word in `Hypothesis.blanks` of the best hypothesis, in sentence order, the most probable words
            at this position, at most ``beam_size``, highest estimate first. If sentences of several lengths are
            allowed, the probabilities are those among the sentences that are as long as the best hypothesis.
        spans: The same for whole blanks: for each blank in `Hypothesis.blanks` of the best hypothesis, the most
            probable words at its positions, at most ``beam_size``.
        mass: ``(low, high)``: bounds of the share of the probability that the sentences with a known J have together.
            ``high`` is always 1.
        sentences: Number of the sentences with a known J.

    Example:
        >>> from birnn_decode import Exact, decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> picture = make_scene(seed=2, number=4).picture()
        >>> template = "a small green circle is _ a large yellow star"
        >>> posterior = decode(default_pair(), picture, template, Exact(mass=0.99), beam_size=2).posterior
        >>> posterior.mass[0] >= 0.99
        True
        >>> [(one.text, round(one.probability.estimate, 2)) for one in posterior.words[0]]
        [('above', 0.66), ('below', 0.34)]
        >>> [one.text for one in posterior.spans[0]]
        ['above', 'below']
    """

    hypotheses: tuple[Probability, ...]
    words: tuple[tuple[WordProbability, ...], ...]
    spans: tuple[tuple[SpanProbability, ...], ...]
    mass: tuple[float, float]
    sentences: int


@dataclass(frozen=True, eq=False)
class Masses:
    """What a search knows of exp J, as logarithms.

    Attributes:
        known: J of sentences. The hypotheses may be left out.
        unknown: for each template an upper bound of the logarithm of the sum of exp J over all other sentences that
            fill it; None if there is no bound.
    """

    known: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    unknown: Mapping[FixedTemplate, float] | None = None

    def bound(self, words: int | None = None) -> float:
        """Return an upper bound of the logarithm of what is unknown, of all sentences or those of a length."""
        if self.unknown is None:
            return math.inf
        return log_sum([value for one, value in self.unknown.items() if words in (None, len(one))])


def log_sum(values: Sequence[float]) -> float:
    """Return the logarithm of the sum of exp(values)."""
    return float(np.logaddexp.reduce(values)) if len(values) else -math.inf


def posterior_of(
    hypotheses: Mapping[tuple[int, ...], float],
    template: FixedTemplate,
    masses: Masses,
    most: int,
    text: Callable[[Sequence[int]], str | None],
) -> Posterior:
    """Return the posterior of an answer.

    Args:
        hypotheses: J of each hypothesis, by its words, best first; at least one.
        template: what the best one fills.
        masses: what the search knows of other sentences.
        most: the largest number of words at a position.
        text: gives the text of words.
    """
    known = {**masses.known, **hypotheses}
    total, unknown = log_sum(list(known.values())), masses.bound()
    sentences = (_probability(value, total, unknown) for value in hypotheses.values())
    length = len(template)
    same = {words: value for words, value in known.items() if len(words) == length}
    total_same, unknown_same = log_sum(list(same.values())), masses.bound(length)

    def best_between(begin: int, end: int) -> Iterator[tuple[tuple[int, ...], str | None, Probability]]:
        values: dict[tuple[int, ...], list[float]] = {}
        for words, value in same.items():
            values.setdefault(words[begin:end], []).append(value)
        sums = {tokens: log_sum(own) for tokens, own in values.items()}
        for tokens in sorted(sums, key=lambda tokens: (-sums[tokens], tokens))[:most]:
            yield tokens, text(tokens), _probability(sums[tokens], total_same, unknown_same, unknown_same)

    places = itertools.chain(*(range(begin, end) for begin, end in template.runs))
    return Posterior(
        tuple(sentences),
        tuple(
            tuple(WordProbability(token, own, chance) for (token,), own, chance in best_between(place, place + 1))
            for place in places
        ),
        tuple(tuple(SpanProbability(*one) for one in best_between(begin, end)) for begin, end in template.runs),
        (_probability(total, total, unknown).low, 1.0),
        sentences=len(known),
    )


def _probability(part: float, known: float, unknown: float, more: float = -math.inf) -> Probability:
    """Return the probability of an event; all arguments are logarithms.

    Args:
        part: the known mass of the event.
        known: the known mass of all sentences.
        unknown: an upper bound of the mass of all other sentences.
        more: an upper bound of what the event has of it.
    """
    estimate = min(math.exp(part - known), 1.0)
    if unknown == math.inf:
        return Probability(estimate, 0.0, 1.0 if more == math.inf else estimate)
    everything = float(np.logaddexp(known, unknown))
    low = min(math.exp(part - everything), estimate)
    high = estimate if more == -math.inf else math.exp(float(np.logaddexp(part, more)) - everything)
    return Probability(estimate, low, min(max(high, estimate), 1.0))
