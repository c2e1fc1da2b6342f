"""Are the two cues of ShapeTex equally easy to learn? Else a network's bias only tells which of them it learned sooner.

Networks trained on flat shapes alone and on textures in blobs alone must agree within 5 points where their mean accuracy is
75 %. The budget that gives 75 % is counted in steps of a complete one-cycle training. The main set is levelled so, by its
contrasts; margins and learnability cannot both be equal, so that beside it stand three sets of given ratios of margins
(`reprolib.data.margins`), whose learnability is only reported. Definitions are this project's; that adversarial training
keeps the cue of larger margin is why margins are reported of every set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from reprolib import scales, store
from reprolib.data import margins, shapetexture
from reprolib.data.shapetexture import World
from reprolib.errors import BadInput, StorageError
from reprolib.models.networks import build
from reprolib.perturb.attacks import adversarial_accuracy, predictions
from reprolib.training.loop import train
from reprolib.training.recipes import RECIPES, recipe

CUES = {"shape": "shape_flat", "texture": "texture_blob"}  # the variant that shows this cue alone
ARCHITECTURE = "pool"
SEEDS = (0, 1, 2)
WANTED = 0.75  # mean accuracy of the two cues at the budget
TOLERANCE = 0.05  # gap between them that is allowed
PEAK_LR = 0.05  # a quarter of the laptop's: with .2, and so few steps, seeds differ by 25 points on textures
BUDGETS = (40, 56, 80, 113, 160, 226, 320, 453, 640)  # steps tried to find the budget: half an octave apart
N_TRAIN, N_TEST = 16_000, 2_000
TRAIN_SEED, TEST_SEED = 2, 3  # of the worlds: neither the training nor the test images of the networks of the scales

Report = Callable[[str], None]


@dataclass(frozen=True)
class Learnt:
    """How well each cue is learnt alone by one architecture at `budget` steps: an accuracy per seed on N_TEST images."""

    architecture: str
    budget: int
    shape: tuple[float, ...]
    texture: tuple[float, ...]

    @property
    def gap(self) -> float:
        """Mean accuracy on shape minus mean accuracy on texture."""
        return float(np.mean(self.shape) - np.mean(self.texture))

    def __str__(self) -> str:
        told = (
            f"{cue} {np.mean(got):.1%} ({min(got):.1%} to {max(got):.1%})"
            for cue, got in (("shape", self.shape), ("texture", self.texture))
        )
        return f"{self.architecture:8} {self.budget:>4} steps: {', '.join(told)}, gap {100 * self.gap:+.1f} points, {len(self.shape)} seeds"


def accuracy(world: World, cue: str, architecture: str, seed: int, steps: int, fresh: bool = False) -> float:
    """Test accuracy of a network trained on one cue of `world` alone, by the laptop's schedule cut to `steps` steps, at PEAK_LR.

    cue: one of CUES. fresh: train again though the number is known.
    """
    schedule = dataclasses.replace(scales.LAPTOP.schedule, peak_lr=min(PEAK_LR, scales.PEAK_LR.get(architecture, PEAK_LR)))
    described = {"measure": "single cue", "world": asdict(world), "set": shapetexture.VERSION, "cue": cue, "architecture": architecture,
                 "seed": seed, "steps": steps, "schedule": schedule.describe()}  # fmt: skip

    def compute() -> dict[str, torch.Tensor]:
        passes = math.ceil(steps * schedule.batch_size / N_TRAIN)
        n = steps * schedule.batch_size // passes
        got, _ = _trained(world, cue, architecture, seed, dataclasses.replace(schedule, n_images=n, epochs=passes), "std")
        return {"accuracy": torch.tensor(got, dtype=torch.float64)}

    return float((compute() if fresh else store.cache("calibration", described, compute))["accuracy"])


def learnt(world: World, architecture: str, report: Report, seeds: Sequence[int] = SEEDS) -> Learnt:
    """Both accuracies at the budget, in steps, where their mean over cues and seeds is 75 %.

    The budget is read off the learning curves (linear in log steps). Raises BadInput when no budget tried reaches it.
    """
    curve = []
    for steps in BUDGETS:
        curve.append(_mean(_both(world, architecture, seeds, steps)))
        report(f"{architecture}: mean accuracy {curve[-1]:.1%} after {steps} steps")
        if curve[-1] >= WANTED:
            break
    if len(curve) == 1 or curve[-1] < WANTED:
        raise BadInput(
            f"the single cues of {architecture} reach {curve[-1]:.1%} after {steps} steps, not {WANTED:.0%} between two of {BUDGETS}"
        )
    share = (WANTED - curve[-2]) / (curve[-1] - curve[-2])
    budget = round(BUDGETS[len(curve) - 2] * (BUDGETS[len(curve) - 1] / BUDGETS[len(curve) - 2]) ** share)
    found = Learnt(architecture, budget, *_both(world, architecture, seeds, budget))
    report(str(found))
    return found


def calibrate(report: Report, beside: bool = False) -> dict[str, Any]:
    """Find the budget, measure gap, margins and robust accuracies, and write `shapetexture.CALIBRATION_FILE`; return what is written.

    beside: measure, too, what is only reported: the gap in other architectures and at other margins, of one seed.
    The networks of the margin sets belong to the worlds in the file: other worlds make them train again.
    Raises BadInput where the cues differ by more than 5 points: the contrasts of World must change then.
    """
    if not shapetexture.CALIBRATION_FILE.resolve().is_relative_to(store.root()):
        raise StorageError(
            f"cannot write {shapetexture.CALIBRATION_FILE}, which belongs to an installed package: calibrate with that of a clone"
        )
    main = World()
    found = learnt(main, ARCHITECTURE, report)
    if abs(found.gap) > TOLERANCE:
        raise BadInput(f"the cues are not equally easy to learn ({found}; allowed: 5 points): change delta and c of shapetexture.World")
    worlds = {"shapetexture": main} | {name: margins.with_ratio(main, ratio) for name, ratio in shapetexture.MARGIN_SETS.items()}
    told: dict[str, Any] = {
        "pack": "mixed",
        "cues": CUES,
        "seeds": list(SEEDS),
        "sets": {
            name: {"delta": w.delta, "c": w.c, "margins": _margins(w, scales.LAPTOP.eps)} | _normaliser(name, w)
            for name, w in worlds.items()
        },
        "learnt": _told(found),
        "robust": {cue: robust_accuracy(main, cue, report) for cue in CUES},
        "worlds": {name: shapetexture.world_key(w) for name, w in worlds.items()},
    }
    if beside:
        architectures = dict.fromkeys(e.architecture for e in scales.LAPTOP.table if e.architecture != ARCHITECTURE)
        told["other architectures"] = {architecture: _residual(main, architecture, report) for architecture in architectures}
        told["other margins"] = {name: _residual(worlds[name], "tinycnn", report) for name in shapetexture.MARGIN_SETS}
    store.write_json(shapetexture.CALIBRATION_FILE, told)
    return told


def robust_accuracy(world: World, cue: str, report: Report, fresh: bool = False) -> dict[str, Any]:
    """Whether a single cue can be learnt robustly at all: clean and PGD-20 accuracy of a network trained adversarially on it.

    By the laptop's schedule and main radius. A cue that cannot be learnt so makes "robust networks prefer the other" trivially true.
    """
    scale = scales.LAPTOP
    name = scale.roles["robust"]
    described = {"measure": "robust single cue", "world": asdict(world), "set": shapetexture.VERSION, "cue": cue, "recipe": recipe(name).describe(),
                 "architecture": ARCHITECTURE, "schedule": scale.schedule.describe()}  # fmt: skip

    def compute() -> dict[str, torch.Tensor]:
        clean, robust = _trained(world, cue, ARCHITECTURE, 0, scale.schedule, name)
        return {"clean": torch.tensor(clean, dtype=torch.float64), "robust": torch.tensor(robust, dtype=torch.float64)}

    got = compute() if fresh else store.cache("calibration", described, compute)
    told = {
        "recipe": name,
        "architecture": ARCHITECTURE,
        "clean": round(float(got["clean"]), 4),
        "adversarial": round(float(got["robust"]), 4),
    }
    report(f"{cue} alone, trained adversarially ({name}): {told['clean']:.1%} clean, {told['adversarial']:.1%} under PGD-20")
    return told


def check(report: Report) -> list[str]:
    """Train the single-cue networks of the committed calibration again, report accuracies and margins, return what is wrong ([] when nothing is)."""
    told, faults = shapetexture.calibration(), []
    for name in told["sets"]:
        world, wanted = shapetexture.WORLDS[name][0], shapetexture.MARGIN_SETS.get(name)
        found = margins.measure(world)
        report(
            f"{name}: delta {world.delta}, c {world.c}; margins shape {found.shape:.3f} ({found.shape_lowest:.3f} to {found.shape_highest:.3f} "
            f"over pairs), texture {found.texture:.3f}; ratio {found.ratio:.3f}" + (f", wanted {wanted:g}" if wanted else "")
        )
        if wanted and abs(found.ratio / wanted - 1) > 0.1:
            faults.append(f"{name}: margin ratio {found.ratio:.3f} is not within 10 % of {wanted:g}")
    budget, main = int(told["learnt"]["budget"]), shapetexture.WORLDS["shapetexture"][0]
    again = Learnt(ARCHITECTURE, budget, *_both(main, ARCHITECTURE, SEEDS, budget, fresh=True))
    report(str(again))
    if abs(again.gap) > TOLERANCE:
        faults.append(f"single cues differ by {100 * again.gap:+.1f} points at {budget} steps; allowed: 5")
    for cue in CUES:
        robust_accuracy(main, cue, report, fresh=True)
    return faults


def _both(
    world: World, architecture: str, seeds: Sequence[int], steps: int, fresh: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Accuracies of each seed on shape alone and on texture alone."""
    shape, texture = (tuple(round(accuracy(world, cue, architecture, seed, steps, fresh), 6) for seed in seeds) for cue in CUES)
    return shape, texture


