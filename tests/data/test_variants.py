"""Every variant shows what its row in the table says, on the same items, and nothing of the cue it leaves out."""

import dataclasses
import hashlib
from functools import cache

import pytest
import torch

from reprolib.data import distort, shapes, shapetexture, variants
from reprolib.data.shapetexture import Batch, World, classes, items, render, world_of
from reprolib.errors import BadInput

WORLD = World(seed=1)
SMALL = world_of("shapetexture_gratings", "test")


@cache
def shown(variant: str, n: int = 112) -> Batch:
    return render(WORLD, range(n), variant)


def other_world(**change) -> shapetexture.World:
    return dataclasses.replace(WORLD, **change)


# --- labels


@pytest.mark.parametrize("variant", list(variants.VARIANTS))
def test_labels_name_what_is_shown_and_classes_are_balanced(variant):
    batch, names = shown(variant), classes(WORLD, variant)
    for k in range(len(batch)):
        cues = [batch.shape_names[batch.shape[k]]] * int(batch.shape[k] >= 0) + [batch.texture_names[batch.texture[k]]] * int(
            batch.texture[k] >= 0
        )
        assert names[batch.y[k]] == "+".join(cues)
    label = variants.VARIANTS[variant].label
    assert len(names) == {"pair": len(batch.shape_names) * len(batch.texture_names)}.get(label, 8)
    if label != "pair":
        assert torch.bincount(batch.y).tolist() == [14] * 8


@pytest.mark.parametrize("variant", [name for name, variant in variants.VARIANTS.items() if variant.label != "pair"])
def test_an_index_has_the_same_class_in_every_variant(variant):
    assert torch.equal(shown(variant).y, shown("both").y)


def test_factorial_has_every_combination_equally_often_and_every_cue_in_any_row_of_eight():
    batch = render(WORLD, range(128), "factorial")
    assert torch.bincount(batch.y).tolist() == [2] * 64
    for cue in (batch.shape, batch.texture):
        assert all(len(set(cue[i : i + 8].tolist())) == 8 for i in range(0, 128, 8))


def test_factorial_of_three_by_three_has_nine_classes():
    world = other_world(shapes=("disc", "star", "ring"), textures=("dots", "blobs", "noise"))
    assert len(classes(world, "factorial")) == 9
    assert torch.bincount(render(world, range(18), "factorial").y).tolist() == [2] * 9


# --- one cue left out


@pytest.mark.parametrize("variant", ["shape_flat", "silhouette", "contour"])
def test_without_texture_the_textures_of_the_world_do_not_matter(variant):
    other = other_world(textures=WORLD.textures[::-1], c=0.3)
    assert torch.equal(render(other, range(16), variant).image, shown(variant).image[:16])


@pytest.mark.parametrize("variant", ["texture_frame", "texture_blob"])
def test_without_shape_the_shapes_of_the_world_do_not_matter(variant):
    other = other_world(shapes=WORLD.shapes[::-1])
    assert torch.equal(render(other, range(16), variant).image, shown(variant).image[:16])


def test_a_flat_shape_is_both_without_its_texture():
    assert torch.equal(render(other_world(c=0.0), range(112), "both_uniform").image, shown("shape_flat").image)


def test_neutral_fill_has_the_energy_of_a_texture():
    flat = shown("shape_flat").image.double()
    inside = (shown("both").mask & ~shown("both").boundary)[:, None].double()
    for variant in ("both_uniform", "shape_neutral"):
        energy = ((shown(variant).image.double() - flat) / 255 * inside).square().sum(dim=(1, 2, 3)) / (3 * inside.sum(dim=(1, 2, 3)))
        assert energy.mean().sqrt() == pytest.approx(WORLD.c, rel=0.05)


def test_neutral_fill_has_the_spectrum_of_its_families_in_whatever_order_they_come():

    def spectrum(textures):
        world = other_world(shapes=WORLD.shapes[:4], textures=textures, delta=0.0)
        flat = render(dataclasses.replace(world, c=0.0), range(300), "shape_neutral").image.double()
        return torch.fft.rfft2((render(world, range(300), "shape_neutral").image.double() - flat).mean(dim=1)).abs().square().mean(dim=0)

    gratings, mixed = WORLD.textures[:4], WORLD.textures[4:]
    one, turned, other = spectrum(gratings), spectrum(gratings[::-1]), spectrum(mixed)
    assert (one - turned).norm() < 0.15 * one.norm()
    assert (one - other).norm() > 0.4 * one.norm()


def test_silhouette_is_the_mask_and_contour_its_boundary():
    for variant, expected in (("silhouette", ~shown("both").mask), ("contour", shown("both").boundary)):
        for channel in range(3):
            assert torch.equal(shown(variant).image[:, channel], 255 * expected.to(torch.uint8))
    assert torch.equal((shown("silhouette").image[:, 0] == 0).sum(dim=(1, 2)), shown("both").mask.sum(dim=(1, 2)))


def test_texture_fills_the_whole_frame_with_the_same_energy_everywhere():
    batch = shown("texture_frame")
    assert batch.mask.all()
    assert not batch.boundary.any()
    assert not batch.part.any()
    plain = render(other_world(c=0.0), range(112), "texture_frame").image.double()
    energy = ((batch.image.double() - plain) / 255).square().mean(dim=(0, 1)).sqrt()  # (h, w)
    assert energy.mean() == pytest.approx(WORLD.c, rel=0.02)
    assert energy.std() < 0.15 * energy.mean()


