"""What results.json says, in lines for a person: how many claims hold, each claim's two answers, how two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprolib.display import control_words
from reprolib.judging.claims import networks_an_arm, numbers

WIDTH = 110  # columns of a line
GROUPS = {
    "holds": ("supported",),
    "does not hold": ("contradicted", "negligible"),
    "open": ("inconclusive",),
    "not run": ("not run",),
}


def counts(results: Mapping[str, Any]) -> str:
    """ "holds 6 (2 of them only with adversarial training), open 3"; README's table is held to it by a test."""
    told = []
    for name, words in GROUPS.items():
        claims = [claim for claim in results["claims"] if _word(claim) in words]
        if claims:
            alone = sum(claim["specificity"] == "specific" for claim in claims)
            told.append(
                f"{name} {len(claims)}" + (f" ({alone} of them only with adversarial training)" if alone and name == "holds" else "")
            )
    return ", ".join(told) or "no claims"


def headline(results: Mapping[str, Any], page: str = "") -> str:
    """ "invertibility at scale cifar: holds 6 (2 of them only with adversarial training), open 3 · page: ..."."""
    where = f" · page: {page}" if page else ""
    return f"{results['finding']} at scale {results['scale']}: {counts(results)}{where}"


def verdict_lines(results: Mapping[str, Any], why: bool = False) -> list[str]:
    """One line a claim: id, verdict, estimate [interval], networks an arm, and whether it is specific or why it is open.

    why: below each its reason, its controls and its parts. Last, whether the numbers were measured in this run.
    """
    claims, lines = results["claims"], []
    wide = max((len(claim["id"]) for claim in claims), default=0)
    for claim in claims:
        tail = claim["specificity"] or claim["verdict"].partition(" (")[2].removesuffix(")")
        line = f"{claim['id']:{wide}}  {_word(claim):12}  {numbers(claim):24}  {networks_an_arm(claim):14}  {tail}".rstrip()
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…")
        if why:
            lines += [f"{'':{wide}}  {text}" for text in _why(claim)]
    return [*lines, f"measured: {results.get('measured', 'yes')}"]


def _why(claim: Mapping[str, Any]) -> list[str]:
    parts = [f"{part['name']}: {numbers(part) or '-'} {part['state']}" for part in claim["parts"]]
    return [claim["reason"], *map(control_words, claim["controls"]), *parts]


def _word(claim: Mapping[str, Any]) -> str:
    return str(claim["verdict"]).partition(" (")[0]
