"""Figure 6 of invertibility: kinds of network side by side."""

import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.invertibility.figures.controls import controls, kinds, look

COLUMNS = ["claim", "quantity", "arm", "recipe", "architecture", "seed", "network", "unit", "unit_2", "value", "reached"]
LEVELS = {"standard": (0.9, 0.88), "robust": (0.8, 0.82), "gauss": (0.91, 0.9), "std_matched": (0.89, 0.87), "untrained": (1.08,)}


def row(claim, quantity, arm, seed, unit, unit_2, value):
    return dict(zip(COLUMNS, (claim, quantity, arm, arm, "w8", seed, f"{arm}{seed}", str(unit), unit_2, float(value), True), strict=True))


def kinds_of_rows(levels=None, claim=None, start="noise_0"):
    """Two targets a network, scattered evenly round its level; recognised: twice the distance below 1."""
    rows = []
    for arm, values in (levels or LEVELS).items():
        for seed, level in enumerate(values):
            for unit, off in enumerate((-0.01, 0.01)):
                rows.append(row(claim or "INV-2", "distance_ratio", arm, seed, unit, start, level + off))
                rows.append(row(claim or "INV-3", "recognised", arm, seed, unit, start, 2 * max(0, 1 - level) + off))
    return pd.DataFrame(rows)


def judged():
    return pd.DataFrame(
        [
            row("INV-3", name, "judge", 0, unit, "", value)
            for name, value in (("judge_ceiling", 0.9), ("judge_floor", 0.1))
            for unit in (0, 1)
        ]
    )


def full():
    beside = [
        kinds_of_rows({"pca": (1.02,)}, "baseline"), kinds_of_rows({"external_robust": (0.81,), "external_standard": (0.92,)}, "external"),
    ]  # fmt: skip
    return pd.concat([kinds_of_rows(), judged(), *beside], ignore_index=True)


def dots(ax):
    """(heights, face colour) of the dots of each arm, left to right."""
    found = [part for part in ax.collections if isinstance(part, PathCollection)]
    return [(sorted(part.get_offsets()[:, 1].round(3).tolist()), to_hex(part.get_facecolors()[0])) for part in found]


def test_it_is_drawn_inside_the_page_and_alike_each_time():
    figure = controls(full())
    ink = figure.get_tightbbox()
    assert figure.get_figwidth() == style.WIDE
    assert min(ink.x0, ink.y0) > -0.04
    assert ink.x1 < style.WIDE + 0.02
    assert ink.y1 < figure.get_figheight() + 0.01
    assert style.png_bytes(figure) == style.png_bytes(controls(full()))
    assert style.png_bytes(figure) == style.png_bytes(controls(full().sample(frac=1, random_state=1)))


def test_every_network_is_a_dot_at_its_mean_and_every_arm_a_bar_at_the_mean_of_its_networks():
    distance, recognised = controls(kinds_of_rows()).axes
    assert dots(distance) == [
        ([0.8, 0.82], "#d55e00") if arm == "robust" else (sorted(LEVELS[arm]), style.ROLES[arm].colour.lower())
        for arm in ("standard", "robust", "gauss", "std_matched", "untrained")
    ]
    assert dots(recognised)[1][0] == [0.36, 0.4]
    bars = [
        line.get_ydata()[0]
        for line in distance.lines
        if len(line.get_xdata()) == 2 and abs(line.get_xdata()[1] - line.get_xdata()[0] - 0.6) < 1e-9
    ]
    assert bars == pytest.approx([0.89, 0.81, 0.905, 0.88, 1.08])


def test_every_dot_lies_inside_the_axes():
    for ax in controls(full()).axes:
        low, high = ax.get_ylim()
        assert all(low < height < high for heights, _ in dots(ax) for height in heights)


def test_what_is_no_network_of_ours_stands_last_and_others_networks_are_hollow():
    ax = controls(full()).axes[1]
    names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert names[-3:] == ["PCA of pixels", "others', standard", "others', robust"]
    assert [face for _, face in dots(ax)][-3:] == [style.ROLES["pca"].colour.lower(), "#ffffff", "#ffffff"]
    assert kinds(["external_robust", "gauss", "standard", "external_standard", "gauss"]) == [
        "standard", "gauss", "external_standard", "external_robust",
    ]  # fmt: skip
    assert look("external_robust").colour == style.ROLES["robust"].colour


def test_only_noise_starts_of_others_networks_are_compared():
    others = pd.concat(
        [kinds_of_rows({"external_robust": (0.8,)}, "external"), kinds_of_rows({"external_robust": (0.2,)}, "external", "image")]
    )
    ax = controls(pd.concat([kinds_of_rows(), others], ignore_index=True)).axes[0]
    assert dots(ax)[-1][0] == [0.8]


def test_without_recognition_there_is_one_panel_and_the_judges_lines_only_where_they_were_measured():
    rows = kinds_of_rows()
    assert len(controls(rows[rows["claim"] == "INV-2"]).axes) == 1
    assert "on other\ntargets" not in [text.get_text() for text in controls(rows).axes[1].texts]
    assert "on other\ntargets" in [text.get_text() for text in controls(full()).axes[1].texts]


def test_rows_that_hold_nothing_to_draw_are_refused_in_words():
    with pytest.raises(BadInput, match="no rows of claim 'INV-2'"):
        controls(kinds_of_rows()[lambda rows: rows["claim"] == "INV-3"])
    with pytest.raises(BadInput, match="arm 'guass' has no colour.*did you mean 'gauss'"):
        controls(kinds_of_rows({"guass": (0.9,)}))