def test_blobs_have_the_area_of_the_shapes_and_shapes_of_their_own():
    blob, both = shown("texture_blob"), shown("both")
    assert blob.mask.double().mean() == pytest.approx(float(both.mask.double().mean()), rel=0.01)
    areas = blob.mask.double().mean(dim=(1, 2)) / blob.pose[:, 2] ** 2
    assert (areas - shapes.AREA).abs().max() < 0.035
    outlines = blob.boundary.double().sum(dim=(1, 2)) / blob.mask.double().sum(dim=(1, 2)).sqrt()
    assert outlines.std() > 0
    assert torch.equal(blob.part > 0, blob.boundary)
    assert set(blob.part.unique().tolist()) == {0, 1 + shapes.PARTS.index("curved")}


def test_blobs_of_one_texture_differ_and_tell_no_class():
    """Roundness of blobs is the same in all classes: outline over root of area, within three standard errors."""
    batch = render(WORLD, range(400), "texture_blob")
    outline = batch.boundary.double().sum(dim=(1, 2)) / batch.mask.double().sum(dim=(1, 2)).sqrt()
    by_class = torch.stack([outline[batch.y == k].mean() for k in range(8)])
    assert (by_class - outline.mean()).abs().max() < 3.5 * float(outline.std()) / 50**0.5


# --- distorted


@pytest.mark.parametrize(("variant", "n"), [("scrambled_2", 2), ("scrambled_4", 4)])
def test_scrambled_items_are_those_of_both_with_patches_and_masks_moved_alike(variant, n):
    order, both, found = distort.DERANGEMENTS[n], shown("both_uniform"), shown(variant)
    assert torch.equal(found.image, distort.scramble(both.image, order))
    for name in ("mask", "boundary", "part"):
        assert torch.equal(getattr(found, name), distort.scramble(getattr(both, name)[:, None], order)[:, 0])


def test_lowpass_and_highpass_are_the_two_halves_of_both():
    x = shown("both_uniform").image.double() / 255
    sigma = variants.FILTER_PERIODS * WORLD.period_px
    for name, expected in (("lowpass", distort.lowpass(x, sigma)), ("highpass", distort.highpass(x, sigma))):
        assert torch.equal(shown(name).image, (255 * expected).round().to(torch.uint8))


def test_noisy_adds_noise_of_its_deviation_that_changes_with_the_seed():
    clean = shown("both_uniform").image
    difference = (shown("noisy").image.double() - clean.double()) / 255
    inside = (clean > 80) & (clean < 175)  # more than three sigma from the ends
    assert float(difference[inside].std()) == pytest.approx(variants.NOISE_SIGMA, rel=0.01)
    assert len({difference[k].numpy().tobytes() for k in range(8)}) == 8


# --- sets, hashes, messages


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("both_uniform", "7232a9c7c94960c5"),
        ("factorial", "9554d44aec86d2a3"),
        ("shape_flat", "cf4b2b2035151adb"),
        ("shape_neutral", "ab8e0737901f9e68"),
        ("silhouette", "d52c43d613f34843"),
        ("contour", "7278176fef74c77d"),
        ("texture_frame", "bcb9c0207d30ed9c"),
        ("texture_blob", "a72166c5ffac79eb"),
        ("scrambled_2", "f9d27ddf79b91b09"),
        ("scrambled_4", "b3a083a79fb9d41b"),
        ("lowpass", "d2d552a5129ba296"),
        ("highpass", "d2fa274eec351838"),
        ("noisy", "b6de1a7a92e83da4"),
    ],
)
def test_variants_are_those_of_version_2(variant, expected):
    """A difference means that the images changed: raise `shapetexture.VERSION`, and then these hashes."""
    assert shapetexture.VERSION == 2
    found = b"".join(render(world, range(64), variant).image.numpy().tobytes() for world in (WORLD, SMALL))
    assert hashlib.sha256(found).hexdigest()[:16] == expected


def test_any_variant_can_be_had_as_labelled_images_and_is_rendered_once(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    found = items(SMALL, 20, "texture_blob")
    assert (found.x.shape, found.classes) == ((20, 3, 16, 16), SMALL.textures)
    assert torch.equal(found.x, render(SMALL, range(20), "texture_blob").image)
    assert items(SMALL, 20, "shape_flat").sha256 != found.sha256
    monkeypatch.setattr(shapetexture, "render", None)  # a second rendering would fail
    assert items(SMALL, 20, "texture_blob").sha256 == found.sha256


def test_patches_that_do_not_fit_the_frame_are_refused():
    with pytest.raises(BadInput, match="cannot be cut into 4 x 4 patches"):
        render(other_world(size=30), range(2), "scrambled_4")


def test_parts_of_items_lie_on_their_outlines():
    batch = shown("both")
    assert torch.equal(batch.part > 0, batch.boundary)
    found = {name: [bool((batch.part[batch.shape == k] == 1 + place).any()) for k in range(8)] for place, name in enumerate(shapes.PARTS)}
    assert found["corner"] == [False, True, True, True, True, False, True, True]  # disc and ring have none
    assert found["curved"] == [True, False, False, False, False, True, True, False]  # disc, ring, crescent
