"""What the figures of zero-shot quality share: their claims, the rows that were measured, names of classes, metrics and architectures."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from reprolib.figures.reading import of_claim
from reprolib.models.networks import CAPSULES

METRICS, ATTACKS, CAPSNET = "ZSQ-1", "ZSQ-3", "ZSQ-5"  # the claims under which rows stand

NAMES = {
    "mlp": "MLP",
    "lenet": "LeNet",
    "tinycnn": "TinyCNN",
    "pool": "pool net",
    "resnet8": "ResNet-8",
    CAPSULES: "CapsNet-small",
}
WORDS = {"dbm": "DBM", "dbm_matched": "DBM at matched entropy", "am": "AM"}
BETTER = {"dbm": "lower = tighter", "dbm_matched": "lower = tighter", "am": "lower = nearer the full network"}


def measured(rows: pd.DataFrame, quantities: Sequence[str], arms: Sequence[str] = (), claim: str = METRICS) -> pd.DataFrame:
    """The rows of these quantities that were reached, of `arms` where some are named. Raises BadInput where the claim has none of them."""
    found = of_claim(rows, claim, quantities)
    return found[found["reached"].astype(bool) & (found["arm"].isin(arms) | (not arms))]


def architectures(rows: pd.DataFrame) -> list[str]:
    """The distinct architectures, those of `NAMES` first, in its order."""
    there = set(rows["architecture"])
    return [*(name for name in NAMES if name in there), *sorted(there - set(NAMES))]


def in_words(name: str) -> str:
    """The name of a class for an axis: "square+grating_45" as "square grating"."""
    return re.sub(r"_\d+$", "", name).replace("+", " ")
