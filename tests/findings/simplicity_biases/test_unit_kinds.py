"""Kinds of input and natural preferences as rows: live units only, dead ones counted, each network asked once, wrong questions refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import problems
import pytest
import torch
from torch import Tensor

import reprolib
from reprolib import data
from reprolib.data.images import images as labelled
from reprolib.errors import BadInput, MissingData
from reprolib.findings.simplicity_biases import kinds, preferring
from reprolib.measures import diversity
from reprolib.models.networks import Network, weights_sha256
from reprolib.study import Study


def carded(seed: int, recipe: str = "std") -> Network:
    network = problems.network("tinycnn", seed=seed)
    network.sha256 = weights_sha256(network)
    network.card = {"name": f"{recipe} {seed}", "description": {"recipe": {"id": recipe}, "architecture": "tinycnn", "seed": seed}}
    return network


def kinds_of_input(network: Network, images: kinds.Shown) -> Mapping[str, Tensor]:
    top = kinds.top_images(network, images)
    return {
        "diversity": diversity.diversity(images.codes, top.by_largest),
        "diversity_by_mean": diversity.diversity(images.codes, top.by_mean),
        "participation_ratio": diversity.participation_ratio(images.codes, top.by_largest),
        "class_entropy": diversity.class_entropy(images.y, top.by_largest, images.n_classes),
    }


def preferences(network: Network, natural: preferring.Natural) -> Mapping[str, Tensor]:
    on_textures, on_photographs = (diversity.mean_activations(kinds.maps(network, of.x)) for of in (natural.textures, natural.photographs))
    return {
        "texture_auroc": diversity.best_auroc(on_textures, natural.textures.y),
        "texture_auroc_floor": diversity.best_auroc(on_textures, diversity.permuted(natural.textures.y)),
        "class_auroc": diversity.best_auroc(on_photographs, natural.photographs.y),
        "class_auroc_floor": diversity.best_auroc(on_photographs, diversity.permuted(natural.photographs.y)),
        "colour_r2": diversity.colour_r2(on_photographs, natural.photographs.x.float() / 255),
    }


@pytest.fixture
def study(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    made = reprolib.start("simplicity_biases", {"scale": "smoke"})
    monkeypatch.setattr(made, "judges", lambda: {"standard": carded(9)})
    return made


def half_dead(seed: int = 0) -> Network:
    """A network whose second layer is dead, and one unit of its first."""
    network = carded(seed)
    with torch.no_grad():
        network.convs[0].bn.weight[3], network.convs[0].bn.bias[3] = 0.0, -1.0  # type: ignore[index,union-attr]
        network.convs[1].bn.weight[:], network.convs[1].bn.bias[:] = 0.0, -1.0  # type: ignore[index,union-attr]
    network.sha256 = weights_sha256(network)
    return network


def test_rows_are_of_live_units_and_dead_ones_are_counted(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    nets = {"standard": [half_dead()], "robust": [carded(1, "l2_075")], "gauss": [carded(2, "gauss_20")]}
    rows = kinds.kinds(study, nets, kinds_of_input)
    assert capsys.readouterr().out.count("std 0: all units of conv2 are dead: they are counted, and have no other row.") == 1
    dead = rows[rows["quantity"] == "dead"].set_index(["arm", "unit"])["value"]
    assert dead.loc["standard"][["conv1", "conv2"]].tolist() == [1, 32]
    with torch.no_grad():
        size = [value.mean(dim=(0, 2, 3)) for _, value in nets["robust"][0].maps(kinds.shown(study).x.float() / 255)]
    assert dead.loc["robust"].tolist() == [int((one < 1e-8).sum()) for one in size]
    of = rows[(rows["quantity"] == "diversity") & (rows["arm"] == "standard")]
    assert "conv1:003" not in set(of["unit"])
    assert set(of["unit"]) >= {f"conv1:{k:03d}" for k in range(16) if k != 3}
    assert not any(of["unit"].str.startswith("conv2"))
    assert set(rows.loc[rows["arm"] == "gauss", "quantity"]) == {"diversity", "dead"}
    assert set(rows.loc[rows["arm"] == "robust", "quantity"]) == {*kinds_of_input(nets["robust"][0], kinds.shown(study)), "dead"}
    study.add(rows)
    assert len(study.rows) == len(rows)
    pd.testing.assert_frame_equal(kinds.kinds(study, nets, kinds_of_input), rows)


def test_values_are_those_of_the_units_by_hand(study: Study) -> None:
    network, images = carded(1), kinds.shown(study)
    rows = kinds.kinds(study, {"standard": [network]}, kinds_of_input)
    value = rows[(rows["quantity"] == "diversity") & (rows["unit"] == "conv2:007")]["value"].item()
    with torch.no_grad():
        largest = dict(network.maps(images.x.float() / 255))["conv2"][:, 7].amax(dim=(1, 2))
    top = largest.sort(descending=True, stable=True).indices[:25]
    unit = torch.nn.functional.normalize(images.codes.double())
    cosines = unit @ unit.T
    off = ~torch.eye(len(unit), dtype=torch.bool)
    of_top = cosines[top][:, top][~torch.eye(25, dtype=torch.bool)]
    assert value == pytest.approx(float((1 - of_top).mean() / (1 - cosines[off]).mean()), rel=1e-3)


def test_maps_are_in_eval_mode_and_batches_do_not_matter(study: Study) -> None:
    network, x = problems.mixed(carded(3)), kinds.shown(study).x[:37]
    by_16, whole = (list(kinds.maps(network, x, size)) for size in (16, 37))
    assert [len(part) for part in by_16] == [3, 3, 3]
    for layer in range(3):
        torch.testing.assert_close(torch.cat([part[layer] for part in by_16]), whole[0][layer])
    assert torch.equal(kinds.maps(network, x.float() / 255, 37).__next__()[0], whole[0][0])
    assert network.training


def test_a_question_that_gives_no_number_a_unit_is_refused(study: Study) -> None:
    def short(network: Network, images: kinds.Shown) -> Mapping[str, Tensor]:
        return {"diversity": torch.ones(5)}

    with pytest.raises(BadInput, match=r"short gives 'diversity' of shape \(5,\) for 112 units: one finite number a unit is needed"):
        kinds.kinds(study, {"standard": [carded(0)]}, short)


def planted_natural(study: Study, monkeypatch: pytest.MonkeyPatch, textures: bool = True) -> None:
    x = (255 * problems.images(80, 3, 32, 32)).byte()
    found = labelled(x, torch.arange(80) % 4, tuple("abcd"), "planted")

    def natural(study: Study) -> preferring.Natural:
        if not textures:
            raise MissingData("textures are nowhere: fetch them")
        return preferring.Natural(found, found)

    monkeypatch.setattr(preferring, "natural", natural)
    study.settings.values["n_natural"] = 80  # type: ignore[index]


def test_preferences_are_rows_of_live_units_and_floors_of_the_arms_alone(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = {"standard": [half_dead()], "gauss": [carded(2, "gauss_20")]}
    assert preferring.preferences(study, nets, preferences).empty  # no photographs at this scale
    planted_natural(study, monkeypatch)
    rows = preferring.preferences(study, nets, preferences)
    assert set(rows.loc[rows["arm"] == "standard", "quantity"]) == {*preferring.PREFERENCES, *preferring.FLOORS}
    assert set(rows.loc[rows["arm"] == "gauss", "quantity"]) == set(preferring.PREFERENCES)
    assert set(rows["claim"]) == {"SIM-4"}
    assert "conv1:003" not in set(rows.loc[rows["arm"] == "standard", "unit"])
    assert rows[rows["quantity"] != "colour_r2"]["value"].between(0.5, 1).all()


def test_without_textures_rows_are_the_committed_ones_and_it_is_said(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted_natural(study, monkeypatch, textures=False)
    assert preferring.preferences(study, {"standard": [carded(0)]}, preferences).empty
    assert "textures are nowhere: fetch them. Their rows are the committed ones." in capsys.readouterr().out


there = {one["name"]: one["found"] for one in data.status()}


@pytest.mark.skipif(not (there["textures"] and there["cifar10"]), reason="the textures and CIFAR-10 are not here (REPROLIB_DATA)")
def test_natural_images_are_400_textures_and_2000_photographs_of_32_px() -> None:
    found = preferring.natural(reprolib.start("simplicity_biases", {"scale": "cifar"}))
    assert found.textures.x.shape == (400, 3, 32, 32)
    assert found.photographs.x.shape == (2000, 3, 32, 32)
    assert len(found.textures.classes) == len(found.photographs.classes) == 10
