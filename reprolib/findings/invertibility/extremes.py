"""What a unit wants and what it avoids, by two routes: the test images at its ends, and a grey image driven there.

Where both routes agree, the picture says what the unit responds to. Source: Engstrom et al. 2019 (arXiv 1906.00945), its notebook on
maximising inputs: a grey start, the top and bottom 5 test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.invertibility.inversions import Inversions
from reprolib.findings.invertibility.inverting import FIRST_TEST_IMAGES
from reprolib.findings.invertibility.tidying import ARMS, Part
from reprolib.findings.invertibility.units import chunk_of, code_of, to_bytes, unit_rows, units_of
from reprolib.models.layers import movable_key
from reprolib.models.networks import Network
from reprolib.perturb.visualisation import maximise

CLAIM = "extremes"
GREY = 0.5
N_ENDS = 5


N_EXTREMES = 3
"""Units whose extremes are drawn."""


def of(inversions: Inversions) -> Part:
    """The extremes of the first networks of both arms."""
    study, settings = inversions.study, inversions.study.settings
    if not inversions.task:
        return Part(pd.DataFrame())
    return measure(inversions.nets, study.images("test"), N_EXTREMES, settings["unit_steps"], settings["step"], study.device, study.report)


def measure(
    nets: Mapping[str, Sequence[Network]],
    images: Images,
    n_units: int,
    steps: int,
    step: float,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> Part:
    """The extremes of the first units of the first standard and the first robust network; other roles are passed over.

    Rows (claim "extremes", unit = channel): R_i of the mean top and bottom test image and of both driven images, in the unit's standard
    deviations from its mean on test images: top, bottom, maximised, minimised. Pictures: {role: {"units": [...], "top" and "bottom":
    (n, 5, 3, h, w), the most extreme first, "maximised" and "minimised": (n, 3, h, w)}}, uint8.
    """
    rows: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {}
    for role in ARMS:
        for network in nets.get(role, ())[:1]:
            units = units_of(network, images, n_units)
            if not units.chosen:
                continue
            values = units.codes[:, units.chosen]
            order = values.argsort(dim=0, descending=True, stable=True)
            ends = {"top": order[:N_ENDS], "bottom": order.flip(0)[:N_ENDS]}
            driven = _drive(network, units.chosen, images, steps, step, device, report)
            x = images.x[:FIRST_TEST_IMAGES]
            pictures[role] = {"units": units.chosen} | {name: x[places.T] for name, places in ends.items()}
            pictures[role] |= {name: to_bytes(driven[name]) for name in ("maximised", "minimised")}
            reached = {name: values.gather(0, places).mean(dim=0) for name, places in ends.items()}
            reached |= {name: driven[f"{name}_value"] for name in ("maximised", "minimised")}
            mean, spread = values.mean(dim=0), units.spread[units.chosen]
            for name, value in reached.items():
                rows += unit_rows(CLAIM, role, network, name, units.chosen, "", (value - mean) / spread)
    return Part(pd.DataFrame(rows), pictures)


def _drive(
    network: Network, units: Sequence[int], images: Images, steps: int, step: float, device: str, report: Callable[[str], None]
) -> dict[str, Tensor]:
    """The grey image driven up and down by each unit, and R_i there; measured once, then read from the cache."""
    shape = tuple(images.x.shape[1:])
    described = {
        "what": "extremes", "network": movable_key(network), "units": list(units), "shape": list(shape),
        "steps": steps, "step": step,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: driving grey to the extremes of {len(units)} units, {steps} steps")
        code, asked = code_of(network), torch.tensor(units, device=device)
        found = {}
        for name in ("maximised", "minimised"):
            grey = torch.full((len(units), *shape), GREY, device=device)
            chunk = chunk_of(grey.device)
            parts = [
                maximise(code, u, x, steps, step, lower=name == "minimised")
                for u, x in zip(asked.split(chunk), grey.split(chunk), strict=True)
            ]
            found[name] = torch.cat([part.x for part in parts]).contiguous()
            found[f"{name}_value"] = torch.cat([part.value for part in parts])
        return found

    return store.cache("visualisation", described, compute)
