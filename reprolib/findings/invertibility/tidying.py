"""From inversions to tidy rows: inverses are compared at the same d_rel, never at the same step, and none is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib.findings.invertibility.inverting import EVERY, TAUS, Eyes, Inverted, Task, likeness, ratios
from reprolib.judging.tidy import identity, row
from reprolib.measures import perceptual
from reprolib.models.networks import MINE
from reprolib.parameters import Settings
from reprolib.perturb.inversion import Inversion

REACH_NEEDED = 0.9

ARMS = ("standard", "robust")
"""The arms that are compared: their reach chooses the taus."""
DRAWN = (*ARMS, MINE)

CLAIMS = {"noise": "INV-2", "image": "INV-1", "grey": "grey", "outside": "INV-5"}
"""Under which claim the rows of a kind of start (or of targets from outside) are kept; grey starts are shown, and belong to none."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """What a part of the protocol measured: tidy rows, and what its figure draws (empty where rows alone are drawn)."""

    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    pictures: Any = field(default_factory=dict)


def unit_rows(
    base: Mapping[str, Any], claim: str, quantity: str, units: Iterable[object], unit_2: str, values: Tensor, reached: Tensor | bool = True
) -> Rows:
    """One row a unit of the network that `base` identifies: values (n,), reached (n,) or one for all."""
    each = zip(units, values.tolist(), torch.as_tensor(reached).expand(len(values)).tolist(), strict=True)
    return [{**base, **row(claim, quantity, unit, unit_2, value, is_reached)} for unit, value, is_reached in each]


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


def taus_of(settings: Settings, rows: pd.DataFrame) -> dict[str, float]:
    """The taus that decide, per kind of start: the one asked for, those frozen at this scale, else `deciding_taus` of the rows."""
    frozen = settings.values.get("taus", {})
    return {kind: settings["tau"] or frozen.get(kind, tau) for kind, tau in deciding_taus(rows).items()}


def reach_rows(inverted: Sequence[Inverted], task: Task, kind: str = "") -> pd.DataFrame:
    """Rows "reach@<tau>" (0 or 1 per target and start) under the claim of each start's kind, or of `kind`."""
    rows: Rows = []
    for one in inverted:
        base = identity(one.role, one.network)
        for start, run in one.runs.items():
            claim = CLAIMS[kind or kind_of(start)]
            for tau, reached in run.reached.items():
                rows += unit_rows(base, claim, f"reach@{tau:g}", task.ids, start, reached)
    return pd.DataFrame(rows)


def tidy(inverted: Sequence[Inverted], twice: Sequence[Inverted], task: Task, eyes: Eyes, taus: Mapping[str, float]) -> pd.DataFrame:
    """Unit-level rows of INV-1 to INV-3 but for the reach, the convergence control and trajectories.

    inverted: every network's run. twice: the same with twice the steps on the first targets. taus: deciding tau per kind of
    start, "noise", "image" and, where it is one of them, "grey".
    """
    rows: Rows = []
    for one in inverted:
        base = identity(one.role, one.network)
        for start, run in one.runs.items():
            share = run.zero_gradient.float().mean(
                dim=0, keepdim=True
            )  # such targets stay at their start: reported, not silently a failure
            rows += unit_rows(base, "inversion", "zero_gradient_share", ["all"], start, share)
            rows += run_rows(base, start, run, task, eyes, taus[kind_of(start)])
        rows += _trajectory_rows(base, one.runs["noise_0"], task, eyes)
    for one in twice:
        base = identity(one.role, one.network)
        single = next(i for i in inverted if i.network.sha256 == one.network.sha256)
        for start in one.runs:
            n, tau = len(one.runs[start].distance), taus[kind_of(start)]
            for factor, run in (("x1", single.runs[start]), ("x2", one.runs[start])):
                distance, reached = run.distance[:n], run.reached[tau][:n]
                rows += unit_rows(base, "converged", "final_distance", task.ids[:n], f"{start}|{factor}", distance, reached)
    return pd.DataFrame(rows + _judge_rows(task, eyes))


