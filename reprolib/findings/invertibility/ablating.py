"""What an inversion owes to its settings, and to the layer it inverts: one knob turned at a time on one network of each arm.

Everything but the named knob is the reference's: last post-activation map, straight-through last ReLU, noise start, last
iterate. Source of the reference: Engstrom et al. 2019 (arXiv 1906.00945) and their notebooks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import Task, distance_unit
from reprolib.findings.invertibility.tidying import ARMS, Part, Rows, unit_rows
from reprolib.judging.tidy import identity
from reprolib.measures import perceptual
from reprolib.models.layers import features, movable, movable_key
from reprolib.models.networks import Network
from reprolib.perturb.engine import Box, minimise
from reprolib.perturb.fourier import invert_fourier, matched_stepper
from reprolib.perturb.inversion import network_code, stepper

N_PICTURES = 4
LAYER = "layer:"
"""Before the name of a layer, where a variant inverts another map than the last."""


@dataclass(frozen=True)
class Variant:
    """One way to invert. `keep` is an iterate, `start` a name of the task's, `layer` None for the last map."""

    steps: int
    step: float
    pool: int
    straight_through: bool = True
    keep: str = "last"
    start: str = "noise_0"
    fourier: bool = False
    layer: str | None = None


def variants(steps: int, step: float, pool: int) -> dict[str, Variant]:
    """The reference and, by name, what differs from it in one knob."""
    reference = Variant(steps, step, pool)
    return {
        "reference": reference,
        "fake_relu off": replace(reference, straight_through=False),
        "best iterate": replace(reference, keep="best"),
        "image start": replace(reference, start="image"),
        "step x2": replace(reference, step=2 * step),
        "step x0.5": replace(reference, step=step / 2),
        "steps x2": replace(reference, steps=2 * steps),
        "fourier": replace(reference, fourier=True),
    }


def layer_variants(network: Network, reference: Variant, image_px: int, within_blocks: bool = True) -> dict[str, Variant]:
    """A variant per post-activation map of the network, in the order of depth, pooled to at most the reference's pool a side.

    within_blocks: also the maps inside residual blocks, not only those that leave them.
    """
    with torch.no_grad():
        blank = torch.zeros(1, 3, image_px, image_px, device=next(network.parameters()).device)
        maps = features(network, blank, network.layer_names)
    return {
        f"{LAYER}{name}": replace(
            reference, layer=None if name == network.layer_names[-1] else name, pool=min(reference.pool, *map_.shape[2:])
        )
        for name, map_ in maps.items()
        if within_blocks or not name.endswith(".relu1")
    }


@section
def of(inversions: Inversions) -> Part:
    """Every variant on the first network of the standard and of the robust arm, the first few targets, one start.

    Measured once per network and variant, then read from the cache.
    Rows: claim "ablation", quantities distance_ratio, pixel_correlation and d_rel of the images kept, unit_2 the variant; d_rel
    in units of the inverted map's own random pairs, the ratio in units of the variant's own start. pictures: "targets"
    (t, 3, h, w) in [0, 1], and per variant {arm: (t, 3, h, w)}, of the first targets.
    """
    study, eyes = inversions.study, inversions.measured[1]
    if study.only_mine:
        return Part()
    task = inversions.measured[0].first(study.settings["n_ablated"])
    rows: Rows = []
    pictures: dict[str, Any] = {"targets": task.targets[:N_PICTURES].cpu()}
    for arm in ARMS:
        network = inversions.nets[arm][0]
        ways = variants(study.settings["steps"], study.settings["step"], study.settings["pool"])
        within_blocks = study.settings.values.get("layers_within_blocks", True)
        ways |= layer_variants(network, ways["reference"], task.targets.shape[-1], within_blocks)
        line = f"{network.card['name']}: inverting {len(task.ids)} targets in {len(ways)} ways"
        announce = functools.cache(functools.partial(study.report, line))  # once a network, and only where something is measured
        moving = functools.cache(functools.partial(movable, network))
        for name, way in ways.items():
            found = _inverses(network, moving, way, task, announce)
            x = found["x"].to(task.targets.device)
            values = {
                "distance_ratio": eyes.ratio("standard", x, task, way.start),
                "pixel_correlation": perceptual.pixel_correlation(x, task.targets),
                "d_rel": found["d_rel"],
            }
            for quantity, value in values.items():
                rows += unit_rows(identity(arm, network), "ablation", quantity, task.ids, name, value)
            pictures.setdefault(name, {})[arm] = x[:N_PICTURES].cpu()
    return Part(pd.DataFrame(rows), pictures)


def _inverses(network: Network, moving: Callable[[], Network], way: Variant, task: Task, announce: Callable[[], None]) -> dict[str, Tensor]:
    """x (n, 3, h, w) and its d_rel (n,): from the cache, or, announced, measured. Equal ways are measured once, whatever their names."""
    described = {"network": movable_key(network), "data": task.data_sha256, "targets": task.ids, **asdict(way)}

    def compute() -> dict[str, Tensor]:
        announce()
        code = network_code(moving(), way.pool, way.layer or network.layer_names[-1], way.straight_through)
        start = task.starts[way.start].contiguous(memory_format=torch.channels_last)
        with torch.autocast(start.device.type, enabled=False):
            with torch.no_grad():
                unit = distance_unit(code(task.typical))
                wanted = code(task.targets)
            if way.fourier:
                x = invert_fourier(code, wanted, start, way.steps, matched_stepper(way.step))
            else:
                x = minimise(
                    lambda image, index: perceptual.relative_distance(code(image), wanted[index]),
                    start, start, Box(), stepper(way.step), way.steps, way.keep,
                ).x  # fmt: skip
            with torch.no_grad():
                return {"x": x.contiguous(), "d_rel": perceptual.relative_distance(code(x), wanted) / unit}

    return store.cache("ablation", described, compute)
