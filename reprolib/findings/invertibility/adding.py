"""INV-8: does adding a feature change an image visibly? Source: Engstrom et al. 2019 (arXiv 1906.00945), its feature addition notebook.

The notebook stops once R_i >= 1. R is not on one scale in two networks, and the norm it takes to move a unit nearly restates
that one network is more robust; so here two networks change the same images by the same Euclidean norm, and the changes
are compared. The norm a unit needs is shown beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.invertibility import units as of_units
from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import Eyes, in_chunks, sha256_of, to_bytes
from reprolib.findings.invertibility.tidying import Part, Rows, unit_rows
from reprolib.findings.invertibility.units import Units
from reprolib.judging.tidy import identity
from reprolib.models.layers import movable_key
from reprolib.models.networks import Network
from reprolib.perturb.visualisation import add_feature, add_until

CLAIM = "INV-8"
N_IMAGES = 2  # a unit
N_PICTURES = 4  # units a network whose images are kept for the figure
REFERENCE_CAP = 1.0  # R_i of the notebook
STEPS_A_RADIUS = 20  # of the search for the norm that reaches a cap, which has twice the steps: 100 let it go ten radii
IMAGES = tuple(f"image_{k}" for k in range(N_IMAGES))


@section
def of(inversions: Inversions) -> Part:
    """INV-8 of the networks that it compares: two test images a unit, changed by an L2 norm of twice the scale's main eps.

    Rows (unit = channel, unit_2 = image): high_frequency, off_target, perceptual_change, perceptual_change_robust_judge, gain (of
    the unit, in its standard deviations on test images) and norm at equal norm; norm_to_reach (the 99 % quantile on test images)
    and norm_to_reach_one (R_i = 1). A cap that is not reached counts the whole path that was tried, with reached = False, and so
    does an equal norm that [0, 1] forbids. Pictures: images (m, 3, h, w) and arms {role: {"units", "x"}} of the
    first network of each arm, uint8; radius.
    """
    study, eyes = inversions.study, inversions.measured[1]
    images, n_units, radius = study.images("test"), study.settings["n_units"], 2 * study.settings.scale.eps
    chosen = of_units.drawn_images(images, N_IMAGES * n_units, study.device)
    given = {name: chosen[k::N_IMAGES] for k, name in enumerate(IMAGES)}
    rows: Rows = []
    pictures: dict[str, Any] = {"images": to_bytes(given[IMAGES[0]][:N_PICTURES]), "arms": {}, "radius": radius}
    for role, networks in inversions.compared(CLAIM).items():
        for k, network in enumerate(networks):
            units = of_units.units_of(network, images, n_units)
            if not units.chosen:
                study.report(f"{network.card['name']}: all {len(units.dead)} units are 0 on every test image, none is added")
                continue
            added = add(network, units, given, radius, study.settings["unit_steps"], study.report)
            for name, of_image in added.items():
                rows += _rows(identity(role, network), units, name, given[name], of_image, eyes)
            if k == 0:
                shown = to_bytes(added[IMAGES[0]]["x"][:N_PICTURES])
                pictures["arms"][role] = {"units": units.chosen[:N_PICTURES], "x": shown}
    return Part(pd.DataFrame(rows), pictures)


def add(
    network: Network,
    units: Units,
    given: Mapping[str, Tensor],
    radius: float,
    steps: int,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, Tensor]]:
    """Raise the chosen units on their images, by a change of norm `radius` and up to both caps; measured once, then read from the cache.

    Per image name: what the images became at equal norm, x (n, 3, h, w), whether that is their norm, equal (n,), and the values (n,)
    gain (of the unit, in its standard deviations), off_target, norm, norm_to_reach and norm_to_reach_one, with reached and reached_one.
    """
    n = len(units.chosen)
    begin = torch.cat([images[:n] for images in given.values()])
    asked = torch.tensor(units.chosen, device=begin.device).repeat(len(given))
    caps = torch.cat([units.top[units.chosen].repeat(len(given)), torch.full((len(asked),), REFERENCE_CAP)]).to(begin.device)
    described = {
        "what": "add", "network": movable_key(network), "units": units.chosen, "images": sha256_of(begin),
        "caps": sha256_of(caps), "radius": radius, "steps": steps, "steps_a_radius": STEPS_A_RADIUS,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: adding {n} units to {len(given)} images each, norm {radius:g}, {steps} steps")
        code = of_units.code_of(network)
        equal = of_units.raised_in_chunks(partial(add_feature, code, radius=radius, steps=steps), asked, begin)
        climb = partial(add_until, code, steps=2 * steps, step=radius / STEPS_A_RADIUS)
        until = of_units.raised_in_chunks(climb, asked.repeat(2), begin.repeat(2, 1, 1, 1), caps)
        with torch.no_grad():
            before, after = (in_chunks(code, images) for images in (begin, equal.x))
        return {
            "x": equal.x, "before": before, "after": after, "norm": equal.norm, "equal": equal.reached,
            "to_reach": until.norm, "reached": until.reached,
        }  # fmt: skip

    kept = store.cache("visualisation", described, compute)
    own = asked.cpu()
    to_reach = torch.where(kept["reached"], kept["to_reach"], 2 * steps * radius / STEPS_A_RADIUS)  # the whole path
    joined = {
        "x": kept["x"].to(begin.device), "norm": kept["norm"], "equal": kept["equal"],
        "gain": (kept["after"] - kept["before"]).gather(1, own[:, None])[:, 0] / units.spread[own],
        "off_target": off_target(kept["before"], kept["after"], own),
    }  # fmt: skip
    for end, norms, arrived in zip(("", "_one"), to_reach.chunk(2), kept["reached"].chunk(2), strict=True):
        joined |= {f"norm_to_reach{end}": norms, f"reached{end}": arrived}
    return {name: {key: values[k * n : (k + 1) * n] for key, values in joined.items()} for k, name in enumerate(given)}


def off_target(before: Tensor, after: Tensor, units: Tensor) -> Tensor:
    """How far all units but the raised one moved (n,): ||R_-i(x') - R_-i(x)|| / max(||R_-i(x)||, 1e-12).

    before, after: codes (n, d). units: (n,), which number was raised.
    """
    others = torch.ones_like(before).scatter_(1, units[:, None], 0)
    return ((after - before) * others).norm(dim=1) / (before * others).norm(dim=1).clamp_min(1e-12)


def _rows(base: Mapping[str, Any], units: Units, name: str, images: Tensor, added: Mapping[str, Tensor], eyes: Eyes) -> Rows:
    x, images = added["x"], images[: len(units.chosen)]
    values = {quantity: added[quantity] for quantity in ("off_target", "gain", "norm", "norm_to_reach", "norm_to_reach_one")}
    values["high_frequency"], _ = of_units.high_frequency(x - images)
    values["perceptual_change"] = eyes.distance("standard", x, images)
    values["perceptual_change_robust_judge"] = eyes.distance("robust", x, images)
    reached = {"norm_to_reach": added["reached"], "norm_to_reach_one": added["reached_one"]}
    rows: Rows = []
    for quantity, value in values.items():
        rows += unit_rows(base, CLAIM, quantity, units.chosen, name, value, reached.get(quantity, added["equal"]))
    return rows
