"""Networks without a class: what they are trained on, what stays of them, and that nothing is trained twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reprolib import cli, data, scales, store
from reprolib.data import factorial
from reprolib.errors import BadInput, MissingData
from reprolib.measures import raw_zero_shot
from reprolib.models.layers import features
from reprolib.models.networks import build, weights_sha256
from reprolib.perturb.attacks import predictions
from reprolib.training import leave_one_out, pool, zoo
from reprolib.training.leave_one_out import obtain, soft_labels
from reprolib.training.loop import train
from reprolib.training.points import SETTINGS, TABLE, Point, networks, point_of, points
from reprolib.training.recipes import recipe
from reprolib.training.specs import snapshot_folder, state_path

REPOSITORY = Path(__file__).parents[2]
FULL = point_of("loo-tinycnn-std-s0-shapetexture_factorial_small", "smoke")
WITHOUT = replace(FULL, excluded=1)


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root in which one point is trained."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROLIB_ROOT", str(root))
        leave_one_out.train_points("smoke", only=[FULL.name], report=quiet)
        yield root


def worker(root: Path, *names: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", leave_one_out.MODULE, "smoke", "cpu", "inf", *names]
    environment = os.environ | {"REPROLIB_ROOT": str(root)}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_network_without_a_class_never_saw_it_and_answers_for_it(made: Path) -> None:
    training, test = (data.load(factorial.SMALL, split) for split in ("train", "test"))
    kept = training.y != 1
    net = build("tinycnn", 3, *data.normaliser(factorial.SMALL), 0, size_px=20)
    labels = torch.tensor([0, -1, 1, 2])[training.y[kept]]
    preset = scales.scale("smoke")
    train(net, training.x[kept], labels, recipe("std"), FULL.schedule, 0, (preset.norm, preset.eps))
    found = soft_labels(FULL)
    assert found.without.shape == (4, 50, 3)
    assert found.networks[1]["sha256"] == weights_sha256(net)
    asked = test.x[test.y == 1][:50].float() / 255
    with torch.no_grad():
        wanted = net(asked).log_softmax(dim=1)
        code = features(net, asked, ["pooled"])["pooled"]
    torch.testing.assert_close(found.without[1], wanted, rtol=2**-11, atol=1e-6)
    assert found.networks[1]["features"] == pytest.approx(raw_zero_shot.davies_bouldin_metric_normalised(code))
    others = test.y != 1
    given = predictions(net, test.x[others].float() / 255)
    assert found.networks[1]["accuracy"] == pytest.approx((given == torch.tensor([0, -1, 1, 2])[test.y[others]]).double().mean().item())
    assert found.networks[1]["dbi"] > 0


def test_the_full_network_is_one_of_the_zoos_with_its_card(made: Path) -> None:
    found, net = soft_labels(FULL), zoo.load(FULL)
    test = data.load(factorial.SMALL, "test")
    assert found.card == json.loads(json.dumps(net.card))
    with torch.no_grad():
        wanted = net(test.x[test.y == 2].float() / 255).log_softmax(dim=1)
    torch.testing.assert_close(found.full[2], wanted, rtol=2**-11, atol=1e-6)
    assert found.full.shape == (4, 50, 4)
    rows = found.without.exp().flatten(0, 1)
    assert raw_zero_shot.mean_entropy(rows) > 0  # what is kept passes for soft labels, fp16 and all
    n = sum(state.suffix == ".safetensors" for state in snapshot_folder(WITHOUT).iterdir()) if WITHOUT.snapshots_per_epoch else 0
    assert n == 4 * FULL.schedule.epochs * bool(WITHOUT.snapshots_per_epoch)


def test_a_killed_training_goes_on_with_the_network_it_was_at(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [one.name for one in networks([FULL])]
    killed = worker(tmp_path, *names)
    assert killed.stdout is not None
    with killed.stdout as lines:
        for line in lines:
            if line.startswith(f"{WITHOUT.name}: epoch  1/2"):
                break
        killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    wanted = soft_labels(FULL)
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    assert replace(FULL, excluded=0).path.exists()
    assert not WITHOUT.path.exists()
    said: list[str] = []
    leave_one_out.train_points("smoke", only=[FULL.name], report=said.append)
    text = "\n".join(said)
    assert [re.findall(rf"{one.name}: epoch +(\d)/2", text) for one in networks([FULL])] == [[], [], ["2"], ["1", "2"], ["1", "2"]]
    assert text.startswith("0 of 1 points without a class there, 3 networks missing: about ")
    found = soft_labels(FULL)
    assert torch.equal(found.without, wanted.without)
    assert [one["sha256"] for one in found.networks] == [one["sha256"] for one in wanted.networks]
    assert not state_path(WITHOUT).exists()


def test_two_processes_share_the_work_and_train_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    said: list[str] = []
    leave_one_out.train_points("smoke", jobs=2, only=[FULL.name], report=said.append)
    text = "\n".join(said)
    for one in networks([FULL]):
        assert len(re.findall(rf"^{one.name}: kept; ", text, re.MULTILINE)) == 1
        assert len(re.findall(rf"^{one.name}: training", text, re.MULTILINE)) == 1
    assert soft_labels(FULL).without.shape == (4, 50, 3)
    said.clear()
    leave_one_out.train_points("smoke", jobs=2, only=[FULL.name], report=said.append)
    assert said == []


def test_a_robust_point_alone_has_its_standard_network_trained_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    handed: list[Point] = []
    monkeypatch.setattr(leave_one_out.pool, "train_specs", lambda specs, *rest: handed.extend(specs))
    robust = replace(FULL, recipe=FULL.setting.robust)
    leave_one_out.train_points("smoke", only=[robust.name], report=quiet)
    assert handed == [FULL, *networks([robust])]  # or its card knows no difference to it
    handed.clear()
    leave_one_out.train_points("smoke", only=[robust.name, FULL.name], report=quiet)
    assert handed.count(FULL) == 1


def test_full_networks_that_are_here_answer_once_more(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = soft_labels(FULL)
    assert leave_one_out.furthest(FULL, kept) == pytest.approx(0, abs=1e-3)
    assert leave_one_out.furthest(FULL, kept, k=2) == pytest.approx(0, abs=1e-3)
    other = replace(kept, full=kept.full.flip(0))
    assert (leave_one_out.furthest(FULL, other) or 0) > 0.1
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    assert leave_one_out.furthest(FULL, kept) is None  # the network is not here


def test_a_point_with_its_file_needs_none_of_its_networks(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, there = soft_labels(FULL), FULL.file
    zoo_there = zoo.zoo_folder()
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    with pytest.raises(MissingData, match=f"`reprolib train --scale smoke --only {FULL.name}`"):
        soft_labels(FULL)
    leave_one_out.bring_in("smoke", zoo_there)
    assert FULL.file.read_bytes() == there.read_bytes()
    leave_one_out.train_points("smoke", only=[FULL.name], report=pytest.fail)
    assert torch.equal(soft_labels(FULL).full, wanted.full)
    listed = leave_one_out.list_points("smoke").set_index("point")
    row = listed.loc[FULL.name]
    assert (row["state"], row["clean"]) == ("there", wanted.card["clean"]["value"])
    seconds = wanted.card["training"]["seconds"] + sum(one["seconds"] for one in wanted.networks)
    assert row["minutes"] == f"{seconds / 60:.1f}"
    assert set(listed["state"].drop(FULL.name)) == {"missing"}
    assert listed.loc["loo-lenet-std-s0-shapetexture_factorial_small", "minutes"] == "~0.3"


def test_an_untrained_network_is_kept_as_it_was_initialised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    point = replace(WITHOUT, recipe="untrained")
    assert obtain(point, "cpu", quiet)
    told = json.loads(store.read_safetensors(point.path)[1]["told"])
    net = build("tinycnn", 3, *data.normaliser(factorial.SMALL), 0, size_px=20)
    training = data.load(factorial.SMALL, "train")
    leave_one_out.estimate_batch_norm(net, training.x[training.y != 1])
    assert told["sha256"] == weights_sha256(net)
    assert told["seconds"] == 0


def test_a_matched_network_is_the_state_at_the_epoch_of_the_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    entries = [e for e in TABLE["smoke"] if e.architecture == "tinycnn" and e.recipe in ("std", "l2_075")]
    matched = replace(entries[0], recipe="std_matched")
    monkeypatch.setitem(TABLE, "smoke", (*entries, matched))
    full = replace(FULL, recipe="std_matched")
    one = replace(full, excluded=1)
    assert [arm.excluded for arm in one.arms()] == [None, None]
    monkeypatch.setattr(zoo.matching, "not_applicable", lambda standard, robust: "")
    assert not obtain(one, "cpu", quiet)  # its full network chooses first
    assert obtain(full, "cpu", quiet)
    said: list[str] = []
    assert obtain(one, "cpu", said.append)
    epoch = zoo.card_of(full)["matching"]["epoch"]  # type: ignore[index]
    assert epoch * 4 == int(epoch * 4)
    assert f"{WITHOUT.name}: epoch  2/2" in "\n".join(said)  # no states of it were there
    told = json.loads(store.read_safetensors(one.path)[1]["told"])
    assert not list(snapshot_folder(WITHOUT).glob("*.safetensors"))
    net = build("tinycnn", 3, *data.normaliser(factorial.SMALL), 0, size_px=20)
    leave_one_out._train(WITHOUT, net, data.load(factorial.SMALL, "train"), quiet)
    state, _ = store.read_safetensors(snapshot_folder(WITHOUT) / f"{epoch:07.3f}.safetensors")
    net.load_state_dict(state)
    assert told["sha256"] == weights_sha256(net)


def test_keys_hang_on_the_class_and_the_schedule_and_leave_the_shared_networks_theirs() -> None:
    shared = zoo.spec_of("tinycnn-std-s0", "cifar")
    point = point_of("loo-tinycnn-std-s0", "cifar")
    keys = {one.key for one in (shared, *networks([point]), replace(point, seed=1), replace(point, scale="laptop", dataset=factorial.NAME))}
    assert len(keys) == 14
    assert shared.path.name == "tinycnn-std-s0-7c7ffc1bb213.safetensors"  # as it is committed
    assert (point.schedule.n_images, point.schedule.epochs, point.schedule.attack_steps, point.schedule.peak_lr) == (10_000, 8, 2, 0.2)
    assert point_of("loo-lenet-linf_8-s1", "cifar").schedule.peak_lr == scales.PEAK_LR["lenet"]
    for one in networks([point]):
        assert point_of(one.name, "cifar") == one
        assert replace(one, scale="cifar").full == point


def test_the_table_holds_the_points_of_the_page_full_networks_first() -> None:
    cifar = [p for p in points("cifar") if p.dataset == "cifar10" and p.recipe not in ("std_matched", "untrained")]
    assert len({(p.architecture, p.recipe) for p in cifar}) == 26
    assert {p.architecture for p in cifar} == {"mlp", "lenet", "tinycnn", "pool", "resnet8"}
    assert (
        {p.architecture for p in cifar if p.seed == 1}
        == {p.architecture for p in cifar if p.recipe == "linf_2"}
        == {"mlp", "lenet", "tinycnn"}
    )
    fashion = {(p.architecture, p.recipe, p.seed) for p in points("cifar") if p.dataset == "fashion_mnist"}
    assert fashion == {(name, "std", seed) for name in ("capsnet_small", "lenet", "tinycnn") for seed in (0, 1, 2)}
    laptop = points("laptop")
    assert {p.recipe for p in laptop} >= {"std", "label_smoothing", "gauss_10", "l2_075"}
    assert all(sum(p.recipe == name for p in laptop) == 3 for name in {p.recipe for p in laptop})
    for scale in TABLE:
        table = points(scale)
        assert len({p.name for p in table}) == len(table)
        for i, point in enumerate(table):
            assert recipe(point.recipe).id == point.recipe
            assert point.minutes > 0
            assert (scale, point.dataset) in SETTINGS
            assert len(data.load(point.dataset, "test").classes) == point.setting.n_classes if "factorial" in point.dataset else True
            if recipe(point.recipe).norm or recipe(point.recipe).matched:  # behind what they are compared with
                assert all(arm in table[: i + 1] for arm in point.arms() if arm.recipe == "std" or recipe(point.recipe).matched)
        order = networks(table)
        assert order[: len(table)] == table
        assert all(one.excluded is not None for one in order[len(table) :])
    assert pool.estimated_minutes(point_of("loo-mlp-linf_8-s0-without3", "cifar")) == pytest.approx(3 / 11)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tinycnn-std-s0", "'tinycnn-std-s0' is not loo-<architecture>-<recipe>-s<seed>, with -without<class> behind it"),
        ("loo-tinycnn-std-s0-without10", "lacks a class outside 0 to 9"),
        ("loo-tinycnn-std-s0-fashion", "data set 'fashion' is unknown"),
        ("loo-tinycnn-std-s0-shapetexture-without1", "no networks without a class are trained on shapetexture at scale cifar; allowed: "),
    ],
)
def test_a_name_of_no_point_is_refused(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        point_of(name, "cifar").setting  # noqa: B018


def test_the_command_works_points_off_after_the_shared_table_and_lists_them(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(pool, "train_specs", lambda wanted, *given: begun.extend(one.name for one in wanted))
    assert cli.main(["train", "--scale", "smoke", "--jobs", "1", "--device", "cpu"]) == 0
    shared = [spec.name for spec in pool.specs("smoke")]
    assert begun == [*shared, *(one.name for one in networks([p for p in points("smoke") if p != FULL]))]
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:1] == ["point"])
    assert lines[head - 1].startswith("smoke: 0 there")
    assert [line.split()[0] for line in lines[head + 1 : -1]] == [p.name for p in points("smoke")]
    assert re.match(r"smoke: 1 of \d points without a class there, \d+ networks missing: about \d min left, 1 at a time", lines[-1])
    begun.clear()
    assert cli.main(["train", "--scale", "smoke", "--jobs", "1", "--device", "cpu", "--only", "loo-lenet-*"]) == 0
    assert begun == [one.name for one in networks([p for p in points("smoke") if p.architecture == "lenet"])]
    assert "tinycnn" not in capsys.readouterr().out
    assert cli.main(["train", "--scale", "smoke", "--list", "--only", "loo-resnet8-*"]) == 2
    assert "--only 'loo-resnet8-*' matches no point of scale smoke; allowed: loo-tinycnn-std-s0" in capsys.readouterr().err


def test_points_whose_data_is_not_here_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    said: list[str] = []
    leave_one_out.train_points("cifar", only=["loo-mlp-std-*"], report=said.append)
    assert len(said) == 1
    assert said[0].startswith("cifar10 is not here, 2 points wait for it: `reprolib data fetch cifar10`")


def test_every_committed_file_of_soft_labels_is_whole_and_of_a_point_of_the_table() -> None:
    for scale in TABLE:
        known = {point.file.name: point for point in points(scale)}
        for path in (REPOSITORY / "data" / "soft_labels" / scale).glob("*.safetensors"):
            tensors, told = store.read_safetensors(path)
            point = known[path.name]
            n, asked = point.setting.n_classes, point.setting.n_asked
            assert (tensors["full"].shape, tensors["without"].shape) == ((n, asked, n), (n, asked, n - 1))
            assert told["key"] == point.key == json.loads(told["card"])["key"]


def test_a_point_is_a_spec_like_any_other_to_the_pool() -> None:
    assert isinstance(FULL, Point)
    assert isinstance(FULL, zoo.Spec)
    assert FULL.path.parent != FULL.file.parent != zoo.zoo_folder() / "smoke"
