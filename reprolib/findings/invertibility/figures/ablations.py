"""What an inversion owes to its settings and to the layer: one knob turned at a time, standard and robust side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.page import GROUP_IN, LABEL_IN, PAD_IN, Page
from reprolib.figures.reading import of_claim, short_layer

LAYER = "layer:"
REFERENCE = "reference"
KNOWN = (REFERENCE, "fake_relu off", "best iterate", "image start", "step x0.5", "step x2", "steps x2", "fourier")
"""Variants in the order of reading."""

PANELS = (
    ("distance_ratio", "perceptual distance to the\ntarget / that of the start", r"$d_\mathrm{img}$"),
    ("pixel_correlation", "pixel correlation\nwith the target", "correlation"),
    ("d_rel", "distance in code space\n(1 = two random images)", r"$d_\mathrm{rel}$"),
)
LOGARITHMIC = "d_rel"
MIDDLE = ("pi", 50)  # of the targets: from the 25 % to the 75 % quantile
APART = 0.3  # between two arms on a variant's line, of the distance to the next line


@style.housed
def ablations(rows: pd.DataFrame) -> Figure:
    """Above: a dot per arm and variant, the middle half of its targets as a line. Below: the same measures over the depth of the layer.

    rows: claim "ablation", quantities distance_ratio, pixel_correlation and d_rel, unit = target, unit_2 = the variant's name,
    "layer:<name>" in the sweep. Raises BadInput where there are none.
    """
    found = of_claim(rows, "ablation", [quantity for quantity, _, _ in PANELS])
    is_layer = found["unit_2"].str.startswith(LAYER)
    variants, layers = [name for name in KNOWN if name in set(found["unit_2"])], depth(list(found["unit_2"][is_layer]))
    heights = [0.65 + 0.17 * len(variants), 1.9]
    figure = style.figure(style.WIDE, sum(heights) + 0.3)
    axes = figure.subplots(2, len(PANELS), height_ratios=heights)
    for column, (quantity, title, label) in enumerate(PANELS):
        (upper, lower), is_measured = axes[:, column], found["quantity"] == quantity
        _variants(upper, found[is_measured & ~is_layer], variants, quantity == LOGARITHMIC)
        upper.set(title=title, xlabel=label)
        names = [name.replace("_", " ").replace(" x", " \N{MULTIPLICATION SIGN}") for name in variants]
        upper.set_yticklabels(names if column == 0 else [])
        _layers(lower, found[is_measured & is_layer], layers, quantity == LOGARITHMIC)
        lower.set_ylabel(label)
    handles = charts.keys(style.in_order(list(found["arm"])), linestyle="none")
    note = "mean over targets; line, band: their middle half; layers from the image to the head"
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), title=note, alignment="left", title_fontsize=7)
    return figure


@style.housed
def layer_pictures(pictures: Mapping[str, Any]) -> Figure:
    """Inverses of every layer of a standard and a robust network, from the image to the head, beside the first two targets.

    pictures: "targets" (t, 3, h, w) and per "layer:<name>" {arm: (t, 3, h, w)}, in [0, 1] or uint8; other variants are not drawn.
    Raises BadInput where there is no layer.
    """
    layers, targets = depth([name for name in pictures if name.startswith(LAYER)]), pictures["targets"][:2]
    if not layers:
        raise BadInput(f'pictures holds no inverse of a layer: it holds {", ".join(pictures) or "nothing"}; give them as "{LAYER}<name>"')
    arms = style.in_order([arm for layer in layers for arm in pictures[layer]])
    pitch = min(0.62, (style.WIDE - LABEL_IN - GROUP_IN - 0.04) / (len(layers) + 1))
    side, left, block = pitch - PAD_IN, LABEL_IN + pitch + GROUP_IN, len(arms) * pitch + GROUP_IN
    page = Page(style.WIDE, 0.22 + len(targets) * block + 0.12)
    for column, name in enumerate(("target", *map(short_layer, layers))):
        x = LABEL_IN if column == 0 else left + (column - 1) * pitch
        page.text(name, x + side / 2, 0.16, ha="center", va="bottom", fontsize=6, color=style.FAINT)
    for t, target in enumerate(targets):
        for i, arm in enumerate(arms):
            y, look = 0.22 + t * block + i * pitch, style.role(arm)
            page.label(look.label, y + side / 2, bar=(look.colour, y, side))
            for column, layer in enumerate(layers):
                if arm in pictures[layer]:
                    page.picture(pictures[layer][arm][t], left + column * pitch, y, side)
        middle = 0.22 + t * block + (len(arms) * pitch - PAD_IN) / 2
        page.picture(target, LABEL_IN, middle - side / 2, side, frame=style.INK)
    staged = any(short_layer(layer) != layer.removeprefix(LAYER) for layer in layers)
    order = "layers from the image (left) to the head" + (", as stage.block.relu" if staged else "")
    page.text(order, style.WIDE - 0.04, page.height - 0.03, ha="right", va="bottom", fontsize=6.5)
    return page.figure


def depth(variants: Sequence[str]) -> list[str]:
    """The distinct "layer:<name>" variants from the image on: a stem, then by the numbers in their names."""
    return sorted(set(variants), key=lambda name: (name != f"{LAYER}stem", [int(digits) for digits in re.findall(r"\d+", name)]))


def _variants(ax: Axes, found: pd.DataFrame, names: Sequence[str], is_log: bool) -> None:
    """A line of the chart per variant; the reference's means go on as faint lines through all."""
    arms = style.in_order(list(found["arm"]))
    looks = [style.role(arm) for arm in arms]
    sns.pointplot(
        found, x="value", y="unit_2", hue="arm", order=names, hue_order=arms, dodge=APART * (len(arms) - 1), ax=ax, legend=False,
        errorbar=MIDDLE, palette=[role.colour for role in looks], markers=[role.marker for role in looks], linestyle="none",
        markersize=5, markeredgecolor="white", markeredgewidth=0.5, err_kws={"linewidth": 1.0},
    )  # fmt: skip
    for level, role in zip(found[found["unit_2"] == REFERENCE].groupby("arm")["value"].mean().reindex(arms), looks, strict=True):
        ax.axvline(level, color=role.colour, linewidth=0.6, alpha=0.5, zorder=0)
    ax.set(yticks=range(len(names)), ylabel="")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)
    if is_log:
        ax.set_xscale("log")
        _few_ticks(ax.xaxis, *ax.get_xlim())


