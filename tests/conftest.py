"""What every test may rely on: one thread, no window, no settings of the person who runs the tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # read when torch is imported
os.environ["MPLBACKEND"] = "Agg"
for name in ("REPROLIB_ROOT", "REPROLIB_ZOO", "REPROLIB_CACHE", "REPROLIB_FIGURES", "REPROLIB_DEBUG", "JPY_SESSION_NAME"):
    os.environ.pop(name, None)

import nbformat  # noqa: E402 (after the environment)
import pytest  # noqa: E402
import torch  # noqa: E402
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository root in a temporary folder: whatever `store` writes lands there."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.fixture
def notebook(repository: Path) -> Callable[..., Path]:
    """A function that writes notebooks/invertibility.ipynb with a parameters cell and the given code cells ("# ..." cells are prose)."""

    def write(*cells: str) -> Path:
        parameters = new_code_cell('scale = "laptop"\nseeds = 0\nn_targets = 0\ntau = 0.0', metadata={"tags": ["parameters"]})
        made = new_notebook(cells=[parameters, *(new_markdown_cell(c) if c.startswith("# ") else new_code_cell(c) for c in cells)])
        made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = repository / "notebooks" / "invertibility.ipynb"
        nbformat.write(made, path)
        return path

    return write
