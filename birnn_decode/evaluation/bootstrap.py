"""Confidence intervals of metrics, by resampling images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from birnn_decode.evaluation.metrics import Metric

CONFIDENCE = 0.95
DRAWS_AT_A_TIME = 1_000_000  # 8 MB in each of the few arrays that a batch of resamples needs


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval.

    If the figure is undefined in some resample, or there is only one group, there is no interval.

    Attributes:
        value: the figure of the items themselves; NaN if it is undefined.
        low: lower end of the interval; NaN if there is no interval.
        high: upper end of the interval; NaN if there is no interval.

    Example:
        >>> from birnn_decode.evaluation import Interval
        >>> lead = Interval(value=0.5, low=0.25, high=0.75)
        >>> lead.excludes_zero
        True
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval; False if there is no interval."""
        return self.low > 0 or self.high < 0

    def cells(self) -> list[str]:
        """Return the three numbers as text for a CSV file.

        Returns:
            Value, low and high; "" for a NaN.

        Example:
            >>> from birnn_decode.evaluation import Interval
            >>> Interval(0.5, float("nan"), float("nan")).cells()
            ['0.5', '', '']
        """
        return ["" if math.isnan(number) else repr(number) for number in astuple(self)]


def interval(metric: Metric, groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Compute a metric and its percentile bootstrap interval.

    The captions of one image are not independent observations. So groups (images) are drawn with replacement, each with
    all of its items.

    Args:
        metric: the metric, with one row of statistics per item.
        groups: the group of each item, such as the name of its image.
        resamples: number of resamples (default: 2000).
        seed: seed of the draws (default: 0). Equal groups and seeds give equal draws.

    Returns:
        The value for all items, with the 95 % interval.

    Raises:
        ValueError: the metric and ``groups`` have different numbers of items.

    Example:
        >>> from birnn_decode.evaluation import interval, mean_metric
        >>> right = mean_metric("exactly right", [1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
        >>> found = interval(right, ["a.png", "a.png", "b.png", "b.png", "c.png", "d.png"])
        >>> print(f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]")
        0.67 [0.25, 1.00]
    """
    return _bootstrap(metric.value, _group_sums(metric, groups), resamples, seed)


def paired_difference(
    metric: Metric, other: Metric, groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Compute ``metric`` minus ``other``, and its interval on the same resamples.

    Args:
        metric: the first metric.
        other: the metric that is subtracted, with the same items.
        groups: the group of each item, such as the name of its image; see `interval`.
        resamples: number of resamples (default: 2000).
        seed: seed of the draws (default: 0).

    Returns:
        The difference for all items, with the 95 % interval.

    Raises:
        ValueError: a metric and ``groups`` have different numbers of items.

    Example:
        >>> from birnn_decode.evaluation import mean_metric, paired_difference
        >>> ours, theirs = mean_metric("J", [-2.0, -3.0, -9.0]), mean_metric("J", [-2.5, -3.25, -9.5])
        >>> lead = paired_difference(ours, theirs, ["a.png", "b.png", "c.png"])
        >>> print(f"{lead.value:.2f} [{lead.low:.2f}, {lead.high:.2f}]")
        0.42 [0.25, 0.50]
    """
    sums = np.concatenate([_group_sums(metric, groups), _group_sums(other, groups)], axis=1)
    k = metric.statistics.shape[1]
    return _bootstrap(lambda both: metric.value(both[..., :k]) - other.value(both[..., k:]), sums, resamples, seed)


def _group_sums(metric: Metric, groups: Sequence[Hashable]) -> np.ndarray:
    """Sum the statistics within groups, float64 [groups, k], in the order in which the groups appear."""
    if len(metric.statistics) != len(groups):
        raise ValueError(
            f"{metric.name} has {len(metric.statistics)} items and groups has {len(groups)}: give one group per item"
        )
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(numbers), metric.statistics.shape[1]))
    np.add.at(sums, [numbers[group] for group in groups], metric.statistics)
    return sums


def _bootstrap(value: Callable[[np.ndarray], np.ndarray], sums: np.ndarray, resamples: int, seed: int) -> Interval:
    """Compute the figure of group sums [groups, k] and the percentiles of the figures of resampled groups."""
    from scipy import stats  # type: ignore[import-untyped]

    count = len(sums)
    figure = float(value(sums.sum(axis=0)))
    if count < 2:
        return Interval(figure, math.nan, math.nan)

    def figures(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        # Multiply how often each group was drawn with its sums. Gathering the drawn sums would take k times the memory.
        times = np.apply_along_axis(np.bincount, -1, drawn, minlength=count)
        return value(times.astype(np.float64) @ sums)

    with warnings.catch_warnings():
        # If a figure is undefined, so are its bounds. Newer versions of SciPy warn about that.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        bounds = stats.bootstrap(
            (np.arange(count),),
            figures,
            n_resamples=resamples,
            batch=max(1, DRAWS_AT_A_TIME // count),
            vectorized=True,
            axis=-1,
            confidence_level=CONFIDENCE,
            method="percentile",
            # SciPy 1.15 renamed this keyword to rng. It still takes the old name, which older versions know.
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(figure, float(bounds.low), float(bounds.high))
