from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from planting import LEDGER, cards, converged, good_cards, plant, together

from reprolib.errors import BadInput
from reprolib.judging.claims import Claim, evidence_of, judge, judge_finding, load_claims, verdict_table

FIELDS = [
    "id", "version", "required", "primary", "estimate", "low", "high", "p", "n", "unit", "arms", "seeds", "placebo",
    "parts", "controls", "networks", "verdict", "reason", "detectable",
]  # fmt: skip


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Claim]:
    path = tmp_path_factory.mktemp("ledger") / "claims.toml"
    path.write_text(LEDGER)
    return load_claims(path=path)


def difference(standard: Sequence[float], robust: Sequence[float], gauss: Sequence[float], **more: Sequence[float]) -> pd.DataFrame:
    return plant("D", "distance", {"standard": standard, "robust": robust, "gauss": gauss, **more})


def share(standard: Sequence[float], robust: Sequence[float], gauss: Sequence[float]) -> pd.DataFrame:
    return plant("S", "recognised", {"standard": standard, "robust": robust, "gauss": gauss}, share=True)


def level(robust: Sequence[float], gauss: Sequence[float]) -> pd.DataFrame:
    return plant("L", "level", {"robust": robust, "gauss": gauss})


def trend(standard: Sequence[float], small: Sequence[float], robust: Sequence[float]) -> pd.DataFrame:
    return plant("T", "distance", {"standard": standard, "robust_small": small, "robust": robust})


def every_part(
    robust: Sequence[float], other: Sequence[float], recognised: Sequence[float], not_recognised: Sequence[float]
) -> pd.DataFrame:
    return together(difference([0.9, 0.9], robust, other, std_matched=other), share([0.1, 0.1], recognised, not_recognised))


