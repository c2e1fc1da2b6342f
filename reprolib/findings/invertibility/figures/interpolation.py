"""Interpolation: the pictures between two images, and how closely a judge follows the mixing weight along them.

Source of the strips: Engstrom et al. 2019 (arXiv 1906.00945), with the bare cross-fade and the standard network beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprolib.figures import charts, style
from reprolib.figures.page import GROUP_IN, LABEL_IN, PAD_IN, Page, beside
from reprolib.figures.reading import of_claim
from reprolib.findings.invertibility.tidying import DRAWN

CLAIM = "INV-6"
CROSS_FADE = "crossfade"
BAND = 0.5  # the middle share of the pairs
STRIPS = (("strips", (CROSS_FADE, *DRAWN), ""), ("blend", DRAWN, "\nfrom blend"))
QUANTITIES = {"across": "rank_correlation", "ood": "rank_correlation@ood", "within": "rank_correlation@within"}
KINDS = {"across": "two classes", "ood": "outside the training distribution", "within": "one class"}
MARKS: tuple[charts.Mark, ...] = (("rank_correlation", "standard judge, from noise", 1.0), ("rank_correlation_robust_judge", "robust judge, from noise", 0.45),
         ("rank_correlation@blend", "standard judge, from the blend", 0.0))  # fmt: skip
WIDTH_IN = 5.05  # of a strip, and of the charts below
CURVES_IN, DOTS_IN = 1.4, 1.2
PREFERENCE = r"$p(y_R) - p(y_L)$" + "\nof the standard judge"


@style.housed
def interpolation(rows: pd.DataFrame, pictures: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Strips between pairs of images; below them, at the same weights, a judge's preference; at the foot, every network's rank correlation.

    rows: claim "INV-6": "preference" (unit_2 "across|j" at weight j / (m - 1)), drawn as mean and middle half over pairs;
    "rank_correlation" and, where there, "rank_correlation_robust_judge", "rank_correlation@blend" and "rank_correlation@crossfade"
    (arm "crossfade"), drawn as one dot a network. pictures: one dict a pair: unit, kind, names, strips and blend
    {arm: (m, 3, h, w)}, in [0, 1] or uint8, each with its rank correlation; drawn are the first pair across classes and the first
    out of distribution. Raises BadInput for rows without "preference" or "rank_correlation".
    """
    preference, correlations = of_claim(rows, CLAIM, ["preference"]), of_claim(rows, CLAIM, ["rank_correlation"])
    firsts = (next((picture for picture in pictures if picture["kind"] == kind), None) for kind in ("across", "ood"))
    chosen = [picture for picture in firsts if picture is not None]
    n_points = preference["unit_2"].nunique()
    pitch = WIDTH_IN / n_points
    side, right = pitch - PAD_IN, LABEL_IN + WIDTH_IN
    lines = [[(part, arm, words) for part, arms, words in STRIPS for arm in arms if arm in picture[part]] for picture in chosen]
    header = 0.2
    heights = [0.2 + len(some) * pitch + 0.5 * GROUP_IN for some in lines]
    charts = header + sum(heights) + 0.27
    page = Page(style.WIDE, charts + CURVES_IN + 0.65 + DOTS_IN + 0.45)
    page.text(r"weight $\lambda$", LABEL_IN - 0.1, 0.12, ha="right", va="center", color=style.FAINT)
    page.text(r"$\rho$", right + 0.06, 0.12, va="center", color=style.FAINT)
    for j in range(n_points):
        middle = LABEL_IN + j * pitch + side / 2
        page.text(_short(j / (n_points - 1)), middle, 0.12, ha="center", va="center", fontsize=6, color=style.FAINT)
    top = header
    for picture, some, height in zip(chosen, lines, heights, strict=True):
        page.text(_title(picture), LABEL_IN, top + 0.16, va="bottom", fontweight="bold")
        for row, (part, arm, words) in enumerate(some):
            y = top + 0.2 + row * pitch
            _strip(page, picture[part][arm], arm, words, y, pitch)
            page.text(_correlation_of(rows, picture, part, arm), right + 0.06, y + side / 2, va="center")
        top += height
    curves = page.axes(LABEL_IN, charts, WIDTH_IN - PAD_IN, CURVES_IN)
    _curves(curves, preference, margin=0.5 * side / ((n_points - 1) * pitch))
    _dots(page.axes(LABEL_IN, charts + CURVES_IN + 0.65, WIDTH_IN - PAD_IN, DOTS_IN), rows, correlations)
    return page.figure


