"""Hues: colour without grey, of equal energy all round the circle. A hue h is a number in [0, 1), 0 for red, 1/3 for green, 2/3 for blue."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HUE_NAMES = ("red", "orange", "yellow", "lime", "green", "mint", "cyan", "blue", "violet", "magenta", "rose")
"""Equal bins of the circle, the first around red."""

HUE = 0.12
"""Amplitude of a hue in each channel, in units of [0, 1]."""


def hue_rgb(hue: NDArray[np.float64]) -> NDArray[np.float64]:
    """What hues (...) in [0, 1) add to red, green and blue, (..., 3): HUE * cos(2 pi (h - 0, 1/3, 2/3))."""
    return HUE * np.cos(2 * np.pi * (hue[..., None] - np.arange(3) / 3))


def hue_bin(hue: Tensor) -> Tensor:
    """The place in HUE_NAMES of hues in [0, 1), int64."""
    return torch.floor(hue * len(HUE_NAMES) + 0.5).to(torch.int64) % len(HUE_NAMES)
