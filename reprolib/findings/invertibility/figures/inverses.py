"""The pictures of invertibility: inverses beside their targets, per network and start, and per size of the code.

Source of the layout: Engstrom et al. 2019 (arXiv 1906.00945), with the distances of every picture printed below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.figures.page import GROUP_IN, LABEL_IN, PAD_IN, Group, Page, grid
from reprolib.figures.reading import network_means, of_claim

D_REL = r"$d_\mathrm{rel}$"
D_IMG = r"$d_\mathrm{img}$"
KEY = f"{D_REL}: distance to the target in representation space (1 = two random images); {D_IMG}: perceptual distance to the target (1 = the start's)"
NUMBERS_IN = 0.15
N_SHOWN = 3  # targets


@style.housed
def hero_grid(cells: Sequence[Mapping[str, Any]]) -> Figure:
    """Inverses of the same targets by several networks: equal d_rel below the pictures, and pictures that differ or do not.

    cells: one per network, top to bottom: label ("standard, seed 0"), role (a key of `style.ROLES`), targets (t, 3, h, w),
    starts and inversions {start: (t, 3, h, w)}, d_rel and d_img {start: (t,)}; images in [0, 1] or uint8, the targets and
    starts those of the first cell. A start that a cell has no inverses for is left blank. The first 3 targets are shown.
    Raises BadInput when cells is empty.
    """
    if not cells:
        raise BadInput("cells is empty: give one dict per network")
    first = cells[0]
    starts, targets = list(first["inversions"]), range(min(N_SHOWN, len(first["targets"])))
    n_columns = len(targets) * len(starts)
    group = len(starts) * PAD_IN + GROUP_IN
    side = (style.WIDE - LABEL_IN - 0.04 - len(targets) * group + GROUP_IN) / n_columns
    target_side = min(1.5 * side, len(starts) * side)
    top = 0.04
    start_top = top + target_side + 0.17
    rows_top = start_top + side + 0.22
    pitch = side + NUMBERS_IN + 0.09
    page = Page(style.WIDE, rows_top + len(cells) * pitch + 0.17)
    page.label("target", top + target_side / 2)
    page.label("start", start_top + side / 2)
    for g, target in enumerate(targets):
        left = LABEL_IN + g * (len(starts) * side + group)
        middle = left + (len(starts) * (side + PAD_IN) - PAD_IN) / 2
        page.picture(first["targets"][target], middle - target_side / 2, top, target_side, frame=style.INK)
        for s, start in enumerate(starts):
            x = left + s * (side + PAD_IN)
            page.text(_start_name(start), x + side / 2, start_top - 0.04, ha="center", va="bottom", fontsize=6, color=style.FAINT)
            page.picture(first["starts"][start][target], x, start_top, side)
            for row, cell in enumerate(cells):
                if start in cell["inversions"]:
                    _inverse(page, cell, start, target, x, rows_top + row * pitch, side)
    for row, cell in enumerate(cells):
        y = rows_top + row * pitch
        look = style.role(cell["role"])
        page.label(cell["label"].replace(", ", "\n"), y + side / 2, colour=style.INK, bar=(look.colour, y, side))
        page.text(D_REL, LABEL_IN - 0.36, y + side + 0.02, ha="right", va="top", fontsize=6.5, color=style.FAINT)
        page.text(D_IMG, LABEL_IN - 0.08, y + side + 0.02, ha="right", va="top", fontsize=6.5, color=style.INK)
    page.text(KEY, style.WIDE - 0.04, page.height - 0.04, ha="right", va="bottom", fontsize=6.5)
    return page.figure


@style.housed
def code_size(images: Mapping[str, Any], rows: pd.DataFrame) -> Figure:
    """Inverses of codes pooled to k x k positions, and below how far they agree with the target: from no picture to the picture.

    images: targets (t, 3, h, w), channels (of the last map), and k {1: {"standard": (t, 3, h, w), "robust": ...}, ...}, in [0, 1] or
    uint8. rows: claim "code_size", quantity "pixel_correlation", unit_2 "k=4", one value per target. The code has channels * k * k
    numbers, the image 3 * h * w. Raises BadInput when there are no such rows.
    """
    targets, by_k, channels = images["targets"], images["k"], images["channels"]
    found = of_claim(rows, "code_size", ["pixel_correlation"])
    found = found.assign(k=found["unit_2"].str.removeprefix("k=").astype(int))
    fractions = {k: channels * k * k / targets[0].numel() for k in {*by_k, *found["k"]}}
    groups = []
    for arm in style.in_order([arm for inverses in by_k.values() for arm in inverses]):
        title, look = f"inverse, {style.role(arm).label} network", {"fontsize": 7, "fontweight": "bold", "color": style.role(arm).colour}
        groups.append(Group(title, targets, {k: inverses[arm] for k, inverses in by_k.items() if arm in inverses}, look))
    page, side, tops = grid(groups, sorted(by_k), "target", header=0.2, gap=0.08, foot=2.1, most=0.62)
    for k, y in tops.items():
        page.label(f"{k} x {k} x {channels}\n{fractions[k]:.0%} of pixels", y + side / 2)
    _correlation_curve(page.axes(LABEL_IN, page.height - 1.95, style.WIDE - LABEL_IN - 1.3, 1.4), found, fractions)
    return page.figure


def _inverse(page: Page, cell: Mapping[str, Any], start: str, target: int, x: float, y: float, side: float) -> None:
    page.picture(cell["inversions"][start][target], x, y, side)
    left, right = {"ha": "left", "color": style.FAINT}, {"ha": "right", "fontweight": "bold"}
    for name, place, look in (("d_rel", x + 0.02, left), ("d_img", x + side - 0.02, right)):
        if start in cell[name]:
            page.text(_short(float(cell[name][start][target])), place, y + side + 0.03, va="top", fontsize=6.5, **look)


def _short(value: float) -> str:
    """Two decimals without the leading zero: .05, 1.02."""
    return f"{value:.2f}".removeprefix("0")


def _start_name(start: str) -> str:
    kind, _, number = start.partition("_")
    return f"{kind} {int(number) + 1}" if number.isdigit() else start


def _correlation_curve(axes: Axes, rows: pd.DataFrame, fractions: Mapping[int, float]) -> None:
    """Pixel correlation against the code's size: a dot per network, a line through the arm's means."""
    means = network_means(rows.assign(share=rows["k"].map(fractions)), "share")
    charts.lines(means, axes, "share", each="arm")
    charts.dots(means, axes, "share", gap=0, side=3, edge=0, alpha=0.5)
    by_size = means.groupby(["arm", "share"])["value"].mean()
    ends = {arm: (by_size[arm].index[-1], by_size[arm].iloc[-1]) for arm in style.in_order(list(means["arm"]))}
    text: dict[str, Any] = {"fontweight": "bold", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
    for rank, (arm, end) in enumerate(sorted(ends.items(), key=lambda item: item[1][1])):
        va = "center" if len(ends) == 1 else ("bottom" if rank == len(ends) - 1 else "top")  # apart, also where the ends meet
        axes.annotate(style.role(arm).label, end, xytext=(7, 0), textcoords="offset points", va=va, color=style.role(arm).colour, **text)
    axes.axhline(0, **style.CHANCE)
    axes.set_xscale("log")
    ticks = sorted(fractions.items())
    axes.set_xticks([fraction for _, fraction in ticks], [f"{fraction:.2g}\nk = {k}" for k, fraction in ticks])
    axes.set_xticks([], minor=True)
    axes.set(ylim=(min(-0.05, means["value"].min() - 0.05), 1), xlabel="numbers in the code / numbers in the image, D / (3 H W)")
    axes.set_ylabel("pixel correlation\nwith the target")
