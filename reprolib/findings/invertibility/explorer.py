"""The explorer of invertibility: two networks' inverses of one target, step by step, and where each is on its trajectory."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.front_end import is_wanted

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 120
FRAME_KEYS = ("d_rel", "distance", "images", "steps")
NO_IMAGES = "explorer: the images of this scale are not here, and committed rows hold no pictures to move through"
HEADLESS = 'explorer: nobody is watching, so no sliders are drawn (interactive="on" draws them); the figures above show the same steps'


def invertibility(frames: Mapping[str, Any] | None, interactive: str = "auto") -> ipywidgets.VBox | None:
    """Sliders over precomputed inversions; leave it as the last value of a cell, which shows it.

    frames: network label ("standard, seed 0") to {"d_rel": (steps, t), "distance": (steps, t), "images": uint8 (steps, t, 3, h, w),
    "steps": [0, 10, ...]}, and "targets": (t, 3, h, w) in [0, 1] or uint8; optional "role" per network (its colour) and "names" (t words).
    interactive: "auto" (JupyterLab only), "on", "off". Without a person, or without frames (the data set is not here), it
    prints one line and returns None.
    Raises BadInput when a key is missing, shapes or steps do not fit, or `interactive` is another word.
    """
    if frames is None:
        print(NO_IMAGES)
        return None
    _check(frames)
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    networks = labels(frames)
    names = list(frames.get("names", range(len(frames["targets"]))))
    steps = list(frames[networks[0]]["steps"])
    left, right = default_pair(networks)
    pick_target = ipywidgets.Dropdown(options=[(str(name), t) for t, name in enumerate(names)], value=0, description="target")
    pick_left = ipywidgets.Dropdown(options=networks, value=left, description="network")
    pick_right = ipywidgets.Dropdown(options=networks, value=right, description="beside")
    slider = ipywidgets.SelectionSlider(
        options=[(str(step), i) for i, step in enumerate(steps)],
        value=len(steps) - 1,
        description="step",
        continuous_update=True,
        layout={"width": "30em"},
    )
    play = ipywidgets.Play(min=0, max=len(steps) - 1, value=len(steps) - 1, interval=250)
    ipywidgets.jslink((play, "value"), (slider, "index"))
    screen = Screen(frames)
    picture = ipywidgets.Image(value=screen.png(left, right, 0, len(steps) - 1), format="png", layout={"max_width": "100%"})

    def redraw(_: object) -> None:
        picture.value = screen.png(pick_left.value, pick_right.value, pick_target.value, slider.value)

    for control in (slider, pick_target, pick_left, pick_right):
        control.observe(redraw, names="value")
    return ipywidgets.VBox([ipywidgets.HBox([pick_target, pick_left, pick_right]), ipywidgets.HBox([slider, play]), picture])


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
            colour, marker = _look(label, frame)
            d_rel, distance = _column(frame["d_rel"], target), _column(frame["distance"], target)
            axes.images[0].set_data(pixels(frame["images"][index][target]))
            axes.set_title(label.replace("_", " "), color=colour, fontweight="bold", fontsize=7.5, loc="center")
            axes.set_xlabel(f"$d_\\mathrm{{rel}}$ {d_rel[index]:.2f}    $d_\\mathrm{{img}}$ {distance[index]:.2f}")
            line.set(data=(d_rel, distance), color=colour)
            dot.set(data=([d_rel[index]], [distance[index]]), color=colour, marker=marker)


def labels(frames: Mapping[str, Any]) -> list[str]:
    """The networks of `frames`, in their order."""
    return [name for name in frames if name not in ("targets", "names")]


def default_pair(networks: Sequence[str]) -> tuple[str, str]:
    """Which two networks to show first: a standard and a robust one where there are, else the first two."""
    standard = next((name for name in networks if _arm(name) == "standard"), networks[0])
    robust = next((name for name in networks if _arm(name) == "robust"), None)
    return standard, robust or next((name for name in networks if name != standard), standard)


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
    of_networks = [frames[name] for name in labels(frames)]
    farthest, nearest, highest = (
        max(float(frame["d_rel"].max()) for frame in of_networks),
        min(float(frame["d_rel"].min()) for frame in of_networks),
        max(float(frame["distance"].max()) for frame in of_networks),
    )
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


def _look(label: str, frame: Mapping[str, Any]) -> tuple[str, str]:
    """(colour, marker): of the frame's role, or of the arm its label begins with, or plain ink."""
    arm = str(frame.get("role", _arm(label)))
    return (style.ROLES[arm].colour, style.ROLES[arm].marker) if arm in style.ROLES else (style.INK, "o")


def _column(values: Tensor, target: int) -> np.ndarray[Any, Any]:
    return torch.as_tensor(values).detach().cpu().double().numpy()[:, target]


def _check(frames: Mapping[str, Any]) -> None:
    if "targets" not in frames:
        raise BadInput('frames has no "targets": give (t, 3, h, w) images beside the networks')
    networks = labels(frames)
    if not networks:
        raise BadInput('frames holds no network: give {"standard, seed 0": {"d_rel": ..., "distance": ..., "images": ..., "steps": ...}}')
    n_targets, steps = len(frames["targets"]), list(frames[networks[0]].get("steps", []))
    if "names" in frames and len(frames["names"]) != n_targets:
        raise BadInput(f"frames names {len(frames['names'])} targets and holds {n_targets}: give one name per target")
    for name in networks:
        missing = [key for key in FRAME_KEYS if key not in frames[name]]
        if missing:
            raise BadInput(f"frames[{name!r}] has no {', '.join(missing)}: each network needs {', '.join(FRAME_KEYS)}")
        if list(frames[name]["steps"]) != steps or not steps:
            raise BadInput(f"frames[{name!r}] has other steps than {networks[0]!r}, or none: one slider moves both, so log the same steps")
        for key in ("d_rel", "distance", "images"):
            shape = tuple(frames[name][key].shape)
            if shape[:2] != (len(steps), n_targets):
                raise BadInput(f"frames[{name!r}][{key!r}] has shape {shape}: ({len(steps)} steps, {n_targets} targets, ...) is needed")
