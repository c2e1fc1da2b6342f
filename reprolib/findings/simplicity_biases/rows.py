"""What a row is of: the hidden units of a layer, and whom figures show in full."""

from __future__ import annotations

from torch import Tensor

from reprolib.models.networks import MINE

IN_FULL = ("standard", "robust", MINE)
"""Roles of which figures show more than claims, their controls and trends ask."""


def names(layer: str, channels: Tensor) -> list[str]:
    """The units of a layer: "<layer>:<nnn>" of each channel number."""
    return [f"{layer}:{k:03d}" for k in channels.tolist()]
