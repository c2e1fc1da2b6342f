"""The explorer of shape bias: one stimulus with the classes of both its cues, and what every network makes of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reprolib.errors import MissingData
from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.findings.shape_bias import stimuli as shown
from reprolib.findings.shape_bias.asking import CONFLICT
from reprolib.findings.shape_bias.networks import OWN
from reprolib.findings.shape_bias.stimuli import Stimuli
from reprolib.front_end import is_wanted, moved_by
from reprolib.models.external import CLAIM as EXTERNAL
from reprolib.study import Study

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 110
HEADLESS = 'explorer: nobody is watching, so no menus are drawn (interactive="on" draws them)'
NO_IMAGES = "explorer: the stimuli are not here, and committed rows hold no pictures to look at"


def shape_bias(study: Study, interactive: str = "auto") -> ipywidgets.VBox | None:
    """A stimulus and a label set to choose, from rows; no network runs. Leave it as the last value of a cell, which shows it.

    interactive: "auto" (JupyterLab only), "on", "off". Without a person, or without the images, it prints one line and returns None.
    """
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    try:
        sets = shown.conflicts(study) if study.can_measure else {}
    except MissingData:
        sets = {}
    if not sets:
        print(NO_IMAGES)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    labels = {f"{len(of.allowed)} classes": at for at, of in sets.items() if at in (OWN, "@10")}
    names = list(enumerate(sets[OWN].names))
    stimulus = ipywidgets.Dropdown(
        options=[(f"{k}: {name.replace('+', ' / ')}", k) for k, name in names], value=0, description="shape / texture"
    )
    among = ipywidgets.Dropdown(options=labels, value=OWN, description="among")
    return moved_by((stimulus, among), Screen(sets, study.rows).png, [(stimulus, among)])


class Screen:
    """Draws one stimulus: left the picture, right a bar a network, full where it named a cue's class."""

    def __init__(self, sets: dict[str, Stimuli], rows: pd.DataFrame) -> None:
        self.sets = sets
        found = rows[rows["claim"].isin([CONFLICT, EXTERNAL])]
        self.answers = {at: found[found["quantity"] == f"answers{at}"] for at in sets}
        self.graded = found[found["quantity"] == "graded"].set_index(["network", "unit"])["value"].to_dict()

    def png(self, stimulus: int, at: str) -> bytes:
        """The picture. stimulus: its number; at: the label set, by what stands behind its quantities."""
        of, unit = self.sets[at], f"{stimulus:04d}"
        said = self.answers[at][self.answers[at]["unit"] == unit]
        arms = style.in_order(list(said["arm"]))
        said = said.assign(rank=said["arm"].map(arms.index)).sort_values(["rank", "architecture", "seed"], kind="stable", ignore_index=True)
        with style.context():
            figure = style.figure(style.WIDE, max(1.8, 0.55 + 0.13 * len(said)))
            picture, bars = figure.subplots(1, 2, width_ratios=[1, 2.2])
            picture.imshow(pixels(of.x[stimulus]), interpolation="nearest")
            picture.set(xticks=[], yticks=[])
            shape, texture = of.names[stimulus].split("+")
            picture.set_xlabel("Geirhos et al. 2019, CC BY 4.0,\nresized" if "@10" in self.sets else "", fontsize=5)
            picture.set_title(f"shape {shape}\ntexture {texture}", loc="center")
            for y, one in enumerate(said.to_dict("records")):
                look, prefers = style.role(str(one["arm"])), self.graded.get((one["network"], unit), 0.0)
                answer = (shape if one["value"] else texture) if one["reached"] else "another class"
                bars.barh(y, prefers, color=look.colour, alpha=1.0 if one["reached"] else 0.3, height=0.8)
                bars.text(1.01, y, answer, transform=bars.get_yaxis_transform(), va="center", fontsize=6)
            bars.set_yticks(
                range(len(said)),
                [f"{style.role(arm).label}, {seed}" for arm, seed in zip(said["arm"], said["seed"], strict=True)],
                fontsize=6,
            )
            bars.axvline(0, color=style.INK, linewidth=0.7)
            bars.set(ylim=(len(said) - 0.4, -0.6), xlabel="logits prefer texture (left), shape (right); faint: neither was named")
            buffer = io.BytesIO()
            FigureCanvasAgg(figure).print_png(buffer)
        return buffer.getvalue()
