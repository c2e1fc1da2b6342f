"""Every claim once, as data: each finding's `claims.toml` read, checked field by field, and hashed.

Entries are committed before the first run that measures them. A changed direction, primary or smallest_effect (or statistic, arms,
scales, unit, controls, not_applicable) is another claim: raise its version and add its line to tests/findings/<finding>/frozen_claims.json.

id, paper (arXiv), statement (ours); the finding is the folder that the file lies in
primary          the one quantity (column `quantity` of the rows) that decides
statistic        difference: second arm minus first, mean over all seed pairs; level: the one arm minus level_reference;
                 slope: over `levels` (one an arm), one slope a seed; alike: a network of the first arm with one of the second
                 and of another seed; unlike: that, minus the lower of the same inside either arm
arms             roles; [low arm, high arm], the estimate is high minus low
direction        of the estimate: greater, less, or inside (a statement of sameness: smallest_effect is then its margin)
unit             what is resampled; hidden units independently in each network, all others jointly
smallest_effect  in the quantity's units (relative = true: share of the first arm's value), with its reason
required_at      scales whose committed results must hold a verdict
controls         converged or overfitted (conditions on the networks); ids of claims; network roles standing in for the
                 comparison arm (for a level: the arm minus them)
parts            shown beside, not deciding: a quantity, or a table that changes the contrast (claim = "INV-4" starts from that
                 entry's contrast). With rule = "all" the parts decide, every one of them that has not shown = true
                 and is asked at the scale (scales = [...], absent for all)
rows_of          the claim whose rows are read, where it is not the entry's own id
control_rows     the claim whose rows hold the control networks, and main arms of their architecture, where they are others
own_parts        with rule = "all": as a control, only the parts on the leaning claim's own quantity count, where there are any
unreached        zero: a comparison counts 0 where either network did not reach its target; value: the row's value stands
not_applicable   scale -> {role = "why"}
deviations       from the paper's protocol
reference        a verified number of the paper, absent where there is none
version          counts from 1
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from reprolib import registry
from reprolib.errors import BadInput, MissingData, nearest
from reprolib.judging.quantities import conditions, is_of_pairs, without_variant
from reprolib.measures.verdict_rule import DIRECTIONS

SCALE_NAMES = ("smoke", "laptop", "cifar", "gpu", "imagenet")
NETWORK_CONTROLS = ("gauss", "blur", "std_matched", "untrained")
PAIRED = ("alike", "unlike")  # statistics of pairs of networks
STATISTICS = ("difference", "level", "slope", *PAIRED)
RESAMPLING = {"hidden unit": "independent"}  # these do not correspond between networks; all other units do
UNREACHED = ("value", "zero")


@dataclass(frozen=True)
class Contrast:
    """One number to estimate from rows, with what it is held against.

    difference: last arm minus first; level: the one arm minus `reference`; slope: over `levels`, one an arm; alike: a network
    of the first arm with one of the second (which may be the same arm) and of another seed, minus `reference`; unlike: that,
    minus the lower of the same inside either arm.
    unreached "zero": a comparison in which a network did not reach its target counts 0; "value": the row's value stands.
    smallest_effect is in the quantity's units, or a share of the first arm's value where `relative`. scales: where it is asked,
    absent for all. shown: it does not decide, whatever the rule.
    """

    name: str
    claim: str
    quantity: str
    statistic: str
    arms: tuple[str, ...]
    direction: str
    smallest_effect: float
    relative: bool = False
    levels: tuple[float, ...] = ()
    reference: float = 0.0
    unreached: str = "value"
    joint: bool = True
    scales: tuple[str, ...] = ()
    shown: bool = False


@dataclass(frozen=True)
class Claim:
    """One entry of claims.toml; the fields are explained at the head of this module."""

    id: str
    finding: str
    paper: str
    statement: str
    primary: str
    parts: tuple[Contrast, ...]
    arms: tuple[str, ...]
    statistic: str
    direction: str
    unit: str
    smallest_effect: float
    smallest_effect_reason: str
    required_at: tuple[str, ...]
    controls: tuple[str, ...]
    deviations: str
    version: int
    reference: str = ""
    relative: bool = False
    rule: str = "primary"
    rows_of: str = ""
    levels: tuple[float, ...] = ()
    level_reference: float = 0.0
    unreached: str = "value"
    not_applicable: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    control_rows: str = ""
    own_parts: bool = False

    @property
    def contrast(self) -> Contrast:
        """The primary quantity as a contrast."""
        return Contrast(
            name=self.primary,
            claim=self.rows_of or self.id,
            quantity=self.primary,
            statistic=self.statistic,
            arms=self.arms,
            direction=self.direction,
            smallest_effect=self.smallest_effect,
            relative=self.relative,
            levels=self.levels,
            reference=self.level_reference,
            unreached=self.unreached,
            joint=RESAMPLING.get(self.unit, "joint") == "joint",
        )

    def frozen_sha256(self) -> str:
        """Hash of what must not change without a new version: what is measured, on whom, and what would count."""
        parts = [part for part in self.parts if self.rule == "all" and (self.own_parts or not part.shown)]
        contrasts = [asdict(one) for one in (self.contrast, *parts)]
        contrasts = [{key: value for key, value in one.items() if value or key not in ("scales", "shown")} for one in contrasts]
        waived = {scale: sorted(roles) for scale, roles in self.not_applicable.items()}
        frozen = [[{**one, "name": ""} for one in contrasts], self.rule, self.unit, sorted(self.controls), waived]
        later = {key: value for key, value in (("control_rows", self.control_rows), ("own_parts", self.own_parts)) if value}
        return _sha256([*frozen, *([later] if later else [])])  # fields of later entries leave the hashes of earlier ones alone


def load_claims(finding: str | None = None, path: str | os.PathLike[str] | None = None) -> dict[str, Claim]:
    """The claims by id, in the file's order; of one finding only where it is named.

    Raises BadInput, naming the claim, the field and the cure, for an unknown or missing field, a duplicate id, a value
    that is not allowed, or a control or part that names nothing.
    """
    entries, claims = _entries(path), {}
    for entry in entries:
        claim = _claim(entry)
        if claim.id in claims:
            raise BadInput(f"claims.toml has two entries with id {claim.id!r}: give one of them another id")
        claims[claim.id] = claim
    for entry in entries:
        claim = claims[entry["id"]]
        claims[claim.id] = replace(claim, parts=_parts(claim, entry["parts"], claims))
    for claim in claims.values():
        _check_names(claim, claims)
    if finding is None:
        return claims
    found = {claim.id: claim for claim in claims.values() if claim.finding == finding}
    if not found:
        known = sorted({claim.finding for claim in claims.values()})
        raise BadInput(f"finding={finding!r} has no claims; allowed: {', '.join(known)}{nearest(finding, known)}")
    return found


def claims_sha256(finding: str | None = None, path: str | os.PathLike[str] | None = None) -> str:
    """Hash of the entries of claims.toml: of all, or of one finding's (so that adding a finding leaves the others' results valid).

    Comments and layout do not count.
    """
    return _sha256([entry for entry in _entries(path) if finding is None or entry.get("finding") == finding])


def _entries(path: str | os.PathLike[str] | None) -> list[dict[str, Any]]:
    """The entries of one file, or of every finding's claims.toml, each with its finding."""
    if path is None:
        return [
            {**entry, "finding": finding}
            for finding in registry.findings()
            for entry in _entries(registry.FOLDER / finding / "claims.toml")
        ]
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingData(f"{path} is not there: it is part of the package, install reprolib again") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path.name} is not valid TOML: {error}") from error
    unknown = set(content) - {"claim"}
    if unknown:
        raise BadInput(f"{path.name} has an unknown table {sorted(unknown)[0]!r}: every entry is a [[claim]]")
    return list(content.get("claim", []))


