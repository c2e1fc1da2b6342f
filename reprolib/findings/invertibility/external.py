"""External networks: a ResNet-20 trained plainly and one trained on PGD adversaries, inverted as ours are.

Shown beside ours (one seed, no verdict of its own): does the finding hold on a pair that this project did not train?
Source of the networks: EhanW/advrob-cifar10 (MIT).
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import sha256_of
from reprolib.findings.invertibility.tidying import Part, Rows, deciding_taus, kind_of, reach_rows, run_rows, unit_rows
from reprolib.judging.tidy import identity
from reprolib.models.external import CLAIM, DATASET, PAIR, networks
from reprolib.models.networks import Network
from reprolib.perturb.attacks import adversarial_accuracy, predictions

N_TARGETS = 32
"""Targets at most, the first of the task: these networks cost several times what ours do."""

N_CHECKED = 250
"""Test images of the accuracies that are told beside."""


@section
def of(inversions: Inversions) -> Part:
    """Rows under "external" with the quantities of INV-1 to INV-3, unit_2 the start; committed ones where the files are not here.

    Only on the data set that the pair was trained on. The deciding taus are the pair's own. Also clean_accuracy and
    adversarial_accuracy (PGD-20, one random start) on the first test images.
    """
    study = inversions.study
    if study.only_mine or study.settings.scale.dataset != DATASET:
        return Part()
    pair = networks(study.device)
    if not pair:
        return Part(inversions.committed(CLAIM, without=pd.DataFrame()))
    task, eyes = inversions.measured[0].first(N_TARGETS), inversions.measured[1]
    inverted = [inversions.inverses_of(arm, network, task, list(task.starts)) for arm, network in pair.items()]
    reach = reach_rows(inverted, task)
    deciding = deciding_taus(reach, tuple(pair))
    test, scale = study.images("test"), study.settings.scale
    checked = test.x[:N_CHECKED].float().to(study.device) / 255, test.y[:N_CHECKED].to(study.device)
    rows: Rows = []
    for one in inverted:
        base = identity(one.role, one.network)
        for start, run in one.runs.items():
            rows += run_rows(base, start, run, task, eyes, study.settings["tau"] or deciding[kind_of(start)])
        for quantity, value in _accuracies(one.network, scale.norm, scale.eps, *checked, study.report).items():
            rows += unit_rows(base, CLAIM, quantity, ["test"], "", value[None])
    return Part(pd.concat([reach, pd.DataFrame(rows)], ignore_index=True).assign(claim=CLAIM))


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


def _accuracies(network: Network, norm: str, eps: float, x: Tensor, y: Tensor, report: Callable[[str], None]) -> dict[str, Tensor]:
    """Clean accuracy and accuracy under PGD-20 with one random start on the given images; measured once, then read."""
    described = {"network": network.sha256, "x": sha256_of(x), "norm": norm, "eps": eps}

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: accuracy of {len(x)} images, clean and under attack")
        attacked = adversarial_accuracy(network, x, y, norm, eps, restarts=1).value
        return {"clean_accuracy": (predictions(network, x) == y).float().mean(), "adversarial_accuracy": torch.tensor(attacked)}

    return store.cache("accuracy", described, compute)
