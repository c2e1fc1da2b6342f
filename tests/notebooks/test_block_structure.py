"""What only the block-structure notebook promises: two batches of every pair of layers, and a sentence where batches are too many."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat

from reprolib.judging.tidy import read_rows


def test_the_rows_hold_two_batches_of_every_pair_of_layers(smoke_run: Callable[[str], tuple[nbformat.NotebookNode, Path]]) -> None:
    rows = read_rows(smoke_run("block_structure")[1] / "rows.csv.gz")
    measured = rows[(rows["claim"] == "BLK-1") & (rows["quantity"] == "hsic")]
    assert set(measured["unit"]) == {"batch 000", "batch 001"}
    assert set(measured.groupby(["network", "unit"]).size()) == {4 * 5 // 2}


def test_more_batches_than_images_end_the_run_and_name_what_is_possible(
    run_notebook: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_notebook("block_structure", tmp_path, "-p", "scale", "smoke", "-p", "n_batches", "100")
    assert done.returncode != 0
    assert "100 disjoint batches of 32 need 3200 images" in done.stderr
    assert "at most n_batches=6" in done.stderr
