from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from reprolib.judging import controls
from reprolib.scales import SCALES
from reprolib.training import matching
from reprolib.training.matching import is_matched, nearest, not_applicable
from reprolib.training.recipes import RECIPES, recipe

ZOO = Path(__file__).parents[2] / "data" / "zoo"


def choose_gauss(clean: Mapping[str, float], robust: str) -> str:
    """The recipe of role `gauss`: nearest the robust one in clean accuracy, the stronger noise of equals.

    clean: {recipe id: clean accuracy on the same images}. Where the robust network is at the ceiling (.99) and noise-trained ones are
    too, accuracy tells them apart no longer: it is the largest noise within one point.
    """
    by_noise = sorted((name for name in clean if recipe(name).noise), key=lambda name: -recipe(name).noise)
    target = clean[robust]
    at_ceiling = [name for name in by_noise if min(target, clean[name]) >= 0.99 and abs(clean[name] - target) <= 0.01 + 1e-6]
    return at_ceiling[0] if at_ceiling else min(by_noise, key=lambda name: round(abs(clean[name] - target), 6))


def test_the_nearest_accuracy_is_chosen_and_two_points_are_a_match() -> None:
    assert nearest({"001.000": 0.5, "001.125": 0.66, "001.250": 0.72}, 0.68) == "001.125"
    assert is_matched(0.68 - 0.66)
    assert not is_matched(0.68 - 0.6595)


def test_of_equally_near_states_the_earliest_is_chosen_whatever_their_order() -> None:
    accuracies = {"003.000": 0.70, "001.000": 0.66, "002.000": 0.66}
    assert nearest(accuracies, 0.68) == "001.000"
    assert nearest(dict(reversed(accuracies.items())), 0.68) == "001.000"


def test_arms_that_differ_by_two_points_need_a_matched_control_and_nearer_ones_do_not() -> None:
    assert not_applicable(0.82, 0.80) == ""
    assert not_applicable(0.80, 0.82) == ""
    assert not_applicable(1.0, 0.981) == "clean accuracies 100.0% (standard) and 98.1% (robust) differ by under 2 points"
    assert matching.WITHIN == controls.MATCHED_ACCURACY  # the verdicts' reading of "not applicable" is the same


def test_the_noise_is_chosen_whose_clean_accuracy_is_nearest_the_robust_arms() -> None:
    clean = {"std": 0.82, "l2_05": 0.68, "gauss_10": 0.76, "gauss_20": 0.69, "gauss_30": 0.60}
    assert choose_gauss(clean, "l2_05") == "gauss_20"
    assert choose_gauss(clean | {"l2_05": 0.61}, "l2_05") == "gauss_30"


def test_of_equally_near_noises_the_stronger_one_is_chosen() -> None:
    assert choose_gauss({"l2_05": 0.70, "gauss_10": 0.71, "gauss_20": 0.69}, "l2_05") == "gauss_20"


def test_at_the_ceiling_the_largest_noise_within_one_point_is_chosen() -> None:
    clean = {"l2_15": 0.997, "gauss_05": 0.997, "gauss_10": 0.999, "gauss_20": 0.991, "gauss_30": 0.985}
    assert choose_gauss(clean, "l2_15") == "gauss_20"
    assert choose_gauss(clean | {"gauss_30": 0.992}, "l2_15") == "gauss_30"
    below = clean | {"l2_15": 0.98}  # the robust network is not at the ceiling: the nearest
    assert choose_gauss(below, "l2_15") == "gauss_30"


@pytest.mark.parametrize("name", ["laptop", "cifar"])
def test_the_role_gauss_obeys_the_rule_among_the_committed_candidates(name: str) -> None:
    scale = SCALES[name]
    clean = {}
    for card in (ZOO / name).glob(f"{scale.architecture}-*-s0-*.json"):
        told = json.loads(card.read_text())
        if told["data"]["name"] == scale.dataset:
            clean[told["description"]["recipe"]["id"]] = told["clean"]["first_value"]
    robust = scale.roles["robust"]
    if robust not in clean or scale.roles["gauss"] not in clean:
        pytest.skip(f"{robust} and {scale.roles['gauss']} of scale {name} are not both trained yet: `reprolib train --scale {name}`")
    assert choose_gauss(clean, robust) == scale.roles["gauss"]


def test_every_noise_of_the_rule_has_a_recipe() -> None:
    assert sorted(how.noise for how in RECIPES.values() if how.noise) == [0.05, 0.1, 0.15, 0.2, 0.3, 0.4]
    for scale in SCALES.values():
        assert recipe(scale.roles["gauss"]).noise
