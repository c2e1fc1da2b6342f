"""Strips stand above the curve at equal weights, every network is a dot, and without pictures the charts alone are drawn."""

import functools

import numpy as np
import pandas as pd
import pytest
from drawing import assert_on_page, dots, images, pictures, row, words

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.findings.invertibility.figures.interpolation import interpolation
from reprolib.scales import OWN_ROLES

LEVELS = {"standard": 0.4, "robust": 0.8, "gauss": 0.5, "std_matched": 0.3}
ACROSS, OOD = ("1-2", "3-4", "5-6"), ("ood0-ood2", "ood1-ood3")


def preference(arm: str, pair: int, j: int) -> float:
    """Rises from -1 to 1 in the cross-fade; in a network to half of that; the pairs lie .1 apart."""
    return (2 * j / 4 - 1) * (1 if arm == "crossfade" else 0.5) + 0.1 * (pair - 1)


def rows(arms=("standard", "robust"), seeds=(0, 1)):
    found = [row("INV-6", "rank_correlation@crossfade", "crossfade", 0, unit, "across", 0.9 + 0.01 * i) for i, unit in enumerate(ACROSS)]
    for arm in ("crossfade", "standard", "robust"):
        found += [
            row("INV-6", "preference", arm, 0, u, f"across|{j}", preference(arm, i, j)) for i, u in enumerate(ACROSS) for j in range(5)
        ]
    for arm in arms:
        for seed in seeds:
            level = LEVELS[arm] + 0.1 * seed
            for i, unit in enumerate(ACROSS):
                found.append(row("INV-6", "rank_correlation", arm, seed, unit, "across", level + 0.01 * i))
                found.append(row("INV-6", "rank_correlation_robust_judge", arm, seed, unit, "across", level - 0.2))
                if arm in ("standard", "robust"):
                    found.append(row("INV-6", "rank_correlation@blend", arm, seed, unit, "across", 0.75 if arm == "standard" else 0.65))
            if arm in ("standard", "robust"):
                found += [row("INV-6", "rank_correlation@ood", arm, seed, unit, "ood", -0.25 if seed == 0 else 0.95) for unit in OOD]
    return pd.DataFrame(found)


def strip(seed):
    return images(5, 3, 8, 8, seed=seed)


def strips():
    found = []
    for n, (kind, unit) in enumerate([("across", u) for u in ACROSS] + [("ood", u) for u in OOD]):
        strips = {arm: strip(10 * n + k) for k, arm in enumerate(("crossfade", "standard", "robust"))}
        blend = {arm: strip(10 * n + 5 + k) for k, arm in enumerate(("standard", "robust"))} if kind == "across" else {}
        names = ("cat", "ship") if kind == "across" else None
        found.append({"unit": unit, "kind": kind, "names": names, "strips": strips, "blend": blend})
    return found


def charts(figure):
    """The axes of the curves and of the dots."""
    curves, dots = (next(ax for ax in figure.axes if start in ax.get_ylabel()) for start in ("p(y_R)", "rank correlation"))
    return curves, dots


def lines(ax, n: int = 5):
    """The drawn lines of n points, by their name in the legend."""
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    return dict(zip(named, [line for line in ax.lines if len(line.get_xdata()) == n], strict=True))


@functools.cache  # drawn once: every picture is an axes of its own
def figure_of(name):
    return {
        "strips": lambda: interpolation(rows(), strips()),
        "rows alone": lambda: interpolation(rows()),
        "controls": lambda: interpolation(rows(arms=tuple(LEVELS)), [strips()[1]]),
        "one pair": lambda: interpolation(rows(), [strips()[3]]),
    }[name]()


@pytest.mark.parametrize("name", ["rows alone", "controls"])
def test_the_figure_is_drawn_on_the_page(name):
    assert_on_page(figure_of(name))


def test_the_first_pair_across_classes_and_the_first_outside_are_shown_the_first_also_from_the_blend():
    figure = figure_of("strips")
    assert len(pictures(figure)) == 5 * (3 + 2) + 5 * 3
    assert {r"two classes: cat $\rightarrow$ ship", "outside the training distribution"} <= set(words(figure))
    assert words(figure).count("standard\nfrom blend") == 1
    shown = [picture.get_array() for picture in pictures(figure)]
    for picture, part in ((strips()[0], "strips"), (strips()[0], "blend"), (strips()[3], "strips")):
        for x in picture[part].values():
            assert all(any(np.array_equal(pixels(image), one) for one in shown) for image in x)


def test_a_strip_stands_in_its_row_and_every_picture_above_its_weight_in_the_curve():
    figure, picture = figure_of("strips"), strips()[0]
    curves = charts(figure)[0]
    heights = {}
    for arm, x in picture["strips"].items():
        for j, image in enumerate(x):
            (found,) = [one for one in pictures(figure) if np.array_equal(one.get_array(), pixels(image))]
            box = found.get_window_extent()
            assert (box.x0 + box.x1) / 2 == pytest.approx(curves.transData.transform((j / 4, 0))[0], abs=0.5)
            assert box.width == pytest.approx(box.height)
            assert found.get_interpolation() == "nearest"
            assert box.y0 == pytest.approx(heights.setdefault(arm, box.y0), abs=0.5)
    assert heights["crossfade"] > heights["standard"] > heights["robust"] > curves.get_window_extent().y1


