from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reprolib.errors import BadInput
from reprolib.scales import SCALES
from reprolib.training.recipes import ALPHAS, RECIPES, Recipe, recipe, without_attack


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
    assert recipe("std_5k").describe() == {"id": "std_5k", "version": 1, "n_images": 5_000, "epochs": 80}
    assert recipe("std_matched").describe() == {"id": "std_matched", "version": 1, "matched": True}
    assert recipe("snnl_m01").describe() == {"id": "snnl_m01", "version": 1, "alpha": -0.1}
    assert recipe("std_choice").describe() == {"id": "std_choice", "version": 1, "held_out": 0.1}


def test_an_adversarial_recipe_is_compared_with_itself_without_the_attack() -> None:
    assert without_attack(recipe("l2_05")).id == without_attack(recipe("linf_8")).id == "std"
    assert without_attack(recipe("linf_8_5k")).id == "std_5k"
    assert without_attack(recipe("std_5k")).id == "std_5k"


def test_recipes_without_noise_or_blur_hand_back_the_very_batch() -> None:
    images = torch.rand(4, 3, 16, 16)
    assert recipe("l2_05").alter(images, torch.Generator()) is images


def test_noise_has_its_standard_deviation_and_stays_in_the_box() -> None:
    images = torch.full((64, 3, 16, 16), 0.5)
    altered = recipe("gauss_10").alter(images, torch.Generator().manual_seed(0))
    assert altered.std().item() == pytest.approx(0.1, rel=0.02)
    assert altered.mean().item() == pytest.approx(0.5, abs=0.002)
    wide = recipe("gauss_40").alter(images, torch.Generator().manual_seed(0))
    assert wide.min() >= 0
    assert wide.max() <= 1


def test_blur_is_a_gaussian_of_one_pixel() -> None:
    point = torch.zeros(1, 3, 17, 17)
    point[:, :, 8, 8] = 1
    row = recipe("blur").alter(point, torch.Generator())[0, 0].sum(dim=0)
    pixels = torch.arange(17.0) - 8
    assert row.sum().item() == pytest.approx(1, abs=1e-5)
    assert (row * pixels**2).sum().item() == pytest.approx(1.0, abs=0.01)


def test_label_smoothing_puts_nine_tenths_on_the_true_class() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 0.0]])
    wanted = torch.tensor([[0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3]])
    ours = F.cross_entropy(logits, torch.tensor([0]), label_smoothing=recipe("label_smoothing").smoothing(4))
    assert ours.item() == pytest.approx(-(wanted * logits.log_softmax(1)).sum().item(), abs=1e-6)
    assert recipe("std").smoothing(10) == 0


def test_every_alpha_has_a_twin_of_the_other_sign_and_a_network_to_choose_it_by() -> None:
    for name, alpha in ALPHAS.items():
        assert recipe(name).alpha == alpha == -recipe(name.replace("_m", "_p") if alpha < 0 else name.replace("_p", "_m")).alpha
        if alpha < 0:
            assert recipe(f"{name}_choice").describe() == recipe(name).describe() | {"id": f"{name}_choice", "held_out": 0.1}
    assert {alpha for alpha in ALPHAS.values() if alpha < 0} == {-0.03, -0.1, -0.3}


def test_networks_that_alpha_is_chosen_by_play_no_role_and_share_no_seed_with_those_that_do() -> None:
    for scale in SCALES.values():
        asked_for = {seed for entry in scale.table if not recipe(entry.recipe).held_out for seed in entry.seeds}
        for entry in scale.table:
            if recipe(entry.recipe).held_out:
                assert entry.recipe not in scale.roles.values()
                assert not asked_for & set(entry.seeds)
