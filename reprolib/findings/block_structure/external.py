"""Somebody else's pair of networks, a ResNet-20 trained plainly and one trained on PGD adversaries, compared as ours are.

Shown beside ours (one seed, no verdict of its own): does the finding hold on a pair that this project did not train? There
is no second seed, so how unlike the two are (BLK-4) has nothing to be held against.
Source of the networks: EhanW/advrob-cifar10 (MIT).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprolib.findings.block_structure import hsic_rows, tidying
from reprolib.findings.block_structure.batches import Batches
from reprolib.findings.block_structure.comparing import PLAIN, compare
from reprolib.measures import indices
from reprolib.models.external import CLAIM, PAIR
from reprolib.models.networks import Network
from reprolib.models.public_networks import RESNET20, build_public

STANDARD, ROBUST = PAIR
Index = Callable[[NDArray[np.float64]], NDArray[np.float64]]

NAMES: dict[str, Index] = {
    "off-diagonal mean": indices.off_diagonal_mean,
    "mean over long range": indices.long_range_mean,
    "stage contrast": partial(indices.stage_contrast, stages=indices.stages_of(build_public(RESNET20).layer_names)),
}
EQUAL_DEPTH = "at equal depth, standard with robust"


def measure(found: dict[str, Network], batches: Batches, report: Callable[[str], None] = lambda line: None) -> list[pd.DataFrame]:
    """Rows under "external": HSICs of the layers of either network, and of the two at equal depth. None without networks."""
    if not found:
        return []
    ours = compare([*found.values()], [(0, 1)], batches, False, report)
    frames = [tidying.plain_rows(CLAIM, arm, network, ours.within[k][PLAIN]) for k, (arm, network) in enumerate(found.items())]
    across = hsic_rows.of_pair(ours.between[0, 1][PLAIN], found[ROBUST].sha256[:12], depths_only=True)
    return [*frames, tidying.rows_of(CLAIM, "hsic_pair", STANDARD, found[STANDARD], across)]


def external_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What the notebook tells of the pair: a line an index, of either network, and robust minus standard.

    rows: any that hold those of "external". An empty frame where they hold none. There is one network of each kind, so no interval: that
    of images alone would tell nothing of other such pairs.
    """
    found = rows[rows["claim"] == CLAIM]
    if found.empty:
        return pd.DataFrame()
    own = found[found["quantity"] == "hsic"]
    matrices = {arm: hsic_rows.network(own[own["arm"] == arm]).matrix() for arm in (STANDARD, ROBUST)}
    table = []
    for name, index in NAMES.items():
        values = [float(index(matrices[arm])) for arm in (STANDARD, ROBUST)]
        table.append((name, *values, values[1] - values[0]))
    across = indices.same_depth_mean(hsic_rows.pair(found[found["quantity"] == "hsic_pair"]).matrix())
    table.append((EQUAL_DEPTH, np.nan, np.nan, float(across)))
    return pd.DataFrame(table, columns=["CKA", "standard", "robust", "difference, or the two together"]).round(3)
