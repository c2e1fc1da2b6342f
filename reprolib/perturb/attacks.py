"""Projected gradient descent and the accuracies measured with it. Source: Madry et al. 2018 (arXiv 1706.06083).

Radii and steps are in pixel units; the loss is the sum of per-sample cross-entropies, so results do not depend on the
batch size. Evaluation is PGD-20 with 3 restarts, whatever a network was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprolib.boundary import NAMED, Classifier, Take, check_count, check_step, checked_images, checked_labels, own_state
from reprolib.errors import BadInput
from reprolib.models.layers import eval_mode, fold_batch_norm, movable_if_same
from reprolib.models.networks import Network
from reprolib.perturb.engine import Constraint, L2Ball, LinfBall, Moved, Stepper, gradient_of, minimise, per_sample

NORMS = ("l2", "linf")


class CrossEntropy:
    """Minus the cross-entropy of each sample; remembers which samples its last forward misclassified.

    precision: "bf16" runs the network under autocast (the loss itself is always fp32).
    """

    def __init__(self, model: nn.Module, y: Tensor, precision: str = "fp32") -> None:
        self.model, self.y, self.precision = model, y, precision
        self.fooled = torch.zeros(0, dtype=torch.bool)

    def __call__(self, x: Tensor, index: Tensor) -> Tensor:
        """See `engine.Objective`."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(x)
        y = self.y[index]
        self.fooled = logits.detach().argmax(dim=1) != y
        return -F.cross_entropy(logits.float(), y, reduction="none")


def ball(norm: str, eps: float, n_pixels: int) -> Constraint:
    """The ball of radius `eps` in pixel units.

    norm: "l2" or "linf". eps: within [0, 1] for linf, [0, sqrt(n_pixels)] for l2, where n_pixels counts channels too.
    Raises BadInput otherwise.
    """
    if norm not in NORMS:
        raise BadInput(f"norm {norm!r} is unknown; allowed: {', '.join(NORMS)}")
    largest = _farthest(norm, n_pixels)
    if not 0 <= eps <= largest:
        hint = f"; did you mean {eps:g}/255 = {eps / 255:.4f}?" if norm == "linf" and 1 < eps <= 255 else ""
        raise BadInput(f"eps={eps:g} is outside [0, {largest:g}] for {norm}: radii are in pixel units{hint}")
    return LinfBall(eps) if norm == "linf" else L2Ball(eps)


@own_state()
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: str = "linf",
    eps: float = 8 / 255,
    step: float = 2 / 255,
    steps: int = 10,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    random_start: bool = True,
    logits: Take | None = None,
) -> Tensor:
    """Adversarial images (n, c, h, w) for images x in [0, 1] and labels y (n,), by projected gradient descent.

    Each restart keeps the iterate of highest loss; over restarts the worst is kept per sample (misclassified first, then
    highest loss). The model is attacked in eval mode, on a faster copy if that is the same function, and handed back in the mode it was
    in; its parameters get no `.grad`, nor do the images. logits: where they are in an output that holds more: index, key or function.
    Raises BadInput for images outside [0, 1], labels that do not fit, a radius or step that is not in pixel units, and an output
    that is not logits (n, classes); FloatingPointError for a loss that is not finite.
    """
    x = checked_images(x).detach()
    y = checked_labels(y, len(x)).to(x.device)
    constraint = ball(norm, eps, x[0].numel())
    if eps:  # at radius 0 nothing moves, whatever the step
        check_step(step, _farthest(norm, x[0].numel()))
    check_count(steps, "steps")
    check_count(restarts, "restarts")
    worst, worst_loss = x.clone(), torch.full((len(x),), math.inf, device=x.device)
    worst_fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    lowest, fooled = worst_loss.clone(), worst_fooled.clone()

    def observe(k: int, iterate: Tensor, loss: Tensor) -> None:
        better = (loss < lowest) | (k == 0)
        lowest[better], fooled[better] = loss[better], objective.fooled[better]

    with eval_mode(model):
        objective = CrossEntropy(Classifier(movable_if_same(model, x, logits), y, logits), y)
        for _ in range(restarts):
            start = constraint.random_start(x, generator) if random_start else x
            moved = minimise(objective, x, start, constraint, _stepper(norm, step), steps, keep="best", observe=observe).x
            worse = (fooled & ~worst_fooled) | ((fooled == worst_fooled) & (lowest < worst_loss))
            worst[worse], worst_loss[worse], worst_fooled[worse] = moved[worse], lowest[worse], fooled[worse]
    return worst


def training_examples(
    network: Network,
    x: Tensor,
    y: Tensor,
    norm: str,
    eps: float,
    step: float,
    steps: int,
    random_start: bool,
    generator: torch.Generator,
    precision: str,
) -> Tensor:
    """Adversarial images for one training batch: last iterate, BN folded in eval mode, autocast where `precision` is "bf16".

    x: (n, c, h, w) in [0, 1], y: (n,). `steps` forwards and backwards.
    """
    constraint = ball(norm, eps, x[0].numel())
    start = constraint.random_start(x, generator) if random_start else x
    objective = CrossEntropy(fold_batch_norm(network), y, precision)
    return minimise(objective, x, start, constraint, _stepper(norm, step), steps).x


@dataclass(frozen=True)
class AdversarialAccuracy:
    """Accuracy under attack and everything it depends on; `correct` (n,) says which images withstood every restart."""

    value: float
    correct: Tensor
    gradient_zero_share: float
    norm: str
    eps: float
    step: float
    steps: int
    restarts: int
    n: int

    def describe(self) -> dict[str, float | int | str]:
        """Plain values for a network's card."""
        return {name: value for name, value in vars(self).items() if name != "correct"} | {"start": "random", "loss": "cross-entropy"}


