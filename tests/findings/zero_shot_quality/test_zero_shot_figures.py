"""Figures of zero-shot quality from planted rows: what is where."""

import numpy as np
import pandas as pd
import pytest
from drawing import assert_on_page, heights, words
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Ellipse, Rectangle
from zero_shot_rows import CIFAR, FACTORIAL, FASHION, FIVE, LEVELS, PLAIN, fashion, planted

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.zero_shot_quality.figures import controls, mean_labels, over_temperature, paired, plane, shares, with_attacks

ALL = ("standard", "robust", "gauss", "label_smoothing", "std_matched", "untrained")


@pytest.fixture(scope="module")
def laptop():
    """One architecture, three seeds, nine classes."""
    return planted(arms=ALL)


@pytest.fixture(scope="module")
def cifar():
    """Five architectures, one seed, ten classes; middle radii of three of them; a CapsNet on other data."""
    radii = planted(("robust_small", "robust_medium"), (0,), CIFAR, FIVE[:3])
    return pd.concat([planted(ALL, (0,), CIFAR, FIVE), radii, fashion()], ignore_index=True)


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def dots(ax):
    """Place, height, face and edge of every dot, left to right; a face without colour is None."""
    found = []
    for cloud in (part for part in ax.collections if isinstance(part, PathCollection)):
        n, faces, edges = len(cloud.get_offsets()), list(cloud.get_facecolors()) or [None], list(cloud.get_edgecolors()) or [None]
        colours = [[None if c is None else to_hex(c) for c in (some * n if len(some) == 1 else some)] for some in (faces, edges)]
        found += [(float(x), float(y), face, edge) for (x, y), face, edge in zip(cloud.get_offsets(), *colours, strict=True)]
    return sorted(found, key=lambda dot: dot[:2])


def line_of(ax, arm):
    """The lines of an arm, without those of single points."""
    colour = style.role(arm).colour.lower()
    return [line for line in ax.lines if to_hex(line.get_color()) == colour and len(line.get_xdata()) > 2]


def test_the_maps_share_a_scale_from_zero_and_hold_the_mean_over_networks(laptop):
    figure = mean_labels(laptop)
    assert_on_page(figure)
    assert titles(figure)[:3] == ["standard", "robust", "untrained"]
    maps = [ax.images[0] for ax in figure.axes[:3]]
    assert [image.get_clim() for image in maps] == [(0.0, pytest.approx(0.51))] * 3
    names = sorted(FACTORIAL)
    shown = np.ma.filled(maps[0].get_array(), np.nan)
    assert np.isnan(shown.diagonal()).all()
    assert shown[names.index("square+checker"), names.index("square+noise")] == pytest.approx(0.51)
    assert np.nansum(shown, axis=1) == pytest.approx(1.0)
    assert {"ring checker", "square grating"} <= set(words(figure))


def test_own_cells_are_hatched_and_the_largest_of_each_row_is_framed(laptop):
    ax = mean_labels(laptop).axes[0]
    cells = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    hatched = [patch.get_center() for patch in cells if patch.get_hatch()]
    assert [tuple(centre) for centre in hatched] == [(k, k) for k in range(9)]
    names = sorted(FACTORIAL)
    behind = [names.index(FACTORIAL[(FACTORIAL.index(name) + 1) % 9]) for name in names]
    assert [tuple(patch.get_center()) for patch in cells if not patch.get_hatch()] == [(at, k) for k, at in enumerate(behind)]


def test_the_capsnet_has_a_map_with_classes_of_its_own(cifar):
    figure = mean_labels(cifar)
    assert_on_page(figure)
    assert titles(figure)[3] == "CapsNet-small, Fashion-MNIST"
    assert [label.get_text() for label in figure.axes[3].get_yticklabels()] == sorted(FASHION)
    assert titles(mean_labels(fashion()))[0] == "CapsNet-small, Fashion-MNIST"


def test_ellipses_have_the_standard_deviations_as_half_axes_and_all_panels_one_scale(laptop):
    figure = plane(laptop, "star+checker")
    assert_on_page(figure)
    assert len(figure.axes) == 4
    for ax, arm in zip(figure.axes, ("standard", "robust", "label_smoothing", "gauss"), strict=True):
        (ellipse,) = [patch for patch in ax.patches if isinstance(patch, Ellipse)]
        level = LEVELS[arm]  # images lie on an ellipse of half axes level and level / 2
        assert ellipse.get_width() == pytest.approx(level * 2**0.5)
        assert ellipse.get_height() == pytest.approx(level / 2**0.5)
        assert len(dots(ax)) == 60
        assert ax.get_xlim() == figure.axes[0].get_xlim()
        assert ax.get_aspect() == 1
        dbm = level + 0.002 * FACTORIAL.index("star+checker")
        assert ax.get_title(loc="left") == f"{style.role(arm).label}\nDBM {dbm:.2f}, in the plane {(level**2 * 5 / 8) ** 0.5:.2f}"
    assert titles(plane(laptop))[0] == "standard\nin the plane 0.40"


