"""Every claim once, as data: each finding's `claims.toml` read, checked field by field, and hashed.

Entries are committed before the first run that measures them. A changed direction, quantity or smallest_effect (or statistic, arms,
scales, unit, checks, controls, not_applicable) is another claim: raise its version, add its line to tests/findings/<finding>/frozen_claims.json.

id, paper (arXiv), statement (ours); the finding is the folder that the file lies in
quantity         the one that decides: a column of the rows, or one that the finding's judging.py makes of them
statistic        difference: second arm minus first; level: the one arm minus `level_reference`; paired, paired_level: the same where
                 networks go together by design: a pair is an architecture, its seeds averaged, or where there is one architecture a
                 seed; trend: over arms of radius 0, small and main; correlation: over the networks of the arms;
                 of pairs of networks and different seeds: alike: a network of the first arm with one of the second, minus
                 `level_reference`; unlike: that, minus two networks of the arm `within`; within: two networks of the second arm minus two
                 of the first
arms             roles
direction        of the estimate: greater, less, inside (a statement of sameness, smallest_effect is its margin) or not_below
unit             what is resampled; hidden units do not correspond between networks, all others do
smallest_effect  in the quantity's units (relative = true: share of the first arm's value), with its reason
required_at      scales whose committed results must hold a verdict
checks           conditions that what is supported needs: of the finding's judging.py (converged, overfitted), or ids of claims, of which
                 the parts on this claim's own quantity count
controls         networks of which is asked whether they do the same: roles, ids of claims, or controls of the finding's judging.py
parts            shown beside: a quantity, or a table that changes the contrast (claim = "INV-4" starts from that entry's contrast).
                 With rule = "all" they decide, every one that has not shown = true and is asked at the scale (scales = [...])
rows_of          the claim whose rows are read, where it is not the entry's own id
control_rows     the claim whose rows hold control networks, and main arms of their architecture, that its own rows do not
unreached        zero: a comparison counts 0 where a network did not reach its target; value: the row's value stands
not_applicable   scale -> {role = "why"}; outside the entries: of every entry that has the control
deviations       from the paper's protocol
reference        a verified number of the paper, absent where there is none
version          counts from 1

[retired]        ids of entries that are no longer asked, and why; rows may still be kept under them
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
from reprolib.judging.quantities import Correlation, conditions, is_of_pairs, made_of, own_controls, without_variant
from reprolib.measures.effects import DIFFERENCE, HALF_WAY, LEVEL
from reprolib.measures.verdicts import DIRECTIONS

SCALE_NAMES = ("smoke", "laptop", "cifar", "gpu", "imagenet")
NETWORK_CONTROLS = ("gauss", "blur", "label_smoothing", "std_matched", "untrained")
OF_PAIRS = {"alike": LEVEL, "unlike": DIFFERENCE, "within": DIFFERENCE}  # statistics of pairs of networks, with their weights
PAIRED = {"paired_level": LEVEL, "paired": DIFFERENCE, "paired_half_way": HALF_WAY}  # of networks that go together by design
WEIGHTS = {"level": LEVEL, "difference": DIFFERENCE, "half_way": HALF_WAY, **PAIRED}
ARMS = {"level": 1, "trend": 3, "difference": 2, "paired_level": 1, "paired": 2, "alike": 2, "unlike": 2, "within": 2}
STATISTICS = (*ARMS, "correlation")
APART = ("hidden unit",)  # these units do not correspond between networks; all others do
UNREACHED = ("value", "zero")


@dataclass(frozen=True)
class Contrast:
    """One number to estimate from rows, with what it is held against; the fields are those of a claim.

    claim: whose rows are read. within: the arm that the pairs across are held against ("unlike"). reference: what a level is held
    against. joint: whether units correspond between networks. scales: where it is asked, absent for all. shown: it does not decide,
    whatever the rule. robust_arm: the claim's, whose networks must differ from the standard ones. The statistics "half_way" and
    "paired_half_way" are not for claims.toml: a robust, a standard and a control arm, see `controls`.
    """

    name: str
    finding: str
    claim: str
    quantity: str
    statistic: str
    arms: tuple[str, ...]
    direction: str
    smallest_effect: float
    relative: bool = False
    within: str = ""
    reference: float = 0.0
    unreached: str = "value"
    joint: bool = True
    scales: tuple[str, ...] = ()
    shown: bool = False
    robust_arm: str | None = None

    def steps(self) -> dict[str, Contrast]:
        """The three differences of a trend's arms, as `verdicts.trend` takes them, in its order."""
        standard, small, main = self.arms
        pairs = {"main minus standard": (standard, main), "small minus standard": (standard, small), "main minus small": (small, main)}
        return {name: replace(self, name=name, statistic="difference", arms=arms) for name, arms in pairs.items()}


