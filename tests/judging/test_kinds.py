"""Kinds of contrasts that few claims are, controls of other architectures, and the ledger's own claims on planted rows."""

from __future__ import annotations

from typing import Any

import pytest
from planting import GAUSS, LESS, converged, entry, good_cards, in_file, judge, judge_finding, near, plant, together


@pytest.mark.parametrize(
    ("even", "twice", "answer"), [(0.9, 0.9, "specific"), (0.9, 0.1, "not specific (margin)"), ([0.1, 0.5, 0.9], 0.9, "open (margin)")]
)
def test_the_control_margin_asks_at_both_margins(tmp_path: Any, even: Any, twice: float, answer: str) -> None:
    found = in_file(tmp_path, entry("M", "shift", controls='["margin"]'))
    shifts = {"shift": near(0.9), "shift@1:1": even if isinstance(even, list) else near(even), "shift@1:2": near(twice)}
    rows = [plant("M", quantity, {"standard": near(0.5), "robust": of}) for quantity, of in shifts.items()]
    assert judge("M", together(*rows, good_cards()), "laptop", found)["specificity"] == answer


def test_a_correlation_over_networks_leaves_an_architecture_out_at_a_time(tmp_path: Any) -> None:
    text = entry("K", "agreement", statistic='"correlation"', arms='["a", "b", "c", "d"]', unit='"network"', smallest_effect="0.1")
    found = in_file(tmp_path, text)
    frames = []
    for place, architecture in enumerate(("one", "two", "three", "four")):
        for rank, arm in enumerate("abcd"):
            for claim, quantity, value in (("K", "level", rank + 0.1 * place), ("networks", "accuracy", 10.0 * rank + place)):
                rows = plant(claim, quantity, {arm: [value, value]}, n=8, noise=0)
                frames.append(rows.assign(architecture=architecture, network=rows["network"] + architecture))
    judged = judge("K", together(*frames), "laptop", found)
    assert (judged["verdict"], judged["n"]) == ("supported", 16)
    few = together(*frames)
    assert judge("K", few[few["architecture"] < "t"], "laptop", found)["verdict"].startswith(
        "not run (8 points of four, one give no coefficient"
    )


def test_arms_paired_by_design_are_compared_pair_by_pair(tmp_path: Any) -> None:
    found = in_file(tmp_path, entry("P", "level", statistic='"paired"'))
    frames = []
    for architecture, base in (("one", 0.1), ("two", 0.4), ("three", 0.7)):
        rows = plant("P", "level", {"standard": [base], "robust": [base + 0.2]}, noise=0)
        frames.append(rows.assign(architecture=architecture, network=rows["network"] + architecture))
    judged = judge("P", together(*frames), "laptop", found)
    assert (judged["estimate"], judged["low"]) == pytest.approx((0.2, 0.2))
    without = judge("P", together(*frames[:2], frames[2].query("arm == 'robust'")), "laptop", found)
    assert without["reason"].endswith("left out: three (standard not measured)")


def test_control_networks_may_be_of_another_architecture_that_has_two_of_them(tmp_path: Any) -> None:
    text = entry("X", "distance", **LESS, **GAUSS, control_rows='"Y"') + entry("Y", "other")
    found = in_file(tmp_path, text)
    own = plant("X", "distance", {"standard": near(0.9), "robust": near(0.5), "gauss": [0.9]})
    other = plant("Y", "distance", {"standard": near(0.8), "robust": near(0.6), "gauss": near(0.6)})
    other = other.assign(architecture="small", network=other["network"].str[::-1])
    judged = judge("X", together(own, other, good_cards()), "laptop", found)
    assert judged["specificity"] == "not specific (noise-trained 100 %)"
    two = plant("X", "distance", {"standard": near(0.9), "robust": near(0.5), "gauss": near(0.9)})
    assert judge("X", together(two, other, good_cards()), "laptop", found)["specificity"] == "specific"
    alone = judge("X", together(own, good_cards()), "laptop", found)
    assert alone["controls"][1]["state"] == "open (one network)"


def test_the_ledgers_own_claims_judge_planted_inversions_as_supported() -> None:
    levels = {"standard": near(0.9), "robust": near(0.5), "robust_small": near(0.7)}
    levels |= dict.fromkeys(("gauss", "blur", "std_matched", "untrained"), near(0.9))
    recognised = dict.fromkeys(levels, near(0.1)) | {"robust": near(0.9)}
    rows = together(
        plant("INV-1", "distance_ratio", levels, starts=("image",)),
        plant("INV-2", "distance_ratio", levels, starts=("noise_0", "noise_1")),
        plant("INV-3", "recognised", recognised, starts=("noise_0", "noise_1"), share=True),
        converged(),
        good_cards(),
    )
    entries = {entry["id"]: entry for entry in judge_finding("invertibility", rows, "laptop")}
    assert {name for name, one in entries.items() if one["verdict"] == "supported"} == {"INV-1", "INV-2", "INV-3", "INV-9"}
    assert {entries[name]["specificity"] for name in ("INV-1", "INV-2", "INV-3")} == {"specific"}
    assert (entries["INV-1"]["arms"], entries["INV-9"]["specificity"]) == (["robust", "standard"], "")
    without = rows[rows["arm"] != "blur"]
    assert judge("INV-2", without, "laptop")["specificity"] == "open (blur-trained)"
    assert judge("INV-2", without, "gpu")["specificity"] == "specific"  # no network is trained on blurred images there
