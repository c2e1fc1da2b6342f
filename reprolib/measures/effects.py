"""One number a network, and what a set of them says: the estimate and the one interval that every verdict is read from.

Networks are a sample, and so are the units (images, targets, stimuli, batches) they are measured on:

    v = v_net + v_item,    interval = estimate +- t(.975, f) sqrt(v),    f = v^2 / sum of (term^2 / its degrees of freedom).

v_net: the scatter between networks, every arm with its own variance. v_item: the scatter of the estimate when the units are
resampled, by the same draw in all networks. How a network gets its number is the business of `reprolib.measures.quantities`.
Source: Welch 1947; Satterthwaite 1946; jackknife over networks and architectures, Efron and Stein 1981.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from reprolib.errors import BadInput

COVERAGE = 0.95
ROUNDING = 1e-12  # scatter below this share of the values is rounding: 0
LEAST_NETWORKS = 2  # an arm, for an interval
LEAST_OF_PAIRS = 3  # an arm, where pairs of networks are measured: leaving one out must leave a pair
LEAST_PAIRED = 3  # pairs, where arms are paired by design
LEAST_POINTS = 12  # of a correlation over networks
SIDES = ("x", "y", "given")  # of a correlation
CERTAIN = 1 - 1e-6  # Fisher's z of a perfect correlation is infinite: correlations are cut here

LEVEL = (1.0,)  # of effect(): one arm, minus a reference
DIFFERENCE = (-1.0, 1.0)  # the second arm minus the first
HALF_WAY = (0.5, 0.5, -1.0)  # the middle of two arms minus a third, the control

Array = NDArray[np.float64]
Member = tuple[str, int]  # a network as arm, seed


@dataclass(frozen=True)
class NetworkValue:
    """One network's number, and the same number under every resample of its units.

    draws (R,): by the draws of `quantities.draws`, so that resample r is the same in all networks; None where units do not correspond
    between networks (hidden units): their scatter is in that of the networks already. n: units (of two groups: the smaller).
    """

    name: str
    value: float
    draws: Array | None
    n: int


@dataclass(frozen=True)
class Absent:
    """Why there is no number; applicable: whether more measurements would give one."""

    why: str
    applicable: bool = True


@dataclass(frozen=True)
class Effect:
    """An estimate with its 95 % interval, and what both were made of.

    low, high: nan where networks or units are too few for one. n: units. networks: arm -> name -> its number. freedom: degrees of
    freedom (inf where nothing scatters). v_net, v_item: the two variances, nan where unknown (of a correlation: v_net is that of
    Fisher's z). comparison: what a relative smallest effect is relative to, the first arm's mean (of one arm: the reference).
    arms: (variance that one network would have, networks) an arm, for forecasts; of arms paired by design the pairs, once. needs: networks
    an arm that an interval needs. counted: what `k` and `needs` count. doubt: why the interval may not decide, or empty.
    """

    estimate: float
    low: float
    high: float
    n: int
    networks: Mapping[str, Mapping[str, float]]
    freedom: float
    v_net: float
    v_item: float
    comparison: float
    arms: tuple[tuple[float, int], ...]
    needs: int = LEAST_NETWORKS
    counted: str = "network"
    doubt: str = ""

    @property
    def k(self) -> int:
        """Networks in the smallest arm, or pairs."""
        return min(k for _, k in self.arms)


def reach(terms: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(half the 95 % interval, degrees of freedom) of a sum of independent terms (variance, degrees of freedom).

    Terms of 0 are left out: without any the interval is a point. nan where a variance is unknown or has no degrees of freedom.
    """
    terms = [(variance, freedom) for variance, freedom in terms if variance != 0]
    if not terms:
        return 0.0, np.inf
    if any(not np.isfinite(variance) or freedom < 1 for variance, freedom in terms):
        return np.nan, np.nan
    total = sum(variance for variance, _ in terms)
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in terms)
    return float(stdtrit(freedom, (1 + COVERAGE) / 2) * np.sqrt(total)), float(freedom)


