"""The procedural world: its laws (area, energy, balance, independence) and that nothing but shape and texture tells the class."""

import dataclasses
import hashlib
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reprolib import data
from reprolib.data import shapes, shapetexture, textures
from reprolib.data.shapetexture import Batch, World, render, world_of
from reprolib.errors import BadInput

WORLD = world_of("shapetexture", "test")
SET = world_of("shapetexture_gratings", "test")
EVERY_SHAPE, EVERY_TEXTURE = sorted(shapes.SHAPES), sorted(textures.TEXTURES)


@cache
def rendered(variant: str = "both", n: int = 1200) -> Batch:
    return render(WORLD, range(n), variant)


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


# --- shapes


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


# --- textures


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("name", EVERY_TEXTURE)
def test_every_texture_has_zero_mean_and_unit_rms(name, size):
    field = textures.texture(name, np.random.default_rng(0).random((20, textures.N_UNIFORMS)), size, 5.0)
    np.testing.assert_allclose(field.mean(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose((field**2).mean(axis=(1, 2)), 1, rtol=1e-12)


@pytest.mark.parametrize("degrees", [0, 45, 90, 135])
def test_a_grating_is_the_plane_wave_of_its_angle_and_period(degrees):
    u = np.full((1, textures.N_UNIFORMS), 0.5)  # jitter 0
    u[0, 0] = 0.2
    angle = np.deg2rad(degrees)
    right, down = np.meshgrid(np.arange(32), np.arange(32))
    wave = np.cos(2 * np.pi * (right * np.cos(angle) - down * np.sin(angle)) / 5 + 2 * np.pi * 0.2)
    np.testing.assert_allclose(textures.texture(f"grating_{degrees}", u, 32, 5.0)[0], (wave - wave.mean()) / wave.std(), atol=1e-10)


def radial_frequency(field: np.ndarray) -> float:
    """Power-weighted mean frequency of fields (n, s, s), in cycles a px."""
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(field.shape[-1]), np.fft.fftfreq(field.shape[-1])))
    return float((power * frequency).sum() / power.sum())


def test_gratings_share_one_frequency_and_noises_lie_on_either_side():
    u = np.random.default_rng(0).random((50, textures.N_UNIFORMS))
    frequency = {name: radial_frequency(textures.texture(name, u, 32, 5.0)) for name in shapetexture.TEXTURES}
    gratings = [frequency[f"grating_{d}"] for d in (0, 45, 90, 135)]
    assert gratings == pytest.approx([1 / 5] * 4, rel=0.05)
    assert frequency["blobs"] < 0.7 / 5
    assert frequency["noise"] > 1.4 / 5


def test_background_field_falls_as_one_over_frequency():
    power = np.abs(np.fft.fft2(textures.power_law_field(np.random.default_rng(0).random((800, 3 * textures.N_WAVES)), 64))) ** 2
    frequency = 64 * np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    octave = [power[:, (frequency >= low) & (frequency < 2 * low)].mean() for low in (2, 4, 8)]
    slopes = np.log2(octave[1:]) - np.log2(octave[:-1])  # power falls by 4 an octave where amplitude is 1/f
    np.testing.assert_allclose(slopes, -2, atol=0.5)


# --- items


@pytest.mark.parametrize("variant", list(shapetexture.VARIANTS))
def test_an_item_depends_on_seed_and_index_only(variant, monkeypatch):
    whole = render(WORLD, range(60), variant)
    monkeypatch.setattr(shapetexture, "CHUNK", 7)
    order = np.random.default_rng(0).permutation(60)
    for indices in (order, order[:1], range(40, 60)):
        part = render(WORLD, indices, variant)
        for field in dataclasses.fields(Batch):
            expected, found = getattr(whole, field.name), getattr(part, field.name)
            if isinstance(expected, torch.Tensor):
                assert torch.equal(expected[list(indices)], found), field.name


def test_seeds_make_different_items():
    other = render(dataclasses.replace(WORLD, seed=WORLD.seed + 1), range(8))
    assert not any(torch.equal(a, b) for a, b in zip(other.image, rendered().image[:8], strict=True))


