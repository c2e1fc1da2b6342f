"""Is there a person to move a slider, and what a slider moves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reprolib.errors import BadInput, nearest

if TYPE_CHECKING:
    import ipywidgets

MODES = ("auto", "on", "off")


def is_wanted(interactive: str) -> bool:
    """Whether to make widgets: "on" and "off" decide; "auto" asks whether this kernel serves JupyterLab.

    JupyterLab names its session in the kernel's environment (JPY_SESSION_NAME); papermill does not, nor does VS Code.
    """
    if interactive not in MODES:
        raise BadInput(f"interactive={interactive!r} is not allowed: give one of {', '.join(MODES)}{nearest(interactive, MODES)}")
    return interactive == "on" or (interactive == "auto" and "JPY_SESSION_NAME" in os.environ)


def moved_by(controls: Sequence[Any], draw: Callable[..., bytes], rows: Sequence[Sequence[Any]]) -> ipywidgets.VBox:
    """Widgets above a picture that is drawn again whenever one of them moves.

    controls: what `draw` takes the values of, in this order; it gives a png. rows: all widgets, as they stand.
    """
    import ipywidgets  # only where a person is: a headless run needs no widget library

    picture = ipywidgets.Image(format="png", layout={"max_width": "100%"})

    def redraw(_: object = None) -> None:
        picture.value = draw(*(control.value for control in controls))

    redraw()
    for control in controls:
        control.observe(redraw, names="value")
    return ipywidgets.VBox([*(ipywidgets.HBox(list(row)) for row in rows), picture])
