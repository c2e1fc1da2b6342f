"""The explorer of raw zero-shot quality: one excluded class of one point, where its images go at a temperature, and how tight they lie."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Ellipse, Patch

from reprolib.figures import style
from reprolib.findings.zero_shot_quality import classes
from reprolib.findings.zero_shot_quality.classes import Excluded
from reprolib.front_end import is_wanted, moved_by
from reprolib.measures.raw_zero_shot import MATCHED_SHARE, davies_bouldin_metric_matched, mean_entropy, scatter
from reprolib.training import points as table
from reprolib.training.leave_one_out import SoftLabels
from reprolib.training.points import Point

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 110
DECADES = (-1.0, 1.5)  # of temperature, least and largest shown
HEADLESS = 'explorer: nobody is watching, so no menus are drawn (interactive="on" draws them)'
NOTHING = "explorer: no soft labels are here, and committed rows hold no image of its own to look at"
KINDS = {"same shape": style.INK, "same texture": "#9A7B4F", "known neighbour": "#4F6D8F", "other": "#C4C4C4"}
"""Classes by what they share with the excluded one, in the colours of their bars."""


def zero_shot(asked: Mapping[Point, SoftLabels], interactive: str = "auto") -> ipywidgets.VBox | None:
    """A point, an excluded class and a temperature to choose. Leave it as the last value of a cell, which shows it.

    interactive: "auto" (JupyterLab only), "on", "off". Without a person, or without soft labels, it prints one line and returns None.
    """
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    if not asked:
        print(NOTHING)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    screen = Screen(asked)
    point = ipywidgets.Dropdown(options=list(screen.points), description="network")
    excluded = ipywidgets.Dropdown(options=screen.classes(point.value), description="excluded")
    decade = ipywidgets.FloatSlider(value=0.0, min=DECADES[0], max=DECADES[1], step=0.1, description="log10 T", continuous_update=False)

    def follow(_: object) -> None:
        names = screen.classes(point.value)
        if list(excluded.options) != names:
            excluded.options = names

    point.observe(follow, names="value")
    return moved_by((point, excluded, decade), screen.png, [(point, excluded, decade)])


class Screen:
    """Draws one excluded class of one point at a temperature."""

    def __init__(self, asked: Mapping[Point, SoftLabels]) -> None:
        self.points = {
            point.name.removeprefix(table.PREFIX): {one.name: one for one in classes.of_point(point, labels)}
            for point, labels in asked.items()
        }

    def classes(self, point: str) -> list[str]:
        """The classes of a point."""
        return [*self.points[point]]

    def png(self, point: str, excluded: str, decade: float) -> bytes:
        """The picture. point, excluded: as in `points`; decade: log10 of the temperature."""
        found = self.points[point]
        one = found.get(excluded) or next(iter(found.values()))  # the menus change one after the other
        q = (one.without.double() / 10**decade).softmax(dim=1)
        with style.context():
            figure = style.figure(style.WIDE, 2.9)
            left, right = figure.subplots(1, 2)
            self._draw_shares(left, one, [*found], q, decade)
            _draw_plane(right, q)
            dbm, matched = scatter(q), davies_bouldin_metric_matched(one.without)
            share = mean_entropy(q) / math.log(q.shape[1])
            words = f"DBM {dbm:.3f} at T = {10**decade:.2g}, entropy {share:.2f} of the largest"
            at = f"{matched.value:.3f} at T = {matched.temperature:.2g}, entropy {MATCHED_SHARE:g}"
            figure.suptitle(f"{one.name} by {point}\n{words}; {at}", fontsize=7)
            figure.set_dpi(SCREEN_DPI)
            buffer = io.BytesIO()
            FigureCanvasAgg(figure).print_png(buffer)
        return buffer.getvalue()

    def _draw_shares(self, ax: Axes, one: Excluded, names: list[str], q: torch.Tensor, decade: float) -> None:
        """Mean soft label of every other class; the mark is what the full network gives it, without the class itself."""
        others = [k for k in range(len(names)) if k != one.index]
        full = (one.full[:, others].double() / 10**decade).softmax(dim=1).mean(dim=0)
        colours = [KINDS[_kind(one, k)] for k in others]
        places = np.arange(len(others))[::-1]
        ax.barh(places, q.mean(dim=0).numpy(), color=colours, height=0.7)
        ax.plot(full.numpy(), places, linestyle="none", marker="|", color="#D55E00", markersize=10, markeredgewidth=1.8)
        ax.set_yticks(places, [names[k] for k in others], fontsize=6)
        ax.set(xlim=(0, 1), xlabel="mean soft label; orange: the full network's")
        used = [Patch(color=colour, label=kind) for kind, colour in KINDS.items() if colour in colours]
        ax.legend(handles=used, loc="lower right", fontsize=6)


def _kind(one: Excluded, k: int) -> str:
    if k in one.same_shape:
        return "same shape"
    if k in one.same_texture:
        return "same texture"
    return "known neighbour" if k in one.relatives else "other"


def _draw_plane(ax: Axes, q: torch.Tensor) -> None:
    """Soft labels (n, K) along their two principal components, and the ellipse of one standard deviation."""
    place = classes.in_plane(q)
    ax.scatter(place[:, 0].numpy(), place[:, 1].numpy(), s=9, color="#4F6D8F", alpha=0.5, linewidth=0)
    width, height = (2 * place.square().mean(dim=0).sqrt()).tolist()
    ax.add_patch(Ellipse((0, 0), width, height, fill=False, color=style.INK, linewidth=0.9))
    ax.set(xlim=(-1.05, 1.05), ylim=(-0.8, 0.8), aspect="equal", xlabel="1st component", ylabel="2nd component")
