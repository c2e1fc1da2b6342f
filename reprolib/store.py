"""Every file the project writes goes through here: atomic writes, locks, content keys, the measurement cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
import torch
from torch import Tensor

from reprolib.errors import CorruptFile, MissingData, StorageError

CURES = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EACCES: "no permission: make the folder writable",
    errno.EROFS: "the file system is read-only: work in a writable copy",
}


def root() -> Path:
    """The repository root: `$REPROLIB_ROOT` if set, else the folder that holds the `reprolib` package.

    Raises MissingData where that is no clone: nothing is ever written beside an installed package.
    """
    named = os.environ.get("REPROLIB_ROOT")
    folder = Path(os.path.expanduser(named) if named else Path(__file__).parent.parent).resolve()
    if not named and not ((folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file()):
        raise MissingData(
            f"findings need a clone of the repository, and {folder}, where reprolib is installed, is none: it has no notebooks, networks "
            "or figures; clone the repository and work there, or name a clone in REPROLIB_ROOT (networks of your own need none: "
            "images from a data set are found below a whole path in REPROLIB_DATA)"
        )
    return folder


def folder(variable: str, default: str) -> Path:
    """The folder that an environment variable names, `default` where it is unset or empty; `~` expands, relative paths count from the root."""
    return root() / os.path.expanduser(os.environ.get(variable) or default)


def shown(path: Path) -> str:
    """A path relative to the root where it lies below it."""
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)


def data_roots(first: str | os.PathLike[str] | None = None) -> list[Path]:
    """Where data sets are looked for, in order: `first`, `$REPROLIB_DATA` (relative paths count from the root), then `data/`; `~` expands.

    Without a clone a folder that is named as a whole path is enough. Raises MissingData when `$REPROLIB_DATA` is set, not empty, and names no folder.
    """
    named = os.environ.get("REPROLIB_DATA")
    folders = [] if first is None else [Path(os.path.expanduser(first))]
    if named:
        place = Path(os.path.expanduser(named))
        place = (place if place.is_absolute() else root() / place).resolve()
        if not os.path.isdir(place):
            raise MissingData(
                f"REPROLIB_DATA={named} names no folder: {place} is not there; correct it (no quotes inside), or unset it to look into "
                "data/ alone"
            )
        folders.append(place)
    try:
        return [*folders, root() / "data"]
    except MissingData:  # an installed package has no data/ of its own
        if folders:
            return folders
        raise


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
        raise StorageError(f"cannot write {path} ({len(content)} bytes): {cure(error)}; nothing was changed") from error
    return path


def cure(error: OSError) -> str:
    """What to do about a file that could not be written, as half a sentence."""
    return CURES.get(error.errno or 0, error.strerror or str(error))


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write indented JSON atomically; keys keep their order, NaN is refused (JSON has none)."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write named tensors (and string metadata) atomically in the safetensors format, which never holds code.

    The header carries a checksum over all of it, which `read_safetensors` verifies. Equal content gives equal bytes.
    """
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = safetensors.torch.save(contiguous)
    size = 8 + int.from_bytes(content[:8], "little")
    # The header is put together here, since the library writes metadata in another order each time.
    told = {**(metadata or {}), "checksum": _checksum(contiguous, metadata or {})}
    header = {"__metadata__": dict(sorted(told.items())), **json.loads(content[8:size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return write_bytes(path, len(text).to_bytes(8, "little") + text + content[size:])


def read_safetensors(path: str | os.PathLike[str], is_ours: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata (without the checksum) of a safetensors file, on the CPU.

    is_ours: whether a file without a checksum is refused; other programs write none.
    Raises CorruptFile when the file is truncated, of another format, or not what its checksum was taken of.
    """
    with _opened(path) as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (not a dict)
    written = metadata.pop("checksum", None)
    if written is None and is_ours:
        raise CorruptFile(
            f"{path} carries no checksum (it is not of this project, or older than that rule); delete it and run again to make it anew"
        )
    if written is not None and written != _checksum(tensors, metadata):
        raise CorruptFile(f"{path} is damaged (its checksum is of other content); delete it and run again to make it anew")
    return tensors, metadata


def write_network(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], card: Mapping[str, Any], metadata: Mapping[str, str]
) -> Path:
    """Write a network's weights and, beside them, its card (.json); the weights' metadata carry the card's content key.

    The weights come last: their presence means "done".
    """
    path = Path(path)
    write_json(path.with_suffix(".json"), card)
    return write_safetensors(path, tensors, {**metadata, "card": content_key(json.loads(json.dumps(card)))})


def read_network(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A network's tensors and its card, as `write_network` wrote them. Raises CorruptFile where either was altered since."""
    card = read_card(path)
    with _cured(path):
        return read_safetensors(path)[0], card


def read_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The card beside a network's weights, unaltered since both were written; of the weights only the header is read.

    Raises CorruptFile when it is not the card that the weights were written with, or either cannot be read.
    """
    path, beside = Path(path), Path(path).with_suffix(".json")
    with _cured(path):
        try:
            card = json.loads(beside.read_text(encoding="utf-8"))
            found = content_key(card)
        except (OSError, ValueError) as error:
            raise CorruptFile(f"{beside}, the card of {path.name}, cannot be read ({error})") from error
        with _opened(path) as file:
            written = (file.metadata() or {}).get("card")
        if written is None:
            raise CorruptFile(f"{path} does not say which card is its own")
        if written != found:
            raise CorruptFile(f"{beside} is not the card that {path.name} was written with (content {found[:12]}, written {written[:12]})")
    return card


@contextlib.contextmanager
def _cured(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except CorruptFile as error:
        where = Path(path).parent
        raise CorruptFile(
            f"{reason(error)}; restore weights and card (`git checkout {where}` where they were shipped), or delete both and train again"
        ) from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt", device="cpu") as file:
            yield file
    except FileNotFoundError:
        raise
    except Exception as error:
        raise CorruptFile(
            f"{path} is not a readable safetensors file ({_kind_of_file(path)}); delete it and run again to make it anew"
        ) from error


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(content_key(metadata).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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

    Raises TimeoutError when `timeout_s` passes first (0 tries once), StorageError where its file cannot be written.
    """
    path, held = Path(path), filelock.FileLock(f"{path}.lock", timeout=timeout_s)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except filelock.Timeout as error:
        raise TimeoutError(f"{path} is locked by another process") from error
    except OSError as error:
        raise StorageError(f"cannot write {path}.lock, which keeps other processes off: {cure(error)}; nothing was changed") from error
    try:
        yield
    finally:
        held.release()


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
    What is there is read without a lock, so that a folder may be read-only. A damaged entry is measured again, and a line says so.
    """
    from reprolib.code_hash import code_of  # which stands on this module

    description = {**description, "code": code_of(measured_by or compute)}
    key = content_key(description)
    path = folder("REPROLIB_CACHE", "data/cache") / kind / f"{key[:24]}.safetensors"
    kept = None
    with contextlib.suppress(CorruptFile):
        kept = _entry(path, key)
    if kept is not None:
        return kept
    with lock(path):
        try:
            kept = _entry(path, key)  # another process may have measured it meanwhile
        except CorruptFile as error:
            print(f"{reason(error)}: measured again", file=sys.stderr, flush=True)
        if kept is None:
            kept = {name: tensor.detach().cpu() for name, tensor in compute().items()}
            write_safetensors(path, kept, {"key": key, "description": json.dumps(description, sort_keys=True)})
    return kept


def reason(error: CorruptFile) -> str:
    """What is wrong, without the cure: for a file that is made anew without the reader's doing."""
    return str(error).partition(";")[0]


def _entry(path: Path, key: str) -> dict[str, Tensor] | None:
    try:
        tensors, metadata = read_safetensors(path)
    except FileNotFoundError:
        return None
    return tensors if metadata.get("key") == key else None
