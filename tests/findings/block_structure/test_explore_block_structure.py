import io
import sys

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reprolib.errors import BadInput
from reprolib.findings.block_structure import explorer as explore
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.explorer import HEADLESS, Screen, films
from reprolib.measures.cka import BatchHSIC

RECIPES = {"standard": "std", "robust_small": "l2_025", "robust": "l2_075"}


def matrix(level):
    return np.where(np.eye(4, dtype=bool), 1.0, level)


def tidy(claim, quantity, arm, table, architecture="tinycnn"):
    who = {"recipe": RECIPES[arm], "architecture": architecture, "seed": 0, "network": f"{arm}0"}
    return table.assign(claim=claim, quantity=quantity, arm=arm, reached=True, **who)


@pytest.fixture
def rows():
    frames = []
    for arm, level in (("standard", 0.2), ("robust_small", 0.4), ("robust", 0.6)):
        own = np.ones((2, 4))
        table = hsic_rows.of_network(BatchHSIC(np.full(2, 20), np.repeat(matrix(level)[None], 2, axis=0), own, own, ("", "")))
        frames.append(tidy("BLK-10", "hsic", arm, table))
    for arm in ("standard", "robust"):
        values = {f"epoch_{t}|{i}|{j}": 1.0 if i == j else 0.1 * t for t in (0, 1, 2) for i in range(4) for j in range(i, 4)}
        frames.append(tidy("shown", "cka", arm, pd.DataFrame({"unit": "all", "unit_2": [*values], "value": [*values.values()]})))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


def as_pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("interactive", ["auto", "off"])
def test_with_nobody_there_one_line_is_printed_and_no_widget_made(interactive, rows, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert explore.block_structure(rows, interactive) is None
    assert capsys.readouterr().out == HEADLESS + "\n"
    with pytest.raises(BadInput, match=r"interactive='of' is not allowed"):
        explore.block_structure(rows, "of")


def test_it_moves_through_the_rows_that_are_there(rows):
    found = films(rows)
    assert list(found.epochs) == ["standard", "robust"]
    assert np.allclose(found.epochs["robust"][2], matrix(0.2))
    assert list(found.radii) == [0, 0.25, 0.75]
    assert np.allclose(found.radii[0.75].values, matrix(0.6))
    assert found.names == ("conv1", "conv2", "conv3", "pooled")


def test_radii_are_read_as_recipes_write_them():
    assert [explore.as_read(eps) for eps in (0.0, 8 / 255, 0.5)] == ["0", "8/255", "0.5"]


def test_every_control_changes_the_picture_and_coming_back_restores_it(rows):
    screen = Screen(films(rows))
    first = screen.png("standard", 0, 0.0, 0, 3)
    for state in (("standard", 2, 0.0, 0, 3), ("standard", 0, 0.75, 0, 3), ("standard", 0, 0.0, 1, 3), ("robust", 0, 0.0, 0, 3)):
        assert not np.array_equal(as_pixels(screen.png(*state)), as_pixels(first)), state
    assert np.array_equal(as_pixels(screen.png("standard", 0, 0.0, 0, 3)), as_pixels(first))


def test_a_person_gets_controls_that_redraw(rows):
    box = explore.block_structure(rows, "on")
    (networks, first, second), (epoch, eps) = (part.children for part in box.children[:2])
    picture = box.children[2]
    assert isinstance(picture, ipywidgets.Image)
    assert (networks.options, epoch.value, eps.value) == ((("standard", "standard"), ("robust", "robust")), 2, 0.75)
    assert [label for label, _ in first.options] == ["conv1", "conv2", "conv3", "pooled"]
    for control, value in ((epoch, 0), (eps, 0.0), (first, 2), (networks, "robust")):
        before = picture.value
        control.value = value
        assert picture.value != before


def test_without_states_of_trainings_the_radii_remain(rows):
    found = films(rows[rows["claim"] != "shown"])
    assert found.epochs == {}
    box = explore.block_structure(rows[rows["claim"] != "shown"], "on")
    assert box.children[1].children[0].disabled
    assert len(box.children[2].value) > 1000


def test_where_radii_are_of_another_architecture_the_deep_arms_stand_for_them(rows):
    main = rows[rows["claim"] == "BLK-10"].assign(architecture="w8")
    deep = rows[(rows["claim"] == "BLK-10") & (rows["arm"] != "robust_small")].assign(claim="BLK-1")
    found = films(pd.concat([rows[rows["claim"] != "BLK-10"], main, deep]))
    assert list(found.radii) == [0, 0.75]
    assert {one.architecture for one in found.radii.values()} == {"tinycnn"}
