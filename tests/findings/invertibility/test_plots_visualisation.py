import numpy as np
import pandas as pd
import pytest
import torch
from drawing import COLUMNS, assert_on_page, images, pictures, row, words
from matplotlib.collections import FillBetweenPolyCollection

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.findings.invertibility.figures import visualisation as plots
from reprolib.measures.perceptual import radial_spectrum

STARTS = ("noise", "image", "ood")


def seen(arms=("robust", "standard"), m=4, starts=STARTS):
    return {
        "starts": {start: images(m, 3, 8, 8, seed=i) for i, start in enumerate(starts)},
        "arms": {
            arm: {"units": [10 * a + u for u in range(m)], "x": {s: images(m, 3, 8, 8, seed=50 + 10 * a + i) for i, s in enumerate(starts)}}
            for a, arm in enumerate(arms)
        },
    }


def added(arms=("standard", "robust"), m=4, radius=1.5):
    base = (images(m, 3, 8, 8) * 255).byte()
    shown = {arm: {"units": list(range(m)), "x": (images(m, 3, 8, 8, seed=3 + a) * 255).byte()} for a, arm in enumerate(arms)}
    return {"images": base, "arms": shown, "radius": radius}


def ends(arms=("standard", "robust"), m=3):
    return {
        arm: {
            "units": [7, 8, 9][:m], "top": images(m, 5, 3, 8, 8, seed=a), "bottom": images(m, 5, 3, 8, 8, seed=10 + a),
            "maximised": images(m, 3, 8, 8, seed=20 + a), "minimised": images(m, 3, 8, 8, seed=30 + a),
        }
        for a, arm in enumerate(arms)
    }  # fmt: skip


def spectrum_rows(arms=("standard", "robust"), n_units=4):
    rows = []
    for a, arm in enumerate(arms):
        smooth = torch.nn.functional.avg_pool2d(images(n_units, 3, 32 + 2 * a, 32 + 2 * a, seed=a), 1 + 2 * a, 1)
        frequency, power = radial_spectrum(smooth)
        for unit in range(n_units):
            share = power[unit] / power[unit].sum()
            rows += [row("INV-7", "spectrum", arm, 0, unit, f"{f:.4f}", s) for f, s in zip(frequency.tolist(), share.tolist(), strict=True)]
    return pd.DataFrame(rows)


DRAWN = {
    "of eight networks": lambda: plots.visualisation(spectrum_rows(), seen(tuple(style.ROLES)[:8])),
    "additions": lambda: plots.additions(added()),
    "extremes": lambda: plots.extremes(ends()),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_drawn_on_the_page(name):
    assert_on_page(DRAWN[name]())


def at(figure, image):
    """The place of the one picture that shows an image."""
    (found,) = [one for one in pictures(figure) if np.array_equal(one.get_array(), pixels(image))]
    return found.get_window_extent()


def test_an_image_stands_below_its_own_start_in_its_networks_row():
    given = seen()
    figure = plots.visualisation(spectrum_rows(), given)
    assert len(pictures(figure)) == 9 + 2 * 9
    start = at(figure, given["starts"]["ood"][1])
    robust, standard = (at(figure, given["arms"][arm]["x"]["ood"][1]) for arm in ("robust", "standard"))
    assert start.x0 == robust.x0 == standard.x0
    assert start.y0 > standard.y1 > standard.y0 > robust.y1  # in the order of the house style, whatever the pictures' order
    assert at(figure, given["starts"]["image"][2]).x1 < start.x0
    assert {"units 10, 11, 12", "units 0, 1, 2", "from noise", "from a test image", "from an out-of-distribution image"} <= set(
        words(figure)
    )


def test_starts_and_units_that_are_not_there_are_not_drawn():
    figure = plots.visualisation(spectrum_rows(), seen(("standard",), starts=("noise", "image"), m=2))
    assert len(pictures(figure)) == 4 + 4
    assert "from an out-of-distribution image" not in words(figure)


def test_spectra_show_the_mean_over_units_and_the_band_of_the_two_arms_that_are_compared():
    rows = spectrum_rows(("standard", "robust", "gauss"))
    figure = plots.visualisation(rows, seen(("standard", "robust", "gauss"), m=1))
    (ax,) = [ax for ax in figure.axes if ax.get_xlabel()]
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    lines = dict(zip(named, ax.lines, strict=False))
    for arm in ("standard", "robust", "gauss"):
        wanted = rows[rows["arm"] == arm].groupby("unit_2")["value"].mean()
        assert lines[style.role(arm).label].get_ydata() == pytest.approx(wanted.to_numpy())
        assert lines[style.role(arm).label].get_xdata() == pytest.approx([float(cycles) for cycles in wanted.index])
    bands = [one for one in ax.collections if isinstance(one, FillBetweenPolyCollection)]
    assert len(bands) == 2
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.25]


def test_a_change_is_shown_amplified_around_grey_beside_the_image_it_made():
    given = added(m=2)
    figure = plots.additions(given)
    factor = plots.amplification(given["images"], 1.5)
    assert len(pictures(figure)) == 2 + 2 * 2 * 2
    x, image = (tensor[1].float() / 255 for tensor in (given["arms"]["robust"]["x"], given["images"]))
    change, made = at(figure, 0.5 + factor * (x - image)), at(figure, x)
    assert made.y0 == pytest.approx(change.y0)
    assert made.x1 < change.x0
    assert at(figure, image).x0 == made.x0
    assert f"every change has the L2 norm 1.5; changes are shown x {factor} around grey" in words(figure)


@pytest.mark.parametrize(("radius", "factor"), [(1.0, 8), (3.0, 3), (50.0, 1)])
def test_a_change_is_amplified_until_it_can_be_seen(radius, factor):
    assert plots.amplification(images(1, 3, 32, 32), radius) == factor


def test_the_most_extreme_test_images_stand_beside_the_driven_ones():
    given = ends(m=2)
    figure = plots.extremes(given)
    assert len(pictures(figure)) == 2 * 2 * 12
    shown = given["robust"]
    order = [shown["bottom"][1][4], shown["bottom"][1][0], shown["minimised"][1], shown["maximised"][1]]
    places = [at(figure, image) for image in [*order, shown["top"][1][0], shown["top"][1][4]]]
    assert [p.x0 for p in places] == sorted(p.x0 for p in places)
    assert len({round(p.y0, 6) for p in places}) == 1
    assert at(figure, given["standard"]["maximised"][1]).y0 > places[0].y1


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.visualisation(pd.DataFrame(columns=COLUMNS), seen()), "there are no rows of claim 'INV-7'"),
        (lambda: plots.visualisation(spectrum_rows().assign(quantity="slope"), seen()), "claim 'INV-7' has no rows of 'spectrum'"),
    ],
)
def test_nothing_to_draw_is_said(draw, message):
    with pytest.raises(BadInput, match=message):
        draw()