def _mean(both: tuple[tuple[float, ...], tuple[float, ...]]) -> float:
    return float(np.mean([np.mean(got) for got in both]))


def _trained(world: World, cue: str, architecture: str, seed: int, schedule: scales.Schedule, recipe_id: str) -> tuple[float, float]:
    """Train one network on a cue alone: its test accuracy, clean and, for an adversarial recipe, under PGD-20 (else nan)."""
    trained_on = shapetexture.items(dataclasses.replace(world, seed=TRAIN_SEED), N_TRAIN, CUES[cue])
    tested_on = shapetexture.items(dataclasses.replace(world, seed=TEST_SEED), N_TEST, CUES[cue])
    x, y = trained_on.x[: schedule.n_images], trained_on.y[: schedule.n_images]
    values = trained_on.x.float() / 255
    mean, std = values.mean((0, 2, 3)).tolist(), values.std((0, 2, 3)).tolist()
    network = build(architecture, len(trained_on.classes), mean, std, seed)
    used, scale = RECIPES[recipe_id], scales.LAPTOP
    train(network, x, y, used, schedule, seed, (scale.norm, scale.eps))
    test = tested_on.x.float() / 255
    clean = (predictions(network, test) == tested_on.y).float().mean().item()
    robust = adversarial_accuracy(network, test, tested_on.y, scale.norm, used.eps, steps=20, restarts=1).value if used.norm else math.nan
    return clean, robust


