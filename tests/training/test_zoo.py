from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from reprolib import scales, store
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.models.networks import weights_sha256
from reprolib.training import zoo
from reprolib.training.zoo import Spec

SPEC = Spec("std", "tinycnn", "shapetexture_gratings", 0, "smoke")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository root in which one smoke network has been trained."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROLIB_ROOT", str(root))
        zoo.network("std", "tinycnn", "shapetexture_gratings", 0, "smoke")
    return root


def test_a_trained_network_is_loaded_not_trained_again(root: Path) -> None:
    before = SPEC.path.stat().st_mtime_ns
    lines: list[str] = []
    one = zoo.network("std", "tinycnn", "shapetexture_gratings", 0, "smoke", report=lines.append)
    assert lines == []
    assert SPEC.path.stat().st_mtime_ns == before
    assert one.sha256 == one.card["sha256"] == weights_sha256(one)
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_a_card_tells_what_was_asked_for(root: Path) -> None:
    card = zoo.card_of(SPEC)
    assert card is not None
    assert card["description"] == SPEC.description()
    assert card["clean"]["n"] == 200
    attack = card["adversarial"][0]
    assert (attack["norm"], attack["eps"], attack["steps"], attack["restarts"], attack["start"]) == (
        "l2",
        scales.SMOKE.eps,
        20,
        3,
        "random",
    )
    assert attack["value"] <= attack["noise"] + 0.05  # an attack is worse than noise of its norm
    assert {"seconds", "precision", "history"} <= set(card["training"])
    assert str(root) not in json.dumps(card)


def test_the_files_leave_nothing_else_behind(root: Path) -> None:
    names = {p.suffix for p in SPEC.path.parent.iterdir()}
    assert names <= {".safetensors", ".json", ".lock"}
    assert not list((root / "data" / "training").rglob("*.safetensors"))


def test_the_key_does_not_hang_on_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for precision in ("auto", "fp32", "bf16"):
        monkeypatch.setenv("REPROLIB_PRECISION", precision)
        keys.add(Spec("std", "tinycnn", "shapetexture_gratings", 0, "smoke").key)
    assert keys == {SPEC.key}


def test_the_key_hangs_on_meaning_alone() -> None:
    keys = {
        SPEC.key,
        Spec("l2_075", "tinycnn", "shapetexture_gratings", 0, "smoke").key,
        Spec("std", "pool", "shapetexture_gratings", 0, "smoke").key,
        Spec("std", "tinycnn", "shapetexture", 0, "smoke").key,
        Spec("std", "tinycnn", "shapetexture_gratings", 1, "smoke").key,
        Spec("std", "tinycnn", "shapetexture_gratings", 0, "laptop").key,
    }
    assert len(keys) == 6
    assert Spec("std", "tinycnn", "shapetexture_gratings", 0, "smoke").key == SPEC.key


def test_committed_networks_have_the_keys_the_code_asks_for() -> None:
    for scale in ("laptop", "cifar"):
        for card in (Path(__file__).parents[2] / "data" / "zoo" / scale).glob("*.json"):
            told = json.loads(card.read_text())
            spec = zoo.spec_of(told["name"], scale)
            assert told["key"] == spec.key, f"{card.name} was trained for another meaning: retrain it or restore what changed"
            assert card.stem == spec.path.stem


def test_a_network_of_unknown_name_is_refused() -> None:
    with pytest.raises(BadInput, match="is not <architecture>-<recipe>-s<seed>"):
        zoo.spec_of("w8-l2_05", "cifar")


def test_a_missing_network_says_how_to_train_it(root: Path) -> None:
    with pytest.raises(MissingData, match="reprolib train --scale smoke --only tinycnn-l2_075-s3"):
        zoo.load(Spec("l2_075", "tinycnn", "shapetexture_gratings", 3, "smoke"))


def test_altered_weights_are_refused(root: Path) -> None:
    tensors, metadata = store.read_safetensors(SPEC.path)
    tensors["linear.bias"] = tensors["linear.bias"] + 0.01
    store.write_safetensors(SPEC.path, tensors, metadata)
    with pytest.raises(CorruptFile, match="is not the card's"):
        zoo.load(SPEC)


def test_truncated_weights_are_refused(root: Path) -> None:
    SPEC.path.write_bytes(SPEC.path.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match="delete"):
        zoo.load(SPEC)


def test_a_web_page_and_a_pickle_are_refused_and_not_run(root: Path) -> None:
    for content, words in (
        (b"<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
        (b"\x80\x04\x95cos\nsystem\n", "it is a pickle"),
        (b"", "empty"),
    ):
        SPEC.path.write_bytes(content)
        with pytest.raises(CorruptFile, match=words):
            zoo.load(SPEC)


def test_a_network_that_another_process_trains_is_left_to_it(root: Path) -> None:
    spec = Spec("std", "tinycnn", "shapetexture_gratings", 1, "smoke")
    with store.lock(spec.path):
        import threading

        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(zoo.obtain(spec, "cpu", lambda line: None, wait=False)))
        thread.start()
        thread.join()
    assert answers == [False]
    assert not spec.path.exists()


def test_shipped_weights_are_bf16_only_where_the_accuracy_stays(root: Path) -> None:
    card = zoo.card_of(SPEC)
    assert card is not None
    tensors, _ = store.read_safetensors(SPEC.path)
    wanted = torch.bfloat16 if card["weights"] == "bf16" else torch.float32
    assert {t.dtype for t in tensors.values() if t.dim() > 1} == {wanted}
    assert all(t.dtype != torch.bfloat16 for t in tensors.values() if t.dim() <= 1)
