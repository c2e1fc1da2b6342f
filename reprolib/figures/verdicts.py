"""The forest of verdicts: every claim of results.json as one line, beside it what each control explains."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.judging.ledger import Claim, Contrast

WRAP = 38  # letters a line of a statement
COLOURS = {"supported": "#0072B2", "contradicted": "#B2182B", "negligible": style.FAINT, "inconclusive": "#B8860B"}
TICKS = (-30, -10, -3, -1, 0, 1, 3, 10, 30)
SHARES = (-0.5, 1.5)  # the axis of shares; what lies beyond is drawn at its end


@style.housed
def forest(results: Sequence[Mapping[str, Any]], ledger: Mapping[str, Claim]) -> Figure:
    """Interval of every claim in units of its smallest effect, coloured by verdict; beside it the share each control explains.

    results: the contents of results.json files (scale, claims), drawn top to bottom. ledger: what `ledger.load_claims()` returns. To
    the right is as claimed; between the dotted lines an effect is too small to count. A claim without an estimate keeps its line.
    Raises BadInput when no claim is there, or one that the ledger does not hold.
    """
    lines = [(result, claim) for result in results for claim in result.get("claims", [])]
    if not lines:
        raise BadInput("results holds no claim: give the contents of at least one results.json with claims")
    if unknown := [claim["id"] for _, claim in lines if claim["id"] not in ledger]:
        raise BadInput(f"claim {unknown[0]!r} is not in the ledger: judge the rows again")
    figure = style.figure(style.WIDE, 0.75 + 0.36 * len(lines))
    figure.get_layout_engine().set(rect=(0.025, 0, 0.975, 1))  # type: ignore[union-attr, call-arg]  # it leaves too little for the names
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.6, 1])
    several = len({result.get("scale") for result, _ in lines}) > 1
    names = []
    for y, (result, claim) in enumerate(lines):
        entry = ledger[claim["id"]]
        _effect(left, y, claim, entry)
        _controls(right, y, claim)
        words = f"{claim['id']} ({result['scale']})" if several else claim["id"]
        names.append(textwrap.fill(f"{words}: {entry.statement.split(':')[0].rstrip('.')}", WRAP, max_lines=3, placeholder=" …"))
    left.set_yticks(range(len(lines)), names, fontsize=6)
    left.set_ylim(len(lines) - 0.5, -0.5)
    left.set_xscale("asinh", linear_width=1.0)
    left.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    left.minorticks_off()
    widest = max((abs(end) for line in left.lines for end in np.asarray(line.get_xdata(), dtype=float)), default=1.0)
    left.set_xlim(-1.15 * max(widest, 3), 1.15 * max(widest, 3))
    for place in (-1, 0, 1):
        left.axvline(place, color=style.INK if place == 0 else style.FAINT, linewidth=0.7, linestyle="-" if place == 0 else ":", zorder=0)
    left.set_xlabel("effect, in units of the smallest that counts\n(to the right as claimed)")
    for share in (0.0, 0.5, 1.0):
        right.axvline(share, color=style.FAINT, linewidth=0.7, linestyle=":" if share == 0.5 else "-", zorder=0)
    right.set(
        xlim=SHARES,
        xlabel="share that a control explains\n(interval left of .5: ruled out)",
        xticks=[0, 0.5, 1],
        xticklabels=["0", ".5", "1"],
    )
    for ax in (left, right):
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    figure.legend(handles=_legend(lines), loc="outside lower left", ncols=4)
    return figure


def in_smallest_effects(claim: Mapping[str, Any], entry: Claim) -> tuple[float, float | None, float | None] | None:
    """(estimate, low, high) of a claim of results.json in units of the smallest effect that counts, above 0 as claimed; None without an estimate.

    entry: the ledger's. low and high: None where there is no interval.
    """
    contrast = _contrast(claim, entry)
    if claim["estimate"] is None:
        return None
    unit = contrast.smallest_effect or 1.0
    if contrast.relative:
        unit *= abs(float(np.mean([*claim["networks"][contrast.arms[0]].values()])))
    unit *= -1 if contrast.direction == "less" else 1
    if claim["low"] is None:
        return claim["estimate"] / unit, None, None
    low, high = sorted((claim["low"] / unit, claim["high"] / unit))
    return claim["estimate"] / unit, low, high


def _contrast(claim: Mapping[str, Any], entry: Claim) -> Contrast:
    """What of a ledger's entry the numbers of results.json are of."""
    same = [one for one in entry.deciding() if (one.quantity, [*one.arms]) == (claim["quantity"], claim["arms"])]
    return same[0] if same else entry.contrast


def _effect(ax: Axes, y: int, claim: Mapping[str, Any], entry: Claim) -> None:
    told, verdict = in_smallest_effects(claim, entry), str(claim["verdict"])
    if told is None:
        ax.text(0.5, y, verdict.partition(" (")[0], transform=ax.get_yaxis_transform(), ha="center", va="center", fontsize=6)
        return
    estimate, low, high = told
    colour = COLOURS.get(verdict.partition(" (")[0], style.FAINT)
    if low is not None and high is not None:
        ax.plot([low, high], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
    ax.plot([estimate], [y], color=colour, marker="o", markersize=4.5, linestyle="none", zorder=4)


def _controls(ax: Axes, y: int, claim: Mapping[str, Any]) -> None:
    shown = [control for control in claim["controls"] if control["share"] is not None]
    for place, control in zip(np.linspace(-0.27, 0.27, len(shown)) if len(shown) > 1 else [0.0], shown, strict=False):
        role = style.ROLES.get(control["name"], style.ROLES["judge"])
        if control["low"] is not None:
            ends = np.clip([control["low"], control["high"]], *SHARES)
            ax.plot(ends, [y + place] * 2, color=role.colour, linewidth=1.0, solid_capstyle="butt", zorder=3)
        share = float(np.clip(control["share"], *SHARES))
        ax.plot([share], [y + place], color=role.colour, marker=role.marker, markersize=3.5, linestyle="none", zorder=4, clip_on=False)


def _legend(lines: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Artist]:
    words = [str(claim["verdict"]).partition(" (")[0] for _, claim in lines if claim["estimate"] is not None]
    roles = [control["name"] for _, claim in lines for control in claim["controls"] if control["share"] is not None]
    dots: list[Artist] = [
        Line2D([], [], color=colour, marker="o", markersize=4.5, label=word) for word, colour in COLOURS.items() if word in words
    ]
    for name, role in style.ROLES.items():
        if name in roles:
            dots.append(Line2D([], [], color=role.colour, marker=role.marker, markersize=3.5, linewidth=1.0, label=role.label))
    return dots
