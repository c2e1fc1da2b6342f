"""What rows say of each network, for tables and figures: its answers counted, its shifts against others, its shares by category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from reprolib.figures import style
from reprolib.findings.shape_bias.asking import CONFLICT
from reprolib.findings.shape_bias.networks import ARMS, CONTROLS
from reprolib.judging.evidence import Evidence
from reprolib.measures.effects import Effect
from reprolib.measures.intervals import of_share
from reprolib.models.external import CLAIM as EXTERNAL

ANSWERS = ("answers", "answers@tinycnn", "answers@lenet", "answers@net14")
"""Rows of conflict stimuli: of the scale's own architecture, and of others."""
NETWORK = ["arm", "recipe", "architecture", "seed", "network"]


def counted(rows: pd.DataFrame, quantity: str = "answers", claims: Sequence[str] = (CONFLICT,), kept: Sequence[str] = ()) -> pd.DataFrame:
    """A row a network: n_shape, n_texture, n, coverage, and value, low, high: the share of the first among both (95 % over stimuli), nan without.

    quantity: a ratio's rows, of which value 1 counts as the first. kept: columns by which a network's rows are told apart.
    """
    found = rows[rows["claim"].isin(list(claims)) & (rows["quantity"] == quantity)]
    by = found.assign(n_shape=found["value"] * found["reached"], n_answered=found["reached"], n=1).groupby([*NETWORK, *kept])
    table = by[["n_shape", "n_answered", "n"]].sum().reset_index()
    ends = [of_share(int(k), int(n)) if n else (float("nan"),) * 3 for k, n in zip(table["n_shape"], table["n_answered"], strict=True)]
    table[["value", "low", "high"]] = pd.DataFrame(ends, index=table.index, columns=["value", "low", "high"], dtype=float)
    return table.assign(n_texture=table["n_answered"] - table["n_shape"], coverage=table["n_answered"] / table["n"])


def told(rows: pd.DataFrame) -> pd.DataFrame:
    """What the notebook shows: shape bias, coverage, answers by shape and by texture, of so many, and graded preference; means of each kind of network."""
    table = pd.concat([counted(rows, quantity, [CONFLICT, EXTERNAL]) for quantity in ANSWERS])
    graded = rows[(rows["quantity"] == "graded") & (rows["claim"] == CONFLICT)].groupby("network")["value"].mean()
    table["graded"] = table["network"].map(graded)
    columns = {"value": "bias", "coverage": "coverage", "n_shape": "shape", "n_texture": "texture", "n": "of"}
    order = {arm: k for k, arm in enumerate(style.in_order(list(table["arm"])))}
    kinds = table.sort_values("arm", key=lambda arms: arms.map(order), kind="stable").groupby(["architecture", "arm"], sort=False)
    means = kinds[[*columns, "graded"]].mean().round({"n_shape": 0, "n_texture": 0}).rename(columns=columns).round(3)
    return means.assign(networks=kinds.size()).reset_index()


def shifts(rows: pd.DataFrame) -> pd.DataFrame:
    """Robust minus each control, and each control minus standard, with the interval that verdicts are read from: control, side, estimate, low, high."""
    evidence = Evidence(rows[(rows["claim"] == CONFLICT) & (rows["quantity"] == "answers")], "smoke", is_rounded=True)
    contrast, found = evidence.claims["SHP-5"].contrast, []
    there = set(rows.loc[(rows["claim"] == CONFLICT) & (rows["quantity"] == "answers"), "arm"])
    for control in (one for one in (*CONTROLS, "untrained") if one in there):
        for side, arms in (("robust minus it", (control, ARMS[1])), ("it minus standard", (ARMS[0], control))):
            effect = evidence.effect(replace(contrast, name=side, statistic="difference", arms=arms))
            if isinstance(effect, Effect):
                found.append((control, side, effect.estimate, effect.low, effect.high))
    return pd.DataFrame(found, columns=["control", "side", "estimate", "low", "high"])


def by_category(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """A row a network of those arms and shape category: columns as of `counted`, and category."""
    found = rows[(rows["claim"] == CONFLICT) & (rows["quantity"] == "answers") & rows["arm"].isin(list(arms))]
    return counted(found.assign(category=found["unit_2"].str.partition("+")[0]), kept=["category"])


def pairs(rows: pd.DataFrame, at: str) -> pd.DataFrame:
    """Robust minus standard, seed by seed, of the networks behind whose quantities stands `at`: seed, value (shape bias), graded."""
    of = counted(rows, f"answers{at}")
    preferred = rows[(rows["claim"] == CONFLICT) & (rows["quantity"] == f"graded{at}")].groupby(["arm", "seed"])["value"].mean()
    value = of.set_index(["arm", "seed"])["value"]
    seeds = sorted(set(of.loc[of["arm"] == ARMS[0], "seed"]) & set(of.loc[of["arm"] == ARMS[1], "seed"]))
    found = {"seed": seeds}
    for name, series in (("value", value), ("graded", preferred)):
        found[name] = [series.get((ARMS[1], seed), math.nan) - series.get((ARMS[0], seed), math.nan) for seed in seeds]
    return pd.DataFrame(found)
