"""What was seen in each committed figure: one sentence by a person who looked, bound to the rows that the figure was drawn from."""

from __future__ import annotations

import tomllib
from pathlib import Path

from reprolib.errors import CorruptFile


def seen_sentence(folder: Path, figure: str, rows: str) -> str:
    """The sentence of folder/seen.toml on a figure, or "" where there is none or it was written of other rows.

    seen.toml: a table a figure, `rows` (first 12 digits of `tidy.rows_hash`) and `text`. Raises CorruptFile for another file.
    """
    told = read_seen(folder).get(figure, {})
    return str(told["text"]) if told.get("rows") == rows else ""


def read_seen(folder: Path) -> dict[str, dict[str, str]]:
    """All of folder/seen.toml; empty where it is not there."""
    path = folder / "seen.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CorruptFile(f"{path} is not valid TOML ({error}): restore the committed file") from error
