"""Inverting a representation in frequency space: x = sigmoid(irfft2(z)), steps along the gradient of z.

The transform is orthonormal, a rotation: what differs from steps in pixels is the sigmoid in place of the clipped
range, and that a coefficient counts for its mirror image too. Sources: the "fourier" constraint of MadryLab/robustness
(raw steps of 5000, 1,000 of them), after Olah, Mordvintsev, Schubert 2017 (Feature Visualization). Here through
`torch.fft`, on even and odd sides alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reprolib.boundary import check_count, checked_images, own_state
from reprolib.errors import BadInput
from reprolib.measures.perceptual import relative_distance
from reprolib.perturb.engine import Box, Stepper, minimise
from reprolib.perturb.inversion import Code, stepper

REFERENCE = Stepper(5000, "raw")
"""The reference's steps in z; at its 1,000 steps they cost three to seven times an inversion in pixels."""

EDGE = 1e-3
"""Pixels of a start come this near to 0 and 1 and no nearer: the sigmoid reaches neither."""

LARGEST_LOGIT = 8.0
"""Coefficients go as far as an image of pixels at sigmoid(8) = .9997 needs them to; beyond, nothing is seen to change."""


def to_image(z: Tensor, size: Sequence[int]) -> Tensor:
    """The images (n, c, h, w) in (0, 1) of half spectra z, complex (n, c, h, w // 2 + 1), or real (..., 2): parts last.

    size: (h, w); the spectrum alone does not tell an even w from an odd one.
    """
    half = z if z.is_complex() else torch.view_as_complex(z)
    height, width = size
    if tuple(half.shape[-2:]) != (height, width // 2 + 1):
        raise BadInput(
            f"z holds {half.shape[-2]} x {half.shape[-1]} coefficients: images of {height} x {width} have {height} x {width // 2 + 1}"
        )
    return torch.sigmoid(torch.fft.irfft2(half, s=(height, width), norm="ortho"))


def to_spectrum(x: Tensor) -> Tensor:
    """The half spectrum z, complex (n, c, h, w // 2 + 1), of images x (n, c, h, w), clipped to [.001, .999]: `to_image` brings it back."""
    return torch.fft.rfft2(torch.logit(checked_images(x).clamp(EDGE, 1 - EDGE)), norm="ortho")


def matched_stepper(step: float) -> Stepper:
    """The stepper of every inversion, in z: no step moves the image further than `step` in pixel L2.

    The sigmoid's slope is at most 1/4, and a coefficient counts at most twice (it stands for its mirror image too).
    """
    return stepper(4 / math.sqrt(2) * step)


@own_state()
def invert_fourier(code: Code, wanted: Tensor, start: Tensor, steps: int, by: Stepper) -> Tensor:
    """Images (n, c, h, w) whose codes are driven to `wanted` (n, d) by steps in frequency space; the last iterate.

    code: images to codes, differentiable. start: images (n, c, h, w) in [0, 1]. by: `matched_stepper(step)`, or REFERENCE;
    its size is in units of z. fp32 whatever the autocast state. Costs one forward and one backward a step.
    """
    start = checked_images(start, "start").detach().float()
    check_count(steps, "steps")
    size = start.shape[-2:]
    reach = 2 * LARGEST_LOGIT * math.sqrt(size[0] * size[1])  # from the least to the largest coefficient

    def objective(x: Tensor, index: Tensor) -> Tensor:
        return relative_distance(code(to_image((x - 0.5) * reach, size)), wanted[index])

    # The loop moves numbers in [0, 1]: coefficients are handed to it as places between the least (0) and the largest (1).
    scale = reach**2 if by.kind == "raw" else reach  # the gradient with respect to a place is `reach` times that to z
    place = 0.5 + torch.view_as_real(to_spectrum(start)) / reach
    moved = minimise(objective, place, place, Box(), replace(by, size=by.size / scale), steps)
    return to_image((moved.x - 0.5) * reach, size)
