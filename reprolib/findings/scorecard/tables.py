"""The scorecard's numbers as tidy rows: every claim's effect, every network's properties, and what each control explains of a change.

Of each number there are rows of three units: `value`, and `low` and `high` where there is a 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from reprolib import registry
from reprolib.display import control_words
from reprolib.errors import BadInput
from reprolib.figures.style import EXTERNAL, ROLES
from reprolib.figures.verdicts import in_smallest_effects
from reprolib.findings.scorecard.reading import Measured, Property
from reprolib.judging import claims
from reprolib.judging.controls import NOT_ASKED, control
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import NETWORK_CONTROLS, Claim, Contrast
from reprolib.judging.quantities import rows_of
from reprolib.judging.tidy import COLUMNS, KEY
from reprolib.measures.effects import Absent, NetworkValue, reach
from reprolib.measures.quantities import partial_rank_correlation
from reprolib.models.networks import MINE

ACCURACIES = ("clean_accuracy", "adversarial_accuracy")
LEAST_POINTS = 12  # recipes x architectures that a coefficient over networks needs
NO_ARM = ("judge", MINE)
NOBODY = {"arm": "", "recipe": "", "architecture": "", "seed": 0, "network": "", "unit_2": "", "reached": True}


def effects(results: Iterable[Mapping[str, Any]], ledger: Mapping[str, Claim]) -> pd.DataFrame:
    """Every claim's effect in units of the smallest that counts, above 0 as claimed; `unit_2` names the scale."""
    rows: list[dict[str, Any]] = []
    for result in results:
        for entry in result["claims"]:
            ends = in_smallest_effects(entry, ledger[entry["id"]])
            rows += _three({**NOBODY, "claim": entry["id"], "quantity": "effect", "unit_2": result["scale"]}, ends)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def networks(read: Mapping[str, Measured], wanted: Sequence[Property]) -> pd.DataFrame:
    """Every network by every property, with the interval that its images give it (hidden units give none), and its accuracies."""
    rows: list[dict[str, Any]] = []
    for of in wanted:
        evidence = read[of.claim.finding].evidence
        own = replace(of.claim.contrast, quantity=of.quantity)
        for contrast in (own, replace(own, claim=of.claim.control_rows)) if of.claim.control_rows else (own,):
            rows += _of_networks(of, contrast, evidence)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).drop_duplicates(KEY)
    there = [(of, card) for of in read.values() for name in ACCURACIES if (card := of.evidence.rows("networks", name)) is not None]
    cards = pd.concat([card.assign(architecture=[_told_apart(of.finding, name) for name in card["architecture"]]) for of, card in there])
    cards = cards[cards["network"].isin(table["network"])].drop_duplicates(["quantity", "network"]).assign(unit="value", unit_2="")
    found = pd.concat([cards, table], ignore_index=True)
    arms = found.drop_duplicates("network").set_index("network")["arm"]  # a network may play another role in another finding
    return found.assign(arm=found["network"].map(arms))


def _of_networks(of: Property, contrast: Contrast, evidence: Evidence) -> list[dict[str, Any]]:
    there = evidence.rows(contrast.claim, rows_of(contrast.finding, contrast.quantity)[0])
    if there is None:
        return []
    arms = tuple(arm for arm in dict.fromkeys(there["arm"]) if arm not in NO_ARM and not arm.startswith(EXTERNAL))
    recipes, rows = there.drop_duplicates("network").set_index("network")["recipe"], []
    for arm, values in evidence.of_networks(replace(contrast, arms=arms)).items():
        for (_, architecture, seed, network), number in values.items():
            if not isinstance(number, Absent):
                told = _told_apart(of.claim.finding, architecture)
                who = {"arm": arm, "recipe": recipes[network], "architecture": told, "seed": seed, "network": network}
                rows += _three({**NOBODY, **who, "claim": of.claim.id, "quantity": of.quantity}, _interval(number))
    return rows


def _told_apart(finding: str, architecture: str) -> str:
    """An architecture's name, with a word behind it where a finding's networks are none of the others'."""
    own = registry.settings(finding).get("own_table")
    return f"{architecture}, {own}" if own else architecture


def changes(read: Mapping[str, Measured]) -> pd.DataFrame:
    """Of every claim that compares robust with standard networks and was answered: the share of the change that each control makes.

    Of all controls that are measured, whether the claim names them or not: those that it does not name answer nothing.
    """
    rows: list[dict[str, Any]] = []
    for of in read.values():
        for entry in of.results["claims"]:
            claim = of.claims[entry["id"]]
            if entry["verdict"].partition(" (")[0] not in ("supported", "contradicted") or not is_change(claim):
                continue
            for name in NETWORK_CONTROLS:
                found = control(claim, name, of.evidence, holds=True)
                if found.share is not None and found.state != NOT_ASKED:
                    who = {**NOBODY, "claim": claim.id, "quantity": "share", "arm": name}
                    rows += _three(who, (found.share, found.low, found.high))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def is_change(claim: Claim) -> bool:
    """Whether a claim is of one number a network, in which robust networks are held against standard ones."""
    return claim.robust_arm is not None and claim.statistic in ("difference", "paired") and claim.direction in ("greater", "less")


