"""How far apart, in L2, the two cues of a ShapeTex world keep its classes: measured on rendered images, beside the closed forms.

Adversarial training keeps the cue with the larger margin, so shape against texture can be decided before training: both
margins belong beside every ShapeTex result, and the sets of other ratios tell a bias from a margin. All distances are L2
over all pixels and channels, in units of [0, 1]. Both margins are measured on figures in the middle of the frame, at scale
1 and not turned, so that A is the shapes' common area, with uniform hues: the hues of figure and ground tell a shape from its
ground, as delta does, and count in its margin; they tell no texture.
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reprolib.data import shapes
from reprolib.data.hues import HUE
from reprolib.data.shapetexture import FIELD_RMS, SCALE_JITTER, Drawn, World, compose, draw, field_of, uniform_hues
from reprolib.errors import BadInput

# Poses tried to align a pair: turns 5 degrees apart and 7 scales over the world's jitter, half-pixel offsets, every whole-pixel shift.
TURN_DEG, N_SCALES, OFFSETS_PX = 5.0, 7, (0.0, 0.5)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Margins:
    """The margins of a world, as measured and (`_expected`) in closed form.

    shape: half the distance of two flat images that differ in their shape alone, at best alignment; the median over hues, then
    over pairs of shapes, with the smallest and largest pair. Closed form: sqrt(3 * |symmetric difference|) / 2 times the root of
    delta^2 + HUE^2 and the mean square of the ground's field.
    texture_energy: the L2 norm of the texture in an image, c * sqrt(3 * A) in closed form.
    texture: half the distance of two images that differ in their texture alone; energy / sqrt(2) where textures are orthogonal.
    """

    shape: float
    shape_lowest: float
    shape_highest: float
    shape_expected: float
    texture_energy: float
    texture_energy_expected: float
    texture: float
    texture_expected: float

    @property
    def ratio(self) -> float:
        """Measured shape margin over measured texture margin."""
        return self.shape / self.texture


def measure(world: World, n: int = 64) -> Margins:
    """Both margins of `world`, on n draws of ground, hues and texture.

    Raises BadInput when n is below 2, or delta or c is 0: a cue that is not shown has no margin.
    """
    if n < 2:
        raise BadInput(f"n={n} is not allowed: give at least 2 draws")
    if world.delta == 0 or world.c == 0:
        raise BadInput(f"delta={world.delta} and c={world.c} are given, allowed are two contrasts above 0: a cue not shown has no margin")
    by_pair, differences = _shape_margins(world, n)
    energy, midpoint = _texture_margins(world, n)
    energy_expected = world.c * np.sqrt(3 * shapes.AREA) * world.size
    contrast = np.sqrt(world.delta**2 + HUE**2 + world.background_rms**2 + FIELD_RMS**2)
    return Margins(
        shape=float(np.median(by_pair)),
        shape_lowest=float(by_pair.min()),
        shape_highest=float(by_pair.max()),
        shape_expected=float(contrast * np.sqrt(3 * np.median(differences)) / 2),
        texture_energy=energy,
        texture_energy_expected=float(energy_expected),
        texture=midpoint,
        texture_expected=float(energy_expected / np.sqrt(2)),
    )


def with_ratio(world: World, ratio: float) -> World:
    """`world` with the (delta, c) whose measured margins stand as `ratio` (shape over texture), within half a per cent.

    The overall contrast sqrt(delta^2 + c^2), the RMS of the figure against the background, stays what it is.
    Raises BadInput when the ratio is outside [1/4, 8], or as `measure` does.
    """
    if not 1 / 4 <= ratio <= 8:
        raise BadInput(f"ratio={ratio} is outside [1/4, 8]: give shape margin over texture margin, such as 2, 1 or 0.5")
    contrast = float(np.hypot(world.delta, world.c))
    for _ in range(8):
        found = measure(world)
        if abs(found.ratio / ratio - 1) < 0.001:
            break
        turned = np.hypot(world.delta, HUE) / world.c * ratio / found.ratio  # of the contrasts that the two margins grow with
        c = float(np.hypot(contrast, HUE) / np.hypot(turned, 1))
        world = dataclasses.replace(world, delta=float(np.sqrt(contrast**2 - c**2)), c=c)
    return dataclasses.replace(world, delta=round(world.delta, 4), c=round(world.c, 4))


def _shape_margins(world: World, n: int) -> tuple[Array, Array]:
    """Of each pair of shapes: half the distance of its two flat images, (pairs,), and its symmetric difference in px."""
    drawn = draw(world, np.arange(n))
    nothing, hues = np.zeros((n, world.size, world.size)), _spread_hues(drawn)
    margins, differences = [], []
    for one, other in _alignments(world.size, world.shapes, world.rotation_deg):
        a, b = (compose(drawn, np.broadcast_to(figure, nothing.shape), world.delta, nothing, hues) for figure in (one, other))
        margins.append(float(np.median(_distance(a, b))) / 2)
        differences.append(float(np.sum((one - other) ** 2)))
    return np.array(margins), np.array(differences)


def _texture_margins(world: World, n: int) -> tuple[float, float]:
    """Median norm of the texture in an image, and half the median distance of two images that differ in their texture."""
    i, k = np.arange(n), len(world.textures)
    drawn = draw(world, i)
    figure = np.stack([_upright(world.shapes[j % k], world.size) for j in i])
    first, second = i % k, (i + 1 + i // k % (k - 1)) % k  # every pair of textures in turn
    fills = (*(world.c * field_of(world, drawn, t, world.textures) for t in (first, second)), np.zeros_like(figure))
    a, b, flat = (compose(drawn, figure, world.delta, fill, uniform_hues(drawn)) for fill in fills)
    return float(np.median(_distance(a, flat))), float(np.median(_distance(a, b))) / 2


def _spread_hues(drawn: Drawn) -> Array:
    """Hues (n, 2) of figures, uniform, and of their grounds, as far from them as a n-th, two n-ths ... of the circle: few draws do for a median."""
    figure = uniform_hues(drawn)[:, 0]
    return np.stack([figure, (figure + (np.arange(len(figure)) + 0.5) / len(figure)) % 1], axis=1)


def _distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Array:
    """L2 distance of each pair of uint8 images (n, 3, h, w), in units of [0, 1]."""
    return np.sqrt(np.sum((a / 255 - b / 255) ** 2, axis=(1, 2, 3)))


def _upright(name: str, size: int) -> Array:
    """The coverage (size, size) of a shape in the middle of the frame, at scale 1 and not turned."""
    half = np.array([0.5])
    return shapes.coverage(shapes.SHAPES[name], size, half, half, np.array([1.0]), np.array([0.0]))[0]


@lru_cache(maxsize=8)
def _alignments(size: int, names: tuple[str, ...], rotation_deg: float) -> tuple[tuple[Array, Array], ...]:
    """Coverages of each pair of shapes where they differ least: one upright, the other in the best of the poses tried."""
    turns = np.linspace(-rotation_deg, rotation_deg, 2 * math.ceil(rotation_deg / TURN_DEG) + 1)
    scales = np.linspace(1 - SCALE_JITTER, 1 + SCALE_JITTER, N_SCALES)
    grid = np.array(list(itertools.product(turns, scales, OFFSETS_PX, OFFSETS_PX)))
    cx, cy = 0.5 + grid[:, 2] / size, 0.5 + grid[:, 3] / size
    posed = {name: shapes.coverage(shapes.SHAPES[name], size, cx, cy, grid[:, 1], grid[:, 0]) for name in names}
    upright = {name: _upright(name, size) for name in names}
    found = []
    for one, other in itertools.combinations(names, 2):
        tried = [_best(upright[a], posed[b]) for a, b in ((one, other), (other, one))]
        found.append(min(tried, key=lambda pair: float(np.sum((pair[0] - pair[1]) ** 2))))
    return tuple(found)


def _best(fixed: Array, posed: Array) -> tuple[Array, Array]:
    """`fixed` (h, w) and that of `posed` (n, h, w), shifted by whole pixels, that is nearest to it in L2."""
    size = len(fixed)
    overlap = np.fft.irfft2(np.fft.rfft2(fixed) * np.conj(np.fft.rfft2(posed)), s=(size, size))
    squared = np.sum(posed**2, axis=(1, 2))[:, None, None] - 2 * overlap
    squared[:, size // 4 : 1 - size // 4] = squared[:, :, size // 4 : 1 - size // 4] = np.inf  # a figure must not leave the frame
    pose, down, right = np.unravel_index(np.argmin(squared), squared.shape)
    return fixed, np.roll(posed[pose], (int(down), int(right)), axis=(0, 1))