def _claim(entry: Mapping[str, Any]) -> Claim:
    """An entry without its parts, which may name later entries."""
    name = entry.get("id", "(an entry without id)")
    allowed = {one.name: one for one in fields(Claim)}
    for key in entry:
        if key not in allowed:
            raise BadInput(f"claims.toml, {name}: unknown field {key!r}{nearest(key, allowed)}; allowed: {', '.join(allowed)}")
    for key, one in allowed.items():
        if key not in entry and one.default is MISSING and one.default_factory is MISSING:
            raise BadInput(f"claims.toml, {name}: field {key!r} is missing: add it")
    if not isinstance(entry["parts"], list):
        raise BadInput(f"claims.toml, {name}: parts = {entry['parts']!r} is not a list")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    claim = Claim(**{**values, "parts": ()})
    _check_values(claim)
    return claim


def _parts(claim: Claim, parts: Sequence[str | Mapping[str, Any]], claims: Mapping[str, Claim]) -> tuple[Contrast, ...]:
    """A part is the name of a quantity, or a table that changes the contrast of its claim (or of the claim it names)."""
    allowed = [one.name for one in fields(Contrast) if one.name != "joint"]
    contrasts: dict[str, Contrast] = {}
    for part in parts:
        given: dict[str, Any] = {"quantity": part} if isinstance(part, str) else dict(part)
        for key in given:
            if key not in allowed:
                message = f"claims.toml, {claim.id}: unknown field {key!r} in a part{nearest(key, allowed)}"
                raise BadInput(f"{message}; allowed: {', '.join(allowed)}")
        other = given.pop("claim", claim.id)
        _check_choice(claim.id, "a part's claim", other, tuple(claims))
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        base = claims[other].contrast
        contrast = replace(base, **{"name": given.get("quantity", base.name), **given})
        _check_contrast(claim.finding, claim.id, contrast)
        if contrast.name in contrasts:
            raise BadInput(f"claims.toml, {claim.id}: two parts are called {contrast.name!r}: give one of them a name of its own")
        contrasts[contrast.name] = contrast
    return tuple(contrasts.values())


