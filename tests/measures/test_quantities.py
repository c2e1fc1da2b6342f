"""A network's number: what a textbook says its variance is, and what does not change it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from reprolib.errors import BadInput
from reprolib.measures import indices
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.effects import DIFFERENCE, HALF_WAY, LEVEL, Absent, NetworkValue, effect
from reprolib.measures.quantities import (
    RESAMPLES,
    draws,
    no_effect_unless_reached,
    of_auroc,
    of_curves,
    of_index,
    of_mean,
    of_ratio,
    partial_rank_correlation,
    pearson_correlation,
    rank_correlation,
)

Array = NDArray[np.float64]
TOLERANCE = 4 * np.sqrt(2 / RESAMPLES)  # of a variance from 2,000 draws


def variance(one: NetworkValue | Absent) -> float:
    assert isinstance(one, NetworkValue)
    assert one.draws is not None
    return float(one.draws.var(ddof=1))


def hsic_of(cross: Array, ids: tuple[str, ...] | None = None) -> BatchHSIC:
    own = np.diagonal(cross, axis1=1, axis2=2)
    return BatchHSIC(np.full(len(cross), 50), cross, own, own, ids or ("",) * len(cross))


def network(mean: float, n_batches: int = 40, n_layers: int = 5) -> BatchHSIC:
    generator = np.random.default_rng(0)
    c = mean + 0.05 * generator.normal(size=(n_batches, n_layers, n_layers))
    c = (c + c.swapaxes(1, 2)) / 2
    c[:, np.arange(n_layers), np.arange(n_layers)] = np.exp(0.2 * generator.normal(size=(n_batches, n_layers)))
    return hsic_of(c)


# --- the draws


def test_every_resample_draws_one_unit_fewer_than_there_are_and_is_made_once() -> None:
    found = draws(13)
    assert found.shape == (RESAMPLES, 13)
    assert (found.sum(axis=1) == 12).all()
    assert draws(13) is found
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


def test_groups_are_drawn_apart() -> None:
    assert abs(np.corrcoef(draws(40)[:, 0], draws(40, group=1)[:, 0])[0, 1]) < 0.1


def test_one_unit_cannot_be_resampled() -> None:
    with pytest.raises(BadInput, match="n=1: resampling needs at least 2 units"):
        draws(1)
    assert of_mean("net", [0.5]) == NetworkValue("net", 0.5, None, 1)


# --- means and ratios


@pytest.mark.parametrize("n", [3, 8, 200])
def test_a_mean_scatters_by_its_standard_error_at_any_number_of_units(n: int) -> None:
    values = np.random.default_rng(0).normal(size=n)
    assert variance(of_mean("net", values)) == pytest.approx(values.var(ddof=1) / n, rel=TOLERANCE)


def test_the_same_draw_is_taken_in_all_networks() -> None:
    values = np.random.default_rng(0).normal(size=30)
    one, other = of_mean("a", values), of_mean("b", 2 * values + 1)
    np.testing.assert_allclose(other.draws, 2 * one.draws + 1)


def test_repetitions_are_averaged_within_a_unit() -> None:
    values = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(of_mean("a", values).draws, of_mean("a", values.mean(axis=1)).draws)


def test_a_ratio_over_all_rows_is_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=50)
    one, other = of_ratio("a", values, np.ones(50)), of_mean("a", values)
    assert isinstance(one, NetworkValue)
    assert one.value == pytest.approx(other.value)
    np.testing.assert_allclose(one.draws, other.draws)


def test_a_ratio_of_counts_has_the_variance_of_a_share_of_those_that_count() -> None:
    generator = np.random.default_rng(1)
    answered = (generator.random(2000) < 0.6).astype(float)
    shape = answered * (generator.random(2000) < 0.3)
    found = of_ratio("a", shape, answered)
    assert isinstance(found, NetworkValue)
    share = shape.sum() / answered.sum()
    assert found.value == pytest.approx(share)
    assert variance(found) == pytest.approx(share * (1 - share) / answered.sum(), rel=TOLERANCE)


def test_a_ratio_needs_thirty_rows_that_count_or_as_many_as_it_is_told() -> None:
    answered = np.repeat([1.0, 0.0], [12, 88])
    assert of_ratio("net0", answered, answered) == Absent("net0 has 12 rows that count, 30 are needed")
    assert isinstance(of_ratio("net0", answered, answered, least=8), NetworkValue)


def test_what_is_no_ratio_is_refused() -> None:
    for numerator, denominator in (([1.0, 1.0], [1.0, 0.0]), ([1.0], [1.0, 1.0]), ([1.0, 1.0], [1.0, -1.0])):
        with pytest.raises(BadInput, match="need one shape, denominators at least 0, and 0 over 0"):
            of_ratio("net0", numerator, denominator)


def test_hidden_units_are_not_resampled() -> None:
    assert of_mean("net", np.arange(9.0), resampled=False) == NetworkValue("net", 4.0, None, 9)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], np.ones((2, 0)), np.ones((2, 2, 2))])
def test_values_must_be_finite_and_there(values: object) -> None:
    with pytest.raises(BadInput, match="give finite ones"):
        of_mean("net", values)


# --- AUROC


def test_auroc_is_the_share_of_pairs_in_the_right_order_ties_by_half() -> None:
    found = of_auroc("a", [0.0, 1.0, 2.0], [1.0, 3.0])
    assert found.value == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert found.n == 2


def test_auroc_scatters_as_delong_says() -> None:
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(size=300).round(1), generator.normal(0.7, 1.0, 120).round(1)
    wins = (outside[:, None] > inside) + 0.5 * (outside[:, None] == inside)
    delong = wins.mean(axis=0).var(ddof=1) / 300 + wins.mean(axis=1).var(ddof=1) / 120
    found = of_auroc("a", inside, outside)
    assert found.value == pytest.approx(wins.mean())
    assert found.n == 120
    assert variance(found) == pytest.approx(delong, rel=TOLERANCE)


def test_units_that_do_not_count_are_drawn_and_not_ranked() -> None:
    generator = np.random.default_rng(1)
    inside, outside = generator.normal(size=200), generator.normal(0.5, 1.0, 150)
    counts = [generator.random(200) < 0.7, np.ones(150)]
    found, alone = of_auroc("a", inside, outside, counts), of_auroc("a", inside[counts[0]], outside)
    assert isinstance(found, NetworkValue)
    assert isinstance(alone, NetworkValue)
    assert found.value == pytest.approx(alone.value)
    assert found.n == 150
    assert variance(found) == pytest.approx(variance(alone), rel=0.1)
    assert isinstance(of_auroc("a", inside, outside, [np.arange(200) < 29, np.ones(150)]), Absent)


# --- indices


def test_an_index_is_taken_after_averaging_in_every_resample() -> None:
    one = network(0.6)
    found = of_index("a", indices.off_diagonal_mean, one)
    np.testing.assert_allclose(found.draws, indices.off_diagonal_mean(one.matrix(draws(40))))
    assert found.value == pytest.approx(float(indices.off_diagonal_mean(one.matrix())))


def test_a_linear_index_is_the_mean() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 30)
    cross = np.broadcast_to(values[:, None, None], (30, 2, 2))
    hsic = BatchHSIC(np.full(30, 50), cross, np.ones((30, 2)), np.ones((30, 2)), ("",) * 30)
    np.testing.assert_allclose(of_index("a", lambda c: c[..., 0, 1], hsic).draws, of_mean("a", values).draws)


def test_curves_are_stacked_over_states() -> None:
    states = [network(0.6), network(0.8)]
    found = of_curves("a", lambda curves: curves[1].mean(axis=-1) - curves[0].mean(axis=-1), states)
    assert found.value == pytest.approx(0.0)  # at equal depth a network with itself is 1
    with pytest.raises(BadInput, match="its states were measured on different batches"):
        of_curves("a", lambda curves: curves[0, ..., 0], [states[0], network(0.6, n_batches=30)])


def test_an_undefined_index_is_refused_with_the_network_named() -> None:
    with pytest.raises(BadInput, match="net7: the index is undefined in 2001 of 2001 resamples: leave out layers without HSIC"):
        of_index("net7", lambda c: c[..., 0, 1] * np.nan, network(0.6))


def test_rank_correlation_is_spearmans() -> None:
    x, y = np.random.default_rng(0).integers(0, 6, (2, 15))
    assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(rank_correlation(np.ones(15), y))


def test_pearson_correlation_is_numpys() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 15))
    assert pearson_correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert np.isnan(pearson_correlation(x, np.zeros(15)))


def test_a_partial_rank_correlation_is_that_of_residuals_and_of_the_textbooks_formula() -> None:
    x, y, given = np.random.default_rng(0).integers(0, 8, (3, 15)) + np.arange(15)
    ranks = [stats.rankdata(of) for of in (x, y, given)]
    design = np.stack([np.ones(15), ranks[2]], axis=1)
    rest = [of - design @ np.linalg.lstsq(design, of, rcond=None)[0] for of in ranks[:2]]
    found = partial_rank_correlation(x, y, given)
    assert found == pytest.approx(np.corrcoef(*rest)[0, 1])
    xy, xg, yg = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, given), (y, given)))
    assert found == pytest.approx((xy - xg * yg) / np.sqrt((1 - xg**2) * (1 - yg**2)))
    assert partial_rank_correlation(np.exp(x), y, given**3) == pytest.approx(found)


def test_a_third_number_that_orders_the_points_alike_leaves_nothing_to_correlate() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 15))
    assert np.isnan([partial_rank_correlation(x, y, 3 - 2 * x), partial_rank_correlation(x, y, np.ones(15))]).all()


# --- targets that were not reached


def choices(values: list[Array], reached: list[Array], weights: tuple[float, ...], reference: float = 0.0) -> Array:
    """The comparison of every choice of one network an arm, 0 where one of them did not reach the target, averaged: (n,)."""
    found = []
    for chosen in itertools.product(*(range(len(one)) for one in values)):
        whole = sum(w * v[k] for w, v, k in zip(weights, values, chosen, strict=True)) - reference
        found.append(whole * np.prod([r[k] for r, k in zip(reached, chosen, strict=True)], axis=0))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("weights", "reference"), [(LEVEL, 0.4), (DIFFERENCE, 0.0), (HALF_WAY, 0.0)])
def test_a_comparison_counts_nothing_for_a_target_that_one_of_its_networks_did_not_reach(weights, reference) -> None:
    generator = np.random.default_rng(0)
    values = [generator.normal(size=(k, 30)) for k in (3, 2, 4)][: len(weights)]
    reached = [(generator.random(one.shape) < 0.6).astype(float) for one in values]
    found = no_effect_unless_reached(values, reached, weights, reference)
    arms = {f"arm{k}": [of_mean(f"net{j}", row) for j, row in enumerate(one)] for k, one in enumerate(found)}
    whole = effect(arms, weights, reference)
    assert not isinstance(whole, Absent)
    assert whole.estimate == pytest.approx(choices(values, reached, weights, reference).mean())


def test_where_all_is_reached_the_values_stay_as_they_were() -> None:
    values = [np.random.default_rng(k).normal(size=(3, 10, 2)) for k in range(3)]
    for one, found in zip(values, no_effect_unless_reached(values, [np.ones_like(v) for v in values], HALF_WAY), strict=True):
        np.testing.assert_allclose(found, one)


def test_a_network_that_alone_missed_a_target_takes_the_value_of_the_other_arm_there() -> None:
    values, reached = [np.array([[0.4], [0.6]]), np.array([[1.0], [0.9]])], [np.ones((2, 1)), np.array([[0.0], [1.0]])]
    first, second = no_effect_unless_reached(values, reached, DIFFERENCE)
    np.testing.assert_allclose(second, [[0.5], [0.9]])
    np.testing.assert_allclose(first, [[0.45], [0.55]])  # half of the comparisons it is in are left


def test_reaching_fewer_targets_never_makes_an_effect_larger() -> None:
    generator = np.random.default_rng(0)
    values = [generator.uniform(0.3, 0.5, (3, 40)), generator.uniform(0.8, 1.0, (3, 40))]
    sizes = []
    for share in (1.0, 0.7, 0.3, 0.0):
        reached = [np.ones((3, 40)), (np.random.default_rng(1).random((3, 40)) < share).astype(float)]
        first, second = no_effect_unless_reached(values, reached, DIFFERENCE)
        sizes.append(second.mean() - first.mean())
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == pytest.approx(0.0)


def test_arrays_of_other_units_are_refused() -> None:
    with pytest.raises(BadInput, match="give one array an arm, on the same units"):
        no_effect_unless_reached([np.ones((2, 9)), np.ones((2, 8))], [np.ones((2, 9)), np.ones((2, 8))], DIFFERENCE)
