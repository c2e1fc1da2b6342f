"""Charts from long-form frames, drawn by seaborn in the house's looks: a dot a network, a line an arm. Axes given, axes drawn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import in_lines, tint
from reprolib.figures.reading import network_means

APART = 0.24  # between the quantities of one arm; arms are 1 apart

RADII = ("standard", "robust_small", "robust", "robust_large")
"""Arms by their training radius. Slopes are tested over all but the last, which is shown."""

Mark = tuple[str, str, float]
"""A quantity, its name in the legend, and how full its dots are: 1 the arm's colour, 0 hollow."""


def dots(
    means: pd.DataFrame, ax: Axes, x: str, gap: float, fill: float = 1.0, side: float = 5.6, edge: float = 0.6, alpha: float = 1.0
) -> Axes:
    """A dot a network at the number `x`, networks of one arm and place `gap` apart, so that equal values stay visible.

    means: a row a network, columns arm, seed, value and `x`, see `network_means`. fill: as in `Mark`; others' networks are hollow.
    side, edge: points that a dot and the line around it measure, which is white around full dots, the arm's colour around others.
    """
    arms = style.in_order(list(means["arm"]))
    means = means.sort_values([x, "arm", "seed"], kind="stable", ignore_index=True)
    side_by_side = means.groupby(["arm", x])["value"]
    means["place"] = means[x] + gap * (side_by_side.cumcount() - (side_by_side.transform("size") - 1) / 2)
    full = {arm: 0.0 if style.role(arm).is_hollow else fill for arm in arms}
    is_full = [full[arm] == 1 for arm in means["arm"]]
    sns.scatterplot(
        means, x="place", y="value", hue="arm", style="arm", ax=ax, legend=False, zorder=3, alpha=alpha, linewidth=edge,
        palette={arm: tint(style.role(arm).colour, full[arm]) for arm in arms}, markers={arm: style.role(arm).marker for arm in arms},
        edgecolor=["white" if whole else style.role(arm).colour for arm, whole in zip(means["arm"], is_full, strict=True)],
        s=[(side + (edge if whole else -edge)) ** 2 for whole in is_full],  # what is seen is of one size
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    return ax


def by_arm(rows: pd.DataFrame, ax: Axes, marks: Sequence[Mark], arms: Sequence[str] | None = None, side: float = 5.6) -> Axes:
    """Arms side by side, in each a dot a network and a bar at their mean, quantity beside quantity.

    rows: tidy, of one claim or several; only the quantities of `marks` are drawn, beside each other as in `marks`. arms: left to
    right; default: those of the rows in the house's order. side: of a dot, in points, where there is one mark. What a quantity is without stays blank.
    """
    quantities = [quantity for quantity, *_ in marks]
    means = network_means(rows[rows["quantity"].isin(quantities)], "quantity")
    arms = style.in_order(list(means["arm"])) if arms is None else arms
    offset = means["quantity"].map(quantities.index) - (len(marks) - 1) / 2
    means["at"] = means["arm"].map(arms.index) + APART * offset
    width, gap, side = (0.6, 0.2, side) if len(marks) == 1 else (0.9 * APART, 0.08, 4.8)
    for arm in arms:
        levels = means[means["arm"] == arm].groupby("at")["value"].mean()
        left, right = levels.index - width / 2, levels.index + width / 2
        ax.hlines(levels, left, right, color=style.role(arm).colour, linewidth=1.6, alpha=0.6, zorder=2)
    gap = min(gap, width / max(means.groupby(["arm", "at"]).size(), default=1))
    for quantity, _, fill in marks:
        if (part := means[means["quantity"] == quantity]).size:
            dots(part, ax, "at", gap, fill, side)
    ax.set_xticks(range(len(arms)), [in_lines(style.role(arm).label) for arm in arms], fontsize=6)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.55, len(arms) - 0.45)
    return ax


def by_radius(means: pd.DataFrame, ax: Axes) -> Axes:
    """A dot a network over its training radius, and a line through the mean at each, dotted to the largest, which no slope includes.

    means: as of `dots`, with the radius as column eps; arms that are not of `RADII` are not drawn. Raises BadInput for fewer than two radii.
    """
    means = means[means["arm"].isin(RADII)]
    levels = means.groupby("eps")["value"].mean()
    if len(levels) < 2:
        there = ", ".join(f"{eps:g}" for eps in levels.index) or "none"
        raise BadInput(f"a trend needs networks of at least two training radii: the rows hold {there}; measure robust arms too")
    n_tested = int((levels.index <= means[means["arm"] != RADII[-1]]["eps"].max()).sum())
    for part, dashes in ((slice(n_tested), "-"), (slice(n_tested - 1, None), ":")):
        ax.plot(levels.index[part], levels[part], color=style.FAINT, linewidth=1.0, linestyle=dashes, zorder=1)
    dots(means, ax, "eps", gap=0.025 * float(levels.index.max()))
    ax.set_xticks(list(levels.index), [f"{eps:g}" for eps in levels.index])
    ax.set_xlabel("training radius, pixel units (0: standard)")
    return ax


def radius_keys(arms: Sequence[str]) -> list[Line2D]:
    """The legend's entries of `by_radius`."""
    dotted = Line2D([], [], color=style.FAINT, linewidth=1.0, linestyle=":", label="shown, not tested")
    return keys(style.in_order([arm for arm in arms if arm in RADII]), linestyle="none") + [dotted] * (RADII[-1] in arms)


def lines(rows: pd.DataFrame, ax: Axes, x: str, each: str = "network", band: float | None = None, order: str = "", **look: Any) -> Axes:
    """A line a network (or an `each` "arm") through the means of `value` at each `x`; around it the middle share `band` of the values.

    rows: columns arm, seed, network, value and `x`, numbers. order: the column along which a line runs; default: `x`.
    """
    keys = rows["arm"] if each == "arm" else rows["arm"] + " " + rows["seed"].astype(str) + " " + rows[each]
    arm_of = dict(zip(keys, rows["arm"], strict=True))
    arms = style.in_order(list(arm_of.values()))
    levels = sorted(arm_of, key=lambda key: (arms.index(arm_of[key]), key))
    sns.lineplot(
        rows.assign(key=keys).sort_values(order or x, kind="stable"), x=x, y="value", hue="key", style="key", hue_order=levels,
        style_order=levels, palette={key: style.role(arm).colour for key, arm in arm_of.items()}, dashes=False, sort=False, ax=ax,
        markers={key: style.role(arm).marker for key, arm in arm_of.items()}, errorbar=None if band is None else ("pi", 100 * band),
        err_kws={"alpha": 0.14, "linewidth": 0}, legend=False, **{"markeredgecolor": "auto", "markeredgewidth": 1, **look},
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    return ax


def keys(arms: Sequence[str], labels: Mapping[str, str] | None = None, **look: Any) -> list[Line2D]:
    """The legend's entries of arms, named as in the house unless `labels` names them otherwise."""
    named = {arm: style.role(arm) for arm in arms}
    words = {arm: role.label for arm, role in named.items()} | dict(labels or {})
    return [Line2D([], [], color=role.colour, marker=role.marker, label=words[arm], **look) for arm, role in named.items()]


def mark_keys(marks: Sequence[Mark]) -> list[Line2D]:
    """The legend's entries of marks: grey dots as full as theirs."""
    grey: dict[str, Any] = {"color": style.FAINT, "marker": "o", "linestyle": "none"}
    return [Line2D([], [], markerfacecolor=tint(style.FAINT, fill), label=label, **grey) for _, label, fill in marks]
