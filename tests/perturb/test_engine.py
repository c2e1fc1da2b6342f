"""The loop under every attack and inversion: its constraints, its steps, and what one step costs."""

import math

import problems
import pytest
import torch
from scipy import stats

from reprolib.errors import BadInput
from reprolib.perturb.engine import Box, L2Ball, LinfBall, Stepper, minimise

BALLS = [Box(), LinfBall(0.3), L2Ball(0.4)]


def quadratic(centre):
    """Loss 1/2 ||x - centre||^2 per sample, minimal at `centre`."""

    def objective(x, index):
        return 0.5 * (x - centre[index]).flatten(1).square().sum(dim=1)

    return objective


def counted(objective):
    tally = problems.Tally()
    return tally, lambda x, index: objective(tally(x), index)


# --- constraints


def test_l2_random_starts_are_uniform_in_the_ball():
    n, shape, eps = 4000, (3, 1, 2), 0.3
    x = torch.full((n, *shape), 0.5)  # the ball lies inside the box
    delta = (L2Ball(eps).random_start(x, problems.generator()) - x).flatten(1).double()
    d = delta.shape[1]
    share_of_volume = (delta.norm(dim=1) / eps) ** d  # uniform in [0, 1] exactly when the radius is eps u^(1/d)
    assert stats.kstest(share_of_volume.numpy(), "uniform").pvalue > 0.01
    # no direction is preferred: (1 + u) / 2 of a coordinate u of a direction in d dimensions is Beta((d - 1) / 2, (d - 1) / 2)
    direction = (delta / delta.norm(dim=1, keepdim=True) + 1) / 2
    assert all(stats.kstest(axis.numpy(), stats.beta((d - 1) / 2, (d - 1) / 2).cdf).pvalue > 0.01 for axis in direction.T)
    # and the covariance of a uniform ball is eps^2 / (d + 2) times the identity
    covariance = delta.T @ delta / n * (d + 2) / eps**2
    torch.testing.assert_close(covariance, torch.eye(d, dtype=torch.float64), rtol=0, atol=0.1)
    assert delta.mean(dim=0).abs().max() < 0.1 * eps


def test_linf_random_starts_are_uniform_in_the_cube():
    x = torch.full((500, 3, 2, 2), 0.5)
    delta = LinfBall(0.2).random_start(x, problems.generator()) - x
    assert stats.kstest(delta.flatten().numpy(), "uniform", args=(-0.2, 0.4)).pvalue > 0.01


