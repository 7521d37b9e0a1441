"""Confidence intervals of metrics, by resampling images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from birnn_decode.evaluation.metrics import Metric

CONFIDENCE = 0.95
DRAWS_AT_A_TIME = 1_000_000  # 8 MB in each of the handful of arrays that a batch of resamples needs


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval.

    Attributes:
        value: of the items as they are.
        low: NaN where there is no interval: the figure is undefined in some resample, or there is but one group.
        high: likewise.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside; False where there is no interval."""
        return self.low > 0 or self.high < 0

    def cells(self) -> list[str]:
        """The three numbers for a CSV file; what there is not is empty."""
        return ["" if math.isnan(number) else repr(number) for number in (self.value, self.low, self.high)]


def interval(metric: Metric, groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """A metric with its percentile bootstrap interval, groups drawn with replacement.

    Captions of one image are no independent observations, so whole images are drawn, with all their items.

    Args:
        metric: its items in the order of ``groups``.
        groups: for each item, the image it belongs to.
        resamples: how many corpora are drawn.
        seed: of the draws; equal groups and seed give equal draws.

    Raises:
        ValueError: other numbers of items and of groups.
    """
    numbers = _numbered(groups)
    return _bootstrap(metric.value, _group_sums(metric, numbers), resamples, seed)


def paired_difference(
    metric: Metric, other: Metric, groups: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """``metric`` minus ``other``, both of the same items and evaluated on the same resamples; see `interval`.

    Raises:
        ValueError: other numbers of items and of groups.
    """
    numbers = _numbered(groups)
    sums = np.concatenate([_group_sums(metric, numbers), _group_sums(other, numbers)], axis=1)
    k = metric.statistics.shape[1]
    return _bootstrap(lambda both: metric.value(both[..., :k]) - other.value(both[..., k:]), sums, resamples, seed)


def _numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """For each item the number of its group, in the order in which the groups come up."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def _group_sums(metric: Metric, numbers: np.ndarray) -> np.ndarray:
    """The statistics summed within groups, float64 [groups, k]."""
    if len(metric.statistics) != len(numbers):
        raise ValueError(
            f"{metric.name} has {len(metric.statistics)} items and groups has {len(numbers)}: give one group per item"
        )
    sums = np.zeros((numbers.max(initial=-1) + 1, metric.statistics.shape[1]))
    np.add.at(sums, numbers, metric.statistics)
    return sums


def _bootstrap(value: Callable[[np.ndarray], np.ndarray], sums: np.ndarray, resamples: int, seed: int) -> Interval:
    """The figure of group sums [groups, k] and the percentiles of those of resampled groups."""
    from scipy import stats  # type: ignore[import-untyped]

    count = len(sums)
    figure = float(value(sums.sum(axis=0)))
    if count < 2:
        return Interval(figure, math.nan, math.nan)

    def figures(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        # How often each group was drawn, times its sums: the sums drawn themselves would be k times the memory.
        rows = len(drawn)
        cells = drawn + count * np.arange(rows)[:, None]
        times = np.bincount(cells.ravel(), minlength=rows * count).reshape(rows, count)
        return value(times.astype(np.float64) @ sums)

    with warnings.catch_warnings():
        # An undefined figure has undefined bounds, which newer versions of SciPy also warn of.
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
            # Since SciPy 1.15 the keyword is rng; this one is still taken, without a warning, and older ones know it.
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(figure, float(bounds.low), float(bounds.high))
