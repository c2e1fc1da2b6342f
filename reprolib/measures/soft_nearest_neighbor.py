"""Soft nearest neighbour loss: how entangled the classes are in a layer, at one temperature or minimised over it.

l(T) = -mean_i log( sum_{j != i, y_j = y_i} exp(-D_ij / T) / sum_{k != i} exp(-D_ik / T) ), high where classes are entangled.
Source: Frosst et al. 2019 (arXiv 1902.01889), eq. 1 and 2. Everything is taken relative to each anchor's nearest neighbour of its
own class and of the others, so a temperature costs one exponential a pair and nothing under- or overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from reprolib.boundary import checked_labels, not_finite
from reprolib.errors import BadInput, nearest
from reprolib.measures import neighbour_sums
from reprolib.measures.neighbour_sums import Dense, Tiled, pairs_of

METRICS = ("euclidean", "cosine")
DECADES = 3  # of temperatures searched on either side of the median distance

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
    if temperature is not None and not (isinstance(temperature, Real) and temperature > 0):
        raise BadInput(
            f"temperature={temperature!r} is not allowed: give a number above 0, in units of squared distances, or None for the minimum"
        )
    pairs, z = pairs_of(x, y, metric)
    if temperature is None:
        return _minimised(pairs, z, None)[0]
    return _Loss.apply(z, pairs, float(temperature), float(pairs.curve([float(temperature)])[0]))


def entanglement(x: Tensor, y: Tensor, metric: str = "euclidean") -> Entanglement:
    """The minimum over temperature and what it is to be read with; arguments and errors as for `soft_nearest_neighbor_loss`.

    Without gradient; in float64 up to 2,048 points, beyond in fp32 with sums in float64. Values at different batch sizes do not compare.
    """
    y, x = _check(x, y, metric), x.detach()
    pairs, z = pairs_of(x.double() if len(x) <= neighbour_sums.DENSE else x, y, metric)
    return _minimised(pairs, z, None)[1]


def minimised(x: Tensor, y: Tensor, metric: str = "euclidean", search: Search = COARSE) -> tuple[Tensor, Entanglement]:
    """The minimum as a scalar to call backward on, and all that is known of it; for training, with its coarser search."""
    y = _check(x, y, metric)
    return _minimised(*pairs_of(x, y, metric), search)


class _Loss(torch.autograd.Function):
    """The loss at one temperature, of prepared features z (n, d): its gradient is made from the pairs, when it is asked for."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, pairs: Dense | Tiled, temperature: float, value: float) -> Tensor:
        ctx.pairs, ctx.temperature = pairs, temperature
        return z.new_tensor(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.pairs.gradient(ctx.temperature, gradient), None, None, None


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


def _minimised(pairs: Dense | Tiled, z: Tensor, search: Search | None) -> tuple[Tensor, Entanglement]:
    search = search or (FINE if isinstance(pairs, Dense) else LARGE)
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
