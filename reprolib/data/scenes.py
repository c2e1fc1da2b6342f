"""Concept scenes: ShapeTex figures whose shape, texture and colour are fully crossed, with an exact label of every pixel.

For asking which concepts a unit detects (dissection; Bau et al. 2017, arXiv 1704.05796). Four categories, each a map of
labels: colour (one of HUE_NAMES, everywhere: figure and ground have a hue each, anywhere in its bin), object (a shape), texture,
and part (of an object's outline). Figures are brighter than the ground. Six scenes in a row are, in turn:

| scene | objects | texture |
|---|---|---|
| single, twice | one, of the size known from training | in the object |
| several, twice | two of half the size, side by side or one above the other | one in each object |
| blob | one of half the size, flat | in a blob of the same area beside it |
| frame | one, flat | everywhere but in the object |

So a third of the scenes hold texture and object apart. In each kind any 8 * 11 figures in a row have each shape with each
texture and each shape and each texture with each colour, and eight times as many have every triple once (for 8 shapes and 8
textures). Areas do not depend on what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib.data import shapes, textures
from reprolib.data.hues import HUE_NAMES, hue_rgb
from reprolib.data.shapetexture import GREY, SCALE_JITTER, World, ground_field
from reprolib.errors import BadInput

KINDS = ("single", "several", "blob", "single", "several", "frame")  # of scene i: KINDS[i mod 6]
CATEGORIES = ("colour", "texture", "object", "part")
FIRST = {"single": 440, "several": 0, "blob": 176, "frame": 352}  # figure each kind starts at: 800 scenes hold all 704 triples
SMALL = 0.5  # scale of a figure that shares the frame with another

# Uniforms: of a scene 0 axis along which figures stand, 1 grey, 2 place of the ground's hue in its bin, then the ground's fields;
# of each of two figures 0 to 3 pose, 4 place of its hue, then texture and blob.
_SCENE = 3 + 4 * 3 * textures.N_WAVES
_FIGURE = 5 + textures.N_UNIFORMS + shapes.N_BLOB


@dataclass(frozen=True)
class Scenes:
    """n scenes and their labels, pixel for pixel (0: none of the category).

    image: (n, 3, h, w) uint8. labels: (n, 4, h, w) uint8 in the order of CATEGORIES; 1 + a place in names[category].
    kind: (n,) of KINDS. names: category -> names of its concepts.
    """

    image: Tensor
    labels: Tensor
    kind: tuple[str, ...]
    names: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.image)

    def concepts(self) -> Iterator[tuple[str, str, Tensor]]:
        """Category, name and mask (n, h, w) bool of every concept, in order."""
        for place, category in enumerate(CATEGORIES):
            for k, name in enumerate(self.names[category]):
                yield category, name, self.labels[:, place] == 1 + k


def render(world: World, indices: Iterable[int]) -> Scenes:
    """Scenes `indices` (at least one, none negative) of a world: its shapes, textures, contrasts, size and seed.

    Scene i depends on (world, i) alone. Raises BadInput for empty or negative indices.
    """
    index = [int(i) for i in indices]
    if not index or min(index) < 0:
        raise BadInput(f"indices are {min(index) if index else 'empty'}: allowed is at least one index, none below 0")
    drawn = [_scene(world, i) for i in index]
    image, labels = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    return Scenes(image, labels, tuple(KINDS[i % len(KINDS)] for i in index), names_of(world))


def names_of(world: World) -> dict[str, tuple[str, ...]]:
    """Category -> names of its concepts, in the order of CATEGORIES and of the labels."""
    return {"colour": HUE_NAMES, "texture": world.textures, "object": world.shapes, "part": shapes.PARTS}


def random_masks(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Masks (n, h, w) bool of another concept's statistics: the same masks dealt to other scenes, each moved around the frame.

    Areas and forms stay, what they lay on does not: what a unit seems to detect here is the floor of false detections.
    """
    n, h, w = mask.shape
    order = torch.randperm(n, generator=generator)
    down = torch.randint(h, (n, 1), generator=generator) + torch.arange(h)
    right = torch.randint(w, (n, 1), generator=generator) + torch.arange(w)
    return mask[order[:, None, None].to(mask.device), (down % h)[:, :, None].to(mask.device), (right % w)[:, None, :].to(mask.device)]


