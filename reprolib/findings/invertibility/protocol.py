"""The whole protocol of the finding, and what its figures and explorer draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch

from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, invert_task, last_map_px, make_task, ratios
from reprolib.findings.invertibility.parts import PARTS, Bench
from reprolib.findings.invertibility.tidying import ARMS, CLAIMS, code_size_rows, deciding_taus, kind_of, reach_rows, reach_table, tidy
from reprolib.models import external
from reprolib.models.networks import Network
from reprolib.study import Study

NOISE_ONLY = ("untrained", "blur")
"""Roles that start from noise alone; the others from every start."""

CONVERGED = (*ARMS, "robust_small")
"""Roles inverted once more with twice the steps: those whose quantities a claim with the control "converged" compares."""

SHOWN = ("standard", "gauss", "robust_small", "robust", "robust_large", "untrained")
"""Rows of the hero grid, top to bottom."""

CODE_SIZES = (1, 2, 4, 8)
N_CODE_SIZE = 24


@dataclass(frozen=True)
class Measured:
    """What the notebook draws from: rows, the deciding tau per kind of start, and pictures (None where there are no images).

    taus: per kind of start, "noise" and "image", and for targets from "outside". reach: share of targets that reached each
    tau, per arm, seed and kind of start. cells, sizes, frames: what `plots.hero_grid`, `plots.code_size` and
    `explore.invertibility` draw. pictures: what the figures of the parts (keys of `PARTS`) draw; empty where there are no images.
    """

    rows: pd.DataFrame
    taus: dict[str, float]
    reach: pd.DataFrame
    cells: list[dict[str, Any]] | None = None
    sizes: dict[str, Any] | None = None
    frames: dict[str, Any] | None = None
    pictures: dict[str, Any] = field(default_factory=dict)


def run(study: Study, nets: Mapping[str, Sequence[Network]], judges: Mapping[str, Network]) -> Measured:
    """The whole protocol on the networks of each role; where the images are absent, the committed rows stand in.

    A role without networks is left out, with every row it would have. Networks of `NOISE_ONLY` invert from noise, all others
    from every start. Then come the `PARTS`.
    """
    if not study.can_measure:
        rows = study.committed_rows()
        return Measured(rows, deciding_taus(rows), reach_table(rows))
    settings = study.settings
    task = make_task(study.images("test"), settings["n_targets"], settings["n_noise"], study.device, settings.values.get("n_grey", 0))
    eyes = Eyes(judges)
    steps, step, pool = settings["steps"], settings["step"], settings["pool"]
    measured_taus = sorted({*TAUS, settings["tau"]} - {0.0}, reverse=True)
    inverted, twice = [], []
    for role, networks in nets.items():
        starts = [start for start in task.starts if role not in NOISE_ONLY or kind_of(start) == "noise"]
        for network in networks:
            inverted.append(invert_task(role, network, task, steps, step, pool, starts, report=study.report, taus=measured_taus))
            if role in CONVERGED:
                n = settings["n_converged"]
                twice.append(invert_task(role, network, task, 2 * steps, step, pool, starts, n, study.report, measured_taus))
    reach = reach_rows(inverted, task)
    taus = deciding_taus(reach)
    if settings["tau"]:
        taus = dict.fromkeys(taus, settings["tau"])
    by_k = _code_sizes(study, nets, task, measured_taus, inverted)
    rows = pd.concat([reach, tidy(inverted, twice, task, eyes, taus), code_size_rows(by_k, task, eyes)], ignore_index=True)
    bench = Bench(study, nets, judges, task, eyes, inverted, rows, taus, measured_taus)
    parts = {name: part(bench) for name, part in PARTS.items()}
    rows = _joined(rows, *(part.rows for part in parts.values()))
    rows = _joined(rows, _carried_over(study, rows))
    if (rows["claim"] == CLAIMS["outside"]).any():
        taus["outside"] = settings["tau"] or deciding_taus(rows)["outside"]
    sizes = {"targets": task.targets[:6], "k": {k: {one.role: one.runs["noise_0"].x[:6] for one in runs} for k, runs in by_k.items()}}
    return Measured(
        rows, taus, reach_table(rows), hero_cells(inverted, task, eyes, taus), sizes,
        frames([one for one in inverted if one.role in ARMS], task, eyes), {name: part.pictures for name, part in parts.items()},
    )  # fmt: skip


def _carried_over(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Committed rows of what cannot be measured here: somebody else's networks, and sets from outside whose files are absent.

    Rows of a network of ours only where it is the one that was measured now. None in a run with a turned knob.
    """
    if study.settings.overridden or not (study.folder / "rows.csv.gz").exists():
        return rows.iloc[:0]
    committed = study.committed_rows()
    absent = ~pd.MultiIndex.from_frame(committed[["claim", "quantity"]]).isin(pd.MultiIndex.from_frame(rows[["claim", "quantity"]]))
    is_external = (committed["claim"] == external.CLAIM) & (study.settings.scale.dataset == external.DATASET)
    is_outside = (committed["claim"] == CLAIMS["outside"]) & committed["network"].isin(rows["network"])
    return committed[absent & (is_external | is_outside)]


