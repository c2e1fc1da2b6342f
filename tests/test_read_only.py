"""Where nothing can be written: what is measured is read, what is not ends in one sentence and exit code 5."""

from __future__ import annotations

import atexit
import errno
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reprolib import cli, data, store
from reprolib.errors import StorageError
from reprolib.run import runner
from reprolib.training import zoo

SPEC = zoo.Spec("untrained", "tinycnn", "shapetexture_gratings", 0, "smoke")
WORDS = "the file system is read-only: work in a writable copy"


@pytest.fixture
def read_only(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that makes the repository read-only, also for root, whom permissions do not stop."""

    def refuse(name: str, is_write: Callable[..., bool]) -> None:
        real = getattr(os, name)

        def guarded(path: object, *arguments: object, **options: object) -> object:
            if Path(os.fsdecode(path)).is_relative_to(repository) and is_write(*arguments):  # type: ignore[arg-type]
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(path))  # type: ignore[arg-type]
            return real(path, *arguments, **options)

        monkeypatch.setattr(os, name, guarded)

    def make() -> None:
        for lock in repository.rglob("*.lock"):
            lock.unlink()
        refuse("open", lambda flags, *mode: bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
        refuse("mkdir", lambda *mode: True)
        refuse("replace", lambda *target: True)

    return make


def test_what_is_measured_and_trained_is_read_without_a_lock(repository: Path, read_only: Callable[[], None]) -> None:
    zoo.obtain(SPEC, "cpu", lambda line: None)
    kept = store.cache("kind", {"a": 1}, lambda: {"x": torch.ones(2)}, measured_by=json.dumps)
    sha256 = data.load(SPEC.dataset, "test").sha256
    read_only()
    assert zoo.obtain(SPEC, "cpu", lambda line: None)
    assert zoo.network("untrained", "tinycnn", SPEC.dataset, 0, "smoke").card == zoo.card_of(SPEC)
    assert torch.equal(store.cache("kind", {"a": 1}, dict, measured_by=json.dumps)["x"], kept["x"])
    assert data.load(SPEC.dataset, "test").sha256 == sha256
    assert not list(repository.rglob("*.lock"))


def test_what_is_not_measured_is_not_begun(repository: Path, read_only: Callable[[], None]) -> None:
    read_only()
    begun = []
    with pytest.raises(
        StorageError, match=rf"^cannot write {repository}/data/cache/kind/\w+\.safetensors\.lock, .*: {WORDS}; nothing was changed$"
    ):
        store.cache("kind", {"a": 1}, lambda: begun.append(1) or {})  # type: ignore[func-returns-value]
    assert not begun


@pytest.mark.parametrize("line", ["train --scale smoke", "run invertibility --scale smoke", "data fetch cifar10"])
def test_a_command_that_has_to_write_ends_with_code_5(
    notebook: Callable[..., Path],
    read_only: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    notebook("x = 1")
    monkeypatch.setenv("REPROLIB_DATA", "")
    read_only()
    assert cli.main([*line.split(), *(["--jobs", "1"] if line.startswith("train") else [])]) == 5
    assert WORDS in capsys.readouterr().err


def test_a_write_that_a_library_fails_at_has_code_5_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/some/where")

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["run"]) == 5
    assert capsys.readouterr().err == f"reprolib: cannot write /some/where: {WORDS}\n"


def test_a_user_without_a_home_gets_one_for_the_time_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    home = os.path.expanduser("~")
    cli._home()
    assert os.path.expanduser("~") == home != "~"

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    kept: list[tuple[object, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *call, **options: kept.append(call))
    cli._home()
    folder = Path(os.path.expanduser("~"))
    assert folder.is_dir()
    kept[0][0](*kept[0][1:])  # type: ignore[operator]
    assert not folder.exists()
    monkeypatch.undo()
