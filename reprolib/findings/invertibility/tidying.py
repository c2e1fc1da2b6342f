"""From inversions to tidy rows: inverses are compared at the same d_rel, never at the same step, and none is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib.findings.invertibility.inverting import EVERY, TAUS, Eyes, Inverted, Task, likeness, ratios
from reprolib.judging.tidy import identity, row
from reprolib.measures import perceptual
from reprolib.perturb.inversion import Inversion

REACH_NEEDED = 0.9

ARMS = ("standard", "robust")
"""The arms that are compared: their reach chooses the taus."""

CLAIMS = {"noise": "INV-2", "image": "INV-1", "grey": "grey", "outside": "INV-5"}
"""Under which claim the rows of a kind of start (or of targets from outside) are kept; grey starts are shown, and belong to none."""


@dataclass(frozen=True)
class Part:
    """What a part of the protocol measured: tidy rows, and what its figure draws (empty where rows alone are drawn)."""

    rows: pd.DataFrame
    pictures: dict[str, Any] = field(default_factory=dict)


def kind_of(start: str) -> str:
    """The kind of a start: "noise" of noise_0, noise_1, ...; "image" and "grey" of themselves."""
    return start.split("_")[0]


def deciding_taus(rows: pd.DataFrame, arms: Sequence[str] = ARMS) -> dict[str, float]:
    """Per kind ("noise" and "image" starts, "outside" targets) the smallest tau that 90 % of the targets reach in every network of `arms`.

    rows: with the "reach@<tau>" rows of INV-1 (image starts), INV-2 (noise starts) and, where they were measured, INV-5
    (targets from outside). Chosen from the reach alone; the largest tau where none is reached so often. Grey starts have no
    say and go by the tau of the noise starts.
    """
    taus = {}
    for kind in ("noise", "image", "outside"):
        found = rows[(rows["claim"] == CLAIMS[kind]) & rows["quantity"].str.startswith("reach@") & rows["arm"].isin(list(arms))]
        if found.empty and kind == "outside":
            continue
        shares = found.groupby(["quantity", "network"])["value"].mean().groupby("quantity").min()
        enough = [float(str(name).removeprefix("reach@")) for name, share in shares.items() if share >= REACH_NEEDED]
        taus[kind] = min(enough, default=max(TAUS))
    return taus | ({"grey": taus["noise"]} if (rows["claim"] == CLAIMS["grey"]).any() else {})


def reach_rows(inverted: Sequence[Inverted], task: Task) -> pd.DataFrame:
    """Rows "reach@<tau>" (0 or 1 per target and start) of INV-1 for image starts and INV-2 for noise starts."""
    rows: list[dict[str, Any]] = []
    for one in inverted:
        base = identity(one.role, one.network)
        for start, run in one.runs.items():
            rows += reached_rows(base, CLAIMS[kind_of(start)], start, run, task.ids)
    return pd.DataFrame(rows)


def reached_rows(base: Mapping[str, Any], claim: str, start: str, run: Inversion, units: Sequence[int]) -> list[dict[str, Any]]:
    """Rows "reach@<tau>" of one network's run from one start, under `claim`."""
    return [
        {**base, **row(claim, f"reach@{tau:g}", unit, start, reached[i], True)}
        for tau, reached in run.reached.items()
        for i, unit in enumerate(units)
    ]


def tidy(inverted: Sequence[Inverted], twice: Sequence[Inverted], task: Task, eyes: Eyes, taus: Mapping[str, float]) -> pd.DataFrame:
    """Unit-level rows of INV-1 to INV-3 but for the reach, the convergence control and trajectories.

    inverted: every network's run. twice: the same with twice the steps on the first targets. taus: deciding tau per kind of
    start, "noise", "image" and, where it is one of them, "grey".
    """
    rows: list[dict[str, Any]] = []
    for one in inverted:
        base = identity(one.role, one.network)
        for start, run in one.runs.items():
            share = run.zero_gradient.float().mean()  # such targets stay at their start: reported, not silently a failure of the network
            rows.append(base | row("inversion", "zero_gradient_share", "all", start, share, True))
            rows += run_rows(base, start, run, task, eyes, taus[kind_of(start)])
        rows += _trajectory_rows(base, one.runs["noise_0"], task, eyes)
    for one in twice:
        base = identity(one.role, one.network)
        single = next(i for i in inverted if i.network.sha256 == one.network.sha256)
        for start in one.runs:
            tau = taus[kind_of(start)]
            for factor, run in (("x1", single.runs[start]), ("x2", one.runs[start])):
                for i in range(len(one.runs[start].distance)):
                    told = row("converged", "final_distance", task.ids[i], f"{start}|{factor}", run.distance[i], run.reached[tau][i])
                    rows.append(base | told)
    rows += _judge_rows(task, eyes)
    return pd.DataFrame(rows)


