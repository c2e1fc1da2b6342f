"""How robust the full networks of the points are: minimal perturbations, accuracy under attack, and what one pixel does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from reprolib import data, store
from reprolib.data import Images
from reprolib.judging.tidy import identity, row
from reprolib.models.networks import Network
from reprolib.perturb.attacks import adversarial_accuracy, predictions
from reprolib.perturb.deepfool import deepfool
from reprolib.perturb.pixel import one_pixel
from reprolib.study import Study
from reprolib.training import zoo
from reprolib.training.leave_one_out import soft_labels
from reprolib.training.points import PREFIX, Point
from reprolib.training.recipes import recipe

CLAIM = "ZSQ-3"
MORE_RADII = {"cifar": (2, 4, 8)}
"""By scale, Linf radii in 255ths beside that of the robust recipe."""
ABOVE_CHANCE = 0.1  # clean accuracy that a network must have to take part in a coefficient
NAMED = 3  # points at most that a line names
SHOWN = ("minimal_l2", "adversarial_error", "pixel_error")
"""What is drawn of a network that does not have it, under these names and "_shown"."""


@dataclass(frozen=True)
class Shown:
    """The first n test images x (n, c, h, w) in [0, 1] on the study's device, and their classes y (n,); key: what they are kept under."""

    x: Tensor
    y: Tensor
    key: str


def attacked(study: Study, points: Iterable[Point], role_of: Callable[[Point], str]) -> pd.DataFrame:
    """Rows of ZSQ-3: of every point's full network, of its clean accuracy and of three attacks. role_of: point -> arm, empty for none.

    "minimal_l2" (unit "median"): median DeepFool distance, pixel units, of the first `n_attacked` test images that the network has right;
    "adversarial_error": 1 - accuracy on all of these under PGD in the ball of the setting's robust recipe, and "@2", "@4", "@8" in Linf
    balls of so many 255ths, at the scales that have them; "pixel_error": share of the first `n_pixel` images that it has right which one
    changed pixel turns; "clean_accuracy": the card's. Of a network less than 10 points above chance the first three are "_shown" instead.
    Measured where the network that gave the soft labels is on this machine, else the committed rows of that network; a printed line
    says how many there are of each kind. Untrained points and those without an arm are not attacked.
    """
    if not study.can_measure or study.only_mine:
        return pd.DataFrame()
    wanted = [point for point in points if role_of(point) and recipe(point.recipe).trained and not zoo.not_applicable(point)]
    here = [point for point in wanted if _is_here(point)]
    kept = {point: rows for point in wanted if point not in here and len(rows := _committed(study, point))}
    absent = [point for point in wanted if point not in here and point not in kept]
    print(_told(study, len(here), len(kept), absent))
    frames = [*kept.values()]
    loaded = [(point, zoo.load(point, study.device)) for point in here]
    nets: dict[str, list[Network]] = {}
    for point, network in loaded:
        nets.setdefault(role_of(point), []).append(network)
    of = {network.sha256: point for point, network in loaded}
    tests = {dataset: study.reads(data.load(dataset, "test")) for dataset in {point.dataset for point in here}}
    for role, network in study.each(nets):
        point = of[network.sha256]
        frames.append(pd.DataFrame(_rows(study, point, network, role, tests[point.dataset])))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _is_here(point: Point) -> bool:
    """Whether the full network is on this machine, and is the one that gave the point's soft labels where these are there."""
    card = zoo.card_of(point)
    return card is not None and (not point.file.exists() or soft_labels(point).card["sha256"] == card["sha256"])


def _committed(study: Study, point: Point) -> pd.DataFrame:
    """Committed rows of the network that gave the point's soft labels; none of a run with a turned knob, and none where there are none."""
    if study.settings.overridden or not (study.committed / "rows.csv.gz").exists() or not point.file.exists():
        return pd.DataFrame()
    rows = study.committed_rows()
    return rows[(rows["claim"] == CLAIM) & (rows["network"] == soft_labels(point).card["sha256"][:12])]


