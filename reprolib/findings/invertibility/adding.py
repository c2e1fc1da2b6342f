"""INV-8: does adding a feature change an image visibly? Source: Engstrom et al. 2019 (arXiv 1906.00945), its feature addition notebook.

The notebook stops once R_i >= 1. R is not on one scale in two networks, and the norm it takes to move a unit nearly restates
that one network is more robust; so here two networks change the same images by the same Euclidean norm, and the changes
are compared. The norm a unit needs is shown beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.invertibility.inversions import Inversions
from reprolib.findings.invertibility.inverting import Eyes
from reprolib.findings.invertibility.tidying import Part
from reprolib.findings.invertibility.units import (
    Units,
    chunk_of,
    code_of,
    drawn_images,
    fingerprint,
    high_frequency,
    to_bytes,
    unit_rows,
    units_of,
)  # fmt: skip
from reprolib.models.layers import movable_key
from reprolib.models.networks import Network
from reprolib.perturb.visualisation import Raised, add_feature, add_until

CLAIM = "INV-8"
N_IMAGES = 2  # a unit
N_PICTURES = 4  # units a network whose images are kept for the figure
REFERENCE_CAP = 1.0  # R_i of the notebook
STEPS_A_RADIUS = 20  # of the search for the norm that reaches a cap, which has twice the steps: 100 let it go ten radii
IMAGES = tuple(f"image_{k}" for k in range(N_IMAGES))


def of(inversions: Inversions) -> Part:
    """INV-8 of the networks that it compares."""
    study, settings = inversions.study, inversions.study.settings
    if not inversions.task:
        return Part(pd.DataFrame())
    return measure(
        inversions.compared(CLAIM), study.images("test"), inversions.measured[1], settings["n_units"], 2 * settings.scale.eps,
        settings["unit_steps"], study.device, study.report,
    )  # fmt: skip


def measure(
    nets: Mapping[str, Sequence[Network]],
    images: Images,
    eyes: Eyes,
    n_units: int,
    radius: float,
    steps: int,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> Part:
    """INV-8 on the networks of each role.

    n_units: of each network, two test images each. radius: L2 norm of every change, twice the scale's main L2 eps. steps: of each search.
    Rows (unit = channel, unit_2 = image): high_frequency, off_target, perceptual_change, perceptual_change_robust_judge, gain (of
    the unit, in its standard deviations on test images) and norm at equal norm; norm_to_reach (the 99 % quantile on test images)
    and norm_to_reach_one (R_i = 1). A cap that is not reached counts the whole path that was tried, with reached = False, and so
    does an equal norm that [0, 1] forbids. Pictures: images (m, 3, h, w) and arms {role: {"units", "x"}} of the
    first network of each arm, uint8; radius.
    """
    chosen, _ = drawn_images(images, N_IMAGES * n_units, device)
    given = {name: chosen[k::N_IMAGES] for k, name in enumerate(IMAGES)}
    rows: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {"images": to_bytes(given[IMAGES[0]][:N_PICTURES]), "arms": {}, "radius": radius}
    for role, networks in nets.items():
        for k, network in enumerate(networks):
            units = units_of(network, images, n_units)
            if not units.chosen:
                report(f"{network.card['name']}: all {len(units.dead)} units are 0 on every test image, none is added")
                continue
            added = add(network, units, given, radius, steps, report)
            rows += _rows(role, network, units, added, eyes)
            if k == 0:
                pictures["arms"][role] = {"units": units.chosen[:N_PICTURES], "x": to_bytes(added.x[IMAGES[0]][:N_PICTURES])}
    return Part(pd.DataFrame(rows), pictures)


@dataclass(frozen=True)
class Added:
    """One network's additions. Per image name: the images (n, 3, h, w) and what they became at equal norm, with the values below (n,).

    gain: of the unit, in its standard deviations. off_target: relative change of all other units. norm, equal: length of the
    change, and whether it is the radius. to_reach, to_one: (norm, reached) for the 99 % quantile and for R_i = 1.
    """

    images: dict[str, Tensor]
    x: dict[str, Tensor]
    gain: dict[str, Tensor]
    off_target: dict[str, Tensor]
    norm: dict[str, Tensor]
    equal: dict[str, Tensor]
    to_reach: dict[str, tuple[Tensor, Tensor]]
    to_one: dict[str, tuple[Tensor, Tensor]]


def add(
    network: Network,
    units: Units,
    given: Mapping[str, Tensor],
    radius: float,
    steps: int,
    report: Callable[[str], None] = lambda line: None,
) -> Added:
    """Raise the chosen units on their images, by a change of norm `radius` and up to both caps; measured once, then read from the cache."""
    n = len(units.chosen)
    begin = torch.cat([images[:n] for images in given.values()])
    asked = torch.tensor(units.chosen, device=begin.device).repeat(len(given))
    caps = torch.cat([units.top[units.chosen].repeat(len(given)), torch.full((len(asked),), REFERENCE_CAP)]).to(begin.device)
    described = {
        "what": "add", "network": movable_key(network), "units": units.chosen, "images": fingerprint(begin),
        "caps": fingerprint(caps), "radius": radius, "steps": steps, "steps_a_radius": STEPS_A_RADIUS,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: adding {n} units to {len(given)} images each, norm {radius:g}, {steps} steps")
        code, chunk = code_of(network), chunk_of(begin.device)
        equal = [add_feature(code, u, x, radius, steps) for u, x in zip(asked.split(chunk), begin.split(chunk), strict=True)]
        triples = zip(asked.repeat(2).split(chunk), begin.repeat(2, 1, 1, 1).split(chunk), caps.split(chunk), strict=True)
        until = [add_until(code, u, x, cap, 2 * steps, radius / STEPS_A_RADIUS) for u, x, cap in triples]
        x = _joined(equal, "x")
        with torch.no_grad():
            before, after = (torch.cat([code(part) for part in images.split(chunk)]) for images in (begin, x))
        return {
            "x": x, "before": before, "after": after, "norm": _joined(equal, "norm"), "equal": _joined(equal, "reached"),
            "to_reach": _joined(until, "norm"), "reached": _joined(until, "reached"),
        }  # fmt: skip

    kept = store.cache("visualisation", described, compute)
    own = asked.cpu()[:, None]
    gain = (kept["after"] - kept["before"]).gather(1, own)[:, 0] / units.spread[asked.cpu()]
    whole_path = 2 * steps * radius / STEPS_A_RADIUS
    to_reach = torch.where(kept["reached"], kept["to_reach"], whole_path)

    def by_image(values: Tensor) -> dict[str, Tensor]:
        return dict(zip(given, values.split(n), strict=True))

    norms, arrived = to_reach.chunk(2), kept["reached"].chunk(2)
    caps_met = [{name: (by_image(a)[name], by_image(b)[name]) for name in given} for a, b in zip(norms, arrived, strict=True)]
    return Added(
        {name: images[:n] for name, images in given.items()}, by_image(kept["x"].to(begin.device)), by_image(gain),
        by_image(off_target(kept["before"], kept["after"], asked.cpu())), by_image(kept["norm"]), by_image(kept["equal"]), *caps_met,
    )  # fmt: skip


def off_target(before: Tensor, after: Tensor, units: Tensor) -> Tensor:
    """How far all units but the raised one moved (n,): ||R_-i(x') - R_-i(x)|| / max(||R_-i(x)||, 1e-12).

    before, after: codes (n, d). units: (n,), which number was raised.
    """
    others = torch.ones_like(before).scatter_(1, units[:, None], 0)
    return ((after - before) * others).norm(dim=1) / (before * others).norm(dim=1).clamp_min(1e-12)


def _rows(role: str, network: Network, units: Units, added: Added, eyes: Eyes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, x in added.x.items():
        images, equal = added.images[name], added.equal[name]
        fraction, _ = high_frequency(x - images)
        values = {
            "high_frequency": (fraction, equal), "off_target": (added.off_target[name], equal), "gain": (added.gain[name], equal),
            "norm": (added.norm[name], equal), "norm_to_reach": added.to_reach[name], "norm_to_reach_one": added.to_one[name],
            "perceptual_change": (eyes.distance("standard", x, images), equal),
            "perceptual_change_robust_judge": (eyes.distance("robust", x, images), equal),
        }  # fmt: skip
        for quantity, (value, reached) in values.items():
            rows += unit_rows(CLAIM, role, network, quantity, units.chosen, name, value, reached)
    return rows


def _joined(parts: Sequence[Raised], field: str) -> Tensor:
    """One field of all chunks, as the cache gives it back."""
    return torch.cat([getattr(part, field) for part in parts]).contiguous()
