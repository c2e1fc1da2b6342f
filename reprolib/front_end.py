"""What a person at a front end sees: progress as a bar, our errors as one sentence. Headless, progress comes in lines and errors with their traces."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from reprolib.display import shell
from reprolib.errors import BadInput, ReprolibError, nearest
from reprolib.models.networks import Network

if TYPE_CHECKING:
    import ipywidgets

QUIET_S = 1.0
"""Headless, a line of progress comes at most this often: a flood of output breaks papermill."""

MODES = ("auto", "on", "off")
INTERRUPTED = "Interrupted: run again to continue, since trained networks and finished measurements are kept."


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


def tell_in_one_sentence() -> None:
    """From now on IPython shows an error of ours, or an interrupt of our work, as its sentence; with REPROLIB_DEBUG=1 as ever.

    The cell fails with the error's name and message all the same, and those after it are not run.
    """
    if running := shell():
        running.set_custom_exc((ReprolibError, KeyboardInterrupt), _one_sentence)


def _one_sentence(
    running: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: int | None = None
) -> None:
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(trace)]
    is_ours = any(module.partition(".")[0] == "reprolib" for module in modules)
    if not is_ours or os.environ.get("REPROLIB_DEBUG") == "1":
        running.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return
    sentence = str(error) if isinstance(error, ReprolibError) else INTERRUPTED
    running._showtraceback(kind, sentence, [sentence])  # what showtraceback ends in


class Progress:
    """How far the work is. With a person, one line of the cell's output that changes in place; else lines on stderr, which an exported page leaves out.

    The line is an ordinary output, no widget: a widget's bar stands at 0 % for ever in a saved notebook.
    """

    def __init__(self, with_person: bool) -> None:
        self.shell: Any = shell() if with_person else None
        self.handle: Any = None  # of the line in the running cell
        self.began = self.last = float("-inf")
        self.count: tuple[int, int, float | None] = 0, 0, None
        self.was_told = False

    def each(self, nets: Mapping[str, Sequence[Network]]) -> Iterator[tuple[str, Network]]:
        """(role, network), one by one: what is reported meanwhile says how many are done, and how long the rest takes, by those measured so far."""
        pairs = [(role, network) for role, networks in nets.items() for network in networks]
        took: list[float] = []
        try:
            for done, pair in enumerate(pairs):
                left = sum(took) / len(took) * (len(pairs) - done) if took else None
                self.count, self.was_told, began = (done, len(pairs), left), False, time.monotonic()
                yield pair
                took += [time.monotonic() - began] if self.was_told else []  # what was kept takes no time
        finally:
            self.count = 0, 0, None

    def report(self, line: str, done: int = 0, total: int = 0) -> None:
        """Tell what is being done; done of total, where there is a count and `each` does not know it."""
        self.was_told, now = True, time.monotonic()
        if not self.shell and now - self.last < QUIET_S and "kept" not in line:
            return
        self.began, self.last = (now if self.handle is None else self.began), now
        done, total, seconds_left = (done, total, None) if total else self.count
        if total:
            bar = "|{bar:20}| " if self.shell else ""
            left = "" if seconds_left is None else f", about {tqdm.format_interval(seconds_left)} left"
            line = tqdm.format_meter(done, total, 0, bar_format=f"{bar}{{n_fmt}}/{{total_fmt}}{left}: {{desc}}", prefix=line)
        if self.shell:
            self._draw(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _draw(self, line: str) -> None:
        from IPython.display import display

        if self.handle is None:
            self.handle = display({"text/plain": line}, raw=True, display_id=True)
            self.shell.events.register("post_run_cell", self._end)
        else:
            self.handle.update({"text/plain": line}, raw=True)

    def _end(self, result: Any) -> None:
        took = tqdm.format_interval(time.monotonic() - self.began)
        self.handle.update({"text/plain": f"{'Done' if result.success else 'Stopped'} after {took}."}, raw=True)
        self.shell.events.unregister("post_run_cell", self._end)
        self.handle = None