@dataclass(frozen=True)
class Claim:
    """One entry of claims.toml; the fields are explained at the head of this module."""

    id: str
    finding: str
    paper: str
    statement: str
    quantity: str
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
    checks: tuple[str, ...] = ()
    reference: str = ""
    relative: bool = False
    within: str = ""
    rule: str = "one"
    rows_of: str = ""
    level_reference: float = 0.0
    unreached: str = "value"
    not_applicable: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    control_rows: str = ""

    @property
    def contrast(self) -> Contrast:
        """The quantity that decides as a contrast."""
        same = {one.name: getattr(self, one.name) for one in fields(Contrast) if hasattr(self, one.name)}
        own = {"name": self.quantity, "claim": self.rows_of or self.id, "reference": self.level_reference}
        return Contrast(**{**same, **own, "joint": self.unit not in APART})

    @property
    def robust_arm(self) -> str | None:
        """The robust arm that the claim holds against standard networks, or None where it compares no such arms."""
        robust = [arm for arm in self.arms if arm.startswith("robust")]
        if "standard" not in self.arms or not robust or self.statistic == "correlation":
            return None
        return "robust" if "robust" in robust else robust[-1]

    def deciding(self) -> tuple[Contrast, ...]:
        """What decides: the quantity's contrast, or with rule "all" every part that is not only shown."""
        return tuple(part for part in self.parts if not part.shown) if self.rule == "all" else (self.contrast,)

    def frozen_sha256(self) -> str:
        """Hash of what must not change without a new version: what is measured, on whom, and what would count."""
        contrasts = [{**asdict(one), "name": "", "finding": ""} for one in (self.contrast, *self.deciding())]
        for one in contrasts:
            del one["robust_arm"]  # one of the claim's arms
        waived = {scale: sorted(roles) for scale, roles in self.not_applicable.items()}
        frozen = [contrasts, self.rule, self.unit, sorted(self.checks), sorted(self.controls), waived, self.control_rows]
        return _sha256(frozen)


def load_claims(finding: str | None = None, path: str | os.PathLike[str] | None = None) -> dict[str, Claim]:
    """The claims by id, in the file's order; of one finding only where it is named.

    Raises BadInput, naming the claim, the field and the cure, for an unknown or missing field, a duplicate id, a value
    that is not allowed, or a control or part that names nothing.
    """
    (entries, retired), claims = _entries(path), {}
    for entry in entries:
        claim = _claim(entry)
        if claim.id in claims:
            raise BadInput(f"claims.toml has two entries with id {claim.id!r}: give one of them another id")
        claims[claim.id] = claim
    for entry in entries:
        claim = claims[entry["id"]]
        claims[claim.id] = replace(claim, parts=_parts(claim, entry["parts"], claims))
    for claim in claims.values():
        _check_names(claim, claims, retired)
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
    return _sha256([entry for entry in _entries(path)[0] if finding is None or entry.get("finding") == finding])


