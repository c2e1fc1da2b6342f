from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from reprolib.errors import BadInput
from reprolib.measures.statistics import Effect, Interval, SeedPair
from reprolib.measures.verdict_rule import all_of, conditions, control_state, decide, detectable_effect, sign_of, what_would_settle


def effect(
    low: float, high: float, pairs: Sequence[float] = (), same: Sequence[float] = (0.01, 0.02), n: int = 24, variance: float = 0.0
) -> Effect:
    estimate = (low + high) / 2
    found = tuple(SeedPair(k, k, value) for k, value in enumerate(pairs or (estimate, estimate)))
    return Effect(Interval(estimate, low, high, 0.01, n), found, tuple(same), None, 1.0, 2 if same else 1, variance)


def rule(found: Effect, direction: str = "greater", smallest: float = 0.05, controls: dict[str, str] | None = None) -> str:
    return decide(conditions(found, smallest, direction), controls or {}, controls or {})[0]


def test_part_a_asks_for_the_interval_strictly_beyond_the_smallest_effect() -> None:
    assert rule(effect(0.051, 0.3)) == "supported"
    assert rule(effect(0.05, 0.3)) == "inconclusive (a)"
    assert rule(effect(-0.3, -0.051), "less") == "supported"
    assert rule(effect(-0.3, -0.051)) == "contradicted"


def test_part_b_asks_for_the_sign_in_every_pair() -> None:
    assert rule(effect(0.1, 0.3, pairs=(0.5, 0.3, 0.1, 0.01))) == "supported"
    assert rule(effect(0.1, 0.3, pairs=(0.5, 0.3, 0.1, -0.01))) == "inconclusive (b)"
    assert rule(effect(0.1, 0.3, pairs=(0.5, 0.3, 0.1, 0.0))) == "inconclusive (b)"


def test_part_c_asks_for_more_than_twice_the_largest_difference_between_seeds_either_way_round() -> None:
    assert rule(effect(0.1, 0.3, same=(0.01, -0.099))) == "supported"
    assert rule(effect(0.1, 0.3, same=(0.01, -0.1))) == "inconclusive (c)"


def test_with_one_network_in_an_arm_b_and_c_cannot_hold() -> None:
    found = conditions(effect(0.1, 0.3, same=()), 0.05, "greater")
    assert decide(found, {}, {})[0] == "inconclusive (b, c)"
    assert "one network in an arm" in found.unmet["b"]
    assert rule(effect(-0.01, 0.01, same=())) == "inconclusive (a, b, c)"


def test_negligible_asks_for_the_interval_and_every_pair_inside() -> None:
    assert rule(effect(-0.04, 0.04, pairs=(0.04, -0.04))) == "negligible"
    assert rule(effect(-0.04, 0.04, pairs=(0.06, -0.04))).startswith("inconclusive")
    assert rule(effect(-0.04, 0.06, pairs=(0.04, -0.04))).startswith("inconclusive")


@pytest.mark.parametrize(
    ("controls", "verdict"),
    [
        ({"gauss": "passed", "std_matched": "not applicable"}, "supported"),
        ({"gauss": "failed", "std_matched": "passed"}, "confounded (gauss)"),
        ({"gauss": "undecided", "std_matched": "failed"}, "confounded (std_matched)"),
        ({"gauss": "undecided", "std_matched": "passed"}, "inconclusive (control gauss)"),
    ],
)
def test_controls_turn_what_would_be_supported(controls: dict[str, str], verdict: str) -> None:
    assert rule(effect(0.1, 0.3), controls=controls) == verdict


def test_a_mirrored_effect_needs_its_controls_too_and_is_never_confounded() -> None:
    found = conditions(effect(-0.3, -0.1), 0.05, "greater")
    assert decide(found, {"gauss": "failed"}, {"gauss": "passed"})[0] == "contradicted"
    assert decide(found, {"gauss": "failed"}, {"gauss": "failed"})[0] == "inconclusive (control gauss)"


def test_fewer_than_eight_units_decide_nothing() -> None:
    assert rule(effect(0.1, 0.3, n=8)) == "supported"
    assert rule(effect(0.1, 0.3, n=7)) == "inconclusive (fewer than 8 units)"


