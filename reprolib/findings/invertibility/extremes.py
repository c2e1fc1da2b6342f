"""What a unit wants and what it avoids, by two routes: the test images at its ends, and a grey image driven there.

Where both routes agree, the picture says what the unit responds to. Source: Engstrom et al. 2019 (arXiv 1906.00945), its notebook on
maximising inputs: a grey start, the top and bottom 5 test images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.invertibility import units as of_units
from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import FIRST_TEST_IMAGES, to_bytes
from reprolib.findings.invertibility.tidying import DRAWN, Part, Rows, unit_rows
from reprolib.judging.tidy import identity
from reprolib.models.layers import movable_key
from reprolib.models.networks import Network
from reprolib.perturb.visualisation import maximise

CLAIM = "extremes"
GREY = 0.5
DRIVEN = ("maximised", "minimised")
N_ENDS = 5

N_EXTREMES = 3
"""Units whose extremes are drawn."""


@section
def of(inversions: Inversions) -> Part:
    """The extremes of the first units of the first standard and the first robust network; other roles are passed over.

    Rows (claim "extremes", unit = channel): R_i of the mean top and bottom test image and of both driven images, in the unit's standard
    deviations from its mean on test images: top, bottom, maximised, minimised. Pictures: {role: {"units": [...], "top" and "bottom":
    (n, 5, 3, h, w), the most extreme first, "maximised" and "minimised": (n, 3, h, w)}}, uint8.
    """
    study = inversions.study
    images = study.images("test")
    rows: Rows = []
    pictures: dict[str, Any] = {}
    for role in DRAWN:
        for network in inversions.nets.get(role, ())[:1]:
            units = of_units.units_of(network, images, N_EXTREMES)
            if not units.chosen:
                continue
            values, x = units.codes[:, units.chosen], images.x[:FIRST_TEST_IMAGES]
            order = values.argsort(dim=0, descending=True, stable=True)
            ends = {"top": order[:N_ENDS], "bottom": order.flip(0)[:N_ENDS]}
            grey = torch.full((len(units.chosen), *x.shape[1:]), GREY, device=study.device)
            driven = _drive(network, units.chosen, grey, study.settings["unit_steps"], study.settings["step"], study.report)
            pictures[role] = {"units": units.chosen} | {name: x[places.T] for name, places in ends.items()}
            pictures[role] |= {name: to_bytes(driven[name]) for name in DRIVEN}
            reached = {name: values.gather(0, places).mean(dim=0) for name, places in ends.items()}
            reached |= {name: driven[f"{name}_value"] for name in DRIVEN}
            mean, spread = values.mean(dim=0), units.spread[units.chosen]
            for name, value in reached.items():
                rows += unit_rows(identity(role, network), CLAIM, name, units.chosen, "", (value - mean) / spread)
    return Part(pd.DataFrame(rows), pictures)


def _drive(
    network: Network, units: Sequence[int], grey: Tensor, steps: int, step: float, report: Callable[[str], None]
) -> dict[str, Tensor]:
    """The grey images driven up and down, each by its unit, and R_i there; measured once, then read from the cache."""
    described = {
        "what": "extremes", "network": movable_key(network), "units": list(units), "shape": list(grey.shape[1:]),
        "steps": steps, "step": step,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: driving grey to the extremes of {len(units)} units, {steps} steps")
        code, asked = of_units.code_of(network), torch.tensor(units, device=grey.device)
        found: dict[str, Tensor] = {}
        for name in DRIVEN:
            raised = of_units.raised_in_chunks(partial(maximise, code, steps=steps, step=step, lower=name == "minimised"), asked, grey)
            found |= {name: raised.x, f"{name}_value": raised.value}
        return found

    return store.cache("visualisation", described, compute)
