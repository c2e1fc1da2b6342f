"""Working down a scale's training table: any number of processes share the work, none trains a network twice."""

from __future__ import annotations

import fnmatch
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from reprolib import provenance, scales, store
from reprolib.errors import BadInput, ReprolibError
from reprolib.training import zoo

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of every process that trains or measures: results must not depend on the number of cores."""


def specs(scale: str, only: Sequence[str] = ()) -> list[zoo.Spec]:
    """The networks of a scale's table in the order of work.

    only: names or patterns such as "w8-*-s0"; all when empty. Raises BadInput when a pattern matches nothing.
    """
    preset = scales.scale(scale)
    table = [zoo.Spec(recipe, architecture, dataset, seed, scale) for architecture, recipe, seed, dataset in preset.entries()]
    for pattern in only:
        if not any(fnmatch.fnmatch(spec.name, pattern) for spec in table):
            raise BadInput(f"--only {pattern!r} matches no network of scale {scale}; allowed: {', '.join(spec.name for spec in table)}")
    return [spec for spec in table if not only or any(fnmatch.fnmatch(spec.name, pattern) for pattern in only)]


def list_pool(scale: str, only: Sequence[str] = ()) -> pd.DataFrame:
    """What exists and what is missing of a scale's table, one row a network, in the order of work.

    Columns: network, state (there, missing, or not applicable), clean and adversarial accuracy, minutes of training (the
    table's estimate, marked ~, where it is missing), precision, hardware, and check: the points of adversarial accuracy that a
    robust network has over its standard twin at its own radius ("fails" where they are too few), or how well a control matches.
    """
    rows = []
    for spec in specs(scale, only):
        card = zoo.card_of(spec) if spec.path.exists() else None
        rows.append(
            {
                "network": spec.name,
                "state": _state(spec),
                "clean": card["clean"]["value"] if card else math.nan,
                "adversarial": card["adversarial"][0]["value"] if card else math.nan,
                "minutes": f"{card['training']['seconds'] / 60:.1f}" if card else f"~{estimated_minutes(spec):g}",
                "precision": card["training"]["precision"] if card else "",
                "hardware": (card["hardware"].get("gpu") or card["hardware"]["capability"]) if card else "",
                "check": _checked(spec, card) if card else "",
            }
        )
    return pd.DataFrame(rows)


def totals(scale: str, only: Sequence[str] = (), jobs: int = 1) -> str:
    """One line: how many networks are there, how many are missing, and how long they take, `jobs` at a time."""
    states = [_state(spec) for spec in specs(scale, only)]
    missing, aside = states.count("missing"), states.count("not applicable")
    line = f"{states.count('there')} there, {missing} missing" + (f", {aside} not applicable" if aside else "")
    if not missing:
        return line
    factor, n = pace(scale)
    why = (
        f"{factor:.1f} times the estimates, as the {n} trained on this kind of machine took"
        if n
        else "by the estimates: none was trained here"
    )
    return f"{line}: about {_duration(minutes_left(scale, only) / jobs)} left, {jobs} at a time ({why})"


def minutes_left(scale: str, only: Sequence[str] = ()) -> float:
    """Minutes of one core that the missing networks take: the table's estimates times the `pace` of this machine."""
    return pace(scale)[0] * sum(estimated_minutes(spec) for spec in specs(scale, only) if _state(spec) == "missing")


def pace(scale: str) -> tuple[float, int]:
    """How many times its estimate a training of this scale took on this kind of machine, and over how many; 1 where none did."""
    here, took, estimated, n = _kind(provenance.hardware()), 0.0, 0.0, 0
    for spec in specs(scale):
        card = zoo.card_of(spec) if spec.path.exists() else None
        if card and card["training"]["history"] and _kind(card["hardware"]) == here:
            took, estimated, n = took + card["training"]["seconds"] / 60, estimated + estimated_minutes(spec), n + 1
    return (took / estimated, n) if n else (1.0, 0)


def estimated_minutes(spec: zoo.Spec) -> float:
    """The table's minutes for a network, of one idle core; 0 for one that is not in the table."""
    line = scales.scale(spec.scale).line(spec.architecture, spec.recipe, spec.dataset)
    return line.minutes if line else 0.0


def train_pool(
    scale: str, jobs: int = 1, only: Sequence[str] = (), device: str = "cpu", report: Callable[[str], None] = print
) -> list[zoo.Spec]:
    """Train what is missing of a scale's table, saying after each network how long the rest takes; return its specs. See `train_specs`."""
    wanted = specs(scale, only)

    def told(line: str) -> None:
        report(line)
        if ": kept; " in line:
            report(totals(scale, only, jobs))

    report(totals(scale, only, jobs))
    train_specs(wanted, jobs, device, told)
    return wanted


def train_specs(wanted: Sequence[zoo.Spec], jobs: int = 1, device: str = "cpu", report: Callable[[str], None] = print) -> None:
    """Train what is missing of `wanted`, all of one scale, `jobs` networks at a time with one thread each.

    Networks that another process is training are left to it and waited for at the end. Safe to kill and to call again.
    Raises what the first failing network raised, after the others have finished.
    """
    missing = [spec for spec in wanted if not spec.path.exists()]
    if jobs > 1 and len(missing) > 1:
        _in_processes(missing, min(jobs, len(missing)), device, report)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for wait in (False, True):
            for spec in missing:
                if not spec.path.exists():
                    zoo.obtain(spec, device, report, wait)
    finally:
        torch.set_num_threads(threads)


def _in_processes(missing: Sequence[zoo.Spec], jobs: int, device: str, report: Callable[[str], None]) -> None:
    """Run `jobs` copies of this module; each takes the next network that no other has locked."""
    command = [sys.executable, "-u", "-m", "reprolib.training.pool", missing[0].scale, device, *(spec.name for spec in missing)]
    processes, relays = [], []
    try:
        for _ in range(jobs):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=store.root(), env=os.environ | ONE_THREAD
            )
            processes.append(process)
            relays.append(threading.Thread(target=_relay, args=(process, report), daemon=True))
            relays[-1].start()
            time.sleep(0.5)  # the first one takes the first lock
        for process, relay in zip(processes, relays, strict=True):
            process.wait()
            relay.join()
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()


def _relay(process: subprocess.Popen[str], report: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            report(line.rstrip())


def _state(spec: zoo.Spec) -> str:
    if spec.path.exists():
        return "there"
    return "not applicable" if zoo.not_applicable(spec) else "missing"


def _checked(spec: zoo.Spec, card: Mapping[str, Any]) -> str:
    if found := zoo.manipulation(spec):
        return f"{100 * found['difference']:+.0f} points" + ("" if found["holds"] else ": fails")
    if match := card.get("matching"):
        return f"{100 * match['distance']:.1f} points off" + ("" if match["matched"] else ": no match")
    return ""


def _kind(hardware: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in hardware.items() if name != "threads"}


def _duration(minutes: float) -> str:
    whole = max(1, round(minutes))
    return f"{whole} min" if whole < 100 else f"{whole // 60} h {whole % 60:02d} min"


def _main(arguments: Sequence[str]) -> int:
    scale, device, *names = arguments
    try:
        for spec in [zoo.spec_of(name, scale) for name in names]:
            if not spec.path.exists():
                zoo.obtain(spec, device, lambda line: print(line, flush=True), wait=False)
    except ReprolibError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(_main(sys.argv[1:]))
