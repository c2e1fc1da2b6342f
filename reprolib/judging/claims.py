"""The ledger's entry points: claims as data, and both answers on each from tidy rows alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from reprolib.errors import BadInput, nearest
from reprolib.judging.controls import (
    MANIPULATION,
    NOT_ASKED,
    Control,
    answers,
    check,
    control,
    control_contrast,
    manipulation_check,
    not_applicable,
)
from reprolib.judging.evidence import Evidence, listed
from reprolib.judging.ledger import NETWORK_CONTROLS, Claim, Contrast
from reprolib.judging.quantities import is_of_pairs
from reprolib.measures.effects import Absent, Effect
from reprolib.measures.verdicts import NOT_APPLICABLE, OPEN, Verdict, after_checks, specificity, worst
from reprolib.models.networks import ARCHITECTURES, CAPSULES

DIGITS = 6  # of every number in results.json: more would differ between kinds of CPU


def judge(claim_id: str, evidence: Evidence) -> dict[str, Any]:
    """One entry of results.json: estimate, interval, networks, parts, controls and both answers to a claim.

    evidence: rows of the whole finding (controls may be rows of other claims). Raises BadInput for rows that are not what they should be.
    """
    claims = evidence.claims
    if claim_id not in claims:
        raise BadInput(f"claim {claim_id!r} is not in claims.toml{nearest(claim_id, claims)}; allowed: {', '.join(claims)}")
    return _judge(claims[claim_id], evidence)


def judge_finding(finding: str, evidence: Evidence) -> list[dict[str, Any]]:
    """`judge` for every claim of a finding, in the ledger's order."""
    return [_judge(claim, evidence) for claim in evidence.claims.values() if claim.finding == finding]


def beside_standard(claim_id: str, arm: str, evidence: Evidence) -> str:
    """An arm of no claim minus the standard one in a claim's quantity, by the interval that judges it; or why there is no number."""
    claim = evidence.claims[claim_id]
    try:
        asked = "standard" in claim.arms and not is_of_pairs(claim.finding, claim.quantity)
        statistic = "paired" if claim.statistic == "paired" else "difference"
        contrast = replace(claim.contrast, statistic=statistic, arms=("standard", arm))
        found = evidence.effect(contrast) if asked else Absent("not asked of one network beside standard ones")
    except BadInput as error:  # other layers, for one
        found = Absent(str(error))
    if isinstance(found, Absent):
        return f"{arm}, in no verdict: no difference to standard ({found.why})."
    ends = f" [{found.low:.2g}, {found.high:.2g}]" if math.isfinite(found.low) else ", of one network, so without an interval"
    return f"{arm} minus standard, in no verdict: {claim.quantity} {found.estimate:+.2g}{ends}."


def verdict_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """The verdicts of results.json as a table to show, one short row a claim."""
    columns = ["id", "does it hold?", "estimate [low, high]", "networks", "units", "only by adversarial training?"]
    rows = [
        [
            entry["id"],
            entry["verdict"],
            numbers(entry),
            networks_an_arm(entry),
            f"{entry['n']} x {entry['unit']}" if entry["n"] else "",
            entry["specificity"],
        ]
        for entry in results["claims"]
    ]
    return pd.DataFrame(rows, columns=columns)


def numbers(entry: Mapping[str, Any]) -> str:
    """An estimate with its interval, or an empty text: "-0.08 [-0.12, -0.041]"."""
    if entry["estimate"] is None:
        return ""
    ends = "" if entry["low"] is None else f" [{entry['low']:.2g}, {entry['high']:.2g}]"
    return f"{entry['estimate']:.2g}{ends}"


def networks_an_arm(entry: Mapping[str, Any]) -> str:
    """How many networks, or pairs of networks, are compared: "3 + 3 networks", or "5 architectures", "15 points"; or an empty text."""
    names = {name for networks in entry["networks"].values() for name in networks}
    if names and names <= {*ARCHITECTURES, CAPSULES}:
        return f"{len(names)} architectures"
    if {"x", "y"} <= set(entry["networks"]):
        return f"{len(names)} points"
    what = "pairs" if any(kind.startswith(("across", "within ")) for kind in entry["networks"]) else "networks"
    return " + ".join(str(len(networks)) for networks in entry["networks"].values()) + f" {what}" if entry["networks"] else ""


