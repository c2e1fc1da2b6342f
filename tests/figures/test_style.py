import inspect
import json
import os
import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.run import explain

STAMP = {
    "finding": "invertibility",
    "scale": "laptop",
    "parameters": {"eps": 0.5},
    "tree": "0f3a",
    "networks": ["c0"],
    "figure": "f",
    "odd": 'a (b) \\ "c" <d> & é &amp;\n',
    "none": None,
}

# Machado et al. 2009, severity 1, for linear RGB
COLOUR_BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3),
}


@style.housed
def drawing():
    figure = style.figure(style.NARROW, 2.0)
    axes = figure.subplots()
    axes.plot([1, 2, 3], [0.2, 0.4, 0.3], marker="s", label="robust")
    axes.imshow(np.eye(4), extent=(1, 2, 0.2, 0.3), aspect="auto")
    axes.set_xlabel(r"$d_\mathrm{rel}$")
    axes.legend()
    return figure


def as_seen(colour, blindness):
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(COLOUR_BLINDNESS[blindness]) @ linear, 0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("blindness", COLOUR_BLINDNESS)
def test_the_colours_of_two_roles_keep_apart_to_every_eye(blindness):
    for (one, a), (other, b) in combinations(style.ROLES.items(), 2):
        assert deltaE_ciede2000(as_seen(a.colour, blindness), as_seen(b.colour, blindness)) > 7, (one, other)


def test_every_role_has_a_marker_of_its_own():
    markers = [role.marker for role in style.ROLES.values()]
    assert len(set(markers)) == len(markers)


def test_an_unknown_arm_is_refused_with_the_nearest_name():
    with pytest.raises(BadInput, match=r"arm 'robus' has no colour.*did you mean 'robust'"):
        style.role("robus")


def test_arms_come_once_each_in_one_order():
    assert style.in_order(["untrained", "robust", "standard", "robust"]) == ["standard", "robust", "untrained"]
    with pytest.raises(BadInput, match="arm 'x'"):
        style.in_order(["standard", "x"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The png and the pdf of one drawing."""
    return style.save(drawing(), tmp_path_factory.mktemp("saved") / "deep" / "figure.v2", STAMP)


def test_a_stamp_comes_back_from_both_formats(saved):
    assert [path.name for path in saved] == ["figure.v2.png", "figure.v2.pdf"]
    assert [explain.read_stamp(path) for path in saved] == [STAMP, STAMP]
    assert json.dumps(STAMP).encode() in saved[0].read_bytes()  # readable in the png itself


def test_saving_twice_gives_equal_bytes_and_the_stamp_is_part_of_them(tmp_path):
    figure = drawing()
    before = [path.read_bytes() for path in style.save(figure, tmp_path / "f", STAMP)]
    assert [path.read_bytes() for path in style.save(figure, tmp_path / "f", STAMP)] == before
    assert [path.read_bytes() for path in style.save(figure, tmp_path / "f", {"tree": "other"})] != before


def test_another_process_with_other_hashes_and_settings_writes_the_same_bytes(tmp_path):
    code = (
        "import sys, numpy as np, matplotlib as mpl; from reprolib.figures import style\n"
        "mpl.rcParams.update({'font.size': 20, 'savefig.dpi': 30, 'xtick.major.size': 9})\n"
        f"{inspect.getsource(drawing)}\n"
        "style.save(drawing(), sys.argv[1], {'a': 1})"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "theirs")], check=True, env=environment)
    for ours in style.save(drawing(), tmp_path / "ours", {"a": 1}):
        assert ours.read_bytes() == (tmp_path / f"theirs{ours.suffix}").read_bytes()


def test_files_name_neither_the_day_nor_the_writers_version(saved):
    for path in saved:
        content = path.read_bytes()
        assert b"CreationDate" not in content
        assert mpl.__version__.encode() not in content


def test_the_png_has_the_size_of_the_page_at_200_dots_an_inch(saved):
    width, height = (int.from_bytes(saved[0].read_bytes()[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (660, 400)


def test_a_stamp_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    for bad in ({"x": float("nan")}, {"x": {1, 2}}):
        with pytest.raises(BadInput, match="the stamp cannot be written as JSON"):
            style.save(drawing(), tmp_path / "f", bad)
    assert list(tmp_path.iterdir()) == []


def test_a_context_sets_the_style_and_gives_the_old_one_back():
    with mpl.rc_context():
        mpl.rcParams["font.size"] = 20
        with style.context():
            assert mpl.rcParams["font.size"] == 8
            assert not mpl.rcParams["axes.spines.top"]
        assert mpl.rcParams["font.size"] == 20


def test_a_figure_shows_itself_as_a_picture_in_a_notebook():
    assert drawing()._repr_png_().startswith(b"\x89PNG")
