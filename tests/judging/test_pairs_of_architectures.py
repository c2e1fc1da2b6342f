"""Claims whose arms are paired by architecture: every answer, who is left out and named, and how often the interval covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planting import entry, in_file, judge, near, network, plant, together
from scipy import stats

from reprolib.errors import BadInput
from reprolib.judging.claims import beside_standard, networks_an_arm
from reprolib.judging.controls import manipulation_check
from reprolib.judging.evidence import Evidence
from reprolib.measures.effects import Effect, averaged, paired_effect
from reprolib.measures.quantities import of_mean

BASES = {"lenet": 0.2, "mlp": 0.4, "pool": 0.6, "resnet8": 0.8, "tinycnn": 1.0}  # what an architecture gives to all its networks
WIGGLE = dict(zip(BASES, (-0.01, 0.0, 0.01, 0.005, -0.005), strict=True))
Levels = Mapping[str, Mapping[str, Sequence[float]]]  # architecture -> arm -> a level a seed


def levels(change: float | Mapping[str, float], **others: float) -> Levels:
    """Standard and robust networks of five architectures, one seed each; others: arm -> its change."""
    changes = dict.fromkeys(BASES, change) if isinstance(change, float) else change
    found = {}
    for name, base in BASES.items():
        arms = {"standard": 0.0, "robust": changes[name] + WIGGLE[name]} | others
        found[name] = {arm: [base + moved] for arm, moved in arms.items()}
    return found


def planted(quantity: str, of: Levels, claim: str = "P", n: int = 10, noise: float = 0.02) -> pd.DataFrame:
    frames = []
    for architecture, arms in of.items():
        rows = plant(claim, quantity, arms, n=n, noise=noise)
        frames.append(rows.assign(architecture=architecture, network=rows["network"] + architecture))
    return together(*frames)


def carded(of: Levels, robust: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Cards of these networks: 5 % under attack, robust ones 40 % unless told otherwise."""
    told = {
        name: {arm: [(robust or {}).get(name, 0.4) if arm == "robust" else 0.05] * len(seeds) for arm, seeds in arms.items()}
        for name, arms in of.items()
    }
    return planted("adversarial_accuracy", told, "networks", n=1, noise=0)


def judged(folder: Path, of: Levels, robust: Mapping[str, float] | None = None, noise: float = 0.02, **changed: str) -> dict[str, Any]:
    """The answers to a paired claim on such networks."""
    claims = in_file(folder, entry("P", "level", **{"statistic": '"paired"', **changed}))
    return judge("P", together(planted("level", of, noise=noise), carded(of, robust)), "laptop", claims)


SPREAD = {"lenet": 0.4, "mlp": 0.0, "pool": 0.3, "resnet8": 0.1, "tinycnn": 0.2}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [(0.2, "supported"), (-0.2, "contradicted"), (0.0, "negligible"), (SPREAD, "inconclusive")],
)
def test_each_verdict_is_read_from_the_pairs_of_architectures(tmp_path: Path, change: float | Mapping[str, float], verdict: str) -> None:
    entry = judged(tmp_path, levels(change))
    assert entry["verdict"] == verdict
    assert entry["networks"]["standard"].keys() == entry["networks"]["robust"].keys() == BASES.keys()
    assert networks_an_arm(entry) == "5 architectures"
    assert ("architectures would tell it apart" in entry["reason"]) == (verdict == "inconclusive")


def test_what_architectures_give_to_both_arms_falls_out_of_the_interval(tmp_path: Path) -> None:
    pairs = judged(tmp_path, levels(0.2))
    arms = judged(tmp_path, levels(0.2), statistic='"difference"')
    assert pairs["estimate"] == pytest.approx(arms["estimate"])
    assert pairs["high"] - pairs["low"] < 0.05 < arms["high"] - arms["low"]


def test_an_architecture_that_fails_the_manipulation_check_is_left_out_and_named(tmp_path: Path) -> None:
    change = dict.fromkeys(BASES, 0.2) | {"lenet": -5.0}
    entry = judged(tmp_path, levels(change), {"lenet": 0.24})
    assert entry["verdict"] == "supported"
    assert "lenet" not in entry["networks"]["robust"]
    assert entry["reason"].endswith("left out: lenet (19 points)")
    assert entry["controls"][0]["state"] == "passed"
    assert judged(tmp_path, levels(change), {"lenet": 0.25})["verdict"] != "supported"


