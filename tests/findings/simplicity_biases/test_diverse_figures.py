"""Figures of kinds, preferences and ablation from planted rows, and the explorer's screen of a unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import problems
import pytest
import torch
from drawing import assert_on_page, pictures, row, words
from matplotlib.contour import ContourSet

import reprolib
from reprolib.figures import style
from reprolib.findings.simplicity_biases import dissecting, explorer, kinds
from reprolib.findings.simplicity_biases.figures import diverse
from reprolib.models.networks import Network, weights_sha256
from reprolib.study import Study

LAYERS = ("stem", "stage1.block1.relu1", "stage1.block1.relu2", "stage2.block1.relu1")


def planted() -> pd.DataFrame:
    rows = []
    for arm, level in {"standard": 0.4, "robust": 0.6, "untrained": 0.9}.items():
        for seed in (0, 1):
            for layer in LAYERS:
                for unit in range(6):
                    name = f"{layer}:{unit:03d}"
                    rows.append(row("SIM-6", "diversity", arm, seed, name, "", level + 0.02 * unit))
                    rows += [row("SIM-4", quantity, arm, seed, name, "", level) for quantity in (*diverse.PANELS, "texture_auroc_floor")]
                if arm != "untrained":
                    rows.append(row("SIM-8", "removed@texture", arm, seed, layer, "", 2 + 2 * seed))
                    rows.append(row("SIM-8", "by_layer@texture", arm, seed, layer, "", level))
                    for word, value in {"mean": 0.2, "low": 0.1, "high": 0.3}.items():
                        rows.append(row("SIM-8", "random_by_layer@texture", arm, seed, layer, word, value))
    return pd.DataFrame(rows)


@pytest.mark.parametrize("draw", [diverse.preferences, diverse.diversity, diverse.ablation], ids=lambda draw: draw.__name__)
def test_every_figure_is_drawn_and_its_ink_is_on_the_page(draw: Any) -> None:
    figure = draw(planted())
    figure.draw_without_rendering()
    assert_on_page(figure)
    assert {"standard", "robust"} <= {word.removeprefix("detectors, ") for word in words(figure)}


def test_what_is_drawn_stands_where_its_rows_say() -> None:
    figure = diverse.ablation(planted())
    texture = figure.axes[0]
    own = [line for line in texture.lines if line.get_marker() == "o"][0]
    assert sorted(set(own.get_ydata())) == [0.4]
    assert sorted({round(float(x) / 1.07) for x in own.get_xdata()}) == [2, 4]
    assert words(figure).count("no such detector") == 2  # of objects, an arm a panel
    assert "share of images turned wrong" in words(figure)


def test_a_readers_network_is_ablated_beside_the_arms_though_it_is_one_of_theirs() -> None:
    rows = planted()
    mine = rows[(rows["claim"] == "SIM-8") & (rows["arm"] == "robust")].assign(arm="mine")
    figure = diverse.ablation(pd.concat([rows, mine], ignore_index=True))
    assert {f"{arm}: texture detectors" for arm in ("standard", "robust", "mine")} <= set(words(figure))
    assert_on_page(figure)


def test_layers_are_in_the_order_of_execution_with_numbers_as_numbers() -> None:
    assert diverse.in_execution([*reversed(LAYERS), "stem"]) == list(LAYERS)
    assert diverse.in_execution(["dense1", "conv10", "conv2"]) == ["conv2", "conv10", "dense1"]
    assert diverse.spoken("stage2.block1.relu1:007") == "2.1.1, unit 7"


def carded(architecture: str, seed: int, recipe: str) -> Network:
    network = problems.network(architecture, seed=seed)
    network.sha256 = weights_sha256(network)
    network.card = {"name": f"{recipe} {seed}", "description": {"recipe": {"id": recipe}, "architecture": architecture, "seed": seed}}
    return network


@pytest.fixture
def study(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    made = reprolib.start("simplicity_biases", {"scale": "smoke"})
    monkeypatch.setattr(made, "judges", lambda: {"standard": carded("tinycnn", 9, "std")})
    return made


def test_cards_and_the_explorer_show_top_images(study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    nets = {"standard": [carded("pool", 0, "std")], "robust": [carded("pool", 1, "l2_075")]}
    of = [(arm, network, f"stem:{k:03d}", v) for arm, (network,) in nets.items() for k, v in enumerate((0.5, 0.2, 0.9))]
    rows = pd.DataFrame([row("SIM-6", "diversity", arm, 0, unit, "", v) | {"network": network.sha256[:12]} for arm, network, unit, v in of])
    rows = pd.concat(
        [rows, rows[:1].assign(claim="SIM-4", quantity="concept", value=1), rows[:1].assign(claim="SIM-4", quantity="iou", value=0.06)]
    )
    figure = diverse.unit_cards(study, nets, rows)
    assert figure is not None
    assert len(pictures(figure)) == 4 * 9
    assert {"stem, unit 1: 0.20", "stem, unit 2: 0.90"} <= set(words(figure))
    study.add(rows)
    known = pd.MultiIndex.from_tuples([("colour", "red"), ("texture", "dots")])
    monkeypatch.setattr(dissecting, "ceilings", lambda study: pd.Series([0.05, 0.16], index=known))
    screen = explorer.Screen(study, nets)
    assert screen.told(nets["standard"][0], "stem:000") == "stem:000; detects texture dots, IoU 0.060 of at most 0.16; diversity 0.50"
    assert screen.told(nets["standard"][0], "stem:009") == "stem:009: dead, or not measured"
    stem, later = (screen.png("standard, 0", layer, 2) for layer in ("stem", "stage1.block1.relu1"))
    assert stem.startswith(b"\x89PNG")
    assert stem != later
    assert screen.png("standard, 0", "stem", 15) == screen.png("standard, 0", "stem", 99)  # the last one
    shown = explorer.units(study, nets, "on")
    assert shown is not None
    assert explorer.units(study, nets, "off") is None
    assert "nobody is watching" in capsys.readouterr().out
    study.measured = "no (absent)"
    assert explorer.units(study, nets, "on") is None
    assert diverse.unit_cards(study, nets, rows) is None
    assert len(kinds.unit_names(nets["standard"][0], screen.images)) == 464


def test_the_outline_of_a_map_lies_where_the_picture_shows_it() -> None:
    figure = style.figure(2, 2)
    ax = figure.subplots()
    ax.imshow(np.zeros((8, 8)), extent=(0, 1, 1, 0))
    active = torch.zeros(8, 8)
    active[1, 6] = 1.0  # near the top, on the right
    explorer.outline(ax, active)
    (contour,) = (one for one in ax.collections if isinstance(one, ContourSet))
    across, down = np.concatenate([path.vertices for path in contour.get_paths()]).mean(axis=0)
    assert (across, down) == (pytest.approx(6.5 / 8, abs=0.03), pytest.approx(1.5 / 8, abs=0.03))
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # 0 is the top
    explorer.outline(ax, torch.zeros(8, 8))  # nowhere active
    assert len(ax.collections) == 1
