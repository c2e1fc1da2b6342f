"""Are the committed verdicts those of the committed rows? `audit` judges the rows again, `strict` asks what is still owed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprolib import registry, store
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.judging.claims import judge_finding
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import claims_sha256, load_claims
from reprolib.judging.tidy import read_rows
from reprolib.provenance import git

RELATIVE = 1e-5  # numbers are kept to 6 digits; the last one may differ between kinds of CPU
ABSOLUTE = 1e-9
MOVED = 0.1  # of the smallest effect: estimates that lie further apart are named when a run is compared with the evidence


def read_results(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """A folder's results.json. Raises MissingData when it is not there, CorruptFile when it is not such a file."""
    path = Path(folder) / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingData(f"{path} is not there: run the finding's notebook at that scale to make it") from error
    except ValueError as error:
        raise CorruptFile(f"{path} is not valid JSON ({error}): restore the committed file or run the notebook again") from error
    needed = ("finding", "scale", "claims", "claims_sha256")
    absent = [key for key in needed if not isinstance(results, dict) or key not in results]
    if absent:
        raise CorruptFile(f"{path} has no {absent[0]!r}: it is not a results file, run the notebook again")
    older = next((entry["id"] for entry in results["claims"] if "specificity" not in entry), None)
    if older is not None:
        raise CorruptFile(f"{path} has one answer to {older} where there are two: it was judged by an older rule, run the notebook again")
    return results


def read_seen(folder: Path) -> dict[str, dict[str, str]]:
    """What a person who looked saw in each committed figure, by folder/seen.toml: a table a figure, empty where the file is not there.

    `rows`: first 12 digits of `tidy.rows_hash` of the rows that it was drawn from; `text`: one sentence. A table `finding` tells what was
    found, and has `claims`, see `claims_hash`, in the place of `rows`. Raises CorruptFile for another file.
    """
    path = folder / "seen.toml"
    try:
        seen = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CorruptFile(f"{path} is not valid TOML ({error}): restore the committed file") from error
    if wrong := next((name for name, told in seen.items() if not isinstance(told, dict) or not isinstance(told.get("text"), str)), None):
        raise CorruptFile(f"{path} has no text in [{wrong}]: restore the committed file, or write what is seen there")
    return seen