def code_size_rows(by_k: Mapping[int, Sequence[Inverted]], task: Task, eyes: Eyes) -> pd.DataFrame:
    """Rows of the sweep over the code's size: distance ratio and pixel correlation of the last iterates, unit_2 "k=4"."""
    rows: Rows = []
    for k, runs in by_k.items():
        for one in runs:
            x, base = one.runs["noise_0"].x, identity(one.role, one.network)
            first = task.first(len(x))
            rows += unit_rows(base, "code_size", "distance_ratio", first.ids, f"k={k}", eyes.ratio("standard", x, first, "noise_0"))
            rows += unit_rows(base, "code_size", "pixel_correlation", first.ids, f"k={k}", perceptual.pixel_correlation(x, first.targets))
    return pd.DataFrame(rows)


def reach_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of targets that reached each tau: one row per arm, seed and kind of start (or "outside"), one column per tau."""
    kinds = {claim: kind for kind, claim in CLAIMS.items()}
    found = rows[rows["quantity"].str.startswith("reach@") & rows["claim"].isin(list(kinds))]
    found = found.assign(tau=found["quantity"].str.removeprefix("reach@"), start=found["claim"].map(kinds))
    table = found.pivot_table(index=["start", "arm", "seed"], columns="tau", values="value", aggfunc="mean")
    return table[sorted(table.columns, key=lambda tau: float(str(tau)), reverse=True)].round(3)


def run_rows(base: Mapping[str, Any], start: str, run: Inversion, task: Task, eyes: Eyes, deciding: float) -> Rows:
    """Rows of INV-1 (image start) or of INV-2 and INV-3 (noise start) of one network's run: every tau, the last iterate, and what decides.

    base: who was inverted (`identity`). deciding: the tau whose rows have the claims' own quantities. Grey starts: claim "grey".
    """
    kind = kind_of(start)
    claim = CLAIMS[kind]
    rows: Rows = []

    def add(claim: str, quantity: str, values: Tensor) -> None:
        rows.extend(unit_rows(base, claim, quantity, task.ids, start, values, reached))

    for tau in (*run.reached, None):
        x, reached = (run.x, torch.ones_like(run.zero_gradient)) if tau is None else (run.at[tau], run.reached[tau])
        name = "final" if tau is None else f"{tau:g}"
        seen = eyes.classes("standard", x)
        ratio, recognised = eyes.ratio("standard", x, task, start), ((seen == task.y) & reached).float()
        add(claim, f"distance_ratio@{name}", ratio)
        if kind == "noise":
            add("INV-3", f"recognised@{name}", recognised)
        if tau != deciding:
            continue
        add(claim, "distance_ratio", ratio)
        add(claim, "distance_ratio_robust_judge", eyes.ratio("robust", x, task, start))
        for quantity, values in likeness(x, task.targets).items():
            add(claim, quantity, values)
        if kind == "image":
            add("INV-3", "recognised_start", (seen == task.start_y).float())
        if kind == "noise":
            add("INV-3", "recognised", recognised)
            add("INV-3", "recognised_robust_judge", ((eyes.classes("robust", x) == task.y) & reached).float())
    return rows


def _trajectory_rows(base: Mapping[str, Any], run: Inversion, task: Task, eyes: Eyes) -> Rows:
    rows: Rows = []
    for step, d_rel, ratio in zip(run.steps, run.trajectory, ratios(run.frames, task, eyes, len(task.ids)), strict=True):
        if step % (2 * EVERY) == 0 or step == run.steps[-1]:
            rows += unit_rows(base, "trajectory", "d_rel", task.ids, f"noise_0|{step}", d_rel)
            rows += unit_rows(base, "trajectory", "distance_ratio", task.ids, f"noise_0|{step}", ratio)
    return rows


def _judge_rows(task: Task, eyes: Eyes) -> Rows:
    """Ceiling: the standard judge on the targets themselves; floor: how often it gives other targets this one's class."""
    base = {"arm": "judge", "recipe": "std", "architecture": eyes.judges["standard"].architecture, "seed": 0, "network": "judge"}
    seen = eyes.classes("standard", task.targets)
    same = (seen == task.y.unsqueeze(1)).float()
    rows = unit_rows(base, "INV-3", "judge_ceiling", task.ids, "", same.diagonal())
    return rows + unit_rows(base, "INV-3", "judge_floor", task.ids, "", (same.sum(dim=1) - same.diagonal()) / (len(seen) - 1))
