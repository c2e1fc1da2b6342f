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

from reprolib.errors import BadInput, nearest
from reprolib.figures import charts, style
from reprolib.figures.page import GROUP_IN, LABEL_IN, PAD_IN, Page, in_lines
from reprolib.figures.reading import of_claim

BAND = 0.8  # the middle share of the units
CUTOFF = 0.25  # cycles per pixel: where the claim's high frequencies begin
STARTS = {"noise": "noise", "image": "a test image", "ood": "an out-of-distribution image"}
SPECTRUM_IN = 2.1
VISIBLE = 0.15  # root mean square of an amplified change, in units of the pixel range


@style.housed
def visualisation(rows: pd.DataFrame, pictures: Mapping[str, Any], n_units: int = 3, arms: Sequence[str] | None = None) -> Figure:
    """Images that raise single units, a row per network, and below the spectra of the changes.

    rows: claim "INV-7", quantity "spectrum", unit = hidden unit, unit_2 = cycles per pixel, of one network an arm; each unit's power
    adds up to 1 over the rings, and the band is the middle 80 % of the units. pictures: starts {start: (m, 3, h, w)} and arms {role: {"units": m
    channel numbers, "x": {start: (m, 3, h, w)}}}, in [0, 1] or uint8. n_units: how many of the m. arms: which, in any order.
    Raises BadInput where there is no picture of an arm, or no unit to show.
    """
    names, found = _arms(pictures, arms)
    starts = [start for start in STARTS if start in pictures["starts"]]
    n = min([n_units, *(len(found[arm]["units"]) for arm in names)])
    if n < 1 or not starts:
        raise BadInput(f"nothing to draw: {n} units and {len(starts)} starts; give at least one of each")
    side = (style.WIDE - LABEL_IN - 0.04 - (len(starts) - 1) * GROUP_IN) / (n * len(starts)) - PAD_IN
    side = min(side, 0.75)
    header, pitch = 0.22, side + PAD_IN
    rows_top = header + pitch + 0.1
    height = rows_top + len(names) * pitch + 0.3
    page = Page(style.WIDE, height + SPECTRUM_IN)
    page.label("start", header + side / 2)
    for g, start in enumerate(starts):
        left = LABEL_IN + g * (n * pitch - PAD_IN + GROUP_IN)
        page.text(f"from {STARTS[start]}", left + (n * pitch - PAD_IN) / 2, header - 0.06, ha="center", va="bottom", fontsize=6.5)
        for u in range(n):
            page.picture(pictures["starts"][start][u], left + u * pitch, header, side, frame=style.INK)
            for r, arm in enumerate(names):
                page.picture(found[arm]["x"][start][u], left + u * pitch, rows_top + r * pitch, side)
    for r, arm in enumerate(names):
        _network_label(page, arm, rows_top + r * pitch, side, f"units {', '.join(map(str, found[arm]['units'][:n]))}")
    _spectra(page.axes(LABEL_IN, height, style.WIDE - LABEL_IN - 0.2, SPECTRUM_IN - 0.45), rows, names)
    return page.figure


@style.housed
def additions(pictures: Mapping[str, Any], n_units: int = 4, arms: Sequence[str] | None = None, amplify: float | None = None) -> Figure:
    """Images to which a unit was added by a change of one and the same norm, and the change itself, amplified around grey.

    pictures: images (m, 3, h, w), arms {role: {"units": m channel numbers, "x": (m, 3, h, w)}} and radius, the norm of the changes.
    amplify: what changes are multiplied by; default: a whole number that makes changes of that norm visible.
    """
    names, found = _arms(pictures, arms)
    images, radius = _unit_range(pictures["images"]), float(pictures["radius"])
    n = min([n_units, len(images), *(len(found[arm]["units"]) for arm in names)])
    if n < 1:
        raise BadInput("nothing to draw: give at least one unit and one image")
    factor = amplification(images, radius) if amplify is None else amplify
    side = min((style.WIDE - LABEL_IN - 0.04 - (n - 1) * GROUP_IN) / (2 * n) - PAD_IN, 0.75)
    header, pitch = 0.08, side + PAD_IN
    rows_top = header + pitch + 0.24
    page = Page(style.WIDE, rows_top + len(names) * pitch + 0.2)
    page.label("image", header + side / 2)
    for u in range(n):
        left = LABEL_IN + u * (2 * pitch - PAD_IN + GROUP_IN)
        page.picture(images[u], left, header, side, frame=style.INK)
        for k, words in enumerate(("unit added", f"change x {factor:g}")):
            page.text(words, left + k * pitch + side / 2, rows_top - 0.05, ha="center", va="bottom", fontsize=6, color=style.FAINT)
        for r, arm in enumerate(names):
            x, y = _unit_range(found[arm]["x"][u]), rows_top + r * pitch
            page.picture(x, left, y, side)
            page.picture(0.5 + factor * (x - images[u]), left + pitch, y, side)
    for r, arm in enumerate(names):
        _network_label(page, arm, rows_top + r * pitch, side, f"units {', '.join(map(str, found[arm]['units'][:n]))}")
    words = f"every change has the L2 norm {radius:g}; changes are shown x {factor:g} around grey"
    page.text(words, style.WIDE - 0.04, page.height - 0.04, ha="right", va="bottom", fontsize=6.5)
    return page.figure


