"""Minutes on a borrowed machine: the order of work, the deadline, going on after a kill, and a summary that is true."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reprolib import cli, data, provenance, scales, store
from reprolib.data.images import Images, images
from reprolib.errors import BadInput, MissingData, ReprolibError
from reprolib.models.networks import state_sha256
from reprolib.scales import Entry
from reprolib.training import budget, inventory, pool, stage, zoo
from reprolib.training.budget import Call
from reprolib.training.specs import Spec, state_path

REPOSITORY = Path(__file__).parents[2]
SCHEDULE = replace(scales.SMOKE.schedule, n_images=64, epochs=4, attack_steps=1)
FIRST = replace(
    scales.SMOKE, name="first", schedule=SCHEDULE, n_test=32,
    table=(
        Entry("tinycnn", "std", (0,), 1, snapshots_per_epoch=2),
        Entry("tinycnn", "std_matched", (0,), 0.5),  # before its second arm, for which it waits
        Entry("tinycnn", "l2_075", (0,), 3),
    ),
)  # fmt: skip
SECOND = replace(FIRST, name="second", table=(Entry("tinycnn", "l2_025", (0,), 2), Entry("tinycnn", "blur", (0, 1), 1)))
STAGED = ("first", "second")
IN_ORDER = [
    "first/tinycnn-std-s0", "first/tinycnn-l2_075-s0", "first/tinycnn-std_matched-s0",
    "second/tinycnn-l2_025-s0", "second/tinycnn-blur-s0", "second/tinycnn-blur-s1",
]  # fmt: skip


def plant(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Two tiny scales and a repository without networks, in this process."""
    patch.setenv("REPROLIB_ROOT", str(root))
    for name in ("REPROLIB_DATA", "REPROLIB_ZOO", "REPROLIB_CACHE", "REPROLIB_FIGURES"):
        patch.delenv(name, raising=False)
    for scale in (FIRST, SECOND):
        patch.setitem(scales.SCALES, scale.name, scale)


def bright_or_dark(name: str, split: str) -> Images:
    """64 images of 16 px whose class is their brightness."""
    y = torch.arange(64) % 2
    noise = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(len(split)))
    return images((noise * 120 + 100 * y.view(-1, 1, 1, 1)).to(torch.uint8), y, ("dark", "bright"), name)


class Trainer:
    """Stands in for `zoo.obtain`: a training takes `pace` times its estimate on a clock of its own and leaves what a real one leaves."""

    def __init__(self, keeps_first: bool = True) -> None:
        self.now, self.pace, self.keeps_first = 1000.0, 1.0, keeps_first
        self.begun: list[str] = []
        self.epochs: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, spec: Spec, device: str, report: Callable[[str], None], wait: bool) -> bool:
        name = f"{spec.scale}/{spec.name}"
        self.begun.append(name)
        report(f"{spec.name}: training on 64 images")
        if name in self.broken:
            raise FloatingPointError("the training loss is not a number")
        epochs = spec.schedule.epochs
        for epoch in range(budget.epochs_done(spec) + 1, epochs + 1):
            self.now += self.pace * 60 * pool.estimated_minutes(spec) / epochs
            self.epochs.append(f"{name} {epoch}")
            if self.keeps_first:
                self.keep(spec, epoch)
            report(f"{spec.name}: epoch {epoch:>2}/{epochs}  loss 0.1")
            self.keep(spec, epoch)
        card = {"clean": {"value": 0.9, "first_value": 0.9 - 0.2 * ("l2" in name)}, "adversarial": [{"value": 0.4}], "hardware": {}}
        store.write_network(spec.path, {}, card, {})
        state_path(spec).unlink()
        return True

    @staticmethod
    def keep(spec: Spec, epoch: int) -> None:
        store.write_safetensors(state_path(spec), {"a": torch.zeros(1)}, {"told": json.dumps({"history": [{}] * epoch})})


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trainer:
    made = Trainer()
    plant(monkeypatch, tmp_path)
    monkeypatch.setattr(zoo, "obtain", made)
    monkeypatch.setattr(budget, "clock", lambda: made.now)
    return made


def call(minutes: float, folder: Path, **options: Any) -> dict[str, Any]:
    return stage.stage(minutes, folder / "stage", report=lambda line: None, staged=STAGED, **options)


def in_table(name: str) -> tuple[bool, int]:
    """The place of a name in the tables, where the matched control stands before its second arm."""
    scale, network = name.split("/")
    return scale == "second", [spec.name for spec in pool.specs(scale)].index(network)


def states(told: dict[str, Any]) -> dict[str, str]:
    return {f"{network['scale']}/{network['network']}": network["state"] for network in told["networks"]}


