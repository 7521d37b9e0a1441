"""Image-sentence ranking: at which rank a picture finds its sentences, and a sentence its picture.

The measures are those of Karpathy and Fei-Fei (CVPR 2015, Table 1). In the paper, the search for the sentences of a
picture is called image annotation, and the search for the picture of a sentence image search.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.metrics import Metric, mean_metric

RECALLS = (1, 5, 10)
ANNOTATION, SEARCH, BOTH = "picture → sentences", "sentence → pictures", "both"
QUERIES_AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where each query found its first right answer.

    Wrong answers with the same score as the best right one come before or behind it with equal probability, so a rank
    is an expected value, and a recall is a probability.

    Attributes:
        better: number of wrong answers with a higher score than the best right one, [queries].
        ties: number of wrong answers with the same score, [queries].
        level: number of right answers with this score, at least 1, [queries].

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import Ranks
        >>> ranks = Ranks.find(np.array([[0.5, 0.5, 0.1]]), np.array([[True, False, False]]))
        >>> ranks.expected.tolist(), ranks.within(1).tolist()
        ([1.5], [0.5])
    """

    better: np.ndarray
    ties: np.ndarray
    level: np.ndarray

    @classmethod
    def find(cls, scores: np.ndarray, right: np.ndarray) -> Ranks:
        """Find the ranks of queries.

        Args:
            scores: scores of the answers to each query, [queries, answers]; higher is better, -inf is allowed.
            right: which answers are right, bool [queries, answers], at least one for each query.

        Returns:
            The ranks.

        Raises:
            ValueError: the shapes differ, a score is NaN, or a query has no right answer.
        """
        if scores.shape != right.shape or scores.ndim != 2:
            raise ValueError(
                f"scores and right must have one shape [queries, answers], got {scores.shape} and {right.shape}"
            )
        if not right.any(axis=1).all():
            raise ValueError(f"query {int(np.argmin(right.any(axis=1)))} has no right answer")
        counts = []
        for begin in range(0, len(scores), QUERIES_AT_A_TIME):  # an array of this size, not of that of all scores
            own, fits = scores[begin : begin + QUERIES_AT_A_TIME], right[begin : begin + QUERIES_AT_A_TIME]
            if np.isnan(own).any():
                raise ValueError("a score is NaN")
            best = np.where(fits, own, -np.inf).max(axis=1, keepdims=True)
            same = own == best
            counts.append([((own > best) & ~fits).sum(axis=1), (same & ~fits).sum(axis=1), (same & fits).sum(axis=1)])
        better, ties, level = np.concatenate(counts, axis=1)
        return cls(better, ties, level)

    @property
    def expected(self) -> np.ndarray:
        """The expected rank of the first right answer, from 1, [queries]."""
        return 1 + self.better + self.ties / (self.level + 1)

    def within(self, k: int) -> np.ndarray:
        """Return the probability that a right answer is among the first k.

        Args:
            k: number of answers that are looked at.

        Returns:
            The probabilities, [queries].
        """
        # Of those with the same score, all right ones come behind the first k - better with probability
        # C(ties, k - better) / C(ties + level, k - better): a product over the places.
        missed = np.ones(len(self.better))
        for place in range(k):
            drawn = place - self.better  # of those with the same score, before this place
            left = self.ties + self.level - drawn
            wrong = np.clip(self.ties - drawn, 0, None)
            missed *= np.where(drawn < 0, 1.0, wrong / np.maximum(left, 1))
        return 1 - missed


def right_pairs(owner: Sequence[int], pictures: int, texts: Sequence[Hashable] | None = None) -> np.ndarray:
    """Say which sentences are right for which pictures.

    Args:
        owner: for each sentence the number of its picture.
        pictures: number of pictures.
        texts: the sentences. If given, a sentence is right for every picture that has a sentence of the same text.
            None: as in the literature, a sentence is right for its own picture alone (default: None).

    Returns:
        bool [pictures, sentences].

    Raises:
        ValueError: a picture has no sentence.

    Example:
        >>> from birnn_decode.evaluation import right_pairs
        >>> right_pairs([0, 0, 1], 2, ["a cat", "a pet", "a pet"]).astype(int).tolist()
        [[1, 1, 1], [0, 1, 1]]
    """
    right = np.zeros((pictures, len(owner)), dtype=bool)
    right[np.asarray(owner, dtype=np.int64), np.arange(len(owner))] = True
    if not right.any(axis=1).all():
        raise ValueError(f"picture {int(np.argmin(right.any(axis=1)))} has no sentence; leave it out")
    if texts is None:
        return right
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    kind = np.array([numbers[text] for text in texts])
    has = np.zeros((pictures, len(numbers)), dtype=bool)
    has[np.asarray(owner, dtype=np.int64), kind] = True
    return has[:, kind]


