"""Rows of attacked layers, of gradient signs and of others' pair, from planted networks and questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pandas as pd
import problems
import pytest
import torch
import torch.nn.functional as F
from inverses import planted_set
from layers import carded
from torch import Tensor

from reprolib.data import shapetexture
from reprolib.data.images import images as labelled
from reprolib.errors import BadInput
from reprolib.findings.entanglement import attacked, external, gradients
from reprolib.findings.entanglement.attacked import WIDE
from reprolib.findings.entanglement.batches import Batches, batches
from reprolib.measures.soft_nearest_neighbor import entanglement, soft_nearest_neighbor_loss
from reprolib.models import external as published
from reprolib.models.grams import collect
from reprolib.models.layers import shrunk
from reprolib.perturb.attacks import predictions


def attacked_layers(network, x, y, moved):
    """The question of the notebook."""

    def pulled(maps):
        clean, away = shrunk(maps).split(len(x))
        at = attacked.clean_at(clean, y).items()
        return {kind: (one.share, soft_nearest_neighbor_loss(away, y, one.temperature) / one.bound) for kind, one in at}

    return collect(network, torch.cat([x, moved]), reduce=pulled)


def gradient_signs(network, x, y):
    """The question of the notebook."""
    x = x.clone().requires_grad_()
    loss = F.cross_entropy(network(x).double(), y, reduction="sum")
    return torch.autograd.grad(loss, x)[0].flatten(1).sign()


def planted_study(n_batches: int = 2, n_per_class: int = 3, **changed: Any) -> Any:
    """A study on planted images, as far as these measurements ask it."""
    test = planted_set(n=160)
    settings = {"n_batches": n_batches, "n_per_class": n_per_class, "attack_batches": 0, "attack_batch": 8, "attack_steps": 3}

    class Settings(SimpleNamespace):
        def __getitem__(self, name: str) -> int:
            return settings[name]

    each = lambda nets: ((role, one) for role, ones in nets.items() for one in ones)  # noqa: E731
    told = {"settings": Settings(scale=SimpleNamespace(dataset="planted")), "images": lambda split: test, "each": each}
    return SimpleNamespace(can_measure=True, only_mine=False, device="cpu", report=lambda line: None, **told | changed)


def planted_batches(study: Any) -> Batches:
    return batches(study.images("test"), study.settings["n_per_class"], study.settings["n_batches"])


def values(rows: pd.DataFrame, quantity: str) -> list[float]:
    return rows.loc[rows["quantity"] == quantity, "value"].tolist()


# --- temperatures


def test_the_wide_temperature_is_as_good_and_no_higher_one_is() -> None:
    y = torch.arange(40) % 4
    centres = F.one_hot(y, 6) * 10.0
    apart = centres + torch.randn(40, 6, generator=problems.generator(0))
    mixed = centres / 10 + torch.randn(40, 6, generator=problems.generator(1))
    for x, factor in ((apart, 10.0), (mixed, 1.0)):
        found, at = entanglement(x, y), attacked.clean_at(x, y)
        loss = lambda t, x=x: float(soft_nearest_neighbor_loss(x.double(), y, t)) / found.bound  # noqa: E731, B023
        assert at[""].share == pytest.approx(found.share, abs=1e-4)
        assert at[WIDE].temperature >= factor * found.temperature
        assert at[WIDE].relative_temperature == pytest.approx(at[WIDE].temperature * found.relative_temperature / found.temperature)
        assert at[WIDE].share == pytest.approx(loss(at[WIDE].temperature), abs=1e-5)
        assert found.share <= at[WIDE].share <= found.share + 0.0101
        assert loss(at[WIDE].temperature * 1.13) > found.share + 0.01
    assert all(one.at_bound and one.share == 1 for one in attacked.clean_at(torch.zeros(40, 6), y).values())


def test_the_wide_temperature_does_not_hang_on_how_low_one_looks() -> None:
    """Of separated classes the minimum's own temperature is the lowest tried, and the loss of a moved point grows like its inverse."""
    y = torch.arange(40) % 4
    x = F.one_hot(y, 6) * 10.0 + 0.1 * torch.randn(40, 6, generator=problems.generator(0))
    moved = x.clone()
    moved[0] = x[1]
    at = attacked.clean_at(x, y)
    loss = {kind: float(soft_nearest_neighbor_loss(moved, y, one.temperature)) / one.bound for kind, one in at.items()}
    assert loss[""] > 5
    assert loss[WIDE] < 1


def test_headroom_is_what_is_left_below_the_bound() -> None:
    clean, away = torch.tensor([0.5, 0.0, 1.0, 0.8]), torch.tensor([0.75, 0.3, 1.4, 0.6])
    assert attacked.headroom_lost(clean, away).tolist() == pytest.approx([0.5, 0.3, 0.0, -1.0])


