"""The way between two codes: its ends are the images, its middle the blend, and every step starts from the same image."""

import problems
import pytest
import torch

from reprolib.errors import BadInput
from reprolib.models.layers import fold_batch_norm
from reprolib.perturb.interpolation import interpolate, mixed
from reprolib.perturb.inversion import network_code, noise_start


def ends(n: int = 2, side: int = 8):
    return tuple(problems.images(n, 3, side, side, seed=seed, low=0.1, high=0.9) for seed in (3, 9))


def starts(n: int = 2, side: int = 8):
    return noise_start((n, 3, side, side), seed=4)


def test_the_weights_run_evenly_from_one_end_to_the_other():
    black, white = torch.zeros(1, 1), torch.ones(1, 1)
    assert mixed(black, white).flatten().tolist() == pytest.approx([j / 9 for j in range(10)])
    assert mixed(black, white, 2).flatten().tolist() == [0, 1]


def test_a_cross_fade_has_the_images_at_its_ends_and_moves_by_equal_steps():
    left, right = ends()
    faded = mixed(left, right, 5)
    assert faded.shape == (2, 5, 3, 8, 8)
    assert torch.equal(faded[:, 0], left)
    assert torch.equal(faded[:, 4], right)
    torch.testing.assert_close(faded[:, 2], (left + right) / 2)
    torch.testing.assert_close(faded.diff(dim=1), ((right - left) / 4).unsqueeze(1).expand(-1, 4, -1, -1, -1), rtol=0, atol=1e-6)


def test_where_the_code_is_the_image_the_way_is_the_cross_fade():
    left, right = ends()
    found = interpolate(problems.identity_code, left, right, starts(), 200, 0.2)
    torch.testing.assert_close(found.x[:, 0], left, rtol=0, atol=2e-3)
    torch.testing.assert_close(found.x[:, -1], right, rtol=0, atol=2e-3)
    torch.testing.assert_close(found.x, mixed(left, right), rtol=0, atol=5e-3)
    assert found.distance.shape == (2, 10)
    assert found.distance.max() < 1e-3
    assert not found.zero_gradient.any()


def test_what_the_code_does_not_see_is_the_same_at_every_point_of_a_pair_and_another_in_each_pair():
    """An orthonormal projection leaves the rest of the start as it is: so every point started from the same image."""
    columns, start = problems.orthonormal(192, 40), starts()
    left, right = ((start + 0.03 * torch.randn(start.shape, generator=problems.generator(seed))).clamp(0, 1) for seed in (5, 6))
    found = interpolate(lambda x: x.flatten(1) @ columns, left, right, start, 200, 0.02, n_points=4)
    assert found.x.min() > 0.05  # the box stays inactive
    assert found.x.max() < 0.95
    pixels = found.x.flatten(2)
    unseen = pixels - pixels @ columns @ columns.T
    torch.testing.assert_close(unseen, unseen[:, :1].expand_as(unseen), rtol=0, atol=1e-5)
    assert (unseen[0, 0] - unseen[1, 0]).norm() > 0.1
    seen = pixels @ columns
    torch.testing.assert_close(seen, mixed(left.flatten(1) @ columns, right.flatten(1) @ columns, 4), rtol=0, atol=1e-3)


def test_a_blend_start_lies_on_the_ends_and_stays_there():
    """The code is worked out pixel by pixel, so that no rounding hangs on the batch: from the least distance a step is a whole step."""
    left, right = ends()
    blend = mixed(left, right, 3)
    found = interpolate(lambda x: x.square().flatten(1), left, right, blend, 5, 0.1, n_points=3)
    assert torch.equal(found.x[:, [0, 2]], blend[:, [0, 2]])
    assert (found.x[:, 1] - blend[:, 1]).abs().max() > 0.01


def test_the_codes_of_a_network_come_near_the_mixture_of_the_codes_of_both_images():
    code, (left, right) = network_code(fold_batch_norm(problems.network()), 2), ends()
    found = interpolate(code, left, right, starts(), 100, 0.1, n_points=3)
    wanted, start = mixed(code(left), code(right), 3), code(starts()).unsqueeze(1)
    before, after = ((one - wanted).norm(dim=2) for one in (start, code(found.x.flatten(0, 1)).view_as(wanted)))
    assert (after < 0.3 * before).all()
    torch.testing.assert_close(found.distance, (after / wanted.norm(dim=2)).detach(), rtol=1e-3, atol=1e-5)


def test_pairs_and_points_do_not_see_each_other_whatever_the_chunk():
    code, (left, right) = network_code(fold_batch_norm(problems.network()), 2), ends(3)
    whole = interpolate(code, left, right, starts(3), 10, 0.1, n_points=4)
    parts = interpolate(code, left, right, starts(3), 10, 0.1, n_points=4, chunk=5)
    alone = interpolate(code, left[1:2], right[1:2], starts(3)[1:2], 10, 0.1, n_points=4)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-4)
    torch.testing.assert_close(alone.x, whole.x[1:2], rtol=0, atol=1e-4)


def test_a_step_costs_one_forward_and_one_backward_for_all_points_at_once():
    network, (left, right) = problems.network(), ends()
    tally = problems.tallied(network)
    interpolate(network_code(network, 2), left, right, starts(), 7, 0.1)
    assert tally.forwards == 2 + 7 + 1  # both ends, every step, the last iterate's distance
    assert tally.backwards == 7


def test_interpolating_is_in_fp32_whatever_the_autocast_state():
    code, (left, right) = network_code(fold_batch_norm(problems.network()), 2), ends()
    plain = interpolate(code, left, right, starts(), 3, 0.1, n_points=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = interpolate(code, left, right, starts(), 3, 0.1, n_points=3)
    assert inside.x.dtype == torch.float32
    assert torch.equal(inside.x, plain.x)


def test_points_without_a_gradient_are_told():
    network = fold_batch_norm(problems.dead_until_bright())
    left, right = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    start = torch.zeros(1, 3, 8, 8)
    found = interpolate(network_code(network, 1, straight_through=False), left, right, start, 3, 0.1, n_points=3)
    assert found.zero_gradient.all()
    assert torch.equal(found.x, torch.zeros(1, 3, 3, 8, 8))


def test_what_cannot_be_a_way_is_refused_with_its_shape():
    left, right = ends()
    code = problems.identity_code
    with pytest.raises(BadInput, match="n_points=1 is not allowed: a way between two images has at least its 2 ends"):
        interpolate(code, left, right, starts(), 1, 0.1, n_points=1)
    with pytest.raises(BadInput, match=r"left \(2, 3, 8, 8\) and right \(1, 3, 8, 8\) must be images of one shape"):
        interpolate(code, left, right[:1], starts(), 1, 0.1)
    with pytest.raises(BadInput, match=r"start has shape \(3, 3, 8, 8\): give one image a pair, \(2, 3, 8, 8\), or one a point, \(2, 10,"):
        interpolate(code, left, right, starts(3), 1, 0.1)
    with pytest.raises(BadInput, match=r"left \(2, 192\) and right \(1, 192\) must be equal in shape"):
        mixed(left.flatten(1), right[:1].flatten(1))
