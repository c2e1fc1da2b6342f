"""Rows of batch HSICs with known similarities: a CKA matrix or curve goes in for every network, the verdict is known by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from planting import cards, network, together

from reprolib.findings.block_structure import hsic_rows
from reprolib.measures.cka import BatchHSIC

SHUFFLED = 0.05  # Procrustes similarity with shuffled rows, everywhere
L = 14  # layers of net14: the stem, three stages of four, the pooled features
STAGES = ((1, 5), (5, 9), (9, 13))
N = 8  # batches: the fewest for a verdict

Array = NDArray[np.float64]
Levels = Mapping[str, Sequence[float]]
SEEDS = 3


def matrix(mean: float, contrast: float = 0.0, n_layers: int = L) -> Array:
    """A CKA matrix with that off-diagonal mean, in which layers of one stage are more alike by `contrast`."""
    c = np.zeros((n_layers, n_layers))
    for start, end in STAGES if n_layers == L else ():
        c[start:end, start:end] = contrast
    c += mean - c[np.triu_indices(n_layers, k=1)].mean()
    np.fill_diagonal(c, 1)
    return c


def hsic_of(c: Array, salt: str, n: int = N, noise: float = 0.004, own: float = 1.0) -> BatchHSIC:
    """HSICs of n batches whose CKA is about c (Lx, Ly): noise shared by all networks, some of their own, layers of different sizes."""
    shared, alone = np.random.default_rng(1), np.random.default_rng([*salt.encode()])
    scale = np.exp(0.02 * shared.normal(size=(n, 1)) + 0.005 * alone.normal(size=(n, c.shape[0]))) * np.linspace(1, 3, c.shape[0])
    found = c + noise * shared.normal(size=(n, 1, 1)) + noise / 4 * alone.normal(size=(n, *c.shape))
    found = (found + found.swapaxes(1, 2)) / 2
    if own:
        found[:, np.arange(len(c)), np.arange(len(c))] = own
    return BatchHSIC(np.full(n, 50), found * scale[:, :, None] * scale[:, None, :], scale**2, scale**2, ("",) * n)


def as_rows(claim: str, quantity: str, arm: str, seed: int, table: pd.DataFrame, architecture: str = "net14") -> pd.DataFrame:
    """Tidy rows of one network."""
    who = {"recipe": f"recipe_{arm}", "architecture": architecture, "seed": seed, "network": network(arm, seed)}
    return table.assign(claim=claim, quantity=quantity, arm=arm, reached=True, **who)


def alone(claim: str, means: Levels, contrasts: Mapping[str, float], quantity: str = "hsic", n: int = N, n_layers: int = L) -> pd.DataFrame:
    """The HSICs of networks with themselves: arm -> off-diagonal mean of each seed, and the arm's stage contrast."""
    return together(
        *(
            as_rows(
                claim,
                quantity,
                arm,
                seed,
                hsic_rows.of_network(hsic_of(matrix(mean, contrasts.get(arm, 0.2), n_layers), f"{arm}{seed}{quantity}", n)),
            )
            for arm, values in means.items()
            for seed, mean in enumerate(values)
        )
    )


def kinds(across: float, standard: float, robust: float) -> list[tuple[tuple[str, int], tuple[str, int], float]]:
    """Every pair of networks of different seeds, with its level: within either arm, and across."""
    within = [
        ((arm, a), (arm, b), level)
        for arm, level in (("standard", standard), ("robust", robust))
        for a in range(SEEDS)
        for b in range(a + 1, SEEDS)
    ]
    return within + [(("standard", a), ("robust", b), across + 0.002 * a) for a in range(SEEDS) for b in range(SEEDS) if a != b]


def pairs(across: float, standard: float, robust: float, quantity: str = "hsic_pair", depths_only: bool = True) -> pd.DataFrame:
    """Pairs of networks of different seeds with that mean similarity at equal depth."""
    frames = []
    for first, second, level in kinds(across, standard, robust):
        c = np.full((L, L), level - 0.2)
        np.fill_diagonal(c, level)
        table = hsic_rows.of_pair(hsic_of(c, f"{first}{second}{quantity}", own=0), network(*second), depths_only)
        frames.append(as_rows("BLK-1", quantity, *first, table))
    return together(*frames)


