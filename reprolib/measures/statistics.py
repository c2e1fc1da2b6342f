"""Intervals over units, seed pairs, trends and multiple testing: everything a verdict is computed from.

An effect is a linear combination of networks: `difference_effect` (second arm minus first, averaged over seed pairs),
`level_effect` (inside one arm) and `slope_effect` (a trend over eps). Units are resampled jointly in all networks
(images, batches: the same draw) or independently in each (hidden units, which do not correspond between networks).
Source: percentile bootstrap, Efron 1979; step-down adjustment, Holm 1979.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reprolib.errors import BadInput

RESAMPLES = 10_000
COVERAGE = 0.95
BOOTSTRAP_UNITS = 20  # with fewer units: Student t and the exact sign-flip test
VERDICT_UNITS = 8  # with fewer units: numbers, but no verdict
GENERATOR_SEED = 0  # fixed, so that an interval is a function of the rows alone
CHUNK = 400_000  # resampled indices held at once: fits a core's cache

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate, its 95 % interval, the p of no effect (two-sided unless said) and the units behind it (per network)."""

    estimate: float
    low: float
    high: float
    p: float
    n: int


@dataclass(frozen=True)
class Network:
    """One network's measurements: values (n, m), n units resampled, m repetitions averaged within a unit.

    counted (n, m), or None for all: where it is False in any network of a comparison, the comparison counts 0
    (a target that was not reached is a failure, it is never dropped).
    """

    seed: int
    values: Array
    counted: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SeedPair:
    """The estimate of one seed of the first arm with one of the second (inside one arm, or in a trend: a = b)."""

    a: int
    b: int
    estimate: float


@dataclass(frozen=True)
class Effect:
    """What a verdict needs: the interval, every seed pair, and how far two seeds of one arm lie apart."""

    interval: Interval
    pairs: tuple[SeedPair, ...]
    same_arm: tuple[float, ...]  # differences between two seeds of one arm, the first arm first
    placebo: Interval | None  # the first of them with its interval; None where no arm has two seeds
    comparison: float  # mean of the first arm: what a relative smallest effect is relative to
    n_networks: int  # networks in the smallest arm (seeds that have every eps, in a trend)
    seed_variance: float  # sum over arms of the variance between seeds; nan where an arm has one


def bootstrap_means(values: ArrayLike, resamples: int = RESAMPLES, generator: np.random.Generator | None = None) -> Array:
    """Means over resampled rows, the same draw for every column.

    values: (n,) or (n, k). Returns (resamples,) or (resamples, k). generator: a fixed one unless given.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n == 0:
        raise BadInput("there are no units to resample: give at least one")
    generator = np.random.default_rng(GENERATOR_SEED) if generator is None else generator
    means = np.empty((resamples, *values.shape[1:]))
    rows = max(1, CHUNK // n)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = generator.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n) / n
        means[start : start + size] = weights @ values
    return means


def interval_of_mean(values: ArrayLike) -> Interval:
    """Interval of the mean of values (n,): percentile bootstrap from 20 units on, Student t below.

    p is two-sided: from the bootstrap, or from the exact sign-flip test below 20 units. With one unit the ends are nan.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise BadInput(f"values has shape {values.shape}: give one finite number a unit, and at least one unit")
    if len(values) >= BOOTSTRAP_UNITS:
        return _percentile(float(values.mean()), bootstrap_means(values), len(values))
    interval = interval_of_combination([values], [1.0])
    return replace(interval, p=sign_flip_p(values))


