"""Alarms drawn from tidy rows: credibility and softmax inside and outside, softmax against accuracy, support by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.reading import of_claim, short_layer
from reprolib.findings.entanglement.neighbours import CLAIM, IN_FULL, N_BINS
from reprolib.findings.entanglement.outliers import ADVERSARIAL, FASHION, INSIDE, OUTLIER, TEXTURE

GROUPS: dict[str, tuple[str, str, Any]] = {
    INSIDE: ("ordinary", style.FAINT, "-"),
    OUTLIER: ("outliers", "#D55E00", "-"),
    TEXTURE: ("textures", "#009E73", "--"),
    FASHION: ("clothes", "#CC79A7", "-."),
    ADVERSARIAL: ("adversarial", style.INK, ":"),
}
"""Sets: their name, colour and line; the ordinary one is filled."""


@style.housed
def alarms(rows: pd.DataFrame) -> Figure:
    """Credibility and the largest softmax probability, ordinary images that a network has right against others; a row an arm, its networks alike.

    rows: `credibility_histogram@<set>`, `auroc_credibility@<set>`, the same of softmax, bin_confidence, bin_accuracy, bin_count and ece of
    ENT-5. Shares and AUROCs are means over networks. Right: accuracy against confidence on all ordinary images, a dot a bin and network
    as large as the bin is full.
    """
    found = of_claim(rows, CLAIM)
    arms = _in_full(found)
    figure = style.figure(style.WIDE, 0.5 + 1.85 * len(arms))
    panels = figure.subplots(len(arms), 3, squeeze=False, width_ratios=[1.15, 1.15, 0.9])
    for row, arm in zip(panels, arms, strict=True):
        of = found[found["arm"] == arm]
        for ax, score, words in zip(row, ("credibility", "softmax"), ("credibility", "largest softmax probability"), strict=False):
            areas: dict[str, float] = {}
            for name in _sets(of, f"{score}_histogram"):
                shares = of[of["quantity"] == f"{score}_histogram@{name}"].groupby("unit")["value"].mean().to_numpy()
                _outline(ax, shares, np.linspace(0, 1, len(shares) + 1), name)
                areas |= {} if name == INSIDE else {name: float(of[of["quantity"] == f"auroc_{score}@{name}"]["value"].mean())}
            ax.set(xlim=(0, 1), ylim=(0.001, 1.1), xlabel=words, yscale="log")
            _numbers(ax, areas)
        row[0].set_title(style.role(arm).label, color=style.role(arm).colour, pad=11)
        row[0].set_ylabel("share of images")
        _reliability(row[2], of, arm)
    figure.legend(handles=_keys(found, "credibility_histogram"), loc="outside lower center", ncols=len(GROUPS))
    return figure


@style.housed
def support(rows: pd.DataFrame) -> Figure:
    """How many neighbours have the predicted class, in three layers of the first network of an arm; right, what that tells apart, layer by layer.

    rows: `support_histogram@<set>` and `support_auroc_by_layer@<set>` of ENT-5. AUROCs of the same layer and network stand in the panels;
    right the deciding outliers alone, a line a network.
    """
    found = of_claim(rows, CLAIM)
    bars = found[found["quantity"].str.startswith("support_histogram@")].assign(set=lambda one: one["quantity"].str.partition("@")[2])
    areas = found[found["quantity"].str.startswith("support_auroc_by_layer@")].assign(set=lambda one: one["quantity"].str.partition("@")[2])
    arms = [arm for arm in _in_full(areas) if arm in set(bars["arm"])]
    if not arms:
        raise BadInput("there are no rows of support_histogram of standard or entangled networks: measure them first")
    figure = style.figure(style.WIDE, 0.55 + 1.6 * len(arms))
    grid = figure.add_gridspec(len(arms), 4, width_ratios=[1, 1, 1, 1.25])
    for k, arm in enumerate(arms):
        of, by_layer = bars[bars["arm"] == arm], areas[areas["network"].isin(bars[bars["arm"] == arm]["network"])]
        told = by_layer.set_index(["set", "unit"])["value"].to_dict()
        layers = _in_order(areas[areas["arm"] == arm], of["unit"])
        for column, layer in enumerate(layers):
            ax = figure.add_subplot(grid[k, column])
            for name in _sets(of, "support_histogram"):
                shares = of[(of["set"] == name) & (of["unit"] == layer)].sort_values("unit_2")["value"].to_numpy()
                _outline(ax, shares, np.linspace(0, 1, len(shares) + 1), name)
            _numbers(ax, {name: float(told[name, layer]) for name in _sets(of, "support_histogram") if name != INSIDE})
            ax.set(xlim=(0, 1), ylim=(0, 1.02))
            ax.set_title(f"{style.role(arm).label}, {short_layer(layer)}", fontsize=7, color=style.role(arm).colour, pad=11)
            ax.tick_params(labelleft=column == 0, labelbottom=k == len(arms) - 1)
            if k == len(arms) - 1:
                ax.set_xlabel("share of neighbours")
    ax = figure.add_subplot(grid[:, 3])
    deciding = areas[(areas["set"] == OUTLIER) & areas["arm"].isin(_in_full(areas))].assign(at=lambda one: one["unit_2"].astype(int))
    charts.lines(deciding, ax, "at", markersize=3.5, linewidth=1.0)
    ax.axhline(0.5, **style.CHANCE)
    ax.set(ylim=(min(0.45, float(deciding["value"].min()) - 0.02), 1.02), xlabel="place of the layer")
    ax.set_title("AUROC, outliers, by layer", fontsize=7, pad=11)
    figure.legend(handles=[*_keys(bars, "support_histogram"), *charts.keys(_in_full(areas))], loc="outside lower center", ncols=7)
    figure.supylabel("share of images", fontsize=8)
    return figure


def _reliability(ax: Axes, of: pd.DataFrame, arm: str) -> None:
    look = style.role(arm)
    bins = of[of["quantity"].isin(["bin_confidence", "bin_accuracy", "bin_count"])]
    bins = bins.pivot_table(index=["network", "unit"], columns="quantity", values="value").dropna()
    ax.plot([0, 1], [0, 1], **style.REFERENCE)
    area = 90 * bins["bin_count"] / bins.groupby("network")["bin_count"].transform("sum")
    ax.scatter(bins["bin_confidence"], bins["bin_accuracy"], s=4 + area, color=look.colour, marker=look.marker, alpha=0.6, linewidth=0)
    ece = of[of["quantity"] == "ece"]["value"]
    ax.text(0.04, 0.95, f"ECE {ece.mean():.3f}", transform=ax.transAxes, va="top", fontsize=7)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel=f"confidence, {N_BINS} bins", ylabel="accuracy")


def _outline(ax: Axes, shares: NDArray[Any], edges: NDArray[Any], name: str) -> None:
    _, colour, line = GROUPS[name]
    if name == INSIDE:
        ax.stairs(shares, edges, fill=True, color=colour, alpha=0.35, baseline=1e-6)
    else:
        ax.stairs(shares, edges, color=colour, linestyle=line, linewidth=1.1, baseline=1e-6)


def _numbers(ax: Axes, areas: Mapping[str, float]) -> None:
    """AUROCs above a panel, in the colours of their sets."""
    ax.text(0, 1.01, "AUROC", fontsize=5.5, transform=ax.transAxes, va="bottom")
    for k, (name, area) in enumerate(areas.items()):
        look: dict[str, Any] = {"color": GROUPS[name][1], "fontsize": 6, "transform": ax.transAxes, "va": "bottom", "ha": "right"}
        ax.text(1 - 0.2 * (len(areas) - 1 - k), 1.01, f"{area:.2f}", **look)


def _keys(rows: pd.DataFrame, quantity: str) -> list[Line2D]:
    found = []
    for name in _sets(rows, quantity):
        words, colour, line = GROUPS[name]
        wide: dict[str, Any] = {"linewidth": 5, "alpha": 0.35} if name == INSIDE else {"linewidth": 1.2}
        found.append(Line2D([], [], color=colour, linestyle=line, label=words, **wide))
    return found


def _in_full(rows: pd.DataFrame) -> list[str]:
    arms = [arm for arm in style.in_order(list(rows["arm"])) if arm in IN_FULL]
    if not arms:
        raise BadInput("there are no rows of standard or entangled networks: measure them first")
    return arms


def _sets(rows: pd.DataFrame, score: str) -> list[str]:
    return [name for name in GROUPS if f"{score}@{name}" in set(rows["quantity"])]


def _in_order(rows: pd.DataFrame, layers: Sequence[str] | pd.Series[str]) -> list[str]:
    """The distinct layers, by the place that rows of AUROCs give them."""
    place = dict(zip(rows["unit"], rows["unit_2"], strict=True))
    return sorted(set(layers), key=lambda layer: str(place[layer]))
