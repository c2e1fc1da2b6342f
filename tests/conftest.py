"""What every test may rely on: one thread, no window, no settings of the person who runs the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # read when torch is imported
os.environ["MPLBACKEND"] = "Agg"
for name in ("REPROLIB_ROOT", "REPROLIB_ZOO", "REPROLIB_CACHE", "REPROLIB_FIGURES", "REPROLIB_DEBUG", "JPY_SESSION_NAME"):
    os.environ.pop(name, None)

if os.environ.get("REPROLIB_DATA"):  # counts from the repository, and some tests have a root of their own
    os.environ["REPROLIB_DATA"] = str((Path(__file__).parents[1] / Path(os.environ["REPROLIB_DATA"]).expanduser()).resolve())

import nbformat  # noqa: E402 (after the environment)
import pytest  # noqa: E402
import torch  # noqa: E402
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook  # noqa: E402

torch.set_num_threads(1)

FINISHED = """
import os, pathlib
from IPython.display import display
there = pathlib.Path(os.environ.get("REPROLIB_FIGURES", "{figures}"), "rerun", scale, "invertibility")
display({{"text/plain": ""}}, raw=True, metadata={{"reprolib_folder": str(there)}})
"""
"""The last cell of a planted notebook: what study.finish() tells the runner."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository root in a temporary folder: whatever `store` writes lands there."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.fixture
def notebook(repository: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """A function that writes notebooks/invertibility.ipynb with a parameters cell and the given code cells ("# ..." cells are prose)."""

    def write(*cells: str) -> Path:
        says_where = [new_code_cell(FINISHED.format(figures=repository / "figures"))] * ("runner" in request.module.__name__)
        parameters = new_code_cell('scale = "laptop"\nseeds = 0\nn_targets = 0\ntau = 0.0', metadata={"tags": ["parameters"]})
        made = new_notebook(
            cells=[parameters, *(new_markdown_cell(c) if c.startswith("# ") else new_code_cell(c) for c in cells), *says_where]
        )
        made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = repository / "notebooks" / "invertibility.ipynb"
        nbformat.write(made, path)
        return path

    return write


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository root `made`, a fixture of the module that asks, as the one in use: to be damaged."""
    shutil.copytree(made, tmp_path / "root")
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"
