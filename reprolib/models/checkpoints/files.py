"""The bytes of a checkpoint, and what is in them, without running anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from reprolib import store
from reprolib.errors import CorruptFile, MissingData
from reprolib.models.checkpoints.unpickling import Unread, load


def said(text: object, most: int = 120) -> str:
    """Text from outside as it may be printed: control characters written out, and cut after so many characters."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text)[: most + 1])
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def checked(path: str | os.PathLike[str], sha256: str | None = None) -> Path:
    """The path of a file that is there and has that sha256 (64 hex digits; None takes any).

    Raises MissingData and CorruptFile; the file is not opened beyond reading its bytes.
    """
    path, where = Path(path), said(path, 1000)
    if path.is_dir():
        raise MissingData(f"checkpoint {where} is a folder: name the file in it")
    if not path.is_file():
        raise MissingData(f"checkpoint {where} is not there: download it from its publisher and name its place")
    if sha256 is not None and (found := store.sha256_file(path)) != sha256.lower():
        raise CorruptFile(f"{where} has sha256 {found}, expected {sha256.lower()}: it is another file or altered, and was not opened")
    return path


def read(path: Path, allow_pickle: bool = False) -> Any:
    """What a torch or safetensors file holds, tensors on the CPU.

    allow_pickle: take files with other objects beside the tensors, too; these become inert stubs, nothing in the file runs either way.
    Raises CorruptFile for a web page, a damaged file, or objects without `allow_pickle`.
    """
    where = said(path, 1000)
    with path.open("rb") as file:
        first = file.read(9)
        if path.suffix == ".safetensors" or (first[8:] == b"{" and int.from_bytes(first[:8], "little") <= 100_000_000):
            try:
                return store.read_safetensors(path, is_ours=False)[0]
            except CorruptFile as error:
                raise CorruptFile(f"{said(store.reason(error), 1000)}: get it again") from error
        content = first + file.read()
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise CorruptFile(f"{where} is a web page, HTML: probably a sign-in or quota page saved in place of the file; download it again")
    try:
        found, others = load(content)
    except Unread as error:
        raise CorruptFile(f"{where} was not read: {said(error)}") from error
    except Exception as error:  # a damaged pickle can raise anything; nothing in it has run
        reason = said(str(error).strip() or type(error).__name__)
        raise CorruptFile(f"{where} ({len(content)} bytes) is truncated or no torch checkpoint ({reason}): download it again") from error
    if others and not allow_pickle:
        raise CorruptFile(
            f"{where} holds more than tensors ({said(others[0])}), which could be code, and was not taken; with allow_pickle=True "
            "such objects become inert stubs, and the tensors are read without running anything"
        )
    return found
