"""An external pair of networks, a ResNet-20 trained plainly and one trained on PGD adversaries, asked as ours are; no verdict of its own.

Source of the networks: EhanW/advrob-cifar10 (MIT).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import load_claims
from reprolib.models import external as published
from reprolib.models.external import CLAIM
from reprolib.models.networks import Network
from reprolib.study import Study

Nets = dict[str, list[Network]]
KEPT = ("tv_response@first", "relative_change@high", "relative_change@low", "detector", "variety", "detects", "diversity")
"""Quantities whose rows are kept, those of SIM-2 to SIM-6."""


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
    return rows[rows["quantity"].isin(KEPT)].drop_duplicates(["quantity", "network", "unit"]).assign(claim=CLAIM)


def table(rows: pd.DataFrame) -> pd.DataFrame | None:
    """What the notebook tells of the pair: a line a claim, its own number of either network, and the difference; None without rows."""
    of = rows[rows["claim"] == CLAIM]
    if of.empty:
        return None
    evidence, claims, found = Evidence(of, "smoke", is_rounded=True), load_claims("simplicity_biases"), {}
    for claim in ("SIM-2", "SIM-3", "SIM-4", "SIM-5", "SIM-6"):
        values = evidence.values(replace(claims[claim].contrast, claim=CLAIM, arms=tuple(published.PAIR)))
        numbers = [getattr(next(iter(networks.values())), "value", math.nan) for networks in values.values()]
        found[f"{claim} {claims[claim].quantity}"] = [*numbers, numbers[1] - numbers[0]]
    return pd.DataFrame.from_dict(found, orient="index", columns=["standard", "robust", "robust minus standard"]).round(3)