FIRM, LOOSE = converged(0.01), converged(0.2)
CASES: dict[tuple[str, str], pd.DataFrame] = {
    ("D", "supported"): difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9]),
    ("D", "contradicted"): difference([0.5, 0.51], [0.9, 0.91], [0.5, 0.5]),
    ("D", "confounded (gauss)"): difference([0.9, 0.91], [0.5, 0.51], [0.45, 0.45]),
    ("D", "negligible"): difference([0.9, 0.91], [0.9, 0.905], [0.9, 0.9]),
    ("D", "inconclusive (a, b, c, d)"): difference([0.9, 0.4], [0.6, 0.6], [0.55, 0.55]),
    ("D", "inconclusive (c)"): difference([0.9, 0.6], [0.4, 0.41], [0.9, 0.9]),
    ("D", "inconclusive (b, c)"): difference([0.9], [0.5, 0.51], [0.9, 0.9]),
    ("D", "inconclusive (control gauss)"): plant("D", "distance", {"standard": [0.9, 0.91], "robust": [0.5, 0.51]}),
    ("D", "not run (no rows: robust not measured yet)"): plant("D", "distance", {"standard": [0.9, 0.91]}),
    ("D", "not run (no rows: not measured yet)"): plant("D", "other", {"standard": [0.9], "robust": [0.5]}),
    ("S", "supported"): share([0.1, 0.13], [0.9, 0.92], [0.1, 0.1]),
    ("S", "contradicted"): share([0.9, 0.92], [0.1, 0.13], [0.9, 0.9]),
    ("S", "confounded (gauss)"): share([0.1, 0.13], [0.9, 0.92], [0.9, 0.95]),
    ("S", "negligible"): share([0.5, 0.5], [0.5, 0.5], [0.5, 0.5]),
    ("S", "inconclusive (a)"): share([0.5, 0.5], [0.67, 0.67], [0.1, 0.1]),
    ("S", "not run (no rows: not measured yet)"): plant("D", "other", {"standard": [0.9], "robust": [0.5]}),
    ("L", "supported"): level([0.9, 0.91], [0.3, 0.3]),
    ("L", "contradicted"): level([0.1, 0.11], [0.5, 0.5]),
    ("L", "confounded (gauss)"): level([0.9, 0.91], [0.95, 0.95]),
    ("L", "negligible"): level([0.5, 0.51], [0.3, 0.3]),
    ("L", "inconclusive (b, c)"): level([0.9, 0.45], [0.3, 0.3]),
    ("L", "not run (no rows: not measured yet)"): difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9]),
    ("T", "supported"): together(trend([0.9, 0.91], [0.7, 0.71], [0.5, 0.51]), FIRM),
    ("T", "contradicted"): together(trend([0.5, 0.51], [0.7, 0.71], [0.9, 0.91]), FIRM),
    ("T", "confounded (converged)"): together(trend([0.9, 0.91], [0.7, 0.71], [0.5, 0.51]), LOOSE),
    ("T", "negligible"): together(trend([0.9, 0.91], [0.9, 0.91], [0.9, 0.92]), FIRM),
    ("T", "inconclusive (c)"): together(trend([0.9, 0.9], [0.7, 0.7], [0.3, 0.75]), FIRM),
    ("T", "inconclusive (control converged)"): trend([0.9, 0.91], [0.7, 0.71], [0.5, 0.51]),
    ("T", "not run (no rows: robust_small not measured yet)"): trend([0.9, 0.91], [], [0.5, 0.51]),
    ("A", "supported"): together(every_part([0.5, 0.51], [0.9, 0.91], [0.9, 0.92], [0.1, 0.13]), FIRM),
    ("A", "contradicted"): together(every_part([0.9, 0.91], [0.5, 0.51], [0.1, 0.13], [0.9, 0.92]), FIRM),
    ("A", "confounded (converged)"): together(every_part([0.5, 0.51], [0.9, 0.91], [0.9, 0.92], [0.1, 0.13]), LOOSE),
    ("A", "negligible"): together(every_part([0.9, 0.91], [0.9, 0.9], [0.5, 0.5], [0.5, 0.5]), FIRM),
    ("A", "inconclusive (a, b, c)"): together(every_part([0.5, 0.51], [0.9, 0.91], [0.5, 0.5], [0.5, 0.5]), FIRM),
    ("A", "not run (no rows: not measured yet)"): level([0.9, 0.91], [0.3, 0.3]),
}  # fmt: skip


@pytest.mark.parametrize(("claim", "verdict"), CASES, ids=[f"{claim}: {verdict}" for claim, verdict in CASES])
def test_planted_rows_give_the_verdict_they_were_planted_for(claims: dict[str, Claim], claim: str, verdict: str) -> None:
    entry = judge(claim, together(CASES[claim, verdict], good_cards()), "laptop", claims)
    assert entry["verdict"] == verdict, entry["reason"]
    assert list(entry) == FIELDS
    assert entry["reason"]
    json.dumps(entry, allow_nan=False)


def test_rows_that_were_read_once_give_the_entries_that_rows_give(claims: dict[str, Claim]) -> None:
    rows = together(next(rows for (claim, _), rows in CASES.items() if claim == "D"), good_cards())
    seen = evidence_of(rows, "laptop", claims)
    for claim in ("D", "A", "D"):
        assert judge(claim, seen, "laptop", claims) == judge(claim, rows, "laptop", claims)


@pytest.mark.parametrize("kind", ["D", "S", "L", "T", "A"])
def test_every_kind_of_claim_was_planted_with_every_verdict(kind: str) -> None:
    found = {verdict.split(" (")[0] for claim, verdict in CASES if claim == kind}
    assert found == {"supported", "contradicted", "confounded", "negligible", "inconclusive", "not run"}


def control(entry: Mapping[str, object], name: str) -> str:
    return next(c["state"] for c in entry["controls"] if c["name"] == name)  # type: ignore[attr-defined]


STATES = {
    "passed": {"gauss": [0.9, 0.9]},
    "failed": {"gauss": [0.45, 0.45]},
    "undecided (not measured)": {},
}


