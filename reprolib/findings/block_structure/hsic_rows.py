"""Batch HSICs as rows of (unit, unit_2, value), from which similarities, indices and intervals are rebuilt without the networks.

unit is the batch; unit_2 says whose HSIC with whom. Every value is divided by the square root of both layers' own HSICs, averaged
over batches: CKA does not notice, and the mean of the rows of a pair of layers IS its CKA (but for the rounding of files).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.gram import LEAST_SAMPLES

LACKING = "HSIC rows lack a whole side: a pair of networks, or of states, holds itself and both sides"

Array = NDArray[np.float64]

PARTS = ("cross", "own_x", "own_y")


def as_tensors(hsics: Mapping[Any, BatchHSIC]) -> dict[str, Tensor]:
    """What the measurement cache keeps of HSICs, each under its key."""
    return {f"{key} {part}": torch.from_numpy(np.ascontiguousarray(getattr(hsic, part))) for key, hsic in hsics.items() for part in PARTS}


def from_tensors(kept: Mapping[str, Tensor], key: object, n: int) -> BatchHSIC:
    """The HSICs that were kept under a key, of batches of n."""
    cross, own_x, own_y = (kept[f"{key} {part}"].numpy() for part in PARTS)
    return BatchHSIC(np.full(len(cross), n), cross, own_x, own_y, ("",) * len(cross))


def of_network(hsic: BatchHSIC) -> pd.DataFrame:
    """A network with itself: unit_2 "i|j", i <= j, layers in execution order.

    Raises BadInput for batches of different sizes and layers without HSIC, here and below.
    """
    values = _scaled(hsic)
    pairs = [(i, j) for i in range(values.shape[1]) for j in range(i, values.shape[2])]
    return _frame({f"{i}|{j}": values[:, i, j] for i, j in pairs})


def of_pixels(hsic: BatchHSIC) -> pd.DataFrame:
    """The layers of a network (x) with the images themselves (y, one layer): unit_2 "i|pixels", and "pixels|pixels"."""
    values = _scaled(hsic)
    own = hsic.own_y[:, 0] / hsic.own_y[:, 0].mean()
    return _frame({**{f"{i}|pixels": values[:, i, 0] for i in range(values.shape[1])}, "pixels|pixels": own})


def of_pair(hsic: BatchHSIC, partner: str, depths_only: bool = False) -> pd.DataFrame:
    """A network (x, whose rows they are) with another (y): unit_2 "partner|i|j", or with `depths_only` just "partner|i|i".

    partner: the other network's key. Either side's own HSICs are "partner|x|i" and "partner|y|i": a pair may leave out other examples
    than each network alone.
    """
    values = _scaled(hsic)
    places = [(i, j) for i in range(values.shape[1]) for j in range(values.shape[2]) if i == j or not depths_only]
    columns = {f"{partner}|{i}|{j}": values[:, i, j] for i, j in places}
    for side, own in (("x", hsic.own_x), ("y", hsic.own_y)):
        columns |= {f"{partner}|{side}|{i}": one for i, one in enumerate((own / own.mean(axis=0)).T)}
    return _frame(columns)


def of_states(pairs: Mapping[tuple[str, str], BatchHSIC]) -> pd.DataFrame:
    """States of one network (checkpoints, kinds of images) compared at equal depth: unit_2 "a|b|i", and "a|a|i" for the own HSICs.

    pairs: (name of x, name of y) -> their HSICs.
    """
    found: dict[str, Array] = {}
    for (a, b), hsic in pairs.items():
        cross = np.diagonal(_scaled(hsic), axis1=1, axis2=2)
        own = {a: hsic.own_x / hsic.own_x.mean(axis=0), b: hsic.own_y / hsic.own_y.mean(axis=0)}
        found |= {f"{a}|{b}|{i}": cross[:, i] for i in range(cross.shape[1])}
        found |= {f"{state}|{state}|{i}": values[:, i] for state, values in own.items() for i in range(values.shape[1])}
    return _frame(found)


def network(rows: pd.DataFrame) -> BatchHSIC:
    """The inverse of `of_network`, up to each layer's scale, which no similarity depends on."""
    batches, found = _grid(rows)
    cross = {_places(label): values for label, values in found.items()}
    n = max(max(pair) for pair in cross) + 1
    cube = np.empty((len(batches), n, n))
    for i, j in zip(*np.triu_indices(n), strict=True):
        cube[:, i, j] = cube[:, j, i] = _column(cross, (int(i), int(j)), "")
    own = np.diagonal(cube, axis1=1, axis2=2)
    return _hsic(batches, cube, own, own)


def with_pixels(rows: pd.DataFrame, pixels: pd.DataFrame) -> BatchHSIC:
    """A network's HSICs from the rows of `of_network` and of `of_pixels`, the pixels as a further, last layer."""
    layers = network(rows)
    last = str(layers.cross.shape[1])
    return network(pd.concat([rows, pixels.assign(unit_2=pixels["unit_2"].str.replace("pixels", last))], ignore_index=True))