def _judge(claim: Claim, evidence: Evidence) -> dict[str, Any]:
    found, contrasts = answers(claim, evidence)
    name = worst(found) if found else ""
    shown = contrasts.get(name, claim.contrast)
    effect = evidence.effect(shown) if found else Absent("nothing that decides is asked here", applicable=False)
    is_measured = any(one.word != "not run" for one in found.values())
    asked = [manipulation_check(claim, evidence), *(check(claim, one, evidence) for one in claim.checks)] if is_measured else []
    checks = [one for one in asked if one is not None]
    first = _not_run(claim, is_measured, checks, evidence) or after_checks(found[name], {one.name: one.state for one in checks})
    reasons = [(f"{name}: " if len(found) > 1 and first.word != "not run" else "") + first.reason, evidence.remark(shown)]
    if first.word != "not run":
        reasons += [f"{one.name}: {one.why}" for one in checks if one.why and one.state != "passed"]
    controls = [control(claim, one, evidence, first.word in ("supported", "contradicted")) for one in claim.controls]
    reasons += _left_out(claim, shown, controls, evidence)
    reason = "; ".join(text for text in reasons if text)
    states = {one.name: one.state for one in controls if one.state != NOT_ASKED}
    shares = {one.name: one.share for one in controls if one.share is not None}
    return _plain(
        {
            "id": claim.id,
            "version": claim.version,
            "required": evidence.scale in claim.required_at,
            "quantity": shown.quantity,
            **_interval(effect),
            "unit": claim.unit,
            "arms": [*shown.arms],
            "networks": {} if isinstance(effect, Absent) else {arm: dict(of) for arm, of in effect.networks.items()},
            "parts": _parts(claim, found, evidence),
            "controls": [_shown(one) for one in (*checks, *controls)],
            "verdict": first.verdict,
            "specificity": specificity(first, states, shares),
            "reason": f"smoke: not evidence; {reason}" if evidence.scale == "smoke" else reason,
        }
    )


def _left_out(claim: Claim, shown: Contrast, controls: Sequence[Control], evidence: Evidence) -> list[str]:
    """Who is in no pair of what decides, and who beside them in none of a control's: "gauss: left out: pool (gauss not measured)"."""
    left_out = evidence.left_out(shown)
    texts = [listed(left_out)]
    for one in controls:
        if one.name in NETWORK_CONTROLS and one.state not in (NOT_ASKED, NOT_APPLICABLE):
            more = evidence.left_out(control_contrast(claim, one.name, evidence))
            beside = listed({name: why for name, why in more.items() if name not in left_out})
            texts.append(f"{one.name}: {beside}" if beside else "")
    return texts


def _not_run(claim: Claim, is_measured: bool, checks: Sequence[Control], evidence: Evidence) -> Verdict | None:
    if is_measured:
        failed = next((one for one in checks if one.name == MANIPULATION and one.state == "failed"), None)
        return None if failed is None else Verdict("not run (the networks do not differ)", failed.why)
    if evidence.scale not in (*claim.required_at, "smoke"):
        where = ", ".join(claim.required_at) or "no scale"
        return Verdict(f"not run (not required at {evidence.scale})", f"required at {where}; no rows here")
    why = [effect.why for part in claim.deciding() if isinstance(effect := evidence.effect(part), Absent)]
    if all(not_applicable(claim, part, evidence) for part in claim.deciding()):
        return Verdict("not run (no part is applicable)", "; ".join(dict.fromkeys(why)))
    return None


def _parts(claim: Claim, found: Mapping[str, Verdict], evidence: Evidence) -> list[dict[str, Any]]:
    """The parts' numbers, of a trend those of its steps too; state: the verdict of those that decide, else shown or why there is none."""
    steps = claim.contrast.steps().values() if claim.statistic == "trend" else ()
    shown = []
    for part in (*steps, *claim.parts):
        effect = evidence.effect(part)
        state = found[part.name].verdict if part in claim.deciding() and part.name in found else "shown"
        if isinstance(effect, Absent):
            state = "not measured" if effect.applicable else "not applicable"
            state += f" ({effect.why})" if effect.why != state else ""
        shown.append({"name": part.name, "quantity": part.quantity, "arms": [*part.arms], **_interval(effect), "state": state})
    return shown


def _shown(one: Control) -> dict[str, Any]:
    state = f"{one.state} ({one.why})" if one.why and one.state in ("not measured", OPEN, NOT_APPLICABLE) else one.state
    return {"name": one.name, "share": one.share, "low": one.low, "high": one.high, "state": state}


def _interval(effect: Effect | Absent) -> dict[str, Any]:
    if isinstance(effect, Absent):
        return {"estimate": None, "low": None, "high": None, "n": 0}
    return {"estimate": effect.estimate, "low": effect.low, "high": effect.high, "n": effect.n}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0 if math.isfinite(value) else None
    return value