@pytest.mark.parametrize("state", STATES)
def test_a_network_control_comes_out_in_the_state_planted(claims: dict[str, Claim], state: str) -> None:
    rows = plant("D", "distance", {"standard": [0.9, 0.91], "robust": [0.5, 0.51], **STATES[state]})
    assert control(judge("D", together(rows, good_cards()), "laptop", claims), "gauss") == state


def test_a_control_below_a_quarter_of_the_effect_fails_and_one_above_it_is_undecided(claims: dict[str, Claim]) -> None:
    base = plant("D", "distance", {"standard": [0.9, 0.91], "robust": [0.5, 0.51]})
    for gap, spread, expected in ((0.02, 0.1, "failed"), (0.14, 0.4, "undecided")):
        gauss = plant("D", "distance", {"gauss": [0.5 + gap]})
        odd = gauss["unit"].str[-1].astype(int) % 2 == 1
        scattered = gauss.assign(value=gauss["value"] + np.where(odd, spread, -spread))
        entry = judge("D", together(base, scattered, good_cards()), "laptop", claims)
        assert control(entry, "gauss") == expected, entry["controls"]


def test_an_accuracy_matched_control_is_not_applicable_where_accuracies_agree(claims: dict[str, Claim]) -> None:
    changed = {**claims, "D": dataclasses.replace(claims["D"], controls=("std_matched",))}
    rows = difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9])
    same = cards({"standard": 0.05, "robust": 0.6}, {"standard": 0.8, "robust": 0.79})
    entry = judge("D", together(rows, same), "laptop", changed)
    assert control(entry, "std_matched") == "not applicable (clean accuracies differ by 1.0 points, under 2)"
    assert entry["verdict"] == "supported"
    entry = judge("D", together(rows, good_cards()), "laptop", changed)
    assert entry["verdict"] == "inconclusive (control std_matched)"


def test_rule_all_skips_what_is_not_applicable_but_needs_one_part(claims: dict[str, Claim]) -> None:
    rows = together(every_part([0.5, 0.51], [0.9, 0.91], [0.9, 0.92], [0.1, 0.13]), FIRM)
    entry = judge("A", together(rows, good_cards()), "gpu", claims)
    assert entry["verdict"] == "supported"
    assert [part["state"].split(" (")[0] for part in entry["parts"]] == ["not applicable", "passed", "not applicable"]
    same = cards({"standard": 0.05, "robust": 0.6}, {"standard": 0.8, "robust": 0.8})
    assert judge("A", together(rows, same), "gpu", claims)["verdict"] == "not run (no part is applicable)"


def test_rule_all_is_inconclusive_while_a_part_is_not_measured(claims: dict[str, Claim]) -> None:
    rows = together(difference([0.9, 0.9], [0.5, 0.51], [0.9, 0.91]), share([0.1, 0.1], [0.9, 0.92], [0.1, 0.13]), FIRM, good_cards())
    assert judge("A", rows, "laptop", claims)["verdict"] == "inconclusive (not measured: distance, std_matched)"


@pytest.mark.parametrize(
    ("not_recognised", "state", "verdict"),
    [([0.1, 0.1], "passed", "supported"), ([0.95, 0.95], "failed", "confounded (A)")],
)
def test_a_control_that_names_a_claim_takes_that_claims_own_outcome(
    claims: dict[str, Claim], not_recognised: list[float], state: str, verdict: str
) -> None:
    named = {**claims, "D": dataclasses.replace(claims["D"], controls=("A",))}
    rows = together(every_part([0.5, 0.51], [0.9, 0.91], [0.9, 0.92], not_recognised), good_cards())
    entry = judge("D", rows, "laptop", named)
    assert (control(entry, "A"), entry["verdict"]) == (state, verdict)


