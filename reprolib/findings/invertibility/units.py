"""Hidden units of the paper's R: which of them do anything, what they do on test images, and which ones are asked.

R here is the last post-ReLU map averaged over all its positions (k = 1): a unit is a channel. Units of two networks do not
correspond, so every network is asked about units drawn for it alone; the images they start from are the same.
Source of the question: Engstrom et al. 2019 (arXiv 1906.00945).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.errors import BadInput
from reprolib.findings.invertibility.inverting import CHUNK, EYES_CHUNK, FIRST_TEST_IMAGES, GPU_CHUNK, Eyes
from reprolib.judging.tidy import identity, row
from reprolib.measures import perceptual
from reprolib.models.layers import fold_batch_norm, movable, representation
from reprolib.models.networks import Network
from reprolib.perturb.inversion import Code, network_code

POOL = 1
TOP = 0.99  # quantile over test images: what it takes to call a unit strongly active
IMAGES_SEED = 0
WHITE_NOISE = 1 - torch.pi / 16
"""High-frequency fraction of white noise: given to a change that is none, which has no spectrum, and must pass neither for smooth nor for rough."""


@dataclass(frozen=True)
class Units:
    """What the units of one network do on the first test images, and which are asked.

    chosen: channel numbers, drawn among the live ones. dead: those that are 0 (or any one value) on every test image. codes: (images, channels), on
    the CPU. spread: their standard deviation per channel; top: the 99 % quantile, or the largest value where that quantile is 0.
    """

    chosen: list[int]
    dead: list[int]
    codes: Tensor
    spread: Tensor
    top: Tensor


def units_of(network: Network, images: Images, n: int) -> Units:
    """`n` live units of a network (all, where fewer are live); the first of a longer draw are those of a shorter one."""
    codes = codes_of(network, network.sha256, images.x[:FIRST_TEST_IMAGES], {"data": images.sha256})
    spread = codes.std(dim=0)
    live = spread > 0
    draw = torch.Generator().manual_seed(int(network.sha256[:12], 16))
    order = torch.randperm(codes.shape[1], generator=draw).tolist()
    top = codes.double().quantile(TOP, dim=0).float()
    return Units(
        [i for i in order if live[i]][:n], (~live).nonzero().flatten().tolist(),
        codes, spread, torch.where(top > 0, top, codes.amax(dim=0)),
    )  # fmt: skip


def codes_of(network: Network, sha256: str, x: Tensor, described: Mapping[str, Any]) -> Tensor:
    """R of images x (n, 3, h, w), uint8 or in [0, 1], as (n, channels) on the CPU; measured once, then read from the cache.

    network: of weights `sha256`; its BatchNorm is folded. described: plain JSON that identifies the images.
    """
    device = next(network.parameters()).device

    def compute() -> dict[str, Tensor]:
        folded, parts = fold_batch_norm(network), []
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for part in x.split(EYES_CHUNK):
                images = part.to(device).float() / (255 if part.dtype == torch.uint8 else 1)
                parts.append(representation(folded, images, POOL))
        return {"codes": torch.cat(parts)}

    return store.cache("codes", {"network": sha256, "pool": POOL, "n": len(x), **described}, compute)["codes"]


def code_of(network: Network) -> Code:
    """R of a network, BatchNorm folded (the same function), with the straight-through last ReLU."""
    return network_code(movable(network), POOL)


def chunk_of(device: torch.device) -> int:
    """Images a pass."""
    return CHUNK if device.type == "cpu" else GPU_CHUNK


def drawn_images(images: Images, n: int, device: str = "cpu") -> tuple[Tensor, list[int]]:
    """n different test images (n, 3, h, w) in [0, 1] and their places: the same for every network, the first of a longer draw those of a shorter.

    Raises BadInput when there are fewer.
    """
    x = images.x[:FIRST_TEST_IMAGES]
    if n > len(x):
        raise BadInput(f"{n} different test images are needed, there are {len(x)}: ask for fewer units")
    places = torch.randperm(len(x), generator=torch.Generator().manual_seed(IMAGES_SEED))[:n]
    return x[places].float().to(device) / 255, places.tolist()


@dataclass(frozen=True)
class Match:
    """For each chosen unit the most similar one of an independent network: its number (n,), and their correlation on test images (n,)."""

    unit: Tensor
    correlation: Tensor


def match(units: Units, judge_codes: Tensor) -> Match:
    """The judge's unit that correlates most with each chosen one on the same images; judge_codes: (images, channels)."""
    own, other = (_standardised(codes) for codes in (units.codes[:, units.chosen], judge_codes))
    correlations = (own.T @ other / len(own)).masked_fill(judge_codes.std(dim=0) == 0, -1)  # a dead unit is like none
    correlation, unit = correlations.max(dim=1)
    return Match(unit, correlation)


def judge_gain(eyes: Eyes, matched: Tensor, judge_codes: Tensor, start: Tensor, x: Tensor) -> Tensor:
    """How far each change raised the judge's matched unit (n,), in standard deviations of that unit on test images.

    matched: unit numbers (n,). judge_codes: the judge's on test images. start, x: (n, 3, h, w).
    """
    judge, sha256 = eyes.judges["standard"], eyes.sha256["standard"]
    before, after = (codes_of(judge, sha256, images, {"images": fingerprint(images)}) for images in (start, x))
    spread = judge_codes.std(dim=0)[matched]
    return (after - before).gather(1, matched[:, None])[:, 0] / spread


def judge_codes_of(eyes: Eyes, images: Images) -> Tensor:
    """R of the standard judge on the first test images (images, channels)."""
    return codes_of(eyes.judges["standard"], eyes.sha256["standard"], images.x[:FIRST_TEST_IMAGES], {"data": images.sha256})


def high_frequency(delta: Tensor) -> tuple[Tensor, Tensor]:
    """High-frequency fraction (n,) of changes (n, 3, h, w), and whether there was a change (n,); white noise's value where there was none."""
    fraction = perceptual.high_frequency_fraction(delta)
    return fraction.nan_to_num(nan=WHITE_NOISE), ~fraction.isnan()


def unit_rows(
    claim: str, role: str, network: Network, quantity: str, units: Sequence[int], unit_2: str, values: Tensor, reached: Tensor | bool = True
) -> list[dict[str, Any]]:
    """One row per unit of one network; values (n,), reached: (n,) or one for all."""
    base, n = identity(role, network), len(units)
    ok = torch.as_tensor(reached).expand(n)
    return [base | row(claim, quantity, units[i], unit_2, values[i], ok[i]) for i in range(n)]


def activity_rows(claim: str, role: str, network: Network, units: Units) -> list[dict[str, Any]]:
    """The dead units by number (quantity "dead"), and their share."""
    base = identity(role, network)
    share = len(units.dead) / units.codes.shape[1]
    return [base | row(claim, "dead", unit, "", 1, True) for unit in units.dead] + [base | row(claim, "dead_share", "all", "", share, True)]


def to_bytes(x: Tensor) -> Tensor:
    """Images in [0, 1] as uint8, on the CPU, as pictures are kept."""
    return (x * 255).round().to(torch.uint8).cpu()


def fingerprint(x: Tensor) -> str:
    """sha256 over the values of a tensor."""
    return hashlib.sha256(x.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _standardised(codes: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1; zeros where a unit never varies."""
    centred = codes.double() - codes.double().mean(dim=0)
    spread = centred.std(dim=0, correction=0)
    return torch.where(spread > 0, centred / spread, 0)
