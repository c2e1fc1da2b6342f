"""The evidence of all scales below one folder, as plain values to write pages from: nothing is judged, only what is there is told."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprolib import parameters, registry, scales, store
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.figures.verdicts import in_smallest_effects
from reprolib.judging.audit import claims_hash, read_results, read_seen
from reprolib.judging.claims import networks_an_arm, numbers
from reprolib.judging.ledger import Claim, load_claims
from reprolib.run import explain, summary

WORDS = ("supported", "contradicted", "negligible", "inconclusive", "not run")
ABSTRACT = "finding"  # the table of seen.toml that tells what was found, not what is seen in a figure


@dataclass(frozen=True)
class Picture:
    """One figure of results.json, with what a reader wants to know beside it. files: beside the page; size: of the png, in pixels."""

    name: str
    files: tuple[str, ...]
    size: tuple[int, int]
    caption: str
    failure: str
    seen: str
    claims: tuple[str, ...]
    again: str

    @property
    def png(self) -> str:
        """The file that a page shows."""
        return next(file for file in self.files if file.endswith(".png"))


@dataclass(frozen=True)
class Notebook:
    """What one notebook left at a scale.

    abstract: one sentence on what was found, empty where none is current. parameters: "seeds = 5, steps = 300", as it was run.
    """

    name: str
    scale: str
    folder: Path
    results: Mapping[str, Any]
    pictures: tuple[Picture, ...]
    abstract: str
    parameters: str

    @property
    def title(self) -> str:
        """In words, as settings.toml has it."""
        return str(registry.settings(self.name).get("title", self.name.replace("_", " ")))

    @property
    def counts(self) -> str:
        """How many claims hold; empty for a notebook without claims."""
        return summary.counts(self.results) if self.results["claims"] else ""


@dataclass(frozen=True)
class Answer:
    """One claim at one scale. ends: (estimate, low, high) in smallest effects, above 0 as claimed, None where unknown."""

    verdict: str
    word: str
    numbers: str
    networks: str
    specificity: str
    ends: tuple[float, float | None, float | None] | None


@dataclass(frozen=True)
class Line:
    """One claim at every scale there is."""

    id: str
    finding: str
    statement: str
    answers: Mapping[str, Answer]


def notebooks(base: Path) -> dict[str, dict[str, Notebook]]:
    """Scale -> notebook -> what lies in base/<scale>/<notebook>, scales in the order of `scales`, the notebook of all findings first.

    Raises CorruptFile for a folder whose files cannot be read.
    """
    found: dict[str, dict[str, Notebook]] = {}
    for scale in scales.SCALES:
        names = sorted(registry.notebooks(), key=registry.measures)
        there = {name: _notebook(base / scale / name, name, scale) for name in names if (base / scale / name / "results.json").is_file()}
        if there:
            found[scale] = there
    return found


def chosen(base: Path, wanted: list[str] | None) -> dict[str, dict[str, Notebook]]:
    """`notebooks`, of which pages of some scales are wanted: raises BadInput for an unknown one, MissingData for one without evidence."""
    for scale in wanted or ():
        scales.scale(scale)
    found = notebooks(base)
    missing = [scale for scale in wanted or () if scale not in found]
    if missing or not found:
        what = f"at scale {missing[0]} " if missing else ""
        raise MissingData(f"nothing is measured {what}in {store.shown(base)}: `reprolib run` measures")
    return found


def ledger(found: Mapping[str, Mapping[str, Notebook]]) -> list[Line]:
    """Every claim that was judged at some scale, in the ledger's order."""
    lines = []
    for claim in load_claims().values():
        answers = {scale: answer for scale, of in found.items() if (answer := _answer(of.get(claim.finding), claim))}
        if answers:
            lines.append(Line(claim.id, claim.finding, claim.statement, answers))
    return lines


def _answer(notebook: Notebook | None, claim: Claim) -> Answer | None:
    if notebook is None or (entry := next((one for one in notebook.results["claims"] if one["id"] == claim.id), None)) is None:
        return None
    word = entry["verdict"].partition(" (")[0]
    if word not in WORDS:
        told = store.shown(notebook.folder / "results.json")
        raise CorruptFile(f"{told} says {word!r} of {claim.id}, which is no verdict: restore it from git, or run the notebook again")
    return Answer(
        entry["verdict"], word, numbers(entry), networks_an_arm(entry), entry["specificity"],
        in_smallest_effects(entry, claim),
    )  # fmt: skip


def _notebook(folder: Path, name: str, scale: str) -> Notebook:
    # A run of a reader's own has no sentences beside it: the committed ones hold where they were written on the same numbers.
    results, seen = read_results(folder), read_seen(store.root() / "figures" / scale / name) | read_seen(folder)
    told = seen.get(ABSTRACT, {})
    abstract = told["text"] if told.get("claims") == claims_hash(results) else ""
    try:
        pictures = tuple(_picture(folder, entry, seen) for entry in results.get("figures", ()))
    except (KeyError, TypeError) as error:
        raise CorruptFile(f"{store.shown(folder / 'results.json')} tells of a figure without {error}: run the notebook again") from error
    return Notebook(name, scale, folder, results, pictures, abstract, _parameters(name, scale, results))


def _parameters(name: str, scale: str, results: Mapping[str, Any]) -> str:
    """What a run was told and its scale's presets of the rest, in words; empty for a run that knew other parameters than there are now."""
    told = results.get("provenance", {}).get("parameters", {})
    try:
        settings = parameters.validate(name, {**told, "scale": scale})
    except (BadInput, MissingData):
        return ""
    known = [one for one, parameter in parameters.of(name).items() if parameter.shapes_results and one not in ("scale", *parameters.OWN)]
    return ", ".join(f"{one} = {settings[one]}" for one in known if settings.values.get(one))  # 0: worked out by the notebook


def _picture(folder: Path, entry: Mapping[str, Any], seen: Mapping[str, Mapping[str, str]]) -> Picture:
    told = seen.get(entry["name"], {})
    text = told["text"] if told.get("rows") == entry["rows"] else ""
    png = folder / next((file for file in entry["files"] if file.endswith(".png")), "a png")
    try:
        again = explain.command(explain.read_stamp(png))
    except (BadInput, MissingData):  # a figure of an older notebook, or of one that is no more
        again = ""
    named = tuple(entry.get("claims", ()))
    return Picture(entry["name"], tuple(entry["files"]), _size(png), entry["caption"], entry["failure"], text, named, again)


def _size(png: Path) -> tuple[int, int]:
    """Width and height of a png, from its header. Raises CorruptFile for another file."""
    try:
        with open(png, "rb") as file:
            head = file.read(24)
        if head[:8] != explain.PNG or len(head) < 24:
            raise CorruptFile(f"{store.shown(png)} is no png: restore it from git, or run the notebook again")
    except OSError as error:
        raise MissingData(
            f"{store.shown(png)}, which results.json names, cannot be read: restore it from git, or run the notebook again"
        ) from error
    return struct.unpack(">II", head[16:24])
