"""Exact order statistics of the maps of a network, channel by channel, in two passes over batches that nobody keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reprolib.errors import BadInput

BINS = 2048
LEAST_WINDOW = 1e-30  # of a histogram: bins of a narrower one are too many a unit of activation for fp32
AT_ONCE = 2**20  # values kept unsorted at a time


@dataclass
class Counted:
    """What two passes leave of a layer: a histogram a unit, then the values in the bins of its order statistics, each with its count."""

    low: Tensor  # (c, 1, 1): where the window begins
    scale: Tensor  # bins a unit of activation
    histogram: Tensor  # (c, BINS)
    total: Tensor  # (c,) of |a|
    n: int = 0
    keys: list[Tensor] = field(default_factory=list)  # slot and value as one number, sorted as values are
    counts: list[Tensor] = field(default_factory=list)
    bins: Tensor = field(default_factory=lambda: torch.zeros(0))  # (ranks, c) that hold the order statistics
    ranks: Tensor = field(default_factory=lambda: torch.zeros(0))  # inside those bins
    before: Tensor = field(default_factory=lambda: torch.zeros(0))  # values below them

    @classmethod
    def over(cls, first: Tensor) -> Counted:
        """Empty, with a window of half as much again as the range of the first batch (n, c, h, w); `widen` follows larger values."""
        low, high = torch.aminmax(first.movedim(1, 0).flatten(1), dim=1)
        spread = torch.maximum(1.5 * (high - low), 0.01 * (high - low).max())
        scale = BINS / spread.clamp(min=LEAST_WINDOW)
        empty = torch.zeros(len(low), BINS, dtype=torch.long, device=first.device)
        return cls(low[:, None, None], scale[:, None, None], empty, torch.zeros(len(low), dtype=torch.float64, device=first.device))

    def places(self, x: Tensor) -> Tensor:
        """The bin of each value, (n, c, h, w) int32: never smaller for a larger value; what lies outside is in the first or the last."""
        return (x - self.low).mul_(self.scale).clamp_(0, BINS - 1).int()

    def count(self, x: Tensor, layer: str) -> None:
        """The first pass. Raises BadInput for values that are not finite."""
        c = len(self.histogram)
        self.total += x.abs().sum(dim=(0, 2, 3), dtype=torch.float64)
        if not bool(self.total.isfinite().all()):
            raise BadInput(f"layer {layer!r} holds values that are not finite: look at the network and its input")
        self.widen(x.amax(dim=(0, 2, 3)))
        offset = BINS * torch.arange(c, dtype=torch.int32, device=x.device)[:, None, None]
        self.histogram += torch.bincount((self.places(x) + offset).flatten(), minlength=c * BINS).view(c, BINS)
        self.n += x.numel() // c

    def widen(self, high: Tensor) -> None:
        """Windows that reach `high` (c,): doubled, two bins becoming one, as often as it takes; places in them stay what `places` gives."""
        ratio = (high.double() - self.low[:, 0, 0]) / BINS * self.scale[:, 0, 0]
        times = torch.frexp(ratio).exponent.clamp(min=0)[:, None]
        if bool(times.any()):
            merged = torch.arange(BINS, device=high.device) >> times.clamp(max=BINS.bit_length()).long()
            self.histogram = torch.zeros_like(self.histogram).scatter_add_(1, merged, self.histogram)
            self.scale = (self.scale.double() * 2.0 ** -times[..., None].double()).float()

    def look_for(self, ranks: Sequence[int]) -> None:
        """Between the passes: the bins of the order statistics `ranks`, and what rank each has inside its bin."""
        wanted = torch.tensor(ranks, device=self.histogram.device)[:, None, None].expand(-1, len(self.histogram), 1)
        upto = self.histogram.cumsum(dim=1).expand(len(ranks), -1, -1).contiguous()
        bins = torch.searchsorted(upto, wanted.contiguous(), right=True)
        before = torch.where(bins > 0, upto.gather(2, (bins - 1).clamp(min=0)), 0)
        self.bins, self.ranks, self.before = bins[..., 0], (wanted - before)[..., 0], before[..., 0]

    def keep(self, x: Tensor) -> None:
        """The second pass."""
        places = self.places(x)
        for j, wanted in enumerate(self.bins.int()):
            inside = (places == wanted[:, None, None]).nonzero()
            value = x[tuple(inside.T)]
            self.keys.append(((inside[:, 1] + j * len(wanted)) << 32) + _ordered(value) + 2**31)
            self.counts.append(torch.ones_like(self.keys[-1]))
        if sum(map(len, self.keys)) > max(AT_ONCE, 2 * len(self.keys[0])):  # the first are merged: each is sorted a few times only
            self.merge()

    def merge(self) -> None:
        """Each value once, with its count."""
        keys, where = torch.cat(self.keys).unique(return_inverse=True)
        counts = torch.zeros_like(keys).index_add_(0, where, torch.cat(self.counts))
        self.keys, self.counts = [keys], [counts]

    def values(self, layer: str) -> tuple[Tensor, Tensor]:
        """The order statistics (ranks, c), and the share of positions that lie above each. Raises BadInput where the second pass lacks one."""
        self.merge()
        changed = BadInput(f"layer {layer!r} gives other values when the same images are shown again: put the network in eval mode")
        keys, upto = self.keys[0], self.counts[0].cumsum(0)
        if not len(keys):
            raise changed
        first = torch.searchsorted(keys, torch.arange(self.bins.numel(), device=keys.device) << 32)
        start = torch.where(first > 0, upto[(first - 1).clamp(min=0)], 0)
        place = torch.searchsorted(upto, start + self.ranks.flatten(), right=True)
        if bool((place == len(keys)).any()) or bool((keys[place] >> 32 != torch.arange(len(place), device=keys.device)).any()):
            raise changed
        above = self.n - self.before.flatten() - (upto[place] - start)
        bits = ((keys[place] & (2**32 - 1)) - 2**31).int()
        value = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)  # `_ordered`, undone
        return value.view_as(self.bins), (above.double() / self.n).view_as(self.bins)


def order_statistics(
    batches: Callable[[], Iterable[tuple[Mapping[str, Tensor], Tensor | None]]], ranks: Callable[[int], Sequence[int]]
) -> dict[str, Counted]:
    """Layer -> the order statistics of ranks(n), n being its number of positions. Raises BadInput for values that are not finite, and no batch."""
    found: dict[str, Counted] = {}
    for maps, _ in batches():
        for layer, x in maps.items():
            if layer not in found:
                found[layer] = Counted.over(x.float())
            found[layer].count(x.float(), layer)
    if not found:
        raise BadInput("there is no batch of images, or no layer: give at least one of each")
    for counted in found.values():
        counted.look_for(ranks(counted.n))
    for maps, _ in batches():
        for layer, x in maps.items():
            found[layer].keep(x.float())
    return found


def _ordered(value: Tensor) -> Tensor:
    """The bits of float32 numbers as whole numbers that are sorted as they are, int64; 0 and -0 are one number."""
    bits = (value + 0.0).contiguous().view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
