"""The explorer: its bars and its plane are the soft labels at the temperature chosen, menus follow, and without a person it says so."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

from reprolib.data import factorial
from reprolib.findings.zero_shot_quality import classes, explorer
from reprolib.findings.zero_shot_quality.figures.reading import in_words
from reprolib.measures.raw_zero_shot import davies_bouldin_metric_from_logits
from reprolib.training.leave_one_out import SoftLabels
from reprolib.training.points import Point

NINE = Point("std", "tinycnn", factorial.NAME, 0, "laptop")
FOUR = Point("std", "lenet", factorial.SMALL, 0, "smoke")
NAMES = {point: point.name.removeprefix("loo-") for point in (NINE, FOUR)}


def labels_of(n_classes: int, seed: int) -> SoftLabels:
    generator = torch.Generator().manual_seed(seed)
    full, without = (3 * torch.randn(n_classes, 20, k, generator=generator) for k in (n_classes, n_classes - 1))
    return SoftLabels(full.log_softmax(dim=2), without.log_softmax(dim=2), {}, [])


ASKED = {NINE: labels_of(9, 0), FOUR: labels_of(4, 1)}
STUDY: Any = SimpleNamespace(settings=type("Settings", (dict,), {"values": {}})(share=0.75))


@pytest.fixture(scope="module")
def screen() -> explorer.Screen:
    return explorer.Screen(ASKED, 0.75)


def an_axes() -> Axes:
    return Figure().subplots()


def test_the_picture_follows_network_class_and_temperature(screen: explorer.Screen) -> None:
    nine, four = NAMES.values()
    assert list(screen.points) == [nine, four]
    first = screen.png(nine, 0, 0.0)
    assert first.startswith(b"\x89PNG")
    assert first == screen.png(nine, 0, 0.0)
    assert len({first, screen.png(nine, 1, 0.0), screen.png(nine, 0, 0.7), screen.png(four, 0, 0.0)}) == 4


def test_bars_are_mean_soft_labels_beside_the_full_network_asked_among_the_same_classes(screen: explorer.Screen) -> None:
    one, names, temperature = screen.classes(NAMES[NINE])[4], classes.names_of(factorial.NAME), 2.0
    ax = an_axes()
    explorer.draw_answers(ax, one, names, temperature)
    bars, given = [patch for patch in ax.patches if isinstance(patch, Rectangle)], {}
    for label, bar, hollow in zip(ax.get_yticklabels(), bars[::2], bars[1::2], strict=True):
        given[label.get_text()] = (bar.get_width(), hollow.get_width(), to_hex(bar.get_facecolor()), to_hex(hollow.get_edgecolor()))
    shape, texture = one.name.split("+")
    others = [name for k, name in enumerate(names) if k != 4]
    powers = ASKED[NINE].full[4].double().exp() ** (1 / temperature)  # the softmax of logits without one, from probabilities
    powers = powers[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    expected = (powers / powers.sum(dim=1, keepdim=True)).mean(dim=0)
    own_powers = ASKED[NINE].without[4].double().exp() ** (1 / temperature)
    own_expected = (own_powers / own_powers.sum(dim=1, keepdim=True)).mean(dim=0)
    for name, of_own, of_full in zip(others, own_expected.tolist(), expected.tolist(), strict=True):
        own, full, colour, edge = given[in_words(name)]
        assert (own, full) == (pytest.approx(of_own), pytest.approx(of_full))
        shares = [name.split("+")[0] == shape, name.split("+")[1] == texture]
        look = explorer.SHAPE if shares[0] else explorer.TEXTURE if shares[1] else explorer.OTHER
        assert colour == edge == look[1].lower()
    assert [given[label.get_text()][2] for label in ax.get_yticklabels()][:4] == [explorer.SHAPE[1].lower()] * 2 + [
        explorer.TEXTURE[1].lower()
    ] * 2
    assert any(np.asarray(line.get_xdata()).tolist() == [1 / 8] * 2 for line in ax.lines)


def test_the_ellipse_is_the_metric_where_the_plane_holds_all_directions(screen: explorer.Screen) -> None:
    one = screen.classes(NAMES[FOUR])[2]  # soft labels of three classes lie in a plane
    for temperature in (0.3, 1.0, 30.0):
        ax = an_axes()
        explorer.draw_plane(ax, one, temperature)
        (ellipse,) = [patch for patch in ax.patches if isinstance(patch, Ellipse)]
        dbm = davies_bouldin_metric_from_logits(one.without, temperature)
        assert math.hypot(ellipse.get_width() / 2, ellipse.get_height() / 2) == pytest.approx(dbm)
        (cloud,) = [part for part in ax.collections if isinstance(part, PathCollection)]
        assert len(np.asarray(cloud.get_offsets())) == 20
        assert np.abs(np.asarray(cloud.get_offsets())).max() < ax.get_xlim()[1]


def test_dots_have_the_colour_of_the_likeliest_class(screen: explorer.Screen) -> None:
    one = screen.classes(NAMES[NINE])[3]
    ax = an_axes()
    explorer.draw_plane(ax, one, 1.0)
    columns = [k for k in range(9) if k != 3]
    expected = [explorer.kind(one, columns[int(row.argmax())])[1].lower() for row in one.without]
    assert [to_hex(colour) for colour in np.asarray(ax.collections[0].get_facecolor())] == expected
    assert len({*expected}) == 3


def test_the_title_tells_the_metric_there_and_where_confidence_is_matched(screen: explorer.Screen) -> None:
    one = screen.classes(NAMES[NINE])[0]
    matched = davies_bouldin_metric_from_logits(one.without[1::2], temperature := classes.beside(one, 0.75, False)["matched_temperature"])
    assert screen.told(one, temperature).endswith(f"at 0.75 of ln 8 (T = {temperature:.2g}): DBM {matched:.3f}")
    assert "mean entropy 1.00 of ln 8" in screen.told(one, 1000.0)
    assert f"T = 2: DBM {davies_bouldin_metric_from_logits(one.without, 2.0):.3f}," in screen.told(one, 2.0)


def test_one_output_for_all_images_and_declared_neighbours_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "names_of", lambda dataset: ("airplane", "bird", "ship", "cat"))
    point = Point("std", "lenet", "cifar10", 0, "cifar")
    sure = torch.tensor([0.0, -9.0, -90.0]).expand(4, 20, 3)
    screen = explorer.Screen({point: SoftLabels(labels_of(4, 2).full, sure, {}, [])}, 0.75, [["airplane", "ship"]])
    (name,) = screen.points
    assert screen.png(name, 0, 1.5).startswith(b"\x89PNG")
    assert [patch.get_label() for patch in explorer.handles(screen.classes(name), screen.classes(name)[0])][:2] == [
        "relative",
        "no relative",
    ]
    assert len(explorer.handles(screen.classes(name), screen.classes(name)[1])) == 2


def test_without_a_person_or_soft_labels_it_says_so_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert explorer.zero_shot(STUDY, ASKED, interactive="off") is None
    assert explorer.zero_shot(STUDY, {}, interactive="on") is None
    assert capsys.readouterr().out == f"{explorer.HEADLESS}\n{explorer.NOT_ASKED}\n"


def test_with_a_person_menus_move_the_picture_and_classes_follow_the_network() -> None:
    box = explorer.zero_shot(STUDY, ASKED, interactive="on")
    assert box is not None
    network, excluded, decade = box.children[0].children
    picture = box.children[1]
    assert (decade.value, decade.min, decade.max) == (0, -1, 1.5)
    excluded.value = 8
    before = picture.value
    decade.value = 0.5
    assert picture.value != before
    network.value = NAMES[FOUR]
    assert [index for _, index in excluded.options] == [0, 1, 2, 3]
    assert excluded.value == 0
    assert picture.value == explorer.Screen(ASKED, 0.75).png(NAMES[FOUR], 0, 0.5)