def _told(study: Study, n_here: int, n_kept: int, absent: Sequence[Point]) -> str:
    line = f"Attacks on full networks: {n_here} measured, {n_kept} from the committed rows, {len(absent)} have none"
    if not absent:
        return f"{line}."
    only = [point.name for point in absent] if len(absent) <= NAMED else [f"'{PREFIX}*'"]
    # A point whose soft labels are there counts as trained: its full network is of a training elsewhere.
    first = {
        f" (first delete the soft labels that are there, in {store.shown(point.file.parent)})" for point in absent if point.file.exists()
    }
    command = f"reprolib train --scale {study.settings.scale.name} {' '.join(f'--only {name}' for name in only)}"
    return f"{line}; to train them: `{command}`{''.join(first)}."


def _rows(study: Study, point: Point, network: Network, role: str, test: Images) -> Iterator[dict[str, object]]:
    """The rows of one network, measured or read from the cache."""
    images, few = (_shown(study, test, study.settings.values[name]) for name in ("n_attacked", "n_pixel"))
    clean = network.card["clean"]["value"]
    found = {"minimal_l2": _minimal_l2(study, network, images)}
    for suffix, (norm, eps) in _radii(point).items():
        found[f"adversarial_error{suffix}"] = _adversarial_error(study, network, images, norm, eps), True
    found["pixel_error"] = _pixel_error(study, network, few)
    if clean < 1 / network.n_classes + ABOVE_CHANCE:
        found = {f"{name}_shown": found[name] for name in SHOWN}
    for quantity, (value, reached) in (found | {"clean_accuracy": (clean, True)}).items():
        unit = "median" if quantity.startswith("minimal_l2") else "test"
        yield identity(role, network) | row(CLAIM, quantity, unit, "", value, reached)


def _radii(point: Point) -> dict[str, tuple[str, float]]:
    """What stands behind the quantity's name, and the ball: that of the setting's robust recipe, and the scale's others."""
    main = recipe(point.setting.robust)
    assert main.norm is not None  # it is trained in a ball
    return {"": (main.norm, main.eps)} | {f"@{k}": ("linf", k / 255) for k in MORE_RADII.get(point.scale, ())}


def _shown(study: Study, test: Images, n: int) -> Shown:
    x, y = test.x[:n].to(study.device).float() / 255, test.y[:n].to(study.device)
    return Shown(x, y, f"first {len(y)} of {test.sha256}")


def _minimal_l2(study: Study, network: Network, images: Shown) -> tuple[float, bool]:
    """The median distance, an image that is not fooled being farther than any; where no more than half are, the box's diagonal, and False."""

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: DeepFool, {len(images.y)} images")
        right = predictions(network, images.x) == images.y
        moved = deepfool(network, images.x, images.y)
        return {"right": right, "distance": moved.distance, "succeeded": moved.succeeded}

    kept = store.cache("minimal_l2", {"network": network.sha256, "images": images.key}, compute)
    distance, succeeded = (kept[name][kept["right"]].double() for name in ("distance", "succeeded"))
    if not succeeded.sum() > len(succeeded) / 2:
        return math.sqrt(images.x[0].numel()), False
    return float(torch.where(succeeded > 0, distance, math.inf).quantile(0.5)), True


def _adversarial_error(study: Study, network: Network, images: Shown, norm: str, eps: float) -> float:
    steps = study.settings.values["attack_steps"]

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: PGD-{steps} in {norm} of {eps:.3g}, {len(images.y)} images")
        return {"correct": adversarial_accuracy(network, images.x, images.y, norm, eps, steps).correct}

    what = {"network": network.sha256, "images": images.key, "attack": [norm, eps, steps]}
    return 1 - float(store.cache("withstood", what, compute)["correct"].double().mean())


def _pixel_error(study: Study, network: Network, images: Shown) -> tuple[float, bool]:
    """The share, and whether there is one: of a network that has no image right it is 0."""

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: one pixel, {len(images.y)} images")
        right = predictions(network, images.x) == images.y
        return {"right": right, "succeeded": one_pixel(network, images.x, images.y).succeeded}

    kept = store.cache("one_pixel", {"network": network.sha256, "images": images.key}, compute)
    turned = kept["succeeded"][kept["right"]].double()
    return (float(turned.mean()), True) if len(turned) else (0.0, False)
