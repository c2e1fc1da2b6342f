"""What is answered to a class that a network never saw: mean soft labels, single images in a plane, and which relatives are named."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Ellipse, Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import beside, in_lines
from reprolib.figures.reading import network_means
from reprolib.findings.zero_shot_quality.figures.reading import CAPSNET, METRICS, NAMES, in_words, measured
from reprolib.models.networks import CAPSULES

IN_FULL = ("standard", "robust", "untrained")
IN_PLANE = ("standard", "robust", "label_smoothing", "gauss")
MASSES = {"shape_mass": ("same shape", style.INK), "texture_mass": ("same texture", "#9A7B4F"), "rest": ("neither", "#E6E6E6")}


@style.housed
def mean_labels(rows: pd.DataFrame) -> Figure:
    """Heat maps: to images of an excluded class (down) the mean soft label of each other class (across), the mean over an arm's networks.

    rows: "mean_label" of ZSQ-1 of the standard, robust and untrained arms, and of ZSQ-5 of the CapsNet, on its own data; a panel
    each where there are some. One scale of colours, from 0; a class's own cell is hatched, the largest of a row framed.
    """
    tables = {style.role(arm).label: _table(rows, METRICS, arm) for arm in IN_FULL} | {
        f"{NAMES[CAPSULES]}, Fashion-MNIST": _table(rows, CAPSNET, CAPSULES)
    }
    tables = {title: table for title, table in tables.items() if table.size}
    if not tables:
        raise BadInput("there are no rows of mean_label of ZSQ-1 or ZSQ-5: measure the soft labels first")
    n_columns = len(tables) if len(tables) < 4 else 2
    n_rows = math.ceil(len(tables) / n_columns)
    figure = style.figure(style.WIDE if n_columns > 1 else 0.6 * style.WIDE, 0.9 + (2.0 if n_columns > 2 else 2.5) * n_rows)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).flatten()
    most = max(float(np.nanmax(table)) for table in tables.values())
    first = next(iter(tables.values()))
    for k, (ax, (title, table)) in enumerate(zip(panels, tables.items(), strict=True)):
        image = _heat_map(ax, table, most)
        ax.set_title(title)
        if k % n_columns and list(table.index) == list(first.index):
            ax.set_yticklabels([])
        if k % n_columns == 0:
            ax.set_ylabel("excluded class")
    bar = figure.colorbar(image, ax=list(panels), shrink=0.7, aspect=30, pad=0.02)
    bar.set_label("mean soft label", fontsize=7)
    bar.ax.axhline(1 / (len(first) - 1), **style.CHANCE | {"color": style.INK})
    figure.supxlabel("class answered; framed: the largest of a row; dotted in the bar: all alike", fontsize=7)
    return figure


@style.housed
def plane(rows: pd.DataFrame, excluded: str = "") -> Figure:
    """Soft labels of the images of one excluded class, of one network an arm, in the plane of their two principal components.

    rows: "plane" of ZSQ-1 (unit an image, unit_2 "x" or "y"). The half axes of the ellipse are the standard deviations within the
    plane; their root sum of squares stands above, and where `excluded` names the class its "dbm", which counts all directions.
    All panels are to one scale.
    """
    found = measured(rows, ["plane"], IN_PLANE)
    arms = [arm for arm in IN_PLANE if arm in set(found["arm"])]
    if not arms:
        raise BadInput(f"there are no rows of plane of the arms {', '.join(IN_PLANE)}: measure them first")
    low, high = (found.groupby("unit_2")["value"].agg(end) for end in ("min", "max"))
    width = float(high["x"] - low["x"])
    height = max(float(high["y"] - low["y"]), 0.5 * width)
    figure = style.figure(style.WIDE, 1.05 + (style.WIDE - 0.7) / len(arms) * height / width, layout="compressed")
    panels = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
    middle = float(high["y"] + low["y"]) / 2
    panels[0].set(xlim=(low["x"] - 0.05 * width, high["x"] + 0.05 * width), ylim=(middle - 0.53 * height, middle + 0.53 * height))
    for ax, arm in zip(panels, arms, strict=True):
        look, of = style.role(arm), found[found["arm"] == arm]
        points = of.pivot_table(index="unit", columns="unit_2", values="value")[["x", "y"]].to_numpy()
        ax.scatter(points[:, 0], points[:, 1], s=9, color=look.colour, marker=look.marker, alpha=0.5, linewidth=0, zorder=2)
        spread = ellipse(ax, points)
        known = rows[(rows["quantity"] == "dbm") & (rows["network"] == of["network"].iloc[0]) & (rows["unit"] == excluded)]["value"]
        told = f"DBM {float(known.iloc[0]):.2f}, " if len(known) else ""
        ax.set_title(f"{look.label}\n{told}in the plane {spread:.2f}", fontsize=7)
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlabel("1st component", fontsize=7)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4))
    panels[0].set_ylabel("2nd component", fontsize=7)
    of_class = f" of {in_words(excluded)}" if excluded else " of one excluded class"
    figure.supxlabel(f"soft labels{of_class}, one dot an image; ellipse: one standard deviation; all panels to one scale", fontsize=7)
    return figure


@style.housed
def shares(rows: pd.DataFrame) -> Figure:
    """What the mean soft label gives to classes of the same shape, of the same texture, and of neither: a stacked bar a network, by arm.

    rows: "shape_mass" and "texture_mass" of ZSQ-1, means over the excluded classes; the dotted lines are the ends of both parts by chance.
    """
    found = measured(rows, ["shape_mass", "texture_mass"])
    table = network_means(found, "quantity").pivot_table(index=["arm", "seed", "network"], columns="quantity", values="value").reset_index()
    table["rest"] = 1 - table["shape_mass"] - table["texture_mass"]
    arms = style.in_order(list(table["arm"]))
    table["rank"] = table["arm"].map(arms.index)
    table = table.sort_values(["rank", "seed", "network"], kind="stable", ignore_index=True)
    table["at"] = table.index + 0.8 * table["rank"]
    figure = style.figure(0.85 * style.WIDE, 2.7)
    ax = figure.subplots()
    below = pd.Series(0.0, index=table.index)
    for name, (_, colour) in MASSES.items():
        ax.bar(table["at"], table[name], bottom=below, width=0.86, color=colour, linewidth=0)
        below = below + table[name]
    by_shape, by_texture = _chances(list(found["unit"].unique()))
    for level, words in ((by_shape, "chance,\nshape"), (by_shape + by_texture, "chance, shape\nand texture")):
        ax.axhline(level, color="white", linewidth=2.0, alpha=0.7)
        ax.axhline(level, **style.CHANCE | {"color": style.INK, "linewidth": 1.2})
        beside(ax, words, level)
    middles = table.groupby("rank")["at"].mean()
    ax.set_xticks(list(middles), [in_lines(style.role(arm).label, 10) for arm in arms])
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(-0.7, float(table["at"].max()) + 0.7), ylim=(0, 1), ylabel="share of the mean soft label")
    handles = [Patch(color=colour, label=words) for words, colour in MASSES.values()]
    figure.legend(handles=handles, title="classes with", title_fontsize=7, loc="outside right center")
    return figure


def _table(rows: pd.DataFrame, claim: str, arm: str) -> pd.DataFrame:
    """Mean soft labels: excluded classes down, all classes across, NaN at its own place; empty where there are none."""
    found = rows[(rows["claim"] == claim) & (rows["quantity"] == "mean_label") & (rows["arm"] == arm)]
    names = sorted({*found["unit"], *found["unit_2"]})
    return found.pivot_table(index="unit", columns="unit_2", values="value", aggfunc="mean").reindex(index=names, columns=names)


def _heat_map(ax: Axes, table: pd.DataFrame, most: float) -> AxesImage:
    image = ax.imshow(table, cmap="Blues", vmin=0, vmax=most, aspect="equal")
    for k in range(len(table)):
        own = table.iloc[k].to_numpy()
        ax.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, facecolor="white", edgecolor="#BDBDBD", hatch="//////", linewidth=0))
        if not np.isnan(own).all():
            ax.add_patch(Rectangle((int(np.nanargmax(own)) - 0.44, k - 0.44), 0.88, 0.88, fill=False, edgecolor=style.INK, linewidth=0.7))
    words = [in_words(name) for name in table.index]
    ax.set_xticks(range(len(words)), words, rotation=90, fontsize=6)
    ax.set_yticks(range(len(words)), words, fontsize=6)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return image


def ellipse(ax: Axes, points: NDArray[np.float64]) -> float:
    """Draw the ellipse of one standard deviation around the mean of points (n, 2); returns the root of the summed variances."""
    variances, directions = np.linalg.eigh(np.cov(points, rowvar=False, bias=True))
    widths = np.sqrt(variances.clip(min=0))
    angle = math.degrees(math.atan2(directions[1, 1], directions[0, 1]))
    centre = (float(points[:, 0].mean()), float(points[:, 1].mean()))
    ax.add_patch(Ellipse(centre, 2 * widths[1], 2 * widths[0], angle=angle, fill=False, edgecolor=style.INK, linewidth=1.1, zorder=3))
    return math.sqrt(float(variances.sum()))


def _chances(classes: list[str]) -> tuple[float, float]:
    """Of the other classes, the shares with the shape and with the texture of a class "shape+texture", when all pairs are there."""
    shapes, textures = ({name.split("+")[k] for name in classes} for k in (0, 1))
    n_others = len(shapes) * len(textures) - 1
    return (len(textures) - 1) / n_others, (len(shapes) - 1) / n_others
