"""The loss against its formula in float64; the minimum against dense scans; gradients against finite differences; what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from problems import generator
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures import neighbour_sums
from reprolib.measures.neighbour_sums import pairs_of
from reprolib.measures.soft_nearest_neighbor import METRICS, entanglement, minimised, soft_nearest_neighbor_loss

TEMPERATURES = (0.01, 1, 10, 100, 1000)
every_metric = pytest.mark.parametrize("metric", METRICS)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def labels(n: int, n_classes: int, seed: int = 0) -> Tensor:
    return torch.arange(n)[torch.randperm(n, generator=generator(seed))] % n_classes


def clusters(n: int = 60, n_classes: int = 3, apart: float = 2.0, seed: int = 0, d: int = 4) -> tuple[Tensor, Tensor]:
    """Gaussian classes whose means are random, `apart` standard deviations long in every direction."""
    y = labels(n, n_classes, seed)
    return normal(n, d, seed=seed) + apart * normal(n_classes, d, seed=seed + 100)[y], y


def by_the_formula(x: Tensor, y: Tensor, temperature: float, metric: str = "euclidean") -> float:
    """Eq. 1 in float64, pair by pair: no product of matrices, no shift."""
    x = x.double().flatten(1)
    rows = torch.nn.functional.normalize(x, dim=1)
    distances = (x[:, None] - x).square().sum(dim=2) if metric == "euclidean" else 1 - (rows[:, None] * rows).sum(dim=2)
    scores = (-distances / temperature).fill_diagonal_(-math.inf)
    own = scores.masked_fill(y[:, None] != y, -math.inf)
    losses = scores.logsumexp(dim=1) - own.logsumexp(dim=1)
    return float(losses[own.amax(dim=1) > -math.inf].mean())


@pytest.fixture(params=["dense", "tiled"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms, the one of large sets with tiles that end inside classes."""
    if request.param == "tiled":
        monkeypatch.setattr(neighbour_sums, "DENSE", 1)
        monkeypatch.setattr(neighbour_sums, "TILE", 25)
    return request.param


# --- the value


@every_metric
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("offset", [0, 100])
def test_the_loss_in_single_precision_is_the_formula_in_double(form: str, temperature: float, offset: float, metric: str) -> None:
    x, y = normal(128, 512, dtype=torch.float32) + offset, labels(128, 10)
    found = soft_nearest_neighbor_loss(x, y, temperature, metric)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(by_the_formula(x, y, temperature, metric), rel=1e-4)


@pytest.mark.parametrize("temperature", [10, 100, 1000])
def test_an_offset_changes_nothing_in_euclidean_distances(form: str, temperature: float) -> None:
    x, y = normal(128, 512, dtype=torch.float32), labels(128, 10)
    moved = soft_nearest_neighbor_loss(x + 100, y, temperature)
    assert float(moved) == pytest.approx(float(soft_nearest_neighbor_loss(x, y, temperature)), rel=1e-4)


def test_the_cosine_is_that_of_the_given_rows_not_of_centred_ones(form: str) -> None:
    x, y = clusters(apart=0.5)
    moved = float(soft_nearest_neighbor_loss(x + 100, y, 1e-4, "cosine"))
    assert moved == pytest.approx(by_the_formula(x + 100, y, 1e-4, "cosine"), rel=1e-6)
    assert abs(moved - float(soft_nearest_neighbor_loss(x, y, 1e-4, "cosine"))) > 0.1 * moved


def test_the_cosine_is_half_the_squared_distance_of_normalised_rows(form: str) -> None:
    x, y = clusters()
    rows = x / x.norm(dim=1, keepdim=True)
    cosine, euclidean = soft_nearest_neighbor_loss(x, y, 0.3, "cosine"), soft_nearest_neighbor_loss(rows, y, 0.6)
    assert float(cosine) == pytest.approx(float(euclidean), rel=1e-12)