def _residual(world: World, architecture: str, report: Report) -> Mapping[str, Any]:
    """What stays of the gap in another architecture or at other margins, of one seed; or that no budget tried was enough."""
    try:
        return _told(learnt(world, architecture, report, SEEDS[:1]))
    except BadInput as error:
        report(str(error))
        return {"architecture": architecture, "not learnt": str(error)}


def _margins(world: World, eps: float) -> dict[str, float]:
    found = margins.measure(world)
    told = {name: round(value, 4) for name, value in asdict(found).items()}
    return told | {"ratio": round(found.ratio, 4), "rho": round(eps / found.texture_energy, 4)}


def _normaliser(name: str, world: World) -> dict[str, list[float]]:
    """Mean and standard deviation per channel over the training split (seed 0) of a set of this world."""
    n = shapetexture.WORLDS[name][1]["train"]
    values = shapetexture.items(dataclasses.replace(world, seed=0), n).x.float() / 255
    return {"mean": [round(v, 4) for v in values.mean((0, 2, 3)).tolist()], "std": [round(v, 4) for v in values.std((0, 2, 3)).tolist()]}


def _told(found: Learnt) -> Mapping[str, Any]:
    return asdict(found) | {"shape": list(found.shape), "texture": list(found.texture), "gap": round(found.gap, 4)}