def test_each_network_is_a_line_over_temperature_with_a_mark_where_entropy_is_matched(laptop):
    figure = over_temperature(laptop)
    assert_on_page(figure, 0.62 * style.WIDE)
    (ax,) = figure.axes
    assert ax.get_xscale() == "log"
    drawn = line_of(ax, "robust")
    assert sorted(line.get_ydata()[0] for line in drawn) == pytest.approx([2 * (0.25 + 0.01 * seed) / 1.25 for seed in range(3)])
    marks = [line for line in ax.lines if line.get_marker() == "|" and to_hex(line.get_color()) == style.role("robust").colour.lower()]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([1.25, 1.26, 1.27])
    between = np.interp(np.log(1.25), np.log([1, 2]), [0.25, 0.5 / 3])
    assert marks[0].get_ydata()[0] == pytest.approx(between)


def test_architectures_have_panels_of_their_own_over_temperature(cifar):
    figure = over_temperature(cifar)
    assert_on_page(figure)
    assert titles(figure) == ["MLP", "LeNet", "TinyCNN", "pool net", "ResNet-8", ""]
    assert [len(line_of(ax, "robust_small")) for ax in figure.axes] == [1, 1, 1, 0, 0, 0]
    assert [ax.xaxis.label.get_visible() and bool(ax.get_xlabel()) for ax in figure.axes] == [False, False, True, True, True, False]


def test_a_mark_outside_the_temperatures_is_left_out(laptop):
    hot = laptop.assign(value=laptop["value"].where(laptop["quantity"] != "matched_temperature", 9.0))
    assert [line for line in over_temperature(hot).axes[0].lines if line.get_marker() == "|"] == []


def test_classes_are_paired_from_standard_to_robust_in_raw_and_matched(laptop):
    figure = paired(laptop)
    assert_on_page(figure)
    assert [title.partition(" (")[0] for title in titles(figure)] == ["DBM", "DBM at matched entropy", "AM"]
    raw, matched, amalgam = figure.axes
    joined = [line.get_ydata().tolist() for line in raw.lines]
    expected = [[LEVELS[arm] + 0.01 + 0.002 * FACTORIAL.index(name) for arm in ("standard", "robust")] for name in sorted(FACTORIAL)]
    assert joined == [pytest.approx(pair) for pair in expected]
    for ax in (raw, matched, amalgam):
        assert len(dots(ax)) == 5 * 9 * (3 + 1)
        assert style.role("untrained").colour.lower() not in {face for *_, face, _ in dots(ax)}
    lowest = min(y for _, y, face, _ in dots(amalgam) if face == style.role("gauss").colour.lower())
    assert lowest == pytest.approx(0.45 / 20)


def test_architectures_weigh_alike_in_pairs_and_are_small_dots(cifar):
    figure = paired(cifar)
    assert_on_page(figure)
    assert titles(figure)[0] == "DBM (lower = tighter), mean of 5 architectures"
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.54, 0.29])
    assert len(dots(figure.axes[0])) == 5 * 10 * (5 + 1)
    assert "one architecture" in words(figure)


def test_architectures_without_a_defence_are_in_no_pair():
    rows = pd.concat([planted(PLAIN, (0,)), planted(["standard"], (0,), kinds=["lenet", "capsnet_small"])])
    figure = paired(rows)
    assert titles(figure)[0].endswith(", TinyCNN")
    assert figure.axes[0].lines[0].get_ydata()[0] == pytest.approx(0.5 + 0.002 * FACTORIAL.index("ring+checker"))


def test_attacks_lie_over_the_mean_dbm_by_defence_and_architecture(cifar):
    figure = with_attacks(cifar)
    assert_on_page(figure)
    smallest, error, residuals = figure.axes
    assert (smallest.get_yscale(), error.get_yscale()) == ("log", "linear")
    assert [len(dots(ax)) for ax in (smallest, error, residuals)] == [36, 36, 31]
    x, y, face, edge = dots(smallest)[0]
    assert (x, y) == (pytest.approx(0.02 + 0.009), pytest.approx(5.0))
    assert (face, edge) == (None, style.role("untrained").colour.lower())
    hollow = [edge for *_, face, edge in dots(smallest) if face is None]
    assert hollow == [style.role("untrained").colour.lower()] * 5
    assert {"robust, 2/255", "robust, 4/255", "robust, 8/255", "MLP", "ResNet-8", "near chance, in no coefficient"} <= set(words(figure))


