"""Units whose best images are known: a sign pattern in the box, a direction in the ball, a known distance to a cap."""

import math

import problems
import pytest
import torch

from reprolib.errors import BadInput
from reprolib.models.layers import representation
from reprolib.perturb.inversion import network_code, noise_start
from reprolib.perturb.visualisation import add_feature, add_until, at_norm, maximise

N, SHAPE = 4, (3, 8, 8)
D = math.prod(SHAPE)
UNITS = torch.tensor([2, 0, 1, 2])


def weights(n_units: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn((n_units, D), generator=problems.generator(seed))


def linear_code(w: torch.Tensor):
    """Unit i is <w_i, x>: the best image in a ball, in the box, and the distance to a value are all known."""
    return lambda x: x.flatten(1) @ w.to(x).T


def middle(n: int = N, seed: int = 2) -> torch.Tensor:
    return problems.images(n, *SHAPE, seed=seed, low=0.4, high=0.6)


def anywhere(n: int = N, seed: int = 3) -> torch.Tensor:
    return problems.images(n, *SHAPE, seed=seed)


def norms(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).norm(dim=1)


def best_in_ball_and_box(image: torch.Tensor, w: torch.Tensor, radius: float) -> torch.Tensor:
    """clip(image + t w) at the t, found by bisection, where the change has the radius: the optimum by the Karush-Kuhn-Tucker conditions."""
    low, high = 0.0, 1e6
    for _ in range(200):
        t = (low + high) / 2
        x = (image.double() + t * w.double().view_as(image)).clamp(0, 1)
        low, high = (t, high) if (x - image).norm() < radius else (low, t)
    return x


# --- maximise


@pytest.mark.parametrize("lower", [False, True])
def test_maximising_a_linear_unit_reaches_the_corner_of_the_box_that_its_weights_point_to(lower):
    w = weights().sign()
    found = maximise(linear_code(w), UNITS, anywhere(), 100, 0.4, lower=lower)
    corner = ((-w if lower else w)[UNITS] > 0).float().view(N, *SHAPE)
    torch.testing.assert_close(found.x, corner, rtol=0, atol=0)
    torch.testing.assert_close(found.value, (corner.flatten(1) * w[UNITS]).sum(dim=1))
    torch.testing.assert_close(found.norm, norms(corner - anywhere()))
    assert found.reached.all()
    assert not found.zero_gradient.any()


def test_every_image_raises_its_own_unit_and_no_other():
    w = torch.eye(D)[[5, 77, 150]]  # unit i is one pixel
    found = maximise(linear_code(w), UNITS, middle(), 50, 0.1)
    changed = (found.x != middle()).flatten(1)
    assert [row.nonzero().flatten().tolist() for row in changed] == [[150], [5], [77], [150]]
    assert (found.value == 1).all()


def test_a_unit_no_pixel_moves_is_flagged_and_its_image_left_as_it_was():
    w = weights()
    w[0] = 0
    found = maximise(linear_code(w), UNITS, middle(), 20, 0.1)
    assert found.zero_gradient.tolist() == [False, True, False, False]
    assert found.reached.tolist() == [True, False, True, True]
    assert torch.equal(found.x[1], middle()[1])
    for added in (add_feature(linear_code(w), UNITS, middle(), 0.5), add_until(linear_code(w), UNITS, middle(), torch.full((N,), 1e4), 5)):
        assert added.zero_gradient.tolist() == [False, True, False, False]
        assert not added.reached[1]
        assert added.norm[1] == 0


def test_a_unit_that_is_off_is_raised_only_through_the_straight_through_relu():
    network, black, units = problems.dead_until_bright(), torch.zeros(2, *SHAPE), torch.tensor([0, 5])
    with_it, without = (maximise(network_code(network, 1, straight_through=through), units, black, 60, 0.5) for through in (True, False))
    assert without.zero_gradient.all()
    assert torch.equal(without.x, black)
    assert not with_it.zero_gradient.any()
    assert (with_it.value > 0).all()


def test_a_network_is_climbed_to_the_last_iterate_and_a_batch_as_one_by_one():
    network = problems.network()
    code, start, units = network_code(network, 1), noise_start((3, *SHAPE), 0), torch.tensor([3, 40, 3])
    together = maximise(code, units, start, 30, 0.1)
    before = representation(network, start, 1).gather(1, units[:, None])[:, 0]
    assert (together.value > before + 0.1).all()
    torch.testing.assert_close(together.value, representation(network, together.x, 1).gather(1, units[:, None])[:, 0])
    for i in range(3):
        alone = maximise(code, units[i : i + 1], start[i : i + 1], 30, 0.1)
        torch.testing.assert_close(together.x[i], alone.x[0], rtol=0, atol=1e-3)
    lowered = maximise(code, units, together.x, 30, 0.1, lower=True)
    assert (lowered.value < together.value).all()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_visualisation_runs_in_fp32_whatever_the_autocast_state():
    code, units, start = network_code(problems.network(), 1), torch.tensor([3, 40]), noise_start((2, *SHAPE), 0)
    cap = torch.tensor([0.5, 0.5])
    runs = [
        lambda: maximise(code, units, start, 5),
        lambda: add_feature(code, units, start, 0.5, 5),
        lambda: add_until(code, units, start, cap, 5),
    ]
    for run in runs:
        plain = run()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = run()
        assert torch.equal(inside.x, plain.x)
        assert torch.equal(inside.value, plain.value)
        assert inside.value.dtype == torch.float32
    with pytest.raises(BadInput, match="the code is torch.bfloat16: float32 or float64 is needed"):
        maximise(lambda x: x.flatten(1).bfloat16(), units, start, 3)


# --- a change of known norm


def test_at_equal_norm_a_linear_unit_is_raised_along_its_weights():
    w, radius = weights(), 0.7
    found = add_feature(linear_code(w), UNITS, middle(), radius)
    direction = (w / w.norm(dim=1, keepdim=True))[UNITS].view(N, *SHAPE)
    torch.testing.assert_close(found.x, middle() + radius * direction, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.norm, torch.full((N,), radius), rtol=1e-4, atol=0)
    assert found.reached.all()


@pytest.mark.parametrize("radius", [0.5, 2.0, 4.0])
def test_the_norm_is_the_radius_also_where_the_box_binds_and_the_image_is_the_best_there_is(radius):
    w, images = weights(), anywhere()
    found = add_feature(linear_code(w), UNITS, images, radius, 200)
    torch.testing.assert_close(found.norm, torch.full((N,), radius), rtol=1e-4, atol=0)
    torch.testing.assert_close(norms(found.x - images), found.norm)
    assert (found.x[found.x != images] % 1 == 0).any()  # the box does bind
    best = torch.stack([best_in_ball_and_box(image, w[unit], radius) for image, unit in zip(images, UNITS, strict=True)])
    torch.testing.assert_close(found.x.double(), best, rtol=0, atol=2e-3)
    gain, most = (((x - images).double().flatten(1) * w[UNITS]).sum(dim=1) for x in (found.x, best))
    assert (gain / most > 1 - 1e-5).all()


def test_where_the_corner_is_nearer_than_the_radius_the_corner_is_returned_and_said_so():
    w, images = weights().sign(), anywhere()
    w[1] = 0
    w[1, 7] = -1.0
    images[2].view(-1)[7] = 0.25  # of unit 1: a quarter is all that one pixel can lose
    found = add_feature(linear_code(w), UNITS, images, 1.5)
    assert found.reached.tolist() == [True, True, False, True]
    assert found.norm[2].item() == pytest.approx(0.25)
    assert not found.zero_gradient.any()


def test_two_networks_that_differ_in_every_way_change_an_image_by_the_same_norm():
    images, units = anywhere(6), torch.arange(6)
    for seed in (0, 1):
        found = add_feature(network_code(problems.network(seed=seed), 1), units, images, 1.0, 30)
        assert ((found.norm - 1).abs() < 1e-4).all()
        assert found.reached.all()
        assert 0 <= found.x.min() <= found.x.max() <= 1


def test_a_climb_too_short_to_get_to_the_radius_is_stretched_to_it():
    w, radius = weights(), 0.7
    found = add_feature(linear_code(w), UNITS, middle(), radius, 3)
    direction = (w / w.norm(dim=1, keepdim=True))[UNITS].view(N, *SHAPE)
    torch.testing.assert_close(found.x, middle() + radius * direction, rtol=0, atol=1e-4)
    assert found.reached.all()


@pytest.mark.parametrize("norm", [0.01, 1.0, 5.0, 6.0])
def test_a_change_is_stretched_or_shortened_to_a_norm_without_leaving_the_box(norm):
    reference = anywhere()
    moved = (reference + 0.1 * torch.randn(reference.shape, generator=problems.generator(6))).clamp(0, 1)
    moved[0] = reference[0]
    moved[1, 0] = reference[1, 0]  # pixels without a change keep having none
    found = at_norm(moved, reference, norm)
    assert torch.equal(found[0], reference[0])
    assert torch.equal(found[1, 0], reference[1, 0])
    torch.testing.assert_close(norms(found - reference)[1:], torch.full((N - 1,), norm), rtol=1e-5, atol=0)
    assert 0 <= found.min() <= found.max() <= 1
    assert ((found - reference) * (moved - reference) >= 0).all()


# --- until a cap


def test_a_cap_on_a_linear_unit_is_reached_by_the_shortest_change_and_not_overshot():
    w, images = weights(), middle()
    now = linear_code(w)(images).gather(1, UNITS[:, None])[:, 0]
    far = torch.tensor([0.1, 0.37, 0.6, 0.05])
    cap = now + far * w[UNITS].norm(dim=1)
    found = add_until(linear_code(w), UNITS, images, cap, 60, 0.25)
    assert found.reached.all()
    torch.testing.assert_close(found.norm, far, rtol=0, atol=2e-4)  # though a step is longer than most of them
    assert (found.value >= cap).all()
    assert ((found.value - cap) / w[UNITS].norm(dim=1)).max() < 2e-4
    direction = (w / w.norm(dim=1, keepdim=True))[UNITS].view(N, *SHAPE)
    torch.testing.assert_close(found.x, images + far.view(N, 1, 1, 1) * direction, rtol=0, atol=2e-4)


def test_an_image_at_its_cap_is_left_alone_and_one_that_cannot_get_there_is_said_so():
    w, images = weights(), middle()
    now = linear_code(w)(images).gather(1, UNITS[:, None])[:, 0]
    most = w[UNITS].clamp(min=0).sum(dim=1)
    found = add_until(linear_code(w), UNITS, images, torch.stack([now[0] - 1, now[1], now[2] + 1, most[3] + 1]), 100, 0.1)
    assert found.reached.tolist() == [True, True, True, False]
    assert torch.equal(found.x[:2], images[:2])
    assert found.norm[:2].tolist() == [0, 0]
    assert found.norm[3] > found.norm[2] > 0
    assert not found.zero_gradient.any()


def test_a_network_reaches_a_cap_sooner_than_it_reaches_a_higher_one():
    code, images, units = network_code(problems.network(), 1), anywhere(3), torch.tensor([3, 40, 12])
    value = code(images).detach().gather(1, units[:, None])[:, 0]
    low, high = (add_until(code, units, images, value + more, 100, 0.02) for more in (0.05, 0.2))
    assert low.reached.all()
    assert high.reached.all()
    assert (low.norm < high.norm).all()
    assert (low.value - value).tolist() == pytest.approx([0.05] * 3, abs=2e-3)


# --- messages


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda c, u, x: maximise(c, u[:2], x), r"units \(2,\) and images \(4, 3, 8, 8\) do not fit: one unit per image"),
        (lambda c, u, x: maximise(c, u, x[0]), "do not fit"),
        (lambda c, u, x: add_feature(c, u + 1, x, 1.0), r"unit 3 is not one of the 3 of this code: give numbers in \[0, 2\]"),
        (lambda c, u, x: add_feature(c, u, x, 0.0), r"radius=0 is not allowed: give a length above 0 and finite, in pixel units"),
        (lambda c, u, x: add_until(c, u, x, torch.ones(3)), r"cap has shape \(3,\): one per image is needed, \(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        wrong(linear_code(weights()), UNITS, middle())