def test_a_row_of_zeros_is_as_far_from_every_row_as_a_right_angle(form: str) -> None:
    x, y = clusters()
    x[[3, 4]] = 0
    found = soft_nearest_neighbor_loss(x.requires_grad_(), y, 0.3, "cosine")
    found.backward()
    assert found.item() == pytest.approx(by_the_formula(x.detach(), y, 0.3, "cosine"), rel=1e-12)
    assert x.grad is not None
    assert not x.grad[[3, 4]].any()
    assert torch.isfinite(x.grad).all()


def test_maps_are_flattened_row_by_row_and_not_square_features_have_their_own_distances(form: str) -> None:
    x, y = normal(12, 3, 4, 4), labels(12, 3)
    assert float(soft_nearest_neighbor_loss(x, y, 20.0)) == pytest.approx(by_the_formula(x, y, 20.0), rel=1e-12)


@every_metric
def test_at_infinite_temperature_the_loss_is_the_bound_exactly(form: str, metric: str) -> None:
    x, y = clusters()
    y[:7] = 0  # not balanced
    sizes = y.bincount()[y]
    bound = -float(((sizes - 1).double() / (len(y) - 1)).log().mean())
    assert float(soft_nearest_neighbor_loss(x, y, math.inf, metric)) == pytest.approx(bound, rel=1e-12)
    assert float(soft_nearest_neighbor_loss(x, y, 1e9, metric)) == pytest.approx(bound, rel=1e-5)
    assert entanglement(x, y, metric).bound == pytest.approx(bound, rel=1e-12)


def test_an_anchor_alone_in_its_class_is_dropped_counted_and_stays_a_neighbour(form: str) -> None:
    x, y = clusters()
    y[[5, 9]] = torch.tensor([17, 23])
    assert float(soft_nearest_neighbor_loss(x, y, 2.0)) == pytest.approx(by_the_formula(x, y, 2.0), rel=1e-12)
    assert entanglement(x, y).n_dropped == 2
    assert entanglement(*clusters()).n_dropped == 0


def test_class_numbers_are_names() -> None:
    x, y = clusters()
    renamed = torch.tensor([900, -4, 17])[y].short()
    assert float(soft_nearest_neighbor_loss(x, renamed, 1.0)) == float(soft_nearest_neighbor_loss(x, y, 1.0))


