"""Reading tidy rows for drawing: what is there, in words when it is not, and one mean per network."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from reprolib.errors import BadInput, nearest

COLUMNS = ("claim", "quantity", "arm", "seed", "network", "unit", "unit_2", "value")


def of_claim(rows: pd.DataFrame, claim: str, quantities: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of one claim, and of the named quantities where some are named.

    Raises BadInput where a column is missing, or where no such row, or no value but NaN, is there.
    """
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise BadInput(f"rows have no column {', '.join(missing)}: a figure is drawn from tidy rows with the columns {', '.join(COLUMNS)}")
    found = rows[rows["claim"] == claim]
    if found.empty:
        there = sorted(map(str, rows["claim"].unique()))
        held = ", ".join(there) or "no claim at all"
        raise BadInput(f"there are no rows of claim {claim!r}: the rows hold {held}{nearest(claim, there)}; measure it first")
    if quantities:
        there = sorted(map(str, found["quantity"].unique()))
        found = found[found["quantity"].isin(list(quantities))]
        if found.empty:
            wanted = " or ".join(map(repr, quantities))
            raise BadInput(f"claim {claim!r} has no rows of {wanted}: it holds {', '.join(there)}{nearest(quantities[0], there)}")
    if not found["value"].notna().any():
        raise BadInput(f"all {len(found)} rows of claim {claim!r} are NaN: there is nothing to draw; measure it again")
    return found


def network_means(rows: pd.DataFrame, *kept: str) -> pd.DataFrame:
    """One row per network: columns arm, seed, network, those `kept` (apart where they differ) and value (units weigh alike)."""
    network = ["arm", "seed", "network", *kept]
    units = rows.groupby([*network, "unit"], as_index=False).agg(value=("value", "mean"))
    return units.groupby(network, as_index=False).agg(value=("value", "mean"))


def short_layer(name: str) -> str:
    """The name of a layer for a narrow axis: "layer:stage1.block2.relu1" as "1.2.1"; of any other shape, as it is."""
    name = name.removeprefix("layer:")
    parts = re.fullmatch(r"stage(\d+)\.block(\d+)\.relu(\d+)", name)
    return ".".join(parts.groups()) if parts else name
