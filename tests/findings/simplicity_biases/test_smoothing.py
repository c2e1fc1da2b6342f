"""Smoothness of planted networks as rows: what noise they were shown, what the batches add up to, which stem is the smoother one."""

import copy
import hashlib
from types import SimpleNamespace

import problems
import pytest
import torch
from inverses import planted_set
from layers import carded
from torch import nn

from reprolib.data import distort
from reprolib.data.images import images as labelled
from reprolib.errors import BadInput
from reprolib.findings.simplicity_biases import smoothing
from reprolib.findings.simplicity_biases.smoothing import BANDS, NOISES, by_layer, first_filters, noisy
from reprolib.measures import smoothness
from reprolib.models.networks import weights_sha256

# --- the two questions, as the notebook asks them of one network


def first_layer(network):
    """Of the first layer's filters, free of their norm: share of power above .25 cycles a px, and total variation, (k,) each."""
    found = smoothness.filters(first_filters(network))
    return {"index": found.index, "high_frequency_fraction": found.high_frequency, "filter_tv": found.tv}


def responses(network, images):
    """By layer and noise: mean total variation of each channel's maps and b_k, (c,); ||f(x') - f(x)|| / ||f(x)|| of each image, (n,)."""

    def of_maps(maps):
        tv = {f"tv@{name}": smoothness.total_variation(a) for name, a in maps.items()}
        change = {f"change@{noise}": smoothness.relative_change(maps[noise], maps["clean"]) for noise in images.noises}
        return tv | change | {"size": maps["clean"].abs().mean(dim=(2, 3))}

    found = by_layer(network, images, of_maps)
    for of in found.values():
        of |= {f"b@{noise}": smoothness.blocking(of["tv@clean"], of[f"tv@{noise}"]) for noise in images.noises}
    return found


def study():
    each = lambda nets: ((role, one) for role, ones in nets.items() for one in ones)  # noqa: E731
    return SimpleNamespace(can_measure=True, device="cpu", report=lambda line: None, each=each)


def smooth_images(n=24, side=24):
    """Coloured clouds, as smooth as photographs are."""
    x = distort.lowpass(problems.images(n, 3, side, side, seed=5), 2)
    x = 0.5 + (x - x.mean()) / x.std() * 0.2
    return labelled((x.clamp(0, 1) * 255).round().to(torch.uint8), torch.zeros(n, dtype=torch.int64), ("a",), "clouds")


def with_stem(kernel, recipe):
    """A W8 whose stem is a fixed bank: each filter the kernel (7, 7) in a colour of its own."""
    network = carded(0, recipe, "w8")
    weight = network.stem.conv.weight
    colours = torch.randn(len(weight), 3, 1, 1, generator=problems.generator(3))
    with torch.no_grad():
        weight.copy_(colours * kernel / (colours * kernel).flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    network.sha256 = weights_sha256(network)
    return network


def banks():
    at = torch.arange(7.0) - 3
    squared = at[:, None].square() + at.square()
    laplacian = torch.zeros(7, 7)
    laplacian[2:5, 2:5] = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    return {"robust": [with_stem(torch.exp(-squared / 4.5), "l2_05")], "standard": [with_stem(laplacian, "std")]}


@pytest.fixture(scope="module")
def rows():
    """Rows of the network with a Gaussian stem, as robust, and of that with a Laplacian one, as standard."""
    nets, shown = banks(), noisy(smooth_images(), 24)
    found = (
        smoothing.filters(study(), nets, first_layer),
        *(of(study(), nets, responses, shown) for of in (smoothing.blocking, smoothing.changes)),
    )
    return dict(zip(("filters", "blocking", "changes"), found, strict=True))


def test_a_gaussian_stem_is_smoother_than_a_laplacian_one_in_each_quantity(rows):
    def mean(name, quantity):
        of = rows[name][rows[name]["quantity"] == quantity]
        return of.groupby("arm")["value"].mean()

    high_minus_low = mean("changes", "relative_change@high") - mean("changes", "relative_change@low")
    for of in (
        mean("filters", "high_frequency_fraction"),
        mean("filters", "filter_tv"),
        mean("blocking", "tv_response@first"),
        high_minus_low,
    ):
        assert of["robust"] < of["standard"]


def test_every_unit_has_a_row_under_its_layer_and_number_and_thirds_are_rounded_down(rows):
    filters, blocking = rows["filters"], rows["blocking"]
    assert set(filters[filters["quantity"] == "filter_tv"]["unit"]) == {f"conv1:{k:03d}" for k in range(16)}
    layers = {q: {u.partition(":")[0] for u in part["unit"]} for q, part in blocking.groupby("quantity")}
    assert (
        layers["tv_response@first"] == layers["tv_response@first_02"] == layers["tv_response@first_10"] == {"stem", "stage1.block1.relu1"}
    )
    assert layers["tv_response@last"] == {"stage3.block1.relu1", "stage3.block1.relu2"}
    assert len(layers["tv_response@middle"]) == 3
    assert len(layers["tv_clean"]) == len(layers["tv_noisy"]) == len(layers["dead"]) == 7
    first = blocking[blocking["quantity"] == "tv_response@first"]
    tv = blocking.pivot_table(index=["arm", "unit"], columns="quantity", values="value")
    again = smoothness.blocking(
        *(torch.tensor(tv.loc[list(zip(first["arm"], first["unit"], strict=True)), q].to_numpy()) for q in ("tv_clean", "tv_noisy"))
    )
    assert first["value"].tolist() == pytest.approx(again.tolist(), abs=1e-3)


def test_changes_of_images_and_of_layers_are_means_of_the_same_numbers(rows):
    changes = rows["changes"]
    assert set(changes[changes["claim"] == "SIM-2"]["quantity"]) == {"relative_change@white"}
    for noise in BANDS:
        images, layers = (changes[changes["quantity"] == f"{what}@{noise}"] for what in ("relative_change", "change_by_layer"))
        assert images.groupby("arm")["value"].mean().tolist() == pytest.approx(layers.groupby("arm")["value"].mean().tolist(), rel=1e-3)
        assert layers[layers["arm"] == "robust"].sort_values("unit_2")["unit"].tolist() == list(banks()["robust"][0].layer_names)


def test_37_images_in_batches_of_16_equal_one_batch_of_37(monkeypatch):
    network, shown = carded(), noisy(planted_set(40), 37)
    whole = responses(network, shown)
    monkeypatch.setattr(smoothing.Noisy.batches, "__defaults__", ("cpu", 16))
    parts = responses(network, shown)
    monkeypatch.setattr(smoothing.Noisy.batches, "__defaults__", ("cpu", 37))
    one = responses(network, shown)
    for layer, of in one.items():
        assert len(of["change@low"]) == 37
        for name, values in of.items():
            for other in (whole, parts):
                torch.testing.assert_close(other[layer][name].double(), values.double(), rtol=1e-4, atol=1e-6)


def test_every_network_is_shown_the_same_noise_and_an_image_keeps_its_own():
    seen = []

    class Eye(nn.Module):
        def forward(self, x):
            seen.append(hashlib.sha256(x.numpy().tobytes()).hexdigest())
            return x

    images = planted_set(40)
    for seed in (0, 1):
        network = carded(seed)
        network.normaliser = nn.Sequential(Eye(), network.normaliser)
        responses(network, noisy(images, 40))
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]
    assert len(set(seen)) == len(seen) // 2
    few, many = (next(iter(noisy(images, n).batches())) for n in (5, 40))
    for name, x in few.items():
        assert torch.equal(x, many[name][:5])
    assert not torch.equal(few["white"][0] - few["clean"][0], few["white"][1] - few["clean"][1])


