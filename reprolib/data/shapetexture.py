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
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib import store
from reprolib.data import shapes, textures
from reprolib.data.images import Images, images
from reprolib.data.variants import VARIANTS, finish
from reprolib.errors import BadInput, nearest

VERSION = 1  # raise when an image changes: it enters the fingerprint, hence the keys of networks and of cached images

SHAPES = ("disc", "square", "triangle", "star", "plus", "ring", "crescent", "L")
TEXTURES = ("grating_0", "grating_45", "grating_90", "grating_135", "checker", "dots", "blobs", "noise")  # pack `mixed`
HELD_OUT_SHAPES, HELD_OUT_TEXTURES = ("hexagon", "heart"), ("zigzag", "rings")

# Ten hues 36 degrees apart, and grey. All have the same RMS over the channels, so that no hue carries more contrast:
# the L2 energy of a texture within A pixels is TINT_RMS * c * sqrt(3 * A).
TINT_NAMES = ("red", "orange", "lime", "green", "mint", "cyan", "azure", "blue", "violet", "rose", "grey")
TINT_RMS = 0.9

SCALE_JITTER = 0.15  # of lengths, either way
GREY = (0.4, 0.6)  # range of the background's mean
CHUNK = 128  # items rendered at once, so that what is at work stays small; images do not depend on it


@dataclass(frozen=True)
class World:
    """A set of images: class k pairs shapes[k] with textures[k]. Lengths in px, contrasts in units of [0, 1].

    rotation_deg: figures are turned by up to so much either way (textures are not). background_rms: of the background's 1/f
    field. The more of either, the longer shapes take to learn, whatever the margins; `reprolib calibrate` sets the second.

    Raises BadInput for unknown shapes or textures, unequal counts, or numbers out of range.
    """

    size: int = 32
    shapes: tuple[str, ...] = SHAPES
    textures: tuple[str, ...] = TEXTURES
    delta: float = 0.2
    c: float = 0.15
    period_px: float = 5.0
    rotation_deg: float = 20.0
    background_rms: float = 0.04
    seed: int = 0

    def __post_init__(self) -> None:
        for what, given, known in (("shape", self.shapes, shapes.SHAPES), ("texture", self.textures, textures.TEXTURES)):
            for name in given:
                if name not in known:
                    raise BadInput(f"{what} {name!r} is unknown, allowed are {', '.join(known)}{nearest(name, known)}")
        if len(self.shapes) != len(self.textures) or len(self.shapes) < 2:
            counts = f"{len(self.shapes)} shapes and {len(self.textures)} textures"
            raise BadInput(f"{counts} are given, allowed are equal counts of at least 2: class k is shape k with texture k")
        ranges = (
            ("size", 8, 512), ("delta", 0, 1), ("c", 0, 1), ("period_px", 2, 512), ("rotation_deg", 0, 180), ("background_rms", 0, 0.5),
            ("seed", 0, 2**63),
        )  # fmt: skip
        for what, low, high in ranges:
            if not low <= getattr(self, what) <= high:
                raise BadInput(f"{what}={getattr(self, what)} is outside [{low}, {high}]")


@dataclass(frozen=True)
class Batch:
    """n rendered items; ids index `shape_names`, `texture_names` and TINT_NAMES.

    image: (n, 3, h, w) uint8. y: (n,) int64, what the variant is labelled by (`classes`).
    mask, boundary: (n, h, w) bool (coverage above one half; its 1-px inner outline). The figure is a blob in texture_blob
    and the whole frame, with no outline, in texture_frame. part: (n, h, w) uint8: 1 + the place in shapes.PARTS, 0 off the
    outline. In scrambled variants masks and parts are moved as the pixels are; the pose is that before.
    shape, texture, tint, index: (n,) int64, -1 where the variant shows no shape or no texture. Silhouettes and contours
    have no tint to be seen. sign: (n,) +1 where the figure is brighter, else -1.
    pose: (n, 4) float64: centroid x (right) and y (down) in [0, 1] of the frame, scale, rotation in degrees anticlockwise.
    """

    image: Tensor
    y: Tensor
    shape: Tensor
    texture: Tensor
    mask: Tensor
    boundary: Tensor
    part: Tensor
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


