from __future__ import annotations

import itertools
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reprolib.errors import BadInput
from reprolib.measures.statistics import (
    Network,
    bootstrap_means,
    difference_effect,
    holm,
    interval_of_combination,
    interval_of_mean,
    level_effect,
    permutation_trend_p,
    sign_flip_p,
    slope_effect,
    slope_weights,
)


def net(seed: int, *values: float) -> Network:
    return Network(seed, np.array(values, dtype=float)[:, None])


def test_below_twenty_units_the_interval_is_students() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    interval = interval_of_mean(values)
    reach = 2.306004135 * np.sqrt(7.5 / 9)  # t(8, .975) from a table, sample variance 7.5
    assert (interval.low, interval.high) == pytest.approx((5 - reach, 5 + reach))
    assert (interval.estimate, interval.n) == (5.0, 9)


def test_from_twenty_units_on_the_interval_holds_the_bootstrap_percentiles_of_a_share() -> None:
    values = np.repeat([0.0, 1.0], [15, 10])
    interval = interval_of_mean(values)
    # A resampled share of 25 units is binomial(25, .4) / 25: its percentiles are known exactly.
    assert (interval.low, interval.high) == pytest.approx(tuple(stats.binom.ppf([0.025, 0.975], 25, 0.4) / 25))
    assert interval.estimate == 0.4


def test_bootstrap_means_have_the_mean_and_variance_of_resampling() -> None:
    values = np.random.default_rng(0).normal(3, 2, 50)
    means = bootstrap_means(values)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(50 * 10_000))
    assert means.var() == pytest.approx(values.var() / 50, rel=0.06)


def test_columns_are_resampled_by_the_same_draw() -> None:
    values = np.random.default_rng(0).normal(size=(30, 1))
    means = bootstrap_means(np.hstack([values, 2 * values + 1]))
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0] + 1)


def test_the_interval_is_a_function_of_the_values_alone() -> None:
    values = np.random.default_rng(5).normal(size=64)
    np.random.seed(99)  # noqa: NPY002 (the global generator must not matter)
    first = interval_of_mean(values)
    np.random.seed(1)  # noqa: NPY002
    assert interval_of_mean(values) == first


@pytest.mark.parametrize("n", [9, 40])
def test_intervals_cover_the_true_mean_about_as_often_as_they_say(n: int) -> None:
    generator = np.random.default_rng(11)
    draws = generator.exponential(1.0, (200, n)) - 1.0 if n == 40 else generator.normal(0, 1, (200, n))
    covered = np.mean([interval.low <= 0 <= interval.high for interval in map(interval_of_mean, draws)])
    assert 0.88 <= covered <= 0.985


def test_a_constant_has_an_interval_of_no_width() -> None:
    for n in (5, 25):
        interval = interval_of_mean(np.full(n, 0.25))
        assert (interval.low, interval.high) == pytest.approx((0.25, 0.25))


def test_one_unit_has_an_estimate_and_no_interval() -> None:
    interval = interval_of_mean([0.5])
    assert interval.estimate == 0.5
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.integers(-50, 50), min_size=9, max_size=40), st.integers(-20, 20), st.sampled_from([-2.0, 0.5, 4.0]))
def test_intervals_move_and_stretch_with_the_values(values: list[int], shift: int, factor: float) -> None:
    base = interval_of_mean(values)
    moved = interval_of_mean(factor * np.array(values, dtype=float) + shift)
    ends = sorted((factor * base.low + shift, factor * base.high + shift))
    assert (moved.low, moved.high) == pytest.approx(tuple(ends), abs=1e-9)


def test_welch_interval_of_two_small_samples_is_scipys() -> None:
    generator = np.random.default_rng(2)
    x, y = generator.normal(1, 1, 9), generator.normal(0, 3, 14)
    ours = interval_of_combination([x, y], [1, -1])
    theirs = stats.ttest_ind(x, y, equal_var=False)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.n == 9


def test_independent_samples_are_resampled_apart() -> None:
    values = np.random.default_rng(3).normal(size=50)
    apart = interval_of_combination([values, values], [1, -1])
    together = interval_of_mean(values - values)
    assert together.high - together.low == 0
    expected = 2 * 1.96 * np.sqrt(2 * values.var() / 50)
    assert apart.high - apart.low == pytest.approx(expected, rel=0.06)


def test_sign_flip_p_counts_flips_as_hand_enumeration_does() -> None:
    values = np.array([0.5, -0.2, 1.1, 0.7])
    flips = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=4)]
    assert sign_flip_p(values) == np.mean([flip >= abs(values.sum()) - 1e-12 for flip in flips])
    assert sign_flip_p(np.ones(8)) == 2 / 2**8
    with pytest.raises(BadInput, match="n=20 is outside .1, 19."):
        sign_flip_p(np.ones(20))


def test_slope_weights_are_least_squares() -> None:
    levels, values = np.array([0.0, 0.25, 1.0]), np.array([1.0, 3.0, 2.0])
    assert slope_weights(levels) @ values == pytest.approx(np.polyfit(levels, values, 1)[0])
    with pytest.raises(BadInput, match="at least two different"):
        slope_weights([1.0, 1.0])


def test_permutation_p_of_a_perfect_trend_is_one_in_all_orders() -> None:
    falling = [[3.0, 2.0, 0.5], [3.1, 2.2, 0.4]]
    assert permutation_trend_p(falling, [0, 0.4, 1.0], -1) == pytest.approx(1 / 36)
    assert permutation_trend_p(falling, [0, 0.4, 1.0], +1) == 1.0
    # With equal steps the middle value has no weight: exchanging it with itself is all the freedom left.
    assert permutation_trend_p([[3.0, 2.0, 1.0]], [0, 0.5, 1.0], -1) == pytest.approx(1 / 6)