def claims_hash(results: Mapping[str, Any]) -> str:
    """The first 12 digits of a sha256 over both answers to every claim and its interval: what a sentence on the finding was written on."""
    told = [[entry[key] for key in ("id", "verdict", "specificity", "estimate", "low", "high")] for entry in results["claims"]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def results_in_git(folder: Path) -> dict[str, Any] | None:
    """The results.json that git holds for `folder` in HEAD; None where there is no git, or no such file."""
    text = git("show", "HEAD:./results.json", folder=folder)
    return None if text is None else json.loads(text)


def audit(folder: str | os.PathLike[str]) -> list[str]:
    """Every difference between a folder's results.json and what its rows.csv.gz give today; empty when they agree.

    Everything is judged again: estimates, intervals, networks, parts, controls, both answers and reasons; the hash of the finding's
    claims must be the one the results were judged with. Of a notebook without claims: whether the rows that it read are still those.
    """
    folder = Path(folder)
    results = read_results(folder)
    where = f"{results['scale']}/{results['finding']}"
    if not registry.measures(results["finding"]):
        read = results.get("provenance", {}).get("data", {})
        return [f"{where}: {name} is not as it was when this was drawn: run it again" for name in read if _sha256(name) != read[name]]
    differences = []
    judged_by, now = str(results["claims_sha256"]), claims_sha256(results["finding"])
    if judged_by != now:
        differences.append(f"{where}: judged by claims {judged_by[:12]}, claims.toml is now {now[:12]}: judge again")
    try:
        rows = Evidence(read_rows(folder / "rows.csv.gz"), results["scale"], is_rounded=True)
        again = judge_finding(results["finding"], rows)
    except BadInput as error:
        return [*differences, f"{where}: the rows cannot be judged: {error}"]
    written = {entry["id"]: entry for entry in results["claims"]}
    for entry in again:
        name = entry["id"]
        if name in written:
            differences += [f"{where} {name}: {line}" for line in _differences(written.pop(name), entry)]
        else:
            differences.append(f"{where} {name}: is in claims.toml but not in results.json")
    return differences + [f"{where} {name}: is in results.json but not in claims.toml" for name in written]


def strict(folder: str | os.PathLike[str], committed: Mapping[str, Any] | None = None) -> list[str]:
    """What stands between a folder's results and a clean bill: required claims not run, figures nobody looked at, answers that changed.

    committed: results whose answers they must equal, where given.
    """
    results = read_results(folder)
    where = f"{results['scale']}/{results['finding']}"
    owed = [entry for entry in results["claims"] if entry["required"] and entry["verdict"].startswith("not run")]
    lines = [f"{where} {entry['id']}: required, but {entry['verdict']}" for entry in owed]
    seen = read_seen(Path(folder))
    for figure in results.get("figures", ()):
        if seen.get(figure["name"], {}).get("rows") != figure["rows"]:
            state = "stale" if figure["name"] in seen else "missing"
            lines.append(f"{where} figure {figure['name']}: what is seen in it is {state} in seen.toml (rows {figure['rows']})")
    if results["claims"] and seen.get("finding", {}).get("claims") != claims_hash(results):
        lines.append(f"{where}: the sentence on what was found is missing or stale in seen.toml (claims {claims_hash(results)})")
    return lines + [f"{where} {line}" for line in changed_answers(committed or results, results)]


def _sha256(name: str) -> str:
    """Of a file named from the root; empty where it is not there."""
    path = store.root() / name
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def changed_answers(committed: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    """One sentence for each claim whose two answers are not the same in both results."""
    before, now = ({entry["id"]: both_answers(entry) for entry in results["claims"]} for results in (committed, made))
    return [
        f"{name}: {now.get(name, 'absent')}, committed as {before.get(name, 'absent')}"
        for name in [*before, *(name for name in now if name not in before)]
        if before.get(name) != now.get(name)
    ]


def comparison_lines(committed: Mapping[str, Any], made: Mapping[str, Any], where: str) -> list[str]:
    """How results differ from the committed ones at `where`: a line for each answer that changed and each estimate that moved by what counts."""
    if not made["claims"]:
        return _figures_compared(committed, made, where)
    claims, before = load_claims(str(made["finding"])), {entry["id"]: entry for entry in committed["claims"]}
    changed, moved = changed_answers(committed, made), []
    for entry in made["claims"]:
        claim, was = claims.get(entry["id"]), before.get(entry["id"], {}).get("estimate")
        if claim is None or was is None or entry["estimate"] is None:
            continue
        of_first = [*entry["networks"].get(claim.arms[0], {}).values()]
        smallest = claim.smallest_effect * (abs(sum(of_first) / len(of_first)) if claim.relative and of_first else 1.0)
        if abs(entry["estimate"] - was) > MOVED * smallest:
            moved.append(f"{entry['id']}: estimate {entry['estimate']:+.3g}, committed {was:+.3g} (counts from {smallest:.3g})")
    if not changed + moved:
        return [f"compared with {where}: every answer agrees, and every estimate to a tenth of its smallest effect"]
    first = f"compared with {where}: {len(changed)} answers differ, {len(moved)} estimates moved"
    return [first, *(f"  {line}" for line in changed + moved)]


def _figures_compared(committed: Mapping[str, Any], made: Mapping[str, Any], where: str) -> list[str]:
    """Of a notebook without claims: which figures are drawn from other numbers than the committed ones."""
    before = {figure["name"]: figure["rows"] for figure in committed.get("figures", ())}
    other = [figure["name"] for figure in made.get("figures", ()) if before.get(figure["name"]) != figure["rows"]]
    told = f"other numbers in {', '.join(other)}" if other else "every figure is drawn from the same numbers"
    return [f"compared with {where}: {told}"]


def both_answers(entry: Mapping[str, Any]) -> str:
    """Does it hold, and is it specific: "supported, specific"."""
    return ", ".join(text for text in (entry["verdict"], entry["specificity"]) if text)


def _differences(written: Any, again: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, as sentences; numbers may differ in their last digit."""
    if isinstance(written, Mapping) and isinstance(again, Mapping):
        keys = [*written, *(key for key in again if key not in written)]
        return [line for key in keys for line in _differences(written.get(key), again.get(key), f"{path}.{key}" if path else key)]
    if isinstance(written, list) and isinstance(again, list):
        if len(written) != len(again):
            return [f"{path} has {len(written)} entries, the rows give {len(again)}"]
        return [line for k, pair in enumerate(zip(written, again, strict=True)) for line in _differences(*pair, f"{path}[{k}]")]
    numbers = [value for value in (written, again) if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) == 2 and math.isclose(*numbers, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
        return []
    return [] if written == again and type(written) is type(again) else [f"{path} is {written!r}, the rows give {again!r}"]
