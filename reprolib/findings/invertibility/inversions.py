"""Every network inverts every target: what the sections of the finding work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib.figures import style
from reprolib.findings.invertibility.inverting import (
    TAUS,
    Eyes,
    Inverted,
    Task,
    inverses_at,
    invert_task,
    last_map_px,
    make_task,
    ratios,
)  # fmt: skip
from reprolib.findings.invertibility.outside_sets import outside_sets
from reprolib.findings.invertibility.tidying import ARMS, DRAWN, Part, code_size_rows, kind_of, reach_rows, reach_table, taus_of, tidy
from reprolib.judging.ledger import load_claims
from reprolib.measures.perceptual import relative_distance
from reprolib.models.networks import MINE, Network
from reprolib.perturb.inversion import CodeDistance
from reprolib.study import Study

NOISE_ONLY = ("untrained",)
"""Roles that start from noise alone; the others from every start."""

CONVERGED = (*ARMS, "robust_small")
"""Roles inverted once more with twice the steps: those whose quantities a claim with the check "converged" compares."""

SHOWN = ("standard", "gauss", "robust_small", "robust", "robust_large", "untrained", MINE)
"""Rows of the hero grid, top to bottom."""

CODE_SIZES = (1, 2, 4, 8)
N_CODE_SIZE = 24
N_SIZE_PICTURES = 6
N_SHOWN = 3  # targets of the hero grid that are inverted again beside a network of the reader's own
N_FRAMES = 8  # targets that the explorer moves through


@dataclass(frozen=True)
class Inversions:
    """The inversions of all networks, and what every section may work with; without the images, none, and rows are the committed ones.

    nets: by role, one network a seed. task, inverted, sizes: what was asked of them, and their inversions, those of codes of other
    sizes by side. rows: tidy rows of the inversions, INV-1 to INV-3. taus: deciding, per kind of start. measured_taus: all at
    which inverses were kept.
    """

    study: Study
    nets: Mapping[str, Sequence[Network]]
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
        return outside_sets(settings.scale.name, self.study.images("test"), max(len(task.ids), for_pairs), self.study.reads)

    def compared(self, claim: str) -> Mapping[str, Sequence[Network]]:
        """The networks that a claim compares, controls included, where the preset keeps to them; else those of every role."""
        entry = load_claims()[claim]
        keeps = self.study.settings.values.get("only_compared", False)
        return {role: networks for role, networks in self.nets.items() if not keeps or role in (*entry.arms, *entry.controls, MINE)}

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

    def inverses_of(self, role: str, network: Network, task: Task, starts: Sequence[str], times: int = 1, pool: int = 0) -> Inverted:
        """One network's inversions of a task, with the study's steps, or so many times as many, and its pool, or another."""
        settings = self.study.settings
        return invert_task(
            role, network, task, times * settings["steps"], settings["step"], pool or settings["pool"], starts, self.study.report,
            self.measured_taus,
        )  # fmt: skip

    def hero_cells(self) -> list[dict[str, Any]]:
        """What `figures.hero_grid` draws: one cell a network of seed 0, its inverses at the deciding tau (the last iterate where not reached)."""
        cells = []
        of_seed_0 = [one for one in self.inverted if one.network.card["description"]["seed"] == 0 and one.role in SHOWN]
        if self.study.only_mine:  # beside which the others are inverted once more, on the few targets that are shown
            task = self.measured[0].first(N_SHOWN)
            firsts = {role: network for role in SHOWN if (network := self.study.first(role))}
            of_seed_0 += [self.inverses_of(role, network, task, [*task.starts]) for role, network in firsts.items()]
        for one in sorted(of_seed_0, key=lambda one: SHOWN.index(one.role)):
            task, eyes = self.measured[0].first(len(one.runs["noise_0"].x)), self.measured[1]
            inverses, d_rel, d_img = {}, {}, {}
            for start, run in one.runs.items():
                tau = self.taus[kind_of(start)]
                inverses[start] = inverses_at(run, tau)
                d_rel[start] = torch.where(run.reached[tau], run.at_distance[tau], run.distance)
                d_img[start] = eyes.ratio("standard", inverses[start], task, start)
            cells.append({
                "label": style.role(one.role).label, "role": one.role, "targets": task.targets, "starts": task.starts,
                "inversions": inverses, "d_rel": d_rel, "d_img": d_img,
            })  # fmt: skip
        return cells

    def size_pictures(self) -> dict[str, Any]:
        """What `figures.code_size` draws; empty without images."""
        if not self.task or not self.sizes:
            return {}
        by_side = {k: {one.role: one.runs["noise_0"].x[:N_SIZE_PICTURES] for one in runs} for k, runs in self.sizes.items()}
        channels = max((one.network.n_features for runs in self.sizes.values() for one in runs), default=0)
        return {"targets": self.task.targets[:N_SIZE_PICTURES], "k": by_side, "channels": channels}

    def frames(self) -> dict[str, Any] | None:
        """What the explorer moves through: every looked-at step of both arms from `noise_0`, with both distances; None without images."""
        if not self.task:
            return None
        task, eyes = self.measured
        n = min(N_FRAMES, len(task.ids))
        shown: dict[str, Any] = {"targets": task.targets[:n]}
        for one in self.inverted:
            if one.role in DRAWN:
                run, label = one.runs["noise_0"], f"{one.role}, seed {one.network.card['description']['seed']}"
                images, d_rel = run.frames[:, :n], run.trajectory[:, :n]
                shown[label] = {"steps": run.steps, "images": images, "d_rel": d_rel, "distance": ratios(images, task, eyes, n)}
        return shown


def section(measure: Callable[[Inversions], Part]) -> Callable[[Inversions], Part]:
    """Decorator of what a section measures: nothing where the images are not here."""

    @wraps(measure)
    def wrapper(inversions: Inversions) -> Part:
        return measure(inversions) if inversions.task else Part()

    return wrapper


def invert_all(
    study: Study, nets: Mapping[str, Sequence[Network]], judges: Mapping[str, Network], objective: CodeDistance = relative_distance
) -> Inversions:
    """Invert the study's targets with the networks of each role; measured once a network, then read from the cache.

    objective: of codes (n, d) and codes wanted (n, d), what the search lowers, (n,). Networks of `NOISE_ONLY` invert from noise, all
    others from every start (but the arms from the first noise alone, where the preset says so); those of `CONVERGED` a second time
    with twice the steps.
    """
    settings = study.settings
    if not study.can_measure:
        return Inversions(study, nets, study.rows, taus_of(settings, study.rows))
    task = make_task(study.images("test"), settings["n_targets"], settings["n_noise"], study.device, settings.values.get("n_grey", 0))
    task, eyes = replace(task, objective=objective), Eyes(judges)
    measured_taus = sorted({*TAUS, settings["tau"]} - {0.0}, reverse=True)
    asked = Inversions(study, nets, pd.DataFrame(), {}, measured_taus, task, eyes)
    inverted, twice = [], []
    for role, network in study.each(nets):
        few = role not in DRAWN and settings.values.get("one_noise_beside_arms", False)
        starts = [
            start
            for start in task.starts
            if (role not in NOISE_ONLY or kind_of(start) == "noise") and (not few or start == "noise_0" or kind_of(start) != "noise")
        ]
        inverted.append(asked.inverses_of(role, network, task, starts))
        if role in CONVERGED:
            twice.append(asked.inverses_of(role, network, task.first(settings["n_converged"]), starts, times=2))
    reach = reach_rows(inverted, task)
    known = [study.rows] if study.only_mine else []
    taus = taus_of(settings, pd.concat([*known, reach]))
    sizes = _code_sizes(asked, inverted)
    rows = pd.concat([*known, reach, tidy(inverted, twice, task, eyes, taus), code_size_rows(sizes, task, eyes)], ignore_index=True)
    return replace(asked, rows=rows, taus=taus, inverted=inverted, sizes=sizes)


def _code_sizes(asked: Inversions, inverted: Sequence[Inverted]) -> dict[int, list[Inverted]]:
    """Inversions from `noise_0` by the code's side k, of the first network of each arm; sides up to that of their last maps.

    Those of the deciding k are among `inverted` already.
    """
    settings, task = asked.study.settings, asked.measured[0]
    firsts = {role: asked.nets[role][0] for role in ARMS if asked.nets.get(role)}
    largest = min((last_map_px(network, task.targets.shape[-1]) for network in firsts.values()), default=0)
    few = task.first(settings.values.get("n_code_size", N_CODE_SIZE))
    decided = {one.role: _first(one, len(few.ids)) for one in reversed(inverted)}  # of each role the first network remains
    return {
        k: [
            decided[role] if k == settings["pool"] else asked.inverses_of(role, network, few, ["noise_0"], pool=k)
            for role, network in firsts.items()
        ]
        for k in CODE_SIZES
        if k <= largest
    }


def _first(one: Inverted, n: int) -> Inverted:
    """The last iterates of its first n targets from `noise_0`."""
    run = one.runs["noise_0"]
    return replace(one, runs={"noise_0": replace(run, x=run.x[:n])})
