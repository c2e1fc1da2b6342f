"""The image pairs between which every network interpolates: across classes, outside the training set, within a class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.data import Images
from reprolib.errors import BadInput
from reprolib.findings.invertibility.inverting import FIRST_TEST_IMAGES, N_TYPICAL


@dataclass(frozen=True)
class Pairs:
    """The images between which every network interpolates, in the order across, ood, within.

    left, right: (n, 3, h, w) in [0, 1]. kinds: "across" (two classes of the test set), "ood" (two images from outside it),
    "within" (two images of one class). units: readable, unique ids. y_left, y_right: classes (n,), -1 outside the test set.
    typical: test images that set each network's unit of distance. data_sha256: of the test set.
    """

    left: Tensor
    right: Tensor
    kinds: list[str]
    units: list[str]
    y_left: Tensor
    y_right: Tensor
    typical: Tensor
    data_sha256: str

    def places(self, kind: str) -> list[int]:
        """Which pairs are of that kind."""
        return [i for i, one in enumerate(self.kinds) if one == kind]


def make_pairs(images: Images, ood: Tensor, n_pairs: int, device: str = "cpu") -> Pairs:
    """Pairs from the first test images, in turn from every class, and from `ood` (none where it is empty); no image twice.

    Raises BadInput when there are fewer than 4 pairs or 2 classes, or too few images of a class or outside the test set.
    """
    quarter, n_classes = n_pairs // 4, len(images.classes)
    if n_pairs < 4 or n_classes < 2:
        raise BadInput(
            f"n_pairs={n_pairs} of {n_classes} classes is not allowed: give at least 4 pairs (2 across, 1 ood, 1 within) of 2 classes"
        )
    if ood.shape[1:] != images.x.shape[1:] or not ood.is_floating_point() or 0 < len(ood) < 2 * quarter:
        raise BadInput(
            f"ood is {ood.dtype} of shape {tuple(ood.shape)}: {quarter} of {n_pairs} pairs need at least {2 * quarter} images "
            f"of {tuple(images.x.shape[1:])} in [0, 1]"
        )
    x, y = images.x[:FIRST_TEST_IMAGES], images.y[:FIRST_TEST_IMAGES]
    k = n_classes
    drawn = [(i % k, (i + 1 + (i // k) % (k - 1)) % k) for i in range(n_pairs - 2 * quarter)]  # the right class is never the left
    n_across = len(drawn)
    drawn += [(i % k, i % k) for i in range(quarter)]
    queues = [(y == c).nonzero().flatten().tolist() for c in range(k)]
    for c, n in Counter(c for pair in drawn for c in pair).items():
        if n > len(queues[c]):
            raise BadInput(
                f"n_pairs={n_pairs} needs {n} images of class {images.classes[c]!r}, the first {len(y)} test images hold {len(queues[c])}"
            )
    heads = [iter(queue) for queue in queues]
    ids = [(next(heads[a]), next(heads[b])) for a, b in drawn]
    n_outside = quarter if len(ood) else 0
    half = len(ood) // 2  # sets that are sorted by class give pairs of different classes
    outside = [(i, half + i) for i in range(n_outside)]

    def side(which: int) -> tuple[Tensor, Tensor]:
        places = [pair[which] for pair in ids]
        inside = x[places].float().to(device) / 255
        joined = torch.cat([inside[:n_across], ood[[pair[which] for pair in outside]].float().to(device), inside[n_across:]])
        classes = y[places].to(device)
        return joined, torch.cat([classes[:n_across], torch.full((n_outside,), -1, device=device), classes[n_across:]])

    (left, y_left), (right, y_right) = side(0), side(1)
    units = [f"{a}-{b}" for a, b in ids]
    units[n_across:n_across] = [f"ood{a}-ood{b}" for a, b in outside]
    kinds = ["across"] * n_across + ["ood"] * n_outside + ["within"] * quarter
    return Pairs(left, right, kinds, units, y_left, y_right, x[:N_TYPICAL].float().to(device) / 255, images.sha256)
