"""The procedural world: its laws (area, energy, balance, independence), and what tells the class: shape, texture, and in `both` hues."""

import dataclasses
import hashlib
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from reprolib import data
from reprolib.data import hues, shapes, shapetexture
from reprolib.data.shapetexture import Batch, World, render, world_of
from reprolib.errors import BadInput

WORLD = World(seed=1)
SET = world_of("shapetexture_gratings", "test")


@cache
def rendered(variant: str = "both", n: int = 1200) -> Batch:
    return render(WORLD, range(n), variant)


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


def test_variants_share_pose_and_all_but_both_their_hues():
    for variant in shapetexture.VARIANTS:
        part = render(WORLD, range(16), variant)
        assert torch.equal(part.pose, rendered().pose[:16])
        assert torch.equal(part.hue, rendered("both_uniform").hue[:16]) == (variant != "both")


def test_images_follow_the_composition_formula():
    """With no contrast at all figure and ground differ by hue and the ground's field; each contrast adds its own term, in half or whole."""
    flat = render(dataclasses.replace(WORLD, delta=0.0, c=0.0), range(64)).image.double() / 255
    shape = render(dataclasses.replace(WORLD, delta=0.1, c=0.0), range(64))
    textured = render(dataclasses.replace(WORLD, delta=0.0, c=0.1), range(64)).image.double() / 255
    inside, outside = shape.mask & ~shape.boundary, _far_from(shape.mask)
    step = shape.image.double() / 255 - flat
    in_figure, on_ground = hues.hue_rgb(shape.hue.numpy()).transpose(1, 0, 2)
    for i in range(64):
        assert torch.equal(flat[i][:, outside[i]], textured[i][:, outside[i]])
        assert step[i][:, outside[i]].mean() == pytest.approx(-0.05, abs=2e-3)
        assert step[i][:, inside[i]].mean() == pytest.approx(0.05, abs=2e-3)
        between = flat[i][:, inside[i]].mean(dim=1) - flat[i][:, outside[i]].mean(dim=1)
        torch.testing.assert_close(between, torch.from_numpy(in_figure - on_ground)[i], rtol=0, atol=0.04)  # of the field, RMS .05
        assert flat[i][:, inside[i]].std(dim=1).max() < 2 / 255  # the field is the ground's alone
    energy = torch.stack([(textured - flat)[i][:, inside[i]].square().mean().sqrt() for i in range(64)]).mean()
    assert energy == pytest.approx(0.1, rel=0.05)


def test_the_ground_has_the_two_fields_it_is_said_to_have():
    drawn = shapetexture.draw(WORLD, np.arange(200))
    grey = drawn.field.mean(axis=1, keepdims=True)
    own = drawn.field - grey
    assert np.sqrt((own**2).mean()) == pytest.approx(shapetexture.FIELD_RMS * np.sqrt(2 / 3), rel=0.02)
    assert np.sqrt((grey**2).mean()) == pytest.approx(np.hypot(WORLD.background_rms, shapetexture.FIELD_RMS / np.sqrt(3)), rel=0.02)


def test_the_figure_is_always_the_brighter():
    batch = rendered("conflict", 300)
    x, mask = batch.image.double().mean(dim=1), batch.mask.double()
    inside, outside = ((x * part).sum(dim=(1, 2)) / part.sum(dim=(1, 2)) for part in (mask, 1 - mask))
    assert (inside - outside).min() > 255 * 0.2


def _far_from(mask: torch.Tensor) -> torch.Tensor:
    """Pixels with no mask pixel within two of them: the tip of a star covers some that lie one off its mask."""
    return torch.nn.functional.max_pool2d(mask[:, None].float(), 5, stride=1, padding=2)[:, 0] == 0