# --- rows under attack


def test_rows_of_an_attacked_network_are_of_means_over_its_layers() -> None:
    study = planted_study()
    network = carded(0)
    told = {"a": {"": (0.2, 0.6), WIDE: (0.3, 0.5)}, "pooled": {"": (0.6, 1.2), WIDE: (0.6, 0.8)}}
    shapes = []

    def question(fast: Any, x: Tensor, y: Tensor, moved: Tensor) -> Mapping[str, Mapping[str, Sequence[Any]]]:
        shapes.append((fast is network, x.shape, y.shape, moved.shape))
        return told

    rows = attacked.pulled(study, {"standard": [network]}, question, planted_batches(study))
    assert shapes == [(False, (8, 3, 16, 16), (8,), (8, 3, 16, 16))] * 2
    assert set(rows["claim"]) == {"ENT-10"}
    assert rows.loc[rows["quantity"] == "rise", "unit"].tolist() == ["00", "01"]
    assert values(rows, "headroom_lost") == pytest.approx([(0.9 - 0.4) / 0.6] * 2, abs=1e-4)
    assert values(rows, "headroom_lost@wide") == pytest.approx([(0.65 - 0.45) / 0.55] * 2, abs=1e-4)
    assert values(rows, "level") == pytest.approx([0.9] * 2)
    assert values(rows, "rise@wide") == pytest.approx([0.2] * 2)
    assert values(rows, "headroom_lost_in_last") == pytest.approx([1.5] * 2)
    assert values(rows, "attacked_by_layer") == pytest.approx([0.6, 1.2])
    assert rows.loc[rows["quantity"] == "clean_by_layer", ["unit", "unit_2"]].values.tolist() == [["a", "00"], ["pooled", "01"]]


def test_the_attack_is_of_the_radius_found_apart_and_its_success_is_measured() -> None:
    study, network = planted_study(), carded(1)
    shown = planted_batches(study).first(8)
    kept = attacked.attack(study, network, shown)
    x, y = (torch.cat(part) for part in zip(*shown, strict=True))
    assert kept["moved"].shape == x.shape
    right = predictions(network, x) == y
    lost = predictions(network, kept["moved"])[right] != y[right]
    assert float(kept["success"]) == pytest.approx(float(lost.double().mean()))
    assert (kept["moved"] - x).flatten(1).norm(dim=1).amax() <= float(kept["eps"]) + 1e-4
    found = attacked.pulled(study, {"robust": [network]}, attacked_layers, planted_batches(study))
    assert values(found, "eps") == pytest.approx([float(kept["eps"])], rel=1e-3)
    assert values(found, "success") == pytest.approx([float(kept["success"])], rel=1e-3)
    assert found["value"].map(math.isfinite).all()


def test_layers_stand_in_their_order_and_rows_from_the_cache_are_the_same() -> None:
    study, network = planted_study(), carded(2, architecture="resnet8")
    measured, again = (attacked.pulled(study, {"robust": [network]}, attacked_layers, planted_batches(study)) for _ in range(2))
    pd.testing.assert_frame_equal(measured, again)
    told = measured[measured["quantity"] == "headroom_lost_by_layer@wide"].sort_values("unit_2")
    assert told["unit"].tolist() == [*network.layer_names, "pooled"]


def test_images_that_did_not_move_lose_nothing() -> None:
    study, network = planted_study(), carded(0)
    shown = planted_batches(study)
    found = attacked.asked(attacked_layers, network, shown, [x for x, _ in shown])
    assert len(found) == 2 * (len(network.layer_names) + 1)
    for name, (clean, away) in found.items():
        assert torch.allclose(clean, away, atol=1e-5), name
    x, y = next(iter(shown))
    for layer, share in collect(network, x, reduce=lambda maps: entanglement(shrunk(maps), y).share).items():
        assert float(found[f"{layer}|"][0, 0]) == pytest.approx(share, rel=1e-3)


def test_three_networks_of_known_roles_are_attacked_and_none_without_classes() -> None:
    study = planted_study()
    strange = carded(7)
    strange.has_classes = False
    question = lambda *_: {"pooled": {"": (0.1, 0.2), WIDE: (0.1, 0.2)}}  # noqa: E731
    nets = {"standard": [carded(k) for k in range(4)], "mine": [strange], "untrained": [carded(8)], "gauss": []}
    rows = attacked.pulled(study, nets, question, planted_batches(study))
    assert rows.groupby("arm")["seed"].unique().map(list).to_dict() == {"standard": [0, 1, 2]}
    study.can_measure = False
    assert attacked.pulled(study, nets, question).empty
    assert gradients.signs(study, nets, gradient_signs).empty


