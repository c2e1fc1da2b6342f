"""One loop for everything that moves pixels by gradient: objective + constraint + stepper.

The loop minimises a per-sample loss; attacks minimise minus their loss. One forward and one backward a step; the same
forward feeds the best-iterate record and the observer. Parameters never receive `.grad`. All pixels live in [0, 1], all
radii are in pixel units. The shape of the idea is that of MadryLab/robustness' attacker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from reprolib.boundary import own_state
from reprolib.errors import BadInput


class Objective(Protocol):
    """A per-sample loss to minimise."""

    def __call__(self, x: Tensor, index: Tensor) -> Tensor:
        """Loss (b,) of images x (b, c, h, w); `index` (b,) says which samples of the whole batch they are."""
        ...


@dataclass(frozen=True)
class Box:
    """No constraint but the pixel range [0, 1]."""

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform noise in [0, 1], of the shape of x."""
        return _uniform(x, generator)

    def project(self, moved: Tensor, reference: Tensor) -> Tensor:
        """The nearest image to `moved` (n, c, h, w) in the box."""
        return moved.clamp(0, 1)


@dataclass(frozen=True)
class LinfBall:
    """Images within `eps` of the reference in every pixel, and in [0, 1]."""

    eps: float

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform in the cube of half-width eps around x, then clipped to the box."""
        return self.project(x + (2 * _uniform(x, generator) - 1) * self.eps, x)

    def project(self, moved: Tensor, reference: Tensor) -> Tensor:
        """`moved` clipped to the cube around `reference`, then to the box."""
        return torch.minimum(torch.maximum(moved, reference - self.eps), reference + self.eps).clamp(0, 1)


@dataclass(frozen=True)
class L2Ball:
    """Images within Euclidean distance `eps` of the reference (over all pixels), and in [0, 1]."""

    eps: float

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform in the ball (radius eps u^(1/d)), then clipped to the box."""
        n, d = x.shape[0], x[0].numel()
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)
        radius = self.eps * torch.rand(n, generator=generator, dtype=x.dtype, device="cpu").to(x.device) ** (1 / d)
        return self.project(x + direction * per_sample(radius / direction.flatten(1).norm(dim=1), x), x)

    def project(self, moved: Tensor, reference: Tensor) -> Tensor:
        """`moved` pulled back to the sphere around `reference` where outside, then clipped to the box.

        Clipping comes last: the reference lies in the box, so it never leaves the ball.
        """
        delta = moved - reference
        norm = delta.flatten(1).norm(dim=1)
        return (reference + delta * per_sample(torch.clamp(self.eps / (norm + 1e-12), max=1.0), delta)).clamp(0, 1)


Constraint = Box | LinfBall | L2Ball


@dataclass(frozen=True)
class Stepper:
    """How far and where one step goes.

    size: step length in pixel units. kind: "l2" moves along the gradient divided by its per-sample Euclidean norm, "sign"
    along its sign, "raw" along the gradient itself. schedule: "constant", or "cosine" to zero. momentum: of the moved
    direction (0 for none).
    """

    size: float
    kind: str = "l2"
    schedule: str = "constant"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("l2", "sign", "raw"):
            raise BadInput(f"stepper kind {self.kind!r} is unknown; allowed: l2, sign, raw")
        if self.schedule not in ("constant", "cosine"):
            raise BadInput(f"step schedule {self.schedule!r} is unknown; allowed: constant, cosine")

    def length(self, k: int, steps: int) -> float:
        """The step length at step k of `steps`."""
        return self.size * (0.5 * (1 + math.cos(math.pi * k / steps)) if self.schedule == "cosine" else 1.0)

    def direction(self, gradient: Tensor) -> Tensor:
        """Where to go against, same shape as the gradient; zero where the gradient is zero."""
        if self.kind == "sign":
            return gradient.sign()
        if self.kind == "raw":
            return gradient
        # Largest entry first: a gradient of 1e-30, as of a network at a margin of many logits, has a norm of 0 in fp32, and no direction.
        scaled = gradient / per_sample(gradient.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny), gradient)
        return scaled / per_sample(scaled.flatten(1).norm(dim=1).clamp_min(1.0), scaled)


@dataclass(frozen=True)
class Moved:
    """What the loop returns: images x (n, c, h, w), their loss (n,), and which samples had no gradient at the start (n,)."""

    x: Tensor
    loss: Tensor
    zero_gradient: Tensor


