"""The card of a network: what was measured of it, how it was trained, and whether adversarial training did its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from reprolib import provenance, scales
from reprolib.data import Images
from reprolib.models.networks import Network, weights_sha256
from reprolib.perturb.attacks import adversarial_accuracy, noise_accuracy, predictions
from reprolib.training.recipes import Recipe, recipe
from reprolib.training.specs import Spec

LEAST_DIFFERENCE = 0.20
"""Of adversarial accuracy, robust minus standard at the robust arm's own radius: below it the networks do not differ."""

Card = dict[str, Any]


def measure(spec: Spec, net: Network, x: Tensor, y: Tensor, precision: str, report: Callable[[str], None]) -> Card:
    """Clean accuracy, PGD-20 x 3 restarts, accuracy under noise of equal norm and gradient-zero share for a card.

    x: float test images (n, c, h, w) in [0, 1]. The attack uses the scale's first `n_test` images, all of them for the first
    seed of std and of the main robust arm in the scale's main architecture (clean accuracy always all).
    """
    report(f"{spec.name}: measuring")
    preset, how = scales.scale(spec.scale), recipe(spec.recipe)
    is_first = (spec.seed, spec.architecture, spec.dataset) == (0, preset.architecture, preset.dataset)
    is_main = is_first and how.id in (preset.roles["standard"], preset.roles["robust"]) and preset.is_evidence
    n = len(x) if is_main else min(preset.n_test, len(x))
    balls = [(preset.norm, preset.eps)]
    if how.norm is not None and (how.norm, how.eps) not in balls:
        balls.append((how.norm, how.eps))
    attacked = []
    for norm, eps in balls:
        result = adversarial_accuracy(net, x[:n], y[:n], norm, eps, precision=precision)
        first = result.correct[: preset.n_test].float().mean().item()
        attacked.append(
            result.describe()
            | {"first_n": min(n, preset.n_test), "first_value": first, "noise": noise_accuracy(net, x[:n], y[:n], norm, eps)}
        )
    correct = predictions(net, x) == y
    return {
        "clean": {"value": correct.float().mean().item(), "n": len(x), "first_value": correct[: preset.n_test].float().mean().item()},
        "adversarial": attacked,
    }


def write(
    spec: Spec, net: Network, measured: Mapping[str, Any], told: Mapping[str, Any], is_half: bool, sets: tuple[Images, Images], device: str
) -> Card:
    """The whole card. told: what training tells of itself. is_half: whether the weights are kept in bf16. sets: training and test images."""
    training, test = sets
    return {
        "name": spec.name,
        "scale": spec.scale,
        "key": spec.key,
        "description": spec.description(),
        "sha256": weights_sha256(net),
        "weights": "bf16" if is_half else "fp32",
        **measured,
        "training": {name: told[name] for name in ("seconds", "precision", "resumed", "history")},
        "data": {
            "name": training.name,
            "train": training.sha256,
            "test": test.sha256,
            "n_classes": len(training.classes),
            "size_px": training.x.shape[-1],
        },
        "hardware": provenance.hardware(device),
        "versions": provenance.versions(),
    }


def under_attack(card: Mapping[str, Any], norm: str, eps: float) -> float | None:
    """A card's adversarial accuracy in that ball, on the scale's first test images; None when it was not measured."""
    return next((a["first_value"] for a in card["adversarial"] if (a["norm"], a["eps"]) == (norm, eps)), None)


def manipulation(how: Recipe, robust: float | None, standard: float | None) -> dict[str, Any] | None:
    """Whether adversarial training did its work: both accuracies under PGD-20 at the recipe's radius, and whether they differ enough.

    None for a recipe that is not adversarial, and where one of the two was not measured.
    """
    if how.norm is None or robust is None or standard is None:
        return None
    difference = robust - standard
    return {
        "norm": how.norm,
        "eps": how.eps,
        "robust": robust,
        "standard": standard,
        "difference": difference,
        "holds": difference >= LEAST_DIFFERENCE - 1e-9,
    }


def summary(card: Mapping[str, Any]) -> str:
    """One line of a card: clean accuracy, accuracy under attack, minutes of training."""
    attack = card["adversarial"][0]
    return (
        f"clean {card['clean']['value']:.1%}, under PGD-{attack['steps']} x {attack['restarts']} at {attack['norm']} {attack['eps']:.4g} "
        f"{attack['value']:.1%} (n = {attack['n']}), {card['training']['seconds'] / 60:.1f} min"
    )


def shorten(net: Network, x: Tensor, y: Tensor) -> bool:
    """Round the weights (not the BatchNorm vectors) to bf16 in place if that changes the accuracy by at most .1 point; whether it did."""
    full = {name: t.clone() for name, t in net.state_dict().items()}
    before = (predictions(net, x) == y).float().mean().item()
    net.load_state_dict({name: t.to(torch.bfloat16).to(t.dtype) if t.dim() > 1 else t for name, t in full.items()})
    if abs((predictions(net, x) == y).float().mean().item() - before) <= 0.001:
        return True
    net.load_state_dict(full)
    return False
