"""Every kind of network side by side: is it the robust training, or lower accuracy, noise, blur or the architecture alone?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import style
from reprolib.figures.page import beside, in_lines
from reprolib.figures.reading import network_means, of_claim

EXTERNAL = "external_"
"""Before the role of a network that somebody else trained; drawn hollow, in that role's colour."""

BESIDE = ("baseline", "external")
"""Claims under which codes are kept that are shown beside the claims' own: no network at all, and other people's networks."""

MARGIN = 0.06  # above and below the dots, in units of the start's distance; .05 is the smallest effect that counts


@style.housed
def controls(rows: pd.DataFrame) -> Figure:
    """A dot per network, kinds of network side by side: distance of the inverses, and below how often a judge recognises them.

    rows: claim "INV-2", quantity "distance_ratio", and claim "INV-3", quantity "recognised", with the judge's ceiling and floor;
    both quantities of noise starts under the claims of `BESIDE` as well, where they are there. Without "recognised" there is one
    panel. Bars are means over networks; the lines across are the robust arm's.
    Raises BadInput where INV-2 has no distances, or an arm has no look.
    """
    of_claim(rows, "INV-2", ["distance_ratio"])
    distance, recognised = _gathered(rows, "INV-2", "distance_ratio"), _gathered(rows, "INV-3", "recognised")
    arms = kinds(list(distance["arm"]))
    figure = style.figure(style.WIDE, 2.6 if recognised.empty else 4.4)
    panels = figure.subplots(1 if recognised.empty else 2, 1, sharex=True, squeeze=False)[:, 0]
    lowest, highest = _dots(panels[0], distance, arms)
    panels[0].axhline(1, **style.CHANCE, zorder=0)
    beside(panels[0], "no nearer\nthan the start", 1)
    panels[0].set_ylim(min(lowest - MARGIN, 0.9), max(highest, 1) + MARGIN)
    panels[0].set_ylabel("perceptual distance\nto the target\n/ that of the start")
    panels[0].set_title("INV-2: lower is nearer to the target")
    if not recognised.empty:
        _dots(panels[1], recognised, arms)
        for quantity, words in (("judge_ceiling", "on the targets\nthemselves"), ("judge_floor", "on other\ntargets")):
            level = rows[(rows["claim"] == "INV-3") & (rows["quantity"] == quantity)]["value"].mean()
            if pd.notna(level):
                panels[1].axhline(level, **style.CHANCE, zorder=0)
                beside(panels[1], words, level)
        panels[1].set_ylim(-0.05, 1.05)  # a dot at an end is drawn whole
        panels[1].set_ylabel("share given the\nclass of the target\nby the standard judge")
        panels[1].set_title("INV-3: higher carries more of the target's meaning")
    names = [in_lines(look(arm).label) for arm in arms]
    panels[-1].set_xticks(range(len(arms)), names, fontsize=6)
    panels[-1].set_xlim(-0.55, len(arms) - 0.45)
    for ax in panels:
        ax.tick_params(axis="x", length=0)
    dot = Line2D([], [], color=style.FAINT, marker="o", linestyle="none", label="one network (mean over targets)")
    hollow = Line2D([], [], color=style.FAINT, markerfacecolor="white", marker="o", linestyle="none", label="trained by others")
    bar = Line2D([], [], color=style.FAINT, linewidth=1.6, label="mean over seeds; of robust, across")
    handles = [dot, hollow, bar] if any(arm.startswith(EXTERNAL) for arm in arms) else [dot, bar]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure


def kinds(arms: Sequence[str]) -> list[str]:
    """The distinct arms in the house's order; other people's networks last."""
    own = style.in_order([arm for arm in arms if not arm.startswith(EXTERNAL)])
    others = {arm.removeprefix(EXTERNAL) for arm in arms if arm.startswith(EXTERNAL)}
    return own + [EXTERNAL + arm for arm in style.in_order(list(others))]


def look(arm: str) -> style.Role:
    """How an arm is drawn: its role, or that of the role behind "external_", named as somebody else's."""
    if arm in style.ROLES or not arm.startswith(EXTERNAL):
        return style.role(arm)
    role = style.role(arm.removeprefix(EXTERNAL))
    return replace(role, label=f"others', {role.label}")


def _gathered(rows: pd.DataFrame, claim: str, quantity: str) -> pd.DataFrame:
    """The rows of a claim's quantity, and those that are shown beside it: other codes and other people's networks, from noise."""
    of_quantity = rows[rows["quantity"] == quantity]
    shown = of_quantity["claim"].isin(BESIDE) & of_quantity["unit_2"].str.startswith("noise")
    return of_quantity[(of_quantity["claim"] == claim) | shown]


def _dots(ax: Axes, found: pd.DataFrame, arms: Sequence[str]) -> tuple[float, float]:
    """A dot per network and a bar at their mean, arm by arm; returns the lowest and highest dot."""
    means = network_means(found)
    for i, arm in enumerate(arms):
        of_arm, role = means[means["arm"] == arm].sort_values("seed"), look(arm)
        if of_arm.empty:
            continue
        level, n = of_arm["value"].mean(), len(of_arm)
        ax.plot([i - 0.3, i + 0.3], [level, level], color=role.colour, linewidth=1.6, alpha=0.6, solid_capstyle="butt")
        if arm == "robust":
            ax.axhline(level, color=role.colour, linewidth=0.6, alpha=0.6, zorder=0)
        step = min(0.2, 0.5 / n)
        ax.scatter(
            [i + (k - (n - 1) / 2) * step for k in range(n)],
            of_arm["value"],
            s=34,
            marker=role.marker,
            facecolors="white" if arm.startswith(EXTERNAL) else role.colour,
            edgecolors=role.colour if arm.startswith(EXTERNAL) else "white",
            linewidths=1.0 if arm.startswith(EXTERNAL) else 0.6,
            zorder=3,
        )
    return means["value"].min(), means["value"].max()
