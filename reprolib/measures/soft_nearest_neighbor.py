"""Soft nearest neighbour loss: how entangled the classes are in a layer, at one temperature or minimised over it.

l(T) = -mean_i log( sum_{j != i, y_j = y_i} exp(-D_ij / T) / sum_{k != i} exp(-D_ik / T) ), high where classes are entangled.
Source: Frosst et al. 2019 (arXiv 1902.01889), eq. 1 and 2. Everything is taken relative to each anchor's nearest neighbour of its
own class and of the others, so a temperature costs one exponential a pair and nothing under- or overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from reprolib.boundary import checked_labels, not_finite
from reprolib.errors import BadInput, nearest
from reprolib.measures.gram import HUGE, TINY, full_precision

METRICS = ("euclidean", "cosine")
LOG2E = math.log2(math.e)
DECADES = 3  # of temperatures searched on either side of the median distance
DENSE = 2_048  # points up to which all distances are held at once
WORKING_SET = 2**22  # exponentials held at a time in the dense form
TILE = 512  # rows and columns of a tile beyond it
NOTHING = -115.0  # exponents of 2 below it count as it: 1e-35 of a sum of at least 1; exponentials that underflow take ten times as long
SUBSAMPLE = 1_000  # points whose median distance stands for that of more

Array = NDArray[np.float64]
Curve = Callable[[Sequence[float]], Array]


@dataclass(frozen=True)
class Search:
    """A grid of `n` temperatures, log-spaced, then `between` further ones on either side of the best, for each zoom."""

    n: int
    between: tuple[int, ...]


FINE = Search(25, (2,) * 12)
"""Of a batch: T* to six digits."""
LARGE = Search(25, (5, 3))
"""Of more than `DENSE` points: three passes over the tiles."""
COARSE = Search(13, (2, 2))
"""Of a step of training: within 1e-3 of the bound."""


@dataclass(frozen=True)
class Entanglement:
    """The loss at its minimum over temperature (nats), and its bound: the loss of features that say nothing, at infinite temperature.

    temperature: T*, in units of the distances; relative_temperature: over their mean. at_bound: no finite temperature is below the
    bound (T* is infinite). n_dropped: anchors that are alone in their class.
    """

    value: float
    bound: float
    temperature: float
    relative_temperature: float
    at_bound: bool
    n_dropped: int

    @property
    def share(self) -> float:
        """value / bound, in [0, 1]: comparable between layers and networks, at one batch size. nan where there is one class only."""
        return self.value / self.bound if self.bound else math.nan

    def __str__(self) -> str:
        at = "infinite, at the bound" if self.at_bound else f"{self.temperature:.4g}"
        return f"soft nearest neighbour loss {self.value:.4f} of at most {self.bound:.4f} ({self.share:.3f}), temperature {at}"


def soft_nearest_neighbor_loss(x: Tensor, y: Tensor, temperature: float | None = None, metric: str = "euclidean") -> Tensor:
    """The loss of features with those labels, a scalar to call backward on; None: its minimum over temperature.

    x: (n, ...) floats, flattened row by row; computed in fp32 (float64 where x is), whatever the autocast, so half precision is
    welcome. y: (n,) whole class numbers. temperature: above 0, infinite allowed; divides D, squared distances (euclidean) or
    1 - cosine. The minimum's temperature is found without gradient, which is exact there (envelope theorem). Memory grows
    linearly in n. Anchors that are alone in their class are left out, as neighbours they count. Deterministic.
    Raises BadInput for other shapes and dtypes, a temperature not above 0, an unknown metric, features that are not finite, one
    sample, and where every sample is alone in its class.
    """
    y = _check(x, y, metric)
    if temperature is not None and not temperature > 0:
        raise BadInput(
            f"temperature={temperature:g} is not allowed: give one above 0, in units of squared distances, or None for the minimum"
        )
    pairs, z = _pairs(x, y, metric)
    if temperature is None:
        return _minimised(pairs, z, None)[0]
    return _Loss.apply(z, pairs, float(temperature), float(pairs.curve([float(temperature)])[0]))


def entanglement(x: Tensor, y: Tensor, metric: str = "euclidean") -> Entanglement:
    """The minimum over temperature and what it is to be read with; arguments and errors as for `soft_nearest_neighbor_loss`.

    Without gradient; in float64 up to 2,048 points, beyond in fp32 with sums in float64. Values at different batch sizes do not compare.
    """
    y, x = _check(x, y, metric), x.detach()
    pairs, z = _pairs(x.double() if len(x) <= DENSE else x, y, metric)
    return _minimised(pairs, z, None)[1]


def minimised(x: Tensor, y: Tensor, metric: str = "euclidean", search: Search = COARSE) -> tuple[Tensor, Entanglement]:
    """The minimum as a scalar to call backward on, and all that is known of it; for training, with its coarser search."""
    y = _check(x, y, metric)
    return _minimised(*_pairs(x, y, metric), search)


class _Loss(torch.autograd.Function):
    """The loss at one temperature, of prepared features z (n, d): its gradient is made from the pairs, when it is asked for."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, pairs: _Dense | _Tiled, temperature: float, value: float) -> Tensor:
        ctx.pairs, ctx.temperature = pairs, temperature
        return z.new_tensor(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.pairs.gradient(ctx.temperature, gradient), None, None, None


class _Pairs:
    """Points z (n, d) with D_ij = a_i + a_j - 2 <z_i, z_j>, labels y, and the anchors that are not alone in their class."""

    def __init__(self, y: Tensor, is_cosine: bool) -> None:
        self.is_cosine = is_cosine
        _, self.y, sizes = y.unique(return_inverse=True, return_counts=True)
        self.sizes = sizes.tolist()
        own = sizes[self.y]
        self.rows = (own > 1).nonzero().flatten()
        self.n, self.n_dropped = len(y), len(y) - len(self.rows)
        if not len(self.rows):
            raise BadInput(f"each of the {self.n} samples is alone in its class: give at least two samples of one class")
        self.bound = -float(((own[self.rows] - 1).double() / (self.n - 1)).log().mean())

    def _losses(self, temperatures: Tensor, near: Tensor, far: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """(losses, share of the mass on other classes), each (anchors, t), float64.

        near, far (anchors, 1): the least distance to the own class and to others; own, other (anchors, t): sums relative to them.
        """
        odds = (near.double() - far.double()) / temperatures + other.double().log() - own.double().log()
        return odds.logaddexp(odds.new_zeros(())), odds.sigmoid()


class _Dense(_Pairs):
    """All distances of a batch, held at once."""

    def __init__(self, z: Tensor, y: Tensor, is_cosine: bool) -> None:
        super().__init__(y, is_cosine)
        self.z = z
        with full_precision():
            distances = _distances(z, z, is_cosine)
        self.median, self.mean = _middle(distances)
        is_own = self.y[:, None] == self.y
        distances.fill_diagonal_(math.inf)
        is_own.fill_diagonal_(False)
        if self.n_dropped:
            distances, is_own = distances[self.rows], is_own[self.rows]
        is_other = self.y[self.rows, None] != self.y
        self.near = distances.masked_fill(~is_own, math.inf).amin(dim=1, keepdim=True)
        self.far = distances.masked_fill(~is_other, math.inf).amin(dim=1, keepdim=True)
        self.excess = distances.sub_(torch.where(is_other, self.far, self.near))  # over the nearest of the same kind; infinite to itself
        self.kinds = torch.stack((is_own, is_other), dim=2).to(z.dtype)

    def curve(self, temperatures: Sequence[float]) -> Array:
        values = np.full(len(temperatures), self.bound)
        finite = [i for i, t in enumerate(temperatures) if t < math.inf]
        for part in np.array_split(finite, max(1, math.ceil(len(finite) * self.excess.numel() / WORKING_SET))) if finite else ():
            t = torch.tensor([temperatures[i] for i in part], dtype=torch.float64, device=self.z.device)
            values[part] = self._losses(t, self.near, self.far, *self._sums(t)[1])[0].mean(dim=0).cpu().numpy()
        return values

    def gradient(self, temperature: float, factor: Tensor) -> Tensor:
        if temperature == math.inf:
            return torch.zeros_like(self.z)
        t = self.near.new_tensor([temperature], dtype=torch.float64)
        kernel, (own, other) = self._sums(t)
        share = self._losses(t, self.near, self.far, own, other)[1] / (temperature * len(self.rows))
        per_own = (share / own).to(self.z.dtype)
        per_other = (share / other.double().clamp_min(torch.finfo(torch.float64).tiny)).to(self.z.dtype)
        weights = kernel.squeeze(1) * (per_own * self.kinds[..., 0] - per_other * self.kinds[..., 1])  # dl / dD
        if self.n_dropped:
            weights = weights.new_zeros((self.n, self.n)).index_copy_(0, self.rows, weights)
        weights = (weights + weights.T).mul_(-factor if self.is_cosine else -2 * factor)
        if not self.is_cosine:
            weights.diagonal().sub_(weights.sum(dim=1))
        with full_precision():
            return weights @ self.z

    def _sums(self, temperatures: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """exp(-excess / T), (anchors, t, n), and its sums over the own class and over the others, (anchors, t) each."""
        kernel = (self.excess[:, None] * (-LOG2E / temperatures).to(self.z.dtype)[:, None]).clamp_(min=NOTHING).exp2_()
        with full_precision():
            own, other = torch.bmm(kernel, self.kinds).unbind(dim=2)
        return kernel, (own, other)


class _Tiled(_Pairs):
    """Distances that are made tile by tile, used and dropped: anchors of one class against their class and against the others."""

    def __init__(self, take: Callable[[Tensor], Tensor], y: Tensor, is_cosine: bool) -> None:
        super().__init__(y, is_cosine)
        self.order = self.y.argsort(stable=True)
        self.ends = np.cumsum([0, *self.sizes])
        self.take = take
        with full_precision():
            few = take(torch.linspace(0, self.n - 1, min(self.n, SUBSAMPLE), dtype=torch.float64, device=y.device).long())
            self.median, self.mean = _middle(_distances(few, few, is_cosine))

    def curve(self, temperatures: Sequence[float]) -> Array:
        values = np.full(len(temperatures), self.bound)
        finite = [i for i, t in enumerate(temperatures) if t < math.inf]
        if finite:
            t = torch.tensor([temperatures[i] for i in finite], dtype=torch.float64, device=self.y.device)
            losses = [self._losses(t, *self._anchors(*block, t))[0].sum(dim=0) for block in self._blocks()]
            values[finite] = (torch.stack(losses).sum(dim=0) / len(self.rows)).cpu().numpy()
        return values

    def gradient(self, temperature: float, factor: Tensor) -> Tensor:
        first = self.take(self.order[:1])
        found = first.new_zeros((self.n, first.shape[1]))
        t = torch.tensor([temperature], dtype=torch.float64, device=first.device)
        for rows, own_columns, others in self._blocks() if temperature < math.inf else ():
            near, far, own, other = self._anchors(rows, own_columns, others, t)
            share = self._losses(t, near, far, own, other)[1] / (temperature * len(self.rows))
            here = self.take(rows)
            for columns, least, scale in (
                *((columns, near, share / own) for columns in own_columns),
                *((columns, far, -share / other) for columns in others),
            ):
                there = self.take(columns)
                weights = (
                    self._tile(here, rows, there, columns)
                    .sub_(least)
                    .mul_(-LOG2E / temperature)
                    .clamp_(min=NOTHING)
                    .exp2_()
                    .mul_(scale.to(here.dtype))
                )
                with full_precision():
                    pulls = (rows, here, weights.sum(dim=1), weights @ there), (columns, there, weights.sum(dim=0), weights.T @ here)
                for at, points, total, pull in pulls:
                    found.index_add_(0, at, -pull if self.is_cosine else 2 * (total[:, None] * points - pull))
        return found * factor

    def _blocks(self) -> Iterator[tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]]:
        """(anchors, points of their class, points of the others), as indices in parts; a part of a class has two points or more."""
        for low, high in zip(self.ends[:-1], self.ends[1:], strict=True):
            if high - low > 1:
                own = _parts(self.order[low:high])
                others = [part for side in (self.order[:low], self.order[high:]) for part in _parts(side)]
                yield from ((rows, own, others) for rows in own)

    def _anchors(self, rows: Tensor, own: Sequence[Tensor], others: Sequence[Tensor], t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        near, own_sums = self._sums(rows, own, t)
        far, other_sums = self._sums(rows, others, t)
        return near, far, own_sums, other_sums

    def _sums(self, rows: Tensor, parts: Sequence[Tensor], temperatures: Tensor) -> tuple[Tensor, Tensor]:
        """The least distance (anchors, 1) from each anchor to the points of all parts, and sums (anchors, t) of exp(-excess / T)."""
        here = self.take(rows)
        least = here.new_full((len(rows), 1), math.inf)
        sums = temperatures.new_zeros((len(rows), len(temperatures)))
        space = here.new_empty((len(rows), max(map(len, parts), default=0)))
        factors = (-LOG2E / temperatures).tolist()
        for columns in parts:
            tile = self._tile(here, rows, self.take(columns), columns)
            nearer = torch.minimum(least, tile.amin(dim=1, keepdim=True))
            sums *= ((nearer - least).double() / temperatures).exp()
            least = nearer
            tile -= least
            for k, factor in enumerate(factors):
                sums[:, k] += torch.mul(tile, factor, out=space[:, : len(columns)]).clamp_(min=NOTHING).exp2_().sum(dim=1)
        return least, sums

    def _tile(self, here: Tensor, rows: Tensor, there: Tensor, columns: Tensor) -> Tensor:
        with full_precision():
            tile = _distances(here, here if rows is columns else there, self.is_cosine)
        if rows is columns:
            tile.fill_diagonal_(math.inf)
        return tile


def _check(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """The labels; raises BadInput for what the public functions refuse."""
    if metric not in METRICS:
        raise BadInput(f"metric {metric!r} is unknown; allowed: {', '.join(METRICS)}{nearest(metric, METRICS)}")
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or not x[:1].numel():
        given = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise BadInput(f"features are {given}: give floating point features (n, ...)")
    if len(x) < 2:
        raise BadInput("one sample has no neighbours: give at least two samples of one class")
    if not all(math.isfinite(end) for end in torch.aminmax(x.detach())):
        raise BadInput(f"features of samples {not_finite(x)} hold values that are not finite: look at the network and its input")
    return checked_labels(y, len(x)).to(x.device)


def _pairs(x: Tensor, y: Tensor, metric: str) -> tuple[_Dense | _Tiled, Tensor]:
    """The pairs of features (n, ...), and the prepared features through which gradients flow back to x."""
    flat, is_cosine = x.flatten(1), metric == "cosine"
    largest = max(float(end) ** 2 for end in torch.aminmax(flat.detach()))
    dtype = torch.float64 if x.dtype == torch.float64 or not (is_cosine or largest == 0 or TINY < largest < HUGE) else torch.float32
    mean = None if is_cosine else flat.detach().mean(dim=0, dtype=dtype)  # any shift will do: distances are blind to it

    def prepared(part: Tensor) -> Tensor:
        with full_precision():
            part = part.to(dtype)
            return _directions(part) if mean is None else part - mean

    with full_precision():
        if len(x) <= DENSE:
            z = prepared(flat)
            return _Dense(z.detach(), y, is_cosine), z
        if x.requires_grad and torch.is_grad_enabled():
            z = prepared(flat)
            kept = z.detach()
            return _Tiled(lambda at: kept[at], y, is_cosine), z
        return _Tiled(lambda at: prepared(flat.detach()[at]), y, is_cosine), flat.new_zeros((), dtype=dtype)


def _directions(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays, and gets no gradient."""
    size = x.detach().abs().amax(dim=1, keepdim=True)
    is_zero = size == 0
    x = x / size.masked_fill(is_zero, 1)  # or squares of large and small features would leave the range
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return (x / length.masked_fill(is_zero, 1)).masked_fill(is_zero, 0)


def _distances(x: Tensor, y: Tensor, is_cosine: bool) -> Tensor:
    """D (n, m): squared distances of centred features, or 1 - cosine of directions."""
    if is_cosine:
        return torch.addmm(x.new_ones(()), x, y.T, alpha=-1).clamp_(min=0)
    if x is y:  # the diagonal of the product is the squared lengths
        product = x @ x.T
        own = other = product.diagonal()
        return (own[:, None] + other).sub_(product, alpha=2).clamp_(min=0)
    own, other = (torch.linalg.vector_norm(one, dim=1).square() for one in (x, y))
    return torch.addmm(own[:, None] + other, x, y.T, alpha=-2).clamp_(min=0)


def _middle(distances: Tensor) -> tuple[float, float]:
    """Median and mean off the diagonal."""
    n = len(distances)
    off = distances.flatten()[1:].view(n - 1, n + 1)[:, :-1]
    return float(off.median()), float(off.mean())


def _parts(index: Tensor) -> tuple[Tensor, ...]:
    return index.tensor_split(math.ceil(len(index) / TILE)) if len(index) else ()


def _minimised(pairs: _Dense | _Tiled, z: Tensor, search: Search | None) -> tuple[Tensor, Entanglement]:
    search = search or (FINE if isinstance(pairs, _Dense) else LARGE)
    scale = pairs.median or pairs.mean
    value, temperature = _lowest(pairs.curve, scale, search) if scale > 0 else (math.inf, math.inf)
    if at_bound := pairs.bound <= value:
        value, temperature = pairs.bound, math.inf
    relative = temperature / pairs.mean if pairs.mean else math.inf
    found = Entanglement(value, pairs.bound, temperature, relative, at_bound, pairs.n_dropped)
    return _Loss.apply(z, pairs, temperature, value), found


def _lowest(curve: Curve, scale: float, search: Search) -> tuple[float, float]:
    """(least value, its temperature), by a grid relative to `scale` and zooms between the neighbours of the best."""
    logs = np.log(scale) + np.log(10) * np.linspace(-DECADES, DECADES, search.n)
    values = curve(np.exp(logs).tolist())
    for between in search.between:
        best = int(values.argmin())
        near = slice(max(best - 1, 0), best + 2)
        logs, values = logs[near], values[near]
        inner = np.concatenate([np.linspace(*ends, between + 2)[1:-1] for ends in zip(logs[:-1], logs[1:], strict=True)])
        logs, values = np.concatenate([logs, inner]), np.concatenate([values, curve(np.exp(inner).tolist())])
        order = logs.argsort()
        logs, values = logs[order], values[order]
    best = int(values.argmin())
    return float(values[best]), float(np.exp(logs[best]))
