"""Indices of similarity matrices whose values are known by counting; bootstrap dimensions in front; NaN where undefined."""

import numpy as np
import pytest

from reprolib.errors import BadInput
from reprolib.measures import indices

STAGES = [[1, 2, 3, 4], [5, 6, 7, 8]]


def lagged(values):
    """C_ij = values[|i - j|], values[0] = 1 on the diagonal."""
    places = np.arange(len(values))
    return np.asarray(values, dtype=float)[np.abs(places[:, None] - places)]


def blocks(inside, outside, n=10, stages=STAGES):
    c = np.full((n, n), float(outside))
    for stage in stages:
        c[np.ix_(stage, stage)] = inside
    np.fill_diagonal(c, 1)
    return c


def test_the_off_diagonal_mean_leaves_the_diagonal_out():
    assert indices.off_diagonal_mean(lagged([1, 0.5, 0.2])) == pytest.approx((0.5 + 0.5 + 0.2) / 3)


def test_stage_contrast_is_the_gap_between_the_squares_and_the_rest_without_stem_and_head():
    c = blocks(0.9, 0.4)
    c[0, 1:] = c[1:, 0] = c[-1, :-1] = c[:-1, -1] = 0.77  # stem and head, in no stage
    assert indices.stage_contrast(c, STAGES) == pytest.approx(0.5)
    assert indices.stage_contrast(np.ones((10, 10)), STAGES) == pytest.approx(0)
    brighter = c + 0.1
    assert indices.stage_contrast(brighter, STAGES) == pytest.approx(0.5)
    assert indices.off_diagonal_mean(brighter) == pytest.approx(indices.off_diagonal_mean(c) + 0.1)


def test_unequal_stages_count_by_pairs():
    c = blocks(0.9, 0.4, stages=[[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]])
    c[4, 5] = c[5, 4] = 0.2
    expected = (20 * 0.9 + 0.2) / 21 - 0.4
    assert indices.stage_contrast(c, [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]) == pytest.approx(expected)


def test_stages_under_four_layers_are_undefined_for_a_verdict_with_the_reason_but_can_be_shown():
    short = [[1, 2, 3, 4], [5, 6, 7]]
    assert np.isnan(indices.stage_contrast(blocks(0.9, 0.4, stages=short), short))
    assert indices.why_no_stages(short) == "a stage has 3 layers, at least 4 are needed"
    assert indices.why_no_stages([[1, 2, 3, 4]]) == "1 stages: a contrast needs at least 2"
    assert indices.why_no_stages(STAGES) == ""
    assert indices.stage_contrast(blocks(0.9, 0.4, stages=short), short, least=2) == pytest.approx(0.5)


@pytest.mark.parametrize("stages", [[[0, 2, 3, 4], [5, 6, 7, 8]], [[0, 1, 2, 3], [3, 4, 5, 6]], [[-1, 0, 1, 2]], [[7, 8, 9, 10]], [[]]])
def test_stages_that_are_not_contiguous_disjoint_and_inside_are_refused(stages):
    with pytest.raises(BadInput, match="give consecutive layer numbers, each in one stage only"):
        indices.stage_contrast(blocks(0.9, 0.4), stages)


def test_stages_are_read_off_the_names_of_layers():
    names = ("pixels", "stem", "stage1.block1.relu1", "stage1.block1.relu2", "stage2.block1.relu1", "pooled", "stages", "stage.")
    assert indices.stages_of(names[:6]) == [[2, 3], [4]]
    assert indices.stages_of(["conv1", "conv2", "pooled"]) == []


def test_lag_indices_of_a_matrix_that_depends_on_lag_alone():
    c = lagged([1, 0.9, 0.7, 0.5, 0.3])
    np.testing.assert_allclose(indices.mean_by_lag(c), [0.9, 0.7, 0.5, 0.3])
    assert indices.long_range_mean(c) == pytest.approx((2 * 0.5 + 0.3) / 3)  # lag > 2.5
    linear = lagged(1 - 0.05 * np.arange(8))
    assert indices.lag_slope(linear) == pytest.approx(-0.05)


