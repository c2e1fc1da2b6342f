"""What dominates a layer's similarity: its first principal component, and the few examples of huge norm; and Grams without them.

Everywhere below a layer is given as its column-centred Gram (n, n), as `reprolib.measures.gram.gram` makes it: norms are
distances from the mean of the batch, the first component is that of the batch. Sources: Nguyen et al. 2021 (arXiv
2010.15327) for the component, Nguyen et al. 2022 (arXiv 2202.07184) for the points. A constant layer gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reprolib.errors import BadInput

TOP_SHARE = 0.01


def without_pc1(gram: Tensor) -> Tensor:
    """The Gram of the features with their first principal component removed."""
    _check_square([gram])
    values, vectors = torch.linalg.eigh(gram)
    scores = vectors[:, -1]
    return gram - values[-1].clamp_min(0) * torch.outer(scores, scores)


def top_points_share(gram: Tensor, share: float = TOP_SHARE) -> float:
    """Share of the sum of squared norms held by the largest `share` of the examples (at least one), in (0, 1]."""
    _check_square([gram])
    norms = gram.diagonal()
    total = float(norms.sum())
    return float(norms.topk(_count(len(gram), share)).values.sum()) / total if total > 0 else math.nan


def top_points(grams: Sequence[Tensor], share: float = TOP_SHARE) -> Tensor:
    """Indices of the largest `share` of the examples (at least one), by their share of the squared norm, averaged over layers.

    grams: of all layers, of both networks where two are compared: every pair of layers must lose the same examples.
    """
    _check_square(grams)
    norms = torch.stack([one.diagonal() for one in grams])
    shares = norms / norms.sum(dim=1, keepdim=True).clamp_min(torch.finfo(norms.dtype).tiny)
    return shares.mean(dim=0).topk(_count(norms.shape[1], share)).indices.sort().values


def without_points(gram: Tensor, points: Tensor) -> Tensor:
    """The Gram of the remaining examples, centred on their own mean: (n - k, n - k)."""
    kept = torch.ones(len(gram), dtype=torch.bool, device=gram.device).index_fill_(0, points, False)
    rest = gram[kept][:, kept]
    rest = rest - rest.mean(dim=0)
    return rest - rest.mean(dim=1, keepdim=True)


def _count(n: int, share: float) -> int:
    if not 0 < share < 1:
        raise BadInput(f"share={share} is outside (0, 1): give .01 for the top 1 % of the examples")
    return min(n - 1, math.ceil(share * n - 1e-9))  # 1 % of 100 is one, whatever .01 is in binary


def _check_square(grams: Sequence[Tensor]) -> None:
    for one in grams:
        if one.ndim != 2 or one.shape != grams[0].shape or one.shape[0] != one.shape[1] or len(one) < 2:
            raise BadInput(f"a Gram has shape {tuple(one.shape)}: give square Grams of the same n >= 2 examples")
