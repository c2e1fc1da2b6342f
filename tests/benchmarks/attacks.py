"""PGD, accuracy under it, and inversion: ours beside torchattacks, foolbox and an inversion as it is usually written.

All run in one process, on one thread, by turns; times are seconds of the processor, medians. The networks are the project's own,
trained on CIFAR-10 (Net14 and W8, residual networks of 14 and 8 layers), and a ResNet-18 of torchvision with 3 x 3 stem, which nobody trained:
it shows speed alone. torchattacks and foolbox return the last iterate of PGD-10; `pgd` the one of highest loss, for one forward more.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

import reprolib
from reprolib import data
from reprolib.errors import MissingData
from reprolib.measures.perceptual import relative_distance
from reprolib.models.layers import representation
from reprolib.perturb.attacks import adversarial_accuracy, pgd, predictions
from reprolib.perturb.inversion import invert, noise_start

REPEATS = 7
EPS, STEP, STEPS = 8 / 255, 2 / 255, 10
INVERSION_STEPS, INVERSION_STEP = 20, 0.1


def by_turns(ways: dict[str, Callable[[], Tensor]]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds of each way, each called once to warm up and then in turn with the others; and what it gave last."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    given = {}
    for _ in range(1 + REPEATS):
        for name, way in ways.items():
            start = time.process_time()
            given[name] = way()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(one[1:]) for name, one in seconds.items()}, given


def told(what: str, seconds: dict[str, float], agreement: Callable[[str], str]) -> None:
    """Print the seconds of each way, ours first, how many times faster ours is, and how they agree."""
    print(what)
    for name, taken in seconds.items():
        faster = f", ours {taken / seconds['reprolib']:.2f} times as fast" if name != "reprolib" else ""
        print(f"  {name:<20} {taken:6.3f} s, {agreement(name)}{faster}", flush=True)


def attacks(what: str, model: nn.Module, x: Tensor, y: Tensor, trained: bool = True) -> None:
    """PGD-10 from one random start in Linf 8/255, and then the accuracy under it."""
    import foolbox
    import torchattacks

    theirs, bounded = torchattacks.PGD(model, EPS, STEP, STEPS), foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    other = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS)
    ways = {
        "reprolib": lambda: pgd(model, x, y, "linf", EPS, STEP, STEPS),
        "torchattacks 3.5.1": lambda: theirs(x, y),
        "foolbox 3.3.4": lambda: other(bounded, x, y, epsilons=EPS)[1],
    }

    def agreement(name: str) -> str:
        with torch.no_grad():
            logits = model(moved[name])
        accuracy = f"accuracy {(logits.argmax(1) == y).float().mean():.3f}, " if trained else ""
        return f"{accuracy}loss {F.cross_entropy(logits, y):.4f}"

    seconds, moved = by_turns(ways)
    told(f"{what}: pgd, {len(x)} images", seconds, agreement)
    if trained:
        measured = {name: lambda way=way: (predictions(model, way()) == y).float().mean() for name, way in ways.items()}
        measured["reprolib"] = lambda: torch.tensor(adversarial_accuracy(model, x, y, "linf", EPS, STEPS, 1, STEP).value)
        seconds, accuracy = by_turns(measured)
        told(f"{what}: adversarial_accuracy, {len(x)} images", seconds, lambda name: f"accuracy {accuracy[name]:.3f}")


def inversions(x: Tensor) -> None:
    """From noise to the codes of x; the plain way forwards once for the gradient and once to see how near it is."""
    model, start = reprolib.network("w8", "l2_05").eval(), noise_start(x.shape, 0)

    def distance(moved: Tensor) -> Tensor:
        return relative_distance(representation(model, moved, straight_through=True), representation(model, x).detach())

    def plain() -> Tensor:
        wanted = representation(model, x).detach()
        moved, velocity = start.clone(), torch.zeros_like(start)
        for k in range(INVERSION_STEPS):
            moved.requires_grad_()
            loss = relative_distance(representation(model, moved, straight_through=True), wanted)
            gradient = torch.autograd.grad(loss.sum(), moved)[0]
            velocity = 0.9 * velocity + F.normalize(gradient.flatten(1)).view_as(gradient)
            length = INVERSION_STEP * (1 + torch.cos(torch.tensor(torch.pi * k / INVERSION_STEPS))) / 2
            moved = (moved.detach() - length * velocity).clamp(0, 1)
            with torch.no_grad():
                distance(moved)
        return moved

    ways = {"reprolib": lambda: invert(model, x, start, INVERSION_STEPS, INVERSION_STEP), "two forwards a step": plain}
    seconds, moved = by_turns(ways)
    print(f"largest difference of the inverses {(moved['reprolib'] - moved['two forwards a step']).abs().max():.1e}")
    told(f"w8 robust: invert, {len(x)} images, {INVERSION_STEPS} steps", seconds, lambda name: f"d_rep {distance(moved[name]).mean():.4f}")


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    try:
        import foolbox  # noqa: F401
        import torchattacks  # noqa: F401
    except ImportError as error:
        sys.exit(f"{error}: this compares with torchattacks, which `make bench` installs into .bench/, and foolbox of the environment")
    try:
        test = data.load("cifar10", "test")
        x, y = test.x[:64].float() / 255, test.y[:64].long()
        for recipe, kind in (("linf_8", "robust"), ("std", "standard")):
            attacks(f"net14 {kind}", reprolib.network("net14", recipe).eval(), x, y)
        inversions(x[:32])
        model = resnet18(num_classes=10)
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        attacks("resnet18, random weights", model.eval(), x[:8], y[:8], trained=False)
    except MissingData as error:
        print(f"left out what needs CIFAR-10: {error}")


if __name__ == "__main__":
    main()
