"""Intervals of indices of CKA matrices: whole batches are resampled, jointly in all networks, and the ratio is taken after averaging.

An index is a nonlinear function of mean HSICs, so it has no value a batch. Instead every network (or pair of networks, or of
states) is evaluated once on all batches and once on every resample, `resampled`; what compares networks, means, differences,
slopes or the lower of two, is then arithmetic on these vectors. Points inside a batch are never resampled: duplicates raise HSIC.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reprolib.errors import BadInput
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.statistics import (
    BOOTSTRAP_UNITS,
    COVERAGE,
    GENERATOR_SEED,
    RESAMPLES,
    Effect,
    Interval,
    SeedPair,
    interval_of_mean,
    permutation_trend_p,
    slope_weights,
)

AT_ONCE = 500  # resamples whose matrices are held at once

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """An index of one network: values (1 + R,), on all n batches, then on every row of `batch_draws(n)`."""

    values: Array
    n: int
    seed: int = 0


@cache
def batch_draws(n: int) -> Array:
    """How often each of n batches counts in each resample, (R, n), fixed: equal n give equal draws, so networks are resampled jointly.

    From 20 batches on 10,000 bootstrap draws, below (where percentiles fail) each batch left out once. Made once; not to be written to.
    """
    if n < BOOTSTRAP_UNITS:
        draws = (np.ones((n, n)) - np.eye(n))[: n if n > 1 else 0]
    else:
        drawn = np.random.default_rng(GENERATOR_SEED).integers(0, n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
        draws = np.bincount(drawn.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n).astype(np.float64)
    draws.flags.writeable = False
    return draws


def resampled(index: Callable[[Array], Array], hsic: BatchHSIC, seed: int = 0) -> Resampled:
    """An index of the CKA matrix (..., Lx, Ly) of one network or pair, e.g. `off_diagonal_mean`, under all resamples.

    Raises BadInput where the index is undefined.
    """
    return _evaluated(lambda draws: index(hsic.matrix(draws)), len(hsic.n), seed)


def resampled_curves(index: Callable[[Array], Array], states: Sequence[BatchHSIC], seed: int = 0) -> Resampled:
    """An index of the curves of CKA at equal depth, stacked (T, ..., L): of T states of a network, e.g. checkpoints against the last.

    Raises BadInput when the states saw other batches, or where the index is undefined.
    """
    for one in states:
        if not np.array_equal(one.n, states[0].n) or one.ids != states[0].ids:
            raise BadInput("states of a network were measured on different batches: take the same examples in the same order")
    return _evaluated(lambda draws: index(np.stack([one.same_depth(draws) for one in states])), len(states[0].n), seed)


def resampled_mean(values: ArrayLike, seed: int = 0) -> Resampled:
    """The mean of one number a batch (n,), under all resamples: where an index is linear, or was made so (`batch_values`)."""
    values = np.asarray(values, dtype=np.float64)
    return _evaluated(lambda draws: draws @ values / draws.sum(axis=1), len(values), seed)


def batch_values(index: Callable[[Array], Array], hsic: BatchHSIC) -> Array:
    """One number a batch (n,) whose mean is the index but for its bias: the jackknife's pseudo-values.

    Raises BadInput for fewer than two batches, or where the index is undefined.
    """
    n = len(hsic.n)
    if n < 2:
        raise BadInput("one batch cannot be left out: give at least 2")
    draws = np.vstack([np.ones((1, n)), np.ones((n, n)) - np.eye(n)])
    values = np.asarray(index(hsic.matrix(draws)), dtype=np.float64)
    if not np.isfinite(values).all():
        raise BadInput("the index is undefined in some batch: leave out layers without HSIC, or take larger batches")
    return n * values[0] - (n - 1) * values[1:]


def interval(one: Resampled) -> Interval:
    """The 95 % interval: bootstrap percentiles, or Student t of the jackknife's pseudo-values below 20 batches."""
    estimate, rest = float(one.values[0]), one.values[1:]
    if one.n < BOOTSTRAP_UNITS:
        if one.n < 2:
            return Interval(estimate, np.nan, np.nan, np.nan, one.n)
        found = interval_of_mean(one.n * estimate - (one.n - 1) * rest)
        shift = estimate - found.estimate  # pseudo-values are centred on the estimate but for the bias
        return Interval(estimate, found.low + shift, found.high + shift, found.p, one.n)
    low, high = np.quantile(rest, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    tail = min(np.sum(rest <= 0), np.sum(rest >= 0))
    return Interval(estimate, float(low), float(high), float(min(1.0, 2 * (tail + 1) / (len(rest) + 1))), one.n)


def mean_of(ones: Sequence[Resampled]) -> Resampled:
    """Their mean, resample by resample."""
    if not ones or len({one.n for one in ones}) != 1:
        raise BadInput(f"networks were measured on {sorted({one.n for one in ones})} batches: all need the same ones")
    return Resampled(np.mean([one.values for one in ones], axis=0), ones[0].n)


def minus(one: Resampled, other: Resampled) -> Resampled:
    """one - other, resample by resample, with the seed of one."""
    _check_same_n(one, other)
    return replace(one, values=one.values - other.values)


def difference_effect(first: Sequence[Resampled], second: Sequence[Resampled]) -> Effect:
    """Second arm minus first, averaged over all seed pairs; `statistics.difference_effect` for indices."""
    pairs = [(a.seed, b.seed, minus(b, a)) for a in first for b in second]
    same = [minus(b, a) for arm in (first, second) for a, b in itertools.combinations(arm, 2)]
    comparison = float(np.mean([one.values[0] for one in first]))
    return _effect(mean_of([one for *_, one in pairs]), pairs, same, comparison, min(len(first), len(second)), [first, second])


def level_effect(arm: Sequence[Resampled], reference: float = 0.0) -> Effect:
    """An arm's index minus a number; a "seed pair" is a seed."""
    shifted = [replace(one, values=one.values - reference) for one in arm]
    same = [minus(b, a) for a, b in itertools.combinations(arm, 2)]
    return _effect(mean_of(shifted), [(one.seed, one.seed, one) for one in shifted], same, reference, len(arm), [arm])


def slope_effect(arms: Sequence[Sequence[Resampled]], levels: ArrayLike, sign: int) -> Effect:
    """Mean over seeds of the slope over levels (L,), from the seeds that each of the L arms has; p as in `statistics.slope_effect`."""
    by_seed = [{one.seed: one for one in arm} for arm in arms]
    seeds = sorted(set.intersection(*(set(found) for found in by_seed)))
    if not seeds:
        raise BadInput("no seed was measured at every level: a trend needs one seed at all of them")
    weights = slope_weights(levels)
    slopes = []
    for seed in seeds:
        cells = [found[seed] for found in by_seed]
        mean_of(cells)  # the same batches at every level
        slopes.append(Resampled(np.sum([w * one.values for w, one in zip(weights, cells, strict=True)], axis=0), cells[0].n, seed))
    means = np.array([[found[seed].values[0] for found in by_seed] for seed in seeds])
    effect = level_effect(slopes)
    whole = replace(effect.interval, p=permutation_trend_p(means, levels, sign))
    return replace(effect, interval=whole, comparison=float(means[:, 0].mean()))


def alike_effect(pairs: dict[tuple[int, int], Resampled], reference: float = 0.0) -> Effect:
    """The similarity of networks of different seeds, minus a number; a "seed pair" is a pair of networks.

    pairs: (seed, seed) -> similarity; networks of one seed share their initialisation and are refused.
    """
    _check_seeds(pairs)
    shifted = {seeds: replace(one, values=one.values - reference) for seeds, one in sorted(pairs.items())}
    same = [minus(b, a) for a, b in itertools.combinations(shifted.values(), 2)]
    found = [(a, b, one) for (a, b), one in shifted.items()]
    return _effect(mean_of([*shifted.values()]), found, same, reference, len(shifted), [[*shifted.values()]])


def unlike_effect(
    across: dict[tuple[int, int], Resampled],
    within_first: dict[tuple[int, int], Resampled],
    within_second: dict[tuple[int, int], Resampled],
) -> Effect:
    """Similarity across two arms minus the LOWER of the similarities within each, from pairs of different seeds only.

    Keys: (seed, seed); across: of the first and the second arm. Networks of one seed share their initialisation and are refused.
    A seed pair is a pair across. same_arm and placebo compare two pairs of one kind: within the arms where an arm has
    three seeds, else two pairs across.
    """
    for kind in (across, within_first, within_second):
        _check_seeds(kind)
    arms = [mean_of([*within.values()]) for within in (within_first, within_second)]
    _check_same_n(*arms)
    lower = Resampled(np.minimum(arms[0].values, arms[1].values), arms[0].n)
    pairs = [(a, b, minus(one, lower)) for (a, b), one in sorted(across.items())]
    same = [minus(b, a) for kind in (within_first, within_second) for a, b in itertools.combinations(kind.values(), 2)]
    same = same or [minus(b, a) for a, b in itertools.combinations(across.values(), 2)]
    n_networks = min(len({seed for pair in kind for seed in pair}) for kind in (within_first, within_second))
    whole = mean_of([one for *_, one in pairs])
    several = [[*kind.values()] for kind in (across, within_first, within_second) if len(kind) > 1]  # one pair tells of no variance
    return _effect(whole, pairs, same, float(lower.values[0]), n_networks, several)


def _effect(
    whole: Resampled,
    pairs: Sequence[tuple[int, int, Resampled]],
    same: Sequence[Resampled],
    comparison: float,
    n_networks: int,
    arms: Sequence[Sequence[Resampled]],
) -> Effect:
    spreads = [np.var([one.values[0] for one in arm], ddof=1) if len(arm) > 1 else np.nan for arm in arms]
    return Effect(
        interval=interval(whole),
        pairs=tuple(SeedPair(a, b, float(one.values[0])) for a, b, one in pairs),
        same_arm=tuple(float(one.values[0]) for one in same),
        placebo=interval(same[0]) if same else None,
        comparison=comparison,
        n_networks=n_networks,
        seed_variance=float(np.sum(spreads)),
    )


def _check_seeds(pairs: Iterable[tuple[int, int]]) -> None:
    pairs = sorted(pairs)
    if not pairs or any(a == b for a, b in pairs):
        raise BadInput(f"pairs of seeds {pairs}: give at least one of each kind, and only pairs of different seeds")


def _check_same_n(one: Resampled, other: Resampled) -> None:
    if one.n != other.n:
        raise BadInput(f"networks were measured on {one.n} and {other.n} batches: all need the same ones")


def _evaluated(value: Callable[[Array], Array], n: int, seed: int) -> Resampled:
    draws = np.vstack([np.ones((1, n)), batch_draws(n)])
    values = np.concatenate([value(draws[start : start + AT_ONCE]) for start in range(0, len(draws), AT_ONCE)])
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise BadInput(f"the index is undefined in {bad} of {len(values)} resamples: leave out layers without HSIC, or take larger batches")
    return Resampled(values, n, seed)
