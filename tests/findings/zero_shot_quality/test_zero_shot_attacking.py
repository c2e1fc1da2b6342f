"""Attacks on the full networks of points: what is measured, what is read from committed rows, and what a line says is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from reprolib import data, scales, store
from reprolib.data import factorial
from reprolib.findings.zero_shot_quality import attacking
from reprolib.findings.zero_shot_quality.attacking import attacked
from reprolib.judging.tidy import read_rows, rounded, write_rows
from reprolib.models.networks import Network, build, weights_sha256
from reprolib.perturb.attacks import adversarial_accuracy, predictions
from reprolib.perturb.deepfool import deepfool
from reprolib.perturb.pixel import one_pixel
from reprolib.training.points import Point, point_of, points

N, N_PIXEL, STEPS = 24, 12, 4
STD, ROBUST, UNTRAINED = (point_of(f"loo-tinycnn-{recipe}-s0-{factorial.SMALL}", "smoke") for recipe in ("std", "l2_075", "untrained"))
FASHION = point_of("loo-lenet-std-s0-fashion_mnist", "cifar")
MEASURED = ["adversarial_error", "clean_accuracy", "minimal_l2", "pixel_error"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    return tmp_path


def role_of(point: Point) -> str:
    return "" if point == FASHION else {"std": "standard", "l2_075": "robust"}.get(point.recipe, point.recipe)


def study_of(root: Path, **turned: Any) -> Any:
    values = {"n_attacked": N, "n_pixel": N_PIXEL, "attack_steps": STEPS}
    rows = root / "committed" / "rows.csv.gz"
    made: dict[str, Any] = {
        "settings": SimpleNamespace(values=values, overridden={}, scale=scales.scale("smoke")), "device": "cpu", "can_measure": True,
        "only_mine": False, "said": [], "committed": rows.parent, "committed_rows": lambda: read_rows(rows), "reads": lambda images: images,
        "each": lambda nets: ((role, one) for role, ones in nets.items() for one in ones),
    } | turned  # fmt: skip
    return SimpleNamespace(**made, report=made["said"].append)


def keep(point: Point, seed: int = 0, clean: float = 0.9) -> Network:
    """Write a network, drawn and not trained, where the point's full one is kept; its answers are spread over the classes."""
    network = build(point.architecture, 4, *data.normaliser(point.dataset), seed, size_px=20)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data += 0.2
    network.eval()
    with torch.no_grad():
        network.linear.bias.sub_(network(data.load(point.dataset, "test").x[:100].float() / 255).mean(dim=0))
    network.sha256 = weights_sha256(network)
    network.card = {
        "name": point.name, "sha256": network.sha256, "data": {"n_classes": 4, "size_px": 20}, "clean": {"value": clean},
        "description": {"recipe": {"id": point.recipe}, "architecture": point.architecture, "seed": point.seed},
    }  # fmt: skip
    store.write_network(point.path, network.state_dict(), network.card, {"key": point.key})
    return network


def keep_soft_labels(point: Point, card: dict[str, Any]) -> None:
    told = {"key": point.key, "card": json.dumps(card), "networks": "[]"}
    store.write_safetensors(point.file, {"full": torch.zeros(4, 2, 4), "without": torch.zeros(4, 2, 3)}, told)


def commit(root: Path, sha256: str, recipe: str = "std", value: float = 0.7) -> None:
    base = {
        "recipe": recipe,
        "architecture": "tinycnn",
        "seed": 0,
        "network": sha256[:12],
        "unit_2": "",
        "reached": True,
        "arm": "standard",
    }
    told = [("ZSQ-3", "minimal_l2", "median"), ("ZSQ-1", "dbm", "0"), ("ZSQ-3", "clean_accuracy", "test")]
    rows = pd.DataFrame([base | {"claim": claim, "quantity": quantity, "unit": unit, "value": value} for claim, quantity, unit in told])
    write_rows(root / "committed" / "rows.csv.gz", rows)


def test_the_rows_of_a_network_that_is_here_are_what_the_attacks_give(root: Path) -> None:
    network = keep(STD)
    rows = rounded(attacked(study_of(root), [STD], role_of)).set_index("quantity")
    assert sorted(rows.index) == MEASURED
    assert set(rows["arm"]) == {"standard"}
    assert set(rows["claim"]) == {"ZSQ-3"}
    assert set(rows["network"]) == {network.sha256[:12]}
    assert rows["unit"].to_dict() == dict.fromkeys(MEASURED, "test") | {"minimal_l2": "median"}
    test = data.load(factorial.SMALL, "test")
    x, y = test.x[:N].float() / 255, test.y[:N]
    right = predictions(network, x) == y
    assert 3 < right.sum() < N - 3
    assert rows.loc["minimal_l2", "value"] == pytest.approx(float(deepfool(network, x[right], y[right]).distance.quantile(0.5)), rel=1e-4)
    accuracy = adversarial_accuracy(network, x, y, "l2", 0.75, STEPS).value
    assert rows.loc["adversarial_error", "value"] == pytest.approx(1 - accuracy, abs=1e-5)
    few = right[:N_PIXEL]
    turned = one_pixel(network, x[:N_PIXEL][few], y[:N_PIXEL][few]).succeeded
    assert rows.loc["pixel_error", "value"] == pytest.approx(float(turned.float().mean()), abs=1e-5)
    assert rows.loc["clean_accuracy", "value"] == 0.9
    assert rows["reached"].all()