@own_state()
def adversarial_accuracy(
    network: Network,
    x: Tensor,
    y: Tensor,
    norm: str,
    eps: float,
    steps: int = 20,
    restarts: int = 3,
    step: float | None = None,
    seed: int = 0,
    precision: str = "fp32",
    batch_size: int = 250,
    logits: Take | None = None,
) -> AdversarialAccuracy:
    """Share of images x (n, c, h, w) in [0, 1] still given their label y (n,) under PGD (default PGD-20, 3 restarts).

    step: 2.5 eps / steps by default. Samples leave the batch once fooled. The attack runs on a copy with folded BatchNorm
    (bf16 where `precision` says so); the verdict on each adversarial image comes from the network itself in fp32, and images
    that flip back are attacked once more in fp32 before they count as withstood. An upper bound on robust accuracy.
    logits, and what is refused: see `pgd`; logits that are no numbers are refused too.
    """
    x = checked_images(x).detach()
    y = checked_labels(y, len(x)).to(x.device)
    for name, count in (("steps", steps), ("restarts", restarts), ("batch_size", batch_size)):
        check_count(count, name)
    constraint = ball(norm, eps, x[0].numel())
    step = 2.5 * eps / steps if step is None else step
    if eps:
        check_step(step, _farthest(norm, x[0].numel()))
    generator = torch.Generator().manual_seed(seed)
    with eval_mode(network):
        folded = Classifier(movable_if_same(network, x, logits), y, logits)
        judge = Classifier(network, y, logits)
        correct = predictions(judge, x, batch_size) == y
        zero_share = _gradient_zero_share(judge, x, y, batch_size)
        flipped_back = torch.zeros_like(correct)
        for _ in range(restarts if eps > 0 else 0):
            starts = constraint.random_start(x, generator)  # drawn for all images: the same whatever the batch size
            for part in _batches(correct, batch_size):
                moved = _until_fooled(folded, x[part], y[part], starts[part], constraint, _stepper(norm, step), steps, precision)
                fooled = predictions(judge, moved.x, batch_size) != y[part]
                correct[part] = ~fooled
                if precision != "fp32":
                    with torch.no_grad(), torch.autocast(x.device.type, dtype=torch.bfloat16):
                        flipped_back[part] |= ~fooled & (folded(moved.x).argmax(dim=1) != y[part])
        for part in _batches(correct & flipped_back, batch_size):
            moved = _until_fooled(folded, x[part], y[part], starts[part], constraint, _stepper(norm, step), steps, "fp32")
            correct[part] = predictions(judge, moved.x, batch_size) == y[part]
    return AdversarialAccuracy(correct.float().mean().item(), correct, zero_share, norm, eps, step, steps, restarts, len(x))


@own_state()
def noise_accuracy(network: Network, x: Tensor, y: Tensor, norm: str, eps: float, seed: int = 0) -> float:
    """Accuracy on images x (n, c, h, w) moved by random noise of norm exactly `eps` (before clipping to [0, 1])."""
    x = checked_images(x).detach()
    y = checked_labels(y, len(x)).to(x.device)
    ball(norm, eps, x[0].numel())
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), device="cpu").to(x.device)
    noise = noise.sign() * eps if norm == "linf" else noise * per_sample(eps / noise.flatten(1).norm(dim=1), noise)
    return (predictions(Classifier(network, y), (x + noise).clamp(0, 1)) == y).float().mean().item()


@own_state()
@torch.no_grad()
def predictions(network: nn.Module, x: Tensor, batch_size: int = 500, logits: Take | None = None) -> Tensor:
    """Predicted classes (n,) of images x (n, c, h, w) in [0, 1], in eval mode and fp32.

    logits: see `pgd`. Raises BadInput for images outside [0, 1], and naming the images where a logit is not a number: its
    class would be a number all the same.
    """
    x = checked_images(x)
    check_count(batch_size, "batch_size")
    classifier = network if isinstance(network, Classifier) else Classifier(network, logits=logits)
    with eval_mode(network):
        found = torch.cat([classifier(part) for part in x.split(batch_size)])
    unknown = found.isnan().any(dim=1)
    if bool(unknown.any()):
        named = unknown.nonzero().flatten()[:NAMED].tolist()
        raise BadInput(f"the network's logits for images {named} are not numbers, so they have no class: look at its weights and precision")
    return found.argmax(dim=1)


def _batches(chosen: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The indices of the chosen samples (n,), batch by batch; nothing, rather than an empty batch, where none is chosen."""
    if bool(chosen.any()):
        yield from chosen.nonzero().flatten().split(batch_size)


def _until_fooled(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, constraint: Constraint, stepper: Stepper, steps: int, precision: str
) -> Moved:
    objective = CrossEntropy(model, y, precision)
    return minimise(objective, x, start, constraint, stepper, steps, keep="best", finished=lambda: objective.fooled)


def _gradient_zero_share(network: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> float:
    n_zero = 0
    for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        images = images.detach().requires_grad_()
        gradient = gradient_of(F.cross_entropy(network(images), labels, reduction="none"), images)
        n_zero += int((gradient.flatten(1).abs().amax(dim=1) == 0).sum())
    return n_zero / len(x)


def _farthest(norm: str, n_pixels: int) -> float:
    """The largest distance of two images: no radius or step is longer."""
    return 1.0 if norm == "linf" else math.sqrt(n_pixels)


def _stepper(norm: str, step: float) -> Stepper:
    return Stepper(step, "sign" if norm == "linf" else "l2")
