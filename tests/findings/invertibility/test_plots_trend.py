"""Figure 7 of invertibility: distance and accuracy against the radius of training."""

import pandas as pd
import pytest
from drawing import assert_on_page, dots, heights, row

from reprolib.errors import BadInput
from reprolib.findings.invertibility.figures.trend import trend

RECIPES = {
    "standard": "std",
    "robust_small": "l2_025",
    "robust": "l2_05",
    "robust_large": "l2_1",
    "gauss": "gauss_10",
    "robust_linf": "linf_8",
}
LEVELS = {"standard": 0.9, "robust_small": 0.85, "robust": 0.8, "robust_large": 0.81, "gauss": 0.9, "robust_linf": 0.82}


def rows(*arms, seeds=(0, 1)):
    made = []
    for arm in arms or LEVELS:
        for seed in seeds:
            who = (arm, seed)
            made += [
                row("INV-2", "distance_ratio", *who, unit, "noise_0", LEVELS[arm] + 0.02 * seed + off, RECIPES[arm])
                for unit, off in ((0, -0.1), (1, 0.1))
            ]
            made.append(row("networks", "clean_accuracy", *who, "test", "", LEVELS[arm] - 0.2, RECIPES[arm]))
    return pd.DataFrame(made)


def test_it_is_drawn_on_the_page():
    assert_on_page(trend(rows()))


def test_networks_stand_at_the_radius_of_their_recipe_in_both_panels_and_other_kinds_are_not_drawn():
    left, right = trend(rows()).axes
    assert [(round(x, 1), y) for x, y, *_ in dots(left)] == [
        (0.0, 0.9), (0.0, 0.92), (0.2, 0.85), (0.3, 0.87), (0.5, 0.8), (0.5, 0.82), (1.0, 0.81), (1.0, 0.83),
    ]  # fmt: skip
    assert heights(right, "standard") == [0.7, 0.7]
    assert [label.get_text() for label in left.get_xticklabels()] == ["0", "0.25", "0.5", "1"]


def test_the_line_is_whole_up_to_the_main_radius_and_dotted_to_the_largest():
    left = trend(rows()).axes[0]
    whole, dotted = left.lines[:2]
    assert (list(whole.get_xdata()), whole.get_linestyle()) == ([0.0, 0.25, 0.5], "-")
    assert list(whole.get_ydata()) == pytest.approx([0.91, 0.86, 0.81])
    assert (list(dotted.get_xdata()), dotted.get_linestyle()) == ([0.5, 1.0], ":")
    words = [text.get_text() for text in trend(rows()).legends[0].get_texts()]
    assert "shown, not tested" in words
    assert "shown, not tested" not in [text.get_text() for text in trend(rows("standard", "robust")).legends[0].get_texts()]


def test_two_arms_and_one_seed_are_enough_and_one_radius_is_not():
    assert [place for place, *_ in dots(trend(rows("standard", "robust", seeds=(0,))).axes[0])] == [0.0, 0.5]
    with pytest.raises(BadInput, match=r"at least two training radii: the rows hold 0\.5"):
        trend(rows("robust"))
    with pytest.raises(BadInput, match="at least two training radii: the rows hold none"):
        trend(rows("gauss"))


def test_rows_without_accuracy_or_of_an_unknown_recipe_are_refused_in_words():
    with pytest.raises(BadInput, match="no rows of claim 'networks'"):
        trend(rows()[lambda table: table["claim"] == "INV-2"])
    with pytest.raises(BadInput, match="recipe 'l2_0501' is unknown"):
        trend(rows().assign(recipe="l2_0501"))
