"""Entanglement of many layers on the same points: each layer's distances are made once, and all that is said of it is read from them.

Entanglement is the soft nearest neighbour loss at its minimum over temperature, searched for all layers at once; spread is how far the
points of a class lie from their mean, in units of the distance between class means. Source: Frosst et al. 2019 (arXiv 1902.01889),
eq. 1 and 2; spread is this project's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.boundary import checked_labels, not_finite
from reprolib.errors import BadInput
from reprolib.measures.gram import HUGE, TINY, full_precision
from reprolib.measures.neighbour_sums import LOG2E, NOTHING, distances_of
from reprolib.measures.soft_nearest_neighbor import DECADES

GRID = 25
"""Temperatures, log-spaced over `DECADES` on either side of the median distance."""
ZOOMS = (0.15, 0.03)
"""Then three around the vertex of a parabola through the best and its neighbours, so far apart in log T: within 1e-4 of the bound."""
AT_ONCE = 2**18  # exponentials held: they stay in the processor's cache


@dataclass(frozen=True)
class Entanglements:
    """Of L layers, float64 (L,): the loss at its minimum over temperature (nats), T*, and T* over the layer's mean distance.

    bound: the loss at infinite temperature, one for all layers. at_bound: no finite temperature is below it (T* is infinite).
    """

    value: Tensor
    bound: float
    temperature: Tensor
    relative_temperature: Tensor
    at_bound: Tensor

    @property
    def share(self) -> Tensor:
        """value / bound, in [0, 1]: comparable between layers and networks, at one batch size."""
        return self.value / self.bound


def squared_distances(x: Tensor) -> Tensor:
    """Squared Euclidean distances of points x (n, ...), flattened: float64 (n, n), 0 on the diagonal.

    Of centred points, the product in fp32 (float64 where x is, and where squares leave its range): on maps of trained networks
    entanglement is within 1e-6 of that of float64 products. Raises BadInput for other shapes and dtypes, and features that are not finite.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or len(x) < 2:
        given = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise BadInput(f"features are {given}: give floating point features (n, ...) of at least two samples")
    z = x.detach().flatten(1)
    largest = max(float(end) ** 2 for end in torch.aminmax(z))
    z = z if z.dtype == torch.float64 else z.double() if not TINY < largest < HUGE else z.float()
    with full_precision():
        z = z - z.mean(dim=0)
        found = distances_of(z, z, is_cosine=False).fill_diagonal_(0).double()
    if not math.isfinite(float(found.sum())):
        raise BadInput(f"features of samples {not_finite(x)} hold values that are not finite: look at the network and its input")
    return found


