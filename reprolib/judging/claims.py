"""The ledger's entry points: claims as data, and the verdict on each from tidy rows alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reprolib.errors import BadInput, nearest
from reprolib.judging.controls import Control, control, control_contrast, manipulation_check, part_controls, why_not_applicable
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import SCALE_NAMES, Claim, Contrast, claims_sha256, load_claims
from reprolib.judging.tidy import read_rows, rounded, write_rows
from reprolib.measures import verdict_rule
from reprolib.measures.statistics import VERDICT_UNITS, Effect

__all__ = [
    "Claim",
    "claims_sha256",
    "evidence_of",
    "judge",
    "judge_finding",
    "load_claims",
    "read_rows",
    "rounded",
    "verdict_table",
    "write_rows",
]

SAY_WHY = ("not applicable", "undecided")  # states that are shown with their reason
DIGITS = 6  # of every number in results.json: more would differ between kinds of CPU


def evidence_of(rows: pd.DataFrame | Evidence, scale: str, claims: Mapping[str, Claim] | None = None, is_rounded: bool = False) -> Evidence:
    """Rows as `judge` and `judge_finding` read them: handed to several calls in the place of the rows, they are read once.

    is_rounded: the rows are as `tidy.rounded` gave them. Raises BadInput for an unknown scale.
    """
    if isinstance(rows, Evidence):
        return rows
    if scale not in SCALE_NAMES:
        raise BadInput(f"scale={scale!r} is unknown; allowed: {', '.join(SCALE_NAMES)}{nearest(scale, SCALE_NAMES)}")
    return Evidence(rows, scale, load_claims() if claims is None else claims, is_rounded)


def judge(
    claim_id: str,
    rows: pd.DataFrame | Evidence,
    scale: str,
    claims: Mapping[str, Claim] | None = None,
    minutes_per_network: float | None = None,
) -> dict[str, Any]:
    """One entry of results.json: estimate, interval, seeds, placebo, parts, controls and verdict of a claim, from rows.

    rows: tidy rows of the whole finding (controls may be rows of other claims). minutes_per_network: lets an
    inconclusive verdict name the hours that would settle it. Raises BadInput for rows that are not what they should be.
    """
    claims = load_claims() if claims is None else claims
    if claim_id not in claims:
        raise BadInput(f"claim {claim_id!r} is not in claims.toml{nearest(claim_id, claims)}; allowed: {', '.join(claims)}")
    return _judge(claims[claim_id], evidence_of(rows, scale, claims), minutes_per_network)


def judge_finding(
    finding: str,
    rows: pd.DataFrame | Evidence,
    scale: str,
    claims: Mapping[str, Claim] | None = None,
    minutes_per_network: float | None = None,
) -> list[dict[str, Any]]:
    """`judge` for every claim of a finding, in the ledger's order."""
    claims = load_claims() if claims is None else claims
    chosen = [claim for claim in claims.values() if claim.finding == finding]
    if not chosen:
        known = sorted({claim.finding for claim in claims.values()})
        raise BadInput(f"finding={finding!r} has no claims; allowed: {', '.join(known)}{nearest(finding, known)}")
    evidence = evidence_of(rows, scale, claims)
    return [_judge(claim, evidence, minutes_per_network) for claim in chosen]


def verdict_table(results: Mapping[str, Any] | Iterable[Mapping[str, Any]], claims: Mapping[str, Claim] | None = None) -> pd.DataFrame:
    """The verdicts as a table to show: results.json, or its list of claims, in; one row a claim out."""
    entries = results["claims"] if isinstance(results, Mapping) else results
    claims = load_claims() if claims is None else claims
    table = []
    for entry in entries:
        placebo = entry["placebo"]
        fired = "" if placebo["fired"] is None else (" fired" if placebo["fired"] else " silent")
        table.append(
            {
                "id": entry["id"],
                "statement": claims[entry["id"]].statement,
                "estimate [low, high]": _numbers(entry),
                "placebo": _numbers(placebo) + fired,
                "controls": ", ".join(f"{control['name']}: {control['state']}" for control in entry["controls"]),
                "verdict": entry["verdict"],
                "reason": entry["reason"],
            }
        )
    return pd.DataFrame(table, columns=["id", "statement", "estimate [low, high]", "placebo", "controls", "verdict", "reason"])


def _judge(claim: Claim, evidence: Evidence, minutes: float | None) -> dict[str, Any]:
    deciding, unmeasured = _deciding(claim, evidence)
    measured = {name: effect for name, (_, effect) in deciding.items()}
    smallest = {name: evidence.smallest(contrast, effect) for name, (contrast, effect) in deciding.items()}
    shown = _weakest(deciding, smallest)
    check = manipulation_check(claim, evidence) if measured else None
    controls = [control(claim, name, evidence) for name in claim.controls]
    if check is not None:
        controls.insert(0, check)
    if not measured:
        verdict, reason = _not_run(claim, evidence, unmeasured)
    elif check is not None and check.state == "failed":
        verdict, reason = "not run (the networks do not differ)", check.why
    else:
        mirrored = [control(claim, name, evidence, mirrored=True) for name in claim.controls]
        mirrored += [check] if check is not None else []
        found = verdict_rule.all_of({n: verdict_rule.conditions(e, smallest[n], c.direction) for n, (c, e) in deciding.items()})
        verdict, reason = verdict_rule.decide(found, {c.name: c.state for c in controls}, {c.name: c.state for c in mirrored})
        if unmeasured and "fewer than" not in verdict:
            verdict, reason = f"inconclusive (not measured: {', '.join(unmeasured)})", "every part must be measured or not applicable"
        reason += "".join(f"; {c.name}: {c.why}" for c in controls if c.why and c.state != "passed")
        if verdict.startswith("inconclusive") and shown is not None:
            least = verdict_rule.detectable_effect(measured[shown], smallest[shown])
            reason += f"; {_direction(*deciding[shown])}, {least:.3g} could have been shown"
            if not all(found.claimed.values()) and not all(found.mirrored.values()):
                forecast = verdict_rule.what_would_settle(measured[shown], smallest[shown], minutes, len(deciding[shown][0].arms))
                reason += f"; {forecast}"
    if claim.rule == "all" and len(deciding) > 1:
        reason += f"; weakest part: {shown}"
    if evidence.scale == "smoke":
        reason = f"smoke: not evidence; {reason}"
    contrast, effect = deciding[shown] if shown is not None else (claim.contrast, None)
    return _entry(claim, evidence, contrast, effect, smallest.get(shown or "", 0.0), controls, verdict, reason)


def _deciding(claim: Claim, evidence: Evidence) -> tuple[dict[str, tuple[Contrast, Effect]], list[str]]:
    """The contrasts that decide, with their effects, and the names of those applicable but not measured."""
    asked = (part for part in claim.parts if not part.shown and not why_not_applicable(claim, part, evidence))
    contrasts = [*asked] if claim.rule == "all" else [claim.contrast]
    deciding, unmeasured = {}, []
    for contrast in contrasts:
        effect = evidence.effect(contrast)
        if effect is None:
            unmeasured.append(contrast.name)
        else:
            deciding[contrast.name] = (contrast, effect)
    return deciding, unmeasured


def _weakest(deciding: Mapping[str, tuple[Contrast, Effect]], smallest: Mapping[str, float]) -> str | None:
    """The part whose interval goes least far in the claimed direction, counted in smallest effects."""

    def reach(name: str) -> float:
        contrast, effect = deciding[name]
        sign = verdict_rule.sign_of(contrast.direction)
        if sign == 0:  # beyond 1, like any other part, exactly where the interval is inside the margin
            return 2 - max(abs(effect.interval.low), abs(effect.interval.high)) / (smallest[name] or 1.0)
        near = min(sign * effect.interval.low, sign * effect.interval.high)
        return sign * effect.interval.estimate if math.isnan(near) else near / (smallest[name] or 1.0)

    return min(deciding, key=reach, default=None)


def _not_run(claim: Claim, evidence: Evidence, unmeasured: Sequence[str]) -> tuple[str, str]:
    if claim.rule == "all" and not unmeasured:
        return "not run (no part is applicable)", "; ".join(
            dict.fromkeys(why for part in claim.parts if (why := why_not_applicable(claim, part, evidence)))
        )
    if evidence.scale not in (*claim.required_at, "smoke"):
        return f"not run (not required at {evidence.scale})", f"required at {', '.join(claim.required_at) or 'no scale'}; no rows here"
    absent, missing = evidence.absent(claim.contrast), evidence.missing_arms(claim.contrast)
    if claim.rule != "all" and absent is not None and absent.why:
        return (
            f"not run ({'no rows' if absent.applicable else 'not applicable'}: {absent.why})",
            "the primary quantity has no value in these networks",
        )
    if claim.rule == "all" or len(missing) == len(claim.arms):
        return "not run (no rows: not measured yet)", "no rows hold its quantity"
    if missing:
        return f"not run (no rows: {', '.join(missing)} not measured yet)", "an arm of the comparison has no rows"
    return "not run (no rows: no seed has every radius)", "a trend needs one seed with all its arms"


