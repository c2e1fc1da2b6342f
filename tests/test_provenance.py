from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from reprolib import provenance
from reprolib.store import root


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("reprolib", "notebooks"):
        shutil.copytree(root() / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    provenance.tree_hash.cache_clear()
    yield tmp_path
    provenance.tree_hash.cache_clear()


def hashed() -> str:
    provenance.tree_hash.cache_clear()
    return provenance.tree_hash()


def test_the_tree_hash_needs_no_git_and_follows_the_code_alone(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashed()
    (copy / "figures").mkdir()
    (copy / "figures" / "new.png").write_bytes(b"a figure")
    (copy / "reprolib" / "__pycache__").mkdir()
    (copy / "reprolib" / "__pycache__" / "x.py").write_text("")
    assert hashed() == before
    assert provenance.commit() is None
    (copy / "reprolib" / "scales.py").write_text((copy / "reprolib" / "scales.py").read_text() + "\n# one more line\n")
    changed = hashed()
    assert changed != before
    (copy / "notebooks" / "invertibility.py").rename(copy / "notebooks" / "other.py")
    assert hashed() not in (before, changed)


def test_the_same_tree_in_another_place_has_the_same_hash(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = hashed()
    monkeypatch.delenv("REPROLIB_ROOT")
    assert hashed() == there


def test_provenance_names_versions_and_hardware_but_no_machine() -> None:
    told = json.dumps({"versions": provenance.versions(), "hardware": provenance.hardware()})
    assert '"torch"' in told
    assert '"capability"' in told
    import platform

    assert platform.node() not in told or not platform.node()
    assert str(Path.home()) not in told
