"""Exact nearest neighbours of normalised, centred features on any device: the same whatever the batch, the tile and the order of sums.

Distances are made tile by tile in the precision of the points; pairs whose order that precision cannot tell are taken again in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reprolib.measures.gram import full_precision

TILE = 2**22  # values held at a time: distances of some queries to all points, or differences of pairs
ROWS = 1_024  # rows normalised at a time, in float64
SAME = 1e-5  # relative to length: closer vectors are one point, seen by forward passes in batches of different sizes
CLOSEST = 5  # neighbours among which a point itself is looked for


class Neighbourhood:
    """Points x (n, ...), finite floats, flattened row by row: z (n, d), of length 1, then centred by their mean; fp32, or float64 where x is.

    length: (n,) float64, before. A row of zeros stays one until it is centred. x is not changed.
    """

    def __init__(self, x: Tensor) -> None:
        flat = x.flatten(1)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.centre = flat.new_zeros(flat.shape[1], dtype=torch.float64)
        for rows in flat.split(ROWS):
            self.centre += _unit(rows)[0].sum(dim=0) / len(x)
        self.z = flat.new_empty(flat.shape, dtype=dtype)
        parts = [self.prepared(rows, into) for rows, into in zip(flat.split(ROWS), self.z.split(ROWS), strict=True)]
        self.length = torch.cat([length for _, length in parts])
        squares = torch.cat([z.double().square().sum(dim=1) for z, _ in parts])
        self.half_squares, self.largest = (squares / 2).to(dtype), float(squares.max().sqrt())
        self.rounding = (math.sqrt(flat.shape[1]) / 2 + 2) * torch.finfo(dtype).eps  # errors up to a third of it were seen

    def nearest(self, x: Tensor, k: int) -> Tensor:
        """The k points nearest to each row of x (m, ...), (m, k) int64, in no order; of those at one distance the first."""
        return torch.cat([self._found(self.prepared(rows)[0], k) for rows in x.flatten(1).split(max(1, TILE // len(self.z)))])

    def holds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(whether each row of x is one of the points, direction and length, whether it is 0), (m,) bool each."""
        same, zero = [], []
        for rows in x.flatten(1).split(max(1, TILE // max(len(self.z), CLOSEST * self.z.shape[1]))):
            z, length = self.prepared(rows)
            near = self._found(z, min(CLOSEST, len(self.z)))
            is_close = (self.z[near].double() - z.double()[:, None]).square().sum(dim=2) <= SAME**2
            same.append((is_close & ((self.length[near] - length[:, None]).abs() <= SAME * length[:, None])).any(dim=1))
            zero.append(length == 0)
        return torch.cat(same), torch.cat(zero)

    def prepared(self, rows: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows (m, d) as the points are, and their lengths (m,) before."""
        unit, length = _unit(rows)
        z = unit.new_empty(unit.shape, dtype=self.z.dtype) if out is None else out
        return z.copy_(unit.sub_(self.centre)), length

    def _found(self, z: Tensor, k: int) -> Tensor:
        if k == len(self.z) or not self.largest:  # all of them, or all of them in one place
            return torch.arange(k, device=z.device).expand(len(z), k)
        with full_precision():
            scores = torch.addmm(self.half_squares, z, self.z.T, alpha=-1)  # half of the squared distance, but for the query's own square
        values, found = scores.topk(k + 1, largest=False)
        doubt = 2 * self.rounding * self.largest * (torch.linalg.vector_norm(z, dim=1) + self.largest / 2)
        unsure = (values[:, k] - values[:, k - 1] <= doubt).nonzero().flatten()
        found = found[:, :k]
        if len(unsure):
            last, doubt = values[unsure, k - 1, None], doubt[unsure, None]
            found[unsure] = self._decided(z[unsure], scores[unsure], last - doubt, last + doubt, k)
        return found

    def _decided(self, z: Tensor, scores: Tensor, low: Tensor, high: Tensor, k: int) -> Tensor:
        """The neighbours where scores between low and high are too close for their precision: those pairs again, in float64."""
        is_close = (scores >= low) & (scores <= high)
        row, point = is_close.nonzero(as_tuple=True)
        step = max(1, TILE // z.shape[1])
        pairs = zip(row.split(step), point.split(step), strict=True)
        exact = torch.cat([(z[i].double() - self.z[j].double()).square().sum(dim=1) for i, j in pairs])
        order = exact.argsort(stable=True)
        order = order[row[order].argsort(stable=True)]  # by row, then distance, then place in the index
        n_close = is_close.sum(dim=1)
        rank = torch.arange(len(order), device=z.device) - (n_close.cumsum(0) - n_close)[row]
        dropped = order[rank >= (k - (scores < low).sum(dim=1))[row]]
        scores[row[dropped], point[dropped]] = math.inf
        return scores.topk(k, largest=False).indices


def _unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (m, d) of length 1 in float64, zeros staying zeros, and their lengths (m,)."""
    if rows.dtype != torch.float64:  # squares of float32 stay within float64
        rows = rows.double()
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return rows.div_(length.where(length > 0, 1)), length.flatten()
    peak = rows.abs().amax(dim=1, keepdim=True)  # first: squares of float64 may overflow
    rows = rows / peak.where(peak > 0, 1)
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.where(length > 0, 1), (peak * length).flatten()
