"""What can go wrong, in one sentence each, with the exit code the command line returns; `reprolib --help` lists them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReprolibError(Exception):
    """Base of every error a user can act on: the message is one sentence that names value, allowed values and cure."""

    exit_code = 1


class BadInput(ReprolibError, ValueError):
    """A value given by the user is not allowed."""

    exit_code = 2


class MissingData(ReprolibError, FileNotFoundError):
    """A data set, a network or committed rows are not there."""

    exit_code = 3


class CorruptFile(ReprolibError):
    """A file is there but is truncated, of another format, or not safe to read."""

    exit_code = 4


class StorageError(ReprolibError, OSError):
    """A file could not be written; nothing half-written is left behind."""

    exit_code = 5


class RunFailed(ReprolibError):
    """A notebook cell raised."""

    exit_code = 6


class RunTimedOut(ReprolibError):
    """A notebook ran past its wall-clock limit."""

    exit_code = 7


class KernelDied(ReprolibError):
    """A notebook's kernel died."""

    exit_code = 8


class VerdictsDiffer(ReprolibError):
    """Verdicts are not the committed ones, or recomputing them from the committed rows gave something else."""

    exit_code = 9


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the allowed name closest to `name`, or an empty string when none is close."""
    close = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