@dataclass(frozen=True)
class Drawn:
    """What items (n of them) have before they get a shape and a texture: draws that know nothing of the label.

    u: (n, places) uniforms. pose, tint, sign: as of Batch. background: (n, h, w), random grey plus a weak 1/f field.
    """

    u: NDArray[np.float64]
    pose: NDArray[np.float64]
    tint: NDArray[np.int64]
    sign: NDArray[np.int64]
    background: NDArray[np.float64]


def render(world: World, indices: Iterable[int], variant: str = "both") -> Batch:
    """The items `indices` (n of them, at least one, none negative) of `world` in one of VARIANTS (see variants.py).

    An item's pose, background, tint and sign are the same in all variants. conflict: any K items in a row have all K
    shapes and all K textures, any K (K - 1) in a row each pair once; factorial and held_out likewise with K^2.
    Raises BadInput for an unknown variant, for indices that are empty or negative, and where patches do not fit the size.
    """
    if variant not in VARIANTS:
        raise BadInput(f"variant={variant!r} is unknown, allowed are {', '.join(VARIANTS)}{nearest(variant, VARIANTS)}")
    index = np.asarray(list(indices), dtype=np.int64)
    if len(index) == 0 or index.min() < 0:
        raise BadInput(f"indices are {'empty' if len(index) == 0 else index.min()}: allowed is at least one index, none below 0")
    shape_names, texture_names = _names(world, variant)
    shape, texture = VARIANTS[variant].pair(index, len(shape_names))
    chunks = [slice(start, start + CHUNK) for start in range(0, len(index), CHUNK)]
    parts = [_render(world, index[rows], variant, shape[rows], texture[rows]) for rows in chunks]
    image, mask, boundary, part, tint, sign, pose = (torch.cat(part) for part in zip(*parts, strict=True))
    label = {"shape": shape, "texture": texture, "pair": shape * len(texture_names) + texture}[VARIANTS[variant].label]
    return Batch(
        image=image, y=torch.from_numpy(label), shape=torch.from_numpy(shape), texture=torch.from_numpy(texture), mask=mask,
        boundary=boundary, part=part, tint=tint, sign=sign, pose=pose, index=torch.from_numpy(index),
        delta=world.delta, c=world.c, shape_names=shape_names, texture_names=texture_names,
    )  # fmt: skip


def classes(world: World, variant: str = "both") -> tuple[str, ...]:
    """The names of the labels y of a variant: "disc+dots" for a shape with a texture, else "disc" or "dots"."""
    shape_names, texture_names = _names(world, variant)
    label = VARIANTS[variant].label
    if label == "pair":
        return tuple(f"{shape}+{texture}" for shape in shape_names for texture in texture_names)
    shape, texture = VARIANTS[variant].pair(np.arange(1), len(shape_names))
    if min(shape[0], texture[0]) < 0:
        return shape_names if label == "shape" else texture_names
    return tuple(f"{shape}+{texture}" for shape, texture in zip(shape_names, texture_names, strict=True))


def tints() -> NDArray[np.float64]:
    """Channel factors of TINT_NAMES, (11, 3), at most 1, each row of RMS TINT_RMS."""
    hue = 6 * np.arange(10)[:, None] / 10
    # Full-saturation colours of the hue circle; a tint is white less a share of what its colour lacks.
    colour = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    lack = 1 - colour
    square, linear = np.sum(lack**2, axis=1), np.sum(lack, axis=1)
    share = (linear - np.sqrt(linear**2 - 3 * square * (1 - TINT_RMS**2))) / square  # sum (1 - share * lack)^2 = 3 TINT_RMS^2
    return np.concatenate([1 - share[:, None] * lack, np.full((1, 3), TINT_RMS)])


# Uniforms of an item, by place: 0 to 3 pose (x, y, scale, rotation), 4 tint, 5 sign, 6 grey, then background, texture,
# blob, and the textures of a mix. Later needs append to the end: earlier places, hence today's images, stay.
_BACKGROUND = slice(7, 7 + 3 * textures.N_WAVES)
_TEXTURE = slice(_BACKGROUND.stop, _BACKGROUND.stop + textures.N_UNIFORMS)
_BLOB = slice(_TEXTURE.stop, _TEXTURE.stop + shapes.N_BLOB)


