"""What a unit of a representation looks for: images that raise it. Source: Engstrom et al. 2019 (arXiv 1906.00945).

No regulariser: the unit's own value climbs along its normalised gradient. A unit is one number of the code; with
`reprolib.perturb.inversion.network_code(network, pool=1)` that is a channel of the last map, averaged over positions (the
paper's R), and the last ReLU passes gradient to units that are off. Everything runs in fp32 whatever the autocast state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reprolib.boundary import check_step, checked_images, checked_labels, own_state
from reprolib.errors import BadInput
from reprolib.perturb.engine import Box, Constraint, L2Ball, Moved, Stepper, minimise, per_sample
from reprolib.perturb.inversion import Code, check_way, stepper

NORM_TOLERANCE = 1e-4  # relative; what `add_feature` means by an equal norm
BALL_STEPS = 10  # steps of `add_feature` that make up a radius
HALVINGS = 12  # of the last stretch of `add_until`: the norm is then known to a 4,096th of itself


@dataclass(frozen=True)
class Raised:
    """Images that raise (or lower) one unit each.

    x: (n, c, h, w) in [0, 1]. value: the unit there (n,). norm: Euclidean length of the change (n,). reached: whether it got where
    it was asked to (n,). zero_gradient: samples without any gradient at the start (n,): nothing was done to them.
    """

    x: Tensor
    value: Tensor
    norm: Tensor
    reached: Tensor
    zero_gradient: Tensor


@own_state()
def maximise(code: Code, units: Tensor, start: Tensor, steps: int = 100, step: float = 0.1, lower: bool = False) -> Raised:
    """Climb max R_i(x) from `start`, free within [0, 1]; the last iterate. With `lower`, descend instead.

    code: images to codes (n, d). units: (n,), which number of the code each image raises. start: (n, c, h, w). steps, step: normalised
    steps of that length in pixel L2, momentum .9, cosine to zero; they move at most 5 * steps * step. `reached`: that x differs from the start.
    Raises BadInput for a unit the code does not have, or as many units as there are not images.
    """
    start, units = _checked(code, units, start)
    check_way(start, steps, step)
    moved = _climb(code, units, start, Box(), stepper(step), steps, -1.0 if lower else 1.0)
    return _raised(code, units, start, moved.x, moved.zero_gradient)


@own_state()
def add_feature(code: Code, units: Tensor, images: Tensor, radius: float, steps: int = 100) -> Raised:
    """Raise each image's unit by a change of Euclidean norm `radius`, exactly: what two networks do is compared at equal norm.

    images: (n, c, h, w). The climb stays within the ball and [0, 1]; its last change is then stretched along itself, and clipped,
    until its norm is the radius to 1e-4. Where no stretching gets there, because the corner of [0, 1] that the change points to is
    nearer than the radius, that corner is returned with reached = False; so are samples without gradient, unchanged.
    """
    images, units = _checked(code, units, images)
    check_step(radius, name="radius")
    check_way(images, steps, radius / BALL_STEPS)
    moved = _climb(code, units, images, L2Ball(radius), stepper(radius / BALL_STEPS), steps)
    found = _raised(code, units, images, at_norm(moved.x, images, radius), moved.zero_gradient)
    return replace(found, reached=(found.norm / radius - 1).abs() <= NORM_TOLERANCE)


@own_state()
def add_until(code: Code, units: Tensor, images: Tensor, cap: Tensor, steps: int = 100, step: float = 0.05) -> Raised:
    """Climb max of min(R_i(x) - cap, 0), that is until R_i reaches `cap` (n,), and no further: how large a change does it take?

    Plain normalised steps of constant length, each sample stopping at its first image at or above the cap; then the shortest part of
    its change that still reaches the cap is kept (by halving, so that a step's length does not show). `norm` is that part's. An
    image at its cap from the start has norm 0; one that never gets there keeps its last iterate, with reached = False.
    """
    images, units = _checked(code, units, images)
    check_way(images, steps, step)
    cap = cap.detach().to(images)
    if cap.shape != units.shape:
        raise BadInput(f"cap has shape {tuple(cap.shape)}: one per image is needed, {tuple(units.shape)}")
    missing = torch.empty(0)

    def objective(x: Tensor, index: Tensor) -> Tensor:
        nonlocal missing
        missing = (cap[index] - _values(code, x, units[index])).relu()
        return missing

    moved = minimise(objective, images, images, Box(), Stepper(step), steps, finished=lambda: missing.detach() == 0)
    reached = _value_at(code, moved.x, units) >= cap
    low, high = torch.zeros_like(cap), torch.ones_like(cap)
    for k in range(HALVINGS + 1):
        middle = (low + high) / 2 if k else low  # first the image itself
        there = _value_at(code, torch.lerp(images, moved.x, per_sample(middle, images)), units) >= cap
        low, high = torch.where(there, low, middle), torch.where(there & reached, middle, high)
    shortest = torch.lerp(images, moved.x, per_sample(high, images))
    return replace(_raised(code, units, images, shortest, moved.zero_gradient & ~reached), reached=reached)


def at_norm(moved: Tensor, reference: Tensor, norm: float) -> Tensor:
    """clip(reference + t (moved - reference)) to [0, 1] with the t at which the change has the L2 norm `norm`; the corner it points to where none is.

    moved, reference: (n, c, h, w), the reference in [0, 1]. Exact: with the pixels that are at the edge of the range known, t is
    a square root; t grows as more of them get there, and stops growing when all have that will.
    """
    delta = moved - reference
    length, room = delta.abs().flatten(1), torch.where(delta > 0, 1 - reference, reference).flatten(1)
    moving, there = length.square(), room.square()
    t = norm / length.norm(dim=1, keepdim=True)
    while True:
        at_edge = t * length >= room
        left = norm**2 - (there * at_edge).sum(dim=1, keepdim=True)
        longer = (left.clamp_min(0) / (moving * ~at_edge).sum(dim=1, keepdim=True)).sqrt()
        if not bool((longer > t * (1 + 1e-6)).any()):
            break
        t = torch.where(longer > t, longer, t)
    return (reference + torch.where(delta == 0, 0, per_sample(t[:, 0], delta) * delta)).clamp(0, 1)


def _climb(code: Code, units: Tensor, start: Tensor, constraint: Constraint, stepper: Stepper, steps: int, sign: float = 1.0) -> Moved:
    def objective(x: Tensor, index: Tensor) -> Tensor:
        return -sign * _values(code, x, units[index])

    return minimise(objective, start, start, constraint, stepper, steps)


def _raised(code: Code, units: Tensor, start: Tensor, x: Tensor, zero_gradient: Tensor) -> Raised:
    """`x` as a result; reached: that it is not the start."""
    norm = (x - start).flatten(1).norm(dim=1)
    return Raised(x, _value_at(code, x, units), norm, norm > 0, zero_gradient)


def _values(code: Code, x: Tensor, units: Tensor) -> Tensor:
    """(n,) value of each image's unit, differentiable."""
    codes = code(x)
    if codes.dtype not in (torch.float32, torch.float64):
        raise BadInput(f"the code is {codes.dtype}: float32 or float64 is needed, in half precision small steps are lost")
    return codes.gather(1, units[:, None])[:, 0]


def _value_at(code: Code, x: Tensor, units: Tensor) -> Tensor:
    with torch.no_grad():
        return _values(code, x, units)


def _checked(code: Code, units: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The images to start from, fp32 or fp64 in [0, 1], and the unit of each."""
    if start.dim() != 4 or units.shape != start.shape[:1]:
        raise BadInput(f"units {tuple(units.shape)} and images {tuple(start.shape)} do not fit: one unit per image (n, c, h, w) is needed")
    start, units = checked_images(start).detach(), checked_labels(units, len(start), "units").to(start.device)
    with torch.no_grad():
        n_units = code(start[:1]).shape[1]
    for unit in units.tolist():
        if not 0 <= unit < n_units:
            raise BadInput(f"unit {unit} is not one of the {n_units} of this code: give numbers in [0, {n_units - 1}]")
    return start, units
