"""Run notebooks headless: several at a time, each with a kernel of its own and a limit on its time; a failure is a returned value."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprolib import errors, provenance, registry, store
from reprolib.errors import BadInput, MissingData, ReprolibError, nearest

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**29)}
"""For glibc, which else hands the megabytes of every step of an inversion back to the system and has them zeroed again: an eighth of the time."""

EXIT_CODES = {
    "completed": 0,
    "failed": errors.RunFailed.exit_code,
    "timed out": errors.RunTimedOut.exit_code,
    "kernel died": errors.KernelDied.exit_code,
    "interrupted": 130,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an execution ended. status: one of EXIT_CODES. cell: as in In [cell] of the executed notebook, None where no cell is to blame."""

    status: str
    cell: int | None = None
    source: str = ""  # that cell's source
    error: str = ""  # the name of the exception, "" when there is none
    message: str = ""
    traceback: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResult(Outcome):
    """How the run of one notebook ended; `exit_code` 0 means it completed.

    notebook: the executed notebook. folder: where the figures and results.json of the run are.
    """

    finding: str
    scale: str
    exit_code: int
    seconds: float
    notebook: Path
    folder: Path

    @property
    def next_step(self) -> str:
        """What to do about a run that did not complete, in one sentence."""
        again = "the same command continues, since trained networks and finished measurements are kept"
        if self.status == "completed":
            return ""
        if self.status == "interrupted":
            return f"run it again when you like: {again}"
        if self.status == "timed out":
            return f"give it more time (--timeout MINUTES) or choose a smaller scale: {again}"
        if self.status == "kernel died":
            return f"most often memory ran out: free some, run one notebook at a time (--jobs 1) or choose a smaller scale; {again}"
        if self.exit_code != errors.RunFailed.exit_code:
            return f"do what the message says, then run it again: {again}"
        where = f" at In [{self.cell}]" if self.cell else ""
        return f"open {self.notebook}{where}, or run notebooks/{self.finding}.ipynb in JupyterLab (`make lab`)"


@dataclasses.dataclass(frozen=True)
class Job:
    """One notebook to run: what `headless.execute` is told, and the surroundings."""

    finding: str
    source: Path
    notebook: Path
    folder: Path
    parameters: Mapping[str, Any]
    environment: Mapping[str, str]


def run(
    findings: Sequence[str],
    scale: str = "laptop",
    parameters: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    device: str | None = None,
    from_nothing: bool = False,
    timeout_s: float | None = None,
    report: Callable[[str], None] = print,
    write: bool = False,
    from_rows: bool = False,
) -> list[RunResult]:
    """Run the notebooks of `findings` ("all" or none: every one), `jobs` at a time (default: the cores), and wait for them.

    parameters: name -> value, strings allowed ("8/255"). from_nothing: train and measure everything again, in data/from-nothing/<scale>,
    leaving data/zoo and figures/ alone; a finished run there is started afresh, an interrupted one continues. timeout_s: wall-clock limit
    of each notebook. report: called with each line to show. write: over the committed evidence, which a clean tree alone may.
    from_rows: draw and judge from the committed rows, and measure nothing.
    Raises BadInput or MissingData before anything is started; what goes wrong later is in the results, one a finding, in order.
    """
    if jobs is not None and jobs < 1:
        raise BadInput(f"jobs={jobs} is not allowed: at least 1 notebook at a time; leave it out to use all cores")
    if timeout_s is not None and not timeout_s > 0:
        raise BadInput(f"a limit of {timeout_s:g} s is not allowed: it must be positive; leave it out for no limit")
    names = _findings(findings)
    modes = {"--write": write, "--from-nothing": from_nothing, "--from-rows": from_rows}
    mode, *others = [name for name, is_asked in modes.items() if is_asked] or [""]
    if others and from_rows:
        raise BadInput(f"--from-rows with {mode} is not allowed: it measures nothing; leave out one of the two")
    if set(findings) <= {"all"}:
        if from_rows:
            names = [name for name in names if (store.root() / "figures" / scale / name / "rows.csv.gz").is_file()]
        if parameters:  # of turned knobs there is no evidence to read
            names = [name for name in names if registry.measures(name)]
    if write:
        _check_clean(scale, from_nothing)
    at_a_time = min(jobs or cores(), max(1, len(names)))
    given = {"scale": scale, **(parameters or {}), **({"device": device} if device is not None else {})}
    store.data_roots()  # a REPROLIB_DATA that names nothing stops the run here
    work = [_job(name, given, at_a_time, mode) for name in names]
    if from_nothing and (_from_nothing(scale) / "finished").exists():  # an interrupted one is continued
        shutil.rmtree(_from_nothing(scale))
    stop = threading.Event()
    results = []
    for measures in (True, False):  # what reads the others' results comes after them
        part = [job for job in work if registry.measures(job.finding) is measures and not stop.is_set()]
        with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
            running = [pool.submit(_run_one, job, timeout_s, stop, report) for job in part]
            while True:
                try:
                    concurrent.futures.wait(running)
                    break
                except KeyboardInterrupt:
                    report("interrupted: stopping the kernels, a moment please")
                    stop.set()
        results += [future.result() for future in running]
    if from_nothing and all(result.exit_code == 0 for result in results):
        store.write_text(_from_nothing(scale) / "finished", "a later run from nothing deletes this folder and starts afresh\n")
    return results


