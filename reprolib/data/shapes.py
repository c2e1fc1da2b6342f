"""Shapes as signed-distance functions, all of one area, their anti-aliased drawing, and the parts of their outlines.

Every function is negative inside and 1-Lipschitz (its value never exceeds the distance to the outline), which is what
lets `coverage` supersample the pixels near an outline only and still get exactly what supersampling all of them gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AREA = 0.25  # of the frame, at scale 1
REACH = 0.42  # no shape at scale 1, turned by at most 20 degrees, reaches farther from its centroid along x or y (frame = 1)
SUPERSAMPLING = 4  # per axis

PARTS = ("corner", "straight", "curved")  # of an outline
CORNER_RADIUS = 1 / 16  # of the frame side: what lies so near a corner belongs to it (2 px of 32)

# A blob's radius is exp(sum of a_k cos(k angle + phase_k)), its log-amplitudes a_k between .6 of these and all.
BLOB_HARMONICS, BLOB_AMPLITUDES = np.array([2, 3, 4, 5]), np.array([0.12, 0.10, 0.07, 0.04])
N_BLOB = 2 * len(BLOB_HARMONICS)  # uniforms of a blob: amplitudes, then phases


def _nowhere(x: Array, y: Array) -> NDArray[np.bool_]:
    return np.zeros(x.shape, dtype=bool)


def _everywhere(x: Array, y: Array) -> NDArray[np.bool_]:
    return np.ones(x.shape, dtype=bool)


@dataclass(frozen=True)
class Shape:
    """An outline in its own units (y points up) with what places it: `unit` own units a frame side, centroid at (cx, cy).

    corners: (k, 2) places where the outline turns at once. curved: whether the outline near points (x, y) bends.
    """

    distance: Callable[[Array, Array], Array]
    unit: float
    cx: float
    cy: float
    corners: Array = field(default_factory=lambda: np.empty((0, 2)))
    curved: Callable[[Array, Array], NDArray[np.bool_]] = _nowhere


def coverage(shape: Shape, size: int, cx: Array, cy: Array, scale: Array, rotation_deg: Array) -> Array:
    """Share of each pixel that the shape covers, (n, size, size) in steps of 1/16, for n poses of one shape.

    cx, cy: (n,) centroid in [0, 1] of the frame, x to the right, y down. scale: (n,) factor on lengths.
    rotation_deg: (n,) anticlockwise as seen.
    """

    def distance(item: NDArray[np.intp], x: Array, y: Array) -> Array:
        """Signed distance in frame sides at points (x, y) of the frame, of the pose numbered `item`."""
        own_x, own_y = _own(shape, x, y, cx[item], cy[item], scale[item], rotation_deg[item])
        return shape.distance(own_x, own_y) / shape.unit * scale[item]

    return _supersampled(distance, len(cx), size)


def blob_coverage(uniforms: Array, size: int, cx: Array, cy: Array, scale: Array) -> Array:
    """Share of each pixel that a smooth irregular blob covers, (n, size, size) in steps of 1/16: one blob an item.

    uniforms: (n, N_BLOB) in [0, 1). cx, cy, scale: as of `coverage`. Every blob has AREA at scale 1, its centroid at (cx, cy).
    """
    amplitude = BLOB_AMPLITUDES * (0.6 + 0.4 * uniforms[:, : len(BLOB_HARMONICS)])
    phase = 2 * np.pi * uniforms[:, len(BLOB_HARMONICS) :]
    round_once = 2 * np.pi * np.arange(256) / 256  # sums over it are exact: harmonics this high are not there
    radius = np.exp(_ripple(round_once[None, :], amplitude[:, None], phase[:, None]))
    unit = np.sqrt(AREA / np.pi / np.mean(radius**2, axis=1))
    offset = 2 * np.pi / 3 * np.mean(radius**3 * np.exp(1j * round_once), axis=1) * unit**3 / AREA
    # |distance - radius| grows by at most `steep` a step outside half the smallest radius; inside, it is cut off.
    most, bend = amplitude.sum(axis=1), (BLOB_HARMONICS * amplitude).sum(axis=1)
    steep, core = np.sqrt(1 + (2 * np.exp(2 * most) * bend) ** 2), 0.5 * unit * np.exp(-most)

    def distance(item: NDArray[np.intp], x: Array, y: Array) -> Array:
        right = (x - cx[item]) / scale[item] + offset.real[item]
        up = (cy[item] - y) / scale[item] + offset.imag[item]
        outline = unit[item] * np.exp(_ripple(np.arctan2(up, right), amplitude[item], phase[item]))
        return np.maximum(np.hypot(right, up) - outline, -core[item]) / steep[item] * scale[item]

    return _supersampled(distance, len(cx), size)


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The 1-pixel inner outline of masks (n, h, w): their pixels with one of four neighbours outside the mask or the frame."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    inside = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return mask & ~inside


def parts(shape: Shape, outline: NDArray[np.bool_], cx: Array, cy: Array, scale: Array, rotation_deg: Array) -> NDArray[np.uint8]:
    """The part of the outline that each pixel of `outline` (n, h, w) belongs to: 1 + its place in PARTS; 0 off the outline.

    The poses are those of `coverage`. A pixel within CORNER_RADIUS of a corner is the corner's, else straight or curved.
    """
    item, row, column = np.nonzero(outline)
    x, y = (column + 0.5) / outline.shape[2], (row + 0.5) / outline.shape[1]
    own_x, own_y = _own(shape, x, y, cx[item], cy[item], scale[item], rotation_deg[item])
    away = np.hypot(own_x[:, None] - shape.corners[:, 0], own_y[:, None] - shape.corners[:, 1]).min(axis=1, initial=np.inf)
    found = np.zeros(outline.shape, dtype=np.uint8)
    edge = np.where(shape.curved(own_x, own_y), PARTS.index("curved"), PARTS.index("straight"))
    found[item, row, column] = 1 + np.where(away / shape.unit * scale[item] < CORNER_RADIUS, PARTS.index("corner"), edge)
    return found


def _own(shape: Shape, x: Array, y: Array, cx: Array, cy: Array, scale: Array, rotation_deg: Array) -> tuple[Array, Array]:
    """Points (x, y) of the frame in the shape's own units."""
    turn = np.deg2rad(rotation_deg)
    right, up = (x - cx) / scale, (cy - y) / scale
    own_x, own_y = np.cos(turn) * right + np.sin(turn) * up, np.cos(turn) * up - np.sin(turn) * right
    return own_x * shape.unit + shape.cx, own_y * shape.unit + shape.cy


