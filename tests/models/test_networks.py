"""The architectures are those of the study's tables, and start from their seed alone."""

import problems
import pytest
import torch
from torch import nn

from reprolib.errors import BadInput
from reprolib.models.networks import ARCHITECTURES, Network, Normaliser, build, relu

MEAN, STD = problems.MEAN, problems.STD


def fresh(architecture: str, seed: int = 0, mean=MEAN, std=STD) -> Network:
    return build(architecture, 10, mean, std, seed)


@pytest.mark.parametrize(
    ("architecture", "millions", "digits", "layers", "n_features", "code_at_1", "code_at_4"),
    # layers: every post-activation map and the pooled code; codes: their length as a share of the 3 x 32 x 32 pixels
    [
        ("pool", 0.18, 2, 14, 64, 64 / 3072, 1024 / 3072),
        ("resnet8", 0.078, 3, 8, 64, 64 / 3072, 1024 / 3072),
        ("w8", 0.080, 3, 8, 64, 64 / 3072, 1024 / 3072),
        ("net14", 0.18, 2, 14, 64, 64 / 3072, 1024 / 3072),
        ("resnet18", 11.17, 2, 18, 512, 512 / 3072, 8192 / 3072),
        ("tinycnn", 0.024, 3, 4, 64, 64 / 3072, 1024 / 3072),
    ],
)
def test_each_architecture_has_the_size_of_the_table(architecture, millions, digits, layers, n_features, code_at_1, code_at_4):
    network = fresh(architecture)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, digits) == millions
    assert len(network.layer_names) + 1 == layers
    maps = dict(network.eval().maps(torch.zeros(1, 3, 32, 32)))
    last = maps[network.layer_names[-1]]
    assert (network.n_features, last.shape[1]) == (n_features, n_features)
    assert min(last.shape[2:]) >= 4
    assert (n_features / 3072, n_features * 16 / 3072) == (code_at_1, code_at_4)
    assert network.linear.in_features == n_features


def test_every_architecture_is_in_the_tables():
    assert set(ARCHITECTURES) == {"tinycnn", "pool", "w8", "resnet8", "net14", "resnet18", "lenet", "mlp"}


@pytest.mark.parametrize(
    ("architecture", "n_parameters", "layers", "shapes"),
    [
        # 5x5 convolutions to 6 and 16 channels, pooled to 14 and 5 px; dense layers of 120 and 84
        (
            "lenet",
            6 * (75 + 1) + 16 * (150 + 1) + 120 * (400 + 1) + 84 * (120 + 1) + 10 * (84 + 1),
            ("conv1", "conv2", "dense1", "dense2"),
            [(6, 28, 28), (16, 10, 10), (120, 1, 1), (84, 1, 1)],
        ),
        ("mlp", 256 * (3072 + 1) + 256 * (256 + 1) + 10 * (256 + 1), ("dense1", "dense2"), [(256, 1, 1), (256, 1, 1)]),
    ],
)
def test_the_architectures_with_dense_layers_are_those_of_the_table(architecture, n_parameters, layers, shapes):
    network = fresh(architecture).eval()
    assert sum(p.numel() for p in network.parameters()) == n_parameters
    assert network.layer_names == layers
    assert [tuple(value.shape[1:]) for _, value in network.maps(torch.zeros(1, 3, 32, 32))] == shapes
    assert network.linear.in_features == network.n_features == shapes[-1][0]


