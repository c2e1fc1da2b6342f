"""Maps of layer similarity: how alike any two layers are, within a network and between two; with what dominates them taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.block_structure.figures import layered
from reprolib.findings.block_structure.figures.layered import Layered
from reprolib.findings.block_structure.networks import ARMS, DRAWN, stages_of
from reprolib.findings.block_structure.rows import DEPTH
from reprolib.measures import indices

BESIDE: dict[str, Any] = {"fraction": 0.04, "pad": 0.01, "shrink": 0.8}
MAPPED = (*DRAWN, "untrained", "gauss")
REMOVED = {
    "hsic": "as it is",
    "hsic@without_pc1": "without the first\nprincipal component",
    "hsic@without_top_points": "without the top 1 %\nof points",
}


@style.housed
def maps(rows: pd.DataFrame) -> Figure:
    """CKA of every two layers of a standard, a robust, an untrained and a noise-trained network, on one scale.

    rows: claim "BLK-1", quantity "hsic". Drawn is the first seed of each kind; above each map its off-diagonal mean, and the stage contrast.
    """
    every = layered.matrices(rows, DEPTH)
    shown = [layered.of_arm(every, arm)[0] for arm in MAPPED if layered.of_arm(every, arm)]
    figure = style.figure(style.WIDE, 2.25)
    _row_of_maps(figure, figure.subplots(1, len(shown), squeeze=False)[0], shown)
    return figure


@style.housed
def dominance(rows: pd.DataFrame) -> Figure:
    """What dominates each layer, by depth; and the maps of both arms as they are and with either taken away.

    rows: claim "BLK-1", quantities "pc1_share" and "top_points_share" (unit_2: the layer), "hsic", "hsic@without_pc1" and
    "hsic@without_top_points". Lines are means over seeds, bands span the seeds; maps are of each arm's first seed.
    """
    shares = {
        "pc1_share": "share of the variance on\nthe first principal component",
        "top_points_share": "share of the squared norm\non the top 1 % of points",
    }
    removed = {quantity: layered.matrices(rows, DEPTH, quantity) for quantity in REMOVED if (rows["quantity"] == quantity).any()}
    measured = {quantity: layered.by_layer(rows, quantity) for quantity in shares}
    architecture = layered.architecture_of(measured["pc1_share"])
    arms = [arm for arm in ARMS if layered.of_arm(measured["pc1_share"], arm)]
    figure = style.figure(style.WIDE, 3.9)
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    top, bottom = halves
    for ax, (quantity, words) in zip(top.subplots(1, 2), shares.items(), strict=True):
        for arm in arms:
            layered.arm_line(ax, measured[quantity], arm)
        layered.depth_axis(ax, architecture, len(measured["pc1_share"][0].values))
        ax.set_ylim(0, None)
        ax.set_ylabel(words)
    ax.legend(loc="best")
    axes = bottom.subplots(1, len(removed) * len(arms), squeeze=False)[0]
    places = iter(axes)
    for arm in arms:
        for quantity, ones in removed.items():
            ax, one = next(places), layered.of_arm(ones, arm)[0]
            image = layered.draw_map(ax, one.values, architecture)
            colour = style.role(arm).colour
            ax.set_title(f"{style.role(arm).label}\n{REMOVED[quantity]}", color=colour, fontsize=6.5, loc="center")
            ax.set_xlabel(_numbers(one).replace(", ", "\n"), fontsize=6)
    layered.colour_bar(bottom, image, axes, **BESIDE)
    return figure


@style.housed
def external_maps(rows: pd.DataFrame) -> Figure:
    """The external standard and robust network: their maps, on the colours of ours, and how alike the two are by depth.

    rows: claim "external", quantities "hsic" and "hsic_pair". Raises BadInput where there are none.
    """
    measured, across = layered.external_pair(rows)
    if not measured or not across:
        raise BadInput("the rows hold no external networks: they are measured where their files are in a data folder")
    figure = style.figure(style.WIDE, 2.25)
    axes = figure.subplots(1, len(measured) + 1, width_ratios=[*[1.0] * len(measured), 1.6])
    _row_of_maps(figure, axes[:-1], measured)
    layered.line(axes[-1], across, style.INK, marker="o", markersize=3)
    layered.depth_axis(axes[-1], layered.architecture_of(measured), len(measured[0].values))
    axes[-1].set_ylim(0, 1.02)
    axes[-1].set_ylabel("CKA at equal depth")
    axes[-1].set_title("standard with robust", fontsize=7, loc="center")
    return figure


def _row_of_maps(figure: Figure, axes: Sequence[Axes], shown: Sequence[Layered]) -> None:
    for ax, one in zip(axes, shown, strict=True):
        image = layered.draw_map(ax, one.values, one.architecture)
        colour = style.role(one.arm).colour if one.arm in DRAWN else style.INK  # the others' are too light for letters
        ax.set_title(f"{style.role(one.arm).label}\n{_numbers(one)}", color=colour, fontsize=7, loc="center")
        layered.name_stages(ax, one.architecture, len(one.values), briefly=True)
        ax.tick_params(labelsize=6)
    layered.name_stages(axes[0], shown[0].architecture, len(shown[0].values), "y", briefly=True)
    layered.colour_bar(figure, image, axes, **BESIDE)


def _numbers(one: Layered) -> str:
    """Off-diagonal mean, and stage contrast where there are stages, in a few letters."""
    mean = float(indices.off_diagonal_mean(one.values))
    contrast = float(indices.stage_contrast(one.values, stages_of(one.architecture, len(one.values)), least=2))
    return f"mean {mean:.2f}" + ("" if np.isnan(contrast) else f", contrast {contrast:.2f}")
