"""Each answer to the claims on entanglement, from rows planted for it: differences of AUROCs, pairs within an arm, and the three checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from planting import good_cards, judge, near, plant, together
from scipy.stats import norm

from reprolib.errors import BadInput
from reprolib.judging.ledger import load_claims
from reprolib.measures.effects import LEVEL, effect
from reprolib.measures.quantities import of_auroc

Levels = Mapping[str, Sequence[float]]
WIDE = [0.1, 0.5, 0.9]
OWN = {"pooling": {"ENT-1", "ENT-4", "ENT-12"}, "temperature": {"ENT-10"}, "masking": {"ENT-6", "ENT-11"}, "modes_hit": {"ENT-8"}}
KINDS = ("white_box", "noise", "transfer", "more_steps")


def batches(claim: str, quantity: str, levels: Levels, **kept: object) -> pd.DataFrame:
    """Rows of 20 batches."""
    return plant(claim, quantity, levels, **{"n": 20, "starts": ("",), "noise": 0.002} | kept)  # type: ignore[arg-type]


def scores(quantity: str, levels: Levels, shift: float, reached: bool = True) -> pd.DataFrame:
    """Scores of 80 images, spread by 1 round the levels, the same quantiles in all networks; shift: added to all."""
    rows = plant("ENT-5", quantity, levels, n=80, starts=("",), noise=0, reached=reached)
    spread = norm.ppf((rows["unit"].str[-3:].astype(int) * 37 % 80 + 0.5) / 80)
    return rows.assign(value=rows["value"] + spread + shift)


def masked(levels: Levels, **accuracies: float) -> pd.DataFrame:
    """Accuracy under each kind of attack, .1 where nothing else is said."""
    return together(
        *(
            plant("ENT-11", f"masking_{kind}", {arm: [accuracies.get(kind, 0.1)] * len(of) for arm, of in levels.items()}, n=1, noise=0)
            for kind in KINDS
        )
    )


def transferred(rates: Levels, n: int = 60) -> pd.DataFrame:
    """Every network's perturbations, shown to those of other seeds of its arm: they fool with that share; all succeeded on their own."""
    frames = []
    for arm, of in rates.items():
        for other in range(len(of)):
            rows = plant("ENT-6", "transferred", {arm: of}, n=n, starts=(f"{arm}:{other}",), share=True)
            frames.append(rows[rows["seed"] != other])
    return together(*frames)


def test_every_check_is_asked_where_the_page_says() -> None:
    claims = load_claims("entanglement")
    for check, own in OWN.items():
        assert {name for name, claim in claims.items() if check in claim.checks} == own
    assert len(claims) == 12


@pytest.mark.parametrize(
    ("claim", "quantity"), [("ENT-9", "entanglement"), ("ENT-10", "headroom_lost"), ("ENT-7", "gradient_entanglement")]
)
@pytest.mark.parametrize(("less", "verdict"), [(0.3, "supported"), (0.7, "contradicted"), (0.5, "negligible"), (None, "inconclusive")])
def test_each_verdict_on_a_mean_over_batches(claim: str, quantity: str, less: float | None, verdict: str) -> None:
    low, high = ("standard", "robust") if claim == "ENT-9" else ("robust", "standard")
    levels = {low: [0.5] * 3 if less == 0.5 else WIDE if less is None else near(less), high: [0.5] * 3}
    rows = together(batches(claim, quantity, levels), batches(claim, f"{quantity}@wide", levels), good_cards())
    assert judge(claim, rows, "laptop")["verdict"].startswith(verdict)


@pytest.mark.parametrize(("wide", "verdict"), [(0.05, "supported"), (-0.05, "inconclusive (check temperature)")])
def test_a_pull_at_the_lowest_temperature_must_be_there_at_a_higher_one(wide: float, verdict: str) -> None:
    low = batches("ENT-10", "headroom_lost", {"robust": near(1.0), "standard": near(3.0)})
    high = batches("ENT-10", "headroom_lost@wide", {"robust": near(0.4), "standard": near(0.4 + wide)})
    assert judge("ENT-10", together(low, high, good_cards()), "laptop")["verdict"] == verdict


def test_the_second_answer_names_who_else_does_it() -> None:
    levels = {arm: near(0.5) for arm in ("standard", "blur", "std_matched")} | {arm: near(0.8) for arm in ("robust", "gauss")}
    rows = together(batches("ENT-9", "entanglement", {**levels, "untrained": WIDE}), good_cards())
    assert judge("ENT-9", rows, "laptop")["specificity"] == "not specific (noise-trained 100 %)"