def code_size_rows(by_k: Mapping[int, Sequence[Inverted]], task: Task, eyes: Eyes) -> pd.DataFrame:
    """Rows of the sweep over the code's size: distance ratio and pixel correlation of the last iterates, unit_2 "k=4"."""
    rows: list[dict[str, Any]] = []
    for k, runs in by_k.items():
        for one in runs:
            x = one.runs["noise_0"].x
            targets, start = task.targets[: len(x)], task.starts["noise_0"][: len(x)]
            ratio = eyes.distance("standard", x, targets) / eyes.distance("standard", start, targets)
            for quantity, values in (("distance_ratio", ratio), ("pixel_correlation", perceptual.pixel_correlation(x, targets))):
                base = identity(one.role, one.network)
                rows += [base | row("code_size", quantity, task.ids[i], f"k={k}", values[i], True) for i in range(len(x))]
    return pd.DataFrame(rows)


def reach_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of targets that reached each tau: one row per arm, seed and kind of start (or "outside"), one column per tau."""
    kinds = {claim: kind for kind, claim in CLAIMS.items()}
    found = rows[rows["quantity"].str.startswith("reach@") & rows["claim"].isin(list(kinds))]
    found = found.assign(tau=found["quantity"].str.removeprefix("reach@"), start=found["claim"].map(kinds))
    table = found.pivot_table(index=["start", "arm", "seed"], columns="tau", values="value", aggfunc="mean")
    return table[sorted(table.columns, key=lambda tau: float(str(tau)), reverse=True)].round(3)


def run_rows(base: Mapping[str, Any], start: str, run: Inversion, task: Task, eyes: Eyes, deciding: float) -> list[dict[str, Any]]:
    """Rows of INV-1 (image start) or of INV-2 and INV-3 (noise start) of one network's run: every tau, the last iterate, and what decides.

    base: who was inverted (`identity`). deciding: the tau whose rows have the claims' own quantities. Grey starts: claim "grey".
    """
    kind = kind_of(start)
    claim = CLAIMS[kind]
    at_start = {judge: eyes.distance(judge, task.starts[start], task.targets) for judge in ("standard", "robust")}
    everyone = torch.ones(len(task.ids), dtype=torch.bool, device=task.targets.device)
    rows: list[dict[str, Any]] = []

    def add(claim: str, quantity: str, values: Tensor, reached: Tensor) -> None:
        rows.extend({**base, **row(claim, quantity, task.ids[i], start, values[i], reached[i])} for i in range(len(task.ids)))

    for tau in (*run.reached, None):
        x, reached = (run.x, everyone) if tau is None else (run.at[tau], run.reached[tau])
        name = "final" if tau is None else f"{tau:g}"
        seen = eyes.classes("standard", x)
        ratio, recognised = eyes.distance("standard", x, task.targets) / at_start["standard"], (seen == task.y) & reached
        add(claim, f"distance_ratio@{name}", ratio, reached)
        if kind == "noise":
            add("INV-3", f"recognised@{name}", recognised.float(), reached)
        if tau != deciding:
            continue
        add(claim, "distance_ratio", ratio, reached)
        add(claim, "distance_ratio_robust_judge", eyes.distance("robust", x, task.targets) / at_start["robust"], reached)
        for quantity, values in likeness(x, task.targets).items():
            add(claim, quantity, values, reached)
        if kind == "image":
            add("INV-3", "recognised_start", (seen == task.start_y).float(), reached)
        if kind == "noise":
            add("INV-3", "recognised", recognised.float(), reached)
            add("INV-3", "recognised_robust_judge", ((eyes.classes("robust", x) == task.y) & reached).float(), reached)
    return rows


def _trajectory_rows(base: dict[str, Any], run: Inversion, task: Task, eyes: Eyes) -> list[dict[str, Any]]:
    by_step = ratios(run.frames, task, eyes, len(task.ids))
    rows = []
    for k, step in enumerate(run.steps):
        if step % (2 * EVERY) and step != run.steps[-1]:
            continue
        for i, unit in enumerate(task.ids):
            rows.append(base | row("trajectory", "d_rel", unit, f"noise_0|{step}", run.trajectory[k, i], True))
            rows.append(base | row("trajectory", "distance_ratio", unit, f"noise_0|{step}", by_step[k, i], True))
    return rows


def _judge_rows(task: Task, eyes: Eyes) -> list[dict[str, Any]]:
    """Ceiling: the standard judge on the targets themselves; floor: how often it gives other targets this one's class."""
    judge = eyes.judges["standard"]
    base = {"arm": "judge", "recipe": "std", "architecture": judge.architecture, "seed": 0, "network": "judge"}
    seen = eyes.classes("standard", task.targets)
    rows = []
    for i, unit in enumerate(task.ids):
        rows.append(base | row("INV-3", "judge_ceiling", unit, "", seen[i] == task.y[i], True))
        same = (seen == task.y[i]).float()
        rows.append(base | row("INV-3", "judge_floor", unit, "", (same.sum() - same[i]) / (len(seen) - 1), True))
    return rows
