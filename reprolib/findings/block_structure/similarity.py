"""Indices of layer similarity of networks and pairs, from rows of batch HSICs: batches are resampled, the index is taken of every resample.

The indices and their rows are those of `reprolib.findings.block_structure.quantities`; `reprolib.judging.evidence` compares the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprolib.errors import BadInput
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure import quantities as kinds
from reprolib.findings.block_structure.networks import named, stages_of
from reprolib.judging.evidence import Key
from reprolib.judging.ledger import Contrast
from reprolib.judging.quantities import without_variant
from reprolib.measures import indices
from reprolib.measures import quantities as q
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.effects import Absent, Member, NetworkValue

Array = NDArray[np.float64]
T = TypeVar("T")
Pairs = dict[tuple[Member, Member], NetworkValue | Absent]


@dataclass(frozen=True)
class _Measured:
    """An index of one network or pair, or why there is none, and what it was measured on."""

    index: NetworkValue | Absent
    batches: tuple[str, ...] = ()
    n_layers: int = 0


class Similarities:
    """Indices of all networks of some rows, each evaluated once; rows: claim, quantity -> its rows, or None."""

    def __init__(self, rows: Callable[[str, str], pd.DataFrame | None]) -> None:
        self._rows = rows
        self._kept: dict[tuple[str, ...], Any] = {}
        self._by_pair: dict[tuple[str, str], list[tuple[str, str, pd.DataFrame]]] = {}
        self._measured: dict[tuple[str, str, str, str], _Measured] = {}

    def of_networks(self, contrast: Contrast) -> dict[str, dict[Key, NetworkValue | Absent]]:
        """The index of every network of a contrast's arms, all of which have rows.

        Raises BadInput where networks were not measured on the same batches and equally many layers.
        """
        arms: dict[str, dict[Key, _Measured]] = {arm: {} for arm in contrast.arms}
        for arm, cells in arms.items():
            for frame in self._frames(contrast, arm):
                architecture, seed, network = (frame[column].iloc[0] for column in ("architecture", "seed", "network"))
                cells[arm, str(architecture), int(seed), str(network)] = self._of_network(contrast, frame)
        _compared(contrast, [one for cells in arms.values() for one in cells.values()])
        return {arm: {key: one.index for key, one in cells.items()} for arm, cells in arms.items()}

    def of_pairs(self, contrast: Contrast) -> dict[str, Pairs] | Absent:
        """The similarities of pairs of networks of different seeds, by kind of pair; or of which kind there is none.

        Kinds, in the order that weights count them: of "alike" across the two arms; of "unlike" within the arm `within`, across; of
        "half_way" the first arm, the second and the third, each with the second.
        """
        found: dict[tuple[str, str], dict[tuple[Member, Member], _Measured]] = {}
        for arms, seeds, one in self._pairs(contrast):
            if seeds[0] == seeds[1]:
                raise BadInput(f"{_label(contrast)}: two networks of seed {seeds[0]} share their initialisation: compare different seeds")
            pair = (arms[0], seeds[0]), (arms[1], seeds[1])
            if pair in found.setdefault(arms, {}):
                raise BadInput(f"{_label(contrast)}: {' and '.join(arms)} of seeds {seeds} are there twice: keep one pair")
            found[arms][pair] = one
        first, last = contrast.arms[0], contrast.arms[1]
        if contrast.statistic == "half_way":
            kinds = {arm: (arm, last) if contrast.arms.index(arm) < 1 else (last, arm) for arm in contrast.arms}
        else:
            kinds = {f"within {contrast.within}": (contrast.within,) * 2} if contrast.statistic == "unlike" else {}
            kinds["across"] = (first, last)
        for arms in kinds.values():
            if arms not in found:
                return Absent(f"{' and '.join(arms)} of different seeds not measured")
        _compared(contrast, [one for arms in kinds.values() for one in found[arms].values()])
        return {name: {pair: one.index for pair, one in sorted(found[arms].items())} for name, arms in kinds.items()}

    def remark(self, contrast: Contrast) -> str:
        """Which layers an index leaves out, or an empty text."""
        name = without_variant(contrast.quantity)
        rows = self._rows(contrast.claim, kinds.rows_of(contrast.quantity))
        if name not in kinds.STATES or not kinds.STATES[name].from_start or rows is None:
            return ""
        n_layers = 1 + max(int(label.rpartition("|")[2]) for label in rows["unit_2"].unique())
        left_out = set(range(n_layers)) - set(self._changing(contrast))
        names = [named(str(rows["architecture"].iloc[0]), n_layers)[layer] for layer in sorted(left_out)]
        return f"left out, as they start like they end: {', '.join(names)}" if names else ""

    def _frames(self, contrast: Contrast, arm: str) -> list[pd.DataFrame]:
        where = (contrast.claim, kinds.rows_of(contrast.quantity))

        def frames() -> list[pd.DataFrame]:
            rows = self._rows(*where)
            return [] if rows is None else [frame for _, frame in rows[rows["arm"] == arm].groupby(["seed", "network"], sort=True)]

        return self._once((*where, arm), frames)

    def _of_network(self, contrast: Contrast, frame: pd.DataFrame) -> _Measured:
        """The index of a contrast in the one network of `frame`, its rows of HSICs."""
        network = str(frame["network"].iloc[0])
        key = (contrast.claim, contrast.quantity, str(frame["arm"].iloc[0]), network)
        if key not in self._measured:
            name = without_variant(contrast.quantity)
            evaluate = self._of_states if name in kinds.STATES else self._of_matrix
            try:
                self._measured[key] = evaluate(contrast, frame, name)
            except BadInput as error:
                raise BadInput(f"{_label(contrast)}, network {network}: {error}") from error
        return self._measured[key]

    def _of_matrix(self, contrast: Contrast, frame: pd.DataFrame, name: str) -> _Measured:
        network, architecture, seed = (frame[column].iloc[0] for column in ("network", "architecture", "seed"))
        hsic = self._read(hsic_rows.network, contrast, frame)
        index = kinds.MATRIX.get(name) or partial(kinds.STAGED[name], stages=stages_of(architecture, hsic.cross.shape[1]))
        if contrast.quantity.endswith(f"@{kinds.DECONFOUNDED}"):
            pixels = self._rows(contrast.claim, "hsic_pixels")
            of_network = None if pixels is None else pixels[(pixels["network"] == network) & (pixels["arm"] == frame["arm"].iloc[0])]
            if of_network is None or of_network.empty:
                return _Measured(Absent("similarity to the pixels not measured"))
            hsic = hsic_rows.with_pixels(frame, of_network)
            index = partial(_beyond_last, index)
        if not np.isfinite(index(hsic.matrix())):
            why = indices.why_no_stages(stages_of(architecture, hsic.cross.shape[1])) if name in kinds.STAGED else "too few layers"
            return _Measured(Absent(f"undefined in {architecture}: {why}", applicable=False))
        return _Measured(q.of_index(network, index, hsic), hsic.ids, hsic.cross.shape[1])

    def _of_states(self, contrast: Contrast, frame: pd.DataFrame, name: str) -> _Measured:
        network, found, course = str(frame["network"].iloc[0]), self._read(hsic_rows.states, contrast, frame), kinds.STATES[name]
        pairs, times = (course.pairs, np.zeros(0)) if course.pairs else _epochs(found)
        chosen = [found[pair] for pair in pairs if pair in found]
        if len(chosen) < len(pairs) or not chosen:
            missing = next((f"{a} with {b}" for a, b in pairs if (a, b) not in found), "epochs")
            return _Measured(Absent(f"{missing} not measured"))
        index = partial(course.of, times=times)
        if course.from_start:
            layers = self._changing(contrast)
            if times[0] != 0 or len(layers) < 2:
                why = f"fewer than two layers start below {kinds.SIMILAR_FROM_START:g}"
                return _Measured(Absent("epoch_0 not measured" if times[0] else why, applicable=times[0] != 0))
            index = partial(index, layers=layers)
        return _Measured(q.of_curves(network, index, chosen), chosen[0].ids, chosen[0].cross.shape[1])

    def _changing(self, contrast: Contrast) -> list[int]:
        """The layers that no network of the rows begins with nearly as it ends."""
        starts = []
        rows = self._rows(contrast.claim, kinds.rows_of(contrast.quantity))
        for _, frame in [] if rows is None else rows.groupby(["arm", "network"], sort=True):
            found = self._read(hsic_rows.states, contrast, frame)
            pairs, _ = _epochs(found)
            starts += [found[pairs[0]].same_depth()] if pairs else []
        return np.flatnonzero(np.max(starts, axis=0) <= kinds.SIMILAR_FROM_START).tolist() if starts else []

    def _read(self, read: Callable[[pd.DataFrame], T], contrast: Contrast, frame: pd.DataFrame) -> T:
        """The HSICs of one network, from its rows; read once."""
        key = (contrast.claim, kinds.rows_of(contrast.quantity), *(str(frame[column].iloc[0]) for column in ("arm", "network")))
        return self._once(key, lambda: read(frame))

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _pairs(self, contrast: Contrast) -> Iterator[tuple[tuple[str, str], tuple[int, int], _Measured]]:
        """(arms, seeds, index) of every pair of networks of the contrast's arms that has rows; arms in the contrast's order, then seeds."""
        _, at, variant = contrast.quantity.partition("@")
        where = (contrast.claim, f"hsic_pair{at}{variant}" if kinds.is_index(contrast.quantity) else contrast.quantity)
        rows = self._rows(*where)
        alone, shuffled = self._rows(contrast.claim, "hsic"), None
        if variant == kinds.PROCRUSTES:
            shuffled = self._rows(contrast.claim, contrast.quantity.replace(kinds.PROCRUSTES, kinds.SHUFFLED))
        if alone is None or rows is None:
            return
        known = alone[["network", "arm", "seed"]].drop_duplicates()
        known = known.assign(wanted=known["arm"].isin(contrast.arms)).sort_values(["wanted", "arm"], kind="stable")
        places = {str(network): (str(arm), int(seed)) for network, arm, seed, _ in known.itertuples(index=False)}
        if where not in self._by_pair:
            groups = rows.groupby(["network", rows["unit_2"].str.partition("|")[0]], sort=True)
            self._by_pair[where] = [(str(network), str(partner), frame) for (network, partner), frame in groups]
        for network, partner, frame in self._by_pair[where]:
            for one in (network, partner):
                if one not in places:
                    raise BadInput(
                        f"{_label(contrast)}: network {one} is compared with another, but has no hsic rows of its own: measure it alone too"
                    )
            sides = [places[one] for one in (network, partner)]
            if any(arm not in contrast.arms for arm, _ in sides):
                continue
            (first, a), (last, b) = sorted(sides, key=lambda side: (contrast.arms.index(side[0]), side[1]))
            key = (contrast.claim, contrast.quantity, network, partner)
            if key not in self._measured:
                try:
                    self._measured[key] = _of_pair(contrast.quantity, frame, shuffled)
                except BadInput as error:
                    raise BadInput(f"{_label(contrast)}, networks {network} and {partner}: {error}") from error
            yield (first, last), (a, b), self._measured[key]


def _of_pair(quantity: str, frame: pd.DataFrame, shuffled: pd.DataFrame | None) -> _Measured:
    """The index of a pair of networks, of which `frame` holds the rows; shuffled: rows of all pairs, of Procrustes."""
    name = f"{frame['network'].iloc[0]}, {frame['unit_2'].iloc[0].partition('|')[0]}"
    if not kinds.is_index(quantity):
        values, where = frame.set_index("unit")["value"].sort_index(), ["network", "unit_2"]
        chosen = None if shuffled is None else shuffled[(shuffled[where] == frame[where].iloc[0]).all(axis=1)]
        if chosen is None or chosen.empty:
            return _Measured(Absent(f"{quantity.replace(kinds.PROCRUSTES, kinds.SHUFFLED)} not measured"))
        beyond = values - chosen.set_index("unit")["value"]
        if beyond.isna().any():
            raise BadInput(f"{quantity} and its shuffled rows are of different batches: measure both on the same ones")
        return _Measured(q.of_mean(name, beyond), tuple(beyond.index))
    hsic, index = hsic_rows.pair(frame), kinds.PAIRS[without_variant(quantity)]
    if not np.isfinite(index(hsic.matrix())):
        return _Measured(Absent("only equal depths measured"))
    return _Measured(q.of_index(name, index, hsic), hsic.ids, hsic.cross.shape[1])


def _compared(contrast: Contrast, cells: Sequence[_Measured]) -> None:
    """Raises BadInput where networks or pairs cannot be compared."""
    there = [one for one in cells if isinstance(one.index, NetworkValue)]
    for one in there:
        if (one.batches, one.n_layers) != (there[0].batches, there[0].n_layers):
            raise BadInput(
                f"{_label(contrast)}: networks were measured on {len(there[0].batches)} batches of {there[0].n_layers} layers and on "
                f"{len(one.batches)} of {one.n_layers}: all need the same batches and one architecture"
            )


def _beyond_last(index: Callable[[Array], Array], c: Array) -> Array:
    """An index of the similarities beyond what each layer owes to the last one, the pixels."""
    return index(indices.without_confounder(c[..., :-1, :-1], c[..., :-1, -1]))


def _epochs(found: Mapping[tuple[str, str], BatchHSIC]) -> tuple[tuple[tuple[str, str], ...], Array]:
    """The pairs (epoch_t, the last one) by time, and all times, the last one's too."""
    times = {name: float(name.removeprefix("epoch_")) for pair in found for name in pair if name.startswith("epoch_")}
    last = max(times, key=lambda name: times[name], default="")
    before = sorted((name for name in times if name != last), key=lambda name: times[name])
    return tuple((name, last) for name in before), np.array([times[name] for name in (*before, last) if name])


def _label(contrast: Contrast) -> str:
    return f"{contrast.claim}, {contrast.quantity}"