# --- order and budget


def test_the_scales_are_worked_down_in_turn_and_a_matched_control_waits_for_its_arms(trainer: Trainer, tmp_path: Path) -> None:
    told = call(60, tmp_path)
    assert trainer.begun == IN_ORDER
    assert set(states(told).values()) == {"there"}
    assert told["next"] == "nothing is missing"


def test_a_network_is_begun_only_when_its_estimate_fits_and_smaller_ones_fill_the_rest(trainer: Trainer, tmp_path: Path) -> None:
    told = call(3.5, tmp_path)
    assert trainer.begun == ["first/tinycnn-std-s0", "second/tinycnn-l2_025-s0"]  # 2.5 minutes are left after the first: not three
    assert trainer.now <= 1000 + 60 * 3.5
    assert told["counts"] == {"there": 2, "missing": 4}
    assert told["next"] == "make gpu-stage MINUTES=3.5 STAGE=stage"


def test_what_was_trained_in_the_folder_corrects_the_estimates(trainer: Trainer, tmp_path: Path) -> None:
    trainer.pace = 3.0
    call(8, tmp_path)
    assert trainer.begun == ["first/tinycnn-std-s0", "second/tinycnn-l2_025-s0"]  # at three times the estimate l2_075 takes 9 minutes
    assert budget.pace(Call(tmp_path / "stage", 8, 0, "cpu", 1, (), STAGED), "first") == pytest.approx(3)


def test_minutes_of_a_gpu_are_more_on_a_cpu_and_less_the_other_way_round(trainer: Trainer, tmp_path: Path) -> None:
    fresh = Call(tmp_path / "elsewhere", 8, 0, "cpu", 1, (), STAGED)
    assert budget.pace(fresh, "gpu") > 10
    assert budget.pace(fresh, "cifar") == 1
    assert budget.PRIOR["cpu", "cuda"] < 1


@pytest.mark.parametrize("keeps_first", [True, False], ids=["kept, then said", "said, then kept"])
def test_no_epoch_is_begun_that_would_end_after_the_deadline_and_the_next_call_goes_on(
    trainer: Trainer, tmp_path: Path, keeps_first: bool
) -> None:
    trainer.keeps_first, trainer.pace = keeps_first, 2.0  # twice as slow as estimated: the first network alone takes two minutes
    told = call(1.3, tmp_path)
    assert states(told)["first/tinycnn-std-s0"] == "interrupted"
    entry = told["networks"][0]
    assert (entry["epochs_done"], entry["epochs"], entry["seconds"]) == (2 if keeps_first else 1, 4, 60)
    assert trainer.now == 1060
    assert "tinycnn-std-s0 of first interrupted after epoch" in "\n".join(inventory.lines(told))
    trainer.epochs.clear()
    told = call(60, tmp_path)
    assert trainer.epochs[0] == f"first/tinycnn-std-s0 {entry['epochs_done'] + 1}"
    assert set(states(told).values()) == {"there"}
    assert told["networks"][0]["calls"] == 2


@pytest.mark.parametrize("keeps_first", [True, False], ids=["kept, then said", "said, then kept"])
def test_a_network_that_fits_into_no_call_is_trained_over_several(trainer: Trainer, tmp_path: Path, keeps_first: bool) -> None:
    trainer.keeps_first = keeps_first
    n_calls, following = 0, "MINUTES=0.9"
    while asked := re.search(r"MINUTES=(\S+)", following):
        following = call(float(asked[1]), tmp_path)["next"]
        n_calls += 1
        assert n_calls < 20  # no call is without an epoch to show for it
    assert n_calls > 5
    assert len(set(trainer.epochs)) == 6 * 4
    assert len(trainer.epochs) == 6 * 4 or not keeps_first


def test_a_call_too_short_for_any_epoch_says_how_long_the_next_one_must_be(trainer: Trainer, tmp_path: Path) -> None:
    trainer.pace = 40.0  # an epoch of the first network takes ten minutes, one of the next thirty
    for n_epochs in (1, 0):
        trainer.epochs.clear()
        told = stage.stage(0.9, tmp_path / "stage", report=lambda line: None, staged=("first",))
        assert told["next"] == "make gpu-stage MINUTES=10 STAGE=stage"
        assert len(trainer.epochs) == n_epochs


def test_what_is_there_is_not_begun_again(trainer: Trainer, tmp_path: Path) -> None:
    call(60, tmp_path)
    trainer.begun.clear()
    call(60, tmp_path)
    assert trainer.begun == []


