"""The explorer: its picture follows what is chosen, its numbers are those of the loss, and without a person it says so."""

from __future__ import annotations

import problems
import pytest
import torch

import reprolib
from reprolib.findings.entanglement import explorer
from reprolib.measures.soft_nearest_neighbor import soft_nearest_neighbor_loss
from reprolib.models.networks import Network


def carded(seed: int) -> Network:
    network = problems.network("tinycnn", seed=seed)
    network.card = {"description": {"seed": seed}}
    return network


@pytest.fixture(scope="module")
def screen() -> explorer.Screen:
    return explorer.Screen(problems.images(24, 3, 16, 16), torch.arange(24) % 4, {"standard": [carded(0)], "entangled": [carded(1)]})


def test_the_picture_follows_network_layer_and_temperature(screen: explorer.Screen) -> None:
    assert list(screen.networks) == ["standard, 0", "entangled, 1"]
    assert screen.layers("standard, 0") == ["conv1", "conv2", "conv3", "pooled"]
    first = screen.png("standard, 0", "conv2", -1.0)
    assert first.startswith(b"\x89PNG")
    assert first == screen.png("standard, 0", "conv2", -1.0)
    others = {screen.png("standard, 0", "conv2", 0.5), screen.png("standard, 0", "pooled", -1.0), screen.png("entangled, 1", "conv2", -1.0)}
    assert len({first, *others}) == 4
    assert screen.png("standard, 0", "another network's layer", -1.0) == screen.png("standard, 0", "pooled", -1.0)


def test_the_curve_is_the_loss_and_its_minimum_lies_below(screen: explorer.Screen) -> None:
    of = screen.seen("standard, 0", "conv3")
    n = len(of.features)
    by_hand = torch.cdist(of.features, of.features).square()
    torch.testing.assert_close(of.distances, by_hand, atol=1e-9 * float(by_hand.max()), rtol=1e-6)
    mean = float(by_hand.sum()) / (n * (n - 1))
    for k in (0, 20, 40):
        expected = soft_nearest_neighbor_loss(of.features, screen.y, 10 ** float(screen.decades[k]) * mean) / of.least.bound
        assert float(of.curve[k]) == pytest.approx(float(expected), rel=1e-6)
    assert of.curve.min() >= of.least.share - 1e-9
    spread = (of.places - of.places.mean(dim=0)).square().sum(dim=0)
    largest = torch.linalg.svdvals(of.features - of.features.mean(dim=0))[:2].square()
    torch.testing.assert_close(spread, largest, rtol=1e-6, atol=1e-9)


def test_a_dead_layer_is_drawn_too() -> None:
    network = carded(2)
    with torch.no_grad():
        network.convs[1].bn.weight.zero_(), network.convs[1].bn.bias.fill_(-1)  # type: ignore[index,union-attr]
    screen = explorer.Screen(problems.images(12, 3, 16, 16), torch.arange(12) % 3, {"standard": [network]})
    assert screen.png("standard, 2", "conv2", 0.0).startswith(b"\x89PNG")


def test_without_a_person_it_says_so_in_a_line(repository: object, capsys: pytest.CaptureFixture[str]) -> None:
    study = reprolib.start("entanglement", {"scale": "smoke"})
    capsys.readouterr()
    assert explorer.temperatures(study, {}) is None
    assert explorer.temperatures(study, {}, interactive="off") is None
    assert capsys.readouterr().out == 2 * f"{explorer.HEADLESS}\n"


def test_with_a_person_menus_move_the_picture(repository: object, monkeypatch: pytest.MonkeyPatch) -> None:
    study = reprolib.start("entanglement", {"scale": "smoke"})
    box = explorer.temperatures(study, {"standard": [carded(0)], "entangled": [carded(1)]}, interactive="on")
    assert box is not None
    network, layer, decade = box.children[0].children
    before = box.children[1].value
    decade.value = 0.5
    assert box.children[1].value != before
    network.value = "entangled, 1"
    assert list(layer.options) == ["conv1", "conv2", "conv3", "pooled"]