@style.housed
def extremes(pictures: Mapping[str, Any], n_units: int = 3, arms: Sequence[str] | None = None) -> Figure:
    """A unit's bottom and top test images beside what minimising and maximising it makes of a grey image, a row per unit.

    pictures: {role: {"units": m channel numbers, "top" and "bottom": (m, 5, 3, h, w), the most extreme first, "maximised" and
    "minimised": (m, 3, h, w)}}, in [0, 1] or uint8.
    """
    names, found = _arms({"arms": pictures}, arms)
    n = min([n_units, *(len(found[arm]["units"]) for arm in names)])
    if n < 1:
        raise BadInput("nothing to draw: give at least one unit")
    n_ends = found[names[0]]["top"].shape[1]
    side = (style.WIDE - LABEL_IN - 0.04 - 3 * GROUP_IN) / (2 * n_ends + 2) - PAD_IN
    pitch, header = side + PAD_IN, 0.34
    ends = n_ends * pitch - PAD_IN
    left = [LABEL_IN, LABEL_IN + ends + GROUP_IN]
    left += [left[1] + pitch - PAD_IN + GROUP_IN, left[1] + 2 * pitch - PAD_IN + GROUP_IN + PAD_IN]
    page = Page(style.WIDE, header + len(names) * (n * pitch + GROUP_IN) - GROUP_IN + 0.06)
    titles = [("test images that excite it least", left[0] + ends / 2), ("minimised", left[1] + side / 2)]
    titles += [("maximised", left[2] + side / 2), ("test images that excite it most", left[3] + ends / 2)]
    for words, x in titles:
        page.text(words, x, header - 0.05, ha="center", va="bottom", fontsize=6.5)
    page.text("grey image", (left[1] + left[2] + side) / 2, header - 0.17, ha="center", va="bottom", fontsize=6.5)
    for r, arm in enumerate(names):
        top = header + r * (n * pitch + GROUP_IN)
        shown = found[arm]
        for u in range(n):
            y = top + u * pitch
            for k in range(n_ends):
                page.picture(shown["bottom"][u][n_ends - 1 - k], left[0] + k * pitch, y, side)  # the most extreme beside the driven one
                page.picture(shown["top"][u][k], left[3] + k * pitch, y, side)
            page.picture(shown["minimised"][u], left[1], y, side)
            page.picture(shown["maximised"][u], left[2], y, side)
        _network_label(page, arm, top, n * pitch - PAD_IN, f"units {', '.join(map(str, shown['units'][:n]))}")
    return page.figure


def amplification(images: Tensor, radius: float) -> int:
    """The whole number (at least 1) by which changes of L2 norm `radius` are multiplied to be seen on images (n, c, h, w)."""
    return max(1, round(VISIBLE * math.sqrt(images[0].numel()) / radius))


def _spectra(ax: Axes, rows: pd.DataFrame, arms: Sequence[str]) -> None:
    found = of_claim(rows, "INV-7", ["spectrum"])
    found = found[found["arm"].isin(arms)].assign(cycles=pd.to_numeric(found["unit_2"]))
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


def _arms(pictures: Mapping[str, Any], arms: Sequence[str] | None) -> tuple[list[str], Mapping[str, Any]]:
    """The arms to draw in their fixed order, and the pictures of each."""
    found = pictures["arms"]
    for arm in arms or ():
        if arm not in found:
            raise BadInput(f"arm {arm!r} has no pictures; allowed: {', '.join(found)}{nearest(arm, found)}")
    names = style.in_order(list(found if arms is None else arms))
    if not names:
        raise BadInput("nothing to draw: there are no pictures of any arm; measure it first")
    return names, found


def _network_label(page: Page, arm: str, y: float, height: float, units: str) -> None:
    """A network's name and below it its units, in the left margin, with the arm's bar beside the pictures."""
    look, middle = style.role(arm), y + height / 2 + 0.03
    page.label("", y, bar=(look.colour, y, height))
    words = in_lines(look.label, 12)
    page.text(words, LABEL_IN - 0.1, middle, ha="right", va="bottom", fontsize=7 if words == look.label else 6, linespacing=1.1)
    page.text(units, LABEL_IN - 0.1, middle + 0.03, ha="right", va="top", fontsize=5.5, color=style.FAINT)


def _unit_range(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
