"""INV-7: does raising a unit change an image as a picture would change? Source: Engstrom et al. 2019 (arXiv 1906.00945).

Each unit is maximised without a regulariser from noise, from a test image and from an image outside the distribution. What
is measured is the change that was made: the share of its energy in high frequencies, how far it raised the unit, and how
far it raised the most similar unit of a network that took no part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.invertibility import units as of_units
from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import Eyes, in_chunks, sha256_of, to_bytes
from reprolib.findings.invertibility.tidying import Part, Rows, unit_rows
from reprolib.findings.invertibility.units import Units
from reprolib.judging.tidy import identity
from reprolib.measures.perceptual import radial_spectrum, spectrum_slope
from reprolib.models.layers import movable_key
from reprolib.models.networks import Network
from reprolib.perturb.inversion import noise_start
from reprolib.perturb.visualisation import maximise

CLAIM = "INV-7"
N_PICTURES = 4  # units a network whose images are kept for the figure
NOISE_SEED = 0


@section
def of(inversions: Inversions) -> Part:
    """INV-7 of the networks that it compares; its rows "high_frequency@ood" are the part of INV-5 on out-of-distribution starts.

    Rows (unit = channel, unit_2 = start): high_frequency, own_gain, matched_gain (in standard deviations of the raised unit
    on test images), spectrum_slope; high_frequency@<start>; matched_correlation; of the first network of each arm "spectrum", unit_2 = cycles
    per pixel, the power in a ring as a share of all rings', mean over starts; dead units. Pictures: starts {start: (m, 3, h, w)}
    and arms {role: {"units": [...], "x": {start: (m, 3, h, w)}}} of the first network of each arm, uint8.
    """
    study, eyes = inversions.study, inversions.measured[1]
    images, outside = study.images("test"), next(iter(inversions.outside.values()), None)
    starts = make_starts(images, outside, study.settings["n_units"], study.device)
    judged = of_units.judge_codes_of(eyes, images)
    rows: Rows = []
    pictures: dict[str, Any] = {"starts": {name: to_bytes(start[:N_PICTURES]) for name, start in starts.items()}, "arms": {}}
    for role, networks in inversions.compared(CLAIM).items():
        for k, network in enumerate(networks):
            base, units = identity(role, network), of_units.units_of(network, images, study.settings["n_units"])
            rows += unit_rows(base, CLAIM, "dead", units.dead, "", torch.ones(len(units.dead)))
            share = torch.tensor([len(units.dead) / units.codes.shape[1]], dtype=torch.float64)
            rows += unit_rows(base, CLAIM, "dead_share", ["all"], "", share)
            if not units.chosen:
                study.report(f"{network.card['name']}: all {len(units.dead)} units are 0 on every test image, none is visualised")
                continue
            seen = visualise(network, units, starts, study.settings["unit_steps"], study.settings["step"], study.report)
            rows += _rows(base, units, seen, eyes, judged, with_spectrum=k == 0)
            if k == 0:
                shown = {name: to_bytes(x[:N_PICTURES]) for name, x in seen.x.items()}
                pictures["arms"][role] = {"units": units.chosen[:N_PICTURES], "x": shown}
    return Part(pd.DataFrame(rows), pictures)


def make_starts(images: Images, ood: Tensor | None, n: int, device: str = "cpu") -> dict[str, Tensor]:
    """Where the search begins, n images per kind of start ("noise", "image", "ood"), the same for every network.

    ood: images from outside the training distribution (m, 3, h, w) in [0, 1], used in turn; where there are none those starts are left out.
    """
    chosen = of_units.drawn_images(images, 2 * n, device)
    starts = {"noise": noise_start(chosen[:n].shape, NOISE_SEED).to(device), "image": chosen[::2]}
    if ood is not None:
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
        "what": "maximise", "network": movable_key(network), "units": units.chosen, "starts": sha256_of(begin),
        "steps": steps, "step": step,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: maximising {n} units from {len(starts)} starts, {steps} steps")
        code = of_units.code_of(network)
        raised = of_units.raised_in_chunks(partial(maximise, code, steps=steps, step=step), asked, begin)
        with torch.no_grad():
            before = in_chunks(code, begin).gather(1, asked[:, None])[:, 0]
        return {"x": raised.x, "gain": raised.value - before}

    kept = store.cache("visualisation", described, compute)
    x = dict(zip(starts, kept["x"].to(begin.device).split(n), strict=True))
    gain = dict(zip(starts, kept["gain"].split(n), strict=True))
    spread = units.spread[units.chosen]
    return Seen({name: start[:n] for name, start in starts.items()}, x, {name: value / spread for name, value in gain.items()})


def _rows(base: Mapping[str, Any], units: Units, seen: Seen, eyes: Eyes, judged: Tensor, with_spectrum: bool) -> Rows:
    matched, correlation = of_units.match(units, judged)
    rows: Rows = []

    def add(quantity: str, unit_2: str, values: Tensor, reached: Tensor | bool = True) -> None:
        rows.extend(unit_rows(base, CLAIM, quantity, units.chosen, unit_2, values, reached))

    spectra = []
    for name, x in seen.x.items():
        delta = x - seen.start[name]
        fraction, changed = of_units.high_frequency(delta)
        add("high_frequency", name, fraction, changed)
        add(f"high_frequency@{name}", "", fraction, changed)
        add("own_gain", name, seen.gain[name])
        add("matched_gain", name, of_units.judge_gain(eyes, matched, judged, seen.start[name], x))
        add("spectrum_slope", name, spectrum_slope(delta).nan_to_num(nan=0), changed)  # white noise has slope 0
        frequency, power = radial_spectrum(delta)
        spectra.append(torch.where(changed[:, None], power / power.sum(dim=1, keepdim=True), 1 / power.shape[1]))
    add("matched_correlation", "", correlation)
    if with_spectrum:
        mean = torch.stack(spectra).mean(dim=0)
        for ring, cycles in enumerate(frequency.tolist()):
            add("spectrum", f"{cycles:.4f}", mean[:, ring])
    return rows
