"""Which network: its name, its key (a hash of everything meant to shape its weights), and where its files lie."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprolib import data, scales, store
from reprolib.errors import BadInput, nearest
from reprolib.models.networks import ARCHITECTURES, CAPSULES
from reprolib.scales import Schedule
from reprolib.training.recipes import recipe

VERSION = 1
"""Of the meaning of training itself (optimiser, initialisation, augmentation); bumped when that changes."""


@dataclass(frozen=True)
class Spec:
    """Which network: recipe id, architecture id, data set name, seed, and the scale whose schedule trains it."""

    recipe: str
    architecture: str
    dataset: str
    seed: int
    scale: str

    @property
    def name(self) -> str:
        """Readable and unique within a scale: `w8-l2_05-s0`, or `tinycnn-std-s0-shapetexture_2to1` on another set than the scale's."""
        own = f"{self.architecture}-{self.recipe}-s{self.seed}"
        return own if self.dataset == scales.scale(self.scale).dataset else f"{own}-{self.dataset}"

    @property
    def schedule(self) -> Schedule:
        """The scale's schedule with what the architecture and the recipe change of it."""
        scale, how = scales.scale(self.scale), recipe(self.recipe)
        preset = scale.schedule
        return dataclasses.replace(
            preset,
            n_images=how.n_images or preset.n_images,
            epochs=how.epochs or preset.epochs,
            attack_steps=scale.attack_steps.get(self.recipe, preset.attack_steps),
            peak_lr=scales.PEAK_LR.get(self.architecture, preset.peak_lr),
        )

    @property
    def minutes(self) -> float:
        """The table's minutes for this network, of one idle core; 0 for one that is not in the table."""
        line = scales.scale(self.scale).line(self.architecture, self.recipe, self.dataset)
        return line.minutes if line else 0.0

    @property
    def snapshots_per_epoch(self) -> int:
        """States that its training keeps, as the table says."""
        line = scales.scale(self.scale).line(self.architecture, self.recipe, self.dataset)
        return line.snapshots_per_epoch if line else 0

    def arms(self) -> tuple[Spec, Spec]:
        """The standard and the robust network of this architecture, set and seed: those a matched control is chosen by."""
        roles = scales.scale(self.scale).roles
        standard, robust = (dataclasses.replace(self, recipe=roles[role]) for role in ("standard", "robust"))
        return standard, robust

    def description(self) -> dict[str, Any]:
        """Everything meant to shape the weights, as plain JSON."""
        how = recipe(self.recipe)
        described = {
            "version": VERSION,
            "recipe": dict(how.describe()),
            "architecture": self.architecture,
            "data": data.fingerprint(self.dataset),
            "seed": self.seed,
        }
        if how.matched:
            standard, robust = self.arms()
            return described | {"standard": standard.key, "robust": robust.key}
        schedule = self.schedule.describe()
        if not how.trained:
            schedule = {"n_images": schedule["n_images"]}
        if how.norm is None:
            schedule.pop("eps_ramp", None)  # of adversarial radii alone
        return described | {"schedule": schedule}

    @property
    def key(self) -> str:
        """64 hexadecimal digits of `description`."""
        return store.content_key(self.description())

    @property
    def path(self) -> Path:
        """Where the weights are kept; the card lies beside them, ending in .json."""
        return zoo_folder() / self.scale / f"{self.name}-{self.key[:12]}.safetensors"


def spec_of(name: str, scale: str) -> Spec:
    """The network of that name at a scale, e.g. `w8-l2_05-s0`; raises BadInput when it is no such name."""
    own = scales.scale(scale).dataset
    parts = re.fullmatch(r"([^-]+)-([^-]+)-s(\d+)(?:-([^-]+))?", name)
    if parts is None:
        raise BadInput(
            f"network {name!r} is not <architecture>-<recipe>-s<seed>, e.g. w8-l2_05-s0, with -<data set> behind it where that is not {own}"
        )
    architecture, recipe_id, seed, dataset = parts.groups(own)
    for kind, given, allowed in (("data set", dataset, data.NAMES), ("architecture", architecture, (*ARCHITECTURES, CAPSULES))):
        if given not in allowed:
            raise BadInput(f"{kind} {given!r} is unknown; allowed: {', '.join(allowed)}{nearest(given, allowed)}")
    return Spec(recipe(recipe_id).id, architecture, dataset, int(seed), scale)


def zoo_folder() -> Path:
    """`$REPROLIB_ZOO` if set (relative paths count from the root), else `data/zoo`."""
    return store.folder("REPROLIB_ZOO", "data/zoo")


def snapshot_folder(spec: Spec) -> Path:
    """Where the states kept during a training lie (bf16, named by epochs done); empty or absent when none were asked for."""
    return zoo_folder().parent / "snapshots" / spec.scale / f"{spec.name}-{spec.key[:12]}"


def state_path(spec: Spec) -> Path:
    """Where an interrupted training is kept."""
    return zoo_folder().parent / "training" / spec.scale / f"{spec.name}-{spec.key[:12]}.safetensors"
