"""An external pair of networks, a ResNet-20 trained plainly and one trained on PGD adversaries, compared as ours are.

Shown beside ours (one seed, no verdict of its own): does the finding hold on a pair that this project did not train? There
is no second seed, so how unlike the two are (BLK-4) has nothing to be held against.
Source of the networks: EhanW/advrob-cifar10 (MIT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprolib.findings.block_structure import committed, hsic_rows
from reprolib.findings.block_structure.batches import Batches, layer_batches
from reprolib.findings.block_structure.comparing import PLAIN, compare
from reprolib.findings.block_structure.networks import Compared, stages_of
from reprolib.findings.block_structure.question import Question
from reprolib.findings.block_structure.rows import measuring, plain, tidied
from reprolib.measures import indices
from reprolib.models import external as published
from reprolib.models.external import CLAIM, PAIR
from reprolib.models.networks import Network
from reprolib.models.public_networks import RESNET20

STANDARD, ROBUST = PAIR
INDICES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "off-diagonal mean": indices.off_diagonal_mean,
    "mean over long range": indices.long_range_mean,
    "stage contrast": lambda c: indices.stage_contrast(c, stages_of(RESNET20.architecture, c.shape[-1])),
}
EQUAL_DEPTH = "at equal depth, standard with robust"


@measuring
def measure(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows of the external pair, where the study is of the images it was trained on; committed ones where its files are not here."""
    if nets.study.only_mine or nets.study.settings.scale.dataset != published.DATASET:
        return []
    pair = published.networks(nets.study.device)
    return rows_of_pair(pair, layer_batches(nets.study), question) if pair else [committed.external(nets)]


def rows_of_pair(pair: Mapping[str, Network], batches: Batches, question: Question) -> list[pd.DataFrame]:
    """Rows under "external": HSICs of the layers of either network, and of the two at equal depth; means over batches, as nothing is resampled."""
    hsics = compare([*pair.values()], [(0, 1)], batches, question, False)
    frames = [plain(CLAIM, arm, network, hsics.within[k][PLAIN].pooled(), PLAIN) for k, (arm, network) in enumerate(pair.items())]
    across = hsic_rows.of_pair(hsics.between[0, 1][PLAIN].pooled(), pair[ROBUST].sha256[:12], depths_only=True)
    return [*frames, tidied(CLAIM, "hsic_pair", STANDARD, pair[STANDARD], across)]


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
    for name, index in INDICES.items():
        values = [float(index(matrices[arm])) for arm in (STANDARD, ROBUST)]
        table.append((name, *values, values[1] - values[0]))
    across = indices.same_depth_mean(hsic_rows.pair(found[found["quantity"] == "hsic_pair"]).matrix())
    table.append((EQUAL_DEPTH, np.nan, np.nan, float(across)))
    return pd.DataFrame(table, columns=["CKA", "standard", "robust", "difference, or the two together"]).round(3)