def _check_values(claim: Claim) -> None:
    number = (int, float)
    types: dict[str, type | tuple[type, ...]] = {"version": int, "smallest_effect": number, "level_reference": number, "relative": bool}
    types["own_parts"] = bool
    types |= {"arms": tuple, "required_at": tuple, "controls": tuple, "levels": tuple, "parts": tuple, "not_applicable": dict}
    for one in fields(Claim):
        value = getattr(claim, one.name)
        wanted = types.get(one.name, str)
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise BadInput(
                f"claims.toml, {claim.id}: {one.name} = {value!r} is of the wrong type; see the head of reprolib/judging/ledger.py"
            )
    for text in ("id", "finding", "paper", "statement", "primary", "unit", "smallest_effect_reason"):
        if not getattr(claim, text).strip():
            raise BadInput(f"claims.toml, {claim.id}: {text} is empty: fill it in")
    if claim.version < 1:
        raise BadInput(f"claims.toml, {claim.id}: version = {claim.version}: versions count from 1")
    _check_choice(claim.id, "rule", claim.rule, ("primary", "all"))
    for scale in claim.required_at:
        _check_choice(claim.id, "required_at", scale, SCALE_NAMES[1:])
    for scale in claim.not_applicable:
        _check_choice(claim.id, "not_applicable", scale, SCALE_NAMES)
    _check_contrast(claim.finding, claim.id, claim.contrast)


def _check_contrast(finding: str, name: str, contrast: Contrast) -> None:
    _check_choice(name, "statistic", contrast.statistic, STATISTICS)
    _check_choice(name, "direction", contrast.direction, DIRECTIONS)
    _check_choice(name, "unreached", contrast.unreached, UNREACHED)
    if not contrast.smallest_effect >= 0:
        raise BadInput(f"claims.toml, {name}: smallest_effect = {contrast.smallest_effect} is negative: the direction carries the sign")
    for scale in contrast.scales:
        _check_choice(name, "scales", scale, SCALE_NAMES[1:])
    if (contrast.statistic in PAIRED) != is_of_pairs(finding, contrast.quantity):
        of = "two networks: alike or unlike" if contrast.statistic not in PAIRED else "one network"
        raise BadInput(f"claims.toml, {name}: statistic {contrast.statistic} of {contrast.name}: {contrast.quantity} is of {of}")
    wanted = {"level": 1, "slope": len(contrast.levels)}.get(contrast.statistic, 2)
    if len(contrast.arms) != wanted or (contrast.statistic == "slope" and wanted < 2):
        raise BadInput(
            f"claims.toml, {name}: {contrast.statistic} of {contrast.name} has {len(contrast.arms)} arms and {len(contrast.levels)} "
            "levels; a difference, alike and unlike take 2 arms, a level 1, a slope as many as it has levels (at least 2)"
        )


def _check_names(claim: Claim, claims: Mapping[str, Claim]) -> None:
    known = (*conditions(claim.finding), *NETWORK_CONTROLS, *(other for other in claims if other != claim.id))
    for control in claim.controls:
        _check_choice(claim.id, "controls", control, known)
    if claim.statistic == "slope" and set(claim.controls) & set(NETWORK_CONTROLS):
        raise BadInput(f"claims.toml, {claim.id}: a trend has no comparison arm for a network control to stand in for")
    decides = [part for part in claim.parts if not part.shown] if claim.rule == "all" else [claim.contrast]
    stands = any(replace(part, name=claim.primary) == claim.contrast for part in decides)
    if set(claim.controls) & set(NETWORK_CONTROLS) and (not stands or claim.direction == "inside"):
        raise BadInput(f'claims.toml, {claim.id}: network controls need a primary that decides, and a direction other than "inside"')
    for key in ("rows_of", "control_rows"):
        if getattr(claim, key):
            _check_choice(claim.id, key, getattr(claim, key), tuple(claims))
    if not decides:
        raise BadInput(f'claims.toml, {claim.id}: rule = "all" decides by its parts: name at least one that is not only shown')
    for part in decides:
        if without_variant(part.quantity).endswith("_shown"):
            raise BadInput(f"claims.toml, {claim.id}: {part.quantity} may be shown, not decide: give it shown = true")


def _check_choice(name: str, key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadInput(f"claims.toml, {name}: {key} = {value!r} is not allowed{nearest(value, allowed)}; allowed: {', '.join(allowed)}")


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
