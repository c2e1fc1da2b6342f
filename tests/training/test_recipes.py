from __future__ import annotations

import pytest

from reprolib.errors import BadInput
from reprolib.scales import SCALES
from reprolib.training.recipes import RECIPES, Recipe, recipe


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"recipe 'linf8' is unknown; allowed: std, .*did you mean 'linf_8'"):
        recipe("linf8")


def test_every_role_of_every_scale_that_is_in_its_table_has_a_recipe() -> None:
    for scale in SCALES.values():
        for entry in scale.table:
            assert recipe(entry.recipe).id == entry.recipe


def test_linf_8_is_exactly_eight_255ths_not_the_rounded_031() -> None:
    assert recipe("linf_8").eps == 8 / 255


def test_the_inner_attack_can_cross_the_ball() -> None:
    for how in RECIPES.values():
        if how.norm is not None:
            assert 3 * how.attack_step(3) == pytest.approx(2.5 * how.eps)


def test_a_description_leaves_out_what_a_recipe_does_not_use() -> None:
    assert Recipe("std").describe() == {"id": "std", "version": 1}
    assert Recipe("l2_05", norm="l2", eps=0.5).describe() == {"id": "l2_05", "version": 1, "norm": "l2", "eps": 0.5}
