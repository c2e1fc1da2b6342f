"""Removing channels: planted necessary and useless ones, against running the whole network, twice alike, nothing left changed."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd
import problems
import pytest
import torch
from torch import Tensor, nn

import reprolib
from reprolib.data.images import Images
from reprolib.data.images import images as labelled
from reprolib.errors import BadInput
from reprolib.findings.simplicity_biases import ablating
from reprolib.models.layers import fold_batch_norm
from reprolib.models.networks import ConvNet, Network, weights_sha256
from reprolib.study import Study


def planted() -> ConvNet:
    """Class 1 where an image is red: channel 0 of either layer tells it, all others are on and not looked at."""
    convs = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)]
    network = ConvNet("tinycnn", 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), convs, n_features=8)
    with torch.no_grad():
        for part in (*convs, network.linear):
            part.weight.zero_()
            part.bias.zero_()
        convs[0].weight[0, 0] = 1.0
        convs[0].bias[1:] = 1.0
        convs[1].weight[torch.arange(8), torch.arange(8)] = 1.0
        network.linear.weight[1, 0] = 1.0
        network.linear.bias[0] = 0.5
    return network.eval()


def red_or_not(n: int = 40) -> Images:
    x = torch.zeros(n, 3, 4, 4, dtype=torch.uint8)
    x[::4, 0] = 255  # a quarter is red
    return labelled(x, (torch.arange(n) % 4 == 0).long(), ("other", "red"), "planted")


def detectors(*of: tuple[str, int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(of, columns=ablating.COLUMNS)


def test_a_necessary_channel_shows_its_full_drop_and_a_useless_one_none() -> None:
    found = ablating.drop(planted(), red_or_not(), detectors(("conv1", 0, "texture", 0.3), ("conv2", 5, "object", 0.2)), "texture")[
        "texture"
    ]
    assert found.removed == {"conv1": [0], "conv2": []}
    assert found.raw.tolist() == [1.0, 0, 0, 0] * 10  # every red image
    n_hit = sum(0 in of for of in ablating._draws(0, 8, 1, 20))
    assert found.at_random.tolist() == [n_hit / 20, 0, 0, 0] * 10
    assert found.drop.tolist() == pytest.approx([1 - n_hit / 20, 0, 0, 0] * 10)
    useless = ablating.drop(planted(), red_or_not(), detectors(("conv2", 5, "object", 0.2)), "object")["object"]
    assert useless.raw.sum() == 0
    by_mean = ablating.drop(planted(), red_or_not(), detectors(("conv2", 0, "texture", 0.2)), "texture", by_mean=True)["texture"]
    assert by_mean.raw.tolist() == [1.0, 0, 0, 0] * 10  # the mean of a quarter red is .25, below the other class's .5


def test_layers_are_removed_one_at_a_time_and_averaged() -> None:
    found = ablating.drop(planted(), red_or_not(), detectors(("conv1", 3, "texture", 0.3), ("conv2", 0, "texture", 0.2)), "texture")[
        "texture"
    ]
    assert found.raw.tolist() == [0.5, 0, 0, 0] * 10
    assert found.random.shape == (2, 20, 40)


def test_without_a_detector_the_drop_is_nought() -> None:
    found = ablating.drop(planted(), red_or_not(), detectors(("conv1", 0, "colour", 0.3)), "texture")["texture"]
    assert found.drop.tolist() == [0.0] * 40
    assert found.wrong.shape == (0, 40)


def test_the_strongest_are_removed_at_most_a_quarter() -> None:
    of = detectors(*(("conv1", unit, "texture", 0.1 + 0.01 * (unit % 4)) for unit in range(8)), ("conv1", 9, "object", 0.9))
    assert ablating.strongest(of, "conv1", "texture", 8) == [3, 7]  # equal ones by number
    assert ablating.strongest(of, "conv1", "texture", 16) == [3, 7, 2, 6]
    assert ablating.strongest(of, "conv1", "texture", 2) == [3]
    assert ablating.strongest(of, "conv2", "texture", 8) == []


def whole(network: Network, x: Tensor, layer: str, channels: list[int]) -> Tensor:
    """Classes by running everything, in one batch."""
    folded = fold_batch_norm(network)
    for name, value in folded.maps(x):
        if name == layer:
            value[:, channels] = 0
    return folded.linear(value.mean(dim=(2, 3))).argmax(dim=1)


@pytest.mark.parametrize("architecture", ["pool", "w8", "tinycnn", "lenet"])
def test_what_is_resumed_from_a_layer_is_what_the_whole_network_gives(architecture: str) -> None:
    network, x = problems.network(architecture, n_classes=10), problems.images(67, 3, 32, 32)
    with torch.no_grad():
        network.linear.bias -= network(x).mean(dim=0)  # so that images are of several classes
    y = whole(network, x, "", [])
    sets = {layer: [[], [0, 2], [*range(6)]] for layer in network.layer_names}
    found = ablating.turned_wrong(network, x, y, sets)
    for layer in network.layer_names:
        assert not found[layer][0].any()
        for k in (1, 2):
            assert torch.equal(found[layer][k], whole(network, x, layer, sets[layer][k]) != y), (layer, k)
    assert any(found[layer].any() for layer in network.layer_names)


class Drops(nn.Dropout):
    """A dropout as its last convolution's companion, that must not drop."""


