"""The scorecard's notebook: from rows and verdicts alone, without images or networks, and stale once these change."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from reprolib.judging.audit import audit, comparison_lines

ROOT = Path(__file__).parents[2]
FINDINGS = ("shape_bias", "simplicity_biases")


def test_it_runs_from_rows_alone_and_is_stale_once_these_change(
    tmp_path: Path, run_notebook: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = tmp_path / "figures"
    for finding in FINDINGS:
        (evidence / "cifar" / finding).mkdir(parents=True)
        for name in ("rows.csv.gz", "results.json"):
            shutil.copy(ROOT / "figures" / "cifar" / finding / name, evidence / "cifar" / finding / name)
    done = run_notebook("scorecard", tmp_path, "-p", "scale", "cifar", REPROLIB_DATA="")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = evidence / "rerun" / "cifar" / "scorecard"
    results = json.loads((folder / "results.json").read_text())
    assert [figure["name"] for figure in results["figures"]] == ["ledger", "networks", "what_else", "together"]
    assert all((folder / file).stat().st_size > 1000 for figure in results["figures"] for file in figure["files"])
    assert (results["claims"], results["measured"]) == ([], "yes")
    shown = nbformat.writes(nbformat.read(tmp_path / "out.ipynb", as_version=4))
    assert "SHP-10" in shown
    assert [Path(name).parent.name for name in results["provenance"]["data"]] == [*FINDINGS]
    assert audit(folder) == []
    (evidence / "cifar" / "shape_bias" / "rows.csv.gz").write_bytes(b"another")
    assert "shape_bias/rows.csv.gz is not as it was when this was drawn" in audit(folder)[0]


def test_two_runs_are_compared_by_the_numbers_their_figures_show() -> None:
    made = {"finding": "scorecard", "claims": [], "figures": [{"name": "ledger", "rows": "1"}, {"name": "networks", "rows": "2"}]}
    assert comparison_lines(made, made, "here") == ["compared with here: every figure is drawn from the same numbers"]
    other = made | {"figures": [{"name": "ledger", "rows": "1"}]}
    assert comparison_lines(other, made, "here") == ["compared with here: other numbers in networks"]
