from __future__ import annotations

import json
from pathlib import Path

import pytest
from planting import LEDGER, entry

from reprolib import registry
from reprolib.errors import BadInput, MissingData
from reprolib.judging.ledger import Claim, claims_sha256, load_claims

FROZEN = sorted((Path(__file__).parent.parent / "findings").glob("*/frozen_claims.json"))


def ledger(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in LEDGER
    path = folder / "claims.toml"
    path.write_text(LEDGER.replace(old, new, 1) if old else LEDGER)
    return path


def thawed(claims: dict[str, Claim], frozen: dict[str, str]) -> list[str]:
    """What must be done about claims whose deciding fields are not those frozen under their version."""
    return [
        f"{claim.id} version {claim.version} is not what was frozen: a changed quantity, arm, direction, smallest effect, unit or "
        f"control is another claim. Raise its version in claims.toml and add "
        f'"{claim.id} v{claim.version + (f"{claim.id} v{claim.version}" in frozen)}": "{claim.frozen_sha256()}" to {claim.finding}/frozen_claims.json'
        for claim in claims.values()
        if frozen.get(f"{claim.id} v{claim.version}") != claim.frozen_sha256()
    ]


def test_every_claim_is_the_one_frozen_under_its_version() -> None:
    assert {path.parent.name for path in FROZEN} == set(registry.findings())
    assert thawed(load_claims(), {name: frozen for path in FROZEN for name, frozen in json.loads(path.read_text()).items()}) == []


@pytest.mark.parametrize(
    ("old", "new", "with_it"),
    [
        ('direction = "less"', 'direction = "greater"', ["A"]),  # the parts of A are made from D's own contrast
        ('quantity = "distance"', 'quantity = "other quantity"', ["A"]),
        ("smallest_effect = 0.05", "smallest_effect = 0.02", ["A"]),
        ('controls = ["gauss"]', "controls = []", []),
        ('controls = ["gauss"]', 'controls = ["gauss"]\nchecks = ["S"]', []),
        ('controls = ["gauss"]', 'controls = ["gauss"]\nnot_applicable = { laptop = { gauss = "inconvenient" } }', []),
        ('quantity = "distance"', 'control_rows = "S"\nquantity = "distance"', []),
    ],
)
def test_a_changed_claim_needs_a_new_version(tmp_path: Path, old: str, new: str, with_it: list[str]) -> None:
    frozen = {f"{claim.id} v{claim.version}": claim.frozen_sha256() for claim in load_claims(path=ledger(tmp_path)).values()}
    changed = load_claims(path=ledger(tmp_path, old, new))
    lines = thawed(changed, frozen)
    assert [line.split(" version")[0] for line in lines] == ["D", *with_it]
    assert lines[0].startswith("D version 1 is not what was frozen")
    assert f'"D v2": "{changed["D"].frozen_sha256()}"' in lines[0]
    path = ledger(tmp_path, old, new)
    for claim in ["D", *with_it]:
        before, after = path.read_text().split(f'id = "{claim}"')
        path.write_text(before + f'id = "{claim}"' + after.replace("version = 1", "version = 2", 1))
        frozen[f"{claim} v2"] = changed[claim].frozen_sha256()
    assert thawed(load_claims(path=path), frozen) == []


def test_wording_may_change_without_a_new_version(tmp_path: Path) -> None:
    before = load_claims(path=ledger(tmp_path))
    after = load_claims(path=ledger(tmp_path, '"D: planted."', '"D, planted"'))
    assert after["D"].frozen_sha256() == before["D"].frozen_sha256()
    renamed = load_claims(path=ledger(tmp_path, 'name = "distance"', 'name = "another name"'))
    assert renamed["A"].frozen_sha256() == before["A"].frozen_sha256()


@pytest.mark.parametrize("new", ['claim = "S", scales = ["gpu"]', 'claim = "S", shown = true'])
def test_a_part_that_no_longer_decides_everywhere_makes_another_claim(tmp_path: Path, new: str) -> None:
    before = load_claims(path=ledger(tmp_path))["A"].frozen_sha256()
    assert load_claims(path=ledger(tmp_path, 'claim = "S"', new))["A"].frozen_sha256() != before


def test_rule_all_with_parts_that_are_only_shown_is_refused(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    text = path.read_text()
    for claim in ("D", "S"):
        text = text.replace(f'claim = "{claim}" }}', f'claim = "{claim}", shown = true }}')
    path.write_text(text)
    with pytest.raises(BadInput, match="decides by its parts: name at least one that is not only shown"):
        load_claims(path=path)


def test_what_is_not_applicable_is_said_once_for_all_entries_that_have_the_control(tmp_path: Path) -> None:
    claims = load_claims(path=ledger(tmp_path))
    assert claims["D"].not_applicable == claims["A"].not_applicable == {"gpu": {"gauss": "no such network here"}}
    assert claims["L"].not_applicable == claims["T"].not_applicable == {}


def test_rows_may_be_kept_under_an_entry_that_is_retired(tmp_path: Path) -> None:
    text = LEDGER.replace('rows_of = "D"', 'rows_of = "OLD"') + '[retired]\nOLD = "asked elsewhere"\n'
    path = tmp_path / "claims.toml"
    path.write_text(text)
    claims = load_claims(path=path)
    assert claims["A"].contrast.claim == "OLD"
    assert "OLD" not in claims


def test_hash_of_a_finding_ignores_layout_and_other_findings(tmp_path: Path) -> None:
    before, everything = claims_sha256("planted", ledger(tmp_path)), claims_sha256(path=ledger(tmp_path))
    path = ledger(tmp_path)
    other = entry("X", "distance", finding='"another"')
    path.write_text("# a remark\n" + other + LEDGER)
    assert claims_sha256("planted", path) == before
    assert claims_sha256(path=path) != everything
    assert claims_sha256("planted", ledger(tmp_path, "smallest_effect = 0.05", "smallest_effect = 0.06")) != before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("direction = ", "dirrection = ", "D: unknown field 'dirrection'; did you mean 'direction'"),
        ('unit = "target"\n', "", "D: field 'unit' is missing: add it"),
        ('id = "S"', 'id = "D"', "two entries with id 'D'"),
        ('direction = "less"', 'direction = "lesser"', "D: direction = 'lesser' is not allowed; did you mean 'less'"),
        ('statistic = "difference"', 'statistic = "ratio"', "statistic = 'ratio' is not allowed"),
        ('arms = ["standard", "robust"]', 'arms = ["robust"]', "difference of distance has 1 arms; it takes 2"),
        ('arms = ["standard", "robust_small", "robust"]', 'arms = ["standard", "robust"]', "trend of distance has 2 arms; it takes 3"),
        ("smallest_effect = 0.05", "smallest_effect = -0.05", "is negative: the direction carries the sign"),
        ("smallest_effect = 0.05", 'smallest_effect = "small"', "smallest_effect = 'small' is of the wrong type"),
        ("version = 1", "version = true", "version = True is of the wrong type"),
        ("version = 1", "version = 0", "versions count from 1"),
        ('smallest_effect_reason = "planted"', 'smallest_effect_reason = ""', "smallest_effect_reason is empty"),
        ('required_at = ["laptop"]', 'required_at = ["smoke"]', "required_at = 'smoke' is not allowed"),
        ('controls = ["gauss"]', 'controls = ["gaus"]', "controls = 'gaus' is not allowed; did you mean 'gauss'"),
        ('controls = ["gauss"]', 'controls = ["D"]', "controls = 'D' is not allowed"),
        ('checks = ["converged"]', 'checks = ["gauss"]', "checks = 'gauss' is not allowed"),
        ('direction = "less"', 'direction = "inside"', "D: control networks lie between two arms: they need a difference"),
        ('statistic = "difference"', 'statistic = "alike"', "D: statistic alike of distance: distance is of one network"),
        ('statistic = "difference"', 'statistic = "correlation"', "a Correlation of its finding's judging.py has statistic correlation"),
        ('parts = ["other"]', 'parts = ["same_depth_mean"]', "same_depth_mean is of two networks: alike, unlike or within"),
        (
            'parts = ["other"]',
            'parts = [{ quantity = "same_depth_mean", statistic = "unlike" }]',
            "within = '' is not allowed.*; allowed: standard, robust",
        ),
        ('claim = "S" }', 'claim = "S", scales = ["smoke"] }', "A: scales = 'smoke' is not allowed"),
        ('claim = "S" }', 'claim = "S", quantity = "stage_contrast_shown" }', "may be shown, not decide: give it shown = true"),
        ('rows_of = "D"', 'control_rows = "Q"', "control_rows = 'Q' is not allowed"),
        ('rule = "all"', 'rule = "any"', "rule = 'any' is not allowed"),
        ('rows_of = "D"', 'rows_of = "Q"', "rows_of = 'Q' is not allowed"),
        ('claim = "D" }', 'claim = "Q" }', "a part's claim = 'Q' is not allowed"),
        ('claim = "D" }', 'claims = "D" }', "unknown field 'claims' in a part; did you mean 'claim'"),
        ('name = "recognised"', 'name = "distance"', "two parts are called 'distance'"),
        ('parts = ["other"]', 'parts = "other"', "parts = 'other' is not a list"),
        ("[not_applicable.gpu]", "[not_applicable.desktop]", "not_applicable = 'desktop' is not allowed"),
        ("[[claim]]", "[surprise]\n[[claim]]", "unknown table 'surprise'"),
        ("[[claim]]", "[[claim]", "is not valid TOML"),
    ],
)
def test_a_ledger_that_is_not_in_order_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_claims(path=ledger(tmp_path, old, new))


def test_rule_all_without_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(entry("D", "distance", rule='"all"'))
    with pytest.raises(BadInput, match="decides by its parts: name at least one"):
        load_claims(path=path)


def test_a_ledger_that_is_not_there_and_a_finding_without_claims_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="claims.toml is not there"):
        load_claims(path=tmp_path / "claims.toml")
    with pytest.raises(BadInput, match="finding='planed' has no claims; allowed: planted; did you mean 'planted'"):
        load_claims("planed", ledger(tmp_path))
