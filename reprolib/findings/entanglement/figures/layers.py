"""Entanglement of layers drawn: through training, by arm, clean and attacked, over temperature, and of signs of gradients."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import charts, style
from reprolib.figures.page import beside
from reprolib.figures.reading import network_means, of_claim, short_layer
from reprolib.models.networks import MINE

DRAWN = ("standard", "robust", "entangled", "disentangled", "untrained", MINE)
GRADIENTS = ("standard", "robust", "robust_linf", "gauss", "std_matched", "entangled", MINE)
SHARE = "entanglement / its bound"
FIXED = 100.0  # the temperature at which a published implementation starts


@style.housed
def through_training(rows: pd.DataFrame) -> Figure:
    """Entanglement of each layer of a standard network, a line an epoch of its training, the darker the later. rows: ENT-1 "entanglement_by_epoch"."""
    found = of_claim(rows, "ENT-1", ("entanglement_by_epoch",))
    found = found[found["arm"] == "standard"]
    place, epoch = (found["unit_2"].str.split("@").str[k].astype(int) for k in (0, 1))
    found = found.assign(depth=place, epoch=epoch)
    figure = style.figure(0.75 * style.WIDE, 2.7)
    ax = figure.subplots()
    epochs = sorted(found["epoch"].unique())
    for colour, one in zip(mpl.colormaps["viridis_r"](np.linspace(0.05, 1, len(epochs))), epochs, strict=True):
        of = found[found["epoch"] == one].sort_values("depth")
        ax.plot(of["depth"], of["value"], marker="o", markersize=3.2, color=colour, label=f"{one}" if one else "0, untrained")
    _layers(ax, found)
    ax.set_ylabel(SHARE)
    figure.legend(title="epochs done", loc="outside right center", title_fontsize=7)
    return figure


@style.housed
def by_layer(rows: pd.DataFrame, arms: Sequence[str] = DRAWN) -> Figure:
    """Entanglement of each layer, a line an arm, its mean; dots are networks. Dashed, right: under attack, and the headroom lost to it.

    Attacked, at equal success, at the highest temperature at which the clean layer is as good, so that it may exceed its bound. rows: ENT-9
    "entanglement_by_layer"; ENT-10 "clean_by_layer@wide", "attacked_by_layer@wide" and "headroom_lost_by_layer@wide", whose panels are left
    out where there are none.
    """
    clean = _placed(of_claim(rows, "ENT-9", ("entanglement_by_layer",)), arms)
    attacked = _placed(rows[(rows["claim"] == "ENT-10") & rows["quantity"].str.endswith("_by_layer@wide")], arms)
    figure = style.figure(style.WIDE, 2.9)
    axes = figure.subplots(1, 3 if len(attacked) else 1, squeeze=False)[0]
    _arms(axes[0], clean)
    axes[0].set(ylabel=SHARE, title="clean")
    if len(attacked):
        for quantity, dashes in (("clean_by_layer@wide", "-"), ("attacked_by_layer@wide", "--")):
            _arms(axes[1], attacked[attacked["quantity"] == quantity], linestyle=dashes, is_dotted=False)
        axes[1].set_title("clean, and attacked (dashed)")
        _arms(axes[2], attacked[attacked["quantity"] == "headroom_lost_by_layer@wide"], bound=None)
        axes[2].set_title("headroom lost to the attack")
        axes[2].axhline(0, **style.CHANCE, zorder=1)
        _near_arms(axes[2], attacked[attacked["quantity"] == "headroom_lost_by_layer@wide"])
    figure.legend(handles=charts.keys(style.in_order([*clean["arm"], *attacked["arm"]])), loc="outside lower center", ncols=6)
    return figure


@style.housed
def over_temperature(rows: pd.DataFrame) -> Figure:
    """The loss of three layers over temperature, a line a network; dots: its minimum; dotted: one temperature for all. rows: ENT-9 "loss_over_temperature"."""
    found = of_claim(rows, "ENT-9", ("loss_over_temperature",))
    place, log = (found["unit_2"].str.split("@").str[k] for k in (0, 1))
    found = found.assign(place=place.astype(int), temperature=10 ** log.astype(float))
    own = found[found["arm"] != MINE]
    places = sorted((own if len(own) else found)["place"].unique())
    figure = style.figure(style.WIDE, 2.3)
    axes = figure.subplots(1, len(places), sharey=True, squeeze=False)[0]
    for k, (ax, at) in enumerate(zip(axes, places, strict=True)):
        for arm in style.in_order(list(found["arm"])):
            of_arm = found[found["arm"] == arm]
            mine = sorted(of_arm["place"].unique())  # another network has its own depth
            of = of_arm[of_arm["place"] == mine[min(k, len(mine) - 1)]].sort_values("temperature")
            look, least = style.role(arm), of.loc[of["value"].idxmin()]
            ax.plot(of["temperature"], of["value"], color=look.colour)
            ax.plot(
                least["temperature"],
                least["value"],
                marker=look.marker,
                color=look.colour,
                markersize=6,
                markeredgecolor="white",
                clip_on=False,
            )
        ax.axhline(1, **style.REFERENCE, zorder=1)
        ax.axvline(FIXED, **style.CHANCE, zorder=1)
        ax.set(
            xscale="log",
            ylim=(0, 1.6),
            xlabel="temperature",
            title=short_layer(own.loc[own["place"] == at, "unit"].iloc[0] if len(own) else str(at)),
        )
    axes[0].set_ylabel("loss / its bound")
    fixed = Line2D([], [], label=f"temperature {FIXED:g}", **style.CHANCE)
    handles = [*charts.keys(style.in_order(list(found["arm"]))), fixed, Line2D([], [], label="bound", **style.REFERENCE)]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


@style.housed
def gradient_signs(rows: pd.DataFrame) -> Figure:
    """Entanglement by class of the signs of input gradients, a dot a network, a bar an arm's mean. rows: ENT-7 "gradient_entanglement"."""
    found = of_claim(rows, "ENT-7", ("gradient_entanglement",))
    arms = style.in_order([arm for arm in found["arm"] if arm in GRADIENTS])
    figure = style.figure(style.NARROW + 0.4, 2.3)
    ax = charts.by_arm(found[found["arm"].isin(arms)], figure.subplots(), [("gradient_entanglement", "", 1.0)], arms)
    ax.axhline(1, **style.REFERENCE, zorder=1)
    beside(ax, "bound", 1)
    ax.set(ylim=(min(0.0, ax.get_ylim()[0]), 1.05), ylabel=f"signs of gradients:\n{SHARE}")
    return figure