def per_batch(quantity: str, levels: Levels) -> pd.DataFrame:
    """One number a batch: arm -> level of each seed."""
    frames = []
    for arm, values in levels.items():
        for seed, level in enumerate(values):
            noise = 0.003 * np.random.default_rng(seed).normal(size=N)
            table = pd.DataFrame({"unit": [f"batch {b:03d}" for b in range(N)], "unit_2": "", "value": level + noise})
            frames += [
                as_rows("BLK-1", quantity, arm, seed, table),
                as_rows("BLK-1", f"{quantity}_shuffled", arm, seed, table.assign(value=SHUFFLED)),
            ]
    return together(*frames)


def pairs_per_batch(quantity: str, across: float, standard: float, robust: float) -> pd.DataFrame:
    """One number a batch of each pair of networks of different seeds."""
    frames = []
    for first, second, level in kinds(across, standard, robust):
        values = level + 0.003 * np.random.default_rng([*f"{first}{second}".encode()]).normal(size=N)
        table = pd.DataFrame({"unit": [f"batch {b:03d}" for b in range(N)], "unit_2": network(*second), "value": values})
        frames += [
            as_rows("BLK-1", quantity, *first, table),
            as_rows("BLK-1", f"{quantity}_shuffled", *first, table.assign(value=SHUFFLED)),
        ]
    return together(*frames)


def states(claim: str, curves: Mapping[str, Sequence[Mapping[tuple[str, str], Array]]], n: int = N) -> pd.DataFrame:
    """States of networks at equal depth: arm -> for each seed (state, state) -> CKA at every depth (L,)."""
    frames = []
    for arm, seeds in curves.items():
        for seed, of_seed in enumerate(seeds):
            found = {pair: hsic_of(np.diag(curve), f"{arm}{seed}{claim}", n, own=0) for pair, curve in of_seed.items()}
            frames.append(as_rows(claim, "hsic_states", arm, seed, hsic_rows.of_states(found)))
    return together(*frames)


def line(first: float, last: float) -> Array:
    """A curve over depth, straight."""
    return np.linspace(first, last, L)


def depth_family(
    means: Levels | None = None,
    contrasts: Mapping[str, float] | None = None,
    without: Mapping[str, Levels] | None = None,
    similar: Sequence[float] = (0.3, 0.7, 0.8),
    similar_without: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """Rows of BLK-1 to BLK-4 and BLK-9, all supported unless told otherwise.

    means, contrasts: of the arms. without: variant -> means where they differ from those. similar: at equal depth, across the
    arms, within the standard and within the robust one; similar_without: likewise by variant.
    """
    means = means or {"standard": [0.4, 0.41, 0.405], "robust": [0.6, 0.61, 0.605]}
    contrasts = contrasts or {"standard": 0.3, "robust": 0.1}
    frames = [alone("BLK-1", means, contrasts), pairs(*similar)]
    for variant in ("without_pc1", "without_top_points"):
        frames.append(alone("BLK-1", (without or {}).get(variant, means), contrasts, f"hsic@{variant}"))
        frames.append(pairs(*(similar_without or {}).get(variant, similar), f"hsic_pair@{variant}"))
    rotated = (without or {}).get("procrustes", means)
    for index in ("off_diagonal_mean", "long_range_mean"):
        frames.append(per_batch(f"{index}@procrustes", rotated))
    frames.append(per_batch("stage_contrast@procrustes", {arm: [value] * SEEDS for arm, value in contrasts.items()}))
    frames.append(pairs_per_batch("same_depth_mean@procrustes", *(similar_without or {}).get("procrustes", similar)))
    return together(*frames)


CONTROL_ARMS = ("gauss", "blur", "std_matched", "untrained")


def control_family(
    robust: Sequence[float] = (0.6, 0.61, 0.605),
    control: Sequence[float] = (0.41, 0.42, 0.415),
    small: Sequence[float] = (0.5, 0.51, 0.505),
    contrast: float = 0.1,
) -> pd.DataFrame:
    """Rows of BLK-8 and of control networks, that are like standard ones, unless told otherwise; contrast: of the robust arm, .3 elsewhere."""
    means = {"standard": [0.4, 0.41, 0.405], "robust_small": small, "robust": robust, **dict.fromkeys(CONTROL_ARMS, control)}
    return alone("BLK-10", means, {**dict.fromkeys(means, 0.3), "robust": contrast})


def good_cards() -> pd.DataFrame:
    """Networks that differ as adversarial training makes them differ, and whose clean accuracies are 10 points apart."""
    return cards({"standard": 0.05, "robust_small": 0.4, "robust": 0.6}, seeds=SEEDS).assign(architecture="net14")