def test_variants_share_pose_tint_and_sign():
    for variant in ("conflict", "held_out"):
        part = render(WORLD, range(16), variant)
        for name in ("pose", "tint", "sign"):
            assert torch.equal(getattr(part, name), getattr(rendered(), name)[:16])


def test_images_follow_the_composition_formula():
    """With no contrast at all the image is a tinted background, and each contrast adds its own term inside the mask only."""
    flat = render(dataclasses.replace(WORLD, delta=0.0, c=0.0), range(64)).image.double()
    shape = render(dataclasses.replace(WORLD, delta=0.1, c=0.0), range(64))
    textured = render(dataclasses.replace(WORLD, delta=0.0, c=0.1), range(64)).image.double()
    inside, outside = shape.mask & ~shape.boundary, _far_from(shape.mask)
    tint = torch.from_numpy(shapetexture.tints())[shape.tint]
    step = (shape.image.double() - flat) / 255
    expected = 0.1 * shape.sign[:, None].double() * tint
    for i in range(64):
        assert torch.equal(flat[i][:, outside[i]], shape.image[i].double()[:, outside[i]])
        assert torch.equal(flat[i][:, outside[i]], textured[i][:, outside[i]])
        torch.testing.assert_close(step[i][:, inside[i]].mean(dim=1), expected[i], rtol=0, atol=2e-3)
    energy = torch.stack([((textured - flat)[i][:, inside[i]] / 255).square().mean().sqrt() for i in range(64)]).mean()
    assert energy == pytest.approx(0.1 * shapetexture.TINT_RMS, rel=0.05)


def _far_from(mask: torch.Tensor) -> torch.Tensor:
    """Pixels with no mask pixel among their eight neighbours nor themselves."""
    return torch.nn.functional.max_pool2d(mask[:, None].float(), 3, stride=1, padding=1)[:, 0] == 0


def test_tints_are_eleven_colours_of_equal_energy():
    tints = shapetexture.tints()
    assert len(np.unique(tints.round(6), axis=0)) == len(shapetexture.TINT_NAMES) == 11
    np.testing.assert_allclose(np.sqrt((tints**2).mean(axis=1)), shapetexture.TINT_RMS, rtol=1e-12)
    assert tints.max() <= 1
    red, green, blue = (tints[shapetexture.TINT_NAMES.index(name)] for name in ("red", "lime", "azure"))
    assert (red.argmax(), green.argmax(), blue.argmax()) == (0, 1, 2)


def test_clipping_is_rare():
    image = rendered().image.double() / 255 / torch.from_numpy(shapetexture.tints())[rendered().tint][:, :, None, None]
    assert ((image < 1 / 255) | (image > 1 - 1 / 255)).double().mean() < 0.02


def test_masks_have_the_area_that_scale_says():
    batch = rendered()
    area = batch.mask.double().mean(dim=(1, 2)) / batch.pose[:, 2] ** 2
    for k in range(8):
        assert area[batch.shape == k].mean() == pytest.approx(0.25, abs=0.0075)
    assert (area - 0.25).abs().max() < 0.035  # one mask is rounded to whole pixels; its coverage is tested above


def test_pose_says_where_the_mask_is():
    batch = rendered()
    centre = (torch.arange(WORLD.size, dtype=torch.float64) + 0.5) / WORLD.size
    mask = batch.mask.double()
    for column, axis in ((0, 1), (1, 2)):
        measured = (mask.sum(dim=axis) * centre).sum(dim=1) / mask.sum(dim=(1, 2))
        assert (measured - batch.pose[:, column]).abs().max() < 0.5 / WORLD.size


# --- balance, and what must not tell the class


def test_both_pairs_shape_k_with_texture_k_in_equal_counts():
    batch = rendered()
    assert torch.equal(batch.shape, batch.texture)
    assert torch.bincount(batch.shape).tolist() == [150] * 8


def test_conflict_has_every_unequal_pair_equally_often():
    batch = render(WORLD, range(112), "conflict")
    counts = torch.bincount(8 * batch.shape + batch.texture, minlength=64).reshape(8, 8)
    assert torch.equal(counts, 2 * (1 - torch.eye(8, dtype=torch.int64)))
    for cue in (batch.shape, batch.texture):
        assert all(len(set(cue[i : i + 8].tolist())) == 8 for i in range(0, 112, 8))