def test_only_the_two_images_themselves_are_framed():
    figure = figure_of("controls")
    frames = [patch.get_extents() for ax in figure.axes for patch in ax.patches if ax.images]
    framed = [one for one in pictures(figure) if any(np.allclose(one.get_window_extent().get_points(), box.get_points()) for box in frames)]
    ends = [pixels(strips()[1]["strips"]["crossfade"][j]) for j in (0, 4)]
    assert len(framed) == 2
    assert all(np.array_equal(one.get_array(), end) for one, end in zip(framed, ends, strict=True))


def test_each_strip_tells_the_rank_correlation_of_its_pair_start_and_first_network():
    told = words(figure_of("controls"))
    assert {".91", ".41", ".81", ".75", ".65"} <= set(told)  # cross-fade, both from noise, both from the blend
    told = words(figure_of("one pair"))
    assert told.count("-.25") == 2  # of seed 0; the cross-fade has none there
    assert ".95" not in told


def test_the_curve_is_the_mean_preference_with_the_middle_half_of_the_pairs():
    curves = charts(figure_of("rows alone"))[0]
    found = lines(curves)
    assert list(found) == ["standard", "robust", "cross-fade of pixels"]
    for label, arm in (("standard", "standard"), ("cross-fade of pixels", "crossfade")):
        assert found[label].get_xdata() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
        assert found[label].get_ydata() == pytest.approx([preference(arm, 1, j) for j in range(5)])
    bands = [band.get_paths()[0].get_extents() for band in curves.collections]
    assert len(bands) == 2  # of the networks; the cross-fade is a dashed line
    for band in bands:
        assert (band.y0, band.y1) == pytest.approx((-0.55, 0.55))  # quartiles of three values .1 apart
    assert found["cross-fade of pixels"].get_linestyle() == "--"


def test_every_network_is_a_dot_per_judge_and_start_and_the_cross_fade_a_level():
    below = charts(figure_of("controls"))[1]
    heights = sorted(y for _, y, *_ in dots(below))
    noise = [level + 0.1 * seed + 0.01 for level in LEVELS.values() for seed in (0, 1)]
    robust_judge = [level + 0.1 * seed - 0.2 for level in LEVELS.values() for seed in (0, 1)]
    assert heights == pytest.approx(sorted([*noise, *robust_judge, 0.75, 0.75, 0.65, 0.65]))
    assert any(line.get_ydata()[0] == pytest.approx(0.91) and line.get_linestyle() == "--" for line in below.lines)
    labels = [label.get_text() for label in below.get_xticklabels()]
    assert labels == ["standard", "robust", "noise-\ntrained", "accuracy-\nmatched"]
    told = [text.get_text() for text in below.get_legend().get_texts()]
    assert told == ["standard judge, from noise", "robust judge, from noise", "standard judge, from the blend"]


def test_what_was_not_measured_is_not_drawn():
    bare = rows()
    bare = bare[bare["quantity"].isin(["preference", "rank_correlation"]) & (bare["arm"] != "crossfade")]
    figure = interpolation(bare, [strips()[3]])
    curves, below = charts(figure)
    assert [text.get_text() for text in curves.get_legend().get_texts()] == ["standard", "robust"]
    assert [text.get_text() for text in below.get_legend().get_texts()] == ["standard judge, from noise"]
    assert not [line for line in below.lines if line.get_linestyle() == "--"]
    assert not {"-.25", ".90"} & set(words(figure))


def test_the_names_of_many_arms_do_not_run_into_each_other():
    elsewhere = ("pca", "judge", "label_smoothing", "robust_medium", *OWN_ROLES)
    arms = [arm for arm in style.ROLES if arm not in elsewhere and not arm.startswith("external")]
    many = rows()
    some = many[(many["arm"] == "standard") & (many["quantity"] == "rank_correlation")]
    controls = [some.assign(arm=arm, network=some["seed"].map(lambda seed, arm=arm: f"{arm}{seed}")) for arm in arms[2:]]
    boxes = [label.get_window_extent() for label in charts(interpolation(pd.concat([many, *controls])))[1].get_xticklabels()]
    assert len(boxes) == len(arms) >= 9
    assert all(one.x1 < other.x0 for one, other in zip(boxes, boxes[1:], strict=False))


def test_a_correlation_below_zero_stays_on_the_chart():
    low = rows()
    low.loc[(low["quantity"] == "rank_correlation") & (low["arm"] == "standard"), "value"] = -0.6
    assert charts(interpolation(low))[1].get_ylim()[0] < -0.6


def test_rows_that_are_not_there_are_named():
    with pytest.raises(BadInput, match="has no rows of 'preference'"):
        interpolation(rows().query("quantity != 'preference'"))
    with pytest.raises(BadInput, match="has no rows of 'rank_correlation'"):
        interpolation(rows().query("quantity != 'rank_correlation'"))
