"""The pictures of inversion outside the training distribution. Source of the question: Engstrom et al. 2019 (arXiv 1906.00945)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import GROUP_IN, LABEL_IN, PAD_IN, Page, in_lines

SETS = {
    "held_out": "shapes and textures never trained on", "tiny_imagenet_20": "photographs of other classes",
    "textures": "describable textures", "fashion": "clothes",
}  # fmt: skip
SIDE_IN = 0.75  # at most


@style.housed
def outside(pictures: Mapping[str, Any], n: int | None = None) -> Figure:
    """Targets from outside the training distribution and their inverses, a row a network, the sets side by side.

    pictures: targets {set: (t, 3, h, w)} and inverses {set: {role: (t, 3, h, w)}}, in [0, 1] or uint8; tau, at which the inverses
    were taken. n: targets shown of each set (default: 4, or 6 of a single one). Raises BadInput where there is no picture.
    """
    targets, inverses = pictures.get("targets", {}), pictures.get("inverses", {})
    arms = style.in_order([arm for of_set in inverses.values() for arm in of_set])
    n = (6 if len(targets) == 1 else 4) if n is None else n
    if not targets or not arms or n < 1:
        raise BadInput(f"nothing to draw: {len(targets)} sets, {len(arms)} networks and n={n}; give at least one of each")
    shown = {name: min(n, len(images)) for name, images in targets.items()}
    columns = sum(shown.values())
    room = style.WIDE - LABEL_IN - 0.04 - (len(shown) - 1) * GROUP_IN
    side = min(room / columns - PAD_IN, SIDE_IN)
    pitch, header = side + PAD_IN, 0.22
    rows_top = header + pitch + 0.08
    page = Page(style.WIDE, rows_top + len(arms) * pitch + 0.05)
    page.label("target", header + side / 2)
    for r, arm in enumerate(arms):
        y = rows_top + r * pitch
        page.label(in_lines(style.role(arm).label, 12), y + side / 2, bar=(style.role(arm).colour, y, side))
    left = LABEL_IN
    for name, count in shown.items():
        page.text(SETS.get(name, name), left + (count * pitch - PAD_IN) / 2, header - 0.06, ha="center", va="bottom", fontsize=6.5)
        for t in range(count):
            page.picture(targets[name][t], left + t * pitch, header, side, frame=style.INK)
            for r, arm in enumerate(arms):
                if arm in inverses[name]:
                    page.picture(inverses[name][arm][t], left + t * pitch, rows_top + r * pitch, side)
        left += count * pitch - PAD_IN + GROUP_IN
    return page.figure
