"""Cross-layer similarity in numbers: by distance between layers, index by index for every kind of network, and by training radius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import charts, style
from reprolib.findings.block_structure.figures import layered
from reprolib.findings.block_structure.figures.layered import Array, Layered
from reprolib.findings.block_structure.networks import ARMS, DRAWN, stages_of
from reprolib.findings.block_structure.rows import DEPTH, RADII
from reprolib.measures import indices
from reprolib.models.networks import MINE
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


@style.housed
def lags(rows: pd.DataFrame) -> Figure:
    """Mean CKA of layers 1, 2, ... apart: a line per kind of network, the band spans its seeds.

    rows: claim "BLK-1", quantity "hsic"; of the other kinds claim "BLK-10", where those networks are of the same architecture.
    """
    measured, _ = _every_kind(rows)
    layered.architecture_of(measured)
    figure = style.figure(style.WIDE, 2.5)
    ax = figure.subplots()
    n, by_lag = len(measured[0].values), [replace(one, values=indices.mean_by_lag(one.values)) for one in measured]
    for arm in style.in_order([one.arm for one in measured]):
        width, side = (1.6, 4.5) if arm in DRAWN else (0.9, 3)
        steps = range(1, 1 + len(layered.of_arm(by_lag, arm)[0].values))
        layered.arm_line(ax, by_lag, arm, x=steps, linewidth=width, markersize=side, zorder=1 + width)
    ax.axvline(n / 2, **style.CHANCE, zorder=0)
    ax.text(n / 2, 1.0, " long range: BLK-2", transform=ax.get_xaxis_transform(), ha="left", va="top", fontsize=6.5)
    ax.set_xlabel("layers apart")
    ax.set_ylabel("mean CKA")
    ax.set_xticks(range(1, max(len(one.values) for one in measured)))
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
    panels = [(title, _values(measured, name)) for name, (title, _) in INDICES.items()]
    panels = [(title, values) for title, values in panels if set(values["arm"]) - {MINE}]
    if others:
        panels.append((f"off-diagonal mean\nof {layered.architecture_of(others)}, with controls", _values(others, "off_diagonal_mean")))
    figure = style.figure(style.WIDE, 2.9)
    widths = [values["arm"].nunique() + 1 for _, values in panels]
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for ax, (title, values) in zip(axes, panels, strict=True):
        name, arms = values["quantity"].iloc[0], style.in_order(list(values["arm"]))
        charts.by_arm(values, ax, [(name, "", 1.0)], arms, side=3.8)
        for place, arm in enumerate(arms):
            if arm in DIGITISED.get(name, {}) and title == INDICES[name][0]:
                ax.hlines(DIGITISED[name][arm], place - 0.45, place + 0.45, color=style.INK, linestyle="--", linewidth=0.8, zorder=1)
        ax.set_title(title, loc="center")
        ax.set_xticks(range(len(arms)), [style.role(arm).label.replace(", ", ",\n") for arm in arms], rotation=90, fontsize=6.5)
        if name in DIGITISED:
            ax.set_ylim(min(0, values["value"].min()), None)
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
    kept = rows[(rows["claim"] == RADII) & rows["arm"].isin(charts.RADII)]
    measured = layered.matrices(kept, RADII)
    eps = {str(row.network): recipe(str(row.recipe)).eps for row in kept.drop_duplicates("network").itertuples()}
    shown = ["off_diagonal_mean"] + (["stage_contrast"] if stages_of(layered.architecture_of(measured), len(measured[0].values)) else [])
    figure = style.figure(style.WIDE if len(shown) > 1 else style.NARROW, 2.4)
    for ax, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        values = _values(measured, name)
        charts.by_radius(values.assign(eps=values["network"].map(eps)), ax)
        ax.set_ylabel(INDICES[name][0])
        ax.margins(y=0.15)
    figure.legend(handles=charts.radius_keys([one.arm for one in measured]), loc="outside lower left", ncols=5)
    return figure


def _values(measured: list[Layered], name: str) -> pd.DataFrame:
    """An index of every network that it is defined for, as tidy rows."""
    index = INDICES[name][1]
    return pd.DataFrame([
        {"quantity": name, "arm": one.arm, "seed": one.seed, "network": one.network, "unit": "",
         "value": float(index(one.values, stages_of(one.architecture, len(one.values))))}
        for one in measured
    ]).dropna(subset="value")  # fmt: skip


def _every_kind(rows: pd.DataFrame) -> tuple[list[Layered], list[Layered]]:
    """The deep networks with the other kinds of their architecture; and both arms and the controls of another one, if any control is.

    Robust networks of other radii are left out: they have a figure of their own.
    """
    deep = layered.matrices(rows, DEPTH)
    there, known = layered.architecture_of(deep), {one.arm for one in deep}
    has_roles = ((rows["claim"] == RADII) & (rows["quantity"] == "hsic")).any()
    roles = [one for one in layered.matrices(rows, RADII) if not one.arm.startswith("robust_")] if has_roles else []
    elsewhere = [one for one in roles if one.architecture != there]
    alike = deep + [one for one in roles if one.architecture == there and one.arm not in known]
    return alike, elsewhere if {one.arm for one in elsewhere} - set(ARMS) else []
