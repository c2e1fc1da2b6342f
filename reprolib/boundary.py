"""What public functions accept: checked once, where images enter."""

from __future__ import annotations

import torch
from torch import Tensor

from reprolib.errors import BadInput

ROUNDING = 1e-6  # so far outside [0, 1] images may lie


def checked_images(x: Tensor, name: str = "images") -> Tensor:
    """Images (n, c, h, w) clipped to [0, 1].

    Raises BadInput unless they are floating point and lie in [0, 1] but for rounding: the mistake is often a factor of 255.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise BadInput(f"{name} are {x.dtype} of shape {tuple(x.shape)}: give floats (n, c, h, w) in [0, 1] (bytes divided by 255)")
    low, high = (float(end) for end in torch.aminmax(x)) if x.numel() else (0.0, 0.0)
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise BadInput(f"{name} lie in [{low:.4g}, {high:.4g}], not in [0, 1]: divide bytes by 255, do not normalise, clamp what was moved")
    return x.clamp(0, 1) if low < 0 or high > 1 else x
