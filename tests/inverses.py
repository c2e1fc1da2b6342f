"""Planted inversions: images, networks with cards, and inverses whose distances are known before any judge looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import problems
import torch
from torch import Tensor

from reprolib import parameters
from reprolib.data.images import Images
from reprolib.data.images import images as labelled
from reprolib.findings.invertibility.inversions import Inversions
from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, make_task
from reprolib.models.networks import Network
from reprolib.perturb.inversion import Inversion

CLASSES = ("a", "b", "c", "d")


def planted_set(n: int = 80, side: int = 16, seed: int = 0) -> Images:
    """n random images, labelled in an irregular order."""
    x = (problems.images(n, 3, side, side, seed=seed) * 255).round().to(torch.uint8)
    y = torch.randperm(n, generator=problems.generator(seed + 1)) % len(CLASSES)
    return labelled(x, y, CLASSES, "planted")


def carded(seed: int = 0, recipe: str = "std") -> Network:
    """A network with the card and the hash that measuring asks for."""
    network = problems.network(seed=seed)
    network.sha256 = f"{recipe}{seed}".encode().hex().ljust(64, "0")
    network.card = {
        "name": f"tinycnn-{recipe}-s{seed}",
        "description": {"recipe": {"id": recipe}, "architecture": "tinycnn", "seed": seed},
        "clean": {"first_value": 0.9},
        "adversarial": [{"first_value": 0.1, "noise": 0.8, "gradient_zero_share": 0.0}],
    }
    return network


def asked(
    nets: Mapping[str, Sequence[Network]],
    eyes: Eyes,
    task: Task | None = None,
    images: Images | None = None,
    outside: Mapping[str, Tensor] | None = None,
    eps: float | None = None,
    report: Callable[[str], None] = lambda line: None,
    rows: pd.DataFrame | None = None,
    taus: Mapping[str, float] | None = None,
    inverted: Sequence[Inverted] = (),
    **values: Any,
) -> Inversions:
    """What a section is given: networks, judges and a task, and of the study the images and the settings of `smoke` but for `values`."""
    settings, images = parameters.validate("invertibility", {"scale": "smoke"}), planted_set() if images is None else images
    scale = settings.scale if eps is None else replace(settings.scale, eps=eps)
    settings = parameters.Settings(settings.finding, scale, dict(settings.values) | values, {}, "cpu", "off")
    study: Any = SimpleNamespace(
        only_mine=False,
        settings=settings, device="cpu", images=lambda split: images, first_training_images=lambda n: images, report=report,
        committed_rows=pd.DataFrame, committed=Path("nowhere"),
    )  # fmt: skip
    task = make_task(images, 4, 1) if task is None else task
    made = Inversions(study, nets, pd.DataFrame() if rows is None else rows, taus or {}, TAUS, task, eyes, inverted)
    vars(made)["outside"] = outside or {}
    return made


def planted(task: Task, network: Network, role: str, reached: Sequence[bool], at: Tensor | None = None) -> Inverted:
    """Inverses half-way between start and target (or `at`) where `reached`, the start itself elsewhere, alike at every tau; last iterates: the start."""
    runs, hit = {}, torch.as_tensor(reached)
    for name, start in task.starts.items():
        found = torch.where(hit.view(-1, 1, 1, 1), (start + task.targets) / 2, start) if at is None else at
        distance = torch.where(hit, 0.04, 0.9)
        frames = (torch.stack([start, found]) * 255).round().to(torch.uint8)
        runs[name] = Inversion(
            start, distance, dict.fromkeys(TAUS, hit), dict.fromkeys(TAUS, found), dict.fromkeys(TAUS, distance), [0, 20],
            torch.stack([torch.ones_like(distance), distance]), frames, torch.zeros(len(hit), dtype=torch.bool),
        )  # fmt: skip
    return Inverted(role, network, 1.0, runs)


def of(rows: pd.DataFrame, claim: str, quantity: str, arm: str = "standard") -> pd.DataFrame:
    """The rows of a quantity in one arm, in the order of the targets."""
    return rows[(rows["claim"] == claim) & (rows["quantity"] == quantity) & (rows["arm"] == arm)]
