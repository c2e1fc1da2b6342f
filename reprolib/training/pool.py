"""Working down a scale's training table: any number of processes share the work, none trains a network twice."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from reprolib import data, provenance, scales, store
from reprolib.errors import BadInput, CorruptFile, ReprolibError
from reprolib.training import zoo
from reprolib.training.recipes import recipe
from reprolib.training.specs import state_path

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of every process that trains or measures: results must not depend on the number of cores."""

MODULE = "reprolib.training.pool"

PRIOR = {("cpu", "cuda"): 0.1, ("cuda", "cpu"): 100.0}
"""(device the table's minutes are of, device at hand) -> the pace until a network was trained there: cautious guesses."""

FAILURES = (ArithmeticError, RuntimeError, CorruptFile)
"""What may go wrong with one network (a loss that is not a number, a GPU without memory, a damaged state) and leaves the others alone."""


Obtain = Callable[[Any, str, Callable[[str], None], bool], bool]
"""(network, device, report, wait) -> whether it is there afterwards."""


class OutOfTime(Exception):
    """Another epoch would end after the deadline; those before it are kept."""


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
        card = zoo.card_of(spec)
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


def totals(scale: str, only: Sequence[str] = (), jobs: int = 1, device: str = "cpu") -> str:
    """One line: how many networks are there, how many are missing, and how long they take, `jobs` at a time."""
    states = [_state(spec) for spec in specs(scale, only)]
    missing, aside = states.count("missing"), states.count("not applicable")
    line = f"{states.count('there')} there, {missing} missing" + (f", {aside} not applicable" if aside else "")
    if not missing:
        return line
    factor, n = pace(scale, device)
    why = (
        f"{factor:.1f} times the estimates, as the {n} trained on this kind of machine took"
        if n
        else "by the estimates: none was trained here"
    )
    return f"{line}: about {_duration(minutes_left(scale, only, device) / jobs)} left, {jobs} at a time ({why})"


def minutes_left(scale: str, only: Sequence[str] = (), device: str = "cpu") -> float:
    """Minutes that the missing networks take one by one: the table's estimates times the `pace` of this machine."""
    return pace(scale, device)[0] * sum(estimated_minutes(spec) for spec in specs(scale, only) if _state(spec) == "missing")


def pace(scale: str, device: str = "cpu") -> tuple[float, int]:
    """How many times its estimate a training of this scale took on this kind of machine, and over how many; where none did, a guess."""
    here, took, estimated, n = _kind(provenance.hardware(device)), 0.0, 0.0, 0
    for spec in specs(scale):
        card = zoo.card_of(spec)
        if card and card["training"]["history"] and _kind(card["hardware"]) == here:
            took, estimated, n = took + card["training"]["seconds"] / 60, estimated + estimated_minutes(spec), n + 1
    return (took / estimated, n) if n else (PRIOR.get((scales.scale(scale).minutes_on, device), 1.0), 0)


def estimated_minutes(spec: zoo.Spec) -> float:
    """The table's minutes for a network, of one idle core; 0 for one that is not in the table."""
    return spec.minutes


def epoch_minutes(spec: zoo.Spec, device: str) -> float:
    """Minutes of the next epoch of a network: as its last one took, else the table's estimate at the `pace` of this machine."""
    with contextlib.suppress(CorruptFile, FileNotFoundError):
        return json.loads(store.read_safetensors(state_path(spec))[1]["told"])["history"][-1]["seconds"] / 60
    spec = spec.arms()[0] if recipe(spec.recipe).matched else spec  # which may have to be trained again for its states
    return pace(spec.scale, device)[0] * estimated_minutes(spec) / spec.schedule.epochs


def bring_in(scale: str, zoo_folder: Path) -> None:
    """Copy the networks of a scale from another zoo, where they are missing: they need no training, and controls need them."""
    for spec in specs(scale):
        for path in (spec.path.with_suffix(".json"), spec.path):  # the weights come last: their presence means "done"
            source = zoo_folder / scale / path.name
            if source.exists() and not path.exists():
                store.write_bytes(path, source.read_bytes())


def train_pool(
    scale: str, jobs: int = 1, only: Sequence[str] = (), device: str = "cpu", report: Callable[[str], None] = print, ends: float = math.inf
) -> None:
    """Train what is missing of a scale's table, saying after each network how long the rest takes. See `train_specs`.

    Networks whose data set is not here wait for it, with a line that says so; raises MissingData when that is all there is to do.
    """
    wanted = specs(scale, only)
    missing = [spec for spec in wanted if _state(spec) == "missing"]
    absent = {row["name"]: row["how"] for row in data.status() if not row["found"]}
    if missing and all(spec.dataset in absent for spec in missing):
        data.load(missing[0].dataset, "train")  # raises: what, where to put it

    def told(line: str) -> None:
        report(line)
        if ": kept; " in line:
            report(totals(scale, only, jobs, device))

    report(totals(scale, only, jobs, device))
    for name in dict.fromkeys(spec.dataset for spec in missing if spec.dataset in absent):
        report(f"{name} is not here, {sum(spec.dataset == name for spec in missing)} networks wait for it: {absent[name]}")
    train_specs([spec for spec in wanted if spec.dataset not in absent], jobs, device, told, ends)