@pytest.mark.parametrize(
    ("fall", "pooled", "verdict"),
    [
        (0.4, 0.4, "supported"),
        (0.4, None, "inconclusive (check pooling)"),
        (0.4, -0.1, "inconclusive (check pooling)"),
        (0.0, 0.0, "negligible"),
        (-0.3, -0.3, "contradicted"),
    ],
)
def test_late_layers_fall_more_also_where_maps_are_averaged(fall: float, pooled: float | None, verdict: str) -> None:
    frames = []
    for suffix, by in (("", fall), ("@pooled", pooled)):
        if by is not None:
            last = {"untrained": near(0.9), "standard": near(0.9 - by - 0.02)}
            first = {"untrained": near(0.95), "standard": near(0.93)}
            frames.append(batches("ENT-1", f"entanglement_last{suffix}", last))
            frames.append(batches("ENT-1", f"entanglement_first_third{suffix}", first))
    assert judge("ENT-1", together(*frames), "laptop")["verdict"] == verdict


@pytest.mark.parametrize(("cost", "verdict"), [(0.0, "supported"), (0.05, "contradicted"), (0.01, "inconclusive")])
@pytest.mark.parametrize(("claim", "other"), [("ENT-2", "standard"), ("ENT-3", "disentangled")])
def test_accuracy_may_not_fall_by_a_point(claim: str, other: str, cost: float, verdict: str) -> None:
    levels = {other: [0.8] * 3, "entangled": [0.8 - cost] * 3}
    rows = plant("ENT-2", "correct", levels, n=1000, starts=("",), share=True)
    assert judge(claim, rows, "cifar")["verdict"] == verdict


@pytest.mark.parametrize(
    ("entangled", "verdict"),
    [(near(3.0), "supported"), (near(0.0), "contradicted"), ([1.0] * 3, "negligible"), ([-1.0, 1.0, 3.0], "inconclusive")],
)
def test_each_verdict_on_a_difference_of_aurocs(entangled: list[float], verdict: str) -> None:
    levels = {"standard": [1.0] * 3, "entangled": entangled}
    zero = {arm: [0.0] * 3 for arm in levels}
    rows = together(*(scores(f"{of}@id", levels, 0.0) for of in ("support", "support_pooled")))
    rows = together(rows, *(scores(f"{of}@outlier", zero, 0.0) for of in ("support", "support_pooled")))
    found = judge("ENT-4", rows, "laptop")
    assert found["verdict"].startswith(verdict)
    assert found["networks"]["standard"] == pytest.approx(dict.fromkeys(found["networks"]["standard"], norm.cdf(1 / 2**0.5)), abs=0.005)


@pytest.mark.parametrize(("better", "verdict"), [(2.0, "supported"), (-0.9, "contradicted"), (0.0, "negligible")])
def test_each_verdict_on_a_difference_of_aurocs_in_one_arm(better: float, verdict: str) -> None:
    zero = {"entangled": [0.0] * 3}
    outside = [scores(f"{of}@outlier", zero, 0.0) for of in ("credibility", "softmax")]
    rows = together(
        scores("credibility@id", zero, 1.0 + better),
        scores("softmax@id", zero, 1.0),
        *outside,
    )
    assert judge("ENT-5", rows, "laptop")["verdict"] == verdict


def test_only_images_that_a_network_has_right_are_told_from_outliers() -> None:
    zero = {"entangled": [0.0] * 3}
    rows = together(
        *(scores(f"{of}@{group}", zero, float(group == "id")) for of in ("credibility", "softmax") for group in ("id", "outlier"))
    )
    whole = judge("ENT-5", rows, "laptop")
    wrong = (rows["quantity"] == "credibility@id") & (rows["unit"] < "target_020")
    spoiled = rows.assign(value=rows["value"].where(~wrong, -9.0))  # the images it has wrong are the least credible
    assert judge("ENT-5", spoiled, "laptop")["estimate"] < whole["estimate"] - 0.1
    without = spoiled.assign(reached=~(spoiled["quantity"].str.endswith("@id") & (spoiled["unit"] < "target_020")))
    assert judge("ENT-5", without, "laptop")["estimate"] == pytest.approx(0, abs=0.05)
    few = spoiled.assign(reached=~(spoiled["quantity"].str.endswith("@id") & (spoiled["unit"] < "target_060")))
    assert "has 20 rows that count, 30 are needed" in judge("ENT-5", few, "laptop")["reason"]


@pytest.mark.parametrize(
    ("entangled", "verdict"), [(near(0.2), "supported"), (near(0.9), "contradicted"), ([0.5] * 3, "negligible"), (WIDE, "inconclusive")]
)
def test_each_verdict_on_transfer_within_two_arms(entangled: list[float], verdict: str) -> None:
    levels = {"standard": [0.5] * 3, "entangled": entangled}
    found = judge("ENT-6", together(transferred(levels, n=400), masked(levels)), "laptop")
    assert found["verdict"].startswith(verdict)
    assert {kind: len(pairs) for kind, pairs in found["networks"].items()} == {"within standard": 3, "within entangled": 3}


