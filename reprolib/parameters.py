"""A notebook's parameters: names, types, ranges, and how a scale's preset and the reader's values become settings.

A notebook states each parameter as a literal; 0 (or an empty string) takes the scale's preset. Any other value overrides
it, and the run then draws into a folder of its own.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from reprolib import registry, scales, store
from reprolib.errors import BadInput, MissingData, nearest
from reprolib.scales import Scale

WRITE, FROM_ROWS = "REPROLIB_WRITE", "REPROLIB_FROM_ROWS"
"""Set to 1 by `reprolib run --write`: the run may write over committed evidence."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: its type, what it does, and what is allowed (a choice, or a closed range; 0 means the preset).

    preset: where scales have none of their own.
    """

    kind: type
    meaning: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    shapes_results: bool = True
    preset: Any = None

    def allowed(self) -> str:
        """In words, for messages."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        return "any text" if self.kind is str else f"{self.low:g} to {self.high:g}, or 0 for the scale's preset"

    def read(self, name: str, value: Any) -> Any:
        """`value` as this parameter's type; raises BadInput, naming value, declared type and what is allowed."""
        value = in_words(value, self.choices)
        yaml = "; YAML reads on, off, yes and no as True and False: quote the word" if isinstance(value, bool) else ""
        refused = BadInput(f"{name}={value!r} is not allowed: it takes {self.kind.__name__} ({self.allowed()}){yaml}")
        if isinstance(value, bool) or (self.kind is str and not isinstance(value, str)):
            raise refused
        if self.kind is str and not self.choices:
            return _file(value) if name == "checkpoint" and value else value
        try:
            if self.kind is float and isinstance(value, str):
                read: Any = float(Fraction(value)) if "/" in value else float(value)
            elif self.kind is int:
                read = int(value)
                if float(value) != read:
                    raise refused
            else:
                read = self.kind(value)
        except (ValueError, TypeError, OverflowError, ZeroDivisionError):
            raise refused from None
        inside = read in self.choices if self.choices else (read == 0 or self.low <= read <= self.high)
        if not inside:
            hint = nearest(read, self.choices) if self.choices else ""
            raise BadInput(f"{name}={value!r} is not allowed; allowed: {self.allowed()}{hint}")
        return read


def _file(named: str) -> str:
    """A reader's file: `~` expands, a relative path counts from the working folder, or else from the root, and is told from there."""
    places = [folder / os.path.expanduser(named) for folder in (Path.cwd(), store.root())]
    if not any(place.is_file() for place in places):
        raise MissingData(f"checkpoint={named!r} is not there: {places[0]} is no file; correct the path, or leave checkpoint empty")
    return store.shown(next(place for place in places if place.is_file()))


def in_words(value: Any, choices: Container[Any]) -> Any:
    """`value`, True and False as "on" and "off" where these are allowed: YAML 1.1, which papermill reads, makes booleans of the bare words."""
    return ("on" if value else "off") if isinstance(value, bool) and "on" in choices and "off" in choices else value


_COMMON = {
    "scale": Parameter(str, "preset of data, networks and budgets", choices=tuple(scales.SCALES)),
    "seeds": Parameter(int, "networks per arm", low=1, high=10),
}
OWN = {
    "checkpoint": Parameter(str, "file with a network of the reader's own, drawn beside the arms, in no verdict"),
    "architecture": Parameter(str, "of that file, where its tensors do not tell it"),
}
_RUN = {
    "device": Parameter(str, "where tensors live", choices=("auto", "cpu", "cuda"), shapes_results=False),
    "interactive": Parameter(str, "whether explorers are drawn", choices=("auto", "on", "off"), shapes_results=False),
}
_KINDS = {"int": int, "float": float, "str": str}


def of(finding: str) -> dict[str, Parameter]:
    """Every parameter of a finding's notebook, in the notebook's order; raises BadInput for an unknown finding."""
    own = {
        name: Parameter(
            _KINDS[told["type"]],
            told["meaning"],
            tuple(told.get("choices", ())),
            told.get("low", 0),
            told.get("high", 0),
            preset=told.get("preset"),
        )
        for name, told in registry.settings(finding).get("parameters", {}).items()
    }
    if not registry.measures(finding):
        return {"scale": _COMMON["scale"], **own, **_RUN}
    return _COMMON | own | (OWN if registry.settings(finding).get("own_network", True) else {}) | _RUN