def test_networks_of_the_repository_are_brought_in_and_not_trained(trainer: Trainer, tmp_path: Path) -> None:
    spec = Spec("std", "tinycnn", FIRST.dataset, 0, "first")
    card = {"clean": {"value": 0.8, "first_value": 0.8}, "adversarial": [{"value": 0}], "hardware": {}}
    shipped = store.write_network(spec.path, {}, card, {}).read_bytes()
    told = call(60, tmp_path)
    assert trainer.begun == IN_ORDER[1:]
    assert (tmp_path / "stage" / told["networks"][0]["file"]).read_bytes() == shipped
    assert [network["trained_here"] for network in told["networks"]] == [False] + [True] * 5


# --- what goes wrong


def test_a_network_that_fails_leaves_the_others_alone_and_is_named(trainer: Trainer, tmp_path: Path) -> None:
    trainer.broken.add("first/tinycnn-l2_075-s0")
    told = call(60, tmp_path)
    assert trainer.begun == [name for name in IN_ORDER if "matched" not in name]
    assert states(told)["first/tinycnn-l2_075-s0"] == "failed"
    assert "tinycnn-l2_075-s0 of first failed: the training loss is not a number" in inventory.lines(told)
    trainer.broken.clear()
    assert set(states(call(60, tmp_path)).values()) == {"there"}


def test_missing_data_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, trainer: Trainer, tmp_path: Path) -> None:
    monkeypatch.setitem(scales.SCALES, "first", replace(FIRST, dataset="cifar10"))
    monkeypatch.setitem(scales.SCALES, "second", replace(SECOND, dataset="cifar10"))
    with pytest.raises(MissingData, match=r"^CIFAR-10 is not here: put its folder \S+ into .*$"):
        call(60, tmp_path)
    assert trainer.begun == []


def test_networks_whose_data_is_not_here_wait_and_the_others_are_trained(
    monkeypatch: pytest.MonkeyPatch, trainer: Trainer, tmp_path: Path
) -> None:
    monkeypatch.setitem(scales.SCALES, "second", replace(SECOND, dataset="fashion_mnist"))
    said: list[str] = []
    told = stage.stage(60, tmp_path / "stage", report=said.append, staged=STAGED)
    assert trainer.begun == IN_ORDER[:3]
    assert said[0].startswith("fashion_mnist is not here, 3 networks wait for it: `reprolib data fetch")
    assert states(told)["second/tinycnn-blur-s0"] == "waiting for fashion_mnist"
    assert list(told["waiting_for"]) == ["fashion_mnist"]
    assert told["next"].startswith("make gpu-stage")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"minutes": 0}, "minutes=0 is not allowed"), ({"minutes": float("nan")}, "minutes=nan"), ({"minutes": 1, "jobs": 0}, "jobs=0")],
)
def test_a_budget_of_nothing_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        stage.stage(folder=tmp_path, **options)


# --- measuring


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, trainer: Trainer) -> SimpleNamespace:
    """A finding's measures, importable by the name "planted_hook": 30 seconds a network, 60 at the end."""

    def measure(spec: Spec, device: str, report: Callable[[str], None]) -> None:
        trainer.begun.append(f"measure {spec.scale}/{spec.name}")
        trainer.now += made.seconds
        if made.broken:
            raise KeyError("no such layer")

    def conclude(scale: str, device: str, report: Callable[[str], None]) -> None:
        trainer.begun.append(f"conclude {scale}")
        assert os.environ["REPROLIB_FIGURES"].endswith("stage/figures")

    made = SimpleNamespace(measure=measure, conclude=conclude, seconds=30.0, broken=False)
    monkeypatch.setitem(sys.modules, "planted_hook", made)
    return made


def test_each_network_is_measured_at_once_and_each_scale_put_together_at_the_end(
    hook: SimpleNamespace, trainer: Trainer, tmp_path: Path
) -> None:
    told = call(60, tmp_path, hooks=["planted_hook"])
    assert trainer.begun == [step for name in IN_ORDER for step in (name, f"measure {name}")] + ["conclude first", "conclude second"]
    assert told["networks"][0]["measured"] == {"planted_hook": 30.0}
    trainer.begun.clear()
    call(60, tmp_path, hooks=["planted_hook"])
    assert trainer.begun == []


def test_nothing_is_measured_without_the_time_for_it_and_the_next_call_makes_up_for_it(
    hook: SimpleNamespace, trainer: Trainer, tmp_path: Path
) -> None:
    call(1.5, tmp_path, hooks=["planted_hook"])
    assert not [step for step in trainer.begun if "measure" in step]  # half a minute is left, a measure is guessed to take one
    trainer.begun.clear()
    call(1.2, tmp_path, hooks=["planted_hook"])
    assert trainer.begun[0] == "measure first/tinycnn-std-s0"


