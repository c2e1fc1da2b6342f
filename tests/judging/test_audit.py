from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from planting import converged, good_cards, judge_finding, plant, together

from reprolib import store
from reprolib.errors import CorruptFile, MissingData
from reprolib.judging.audit import audit, read_results, strict
from reprolib.judging.ledger import claims_sha256
from reprolib.judging.tidy import read_rows, write_rows


def inversions(robust: float = 0.5) -> pd.DataFrame:
    levels = {"standard": [0.9, 0.91, 0.905], "robust": [robust, robust + 0.01]}
    levels |= {arm: [0.9, 0.91] for arm in ("gauss", "blur", "std_matched", "untrained")}
    return together(plant("INV-2", "distance_ratio", levels), converged(), good_cards())


def commit(folder: Path, rows: pd.DataFrame) -> Path:
    write_rows(folder / "rows.csv.gz", rows)
    entries = judge_finding("invertibility", rows, "laptop")
    results = {"finding": "invertibility", "scale": "laptop", "claims": entries, "claims_sha256": claims_sha256("invertibility")}
    store.write_json(folder / "results.json", results)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return commit(tmp_path / "laptop", inversions())


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    results = json.loads((folder / "results.json").read_text())
    change(results)
    store.write_json(folder / "results.json", results)


def test_committed_verdicts_follow_from_committed_rows(folder: Path) -> None:
    assert audit(folder) == []


def test_one_altered_row_makes_the_audit_fail(folder: Path) -> None:
    rows = read_rows(folder / "rows.csv.gz")
    which = rows.index[(rows["claim"] == "INV-2") & (rows["arm"] == "robust")][5]
    rows.loc[which, "value"] += 0.01
    write_rows(folder / "rows.csv.gz", rows)
    lines = audit(folder)
    assert any(line.startswith("laptop/invertibility INV-2: estimate is ") for line in lines)
    assert any("INV-2: networks.robust." in line for line in lines)
    assert any("INV-2: controls[2].share is " in line for line in lines)


@pytest.mark.parametrize(
    ("claim", "arm", "line"),
    [("networks", "robust", "INV-2: verdict is 'supported'"), ("INV-2", "gauss", "INV-2: controls[2].share is ")],
)
def test_an_altered_card_or_control_makes_the_audit_fail(folder: Path, claim: str, arm: str, line: str) -> None:
    rows = read_rows(folder / "rows.csv.gz")
    rows.loc[(rows["claim"] == claim) & (rows["arm"] == arm), "value"] *= 0.3
    write_rows(folder / "rows.csv.gz", rows)
    assert any(line in found for found in audit(folder))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r["claims"][1].update(verdict="negligible"), "INV-2: verdict is 'negligible', the rows give 'supported'"),
        (lambda r: r["claims"][1].update(specificity="open (untrained)"), "specificity is 'open (untrained)', the rows give 'specific'"),
        (lambda r: r["claims"][1].update(low=-0.5), "INV-2: low is -0.5, the rows give"),
        (lambda r: r["claims"][1].update(n=25), "INV-2: n is 25, the rows give 24"),
        (lambda r: r["claims"][1].update(reason="because"), "INV-2: reason is 'because'"),
        (lambda r: r["claims"][1]["controls"][2].update(state="open"), "INV-2: controls[2].state is 'open', the rows give 'ruled out'"),
        (lambda r: r["claims"][1]["networks"].pop("robust"), "INV-2: networks.robust is None, the rows give"),
        (lambda r: r["claims"].pop(), "INV-9: is in claims.toml but not in results.json"),
        (lambda r: r["claims"].append({"id": "INV-11", "specificity": ""}), "INV-11: is in results.json but not in claims.toml"),
        (lambda r: r.update(claims_sha256="0" * 64), "judged by claims 000000000000, claims.toml is now"),
    ],
)
def test_whatever_is_altered_in_the_results_is_listed(folder: Path, change: Callable[[dict[str, Any]], object], line: str) -> None:
    rewrite(folder, change)
    lines = audit(folder)
    assert len(lines) == 1
    assert line in lines[0]


def test_the_last_digit_is_no_difference(folder: Path) -> None:
    rewrite(folder, lambda r: r["claims"][1].update(estimate=r["claims"][1]["estimate"] * (1 + 2e-6)))
    assert audit(folder) == []


def test_rows_that_cannot_be_judged_are_a_difference(folder: Path) -> None:
    rows = read_rows(folder / "rows.csv.gz")
    cut = (rows["claim"] == "INV-2") & (rows["arm"] == "robust") & (rows["unit"] == "target_003")
    write_rows(folder / "rows.csv.gz", rows[~cut])
    assert "the rows cannot be judged: INV-2, distance_ratio: unit target_003" in audit(folder)[0]


def test_strict_lists_required_claims_that_were_not_run(folder: Path) -> None:
    lines = strict(folder)
    assert "laptop/invertibility INV-4: required, but not run (not measured)" in lines
    assert not any("INV-2:" in line for line in lines)


def test_strict_lists_figures_that_nobody_looked_at_or_only_with_other_rows(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    before = strict(folder)
    results["figures"] = [{"name": name, "rows": "abc"} for name in ("looked_at", "of_other_rows", "new")]
    store.write_json(folder / "results.json", results)
    (folder / "seen.toml").write_text('[looked_at]\nrows = "abc"\ntext = "A plane."\n\n[of_other_rows]\nrows = "def"\ntext = "A car."\n')
    lines = [line for line in strict(folder) if line not in before]
    assert lines == [
        "laptop/invertibility figure of_other_rows: what is seen in it is stale in seen.toml (rows abc)",
        "laptop/invertibility figure new: what is seen in it is missing in seen.toml (rows abc)",
    ]


def test_strict_lists_answers_that_changed(folder: Path, tmp_path: Path) -> None:
    changed = commit(tmp_path / "now", inversions(robust=0.9))
    new = [line for line in strict(changed, committed=read_results(folder)) if line not in strict(changed)]
    assert "laptop/invertibility INV-2: negligible, committed as supported, specific" in new
    assert strict(folder, committed=read_results(folder)) == strict(folder)
    rewrite(changed, lambda r: r["claims"].pop())
    assert any(
        line.startswith("laptop/invertibility INV-9: absent, committed as") for line in strict(changed, committed=read_results(folder))
    )


def test_results_of_an_older_rule_are_not_read(tmp_path: Path) -> None:
    older = commit(tmp_path / "older", inversions())
    rewrite(older, lambda r: [entry.pop("specificity") for entry in r["claims"]])
    with pytest.raises(CorruptFile, match="one answer to INV-1 where there are two: it was judged by an older rule"):
        audit(older)


def test_results_that_are_missing_or_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="results.json is not there"):
        audit(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(CorruptFile, match="is not valid JSON"):
        audit(tmp_path)
    (tmp_path / "results.json").write_text('{"finding": "invertibility"}')
    with pytest.raises(CorruptFile, match="has no 'scale'"):
        strict(tmp_path)