def check_names(finding: str, given: Iterable[str]) -> None:
    """Raise BadInput for a name that is no parameter of the finding, with the nearest one that is."""
    known = of(finding)
    for name in given:
        if name not in known:
            raise BadInput(f"parameter {name!r} is unknown in {finding}; allowed: {', '.join(known)}{nearest(name, known)}")


def written(cells: Sequence[str], known: Container[str]) -> list[str]:
    """The names assigned where parameters are: in the cells papermill injected (they begin with "# Parameters"), and in the parameters cell.

    cells: sources in the order in which they ran, IPython's `In`. The parameters cell is the last that assigns several parameters and
    fewer other names; other cells are the reader's own.
    """
    injected: list[str] = []
    own: list[str] = []
    for cell in cells:
        names = _assigned(cell)
        n_known = sum(name in known for name in names)
        if cell.lstrip().startswith("# Parameters"):
            injected += names
        elif n_known > 1 and 2 * n_known > len(names):
            own = names
    return injected + own


def _assigned(cell: str) -> list[str]:
    """The names that a cell's statements assign; none of a cell that is no Python, such as one with a magic."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return []
    targets = [
        node.targets if isinstance(node, ast.Assign) else [node.target] for node in body if isinstance(node, (ast.Assign, ast.AnnAssign))
    ]
    return [target.id for several in targets for target in several if isinstance(target, ast.Name)]


@dataclass(frozen=True)
class Settings:
    """Validated parameters of one run: `values` with the preset filled in, `overridden` what differs from the preset."""

    finding: str
    scale: Scale
    values: Mapping[str, Any]
    overridden: Mapping[str, Any]
    device: str
    interactive: str

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def committed(self) -> Path:
        """Where the committed evidence of this finding and scale is: `figures/<scale>/<finding>`.

        `$REPROLIB_FIGURES` replaces `figures` (relative paths count from the root).
        """
        return store.folder("REPROLIB_FIGURES", "figures") / self.scale.name / self.finding

    def folder(self) -> Path:
        """Where this run draws: over the committed evidence only where `reprolib run --write` says so, else below `figures/rerun`.

        A run with a turned knob has a folder of its own, `figures/rerun/custom/<hash>`.
        """
        rerun = self.committed().parents[1] / "rerun"
        if self.overridden:
            turned = {"finding": self.finding, "scale": self.scale.name, **self.overridden}
            return rerun / "custom" / store.content_key(turned)[:12]
        return self.committed() if os.environ.get(WRITE) == "1" else rerun / self.scale.name / self.finding


def validate(finding: str, given: Mapping[str, Any]) -> Settings:
    """Settings from what the reader gave; raises BadInput, before any work, for an unknown name or a bad value.

    given: any of the finding's parameters (missing ones take the preset). Fractions such as "8/255" are read as numbers. A reader's
    own network turns no knob of the measurement: it stands in `overridden` alone. Raises MissingData for a file that is not there.
    """
    check_names(finding, given)
    known = of(finding)
    read = {name: known[name].read(name, value) for name, value in given.items()}
    preset = scales.scale(read.get("scale", "laptop"))
    own = {name: parameter.preset for name, parameter in known.items() if parameter.preset is not None}
    defaults: dict[str, Any] = {"seeds": preset.seeds, **own, **registry.settings(finding)["presets"][preset.name]}
    if read.get("architecture") and not read.get("checkpoint"):
        raise BadInput(f"architecture={read['architecture']!r} says how a checkpoint is read: give checkpoint too, or leave it empty")
    values, overridden = dict(defaults), {name: read[name] for name in OWN if read.get(name)}
    for name, value in read.items():
        if known[name].shapes_results and name not in ("scale", *OWN) and value not in (0, "") and value != defaults[name]:
            values[name] = overridden[name] = value
    return Settings(finding, preset, values, overridden, resolve_device(read.get("device", "auto")), read.get("interactive", "auto"))


def resolve_device(name: str) -> str:
    """ "cpu" or "cuda"; "auto" takes the GPU when there is one. Raises BadInput for a GPU that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise BadInput(f"device={name!r} is unknown; allowed: auto, cpu, cuda{nearest(name, ('auto', 'cpu', 'cuda'))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("device='cuda' is not there: this machine has no usable GPU; allowed here: auto, cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