def _placed(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    return rows[rows["arm"].isin(list(arms))].assign(depth=lambda table: table["unit_2"].astype(int))


def _arms(ax: Axes, rows: pd.DataFrame, linestyle: str = "-", is_dotted: bool = True, bound: float | None = 1.0) -> None:
    means = network_means(rows, "depth")
    charts.lines(means, ax, "depth", each="arm", markersize=0, linestyle=linestyle)
    if is_dotted:
        charts.dots(means, ax, "depth", gap=0, side=2.8, edge=0.3)
    _layers(ax, rows, bound)


def _near_arms(ax: Axes, rows: pd.DataFrame) -> None:
    """The height that the arms take, and as much above and below: of a layer at its bound a reader's network may lose a thousand times its room."""
    arms = rows.loc[rows["arm"] != MINE, "value"]
    if len(arms):
        low, high = min(arms.min(), 0.0), max(arms.max(), 1.0)
        now = ax.get_ylim()
        ax.set_ylim(max(now[0], 2 * low - high), min(now[1], 2 * high - low))


def _layers(ax: Axes, rows: pd.DataFrame, bound: float | None = 1.0) -> None:
    """Layers by name on the x axis; the bound, and an upright axis that begins at 0."""
    named = rows[rows["arm"] != MINE] if (rows["arm"] != MINE).any() else rows
    layers = named.drop_duplicates("depth").set_index("depth")["unit"].sort_index()
    ax.set_xticks([*layers.index], [short_layer(name) for name in layers], rotation=90, fontsize=6)
    if bound is not None:
        ax.axhline(bound, **style.REFERENCE, zorder=1)
        ax.set_ylim(0, 1.05 * max(bound, ax.dataLim.y1))
