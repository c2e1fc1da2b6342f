"""HSICs of every layer pair, batch by batch: within networks, between them, and with what dominates CKA taken away.

Sources: Nguyen et al. 2021 (arXiv 2010.15327) for the first component and for minibatches, Nguyen et al. 2022 (arXiv
2202.07184) for the points of large norm. Removals and controls are this project's.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib import data, store
from reprolib.data import Images
from reprolib.errors import MissingData
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.batches import Batches, layer_batches
from reprolib.findings.block_structure.networks import ARMS, FASHION, Compared, Nets, listed, seed_of
from reprolib.findings.block_structure.question import Question, as_tensor, from_tensor, grams
from reprolib.findings.block_structure.rows import DEPTH, RADII, measuring, per_batch, plain, tidied
from reprolib.measures.cka import BatchHSIC, FlatGrams, MinibatchCKA, flat_grams
from reprolib.measures.dominance import top_points, top_points_share, without_pc1, without_points
from reprolib.measures.gram import gram
from reprolib.models.networks import Network
from reprolib.study import Study

PLAIN, NO_PC1, NO_TOP, PIXELS = "hsic", "hsic@without_pc1", "hsic@without_top_points", "hsic_pixels"
IN_FULL = (PLAIN, NO_PC1, NO_TOP)
CONTROLS_PAIRED = ("gauss", "blur", "std_matched")
"""Roles whose likeness to standard networks is measured."""
N_PAIRED = 3  # networks a role in those pairs

Array = NDArray[np.float64]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Hsics:
    """What `compare` measured, of the networks it was given, in their order.

    layers: names of the L layers. within: per network, quantity -> HSICs; those with the pixels are (B, L, 1). between: per pair of
    networks likewise, without the pixels. shares: per network (B, L, 2), share of the variance on the first component and of the
    squared norm on the top points. cosines: (B, L - 1), between first components of neighbours.
    """

    layers: tuple[str, ...]
    within: list[dict[str, BatchHSIC]]
    between: dict[Pair, dict[str, BatchHSIC]]
    shares: list[Array]
    cosines: list[Array]


@measuring
def arms(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows of the deep networks: of both arms in full and in pairs of different seeds, of the others the plain HSICs.

    Controls are compared with standard networks of other seeds too: blur alone may make a network unlike those.
    """
    in_full = listed(nets.deep, ARMS)
    frames = []
    if in_full:
        measured = _of_arms(nets, question)
        for k, (role, network) in enumerate(in_full):
            frames += _rows(role, network, measured, k)
        frames += _pairs(DEPTH, in_full, measured)
    paired, hsics = _paired(nets, nets.deep, CONTROLS_PAIRED, question)
    frames += _pairs(DEPTH, paired, hsics)
    beside = {role: nets.deep[role] for role in nets.deep if role not in ARMS}
    return frames + _alone(DEPTH, nets, beside, question, _known(paired, hsics))