def _direction(contrast: Contrast, effect: Effect) -> str:
    what = {
        "difference": f"{contrast.arms[-1]} minus {contrast.arms[0]}",
        "level": f"{contrast.arms[0]} minus {contrast.reference:g}",
        "slope": "the slope",
        "alike": f"similarity minus {contrast.reference:g}",
        "unlike": f"similarity of {contrast.arms[0]} with {contrast.arms[-1]} minus that within the less alike of the two",
    }
    return f"{what[contrast.statistic]} is {effect.interval.estimate:.3g}"


def _entry(
    claim: Claim,
    evidence: Evidence,
    contrast: Contrast,
    effect: Effect | None,
    smallest: float,
    controls: Sequence[Control],
    verdict: str,
    reason: str,
) -> dict[str, Any]:
    used = set(evidence.networks(claim.contrast, [*claim.arms, *claim.controls]))
    used |= set(evidence.networks(control_contrast(claim), [*claim.arms, *claim.controls])) if claim.control_rows else set()
    for part in claim.parts if claim.rule == "all" else ():
        used |= set(evidence.networks(part))
    interval = effect.interval if effect else None
    placebo = effect.placebo if effect else None
    fired = None if placebo is None or placebo.n < VERDICT_UNITS else placebo.low > smallest or placebo.high < -smallest
    return _plain(
        {
            "id": claim.id,
            "version": claim.version,
            "required": evidence.scale in claim.required_at,
            "primary": contrast.quantity,
            "estimate": interval.estimate if interval else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "p": interval.p if interval else None,
            "n": interval.n if interval else 0,
            "unit": claim.unit,
            "arms": [contrast.arms[0], contrast.arms[-1]],
            "seeds": [{"a": pair.a, "b": pair.b, "estimate": pair.estimate} for pair in effect.pairs] if effect else [],
            "placebo": {
                "estimate": placebo.estimate if placebo else None,
                "low": placebo.low if placebo else None,
                "high": placebo.high if placebo else None,
                "fired": fired,
            },
            "parts": _parts(claim, evidence),
            "controls": [
                {
                    "name": one.name,
                    "estimate": one.estimate,
                    "low": one.low,
                    "high": one.high,
                    "state": f"{one.state} ({one.why})" if one.why and one.state in SAY_WHY else one.state,
                }
                for one in controls
            ],
            "networks": sorted(used),
            "verdict": verdict,
            "reason": reason,
            "detectable": verdict_rule.detectable_effect(effect, smallest) if effect else None,
        }
    )


def _parts(claim: Claim, evidence: Evidence) -> list[dict[str, Any]]:
    """The parts' numbers; state: as a control where they decide, whether a margin holds for "inside", else shown or why it is not."""
    decided = {one.name: one for one in part_controls(claim, evidence)} if claim.rule == "all" else {}
    shown = []
    for part in claim.parts:
        effect, absent = evidence.effect(part), evidence.absent(part)
        interval = effect.interval if effect else None
        state = "shown" if absent is None else "not measured" if absent.applicable else "not applicable"
        state += f" ({absent.why})" if absent is not None and absent.why else ""
        if effect and part.direction == "inside" and part.statistic == "level":
            held = verdict_rule.conditions(effect, evidence.smallest(part, effect), "inside").claimed
            state = "inside the margin" if held["a"] and held["b"] else "not inside the margin"
        elif part.name in decided:
            state = decided[part.name].state + (f" ({decided[part.name].why})" if decided[part.name].why else "")
        shown.append(
            {
                "name": part.name,
                "quantity": part.quantity,
                "arms": list(part.arms),
                "estimate": interval.estimate if interval else None,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "n": interval.n if interval else 0,
                "state": state,
            }
        )
    return shown


def _plain(value: Any) -> Any:
    """JSON values: floats to 6 significant digits, null for what is not a number."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0 if math.isfinite(value) else None
    return value


def _numbers(entry: Mapping[str, Any]) -> str:
    if entry["estimate"] is None:
        return "not measured"
    ends = "" if entry["low"] is None else f" [{entry['low']:.3g}, {entry['high']:.3g}]"
    return f"{entry['estimate']:.3g}{ends}"
