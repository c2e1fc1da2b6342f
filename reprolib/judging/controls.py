"""What must hold beside a claim's own numbers: the networks differ, the runs converged, and controls do not do the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import NETWORK_CONTROLS, Claim, Contrast
from reprolib.judging.quantities import conditions as own_conditions
from reprolib.judging.quantities import per_batch, without_variant
from reprolib.measures.statistics import Effect, Interval
from reprolib.measures.verdict_rule import conditions, control_state, sign_of

LEAST_DIFFERENCE = 0.20  # of adversarial accuracy: below it the networks do not differ
MATCHED_ACCURACY = 0.02  # clean accuracies closer than this need no accuracy-matched control
TOLERANCE = 1e-9  # .75 - .55 is .2 to a reader, and not to a computer


@dataclass(frozen=True)
class Control:
    """A control's numbers and state; why says what a state other than passed or failed comes from."""

    name: str
    state: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


def control(claim: Claim, name: str, evidence: Evidence, mirrored: bool = False) -> Control:
    """One of a claim's controls, by its name in the ledger; mirrored: for the direction opposite to the claim's."""
    if condition := own_conditions(claim.finding).get(name):
        found: Control = condition(claim, evidence)
        return found
    if name in NETWORK_CONTROLS:
        return network_control(claim, name, evidence, mirrored)
    other = evidence.claims[name]
    if other.rule != "all":
        return _part_control(other, name, "", other.contrast, None, evidence, mirrored)
    return _joined(name, part_controls(other, evidence, mirrored, claim.primary if other.own_parts else ""))


def part_controls(claim: Claim, evidence: Evidence, mirrored: bool = False, leaning: str = "") -> list[Control]:
    """The deciding parts of a rule "all" claim as controls, each held against the effect on the same quantity between the main arms.

    leaning: the quantity of a claim that leans on this one: then only the parts on that quantity (shown ones too), where there are any.
    """
    parts = [part for part in claim.parts if not part.shown]
    own = [part for part in claim.parts if leaning and without_variant(part.quantity) == without_variant(leaning)]
    controls = []
    for part in own or parts:
        arm = next((one for one in part.arms if one in NETWORK_CONTROLS), "")
        controls.append(_part_control(claim, part.name, arm, part, _whole(claim, part, evidence), evidence, mirrored))
    return controls


def manipulation_check(claim: Claim, evidence: Evidence) -> Control | None:
    """Whether adversarial training did its work, for a claim that compares robust with standard networks; else None."""
    if compared_robust_arm(claim) is None:
        return None
    difference, without = robust_minus_standard(claim, "adversarial_accuracy", evidence)
    name = "manipulation check"
    if difference is None or without:
        who = ", ".join(without) or "any network"
        return Control(name, "undecided", difference, why=f"adversarial accuracy not measured for {who}")
    state = "passed" if difference >= LEAST_DIFFERENCE - TOLERANCE else "failed"
    why = f"robust minus standard adversarial accuracy is {100 * difference:.1f} points, {100 * LEAST_DIFFERENCE:.0f} are needed"
    return Control(name, state, difference, why=why)


def not_applicable(claim: Claim, arm: str, evidence: Evidence) -> str:
    """Why a control network says nothing about a claim at this scale, or an empty text."""
    why = claim.not_applicable.get(evidence.scale, {}).get(arm, "")
    if not why and arm == "std_matched":
        difference, without = robust_minus_standard(claim, "clean_accuracy", evidence)
        if difference is not None and not without and abs(difference) < MATCHED_ACCURACY - TOLERANCE:
            return f"clean accuracies differ by {100 * abs(difference):.1f} points, under {100 * MATCHED_ACCURACY:.0f}"
    return why


def robust_minus_standard(claim: Claim, quantity: str, evidence: Evidence) -> tuple[float | None, list[str]]:
    """Mean card number of the robust minus the standard arm's networks, and the networks that have none."""
    robust = compared_robust_arm(claim)
    means, without = [], []
    for arm in ("standard", robust):
        networks = evidence.networks(claim.contrast, [arm] if arm else [])
        found = evidence.card(quantity, networks)
        without += [network for network in networks if network not in found]
        means.append(float(np.mean([*found.values()])) if found else None)
    standard, other = means
    return (None if standard is None or other is None else other - standard), without