def draw(world: World, index: NDArray[np.int64], n_textures: int = 0) -> Drawn:
    """What items `index` have whatever they show, with uniforms for a mix of n_textures more textures.

    Each item's come from a counter-based generator keyed by (seed, i) alone.
    """
    keys = (np.random.SeedSequence((world.seed, int(i))) for i in index)
    places = _BLOB.stop + n_textures * textures.N_UNIFORMS
    u = np.stack([np.random.Generator(np.random.Philox(key)).random(places) for key in keys])
    scale = 1 + SCALE_JITTER * (2 * u[:, 2] - 1)
    room = 0.5 - shapes.REACH * scale
    pose = np.stack([0.5 + room * (2 * u[:, 0] - 1), 0.5 + room * (2 * u[:, 1] - 1), scale, world.rotation_deg * (2 * u[:, 3] - 1)], axis=1)
    tint = np.floor(len(TINT_NAMES) * u[:, 4]).astype(np.int64)
    sign = np.where(u[:, 5] < 0.5, -1, 1)
    grey = GREY[0] + (GREY[1] - GREY[0]) * u[:, 6]
    background = grey[:, None, None] + world.background_rms * textures.power_law_field(u[:, _BACKGROUND], world.size)
    return Drawn(u, pose, tint, sign, background)


def field_of(world: World, drawn: Drawn, texture: NDArray[np.int64], names: tuple[str, ...]) -> NDArray[np.float64]:
    """The texture field (n, h, w) of each item: texture ids (n,) index `names`."""
    field = np.empty_like(drawn.background)
    for k in np.unique(texture):
        rows = texture == k
        field[rows] = textures.texture(names[k], drawn.u[rows][:, _TEXTURE], world.size, world.period_px)
    return field