def _entries(path: str | os.PathLike[str] | None) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The entries of one file, or of every finding's claims.toml, each with its finding; and the ids of those retired."""
    if path is None:
        entries: list[dict[str, Any]] = []
        gone: list[str] = []
        for finding in registry.findings():
            found, retired = _entries(registry.FOLDER / finding / "claims.toml")
            entries += [{**entry, "finding": finding} for entry in found]
            gone += retired
        return entries, tuple(gone)
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingData(f"{path} is not there: it is part of the package, install reprolib again") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path.name} is not valid TOML: {error}") from error
    unknown = set(content) - {"claim", "not_applicable", "retired"}
    if unknown:
        raise BadInput(f"{path.name} has an unknown table {sorted(unknown)[0]!r}: every entry is a [[claim]]")
    entries = [dict(entry) for entry in content.get("claim", [])]
    for scale, roles in content.get("not_applicable", {}).items():
        for entry in entries:
            if own := {role: why for role, why in roles.items() if role in entry.get("controls", [])}:
                waived = dict(entry.get("not_applicable", {}))
                entry["not_applicable"] = {**waived, scale: {**own, **waived.get(scale, {})}}
    return entries, tuple(content.get("retired", {}))


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
    allowed = [one.name for one in fields(Contrast) if one.name not in ("finding", "joint", "robust_arm")]
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
    types |= {**dict.fromkeys(("arms", "required_at", "checks", "controls", "parts"), tuple), "not_applicable": dict}
    for one in fields(Claim):
        value = getattr(claim, one.name)
        wanted = types.get(one.name, str)
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise BadInput(
                f"claims.toml, {claim.id}: {one.name} = {value!r} is of the wrong type; see the head of reprolib/judging/ledger.py"
            )
    for text in ("id", "finding", "paper", "statement", "quantity", "unit", "smallest_effect_reason"):
        if not getattr(claim, text).strip():
            raise BadInput(f"claims.toml, {claim.id}: {text} is empty: fill it in")
    if claim.version < 1:
        raise BadInput(f"claims.toml, {claim.id}: version = {claim.version}: versions count from 1")
    _check_choice(claim.id, "rule", claim.rule, ("one", "all"))
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
    if (contrast.statistic in OF_PAIRS) != is_of_pairs(finding, contrast.quantity):
        of = "two networks: alike, unlike or within" if contrast.statistic not in OF_PAIRS else "one network"
        raise BadInput(f"claims.toml, {name}: statistic {contrast.statistic} of {contrast.name}: {contrast.quantity} is of {of}")
    if (contrast.statistic == "correlation") != isinstance(made_of(finding, contrast.quantity), Correlation):
        what = "a Correlation of its finding's judging.py has statistic correlation, and nothing else has"
        raise BadInput(f"claims.toml, {name}: statistic {contrast.statistic} of {contrast.name}: {what}")
    wanted = ARMS.get(contrast.statistic, len(contrast.arms))
    if len(contrast.arms) != wanted or not contrast.arms:
        raise BadInput(
            f"claims.toml, {name}: {contrast.statistic} of {contrast.name} has {len(contrast.arms)} arms; it takes {wanted or 1}"
        )
    if contrast.statistic in PAIRED and contrast.unreached == "zero":
        raise BadInput(f"claims.toml, {name}: {contrast.statistic} of {contrast.name} needs unreached = 'value': 'zero' knows no pairs")
    if contrast.statistic == "unlike":
        _check_choice(name, "within", contrast.within, contrast.arms)


def _check_names(claim: Claim, claims: Mapping[str, Claim], retired: Sequence[str]) -> None:
    others = tuple(other for other in claims if other != claim.id)
    for check in claim.checks:
        _check_choice(claim.id, "checks", check, (*conditions(claim.finding), *others))
    for control in claim.controls:
        _check_choice(claim.id, "controls", control, (*NETWORK_CONTROLS, *own_controls(claim.finding), *others))
    has_arms = (
        claim.robust_arm is not None and claim.statistic in ("difference", "paired", "unlike") and claim.direction in ("greater", "less")
    )
    if set(claim.controls) & set(NETWORK_CONTROLS) and not has_arms:
        what = "a difference between a robust and the standard arm, greater or less"
        raise BadInput(f"claims.toml, {claim.id}: control networks lie between two arms: they need {what}")
    for key in ("rows_of", "control_rows"):
        if getattr(claim, key):
            _check_choice(claim.id, key, getattr(claim, key), (*claims, *retired))
    if not claim.deciding():
        raise BadInput(f'claims.toml, {claim.id}: rule = "all" decides by its parts: name at least one that is not only shown')
    for part in claim.deciding():
        if without_variant(part.quantity).endswith("_shown"):
            raise BadInput(f"claims.toml, {claim.id}: {part.quantity} may be shown, not decide: give it shown = true")


def _check_choice(name: str, key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadInput(f"claims.toml, {name}: {key} = {value!r} is not allowed{nearest(value, allowed)}; allowed: {', '.join(allowed)}")


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
