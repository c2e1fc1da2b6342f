"""An external pair of networks, a ResNet-20 trained plainly and one trained on PGD adversaries, asked as ours are; no verdict of its own.

Source of the networks: EhanW/advrob-cifar10 (MIT).
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from reprolib.findings.entanglement.attacked import WIDE
from reprolib.models import external as published
from reprolib.models.external import CLAIM
from reprolib.models.networks import Network
from reprolib.study import Study

Nets = dict[str, list[Network]]
TOLD = {"ENT-7": "gradient_entanglement", "ENT-9": "entanglement", "ENT-10": "headroom_lost"}
"""What the notebook's table tells, a line a claim."""
PULLED = ("headroom_lost_in_last", "headroom_lost_by_layer", "attacked_by_layer", "clean_by_layer", "rise", "level")
KEPT = (
    *TOLD.values(), "gradient_zero_share", "entanglement_by_layer",
    *(f"{of}{kind}" for kind in ("", WIDE) for of in PULLED), "headroom_lost@wide", "eps", "success",
)  # fmt: skip
"""Quantities whose rows are kept."""


def measure(study: Study, *asked: Callable[[Nets], pd.DataFrame]) -> pd.DataFrame:
    """Rows of the pair, under "external", of what each of `asked` gives for it; committed ones where its files are not here.

    asked: functions of {arm: networks} that give rows under the claims. Nothing where the study is of other images than it was trained on.
    """
    if not study.can_measure or study.only_mine or study.settings.scale.dataset != published.DATASET:
        return pd.DataFrame()
    pair: Nets = {arm: [network] for arm, network in published.networks(study.device).items()}
    if not pair:
        kept = study.committed_rows() if (study.committed / "rows.csv.gz").exists() and not study.settings.overridden else pd.DataFrame()
        return kept[kept["claim"] == CLAIM] if len(kept) else kept
    rows = pd.concat([one(pair) for one in asked], ignore_index=True)
    return rows[rows["quantity"].isin(KEPT)].drop_duplicates(["quantity", "network", "unit", "unit_2"]).assign(claim=CLAIM)


def table(rows: pd.DataFrame) -> pd.DataFrame | None:
    """What the notebook tells of the pair: a line a claim, the mean over batches of either network, and their difference; None without rows."""
    of = rows[rows["claim"] == CLAIM]
    if of.empty:
        return None
    means = of.groupby(["quantity", "arm"])["value"].mean().unstack().reindex(index=[*TOLD.values()], columns=[*published.PAIR])
    means.index, means.columns = pd.Index([" ".join(line) for line in TOLD.items()]), pd.Index(["standard", "robust"])
    return means.assign(**{"robust minus standard": means["robust"] - means["standard"]}).round(3)
