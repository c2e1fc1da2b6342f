"""From measurements to tidy rows: whose they are, and the claims under which they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.networks import Compared
from reprolib.judging.tidy import identity
from reprolib.measures.cka import BatchHSIC
from reprolib.models.networks import Network

DEPTH, RADII, OVERFITTING, ADVERSARIAL, SETTLING = "BLK-1", "BLK-10", "BLK-5", "BLK-6", "BLK-7"
"""Claims under which rows are kept; claims.toml says which claims read them. `RADII`: every role in the scale's own architecture."""
FITTED = "overfitting"
"""Rows that the condition `overfitted` reads."""
CARDS = "networks"
"""Rows that the manipulation check reads."""
SHOWN = "shown"
"""Rows that only figures and the explorer read."""

DECIMALS = 4  # of HSICs in units of the layers' own: far below what batches scatter by, and a third of the file


def measuring(measure: Callable[..., Sequence[pd.DataFrame]]) -> Callable[..., pd.DataFrame]:
    """Decorator of what measures networks: the frames it gives as one, and none where the images are not here."""

    @wraps(measure)
    def wrapper(nets: Compared, *arguments: Any, **keywords: Any) -> pd.DataFrame:
        frames = [frame for frame in (measure(nets, *arguments, **keywords) if nets.study.can_measure else []) if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    return wrapper


def tidied(claim: str, quantity: str, role: str, network: Network, table: pd.DataFrame) -> pd.DataFrame:
    """Tidy rows of one network from a table with columns unit, unit_2 and value."""
    return table.assign(claim=claim, quantity=quantity, **identity(role, network), value=table["value"].round(DECIMALS), reached=True)


def plain(claim: str, role: str, network: Network, hsic: BatchHSIC, quantity: str) -> pd.DataFrame:
    """The HSICs of all layers of a network with each other."""
    return tidied(claim, quantity, role, network, hsic_rows.of_network(hsic))


def per_batch(values: ArrayLike, unit_2: str = "") -> pd.DataFrame:
    """A table of one number (B,) a batch."""
    values = np.asarray(values, dtype=np.float64)
    return pd.DataFrame({"unit": [f"batch {b:03d}" for b in range(len(values))], "unit_2": unit_2, "value": values})


def single(values: Mapping[str, float], unit: str = "all") -> pd.DataFrame:
    """A table of single numbers: unit_2 -> value."""
    return pd.DataFrame({"unit": unit, "unit_2": [*values], "value": [*values.values()]})