def test_networks_that_do_not_differ_are_not_compared(claims: dict[str, Claim]) -> None:
    rows = difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9])
    for robust, verdict in ((0.25, "supported"), (0.24, "not run (the networks do not differ)")):
        entry = judge("D", together(rows, cards({"standard": 0.05, "robust": robust})), "laptop", claims)
        assert entry["verdict"] == verdict


def test_a_network_without_a_card_leaves_the_claim_inconclusive(claims: dict[str, Claim]) -> None:
    rows = difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9])
    entry = judge("D", together(rows, cards({"standard": 0.05, "robust": 0.6}, seeds=1)), "laptop", claims)
    assert entry["verdict"] == "inconclusive (control manipulation check)"


def test_converged_asks_for_the_share_reached_as_well(claims: dict[str, Claim]) -> None:
    rows = together(trend([0.9, 0.91], [0.7, 0.71], [0.5, 0.51]), good_cards())
    doubled = converged(0.0)
    late = (doubled["unit"] == "target_003") & doubled["unit_2"].str.endswith("x1") & (doubled["arm"] == "robust")
    entry = judge("T", together(rows, doubled.assign(reached=~late)), "laptop", claims)
    assert entry["verdict"] == "confounded (converged)"
    assert "share reached 0.125" in entry["reason"]
    with pytest.raises(BadInput, match="must end in .x1 or .x2, both for every target"):
        judge("T", together(rows, doubled[~late]), "laptop", claims)


def test_a_claim_without_networks_has_not_converged(claims: dict[str, Claim]) -> None:
    assert control(judge("T", FIRM, "laptop", claims), "converged") == "undecided (not measured for any network)"


def test_fewer_than_eight_units_give_numbers_but_no_verdict(claims: dict[str, Claim]) -> None:
    rows = plant("D", "distance", {"standard": [0.9, 0.91], "robust": [0.5, 0.51], "gauss": [0.9, 0.9]}, n=7)
    entry = judge("D", together(rows, good_cards()), "laptop", claims)
    assert entry["verdict"] == "inconclusive (fewer than 8 units)"
    assert entry["estimate"] == pytest.approx(-0.4, abs=0.02)
    assert entry["placebo"]["fired"] is None


def test_smoke_is_never_evidence_nor_required(claims: dict[str, Claim]) -> None:
    rows = together(difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9]), good_cards())
    entry = judge("D", rows, "smoke", claims)
    assert entry["reason"].startswith("smoke: not evidence")
    assert entry["required"] is False
    assert judge("D", rows, "laptop", claims)["required"] is True


def test_a_scale_that_is_not_required_says_so_when_it_has_no_rows(claims: dict[str, Claim]) -> None:
    assert judge("D", good_cards(), "imagenet", claims)["verdict"] == "not run (not required at imagenet)"


def test_the_placebo_fires_where_two_seeds_of_one_arm_differ_like_an_effect(claims: dict[str, Claim]) -> None:
    for standard, fired in (([0.9, 0.91], False), ([0.9, 0.7], True)):
        placebo = judge("D", together(difference(standard, [0.5, 0.51], [0.9, 0.9]), good_cards()), "laptop", claims)["placebo"]
        assert placebo["fired"] is fired
        assert placebo["estimate"] == pytest.approx(standard[1] - standard[0], abs=0.01)


def test_estimate_is_the_mean_over_all_seed_pairs(claims: dict[str, Claim]) -> None:
    rows = plant("D", "distance", {"standard": [0.9, 0.8, 0.7], "robust": [0.5, 0.4, 0.3], "gauss": [0.9, 0.9]}, noise=0)
    entry = judge("D", together(rows, good_cards()), "laptop", claims)
    assert [(pair["a"], pair["b"]) for pair in entry["seeds"]] == [(a, b) for a in range(3) for b in range(3)]
    assert [pair["estimate"] for pair in entry["seeds"]] == pytest.approx([b - a for a in (0.9, 0.8, 0.7) for b in (0.5, 0.4, 0.3)])
    assert entry["estimate"] == entry["low"] == entry["high"] == pytest.approx(-0.4)


