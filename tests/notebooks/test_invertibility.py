"""The notebook at scale smoke through papermill: from the root, from notebooks/, from anywhere; and as JupyterLab runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jupytext
import nbformat
import pytest

from reprolib.judging.audit import audit
from reprolib.judging.tidy import read_rows

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "invertibility.ipynb"


def papermill(
    output: Path, *parameters: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(NOTEBOOK), str(output), *parameters]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ | dict(environment or {}))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nbformat.NotebookNode, Path]:
    """The executed notebook and the folder of its figures; run from a folder that has nothing to do with the project."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = papermill(folder / "out.ipynb", "-p", "scale", "smoke", cwd=folder, environment={"REPROLIB_FIGURES": str(folder / "figures")})
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(folder / "out.ipynb", as_version=4), folder / "figures" / "smoke" / "invertibility"


def test_every_figure_is_drawn_saved_and_described(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, folder = executed
    results = json.loads((folder / "results.json").read_text())
    names = [figure["name"] for figure in results["figures"]]
    assert names == [
        "inversions", "trajectories", "controls", "trend", "judges", "outside", "interpolation", "units", "additions", "extremes",
        "code_size", "ablations", "layers",
    ]  # fmt: skip
    for figure in results["figures"]:
        assert figure["caption"]
        assert figure["seen"]
        for file in figure["files"]:
            assert (folder / file).stat().st_size > 1000
    drawing = [cell for cell in notebook.cells if cell.cell_type == "code" and "study.figure" in cell.source]
    for cell in drawing:
        shown = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        assert len(shown) == cell.source.count("study.figure(")
    assert sum(cell.source.count("study.figure(") for cell in drawing) == len(names)


def test_a_headless_run_makes_no_widget(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, _ = executed
    assert "widgets" not in notebook.metadata
    assert "widget-view" not in nbformat.writes(notebook)


def test_rows_and_results_belong_together_and_claim_nothing_at_smoke(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    _, folder = executed
    assert audit(folder) == []
    results = json.loads((folder / "results.json").read_text())
    assert results["measured"] == "yes"
    assert [claim["id"] for claim in results["claims"]] == [f"INV-{i}" for i in range(1, 11)]
    assert not any(claim["required"] for claim in results["claims"])
    assert all("smoke: not evidence" in claim["reason"] for claim in results["claims"])
    measured = {claim["id"] for claim in results["claims"] if claim["estimate"] is not None}
    assert measured == {f"INV-{i}" for i in range(1, 11)}
    assert str(ROOT) not in json.dumps(results)


def test_a_second_run_reads_its_measurements_and_gives_the_same_bytes(executed: tuple[nbformat.NotebookNode, Path], tmp_path: Path) -> None:
    _, folder = executed
    done = papermill(
        tmp_path / "out.ipynb", "-p", "scale", "smoke", cwd=ROOT / "notebooks", environment={"REPROLIB_FIGURES": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    again = tmp_path / "smoke" / "invertibility"
    for file in sorted(folder.iterdir()):
        if file.name != "results.json":
            assert (again / file.name).read_bytes() == file.read_bytes(), file.name
    one, other = (json.loads((f / "results.json").read_text()) for f in (folder, again))
    for told in (one, other):
        for what in ("seconds", "commit", "hardware"):
            told["provenance"].pop(what)
    assert one == other


def test_every_target_has_a_row_for_every_start_reached_or_not(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    rows = read_rows(executed[1] / "rows.csv.gz")
    for claim, starts in (("INV-1", {"image"}), ("INV-2", {"noise_0"})):
        found = rows[(rows["claim"] == claim) & (rows["quantity"] == "distance_ratio") & (rows["arm"].isin(["standard", "robust"]))]
        assert set(found["unit_2"]) == starts
        assert set(found.groupby("network")["unit"].nunique()) == {8}
        missed = found[~found["reached"]]
        assert (missed["value"] == 1).all()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("scael", "smoke", "parameter 'scael' is unknown in invertibility"),
        ("steps", "banana", "steps='banana' is not allowed: it takes int"),
    ],
)
def test_a_wrong_parameter_ends_the_run_before_any_work(name: str, value: str, sentence: str, tmp_path: Path) -> None:
    done = papermill(tmp_path / "out.ipynb", "-p", name, value, environment={"REPROLIB_FIGURES": str(tmp_path / "figures")})
    assert done.returncode != 0
    assert sentence in done.stderr
    assert not (tmp_path / "figures").exists()


def test_the_readers_own_variables_and_second_runs_are_left_alone() -> None:
    """As in JupyterLab: cells run twice in one namespace, with a variable of the reader's own in between."""
    import reprolib

    namespace: dict[str, object] = {"scale": "smoke", "scael": "mine", "In": ["", "scale: str = 'smoke'", "scael = 'mine'"]}
    for _ in range(2):
        assert reprolib.start("invertibility", namespace).settings.scale.name == "smoke"
    namespace["In"] = ["", '# Parameters\nscael = "smoke"\n']
    with pytest.raises(ValueError, match="parameter 'scael' is unknown"):
        reprolib.start("invertibility", namespace)


def test_notebook_and_twin_hold_the_same_cells_and_no_outputs() -> None:
    notebook, twin = nbformat.read(NOTEBOOK, as_version=4), jupytext.read(NOTEBOOK.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in twin.cells]
    assert 20 <= len(notebook.cells) <= 28
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 14
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(len(cell.source.splitlines()) <= 17 for cell in code)  # a figure's caption and sentence included


def test_where_cifar_10_is_absent_the_committed_rows_are_judged_and_drawn(tmp_path: Path) -> None:
    for folder in ("reprolib", "notebooks", "figures/cifar", "data/zoo/cifar"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.lock"))
    folder = tmp_path / "figures" / "cifar" / "invertibility"
    before = json.loads((folder / "results.json").read_text())
    pictures = {name: (folder / f"{name}.png").read_bytes() for name in ("inversions", "code_size", "units", "layers")}
    done = papermill(tmp_path / "out.ipynb", "-p", "scale", "cifar", environment={"REPROLIB_ROOT": str(tmp_path), "REPROLIB_DATA": ""})
    assert done.returncode == 0, done.stderr[-3000:]
    after = json.loads((folder / "results.json").read_text())
    assert after["measured"] == "no (CIFAR-10 absent)"
    assert after["provenance"] == before["provenance"]  # of the run that measured
    assert after["claims"] == before["claims"]
    assert "Measured: no (CIFAR-10 absent)" in (tmp_path / "out.ipynb").read_text()
    for name, content in pictures.items():
        assert (folder / f"{name}.png").read_bytes() == content