def test_box_random_starts_are_uniform_pixels_wherever_the_image_lies():
    start = Box().random_start(torch.zeros(500, 3, 2, 2), problems.generator())
    assert stats.kstest(start.flatten().numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("constraint", BALLS)
def test_random_starts_lie_in_the_box_and_the_ball_also_at_a_corner_of_the_box(constraint):
    x = torch.cat([problems.images(200, 3, 4, 4).round(), problems.images(200, 3, 4, 4)])
    start = constraint.random_start(x, problems.generator())
    _assert_inside(constraint, start, x)
    assert not torch.equal(start, constraint.random_start(x, problems.generator(1)))
    assert torch.equal(start, constraint.random_start(x, problems.generator()))


@pytest.mark.parametrize("constraint", BALLS)
def test_projection_lands_inside_and_leaves_alone_what_is_inside(constraint):
    x = problems.images(100, 3, 4, 4)
    moved = x + torch.randn(x.shape, generator=problems.generator(1))
    projected = constraint.project(moved, x)
    _assert_inside(constraint, projected, x)
    torch.testing.assert_close(constraint.project(projected, x), projected, rtol=0, atol=1e-6)
    assert torch.equal(constraint.project(x, x), x)


def test_l2_projection_keeps_the_direction():
    x = torch.full((1, 3, 2, 2), 0.5)
    delta = torch.randn(x.shape, generator=problems.generator())
    projected = L2Ball(0.1).project(x + delta, x) - x
    torch.testing.assert_close(projected, 0.1 * delta / delta.norm(), rtol=1e-5, atol=1e-7)


def test_l2_projection_clips_last_so_that_no_pixel_leaves_the_range():
    x = torch.zeros(1, 1, 1, 2)
    projected = L2Ball(0.5).project(torch.tensor([[[[-3.0, 4.0]]]]), x)
    torch.testing.assert_close(projected, torch.tensor([[[[0.0, 0.4]]]]))


def _assert_inside(constraint, moved, x):
    assert moved.min() >= 0
    assert moved.max() <= 1
    delta = (moved - x).flatten(1)
    if isinstance(constraint, LinfBall):
        assert delta.abs().max() <= constraint.eps + 1e-6
    if isinstance(constraint, L2Ball):
        assert delta.norm(dim=1).max() <= constraint.eps + 1e-5


# --- steps


def test_the_normalised_step_has_the_stated_length_whatever_the_gradient():
    gradient = torch.randn(5, 3, 4, 4, generator=problems.generator()) * torch.logspace(-4, 4, 5).view(5, 1, 1, 1)
    torch.testing.assert_close(Stepper(0.1).direction(gradient).flatten(1).norm(dim=1), torch.ones(5), rtol=1e-4, atol=0)


def test_a_cosine_step_falls_from_its_size_to_nearly_zero_and_sums_to_half():
    stepper = Stepper(0.2, schedule="cosine")
    lengths = [stepper.length(k, 50) for k in range(50)]
    assert lengths[0] == 0.2
    assert lengths == sorted(lengths, reverse=True)
    assert 0 < lengths[-1] < 0.001
    assert sum(lengths) == pytest.approx(0.2 * 51 / 2)
    assert [Stepper(0.2).length(k, 50) for k in (0, 49)] == [0.2, 0.2]


def test_no_path_is_longer_than_the_reach():
    """A gradient that never turns is the longest way a stepper can go."""
    for stepper, share in ((Stepper(0.01), 0.999), (Stepper(0.01, "l2", "cosine", 0.9), 0.7)):
        start, slope = torch.full((1, 3, 8, 8), 0.5), torch.ones(1, 3, 8, 8)
        moved = minimise(lambda x, index, slope=slope: (x * slope).flatten(1).sum(dim=1), start, start, Box(), stepper, 60)
        went = (moved.x - start).norm().item()
        reach = sum(stepper.length(k, 60) for k in range(60)) / (1 - stepper.momentum)
        assert share * reach < went <= reach * (1 + 1e-5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "linf"}, "stepper kind 'linf' is unknown; allowed: l2, sign, raw"),
        ({"schedule": "cosin"}, "step schedule 'cosin' is unknown; allowed: constant, cosine"),
    ],
)
def test_an_unknown_stepper_is_refused_by_name(setting, message):
    with pytest.raises(BadInput) as refusal:
        Stepper(0.1, **setting)
    assert str(refusal.value) == message


# --- the loop


@pytest.mark.parametrize("kind", ["l2", "raw"])
def test_the_minimum_inside_the_box_is_found(kind):
    centre = problems.images(4, 3, 4, 4, seed=1)
    start = problems.images(4, 3, 4, 4, seed=2)
    moved = minimise(quadratic(centre), start, start, Box(), Stepper(0.2, kind, "cosine", 0.5), 150)
    torch.testing.assert_close(moved.x, centre, rtol=0, atol=2e-3)


def test_the_minimum_on_the_ball_is_the_nearest_point_of_the_ball():
    reference = torch.full((4, 3, 4, 4), 0.5)
    centre = problems.images(4, 3, 4, 4, seed=1)
    moved = minimise(quadratic(centre), reference, reference, L2Ball(0.4), Stepper(0.05, "raw"), 200)
    torch.testing.assert_close(moved.x, L2Ball(0.4).project(centre, reference), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "forwards"),
    [
        ({}, 7),
        ({"keep": "best"}, 8),
        ({"observe": lambda k, x, loss: None}, 8),
        ({"finished": lambda: torch.zeros(3, dtype=torch.bool)}, 8),
    ],
)
def test_a_step_costs_one_forward_and_one_backward_and_only_a_needed_last_loss_one_forward_more(arguments, forwards):
    x = problems.images(3, 3, 4, 4)
    tally, objective = counted(quadratic(1 - x))
    minimise(objective, x, x, Box(), Stepper(0.1), 7, **arguments)
    assert (tally.forwards, tally.backwards) == (forwards, 7)