def test_lenet_pools_between_its_convolutions_by_the_maximum():
    network = fresh("lenet").eval()
    x = problems.images(2, 3, 32, 32)
    maps = dict(network.maps(x))
    pooled = [maps["conv1"][:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    by_hand = torch.relu(nn.functional.conv2d(torch.stack(pooled).amax(dim=0), network.convs[1].weight, network.convs[1].bias))
    torch.testing.assert_close(maps["conv2"], by_hand)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_grey_images_of_28_px_are_taken_too(architecture):
    network = build(architecture, 10, (0.3,), (0.35,), 0, size_px=28).eval()
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_images_too_small_for_lenet_are_refused():
    with pytest.raises(BadInput, match="size_px=15 is too small for lenet: images of at least 16 px a side"):
        build("lenet", 10, MEAN, STD, 0, size_px=15)
    assert build("lenet", 10, MEAN, STD, 0, size_px=16)(torch.zeros(1, 3, 16, 16)).shape == (1, 10)


@pytest.mark.parametrize(
    ("architecture", "stem", "sides"),
    [
        ("pool", (7, 2), [16, 8, 4]),
        ("w8", (7, 1), [32, 16, 8]),
        ("resnet8", (3, 1), [32, 16, 8]),
        ("net14", (3, 1), [32, 16, 8]),
        ("resnet18", (3, 1), [32, 16, 8, 4]),
        ("tinycnn", (3, 1), [32, 16, 8]),
    ],
)
def test_stems_and_maps_have_the_sides_of_the_table(architecture, stem, sides):
    network = fresh(architecture).eval()
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    assert (first.kernel_size, first.stride) == ((stem[0],) * 2, (stem[1],) * 2)
    seen = [value.shape[-1] for _, value in network.maps(torch.zeros(1, 3, 32, 32))]
    assert seen == sorted(seen, reverse=True)
    assert sorted(set(seen), reverse=True) == sides


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_maps_come_under_their_names_in_order_and_after_their_activation(architecture):
    network = problems.network(architecture, size_px=16)
    maps = list(network.maps(problems.images(2, 3, 16, 16)))
    assert tuple(name for name, _ in maps) == network.layer_names
    assert len(set(network.layer_names)) == len(network.layer_names)
    for name, value in maps:
        assert value.min() == 0, name
        assert value.max() > 0, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_logits_are_the_linear_head_of_the_pooled_last_map(architecture):
    network = problems.network(architecture, size_px=16)
    x = problems.images(3, 3, 16, 16)
    *_, (_, last) = network.maps(x)
    logits = network(x)
    assert logits.shape == (3, 4)
    torch.testing.assert_close(logits, last.mean(dim=(2, 3)) @ network.linear.weight.T + network.linear.bias)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_image_alone_decides_its_logits(architecture):
    network = problems.network(architecture, dtype=torch.float64, size_px=16)
    x = problems.images(4, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(network(x), torch.cat([network(image[None]) for image in x]))
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_images_are_normalised_exactly_once(architecture):
    network = problems.network(architecture, dtype=torch.float64, size_px=16)
    tally = problems.tallied(network)
    x = problems.images(2, 3, 16, 16, dtype=torch.float64)
    logits = network(x)
    assert tally.forwards == 1
    mean, std = torch.tensor(MEAN).double(), torch.tensor(STD).double()
    network.normaliser = nn.Identity()
    by_hand = (x - mean.float().view(1, 3, 1, 1)) / std.float().view(1, 3, 1, 1)
    torch.testing.assert_close(logits, network(by_hand), rtol=1e-9, atol=1e-9)
    assert (logits - network(x)).abs().max() > 0.01
    assert (logits - network((by_hand - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))).abs().max() > 0.01


def test_the_normaliser_is_per_channel_does_not_clamp_and_moves_with_the_network():
    normaliser = Normaliser(MEAN, STD)
    x = torch.tensor([-1.0, 0.5, 2.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(normaliser(x).flatten(), torch.tensor([-1.4 / 0.2, 0.0, 1.4 / 0.3]))
    assert sorted(fresh("tinycnn").state_dict())[-2:] == ["normaliser.mean", "normaliser.std"]


# --- initialisation


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equal_seeds_give_equal_weights_whatever_was_drawn_before(architecture):
    first = fresh(architecture).state_dict()
    torch.rand(13)
    again, other = fresh(architecture).state_dict(), fresh(architecture, seed=1).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    weights = [name for name in first if name.endswith("conv.weight") or name.startswith("linear")]
    assert weights
    assert all(not torch.equal(first[name], other[name]) for name in weights)


def test_building_a_network_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    fresh("pool", seed=123)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("architecture", ["pool", "tinycnn"])
def test_convolutions_are_he_initialised_and_batch_norm_starts_as_the_identity(architecture):
    network = fresh(architecture)
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() > 4000:
            fan_out = part.out_channels * part.kernel_size[0] * part.kernel_size[1]
            assert part.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(part, nn.BatchNorm2d):
            assert (part.weight == 1).all()
            assert (part.bias == 0).all()


def test_an_unknown_architecture_is_refused_with_the_nearest():
    with pytest.raises(BadInput) as refusal:
        fresh("resnet-18")
    assert str(refusal.value) == (
        "architecture 'resnet-18' is unknown; allowed: tinycnn, pool, w8, resnet8, net14, resnet18, lenet, mlp; did you mean 'resnet18'?"
    )


# --- the straight-through ReLU


def test_the_straight_through_relu_is_a_relu_whose_gradient_is_the_identity():
    x = torch.linspace(-2, 2, 9, requires_grad=True)
    out = relu(x, straight_through=True)
    assert torch.equal(out, torch.relu(x))
    weights = torch.arange(9.0)
    assert torch.equal(torch.autograd.grad(out @ weights, x)[0], weights)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_straight_through_changes_no_map_and_no_gradient_but_through_the_last_relu(architecture):
    network = problems.network(architecture, dtype=torch.float64, size_px=16)
    x = problems.images(2, 3, 16, 16, dtype=torch.float64).requires_grad_()
    plain, through = list(network.maps(x)), list(network.maps(x, straight_through=True))
    for i, ((_, one), (name, other)) in enumerate(zip(plain, through, strict=True)):
        assert torch.equal(one, other)
        gradients = [torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in (one, other)]
        assert torch.equal(*gradients) == (i < len(plain) - 1), name
