"""What the other notebooks wrote, read for one scale: their rows as evidence, their verdicts, and which files these came from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reprolib import provenance, registry, store
from reprolib.errors import MissingData
from reprolib.judging.audit import read_results
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import Claim, load_claims
from reprolib.judging.tidy import read_rows
from reprolib.parameters import WRITE, Settings


@dataclass(frozen=True)
class Measured:
    """A finding as it was measured at a scale, and where."""

    finding: str
    scale: str
    folder: Path

    @property
    def name(self) -> str:
        """The file of its rows, from the root."""
        return store.shown(self.folder / "rows.csv.gz")

    @cached_property
    def sha256(self) -> str:
        """Of that file."""
        return hashlib.sha256((self.folder / "rows.csv.gz").read_bytes()).hexdigest()

    @cached_property
    def results(self) -> dict[str, Any]:
        """The contents of results.json."""
        return read_results(self.folder)

    @cached_property
    def evidence(self) -> Evidence:
        """The rows, as claims are judged from them."""
        return Evidence(read_rows(self.folder / "rows.csv.gz"), self.scale, is_rounded=True)

    @property
    def claims(self) -> dict[str, Claim]:
        """The finding's entries by id."""
        return load_claims(self.finding)


@dataclass(frozen=True)
class Property:
    """One number a network, by settings.toml of a finding: the claim's own quantity, or another one of its rows."""

    label: str
    claim: Claim
    quantity: str
    is_first: bool


def measured(settings: Settings) -> dict[str, Measured]:
    """The findings measured at the scale: those that this tree's own run drew, where there are such, else the committed ones.

    A run that writes evidence reads nothing but evidence. Raises MissingData where nothing was measured.
    """
    committed, tree = settings.committed().parent, provenance.tree_hash()
    rerun = committed.parent / "rerun" / settings.scale.name
    found = {}
    for finding in registry.findings():
        own, kept = rerun / finding, committed / finding
        is_own = os.environ.get(WRITE) != "1" and _is_whole(own) and read_results(own).get("provenance", {}).get("tree") == tree
        if is_own or _is_whole(kept):
            found[finding] = Measured(finding, settings.scale.name, own if is_own else kept)
    if not found:
        scale = settings.scale.name
        raise MissingData(
            f"no finding is measured at scale {scale}: run the other notebooks first, `reprolib run --scale {scale}` runs all of them"
        )
    return found


def at_other_scales(settings: Settings) -> list[dict[str, Any]]:
    """The committed results of the other scales, scale by scale in the order of the findings."""
    here, found = settings.committed().parent, []
    for folder in sorted(path for path in here.parent.glob("*") if path.name not in (here.name, "rerun")):
        found += [read_results(folder / finding) for finding in registry.findings() if _is_whole(folder / finding)]
    return found


def properties(read: Mapping[str, Measured]) -> list[Property]:
    """What stands side by side, finding by finding."""
    found = []
    for finding, of in read.items():
        for told in registry.settings(finding).get("properties", []):
            claim = of.claims[told["claim"]]
            found.append(Property(told["label"], claim, told.get("quantity", claim.quantity), told.get("is_first", False)))
    return found


def _is_whole(folder: Path) -> bool:
    return (folder / "results.json").is_file() and (folder / "rows.csv.gz").is_file()
