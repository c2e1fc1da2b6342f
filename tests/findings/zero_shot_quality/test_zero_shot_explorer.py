"""The explorer of raw zero-shot quality: what its picture shows, and that menus follow each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from matplotlib.axes import Axes

from reprolib.data import factorial
from reprolib.findings.zero_shot_quality import explorer
from reprolib.training.leave_one_out import SoftLabels
from reprolib.training.points import Point


def asked() -> dict[Point, SoftLabels]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for scale, dataset, n in (("laptop", factorial.NAME, 9), ("smoke", factorial.SMALL, 4)):
        full, without = (torch.randn(n, 12, k, generator=generator).log_softmax(dim=2) for k in (n, n - 1))
        found[Point("std", "tinycnn", dataset, 0, scale)] = SoftLabels(full, without, {}, [])
    return found


def test_nobody_watching_or_nothing_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert explorer.zero_shot(asked(), "off") is None
    assert explorer.zero_shot({}, "on") is None
    assert capsys.readouterr().out.splitlines() == [explorer.HEADLESS, explorer.NOTHING]


def test_menus_follow_the_network_and_every_move_draws_again() -> None:
    box: Any = explorer.zero_shot(asked(), "on")
    (point, excluded, decade), picture = box.children[0].children, box.children[1]
    first = bytes(picture.value)
    assert first.startswith(b"\x89PNG")
    decade.value = 1.0
    second = bytes(picture.value)
    assert second != first
    point.value = point.options[1]
    assert list(excluded.options) == ["square+grating_45", "square+noise", "ring+grating_45", "ring+noise"]
    assert bytes(picture.value) != second


def test_the_bars_are_the_mean_soft_label_at_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}
    bar = Axes.barh

    def kept(self: Axes, y: Any, width: Any, **look: Any) -> Any:
        drawn.update(width=width, colours=look["color"])
        return bar(self, y, width, **look)

    monkeypatch.setattr(Axes, "barh", kept)
    made = asked()
    screen, labels = explorer.Screen(made), made[next(iter(made))]
    screen.png(next(iter(screen.points)), "star+checker", 0.5)
    assert drawn["width"] == pytest.approx((labels.without[4].double() / 10**0.5).softmax(dim=1).mean(dim=0).numpy())
    kinds = [{colour: kind for kind, colour in explorer.KINDS.items()}[colour] for colour in drawn["colours"]]
    assert kinds == ["other", "same texture", "other", "same shape", "same shape", "other", "same texture", "other"]
