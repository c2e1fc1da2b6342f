"""The block-structure notebook at scale smoke through papermill, from a folder that has nothing to do with the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from reprolib.judging.audit import audit
from reprolib.judging.tidy import read_rows

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "block_structure.ipynb"
FIGURES = ["maps", "lags", "indices", "dominance", "same_depth", "adversarial", "settling", "radii", "bias"]


def papermill(folder: Path, *parameters: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(NOTEBOOK), str(folder / "out.ipynb"), *parameters]
    environment = os.environ | {"REPROLIB_FIGURES": str(folder / "figures")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nbformat.NotebookNode, Path]:
    """The executed notebook and the folder of its figures."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = papermill(folder, "-p", "scale", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(folder / "out.ipynb", as_version=4), folder / "figures" / "smoke" / "block_structure"


def test_every_figure_is_drawn_saved_and_described(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, folder = executed
    results = json.loads((folder / "results.json").read_text())
    assert [figure["name"] for figure in results["figures"]] == FIGURES
    for figure in results["figures"]:
        assert figure["caption"]
        assert figure["failure"]
        assert figure["seen"] == ""  # nobody looks at smoke
        assert all((folder / file).stat().st_size > 1000 for file in figure["files"])
    drawing = [cell for cell in notebook.cells if cell.cell_type == "code" and "study.figure" in cell.source]
    assert all(any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in drawing)


def test_a_headless_run_makes_no_widget_and_says_so(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, _ = executed
    assert "widgets" not in notebook.metadata
    assert "widget-view" not in nbformat.writes(notebook)
    assert "explorer: nobody is watching" in nbformat.writes(notebook)


def test_rows_and_results_belong_together_and_claim_nothing_at_smoke(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    _, folder = executed
    assert audit(folder) == []
    results = json.loads((folder / "results.json").read_text())
    assert [claim["id"] for claim in results["claims"]] == [f"BLK-{i}" for i in range(1, 11)]
    assert not any(claim["required"] for claim in results["claims"])
    assert all("smoke: not evidence" in claim["reason"] for claim in results["claims"])
    measured = {claim["id"] for claim in results["claims"] if claim["estimate"] is not None}
    assert {"BLK-1", "BLK-2", "BLK-4", "BLK-6", "BLK-7", "BLK-8", "BLK-9", "BLK-10"} <= measured
    assert str(ROOT) not in json.dumps(results)


def test_the_rows_hold_two_batches_of_every_pair_of_layers(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    rows = read_rows(executed[1] / "rows.csv.gz")
    found = rows[(rows["claim"] == "BLK-1") & (rows["quantity"] == "hsic")]
    assert set(found["unit"]) == {"batch 000", "batch 001"}
    assert set(found.groupby(["network", "unit"]).size()) == {4 * 5 // 2}


def test_a_second_run_reads_its_measurements_and_gives_the_same_bytes(executed: tuple[nbformat.NotebookNode, Path], tmp_path: Path) -> None:
    _, folder = executed
    done = papermill(tmp_path, "-p", "scale", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "comparing layers on" not in done.stderr
    again = tmp_path / "figures" / "smoke" / "block_structure"
    for file in sorted(folder.iterdir()):
        if file.name != "results.json":
            assert (again / file.name).read_bytes() == file.read_bytes(), file.name
    one, other = (json.loads((place / "results.json").read_text()) for place in (folder, again))
    for told in (one, other):
        for what in ("seconds", "commit", "hardware"):
            told["provenance"].pop(what)
    assert one == other


def test_more_batches_than_images_end_the_run_and_name_what_is_possible(tmp_path: Path) -> None:
    done = papermill(tmp_path, "-p", "scale", "smoke", "-p", "n_batches", "100")
    assert done.returncode != 0
    assert "100 disjoint batches of 32 need 3200 images" in done.stderr
    assert "at most n_batches=6" in done.stderr


def test_notebook_and_twin_hold_the_same_cells_and_no_outputs() -> None:
    notebook, twin = nbformat.read(NOTEBOOK, as_version=4), jupytext.read(NOTEBOOK.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in twin.cells]
    assert 20 <= len(notebook.cells) <= 28
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 14
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(len(cell.source.splitlines()) <= 12 for cell in code)
