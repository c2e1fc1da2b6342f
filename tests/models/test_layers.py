"""Codes and maps by name, modes that are handed back, and BatchNorm that folds away without a trace."""

import problems
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reprolib.errors import BadInput
from reprolib.models.layers import LAST, eval_mode, features, fold_batch_norm, movable, movable_key, representation
from reprolib.models.networks import ARCHITECTURES, build

IMAGES = problems.images(3, 3, 32, 32)
WITH_MAPS = [
    architecture for architecture in ARCHITECTURES if architecture not in ("lenet", "mlp")
]  # their codes are dense, without BatchNorm


@pytest.fixture(scope="module")
def network():
    return problems.network("resnet8")


# --- features


def test_features_are_the_networks_maps_in_the_order_asked_for(network):
    maps = dict(network.maps(IMAGES))
    asked = ("stage3.block1.relu2", "stem", "stage2.block1.relu1")
    found = features(network, IMAGES, asked)
    assert tuple(found) == asked
    assert all(torch.equal(found[name], maps[name]) for name in asked)


def test_last_and_pooled_are_the_last_map_and_its_mean(network):
    found = features(network, IMAGES, ["pooled", LAST, network.layer_names[-1], "stem"])
    assert torch.equal(found[LAST], found["stage3.block1.relu2"])
    assert torch.equal(found["pooled"], found[LAST].mean(dim=(2, 3)))
    assert found["pooled"].shape == (3, network.n_features)
    torch.testing.assert_close(network.linear(found["pooled"]), network(IMAGES))


def test_nothing_runs_after_the_deepest_map_asked_for(network):
    ran = []
    handles = [block.register_forward_hook(lambda *seen, i=i: ran.append(i)) for i, block in enumerate(b.second for b in network.blocks)]
    features(network, IMAGES, ["stem", "stage2.block1.relu1"])
    representation(network, IMAGES, layer="stage1.block1.relu2")
    assert ran == [0, 0]
    features(network, IMAGES, [LAST])
    assert ran == [0, 0, 0, 1, 2]
    for handle in handles:
        handle.remove()


def test_no_layers_give_no_maps(network):
    assert features(network, IMAGES, []) == {}


def test_an_unknown_layer_is_refused_with_all_names_and_the_nearest(network):
    allowed = ", ".join(network.layer_names)
    with pytest.raises(BadInput) as refusal:
        features(network, IMAGES, ["stem", "stage3.block2.relu2"])
    assert str(refusal.value) == (
        f"layer 'stage3.block2.relu2' is not in resnet8; allowed: {allowed}, last, pooled; did you mean 'stage3.block1.relu2'?"
    )
    with pytest.raises(BadInput) as refusal:
        representation(network, IMAGES, layer="stemm")
    assert str(refusal.value) == f"layer 'stemm' is not in resnet8; allowed: {allowed}, last; did you mean 'stem'?"


# --- representation


@pytest.mark.parametrize("architecture", WITH_MAPS)
@pytest.mark.parametrize("pool", [1, 2, 4])
def test_the_code_is_the_last_map_averaged_to_pool_by_pool_positions(architecture, pool):
    network = problems.network(architecture)
    code = representation(network, IMAGES, pool)
    last = features(network, IMAGES, [LAST])[LAST]
    assert code.shape == (3, network.n_features * pool**2)
    cell = last.shape[-1] // pool
    by_hand = torch.stack(
        [last[:, :, i * cell : (i + 1) * cell, j * cell : (j + 1) * cell].mean(dim=(2, 3)) for i in range(pool) for j in range(pool)],
        dim=2,
    )
    torch.testing.assert_close(code, by_hand.flatten(1))


def test_the_code_of_pool_1_is_the_input_of_the_linear_head(network):
    torch.testing.assert_close(network.linear(representation(network, IMAGES)), network(IMAGES))


def test_an_inner_layer_has_a_code_too(network):
    code = representation(network, IMAGES, 2, "stem")
    torch.testing.assert_close(code, F.avg_pool2d(features(network, IMAGES, ["stem"])["stem"], 16).flatten(1))


@pytest.mark.parametrize("pool", [16, 9])
def test_a_pool_larger_than_the_map_is_refused_with_the_largest(network, pool):
    with pytest.raises(BadInput) as refusal:
        representation(network, IMAGES, pool)
    assert str(refusal.value) == f"pool={pool} is larger than the 8 x 8 map of stage3.block1.relu2; allowed: 1 to 8"


@pytest.mark.parametrize("pool", [0, -1])
def test_a_pool_that_is_no_count_is_refused(network, pool):
    with pytest.raises(BadInput, match=f"pool={pool} .*allowed: 1 to 8"):
        representation(network, IMAGES, pool)


def test_a_dead_last_relu_has_no_gradient_unless_it_is_straight_through():
    network = problems.dead_until_bright()
    x = torch.zeros(2, 3, 8, 8, requires_grad=True)
    gradients = {}
    for through in (False, True):
        code = representation(network, x, straight_through=through)
        assert (code == 0).all()
        gradients[through] = torch.autograd.grad(code.sum(), x)[0]
    assert (gradients[False] == 0).all()
    assert (gradients[True].flatten(1).norm(dim=1) > 0).all()
    assert (representation(network, torch.ones(1, 3, 8, 8)) > 0).all()