def test_long_range_starts_beyond_half_the_number_of_layers():
    c = lagged([1, 0.9, 0.8, 0.2])  # L = 4: lag 2 is not beyond 2
    assert indices.long_range_mean(c) == pytest.approx(0.2)
    assert np.isnan(indices.lag_slope(lagged([1, 0.5])))


def test_the_lag_slope_is_that_of_least_squares():
    c = np.corrcoef(np.random.default_rng(0).normal(size=(7, 12)))
    i, j = np.triu_indices(7, 1)
    assert indices.lag_slope(c) == pytest.approx(np.polyfit(j - i, c[i, j], 1)[0])


def test_shares_are_of_pairs_and_strictly_above():
    c = lagged([1, 0.9, 0.8])
    assert indices.share_above(c, 0.8) == pytest.approx(2 / 3)
    assert indices.share_above(c, 0.9) == 0


def test_the_longest_run_asks_for_all_pairs_not_only_neighbours():
    assert indices.longest_run(lagged([1, 0.95, 0.85, 0.75, 0.65]), 0.7) == 4
    assert indices.longest_run(lagged([1, 0.95, 0.85, 0.75, 0.65]), 0.8) == 3
    assert indices.longest_run(lagged([1, 0.95, 0.85, 0.75, 0.65]), 0.99) == 1
    assert indices.longest_run(np.ones((6, 6)), 0.9) == 6
    assert indices.longest_run(blocks(0.95, 0.1, stages=[[1, 2], [4, 5, 6], [8, 9]]), 0.9) == 3
    hole = np.ones((7, 7))
    hole[2, 5] = hole[5, 2] = 0.1
    assert indices.longest_run(hole, 0.9) == 5  # layers 0 to 4, or 3 to 6


def test_the_longest_run_is_that_of_trying_all_windows():
    for seed in range(20):
        c = np.corrcoef(np.random.default_rng(seed).normal(size=(8, 4)).cumsum(axis=0))
        windows = [b - a for a in range(8) for b in range(a + 1, 9) if c[a:b, a:b].min() >= 0.3]
        assert indices.longest_run(c, 0.3) == max(windows)


def test_effective_rank_runs_from_one_to_the_number_of_layers():
    assert indices.effective_rank(np.ones((6, 6))) == pytest.approx(1)
    assert indices.effective_rank(np.eye(6)) == pytest.approx(6)
    assert indices.effective_rank(np.kron(np.eye(2), np.ones((3, 3)))) == pytest.approx(2)
    assert indices.effective_rank([[1, 1.2], [1.2, 1]]) == pytest.approx(1)  # an unbiased estimate may leave the cone
    q = np.array([0.75, 0.25])
    assert indices.effective_rank([[1, 0.5], [0.5, 1]]) == pytest.approx(np.exp(-(q * np.log(q)).sum()))


def test_deconfounding_removes_what_two_layers_owe_to_the_pixels():
    """Three vectors: the partial form is the cosine of the first two once their parts along the third are gone."""
    x, y, z = np.random.default_rng(0).normal(size=(3, 50)) + np.array([[2], [2], [0]]) * np.linspace(-1, 1, 50)
    unit = [v / np.linalg.norm(v) for v in (x, y, z)]
    c = np.array([[a @ b for b in unit[:2]] for a in unit[:2]])
    p = np.array([a @ unit[2] for a in unit[:2]])
    left = [v - (v @ unit[2]) * unit[2] for v in unit[:2]]
    expected = left[0] @ left[1] / np.linalg.norm(left[0]) / np.linalg.norm(left[1])
    found = indices.without_confounder(c, p)
    assert found[0, 1] == pytest.approx(expected)
    np.testing.assert_allclose(np.diagonal(found), 1)
    owed = np.array([0.9, 0.8])
    only_pixels = np.array([[1, 0.72], [0.72, 1]])
    assert indices.without_confounder(only_pixels, owed)[0, 1] == pytest.approx(0)
    assert np.isnan(indices.without_confounder(c, [1.0, 0.5])[0]).all()
    with pytest.raises(BadInput, match=r"the confounder has shape \(3,\), C has \(2, 2\): give one similarity a layer"):
        indices.without_confounder(c, [0.1, 0.2, 0.3])


