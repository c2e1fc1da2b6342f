from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reprolib import store
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
    weights = ROBUST.path.read_bytes()
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "undisturbed"))
    assert ROBUST.path.read_bytes() == weights


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


def test_the_list_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    listed = pool.list_pool("smoke")
    assert list(listed["network"]) == [spec.name for spec in pool.specs("smoke")]
    assert set(listed["state"]) == {"missing"}
    zoo.network("untrained", "tinycnn", "shapetexture_gratings", 0, "smoke")
    row = pool.list_pool("smoke").set_index("network").loc["tinycnn-untrained-s0"]
    assert row["state"] == "there"
    assert 0 <= row["clean"] <= 1


def test_a_damaged_state_of_an_interrupted_training_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    state = tmp_path / "data" / "training" / "smoke" / f"{ROBUST.name}-{ROBUST.key[:12]}.safetensors"
    store.write_text(state, "not a state")
    with pytest.raises(Exception, match="not a readable safetensors file"):
        zoo.obtain(ROBUST, "cpu", lambda line: None)
    assert not ROBUST.path.exists()
