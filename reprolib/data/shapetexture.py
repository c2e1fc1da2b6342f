"""ShapeTex: a procedural world in which every image has one shape, one texture and two hues, known exactly.

x = clip((1 - m) (b + f + h_ground) + m (b + delta + c t + h_figure), 0, 1), with m the shape's coverage, b a random grey,
f weak 1/f fields (one grey, one a channel), t the texture, and a hue of figure and of ground in colour. delta is the contrast
of figure and ground (the shape cue; the figure is the brighter), c the RMS contrast of the texture.
In `both`, what networks are trained on, hues are a third and weak cue, as colour is in photographs: that of the figure scatters
about a hue of its texture's class, that of the ground about one of its shape's. In every other variant they are uniform.
The set is this code: item i of a world depends on (seed, i) alone, whatever is rendered with it and in whatever order.
All else that is random knows nothing of the class.

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
from scipy.special import ndtri
from torch import Tensor

from reprolib import store
from reprolib.data import shapes, textures
from reprolib.data.hues import hue_bin, hue_rgb
from reprolib.data.images import Images, images
from reprolib.data.variants import VARIANTS, finish
from reprolib.errors import BadInput, nearest

VERSION = 2  # raise when an image changes: it enters the fingerprint, hence the keys of networks and of cached images

SHAPES = ("disc", "square", "triangle", "star", "plus", "ring", "crescent", "L")
TEXTURES = ("grating_0", "grating_45", "grating_90", "grating_135", "checker", "dots", "blobs", "noise")  # pack `mixed`
HELD_OUT_SHAPES, HELD_OUT_TEXTURES = ("hexagon", "heart"), ("zigzag", "rings")

HUE_SD = 1.2  # of a hue about its class's, in `both`, in classes
FIELD_RMS = 0.03  # of the ground's 1/f field in each channel, beside the grey one of World.background_rms

SCALE_JITTER = 0.15  # of lengths, either way
GREY = (0.4, 0.6)  # range of the grey halfway between ground and figure
CHUNK = 128  # items rendered at once, so that what is at work stays small; images do not depend on it


@dataclass(frozen=True)
class World:
    """A set of images: class k pairs shapes[k] with textures[k]. Lengths in px, contrasts in units of [0, 1].

    rotation_deg: figures are turned by up to so much either way (textures are not). background_rms: of the ground's grey 1/f
    field. The more of either, the longer shapes take to learn, whatever the margins. The defaults make both cues equally easy
    to learn (`reprolib calibrate --check`).

    Raises BadInput for unknown shapes or textures, unequal counts, or numbers out of range.
    """

    size: int = 32
    shapes: tuple[str, ...] = SHAPES
    textures: tuple[str, ...] = TEXTURES
    delta: float = 0.28
    c: float = 0.1
    period_px: float = 5.0
    rotation_deg: float = 180.0
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
    """n rendered items; ids index `shape_names`, `texture_names` and hues.HUE_NAMES.

    image: (n, 3, h, w) uint8. y: (n,) int64, what the variant is labelled by (`classes`).
    mask, boundary: (n, h, w) bool (coverage above one half; its 1-px inner outline). The figure is a blob in texture_blob
    and the whole frame, with no outline, in texture_frame. part: (n, h, w) uint8: 1 + the place in shapes.PARTS, 0 off the
    outline. In scrambled variants masks and parts are moved as the pixels are; the pose is that before.
    shape, texture, index: (n,) int64, -1 where the variant shows no shape or no texture. hue: (n, 2) float64 in [0, 1), of
    figure and ground; hue_id: (n, 2) int64, its bin. Silhouettes and contours show no hue, texture_frame no ground.
    pose: (n, 4) float64: centroid x (right) and y (down) in [0, 1] of the frame, scale, rotation in degrees anticlockwise.
    """

    image: Tensor
    y: Tensor
    shape: Tensor
    texture: Tensor
    mask: Tensor
    boundary: Tensor
    part: Tensor
    hue: Tensor
    hue_id: Tensor
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

    u: (n, places) uniforms. pose: as of Batch. grey: (n,) halfway between ground and figure. field: (n, 3, h, w) of the ground.
    """

    u: NDArray[np.float64]
    pose: NDArray[np.float64]
    grey: NDArray[np.float64]
    field: NDArray[np.float64]


def render(world: World, indices: Iterable[int], variant: str = "both") -> Batch:
    """The items `indices` (n of them, at least one, none negative) of `world` in one of VARIANTS (see variants.py).

    An item's pose and ground are the same in all variants, its hues in all but `both`. conflict: any K items in a row have all K
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
    image, mask, boundary, part, hue, pose = (torch.cat(part) for part in zip(*parts, strict=True))
    label = {"shape": shape, "texture": texture, "pair": shape * len(texture_names) + texture}[VARIANTS[variant].label]
    return Batch(
        image=image, y=torch.from_numpy(label), shape=torch.from_numpy(shape), texture=torch.from_numpy(texture), mask=mask,
        boundary=boundary, part=part, hue=hue, hue_id=hue_bin(hue), pose=pose, index=torch.from_numpy(index),
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


# Uniforms of an item, by place: 0 to 3 pose (x, y, scale, rotation), 4 and 5 hue of figure and ground, 6 grey, then the fields of
# the ground, texture, blob, and the textures of a mix. Later needs append to the end: earlier places, hence today's images, stay.
_HUE = slice(4, 6)
_FIELDS = slice(7, 7 + 4 * 3 * textures.N_WAVES)
_TEXTURE = slice(_FIELDS.stop, _FIELDS.stop + textures.N_UNIFORMS)
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
    grey = GREY[0] + (GREY[1] - GREY[0]) * u[:, 6]
    return Drawn(u, pose, grey, ground_field(world, u[:, _FIELDS]))


def ground_field(world: World, uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 1/f fields of the ground, (n, 3, h, w), of uniforms (n, 4 * 3 * N_WAVES): one grey, and one in each channel."""
    fields = textures.power_law_field(uniforms.reshape(-1, 3 * textures.N_WAVES), world.size)
    fields = fields.reshape(len(uniforms), 4, world.size, world.size)
    return world.background_rms * fields[:, :1] + FIELD_RMS * fields[:, 1:]


