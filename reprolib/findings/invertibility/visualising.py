"""INV-7: does raising a unit change an image as a picture would change? Source: Engstrom et al. 2019 (arXiv 1906.00945).

Each unit is maximised without a regulariser from noise, from a test image and from an image outside the distribution. What
is measured is the change that was made: the share of its energy in high frequencies, how far it raised the unit, and how
far it raised the most similar unit of a network that took no part.
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
from reprolib.errors import BadInput
from reprolib.findings.invertibility.inversions import Inversions
from reprolib.findings.invertibility.inverting import Eyes
from reprolib.findings.invertibility.tidying import Part
from reprolib.findings.invertibility.units import (
    Units,
    activity_rows,
    chunk_of,
    code_of,
    drawn_images,
    fingerprint,
    high_frequency,
    judge_codes_of,
    judge_gain,
    match,
    to_bytes,
    unit_rows,
    units_of,
)  # fmt: skip
from reprolib.measures.perceptual import radial_spectrum, spectrum_slope
from reprolib.models.layers import movable_key
from reprolib.models.networks import Network
from reprolib.perturb.inversion import noise_start
from reprolib.perturb.visualisation import maximise

CLAIM = "INV-7"
N_PICTURES = 4  # units a network whose images are kept for the figure
NOISE_SEED = 0


def of(inversions: Inversions) -> Part:
    """INV-7 of the networks that it compares."""
    study, settings = inversions.study, inversions.study.settings
    if not inversions.task:
        return Part(pd.DataFrame())
    return measure(
        inversions.compared(CLAIM), study.images("test"), next(iter(inversions.outside.values()), None), inversions.measured[1],
        settings["n_units"], settings["unit_steps"], settings["step"], study.device, study.report,
    )  # fmt: skip


def measure(
    nets: Mapping[str, Sequence[Network]],
    images: Images,
    ood: Tensor | None,
    eyes: Eyes,
    n_units: int,
    steps: int,
    step: float,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> Part:
    """INV-7 on the networks of each role; its rows "high_frequency@ood" are the part of INV-5 on out-of-distribution starts.

    ood: images from outside the training distribution (m, 3, h, w) in [0, 1], used in turn; None where there are none, then those
    starts are left out. n_units: of each network. steps, step: normalised steps in pixel L2, momentum .9, cosine to zero.
    Rows (unit = channel, unit_2 = start): high_frequency, own_gain, matched_gain (in standard deviations of the raised unit
    on test images), spectrum_slope; high_frequency@<start>; matched_correlation; of the first network of each arm "spectrum", unit_2 = cycles
    per pixel, the power in a ring as a share of all rings', mean over starts; dead units. Pictures: starts {start: (m, 3, h, w)}
    and arms {role: {"units": [...], "x": {start: (m, 3, h, w)}}} of the first network of each arm, uint8.
    """
    starts = make_starts(images, ood, n_units, device)
    judged = judge_codes_of(eyes, images)
    rows: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {"starts": {name: to_bytes(start[:N_PICTURES]) for name, start in starts.items()}, "arms": {}}
    for role, networks in nets.items():
        for k, network in enumerate(networks):
            units = units_of(network, images, n_units)
            rows += activity_rows(CLAIM, role, network, units)
            if not units.chosen:
                report(f"{network.card['name']}: all {len(units.dead)} units are 0 on every test image, none is visualised")
                continue
            seen = visualise(network, units, starts, steps, step, report)
            rows += _rows(role, network, units, seen, eyes, judged, with_spectrum=k == 0)
            if k == 0:
                shown = {name: to_bytes(x[:N_PICTURES]) for name, x in seen.x.items()}
                pictures["arms"][role] = {"units": units.chosen[:N_PICTURES], "x": shown}
    return Part(pd.DataFrame(rows), pictures)


def make_starts(images: Images, ood: Tensor | None, n: int, device: str = "cpu") -> dict[str, Tensor]:
    """Where the search begins, n images per kind of start ("noise", "image", "ood"), the same for every network.

    Raises BadInput for out-of-distribution images of another size, or of bytes.
    """
    chosen, _ = drawn_images(images, 2 * n, device)
    starts = {"noise": noise_start(chosen[:n].shape, NOISE_SEED).to(device), "image": chosen[::2]}
    if ood is not None:
        if ood.shape[1:] != chosen.shape[1:] or not ood.is_floating_point() or not len(ood):
            wanted = ", ".join(map(str, chosen.shape[1:]))
            raise BadInput(f"ood is {ood.dtype} of shape {tuple(ood.shape)}: images (m, {wanted}) in [0, 1] are needed")
        starts["ood"] = ood[torch.arange(n) % len(ood)].to(device).float()
    return starts


@dataclass(frozen=True)
class Seen:
    """One network's visualisations: per start images x (n, 3, h, w) where they began and ended, the unit's gain (n,) in its standard deviations."""

    start: dict[str, Tensor]
    x: dict[str, Tensor]
    gain: dict[str, Tensor]


def visualise(
    network: Network,
    units: Units,
    starts: Mapping[str, Tensor],
    steps: int,
    step: float,
    report: Callable[[str], None] = lambda line: None,
) -> Seen:
    """Maximise the chosen units from every start; all in as few passes as fit, measured once, then read from the cache."""
    n = len(units.chosen)
    begin = torch.cat([start[:n] for start in starts.values()])
    asked = torch.tensor(units.chosen, device=begin.device).repeat(len(starts))
    described = {
        "what": "maximise", "network": movable_key(network), "units": units.chosen, "starts": fingerprint(begin),
        "steps": steps, "step": step,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: maximising {n} units from {len(starts)} starts, {steps} steps")
        code, chunk = code_of(network), chunk_of(begin.device)
        parts = [maximise(code, u, x, steps, step) for u, x in zip(asked.split(chunk), begin.split(chunk), strict=True)]
        with torch.no_grad():
            before = torch.cat([code(x).gather(1, u[:, None])[:, 0] for u, x in zip(asked.split(chunk), begin.split(chunk), strict=True)])
        return {
            "x": torch.cat([part.x for part in parts]).contiguous(),
            "gain": torch.cat([part.value for part in parts]) - before,
        }

    kept = store.cache("visualisation", described, compute)
    x = dict(zip(starts, kept["x"].to(begin.device).split(n), strict=True))
    gain = dict(zip(starts, kept["gain"].split(n), strict=True))
    spread = units.spread[units.chosen]
    return Seen({name: start[:n] for name, start in starts.items()}, x, {name: value / spread for name, value in gain.items()})


def _rows(role: str, network: Network, units: Units, seen: Seen, eyes: Eyes, judged: Tensor, with_spectrum: bool) -> list[dict[str, Any]]:
    matched = match(units, judged)
    rows: list[dict[str, Any]] = []

    def add(quantity: str, unit_2: str, values: Tensor, reached: Tensor | bool = True) -> None:
        rows.extend(unit_rows(CLAIM, role, network, quantity, units.chosen, unit_2, values, reached))

    spectra = []
    for name, x in seen.x.items():
        delta = x - seen.start[name]
        fraction, changed = high_frequency(delta)
        add("high_frequency", name, fraction, changed)
        add(f"high_frequency@{name}", "", fraction, changed)
        add("own_gain", name, seen.gain[name])
        add("matched_gain", name, judge_gain(eyes, matched.unit, judged, seen.start[name], x))
        add("spectrum_slope", name, spectrum_slope(delta).nan_to_num(nan=0), changed)  # white noise has slope 0
        frequency, power = radial_spectrum(delta)
        spectra.append(torch.where(changed[:, None], power / power.sum(dim=1, keepdim=True), 1 / power.shape[1]))
    add("matched_correlation", "", matched.correlation)
    if with_spectrum:
        mean = torch.stack(spectra).mean(dim=0)
        for ring, cycles in enumerate(frequency.tolist()):
            add("spectrum", f"{cycles:.4f}", mean[:, ring])
    return rows
