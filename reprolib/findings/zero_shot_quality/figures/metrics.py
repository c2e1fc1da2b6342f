"""The metrics of soft labels: against temperature, class by class beside each defence, and as differences to the standard networks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.page import in_lines
from reprolib.figures.reading import network_means
from reprolib.findings.zero_shot_quality.figures.reading import BETTER, NAMES, WORDS, architectures, in_words, measured

COMPARED = ("standard", "robust", "gauss", "label_smoothing", "std_matched")
CONTROLS = ("robust", "gauss", "label_smoothing", "std_matched", "untrained")
FAR = 3
STEP = 0.15  # between the arms of one class; classes are 1 apart


@style.housed
def over_temperature(rows: pd.DataFrame) -> Figure:
    """DBM, mean over excluded classes, against the temperature of the soft labels: a line a network, a panel an architecture.

    rows: "dbm_at_temperature" of ZSQ-1. The short mark on a line is the network's mean "matched_temperature", where its entropy is that
    of all others; one outside the temperatures drawn is left out.
    """
    curves = measured(rows, ["dbm_at_temperature"]).assign(at=lambda one: one["unit"].astype(float))
    marks = rows[(rows["quantity"] == "matched_temperature") & rows["reached"].astype(bool)].groupby("network")["value"].mean()
    kinds = architectures(curves)
    n_columns = min(len(kinds), 3)
    n_rows = math.ceil(len(kinds) / n_columns)
    figure = style.figure(style.WIDE * (0.62 if n_columns == 1 else 1), (2.7 if n_rows == 1 else 2.1 * n_rows) + 0.1)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).flatten()
    for k, (ax, kind) in enumerate(zip(panels, kinds, strict=False)):
        of = curves[curves["architecture"] == kind]
        charts.lines(of, ax, "at", markersize=2.5, linewidth=0.9, markeredgewidth=0)
        _temperature_marks(ax, of, marks)
        temperatures = sorted(of["at"].unique())
        ax.set_xscale("log")
        ax.set_xticks(temperatures, [f"{one:g}" for one in temperatures])
        ax.set_xticks([], minor=True)
        ax.set_title(NAMES.get(kind, kind))
        if k >= len(kinds) - n_columns:
            ax.set_xlabel("temperature (log)", visible=True)
            ax.tick_params(labelbottom=True)
        if k % n_columns == 0:
            ax.set_ylabel(f"DBM ({BETTER['dbm']})")
    for ax in panels[len(kinds) :]:
        ax.set_axis_off()
    panels[0].set_ylim(bottom=0)
    mark = Line2D([], [], color=style.INK, marker="|", markersize=8, markeredgewidth=1.3, linestyle="none", label="entropy matched")
    handles = [*charts.keys(style.in_order(list(curves["arm"]))), mark]
    if len(kinds) < len(panels):
        panels[-1].legend(handles=handles, loc="center")
    elif n_columns == 1:
        figure.legend(handles=handles, loc="outside right center")
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


@style.housed
def paired(rows: pd.DataFrame) -> Figure:
    """Class by class, the standard arm and each defence: DBM, DBM at matched entropy, AM; means over networks, architectures alike.

    rows: "dbm", "dbm_matched" and "am" of ZSQ-1; a panel without rows is left out. A line joins standard and robust of a class; small
    dots are networks, or architectures where there are several. Architectures without a defence are left out.
    """
    found = measured(rows, list(WORDS), COMPARED)
    defended = set(found[found["arm"] != COMPARED[0]]["architecture"])
    found = found[found["architecture"].isin(defended)] if defended else found
    if found.empty:
        raise BadInput(f"there are no rows of the arms {', '.join(COMPARED)}: measure them first")
    arms = [arm for arm in COMPARED if arm in set(found["arm"])]
    kinds, classes = architectures(found), sorted(found["unit"].unique())
    quantities = [name for name in WORDS if name in set(found["quantity"])]
    apart = "architecture" if len(kinds) > 1 else "network"
    figure = style.figure(style.WIDE, 1.1 + 1.5 * len(quantities))
    panels = figure.subplots(len(quantities), 1, sharex=True, squeeze=False)[:, 0]
    who = f"mean of {len(kinds)} architectures" if len(kinds) > 1 else NAMES.get(kinds[0], kinds[0])
    for ax, quantity in zip(panels, quantities, strict=True):
        table = found[found["quantity"] == quantity].groupby(["arm", "unit", apart], as_index=False).agg(value=("value", "mean"))
        table["at"] = table["unit"].map(classes.index) + STEP * (table["arm"].map(arms.index) - (len(arms) - 1) / 2)
        _pairs(ax, table)
        ax.set_title(f"{WORDS[quantity]} ({BETTER[quantity]}), {who}")
        ax.set(ylabel=WORDS[quantity].partition(" ")[0], xlim=(-0.5, len(classes) - 0.5))
        if quantity != "dbm_matched":
            ax.set_ylim(bottom=-0.05 * ax.get_ylim()[1])
    panels[-1].set_xticks(range(len(classes)), [in_lines(in_words(name)) for name in classes], fontsize=6.5)
    panels[-1].set_xlabel("excluded class")
    small = Line2D([], [], color=style.FAINT, marker="o", markersize=2.2, linestyle="none", label=f"one {apart}")
    figure.legend(handles=[*charts.keys(arms, linestyle="none"), small], loc="outside lower center", ncols=len(arms) + 1)
    return figure


@style.housed
def controls(rows: pd.DataFrame) -> Figure:
    """Who does it: each network's DBM, AM and DBM at matched entropy less that of the standard network of its architecture and seed.

    rows: "dbm", "am" and "dbm_matched" of ZSQ-1; a panel without rows is left out. A dot a network, a bar at their mean.
    Untrained networks that differ `FAR` times as much as all others are off the panel, their mean and an arrow in their place.
    """
    found = measured(rows, list(WORDS), ("standard", *CONTROLS))
    pair = ["quantity", "architecture", "seed", "unit"]
    standard = found[found["arm"] == "standard"].groupby(pair, as_index=False).agg(level=("value", "mean"))
    table = found[found["arm"] != "standard"].merge(standard, on=pair)
    if table.empty:
        raise BadInput("no network has a standard one of its architecture and seed beside it: measure standard networks and controls")
    table["value"] = table["value"] - table["level"]
    arms = [arm for arm in CONTROLS if arm in set(table["arm"])]
    quantities = [name for name in WORDS if name in set(table["quantity"])]
    figure = style.figure(style.WIDE, 2.6)
    for ax, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        ax.axhline(0, color=style.INK, linewidth=0.7, zorder=0)
        charts.by_arm(table, ax, [(quantity, WORDS[quantity], 1.0)], arms, side=4.6)
        _in_view(ax, table[table["quantity"] == quantity], arms)
        ax.set_title(WORDS[quantity])
        ax.set_ylabel("minus the standard network" if quantity == quantities[0] else "")
        ax.set_xticks(range(len(arms)), [style.role(arm).label for arm in arms], rotation=40, ha="right", rotation_mode="anchor")
    figure.supxlabel("below 0: tighter, or nearer the full network, than the standard network of the same seed", fontsize=7)
    return figure


def _in_view(ax: Axes, table: pd.DataFrame, arms: list[str]) -> None:
    """Give the panel the height of the trained networks where untrained ones would flatten it."""
    means = network_means(table)
    untrained, trained = (means[(means["arm"] == "untrained") == is_so]["value"] for is_so in (True, False))
    if trained.empty or untrained.empty or untrained.abs().max() <= FAR * trained.abs().max():
        return
    low, high = min(float(trained.min()), 0.0), max(float(trained.max()), 0.0)
    ax.set_ylim(low - 0.1 * (high - low), high + 0.25 * (high - low))
    is_above = float(untrained.mean()) > 0
    ax.annotate(
        f"{float(untrained.mean()):+.2f}", (arms.index("untrained"), 1.0 if is_above else 0.0), xycoords=("data", "axes fraction"),
        xytext=(0, -24 if is_above else 24), textcoords="offset points", ha="center", fontsize=6.5,
        arrowprops={"arrowstyle": "->", "linewidth": 0.8},
    )  # fmt: skip


def _temperature_marks(ax: Axes, curves: pd.DataFrame, marks: pd.Series[float]) -> None:
    """A vertical mark on each network's line at its matched temperature."""
    for (arm, network), of in curves.sort_values("at").groupby(["arm", "network"]):
        at = float(marks.get(network, math.nan))
        if of["at"].min() <= at <= of["at"].max():
            height = float(np.interp(math.log(at), np.log(of["at"]), of["value"]))
            ax.plot(
                [at], [height], color=style.role(str(arm)).colour, marker="|", markersize=9, markeredgewidth=1.3, linestyle="none", zorder=4
            )


def _pairs(ax: Axes, table: pd.DataFrame) -> None:
    """Small dots of the rows, one at the mean of each arm and class, and lines from standard to robust."""
    means = table.groupby(["arm", "unit", "at"], as_index=False).agg(value=("value", "mean"))
    place = {(one["arm"], one["unit"]): (one["at"], one["value"]) for one in means.to_dict("records")}
    for name in means["unit"].unique():
        ends = [place[arm, name] for arm in COMPARED[:2] if (arm, name) in place]
        ax.plot(*zip(*ends, strict=True), color=style.FAINT, linewidth=0.8, zorder=1)
    for arm in means["arm"].unique():
        look, of, single = style.role(arm), means[means["arm"] == arm], table[table["arm"] == arm]
        ax.scatter(single["at"], single["value"], s=4, color=look.colour, alpha=0.45, linewidth=0, zorder=2)
        ax.scatter(of["at"], of["value"], s=22, color=look.colour, marker=look.marker, edgecolor="white", linewidth=0.5, zorder=3)
