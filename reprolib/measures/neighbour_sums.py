"""Sums over an anchor's neighbours, of its own class and of the others, at many temperatures: what the loss of a batch is made of.

All distances at once (`Dense`), or tile by tile (`Tiled`), where memory grows linearly with the points. Everything is taken relative
to each anchor's nearest neighbour of its own class and of the others: one exponential a pair, and nothing under- or overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.gram import HUGE, TINY, full_precision

LOG2E = math.log2(math.e)
DENSE = 2_048  # points up to which all distances are held at once
WORKING_SET = 2**22  # exponentials held at a time in the dense form
TILE = 512  # rows and columns of a tile beyond it
NOTHING = -115.0  # exponents of 2 below it count as it: 1e-35 of a sum of at least 1; exponentials that underflow take ten times as long
SUBSAMPLE = 1_000  # points whose median distance stands for that of more

Array = NDArray[np.float64]


class Pairs:
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

    def curve(self, temperatures: Sequence[float]) -> Array:
        """The loss at each temperature (t,), float64; infinite ones give the bound."""
        values = np.full(len(temperatures), self.bound)
        finite = [i for i, t in enumerate(temperatures) if t < math.inf]
        if finite:
            t = torch.tensor([temperatures[i] for i in finite], dtype=torch.float64, device=self.y.device)
            values[finite] = self._means(t).cpu().numpy()
        return values

    def gradient(self, temperature: float, factor: Tensor) -> Tensor:
        """`factor` (scalar) times the gradient (n, d) of the loss at one temperature with respect to the points."""
        raise NotImplementedError

    def _means(self, temperatures: Tensor) -> Tensor:
        """The loss at finite temperatures (t,), float64."""
        raise NotImplementedError

    def _losses(self, temperatures: Tensor, near: Tensor, far: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """(losses, share of the mass on other classes), each (anchors, t), float64.

        near, far (anchors, 1): the least distance to the own class and to others; own, other (anchors, t): sums relative to them.
        """
        odds = (near.double() - far.double()) / temperatures + other.double().log() - own.double().log()
        return odds.logaddexp(odds.new_zeros(())), odds.sigmoid()


class Dense(Pairs):
    """All distances of a batch, held at once."""

    def __init__(self, z: Tensor, y: Tensor, is_cosine: bool) -> None:
        super().__init__(y, is_cosine)
        self.z = z
        with full_precision():
            distances = distances_of(z, z, is_cosine)
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

    def _means(self, temperatures: Tensor) -> Tensor:
        n_parts = math.ceil(len(temperatures) * self.excess.numel() / WORKING_SET)
        return torch.cat(
            [self._losses(t, self.near, self.far, *self._sums(t)[1])[0].mean(dim=0) for t in temperatures.tensor_split(n_parts)]
        )

    def gradient(self, temperature: float, factor: Tensor) -> Tensor:
        """See `Pairs.gradient`."""
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


class Tiled(Pairs):
    """Distances that are made tile by tile, used and dropped: anchors of one class against their class and against the others."""

    def __init__(self, take: Callable[[Tensor], Tensor], y: Tensor, is_cosine: bool) -> None:
        super().__init__(y, is_cosine)
        self.order = self.y.argsort(stable=True)
        self.ends = np.cumsum([0, *self.sizes])
        self.take = take
        with full_precision():
            few = take(torch.linspace(0, self.n - 1, min(self.n, SUBSAMPLE), dtype=torch.float64, device=y.device).long())
            self.median, self.mean = _middle(distances_of(few, few, is_cosine))

    def _means(self, temperatures: Tensor) -> Tensor:
        losses = [self._losses(temperatures, *self._anchors(*block, temperatures))[0].sum(dim=0) for block in self._blocks()]
        return torch.stack(losses).sum(dim=0) / len(self.rows)

    def gradient(self, temperature: float, factor: Tensor) -> Tensor:
        """See `Pairs.gradient`."""
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
            tile = distances_of(here, here if rows is columns else there, self.is_cosine)
        if rows is columns:
            tile.fill_diagonal_(math.inf)
        return tile


def pairs_of(x: Tensor, y: Tensor, metric: str) -> tuple[Dense | Tiled, Tensor]:
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
            return Dense(z.detach(), y, is_cosine), z
        if x.requires_grad and torch.is_grad_enabled():
            z = prepared(flat)
            kept = z.detach()
            return Tiled(lambda at: kept[at], y, is_cosine), z
        return Tiled(lambda at: prepared(flat.detach()[at]), y, is_cosine), flat.new_zeros((), dtype=dtype)


def _directions(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays, and gets no gradient."""
    size = x.detach().abs().amax(dim=1, keepdim=True)
    is_zero = size == 0
    x = x / size.masked_fill(is_zero, 1)  # or squares of large and small features would leave the range
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return (x / length.masked_fill(is_zero, 1)).masked_fill(is_zero, 0)


def distances_of(x: Tensor, y: Tensor, is_cosine: bool) -> Tensor:
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
