"""Procrustes: the second metric, on features averaged over their positions, in batches of at least ten images a feature.

Source: Ding et al. 2021 (arXiv 2108.01661).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib import store
from reprolib.findings.block_structure.batches import Batches, wide_batches
from reprolib.findings.block_structure.comparing import Pair, pairs_of
from reprolib.findings.block_structure.networks import ARMS, Compared, listed
from reprolib.findings.block_structure.question import Question, as_tensor, averages, from_tensor
from reprolib.findings.block_structure.rows import DEPTH, measuring, per_batch, tidied
from reprolib.measures.indices import long_range_mean, off_diagonal_mean, stage_contrast, stages_of
from reprolib.measures.procrustes import procrustes_similarity
from reprolib.models.networks import Network

VARIANTS = ("procrustes", "procrustes_shuffled")

Array = NDArray[np.float64]


Rotated = tuple[list[dict[str, Array]], dict[Pair, dict[str, Array]]]
"""Per network index -> its values (B,), those that are defined; per pair of networks the mean at equal depth (B,).

Twice: as they are ("procrustes"), and with the rows of one side shuffled ("procrustes_shuffled"), which is what chance gives.
"""


@measuring
def measure(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows of both arms: one number a batch, of networks and of pairs of different seeds."""
    arms = listed(nets.deep, ARMS)
    wide = wide_batches(nets.study, max(network.n_features for _, network in arms)) if arms else None
    if wide is None:
        return []
    within, between = rotate([network for _, network in arms], pairs_of(arms), wide, question)
    frames = []
    for (role, network), by_index in zip(arms, within, strict=True):
        frames += [tidied(DEPTH, quantity, role, network, per_batch(values)) for quantity, values in by_index.items()]
    for (a, b), by_index in between.items():
        (role, network), partner = arms[a], arms[b][1].sha256[:12]
        frames += [tidied(DEPTH, quantity, role, network, per_batch(values, partner)) for quantity, values in by_index.items()]
    return frames


def rotate(networks: Sequence[Network], pairs: Sequence[Pair], batches: Batches, question: Question) -> Rotated:
    """Procrustes similarity within each network and, at equal depth, between the named pairs."""
    described = batches.describe() | {"networks": [network.sha256 for network in networks], "pairs": [list(pair) for pair in pairs]}

    def compute() -> dict[str, Tensor]:
        batches.report(f"{', '.join(network.card['name'] for network in networks)}: Procrustes on {batches.count} batches of {batches.n}")
        own, across = [], []
        layers: tuple[str, ...] = ()
        for x in batches:
            sides = []
            for network in networks:
                of_layers = averages(question, network, x)
                layers = tuple(of_layers)
                sides.append([*of_layers.values()])
            own.append(np.stack([_both(side) for side in sides]))
            across.append([np.mean([_both([x], [y])[:, 0, 0] for x, y in zip(sides[a], sides[b], strict=True)], axis=0) for a, b in pairs])
        return {
            "layers": as_tensor(layers),
            "own": torch.from_numpy(np.stack(own)),
            "across": torch.from_numpy(np.array(across).reshape(len(own), len(pairs), 2)),
        }

    kept = store.cache("block_structure", described, compute)
    stages = stages_of(from_tensor(kept["layers"]))
    within = []
    for own in kept["own"].numpy().swapaxes(0, 1):
        by_index: dict[str, Array] = {}
        for variant, values in zip(VARIANTS, own.swapaxes(0, 1), strict=True):
            by_index |= {
                f"off_diagonal_mean@{variant}": off_diagonal_mean(values),
                f"long_range_mean@{variant}": long_range_mean(values),
                f"stage_contrast@{variant}": stage_contrast(values, stages),
            }
        within.append({quantity: values for quantity, values in by_index.items() if np.isfinite(values).all()})
    across = kept["across"].numpy()
    between = {pair: {f"same_depth_mean@{variant}": across[:, p, v] for v, variant in enumerate(VARIANTS)} for p, pair in enumerate(pairs)}
    return within, between


def _both(xs: Sequence[Tensor], ys: Sequence[Tensor] | None = None) -> Array:
    """The similarities (2, Lx, Ly): as they are, and with the rows of one side shuffled."""
    whole = procrustes_similarity(xs, ys, shuffles=0)
    return np.stack([whole, whole - procrustes_similarity(xs, ys)])
