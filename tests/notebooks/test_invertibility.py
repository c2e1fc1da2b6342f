"""What only the invertibility notebook promises: a row for every target, and the committed rows where CIFAR-10 is absent."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

import reprolib
from reprolib.judging.tidy import read_rows

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_every_target_has_a_row_for_every_start_reached_or_not(smoke_run: Callable[[str], tuple[nbformat.NotebookNode, Path]]) -> None:
    rows = read_rows(smoke_run("invertibility")[1] / "rows.csv.gz")
    for claim, starts in (("INV-1", {"image"}), ("INV-2", {"noise_0"})):
        deciding = rows[(rows["claim"] == claim) & (rows["quantity"] == "distance_ratio") & (rows["arm"].isin(["standard", "robust"]))]
        assert set(deciding["unit_2"]) == starts
        assert set(deciding.groupby("network")["unit"].nunique()) == {8}
        assert (deciding.loc[~deciding["reached"], "value"] == 1).all()


def test_a_parameter_that_papermill_injects_and_nobody_knows_ends_the_run_before_any_work(run_notebook: Run, tmp_path: Path) -> None:
    done = run_notebook("invertibility", tmp_path, "-p", "scael", "smoke")
    assert done.returncode != 0
    assert "parameter 'scael' is unknown in invertibility" in done.stderr
    assert not (tmp_path / "figures").exists()


def test_the_readers_own_variables_and_second_runs_are_left_alone() -> None:
    """As in JupyterLab: cells run twice in one namespace, with a variable of the reader's own in between."""
    namespace: dict[str, object] = {"scale": "smoke", "scael": "mine", "In": ["", "scale: str = 'smoke'", "scael = 'mine'"]}
    for _ in range(2):
        assert reprolib.start("invertibility", namespace).settings.scale.name == "smoke"
    namespace["In"] = ["", '# Parameters\nscael = "smoke"\n']
    with pytest.raises(ValueError, match="parameter 'scael' is unknown"):
        reprolib.start("invertibility", namespace)


def test_where_cifar_10_is_absent_the_committed_rows_are_judged_and_drawn(run_notebook: Run, tmp_path: Path) -> None:
    for folder in ("reprolib", "notebooks", "figures/cifar", "data/zoo/cifar"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.lock"))
    committed = tmp_path / "figures" / "cifar" / "invertibility"
    before = json.loads((committed / "results.json").read_text())
    done = run_notebook("invertibility", tmp_path, "-p", "scale", "cifar", REPROLIB_ROOT=str(tmp_path), REPROLIB_DATA="")
    assert done.returncode == 0, done.stderr[-3000:]
    written = next(path for path in tmp_path.rglob("results.json") if path.parent.name == "invertibility" and "rerun" in path.parts)
    after = json.loads(written.read_text())
    assert after["measured"] == "no (CIFAR-10 absent)"
    assert after["provenance"] == before["provenance"]  # of the run that measured
    assert after["claims"] == before["claims"]
    assert "Measured: no (CIFAR-10 absent)" in (tmp_path / "out.ipynb").read_text()
    for name in ("inversions", "code_size", "units", "layers"):
        assert (written.parent / f"{name}.png").read_bytes() == (committed / f"{name}.png").read_bytes()
