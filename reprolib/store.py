"""Every file the project writes goes through here: atomic writes, locks, content keys, the measurement cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
from torch import Tensor

from reprolib.errors import CorruptFile, StorageError


def root() -> Path:
    """The repository root: `$REPROLIB_ROOT` if set, else the folder that holds the `reprolib` package."""
    named = os.environ.get("REPROLIB_ROOT")
    return Path(named).resolve() if named else Path(__file__).resolve().parent.parent


def data_roots() -> list[Path]:
    """Where data sets are looked for, in order: `$REPROLIB_DATA` (relative paths count from the root), then `data/`."""
    named = os.environ.get("REPROLIB_DATA")
    return ([(root() / named).resolve()] if named else []) + [root() / "data"]


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` to `path` atomically: readers see the old file or the new one, never a part of it.

    Raises StorageError, leaving nothing behind, when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:  # an interruption too leaves nothing behind
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        cure = {
            errno.ENOSPC: "the disk is full: free some space and run again",
            errno.EDQUOT: "the disk quota is used up: free some space and run again",
            errno.EACCES: "no permission: make the folder writable",
            errno.EROFS: "the file system is read-only: work in a writable copy",
        }.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"cannot write {path} ({len(content)} bytes): {cure}; nothing was changed") from error
    return path


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write indented JSON atomically; keys keep their order, NaN is refused (JSON has none)."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write named tensors (and string metadata) atomically in the safetensors format, which never holds code."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return write_bytes(path, safetensors.torch.save(contiguous, dict(metadata) if metadata else None))


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, on the CPU.

    Raises CorruptFile when the file is truncated or of another format.
    """
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise CorruptFile(
            f"{path} is not a readable safetensors file ({_kind_of_file(path)}); delete it and run again to make it anew"
        ) from error


def _kind_of_file(path: str | os.PathLike[str]) -> str:
    """What a file that is no safetensors looks like, judged by its first bytes; nothing in it is run."""
    with open(path, "rb") as file:
        first = file.read(64).lstrip()
    if first.startswith(b"<"):
        return "it is a web page, HTML: probably a sign-in or error page saved in its place"
    if first.startswith((b"\x80", b"PK\x03\x04")):
        return "it is a pickle or a torch archive, which can carry code, and was not opened"
    return "it is truncated or of another format" if first else "it is empty"


@contextlib.contextmanager
def lock(path: str | os.PathLike[str], timeout_s: float = -1) -> Iterator[None]:
    """Hold the lock of `path` (a sibling file ending in .lock) against other processes; waits for ever by default.

    Raises TimeoutError when `timeout_s` passes first (0 tries once).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(f"{path}.lock", timeout=timeout_s):
            yield
    except filelock.Timeout as error:
        raise TimeoutError(f"{path} is locked by another process") from error


def content_key(description: Mapping[str, Any]) -> str:
    """A 64-digit hexadecimal sha256 of what `description` means: key order does not matter, values must be plain JSON."""
    return hashlib.sha256(json.dumps(description, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache(
    kind: str, description: Mapping[str, Any], compute: Callable[[], Mapping[str, Tensor]], measured_by: Callable[..., Any] | None = None
) -> dict[str, Tensor]:
    """Tensors measured once and kept: `compute()` runs only when nothing is stored under `description`.

    kind: a folder name below `data/cache/` (`$REPROLIB_CACHE` replaces it; relative paths count from the root).
    description: plain JSON naming everything the result depends on (network sha256, data hash, knobs) but the code: that of the
    function in which `compute` is written, and of all it calls, is found by `code_hash.code_of` (of `measured_by` where it is given).
    An unreadable entry is measured again.
    """
    from reprolib.code_hash import code_of  # which stands on this module

    description = {**description, "code": code_of(measured_by or compute)}
    key = content_key(description)
    path = root() / os.environ.get("REPROLIB_CACHE", "data/cache") / kind / f"{key[:24]}.safetensors"
    with lock(path):
        if path.exists():
            with contextlib.suppress(CorruptFile):
                tensors, metadata = read_safetensors(path)
                if metadata.get("key") == key:
                    return tensors
        tensors = {name: tensor.detach().cpu() for name, tensor in compute().items()}
        write_safetensors(path, tensors, {"key": key, "description": json.dumps(description, sort_keys=True)})
    return tensors