def test_one_class_alone_has_nothing_to_be_entangled_with(form: str) -> None:
    x = normal(8, 3).requires_grad_()
    found = soft_nearest_neighbor_loss(x, torch.zeros(8, dtype=torch.long), 1.0)
    found.backward()
    assert found.item() == 0
    assert x.grad is not None
    assert not x.grad.any()
    assert math.isnan(entanglement(x, torch.zeros(8, dtype=torch.long)).share)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_cost_no_digits(dtype: torch.dtype) -> None:
    x, y = clusters(d=300)
    half = x.to(dtype)
    wanted = by_the_formula(half, y, 50.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = soft_nearest_neighbor_loss(half, y, 50.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(wanted, rel=1e-5)


@every_metric
@pytest.mark.parametrize("scale", [1e-25, 1e-4, 3.0, 1e25])
def test_scaling_the_features_changes_nothing_at_the_minimum(form: str, scale: float, metric: str) -> None:
    x, y = clusters(apart=1.0)
    one, other = entanglement(x.float(), y, metric), entanglement(x.float() * scale, y, metric)
    assert other.value == pytest.approx(one.value, rel=1e-5)
    assert other.relative_temperature == pytest.approx(one.relative_temperature, rel=2e-2)


def test_neither_calls_nor_features_leave_a_trace(form: str) -> None:
    x, y = clusters()
    before = x.clone()
    first = entanglement(x, y)
    torch.rand(5)
    assert entanglement(x, y) == first
    assert torch.equal(x, before)


def test_both_forms_agree_at_every_temperature_of_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(2_000, 16, seed=3, dtype=torch.float32) + 100, labels(2_000, 10)
    dense, _ = pairs_of(x, y, "euclidean")
    monkeypatch.setattr(neighbour_sums, "DENSE", 1)
    tiled, _ = pairs_of(x, y, "euclidean")
    grid = [30 * 10 ** (k / 4) for k in range(-12, 13)]
    assert tiled.curve(grid) == pytest.approx(dense.curve(grid), rel=1e-6)


# --- the minimum


@every_metric
def test_the_minimum_is_no_higher_than_a_dense_scan_of_temperatures(metric: str) -> None:
    """50 problems in all, 2,000 temperatures each: 1e-4 of the bound for the loss and for entanglement, 1e-3 in training."""
    for seed in range(25):
        d, n_classes = (2, 10, 100)[seed % 3], (2, 5, 10)[seed % 3]
        x, y = clusters(50, n_classes, (0.0, 0.3, 1.0, 3.0)[seed % 4], seed, d)
        pairs, _ = pairs_of(x, y, metric)
        scan = pairs.curve((pairs.median * torch.logspace(-3, 3, 2_000, dtype=torch.float64)).tolist())
        lowest = min(float(scan.min()), pairs.bound)
        assert entanglement(x, y, metric).value <= lowest + 1e-4 * pairs.bound
        assert float(soft_nearest_neighbor_loss(x.float(), y, metric=metric)) <= lowest + 1e-4 * pairs.bound
        assert float(minimised(x.float(), y, metric)[0]) <= lowest + 1e-3 * pairs.bound


def test_the_minimum_of_a_large_set_is_that_of_all_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        x, y = clusters(300, 5, (0.3, 0.6, 1.0, 2.0)[seed], seed, 8)
        exact = entanglement(x, y)
        with monkeypatch.context() as patch:
            patch.setattr(neighbour_sums, "DENSE", 1)
            found = entanglement(x, y)
        assert exact.value - 1e-9 <= found.value <= exact.value + 1e-4 * exact.bound


def test_the_minimum_is_never_above_the_bound_and_says_when_it_is_there(form: str) -> None:
    x, y = normal(128, 512), labels(128, 10)
    found = entanglement(x, y)  # nothing to be found in random labels of far points
    assert found.at_bound
    assert (found.value, found.temperature, found.share) == (found.bound, math.inf, 1.0)
    assert "at the bound" in str(found)
    soft_nearest_neighbor_loss(x.requires_grad_(), y).backward()
    assert x.grad is not None
    assert not x.grad.any()


@every_metric
def test_separated_classes_have_next_to_no_entanglement(form: str, metric: str) -> None:
    x, y = clusters(apart=0.0)
    found = entanglement(x + 200 * torch.eye(3, 4, dtype=torch.float64)[y], y, metric)
    assert found.share < 0.1
    assert not found.at_bound
    assert 0 < found.temperature < math.inf


def test_points_all_in_one_place_are_at_the_bound(form: str) -> None:
    found = entanglement(torch.ones(8, 3), labels(8, 2))
    assert found.at_bound
    assert found.value == pytest.approx(-math.log(3 / 7))


def test_the_minimum_over_temperature_finds_the_scale_that_a_fixed_one_misses() -> None:
    x, y = clusters(apart=1.0)
    lowest, *fixed = (float(soft_nearest_neighbor_loss(1e4 * x, y, t)) for t in (None, 1.0, 1e12))
    assert lowest < 0.7 * min(fixed)


# --- gradients


@every_metric
@pytest.mark.parametrize("temperature", [0.05, 1.0, 30.0])
def test_gradients_match_finite_differences_also_with_duplicates_and_singletons(form: str, temperature: float, metric: str) -> None:
    x, y = clusters(14, 3, 1.0)
    x[1], x[7] = x[0], x[2]
    y[5] = 9
    assert torch.autograd.gradcheck(lambda z: soft_nearest_neighbor_loss(z, y, temperature, metric), x.requires_grad_())


@every_metric
def test_the_gradient_of_the_minimum_is_that_at_its_temperature(metric: str) -> None:
    x, y = clusters(14, 3, 1.0)
    x[1] = x[0]
    assert not entanglement(x, y, metric).at_bound
    assert torch.autograd.gradcheck(lambda z: soft_nearest_neighbor_loss(z, y, metric=metric), x.requires_grad_(), atol=1e-5, rtol=1e-3)


def test_duplicates_have_a_finite_gradient_in_single_precision(form: str) -> None:
    x = clusters()[0].float()[:20].repeat(3, 1).requires_grad_()
    soft_nearest_neighbor_loss(x, labels(60, 3)).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_a_few_steps_along_the_gradient_entangle_and_disentangle(form: str) -> None:
    for direction in (-1, 1):
        x, y = clusters(apart=0.5)
        before = entanglement(x, y).value
        for _ in range(5):
            x = x.detach().requires_grad_()
            soft_nearest_neighbor_loss(x, y).backward()
            assert x.grad is not None
            x = x + direction * 5 * x.grad
        assert direction * (entanglement(x, y).value - before) > 0.05


def test_no_gradient_is_kept_where_none_is_asked_for(form: str) -> None:
    x, y = clusters()
    assert not soft_nearest_neighbor_loss(x, y).requires_grad
    with torch.no_grad():
        assert not soft_nearest_neighbor_loss(x.requires_grad_(), y).requires_grad
    with torch.inference_mode():
        assert float(soft_nearest_neighbor_loss(x, y)) == entanglement(x, y).value


def test_the_lines_of_the_page_train() -> None:
    page = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "soft_nearest_neighbor_loss" in block)
    images, y = normal(12, 6, dtype=torch.float32), labels(12, 3)
    first, last = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)
    hidden = [first(images)]
    exec(block, {"F": torch.nn.functional, "logits": last(hidden[0].relu()), "y": y, "hidden": hidden})
    assert first.weight.grad is not None
    assert first.weight.grad.any()