@own_state()
def gradient_of(loss: Tensor, x: Tensor) -> Tensor:
    """Of the summed loss with respect to images x. Raises BadInput where none leads back to them."""
    found = torch.autograd.grad(loss.sum(), x, allow_unused=True)[0] if loss.requires_grad else None
    if found is None:
        raise BadInput(
            "nothing can be differentiated from the network's output to its images: look for no_grad, detach or numpy in its forward"
        )
    return found


def minimise(
    objective: Objective,
    reference: Tensor,
    start: Tensor,
    constraint: Constraint,
    stepper: Stepper,
    steps: int,
    keep: str = "last",
    observe: Callable[[int, Tensor, Tensor], None] | None = None,
    finished: Callable[[], Tensor] | None = None,
) -> Moved:
    """Move `start` by `steps` gradient steps that lower `objective`, inside `constraint` around `reference`.

    reference, start: (n, c, h, w) in [0, 1]. keep: "last" iterate or "best" (lowest loss seen, per sample). observe(k, x,
    loss) sees every iterate, k = 0 (the start) to `steps`. finished() says, after each forward, which of its samples
    (b,) need no further step; they are kept as they are and leave the batch (evaluation only: then observe is refused).
    Costs one forward and one backward a step, and one forward at the end where the last iterate's loss is needed (all
    but keep="last" without observe; there `loss` is that of the iterate before the last).
    Raises FloatingPointError, naming the samples, when a loss or a gradient is not finite.
    """
    if keep not in ("last", "best"):
        raise BadInput(f"keep={keep!r} is unknown; allowed: last, best")
    if observe is not None and finished is not None:
        raise BadInput("observe and finished exclude each other: samples that left the batch cannot be observed")
    n = len(start)
    index = torch.arange(n, device=start.device)
    x = constraint.project(start.detach().clamp(0, 1), reference)
    kept, kept_loss = x.clone(), torch.full((n,), math.inf, device=x.device)
    zero_gradient = torch.zeros(n, dtype=torch.bool, device=x.device)
    velocity = torch.zeros_like(x) if stepper.momentum else None
    judge_last = keep == "best" or observe is not None or finished is not None
    for k in range(steps + 1):
        if k == steps and not judge_last:
            kept = x
            break
        last = k == steps
        with torch.set_grad_enabled(not last):
            x = x.detach().requires_grad_(not last)
            loss = objective(x, index)
            gradient = torch.zeros_like(x) if last else gradient_of(loss, x)
        x, loss = x.detach(), loss.detach().float()
        _check_finite(loss, gradient, index, k)
        if k == 0:
            zero_gradient = gradient.flatten(1).abs().amax(dim=1) == 0 if steps else zero_gradient
        done = finished() if finished is not None else None
        if keep == "best" or done is not None:
            better = (loss < kept_loss[index]) | (keep == "last") | (False if done is None else done)
            kept[index[better]], kept_loss[index[better]] = x[better], loss[better]
        else:
            kept, kept_loss = x, loss  # the whole batch: nothing to pick, nothing to copy
        if observe is not None:
            observe(k, x, loss)
        if last:
            break
        if done is not None and bool(done.any()):
            live = ~done
            index, x, reference, gradient = index[live], x[live], reference[live], gradient[live]
            velocity = velocity[live] if velocity is not None else None
            if len(index) == 0:
                break
        direction = stepper.direction(gradient)
        if velocity is not None:
            velocity = direction = stepper.momentum * velocity + direction
        x = constraint.project(x - stepper.length(k, steps) * direction, reference)
    return Moved(kept, kept_loss, zero_gradient)


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """`value` (n,) shaped to multiply `like` (n, ...)."""
    return value.view(-1, *([1] * (like.dim() - 1)))


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Drawn on the CPU and then moved, so that a generator gives the same numbers whatever the device."""
    return torch.rand(x.shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)


def _check_finite(loss: Tensor, gradient: Tensor, index: Tensor, k: int) -> None:
    bad = ~torch.isfinite(loss) | ~torch.isfinite(gradient.sum(dim=tuple(range(1, gradient.dim()))))  # flattening would copy channels_last
    if bool(bad.any()):
        raise FloatingPointError(
            f"loss or gradient is not finite at step {k} for samples {index[bad].tolist()}: check the images and the network's weights"
        )
