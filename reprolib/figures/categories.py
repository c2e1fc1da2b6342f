"""The category plot: of the answers by either cue, the share of texture, category by category. Source: bethgelab/model-vs-human."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

LARGEST = 60.0  # points squared, of a mark for as many answers as any has
REFERENCES = {"ResNet-50": 0.2207, "humans": 0.9587}
"""Shape bias on the 1,200 original stimuli, recounted from public trials (rgeirhos/texture-vs-shape)."""


def category_plot(ax: Axes, table: pd.DataFrame, looks: dict[str, dict[str, Any]], categories: Sequence[str]) -> None:
    """A mark a network and category at its share of texture (x), as large as its answers are many; a line at each network's own share.

    table: columns name, group, category, n_shape, n_texture. looks: group -> colour and marker. Categories without an answer by a cue have no mark.
    """
    answered = table["n_shape"] + table["n_texture"]
    shown = table[answered > 0].assign(
        share=table["n_texture"] / answered.where(answered > 0), size=LARGEST * answered / max(answered.max(), 1)
    )
    order = {name: k for k, name in enumerate(categories)}
    for group, look in looks.items():
        of_group = shown[shown["group"] == group]
        ax.scatter(
            of_group["share"], of_group["category"].map(order), s=of_group["size"], color=look["color"], marker=look["marker"], alpha=0.55,
            linewidth=0.4, edgecolor="white", zorder=3,
        )  # fmt: skip
        for _, one in of_group.groupby("name"):
            share = one["n_texture"].sum() / (one["n_shape"] + one["n_texture"]).sum()
            ax.axvline(share, color=look["color"], linewidth=0.9, alpha=0.7, zorder=1)
    ax.set_yticks(range(len(categories)), categories)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(categories) - 0.5, -0.5), xlabel="share of texture among answers by a cue")
    top = ax.secondary_xaxis("top", functions=(_other, _other))
    top.set_xlabel("share of shape")


def _other(share: Any) -> Any:
    return 1 - share