def _strip(page: Page, images: Any, arm: str, words: str, y: float, pitch: float) -> None:
    last, side = len(images) - 1, pitch - PAD_IN
    for j, image in enumerate(images):
        is_end = arm == CROSS_FADE and j in (0, last)  # the two images themselves
        page.picture(image, LABEL_IN + j * pitch, y, side, frame=style.INK if is_end else None)
    look = _look(arm)
    page.label(look.label.replace(" of ", "\nof ") + words, y + side / 2, bar=(look.colour, y, side))


def _curves(axes: Axes, rows: pd.DataFrame, margin: float) -> None:
    """Mean preference against the mixing weight, a line per network, with the middle half of the pairs; below the strips' columns."""
    points = rows["unit_2"].str.removeprefix("across|").astype(int)
    rows = rows.assign(weight=points / points.max())
    networks, faded = rows[rows["arm"] != CROSS_FADE], rows[rows["arm"] == CROSS_FADE].groupby("weight")["value"].mean()
    charts.lines(networks, axes, "weight", band=BAND)
    handles = charts.keys(style.in_order(list(networks["arm"])))
    if len(faded):
        handles += axes.plot(faded.index, faded, **style.REFERENCE, label="cross-fade of pixels", zorder=1.9)
    axes.axhline(0, **style.CHANCE, zorder=0)
    axes.set(xlim=(-margin, 1 + margin), ylim=(-1.02, 1.02), yticks=[-1, 0, 1], ylabel=PREFERENCE)
    axes.set_xlabel(r"mixing weight $\lambda$ of the right image's code; band: the middle half of the pairs across classes", labelpad=2)
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=3, handlelength=1.6, borderaxespad=0.1)


def _dots(axes: Axes, rows: pd.DataFrame, correlations: pd.DataFrame) -> None:
    """Mean rank correlation of every network, arms side by side, per judge and start; dashed: the bare cross-fade."""
    arms = style.in_order(list(correlations["arm"]))
    found = rows[rows["claim"] == CLAIM]
    marks = [mark for mark in MARKS if (found["quantity"] == mark[0]).any()]
    charts.by_arm(found, axes, marks, arms)
    level = found[found["quantity"] == "rank_correlation@crossfade"]["value"]
    if len(level):
        axes.axhline(level.mean(), **style.REFERENCE, zorder=0)
        beside(axes, "cross-fade of\npixels, standard\njudge", level.mean())
    axes.axhline(0, **style.CHANCE, zorder=0)
    axes.set(ylim=(min(-0.05, axes.get_ylim()[0]), 1.05), ylabel="rank correlation $\\rho$\nwith the weight")
    handles = charts.mark_keys(marks)
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, handletextpad=0.1, borderaxespad=0.1)


def _correlation_of(rows: pd.DataFrame, picture: Mapping[str, Any], part: str, arm: str) -> str:
    """The rank correlation of one strip, of the arm's first network; nothing where the rows do not hold it."""
    quantity = QUANTITIES[picture["kind"]]
    if part == "blend" or arm == CROSS_FADE:  # measured across classes only
        quantity = f"rank_correlation@{arm if arm == CROSS_FADE else part}"
    found = rows[(rows["claim"] == CLAIM) & (rows["quantity"] == quantity) & (rows["arm"] == arm) & (rows["unit"] == picture["unit"])]
    return "" if found.empty else _short(float(found.sort_values("seed")["value"].iloc[0]))


def _title(picture: Mapping[str, Any]) -> str:
    names = picture["names"]
    return KINDS[picture["kind"]] if names is None else f"{KINDS[picture['kind']]}: " + r" $\rightarrow$ ".join(names)


def _look(arm: str) -> style.Role:
    return style.Role(style.INK, "", "cross-fade of pixels") if arm == CROSS_FADE else style.role(arm)


def _short(value: float) -> str:
    """Two decimals without the leading zero, 0 and 1 without any: .05, -.31, 1."""
    words = f"{value:.2f}".replace("0.", ".", 1)
    return {".00": "0", "-.00": "0", "1.00": "1", "-1.00": "-1"}.get(words, words)
