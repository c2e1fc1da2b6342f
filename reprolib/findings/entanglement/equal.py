"""Attacks of equal success: the radius at which PGD fools a given share of the images that a network has right.

Networks differ in how far an image must move to be fooled, so at one radius an attack of one network is no attack of another.
Full budget (no early stop), the iterate of highest loss, one run: from the image itself in l2, from a random point in linf.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.boundary import check_count, checked_images, checked_labels
from reprolib.errors import BadInput
from reprolib.models.layers import eval_mode, movable_if_same
from reprolib.models.networks import Network
from reprolib.perturb.attacks import CrossEntropy, ball, predictions
from reprolib.perturb.engine import Moved, Stepper, gradient_of, minimise

CHUNK = 250  # images attacked at a time
TOLERANCE = 0.02
"""Of the share of images fooled, or one image where that is more."""
TRIED = 12  # radii at most
FACTOR = 1.4  # from one radius to the next until two of them enclose the one that is looked for


@dataclass(frozen=True)
class Radius:
    """eps in pixel units; success: the share of the n images it had right that PGD of that radius fools.

    reached: whether that is the share that was asked for, within `TOLERANCE`.
    """

    eps: float
    success: float
    n: int
    reached: bool


def radius_for(
    network: Network, x: Tensor, y: Tensor, success: float, norm: str = "l2", steps: int = 20, precision: str = "fp32"
) -> Radius:
    """The radius at which PGD fools a share `success` of the images x (n, c, h, w) in [0, 1] with labels y (n,) that the network has right.

    Begun at half the distance to a linear boundary, where it mostly is within a third, and bisected on the logarithm; fooled images leave
    the batch, so all of it costs about three attacks. norm: "l2" or "linf". steps: of PGD, each 2.5 eps / steps long. precision: "bf16"
    attacks under autocast; who is fooled is judged in fp32. Where no radius fools that many, the nearest tried, not reached; where no image
    is right, a radius of 0. Deterministic.
    Raises BadInput for images outside [0, 1], labels that do not fit, another norm, steps below 1, and a share outside (0, 1).
    """
    x, y = checked_images(x).detach(), checked_labels(y, len(x)).to(x.device)
    check_count(steps, "steps")
    if not 0 < success < 1:
        raise BadInput(f"success={success:g} is no share of images that can be fooled: allowed are shares between 0 and 1, both left out")
    ball(norm, 0.0, x[0].numel())  # refuses other norms
    right = predictions(network, x, CHUNK) == y
    x, y = x[right], y[right]
    if not len(x):
        return Radius(0.0, 0.0, 0, reached=False)
    cap = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    with eval_mode(network):
        model = movable_if_same(network, x)

        def share_at(eps: float) -> float:
            fooled = [_moved(model, *part, norm, eps, steps, precision, until_fooled=True) for part in _chunks(x, y)]
            return success_of(network, torch.cat(fooled), y)

        first = torch.cat([_linear_radius(model, *part, norm) for part in _chunks(x, y)]).quantile(success)
        tolerance = max(TOLERANCE, 1 / len(x)) + 1e-9
        eps, share = _searched(share_at, success, min(max(float(first) / 2, cap / 1000), cap), cap, tolerance)
    return Radius(eps, share, len(x), reached=abs(share - success) <= tolerance)


def attacked(network: Network, x: Tensor, y: Tensor, norm: str, eps: float, steps: int, precision: str = "fp32") -> Tensor:
    """Adversarial images (n, c, h, w) of radius eps (pixel units) for images x in [0, 1] and labels y (n,): all steps, highest loss kept.

    Arguments and errors as for `radius_for`, and BadInput for a radius outside the ball's range.
    """
    x, y = checked_images(x).detach(), checked_labels(y, len(x)).to(x.device)
    check_count(steps, "steps")
    with eval_mode(network):
        model = movable_if_same(network, x)
        return torch.cat([_moved(model, *part, norm, eps, steps, precision, until_fooled=False) for part in _chunks(x, y)])


def success_of(network: Network, moved: Tensor, y: Tensor) -> float:
    """Share of moved images (n, c, h, w) that the network no longer gives their label y (n,), all of which it had right; 0 of none."""
    return float((predictions(network, moved, CHUNK) != y).double().mean()) if len(y) else 0.0


def _chunks(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(CHUNK), y.split(CHUNK), strict=True))


def _moved(model: torch.nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, steps: int, precision: str, until_fooled: bool) -> Tensor:
    constraint, objective = ball(norm, eps, x[0].numel()), CrossEntropy(model, y, precision)
    start = constraint.random_start(x, torch.Generator().manual_seed(0)) if norm == "linf" else x
    stepper = Stepper(2.5 * eps / steps, "sign" if norm == "linf" else "l2")
    finished: Callable[[], Tensor] | None = (lambda: objective.fooled) if until_fooled else None
    run: functools.partial[Moved] = functools.partial(minimise, objective, x, start, constraint, stepper, steps, keep="best")
    return run(finished=finished).x.contiguous()


def _linear_radius(model: torch.nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """How far each image (n, c, h, w) is from the nearest other class if logits were linear: margin over the dual norm of its gradient, (n,)."""
    images = x.clone().requires_grad_()
    logits = model(images)
    own = logits.gather(1, y[:, None])[:, 0]
    margin = own - logits.scatter(1, y[:, None], -math.inf).amax(dim=1)
    slope = gradient_of(margin, images).flatten(1).norm(p=1 if norm == "linf" else 2, dim=1)
    return (margin.detach() / slope).nan_to_num(nan=math.inf)


def _searched(share_at: Callable[[float], float], target: float, first: float, cap: float, tolerance: float) -> tuple[float, float]:
    """(radius, share fooled) nearest to the target of those tried: shares grow with the radius, nearly."""
    tried: list[tuple[float, float]] = []
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    eps = first
    while len(tried) < TRIED:
        share = share_at(eps)
        tried.append((eps, share))
        if abs(share - target) <= tolerance or (share < target and eps == cap):
            break
        if share < target:
            low = (eps, share)
        else:
            high = (eps, share)
        if low is None:
            eps /= FACTOR
        elif high is None:
            eps = min(eps * FACTOR, cap)
        else:  # between both, near to where a line through them meets the target
            part = min(max((target - low[1]) / (high[1] - low[1]), 0.2), 0.8)
            eps = low[0] * (high[0] / low[0]) ** part
    return min(tried, key=lambda one: abs(one[1] - target))
