"""The pictures of inversion outside the training distribution. Source of the question: Engstrom et al. 2019 (arXiv 1906.00945)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from reprolib.figures import style
from reprolib.figures.page import Group, grid, in_lines

SETS = {
    "held_out": "shapes and textures never trained on", "tiny_imagenet_20": "photographs of other classes",
    "textures": "describable textures", "fashion": "clothes",
}  # fmt: skip


@style.housed
def outside(pictures: Mapping[str, Any]) -> Figure:
    """Targets from outside the training distribution and their inverses, a row a network, the sets side by side.

    pictures: targets {set: (t, 3, h, w)} and inverses {set: {role: (t, 3, h, w)}}, in [0, 1] or uint8; tau, at which the inverses
    were taken. Shown are 4 targets of each set, or 6 of a single one.
    """
    targets, inverses = pictures["targets"], pictures["inverses"]
    arms = style.in_order([arm for of_set in inverses.values() for arm in of_set])
    n = 6 if len(targets) == 1 else 4
    groups = [Group(SETS.get(name, name), targets[name][:n], {arm: x[:n] for arm, x in inverses[name].items()}) for name in targets]
    page, side, tops = grid(groups, arms, "target", gap=0.08, foot=0.05)
    for arm, y in tops.items():
        page.label(in_lines(style.role(arm).label, 12), y + side / 2, bar=(style.role(arm).colour, y, side))
    return page.figure
