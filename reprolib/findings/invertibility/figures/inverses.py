"""The pictures of invertibility: inverses beside their targets, per network and start, and per size of the code.

Source of the layout: Engstrom et al. 2019 (arXiv 1906.00945), with the distances of every picture printed below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from reprolib.errors import BadInput, nearest
from reprolib.figures import charts, style
from reprolib.figures.page import GROUP_IN, LABEL_IN, PAD_IN, Page
from reprolib.figures.reading import network_means, of_claim

D_REL = r"$d_\mathrm{rel}$"
D_IMG = r"$d_\mathrm{img}$"
KEY = f"{D_REL}: distance to the target in representation space (1 = two random images); {D_IMG}: perceptual distance to the target (1 = the start's)"
NUMBERS_IN = 0.15
CELL_KEYS = ("label", "role", "targets", "starts", "inversions", "d_rel", "d_img")


@style.housed
def hero_grid(cells: Sequence[Mapping[str, Any]], targets: Sequence[int] = (0, 1, 2), starts: Sequence[str] | None = None) -> Figure:
    """Inverses of the same targets by several networks: equal d_rel below the pictures, and pictures that differ or do not.

    cells: one per network, top to bottom: label ("standard, seed 0"), role (a key of `style.ROLES`), targets (t, 3, h, w),
    starts and inversions {start: (t, 3, h, w)}, d_rel and d_img {start: (t,)}; images in [0, 1] or uint8, the targets and
    starts those of the first cell. A start that a cell has no inverses for is left blank.
    targets: which of the t to show. starts: which starts, left to right; default: those of the first cell.
    Raises BadInput when cells is empty or lacks a key, or a target or start is not there.
    """
    _check_cells(cells, targets)
    first = cells[0]
    starts = list(first["inversions"]) if starts is None else list(starts)
    for start in starts:
        if start not in first["starts"]:
            raise BadInput(f"start {start!r} is not one of {', '.join(first['starts'])}{nearest(start, first['starts'])}")
    n_columns = len(targets) * len(starts)
    if n_columns == 0:
        raise BadInput("nothing to draw: give at least one target and one start")
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
def code_size(images: Mapping[str, Any], rows: pd.DataFrame, channels: int = 64, start: str | None = None) -> Figure:
    """Inverses of codes pooled to k x k positions, and below how far they agree with the target: from no picture to the picture.

    images: targets (t, 3, h, w) and k {1: {"standard": (t, 3, h, w), "robust": ...}, ...}, in [0, 1] or uint8; at most the first 6
    targets are shown. rows: claim "code_size", quantity "pixel_correlation", unit_2 "k=4" (or "k=4|noise_0"), one value per target.
    channels: of the last map; the code has channels * k * k numbers, the image 3 * h * w. start: of the rows; default: all.
    Raises BadInput when there is no k, an arm is missing from one, or there are no such rows.
    """
    shown, by_k, arms = _check_code_size(images)
    height, width = shown.shape[-2:]
    found = of_claim(rows, "code_size", ["pixel_correlation"])
    parts = found["unit_2"].astype(str).str.extract(r"^k=(?P<k>\d+)(?:\|(?P<start>.+))?$")
    if parts["k"].isna().any():
        bad = found["unit_2"][parts["k"].isna()].iloc[0]
        raise BadInput(f'unit_2={bad!r} of a code_size row names no k: write it like "k=4"')
    found = found.assign(k=parts["k"].astype(int))
    if start is not None:
        found = found[parts["start"] == start]
        if found.empty:
            raise BadInput(
                f"no code_size row starts from {start!r}: write the start behind the k, as in unit_2 'k=4|noise_0', or leave start out"
            )
    side = min(0.62, (style.WIDE - LABEL_IN - 0.04 - (len(arms) - 1) * GROUP_IN) / (len(arms) * len(shown)) - PAD_IN)
    pitch = side + PAD_IN
    header = 0.2
    pictures = header + pitch + 0.08 + len(by_k) * pitch
    page = Page(style.WIDE, pictures + 2.1)
    page.label("target", header + side / 2)
    fractions = {k: channels * k * k / (3 * height * width) for k in {*by_k, *found["k"]}}
    for row, k in enumerate(sorted(by_k)):
        middle = header + pitch + 0.08 + row * pitch + side / 2
        page.label(f"{k} x {k} x {channels}\n{fractions[k]:.0%} of pixels", middle)
    for a, arm in enumerate(arms):
        left = LABEL_IN + a * (len(shown) * pitch - PAD_IN + GROUP_IN)
        middle = left + (len(shown) * pitch - PAD_IN) / 2
        words, colour = f"inverse, {style.role(arm).label} network", style.role(arm).colour
        page.text(words, middle, header - 0.06, ha="center", va="bottom", fontweight="bold", color=colour)
        for t, target in enumerate(shown):
            page.picture(target, left + t * pitch, header, side, frame=style.INK)
            for row, k in enumerate(sorted(by_k)):
                if arm in by_k[k]:
                    page.picture(by_k[k][arm][t], left + t * pitch, header + pitch + 0.08 + row * pitch, side)
    _correlation_curve(page.axes(LABEL_IN, pictures + 0.15, style.WIDE - LABEL_IN - 1.3, 1.4), found, fractions)
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


def _check_cells(cells: Sequence[Mapping[str, Any]], targets: Sequence[int]) -> None:
    if not cells:
        raise BadInput("cells is empty: give one dict per network, each with " + ", ".join(CELL_KEYS))
    for i, cell in enumerate(cells):
        missing = [key for key in CELL_KEYS if key not in cell]
        if missing:
            raise BadInput(f"cells[{i}] has no {', '.join(missing)}: each cell needs {', '.join(CELL_KEYS)}")
        if cell["targets"].shape != cells[0]["targets"].shape:
            raise BadInput(
                f"cells[{i}] has targets of shape {tuple(cell['targets'].shape)}, the first {tuple(cells[0]['targets'].shape)}: "
                "a row is compared with the targets above it, so all cells must have the same"
            )
        style.role(cell["role"])
    n = len(cells[0]["targets"])
    for target in targets:
        if not 0 <= target < n:
            raise BadInput(f"target {target} is not one of the {n} there: give numbers in [0, {n - 1}]")


def _check_code_size(images: Mapping[str, Any]) -> tuple[Tensor, Mapping[int, Mapping[str, Tensor]], list[str]]:
    """The targets shown, the inverses by k, and the arms in their fixed order."""
    missing = [key for key in ("targets", "k") if key not in images]
    if missing:
        raise BadInput(f'images has no {" and no ".join(missing)}: give {{"targets": (t, 3, h, w), "k": {{1: {{"standard": ...}}, ...}}}}')
    by_k = images["k"]
    arms = style.in_order([arm for inverses in by_k.values() for arm in inverses])
    if not arms or not len(images["targets"]):
        raise BadInput("images holds no inverse of any k: give at least one target, one k and one arm")
    return images["targets"][:6], by_k, arms


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
