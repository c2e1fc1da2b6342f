"""From the measurements of one network to its one number, and that number under every resample of the units.

Means, ratios of two sums, AUROCs, and indices of CKA matrices or curves. The resamples are fixed: networks with equally many units
are resampled by the same draws, so that what their images have in common cancels in a difference.
Source: bootstrap, Efron 1979; n - 1 of n units a draw, Rao and Wu 1988; AUROC, Mann and Whitney 1947; pairs as a U-statistic, Hoeffding 1948.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reprolib.errors import BadInput
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.effects import Absent, NetworkValue

RESAMPLES = 2_000
GENERATOR_SEED = 0  # fixed, so that an interval is a function of the rows alone
AT_ONCE = 500  # resamples whose matrices are held at once
LEAST_ROWS = 30  # that count, for a ratio
NOTHING_LEFT = 1e-9  # of a rank: smaller residuals are rounding

Array = NDArray[np.float64]


@lru_cache(maxsize=8)
def draws(n: int, group: int = 0) -> NDArray[np.uint8]:
    """How often each of n units counts in each resample: (R, n), whole numbers, not to be written to.

    n - 1 units are drawn with replacement: then the variance of a mean is s^2 / n without a correction, at any n. Equal n give equal
    draws; groups that are resampled apart (query images, outliers) take another `group` each.
    """
    if n < 2:
        raise BadInput(f"n={n}: resampling needs at least 2 units")
    generator = np.random.default_rng((GENERATOR_SEED, group))
    counts = np.empty((RESAMPLES, n), dtype=np.uint8)
    for rows in _chunks():
        size = rows.stop - rows.start
        drawn = generator.integers(0, n, size=(size, n - 1)) + n * np.arange(size)[:, None]
        counts[rows] = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
    counts.flags.writeable = False
    return counts


def of_mean(name: str, values: ArrayLike, resampled: bool = True) -> NetworkValue:
    """The mean of values (n,), or (n, m): m repetitions, averaged within a unit.

    resampled: False for units that do not correspond between networks (hidden units). Raises BadInput for values that are not finite.
    """
    per_unit = _per_unit(name, values, np.mean)
    value, n = float(per_unit.mean()), len(per_unit)
    if not resampled or n < 2:
        return NetworkValue(name, value, None, n)
    return NetworkValue(name, value, _evaluated(lambda counts: counts @ per_unit / counts.sum(axis=1), n), n)


def of_ratio(
    name: str, numerator: ArrayLike, denominator: ArrayLike, resampled: bool = True, least: int = LEAST_ROWS
) -> NetworkValue | Absent:
    """Sum of the numerator over the sum of the denominator, (n,) or (n, m) each; a row counts where its denominator is not 0.

    Shape bias: 1 (shape) or 0 (texture) over 1 (answered by a cue) or 0. Both are resampled together, linearised at the ratio: a resample
    in which no row counts would have no ratio. Absent with fewer than `least` rows that count.
    """
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if above.shape != below.shape or (below < 0).any() or (above[below == 0] != 0).any():
        raise BadInput(
            f"{name}: numerator {above.shape} and denominator {below.shape} need one shape, denominators at least 0, and 0 over 0"
        )
    counted = int((below != 0).sum())
    if counted < least or counted == 0:
        return Absent(f"{name} has {counted} rows that count, {least} are needed")
    sums, totals = (_per_unit(name, of, np.sum) for of in (above, below))
    ratio = sums.sum() / totals.sum()
    return of_mean(name, ratio + (sums - ratio * totals) / totals.mean(), resampled)


def of_auroc(name: str, inside: ArrayLike, outside: ArrayLike, counts: Sequence[ArrayLike] | None = None) -> NetworkValue | Absent:
    """Chance that a score of outside (m,) exceeds one of inside (n,), ties by half; each group is drawn apart.

    counts: of both groups, 1 of the units that count and 0 of the others, which are drawn all the same, so that networks that leave out
    others are resampled alike; absent, all count. Its units are those of the smaller group. Absent with fewer than `LEAST_ROWS` that count.
    """
    inside, outside = (_per_unit(name, of, np.mean) for of in (inside, outside))
    in_counts, out_counts = (
        (np.ones(len(of)) for of in (inside, outside)) if counts is None else (_per_unit(name, of, np.min) for of in counts)
    )
    if counts is not None and (fewest := int(min(in_counts.sum(), out_counts.sum()))) < LEAST_ROWS:
        return Absent(f"{name} has {fewest} rows that count, {LEAST_ROWS} are needed")
    order = np.sort(inside)
    below, upto = (np.searchsorted(order, outside, side=side) for side in ("left", "right"))
    sorting, n = np.argsort(inside, kind="stable"), min(len(inside), len(outside))

    def value(of_inside: Array, of_outside: Array) -> Array:
        of_inside, of_outside = of_inside * in_counts, of_outside * out_counts
        exceeded = np.concatenate([np.zeros((len(of_inside), 1)), of_inside[:, sorting].cumsum(axis=1)], axis=1)
        wins = ((exceeded[:, below] + exceeded[:, upto]) / 2 * of_outside).sum(axis=1)
        return wins / of_inside.sum(axis=1) / of_outside.sum(axis=1)

    whole = float(value(np.ones((1, len(inside))), np.ones((1, len(outside))))[0])
    if n < 2:
        return NetworkValue(name, whole, None, n)
    both = [(draws(len(inside)), draws(len(outside), group=1))]
    found = [value(a[rows].astype(np.float64), b[rows].astype(np.float64)) for a, b in both for rows in _chunks()]
    return NetworkValue(name, whole, np.concatenate(found), n)


def of_index(name: str, index: Callable[[Array], Array], hsic: BatchHSIC) -> NetworkValue:
    """An index of the CKA matrix (..., Lx, Ly) of a network or pair, e.g. `indices.off_diagonal_mean`; whole batches are resampled.

    The ratio is taken after averaging, in every resample. Points inside a batch are never resampled: duplicates raise HSIC.
    Raises BadInput where the index is undefined.
    """
    return _of_batches(name, lambda counts: index(hsic.matrix(counts)), len(hsic.n))


def of_curves(name: str, index: Callable[[Array], Array], states: Sequence[BatchHSIC]) -> NetworkValue:
    """An index of the curves of CKA at equal depth (T, ..., L), of T states of a network: e.g. checkpoints against the last.

    Raises BadInput when the states saw other batches, or where the index is undefined.
    """
    for one in states:
        if not np.array_equal(one.n, states[0].n) or one.ids != states[0].ids:
            raise BadInput(f"{name}: its states were measured on different batches: take the same examples in the same order")
    return _of_batches(name, lambda counts: index(np.stack([one.same_depth(counts) for one in states])), len(states[0].n))


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's correlation of x (u,) and y (u,), ties sharing their mean rank; nan where one of them does not vary."""
    from scipy.stats import rankdata  # only here: it takes half a second to import

    return pearson_correlation(rankdata(x), rankdata(y))


