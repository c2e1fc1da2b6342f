"""Figures of shape bias from planted rows: what is where, and that a network without an answer crashes none of them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from drawing import assert_on_page, dots, row, words

from reprolib.figures import style
from reprolib.figures.categories import LARGEST, category_plot
from reprolib.findings.shape_bias import figures, reading

PAIRS = [f"{shape}+{texture}" for shape in ("disc", "star") for texture in ("dots", "noise") for _ in range(10)]
RESNET50 = {
    "airplane": (0, 40), "bear": (2, 38), "bicycle": (6, 25), "bird": (1, 44), "boat": (5, 34), "bottle": (36, 28), "car": (21, 30),
    "cat": (2, 38), "chair": (4, 41), "clock": (37, 15), "dog": (10, 39), "elephant": (2, 37), "keyboard": (6, 44), "knife": (0, 43),
    "oven": (6, 39), "truck": (24, 37),
}  # fmt: skip


def answered(arm: str, seed: int, quantity: str, n_shape: int, n_texture: int, recipe: str = "", claim: str = "SHP-1") -> list[dict]:
    """40 stimuli of a network: the first n_shape answered by shape, the next n_texture by texture, the others by neither."""
    return [
        row(claim, quantity, arm, seed, f"{k:04d}", PAIRS[k], float(k < n_shape), recipe) | {"reached": k < n_shape + n_texture}
        for k in range(40)
    ]


RECIPES = {"standard": "std", "robust": "l2_15", "robust_small": "l2_075", "gauss": "gauss_40"}


def planted(silent: bool = False) -> pd.DataFrame:
    """Two networks an arm; where one is silent, the second standard network answers no stimulus by a cue."""
    rows = []
    for arm, n_shape in {"standard": 10, "robust": 25, "robust_small": 18, "gauss": 12}.items():
        for seed in (0, 1):
            none = silent and (arm, seed) == ("standard", 1)
            counts = (0, 0) if none else (n_shape + seed, 35 - n_shape)
            for at in ("", "@dots", "@noise", "@1:1", "@1:2", "@2:1"):
                rows += answered(arm, seed, f"answers{at}", *counts, RECIPES[arm])
            rows += answered(arm, seed, "answers", *counts, RECIPES[arm], claim="SHP-8")
            for quantity, value in {"graded": n_shape / 10, "graded@1:1": 0.3, "graded@1:2": 0.1, "graded@2:1": 0.5}.items():
                rows += [row("SHP-1", quantity, arm, seed, f"{k:04d}", PAIRS[k], value, RECIPES[arm]) for k in range(40)]
            rows += [row("SHP-1", name, arm, seed, "all", "", n_shape / 40, RECIPES[arm]) for name in ("a_shape", "a_texture")]
            rows += [row("networks", "clean_accuracy", arm, seed, "test", "", 0.9, RECIPES[arm])]
            rows += answered(arm, seed, "right@scrambled_2", *counts, RECIPES[arm], claim="SHP-3")
            for family in ("noise", "high", "contrast"):
                rows += answered(arm, seed, f"lost@{family}", *counts, RECIPES[arm], claim="SHP-10")
    return pd.DataFrame(rows)


FIGURES = (
    figures.bias,
    figures.categories,
    figures.radii,
    figures.controls,
    figures.margins,
    figures.frequency,
    figures.retention,
    figures.cues,
)


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_every_figure_is_drawn_also_where_a_network_has_no_answer_by_a_cue(draw: Callable[[pd.DataFrame], style.Figure]) -> None:
    for silent in (False, True):
        figure = draw(planted(silent))
        figure.draw_without_rendering()  # as when it is saved
        assert_on_page(figure, figure.get_figwidth())


def test_shape_bias_lies_at_its_share_and_answers_are_stacked_beside() -> None:
    figure = figures.bias(planted(silent=True))
    left, right = figure.axes
    assert [round(float(dot[0]), 3) for dot in dots(left)] == sorted(
        round(n / (n + rest), 3) for n, rest in [(10, 25), (25, 10), (26, 10), (18, 17), (19, 17), (12, 23), (13, 23)]
    )
    assert max(patch.get_x() + patch.get_width() for patch in right.patches) == pytest.approx(1)
    assert {"standard", "robust", "noise-trained", "by neither"} <= set(words(figure))


def test_the_category_plot_has_each_share_of_resnet_50_and_its_line() -> None:
    table = pd.DataFrame(
        [{"name": "net", "group": "g", "category": name, "n_shape": s, "n_texture": t} for name, (s, t) in RESNET50.items()]
    )
    figure = style.figure()
    ax = figure.subplots()
    category_plot(ax, table, {"g": {"color": "#000000", "marker": "o"}}, list(RESNET50))
    places = {round(float(y)): float(x) for x, y in ax.collections[0].get_offsets()}
    assert places == {k: pytest.approx(t / (s + t)) for k, (s, t) in enumerate(RESNET50.values())}
    assert float(ax.lines[0].get_xdata()[0]) == pytest.approx(1 - 0.2207, abs=5e-5)
    largest = max(s + t for s, t in RESNET50.values())
    assert ax.collections[0].get_sizes().max() == pytest.approx(LARGEST)
    assert ax.collections[0].get_sizes()[0] == pytest.approx(LARGEST * 40 / largest)


def test_shifts_against_controls_are_those_of_means_of_networks() -> None:
    found = reading.shifts(planted()).set_index(["control", "side"])["estimate"]
    robust, standard, gauss = ((25 / 35 + 26 / 36) / 2, (10 / 35 + 11 / 36) / 2, (12 / 35 + 13 / 36) / 2)
    assert found["gauss", "robust minus it"] == pytest.approx(robust - gauss)
    assert found["gauss", "it minus standard"] == pytest.approx(gauss - standard)


def test_the_set_whose_radius_is_too_strong_is_grey_and_rho_is_printed() -> None:
    figure = figures.margins(planted())
    colours = {line.get_color() for line in figure.axes[0].lines if line.get_marker() == "s"}
    assert colours == {style.FAINT, style.role("robust").colour}
    assert {"rho 0.83", "rho 0.44", "rho 0.27"} <= set(words(figure))
