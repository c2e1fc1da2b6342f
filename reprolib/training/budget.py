"""What fits into the time that is left: the next network of the tables that can be trained before a deadline.

A network's estimate is its line's minutes times the pace: how many times their estimates the networks took that were
trained in the same folder, on hardware of the same kind.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprolib import data, provenance, scales, store
from reprolib.errors import CorruptFile
from reprolib.training import pool, zoo
from reprolib.training.recipes import recipe
from reprolib.training.specs import Spec, snapshot_folder, state_path

PRIOR: dict[tuple[str, str], float] = {("cpu", "cuda"): 0.1, ("cuda", "cpu"): 100.0}
"""(device the table's minutes are of, device at hand) -> the pace until one was timed: cautious guesses."""

clock: Callable[[], float] = time.time  # of the wall: several processes keep one deadline


@dataclass(frozen=True)
class Call:
    """One call of `stage`: until when it works (seconds of `clock`), where, on which scales in turn, and what it measures.

    hooks: modules with `measure(spec, device, report)`, called for each network that was trained, and
    `conclude(scale, device, report)`, called for each scale at the end.
    """

    folder: Path
    minutes: float
    ends: float
    device: str
    jobs: int
    hooks: tuple[str, ...]
    staged: tuple[str, ...]

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.ends - clock()

    def log(self, spec: Spec, suffix: str) -> Path:
        """Where the lines (.log) or the record (.json) of a network are kept."""
        return self.folder / "logs" / spec.scale / f"{spec.name}{suffix}"

    def note(self, spec: Spec, news: dict[str, Any]) -> None:
        """Add to a network's record."""
        store.write_json(self.log(spec, ".json"), self.record(spec) | news)

    def record(self, spec: Spec) -> dict[str, Any]:
        """What is noted of a network that was worked on in this folder, {} of others.

        seconds, calls, hardware; finished: whether it was trained to its end here; measured: seconds by hook; error.
        """
        path = self.log(spec, ".json")
        return json.loads(path.read_text()) if path.exists() else {}


def missing(staged: Collection[str]) -> list[Spec]:
    """The networks of the scales' tables that are not in the zoo, in the order of work."""
    return [spec for scale in staged for spec in pool.specs(scale) if not spec.path.exists() and not zoo.not_applicable(spec)]


def absent(specs: Collection[Spec]) -> dict[str, str]:
    """The data sets of these networks that are not here, and how to get them."""
    wanted = {spec.dataset for spec in specs}
    return {row["name"]: row["how"] for row in data.status() if row["name"] in wanted and not row["found"]}


def choose(call: Call, tried: Collection[Path]) -> Spec | None:
    """The first missing network that fits into the time left; None when none does.

    tried: paths of networks to leave out. A network that would fit into no call of this length is begun too, where nothing
    else fits but an epoch of it does: it is continued over several calls. A matched control waits for its arms.
    """
    left = call.left()
    if left <= 0:
        return None
    needs = [need for need in _needs(call) if need[0].path not in tried]
    fits = (spec for spec, to_its_end, _ in needs if to_its_end <= left)
    too_long = (spec for spec, _, epoch in needs if epoch * spec.schedule.epochs > 60 * call.minutes and epoch <= left)
    return next(fits, None) or next(too_long, None)


def minutes_for_more(call: Call) -> float:
    """Minutes that another call should have: as many as this one, or the whole ones in which an epoch at least can be trained."""
    shortest = min((min(to_its_end, epoch) for _, to_its_end, epoch in _needs(call)), default=0.0) / 60
    return call.minutes if shortest <= call.minutes else float(math.ceil(shortest))


def seconds_needed(spec: Spec, pace: float) -> tuple[float, float]:
    """Estimated seconds to the end of a network's training, less what an interrupted one has done, and for one epoch of it.

    pace: how many times their estimates trainings take.
    """
    minutes = pool.estimated_minutes(spec)
    if recipe(spec.recipe).matched and not _has_states(spec.arms()[0]):
        minutes += pool.estimated_minutes(spec.arms()[0])  # which is trained again for them
    whole, epochs = 60 * minutes * pace, spec.schedule.epochs
    return whole * (1 - epochs_done(spec) / epochs), whole / epochs


def pace(call: Call, scale: str) -> float:
    """How many times their estimates the networks of a scale took in this folder on this kind of hardware; a guess before the first.

    Interrupted ones count by their share of epochs.
    """
    here, took, estimated = kind(provenance.hardware(call.device)), 0.0, 0.0
    for spec in pool.specs(scale):
        record, how = call.record(spec), recipe(spec.recipe)
        if how.trained and not how.matched and kind(record.get("hardware", {})) == here:
            share = 1.0 if record["finished"] else epochs_done(spec) / spec.schedule.epochs
            took, estimated = took + record["seconds"] * (share > 0), estimated + 60 * share * pool.estimated_minutes(spec)
    return took / estimated if estimated else PRIOR.get((scales.scale(scale).minutes_on, call.device), 1.0)


def epochs_done(spec: Spec) -> int:
    """Epochs of an interrupted training that are kept; 0 where there is none, or a damaged one, which is not continued."""
    with contextlib.suppress(CorruptFile, FileNotFoundError):
        return len(json.loads(store.read_safetensors(state_path(spec))[1]["told"])["history"])
    return 0


def kind(hardware: dict[str, Any]) -> dict[str, Any]:
    """The hardware but for the number of threads."""
    return {name: value for name, value in hardware.items() if name != "threads"}


def _needs(call: Call) -> list[tuple[Spec, float, float]]:
    """The missing networks that could be begun now, with what `seconds_needed` says of them."""
    candidates = missing(call.staged)
    away = absent(candidates)
    paces = {scale: pace(call, scale) for scale in call.staged}
    can_begin = [spec for spec in candidates if spec.dataset not in away and _has_its_arms(spec)]
    return [(spec, *seconds_needed(spec, paces[spec.scale])) for spec in can_begin]


def _has_its_arms(spec: Spec) -> bool:
    return not recipe(spec.recipe).matched or all(arm.path.exists() for arm in spec.arms())


def _has_states(standard: Spec) -> bool:
    line = scales.scale(standard.scale).line(standard.architecture, standard.recipe, standard.dataset)
    wanted = line.snapshots_per_epoch * standard.schedule.epochs if line else 0
    return bool(wanted) and len(list(snapshot_folder(standard).glob("*.safetensors"))) >= wanted
