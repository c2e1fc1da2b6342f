"""Numbers that sum up a matrix of layer similarities: how alike layers are, across stages, over distance, at equal depth.

Everywhere below: C is a float array (..., L, L) of similarities, symmetric within one network; leading dimensions (the
resamples of a bootstrap) are kept. What is undefined, or meets a NaN, is NaN. Layers are numbered in execution order, stages
are lists of layer numbers; the stem and the pooled features belong to no stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reprolib.errors import BadInput

LEAST_STAGE = 4  # layers: with fewer, contrast and run are shown but decide nothing

Array = NDArray[np.float64]
Stages = Sequence[Sequence[int]]


def off_diagonal_mean(c: ArrayLike) -> Array:
    """Mean similarity of two different layers."""
    c = _square(c)
    i, j = _pairs(c)
    return c[..., i, j].mean(axis=-1)


def stage_contrast(c: ArrayLike, stages: Stages, least: int = LEAST_STAGE) -> Array:
    """Mean similarity of two layers of one stage, minus that of two layers of different stages: the squares on the map.

    NaN where `why_no_stages` has a reason; least = 2 gives the number to show.
    """
    c = _square(c)
    why = why_no_stages(stages, least)
    stage = _stage_of(c, stages)
    if why:
        return np.full(c.shape[:-2], np.nan)
    i, j = _pairs(c)
    staged = (stage[i] >= 0) & (stage[j] >= 0)
    same = staged & (stage[i] == stage[j])
    return c[..., i[same], j[same]].mean(axis=-1) - c[..., i[staged & ~same], j[staged & ~same]].mean(axis=-1)


def why_no_stages(stages: Stages, least: int = LEAST_STAGE) -> str:
    """Why stage contrast and longest run are undefined for a verdict, or an empty text."""
    if len(stages) < 2:
        return f"{len(stages)} stages: a contrast needs at least 2"
    smallest = min(len(stage) for stage in stages)
    return f"a stage has {smallest} layers, at least {least} are needed" if smallest < max(least, 2) else ""


def mean_by_lag(c: ArrayLike) -> Array:
    """Mean similarity of layers 1, 2, ..., L - 1 apart: (..., L - 1)."""
    c = _square(c)
    n = c.shape[-1]
    return np.stack([np.diagonal(c, lag, axis1=-2, axis2=-1).mean(axis=-1) for lag in range(1, n)], axis=-1)


def long_range_mean(c: ArrayLike) -> Array:
    """Mean similarity of the pairs that lie more than half the network apart (lag > L / 2)."""
    c = _square(c)
    i, j = _pairs(c)
    far = j - i > c.shape[-1] / 2
    return c[..., i[far], j[far]].mean(axis=-1) if far.any() else np.full(c.shape[:-2], np.nan)


def lag_slope(c: ArrayLike) -> Array:
    """Least-squares slope of the similarity of two layers on their lag, over all pairs, per layer; NaN with two layers."""
    c = _square(c)
    i, j = _pairs(c)
    lag = (j - i) - (j - i).mean()
    spread = float(lag @ lag)
    return c[..., i, j] @ lag / spread if spread > 0 else np.full(c.shape[:-2], np.nan)


def share_above(c: ArrayLike, threshold: float) -> Array:
    """Share of the pairs of different layers whose similarity exceeds threshold (.8 and .9 in the study)."""
    c = _square(c)
    i, j = _pairs(c)
    values = c[..., i, j]
    return np.where(np.isnan(values).any(axis=-1), np.nan, (values > threshold).mean(axis=-1))


def longest_run(c: ArrayLike, tau: float) -> Array:
    """Most consecutive layers of which ALL pairs have a similarity of at least tau; 1 where no neighbours do.

    A robust network may have LONGER runs than a standard one, because everything is more alike: a run is no block.
    """
    c = _square(c)
    n = c.shape[-1]
    longest = np.ones(c.shape[:-2])
    lowest: Array = np.full(c.shape[:-1], np.inf)  # (..., start): the least similar pair of the window of the current length
    for length in range(2, n + 1):
        ends = np.diagonal(c, length - 1, axis1=-2, axis2=-1)
        lowest = np.minimum(np.minimum(lowest[..., :-1], lowest[..., 1:]), ends)
        longest = np.where((lowest >= tau).any(axis=-1), length, longest)
    return np.where(np.isnan(c).any(axis=(-2, -1)), np.nan, longest)


def effective_rank(c: ArrayLike) -> Array:
    """exp of the entropy of the eigenvalues of C, negative ones taken as 0: 1 when all layers are alike, L when none are."""
    c = _square(c)
    holes = np.asarray(np.isnan(c).any(axis=(-2, -1)))
    q = np.linalg.eigvalsh(np.where(holes[..., None, None], np.eye(c.shape[-1]), c)).clip(min=0)
    q = q / q.sum(axis=-1, keepdims=True)
    entropy = -(q * np.log(np.where(q > 0, q, 1))).sum(axis=-1)
    return np.where(holes, np.nan, np.exp(entropy))


def without_confounder(c: ArrayLike, confounder: ArrayLike) -> Array:
    """Similarity of the layers beyond what each owes to a third one (the pixels): the partial form (..., L, L).

    (C_ij - c_i c_j) / sqrt((1 - c_i^2)(1 - c_j^2)) with c (..., L) the similarity to the confounder: the cosine of what is
    left of two centred Grams once the confounder's is projected out. Idea: Cui et al. 2022 (arXiv 2202.00095). NaN for a
    layer that equals the confounder.
    """
    c, p = _square(c), np.asarray(confounder, dtype=np.float64)
    if p.shape != c.shape[:-1]:
        raise BadInput(f"the confounder has shape {p.shape}, C has {c.shape}: give one similarity a layer")
    left = np.sqrt(np.where(p**2 < 1, 1 - p**2, np.nan))
    return (c - p[..., :, None] * p[..., None, :]) / left[..., :, None] / left[..., None, :]


def same_depth_mean(c: ArrayLike) -> Array:
    """Mean similarity of two networks' layers at equal depth. C: (..., L, L) between two networks."""
    return np.diagonal(_square(c), axis1=-2, axis2=-1).mean(axis=-1)


