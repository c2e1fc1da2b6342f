"""One notebook, executed without a person: a process of its own, which `runner` starts and listens to.

The job comes as one line of JSON on stdin; stdin then stays open, and when it closes (the runner was interrupted, or is gone) the run
stops as if Ctrl-C had been pressed, kernel included. Lines of JSON go to stdout: {"line": text} for each line the notebook prints, and
last {"outcome": {...}}, the fields of `Outcome`. papermill records a cell that timed out, whose kernel died or that Ctrl-C stopped as
completed; `Engine` sets that right in the executed notebook, and nobody has to judge a run by its metadata.
"""

from __future__ import annotations

import reprolib.run.import_guard  # noqa: F401

# isort: split
import _thread
import dataclasses
import json
import logging
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError

STARTS = 3  # one kernel in about 100 dies at its start ("Address already in use") when several start at once
OUTPUT_TIMEOUT_S = 60  # papermill's 4 s is too short for a burst of output on a busy machine (papermill #426)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an execution ended, in plain JSON values."""

    status: str  # "completed", "failed", "timed out", "kernel died" or "interrupted"
    cell: int | None = None  # In [cell] of the executed notebook, None before the first
    source: str = ""  # that cell's source
    error: str = ""  # the name of the exception, "" when there is none
    message: str = ""
    traceback: str = ""
    starts: int = 1  # kernels started


class Client(PapermillNotebookClient):
    """papermill's client, which also says how a kernel died: by the time the error is out, the process is forgotten."""

    def papermill_execute_cells(self) -> None:
        """Execute every cell, in place."""
        try:
            super().papermill_execute_cells()
        except DeadKernelError as error:
            code = getattr(getattr(self.km.provisioner, "process", None), "returncode", None)
            how = f"killed by signal {-code}" if code is not None and code < 0 else f"it exited with status {code}"
            raise DeadKernelError(f"the kernel died ({how})") from error


class Engine(NBClientEngine):
    """papermill's engine, which also marks the last started cell failed when something else than its own error ended the run."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, **options: Any) -> None:
        """Execute the cells of `nb_man.nb` in place."""
        options = {name: value for name, value in options.items() if name not in ("input_path", "start_timeout")}
        try:
            Client(nb_man, kernel_name=kernel_name, log=LOG, **options).execute()
        except BaseException as error:
            started = [cell for cell in nb_man.nb.cells if cell.cell_type == "code" and cell.metadata.papermill["start_time"]]
            for cell in started[-1:]:
                nb_man.cell_exception(cell)
                cell.outputs.append(new_output("error", ename=type(error).__name__, evalue=str(error), traceback=[]))
            raise


papermill_engines.register("reprolib", Engine)


class Relay:
    """A text file for papermill to write a notebook's stream to: hands on whole lines as they come, a line redrawn with carriage returns once."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self.emit = emit
        self.pending = ""

    def write(self, text: str) -> None:
        """Take a piece of the kernel's output."""
        *lines, self.pending = (self.pending + text).split("\n")
        for line in lines:
            self.emit(line.rstrip("\r").rpartition("\r")[2])

    def flush(self) -> None:
        """Do nothing: an unfinished line waits for its end."""

    def close(self) -> None:
        """Hand on the unfinished last line."""
        if self.pending:
            self.write("\n")


def execute(
    notebook: str,
    output: str,
    parameters: Mapping[str, Any],
    timeout_s: float | None = None,
    emit: Callable[[str], None] = print,
) -> Outcome:
    """Execute the notebook file `notebook` and save it as `output`; whatever happens is returned, never raised.

    timeout_s: wall-clock limit of the whole notebook, kernel starts included. A kernel that dies, or never answers, before the
    first cell is started again, up to twice, after a random pause.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    relays = Relay(emit), Relay(emit)  # results go to stdout, progress to stderr
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    for start in range(1, STARTS + 1):
        started: list[NotebookNode] = []
        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters=dict(parameters),
                engine_name="reprolib",
                kernel_name="python3",
                progress_bar=False,
                stdout_file=relays[0],
                stderr_file=relays[1],
                iopub_timeout=OUTPUT_TIMEOUT_S,
                on_cell_execute=lambda cell, cell_index, started=started: started.append(cell),
                timeout_func=None if deadline is None else lambda cell: max(0.01, deadline - time.monotonic()),
            )
            outcome = Outcome("completed", starts=start)
        except (Exception, KeyboardInterrupt) as error:
            late = deadline is not None and time.monotonic() >= deadline
            # A RuntimeError is what a kernel that dies or hangs while starting ends in.
            if not started and isinstance(error, RuntimeError) and not late and start < STARTS:
                time.sleep(start * random.uniform(0.2, 1.0))
                continue
            cell, source = (len(started), started[-1].source) if started else (None, "")
            if isinstance(error, PapermillExecutionError):
                trace = ANSI.sub("", "\n".join(error.traceback))
                outcome = Outcome("failed", cell, source, error.ename, ANSI.sub("", error.evalue), trace, start)
            else:
                outcome = Outcome(_status(error), cell, source, type(error).__name__, str(error), "", start)
        break
    for relay in relays:
        relay.close()
    return outcome


def _status(error: BaseException) -> str:
    """The word for an exception that ended a run from outside its cells' code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, CellTimeoutError) and "IOPub" not in str(error):
        return "timed out"
    return "kernel died" if isinstance(error, RuntimeError) else "failed"


def _interrupt_when_closed(stdin: TextIO) -> None:
    """Interrupt the main thread once `stdin` is closed at its other end."""
    while stdin.readline():
        continue
    _thread.interrupt_main()


def main() -> None:
    """Read a job from stdin (the arguments of `execute` as one line of JSON), execute it, report on stdout."""
    # Started in the background of a shell, this process inherits an ignored SIGINT, and could then not be interrupted at all.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def report(message: Mapping[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_interrupt_when_closed, args=(sys.stdin,), daemon=True).start()
    outcome = execute(**job, emit=lambda line: report({"line": line}))
    report({"outcome": dataclasses.asdict(outcome)})


if __name__ == "__main__":
    main()
