"""What is written is whole or not there, what is measured is measured once, and a broken file is said to be broken."""

import errno
import hashlib
import json
import math
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from reprolib import cli, data, store
from reprolib.code_hash import code_of
from reprolib.errors import CorruptFile, MissingData, ReprolibError, StorageError
from reprolib.run import runner
from reprolib.training.specs import zoo_folder

HOLD = """
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(number: int):
    def fail(*arguments, **settings):
        raise OSError(number, os.strerror(number))

    return fail


# --- writing


def test_a_file_is_written_with_its_folders_and_read_by_everyone(tmp_path):
    path = store.write_text(tmp_path / "a" / "b" / "verdicts.txt", "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["verdicts.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full: free some space and run again"),
        (errno.EDQUOT, "the disk quota is used up: free some space and run again"),
        (errno.EACCES, "no permission: make the folder writable"),
        (errno.EROFS, "the file system is read-only: work in a writable copy"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, number, words):
    path = store.write_text(tmp_path / "rows.csv", "old")
    monkeypatch.setattr(os, step, failing(number))
    with pytest.raises(StorageError) as failure:
        store.write_text(path, "new and longer")
    monkeypatch.undo()
    assert str(failure.value) == f"cannot write {path} (14 bytes): {words}; nothing was changed"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["rows.csv"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = store.write_text(tmp_path / "rows.csv", "old")

    def interrupt(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["rows.csv"]


def test_a_folder_that_is_a_file_is_said_so(tmp_path):
    store.write_text(tmp_path / "figures", "")
    with pytest.raises(StorageError, match="cannot write .*hero.png"):
        store.write_bytes(tmp_path / "figures" / "hero.png", b"png")


def test_readers_see_the_old_file_or_the_new_one_never_a_part(tmp_path):
    path, contents = tmp_path / "big", [bytes([value]) * 300_000 for value in range(2)]
    store.write_bytes(path, contents[0])
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(30):
        store.write_bytes(path, contents[i % 2])
    stop.set()
    reader.join()
    assert seen <= set(contents)


def test_json_keeps_the_order_of_keys_and_refuses_nan(tmp_path):
    path = store.write_json(tmp_path / "results.json", {"b": 1, "a": [0.5, "ä"]})
    assert path.read_text() == '{\n "b": 1,\n "a": [\n  0.5,\n  "ä"\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(path, {"value": math.nan})
    assert json.loads(path.read_text()) == {"b": 1, "a": [0.5, "ä"]}


# --- tensors


def test_tensors_come_back_bit_for_bit_with_their_metadata(tmp_path):
    tensors = {
        "w": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "turned": torch.arange(6).view(2, 3).T,
        "mask": torch.tensor([True, False]),
        "one": torch.tensor(0.25),
        "none": torch.empty(0, 3),
    }
    read, metadata = store.read_safetensors(store.write_safetensors(tmp_path / "w.safetensors", tensors, {"recipe": "std"}))
    assert metadata == {"recipe": "std"}
    assert sorted(read) == sorted(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor), name
        assert read[name].dtype == tensor.dtype


def test_parts_of_one_tensor_can_be_kept_side_by_side(tmp_path):
    whole = torch.arange(6.0)
    read, metadata = store.read_safetensors(store.write_safetensors(tmp_path / "w", {"head": whole[:3], "tail": whole[3:], "all": whole}))
    assert (read["head"].tolist(), read["tail"].tolist(), read["all"].tolist()) == ([0, 1, 2], [3, 4, 5], [0, 1, 2, 3, 4, 5])
    assert metadata == {}


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda content: b"", "it is empty"),
        (lambda content: content[:4], "it is truncated or of another format"),
        (lambda content: content[:40], "it is truncated or of another format"),
        (lambda content: content[:-1], "it is truncated or of another format"),
        (lambda content: b"\n<!DOCTYPE html><html>404</html>", "it is a web page, HTML"),
        (lambda content: pickle.dumps({"w": 0}), "it is a pickle or a torch archive, which can carry code, and was not opened"),
    ],
)
def test_a_file_that_is_no_network_is_reported_with_what_it_looks_like_and_the_cure(tmp_path, damage, kind):
    path = store.write_safetensors(tmp_path / "w.safetensors", {"w": torch.zeros(100)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptFile) as refusal:
        store.read_safetensors(path)
    message = str(refusal.value)
    assert message.startswith(f"{path} is not a readable safetensors file ({kind}")
    assert message.endswith("; delete it and run again to make it anew")
    assert "\n" not in message


def test_a_torch_archive_is_not_opened_and_a_missing_file_is_missing(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CorruptFile, match="a torch archive, which can carry code, and was not opened"):
        store.read_safetensors(tmp_path / "w.safetensors")
    with pytest.raises(FileNotFoundError):
        store.read_safetensors(tmp_path / "absent.safetensors")


# --- locks


def test_a_lock_held_by_another_process_times_out_and_is_free_afterwards(tmp_path):
    path = tmp_path / "zoo" / "w.safetensors"
    path.parent.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, f"{path}.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        for timeout_s in (0, 0.2):
            with pytest.raises(TimeoutError, match="w.safetensors is locked by another process"), store.lock(path, timeout_s):
                pytest.fail("the lock of another process was taken")
        assert 0.2 <= time.monotonic() - began < 5
        holder.communicate("\n")
    with store.lock(path, 0):
        assert not path.exists()


def test_a_lock_makes_its_folder_and_is_given_back_when_its_holder_fails(tmp_path):
    with pytest.raises(RuntimeError, match="boom"), store.lock(tmp_path / "new" / "w"):
        raise RuntimeError("boom")
    with store.lock(tmp_path / "new" / "w", 0):
        pass


# --- keys


def test_a_content_key_is_64_hexadecimal_digits_that_ignore_the_order_of_keys():
    key = store.content_key({"a": 1, "b": {"c": [1, 2], "d": "x"}})
    assert len(key) == 64
    assert int(key, 16) >= 0
    assert key == store.content_key({"b": {"d": "x", "c": [1, 2]}, "a": 1})
    assert key == store.content_key({"a": 1, "b": {"c": (1, 2), "d": "x"}})


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.5}, {"a": "1"}, {"a": [1]}, {"A": 1}, {"a": 1, "b": 1}, {}])
def test_a_content_key_changes_with_every_value_type_and_name(other):
    assert store.content_key(other) != store.content_key({"a": 1})


def test_a_content_key_is_the_same_in_every_process_and_version():
    assert (
        store.content_key({"a": [1, 2.5, None, True], "b": "ä"})
        == hashlib.sha256(b'{"a": [1, 2.5, null, true], "b": "\\u00e4"}').hexdigest()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_content_key_refuses_what_json_has_no_word_for(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.content_key({"eps": value})
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.content_key({"eps": torch.tensor(value)})


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    path = store.write_bytes(tmp_path / "a", b"abc")
    assert store.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- the cache


def counting(value: float = 1.0):
    calls = []

    def compute():
        calls.append(value)
        return {"x": torch.full((2, 3), value), "n": torch.tensor(7)}

    return calls, compute


def test_a_measurement_is_made_once_and_then_read(repository):
    calls, compute = counting()
    first = store.cache("kind", {"a": 1, "b": 2}, compute, measured_by=json.dumps)
    again = store.cache("kind", {"b": 2, "a": 1}, compute, measured_by=json.dumps)
    assert len(calls) == 1
    assert sorted(first) == sorted(again) == ["n", "x"]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_another_description_or_kind_is_another_measurement(repository):
    calls, compute = counting()
    for kind, description in (("kind", {"a": 1}), ("kind", {"a": 2}), ("other", {"a": 1})):
        store.cache(kind, description, compute)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [lambda content: content[:20], lambda content: b"", lambda content: b"<html>"])
def test_a_damaged_entry_is_measured_again_and_replaced(repository, damage):
    calls, compute = counting()
    store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)
    [path] = (repository / "data" / "cache" / "kind").glob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    assert store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)["x"].tolist() == [[1.0] * 3] * 2
    assert len(calls) == 2
    store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)
    assert len(calls) == 2


def test_an_entry_of_another_key_under_the_same_name_is_not_believed(repository):
    """File names carry 24 of the 64 digits; the whole key is inside."""
    calls, compute = counting()
    store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)
    [path] = (repository / "data" / "cache" / "kind").glob("*.safetensors")
    store.write_safetensors(path, {"x": torch.zeros(1)}, {"key": "0" * 64})
    assert store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)["x"].shape == (2, 3)
    assert len(calls) == 2


def test_a_measurement_that_fails_leaves_no_entry(repository):
    def fail():
        raise FloatingPointError("not finite")

    with pytest.raises(FloatingPointError):
        store.cache("kind", {"a": 1}, fail, measured_by=json.dumps)
    calls, compute = counting()
    store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)
    assert len(calls) == 1


def test_two_that_ask_at_once_measure_once(repository):
    calls, found = [], []

    def compute():
        calls.append(1)
        time.sleep(0.1)
        return {"x": torch.ones(1)}

    askers = [
        threading.Thread(target=lambda: found.append(store.cache("kind", {"a": 1}, compute, measured_by=json.dumps))) for _ in range(3)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert (len(calls), len(found)) == (1, 3)


def test_an_entry_holds_no_graph_and_says_what_it_describes(repository):
    weights = torch.ones(2, requires_grad=True)
    kept = store.cache("kind", {"b": 1, "a": 2}, lambda: {"x": 2 * weights}, measured_by=json.dumps)
    assert not kept["x"].requires_grad
    [path] = (repository / "data" / "cache" / "kind").glob("*.safetensors")
    assert json.loads(store.read_safetensors(path)[1]["description"]) == {
        "a": 2, "b": 1, "code": code_of(json.dumps),
    }  # fmt: skip


def test_a_full_disk_is_reported_while_measuring(repository, monkeypatch):
    calls, compute = counting()
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC))
    with pytest.raises(ReprolibError, match="the disk is full"):
        store.cache("kind", {"a": 1}, compute, measured_by=json.dumps)


# --- places


def test_the_root_is_the_environments_or_the_folder_of_the_package(monkeypatch, tmp_path):
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "x" / ".."))
    assert store.root() == tmp_path
    monkeypatch.delenv("REPROLIB_ROOT")
    assert (store.root() / "reprolib" / "store.py").is_file()


def test_relative_places_count_from_the_root_not_from_where_one_stands(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("REPROLIB_CACHE", "elsewhere")
    monkeypatch.setenv("REPROLIB_DATA", "sets")
    monkeypatch.chdir(repository / "notebooks")
    store.cache("kind", {"a": 1}, counting()[1], measured_by=json.dumps)
    assert [path.parent for path in repository.rglob("*.safetensors")] == [repository / "elsewhere" / "kind"]
    for name in ("sets", "mine"):
        (tmp_path / name).mkdir()
    assert store.data_roots() == [repository / "sets", repository / "data"]
    monkeypatch.setenv("REPROLIB_DATA", str(tmp_path / "mine"))
    assert store.data_roots() == [tmp_path / "mine", repository / "data"]
    assert store.data_roots("first") == [Path("first"), tmp_path / "mine", repository / "data"]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REPROLIB_DATA", "~/mine")
    assert store.data_roots() == [tmp_path / "mine", repository / "data"]
    assert store.data_roots("~/mine")[0] == tmp_path / "mine"
    monkeypatch.setenv("REPROLIB_ZOO", "~/networks")
    assert zoo_folder() == tmp_path / "networks"
    monkeypatch.setenv("REPROLIB_ZOO", "")
    assert zoo_folder() == repository / "data" / "zoo"
    for unset in (lambda name: monkeypatch.setenv(name, ""), monkeypatch.delenv):
        unset("REPROLIB_DATA")
        assert store.data_roots() == [repository / "data"]


@pytest.mark.parametrize("named", ["sets", "~/sets", '"/no/such"', "/no/such/cifar-10-batches-py", "notebooks/a file"])
def test_a_data_folder_that_is_none_is_named(repository, monkeypatch, capsys, named):
    store.write_text(repository / "notebooks" / "a file", "")
    monkeypatch.setenv("REPROLIB_DATA", named)
    for find in (store.data_roots, data.status, lambda: data.load("cifar10", "test"), lambda: runner.run(["invertibility"])):
        with pytest.raises(MissingData, match=f"^REPROLIB_DATA={re.escape(named)} names no folder: .* is not there; correct it") as refusal:
            find()
        assert "\n" not in str(refusal.value)
    assert cli.main(["data"]) == 3
    assert capsys.readouterr().err == f"reprolib: {refusal.value}\n"
