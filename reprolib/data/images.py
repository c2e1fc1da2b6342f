"""A labelled set of images as one object: pixels, labels, class names, and the hash that identifies them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reprolib.errors import BadInput

CHUNK = 1000  # images resized at a time: bounds the memory of their float copies


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


def pick(source: Images, index: Tensor) -> Images:
    """The images at `index` ((k,) int64), in that order, with the hash of what was picked; classes and name stay."""
    return images(source.x[index], source.y[index], source.classes, source.name)


def as_rgb(source: Images, size_px: int) -> Images:
    """The images as (n, 3, size_px, size_px): grey repeated to three channels, resized where the size is another.

    Bilinear, antialiased (a triangle as wide as an output pixel when shrinking), computed in float64 and rounded to
    uint8. What is changed is a resized copy and says so in its name, `<name>_rgb<size_px>`; images that already fit come
    back as they are. Raises BadInput when size_px is below 1 or there are neither one nor three channels.
    """
    n, channels, height, width = source.x.shape
    if channels not in (1, 3):
        raise BadInput(f"{source.name}: images have {channels} channels, allowed are 1 (grey) and 3 (RGB)")
    if size_px < 1:
        raise BadInput(f"size_px={size_px} is not allowed: images are at least 1 pixel wide")
    if (channels, height, width) == (3, size_px, size_px):
        return source
    x = source.x
    if (height, width) != (size_px, size_px):
        x = torch.cat([_bilinear(part, size_px) for part in x.split(CHUNK)])
    return images(x.expand(n, 3, size_px, size_px), source.y, source.classes, f"{source.name}_rgb{size_px}")


def shrink(source: Images, size_px: int) -> Images:
    """The square images shrunk to size_px by area: every new pixel is the mean of an equal square of old ones.

    Whole-number arithmetic (halves round up), so the bytes are the same on every machine; the name stays. Raises BadInput
    unless the images are square and their size is a multiple of size_px.
    """
    height, width = source.x.shape[2:]
    if height != width or size_px < 1 or height % size_px:
        raise BadInput(
            f"{source.name}: images of {width} x {height} px cannot be shrunk by area to size_px={size_px}, allowed are its divisors"
        )
    times = height // size_px
    if times == 1:
        return source
    x = torch.cat([_area(part, times) for part in source.x.split(CHUNK)])
    return images(x, source.y, source.classes, source.name)


def _bilinear(x: Tensor, size_px: int) -> Tensor:
    resized = F.interpolate(x.double(), (size_px, size_px), mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def _area(x: Tensor, times: int) -> Tensor:
    n, channels, height, width = x.shape
    cells = x.to(torch.int32).view(n, channels, height // times, times, width // times, times).sum(dim=(3, 5))
    return ((2 * cells + times**2) // (2 * times**2)).to(torch.uint8)