def compose(drawn: Drawn, figure: NDArray[np.float64], delta: float, fill: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Tinted pictures (n, 3, h, w): figure (n, h, w) in [0, 1] of contrast delta, filled with `fill` (n, h, w), on the background.

    In float64 throughout and rounded to uint8 once.
    """
    grey_image = np.clip(drawn.background + figure * (drawn.sign[:, None, None] * delta + fill), 0, 1)
    return np.rint(255 * grey_image[:, None] * tints()[drawn.tint][:, :, None, None]).astype(np.uint8)


def _render(
    world: World, index: NDArray[np.int64], variant: str, shape: NDArray[np.int64], texture: NDArray[np.int64]
) -> tuple[Tensor, ...]:
    """One chunk: images, masks, boundaries, parts, tints, signs, poses."""
    how, (shape_names, texture_names) = VARIANTS[variant], _names(world, variant)
    drawn = draw(world, index, len(texture_names) if how.fill == "mix" else 0)
    delta, figure = world.delta, np.ones_like(drawn.background)
    part = np.zeros(figure.shape, dtype=np.uint8)
    if how.figure == "frame":
        delta, boundary = 0.0, np.zeros(figure.shape, dtype=bool)
    elif how.figure == "blob":
        figure = shapes.blob_coverage(drawn.u[:, _BLOB], world.size, *drawn.pose[:, :3].T)
        boundary = shapes.boundary(figure > 0.5)
        part[boundary] = 1 + shapes.PARTS.index("curved")
    else:
        for k in np.unique(shape):
            rows = shape == k
            figure[rows] = shapes.coverage(shapes.SHAPES[shape_names[k]], world.size, *drawn.pose[rows].T)
        boundary = shapes.boundary(figure > 0.5)
        for k in np.unique(shape):
            rows = shape == k
            part[rows] = shapes.parts(shapes.SHAPES[shape_names[k]], boundary[rows], *drawn.pose[rows].T)
    if how.fill == "texture":
        fill = world.c * field_of(world, drawn, texture, texture_names)
    elif how.fill == "mix":
        mixed = drawn.u[:, _BLOB.stop :].reshape(len(index), len(texture_names), textures.N_UNIFORMS)
        fields = [textures.texture(name, mixed[:, k], world.size, world.period_px) for k, name in enumerate(texture_names)]
        fill = world.c * textures.standardised(np.sum(fields, axis=0))
    else:
        fill = np.zeros_like(figure)
    image = torch.from_numpy(compose(drawn, figure, delta, fill))
    masks = [torch.from_numpy(mask) for mask in (figure > 0.5, boundary, part)]
    image, masks = finish(how, image, masks, index, world.seed, world.period_px)
    return image, *masks, *(torch.from_numpy(array) for array in (drawn.tint, drawn.sign, drawn.pose))


def _names(world: World, variant: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (HELD_OUT_SHAPES, HELD_OUT_TEXTURES) if variant == "held_out" else (world.shapes, world.textures)


CALIBRATION_FILE = Path(__file__).with_name("calibration.json")  # written by `reprolib calibrate`
MARGIN_SETS = {"shapetexture": 1.0, "shapetexture_2to1": 2.0, "shapetexture_1to2": 0.5}  # shape margin over texture margin


def calibration() -> dict[str, Any]:
    """What `reprolib calibrate` found: contrasts, margins and how well each cue is learnt alone; {} before its first run."""
    told: dict[str, Any] = json.loads(CALIBRATION_FILE.read_text()) if CALIBRATION_FILE.exists() else {}
    return told


def _calibrated(name: str) -> World:
    """The world of a margin set as calibrated; the default one before the first calibration."""
    told = calibration().get("sets", {}).get(name, {})
    return World(**{knob: told[knob] for knob in ("delta", "c", "rotation_deg", "background_rms") if knob in told})


# What `load` knows by name: the world (of its training split) and how many training and test images it has.
WORLDS: dict[str, tuple[World, dict[str, int]]] = {
    **{name: (_calibrated(name), {"train": 16_000, "test": 2_000}) for name in MARGIN_SETS},
    "shapetexture_gratings": (World(size=16, shapes=SHAPES[:4], textures=TEXTURES[:4], period_px=4.0), {"train": 600, "test": 200}),
}


def _normaliser(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Those of a margin set as calibrated; before the first calibration those of the default world."""
    told = calibration().get("sets", {}).get(name, {})
    mean, std = told.get("mean", (0.4456, 0.4489, 0.4497)), told.get("std", (0.1350, 0.1338, 0.1337))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


# Mean and standard deviation per channel over the training split, in units of [0, 1] (a test computes them again).
NORMALISERS = {
    **{name: _normaliser(name) for name in MARGIN_SETS},
    "shapetexture_gratings": ((0.4394, 0.4488, 0.4449), (0.1326, 0.1348, 0.1326)),
}


def world_of(name: str, split: str) -> World:
    """The world that split "train" or "test" of set `name` is rendered from: the splits differ in their seed."""
    return dataclasses.replace(WORLDS[name][0], seed={"train": 0, "test": 1}[split])


def world_key(world: World) -> str:
    """64 hexadecimal digits: the content key of a world and the generator's version."""
    return store.content_key({"version": VERSION, "world": dataclasses.asdict(world)})


def fingerprint(name: str) -> str:
    """A content key of the generator's version, the worlds and the counts: changes when, and only when, images do."""
    splits = {split: {"n": n, **dataclasses.asdict(world_of(name, split))} for split, n in WORLDS[name][1].items()}
    return store.content_key({"set": name, "version": VERSION, "splits": splits})


def load(name: str, split: str) -> Images:
    """Images of set `name` (one of WORLDS), split "train" or "test", variant `both`; rendered once, then cached."""
    return items(world_of(name, split), WORLDS[name][1][split], "both", name)


def items(world: World, n: int, variant: str = "both", name: str = "shapetexture") -> Images:
    """The first n items of `world` in one of VARIANTS, labelled by `classes`; rendered once, then cached.

    Raises BadInput as `render` does.
    """
    description = {"set": "shapetexture", "version": VERSION, "world": dataclasses.asdict(world), "variant": variant, "n": n}

    def compute() -> dict[str, Tensor]:
        batch = render(world, range(n), variant)
        return {"x": batch.image, "y": batch.y}

    kept = store.cache("images", description, compute)
    return images(kept["x"], kept["y"], classes(world, variant), name)
