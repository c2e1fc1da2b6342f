"""Kinds of input, natural preferences and ablation, drawn: from tidy rows; unit cards from images and networks too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.page import Page, beside
from reprolib.figures.reading import of_claim, short_layer
from reprolib.findings.simplicity_biases import ablating, kinds, preferring
from reprolib.findings.simplicity_biases.rows import IN_FULL
from reprolib.models.networks import Network
from reprolib.study import Study

ARMS = ablating.ARMS
PANELS = {
    "texture_auroc": "best AUROC over textures", "class_auroc": "best AUROC over classes", "colour_r2": "share of variance\nexplained by mean colour",
}  # fmt: skip
N_SHOWN = 9
SIDE_IN = 0.48


@style.housed
def preferences(rows: pd.DataFrame) -> Figure:
    """Natural preferences by layer, three panels: best AUROC over textures and over classes, colour R2; a line an arm, a mark a layer.

    rows: `preferring.PREFERENCES` and `preferring.FLOORS` of SIM-4. Dotted: the floor, labels permuted (mean over the arms' networks).
    """
    found = by_layer(of_claim(rows, preferring.CLAIM, preferring.PREFERENCES))
    floors = by_layer(rows[(rows["claim"] == preferring.CLAIM) & rows["quantity"].isin(preferring.FLOORS)])
    layers = in_execution(found["layer"])
    arms = style.in_order(list(found["arm"]))
    figure = style.figure(style.WIDE, 2.7)
    for ax, (quantity, words) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        of = found[found["quantity"] == quantity].assign(x=lambda one: one["layer"].map(layers.index))
        charts.lines(of, ax, "x", each="arm", markersize=4.5, linewidth=1.2)
        floor = floors[floors["quantity"] == f"{quantity}_floor"].groupby("layer")["value"].mean()
        if len(floor):
            ax.plot(range(len(layers)), floor.reindex(layers), **style.CHANCE)
            beside(ax, "labels\npermuted", float(floor.reindex(layers).iloc[-1]))
        ax.set(ylabel=words, xlabel="layer")
        _name_layers(ax, layers, most=3)
    figure.legend(handles=charts.keys(arms), loc="outside lower center", ncols=min(len(arms), 5))
    return figure


@style.housed
def diversity(rows: pd.DataFrame) -> Figure:
    """Diversity of each unit's top images by layer: violins with quartiles of both arms, left standard, right robust; a line an other arm's mean.

    rows: "diversity" of SIM-6. 1 is what images drawn at random have.
    """
    found = of_claim(rows, kinds.CLAIM, ["diversity"]).assign(layer=lambda one: one["unit"].str.rpartition(":")[0])
    layers = in_execution(found["layer"])
    figure = style.figure(style.WIDE, 2.9)
    ax = figure.subplots()
    of_arms = found[found["arm"].isin(ARMS)]
    if of_arms.empty:
        raise BadInput("there are no rows of diversity of standard or robust networks: measure them first")
    palette = {arm: style.role(arm).colour for arm in ARMS}
    sns.violinplot(
        of_arms.assign(at=of_arms["layer"].map(layers.index)), x="at", y="value", hue="arm", hue_order=ARMS, order=range(len(layers)), split=True,
        gap=0.08, inner="quart", cut=0, density_norm="width", width=0.85, palette=palette, linewidth=0.7, linecolor=style.INK, legend=False, ax=ax,
    )  # fmt: skip
    others = by_layer(found[~found["arm"].isin(ARMS)])
    if len(others):
        charts.lines(others.assign(x=others["layer"].map(layers.index)), ax, "x", each="arm", markersize=3.5, linewidth=0.8, alpha=0.9)
    ax.axhline(1, **style.CHANCE, zorder=0)
    beside(ax, "random\nimages", 1)
    ax.set(xlabel="layer", ylabel="diversity of a unit's 25 top images", ylim=(0, None))
    _name_layers(ax, layers)
    drawn = style.in_order(list(found["arm"]))
    figure.legend(handles=charts.keys(drawn, linestyle="none"), loc="outside lower center", ncols=min(len(drawn), 5))
    return figure


def unit_cards(study: Study, nets: Mapping[str, Sequence[Network]], rows: pd.DataFrame) -> Figure | None:
    """Top images of the most and of the least diverse unit of the first standard and the first robust network.

    rows: "diversity" of SIM-6. None, which shows the committed picture, where the images are not here or others were not measured.
    """
    return None if not study.can_measure or study.only_mine else _cards(study, nets, rows)


@style.housed
def _cards(study: Study, nets: Mapping[str, Sequence[Network]], rows: pd.DataFrame) -> Figure:
    images, side = kinds.shown(study), 3 * SIDE_IN + 0.06
    step = (style.WIDE - 0.16 - side) / 3
    page = Page(style.WIDE, side + 0.62)
    for k, arm in enumerate(ARMS):
        network = nets[arm][0]
        own = of_claim(rows, kinds.CLAIM, ["diversity"])
        own = own[own["network"] == network.sha256[:12]].sort_values(["value", "unit"], ignore_index=True)
        names, top = kinds.unit_names(network, images), kinds.top_images(network, images).by_largest
        for j, (words, at) in enumerate((("least diverse", 0), ("most diverse", len(own) - 1))):
            unit, value = str(own["unit"][at]), float(own["value"][at])
            x, y = 0.08 + (2 * k + j) * step, 0.36
            look = style.role(arm)
            page.text(f"{look.label}, {words}", x, 0.18, color=look.colour, fontweight="bold")
            page.text(f"{spoken(unit)}: {value:.2f}", x, 0.31, fontsize=6.5)
            for place, image in enumerate(top[:N_SHOWN, names.index(unit)].tolist()):
                page.picture(images.x[image], x + (place % 3) * (SIDE_IN + 0.03), y + (place // 3) * (SIDE_IN + 0.03), SIDE_IN)
    page.text("diversity: 0, one image again and again; 1, images drawn at random", 0.08, side + 0.54, fontsize=6.5, color=style.FAINT)
    return page.figure


@style.housed
def ablation(rows: pd.DataFrame) -> Figure:
    """Images turned wrong when the strongest detectors of one layer are removed, against how many these are: a dot a network and layer.

    rows: by_layer@<label>, random_by_layer@<label> and removed@<label> of SIM-8. Bars: 90 % of the draws of as many random channels of the
    same layers, mean over layers and networks, and their mean. Above: texture, below: object; an arm a column.
    """
    found = of_claim(rows, ablating.CLAIM)
    arms = [arm for arm in style.in_order(list(found["arm"])) if arm in IN_FULL]
    figure = style.figure(style.WIDE, 3.9)
    panels = figure.subplots(len(ablating.LABELS), len(arms), sharex=True, sharey=True, squeeze=False)
    numbers: set[int] = set()
    for row, label in zip(panels, ablating.LABELS, strict=True):
        removed = found[found["quantity"] == f"removed@{label}"].set_index(["arm", "network", "unit"])["value"]
        for ax, arm in zip(row, arms, strict=True):
            look = style.role(arm)
            of = found[(found["arm"] == arm) & found["quantity"].isin([f"by_layer@{label}", f"random_by_layer@{label}"])]
            of = of.assign(n=[int(removed[arm, network, unit]) for network, unit in zip(of["network"], of["unit"], strict=True)])
            numbers |= set(of["n"])
            random = of[of["quantity"].str.startswith("random")].pivot_table(index="n", columns="unit_2", values="value")
            if len(random):
                ax.vlines(random.index, random["low"], random["high"], color=style.FAINT, alpha=0.35, linewidth=7)
                ax.plot(random.index, random["mean"], color=style.FAINT, linestyle="none", marker="_", markersize=9, markeredgewidth=1.6)
            own = of[of["quantity"] == f"by_layer@{label}"]
            if own.empty:
                ax.text(0.5, 0.5, "no such detector", transform=ax.transAxes, ha="center", color=style.FAINT)
            ax.plot(
                own["n"] * 1.07, own["value"], color=look.colour, marker=look.marker, linestyle="none", alpha=0.75, markersize=4,
                markeredgecolor="white", markeredgewidth=0.4,
            )  # fmt: skip
            ax.set_title(f"{look.label}: {label} detectors")
    panels[0, 0].set_xscale("log", base=2)
    ticks = [2**k for k in range(12) if min(numbers, default=1) <= 2**k <= max(numbers, default=1)]
    panels[0, 0].set_xticks(ticks, [str(tick) for tick in ticks])
    panels[0, 0].minorticks_off()
    panels[0, 0].set_xlim(0.8 * min(numbers, default=1), 1.3 * max(numbers, default=1))
    for ax in panels[-1]:
        ax.set_xlabel("channels removed from one layer")
    figure.supylabel("share of images turned wrong", fontsize=8)
    handles = charts.keys(arms, {arm: f"detectors, {style.role(arm).label}" for arm in arms}, linestyle="none")
    grey = Line2D([], [], color=style.FAINT, alpha=0.5, linewidth=6, label="as many random channels (90 % of draws, mean)")
    figure.legend(handles=[*handles, grey], loc="outside lower center", ncols=3)
    return figure


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a network, quantity and layer: the mean over units; columns arm, seed, network, quantity, layer, value."""
    keys = ["arm", "seed", "network", "quantity", "layer"]
    return rows.assign(layer=rows["unit"].str.rpartition(":")[0]).groupby(keys)["value"].mean().reset_index()


def in_execution(layers: Sequence[str] | pd.Series[str]) -> list[str]:
    """The distinct layers of rows in the order of execution: the stem, then by name, numbers in it as numbers."""

    def place(name: str) -> tuple[bool, list[tuple[bool, int, str]]]:
        parts = [one for one in re.split(r"(\d+)", name) if one]
        return name != "stem", [(not one.isdigit(), int(one) if one.isdigit() else 0, one) for one in parts]

    return sorted(set(layers), key=place)


def spoken(unit: str) -> str:
    """A unit's name for people: "stage1.block1.relu2:007" as "1.1.2, unit 7"."""
    layer, _, number = unit.rpartition(":")
    return f"{short_layer(layer)}, unit {int(number)}"


def _name_layers(ax: Axes, layers: Sequence[str], most: int = 8) -> None:
    names = [short_layer(layer) for layer in layers]
    ax.set_xticks(range(len(layers)), names, fontsize=6, rotation=90 if len(layers) > most else 0)
    ax.tick_params(axis="x", length=0)
