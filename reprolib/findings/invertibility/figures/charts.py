"""The charts of invertibility, from tidy rows: how near the picture came at equal distance in R, and what judges say of it."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.page import axes_for, beside
from reprolib.figures.reading import of_claim
from reprolib.findings.invertibility.inverting import TAUS

BAND = 0.8  # the middle share of the targets
RATIO_LABEL = "perceptual distance to the target\n/ that of the start"
MARKS: tuple[charts.Mark, ...] = (
    ("recognised", "target, standard judge", 1.0),
    ("recognised_robust_judge", "target, robust judge", 0.45),
    ("recognised_start", "start, standard judge", 0.0),
)


@style.housed
def trajectories(rows: pd.DataFrame, tau: float, ax: Axes | None = None) -> Figure:
    """Distance of the pictures against distance in representation space while inverting, a line per network, its band over targets.

    rows: claim "trajectory", quantities "d_rel" and "distance_ratio", unit = target, unit_2 = "noise_0|<step>". Each point is the mean
    over targets at one step; the band reaches from the 10 % to the 90 % quantile of the ratio over targets.
    tau: the deciding threshold, marked among all; the legend, beside the axes, tells the share of targets that reached it, from the
    rows "reach@<tau>" of INV-2.
    """
    found = of_claim(rows, "trajectory", ["d_rel", "distance_ratio"])
    found = found.assign(step=found["unit_2"].str.rpartition("|")[2].astype(int))
    index = ["arm", "seed", "network", "unit", "step"]
    wide = found.pivot_table(index=index, columns="quantity", values="value").reset_index()
    figure, ax = axes_for(ax, style.WIDE, 2.7)
    path = ["arm", "seed", "network", "step"]
    wide = wide.assign(value=wide["distance_ratio"], at=wide.groupby(path)["d_rel"].transform("mean"))
    charts.lines(wide, ax, "at", band=BAND, order="step", markevery=[-1])
    _, highest = ax.get_xlim()
    marks = sorted({*TAUS, tau}, reverse=True)
    for mark in marks:
        ax.axvline(mark, **(style.REFERENCE if mark == tau else style.CHANCE), zorder=0)
    ax.set_title("dashed: where networks are compared", fontsize=6.5, loc="right")
    ax.axhline(1, **style.CHANCE, zorder=0)
    ax.set_xscale("log")
    ax.set_xlim(max(highest, wide["at"].max() * 1.1), max(wide["at"][wide["at"] > 0].min(), 1e-4) * 0.8)
    ax.set_xticks(marks + [1.0], [f"{mark:g}" for mark in marks] + ["1"])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(bottom=max(0, wide.groupby(path)["value"].quantile((1 - BAND) / 2).min() - 0.1))
    ax.set_xlabel("distance to the target in representation space,\n$d_\\mathrm{rel}$ (1 = two random images); steps run to the right")
    ax.set_ylabel(RATIO_LABEL)
    arms, reach = style.in_order(list(wide["arm"])), rows[(rows["claim"] == "INV-2") & (rows["quantity"] == f"reach@{tau:g}")]
    shares = reach[reach["unit_2"] == "noise_0"].groupby("arm")["value"].mean()
    words = {arm: f"{style.role(arm).label}: {shares[arm]:.0%}" for arm in arms if arm in shares}
    title = f"targets that reach {tau:g}"
    handles = charts.keys(arms, words)
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), title=title, title_fontsize=7, alignment="left")
    return figure


@style.housed
def judges(rows: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Share of inverses that independent judges give the target's class and the start's, a dot per network.

    rows: claim "INV-3", quantities "recognised", "recognised_robust_judge", "recognised_start" (0 or 1 per target and start), and of arm
    "judge" "judge_ceiling" (the judge on the targets themselves) and "judge_floor" (on random images); whatever is absent is not drawn.
    """
    found = of_claim(rows, "INV-3")
    marks = [mark for mark in MARKS if mark[0] in set(found["quantity"])]
    if not marks:
        raise BadInput(f"claim 'INV-3' has no rows of {', '.join(name for name, *_ in MARKS)}: no judge has looked at an inverse yet")
    arms = style.in_order([arm for arm in found["arm"] if arm != "judge"])
    figure, ax = axes_for(ax, style.WIDE if len(arms) > 3 else 0.75 * style.WIDE, 2.5)
    charts.by_arm(found, ax, marks, arms)
    for quantity, words, line in (
        ("judge_ceiling", "judge on\nthe targets", style.REFERENCE),
        ("judge_floor", "judge on\nrandom images", style.CHANCE),
    ):
        level = found[found["quantity"] == quantity]["value"]
        if len(level):
            ax.axhline(level.mean(), **line, zorder=0)
            beside(ax, words, level.mean())
    ax.set_ylim(-0.03, 1.02)
    ax.set_ylabel("share given the class\nof the target or the start")
    ax.legend(handles=charts.mark_keys(marks), loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(marks))
    return figure
