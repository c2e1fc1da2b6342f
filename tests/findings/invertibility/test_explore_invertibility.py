import io
import sys
from itertools import pairwise

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.invertibility import explorer as explore
from reprolib.findings.invertibility.explorer import HEADLESS, Screen
from reprolib.front_end import is_wanted

STEPS = [0, 10, 20, 30]


def network(seed, t=2):
    generator = torch.Generator().manual_seed(seed)
    falling = torch.tensor([1.0, 0.5, 0.2, 0.05])[:, None].expand(4, t)
    images = torch.randint(256, (4, t, 3, 8, 8), generator=generator).to(torch.uint8)
    return {"d_rel": falling * (1 + 0.1 * seed), "distance": falling**0.5, "images": images, "steps": STEPS}


def frames(*names):
    made = {name: network(seed) for seed, name in enumerate(names or ("standard, seed 0", "robust, seed 0", "untrained, seed 0"))}
    return {"targets": torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(9)), **made}


def parts(box):
    (target, left, right), (slider, play) = (row.children for row in box.children[:2])
    return {"target": target, "left": left, "right": right, "slider": slider, "play": play, "picture": box.children[2]}


def as_pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


@pytest.mark.parametrize("interactive", ["auto", "off"])
def test_with_nobody_there_one_line_is_printed_and_no_widget_made(interactive, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # importing it now raises, so nothing can be made of it
    assert explore.invertibility(frames(), interactive) is None
    assert capsys.readouterr().out == HEADLESS + "\n"


def test_jupyterlab_is_recognised_by_its_session_and_the_word_decides_over_it(monkeypatch):
    assert [is_wanted(word) for word in ("auto", "on", "off")] == [False, True, False]
    monkeypatch.setenv("JPY_SESSION_NAME", "/notebooks/invertibility.ipynb")
    assert [is_wanted(word) for word in ("auto", "on", "off")] == [True, True, False]
    with pytest.raises(BadInput, match=r"interactive='of' is not allowed: give one of auto, on, off; did you mean 'off'"):
        is_wanted("of")


def test_in_jupyterlab_auto_gives_the_explorer(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert isinstance(explore.invertibility(frames()), ipywidgets.VBox)


def test_the_slider_changes_the_picture_at_every_step_and_back_again():
    found = parts(explore.invertibility(frames(), "on"))
    seen = {}
    for i in (3, 0, 1, 2, 3):
        found["slider"].value = i
        png = bytes(found["picture"].value)
        assert png.startswith(b"\x89PNG")
        assert seen.setdefault(i, png) == png
    assert len(set(seen.values())) == len(STEPS)
    assert [label for label, _ in found["slider"].options] == ["0", "10", "20", "30"]


@pytest.mark.parametrize(("control", "value"), [("target", 1), ("left", "untrained, seed 0"), ("right", "untrained, seed 0")])
def test_every_other_control_changes_the_picture_too(control, value):
    found = parts(explore.invertibility(frames(), "on"))
    before = found["picture"].value
    found[control].value = value
    assert found["picture"].value != before


def test_the_play_button_and_the_slider_run_over_the_same_steps():
    found = parts(explore.invertibility(frames(), "on"))
    assert (found["play"].min, found["play"].max) == (0, len(found["slider"].options) - 1)


def test_the_explorer_opens_on_the_last_step_of_a_standard_beside_a_robust_network():
    found = parts(explore.invertibility(frames("untrained, seed 0", "robust, seed 1", "standard, seed 0"), "on"))
    assert (found["left"].value, found["right"].value, found["slider"].value) == ("standard, seed 0", "robust, seed 1", 3)


def test_the_screen_shows_the_target_the_two_inverses_and_where_each_is_on_its_way():
    given = frames()
    screen = Screen(given)
    screen.png("standard, seed 0", "robust, seed 0", 1, 2)
    shown = [axes.images[0].get_array() for axes in (screen.target, *screen.sides)]
    expected = [given["targets"][1], given["standard, seed 0"]["images"][2, 1] / 255, given["robust, seed 0"]["images"][2, 1] / 255]
    for picture, image in zip(shown, expected, strict=True):
        assert np.allclose(picture, image.permute(1, 2, 0).numpy())
    standard, robust = screen.dots
    assert (standard.get_xdata()[0], standard.get_ydata()[0]) == pytest.approx((0.2, 0.2**0.5))
    assert robust.get_xdata()[0] == pytest.approx(0.22)
    assert (standard.get_color(), robust.get_marker()) == (style.ROLES["standard"].colour, style.ROLES["robust"].marker)
    assert len(screen.paths[0].get_xdata()) == len(STEPS)
    assert screen.sides[1].get_title(loc="center") == "robust, seed 0"
    assert "0.22" in screen.sides[1].get_xlabel()


def test_a_picture_depends_on_the_controls_alone_and_never_on_the_way_there():
    states = [
        ("standard, seed 0", "robust, seed 0", 0, 3),
        ("robust, seed 0", "untrained, seed 0", 1, 0),
        ("standard, seed 0", "robust, seed 0", 0, 1),
    ]
    forward, backward = Screen(frames()), Screen(frames())
    ahead = [forward.png(*state) for state in states]
    behind = [backward.png(*state) for state in reversed(states)][::-1]
    for one, other in zip(ahead, behind, strict=True):
        assert np.array_equal(as_pixels(one), as_pixels(other))


def test_nothing_is_written_outside_the_axes_of_the_screen():
    screen = Screen(frames())
    screen.png("standard, seed 0", "robust, seed 0", 0, 3)
    boxes = [axes.get_position() for axes in (screen.target, *screen.sides)]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
    ink = screen.figure.get_tightbbox()
    assert min(ink.x0, ink.y0) > -0.01
    assert ink.x1 < style.WIDE + 0.01


def test_without_pictures_it_says_so_whoever_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for interactive in ("auto", "on", "off"):
        assert explore.invertibility(None, interactive) is None
    assert capsys.readouterr().out.count("nothing was measured here") == 3