def test_holm_matches_numbers_worked_by_hand() -> None:
    # Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04 -> the last may not fall below .06.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.04, np.nan, 0.01]), [0.04, np.nan, 0.02])


def test_difference_is_the_mean_over_pairs_and_keeps_each_pair() -> None:
    low = [net(0, 1, 2, 3, 4, 5, 6, 7, 8), net(1, 2, 3, 4, 5, 6, 7, 8, 9)]
    high = [net(0, *[10] * 8), net(1, *[11] * 8), net(2, *[12] * 8)]
    effect = difference_effect(low, high)
    assert [(pair.a, pair.b, pair.estimate) for pair in effect.pairs] == [
        (0, 0, 5.5), (0, 1, 6.5), (0, 2, 7.5), (1, 0, 4.5), (1, 1, 5.5), (1, 2, 6.5),
    ]  # fmt: skip
    assert effect.interval.estimate == 6.0
    assert effect.same_arm == (1.0, 1.0, 2.0, 1.0)
    assert effect.placebo is not None
    assert effect.placebo.estimate == 1.0
    assert (effect.n_networks, effect.comparison) == (2, 5.0)
    assert effect.seed_variance == pytest.approx(0.5 + 1.0)


def test_units_common_to_all_networks_cancel_only_when_resampled_jointly() -> None:
    units = np.random.default_rng(0).normal(0, 1, 30)
    low, high = [net(0, *units), net(1, *(units + 0.1))], [net(0, *(units - 1)), net(1, *(units - 1.1))]
    joint, independent = difference_effect(low, high), difference_effect(low, high, joint=False)
    assert joint.interval.estimate == pytest.approx(independent.interval.estimate)
    assert [pair.estimate for pair in joint.pairs] == pytest.approx([pair.estimate for pair in independent.pairs])
    assert joint.interval.high - joint.interval.low < 1e-9
    assert independent.interval.high - independent.interval.low > 0.3


def test_repetitions_are_averaged_within_a_unit_and_are_no_units() -> None:
    one = difference_effect([net(0, *range(8))], [net(0, *range(1, 9))])
    repeated = [Network(0, np.repeat(np.arange(k, 8.0 + k)[:, None], 3, axis=1)) for k in (0, 1)]
    three = difference_effect(repeated[:1], repeated[1:])
    assert three.interval == one.interval
    assert three.interval.n == 8


def test_a_comparison_that_does_not_count_is_zero_and_stays_a_unit() -> None:
    counted = np.array([[True]] * 6 + [[False]] * 2)
    low = [Network(0, np.ones((8, 1)), counted)]
    high = [Network(0, np.full((8, 1), 5.0), np.ones((8, 1), dtype=bool))]
    effect = difference_effect(low, high)
    assert effect.interval.estimate == 3.0
    assert effect.interval.n == 8
    with pytest.raises(BadInput, match="do not correspond"):
        difference_effect(low, high, joint=False)


def test_joint_units_must_have_one_shape() -> None:
    with pytest.raises(BadInput, match="must be the same in all networks"):
        difference_effect([net(0, *range(8))], [net(0, *range(9))])


def test_level_is_held_against_its_reference() -> None:
    effect = level_effect([net(0, *[0.9] * 9), net(1, *[0.8] * 9)], reference=0.5)
    assert effect.interval.estimate == pytest.approx(0.35)
    assert [pair.estimate for pair in effect.pairs] == pytest.approx([0.4, 0.3])
    assert effect.same_arm == pytest.approx((-0.1,))
    assert effect.comparison == 0.5


def test_slope_uses_only_the_seeds_that_have_every_level() -> None:
    def arm(level: float, seeds: tuple[int, ...]) -> list[Network]:
        return [net(seed, *(np.arange(9) / 10 + level * (1 + seed))) for seed in seeds]

    effect = slope_effect([arm(0.0, (0, 1, 2)), arm(0.5, (0, 2)), arm(1.0, (0, 1, 2))], [0, 0.5, 1], sign=1)
    assert [(pair.a, pair.b) for pair in effect.pairs] == [(0, 0), (2, 2)]
    assert [pair.estimate for pair in effect.pairs] == pytest.approx([1.0, 3.0])
    assert effect.interval.estimate == pytest.approx(2.0)
    assert effect.interval.p == pytest.approx(1 / 36)
    assert effect.same_arm == pytest.approx((2.0,))
    assert effect.n_networks == 2
    with pytest.raises(BadInput, match="no seed was measured at every level"):
        slope_effect([arm(0.0, (0,)), arm(1.0, (1,))], [0, 1], sign=1)


def test_an_effect_with_one_network_an_arm_has_no_placebo_and_no_seed_variance() -> None:
    effect = difference_effect([net(0, *range(8))], [net(0, *range(1, 9))])
    assert effect.placebo is None
    assert effect.same_arm == ()
    assert np.isnan(effect.seed_variance)


def test_ten_thousand_resamples_of_two_thousand_units_and_nine_pairs_take_under_a_second_or_so() -> None:
    values = np.random.default_rng(1).normal(size=(2000, 9))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        bootstrap_means(values)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1.5  # .2 s measured; the slack is for a crowded machine


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, np.nan]])
def test_values_that_are_not_one_finite_number_a_unit_are_refused(values: list[float]) -> None:
    with pytest.raises(BadInput, match="one finite number a unit"):
        interval_of_mean(values)


def test_statistics_are_importable_without_torch() -> None:
    code = "import sys, reprolib.measures.statistics, reprolib.measures.verdict_rule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