def test_perturbations_that_did_not_succeed_on_their_own_network_do_not_count() -> None:
    levels = {"standard": [0.5] * 3, "entangled": near(0.2)}
    rows = transferred(levels)
    failed = (rows["arm"] == "standard") & (rows["value"] == 0)
    found = judge("ENT-6", together(rows.assign(reached=~failed), masked(levels)), "laptop")
    assert [*found["networks"]["within standard"].values()] == [1.0] * 3


def test_two_networks_an_arm_are_too_few_for_pairs_and_the_same_seed_is_no_pair() -> None:
    levels = {"standard": [0.5] * 2, "entangled": [0.2] * 2}
    assert judge("ENT-6", together(transferred(levels), masked(levels)), "laptop")["verdict"] == "inconclusive (two networks)"
    rows = transferred({"standard": [0.5] * 3, "entangled": [0.2] * 3})
    rows.loc[(rows["arm"] == "standard") & (rows["seed"] == 0) & (rows["unit_2"] == "standard:1"), "unit_2"] = "standard:0"
    with pytest.raises(BadInput, match="shares its initialisation"):
        judge("ENT-6", rows, "laptop")


def test_two_directions_of_a_pair_need_the_same_images() -> None:
    rows = transferred({"standard": [0.5] * 3, "entangled": [0.2] * 3})
    one = (rows["arm"] == "standard") & (rows["seed"] == 0) & (rows["unit"] == "target_003")
    with pytest.raises(BadInput, match="both directions need the same images"):
        judge("ENT-6", rows[~one], "laptop")


@pytest.mark.parametrize(
    ("entangled", "verdict"), [([0.1] * 3, "supported"), ([0.4] * 3, "contradicted"), ([0.14, 0.1, 0.2], "inconclusive")]
)
def test_entangled_networks_are_as_far_from_robust_as_standard_ones(entangled: list[float], verdict: str) -> None:
    levels = {"standard": [0.1] * 3, "entangled": entangled}
    rows = plant("ENT-11", "adversarial_correct", levels, n=400, starts=("",), share=True)
    assert judge("ENT-11", together(rows, masked(levels)), "laptop")["verdict"] == verdict


@pytest.mark.parametrize("kind", KINDS[1:])
def test_an_attack_that_noise_or_more_steps_or_others_beat_is_masked(kind: str) -> None:
    levels = {"standard": [0.1] * 3, "entangled": [0.1] * 3}
    rows = plant("ENT-11", "adversarial_correct", levels, n=400, starts=("",), share=True)
    found = judge("ENT-11", together(rows, masked(levels, **{kind: 0.02})), "laptop")
    assert found["verdict"] == "inconclusive (check masking)"
    assert f"{kind.replace('_', ' ')} beats the attack on" in found["reason"]
    assert judge("ENT-11", rows, "laptop")["verdict"] == "inconclusive (check masking)"


@pytest.mark.parametrize(
    ("collapsing", "modes", "verdict"),
    [
        (0.5, 2.0, "supported"),
        (0.5, 7.5, "inconclusive (check modes_hit)"),  # it was to collapse, and did not
        (0.5, None, "inconclusive (check modes_hit)"),
        (0.95, 2.0, "contradicted"),
        (0.8, 2.0, "negligible"),
    ],
)
def test_a_generator_that_collapses_must_have_collapsed(collapsing: float, modes: float | None, verdict: str) -> None:
    levels = {"healthy": [0.8] * 5, "collapsing": [collapsing] * 5}
    rows = batches("ENT-8", "real_fake", levels)
    if modes is not None:
        rows = together(rows, plant("ENT-8", "modes_hit", {"healthy": [8.0] * 5, "collapsing": [modes] * 5}, n=1, noise=0))
    assert judge("ENT-8", rows, "laptop")["verdict"] == verdict


@pytest.mark.parametrize(("entangled", "verdict"), [(near(1.5), "supported"), (near(0.6), "contradicted"), ([1.02] * 3, "negligible")])
def test_spread_counts_from_a_tenth_of_the_standard_networks(entangled: list[float], verdict: str) -> None:
    levels = {"standard": [1.0] * 3, "entangled": entangled}
    rows = together(*(batches("ENT-12", quantity, levels) for quantity in ("spread", "spread@pooled")))
    assert judge("ENT-12", rows, "laptop")["verdict"] == verdict


@pytest.mark.parametrize("auroc", [0.5, 0.7, 0.9])
def test_the_interval_of_an_auroc_covers_it(auroc: float) -> None:
    generator, covered = np.random.default_rng(11), 0
    apart = 2**0.5 * norm.ppf(auroc)
    for _ in range(100):
        inside, outside = generator.normal(size=60), apart + generator.normal(size=40)  # what the images have in common
        networks = [of_auroc("a", inside + 0.1 * generator.normal(size=60), outside + 0.1 * generator.normal(size=40)) for _ in range(3)]
        found = effect({"entangled": networks}, LEVEL, 0.0)
        covered += found.low <= auroc <= found.high  # type: ignore[union-attr]
    assert 90 <= covered <= 99
