"""Start the process that executes one notebook (`headless`), show what the notebook says, and stop it when it is time."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reprolib import store

GRACE_S = 30.0  # for a process to stop its kernel and save the notebook once its time is up or it was interrupted
QUIET_S = 1.0  # a notebook's lines are shown at most this often ...
BURST = 20  # ... and then at most so many of them


def listen(
    told: Mapping[str, Any], environment: Mapping[str, str], prefix: str, stop: threading.Event, report: Callable[[str], None]
) -> dict[str, Any]:
    """Execute one notebook in a process of its own, relay its lines, and return its outcome: the fields of `headless.Outcome`.

    told: the arguments of `headless.execute`. environment: variables set on top of ours. stop: once set, the run is interrupted.
    """
    if stop.is_set():
        return {"status": "interrupted"}
    limit_s = told.get("timeout_s")
    hard_limit = time.monotonic() + limit_s + GRACE_S if limit_s else float("inf")
    # Inside JupyterLab this variable tells a notebook that somebody is there; nobody is, even if the command was typed in JupyterLab.
    environment = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"} | dict(environment)
    outcome: dict[str, Any] | None = None
    shown = Lines(prefix, report)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints, _process(environment, complaints) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a process that died at once says why below
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
        said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, said), daemon=True).start()
        while True:
            with contextlib.suppress(queue.Empty):
                line = said.get(timeout=0.2)
                if line is None:
                    break
                message = _message(line)
                outcome = message.get("outcome", outcome)
                shown.add(*([message["line"]] if "line" in message else []))
            shown.show()
            if stop.is_set() and not process.stdin.closed:
                process.stdin.close()  # the process takes this for Ctrl-C
                hard_limit = min(hard_limit, time.monotonic() + GRACE_S)
            if time.monotonic() > hard_limit:
                process.kill()  # its kernel notices and ends itself
        process.wait()
        shown.show(everything=True)
        if outcome is not None:
            return outcome
        complaints.seek(0)
        trace = complaints.read()
    if stop.is_set():
        return {"status": "interrupted"}
    if time.monotonic() > hard_limit:
        return {"status": "timed out"}
    return {
        "status": "failed",
        "error": "RunFailed",
        "message": f"the notebook's process ended with status {process.returncode}",
        "traceback": trace[-4000:],
    }


@contextlib.contextmanager
def _process(environment: Mapping[str, str], complaints: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `reprolib.run.headless`, out of reach of the terminal's Ctrl-C and gone when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "reprolib.run.headless"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8",
        env=dict(environment), cwd=store.root(), start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        if process.poll() is None:
            process.kill()
        process.wait()


def _read(process: subprocess.Popen[str], said: queue.Queue[str | None]) -> None:
    """Queue what the process prints, line by line, and None at its end."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            said.put(line)
    said.put(None)


def _message(line: str) -> dict[str, Any]:
    """The message in a line of the process; a line that is none (a library printed it) counts as said by the notebook."""
    with contextlib.suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    return {"line": line.rstrip("\n")}


class Lines:
    """Lines of one notebook, shown under its name, at most once a second and a screenful at a time."""

    def __init__(self, prefix: str, report: Callable[[str], None]) -> None:
        self.prefix, self.report = prefix, report
        self.pending: list[str] = []
        self.shown_at = float("-inf")

    def add(self, *lines: str) -> None:
        """Keep lines for the next showing; empty ones are not worth it."""
        self.pending += [line for line in lines if line.strip()]

    def show(self, everything: bool = False) -> None:
        """Show what is pending when the last showing is long enough ago, or in any case when `everything` is set."""
        if not self.pending or not (everything or time.monotonic() - self.shown_at >= QUIET_S):
            return
        left_out = len(self.pending) - BURST
        first = [f"... {left_out} lines left out here; the executed notebook has them"] if left_out > 0 else []
        self.report("\n".join(self.prefix + line for line in [*first, *self.pending[-BURST:]]))
        self.pending, self.shown_at = [], time.monotonic()
