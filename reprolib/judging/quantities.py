"""What the rows of one network become: their mean, or what a finding's own judging.py makes of them.

A finding's judging.py may offer
  QUANTITIES   name -> ratio, auroc, minus or Correlation: a quantity that is made from the rows of others
  CONDITIONS   name -> a check, (claim, evidence) -> Control
  CONTROLS     name -> a control that is no network, likewise: `margin`
  is_index(quantity), rows_of(quantity), is_of_pairs(quantity)   whether a quantity is an index that the finding evaluates itself,
               under which quantity its rows are kept, and whether it is of two networks
  Indices(rows)   evaluates them: of_networks(contrast), of_pairs(contrast), remark(contrast); see `evidence`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from reprolib import registry
from reprolib.errors import BadInput, nearest
from reprolib.measures.effects import Absent, NetworkValue
from reprolib.measures.quantities import (
    LEAST_ROWS,
    of_auroc,
    of_mean,
    of_ratio,
    partial_rank_correlation,
    pearson_correlation,
    rank_correlation,
)
from reprolib.measures.verdicts import at_floor, margin_state

LEAST_UNITS = 8  # detectors that a share of them needs
CORRELATIONS: Mapping[str, Callable[..., float]] = {"spearman": rank_correlation, "pearson": pearson_correlation}
EVEN, TWICE = "@1:1", "@1:2"
"""Behind a quantity: on the sets where the margin of shape is that of texture, and half of it."""


@dataclass(frozen=True)
class Made:
    """How a network's number is made of its rows.

    rows: the quantities under which they are kept. value(name, values, resampled) gives the number from the values (units, repetitions)
    of each of `rows`; resampled: whether the network's units correspond to others'. with_reached: behind the values of each of `rows`
    stand those of its column `reached`, 1 or 0. by_layer: behind them stands what each unit weighs, so that layers count alike.
    """

    rows: tuple[str, ...]
    value: Callable[[str, Sequence[NDArray[Any]], bool], NetworkValue | Absent]
    with_reached: bool = False
    by_layer: bool = False


def mean(quantity: str) -> Made:
    """The mean of its own rows."""
    return Made((quantity,), lambda name, values, resampled: of_mean(name, values[0], resampled))


def ratio(of: str, least: int = LEAST_ROWS) -> Made:
    """The mean of a network's OWN reached rows, resampled with those it did not reach: the share of shape among answers by either cue.

    least: rows that must be reached, else there is no value.
    """
    return Made((of,), lambda name, got, resampled: of_ratio(name, got[0] * got[1], got[1], resampled, least), with_reached=True)


def share_reached(of: str) -> Made:
    """The share of a quantity's rows that a network reached: coverage."""
    return Made((of,), lambda name, got, resampled: of_mean(name, got[1], resampled), with_reached=True)


def layered_mean(of: str) -> Made:
    """The mean over layers of each layer's mean: hidden units called "<layer>:<number>" weigh 1 / (layers x units of their layer)."""
    return Made((of,), lambda name, got, resampled: of_mean(name, got[0] * got[1], resampled), by_layer=True)


def layered_ratio(of: str, least: int = LEAST_UNITS) -> Made:
    """As `ratio`, of hidden units that weigh as in `layered_mean`: the low-level share of a network's detectors."""

    def value(name: str, got: Sequence[NDArray[Any]], resampled: bool) -> NetworkValue | Absent:
        values, reached, weights = got
        return of_ratio(name, values * reached * weights, reached * weights, resampled, least)

    return Made((of,), value, with_reached=True, by_layer=True)


def auroc(of: str, outside: str) -> Made:
    """Chance that a score of `outside` exceeds one of `of`; the two have units of their own."""
    return Made((of, outside), lambda name, values, resampled: of_auroc(name, values[0], values[1]))


def reached_auroc(of: str, outside: str) -> Made:
    """As `auroc`, of the rows that a network reached: of the images that it has right."""

    def value(name: str, got: Sequence[NDArray[Any]], resampled: bool) -> NetworkValue | Absent:
        (first, second), counts = got[::2], got[1::2]
        return of_auroc(name, first, second, counts)

    return Made((of, outside), value, with_reached=True)


def difference(first: Made, second: Made) -> Made:
    """The first quantity minus the second of one network, under the same resamples: the AUROC of one score minus that of another."""
    assert first.with_reached == second.with_reached
    split = len(first.rows) * (1 + first.with_reached)

    def value(name: str, got: Sequence[NDArray[Any]], resampled: bool) -> NetworkValue | Absent:
        a, b = first.value(name, got[:split], resampled), second.value(name, got[split:], resampled)
        if isinstance(a, Absent) or isinstance(b, Absent):
            return a if isinstance(a, Absent) else b
        draws = None if a.draws is None or b.draws is None else a.draws - b.draws
        return NetworkValue(name, a.value - b.value, draws, min(a.n, b.n))

    return Made((*first.rows, *second.rows), value, first.with_reached)