# --- what is refused


@pytest.mark.parametrize(
    ("x", "y", "more", "words"),
    [
        (normal(4, 2), torch.zeros(3, dtype=torch.long), {}, r"of shape \(3,\) for 4 .*give whole class numbers \(4,\)"),
        (normal(4, 2), torch.zeros(4, 2, dtype=torch.long), {}, r"of shape \(4, 2\) for 4 .*of one-hot rows take .argmax\(1\)"),
        (normal(4, 2), torch.zeros(4), {}, "are torch.float32 of shape .*give whole class numbers"),
        (normal(1, 2), torch.zeros(1, dtype=torch.long), {}, "one sample has no neighbours: give at least two samples of one class"),
        (normal(4, 2), torch.arange(4), {}, "each of the 4 samples is alone in its class: give at least two samples of one class"),
        (normal(4, 2), torch.zeros(4, dtype=torch.long), {"temperature": 0}, "temperature=0 is not allowed: give a number above 0"),
        (normal(4, 2), torch.zeros(4, dtype=torch.long), {"temperature": "1"}, "temperature='1' is not allowed: give a number above 0"),
        (normal(4, 2), torch.zeros(4, dtype=torch.long), {"temperature": -2.5}, "temperature=-2.5 is not allowed"),
        (normal(4, 2), torch.zeros(4, dtype=torch.long), {"temperature": math.nan}, "temperature=nan is not allowed"),
        (normal(4, 2), torch.zeros(4, dtype=torch.long), {"metric": "cosin"}, "metric 'cosin' is unknown; allowed: euclidean, cosine; did you"),
        (normal(4, 2) / 0, torch.zeros(4, dtype=torch.long), {}, r"features of samples \[0, 1, 2, 3\] hold values that are not finite"),
        (torch.ones(4, 2, dtype=torch.long), torch.zeros(4, dtype=torch.long), {}, r"features are torch.int64 of shape \(4, 2\): give floating"),
        (normal(4), torch.zeros(4, dtype=torch.long), {}, r"features are torch.float64 of shape \(4,\): give floating point features \(n, ...\)"),
        (normal(0, 2), torch.zeros(0, dtype=torch.long), {}, r"of shape \(0, 2\)"),
        (normal(4, 2).numpy(), torch.zeros(4, dtype=torch.long), {}, "features are a ndarray"),
    ],
)  # fmt: skip
def test_what_has_no_answer_is_refused_in_words(x: Tensor, y: Tensor, more: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        soft_nearest_neighbor_loss(x, y, **more)  # type: ignore[arg-type]
    if "temperature" not in more:
        with pytest.raises(BadInput, match=words):
            entanglement(x, y, **more)  # type: ignore[arg-type]