def interval_of_combination(samples: Sequence[ArrayLike], coefficients: ArrayLike) -> Interval:
    """Interval of the sum of coefficient times mean over independent samples: each is resampled on its own.

    samples: K arrays (n_k,), their sizes may differ; coefficients (K,), those at 0 take no part. Below 20 units in
    any sample: Student t with Welch's degrees of freedom. n is the smallest sample's.
    """
    weights = np.asarray(coefficients, dtype=np.float64)
    used = [(np.asarray(s, dtype=np.float64), w) for s, w in zip(samples, weights, strict=True) if w != 0]
    n = min(len(sample) for sample, _ in used)
    estimate = float(sum(weight * sample.mean() for sample, weight in used))
    if n >= BOOTSTRAP_UNITS:
        generator = np.random.default_rng(GENERATOR_SEED)
        return _percentile(estimate, sum(w * bootstrap_means(s, generator=generator) for s, w in used), n)
    if n < 2:
        return Interval(estimate, np.nan, np.nan, np.nan, n)
    variances = np.array([weight**2 * sample.var(ddof=1) / len(sample) for sample, weight in used])
    error = float(np.sqrt(variances.sum()))
    if error == 0:
        return Interval(estimate, estimate, estimate, float(estimate == 0), n)
    from scipy import stats  # only here: it takes half a second to import, and most intervals are bootstrapped

    freedom = variances.sum() ** 2 / sum(v**2 / (len(s) - 1) for v, (s, _) in zip(variances, used, strict=True))
    reach = float(stats.t.ppf((1 + COVERAGE) / 2, freedom)) * error
    return Interval(estimate, estimate - reach, estimate + reach, float(2 * stats.t.sf(abs(estimate) / error, freedom)), n)


def sign_flip_p(values: ArrayLike) -> float:
    """Exact two-sided p of the mean of values (n,), n < 20, under all 2**n flips of sign."""
    values = np.asarray(values, dtype=np.float64)
    if not 0 < len(values) < BOOTSTRAP_UNITS:
        raise BadInput(f"n={len(values)} is outside [1, {BOOTSTRAP_UNITS - 1}] for the exact sign-flip test: bootstrap instead")
    sums = _all_sums([np.array([-value, value]) for value in values])
    observed = abs(values.sum())
    return float(np.mean(np.abs(sums) >= observed - 1e-9 * max(1.0, np.abs(values).sum())))


def slope_weights(levels: ArrayLike) -> Array:
    """Weights (L,) whose product with values at levels (L,) is the least-squares slope."""
    levels = np.asarray(levels, dtype=np.float64)
    centred = levels - levels.mean()
    if len(levels) < 2 or not (centred**2).sum() > 0:
        raise BadInput(f"levels={levels.tolist()} allow no slope: give at least two different ones")
    return centred / (centred**2).sum()


def permutation_trend_p(means: ArrayLike, levels: ArrayLike, sign: int) -> float:
    """Exact one-sided p of the mean slope of means (S, L) in direction sign, levels permuted within each seed."""
    means, weights = np.asarray(means, dtype=np.float64), slope_weights(levels)
    if not 1 <= len(means) <= 8:
        raise BadInput(f"{len(means)} seeds: the exact permutation test takes 1 to 8")
    slopes = [np.array([sign * row[list(order)] @ weights for order in itertools.permutations(range(len(row)))]) for row in means]
    observed = sum(slope[0] for slope in slopes)  # permutations() starts with the identity
    return float(np.mean(_all_sums(slopes) >= observed - 1e-9 * max(1.0, abs(observed))))


def holm(p: ArrayLike) -> Array:
    """Holm's step-down adjusted p of p (m,), in the order given; nan (no test) stays nan and is not counted."""
    p = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def difference_effect(first: Sequence[Network], second: Sequence[Network], joint: bool = True) -> Effect:
    """Second arm minus first, averaged over all seed pairs; joint: units correspond between networks."""
    networks = [*first, *second]
    one = np.eye(len(networks))
    pairs = [(a, b) for a in range(len(first)) for b in range(len(first), len(networks))]
    same = [*itertools.combinations(range(len(first)), 2), *itertools.combinations(range(len(first), len(networks)), 2)]
    effect = _effect(
        networks,
        {(networks[a].seed, networks[b].seed, a, b): one[b] - one[a] for a, b in pairs},
        [one[y] - one[x] for x, y in same],
        joint,
    )
    return replace(
        effect,
        comparison=float(np.mean([network.values.mean() for network in first])),
        n_networks=min(len(first), len(second)),
        seed_variance=_variance(first) + _variance(second),
    )


def level_effect(arm: Sequence[Network], reference: float = 0.0, joint: bool = True) -> Effect:
    """An arm's value minus a reference number; a "seed pair" is a seed."""
    one = np.eye(len(arm))
    shifted = [replace(network, values=network.values - reference) for network in arm]
    same = [one[y] - one[x] for x, y in itertools.combinations(range(len(arm)), 2)]
    effect = _effect(shifted, {(network.seed, network.seed, k): one[k] for k, network in enumerate(arm)}, same, joint)
    return replace(effect, comparison=float(reference), n_networks=len(arm), seed_variance=_variance(arm))


