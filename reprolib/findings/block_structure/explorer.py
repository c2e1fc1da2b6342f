"""The explorer of block structure: the map of one network at any epoch, at any training radius, and one pair of layers through both."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from reprolib.figures import charts, style
from reprolib.figures.reading import short_layer
from reprolib.findings.block_structure.figures.layered import Layered, colour_bar, draw_map, matrices
from reprolib.findings.block_structure.networks import named
from reprolib.findings.block_structure.rows import DEPTH, RADII, SHOWN
from reprolib.front_end import is_wanted, moved_by
from reprolib.training.recipes import recipe

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 110
HEADLESS = 'explorer: nobody is watching, so no sliders are drawn (interactive="on" draws them); the figures above show the same maps'

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Films:
    """What the explorer moves through. epochs: arm -> epoch -> CKA (L, L), empty where no states were kept. radii: radius -> CKA.

    names: of the layers.
    """

    names: tuple[str, ...]
    architecture: str
    epochs: dict[str, dict[int, Array]]
    radii: dict[float, Layered]


def films(rows: pd.DataFrame) -> Films:
    """From tidy rows: claim "shown", quantity "cka" (epochs, first seed of each arm), and "hsic" of the first seed of each radius.

    Radii are those of claim "BLK-10" where its networks are of the architecture that was followed through training, else
    those of the two deep arms, claim "BLK-1". Raises BadInput where neither is there.
    """
    epochs: dict[str, dict[int, Array]] = {}
    there = matrices(rows, RADII)
    architecture = there[0].architecture
    for _, frame in rows[(rows["claim"] == SHOWN) & (rows["quantity"] == "cka")].groupby(["arm", "seed"]):
        first = frame.iloc[0]
        if first["arm"] not in epochs:
            epochs[first["arm"]], architecture = _maps(frame), first["architecture"]
    if there[0].architecture != architecture:
        there = matrices(rows, DEPTH)
    recipes = {str(row.network): str(row.recipe) for row in rows.drop_duplicates("network").itertuples()}
    radii: dict[float, Layered] = {}
    for one in there:
        if one.arm in charts.RADII:
            radii.setdefault(recipe(recipes[one.network]).eps, one)
    ordered = {arm: epochs[arm] for arm in style.in_order([*epochs])}
    return Films(named(architecture, len(there[0].values)), architecture, ordered, dict(sorted(radii.items())))


def block_structure(rows: pd.DataFrame, interactive: str = "auto") -> ipywidgets.VBox | None:
    """Sliders over epochs, training radii and pairs of layers; leave it as the last value of a cell, which shows it.

    rows: tidy rows of the finding; no network runs. interactive: "auto" (JupyterLab only), "on", "off". Without a person it prints
    one line and returns None. Raises BadInput for another word.
    """
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    screen = Screen(films(rows))
    found, names = screen.films, [short_layer(name) for name in screen.films.names]
    layers = [(name, place) for place, name in enumerate(names)]
    first = ipywidgets.Dropdown(options=layers, value=0, description="layer")
    second = ipywidgets.Dropdown(options=layers, value=len(layers) - 1, description="with")
    arms = [(style.role(arm).label, arm) for arm in found.epochs]
    network = ipywidgets.Dropdown(options=arms, description="network", disabled=not found.epochs)
    epochs = sorted(next(iter(found.epochs.values()), {0: None}))
    epoch = ipywidgets.SelectionSlider(options=epochs, value=epochs[-1], description="epoch", disabled=not found.epochs)
    eps = ipywidgets.SelectionSlider(options=[(as_read(one), one) for one in found.radii], value=[*found.radii][-1], description="radius")
    return moved_by((network, epoch, eps, first, second), screen.png, [(network, first, second), (epoch, eps)])


class Screen:
    """One figure whose maps, lines and marks are moved, so that a step of a slider costs a redraw and no more."""

    def __init__(self, found: Films) -> None:
        self.films = found
        n = len(found.names)
        with style.context():
            self.figure = style.figure(style.WIDE, 2.6)
            self.figure.set_dpi(SCREEN_DPI)
            self.canvas = FigureCanvasAgg(self.figure)
            axes = self.figure.subplots(1, 4)
            self.maps, self.courses = axes[:2], axes[2:]
            names = [short_layer(name) for name in found.names]
            for ax in self.maps:
                image = draw_map(ax, np.zeros((n, n)), found.architecture)
                ax.set_xticks(range(n), names, rotation=90, fontsize=5)
                ax.tick_params(length=0, pad=1)
            self.maps[0].set_yticks(range(n), names, fontsize=5)
            colour_bar(self.figure, image, self.maps, fraction=0.05, pad=0.01, shrink=0.7)
            self.marks = [
                ax.plot([], [], marker="s", markersize=8, markerfacecolor="none", color="red", linestyle="")[0] for ax in self.maps
            ]
            times = [*found.epochs.values()]
            roles = [style.role(arm) for arm in found.epochs]
            self.lines = [self.courses[0].plot([], [], color=role.colour, label=role.label)[0] for role in roles]
            if roles:
                self.courses[0].legend(loc="lower right", fontsize=6)
            self.lines.append(self.courses[1].plot([], [], color=style.FAINT)[0])
            self.now = [ax.axvline(0, **style.CHANCE) for ax in self.courses]
            self.courses[0].set(xlabel="epoch", ylabel="CKA of the two layers", ylim=(0, 1.02), xlim=_ends([t for of in times for t in of]))
            self.courses[1].set(xlabel="training radius", ylim=(0, 1.02), xlim=_ends([*found.radii]), yticklabels=[])
            for ax in self.maps:
                ax.set_title("no title is higher", loc="center")
            for _ in range(2):  # the room that everything needs is found in two passes, and is then kept: nothing may jump
                self.figure.draw_without_rendering()
            self.figure.set_layout_engine("none")

    def png(self, network: str | None, epoch: int, eps: float, first: int, second: int) -> bytes:
        """The picture of a network at an epoch beside that of a radius, with the course of one pair of layers."""
        with style.context():
            self._move(network, epoch, eps, first, second)
            buffer = io.BytesIO()
            self.canvas.print_png(buffer)
        return buffer.getvalue()

    def _move(self, network: str | None, epoch: int, eps: float, first: int, second: int) -> None:
        shown: list[tuple[Array | None, str]] = [(None, "no epochs were kept"), (None, "no radii")]
        if network:
            shown[0] = self.films.epochs[network][epoch], f"{style.role(network).label}, epoch {epoch}"
        if eps in self.films.radii:
            shown[1] = self.films.radii[eps].values, f"radius {as_read(eps)}"
        for ax, mark, (matrix, words) in zip(self.maps, self.marks, shown, strict=True):
            if matrix is not None:
                ax.images[0].set_data(matrix)
            mark.set_data([second], [first])
            ax.set_title(words, loc="center")
        for line, maps in zip(self.lines, self.films.epochs.values(), strict=False):
            line.set_data(sorted(maps), [maps[t][first, second] for t in sorted(maps)])
        self.lines[-1].set_data([*self.films.radii], [one.values[first, second] for one in self.films.radii.values()])
        for now, place in zip(self.now, (epoch, eps), strict=True):
            now.set_xdata([place, place])


def _maps(frame: pd.DataFrame) -> dict[int, Array]:
    """Epoch -> CKA (L, L), from rows whose unit_2 is "epoch_3|i|j", i <= j."""
    parts = frame["unit_2"].str.extract(r"^epoch_(\d+)\|(\d+)\|(\d+)$").astype(int)
    n = int(parts[2].max()) + 1
    found: dict[int, Array] = {}
    for epoch, i, j, value in zip(parts[0], parts[1], parts[2], frame["value"], strict=True):
        matrix = found.setdefault(int(epoch), np.full((n, n), np.nan))
        matrix[i, j] = matrix[j, i] = value
    return dict(sorted(found.items()))


def as_read(eps: float) -> str:
    """A radius as recipes write it: "8/255" of Linf, "0.5" of L2, whose radii are larger."""
    return f"{eps * 255:g}/255" if 0 < eps < 0.1 else f"{eps:g}"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Where an axis begins and ends."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)
