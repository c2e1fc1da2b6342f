"""One flipped bit in any file that numbers come from never gives another number without a word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import CorruptFile
from reprolib.judging.tidy import read_rows, write_rows
from reprolib.models.networks import build, state_sha256, weights_sha256
from reprolib.scales import Schedule
from reprolib.training import zoo
from reprolib.training.loop import train
from reprolib.training.recipes import recipe
from reprolib.training.states import at

SPEC = zoo.Spec("untrained", "tinycnn", "shapetexture_gratings", 0, "smoke")
N_FLIPS = 50
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def flipped(path: Path) -> Iterator[str]:
    """One bit of the file after the other, flipped: anywhere, and as often in the header of a safetensors file; mended at the end."""
    content, generator = path.read_bytes(), np.random.default_rng(0)
    bits = generator.integers(8 * len(content), size=N_FLIPS).tolist()
    if path.suffix == ".safetensors":
        bits += generator.integers(8 * (8 + int.from_bytes(content[:8], "little")), size=N_FLIPS).tolist()
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        yield f"bit {bit % 8} of byte {bit // 8} of {path.name}"
    path.write_bytes(content)


def refusals(path: Path, read: Callable[[], object]) -> int:
    """How many flips were refused; every other one must leave what is read as it was."""
    whole, said = read(), []
    for where in flipped(path):
        try:
            assert read() == whole, where
        except CorruptFile as error:
            said.append(str(error))
    assert all(path.stem in sentence and "\n" not in sentence for sentence in said)
    return len(said)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROLIB_ROOT", str(root))
        zoo.obtain(SPEC, "cpu", lambda line: None)
    return root


def loaded() -> tuple[str, str, object]:
    network = zoo.load(SPEC)
    return weights_sha256(network), network.sha256, network.card


def test_a_network_with_a_flipped_bit_is_refused(root: Path) -> None:
    assert refusals(SPEC.path, loaded) >= 2 * N_FLIPS - 10  # a key that nobody reads is no number


def test_a_card_with_a_flipped_bit_is_refused_and_so_is_it_without_its_weights(root: Path) -> None:
    card = SPEC.path.with_suffix(".json")
    assert refusals(card, loaded) >= N_FLIPS // 2  # the others hit white space
    assert refusals(card, lambda: zoo.card_of(SPEC)) >= N_FLIPS // 2


def test_an_accuracy_that_somebody_raised_is_noticed(root: Path) -> None:
    beside = SPEC.path.with_suffix(".json")
    card = json.loads(beside.read_text())
    card["clean"]["first_value"] += 0.4
    store.write_json(beside, card)
    for read in (zoo.load, zoo.card_of, zoo.manipulation):
        with pytest.raises(
            CorruptFile, match=r"is not the card that .* was written with .*; restore weights and card \(`git checkout .*train again$"
        ):
            read(SPEC)


def test_a_cache_entry_with_a_flipped_bit_is_measured_again_with_a_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = []

    def compute() -> dict[str, Tensor]:
        measured.append(1)
        return {"x": torch.arange(60.0).view(3, 20), "n": torch.tensor(7)}

    whole = store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)
    [path] = (repository / "data" / "cache" / "kind").glob("*.safetensors")
    n = 1
    for where in flipped(path):
        kept = store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)
        assert all(torch.equal(kept[name], whole[name]) for name in whole), where
        said = capsys.readouterr().err
        assert said.count("\n") == len(measured) - n, where
        if said:
            assert str(path) in said
            assert said.endswith(": measured again\n")
        n = len(measured)
    assert n > N_FLIPS


def test_a_training_state_with_a_flipped_bit_leads_to_the_same_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(32) % 2
    state, schedule = tmp_path / "state.safetensors", Schedule(n_images=32, epochs=2, attack_steps=1, batch_size=16)

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        raise Stop

    def weights(report: Callable[[object], None] = lambda progress: None) -> tuple[str, int]:
        network = build("tinycnn", 2, MEAN, STD, seed=0)
        told = train(network, x, y, recipe("std"), schedule, 0, ("l2", 0.5), state, precision="fp32", report=report)
        return weights_sha256(network), len(told["history"])

    with pytest.raises(Stop):
        weights(stop)
    after_one = state.read_bytes()
    whole = weights()
    state.write_bytes(after_one)
    begun_again = []
    for i, where in enumerate(flipped(state)):
        if i % 5 == 0:  # each is a training
            assert weights() == whole, where
            begun_again.append(capsys.readouterr().err.endswith(": the training begins again\n"))
    assert sum(begun_again) >= 0.9 * len(begun_again) > 10


def test_a_snapshot_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    network = build("tinycnn", 2, MEAN, STD, seed=0)
    path = store.write_safetensors(tmp_path / "001.000.safetensors", {name: t.bfloat16() for name, t in network.state_dict().items()})
    assert refusals(path, lambda: weights_sha256(at(network, path))) >= 2 * N_FLIPS - 10


def test_rows_with_a_flipped_bit_are_refused(tmp_path: Path) -> None:
    rows = pd.DataFrame({
        "claim": "INV-1", "quantity": "q", "arm": "standard", "recipe": "std", "architecture": "w8", "seed": 0, "network": "0123456789ab",
        "unit": [f"u{i}" for i in range(300)], "unit_2": "", "value": np.random.default_rng(0).normal(size=300), "reached": True,
    })  # fmt: skip
    path = write_rows(tmp_path / "rows.csv.gz", rows)
    path = path.rename(tmp_path / "rows")  # so that every refusal names it
    assert refusals(path, lambda: read_rows(path).to_csv()) >= N_FLIPS - 5


def unsealed(path: Path) -> None:
    """Take a file's checksum and its card's key away."""
    content = path.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:size])
    header["__metadata__"] = {"key": header["__metadata__"]["key"]} if "key" in header["__metadata__"] else {"format": "pt"}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[size:])


def test_a_network_without_a_checksum_is_refused(root: Path) -> None:
    unsealed(SPEC.path)
    for read in (zoo.load, zoo.card_of):
        with pytest.raises(CorruptFile, match="does not say which card is its own; restore weights and card"):
            read(SPEC)
    with pytest.raises(CorruptFile, match="carries no checksum .*; delete it and run again"):
        store.read_safetensors(SPEC.path)


def test_every_committed_network_is_sealed_and_is_what_its_card_says() -> None:
    for path in (Path(__file__).parents[1] / "data" / "zoo").rglob("*.safetensors"):
        tensors, metadata = store.read_safetensors(path)
        assert store.read_card(path)["sha256"] == state_sha256(tensors), path.name
        assert metadata["key"] == store.read_card(path)["key"]
