import functools

import numpy as np
import pandas as pd
import pytest
import torch
from drawing import COLUMNS, assert_on_page, dots, images, pictures, row, words

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.figures.reading import of_claim
from reprolib.findings.invertibility import figures as plots

EMPTY = pd.DataFrame(columns=COLUMNS)


def cell(role, starts=("noise_0", "noise_1", "image"), t=3, base=1):
    targets = images(t, 3, 8, 8)
    return {
        "label": f"{role}, seed 0",
        "role": role,
        "targets": targets,
        "starts": {s: images(t, 3, 8, 8, seed=5) for s in ("noise_0", "noise_1", "image")},
        "inversions": {s: images(t, 3, 8, 8, seed=base + i) for i, s in enumerate(starts)},
        "d_rel": {s: torch.full((t,), 0.05) for s in starts},
        "d_img": {s: torch.full((t,), 0.9) for s in starts},
    }


def trajectory_rows(arms=("standard", "robust"), seeds=(0, 1)):
    rows = []
    for arm in arms:
        for seed in seeds:
            for unit in range(4):
                for i, d_rel in enumerate((1.0, 0.4, 0.1)):
                    rows.append(row("trajectory", "d_rel", arm, seed, unit, f"noise_0|{10 * i}", d_rel))
                    rows.append(
                        row("trajectory", "distance_ratio", arm, seed, unit, f"noise_0|{10 * i}", 1 if arm == "standard" else 1 - 0.3 * i)
                    )
                reached = unit < (4 if arm == "standard" else 3)
                rows.append(row("INV-2", "reach@0.2", arm, seed, unit, "noise_0", reached))
    return pd.DataFrame(rows)


def judge_rows(arms=("standard", "robust"), seeds=(0, 1)):
    rows = [row("INV-3", "judge_ceiling", "judge", 0, unit, "", unit > 0) for unit in range(5)]
    rows += [row("INV-3", "judge_floor", "judge", 0, unit, "", unit == 0) for unit in range(5)]
    for arm in arms:
        for seed in seeds:
            for unit in range(4):
                rows.append(row("INV-3", "recognised", arm, seed, unit, "noise_0", unit < (1 if arm == "standard" else 3)))
                rows.append(row("INV-3", "recognised_start", arm, seed, unit, "image", unit == 0))
    return pd.DataFrame(rows)


def code_rows(ks=(1, 4), arms=("standard", "robust"), seeds=(0, 1)):
    return pd.DataFrame(
        [
            row("code_size", "pixel_correlation", arm, seed, unit, f"k={k}", 0.1 * k if arm == "robust" else 0.02)
            for k in ks
            for arm in arms
            for seed in seeds
            for unit in range(3)
        ]
    )


def code_images(ks=(1, 4), arms=("standard", "robust")):
    return {"targets": images(3, 3, 8, 8), "channels": 12, "k": {k: {arm: images(3, 3, 8, 8, seed=k) for arm in arms} for k in ks}}


DRAWN = {
    "hero_grid": lambda: plots.hero_grid([cell("standard"), cell("robust")]),
    "trajectories": lambda: plots.trajectories(trajectory_rows(), tau=0.2),
    "judges": lambda: plots.judges(judge_rows()),
    "code_size": lambda: plots.code_size(code_images(), code_rows()),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_drawn_on_the_page(name):
    assert_on_page(DRAWN[name](), 0.75 * style.WIDE if name == "judges" else style.WIDE)


def test_equal_pictures_give_equal_bytes():
    one, other = (plots.hero_grid([cell("standard", t=1)]) for _ in range(2))
    assert style.png_bytes(one) == style.png_bytes(other)


def test_the_hero_grid_shows_every_target_start_and_inverse_with_both_distances_below():
    cells = [cell("standard", t=4), cell("robust", base=20, t=4), cell("untrained", base=30, t=4)]
    cells[1]["d_img"]["image"] = torch.tensor([0.31, 0.32, 0.33, 0.34])
    figure = plots.hero_grid(cells)
    assert len(pictures(figure)) == 3 + 3 * 3 + 3 * 3 * 3
    assert words(figure).count(".05") == 27
    assert {".31", ".32", ".33"} <= set(words(figure))
    assert ".34" not in words(figure)  # three targets are shown
    assert {"standard\nseed 0", "robust\nseed 0", "untrained\nseed 0", "target", "start", "noise 1", "noise 2", "image"} <= set(
        words(figure)
    )


def test_an_inverse_stands_below_its_own_target_in_its_own_row():
    cells = [cell("standard"), cell("robust", base=20)]
    figure = plots.hero_grid(cells)
    wanted = pixels(cells[1]["inversions"]["image"][2])
    (found,) = [picture for picture in pictures(figure) if np.array_equal(picture.get_array(), wanted)]
    (target,) = [picture for picture in pictures(figure) if np.array_equal(picture.get_array(), pixels(cells[0]["targets"][2]))]
    box, above = found.get_window_extent(), target.get_window_extent()
    assert box.y1 < above.y0
    assert box.x0 > target.get_window_extent().x0  # third of the three starts
    assert box.y0 == min(picture.get_window_extent().y0 for picture in pictures(figure))


def test_pictures_are_square_and_never_smoothed():
    for picture in pictures(plots.hero_grid([cell("standard")])):
        assert picture.get_interpolation() == "nearest"
        box = picture.get_window_extent()
        assert box.width == pytest.approx(box.height)


def test_a_network_with_one_start_leaves_the_other_places_blank():
    figure = plots.hero_grid([cell("standard"), cell("gauss", starts=("noise_0",))])
    assert len(pictures(figure)) == 3 + 9 + 9 + 3


def test_no_cell_and_an_unknown_role_are_refused():
    with pytest.raises(BadInput, match="cells is empty"):
        plots.hero_grid([])
    with pytest.raises(BadInput, match="did you mean 'robust'"):
        plots.hero_grid([cell("standard") | {"role": "robost"}])


def test_grey_and_byte_images_are_drawn_as_they_are():
    assert pixels(torch.full((1, 2, 2), 255, dtype=torch.uint8)).tolist() == [[1, 1], [1, 1]]
    assert pixels(torch.tensor([-1.0, 0.5, 2.0]).view(3, 1, 1)).tolist() == [[[0, 0.5, 1]]]


def test_trajectories_draw_a_line_and_band_per_network_towards_smaller_distance():
    ax = plots.trajectories(trajectory_rows(), tau=0.2).axes[0]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 4
    assert len(ax.collections) == 4
    assert lines[-1].get_ydata().tolist() == pytest.approx([1.0, 0.7, 0.4])
    assert lines[-1].get_xdata().tolist() == pytest.approx([1.0, 0.4, 0.1])
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "standard: 100%",
        "robust: 75%",
    ]
    assert ax.get_legend().get_title().get_text() == "targets that reach 0.2"


