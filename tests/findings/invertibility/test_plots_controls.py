"""Figure 6 of invertibility: kinds of network side by side."""

import pandas as pd
import pytest
from drawing import assert_on_page, dots, heights, row

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.invertibility.figures.controls import controls

LEVELS = {"standard": (0.9, 0.88), "robust": (0.8, 0.82), "gauss": (0.91, 0.9), "std_matched": (0.89, 0.87), "untrained": (1.08,)}


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


def test_it_is_drawn_on_the_page_and_alike_each_time():
    figure = controls(full())
    assert_on_page(figure)
    assert style.png_bytes(figure) == style.png_bytes(controls(full().sample(frac=1, random_state=1)))


def test_every_network_is_a_dot_and_the_robust_arms_mean_goes_across():
    distance, recognised = controls(kinds_of_rows()).axes
    for arm, levels in LEVELS.items():
        assert heights(distance, arm) == list(levels)
    assert heights(recognised, "robust") == [0.4, 0.36]
    across = [line.get_ydata()[0] for line in distance.lines if list(line.get_xdata()) == [0, 1]]
    assert across == pytest.approx([0.81, 1])


def test_every_dot_lies_inside_the_axes():
    for ax in controls(full()).axes:
        low, high = ax.get_ylim()
        assert all(low < height < high for _, height, *_ in dots(ax))


def test_what_is_no_network_of_ours_stands_last_and_others_networks_are_hollow():
    ax = controls(full()).axes[1]
    names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert names[-3:] == ["PCA of pixels", "others', standard", "others', robust"]
    assert [face for *_, face, _ in dots(ax)][-3:] == [style.ROLES["pca"].colour.lower(), "#ffffff", "#ffffff"]


def test_only_noise_starts_of_others_networks_are_compared():
    others = pd.concat(
        [kinds_of_rows({"external_robust": (0.8,)}, "external"), kinds_of_rows({"external_robust": (0.2,)}, "external", "image")]
    )
    ax = controls(pd.concat([kinds_of_rows(), others], ignore_index=True)).axes[0]
    assert dots(ax)[-1][1] == 0.8


def test_the_judges_lines_are_drawn_only_where_they_were_measured():
    rows = kinds_of_rows()
    assert "on other\ntargets" not in [text.get_text() for text in controls(rows).axes[1].texts]
    assert "on other\ntargets" in [text.get_text() for text in controls(full()).axes[1].texts]


def test_rows_that_hold_nothing_to_draw_are_refused_in_words():
    with pytest.raises(BadInput, match="no rows of claim 'INV-2'"):
        controls(kinds_of_rows()[lambda rows: rows["claim"] == "INV-3"])
    with pytest.raises(BadInput, match="arm 'guass' has no colour.*did you mean 'gauss'"):
        controls(kinds_of_rows({"guass": (0.9,)}))