def test_the_check_names_what_it_leaves_out_and_says_not_measured_of_networks_without_a_card(tmp_path: Path) -> None:
    claim = in_file(tmp_path, entry("P", "level", statistic='"paired"'))["P"]
    of = levels(0.2)
    rows, cards = planted("level", of), carded(of, {"lenet": 0.1})
    partly = together(rows, cards[~cards["network"].str.endswith("pool")])
    found = manipulation_check(claim, Evidence(partly, "laptop", {"P": claim}))
    assert found is not None
    assert (found.state, found.why) == ("passed", "left out: lenet (5 points), pool (adversarial accuracy not measured)")
    entry_ = judge("P", rows, "laptop", {"P": claim})
    assert (entry_["verdict"], entry_["controls"][0]["state"][:12]) == ("inconclusive (check manipulation check)", "not measured")


def test_a_part_without_a_robust_arm_and_a_control_leave_out_the_same_architectures(tmp_path: Path) -> None:
    parts = '[{ name = "gauss", arms = ["standard", "gauss"] }, { name = "alone", statistic = "paired_level", arms = ["standard"] }]'
    of = levels(0.2, gauss=0.01)
    entry = judged(tmp_path, of, {"lenet": 0.1, "mlp": 0.1}, parts=parts, controls='["gauss"]')
    gauss, alone = entry["parts"]
    assert gauss["estimate"] == pytest.approx(0.01, abs=0.01)
    assert alone["estimate"] == pytest.approx(np.mean([BASES[name] for name in ("pool", "resnet8", "tinycnn")]), abs=0.02)
    other = judged(tmp_path, of, {"lenet": 0.1, "mlp": 0.1}, parts=parts, arms='["standard", "gauss"]')  # no robust arm: all five speak
    assert other["parts"][1]["estimate"] == pytest.approx(np.mean([*BASES.values()]), abs=0.02)


def test_clean_accuracies_are_compared_over_the_architectures_that_speak(tmp_path: Path) -> None:
    of = levels(0.2, std_matched=0.0)
    clean = {name: {arm: [0.5 if (name, arm) == ("lenet", "robust") else 0.8] for arm in arms} for name, arms in of.items()}
    rows = together(planted("level", of), planted("clean_accuracy", clean, "networks", n=1, noise=0))
    claims = in_file(tmp_path, entry("P", "level", statistic='"paired"', controls='["std_matched"]'))
    states = [judge("P", together(rows, carded(of, robust)), "laptop", claims)["controls"][1]["state"] for robust in ({}, {"lenet": 0.1})]
    assert states == ["ruled out", "not applicable (clean accuracies differ by 0.0 points, under 2)"]


def test_networks_that_differ_in_no_architecture_are_not_compared(tmp_path: Path) -> None:
    entry = judged(tmp_path, levels(0.2), dict.fromkeys(BASES, 0.2))
    assert entry["verdict"] == "not run (the networks do not differ)"
    assert entry["reason"].startswith("robust adversarial accuracy is in no architecture by 20 points above standard: lenet 15 points")


def test_an_architecture_that_an_arm_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    of = {name: dict(arms) for name, arms in levels(0.2, gauss=0.0).items()}
    del of["mlp"]["robust"], of["pool"]["gauss"]
    entry = judged(tmp_path, of, controls='["gauss"]')
    assert (entry["verdict"], entry["specificity"]) == ("supported", "specific")
    assert entry["networks"]["standard"].keys() == BASES.keys() - {"mlp"}
    assert entry["reason"].endswith("left out: mlp (robust not measured); gauss: left out: pool (gauss not measured)")
    apart = {"lenet": {"standard": [0.1]}, "pool": {"robust": [0.3]}}
    assert judged(tmp_path, apart)["verdict"] == "not run (no architecture is measured in every arm)"


def test_two_pairs_decide_nothing(tmp_path: Path) -> None:
    two = {name: arms for name, arms in levels(0.2, gauss=0.2).items() if name in ("lenet", "pool")}
    entry = judged(tmp_path, two)
    assert (entry["verdict"], entry["reason"]) == ("inconclusive (two architectures)", "there are two architectures, an interval needs 3")
    of = {name: dict(arms) for name, arms in levels(0.2, gauss=0.2).items()}
    for name in ("lenet", "mlp", "pool"):
        del of[name]["gauss"]
    control = judged(tmp_path, of, controls='["gauss"]')["controls"][1]
    assert control["state"] == "open (two architectures)"


def test_seeds_of_an_architecture_are_one_pair(tmp_path: Path) -> None:
    once = judged(tmp_path, levels(0.2), noise=0)
    more = {name: {arm: [one[0] - 0.1, one[0] + 0.1] for arm, one in arms.items()} for name, arms in levels(0.2).items()}
    twice = judged(tmp_path, more, noise=0)
    uneven = judged(tmp_path, {**more, "pool": levels(0.2)["pool"]}, noise=0)
    for found in (twice, uneven):
        for arm, of in once["networks"].items():
            assert found["networks"][arm] == pytest.approx(of)
        assert [found[key] for key in ("estimate", "low", "high")] == pytest.approx([once[key] for key in ("estimate", "low", "high")])
    assert once["high"] - once["low"] == pytest.approx(
        2 * stats.t.ppf(0.975, 4) * np.std([*WIGGLE.values()], ddof=1) / np.sqrt(5), rel=1e-4
    )


