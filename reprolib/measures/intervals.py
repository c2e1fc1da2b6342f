"""Intervals (95 %) of one network's number over images: of a share, of a mean, and of anything made of batches. Each gives (value, low, high)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Z = 1.959964  # of the normal distribution, 95 %

Array = NDArray[np.float64]


def of_share(k: int, n: int) -> tuple[float, float, float]:
    """k of n. Source: Wilson 1927; at 0 and at n of n it still has a width."""
    share, z2 = k / n, Z * Z
    middle, half = share + z2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return share, min(share, max(0.0, low)), max(share, min(1.0, high))  # at 0 and at n of n the end is the share itself, but for rounding


def of_mean(values: ArrayLike) -> tuple[float, float, float]:
    """The mean of values (n,), n >= 2, by Student's t."""
    found = np.asarray(values, dtype=np.float64)
    half = float(stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return float(found.mean()), float(found.mean()) - half, float(found.mean()) + half


def jackknife(value: Callable[..., Any], n: int) -> tuple[Array, Array, Array]:
    """value(draws) of n batches, n >= 2, leaving out one after the other: draws (n, n) say how often each batch counts. Source: Tukey 1958."""
    whole, without = np.asarray(value(np.ones((1, n))))[0], np.asarray(value(1 - np.eye(n)))
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    return whole, whole - half, whole + half
