"""The bytes of a checkpoint, and what torch reads in them, without running anything."""

from __future__ import annotations

import io
import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from reprolib import store
from reprolib.errors import CorruptFile, MissingData
from reprolib.models.checkpoints.unpickling import load_tensors_only


def checked(path: str | os.PathLike[str], sha256: str | None) -> Path:
    """The path of a file that is there and has that sha256 (64 hex digits; None takes any).

    Raises MissingData and CorruptFile; the file is not opened beyond reading its bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingData(f"checkpoint {path} is not there: download it from its publisher and name its place")
    if sha256 is not None and (found := store.sha256_file(path)) != sha256.lower():
        raise CorruptFile(f"{path} has sha256 {found}, expected {sha256.lower()}: it is another file or altered, and was not opened")
    return path


def read(path: Path, allow_pickle: bool = False) -> Any:
    """What a torch file holds, tensors on the CPU.

    allow_pickle: take files with other objects beside the tensors, too; these become inert stubs, nothing in the file runs.
    Raises CorruptFile for a web page, a truncated file, or objects without `allow_pickle`.
    """
    content = path.read_bytes()
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise CorruptFile(f"{path} is a web page, HTML: probably a sign-in or quota page saved in place of the file; download it again")
    try:
        if allow_pickle:
            return load_tensors_only(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of (TorchScript) is refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything; nothing in it has run
        told = str(error)
        other = re.search(r"(?:GLOBAL|class) (\S+)", told) if isinstance(error, pickle.UnpicklingError) and not allow_pickle else None
        if other is not None and _is_whole(content):
            raise CorruptFile(
                f"{path} holds more than tensors ({other[1]}), which could be code, and was not read; with allow_pickle=True "
                "such objects become inert stubs, and the tensors are read without running anything"
            ) from error
        reason = told.strip().splitlines()[0][:120] if told.strip() else type(error).__name__
        raise CorruptFile(f"{path} ({len(content)} bytes) is truncated or no torch checkpoint ({reason}): download it again") from error


def _is_whole(content: bytes) -> bool:
    """Whether the file can be read to its end, objects as stubs; a file cut within a name seems to hold an unknown object."""
    try:
        load_tensors_only(content)
    except Exception:  # as above
        return False
    return True
