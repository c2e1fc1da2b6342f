"""One excluded class of one point: what two networks say of its images, which classes are its relatives, and the numbers made of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib import data
from reprolib.data import factorial
from reprolib.errors import BadInput
from reprolib.measures import raw_zero_shot
from reprolib.models.networks import CAPSULES
from reprolib.training.leave_one_out import SoftLabels
from reprolib.training.points import Point

TEMPERATURES = tuple(2.0**k for k in range(-3, 5))
OTHER_SHARES = {"@50": 0.5, "@90": 0.9}
Told = list[tuple[str, str, str, float]]
"""Rows to be: quantity, unit, unit_2, value."""


@dataclass(frozen=True)
class Excluded:
    """One class, and what two networks say of n of its images.

    without (n, N - 1): logits of the network that never saw the class, which counts the other classes in their order; full (n, N): of the
    one that saw all. Any logits would do: these are log-probabilities, of capsules logarithms of lengths. index: the class among all N.
    same_shape, same_texture, relatives: classes that share a cue with it, or are known neighbours; empty where none are known.
    """

    name: str
    index: int
    without: Tensor
    full: Tensor
    same_shape: tuple[int, ...] = ()
    same_texture: tuple[int, ...] = ()
    relatives: tuple[int, ...] = ()


def names_of(dataset: str) -> tuple[str, ...]:
    """The names of a set's classes, in the order of their numbers; of a procedural set without rendering it."""
    if dataset in factorial.SETS:
        world = factorial.world_of(dataset, "test")
        return tuple(f"{shape}+{texture}" for shape in world.shapes for texture in world.textures)
    return tuple(data.load(dataset, "test").classes)


def of_point(point: Point, labels: SoftLabels, neighbours: Sequence[Sequence[str]] = ()) -> list[Excluded]:
    """What a point's networks say of each of its classes in turn. neighbours: pairs of names, of sets whose classes share no cue."""
    names = names_of(point.dataset)
    found = []
    for k, name in enumerate(names):
        if point.dataset in factorial.SETS:
            shape, texture = (
                tuple(c for c, other in enumerate(names) if c != k and other.split("+")[cue] == name.split("+")[cue]) for cue in (0, 1)
            )
            relatives = shape + texture
        else:
            shape = texture = ()
            relatives = tuple(names.index(other) for pair in neighbours if name in pair for other in pair if other != name)
        found.append(Excluded(name, k, labels.without[k], labels.full[k], shape, texture, relatives))
    return found


def beside(one: Excluded, share: float, is_raw: bool) -> dict[str, float]:
    """Everything that stands beside what the notebook asks of a class, by quantity; what is undefined is left out.

    share: of the largest entropy, at which confidence is matched. is_raw: whether logits are logarithms of capsule lengths.
    """
    z, k = one.without, one.index
    q, mean = z.softmax(dim=1), z.double().softmax(dim=1).mean(dim=0)
    numbers = {
        "am_norm_then_mean": raw_zero_shot.amalgam_metric_from_logits(z, one.full, k, order="norm_then_mean"),
        "confidence": float(q.amax(dim=1).mean()),
        "dbm_logits": raw_zero_shot.davies_bouldin_metric_normalised(z.log_softmax(dim=1), centre=True),
        "mean_label_concentration": math.log(len(mean)) + float(torch.xlogy(mean, mean).sum()),
        "off_class_mass": float(raw_zero_shot.off_class_mass(one.full.softmax(dim=1), k).median()),
        "matched_temperature": raw_zero_shot.matched_temperature(z[::2], share),
    }
    numbers |= {f"dbm_matched{at}": raw_zero_shot.davies_bouldin_metric_matched(z, of).value for at, of in OTHER_SHARES.items()}
    if is_raw:
        numbers["dbm_raw"] = raw_zero_shot.scatter(z.exp())
    if one.relatives:
        numbers["relative_mass"] = raw_zero_shot.relative_mass(q, k, one.relatives)
    if one.same_shape:
        shape, texture = (raw_zero_shot.mass(q, k, of) for of in (one.same_shape, one.same_texture))
        numbers |= {"shape_mass": shape, "texture_mass": texture, "shape_minus_texture": shape - texture}
    return numbers


def is_of_capsules(point: Point) -> bool:
    """Whether a point's networks give lengths in the place of logits."""
    return point.architecture == CAPSULES


def mean_labels(classes: Sequence[Excluded]) -> Told:
    """The mean soft label of every class, entry by entry: "mean_label", excluded class, other class."""
    names = [one.name for one in classes]
    return [
        ("mean_label", one.name, other, value)
        for one in classes
        for other, value in zip(names[: one.index] + names[one.index + 1 :], one.without.softmax(dim=1).mean(dim=0).tolist(), strict=True)
    ]


def over_temperature(classes: Sequence[Excluded]) -> Told:
    """The Davies-Bouldin metric, mean over classes, at temperatures from 1/8 to 16."""
    means = [sum(raw_zero_shot.davies_bouldin_metric_from_logits(one.without, t) for one in classes) / len(classes) for t in TEMPERATURES]
    return [("dbm_at_temperature", f"{t:.4g}", "", value) for t, value in zip(TEMPERATURES, means, strict=True)]


def principal(q: Tensor) -> Tensor:
    """Soft labels (n, K) less their mean, along their two principal components (n, 2); signs such that the largest loading is positive."""
    q = q.double() - q.double().mean(dim=0)
    axes = torch.linalg.svd(q, full_matrices=False).Vh[:2]
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    return q @ axes.T


def plane(one: Excluded) -> Told:
    """Soft labels of a class `principal`, image by image."""
    places = principal(one.without.double().softmax(dim=1)).tolist()
    return [("plane", f"{i:03d}", name, value) for i, place in enumerate(places) for name, value in zip("xy", place, strict=True)]


def checked(question: str, name: str, answers: dict[str, float]) -> dict[str, float]:
    """A question's answers on class `name` as floats. Raises BadInput for what is not one finite number."""
    for quantity, value in answers.items():
        if not math.isfinite(float(value)):
            raise BadInput(f"{question} gives {quantity}={value} for class {name}: one finite number a class is needed")
    return {quantity: float(value) for quantity, value in answers.items()}
