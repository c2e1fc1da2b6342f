"""What a run was: content hash of the tree, commit, versions, hardware. Nothing here names a user or a path of a machine."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from reprolib.store import root

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "papermill")


@functools.lru_cache(maxsize=1)
def tree_hash() -> str:
    """The sha256 over the sorted files of `reprolib/` and `notebooks/` (paths and bytes); needs no git.

    Notebooks count by their .py twins: opening an .ipynb in an editor may touch its metadata without changing its meaning.
    """
    digest = hashlib.sha256()
    files = [p for p in (root() / "reprolib").rglob("*") if p.suffix in (".py", ".toml", ".json") and "__pycache__" not in p.parts]
    for path in sorted([*files, *(root() / "notebooks").glob("*.py")], key=lambda p: p.relative_to(root()).as_posix()):
        digest.update(path.relative_to(root()).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def git(*arguments: str, folder: Path | None = None) -> str | None:
    """What git prints of a folder, by default the root; None where there is no git, or it refuses."""
    try:
        return subprocess.run(["git", *arguments], cwd=folder or root(), capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def changed_files() -> list[str] | None:
    """Files below reprolib/ and notebooks/ that are not as in the commit checked out, new ones too; None without git."""
    status = git("status", "--porcelain", "--", "reprolib", "notebooks")
    return None if status is None else [line[3:] for line in status.splitlines()]


def commit() -> str | None:
    """The git commit checked out at the root, with "+changes" when tracked files differ; None without git."""
    head = git("rev-parse", "HEAD")
    return None if head is None else head.strip() + ("+changes" if changed_files() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str = "cpu") -> dict[str, str | int]:
    """The kind of processor (and GPU) that ran, without anything that names the machine."""
    described: dict[str, str | int] = {"system": platform.system(), "machine": platform.machine(), "threads": torch.get_num_threads()}
    described["capability"] = torch.backends.cpu.get_cpu_capability()
    if device.startswith("cuda"):
        described["gpu"] = torch.cuda.get_device_name(device)
    return described