def rank_figures(
    scores: np.ndarray, owner: Sequence[int], texts: Sequence[Hashable] | None = None, *, resamples: int = 2000
) -> dict[str, dict[str, Interval]]:
    """Measure how well scores rank sentences by picture and pictures by sentence.

    Args:
        scores: scores of all pictures and sentences, [pictures, sentences].
        owner: for each sentence the number of its picture.
        texts: see `right_pairs` (default: None).
        resamples: number of resamples of the intervals (default: 2000).

    Returns:
        For each direction, and for both together, the measures with their 95 % bootstrap intervals over pictures: R@1,
        R@5 and R@10 (shares of queries), the median and the mean rank, and the sum of the six recalls in per cent.

    Raises:
        ValueError: ``scores`` does not fit ``owner``, there are fewer than two pictures, a picture has no sentence, or
            a score is NaN.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import rank_figures
        >>> scores = np.array([[3.0, 2.0, 0.0], [1.0, 2.5, 4.0]])  # two pictures; three sentences
        >>> figures = rank_figures(scores, owner=[0, 0, 1])
        >>> round(figures["sentence → pictures"]["R@1"].value, 2)
        0.67
    """
    if scores.ndim != 2 or scores.shape[1] != len(owner):
        raise ValueError(
            f"scores must have the shape [pictures, sentences], with {len(owner)} sentences, got {scores.shape}"
        )
    if len(scores) < 2:
        raise ValueError("there is one picture; ranking needs at least two")
    right = right_pairs(owner, len(scores), texts)
    queries = {ANNOTATION: (scores, right, list(range(len(scores)))), SEARCH: (scores.T, right.T, list(owner))}
    found: dict[str, dict[str, Interval]] = {}
    for direction, (own, fits, groups) in queries.items():
        ranks = Ranks.find(own, fits)
        metrics = [mean_metric(f"R@{k}", ranks.within(k)) for k in RECALLS]
        metrics += [median_metric("median rank", ranks.expected), mean_metric("mean rank", ranks.expected)]
        found[direction] = {one.name: interval(one, groups, resamples=resamples) for one in metrics}
    both = _recalls(scores, right)
    found[BOTH] = {both.name: interval(both, [*range(len(scores)), *owner], resamples=resamples)}
    return found


def recalls_lead(
    scores: np.ndarray,
    other: np.ndarray,
    owner: Sequence[int],
    texts: Sequence[Hashable] | None = None,
    *,
    resamples: int = 2000,
) -> Interval:
    """Measure how far the sum of recalls of some scores is ahead of that of others.

    Args:
        scores: scores of all pictures and sentences, [pictures, sentences].
        other: other scores of the same pairs.
        owner: for each sentence the number of its picture.
        texts: see `right_pairs` (default: None).
        resamples: number of resamples of the interval (default: 2000).

    Returns:
        The difference of the sums, in per cent, with its 95 % interval on the same resamples of pictures.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import recalls_lead
        >>> recalls_lead(np.eye(2), 1 - np.eye(2), owner=[0, 1]).value
        200.0
    """
    right = right_pairs(owner, len(scores), texts)
    metrics = _recalls(scores, right), _recalls(other, right)
    return paired_difference(*metrics, [*range(len(scores)), *owner], resamples=resamples)


def _recalls(scores: np.ndarray, right: np.ndarray) -> Metric:
    """The metric of the sum of the six recalls; its items are the pictures, and behind them the sentences."""
    sums = []
    for way in ((scores, right), (scores.T, right.T)):
        ranks = Ranks.find(*way)
        found = np.sum([ranks.within(k) for k in RECALLS], axis=0)
        sums.append(np.stack([found, np.ones(len(found))], axis=1))
    nothing = [np.zeros_like(one) for one in sums]
    return Metric("sum of recalls", np.block([[sums[0], nothing[0]], [nothing[1], sums[1]]]), _sum_of_recalls)


def median_metric(name: str, values: np.ndarray) -> Metric:
    """Make a metric of the median over items.

    Args:
        name: name of the metric.
        values: value of each item, finite.

    Returns:
        The metric. Its statistics count for each item which of the different values it has.
    """
    different, which = np.unique(values, return_inverse=True)
    statistics = np.zeros((len(values), len(different)))
    statistics[np.arange(len(values)), which] = 1
    return Metric(name, statistics, partial(_median, different))


