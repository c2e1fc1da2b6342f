"""Runs of notebooks: a failure is a value with the cell, the error and one next step; nothing starts on a bad value."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from reprolib import store
from reprolib.errors import BadInput, MissingData
from reprolib.run import headless
from reprolib.run.runner import RunResult, run

Write = Callable[..., Path]

WRITE_RESULTS = """
import json, os, pathlib
folder = pathlib.Path(os.environ.get("REPROLIB_FIGURES", "figures"), "rerun", scale, "invertibility")
folder.mkdir(parents=True, exist_ok=True)
claims = [{"id": "INV-1", "verdict": "supported", "reason": "planted"}]
(folder / "results.json").write_text(json.dumps({"finding": "invertibility", "scale": scale, "claims": claims, "measured": "yes"}))
"""


def one(lines: list[str] | None = None, **options: object) -> RunResult:
    """Run the notebook of the test's repository."""
    said = [] if lines is None else lines
    (result,) = run(["invertibility"], **({"report": said.append} | options))
    return result


def test_a_completed_run_says_where_everything_is_and_writes_a_page(notebook: Write, repository: Path) -> None:
    notebook("# Finding", "print('measuring', scale, seeds)")
    lines: list[str] = []
    result = one(lines, scale="smoke", device="cpu")
    assert (result.status, result.exit_code, result.next_step) == ("completed", 0, "")
    assert result.notebook == repository / "data" / "runs" / "smoke" / "invertibility.ipynb"
    assert result.notebook.is_file()
    assert result.folder == repository / "figures" / "rerun" / "smoke" / "invertibility"
    page = (result.folder / "README.md").read_text()
    assert "# Finding" in page
    assert "measuring smoke 0" in page
    assert lines == ["[invertibility] measuring smoke 0"]


def test_a_failed_cell_is_named_with_the_way_to_look_at_it(notebook: Write) -> None:
    notebook("# Prose", "raise KeyError('layer9')")
    result = one()
    assert (result.status, result.exit_code, result.cell, result.error, result.message) == ("failed", 6, 3, "KeyError", "'layer9'")
    assert result.next_step == f"open {result.notebook} at In [3], or run notebooks/invertibility.ipynb in JupyterLab (`make lab`)"
    assert not result.folder.exists()


@pytest.mark.parametrize(("name", "code"), [("MissingData", 3), ("CorruptFile", 4), ("StorageError", 5), ("BadInput", 2)])
def test_an_error_of_ours_in_a_notebook_keeps_its_exit_code(monkeypatch: pytest.MonkeyPatch, notebook: Write, name: str, code: int) -> None:
    notebook()
    outcome = headless.Outcome("failed", 2, "study.networks()", name, "what and where")
    monkeypatch.setattr(headless, "execute", lambda *_: outcome)
    result = one()
    assert (result.exit_code, result.message) == (code, "what and where")
    assert result.next_step.startswith("do what the message says")


def test_a_dead_kernel_and_a_timeout_have_codes_of_their_own(notebook: Write) -> None:
    notebook("import os\nos._exit(1)")
    died = one()
    assert (died.status, died.exit_code) == ("kernel died", 8)
    assert "--jobs 1" in died.next_step
    notebook("import time\ntime.sleep(60)")
    late = one(timeout_s=2.5)
    assert (late.status, late.exit_code, late.message) == ("timed out", 7, "invertibility ran past its limit of 0.0417 min")
    assert "--timeout" in late.next_step
    assert late.seconds < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "lapto"}, r"scale='lapto' is not allowed.*did you mean 'laptop'"),
        ({"parameters": {"n_target": 4}}, r"parameter 'n_target' is unknown in invertibility.*did you mean 'n_targets'"),
        ({"parameters": {"seeds": "two"}}, r"seeds='two' is not allowed: it takes int"),
        ({"device": "gpu"}, r"device='gpu' is not allowed; allowed: auto, cpu, cuda"),
        ({"jobs": 0}, r"jobs=0 is not allowed: at least 1"),
        ({"timeout_s": -1}, r"a limit of -1 s is not allowed"),
    ],
)
def test_a_bad_value_stops_everything_before_the_start(
    notebook: Write, monkeypatch: pytest.MonkeyPatch, options: dict, message: str
) -> None:
    notebook()
    monkeypatch.setattr(headless, "execute", lambda *_: pytest.fail("a notebook was started"))
    with pytest.raises(BadInput, match=message):
        one(**options)


def test_an_unknown_finding_names_the_nearest_one() -> None:
    with pytest.raises(
        BadInput,
        match="finding 'invertability' is unknown; allowed: invertibility, shape_bias, .*, all; did you mean 'invertibility'",
    ):
        run(["invertability"])


def test_a_missing_notebook_is_missing_data(repository: Path) -> None:
    with pytest.raises(MissingData, match=r"invertibility\.ipynb is not there"):
        one()


def test_parameters_reach_the_notebook_in_their_declared_type_and_a_turned_knob_goes_elsewhere(notebook: Write, repository: Path) -> None:
    notebook("print(repr(tau), repr(n_targets))")
    lines: list[str] = []
    result = one(lines, parameters={"tau": "1/4", "n_targets": "7"})
    assert lines == ["[invertibility] 0.25 7"]
    assert result.notebook.parent == repository / "data" / "runs" / "custom"
    assert result.folder == repository / "figures" / "rerun" / "laptop" / "invertibility"  # what the notebook said of itself


def test_a_notebook_that_never_finishes_is_a_failure(notebook: Write, repository: Path) -> None:
    path = notebook("x = 1")
    content = nbformat.read(path, as_version=4)
    content.cells.pop()
    nbformat.write(content, path)
    result = one(scale="smoke")
    assert (result.status, result.exit_code, result.error) == ("failed", 6, "RunFailed")
    assert "ran to its end without study.finish()" in result.message


def test_a_run_from_committed_rows_measures_nothing_and_needs_them(notebook: Write, repository: Path) -> None:
    notebook("import os; print(os.environ['REPROLIB_FROM_ROWS'])")
    with pytest.raises(MissingData, match="no rows of invertibility are committed at scale laptop: leave out --from-rows"):
        one(from_rows=True)
    assert run([], from_rows=True) == []  # of all findings, those that have some
    store.write_text(repository / "figures" / "laptop" / "invertibility" / "rows.csv.gz", "rows")
    for options, message in (
        ({"parameters": {"tau": 0.1}}, "--from-rows with tau=0.1 is not allowed"),
        ({"from_nothing": True}, "--from-rows with --from-nothing is not allowed: it measures nothing"),
        ({"write": True}, "--from-rows with --write is not allowed"),
    ):
        with pytest.raises(BadInput, match=message):
            one(from_rows=True, **options)
    lines: list[str] = []
    assert one(lines, from_rows=True).exit_code == 0
    assert lines == ["[invertibility] 1"]


def test_evidence_is_written_from_a_clean_tree_at_a_preset_alone(notebook: Write, repository: Path) -> None:
    notebook("import os; print(os.environ['REPROLIB_WRITE'])")
    with pytest.raises(BadInput, match="--write needs git"):
        one(write=True)

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments], check=True, capture_output=True)

    git("init", "-q")
    with pytest.raises(BadInput, match=r"--write is not allowed with changes in notebooks/: commit them first"):
        one(write=True)
    git("add", "--all")
    git("commit", "-q", "-m", "A commit")
    lines: list[str] = []
    assert one(lines, write=True).exit_code == 0
    assert lines[0] == "[invertibility] 1"
    with pytest.raises(BadInput, match=r"--write with seeds=2 is not allowed: evidence is made at the presets"):
        one(write=True, parameters={"seeds": 2})
    for options, why in (({"scale": "smoke"}, "at scale smoke, which is no evidence"), ({"from_nothing": True}, "with --from-nothing")):
        with pytest.raises(BadInput, match=f"--write is not allowed {why}: leave it out"):
            one(write=True, **options)
    lines.clear()
    one(lines)
    assert lines[0] == "[invertibility] 0"


def test_evidence_is_made_with_one_thread_whatever_the_caller_has_and_nobody_is_there(
    notebook: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("JPY_SESSION_NAME", "somebody")
    notebook("import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ.get('JPY_SESSION_NAME'))")
    lines: list[str] = []
    one(lines)
    assert lines == ["[invertibility] 1 None"]


def test_the_same_notebook_is_not_run_twice_at_once(notebook: Write, repository: Path) -> None:
    notebook()
    with store.lock(repository / "data" / "runs" / "laptop" / "invertibility.ipynb"):
        result = one()
    assert (result.status, result.exit_code) == ("failed", 6)
    assert result.message == "another run of invertibility at laptop is in progress; wait for it to end"


def test_ctrl_c_stops_the_kernel_and_says_that_the_command_continues(notebook: Write, repository: Path) -> None:
    notebook("import os\nprint('kernel', os.getpid())", "import time\ntime.sleep(120)")
    command = [sys.executable, "-m", "reprolib", "run", "invertibility", "--scale", "smoke"]
    # A terminal's command can be interrupted; started in a shell's background, as tests may be, it would inherit an ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        kernel = int(process.stdout.readline().split()[-1])
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "invertibility: interrupted in cell 4 (import time)" in complaint
    assert "the same command continues" in complaint
    executed = json.loads((repository / "data" / "runs" / "smoke" / "invertibility.ipynb").read_text())
    code = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert [cell["metadata"]["papermill"]["status"] for cell in code[-2:]] == ["failed", "pending"]
    assert ends(kernel)


def test_a_killed_runner_leaves_no_kernel_behind(notebook: Write) -> None:
    notebook("import os\nprint('kernel', os.getpid())", "import time\ntime.sleep(120)")
    with subprocess.Popen(
        [sys.executable, "-m", "reprolib", "run", "invertibility", "--scale", "smoke"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        kernel = int(process.stdout.readline().split()[-1])
        process.kill()
    assert ends(kernel)


def ends(pid: int, within_s: float = 20) -> bool:
    """Whether a process is gone soon."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_from_nothing_trains_elsewhere_and_starts_afresh_only_after_it_finished(notebook: Write, repository: Path) -> None:
    train = "import os\nos.makedirs(os.environ['REPROLIB_ZOO'], exist_ok=True)\nopen(os.environ['REPROLIB_ZOO'] + '/log', 'a').write('trained ')"
    base = repository / "data" / "from-nothing" / "smoke"
    notebook(train, "1 / 0")
    assert one(scale="smoke", from_nothing=True).exit_code == 6
    notebook(train, "assert os.environ['REPROLIB_CACHE'].endswith('cache')", WRITE_RESULTS)
    second = one(scale="smoke", from_nothing=True)
    assert second.exit_code == 0
    assert (base / "zoo" / "log").read_text() == "trained trained "  # an interrupted run is continued
    assert second.folder == base / "figures" / "rerun" / "smoke" / "invertibility"
    assert (second.folder / "results.json").is_file()
    assert not (repository / "figures").exists()
    assert one(scale="smoke", from_nothing=True).exit_code == 0
    assert (base / "zoo" / "log").read_text() == "trained "  # a finished one is not
