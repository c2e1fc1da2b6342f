"""Grams taken while the network runs: whatever it overwrites afterwards, runs twice, or raises in between."""

import gc

import numpy as np
import problems
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprolib.boundary import checked_images
from reprolib.errors import BadInput
from reprolib.measures.cka import MinibatchCKA
from reprolib.measures.gram import gram
from reprolib.models.grams import POOLED, collect, layer_set, minibatch_cka, spatial_mean
from reprolib.models.layers import features

IMAGES = problems.images(12, 3, 16, 16)


class InPlace(nn.Module):
    """Convolution, BatchNorm, then a ReLU that overwrites it, an addition in place, and the same ReLU again."""

    def __init__(self, inplace=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(6, 4)
        for k, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, std=0.5, generator=problems.generator(k))

    def forward(self, x):
        first = self.relu(self.bn(self.conv(x)))
        out = self.second(first)
        out += first
        return self.head(self.relu(out).mean(dim=(2, 3)))


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.fixture(scope="module")
def network():
    return problems.network("net14")


# --- what is collected


class Partly(nn.Module):
    """A layer that never runs, one that gives a tuple, one whose rows are no images, and two that are layers like any other."""

    def __init__(self):
        super().__init__()
        self.auxiliary, self.folded = nn.Linear(1, 1), nn.Flatten(0, 1)
        self.head, self.recurrent, self.flat = nn.Linear(48, 4), nn.LSTM(16, 3, batch_first=True), nn.Flatten(2)

    def forward(self, x):
        tokens = self.flat(F.adaptive_avg_pool2d(x, 4))
        self.recurrent(tokens)
        self.folded(tokens)
        return self.head(tokens.flatten(1))


def test_the_default_layers_are_those_that_run_and_have_a_row_an_image_in_the_order_of_execution():
    assert list(collect(Partly(), IMAGES)) == ["flat", "head"]
    for asked, why in (("auxiliary", "did not run"), ("recurrent", "gives a tuple"), ("folded", "with a row for each of 12 images")):
        with pytest.raises(BadInput, match=f"layer {asked} .*{why}"):
            collect(Partly(), IMAGES, [asked])
    with pytest.raises(BadInput, match="no module of this Flatten gives a tensor with a row an image"):
        collect(nn.Flatten(), IMAGES)


def test_the_grams_of_a_network_are_those_of_its_named_layers_in_execution_order(network):
    found = collect(network, IMAGES)
    assert tuple(found) == (*network.layer_names, POOLED) == layer_set(network)
    assert len(found) == 14
    for name, value in features(network, IMAGES, [*network.layer_names, POOLED]).items():
        exact = gram(value.detach())
        assert (found[name] - exact).norm() < 1e-5 * exact.norm(), name


def test_a_network_runs_no_further_than_the_last_layer_asked_for(network):
    ran = []
    handles = [module.register_forward_hook(lambda *_, path=path: ran.append(path)) for path, module in network.named_modules()]
    try:
        found = collect(network, IMAGES, ("stem", "blocks.0.first.bn"))
    finally:
        for handle in handles:
            handle.remove()
    assert set(found) == {"stem", "blocks.0.first.bn"}
    assert "blocks.0.first.bn" in ran
    assert not [path for path in ran if path.startswith("blocks.1") or path == "linear"]


def test_pixels_are_just_another_layer(network):
    found = collect(network, IMAGES, ("pixels", "stem"))
    assert tuple(found) == ("pixels", "stem")
    torch.testing.assert_close(found["pixels"], gram(IMAGES))


def test_the_two_layer_sets(network):
    blocks = layer_set(network, "blocks")
    assert blocks == ("stem", *(f"stage{s}.block{b}.relu2" for s in (1, 2, 3) for b in (1, 2)), POOLED)
    assert layer_set(problems.network("tinycnn"), "blocks") == ("conv1", "conv2", "conv3", POOLED)
    with pytest.raises(BadInput, match="layer set 'block' is unknown; allowed: activations, blocks; did you mean 'blocks'?"):
        layer_set(network, "block")


def test_any_module_by_name_and_by_default_every_one_without_children():
    model = InPlace().eval()
    assert [*collect(model, IMAGES)] == ["conv", "bn", "relu", "second", "relu#2", "head"]
    assert [*collect(model, IMAGES, ["head", "bn"])] == ["bn", "head"]


