from __future__ import annotations

import pytest

from reprolib.judging import controls
from reprolib.training import cards
from reprolib.training.recipes import recipe


def test_adversarial_training_did_its_work_when_twenty_points_lie_between() -> None:
    found = cards.manipulation(recipe("l2_05"), 0.55, 0.35)
    assert found is not None
    assert found["holds"]  # .55 - .35 is .2 to a reader, and not to a computer
    assert (found["norm"], found["eps"], found["difference"]) == ("l2", 0.5, pytest.approx(0.2))
    found = cards.manipulation(recipe("l2_05"), 0.549, 0.35)
    assert found is not None
    assert not found["holds"]
    assert cards.LEAST_DIFFERENCE == controls.LEAST_DIFFERENCE


def test_there_is_nothing_to_check_without_an_attack_or_without_both_accuracies() -> None:
    assert cards.manipulation(recipe("std"), 0.5, 0.1) is None
    assert cards.manipulation(recipe("l2_05"), None, 0.1) is None
    assert cards.manipulation(recipe("l2_05"), 0.5, None) is None


def test_an_accuracy_is_found_by_its_ball() -> None:
    card = {"adversarial": [{"norm": "l2", "eps": 0.5, "first_value": 0.4}, {"norm": "linf", "eps": 8 / 255, "first_value": 0.2}]}
    assert cards.under_attack(card, "linf", 8 / 255) == 0.2
    assert cards.under_attack(card, "l2", 0.5) == 0.4
    assert cards.under_attack(card, "l2", 0.25) is None
