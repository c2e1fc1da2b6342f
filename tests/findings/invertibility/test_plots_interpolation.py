"""Strips stand above the curve at equal weights, every network is a dot, and without pictures the charts alone are drawn."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.findings.invertibility.figures.interpolation import interpolation

COLUMNS = ["claim", "quantity", "arm", "recipe", "architecture", "seed", "network", "unit", "unit_2", "value", "reached"]
LEVELS = {"standard": 0.4, "robust": 0.8, "gauss": 0.5, "std_matched": 0.3}
ACROSS, OOD = ("1-2", "3-4", "5-6"), ("ood0-ood2", "ood1-ood3")


def row(quantity, arm, seed, unit, unit_2, value):
    return dict(zip(COLUMNS, ("INV-6", quantity, arm, arm, "w8", seed, f"{arm}{seed}", unit, unit_2, float(value), True), strict=True))


def preference(arm: str, pair: int, j: int) -> float:
    """Rises from -1 to 1 in the cross-fade; in a network to half of that; the pairs lie .1 apart."""
    return (2 * j / 4 - 1) * (1 if arm == "crossfade" else 0.5) + 0.1 * (pair - 1)


def rows(arms=("standard", "robust"), seeds=(0, 1)):
    found = [row("rank_correlation@crossfade", "crossfade", 0, unit, "across", 0.9 + 0.01 * i) for i, unit in enumerate(ACROSS)]
    for arm in ("crossfade", "standard", "robust"):
        found += [row("preference", arm, 0, u, f"across|{j}", preference(arm, i, j)) for i, u in enumerate(ACROSS) for j in range(5)]
    for arm in arms:
        for seed in seeds:
            level = LEVELS[arm] + 0.1 * seed
            for i, unit in enumerate(ACROSS):
                found.append(row("rank_correlation", arm, seed, unit, "across", level + 0.01 * i))
                found.append(row("rank_correlation_robust_judge", arm, seed, unit, "across", level - 0.2))
                if arm in ("standard", "robust"):
                    found.append(row("rank_correlation@blend", arm, seed, unit, "across", 0.75 if arm == "standard" else 0.65))
            if arm in ("standard", "robust"):
                found += [row("rank_correlation@ood", arm, seed, unit, "ood", -0.25 if seed == 0 else 0.95) for unit in OOD]
    return pd.DataFrame(found)


def strip(seed):
    return torch.rand((5, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


def pictures():
    found = []
    for n, (kind, unit) in enumerate([("across", u) for u in ACROSS] + [("ood", u) for u in OOD]):
        strips = {arm: strip(10 * n + k) for k, arm in enumerate(("crossfade", "standard", "robust"))}
        blend = {arm: strip(10 * n + 5 + k) for k, arm in enumerate(("standard", "robust"))} if kind == "across" else {}
        names = ("cat", "ship") if kind == "across" else None
        found.append({"unit": unit, "kind": kind, "names": names, "strips": strips, "blend": blend})
    return found


def drawn(figure):
    return [image for ax in figure.axes for image in ax.images]


def words(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def charts(figure):
    """The axes of the curves and of the dots."""
    curves, dots = (next(ax for ax in figure.axes if start in ax.get_ylabel()) for start in ("p(y_R)", "rank correlation"))
    return curves, dots


def lines(ax, n: int = 5):
    """The drawn lines of n points, by label."""
    return {line.get_label(): line for line in ax.lines if len(line.get_xdata()) == n}


@functools.cache  # drawn once: every picture is an axes of its own
def figure_of(name):
    return {
        "strips": lambda: interpolation(rows(), pictures()),
        "rows alone": lambda: interpolation(rows()),
        "controls": lambda: interpolation(rows(arms=tuple(LEVELS)), pictures(), shown=["3-4"]),
        "one pair": lambda: interpolation(rows(), pictures(), shown=["ood0-ood2"]),
    }[name]()


@pytest.mark.parametrize("name", ["strips", "rows alone", "controls", "one pair"])
def test_the_figure_is_drawn_inside_the_page(name):
    figure = figure_of(name)
    assert figure.get_figwidth() == style.WIDE
    ink = figure.get_tightbbox()  # inches
    assert min(ink.x0, ink.y0) > -0.01
    assert ink.x1 < figure.get_figwidth() + 0.01
    assert ink.y1 < figure.get_figheight() + 0.01


def test_equal_rows_and_pictures_give_equal_bytes():
    one, other = (interpolation(rows(), pictures(), shown=["ood0-ood2"]) for _ in range(2))
    assert style.png_bytes(one) == style.png_bytes(other)


def test_the_first_pair_across_classes_and_the_first_outside_are_shown_the_first_also_from_the_blend():
    figure = figure_of("strips")
    assert len(drawn(figure)) == 5 * (3 + 2) + 5 * 3
    assert {r"two classes: cat $\rightarrow$ ship", "outside the training distribution"} <= set(words(figure))
    assert words(figure).count("standard\nfrom blend") == 1
    shown = [picture.get_array() for picture in drawn(figure)]
    for picture, part in ((pictures()[0], "strips"), (pictures()[0], "blend"), (pictures()[3], "strips")):
        for images in picture[part].values():
            assert all(any(np.array_equal(pixels(image), one) for one in shown) for image in images)


def test_a_strip_stands_in_its_row_and_every_picture_above_its_weight_in_the_curve():
    figure, picture = figure_of("strips"), pictures()[0]
    curves = charts(figure)[0]
    heights = {}
    for arm, images in picture["strips"].items():
        for j, image in enumerate(images):
            (found,) = [one for one in drawn(figure) if np.array_equal(one.get_array(), pixels(image))]
            box = found.get_window_extent()
            assert (box.x0 + box.x1) / 2 == pytest.approx(curves.transData.transform((j / 4, 0))[0], abs=0.5)
            assert box.width == pytest.approx(box.height)
            assert found.get_interpolation() == "nearest"
            assert box.y0 == pytest.approx(heights.setdefault(arm, box.y0), abs=0.5)
    assert heights["crossfade"] > heights["standard"] > heights["robust"] > curves.get_window_extent().y1


def test_only_the_two_images_themselves_are_framed():
    figure = figure_of("controls")
    frames = [patch.get_extents() for ax in figure.axes for patch in ax.patches if ax.images]
    framed = [one for one in drawn(figure) if any(np.allclose(one.get_window_extent().get_points(), box.get_points()) for box in frames)]
    ends = [pixels(pictures()[1]["strips"]["crossfade"][j]) for j in (0, 4)]
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
    dots = charts(figure_of("controls"))[1]
    places = [collection.get_offsets() for collection in dots.collections if len(collection.get_offsets())]
    heights = sorted(round(float(y), 3) for offsets in places for y in offsets[:, 1])
    noise = [level + 0.1 * seed + 0.01 for level in LEVELS.values() for seed in (0, 1)]
    robust_judge = [level + 0.1 * seed - 0.2 for level in LEVELS.values() for seed in (0, 1)]
    assert heights == pytest.approx(sorted([*noise, *robust_judge, 0.75, 0.75, 0.65, 0.65]))
    assert any(line.get_ydata()[0] == pytest.approx(0.91) and line.get_linestyle() == "--" for line in dots.lines)
    labels = [label.get_text() for label in dots.get_xticklabels()]
    assert labels == ["standard", "robust", "noise-\ntrained", "standard,\naccuracy-\nmatched"]
    told = [text.get_text() for text in dots.get_legend().get_texts()]
    assert told == ["standard judge, from noise", "robust judge, from noise", "standard judge, from the blend"]


def test_two_networks_of_one_arm_never_cover_each_other():
    equal = rows()
    equal.loc[equal["quantity"] == "rank_correlation", "value"] = 0.5
    for collection in charts(interpolation(equal))[1].collections:
        x = collection.get_offsets()[:, 0]
        assert len(set(np.round(x, 3))) == len(x)


def test_what_was_not_measured_is_not_drawn():
    bare = rows()
    bare = bare[bare["quantity"].isin(["preference", "rank_correlation"]) & (bare["arm"] != "crossfade")]
    figure = interpolation(bare, pictures(), shown=["ood0-ood2"])
    curves, dots = charts(figure)
    assert list(lines(curves)) == ["standard", "robust"]
    assert [text.get_text() for text in dots.get_legend().get_texts()] == ["standard judge, from noise"]
    assert not [line for line in dots.lines if line.get_linestyle() == "--"]
    assert not {"-.25", ".90"} & set(words(figure))


def test_the_names_of_many_arms_do_not_run_into_each_other():
    arms = [arm for arm in style.ROLES if arm not in ("pca", "judge") and not arm.startswith("external")]
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


def test_rows_and_pairs_that_are_not_there_are_named():
    with pytest.raises(BadInput, match="there is no picture of pair '1-3': the pairs are 1-2, 3-4, 5-6, .*did you mean"):
        interpolation(rows(), pictures(), shown=["1-3"])
    with pytest.raises(BadInput, match="there is no picture of pair '1-2': the pairs are none: give the pictures"):
        interpolation(rows(), shown=["1-2"])
    with pytest.raises(BadInput, match="has no rows of 'preference'"):
        interpolation(rows().query("quantity != 'preference'"))
    with pytest.raises(BadInput, match="has no rows of 'rank_correlation'"):
        interpolation(rows().query("quantity != 'rank_correlation'"))
    broken = rows().replace({"unit_2": {"across|3": "3"}})
    with pytest.raises(BadInput, match="unit_2='3' of a preference row names no point across classes"):
        interpolation(broken)
