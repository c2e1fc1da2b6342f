"""Tidy rows of one network: a row a hidden unit, an image, a layer."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from torch import Tensor

from reprolib.judging.tidy import identity
from reprolib.models.networks import MINE, Network

IN_FULL = ("standard", "robust", MINE)
"""Roles of which figures show more than claims, their controls and trends ask."""
DIGITS = 4  # significant ones that rows keep


def rows_of(
    claim: str,
    quantity: str,
    role: str,
    network: Network,
    units: Sequence[str],
    values: Tensor,
    reached: Tensor | bool = True,
    unit_2: Sequence[str] | str = "",
) -> pd.DataFrame:
    """Rows of one quantity: values (n,) of n units, whether each was reached."""
    told = {"claim": claim, "quantity": quantity, **identity(role, network), "unit": list(units), "unit_2": unit_2}
    rounded = [float(f"{one:.{DIGITS}g}") for one in values.double().tolist()]
    return pd.DataFrame({**told, "value": rounded, "reached": reached if isinstance(reached, bool) else reached.numpy()})


def names(layer: str, channels: Tensor) -> list[str]:
    """The units of a layer: "<layer>:<nnn>" of each channel number."""
    return [f"{layer}:{k:03d}" for k in channels.tolist()]
