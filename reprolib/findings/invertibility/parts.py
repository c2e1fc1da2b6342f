"""What is measured beside the main protocol: each part, given the bench, and the order of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import pandas as pd
from torch import Tensor

from reprolib.findings.invertibility import (
    ablating,
    adding,
    baselines,
    external,
    extremes,
    interpolating,
    outside,
    spread,
    visualising,
)  # fmt: skip
from reprolib.findings.invertibility.inverting import Eyes, Inverted, Task
from reprolib.judging import claims
from reprolib.models import external as others
from reprolib.models.networks import Network
from reprolib.study import Study

N_EXTREMES = 3
"""Units whose extremes are drawn."""


@dataclass(frozen=True)
class Bench:
    """What every part of the protocol may work with.

    task, inverted: what was asked of the networks of `nets`, and their inversions. rows: those of the main protocol. taus:
    deciding, per kind of start. measured_taus: all at which inverses were kept.
    """

    study: Study
    nets: Mapping[str, Sequence[Network]]
    judges: Mapping[str, Network]
    task: Task
    eyes: Eyes
    inverted: Sequence[Inverted]
    rows: pd.DataFrame
    taus: Mapping[str, float]
    measured_taus: Sequence[float]

    @cached_property
    def outside(self) -> dict[str, Tensor]:
        """Images from outside the training distribution, the set that decides first; empty where there are none."""
        return outside.outside_sets(self.study.settings.scale.name, self.study.images("test"), max(len(self.task.ids), self._for_pairs))

    def compared(self, claim: str) -> Mapping[str, Sequence[Network]]:
        """The networks that a claim compares, controls included, where the preset keeps to them; else those of every role."""
        entry = claims.load_claims()[claim]
        keeps = self.study.settings.values.get("only_compared", False)
        return {role: networks for role, networks in self.nets.items() if not keeps or role in (*entry.arms, *entry.controls)}

    @property
    def _for_pairs(self) -> int:
        """Images from outside that the pairs of the interpolation take: two for each pair of a quarter of them."""
        return 2 * max(1, self.study.settings["n_pairs"] // 4)

    @property
    def budget(self) -> tuple[int, float]:
        """Steps, and their length in pixel L2."""
        return self.study.settings["steps"], self.study.settings["step"]


class MeasuredPart(Protocol):
    """What a part gives back: tidy rows, and what its figure draws."""

    @property
    def rows(self) -> pd.DataFrame:
        """Tidy rows; an empty frame where there was nothing to measure."""
        ...

    @property
    def pictures(self) -> Any:
        """What the part's figure draws."""
        ...


def _spread(bench: Bench) -> MeasuredPart:
    return spread.measure(bench.inverted, bench.task, bench.eyes, bench.taus)


def _outside(bench: Bench) -> MeasuredPart:
    study, settings = bench.study, bench.study.settings
    return outside.measure(
        bench.nets, bench.outside, bench.task, bench.eyes, bench.rows, *bench.budget, settings["pool"],
        bench.measured_taus, settings["tau"], study.report,
    )  # fmt: skip


def _baselines(bench: Bench) -> MeasuredPart:
    study = bench.study
    n_features = next((network.n_features for role in bench.nets for network in bench.nets[role]), 1)
    n_numbers = n_features * study.settings["pool"] ** 2
    train = study.first_training_images(baselines.N_FITTED)
    return baselines.measure(train, bench.task, bench.eyes, n_numbers, bench.taus, *bench.budget, bench.measured_taus, study.report)


def _external(bench: Bench) -> MeasuredPart:
    study, settings = bench.study, bench.study.settings
    pair = others.networks(study.device) if settings.scale.dataset == others.DATASET else {}
    test = study.images("test")
    checked = test.x[: external.N_CHECKED].float().to(study.device) / 255, test.y[: external.N_CHECKED].to(study.device)
    return external.measure(
        pair, bench.task, bench.eyes, *bench.budget, settings["pool"], settings.scale.norm, settings.scale.eps, checked,
        bench.measured_taus, settings["tau"], study.report,
    )  # fmt: skip


def _interpolation(bench: Bench) -> MeasuredPart:
    study, settings = bench.study, bench.study.settings
    none = bench.task.targets[:0]
    return interpolating.measure(
        bench.compared(interpolating.CLAIM), study.images("test"), next(iter(bench.outside.values()), none), bench.eyes, bench.judges, settings["n_pairs"],
        settings["pair_steps"], settings["pair_step"], settings["pool"], study.device, study.report,
    )  # fmt: skip


def _visualisation(bench: Bench) -> MeasuredPart:
    study, settings = bench.study, bench.study.settings
    ood = next(iter(bench.outside.values()), None)
    return visualising.measure(
        bench.compared(visualising.CLAIM),
        study.images("test"),
        ood,
        bench.eyes,
        settings["n_units"],
        settings["unit_steps"],
        settings["step"],
        study.device,
        study.report,
    )


def _addition(bench: Bench) -> MeasuredPart:
    study, settings = bench.study, bench.study.settings
    radius = 2 * settings.scale.eps
    return adding.measure(
        bench.compared(adding.CLAIM), study.images("test"), bench.eyes, settings["n_units"], radius, settings["unit_steps"],
        study.device, study.report,
    )  # fmt: skip


def _extremes(bench: Bench) -> MeasuredPart:
    study, settings = bench.study, bench.study.settings
    return extremes.measure(
        bench.nets, study.images("test"), N_EXTREMES, settings["unit_steps"], settings["step"], study.device, study.report
    )


def _ablation(bench: Bench) -> MeasuredPart:
    study, settings = bench.study, bench.study.settings
    within_blocks = settings.values.get("layers_within_blocks", True)
    return ablating.measure(
        bench.nets, bench.task, bench.eyes, *bench.budget, settings["pool"], settings["n_ablated"], within_blocks, study.report
    )


PARTS: dict[str, Callable[[Bench], MeasuredPart]] = {
    "spread": _spread, "outside": _outside, "interpolation": _interpolation, "visualisation": _visualisation, "addition": _addition,
    "extremes": _extremes, "ablation": _ablation, "baselines": _baselines, "external": _external,
}  # fmt: skip
"""What is measured beside the main protocol, in the order of work: name -> the part, given the bench."""
