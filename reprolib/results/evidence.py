"""Rows of one scale as evidence: the effect of a contrast, whether the networks differ, whether inversion converged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from reprolib.errors import BadInput
from reprolib.measures.statistics import Effect, Interval, Network, difference_effect, level_effect, slope_effect
from reprolib.measures.verdict_rule import control_state, sign_of
from reprolib.results.ledger import NETWORK_CONTROLS, Claim, Contrast
from reprolib.results.tidy import rounded

LEAST_DIFFERENCE = 0.20  # of adversarial accuracy: below it the networks do not differ
MATCHED_ACCURACY = 0.02  # clean accuracies closer than this need no accuracy-matched control
CONVERGED = 0.05  # largest change of the share reached, and of the median final distance, when the steps are doubled
TOLERANCE = 1e-9  # .75 - .55 is .2 to a reader, and not to a computer


@dataclass(frozen=True)
class Control:
    """A control's numbers and state; why says what a state other than passed or failed comes from."""

    name: str
    state: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


class Evidence:
    """All rows of a finding at one scale, rounded as they are stored, with the claims they speak to."""

    def __init__(self, rows: pd.DataFrame, scale: str, claims: Mapping[str, Claim]) -> None:
        table = rounded(rows)
        self.scale = scale
        self.claims = claims
        self._groups: dict[Any, pd.DataFrame] = dict(iter(table.groupby(["claim", "quantity"], sort=True)))
        self._effects: dict[Contrast, Effect | None] = {}

    def rows(self, claim: str, quantity: str) -> pd.DataFrame | None:
        """The rows of one quantity of a claim, or None."""
        return self._groups.get((claim, quantity))

    def missing_arms(self, contrast: Contrast) -> list[str]:
        """Arms of a contrast that have no rows."""
        group = self.rows(contrast.claim, contrast.quantity)
        return [arm for arm in contrast.arms if group is None or not (group["arm"] == arm).any()]

    def networks(self, contrast: Contrast, arms: Sequence[str] | None = None) -> list[str]:
        """Keys of the networks measured for a contrast, sorted."""
        group = self.rows(contrast.claim, contrast.quantity)
        wanted = contrast.arms if arms is None else arms
        return [] if group is None else sorted(set(group.loc[group["arm"].isin(list(wanted)), "network"]))

    def effect(self, contrast: Contrast) -> Effect | None:
        """The effect of a contrast, or None while an arm has no rows. Raises BadInput when units do not correspond."""
        if contrast not in self._effects:
            self._effects[contrast] = None if self.missing_arms(contrast) else self._measure(contrast)
        return self._effects[contrast]

    def smallest(self, contrast: Contrast, effect: Effect) -> float:
        """The smallest effect that counts, in the quantity's units."""
        return contrast.smallest_effect * (abs(effect.comparison) if contrast.relative else 1.0)

    def _measure(self, contrast: Contrast) -> Effect | None:
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
            return None
        return slope_effect(arms, contrast.levels, sign_of(contrast.direction), contrast.joint)

    def card(self, quantity: str, networks: Sequence[str]) -> dict[str, float]:
        """A card number (adversarial_accuracy, clean_accuracy) of each of the networks that has one."""
        group = self.rows("networks", quantity)
        if group is None:
            return {}
        means = group[group["network"].isin(list(networks))].groupby("network")["value"].mean()
        return {str(key): float(value) for key, value in means.items()}

    def robust_minus_standard(self, claim: Claim, quantity: str) -> tuple[float | None, list[str]]:
        """Mean card number of the robust minus the standard arm's networks, and the networks that have none."""
        robust = compared_robust_arm(claim)
        means, without = [], []
        for arm in ("standard", robust):
            networks = self.networks(claim.contrast, [arm] if arm else [])
            found = self.card(quantity, networks)
            without += [network for network in networks if network not in found]
            means.append(float(np.mean([*found.values()])) if found else None)
        standard, other = means
        return (None if standard is None or other is None else other - standard), without

    def manipulation_check(self, claim: Claim) -> Control | None:
        """Whether adversarial training did its work, for a claim that compares robust with standard networks; else None."""
        if compared_robust_arm(claim) is None:
            return None
        difference, without = self.robust_minus_standard(claim, "adversarial_accuracy")
        name = "manipulation check"
        if difference is None or without:
            who = ", ".join(without) or "any network"
            return Control(name, "undecided", difference, why=f"adversarial accuracy not measured for {who}")
        state = "passed" if difference >= LEAST_DIFFERENCE - TOLERANCE else "failed"
        why = f"robust minus standard adversarial accuracy is {100 * difference:.1f} points, {100 * LEAST_DIFFERENCE:.0f} are needed"
        return Control(name, state, difference, why=why)

    def converged(self, claim: Claim) -> Control:
        """Whether twice the steps change nothing, in every network of the claim's arms."""
        group = self.rows("converged", "final_distance")
        largest, failing, without = 0.0, [], []
        networks = self.networks(claim.contrast)
        for network in networks:
            frame = None if group is None else group[group["network"] == network]
            if frame is None or frame.empty:
                without.append(network)
                continue
            once, twice = (_budget(frame, suffix) for suffix in ("|x1", "|x2"))
            if len(once) + len(twice) != len(frame) or not once.index.equals(twice.index):
                raise BadInput(f"converged rows of network {network}: unit_2 must end in |x1 or |x2, both for every target and start")
            moved = abs(float(twice["value"].median() - once["value"].median()))
            share = abs(float(twice["reached"].mean() - once["reached"].mean()))
            largest = max(largest, moved)
            if max(moved, share) > CONVERGED + TOLERANCE:
                failing.append(f"{network} (share reached {share:.3f}, median distance {moved:.3f})")
        if failing:
            return Control("converged", "failed", largest, why=f"twice the steps change {', '.join(failing)} by more than {CONVERGED}")
        if without or not networks:
            return Control("converged", "undecided", why=f"not measured for {', '.join(without) or 'any network'}")
        return Control("converged", "passed", largest)

    def not_applicable(self, claim: Claim, arm: str) -> str:
        """Why a control network says nothing about a claim at this scale, or an empty text."""
        why = claim.not_applicable.get(self.scale, {}).get(arm, "")
        if not why and arm == "std_matched":
            difference, without = self.robust_minus_standard(claim, "clean_accuracy")
            if difference is not None and not without and abs(difference) < MATCHED_ACCURACY - TOLERANCE:
                return f"clean accuracies differ by {100 * abs(difference):.1f} points, under {100 * MATCHED_ACCURACY:.0f}"
        return why

    def network_control(self, claim: Claim, arm: str, mirrored: bool = False) -> Control:
        """The claim's primary quantity with a control network in the place of the comparison arm."""
        contrast = claim.contrast
        if contrast.statistic == "level":
            stand_in = replace(contrast, statistic="difference", arms=(arm, contrast.arms[0]), reference=0.0)
        else:
            comparison = "standard" if "standard" in contrast.arms else contrast.arms[0]
            stand_in = replace(contrast, arms=tuple(arm if one == comparison else one for one in contrast.arms))
        return self.part_control(claim, arm, arm, stand_in, self.effect(contrast), mirrored)

    def part_control(self, claim: Claim, name: str, arm: str, contrast: Contrast, whole: Effect | None, mirrored: bool = False) -> Control:
        """State of one contrast as a control; whole: the claim's effect on the same quantity, where there is one."""
        why = self.not_applicable(claim, arm) if arm in NETWORK_CONTROLS else ""
        if why:
            return Control(name, "not applicable", why=why)
        effect = self.effect(contrast)
        if effect is None:
            return Control(name, "undecided", why="not measured")
        sign = sign_of(contrast.direction) * (-1 if mirrored else 1)
        state = control_state(effect.interval, sign, whole.interval.estimate if whole else None)
        return Control(name, state, *_ends(effect.interval))


def compared_robust_arm(claim: Claim) -> str | None:
    """The robust arm that a claim compares with standard networks, or None where it compares no such arms."""
    robust = [arm for arm in claim.arms if arm.startswith("robust")]
    if "standard" not in claim.arms or not robust:
        return None
    return "robust" if "robust" in robust else robust[-1]


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def _budget(frame: pd.DataFrame, suffix: str) -> pd.DataFrame:
    chosen = frame[frame["unit_2"].str.endswith(suffix)]
    keys = pd.MultiIndex.from_arrays([chosen["unit"], chosen["unit_2"].str.removesuffix(suffix)])
    return chosen.set_index(keys).sort_index()


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
