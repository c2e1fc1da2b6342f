"""The image pairs between which every network interpolates: across classes, outside the training set, within a class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.data import Images
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
    """Pairs from the first test images, in turn from every class, and from `ood` (none where it is empty); no image twice."""
    quarter, k = n_pairs // 4, len(images.classes)
    x, y = images.x[:FIRST_TEST_IMAGES], images.y[:FIRST_TEST_IMAGES]
    drawn = [(i % k, (i + 1 + (i // k) % (k - 1)) % k) for i in range(n_pairs - 2 * quarter)]  # the right class is never the left
    n_across = len(drawn)
    drawn += [(i % k, i % k) for i in range(quarter)]
    heads = [iter((y == c).nonzero().flatten().tolist()) for c in range(k)]
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
