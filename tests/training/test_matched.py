"""The matched control, and what else is made of networks and data that are not the scale's own: a tiny stand-in for scale smoke."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reprolib import data, scales, store
from reprolib.data.images import images
from reprolib.errors import BadInput, MissingData
from reprolib.perturb.attacks import predictions
from reprolib.training import zoo
from reprolib.training.recipes import RECIPES, Recipe
from reprolib.training.zoo import Spec

TINY = replace(scales.SMOKE, schedule=replace(scales.SMOKE.schedule, n_images=256, epochs=3, attack_steps=1))
STANDARD, ROBUST, MATCHED = (Spec(name, "tinycnn", TINY.dataset, 0, "smoke") for name in ("std", "l2_075", "std_matched"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository root with both arms of a three-epoch smoke scale, and the states of the standard one."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROLIB_ROOT", str(root))
        patch.setitem(scales.SCALES, "smoke", TINY)
        for spec in (STANDARD, ROBUST):
            zoo.obtain(spec, "cpu", lambda line: None)
    return root


@pytest.fixture
def robust_accuracy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """In a copy of that root: plant the robust network's clean accuracy."""
    shutil.copytree(made, tmp_path / "root")
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "root"))
    monkeypatch.setitem(scales.SCALES, "smoke", TINY)

    def plant(value: float) -> None:
        card = zoo.card_of(ROBUST)
        assert card is not None
        card["clean"]["first_value"] = value
        store.write_network(ROBUST.path, store.read_safetensors(ROBUST.path)[0], card, {"key": ROBUST.key})

    return plant


def accuracies() -> dict[str, float]:
    """Of each kept state of the standard network, on the test images."""
    test, net = data.load(TINY.dataset, "test"), zoo.load(STANDARD)
    found = {}
    for path in sorted(zoo.snapshot_folder(STANDARD).iterdir()):
        tensors, _ = store.read_safetensors(path)
        net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
        found[path.stem] = (predictions(net, test.x.float() / 255) == test.y).float().mean().item()
    return found


def test_the_matched_control_is_the_state_as_accurate_as_the_robust_network(robust_accuracy: Callable[[float], None]) -> None:
    kept = accuracies()
    final = zoo.load(STANDARD).card["clean"]["first_value"]
    target = next(value for value in sorted(kept.values()) if final - value > 0.02)
    robust_accuracy(target)
    lines: list[str] = []
    assert zoo.obtain(MATCHED, "cpu", lines.append)
    network = zoo.load(MATCHED)
    told = network.card["matching"]
    epoch = f"{told['epoch']:07.3f}"
    assert epoch == min(name for name, value in kept.items() if value == target)
    assert told["matched"]
    assert (told["accuracy"], told["robust_accuracy"], told["distance"]) == (target, target, 0)
    assert (told["standard"], told["robust"], told["n"]) == ("tinycnn-std-s0", "tinycnn-l2_075-s0", 200)
    assert network.card["clean"]["first_value"] == target
    state, _ = store.read_safetensors(zoo.snapshot_folder(STANDARD) / f"{epoch}.safetensors")
    for name, tensor in network.state_dict().items():  # BatchNorm's statistics are that state's too
        assert torch.equal(tensor, state[name].to(tensor.dtype)), name
    shipped, _ = store.read_safetensors(MATCHED.path)
    assert {t.dtype for t in shipped.values() if t.dim() > 1} == {torch.bfloat16}
    assert any("kept; clean" in line for line in lines)
    assert not network.training


def test_a_control_that_nothing_matches_says_so_on_its_card(robust_accuracy: Callable[[float], None]) -> None:
    kept = accuracies()
    robust_accuracy(min(kept.values()) - 0.021)
    lines: list[str] = []
    assert zoo.obtain(MATCHED, "cpu", lines.append)
    card = zoo.card_of(MATCHED)
    assert card is not None
    assert card["matching"]["matched"] is False
    assert card["matching"]["distance"] == pytest.approx(0.021)
    assert any("no state lies within 2%" in line for line in lines)