def _layers(ax: Axes, found: pd.DataFrame, names: Sequence[str], is_log: bool) -> None:
    """A line per arm over the layers, and a band."""
    charts.lines(found.assign(depth=found["unit_2"].map(list(names).index)), ax, "depth", each="arm", band=MIDDLE[1] / 100, markersize=3.5)
    ax.set_xticks(range(len(names)), [short_layer(name) for name in names], rotation=90, fontsize=6.5)
    staged = any(short_layer(name) != name.removeprefix(LAYER) for name in names)
    ax.set_xlabel("layer (stage.block.relu)" if staged else "layer")
    if is_log:
        ax.set_yscale("log")
        _few_ticks(ax.yaxis, *ax.get_ylim())


def _few_ticks(axis: object, low: float, high: float) -> None:
    """Ticks at powers of ten and their halves within the limits, written out."""
    ticks = [step * 10.0**power for power in range(-6, 2) for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    ticks = ticks if len(ticks) <= 4 else [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    axis.set_major_locator(FixedLocator(ticks))  # type: ignore[attr-defined]
    axis.set_major_formatter(lambda tick, _: f"{tick:g}")  # type: ignore[attr-defined]
    axis.set_minor_locator(NullLocator())  # type: ignore[attr-defined]
    axis.set_minor_formatter(NullFormatter())  # type: ignore[attr-defined]
