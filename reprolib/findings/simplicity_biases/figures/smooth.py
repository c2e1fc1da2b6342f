"""Smoothness drawn: first filters as pictures, total variation clean against noisy, changes of layers by depth and band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.page import LABEL_IN, PAD_IN, Page
from reprolib.figures.reading import network_means, of_claim, short_layer
from reprolib.measures.smoothness import filters
from reprolib.models.networks import MINE

MOST_SHOWN = 16  # filters in a row: of more, evenly spread ones
DRAWN = ("standard", "robust", "gauss", "untrained", MINE)
THIRDS = {"first": "first third", "middle": "middle", "last": "last third"}
BANDS = {"low": "up to 1/8 cycle/px", "middle": "1/8 to 1/4 cycle/px", "high": "above 1/4 cycle/px"}


@style.housed
def first_filters(weights: Mapping[str, Tensor]) -> Figure:
    """First filters, a row an arm, from the least total variation to the largest, which stands below each; left, means over all filters.

    weights: arm -> (o, 3, k, k) or (o, 1, k, k) of one of its networks. Each filter is shown less its mean and over its largest value, so
    that norms do not show. Raises BadInput as `reprolib.measures.smoothness.filters` does.
    """
    found = {arm: filters(weights[arm]) for arm in style.in_order([*weights])}
    if not found:
        raise BadInput("there are no weights to draw: give those of at least one arm")
    count = min(MOST_SHOWN, max(len(of.tv) for of in found.values()))
    pitch = (style.WIDE - LABEL_IN - 0.04) / count
    row, page = pitch + 0.2, Page(style.WIDE, len(found) * (pitch + 0.2) + 0.05)
    for k, (arm, of) in enumerate(found.items()):
        top, look = 0.05 + k * row, style.role(arm)
        words = f"{look.label}\nTV {of.tv.mean():.1f}\n{of.high_frequency.mean():.0%} high"
        page.label(words, top + pitch / 2, colour=look.colour if arm != "untrained" else style.INK)
        order = of.tv.argsort()
        chosen = order[np.linspace(0, len(order) - 1, min(count, len(order))).round().tolist()]
        for column, which in enumerate(chosen.tolist()):
            one = weights[arm][of.index[which]].detach().cpu().double()
            one = one - one.mean()
            x = LABEL_IN + column * pitch
            page.picture(0.5 + 0.5 * one / one.abs().max(), x, top, pitch - PAD_IN)
            page.text(f"{of.tv[which]:.1f}", x + (pitch - PAD_IN) / 2, top + pitch, ha="center", va="top", fontsize=6)
    return page.figure


@style.housed
def noise_on_maps(rows: pd.DataFrame) -> Figure:
    """Total variation of every channel's maps, noisy over clean, a panel a third of the maps; dashed: noise leaves no trace. Below, their ratio.

    rows: SIM-2, "tv_clean", "tv_noisy" and "tv_response@first" and so on, which say where a layer stands. A channel whose maps are flat
    with or without noise has no place on these axes, which are logarithmic.
    """
    key = ["arm", "seed", "network", "unit"]
    tv = of_claim(rows, "SIM-2", ("tv_clean", "tv_noisy")).pivot_table(index=key, columns="quantity", values="value").reset_index()
    tv = tv[(tv["tv_clean"] > 0) & (tv["tv_noisy"] > 0)].assign(ratio=lambda table: table["tv_noisy"] / table["tv_clean"])
    figure = style.figure(style.WIDE, 4.2)
    axes = figure.subplots(2, len(THIRDS), sharex="col", height_ratios=[1.5, 1])
    for (upper, lower), (third, words) in zip(axes.T, THIRDS.items(), strict=True):
        own = tv.merge(rows.loc[(rows["claim"] == "SIM-2") & (rows["quantity"] == f"tv_response@{third}"), key])
        for arm in style.in_order(list(own["arm"])):
            look, of_arm = style.role(arm), own[own["arm"] == arm]
            for ax, column in ((upper, "tv_noisy"), (lower, "ratio")):
                marks = {"markersize": 2.6, "alpha": 0.55, "markeredgewidth": 0, "linestyle": "none"}
                ax.plot(of_arm["tv_clean"], of_arm[column], marker=look.marker, color=look.colour, **marks)
        upper.set(xscale="log", yscale="log", title=words)
        if len(own):
            least = float(own["tv_clean"].min())
            upper.axline((least, least), (2 * least, 2 * least), **style.REFERENCE, zorder=1)
        lower.axhline(1, **style.REFERENCE, zorder=1)
        for axis in (upper.xaxis, upper.yaxis, lower.xaxis):
            axis.set_minor_formatter(NullFormatter())
        lower.set_xlabel("total variation, clean")
    axes[0][0].set_ylabel("with noise of .05")
    axes[1][0].set_ylabel("with noise / clean")
    figure.legend(handles=charts.keys(style.in_order(list(tv["arm"])), linestyle="none"), loc="outside lower center", ncols=3)
    return figure


@style.housed
def changes(rows: pd.DataFrame, arms: Sequence[str] = DRAWN) -> Figure:
    """How far noise of one band and L2 norm .05 sqrt(d) moves each layer, by depth: a line an arm, its mean; dots are networks.

    rows: SIM-3, "change_by_layer@low" and so on, with a layer's place in unit_2.
    """
    found = of_claim(rows, "SIM-3", [f"change_by_layer@{band}" for band in BANDS])
    found = found[found["arm"].isin(list(arms))].assign(depth=lambda table: table["unit_2"].astype(int))
    means = network_means(found, "quantity", "depth")
    layers = found[found["arm"] != MINE].drop_duplicates("depth").set_index("depth")["unit"].sort_index()
    figure = style.figure(style.WIDE, 2.5)
    axes = figure.subplots(1, len(BANDS), sharey=True)
    for ax, (band, words) in zip(axes, BANDS.items(), strict=True):
        own = means[means["quantity"] == f"change_by_layer@{band}"]
        charts.lines(own, ax, "depth", each="arm", markersize=0)
        charts.dots(own, ax, "depth", gap=0, side=3.6, edge=0.3)
        ax.set_xticks([*layers.index], [short_layer(name) for name in layers], rotation=90, fontsize=6)
        ax.set_title(f"{band}, {words}", fontsize=7)
    axes[0].set_ylim(0, None)
    axes[0].set_ylabel("relative change of a layer")
    figure.legend(handles=charts.keys(style.in_order(list(means["arm"]))), loc="outside lower center", ncols=5)
    return figure