def effect(arms: Mapping[str, Sequence[NetworkValue | Absent]], weights: Sequence[float], reference: float = 0.0) -> Effect | Absent:
    """The weighted sum of arm means, minus a reference number.

    arms: name -> its networks, which are independent of each other; weights: one an arm, e.g. DIFFERENCE. Every arm scatters by its
    own variance (k - 1 degrees of freedom), units by that of the combination under joint resamples (n - 1).
    Absent where a network has no value. Raises BadInput for an empty arm, another number of weights, or other units.
    """
    if len(arms) != len(weights) or not arms or 0 in weights or not all(arms.values()):
        sizes = {arm: len(networks) for arm, networks in arms.items()}
        raise BadInput(f"arms {sizes} and weights {list(weights)}: give one weight other than 0 an arm, and at least one network in each")
    for one in (one for networks in arms.values() for one in networks):
        if isinstance(one, Absent):
            return one
    present = {arm: [one for one in networks if isinstance(one, NetworkValue)] for arm, networks in arms.items()}
    values = {arm: np.array([one.value for one in networks]) for arm, networks in present.items()}
    scale = max(float(np.abs(of).max()) for of in values.values())
    scatter = [_scatter(of, scale, weight) for of, weight in zip(values.values(), weights, strict=True)]
    weighed = [(one, weight / len(of)) for of, weight in zip(present.values(), weights, strict=True) for one in of]
    estimate, n, v_item = _combined(weighed, scale)
    half, freedom = reach([*((variance / k, k - 1) for variance, k in scatter), (v_item, n - 1)])
    half = half if n > 1 else np.nan
    return Effect(
        estimate=estimate - reference,
        low=estimate - reference - half,
        high=estimate - reference + half,
        n=n,
        networks={arm: {one.name: one.value for one in networks} for arm, networks in present.items()},
        freedom=freedom,
        v_net=sum(variance / k for variance, k in scatter),
        v_item=v_item,
        comparison=reference if len(arms) == 1 else float(next(iter(values.values())).mean()),
        arms=tuple(scatter),
    )


def averaged(name: str, networks: Sequence[NetworkValue | Absent]) -> NetworkValue | Absent:
    """Several networks' numbers as one, their mean, under the same resamples: those of an architecture, over its seeds.

    Absent where a network has no value.
    """
    present = [one for one in networks if isinstance(one, NetworkValue)]
    if absent := next((one for one in networks if isinstance(one, Absent)), None):
        return absent
    draws = [one.draws for one in present if one.draws is not None]
    return NetworkValue(
        name,
        float(np.mean([one.value for one in present])),
        np.mean(draws, axis=0) if len(draws) == len(present) else None,
        min(one.n for one in present),
    )


def paired_effect(
    arms: Mapping[str, Sequence[NetworkValue | Absent]],
    weights: Sequence[float] = DIFFERENCE,
    reference: float = 0.0,
    counted: str = "pair",
) -> Effect | Absent:
    """As `effect`, where the arms are paired by design: the k-th number of each arm goes with the k-th of the others.

    One pair is one observation, the weighted sum of its numbers (k - 1 degrees of freedom): what an architecture gives to all sides of it
    falls out. counted: what a pair is to a reader. Raises BadInput for arms of unequal length.
    """
    if len({len(networks) for networks in arms.values()}) != 1:
        raise BadInput(f"arms { ({arm: len(networks) for arm, networks in arms.items()}) }: pairs need equally many networks in each arm")
    found = effect(arms, weights, reference)
    if isinstance(found, Absent):
        return found
    values = np.array([[one.value for one in networks if isinstance(one, NetworkValue)] for networks in arms.values()])  # (arms, k)
    variance, k = _scatter(np.asarray(weights) @ values, float(np.abs(values).max()), 1.0)
    half, freedom = reach([(variance / k, k - 1), (found.v_item, found.n - 1)])
    half = half if found.n > 1 else np.nan
    return replace(
        found,
        low=found.estimate - half,
        high=found.estimate + half,
        freedom=freedom,
        v_net=variance / k,
        arms=((variance, k),),
        needs=LEAST_PAIRED,
        counted=counted,
    )


def pairs_effect(
    kinds: Mapping[str, Mapping[tuple[Member, Member], NetworkValue | Absent]], weights: Sequence[float], reference: float = 0.0
) -> Effect | Absent:
    """The weighted sum of the means of several kinds of pairs of networks, e.g. across two arms minus within one, minus a reference.

    kinds: name -> pair -> its number; weights: one a kind. Pairs share networks, so v_net is the jackknife's: summed over the arms,
    (k - 1)/k times the squared deviations of the estimate with one network left out, with sum of (k - 1) degrees of freedom. Fewer
    than three networks in an arm: an estimate without an interval. Raises BadInput for pairs of one seed: they share their start.
    """
    for (arm, seed), (other, other_seed) in (pair for pairs in kinds.values() for pair in pairs):
        if seed == other_seed:
            raise BadInput(f"a pair of seed {seed} ({arm}, {other}) shares its initialisation: give pairs of different seeds")
    found = effect({kind: [*pairs.values()] for kind, pairs in kinds.items()}, weights, reference)
    if isinstance(found, Absent):
        return found
    members = sorted({member for pairs in kinds.values() for pair in pairs for member in pair})
    of_arm = {arm: [member for member in members if member[0] == arm] for arm, _ in members}

    def without(left_out: Member) -> float:
        kept = [
            [one.value for pair, one in pairs.items() if left_out not in pair and isinstance(one, NetworkValue)] for pairs in kinds.values()
        ]
        return float(sum(weight * np.mean(values) for weight, values in zip(weights, kept, strict=True))) if all(kept) else np.nan

    scale = max(abs(value) for networks in found.networks.values() for value in networks.values())
    variances = {arm: _jackknife([without(member) for member in of], scale) for arm, of in of_arm.items()}
    v_net = sum(variances.values())
    half, freedom = reach([(v_net, len(members) - len(of_arm)), (found.v_item, found.n - 1)])
    half = half if found.n > 1 else np.nan
    return replace(
        found,
        low=found.estimate - half,
        high=found.estimate + half,
        freedom=freedom,
        v_net=v_net,
        arms=tuple((variances[arm] * len(of), len(of)) for arm, of in of_arm.items()),
        needs=LEAST_OF_PAIRS,
    )