def train_specs(
    wanted: Sequence[zoo.Spec], jobs: int = 1, device: str = "cpu", report: Callable[[str], None] = print, ends: float = math.inf,
    obtain: Obtain | None = None, module: str = MODULE,
) -> None:  # fmt: skip
    """Train what is missing of `wanted`, all of one scale, `jobs` networks at a time with one thread each.

    Networks that another process is training are left to it and waited for at the end. Safe to kill and to call again.
    ends: seconds of `time.time()`; no epoch is begun that would end later, at the pace of the one before, and nothing is waited for.
    obtain: what trains one, in the place of `zoo.obtain`; module: the one whose copies do so in processes of their own.
    Raises ReprolibError, which names the first, when networks failed, after the others have finished.
    """
    missing = [spec for spec in wanted if not spec.path.exists()]
    if ends < math.inf:
        missing.sort(key=lambda spec: recipe(spec.recipe).matched)  # they wait for their arms
    if jobs > 1 and len(missing) > 1:
        _in_processes(missing, min(jobs, len(missing)), device, report, ends, module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        failed = work(missing, device, report, ends, obtain=obtain)
        if ends == math.inf:
            failed |= work([spec for spec in missing if spec not in failed], device, report, wait=True, obtain=obtain)
    finally:
        torch.set_num_threads(threads)
    if failed:
        spec, error = next(iter(failed.items()))
        raise ReprolibError(f"{len(failed)} of {len(missing)} networks failed, {spec.name} with: {error}; run again to go on") from error


def work(
    wanted: Sequence[zoo.Spec], device: str, report: Callable[[str], None], ends: float = math.inf, wait: bool = False,
    obtain: Obtain | None = None,
) -> dict[zoo.Spec, Exception]:  # fmt: skip
    """Train, one after the other, what no other process has; return what failed. wait: for those that another process has."""
    failed: dict[zoo.Spec, Exception] = {}
    for spec in wanted:
        if spec.path.exists() or not _fits(spec, device, report, ends):
            continue
        try:
            (obtain or zoo.obtain)(spec, device, _until(ends, report), wait)
        except OutOfTime:
            report(f"{spec.name}: time is out; the next call goes on from its last epoch")
        except FAILURES as error:
            report(f"{spec.name}: failed: {error}")
            failed[spec] = error
    return failed


def _fits(spec: zoo.Spec, device: str, report: Callable[[str], None], ends: float) -> bool:
    """Whether an epoch of a network can be trained now and ends before `ends`; a line where it would end later."""
    if ends == math.inf:
        return True
    if zoo.not_applicable(spec) or (recipe(spec.recipe).matched and not all(arm.path.exists() for arm in spec.arms())):
        return False
    minutes = epoch_minutes(spec, device)
    if is_late := time.time() + 60 * minutes > ends:
        report(f"{spec.name}: waits, since its next epoch takes about {minutes:.2g} min")
    return not is_late


def _until(ends: float, report: Callable[[str], None]) -> Callable[[str], None]:
    """`report`, which ends a training after an epoch when one more, as long as that one, would end after `ends`."""
    last = time.time()

    def told(line: str) -> None:
        nonlocal last
        report(line)
        now = time.time()
        spent, last = now - last, now
        epoch = re.match(r"\S+: epoch +(\d+)/(\d+) ", line)
        if epoch and epoch[1] != epoch[2] and now + spent > ends:
            raise OutOfTime

    return told


def _in_processes(missing: Sequence[zoo.Spec], jobs: int, device: str, report: Callable[[str], None], ends: float, module: str) -> None:
    """Run `jobs` copies of a module; each takes the next network that no other has locked."""
    command = [sys.executable, "-u", "-m", module, missing[0].scale, device, str(ends), *(spec.name for spec in missing)]
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
        for relay in relays:  # or a last line would come after the notebook's cell
            relay.join()


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


def main_of_a_worker(arguments: Sequence[str], named: Callable[[str, str], zoo.Spec] = zoo.spec_of, obtain: Obtain | None = None) -> int:
    """What a process of `train_specs` does: train the named networks that no other has. Returns its exit code."""
    scale, device, ends, *names = arguments
    try:
        work([named(name, scale) for name in names], device, lambda line: print(line, flush=True), float(ends), obtain=obtain)
    except ReprolibError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # the notebook that waits for us was interrupted with us, and says so
        return 130
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main_of_a_worker(sys.argv[1:]))
