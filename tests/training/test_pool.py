from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reprolib import provenance, scales, store
from reprolib.errors import BadInput
from reprolib.training import pool, zoo

REPOSITORY = Path(__file__).parents[2]
ROBUST = zoo.spec_of("tinycnn-l2_075-s0", "smoke")


def worker(root: Path, *names: str) -> subprocess.Popen[str]:
    """A process that trains the named smoke networks into `root`."""
    command = [sys.executable, "-u", "-m", "reprolib.training.pool", "smoke", "cpu", *names]
    environment = os.environ | {"REPROLIB_ROOT": str(root)}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_kill_9_in_the_third_epoch_of_an_adversarial_training_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = worker(tmp_path / "undisturbed", ROBUST.name)
    said = undisturbed.communicate(timeout=240)[0]
    assert undisturbed.returncode == 0, said

    killed = worker(tmp_path / "killed", ROBUST.name)
    assert killed.stdout is not None
    with killed.stdout as lines:
        for line in lines:
            if "epoch  2/8" in line:
                break
        time.sleep(0.1)  # well into the third epoch
        killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "killed"))
    assert not ROBUST.path.exists()

    again = worker(tmp_path / "killed", ROBUST.name)
    said = again.communicate(timeout=240)[0]
    assert again.returncode == 0, said
    assert "epoch  1/8" not in said
    assert "epoch  3/8" in said
    card = zoo.card_of(ROBUST)
    assert card is not None
    assert card["training"]["resumed"] == 1
    weights = zoo.load(ROBUST).sha256
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "undisturbed"))
    assert zoo.load(ROBUST).sha256 == weights


def test_two_processes_share_the_work_and_train_nothing_twice(tmp_path: Path) -> None:
    names = ["tinycnn-std-s0", "tinycnn-std-s1"]
    both = [worker(tmp_path, *names) for _ in range(2)]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert all(process.returncode == 0 for process in both), said
    for name in names:
        assert sum(f"{name}: kept" in text for text in said) == 1
        assert sum(f"{name}: training" in text for text in said) == 1


def test_a_pattern_that_matches_nothing_names_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"--only 'w9-\*' matches no network of scale smoke; allowed: tinycnn-std-s0"):
        pool.specs("smoke", ["w9-*"])


def test_patterns_pick_networks_in_the_order_of_work() -> None:
    assert [spec.name for spec in pool.specs("smoke", ["*-s1"])] == ["tinycnn-std-s1", "tinycnn-l2_075-s1"]


def plant(spec: zoo.Spec, minutes: float, **more: Any) -> None:
    """A card of a network that took `minutes` to train on this kind of machine, and nothing but it in its weights' file."""
    card = {
        "clean": {"value": 0.9, "first_value": 0.9},
        "adversarial": [{"norm": "l2", "eps": scales.SMOKE.eps, "value": 0.4, "first_value": 0.4}],
        "training": {"seconds": 60 * minutes, "precision": "fp32", "history": [{}]},
        "hardware": provenance.hardware(),
    } | more
    store.write_network(spec.path, {}, card, {})


def test_the_time_left_is_the_estimates_at_the_pace_of_what_was_trained_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    table = pool.specs("smoke")
    whole = sum(pool.estimated_minutes(spec) for spec in table)
    assert pool.pace("smoke") == (1.0, 0)
    assert pool.minutes_left("smoke") == pytest.approx(whole)
    first, second = zoo.spec_of("tinycnn-std-s0", "smoke"), zoo.spec_of("tinycnn-std-s1", "smoke")
    plant(first, 3 * pool.estimated_minutes(first))
    assert pool.pace("smoke") == (pytest.approx(3), 1)
    assert pool.minutes_left("smoke") == pytest.approx(3 * (whole - pool.estimated_minutes(first)))
    plant(second, 1000, hardware={"machine": "of another kind", "capability": "none"})
    plant(zoo.spec_of("tinycnn-untrained-s0", "smoke"), 0, training={"seconds": 0, "precision": "fp32", "history": []})
    assert pool.pace("smoke") == (pytest.approx(3), 1)  # neither tells how fast trainings are here
    assert pool.minutes_left("smoke", ["*-std-s*"]) == 0


def test_the_totals_count_what_is_there_missing_and_not_applicable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    assert re.fullmatch(r"0 there, 9 missing: about 1 min left, 2 at a time \(by the estimates: .*\)", pool.totals("smoke", jobs=2))
    plant(zoo.spec_of("tinycnn-std-s0", "smoke"), 200)
    plant(ROBUST, 300)  # as accurate as the standard one
    line = pool.totals("smoke")
    assert line.startswith("2 there, 6 missing, 1 not applicable: about 21 h 40 min left, 1 at a time")
    assert "10000.0 times the estimates, as the 2 trained on this kind of machine took" in line
    assert pool.totals("smoke", [ROBUST.name]) == "1 there, 0 missing"


def test_the_list_shows_minutes_precision_hardware_and_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    plant(
        zoo.spec_of("tinycnn-std-s0", "smoke"), 0.5, adversarial=[{"norm": "l2", "eps": scales.SMOKE.eps, "value": 0.3, "first_value": 0.3}]
    )
    plant(ROBUST, 0.5, clean={"value": 0.7, "first_value": 0.7})
    plant(zoo.spec_of("tinycnn-std_matched-s0", "smoke"), 0, matching={"matched": False, "distance": 0.031})
    listed = pool.list_pool("smoke").set_index("network")
    assert listed.loc[ROBUST.name, ["minutes", "precision", "check"]].tolist() == ["0.5", "fp32", "+10 points: fails"]
    assert listed.loc[ROBUST.name, "hardware"] == provenance.hardware()["capability"]
    assert listed.loc["tinycnn-std_matched-s0", "check"] == "3.1 points off: no match"
    assert listed.loc["tinycnn-blur-s0", ["minutes", "precision", "hardware", "check"]].tolist() == ["~0.02", "", "", ""]
    plant(ROBUST, 0.5, manipulation={"difference": 0.27, "holds": True})
    assert pool.list_pool("smoke", [ROBUST.name])["check"].tolist() == ["+27 points"]


def test_training_says_after_each_network_how_long_the_rest_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    lines: list[str] = []
    pool.train_pool("smoke", only=["tinycnn-untrained-s0"], report=lines.append)
    assert lines[0].startswith("0 there, 1 missing: about 1 min left")
    assert "tinycnn-untrained-s0: kept; " in lines[-2]
    assert lines[-1] == "1 there, 0 missing"


def test_the_list_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    listed = pool.list_pool("smoke")
    assert list(listed["network"]) == [spec.name for spec in pool.specs("smoke")]
    assert set(listed["state"]) == {"missing"}
    zoo.network("untrained", "tinycnn", "shapetexture_gratings", 0, "smoke")
    row = pool.list_pool("smoke").set_index("network").loc["tinycnn-untrained-s0"]
    assert row["state"] == "there"
    assert 0 <= row["clean"] <= 1


def test_a_damaged_state_of_an_interrupted_training_is_named_and_the_training_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    state = tmp_path / "data" / "training" / "smoke" / f"{ROBUST.name}-{ROBUST.key[:12]}.safetensors"
    store.write_text(state, "not a state")
    assert zoo.obtain(ROBUST, "cpu", lambda line: None)
    assert (
        f"{state} is not a readable safetensors file (it is truncated or of another format): the training begins again"
        in capsys.readouterr().err
    )
    assert zoo.load(ROBUST).card["training"]["resumed"] == 0