def pearson_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of x (u,) and y (u,); nan where one of them does not vary."""
    x, y = (np.asarray(of, dtype=np.float64) for of in (x, y))
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else math.nan


def partial_rank_correlation(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Spearman's correlation of x (u,) and y (u,) at a fixed third number, given (u,).

    Ranks (ties share their mean rank) are regressed on the ranks of `given`, and the residuals correlated. nan where one of the three does
    not vary, or the third orders the points as x or y does: nothing is left to correlate.
    """
    from scipy.stats import rankdata  # only here: it takes half a second to import

    ranks = [np.asarray(rankdata(of), dtype=np.float64) for of in (x, y, given)]
    if not all(np.ptp(of) > 0 for of in ranks):
        return math.nan
    *sides, third = [of - of.mean() for of in ranks]
    rest = [of - (of @ third) / (third @ third) * third for of in sides]
    if any(np.abs(left).max() <= NOTHING_LEFT for left in rest):
        return math.nan
    return pearson_correlation(*rest)


def no_effect_unless_reached(
    values: Sequence[ArrayLike], reached: Sequence[ArrayLike], weights: Sequence[float], reference: float = 0.0
) -> list[Array]:
    """Values with which a comparison counts 0 for a target that one of the networks compared did not reach.

    values, reached: one array (k, n) or (k, n, m) an arm, k networks; weights, reference: of the comparison, as in `effects.effect`.
    Returns arrays of the same shapes, for `of_mean`: one number a network still.

    The comparison is the mean, over all choices of one network an arm, of the choice's own comparison, or of 0 where one of them did not
    reach the target: never dropped, and no smaller share reached can enlarge it. A network's number is its arm's mean plus what it moves
    that comparison by, averaged over the choices it is in. Where all is reached these are the values as they were; a network that did not
    reach a target that all others did takes the value at which nothing is left to compare. Their own variances are those of a U-statistic.
    """
    of, there = [np.asarray(one, dtype=np.float64) for one in values], [np.asarray(one, dtype=np.float64) for one in reached]
    if len({len(weights), len(of), len(there)}) != 1 or any(
        a.shape != b.shape or a.shape[1:] != of[0].shape[1:] for a, b in zip(of, there, strict=False)
    ):
        shapes = [one.shape for one in of], [one.shape for one in there]
        raise BadInput(f"values {shapes[0]}, reached {shapes[1]}, {len(weights)} weights: give one array an arm, on the same units")
    share = [one.mean(axis=0) for one in there]
    signed = [weight * (a * b).mean(axis=0) for weight, a, b in zip(weights, of, there, strict=True)]

    def all_but(*left_out: int) -> Array:
        return np.prod([one if k not in left_out else np.ones_like(one) for k, one in enumerate(share)], axis=0)

    whole = sum((signed[k] * all_but(k) for k in range(len(of))), -reference * all_but())
    moved = []
    for k, weight in enumerate(weights):
        beside = sum((signed[j] * all_but(j, k) for j in range(len(of)) if j != k), -reference * all_but(k))
        moved.append((there[k] * (weight * of[k] * all_but(k) + beside) - whole) / weight)
    means = [one.mean(axis=0) for one in of[:-1]]
    rest = sum((weight * mean for weight, mean in zip(weights, means, strict=False)), np.zeros_like(whole))
    return [mean + change for mean, change in zip([*means, (whole + reference - rest) / weights[-1]], moved, strict=True)]