def test_of_one_architecture_a_pair_is_a_seed_and_the_mean_decides_whether_networks_differ(tmp_path: Path) -> None:
    one = {"tinycnn": {"standard": [0.1, 0.5, 0.9], "robust": [0.31, 0.7, 1.09]}}
    entry = judged(tmp_path, one)
    assert (entry["verdict"], networks_an_arm(entry)) == ("supported", "3 + 3 networks")
    assert [*entry["networks"]["robust"]] == sorted(network("robust", seed) + "tinycnn" for seed in range(3))
    assert judged(tmp_path, one, {"tinycnn": 0.2})["verdict"] == "not run (the networks do not differ)"
    short = {"tinycnn": {"standard": [0.1, 0.5, 0.9, 0.2], "robust": [0.31, 0.7, 1.09]}}
    assert judged(tmp_path, short)["reason"].endswith("left out: seed 3 (robust not measured)")


@pytest.mark.parametrize(
    ("moved", "answer", "state"),
    [(0.2, "not specific (noise-trained 1", "does the same"), (0.0, "specific", "ruled out"), (0.1, "open (noise-trained 5", "open")],
)
def test_a_control_is_held_against_the_middle_pair_by_pair(tmp_path: Path, moved: float, answer: str, state: str) -> None:
    of = {name: {arm: list(seeds) for arm, seeds in arms.items()} for name, arms in levels(0.2, gauss=moved).items()}
    if moved == 0.1:
        of["lenet"]["gauss"][0] += 0.1
        of["pool"]["gauss"][0] -= 0.1
    entry = judged(tmp_path, of, controls='["gauss"]')
    assert entry["verdict"] == "supported"
    assert entry["specificity"].startswith(answer)
    assert entry["controls"][1]["state"] == state


def test_a_relative_smallest_effect_is_a_share_of_the_first_arms_kept_pairs(tmp_path: Path) -> None:
    of = levels(0.2)
    rest = np.mean([BASES[name] for name in BASES if name != "tinycnn"])
    for share, verdict in ((0.9 * 0.19 / rest, "supported"), (1.1 * 0.21 / rest, "negligible")):
        entry = judged(tmp_path, of, {"tinycnn": 0.1}, relative="true", smallest_effect=f"{share:.4f}")
        assert entry["verdict"] == verdict


def test_an_arm_beside_the_standard_one_is_held_against_it_pair_by_pair(tmp_path: Path) -> None:
    claims = in_file(tmp_path, entry("P", "level", statistic='"paired"'))
    of = levels(0.2, other=0.1)
    line = beside_standard("P", "other", Evidence(together(planted("level", of), carded(of)), "laptop", claims))
    assert line.startswith("other minus standard, in no verdict: level +0.1 [0.0")


def test_targets_not_reached_have_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="paired of level needs unreached = 'value': 'zero' knows no pairs"):
        in_file(tmp_path, entry("P", "level", statistic='"paired"', unreached='"zero"'))


def test_three_seeds_give_a_level_an_interval(tmp_path: Path) -> None:
    text = entry("P", "level", statistic='"paired_level"', arms='["standard"]', level_reference="0.3")
    found = judge("P", planted("level", {"tinycnn": {"standard": near(0.5)}}), "laptop", in_file(tmp_path, text))
    assert (found["verdict"], found["estimate"]) == ("supported", pytest.approx(0.2, abs=0.01))


def test_the_interval_over_five_architectures_covers_the_change_where_architectures_differ_strongly() -> None:
    generator, covered, draws = np.random.default_rng(0), 0, 300
    for _ in range(draws):
        base, change = generator.normal(0, 1.0, 5), generator.normal(0.2, 0.1, 5)
        of_unit, answer = generator.normal(0, 0.3, 10), generator.normal(0, 0.05, 10)
        own = generator.normal(0, 0.02, (2, 5, 2, 10))  # arm, architecture, seed, unit
        arms = {
            arm: [
                averaged(name, [of_mean(name, base[a] + of_unit + k * (change[a] + answer) + own[k, a, seed]) for seed in range(2)])
                for a, name in enumerate(BASES)
            ]
            for k, arm in enumerate(("standard", "robust"))
        }
        found = paired_effect(arms)
        assert isinstance(found, Effect)
        covered += found.low <= 0.2 <= found.high
    assert 0.92 <= covered / draws <= 0.99
