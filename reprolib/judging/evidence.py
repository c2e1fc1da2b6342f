"""Rows of one scale as evidence: a network's value and its value under each resample, the effect of a contrast, the networks' cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprolib import registry
from reprolib.errors import BadInput, nearest
from reprolib.judging.ledger import OF_PAIRS, PAIRED, SCALE_NAMES, WEIGHTS, Claim, Contrast, load_claims
from reprolib.judging.quantities import Correlation, Made, is_index, is_of_pairs, made_of, rows_of
from reprolib.judging.tidy import rounded
from reprolib.measures.effects import Absent, Effect, NetworkValue, averaged, correlation_effect, effect, paired_effect, pairs_effect
from reprolib.measures.quantities import no_effect_unless_reached
from reprolib.training.cards import LEAST_DIFFERENCE

Key = tuple[str, str, int, str]  # arm, architecture, seed, network
TOLERANCE = 1e-9  # .75 - .55 is .2 to a reader, and not to a computer


class Evidence:
    """All rows of a finding at one scale, rounded as they are stored, with the claims they speak to.

    claims: default: the committed ones. is_rounded: the rows come from `tidy.rounded` as they are, and are not checked once more.
    Raises BadInput for an unknown scale.
    """

    def __init__(self, rows: pd.DataFrame, scale: str, claims: Mapping[str, Claim] | None = None, is_rounded: bool = False) -> None:
        if scale not in SCALE_NAMES:
            raise BadInput(f"scale={scale!r} is unknown; allowed: {', '.join(SCALE_NAMES)}{nearest(scale, SCALE_NAMES)}")
        table = rows if is_rounded else rounded(rows)
        self.scale = scale
        self.claims = load_claims() if claims is None else claims
        self._groups: dict[Any, pd.DataFrame] = dict(iter(table.groupby(["claim", "quantity"], sort=True)))
        self._effects: dict[Contrast, Effect | Absent] = {}
        self._left_out: dict[Contrast, dict[str, str]] = {}
        self._indices: dict[str, Any] = {}
        self._frames: dict[tuple[str, str], dict[Key, pd.DataFrame]] = {}

    def rows(self, claim: str, quantity: str) -> pd.DataFrame | None:
        """The rows of one quantity of a claim, or None."""
        return self._groups.get((claim, quantity))

    def networks(self, contrast: Contrast, arms: Sequence[str] | None = None) -> list[str]:
        """Keys of the networks measured for a contrast, sorted; of pairs without the architectures that are left out."""
        group = self.rows(contrast.claim, rows_of(contrast.finding, contrast.quantity)[0])
        if group is None:
            return []
        wanted = group["arm"].isin(list(contrast.arms if arms is None else arms)) & ~group["architecture"].isin([*self.left_out(contrast)])
        return sorted(set(group.loc[wanted, "network"]))

    def effect(self, contrast: Contrast) -> Effect | Absent:
        """The effect of a contrast (of a trend: main radius minus standard), or why there is none.

        Raises BadInput when units do not correspond.
        """
        if contrast not in self._effects:
            if contrast.scales and self.scale not in (*contrast.scales, "smoke"):
                self._effects[contrast] = Absent(f"asked at {', '.join(contrast.scales)} only", applicable=False)
            else:
                self._effects[contrast] = self._measure(contrast)
        return self._effects[contrast]

    def remark(self, contrast: Contrast) -> str:
        """What a finding adds to the reason of a verdict on one of its indices, or an empty text."""
        if not is_index(contrast.finding, contrast.quantity):
            return ""
        return str(self._of_finding(contrast.finding).remark(contrast))

    def left_out(self, contrast: Contrast) -> dict[str, str]:
        """Architectures (of one architecture: seeds) that are in no pair of a contrast, and why; of a contrast without pairs none."""
        if contrast.statistic in PAIRED:
            self.effect(contrast)
        return self._left_out.get(contrast, {})

    def gaps(self, contrast: Contrast) -> dict[str, float | None]:
        """Robust minus standard adversarial accuracy of each architecture, means over seeds; None where a network has no card.

        For a contrast of pairs, whose claim compares robust with standard networks, of several architectures; else empty: then the mean
        over all networks is what counts. Networks: those measured for the contrast's quantity, whichever two arms it compares.
        """
        group = self.rows(contrast.claim, rows_of(contrast.finding, contrast.quantity)[0])
        if contrast.statistic not in PAIRED or contrast.robust_arm is None or group is None:
            return {}
        arms = ("standard", contrast.robust_arm)
        by_architecture = group[group["arm"].isin(arms)].groupby("architecture", sort=True)
        found = {str(name): self._gap(of, arms) for name, of in by_architecture}
        return found if len(found) > 1 else {}

    def smallest(self, contrast: Contrast, found: Effect) -> float:
        """The smallest effect that counts, in the quantity's units."""
        return contrast.smallest_effect * (abs(found.comparison) if contrast.relative else 1.0)

    def card(self, quantity: str, networks: Sequence[str]) -> dict[str, float]:
        """A card number (adversarial_accuracy, clean_accuracy) of each of the networks that has one."""
        group = self.rows("networks", quantity)
        if group is None:
            return {}
        means = group[group["network"].isin(list(networks))].groupby("network")["value"].mean()
        return {str(key): float(value) for key, value in means.items()}

    def _measure(self, contrast: Contrast) -> Effect | Absent:
        if contrast.statistic == "trend":
            return self.effect(contrast.steps()["main minus standard"])
        if contrast.statistic == "correlation":
            return self._correlation(contrast)
        if is_of_pairs(contrast.finding, contrast.quantity):
            weights = OF_PAIRS.get(contrast.statistic) or WEIGHTS[contrast.statistic]
            kinds = self._of_finding(contrast.finding).of_pairs(contrast)
            return kinds if isinstance(kinds, Absent) else pairs_effect(kinds, weights, contrast.reference)
        missing = self._missing(contrast)
        if missing is not None:
            return missing
        arms = self.of_networks(contrast)
        reference = contrast.reference if contrast.statistic in ("level", "paired_level") else 0.0
        if contrast.statistic in PAIRED:
            return self._of_pairs(contrast, arms, reference)
        return effect({arm: [*networks.values()] for arm, networks in arms.items()}, WEIGHTS[contrast.statistic], reference)

    def _of_pairs(self, contrast: Contrast, arms: Mapping[str, Mapping[Key, NetworkValue | Absent]], reference: float) -> Effect | Absent:
        """The one place that decides which pairs speak: architectures whose networks differ, or of one architecture seeds, in all arms.

        An architecture fails where adversarial training moved its adversarial accuracy by too little (`gaps`). The same ones are left out
        of every contrast of a claim, also of those without a robust arm, so that all are about the same networks. Where no architecture
        passes, all stay: the claim's manipulation check has failed, and its numbers are only shown.
        """
        gaps = self.gaps(contrast)
        failing = {name: in_points(gap) for name, gap in gaps.items() if not differs(gap)}
        several = len({key[1] for networks in arms.values() for key in networks}) > 1
        pairs, self._left_out[contrast] = _paired(arms, several, failing if len(failing) < len(gaps) else {})
        if not all(pairs.values()):
            return Absent(f"no {'architecture' if several else 'seed'} is measured in every arm")
        counted = "architecture" if several else "pair" if len(arms) > 1 else "network"
        return paired_effect(pairs, PAIRED[contrast.statistic], reference, counted)

    def _gap(self, rows: pd.DataFrame, arms: Sequence[str]) -> float | None:
        """The second arm's mean adversarial accuracy minus the first's, None where one of the networks of the rows has none."""
        means = []
        for arm in arms:
            networks = rows.loc[rows["arm"] == arm, "network"].unique()
            found = self.card("adversarial_accuracy", list(networks))
            if not found or len(found) < len(networks):
                return None
            means.append(float(np.mean([*found.values()])))
        return means[1] - means[0]

    def _missing(self, contrast: Contrast) -> Absent | None:
        for quantity in rows_of(contrast.finding, contrast.quantity):
            group = self.rows(contrast.claim, quantity)
            if group is None:
                return Absent("not measured" if quantity == contrast.quantity else f"{quantity} not measured")
            without = [arm for arm in contrast.arms if not (group["arm"] == arm).any()]
            if without:
                return Absent("not measured" if len(without) == len(contrast.arms) else f"{', '.join(without)} not measured")
        return None

    def of_networks(self, contrast: Contrast) -> dict[str, dict[Key, NetworkValue | Absent]]:
        """The number of each network of the contrast's arms, arm by arm: of its rows, or an index that its finding evaluates."""
        if not is_index(contrast.finding, contrast.quantity):
            return self.values(contrast)
        found: dict[str, dict[Key, NetworkValue | Absent]] = self._of_finding(contrast.finding).of_networks(contrast)
        return found

    def values(self, contrast: Contrast) -> dict[str, dict[Key, NetworkValue | Absent]]:
        """The number of each network of the contrast's arms, whose rows are there and are no index, arm by arm."""
        made = made_of(contrast.finding, contrast.quantity)
        assert isinstance(made, Made)
        by_quantity: list[dict[Key, NDArray[np.float64]]] = []
        for quantity in made.rows:
            by_quantity += self._cells(contrast, quantity, made)
            if other := set(by_quantity[-1]) ^ set(by_quantity[0]):
                who = min(other)
                raise BadInput(f"{_label(contrast)}: network {who[3]} ({who[0]}) lacks {made.rows[0]} or {quantity}: measure both")
        keys = [*by_quantity[0]]
        arms: dict[str, dict[Key, NetworkValue | Absent]] = {arm: {} for arm in contrast.arms}
        for key in keys:
            arms[key[0]][key] = made.value(key[3], [cells[key] for cells in by_quantity], contrast.joint)
        return arms

    def _cells(self, contrast: Contrast, quantity: str, made: Made) -> list[dict[Key, NDArray[np.float64]]]:
        """Each network's values (units, repetitions), units sorted; what a network did not reach counts as no effect, if the claim says so.

        Behind them what `made` asks for: whether each was reached, 1 or 0; the weights (units, 1) of hidden units.
        """
        where = (contrast.claim, quantity)
        if where not in self._frames:  # rows come sorted by arm, network, unit and unit_2
            by_unit = self._groups[where].set_index(["unit", "unit_2"]).groupby(["arm", "architecture", "seed", "network"], sort=True)
            self._frames[where] = {key: frame[["value", "reached"]] for key, frame in by_unit}  # type: ignore[misc]
        frames = {key: frame for arm in contrast.arms for key, frame in self._frames[where].items() if key[0] == arm}
        values, reached = _aligned(frames, contrast)
        weights = [{key: _layers_alike(frames[key].index.unique("unit")) for key in values}] if made.by_layer else []
        if made.with_reached or made.by_layer:
            return [values, *([reached] if made.with_reached else []), *weights]
        if contrast.unreached != "zero" or all(one.all() for one in reached.values()):
            return [values]
        arms = [[key for key in values if key[0] == arm] for arm in contrast.arms]
        stacked, there = ([np.stack([of[key] for key in keys]) for keys in arms] for of in (values, reached))
        found = no_effect_unless_reached(stacked, there, WEIGHTS[contrast.statistic], contrast.reference)
        return [{key: one for keys, of in zip(arms, found, strict=True) for key, one in zip(keys, of, strict=True)}]

    def _correlation(self, contrast: Contrast) -> Effect | Absent:
        """Over recipe and architecture of the contrast's networks, means over seeds; points that lack one of the quantities are left out."""
        made = made_of(contrast.finding, contrast.quantity)
        assert isinstance(made, Correlation)
        means = []
        for quantity, claim in zip(made.rows, (made.x_rows, made.y_rows, made.x_rows), strict=False):
            group = self.rows(claim or contrast.claim, quantity)
            if group is None:
                return Absent(f"{quantity} not measured")
            group = group[group["arm"].isin(contrast.arms)]
            means.append(group.groupby(["recipe", "architecture", "network"])["value"].mean().groupby(["recipe", "architecture"]).mean())
        table = pd.concat(means, axis=1, join="inner").sort_index()
        return correlation_effect({(str(r), str(a)): (*map(float, row),) for (r, a), *row in table.itertuples(name=None)}, made.coefficient)

    def _of_finding(self, finding: str) -> Any:
        if finding not in self._indices:
            self._indices[finding] = registry.judging(finding).Indices(self.rows)  # type: ignore[union-attr]
        return self._indices[finding]