def _of_batches(name: str, value: Callable[[Array], Array], n: int) -> NetworkValue:
    whole = float(value(np.ones((1, n)))[0])
    found = np.zeros(0) if n < 2 else _evaluated(value, n)
    bad = int((~np.isfinite([whole, *found])).sum())
    if bad:
        cure = "leave out layers without HSIC, or take larger batches"
        raise BadInput(f"{name}: the index is undefined in {bad} of {len(found) + 1} resamples: {cure}")
    return NetworkValue(name, whole, found if n > 1 else None, n)


def _evaluated(value: Callable[[Array], Array], n: int) -> Array:
    return np.concatenate([value(draws(n)[rows].astype(np.float64)) for rows in _chunks()])


def _chunks() -> list[slice]:
    return [slice(start, min(start + AT_ONCE, RESAMPLES)) for start in range(0, RESAMPLES, AT_ONCE)]


def _per_unit(name: str, values: ArrayLike, over: Callable[..., Array]) -> Array:
    """(n,) from (n,) or (n, m)."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in (1, 2) or 0 in values.shape or not np.isfinite(values).all():
        raise BadInput(f"{name} has values of shape {values.shape}: give finite ones, (units,) or (units, repetitions), at least one unit")
    return values if values.ndim == 1 else np.asarray(over(values, axis=1))
