"""Ablations and the sweep over layers, from rows alone."""

import pandas as pd
import pytest
import torch
from drawing import assert_on_page, row

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.reading import short_layer
from reprolib.findings.invertibility.figures.ablations import ablations, depth, layer_pictures

VARIANTS = ["fake_relu off", "fourier", "reference", "step x2"]
LAYERS = ["layer:stage1.block1.relu1", "layer:stage1.block2.relu1", "layer:stage1.block10.relu2", "layer:stage2.block1.relu1", "layer:stem"]
QUANTITIES = ("distance_ratio", "pixel_correlation", "d_rel")


def rows(names=(*VARIANTS, *LAYERS), arms=("standard", "robust"), quantities=QUANTITIES):
    """Variant j of arm i has the mean .1 (j + 1) + .02 i over its three targets."""
    return pd.DataFrame(
        [
            row("ablation", quantity, arm, 0, unit, name, 0.1 * (j + 1) + 0.02 * i + off)
            for quantity in quantities
            for i, arm in enumerate(arms)
            for j, name in enumerate(names)
            for unit, off in enumerate((-0.02, 0.0, 0.02))
        ]
    )


def test_it_is_drawn_on_the_page():
    assert_on_page(ablations(rows()))


def test_every_variant_is_a_line_with_a_dot_per_arm_the_reference_on_top():
    ax = ablations(rows()).axes[0]
    times = "\N{MULTIPLICATION SIGN}"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["reference", "fake relu off", f"step {times}2", "fourier"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    dots = {arm: next(line for line in ax.lines if line.get_marker() == style.ROLES[arm].marker) for arm in ("standard", "robust")}
    assert list(dots["standard"].get_xdata()) == pytest.approx([0.3, 0.1, 0.4, 0.2])
    assert list(dots["robust"].get_xdata()) == pytest.approx([0.32, 0.12, 0.42, 0.22])
    assert [round(y) for y in dots["standard"].get_ydata()] == [0, 1, 2, 3]
    assert dots["robust"].get_ydata() - dots["standard"].get_ydata() == pytest.approx([0.3] * 4)
    middles = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] != line.get_xdata()[1]]
    assert any(list(ends) == pytest.approx([0.29, 0.31]) for ends in middles)  # of the reference's targets


def test_the_sweep_runs_from_the_image_to_the_head_with_a_line_per_arm():
    ax = ablations(rows()).axes[3]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["stem", "1.1.1", "1.2.1", "1.10.2", "2.1.1"]
    standard, robust = ax.lines
    assert list(standard.get_ydata()) == pytest.approx([0.9, 0.5, 0.6, 0.7, 0.8])
    assert list(robust.get_ydata()) == pytest.approx([0.92, 0.52, 0.62, 0.72, 0.82])
    assert (standard.get_color(), robust.get_color()) == (style.ROLES["standard"].colour, style.ROLES["robust"].colour)


def test_distance_in_code_space_has_a_logarithmic_axis_and_the_others_have_not():
    axes = ablations(rows()).axes
    assert [ax.get_xscale() for ax in axes[:3]] == ["linear", "linear", "log"]
    assert [ax.get_yscale() for ax in axes[3:]] == ["linear", "linear", "log"]


def test_one_arm_alone_is_drawn_in_every_panel():
    assert len(ablations(rows(arms=["robust"])).axes) == 6


def test_names_of_layers_are_put_in_the_order_of_depth():
    assert depth(["layer:conv3", "layer:conv1", "layer:conv2", "layer:conv1"]) == ["layer:conv1", "layer:conv2", "layer:conv3"]
    assert [short_layer(name) for name in ("layer:conv3", "layer:stem", "layer:stage3.block2.relu1")] == ["conv3", "stem", "3.2.1"]


def test_rows_that_hold_nothing_to_draw_are_refused_in_words():
    with pytest.raises(BadInput, match="no rows of claim 'ablation'"):
        ablations(rows().assign(claim="INV-2"))
    with pytest.raises(BadInput, match="claim 'ablation' has no rows of 'distance_ratio'"):
        ablations(rows().assign(quantity="ssim"))


def pictures(arms=("standard", "robust"), t=3):
    """Inverses that are all of one shade, another for every layer, arm and target."""
    shades = {
        name: {arm: torch.stack([torch.full((3, 8, 8), 0.1 * j + 0.02 * i + 0.005 * k) for k in range(t)]) for i, arm in enumerate(arms)}
        for j, name in enumerate((*LAYERS, "reference"))
    }
    return {"targets": torch.linspace(0.9, 1, t).view(t, 1, 1, 1).expand(t, 3, 8, 8), **shades}


def shades(figure):
    """The shade of every picture, by its place: (left, top), rounded to inches / 100."""
    pictures = [image for ax in figure.axes for image in ax.images]
    places = [image.get_extent() for image in pictures]  # left, right, bottom, top
    shown = [round(float(image.get_array().mean()), 3) for image in pictures]
    return {(round(100 * left), round(100 * top)): shade for (left, _, _, top), shade in zip(places, shown, strict=True)}


def test_inverses_of_every_layer_stand_in_the_order_of_depth_beside_their_target():
    figure = layer_pictures(pictures())
    shown = shades(figure)
    lefts, tops = sorted({x for x, _ in shown}), sorted({y for _, y in shown})
    assert [shown[lefts[0], y] for y in tops if (lefts[0], y) in shown] == [0.9, 0.95]
    rows_of_inverses = [y for y in tops if (lefts[1], y) in shown]
    order = [4, 0, 1, 2, 3]  # the stem first
    for y, (i, k) in zip(rows_of_inverses, ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
        assert [shown[x, y] for x in lefts[1:]] == pytest.approx([0.1 * j + 0.02 * i + 0.005 * k for j in order], abs=1e-3)
    names = [text.get_text() for text in figure.texts]
    assert names[:6] == ["target", "stem", "1.1.1", "1.2.1", "1.10.2", "2.1.1"]
    assert_on_page(figure)


def test_pictures_without_layers_are_refused():
    with pytest.raises(BadInput, match="holds no inverse of a layer: it holds targets, reference"):
        layer_pictures({name: part for name, part in pictures().items() if name in ("targets", "reference")})
