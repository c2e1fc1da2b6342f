"""Figures of layers from planted rows: what is where."""

import pandas as pd
import pytest
from drawing import assert_on_page, dots, heights, row, words
from matplotlib.colors import to_hex

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.entanglement.figures import by_layer, gradient_signs, over_temperature, through_training

LAYERS = ["stem", "stage1.block1.relu1", "stage3.block1.relu2", "pooled"]
LEVEL = {"standard": 0.4, "robust": 0.5, "entangled": 0.7, "untrained": 0.8, "gauss": 0.45, "mine": 0.3}


def planted():
    """Two networks an arm; entanglement falls by layer, and each arm has a level of its own; the attack adds .3."""
    rows = []
    for arm, level in LEVEL.items():
        for seed in (0, 1):
            for place, layer in enumerate(LAYERS):
                value = level - 0.1 * place + 0.01 * seed
                rows.append(row("ENT-9", "entanglement_by_layer", arm, seed, layer, f"{place:02d}", value))
                if arm in ("standard", "robust"):
                    for quantity, more in (("clean", 0.0), ("attacked", 0.9), ("headroom_lost", 0.3)):
                        rows.append(row("ENT-10", f"{quantity}_by_layer@wide", arm, seed, layer, f"{place:02d}", value + more))
            rows.append(row("ENT-7", "gradient_entanglement", arm, seed, "00", "", level))
    for epoch in (0, 1, 2, 8):
        rows += [
            row("ENT-1", "entanglement_by_epoch", "standard", 0, layer, f"{p:02d}@{epoch:03d}", 0.9 - 0.02 * epoch * p)
            for p, layer in enumerate(LAYERS)
        ]
    for arm in ("standard", "robust", "mine"):
        for place in (0, 2, 3):
            for k in range(-4, 5):
                value = 0.2 + 0.05 * (k - (place if arm == "standard" else 0)) ** 2 / 2
                rows.append(row("ENT-9", "loss_over_temperature", arm, 0, LAYERS[place], f"{place:02d}@{k:.3f}", value))
    return pd.DataFrame(rows)


def lines(ax, style_="-"):
    return {to_hex(line.get_color()): line for line in ax.lines if line.get_linestyle() == style_ and len(line.get_xdata()) > 2}


def has_bound(ax):
    return any(line.get_linestyle() == "--" and set(line.get_ydata()) == {1} for line in ax.lines)


def test_training_is_drawn_a_line_an_epoch_the_darker_the_later():
    figure = through_training(planted())
    assert_on_page(figure, 0.75 * style.WIDE)
    (ax,) = figure.axes
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 4]
    assert [line.get_label() for line in drawn] == ["0, untrained", "1", "2", "8"]
    assert [line.get_ydata()[-1] for line in drawn] == pytest.approx([0.9, 0.84, 0.78, 0.42])
    brightness = [sum(line.get_color()[:3]) for line in drawn]
    assert brightness == sorted(brightness, reverse=True)
    assert has_bound(ax)
    assert {"stem", "1.1.1", "pooled"} <= set(words(figure))


def test_arms_are_lines_by_layer_clean_and_attacked_and_headroom_beside():
    figure = by_layer(planted())
    assert_on_page(figure)
    clean, attacked, headroom = figure.axes
    of = lines(clean)
    assert style.role("gauss").colour.lower() not in of
    for arm in ("standard", "entangled", "mine"):
        level = [LEVEL[arm] - 0.1 * place + 0.005 for place in range(4)]
        assert of[style.role(arm).colour.lower()].get_ydata().tolist() == pytest.approx(level)
        assert len(heights(clean, arm)) == 8
    colour = style.role("robust").colour.lower()
    assert lines(attacked, "--")[colour].get_ydata().tolist() == pytest.approx([1.405, 1.305, 1.205, 1.105])
    assert lines(attacked)[colour].get_ydata().tolist() == pytest.approx([0.505, 0.405, 0.305, 0.205])
    assert attacked.get_ylim()[1] > 1.4
    assert lines(headroom)[colour].get_ydata().tolist() == pytest.approx([0.805, 0.705, 0.605, 0.505])
    assert has_bound(clean)
    assert not has_bound(headroom)


def test_a_network_that_loses_a_thousand_times_its_room_leaves_the_arms_their_height():
    lost = {"clean": 1, "attacked": 0.6, "headroom_lost": -600}
    own = pd.DataFrame([row("ENT-10", f"{of}_by_layer@wide", "mine", 0, LAYERS[0], "00", value) for of, value in lost.items()])
    rows = pd.concat([planted(), own])
    assert by_layer(rows).axes[2].get_ylim()[0] >= -1
    assert by_layer(rows[rows["arm"] == "mine"]).axes[2].get_ylim()[0] <= -600


def test_without_attacks_there_is_one_panel():
    rows = planted()
    assert len(by_layer(rows[rows["claim"] != "ENT-10"]).axes) == 1
    assert len(by_layer(rows[(rows["claim"] == "ENT-9") & (rows["arm"] == "mine")]).axes) == 1


def test_each_curve_has_its_minimum_marked():
    figure = over_temperature(planted())
    assert_on_page(figure)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["stem", "3.1.2", "pooled"]
    for place, ax in zip((0, 2, 3), figure.axes, strict=True):
        marks = {to_hex(line.get_color()): line for line in ax.lines if len(line.get_xdata()) == 1}
        assert marks[style.role("standard").colour.lower()].get_xdata()[0] == pytest.approx(10.0**place)
        assert marks[style.role("robust").colour.lower()].get_xdata()[0] == pytest.approx(1)
        assert has_bound(ax)


def test_gradient_signs_are_a_dot_a_network_below_the_bound():
    rows = planted()
    figure = gradient_signs(rows)
    assert_on_page(figure, style.NARROW + 0.4)
    (ax,) = figure.axes
    assert "untrained" not in " ".join(words(figure))
    assert heights(ax, "robust") == [0.5, 0.5]
    assert len(dots(ax)) == 2 * 5
    assert has_bound(ax)


@pytest.mark.parametrize("draw", [through_training, by_layer, over_temperature, gradient_signs])
def test_rows_of_other_claims_are_refused_in_words(draw):
    with pytest.raises(BadInput, match="measure it first"):
        draw(planted().assign(claim="ENT-2"))