def crossing(j: int, n_shapes: int, n_textures: int) -> tuple[int, int, int]:
    """Shape, texture and colour of figure j of a kind: all triples once in n_shapes * n_textures * 11 figures in a row.

    n_shapes, at most 10, has no factor in common with the 11 colours; the texture steps on with both, and with every round.
    """
    n_colours = len(HUE_NAMES)
    shape, colour = j % n_shapes, j % n_colours
    return shape, (shape + colour + j // (n_shapes * n_colours)) % n_textures, colour


class _Layer(NamedTuple):
    """What covers a scene so far where covered (h, w) is 1: its picture (3, h, w) less the scene's grey, its labels (0: none)."""

    covered: NDArray[np.float64]
    picture: NDArray[np.float64]
    colour: int
    texture: int
    shape: int
    part: NDArray[np.uint8]


def _scene(world: World, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One scene: image (3, h, w) and labels (4, h, w)."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((world.seed, i), spawn_key=(2,))))
    u = generator.random(_SCENE + 2 * _FIGURE)
    frame = (world.size, world.size)
    picture, labels = np.zeros((3, *frame)), np.zeros((len(CATEGORIES), *frame), dtype=np.uint8)
    for layer in _layers(world, i, u):
        picture = picture + layer.covered * (layer.picture - picture)
        mask = layer.covered > 0.5
        labels[:3, mask] = np.array([layer.colour, layer.texture, layer.shape])[:, None]
        labels[3, mask] = layer.part[mask]
    grey = GREY[0] + (GREY[1] - GREY[0]) * u[1] - world.delta / 2
    return np.rint(255 * np.clip(grey + picture, 0, 1)).astype(np.uint8), labels


def _layers(world: World, i: int, u: NDArray[np.float64]) -> Iterator[_Layer]:
    """What a scene is made of, from behind to the front; the first layer covers the frame."""
    kind, round_, second = KINDS[i % len(KINDS)], i // len(KINDS), i % len(KINDS) // 3  # the second scene of a kind in its round
    number = 2 * round_ + second if kind in ("single", "several") else round_  # of the scene among its kind
    own = [u[_SCENE + k * _FIGURE : _SCENE + (k + 1) * _FIGURE] for k in range(2)]
    j = FIRST[kind] + (2 * number if kind == "several" else number)
    shape, texture, colour = crossing(j, len(world.shapes), len(world.textures))
    # The ground has each colour but those of the figures (its second has the next): all 11 in any 11 scenes of a kind.
    under = (colour + 2 + (3 + 4 * (number // len(HUE_NAMES))) % (len(HUE_NAMES) - 2)) % len(HUE_NAMES)  # hues apart come first
    flat, ones = np.zeros((world.size, world.size)), np.ones((world.size, world.size))
    behind = _field(world, own[0], texture) if kind == "frame" else flat
    ground = ground_field(world, u[None, 3:_SCENE])[0] + behind + _rgb(under, u[2])
    yield _Layer(ones, ground, 1 + under, 1 + texture if kind == "frame" else 0, 0, flat.astype(np.uint8))
    if kind in ("single", "frame"):
        yield _object(world, own[0], _pose(world, own[0], 1.0), shape, texture if kind == "single" else -1, colour)
        return
    side = int(u[0] < 0.5)
    poses = [_pose(world, own[k], SMALL, side, k) for k in range(2)]
    yield _object(world, own[0], poses[0], shape, texture if kind == "several" else -1, colour)
    if kind == "several":
        yield _object(world, own[1], poses[1], *crossing(j + 1, len(world.shapes), len(world.textures)))
    else:
        covered = shapes.blob_coverage(own[1][None, -shapes.N_BLOB :], world.size, *poses[1][:3, None])[0]
        picture = world.delta + _field(world, own[1], texture) + _rgb(colour, own[1][4])
        yield _Layer(covered, picture, 1 + colour, 1 + texture, 0, flat.astype(np.uint8))


def _object(world: World, own: NDArray[np.float64], pose: NDArray[np.float64], shape: int, texture: int, colour: int) -> _Layer:
    """A figure of shape, texture (-1: flat) and colour."""
    drawn = shapes.SHAPES[world.shapes[shape]]
    cx, cy, scale, rotation = pose[:, None]
    covered = shapes.coverage(drawn, world.size, cx, cy, scale, rotation)
    part = shapes.parts(drawn, shapes.boundary(covered > 0.5), cx, cy, scale, rotation)[0]
    fill = _field(world, own, texture) if texture >= 0 else np.zeros_like(covered[0])
    return _Layer(covered[0], world.delta + fill + _rgb(colour, own[4]), 1 + colour, 1 + texture, 1 + shape, part)


def _rgb(colour: int, place: float) -> NDArray[np.float64]:
    """What a hue of a bin adds to the channels, (3, 1, 1), at `place` in [0, 1) of the bin."""
    return hue_rgb(np.array((colour + place - 0.5) / len(HUE_NAMES)))[:, None, None]


def _field(world: World, own: NDArray[np.float64], texture: int) -> NDArray[np.float64]:
    uniforms = own[None, 5 : 5 + textures.N_UNIFORMS]
    return world.c * textures.texture(world.textures[texture], uniforms, world.size, world.period_px)[0]


def _pose(world: World, own: NDArray[np.float64], base: float, side: int | None = None, half: int = 0) -> NDArray[np.float64]:
    """Centroid x and y, scale, rotation (4,) anywhere in the frame, or within the first or second half of it along axis `side`."""
    scale = base * (1 + SCALE_JITTER * (2 * own[2] - 1))
    low, high = np.full(2, shapes.REACH * scale), np.full(2, 1 - shapes.REACH * scale)
    if side is not None:
        low[side], high[side] = 0.5 * half + shapes.REACH * scale, 0.5 * (half + 1) - shapes.REACH * scale
    return np.array([*(low + (high - low) * own[:2]), scale, world.rotation_deg * (2 * own[3] - 1)])
