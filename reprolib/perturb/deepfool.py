"""Smallest perturbations by linearising the boundaries of all classes. Source: Moosavi-Dezfooli et al. 2016 (arXiv 1511.04599).

Not on the engine, whose steps follow the gradient of one loss: a step here needs the gradients of all classes, and has a length of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprolib.boundary import NAMED, Classifier, check_count, checked_images, checked_labels, own_state
from reprolib.errors import BadInput
from reprolib.models.layers import eval_mode, movable_if_same
from reprolib.perturb.attacks import predictions
from reprolib.perturb.engine import gradient_of, per_sample

BEYOND = 1e-5  # pixel units beyond a linearised boundary: a step shorter than rounding would never cross it


@dataclass(frozen=True)
class Fooled:
    """Moved images x (n, c, h, w) in [0, 1], their L2 distance from the given ones (n,) in pixel units, whether each is misclassified (n,)."""

    x: Tensor
    distance: Tensor
    succeeded: Tensor


@own_state()
def deepfool(network: nn.Module, x: Tensor, y: Tensor, steps: int = 50, overshoot: float = 0.02, batch_size: int = 100) -> Fooled:
    """Images moved from x (n, c, h, w) in [0, 1] across the nearest boundary of their label y (n,), as far as linearising finds it.

    Each step goes to the nearest of the boundaries as they are linearised where the last one led, over the pixels that can still go that
    way in [0, 1] (the paper has no such bounds, and clipping alone nears a boundary without crossing it); an image stops once it is fooled.
    overshoot: share by which the way from x is lengthened to cross the boundary. The distance is that of the images handed back: with
    the overshoot, and clipped to [0, 1]. Images that are wrong from the start stay as they are: distance 0, succeeded. One that is not
    fooled in `steps` steps has the distance it was moved, which bounds nothing. batch_size: images at a time; no more than two
    gradients of each are held. Attacked in eval mode and fp32, on a faster copy if that is the same function; the network itself judges.
    Raises BadInput for images, labels, counts or an output that do not fit, FloatingPointError for logits or gradients that are not finite.
    """
    x = checked_images(x).detach()
    y = checked_labels(y, len(x)).to(x.device)
    check_count(steps, "steps")
    check_count(batch_size, "batch_size")
    if not 0 <= overshoot < math.inf:
        raise BadInput(f"overshoot={overshoot:g} is not allowed: give a share of at least 0, such as 0.02")
    with eval_mode(network):
        judge = Classifier(network, y)
        moving = Classifier(movable_if_same(network, x), y)
        moved = x.clone()
        first = x[:1].clone().requires_grad_()
        gradient_of(judge(first), first)  # refuses what cannot be differentiated
        right = (predictions(judge, x) == y).nonzero().flatten()
        for part in right.split(batch_size) if len(right) else ():
            moved[part] = _crossed(moving, x[part], y[part], steps, overshoot, part)
        succeeded = predictions(judge, moved) != y
    return Fooled(moved, (moved - x).flatten(1).norm(dim=1), succeeded)


def _crossed(model: nn.Module, x: Tensor, y: Tensor, steps: int, overshoot: float, names: Tensor) -> Tensor:
    """One batch moved, each image until the model no longer gives it its label; names (n,): what errors call the images."""
    moved, way = x.clone(), torch.zeros_like(x)  # the way without the overshoot
    live = torch.arange(len(x), device=x.device)
    for step in range(steps):
        is_right, onward = _to_nearest_boundary(model, moved[live], y[live], names[live], step)
        live = live[is_right]
        if not len(live):
            break
        way[live] = (x[live] + way[live] + onward[is_right]).clamp(0, 1) - x[live]
        moved[live] = (x[live] + (1 + overshoot) * way[live]).clamp(0, 1)
    return moved


def _to_nearest_boundary(model: nn.Module, x: Tensor, y: Tensor, names: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Whether each image still has its label (n,), and the step (n, c, h, w) to the nearest linearised boundary; 0 where nothing has a gradient."""
    x = x.detach().requires_grad_()
    logits = model(x)
    n_classes = logits.shape[1]
    margins = logits.gather(1, y[:, None]) - logits
    nearest, onward = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device), torch.zeros_like(x)
    for k in range(1, n_classes):
        margin = margins.gather(1, (y[:, None] + k) % n_classes)[:, 0]
        (gradient,) = torch.autograd.grad(margin.sum(), x, retain_graph=k < n_classes - 1)
        gradient = gradient.masked_fill(((x <= 0) & (gradient > 0)) | ((x >= 1) & (gradient < 0)), 0)
        slope = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), dtype=torch.float64)  # 0 in fp32 from gradients of 1e-23 on
        _check_finite(margin, slope, names, step)
        distance = torch.where(slope > 0, margin.detach().abs() / slope, math.inf)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        length = ((distance + BEYOND) / slope)[closer]
        onward[closer] = (-gradient[closer].double() * per_sample(length, gradient)).to(x.dtype)
    return logits.detach().argmax(dim=1) == y, onward


def _check_finite(margin: Tensor, slope: Tensor, names: Tensor, step: int) -> None:
    bad = ~(torch.isfinite(margin) & torch.isfinite(slope))
    if bool(bad.any()):
        raise FloatingPointError(
            f"logits or their gradients are not finite at step {step} for samples {names[bad][:NAMED].tolist()}: "
            "check the images and the network's weights"
        )
