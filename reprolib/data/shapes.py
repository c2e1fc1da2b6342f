"""Shapes as signed-distance functions, all of one area, and their anti-aliased drawing.

Every function is negative inside and 1-Lipschitz (its value never exceeds the distance to the outline), which is what
lets `coverage` supersample the pixels near an outline only and still get exactly what supersampling all of them gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AREA = 0.25  # of the frame, at scale 1
REACH = 0.42  # no shape at scale 1, turned by at most 20 degrees, reaches farther from its centroid along x or y (frame = 1)
SUPERSAMPLING = 4  # per axis


@dataclass(frozen=True)
class Shape:
    """An outline in its own units (y points up) with what places it: `unit` own units a frame side, centroid at (cx, cy)."""

    distance: Callable[[Array, Array], Array]
    unit: float
    cx: float
    cy: float


def coverage(shape: Shape, size: int, cx: Array, cy: Array, scale: Array, rotation_deg: Array) -> Array:
    """Share of each pixel that the shape covers, (n, size, size) in steps of 1/16, for n poses of one shape.

    cx, cy: (n,) centroid in [0, 1] of the frame, x to the right, y down. scale: (n,) factor on lengths.
    rotation_deg: (n,) anticlockwise as seen.
    """
    turn = np.deg2rad(rotation_deg)
    cos, sin = np.cos(turn), np.sin(turn)

    def distance(item: NDArray[np.intp], x: Array, y: Array) -> Array:
        """Signed distance in frame sides at points (x, y) of the frame, of the pose numbered `item`."""
        right, up = (x - cx[item]) / scale[item], (cy[item] - y) / scale[item]
        own_x = cos[item] * right + sin[item] * up
        own_y = cos[item] * up - sin[item] * right
        return shape.distance(own_x * shape.unit + shape.cx, own_y * shape.unit + shape.cy) / shape.unit * scale[item]

    centre = (np.arange(size) + 0.5) / size
    poses = np.arange(len(cx))[:, None, None]
    coarse = distance(poses, centre[None, None, :], centre[None, :, None])
    covered = (coarse < 0).astype(np.float64)
    # A pixel's farthest sample is less than half its diagonal away: where the outline is farther, all samples agree.
    item, row, column = np.nonzero(np.abs(coarse) <= np.sqrt(0.5) / size)
    sample = ((np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5) / size
    fine_x, fine_y = centre[column][:, None, None] + sample[None, None, :], centre[row][:, None, None] + sample[None, :, None]
    fine = distance(item[:, None, None], fine_x, fine_y)
    covered[item, row, column] = np.count_nonzero(fine < 0, axis=(1, 2)) / SUPERSAMPLING**2
    return covered


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The 1-pixel inner outline of masks (n, h, w): their pixels with one of four neighbours outside the mask or the frame."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    inside = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return mask & ~inside


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

# Units and centroids are measured on a fine grid, so that every area is AREA (a test measures them again).
SHAPES: dict[str, Shape] = {
    "disc": Shape(_disc, 3.544908, 0.0, 0.0),
    "square": Shape(lambda x, y: _box(x, y, 0, 0, 1, 1), 4.0, 0.0, 0.0),
    "triangle": Shape(lambda x, y: _polygon(x, y, _TRIANGLE, 0.1), 2.720340, 0.0, 0.0),
    "star": Shape(lambda x, y: _polygon(x, y, _STAR, 0.05), 2.649302, 0.0, 0.0),
    "plus": Shape(lambda x, y: _union(_box(x, y, 0, 0, 1, 0.32), _box(x, y, 0, 0, 0.32, 1)), 2.932848, 0.0, 0.0),
    "ring": Shape(lambda x, y: np.abs(_disc(x, y)) - 0.23, 3.400206, 0.0, 0.0),
    "crescent": Shape(lambda x, y: np.maximum(_disc(x, y), -_disc(x, y, 0.64, 0, 0.68)), 2.856423, -0.270412, 0.0),
    "L": Shape(lambda x, y: _union(_box(x, y, -0.545, 0, 0.455, 1), _box(x, y, 0, -0.545, 1, 0.455)), 3.353744, -0.192249, -0.192249),
    "hexagon": Shape(lambda x, y: _polygon(x, y, _HEXAGON, 0.0), 3.223992, 0.0, 0.0),
    "heart": Shape(_heart, 5.344964, 0.0, 0.443012),
}