def test_arms_that_are_equally_accurate_need_no_matched_control(robust_accuracy: Callable[[float], None]) -> None:
    robust_accuracy(zoo.load(STANDARD).card["clean"]["first_value"] - 0.015)
    lines: list[str] = []
    assert not zoo.obtain(MATCHED, "cpu", lines.append)
    assert lines == [f"{MATCHED.name}: not applicable: {zoo.not_applicable(MATCHED)}"]
    assert "differ by under 2 points" in lines[0]
    assert not MATCHED.path.exists()
    with pytest.raises(MissingData, match="tinycnn-std_matched-s0 of scale smoke is not applicable: clean accuracies"):
        zoo.load(MATCHED)


def test_states_that_are_missing_or_damaged_are_made_again_and_give_the_same_network(robust_accuracy: Callable[[float], None]) -> None:
    robust_accuracy(0.6)
    zoo.obtain(MATCHED, "cpu", lambda line: None)
    before = zoo.load(MATCHED).sha256
    MATCHED.path.unlink()
    weights = STANDARD.path.stat().st_mtime_ns
    (zoo.snapshot_folder(STANDARD) / "002.000.safetensors").unlink()
    state = zoo.snapshot_folder(STANDARD) / "001.000.safetensors"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    lines: list[str] = []
    zoo.obtain(MATCHED, "cpu", lines.append)
    assert f"{state} is damaged (its checksum is of other content): it is made anew" in lines
    assert "tinycnn-std-s0: training again, for its states" in lines
    assert zoo.load(MATCHED).sha256 == before
    assert STANDARD.path.stat().st_mtime_ns == weights
    assert not list((store.root() / "data" / "training").rglob("*.safetensors"))


def test_the_key_of_a_matched_control_hangs_on_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    key = MATCHED.key
    assert Spec("std_matched", "tinycnn", TINY.dataset, 1, "smoke").key != key
    for arm in ("std", "l2_075"):
        with monkeypatch.context() as patch:
            patch.setitem(RECIPES, arm, replace(RECIPES[arm], version=2))
            assert MATCHED.key != key
    assert MATCHED.key == key


def test_a_robust_card_says_whether_adversarial_training_did_its_work(made: Path, robust_accuracy: Callable[[float], None]) -> None:
    standard, robust = zoo.card_of(STANDARD), zoo.card_of(ROBUST)
    assert standard is not None
    assert robust is not None
    told = robust["manipulation"]
    assert told["standard"] == standard["adversarial"][0]["first_value"]
    assert told["robust"] == robust["adversarial"][0]["first_value"]
    assert told["difference"] == pytest.approx(told["robust"] - told["standard"])
    assert told["holds"] == (told["difference"] >= 0.2)
    del robust["manipulation"]  # a card of before is read together with its twin's
    store.write_network(ROBUST.path, store.read_safetensors(ROBUST.path)[0], robust, {"key": ROBUST.key})
    assert zoo.manipulation(ROBUST) == told
    assert zoo.manipulation(STANDARD) is None


def test_a_robust_arm_that_does_not_differ_is_said_so(robust_accuracy: Callable[[float], None]) -> None:
    small = Spec("l2_025", "tinycnn", TINY.dataset, 0, "smoke")
    lines: list[str] = []
    zoo.obtain(small, "cpu", lines.append)
    card = zoo.card_of(small)
    assert card is not None
    told = card["manipulation"]
    assert (told["norm"], told["eps"]) == ("l2", 0.25)  # its own ball, at which the standard network was measured for this
    assert told["holds"] == (not any("fails the manipulation check" in line for line in lines))
    assert not told["holds"]  # at this radius and budget a standard network of smoke is as robust


# --- other data sets, other schedules