def test_held_out_crosses_shapes_and_textures_of_no_training_set():
    batch = render(WORLD, range(24), "held_out")
    assert torch.bincount(2 * batch.shape + batch.texture).tolist() == [6] * 4
    assert not set(batch.shape_names) & set(WORLD.shapes)
    assert not set(batch.texture_names) & set(WORLD.textures)


@pytest.mark.parametrize("world", [WORLD, SET], ids=["laptop", "smoke"])
def test_colour_luminance_area_and_position_do_not_tell_the_class(world):
    """Two probes on what must carry no class information stay near chance, and the same probe does read what tells it."""
    n, k = 1200, len(world.shapes)
    batch = rendered() if world is WORLD else render(world, range(n))
    x, mask = batch.image.double() / 255, batch.mask.double()
    colour = x.mean(dim=(2, 3))
    position = torch.stack([(mask.sum(dim=axis) * torch.arange(world.size)).sum(dim=1) / mask.sum(dim=(1, 2)) for axis in (1, 2)], dim=1)
    nuisance = torch.cat([colour, colour.mean(dim=1, keepdim=True), position, mask.mean(dim=(1, 2))[:, None]], dim=1)
    chance, standard_error = 1 / k, (1 / k * (1 - 1 / k) / (n / 2)) ** 0.5
    assert _probe(nuisance, batch.shape) < chance + 4 * standard_error
    assert _probe(torch.cat([nuisance, nuisance**2], dim=1), batch.shape) < chance + 4 * standard_error
    outline = batch.boundary.double().sum(dim=(1, 2))[:, None] / mask.sum(dim=(1, 2))[:, None].sqrt()
    assert _probe(outline, batch.shape) > chance + 8 * standard_error


def _probe(features: torch.Tensor, label: torch.Tensor) -> float:
    """Accuracy on the second half of a linear classifier fitted on the first."""
    half = len(label) // 2
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(probe.fit(features[:half], label[:half]).score(features[half:], label[half:]))


# --- what is committed


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("both", "14c51388e25b7800"),
        ("conflict", "db1cf95ab491aa79"),
        ("held_out", "8454cc345dda9a21"),
    ],
)
def test_images_are_those_of_version_1(variant, expected):
    """A difference means that the data set changed: raise `shapetexture.VERSION`, and then these hashes."""
    assert shapetexture.VERSION == 1
    found = b"".join(render(world, range(64), variant).image.numpy().tobytes() for world in (WORLD, SET))
    assert hashlib.sha256(found).hexdigest()[:16] == expected


@pytest.mark.parametrize("name", list(shapetexture.WORLDS))
def test_normaliser_is_that_of_the_training_split(name):
    x = data.load(name, "train").x.double() / 255
    mean, std = data.normaliser(name)
    np.testing.assert_allclose(x.mean(dim=(0, 2, 3)), mean, atol=5.1e-5)
    np.testing.assert_allclose(x.std(dim=(0, 2, 3)), std, atol=5.1e-5)


# --- edges and messages


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": ("disc", "sqare")}, "shape 'sqare' is unknown, allowed are .*; did you mean 'square'?"),
        ({"textures": ("dots", "checkers")}, "texture 'checkers' is unknown, allowed are .*; did you mean 'checker'?"),
        ({"shapes": ("disc", "square", "star")}, "3 shapes and 8 textures are given, allowed are equal counts"),
        ({"delta": 1.5}, r"delta=1.5 is outside \[0, 1\]"),
        ({"size": 4}, r"size=4 is outside \[8, 512\]"),
        ({"seed": -1}, r"seed=-1 is outside"),
    ],
)
def test_a_world_that_cannot_be_drawn_is_refused(change, message):
    with pytest.raises(BadInput, match=message):
        World(**change)


def test_unknown_variants_and_bad_indices_are_refused():
    with pytest.raises(BadInput, match="variant='conflicts' is unknown, allowed are both, conflict, held_out; did you mean 'conflict'?"):
        render(WORLD, range(4), "conflicts")
    with pytest.raises(BadInput, match="indices are -1: allowed is at least one index, none below 0"):
        render(WORLD, [3, -1])
    with pytest.raises(BadInput, match="indices are empty"):
        render(WORLD, [])
