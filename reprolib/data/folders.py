"""Sets of image files in class folders, whose sha256 is checked file by file before it is decoded.

Two sets of natural images that no network here was trained on: 1,000 validation images of 20 classes of Tiny ImageNet
(none a CIFAR-10 class; made for Stanford CS231N from ImageNet, whose terms allow non-commercial research and education)
and 400 images of 10 classes of the Describable Textures Dataset (Cimpoi et al. 2014; made available for research).
BOTH ARE RESIZED COPIES: Tiny ImageNet's 64 px files are shrunk here to 32 px; the textures came centre-cropped and
resized to 96 px JPEG and are shrunk here to 32 px. They are for asking about other images, not for benchmark numbers.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reprolib import store
from reprolib.data.filesets import FileSet, Root
from reprolib.data.images import Images, images, shrink

CHECKSUMS = Path(__file__).parent / "checksums"


@dataclass(frozen=True)
class FolderSet(FileSet):
    """A set of image files to look at, not to train on, that has to be put into its place by hand.

    classes: folder name to class name, in the order of labels. size_px: to which its square images are shrunk by area (None: as they are).
    """

    classes: Mapping[str, str] = field(default_factory=dict)
    size_px: int | None = None
    splits = ("test",)
    algorithm = "sha256"
    get = "put the files that reprolib/data/checksums/{name}.sha256 lists"
    cure = "put the original file there again (`sha256sum -c` with reprolib/data/checksums/{name}.sha256 shows every broken one)"

    def checksums(self) -> dict[str, str]:
        """Path below the set's folder to sha256, in the order of the images, by class folder, then by name: what `sha256sum -c` reads."""
        lines = (CHECKSUMS / f"{self.name}.sha256").read_text(encoding="utf-8").splitlines()
        return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}

    def fingerprint(self) -> str:
        """See `FileSet.fingerprint`; the size counts too."""
        return store.content_key({"set": self.name, "sha256": self.checksums(), "size_px": self.size_px, "resize": "area"})

    def load(self, split: str = "test", root: Root = None) -> Images:
        """All images of the set, (n, 3, size, size), in the order of `checksums`, labelled by their folder; other files are ignored."""
        folder, listed, folders = self.existing(root), self.checksums(), list(self.classes)
        pixels = torch.stack([_decoded(self.content(folder / path, checksum)) for path, checksum in listed.items()])
        labels = torch.tensor([folders.index(path.split("/")[0]) for path in listed])
        whole = images(pixels, labels, tuple(self.classes.values()), self.name)
        return whole if self.size_px is None else shrink(whole, self.size_px)


def _decoded(content: bytes) -> torch.Tensor:
    """An image file as (3, h, w) uint8; grey ones repeat their channel."""
    with Image.open(io.BytesIO(content)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


TINY_IMAGENET_20 = FolderSet(
    name="tiny_imagenet_20",
    title="Tiny ImageNet (1,000 validation images of 20 classes, resized to 32 px)",
    folder="tiny-imagenet-20/val",
    size_px=32,
    classes={
        "n01443537": "goldfish",
        "n01770393": "scorpion",
        "n01882714": "koala",
        "n01910747": "jellyfish",
        "n01917289": "brain coral",
        "n01944390": "snail",
        "n01983481": "American lobster",
        "n02279972": "monarch",
        "n02769748": "backpack",
        "n02823428": "beer bottle",
        "n04254777": "sock",
        "n04398044": "teapot",
        "n04399382": "teddy",
        "n04507155": "umbrella",
        "n07695742": "pretzel",
        "n07734744": "mushroom",
        "n07747607": "orange",
        "n07753592": "banana",
        "n07873807": "pizza",
        "n07920052": "espresso",
    },
)

_TEXTURES = (
    *("banded", "blotchy", "braided", "bubbly", "bumpy"),
    *("chequered", "cobwebbed", "cracked", "crosshatched", "crystalline"),
)
TEXTURES = FolderSet(
    name="textures",
    title="the set of describable textures (400 images of 10 classes, resized to 32 px)",
    folder="dtd-subset-96",
    size_px=32,
    classes={name: name for name in _TEXTURES},
)
