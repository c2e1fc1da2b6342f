"""The whole protocol of the finding, and what its figures and explorer draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, invert_task, last_map_px, make_task, ratios
from reprolib.findings.invertibility.tidying import code_size_rows, deciding_taus, reach_rows, reach_table, tidy
from reprolib.models.networks import Network
from reprolib.study import Study

CODE_SIZES = (1, 2, 4, 8)
N_CODE_SIZE = 24


@dataclass(frozen=True)
class Measured:
    """What the notebook draws from: rows, the deciding tau per kind of start, and pictures (None where there are no images).

    reach: share of targets that reached each tau, per arm, seed and kind of start. cells, sizes, frames: what
    `plots.hero_grid`, `plots.code_size` and `explore.invertibility` draw.
    """

    rows: pd.DataFrame
    taus: dict[str, float]
    reach: pd.DataFrame
    cells: list[dict[str, Any]] | None = None
    sizes: dict[str, Any] | None = None
    frames: dict[str, Any] | None = None


def run(study: Study, nets: Mapping[str, Sequence[Network]], judges: Mapping[str, Network]) -> Measured:
    """The whole protocol on the networks of each role; where the images are absent, the committed rows stand in.

    The first role's networks and the second's invert from every start, other roles' (controls) from the first noise image.
    """
    if not study.can_measure:
        rows = study.committed_rows()
        return Measured(rows, deciding_taus(rows), reach_table(rows))
    settings = study.settings
    task = make_task(study.images("test"), settings["n_targets"], settings["n_noise"], study.device)
    eyes = Eyes(judges)
    steps, step, pool = settings["steps"], settings["step"], settings["pool"]
    every = list(task.starts)
    measured_taus = sorted({*TAUS, settings["tau"]} - {0.0}, reverse=True)
    inverted, twice = [], []
    for role, networks in nets.items():
        is_arm = role in ("standard", "robust")
        for network in networks:
            inverted.append(
                invert_task(role, network, task, steps, step, pool, every if is_arm else every[:1], report=study.report, taus=measured_taus)
            )
            if is_arm:
                n = settings["n_converged"]
                twice.append(invert_task(role, network, task, 2 * steps, step, pool, every, n, study.report, measured_taus))
    reach = reach_rows(inverted, task)
    taus = deciding_taus(reach)
    if settings["tau"]:
        taus = dict.fromkeys(taus, settings["tau"])
    by_k = {}
    for k in CODE_SIZES:
        if k <= min(last_map_px(nets[role][0], task.targets.shape[-1]) for role in ("standard", "robust")):
            firsts = [(role, nets[role][0]) for role in ("standard", "robust")]
            n = min(len(task.ids), N_CODE_SIZE)
            by_k[k] = [invert_task(role, net, task, steps, step, k, every[:1], n, study.report, measured_taus) for role, net in firsts]
    rows = pd.concat([reach, tidy(inverted, twice, task, eyes, taus), code_size_rows(by_k, task, eyes)], ignore_index=True)
    sizes = {"targets": task.targets[:6], "k": {k: {one.role: one.runs["noise_0"].x[:6] for one in runs} for k, runs in by_k.items()}}
    arms = [one for one in inverted if one.role in ("standard", "robust")]
    return Measured(rows, taus, reach_table(rows), hero_cells(inverted, task, eyes, taus), sizes, frames(arms, task, eyes))


def hero_cells(inverted: Sequence[Inverted], task: Task, eyes: Eyes, taus: Mapping[str, float]) -> list[dict[str, Any]]:
    """What `plots.hero_grid` draws: one cell a network of seed 0, its inverses at the deciding tau (the last iterate where not reached)."""
    cells = []
    for one in inverted:
        if one.network.card["description"]["seed"] != 0:
            continue
        inverses, d_rel, d_img = {}, {}, {}
        for start, run in one.runs.items():
            tau = taus["image" if start == "image" else "noise"]
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
