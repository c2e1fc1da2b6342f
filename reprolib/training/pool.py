"""Working down a scale's training table: any number of processes share the work, none trains a network twice."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch

from reprolib import scales, store
from reprolib.errors import BadInput, ReprolibError
from reprolib.training import zoo

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of every process that trains or measures: results must not depend on the number of cores."""


def specs(scale: str, only: Sequence[str] = ()) -> list[zoo.Spec]:
    """The networks of a scale's table in the order of work.

    only: names or patterns such as "w8-*-s0"; all when empty. Raises BadInput when a pattern matches nothing.
    """
    preset = scales.scale(scale)
    table = [zoo.Spec(recipe, architecture, preset.dataset, seed, scale) for architecture, recipe, seed in preset.entries()]
    for pattern in only:
        if not any(fnmatch.fnmatch(spec.name, pattern) for spec in table):
            raise BadInput(f"--only {pattern!r} matches no network of scale {scale}; allowed: {', '.join(spec.name for spec in table)}")
    return [spec for spec in table if not only or any(fnmatch.fnmatch(spec.name, pattern) for pattern in only)]


def list_pool(scale: str) -> pd.DataFrame:
    """What exists and what is missing of a scale's table: name, state, clean and adversarial accuracy, minutes of training."""
    rows = []
    for spec in specs(scale):
        card = zoo.card_of(spec) if spec.path.exists() else None
        rows.append(
            {
                "network": spec.name,
                "state": "there" if card else "missing",
                "clean": card["clean"]["value"] if card else None,
                "adversarial": card["adversarial"][0]["value"] if card else None,
                "minutes": card["training"]["seconds"] / 60 if card else None,
            }
        )
    return pd.DataFrame(rows)


def train_pool(
    scale: str, jobs: int = 1, only: Sequence[str] = (), device: str = "cpu", report: Callable[[str], None] = print
) -> list[zoo.Spec]:
    """Train what is missing of a scale's table; return its specs. See `train_specs`."""
    wanted = specs(scale, only)
    train_specs(wanted, jobs, device, report)
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
