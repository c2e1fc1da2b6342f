"""How the simplicity biases judge: shares of detectors, layers alike; random masks must name no detector, random channels must leave room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from reprolib.judging.controls import Control
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import Claim
from reprolib.judging.quantities import LEAST_UNITS, Made, layered_mean, layered_ratio, minus
from reprolib.measures.effects import Absent, NetworkValue
from reprolib.measures.quantities import of_mean, of_ratio

MOST_FALSE = 0.01  # of a network's units may detect a random mask
MOST_TURNED = 0.5  # of the images may be turned wrong when random channels are removed, or nothing is left to compare


def _of_units(each: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> Made:
    """Mean over layers, over all live units, of a function of a unit's class (1 low-level, 0 object or part) and whether it is a detector."""

    def value(name: str, got: Sequence[NDArray[Any]], resampled: bool) -> NetworkValue | Absent:
        low, detects, weights = got
        return of_mean(name, each(low, detects) * weights, resampled)

    return Made(("detector",), value, with_reached=True, by_layer=True)


def _variety(name: str, got: Sequence[NDArray[Any]], resampled: bool) -> NetworkValue | Absent:
    """Over detectors that are not alone in their layer; a network of fewer than 8 detectors has no value."""
    variety, in_company, weights, detects, *_ = got
    if (n := int(detects.sum())) < LEAST_UNITS:
        return Absent(f"{name} has {n} detectors, {LEAST_UNITS} are needed")
    return of_ratio(name, variety * in_company * weights, in_company * weights, resampled, least=1)


QUANTITIES: Mapping[str, Made] = {
    "high_minus_low": minus("relative_change@high", "relative_change@low"),
    "low_level_share": layered_ratio("detector"),
    "detector_rate": _of_units(lambda low, detects: detects),
    "low_minus_object_and_part": _of_units(lambda low, detects: detects * (2 * low - 1)),
    "concept_variety": Made(("variety", "detects"), _variety, with_reached=True, by_layer=True),
    **{
        f"mean_{quantity}": layered_mean(quantity)
        for quantity in (
            "diversity",
            "diversity_by_mean",
            "participation_ratio",
            "class_entropy",
            "texture_auroc",
            "class_auroc",
            "colour_r2",
        )
    },
}
"""Rows `detector`: 1 colour or texture, 0 object or part, reached where the unit detects anything. `variety`: reached where a layer has two; `detects`: 1 of a
detector, under SIM-5."""


def random_masks(claim: Claim, evidence: Evidence) -> Control:
    """Whether masks that belong to no scene are detected by next to no unit of any network compared."""
    group = evidence.rows(claim.contrast.claim, "random_iou")
    networks = evidence.networks(claim.contrast)
    if group is None or set(networks) - set(group["network"]):
        return Control("random_masks", "not measured", why="random masks were not shown to every network")
    shares = group[group["network"].isin(networks)].groupby("network")["reached"].mean()
    state = "passed" if shares.max() <= MOST_FALSE else "failed"
    return Control("random_masks", state, why=f"at most {100 * shares.max():.1f} % of a network's units detect a random mask, 1 % may")


def random_channels(claim: Claim, evidence: Evidence) -> Control:
    """Whether removing as many random channels leaves room for a difference, and does less to standard networks than removing detectors."""
    group, own = (evidence.rows(claim.id, quantity) for quantity in ("random_drop@texture", claim.quantity))
    if group is None or own is None:
        return Control("random_channels", "not measured", why="random channels were not removed")
    turned = group[group["arm"].isin(claim.arms)].groupby("arm")["value"].mean()
    more = float(own.loc[own["arm"] == "standard", "value"].mean())
    state = "passed" if turned.max() <= MOST_TURNED and more > 0 else "failed"
    why = f"as many random channels turn {100 * turned.max():.0f} % of the images wrong; in standard networks detectors {100 * more:+.1f} points"
    return Control("random_channels", state, why=why)


CONDITIONS: Mapping[str, Callable[[Claim, Evidence], Control]] = {"random_masks": random_masks, "random_channels": random_channels}
