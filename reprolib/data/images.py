"""A labelled set of images as one object: pixels, labels, class names, and the hash that identifies them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Images in memory, on the CPU.

    x: (n, c, h, w) uint8 pixels. y: (n,) int64 labels, indices into `classes`. name: the data set's name.
    sha256: 64 hex digits over the bytes of x followed by the bytes of y; equal hashes mean equal images in equal order.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    name: str
    sha256: str

    def __len__(self) -> int:
        return len(self.x)


def images(x: Tensor, y: Tensor, classes: tuple[str, ...], name: str) -> Images:
    """Images from x (n, c, h, w) uint8 and y (n,) integers, with their hash computed.

    Raises ValueError when a shape or a dtype is wrong, or a label names no class.
    """
    if x.dtype != torch.uint8 or x.ndim != 4:
        raise ValueError(f"{name}: pixels are {x.dtype} of shape {tuple(x.shape)}, allowed is uint8 of shape (n, c, h, w)")
    if y.shape != x.shape[:1]:
        raise ValueError(f"{name}: labels have shape {tuple(y.shape)} for {len(x)} images, allowed is ({len(x)},)")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(classes):
        raise ValueError(f"{name}: labels run from {int(y.min())} to {int(y.max())}, allowed is 0 to {len(classes) - 1}")
    x, y = x.contiguous(), y.to(torch.int64).contiguous()
    digest = hashlib.sha256(x.numpy().data)
    digest.update(y.numpy().data)
    return Images(x, y, tuple(classes), name, digest.hexdigest())
