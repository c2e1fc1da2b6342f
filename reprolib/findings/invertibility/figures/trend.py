"""The price of the radius: how invertible a network is, and how accurate, against the radius it was trained at."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.reading import network_means, of_claim
from reprolib.findings.invertibility.figures.charts import RATIO_LABEL
from reprolib.training.recipes import recipe

ARMS = ("standard", "robust_small", "robust", "robust_large")
TESTED = ("standard", "robust_small", "robust")
"""The radii over which a slope is tested; the largest is shown, not tested."""


@style.housed
def trend(rows: pd.DataFrame) -> Figure:
    """Distance of the inverses, and beside it clean accuracy, against the training radius: a dot per network.

    rows: claim "INV-2", quantity "distance_ratio", of the arms standard, robust_small, robust and robust_large (others are not
    drawn), and claim "networks", quantity "clean_accuracy". A network's radius is its recipe's. The line joins means over
    networks, dotted to the largest radius, which no slope includes.
    Raises BadInput where fewer than two radii are there, or a recipe is unknown.
    """
    distance, accuracy = of_claim(rows, "INV-2", ["distance_ratio"]), of_claim(rows, "networks", ["clean_accuracy"])
    figure = style.figure(style.WIDE, 2.7)
    left, right = figure.subplots(1, 2)
    _path(left, distance)
    left.axhline(1, **style.CHANCE, zorder=0)
    left.text(1, 1.004, "no nearer than the start", transform=left.get_yaxis_transform(), ha="right", va="bottom", fontsize=6.5)
    left.set_ylim(min(0.8, left.get_ylim()[0]), max(1.05, left.get_ylim()[1]))
    left.set_ylabel(RATIO_LABEL)
    left.set_title("INV-2: lower is nearer to the target")
    _path(right, accuracy)
    right.set_ylim(0, 1.02)
    right.set_ylabel("clean accuracy")
    right.set_title("what it costs")
    handles = charts.keys(style.in_order([arm for arm in distance["arm"].unique() if arm in ARMS]), linestyle="none")
    if "robust_large" in set(distance["arm"]):
        handles.append(Line2D([], [], color=style.FAINT, linewidth=1.0, linestyle=":", label="shown, not tested"))
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure


def _path(ax: Axes, found: pd.DataFrame) -> None:
    """Dots of networks over their radii, and a line through the mean at each."""
    found = found[found["arm"].isin(ARMS)]
    means = network_means(found.assign(eps=[recipe(name).eps for name in found["recipe"]]), "eps")
    if means["eps"].nunique() < 2:
        there = ", ".join(f"{eps:g}" for eps in sorted(means["eps"].unique())) or "none"
        raise BadInput(f"a trend needs networks of at least two training radii: the rows hold {there}; measure robust arms too")
    levels = means.groupby("eps")["value"].mean()
    n_tested = int((levels.index <= means[means["arm"].isin(TESTED)]["eps"].max()).sum())
    ax.plot(levels.index[:n_tested], levels[:n_tested], color=style.FAINT, linewidth=1.0, zorder=1)
    ax.plot(levels.index[n_tested - 1 :], levels[n_tested - 1 :], color=style.FAINT, linewidth=1.0, linestyle=":", zorder=1)
    charts.dots(means, ax, "eps", gap=0.025 * float(levels.index.max()))
    ax.set_xticks(list(levels.index), [f"{eps:g}" for eps in levels.index])
    ax.set_xlabel("training radius, L2, pixel units (0: standard)")
