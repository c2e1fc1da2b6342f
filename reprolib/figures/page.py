"""What charts and pages of pictures share: axes given or made, a level named at the edge, a page measured in inches, tints."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from reprolib.figures import style

LABEL_IN = 0.92  # inches left for the rows' names
PAD_IN = 0.035
GROUP_IN = 0.14  # between two targets, or two networks


def axes_for(ax: Axes | None, width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """The given axes and the figure they are on, or new ones of that size."""
    if ax is None:
        figure = style.figure(width_in, height_in)
        return figure, figure.subplots()
    figure = ax.get_figure(root=True)  # type: ignore[assignment]  # axes that were removed have none, and cannot be drawn on
    return figure, ax


def in_lines(label: str, width: int = 8) -> str:
    """A label in short lines of about `width` letters, for ticks that stand close and margins that are narrow."""
    return textwrap.fill(label, width, break_long_words=False)


def beside(ax: Axes, words: str, level: float, **look: Any) -> None:
    """Write `words` to the right of the axes, at the height `level` (data units)."""
    style_of_text = {"va": "center", "fontsize": 6.5, "annotation_clip": False, **look}
    ax.annotate(words, (1, level), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points", **style_of_text)


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """`colour` mixed with white: strength 1 is the colour, 0 is white."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (1 - strength * (1 - channel) for channel in channels)
    return red, green, blue


class Page:
    """A figure measured in inches from the top left corner."""

    def __init__(self, width_in: float, height_in: float) -> None:
        self.width, self.height = width_in, height_in
        self.figure = style.figure(width_in, height_in, layout="none")
        self.figure.suppressComposite = True  # a pdf else makes one image of all pictures

    @cached_property
    def sheet(self) -> Axes:
        """Axes over the whole page, in inches from the top left corner: what all pictures share, for axes cost far more than a picture."""
        sheet = self.figure.add_axes((0, 0, 1, 1), zorder=-1)
        sheet.set(xlim=(0, self.width), ylim=(self.height, 0))
        sheet.set_axis_off()
        return sheet

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes of that size with their top left corner at (x, y), all in inches."""
        return self.figure.add_axes((x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height))

    def picture(self, image: Tensor, x: float, y: float, side: float, frame: str | None = None) -> None:
        """An image (c, h, w), see `pixels`, in a square of that side; frame: the colour of a line around it."""
        place = (x, x + side, y + side, y)
        self.sheet.imshow(pixels(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=place, aspect="auto")
        if frame is not None:
            self.sheet.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=frame, linewidth=1.0))

    def text(self, words: str, x: float, y: float, **look: Any) -> None:
        """Words at (x, y)."""
        self.figure.text(x / self.width, 1 - y / self.height, words, **{"fontsize": 7, **look})

    def label(self, words: str, y: float, colour: str = style.INK, bar: tuple[str, float, float] | None = None) -> None:
        """A row's name in the left margin, with a vertical (colour, top, height) bar beside the pictures."""
        self.text(words, LABEL_IN - 0.1, y, ha="right", va="center", color=colour, linespacing=1.15)
        if bar is not None:
            strip = self.axes(LABEL_IN - 0.065, bar[1], 0.04, bar[2])
            strip.set_facecolor(bar[0])
            strip.set(xticks=[], yticks=[])
            strip.spines[:].set_visible(False)


@dataclass(frozen=True)
class Group:
    """Pictures that stand together in a `grid`: head, framed, at the top, and rows by name, column by column; title, in its look, above them."""

    title: str
    head: Sequence[Tensor] | Tensor
    rows: Mapping[Any, Sequence[Tensor] | Tensor]
    look: Mapping[str, Any] = field(default_factory=dict)


def grid(
    groups: Sequence[Group],
    rows: Sequence[Any],
    head: str,
    columns: Sequence[str] = (),
    header: float = 0.22,
    gap: float = 0.1,
    foot: float = 0.3,
    most: float = 0.75,
) -> tuple[Page, float, dict[Any, float]]:
    """Groups of pictures side by side, in common rows: the page, the side of a picture, and where each row begins.

    head: the name of the top line. columns: names above those of the rows, in every group. header, gap, foot: inches above the top line,
    below it, and below the last row. most: of a side. A row that a group lacks is left blank.
    """
    counts = [max(len(group.head), *(len(pictures) for pictures in group.rows.values()), 0) for group in groups]
    side = min((style.WIDE - LABEL_IN - 0.04 - (len(groups) - 1) * GROUP_IN) / sum(counts) - PAD_IN, most)
    pitch = side + PAD_IN
    tops = {name: header + pitch + gap + k * pitch for k, name in enumerate(rows)}
    page = Page(style.WIDE, header + pitch + gap + len(rows) * pitch + foot)
    page.label(head, header + side / 2)
    left = LABEL_IN
    for group, count in zip(groups, counts, strict=True):
        middle = left + (count * pitch - PAD_IN) / 2
        page.text(group.title, middle, header - 0.06, **{"ha": "center", "va": "bottom", "fontsize": 6.5, **group.look})
        for top, pictures, frame in ((header, group.head, style.INK), *((tops[name], group.rows[name], None) for name in group.rows)):
            for k, image in enumerate(pictures):
                page.picture(image, left + k * pitch, top, side, frame=frame)
        for k, words in enumerate(columns):
            page.text(
                words, left + k * pitch + side / 2, header + pitch + gap - 0.05, ha="center", va="bottom", fontsize=6, color=style.FAINT
            )
        left += count * pitch - PAD_IN + GROUP_IN
    return page, side, tops


def pixels(image: Tensor) -> NDArray[Any]:
    """(c, h, w) in [0, 1] or uint8 to what imshow takes: (h, w, 3), or (h, w) for one channel, clipped to [0, 1]."""
    image = image.detach().cpu()
    image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    image = image.clamp(0, 1)
    return image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()
