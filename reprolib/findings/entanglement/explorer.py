"""The explorer of entanglement: one layer of one network, its loss against temperature, and who is a neighbour at the temperature chosen."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle
from torch import Tensor

from reprolib.figures import style
from reprolib.figures.reading import short_layer
from reprolib.findings.entanglement import batches
from reprolib.front_end import is_wanted, moved_by
from reprolib.measures.soft_nearest_neighbor import Entanglement, entanglement, soft_nearest_neighbor_loss
from reprolib.models.grams import POOLED, collect
from reprolib.models.layers import shrunk
from reprolib.models.networks import Network
from reprolib.study import Study

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 110
DECADES = (-2.5, 1.5)  # of temperature over the mean distance, least and largest shown
N_CURVE = 41
HEADLESS = 'explorer: nobody is watching, so no menus are drawn (interactive="on" draws them)'
NO_IMAGES = "explorer: the images are not here, and committed rows hold no features to look at"
COLOURS = ("#4F6D8F", "#D55E00", "#009E73", "#CC79A7", "#7FBFEA", "#E3C800", "#262626", "#C4C4C4", "#7A2E00", "#917FFF")
"""Of classes, again from the first where there are more."""


def temperatures(study: Study, nets: Mapping[str, Sequence[Network]], interactive: str = "auto") -> ipywidgets.VBox | None:
    """A network, a layer and a temperature to choose, on the first batch. Leave it as the last value of a cell, which shows it.

    interactive: "auto" (JupyterLab only), "on", "off". Without a person, or without the images, it prints one line and returns None.
    """
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    if not study.can_measure:
        print(NO_IMAGES)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    x, y = next(iter(batches.of_scale(study)))
    screen = Screen(x, y, nets)
    network = ipywidgets.Dropdown(options=list(screen.networks), description="network")
    layer = ipywidgets.Dropdown(options=screen.layers(network.value), value=POOLED, description="layer")
    decade = ipywidgets.FloatSlider(
        value=-1.0, min=DECADES[0], max=DECADES[1], step=0.1, description="log10 T / D", continuous_update=False
    )

    def follow(_: object) -> None:
        names = screen.layers(network.value)
        if list(layer.options) != names:
            layer.options = names

    network.observe(follow, names="value")
    return moved_by((network, layer, decade), screen.png, [(network, layer, decade)])


@dataclass(frozen=True)
class Seen:
    """A layer: squared distances (n, n), two principal components (n, 2), its minimum, and the loss over the bound along `decades`."""

    distances: Tensor
    places: Tensor
    least: Entanglement
    features: Tensor
    curve: Tensor


class Screen:
    """Draws one layer on a batch x (n, c, h, w) in [0, 1] with labels y (n,)."""

    def __init__(self, x: Tensor, y: Tensor, nets: Mapping[str, Sequence[Network]]) -> None:
        self.x, self.y = x, y
        self.networks = {
            f"{style.role(role).label}, {network.card['description']['seed']}": network for role, of in nets.items() for network in of
        }
        self.decades = torch.linspace(*DECADES, N_CURVE, dtype=torch.float64)
        self.seen = functools.cache(self._seen)

    def layers(self, name: str) -> list[str]:
        """The hidden layers of a network."""
        return [*self.networks[name].layer_names, POOLED]

    def png(self, name: str, layer: str, decade: float) -> bytes:
        """The picture. name: as in `networks`; decade: log10 of the temperature over the mean distance."""
        if layer not in self.layers(name):  # the menus change one after the other
            layer = POOLED
        of = self.seen(name, layer)
        with style.context():
            figure = style.figure(style.WIDE, 2.9)
            left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
            self._draw_curve(left, of, decade)
            self._draw_neighbourhood(right, of, decade)
            figure.suptitle(f"{name}, {short_layer(layer)}, {len(self.x)} images", fontsize=8, ha="left", x=0.01)
            figure.set_dpi(SCREEN_DPI)
            buffer = io.BytesIO()
            FigureCanvasAgg(figure).print_png(buffer)
        return buffer.getvalue()

    def loss(self, of: Seen, decade: float) -> float:
        """The loss over its bound at a temperature."""
        temperature = 10**decade * float(_mean(of.distances)) or math.inf  # all points in one place: the bound
        return float(soft_nearest_neighbor_loss(of.features, self.y, temperature)) / (of.least.bound or 1.0)

    def _seen(self, name: str, layer: str) -> Seen:
        features = collect(self.networks[name], self.x, [layer], reduce=lambda value: shrunk(value).double().cpu())[layer]
        z = features - features.mean(dim=0)
        gram = z @ z.T
        squares = gram.diagonal()
        distances = (squares[:, None] + squares - 2 * gram).clamp(min=0).fill_diagonal_(0)
        values, vectors = torch.linalg.eigh(gram)
        places = vectors[:, [-1, -2]] * values[[-1, -2]].clamp(min=0).sqrt()
        of = Seen(distances, places, entanglement(features, self.y), features, torch.empty(0))
        return Seen(distances, places, of.least, features, torch.tensor([self.loss(of, float(one)) for one in self.decades]))

    def _draw_curve(self, ax: Axes, of: Seen, decade: float) -> None:
        ax.plot(10**self.decades, of.curve, color=style.INK)
        ax.axhline(1, **style.CHANCE)
        ax.plot(10**decade, self.loss(of, decade), marker="o", color="#D55E00", markersize=6)
        words = (
            "no minimum below the bound"
            if of.least.at_bound
            else f"minimum {of.least.share:.3f}\nT* = {of.least.relative_temperature:.2g} D"
        )
        if not of.least.at_bound:
            ax.plot(of.least.relative_temperature, of.least.share, marker="|", color=style.INK, markersize=12)
        ax.set_title(words, fontsize=7)
        low, high = (10**end for end in DECADES)
        ax.set(
            xscale="log",
            xlim=(low, high),
            ylim=(0, max(2.0, 1.2 * of.least.share)),
            xlabel="temperature / mean distance D",
            ylabel="loss / its bound",
        )

    def _draw_neighbourhood(self, ax: Axes, of: Seen, decade: float) -> None:
        """The point in the middle of the largest crowd, and every other one as strong as its weight at that temperature."""
        anchor = int(of.distances.sum(dim=1).argmin())
        temperature = 10**decade * float(_mean(of.distances))
        others = torch.arange(len(self.y)) != anchor
        away = of.distances[anchor] - of.distances[anchor][others].min()
        weight = torch.exp(-away / temperature).clamp(max=1) if temperature else torch.ones_like(away)
        colours = np.array([COLOURS[label % len(COLOURS)] for label in self.y.tolist()])
        (x, y), rest = of.places.T.numpy(), others.numpy()
        ax.scatter(x, y, s=6, c=colours, alpha=0.25, linewidth=0)
        ax.scatter(
            x[rest],
            y[rest],
            s=45,
            c=[(colour, one) for colour, one in zip(colours[rest], weight[others].tolist(), strict=True)],
            linewidth=0,
        )
        ax.scatter(x[anchor], y[anchor], s=90, marker="*", color=colours[anchor], edgecolor=style.INK, linewidth=0.7, zorder=4)
        ax.add_patch(Circle((float(x[anchor]), float(y[anchor])), math.sqrt(temperature), fill=False, color=style.INK, linewidth=0.7))
        own = float(weight[others & (self.y.cpu() == self.y[anchor].cpu())].sum() / weight[others].sum())
        ax.set_title(f"{own:.0%} of what is near the star is of its class\ncircle: square root of T", fontsize=7)
        reach = 1.3 * float(of.places.abs().flatten().quantile(0.98)) or 1.0
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal", xlabel="two principal components")


def _mean(distances: Tensor) -> Tensor:
    """Mean off the diagonal."""
    n = len(distances)
    return distances.sum() / (n * (n - 1))
