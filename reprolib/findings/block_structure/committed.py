"""Committed rows that stand in for what is not shipped: states of trainings, the pair that overfits, external networks.

None in a run with a turned knob, none of a network that was trained again since, and none where other layers are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from reprolib.errors import BadInput
from reprolib.findings.block_structure.networks import Compared, listed, seed_of
from reprolib.findings.block_structure.rows import DEPTH, FITTED, OVERFITTING
from reprolib.judging.tidy import KEY
from reprolib.models.external import CLAIM
from reprolib.models.networks import Network

SAME = 0.01  # of HSICs in units of the layers' own: processors round differently, other layers differ by more


def of_networks(nets: Compared, networks: Sequence[Network], quantities: Collection[tuple[str, str]]) -> pd.DataFrame:
    """The committed rows of some networks under some claims and quantities."""
    rows = _rows(nets)
    chosen = pd.MultiIndex.from_frame(rows[["claim", "quantity"]]).isin(list(quantities))
    return rows[chosen & rows["network"].isin(_keys(networks))]


def of_pair(nets: Compared, unmeasured: Sequence[Network]) -> pd.DataFrame:
    """The committed rows of the pair that overfits: of its networks that were not measured, and of those that are not here at all."""
    rows = _rows(nets)
    own = rows["claim"].isin([OVERFITTING, FITTED])
    here = [network for _, network in listed(nets.overfit)]
    again = {
        (network.card["description"]["recipe"]["id"], network.card["description"]["architecture"], seed_of(network)) for network in here
    }
    trained_again = pd.MultiIndex.from_frame(rows[["recipe", "architecture", "seed"]]).isin(list(again))
    elsewhere = rows.loc[own & ~trained_again, "network"].unique()
    return rows[(own & rows["network"].isin(_keys(unmeasured))) | rows["network"].isin(elsewhere)]


def external(nets: Compared) -> pd.DataFrame:
    """The committed rows of the external pair."""
    rows = _rows(nets)
    return rows[rows["claim"] == CLAIM]


def _rows(nets: Compared) -> pd.DataFrame:
    """All committed rows, or none of them where they are of another question."""
    study = nets.study
    path = study.committed / "rows.csv.gz"
    if study.settings.overridden or not path.exists():
        return pd.DataFrame(columns=[*KEY, "recipe", "architecture", "value", "reached"])
    rows = study.committed_rows()
    try:
        measured = study.rows
    except BadInput:
        return rows  # nothing was measured that could be of another question
    own, there = (table[(table["claim"] == DEPTH) & (table["quantity"] == "hsic")] for table in (measured, rows))
    both = own.merge(there, on=KEY, how="left", suffixes=("", "_committed"))
    known = both[both["network"].isin(there["network"])]
    if known["value_committed"].isna().any() or (known["value"] - known["value_committed"]).abs().max() > SAME:
        print("Other layers are compared here than in the committed rows: none of these stand in for what is not here.")
        return rows.iloc[:0]
    return rows


def _keys(networks: Sequence[Network]) -> list[str]:
    return [network.sha256[:12] for network in networks]
