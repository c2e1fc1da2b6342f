"""Shapes have one area, reach no farther than they are given room, are drawn exactly, and know the parts of their outlines."""

import numpy as np
import pytest

from reprolib.data import shapes

EVERY_SHAPE = sorted(shapes.SHAPES)


def poses(n: int, seed: int = 0) -> np.ndarray:
    """Random poses within the world's ranges, as `coverage` takes them: four arrays (n,)."""
    u = np.random.default_rng(seed).random((4, n))
    scale = 0.85 + 0.3 * u[2]
    room = 0.5 - shapes.REACH * scale
    return np.stack([0.5 + room * (2 * u[0] - 1), 0.5 + room * (2 * u[1] - 1), scale, 40 * u[3] - 20])


def grid_inside(shape: shapes.Shape, n: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Points of a fine grid over the frame (centred, y up) that lie inside the shape at scale 1."""
    side = (np.arange(n) + 0.5) / n - 0.5
    x, y = np.meshgrid(side, side)
    inside = shape.distance(x * shape.unit + shape.cx, y * shape.unit + shape.cy) < 0
    return x[inside], y[inside]


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_every_shape_has_the_same_area_and_its_centroid_at_its_centre(name):
    x, y = grid_inside(shapes.SHAPES[name])
    assert len(x) / 800**2 == pytest.approx(shapes.AREA, abs=5e-4)
    assert (x.mean(), y.mean()) == pytest.approx((0, 0), abs=5e-4)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_no_turned_shape_reaches_beyond_the_room_left_for_it(name):
    x, y = grid_inside(shapes.SHAPES[name])
    for turn in np.deg2rad(np.linspace(-20, 20, 21)):
        assert np.abs(np.cos(turn) * x - np.sin(turn) * y).max() < shapes.REACH
        assert np.abs(np.sin(turn) * x + np.cos(turn) * y).max() < shapes.REACH


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_distance_never_grows_faster_than_the_way_walked(name):
    p, q = np.random.default_rng(1).uniform(-2, 2, (2, 2, 20_000))
    distance = shapes.SHAPES[name].distance
    assert np.all(np.abs(distance(*p) - distance(*q)) <= np.hypot(*(p - q)) + 1e-12)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_coverage_equals_supersampling_every_pixel(name):
    size, pose = 32, poses(4)
    shape, (cx, cy, scale, rotation) = shapes.SHAPES[name], pose
    fine = (np.arange(4 * size) + 0.5) / (4 * size)
    turn = np.exp(-1j * np.deg2rad(rotation))[:, None, None]
    point = ((fine[None, None, :] - cx[:, None, None]) + 1j * (cy[:, None, None] - fine[None, :, None])) / scale[:, None, None] * turn
    inside = shape.distance(point.real * shape.unit + shape.cx, point.imag * shape.unit + shape.cy) < 0
    expected = inside.reshape(4, size, 4, size, 4).mean(axis=(2, 4))
    np.testing.assert_array_equal(shapes.coverage(shape, size, *pose), expected)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_covered_area_is_a_quarter_of_the_frame_times_scale_squared(name):
    cx, cy, scale, rotation = poses(100)
    covered = shapes.coverage(shapes.SHAPES[name], 32, cx, cy, scale, rotation).mean(axis=(1, 2))
    np.testing.assert_allclose(covered / scale**2, shapes.AREA, atol=0.008)
    assert (covered / scale**2).mean() == pytest.approx(shapes.AREA, abs=0.001)


def test_a_shape_turns_anticlockwise():
    zero, quarter = np.array([0.5]), np.array([90.0])
    upright = shapes.coverage(shapes.SHAPES["L"], 32, zero, zero, zero + 0.5, zero * 0)
    np.testing.assert_allclose(shapes.coverage(shapes.SHAPES["L"], 32, zero, zero, zero + 0.5, quarter), np.rot90(upright, axes=(1, 2)))


def test_boundary_is_the_outer_layer_of_the_mask():
    mask = np.zeros((1, 6, 6), dtype=bool)
    mask[0, 1:5, 0:4] = True
    expected = mask.copy()
    expected[0, 2:4, 1:3] = False
    np.testing.assert_array_equal(shapes.boundary(mask), expected)


# --- parts of an outline


def at_middle(n: int = 1):
    """Poses in the middle of the frame, at scale 1 and not turned."""
    return np.full(n, 0.5), np.full(n, 0.5), np.ones(n), np.zeros(n)


def parted(name: str, size: int, pose) -> tuple[np.ndarray, np.ndarray]:
    """Outline (n, size, size) and parts of a shape."""
    outline = shapes.boundary(shapes.coverage(shapes.SHAPES[name], size, *pose) > 0.5)
    return outline, shapes.parts(shapes.SHAPES[name], outline, *pose)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_parts_divide_the_outline_and_nothing_else(name):
    outline, part = parted(name, 32, poses(20))
    np.testing.assert_array_equal(part > 0, outline)
    assert part.max() <= len(shapes.PARTS)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_corners_are_where_the_outline_turns(name):
    """At each corner the distance is 0, and around it the share of the shape is far from that of a half-plane."""
    shape, turn = shapes.SHAPES[name], np.linspace(0, 2 * np.pi, 720, endpoint=False)
    x, y = shape.corners[:, 0], shape.corners[:, 1]
    np.testing.assert_allclose(shape.distance(x, y), 0, atol=0.02)
    around = shape.distance(x[:, None] + 0.15 * np.cos(turn), y[:, None] + 0.15 * np.sin(turn)) < 0
    assert np.all(np.abs(around.mean(axis=1) - 0.5) > 0.1)


@pytest.mark.parametrize(
    ("name", "corners", "edges"),
    [
        ("disc", 0, {"curved"}), ("square", 4, {"straight"}), ("triangle", 3, {"straight"}), ("star", 10, {"straight"}),
        ("plus", 12, {"straight"}), ("ring", 0, {"curved"}), ("crescent", 2, {"curved"}), ("L", 6, {"straight"}),
        ("hexagon", 6, {"straight"}), ("heart", 2, {"straight", "curved"}),
    ],
)  # fmt: skip
def test_every_shape_has_its_corners_and_its_kind_of_edge(name, corners, edges):
    assert len(shapes.SHAPES[name].corners) == corners
    _, part = parted(name, 64, at_middle())
    found = {shapes.PARTS[k - 1] for k in np.unique(part) if k}
    assert found == edges | ({"corner"} if corners else set())


def test_parts_of_a_square_are_known_pixel_by_pixel():
    """Half a frame wide: at 32 px it spans pixels 8 to 23, and corners take the centres within 2 px of them."""
    outline, part = parted("square", 32, at_middle())
    expected = np.where(outline[0], 1 + shapes.PARTS.index("straight"), 0)
    for row in (8, 9, 22, 23):
        for column in (8, 9, 22, 23):
            if outline[0, row, column]:
                expected[row, column] = 1 + shapes.PARTS.index("corner")
    np.testing.assert_array_equal(part[0], expected)


def test_parts_turn_and_move_with_the_shape():
    turned = (np.array([0.5]), np.array([0.5]), np.array([0.8]), np.array([90.0]))
    _, part = parted("L", 64, (*turned[:3], np.zeros(1)))
    np.testing.assert_array_equal(parted("L", 64, turned)[1], np.rot90(part, axes=(1, 2)))


# --- blobs


def blobs(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverages (n, size, size) of blobs and their poses."""
    pose = poses(n)
    return shapes.blob_coverage(np.random.default_rng(3).random((n, shapes.N_BLOB)), size, *pose[:3]), pose


def test_blobs_have_the_area_of_the_shapes_and_their_centroid_at_their_place():
    covered, (cx, cy, scale, _) = blobs(50, 64)
    np.testing.assert_allclose(covered.mean(axis=(1, 2)) / scale**2, shapes.AREA, rtol=0.01)
    centre = (np.arange(64) + 0.5) / 64
    for place, axis in ((cx, 1), (cy, 2)):
        np.testing.assert_allclose((covered.sum(axis=axis) * centre).sum(axis=1) / covered.sum(axis=(1, 2)), place, atol=0.002)


def test_blobs_stay_in_the_frame_even_at_their_widest():
    u = np.random.default_rng(0).random((150, shapes.N_BLOB))
    u[:, : shapes.N_BLOB // 2] = 1.0  # all amplitudes at their largest
    covered = shapes.blob_coverage(u, 64, *at_middle(150)[:3])
    inside = covered.max(axis=0) > 0
    centre = np.abs((np.arange(64) + 0.5) / 64 - 0.5)
    assert max(centre[inside.any(axis=0)].max(), centre[inside.any(axis=1)].max()) < shapes.REACH


def test_blob_coverage_equals_supersampling_every_pixel(monkeypatch):
    """With every pixel taken for one near the outline, nothing changes: the rule that leaves most of them out loses none."""
    u, pose = np.random.default_rng(3).random((5, shapes.N_BLOB)), poses(5)[:3]
    found = shapes.blob_coverage(u, 32, *pose)
    drawn = shapes._supersampled

    def everywhere(distance, n, size):
        return drawn(lambda item, x, y: distance(item, x, y) * 1e-9, n, size)

    monkeypatch.setattr(shapes, "_supersampled", everywhere)
    np.testing.assert_array_equal(shapes.blob_coverage(u, 32, *pose), found)


def test_blobs_are_irregular_and_differ():
    covered, _ = blobs(20, 64)
    assert len(np.unique(covered.reshape(20, -1), axis=0)) == 20
    u = np.random.default_rng(3).random((20, shapes.N_BLOB))
    figure = shapes.blob_coverage(u, 64, *at_middle(20)[:3])
    disc = shapes.coverage(shapes.SHAPES["disc"], 64, *at_middle())
    apart = np.abs(figure - disc).mean(axis=(1, 2)) / shapes.AREA
    assert apart.min() > 0.05
