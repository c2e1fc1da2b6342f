"""ShapeTex: a procedural world in which every image has one shape and one texture, known exactly.

x = tint * clip(b + m * (s * delta + c * t), 0, 1), with b a random grey plus a weak 1/f field, m the shape's coverage,
s a random sign, t the texture. delta is the figure-ground contrast (the shape cue), c the RMS contrast of the texture.
The set is this code: item i of a world depends on (seed, i) alone, whatever is rendered with it and in whatever order.
Every random number but the shape and the texture comes from draws that know nothing of the label.

Area: shapes match (AREA of the frame) at scale 1; the scale, +-15 % on lengths, is drawn alike for all of them, and the
centroid is drawn so that at this scale any shape would lie within the frame. So size, area and place tell no class.

Never mirror these images in training: a mirror turns the grating at 45 degrees into that at 135, another class's texture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib import store
from reprolib.data import shapes, textures
from reprolib.data.images import Images, images
from reprolib.errors import BadInput, nearest

VERSION = 1  # raise when an image changes: it enters the fingerprint, hence the keys of networks and of cached images

SHAPES = ("disc", "square", "triangle", "star", "plus", "ring", "crescent", "L")
TEXTURES = ("grating_0", "grating_45", "grating_90", "grating_135", "checker", "dots", "blobs", "noise")  # pack `mixed`
HELD_OUT_SHAPES, HELD_OUT_TEXTURES = ("hexagon", "heart"), ("zigzag", "rings")

# Ten hues 36 degrees apart, and grey. All have the same RMS over the channels, so that no hue carries more contrast:
# the L2 energy of a texture within A pixels is TINT_RMS * c * sqrt(3 * A).
TINT_NAMES = ("red", "orange", "lime", "green", "mint", "cyan", "azure", "blue", "violet", "rose", "grey")
TINT_RMS = 0.9

SCALE_JITTER, ROTATION_DEG = 0.15, 20.0
GREY = (0.4, 0.6)  # range of the background's mean
BACKGROUND_RMS = 0.04  # of the background's 1/f field
CHUNK = 128  # items rendered at once, so that what is at work stays small; images do not depend on it


@dataclass(frozen=True)
class World:
    """A set of images: class k pairs shapes[k] with textures[k]. Lengths in px, contrasts in units of [0, 1].

    Raises BadInput for unknown shapes or textures, unequal counts, or numbers out of range.
    """

    size: int = 32
    shapes: tuple[str, ...] = SHAPES
    textures: tuple[str, ...] = TEXTURES
    delta: float = 0.2
    c: float = 0.15
    period_px: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for what, given, known in (("shape", self.shapes, shapes.SHAPES), ("texture", self.textures, textures.TEXTURES)):
            for name in given:
                if name not in known:
                    raise BadInput(f"{what} {name!r} is unknown, allowed are {', '.join(known)}{nearest(name, known)}")
        if len(self.shapes) != len(self.textures) or len(self.shapes) < 2:
            counts = f"{len(self.shapes)} shapes and {len(self.textures)} textures"
            raise BadInput(f"{counts} are given, allowed are equal counts of at least 2: class k is shape k with texture k")
        ranges = (("size", 8, 512), ("delta", 0, 1), ("c", 0, 1), ("period_px", 2, 512), ("seed", 0, 2**63))
        for what, low, high in ranges:
            if not low <= getattr(self, what) <= high:
                raise BadInput(f"{what}={getattr(self, what)} is outside [{low}, {high}]")


@dataclass(frozen=True)
class Variant:
    """Which shape and texture item i has: `pair(i, world)` maps indices (n,) to two arrays of ids; labels are made of them."""

    pair: Callable[[NDArray[np.int64], World], tuple[NDArray[np.int64], NDArray[np.int64]]]
    names: Callable[[World], tuple[tuple[str, ...], tuple[str, ...]]]


@dataclass(frozen=True)
class Batch:
    """n rendered items; ids index `shape_names`, `texture_names` and TINT_NAMES.

    image: (n, 3, h, w) uint8. mask, boundary: (n, h, w) bool (coverage above one half; its 1-px inner outline).
    shape, texture, tint, index: (n,) int64. sign: (n,) +1 where the figure is brighter, else -1.
    pose: (n, 4) float64: centroid x (right) and y (down) in [0, 1] of the frame, scale, rotation in degrees anticlockwise.
    """

    image: Tensor
    shape: Tensor
    texture: Tensor
    mask: Tensor
    boundary: Tensor
    tint: Tensor
    sign: Tensor
    pose: Tensor
    index: Tensor
    delta: float
    c: float
    shape_names: tuple[str, ...]
    texture_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image)


def render(world: World, indices: Iterable[int], variant: str = "both") -> Batch:
    """The items `indices` (n of them, at least one, none negative) of `world` in one of VARIANTS.

    both: shape k with texture k. conflict: shape a with texture b != a, any K items in a row having all K shapes and all
    K textures, any K (K - 1) in a row each pair once. held_out: shapes and textures that are in no training set, crossed.
    An item's pose, background, tint and sign are the same in all variants.
    """
    if variant not in VARIANTS:
        raise BadInput(f"variant={variant!r} is unknown, allowed are {', '.join(VARIANTS)}{nearest(variant, VARIANTS)}")
    index = np.asarray(list(indices), dtype=np.int64)
    if len(index) == 0 or index.min() < 0:
        raise BadInput(f"indices are {'empty' if len(index) == 0 else index.min()}: allowed is at least one index, none below 0")
    shape_names, texture_names = VARIANTS[variant].names(world)
    shape, texture = VARIANTS[variant].pair(index, world)
    parts = []
    for start in range(0, len(index), CHUNK):
        rows = slice(start, start + CHUNK)
        names = [shape_names[k] for k in shape[rows]], [texture_names[k] for k in texture[rows]]
        parts.append(_render(world, index[rows], *names))
    image, mask, tint, sign, pose = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
    return Batch(
        image=image, shape=torch.from_numpy(shape), texture=torch.from_numpy(texture), mask=mask,
        boundary=torch.from_numpy(shapes.boundary(mask.numpy())), tint=tint, sign=sign, pose=pose, index=torch.from_numpy(index),
        delta=world.delta, c=world.c, shape_names=shape_names, texture_names=texture_names,
    )  # fmt: skip


def tints() -> NDArray[np.float64]:
    """Channel factors of TINT_NAMES, (11, 3), at most 1, each row of RMS TINT_RMS."""
    hue = 6 * np.arange(10)[:, None] / 10
    # Full-saturation colours of the hue circle; a tint is white less a share of what its colour lacks.
    colour = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    lack = 1 - colour
    square, linear = np.sum(lack**2, axis=1), np.sum(lack, axis=1)
    share = (linear - np.sqrt(linear**2 - 3 * square * (1 - TINT_RMS**2))) / square  # sum (1 - share * lack)^2 = 3 TINT_RMS^2
    return np.concatenate([1 - share[:, None] * lack, np.full((1, 3), TINT_RMS)])


# Uniforms of an item, by place: 0 to 3 pose (x, y, scale, rotation), 4 tint, 5 sign, 6 grey, then background and texture.
# Later needs append to the end: earlier places, hence today's images, stay.
_BACKGROUND = slice(7, 7 + 3 * textures.N_WAVES)
_TEXTURE = slice(_BACKGROUND.stop, _BACKGROUND.stop + textures.N_UNIFORMS)


def _uniforms(world: World, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """The random numbers of items, (n, places): each from a counter-based generator keyed by (seed, i) alone."""
    keys = (np.random.SeedSequence((world.seed, int(i))) for i in index)
    return np.stack([np.random.Generator(np.random.Philox(key)).random(_TEXTURE.stop) for key in keys])


def _render(world: World, index: NDArray[np.int64], shape: list[str], texture: list[str]) -> tuple[NDArray, ...]:
    """One chunk: images, masks, tints, signs, poses, in float64 throughout and rounded to uint8 once."""
    u = _uniforms(world, index)
    scale = 1 + SCALE_JITTER * (2 * u[:, 2] - 1)
    room = 0.5 - shapes.REACH * scale
    pose = np.stack([0.5 + room * (2 * u[:, 0] - 1), 0.5 + room * (2 * u[:, 1] - 1), scale, ROTATION_DEG * (2 * u[:, 3] - 1)], axis=1)
    tint = np.floor(len(TINT_NAMES) * u[:, 4]).astype(np.int64)
    sign = np.where(u[:, 5] < 0.5, -1, 1)
    grey = GREY[0] + (GREY[1] - GREY[0]) * u[:, 6]
    background = grey[:, None, None] + BACKGROUND_RMS * textures.power_law_field(u[:, _BACKGROUND], world.size)
    coverage, field = np.empty_like(background), np.empty_like(background)
    for name in dict.fromkeys(shape):
        rows = np.array([n == name for n in shape])
        coverage[rows] = shapes.coverage(shapes.SHAPES[name], world.size, *pose[rows].T)
    for name in dict.fromkeys(texture):
        rows = np.array([n == name for n in texture])
        field[rows] = textures.texture(name, u[rows][:, _TEXTURE], world.size, world.period_px)
    grey_image = np.clip(background + coverage * (sign[:, None, None] * world.delta + world.c * field), 0, 1)
    image = np.rint(255 * grey_image[:, None] * tints()[tint][:, :, None, None]).astype(np.uint8)
    return image, coverage > 0.5, tint, sign, pose


def _same(i: NDArray[np.int64], world: World) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return i % len(world.shapes), i % len(world.shapes)


def _different(i: NDArray[np.int64], world: World) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    k = len(world.shapes)
    return i % k, (i + 1 + i // k % (k - 1)) % k


def _crossed(i: NDArray[np.int64], world: World) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    k = len(HELD_OUT_SHAPES)
    return i % k, (i + i // k) % k


VARIANTS: dict[str, Variant] = {
    "both": Variant(_same, lambda world: (world.shapes, world.textures)),
    "conflict": Variant(_different, lambda world: (world.shapes, world.textures)),
    "held_out": Variant(_crossed, lambda world: (HELD_OUT_SHAPES, HELD_OUT_TEXTURES)),
}

# What `load` knows by name: the world (of its training split) and how many training and test images it has.
WORLDS: dict[str, tuple[World, dict[str, int]]] = {
    "shapetexture": (World(), {"train": 16_000, "test": 2_000}),
    "shapetexture_gratings": (World(size=16, shapes=SHAPES[:4], textures=TEXTURES[:4], period_px=4.0), {"train": 600, "test": 200}),
}

# Mean and standard deviation per channel over the training split, in units of [0, 1] (a test computes them again).
NORMALISERS = {
    "shapetexture": ((0.4456, 0.4489, 0.4497), (0.1350, 0.1338, 0.1337)),
    "shapetexture_gratings": ((0.4394, 0.4488, 0.4449), (0.1326, 0.1348, 0.1326)),
}


def world_of(name: str, split: str) -> World:
    """The world that split "train" or "test" of set `name` is rendered from: the splits differ in their seed."""
    return dataclasses.replace(WORLDS[name][0], seed={"train": 0, "test": 1}[split])


def fingerprint(name: str) -> str:
    """A content key of the generator's version, the worlds and the counts: changes when, and only when, images do."""
    splits = {split: {"n": n, **dataclasses.asdict(world_of(name, split))} for split, n in WORLDS[name][1].items()}
    return store.content_key({"set": name, "version": VERSION, "splits": splits})


def load(name: str, split: str) -> Images:
    """Images of set `name` (one of WORLDS), split "train" or "test", variant `both`; rendered once, then cached."""
    chosen, n = world_of(name, split), WORLDS[name][1][split]
    description = {"set": "shapetexture", "version": VERSION, "world": dataclasses.asdict(chosen), "variant": "both", "n": n}

    def compute() -> dict[str, Tensor]:
        batch = render(chosen, range(n), "both")
        return {"x": batch.image, "y": batch.shape}

    kept = store.cache("images", description, compute)
    classes = tuple(f"{shape}+{texture}" for shape, texture in zip(chosen.shapes, chosen.textures, strict=True))
    return images(kept["x"], kept["y"], classes, name)
