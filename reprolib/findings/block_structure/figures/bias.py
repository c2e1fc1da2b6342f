"""Why the unbiased form: what the number of images does to CKA, of independent noise and of the networks."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import charts, style
from reprolib.figures.reading import of_claim
from reprolib.findings.block_structure.rows import SHOWN

LOOKS: dict[str, Any] = {"biased": "--", "unbiased": "-"}


@style.housed
def bias(rows: pd.DataFrame) -> Figure:
    """Biased (dashed) and unbiased CKA against the number of images: left of independent Gaussians, right the off-diagonal mean of networks.

    rows: claim "shown", quantities "gaussian_cka" and "off_diagonal_mean_by_n", unit_2 "biased|64". Dots left: single draws.
    """
    figure = style.figure(style.WIDE, 2.3)
    left, right = figure.subplots(1, 2)
    draws = _read(of_claim(rows, SHOWN, ["gaussian_cka"]))
    for kind, dashes in LOOKS.items():
        of_kind = draws[draws["kind"] == kind]
        means = of_kind.groupby("n")["value"].mean()
        left.plot(of_kind["n"], of_kind["value"], linestyle="", marker=".", markersize=3, color=style.FAINT)
        left.plot(means.index, means, linestyle=dashes, color=style.INK, label=kind)
    left.axhline(0, **style.CHANCE, zorder=0)
    left.set_title("independent Gaussians, 1,000 units: the truth is 0")
    left.set_ylabel("CKA")
    by_n = _read(of_claim(rows, SHOWN, ["off_diagonal_mean_by_n"]))
    for kind, dashes in LOOKS.items():
        charts.lines(by_n[by_n["kind"] == kind], right, "n", each="arm", linestyle=dashes, markersize=3.5)
    right.set_title("one network of each kind")
    right.set_ylabel("off-diagonal mean of CKA")
    for ax, measured in ((left, draws), (right, by_n)):
        ax.set_xscale("log")
        sizes = sorted(measured["n"].unique())
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, -0.05), max(high, 1.02))
        ax.set_xlabel("images a batch")
    handles = [Line2D([], [], color=style.INK, linestyle=dashes, label=kind) for kind, dashes in LOOKS.items()]
    handles += charts.keys(style.in_order(list(by_n["arm"])))
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure


def _read(measured: pd.DataFrame) -> pd.DataFrame:
    parts = measured["unit_2"].str.partition("|")
    return measured.assign(kind=parts[0], n=parts[2].astype(int)).sort_values("n")
