"""One interval: equal to Welch's where images are infinitely many, to the paired one where networks are alike, covering in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from reprolib.errors import BadInput
from reprolib.measures.effects import (
    DIFFERENCE,
    HALF_WAY,
    LEVEL,
    Absent,
    Effect,
    NetworkValue,
    averaged,
    correlation_effect,
    effect,
    paired_effect,
    pairs_effect,
    reach,
)
from reprolib.measures.quantities import of_mean, rank_correlation

Array = NDArray[np.float64]


def nets(values: Sequence[float], n: int = 100) -> list[NetworkValue | Absent]:
    """Networks whose units do not correspond: all scatter lies between the networks."""
    return [NetworkValue(f"net{k}", value, None, n) for k, value in enumerate(values)]


def measured(units: Array) -> list[NetworkValue | Absent]:
    """Networks from units (k, n)."""
    return [of_mean(f"net{k}", row) for k, row in enumerate(units)]


def present(found: Effect | Absent) -> Effect:
    assert isinstance(found, Effect)
    return found


# --- closed forms


def test_without_scatter_of_units_a_difference_has_welchs_interval() -> None:
    first, second = [0.2, 0.5, 0.1], [1.0, 1.1, 1.3, 0.9]
    found = present(effect({"standard": nets(first), "robust": nets(second)}, DIFFERENCE))
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.k, found.n, found.v_item, found.comparison) == (3, 100, 0.0, pytest.approx(np.mean(first)))


def test_without_scatter_of_units_a_level_has_students_interval() -> None:
    values = [0.2, 0.5, 0.1]
    found = present(effect({"robust": nets(values)}, LEVEL, reference=0.1))
    expected = stats.ttest_1samp(values, 0.1).confidence_interval(0.95)
    assert (found.low + 0.1, found.high + 0.1) == pytest.approx((expected.low, expected.high))
    assert (found.estimate, found.comparison) == (pytest.approx(np.mean(values) - 0.1), 0.1)


def test_where_the_networks_of_an_arm_are_identical_the_interval_is_the_paired_one_over_units() -> None:
    first, second = np.random.default_rng(0).normal(0.0, 1.0, (2, 40))
    found = present(effect({"standard": measured(np.stack([first] * 3)), "robust": measured(np.stack([second] * 3))}, DIFFERENCE))
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert found.freedom == pytest.approx(39)
    assert found.v_net == 0
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.05)  # 2,000 draws


def test_what_all_networks_share_on_an_image_cancels_in_a_difference() -> None:
    generator = np.random.default_rng(1)
    image, own = 10 * generator.normal(size=50), 0.1 * generator.normal(size=(4, 50))
    found = present(effect({"standard": measured(image + own[:2]), "robust": measured(image + own[2:])}, DIFFERENCE))
    level = present(effect({"robust": measured(image + own[2:])}, LEVEL))
    assert found.v_item < 1e-3 * level.v_item


def test_where_nothing_scatters_the_interval_is_the_point() -> None:
    found = present(effect({"standard": measured(np.full((2, 20), 0.1)), "robust": measured(np.full((2, 20), 0.3))}, DIFFERENCE))
    assert (found.low, found.high, found.v_net, found.v_item) == (found.estimate, found.estimate, 0.0, 0.0)
    assert found.freedom == np.inf


def test_the_middle_of_two_arms_minus_a_control_weighs_each_variance_by_its_square() -> None:
    robust, standard, control = [1.0, 1.4, 1.2], [0.0, 0.1, 0.3], [0.5, 0.9]
    found = present(effect({"robust": nets(robust), "standard": nets(standard), "control": nets(control)}, HALF_WAY))
    variances = [np.var(one, ddof=1) / len(one) * weight**2 for one, weight in ((robust, 0.5), (standard, 0.5), (control, 1.0))]
    assert found.estimate == pytest.approx((1.2 + 0.4 / 3) / 2 - 0.7)
    assert found.v_net == pytest.approx(sum(variances))
    assert found.freedom == pytest.approx(sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 2 + variances[2] ** 2))


def test_reach_is_students_quantile_times_the_standard_error_and_zero_terms_are_left_out() -> None:
    assert reach([(0.04, 7.0), (0.0, 2.0)]) == pytest.approx((stats.t.ppf(0.975, 7) * 0.2, 7))
    assert reach([]) == (0.0, np.inf)
    assert np.isnan(reach([(np.nan, 2.0), (0.1, 9.0)])[0])


def test_pairs_by_design_have_the_interval_over_their_differences() -> None:
    first, second = [0.2, 0.9, 0.5, 0.4], [0.5, 1.1, 0.9, 0.6]
    found = present(paired_effect({"none": nets(first), "adversarial": nets(second)}))
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.networks["none"] == {"net0": 0.2, "net1": 0.9, "net2": 0.5, "net3": 0.4}
    assert (found.k, found.comparison) == (4, pytest.approx(0.5))


def test_pairs_of_any_weights_are_one_observation_each() -> None:
    robust, standard, control = [1.0, 1.9, 0.6, 1.2], [0.0, 1.1, -0.3, 0.4], [0.2, 1.0, 0.1, 0.3]
    found = present(paired_effect({"robust": nets(robust), "standard": nets(standard), "control": nets(control)}, HALF_WAY))
    sums = (np.array(robust) + np.array(standard)) / 2 - np.array(control)
    expected = stats.ttest_1samp(sums, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    level = present(paired_effect({"standard": nets(standard)}, LEVEL, 0.1, "architecture"))
    expected = stats.ttest_1samp(standard, 0.1).confidence_interval(0.95)
    assert (level.low + 0.1, level.high + 0.1) == pytest.approx((expected.low, expected.high))
    assert (level.k, level.needs, level.counted, level.comparison) == (4, 3, "architecture", 0.1)


def test_units_scatter_in_pairs_as_they_do_in_arms() -> None:
    units = np.random.default_rng(2).normal(size=(8, 30))
    arms = {"standard": measured(units[:4]), "robust": measured(units[4:])}
    assert present(paired_effect(arms)).v_item == present(effect(arms, DIFFERENCE)).v_item > 0


def test_an_average_of_networks_has_their_mean_under_every_resample() -> None:
    one, other = measured(np.random.default_rng(2).normal(size=(2, 30)))
    found = averaged("lenet", [one, other])
    assert isinstance(one, NetworkValue)
    assert isinstance(other, NetworkValue)
    assert isinstance(found, NetworkValue)
    assert (found.name, found.n, found.value) == ("lenet", 30, pytest.approx((one.value + other.value) / 2))
    assert found.draws == pytest.approx((np.asarray(one.draws) + np.asarray(other.draws)) / 2)
    assert averaged("lenet", [one, Absent("few rows")]) == Absent("few rows")


def test_one_network_in_an_arm_gives_an_estimate_without_an_interval() -> None:
    units = np.random.default_rng(0).normal(size=(4, 30))
    found = present(effect({"standard": measured(units[:1]), "robust": measured(units[1:])}, DIFFERENCE))
    assert np.isfinite(found.estimate)
    assert np.isnan([found.low, found.high]).all()
    assert found.k == 1


# --- pairs of networks


def test_pairs_that_are_sums_of_their_networks_have_the_variance_of_the_networks() -> None:
    a = {0: 0.1, 1: 0.5, 2: -0.2, 3: 0.3}
    pairs = {(("standard", i), ("standard", j)): NetworkValue(f"{i}{j}", a[i] + a[j], None, 50) for i in a for j in a if i < j}
    found = present(pairs_effect({"within": pairs}, LEVEL))
    assert found.estimate == pytest.approx(2 * np.mean([*a.values()]))
    assert found.v_net == pytest.approx(4 * np.var([*a.values()], ddof=1) / 4)  # the jackknife is exact for means
    assert (found.freedom, found.k, found.needs) == (pytest.approx(3), 4, 3)


def test_pairs_across_minus_within_lose_k_minus_one_degrees_of_freedom_in_each_arm() -> None:
    found = present(pairs_effect(planted_pairs(np.random.default_rng(0), 3), DIFFERENCE))
    assert found.freedom == pytest.approx(4)
    assert set(found.networks) == {"within", "across"}


def planted_pairs(generator: np.random.Generator, k: int) -> dict[str, dict]:
    own = {(arm, seed): generator.normal() for arm in ("standard", "robust") for seed in range(k)}

    def kind(first: str, second: str) -> dict:
        return {
            (a, b): NetworkValue(f"{a}{b}", own[a] + own[b] + own[a] * own[b] / 2, None, 50)
            for a in own
            for b in own
            if (a[0], b[0]) == (first, second) and (a[1] < b[1] or (first != second and a[1] != b[1]))
        }

    return {"within": kind("standard", "standard"), "across": kind("standard", "robust")}


def test_two_networks_an_arm_give_pairs_no_interval() -> None:
    found = present(pairs_effect(planted_pairs(np.random.default_rng(0), 2), DIFFERENCE))
    assert np.isnan(found.low)
    assert found.k < found.needs


def test_intervals_of_pairs_cover() -> None:
    generator = np.random.default_rng(4)
    found = [present(pairs_effect(planted_pairs(generator, 3), DIFFERENCE)) for _ in range(300)]
    assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.92


# --- correlations over networks


def planted_points(slope: float, n_architectures: int = 5, seed: int = 0) -> dict[tuple[str, str], tuple[float, float]]:
    generator = np.random.default_rng(seed)
    x, noise = generator.normal(size=(2, 3, n_architectures))
    return {(f"recipe{r}", f"arch{a}"): (x[r, a], slope * x[r, a] + 0.3 * noise[r, a]) for r in range(3) for a in range(n_architectures)}


def test_a_correlation_has_students_interval_on_fishers_z_over_architectures() -> None:
    points = planted_points(-1.0)
    found = present(correlation_effect(points, rank_correlation))
    rest = [np.arctanh(rank_correlation(*zip(*(xy for (_, a), xy in points.items() if a != f"arch{k}"), strict=True))) for k in range(5)]
    error = np.sqrt(4 / 5 * ((rest - np.mean(rest)) ** 2).sum())
    assert found.estimate == pytest.approx(stats.spearmanr(*zip(*points.values(), strict=True)).statistic)
    assert (np.arctanh(found.high) - np.arctanh(found.low)) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * error)
    assert (found.n, found.doubt) == (15, "")


def test_a_correlation_whose_sign_hangs_on_one_architecture_says_so() -> None:
    points = planted_points(-1.0)
    far = {name: (x + 100, y + 100) if name[1] == "arch0" else (x, y) for name, (x, y) in points.items()}
    found = present(correlation_effect(far, lambda x, y: float(np.corrcoef(x, y)[0, 1])))
    assert found.estimate > 0.9
    assert found.doubt == "the sign does not stay without arch0"


def test_fewer_than_twelve_points_give_no_coefficient() -> None:
    found = correlation_effect(planted_points(-1.0, n_architectures=3), rank_correlation)
    assert found == Absent("9 points of arch0, arch1, arch2 give no coefficient: 12 points of 3 architectures are needed")


def test_a_number_that_does_not_vary_gives_no_coefficient() -> None:
    flat = {name: (1.0, y) for name, (_, y) in planted_points(-1.0).items()}
    assert isinstance(correlation_effect(flat, rank_correlation), Absent)


# --- simulations: networks scatter by own[arm], images by `image`, and by `answer` an image in an arm


def planted(
    generator: np.random.Generator, means: Sequence[float], own: Sequence[float], image: float, n: int = 40, k: int = 3
) -> list[Array]:
    shared = generator.normal(size=n)
    return [
        mean
        + scatter * generator.normal(size=(k, 1))
        + image * (generator.normal(size=n) + 0.5 * shared)
        + 0.1 * generator.normal(size=(k, n))
        for mean, scatter in zip(means, own, strict=True)
    ]


@pytest.mark.parametrize(
    ("own", "image", "most"),
    [((0.01, 0.08), 0.02, 0.99), ((0.08, 0.08), 0.02, 0.99), ((0.02, 0.06), 0.3, 1.0), ((0.0, 0.0), 0.3, 1.0)],
)
def test_intervals_cover_the_true_difference_with_three_networks_an_arm(own: tuple[float, float], image: float, most: float) -> None:
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        standard, robust = planted(generator, (0.3, 0.4), own, image)
        found = present(effect({"standard": measured(standard), "robust": measured(robust)}, DIFFERENCE))
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.92 <= np.mean(covered) <= most


def test_an_effect_of_exactly_the_smallest_that_counts_is_beyond_it_at_most_once_in_forty() -> None:
    generator = np.random.default_rng(3)
    beyond = 0
    for _ in range(300):
        standard, robust = planted(generator, (0.3, 0.4), (0.01, 0.08), 0.05)
        beyond += present(effect({"standard": measured(standard), "robust": measured(robust)}, DIFFERENCE)).low > 0.1
    assert beyond / 300 <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / 300)


# --- errors


def test_a_network_without_a_value_leaves_the_comparison_without_one() -> None:
    why = Absent("net1 has 3 rows that count, 30 are needed")
    assert effect({"standard": [*nets([0.1]), why], "robust": nets([0.1, 0.2])}, DIFFERENCE) == why
    assert paired_effect({"none": [why], "adversarial": nets([0.1])}) == why


def test_networks_on_other_units_are_refused() -> None:
    few, many = measured(np.ones((2, 20))), measured(np.ones((2, 30)))
    with pytest.raises(BadInput, match="networks were measured on 20 and 30 units: all need the same ones"):
        effect({"standard": few, "robust": many}, DIFFERENCE)
    with pytest.raises(BadInput, match="the units of net0 do not correspond to those of other networks"):
        effect({"standard": few, "robust": nets([0.1, 0.2])}, DIFFERENCE)


def test_arms_and_weights_must_agree() -> None:
    for arms in ({"robust": nets([0.1])}, {"standard": nets([]), "robust": nets([0.1])}):
        with pytest.raises(BadInput, match="give one weight other than 0 an arm, and at least one network in each"):
            effect(arms, DIFFERENCE)
    with pytest.raises(BadInput, match="pairs need equally many networks in each arm"):
        paired_effect({"none": nets([0.1]), "adversarial": nets([0.1, 0.2])})


def test_networks_of_one_seed_are_no_pair() -> None:
    with pytest.raises(BadInput, match=r"a pair of seed 0 \(standard, robust\) shares its initialisation"):
        pairs_effect({"across": {(("standard", 0), ("robust", 0)): NetworkValue("00", 0.5, None, 9)}}, LEVEL)