def test_a_target_not_reached_counts_as_no_difference_where_the_ledger_says_zero(claims: dict[str, Claim]) -> None:
    strict = {**claims, "D": dataclasses.replace(claims["D"], unreached="zero")}
    rows = together(plant("D", "distance", {"standard": [0.9, 0.9], "robust": [0.5, 0.5], "gauss": [0.9, 0.9]}, noise=0), good_cards())
    missed = (rows["claim"] == "D") & (rows["arm"] == "standard") & (rows["unit"] < "target_012")
    rows = rows.assign(reached=~missed)
    assert judge("D", rows, "laptop", claims)["estimate"] == pytest.approx(-0.4)
    assert judge("D", rows, "laptop", strict)["estimate"] == pytest.approx(-0.2)


def test_hidden_units_need_not_correspond_and_targets_must(claims: dict[str, Claim]) -> None:
    rows = together(
        plant("D", "distance", {"standard": [0.9, 0.91], "gauss": [0.9, 0.9]}), plant("D", "distance", {"robust": [0.5, 0.51]}, n=30)
    )
    hidden = {**claims, "D": dataclasses.replace(claims["D"], unit="hidden unit")}
    entry = judge("D", together(rows, good_cards()), "laptop", hidden)
    assert (entry["verdict"], entry["n"]) == ("supported", 24)
    with pytest.raises(BadInput, match="unit target_024 is measured in only one of networks .* measure it, a failure counts"):
        judge("D", together(rows, good_cards()), "laptop", claims)


def test_arms_measured_from_fewer_starts_are_compared_on_the_starts_they_share(claims: dict[str, Claim]) -> None:
    two = plant("D", "distance", {"standard": [0.9, 0.91], "robust": [0.5, 0.51]}, starts=("noise_0", "noise_1"), noise=0)
    two.loc[(two["unit_2"] == "noise_1") & (two["arm"] == "robust"), "value"] = 5.0
    gauss = plant("D", "distance", {"gauss": [0.9, 0.9]}, noise=0)
    entry = judge("D", together(two, gauss, good_cards()), "laptop", claims)
    assert entry["estimate"] == pytest.approx(0.5 * (0.505 + 5.0) - 0.905)
    assert next(c for c in entry["controls"] if c["name"] == "gauss")["estimate"] == pytest.approx(0.505 - 0.9)


def test_uneven_repetitions_are_refused(claims: dict[str, Claim]) -> None:
    rows = together(difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9]), good_cards())
    extra = rows[(rows["claim"] == "D") & (rows["unit"] == "target_003")].assign(unit_2="noise_1")
    with pytest.raises(BadInput, match="do not share equally many repetitions"):
        judge("D", together(rows, extra), "laptop", claims)


def test_a_relative_smallest_effect_is_a_share_of_the_first_arm(claims: dict[str, Claim]) -> None:
    relative = {**claims, "D": dataclasses.replace(claims["D"], smallest_effect=0.1, relative=True)}
    for robust, verdict in (([0.75, 0.75], "supported"), ([0.85, 0.85], "negligible")):
        rows = plant("D", "distance", {"standard": [0.9, 0.9], "robust": robust, "gauss": [0.9, 0.9]}, noise=0.001)
        assert judge("D", together(rows, good_cards()), "laptop", relative)["verdict"] == verdict


def test_a_statement_of_sameness_is_decided_inside_its_margin(claims: dict[str, Claim]) -> None:
    same = {**claims, "D": dataclasses.replace(claims["D"], direction="inside", controls=())}
    for robust, verdict in (([0.9, 0.92], "supported"), ([0.5, 0.51], "contradicted"), ([0.9, 0.98], "inconclusive (b)")):
        rows = plant("D", "distance", {"standard": [0.9, 0.9], "robust": robust}, noise=0.001)
        assert judge("D", together(rows, good_cards()), "laptop", same)["verdict"] == verdict