def slope_effect(arms: Sequence[Sequence[Network]], levels: ArrayLike, sign: int, joint: bool = True) -> Effect:
    """Mean over seeds of the slope over levels (L,), from the seeds that every one of the L arms has.

    p is the exact one-sided permutation p in direction sign; the placebo is the difference of two seeds' slopes.
    """
    by_seed = [{network.seed: network for network in arm} for arm in arms]
    seeds = sorted(set.intersection(*(set(found) for found in by_seed)))
    if not seeds:
        raise BadInput("no seed was measured at every level: a trend needs one seed at all of them")
    weights = slope_weights(levels)
    networks = [found[seed] for seed in seeds for found in by_seed]
    rows = np.kron(np.eye(len(seeds)), weights)
    same = [rows[y] - rows[x] for x, y in itertools.combinations(range(len(seeds)), 2)]
    effect = _effect(networks, {(seed, seed, k): rows[k] for k, seed in enumerate(seeds)}, same, joint)
    slopes = np.array([pair.estimate for pair in effect.pairs])
    means = np.array([network.values.mean() for network in networks]).reshape(len(seeds), -1)
    return replace(
        effect,
        interval=replace(effect.interval, p=permutation_trend_p(means, levels, sign)),
        comparison=float(means[:, 0].mean()),
        n_networks=len(seeds),
        seed_variance=float(slopes.var(ddof=1)) if len(seeds) > 1 else float("nan"),
    )


def _effect(networks: Sequence[Network], pairs: dict[tuple[int, ...], Array], same: Sequence[Array], joint: bool) -> Effect:
    """The interval of the mean of the pairs' combinations; keys of pairs begin with the two seeds."""
    combinations = np.array([*pairs.values()])
    if joint:
        per_unit = np.column_stack([_combine(networks, row) for row in combinations])
        interval = interval_of_mean(per_unit.mean(axis=1))
        estimates = per_unit.mean(axis=0)
        within = [_combine(networks, row) for row in same]
        same_arm = [float(values.mean()) for values in within]
        placebo = interval_of_mean(within[0]) if within else None
    else:
        if any(network.counted is not None for network in networks):
            raise BadInput("units that do not correspond between networks cannot be compared one by one: give counted=None")
        samples = [network.values.mean(axis=1) for network in networks]
        interval = interval_of_combination(samples, combinations.mean(axis=0))
        means = np.array([sample.mean() for sample in samples])
        estimates, same_arm = combinations @ means, [float(row @ means) for row in same]
        placebo = interval_of_combination(samples, same[0]) if same else None
    found = tuple(SeedPair(key[0], key[1], float(value)) for key, value in zip(pairs, estimates, strict=True))
    return Effect(interval, found, tuple(same_arm), placebo, comparison=0.0, n_networks=0, seed_variance=0.0)


def _combine(networks: Sequence[Network], coefficients: Array) -> Array:
    """Per unit (n,), the weighted sum over networks, 0 where a network that takes part does not count."""
    part = [(network, weight) for network, weight in zip(networks, coefficients, strict=True) if weight != 0]
    shapes = {network.values.shape for network, _ in part}
    if len(shapes) != 1:
        raise BadInput(f"units resampled jointly must be the same in all networks, got shapes {sorted(shapes)}")
    total = sum(weight * network.values for network, weight in part)
    for network, _ in part:
        if network.counted is not None:
            total = np.where(network.counted, total, 0.0)
    return total.mean(axis=1)


def _percentile(estimate: float, means: Array, n: int) -> Interval:
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    tail = min(np.sum(means <= 0), np.sum(means >= 0))
    return Interval(estimate, float(low), float(high), float(min(1.0, 2 * (tail + 1) / (len(means) + 1))), n)


def _all_sums(choices: Sequence[Array]) -> Array:
    """Every sum of one element from each array: (product of their lengths,)."""
    sums = np.zeros(1)
    for choice in choices:
        sums = (sums[:, None] + choice[None, :]).ravel()
    return sums


def _variance(arm: Sequence[Network]) -> float:
    means = [network.values.mean() for network in arm]
    return float(np.var(means, ddof=1)) if len(means) > 1 else float("nan")
