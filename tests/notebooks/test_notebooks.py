"""Whatever the finding: its notebook runs through at scale smoke, judges every claim of its ledger, and draws and describes each figure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from reprolib import parameters, registry
from reprolib.judging.audit import audit
from reprolib.judging.claims import judge_finding
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import load_claims
from reprolib.judging.tidy import read_rows

Executed = tuple[nbformat.NotebookNode, Path]
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=registry.findings())
def executed(request: pytest.FixtureRequest, smoke_run: Callable[[str], Executed]) -> Executed:
    return smoke_run(request.param)


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_every_figure_is_drawn_saved_and_described(executed: Executed) -> None:
    notebook, folder = executed
    figures = results_of(folder)["figures"]
    at_once = [
        f"\n{cell.source}".count("\nstudy.figure(") for cell in notebook.cells
    ]  # the others are drawn where there is something to draw
    all_told = [cell.source.count("study.figure(") for cell in notebook.cells]
    assert len(figures) == len({figure["name"] for figure in figures})
    assert sum(at_once) + 1 <= len(figures) <= sum(all_told) + 1  # the verdicts are the library's
    for figure in figures:
        assert figure["caption"]
        assert figure["failure"]
        assert all((folder / file).stat().st_size > 1000 for file in figure["files"])
    for cell, least, most in zip(notebook.cells, at_once, all_told, strict=True):
        shown = len([output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})])
        assert least <= shown - ("study.finish(" in cell.source) <= most


def test_every_claim_is_judged_once_by_name_and_proves_nothing_at_smoke(executed: Executed) -> None:
    notebook, folder = executed
    assert audit(folder) == []
    results = results_of(folder)
    ledger = load_claims(results["finding"])
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert all(code.count(f'study.claim("{claim}")') <= 1 for claim in ledger)
    assert [claim["id"] for claim in results["claims"]] == list(ledger)
    assert not any(claim["required"] for claim in results["claims"])
    assert all("smoke: not evidence" in claim["reason"] for claim in results["claims"])
    assert any(claim["estimate"] is not None for claim in results["claims"])
    assert results["measured"] == "yes"
    assert str(ROOT) not in json.dumps(results)


def test_a_readers_own_network_is_measured_and_no_verdict_knows_it(executed: Executed) -> None:
    notebook, folder = executed
    if "checkpoint" not in parameters.of(results_of(folder)["finding"]):
        pytest.skip("this finding takes no network of a reader's")
    mine, rows, results = pd.read_csv(folder / "mine.csv"), read_rows(folder / "rows.csv.gz"), results_of(folder)
    asks_for_labels = results["finding"] == "shape_bias"  # at this scale of 4 classes, of which the network has 10
    assert set(mine["arm"]) == (set() if asks_for_labels else {"mine"})
    assert "mine" not in set(rows["arm"])
    again = judge_finding(results["finding"], Evidence(rows, "smoke", is_rounded=True))
    assert json.dumps(results["claims"]) == json.dumps(again)
    assert re.search(r"mine( minus standard)?, in no verdict: ", nbformat.writes(notebook))


def test_a_headless_run_makes_no_widget_and_says_so(executed: Executed) -> None:
    text = nbformat.writes(executed[0])
    assert "widgets" not in executed[0].metadata
    assert "widget-view" not in text
    assert "explorer: nobody is watching" in text


@pytest.mark.parametrize("finding", registry.notebooks())
def test_a_notebook_can_be_read_in_one_sitting(finding: str) -> None:
    cells = nbformat.read(ROOT / "notebooks" / f"{finding}.ipynb", as_version=4).cells
    code = [cell.source.splitlines() for cell in cells if cell.cell_type == "code"]
    assert len(cells) <= 28
    assert len(code) <= 14
    assert max(map(len, code)) <= 20  # with what a cell imports, and a figure's caption