def test_sameness_is_decided_by_the_margin_never_by_not_different() -> None:
    assert rule(effect(-0.04, 0.05), "inside") == "supported"
    assert rule(effect(-0.04, 0.051), "inside") == "inconclusive (a)"
    assert rule(effect(-0.04, 0.04, pairs=(0.0, 0.06)), "inside") == "inconclusive (b)"
    assert rule(effect(0.06, 0.1), "inside") == "contradicted"


def test_rule_all_holds_only_where_every_part_holds_and_names_the_one_that_does_not() -> None:
    good, weak = conditions(effect(0.1, 0.3), 0.05, "greater"), conditions(effect(0.01, 0.3), 0.05, "greater")
    less = conditions(effect(-0.3, -0.1), 0.05, "less")
    assert decide(all_of({"x": good, "y": less}), {}, {})[0] == "supported"
    verdict, reason = decide(all_of({"x": good, "y": weak}), {}, {})
    assert verdict == "inconclusive (a)"
    assert "y: interval [0.01, 0.3]" in reason
    assert decide(all_of({"x": good, "y": conditions(effect(-0.3, -0.1), 0.05, "greater")}), {}, {})[0] == "inconclusive (a, b)"
    with pytest.raises(BadInput, match="at least one applicable part"):
        all_of({})


@pytest.mark.parametrize(
    ("estimate", "low", "high", "state"),
    [
        (0.2, 0.01, 0.4, "passed"),
        (0.0, -0.1, 0.1, "failed"),
        (-0.2, -0.4, 0.1, "failed"),
        (0.09, -0.01, 0.19, "failed"),  # below a quarter of .4, far end below half of it
        (0.09, -0.05, 0.21, "undecided"),  # the far end is not
        (0.11, -0.01, 0.19, "undecided"),  # the estimate is not
        (0.3, 0.0, 0.6, "undecided"),  # touching 0 is not beyond it
    ],
)
def test_control_states_as_written(estimate: float, low: float, high: float, state: str) -> None:
    assert control_state(Interval(estimate, low, high, 0.5, 24), 1, 0.4) == state
    assert control_state(Interval(-estimate, -high, -low, 0.5, 24), -1, -0.4) == state
    assert control_state(Interval(estimate, low, high, 0.5, 7), 1, 0.4) == "undecided"


def test_without_a_claims_effect_only_zero_is_a_bar() -> None:
    assert control_state(Interval(0.01, -0.01, 0.03, 0.5, 24), 1) == "undecided"


def test_detectable_effect_meets_a_and_c_exactly() -> None:
    found = effect(-0.1, 0.1, same=(0.02,))
    assert detectable_effect(found, 0.05) == pytest.approx(0.15)
    assert detectable_effect(effect(-0.1, 0.1, same=(0.2,)), 0.05) == pytest.approx(0.4)


def test_the_forecast_of_seeds_is_the_number_whose_standard_error_fits() -> None:
    # Gap .1 and variance .04: 1.96**2 * .04 / .01 = 15.4.
    wide = effect(0.13, 0.17, variance=0.04)
    assert "about 16 seeds in each arm" in what_would_settle(wide, 0.05)
    assert "(14.0 hours of training)" in what_would_settle(wide, 0.05, minutes_per_network=30)
    assert "more than 99 seeds" in what_would_settle(effect(0.03, 0.072, variance=0.04), 0.05)
    # Half the interval is twice the gap: four times the units.
    assert "about 96 units" in what_would_settle(effect(-0.05, 0.35), 0.05)
    assert "at least 2 seeds" in what_would_settle(effect(0.1, 0.3, same=(), variance=math.nan), 0.05)
    assert "would not settle" in what_would_settle(effect(0.14, 0.16, same=(0.2,)), 0.05)
    assert "not settled by any number" in what_would_settle(effect(0.125, 0.125), 0.125)


def test_names_that_are_not_allowed_are_refused() -> None:
    with pytest.raises(BadInput, match="direction='up' is not allowed"):
        sign_of("up")
    with pytest.raises(BadInput, match="control gauss has state 'fine'"):
        rule(effect(0.1, 0.3), controls={"gauss": "fine"})