def _median(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of values, ascending, that occur so many times, [..., values]."""
    reached = np.cumsum(counts, axis=-1)
    middle = (reached[..., -1:] - 1) / 2
    low, high = ((reached <= place).sum(axis=-1) for place in (np.floor(middle), np.ceil(middle)))
    last = len(values) - 1
    return (values[np.minimum(low, last)] + values[np.minimum(high, last)]) / 2


def _sum_of_recalls(sums: np.ndarray) -> np.ndarray:
    return 100 * (sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3])


def without_bias(log_probs: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Subtract what a sentence's log-probability is without the help of its picture.

    A captioner gives likely sentences a high probability for every picture. The log of the mean of P(sentence |
    picture) over other pictures estimates log P(sentence). The difference says how much this picture makes the sentence
    more likely. The order of the pictures of one sentence stays the same, and ties stay ties; the order of the
    sentences of one picture changes.

    Args:
        log_probs: log-probabilities, in nats, [pictures, sentences].
        others: the same for the other pictures, [other pictures, sentences]. None: all other rows of ``log_probs``
            (default: None).

    Returns:
        The differences, in nats, [pictures, sentences].

    Raises:
        ValueError: there is no other picture, or ``others`` has other sentences.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import without_bias
        >>> without_bias(np.log([[0.4, 0.01], [0.4, 0.1]])).round(1).tolist()
        [[0.0, -2.3], [0.0, 2.3]]
    """
    if others is not None:
        if others.ndim != 2 or not len(others) or others.shape[1] != log_probs.shape[1]:
            raise ValueError(
                f"others must have the shape [other pictures, {log_probs.shape[1]} sentences], got {others.shape}"
            )
        return log_probs - (np.logaddexp.reduce(others, axis=0) - np.log(len(others)))
    if len(log_probs) < 2:
        raise ValueError("there is no other picture; give at least two")
    # The sums over the rows before and behind each row; subtracting a row from the sum of all would lose digits.
    before = np.logaddexp.accumulate(log_probs, axis=0)
    behind = np.logaddexp.accumulate(log_probs[::-1], axis=0)[::-1]
    without = np.empty_like(log_probs)
    without[0], without[-1] = behind[1], before[-2]
    without[1:-1] = np.logaddexp(before[:-2], behind[2:])
    found: np.ndarray = log_probs - (without - np.log(len(log_probs) - 1))
    for own, given in zip(found.T, log_probs.T, strict=True):  # rounding must not break ties
        _, first, which = np.unique(given, return_index=True, return_inverse=True)
        own[:] = own[first][which]
    return found


def after_first_pass(first: np.ndarray, best: int) -> np.ndarray:
    """Choose the pairs that are worth a second, costlier score.

    Args:
        first: scores of a first pass, [pictures, sentences].
        best: number of sentences of each picture, and of pictures of each sentence.

    Returns:
        Which pairs are chosen, bool [pictures, sentences].

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import after_first_pass
        >>> after_first_pass(np.array([[3.0, 2.0, 0.0], [1.0, 2.5, 0.5]]), best=1).astype(int).tolist()
        [[1, 0, 0], [0, 1, 1]]
    """
    chosen = np.zeros(first.shape, dtype=bool)
    for axis in (0, 1):
        k = min(best, first.shape[axis])
        np.put_along_axis(chosen, np.argpartition(-first, k - 1, axis=axis).take(range(k), axis=axis), True, axis=axis)
    return chosen


def rescored(first: np.ndarray, second: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Put second scores before the first scores of all other pairs.

    Args:
        first: scores of the first pass, [pictures, sentences], finite.
        second: second scores of the chosen pairs, finite there, [pictures, sentences].
        chosen: the pairs that have a second score, bool [pictures, sentences].

    Returns:
        Scores that rank the chosen pairs by their second score, and behind them all others by their first.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import rescored
        >>> rescored(np.array([[9.0, 8.0, 7.0]]), np.array([[-3.0, -2.0, 0.0]]), np.array([[True, True, False]]))
        array([[-3., -2., -4.]])
    """
    shift = first[~chosen].max(initial=-np.inf) - second[chosen].min(initial=np.inf) + 1
    return np.where(chosen, second, first - shift if np.isfinite(shift) else first)


def blended(one: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """Add two scores after dividing each by its standard deviation.

    Args:
        one: scores, [pictures, sentences]; -inf for pairs that have none.
        other: other scores of the same pairs, finite.
        weight: weight of the other scores.

    Returns:
        ``one / (standard deviation of one) + weight * other / (standard deviation of other)``, with the standard
        deviations over the pairs that have both scores; -inf for all other pairs.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import blended
        >>> blended(np.array([[2.0, -2.0]]), np.array([[10.0, 30.0]]), 0.5)
        array([[1.5, 0.5]])
    """
    there = np.isfinite(one)
    return one / one[there].std() + weight * other / other[there].std()


def best_weight(
    one: np.ndarray, other: np.ndarray, owner: Sequence[int], weights: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
) -> float:
    """Choose the weight of `blended` with the largest sum of recalls.

    Use scores of validation data.

    Args:
        one: scores, as for `blended`.
        other: other scores of the same pairs.
        owner: for each sentence the number of its picture.
        weights: the weights that are tried (default: 0.1, 0.2, 0.5, 1, 2, 5).

    Returns:
        The weight; the first one of equally good ones.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import best_weight
        >>> best_weight(np.eye(2), np.array([[0.0, 9.0], [9.0, 0.0]]), [0, 1])
        0.1
    """
    return max(weights, key=lambda weight: sum_of_recalls(blended(one, other, weight), owner))


def sum_of_recalls(scores: np.ndarray, owner: Sequence[int]) -> float:
    """Compute the sum of the six recalls, in per cent, without an interval.

    Args:
        scores: scores of all pictures and sentences, [pictures, sentences].
        owner: for each sentence the number of its picture.

    Returns:
        The sum, from 0 to 600.
    """
    metric = _recalls(scores, right_pairs(owner, len(scores)))
    return float(metric.value(metric.statistics.sum(axis=0)))
