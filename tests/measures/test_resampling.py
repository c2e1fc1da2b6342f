"""Intervals of indices over batches: equal to the linear statistics where an index is linear, covering where it is not."""

import numpy as np
import pytest

from reprolib.errors import BadInput
from reprolib.measures import indices, statistics
from reprolib.measures import resampling as r
from reprolib.measures.cka import BatchHSIC


def hsic_of(cross, own_x=None, own_y=None, n=50, ids=None):
    """Planted HSICs; a network with itself where own is absent."""
    cross = np.asarray(cross, dtype=float)
    own_x = np.diagonal(cross, axis1=1, axis2=2) if own_x is None else own_x
    own_y = own_x if own_y is None else own_y
    return BatchHSIC(np.full(len(cross), n), cross, own_x, own_y, ids or ("",) * len(cross))


def network(mean, seed=0, n_batches=40, n_layers=6, noise=0.1, same_images=0.0):
    """A network whose layers have similarity `mean`, each batch and pair with noise; same_images: noise shared by all networks."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(12345)
    scale = np.exp(0.3 * rng.normal(size=(n_batches, n_layers)))  # HSICs of layers differ from batch to batch
    c = mean + noise * rng.normal(size=(n_batches, n_layers, n_layers)) + same_images * shared.normal(size=(n_batches, 1, 1))
    c = (c + c.swapaxes(1, 2)) / 2
    c[:, np.arange(n_layers), np.arange(n_layers)] = 1
    return hsic_of(c * scale[:, :, None] * scale[:, None, :])


def linear(values, seed=0):
    """A pair of layers whose own HSIC is 1 in every batch: its CKA is the mean of the values."""
    values = np.asarray(values, dtype=float)
    cross = np.broadcast_to(values[:, None, None], (len(values), 2, 2))
    return r.resampled(lambda c: c[..., 0, 1], hsic_of(cross, np.ones((len(values), 2))), seed)


def close(found, expected):
    for field in ("estimate", "low", "high", "p", "n"):
        assert getattr(found, field) == pytest.approx(getattr(expected, field), abs=1e-9, nan_ok=True), field


# --- one index


@pytest.mark.parametrize("n", [2, 8, 19, 20, 37])
def test_the_interval_of_a_linear_index_is_that_of_the_mean(n):
    values = np.random.default_rng(0).normal(0.3, 0.1, n)
    close(r.interval(linear(values)), statistics.interval_of_mean(values))


def test_one_batch_has_an_estimate_and_no_interval():
    found = r.interval(linear([0.3]))
    assert (found.estimate, found.n) == (0.3, 1)
    assert np.isnan([found.low, found.high, found.p]).all()


def test_the_ratio_is_taken_after_averaging_in_every_resample():
    one = network(0.6)
    found = r.resampled(indices.off_diagonal_mean, one)
    draws = r.batch_draws(40)
    for k in (0, 1234, 9999):
        repeated = np.repeat(np.arange(40), draws[k].astype(int))
        own = one.own_x[repeated].mean(axis=0)
        expected = one.cross[repeated].mean(axis=0) / np.sqrt(np.outer(own, own))
        assert found.values[1 + k] == pytest.approx(float(indices.off_diagonal_mean(expected)))
    assert found.values[0] == pytest.approx(float(indices.off_diagonal_mean(one.matrix())))
    assert found.values.shape == (1 + statistics.RESAMPLES,)


def test_draws_are_the_same_for_every_network_and_keep_the_number_of_batches():
    draws = r.batch_draws(25)
    assert np.array_equal(draws, r.batch_draws(25))
    assert (draws.sum(axis=1) == 25).all()
    assert np.array_equal(r.batch_draws(5), np.ones((5, 5)) - np.eye(5))


@pytest.mark.parametrize("n_batches", [12, 30])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(n_batches):
    """150 draws of networks whose true off-diagonal similarity is .6, at sizes that take the jackknife and the bootstrap."""
    hits = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        own = rng.gamma(4, 0.25, size=(n_batches, 2))
        cross = np.ones((n_batches, 2, 2)) * (0.6 * own.mean(axis=1) + 0.1 * rng.normal(size=n_batches))[:, None, None]
        draws = np.vstack([np.ones(n_batches), r.batch_draws(n_batches)[:500]])
        found = r.interval(r.Resampled(hsic_of(cross, own).matrix(draws)[:, 0, 1], n_batches))
        hits += found.low <= 0.6 <= found.high
    assert 0.87 < hits / 150 <= 1


def test_an_index_that_is_undefined_in_a_resample_is_refused():
    cross = np.zeros((25, 2, 2))
    cross[0] = 1  # one batch in which the layers fire: left out of about a third of the resamples
    with pytest.raises(BadInput, match="the index is undefined in 3[0-9]{3} of 10001 resamples: leave out layers without HSIC"):
        r.resampled(indices.off_diagonal_mean, hsic_of(cross))


def test_curves_of_several_states_are_indexed_together_on_the_same_batches():
    states = [network(mean, seed=k, n_batches=20) for k, mean in enumerate((0.2, 0.5, 0.8))]
    found = r.resampled_curves(lambda curves: indices.depth_slope(indices.area_under(curves, [0, 1, 2])), states)
    expected = indices.depth_slope(indices.area_under(np.stack([one.same_depth() for one in states]), [0, 1, 2]))
    assert found.values[0] == pytest.approx(float(expected))
    elsewhere = hsic_of(states[0].cross, ids=tuple("abcdefghijklmnopqrst"))
    with pytest.raises(BadInput, match="states of a network were measured on different batches"):
        r.resampled_curves(lambda curves: curves.mean(axis=(0, -1)), [states[0], elsewhere])


# --- effects


def test_effects_of_linear_indices_are_those_of_the_linear_statistics():
    rng = np.random.default_rng(1)
    values = {(arm, seed): rng.normal(0.3 + 0.1 * arm, 0.1, 30) for arm in range(3) for seed in range(2)}
    ours = [[linear(values[arm, seed], seed) for seed in range(2)] for arm in range(3)]
    theirs = [[statistics.Network(seed, values[arm, seed][:, None]) for seed in range(2)] for arm in range(3)]
    for found, expected in (
        (r.difference_effect(ours[0], ours[1]), statistics.difference_effect(theirs[0], theirs[1])),
        (r.level_effect(ours[2], 0.4), statistics.level_effect(theirs[2], 0.4)),
        (r.slope_effect(ours, [0, 0.5, 1], 1), statistics.slope_effect(theirs, [0, 0.5, 1], 1)),
    ):
        close(found.interval, expected.interval)
        close(found.placebo, expected.placebo)
        assert [(pair.a, pair.b) for pair in found.pairs] == [(pair.a, pair.b) for pair in expected.pairs]
        assert [pair.estimate for pair in found.pairs] == pytest.approx([pair.estimate for pair in expected.pairs])
        assert found.same_arm == pytest.approx(expected.same_arm)
        assert found.comparison == pytest.approx(expected.comparison)
        assert found.n_networks == expected.n_networks
        assert found.seed_variance == pytest.approx(expected.seed_variance, nan_ok=True)


def test_joint_resampling_cancels_what_the_batches_do_to_both_networks():
    arms = [
        [r.resampled(indices.off_diagonal_mean, network(mean, seed, noise=0.02, same_images=0.2), seed)]
        for seed, mean in enumerate((0.4, 0.6))
    ]
    together = r.difference_effect(*arms).interval
    alone = r.interval(arms[0][0])
    assert together.estimate == pytest.approx(0.2, abs=0.05)
    assert together.high - together.low < (alone.high - alone.low) / 2


def test_networks_of_unequal_batches_are_refused():
    with pytest.raises(BadInput, match="networks were measured on 20 and 21 batches: all need the same ones"):
        r.minus(linear(np.ones(20)), linear(np.ones(21)))
    with pytest.raises(BadInput, match=r"networks were measured on \[20, 21\] batches: all need the same ones"):
        r.mean_of([linear(np.ones(20)), linear(np.ones(21))])
    with pytest.raises(BadInput, match="no seed was measured at every level"):
        r.slope_effect([[linear(np.ones(20), 0)], [linear(np.ones(20), 1)]], [0, 1], 1)


# --- unlike: across minus the lower of within


def planted(across, first, second, noise=0.02, seeds=3):
    """Effects of planted same-depth similarities between networks of two arms."""
    rng = np.random.default_rng(0)

    def pairs(mean, ordered):
        found = [(a, b) for a in range(seeds) for b in range(seeds) if a < b or (ordered and a != b)]
        return {pair: linear(mean + noise * rng.normal(size=30)) for pair in found}

    return r.unlike_effect(pairs(across, True), pairs(first, False), pairs(second, False))


def test_the_lower_of_the_two_arms_is_what_similarity_across_is_held_against():
    for first, second in ((0.7, 0.9), (0.9, 0.7)):
        found = planted(0.5, first, second)
        assert found.interval.estimate == pytest.approx(-0.2, abs=0.01)
        assert found.interval.high < -0.15
        assert found.comparison == pytest.approx(0.7, abs=0.01)
        assert len(found.pairs) == 6
        assert all(pair.a != pair.b for pair in found.pairs)
    assert planted(0.8, 0.7, 0.9).interval.low > 0.05


def test_the_lower_is_chosen_anew_in_every_resample():
    rng = np.random.default_rng(3)
    across = {(0, 1): linear(0.5 + 0 * rng.normal(size=30)), (1, 0): linear(np.full(30, 0.5))}
    within = [{(0, 1): linear(0.7 + 0.1 * rng.normal(size=30))} for _ in range(2)]
    found = r.unlike_effect(across, *within)
    lower = np.minimum(*(next(iter(arm.values())).values for arm in within))
    assert found.interval.low == pytest.approx(np.quantile(0.5 - lower[1:], 0.025))
    first, second = (next(iter(arm.values())).values[1:] for arm in within)
    assert 0.05 < np.mean(first < second) < 0.95  # either arm is the lower one in some


def test_the_placebo_compares_two_pairs_of_one_arm_and_with_two_seeds_two_pairs_across():
    three, two = planted(0.5, 0.7, 0.9), planted(0.5, 0.7, 0.9, seeds=2)
    assert len(three.same_arm) == 3 + 3
    assert len(two.same_arm) == 1
    assert (three.n_networks, two.n_networks) == (3, 2)
    assert max(map(abs, (*three.same_arm, *two.same_arm))) < 0.03
    assert abs(three.placebo.estimate) < 0.03


def test_pairs_of_one_seed_and_missing_pairs_are_refused():
    one = linear(np.ones(20))
    with pytest.raises(
        BadInput, match=r"pairs of seeds \[\(0, 0\), \(0, 1\)\]: give at least one of each kind, and only pairs of different"
    ):
        r.unlike_effect({(0, 0): one, (0, 1): one}, {(0, 1): one}, {(0, 1): one})
    with pytest.raises(BadInput, match=r"pairs of seeds \[\]"):
        r.unlike_effect({(0, 1): one}, {}, {(0, 1): one})


def test_a_pair_of_networks_is_a_seed_pair_and_similarity_is_held_against_a_number():
    found = r.alike_effect({(1, 2): linear(np.full(20, 0.9)), (0, 1): linear(np.full(20, 0.7))}, reference=0.5)
    assert [(pair.a, pair.b, round(pair.estimate, 6)) for pair in found.pairs] == [(0, 1, 0.2), (1, 2, 0.4)]
    assert (round(found.interval.estimate, 6), found.n_networks, found.same_arm) == (0.3, 2, (pytest.approx(0.2),))
    assert found.seed_variance == pytest.approx(0.02)
    alone = r.alike_effect({(0, 1): linear(np.full(20, 0.7))})
    assert (alone.n_networks, alone.placebo, alone.same_arm) == (1, None, ())
    with pytest.raises(BadInput, match=r"pairs of seeds \[\(2, 2\)\]: .*only pairs of different seeds"):
        r.alike_effect({(2, 2): linear(np.ones(20))})


def test_two_seeds_leave_a_variance_that_a_forecast_can_use():
    assert planted(0.5, 0.7, 0.9, seeds=2).seed_variance == pytest.approx(0, abs=1e-3)


# --- one number a batch


@pytest.mark.parametrize("n", [8, 25])
def test_numbers_a_batch_are_averaged_as_the_linear_statistics_do(n):
    values = np.random.default_rng(4).normal(0.3, 0.1, n)
    close(r.interval(r.resampled_mean(values)), statistics.interval_of_mean(values))


def test_numbers_a_batch_of_an_index_have_its_mean_and_nearly_its_interval():
    one = network(0.6, noise=0.05, n_batches=150)
    values = r.batch_values(indices.off_diagonal_mean, one)
    direct, through = r.interval(r.resampled(indices.off_diagonal_mean, one)), r.interval(r.resampled_mean(values))
    assert values.shape == (150,)
    assert through.estimate == pytest.approx(direct.estimate, rel=0.01)
    assert through.high - through.low == pytest.approx(direct.high - direct.low, rel=0.1)
    linear_values = np.random.default_rng(0).normal(0.3, 0.1, 12)
    cross = np.broadcast_to(linear_values[:, None, None], (12, 2, 2))
    of_linear = r.batch_values(lambda c: c[..., 0, 1], hsic_of(cross, np.ones((12, 2))))
    np.testing.assert_allclose(of_linear, linear_values, atol=1e-12)


def test_numbers_a_batch_need_two_batches_and_an_index_that_is_defined():
    with pytest.raises(BadInput, match="one batch cannot be left out: give at least 2"):
        r.batch_values(indices.off_diagonal_mean, network(0.6, n_batches=1))
    with pytest.raises(BadInput, match="the index is undefined in some batch"):
        r.batch_values(lambda c: c[..., 0, 1] * np.nan, network(0.6, n_batches=3))
