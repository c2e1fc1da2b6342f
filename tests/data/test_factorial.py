"""Every shape with every texture: classes are pairs, counted evenly, and colour tells nothing of them."""

from __future__ import annotations

import numpy as np
import pytest

from reprolib import data
from reprolib.data import factorial, shapetexture


def test_classes_are_all_pairs_and_the_first_images_of_each_are_enough_to_ask() -> None:
    test = data.load(factorial.SMALL, "test")
    assert test.classes == ("square+grating_45", "square+noise", "ring+grating_45", "ring+noise")
    assert np.bincount(test.y).tolist() == [50] * 4
    whole = shapetexture.classes(factorial.world_of(factorial.NAME, "train"), factorial.VARIANT)
    assert len(set(whole)) == 9
    assert {name.split("+")[0] for name in whole} == {"square", "star", "ring"}
    assert {name.split("+")[1] for name in whole} == {"grating_45", "checker", "noise"}


def test_a_split_is_the_factorial_variant_of_its_own_world() -> None:
    world = factorial.world_of(factorial.SMALL, "test")
    batch = shapetexture.render(world, range(20), "factorial")
    test = data.load(factorial.SMALL, "test")
    assert (test.x[:20] == batch.image).all()
    assert (test.y[:20] == 2 * batch.shape + batch.texture).all()
    assert data.load(factorial.SMALL, "train").sha256 != test.sha256


@pytest.mark.parametrize("name", factorial.SETS)
def test_the_normaliser_is_about_that_of_the_first_training_images(name: str) -> None:
    x = shapetexture.render(factorial.world_of(name, "train"), range(600), factorial.VARIANT).image.double() / 255
    mean, std = data.normaliser(name)
    np.testing.assert_allclose(x.mean(dim=(0, 2, 3)), mean, atol=0.005)
    np.testing.assert_allclose(x.std(dim=(0, 2, 3)), std, atol=0.003)