def minus(of: str, other: str) -> Made:
    """The mean of one quantity's rows minus another's, unit by unit: a similarity minus what shuffled rows give."""

    def value(name: str, values: Sequence[NDArray[Any]], resampled: bool) -> NetworkValue | Absent:
        a, b = values
        if len(a) != len(b):
            raise BadInput(f"{name}: {of} has {len(a)} units and {other} {len(b)}: measure both on the same ones")
        return of_mean(name, a.mean(axis=1) - b.mean(axis=1), resampled)

    return Made((of, other), value)


@dataclass(frozen=True)
class Correlation:
    """The correlation, over networks, of two quantities x and y; x_rows, y_rows: claims that keep their rows, if not the claim itself.

    method: "spearman" (ranks) or "pearson". given: a third quantity, whose rows lie with those of x, at which the rank correlation is held
    fixed: what is left of it once confidence is known.
    """

    x: str
    y: str
    x_rows: str = ""
    y_rows: str = ""
    method: str = "spearman"
    given: str = ""

    def __post_init__(self) -> None:
        if self.method not in CORRELATIONS:
            known = ", ".join(CORRELATIONS)
            raise BadInput(f"method={self.method!r} of a correlation is not allowed{nearest(self.method, CORRELATIONS)}; allowed: {known}")
        if self.given and self.method != "spearman":
            raise BadInput(
                f"method={self.method!r} with given={self.given!r}: a correlation at a fixed third quantity is one of ranks, spearman"
            )

    @property
    def rows(self) -> tuple[str, ...]:
        """x, y and, where there is one, the third."""
        return (self.x, self.y, *([self.given] if self.given else []))

    @property
    def coefficient(self) -> Callable[..., float]:
        """Of the columns of `rows`, (networks,) each."""
        return partial_rank_correlation if self.given else CORRELATIONS[self.method]


def margin(claim: Any, evidence: Any) -> Any:
    """The control "margin": the claim's own contrast where shape's margin is once and half the texture's, see `verdicts.margin_state`.

    Its rows are kept under the claim's quantity with EVEN and TWICE behind it.
    """
    from reprolib.judging.controls import Control  # it needs this module

    even, twice = (evidence.effect(replace(claim.contrast, name=at, quantity=claim.quantity + at)) for at in (EVEN, TWICE))
    smallest = claim.smallest_effect if isinstance(twice, Absent) else evidence.smallest(claim.contrast, twice)
    why = "; ".join(dict.fromkeys(one.why for one in (even, twice) if isinstance(one, Absent)))
    why = why or ("at 1:2 all networks are at the floor, 0" if at_floor(twice) else "")
    return Control("margin", margin_state(even, twice, smallest, claim.direction), why=why)


def without_variant(quantity: str) -> str:
    """The quantity of "<quantity>@<variant>"."""
    return quantity.partition("@")[0]


def made_of(finding: str, quantity: str) -> Made | Correlation:
    """How a quantity is made of rows; the mean of its own where the finding says nothing else."""
    made: Made | Correlation = _own(finding, "QUANTITIES", {}).get(quantity) or mean(quantity)
    return made


def is_index(finding: str, quantity: str) -> bool:
    """Whether a finding's quantity is an index that the finding evaluates itself."""
    return bool(_own(finding, "is_index", lambda name: False)(quantity))


def is_of_pairs(finding: str, quantity: str) -> bool:
    """Whether a finding's quantity is of two networks."""
    return bool(_own(finding, "is_of_pairs", lambda name: False)(quantity))


def rows_of(finding: str, quantity: str) -> tuple[str, ...]:
    """The quantities under which the rows of a finding's quantity are kept."""
    return (str(_own(finding, "rows_of", str)(quantity)),) if is_index(finding, quantity) else made_of(finding, quantity).rows


def conditions(finding: str) -> Mapping[str, Callable[..., Any]]:
    """A finding's checks, by name."""
    return dict(_own(finding, "CONDITIONS", {}))


def own_controls(finding: str) -> Mapping[str, Callable[..., Any]]:
    """A finding's controls that are no networks, by name."""
    return dict(_own(finding, "CONTROLS", {}))


def _own(finding: str, name: str, otherwise: Any) -> Any:
    return getattr(registry.judging(finding), name, otherwise)
