"""The forest of verdicts: every claim of results.json as one line."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import axes_for, beside
from reprolib.judging.ledger import Claim

WRAP = 46  # letters a line of a statement
WRAP_VERDICT = 34
DOT: dict[str, Any] = {"marker": "o", "markersize": 5}
CLEAR = ("supported", "contradicted")  # verdicts in bold


@style.housed
def verdicts(results: Sequence[Mapping[str, Any]], ledger: Mapping[str, Claim] | None = None, ax: Axes | None = None) -> Figure:
    """Estimate, interval, placebo and verdict of every claim, top to bottom in the order given.

    results: the contents of results.json files (scale, claims). ledger: what `ledger.load_claims()` returns. With it the statement (up
    to its first colon) stands beside the id, an effect is drawn so that to the right is as claimed, and a band shows what is too small
    to count; without it effects keep their sign. A claim without an estimate keeps its line and its verdict.
    Raises BadInput when no claim is there.
    """
    lines = [(result, claim) for result in results for claim in result.get("claims", [])]
    if not lines:
        raise BadInput("results holds no claim: give the contents of at least one results.json with claims")
    ledger = ledger or {}
    figure, ax = axes_for(ax, style.WIDE, 0.62 + (0.37 if ledger else 0.25) * len(lines))
    several = len({result.get("scale") for result, _ in lines}) > 1
    for y, (_, claim) in enumerate(lines):
        _line(ax, y, claim, ledger.get(claim["id"]))
    names = [_name(claim["id"], result["scale"] if several else "", ledger.get(claim["id"])) for result, claim in lines]
    ax.axvline(0, color=style.INK, linewidth=0.7, zorder=0)
    ax.set_yticks(range(len(lines)), names, fontsize=6.5 if ledger else 7)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("effect in the units of each claim" + (", to the right as claimed" if ledger else ""))
    handles: list[Artist] = [
        Line2D([], [], color=style.INK, **DOT, label="estimate, 95 % interval"),
        Line2D([], [], color=style.FAINT, markerfacecolor="white", linestyle="none", **DOT, label="placebo: two seeds of one arm"),
    ]
    if ledger:
        handles.append(Patch(color=style.FAINT, alpha=0.22, linewidth=0, label="too small to count"))
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


def _name(claim: str, scale: str, entry: Claim | None) -> str:
    """The claim's id, its scale where there are several, and its statement up to the colon."""
    words = f"{claim} ({scale})" if scale else claim
    return words if entry is None else textwrap.fill(f"{words}: {entry.statement.split(':')[0].rstrip('.')}", WRAP)


def _line(ax: Axes, y: int, claim: Mapping[str, Any], entry: Claim | None) -> None:
    sign = -1 if entry is not None and entry.direction == "less" else 1
    if entry is not None and not entry.relative:  # a relative one has no fixed place on this axis
        smallest = entry.smallest_effect
        ax.fill_between([-smallest, smallest], y - 0.36, y + 0.36, color=style.FAINT, alpha=0.22, linewidth=0)
    placebo = (claim.get("placebo") or {}).get("estimate")
    if placebo is not None:
        ax.plot(sign * placebo, y, color=style.FAINT, markerfacecolor="white", linestyle="none", zorder=2, **DOT)
    verdict = str(claim["verdict"])
    clear = verdict in CLEAR
    colour = style.INK if clear else style.FAINT
    if claim.get("estimate") is not None:
        low, high = sorted((sign * claim["low"], sign * claim["high"]))
        ax.plot([low, high], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt", zorder=3)
        ax.plot(sign * claim["estimate"], y, color=colour, linestyle="none", zorder=4, **DOT)
    beside(ax, textwrap.fill(verdict, WRAP_VERDICT), y, fontsize=7, fontweight="bold" if clear else "normal")
