"""How well one representation can be rotated onto another: orthogonal Procrustes similarity, less its value for shuffled rows.

The second metric of block structure. Source: Ding et al. 2021 (arXiv 2108.01661). It is as biased as biased CKA: independent
features of n examples score near 1 once they have about n dimensions. Hence n >= 10 p, and the value for shuffled rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.gram import centred, check_finite

ROWS_PER_DIMENSION = 10
SHUFFLES = 5


def procrustes_similarity(
    xs: Sequence[Tensor], ys: Sequence[Tensor] | None = None, shuffles: int = SHUFFLES, generator: torch.Generator | None = None
) -> NDArray[np.float64]:
    """||A' B||_* of every pair of layers of one batch, minus its mean over row shuffles of the second side: (Lx, Ly).

    A, B: the centred representations, of Frobenius norm 1; 2 - 2 ||A' B||_* is their squared distance after the best rotation.
    xs, ys: one tensor (n, p) a layer, spatially averaged; ys absent: xs with itself. About 0 for independent layers; below 1
    for equal ones. The same shuffles serve all pairs. generator: a CPU generator; a fixed one unless given. shuffles=0 gives
    the plain similarity. Raises BadInput when n < 10 p for some layer, or one is constant.
    """
    a = _normalised(xs, "x")
    b = a if ys is None else _normalised(ys, "y")
    n, widest = len(a[0]), max(one.shape[1] for one in (*a, *b))
    for one in (*a, *b):
        if len(one) != n:
            raise BadInput(f"layers have {n} and {len(one)} rows: give features of the same examples in the same order")
    if n < ROWS_PER_DIMENSION * widest:
        raise BadInput(
            f"n={n} examples of {widest} dimensions: Procrustes needs n >= {ROWS_PER_DIMENSION * widest} ({ROWS_PER_DIMENSION} a dimension), "
            "or any two representations look alike; give a larger batch, or features averaged over positions"
        )
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    symmetric = ys is None
    found = _nuclear(a, b, symmetric)
    if shuffles < 1:
        return found
    orders = [torch.randperm(n, generator=generator).to(a[0].device) for _ in range(shuffles)]
    return found - np.mean([_nuclear(a, [one[order] for one in b], symmetric) for order in orders], axis=0)


def _normalised(layers: Sequence[Tensor], side: str) -> list[Tensor]:
    """Each layer in float64, centred, of Frobenius norm 1."""
    found = []
    for i, layer in enumerate(layers):
        name = f"layer {i} of {side}"
        one = centred(layer.double(), name)
        check_finite(one, name)
        norm = torch.linalg.matrix_norm(one)
        if norm == 0:
            raise BadInput(f"{name} is constant over its {len(one)} rows, so Procrustes is undefined: leave it out")
        found.append(one / norm)
    return found


def _nuclear(a: Sequence[Tensor], b: Sequence[Tensor], symmetric: bool) -> NDArray[np.float64]:
    """||A_i' B_j||_*, the sum of singular values, of every pair: (La, Lb); one product for all pairs.

    symmetric: only pairs i <= j are taken, and stand for (j, i) too: of shuffled rows, one of two equally good draws.
    """
    products = torch.cat([*a], dim=1).T @ torch.cat([*b], dim=1)
    found = np.empty((len(a), len(b)))
    for i, rows in enumerate(products.split([one.shape[1] for one in a])):
        for j, block in enumerate(rows.split([one.shape[1] for one in b], dim=1)):
            if symmetric and j < i:
                found[i, j] = found[j, i]
            else:
                found[i, j] = float(torch.linalg.svdvals(block).sum())
    return found