@pytest.fixture
def grey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set "grey" of 28 px, one channel and three classes of brightness, in a root of its own."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.setitem(scales.SCALES, "smoke", TINY)

    def load(name: str, split: str) -> object:
        y = torch.arange(96) % 3
        x = torch.rand(96, 1, 28, 28, generator=torch.Generator().manual_seed(len(split))) * 60 + 80 * y.view(-1, 1, 1, 1)
        return images(x.to(torch.uint8), y, ("dark", "grey", "bright"), name)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(data, "NAMES", (*data.NAMES, "grey"))
    monkeypatch.setattr(data, "fingerprint", lambda name: name)
    monkeypatch.setattr(data, "normaliser", lambda name: ((0.4,), (0.3,)))


def test_a_network_of_another_set_has_that_sets_channels_size_and_classes(grey: None) -> None:
    spec = zoo.spec_of("lenet-std-s0-grey", "smoke")
    assert spec == Spec("std", "lenet", "grey", 0, "smoke")
    assert spec.name == "lenet-std-s0-grey"
    assert zoo.obtain(spec, "cpu", lambda line: None)
    network = zoo.load(spec)
    assert network.card["name"] == spec.name
    assert network.card["data"]["name"] == "grey"
    assert network.card["clean"]["n"] == 96
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 3)


def test_a_recipe_may_train_on_fewer_images_for_more_epochs(grey: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "std_40", Recipe("std_40", n_images=40, epochs=5))
    spec = Spec("std_40", "tinycnn", "grey", 0, "smoke")
    assert (spec.schedule.n_images, spec.schedule.epochs) == (40, 5)
    assert spec.description()["schedule"]["epochs"] == 5
    lines: list[str] = []
    zoo.obtain(spec, "cpu", lines.append)
    card = zoo.card_of(spec)
    assert card is not None
    assert len(card["training"]["history"]) == 5
    assert lines[0] == "tinycnn-std_40-s0-grey: training on 40 images of grey"


def test_names_are_read_back_and_what_is_unknown_in_them_is_named() -> None:
    for name in ("tinycnn-std-s0", "tinycnn-std-s11-shapetexture", "lenet-l2_075-s3"):
        assert zoo.spec_of(name, "smoke").name == name
    assert zoo.spec_of("tinycnn-std-s0-shapetexture_gratings", "smoke").name == "tinycnn-std-s0"
    assert zoo.spec_of("tinycnn-std-s0-shapetexture", "laptop").name == "tinycnn-std-s0"
    with pytest.raises(BadInput, match="data set 'shapetextur' is unknown; .*did you mean 'shapetexture'"):
        zoo.spec_of("tinycnn-std-s0-shapetextur", "smoke")
    with pytest.raises(BadInput, match="architecture 'w88' is unknown; .*did you mean 'w8'"):
        zoo.spec_of("w88-std-s0", "cifar")
    with pytest.raises(BadInput, match="is not <architecture>-<recipe>-s<seed>"):
        zoo.spec_of("w8-std-s0-cifar10-more", "cifar")


def test_the_key_knows_the_set_and_not_the_name() -> None:
    own, other = zoo.spec_of("tinycnn-std-s0", "laptop"), zoo.spec_of("tinycnn-std-s0-shapetexture_gratings", "laptop")
    assert own.key != other.key
    assert json.dumps(own.description(), sort_keys=True).replace(own.description()["data"], "") == json.dumps(
        other.description(), sort_keys=True
    ).replace(other.description()["data"], "")


def test_architectures_without_batch_norm_have_a_learning_rate_of_their_own() -> None:
    assert Spec("std", "lenet", "shapetexture", 0, "laptop").schedule.peak_lr == scales.PEAK_LR["lenet"] < scales.LAPTOP.schedule.peak_lr
    assert Spec("std", "tinycnn", "shapetexture", 0, "laptop").schedule == scales.LAPTOP.schedule