def _check_clean(scale: str, from_nothing: bool) -> None:
    """Evidence is written at a scale that counts, from committed code alone."""
    from reprolib import scales

    if from_nothing or not scales.scale(scale).is_evidence:
        why = "with --from-nothing" if from_nothing else f"at scale {scale}, which is no evidence"
        raise BadInput(f"--write is not allowed {why}: leave it out")
    changed = provenance.changed_files()
    if changed is None:
        raise BadInput("--write needs git, to know that the code is the committed one: work in a clone of the repository")
    if changed:
        named = ", ".join(changed[:3]) + (" and others" if len(changed) > 3 else "")
        raise BadInput(f"--write is not allowed with changes in {named}: commit them first, since evidence is made by committed code alone")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _findings(given: Sequence[str]) -> list[str]:
    for name in given:
        if name not in (*registry.notebooks(), "all"):
            raise BadInput(
                f"finding {name!r} is unknown; allowed: {', '.join(registry.notebooks())}, all{nearest(name, registry.notebooks())}"
            )
    return list(registry.notebooks()) if not given or "all" in given else list(dict.fromkeys(given))


def _job(finding: str, given: Mapping[str, Any], at_a_time: int, mode: str) -> Job:
    """mode: --write, --from-nothing, --from-rows or an empty text."""
    from reprolib import parameters

    settings = parameters.validate(finding, given)
    scale, is_written, is_read = settings.scale.name, mode == "--write", mode == "--from-rows"
    if (is_written or is_read) and settings.overridden:
        turned = ", ".join(f"{name}={value}" for name, value in settings.overridden.items())
        raise BadInput(f"{mode} with {turned} is not allowed: evidence is made at the presets; leave out the parameter, or {mode}")
    if is_read and not (settings.committed() / "rows.csv.gz").is_file():
        raise MissingData(f"no rows of {finding} are committed at scale {scale}: leave out --from-rows to measure them")
    known = parameters.of(finding)
    typed = {name: known[name].read(name, value) for name, value in given.items()}  # "8/255" becomes a number, for the reader's eyes
    source = store.root() / "notebooks" / f"{finding}.ipynb"
    if not source.is_file():
        raise MissingData(
            f"the notebook {source} is not there: restore it (git checkout), or make it with `jupytext --sync {source.with_suffix('.py')}`"
        )
    folder = settings.committed() if is_written else settings.folder()
    place = Path(*folder.parts[-2:])  # <scale>/<finding>, or custom/<hash> of a turned knob
    # Committed numbers are made with one thread a process; a turned knob is for the reader's eyes, and may use the machine.
    threads = max(1, cores() // at_a_time) if place.parts[0] == "custom" else 1
    environment = KEEP_MEMORY | {name: str(threads) for name in THREAD_VARIABLES}
    environment |= {parameters.WRITE: str(int(is_written)), parameters.FROM_ROWS: str(int(is_read))}
    environment["REPROLIB_JOBS"] = str(max(1, cores() // at_a_time))  # networks a notebook may train at a time
    if mode == "--from-nothing":
        base = _from_nothing(scale)
        folder = base / "figures" / "rerun" / place
        environment |= {"REPROLIB_ZOO": str(base / "zoo"), "REPROLIB_CACHE": str(base / "cache"), "REPROLIB_FIGURES": str(base / "figures")}
        place = Path("from-nothing") / place
    notebook = store.root() / "data" / "runs" / place.with_suffix(".ipynb")
    return Job(finding, source, notebook, folder, typed, environment)


def _from_nothing(scale: str) -> Path:
    """The folder that stands in for data/zoo, data/cache and figures/ in a run from nothing."""
    return store.root() / "data" / "from-nothing" / scale


def _run_one(job: Job, timeout_s: float | None, stop: threading.Event, report: Callable[[str], None]) -> RunResult:
    from reprolib.run import headless, page  # papermill takes a second to import

    def emit(line: str) -> None:
        if line.strip():
            report(f"[{job.finding}] {line}")

    began, folder = time.monotonic(), job.folder
    # Inside JupyterLab this variable tells a notebook that somebody is there; nobody is, even if the command was typed in JupyterLab.
    environment = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"} | dict(job.environment)
    try:
        with store.lock(job.notebook, timeout_s=0):
            outcome = headless.execute(job.source, job.notebook, job.parameters, environment, timeout_s, emit, stop)
            if outcome.status == "completed":
                folder = page.folder_of(job.notebook)
                page.write_page(job.notebook, folder, job.finding)
    except TimeoutError:
        message = f"another run of {job.finding} at {job.parameters['scale']} is in progress; wait for it to end"
        outcome = Outcome("failed", error="RunFailed", message=message)
    except ReprolibError as error:
        outcome = Outcome("failed", error=type(error).__name__, message=str(error))
    code = EXIT_CODES[outcome.status]
    if outcome.status == "timed out":
        outcome = dataclasses.replace(outcome, message=f"{job.finding} ran past its limit of {(timeout_s or 0) / 60:.3g} min")
    if outcome.status == "failed":
        # An error of ours keeps its own code and says itself what to do: missing data is 3, in a notebook as on the command line.
        code = getattr(getattr(errors, outcome.error, None), "exit_code", code)
    seconds, scale = time.monotonic() - began, job.parameters["scale"]
    return RunResult(
        **vars(outcome), finding=job.finding, scale=scale, exit_code=code, seconds=seconds, notebook=job.notebook, folder=folder
    )
