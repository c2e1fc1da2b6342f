"""Network dissection: which concept the strongest responses of a unit lie on, by the overlap of its map with the concept's masks.

A unit is active where its map, bilinearly resized to the masks, exceeds a threshold that a share `quantile` of the map's own positions
exceed over all images; IoU = pixels active and of the concept / pixels active or of the concept, both summed over images.
Sources: Bau et al. 2017 (arXiv 1704.05796); CSAILVision/NetDissect-Lite, whose threshold, as here, is taken of the maps at their own size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import gammaln
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.order_statistics import order_statistics
from reprolib.measures.smoothness import DEAD

QUANTILE, DETECTS = 0.005, 0.04  # share of positions above the threshold, and the least IoU of a detector: those of the reference
LEAST_SHARE = 0.2  # of the quantile asked for: a unit with fewer positions above its threshold (.001 for .005) is skipped
NEAR_TIE = 0.1  # two IoUs that differ by less, of the larger, are no label
LEAST_ABOVE = 8  # positions that must lie above a threshold
AT_ONCE = 2**20  # values resized at a time

Batch = tuple[Mapping[str, Tensor], Tensor]
"""Maps (n, c, h, w) by layer, and the masks (k, n, height, width) bool of k concepts on the same n images."""
Batches = Callable[[], Iterable[Batch]]
"""Gives the same batches each time it is called: they are gone through several times, so that none has to be kept."""


@dataclass(frozen=True)
class Thresholds:
    """Of the c units of a layer at q quantiles: value (q, c); share (q, c) of positions that lie above, less than asked for where values tie.

    mean (c,): of |a| over all images and positions. n: positions. quantiles: those asked for.
    """

    value: Tensor
    share: Tensor
    mean: Tensor
    n: int
    quantiles: tuple[float, ...]

    @property
    def dead(self) -> Tensor:
        """(c,) bool: mean |a| below 1e-8."""
        return self.mean < DEAD

    @property
    def skipped(self) -> Tensor:
        """(q, c) bool: less than a fifth of the asked share lies above (q_k < .001 for .005), and nothing can be said."""
        return self.share < LEAST_SHARE * torch.tensor(self.quantiles, dtype=torch.float64, device=self.share.device)[:, None]


@dataclass(frozen=True)
class Overlaps:
    """Pixels of c units and k concepts, summed over images, at q thresholds; with d draws of images another axis stands after q.

    inside (q, c, k): active and of the concept. active (q, c). area (k,), or (d, k): of the concept. n_pixels: of all masks of a concept.
    """

    inside: Tensor
    active: Tensor
    area: Tensor
    n_pixels: int
    thresholds: Thresholds

    @property
    def iou(self) -> Tensor:
        """Intersection over union, the ratio of the sums: as `inside`; 0 of units that are skipped or dead."""
        union = self.active[..., None] + self.area[..., None, :] - self.inside
        left_out = (self.thresholds.skipped | self.thresholds.dead).reshape(len(self.inside), *[1] * (self.inside.ndim - 3), -1, 1)
        return (self.inside / union.clamp(min=1)).masked_fill(left_out, 0)


class Labels(NamedTuple):
    """Of each unit the best and the second best concept (places), their IoU, whether they nearly tie, and its active pixels' share inside the best."""

    best: Tensor
    iou: Tensor
    second: Tensor
    second_iou: Tensor
    tied: Tensor
    inside: Tensor


def labels(of: Overlaps, first: int = 0, last: int | None = None) -> Labels:
    """Best concepts among those of places first to last, counted from first: tensors as `active`."""
    iou = of.iou[..., first:last]
    best, place = iou.max(dim=-1)
    second, runner_up = iou.scatter(-1, place[..., None], -1).max(dim=-1)
    share = of.inside[..., first:last].gather(-1, place[..., None])[..., 0] / of.active.clamp(min=1)
    return Labels(place, best, runner_up, second.clamp(min=0), (best > 0) & (best - second < NEAR_TIE * best), share)


