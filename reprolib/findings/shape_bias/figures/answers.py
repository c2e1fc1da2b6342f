"""What networks answer where cues conflict: shape bias with coverage, by category, and over the training radius."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.categories import category_plot
from reprolib.figures.reading import network_means, of_claim
from reprolib.findings.shape_bias.asking import CONFLICT
from reprolib.findings.shape_bias.networks import IN_FULL
from reprolib.findings.shape_bias.reading import ANSWERS, by_category, counted
from reprolib.models.external import CLAIM as EXTERNAL
from reprolib.training.recipes import recipe

LINE_IN, GROUP_IN = 0.115, 0.06  # a network, and the room between two kinds
SHAPE, TEXTURE, NEITHER = style.INK, "#9A7B4F", "#E6E6E6"
NAMES = {
    "pool": "pool net",
    "w8": "W8",
    "net14": "Net14",
    "tinycnn": "TinyCNN",
    "lenet": "LeNet",
    "resnet20": "ResNet-20",
    "oval": "ConvNet",
}


@style.housed
def bias(rows: pd.DataFrame) -> Figure:
    """Networks one below the other, by architecture and kind: left shape bias (area: coverage; bars: 95 % over stimuli), right all answers, stacked.

    rows: "answers" and those of other architectures of SHP-1, and of "external". A network without an answer by a cue has bars and no dot.
    """
    of_claim(rows, CONFLICT, ["answers"])
    tables = [counted(rows, quantity, [CONFLICT, EXTERNAL]) for quantity in ANSWERS]
    table = pd.concat([one for one in tables if len(one)])
    arms = style.in_order(list(table["arm"]))
    table["rank"] = table["arm"].map(arms.index)
    table["own"] = [not arm.startswith(style.EXTERNAL) for arm in table["arm"]]
    own = table["architecture"].iloc[0]
    table["other"] = (table["architecture"] != own).astype(int) + (~table["own"]).astype(int)
    table = table.sort_values(["other", "architecture", "rank", "seed"], kind="stable", ignore_index=True)
    groups = table.groupby(["other", "architecture", "arm"], sort=False).ngroup()
    table["y"] = table.index * LINE_IN + groups * GROUP_IN
    figure = style.figure(style.WIDE, 0.85 + float(table["y"].max()))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.35, 1])
    for one in table.to_dict("records"):
        look = style.role(str(one["arm"]))
        if one["n_answered"]:
            left.plot([one["low"], one["high"]], [one["y"], one["y"]], color=look.colour, linewidth=0.9, alpha=0.7, zorder=2)
            face = "white" if look.is_hollow else look.colour
            left.scatter(
                [one["value"]],
                [one["y"]],
                s=6 + 34 * one["coverage"],
                color=face,
                edgecolor=look.colour,
                marker=look.marker,
                linewidth=0.8,
                zorder=3,
            )
        widths = (one["n_shape"] / one["n"], one["n_texture"] / one["n"], 1 - one["coverage"])
        for start, width, colour in zip((0, widths[0], widths[0] + widths[1]), widths, (SHAPE, TEXTURE, NEITHER), strict=True):
            right.barh(one["y"], width, left=start, height=0.085, color=colour, linewidth=0)
    ticks = table.groupby(groups).agg(y=("y", "mean"), arm=("arm", "first"), architecture=("architecture", "first"))
    words = [
        f"{style.role(arm).label}{'' if architecture == own else ', ' + NAMES.get(architecture, architecture)}"
        for arm, architecture in zip(ticks["arm"], ticks["architecture"], strict=True)
    ]
    left.set_yticks(ticks["y"], words, fontsize=6.5)
    left.set_ylim(float(table["y"].max()) + 0.12, -0.12)
    left.axvline(0.5, **style.CHANCE, zorder=0)
    left.set(xlim=(-0.03, 1.03), xlabel="shape bias: 0 texture, 1 shape")
    left.set_title(f"{NAMES.get(own, own)} unless named otherwise")
    right.set(xlim=(0, 1), xlabel="share of all stimuli")
    for ax in (left, right):
        ax.tick_params(axis="y", length=0)
    dots = [
        Line2D([], [], color=style.FAINT, marker="o", linestyle="none", markersize=(6 + 34 * share) ** 0.5, label=f"coverage {share:.0%}")
        for share in (0.25, 1.0)
    ]
    bars = [Patch(color=colour, label=label) for colour, label in ((SHAPE, "by shape"), (TEXTURE, "by texture"), (NEITHER, "by neither"))]
    figure.legend(handles=[*dots, *bars], loc="outside lower center", ncols=5)
    return figure


@style.housed
def categories(rows: pd.DataFrame) -> Figure:
    """The category plot of both arms, and of a reader's own network: categories of the shape, each network's share of texture.

    rows: "answers" of SHP-1, whose unit_2 names the categories of both cues.
    """
    drawn = [arm for arm in style.in_order(list(of_claim(rows, CONFLICT, ["answers"])["arm"])) if arm in IN_FULL]
    table = by_category(rows, drawn)
    names = list(dict.fromkeys(table["category"]))
    figure = style.figure(0.75 * style.WIDE, 0.95 + 0.24 * len(names))
    looks = {arm: {"color": style.role(arm).colour, "marker": style.role(arm).marker} for arm in drawn}
    category_plot(figure.subplots(), table.assign(name=table["network"], group=table["arm"]), looks, names)
    figure.legend(handles=charts.keys(drawn, linestyle="-", linewidth=0.9), loc="outside right center")
    return figure


@style.housed
def radii(rows: pd.DataFrame) -> Figure:
    """Shape bias, and beside it clean accuracy, against the training radius: a dot a network, of the scale's own architecture.

    Raises BadInput where no network has a shape bias.
    """
    table = counted(rows).dropna(subset="value")
    if table.empty:
        raise BadInput("no network answers by a cue: there is no shape bias to draw over the radius")
    table = table[table["arm"].isin(charts.RADII)]
    eps = {name: recipe(name).eps for name in set(table["recipe"])}
    accuracy = of_claim(rows, "networks", ["clean_accuracy"])
    accuracy = accuracy[accuracy["network"].isin(table["network"])]
    figure = style.figure(style.WIDE, 2.5)
    left, right = figure.subplots(1, 2)
    charts.by_radius(table.assign(eps=table["recipe"].map(eps)), left)
    charts.by_radius(network_means(accuracy.assign(eps=accuracy["recipe"].map(eps)), "eps"), right)
    for ax, words in ((left, "shape bias"), (right, "clean accuracy")):
        ax.set(ylim=(-0.03, 1.03), ylabel=words)
        ax.set_xlabel("training radius, L2, pixel units (0: standard)")
    left.set_title("SHP-5: higher goes by shape more often")
    right.set_title("what it costs")
    handles = charts.radius_keys(list(table["arm"]))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure
