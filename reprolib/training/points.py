"""Which networks are trained without a class, beside the full one: the table of points of every scale, and what each network is.

A point is an architecture x recipe x seed on a data set: N networks that never saw one of its N classes, and the full one, all
from the same seed by the same schedule. They are trained after the networks that all findings share (`reprolib.scales`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from reprolib import scales
from reprolib.data import factorial
from reprolib.errors import BadInput
from reprolib.models.networks import CAPSULES
from reprolib.scales import Entry, Schedule
from reprolib.training.specs import Spec, spec_of, zoo_folder

PREFIX = "loo-"
ATTACK_STEPS = 2  # of the inner attack, at every scale


@dataclass(frozen=True)
class Setting:
    """How the points of one data set are trained and asked, where that is not the scale's own way.

    n_images: the first ones, of which the excluded class's are left out. n_asked: test images a class, the first ones, whose
    soft labels are kept. robust: the recipe whose accuracy `std_matched` has. batch_size, pad_px: None for the scale's.
    """

    n_classes: int
    n_images: int
    epochs: int
    n_asked: int
    robust: str = ""
    batch_size: int | None = None
    pad_px: int | None = None


SETTINGS: dict[tuple[str, str], Setting] = {
    ("smoke", factorial.SMALL): Setting(n_classes=4, n_images=600, epochs=2, n_asked=50, robust="l2_075"),
    ("laptop", factorial.NAME): Setting(n_classes=9, n_images=3_000, epochs=8, n_asked=100, robust="l2_075"),
    ("cifar", "cifar10"): Setting(n_classes=10, n_images=10_000, epochs=8, n_asked=500, robust="linf_8"),
    ("cifar", "fashion_mnist"): Setting(n_classes=10, n_images=5_000, epochs=6, n_asked=500, batch_size=64, pad_px=0),
}
SNAPSHOTS_PER_EPOCH = 4
"""States kept of undefended networks, among which `std_matched` is looked for; a state serves one comparison of accuracies only."""

_MINUTES = {"mlp": (1, 3), "lenet": (2, 6), "tinycnn": (4, 8), "resnet8": (6, 12), "pool": (7, 17)}
"""Of a point of `cifar` (eleven networks), undefended and adversarially trained: one idle core of a processor with bf16 instructions."""

_NOISE = {"mlp": "gauss_40", "lenet": "gauss_40", "tinycnn": "gauss_15", "resnet8": "gauss_30", "pool": "gauss_40"}
"""At `cifar`: the noise whose full network, of seed 0, has the clean accuracy nearest to that of adversarial training at 8/255.

Of MLP .412 against .268 and of the pool net .484 against .412 (the largest noise there is), of LeNet .327 against .301, of TinyCNN .363 against
.341, of ResNet-8 .402 against .406.
"""


def _cifar(architecture: str, seed: int, *radii: int) -> Iterator[Entry]:
    plain, robust = _MINUTES[architecture]
    for recipe in ("std", "linf_8", "label_smoothing", _NOISE[architecture]):
        yield Entry(architecture, recipe, (seed,), robust if recipe == "linf_8" else plain)
    yield Entry(architecture, "std_matched", (seed,), 0.2)
    yield Entry(architecture, "untrained", (seed,), 0.2)
    yield from (Entry(architecture, f"linf_{k}", (seed,), robust) for k in radii)


TABLE: dict[str, tuple[Entry, ...]] = {
    "smoke": (
        *(Entry("tinycnn", recipe, (0,), 0.1, dataset=factorial.SMALL) for recipe in ("std", "l2_075", "label_smoothing", "gauss_20", "untrained")),
        *(Entry(architecture, "std", (0,), 0.3, dataset=factorial.SMALL) for architecture in ("lenet", CAPSULES)),
    ),
    # the radius at which TinyCNN's networks differ by 20 points (at 1.5 they do not), and the noise nearest in clean accuracy (.818 against .842)
    "laptop": tuple(
        Entry("tinycnn", recipe, (0, 1, 2), minutes, dataset=factorial.NAME)
        for recipe, minutes in (("std", 1), ("l2_075", 2), ("label_smoothing", 1), ("gauss_10", 1), ("std_matched", 0.1), ("untrained", 0.1))
    ),
    "cifar": (
        *(entry for architecture in ("mlp", "lenet", "tinycnn") for entry in _cifar(architecture, 0, 2, 4)),
        *(entry for architecture in ("resnet8", "pool") for entry in _cifar(architecture, 0)),
        *(
            Entry(architecture, "std", (0, 1, 2), minutes, dataset="fashion_mnist")
            for architecture, minutes in (("lenet", 0.5), ("tinycnn", 1.5), (CAPSULES, 10))
        ),
        *(entry for architecture in ("mlp", "lenet", "tinycnn") for entry in _cifar(architecture, 1)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Point(Spec):
    """A network of a point: the full one, whose description stands for the point, or (excluded: a class) one that never saw it."""

    excluded: int | None = None

    @property
    def name(self) -> str:
        """`loo-lenet-std-s0` for the full network, `loo-lenet-std-s0-without3` for one without class 3."""
        return f"{PREFIX}{super().name}" + ("" if self.excluded is None else f"-without{self.excluded}")

    @property
    def setting(self) -> Setting:
        """How its data set is trained on and asked at its scale; raises BadInput where no points are."""
        if (self.scale, self.dataset) not in SETTINGS:
            known = ", ".join(f"{dataset} at {scale}" for scale, dataset in SETTINGS)
            raise BadInput(f"no networks without a class are trained on {self.dataset} at scale {self.scale}; allowed: {known}")
        return SETTINGS[self.scale, self.dataset]

    @property
    def schedule(self) -> Schedule:
        """The scale's schedule, as short as the setting says, with two attack steps."""
        setting, preset = self.setting, scales.scale(self.scale).schedule
        own = {name: value for name in ("batch_size", "pad_px") if (value := getattr(setting, name)) is not None}
        return dataclasses.replace(
            preset,
            n_images=setting.n_images,
            epochs=setting.epochs,
            attack_steps=ATTACK_STEPS,
            peak_lr=scales.PEAK_LR.get(self.architecture, preset.peak_lr),
            **own,
        )

    @property
    def minutes(self) -> float:
        """The table's minutes of the point, shared evenly by its networks."""
        line = self._line(self.recipe)
        return line.minutes / (self.setting.n_classes + 1) if line else 0.0

    @property
    def snapshots_per_epoch(self) -> int:
        """States kept: of undefended networks where the table has a control that is chosen among them."""
        return SNAPSHOTS_PER_EPOCH if self.recipe == "std" and self._line("std_matched") else 0

    def arms(self) -> tuple[Point, Point]:
        """The full undefended and robust networks that a matched one is chosen by."""
        return dataclasses.replace(self.full, recipe="std"), dataclasses.replace(self.full, recipe=self.setting.robust)

    def description(self) -> dict[str, Any]:
        """Everything meant to shape the weights, and what such a network is asked."""
        described = super().description()
        return described if self.excluded is None else described | {"excluded": self.excluded, "asked": self.setting.n_asked}

    @property
    def path(self) -> Path:
        """Where the full network is kept, with its card, and the soft labels of one without a class; neither is committed."""
        return zoo_folder().parent / "leave_one_out" / self.scale / f"{self.name}-{self.key[:12]}.safetensors"

    @property
    def full(self) -> Point:
        """The full network of its point."""
        return dataclasses.replace(self, excluded=None)

    def without(self) -> list[Point]:
        """The networks of its point that lack a class, in the order of classes."""
        return [dataclasses.replace(self, excluded=k) for k in range(self.setting.n_classes)]

    @property
    def file(self) -> Path:
        """Where all soft labels of the point are kept; committed."""
        return zoo_folder().parent / "soft_labels" / self.scale / f"{self.full.name}-{self.full.key[:12]}.safetensors"

    def _line(self, recipe: str) -> Entry | None:
        own, named = scales.scale(self.scale).dataset, (self.architecture, recipe, self.dataset)
        return next((e for e in TABLE[self.scale] if (e.architecture, e.recipe, e.dataset or own) == named and self.seed in e.seeds), None)


def points(scale: str, only: Sequence[str] = ()) -> list[Point]:
    """The points of a scale in the order of work, each as its full network. only: names or patterns such as "loo-lenet-*"; all when empty."""
    own = scales.scale(scale).dataset
    table = [Point(e.recipe, e.architecture, e.dataset or own, seed, scale) for e in TABLE.get(scale, ()) for seed in e.seeds]
    return [point for point in table if not only or any(fnmatch(point.name, pattern) for pattern in only)]


def point_of(name: str, scale: str) -> Point:
    """The network of that name, e.g. `loo-lenet-std-s0-without3`; raises BadInput when it is no such name."""
    parts = re.fullmatch(rf"{PREFIX}(.+?)(?:-without(\d+))?", name)
    if parts is None:
        raise BadInput(
            f"network {name!r} is not {PREFIX}<architecture>-<recipe>-s<seed>, with -without<class> behind it for one that lacks a class"
        )
    made = Point(**dataclasses.asdict(spec_of(parts[1], scale)), excluded=None if parts[2] is None else int(parts[2]))
    if made.excluded is not None and made.excluded >= made.setting.n_classes:
        raise BadInput(f"network {name!r} lacks a class outside 0 to {made.setting.n_classes - 1}")
    return made


def networks(wanted: Sequence[Point]) -> list[Point]:
    """The networks of points in the order of work: the full ones of all, then those without a class, point by point."""
    return [*wanted, *(network for point in wanted for network in point.without())]
