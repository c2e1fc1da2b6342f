"""Tidy rows of zero-shot quality with planted levels: arms x seeds x classes x architectures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from drawing import COLUMNS

FACTORIAL = tuple(f"{shape}+{texture}" for shape in ("square", "star", "ring") for texture in ("grating_45", "checker", "noise"))
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FIVE = ("mlp", "lenet", "tinycnn", "pool", "resnet8")
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)

RECIPES = {
    "standard": "std", "robust": "linf_8", "robust_small": "linf_2", "robust_medium": "linf_4", "gauss": "gauss_15",
    "label_smoothing": "label_smoothing", "std_matched": "std_matched", "untrained": "untrained",
}  # fmt: skip
LEVELS = {
    "standard": 0.5, "robust_small": 0.42, "robust_medium": 0.35, "robust": 0.25, "gauss": 0.45, "label_smoothing": 0.35,
    "std_matched": 0.4, "untrained": 0.02,
}  # fmt: skip
"""DBM of an arm; the other quantities follow from it by fixed rules."""
PLAIN = ("standard", "robust", "gauss", "label_smoothing")


def planted(
    arms: Sequence[str] = PLAIN, seeds: Sequence[int] = (0, 1, 2), classes: Sequence[str] = FACTORIAL, kinds: Sequence[str] = ("tinycnn",)
) -> pd.DataFrame:
    """Rows of all quantities. The dbm of a network and class is the level of its arm + .01 seed + .002 class + .02 architecture."""
    rows: list[dict[str, Any]] = []
    for arm in arms:
        for k, kind in enumerate(kinds):
            for seed in seeds:
                rows += _network(arm, kind, seed, LEVELS[arm] + 0.01 * seed + 0.02 * k, classes)
    return pd.DataFrame(rows)


def fashion() -> pd.DataFrame:
    """Mean soft labels of the CapsNet on Fashion-MNIST: half on the next class, the rest even."""
    rows = [_row("ZSQ-5", "capsnet_small", "capsnet_small", 0, *one) for one in _mean_labels(FASHION, 0.5)]
    return pd.DataFrame(rows)


def _network(arm: str, kind: str, seed: int, level: float, classes: Sequence[str]) -> list[dict[str, Any]]:
    given: list[tuple[str, str, str, float]] = []
    for place, name in enumerate(classes):
        value = level + 0.002 * place
        each = {
            "dbm": value, "dbm_matched": 0.4 + 0.1 * (value - level), "am": value / 20, "confidence": 0.2 + value,
            "matched_temperature": 1 + level,
        }  # fmt: skip
        if "+" in name:
            each |= {"shape_mass": 0.25 + level / 10, "texture_mass": 0.5 - level / 2}
        given += [(quantity, name, "", number) for quantity, number in each.items()]
    given += [("dbm_at_temperature", f"{t:g}", "", 2 * level / (1 + t)) for t in TEMPERATURES]
    given += _mean_labels(classes, level)
    if seed == 0:
        turns = 2 * math.pi * np.arange(60) / 60
        for number, (x, y) in enumerate(zip(level * np.cos(turns), level / 2 * np.sin(turns), strict=True)):
            given += [("plane", f"{number:03d}", "x", x), ("plane", f"{number:03d}", "y", y)]
    rows = [_row("ZSQ-1", arm, kind, seed, *one) for one in given]
    shown = "_shown" if arm == "untrained" else ""
    attacked = (("minimal_l2", "median", 0.1 / level), ("adversarial_error", "test", min(1.0, 1.5 * level)))
    return rows + [_row("ZSQ-3", arm, kind, seed, f"{quantity}{shown}", unit, "", value) for quantity, unit, value in attacked]


def _mean_labels(classes: Sequence[str], most: float) -> list[tuple[str, str, str, float]]:
    """`most` on the class behind the excluded one, the rest even over the others."""
    n = len(classes)
    return [
        ("mean_label", name, classes[(k + step) % n], most if step == 1 else (1 - most) / (n - 2))
        for k, name in enumerate(classes)
        for step in range(1, n)
    ]


def _row(claim: str, arm: str, kind: str, seed: int, quantity: str, unit: str, unit_2: str, value: float) -> dict[str, Any]:
    who = (arm, RECIPES.get(arm, "std"), kind, seed, f"{arm}-{kind}-{seed}")
    return dict(zip(COLUMNS, (claim, quantity, *who, unit, unit_2, float(value), True), strict=True))
