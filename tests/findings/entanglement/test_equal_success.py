"""Radii of equal success, on networks whose margins are known."""

from __future__ import annotations

import math

import problems
import pytest
import torch
from torch import Tensor, nn

from reprolib.errors import BadInput
from reprolib.findings.entanglement.equal import attacked, radius_for, success_of
from reprolib.perturb.attacks import predictions

N = 200


class Blind(nn.Module):
    """Class 0 whatever it sees, with a gradient of 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 2)."""
        return x.flatten(1).sum(dim=1, keepdim=True) * 0 + torch.tensor([1.0, -1.0])


def seen(model: problems.Linear) -> tuple[Tensor, Tensor]:
    """Images in the middle of the pixel range, and the classes that the model gives them."""
    x = problems.images(N, 3, 8, 8, low=0.35, high=0.65)
    return x, model.labels(x)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("success", [0.5, 0.8])
def test_the_radius_is_the_quantile_of_the_margins(norm: str, success: float) -> None:
    model = problems.linear()
    x, y = seen(model)
    found = radius_for(model, x, y, success, norm, steps=10)
    margins = model.margin(x, norm)
    assert found.reached
    assert found.n == N
    assert abs(found.success - success) <= 0.02
    assert float((margins < found.eps).double().mean()) == pytest.approx(found.success, abs=0.01)
    moved = attacked(model, x, y, norm, found.eps, steps=10)
    assert success_of(model, moved, y) == pytest.approx(found.success, abs=0.01)
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_attacked_images_use_the_whole_radius_and_stay_in_the_ball(norm: str) -> None:
    model = problems.linear()
    x, y = seen(model)
    moved = attacked(model, x, y, norm, 0.1, steps=10)
    assert moved.shape == x.shape
    assert moved.amin() >= 0
    assert moved.amax() <= 1
    assert torch.allclose(moved, model.worst(x, y, norm, 0.1), atol=1e-4)
    assert torch.equal(moved, attacked(model, x, y, norm, 0.1, steps=10))
    assert torch.equal(attacked(model, x, y, norm, 0.0, steps=3), x)


def test_images_that_are_wrong_from_the_start_do_not_count() -> None:
    model = problems.linear()
    x, y = seen(model)
    y[:50] = 1 - y[:50]
    found, alone = radius_for(model, x, y, 0.5, steps=5), radius_for(model, x[50:], y[50:], 0.5, steps=5)
    assert found == alone
    assert found.n == N - 50
    none = radius_for(model, x, 1 - model.labels(x), 0.5)
    assert (none.eps, none.success, none.n, none.reached) == (0.0, 0.0, 0, False)


def test_a_network_that_no_attack_fools_is_told_so() -> None:
    x = problems.images(20, 3, 8, 8)
    found = radius_for(Blind(), x, torch.zeros(20, dtype=torch.int64), 0.5, steps=2)
    assert not found.reached
    assert found.success == 0
    assert found.eps == pytest.approx(math.sqrt(192))


def test_a_trained_networks_mode_and_verdict_stay_its_own() -> None:
    network = problems.network("tinycnn", seed=3).train()
    x = problems.images(40, 3, 16, 16)
    y = predictions(network, x)
    found = radius_for(network, x, y, 0.5, steps=5)
    assert network.training
    moved = attacked(network, x, y, "l2", found.eps, steps=5)
    assert success_of(network, moved, y) == pytest.approx(0.5, abs=0.1)
    assert success_of(network, moved[:0], y[:0]) == 0


@pytest.mark.parametrize("success", [0.0, 1.0, 50.0, math.nan])
def test_what_is_no_share_is_refused(success: float) -> None:
    x = problems.images(4, 3, 8, 8)
    with pytest.raises(BadInput, match="between 0 and 1"):
        radius_for(problems.linear(), x, torch.zeros(4, dtype=torch.int64), success)
    with pytest.raises(BadInput, match="norm"):
        radius_for(problems.linear(), x, torch.zeros(4, dtype=torch.int64), 0.5, norm="l1")
