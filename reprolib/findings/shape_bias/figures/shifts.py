"""The shift between kinds of networks: against controls, and against the ratio of the cues' margins."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from reprolib.data import shapetexture
from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.shape_bias.reading import pairs, shifts

TOO_STRONG = 0.7  # rho = radius over a texture's energy: from here on drawn grey
SETS = {"@2:1": "shapetexture_2to1", "@1:1": "shapetexture_1to1", "@1:2": "shapetexture_1to2", "@tinycnn": "shapetexture"}


@style.housed
def controls(rows: pd.DataFrame) -> Figure:
    """Left the robust arm minus each control, right each control minus the standard arm: shape bias with its 95 % interval.

    rows: "answers" of SHP-1. Where an interval needs more networks there is a dot alone; where no control was measured, empty axes.
    """
    table = shifts(rows)
    kinds = style.in_order(list(table["control"])) if len(table) else []
    figure = style.figure(style.WIDE, 1.1 + 0.25 * max(len(kinds), 1))
    for ax, side, title in zip(
        figure.subplots(1, 2, sharex=True, sharey=True), ("robust minus it", "it minus standard"),
        ("robust minus the control", "the control minus standard"), strict=True,
    ):  # fmt: skip
        for one in table[table["side"] == side].to_dict("records") if len(table) else ():
            look, y = style.role(str(one["control"])), kinds.index(str(one["control"]))
            if math.isfinite(one["low"]):
                ax.plot([one["low"], one["high"]], [y, y], color=look.colour, linewidth=1.4, zorder=2)
            ax.plot([one["estimate"]], [y], color=look.colour, marker=look.marker, linestyle="none", zorder=3)
        ax.axvline(0, color=style.INK, linewidth=0.7, zorder=0)
        ax.set_yticks(range(len(kinds)), [style.role(kind).label for kind in kinds])
        ax.set_ylim(max(len(kinds), 1) - 0.5, -0.5)
        ax.set_xlabel("difference of shape bias")
        ax.set_title(title)
    return figure


@style.housed
def margins(rows: pd.DataFrame) -> Figure:
    """Robust minus standard, a dot a pair of seeds of TinyCNN, against the ratio of shape margin to texture margin: shape bias, graded preference.

    rows: "answers@1:1" and so on of SHP-1, of which some must be there. Sets whose radius is `TOO_STRONG` for a texture are grey.
    """
    found = {at: pairs(rows, at) for at in SETS}
    found = {at: table for at, table in found.items() if len(table)}
    if not set(found) - {"@tinycnn"}:
        raise BadInput("there are no rows of networks trained on margin sets: ask them first")
    told = shapetexture.calibration()["sets"]
    ratios = {at: told[SETS[at]]["margins"] for at in found}
    figure = style.figure(style.WIDE, 2.7)
    panels = figure.subplots(1, 2)
    for ax, column, words in zip(panels, ("value", "graded"), ("shape bias", "graded preference"), strict=True):
        for at, table in found.items():
            if table[column].isna().all():
                continue
            grey = ratios[at]["rho"] >= TOO_STRONG
            colour = style.FAINT if grey else style.role("robust").colour
            x = [math.log2(ratios[at]["ratio"]) + 0.04 * (k - (len(table) - 1) / 2) for k in range(len(table))]
            ax.plot(x, table[column], color=colour, marker="s", linestyle="none", markerfacecolor="white" if at == "@tinycnn" else colour)
            place = (math.log2(ratios[at]["ratio"]), float(table[column].max()))
            ax.annotate(
                f"rho {ratios[at]['rho']:.2f}", place, xytext=(0, 6), textcoords="offset points", ha="center", fontsize=6, color=colour
            )
        ax.axhline(0, color=style.INK, linewidth=0.7, zorder=0)
        ax.set_xticks([-1, 0, 1], ["1:2", "1:1", "2:1"])
        ax.set(xlim=(-1.4, 1.4), xlabel="shape margin : texture margin (log)", ylabel=f"robust minus standard,\n{words}")
        ax.margins(y=0.2)
    panels[0].set_title("TinyCNN; hollow: the main set; grey: radius too strong", fontsize=7)
    return figure