def ceilings(of: Overlaps, quantile: float = QUANTILE) -> Tensor:
    """The largest IoU (k,) that a unit active on a share `quantile` of all pixels can have with each concept: q / p of a larger concept."""
    p = of.area / of.n_pixels
    return torch.minimum(p, torch.full_like(p, quantile)) / p.clamp(min=quantile)


def dilated(mask: Tensor, px: int = 3) -> Tensor:
    """Masks (n, h, w) bool with each pixel grown to a square of px (odd): lines of one pixel, which no map can follow, become px wide."""
    return F.max_pool2d(mask[:, None].float(), px, 1, px // 2)[:, 0] > 0


def quantile(batches: Callable[[], Iterable[Tensor]], level: float) -> Tensor:
    """Quantile (c,) over all positions of all images of maps (n, c, h, w): exactly that of numpy.quantile(..., method="higher"), in fp32.

    Two passes, memory that of a batch: see `thresholds`.
    """
    found = order_statistics(lambda: (({"": maps}, None) for maps in batches()), lambda n: [int(np.ceil((n - 1) * level))])
    return found[""].values("")[0][0]


def thresholds(batches: Batches, quantiles: Sequence[float] = (QUANTILE,)) -> dict[str, Thresholds]:
    """Layer -> the least values that at most a share `quantiles` of a unit's positions exceed (strictly), over all images.

    Of n positions the order statistic floor(q n) from above: so a unit that is 1 on a share q and 0 elsewhere has threshold 0. Two passes: a
    histogram a unit, over a window guessed from the first batch and widened as larger values come; then, of the values inside the one bin that
    holds the order statistic, how often each occurs. Exact with ties and whatever the window.
    Memory does not grow with the number of images, but by those few values.
    Raises BadInput for a quantile outside (0, 1), one that fewer than 8 positions of a layer lie above, and values that are not finite.
    """
    for q in quantiles:
        if not 0 < q < 1:
            raise BadInput(f"quantile={q} is not allowed: give the share of positions that are to lie above a threshold, in (0, 1)")
    found = order_statistics(batches, lambda n: [n - 1 - int(round(q * n, 6)) for q in quantiles])
    result, least = {}, min(quantiles)
    for layer, counted in found.items():
        if (above := int(round(least * counted.n, 6))) < LEAST_ABOVE:
            raise BadInput(
                f"quantile={least} leaves {above} of the {counted.n} positions of layer {layer!r} above the "
                f"threshold: at least {LEAST_ABOVE} are needed, so give more images, a layer of larger maps or a larger quantile"
            )
        value, share = counted.values(layer)
        result[layer] = Thresholds(value, share, counted.total / counted.n, counted.n, tuple(quantiles))
    return result


def overlaps(batches: Batches, of: Mapping[str, Thresholds], draws: Tensor | None = None) -> dict[str, Overlaps]:
    """Layer -> how the units' active pixels lie on the concepts' masks, in one pass. of: from `thresholds`, on the same batches.

    draws (d, n): how often each image counts, d times, for intervals over images; absent, each counts once.
    Raises BadInput unless there is a mask of each concept for each image.
    """
    sums: dict[str, Tensor] = {}
    start, n_pixels, area = 0, 0, torch.zeros(())
    for maps, masks in batches():
        k, n = masks.shape[:2]
        weights = (torch.ones(1, n) if draws is None else draws[:, start : start + n].float()).to(masks.device)
        whole = torch.ones(1, n, *masks.shape[2:], dtype=masks.dtype, device=masks.device)
        table = torch.cat([whole, masks]).flatten(2).permute(1, 2, 0).reshape(-1, 1 + k).float()  # a row a pixel: of any concept, of each
        area = area.to(masks.device) + (weights @ table.view(n, -1, 1 + k).sum(dim=1)).double()
        for layer, x in maps.items():
            if len(x) != n:
                raise BadInput(f"layer {layer!r} has {len(x)} maps for masks of {n} images: give a mask of each concept for each image")
            both = _by_image(x.float(), of[layer].value, table, masks.shape[2:])
            if layer not in sums:
                sums[layer] = torch.zeros(len(both), len(weights), both[0, 0].numel(), device=both.device)
            for summed, at_threshold in zip(sums[layer], both, strict=True):
                summed.addmm_(weights, at_threshold.flatten(1))
        start, n_pixels = start + n, n_pixels + n * masks[0, 0].numel()
    found = {}
    for layer, summed in sums.items():
        both = summed.view(*summed.shape[:2], -1, area.shape[1])
        both, total = (both, area) if draws is not None else (both[:, 0], area[0])
        found[layer] = Overlaps(both[..., 1:], both[..., 0], total[..., 1:], n_pixels, of[layer])
    return found


def _by_image(x: Tensor, values: Tensor, table: Tensor, size: Sequence[int]) -> Tensor:
    """Of maps x (n, c, h, w) at q thresholds (q, n, c, 1 + k): active pixels, and those on each concept. table: (n * pixels, 1 + k).

    Resizing gives no value above a map's largest, so only maps that exceed a threshold somewhere are resized.
    """
    n, c = x.shape[:2]
    n_pixels = size[0] * size[1]
    lowest = values.amin(dim=0)
    chosen = (x.amax(dim=(2, 3)) > lowest).flatten().nonzero().flatten()
    found = torch.zeros(len(values), n * c, table.shape[1], device=x.device)
    flat = x.reshape(n * c, *x.shape[2:])
    for part in chosen.split(max(1, AT_ONCE // n_pixels)):
        larger = resized(flat[part], size).flatten(1)
        place = (larger > lowest[part % c, None]).flatten().nonzero().flatten()
        which, level = place // n_pixels, larger.flatten()[place]
        row = place % n_pixels + n_pixels * (part // c)[which]
        for j, threshold in enumerate(values[:, part % c]):
            active = level > threshold[which]
            counts = torch.bincount(which[active], minlength=len(part))
            found[j, part] = F.embedding_bag(row[active], table, counts.cumsum(0) - counts, mode="sum")  # sums rows, map by map
    return found.view(len(values), n, c, -1)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (m, h, w) at another size, bilinearly, corners not aligned: as `interpolate`, by two small products, which are faster."""
    down, across = (
        F.interpolate(torch.eye(have, device=maps.device)[None], want, mode="linear", align_corners=False)[0]
        for have, want in zip(maps.shape[1:], size, strict=True)
    )
    return down.T @ (maps @ across)


def variety(concept: Sequence[int] | Tensor) -> Tensor:
    """Of each detector of a layer the share of the other detectors with another concept, (m,) for labels (m,), m >= 2.

    Its mean plus 1 is the expected number of concepts in two detectors, `rarefied` to 2. Raises BadInput for fewer than two.
    """
    given = torch.as_tensor(concept)
    if len(given) < 2:
        raise BadInput(f"{len(given)} detector: variety needs two at least, for it compares one with the others")
    return (given[:, None] != given).double().sum(dim=1) / (len(given) - 1)


def rarefied(concept: Sequence[int] | Tensor, size: int) -> float:
    """The expected number of concepts in `size` detectors drawn out of labels (m,) without replacement. Source: Hurlbert 1971.

    Raises BadInput unless size is 1 to m.
    """
    counts = np.unique(np.asarray(concept), return_counts=True)[1]
    m = int(counts.sum())
    if not 1 <= size <= m:
        raise BadInput(f"size={size} is not allowed: give 1 to {m}, the number of detectors")
    left = m - counts  # detectors of other concepts
    missing = np.zeros(len(counts))
    can = left >= size
    missing[can] = np.exp(gammaln(left[can] + 1) - gammaln(left[can] - size + 1) + gammaln(m - size + 1) - gammaln(m + 1))
    return float((1 - missing).sum())


def low_share(best: Tensor, iou: Tensor, is_low: Tensor, live: Tensor, least: float = DETECTS) -> tuple[Tensor, Tensor]:
    """Share of a layer's live units that detect a concept, and share that detect a low-level one, for labels (..., c).

    is_low (k,): whether a concept is a colour or a texture. live (c,). Ratios of their sums over layers are the low-level share, layers alike.
    """
    detects = (iou >= least) & live
    n_live = live.sum().clamp(min=1)
    return detects.sum(dim=-1) / n_live, (detects & is_low[best]).sum(dim=-1) / n_live