def test_a_network_is_attacked_once_and_then_read_from_the_cache(root: Path) -> None:
    keep(STD, seed=3)
    first, again = study_of(root), study_of(root)
    rows = attacked(first, [STD], role_of)
    assert [line.split(": ")[1].split(",")[0] for line in first.said] == ["DeepFool", f"PGD-{STEPS} in l2 of 0.75", "one pixel"]
    pd.testing.assert_frame_equal(attacked(again, [STD], role_of), rows)
    assert again.said == []
    again.settings.values["attack_steps"] += 1
    attacked(again, [STD], role_of)
    assert [line.split(": ")[1].split(" ")[0] for line in again.said] == [f"PGD-{STEPS + 1}"]


@pytest.mark.parametrize(("clean", "is_weak"), [(0.34, True), (0.36, False)])
def test_a_network_near_chance_is_only_shown(root: Path, clean: float, is_weak: bool) -> None:
    keep(STD, clean=clean)
    rows = attacked(study_of(root), [STD], role_of)
    weak = ["adversarial_error_shown", "clean_accuracy", "minimal_l2_shown", "pixel_error_shown"]
    assert sorted(rows["quantity"]) == (weak if is_weak else MEASURED)
    assert rows.set_index("quantity")["unit"].filter(like="minimal").tolist() == ["median"]


def test_rows_of_a_network_that_is_elsewhere_are_the_committed_ones(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(ROBUST)
    keep_soft_labels(STD, {"sha256": "ab" * 32})
    commit(root, "ab" * 32)
    rows = attacked(study_of(root), [STD, ROBUST, UNTRAINED, FASHION], role_of)
    assert capsys.readouterr().out == "Attacks on full networks: 1 measured, 1 from the committed rows, 0 have none.\n"
    elsewhere = rows[rows["network"] == "ab" * 6]
    assert sorted(elsewhere["quantity"]) == ["clean_accuracy", "minimal_l2"]
    assert set(elsewhere["claim"]) == {"ZSQ-3"}
    assert sorted(rows.loc[rows["arm"] == "robust", "quantity"]) == MEASURED
    assert len(rounded(rows)) == len(elsewhere) + len(MEASURED)


@pytest.mark.parametrize("why", ["another network", "turned", "no rows", "no soft labels"])
def test_a_line_says_what_has_no_rows_and_the_command_for_it(root: Path, capsys: pytest.CaptureFixture[str], why: str) -> None:
    if why != "no soft labels":
        keep_soft_labels(STD, {"sha256": "ab" * 32})
    if why != "no rows":
        commit(root, ("cd" if why == "another network" else "ab") * 32)
    study = study_of(root)
    study.settings.overridden = {"n_pixel": 5} if why == "turned" else {}
    assert attacked(study, [STD], role_of).empty
    first = "" if why == "no soft labels" else " (first delete the soft labels that are there, in data/soft_labels/smoke)"
    command = f"`reprolib train --scale smoke --only {STD.name}`{first}"
    assert (
        capsys.readouterr().out
        == f"Attacks on full networks: 0 measured, 0 from the committed rows, 1 have none; to train them: {command}.\n"
    )


def test_many_points_are_named_by_a_pattern(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attacked(study_of(root), points("smoke"), role_of)
    assert capsys.readouterr().out.endswith("6 have none; to train them: `reprolib train --scale smoke --only 'loo-*'`.\n")


def test_a_network_that_did_not_give_the_soft_labels_is_not_attacked(root: Path) -> None:
    network = keep(STD)
    keep_soft_labels(STD, {"sha256": "ab" * 32})
    commit(root, "ab" * 32)
    rows = attacked(study_of(root), [STD], role_of)
    assert set(rows["network"]) == {"ab" * 6}
    keep_soft_labels(STD, network.card)
    assert set(attacked(study_of(root), [STD], role_of)["network"]) == {network.sha256[:12]}


def test_where_nothing_can_be_measured_nothing_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(STD)
    for turned in ({"can_measure": False}, {"only_mine": True}):
        assert attacked(study_of(root, **turned), [STD], role_of).empty
    assert capsys.readouterr().out == ""


def test_at_cifar_the_other_radii_are_attacked_too() -> None:
    point = point_of("loo-mlp-gauss_15-s0", "cifar")
    assert attacking._radii(point) == {"": ("linf", 8 / 255), "@2": ("linf", 2 / 255), "@4": ("linf", 4 / 255), "@8": ("linf", 8 / 255)}
    assert attacking._radii(STD) == {"": ("l2", 0.75)}


def test_images_that_are_not_fooled_are_farther_than_any(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = keep(STD, seed=5)
    test = data.load(factorial.SMALL, "test")
    y = predictions(network, test.x[:9].float() / 255)
    found = SimpleNamespace(distance=torch.arange(1.0, 10.0), succeeded=torch.arange(9) >= 4)
    monkeypatch.setattr(attacking, "deepfool", lambda *given: found)
    shown = attacking.Shown(test.x[:9].float() / 255, y, "five of nine")
    assert attacking._minimal_l2(study_of(root), network, shown) == (9.0, True)
    found.succeeded = torch.arange(9) >= 5
    diagonal = math.sqrt(3 * 20 * 20)
    assert attacking._minimal_l2(study_of(root), network, attacking.Shown(shown.x, y, "four of nine")) == (diagonal, False)
    wrong = attacking.Shown(shown.x, (y + 1) % 4, "none right")
    assert attacking._minimal_l2(study_of(root), network, wrong) == (diagonal, False)
    assert attacking._pixel_error(study_of(root), network, wrong) == (0.0, False)
