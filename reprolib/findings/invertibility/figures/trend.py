"""The price of the radius: how invertible a network is, and how accurate, against the radius it was trained at."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprolib.figures import charts, style
from reprolib.figures.reading import network_means, of_claim
from reprolib.findings.invertibility.figures.charts import RATIO_LABEL
from reprolib.training.recipes import recipe


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
    handles = charts.radius_keys(list(distance["arm"]))
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure


def _path(ax: Axes, found: pd.DataFrame) -> None:
    """Networks over the radii of their recipes."""
    found = found[found["arm"].isin(charts.RADII)]
    charts.by_radius(network_means(found.assign(eps=[recipe(name).eps for name in found["recipe"]]), "eps"), ax)
    ax.set_xlabel("training radius, L2, pixel units (0: standard)")
