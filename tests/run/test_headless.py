"""A notebook without a person: each way to end has its word, its cell and its error, also in the executed notebook."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from reprolib.run import headless
from reprolib.run.headless import Outcome, Relay, execute

Write = Callable[..., Path]


def run(source: Path, **options: object) -> tuple[Outcome, list[str], nbformat.NotebookNode]:
    """Execute a notebook; its outcome, its lines and the executed notebook."""
    lines: list[str] = []
    output = source.parent / "out" / "executed.ipynb"
    outcome = execute(source, output, options.pop("parameters", {}), os.environ, emit=lines.append, **options)
    return outcome, lines, nbformat.read(output, as_version=4)


def statuses(executed: nbformat.NotebookNode) -> list[str]:
    return [cell.metadata.papermill["status"] for cell in executed.cells if cell.cell_type == "code"]


def test_a_notebook_that_runs_through_is_completed_and_sees_its_parameters(notebook: Write) -> None:
    outcome, lines, executed = run(notebook("print('seeds', seeds)\nprint('half', end='')"), parameters={"seeds": 3})
    assert outcome == Outcome("completed")
    assert lines == ["seeds 3", "half"]
    assert statuses(executed) == ["completed"] * 3
    assert executed.cells[1].metadata.tags == ["injected-parameters"]


def test_an_error_in_a_cell_names_cell_source_and_error_and_stops_there(notebook: Write) -> None:
    outcome, lines, executed = run(notebook("# Prose", "x = 1", "x / 0", "print('never')"))
    assert (outcome.status, outcome.cell, outcome.source, outcome.error, outcome.message) == (
        "failed", 3, "x / 0", "ZeroDivisionError", "division by zero"
    )  # fmt: skip
    assert "----> 1 x / 0" in outcome.traceback
    assert "\x1b" not in outcome.traceback
    assert lines == []
    assert statuses(executed)[-2:] == ["failed", "pending"]


def test_a_kernel_that_dies_is_told_from_an_error_and_its_cell_is_marked_failed(notebook: Write) -> None:
    outcome, _, executed = run(notebook("import os, time", "time.sleep(0.2)\nos._exit(3)", "1"))
    assert (outcome.status, outcome.cell, outcome.error) == ("kernel died", 3, "DeadKernelError")
    assert outcome.message == "the kernel died (it exited with status 3)"
    assert statuses(executed) == ["completed", "completed", "failed", "pending"]
    died = [cell for cell in executed.cells if cell.metadata.papermill["status"] == "failed"]
    assert [(cell.outputs[-1].ename, cell.outputs[-1].evalue) for cell in died] == [("DeadKernelError", outcome.message)]
    assert executed.metadata.papermill["exception"] is True


def test_a_kernel_killed_for_memory_says_by_which_signal(notebook: Write) -> None:
    outcome, *_ = run(notebook("import os\nos.kill(os.getpid(), 9)"))
    assert outcome.message == "the kernel died (killed by signal 9)"


def test_the_time_limit_is_for_the_whole_notebook_not_for_each_cell(notebook: Write) -> None:
    cells = ["import time; time.sleep(0.9)"] * 8
    outcome, _, executed = run(notebook(*cells), timeout_s=3)
    assert (outcome.status, outcome.error) == ("timed out", "CellTimeoutError")
    assert outcome.cell is not None
    assert 2 <= outcome.cell <= 5
    assert statuses(executed)[outcome.cell - 1 :] == ["failed"] + ["pending"] * (9 - outcome.cell)


@pytest.fixture
def flaky_kernel(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Replace the kernel by one whose first `n` starts die at once; returns the file that counts the starts."""

    def install(n: int) -> Path:
        count = repository / "starts"
        script = repository / "kernel.py"
        script.write_text(
            "import pathlib, runpy, sys\n"
            f"count = pathlib.Path({str(count)!r})\n"
            "count.write_text(count.read_text() + '|' if count.exists() else '|')\n"
            f"if len(count.read_text()) <= {n}: sys.exit(1)\n"
            "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)\n"
        )
        argv = [sys.executable, str(script), "-f", "{connection_file}"]
        monkeypatch.setattr("ipykernel.kernelspec.make_ipkernel_cmd", lambda *_, **__: argv)
        return count

    return install


def test_a_kernel_that_dies_before_the_first_cell_is_started_again(notebook: Write, flaky_kernel: Callable[[int], Path]) -> None:
    count = flaky_kernel(1)
    outcome, lines, _ = run(notebook("print('alive')"))
    assert outcome == Outcome("completed")
    assert lines == ["alive"]
    assert count.read_text() == "||"


def test_a_kernel_that_never_starts_is_given_up(
    notebook: Write, flaky_kernel: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert headless.STARTS == 3
    monkeypatch.setattr(headless, "STARTS", 2)  # for the test's own time
    count = flaky_kernel(99)
    outcome, *_ = run(notebook("print('alive')"))
    assert (outcome.status, outcome.cell) == ("kernel died", None)
    assert count.read_text() == "||"


def test_the_kernel_is_that_of_this_python_whatever_is_registered_as_python3(
    notebook: Write, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository / "other" / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "another environment's", "language": "python"}))
    for variable in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(folder.parents[1]))
    outcome, lines, _ = run(notebook("import sys\nprint(sys.executable)"))
    assert outcome == Outcome("completed")
    assert lines == [sys.executable]


def test_a_line_comes_out_whole_and_a_redrawn_one_once() -> None:
    lines: list[str] = []
    relay = Relay(lines.append)
    for piece in ("one", " line\ntw", "o\r", "three\r\n", "last"):
        relay.write(piece)
    relay.close()
    assert lines == ["one line", "three", "last"]
