"""Which notebooks there are: each has a folder of `reprolib/findings` with a settings.toml. A general room knows them by this alone.

One with claims.toml is a finding; one without shows what the findings measured.
"""

from __future__ import annotations

import functools
import importlib
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

from reprolib.errors import BadInput, nearest

FOLDER = Path(__file__).with_name("findings")


@functools.cache
def notebooks() -> tuple[str, ...]:
    """The names of all notebooks, in the order that their settings give: findings first."""
    found = {path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["order"] for path in FOLDER.glob("*/settings.toml")}
    return tuple(sorted(found, key=lambda name: (found[name], name)))


@functools.cache
def findings() -> tuple[str, ...]:
    """Those that have claims."""
    return tuple(name for name in notebooks() if measures(name))


def measures(notebook: str) -> bool:
    """Whether a notebook measures networks, and judges claims by what it measured; else it reads what the others did."""
    return (FOLDER / notebook / "claims.toml").is_file()


@functools.cache
def settings(finding: str) -> dict[str, Any]:
    """A notebook's settings.toml: `order`, `parameters`, `presets` by scale, `own_network` (false: it takes no reader's),
    `properties`, one number a network each, which the notebook of all findings shows side by side, and `own_table`, a word behind the
    architecture of its networks there, where these are none of the others'.

    Raises BadInput for an unknown name.
    """
    if finding not in notebooks():
        raise BadInput(f"finding {finding!r} is unknown; allowed: {', '.join(notebooks())}{nearest(finding, notebooks())}")
    return tomllib.loads((FOLDER / finding / "settings.toml").read_text(encoding="utf-8"))


def judging(finding: str) -> ModuleType | None:
    """A finding's own judging.py, see `judging.quantities`; None where it has none: all it judges are means of rows."""
    name = f"reprolib.findings.{finding}.judging"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            return None
        raise