def test_hues_have_no_grey_and_equal_energy_and_eleven_bins():
    hue = np.linspace(0, 1, 110, endpoint=False)
    rgb = hues.hue_rgb(hue)
    np.testing.assert_allclose(rgb.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose((rgb**2).sum(axis=1), 1.5 * hues.HUE**2)
    assert [int(rgb[round(110 * h)].argmax()) for h in (0, 1 / 3, 2 / 3)] == [0, 1, 2]
    ids = hues.hue_bin(torch.from_numpy(hue))
    assert torch.bincount(ids[2::5]).tolist() == [2] * len(hues.HUE_NAMES) == [2] * 11
    assert ids[0] == ids[109] == 0
    assert torch.equal(rendered().hue_id, hues.hue_bin(rendered().hue))


def test_hues_scatter_about_those_of_the_class_in_both_and_are_uniform_elsewhere():
    batch = rendered()
    off = (batch.hue * 8 - torch.stack([batch.texture, 3 * batch.shape + 2], dim=1) + 4) % 8 - 4
    assert off.mean(dim=0).abs().max() < 0.15
    assert off.std(dim=0).tolist() == pytest.approx([shapetexture.HUE_SD] * 2, rel=0.06)
    assert rendered("conflict").hue_id.unique(return_counts=True)[1].double().std() < 25
    resultant = torch.exp(2j * torch.pi * rendered("conflict").hue).mean(dim=0).abs()
    assert resultant.max() < 0.08


def test_clipping_is_rare():
    image = rendered().image
    assert ((image == 0) | (image == 255)).double().mean() < 0.02


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


LEAK_MARGIN = 0.03  # above chance
MEASURED = ("shapetexture", "shapetexture_gratings")  # the sets at other margins differ from the first in two contrasts alone


@cache
def nuisance(name: str, split: str, variant: str) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Colour of figure and ground and of both, luminance, position and area, then their squares, (n, 26); labels; the items.

    4,000 items to train on, as many to test.
    """
    batch = render(world_of(name, split), range(4000), variant)
    return _nuisance(batch.image, batch.mask), (batch.texture if variant.startswith("texture") else batch.shape), batch


COLOUR = [0, 1, 2, 3, 4, 5, 6, 7, 8]  # of the figure, the ground, the frame
REST = [9, 10, 11, 12]  # luminance, position and area


def _columns(kinds: list[int], squares: bool) -> list[int]:
    return kinds + [13 + k for k in kinds] * squares


@pytest.mark.parametrize("variant", ["both_uniform", "conflict", "shape_flat", "texture_blob"])
def test_colour_luminance_area_and_position_do_not_tell_the_class(variant):
    """The upper 95 % bound of a linear probe stays below chance plus 3 points; so it does when it may use the squares too."""
    (train, y, _), (test, y_test, _) = (nuisance("shapetexture", split, variant) for split in ("train", "test"))
    for squares in (False, True):
        columns = _columns(COLOUR + REST, squares)
        assert _upper_bound(train[:, columns], y, test[:, columns], y_test) < 1 / len(y.unique()) + LEAK_MARGIN


@pytest.mark.parametrize("name", MEASURED)
def test_luminance_area_and_position_do_not_tell_the_class_where_hues_do(name):
    (train, y, _), (test, y_test, _) = (nuisance(name, split, "both") for split in ("train", "test"))
    for squares in (False, True):
        columns = _columns(REST, squares)
        assert _upper_bound(train[:, columns], y, test[:, columns], y_test) < 1 / len(y.unique()) + LEAK_MARGIN


def test_mean_colour_tells_the_class_in_both_as_far_as_hue_can():
    """The ideal observer of both hues is right in about 58 % of items, and a probe of mean colours comes near it."""
    (train, y, _), (test, y_test, batch) = (nuisance("shapetexture", split, "both") for split in ("train", "test"))
    k = torch.arange(8)
    centres = torch.stack([k, 3 * k + 2], dim=1)
    off = (batch.hue[:, None] * 8 - centres + 4) % 8 - 4  # (n, 8, 2) classes
    wrapped = torch.logsumexp(torch.stack([-((off + 8 * turn) ** 2) / (2 * shapetexture.HUE_SD**2) for turn in (-1, 0, 1)]), dim=0)
    ideal = (wrapped.sum(dim=2).argmax(dim=1) == y_test).double().mean()
    assert ideal == pytest.approx(0.58, abs=0.03)
    columns = _columns(COLOUR, squares=True)
    assert ideal - 0.1 < _upper_bound(train[:, columns], y, test[:, columns], y_test) < ideal + 0.05


def test_the_leak_probe_catches_a_leak_of_colour():
    """The same images with red brighter by 4 of 255 from each class to the next are found out."""
    found = []
    for split in ("train", "test"):
        _, y, batch = nuisance("shapetexture", split, "conflict")
        leaking = batch.image.double()
        leaking[:, 0] += 4 * y.view(-1, 1, 1)
        found += [_nuisance(leaking, batch.mask)[:, COLOUR], y]
    assert _upper_bound(*found) > 1 / len(found[1].unique()) + LEAK_MARGIN


def test_the_leak_probe_reads_what_tells_the_class():
    found = []
    for split in ("train", "test"):
        _, y, batch = nuisance("shapetexture", split, "both")
        found += [batch.boundary.double().sum(dim=(1, 2))[:, None] / batch.mask.double().sum(dim=(1, 2))[:, None].sqrt(), y]
    assert _upper_bound(*found) > 1 / 8 + 0.2


def _nuisance(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    x, m = image.double() / 255, mask.double()
    inner = 1 - torch.nn.functional.max_pool2d(1 - m[:, None], 3, 1, 1)[:, 0]  # outlines mix both colours, as far as they are long
    parts = (inner, _far_from(mask).double(), torch.ones_like(m))
    colour = torch.cat([(x * part[:, None]).sum(dim=(2, 3)) / part.sum(dim=(1, 2))[:, None] for part in parts], dim=1)
    position = torch.stack([(m.sum(dim=axis) * torch.arange(m.shape[1])).sum(dim=1) / m.sum(dim=(1, 2)) for axis in (1, 2)], dim=1)
    features = torch.cat([colour, x.mean(dim=(1, 2, 3))[:, None], position, m.mean(dim=(1, 2))[:, None]], dim=1)
    middle = torch.tensor([0.45] * 10 + [m.shape[1] / 2] * 2 + [shapes.AREA], dtype=torch.float64)
    return torch.cat([features, (features - middle) ** 2], dim=1)


def _upper_bound(train: torch.Tensor, y: torch.Tensor, test: torch.Tensor, y_test: torch.Tensor) -> float:
    """Upper 95 % bound (Wilson, one-sided) of a linear probe's accuracy."""
    probe = LinearDiscriminantAnalysis().fit(train, y)  # a twentieth of the time of a logistic regression, and as sharp
    n, p, z = len(y_test), float(probe.score(test, y_test)), 1.645
    return (p + z**2 / (2 * n) + z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5) / (1 + z**2 / n)


# --- what is committed


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("both", "54c26af8a3005469"),
        ("conflict", "355f2400e85c67dd"),
        ("held_out", "16c44934e9013821"),
    ],
)
def test_images_are_those_of_version_2(variant, expected):
    """A difference means that the data set changed: raise `shapetexture.VERSION`, and then these hashes."""
    assert shapetexture.VERSION == 2
    found = b"".join(render(world, range(64), variant).image.numpy().tobytes() for world in (WORLD, SET))
    assert hashlib.sha256(found).hexdigest()[:16] == expected


