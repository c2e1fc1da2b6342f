"""From HSICs to tidy rows: one table for each group of claims, from which every index and interval is made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.attacking import Attacked
from reprolib.findings.block_structure.comparing import NO_PC1, NO_TOP, PLAIN, POOLED_MAPS, WIDE, Hsics, Pair, Rotated, chosen
from reprolib.findings.block_structure.overfitting import Overfitted
from reprolib.findings.block_structure.settling import Settled
from reprolib.judging.tidy import identity
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.indices import off_diagonal_mean, same_depth_mean, stage_contrast, stages_of
from reprolib.models.grams import PIXELS, layer_set
from reprolib.models.networks import Network
from reprolib.training.cards import under_attack

DEPTH, RADII, OVERFITTING, ADVERSARIAL, SETTLING = "BLK-1", "BLK-10", "BLK-5", "BLK-6", "BLK-7"
"""Claims under which the rows of a group are kept; the ledger says which claims read them."""
FITTED = "overfitting"
"""Rows that the condition `overfitted` reads."""
SHOWN = "shown"
"""Rows that only figures and the explorer read."""

DECIMALS = 4  # of HSICs in units of the layers' own: far below what batches scatter by, and a third of the file

Frames = list[pd.DataFrame]


def rows_of(claim: str, quantity: str, role: str, network: Network, table: pd.DataFrame) -> pd.DataFrame:
    """Tidy rows of one network from a table with columns unit, unit_2 and value."""
    return table.assign(claim=claim, quantity=quantity, **identity(role, network), value=table["value"].round(DECIMALS), reached=True)


def per_unit(values: ArrayLike, unit_2: str = "") -> pd.DataFrame:
    """A table of one number (B,) a batch."""
    values = np.asarray(values, dtype=np.float64)
    return pd.DataFrame({"unit": [f"batch {b:03d}" for b in range(len(values))], "unit_2": unit_2, "value": values})


def whole(values: Mapping[str, float], unit: str = "all") -> pd.DataFrame:
    """A table of single numbers: unit_2 -> value."""
    return pd.DataFrame({"unit": unit, "unit_2": [*values], "value": [*values.values()]})


def plain_rows(claim: str, role: str, network: Network, hsic: BatchHSIC, quantity: str = PLAIN) -> pd.DataFrame:
    """The HSICs of all layers of a network with each other."""
    return rows_of(claim, quantity, role, network, hsic_rows.of_network(hsic))


def depth_rows(role: str, network: Network, found: Hsics, k: int) -> Frames:
    """What is kept of network k of `found`: HSICs plain, without what dominates them, with the pixels; variants a number a batch."""
    own, layers = found.within[k], found.layers
    stages = stages_of(layers)
    rows = partial(rows_of, DEPTH)
    frames = [plain_rows(DEPTH, role, network, own[name], name) for name in (PLAIN, NO_PC1, NO_TOP)]
    places = {name: place for place, name in enumerate(found.wide)}
    with_pixels = chosen(own[WIDE], [places[name] for name in layers], [places[PIXELS]])
    frames.append(rows("hsic_pixels", role, network, hsic_rows.of_pixels(with_pixels)))
    blocks = [layers.index(name) for name in layer_set(network, "blocks")]
    modules = [place for name, place in places.items() if name != PIXELS]
    sets = {"pooled_maps": own[POOLED_MAPS], "blocks": chosen(own[PLAIN], blocks), "modules": chosen(own[WIDE], modules)}
    for name, hsic in sets.items():
        frames.append(rows(f"off_diagonal_mean@{name}", role, network, hsic_rows.of_index(off_diagonal_mean, hsic)))
    if np.isfinite(stage_contrast(own[PLAIN].matrix(), stages)):
        contrast = partial(stage_contrast, stages=stages)
        frames.append(rows("stage_contrast@pooled_maps", role, network, hsic_rows.of_index(contrast, own[POOLED_MAPS])))
    for column, quantity in enumerate(("pc1_share", "top_points_share")):
        frames += [
            rows(quantity, role, network, per_unit(values, str(layer))) for layer, values in enumerate(found.shares[k][:, :, column].T)
        ]
    frames += [rows("pc1_cosine", role, network, per_unit(values, str(layer))) for layer, values in enumerate(found.cosines[k].T)]
    return frames


def pair_rows(arms: Sequence[tuple[str, Network]], found: Hsics) -> Frames:
    """What is kept of the pairs of networks of `found`, in the rows of the first of each pair."""
    frames = []
    for (a, b), hsics in found.between.items():
        role, network = arms[a]
        partner = arms[b][1].sha256[:12]
        for name in (PLAIN, NO_PC1, NO_TOP):
            quantity = name.replace("hsic", "hsic_pair")
            frames.append(rows_of(DEPTH, quantity, role, network, hsic_rows.of_pair(hsics[name], partner, depths_only=name != PLAIN)))
        pooled = hsic_rows.of_index(same_depth_mean, hsics[POOLED_MAPS], partner)
        frames.append(rows_of(DEPTH, "same_depth_mean@pooled_maps", role, network, pooled))
    return frames


def rotated_rows(arms: Sequence[tuple[str, Network]], found: Rotated) -> Frames:
    """Procrustes: one number a batch, of networks and of pairs."""
    frames = []
    for (role, network), by_index in zip(arms, found.within, strict=True):
        frames += [rows_of(DEPTH, f"{index}@procrustes", role, network, per_unit(values)) for index, values in by_index.items()]
    for (a, b), values in found.between.items():
        role, network = arms[a]
        frames.append(rows_of(DEPTH, "same_depth_mean@procrustes", role, network, per_unit(values, arms[b][1].sha256[:12])))
    return frames


def attacked_rows(claim: str, role: str, network: Network, found: Attacked) -> Frames:
    """Clean against moved images at equal depth; and, shown, how often the moved ones succeed and how large they are."""
    return [
        rows_of(claim, "hsic_states", role, network, hsic_rows.of_states(found.pairs)),
        rows_of(claim, "attack_success", role, network, whole(found.success)),
        rows_of(claim, "attack_scale", role, network, whole(found.scale)),
    ]


def settled_rows(role: str, network: Network, found: Settled) -> Frames:
    """Epochs against the last; and, shown, the CKA of all layers at every epoch."""
    maps = {
        f"epoch_{epoch}|{i}|{j}": float(matrix[i, j])
        for epoch, matrix in found.maps.items() for i in range(len(matrix)) for j in range(i, len(matrix))
    }  # fmt: skip
    return [
        rows_of(SETTLING, "hsic_states", role, network, hsic_rows.of_states(found.pairs)),
        rows_of(SHOWN, "cka", role, network, whole(maps)),
    ]


def overfitted_rows(role: str, found: Overfitted) -> Frames:
    """Best against last, and the pair before; the conditions under which that says anything."""
    network = found.network
    frames = [
        rows_of(OVERFITTING, "hsic_states", role, network, hsic_rows.of_states(found.pairs)),
        rows_of(OVERFITTING, "epochs", role, network, whole({state: float(epoch) for state, epoch in found.epochs.items()})),
        rows_of(FITTED, "train_accuracy", role, network, whole({"last": found.train_accuracy}, "train")),
    ]
    return frames + ([rows_of(FITTED, "adversarial_accuracy", role, network, whole(found.accuracy, "test"))] if found.accuracy else [])


def card_rows(role: str, network: Network, norm: str, eps: float, measured: Callable[[Network], float]) -> pd.DataFrame:
    """What the manipulation check reads: clean accuracy, and accuracy under attack in the ball that the network's arms are compared in.

    measured: gives the accuracy under attack of a network whose card has none in that ball.
    """
    under = under_attack(network.card, norm, eps)
    told = {"clean_accuracy": network.card["clean"]["first_value"], "adversarial_accuracy": measured(network) if under is None else under}
    return pd.concat([rows_of("networks", quantity, role, network, whole({"": value}, "test")) for quantity, value in told.items()])


def size_rows(role: str, network: Network, found: Mapping[tuple[str, int], float]) -> pd.DataFrame:
    """Off-diagonal mean by batch size, shown."""
    return rows_of(SHOWN, "off_diagonal_mean_by_n", role, network, whole({f"{kind}|{n}": value for (kind, n), value in found.items()}))


def gaussian_rows(found: Mapping[tuple[str, int, int], float]) -> pd.DataFrame:
    """CKA of independent Gaussians by batch size, shown; they are no network's."""
    nobody: dict[str, Any] = {"arm": "judge", "recipe": "none", "architecture": "gaussian", "seed": 0, "network": "pixels"}
    table = [
        {"unit": f"draw {draw}", "unit_2": f"{kind}|{n}", "value": value, "claim": SHOWN, "quantity": "gaussian_cka", "reached": True}
        | nobody
        for (kind, n, draw), value in found.items()
    ]
    return pd.DataFrame(table)


def pairs_of(arms: Sequence[tuple[str, Network]], seed_of: Callable[[Network], int]) -> list[Pair]:
    """Every pair of networks of different seeds: within the standard arm, within the robust one, and across (standard first).

    Networks of one seed share their initialisation, so they are never compared.
    """
    found = []
    for a, (role_a, one) in enumerate(arms):
        for b, (role_b, other) in enumerate(arms):
            is_across = (role_a, role_b) == ("standard", "robust")
            is_within = role_a == role_b and seed_of(one) < seed_of(other)
            if (is_across or is_within) and seed_of(one) != seed_of(other):
                found.append((a, b))
    return found
