"""INV-5: inversion of images from outside the training distribution. Source of the question: Engstrom et al. 2019 (arXiv 1906.00945).

One set decides, the others are shown beside. Every target starts from noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib.findings.invertibility.inversions import Inversions
from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, invert_task, sha256_of
from reprolib.findings.invertibility.tidying import ARMS, CLAIMS, Part, deciding_taus, reached_rows
from reprolib.judging.tidy import identity, row
from reprolib.models.networks import Network
from reprolib.perturb.inversion import Inversion, noise_start

CLAIM = CLAIMS["outside"]
ROLES = (*ARMS, "gauss", "blur", "std_matched")
START = "noise_0"
N_PICTURES = 6


def of(inversions: Inversions) -> Part:
    """INV-5 of all networks; of sets that are not here, the committed rows of the same networks."""
    study, settings = inversions.study, inversions.study.settings
    if not inversions.task:
        return Part(pd.DataFrame())
    part = measure(
        inversions.nets, inversions.outside, *inversions.measured, inversions.rows, *inversions.budget, settings["pool"],
        inversions.measured_taus, settings["tau"], study.report,
    )  # fmt: skip
    ours = inversions.committed(CLAIM, without=part.rows)
    ours = ours[ours["network"].isin(inversions.rows["network"])]  # of networks that were trained again since nothing stays
    return Part(pd.concat([part.rows, ours], ignore_index=True), part.pictures)


def measure(
    nets: Mapping[str, Sequence[Network]],
    sets: Mapping[str, Tensor],
    task: Task,
    eyes: Eyes,
    rows: pd.DataFrame,
    steps: int,
    step: float,
    pool: int,
    taus: Sequence[float] = TAUS,
    tau: float = 0.0,
    report: Callable[[str], None] = lambda line: None,
) -> Part:
    """Rows of INV-5 for the networks of `ROLES`, each set's targets inverted from noise.

    sets: as `outside_sets` gives them. task: whose images set each network's unit of distance. rows: those of INV-2, for each
    network's distances on targets of the test set. tau: at which inverses are compared; 0: the smallest that 90 % of the
    deciding set's targets reach in every standard and robust network. Quantities: "reach@<tau>", distance_ratio,
    distance_ratio_robust_judge and gap_in_distribution (a target's ratio minus the network's mean ratio on the test set's
    targets at the same tau, from the same noise) on the deciding set; "distance_ratio@<set>" on the others, at its tau. A
    target that is not reached has ratio 1. unit: the target's place in its set.
    pictures: targets {set: (t, 3, h, w)} and inverses {set: {role: (t, 3, h, w)}} of the networks of seed 0 (the last iterate
    where tau was not reached); tau. Empty where there are no sets.
    """
    chosen = [(role, network) for role in ROLES for network in nets.get(role, ())]
    if not sets or not chosen:
        return Part(pd.DataFrame())
    tasks = {name: _task(found, task) for name, found in sets.items()}
    runs = {
        name: [invert_task(role, network, of_set, steps, step, pool, [START], report=report, taus=taus) for role, network in chosen]
        for name, of_set in tasks.items()
    }
    deciding, *shown = sets
    told: list[dict[str, Any]] = []
    for one in runs[deciding]:
        told += reached_rows(identity(one.role, one.network), CLAIM, START, one.runs[START], tasks[deciding].ids)
    tau = tau or deciding_taus(pd.DataFrame(told)).get("outside", max(TAUS))
    for one in runs[deciding]:
        told += _deciding_rows(one, tasks[deciding], eyes, tau, rows)
    for name in shown:
        for one in runs[name]:
            told += _rows(one, tasks[name], tau, {f"distance_ratio@{name}": _ratio(one, tasks[name], eyes, "standard", tau)})
    return Part(pd.DataFrame(told), _pictures(tasks, runs, tau))


def _task(targets: Tensor, task: Task) -> Task:
    """Targets from outside; the images that set the unit of distance stay those of the test set."""
    targets = targets.to(task.targets.device)
    nowhere = torch.full((len(targets),), -1, device=targets.device)
    return replace(
        task, targets=targets, y=nowhere, ids=list(range(len(targets))), start_y=nowhere,
        starts={START: noise_start(targets.shape, seed=0).to(targets.device)}, data_sha256=f"{task.data_sha256}, {sha256_of(targets)}",
    )  # fmt: skip


def _ratio(one: Inverted, task: Task, eyes: Eyes, judge: str, tau: float) -> Tensor:
    """Distance (n,) to the target in units of the start's; 1 where tau was not reached, for there the start stands."""
    return eyes.distance(judge, one.runs[START].at[tau], task.targets) / eyes.distance(judge, task.starts[START], task.targets)


def _deciding_rows(one: Inverted, task: Task, eyes: Eyes, tau: float, rows: pd.DataFrame) -> list[dict[str, Any]]:
    ratio = _ratio(one, task, eyes, "standard", tau)
    inside = rows[
        (rows["claim"] == CLAIMS["noise"]) & (rows["quantity"] == f"distance_ratio@{tau:g}")
        & (rows["unit_2"] == START) & (rows["network"] == one.network.sha256[:12])
    ]  # fmt: skip
    return _rows(one, task, tau, {
        "distance_ratio": ratio,
        "distance_ratio_robust_judge": _ratio(one, task, eyes, "robust", tau),
        "gap_in_distribution": ratio - float(inside["value"].mean()),
    })  # fmt: skip


def _rows(one: Inverted, task: Task, tau: float, quantities: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    base, reached = identity(one.role, one.network), one.runs[START].reached[tau]
    return [
        base | row(CLAIM, quantity, unit, START, values[i], reached[i])
        for quantity, values in quantities.items()
        for i, unit in enumerate(task.ids)
    ]


def _pictures(tasks: Mapping[str, Task], runs: Mapping[str, Sequence[Inverted]], tau: float) -> dict[str, Any]:
    firsts = {name: [one for one in of_set if one.network.card["description"]["seed"] == 0] for name, of_set in runs.items()}

    def inverses(run: Inversion) -> Tensor:
        return torch.where(run.reached[tau].view(-1, 1, 1, 1), run.at[tau], run.x)[:N_PICTURES]

    return {
        "targets": {name: task.targets[:N_PICTURES] for name, task in tasks.items()},
        "inverses": {name: {one.role: inverses(one.runs[START]) for one in of_set} for name, of_set in firsts.items()},
        "tau": tau,
    }
