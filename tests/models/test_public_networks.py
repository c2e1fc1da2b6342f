"""Public architectures compute what their publishers' definitions compute, and name every map."""

import problems
import pytest
import releases
import torch
from torch import nn

from reprolib.errors import BadInput
from reprolib.models.layers import features, fold_batch_norm, representation
from reprolib.models.networks import Network
from reprolib.models.public_networks import Ensemble, Plan, build_public, plan_of

CIFAR18 = Plan("resnet", 10, (4, 8, 16, 32), (2, 2, 2, 2))
CIFAR50 = Plan("resnet", 10, (4, 8, 16, 32), (3, 4, 6, 3), is_bottleneck=True)
IMAGENET18 = Plan("resnet", 9, (4, 8, 16, 32), (2, 2, 2, 2), stem_px=7)
RESNET20 = Plan("resnet", 10, (16, 32, 64), (3, 3, 3))
ALEXNET = Plan("alexnet", 9, (4, 6, 8, 5, 4, 12, 10), stem_px=11)
OVAL = Plan("oval", 10, (16, 32, 100), stem_px=4)
GOOGLENET = Plan("googlenet", 9, stem_px=7)
PLANS = (CIFAR18, CIFAR50, IMAGENET18, RESNET20, ALEXNET, OVAL, GOOGLENET)


def made(plan: Plan, seed: int = 0) -> Network:
    """A network of the plan with random weights and the identity as normaliser."""
    network = build_public(plan).to_empty(device="cpu")
    network.normaliser.mean.zero_()
    network.normaliser.std.fill_(1)
    return releases.shaken(network, seed)


def images(plan: Plan, n: int = 2) -> torch.Tensor:
    return problems.images(n, 3, 32 if plan.image_px == 32 else 96, 32 if plan.image_px == 32 else 96)


@pytest.mark.parametrize(
    ("plan", "architecture", "n_layers", "side"),
    [
        (CIFAR18, "cifar_resnet18", 17, 32),
        (CIFAR50, "cifar_resnet50", 49, 32),
        (IMAGENET18, "imagenet_resnet18", 17, 224),
        (RESNET20, "resnet20", 19, 32),
        (ALEXNET, "alexnet", 7, 224),
        (OVAL, "oval", 3, 32),
        (GOOGLENET, "googlenet", 12, 224),
    ],
)
def test_a_plan_has_its_name_its_image_size_and_one_map_a_relu(plan, architecture, n_layers, side):
    network = build_public(plan)
    assert (network.architecture, plan.image_px, len(network.layer_names)) == (architecture, side, n_layers)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.architecture)
def test_every_named_map_comes_in_order_is_not_negative_and_the_head_reads_the_last(plan):
    network, x = made(plan), images(plan)
    with torch.no_grad():
        maps = list(network.maps(x))
        assert tuple(name for name, _ in maps) == network.layer_names
        assert all(value.dim() == 4 and value.min() >= 0 and value.max() > 0 for _, value in maps)
        code = representation(network, x)
        assert code.shape == (2, network.n_features)
        torch.testing.assert_close(network.linear(code), network(x))
    assert set(features(network, x, [network.layer_names[0], "pooled"])) == {network.layer_names[0], "pooled"}


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.architecture)
def test_straight_through_changes_gradients_of_the_last_map_but_not_its_values(plan):
    network, x = made(plan), images(plan)
    codes, gradients = [], []
    for straight_through in (False, True):
        x = x.detach().requires_grad_()
        codes.append(representation(network, x, straight_through=straight_through))
        gradients.append(torch.autograd.grad(codes[-1].sum(), x)[0])
    torch.testing.assert_close(codes[0], codes[1])
    assert not torch.allclose(gradients[0], gradients[1])


@pytest.mark.parametrize("plan", [CIFAR18, CIFAR50, IMAGENET18, RESNET20], ids=lambda plan: plan.architecture)
def test_residual_networks_fold_completely_and_stay_the_same_function(plan):
    network, x = made(plan), images(plan)
    folded = fold_batch_norm(network)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.architecture)
def test_a_plan_survives_json(plan):
    assert plan_of(plan.describe()) == plan


def test_building_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build_public(OVAL)
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    "plan", [Plan("vgg", 10), Plan("oval", 10, (16, 32)), Plan("oval", 0, (16, 32, 100)), Plan("oval", 10, (16, -1, 100))]
)
def test_a_plan_of_no_network_is_refused(plan):
    with pytest.raises(
        BadInput, match="does not make a public network: allowed are resnet, alexnet, googlenet, oval with all their widths"
    ):
        build_public(plan)


def test_an_ensemble_gives_the_log_of_the_mean_probability():
    members, x = [made(OVAL, seed) for seed in range(3)], images(OVAL, 5)
    ensemble = Ensemble(members)
    with torch.no_grad():
        expected = torch.stack([member(x).softmax(dim=1) for member in members]).mean(dim=0)
        torch.testing.assert_close(ensemble(x).exp(), expected)
    assert (ensemble.architecture, ensemble.n_classes) == ("oval+oval+oval", 10)


def test_an_ensemble_has_no_maps_and_its_members_must_agree_on_the_classes():
    with pytest.raises(BadInput, match=r"has no maps of its own: take those of one of its `members`"):
        Ensemble([made(OVAL), made(OVAL)]).maps(images(OVAL))
    with pytest.raises(BadInput, match=r"have \[10, 9\] classes: they must agree"):
        Ensemble([made(OVAL), made(Plan("oval", 9, (16, 32, 100)))])
