"""Hidden units of the paper's R: which of them do anything, what they do on test images, and which ones are asked.

R here is the last post-ReLU map averaged over all its positions (k = 1): a unit is a channel. Units of two networks do not
correspond, so every network is asked about units drawn for it alone; the images they start from are the same.
Source of the question: Engstrom et al. 2019 (arXiv 1906.00945).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.invertibility.inverting import EYES_CHUNK, FIRST_TEST_IMAGES, Eyes, chunk_of, sha256_of
from reprolib.measures import perceptual
from reprolib.models.layers import fold_batch_norm, movable, representation
from reprolib.models.networks import Network
from reprolib.perturb.inversion import Code, network_code
from reprolib.perturb.visualisation import Raised

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


def raised_in_chunks(climb: Callable[..., Raised], *given: Tensor) -> Raised:
    """`climb(*given)` of many units, as many a pass as `chunk_of` says; given: tensors of one length."""
    parts = [climb(*some) for some in zip(*(one.split(chunk_of(one.device)) for one in given), strict=True)]
    return Raised(*(torch.cat([getattr(part, field.name) for part in parts]).contiguous() for field in fields(Raised)))


def drawn_images(images: Images, n: int, device: str = "cpu") -> Tensor:
    """n different test images (n, 3, h, w) in [0, 1]: the same for every network, the first of a longer draw those of a shorter."""
    x = images.x[:FIRST_TEST_IMAGES]
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(IMAGES_SEED))[:n]].float().to(device) / 255


def match(units: Units, judge_codes: Tensor) -> tuple[Tensor, Tensor]:
    """The judge's unit (n,) that correlates most with each chosen one on the same images, and their correlation; judge_codes: (images, channels)."""
    own, other = (_standardised(codes) for codes in (units.codes[:, units.chosen], judge_codes))
    correlations = (own.T @ other / len(own)).masked_fill(judge_codes.std(dim=0) == 0, -1)  # a dead unit is like none
    correlation, unit = correlations.max(dim=1)
    return unit, correlation


def judge_gain(eyes: Eyes, matched: Tensor, judge_codes: Tensor, start: Tensor, x: Tensor) -> Tensor:
    """How far each change raised the judge's matched unit (n,), in standard deviations of that unit on test images.

    matched: unit numbers (n,). judge_codes: the judge's on test images. start, x: (n, 3, h, w).
    """
    judge, sha256 = eyes.judges["standard"], eyes.sha256["standard"]
    before, after = (codes_of(judge, sha256, images, {"images": sha256_of(images)}) for images in (start, x))
    spread = judge_codes.std(dim=0)[matched]
    return (after - before).gather(1, matched[:, None])[:, 0] / spread


def judge_codes_of(eyes: Eyes, images: Images) -> Tensor:
    """R of the standard judge on the first test images (images, channels)."""
    return codes_of(eyes.judges["standard"], eyes.sha256["standard"], images.x[:FIRST_TEST_IMAGES], {"data": images.sha256})


def high_frequency(delta: Tensor) -> tuple[Tensor, Tensor]:
    """High-frequency fraction (n,) of changes (n, 3, h, w), and whether there was a change (n,); white noise's value where there was none."""
    fraction = perceptual.high_frequency_fraction(delta)
    return fraction.nan_to_num(nan=WHITE_NOISE), ~fraction.isnan()


def _standardised(codes: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1; zeros where a unit never varies."""
    centred = codes.double() - codes.double().mean(dim=0)
    spread = centred.std(dim=0, correction=0)
    return torch.where(spread > 0, centred / spread, 0)