def depth_agreement(c: ArrayLike) -> Array:
    """Share of the first network's layers whose most similar layer of the second lies at the same depth; chance is 1 / L."""
    c = _square(c)
    agree = (np.where(np.isnan(c), -np.inf, c).argmax(axis=-1) == np.arange(c.shape[-1])).mean(axis=-1)
    return np.where(np.isnan(c).any(axis=(-2, -1)), np.nan, agree)


def depth_slope(values: ArrayLike, layers: Sequence[int] | None = None) -> Array:
    """Least-squares slope of one value a layer (..., L) over depth, 0 at the first layer and 1 at the last.

    layers: the numbers of those that the slope is taken over, absent for all; depth is that among all L.
    """
    values = np.asarray(values, dtype=np.float64)
    chosen = np.arange(values.shape[-1]) if layers is None else np.asarray(layers, dtype=np.intp)
    if len(chosen) < 2:
        raise BadInput(f"{len(chosen)} layers have no slope over depth: give at least 2")
    depth = np.linspace(0, 1, values.shape[-1])[chosen]
    depth = depth - depth.mean()
    return values[..., chosen] @ depth / (depth @ depth)


def last_third_mean(values: ArrayLike) -> Array:
    """Mean of one value a layer (..., L) over the last third of the layers, rounded up."""
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[-1]
    return values[..., n - (n + 2) // 3 :].mean(axis=-1)


def area_under(curves: ArrayLike, times: ArrayLike) -> Array:
    """Mean height of curves (T, ..., L) over times (T,), increasing, by trapezoids: (..., L). High where a layer settles early."""
    curves, t = np.asarray(curves, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or len(t) != len(curves) or len(t) < 2 or not (np.diff(t) > 0).all():
        raise BadInput(f"times={t.tolist()} for {len(curves)} states: give one increasing time a state, at least 2")
    return np.trapezoid(curves, t, axis=0) / (t[-1] - t[0])


def stages_of(names: Sequence[str]) -> list[list[int]]:
    """The stages of layers named like "stage2.block1.relu1": one list of numbers a stage; other layers belong to none."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        stage, dot, _ = name.partition(".")
        if dot and stage.startswith("stage"):
            found.setdefault(stage, []).append(number)
    return [*found.values()]


def _square(c: ArrayLike) -> Array:
    c = np.asarray(c, dtype=np.float64)
    if c.ndim < 2 or c.shape[-1] != c.shape[-2] or c.shape[-1] < 2:
        raise BadInput(f"C has shape {c.shape}: give similarities (..., L, L) of at least 2 layers")
    return c


def _pairs(c: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pairs i < j: C is symmetric."""
    return np.triu_indices(c.shape[-1], k=1)


def _stage_of(c: Array, stages: Stages) -> NDArray[np.int64]:
    """The stage of every layer, -1 for none. Raises BadInput for layers that are not there, not contiguous, or in two stages."""
    found = np.full(c.shape[-1], -1)
    for number, stage in enumerate(stages):
        steps = [b - a for a, b in itertools.pairwise(stage)]
        if not stage or stage[0] < 0 or stage[-1] >= len(found) or any(step != 1 for step in steps) or (found[list(stage)] >= 0).any():
            raise BadInput(f"stage {list(stage)} of {len(found)} layers: give consecutive layer numbers, each in one stage only")
        found[list(stage)] = number
    return found
