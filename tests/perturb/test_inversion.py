"""Codes whose inverses are known, thresholds as they are met, and presets that can reach every target."""

from functools import partial

import problems
import pytest
import torch

from reprolib import data, registry
from reprolib.errors import BadInput, MissingData
from reprolib.findings.invertibility.inverting import make_task
from reprolib.measures.perceptual import random_pair_median, relative_distance
from reprolib.models.layers import representation
from reprolib.perturb.engine import Box, minimise
from reprolib.perturb.inversion import follow, invert, network_code, noise_start, stepper
from reprolib.scales import SCALES


def targets(n: int = 4, side: int = 8, seed: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return problems.images(n, 3, side, side, seed=seed, low=0.1, high=0.9, dtype=dtype)


def starts(n: int = 4, side: int = 8, seed: int = 4) -> torch.Tensor:
    return noise_start((n, 3, side, side), seed)


# --- codes with known inverses


def test_a_code_that_is_the_image_is_inverted_to_the_image():
    x = targets()
    found = follow(problems.identity_code, x.flatten(1), starts(), 200, 0.2)
    assert (found.distance < 1e-3).all()
    torch.testing.assert_close(found.x, x, rtol=0, atol=2e-3)


def test_what_an_orthonormal_projection_does_not_see_keeps_its_start():
    columns = problems.orthonormal(192, 60)
    start = starts()
    x = (start + 0.03 * torch.randn(start.shape, generator=problems.generator(7))).clamp(0, 1)  # near, so that the box stays inactive
    found = follow(lambda x: x.flatten(1) @ columns, x.flatten(1) @ columns, start, 300, 0.02).x
    assert found.min() > 0.05
    assert found.max() < 0.95
    went = (found - start).flatten(1)
    seen, unseen = went @ columns, went - went @ columns @ columns.T
    torch.testing.assert_close(seen, (x - start).flatten(1) @ columns, rtol=0, atol=1e-3)
    assert seen.norm(dim=1).min() > 0.1
    assert unseen.abs().max() < 1e-5


def test_an_inversion_that_starts_at_its_target_is_done_and_stays():
    x = targets()
    found = follow(problems.identity_code, x.flatten(1), x, 20, 0.1, [0.1])
    assert (found.trajectory == 0).all()
    assert torch.equal(found.x, x)
    assert found.zero_gradient.all()
    assert found.reached[0.1].all()
    network = problems.network()
    assert (relative_distance(representation(network, x), representation(network, x)) == 0).all()


def test_the_inverse_of_a_network_comes_near_its_code_from_any_start():
    network = problems.network()
    x = targets()
    code = network_code(network, 2)
    for start in (starts(), targets(seed=9)):
        distances = [relative_distance(code(image), code(x)) for image in (start, invert(network, x, start, 100, 0.1, pool=2))]
        assert (distances[1] < 0.2 * distances[0]).all()


def test_following_a_networks_code_is_inverting_it():
    network = problems.network()
    x, start = targets(), starts()
    with torch.no_grad():
        wanted = representation(network, x, 2)
    followed = follow(network_code(network, 2), wanted, start, 30, 0.1)
    torch.testing.assert_close(followed.x, invert(network, x, start, 30, 0.1, pool=2), rtol=0, atol=1e-5)
    inner = invert(network, x, start, 30, 0.1, layer="conv1", pool=4)
    assert relative_distance(representation(network, inner, 4, "conv1"), representation(network, x, 4, "conv1")).max() < 0.1
    assert (inner - followed.x).abs().max() > 0.05


# --- presets


@pytest.fixture(scope="module")
def task_of(tmp_path_factory):
    """(data set, scale) -> the targets and starts that the finding measures there; skips where the images are not there."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("REPROLIB_CACHE", str(tmp_path_factory.mktemp("cache")))

        def load(dataset, scale):
            preset = registry.settings("invertibility")["presets"][scale]
            try:
                return make_task(data.load(dataset, "test"), preset["n_targets"], preset["n_noise"])
            except MissingData as missing:
                pytest.skip(str(missing))

        yield load


# CIFAR-10's settings are tried on generated images too, which are always there.
@pytest.mark.parametrize(
    ("scale", "dataset", "side"),
    [("smoke", None, 16), ("laptop", None, 32), ("cifar", "shapetexture", 32), ("cifar", None, 32)],
)
def test_every_preset_brings_the_identity_code_to_nearly_every_target(task_of, scale, dataset, side):
    task, preset = task_of(dataset or SCALES[scale].dataset, scale), registry.settings("invertibility")["presets"][scale]
    assert task.targets.shape == (preset["n_targets"], 3, side, side)
    unit = random_pair_median(task.typical.flatten(1), generator=problems.generator())
    wanted, start = task.targets.flatten(1).repeat(len(task.starts), 1), torch.cat(list(task.starts.values()))
    d_rel = follow(problems.identity_code, wanted, start, preset["steps"], preset["step"]).distance / unit
    assert (d_rel < 0.05).float().mean() >= 0.95


@pytest.mark.parametrize("scale", list(SCALES))
def test_every_preset_can_walk_three_times_the_distance_from_start_to_target(task_of, scale):
    task, preset = task_of(SCALES[scale].dataset, scale), registry.settings("invertibility")["presets"][scale]
    distances = torch.cat([(task.targets - start).flatten(1).norm(dim=1) for start in task.starts.values()])
    d90 = distances.quantile(0.9).item()
    assert d90 > 1
    assert 5 * preset["steps"] * preset["step"] >= 3 * d90


def test_the_bound_on_the_path_is_five_steps_lengths():
    """N s / (2 (1 - mu)) at momentum .9, but for the half step by which a sum of N cosines exceeds N / 2."""
    by = stepper(0.1)
    assert sum(by.length(k, 150) for k in range(150)) / (1 - by.momentum) == pytest.approx(5 * 150 * 0.1, rel=0.01)


# --- what it costs


def test_inverting_costs_one_forward_and_one_backward_a_step_and_one_forward_for_the_target():
    network = problems.network()
    tally = problems.tallied(network)
    tally.register_forward_hook(lambda *_: None)  # no copy is made of a network with hooks
    invert(network, targets(), starts(), steps=9)
    assert (tally.forwards, tally.backwards) == (9 + 1, 9)


def test_following_costs_one_forward_more_for_the_last_distance():
    tally = problems.Tally()
    follow(lambda x: tally(x).flatten(1), targets().flatten(1), starts(), 9, 0.1, [0.5, 0.1])
    assert (tally.forwards, tally.backwards) == (10, 9)


# --- independence, modes, precision


def test_a_batch_is_inverted_as_its_images_one_by_one():
    code = network_code(problems.network(), 2)
    x, start = targets(5), starts(5)
    with torch.no_grad():
        wanted = code(x)
    run = partial(follow, code, steps=40, step=0.1, thresholds=[0.3, 0.1])
    together = run(wanted=wanted, start=start)
    for i in range(5):
        alone = run(wanted=wanted[i : i + 1], start=start[i : i + 1])
        torch.testing.assert_close(together.x[i], alone.x[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(together.trajectory[:, i], alone.trajectory[:, 0], rtol=1e-2, atol=1e-4)
        assert [together.reached[tau][i].item() for tau in (0.3, 0.1)] == [alone.reached[tau].item() for tau in (0.3, 0.1)]


@pytest.mark.parametrize("fails", [False, True])
def test_modes_buffers_and_gradients_are_as_they_were(fails):
    network = problems.mixed(problems.network())
    modes, buffers = problems.modes(network), problems.buffers(network)
    x = targets()
    if fails:
        x[1, 0, 0, 0] = float("nan")
        with pytest.raises(BadInput, match=r"target \[1\] hold values that are not finite"):
            invert(network, x, starts(), steps=3)
        with torch.no_grad():
            network.convs[0].conv.weight[0] = float("nan")
        with pytest.raises(FloatingPointError, match=r"samples \[0, 1, 2, 3\]"):
            invert(network, targets(), starts(), steps=3)
    else:
        assert torch.equal(invert(network, x, starts(), 3), invert(problems.network(), x, starts(), 3))
    assert problems.modes(network) == modes
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_inversion_runs_in_fp32_whatever_the_autocast_state():
    network = problems.network()
    dtypes = set()
    for conv in network.convs:
        conv.register_forward_hook(lambda module, given, out: dtypes.add(out.dtype))
    x, start = targets(), starts()
    with torch.no_grad():
        wanted = representation(network, x, 2)
    code = network_code(network, 2)
    plain, followed = invert(network, x, start, 5, pool=2), follow(code, wanted, start, 5, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(invert(network, x, start, 5, pool=2), plain)
        assert torch.equal(follow(code, wanted, start, 5, 0.1).trajectory, followed.trajectory)
    assert dtypes == {torch.float32}
    assert (followed.x.dtype, followed.distance.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_code_is_refused(dtype):
    x = targets()
    with pytest.raises((TypeError, BadInput), match=f"{dtype}.*float"):
        follow(lambda x: x.flatten(1).to(dtype), x.flatten(1).to(dtype), starts(), 3, 0.1)


# --- thresholds, trajectories, starts


def test_a_threshold_keeps_the_first_image_that_meets_it():
    x, start, taus = targets(), starts(), [0.3, 0.1, 0.02]
    path = []
    wanted = x.flatten(1)

    def observe(k, image, loss):
        path.append((image.clone(), relative_distance(image.flatten(1), wanted)))

    minimise(
        lambda image, index: relative_distance(image.flatten(1), wanted[index]), start, start, Box(), stepper(0.1), 60, observe=observe
    )
    found = follow(problems.identity_code, wanted, start, 60, 0.1, taus)
    for tau in taus:
        assert found.reached[tau].all()
        for i in range(4):
            first = next(k for k, (_, loss) in enumerate(path) if loss[i] <= tau)
            assert first > 0
            torch.testing.assert_close(found.at[tau][i], path[first][0][i])
            torch.testing.assert_close(found.at_distance[tau][i], path[first][1][i])
            assert found.at_distance[tau][i] <= tau


def test_a_target_that_does_not_reach_a_threshold_keeps_its_start_and_is_said_so():
    x = targets(2)
    start = starts(2)
    wanted = torch.stack([x[0].flatten(), 10 * torch.ones(192)])  # no image in the box has the second code
    found = follow(problems.identity_code, wanted, start, 60, 0.2, [0.1])
    assert found.reached[0.1].tolist() == [True, False]
    assert torch.equal(found.at[0.1][1], start[1])
    assert not torch.equal(found.at[0.1][0], start[0])
    torch.testing.assert_close(found.at_distance[0.1][1], relative_distance(start[1:].flatten(1), wanted[1:])[0])
    assert found.distance[1] > 0.5


def test_a_threshold_already_met_at_the_start_keeps_the_start_as_reached():
    x = targets()
    found = follow(problems.identity_code, x.flatten(1), x + 0.001, 10, 0.1, [0.5])
    assert found.reached[0.5].all()
    assert torch.equal(found.at[0.5], x + 0.001)


def test_the_trajectory_is_looked_at_every_so_many_steps_and_at_the_end():
    x, start = targets(), starts()
    found = follow(problems.identity_code, x.flatten(1), start, 25, 0.1, every=10, keep_frames=True)
    assert found.steps == [0, 10, 20, 25]
    assert found.trajectory.shape == (4, 4)
    assert torch.equal(found.trajectory[0], relative_distance(start.flatten(1), x.flatten(1)))
    assert torch.equal(found.trajectory[-1], found.distance)
    assert (found.frames.shape, found.frames.dtype) == ((4, 4, 3, 8, 8), torch.uint8)
    assert (found.frames[-1].float() / 255 - found.x).abs().max() <= 0.5 / 255 + 1e-6
    assert follow(problems.identity_code, x.flatten(1), start, 20, 0.1).frames.numel() == 0


def test_a_start_off_the_range_by_a_rounding_is_clipped_before_its_code_is_taken_and_a_wrong_one_refused():
    """Where a normaliser clamps, an image outside the range would have no gradient."""
    x, start, seen = targets(), starts().round() * (1 + 1e-6) - 5e-7, []

    def code(x):
        seen.append((x.min().item(), x.max().item()))
        return x.flatten(1)

    assert start.min() < 0
    assert start.max() > 1
    found = follow(code, x.flatten(1), start, 30, 0.2, [0.0])
    assert torch.equal(found.at[0.0], start.clamp(0, 1))
    assert min(low for low, _ in seen) == 0
    assert max(high for _, high in seen) == 1
    with pytest.raises(BadInput, match=r"start lie in \[-.*divide bytes by 255, do not normalise"):
        follow(code, x.flatten(1), 20 * starts() - 9.5, 30, 0.2)


def test_noise_starts_are_grey_with_a_little_noise_and_their_seeds_differ():
    noise = noise_start((50, 3, 16, 16), 0)
    assert noise.mean().item() == pytest.approx(0.5, abs=0.002)
    assert noise.std().item() == pytest.approx(0.05, rel=0.02)
    assert noise.min() >= 0
    assert noise.max() <= 1
    assert torch.equal(noise, noise_start((50, 3, 16, 16), 0))
    assert not torch.equal(noise, noise_start((50, 3, 16, 16), 1))


@pytest.mark.parametrize("side", [16, 32])
def test_the_noise_of_a_target_does_not_depend_on_how_many_follow(side):
    """Inversions of the first few targets of a longer list are kept under the key of the short one."""
    assert torch.equal(noise_start((24, 3, side, side), 1)[:8], noise_start((8, 3, side, side), 1))


# --- the straight-through ReLU


def test_from_a_dead_start_only_the_straight_through_relu_finds_a_way():
    network = problems.dead_until_bright()
    black, white = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    with torch.no_grad():
        wanted = representation(network, white)
    found = {through: follow(network_code(network, 1, straight_through=through), wanted, black, 60, 0.5) for through in (False, True)}
    assert found[False].zero_gradient.all()
    assert torch.equal(found[False].x, black)
    assert (found[False].distance == 1).all()
    assert not found[True].zero_gradient.any()
    assert (found[True].distance < 0.2).all()
    assert torch.equal(invert(network, white, black, 10, straight_through=False), black)
    assert not torch.equal(invert(network, white, black, 10), black)


# --- best and last


def test_the_best_iterate_is_never_further_than_the_last():
    network = problems.network()
    x = targets(12)
    start = torch.where(torch.arange(12).view(-1, 1, 1, 1) < 6, x + 0.001, starts(12))  # two long steps lead the first six astray
    wanted = representation(network, x, 2)
    best, last = (
        relative_distance(representation(network, invert(network, x, start, 2, 2.0, pool=2, keep=keep), 2), wanted).detach()
        for keep in ("best", "last")
    )
    assert (best <= last + 1e-6).all()
    assert (best < last - 1e-2)[:6].all()


# --- messages


def test_images_of_other_shapes_are_refused():
    with pytest.raises(BadInput) as refusal:
        invert(problems.network(), targets(4), starts(3))
    assert str(refusal.value) == "target (4, 3, 8, 8) and start (3, 3, 8, 8) must be images of one shape (n, c, h, w)"
    with pytest.raises(BadInput, match="must be images of one shape"):
        invert(problems.network(), targets()[0], starts()[0])


def test_an_unknown_layer_and_a_pool_too_large_are_refused():
    with pytest.raises(BadInput, match="layer 'conv9' is not in tinycnn; allowed: conv1, conv2, conv3, last"):
        invert(problems.network(), targets(), starts(), layer="conv9")
    with pytest.raises(BadInput, match="pool=4 is larger than the 2 x 2 map of conv3; allowed: 1 to 2"):
        invert(problems.network(), targets(), starts(), pool=4)
