"""Accuracy under attack of entangled networks, and whether any network compared only hides its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.entanglement.accuracy import PER_ARM, Nets, Question, Shown, answer, shown, with_labels
from reprolib.findings.entanglement.transfer import ARMS, attacked, described, n_before, radius_of
from reprolib.judging.tidy import rows_of
from reprolib.models.networks import MINE, Network
from reprolib.perturb.attacks import adversarial_accuracy, noise_accuracy
from reprolib.study import Study

CLAIM = "ENT-11"
ROLES = {"main": ("standard", "entangled", "robust", "disentangled", MINE), "half": ("standard", "entangled", "disentangled", MINE)}
"""By radius, whose accuracy under attack is measured: at the smaller one, all but the networks that withstand it anyway."""
KEPT = 0.5  # of what standard networks have right, at the smaller radius
LONGER = 5  # times the steps
TRIED = 300  # attacked images at most that are tried with more steps and with others' perturbations


def adversarial(study: Study, nets: Nets, question: Question) -> pd.DataFrame:
    """Rows of ENT-11: accuracy under the scale's PGD at its main radius, and "@half", at which standard networks keep half of what they have right.

    "adversarial_correct" (image): what `question` says of each of the first `n_attacked` test images, moved. "eps", with unit "main" and
    "half": in pixel units. Of standard and entangled networks, on the first `TRIED` of these images and with the same units, accuracies under
    the attack ("masking_white_box"), under noise of its norm ("masking_noise"), after five times as many steps against what is left
    ("masking_more_steps"), and under what was made for that other network whose perturbations hurt most ("masking_transfer").
    Kept under networks, images, radius and the question's code.
    """
    if not study.can_measure:
        return pd.DataFrame()
    images = shown(study, range(min(study.settings.values["n_attacked"], n_before(study))))
    frames = []
    for unit, eps in _radii(study, nets).items():
        suffix = "" if unit == "main" else f"@{unit}"
        compared = with_labels(nets, ROLES[unit], PER_ARM)
        right: dict[str, Tensor] = {}
        for role, network in study.each(compared):
            right[network.sha256] = _right(study, network, images, eps, question)
            frames.append(rows_of(CLAIM, f"adversarial_correct{suffix}", role, network, images.units, right[network.sha256]))
            frames.append(_row("eps", role, network, unit, eps))
        tried = [(role, network) for role in ARMS for network in compared.get(role, ())]
        for role, network in tried:
            others = [other for _, other in tried if other.sha256 != network.sha256]
            found = _masking(study, network, others, images, eps, right[network.sha256], question)
            frames += [_row(f"masking_{kind}", role, network, unit, value) for kind, value in found.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _radii(study: Study, nets: Nets) -> dict[str, float]:
    """The scale's radius, and the mean of those at which standard networks keep half; the latter from committed rows where they are not here."""
    if study.only_mine:
        rows = study.rows[(study.rows["claim"] == CLAIM) & (study.rows["quantity"] == "eps")]
        half = rows.loc[rows["unit"] == "half", "value"].tolist()
    else:
        half = [radius_of(study, network, 1 - KEPT).eps for network in nets.get("standard", ())[:PER_ARM]]
    return {"main": study.settings.scale.eps, **({"half": float(f"{np.mean(half):.4g}")} if half else {})}


def _right(study: Study, network: Network, images: Shown, eps: float, question: Question) -> Tensor:
    def compute() -> dict[str, Tensor]:
        return {"right": answer(question, network, attacked(study, network, images, eps))}

    return store.cache("adversarial_right", described(study, network, images, eps), compute)["right"]


def _masking(
    study: Study, network: Network, others: Sequence[Network], images: Shown, eps: float, right: Tensor, question: Question
) -> dict[str, float]:
    """Accuracies on the first `TRIED` images under an attack, which left those that are `right` (n,), and under what should not beat it."""
    n, norm = min(len(images.y), TRIED), study.settings.scale.norm
    x, y, left = images.x[:n], images.y[:n], right[:n].to(images.y.device)
    steps = LONGER * study.settings.values["attack_steps"]

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: noise, {steps} steps and others' perturbations at {eps:.3g}, {n} images")
        withstood = 0
        if left.any():
            withstood = int(adversarial_accuracy(network, x[left], y[left], norm, eps, steps, restarts=1).correct.sum())
        shown_others = [answer(question, network, attacked(study, other, images, eps))[:n] for other in others]
        accuracies = {
            "white_box": float(left.double().mean()), "noise": noise_accuracy(network, x, y, norm, eps), "more_steps": withstood / n,
            **({"transfer": min(float(one.double().mean()) for one in shown_others)} if others else {}),
        }  # fmt: skip
        return {name: torch.tensor(value).double() for name, value in accuracies.items()}

    what = described(study, network, images, eps) | {"others": [other.sha256 for other in others], "tried": n}
    return {name: float(value) for name, value in store.cache("masking", what, compute).items()}


def _row(quantity: str, role: str, network: Network, unit: str, value: float) -> pd.DataFrame:
    return rows_of(CLAIM, quantity, role, network, [unit], torch.tensor([value], dtype=torch.float64))
