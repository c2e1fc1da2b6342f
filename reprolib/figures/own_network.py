"""What is asked of anybody's network, drawn: layer similarity, inverses, accuracies, conflicting cues, entanglement,
classes left out; others beside it by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.data.cue_conflict import CATEGORIES
from reprolib.figures import style
from reprolib.figures.categories import REFERENCES, category_plot
from reprolib.figures.page import LABEL_IN, PAD_IN, Group, grid
from reprolib.figures.reading import short_layer

N_SHOWN = 8  # targets


@style.housed
def maps(named: Mapping[str, Any]) -> Figure:
    """CKA of every two layers, the first at the bottom left. named: name -> what `cka_map` gives."""
    figure = style.figure(min(style.WIDE, 0.6 + 2.6 * len(named)), 2.9)
    axes = figure.subplots(1, len(named), squeeze=False)[0]
    for ax, (name, found) in zip(axes, named.items(), strict=True):
        image = ax.imshow(found.matrix, cmap="viridis", vmin=0, vmax=1, interpolation="nearest", origin="lower")
        _, mean, low, high = found.indices().iloc[0]
        ax.set_title(f"{name}\noff-diagonal mean {mean:.2f} [{low:.2f}, {high:.2f}]", fontsize=7, loc="center")
        last = len(found.layers) - 1
        ax.set_xticks([0, last], [found.layers[0], found.layers[last]])
        ax.set_yticks([])
        for label, side in zip(ax.get_xticklabels(), ("left", "right"), strict=True):
            label.set_horizontalalignment(side)
        ax.set_xlabel(f"{last + 1} layers, in the order of execution", fontsize=6.5)
        ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=list(axes), ticks=[0, 0.5, 1], shrink=0.8, label="CKA").outline.set_visible(False)
    return figure


@style.housed
def inverses(named: Mapping[str, Any]) -> Figure:
    """Targets, starts, and one row of inverses a network with d_rel below each. named: name -> what `inverses` gives."""
    first = next(iter(named.values()))
    shown = slice(min(N_SHOWN, *(len(found.images) for found in named.values())))
    pictures = {"start": first.starts[shown], **{name: found.images[shown] for name, found in named.items()}}
    page, side, tops = grid([Group("", first.targets[shown], pictures)], list(pictures), "target", header=0.08, foot=0.1)
    page.label("start", tops["start"] + side / 2)
    style_of_number: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    for name, found in named.items():
        page.label(f"{name}\nd_rel {found.value:.2f}\n[{found.low:.2f}, {found.high:.2f}]", tops[name] + side / 2)
        for k, value in enumerate(found.d_rel[shown].tolist()):
            x, y = LABEL_IN + k * (side + PAD_IN) + side, tops[name] + side
            page.text(f"{value:.2f}", x - 0.02, y - 0.02, ha="right", va="bottom", fontsize=6.5, bbox=style_of_number)
    return page.figure


@style.housed
def accuracies(named: Mapping[str, Any]) -> Figure:
    """Accuracy with and without attack, and its interval, a colour a network. named: name -> what `attack_accuracy` gives."""
    figure = style.figure(style.NARROW, 2.2)
    ax = figure.subplots()
    for k, ((name, found), colour) in enumerate(zip(named.items(), sns.color_palette("colorblind", len(named)), strict=True)):
        table = found.frame
        places = [place + 0.12 * (k - (len(named) - 1) / 2) for place in range(len(table))]
        ends = [table["value"] - table["low"], table["high"] - table["value"]]
        ax.errorbar(places, table["value"], yerr=ends, fmt="o", color=colour, capsize=2, label=name)
    ax.set_xticks(range(len(table)), table["under"])
    ax.set(xlim=(-0.5, len(table) - 0.5), ylim=(0, 1), ylabel="accuracy")
    ax.legend(loc="best")
    return figure


@style.housed
def cue_categories(named: Mapping[str, Any]) -> Figure:
    """The category plot, a colour a network; where all 16 are asked, the shape bias of ResNet-50 and of people dashed.

    named: name -> what `cue_conflict` gives.
    """
    tables = [found.by_category.assign(name=name, group=name) for name, found in named.items()]
    table = pd.concat(tables)
    names = list(dict.fromkeys(table["category"]))
    figure = style.figure(0.75 * style.WIDE, 1.3 + 0.19 * len(names) + 0.14 * len(named))
    ax = figure.subplots()
    looks = {
        name: {"color": colour, "marker": "o"} for name, colour in zip(named, sns.color_palette("colorblind", len(named)), strict=True)
    }
    category_plot(ax, table, looks, names)
    for words, shape_bias in REFERENCES.items() if set(names) == set(CATEGORIES) else ():  # they are of all 16
        ax.axvline(1 - shape_bias, **style.REFERENCE, zorder=0)
        ax.text(1 - shape_bias, 0.02, words, transform=ax.get_xaxis_transform(), rotation=90, ha="right", va="bottom", fontsize=6)
    handles = [Line2D([], [], label=f"{name}: {found.bias}", linestyle="none", **looks[name]) for name, found in named.items()]
    figure.legend(handles=handles, loc="outside lower left", fontsize=6)
    return figure


@style.housed
def entanglement(named: Mapping[str, Any]) -> Figure:
    """Entanglement by layer and its interval over batches, a colour a network, and its bound. named: name -> what `entanglement_by_layer` gives."""
    first = next(iter(named.values()))
    layers = list(dict.fromkeys(name for found in named.values() for name in found["layer"]))
    figure = style.figure(min(style.WIDE, max(style.NARROW, 1.2 + 0.16 * len(layers))), 2.6)
    ax = figure.subplots()
    for (name, found), colour in zip(named.items(), sns.color_palette("colorblind", len(named)), strict=True):
        places = [layers.index(layer) for layer in found["layer"]]
        ax.plot(places, found["entanglement"], marker="o", color=colour, label=name)
        ax.fill_between(places, found["low"], found["high"], color=colour, alpha=0.2, linewidth=0)
    ax.axhline(1, **style.REFERENCE, zorder=1)
    shown = range(0, len(layers), -(-len(layers) // 40))
    ax.set_xticks([*shown], [short_layer(layers[k]) for k in shown], rotation=90, fontsize=6)
    ax.set(ylim=(0, 1.05), ylabel="entanglement / its bound")
    ax.set_title(f"batches of {first.batch} images, {first.n_classes} classes\n(other sizes do not compare)", fontsize=7)
    ax.legend(loc="best")
    return figure


@style.housed
def left_out(named: Mapping[str, Any]) -> Figure:
    """Metrics and entropy of each class by networks that never saw it, a colour a network, the line its mean. named: name -> what `leave_one_out` gives.

    Hollow: the full network leaves next to nothing to the other classes, so that the amalgam metric says little.
    """
    first = next(iter(named.values()))
    most = math.log(first.n_classes - 1)
    panels = {
        "dbm": ("DBM", "lower = tighter", 1.0),
        "dbm_matched": ("DBM at\nmatched entropy", "lower = tighter", 1.0),
        "am": ("AM", "lower = nearer\nthe full network", 1.0),
        "entropy": ("mean entropy\n/ its largest", "1 = says nothing", most),
    }
    n_rows = max(len(found) for found in named.values())
    figure = style.figure(style.WIDE, 1.5 + 0.12 * min(max(n_rows, 6), 60))
    axes = figure.subplots(1, len(panels), sharey=True)
    for ax, (column, (title, words, unit)) in zip(axes, panels.items(), strict=True):
        for k, (found, colour) in enumerate(zip(named.values(), sns.color_palette("colorblind", len(named)), strict=True)):
            places = found["class"] + 0.22 * (k - (len(named) - 1) / 2)
            face = ["none" if hollow else colour for hollow in found["is_below_floor"] & (column == "am")]
            ax.scatter(found[column] / unit, places, s=14, facecolor=face, edgecolor=[colour], linewidth=0.8, zorder=3)
            ax.axvline(found[column].mean() / unit, color=colour, linewidth=0.8, alpha=0.7, zorder=2)
        ax.set_title(title, fontsize=7)
        largest = float(pd.concat([found[column] for found in named.values()]).max())
        ax.set(xlabel=words, xlim=(0, 1.05 if column == "entropy" else 1.1 * max(0.01, largest)))  # nan where all outputs are tied
    shown = range(0, first.n_classes, -(-first.n_classes // 40))
    axes[0].set_yticks([*shown], [str(k) for k in shown], fontsize=6)
    axes[0].set(ylim=(first.n_classes - 0.5, -0.5), ylabel="class left out; line: mean")
    if len(named) > 1:
        colours = zip(named, sns.color_palette("colorblind", len(named)), strict=True)
        handles = [Line2D([], [], marker="o", linestyle="none", color=colour, label=name) for name, colour in colours]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(named))
    return figure
