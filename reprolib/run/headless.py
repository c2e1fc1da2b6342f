"""One notebook, executed without a person by a kernel of its own.

papermill records a cell that timed out, whose kernel died or that was interrupted as completed; `Engine` sets that right in the executed
notebook, and nobody has to judge a run by its metadata.
"""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError

from reprolib import store
from reprolib.run.runner import Outcome

STARTS = 3  # one kernel in about 100 dies at its start ("Address already in use") when several start at once
OUTPUT_TIMEOUT_S = 60  # papermill's 4 s is too short for a burst of output on a busy machine (papermill #426)
GRACE_S = 30.0  # for a kernel to stop once it was interrupted
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Client(PapermillNotebookClient):
    """papermill's client, whose kernel is that of this very Python, whatever other kernels are registered on the machine.

    It also says how a kernel died: by the time the error is out, the process is forgotten.
    """

    def create_kernel_manager(self) -> Any:
        """The manager of a kernel started by `sys.executable`: where no folder is looked into, ipykernel's own description is left."""
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
        return manager

    def papermill_execute_cells(self) -> None:
        """Execute every cell, in place."""
        try:
            super().papermill_execute_cells()
        except DeadKernelError as error:
            code = getattr(_process(self), "returncode", None)
            how = f"killed by signal {-code}" if code is not None and code < 0 else f"it exited with status {code}"
            raise DeadKernelError(f"the kernel died ({how})") from error


class Engine(NBClientEngine):
    """papermill's engine, which also marks the last started cell failed when something else than its own error ended the run."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, environment: Mapping[str, str], stop: threading.Event, **options: Any
    ) -> None:
        """Execute the cells of `nb_man.nb` in place."""
        options = {name: value for name, value in options.items() if name not in ("input_path", "start_timeout")}
        # A kernel on its own machine warns, at every start, that it talks unencrypted: its errors are enough.
        client = Client(nb_man, kernel_name=kernel_name, extra_arguments=["--log-level=ERROR"], **options)
        ended = threading.Event()
        threading.Thread(target=_interrupt_when_stopped, args=(client, stop, ended), daemon=True).start()
        try:
            client.execute(env=dict(environment), cwd=str(store.root()))
        except BaseException as error:
            started = [cell for cell in nb_man.nb.cells if cell.cell_type == "code" and cell.metadata.papermill["start_time"]]
            for cell in started[-1:]:
                nb_man.cell_exception(cell)
                cell.outputs.append(new_output("error", ename=type(error).__name__, evalue=str(error), traceback=[]))
            raise
        finally:
            ended.set()


papermill_engines.register("reprolib", Engine)


def _process(client: Client) -> Any:
    return getattr(getattr(client.km, "provisioner", None), "process", None)


def _interrupt_when_stopped(client: Client, stop: threading.Event, ended: threading.Event) -> None:
    """Once `stop` is set, interrupt the kernel until the execution has ended, and in the end kill it."""
    while not stop.wait(0.2):
        if ended.is_set():
            return
    patience = time.monotonic() + GRACE_S
    while not ended.is_set():
        if process := _process(client):
            process.send_signal(signal.SIGINT if time.monotonic() < patience else signal.SIGKILL)
        ended.wait(1)


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
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    environment: Mapping[str, str],
    timeout_s: float | None = None,
    emit: Callable[[str], None] = print,
    stop: threading.Event | None = None,
) -> Outcome:
    """Execute the notebook file `notebook` at the root and save it as `output`; whatever happens is returned, never raised.

    environment: of the kernel, the whole of it. timeout_s: wall-clock limit of the whole notebook, kernel starts included. stop: once
    set, the kernel is interrupted. A kernel that dies, or never answers, before the first cell is started again, up to twice, after a
    random pause.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    stop = stop or threading.Event()
    relays = Relay(emit), Relay(emit)  # results go to stdout, progress to stderr
    output.parent.mkdir(parents=True, exist_ok=True)
    for start in range(1, STARTS + 1):
        started: list[NotebookNode] = []
        try:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=dict(parameters),
                engine_name="reprolib",
                kernel_name="python3",
                progress_bar=False,
                stdout_file=relays[0],
                stderr_file=relays[1],
                iopub_timeout=OUTPUT_TIMEOUT_S,
                on_cell_execute=lambda cell, cell_index, started=started: started.append(cell),
                timeout_func=None if deadline is None else lambda cell: max(0.01, deadline - time.monotonic()),
                environment=environment,
                stop=stop,
            )
            outcome = Outcome("completed")
        except Exception as error:
            late = stop.is_set() or (deadline is not None and time.monotonic() >= deadline)
            # A RuntimeError is what a kernel that dies or hangs while starting ends in.
            if not started and isinstance(error, RuntimeError) and not late and start < STARTS:
                time.sleep(start * random.uniform(0.2, 1.0))
                continue
            cell, source = (len(started), started[-1].source) if started else (None, "")
            name, message, trace = type(error).__name__, str(error), ""
            if isinstance(error, PapermillExecutionError):
                name, message, trace = error.ename, ANSI.sub("", error.evalue), ANSI.sub("", "\n".join(error.traceback))
            outcome = Outcome("interrupted" if stop.is_set() else _status(error), cell, source, name, message, trace)
        break
    for relay in relays:
        relay.close()
    ensure_event_loop().close()  # of this thread, in which the client ran
    return outcome


def _status(error: Exception) -> str:
    if isinstance(error, CellTimeoutError) and "IOPub" not in str(error):
        return "timed out"
    return "kernel died" if isinstance(error, RuntimeError) else "failed"