def _supersampled(distance: Callable[[NDArray[np.intp], Array, Array], Array], n: int, size: int) -> Array:
    """Share of the samples of each pixel where a 1-Lipschitz distance(item, x, y) is negative, (n, size, size)."""
    centre = (np.arange(size) + 0.5) / size
    coarse = distance(np.arange(n)[:, None, None], centre[None, None, :], centre[None, :, None])
    covered = (coarse < 0).astype(np.float64)
    # A pixel's farthest sample is less than half its diagonal away: where the outline is farther, all samples agree.
    item, row, column = np.nonzero(np.abs(coarse) <= np.sqrt(0.5) / size)
    sample = ((np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5) / size
    fine_x, fine_y = centre[column][:, None, None] + sample[None, None, :], centre[row][:, None, None] + sample[None, :, None]
    fine = distance(item[:, None, None], fine_x, fine_y)
    covered[item, row, column] = np.count_nonzero(fine < 0, axis=(1, 2)) / SUPERSAMPLING**2
    return covered


def _ripple(angle: Array, amplitude: Array, phase: Array) -> Array:
    """Log-radius of a blob at angles (...); amplitude, phase: (..., harmonics)."""
    return np.sum(amplitude * np.cos(BLOB_HARMONICS * angle[..., None] + phase), axis=-1)


def _disc(x: Array, y: Array, cx: float = 0.0, cy: float = 0.0, radius: float = 1.0) -> Array:
    return np.hypot(x - cx, y - cy) - radius


def _box(x: Array, y: Array, cx: float, cy: float, half_width: float, half_height: float) -> Array:
    outside_x, outside_y = np.abs(x - cx) - half_width, np.abs(y - cy) - half_height
    return np.hypot(np.maximum(outside_x, 0), np.maximum(outside_y, 0)) + np.minimum(np.maximum(outside_x, outside_y), 0)


def _polygon(x: Array, y: Array, corners: Array, rounding: float) -> Array:
    """Distance to a simple polygon, corners (k, 2), grown by `rounding`: nearest edge, signed by the crossing rule."""
    squared, inside = np.full(x.shape, np.inf), np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        squared = np.minimum(squared, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        if ay != by:
            inside ^= ((y < ay) != (y < by)) & (px < ex * py / ey)
    return np.where(inside, -1.0, 1.0) * np.sqrt(squared) - rounding


def _wheel(n: int, radii: tuple[float, ...], first_deg: float = 90.0) -> Array:
    """Corners (n, 2) at equal angles from `first_deg`, at the given radii in turn."""
    angle = np.deg2rad(first_deg + 360.0 * np.arange(n) / n)
    return np.resize(radii, n)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _union(*parts: Array) -> Array:
    return reduce(np.minimum, parts)


def _heart(x: Array, y: Array) -> Array:
    """A square on its corner with a disc on each upper side."""
    tilted_x, tilted_y = (x + y) * np.sqrt(0.5), (y - x) * np.sqrt(0.5)
    return _union(_box(tilted_x, tilted_y, 0, 0, 1, 1), _disc(tilted_x, tilted_y, 1, 0), _disc(tilted_x, tilted_y, 0, 1))


_TRIANGLE, _STAR, _HEXAGON = _wheel(3, (1.0,)), _wheel(10, (1.0, 0.48)), _wheel(6, (1.0,))


def _lobed(x: Array, y: Array) -> NDArray[np.bool_]:
    """The heart's two discs, beyond the upper sides of its square."""
    return np.maximum(x + y, y - x) * np.sqrt(0.5) > 1


def _mirrored(*corners: tuple[float, float]) -> Array:
    """Corners and their mirror images in both axes."""
    return np.array([(i * x, j * y) for x, y in corners for i in (-1, 1) for j in (-1, 1)])


_PLUS_CORNERS = _mirrored((1, 0.32), (0.32, 1), (0.32, 0.32))
_CUSPS = np.array([(0.74, 0.67261), (0.74, -0.67261)])  # where the crescent's two circles meet
_L_CORNERS = np.array([(-1, -1), (1, -1), (1, -0.09), (-0.09, -0.09), (-0.09, 1), (-1, 1)])
_STAR_CORNERS = _wheel(10, (1.05, 0.5373))  # of the grown outline: tips go out by the rounding, notches fill a little more
_HEART_CORNERS = np.array([(0, -np.sqrt(2)), (0, np.sqrt(2))])

# Units and centroids are measured on a fine grid, so that every area is AREA (a test measures them again).
SHAPES: dict[str, Shape] = {
    "disc": Shape(_disc, 3.544908, 0.0, 0.0, curved=_everywhere),
    "square": Shape(lambda x, y: _box(x, y, 0, 0, 1, 1), 4.0, 0.0, 0.0, _mirrored((1, 1))),
    "triangle": Shape(lambda x, y: _polygon(x, y, _TRIANGLE, 0.1), 2.720340, 0.0, 0.0, 1.1 * _TRIANGLE),
    "star": Shape(lambda x, y: _polygon(x, y, _STAR, 0.05), 2.649302, 0.0, 0.0, _STAR_CORNERS),
    "plus": Shape(lambda x, y: _union(_box(x, y, 0, 0, 1, 0.32), _box(x, y, 0, 0, 0.32, 1)), 2.932848, 0.0, 0.0, _PLUS_CORNERS),
    "ring": Shape(lambda x, y: np.abs(_disc(x, y)) - 0.23, 3.400206, 0.0, 0.0, curved=_everywhere),
    "crescent": Shape(lambda x, y: np.maximum(_disc(x, y), -_disc(x, y, 0.64, 0, 0.68)), 2.856423, -0.270412, 0.0, _CUSPS, _everywhere),
    "L": Shape(
        lambda x, y: _union(_box(x, y, -0.545, 0, 0.455, 1), _box(x, y, 0, -0.545, 1, 0.455)), 3.353744, -0.192249, -0.192249, _L_CORNERS
    ),
    "hexagon": Shape(lambda x, y: _polygon(x, y, _HEXAGON, 0.0), 3.223992, 0.0, 0.0, _HEXAGON),
    "heart": Shape(_heart, 5.344964, 0.0, 0.443012, _HEART_CORNERS, _lobed),
}