def test_every_threshold_is_marked_and_the_deciding_one_dashed():
    for tau in (0.2, 0.3):
        ax = plots.trajectories(trajectory_rows(), tau=tau).axes[0]
        marks = {line.get_xdata()[0]: line.get_linestyle() for line in ax.lines if len(set(line.get_xdata())) == 1}
        assert marks == dict.fromkeys((0.5, 0.35, 0.2, 0.1, 0.05), ":") | {tau: "--"}


def test_judges_draw_a_dot_per_network_and_question_and_both_lines():
    ax = plots.judges(judge_rows()).axes[0]
    asked = ("", "#ffffff")  # of the target full, of the start hollow
    colours = {arm: style.ROLES[arm].colour.lower() for arm in ("standard", "robust")}
    assert [(y, face) for _, y, face, _ in dots(ax)] == [
        (height, face or colours[arm])
        for arm, both in (("standard", (0.25, 0.25)), ("robust", (0.75, 0.25)))
        for height, face in zip(both, asked, strict=True)
        for _ in range(2)
    ]
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]}
    assert levels == {"--": pytest.approx(0.8), ":": pytest.approx(0.2)}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["standard", "robust"]


def test_judges_without_ceiling_or_with_only_judges_say_so():
    rows = judge_rows()
    assert "judge on\nthe targets" not in words(plots.judges(rows[rows["arm"] != "judge"]))
    with pytest.raises(BadInput, match="no judge has looked at an inverse yet"):
        plots.judges(rows[rows["arm"] == "judge"])


def test_the_code_size_figure_shows_a_row_per_k_and_the_curve_over_the_share_of_pixels():
    figure = plots.code_size(code_images(), code_rows())
    assert len(pictures(figure)) == 2 * 3 + 2 * 2 * 3
    (chart,) = [ax for ax in figure.axes if ax.get_xlabel()]
    robust = chart.lines[1]
    assert robust.get_xdata() == pytest.approx([12 / 192, 12 * 16 / 192])
    assert robust.get_ydata().tolist() == pytest.approx([0.1, 0.4])
    assert "4 x 4 x 12\n100% of pixels" in words(figure)


def test_the_code_size_figure_bears_a_missing_arm():
    assert len(pictures(plots.code_size(code_images(arms=("robust",)), code_rows(arms=("robust",))))) == 3 + 2 * 3


@pytest.mark.parametrize(
    ("draw", "claim_"),
    [
        (functools.partial(plots.trajectories, tau=0.2), "trajectory"),
        (plots.judges, "INV-3"),
        (lambda rows: plots.code_size(code_images(), rows), "code_size"),
    ],
)
def test_rows_that_hold_nothing_to_draw_are_refused_in_words(draw, claim_):
    with pytest.raises(BadInput, match=f"no rows of claim '{claim_}'"):
        draw(EMPTY)
    with pytest.raises(BadInput, match="rows have no column value"):
        draw(EMPTY.drop(columns="value"))


def test_rows_of_another_quantity_or_of_nan_are_refused_in_words():
    held = (
        r"'INV-3' has no rows of 'recognisd': it holds judge_ceiling, judge_floor, recognised, recognised_start; did you mean 'recognised'"
    )
    with pytest.raises(BadInput, match=held):
        of_claim(judge_rows(), "INV-3", ["recognisd"])
    with pytest.raises(BadInput, match="are NaN"):
        plots.judges(judge_rows().assign(value=float("nan")))


@pytest.mark.parametrize(("draw", "make"), [(functools.partial(plots.trajectories, tau=0.2), trajectory_rows), (plots.judges, judge_rows)])
def test_charts_take_one_arm_one_seed_and_given_axes(draw, make):
    rows = make(arms=("robust",), seeds=(0,))
    figure = style.figure(3, 3)
    ax = figure.subplots()
    assert draw(rows, ax=ax) is figure
    assert ax.lines
