from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import reprolib
from reprolib import front_end
from reprolib.errors import BadInput
from reprolib.front_end import INTERRUPTED, Progress


class Front:
    """A front end with a person: what IPython's shell would be asked, and what the person would see in the running cell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        self.after_cell: list[Callable[[Any], None]] = []
        self.events = SimpleNamespace(
            register=lambda event, call: self.after_cell.append(call), unregister=lambda event, call: self.after_cell.remove(call)
        )
        monkeypatch.setattr("IPython.get_ipython", lambda: self)
        monkeypatch.setattr("IPython.display.display", self.display)
        monkeypatch.setenv("JPY_SESSION_NAME", "invertibility.ipynb")

    def set_custom_exc(self, kinds: tuple[type[BaseException], ...], handler: Callable[..., None]) -> None:
        self.kinds, self.handler = kinds, handler

    def showtraceback(self, told: tuple[Any, BaseException, Any], tb_offset: int | None) -> None:
        self.lines.append(f"a traceback of {type(told[1]).__name__}")

    def _showtraceback(self, kind: type[BaseException], message: str, shown: list[str]) -> None:
        self.failed = kind.__name__, message
        self.lines += shown

    def display(self, content: dict[str, str], raw: bool, display_id: bool) -> Front:
        self.update(content, raw)
        return self

    def update(self, content: dict[str, str], raw: bool) -> None:
        self.lines.append(content["text/plain"])

    def run(self, cell: Callable[[], object]) -> None:
        """Run a cell as IPython does."""
        success = True
        try:
            cell()
        except self.kinds as error:
            success = False
            self.handler(self, type(error), error, error.__traceback__)
        for call in [*self.after_cell]:
            call(SimpleNamespace(success=success))


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    front = Front(monkeypatch)
    front_end.tell_in_one_sentence()
    return front


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("reprolib.front_end.time.monotonic", lambda: clock.now)
    return clock


def measured(progress: Progress, clock: SimpleNamespace, kept: int = 0) -> None:
    """A loop over four networks, the first `kept` of which were measured before; each other one takes 30 s."""
    for role, network in progress.each({"standard": ["a", "b"], "robust": ["c", "d"]}):  # type: ignore[list-item]
        if kept:
            kept -= 1
            continue
        progress.report(f"{network}: inverting, {role}")
        clock.now += 30


def test_with_a_person_one_line_says_how_far_it_is_and_how_long_the_rest_takes(front: Front, clock: SimpleNamespace) -> None:
    front.run(lambda: measured(Progress(with_person=True), clock))
    assert front.lines == [
        "|                    | 0/4: a: inverting, standard",
        "|█████               | 1/4, about 01:30 left: b: inverting, standard",
        "|██████████          | 2/4, about 01:00 left: c: inverting, robust",
        "|███████████████     | 3/4, about 00:30 left: d: inverting, robust",
        "Done after 02:00.",
    ]
    assert front.after_cell == []


def test_what_was_kept_counts_as_done_and_promises_no_speed(front: Front, clock: SimpleNamespace) -> None:
    front.run(lambda: measured(Progress(with_person=True), clock, kept=2))
    assert [line.rpartition("| ")[2] for line in front.lines[:2]] == [
        "2/4: c: inverting, robust",
        "3/4, about 00:30 left: d: inverting, robust",
    ]
    front.lines.clear()
    front.run(lambda: measured(Progress(with_person=True), clock, kept=4))
    assert front.lines == []


def test_headless_progress_comes_in_lines_on_stderr_at_most_one_a_second(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(with_person=False)
    measured(progress, clock)
    for line in ("seen", "a flood", "a network: kept; 90 %"):
        progress.report(line)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[1:] == [
        "1/4, about 01:30 left: b: inverting, standard",
        "2/4, about 01:00 left: c: inverting, robust",
        "3/4, about 00:30 left: d: inverting, robust",
        "seen",
        "a network: kept; 90 %",
    ]


def test_a_wrong_parameter_is_one_sentence_and_fails_the_cell_by_its_name(front: Front) -> None:
    front.run(lambda: reprolib.start("invertibility", {"scale": "smok"}))
    (sentence,) = front.lines
    assert sentence.startswith("scale='smok' is not allowed; allowed: smoke, ")
    assert sentence.endswith("did you mean 'smoke'?")
    assert front.failed == ("BadInput", sentence)


def test_the_traceback_is_shown_on_demand(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_DEBUG", "1")
    front.run(lambda: reprolib.start("invertibility", {"scale": "smok"}))
    assert front.lines == ["a traceback of BadInput"]


def stopped() -> None:
    raise KeyboardInterrupt


def test_an_interrupt_of_our_work_says_to_run_again_and_one_of_the_readers_own_is_left_alone(front: Front, clock: SimpleNamespace) -> None:
    def train() -> None:
        progress.report("epoch 1/3", 1, 4)
        next(progress.each({"robust": Interrupted()}))  # type: ignore[dict-item]

    class Interrupted(list[object]):
        def __iter__(self) -> Iterator[object]:
            raise KeyboardInterrupt

    progress = Progress(with_person=True)
    front.run(train)
    assert front.lines == ["|█████               | 1/4: epoch 1/3", INTERRUPTED, "Stopped after 00:00."]
    front.lines.clear()
    front.run(stopped)
    assert front.lines == ["a traceback of KeyboardInterrupt"]


def test_only_where_a_person_is_errors_lose_their_traceback(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    del front.handler
    monkeypatch.delenv("JPY_SESSION_NAME")
    for namespace in ({"scale": "smok"}, {"scale": "smok", "interactive": "auto"}):
        with pytest.raises(BadInput):
            reprolib.start("invertibility", namespace)
    assert not hasattr(front, "handler")
    with pytest.raises(BadInput):
        reprolib.start("invertibility", {"scale": "smok", "interactive": "on"})
    assert hasattr(front, "handler")


def test_ipython_itself_shows_the_sentence_alone_and_the_cell_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
from IPython.core.interactiveshell import InteractiveShell
result = InteractiveShell.instance().run_cell('import reprolib; reprolib.start("invertibility", {"scale": "smok"})')
print(type(result.error_in_exec).__name__)
"""
    monkeypatch.setenv("JPY_SESSION_NAME", "invertibility.ipynb")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith("scale='smok' is not allowed")
    assert said[1:] == ["BadInput"]
