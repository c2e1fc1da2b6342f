"""Cross-layer similarity in numbers: by distance between layers, index by index for every kind of network, and by training radius."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.block_structure.figures.layered import (
    Array,
    Layered,
    architecture_of,
    line,
    matrices,
    of_arm,
    stages,
)
from reprolib.findings.block_structure.networks import ARMS
from reprolib.findings.block_structure.rows import DEPTH, RADII
from reprolib.measures import indices
from reprolib.training.recipes import recipe

TAU = 0.8
DIGITISED = {"off_diagonal_mean": {"standard": 0.507, "robust": 0.698}, "stage_contrast": {"standard": 0.309, "robust": 0.158}}
"""Read off the figure `cka_plot` of inspire-group/robust_representation_similarity: WRN-28-4, CIFAR-10, one network each; an anchor, no threshold."""

INDICES: dict[str, tuple[str, Callable[[Array, list[list[int]]], Array]]] = {
    "off_diagonal_mean": ("off-diagonal mean", lambda c, of_stages: indices.off_diagonal_mean(c)),
    "stage_contrast": ("stage contrast", lambda c, of_stages: indices.stage_contrast(c, of_stages, least=2)),
    "longest_run": (f"longest run\nabove {TAU:g} (layers)", lambda c, of_stages: indices.longest_run(c, TAU)),
    "effective_rank": ("effective rank", lambda c, of_stages: indices.effective_rank(c)),
}
RADII_SHOWN = ("standard", "robust_small", "robust", "robust_large")
TESTED = 3  # of them: the largest radius is shown, not tested


@style.housed
def lags(rows: pd.DataFrame) -> Figure:
    """Mean CKA of layers 1, 2, ... apart: a line per kind of network, the band spans its seeds.

    rows: claim "BLK-1", quantity "hsic"; of the other kinds claim "BLK-10", where those networks are of the same architecture.
    """
    measured, _ = _every_kind(rows)
    architecture_of(measured)
    figure = style.figure(style.WIDE, 2.5)
    ax = figure.subplots()
    n = len(measured[0].values)
    for arm in style.in_order([one.arm for one in measured]):
        look, is_main = style.role(arm), arm in ("standard", "robust")
        ones = [replace(one, values=indices.mean_by_lag(one.values)) for one in of_arm(measured, arm)]
        line(
            ax, ones, look.colour, x=list(range(1, n)), marker=look.marker, label=look.label,
            linewidth=1.6 if is_main else 0.9, markersize=4.5 if is_main else 3, zorder=3 if is_main else 2,
        )  # fmt: skip
    ax.axvline(n / 2, **style.CHANCE, zorder=0)
    ax.text(n / 2, 1.0, " long range: BLK-2", transform=ax.get_xaxis_transform(), ha="left", va="top", fontsize=6.5)
    ax.set_xlabel("layers apart")
    ax.set_ylabel("mean CKA")
    ax.set_xticks(range(1, n))
    ax.set_ylim(min(0, ax.get_ylim()[0]), 1.02)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure


@style.housed
def index_panel(rows: pd.DataFrame) -> Figure:
    """Four indices of the maps, a dot per network, kinds side by side: they need not move together.

    rows: as in `lags`. Controls of another architecture than the deep networks get a panel of their own, beside both arms of it.
    Short dashes: the paper's figure, digitised, for the two indices and arms it shows. Bars are means.
    """
    measured, others = _every_kind(rows)
    of_stages = stages(architecture_of(measured), len(measured[0].values))
    values = {name: [float(index(one.values, of_stages)) for one in measured] for name, (_, index) in INDICES.items()}
    panels = [(INDICES[name][0], name, measured, of_kind) for name, of_kind in values.items() if not np.isnan(of_kind).all()]
    if others:
        title = f"off-diagonal mean\nof {architecture_of(others)}, with controls"
        panels.append((title, "", others, [float(indices.off_diagonal_mean(one.values)) for one in others]))
    widths = [len({one.arm for one in ones}) + 1 for _, _, ones, _ in panels]
    figure = style.figure(style.WIDE, 2.9)
    axes = figure.subplots(1, len(panels), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    for ax, (title, name, ones, heights) in zip(axes, panels, strict=True):
        arms = style.in_order([one.arm for one in ones])
        for place, arm in enumerate(arms):
            _dots(ax, place, [height for one, height in zip(ones, heights, strict=True) if one.arm == arm], arm)
            if arm in DIGITISED.get(name, {}):
                ax.hlines(DIGITISED[name][arm], place - 0.45, place + 0.45, color=style.INK, linestyle="--", linewidth=0.8, zorder=1)
        ax.set_title(title, loc="center")
        ax.set_xticks(range(len(arms)), [style.role(arm).label.replace(", ", ",\n") for arm in arms], rotation=90, fontsize=6.5)
        ax.tick_params(axis="x", length=0)
        ax.set_xlim(-0.6, len(arms) - 0.4)
        if name in DIGITISED or not name:
            ax.set_ylim(min(0, *heights), None)
    dot = Line2D([], [], color=style.FAINT, marker="o", linestyle="none", label="one network")
    bar = Line2D([], [], color=style.FAINT, linewidth=1.6, label="mean over seeds")
    dash = Line2D([], [], **style.REFERENCE, label="Cianfarani et al. 2022, WRN-28-4, CIFAR-10 (digitised)")
    figure.legend(handles=[dot, bar, dash], loc="outside lower left", ncols=3)
    return figure


@style.housed
def radii(rows: pd.DataFrame) -> Figure:
    """Off-diagonal mean and stage contrast against the training radius, a dot per network; the line joins means, dotted beyond what is tested.

    rows: claim "BLK-10", quantity "hsic", of the arms standard, robust_small, robust, robust_large. Raises BadInput for fewer than two radii.
    """
    kept = rows[rows["arm"].isin(RADII_SHOWN)]
    measured = matrices(kept, RADII)
    eps = {str(row.network): recipe(str(row.recipe)).eps for row in kept[kept["claim"] == RADII].drop_duplicates("network").itertuples()}
    levels = sorted({eps[one.network] for one in measured})
    if len(levels) < 2:
        raise BadInput(
            f"a trend needs networks of at least two training radii: the rows hold {', '.join(map(str, levels))}; measure robust arms too"
        )
    of_stages = stages(architecture_of(measured), len(measured[0].values))
    shown = ["off_diagonal_mean"] + (["stage_contrast"] if of_stages else [])
    figure = style.figure(style.WIDE if len(shown) > 1 else style.NARROW, 2.4)
    for ax, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        values = [float(INDICES[name][1](one.values, of_stages)) for one in measured]
        means = [
            float(np.mean([value for one, value in zip(measured, values, strict=True) if eps[one.network] == level])) for level in levels
        ]
        ax.plot(levels[:TESTED], means[:TESTED], color=style.FAINT, linewidth=1.0, zorder=1)
        ax.plot(levels[TESTED - 1 :], means[TESTED - 1 :], color=style.FAINT, linewidth=1.0, linestyle=":", zorder=1)
        for arm in style.in_order([one.arm for one in measured]):
            _dots(
                ax,
                eps[of_arm(measured, arm)[0].network],
                [v for one, v in zip(measured, values, strict=True) if one.arm == arm],
                arm,
                levels[-1] / 12,
            )
        ax.set_xticks(levels, [f"{level:g}" for level in levels])
        ax.set_xlabel("training radius, pixel units (0: standard)")
        ax.set_ylabel(INDICES[name][0])
        ax.margins(y=0.15)
    handles, _ = ax.get_legend_handles_labels()
    tail = [Line2D([], [], color=style.FAINT, linewidth=1.0, linestyle=":", label="shown, not tested")] if len(levels) > TESTED else []
    figure.legend(handles=[*handles, *tail], loc="outside lower left", ncols=5)
    return figure


def _every_kind(rows: pd.DataFrame) -> tuple[list[Layered], list[Layered]]:
    """The deep networks with the other kinds of their architecture; and both arms and the controls of another one, if any control is.

    Robust networks of other radii are left out: they have a figure of their own.
    """
    deep = matrices(rows, DEPTH)
    there, known = architecture_of(deep), {one.arm for one in deep}
    has_roles = ((rows["claim"] == RADII) & (rows["quantity"] == "hsic")).any()
    roles = [one for one in matrices(rows, RADII) if not one.arm.startswith("robust_")] if has_roles else []
    elsewhere = [one for one in roles if one.architecture != there]
    alike = deep + [one for one in roles if one.architecture == there and one.arm not in known]
    return alike, elsewhere if {one.arm for one in elsewhere} - set(ARMS) else []


def _dots(ax: Axes, place: float, values: Sequence[float], arm: str, spread: float = 0.5) -> None:
    """Networks of one kind side by side, and a bar at their mean; spread: of the dots, in units of the axis."""
    look, n = style.role(arm), len(values)
    offsets = [place + (k - (n - 1) / 2) * spread / max(n, 2) for k in range(n)]
    ax.scatter(offsets, values, s=20, marker=look.marker, color=look.colour, edgecolors="white", linewidths=0.5, zorder=3, label=look.label)
    ax.hlines(float(np.mean(values)), place - 0.6 * spread, place + 0.6 * spread, color=look.colour, linewidth=1.6, zorder=2)
