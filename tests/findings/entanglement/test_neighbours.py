"""Neighbours as rows: layer by layer as all at once, counted by hand; which sets and roles are asked; wrong answers and shared images refused."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import problems
import pytest
import torch
from torch import Tensor

import reprolib
from reprolib import data
from reprolib.data import shapetexture
from reprolib.data.images import images as labelled
from reprolib.data.images import pick
from reprolib.errors import BadInput, MissingData
from reprolib.findings.entanglement import neighbours, outliers
from reprolib.findings.entanglement.neighbours import Asked, Counts
from reprolib.measures.dknn import DkNN
from reprolib.models.layers import logits_of, shrunk
from reprolib.models.mine import Own
from reprolib.models.networks import MINE, Network, weights_sha256
from reprolib.study import Study


def neighbours_of(network: Network, images: Asked) -> Counts:
    found = {}
    for layer, features in images.through(network):
        near = DkNN({layer: features.pop("index")}, images.labels, images.k)
        found[layer] = {name: near.counts({layer: of})[:, 0] for name, of in features.items()}
    return found


def carded(seed: int, recipe: str = "std") -> Network:
    network = problems.network("tinycnn", seed=seed)
    network.sha256 = weights_sha256(network)
    network.card = {"name": f"{recipe} {seed}", "description": {"recipe": {"id": recipe}, "architecture": "tinycnn", "seed": seed}}
    return network


@pytest.fixture
def study(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    return reprolib.start("entanglement", {"scale": "smoke"})


def values(rows: pd.DataFrame, quantity: str) -> Tensor:
    of = rows[rows["quantity"] == quantity].sort_values("unit")
    return torch.tensor(of["value"].to_numpy())


# --- sets


def test_sets_hold_no_image_twice_and_the_outliers_are_of_no_training_set(study: Study) -> None:
    sets = outliers.of_scale(study)
    assert {name: len(of) for name, of in sets.images.items()} == {"index": 160, "calibration": 60, "id": 60, "outlier": 60, "texture": 24}
    assert set(sets.images["texture"].classes) == set(shapetexture.HELD_OUT_TEXTURES)
    assert set(sets.images["outlier"].classes) == {f"{a}+{b}" for a in shapetexture.HELD_OUT_SHAPES for b in shapetexture.HELD_OUT_TEXTURES}
    pixels = [one.numpy().tobytes() for name in ("index", "calibration", "id") for one in sets.images[name].x]
    assert len(set(pixels)) == 160 + 60 + 60
    assert sets.asked == ("id", "outlier", "texture")
    assert sets.only("outlier", "id").asked == ("id", "outlier")
    assert outliers.of_scale(study) is sets


def test_an_image_in_two_sets_is_refused_in_words(study: Study) -> None:
    test = study.images("test")
    one, other = pick(test, torch.arange(10)), pick(test, torch.tensor([20, 3, 4]))
    with pytest.raises(BadInput, match="image 1 of id is one of index too, 2 are: take sets without common images"):
        outliers.check_disjoint({"index": one, "id": other})


def test_a_set_that_is_not_here_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = (255 * problems.images(40, 3, 32, 32)).byte(), torch.arange(40) // 10
    here = {
        "tiny_imagenet_20": labelled(x, y, tuple("abcd"), "photographs"),
        "fashion_mnist": labelled(x[:, :1, 2:30, 2:30], y, tuple("abcd"), "clothes"),
    }

    def load(name: str, split: str) -> data.Images:
        if name not in here:
            raise MissingData(f"{name} is nowhere")
        return here[name]

    monkeypatch.setattr(data, "load", load)
    asked = SimpleNamespace(settings=SimpleNamespace(scale=SimpleNamespace(dataset="cifar10")), reads=lambda images: images)
    found = outliers.outside(asked, 12, 6, 32)  # type: ignore[arg-type]
    assert {name: of.x.shape for name, of in found.items()} == {"outlier": (12, 3, 32, 32), "fashion": (6, 3, 32, 32)}
    assert found["outlier"].y.tolist() == 3 * [0, 1, 2, 3]  # classes take turns
    assert torch.equal(found["outlier"].x[4], x[1])
    assert torch.equal(found["fashion"].x[:, 0], found["fashion"].x[:, 2])
    assert capsys.readouterr().out == "textures is nowhere: texture is left out of what neighbours are asked about.\n"


def test_adversarial_images_lie_in_the_ball_and_are_the_same_each_time(study: Study) -> None:
    sets, network = outliers.of_scale(study), carded(0)
    moved = sets.adversarial(network)
    clean = sets.images["id"].x[:24].float() / 255
    distance = (moved - clean).flatten(1).norm(dim=1)
    assert (distance <= study.settings.scale.eps * (1 + 1e-5)).all()
    assert distance.min() > 0
    loss = [torch.nn.functional.cross_entropy(network(x), sets.images["id"].y[:24]) for x in (clean, moved)]
    assert loss[1] > loss[0]
    assert torch.equal(sets.adversarial(network), moved)


# --- features


@pytest.mark.parametrize("at_once", [2**28, 1])
def test_features_of_all_layers_are_those_of_a_forward_pass(study: Study, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    network, sets = carded(1).eval(), outliers.of_scale(study)
    x = {"index": sets.images["index"].x[:130], "id": sets.images["id"].x[:7].float() / 255}
    before = {name: of.clone() for name, of in x.items()}
    asked = Asked(x, sets.images["index"].y, 5)
    found = dict(asked.through(network))
    assert list(found) == [
        name for name in found if name in ("conv1", "conv2", "conv3", "pooled", "logits", "conv1@averaged", "conv2@averaged")
    ]
    assert len(found) == 7  # the last map averaged is the pooled code
    with torch.no_grad():
        maps, pixels = dict(network.maps(x["id"])), x["id"]
        for name in ("conv1", "conv2", "conv3"):
            assert found[name]["index"].shape[1] <= 4_096
            torch.testing.assert_close(found[name]["id"].sort(dim=1).values, shrunk(maps[name]).sort(dim=1).values)
        torch.testing.assert_close(found["pooled"]["id"], maps["conv3"].mean(dim=(2, 3)))
        torch.testing.assert_close(found["conv2@averaged"]["id"], maps["conv2"].mean(dim=(2, 3)))
        torch.testing.assert_close(found["logits"]["id"], logits_of(network, pixels))
    assert torch.equal(asked.logits["index"], found["logits"]["index"])
    assert all(torch.equal(x[name], before[name]) for name in x)


# --- rows


def test_rows_are_what_one_index_of_all_layers_says(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    network, sets = carded(2), outliers.of_scale(study)
    rows = neighbours.neighbours(study, {"entangled": [network]}, neighbours_of)
    k = study.settings["n_neighbours"]
    hidden = ["conv1", "conv2", "conv3", "pooled"]
    network.eval()

    def layers(x: Tensor, names: list[str]) -> dict[str, Tensor]:
        with torch.no_grad():
            maps = dict(network.maps(x.float() / 255 if x.dtype == torch.uint8 else x))
            last = maps["conv3"].mean(dim=(2, 3))
            every = {name: shrunk(of) for name, of in maps.items()} | {"pooled": last, "logits": network.linear(last)}
        return {name: every[name] for name in names}

    groups = {name: of.x for name, of in sets.images.items() if name in sets.asked} | {"adversarial": sets.adversarial(network)}
    for names, credibility in ((hidden, "credibility"), (["conv3", "pooled", "logits"], "late_credibility")):
        index, held_out = (layers(sets.images[name].x, names) for name in ("index", "calibration"))
        whole = DkNN(index, sets.images["index"].y, k).calibrate(held_out, sets.images["calibration"].y)
        for name, x in groups.items():
            if credibility == "late_credibility" and name not in ("id", "outlier"):
                assert values(rows, f"{credibility}@{name}").numel() == 0
                continue
            expected = whole.predict(layers(x, names)).credibility
            torch.testing.assert_close(values(rows, f"{credibility}@{name}"), expected, atol=5.1e-4, rtol=0)
            if names is hidden and name != "adversarial":
                predicted = layers(x, ["logits"])["logits"].argmax(dim=1)
                support = torch.stack([*whole.support(layers(x, names), predicted).values()]).sum(dim=0) * k
                torch.testing.assert_close(values(rows, f"support@{name}"), support)
    right = layers(groups["id"], ["logits"])["logits"].argmax(dim=1) == sets.images["id"].y
    for quantity in ("support@id", "credibility@id", "softmax@id", "energy@id", "late_credibility@id"):
        assert rows[rows["quantity"] == quantity]["reached"].tolist() == right.tolist()
    assert rows[rows["quantity"] == "softmax@adversarial"]["reached"].tolist() == right[:24].tolist()
    assert rows[rows["quantity"] == "support@outlier"]["reached"].all()
    logits = layers(groups["outlier"], ["logits"])["logits"]
    p = logits.double().softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(values(rows, "softmax@outlier"), (p / (1 - p)).log(), atol=0, rtol=6e-3)
    torch.testing.assert_close(values(rows, "energy@outlier"), logits.double().exp().sum(dim=1).log(), atol=0, rtol=6e-3)
    assert set(rows["claim"]) == {"ENT-5"}


def test_aurocs_of_layers_are_shares_of_pairs_and_histograms_of_three_layers_sum_to_one(study: Study) -> None:
    rows = neighbours.neighbours(study, {"standard": [carded(2), carded(3)]}, neighbours_of)
    of = rows[rows["quantity"] == "support_auroc_by_layer@outlier"]
    assert of.groupby("network")["unit"].apply(list).tolist() == 2 * [["conv1", "conv2", "conv3", "pooled"]]
    assert of["unit_2"].tolist() == 2 * ["00", "01", "02", "03"]
    bars = rows[rows["quantity"] == "support_histogram@outlier"]
    assert bars["seed"].unique().tolist() == [2]  # of the first network alone
    assert bars.groupby("unit", sort=False)["value"].sum().round(3).to_dict() == {"conv1": 1, "conv2": 1, "pooled": 1}
    inside, outside = torch.tensor([[3], [1], [2]]), torch.tensor([[1], [0]])
    assert neighbours._aurocs(inside, outside).tolist() == [(2 + 1.5 + 2) / 6]
    assert neighbours.histogram(torch.tensor([0, 4, 5, 74, 75]) / 75, 15).tolist() == [0.4, 0.2, *12 * [0], 0.4]
    assert neighbours.histogram(torch.arange(76) / 75, 15).mul(76).tolist() == pytest.approx([*14 * [5], 6])
    assert neighbours.histogram(torch.empty(0), 3).tolist() == [0, 0, 0]


def test_scores_of_figures_are_counted_over_all_images_that_the_network_has_right(study: Study) -> None:
    rows = neighbours.neighbours(study, {"entangled": [carded(2)]}, neighbours_of)
    for score in ("credibility", "softmax"):
        for name in ("id", "outlier", "texture", "adversarial"):
            of = rows[(rows["quantity"] == f"{score}@{name}") & rows["reached"]]["value"]
            shares = torch.tensor((of if score == "credibility" else 1 / (1 + np.exp(-of))).to_numpy())
            bars = values(rows, f"{score}_histogram@{name}")
            assert bars.sum() == pytest.approx(1, abs=1e-3)
            assert ((bars.cumsum(0) - neighbours.histogram(shares, 20).cumsum(0)).abs() < 0.1).all()  # but for what rounding moved
            if name != "id":
                inside = rows[(rows["quantity"] == f"{score}@id") & rows["reached"]]["value"].to_numpy()
                wins = (inside[:, None] > of.to_numpy()).mean() + 0.5 * (inside[:, None] == of.to_numpy()).mean()
                assert values(rows, f"auroc_{score}@{name}").item() == pytest.approx(wins, abs=0.03)  # of values rounded to 3 digits


def test_as_many_ordinary_images_have_rows_as_deciding_outliers(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = outliers.of_scale(study)
    fewer = replace(sets, images={**sets.images, "outlier": pick(sets.images["outlier"], torch.arange(40))})
    monkeypatch.setattr(outliers, "of_scale", lambda study: fewer)
    rows = neighbours.neighbours(study, {"entangled": [carded(2)]}, neighbours_of)
    whole = rows[rows["quantity"].str.fullmatch("[a-z_]+@id") & ~rows["quantity"].str.contains("histogram")]
    assert whole.groupby("quantity").size().unique().tolist() == [40]
    assert values(rows, "bin_count").sum() == 60


def test_log_odds_of_softmax_keep_what_the_probability_loses() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, -5.0]], dtype=torch.float64)
    assert logits.softmax(dim=1).amax(dim=1).tolist() == [1, 1]
    assert neighbours._log_odds(logits).tolist() == pytest.approx([40 - math.log(2), 60 - math.log(1 + math.exp(-5))])


def test_calibration_of_softmax_is_by_equal_bins() -> None:
    p = torch.tensor([0.95, 0.94, 0.62, 1.0])
    logits = torch.stack([p, 1 - p], dim=1).log()
    found = neighbours.calibration(logits, torch.tensor([0, 1, 0, 0]))
    assert found["bin_count"] == {f"{k:02d}": {9: 1, 14: 3}.get(k, 0) for k in range(15)}
    assert found["bin_accuracy"] == {"09": 1, "14": pytest.approx(2 / 3)}
    assert found["bin_confidence"]["14"] == pytest.approx((0.95 + 0.94 + 1) / 3)
    assert found["ece"]["all"] == pytest.approx(0.25 * 0.38 + 0.75 * abs((0.95 + 0.94 + 1) / 3 - 2 / 3))


def test_roles_are_asked_for_what_claims_need(study: Study) -> None:
    test = study.images("test")
    own, ill = (Own(problems.network("tinycnn", seed=5, n_classes=n), test.x[:2].float() / 255, 4, 0) for n in (4, 7))
    nets = {"standard": [carded(2)], "robust": [carded(3, "l2_075")], "untrained": [carded(4, "untrained")], MINE: [own, ill]}
    rows = neighbours.neighbours(study, nets, neighbours_of)  # type: ignore[arg-type]
    of = rows.groupby("arm")["quantity"].unique().map(set)
    assert set(of.index) == {"standard", "untrained", MINE}
    assert of["untrained"] == {"support@id", "support@outlier"}
    assert rows[rows["arm"] == MINE]["network"].nunique() == 1  # other classes: no prediction that labels could hold
    assert of["standard"] - of[MINE] == {f"support_histogram@{name}" for name in ("id", "outlier", "texture", "adversarial")}
    asked_more = {f"{score}@{name}" for score in ("credibility", "softmax") for name in ("texture", "adversarial")}
    assert of[MINE] - of["standard"] == asked_more | {
        f"{score}@{name}" for score in ("late_credibility", "energy") for name in ("id", "outlier")
    }
    study.add(rows)
    assert len(study.rows) == len(rows)


def test_each_network_is_asked_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first = neighbours.neighbours(study, {"standard": [carded(6)]}, neighbours_of)

    def never(*given: object, **named: object) -> None:
        raise AssertionError("it was kept")

    monkeypatch.setattr(outliers, "pgd", never)
    monkeypatch.setattr(neighbours, "collect", never)
    pd.testing.assert_frame_equal(neighbours.neighbours(study, {"standard": [carded(6)]}, neighbours_of), first)


@pytest.mark.parametrize("spoil", ["missing", "shape", "sum"])
def test_counts_that_are_none_are_refused_in_words(study: Study, spoil: str) -> None:
    def question(network: Network, images: Asked) -> Counts:
        found = neighbours_of(network, images)
        if spoil == "missing":
            del found["conv2"]["id"]
        else:
            found["conv2"]["id"] = found["conv2"]["id"][:, 1:] if spoil == "shape" else found["conv2"]["id"] + 1
        return found

    given = {"missing": "nothing", "shape": r"counts of shape \(60, 3\)", "sum": r"counts of shape \(60, 4\)"}[spoil]
    with pytest.raises(
        BadInput, match=f"question gives {given} of layer conv2 for 60 images of id: how many of 5 neighbours are of each of 4"
    ):
        neighbours.neighbours(study, {"standard": [carded(7)]}, question)


def test_too_many_held_out_images_are_refused_in_words(study: Study) -> None:
    values = dict(study.settings.values) | {"n_query": 150}
    more = SimpleNamespace(settings=replace(study.settings, values=values), images=study.images)
    with pytest.raises(BadInput, match="n_calibration=60 and n_query=150 are more than the 200 test images"):
        outliers.of_scale.__wrapped__(more)
