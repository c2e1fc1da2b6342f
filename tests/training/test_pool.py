from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reprolib import cli, provenance, scales, store
from reprolib.errors import BadInput, MissingData, ReprolibError
from reprolib.training import points, pool, zoo
from reprolib.training.specs import state_path

ALL = len(pool.specs("smoke"))
REPOSITORY = Path(__file__).parents[2]
ROBUST = zoo.spec_of("tinycnn-l2_075-s0", "smoke")
TINY = replace(scales.SMOKE, schedule=replace(scales.SMOKE.schedule, n_images=256, attack_steps=1))
"""Scale smoke with trainings of seconds; their epochs are as many."""


def main_of_a_worker() -> None:
    """What `python -m reprolib.training.pool` does, at the tiny scale."""
    scales.SCALES["smoke"] = TINY
    raise SystemExit(pool.main_of_a_worker(sys.argv[1:]))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scales.SCALES, "smoke", TINY)


def worker(root: Path, *names: str) -> subprocess.Popen[str]:
    """A process that trains the named networks of the tiny scale into `root`."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_pool; test_pool.main_of_a_worker()"
    command = [sys.executable, "-u", "-c", code, "smoke", "cpu", "inf", *names]
    environment = os.environ | {"REPROLIB_ROOT": str(root)}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the weights that one call trains from beginning to end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROLIB_ROOT", str(tmp_path_factory.mktemp("undisturbed")))
        patch.setitem(scales.SCALES, "smoke", TINY)
        pool.train_specs([ROBUST], report=lambda line: None)
        return zoo.load(ROBUST).sha256


def test_kill_9_in_the_third_epoch_of_an_adversarial_training_changes_no_bit(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: str
) -> None:
    killed = worker(tmp_path / "killed", ROBUST.name)
    assert killed.stdout is not None
    with killed.stdout as lines:
        for line in lines:
            if "epoch  2/8" in line:
                break
        killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "killed"))
    assert not ROBUST.path.exists()

    lines_again: list[str] = []
    pool.train_specs([ROBUST], report=lines_again.append)
    said = "\n".join(lines_again)
    assert "epoch  1/8" not in said
    assert "epoch  3/8" in said
    card = zoo.card_of(ROBUST)
    assert card is not None
    assert card["training"]["resumed"] == 1
    assert zoo.load(ROBUST).sha256 == undisturbed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The pool's clock, which stands still but when a test moves it."""
    made = SimpleNamespace(now=1000.0)
    made.time, made.sleep = lambda: made.now, time.sleep
    monkeypatch.setattr(pool, "time", made)
    return made


def test_no_epoch_is_begun_that_would_end_after_the_deadline_and_the_weights_are_those_of_one_call(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: str, clock: SimpleNamespace
) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "disturbed"))
    monkeypatch.setattr(pool, "epoch_minutes", lambda spec, device: 1.0)
    said: list[str] = []

    def report(line: str) -> None:
        said.append(line)
        clock.now += 60 * (": epoch" in line)

    ended = []
    while not ROBUST.path.exists():
        began = clock.now
        pool.train_specs([ROBUST], report=report, ends=began + 60 * 3.5)
        ended.append(clock.now - began)
    assert ended == [180, 180, 120]
    assert re.findall(r"epoch +(\d)/8", "\n".join(said)) == list("12345678")
    assert said.count(f"{ROBUST.name}: time is out; the next call goes on from its last epoch") == 2
    assert zoo.load(ROBUST).sha256 == undisturbed