def test_two_networks_agree_in_depth_where_each_layer_is_most_like_its_twin():
    c = np.array([[0.9, 0.3, 0.1], [0.8, 0.5, 0.1], [0.1, 0.2, 0.7]])
    assert indices.same_depth_mean(c) == pytest.approx(0.7)
    assert indices.depth_agreement(c) == pytest.approx(2 / 3)
    assert indices.depth_agreement(c.T) == pytest.approx(1)


def test_indices_over_depth():
    assert indices.depth_slope(np.linspace(0.2, 0.8, 7)) == pytest.approx(0.6)
    assert indices.depth_slope([[1, 1, 1], [0, 0.5, 1]]) == pytest.approx([0, 1])
    assert indices.last_third_mean([9, 9, 9, 9, 1, 3]) == pytest.approx(2)
    assert indices.last_third_mean([9, 9, 9, 9, 1, 3, 5]) == pytest.approx(3)  # 3 of 7
    with pytest.raises(BadInput, match="1 layers have no slope over depth: give at least 2"):
        indices.depth_slope([0.5])


def test_the_area_under_a_curve_is_its_mean_height():
    early, late = [1.0, 1.0, 1.0], [0.0, 0.5, 1.0]
    np.testing.assert_allclose(indices.area_under(np.stack([early, late], axis=1), [0, 1, 2]), [1, 0.5])
    np.testing.assert_allclose(indices.area_under(np.array([[0.0], [1.0], [1.0]]), [0, 1, 4]), [3.5 / 4])
    for times in ([0, 1], [0, 2, 1], [0, 0, 1]):
        with pytest.raises(BadInput, match="give one increasing time a state, at least 2"):
            indices.area_under(np.ones((3, 2)), times)


OF_ONE_MATRIX = [
    indices.off_diagonal_mean,
    indices.long_range_mean,
    indices.lag_slope,
    indices.effective_rank,
    indices.same_depth_mean,
    indices.depth_agreement,
    lambda c: indices.stage_contrast(c, STAGES),
    lambda c: indices.share_above(c, 0.5),
    lambda c: indices.longest_run(c, 0.5),
    lambda c: indices.mean_by_lag(c)[..., 0],
]


@pytest.mark.parametrize("index", OF_ONE_MATRIX)
def test_resamples_in_front_are_taken_one_by_one(index):
    rng = np.random.default_rng(0)
    c = np.stack([np.corrcoef(rng.normal(size=(10, 6)).cumsum(axis=0)) for _ in range(6)]).reshape(2, 3, 10, 10)
    found = index(c)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, [[index(one) for one in row] for row in c])


@pytest.mark.parametrize("index", OF_ONE_MATRIX[:-1])
def test_an_undefined_layer_makes_an_index_nan_and_no_other_resample(index):
    c = np.stack([blocks(0.9, 0.4)] * 2)
    c[0, :, 4] = c[0, 4, :] = np.nan
    found = index(c) if index is not indices.long_range_mean else index(np.roll(c, 4, axis=(1, 2)))
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


@pytest.mark.parametrize("c", [np.ones(3), np.ones((2, 3)), np.ones((1, 1))])
def test_what_is_no_square_matrix_of_two_layers_is_refused(c):
    with pytest.raises(BadInput, match="give similarities .* of at least 2 layers"):
        indices.off_diagonal_mean(c)
