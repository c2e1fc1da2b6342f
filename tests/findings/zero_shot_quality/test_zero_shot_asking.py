"""Points, arms and the numbers of an excluded class: against plain formulas, and on soft labels whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from reprolib.data import factorial
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.findings.zero_shot_quality import asking, classes
from reprolib.judging.tidy import rounded
from reprolib.measures.raw_zero_shot import davies_bouldin_metric_from_logits, mean_entropy
from reprolib.training.leave_one_out import SoftLabels
from reprolib.training.points import Point, points


def labels_of(n_classes: int, seed: int = 0, n: int = 12, **card: Any) -> SoftLabels:
    generator = torch.Generator().manual_seed(seed)
    full, without = (torch.randn(n_classes, n, k, generator=generator).log_softmax(dim=2) for k in (n_classes, n_classes - 1))
    told = {"name": "full", "sha256": f"{seed:012d}" + 52 * "0", "clean": {"value": 0.9}, **card}
    trained = [{"excluded": k, "accuracy": 0.8, "dbi": 1.0 + k, "features": None if k == 1 else 0.5} for k in range(n_classes)]
    return SoftLabels(full, without, told, trained)


def study(**values: Any) -> Any:
    settings = type("Settings", (dict,), {"values": values, "scale": SimpleNamespace(name="laptop")})(share=0.75, **values)
    return SimpleNamespace(settings=settings, report=lambda *told: None)


def quality(of: classes.Excluded) -> dict[str, float]:
    return {
        "dbm": davies_bouldin_metric_from_logits(of.without),
        "entropy": mean_entropy(of.without.softmax(dim=1)),
        "am": 0.1,
        "dbm_matched": 0.2,
    }


def a_point(
    recipe: str = "std", architecture: str = "tinycnn", scale: str = "laptop", dataset: str = factorial.NAME, seed: int = 0
) -> Point:
    return Point(recipe, architecture, dataset, seed, scale)


def test_relatives_of_a_pair_share_its_shape_or_its_texture_two_each() -> None:
    found = classes.of_point(a_point(), labels_of(9))
    assert [one.name for one in found] == list(factorial.load(factorial.NAME, "test").classes)
    for one in found:
        shape, texture = one.name.split("+")
        assert [found[k].name.split("+")[0] for k in one.same_shape] == [shape] * 2
        assert [found[k].name.split("+")[1] for k in one.same_texture] == [texture] * 2
        assert one.index not in one.relatives
        assert len({*one.relatives}) == 4


def test_declared_neighbours_are_relatives_and_other_classes_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "names_of", lambda dataset: ("airplane", "bird", "ship", "cat"))
    found = classes.of_point(a_point("std", "lenet", "cifar", "cifar10"), labels_of(4), [["airplane", "ship"]])
    assert [one.relatives for one in found] == [(2,), (), (0,), ()]
    assert "relative_mass" not in classes.beside(found[1], 0.75, False)
    assert "shape_mass" not in classes.beside(found[0], 0.75, False)


def test_the_mass_on_relatives_is_what_was_planted_and_one_by_chance() -> None:
    z = torch.zeros(9, 10, 8)
    flat = SoftLabels(labels_of(9, n=10).full, z + 1e-3 * torch.randn(z.shape, generator=torch.Generator().manual_seed(1)), {}, [])
    by_chance = classes.beside(classes.of_point(a_point(), flat)[4], 0.9, False)
    assert by_chance["relative_mass"] == pytest.approx(1, abs=0.01)
    assert by_chance["shape_minus_texture"] == pytest.approx(0, abs=0.01)
    one = classes.of_point(a_point(), flat)[4]
    shape = [k - (k > one.index) for k in one.same_shape]
    planted = one.without.clone()
    planted[:, shape] += 20
    found = classes.beside(classes.Excluded(one.name, 4, planted, one.full, one.same_shape, one.same_texture, one.relatives), 0.9, False)
    assert found["shape_mass"] == pytest.approx(1, abs=1e-6)
    assert found["shape_minus_texture"] == pytest.approx(1, abs=1e-6)
    assert found["relative_mass"] == pytest.approx(2, abs=1e-6)
    assert found["mean_label_concentration"] == pytest.approx(math.log(8) - math.log(2), abs=1e-3)


def test_lengths_of_capsules_are_measured_raw_as_well() -> None:
    lengths = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    one = classes.Excluded("a", 0, lengths.log(), torch.randn(20, 4))
    expected = (lengths - lengths.mean(0)).double().square().sum(1).mean().sqrt()
    assert classes.beside(one, 0.75, True)["dbm_raw"] == pytest.approx(float(expected), rel=1e-5)
    assert "dbm_raw" not in classes.beside(one, 0.75, False)


def test_arms_are_those_of_the_contract() -> None:
    at_cifar = {(point.recipe, asking.role_of(point)) for point in points("cifar") if point.dataset == "cifar10"}
    assert {("std", "standard"), ("linf_8", "robust"), ("linf_2", "robust_small"), ("linf_4", "robust_medium")} <= at_cifar
    assert {("label_smoothing",) * 2, ("std_matched",) * 2, ("untrained",) * 2} <= at_cifar
    assert {asking.role_of(point) for point in points("cifar") if point.recipe.startswith("gauss")} == {"gauss"}
    assert {asking.role_of(point) for point in points("cifar") if point.dataset == "fashion_mnist"} == {""}
    assert {asking.role_of(point) for point in points("laptop")} == {
        "standard", "robust", "gauss", "label_smoothing", "std_matched", "untrained"
    }  # fmt: skip
    assert {asking.role_of(point) for point in points("smoke") if point.architecture != "tinycnn"} == {""}


def test_rows_are_of_the_schema_with_a_row_a_quantity_and_class() -> None:
    check = {"manipulation": {"robust": 0.5, "standard": 0.1, "difference": 0.4}}
    asked = {a_point(): labels_of(9, 0), a_point("l2_075"): labels_of(9, 1, **check), a_point("gauss_10"): labels_of(9, 2)}
    measured = asking.soft_label_rows(study(), asked, quality)
    rows = rounded(pd.concat([measured, asking.pictures(asked, asking.middle_class(measured))]))
    own = rows[(rows["claim"] == "ZSQ-1") & (rows["quantity"] == "dbm")]
    assert own.groupby("arm").size().to_dict() == {"standard": 9, "robust": 9, "gauss": 9}
    first = asked[a_point()].without[0].double().softmax(dim=1)
    at = own[(own["arm"] == "standard") & (own["unit"] == "square+grating_45")]["value"].item()
    assert at == pytest.approx(float((first - first.mean(0)).square().sum(1).mean().sqrt()), rel=1e-5)
    accuracies = rows[rows["quantity"] == "adversarial_accuracy"].set_index("arm")["value"].to_dict()
    assert accuracies == {"standard": 0.1, "robust": 0.5}
    assert len(rows[rows["quantity"] == "mean_label"]) == 3 * 9 * 8
    assert rows[rows["quantity"] == "mean_label"].groupby(["arm", "unit"])["value"].sum().to_numpy() == pytest.approx(1, abs=1e-4)
    assert len(rows[(rows["quantity"] == "dbm_features") & (rows["arm"] == "robust")]) == 8  # undefined for class 1
    assert not rows["quantity"].str.contains("@tinycnn").any()  # one architecture: no quantities of its own


def test_with_several_architectures_each_has_quantities_of_its_own() -> None:
    asked = {a_point("std", name, "cifar", "cifar10"): labels_of(10, k) for k, name in enumerate(("lenet", "mlp"))}
    rows = asking.soft_label_rows(study(relatives=[["cat", "dog"]]), asked, quality)
    of_lenet = rows[rows["quantity"] == "dbm@lenet"]
    assert set(of_lenet["architecture"]) == {"lenet"}
    assert len(of_lenet) == 10


def test_a_question_that_gives_no_number_is_refused_with_its_class() -> None:
    with pytest.raises(BadInput, match=r"quality gives dbm=nan for class square\+grating_45: one finite number"):
        asking.soft_label_rows(study(), {a_point(): labels_of(9)}, _nan)


def _nan(of: classes.Excluded) -> dict[str, float]:
    return {"dbm": math.nan}


_nan.__name__ = "quality"


def test_the_plane_holds_the_two_largest_components() -> None:
    one = classes.of_point(a_point(), labels_of(9, n=30))[0]
    told = classes.plane(one)
    place = torch.tensor([value for *_, value in told]).view(30, 2)
    q = one.without.double().softmax(dim=1)
    values = torch.linalg.svdvals(q - q.mean(0))
    assert place.square().sum(0).sqrt().tolist() == pytest.approx(values[:2].tolist(), rel=1e-5)
    assert [unit for _, unit, *_ in told[:3]] == ["000", "000", "001"]


def test_the_class_that_is_drawn_is_the_one_of_middle_scatter() -> None:
    told = {"claim": "ZSQ-1", "quantity": "dbm", "arm": "standard", "architecture": "lenet", "seed": 0, "network": "a"}
    rows = pd.DataFrame([told | {"unit": name, "value": value} for name, value in (("a", 3.0), ("b", 1.0), ("c", 2.0))])
    later = rows.assign(seed=1, network="0", value=[2.0, 1.0, 3.0])
    assert asking.middle_class(pd.concat([later, rows])) == "c"


def at_scale(name: str, **more: Any) -> Any:
    settings = type("Settings", (dict,), {"values": {}, "scale": SimpleNamespace(name=name)})(seeds=3)
    return SimpleNamespace(settings=settings, can_measure=True, device="cpu", report=print, names=lambda *told: None, **more)


def test_a_scale_without_soft_labels_says_how_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    with pytest.raises(
        MissingData, match="no soft labels at scale cifar: train its networks with `reprolib train --scale cifar --only 'loo-"
    ):
        asking.asked_of(at_scale("cifar"))
    with pytest.raises(MissingData, match="no soft labels at scale gpu: no points are trained there"):
        asking.asked_of(at_scale("gpu"))


def test_soft_labels_that_are_not_their_full_networks_stop_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [a_point("std", name, "cifar", "cifar10") for name in ("lenet", "mlp", "pool")]
    monkeypatch.setattr(asking.leave_one_out, "bring_together", lambda point: point in there)
    monkeypatch.setattr(asking.leave_one_out, "soft_labels", lambda point: labels_of(10))
    away: dict[str, float | None] = {"lenet": 0.001, "mlp": 0.0, "pool": None}
    monkeypatch.setattr(asking.leave_one_out, "furthest", lambda point, labels, device: away[point.architecture])
    asking.asked_of(at_scale("cifar"))
    assert "Measured again on one class: 2 full networks of 3 points, which agree to 0.005." in capsys.readouterr().out
    away["mlp"] = 0.3
    with pytest.raises(CorruptFile, match=r"loo-mlp-std-s0.* differs by up to 0.3 from what its full network, .* answers now: restore"):
        asking.asked_of(at_scale("cifar"))


def test_what_is_missing_at_cifar_is_left_out_and_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    there = a_point("std", "lenet", "cifar", "cifar10")
    monkeypatch.setattr(asking.leave_one_out, "bring_together", lambda point: point == there)
    monkeypatch.setattr(asking.leave_one_out, "soft_labels", lambda point: labels_of(10))
    named: dict[str, str] = {}
    study = at_scale("cifar")
    study.names = named.__setitem__
    assert [*asking.asked_of(study)] == [there]
    assert named == {"loo-lenet-std-s0": 64 * "0"}
    assert "Not trained yet, and left out: loo-mlp-std-s0, " in capsys.readouterr().out