def test_a_key_names_the_images_their_number_and_the_noise():
    images, other = planted_set(40), planted_set(40, seed=1)
    shown = [noisy(images, 40), noisy(images, 39), noisy(other, 40), noisy(images, 40, {"white": ("white", 0.1)})]
    assert len({repr(one.key) for one in shown}) == 4
    assert noisy(images, 40).key == shown[0].key == noisy(images, 400).key


def test_a_dead_unit_has_no_row_and_is_counted_and_a_dead_layer_is_told_of(capsys):
    network = copy.deepcopy(carded())
    with torch.no_grad():
        bn = network.convs[1].bn
        bn.weight[3], bn.bias[3] = 0, -1
        network.convs[2].bn.weight[:], network.convs[2].bn.bias[:] = 0, -1
    network.sha256 = weights_sha256(network)
    found = smoothing.blocking(study(), {"gauss": [network]}, responses, noisy(planted_set(8), 8))
    dead = found[found["quantity"] == "dead"].set_index("unit")["value"]
    assert dead.to_dict() == {"conv1": 0, "conv2": 1, "conv3": 64}
    units = set(found[found["quantity"] != "dead"]["unit"])
    assert "conv2:003" not in units
    assert "conv2:002" in units
    assert not any(unit.startswith("conv3") for unit in units)
    assert "all 64 units of conv3 are dead, and left out" in capsys.readouterr().out
    assert not found["quantity"].isin(["tv_clean", "tv_noisy"]).any()  # of arms alone


def test_a_filter_of_norm_0_has_no_row_and_is_counted():
    network = with_stem(torch.eye(7), "std")
    with torch.no_grad():
        network.stem.conv.weight[5] = 0
    rows = smoothing.filters(study(), {"standard": [network]}, first_layer).set_index(["quantity", "unit"])["value"]
    assert rows["flat_filters"].to_dict() == {"conv1": 1}
    assert rows["filter_tv"].index.tolist() == [f"conv1:{k:03d}" for k in range(16) if k != 5]


def test_a_network_without_such_filters_has_no_rows_and_a_line_says_why(capsys):
    nets = {"standard": [carded(0, "std", "tinycnn"), carded(1, "std", "mlp")]}
    assert smoothing.filters(study(), nets, first_layer).empty
    told = capsys.readouterr().out
    assert "filter statistics are not asked of 3x3 filters" in told
    assert "the first layer with weights is a Linear: filter statistics are asked of a convolution" in told


@pytest.mark.parametrize("noise", [("white", -0.1), ("high", -1.0), ("pink", 0.1), ("white", float("nan"))])
def test_noise_of_another_kind_or_below_0_is_refused(noise):
    with pytest.raises(BadInput, match=r"allowed are white, low, middle, high, of 0 or more in units of \[0, 1\]"):
        noisy(planted_set(8), 8, {"mine": noise})


def test_noise_of_0_moves_nothing():
    found = responses(carded(), noisy(planted_set(8), 8, {name: (kind, 0.0) for name, (kind, _) in NOISES.items()}))
    for of in found.values():
        assert all(not values.any() for name, values in of.items() if name.startswith(("b@", "change@")))