def test_two_runs_are_bit_equal_in_eval_mode_and_nothing_stays_changed() -> None:
    network = problems.network("pool", n_classes=10)
    network.linear = nn.Sequential(Drops(0.5), network.linear)  # type: ignore[assignment]
    problems.mixed(network)
    modes, state = problems.modes(network), {name: value.clone() for name, value in network.state_dict().items()}
    images = labelled((255 * problems.images(60, 3, 32, 32)).byte(), torch.arange(60) % 10, tuple("abcdefghij"), "noise")
    of = detectors(("stem", 3, "texture", 0.3), ("stage2.block1.relu1", 5, "texture", 0.2))
    first, second = (ablating.drop(network, images, of, "texture")["texture"] for _ in range(2))
    assert torch.equal(first.wrong, second.wrong)
    assert torch.equal(first.random, second.random)
    assert problems.modes(network) == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert "maps" not in vars(network)
    assert not any("forward" in vars(part) or part._forward_hooks for part in network.modules())


def test_wrong_input_ends_in_one_clear_sentence() -> None:
    for of, sentence in (
        (detectors(("conv3", 0, "texture", 0.3)), "detectors are of layer 'conv3', which the network does not have; allowed: conv1, conv2; did"),
        (detectors(("conv1", 8, "texture", 0.3)), "detectors of conv1 have units [8]: each at most once, from 0 to 7"),
        (pd.DataFrame({"layer": ["conv1"], "unit": [0]}), "detectors have no column category, iou: give a frame with layer, unit, category, iou"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=re.escape(sentence)):
            ablating.drop(planted(), red_or_not(), of, "texture")["texture"]


@pytest.fixture
def study(repository: object, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    made = reprolib.start("simplicity_biases", {"scale": "smoke"})
    made._images["test"] = red_or_not(100)
    return made


def carded(network: Network, recipe: str, seed: int = 0) -> Network:
    network.sha256 = weights_sha256(network)
    network.card = {"name": f"{recipe} {seed}", "description": {"recipe": {"id": recipe}, "architecture": "tinycnn", "seed": seed}}
    return network


def test_rows_hold_drops_of_the_images_that_all_networks_have_right(study: Study) -> None:
    blind = carded(planted(), "l2_075")
    with torch.no_grad():
        blind.linear.bias[0] = 0.6
    blind.sha256 = weights_sha256(blind)
    nets: dict[str, list[Network]] = {
        "standard": [carded(planted(), "std")],
        "robust": [blind],
        "gauss": [carded(planted(), "gauss_20", 2)],
    }

    def ablation(network: Network, images: Images, of: pd.DataFrame) -> Mapping[str, ablating.Drop]:
        by_mean = ablating.drop(network, images, of, "texture", by_mean=True, n_draws=5)
        return {**ablating.drop(network, images, of, *ablating.LABELS), "texture, by mean": by_mean["texture"]}

    def detected(network: Network) -> pd.DataFrame:
        return detectors(("conv1", 0, "texture", 0.3)) if network is not blind else detectors(("conv1", 1, "object", 0.3))

    rows = ablating.ablations(study, nets, ablation, detected)
    assert set(rows["arm"]) == {"standard", "robust"}
    n = study.settings.values["n_ablation"]
    drops = rows[rows["quantity"] == "drop@texture"].set_index("arm")
    assert len(drops) == 2 * n
    assert drops.loc["standard", "reached"].all()
    assert not drops.loc["robust", "reached"].any()  # it has no such detector
    assert (drops.loc["robust", "value"] == 0).all()
    assert drops["unit_2"].nunique() == 1
    raw = rows[(rows["quantity"] == "texture_drop_raw") & (rows["arm"] == "standard")]["value"]
    assert raw.tolist() == [float(k % 4 == 0) for k in range(n)]
    removed = rows[rows["quantity"] == "removed@texture"].set_index(["arm", "unit"])["value"]
    assert removed.to_dict() == {("standard", "conv1"): 1, ("standard", "conv2"): 0, ("robust", "conv1"): 0, ("robust", "conv2"): 0}
    assert {"mean_drop@texture", "random_drop@object", "object_drop_raw", "by_layer@texture", "random_by_layer@texture"} <= set(
        rows["quantity"]
    )
    study.add(rows)
    assert len(study.rows) == len(rows)  # of the schema, none twice
    again = ablating.ablations(study, nets, ablation, detected)
    pd.testing.assert_frame_equal(again, rows)


def test_images_must_be_right_in_every_network(study: Study) -> None:
    blind, inverted = planted(), planted()
    with torch.no_grad():
        blind.linear.bias[1] = -9.0  # never says red
        inverted.linear.bias[0], inverted.linear.weight[1, 0] = -0.5, -1.0  # says red of all but red ones
    nets = {"standard": [carded(planted(), "std")], "robust": [carded(blind, "l2_075")]}
    found, index = ablating.common_images(study, nets)
    assert index == [k for k in range(100) if k % 4][: study.settings.values["n_ablation"]]
    assert (found.y == 0).all()
    with pytest.raises(BadInput, match="no image is right in every standard and robust network"):
        ablating.common_images(study, {**nets, "robust": [carded(inverted, "l2_075")]})
