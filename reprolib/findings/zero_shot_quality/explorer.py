"""The explorer of zero-shot quality: where the images of a class go that a network never saw, and how tight they lie, at a temperature."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Patch
from torch import Tensor

from reprolib.figures import style
from reprolib.findings.zero_shot_quality import classes
from reprolib.findings.zero_shot_quality.asking import Asked
from reprolib.findings.zero_shot_quality.classes import Excluded
from reprolib.findings.zero_shot_quality.figures.labels import MASSES, ellipse
from reprolib.findings.zero_shot_quality.figures.reading import in_words
from reprolib.front_end import is_wanted, moved_by
from reprolib.measures.raw_zero_shot import davies_bouldin_metric_from_logits, davies_bouldin_metric_matched, mean_entropy, original
from reprolib.study import Study
from reprolib.training.points import PREFIX

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 110
DECADES = (-1.0, 1.5)  # logarithms of the least and the largest temperature
REACHES = (0.05, 0.1, 0.2, 0.5, 1.0, math.sqrt(2))
"""Scales of the plane: how far it goes to each side of the mean; two soft labels lie no further apart than the last."""
KINDS = SHAPE, TEXTURE, RELATIVE, OTHER = (
    MASSES["shape_mass"],
    MASSES["texture_mass"],
    ("relative", style.INK),
    ("no relative", "#B3B3B3"),
)
"""What a class shares with the excluded one, in words, and its colour."""
HEADLESS = 'explorer: nobody is watching, so no menus are drawn (interactive="on" draws them)'
NOT_ASKED = "explorer: no network was asked here, and committed rows hold no soft labels to look at"


def zero_shot(study: Study, asked: Asked, interactive: str = "auto") -> ipywidgets.VBox | None:
    """A network, an excluded class and a temperature to choose. Leave it as the last value of a cell, which shows it.

    asked: as `asking.asked_of` gives it. interactive: "auto" (JupyterLab only), "on", "off". Without a person, or without soft labels,
    it prints one line and returns None.
    """
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    if not asked:
        print(NOT_ASKED)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    screen = Screen(asked, study.settings["share"], study.settings.values.get("relatives", ()))
    network = ipywidgets.Dropdown(options=list(screen.points), description="network")
    excluded = ipywidgets.Dropdown(options=screen.menu(network.value), description="without")
    decade = ipywidgets.FloatSlider(value=0.0, min=DECADES[0], max=DECADES[1], step=0.1, description="log10 T", continuous_update=False)

    def follow(_: object) -> None:
        menu = screen.menu(network.value)
        if list(excluded.options) != menu:
            excluded.options = menu

    network.observe(follow, names="value")
    return moved_by((network, excluded, decade), screen.png, [(network, excluded, decade)])


class Screen:
    """Draws what networks make of a class they never saw.

    share: of the largest entropy, at which confidence is matched. neighbours: pairs of names, of sets whose classes share no cue.
    """

    def __init__(self, asked: Asked, share: float, neighbours: Sequence[Sequence[str]] = ()) -> None:
        self.share = share
        self.points = {point.name.removeprefix(PREFIX): point for point in asked}
        self.classes = functools.cache(lambda name: classes.of_point(self.points[name], asked[self.points[name]], neighbours))

    def menu(self, name: str) -> list[tuple[str, int]]:
        """The classes of a network in words, with their numbers."""
        return [(in_words(one.name), one.index) for one in self.classes(name)]

    def png(self, name: str, index: int, decade: float) -> bytes:
        """The picture. name: as in `points`; index: the excluded class among all; decade: logarithm of the temperature."""
        found = self.classes(name)
        one, temperature = found[index], 10**decade
        with style.context():
            figure = style.figure(style.WIDE, 3.3)
            bars, plane = figure.subplots(1, 2, width_ratios=[1.15, 1])
            draw_answers(bars, one, [other.name for other in found], temperature)
            draw_plane(plane, one, temperature)
            figure.legend(handles=handles(found, one), loc="outside lower left", ncols=4, fontsize=6)
            title = f"{name} without {in_words(one.name)}, {len(one.without)} images\n{self.told(one, temperature)}"
            figure.suptitle(title, fontsize=8, x=0.01, ha="left")
            figure.set_dpi(SCREEN_DPI)
            buffer = io.BytesIO()
            FigureCanvasAgg(figure).print_png(buffer)
        return buffer.getvalue()

    def told(self, one: Excluded, temperature: float) -> str:
        """The metric at a temperature and at the matched entropy, and the mean entropy, of the largest there is."""
        z, n_others = one.without, one.without.shape[1]
        matched = davies_bouldin_metric_matched(z, self.share)
        entropy = mean_entropy((z.double() / temperature).softmax(dim=1)) / math.log(n_others)
        return (
            f"T = {temperature:.2g}: DBM {davies_bouldin_metric_from_logits(z, temperature):.3f}, mean entropy {entropy:.2f} of ln {n_others}; "
            f"at {self.share:g} of ln {n_others} (T = {matched.temperature:.2g}): DBM {matched.value:.3f}"
        )


def answers(one: Excluded, temperature: float) -> tuple[Tensor, Tensor]:
    """(N - 1,) each: mean soft label of the network without the class, and of the full one renormalised without it."""
    others = original(torch.arange(one.without.shape[1]), one.index)
    own, full = ((z.double() / temperature).softmax(dim=1).mean(dim=0) for z in (one.without, one.full[:, others]))
    return own, full


def kind(one: Excluded, other: int) -> tuple[str, str]:
    """In words, and as a colour, what class number `other` shares with the excluded one."""
    if other in one.same_shape:
        return SHAPE
    if other in one.same_texture:
        return TEXTURE
    return RELATIVE if other in one.relatives else OTHER


def handles(found: Sequence[Excluded], one: Excluded) -> list[Patch]:
    """The legend: what classes share with the excluded one, and whose the hollow bars are."""
    there = {kind(one, other.index) for other in found if other.index != one.index}
    solid = [Patch(color=colour, label=words) for words, colour in KINDS if (words, colour) in there]
    return [*solid, Patch(facecolor="white", edgecolor=style.FAINT, label="the full network, asked among the same classes")]


def draw_answers(ax: Axes, one: Excluded, names: Sequence[str], temperature: float) -> None:
    """A bar a class, relatives first; below each a hollow one, of the full network."""
    others = original(torch.arange(len(names) - 1), one.index).tolist()
    order = sorted(range(len(others)), key=lambda column: KINDS.index(kind(one, others[column])))
    own, full = answers(one, temperature)
    for y, column in enumerate(order):
        colour = kind(one, others[column])[1]
        ax.barh(y - 0.19, float(own[column]), height=0.4, color=colour, linewidth=0)
        ax.barh(y + 0.2, float(full[column]), height=0.3, facecolor="white", edgecolor=colour, linewidth=0.8)
    ax.axvline(1 / len(others), **style.CHANCE)
    ax.set_yticks(range(len(order)), [in_words(names[others[column]]) for column in order], fontsize=6)
    ax.set_title("where its images go")
    ax.set(
        xlim=(0, max(0.5, 1.05 * float(torch.cat([own, full]).max()))),
        ylim=(len(order) - 0.5, -0.5),
        xlabel="mean soft label; dotted: all alike",
    )


def draw_plane(ax: Axes, one: Excluded, temperature: float) -> None:
    """Soft labels along their two principal components, an image a dot in the colour of its likeliest class; one standard deviation."""
    q = (one.without.double() / temperature).softmax(dim=1)
    places = classes.principal(q)
    likeliest = original(q.argmax(dim=1), one.index).tolist()
    colours = [kind(one, other)[1] for other in likeliest]
    ax.scatter(places[:, 0], places[:, 1], s=12, c=colours, alpha=0.6, linewidth=0)
    ellipse(ax, places.numpy())
    furthest = float(places.abs().max())
    reach = 1.05 * next((reach for reach in REACHES if reach >= furthest), REACHES[-1])
    ax.set_title("images, by their likeliest class")
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="1st component", ylabel="2nd component")
