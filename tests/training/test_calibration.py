"""Equal learnability of the cues, on planted learning curves; the committed calibration, as far as it costs seconds."""

from __future__ import annotations

import json
import math

import pytest

from reprolib.data import margins, shapetexture
from reprolib.data.shapetexture import MARGIN_SETS, WORLDS, World
from reprolib.errors import BadInput
from reprolib.training import calibration
from reprolib.training.calibration import Learnt


def quiet(line: str) -> None:
    """Say nothing."""


def plant(monkeypatch, shape_at, texture_at):
    """Accuracies as functions of (world, steps) in the place of trainings."""
    monkeypatch.setattr(
        calibration, "accuracy",
        lambda world, cue, architecture, seed, steps, fresh=False: {"shape": shape_at, "texture": texture_at}[cue](world, steps),
    )  # fmt: skip


def logarithmic(at_80: float):
    """Accuracy that grows by a tenth a half octave from `at_80` at 80 steps."""
    return lambda world, steps: min(1.0, at_80 + 0.2 * math.log2(steps / 80))


def test_the_budget_is_where_the_mean_of_both_cues_is_three_quarters(monkeypatch):
    plant(monkeypatch, logarithmic(0.7), logarithmic(0.5))
    found = calibration.learnt(World(), "pool", quiet)
    # the mean starts at .6: .15 more is three quarters of an octave
    assert found.budget == pytest.approx(80 * 2**0.75, abs=1)
    assert found.gap == pytest.approx(0.2, abs=1e-6)
    assert sum(found.shape) / 6 + sum(found.texture) / 6 == pytest.approx(0.75, abs=0.005)


def test_cues_that_are_never_learnt_have_no_budget(monkeypatch):
    plant(monkeypatch, lambda world, steps: 0.2, lambda world, steps: 0.2)
    with pytest.raises(BadInput, match="reach 20.0% after 640 steps, not 75%"):
        calibration.learnt(World(), "pool", quiet)


def test_cues_that_are_not_equally_easy_are_refused(monkeypatch, tmp_path):
    plant(monkeypatch, logarithmic(0.9), logarithmic(0.5))
    monkeypatch.setattr(calibration.shapetexture, "CALIBRATION_FILE", tmp_path / "calibration.json")
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    with pytest.raises(BadInput, match="not equally easy to learn .*gap .* points.*change delta and c"):
        calibration.calibrate(quiet)
    assert not (tmp_path / "calibration.json").exists()


def test_a_cue_is_learnt_by_a_real_training_and_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "N_TRAIN", 512)
    monkeypatch.setattr(calibration, "N_TEST", 64)
    world = World(size=16, shapes=shapetexture.SHAPES[:2], textures=("grating_0", "grating_90"))
    got = calibration.accuracy(world, "texture", "tinycnn", 0, 40)
    assert got > 0.7  # two gratings: chance is one half
    monkeypatch.setattr(calibration, "_trained", lambda *a: (0.125, math.nan))
    assert calibration.accuracy(world, "texture", "tinycnn", 0, 40) == got
    assert calibration.accuracy(world, "texture", "tinycnn", 0, 40, fresh=True) == 0.125


def test_the_committed_calibration_belongs_to_the_worlds_in_use():
    told = shapetexture.calibration()
    assert told["worlds"] == {name: shapetexture.world_key(WORLDS[name][0]) for name in ("shapetexture", *MARGIN_SETS)}
    assert set(told["sets"]) == {"shapetexture", *MARGIN_SETS}
    assert set(told["robust"]) == {"shape", "texture"}


def test_the_committed_cues_differ_by_at_most_five_points_at_three_quarters():
    told = shapetexture.calibration()["learnt"]
    found = Learnt(told["architecture"], told["budget"], tuple(told["shape"]), tuple(told["texture"]))
    assert len(found.shape) == len(found.texture) == 3
    assert found.gap == pytest.approx(told["gap"], abs=1e-3)
    assert abs(found.gap) <= 0.05
    assert (sum(found.shape) + sum(found.texture)) / 6 == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("name", ["shapetexture", *MARGIN_SETS])
def test_the_margins_of_each_set_stand_as_their_name_says(name):
    found = margins.measure(WORLDS[name][0], 16)
    if name in MARGIN_SETS:
        assert found.ratio == pytest.approx(MARGIN_SETS[name], rel=0.1)
    assert found.ratio == pytest.approx(shapetexture.calibration()["sets"][name]["margins"]["ratio"], rel=0.05)


def test_the_check_names_a_gap_and_a_ratio_that_do_not_hold(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(calibration, "accuracy", lambda world, cue, *a, **k: {"shape": 0.9, "texture": 0.6}[cue])
    monkeypatch.setattr(calibration.shapetexture, "MARGIN_SETS", {"shapetexture": 3.0})
    monkeypatch.setattr(calibration, "_trained", lambda *a: (0.9, 0.6))
    faults = calibration.check(lines.append)
    assert any("is not within 10 % of 3" in fault for fault in faults)
    assert any("differ by +30.0 points" in fault for fault in faults)
    assert any("shape 90.0%" in line and "texture 60.0%" in line for line in lines)
    assert sum("90.0% clean, 60.0% under PGD-20" in line for line in lines) == 2


def test_the_calibration_is_one_readable_json_file():
    text = shapetexture.CALIBRATION_FILE.read_text()
    assert json.loads(text) == shapetexture.calibration()
