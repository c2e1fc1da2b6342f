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

from reprolib import data, scales
from reprolib.data import Images, shapetexture
from reprolib.data.images import as_rgb, pick
from reprolib.errors import MissingData
from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, in_turn, invert_task, sha256_of
from reprolib.findings.invertibility.tidying import ARMS, CLAIMS, Part, deciding_taus, reached_rows
from reprolib.judging.tidy import identity, row
from reprolib.models.networks import Network
from reprolib.perturb.inversion import Inversion, noise_start

CLAIM = CLAIMS["outside"]
ROLES = (*ARMS, "gauss", "std_matched")
START = "noise_0"
HELD_OUT = "held_out"

NATURAL = {"tiny_imagenet_20": "tiny_imagenet_20", "textures": "textures", "fashion": "fashion_mnist"}
"""What stands outside natural images: name in the rows -> data set. The first decides."""

N_SHOWN = 20
N_PICTURES = 6


def outside_sets(scale_name: str, images: Images, n: int = 64) -> dict[str, Tensor]:
    """Sets of images (m, 3, h, w) in [0, 1] from outside the scale's training distribution, by name, the one that decides first.

    images: the scale's test set, of whose side they come. n: images of the deciding set; of the others `N_SHOWN` at most. In
    turn from every class. ShapeTex: shapes and textures of no training set, crossed. Natural images: small photographs of
    other classes decide, describable textures and clothes (grey) are shown. A set that is not here is left out, with a printed
    line; without the one that decides there is none.
    """
    dataset, side_px = scales.scale(scale_name).dataset, images.x.shape[-1]
    if dataset in shapetexture.WORLDS:
        found = shapetexture.items(shapetexture.world_of(dataset, "test"), n, HELD_OUT, f"{dataset}_{HELD_OUT}")
        return {HELD_OUT: as_rgb(found, side_px).x.float() / 255}
    sets: dict[str, Tensor] = {}
    for name, source in NATURAL.items():
        try:
            loaded = data.load(source, "test")
        except MissingData as error:
            print(f"{name} is left out of the targets from outside: {error}")
            if not sets:
                return {}  # without the set that decides there is no tau to show the others at
            continue
        places = in_turn(loaded.y, n if not sets else min(n, N_SHOWN))
        sets[name] = as_rgb(pick(loaded, torch.tensor(places)), side_px).x.float() / 255
    return sets


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