def _label(contrast: Contrast) -> str:
    return f"{contrast.claim}, {contrast.quantity}"


def _layers_alike(units: pd.Index) -> NDArray[np.float64]:
    """What hidden units called "<layer>:<number>" weigh so that layers count alike, (units, 1), 1 on average."""
    layers = pd.Series(units).str.rpartition(":")[0]
    sizes = layers.groupby(layers).transform("size").to_numpy(dtype=np.float64)
    return (len(units) / layers.nunique() / sizes)[:, None]


def differs(gap: float | None) -> bool:
    """Whether robust minus standard adversarial accuracy is one of networks that differ."""
    return gap is not None and gap >= LEAST_DIFFERENCE - TOLERANCE


def in_points(gap: float | None) -> str:
    """An adversarial accuracy's difference in words: "19 points"."""
    return "adversarial accuracy not measured" if gap is None else f"{100 * gap:.4g} points"


def listed(left_out: Mapping[str, str]) -> str:
    """Who was left out, and why: "left out: lenet (19 points), pool (gauss not measured)", or an empty text."""
    return "left out: " + ", ".join(f"{name} ({why})" for name, why in left_out.items()) if left_out else ""


def _paired(
    arms: Mapping[str, Mapping[Key, NetworkValue | Absent]], several: bool, failing: Mapping[str, str]
) -> tuple[dict[str, list[NetworkValue | Absent]], dict[str, str]]:
    """Each arm's numbers in one order, one a pair, and who is in no pair.

    several: whether a pair is an architecture, with the mean over its seeds; else a seed. failing: architectures to leave out, and why.
    """
    found: dict[str, dict[Any, list[tuple[str, NetworkValue | Absent]]]] = {arm: {} for arm in arms}
    for arm, networks in arms.items():
        for (_, architecture, seed, network), one in networks.items():
            found[arm].setdefault(architecture if several else seed, []).append((network, one))
    left_out, kept = {}, []
    for name in sorted(set().union(*found.values())):
        without = [arm for arm in arms if name not in found[arm]]
        why = f"{', '.join(without)} not measured" if without else failing.get(name, "")
        if why:
            left_out[name if several else f"seed {name}"] = why
        else:
            kept.append(name)

    def number(name: Any, networks: Sequence[tuple[str, NetworkValue | Absent]]) -> NetworkValue | Absent:
        return averaged(name if several else ", ".join(network for network, _ in networks), [one for _, one in networks])

    return {arm: [number(name, of[name]) for name in kept] for arm, of in found.items()}, left_out