def correlation_effect(points: Mapping[tuple[str, str], tuple[float, ...]], correlation: Callable[..., float]) -> Effect | Absent:
    """The correlation of two numbers over networks, with the jackknife over architectures on Fisher's z.

    points: (recipe, architecture) -> (x, y), or (x, y, given), means over seeds; correlation: of these columns, (u,) each, e.g.
    `quantities.rank_correlation` or `quantities.partial_rank_correlation`.
    Networks of one architecture are not independent, so an architecture is left out at a time: architectures - 1 degrees of freedom.
    doubt: where the sign does not stay without each. Absent below 12 points or 3 architectures: a picture, and no coefficient.
    """
    architectures = sorted({architecture for _, architecture in points})
    if len(points) < LEAST_POINTS or len(architectures) < LEAST_OF_PAIRS:
        needed = f"{LEAST_POINTS} points of {LEAST_OF_PAIRS} architectures are needed"
        return Absent(f"{len(points)} points of {', '.join(architectures) or 'no network'} give no coefficient: {needed}")

    def z(left_out: str | None) -> float:
        columns = zip(*(point for (_, architecture), point in points.items() if architecture != left_out), strict=True)
        return float(np.arctanh(np.clip(correlation(*columns), -CERTAIN, CERTAIN)))

    whole, rest = z(None), {architecture: z(architecture) for architecture in architectures}
    if not np.isfinite([whole, *rest.values()]).all():
        return Absent("one of the numbers does not vary, or only with the third, in all networks or without one architecture")
    names = [", ".join(name) for name in points]
    variance = _jackknife([*rest.values()], 1.0)
    half, freedom = reach([(variance, len(architectures) - 1)])
    turned = [architecture for architecture, value in rest.items() if value * whole <= 0]
    return Effect(
        estimate=float(np.tanh(whole)),
        low=float(np.tanh(whole - half)),
        high=float(np.tanh(whole + half)),
        n=len(points),
        networks={side: dict(zip(names, of, strict=True)) for side, of in zip(SIDES, zip(*points.values(), strict=True), strict=False)},
        freedom=freedom,
        v_net=variance,
        v_item=0.0,
        comparison=0.0,
        arms=((np.nan, len(architectures)),),  # more networks of the same architectures would not narrow it
        doubt=f"the sign does not stay without {', '.join(turned)}" if turned else "",
    )


def _scatter(values: Array, scale: float, weight: float) -> tuple[float, int]:
    """(variance that one network of an arm gives the estimate, networks of the arm)."""
    if len(values) < 2:
        return np.nan, len(values)
    return weight**2 * _no_rounding(float(values.var(ddof=1)), scale), len(values)


def _combined(networks: Sequence[tuple[NetworkValue, float]], scale: float) -> tuple[float, int, float]:
    """(the weighted sum, its units, its variance under joint resamples of them)."""
    estimate = float(sum(weight * one.value for one, weight in networks))
    sizes, unlike = sorted({one.n for one, _ in networks}), [one.name for one, _ in networks if one.draws is None]
    if unlike and len(unlike) < len(networks):
        raise BadInput(f"the units of {unlike[0]} do not correspond to those of other networks: compare like with like")
    if not unlike and len(sizes) > 1:
        raise BadInput(f"networks were measured on {' and '.join(map(str, sizes))} units: all need the same ones")
    whole = sum((weight * one.draws for one, weight in networks if one.draws is not None), np.zeros(()))
    estimate = estimate if abs(estimate) > ROUNDING * scale else 0.0
    return estimate, sizes[0], _no_rounding(float(whole.var(ddof=1)), scale) if whole.ndim else 0.0


def _jackknife(left_out: Sequence[float], scale: float) -> float:
    """Variance from the estimates (k,) with one left out."""
    values = np.asarray(left_out)
    return _no_rounding(float((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum()), scale)


def _no_rounding(variance: float, scale: float) -> float:
    return 0.0 if variance <= (ROUNDING * scale) ** 2 else variance
