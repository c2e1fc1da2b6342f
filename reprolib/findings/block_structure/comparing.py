"""HSICs of every layer pair, batch by batch: within networks, between them, and with what dominates CKA taken away.

Sources: Nguyen et al. 2021 (arXiv 2010.15327) for the first component and for minibatches, Nguyen et al. 2022 (arXiv
2202.07184) for the points of large norm. Removals and controls are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib import store
from reprolib.findings.block_structure.batches import Batches
from reprolib.findings.block_structure.networks import quick
from reprolib.measures.cka import BatchHSIC, FlatGrams, MinibatchCKA, flat_grams
from reprolib.measures.dominance import top_points, top_points_share, without_pc1, without_points
from reprolib.measures.gram import gram
from reprolib.measures.indices import long_range_mean, off_diagonal_mean, stage_contrast, stages_of
from reprolib.measures.procrustes import procrustes_similarity
from reprolib.models.grams import PIXELS, collect, layer_set, pooled_gram, spatial_mean
from reprolib.models.networks import Network

PLAIN, POOLED_MAPS, NO_PC1, NO_TOP = "hsic", "hsic@pooled_maps", "hsic@without_pc1", "hsic@without_top_points"
WIDE = "hsic@wide"
"""All modules, maps and the pixels: what sensitivity to the layer set, and the covariate, are read off."""

Array = NDArray[np.float64]
Report = Callable[[str], None]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Hsics:
    """What `compare` measured, of the networks it was given, in their order.

    layers: names of the L layers of every entry but `WIDE`, whose names are `wide`. within: per network, quantity ->
    HSICs. between: per pair of networks likewise. shares: per network (B, L, 2), share of the variance on the first
    component and of the squared norm on the top points. cosines: (B, L - 1), between first components of neighbours.
    """

    layers: tuple[str, ...]
    wide: tuple[str, ...]
    within: list[dict[str, BatchHSIC]]
    between: dict[Pair, dict[str, BatchHSIC]]
    shares: list[Array]
    cosines: list[Array]


def compare(
    networks: Sequence[Network], pairs: Sequence[Pair], batches: Batches, in_full: bool, report: Report = lambda line: None
) -> Hsics:
    """HSICs within each network of one architecture and between the named pairs; measured once, then read from the cache.

    in_full: also with removals, pooled maps and all modules; else only the plain HSICs (and empty shares).
    """
    layers = layer_set(networks[0])
    wide = (PIXELS, *layer_set(networks[0], "modules")) if in_full else layers
    described = batches.describe() | {
        "networks": [network.sha256 for network in networks], "pairs": [list(pair) for pair in pairs],
        "layers": list(wide), "in_full": in_full,
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{', '.join(network.card['name'] for network in networks)}: comparing layers on {batches.count} batches of {batches.n}")
        return _measured(networks, pairs, batches, layers, wide, in_full)

    kept = {name: tensor.numpy() for name, tensor in store.cache("block_structure", described, compute).items()}
    names = tuple(bytes(kept["names"].tolist()).decode().split("\n"))
    quantities = (PLAIN, POOLED_MAPS, NO_PC1, NO_TOP) if in_full else (PLAIN,)
    within = [
        {name: _hsic(kept, f"{k} {name}", batches.n) for name in (*quantities, *((WIDE,) if in_full else ()))} for k in range(len(networks))
    ]
    between = {pair: {name: _hsic(kept, f"{pair} {name}", batches.n) for name in quantities} for pair in pairs}
    shares = [kept[f"{k} shares"] for k in range(len(networks))] if in_full else []
    cosines = [kept[f"{k} cosines"] for k in range(len(networks))] if in_full else []
    return Hsics(layers, names, within, between, shares, cosines)


def chosen(hsic: BatchHSIC, x: Sequence[int], y: Sequence[int] | None = None) -> BatchHSIC:
    """The HSICs of some layers, in the order of x, with those of y (absent: x again)."""
    rows, columns = list(x), list(x if y is None else y)
    return BatchHSIC(hsic.n, hsic.cross[:, rows][:, :, columns], hsic.own_x[:, rows], hsic.own_y[:, columns], hsic.ids)


@dataclass(frozen=True)
class Rotated:
    """Procrustes: per network index -> its values (B,), those that are defined; per pair of networks the mean at equal depth (B,)."""

    within: list[dict[str, Array]]
    between: dict[Pair, Array]


def rotate(networks: Sequence[Network], pairs: Sequence[Pair], batches: Batches, report: Report = lambda line: None) -> Rotated:
    """The second metric: orthogonal Procrustes on spatially averaged features, minus its value for shuffled rows."""
    layers = layer_set(networks[0])
    stages = stages_of(layers)
    described = batches.describe() | {
        "procrustes": [network.sha256 for network in networks], "pairs": [list(pair) for pair in pairs],
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{', '.join(network.card['name'] for network in networks)}: Procrustes on {batches.count} batches of {batches.n}")
        own, across, running = [], [], [quick(network) for network in networks]
        for x in batches:
            kept = [[*collect(network, x, layers, reduce=spatial_mean).values()] for network in running]
            own.append(np.stack([procrustes_similarity(one) for one in kept]))
            across.append(
                [np.mean([procrustes_similarity([x], [y])[0, 0] for x, y in zip(kept[a], kept[b], strict=True)]) for a, b in pairs]
            )
        return {"own": torch.from_numpy(np.stack(own)), "across": torch.tensor(across, dtype=torch.float64)}

    kept = {name: tensor.numpy() for name, tensor in store.cache("block_structure", described, compute).items()}
    within = []
    for k in range(len(networks)):
        own = kept["own"][:, k]
        found = {
            "off_diagonal_mean": off_diagonal_mean(own),
            "long_range_mean": long_range_mean(own),
            "stage_contrast": stage_contrast(own, stages),
        }
        within.append({index: values for index, values in found.items() if np.isfinite(values).all()})
    return Rotated(within, {pair: kept["across"][:, p] for p, pair in enumerate(pairs)})


def _measured(
    networks: Sequence[Network], pairs: Sequence[Pair], batches: Batches, layers: Sequence[str], wide: Sequence[str], in_full: bool
) -> dict[str, Tensor]:
    found: dict[str, MinibatchCKA] = {}
    names: list[str] = []
    shares: dict[str, list[Tensor]] = {}

    def add(key: str, xs: FlatGrams, ys: FlatGrams | None = None) -> None:
        if key not in found:
            found[key] = MinibatchCKA(len(xs), None if ys is None else len(ys))
        found[key].update_grams(xs, ys)

    running = [network if in_full else quick(network) for network in networks]
    for x in batches:
        sides: list[dict[str, FlatGrams]] = []
        plain_grams: list[list[Tensor]] = []
        for k, network in enumerate(running):
            kept = collect(network, x, wide, reduce=_both if in_full else _alone)
            names = [*kept]
            plain = [kept[name][0] for name in layers]
            side = {PLAIN: flat_grams(plain)}
            if in_full:
                add(f"{k} {WIDE}", flat_grams([both[0] for both in kept.values()]))
                removed = [without_pc1(one) for one in plain]
                side |= {POOLED_MAPS: flat_grams([kept[name][1] for name in layers]), NO_PC1: flat_grams(removed)}
                for name, value in zip(("shares", "cosines"), _dominance(plain, removed), strict=True):
                    shares.setdefault(f"{k} {name}", []).append(value)
                add(f"{k} {NO_TOP}", _without_top(plain, top_points(plain)))
            for name, flat in side.items():
                add(f"{k} {name}", flat)
            sides.append(side)
            plain_grams.append(plain)
        for a, b in pairs:
            for name in sides[a]:
                add(f"{(a, b)} {name}", sides[a][name], sides[b][name])
            if in_full:
                points = top_points([*plain_grams[a], *plain_grams[b]])
                add(f"{(a, b)} {NO_TOP}", *(_without_top(plain_grams[k], points) for k in (a, b)))
    tensors: dict[str, Tensor] = {"names": torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)}
    for key, one in found.items():
        hsic = one.batches()
        for part in ("cross", "own_x", "own_y"):
            tensors[f"{key} {part}"] = torch.from_numpy(getattr(hsic, part))
    return tensors | {key: torch.stack(values) for key, values in shares.items()}


def _both(x: Tensor) -> tuple[Tensor, Tensor]:
    return gram(x), pooled_gram(x)


def _alone(x: Tensor) -> tuple[Tensor]:
    return (gram(x),)


def _without_top(plain: Sequence[Tensor], points: Tensor) -> FlatGrams:
    return flat_grams([without_points(one, points) for one in plain])


def _dominance(plain: Sequence[Tensor], without: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(L, 2) shares and (L - 1,) cosines: what the first component takes is the Gram less the Gram without it, of rank 1."""
    pc1 = [1 - float(rest.trace() / one.trace()) for one, rest in zip(plain, without, strict=True)]
    shares = torch.tensor([[share, top_points_share(one)] for share, one in zip(pc1, plain, strict=True)], dtype=torch.float64)
    first = [one - rest for one, rest in zip(plain, without, strict=True)]
    sizes = [torch.linalg.matrix_norm(one) for one in first]
    cosines = [
        float(((a * b).sum() / (size_a * size_b)).clamp(0, 1).sqrt())
        for a, b, size_a, size_b in zip(first[:-1], first[1:], sizes[:-1], sizes[1:], strict=True)
    ]
    return shares, torch.tensor(cosines, dtype=torch.float64)


def _hsic(kept: dict[str, Array], key: str, n: int) -> BatchHSIC:
    cross = kept[f"{key} cross"]
    return BatchHSIC(np.full(len(cross), n), cross, kept[f"{key} own_x"], kept[f"{key} own_y"], ("",) * len(cross))