def _aligned(
    frames: Mapping[Key, pd.DataFrame], contrast: Contrast
) -> tuple[dict[Key, NDArray[np.float64]], dict[Key, NDArray[np.float64]]]:
    """Values and whether they were reached, (units, repetitions); repetitions that not every network has are left out.

    Control networks are measured from fewer starts: like is compared with like.
    """
    first_key, first = next(iter(frames.items()))
    common = first.index
    for key, frame in frames.items():
        if contrast.joint and not frame.index.equals(first.index):
            other = set(frame.index.unique("unit")) ^ set(first.index.unique("unit"))
            if other:
                raise BadInput(
                    f"{_label(contrast)}: unit {min(other)} is measured in only one of networks {first_key[3]} ({first_key[0]}) and "
                    f"{key[3]} ({key[0]}); units must be the same in all networks that are compared: measure it, a failure counts as one"
                )
            common = common.intersection(frame.index)
    common = common.sort_values()
    labels = set.intersection(*(set(frame.index.unique("unit_2")) for frame in frames.values()))
    values, reached = {}, {}
    for key, frame in frames.items():
        kept = frame.loc[common] if contrast.joint else frame[frame.index.isin(labels, level="unit_2")]
        sizes = kept.groupby(level="unit").size()
        if len(sizes) < frame.index.unique("unit").size or sizes.nunique() != 1:
            raise BadInput(
                f"{_label(contrast)}: units of network {key[3]} ({key[0]}) do not share equally many repetitions (unit_2) "
                "with the other networks: measure every unit from the same starts"
            )
        shape = (len(sizes), int(sizes.iloc[0]))
        values[key] = kept["value"].to_numpy(dtype=np.float64).reshape(shape)
        reached[key] = kept["reached"].to_numpy(dtype=np.float64).reshape(shape)
    return values, reached
