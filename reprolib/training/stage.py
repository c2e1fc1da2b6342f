"""Training on a machine that is there for some minutes: what is missing of some scales, in the order of work, into one folder.

The folder has the layout of `data/` and is all that the next call, here or on another machine, needs to continue:

    zoo/<scale>/        weights and cards, those of the repository's own zoo among them
    training/<scale>/   trainings that time ran out on, as they were after their last epoch
    snapshots/<scale>/  states kept while training; cache/ and figures/: what the measures left
    logs/<scale>/       of each network what it reported (.log), its seconds and its hardware (.json)
    summary.json        what is there, what is missing, and the next command

Names carry keys and weights are checked when they are read, so `cp -rn FOLDER/zoo/. data/zoo/` brings the networks home.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from reprolib import data, provenance, store
from reprolib.errors import BadInput, ReprolibError
from reprolib.training import budget, pool, zoo
from reprolib.training.budget import Call
from reprolib.training.inventory import summarise
from reprolib.training.specs import Spec, spec_of, zoo_folder

STAGED = ("cifar", "gpu")
FIRST_GUESS_S = 60.0  # of a measure that was never timed in this folder
EPOCH = re.compile(r"^(\S+): epoch +(\d+)/(\d+) ")
FAILURES = (ReprolibError, ArithmeticError, RuntimeError)
"""What may go wrong with one network (a damaged state, a loss that is not a number, a GPU without memory) and leaves the others alone."""

Report = Callable[[str], None]


class OutOfTime(Exception):
    """Another epoch would end after the deadline; those before it are kept."""


def stage(
    minutes: float,
    folder: str | os.PathLike[str],
    device: str = "cpu",
    report: Report = print,
    jobs: int = 1,
    hooks: Sequence[str] = (),
    staged: Sequence[str] = STAGED,
) -> dict[str, Any]:
    """Train what is missing of the `staged` scales while time is left, measure it, and return the summary, which is written too.

    A network is begun when its estimate fits, and no epoch when it would end after the deadline; the card of a network that
    is finished by then is still measured. jobs: networks at a time, each in a process of one thread. hooks: see `Call`; one that
    cannot be imported is left out, with a line that says what it lacks. Call again with the same folder to continue.
    Raises BadInput for minutes or jobs that are not positive, MissingData when no data set of a missing network is here.
    """
    if not 0 < minutes < math.inf:
        raise BadInput(f"minutes={minutes:g} is not allowed: a budget of more than 0 minutes, such as 8")
    if jobs < 1:
        raise BadInput(f"jobs={jobs} is not allowed: at least 1 network at a time")
    began = budget.clock()
    call = Call(
        Path(folder).resolve(),
        minutes,
        began + 60 * minutes,
        device,
        jobs,
        tuple(hook for hook in hooks if _importable(hook, report)),
        tuple(staged),
    )
    _bring_in(call)
    with _within(call.folder):
        missing = budget.missing(call.staged)
        away = budget.absent(missing)
        if missing and all(spec.dataset in away for spec in missing):
            data.load(missing[0].dataset, "train")  # raises MissingData: what, where to put it
        for name, how in away.items():
            report(f"{name} is not here, {sum(spec.dataset == name for spec in missing)} networks wait for it: {how}")
        try:
            if jobs == 1 or len(missing) < 2:
                work(call, report)
            else:
                _in_processes(call, report)
            _conclude(call, report)
        finally:
            told = summarise(call, budget.clock() - began)
    return told


def work(call: Call, report: Report) -> None:
    """Train and measure, one network after the other, until nothing more fits; any number of processes may do so at a time."""
    tried: set[Path] = set()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _measure(call, tried, report)
        while (spec := budget.choose(call, tried)) is not None:
            tried.add(spec.path)
            _train(call, spec, report)
            _measure(call, tried, report)
            summarise(call)
    finally:
        torch.set_num_threads(threads)


def _train(call: Call, spec: Spec, report: Report) -> None:
    """Train one network, or go on with it, until it is in the zoo or time is out; note its lines and its seconds."""
    log = call.log(spec, ".log")
    lines = log.read_text().splitlines() if log.exists() else []
    n_before = len(lines)
    began = last = budget.clock()
    first, error = 0, ""

    def told(line: str) -> None:
        nonlocal last, first
        now = budget.clock()
        lines.append(f"{now - began:8.1f} s  {line}")
        store.write_text(log, "\n".join(lines) + "\n")
        report(line)
        spent, last = now - last, now
        if found := EPOCH.match(line):
            name, epoch, epochs = found[1], int(found[2]), int(found[3])
            first = first or epoch
            # Never without an epoch to show for it: a call that is too short for one would be repeated for ever.
            if epoch < epochs and now + spent > call.ends and budget.epochs_done(spec_of(name, spec.scale)) >= first:
                raise OutOfTime

    try:
        zoo.obtain(spec, call.device, told, wait=False)
    except OutOfTime:
        report(f"{spec.name}: time is out; the next call goes on from the last epoch")
    except FAILURES as failure:
        error = (str(failure) or type(failure).__name__).splitlines()[0]
        report(f"{spec.name}: failed: {error}")
    if len(lines) > n_before or error:  # else another process has it
        record = call.record(spec)
        seconds = round(record.get("seconds", 0.0) + budget.clock() - began, 1)
        described = {"hardware": provenance.hardware(call.device), "finished": spec.path.exists(), "error": error}
        call.note(spec, {"seconds": seconds, "calls": record.get("calls", 0) + 1, **described})


def _measure(call: Call, tried: set[Path], report: Report) -> None:
    """Let the hooks measure what was trained in this folder and is not measured yet, while time is left."""
    for name in call.hooks:
        for spec in _trained_here(call):
            record_path, began = call.log(spec, ".json"), budget.clock()
            if name in _measured(call, spec) or record_path / name in tried or call.left() <= _guess(call, name, spec.scale):
                continue
            with contextlib.suppress(TimeoutError), store.lock(record_path, timeout_s=0):  # else another process is at it
                if name not in _measured(call, spec):
                    tried.add(record_path / name)
                    if _run(name, "measure", spec, call.device, report):
                        call.note(spec, {"measured": _measured(call, spec) | {name: round(budget.clock() - began, 1)}})


def _trained_here(call: Call) -> list[Spec]:
    return [spec for scale in call.staged for spec in pool.specs(scale) if call.record(spec).get("finished")]


def _measured(call: Call, spec: Spec) -> dict[str, float]:
    return call.record(spec).get("measured", {})


def _run(hook: str, part: str, of: Spec | str, device: str, report: Report) -> bool:
    """Call a hook's `measure` or `conclude`; whether it went through. What goes wrong in it must not cost the trainings."""
    try:
        getattr(importlib.import_module(hook), part)(of, device, report)
    except Exception as failure:
        report(f"{hook}: {part} failed for {of if isinstance(of, str) else of.name}: {type(failure).__name__}: {failure}")
        return False
    return True


