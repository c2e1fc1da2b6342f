"""Each answer to the claims on simplicity biases, from rows planted for it: hidden units by layer, networks without detectors, both checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from planting import cards, good_cards, judge, near, plant, together

from reprolib.errors import BadInput
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import load_claims
from reprolib.measures.effects import Absent

Levels = Mapping[str, Sequence[float]]
WIDE = [0.1, 0.5, 0.9]
LAYERS = {"stem": 20, "late": 60}  # hidden units a layer
SHORT = {"SIM-1": "high_frequency_fraction", "SIM-2": "tv_response@first", "SIM-6": "diversity"}


def units(claim: str, quantity: str, levels: Levels, share: bool = False, **kept: object) -> pd.DataFrame:
    """Rows of hidden units of two layers, at one level in both, or with that share of ones in both."""
    frames = []
    for layer, n in LAYERS.items():
        rows = plant(claim, quantity, levels, n=n, starts=("",), share=share, noise=0.001, **kept)  # type: ignore[arg-type]
        frames.append(rows.assign(unit=rows["unit"].str.replace("target_", f"{layer}:")))
    return together(*frames)


def detectors(low: Levels, random: float = 0.0) -> pd.DataFrame:
    """All units detect something, that share of them a colour or a texture; that share detects a random mask."""
    masks = units("SIM-4", "random_iou", {arm: [random] * len(of) for arm, of in low.items()}, share=True)
    return together(units("SIM-4", "detector", low, share=True), masks.assign(reached=masks["value"] == 1), good_cards())


@pytest.mark.parametrize("claim", SHORT)
@pytest.mark.parametrize(
    ("robust", "verdict"), [(near(0.2), "supported"), (near(0.8), "contradicted"), ([0.5] * 3, "negligible"), (WIDE, "inconclusive")]
)
def test_each_verdict_on_a_mean_over_hidden_units(claim: str, robust: list[float], verdict: str) -> None:
    rows = together(units(claim, SHORT[claim], {"standard": [0.5] * 3, "robust": robust}), good_cards())
    assert judge(claim, rows, "laptop")["verdict"].startswith(verdict)


@pytest.mark.parametrize(
    ("robust", "verdict"), [(near(0.8), "supported"), (near(0.2), "contradicted"), ([0.5] * 3, "negligible"), (WIDE, "inconclusive")]
)
def test_each_verdict_on_shares_of_detectors(robust: list[float], verdict: str) -> None:
    levels = {"standard": [0.5] * 3, "robust": robust}
    assert judge("SIM-4", detectors(levels), "laptop")["verdict"].startswith(verdict)
    rows = varied({arm: [1 - x for x in of] for arm, of in levels.items()})
    assert judge("SIM-5", rows, "laptop")["verdict"].startswith(verdict)


def varied(levels: Levels) -> pd.DataFrame:
    """All units are detectors; that share of them differs in concept from all others of its layer, the rest from none."""
    masks = detectors(levels).query("quantity != 'detector'").replace({"claim": {"SIM-4": "SIM-5"}})
    every = units("SIM-5", "detects", {arm: [1.0] * len(of) for arm, of in levels.items()}, share=True)
    return together(units("SIM-5", "variety", levels, share=True), every, masks)


def test_eight_detectors_have_a_variety_whether_or_not_they_share_a_layer() -> None:
    rows = varied({"standard": [0.5] * 3, "robust": near(0.2)})
    number, one = rows["unit"].str[-3:].astype(int), (rows["arm"] == "robust") & (rows["seed"] == 1)
    late = one & rows["unit"].str.startswith("late")
    few = late & (rows["quantity"] == "detects") | one & (rows["quantity"] == "detects") & (number >= 8)
    rows.loc[few, "value"] = 0.0  # 8 detectors, all of the stem
    alone = one & (rows["quantity"] == "variety") & ((number >= 6) | late)
    rows.loc[alone, "reached"] = False
    assert judge("SIM-5", rows, "laptop")["networks"]["robust"]
    rows.loc[one & (rows["quantity"] == "detects") & (number >= 7), "value"] = 0.0
    assert "has 7 detectors, 8 are needed" in judge("SIM-5", rows, "laptop")["reason"]


def test_layers_count_alike_whatever_their_number_of_units() -> None:
    rows = units("SIM-6", "diversity", {"standard": [0.0] * 3, "robust": [0.0] * 3})
    late = rows["unit"].str.startswith("late")
    rows = together(rows.assign(value=np.where(late, 0.9, 0.1)), good_cards())
    found = judge("SIM-6", rows, "laptop")
    assert [*found["networks"]["standard"].values()] == pytest.approx([0.5] * 3)  # and not (20 x .1 + 60 x .9) / 80
    share = detectors({"standard": [0.0] * 3, "robust": [1.0] * 3})
    early = share["unit"].str.startswith("stem") & (share["quantity"] == "detector")
    found = judge("SIM-4", share.assign(value=np.where(early & (share["arm"] == "standard"), 1.0, share["value"])), "laptop")
    assert [*found["networks"]["standard"].values()] == pytest.approx([0.5] * 3)


def test_units_that_are_no_detectors_are_in_the_rate_and_not_in_the_share() -> None:
    rows = detectors({"standard": [0.5] * 3, "robust": [0.5] * 3})
    number = rows["unit"].str[-3:].astype(int)
    silent = (rows["quantity"] == "detector") & (rows["arm"] == "robust") & ((number < 5) | ((number >= 20) & (number < 30)))
    found = judge("SIM-4", rows.assign(reached=rows["reached"] & ~silent), "laptop")
    w = {"stem": 1 / 40, "late": 1 / 120}  # 5 of the stem's 10 low-level units are silent, 5 and 10 of late's 30
    low, counted = 5 * w["stem"] + 15 * w["late"], 15 * w["stem"] + 45 * w["late"]
    assert [*found["networks"]["robust"].values()] == pytest.approx([low / counted] * 3)
    (rate,) = (one for one in found["parts"] if one["name"] == "detector_rate")
    assert rate["estimate"] == pytest.approx(counted - 1)


def test_a_network_without_detectors_has_no_share_and_the_verdict_says_so() -> None:
    rows = detectors({"standard": [0.5] * 3, "robust": near(0.8)})
    one = (rows["quantity"] == "detector") & (rows["arm"] == "robust") & (rows["seed"] == 1)
    found = judge("SIM-4", rows.assign(reached=rows["reached"] & ~one), "laptop")
    assert found["verdict"].startswith(("inconclusive", "not run"))
    assert "has 0 rows that count, 8 are needed" in found["verdict"] + found["reason"]


def test_hidden_units_of_two_networks_do_not_correspond() -> None:
    contrast = load_claims()["SIM-6"].contrast
    rows = together(units("SIM-6", "diversity", {"standard": near(0.5), "robust": near(0.2)}), good_cards())
    effect = Evidence(rows, "laptop").effect(contrast)
    assert not isinstance(effect, Absent)
    assert effect.v_item == 0
    fewer = rows[~((rows["arm"] == "robust") & (rows["unit"] == "stem:003"))]  # a dead unit of one arm
    assert judge("SIM-6", fewer, "laptop")["verdict"] == "supported"
    paired = together(plant("SIM-8", "drop@texture", {"standard": near(0.5), "robust": near(0.2)}, n=20, starts=("",)), good_cards())
    with pytest.raises(BadInput, match="units must be the same in all networks"):
        judge("SIM-8", paired[~((paired["arm"] == "robust") & (paired["unit"] == "target_003"))], "laptop")


@pytest.mark.parametrize(
    ("changed", "answer"),
    [({}, "specific"), ({"gauss": near(0.2)}, "not specific (noise-trained 100 %)"), ({"blur": WIDE}, "open (blur-trained 0 %)")],
)
def test_each_second_answer(changed: Levels, answer: str) -> None:
    levels = {"standard": near(0.5), "robust": near(0.2), **{arm: near(0.5) for arm in ("gauss", "blur", "std_matched")}, **changed}
    rows = together(units("SIM-1", "high_frequency_fraction", levels), good_cards())
    assert judge("SIM-1", rows, "laptop")["specificity"] == answer


def test_the_untrained_network_answers_for_kinds_of_input_only() -> None:
    levels = {arm: near(0.5) for arm in ("standard", "gauss", "blur", "std_matched")} | {"robust": near(0.2), "untrained": near(0.2)}
    rows = together(units("SIM-6", "diversity", levels), units("SIM-1", "high_frequency_fraction", levels), good_cards())
    assert judge("SIM-6", rows, "laptop")["specificity"] == "not specific (untrained 100 %)"
    assert judge("SIM-1", rows, "laptop")["specificity"] == "specific"


def test_detectors_of_random_masks_leave_the_claim_open() -> None:
    levels = {"standard": [0.5] * 3, "robust": near(0.8)}
    assert judge("SIM-4", detectors(levels, random=0.0), "laptop")["verdict"] == "supported"
    found = judge("SIM-4", detectors(levels, random=0.1), "laptop")
    assert found["verdict"] == "inconclusive (check random_masks)"
    assert "at most 10.0 % of a network's units detect a random mask" in found["reason"]


@pytest.mark.parametrize(
    ("standard", "robust", "random", "verdict"),
    [
        (0.4, 0.1, 0.1, "supported"),
        (0.1, 0.4, 0.1, "contradicted"),
        (0.3, 0.3, 0.1, "negligible"),
        (0.4, 0.1, 0.9, "inconclusive (check random_channels)"),  # whatever is removed, all is turned wrong
        (-0.1, -0.4, 0.1, "inconclusive (check random_channels)"),  # random channels matter more than detectors
    ],
)
def test_each_verdict_on_an_ablation(standard: float, robust: float, random: float, verdict: str) -> None:
    levels = {"standard": [standard] * 3, "robust": [robust] * 3}
    rows = plant("SIM-8", "drop@texture", levels, n=100, starts=("",))
    rows = together(rows, plant("SIM-8", "random_drop@texture", {arm: [random] * 3 for arm in levels}, n=100, starts=("",)), good_cards())
    found = judge("SIM-8", rows, "laptop")
    assert (found["verdict"], found["specificity"]) == (verdict, "")


def test_high_bands_are_held_against_low_ones_image_by_image() -> None:
    high = plant("SIM-3", "relative_change@high", {"standard": near(0.5), "robust": near(0.2)}, n=50, starts=("",))
    low = plant("SIM-3", "relative_change@low", {"standard": near(0.3), "robust": near(0.3)}, n=50, starts=("",))
    found = judge("SIM-3", together(high, low, good_cards()), "laptop")
    assert (found["verdict"], found["estimate"]) == ("supported", pytest.approx(-0.3, abs=0.01))


@pytest.mark.parametrize(("small", "verdict"), [(0.4, "supported"), (0.2, "supported"), (0.05, "contradicted")])
def test_a_trend_of_filters_may_level_off_and_not_turn_back(small: float, verdict: str) -> None:
    levels = {"standard": near(0.5), "robust_small": near(small), "robust": near(0.2)}
    assert judge("SIM-7", together(units("SIM-1", "high_frequency_fraction", levels), good_cards()), "laptop")["verdict"] == verdict


def test_networks_that_do_not_differ_are_not_compared() -> None:
    rows = units("SIM-1", "high_frequency_fraction", {"standard": near(0.5), "robust": near(0.2)})
    found = judge("SIM-1", together(rows, cards({"standard": 0.3, "robust": 0.4})), "laptop")
    assert found["verdict"] == "not run (the networks do not differ)"
