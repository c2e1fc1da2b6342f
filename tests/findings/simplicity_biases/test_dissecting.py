"""Rows of detectors from networks whose units are planted, on the finding's own scenes; untrained units and random masks; the figure of shares."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pandas as pd
import problems
import pytest
import torch
from layers import carded
from torch import Tensor, nn

from reprolib.findings.simplicity_biases import dissecting
from reprolib.findings.simplicity_biases.dissecting import Shown
from reprolib.findings.simplicity_biases.figures.dissected import COLOURS, detectors, shares
from reprolib.measures import dissection
from reprolib.measures.dissection import Overlaps
from reprolib.models.layers import features
from reprolib.models.mine import Own
from reprolib.models.networks import MINE, Network

PLANTED = ("grating_0", "disc", "disc")  # what units 0, 1 and 2 of layer "late" detect
RECIPES = {"standard": "std", "robust": "l2_075"}


def planted(network: Any, shown: Shown) -> Mapping[str, Overlaps]:
    """Units of "late" that are concepts with some noise, one that is nothing, one that is dead; a layer "early" of one detector."""

    def batches() -> Any:
        start = 0
        for x, masks in shown.batches():
            generator = problems.generator(start)
            noise = torch.rand(len(x), 5, *masks.shape[2:], generator=generator)
            for unit, name in enumerate(PLANTED):
                noise[:, unit] += 3 * masks[shown.names.index(name)]
            noise[:, 4] = 0
            yield {"early": noise[:, :1], "late": noise}, masks
            start += len(x)

    return dissection.overlaps(batches, dissection.thresholds(batches, shown.quantiles), shown.draws)


def concepts(network: Network, shown: Shown) -> Mapping[str, Overlaps]:
    """The question of the notebook."""

    def batches() -> Any:
        for x, masks in shown.batches():
            yield features(network, x, network.layer_names), masks

    return dissection.overlaps(batches, dissection.thresholds(batches, shown.quantiles), shown.draws)


@pytest.fixture(scope="module")
def study() -> Any:
    settings = type("Settings", (), {"scale": SimpleNamespace(dataset="shapetexture_gratings"), "__getitem__": lambda self, name: 120})()

    class Planted:
        can_measure, only_mine, device = True, False, "cpu"

        def __init__(self) -> None:
            self.settings = settings

        def each(self, nets: Any) -> Any:
            return ((role, network) for role, of in nets.items() for network in of)

        def report(self, line: str) -> None:
            """Say nothing."""

    return Planted()


@pytest.fixture(scope="module")
def rows(study: Any) -> pd.DataFrame:
    nets = {role: [carded(0, recipe, weights=k)] for k, (role, recipe) in enumerate(RECIPES.items())}
    nets["untrained"] = [carded(0, "untrained", weights=7)]
    return dissecting.dissected(study, nets, planted)


def of(rows: pd.DataFrame, quantity: str, arm: str = "standard", claim: str = "SIM-4") -> Any:
    return rows[(rows["claim"] == claim) & (rows["quantity"] == quantity) & (rows["arm"] == arm)].set_index("unit")


def test_planted_units_are_named_and_dead_ones_are_counted(rows: pd.DataFrame, study: Any) -> None:
    there, concept, detector = dissecting.shown(study), of(rows, "concept"), of(rows, "detector")
    assert [*concept.index] == ["early:000", "late:000", "late:001", "late:002", "late:003"]
    assert concept["reached"].tolist() == [True, True, True, True, False]
    named = [there.names[int(k)] for k in concept["value"]][:4]
    assert named == ["grating_0", *PLANTED]
    assert detector["value"].tolist() == [1, 1, 0, 0, 0]
    assert detector["reached"].tolist() == concept["reached"].tolist()
    assert of(rows, "dead")["value"].to_dict() == {"early": 0, "late": 1}
    assert (of(rows, "inside")["value"][:4] == 1).all()
    assert not of(rows, "random_iou")["reached"].any()
    assert len(of(rows, "random_iou", claim="SIM-5")) == 5


def test_concepts_of_a_layer_are_counted_plain_and_rarefied(rows: pd.DataFrame) -> None:
    variety = of(rows, "variety", claim="SIM-5")
    assert variety["value"].tolist() == [0, 1, 0.5, 0.5, 0]
    assert variety["reached"].tolist() == [False, True, True, True, False]
    assert of(rows, "unique_concepts", claim="SIM-5")["value"].to_dict() == {"early": 1, "late": 2}
    assert of(rows, "rarefied_concepts", claim="SIM-5")["value"].to_dict() == {"late": 2}  # all three: each network has as many
    fewer = rows.assign(reached=rows["reached"] & ~((rows["arm"] == "robust") & (rows["unit"] == "late:001")))
    found = pd.concat([*dissecting.concept_counts(fewer, fewer)])
    assert of(found, "rarefied_concepts", claim="SIM-5")["value"].to_dict() == {"late": pytest.approx(1 + 2 / 3)}


def test_the_low_level_share_has_an_interval_over_scenes_and_sweeps_of_both_arms(rows: pd.DataFrame) -> None:
    network = {quantity: of(rows, quantity)["value"].get("network") for quantity in set(rows["quantity"])}
    assert network["share_low"] == network["share_high"] == pytest.approx((1 + 1 / 4) / (1 + 3 / 4), abs=1e-3)  # as sure as can be
    assert network["detectors@iou_.04"] == network["detectors@q_.005"] == 4
    assert network["low_share@iou_.04"] == network["low_share@q_.005"] == network["low_share@q_.02"] == pytest.approx(1.25 / 1.75, abs=1e-3)
    assert network["detectors@iou_.1"] <= network["detectors@iou_.06"] <= network["detectors@iou_.02"]
    assert not rows["quantity"][rows["arm"] == "untrained"].str.contains("@").any()


def test_small_maps_of_a_readers_network_are_left_out_and_said(study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 16), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4), nn.ReLU()
    own = Own(nn.Sequential(*layers), torch.zeros(2, 3, 16, 16), 4)
    wide, point, vector = names = own.layer_names
    rows = dissecting.dissected(study, {"standard": [carded(0, "std")], MINE: [own]}, concepts)
    rows = rows[rows["arm"] == MINE]
    assert set(rows.loc[rows["quantity"] == "dead", "unit"]) == {wide, vector}  # the last map is repeated to 4 x 4
    assert f"not dissected are {point}: fewer than 8 of their positions on 120 scenes are strongest ones." in capsys.readouterr().out
    assert own.layer_names == names


def test_untrained_units_detect_next_to_no_random_mask(study: Any) -> None:
    found = dissecting.dissected(study, {"untrained": [carded(k, "untrained", weights=k) for k in range(3)]}, concepts)
    random = found[(found["claim"] == "SIM-4") & (found["quantity"] == "random_iou")]
    assert len(random) > 300
    assert random["reached"].mean() <= 0.01
    assert found["value"].notna().all()


def test_random_masks_have_the_areas_of_the_concepts_and_parts_are_three_pixels_wide(study: Any) -> None:
    there = dissecting.shown(study)
    k = len(there.names)
    assert len(there.masks) == 2 * k
    assert torch.equal(*(there.masks[part].flatten(1).sum(dim=1) for part in (slice(k), slice(k, None))))
    assert not torch.equal(there.masks[:k], there.masks[k:])
    parts = there.masks[[category == "part" for category in there.categories] + [False] * k].float()
    assert torch.equal(nn.functional.max_pool2d(-nn.functional.max_pool2d(-parts, 3, 1, 1), 3, 1, 1), parts)  # no thinner line is left


def test_shares_by_layer_add_up_and_are_drawn(rows: pd.DataFrame, study: Any) -> None:
    known = dissecting.concepts(study)
    table = shares(rows, known).set_index(["arm", "layer"])
    assert table[[*COLOURS]].sum(axis=1).tolist() == pytest.approx([1] * len(table))
    assert table.loc[("robust", "late"), ["texture", "object", "none", "floor"]].tolist() == [0.25, 0.5, 0.25, 0]
    figure = detectors(rows, known)
    assert [ax.get_title("left") for ax in figure.axes] == ["standard", "robust"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["early", "late"]


def test_a_network_without_a_detector_has_no_share(study: Any) -> None:
    def silent(network: Any, shown: Shown) -> Mapping[str, Overlaps]:
        def batches() -> Any:
            for k, (_, masks) in enumerate(shown.batches()):
                yield {"late": torch.rand(masks.shape[1], 3, 8, 8, generator=problems.generator(k))}, masks

        return dissection.overlaps(batches, dissection.thresholds(batches, shown.quantiles), shown.draws)

    found = dissecting.dissected(study, {"standard": [carded(0)]}, silent)
    value: Tensor = of(found, "detectors@iou_.04")["value"]
    assert value.tolist() == [0]
    assert not {"share_low", "low_share@iou_.04"} & set(found["quantity"])
    assert not of(found, "variety", claim="SIM-5")["reached"].any()


def test_a_readers_network_alone_has_concepts_counted_without_rarefaction(study: Any) -> None:
    own = carded(0, "own", weights=0)
    rows = dissecting.dissected(study, {MINE: [own]}, concepts)
    assert (rows["arm"] == MINE).all()
    assert "unique_concepts" in set(rows["quantity"])
    assert "rarefied_concepts" not in set(rows["quantity"])