def test_values_that_are_not_finite_are_refused() -> None:
    study = planted_study()
    question = lambda *_: {"pooled": {"": (0.1, math.nan), WIDE: (0.1, 0.2)}}  # noqa: E731
    with pytest.raises(BadInput, match="layer pooled of tinycnn-std-s0"):
        attacked.pulled(study, {"standard": [carded(0)]}, question, planted_batches(study))


def test_radii_are_looked_for_on_images_that_are_not_measured() -> None:
    study = planted_study(n_batches=2, n_per_class=5)
    measured = {one.numpy().tobytes() for one in planted_batches(study).images.x}
    others = attacked.apart(study)
    assert len(others) == 100
    assert torch.bincount(others.y).tolist() == [25] * 4
    assert not measured & {one.numpy().tobytes() for one in others.x}
    with pytest.raises(BadInput, match="n_batches=3 at most"):
        attacked.apart(planted_study(n_batches=4, n_per_class=5))
    world = "shapetexture_gratings"
    drawn = planted_study(settings=SimpleNamespace(scale=SimpleNamespace(dataset=world)))
    fresh, test = attacked.apart(drawn), shapetexture.items(shapetexture.world_of(world, "test"), 100)
    assert len(fresh) == 100
    assert not torch.equal(fresh.x, test.x)
    assert torch.equal(fresh.y, test.y)


# --- gradient signs


def test_signs_of_a_linear_model_cluster_by_class_and_random_ones_do_not() -> None:
    model = problems.linear((3, 16, 16))
    x = problems.images(48, 3, 16, 16)
    y = torch.arange(48) % 2
    shown = Batches(labelled((x * 255).to(torch.uint8), y, ("a", "b"), "planted"), 24, 2)
    found = gradients.asked(gradient_signs, model, shown)
    assert found["gradient_entanglement"].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert found["gradient_zero_share"].tolist() == [0, 0]
    chance = gradients.asked(lambda net, x, y: torch.randn(len(x), 768, generator=problems.generator(0)).sign(), model, shown)
    assert min(chance["gradient_entanglement"]) > 0.9
    none = gradients.asked(lambda net, x, y: torch.zeros(len(x), 768), model, shown)
    assert none["gradient_entanglement"].tolist() == [1, 1]
    assert none["gradient_zero_share"].tolist() == [1, 1]
    with pytest.raises(BadInput, match="signs"):
        gradients.asked(lambda net, x, y: torch.rand(len(x), 768), model, shown)
    with pytest.raises(BadInput, match="signs"):
        gradients.asked(lambda net, x, y: torch.ones(len(x) - 1, 768), model, shown)


def test_rows_of_gradients_stand_by_batch() -> None:
    study = planted_study()
    rows = gradients.signs(study, {"robust": [carded(0, "l2_075")], "blur": [carded(1)]}, gradient_signs, planted_batches(study))
    assert set(rows["arm"]) == {"robust"}
    assert set(rows["claim"]) == {"ENT-7"}
    for quantity in ("gradient_entanglement", "gradient_zero_share"):
        assert rows.loc[rows["quantity"] == quantity, "unit"].tolist() == ["00", "01"]
        assert all(0 <= value <= 1 for value in values(rows, quantity))


# --- others' pair


def test_rows_of_the_pair_stand_under_a_claim_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"external_standard": carded(0, "std"), "external_robust": carded(1, "l2_05")}
    monkeypatch.setattr(published, "networks", lambda device: pair)
    settings = SimpleNamespace(scale=SimpleNamespace(dataset="cifar10"))
    shown = planted_batches(planted_study())
    study = planted_study(settings=settings)
    rows = external.measure(study, *[lambda nets: gradients.signs(study, nets, gradient_signs, shown)] * 2)
    assert set(rows["claim"]) == {"external"}
    assert len(rows) == 2 * 2 * 2  # asked twice, kept once
    table = external.table(rows)
    assert table is not None
    means = rows[rows["quantity"] == "gradient_entanglement"].groupby("arm")["value"].mean()
    assert table.loc["ENT-7 gradient_entanglement", "standard"] == pytest.approx(means["external_standard"], abs=1e-3)
    assert table.loc["ENT-7 gradient_entanglement", "robust minus standard"] == pytest.approx(means.iloc[0] - means.iloc[1], abs=2e-3)
    assert table.loc["ENT-10 headroom_lost"].isna().all()
    assert external.table(rows.assign(claim="ENT-7")) is None
    settings.scale.dataset = "shapetexture"
    assert external.measure(study, lambda nets: rows).empty
