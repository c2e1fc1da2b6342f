"""What the units of each layer detect: shares of colours, textures, parts and objects, standard beside robust, over the floor of random masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reprolib.figures import style
from reprolib.figures.reading import of_claim, short_layer
from reprolib.findings.simplicity_biases.dissecting import LABELS
from reprolib.findings.simplicity_biases.figures.diverse import in_execution
from reprolib.findings.simplicity_biases.rows import IN_FULL

COLOURS = {"colour": "#E08E45", "texture": "#9A7B4F", "part": "#7FA6C9", "object": style.INK, "none": "#EEEEEE"}
"""Categories from the bottom of a bar to its top: warm ones are low-level."""


def shares(rows: pd.DataFrame, known: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """A row an arm and layer, networks alike: the share of live units that detect each category, that of none, and that of random masks ("floor").

    rows: "concept" and "random_iou" of SIM-4. known: category and name of each concept, in the order in which rows count them.
    """
    there = of_claim(rows, LABELS, ["concept"])
    there = there.assign(
        category=["none" if not found else known[int(k)][0] for k, found in zip(there["value"], there["reached"], strict=True)]
    )
    floor = of_claim(rows, LABELS, ["random_iou"])
    table = pd.concat([
        pd.get_dummies(there["category"]).reindex(columns=[*COLOURS], fill_value=False).assign(**there[["arm", "network", "unit"]]),
        floor[["arm", "network", "unit"]].assign(floor=floor["reached"]),
    ])  # fmt: skip
    table["layer"] = table["unit"].str.rpartition(":")[0]
    of_networks = table.drop(columns="unit").groupby(["arm", "layer", "network"], sort=False).mean(numeric_only=False)
    return of_networks.astype(float).groupby(["arm", "layer"], sort=False).mean().reset_index()


@style.housed
def detectors(rows: pd.DataFrame, known: Sequence[tuple[str, str]]) -> Figure:
    """Bars stacked by category for each layer, an arm a panel; a line at the share of units that detect some random mask.

    rows: "concept" and "random_iou" of SIM-4. known: category and name of each concept, in the order in which rows count them.
    """
    table = shares(rows, known)
    layers = in_execution(table["layer"])
    arms = [arm for arm in style.in_order(list(table["arm"])) if arm in IN_FULL]
    figure = style.figure(style.WIDE, 2.6)
    panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for ax, arm in zip(panels, arms, strict=True):
        own = table[table["arm"] == arm].set_index("layer")
        own = own.reindex([layer for layer in layers if layer in own.index])
        places, bottom = np.arange(len(own)), np.zeros(len(own))
        for category, colour in COLOURS.items():
            ax.bar(places, own[category], bottom=bottom, width=0.82, color=colour, linewidth=0)
            bottom = bottom + own[category].to_numpy()
        ax.step(np.append(places, len(own)) - 0.5, [*own["floor"], own["floor"].iloc[-1]], where="post", color="#C2185B", linewidth=1.3)
        ax.set_xticks(places, [short_layer(layer) for layer in own.index], rotation=90 if len(own) > 4 else 0, fontsize=6.5)
        ax.set(xlim=(-0.6, len(own) - 0.4), ylim=(0, 1), xlabel="layer")
        ax.set_title(style.role(arm).label)
        ax.tick_params(axis="x", length=0)
    panels[0].set_ylabel("share of live units")
    handles: list[Patch | Line2D] = [Patch(color=colour, label=category) for category, colour in COLOURS.items()]
    handles.append(Line2D([], [], color="#C2185B", linewidth=1.3, label="detect a random mask"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure
