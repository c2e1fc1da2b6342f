"""Every verdict and every state of a control, planted for each kind of quantity, and how often the rule is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from reprolib.errors import BadInput
from reprolib.measures import indices
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.effects import DIFFERENCE, HALF_WAY, Absent, Effect, NetworkValue, effect
from reprolib.measures.quantities import of_auroc, of_index, of_mean, of_ratio
from reprolib.measures.verdicts import (
    Verdict,
    after_checks,
    control_state,
    margin_state,
    share_explained,
    specificity,
    state_of_claim,
    trend,
    verdict,
    worst,
)

Array = NDArray[np.float64]
Value = NetworkValue | Absent


def planted(low: float, high: float, k: int = 3, n: int = 40, **more: object) -> Effect:
    """An effect with that interval."""
    made = {"networks": {}, "freedom": 4.0, "v_net": 0.0, "v_item": 0.0, "comparison": 1.0, "arms": ((0.0, k), (0.0, k)), **more}
    return Effect((low + high) / 2, low, high, n, **made)


def word(low: float, high: float, direction: str = "greater", smallest: float = 0.05) -> str:
    return verdict(planted(low, high), smallest, direction).verdict


# --- does it hold?


@pytest.mark.parametrize(
    ("low", "high", "greater", "less"),
    [
        (0.051, 0.3, "supported", "contradicted"),
        (-0.3, -0.051, "contradicted", "supported"),
        (-0.05, 0.05, "negligible", "negligible"),
        (0.05, 0.3, "inconclusive", "inconclusive"),
        (-0.06, 0.01, "inconclusive", "inconclusive"),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, greater: str, less: str) -> None:
    assert (word(low, high), word(low, high, "less")) == (greater, less)


@pytest.mark.parametrize(
    ("low", "high", "inside", "not_below"),
    [
        (-0.05, 0.04, "supported", "inconclusive"),
        (-0.04, 0.04, "supported", "supported"),
        (0.051, 0.3, "contradicted", "supported"),
        (-0.3, -0.051, "contradicted", "contradicted"),
        (0.0, 0.06, "inconclusive", "supported"),
        (-0.06, 0.0, "inconclusive", "inconclusive"),
    ],
)
def test_sameness_is_decided_by_the_margin_never_by_not_different(low: float, high: float, inside: str, not_below: str) -> None:
    assert (word(low, high, "inside"), word(low, high, "not_below")) == (inside, not_below)


def test_an_interval_of_no_width_decides_too() -> None:
    assert [word(at, at) for at in (0.06, 0.05, -0.06)] == ["supported", "negligible", "contradicted"]


def test_reasons_are_one_sentence() -> None:
    reasons = {
        ("greater", 0.1, 0.3): "the interval [0.1, 0.3] lies beyond 0.05",
        ("greater", -0.3, -0.1): "the interval [-0.3, -0.1] lies beyond -0.05, against the claim",
        ("less", 0.1, 0.3): "the interval [0.1, 0.3] lies beyond 0.05, against the claim",
        ("less", -0.04, 0.04): "the interval [-0.04, 0.04] lies within +-0.05",
        ("inside", 0.1, 0.3): "the interval [0.1, 0.3] lies outside +-0.05, against the claim",
        ("not_below", -0.2, 0.2): "the interval [-0.2, 0.2] does not lie above -0.05; more units would be needed",
        ("greater", -0.2, 0.1): "the interval [-0.2, 0.1] does not lie beyond 0.05",
    }
    for (direction, low, high), reason in reasons.items():
        assert verdict(planted(low, high, v_item=1.0), 0.05, direction).reason == reason
    assert verdict(planted(-0.1, 0.3), 0.0, "greater").reason.startswith("the interval [-0.1, 0.3] does not lie beyond 0;")


def test_too_few_networks_or_units_decide_nothing() -> None:
    assert verdict(planted(np.nan, np.nan, k=1), 0.05, "greater").verdict == "inconclusive (one network)"
    assert verdict(planted(0.1, 0.3, k=2, needs=3), 0.05, "greater").verdict == "inconclusive (two networks)"
    assert verdict(planted(0.1, 0.3, n=7), 0.05, "greater").verdict == "inconclusive (fewer than 8 units)"
    assert verdict(Absent("not measured"), 0.05, "greater").verdict == "not run (not measured)"


def test_a_doubt_keeps_an_interval_from_deciding() -> None:
    found = verdict(planted(0.1, 0.3, doubt="the sign does not stay without net14"), 0.05, "greater")
    assert found.verdict == "inconclusive"
    assert found.reason == "the interval [0.1, 0.3] lies beyond 0.05, but the sign does not stay without net14"


def test_the_forecast_is_the_first_number_of_networks_whose_interval_would_clear_the_smallest_effect() -> None:
    values = {"standard": [0.0, 0.1, 0.2], "robust": [0.2, 0.3, 0.4]}
    found = effect({arm: [NetworkValue(str(v), v, None, 40) for v in of] for arm, of in values.items()}, DIFFERENCE)
    assert isinstance(found, Effect)
    reason = verdict(found, 0.05, "greater").reason
    # half the interval with k networks of s.d. .1 an arm: t(2k - 2) .1 sqrt(2/k); .147 at k = 5 and .128 at 6, .15 are needed
    assert reason.endswith("; 5 networks an arm would tell it apart")


def test_units_that_scatter_too_much_are_not_helped_by_networks() -> None:
    found = planted(-0.1, 0.5, v_item=0.04, arms=((0.01, 3), (0.01, 3)))
    assert verdict(found, 0.05, "greater").reason.endswith("; more units would be needed")
    assert "networks" not in verdict(planted(-0.5, 0.1, v_item=0.04), 0.05, "greater").reason  # the wrong side


def test_directions_and_smallest_effects_are_checked() -> None:
    with pytest.raises(BadInput, match="direction='grater' is not allowed; did you mean 'greater'"):
        word(0.1, 0.3, "grater")
    with pytest.raises(BadInput, match=r"smallest=-0.1 is negative: the direction carries the sign"):
        word(0.1, 0.3, smallest=-0.1)


# --- checks, many parts, trends


def test_a_check_that_did_not_pass_keeps_a_claim_from_being_supported() -> None:
    held, against = verdict(planted(0.1, 0.3), 0.05, "greater"), verdict(planted(-0.3, -0.1), 0.05, "greater")
    assert after_checks(held, {"converged": "passed", "masking": "not applicable"}) == held
    found = after_checks(held, {"converged": "failed", "masking": "not measured"})
    assert found.verdict == "inconclusive (check converged, masking)"
    assert found.reason == "the interval [0.1, 0.3] lies beyond 0.05, but check converged failed, check masking was not measured"
    assert after_checks(against, {"converged": "failed"}) == against
    with pytest.raises(BadInput, match="check converged has state 'undecided': allowed are passed, failed"):
        after_checks(held, {"converged": "undecided"})


def test_of_many_parts_the_worst_decides_and_of_equals_the_one_that_goes_least_far() -> None:
    parts = {
        "far": verdict(planted(0.2, 0.3), 0.05, "greater"),
        "near": verdict(planted(0.1, 0.3), 0.05, "greater"),
        "unclear": verdict(planted(0.0, 0.3), 0.05, "greater"),
        "small": verdict(planted(-0.01, 0.01), 0.05, "greater"),
        "turned": verdict(planted(-0.3, -0.1), 0.05, "greater"),
    }
    order = []
    while parts:
        order.append(worst(parts))
        del parts[order[-1]]
    assert order == ["turned", "small", "unclear", "near", "far"]
    with pytest.raises(BadInput, match="needs at least one part"):
        worst({})


def test_a_trend_may_level_off_but_not_turn_back() -> None:
    grows, level, back = planted(0.1, 0.3), planted(-0.04, 0.04), planted(-0.3, -0.1)
    assert trend(grows, grows, grows, 0.05, "greater").verdict == "supported"
    assert trend(grows, grows, level, 0.05, "greater").verdict == "supported"
    assert trend(grows, planted(-0.1, 0.3), level, 0.05, "greater").verdict == "inconclusive"
    turned = trend(grows, grows, back, 0.05, "greater")
    assert turned.verdict == "contradicted"
    assert turned.reason == "main minus small: the interval [-0.3, -0.1] lies below -0.05, against the claim"
    assert trend(level, grows, level, 0.05, "greater").verdict == "negligible"


def test_a_falling_trend_mirrors_a_rising_one() -> None:
    falls, level, back = planted(-0.3, -0.1), planted(-0.04, 0.04), planted(0.1, 0.3)
    assert trend(falls, falls, level, 0.05, "less").verdict == "supported"
    assert trend(falls, falls, back, 0.05, "less").verdict == "contradicted"
    assert trend(falls, falls, falls, 0.05, "less").verdict == "supported"


def test_a_trend_needs_three_networks_an_arm() -> None:
    grows = planted(0.1, 0.3, k=2)
    assert trend(grows, grows, grows, 0.05, "greater").verdict == "inconclusive (two networks)"


# --- does only adversarial training do it?


def test_a_control_is_ruled_out_on_the_robust_side_of_the_middle_whatever_the_sign() -> None:
    for sign in (1.0, -1.0):
        assert control_state(planted(*sorted((sign * 0.01, sign * 0.1))), sign * 0.4) == "ruled out"
        assert control_state(planted(*sorted((-sign * 0.01, -sign * 0.1))), sign * 0.4) == "does the same"
        assert control_state(planted(-0.01, 0.1), sign * 0.4) == "open"


def test_one_control_network_few_units_and_none_are_open() -> None:
    assert control_state(planted(np.nan, np.nan, k=1), 0.4) == "open"
    assert control_state(planted(0.01, 0.1, n=7), 0.4) == "open"
    assert control_state(Absent("not measured"), 0.4) == "open"
    assert control_state(Absent("no such layers", applicable=False), 0.4) == "not applicable"


def test_the_share_explained_is_below_one_half_where_a_control_is_ruled_out() -> None:
    for sign in (1.0, -1.0):
        ends = sorted((sign * 0.02, sign * 0.1))
        found = share_explained(planted(*ends), sign * 0.4)
        assert (found.share, found.low, found.high) == pytest.approx((0.35, 0.25, 0.45))
    with pytest.raises(BadInput, match="no share of it can be explained"):
        share_explained(planted(0.0, 0.1), 0.0)


def test_a_claim_is_specific_where_all_its_controls_are_ruled_out() -> None:
    held = Verdict("supported", "")
    assert specificity(held, {"gauss": "ruled out", "blur": "not applicable"}) == "specific"
    states = {"gauss": "does the same", "blur": "open", "ZSQ-2": "does the same"}
    assert specificity(held, states, {"gauss": 0.62, "blur": 0.4}) == "not specific (noise-trained 62 %, ZSQ-2)"
    assert specificity(Verdict("contradicted", ""), {"blur": "open", "gauss": "ruled out"}, {"blur": 0.4}) == "open (blur-trained 40 %)"


def test_the_second_question_is_not_asked_of_an_effect_that_is_not_there() -> None:
    for verdict_ in ("negligible", "inconclusive (one network)", "not run (no rows)"):
        assert specificity(Verdict(verdict_, ""), {"gauss": "does the same"}) == ""
    assert specificity(Verdict("supported", ""), {"blur": "not applicable"}) == ""
    with pytest.raises(BadInput, match="state 'passed' of a control is not allowed"):
        specificity(Verdict("supported", ""), {"gauss": "passed"})


def test_a_claim_that_is_a_control_is_ruled_out_when_supported() -> None:
    expected = {"supported": "ruled out", "contradicted": "does the same", "negligible": "does the same", "inconclusive (x)": "open"}
    for found, state in {**expected, "not run (y)": "open"}.items():
        assert state_of_claim(Verdict(found, "")) == state


def test_margin_is_ruled_out_where_the_shift_outlasts_the_larger_margin_of_texture() -> None:
    beyond, far, small, other, wide = planted(0.02, 0.3), planted(0.1, 0.3), planted(0.01, 0.04), planted(-0.3, -0.01), planted(-0.3, 0.3)
    assert margin_state(beyond, beyond, 0.05, "greater") == "ruled out"
    assert margin_state(far, other, 0.05, "greater") == "does the same"
    assert margin_state(far, small, 0.05, "greater") == "does the same"
    assert margin_state(wide, far, 0.05, "greater") == "open"
    assert margin_state(far, wide, 0.05, "greater") == "open"
    assert margin_state(far, Absent("no shape answer"), 0.05, "greater") == "open"
    assert margin_state(other, other, 0.05, "less") == "ruled out"


# --- each kind of quantity, from rows to words


def a_mean(generator: np.random.Generator, level: float) -> Value:
    return of_mean("net", level + 0.1 * generator.normal(size=60))


def a_ratio(generator: np.random.Generator, level: float) -> Value:
    answered = (generator.random(4000) < 0.7).astype(float)
    return of_ratio("net", answered * (generator.random(4000) < level), answered)


def an_auroc(generator: np.random.Generator, level: float) -> Value:
    shift = np.sqrt(2) * {0.3: -0.5244, 0.5: 0.0, 0.7: 0.5244}[level]  # normal quantiles: an AUROC of level
    return of_auroc("net", generator.normal(size=400), generator.normal(shift, 1.0, 400))


def an_index(generator: np.random.Generator, level: float) -> Value:
    c = level + 0.05 * generator.normal(size=(40, 4, 4))
    c = (c + c.swapaxes(1, 2)) / 2
    c[:, np.arange(4), np.arange(4)] = 1
    own = np.diagonal(c, axis1=1, axis2=2)
    return of_index("net", indices.off_diagonal_mean, BatchHSIC(np.full(40, 50), c, own, own, ("",) * 40))


KINDS = [a_mean, a_ratio, an_auroc, an_index]


@pytest.mark.parametrize("kind", KINDS)
def test_each_verdict_is_found_in_each_kind_of_quantity(kind: Callable[[np.random.Generator, float], Value]) -> None:
    generator = np.random.default_rng(7)

    def of(standard: Sequence[float], robust: Sequence[float], smallest: float = 0.1) -> Verdict:
        arms = {"standard": [kind(generator, x) for x in standard], "robust": [kind(generator, x) for x in robust]}
        return verdict(effect(arms, DIFFERENCE), smallest, "greater")

    assert of([0.3] * 3, [0.7] * 3).verdict == "supported"
    assert of([0.7] * 3, [0.3] * 3).verdict == "contradicted"
    assert of([0.3] * 3, [0.3] * 3).verdict == "negligible"
    assert of([0.3, 0.3, 0.3], [0.7, 0.3, 0.5]).verdict == "inconclusive"
    assert of([0.3], [0.7]).verdict == "inconclusive (one network)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_like_the_robust_arm_does_the_same_and_one_like_the_standard_arm_is_ruled_out(
    kind: Callable[[np.random.Generator, float], Value],
) -> None:
    generator = np.random.default_rng(8)
    arms = {"robust": [kind(generator, 0.7) for _ in range(3)], "standard": [kind(generator, 0.3) for _ in range(3)]}
    states = {}
    for level in (0.7, 0.3):
        found = effect({**arms, "control": [kind(generator, level) for _ in range(3)]}, HALF_WAY)
        assert isinstance(found, Effect)
        states[control_state(found, 0.4)] = share_explained(found, 0.4).share
    assert states == {"does the same": pytest.approx(1.0, abs=0.15), "ruled out": pytest.approx(0.0, abs=0.15)}


def test_few_rows_that_count_leave_a_claim_without_a_verdict() -> None:
    few = of_ratio("net0", np.repeat([1.0, 0.0], [3, 97]), np.repeat([1.0, 0.0], [9, 91]))
    found = verdict(effect({"standard": [few], "robust": [few]}, DIFFERENCE), 0.05, "greater")
    assert found.verdict == "not run (net0 has 9 rows that count, 30 are needed)"


# --- how often a control is judged wrongly: three networks each, arms of unequal scatter


@pytest.mark.parametrize("size", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("scatter", [(0.01, 0.07, 0.03), (0.07, 0.01, 0.07), (0.03, 0.03, 0.01)])
def test_a_control_is_taken_for_the_other_arm_at_most_three_times_in_a_hundred(size: float, scatter: tuple[float, ...]) -> None:
    generator = np.random.default_rng(9)
    wrong = {"ruled out": 0, "does the same": 0}
    for like_robust, mistake in ((True, "ruled out"), (False, "does the same")):
        for _ in range(300):
            middles = (size, 0.0, size if like_robust else 0.0)
            arms = {
                name: [NetworkValue(f"{k}", value, None, 40) for k, value in enumerate(generator.normal(middle, spread, 3))]
                for name, middle, spread in zip(("robust", "standard", "control"), middles, scatter, strict=True)
            }
            found = effect(arms, HALF_WAY)
            assert isinstance(found, Effect)
            wrong[mistake] += control_state(found, size) == mistake
    assert max(wrong.values()) <= 9, wrong