def test_residuals_are_ranks_without_what_confidence_tells(cifar):
    there = [(x, y) for x, y, *_ in dots(with_attacks(cifar).axes[2])]
    assert np.abs(there).max() < 1e-6  # dbm, confidence and smallest L2 are planted in one order
    noise = np.random.default_rng(0).permutation(cifar.loc[cifar["quantity"] == "minimal_l2", "value"])
    shuffled = cifar.copy()
    shuffled.loc[shuffled["quantity"] == "minimal_l2", "value"] = noise
    left = np.array([(x, y) for x, y, *_ in dots(with_attacks(shuffled).axes[2])])
    assert np.abs(left[:, 0]).max() < 1e-6
    assert left[:, 1].std() > 3
    assert left[:, 1].mean() == pytest.approx(0, abs=1e-3)


def test_the_notebook_tells_what_stands_above_a_panel(cifar):
    figure = with_attacks(cifar, {"minimal_l2": "Spearman in words, with an interval, of fifteen units", "residuals": "a picture"})
    assert_on_page(figure)
    assert titles(figure) == ["Spearman in words, with an interval,\nof fifteen units", "error under PGD-20", "a picture"]
    with pytest.raises(BadInput, match="'minimal'.*minimal_l2, adversarial_error, residuals"):
        with_attacks(cifar, {"minimal": ""})


def test_without_smallest_norms_the_error_stands_alone(laptop):
    figure = with_attacks(laptop[~laptop["quantity"].str.startswith("minimal_l2")])
    assert titles(figure) == ["error under PGD-20"]
    assert_on_page(figure, 0.8 * style.WIDE)
    with pytest.raises(BadInput, match="attack the same networks"):
        with_attacks(laptop[laptop["claim"] != "ZSQ-3"])


def test_shares_are_stacked_to_one_a_bar_a_network_with_chance(laptop):
    figure = shares(laptop)
    assert_on_page(figure, 0.85 * style.WIDE)
    (ax,) = figure.axes
    shape, texture, rest = (container.patches for container in ax.containers)
    assert len(shape) == 18
    assert shape[0].get_height() == pytest.approx(0.25 + 0.05)
    assert texture[0].get_height() == pytest.approx(0.5 - 0.25)
    assert texture[5].get_y() == pytest.approx(shape[5].get_height())
    assert [bar.get_y() + bar.get_height() for bar in rest] == pytest.approx([1.0] * 18)
    assert {float(line.get_ydata()[0]) for line in ax.lines} == {0.25, 0.5}
    small = planted(PLAIN, (0,), ["square+noise", "square+checker", "ring+noise", "ring+checker"])
    assert {round(float(line.get_ydata()[0]), 3) for line in shares(small).axes[0].lines} == {0.333, 0.667}


def test_controls_are_differences_to_the_standard_network_of_the_same_seed(cifar):
    rows = pd.concat([cifar[cifar["claim"] != "ZSQ-5"], planted(("standard", "robust"), (1,), CIFAR, FIVE[:1])])
    figure = controls(rows)
    assert_on_page(figure)
    assert titles(figure) == ["DBM", "DBM at matched entropy", "AM"]
    raw = figure.axes[0]
    assert len(dots(raw)) == 6 + 4 * 5
    assert heights(raw, "robust") == pytest.approx([-0.25] * 6)
    assert heights(raw, "untrained") == pytest.approx([-0.48] * 5)
    assert heights(figure.axes[2], "gauss") == pytest.approx([-0.0025] * 5, abs=6e-4)
    assert any(set(line.get_ydata()) == {0} for line in raw.lines)


def test_untrained_networks_far_off_leave_the_others_their_height(laptop):
    far = laptop.assign(value=laptop["value"].where((laptop["arm"] != "untrained") | (laptop["quantity"] != "dbm_matched"), 0.7))
    far.loc[(far["quantity"] == "dbm_matched") & (far["arm"] == "gauss"), "value"] += 0.01
    figure = controls(far)
    assert_on_page(figure)
    assert figure.axes[1].get_ylim() == (pytest.approx(-0.001), pytest.approx(0.0125))
    assert f"{0.7 - 0.4008:+.2f}" in words(figure)
    assert figure.axes[0].get_ylim()[0] < -0.48  # where they are near, they are drawn


def test_arms_and_quantities_that_are_missing_leave_their_panels_out(laptop):
    few = laptop[laptop["arm"].isin(["standard", "robust"]) & ~laptop["quantity"].isin(["am", "dbm_matched", "matched_temperature"])]
    assert titles(mean_labels(few))[:2] == ["standard", "robust"]
    assert len(plane(few).axes) == 2
    assert len(paired(few).axes) == 1
    assert len(controls(few).axes) == 1
    assert len(over_temperature(few).axes[0].get_lines()) == 6
    assert [container.patches[3].get_y() for container in shares(few).axes[0].containers][0] == 0


@pytest.mark.parametrize("draw", [mean_labels, plane, over_temperature, paired, shares, controls, with_attacks])
def test_without_any_rows_of_its_own_a_figure_says_what_to_measure(draw, laptop):
    other = laptop[laptop["quantity"] == "adversarial_error"].assign(claim="ZSQ-1", quantity="clean_accuracy")
    with pytest.raises(BadInput, match="rows of"):
        draw(other)
