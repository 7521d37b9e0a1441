"""Intervals by resampling images, against loops, the normal approximation, and what must not change them."""

import math

import numpy as np
import pytest

from birnn_decode.evaluation import bootstrap
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.metrics import Metric, mean_metric


def ratio(statistics, name="ratio"):
    return Metric(name, np.asarray(statistics, dtype=np.float64), lambda sums: sums[..., 0] / sums[..., 1])


def some_items(count, seed=0, groups=7):
    """A ratio whose numerator goes with the group, and the groups, named out of order."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(groups, size=count)
    return ratio(rng.random((count, 2)) + np.stack([numbers, np.ones(count)], axis=1)), [f"g{n}" for n in numbers]


def both_ends(figures):
    return np.percentile(figures, [2.5, 97.5]).tolist()


def ends(one):
    return [one.low, one.high]


def test_bounds_are_those_of_a_loop_over_the_same_draws():
    metric, groups = some_items(40)
    other = ratio(metric.statistics[::-1] ** 2)
    names = list(dict.fromkeys(groups))
    rng = np.random.default_rng(5)
    figures = []
    for draw in rng.integers(0, len(names), (300, len(names))):
        items = [item for number in draw for item, group in enumerate(groups) if group == names[number]]
        figures.append([float(one.value(one.statistics[items].sum(axis=0))) for one in (metric, other)])
    figures = np.array(figures)

    found = interval(metric, groups, resamples=300, seed=5)
    assert found.value == pytest.approx(metric.statistics[:, 0].sum() / metric.statistics[:, 1].sum())
    assert ends(found) == pytest.approx(both_ends(figures[:, 0]))
    difference = paired_difference(metric, other, groups, resamples=300, seed=5)
    assert difference.value == pytest.approx(found.value - interval(other, groups).value)
    assert ends(difference) == pytest.approx(both_ends(figures[:, 0] - figures[:, 1]))


def test_draws_a_few_at_a_time_are_the_same_draws(monkeypatch):
    metric, groups = some_items(40)
    expected = interval(metric, groups, resamples=50)
    for draws in (1, 30):
        monkeypatch.setattr(bootstrap, "DRAWS_AT_A_TIME", draws)
        assert ends(interval(metric, groups, resamples=50)) == pytest.approx(ends(expected))
    assert ends(interval(metric, groups, resamples=50, seed=1)) != pytest.approx(ends(expected))


def test_a_large_sample_is_nearly_normal():
    values = np.random.default_rng(1).exponential(size=4000)
    error = 1.96 * values.std() / math.sqrt(len(values))
    found = interval(mean_metric("mean", values), range(len(values)))
    assert [found.value - found.low, found.high - found.value] == pytest.approx([error, error], rel=0.1)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    rounds, images, each = 200, 40, 3
    by_image = by_item = 0
    for seed in range(rounds):
        values = (rng.normal(size=(images, 1)) + 0.3 * rng.normal(size=(images, each))).ravel()
        metric = mean_metric("mean", values)
        by_image += not interval(
            metric, np.arange(images).repeat(each).tolist(), resamples=200, seed=seed
        ).excludes_zero
        by_item += not interval(metric, range(images * each), resamples=200, seed=seed).excludes_zero
    assert 0.88 <= by_image / rounds <= 0.99
    # What drawing captions, as though they were independent, would claim.
    assert by_item / rounds < 0.85


def test_items_that_repeat_within_their_group_say_nothing_new():
    metric, groups = some_items(30)
    more = ratio(np.concatenate([metric.statistics] * 4))
    expected = interval(metric, groups)
    found = interval(more, groups * 4)
    assert [found.value, *ends(found)] == pytest.approx([expected.value, *ends(expected)])
    alone = interval(more, range(len(groups) * 4))
    assert alone.high - alone.low < 0.8 * (found.high - found.low)


def test_what_groups_are_called_does_not_matter():
    metric, groups = some_items(30)
    renamed = [("image", group) for group in groups]
    assert interval(metric, renamed) == interval(metric, groups)


def test_a_metric_is_exactly_as_good_as_itself():
    metric, groups = some_items(50)
    assert paired_difference(metric, metric, groups) == Interval(0, 0, 0)


def test_a_difference_is_paired():
    rng = np.random.default_rng(3)
    easy = rng.normal(size=200)
    worse, better = mean_metric("worse", easy), mean_metric("better", easy + 0.1 + 0.05 * rng.normal(size=200))
    groups = range(200)
    difference = paired_difference(better, worse, groups)
    assert difference.excludes_zero
    assert interval(better, groups).low < interval(worse, groups).high
    turned = paired_difference(worse, better, groups)
    assert [turned.value, *ends(turned)] == pytest.approx([-difference.value, -difference.high, -difference.low])
    assert turned.excludes_zero


def test_metrics_of_different_kinds_can_be_compared():
    """Only the figures are subtracted: the statistics need not be alike."""
    metric, groups = some_items(30)
    total = Metric("constant", np.ones((30, 1)), lambda sums: 0 * sums[..., 0])
    assert paired_difference(metric, total, groups) == interval(metric, groups)


def test_one_group_has_no_interval():
    found = interval(mean_metric("mean", [1.0, 2.0]), ["same", "same"])
    assert found.value == 1.5
    assert all(map(math.isnan, ends(found)))
    assert not found.excludes_zero


@pytest.mark.parametrize("values", [[math.nan] * 4, [math.nan, 1.0, math.nan, math.nan]])
def test_an_undefined_figure_has_no_interval(values):
    found = interval(mean_metric("mean", values), range(4))
    assert math.isnan(found.value) == all(map(math.isnan, values))
    assert all(map(math.isnan, ends(found)))
    assert not found.excludes_zero
    assert all(
        map(math.isnan, ends(paired_difference(mean_metric("m", [1.0] * 4), mean_metric("n", values), range(4))))
    )


def test_zero_is_outside_or_not():
    assert Interval(2, 1, 3).excludes_zero
    assert Interval(-2, -3, -1).excludes_zero
    assert not Interval(1, -1, 3).excludes_zero
    assert not Interval(1, 0, 3).excludes_zero
    assert not Interval(-1, -3, 0).excludes_zero


def test_refusals():
    metric = mean_metric("J", [1.0, 2.0])
    with pytest.raises(ValueError, match="J has 2 items and groups has 3: give one group per item"):
        interval(metric, [1, 2, 3])
    with pytest.raises(ValueError, match="K has 3 items and groups has 2"):
        paired_difference(metric, mean_metric("K", [1.0] * 3), [1, 2])
