"""INV-6: does an image change steadily when its code is mixed with another's? Source: Engstrom et al. 2019 (arXiv 1906.00945).

Every point between a pair is inverted from the SAME noise image: the blend of both images, from which the paper starts,
already passes a rank test, whatever the network. The blend start and the bare cross-fade of pixels are measured beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import Eyes, chunk_of, distance_unit, sha256_of, to_bytes
from reprolib.findings.invertibility.pairs import Pairs, make_pairs
from reprolib.findings.invertibility.tidying import DRAWN, Part, Rows, unit_rows
from reprolib.judging.tidy import identity
from reprolib.models.layers import movable, movable_key
from reprolib.models.networks import Network
from reprolib.perturb.interpolation import N_POINTS, Interpolation, interpolate, mixed
from reprolib.perturb.inversion import network_code, noise_start

CLAIM = "INV-6"
PIXELS = {"arm": "crossfade", "recipe": "none", "architecture": "pixels", "seed": 0, "network": "pixels"}
"""The bare cross-fade in the rows: no network at all."""


@section
def of(inversions: Inversions) -> Part:
    """INV-6 of the networks that it compares: `DRAWN` on every kind of pair and from both starts, the others (controls) across classes, from noise.

    pictures: one dict a pair: unit, kind, names (of its two classes; None outside the test set), strips and blend: uint8
    images (N_POINTS, 3, h, w) by "crossfade", "standard", "robust" (the first network of the arm), from noise and from the
    blend (pairs across classes only, else empty).
    """
    study, eyes = inversions.study, inversions.measured[1]
    images, outside = study.images("test"), next(iter(inversions.outside.values()), inversions.measured[0].targets[:0])
    pairs = make_pairs(images, outside, study.settings["n_pairs"], study.device)
    knobs = study.settings["pair_steps"], study.settings["pair_step"], study.settings["pool"], study.report
    across = pairs.places("across")
    faded = mixed(pairs.left, pairs.right)
    follows = _preference(eyes, "standard", faded[across], pairs, across)
    rows = _rows(PIXELS, "rank_correlation@crossfade", pairs, across, rank_correlation(follows))
    rows += _preference_rows(PIXELS, pairs, across, follows)
    pictures: list[dict[str, Any]] = [
        {"unit": unit, "kind": kind, "names": _names(images, pairs, i), "strips": {"crossfade": to_bytes(faded[i])}, "blend": {}}
        for i, (unit, kind) in enumerate(zip(pairs.units, pairs.kinds, strict=True))
    ]
    for role, networks in inversions.compared(CLAIM).items():
        for k, network in enumerate(networks):
            places = list(range(len(pairs.units))) if role in DRAWN else across
            walks = {"noise": walk(network, pairs, places, "noise", *knobs)}
            if role in DRAWN:
                walks["blend"] = walk(network, pairs, across, "blend", *knobs)
            rows += _network_rows(identity(role, network), walks, pairs, places, eyes, first=k == 0 and role in DRAWN)
            if k == 0 and role in DRAWN:
                for i, picture in enumerate(pictures):
                    picture["strips"][role] = to_bytes(walks["noise"].x[i])
                for i, x in zip(across, walks["blend"].x, strict=True):
                    pictures[i]["blend"][role] = to_bytes(x)
    return Part(pd.DataFrame(rows), pictures)


def walk(
    network: Network,
    pairs: Pairs,
    places: Sequence[int],
    start: str,
    steps: int,
    step: float,
    pool: int,
    report: Callable[[str], None] = lambda line: None,
) -> Interpolation:
    """One network's interpolations of the pairs at `places`, distances in d_rel; measured once, then read from the cache.

    start: "noise" (one noise image a pair, the same at all its points) or "blend" (of the pair's pixels). pool: the code is
    the last map averaged to pool x pool positions. BatchNorm is folded (the same function); fp32.
    """
    left, right = pairs.left[list(places)], pairs.right[list(places)]
    described = {
        "network": movable_key(network), "data": pairs.data_sha256, "pairs": [pairs.units[i] for i in places],
        "ends": sha256_of(torch.cat([left, right])), "start": start, "points": N_POINTS, "steps": steps, "step": step, "pool": pool,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: interpolating {len(left)} pairs from {start}, {steps} steps, {pool} x {pool} code")
        code = network_code(movable(network), pool)
        with torch.no_grad(), torch.autocast(left.device.type, enabled=False):
            unit = distance_unit(code(pairs.typical))
        # drawn for all pairs, so that a network measured on some of them starts those from the same noise
        begin = noise_start(pairs.left.shape, seed=0).to(left.device)[list(places)] if start == "noise" else mixed(left, right)
        found = interpolate(code, left, right, begin, steps, step, chunk=chunk_of(left.device))
        return {"x": found.x, "distance": found.distance / unit, "zero_gradient": found.zero_gradient}

    kept = {name: tensor.to(left.device) for name, tensor in store.cache("interpolation", described, compute).items()}
    return Interpolation(kept["x"], kept["distance"], kept["zero_gradient"])


def rank_correlation(values: Tensor) -> Tensor:
    """Spearman's correlation (n,) of the mixing weight with values (n, m) at m evenly spaced weights; ties share their mean rank.

    0 where all values of a row are equal: the correlation is undefined there, and what never changes follows nothing.
    """
    values = values.double()
    ranks = ((values[:, :, None] > values[:, None, :]).double() + 0.5 * (values[:, :, None] == values[:, None, :])).sum(dim=2)
    ranks = ranks - ranks.mean(dim=1, keepdim=True)
    weight = torch.arange(values.shape[1]).to(values)  # in whole numbers, so that equal steps are equal
    weight = weight - weight.mean()
    norms = ranks.norm(dim=1) * weight.norm()
    return torch.where(norms > 0, ranks @ weight / norms.clamp_min(1e-12), 0.0)


def unevenness(step_sizes: Tensor) -> Tensor:
    """Coefficient of variation (n,) of non-negative step sizes (n, s): 0 for equal steps, sqrt(s - 1) when one step does it all.

    sqrt(s - 1), the worst, also where no step moves: what never changes does not change evenly.
    """
    sizes = step_sizes.double()
    mean = sizes.mean(dim=1)
    variation = sizes.std(dim=1, correction=0) / mean.clamp_min(1e-300)
    return torch.where(mean > 0, variation, math.sqrt(sizes.shape[1] - 1))


def _preference(eyes: Eyes, judge: str, x: Tensor, pairs: Pairs, places: Sequence[int]) -> Tensor:
    """p(y_right) - p(y_left) (n, m) of the images (n, m, 3, h, w) between the pairs at `places`."""
    probabilities = eyes.probabilities(judge, x.flatten(0, 1)).view(*x.shape[:2], -1)
    sides = [y[list(places)].view(-1, 1, 1).expand(-1, x.shape[1], 1) for y in (pairs.y_right, pairs.y_left)]
    right, left = (probabilities.gather(2, side).squeeze(2) for side in sides)
    return right - left


def _network_rows(
    base: Mapping[str, Any], walks: Mapping[str, Interpolation], pairs: Pairs, places: Sequence[int], eyes: Eyes, first: bool
) -> Rows:
    """All rows of one network. places: the pairs its noise walk went; across pairs come first in both walks."""
    x, across = walks["noise"].x, pairs.places("across")
    between = x[: len(across)]
    follows = _preference(eyes, "standard", between, pairs, across)
    by_robust = _preference(eyes, "robust", between, pairs, across)
    moves = eyes.distance("standard", x[:, :-1].flatten(0, 1), x[:, 1:].flatten(0, 1)).view(len(x), -1)
    rows = _rows(base, "rank_correlation", pairs, across, rank_correlation(follows))
    rows += _rows(base, "rank_correlation_robust_judge", pairs, across, rank_correlation(by_robust))
    rows += _rows(base, "evenness", pairs, places, unevenness(moves))
    rows += _rows(base, "d_rel", pairs, places, walks["noise"].distance.mean(dim=1))
    rows += _rows(base, "zero_gradient_share", pairs, places, walks["noise"].zero_gradient.double().mean(dim=1))
    for kind in sorted({pairs.kinds[i] for i in places} - {"across"}):
        some = pairs.places(kind)
        away, near = (_distance_to_end(eyes, x[some], end[some]) for end in (pairs.left, pairs.right))
        rows += _rows(base, f"rank_correlation@{kind}", pairs, some, rank_correlation(away - near))
    if "blend" in walks:
        from_blend = _preference(eyes, "standard", walks["blend"].x, pairs, across)
        rows += _rows(base, "rank_correlation@blend", pairs, across, rank_correlation(from_blend))
    return rows + (_preference_rows(base, pairs, across, follows) if first else [])


def _distance_to_end(eyes: Eyes, x: Tensor, end: Tensor) -> Tensor:
    """Perceptual distance (n, m), standard judge, of the images (n, m, 3, h, w) to one end (n, 3, h, w) of their pair."""
    ends = end.unsqueeze(1).expand_as(x)
    return eyes.distance("standard", x.flatten(0, 1), ends.flatten(0, 1)).view(x.shape[:2])


def _rows(base: Mapping[str, Any], quantity: str, pairs: Pairs, places: Sequence[int], values: Tensor, point: str = "") -> Rows:
    """One row per pair of `places`; nothing has to be reached, so every row counts."""
    return [
        row
        for i, value in zip(places, values, strict=True)
        for row in unit_rows(base, CLAIM, quantity, [pairs.units[i]], pairs.kinds[i] + point, value[None])
    ]


def _preference_rows(base: Mapping[str, Any], pairs: Pairs, places: Sequence[int], values: Tensor) -> Rows:
    """The curve itself, values (n, m): unit_2 "across|j" at weight j / (m - 1)."""
    return [row for j, column in enumerate(values.T) for row in _rows(base, "preference", pairs, places, column, f"|{j}")]


def _names(images: Images, pairs: Pairs, i: int) -> tuple[str, str] | None:
    return None if pairs.kinds[i] == "ood" else (images.classes[int(pairs.y_left[i])], images.classes[int(pairs.y_right[i])])
