"""INV-5: inversion of images from outside the training distribution. Source of the question: Engstrom et al. 2019 (arXiv 1906.00945).

One set decides, the others are shown beside. Every target starts from noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import TAUS, Inverted, Task, inverses_at, sha256_of
from reprolib.findings.invertibility.tidying import CLAIMS, DRAWN, Part, Rows, reach_rows, taus_of, unit_rows
from reprolib.judging.tidy import identity
from reprolib.perturb.inversion import noise_start

CLAIM = CLAIMS["outside"]
ROLES = (*DRAWN, "gauss", "blur", "std_matched")
START = "noise_0"
N_PICTURES = 6


@section
def of(inversions: Inversions) -> Part:
    """Rows of INV-5 for the networks of `ROLES`, each set's targets inverted from noise; of sets that are not here, committed rows of the same networks.

    Compared at the tau that the reader asks for, or the smallest that 90 % of the deciding set's targets reach in every
    standard and robust network. Quantities: "reach@<tau>", distance_ratio, distance_ratio_robust_judge and gap_in_distribution
    (a target's ratio minus the network's mean ratio on the test set's targets at the same tau, from the same noise) on the
    deciding set; "distance_ratio@<set>" on the others, at its tau. A target that is not reached has ratio 1. unit: the target's
    place in its set.
    pictures: targets {set: (t, 3, h, w)} and inverses {set: {role: (t, 3, h, w)}} of the networks of seed 0 (the last iterate
    where tau was not reached); tau. Empty where there are no sets.
    """
    part = _measured(inversions)
    ours = inversions.committed(CLAIM, without=part.rows)
    ours = ours[ours["network"].isin(inversions.rows["network"])]  # of networks that were trained again since nothing stays
    return Part(pd.concat([part.rows, ours], ignore_index=True), part.pictures)


def _measured(inversions: Inversions) -> Part:
    chosen = [(role, network) for role in ROLES for network in inversions.nets.get(role, ())]
    if not inversions.outside or not chosen:
        return Part()
    task, eyes = inversions.measured
    tasks = {name: _task(targets, task) for name, targets in inversions.outside.items()}
    runs = {name: [inversions.inverses_of(role, network, of_set, [START]) for role, network in chosen] for name, of_set in tasks.items()}
    deciding = next(iter(tasks))
    reach = reach_rows(runs[deciding], tasks[deciding], "outside")
    tau = taus_of(inversions.study.settings, pd.concat([inversions.rows, reach])).get("outside", max(TAUS))
    rows: Rows = []
    for name, of_set in tasks.items():
        for one in runs[name]:
            run, base = one.runs[START], identity(one.role, one.network)
            ratio = eyes.ratio("standard", run.at[tau], of_set, START)  # 1 where tau was not reached, for there the start stands
            values = {f"distance_ratio@{name}": ratio}
            if name == deciding:
                by_robust = eyes.ratio("robust", run.at[tau], of_set, START)
                gap = ratio - _inside(inversions.rows, base["network"], tau)
                values = {"distance_ratio": ratio, "distance_ratio_robust_judge": by_robust, "gap_in_distribution": gap}
            for quantity, value in values.items():
                rows += unit_rows(base, CLAIM, quantity, of_set.ids, START, value, run.reached[tau])
    return Part(pd.concat([reach, pd.DataFrame(rows)], ignore_index=True), _pictures(tasks, runs, tau))


def _inside(rows: pd.DataFrame, network: str, tau: float) -> float:
    """A network's mean distance ratio on targets of the test set, at the same tau and from the same noise."""
    found = rows[(rows["claim"] == CLAIMS["noise"]) & (rows["quantity"] == f"distance_ratio@{tau:g}")]
    return float(found[(found["unit_2"] == START) & (found["network"] == network)]["value"].mean())


def _task(targets: Tensor, task: Task) -> Task:
    """Targets from outside; the images that set the unit of distance stay those of the test set."""
    targets = targets.to(task.targets.device)
    nowhere = torch.full((len(targets),), -1, device=targets.device)
    return replace(
        task, targets=targets, y=nowhere, ids=list(range(len(targets))), start_y=nowhere,
        starts={START: noise_start(targets.shape, seed=0).to(targets.device)}, data_sha256=f"{task.data_sha256}, {sha256_of(targets)}",
    )  # fmt: skip


def _pictures(tasks: Mapping[str, Task], runs: Mapping[str, Sequence[Inverted]], tau: float) -> dict[str, Any]:
    firsts = {name: [one for one in of_set if one.network.card["description"]["seed"] == 0] for name, of_set in runs.items()}
    return {
        "targets": {name: task.targets[:N_PICTURES] for name, task in tasks.items()},
        "inverses": {name: {one.role: inverses_at(one.runs[START], tau)[:N_PICTURES] for one in of_set} for name, of_set in firsts.items()},
        "tau": tau,
    }
