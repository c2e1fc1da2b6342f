"""Which images layers are measured on: disjoint batches with as many images of each class, the same ones for every network.

A batch is the unit of every interval here: whole batches are resampled, never points inside one, where duplicates are neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images, shapetexture
from reprolib.data.images import images as labelled
from reprolib.data.images import pick
from reprolib.errors import BadInput
from reprolib.study import Study


@dataclass(frozen=True)
class Batches:
    """`count` disjoint batches of n images; iterate for (x float (n, c, h, w) in [0, 1], y int64 (n,)) on `device`.

    images: count x n, batch after batch; inside a batch the classes take turns, so that its first images are balanced too.
    """

    images: Images
    n: int
    count: int
    device: str = "cpu"

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for b in range(self.count):
            at = slice(b * self.n, (b + 1) * self.n)
            yield self.images.x[at].to(self.device).float() / 255, self.images.y[at].to(self.device)

    @property
    def labels(self) -> Tensor:
        """The classes (count, n) of the images."""
        return self.images.y.view(self.count, self.n)

    @property
    def units(self) -> list[str]:
        """The batches as rows name them: "00", "01", ..."""
        return [f"{b:02d}" for b in range(self.count)]

    def first(self, n: int, count: int = 0) -> Batches:
        """The first `count` batches (0: all), each of its first n images, or all. Raises BadInput where a class would have fewer than two."""
        n, count = min(n, self.n), min(count or self.count, self.count)
        if n < 2 * len(self.images.classes):
            raise BadInput(f"batches of {n} images hold {len(self.images.classes)} classes: at least two images of each are needed")
        index = torch.arange(self.count * self.n).view(self.count, self.n)[:count, :n].flatten()
        return replace(self, images=pick(self.images, index), n=n, count=count)

    def describe(self) -> dict[str, object]:
        """Plain values for cache keys; equal ones mean equal images in equal batches."""
        return {"data": self.images.sha256, "n": self.n, "batches": self.count}


def batches(images: Images, n_per_class: int, count: int, device: str = "cpu") -> Batches:
    """`count` disjoint batches with `n_per_class` images of each class, taken class by class in the set's order.

    Raises BadInput for fewer than two images a class, and where a class has too few: no image is used twice.
    """
    if n_per_class < 2 or count < 1:
        raise BadInput(f"{count} batches of {n_per_class} images a class: give at least one batch, and two images a class")
    wanted, index = n_per_class * count, []
    for k, name in enumerate(images.classes):
        own = (images.y == k).nonzero().flatten()
        if len(own) < wanted:
            raise BadInput(
                f"{count} disjoint batches of {n_per_class} images a class need {wanted} of each, {images.name} has {len(own)} of "
                f"{name!r}: at most n_batches={len(own) // n_per_class}"
            )
        index.append(own[:wanted])
    chosen = pick(images, torch.stack(index, dim=1).flatten())  # the j-th images of all classes, then the next ones
    return Batches(chosen, n_per_class * len(images.classes), count, device)


@functools.lru_cache(maxsize=1)
def of_scale(study: Study) -> Batches:
    """The scale's batches, of its test images; of a procedural set more are rendered where they are needed. Raises BadInput as `batches` does."""
    name, n_per_class, count = study.settings.scale.dataset, study.settings["n_per_class"], study.settings["n_batches"]
    test = study.images("test")
    wanted = n_per_class * count * len(test.classes)
    if name in shapetexture.WORLDS and wanted > len(test):  # item i shows class i mod K
        test = study.reads(_longer(test, shapetexture.world_of(name, "test"), wanted))
    return batches(test, n_per_class, count, study.device)


def _longer(test: Images, world: shapetexture.World, n: int) -> Images:
    """The first n items of the world that the test images are the first of."""

    def compute() -> dict[str, Tensor]:
        more = shapetexture.render(world, range(len(test), n))
        return {"x": more.image, "y": more.y}

    kept = store.cache("images", {"world": shapetexture.world_key(world), "from": len(test), "to": n}, compute)
    return labelled(torch.cat([test.x, kept["x"]]), torch.cat([test.y, kept["y"]]), test.classes, f"{test.name}, first {n} of test")
