"""What a claim leans on beside its own numbers: checks that what holds needs, and controls of which is asked whether they do the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reprolib.judging.evidence import TOLERANCE, Evidence, differs, in_points, listed
from reprolib.judging.ledger import NETWORK_CONTROLS, Claim, Contrast
from reprolib.judging.quantities import conditions, is_of_pairs, own_controls, without_variant
from reprolib.measures.effects import Absent, Effect
from reprolib.measures.verdicts import (
    NOT_APPLICABLE,
    OPEN,
    Verdict,
    control_state,
    share_explained,
    state_of_claim,
    too_few,
    trend,
    verdict,
    worst,
)
from reprolib.training.cards import LEAST_DIFFERENCE

MANIPULATION = "manipulation check"
MATCHED_ACCURACY = 0.02  # clean accuracies closer than this need no accuracy-matched control
NOT_ASKED = "not asked"  # of a control of a claim that does not hold


@dataclass(frozen=True)
class Control:
    """A check's or control's state, with the share of the effect that a control explains; why: what the state comes from."""

    name: str
    state: str
    share: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


def answer(contrast: Contrast, evidence: Evidence) -> Verdict:
    """Does one contrast hold, by its own numbers alone?"""
    if contrast.statistic == "trend":
        main_standard, small_standard, main_small = (evidence.effect(step) for step in contrast.steps().values())
        smallest = contrast.smallest_effect if isinstance(main_standard, Absent) else evidence.smallest(contrast, main_standard)
        return trend(main_standard, small_standard, main_small, smallest, contrast.direction)
    effect = evidence.effect(contrast)
    return verdict(
        effect, contrast.smallest_effect if isinstance(effect, Absent) else evidence.smallest(contrast, effect), contrast.direction
    )


def answers(claim: Claim, evidence: Evidence) -> tuple[dict[str, Verdict], dict[str, Contrast]]:
    """Those of all that decides a claim and applies at the scale, with the contrasts, by name."""
    contrasts = {one.name: one for one in claim.deciding() if not not_applicable(claim, one, evidence)}
    return {name: answer(contrast, evidence) for name, contrast in contrasts.items()}, contrasts


def not_applicable(claim: Claim, contrast: Contrast, evidence: Evidence) -> str:
    """Why a part of a rule "all" claim is not asked at this scale, or an empty text."""
    absent = evidence.effect(contrast)
    return absent.why if claim.rule == "all" and isinstance(absent, Absent) and not absent.applicable else ""


def check(claim: Claim, name: str, evidence: Evidence) -> Control:
    """One of a claim's checks, by its name in the ledger; of a claim: its parts on this claim's own quantity, or its own answer."""
    if condition := conditions(claim.finding).get(name):
        found: Control = condition(claim, evidence)
        return found
    other = evidence.claims[name]
    own = [part for part in other.parts if without_variant(part.quantity) == without_variant(claim.quantity)]
    contrasts = own or other.deciding()
    found_by_part = {one.name: answer(one, evidence) for one in contrasts if not not_applicable(other, one, evidence)}
    if not found_by_part:
        return Control(name, NOT_APPLICABLE, why="; ".join(dict.fromkeys(not_applicable(other, one, evidence) for one in contrasts)))
    short = {part: one for part, one in found_by_part.items() if one.word != "supported"}
    words = {one.word for one in short.values()}
    state = (
        "failed" if words & {"contradicted", "negligible"} else OPEN if "inconclusive" in words else "not measured" if words else "passed"
    )
    return Control(name, state, why="; ".join(f"{part} {one.verdict}" for part, one in short.items()))


def manipulation_check(claim: Claim, evidence: Evidence) -> Control | None:
    """Whether adversarial training did its work, for a claim that compares robust with standard networks; else None.

    Of pairs of several architectures: whether it did in one of them; those in which it did not are in no number, see `Evidence.gaps`.
    """
    if claim.robust_arm is None:
        return None
    if gaps := evidence.gaps(claim.contrast):
        failing = {name: in_points(gap) for name, gap in gaps.items() if not differs(gap)}
        if len(failing) < len(gaps):
            return Control(MANIPULATION, "passed", why=listed(failing))
        state = "not measured" if all(gap is None for gap in gaps.values()) else "failed"
        where = ", ".join(f"{name} {why}" for name, why in failing.items())
        what = f"in no architecture by {100 * LEAST_DIFFERENCE:.0f} points above standard"
        return Control(MANIPULATION, state, why=f"robust adversarial accuracy is {what}: {where}")
    difference, without = robust_minus_standard(claim, "adversarial_accuracy", evidence)
    if difference is None or without:
        return Control(MANIPULATION, "not measured", why=f"adversarial accuracy not measured for {', '.join(without) or 'any network'}")
    state = "passed" if difference >= LEAST_DIFFERENCE - TOLERANCE else "failed"
    points = f"{100 * difference:.1f} points, {100 * LEAST_DIFFERENCE:.0f} are needed"
    return Control(MANIPULATION, state, why=f"robust minus standard adversarial accuracy is {points}")


def robust_minus_standard(claim: Claim, quantity: str, evidence: Evidence) -> tuple[float | None, list[str]]:
    """Mean card number of the robust minus the standard arm's networks, and the networks that have none."""
    means, without = [], []
    for arm in ("standard", claim.robust_arm):
        networks = evidence.networks(claim.contrast, [arm] if arm else [])
        found = evidence.card(quantity, networks)
        without += [network for network in networks if network not in found]
        means.append(float(np.mean([*found.values()])) if found else None)
    standard, robust = means
    return (None if standard is None or robust is None else robust - standard), without


