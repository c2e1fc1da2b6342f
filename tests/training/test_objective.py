"""Cross-entropy, and beside it alpha times each hidden layer's soft nearest neighbour loss: all but the last."""

from __future__ import annotations

from dataclasses import replace

import problems
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reprolib.measures.soft_nearest_neighbor import entanglement
from reprolib.models.layers import features, shrunk
from reprolib.scales import Schedule
from reprolib.training.loop import train
from reprolib.training.objective import Objective, regularised, step_cost
from reprolib.training.recipes import recipe

ENTANGLING = recipe("snnl_m01")
Y = torch.arange(32) % 4
X = (problems.images(32, 3, 16, 16) + 0.1 * Y.view(-1, 1, 1, 1)).clamp(0, 1)  # a class is a brightness


def gradients(objective: Objective) -> dict[str, Tensor]:
    network = problems.network()
    objective(network, X, Y).backward()
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


def test_without_alpha_it_is_the_cross_entropy_and_nothing_is_told() -> None:
    for name in ("std", "label_smoothing"):
        objective, network = Objective(recipe(name), "fp32", 1), problems.network()
        wanted = F.cross_entropy(network(X), Y, label_smoothing=recipe(name).smoothing(4))
        assert torch.equal(objective(network, X, Y), wanted)
        assert objective.told() == {}


@pytest.mark.parametrize("architecture", ["tinycnn", "w8", "mlp"])
def test_every_map_but_the_last_adds_alpha_times_its_minimum(architecture: str) -> None:
    network, objective = problems.network(architecture, size_px=16), Objective(ENTANGLING, "fp32", 1)
    names = regularised(network)
    assert names == network.layer_names[:-1]
    found = {name: entanglement(shrunk(value), Y) for name, value in features(network, X, names).items()}
    wanted = F.cross_entropy(network(X), Y).item() - 0.1 * sum(one.value for one in found.values())
    assert objective(network, X, Y).item() == pytest.approx(wanted, abs=1e-3 * len(names))  # its search is coarser
    told = objective.told()["snnl"]
    assert tuple(told) == names
    for name, one in found.items():
        assert told[name]["share"] == pytest.approx(one.share, abs=1e-3)
        assert told[name]["at_bound"] == float(one.at_bound)


def test_the_last_map_is_reached_by_the_cross_entropy_alone() -> None:
    plain, entangling, disentangling = (gradients(Objective(recipe(name), "fp32", 1)) for name in ("std", "snnl_m01", "snnl_p01"))
    for name in plain:
        changed = entangling[name] - plain[name]
        assert bool(changed.abs().max() > 1e-3 * plain[name].abs().max()) == name.startswith(("convs.0", "convs.1"))
        torch.testing.assert_close(disentangling[name] - plain[name], -changed, rtol=1e-2, atol=1e-5)


def test_what_is_told_is_the_mean_over_the_steps_of_an_epoch() -> None:
    objective, network = Objective(ENTANGLING, "fp32", 1), problems.network()
    shares = []
    for part in (slice(0, 16), slice(16, 32)):
        alone = Objective(ENTANGLING, "fp32", 1)
        alone(network, X[part], Y[part])
        objective(network, X[part], Y[part])
        shares.append(alone.told()["snnl"]["conv1"]["share"])
    assert objective.told()["snnl"]["conv1"]["share"] == pytest.approx(sum(shares) / 2, abs=2e-5)


def test_a_batch_without_two_images_of_a_class_has_no_term() -> None:
    objective = Objective(ENTANGLING, "fp32", 1)
    network = problems.network()
    assert torch.equal(objective(network, X[:3], Y[:3]), F.cross_entropy(network(X[:3]), Y[:3]))
    assert objective.told() == {}


def test_in_half_precision_the_term_is_taken_in_full() -> None:
    loss = Objective(ENTANGLING, "bf16", 1)(problems.network(), X, Y)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(Objective(ENTANGLING, "fp32", 1)(problems.network(), X, Y).item(), abs=0.05)


def test_a_term_that_is_not_finite_stops_with_layer_and_epoch() -> None:
    network = problems.network()
    with torch.no_grad():
        network.convs[1].bn.bias[3] = torch.inf  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match="of layer conv2 is not finite in epoch 7: features of samples .0, 1, 2"):
        Objective(ENTANGLING, "fp32", 7)(network, X, Y)


def test_training_with_it_entangles_and_disentangles_the_hidden_layers() -> None:
    schedule = Schedule(n_images=32, epochs=3, attack_steps=1, batch_size=16, peak_lr=0.05)
    shares = {}
    for name in ("snnl_m03", "std", "snnl_p03"):
        network = problems.network()
        told = train(network, (255 * X).byte(), Y, recipe(name), schedule, 0, ("l2", 0.1), precision="fp32")
        assert all(("snnl" in epoch) == (name != "std") for epoch in told["history"])
        shares[name] = entanglement(shrunk(features(network, X, ["conv2"])["conv2"]), Y).share
    assert shares["snnl_m03"] > shares["std"] + 0.02
    assert shares["snnl_p03"] < shares["std"] - 0.02


def test_maps_are_averaged_over_windows_until_they_are_small_whatever_their_memory_format() -> None:
    maps = problems.images(4, 16, 32, 32)
    small = shrunk(maps)
    assert torch.equal(small, F.avg_pool2d(maps, 2).flatten(1))
    last = shrunk(maps.to(memory_format=torch.channels_last))
    torch.testing.assert_close(torch.cdist(last, last), torch.cdist(small, small), rtol=1e-4, atol=1e-4)
    assert shrunk(maps, most=1024).shape == (4, 16 * 64)
    assert shrunk(maps[..., :30, :30]).shape == (4, 16 * 15 * 15)
    assert shrunk(problems.images(4, 16, 5, 5), most=150).shape == (4, 16 * 9)
    assert shrunk(problems.images(4, 9, 5, 5), most=4).shape == (4, 9)
    for as_they_are in (problems.images(4, 32, 8, 8), problems.images(4, 70), problems.images(4, 5_000)):
        assert torch.equal(shrunk(as_they_are), as_they_are.flatten(1))


def test_the_cost_of_a_step_is_a_ratio_of_times() -> None:
    cost = step_cost(problems.network(), X, Y, (ENTANGLING, recipe("std")), "fp32", n=3)
    assert 0.8 < cost < 20
    same = replace(recipe("std"), id="twin")
    assert 0.2 < step_cost(problems.network(), X, Y, (same, recipe("std")), "fp32", n=3) < 5