@pytest.fixture
def obtain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace) -> SimpleNamespace:
    """Stands in for `zoo.obtain`: every epoch takes `minutes`; networks in `broken` fail; what was begun is noted."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.delenv("REPROLIB_ZOO", raising=False)
    made = SimpleNamespace(minutes=0.002, broken=set(), begun=[])

    def train(spec: zoo.Spec, device: str, report: Callable[[str], None], wait: bool) -> bool:
        made.begun.append(spec.name)
        if spec.name in made.broken:
            raise FloatingPointError("the training loss is not a number")
        for epoch in range(1, spec.schedule.epochs + 1):
            clock.now += 60 * made.minutes
            history = {"told": json.dumps({"history": [{"seconds": 60 * made.minutes}] * epoch})}
            store.write_safetensors(state_path(spec), {}, history)
            report(f"{spec.name}: epoch {epoch:>2}/{spec.schedule.epochs}  loss 0.1")
        state_path(spec).unlink()
        plant(spec, made.minutes, clean={"value": 0.9, "first_value": 0.9 - 0.2 * ("l2" in spec.name)})
        return True

    monkeypatch.setattr(zoo, "obtain", train)
    monkeypatch.setitem(points.TABLE, "smoke", ())
    return made


def test_what_fits_is_trained_and_the_next_command_goes_on(
    obtain: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPROLIB_ZOO", str(tmp_path / "shipped"))  # what the command sets is undone with it
    shipped = zoo.spec_of("tinycnn-std-s0", "smoke")
    plant(shipped, 0.02, clean={"value": 0.9, "first_value": 0.9})
    monkeypatch.setattr(pool, "time", SimpleNamespace(time=time.time))
    obtain.minutes = 3.0
    command = ["train", "--scale", "smoke", "--folder", str(tmp_path / "a zoo"), "--jobs", "1", "--device", "cpu"]
    assert cli.main([*command, "--minutes", "0.0001"]) == 0
    assert obtain.begun == []
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith(f"smoke: 1 there, {ALL - 1} missing")
    assert said[-1] == "the same command goes on with what is missing"
    assert "tinycnn-l2_075-s0: waits, since its next epoch takes about 0.0037 min" in said
    assert cli.main([*command, "--minutes", "60"]) == 0
    assert f"smoke: {ALL} there, 0 missing" in capsys.readouterr().out
    assert shipped.name not in obtain.begun
    assert len(list((tmp_path / "a zoo" / "smoke").glob("*.safetensors"))) == ALL


def test_a_call_too_short_for_an_epoch_says_how_long_it_takes(obtain: SimpleNamespace, clock: SimpleNamespace) -> None:
    obtain.minutes = 2.5
    network, said = ["tinycnn-std-s0"], []
    pool.train_pool("smoke", only=network, report=lambda line: None, ends=clock.now + 6)
    obtain.begun.clear()
    pool.train_pool("smoke", only=network, report=said.append, ends=clock.now + 60 * 2.4)
    assert obtain.begun == []
    assert said[-1] == "tinycnn-std-s0: waits, since its next epoch takes about 2.5 min"  # the first was begun on an estimate


def test_before_a_network_was_trained_on_other_hardware_its_pace_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "hardware", lambda device="cpu": {"gpu": device})
    assert pool.pace("cifar", "cuda") == (0.1, 0)
    assert pool.epoch_minutes(zoo.spec_of("resnet18-l2_05-s0", "gpu"), "cpu") > 10


@pytest.mark.parametrize("budget_s", [float("inf"), 3600.0])
def test_a_network_that_fails_leaves_the_others_alone_and_is_named(
    obtain: SimpleNamespace, clock: SimpleNamespace, budget_s: float
) -> None:
    obtain.broken.add("tinycnn-l2_075-s0")
    said: list[str] = []
    with pytest.raises(
        ReprolibError, match=rf"^1 of {ALL} networks failed, tinycnn-l2_075-s0 with: the training loss is not a number; run again"
    ):
        pool.train_pool("smoke", report=said.append, ends=clock.now + budget_s)
    assert sorted(set(obtain.begun)) == sorted(obtain.begun)
    assert pool.totals("smoke").startswith(
        f"{ALL - 2} there, 2 missing" if budget_s == 3600 else f"{ALL - 1} there, 1 missing"
    )  # a control waits for its arms
    assert "tinycnn-l2_075-s0: failed: the training loss is not a number" in said


def test_networks_whose_data_is_not_here_wait_and_the_others_are_trained(
    obtain: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("REPROLIB_DATA", "empty")
    with pytest.raises(MissingData, match=r"^CIFAR-10 is not here: `reprolib data fetch cifar10`, or put the official files into .*$"):
        pool.train_pool("cifar", report=lambda line: None)
    some = scales.Entry("tinycnn", "blur", (7,), 1, dataset="fashion_mnist")
    monkeypatch.setitem(scales.SCALES, "smoke", replace(scales.SMOKE, table=(some, *scales.SMOKE.table)))
    said: list[str] = []
    pool.train_pool("smoke", report=said.append)
    assert said[1].startswith("fashion_mnist is not here, 1 networks wait for it: `reprolib data fetch")
    assert len(obtain.begun) == ALL


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "train_networks", lambda given: __import__("a_module_that_is_nowhere"))
    assert cli.main(["train", "--minutes", "8"]) == 3
    assert capsys.readouterr().err.startswith(f"reprolib: {sys.executable} lacks a_module_that_is_nowhere: install it, or name a Python")


def test_make_gpu_stage_ends_well_on_a_cpu_when_nothing_fits_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VENV", "REPROLIB_ZOO")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    settings = ["MINUTES=0.0001", f"STAGE={tmp_path}/a stage", "JOBS=1", f"PYTHON={sys.executable}", "VENV=nowhere"]
    ended = subprocess.run(
        ["make", "gpu-stage", *settings], cwd=REPOSITORY, env=environment | {"REPROLIB_DATA": str(tmp_path / "data"), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    command, *said = ended.stdout.splitlines()
    options = f"train --scale cifar gpu --minutes 0.0001 --folder {tmp_path}/a\\ stage/zoo --jobs 1"
    assert command == f"PYTHONPATH=. {sys.executable} -m reprolib {options}"
    assert re.match(r"gpu: 0 there, \d+ missing", said[-2])
    assert said[-1] == "the same command goes on with what is missing"
    brought = {path.name for path in (tmp_path / "a stage" / "zoo" / "cifar").iterdir()}
    assert brought == {path.name for path in (REPOSITORY / "data" / "zoo" / "cifar").iterdir() if path.suffix in (".json", ".safetensors")}
    assert not (REPOSITORY / "nowhere").exists()


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
    assert re.fullmatch(rf"0 there, {ALL} missing: about 1 min left, 2 at a time \(by the estimates: .*\)", pool.totals("smoke", jobs=2))
    plant(zoo.spec_of("tinycnn-std-s0", "smoke"), 200)
    plant(ROBUST, 300)  # as accurate as the standard one
    line = pool.totals("smoke")
    assert line.startswith(f"2 there, {ALL - 3} missing, 1 not applicable: about 28 h 20 min left, 1 at a time")
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
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
