"""Every notebook is executed once a session, at scale smoke beside a network of the reader's own where it takes one, and all tests look at that one run."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from reprolib import registry

ROOT = Path(__file__).parents[2]
CHECKPOINT = "data/zoo/cifar/tinycnn-std-s0-7c7ffc1bb213.safetensors"
Executed = tuple[nbformat.NotebookNode, Path]


def papermill(finding: str, folder: Path, *parameters: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Execute a notebook into folder/out.ipynb, its figures into folder/figures, from a folder that has nothing to do with the project."""
    notebook, output = ROOT / "notebooks" / f"{finding}.ipynb", folder / "out.ipynb"
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(notebook), str(output), *parameters]
    environment = {"REPROLIB_FIGURES": str(folder / "figures"), **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, env=os.environ | environment)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Executed]:
    """A function of the finding: its executed notebook at scale smoke, and the folder of its figures."""

    @functools.cache
    def run(finding: str) -> Executed:
        folder = tmp_path_factory.mktemp(finding)
        takes_one = registry.settings(finding).get("own_network", True)
        done = papermill(finding, folder, "-p", "scale", "smoke", *(["-p", "checkpoint", CHECKPOINT] if takes_one else []))
        assert done.returncode == 0, done.stderr[-3000:]
        (figures,) = (folder / "figures" / "rerun" / ("custom" if takes_one else "smoke")).iterdir()  # and nowhere else
        return nbformat.read(folder / "out.ipynb", as_version=4), figures

    return run


@pytest.fixture(scope="session")
def run_notebook() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`papermill` above, for runs that need parameters or an environment of their own."""
    return papermill