def _joined(*frames: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


def _code_sizes(
    study: Study, nets: Mapping[str, Sequence[Network]], task: Task, taus: Sequence[float], inverted: Sequence[Inverted]
) -> dict[int, list[Inverted]]:
    """Inversions from `noise_0` by the code's side k, of the first network of each arm; sides up to that of their last maps.

    Those of the deciding k are among `inverted` already.
    """
    settings = study.settings
    firsts = {role: nets[role][0] for role in ARMS if nets.get(role)}
    largest = min((last_map_px(network, task.targets.shape[-1]) for network in firsts.values()), default=0)
    n = min(len(task.ids), settings.values.get("n_code_size", N_CODE_SIZE))
    decided = {one.role: _first(one, n) for one in reversed(inverted)}  # of each role the first network remains
    return {
        k: [
            decided[role]
            if k == settings["pool"]
            else invert_task(role, network, task, settings["steps"], settings["step"], k, ["noise_0"], n, study.report, taus)
            for role, network in firsts.items()
        ]
        for k in CODE_SIZES
        if k <= largest
    }


def _first(one: Inverted, n: int) -> Inverted:
    """The last iterates of its first n targets from `noise_0`."""
    run = one.runs["noise_0"]
    return replace(one, runs={"noise_0": replace(run, x=run.x[:n])})


def hero_cells(inverted: Sequence[Inverted], task: Task, eyes: Eyes, taus: Mapping[str, float]) -> list[dict[str, Any]]:
    """What `plots.hero_grid` draws: one cell a network of seed 0, its inverses at the deciding tau (the last iterate where not reached)."""
    cells = []
    of_seed_0 = [one for one in inverted if one.network.card["description"]["seed"] == 0 and one.role in SHOWN]
    for one in sorted(of_seed_0, key=lambda one: SHOWN.index(one.role)):
        inverses, d_rel, d_img = {}, {}, {}
        for start, run in one.runs.items():
            tau = taus[kind_of(start)]
            reached = run.reached[tau]
            inverses[start] = torch.where(reached.view(-1, 1, 1, 1), run.at[tau], run.x)
            d_rel[start] = torch.where(reached, run.at_distance[tau], run.distance)
            d_img[start] = eyes.distance("standard", inverses[start], task.targets) / eyes.distance(
                "standard", task.starts[start], task.targets
            )
        cells.append({
            "label": one.role.replace("_", " "), "role": one.role, "targets": task.targets, "starts": task.starts,
            "inversions": inverses, "d_rel": d_rel, "d_img": d_img,
        })  # fmt: skip
    return cells


def frames(inverted: Sequence[Inverted], task: Task, eyes: Eyes, n: int = 8) -> dict[str, Any]:
    """What the explorer shows: every looked-at step of the first `n` targets from `noise_0`, with both distances."""
    n = min(n, len(task.ids))
    shown: dict[str, Any] = {"targets": task.targets[:n]}
    for one in inverted:
        run = one.runs["noise_0"]
        label = f"{one.role}, seed {one.network.card['description']['seed']}"
        images = run.frames[:, :n]
        shown[label] = {"steps": run.steps, "images": images, "d_rel": run.trajectory[:, :n], "distance": ratios(images, task, eyes, n)}
    return shown
