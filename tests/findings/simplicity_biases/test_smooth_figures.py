"""Figures of smoothness from planted rows and weights: what is where."""

import pandas as pd
import problems
import pytest
import torch
from drawing import assert_on_page, pictures, row, words

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.simplicity_biases.figures import smooth

LAYERS = ["stem", "stage1.block1.relu1", "stage3.block1.relu2"]
ARMS = ("standard", "robust", "gauss", "untrained", "blur")


def planted():
    """Two networks an arm, three layers of four channels, one a third; in the robust arm noise leaves less trace."""
    rows = []
    for arm in ARMS:
        for seed in (0, 1):
            for depth, (layer, third) in enumerate(zip(LAYERS, smooth.THIRDS, strict=True)):
                for k in range(4):
                    unit, clean, grown = f"{layer}:{k:03d}", 10.0 * 2 ** (depth + k), 1.1 if arm == "robust" else 2.0
                    rows.append(row("SIM-2", f"tv_response@{third}", arm, seed, unit, "", (grown - 1) / (grown + 1)))
                    if arm in ("standard", "robust"):
                        rows += [
                            row("SIM-2", name, arm, seed, unit, "", tv) for name, tv in (("tv_clean", clean), ("tv_noisy", grown * clean))
                        ]
                for band in smooth.BANDS:
                    rows.append(row("SIM-3", f"change_by_layer@{band}", arm, seed, layer, f"{depth:02d}", 0.1 * (depth + 1 + seed)))
    return pd.DataFrame(rows)


def clouds(ax):
    """Colour -> the places (n, 2) of its dots."""
    return {line.get_color(): line.get_xydata() for line in ax.lines if line.get_linestyle() == "None"}


def test_each_third_has_its_channels_in_the_arms_colours_and_where_no_trace_is_left_is_dashed():
    figure = smooth.noise_on_maps(planted())
    assert_on_page(figure)
    upper, lower = figure.axes[:3], figure.axes[3:]
    assert [ax.get_title(loc="left") for ax in upper] == list(smooth.THIRDS.values())
    for depth, (ax, below) in enumerate(zip(upper, lower, strict=True)):
        for arm, grown in (("standard", 2.0), ("robust", 1.1)):
            places = clouds(ax)[style.role(arm).colour]
            assert sorted(places[:, 0].tolist()) == sorted(2 * [10.0 * 2 ** (depth + k) for k in range(4)])
            assert (places[:, 1] / places[:, 0]).tolist() == pytest.approx([grown] * 8)
            assert clouds(below)[style.role(arm).colour][:, 1].tolist() == pytest.approx([grown] * 8)
        level = next(line for line in below.lines if line.get_linestyle() == "--")
        assert set(level.get_ydata()) == {1}
        assert any(line.get_linestyle() == "--" for line in ax.lines)


def test_a_flat_channel_has_no_place_on_logarithmic_axes():
    rows = planted()
    rows.loc[(rows["quantity"] == "tv_clean") & (rows["unit"] == "stem:000"), "value"] = 0
    figure = smooth.noise_on_maps(rows)
    assert sum(map(len, clouds(figure.axes[0]).values())) == 12


def test_changes_run_over_depth_in_execution_order_a_line_an_arm_that_is_drawn():
    figure = smooth.changes(planted())
    assert_on_page(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["stem", "1.1.1", "3.1.2"]
    for ax in figure.axes:
        lines = {line.get_color(): line.get_ydata().tolist() for line in ax.lines if len(line.get_xdata())}
        assert set(lines) == {style.role(arm).colour for arm in ("standard", "robust", "gauss", "untrained")}
        assert lines[style.role("robust").colour] == pytest.approx([0.15, 0.25, 0.35])
    assert "blur-trained" not in words(figure)


def test_filters_stand_from_the_least_total_variation_to_the_largest_whatever_their_norm():
    weight = torch.zeros(3, 3, 7, 7)
    weight[0] = torch.rand(3, 7, 7, generator=problems.generator())
    weight[1, :, :, 4:] = 1e-3  # a step
    figure = smooth.first_filters({"robust": weight, "untrained": problems.images(3, 3, 7, 7)})
    assert_on_page(figure)
    shown = pictures(figure)
    assert len(shown) == 2 + 3  # the filter of zeros is left out
    step = shown[0].get_array()
    assert len(set(step.flatten().tolist())) == 2
    assert float(step.max()) == pytest.approx(1)
    assert any("robust" in text and "% high" in text for text in words(figure))


def test_figures_without_rows_say_what_is_missing():
    rows = planted()
    for draw, claim in ((smooth.noise_on_maps, "SIM-2"), (smooth.changes, "SIM-3")):
        with pytest.raises(BadInput, match=f"no rows of claim '{claim}'"):
            draw(rows[rows["claim"] != claim])
    with pytest.raises(BadInput, match="no weights to draw"):
        smooth.first_filters({})