def by_network(rows: pd.DataFrame, wanted: Sequence[Property]) -> pd.DataFrame:
    """The table for a reader: a row a network, a column a property, "0.95 [0.93, 0.97]"."""
    table = rows.pivot_table(
        index=["arm", "architecture", "seed", "recipe", "network"], columns=["claim", "quantity", "unit"], values="value", sort=False
    )
    told: dict[str, list[str]] = {}
    columns = [("clean", "networks", ACCURACIES[0]), ("under PGD", "networks", ACCURACIES[1])]
    for label, claim, quantity in [*columns, *((of.label, of.claim.id, of.quantity) for of in wanted)]:
        if (claim, quantity, "value") in table.columns:
            ends = [table[claim, quantity, unit] if (claim, quantity, unit) in table.columns else np.nan for unit in ("low", "high")]
            numbers = pd.DataFrame({"value": table[claim, quantity, "value"], "low": ends[0], "high": ends[1]})
            told[label] = [_told(*row) for row in numbers.itertuples(index=False)]
    order = {arm: place for place, arm in enumerate(ROLES)}
    found = pd.DataFrame(told, index=table.index).reset_index()
    return found.sort_values(
        ["arm", "architecture", "recipe", "seed"], key=lambda of: of.map(order) if of.name == "arm" else of, ignore_index=True
    )


def points(rows: pd.DataFrame, wanted: Sequence[Property]) -> pd.DataFrame:
    """A row a recipe and architecture (means over seeds), a column a property, and `arm`; untrained networks have no recipe, and are left out."""
    columns = {("networks", ACCURACIES[0]): "clean accuracy", **{(of.claim.id, of.quantity): of.label for of in wanted}}
    column = [columns.get(key, "") for key in zip(rows["claim"], rows["quantity"], strict=True)]
    values = rows.assign(column=column)[
        (rows["unit"] == "value") & (rows["arm"] != "untrained") & np.array([name != "" for name in column])
    ]
    means = values.groupby(["recipe", "architecture", "column", "network"])["value"].mean().groupby(level=[0, 1, 2]).mean()
    table = means.unstack("column")
    arms = values.drop_duplicates(["recipe", "architecture"]).set_index(["recipe", "architecture"])["arm"]
    return table.reindex(columns=[name for name in columns.values() if name in table]).assign(arm=arms)


def coefficient(table: pd.DataFrame, one: str, other: str, given: str = "clean accuracy") -> float | None:
    """Rank correlation of two properties over points, clean accuracy held fixed; None below 12 points that have both."""
    if len({one, other, given}) < 3:
        return None
    both = table[[one, other, given]].dropna()
    return None if len(both) < LEAST_POINTS else partial_rank_correlation(*(both[name].to_numpy() for name in (one, other, given)))


def verdicts(results: Iterable[Mapping[str, Any]], ledger: Mapping[str, Claim]) -> pd.DataFrame:
    """The ledger for a reader: a row a claim, at each scale whether it holds, on what estimate, and whether only adversarial training does it."""
    told: dict[str, dict[str, str]] = {}
    for result in results:
        for entry in result["claims"]:
            shares = "; ".join(control_words(one) for one in entry["controls"] if one["share"] is not None)
            numbers = claims.numbers(entry)
            answers = " · ".join(text for text in (entry["verdict"], numbers, entry["specificity"], shares) if text)
            told.setdefault(entry["id"], {})[result["scale"]] = answers
    frame = pd.DataFrame.from_dict(told, orient="index").reindex([name for name in ledger if name in told])
    frame.insert(0, "claim", [ledger[name].statement for name in frame.index])
    return frame.fillna("").rename_axis("id").reset_index()


def drawn(rows: pd.DataFrame) -> list[str]:
    """What `study.figure` is told of rows: "<claim> <quantity>" of each."""
    return sorted(set(rows["claim"] + " " + rows["quantity"]))


def read_off(rows: pd.DataFrame, **where: Any) -> tuple[float, float, float]:
    """(value, low, high) of one number, nan where there is no interval. Raises BadInput where it is not there."""
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    found = rows.set_index("unit")["value"]
    if "value" not in found.index:
        raise BadInput(f"no row of {', '.join(f'{column} {wanted}' for column, wanted in where.items())}")
    return float(found["value"]), float(found.get("low", math.nan)), float(found.get("high", math.nan))


def _three(who: dict[str, Any], numbers: tuple[float, float | None, float | None] | None) -> list[dict[str, Any]]:
    named = zip(("value", "low", "high"), numbers or (), strict=False)
    return [{**who, "unit": unit, "value": float(number)} for unit, number in named if number is not None and math.isfinite(number)]


def _interval(number: NetworkValue) -> tuple[float, float | None, float | None]:
    """Student's t over the resamples of a network's units, as in `measures.effects`."""
    if number.draws is None or number.n < 2:
        return number.value, None, None
    half, _ = reach([(float(np.var(number.draws)), number.n - 1)])
    return number.value, number.value - half, number.value + half


def _told(value: float, low: float, high: float) -> str:
    ends = "" if math.isnan(low) else f" [{low:.2g}, {high:.2g}]"
    return "" if math.isnan(value) else f"{value:.2g}{ends}"
