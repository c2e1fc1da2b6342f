"""Somebody else's networks: a ResNet-20 trained plainly and one trained on PGD adversaries, inverted as ours are.

Shown beside ours (one seed, no verdict of its own): does the finding hold on a pair that this project did not train?
Source of the networks: EhanW/advrob-cifar10 (MIT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.invertibility.inversions import Inversions
from reprolib.findings.invertibility.inverting import TAUS, Eyes, Task, invert_task, sha256_of
from reprolib.findings.invertibility.tidying import Part, deciding_taus, kind_of, reach_rows, run_rows
from reprolib.judging.tidy import identity, row
from reprolib.models.external import CLAIM, DATASET, PAIR, networks
from reprolib.models.networks import Network
from reprolib.perturb.attacks import adversarial_accuracy, predictions

N_TARGETS = 32
"""Targets at most, the first of the task: these networks cost several times what ours do."""

N_CHECKED = 250
"""Test images of the accuracies that are told beside."""


def of(inversions: Inversions) -> Part:
    """The pair that others trained, on data sets that it knows; its committed rows where its files are not here."""
    study, settings = inversions.study, inversions.study.settings
    if not inversions.task or settings.scale.dataset != DATASET:
        return Part(pd.DataFrame())
    pair, test = networks(study.device), study.images("test")
    if not pair:
        return Part(inversions.committed(CLAIM, without=pd.DataFrame()))
    checked = test.x[:N_CHECKED].float().to(study.device) / 255, test.y[:N_CHECKED].to(study.device)
    return measure(
        pair, *inversions.measured, *inversions.budget, settings["pool"], settings.scale.norm, settings.scale.eps, checked,
        inversions.measured_taus, settings["tau"], study.report,
    )  # fmt: skip


def measure(
    pair: Mapping[str, Network],
    task: Task,
    eyes: Eyes,
    steps: int,
    step: float,
    pool: int,
    norm: str,
    eps: float,
    checked: tuple[Tensor, Tensor],
    taus: Sequence[float] = TAUS,
    tau: float = 0.0,
    report: Callable[[str], None] = lambda line: None,
) -> Part:
    """Rows under "external" with the quantities of INV-1 to INV-3, unit_2 the start; the deciding taus are the pair's own.

    pair: one network an arm (`networks`). norm, eps: of the attack, and checked: images (n, 3, h, w) in [0, 1] with their
    classes (n,), for the rows clean_accuracy and adversarial_accuracy (PGD-20, one random start). tau: at which inverses are
    compared; 0: chosen by the reach of the pair, as among ours.
    """
    if not pair:
        return Part(pd.DataFrame())
    task = task.first(N_TARGETS)
    inverted = [
        invert_task(arm, network, task, steps, step, pool, list(task.starts), report=report, taus=taus) for arm, network in pair.items()
    ]
    reach = reach_rows(inverted, task)
    deciding = deciding_taus(reach, tuple(pair))
    told = []
    for one in inverted:
        base = identity(one.role, one.network)
        for start, run in one.runs.items():
            told += run_rows(base, start, run, task, eyes, tau or deciding[kind_of(start)])
        for quantity, value in _accuracies(one.network, norm, eps, checked, report).items():
            told.append(base | row(CLAIM, quantity, "test", "", value, True))
    return Part(pd.concat([reach, pd.DataFrame(told)], ignore_index=True).assign(claim=CLAIM))


def external_table(rows: pd.DataFrame) -> pd.DataFrame | None:
    """What the notebook shows of the pair: one row an arm, the means over targets (noise starts unless the column says image).

    rows: any that hold those of "external". None, which a notebook does not show, where they hold none.
    """
    found = rows[rows["claim"] == CLAIM]
    if found.empty:
        return None
    kinds = found["unit_2"].map(kind_of)
    columns = {
        "clean accuracy": ("clean_accuracy", ""), "accuracy under attack": ("adversarial_accuracy", ""),
        "distance, image start": ("distance_ratio", "image"), "distance": ("distance_ratio", "noise"),
        "distance, robust judge": ("distance_ratio_robust_judge", "noise"), "pixel correlation": ("pixel_correlation", "noise"),
        "recognised": ("recognised", "noise"), "recognised, robust judge": ("recognised_robust_judge", "noise"),
    }  # fmt: skip
    means = {
        name: found[(found["quantity"] == quantity) & (kinds == kind)].groupby("arm")["value"].mean()
        for name, (quantity, kind) in columns.items()
    }
    table = pd.DataFrame(means).reindex([arm for arm in PAIR if arm in set(found["arm"])])
    return table.round(3).rename_axis("network").reset_index()


def _accuracies(network: Network, norm: str, eps: float, checked: tuple[Tensor, Tensor], report: Callable[[str], None]) -> dict[str, float]:
    """Clean accuracy and accuracy under PGD-20 with one random start on the given images; measured once, then read."""
    x, y = (part[:N_CHECKED] for part in checked)
    described = {"network": network.sha256, "x": sha256_of(x), "norm": norm, "eps": eps}

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: accuracy of {len(x)} images, clean and under attack")
        clean = (predictions(network, x) == y).float().mean()
        return {"clean": clean, "attacked": torch.tensor(adversarial_accuracy(network, x, y, norm, eps, restarts=1).value)}

    kept = store.cache("accuracy", described, compute)
    return {"clean_accuracy": float(kept["clean"]), "adversarial_accuracy": float(kept["attacked"])}