def test_the_best_iterate_is_never_worse_than_the_last_and_its_loss_is_its_own():
    centre = problems.images(20, 3, 4, 4, seed=1)
    start = problems.images(20, 3, 4, 4, seed=2)
    stepper = Stepper(2.5, momentum=0.5)  # far too long: the loss goes up and down
    last = minimise(quadratic(centre), start, start, Box(), stepper, 9, observe=lambda k, x, loss: None)
    best = minimise(quadratic(centre), start, start, Box(), stepper, 9, keep="best")
    assert (best.loss <= last.loss).all()
    assert (best.loss < last.loss).any()
    for moved in (last, best):
        torch.testing.assert_close(moved.loss, quadratic(centre)(moved.x, torch.arange(20)))


def test_the_observer_sees_every_iterate_from_the_start_to_the_last():
    x = problems.images(2, 3, 4, 4)
    seen = []
    moved = minimise(quadratic(1 - x), x, x, Box(), Stepper(0.1), 5, observe=lambda k, x, loss: seen.append((k, x.clone(), loss)))
    assert [k for k, _, _ in seen] == list(range(6))
    assert torch.equal(seen[0][1], x)
    assert torch.equal(seen[5][1], moved.x)
    assert torch.equal(seen[5][2], moved.loss)


@pytest.mark.parametrize("kind", ["l2", "sign", "raw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_samples_without_gradient_are_flagged_and_stay_where_they_are(kind, momentum):
    x = problems.images(3, 3, 4, 4)
    weight = torch.tensor([1.0, 0.0, 1.0])
    moved = minimise(
        lambda x, index: weight[index] * x.flatten(1).sum(dim=1), x, x, Box(), Stepper(0.1, kind, momentum=momentum), 5, keep="best"
    )
    assert moved.zero_gradient.tolist() == [False, True, False]
    assert torch.equal(moved.x[1], x[1])
    assert not torch.equal(moved.x[0], x[0])
    assert torch.isfinite(moved.x).all()
    assert torch.isfinite(moved.loss).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_samples(bad):
    x = problems.images(4, 3, 2, 2)
    factor = torch.tensor([1.0, bad, 1.0, bad])
    with pytest.raises(FloatingPointError, match=r"not finite at step 0 for samples \[1, 3\]"):
        minimise(lambda x, index: x.flatten(1).sum(dim=1) * factor[index], x, x, Box(), Stepper(0.1), 3)


def test_a_gradient_that_is_not_finite_under_a_finite_loss_names_the_sample():
    x = problems.images(4, 3, 2, 2)

    def objective(x, index):
        zero = (x - x.detach()).flatten(1).sum(dim=1)  # its value is 0, its gradient 1, and that of its root infinite
        return torch.where(index == 2, zero.sqrt(), zero.square())

    with pytest.raises(FloatingPointError, match=r"not finite at step 0 for samples"):
        minimise(objective, x, x, Box(), Stepper(0.1), 3)


def test_samples_keep_their_numbers_after_others_have_left_the_batch():
    x = problems.images(4, 3, 2, 2)
    calls = []

    def objective(x, index):
        calls.append(index.tolist())
        return x.flatten(1).sum(dim=1) * torch.where((index == 3) & (len(calls) == 2), math.nan, 1.0)

    def finished():
        return torch.tensor([i in (0, 1) for i in calls[-1]])

    with pytest.raises(FloatingPointError, match=r"step 1 for samples \[3\]"):
        minimise(objective, x, x, Box(), Stepper(0.1), 3, finished=finished)
    assert calls == [[0, 1, 2, 3], [2, 3]]


def test_a_finished_sample_is_kept_as_it_was_when_it_finished():
    """Sample i is finished once its loss falls below a threshold of its own; the others go on to the last step."""
    centre = problems.images(3, 3, 4, 4, seed=1)
    x = problems.images(3, 3, 4, 4, seed=2)
    threshold, losses = torch.tensor([math.inf, 2.0, -1.0]), {}

    def objective(x, index):
        losses["loss"], losses["index"] = quadratic(centre)(x, index), index
        return losses["loss"]

    path = []
    minimise(quadratic(centre), x, x, Box(), Stepper(0.1), 12, observe=lambda k, x, loss: path.append((x.clone(), loss)))
    moved = minimise(objective, x, x, Box(), Stepper(0.1), 12, finished=lambda: (losses["loss"] < threshold[losses["index"]]).detach())
    first = next(k for k, (_, loss) in enumerate(path) if loss[1] < 2)
    assert 0 < first < 12
    assert torch.equal(moved.x[0], x[0])
    torch.testing.assert_close(moved.x[1], path[first][0][1])
    torch.testing.assert_close(moved.x[2], path[12][0][2])


def test_a_finished_sample_is_kept_even_where_an_earlier_iterate_had_a_lower_loss():
    """An attack is over at the first misclassification, whatever the loss was before."""
    x = torch.full((1, 3, 2, 2), 0.5)
    uphill = torch.tensor([1.0, 2.0, 3.0])  # the loss rises with every forward, while the gradient leads down
    calls = []

    def objective(x, index):
        calls.append(x.detach().clone())
        down = x.flatten(1).sum(dim=1)
        return down - down.detach() + uphill[len(calls) - 1]

    moved = minimise(objective, x, x, Box(), Stepper(0.1), 5, keep="best", finished=lambda: torch.tensor([len(calls) == 3]))
    assert len(calls) == 3
    assert torch.equal(moved.x, calls[2])
    assert moved.loss.item() == 3


def test_a_raw_step_follows_each_samples_own_gradient_however_many_there_are():
    x = torch.full((3, 3, 2, 2), 0.5)
    slope = torch.tensor([0.1, 0.2, 0.3])
    moved = minimise(lambda x, index: slope[index] * x.flatten(1).sum(dim=1), x, x, Box(), Stepper(0.5, "raw"), 1)
    torch.testing.assert_close(moved.x, x - 0.5 * slope.view(3, 1, 1, 1))


def test_observe_and_finished_exclude_each_other():
    x = problems.images(1, 3, 2, 2)
    with pytest.raises(BadInput, match="exclude each other"):
        minimise(quadratic(x), x, x, Box(), Stepper(0.1), 1, observe=lambda *seen: None, finished=lambda: torch.ones(1, dtype=torch.bool))


def test_an_unknown_keep_is_refused():
    x = problems.images(1, 3, 2, 2)
    with pytest.raises(BadInput, match="keep='first' is unknown; allowed: last, best"):
        minimise(quadratic(x), x, x, Box(), Stepper(0.1), 1, keep="first")


def test_a_start_outside_the_range_is_clipped_before_the_first_step_and_not_in_place():
    start = problems.images(2, 3, 4, 4, low=-0.5, high=1.5)
    given, seen = start.clone(), []
    minimise(quadratic(start), start, start, Box(), Stepper(0.1), 1, observe=lambda k, x, loss: seen.append(x))
    assert torch.equal(seen[0], given.clamp(0, 1))
    assert torch.equal(start, given)
    assert not start.requires_grad


@pytest.mark.parametrize("constraint", BALLS)
def test_every_iterate_stays_inside_the_constraint(constraint):
    x = problems.images(8, 3, 4, 4).round()
    start = constraint.random_start(x, problems.generator())
    minimise(
        quadratic(1 - x), x, start, constraint, Stepper(0.7), 6,
        observe=lambda k, moved, loss: _assert_inside(constraint, moved, x if constraint != Box() else moved),
    )  # fmt: skip


def test_the_loop_works_where_gradients_are_switched_off_outside():
    x = problems.images(2, 3, 4, 4)
    with torch.no_grad():
        inside = minimise(quadratic(1 - x), x, x, Box(), Stepper(0.1), 3).x
    assert torch.equal(inside, minimise(quadratic(1 - x), x, x, Box(), Stepper(0.1), 3).x)


def test_no_steps_give_back_the_start():
    x = problems.images(2, 3, 4, 4)
    assert torch.equal(minimise(quadratic(1 - x), x, x, Box(), Stepper(0.1), 0).x, x)


@pytest.mark.parametrize("size", [1e-36, 1e-20, 1.0, 1e30])
def test_an_l2_step_has_its_length_whatever_the_size_of_the_gradient(size):
    gradient = size * torch.randn(5, 3, 4, 4, generator=problems.generator())
    direction = Stepper(0.1).direction(gradient)
    torch.testing.assert_close(direction, Stepper(0.1).direction(gradient / size), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(direction.flatten(1).norm(dim=1), torch.ones(5), rtol=1e-5, atol=0)
    assert not Stepper(0.1).direction(torch.zeros(2, 3, 4, 4)).any()