def control(claim: Claim, name: str, evidence: Evidence, holds: bool) -> Control:
    """Whether one of a claim's controls does the same; holds: whether the claim is supported or contradicted, else nothing is asked."""
    why = _why_no_control(claim, name, evidence)
    if why:
        return Control(name, NOT_APPLICABLE, why=why)
    if not holds:
        return Control(name, NOT_ASKED)
    if own := own_controls(claim.finding).get(name):
        found: Control = own(claim, evidence)
        return found
    if name not in NETWORK_CONTROLS:
        other, _ = answers(evidence.claims[name], evidence)
        return Control(name, state_of_claim(other[worst(other)]) if other else NOT_APPLICABLE)
    half_way = evidence.effect(control_contrast(claim, name, evidence))
    if isinstance(half_way, Absent):
        return Control(name, OPEN, why=half_way.why)
    robust, standard, _ = (float(np.mean([*networks.values()])) for networks in half_way.networks.values())
    difference = robust - standard
    state = control_state(half_way, difference)
    if difference == 0:
        return Control(name, state, why="the arms do not differ")
    share = share_explained(half_way, difference)
    return Control(name, state, share.share, share.low, share.high, too_few(half_way))


def control_contrast(claim: Claim, arm: str, evidence: Evidence) -> Contrast:
    """Half way between robust and standard minus a control arm, on the claim's own quantity; in pairs, where the claim is of pairs.

    On the claim's own rows where they hold two networks of the control arm, else on those of `control_rows`, whose networks may be of
    another architecture, where the quantity has a value there; else again on the claim's own.
    """
    assert claim.robust_arm is not None
    within = "standard" if is_of_pairs(claim.finding, claim.quantity) else ""
    arms = (claim.robust_arm, "standard", arm)
    statistic = "paired_half_way" if claim.statistic == "paired" else "half_way"
    own = replace(claim.contrast, name=arm, statistic=statistic, arms=arms, reference=0.0, within=within)
    if not claim.control_rows or len(evidence.networks(own, [arm])) > 1:
        return own
    other = replace(own, claim=claim.control_rows)
    return own if isinstance(evidence.effect(other), Absent) and isinstance(evidence.effect(own), Effect) else other


def _why_no_control(claim: Claim, name: str, evidence: Evidence) -> str:
    here: Mapping[str, str] = claim.not_applicable.get(evidence.scale, {})
    if name in here:
        return here[name]
    if name == "std_matched":
        difference, without = robust_minus_standard(claim, "clean_accuracy", evidence)
        if difference is not None and not without and abs(difference) < MATCHED_ACCURACY - TOLERANCE:
            return f"clean accuracies differ by {100 * abs(difference):.1f} points, under {100 * MATCHED_ACCURACY:.0f}"
    return ""
