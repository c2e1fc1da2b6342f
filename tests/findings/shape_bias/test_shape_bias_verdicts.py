"""Each answer to the claims on shape bias, from rows planted for it; both answers, the control `margin`, and the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from planting import good_cards, judge, near, plant, together

from reprolib.measures.quantities import RESAMPLES, draws, of_ratio

Levels = Mapping[str, Sequence[float]]
S, R = near(0.3), near(0.7)
WIDE = [0.1, 0.5, 0.9]
BESIDE = {"gauss": near(0.3), "blur": near(0.3), "std_matched": near(0.3)}


def answers(levels: Levels, at: str = "", claim: str = "SHP-1", n: int = 200) -> pd.DataFrame:
    """Every stimulus answered by a cue, that share of them by shape."""
    return plant(claim, f"answers{at}", levels, n=n, share=True, starts=("",))


def measured(levels: Levels, even: Levels | None = None, twice: Levels | None = None) -> pd.DataFrame:
    """Conflict stimuli, the two margin sets, and a graded preference that agrees."""
    arms = {"standard": S, "robust": R}
    graded = plant("SHP-1", "graded", {"standard": near(0.0), "robust": near(0.5)}, n=200, starts=("",))
    return together(answers(levels), answers(even or arms, "@1:1"), answers(twice or arms, "@1:2"), graded, good_cards())


@pytest.mark.parametrize(
    ("robust", "verdict"), [(R, "supported"), (near(0.1), "contradicted"), ([0.3] * 3, "negligible"), (WIDE, "inconclusive")]
)
def test_each_verdict_on_a_shift_of_shape_bias(robust: list[float], verdict: str) -> None:
    rows = measured({"standard": [0.3] * 3, "robust": robust})
    assert judge("SHP-1", rows, "laptop")["verdict"].startswith(verdict)
    assert judge("SHP-9", rows, "cifar")["verdict"].startswith(verdict)


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, "specific"),
        ({"gauss": near(0.7)}, "not specific (noise-trained 100 %)"),
        ({"blur": WIDE}, "open (blur-trained 50 %)"),
    ],
)
def test_each_second_answer_to_a_shift(changed: Levels, answer: str) -> None:
    assert judge("SHP-1", measured({"standard": S, "robust": R, **BESIDE, **changed}), "laptop")["specificity"] == answer


def test_a_claim_is_not_run_where_it_is_not_required_and_its_rows_are_anothers() -> None:
    rows = measured({"standard": S, "robust": R, **BESIDE})
    found = judge("SHP-1", rows, "cifar")
    assert (found["verdict"], found["estimate"]) == ("not run (not required at cifar)", None)
    assert judge("SHP-9", rows, "laptop")["verdict"] == "not run (not required at laptop)"


def test_a_shift_that_is_gone_at_margins_1_to_2_is_not_specific() -> None:
    rows = measured({"standard": S, "robust": R, **BESIDE}, twice={"standard": [0.3] * 3, "robust": [0.3] * 3})
    assert judge("SHP-1", rows, "laptop")["specificity"] == "not specific (margin)"


def test_without_a_shape_answer_at_1_to_2_the_floor_is_said_and_the_margin_stays_open() -> None:
    rows = measured({"standard": S, "robust": R, **BESIDE}, twice={"standard": [0.0] * 3, "robust": [0.0] * 3})
    found = judge("SHP-1", rows, "laptop")
    assert found["specificity"] == "open (margin)"
    (margin,) = (one for one in found["controls"] if one["name"] == "margin")
    assert margin["state"] == "open (at 1:2 all networks are at the floor, 0)"


def test_the_margin_is_asked_of_the_claims_own_quantity_and_not_of_photographs() -> None:
    levels = {"standard": near(0.8), "robust": near(0.4), **{arm: near(0.8) for arm in BESIDE}}
    shown = [plant("SHP-3", f"right@scrambled_2{at}", levels, n=100, share=True, starts=("",)) for at in ("", "@1:1", "@1:2")]
    assert judge("SHP-3", together(*shown, good_cards()), "laptop")["specificity"] == "specific"
    assert judge("SHP-3", together(*shown[:2], good_cards()), "laptop")["specificity"] == "open (margin)"
    assert judge("SHP-3", together(shown[0], good_cards()), "cifar")["specificity"] == "specific"


def test_every_architecture_has_to_show_the_shift() -> None:
    whole = measured({"standard": S, "robust": R, **BESIDE})
    tiny, lenet = answers({"standard": S, "robust": R}, "@tinycnn"), answers({"standard": [0.3] * 3, "robust": [0.3] * 3}, "@lenet")
    found = judge("SHP-2", together(whole, tiny, lenet), "laptop")
    assert (found["verdict"], found["quantity"]) == ("negligible", "shape_bias@lenet")


def test_a_trend_over_the_radius_may_level_off_and_not_turn_back() -> None:
    for small, verdict in ((near(0.5), "supported"), (near(0.7), "supported"), (near(0.95), "contradicted")):
        rows = measured({"standard": S, "robust_small": small, "robust": R})
        assert judge("SHP-5", rows, "laptop")["verdict"] == verdict


def test_answers_by_no_cue_are_left_out_of_the_bias_and_told_as_coverage() -> None:
    rows = measured({"standard": S, "robust": R, **BESIDE})
    silent = rows["quantity"].eq("answers") & rows["arm"].eq("robust") & rows["unit"].ge("target_150")  # texture answers, all of them
    found = judge("SHP-1", rows.assign(reached=~silent), "laptop")
    assert found["networks"]["robust"][max(found["networks"]["robust"])] > 0.9
    (coverage,) = (one for one in found["parts"] if one["name"] == "coverage")
    assert coverage["estimate"] == pytest.approx(-0.25)
    few = rows["quantity"].eq("answers") & rows["arm"].eq("robust") & rows["unit"].ge("target_029")
    assert "29 rows that count, 30 are needed" in judge("SHP-1", rows.assign(reached=~few), "laptop")["verdict"]


def test_a_bootstrap_of_the_ratio_agrees_with_one_written_out() -> None:
    generator = np.random.default_rng(0)
    reached = (generator.random(400) < 0.6).astype(float)
    shape = reached * (generator.random(400) < 0.35)
    found = of_ratio("net", shape, reached)
    counts = draws(400).astype(float)
    by_hand = (counts @ shape) / (counts @ reached)  # numerator and denominator resampled together
    assert len(by_hand) == RESAMPLES
    assert found.value == shape.sum() / reached.sum()
    assert found.draws.std() == pytest.approx(by_hand.std(), rel=0.03)


def test_identical_networks_give_an_interval_of_exactly_zero() -> None:
    found = judge("SHP-1", measured({"standard": [0.4] * 3, "robust": [0.4] * 3}), "laptop")
    assert (found["estimate"], found["low"], found["high"]) == (0.0, 0.0, 0.0)