def _guess(call: Call, name: str, scale: str) -> float:
    """Seconds that a hook needs for a network: the most it took for one of that scale in this folder."""
    took = [_measured(call, spec).get(name) for spec in pool.specs(scale)]
    return max((seconds for seconds in took if seconds is not None), default=FIRST_GUESS_S)


def _conclude(call: Call, report: Report) -> None:
    """Let the hooks put together what they measured of each scale, unless they did so of the same networks before."""
    for name in call.hooks:
        for scale in call.staged:
            there = sorted(spec.path.name for spec in _trained_here(call) if spec.scale == scale)
            path, began = call.folder / "logs" / scale / "concluded.json", budget.clock()
            before = json.loads(path.read_text()) if path.exists() else {}
            seconds, of = before.get(name, (FIRST_GUESS_S, []))
            if there and there != of and call.left() > seconds and _run(name, "conclude", scale, call.device, report):
                store.write_json(path, before | {name: (round(budget.clock() - began, 1), there)})


def _importable(hook: str, report: Report) -> bool:
    """Whether what a hook imports is installed; a line says what is not."""
    try:
        importlib.import_module(hook)
    except ModuleNotFoundError as error:
        report(f"{hook} measures nothing here: the Python module {error.name} is not installed")
        return False
    return True


def _bring_in(call: Call) -> None:
    """Put the networks of the repository's zoo into the folder, where they are not: they need no training, and controls need them."""
    for scale in call.staged:
        for weights in sorted((zoo_folder() / scale).glob("*.safetensors")):
            target = call.folder / "zoo" / scale / weights.name
            card = weights.with_suffix(".json")
            if not target.exists() and card.exists():
                store.write_bytes(target.with_suffix(".json"), card.read_bytes())
                store.write_bytes(target, weights.read_bytes())


@contextlib.contextmanager
def _within(folder: Path) -> Iterator[None]:
    """Let the zoo, the measurement cache and the figures lie in the folder."""
    names = {"REPROLIB_ZOO": "zoo", "REPROLIB_CACHE": "cache", "REPROLIB_FIGURES": "figures"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(folder / part) for name, part in names.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _in_processes(call: Call, report: Report) -> None:
    """Run `jobs` copies of this module; each takes the next network that fits and that no other has locked."""
    told = json.dumps(asdict(call) | {"folder": str(call.folder)})
    command = [sys.executable, "-u", "-m", "reprolib.training.stage", told]
    processes, relays = [], []
    try:
        for _ in range(call.jobs):
            processes.append(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=store.root(), env=os.environ | pool.ONE_THREAD
                )
            )
            relays.append(threading.Thread(target=pool._relay, args=(processes[-1], report), daemon=True))
            relays[-1].start()
        for process, relay in zip(processes, relays, strict=True):
            process.wait()
            relay.join()
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
    if failed := [process.returncode for process in processes if process.returncode]:
        raise ReprolibError(
            f"{len(failed)} of {call.jobs} processes ended with exit code {failed[0]}; their last lines are above; run again to go on"
        )


def _main(arguments: Sequence[str]) -> int:
    told = json.loads(arguments[0])
    names = {name: tuple(told[name]) for name in ("hooks", "staged")}
    try:
        work(Call(**told | names | {"folder": Path(told["folder"])}), lambda line: print(line, flush=True))
    except ReprolibError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
