"""What a network's rows become: the mean, or a quantity that a finding's own judging.py makes of them.

A finding's judging.py may offer
  is_index(quantity), rows_of(quantity)   whether a quantity is made from other rows, and from which
  is_of_pairs(quantity)                   whether it is of two networks
  Indices(rows).effect(contrast)          the effect on such a quantity, or why there is none
  PER_BATCH                               variants whose rows are averaged, not made from others
  CONDITIONS                              name -> a condition on the networks, (claim, evidence) -> Control
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reprolib import registry


@dataclass(frozen=True)
class Absent:
    """Why a contrast has no effect; applicable: whether more measurements would give it one."""

    why: str
    applicable: bool = True


def without_variant(quantity: str) -> str:
    """The quantity of "<quantity>@<variant>"."""
    return quantity.partition("@")[0]


def is_index(finding: str, quantity: str) -> bool:
    """Whether a finding's quantity is made by the finding itself, from the rows of another."""
    own = registry.judging(finding)
    return bool(own is not None and hasattr(own, "is_index") and own.is_index(quantity))


def is_of_pairs(finding: str, quantity: str) -> bool:
    """Whether a finding's quantity is of two networks."""
    own = registry.judging(finding)
    return bool(own is not None and hasattr(own, "is_of_pairs") and own.is_of_pairs(quantity))


def rows_of(finding: str, quantity: str) -> str:
    """The quantity under which the rows of a finding's quantity are kept."""
    own = registry.judging(finding)
    return str(own.rows_of(quantity)) if own is not None and hasattr(own, "rows_of") else quantity


def per_batch(finding: str) -> tuple[str, ...]:
    """Variants of a finding's quantities whose rows are averaged."""
    return tuple(getattr(registry.judging(finding), "PER_BATCH", ()))


def conditions(finding: str) -> Mapping[str, Callable[..., Any]]:
    """A finding's conditions on networks, by name."""
    return dict(getattr(registry.judging(finding), "CONDITIONS", {}))
