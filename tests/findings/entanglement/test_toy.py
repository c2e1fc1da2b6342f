"""Points that follow the loss: where each of the four paths goes."""

import pytest
import torch

from reprolib.errors import BadInput
from reprolib.findings.entanglement import toy
from reprolib.measures.soft_nearest_neighbor import soft_nearest_neighbor_loss


@pytest.fixture(scope="module")
def paths():
    return toy.paths((0, 10, 30))


def test_all_paths_begin_at_the_same_points_below_the_bound(paths):
    assert [(path.is_entangling, path.temperature) for path in paths] == [(False, 1.0), (True, 1.0), (False, None), (True, None)]
    for path in paths:
        assert torch.equal(path.frames[0], paths[0].frames[0])
        assert path.frames.shape == (3, 200, 2)
        assert 0.99 < path.shares[0] < 1


def test_points_are_pulled_apart_at_a_fixed_temperature_and_at_the_minimum(paths):
    for path in (paths[0], paths[2]):
        assert path.shares[-1] < 0.1


def test_at_a_fixed_temperature_the_loss_grows_beyond_the_bound_and_at_the_minimum_points_rest_at_it(paths):
    _, fixed, _, least = paths
    bound = float(soft_nearest_neighbor_loss(fixed.frames[0], fixed.y, float("inf")))
    assert float(soft_nearest_neighbor_loss(fixed.frames[-1], fixed.y, toy.TEMPERATURE)) == pytest.approx(
        fixed.followed[-1] * bound, rel=1e-4
    )
    assert fixed.followed[-1] > 1.5
    assert least.shares[-1] == pytest.approx(1)
    assert torch.equal(least.frames[1], least.frames[2])  # no gradient there


def test_no_step_is_longer_than_allowed_and_the_points_given_stay():
    x, y = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    before = x.clone()
    path = toy.follow(x, y, True, 0.5, (0, 1, 2, 3))
    moves = (path.frames[1:] - path.frames[:-1]).norm(dim=2)
    assert float(moves.max()) <= toy.FARTHEST * 1.001
    assert float(moves.mean()) > 0.01
    assert torch.equal(x, before)
    assert not x.requires_grad


@pytest.mark.parametrize("steps", [(), (1, 2), (0, 5, 3)])
def test_steps_that_do_not_rise_from_0_are_refused(steps):
    with pytest.raises(BadInput, match="give whole numbers that rise from 0"):
        toy.follow(torch.randn(8, 2), torch.arange(8) % 2, False, None, steps)