def test_the_order_of_rows_changes_nothing(claims: dict[str, Claim]) -> None:
    rows = together(difference([0.9, 0.91], [0.5, 0.51], [0.9, 0.9]), good_cards())
    shuffled = rows.sample(frac=1.0, random_state=3)
    assert judge("D", rows, "laptop", claims) == judge("D", shuffled, "laptop", claims)


def test_an_inconclusive_verdict_names_what_could_have_been_shown_and_what_would_settle_it(claims: dict[str, Claim]) -> None:
    rows = together(difference([0.9, 0.75], [0.7, 0.69], [0.9, 0.9]), good_cards())
    entry = judge("D", rows, "laptop", claims, minutes_per_network=30)
    assert entry["verdict"] == "inconclusive (c)"
    assert "robust minus standard is -0.129" in entry["reason"]
    assert "could have been shown" in entry["reason"]
    assert "seeds in each arm (" in entry["reason"]
    assert "hours of training" in entry["reason"]
    assert "hours" not in judge("D", rows, "laptop", claims)["reason"]
    assert entry["detectable"] == pytest.approx(0.3, abs=0.02)


def test_judging_a_finding_judges_each_of_its_claims(claims: dict[str, Claim]) -> None:
    rows = together(every_part([0.5, 0.51], [0.9, 0.91], [0.9, 0.92], [0.1, 0.13]), good_cards(), FIRM)
    entries = judge_finding("planted", rows, "laptop", claims)
    assert entries == [judge(claim, rows, "laptop", claims) for claim in ("D", "S", "L", "T", "A")]
    table = verdict_table({"claims": entries}, claims)
    assert list(table["id"]) == ["D", "S", "L", "T", "A"]
    assert table.loc[0, "estimate [low, high]"].startswith("-0.39")
    assert table.loc[0, "placebo"].endswith("silent")
    assert "gauss: passed" in table.loc[0, "controls"]
    assert table.loc[2, "estimate [low, high]"] == "not measured"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("INV-22", "laptop"), "did you mean 'INV-2'"), (("INV-2", "laptob"), "did you mean 'laptop'")],
)
def test_unknown_claims_and_scales_are_refused_with_the_nearest_name(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        judge(arguments[0], good_cards(), arguments[1])


def test_an_unknown_finding_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="did you mean 'invertibility'"):
        judge_finding("invertability", good_cards(), "laptop")


def test_the_ledgers_own_claims_judge_planted_inversions_as_supported() -> None:
    levels = {"standard": [0.9, 0.91], "robust": [0.5, 0.51], "robust_small": [0.7, 0.71]}
    levels |= {arm: [0.9, 0.91] for arm in ("gauss", "blur", "std_matched", "untrained")}
    recognised = {arm: [0.1, 0.13] for arm in levels} | {"robust": [0.9, 0.92]}
    starts = ("noise_0", "noise_1")
    rows = together(
        plant("INV-1", "distance_ratio", levels, starts=("image",)),
        plant("INV-2", "distance_ratio", levels, starts=starts),
        plant("INV-3", "recognised", recognised, starts=starts, share=True),
        FIRM,
        good_cards(),
    )
    entries = {entry["id"]: entry for entry in judge_finding("invertibility", rows, "laptop")}
    assert {name for name, entry in entries.items() if entry["verdict"] == "supported"} == {"INV-1", "INV-2", "INV-3", "INV-9", "INV-10"}
    assert entries["INV-1"]["arms"] == ["robust", "standard"]
    assert entries["INV-1"]["parts"][0]["state"] == "inside the margin"
    assert entries["INV-4"]["verdict"] == "not run (no rows: not measured yet)"
    assert control(entries["INV-2"], "INV-10") == "passed"
    without = rows[rows["arm"] != "blur"]
    entry = judge("INV-2", without, "laptop")
    assert entry["verdict"] == "inconclusive (control INV-10)"
    assert judge("INV-2", without, "gpu")["verdict"] == "supported"
