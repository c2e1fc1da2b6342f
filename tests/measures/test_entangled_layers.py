"""Many layers at once: entanglement against dense scans and against the single batch; spread against its closed forms; what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from problems import generator
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.entangled_layers import entanglements, spread_ratio, squared_distances
from reprolib.measures.neighbour_sums import pairs_of
from reprolib.measures.soft_nearest_neighbor import entanglement


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def clusters(n: int = 60, n_classes: int = 3, apart: float = 2.0, seed: int = 0, d: int = 4) -> tuple[Tensor, Tensor]:
    """Gaussian classes whose means are random, `apart` standard deviations long in every direction."""
    y = torch.arange(n)[torch.randperm(n, generator=generator(seed))] % n_classes
    return normal(n, d, seed=seed) + apart * normal(n_classes, d, seed=seed + 100)[y], y


def stacked(y: Tensor, *layers: Tensor) -> Tensor:
    return torch.stack([squared_distances(one) for one in layers])


# --- distances


def test_distances_are_those_of_every_pair_also_far_from_the_origin_and_of_maps() -> None:
    x = normal(12, 3, 2, 2)
    wanted = (x.flatten(1)[:, None] - x.flatten(1)).square().sum(dim=2)
    for moved, tolerance in ((x, 1e-12), (x + 100, 1e-9), (x.float() + 100, 1e-3), (x.bfloat16().double(), 0.2)):
        found = squared_distances(moved)
        assert found.dtype == torch.float64
        assert torch.allclose(found, wanted, atol=tolerance)
        assert not found.diagonal().any()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_squares_that_leave_single_precision_are_made_in_double(scale: float) -> None:
    x, y = clusters()
    small, plain = entanglements(squared_distances((scale * x).float()), y), entanglements(squared_distances(x), y)
    assert small.share.tolist() == pytest.approx(plain.share.tolist(), rel=1e-4)


# --- entanglement


def test_the_minimum_is_no_higher_than_a_dense_scan_of_temperatures() -> None:
    """50 problems of 2,000 temperatures each: within 1e-4 of the bound, and never below what the formula allows."""
    for seed in range(50):
        d, n_classes = (2, 10, 100)[seed % 3], (2, 5, 10)[seed % 3]
        x, y = clusters(50, n_classes, (0.0, 0.3, 1.0, 3.0)[seed % 4], seed, d)
        pairs, _ = pairs_of(x, y, "euclidean")
        scan = pairs.curve((pairs.median * torch.logspace(-3, 3, 2_000, dtype=torch.float64)).tolist())
        found = entanglements(squared_distances(x.float()), y)
        lowest = min(float(scan.min()), pairs.bound)
        assert lowest - 1e-5 * pairs.bound <= float(found.value) <= lowest + 1e-4 * pairs.bound
        assert found.bound == pytest.approx(pairs.bound, rel=1e-12)


def test_layers_measured_together_are_what_each_is_alone() -> None:
    y = clusters()[1]
    layers = [clusters(apart=apart, d=d, seed=seed)[0] for seed, (apart, d) in enumerate([(0.0, 2), (0.5, 30), (2.0, 5), (20.0, 3)])]
    layers[1:3] = [1e4 * layers[1], 1e-4 * layers[2]]  # of very different sizes
    together = entanglements(stacked(y, *layers), y)
    for k, one in enumerate(layers):
        alone, exact = entanglements(squared_distances(one), y), entanglement(one, y)
        assert float(together.value[k]) == pytest.approx(float(alone.value[0]), rel=1e-6)
        assert float(together.value[k]) == pytest.approx(exact.value, abs=1e-4 * exact.bound)
        assert bool(together.at_bound[k]) == exact.at_bound
        if not exact.at_bound:
            assert float(together.relative_temperature[k]) == pytest.approx(exact.relative_temperature, rel=0.05)
            assert float(together.temperature[k]) == pytest.approx(exact.temperature, rel=0.05)


def test_features_that_say_nothing_are_at_the_bound_and_points_in_one_place_too() -> None:
    y = torch.arange(128) % 10
    found = entanglements(stacked(y, normal(128, 512), torch.ones(128, 3)), y)
    assert found.at_bound.tolist() == [True, True]
    assert found.share.tolist() == [1.0, 1.0]
    assert found.temperature.tolist() == found.relative_temperature.tolist() == [math.inf, math.inf]


def test_classes_far_apart_and_duplicates_have_next_to_no_entanglement() -> None:
    x, y = clusters()
    far = x + 200 * torch.eye(3, 4, dtype=torch.float64)[y]
    found = entanglements(stacked(y, far, torch.eye(3, 4)[y]), y)
    assert found.share.max() < 0.01
    assert not found.at_bound.any()


def test_points_alone_in_their_class_are_neighbours_but_no_anchors() -> None:
    x, y = clusters()
    y[[5, 9]] = torch.tensor([17, 23])
    found, exact = entanglements(squared_distances(x), y), entanglement(x, y)
    assert found.bound == pytest.approx(exact.bound, rel=1e-12)
    assert float(found.value) == pytest.approx(exact.value, abs=1e-4 * exact.bound)


def test_two_calls_are_equal_and_leave_no_trace() -> None:
    x, y = clusters()
    d = squared_distances(x)
    before = d.clone()
    first, again = entanglements(d, y), entanglements(d, y)
    assert torch.equal(first.value, again.value)
    assert torch.equal(d, before)


# --- spread


def test_two_classes_on_a_line_have_the_spread_that_can_be_counted() -> None:
    x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])  # each 1 from its mean; the means 10 apart
    y = torch.tensor([4, 4, 7, 7])
    assert float(spread_ratio(squared_distances(x), y)) == pytest.approx(0.1, rel=1e-6)
    assert spread_ratio(stacked(y, x, 3 * x + 50), y).tolist() == pytest.approx([0.1, 0.1], rel=1e-5)


def test_spread_is_mean_distance_to_the_class_mean_over_that_between_means_also_of_unequal_classes() -> None:
    x, y = clusters(61, 4, 1.5)
    means = torch.stack([x[y == k].mean(dim=0) for k in range(4)])
    own = (x - means[y]).norm(dim=1).mean()
    apart = torch.stack([(means[a] - means[b]).norm() for a in range(4) for b in range(a)]).mean()
    assert float(spread_ratio(squared_distances(x), y)) == pytest.approx(float(own / apart), rel=1e-9)


def test_equal_gaussians_have_the_spread_of_their_formula() -> None:
    n, d, apart = 2_000, 50, 30.0
    y = torch.arange(n) % 2
    x = normal(n, d) + torch.nn.functional.one_hot(y, d) * apart / 2**0.5
    assert float(spread_ratio(squared_distances(x), y)) == pytest.approx(d**0.5 / apart, rel=0.02)


def test_spread_of_class_means_in_one_place_is_infinite_and_of_all_points_in_one_place_undefined() -> None:
    y = torch.tensor([0, 0, 1, 1])
    crossed = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    found = spread_ratio(stacked(y, crossed, torch.ones(4, 2)), y)
    assert found[0] > 1e6
    assert found[1].isnan()


# --- what is refused


@pytest.mark.parametrize("measure", [entanglements, spread_ratio])
@pytest.mark.parametrize(
    ("distances", "y", "words"),
    [
        (torch.ones(4, 3), torch.zeros(4, dtype=torch.long), r"distances are torch.float32 of shape \(4, 3\): give squared distances"),
        (torch.ones(4, 4, dtype=torch.long), torch.arange(4) % 2, r"distances are torch.int64"),
        (torch.ones(1, 1), torch.zeros(1, dtype=torch.long), "of at least two points"),
        ([1], torch.zeros(1, dtype=torch.long), "distances are a list"),
        (torch.ones(4, 4), torch.zeros(3, dtype=torch.long), r"labels are torch.int64 of shape \(3,\) for 4"),
        (torch.ones(4, 4), torch.zeros(4), "give whole class numbers"),
        (torch.ones(4, 4), torch.full((4,), 3), "all 4 samples are of one class: give samples of at least two"),
    ],
)
def test_what_has_no_answer_is_refused_in_words(measure: object, distances: Tensor, y: Tensor, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        measure(distances, y)  # type: ignore[operator]


def test_every_point_alone_in_its_class_is_refused() -> None:
    with pytest.raises(BadInput, match="each of the 4 samples is alone in its class"):
        entanglements(torch.ones(4, 4), torch.arange(4))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.ones(4), r"features are torch.float32 of shape \(4,\)"),
        (torch.ones(1, 3), "at least two samples"),
        (torch.ones(4, 3, dtype=torch.long), "features are torch.int64"),
        (torch.ones(4, 3).numpy(), "features are a ndarray"),
        (torch.ones(4, 3).index_fill(0, torch.tensor([2]), math.nan), r"features of samples \[2\] hold values that are not finite"),
        (torch.ones(4, 3).index_fill(0, torch.tensor([1]), math.inf), r"features of samples \[1\] hold values that are not finite"),
    ],
)
def test_features_without_distances_are_refused(x: Tensor, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        squared_distances(x)
