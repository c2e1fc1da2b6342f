"""What every chart does first and last: take the given axes or make new ones, and name a level at the right edge."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprolib.results import style


def axes_for(ax: Axes | None, width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """The given axes and the figure they are on, or new ones of that size."""
    if ax is None:
        figure = style.figure(width_in, height_in)
        return figure, figure.subplots()
    figure = ax.get_figure(root=True)  # type: ignore[assignment]  # axes that were removed have none, and cannot be drawn on
    return figure, ax


def beside(ax: Axes, words: str, level: float, **look: Any) -> None:
    """Write `words` to the right of the axes, at the height `level` (data units)."""
    style_of_text = {"va": "center", "fontsize": 6.5, "annotation_clip": False, **look}
    ax.annotate(words, (1, level), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points", **style_of_text)
