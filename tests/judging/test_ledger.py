from __future__ import annotations

import json
from pathlib import Path

import pytest
from planting import LEDGER

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
        ('primary = "distance"', 'primary = "other quantity"', ["A"]),
        ("smallest_effect = 0.05", "smallest_effect = 0.02", ["A"]),
        ('controls = ["gauss"]', "controls = []", []),
        ('[[claim]]\nid = "S"', '[claim.not_applicable.laptop]\ngauss = "inconvenient"\n\n[[claim]]\nid = "S"', []),
        ('primary = "distance"', 'own_parts = true\nprimary = "distance"', []),
        ('primary = "distance"', 'control_rows = "S"\nprimary = "distance"', []),
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
    before = load_claims(path=ledger(tmp_path))["D"].frozen_sha256()
    after = load_claims(path=ledger(tmp_path, "A difference: lower", "A difference, lower"))["D"].frozen_sha256()
    assert after == before


@pytest.mark.parametrize(
    ("old", "new"), [('gauss", claim', 'gauss", scales = ["gpu"], claim'), ('gauss", claim', 'gauss", shown = true, claim')]
)
def test_a_part_that_no_longer_decides_everywhere_makes_another_claim(tmp_path: Path, old: str, new: str) -> None:
    before = load_claims(path=ledger(tmp_path))["A"].frozen_sha256()
    assert load_claims(path=ledger(tmp_path, old, new))["A"].frozen_sha256() != before
    leaned_on = (
        ledger(tmp_path, 'gauss", claim', 'gauss", shown = true, claim')
        .read_text()
        .replace('rule = "all"', 'rule = "all"\nown_parts = true')
    )
    path = tmp_path / "claims.toml"
    path.write_text(leaned_on)
    one = load_claims(path=path)["A"].frozen_sha256()
    path.write_text(leaned_on.replace('arms = ["gauss", "robust"]', 'arms = ["blur", "robust"]', 1))
    assert load_claims(path=path)["A"].frozen_sha256() != one  # another claim's control may rest on a part that is only shown
    shown = ('parts = ["other"]', 'parts = [{ quantity = "other", shown = true, scales = ["gpu"] }]')  # D decides by its primary
    assert load_claims(path=ledger(tmp_path, *shown))["D"].frozen_sha256() == load_claims(path=ledger(tmp_path))["D"].frozen_sha256()


def test_rule_all_with_parts_that_are_only_shown_is_refused(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    text = path.read_text()
    for name in ("distance, gauss", "distance, std_matched", "recognised, gauss"):
        text = text.replace(f'name = "{name}",', f'name = "{name}", shown = true,')
    path.write_text(text)
    with pytest.raises(BadInput, match="decides by its parts: name at least one that is not only shown"):
        load_claims(path=path)


def test_hash_of_a_finding_ignores_layout_and_other_findings(tmp_path: Path) -> None:
    before, everything = claims_sha256("planted", ledger(tmp_path)), claims_sha256(path=ledger(tmp_path))
    path = ledger(tmp_path)
    other = LEDGER.split("[[claim]]")[1].replace('"planted"', '"another"', 1).replace('id = "D"', 'id = "X"')
    path.write_text("# a remark\n" + LEDGER + "\n[[claim]]" + other)
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
        ('arms = ["standard", "robust"]', 'arms = ["robust"]', "difference of distance has 1 arms"),
        ("levels = [0.0, 0.5, 1.0]", "levels = [0.0, 1.0]", "slope of distance has 3 arms and 2 levels"),
        ("smallest_effect = 0.05", "smallest_effect = -0.05", "is negative: the direction carries the sign"),
        ("smallest_effect = 0.05", 'smallest_effect = "small"', "smallest_effect = 'small' is of the wrong type"),
        ("version = 1", "version = true", "version = True is of the wrong type"),
        ("version = 1", "version = 0", "versions count from 1"),
        ('smallest_effect_reason = "planted"', 'smallest_effect_reason = ""', "smallest_effect_reason is empty"),
        ('required_at = ["laptop"]', 'required_at = ["smoke"]', "required_at = 'smoke' is not allowed"),
        ('controls = ["gauss"]', 'controls = ["gaus"]', "controls = 'gaus' is not allowed; did you mean 'gauss'"),
        ('controls = ["gauss"]', 'controls = ["D"]', "controls = 'D' is not allowed"),
        ('controls = ["converged"]', 'controls = ["gauss"]', "T: a trend has no comparison arm"),
        ('direction = "less"', 'direction = "inside"', 'network controls need a primary that decides, and a direction other than "inside"'),
        ('controls = ["converged"]\nparts = [\n', 'controls = ["gauss"]\nparts = [\n', "A: network controls need a primary that decides"),
        ('statistic = "difference"', 'statistic = "unlike"', "D: statistic unlike of distance: distance is of one network"),
        ('parts = ["other"]', 'parts = ["same_depth_mean"]', "same_depth_mean is of two networks: alike or unlike"),
        ('name = "distance, gauss",', 'name = "distance, gauss", scales = ["smoke"],', "A: scales = 'smoke' is not allowed"),
        (
            'name = "distance, gauss",',
            'name = "distance, gauss", quantity = "stage_contrast_shown",',
            "may be shown, not decide: give it shown = true",
        ),
        ('rows_of = "D"', 'control_rows = "Q"', "control_rows = 'Q' is not allowed"),
        ('rows_of = "D"', "own_parts = 1", "own_parts = 1 is of the wrong type"),
        ('rule = "all"', 'rule = "any"', "rule = 'any' is not allowed"),
        ('rows_of = "D"', 'rows_of = "Q"', "rows_of = 'Q' is not allowed"),
        ('claim = "D", arms', 'claim = "Q", arms', "a part's claim = 'Q' is not allowed"),
        ('claim = "D", arms', 'claims = "D", arms', "unknown field 'claims' in a part; did you mean 'claim'"),
        ('name = "distance, std_matched"', 'name = "distance, gauss"', "two parts are called 'distance, gauss'"),
        ('parts = ["other"]', 'parts = "other"', "parts = 'other' is not a list"),
        ("[claim.not_applicable.gpu]", "[claim.not_applicable.desktop]", "not_applicable = 'desktop' is not allowed"),
        ("[[claim]]", "[surprise]\n[[claim]]", "unknown table 'surprise'"),
        ("[[claim]]", "[[claim]", "is not valid TOML"),
    ],
)
def test_a_ledger_that_is_not_in_order_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_claims(path=ledger(tmp_path, old, new))


def test_rule_all_without_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    difference = LEDGER.split("[[claim]]")[1].replace('["other"]', "[]").replace('["gauss"]', "[]")
    path.write_text('[[claim]]\nrule = "all"' + difference)
    with pytest.raises(BadInput, match="decides by its parts: name at least one"):
        load_claims(path=path)


def test_a_ledger_that_is_not_there_and_a_finding_without_claims_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="claims.toml is not there"):
        load_claims(path=tmp_path / "claims.toml")
    with pytest.raises(BadInput, match="finding='planed' has no claims; allowed: planted; did you mean 'planted'"):
        load_claims("planed", ledger(tmp_path))
