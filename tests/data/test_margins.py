"""Margins measured on images agree with the closed forms, and contrasts are found for any ratio of them."""

import dataclasses

import numpy as np
import pytest

from reprolib.data import margins, shapes
from reprolib.data.hues import HUE
from reprolib.data.shapetexture import FIELD_RMS, MARGIN_SETS, SHAPES, TEXTURES, World, world_of
from reprolib.errors import BadInput

WORLD = World()


@pytest.mark.parametrize(
    "world",
    [
        WORLD,
        world_of("shapetexture_gratings", "train"),
        World(size=48, shapes=SHAPES[:4], textures=TEXTURES[4:], delta=0.1, c=0.1, rotation_deg=20.0),
    ],
    ids=["laptop", "smoke", "large"],
)
def test_measured_margins_agree_with_the_closed_forms(world):
    """Shape: to 1 %. Texture: to 6 %, for pixels that the figure covers in part weigh less than their area."""
    found = margins.measure(world)
    assert found.shape == pytest.approx(found.shape_expected, rel=0.01)
    assert found.texture_energy == pytest.approx(found.texture_energy_expected, rel=0.06)
    assert found.texture == pytest.approx(found.texture_expected, rel=0.06)
    assert found.shape_lowest < found.shape < found.shape_highest
    assert found.ratio == found.shape / found.texture


def test_closed_form_of_the_texture_is_that_of_an_area_of_256_pixels():
    found = margins.measure(WORLD)
    assert found.texture_energy_expected == pytest.approx(27.7 * WORLD.c, rel=0.002)
    assert found.texture_expected == pytest.approx(19.6 * WORLD.c, rel=0.002)


def test_the_shape_margin_counts_hue_and_the_texture_margin_does_not():
    found = margins.measure(WORLD)
    assert found.shape == pytest.approx(8.4 * np.hypot(WORLD.delta, HUE), rel=0.04)
    without = margins.measure(dataclasses.replace(WORLD, delta=0.01))  # hue and field alone tell figure from ground
    assert without.shape > 0.4 * found.shape
    assert without.texture == pytest.approx(found.texture, rel=0.02)


def test_margins_grow_with_their_own_contrast_and_ignore_the_other():
    weak = dataclasses.replace(WORLD, delta=0.1, c=0.05)
    once, stronger_shape = margins.measure(weak), margins.measure(dataclasses.replace(weak, delta=0.2))
    stronger_texture = margins.measure(dataclasses.replace(weak, c=0.1))
    of_ground = HUE**2 + weak.background_rms**2 + FIELD_RMS**2
    assert stronger_shape.shape == pytest.approx(once.shape * np.sqrt((0.2**2 + of_ground) / (0.1**2 + of_ground)), rel=0.02)
    assert stronger_shape.texture == pytest.approx(once.texture, rel=0.02)
    assert stronger_texture.texture == pytest.approx(2 * once.texture, rel=0.02)
    assert stronger_texture.shape == once.shape


def test_identical_shapes_have_no_margin_and_a_pair_of_two_is_its_own_median():
    pair = dataclasses.replace(WORLD, shapes=("square", "plus"), textures=("dots", "blobs"), rotation_deg=20.0)
    found = margins.measure(pair)
    assert found.shape_lowest == found.shape == found.shape_highest
    assert margins.measure(dataclasses.replace(pair, shapes=("square", "square"))).shape == 0


def test_alignment_finds_the_smallest_difference_that_any_pose_gives():
    """No random pose of one brings it nearer to the other than the pose found, but for what lies between the poses tried."""
    ((one, other),) = margins._alignments(32, ("triangle", "star"), 20.0)
    found = np.sum((one - other) ** 2)
    u = np.random.default_rng(0).random((4, 300))
    poses = 0.5 + (6 * u[0] - 3) / 32, 0.5 + (6 * u[1] - 3) / 32, 0.85 + 0.3 * u[2], 40 * u[3] - 20
    for fixed, moved in (("triangle", "star"), ("star", "triangle")):
        tried = shapes.coverage(shapes.SHAPES[moved], 32, *poses)
        assert found < 1.03 * np.sum((tried - margins._upright(fixed, 32)) ** 2, axis=(1, 2)).min()


def test_aligned_figures_lie_whole_in_the_frame():
    for one, other in margins._alignments(32, SHAPES, 20.0):
        for figure in (one, other):
            assert figure[[0, -1]].max() == figure[:, [0, -1]].max() == 0
            assert 0.65 < figure.mean() / shapes.AREA < 1.4


@pytest.mark.parametrize("ratio", MARGIN_SETS.values())
def test_a_set_has_the_ratio_asked_for_at_the_contrast_of_the_world(ratio):
    world = margins.with_ratio(WORLD, ratio)
    assert margins.measure(world, n=200).ratio == pytest.approx(ratio, rel=0.02)  # on other draws too
    assert np.hypot(world.delta, world.c) == pytest.approx(np.hypot(WORLD.delta, WORLD.c), abs=2e-4)
    assert dataclasses.replace(world, delta=WORLD.delta, c=WORLD.c) == WORLD


def test_a_world_found_once_is_found_again():
    once = margins.with_ratio(WORLD, 1.0)
    assert margins.with_ratio(once, 1.0).delta == pytest.approx(once.delta, abs=2e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: margins.measure(World(c=0.0)), "delta=0.28 and c=0.0 are given, allowed are two contrasts above 0"),
        (lambda: margins.measure(WORLD, n=1), "n=1 is not allowed: give at least 2 draws"),
        (lambda: margins.with_ratio(WORLD, 20), r"ratio=20 is outside \[1/4, 8\]"),
    ],
)
def test_what_has_no_margin_is_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()
