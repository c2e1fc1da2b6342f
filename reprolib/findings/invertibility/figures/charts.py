"""The charts of invertibility, from tidy rows: how near the picture came at equal distance in R, and what judges say of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from reprolib.errors import BadInput, nearest
from reprolib.figures import style
from reprolib.figures.page import axes_for, beside, in_lines, tint
from reprolib.figures.reading import network_means, of_claim, unit_means

TAUS = (0.5, 0.35, 0.2, 0.1, 0.05)
BAND = (0.1, 0.9)  # quantiles over targets
RATIO_LABEL = "perceptual distance to the target\n/ that of the start"
BARS = (
    ("recognised", "$J_t$, standard judge", 1.0, ""),
    ("recognised_robust_judge", "$J_t$, robust judge", 0.45, ""),
    ("recognised_start", "$J_0$, standard judge", 0.0, "////"),
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
    lowest_seen = float(wide["distance_ratio"].max())
    for arm in style.in_order(list(wide["arm"])):
        look = style.role(arm)
        of_arm = wide[wide["arm"] == arm]
        label = look.label
        if tau is not None:
            label += f": {_share_reached(rows, of_arm, arm, start, tau):.0%}"
        for (_, _), path in of_arm.groupby(["seed", "network"]):
            steps = path.groupby("step")
            x, ratio = steps["d_rel"].mean(), steps["distance_ratio"]
            lowest_seen = min(lowest_seen, float(ratio.quantile(BAND[0]).min()))
            ax.fill_between(x, ratio.quantile(BAND[0]), ratio.quantile(BAND[1]), color=look.colour, alpha=0.13, linewidth=0)
            ax.plot(x, ratio.mean(), color=look.colour, marker=look.marker, markevery=[-1], label=label)
            label = "_"  # one entry per arm
    lowest, highest = ax.get_xlim()
    marks = [mark for mark in taus if mark > 0]
    for mark in marks:
        deciding = tau is not None and mark == tau
        ax.axvline(mark, **(style.REFERENCE if deciding else style.CHANCE), zorder=0)
    if tau is not None:
        ax.set_title("dashed: where networks are compared", fontsize=6.5, loc="right")
    ax.axhline(1, **style.CHANCE, zorder=0)
    ax.set_xscale("log")
    means = wide.groupby(["arm", "seed", "network", "step"])["d_rel"].mean()
    ax.set_xlim(max(highest, means.max() * 1.1), max(means[means > 0].min(), 1e-4) * 0.8)
    ax.set_xticks(marks + [1.0], [f"{mark:g}" for mark in marks] + ["1"])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(bottom=max(0, lowest_seen - 0.1))
    ax.set_xlabel("distance to the target in representation space,\n$d_\\mathrm{rel}$ (1 = two random images); steps run to the right")
    ax.set_ylabel(RATIO_LABEL)
    title = None if tau is None else f"targets that reach {tau:g}"
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), title=title, title_fontsize=7, alignment="left")
    return figure


@style.housed
def judges(rows: pd.DataFrame, ax: Axes | None = None, claim: str = "INV-3") -> Figure:
    """Share of inverses that independent judges give the target's class (J_t), and the start's (J_0), a dot per network.

    rows: `claim`, quantities "recognised", "recognised_robust_judge", "recognised_start" (0 or 1 per target and start), and of arm
    "judge" "judge_ceiling" (the judge on the targets themselves) and "judge_floor" (on random images); whatever is absent is not drawn.
    """
    found = of_claim(rows, claim)
    bars = [bar for bar in BARS if bar[0] in set(found["quantity"])]
    if not bars:
        raise BadInput(f"claim {claim!r} has no rows of {', '.join(name for name, *_ in BARS)}: no judge has looked at an inverse yet")
    of_bars = found[found["quantity"].isin([bar[0] for bar in bars])]
    arms = style.in_order([arm for arm in of_bars["arm"] if arm != "judge"])
    figure, ax = axes_for(ax, style.WIDE if len(arms) > 3 else 0.75 * style.WIDE, 2.5)
    width = 0.8 / len(bars)
    for i, arm in enumerate(arms):
        look = style.role(arm)
        for j, (quantity, _, strength, hatch) in enumerate(bars):
            means = network_means(of_bars[(of_bars["arm"] == arm) & (of_bars["quantity"] == quantity)])
            if means.empty:
                continue
            x = i + (j - (len(bars) - 1) / 2) * width
            face = tint(look.colour, strength)
            ax.bar(x, means["value"].mean(), 0.92 * width, color=face, edgecolor=look.colour, hatch=hatch, linewidth=0.8)
            _dots(ax, x, means["value"], "black", look.marker, size=11)
    for quantity, words, line in (
        ("judge_ceiling", "judge on\nthe targets", style.REFERENCE),
        ("judge_floor", "judge on\nrandom images", style.CHANCE),
    ):
        level = found[found["quantity"] == quantity]["value"]
        if len(level):
            ax.axhline(level.mean(), **line, zorder=2.5)
            beside(ax, words, level.mean())
    grey = style.FAINT
    handles = [Patch(facecolor=tint(grey, strength), edgecolor=grey, hatch=hatch, label=label) for _, label, strength, hatch in bars]
    ax.set_xticks(range(len(arms)), [in_lines(style.role(arm).label) for arm in arms], fontsize=6.5)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.55, len(arms) - 0.45)
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("share given the class of\nthe target ($J_t$), the start ($J_0$)")
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(handles))
    return figure


@style.housed
def distances(rows: pd.DataFrame, ax: Axes | None = None, claim: str = "INV-2", quantity: str = "distance_ratio") -> Figure:
    """One dot per network, arms side by side: the mean distance of its inverses, with the middle half of its targets.

    rows: `claim` and `quantity`, a value per network, unit and unit_2; controls appear as further arms. The band behind an arm spans
    its seeds: the placebo, a difference that says nothing of the arms; its largest height is written below.
    """
    found = of_claim(rows, claim, [quantity])
    arms = style.in_order(list(found["arm"]))
    figure, ax = axes_for(ax, style.WIDE if len(arms) > 3 else style.NARROW, 2.6)
    units, spans = unit_means(found), []
    for i, arm in enumerate(arms):
        look = style.role(arm)
        means = network_means(found[found["arm"] == arm]).sort_values("seed")
        step = min(0.22, 0.6 / len(means))
        if len(means) > 1:
            low, high = means["value"].min(), means["value"].max()
            spans.append((high - low, look.label))
            ax.fill_between([i - 0.38, i + 0.38], low, high, color=look.colour, alpha=0.22, linewidth=0)
        for j, (_, network) in enumerate(means.iterrows()):
            x = i + (j - (len(means) - 1) / 2) * step
            spread = units[(units["arm"] == arm) & (units["network"] == network["network"]) & (units["seed"] == network["seed"])]["value"]
            ax.plot([x, x], [spread.quantile(0.25), spread.quantile(0.75)], color=look.colour, linewidth=1.0)
            ax.scatter(x, network["value"], s=38, marker=look.marker, color=look.colour, edgecolors="white", linewidths=0.6, zorder=3)
    notes = ["line: the middle half of the targets"]
    if spans:
        notes += ["shaded: two seeds of one arm (placebo)", f"at most {max(spans)[0]:.2g} apart ({max(spans)[1]})"]
    else:
        notes += ["one seed per arm: no placebo"]
    ax.set_xticks(range(len(arms)), [in_lines(style.role(arm).label) for arm in arms], fontsize=6.5)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.55, len(arms) - 0.45)
    if quantity.startswith("distance_ratio"):
        ax.axhline(1, **style.CHANCE, zorder=0)
        beside(ax, "no nearer\nthan the start", 1)
        ax.set_ylim(0, max(1.1, ax.get_ylim()[1]))
        ax.set_ylabel(RATIO_LABEL)
    else:
        ax.set_ylabel(quantity.replace("_", " "))
    ax.set_xlabel((", " if len(arms) > 3 else "\n").join(notes), fontsize=6.5)
    return figure


def _share_reached(rows: pd.DataFrame, path: pd.DataFrame, arm: str, start: str, tau: float) -> float:
    """Share of an arm's targets that came as near as tau at any step (reach rows), or at a logged step (the arm's path)."""
    named = (rows["claim"] == "INV-2") & (rows["quantity"] == f"reach@{tau:g}") & (rows["arm"] == arm) & (rows["unit_2"] == start)
    if named.any():
        return float(rows.loc[named, "value"].mean())
    return float((path.groupby(["seed", "network", "unit"])["d_rel"].min() <= tau).mean())


def _dots(ax: Axes, x: float, values: pd.Series, colour: str, marker: str, size: float) -> None:
    """One dot per network, side by side around x, so that equal values stay visible."""
    n = len(values)
    offsets = [x + (k - (n - 1) / 2) * 0.06 for k in range(n)]
    ax.scatter(offsets, values, s=size, color=colour, marker=marker, linewidths=0.4, edgecolors="white", zorder=3)
