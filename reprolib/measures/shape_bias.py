"""Shape bias: which of two cues in conflict decides. Names of categories in, numbers out.

Source: Geirhos et al. 2019 (ICLR); aggregation of classes as in rgeirhos/texture-vs-shape and bethgelab/model-vs-human.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.intervals import of_share

OTHER = ""
"""The decision of a network that named neither a category: one of its classes that belongs to none."""

# ImageNet classes, by their number in the usual order of 1000, that belong to each category: as ranges, ends included.
# Source: code/helper/human_categories.py of rgeirhos/texture-vs-shape (subtrees of WordNet, some of them taken out by hand).
_CLASSES = {
    "airplane": "404", "bear": "294-297", "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914", "bottle": "440 720 737 898-899 901 907", "car": "436 511 817", "cat": "281-286",
    "chair": "423 559 765 857", "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385-386", "keyboard": "508 878", "knife": "499", "oven": "766", "truck": "555 569 656 675 717 734 864 867",
}  # fmt: skip


def _numbers(ranges: str) -> tuple[int, ...]:
    ends = [[int(end) for end in part.split("-")] for part in ranges.split()]
    return tuple(k for first, *last in ends for k in range(first, (last or [first])[0] + 1))


IMAGENET_CLASSES: dict[str, tuple[int, ...]] = {category: _numbers(ranges) for category, ranges in _CLASSES.items()}
"""Category -> its classes among ImageNet's 1000: 207 of them belong to one of the 16."""
AGGREGATIONS = ("mean", "sum", "max")
LABEL_SETS = ("restricted", "full")


@dataclass(frozen=True)
class ShapeBias:
    """n_shape / (n_shape + n_texture): the share of shape among answers by either cue; low, high: 95 % over stimuli (Wilson 1927).

    coverage: the share of stimuli with conflict that were answered by either cue; n: those stimuli. Without an answer by a cue value and
    interval are nan, and reason says why.
    """

    value: float
    n_shape: int
    n_texture: int
    coverage: float
    low: float
    high: float
    n: int
    reason: str = ""

    def __str__(self) -> str:
        share = self.reason if math.isnan(self.value) else f"shape bias {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{share}: {self.n_shape} by shape, {self.n_texture} by texture, coverage {self.coverage:.2f} of {self.n}"


def shape_bias(shape: Sequence[str], texture: Sequence[str], decision: Sequence[str]) -> ShapeBias:
    """Shape bias of decisions (n names) on stimuli with those shapes and textures; stimuli where both are the same never count.

    Raises BadInput for unequal lengths, and where no stimulus has a conflict.
    """
    table = _conflicts(shape, texture, decision)
    n_shape, n_texture = int((table["decision"] == table["shape"]).sum()), int((table["decision"] == table["texture"]).sum())
    answered = n_shape + n_texture
    if not answered:
        reason = f"no shape bias, for none of {len(table)} stimuli was named by its shape or its texture"
        return ShapeBias(math.nan, 0, 0, 0.0, math.nan, math.nan, len(table), reason)
    value, low, high = of_share(n_shape, answered)
    return ShapeBias(value, n_shape, n_texture, answered / len(table), low, high, len(table))


def by_category(shape: Sequence[str], texture: Sequence[str], decision: Sequence[str]) -> pd.DataFrame:
    """A row a shape category: category, n_shape, n_texture, n (stimuli), shape_bias (nan without an answer by a cue)."""
    table = _conflicts(shape, texture, decision)
    said = pd.DataFrame({
        "category": table["shape"], "n_shape": table["decision"] == table["shape"], "n_texture": table["decision"] == table["texture"], "n": 1
    })  # fmt: skip
    found = said.groupby("category").sum().astype(int).reset_index()
    return found.assign(shape_bias=found["n_shape"] / (found["n_shape"] + found["n_texture"]).replace(0, np.nan))


def graded_preference(logits: Tensor, shape: Tensor, texture: Tensor, raw: bool = False) -> Tensor:
    """(n,): by how much the logits (n, K) prefer the shape's class to the texture's, in standard deviations of all the logits.

    shape, texture: (n,) columns. raw: in units of the logits. Defined where no stimulus is answered by a cue. Raises BadInput for logits
    that are all alike.
    """
    spread = torch.ones((), dtype=torch.float64, device=logits.device) if raw else logits.double().std()
    if not spread > 0:
        raise BadInput(f"all logits of shape {tuple(logits.shape)} are alike: they prefer nothing")
    each = torch.arange(len(logits), device=logits.device)
    return (logits[each, shape] - logits[each, texture]).double() / spread


def to_categories(logits: Tensor, members: Mapping[str, Sequence[int]] = IMAGENET_CLASSES, how: str = "mean") -> Tensor:
    """Scores (n, categories) of logits (n, classes): softmax over all classes, then the mean probability of each category's.

    how: "mean", as in the source; "sum" and "max" are there to be compared, the sum favours categories of many classes.
    """
    if how not in AGGREGATIONS:
        raise BadInput(f"how={how!r} is not allowed: give one of {', '.join(AGGREGATIONS)}")
    chances = logits.double().softmax(dim=1)
    combine = {"mean": lambda x: x.mean(dim=1), "sum": lambda x: x.sum(dim=1), "max": lambda x: x.amax(dim=1)}[how]
    return torch.stack([combine(chances[:, list(classes)]) for classes in members.values()], dim=1)


def decisions(
    logits: Tensor, members: Mapping[str, Sequence[int]] = IMAGENET_CLASSES, how: str = "mean", labels: str = "restricted"
) -> list[str]:
    """The category that each image is given, of logits (n, classes).

    labels: "restricted": the category of the highest score; "full": that of the single most likely class, OTHER where it has none.
    """
    if labels not in LABEL_SETS:
        raise BadInput(f"labels={labels!r} is not allowed: give one of {', '.join(LABEL_SETS)}")
    if labels == "restricted":
        names = list(members)
        return [names[k] for k in to_categories(logits, members, how).argmax(dim=1).tolist()]
    category = {k: name for name, classes in members.items() for k in classes}
    return [category.get(k, OTHER) for k in logits.argmax(dim=1).tolist()]


def _conflicts(shape: Sequence[str], texture: Sequence[str], decision: Sequence[str]) -> pd.DataFrame:
    if len({len(shape), len(texture), len(decision)}) != 1:
        raise BadInput(f"{len(shape)} shapes, {len(texture)} textures and {len(decision)} decisions: give one of each a stimulus")
    table = pd.DataFrame({"shape": list(shape), "texture": list(texture), "decision": list(decision)}, dtype=object)
    table = table[table["shape"] != table["texture"]]
    if table.empty:
        raise BadInput(f"none of {len(shape)} stimuli has a shape and a texture of different categories: there is no conflict to decide")
    return table
