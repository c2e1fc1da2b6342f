"""Rows with known answers give the answers they were planted for: does it hold, and does only adversarial training do it?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import pytest
from planting import LEDGER, cards, converged, good_cards, in_file, judge, judge_finding, near, network, plant, together

from reprolib.errors import BadInput
from reprolib.judging import claims as judged
from reprolib.judging.claims import networks_an_arm, numbers, verdict_table
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import Claim

FIELDS = [
    "id", "version", "required", "quantity", "estimate", "low", "high", "n", "unit", "arms", "networks", "parts", "controls",
    "verdict", "specificity", "reason",
]  # fmt: skip
Levels = Mapping[str, Sequence[float]]


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Claim]:
    return in_file(tmp_path_factory.mktemp("ledger"), LEDGER)


def distance(claim: str, levels: Levels) -> pd.DataFrame:
    return plant(claim, "distance", levels)


def share(claim: str, levels: Levels) -> pd.DataFrame:
    return plant(claim, "recognised", levels, n=100, share=True)


def level(claim: str, levels: Levels) -> pd.DataFrame:
    return plant(claim, "level", {"robust": levels["robust"]})


def bias(claim: str, levels: Levels) -> pd.DataFrame:
    """Every stimulus is answered by one of both cues."""
    return plant(claim, "answers", levels, n=100, share=True)


def auroc(claim: str, levels: Levels) -> pd.DataFrame:
    """That share of the scores outside lies above all inside, the others below all: the AUROC is the share."""
    outside = plant(claim, "outside", levels, n=100, share=True)
    return together(outside.assign(value=2 * outside["value"] - 1), plant(claim, "inside", levels, n=50, noise=0.01).assign(value=0.0))


def every(claim: str, levels: Levels) -> pd.DataFrame:
    """Rule "all" over D and S, S turned as D is."""
    return together(distance("D", levels), share("S", {arm: [1 - value for value in of] for arm, of in levels.items()}), converged())


KINDS: dict[str, tuple[Callable[[str, Levels], pd.DataFrame], int]] = {
    "D": (distance, -1), "S": (share, 1), "L": (level, 1), "R": (bias, 1), "U": (auroc, 1), "A": (every, -1),
}  # fmt: skip


def rows_of(kind: str, robust: Sequence[float], standard: Sequence[float] | None = None, **controls: Sequence[float]) -> pd.DataFrame:
    """Rows of a claim of that kind, levels told as if higher in the robust arm were the claim."""
    make, sign = KINDS[kind]
    levels = {"standard": near(0.5) if standard is None else standard, "robust": robust, **controls}
    return together(make(kind, {arm: of if sign > 0 else [1 - value for value in of] for arm, of in levels.items()}), good_cards())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("robust", "verdict"),
    [
        (near(0.9), "supported"),
        (near(0.1), "contradicted"),
        ([0.5, 0.5, 0.5], "negligible"),
        ([0.5, 0.75, 0.95], "inconclusive"),
        ([0.9], "inconclusive (one network)"),
        ([], "not run ("),
    ],
)
def test_planted_rows_give_the_verdict_they_were_planted_for(
    claims: dict[str, Claim], kind: str, robust: list[float], verdict: str
) -> None:
    standard = [0.5, 0.5, 0.5] if verdict == "negligible" else near(0.5)
    found = judge(kind, rows_of(kind, robust, standard), "laptop", claims)
    if verdict == "negligible" and kind == "U":
        assert found["verdict"] in ("negligible", "inconclusive")  # 50 images a group: the interval is wider than the margin
    else:
        assert found["verdict"].startswith(verdict), found["reason"]
    assert list(found) == FIELDS
    assert found["reason"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("kind", ["D", "S", "R", "U", "A"])
@pytest.mark.parametrize("robust", [near(0.9), near(0.1)])
def test_a_control_like_the_robust_arm_does_the_same_and_one_like_the_standard_arm_is_ruled_out(
    claims: dict[str, Claim], kind: str, robust: list[float]
) -> None:
    middle = (robust[0] + 0.5) / 2
    for gauss, state, answer, part in (
        (robust, "does the same", "not specific (noise-trained 100 %)", 1.0),
        (near(0.5), "ruled out", "specific", 0.0),
        (near(middle), "open", "open (noise-trained 50 %)", 0.5),
        ([0.5], "open (one network)", "open (noise-trained 0 %)", 0.0),
    ):
        found = judge(kind, rows_of(kind, robust, gauss=gauss, **({"std_matched": near(0.5)} if kind == "A" else {})), "laptop", claims)
        control = next(one for one in found["controls"] if one["name"] == "gauss")
        assert (control["state"], found["specificity"]) == (state, answer)
        assert control["share"] == pytest.approx(part, abs=0.03)
        assert control["low"] is None or control["low"] <= control["share"] <= control["high"]


def test_of_what_does_not_hold_no_control_is_asked(claims: dict[str, Claim]) -> None:
    found = judge("D", rows_of("D", [0.5, 0.75, 0.95], gauss=near(0.9)), "laptop", claims)
    assert found["specificity"] == ""
    assert found["controls"][1:] == [{"name": "gauss", "share": None, "low": None, "high": None, "state": "not asked"}]


def test_a_control_that_is_not_measured_leaves_the_second_answer_open(claims: dict[str, Claim]) -> None:
    found = judge("D", rows_of("D", near(0.9)), "laptop", claims)
    assert (found["verdict"], found["specificity"]) == ("supported", "open (noise-trained)")
    assert found["controls"][1]["state"] == "open (gauss not measured)"
    found = judge("A", rows_of("A", near(0.9), std_matched=near(0.5)), "gpu", claims)
    assert found["controls"][-2]["state"] == "not applicable (no such network here)"
    assert found["specificity"] == "specific"


def test_estimate_and_networks_are_the_arms_means(claims: dict[str, Claim]) -> None:
    rows = plant("D", "distance", {"standard": [0.9, 0.8, 0.7], "robust": [0.5, 0.4, 0.3]}, noise=0)
    found = judge("D", together(rows, good_cards()), "laptop", claims)
    assert found["estimate"] == pytest.approx(-0.4)
    assert found["networks"]["robust"] == pytest.approx({network("robust", k): value for k, value in enumerate((0.5, 0.4, 0.3))})
    half = 2.776445 * (2 * 0.01 / 3) ** 0.5  # t of 4 degrees of freedom
    assert (found["low"], found["high"]) == pytest.approx((-0.4 - half, -0.4 + half), abs=1e-5)
    assert (numbers(found), networks_an_arm(found)) == ("-0.4 [-0.63, -0.17]", "3 + 3 networks")


FIRM, LOOSE = converged(0.01), converged(0.2)


def trend(standard: Sequence[float], small: Sequence[float], robust: Sequence[float]) -> pd.DataFrame:
    return plant("T", "distance", {"standard": standard, "robust_small": small, "robust": robust})


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (together(trend(near(0.9), near(0.7), near(0.5)), FIRM), "supported"),
        (together(trend(near(0.9), near(0.5), near(0.5)), FIRM), "supported"),  # it may level off
        (together(trend(near(0.9), near(0.3), near(0.6)), FIRM), "contradicted"),  # and not turn back
        (together(trend(near(0.5), near(0.7), near(0.9)), FIRM), "contradicted"),
        (together(trend(near(0.9), near(0.9), near(0.5)), FIRM), "inconclusive"),  # the small radius does nothing
        (together(trend(near(0.9), near(0.7)[:2], near(0.5)), FIRM), "inconclusive (two networks)"),
        (together(trend(near(0.9), near(0.7), near(0.5)), LOOSE), "inconclusive (check converged)"),
        (trend(near(0.9), near(0.7), near(0.5)), "inconclusive (check converged)"),
        (trend(near(0.9), [], near(0.5)), "not run (robust_small not measured)"),
    ],
)
def test_a_trend_is_two_steps(claims: dict[str, Claim], rows: pd.DataFrame, verdict: str) -> None:
    found = judge("T", together(rows, good_cards()), "laptop", claims)
    assert found["verdict"] == verdict, found["reason"]
    assert [part["name"] for part in found["parts"]] == ["main minus standard", "small minus standard", "main minus small"]


def test_rule_all_answers_by_its_worst_part(claims: dict[str, Claim]) -> None:
    rows = together(distance("D", {"standard": near(0.9), "robust": near(0.5)}), good_cards(), FIRM)
    for recognised, verdict in ((near(0.9), "supported"), (near(0.1), "contradicted"), ([0.3, 0.5, 0.7], "inconclusive")):
        beside = share("S", {"standard": near(0.5), "robust": recognised})
        found = judge("A", together(rows, beside), "laptop", claims)
        assert found["verdict"] == verdict
        assert [part["state"] for part in found["parts"]] == ["supported", verdict, "not measured"]
        assert found["reason"].startswith("recognised: ")  # of two that hold, the one whose interval clears less
    assert judge("A", rows, "laptop", claims)["verdict"] == "not run (not measured)"


def test_rule_all_skips_parts_that_a_scale_does_not_ask_for(claims: dict[str, Claim]) -> None:
    parts = tuple(dataclasses.replace(part, scales=("gpu",)) if part.name == "recognised" else part for part in claims["A"].parts)
    narrow = {**claims, "A": dataclasses.replace(claims["A"], parts=parts)}
    rows = together(distance("D", {"standard": near(0.9), "robust": near(0.5)}), good_cards(), FIRM)
    found = judge("A", rows, "laptop", narrow)
    assert (found["verdict"], found["parts"][1]["state"]) == ("supported", "not applicable (asked at gpu only)")
    only = {**claims, "A": dataclasses.replace(claims["A"], parts=parts[1:2])}
    assert judge("A", rows, "laptop", only)["verdict"] == "not run (no part is applicable)"


def test_a_check_that_is_a_claim_counts_its_parts_on_the_same_quantity(claims: dict[str, Claim]) -> None:
    named = {**claims, "D": dataclasses.replace(claims["D"], checks=("A",), controls=())}
    rows = rows_of("D", near(0.9))
    unlike = share("S", {"standard": near(0.9), "robust": near(0.1)})
    assert judge("D", together(rows, unlike), "laptop", named)["verdict"] == "supported"  # A's part on S's quantity is no concern of D
    leaning = {**named, "S": dataclasses.replace(claims["S"], checks=("A",), direction="less", controls=())}
    found = judge("S", together(rows, unlike), "laptop", leaning)
    assert found["verdict"] == "inconclusive (check A)"
    assert "A: recognised contradicted" in found["reason"]


def test_a_control_that_is_another_claim_takes_that_claims_answer(claims: dict[str, Claim]) -> None:
    named = {**claims, "D": dataclasses.replace(claims["D"], controls=("S",))}
    for robust, answer in ((near(0.9), "specific"), (near(0.1), "not specific (S)"), ([0.3, 0.5, 0.9], "open (S)")):
        rows = together(rows_of("D", near(0.9)), share("S", {"standard": near(0.5), "robust": robust}))
        assert judge("D", rows, "laptop", named)["specificity"] == answer


def test_a_ratio_counts_the_rows_that_count(claims: dict[str, Claim]) -> None:
    rows = rows_of("R", near(0.9))
    robust = rows["arm"] == "robust"
    silent = robust & (rows["quantity"] == "answers") & (rows["unit"] >= "target_020")
    found = judge("R", rows.assign(reached=~silent), "laptop", claims)
    assert "20 rows that count, 30 are needed" in found["verdict"]
    beside = rows_of("U", near(0.9))
    with pytest.raises(BadInput, match="lacks inside or outside: measure both"):
        judge("U", beside[~((beside["quantity"] == "outside") & (beside["arm"] == "robust") & (beside["seed"] == 1))], "laptop", claims)
    assert judge("U", beside[beside["quantity"] != "outside"], "laptop", claims)["verdict"] == "not run (outside not measured)"


def test_an_accuracy_matched_control_is_not_applicable_where_accuracies_agree(claims: dict[str, Claim]) -> None:
    changed = {**claims, "D": dataclasses.replace(claims["D"], controls=("std_matched",))}
    rows = rows_of("D", near(0.9)).query("claim != 'networks'")
    same = cards({"standard": 0.05, "robust": 0.6}, {"standard": 0.8, "robust": 0.79})
    found = judge("D", together(rows, same), "laptop", changed)
    assert found["controls"][1]["state"] == "not applicable (clean accuracies differ by 1.0 points, under 2)"
    assert judge("D", together(rows, good_cards()), "laptop", changed)["specificity"] == "open (accuracy-matched)"


def test_networks_that_do_not_differ_are_not_compared(claims: dict[str, Claim]) -> None:
    rows = rows_of("D", near(0.9)).query("claim != 'networks'")
    for robust, verdict in ((0.25, "supported"), (0.24, "not run (the networks do not differ)")):
        found = judge("D", together(rows, cards({"standard": 0.05, "robust": robust})), "laptop", claims)
        assert found["verdict"] == verdict


def test_a_network_without_a_card_leaves_the_claim_inconclusive(claims: dict[str, Claim]) -> None:
    rows = rows_of("D", near(0.9)).query("claim != 'networks'")
    rows = together(rows, cards({"standard": 0.05, "robust": 0.6}, seeds=1))
    assert judge("D", rows, "laptop", claims)["verdict"] == "inconclusive (check manipulation check)"


def test_converged_asks_for_the_share_reached_as_well(claims: dict[str, Claim]) -> None:
    rows = together(trend(near(0.9), near(0.7), near(0.5)), good_cards())
    doubled = converged(0.0)
    late = (doubled["unit"] == "target_003") & doubled["unit_2"].str.endswith("x1") & (doubled["arm"] == "robust")
    found = judge("T", together(rows, doubled.assign(reached=~late)), "laptop", claims)
    assert found["verdict"] == "inconclusive (check converged)"
    assert "share reached 0.125" in found["reason"]
    with pytest.raises(BadInput, match="must end in .x1 or .x2, both for every target"):
        judge("T", together(rows, doubled[~late]), "laptop", claims)


def test_fewer_than_eight_units_give_numbers_but_no_verdict(claims: dict[str, Claim]) -> None:
    rows = plant("D", "distance", {"standard": near(0.9), "robust": near(0.5)}, n=7)
    found = judge("D", together(rows, good_cards()), "laptop", claims)
    assert (found["verdict"], round(found["estimate"], 1)) == ("inconclusive (fewer than 8 units)", -0.4)


def test_smoke_is_never_evidence_nor_required(claims: dict[str, Claim]) -> None:
    rows = rows_of("D", near(0.9))
    smoke, laptop = (judge("D", rows, scale, claims) for scale in ("smoke", "laptop"))
    assert (smoke["reason"][:19], smoke["required"], laptop["required"]) == ("smoke: not evidence", False, True)


def test_what_is_not_measured_is_named(claims: dict[str, Claim]) -> None:
    assert judge("D", good_cards(), "imagenet", claims)["verdict"] == "not run (not required at imagenet)"
    assert judge("D", good_cards(), "laptop", claims)["verdict"] == "not run (not measured)"
    alone = plant("D", "distance", {"standard": near(0.9)})
    assert judge("D", together(alone, good_cards()), "laptop", claims)["verdict"] == "not run (robust not measured)"


def test_a_target_not_reached_counts_as_no_difference_where_the_ledger_says_zero(claims: dict[str, Claim]) -> None:
    strict = {**claims, "D": dataclasses.replace(claims["D"], unreached="zero")}
    rows = together(plant("D", "distance", {"standard": [0.9, 0.9], "robust": [0.5, 0.5], "gauss": [0.9, 0.9]}, noise=0), good_cards())
    missed = (rows["claim"] == "D") & (rows["arm"] == "standard") & (rows["unit"] < "target_012")
    rows = rows.assign(reached=~missed)
    assert judge("D", rows, "laptop", claims)["estimate"] == pytest.approx(-0.4)
    assert judge("D", rows, "laptop", strict)["estimate"] == pytest.approx(-0.2)


def test_hidden_units_need_not_correspond_and_targets_must(claims: dict[str, Claim]) -> None:
    rows = together(plant("D", "distance", {"standard": near(0.9)}), plant("D", "distance", {"robust": near(0.5)}, n=30), good_cards())
    hidden = {**claims, "D": dataclasses.replace(claims["D"], unit="hidden unit")}
    found = judge("D", rows, "laptop", hidden)
    assert (found["verdict"], found["n"]) == ("supported", 24)
    with pytest.raises(BadInput, match="unit target_024 is measured in only one of networks .* measure it, a failure counts"):
        judge("D", rows, "laptop", claims)


def test_arms_measured_from_fewer_starts_are_compared_on_the_starts_they_share(claims: dict[str, Claim]) -> None:
    two = plant("D", "distance", {"standard": [0.9, 0.91], "robust": [0.5, 0.51]}, starts=("noise_0", "noise_1"), noise=0)
    two.loc[(two["unit_2"] == "noise_1") & (two["arm"] == "robust"), "value"] = 0.1
    gauss = plant("D", "distance", {"gauss": [0.9, 0.9]}, noise=0)
    found = judge("D", together(two, gauss, good_cards()), "laptop", claims)
    assert found["estimate"] == pytest.approx(0.5 * (0.505 + 0.1) - 0.905)
    assert found["controls"][1]["share"] == pytest.approx((0.9 - 0.905) / (0.505 - 0.905), abs=1e-5)  # of noise_0 alone


def test_uneven_repetitions_are_refused(claims: dict[str, Claim]) -> None:
    rows = rows_of("D", near(0.9))
    extra = rows[(rows["claim"] == "D") & (rows["unit"] == "target_003")].assign(unit_2="noise_1")
    with pytest.raises(BadInput, match="do not share equally many repetitions"):
        judge("D", together(rows, extra), "laptop", claims)


def test_a_relative_smallest_effect_is_a_share_of_the_first_arm(claims: dict[str, Claim]) -> None:
    relative = {**claims, "D": dataclasses.replace(claims["D"], smallest_effect=0.1, relative=True)}
    for robust, verdict in (([0.75, 0.75], "supported"), ([0.85, 0.85], "negligible")):
        rows = plant("D", "distance", {"standard": [0.9, 0.9], "robust": robust}, noise=0.001)
        assert judge("D", together(rows, good_cards()), "laptop", relative)["verdict"] == verdict


def test_a_statement_of_sameness_is_decided_inside_its_margin(claims: dict[str, Claim]) -> None:
    for direction, verdicts in (
        ("inside", ("supported", "contradicted", "inconclusive")),
        ("not_below", ("supported", "contradicted", "supported")),
    ):
        same = {**claims, "D": dataclasses.replace(claims["D"], direction=direction, controls=())}
        for robust, verdict in zip(([0.9, 0.902], [0.5, 0.51], [0.951, 0.954]), verdicts, strict=True):
            rows = plant("D", "distance", {"standard": [0.9, 0.9], "robust": robust}, noise=0.001)
            assert judge("D", together(rows, good_cards()), "laptop", same)["verdict"] == verdict


def test_the_order_of_rows_and_reading_them_once_change_nothing(claims: dict[str, Claim]) -> None:
    rows = rows_of("A", near(0.9), gauss=near(0.5))
    seen = Evidence(rows, "laptop", claims)
    shuffled = rows.sample(frac=1.0, random_state=3)
    for claim in ("D", "A", "D"):
        assert judged.judge(claim, seen) == judge(claim, rows, "laptop", claims) == judge(claim, shuffled, "laptop", claims)


def test_judging_a_finding_judges_each_of_its_claims(claims: dict[str, Claim]) -> None:
    rows = rows_of("A", near(0.9), gauss=near(0.5))
    entries = judge_finding("planted", rows, "laptop", claims)
    assert entries == [judge(claim, rows, "laptop", claims) for claim in claims]
    table = verdict_table({"claims": entries}).set_index("id")
    assert list(table.index) == [*claims]
    assert table.loc["D"].tolist()[0] == "supported"
    assert table.loc["D", "only by adversarial training?"] == "specific"
    assert table.loc["L", "estimate [low, high]"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("INV-22", "laptop"), "did you mean 'INV-2'"), (("INV-2", "laptob"), "did you mean 'laptop'")],
)
def test_unknown_claims_and_scales_are_refused_with_the_nearest_name(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        judge(arguments[0], good_cards(), arguments[1])
