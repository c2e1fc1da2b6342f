"""From one image to another through representation space. Source: Engstrom et al. 2019 (arXiv 1906.00945).

The codes of the two images are mixed, and every mixture is inverted. The reference starts each inversion from the mixture
of the pixels, which a judge follows whatever the network is; here every step of a pair starts from the same image unless
told otherwise, so that what changes along the way comes from the code alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.boundary import check_count, checked_images, own_state
from reprolib.errors import BadInput
from reprolib.perturb.inversion import Code, follow

N_POINTS = 10
"""Mixtures from one end to the other, both ends among them, as in MadryLab/robust_representations."""

CHUNK = 64


@dataclass(frozen=True)
class Interpolation:
    """Images between n pairs, at m mixing weights from 0 (left) to 1 (right).

    x: the last iterates (n, m, c, h, w). distance: d_rep of each to its mixed code (n, m). zero_gradient: those without any
    gradient at the start, which stay where they started (n, m).
    """

    x: Tensor
    distance: Tensor
    zero_gradient: Tensor


def mixed(left: Tensor, right: Tensor, n_points: int = N_POINTS) -> Tensor:
    """(1 - weight) left + weight right, per weight: (n, ...) twice to (n, n_points, ...); the ends exactly.

    Of images this is the bare cross-fade, of codes what `interpolate` inverts. Weights run evenly from 0 to 1, both included.
    Raises BadInput for fewer than two, and for shapes that differ.
    """
    if n_points < 2:
        raise BadInput(f"n_points={n_points} is not allowed: a way between two images has at least its 2 ends")
    if left.shape != right.shape:
        raise BadInput(f"left {tuple(left.shape)} and right {tuple(right.shape)} must be equal in shape: give both ends of every pair")
    weight = torch.linspace(0, 1, n_points).to(left).view(1, -1, *[1] * (left.dim() - 1))
    return (1 - weight) * left.unsqueeze(1) + weight * right.unsqueeze(1)


@own_state()
def interpolate(
    code: Code, left: Tensor, right: Tensor, start: Tensor, steps: int, step: float, n_points: int = N_POINTS, chunk: int = CHUNK
) -> Interpolation:
    """Images whose codes are the mixtures of the codes of two images.

    code: images to codes, differentiable (a network in eval mode, or anything else). left, right: (n, c, h, w) in [0, 1].
    start: (n, c, h, w), from which every point of a pair starts, or (n, n_points, c, h, w), one for each. steps, step: see
    `inversion.invert`. chunk: images moved at once; per-sample losses, so it changes nothing but the memory needed.
    Costs n * n_points * (steps + 1) forwards and n * n_points * steps backwards of one image.
    Raises BadInput for shapes that differ, and for images, steps or a step as `inversion.invert` does.
    """
    if left.dim() != 4 or left.shape != right.shape:
        raise BadInput(f"left {tuple(left.shape)} and right {tuple(right.shape)} must be images of one shape (n, c, h, w)")
    left, right = checked_images(left, "left").float(), checked_images(right, "right").float()
    shape = (len(left), n_points, *left.shape[1:])
    if start.shape == left.shape:
        start = start.unsqueeze(1).expand(shape)
    if start.shape != shape:
        raise BadInput(f"start has shape {tuple(start.shape)}: give one image a pair, {tuple(left.shape)}, or one a point, {shape}")
    check_count(chunk, "chunk")
    with torch.no_grad():
        wanted = mixed(code(left), code(right), n_points).flatten(0, 1)
    starts = start.flatten(0, 1)
    moved = [follow(code, wanted[i : i + chunk], starts[i : i + chunk], steps, step, every=steps) for i in range(0, len(starts), chunk)]
    return Interpolation(
        torch.cat([part.x for part in moved]).view(shape),
        torch.cat([part.distance for part in moved]).view(shape[:2]),
        torch.cat([part.zero_gradient for part in moved]).view(shape[:2]),
    )
