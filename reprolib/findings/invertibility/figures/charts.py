"""The charts of invertibility, from tidy rows: how near the picture came at equal distance in R, and what judges say of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reprolib.errors import BadInput, nearest
from reprolib.figures import charts, style
from reprolib.figures.page import axes_for, beside
from reprolib.figures.reading import of_claim

TAUS = (0.5, 0.35, 0.2, 0.1, 0.05)
BAND = 0.8  # the middle share of the targets
RATIO_LABEL = "perceptual distance to the target\n/ that of the start"
MARKS: tuple[charts.Mark, ...] = (
    ("recognised", "target, standard judge", 1.0),
    ("recognised_robust_judge", "target, robust judge", 0.45),
    ("recognised_start", "start, standard judge", 0.0),
)


@style.housed
def trajectories(
    rows: pd.DataFrame, ax: Axes | None = None, tau: float | None = None, taus: Sequence[float] = TAUS, start: str = "noise_0"
) -> Figure:
    """Distance of the pictures against distance in representation space while inverting, a line per network, its band over targets.

    rows: claim "trajectory", quantities "d_rel" and "distance_ratio", unit = target, unit_2 = "<start>|<step>". Each point is the mean
    over targets at one step; the band reaches from the 10 % to the 90 % quantile of the ratio over targets.
    tau: the deciding threshold, marked, and the legend, beside the axes, then tells the share of targets that reached it: from rows "reach@<tau>" of
    INV-2 where there are, else from the steps logged. taus: all thresholds marked.
    """
    found = of_claim(rows, "trajectory", ["d_rel", "distance_ratio"])
    parts = found["unit_2"].astype(str).str.extract(r"^(?P<start>.*)\|(?P<step>\d+)$")
    found = found.assign(step=pd.to_numeric(parts["step"]))[parts["start"] == start]
    if found.empty:
        there = sorted(parts["start"].dropna().unique())
        raise BadInput(f"no trajectory starts from {start!r}: the rows hold {', '.join(there) or 'no start'}{nearest(start, there)}")
    index = ["arm", "seed", "network", "unit", "step"]
    wide = found.pivot_table(index=index, columns="quantity", values="value").reset_index()
    if {"d_rel", "distance_ratio"} - set(wide.columns):
        raise BadInput("a trajectory needs rows of both d_rel and distance_ratio: one of them is missing")
    figure, ax = axes_for(ax, style.WIDE, 2.7)
    path = ["arm", "seed", "network", "step"]
    wide = wide.assign(value=wide["distance_ratio"], at=wide.groupby(path)["d_rel"].transform("mean"))
    charts.lines(wide, ax, "at", band=BAND, order="step", markevery=[-1])
    _, highest = ax.get_xlim()
    marks = [mark for mark in taus if mark > 0]
    for mark in marks:
        deciding = tau is not None and mark == tau
        ax.axvline(mark, **(style.REFERENCE if deciding else style.CHANCE), zorder=0)
    if tau is not None:
        ax.set_title("dashed: where networks are compared", fontsize=6.5, loc="right")
    ax.axhline(1, **style.CHANCE, zorder=0)
    ax.set_xscale("log")
    ax.set_xlim(max(highest, wide["at"].max() * 1.1), max(wide["at"][wide["at"] > 0].min(), 1e-4) * 0.8)
    ax.set_xticks(marks + [1.0], [f"{mark:g}" for mark in marks] + ["1"])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(bottom=max(0, wide.groupby(path)["value"].quantile((1 - BAND) / 2).min() - 0.1))
    ax.set_xlabel("distance to the target in representation space,\n$d_\\mathrm{rel}$ (1 = two random images); steps run to the right")
    ax.set_ylabel(RATIO_LABEL)
    arms, title, words = style.in_order(list(wide["arm"])), None, {}
    if tau is not None:
        title = f"targets that reach {tau:g}"
        words = {arm: f"{style.role(arm).label}: {_share_reached(rows, wide, arm, start, tau):.0%}" for arm in arms}
    handles = charts.keys(arms, words)
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), title=title, title_fontsize=7, alignment="left")
    return figure


@style.housed
def judges(rows: pd.DataFrame, ax: Axes | None = None, claim: str = "INV-3") -> Figure:
    """Share of inverses that independent judges give the target's class and the start's, a dot per network.

    rows: `claim`, quantities "recognised", "recognised_robust_judge", "recognised_start" (0 or 1 per target and start), and of arm
    "judge" "judge_ceiling" (the judge on the targets themselves) and "judge_floor" (on random images); whatever is absent is not drawn.
    """
    found = of_claim(rows, claim)
    marks = [mark for mark in MARKS if mark[0] in set(found["quantity"])]
    if not marks:
        raise BadInput(f"claim {claim!r} has no rows of {', '.join(name for name, *_ in MARKS)}: no judge has looked at an inverse yet")
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


def _share_reached(rows: pd.DataFrame, path: pd.DataFrame, arm: str, start: str, tau: float) -> float:
    """Share of an arm's targets that came as near as tau at any step (reach rows), or at a logged step (the arm's path)."""
    path = path[path["arm"] == arm]
    named = (rows["claim"] == "INV-2") & (rows["quantity"] == f"reach@{tau:g}") & (rows["arm"] == arm) & (rows["unit_2"] == start)
    if named.any():
        return float(rows.loc[named, "value"].mean())
    return float((path.groupby(["seed", "network", "unit"])["d_rel"].min() <= tau).mean())