def test_modules_and_maps_stand_side_by_side_in_the_order_in_which_they_ran(network):
    names = {"stem.conv", "stem.bn", "stem", "blocks.0.first.bn", "stage1.block1.relu1", POOLED, "linear"}
    found = [*collect(network, IMAGES, sorted(names))]
    assert found == ["stem.conv", "stem.bn", "stem", "blocks.0.first.bn", "stage1.block1.relu1", POOLED, "linear"]


def test_trap_01_an_inplace_relu_after_batchnorm_does_not_spoil_the_gram():
    spoiled, sound = InPlace(), InPlace(inplace=False)
    found, expected = collect(spoiled, IMAGES), collect(sound, IMAGES)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    kept = {}
    handle = spoiled.bn.register_forward_hook(lambda module, given, value: kept.update(bn=value))
    spoiled.eval()(IMAGES)
    handle.remove()
    assert (gram(kept["bn"].detach()) - expected["bn"]).abs().max() > 0.1  # what a hook that keeps a view would compare


def test_trap_01_cka_of_an_inplace_network_equals_the_trace_form_also_with_a_last_batch_of_4():
    model = InPlace().eval()
    model.bn.bias.data += 1000  # the ReLU passes it: a feature mean of 1000 in both
    exact = InPlace(inplace=False).eval()
    exact.bn.bias.data += 1000
    batches = [IMAGES, problems.images(4, 3, 16, 16, seed=1)]
    found = minibatch_cka(model, batches, layers=("conv", "bn", "relu")).matrix()
    hsic = np.zeros((4, 4))
    for x in batches:
        with torch.no_grad():
            conv = exact.conv(x)
            bn = exact.bn(conv)
            out = exact.second(F.relu(bn)) + F.relu(bn)
        grams = [_diagonal_free(z) for z in (conv, bn, F.relu(bn), F.relu(out))]
        hsic += [[_by_traces(k, m) for m in grams] for k in grams]  # n (n - 3) times HSIC: the weights
    assert np.abs(found - hsic / np.sqrt(np.outer(hsic.diagonal(), hsic.diagonal()))).max() < 1e-5


def _diagonal_free(z):
    z = z.double().flatten(1) - z.double().flatten(1).mean(dim=0)
    return z @ z.T - torch.diag((z @ z.T).diagonal())


def _by_traces(k, m):
    n, one = len(k), torch.ones(len(k), dtype=torch.float64)
    return float(torch.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one))


def test_trap_12_a_module_that_runs_twice_has_one_key_a_call():
    found = collect(InPlace(), IMAGES, ["relu"])
    assert [*found] == ["relu", "relu#2"]
    assert not torch.allclose(found["relu"], found["relu#2"])


def test_what_is_kept_of_a_layer_is_up_to_the_caller(network):
    found = collect(network, IMAGES, ["stem", POOLED], reduce=spatial_mean)
    assert {name: value.shape for name, value in found.items()} == {"stem": (12, 16), POOLED: (12, 64)}


def test_the_network_runs_once_in_eval_mode_and_comes_back_as_it_was(network):
    model = problems.mixed(problems.network("resnet8"))
    modes, buffers, tally = problems.modes(model), problems.buffers(model), problems.tallied(model)
    modes = problems.modes(model)
    found = collect(model, IMAGES)
    assert tally.forwards == 1
    assert problems.modes(model) == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers() if name in buffers)
    torch.testing.assert_close(found[POOLED], collect(problems.network("resnet8"), IMAGES)[POOLED])


# --- hooks


