"""Figure 7 of invertibility: distance and accuracy against the radius of training."""

import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.invertibility.figures.trend import trend

COLUMNS = ["claim", "quantity", "arm", "recipe", "architecture", "seed", "network", "unit", "unit_2", "value", "reached"]
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
    told = []
    for arm in arms or LEVELS:
        for seed in seeds:
            who = (arm, RECIPES[arm], "w8", seed, f"{arm}{seed}")
            told += [
                ("INV-2", "distance_ratio", *who, str(unit), "noise_0", LEVELS[arm] + 0.02 * seed + off, True)
                for unit, off in ((0, -0.1), (1, 0.1))
            ]
            told.append(("networks", "clean_accuracy", *who, "test", "", LEVELS[arm] - 0.2, True))
    return pd.DataFrame(told, columns=COLUMNS)


def dots(ax):
    """(mean place, heights) of each arm's dots."""
    found = [part.get_offsets() for part in ax.collections if isinstance(part, PathCollection)]
    return [(round(float(places[:, 0].mean()), 6), places[:, 1].round(3).tolist()) for places in found]


def test_it_is_drawn_inside_the_page_and_alike_each_time():
    figure = trend(rows())
    ink = figure.get_tightbbox()
    assert figure.get_figwidth() == style.WIDE
    assert min(ink.x0, ink.y0) > -0.04
    assert ink.x1 < style.WIDE + 0.02
    assert ink.y1 < figure.get_figheight() + 0.01
    assert style.png_bytes(figure) == style.png_bytes(trend(rows()))
    assert style.png_bytes(figure) == style.png_bytes(trend(rows().sample(frac=1, random_state=1)))


def test_networks_stand_at_the_radius_of_their_recipe_in_both_panels_and_other_kinds_are_not_drawn():
    left, right = trend(rows()).axes
    assert dots(left) == [(0.0, [0.9, 0.92]), (0.5, [0.8, 0.82]), (0.25, [0.85, 0.87]), (1.0, [0.81, 0.83])]  # in the house's order
    assert [place for place, _ in dots(right)] == [0.0, 0.5, 0.25, 1.0]
    assert dots(right)[0][1] == [0.7, 0.7]
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
    assert [place for place, _ in dots(trend(rows("standard", "robust", seeds=(0,))).axes[0])] == [0.0, 0.5]
    with pytest.raises(BadInput, match=r"at least two training radii: the rows hold 0\.5"):
        trend(rows("robust"))
    with pytest.raises(BadInput, match="at least two training radii: the rows hold none"):
        trend(rows("gauss"))


def test_rows_without_accuracy_or_of_an_unknown_recipe_are_refused_in_words():
    with pytest.raises(BadInput, match="no rows of claim 'networks'"):
        trend(rows()[lambda table: table["claim"] == "INV-2"])
    with pytest.raises(BadInput, match="recipe 'l2_0501' is unknown"):
        trend(rows().assign(recipe="l2_0501"))
