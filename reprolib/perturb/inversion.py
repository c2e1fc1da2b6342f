"""Inverting a representation: which image has this code? Source: Engstrom et al. 2019 (arXiv 1906.00945).

No regulariser: only the relative distance of the codes is lowered, along its normalised gradient. Everything runs in fp32
whatever the autocast state, because reduced precision changes small distances. Per-sample losses: inverting a batch equals
inverting one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprolib.boundary import check_count, check_step, checked_images, own_state
from reprolib.errors import BadInput
from reprolib.measures.perceptual import relative_distance
from reprolib.models.layers import LAST, eval_mode, movable_if_same, representation
from reprolib.models.networks import Network
from reprolib.perturb.engine import Box, Stepper, minimise

MOMENTUM = 0.9
"""Of the normalised gradient, as in the public inversion code of Jones et al. (UAI 2022)."""

START_MEAN, START_STD = 0.5, 1 / 20
"""Of the noise an inversion starts from, as in MadryLab/robust_representations."""

Code = Callable[[Tensor], Tensor]
CodeDistance = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Inversion:
    """Inverses of n targets, and how they were reached.

    x: last iterate (n, c, h, w). distance: its d_rep (n,). reached[tau]: whether d_rep <= tau happened (n,); at[tau]: the
    first image at which it did, the start where it never did (n, c, h, w); at_distance[tau]: its d_rep (n,). steps: when the
    trajectory was looked at; trajectory: d_rep then (len(steps), n); frames: the images then (len(steps), n, c, h, w), uint8, empty unless asked for.
    zero_gradient: targets without any gradient at the start (n,).
    """

    x: Tensor
    distance: Tensor
    reached: dict[float, Tensor]
    at: dict[float, Tensor]
    at_distance: dict[float, Tensor]
    steps: list[int]
    trajectory: Tensor
    frames: Tensor
    zero_gradient: Tensor


@own_state()
def invert(
    model: Network,
    target: Tensor,
    start: Tensor,
    steps: int = 200,
    step: float = 0.1,
    layer: str = LAST,
    pool: int = 1,
    straight_through: bool = True,
    keep: str = "last",
) -> Tensor:
    """Images (n, 3, h, w) in [0, 1] whose code is driven to that of `target`, starting from `start`.

    target, start: images (n, 3, h, w) in [0, 1]. layer, pool: which map, averaged to how many positions a side (1: the
    paper's R). steps, step: normalised steps of that length in pixel L2, cosine to zero, momentum .9; they can move at
    most 5 * steps * step. keep: "last" or "best" iterate. Costs one forward and one backward a step.
    Raises BadInput for an unknown layer, shapes that differ, and images, steps or a step that are not as said here.
    """
    if target.shape != start.shape or target.dim() != 4:
        raise BadInput(f"target {tuple(target.shape)} and start {tuple(start.shape)} must be images of one shape (n, c, h, w)")
    target, start = checked_images(target, "target").float(), checked_images(start, "start").float()
    check_way(start, steps, step)

    with eval_mode(model):
        code = network_code(movable_if_same(model, target), pool, layer, straight_through)
        wanted = code(target).detach()
        return minimise(lambda x, index: relative_distance(code(x), wanted[index]), start, start, Box(), stepper(step), steps, keep).x


@own_state()
def follow(
    code: Code,
    wanted: Tensor,
    start: Tensor,
    steps: int,
    step: float,
    thresholds: Sequence[float] = (),
    every: int = 10,
    keep_frames: bool = False,
    objective: CodeDistance = relative_distance,
) -> Inversion:
    """Invert the codes `wanted` (n, d) from `start` (n, c, h, w), noting when each threshold of d_rep is first met.

    code: images to codes, differentiable (a network in eval mode, or anything else). every: steps between two looks at the
    trajectory. objective: what is lowered, (codes, codes wanted) -> (n,); thresholds and trajectory are of d_rep whatever it is.
    Costs steps + 1 forwards and steps backwards. Raises BadInput for a start, steps or a step as `invert` does.
    """
    start = checked_images(start, "start").detach().float()
    check_way(start, steps, step)
    check_count(every, "every")
    reached = {tau: torch.zeros(len(start), dtype=torch.bool, device=start.device) for tau in thresholds}
    at = {tau: start.clone() for tau in thresholds}
    at_distance = {tau: torch.zeros(len(start), device=start.device) for tau in thresholds}
    looked, trajectory, frames = list[int](), list[Tensor](), list[Tensor]()
    distance = torch.empty(0)

    def lowered(x: Tensor, index: Tensor) -> Tensor:
        nonlocal distance
        there = code(x)
        loss = objective(there, wanted[index])
        with torch.no_grad():
            distance = (loss.detach() if objective is relative_distance else relative_distance(there, wanted[index])).float()
        return loss

    def observe(k: int, x: Tensor, loss: Tensor) -> None:
        for tau in thresholds:
            now = (distance <= tau) & ~reached[tau]
            if k == 0:
                at_distance[tau] = distance.clone()
            if bool(now.any()):  # at most once a sample
                at[tau][now], at_distance[tau][now] = x[now], distance[now]
                reached[tau] |= now
        if k % every == 0 or k == steps:
            looked.append(k)
            trajectory.append(distance.cpu())
            if keep_frames:
                frames.append((x * 255).round().to(torch.uint8).cpu())

    moved = minimise(lowered, start, start, Box(), stepper(step), steps, "last", observe)
    kept = torch.stack(frames) if keep_frames else torch.empty(0, dtype=torch.uint8)
    return Inversion(moved.x, distance, reached, at, at_distance, looked, torch.stack(trajectory), kept, moved.zero_gradient)


def stepper(step: float) -> Stepper:
    """The stepper of every inversion: normalised gradient, momentum .9, cosine to zero."""
    return Stepper(step, "l2", "cosine", MOMENTUM)


def check_way(start: Tensor, steps: int, step: float) -> None:
    """Raise BadInput unless there is a step, and it leads somewhere within the range of images like `start` (n, c, h, w), in L2."""
    check_count(steps, "steps")
    check_step(step, math.sqrt(start[0].numel()))


def noise_start(shape: Sequence[int], seed: int) -> Tensor:
    """Start images of `shape` (n, c, h, w): grey plus noise of standard deviation 1/20, clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return (START_MEAN + START_STD * torch.randn(tuple(shape), generator=generator)).clamp(0, 1)


def network_code(network: nn.Module, pool: int, layer: str = LAST, straight_through: bool = True) -> Code:
    """R of a network in eval mode as a function of images; see `reprolib.models.layers.representation`."""
    return lambda x: representation(network, x, pool, layer, straight_through)  # type: ignore[arg-type]