def uniform_hues(drawn: Drawn) -> NDArray[np.float64]:
    """Hues of figure and ground, (n, 2) in [0, 1), that tell nothing of the class."""
    return drawn.u[:, _HUE]


def class_hues(drawn: Drawn, shape: NDArray[np.int64], texture: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Hues of figure and ground, (n, 2) in [0, 1), scattered by HUE_SD classes about those of the item's texture and shape, ids (n,)."""
    centre = np.stack([texture, 3 * shape + 2], axis=1)
    return (centre + HUE_SD * ndtri(np.maximum(uniform_hues(drawn), 2**-60))) / n_classes % 1


def field_of(world: World, drawn: Drawn, texture: NDArray[np.int64], names: tuple[str, ...]) -> NDArray[np.float64]:
    """The texture field (n, h, w) of each item: texture ids (n,) index `names`."""
    field = np.empty((len(texture), world.size, world.size))
    for k in np.unique(texture):
        rows = texture == k
        field[rows] = textures.texture(names[k], drawn.u[rows][:, _TEXTURE], world.size, world.period_px)
    return field


def compose(
    drawn: Drawn, figure: NDArray[np.float64], delta: float, fill: NDArray[np.float64], hues: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Pictures (n, 3, h, w): figure (n, h, w) in [0, 1], of contrast delta, filled with `fill` (n, h, w), on the ground.

    hues: (n, 2) in [0, 1), of figure and ground. In float64 throughout and rounded to uint8 once.
    """
    base = (drawn.grey - delta / 2)[:, None, None, None]
    in_figure, on_ground = np.moveaxis(hue_rgb(hues), 1, 0)[..., None, None]
    ground = base + drawn.field + on_ground
    covered = figure[:, None]
    x = ground + covered * (base + delta + fill[:, None] + in_figure - ground)
    return np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8)


def _render(
    world: World, index: NDArray[np.int64], variant: str, shape: NDArray[np.int64], texture: NDArray[np.int64]
) -> tuple[Tensor, ...]:
    """One chunk: images, masks, boundaries, parts, hues, poses."""
    how, (shape_names, texture_names) = VARIANTS[variant], _names(world, variant)
    drawn = draw(world, index, len(texture_names) if how.fill == "mix" else 0)
    delta, figure = world.delta, np.ones((len(index), world.size, world.size))
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
    hues = class_hues(drawn, shape, texture, len(shape_names)) if how.hues == "class" else uniform_hues(drawn)
    image = torch.from_numpy(compose(drawn, figure, delta, fill, hues))
    masks = [torch.from_numpy(mask) for mask in (figure > 0.5, boundary, part)]
    image, masks = finish(how, image, masks, index, world.seed, world.period_px)
    return image, *masks, *(torch.from_numpy(array) for array in (hues, drawn.pose))


def _names(world: World, variant: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (HELD_OUT_SHAPES, HELD_OUT_TEXTURES) if variant == "held_out" else (world.shapes, world.textures)


CALIBRATION_FILE = Path(__file__).with_name("calibration.json")  # written by `reprolib calibrate`
MARGIN_SETS = {"shapetexture_2to1": 2.0, "shapetexture_1to1": 1.0, "shapetexture_1to2": 0.5}  # shape margin over texture margin


def calibration() -> dict[str, Any]:
    """What `reprolib calibrate` found: contrasts, margins and how well each cue is learnt alone; {} before its first run."""
    told: dict[str, Any] = json.loads(CALIBRATION_FILE.read_text()) if CALIBRATION_FILE.exists() else {}
    return told


def _calibrated(name: str, knob: str, default: Any) -> Any:
    return calibration().get("sets", {}).get(name, {}).get(knob, default)


_GRATINGS = World(size=16, shapes=SHAPES[:4], textures=TEXTURES[:4], period_px=4.0, rotation_deg=20.0)
_COUNTS = {"train": 8_000, "test": 2_000}

# What `load` knows by name: the world (of its training split) and how many training and test images it has.
WORLDS: dict[str, tuple[World, dict[str, int]]] = {
    "shapetexture": (World(), _COUNTS),
    **{name: (World(**{knob: _calibrated(name, knob, getattr(World, knob)) for knob in ("delta", "c")}), _COUNTS) for name in MARGIN_SETS},
    "shapetexture_gratings": (_GRATINGS, {"train": 600, "test": 200}),
}

# Mean and standard deviation per channel over the training split, in units of [0, 1] (a test computes them again).
NORMALISERS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    **{name: (tuple(_calibrated(name, "mean", (0.45,) * 3)), tuple(_calibrated(name, "std", (0.15,) * 3))) for name in WORLDS},
    "shapetexture_gratings": ((0.4288, 0.4340, 0.4249), (0.1638, 0.1647, 0.1674)),
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