def network_control(claim: Claim, arm: str, evidence: Evidence, mirrored: bool = False) -> Control:
    """The claim's primary quantity with a control network in the place of the comparison arm."""
    contrast = control_contrast(claim)
    if contrast.statistic == "level":
        stand_in = replace(contrast, statistic="difference", arms=(arm, contrast.arms[0]), reference=0.0)
    else:
        comparison = "standard" if "standard" in contrast.arms else contrast.arms[0]
        stand_in = replace(contrast, arms=tuple(arm if one == comparison else one for one in contrast.arms))
    return _part_control(claim, arm, arm, stand_in, evidence.effect(contrast), evidence, mirrored)


def control_contrast(claim: Claim) -> Contrast:
    """The claim's primary contrast on the networks that its control networks are like: `control_rows` where there are such."""
    return replace(claim.contrast, claim=claim.control_rows or claim.contrast.claim)


def why_not_applicable(claim: Claim, part: Contrast, evidence: Evidence) -> str:
    """Why a part of a rule "all" claim is not asked at this scale, or an empty text."""
    why = next((why for arm in part.arms if arm in NETWORK_CONTROLS and (why := not_applicable(claim, arm, evidence))), "")
    absent = evidence.absent(part)
    return why or (absent.why if absent is not None and not absent.applicable else "")


def _part_control(
    claim: Claim, name: str, arm: str, contrast: Contrast, whole: Effect | None, evidence: Evidence, mirrored: bool = False
) -> Control:
    """State of one contrast as a control; whole: the claim's effect on the same quantity, where there is one."""
    why = not_applicable(claim, arm, evidence) if arm in NETWORK_CONTROLS else ""
    if why:
        return Control(name, "not applicable", why=why)
    effect, absent = evidence.effect(contrast), evidence.absent(contrast)
    if effect is None:
        why = absent.why if absent is not None else ""
        return Control(name, "undecided" if absent is None or absent.applicable else "not applicable", why=why or "not measured")
    if contrast.direction == "inside":
        found = conditions(effect, evidence.smallest(contrast, effect), "inside")
        inside, outside = (all(held[letter] for letter in "ab") for held in (found.claimed, found.mirrored))
        passed, failed = (outside, inside) if mirrored else (inside, outside)
        return Control(name, "passed" if passed else "failed" if failed else "undecided", *_ends(effect.interval))
    sign = sign_of(contrast.direction) * (-1 if mirrored else 1)
    state = control_state(effect.interval, sign, whole.interval.estimate if whole else None)
    return Control(name, state, *_ends(effect.interval))


def _whole(claim: Claim, part: Contrast, evidence: Evidence) -> Effect | None:
    """The effect between the main arms that a part's is held against: on its own quantity, for a variant on the index without it."""
    name, _, variant = part.quantity.partition("@")
    if len(part.arms) != len(claim.arms) or variant in per_batch(claim.finding):
        return None
    main = replace(part, quantity=name if variant else part.quantity, arms=claim.arms)
    return None if main == part else evidence.effect(main)


def _joined(name: str, parts: Sequence[Control]) -> Control:
    """One state for many: failed when one failed, passed when all that apply passed; the numbers are those of the part that decides."""
    applicable = [part for part in parts if part.state != "not applicable"]
    if not applicable:
        return Control(name, "not applicable", why="; ".join(dict.fromkeys(part.why for part in parts)))
    for state in ("failed", "undecided", "passed"):
        found = [part for part in applicable if part.state == state]
        if found:
            one = min(found, key=lambda part: math.inf if part.estimate is None else abs(part.estimate))
            why = "" if state == "passed" else ", ".join(part.name + (f" ({part.why})" if part.why else "") for part in found) + f" {state}"
            return Control(name, state, one.estimate, one.low, one.high, why)
    raise AssertionError("every part has one of the four states")


def compared_robust_arm(claim: Claim) -> str | None:
    """The robust arm that a claim compares with standard networks, or None where it compares no such arms."""
    robust = [arm for arm in claim.arms if arm.startswith("robust")]
    if "standard" not in claim.arms or not robust:
        return None
    return "robust" if "robust" in robust else robust[-1]


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high