def entanglements(distances: Tensor, y: Tensor) -> Entanglements:
    """Entanglement of L layers at once. distances: (L, n, n) or (n, n), squared, of the same n points; y: (n,) their class numbers.

    As `soft_nearest_neighbor.entanglement`, to within 1e-4 of the bound. Points alone in their class are neighbours, no anchors.
    Raises BadInput for other shapes, labels that are no class numbers, one class alone, and where every point is alone in its class.
    """
    d, y = _checked(distances, y)
    own = y[:, None] == y
    other = ~own
    own.fill_diagonal_(False)
    sizes = own.sum(dim=1)
    anchors = (sizes > 0).nonzero().flatten()
    if not len(anchors):
        raise BadInput(f"each of the {len(y)} samples is alone in its class: give at least two samples of one class")
    bound = -float((sizes[anchors].double() / (len(y) - 1)).log().mean())
    mean = (d.sum(dim=(1, 2)) - d.diagonal(dim1=1, dim2=2).sum(dim=1)) / (len(y) * (len(y) - 1))
    median = d[:, ::2, 1::2].flatten(1).median(dim=1).values  # of a quarter of the pairs: all that hangs on it is where the grid lies
    unit = torch.where(median > 0, median, mean)
    d = d[:, anchors] / unit.clamp_min(torch.finfo(torch.float64).tiny)[:, None, None]
    own, other = own[anchors], other[anchors]
    near, far = (d.masked_fill(~kind, math.inf).amin(dim=2) for kind in (own, other))
    excess = (d - torch.where(own, near[:, :, None], far[:, :, None])).clamp_(min=0).float().transpose(0, 1).contiguous()
    kinds = torch.stack((own, other), dim=1).float()

    def curve(logs: Tensor) -> Tensor:
        """The loss (L, t) at temperatures exp(logs) (L, t), in units of each layer's median distance."""
        factors = (-LOG2E * (-logs).exp()).float()
        parts = []
        for layers in torch.arange(len(logs)).split(max(1, AT_ONCE // (logs.shape[1] * excess[:, 0].numel()))):
            at = slice(int(layers[0]), int(layers[-1]) + 1)
            kernel = (excess[:, at, None] * factors[at, :, None]).clamp_(min=NOTHING).exp2_()
            sums = torch.bmm(kinds, kernel.flatten(1, 2).transpose(1, 2)).double().log_()
            parts.append((sums[:, 1] - sums[:, 0]).unflatten(1, kernel.shape[1:3]))
        odds = torch.cat(parts, dim=1) + (near - far).T[:, :, None] * (-logs).exp()
        return odds.logaddexp(odds.new_zeros(())).mean(dim=0)

    with full_precision(), torch.no_grad():
        value, logs = _lowest(curve, len(d), y.device)
    at_bound = (value >= bound) | (unit <= 0)
    value, temperature = value.masked_fill(at_bound, bound), (logs.exp() * unit).masked_fill(at_bound, math.inf)
    return Entanglements(value, bound, temperature, temperature / mean, at_bound)


def spread_ratio(distances: Tensor, y: Tensor) -> Tensor:
    """Mean distance of points to their class mean, over the mean distance between class means: float64 (L,), or a scalar of one layer.

    distances, y: as of `entanglements`. Means are read from squared distances alone. Two classes of equal Gaussians, s.d. s in each of d
    directions, whose means lie m apart: about s sqrt(d) / m. Infinite where class means lie in one place, nan where all points do.
    Raises BadInput as `entanglements` does.
    """
    d, y = _checked(distances, y)
    members = torch.nn.functional.one_hot(y).T.double()
    members /= members.sum(dim=1, keepdim=True)
    to_class = members @ d  # (L, K, n): mean squared distance of each point to the points of each class
    between = to_class @ members.T
    within = between.diagonal(dim1=1, dim2=2) / 2  # the mean squared distance of a class's points to their mean
    own = (to_class.gather(1, y.expand(len(d), 1, -1)).squeeze(1) - within[:, y]).clamp_min(0).sqrt().mean(dim=1)
    apart = (between - within[:, :, None] - within[:, None]).clamp_min(0).sqrt()
    k = len(members)
    scale = apart.sum(dim=(1, 2)) / (k * (k - 1))
    return own / scale if distances.ndim == 3 else (own / scale)[0]


def _checked(distances: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (L, n, n) and classes (n,) numbered from 0."""
    given = f"{distances.dtype} of shape {tuple(distances.shape)}" if isinstance(distances, Tensor) else f"a {type(distances).__name__}"
    is_square = isinstance(distances, Tensor) and distances.ndim in (2, 3) and distances.shape[-1] == distances.shape[-2] > 1
    if not is_square or not distances.is_floating_point():
        raise BadInput(f"distances are {given}: give squared distances (layers, n, n) of at least two points, see `squared_distances`")
    y = checked_labels(y, distances.shape[-1]).to(distances.device).unique(return_inverse=True)[1]
    if not int(y.max()):
        raise BadInput(f"all {len(y)} samples are of one class: give samples of at least two")
    return distances.double().view(-1, len(y), len(y)), y


def _lowest(curve: Callable[[Tensor], Tensor], n_layers: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(least values, their logs of temperature), (L,) each."""
    grid = math.log(10) * torch.linspace(-DECADES, DECADES, GRID, dtype=torch.float64, device=device)
    logs = grid.expand(n_layers, -1)
    values = curve(logs)
    for width in ZOOMS:
        best = values.argmin(dim=1, keepdim=True).clamp(1, logs.shape[1] - 2) + torch.arange(-1, 2, device=device)
        logs, values = logs.gather(1, best), values.gather(1, best)
        around = _vertex(logs, values)[:, None] + width * torch.arange(-1, 2, device=device)
        logs, values = torch.cat([logs, around], dim=1), torch.cat([values, curve(around)], dim=1)
        logs, order = logs.sort(dim=1)
        values = values.gather(1, order)
    least = values.min(dim=1)
    return least.values, logs.gather(1, least.indices[:, None])[:, 0]


def _vertex(x: Tensor, y: Tensor) -> Tensor:
    """Where the parabolas through three points each, x, y (L, 3), are lowest, between the outer ones; the lowest point where they open downwards."""
    left, right = (y[:, 1] - y[:, 0]) / (x[:, 1] - x[:, 0]), (y[:, 2] - y[:, 1]) / (x[:, 2] - x[:, 1])
    bend = (right - left) / (x[:, 2] - x[:, 0])
    lowest = x.gather(1, y.argmin(dim=1, keepdim=True))[:, 0]
    vertex = (x[:, 0] + x[:, 1] - left / bend) / 2
    return torch.where((bend > 0) & vertex.isfinite(), vertex.clamp(x[:, 0], x[:, 2]), lowest)  # two points may be one