# --- modes


@pytest.mark.parametrize("fails", [False, True])
def test_eval_mode_gives_every_submodule_its_mode_back_also_after_an_error(fails):
    network = problems.mixed(problems.network("pool"))
    modes, buffers = problems.modes(network), problems.buffers(network)
    assert True in modes
    assert False in modes
    try:
        with eval_mode(network) as inside:
            assert inside is network
            assert not any(problems.modes(network))
            network(IMAGES)
            if fails:
                raise RuntimeError("boom")
    except RuntimeError:
        assert fails
    assert problems.modes(network) == modes
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_eval_modes_may_be_nested():
    network = problems.mixed(problems.network())
    modes = problems.modes(network)
    with eval_mode(network):
        with eval_mode(network):
            pass
        assert not any(problems.modes(network))
    assert problems.modes(network) == modes


# --- folding


@pytest.mark.parametrize("architecture", WITH_MAPS)
def test_a_folded_copy_is_the_same_function_without_batch_norm(architecture):
    network = problems.network(architecture)
    folded = fold_batch_norm(network)
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    assert not any(isinstance(part, nn.modules.batchnorm._NormBase) for part in folded.modules())
    logits = network(IMAGES)
    assert (folded(IMAGES) - logits).abs().max() <= 1e-5 * max(1, logits.abs().max().item())
    for (name, one), (_, other) in zip(network.maps(IMAGES), folded.maps(IMAGES), strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1, one.abs().max().item()), name
    assert folded.layer_names == network.layer_names


def test_folding_follows_the_formula_exactly():
    """In double: W g / sqrt(v + e), b - m g / sqrt(v + e)."""
    network = problems.network("tinycnn", dtype=torch.float64)
    folded = fold_batch_norm(network)
    for conv, merged in zip(network.convs, folded.convs, strict=True):
        scale = conv.bn.weight / (conv.bn.running_var + conv.bn.eps).sqrt()
        torch.testing.assert_close(merged.conv.weight, conv.conv.weight * scale.view(-1, 1, 1, 1))
        torch.testing.assert_close(merged.conv.bias, conv.bn.bias - conv.bn.running_mean * scale)
    x = IMAGES.double()
    torch.testing.assert_close(folded(x), network(x), rtol=1e-10, atol=1e-10)


def test_folding_leaves_the_network_itself_alone():
    network = problems.mixed(problems.network())
    modes, state = problems.modes(network), {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batch_norm(network)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert problems.modes(network) == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert not any(problems.modes(folded))


def test_a_network_fresh_from_its_seed_folds_too():
    network = build("pool", 4, problems.MEAN, problems.STD, 0)
    folded = fold_batch_norm(network)
    torch.testing.assert_close(folded(IMAGES), network.eval()(IMAGES), rtol=0, atol=1e-5)


def test_folding_twice_changes_nothing():
    folded = fold_batch_norm(problems.network())
    assert torch.equal(fold_batch_norm(folded)(IMAGES), folded(IMAGES))


# --- a copy to move pixels by


def pixel_gradient(network, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(network(x).square().sum(), x)[0]


@pytest.mark.parametrize("architecture", WITH_MAPS)
def test_a_movable_copy_is_the_folded_one_bit_by_bit(architecture):
    network = problems.network(architecture)
    folded, x = fold_batch_norm(network).to(memory_format=torch.channels_last), IMAGES.contiguous(memory_format=torch.channels_last)
    assert torch.equal(movable(network)(x), folded(x))


@pytest.mark.parametrize("side_px", [32, 31, 17, 8])
def test_the_gradient_through_a_strided_stem_is_the_plain_one_up_to_rounding(side_px):
    network, x = problems.network("pool", dtype=torch.float64), problems.images(3, 3, side_px, side_px, dtype=torch.float64)
    plain = pixel_gradient(fold_batch_norm(network), x)
    torch.testing.assert_close(pixel_gradient(movable(network), x), plain, rtol=1e-10, atol=1e-12 * plain.abs().max().item())


def test_the_gradient_through_a_strided_stem_runs_under_autocast_too():
    network, x = problems.network("pool"), problems.images(3, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, plain = pixel_gradient(movable(network), x), pixel_gradient(fold_batch_norm(network), x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=0.1, atol=0.05 * plain.abs().max().item())


def test_a_gradient_that_differs_in_the_last_digits_has_a_key_of_its_own():
    keys = {}
    for architecture in ("pool", "w8", "resnet8", "tinycnn", "lenet"):
        network = problems.network(architecture)
        network.sha256 = "0" * 64
        keys[architecture] = movable_key(network)
    assert keys.pop("pool") == "0" * 64 + ", gradient by patches"
    assert set(keys.values()) == {"0" * 64}


def test_a_map_of_as_many_positions_as_the_code_is_the_code():
    network = problems.network("pool")
    last = features(network, IMAGES, [LAST])[LAST]
    assert last.shape[2:] == (4, 4)
    assert torch.equal(representation(network, IMAGES, 4), F.adaptive_avg_pool2d(last, 4).flatten(1))
