"""Every kind of network side by side: is it the robust training, or lower accuracy, noise, blur or the architecture alone?"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import charts, style
from reprolib.figures.page import beside
from reprolib.figures.reading import network_means, of_claim

BESIDE = ("baseline", "external")
"""Claims under which codes are kept that are shown beside the claims' own: no network at all, and other people's networks."""

ACROSS: dict[str, Any] = {"linewidth": 0.6, "alpha": 0.6, "zorder": 0}  # the robust arm's line
MARGIN = 0.06  # above and below the dots, in units of the start's distance; .05 is the smallest effect that counts


@style.housed
def controls(rows: pd.DataFrame) -> Figure:
    """A dot per network, kinds of network side by side: distance of the inverses, and below how often a judge recognises them.

    rows: claim "INV-2", quantity "distance_ratio", and claim "INV-3", quantity "recognised", with the judge's ceiling and floor;
    both quantities of noise starts under the claims of `BESIDE` as well, where they are there. Bars are means over networks; the
    lines across are the robust arm's.
    Raises BadInput where INV-2 has no distances, or an arm has no look.
    """
    of_claim(rows, "INV-2", ["distance_ratio"])
    distance, recognised = _gathered(rows, "INV-2", "distance_ratio"), _gathered(rows, "INV-3", "recognised")
    arms = style.in_order(list(distance["arm"]))
    figure = style.figure(style.WIDE, 4.4)
    panels = figure.subplots(2, 1, sharex=True)
    for ax, found in zip(panels, (distance, recognised), strict=True):
        charts.by_arm(found, ax, [(found["quantity"].iloc[0], "", 1.0)], arms)
        ax.axhline(network_means(found[found["arm"] == "robust"])["value"].mean(), color=style.role("robust").colour, **ACROSS)
    lowest, highest = network_means(distance)["value"].agg(["min", "max"])
    panels[0].axhline(1, **style.CHANCE, zorder=0)
    beside(panels[0], "no nearer\nthan the start", 1)
    panels[0].set_ylim(min(lowest - MARGIN, 0.9), max(highest, 1) + MARGIN)
    panels[0].set_ylabel("perceptual distance\nto the target\n/ that of the start")
    panels[0].set_title("INV-2: lower is nearer to the target")
    for quantity, words in (("judge_ceiling", "on the targets\nthemselves"), ("judge_floor", "on other\ntargets")):
        level = rows[(rows["claim"] == "INV-3") & (rows["quantity"] == quantity)]["value"].mean()
        if pd.notna(level):
            panels[1].axhline(level, **style.CHANCE, zorder=0)
            beside(panels[1], words, level)
    panels[1].set_ylim(-0.05, 1.05)  # a dot at an end is drawn whole
    panels[1].set_ylabel("share given the\nclass of the target\nby the standard judge")
    panels[1].set_title("INV-3: higher carries more of the target's meaning")
    marks: list[charts.Mark] = [("", "one network (mean over targets)", 1.0)]
    marks += [("", "trained by others", 0.0)] * any(style.role(arm).is_hollow for arm in arms)
    bar = Line2D([], [], color=style.FAINT, linewidth=1.6, label="mean over seeds; of robust, across")
    handles = [*charts.mark_keys(marks), bar]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure


def _gathered(rows: pd.DataFrame, claim: str, quantity: str) -> pd.DataFrame:
    """The rows of a claim's quantity, and those that are shown beside it: other codes and other people's networks, from noise."""
    of_quantity = rows[rows["quantity"] == quantity]
    shown = of_quantity["claim"].isin(BESIDE) & of_quantity["unit_2"].str.startswith("noise")
    return of_quantity[(of_quantity["claim"] == claim) | shown]
