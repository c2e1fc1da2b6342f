"""The tightness of soft labels beside the strength that attacks need: a dot a network, by architecture and defence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import in_lines
from reprolib.figures.reading import network_means
from reprolib.findings.zero_shot_quality.figures.reading import ATTACKS, NAMES, architectures, measured
from reprolib.training.recipes import recipe

MARKERS = dict(zip(NAMES, "os^DPX", strict=True))
SHOWN = "_shown"  # behind a quantity of networks near chance, which are in no coefficient
PANELS = {
    "minimal_l2": ("smallest L2 that turns an image", "median smallest L2 (DeepFool),\npixel units, log"),
    "adversarial_error": ("error under PGD-20", "error under PGD-20\nat the main radius"),
    "residuals": ("given confidence (a picture)", "rank of smallest L2,\ngiven confidence"),
}
"""Panel -> what stands above it unless told otherwise, and on its y axis."""


@style.housed
def with_attacks(rows: pd.DataFrame, told: Mapping[str, str] | None = None) -> Figure:
    """DBM, mean over classes, against the median smallest L2 and the error under attack; third both in ranks, less what confidence tells.

    rows: "dbm" and "confidence" of ZSQ-1, "minimal_l2" and "adversarial_error" of ZSQ-3; a panel without rows is left out. Networks near
    chance (quantities with "_shown") are hollow, and not in the third panel. told: the words above a panel by its name in `PANELS`.
    Raises BadInput where no network has both, or `told` names no panel.
    """
    if unknown := sorted(set(told or {}) - set(PANELS)):
        raise BadInput(f"told names the panel {unknown[0]!r}: one of {', '.join(PANELS)} is allowed")
    table = _networks(rows)
    drawn = {name: of for name, of in _panels(table).items() if len(of)}
    if not drawn:
        raise BadInput("no network has both a DBM (ZSQ-1) and an attack (ZSQ-3): ask and attack the same networks first")
    figure = style.figure(style.WIDE if len(drawn) > 1 else 0.8 * style.WIDE, 3.3 if len(drawn) > 1 else 2.5)
    for ax, (name, of) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        title, label = PANELS[name]
        _scatter(ax, of)
        ax.set_title(in_lines((told or {}).get(name, title), 36), fontsize=7)
        ax.set(xlabel="DBM (lower = tighter)", ylabel=label)
        if name == "minimal_l2":
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
        elif name == "adversarial_error":
            ax.set_ylim(-0.03, 1.03)
        else:
            ax.axhline(0, **style.CHANCE, zorder=0)
            ax.axvline(0, **style.CHANCE, zorder=0)
            ax.set_xlabel("rank of DBM,\ngiven confidence")
    shown = pd.concat(drawn.values())
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": 5} if len(drawn) > 1 else {"loc": "outside right center"}
    figure.legend(handles=_keys(shown), **place)
    return figure


def _networks(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a network: who it is, its dbm and confidence, and a row's value and is_near_chance for each attack (column panel)."""
    who = ["arm", "recipe", "architecture", "seed", "network"]
    metrics = network_means(measured(rows, ["dbm", "confidence"]), "recipe", "architecture", "quantity")
    metrics = metrics.pivot_table(index=who, columns="quantity", values="value").reset_index()
    attacked = rows[rows["claim"] == ATTACKS].assign(
        panel=lambda one: one["quantity"].str.removesuffix(SHOWN), is_near_chance=lambda one: one["quantity"].str.endswith(SHOWN)
    )
    attacked = attacked[attacked["panel"].isin(PANELS)]
    return (
        metrics.merge(attacked[[*who, "panel", "value", "is_near_chance"]], on=who)
        .rename(columns={"value": "y"})
        .assign(x=lambda one: one["dbm"])
    )


def _panels(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The networks of each panel, with their places x and y."""
    panels = {name: table[table["panel"] == name] for name in PANELS}
    full = panels["minimal_l2"][~panels["minimal_l2"]["is_near_chance"].astype(bool)]
    if "confidence" in full and full["confidence"].nunique() > 2:
        given = full["confidence"].rank()
        panels["residuals"] = full.assign(**{axis: _less(full[axis].rank(), given) for axis in ("x", "y")})
    return panels


def _less(values: pd.Series[float], given: pd.Series[float]) -> NDArray[np.float64]:
    """What a straight line through `given` leaves of the values."""
    x, y = np.asarray(given, np.float64), np.asarray(values, np.float64)
    return y - np.polyval(np.polyfit(x, y, 1), x)


def _scatter(ax: Axes, table: pd.DataFrame) -> None:
    """A dot a network: the colour is its defence, the shape its architecture, hollow near chance."""
    for one in table.to_dict("records"):
        colour = style.role(str(one["arm"])).colour
        face = "none" if one["is_near_chance"] else colour
        marker = MARKERS.get(str(one["architecture"]), "*")
        ax.scatter([one["x"]], [one["y"]], s=24, facecolor=face, edgecolor=colour, marker=marker, linewidth=0.8, alpha=0.85, zorder=3)


def _keys(table: pd.DataFrame) -> list[Line2D | Patch]:
    """The legend: colours of the defences, with their radius, shapes of the architectures, and what hollow means."""
    recipes = dict(zip(table["arm"], table["recipe"], strict=True))
    found: list[Line2D | Patch] = [
        Patch(color=style.role(arm).colour, label=_defence(arm, str(recipes[arm]))) for arm in style.in_order(list(recipes))
    ]
    dot: dict[str, Any] = {"linestyle": "none", "color": style.INK, "markersize": 4.5}
    found += [Line2D([], [], marker=MARKERS.get(kind, "*"), label=NAMES.get(kind, kind), **dot) for kind in architectures(table)]
    if table["is_near_chance"].any():
        found.append(Line2D([], [], marker="o", markerfacecolor="none", label="near chance, in no coefficient", **dot))
    return found


def _defence(arm: str, name: str) -> str:
    eps = recipe(name).eps
    if not eps:
        return style.role(arm).label
    return f"robust, {255 * eps:.0f}/255" if recipe(name).norm == "linf" else f"robust, L2 {eps:g}"
