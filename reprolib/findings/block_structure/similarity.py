"""Effects on indices of layer similarity, from rows of batch HSICs: batches are resampled, and the index is taken of every resample.

The indices and their rows are those of `reprolib.findings.block_structure.quantities`, the statistics those of `reprolib.measures.resampling`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprolib.errors import BadInput
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.quantities import DECONFOUNDED, MATRIX, PAIRS, STAGED, STATES, is_index, rows_of
from reprolib.judging.ledger import PAIRED, Contrast
from reprolib.judging.quantities import Absent, without_variant
from reprolib.measures import indices
from reprolib.measures import resampling as r
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.statistics import Effect
from reprolib.measures.verdict_rule import sign_of
from reprolib.models import networks

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Measured:
    """An index of one network or pair, or why there is none, and what it was measured on."""

    index: r.Resampled | Absent
    batches: tuple[str, ...] = ()
    n_layers: int = 0


class Similarities:
    """Indices of all networks of some rows, each evaluated once; rows: claim, quantity -> its rows, or None."""

    def __init__(self, rows: Callable[[str, str], pd.DataFrame | None]) -> None:
        self._rows = rows
        self._hsic: dict[tuple[str, ...], BatchHSIC] = {}
        self._measured: dict[tuple[str, str, str, str], _Measured] = {}

    def effect(self, contrast: Contrast) -> Effect | Absent:
        """The effect of a contrast whose arms all have rows; or why there is none: its index is undefined, or pairs are not there.

        Raises BadInput where networks were not measured on the same batches and equally many layers.
        """
        if contrast.statistic in PAIRED:
            return self._of_pairs(contrast)
        cells = [[self._of_network(contrast, frame) for frame in self._frames(contrast, arm)] for arm in contrast.arms]
        arms = _compared(contrast, cells)
        if isinstance(arms, Absent):
            return arms
        if contrast.statistic == "difference":
            return r.difference_effect(arms[0], arms[1])
        if contrast.statistic == "level":
            return r.level_effect(arms[0], contrast.reference)
        if not set.intersection(*({one.seed for one in arm} for arm in arms)):
            return Absent("no seed has every radius")
        return r.slope_effect(arms, contrast.levels, sign_of(contrast.direction))

    def _frames(self, contrast: Contrast, arm: str) -> list[pd.DataFrame]:
        rows = self._rows(contrast.claim, rows_of(contrast.quantity))
        return [] if rows is None else [frame for _, frame in rows[rows["arm"] == arm].groupby(["seed", "network"], sort=True)]

    def _of_network(self, contrast: Contrast, frame: pd.DataFrame) -> _Measured:
        """The index of a contrast in the one network of `frame`, its rows of HSICs."""
        network = str(frame["network"].iloc[0])
        key = (contrast.claim, contrast.quantity, str(frame["arm"].iloc[0]), network)
        if key not in self._measured:
            name = without_variant(contrast.quantity)
            evaluate = self._of_states if name in STATES else self._of_matrix
            try:
                self._measured[key] = evaluate(contrast, frame, name)
            except BadInput as error:
                raise BadInput(f"{_label(contrast)}, network {network}: {error}") from error
        return self._measured[key]

    def _of_matrix(self, contrast: Contrast, frame: pd.DataFrame, name: str) -> _Measured:
        network, architecture, seed = (frame[column].iloc[0] for column in ("network", "architecture", "seed"))
        hsic = self._own(contrast, frame)
        index = MATRIX.get(name) or partial(STAGED[name], stages=stages_of(architecture, hsic.cross.shape[1]))
        if contrast.quantity.endswith(f"@{DECONFOUNDED}"):
            pixels = self._rows(contrast.claim, "hsic_pixels")
            of_network = None if pixels is None else pixels[(pixels["network"] == network) & (pixels["arm"] == frame["arm"].iloc[0])]
            if of_network is None or of_network.empty:
                return _Measured(Absent("similarity to the pixels not measured"))
            hsic = hsic_rows.with_pixels(frame, of_network)
            index = partial(_beyond_last, index)
        if not np.isfinite(index(hsic.matrix())):
            why = indices.why_no_stages(stages_of(architecture, hsic.cross.shape[1])) if name in STAGED else "too few layers"
            return _Measured(Absent(f"undefined in {architecture}: {why}", applicable=False))
        return _Measured(r.resampled(index, hsic, int(seed)), hsic.ids, hsic.cross.shape[1])

    def _of_states(self, contrast: Contrast, frame: pd.DataFrame, name: str) -> _Measured:
        found, course = hsic_rows.states(frame), STATES[name]
        pairs, times = (course.pairs, np.zeros(0)) if course.pairs else _epochs(found)
        chosen = [found[pair] for pair in pairs if pair in found]
        if len(chosen) < len(pairs) or not chosen:
            missing = next((f"{a} with {b}" for a, b in pairs if (a, b) not in found), "epochs")
            return _Measured(Absent(f"{missing} not measured"))
        return _Measured(
            r.resampled_curves(lambda curves: course.of(curves, times), chosen, int(frame["seed"].iloc[0])),
            chosen[0].ids,
            chosen[0].cross.shape[1],
        )

    def _own(self, contrast: Contrast, frame: pd.DataFrame) -> BatchHSIC:
        key = (contrast.claim, rows_of(contrast.quantity), *(str(frame[column].iloc[0]) for column in ("arm", "network")))
        if key not in self._hsic:
            self._hsic[key] = hsic_rows.network(frame)
        return self._hsic[key]

    def _of_pairs(self, contrast: Contrast) -> Effect | Absent:
        """The statistics of pairs of networks: their similarity within and across the arms, of different seeds only."""
        found: dict[tuple[str, str], dict[tuple[int, int], _Measured]] = {}
        for kind, seeds, one in self._pairs(contrast):
            if seeds[0] == seeds[1]:
                raise BadInput(f"{_label(contrast)}: two networks of seed {seeds[0]} share their initialisation: compare different seeds")
            if seeds in found.setdefault(kind, {}):
                raise BadInput(f"{_label(contrast)}: {' and '.join(kind)} of seeds {seeds} are there twice: keep one pair")
            found[kind][seeds] = one
        first, last = contrast.arms
        kinds = [(first, last)] if contrast.statistic == "alike" else [(first, last), (first, first), (last, last)]
        for kind in kinds:
            if kind not in found:
                return Absent(f"no pair of {' and '.join(kind)} of different seeds")
        ordered = [dict(sorted(found[kind].items())) for kind in kinds]
        measured = _compared(contrast, [[*pairs.values()] for pairs in ordered])
        if isinstance(measured, Absent):
            return measured
        chosen = [dict(zip(pairs, ones, strict=True)) for pairs, ones in zip(ordered, measured, strict=True)]
        return r.alike_effect(chosen[0], contrast.reference) if contrast.statistic == "alike" else r.unlike_effect(*chosen)

    def _pairs(self, contrast: Contrast) -> Iterator[tuple[tuple[str, str], tuple[int, int], _Measured]]:
        """(arms, seeds, index) of every pair of networks of the contrast's arms that has rows; arms in the contrast's order, then seeds."""
        _, at, variant = contrast.quantity.partition("@")
        rows = self._rows(contrast.claim, f"hsic_pair{at}{variant}" if is_index(contrast.quantity) else contrast.quantity)
        alone = self._rows(contrast.claim, "hsic")
        if alone is None or rows is None:
            return
        known = alone[["network", "arm", "seed"]].drop_duplicates()
        known = known.assign(wanted=known["arm"].isin(contrast.arms)).sort_values(["wanted", "arm"], kind="stable")
        places = {str(network): (str(arm), int(seed)) for network, arm, seed, _ in known.itertuples(index=False)}
        partners = rows["unit_2"].str.partition("|")[0]
        for (network, partner), frame in rows.groupby(["network", partners], sort=True):
            for one in (network, partner):
                if one not in places:
                    raise BadInput(
                        f"{_label(contrast)}: network {one} is compared with another, but has no hsic rows of its own: measure it alone too"
                    )
            sides = [places[str(one)] for one in (network, partner)]
            if any(arm not in contrast.arms for arm, _ in sides):
                continue
            (first, a), (last, b) = sorted(sides, key=lambda side: (contrast.arms.index(side[0]), side[1]))
            key = (contrast.claim, contrast.quantity, str(network), str(partner))
            if key not in self._measured:
                try:
                    self._measured[key] = _of_pair(contrast.quantity, frame)
                except BadInput as error:
                    raise BadInput(f"{_label(contrast)}, networks {network} and {partner}: {error}") from error
            yield (first, last), (a, b), self._measured[key]


@cache
def stages_of(architecture: str, n_layers: int) -> tuple[tuple[int, ...], ...]:
    """The layers of each stage of an architecture of the study, its post-activation maps and the pooled features; () where unknown.

    Raises BadInput for another number of layers than it has.
    """
    if architecture not in networks.ARCHITECTURES:
        return ()
    names = networks.build(architecture, 2, [0.5] * 3, [0.5] * 3, seed=0).layer_names
    if n_layers != len(names) + 1:
        raise BadInput(f"{n_layers} layers of {architecture}: rows hold its {len(names)} post-activation maps and the pooled features")
    return tuple(tuple(stage) for stage in indices.stages_of(names))


def _of_pair(quantity: str, frame: pd.DataFrame) -> _Measured:
    """The index of a pair of networks, of which `frame` holds the rows."""
    if not is_index(quantity):
        values = frame.sort_values("unit")
        return _Measured(r.resampled_mean(values["value"]), tuple(values["unit"]))
    hsic, index = hsic_rows.pair(frame), PAIRS[without_variant(quantity)]
    if not np.isfinite(index(hsic.matrix())):
        return _Measured(Absent("only equal depths measured"))
    return _Measured(r.resampled(index, hsic), hsic.ids, hsic.cross.shape[1])


def _compared(contrast: Contrast, arms: Sequence[Sequence[_Measured]]) -> list[list[r.Resampled]] | Absent:
    """The indices of the cells of a contrast, or why one has none. Raises BadInput where they cannot be compared."""
    cells = [one for arm in arms for one in arm]
    for one in cells:
        if isinstance(one.index, Absent):
            return one.index
        if (one.batches, one.n_layers) != (cells[0].batches, cells[0].n_layers):
            raise BadInput(
                f"{_label(contrast)}: networks were measured on {len(cells[0].batches)} batches of {cells[0].n_layers} layers and on "
                f"{len(one.batches)} of {one.n_layers}: all need the same batches and one architecture"
            )
    return [[one.index for one in arm if not isinstance(one.index, Absent)] for arm in arms]


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
