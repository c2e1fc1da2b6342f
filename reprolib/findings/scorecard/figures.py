"""The scorecard's figures, from its rows: the ledger, every network by every property, what else does it, properties against each other."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import charts, style
from reprolib.figures.verdicts import COLOURS, TICKS
from reprolib.findings.scorecard.reading import Property
from reprolib.findings.scorecard.tables import ACCURACIES, LEAST_POINTS, coefficient, read_off
from reprolib.judging.ledger import NETWORK_CONTROLS, Claim

WRAP = 74  # letters a line of a statement
MARKERS = {"laptop": "o", "cifar": "s", "gpu": "^", "smoke": "v"}
APART = {1: (0.0,), 2: (-0.19, 0.19), 3: (-0.26, 0.0, 0.26)}
FURTHEST = 30.0  # smallest effects that the heat map's colours reach
AS_CLAIMED = LinearSegmentedColormap.from_list("as claimed", ["#2B5C8A", "#FFFFFF", "#D55E00"])
SHARES = (-1.0, 2.5)  # the axis of shares; what lies beyond is drawn at its end


@style.housed
def ledger(rows: pd.DataFrame, results: Sequence[Mapping[str, Any]], claims: Mapping[str, Claim]) -> Figure:
    """Every claim's interval at every scale, in units of the smallest effect that counts, coloured by verdict; to the right as claimed.

    rows: those of `tables.effects`. results: results.json of every finding and scale. claims: the ledger, whose order is kept.
    """
    entries = {(entry["id"], result["scale"]): entry for result in results for entry in result["claims"]}
    scales = [scale for scale in MARKERS if any(scale == of for _, of in entries)]
    shown = [claim for claim in claims.values() if any((claim.id, scale) in entries for scale in scales)]
    findings = list(dict.fromkeys(claim.finding for claim in shown))
    figure = _with_names(style.WIDE, 0.9 + 0.235 * (len(shown) + 0.9 * len(findings)))
    ax = figure.subplots()
    names, places, y = [], [], 0.0
    for finding in findings:
        ax.text(
            -0.01,
            y + 0.15,
            finding.replace("_", " "),
            transform=ax.get_yaxis_transform(),
            ha="right",
            fontsize=7.5,
            fontweight="bold",
            va="center",
        )
        y += 0.9
        for claim in (of for of in shown if of.finding == finding):
            statement = claim.statement.split(":")[0].rstrip(".")
            names.append(textwrap.fill(f"{claim.id}  {statement}", WRAP, max_lines=2, placeholder=" …"))
            places.append(y)
            _of_claim(ax, y, claim.id, rows, entries, scales)
            y += 1
    ax.set_yticks(places, names, fontsize=5.2)
    ax.set_ylim(y - 0.4, -0.5)
    ax.set_xscale("asinh", linear_width=1.0)
    ax.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    ax.minorticks_off()
    for place in (-1, 0, 1):
        ax.axvline(place, color=style.INK if place == 0 else style.FAINT, linewidth=0.7, linestyle="-" if place == 0 else ":", zorder=0)
    ax.set_xlabel("effect, in units of the smallest that counts\n(to the right as claimed)")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    words: list[Any] = [Line2D([], [], color=colour, linewidth=2.4, label=word) for word, colour in COLOURS.items()]
    marks = [Line2D([], [], color=style.INK, marker=MARKERS[scale], markersize=3.6, linestyle="none", label=scale) for scale in scales]
    figure.legend(handles=[*words, *marks], loc="outside upper right", ncols=6)
    return figure


def _with_names(width_in: float, height_in: float) -> Figure:
    """A figure with .3 inches more on the left than the layout leaves: it counts long names of rows too narrow."""
    figure = style.figure(width_in, height_in)
    figure.get_layout_engine().set(rect=(0.3 / width_in, 0, 1 - 0.3 / width_in, 1))  # type: ignore[union-attr, call-arg]
    return figure


def _of_claim(ax: Axes, y: float, claim: str, rows: pd.DataFrame, entries: Mapping[tuple[str, str], Any], scales: Sequence[str]) -> None:
    for offset, scale in zip(APART[len(scales)], scales, strict=True):
        entry = entries.get((claim, scale))
        if entry is None or entry["estimate"] is None:
            continue
        value, low, high = read_off(rows, claim=claim, quantity="effect", unit_2=scale)
        colour = COLOURS.get(entry["verdict"].partition(" (")[0], style.FAINT)
        if not math.isnan(low):
            ax.plot([low, high], [y + offset] * 2, color=colour, linewidth=1.4, solid_capstyle="butt", zorder=3)
        ax.plot([value], [y + offset], color=colour, marker=MARKERS[scale], markersize=3.4, linestyle="none", zorder=4)


@style.housed
def heat_map(rows: pd.DataFrame, wanted: Sequence[Property]) -> Figure:
    """A row a network, a column a property: its number, coloured by how far it lies from standard networks of the same architecture.

    In units of the smallest effect, orange on the side that is claimed of robust networks, blue on the other. rows: of `tables.networks`.
    """
    values = rows[rows["unit"] == "value"]
    order = {arm: k for k, arm in enumerate(style.ROLES)}
    who = values[["architecture", "arm", "seed", "recipe", "network"]].drop_duplicates("network")
    sizes = who["architecture"].value_counts()
    who = who.assign(place=who["arm"].map(order), size=-who["architecture"].map(sizes))
    who = who.sort_values(["size", "architecture", "place", "recipe", "seed"], kind="stable", ignore_index=True)
    table = values.pivot_table(index="network", columns=["claim", "quantity"], values="value").reindex(who["network"])
    columns: list[tuple[str, str, Property | None]] = [("networks", name, None) for name in ACCURACIES]
    columns += [(of.claim.id, of.quantity, of) for of in wanted if (of.claim.id, of.quantity) in table.columns]
    figure = style.figure(style.WIDE + 1.2, 1.5 + 0.135 * len(who))
    ax = figure.subplots()
    numbers = np.array([table[column[:2]].to_numpy() if column[:2] in table else np.full(len(who), np.nan) for column in columns]).T
    away = np.array([_away(numbers[:, k], who, of) for k, (*_, of) in enumerate(columns)]).T
    norm = SymLogNorm(linthresh=1.0, linscale=0.6, vmin=-FURTHEST, vmax=FURTHEST)
    mesh = ax.pcolormesh(np.ma.masked_invalid(away), cmap=AS_CLAIMED, norm=norm, edgecolors="white", linewidth=0.3)
    for (row, column), number in np.ndenumerate(numbers):
        if not math.isnan(number):
            is_dark = abs(away[row, column]) > 10
            ax.text(
                column + 0.5, row + 0.52, _short(number), ha="center", va="center", fontsize=4.6, color="white" if is_dark else style.INK
            )
    labels = ["clean accuracy", "under PGD", *(of.label for *_, of in columns if of)]
    ax.set_xticks(np.arange(len(columns)) + 0.5, [textwrap.fill(label, 16) for label in labels], rotation=90, fontsize=5.8)
    ax.xaxis.tick_top()
    told = [
        f"{style.role(arm).label}{'' if recipe in (arm, 'std') else f' ({recipe})'} s{seed}"
        for arm, recipe, seed in zip(who["arm"], who["recipe"], who["seed"], strict=True)
    ]
    ax.set_yticks(np.arange(len(who)) + 0.5, told, fontsize=5)
    ax.set_ylim(len(who), 0)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for architecture, group in who.groupby("architecture", sort=False):
        first, last = group.index.min(), group.index.max() + 1
        ax.axhline(first, color=style.INK, linewidth=0.6)
        ax.annotate(
            str(architecture), (1.005, (first + last) / 2), xycoords=("axes fraction", "data"), rotation=270, va="center", fontsize=6.5
        )
    bar = figure.colorbar(mesh, ax=ax, location="bottom", shrink=0.5, aspect=40, pad=0.01, ticks=[-30, -10, -3, -1, 0, 1, 3, 10, 30])
    bar.ax.set_xticklabels(["-30", "-10", "-3", "-1", "0", "1", "3", "10", "30"], fontsize=6)
    bar.set_label("away from standard networks of the architecture, in smallest effects (right: as claimed of robust ones)", fontsize=6.5)
    bar.outline.set_visible(False)
    return figure


def _away(numbers: Any, who: pd.DataFrame, of: Property | None) -> Any:
    """How far each network lies from the mean standard one of its architecture, in smallest effects, above 0 as claimed; nan where unknown."""
    if of is None:
        return np.full(len(who), np.nan)
    standard = pd.Series(numbers)[who["arm"] == "standard"].groupby(who["architecture"]).mean()
    base = who["architecture"].map(standard).to_numpy()
    unit = of.claim.smallest_effect * (np.abs(base) if of.claim.relative else 1.0)
    return (numbers - base) / unit * (-1 if of.claim.direction == "less" else 1)


def _short(number: float) -> str:
    text = f"{number:.2f}" if abs(number) >= 0.095 or number == 0 else f"{number:.1g}"
    return text.replace("0.", ".", 1) if abs(number) < 1 else text


@style.housed
def what_else(rows: pd.DataFrame, claims: Mapping[str, Claim], against: Collection[str] = ()) -> Figure:
    """Of every answered claim the share of robust minus standard that other kinds of training make, with intervals.

    rows: of `tables.changes`. against: ids of claims that are contradicted. Full: the claim asks it of this control; hollow: shown beside.
    """
    rows = rows[rows["quantity"] == "share"]
    ids = [name for name in claims if (rows["claim"] == name).any()]
    if not ids:
        figure = style.figure(style.WIDE, 0.6)
        figure.text(0.5, 0.5, "no change from standard to robust networks was answered", ha="center", va="center")
        return figure
    arms = [arm for arm in NETWORK_CONTROLS if (rows["arm"] == arm).any()]
    figure = _with_names(3.2 + 1.1 * len(arms), 0.95 + 0.3 * len(ids))
    axes = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
    for ax, arm in zip(axes, arms, strict=True):
        role = style.role(arm)
        for place, line in ((0, "-"), (0.5, ":"), (1, "-")):
            ax.axvline(place, color=style.FAINT, linewidth=0.7, linestyle=line, zorder=0)
        for y, name in enumerate(ids):
            here = rows[(rows["claim"] == name) & (rows["arm"] == arm)]
            if here.empty:
                continue
            value, low, high = (float(np.clip(number, *SHARES)) for number in read_off(here, claim=name))
            if not math.isnan(low):
                ax.plot([low, high], [y, y], color=role.colour, linewidth=1.3, solid_capstyle="butt", zorder=3)
            face = role.colour if arm in claims[name].controls else "white"
            ax.plot(
                [value],
                [y],
                color=role.colour,
                marker=role.marker,
                markersize=4.2,
                markerfacecolor=face,
                linestyle="none",
                zorder=4,
                clip_on=False,
            )
        ax.set(xlim=SHARES, xticks=[0, 1, 2], xticklabels=["0", "1", "2"])
        ax.set_title(role.label, fontsize=7, loc="center")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    told = [f"{name}{' (contradicted)' if name in against else ''} {claims[name].statement.split(':')[0].rstrip('.')}" for name in ids]
    axes[0].set_yticks(range(len(ids)), [textwrap.fill(words, 46, max_lines=2, placeholder=" …") for words in told], fontsize=5.4)
    axes[0].set_ylim(len(ids) - 0.5, -0.5)
    figure.supxlabel(
        "share of the change from standard to robust (0: as standard networks, 1: as robust ones; full: the claim asks it)", fontsize=7
    )
    return figure


@style.housed
def together(points: pd.DataFrame, wanted: Sequence[Property]) -> Figure:
    """The findings' first properties and clean accuracy against each other, a mark a recipe and architecture (a mean over seeds).

    points: of `tables.points`. Above the diagonal the rank correlation with clean accuracy held fixed, where there are points enough, else
    how many there are.
    """
    names = [name for name in ("clean accuracy", *(of.label for of in wanted if of.is_first)) if name in points]
    figure = style.figure(style.WIDE, style.WIDE * 0.98)
    axes = figure.subplots(len(names), len(names), squeeze=False)
    for (row, column), ax in np.ndenumerate(axes):
        up, across = names[row], names[column]
        both = points.dropna(subset=[up, across])
        if row == column:
            ax.text(0.5, 0.5, textwrap.fill(up, 12, break_long_words=False), transform=ax.transAxes, ha="center", va="center", fontsize=6)
        elif column > row:
            _told_above(ax, coefficient(points, up, across), len(both))
        for arm, group in both.groupby("arm", sort=False) if column < row else ():
            role = style.role(str(arm))
            ax.plot(group[across], group[up], color=role.colour, marker=role.marker, markersize=3.8, linestyle="none", alpha=0.9)
        if column >= row or both.empty:
            ax.set_axis_off()
            continue
        ax.set(xlim=_room(points[across]), ylim=_room(points[up]))  # of one property the same in all panels
        ax.locator_params(nbins=3)
        ax.tick_params(labelsize=5, length=2, pad=1)
    arms = style.in_order(list(points["arm"]))
    figure.legend(handles=charts.keys(arms, linestyle="none", markersize=4), loc="outside lower center", ncols=5)
    return figure


def _room(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.12 * (high - low) or 0.1
    return low - margin, high + margin


def _told_above(ax: Axes, found: float | None, n: int) -> None:
    words = ("" if found is None else f"{found:+.2f}\n") + (f"{n} points" if n else "")
    ax.text(
        0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", fontsize=6, color=style.FAINT if n < LEAST_POINTS else style.INK
    )
