"""What `reprolib.training.stage` has this finding measure: each network when it is trained, the rows when both arms are there."""

from __future__ import annotations

from collections.abc import Callable

from reprolib import data, parameters, scales
from reprolib.findings.invertibility.inverting import TAUS, invert_task, make_task
from reprolib.findings.invertibility.protocol import CONVERGED, NOISE_ONLY, run
from reprolib.findings.invertibility.tidying import ARMS, kind_of
from reprolib.study import Study
from reprolib.training import zoo

Report = Callable[[str], None]


def measure(spec: zoo.Spec, device: str, report: Report) -> None:
    """Put into the measurement cache the inversions of one network that `protocol.run` will ask for.

    Nothing is measured of a network that plays no role at its scale, such as a judge, and of a matched control that does not match.
    """
    settings = parameters.validate("invertibility", {"scale": spec.scale, "device": device})
    scale, card = scales.scale(spec.scale), zoo.card_of(spec) or {}
    roles = [role for role, recipe in scale.roles.items() if recipe == spec.recipe]
    is_main = (spec.architecture, spec.dataset) == (scale.architecture, scale.dataset)
    if not is_main or not roles or not card.get("matching", {"matched": True})["matched"]:
        return
    task = make_task(data.load(scale.dataset, "test"), settings["n_targets"], settings["n_noise"], device, settings.values.get("n_grey", 0))
    network, taus = zoo.load(spec, device), sorted(TAUS, reverse=True)
    steps, step, pool = settings["steps"], settings["step"], settings["pool"]
    for role in roles:
        starts = [start for start in task.starts if role not in NOISE_ONLY or kind_of(start) == "noise"]
        invert_task(role, network, task, steps, step, pool, starts, report=report, taus=taus)
        if role in CONVERGED:
            invert_task(role, network, task, 2 * steps, step, pool, starts, settings["n_converged"], report, taus)


def conclude(scale: str, device: str, report: Report) -> None:
    """Write the finding's rows and verdicts at a scale (rows.csv.gz, results.json) where networks of both arms are in the zoo."""
    study = Study(parameters.validate("invertibility", {"scale": scale, "device": device}))
    nets = study.networks()
    if not all(nets[arm] for arm in ARMS):
        report(f"invertibility at scale {scale}: no rows yet, one of the arms has no network")
        return
    study.add(run(study, nets, study.judges()))
    study.finish()
    report(f"invertibility at scale {scale}: rows and verdicts are in {study.folder.name}/ of the figures")
