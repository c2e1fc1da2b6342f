"""The pictures of single units: what raises them from three starts, what adding them does to an image, and their extremes.

Source of the layouts: Engstrom et al. 2019 (arXiv 1906.00945); the spectra of the changes are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from reprolib.figures import charts, style
from reprolib.figures.page import GROUP_IN, LABEL_IN, PAD_IN, Group, Page, grid, in_lines
from reprolib.figures.reading import of_claim

N_UNITS = {"visualisation": 3, "additions": 4, "extremes": 3}
"""Units shown of each network."""
BAND = 0.8  # the middle share of the units
CUTOFF = 0.25  # cycles per pixel: where the claim's high frequencies begin
STARTS = {"noise": "noise", "image": "a test image", "ood": "an out-of-distribution image"}
SPECTRUM_IN = 2.1
VISIBLE = 0.15  # root mean square of an amplified change, in units of the pixel range


@style.housed
def visualisation(rows: pd.DataFrame, pictures: Mapping[str, Any]) -> Figure:
    """Images that raise single units, a row per network, and below the spectra of the changes.

    rows: claim "INV-7", quantity "spectrum", unit = hidden unit, unit_2 = cycles per pixel, of one network an arm; each unit's power
    adds up to 1 over the rings, and the band is the middle 80 % of the units. pictures: starts {start: (m, 3, h, w)} and arms {role: {"units": m
    channel numbers, "x": {start: (m, 3, h, w)}}}, in [0, 1] or uint8.
    """
    shown = pictures["arms"]
    arms, n = style.in_order(list(shown)), _fewest(shown, "visualisation")
    groups = [
        Group(f"from {words}", pictures["starts"][start][:n], {arm: shown[arm]["x"][start][:n] for arm in arms})
        for start, words in STARTS.items()
        if start in pictures["starts"]
    ]
    page, side, tops = grid(groups, arms, "start", foot=0.3 + SPECTRUM_IN)
    for arm, y in tops.items():
        _network_label(page, arm, y, side, shown[arm]["units"][:n])
    _spectra(page.axes(LABEL_IN, page.height - SPECTRUM_IN, style.WIDE - LABEL_IN - 0.2, SPECTRUM_IN - 0.45), rows)
    return page.figure


@style.housed
def additions(pictures: Mapping[str, Any]) -> Figure:
    """Images to which a unit was added by a change of one and the same norm, and the change itself, amplified around grey.

    pictures: images (m, 3, h, w), arms {role: {"units": m channel numbers, "x": (m, 3, h, w)}} and radius, the norm of the changes,
    which are multiplied by a whole number that makes them visible.
    """
    shown = pictures["arms"]
    images, radius = _unit_range(pictures["images"]), float(pictures["radius"])
    arms, n = style.in_order(list(shown)), _fewest(shown, "additions")
    factor = amplification(images, radius)
    x = {arm: _unit_range(shown[arm]["x"]) for arm in arms}
    groups = [
        Group("", images[u][None], {arm: (x[arm][u], 0.5 + factor * (x[arm][u] - images[u])) for arm in arms})
        for u in range(min(n, len(images)))
    ]
    page, side, tops = grid(groups, arms, "image", ("unit added", f"change x {factor:g}"), header=0.08, gap=0.24, foot=0.2)
    for arm, y in tops.items():
        _network_label(page, arm, y, side, shown[arm]["units"][:n])
    words = f"every change has the L2 norm {radius:g}; changes are shown x {factor:g} around grey"
    page.text(words, style.WIDE - 0.04, page.height - 0.04, ha="right", va="bottom", fontsize=6.5)
    return page.figure


@style.housed
def extremes(pictures: Mapping[str, Any]) -> Figure:
    """A unit's bottom and top test images beside what minimising and maximising it makes of a grey image, a row per unit.

    pictures: {role: {"units": m channel numbers, "top" and "bottom": (m, 5, 3, h, w), the most extreme first, "maximised" and
    "minimised": (m, 3, h, w)}}, in [0, 1] or uint8.
    """
    arms, n = style.in_order(list(pictures)), _fewest(pictures, "extremes")
    n_ends = pictures[arms[0]]["top"].shape[1]
    side = (style.WIDE - LABEL_IN - 0.04 - 3 * GROUP_IN) / (2 * n_ends + 2) - PAD_IN
    pitch, header = side + PAD_IN, 0.34
    ends = n_ends * pitch - PAD_IN
    left = [LABEL_IN, LABEL_IN + ends + GROUP_IN]
    left += [left[1] + pitch - PAD_IN + GROUP_IN, left[1] + 2 * pitch - PAD_IN + GROUP_IN + PAD_IN]
    page = Page(style.WIDE, header + len(arms) * (n * pitch + GROUP_IN) - GROUP_IN + 0.06)
    titles = [("test images that excite it least", left[0] + ends / 2), ("minimised", left[1] + side / 2)]
    titles += [("maximised", left[2] + side / 2), ("test images that excite it most", left[3] + ends / 2)]
    for words, x in titles:
        page.text(words, x, header - 0.05, ha="center", va="bottom", fontsize=6.5)
    page.text("grey image", (left[1] + left[2] + side) / 2, header - 0.17, ha="center", va="bottom", fontsize=6.5)
    for r, arm in enumerate(arms):
        top = header + r * (n * pitch + GROUP_IN)
        shown = pictures[arm]
        for u in range(n):
            y = top + u * pitch
            for k in range(n_ends):
                page.picture(shown["bottom"][u][n_ends - 1 - k], left[0] + k * pitch, y, side)  # the most extreme beside the driven one
                page.picture(shown["top"][u][k], left[3] + k * pitch, y, side)
            page.picture(shown["minimised"][u], left[1], y, side)
            page.picture(shown["maximised"][u], left[2], y, side)
        _network_label(page, arm, top, n * pitch - PAD_IN, shown["units"][:n])
    return page.figure


def amplification(images: Tensor, radius: float) -> int:
    """The whole number (at least 1) by which changes of L2 norm `radius` are multiplied to be seen on images (n, c, h, w)."""
    return max(1, round(VISIBLE * math.sqrt(images[0].numel()) / radius))


def _spectra(ax: Axes, rows: pd.DataFrame) -> None:
    found = of_claim(rows, "INV-7", ["spectrum"])
    found = found.assign(cycles=pd.to_numeric(found["unit_2"]))
    is_compared = found["arm"].isin(["standard", "robust"])
    for part, band in ((found[is_compared], BAND), (found[~is_compared], None)):  # the bands of all arms would hide each other
        if len(part):
            charts.lines(part, ax, "cycles", each="arm", band=band, markersize=3)
    ax.axvline(CUTOFF, **style.REFERENCE, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = [cycles for cycles in (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2) if cycles >= 0.9 * found["cycles"].min()]
    ax.set_xticks(ticks, [f"1/{round(1 / cycles)}" for cycles in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("cycles per pixel (right of the dashed line: high frequencies)")
    ax.set_ylabel("power of the change\n(all rings: 1)")
    ax.legend(handles=charts.keys(style.in_order(list(found["arm"])), markersize=3), loc="lower left", ncols=2)


def _fewest(shown: Mapping[str, Any], figure: str) -> int:
    """How many units are shown of every network."""
    return min([N_UNITS[figure], *(len(of_arm["units"]) for of_arm in shown.values())])


def _network_label(page: Page, arm: str, y: float, height: float, units: Sequence[int]) -> None:
    """A network's name and below it its units, in the left margin, with the arm's bar beside the pictures."""
    look, middle = style.role(arm), y + height / 2 + 0.03
    page.label("", y, bar=(look.colour, y, height))
    words = in_lines(look.label, 12)
    page.text(words, LABEL_IN - 0.1, middle, ha="right", va="bottom", fontsize=7 if words == look.label else 6, linespacing=1.1)
    numbers = f"units {', '.join(map(str, units))}"
    page.text(numbers, LABEL_IN - 0.1, middle + 0.03, ha="right", va="top", fontsize=5.5, color=style.FAINT)


def _unit_range(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
