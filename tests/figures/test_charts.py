"""The shared charts: every network keeps its dot, every line and band is the mean and the middle of its values."""

import pandas as pd
import pytest
from drawing import dots, heights, row
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.colors import to_hex

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.reading import network_means

MARKS = (("said", "what it says", 1.0), ("meant", "what it means", 0.0))
LEVELS = {"robust": (0.5, 0.5, 0.7), "standard": (0.2, 0.2, 0.4)}


def rows(levels=LEVELS, quantities=("said", "meant"), spread=0.1):
    return pd.DataFrame(
        [
            row("SHP-1", quantity, arm, seed, unit, "", level + spread * (unit - 1) + (quantity == "meant"))
            for quantity in quantities
            for arm, values in levels.items()
            for seed, level in enumerate(values)
            for unit in range(3)
        ]
    )


def axes():
    return style.figure(3, 2).subplots()


def test_every_network_is_a_dot_at_the_mean_of_its_units_and_equal_ones_stand_side_by_side():
    ax = charts.by_arm(rows(), axes(), MARKS)
    assert heights(ax, "standard") == [0.2, 0.2, 0.4, 1.2, 1.2, 1.4]
    assert heights(ax, "robust") == [0.5, 0.5, 0.7, 1.5, 1.5, 1.7]
    assert len({x for x, *_ in dots(ax)}) == 12
    assert [label.get_text() for label in ax.get_xticklabels()] == ["standard", "robust"]
    bars = [bar for part in ax.collections if isinstance(part, LineCollection) for bar in part.get_segments()]
    assert sorted(bar[0][1] for bar in bars) == pytest.approx([0.8 / 3, 1.7 / 3, 3.8 / 3, 4.7 / 3])


def test_a_mark_is_as_full_as_told_and_what_others_trained_is_hollow_and_last():
    colour = style.ROLES["robust"].colour.lower()
    assert [faces for *_, faces, _ in dots(charts.by_arm(rows({"robust": (0.5,)}), axes(), MARKS))] == [colour, "#ffffff"]
    ax = charts.by_arm(rows({"external_robust": (0.6,), "robust": (0.5,)}), axes(), MARKS[:1])
    assert [(x, face, edge) for x, _, face, edge in dots(ax)] == [(0, colour, "#ffffff"), (1, "#ffffff", colour)]
    assert ax.get_xticklabels()[1].get_text() == "others',\nrobust"


def test_the_order_of_the_rows_changes_nothing():
    one, other = (dots(charts.by_arm(table, axes(), MARKS)) for table in (rows(), rows().sample(frac=1, random_state=1)))
    assert one == other


def test_units_weigh_alike_however_many_rows_they_have_and_what_is_kept_is_apart():
    table = pd.DataFrame([row("INV-2", "q", "robust", 0, u, s, v) for u, s, v in ((0, "a", 0.2), (0, "b", 0.4), (1, "a", 0.7))])
    assert network_means(table)["value"].tolist() == pytest.approx([0.5])
    assert network_means(table, "unit_2")["value"].tolist() == pytest.approx([0.45, 0.4])


@pytest.mark.parametrize(("each", "means"), [("network", [0.2, 0.2, 0.4, 0.5, 0.5, 0.7]), ("arm", [0.8 / 3, 1.7 / 3])])
def test_a_line_runs_through_the_means_in_the_look_of_its_arm(each, means):
    table = pd.concat([rows(quantities=["said"]).assign(step=step) for step in (2, 1)])
    ax = charts.lines(table.assign(value=table["value"] * table["step"]), axes(), "step", each=each, band=0.5)
    assert [list(line.get_xdata()) for line in ax.lines] == [[1, 2]] * len(means)
    for line, mean in zip(ax.lines, means, strict=True):
        assert list(line.get_ydata()) == pytest.approx([mean, 2 * mean])
    assert [to_hex(line.get_color()) for line in ax.lines] == [
        style.ROLES[arm].colour.lower() for arm in ("standard", "robust") for _ in range(len(means) // 2)
    ]
    assert len(ax.collections) == len(means)


def test_a_band_holds_the_middle_share_of_the_values_and_a_line_keeps_the_order_asked_for():
    table = pd.DataFrame([row("t", "d", "robust", 0, unit, "", unit / 10) | {"x": x, "at": -x} for unit in range(11) for x in (1, 3, 2)])
    ax = charts.lines(table, axes(), "x", band=0.8, order="at")
    (band,) = [part for part in ax.collections if isinstance(part, FillBetweenPolyCollection)]
    box = band.get_paths()[0].get_extents()
    assert (box.y0, box.y1) == pytest.approx((0.1, 0.9))
    assert list(ax.lines[0].get_xdata()) == [3, 2, 1]
    assert not charts.lines(table, axes(), "x").collections


def test_an_arm_without_a_look_is_refused():
    with pytest.raises(BadInput, match="did you mean 'robust'"):
        charts.by_arm(rows({"robst": (0.5,)}), axes(), MARKS)
    with pytest.raises(BadInput, match="arm 'external_yours' has no colour"):
        charts.lines(rows({"external_yours": (0.5,)}).assign(x=1), axes(), "x")


def test_the_legend_names_arms_and_marks():
    assert [key.get_label() for key in charts.keys(["standard", "gauss"], {"gauss": "noise: 3"})] == ["standard", "noise: 3"]
    assert [(key.get_label(), to_hex(key.get_markerfacecolor())) for key in charts.mark_keys(MARKS)] == [
        ("what it says", style.FAINT.lower()), ("what it means", "#ffffff"),
    ]  # fmt: skip