def test_a_network_from_elsewhere_is_not_measured(hook: SimpleNamespace, trainer: Trainer, tmp_path: Path) -> None:
    call(60, tmp_path)
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "stage" / "zoo").rename(tmp_path / "data" / "zoo")
    trainer.begun.clear()
    told = stage.stage(60, tmp_path / "another", report=lambda line: None, hooks=["planted_hook"], staged=STAGED)
    assert set(states(told).values()) == {"there"}
    assert trainer.begun == []


def test_a_measure_that_fails_costs_no_training_and_is_tried_again_by_the_next_call(
    hook: SimpleNamespace, trainer: Trainer, tmp_path: Path
) -> None:
    hook.broken = True
    call(60, tmp_path, hooks=["planted_hook"])
    assert [step for step in trainer.begun if step in IN_ORDER] == IN_ORDER
    assert trainer.begun.count(f"measure {IN_ORDER[0]}") == 1
    hook.broken = False
    trainer.begun.clear()
    call(60, tmp_path, hooks=["planted_hook"])
    assert trainer.begun == [f"measure {name}" for name in sorted(IN_ORDER, key=in_table)]


def test_a_hook_whose_imports_are_not_installed_is_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch, trainer: Trainer, tmp_path: Path
) -> None:
    (tmp_path / "needs_more.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    said: list[str] = []
    stage.stage(60, tmp_path / "stage", report=said.append, hooks=["needs_more"], staged=STAGED)
    assert said[0] == "needs_more measures nothing here: the Python module a_module_that_nobody_has is not installed"
    assert trainer.begun == IN_ORDER


# --- the summary


def test_the_summary_is_what_the_folder_holds(trainer: Trainer, tmp_path: Path) -> None:
    told = call(3.5, tmp_path)
    folder = tmp_path / "stage"
    assert json.loads((folder / "summary.json").read_text()) == told
    files = {network["file"] for network in told["networks"] if network["state"] == "there"}
    assert files == {str(path.relative_to(folder)) for path in (folder / "zoo").rglob("*.safetensors")}
    assert told["hardware"] == provenance.hardware("cpu")
    assert [network["seconds"] for network in told["networks"] if "seconds" in network] == [60.0, 120.0]
    assert told["bring_home"] == "cp -rn stage/zoo/. data/zoo/"
    log = (folder / "logs" / "first" / "tinycnn-std-s0.log").read_text().splitlines()
    assert log[0] == "     0.0 s  tinycnn-std-s0: training on 64 images"
    assert log[-1] == "    60.0 s  tinycnn-std-s0: epoch  4/4  loss 0.1"


def test_the_summary_is_true_after_a_kill_too(monkeypatch: pytest.MonkeyPatch, trainer: Trainer, tmp_path: Path) -> None:
    obtain = zoo.obtain

    def killed(spec: Spec, *arguments: Any) -> bool:
        if spec.scale == "second":
            raise KeyboardInterrupt
        return obtain(spec, *arguments)

    monkeypatch.setattr(zoo, "obtain", lambda spec, device, report, wait: killed(spec, device, report, wait))
    with pytest.raises(KeyboardInterrupt):
        call(60, tmp_path)
    told = json.loads((tmp_path / "stage" / "summary.json").read_text())
    assert told["counts"] == {"there": 3, "missing": 3}
    assert "REPROLIB_ZOO" not in os.environ


# --- real trainings


def run_planted(root: str) -> None:
    """What the process of the next test does; started by it."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, Path(root))
        patch.setattr(data, "load", bright_or_dark)
        stage.stage(5, Path(root) / "stage", staged=("first",), report=lambda line: print(line, flush=True))


def test_trainings_that_a_kill_and_a_deadline_cut_short_end_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = os.pathsep.join((str(Path(__file__).parent), str(REPOSITORY)))
    command = [sys.executable, "-u", "-c", f"import test_stage; test_stage.run_planted({str(tmp_path / 'disturbed')!r})"]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | pool.ONE_THREAD | {"PYTHONPATH": paths})
    assert killed.stdout is not None
    with killed.stdout as lines:
        next(line for line in lines if "tinycnn-std-s0: epoch  2/4" in line)
        killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL

    monkeypatch.setattr(data, "load", bright_or_dark)
    now, said = [0.0], []

    def report(line: str) -> None:
        said.append(line)
        now[0] += 400 * ("tinycnn-l2_075-s0: training" in line)  # an epoch of it takes the whole call

    def run(name: str) -> dict[str, Any]:
        plant(monkeypatch, tmp_path / name)
        said.clear()
        return stage.stage(5, tmp_path / name / "stage", report=report, staged=("first",))

    with monkeypatch.context() as patch:
        patch.setattr(budget, "clock", lambda: now[0])
        told = run("disturbed")
    assert states(told) == {
        "first/tinycnn-std-s0": "there",
        "first/tinycnn-std_matched-s0": "missing",
        "first/tinycnn-l2_075-s0": "interrupted",
    }
    assert not [line for line in said if "std-s0: epoch  1/4" in line]
    weights = {}
    for name in ("disturbed", "undisturbed"):
        told = run(name)
        assert told["counts"] == {"there": 2, "not applicable": 1}
        assert any("tinycnn-std-s0: training" in line for line in said) == (name == "undisturbed")
        assert any("tinycnn-l2_075-s0: epoch  1/4" in line for line in said) == (name == "undisturbed")
        weights[name] = {
            path.name: state_sha256(store.read_safetensors(path)[0]) for path in (tmp_path / name / "stage" / "zoo").rglob("*.safetensors")
        }
    assert len(weights["disturbed"]) == 2
    assert weights["disturbed"] == weights["undisturbed"]


# --- several processes


def test_a_process_is_told_everything_and_does_the_same_work(trainer: Trainer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    commands: list[list[str]] = []

    def started(command: list[str], **options: Any) -> subprocess.Popen[str]:
        commands.append(command)
        assert options["env"]["OMP_NUM_THREADS"] == "1"
        assert options["env"]["REPROLIB_ZOO"] == str(tmp_path / "stage" / "zoo")
        return run([sys.executable, "-S", "-c", f"print('working'); raise SystemExit({len(commands) - 1})"], stdout=-1, text=True)

    run = subprocess.Popen
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", started)
        with pytest.raises(ReprolibError, match=r"1 of 2 processes ended with exit code 1"):
            stage.stage(60, tmp_path / "stage", report=said.append, jobs=2, staged=STAGED)
    assert said == ["working"] * 2
    assert commands[0] == commands[1]
    assert commands[0][2:4] == ["-m", "reprolib.training.stage"]
    with stage._within(tmp_path / "stage"):
        assert stage._main(commands[0][4:]) == 0
    assert trainer.begun == IN_ORDER
    assert "tinycnn-std-s0: epoch  4/4" in capfd.readouterr().out


# --- the commands


def test_the_command_ends_with_what_there_is_and_the_next_command(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage.stage, "__defaults__", (*stage.stage.__defaults__[:-1], STAGED))  # type: ignore[index]
    trainer.broken.add("second/tinycnn-blur-s1")
    command = ["gpu-stage", "--minutes", "60", "--folder", str(tmp_path / "stage"), "--device", "cpu", "--train-only"]
    assert cli.main(command) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-4].startswith("5 there, 1 failed; 5 trained in this folder, on ")
    assert said[-3:-1] == [
        "tinycnn-blur-s1 of second failed: the training loss is not a number",
        "next: make gpu-stage MINUTES=60 STAGE=stage",
    ]
    trainer.broken.clear()
    assert cli.main(command) == 0
    assert cli.main(["gpu-stage", "--minutes", "-1"]) == 2


def test_what_is_not_installed_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("PIL", "filelock") else object())
    assert cli.main(["gpu-stage"]) == 3
    said = capsys.readouterr().err
    assert re.match(r"reprolib: \S+ lacks what training needs: pillow filelock; install it \(`\S+ -m pip install pillow filelock`\)", said)
    assert said.count("\n") == 1


def test_training_imports_nothing_but_what_the_command_looks_for() -> None:
    todo, seen, others = ["reprolib.training.stage"], set(), set()
    while todo:
        name = todo.pop()
        path = REPOSITORY.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            todo += [found for found in imported if found.startswith("reprolib")]
            others |= {found.split(".")[0] for found in imported}
    assert len(seen) > 20
    others.add("torchvision")  # imported where CIFAR-10 is read, which training at these scales does
    assert others - {"reprolib"} - set(sys.stdlib_module_names) == set(cli.NEEDED_TO_TRAIN)


def test_the_target_of_make_installs_nothing() -> None:
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "JOBS", "PYTHON", "VENV", "MINUTES", "STAGE")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    settings = ["MINUTES=3", "STAGE=out", "JOBS=4", "PYTHON=python3.12", "VENV=nowhere"]
    shown = subprocess.run(
        ["make", "-n", "gpu-stage", *settings], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "PYTHONPATH=. python3.12 -m reprolib gpu-stage --minutes 3 --folder out --jobs 4\n"
