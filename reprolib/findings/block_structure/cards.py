"""Every network's accuracies in the ball its arms are compared in: what the manipulation check reads."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.block_structure.networks import Compared, listed
from reprolib.findings.block_structure.rows import CARDS, measuring, single, tidied
from reprolib.models.networks import MINE, Network
from reprolib.perturb.attacks import adversarial_accuracy
from reprolib.study import Study
from reprolib.training.cards import under_attack
from reprolib.training.recipes import recipe


@measuring
def measure(nets: Compared) -> list[pd.DataFrame]:
    """Rows of clean accuracy, and of accuracy under attack in the ball of the deep robust networks, or of the scale's own."""
    robust, scale = recipe(nets.study.settings["robust"]), nets.study.settings.scale
    deep = {network.sha256 for of_kind in (nets.deep, nets.overfit) for _, network in listed(of_kind)}
    frames = []
    for role, network in (one for of_kind in (nets.deep, nets.overfit, nets.main) for one in listed(of_kind) if one[0] != MINE):
        norm, eps = (robust.norm or scale.norm, robust.eps) if network.sha256 in deep else (scale.norm, scale.eps)
        on_card = under_attack(network.card, norm, eps)
        accuracies = {
            "clean_accuracy": network.card["clean"]["first_value"],
            "adversarial_accuracy": adversarial(nets.study, network, norm, eps) if on_card is None else on_card,
        }
        frames += [tidied(CARDS, quantity, role, network, single({"": value}, "test")) for quantity, value in accuracies.items()]
    return frames


def adversarial(study: Study, network: Network, norm: str, eps: float) -> float:
    """Adversarial accuracy as on a card (PGD-20, 3 restarts, the scale's first test images), of a ball that the card does not have."""
    images, n = study.images("test"), study.settings.scale.n_test
    described = {"network": network.sha256, "data": images.sha256, "n": n, "norm": norm, "eps": eps}

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: under attack at {norm} {eps:.3g}")
        x, y = images.x[:n].to(study.device).float() / 255, images.y[:n].to(study.device)
        value = adversarial_accuracy(network, x, y, norm, eps, precision=network.card["training"]["precision"]).value
        return {"value": torch.tensor(value, dtype=torch.float64)}

    return float(store.cache("under_attack", described, compute)["value"])
