"""One cue alone, or destroyed: what each kind of network keeps, loses to corruptions, and makes of either cue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.page import beside, in_lines
from reprolib.findings.shape_bias.asking import CONFLICT, GRATINGS
from reprolib.findings.shape_bias.judging import FAMILIES
from reprolib.findings.shape_bias.networks import ARMS
from reprolib.findings.shape_bias.reading import counted

KEPT = {
    "scrambled_2": "2 x 2 moved", "scrambled_4": "4 x 4 moved", "highpass": "high pass", "lowpass": "low pass", "shape_neutral": "mixed fill",
    "shape_flat": "flat fill", "silhouette": "black figure", "contour": "outline",
}  # fmt: skip
LOST = {"noise": "noise", "blur": "blur", "jpeg": "JPEG", "pixelate": "pixelate", "high": "mean of high", "contrast": "contrast (low)"}


@style.housed
def retention(rows: pd.DataFrame) -> Figure:
    """Left what is kept of the common images under each distortion, right the loss under each family of corruptions: a dot a network.

    rows: "right@<name>" of SHP-3 and SHP-4, "lost@<family>" of SHP-10; a panel without rows is not drawn. Lines join the means of the arms.
    """
    there = {name.partition("@")[2] for name in set(rows["quantity"]) if name.startswith("right@")}
    kept = [name for name in (*KEPT, *sorted(there - set(KEPT))) if name in there and ":" not in name]
    lost = [name for name in LOST if f"lost@{name}" in set(rows["quantity"])]
    if not kept:
        raise BadInput("there are no rows of distorted images: measure them first")
    left = {KEPT.get(name, name): counted(rows, f"right@{name}", ["SHP-3", "SHP-4"]) for name in kept}
    right = {LOST[name]: counted(rows, f"lost@{name}", ["SHP-10"]) for name in lost}
    figure = style.figure(style.WIDE, 2.9)
    panels = figure.subplots(1, 1 + bool(right), squeeze=False, width_ratios=[len(left), len(right)][: 1 + bool(right)])[0]
    arms = _side_by_side(panels[0], left)
    chance = 1 / _n_classes(rows)
    panels[0].axhline(chance, **style.CHANCE, zorder=0)
    beside(panels[0], "chance", chance)
    panels[0].set(ylim=(-0.03, 1.05), ylabel="right, of the images that\nall networks have right")
    if right:
        arms = style.in_order([*arms, *_side_by_side(panels[1], right)])
        panels[1].axhline(1 - chance, **style.CHANCE, zorder=0)
        beside(panels[1], "chance", 1 - chance)
        panels[1].set(ylim=(-0.03, 1.05), ylabel="lost of them")
    figure.legend(handles=charts.keys(arms, linestyle="none"), loc="outside lower center", ncols=len(arms))
    return figure


@style.housed
def frequency(rows: pd.DataFrame) -> Figure:
    """Shape bias by the family of the texture (all classes may answer), and on the gratings alone (their four classes): a dot a network.

    rows: "answers@<family>" of SHP-1 and "answers" of SHP-8. What has no answer by a cue has no dot.
    """
    families = {family: counted(rows, f"answers@{family}") for family in FAMILIES}
    families = {family: table for family, table in families.items() if len(table)}
    if not families:
        raise BadInput("there are no rows by the family of the texture: photographs have none")
    figure = style.figure(style.WIDE, 2.6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[len(families), 1.6])
    _side_by_side(left, families)
    arms = _side_by_side(right, {"4 classes": counted(rows, "answers", [GRATINGS])})
    left.set(ylim=(-0.03, 1.05), ylabel="shape bias")
    left.set_title("by the texture's family, 8 classes may answer")
    right.set_title("SHP-8: gratings alone")
    figure.legend(handles=charts.keys(arms, linestyle="none"), loc="outside lower center", ncols=len(arms))
    return figure


@style.housed
def cues(rows: pd.DataFrame) -> Figure:
    """Single cues: accuracy on textures (x) and on shapes (y), corrected for chance, and an arrow from standard to robust of each seed.

    rows: "a_shape" and "a_texture" of SHP-1.
    """
    found = rows[(rows["claim"] == CONFLICT) & rows["quantity"].isin(["a_shape", "a_texture"])]
    table = found.pivot_table(index=["arm", "seed", "network"], columns="quantity", values="value").reset_index()
    if not {"a_shape", "a_texture"} <= set(table):
        raise BadInput("there are no accuracies on single cues: photographs have none")
    figure = style.figure(0.6 * style.WIDE, 3.0)
    ax = figure.subplots()
    arms = style.in_order(list(table["arm"]))
    for arm in arms:
        look, of = style.role(arm), table[table["arm"] == arm]
        ax.scatter(of["a_texture"], of["a_shape"], color=look.colour, marker=look.marker, s=26, edgecolor="white", linewidth=0.6, zorder=3)
    places = {(one["arm"], one["seed"]): (one["a_texture"], one["a_shape"]) for one in table.to_dict("records")}
    for seed in sorted({seed for arm, seed in places if arm == ARMS[0] and (ARMS[1], seed) in places}):
        arrow = {"arrowstyle": "->", "color": style.FAINT, "linewidth": 0.8}
        ax.annotate("", places[ARMS[1], seed], places[ARMS[0], seed], arrowprops=arrow, zorder=2)
    ax.axhline(0, **style.CHANCE, zorder=0)
    ax.axvline(0, **style.CHANCE, zorder=0)
    ax.set(xlim=(-0.1, 1.05), ylim=(-0.1, 1.05), xlabel="texture alone (0: chance)", ylabel="shape alone (0: chance)")
    figure.legend(handles=charts.keys(arms, linestyle="none"), loc="outside right center")
    return figure


def _side_by_side(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Names on the x axis, a dot a network and arm beside arm; a line from the mean of one arm to that of the other. Returns the arms drawn."""
    whole = pd.concat([table.assign(at=float(k)) for k, table in enumerate(tables.values())]).dropna(subset="value")
    arms = style.in_order(list(whole["arm"]))
    step = 0.7 / max(len(arms), 2)
    place = {arm: step * (k - (len(arms) - 1) / 2) for k, arm in enumerate(arms)}
    for at, of in whole.groupby("at"):
        means = of[of["arm"].isin(ARMS)].groupby("arm")["value"].mean()
        ax.plot([float(at) + place[arm] for arm in means.index], means, color=style.FAINT, linewidth=1.0, zorder=1)  # type: ignore[arg-type]
    whole["at"] = whole["at"] + whole["arm"].map(place)
    if len(whole):
        charts.dots(whole, ax, "at", gap=step / 8, side=4.4)
    ax.set_xticks(range(len(tables)), [in_lines(name.replace("_", " ")) for name in tables], fontsize=6.5)
    ax.set_xlim(-0.6, len(tables) - 0.4)
    ax.tick_params(axis="x", length=0)
    return arms


def _n_classes(rows: pd.DataFrame) -> int:
    """How many classes a network chooses among: all of CIFAR-10's where photographs were corrupted, else the shapes that stimuli have."""
    if "lost@jpeg" in set(rows["quantity"]):
        return 10
    names: Sequence[str] = rows.loc[(rows["claim"] == CONFLICT) & (rows["quantity"] == "answers"), "unit_2"].unique().tolist()
    return len({name.partition("+")[0] for name in names})
