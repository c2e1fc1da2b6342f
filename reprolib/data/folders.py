"""Sets of image files in class folders, whose sha256 is checked file by file before it is decoded.

Two sets of natural images that no network here was trained on: 1,000 validation images of 20 classes of Tiny ImageNet
(none a CIFAR-10 class; made for Stanford CS231N from ImageNet, whose terms allow non-commercial research and education)
and 400 images of 10 classes of the Describable Textures Dataset (Cimpoi et al. 2014; made available for research).
BOTH ARE RESIZED COPIES: Tiny ImageNet's 64 px files are shrunk here to 32 px; the textures came centre-cropped and
resized to 96 px JPEG and are shrunk here to 32 px. They are for asking about other images, not for benchmark numbers.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reprolib import store
from reprolib.data.images import Images, images, shrink
from reprolib.errors import CorruptFile, MissingData

CHECKSUMS = Path(__file__).parent / "checksums"


@dataclass(frozen=True)
class FolderSet:
    """Where a set of class folders lies and what it holds.

    name: as `data.load` knows it. title: as a sentence names it, resized copies labelled so. folder: its path below a data
    root. size_px: to which its square images are shrunk by area (None: as they are). classes: folder name to class name,
    in the order of labels. scales: those that need it.
    """

    name: str
    title: str
    folder: str
    size_px: int | None
    classes: Mapping[str, str]
    scales: tuple[str, ...] = ("cifar", "gpu")


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
    "banded",
    "blotchy",
    "braided",
    "bubbly",
    "bumpy",
    "chequered",
    "cobwebbed",
    "cracked",
    "crosshatched",
    "crystalline",
)
TEXTURES = FolderSet(
    name="textures",
    title="the set of describable textures (400 images of 10 classes, resized to 32 px)",
    folder="dtd-subset-96",
    size_px=32,
    classes={name: name for name in _TEXTURES},
)


def checksums(wanted: FolderSet) -> dict[str, str]:
    """Path below the set's folder to sha256, in the order of the images: what `sha256sum -c` reads."""
    lines = (CHECKSUMS / f"{wanted.name}.sha256").read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def fingerprint(wanted: FolderSet) -> str:
    """A content key over the known sha256s and the size: known without reading the images, which are refused when they differ."""
    return store.content_key({"set": wanted.name, "sha256": checksums(wanted), "size_px": wanted.size_px, "resize": "area"})


def places(wanted: FolderSet, root: str | os.PathLike[str] | None = None) -> list[Path]:
    """The folders that are looked into, in order: below `root` when given, then below `$REPROLIB_DATA` and `data/`."""
    return [base / wanted.folder for base in store.data_roots(root)]


def find(wanted: FolderSet, root: str | os.PathLike[str] | None = None) -> Path | None:
    """The first of `places` that exists (its files are not checked), or None."""
    return next((place for place in places(wanted, root) if place.is_dir()), None)


def how(wanted: FolderSet, place: str | None = None) -> str:
    """How to get the set into `place` (below `data/` by default), in one line: nobody offers exactly these files for download."""
    return (
        f"put the files that reprolib/data/checksums/{wanted.name}.sha256 lists into {place or f'data/{wanted.folder}'}, or name the "
        f"folder that holds {wanted.folder} in REPROLIB_DATA"
    )


def paths(wanted: FolderSet) -> list[str]:
    """Every file of the set, below its folder, in the order of the images: by class folder, then by name."""
    return list(checksums(wanted))


def check(wanted: FolderSet, root: str | os.PathLike[str] | None = None) -> Path:
    """The set's folder, once every file in it is the known one; nothing is decoded. Raises as `load` does."""
    folder = _folder(wanted, root)
    for path, digest in checksums(wanted).items():
        _known_bytes(folder / path, digest, wanted)
    return folder


def load(wanted: FolderSet, root: str | os.PathLike[str] | None = None) -> Images:
    """All images of the set, (n, 3, size, size), in the order of `paths`, labelled by their folder.

    Files that are not listed are ignored. Raises MissingData when the folder is found nowhere, and CorruptFile when a
    file is missing or not the known one; such a file is not decoded.
    """
    folder = _folder(wanted, root)
    pixels = [_decoded(_known_bytes(folder / path, digest, wanted)) for path, digest in checksums(wanted).items()]
    folders = list(wanted.classes)
    labels = torch.tensor([folders.index(path.split("/")[0]) for path in paths(wanted)])
    whole = images(torch.stack(pixels), labels, tuple(wanted.classes.values()), wanted.name)
    return whole if wanted.size_px is None else shrink(whole, wanted.size_px)


def _folder(wanted: FolderSet, root: str | os.PathLike[str] | None) -> Path:
    """Where the set is, or the error that says what is not here, where to put it, and which scales work without it."""
    found = find(wanted, root)
    if found is None:
        title, place = wanted.title[:1].upper() + wanted.title[1:], str(store.root() / "data" / wanted.folder)
        raise MissingData(
            f"{title} is not here: {how(wanted, place)}; the scales smoke and laptop work without it "
            f"(looked into {', '.join(map(str, store.data_roots(root)))})"
        )
    return found


def _known_bytes(path: Path, expected: str, wanted: FolderSet) -> bytes:
    """The bytes of a file, once its sha256 is the known one."""
    listed = f"reprolib/data/checksums/{wanted.name}.sha256"
    cure = f"put the original file there again (`sha256sum -c` with {listed} shows every broken one)"
    if not path.is_file():
        raise CorruptFile(f"{path} is missing while its set is there (expected sha256 {expected}): {cure}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise CorruptFile(
            f"{path} has sha256 {found}, expected {expected}: it is truncated ({len(content)} bytes) or altered, and was not decoded; {cure}"
        )
    return content


def _decoded(content: bytes) -> torch.Tensor:
    """An image file as (3, h, w) uint8; grey ones repeat their channel."""
    with Image.open(io.BytesIO(content)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
