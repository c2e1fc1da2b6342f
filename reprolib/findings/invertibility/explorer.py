"""The explorer of invertibility: two networks' inverses of one target, step by step, and where each is on its trajectory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.front_end import is_wanted, moved_by

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 120
NO_IMAGES = "explorer: nothing was measured here, and committed rows hold no pictures to move through"
HEADLESS = 'explorer: nobody is watching, so no sliders are drawn (interactive="on" draws them); the figures above show the same steps'


def invertibility(frames: Mapping[str, Any] | None, interactive: str = "auto") -> ipywidgets.VBox | None:
    """Sliders over precomputed inversions; leave it as the last value of a cell, which shows it.

    frames: network label ("standard, seed 0") to {"d_rel": (steps, t), "distance": (steps, t), "images": uint8 (steps, t, 3, h, w),
    "steps": [0, 10, ...]}, and "targets": (t, 3, h, w) in [0, 1] or uint8.
    interactive: "auto" (JupyterLab only), "on", "off". Without a person, or without frames (the data set is not here), it
    prints one line and returns None. Raises BadInput when `interactive` is another word.
    """
    if frames is None:
        print(NO_IMAGES)
        return None
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    networks = [name for name in frames if name != "targets"]
    steps = list(frames[networks[0]]["steps"])
    first = {arm: next((name for name in networks if _arm(name) == arm), networks[0]) for arm in ("standard", "robust")}
    target = ipywidgets.Dropdown(options=range(len(frames["targets"])), value=0, description="target")
    left = ipywidgets.Dropdown(options=networks, value=first["standard"], description="network")
    right = ipywidgets.Dropdown(options=networks, value=first["robust"], description="beside")
    slider = ipywidgets.SelectionSlider(
        options=[(str(step), i) for i, step in enumerate(steps)],
        value=len(steps) - 1,
        description="step",
        continuous_update=True,
        layout={"width": "30em"},
    )
    play = ipywidgets.Play(min=0, max=len(steps) - 1, value=len(steps) - 1, interval=250)
    ipywidgets.jslink((play, "value"), (slider, "index"))
    return moved_by((left, right, target, slider), Screen(frames).png, [(target, left, right), (slider, play)])


class Screen:
    """One figure whose pictures, lines and dots are moved, so that a step of the slider costs a redraw and no more.

    Pictures already drawn are kept, as png bytes.
    """

    def __init__(self, frames: Mapping[str, Any]) -> None:
        self.frames = frames
        self.drawn: dict[tuple[str, str, int, int], bytes] = {}
        with style.context():
            self.figure, self.target, self.sides, chart = _layout(frames)
            self.figure.set_dpi(SCREEN_DPI)
            self.canvas = FigureCanvasAgg(self.figure)
            self.paths = [chart.plot([], [], linewidth=1.2)[0] for _ in self.sides]
            self.dots = [chart.plot([], [], markersize=7, markeredgecolor="white", linestyle="none")[0] for _ in self.sides]

    def png(self, left: str, right: str, target: int, index: int) -> bytes:
        """The picture of two networks at one target and step index."""
        state = (left, right, target, index)
        if state not in self.drawn:
            with style.context():
                self._move(*state)
                buffer = io.BytesIO()
                self.canvas.print_png(buffer)  # savefig would draw twice
                self.drawn[state] = buffer.getvalue()
                self.figure.set_layout_engine("none")  # what the first picture found stays, and later ones need not look for it
        return self.drawn[state]

    def _move(self, left: str, right: str, target: int, index: int) -> None:
        self.target.images[0].set_data(pixels(self.frames["targets"][target]))
        for axes, label, line, dot in zip(self.sides, (left, right), self.paths, self.dots, strict=True):
            frame = self.frames[label]
            look = style.role(_arm(label))
            d_rel, distance = (frame[key][:, target].cpu().double().numpy() for key in ("d_rel", "distance"))
            axes.images[0].set_data(pixels(frame["images"][index][target]))
            axes.set_title(label.replace("_", " "), color=look.colour, fontweight="bold", fontsize=7.5, loc="center")
            axes.set_xlabel(f"$d_\\mathrm{{rel}}$ {d_rel[index]:.2f}    $d_\\mathrm{{img}}$ {distance[index]:.2f}")
            line.set(data=(d_rel, distance), color=look.colour)
            dot.set(data=([d_rel[index]], [distance[index]]), color=look.colour, marker=look.marker)


def _layout(frames: Mapping[str, Any]) -> tuple[Figure, Axes, tuple[Axes, Axes], Axes]:
    figure = style.figure(style.WIDE, 2.15)
    target, left, right, chart = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.6])
    blank = np.zeros(pixels(frames["targets"][0]).shape)
    for axes in (target, left, right):
        axes.imshow(blank, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    target.set_title("target", loc="center")
    target.set_xlabel(" ")
    of_networks = [frame for name, frame in frames.items() if name != "targets"]
    farthest = max(float(frame["d_rel"].max()) for frame in of_networks)
    nearest = min(float(frame["d_rel"].min()) for frame in of_networks)
    highest = max(float(frame["distance"].max()) for frame in of_networks)
    chart.set_xscale("log")
    chart.set(xlim=(farthest * 1.15, max(nearest, 1e-4) / 1.15), ylim=(0, 1.08 * max(highest, 1)))
    ticks = [tick for tick in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01) if chart.get_xlim()[1] <= tick <= chart.get_xlim()[0]]
    chart.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    chart.xaxis.set_minor_locator(NullLocator())
    chart.axhline(1, **style.CHANCE)
    chart.set_xlabel(r"distance in representation space, $d_\mathrm{rel}$")
    chart.set_ylabel(r"perceptual distance, $d_\mathrm{img}$")
    return figure, target, (left, right), chart


def _arm(label: str) -> str:
    """The arm that a label like "standard, seed 0" begins with."""
    return label.split(",")[0].strip()