def pair(rows: pd.DataFrame) -> BatchHSIC:
    """The inverse of `of_pair`, from the rows of one partner; NaN at unequal depths that have no rows."""
    batches, found = _grid(rows)
    sides: dict[str, dict[tuple[int, ...], Array]] = {"x": {}, "y": {}, "": {}}
    for label, values in found.items():
        place = label.partition("|")[2]
        side = place[:1] if place[:1] in ("x", "y") else ""
        sides[side][_places(place[2:] if side else place)] = values
    if not all(sides.values()):
        raise BadInput(LACKING)
    x, y = (np.column_stack([_column(sides[side], (i,), side) for i in range(len(sides[side]))]) for side in "xy")
    cross = sides[""]
    cube = np.full((len(batches), x.shape[1], y.shape[1]), np.nan)
    for i, j in cross.keys() | {(i, i) for i in range(min(cube.shape[1:]))}:
        if i >= cube.shape[1] or j >= cube.shape[2]:
            raise BadInput(f"HSIC rows of a pair of networks name layers {i}|{j}, they have {cube.shape[1]} and {cube.shape[2]}")
        cube[:, i, j] = _column(cross, (i, j), "")
    return _hsic(batches, cube, x, y)


def states(rows: pd.DataFrame) -> dict[tuple[str, str], BatchHSIC]:
    """The inverse of `of_states`: HSICs of each pair of states, at equal depths only."""
    batches, labelled = _grid(rows)
    layers: dict[str, dict[tuple[int, ...], Array]] = {}
    for label, values in labelled.items():
        name, _, layer = label.rpartition("|")
        layers.setdefault(name, {})[_places(layer)] = values
    found = {name: np.column_stack([_column(of, (i,), name) for i in range(len(of))]) for name, of in sorted(layers.items())}
    out = {}
    for name, cross in found.items():
        a, _, b = name.partition("|")
        if a == b:
            continue
        own = [found.get(f"{state}|{state}") for state in (a, b)]
        for state, one in zip((a, b), own, strict=True):
            if one is None or one.shape != cross.shape:
                raise BadInput(f"rows of states {name} lack those of {state}|{state} on the same batches and layers")
        out[a, b] = _hsic(batches, cross[:, :, None] * np.eye(cross.shape[1]), *(one for one in own if one is not None))
    return out


def _scaled(hsic: BatchHSIC) -> Array:
    """(B, Lx, Ly) in units of the layers' own mean HSICs."""
    if len(set(hsic.n.tolist())) != 1:
        raise BadInput(f"batches have {sorted(set(hsic.n.tolist()))} examples: rows need equal batches: leave the smaller remainder out")
    scale = np.sqrt(hsic.own_x.mean(axis=0).clip(min=0))[:, None] * np.sqrt(hsic.own_y.mean(axis=0).clip(min=0))[None, :]
    if not (scale > 0).all():
        raise BadInput("a layer has no HSIC with itself: leave it out of the rows")
    return hsic.cross / scale


def _frame(columns: Mapping[str, Array]) -> pd.DataFrame:
    """One row a batch and label, of values (B,) a label."""
    n = len(next(iter(columns.values())))
    batches = [f"batch {b:03d}" for b in range(n)]
    return pd.DataFrame({"unit": batches * len(columns), "unit_2": np.repeat([*columns], n), "value": np.concatenate([*columns.values()])})


def _grid(rows: pd.DataFrame) -> tuple[tuple[str, ...], dict[str, Array]]:
    """The batches, sorted, and the values (B,) of each label, NaN where a batch lacks it."""
    if rows.empty:
        raise BadInput(LACKING)
    batch, batches = pd.factorize(rows["unit"], sort=True)
    label, labels = pd.factorize(rows["unit_2"], sort=True)
    place = label * len(batches) + batch
    if len(np.unique(place)) < len(place):
        raise BadInput("HSIC rows hold a batch and label twice: keep one")
    values = np.full(len(labels) * len(batches), np.nan)
    values[place] = rows["value"].to_numpy()
    return tuple(map(str, batches)), dict(zip(map(str, labels), values.reshape(len(labels), -1), strict=True))


def _places(label: str) -> tuple[int, ...]:
    """Layer numbers out of "i" or "i|j"."""
    try:
        return tuple(map(int, label.split("|")))
    except ValueError as error:
        raise BadInput(f"unit_2 of HSIC rows joins layer numbers by '|', got one that does not ({error})") from error


def _column(table: Mapping[tuple[int, ...], Array], label: tuple[int, ...], of: str) -> Array:
    values = table.get(label)
    if values is None or not np.isfinite(values).all():
        name = "|".join([*([of] if of else []), *map(str, label)])
        raise BadInput(f"HSIC rows lack {name} in some batch: every batch holds every pair of layers")
    return values


def _hsic(batches: tuple[str, ...], cross: Array, own_x: Array, own_y: Array) -> BatchHSIC:
    n = np.full(len(batches), LEAST_SAMPLES)  # of equal batches: any n gives them equal weights
    return BatchHSIC(n, cross, own_x, own_y, batches)