def test_normaliser_is_that_of_the_training_split():
    x = data.load("shapetexture_gratings", "train").x.double() / 255
    mean, std = data.normaliser("shapetexture_gratings")
    np.testing.assert_allclose(x.mean(dim=(0, 2, 3)), mean, atol=5.1e-5)
    np.testing.assert_allclose(x.std(dim=(0, 2, 3)), std, atol=5.1e-5)


@pytest.mark.parametrize("name", sorted(set(shapetexture.WORLDS) - {"shapetexture_gratings"}))
def test_normaliser_is_about_that_of_the_first_training_images(name):
    x = render(world_of(name, "train"), range(1000)).image.double() / 255
    mean, std = data.normaliser(name)
    np.testing.assert_allclose(x.mean(dim=(0, 2, 3)), mean, atol=0.005)
    np.testing.assert_allclose(x.std(dim=(0, 2, 3)), std, atol=0.003)


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
    with pytest.raises(
        BadInput, match="variant='conflicts' is unknown, allowed are both, both_uniform, conflict, .*; did you mean 'conflict'?"
    ):
        render(WORLD, range(4), "conflicts")
    with pytest.raises(BadInput, match="indices are -1: allowed is at least one index, none below 0"):
        render(WORLD, [3, -1])
    with pytest.raises(BadInput, match="indices are empty"):
        render(WORLD, [])