@measuring
def roles(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows of the plain HSICs of every role in the scale's own architecture, and of the second data set's networks.

    Where that is not the deep architecture, also of pairs of standard networks with each other and with robust and control ones.
    """
    in_full = listed(nets.deep, ARMS)
    known = _known(in_full, _of_arms(nets, question)) if in_full else {}
    wanted = CONTROLS_PAIRED if nets.main_is_deep else (*ARMS, *CONTROLS_PAIRED)
    paired, hsics = _paired(nets, nets.main, wanted, question)
    frames = _alone(RADII, nets, nets.main, question, _known(paired, hsics) | known)
    if not nets.main_is_deep:
        frames += _pairs(RADII, paired, hsics)
    second = _second_images(nets.study) if listed(nets.fashion) else None
    return frames + ([] if second is None else _alone(RADII, nets, nets.fashion, question, {}, second, "hsic@fashion"))


def pairs_of(networks: Sequence[tuple[str, Network]]) -> list[Pair]:
    """Every pair of networks of different seeds: within the standard arm, within the robust one, and across (standard first)."""
    pairs = []
    for a, (role_a, one) in enumerate(networks):
        for b, (role_b, other) in enumerate(networks):
            is_within = role_a == role_b and seed_of(one) < seed_of(other)
            if is_within or ((role_a, role_b) == ARMS and _apart(networks, a, b)):
                pairs.append((a, b))
    return pairs


def compare(networks: Sequence[Network], pairs: Sequence[Pair], batches: Batches, question: Question, in_full: bool) -> Hsics:
    """HSICs within each network of one architecture and between the named pairs; measured once, then read from the cache.

    in_full: also with removals and with the pixels; else only the plain HSICs (and empty shares).
    """
    described = batches.describe() | {
        "networks": [network.sha256 for network in networks],
        "pairs": [list(pair) for pair in pairs],
        "in_full": in_full,
    }

    def compute() -> dict[str, Tensor]:
        batches.report(
            f"{', '.join(network.card['name'] for network in networks)}: comparing layers on {batches.count} batches of {batches.n}"
        )
        return _measured(networks, pairs, batches, question, in_full)

    kept = store.cache("block_structure", described, compute)
    every, alone = (IN_FULL, (PIXELS,)) if in_full else ((PLAIN,), ())
    order = range(len(networks))
    within = [{name: hsic_rows.from_tensors(kept, f"{k} {name}", batches.n) for name in (*every, *alone)} for k in order]
    between = {pair: {name: hsic_rows.from_tensors(kept, f"{pair} {name}", batches.n) for name in every} for pair in pairs}
    shares, cosines = ([kept[f"{k} {name}"].numpy() for k in order] if in_full else [] for name in ("shares", "cosines"))
    return Hsics(from_tensor(kept["layers"]), within, between, shares, cosines)


def _of_arms(nets: Compared, question: Question) -> Hsics:
    in_full = listed(nets.deep, ARMS)
    return compare([one for _, one in in_full], pairs_of(in_full), layer_batches(nets.study), question, True)


def _paired(nets: Compared, of_roles: Nets, wanted: Sequence[str], question: Question) -> tuple[list[tuple[str, Network]], Hsics]:
    """The first networks of some roles and of the standard one, and the plain HSICs of pairs with a standard network of another seed."""
    order = ("standard", *(role for role in wanted if role != "standard"))
    few = [(role, network) for role in order for network in of_roles.get(role, ())[:N_PAIRED]]
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(few)), 2)
        if few[a][0] == "standard" and few[b][0] in wanted and _apart(few, a, b)
    ]
    if not pairs:
        return [], Hsics((), [], {}, [], [])
    return few, compare([network for _, network in few], pairs, layer_batches(nets.study), question, False)


def _apart(networks: Sequence[tuple[str, Network]], a: int, b: int) -> bool:
    """Whether two networks have different seeds: those of one share their initialisation, and are never compared."""
    return seed_of(networks[a][1]) != seed_of(networks[b][1])


def _known(networks: Sequence[tuple[str, Network]], measured: Hsics) -> dict[str, BatchHSIC]:
    """The plain HSICs of networks that were measured already, by sha256."""
    return {network.sha256: own[PLAIN] for (_, network), own in zip(networks, measured.within, strict=True)}


def _alone(
    claim: str,
    nets: Compared,
    of_roles: Nets,
    question: Question,
    known: Mapping[str, BatchHSIC],
    images: Images | None = None,
    quantity: str = PLAIN,
) -> list[pd.DataFrame]:
    """Rows of the plain HSICs of every network; known: those measured already."""
    frames = []
    for role, network in listed(of_roles):
        hsic = known.get(network.sha256)
        if hsic is None:
            hsic = compare([network], [], layer_batches(nets.study, images), question, False).within[0][PLAIN]
        frames.append(plain(claim, role, network, hsic, quantity))
    return frames


def _pairs(claim: str, networks: Sequence[tuple[str, Network]], measured: Hsics) -> list[pd.DataFrame]:
    """What is kept of pairs: equal depths, in the rows of the first of each pair."""
    frames = []
    for (a, b), hsics in measured.between.items():
        (role, network), partner = networks[a], networks[b][1].sha256[:12]
        for name, hsic in hsics.items():
            table = hsic_rows.of_pair(hsic, partner, depths_only=True)
            frames.append(tidied(claim, name.replace("hsic", "hsic_pair"), role, network, table))
    return frames


def _rows(role: str, network: Network, measured: Hsics, k: int) -> list[pd.DataFrame]:
    """What is kept of network k of those compared in full."""
    own = measured.within[k]
    frames = [plain(DEPTH, role, network, own[name], name) for name in IN_FULL]
    frames.append(tidied(DEPTH, PIXELS, role, network, hsic_rows.of_pixels(own[PIXELS])))
    by_layer = {
        "pc1_share": measured.shares[k][:, :, 0],
        "top_points_share": measured.shares[k][:, :, 1],
        "pc1_cosine": measured.cosines[k],
    }
    for quantity, values in by_layer.items():
        frames += [tidied(DEPTH, quantity, role, network, per_batch(of_layer, str(layer))) for layer, of_layer in enumerate(values.T)]
    return frames


def _second_images(study: Study) -> Images | None:
    try:
        return study.reads(data.load(FASHION, "test"))
    except MissingData as error:
        print(f"{FASHION} is left out: {error}")
        return None


def _measured(networks: Sequence[Network], pairs: Sequence[Pair], batches: Batches, question: Question, in_full: bool) -> dict[str, Tensor]:
    sums: dict[str, MinibatchCKA] = {}
    layers: tuple[str, ...] = ()
    shares: dict[str, list[Tensor]] = {}

    def add(key: str, xs: FlatGrams, ys: FlatGrams | None = None) -> None:
        if key not in sums:
            sums[key] = MinibatchCKA(len(xs), None if ys is None else len(ys))
        sums[key].update_grams(xs, ys)

    for x in batches:
        sides: list[dict[str, FlatGrams]] = []
        plain_grams: list[list[Tensor]] = []
        for k, network in enumerate(networks):
            kept = grams(question, network, x)
            layers, of_layers = tuple(kept), [*kept.values()]
            side = {PLAIN: flat_grams(of_layers)}
            if in_full:
                removed = [without_pc1(one) for one in of_layers]
                side[NO_PC1] = flat_grams(removed)
                for name, value in zip(("shares", "cosines"), _dominance(of_layers, removed), strict=True):
                    shares.setdefault(f"{k} {name}", []).append(value)
                add(f"{k} {NO_TOP}", _without_top(of_layers, top_points(of_layers)))
                add(f"{k} {PIXELS}", side[PLAIN], flat_grams([gram(x)]))
            for name, flat in side.items():
                add(f"{k} {name}", flat)
            sides.append(side)
            plain_grams.append(of_layers)
        for a, b in pairs:
            for name in sides[a]:
                add(f"{(a, b)} {name}", sides[a][name], sides[b][name])
            if in_full:
                points = top_points([*plain_grams[a], *plain_grams[b]])
                add(f"{(a, b)} {NO_TOP}", *(_without_top(plain_grams[k], points) for k in (a, b)))
    tensors: dict[str, Tensor] = {"layers": as_tensor(layers)}
    tensors |= hsic_rows.as_tensors({key: one.batches() for key, one in sums.items()})
    return tensors | {key: torch.stack(values) for key, values in shares.items()}


def _without_top(of_layers: Sequence[Tensor], points: Tensor) -> FlatGrams:
    return flat_grams([without_points(one, points) for one in of_layers])


def _dominance(of_layers: Sequence[Tensor], without: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(L, 2) shares and (L - 1,) cosines: what the first component takes is the Gram less the Gram without it, of rank 1."""
    pc1 = [1 - float(rest.trace() / one.trace()) for one, rest in zip(of_layers, without, strict=True)]
    shares = torch.tensor([[share, top_points_share(one)] for share, one in zip(pc1, of_layers, strict=True)], dtype=torch.float64)
    first = [one - rest for one, rest in zip(of_layers, without, strict=True)]
    sizes = [torch.linalg.matrix_norm(one) for one in first]
    cosines = [
        float(((a * b).sum() / (size_a * size_b)).clamp(0, 1).sqrt())
        for a, b, size_a, size_b in zip(first[:-1], first[1:], sizes[:-1], sizes[1:], strict=True)
    ]
    return shares, torch.tensor(cosines, dtype=torch.float64)
