"""Every network inverts every target: what the sections of the finding work with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib.figures import style
from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, invert_task, last_map_px, make_task, ratios
from reprolib.findings.invertibility.outside_sets import outside_sets
from reprolib.findings.invertibility.tidying import ARMS, code_size_rows, deciding_taus, kind_of, reach_rows, reach_table, tidy
from reprolib.judging.ledger import load_claims
from reprolib.measures.perceptual import relative_distance
from reprolib.models.networks import Network
from reprolib.perturb.inversion import CodeDistance
from reprolib.study import Study

NOISE_ONLY = ("untrained",)
"""Roles that start from noise alone; the others from every start."""

CONVERGED = (*ARMS, "robust_small")
"""Roles inverted once more with twice the steps: those whose quantities a claim with the check "converged" compares."""

SHOWN = ("standard", "gauss", "robust_small", "robust", "robust_large", "untrained")
"""Rows of the hero grid, top to bottom."""

CODE_SIZES = (1, 2, 4, 8)
N_CODE_SIZE = 24


@dataclass(frozen=True)
class Inversions:
    """The inversions of all networks, and what every section may work with; without the images, none, and rows are the committed ones.

    nets: by role, one network a seed. task, inverted, sizes: what was asked of them, and their inversions, those of codes of other
    sizes by side. rows: tidy rows of the inversions, INV-1 to INV-3. taus: deciding, per kind of start. measured_taus: all at
    which inverses were kept.
    """

    study: Study
    nets: Mapping[str, Sequence[Network]]
    judges: Mapping[str, Network]
    rows: pd.DataFrame
    taus: Mapping[str, float]
    measured_taus: Sequence[float] = TAUS
    task: Task | None = None
    eyes: Eyes | None = None
    inverted: Sequence[Inverted] = ()
    sizes: Mapping[int, Sequence[Inverted]] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[Task, Eyes]:
        """The task and the judges' eyes; for sections, which ask nothing where there is no task."""
        assert self.task is not None
        assert self.eyes is not None
        return self.task, self.eyes

    @property
    def reach(self) -> pd.DataFrame:
        """The share of targets that reached each tau, per arm, seed and kind of start."""
        return reach_table(self.rows)

    @cached_property
    def outside(self) -> dict[str, Tensor]:
        """Images from outside the training distribution, the set that decides first; empty where there are none."""
        settings, task = self.study.settings, self.measured[0]
        for_pairs = 2 * max(1, settings["n_pairs"] // 4)  # the interpolation takes two for each pair of a quarter of them
        return outside_sets(settings.scale.name, self.study.images("test"), max(len(task.ids), for_pairs))

    def compared(self, claim: str) -> Mapping[str, Sequence[Network]]:
        """The networks that a claim compares, controls included, where the preset keeps to them; else those of every role."""
        entry = load_claims()[claim]
        keeps = self.study.settings.values.get("only_compared", False)
        return {role: networks for role, networks in self.nets.items() if not keeps or role in (*entry.arms, *entry.controls)}

    def committed(self, claim: str, without: pd.DataFrame) -> pd.DataFrame:
        """Committed rows of a claim on sets or networks that are not here: those of quantities that `without` lacks.

        None in a run with a turned knob.
        """
        path = self.study.committed / "rows.csv.gz"
        if self.study.settings.overridden or not path.exists():
            return self.rows.iloc[:0]
        rows = self.study.committed_rows()
        measured = without["quantity"] if len(without) else ()
        return rows[(rows["claim"] == claim) & ~rows["quantity"].isin(measured)]

    @property
    def budget(self) -> tuple[int, float]:
        """Steps, and their length in pixel L2."""
        return self.study.settings["steps"], self.study.settings["step"]

    def hero_cells(self) -> list[dict[str, Any]]:
        """What `figures.hero_grid` draws: the first network of each shown role, its inverses at the deciding tau."""
        return hero_cells(self.inverted, *self.measured, self.taus) if self.task else []

    def size_pictures(self) -> dict[str, Any]:
        """What `figures.code_size` draws; empty without images."""
        if not self.task:
            return {}
        by_side = {k: {one.role: one.runs["noise_0"].x[:6] for one in runs} for k, runs in self.sizes.items()}
        return {"targets": self.task.targets[:6], "k": by_side}

    def frames(self) -> dict[str, Any] | None:
        """What the explorer moves through; None without images."""
        return frames([one for one in self.inverted if one.role in ARMS], *self.measured) if self.task else None


def invert_all(
    study: Study, nets: Mapping[str, Sequence[Network]], judges: Mapping[str, Network], objective: CodeDistance = relative_distance
) -> Inversions:
    """Invert the study's targets with the networks of each role; measured once a network, then read from the cache.

    objective: of codes (n, d) and codes wanted (n, d), what the search lowers, (n,). Networks of `NOISE_ONLY` invert from noise, all
    others from every start; those of `CONVERGED` a second time with twice the steps.
    """
    settings = study.settings
    if not study.can_measure:
        return Inversions(study, nets, judges, study.rows, deciding_taus(study.rows))
    task = make_task(study.images("test"), settings["n_targets"], settings["n_noise"], study.device, settings.values.get("n_grey", 0))
    task = replace(task, objective=objective)
    eyes = Eyes(judges)
    steps, step, pool = settings["steps"], settings["step"], settings["pool"]
    measured_taus = sorted({*TAUS, settings["tau"]} - {0.0}, reverse=True)
    inverted, twice = [], []
    for role, network in study.each(nets):
        starts = [start for start in task.starts if role not in NOISE_ONLY or kind_of(start) == "noise"]
        inverted.append(invert_task(role, network, task, steps, step, pool, starts, report=study.report, taus=measured_taus))
        if role in CONVERGED:
            n = settings["n_converged"]
            twice.append(invert_task(role, network, task, 2 * steps, step, pool, starts, n, study.report, measured_taus))
    reach = reach_rows(inverted, task)
    taus = deciding_taus(reach)
    if settings["tau"]:
        taus = dict.fromkeys(taus, settings["tau"])
    sizes = _code_sizes(study, nets, task, measured_taus, inverted)
    rows = pd.concat([reach, tidy(inverted, twice, task, eyes, taus), code_size_rows(sizes, task, eyes)], ignore_index=True)
    return Inversions(study, nets, judges, rows, taus, measured_taus, task, eyes, inverted, sizes)


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
    """What `figures.hero_grid` draws: one cell a network of seed 0, its inverses at the deciding tau (the last iterate where not reached)."""
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
            "label": style.role(one.role).label, "role": one.role, "targets": task.targets, "starts": task.starts,
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
