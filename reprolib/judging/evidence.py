"""Rows of one scale as evidence: the effect of a contrast, and the numbers on the networks' cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reprolib import registry
from reprolib.errors import BadInput
from reprolib.judging.ledger import PAIRED, Claim, Contrast
from reprolib.judging.quantities import Absent, is_index, rows_of
from reprolib.judging.tidy import rounded
from reprolib.measures.statistics import Effect, Network, difference_effect, level_effect, slope_effect
from reprolib.measures.verdict_rule import sign_of


class Evidence:
    """All rows of a finding at one scale, rounded as they are stored, with the claims they speak to.

    is_rounded: the rows come from `tidy.rounded` as they are, and are not checked once more.
    """

    def __init__(self, rows: pd.DataFrame, scale: str, claims: Mapping[str, Claim], is_rounded: bool = False) -> None:
        table = rows if is_rounded else rounded(rows)
        self.scale = scale
        self.claims = claims
        self._groups: dict[Any, pd.DataFrame] = dict(iter(table.groupby(["claim", "quantity"], sort=True)))
        self._effects: dict[Contrast, Effect | Absent] = {}
        self._indices: dict[str, Any] = {}

    def rows(self, claim: str, quantity: str) -> pd.DataFrame | None:
        """The rows of one quantity of a claim, or None."""
        return self._groups.get((claim, quantity))

    def missing_arms(self, contrast: Contrast) -> list[str]:
        """Arms of a contrast that have no rows."""
        group = self._own_rows(contrast)
        return [arm for arm in contrast.arms if group is None or not (group["arm"] == arm).any()]

    def networks(self, contrast: Contrast, arms: Sequence[str] | None = None) -> list[str]:
        """Keys of the networks measured for a contrast, sorted."""
        group = self._own_rows(contrast)
        wanted = contrast.arms if arms is None else arms
        return [] if group is None else sorted(set(group.loc[group["arm"].isin(list(wanted)), "network"]))

    def effect(self, contrast: Contrast) -> Effect | None:
        """The effect of a contrast, or None while it has none. Raises BadInput when units do not correspond."""
        found = self._effect(contrast)
        return None if isinstance(found, Absent) else found

    def absent(self, contrast: Contrast) -> Absent | None:
        """Why a contrast has no effect; None where it has one."""
        found = self._effect(contrast)
        return found if isinstance(found, Absent) else None

    def _effect(self, contrast: Contrast) -> Effect | Absent:
        if contrast not in self._effects:
            if contrast.scales and self.scale not in (*contrast.scales, "smoke"):
                self._effects[contrast] = Absent(f"asked at {', '.join(contrast.scales)} only", applicable=False)
            else:
                self._effects[contrast] = Absent("") if self.missing_arms(contrast) else self._measure(contrast)
        return self._effects[contrast]

    def _own_rows(self, contrast: Contrast) -> pd.DataFrame | None:
        """The rows that hold each network's part of a contrast."""
        return self.rows(contrast.claim, rows_of(self.claims[contrast.claim].finding, contrast.quantity))

    def smallest(self, contrast: Contrast, effect: Effect) -> float:
        """The smallest effect that counts, in the quantity's units."""
        return contrast.smallest_effect * (abs(effect.comparison) if contrast.relative else 1.0)

    def _measure(self, contrast: Contrast) -> Effect | Absent:
        finding = self.claims[contrast.claim].finding
        if contrast.statistic in PAIRED or is_index(finding, contrast.quantity):
            return self._of_finding(finding, contrast)
        group = self._groups[contrast.claim, contrast.quantity]
        frames = {
            (arm, int(frame["seed"].iloc[0]), str(frame["network"].iloc[0])): frame
            for arm in contrast.arms
            for _, frame in group[group["arm"] == arm].groupby(["seed", "network"], sort=True)
        }
        cells = _cells(frames, contrast)
        arms = [[network for (arm, _, _), network in cells.items() if arm == wanted] for wanted in contrast.arms]
        if contrast.statistic == "difference":
            return difference_effect(arms[0], arms[1], contrast.joint)
        if contrast.statistic == "level":
            return level_effect(arms[0], contrast.reference, contrast.joint)
        for name, arm in zip(contrast.arms, arms, strict=True):
            seeds = [network.seed for network in arm]
            if len(set(seeds)) < len(seeds):
                raise BadInput(f"{_label(contrast)}: arm {name} has two networks of one seed, a trend needs one network a seed")
        if not set.intersection(*({network.seed for network in arm} for arm in arms)):
            return Absent("")
        return slope_effect(arms, contrast.levels, sign_of(contrast.direction), contrast.joint)

    def _of_finding(self, finding: str, contrast: Contrast) -> Effect | Absent:
        """The effect on a quantity that a finding makes of its rows."""
        if finding not in self._indices:
            self._indices[finding] = registry.judging(finding).Indices(self.rows)  # type: ignore[union-attr]
        found: Effect | Absent = self._indices[finding].effect(contrast)
        return found

    def card(self, quantity: str, networks: Sequence[str]) -> dict[str, float]:
        """A card number (adversarial_accuracy, clean_accuracy) of each of the networks that has one."""
        group = self.rows("networks", quantity)
        if group is None:
            return {}
        means = group[group["network"].isin(list(networks))].groupby("network")["value"].mean()
        return {str(key): float(value) for key, value in means.items()}


def _label(contrast: Contrast) -> str:
    return f"{contrast.claim}, {contrast.quantity}"


def _cells(frames: Mapping[tuple[str, int, str], pd.DataFrame], contrast: Contrast) -> dict[tuple[str, int, str], Network]:
    """Each network's values (units, repetitions), units sorted; repetitions that not every network has are left out.

    Control networks are measured from fewer starts: like is compared with like.
    """
    indexed = {key: frame.set_index(["unit", "unit_2"]).sort_index() for key, frame in frames.items()}
    first_key, first = next(iter(indexed.items()))
    common = first.index
    for key, frame in indexed.items():
        if contrast.joint:
            other = set(frame.index.unique("unit")) ^ set(first.index.unique("unit"))
            if other:
                raise BadInput(
                    f"{_label(contrast)}: unit {min(other)} is measured in only one of networks {first_key[2]} ({first_key[0]}) and "
                    f"{key[2]} ({key[0]}); units must be the same in all networks that are compared: measure it, a failure counts as one"
                )
            common = common.intersection(frame.index)
    labels = set.intersection(*(set(frame.index.unique("unit_2")) for frame in indexed.values()))
    networks = {}
    for key, frame in indexed.items():
        kept = frame.loc[common.sort_values()] if contrast.joint else frame[frame.index.isin(labels, level="unit_2")]
        sizes = kept.groupby(level="unit").size()
        if len(sizes) < frame.index.unique("unit").size or sizes.nunique() != 1:
            raise BadInput(
                f"{_label(contrast)}: units of network {key[2]} ({key[0]}) do not share equally many repetitions (unit_2) "
                "with the other networks: measure every unit from the same starts"
            )
        shape = (len(sizes), int(sizes.iloc[0]))
        values = kept["value"].to_numpy(dtype=np.float64).reshape(shape)
        counted = kept["reached"].to_numpy(dtype=bool).reshape(shape) if contrast.unreached == "zero" else None
        networks[key] = Network(key[1], values, counted)
    return networks