def test_trap_11_hooks_are_removed_also_after_an_exception():
    model = InPlace().train()
    mine = model.bn.register_forward_hook(lambda *seen: None)
    collect(model, IMAGES)
    assert hooks(model) == 1

    def broken(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        collect(model, IMAGES, reduce=broken)
    assert hooks(model) == 1
    assert all(problems.modes(model))
    mine.remove()


def test_layers_that_do_not_run_give_no_tensor_or_are_unknown_are_refused_and_leave_no_hook():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.idle, self.head = Pair(), nn.ReLU(), nn.Flatten()

        def forward(self, x):
            return self.head(self.pair(x)[0])

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = Odd()
    for layers, message in (
        (["idle"], "layer idle did not run in the forward pass: leave it out, or name a module that does"),
        (["pair"], "layer pair gives a tuple, not a tensor: name the modules inside it"),
        (["heat"], "layer 'heat' is unknown; allowed: pixels, pair, idle, head; did you mean 'head'?"),
    ):
        with pytest.raises(BadInput) as refusal:
            collect(model, IMAGES, layers)
        assert str(refusal.value) == message
        assert hooks(model) == 0


@pytest.mark.parametrize("where", ["whole", "inside"])
def test_trap_16_data_parallel_wrappers_are_refused(where):
    wrapped = nn.DataParallel(InPlace())
    model = wrapped if where == "whole" else nn.Sequential(wrapped)
    place = "" if where == "whole" else " at '0'"
    with pytest.raises(BadInput) as refusal:
        collect(model, IMAGES)
    assert str(refusal.value) == f"DataParallel{place} splits batches over devices and mixes their order: give its .module"


# --- the entrance


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (255 * IMAGES, "images lie in [0.0"),
        (IMAGES - 0.5, "images lie in [-0."),
        (IMAGES * torch.nan, "images [0, 1, 2, 3, 4, 5, 6, 7] hold values that are not finite: look at what made them"),
        (
            (255 * IMAGES).byte(),
            "images are torch.uint8 of shape (12, 3, 16, 16): give floats (n, c, h, w) in [0, 1] (bytes divided by 255)",
        ),
        (IMAGES[0], "images are torch.float32 of shape (3, 16, 16): give floats (n, c, h, w) in [0, 1] (bytes divided by 255)"),
    ],
)
def test_trap_17_images_outside_the_unit_range_are_refused_before_the_network_runs(x, message, network):
    tally = problems.tallied(problems.network("tinycnn"))
    with pytest.raises(BadInput) as refusal:
        collect(network, x)
    assert str(refusal.value).startswith(message)
    assert tally.forwards == 0
    edge = torch.tensor([0.0, 1.0, -1e-7, 1 + 1e-7]).view(1, 1, 1, 4)
    assert checked_images(edge).flatten().tolist() == [0, 1, 0, 1]


def test_reduced_precision_does_not_reach_the_features(network):
    exact = collect(problems.network("net14", dtype=torch.float64), IMAGES.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = collect(network, IMAGES)
    for name, value in found.items():
        assert (value - exact[name]).abs().max() < 1e-5 * exact[name].abs().max()


# --- a whole network


def test_trap_18_a_second_run_gives_the_same_matrix(network):
    batches = [IMAGES, problems.images(12, 3, 16, 16, seed=1)]
    first, second = (minibatch_cka(network, batches) for _ in range(2))
    assert np.array_equal(first.matrix(), second.matrix())
    assert np.abs(np.diagonal(first.matrix()) - 1).max() < 1e-5
    assert first.names_x == layer_set(network)


def test_two_networks_are_compared_on_the_same_images(network):
    other = problems.network("tinycnn", seed=5)
    batches = [IMAGES, problems.images(12, 3, 16, 16, seed=1)]
    found = minibatch_cka(network, iter(batches), other)
    by_hand = MinibatchCKA(14, 4)
    for x in batches:
        by_hand.update([*features(network, x, layer_set(network)).values()], [*features(other, x, layer_set(other)).values()])
    np.testing.assert_allclose(found.matrix(), by_hand.matrix(), atol=1e-6)
    assert minibatch_cka(network, batches, network).matrix()[3, 3] == pytest.approx(1, abs=1e-9)


def test_a_dead_layer_is_named():
    found = minibatch_cka(problems.dead_until_bright(), [IMAGES / 100])
    assert [*found.undefined()] == ["conv3", POOLED]
    assert np.isnan(found.matrix()[:, 2:]).all()
    assert np.isfinite(found.matrix()[:2, :2]).all()


def test_no_batch_is_refused(network):
    with pytest.raises(BadInput, match="there is no batch of images: give at least one"):
        minibatch_cka(network, [])


def test_what_is_held_does_not_grow_with_the_number_of_images():
    """Bytes of all tensors alive between batches: 2,000 and 8,000 images in batches of 100."""
    network = problems.network("tinycnn")
    gc.collect()

    def alive():
        storages = [one.untyped_storage() for one in gc.get_objects() if issubclass(type(one), Tensor)]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def batches(n):
        peak = 0
        for k in range(n):
            yield problems.images(100, 3, 8, 8, seed=k)
            peak = max(peak, alive()) if k % 20 == 19 else peak
        peaks.append(peak)

    peaks = []
    for n_batches in (20, 80):
        minibatch_cka(network, batches(n_batches))
    assert peaks[0] > 4 * 100 * 100 * 8  # the Grams of one batch
    assert peaks[1] < 1.1 * peaks[0]
