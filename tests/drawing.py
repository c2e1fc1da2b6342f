"""What a drawn figure shows: pictures, words, dots; and tidy rows to draw from."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from reprolib.figures import style

COLUMNS = ["claim", "quantity", "arm", "recipe", "architecture", "seed", "network", "unit", "unit_2", "value", "reached"]


def row(claim: str, quantity: str, arm: str, seed: int, unit: object, unit_2: str, value: float, recipe: str = "") -> dict[str, Any]:
    """A tidy row of the network of an arm and seed; its recipe is called as its arm unless told otherwise."""
    who = (arm, recipe or arm, "w8", seed, f"{arm}{seed}")
    return dict(zip(COLUMNS, (claim, quantity, *who, str(unit), unit_2, float(value), True), strict=True))


def images(*shape: int, seed: int = 0) -> Tensor:
    """Images of noise in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def pictures(figure: Figure) -> list[AxesImage]:
    """The images of a figure."""
    return [image for ax in figure.axes for image in ax.images]


def words(figure: Figure) -> list[str]:
    """All that is written in a figure."""
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]  # type: ignore[attr-defined]


def dots(ax: Axes) -> list[tuple[float, float, str, str]]:
    """Place, height, face and edge of every dot, left to right."""
    clouds = [part for part in ax.collections if isinstance(part, PathCollection)]
    each = [zip(part.get_offsets(), part.get_facecolors(), part.get_edgecolors(), strict=True) for part in clouds]
    return sorted((round(float(x), 6), round(float(y), 3), to_hex(face), to_hex(edge)) for part in each for (x, y), face, edge in part)


def heights(ax: Axes, arm: str) -> list[float]:
    """The heights of an arm's dots, left to right, full or hollow."""
    return [y for _, y, *colours in dots(ax) if style.role(arm).colour.lower() in colours]


def assert_on_page(figure: Figure, width: float = style.WIDE) -> None:
    """All ink lies on the page."""
    ink = figure.get_tightbbox()  # inches
    assert figure.get_figwidth() == width
    assert min(ink.x0, ink.y0) > -0.01
    assert ink.x1 < width + 0.01
    assert ink.y1 < figure.get_figheight() + 0.01
