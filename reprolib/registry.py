"""Which findings there are: each is a folder of `reprolib/findings` with a settings.toml. A general room knows them by this alone."""

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
def findings() -> tuple[str, ...]:
    """The names of all findings, in the order that their settings give."""
    found = {path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["order"] for path in FOLDER.glob("*/settings.toml")}
    return tuple(sorted(found, key=lambda name: (found[name], name)))


@functools.cache
def settings(finding: str) -> dict[str, Any]:
    """A finding's settings.toml: `order`, `parameters`, `presets` by scale, and `own_network` (false: it takes no reader's).

    Raises BadInput for an unknown finding.
    """
    if finding not in findings():
        raise BadInput(f"finding {finding!r} is unknown; allowed: {', '.join(findings())}{nearest(finding, findings())}")
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
