"""Which images are compared: disjoint batches of equal size, the same ones for every network.

A batch is the unit of every interval of this finding: whole batches are resampled, never images inside one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reprolib.data import Images, shapetexture
from reprolib.data.images import pick
from reprolib.errors import BadInput
from reprolib.measures.procrustes import ROWS_PER_DIMENSION
from reprolib.study import Study

Report = Callable[[str], None]

FRESH_SEED = 2
"""Of the procedural images that neither training (0) nor testing (1) draws: Procrustes needs ten images a dimension."""

N_ESTIMATED = 4096
"""Training images on which an untrained network's BatchNorm is estimated, as in the zoo."""


@dataclass(frozen=True)
class Batches:
    """The first `count` disjoint batches of n images; iterate for float images (n, c, h, w) in [0, 1] on `device`.

    report: tells how far the work on them is.
    """

    images: Images
    n: int
    count: int
    device: str
    report: Report

    def __iter__(self) -> Iterator[Tensor]:
        for b in range(self.count):
            yield self.images.x[b * self.n : (b + 1) * self.n].to(self.device).float() / 255

    @property
    def labels(self) -> Tensor:
        """The classes (count, n) of the images."""
        return self.images.y[: self.n * self.count].view(self.count, self.n)

    def describe(self) -> dict[str, object]:
        """Plain values for cache keys."""
        return {"data": self.images.sha256, "n": self.n, "batches": self.count}


def batches(images: Images, n: int, count: int, device: str = "cpu", report: Report = lambda line: None) -> Batches:
    """`count` disjoint batches of n images, in the set's order.

    Raises BadInput when there are too few images: they are never used twice, duplicates raise HSIC.
    """
    if n * count > len(images):
        raise BadInput(
            f"{count} disjoint batches of {n} need {n * count} images, {images.name} has {len(images)}: "
            f"at most n_batches={len(images) // n} of that size, or batch_size={len(images) // count}"
        )
    return Batches(images, n, count, device, report)


def layer_batches(study: Study, images: Images | None = None) -> Batches:
    """The batches on which layers are compared, of the test images unless others are given."""
    return batches(images or study.images("test"), study.settings["batch_size"], study.settings["n_batches"], study.device, study.report)


def state_batches(study: Study) -> Batches:
    """The batches on which states of one network are compared: more states than networks, so fewer images."""
    return batches(study.images("test"), study.settings["state_batch_size"], study.settings["state_batches"], study.device, study.report)


def wide_batches(study: Study, n_features: int) -> Batches | None:
    """Batches of ten images a feature, for Procrustes; None where there are not even two.

    Of procedural sets fresh images are rendered, from a seed that nothing else uses; otherwise the test images serve, and
    set how many batches there can be.
    """
    count, n = study.settings["procrustes_batches"], ROWS_PER_DIMENSION * n_features
    name = study.settings.scale.dataset
    if name in shapetexture.WORLDS and count:
        world = replace(shapetexture.world_of(name, "test"), seed=FRESH_SEED)
        return batches(shapetexture.items(world, n * count, name=name), n, count, study.device, study.report)
    test = study.images("test")
    count = min(count, len(test) // n)
    return batches(test, n, count, study.device, study.report) if count >= 2 else None


def last_images(images: Images, n: int, skip: int = 0) -> Images:
    """The last n images of a set but for the very last `skip`: far from those on which states are compared, which come first."""
    end = max(0, len(images) - skip)
    return pick(images, torch.arange(max(0, end - n), end))
