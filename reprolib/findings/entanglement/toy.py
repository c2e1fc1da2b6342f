"""Entanglement to look at: points in the plane with random labels, moved along the gradient of the loss itself. After Frosst et al. 2019."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.soft_nearest_neighbor import entanglement, minimised, soft_nearest_neighbor_loss

N_POINTS, N_CLASSES = 200, 4
SEED = 2  # the first whose random labels begin below the bound: at it the minimum over temperature has no gradient
STEPS = (0, 20, 100)
RATE = 0.05  # a step, root mean square over points; the points' spread is 1 at the start
FARTHEST = 3 * RATE  # that one point moves in a step
FLAT = 0.02  # gradients of a point below it make steps shorter: the path comes to rest
TEMPERATURE = 1.0  # of squared distances, which are 4 on average at the start


@dataclass(frozen=True)
class Path:
    """Where points with labels y (n,) were after each of `steps`: frames (steps, n, 2). shares: entanglement there, minimum over temperature / bound.

    followed: the loss that they moved along / bound. is_entangling: whether they climbed. temperature: of the loss that they followed, None for its minimum.
    """

    frames: Tensor
    y: Tensor
    shares: tuple[float, ...]
    followed: tuple[float, ...]
    steps: tuple[int, ...]
    is_entangling: bool
    temperature: float | None


def paths(steps: Sequence[int] = STEPS) -> list[Path]:
    """The same 200 points pulled apart and entangled, at a fixed temperature and at the minimum over it: four paths, in this order."""
    generator = torch.Generator().manual_seed(SEED)
    x, y = torch.randn(N_POINTS, 2, generator=generator), torch.randint(N_CLASSES, (N_POINTS,), generator=generator)
    return [follow(x, y, is_entangling, temperature, steps) for temperature in (TEMPERATURE, None) for is_entangling in (False, True)]


def follow(x: Tensor, y: Tensor, is_entangling: bool, temperature: float | None, steps: Sequence[int] = STEPS) -> Path:
    """Move points x (n, 2) with labels y (n,) down the loss, or up where `is_entangling`: frames after each of `steps`. x is not changed.

    temperature: of the loss, None for its minimum. Steps are of one length while the gradient is not flat. Raises BadInput for steps that do not
    rise from 0, and for what the loss refuses.
    """
    if not steps or steps[0] != 0 or list(steps) != sorted(set(steps)):
        raise BadInput(f"steps={tuple(steps)} are not allowed: give whole numbers that rise from 0")
    frames, followed, sign = [], [], 1.0 if is_entangling else -1.0
    x = x.detach().clone()
    for step in range(steps[-1] + 1):
        x.requires_grad_()
        loss = minimised(x, y)[0] if temperature is None else soft_nearest_neighbor_loss(x, y, temperature)
        if step in steps:
            frames.append(x.detach().clone())
            followed.append(float(loss.detach()))
        pull = len(x) * torch.autograd.grad(loss, x)[0]  # on each point
        move = RATE * pull / pull.square().sum(dim=1).mean().sqrt().clamp_min(FLAT)
        x = x.detach() + sign * move * (FARTHEST / move.norm(dim=1, keepdim=True)).nan_to_num(posinf=1).clamp_max(1)
    found = [entanglement(frame, y) for frame in frames]
    shares = tuple(one.share for one in found)
    relative = tuple(loss / one.bound for loss, one in zip(followed, found, strict=True))
    return Path(torch.stack(frames), y, shares, relative, tuple(steps), is_entangling, temperature)
