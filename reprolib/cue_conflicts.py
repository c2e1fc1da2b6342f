"""The original cue-conflict stimuli, put to anybody's network: does it go by shape or by texture? The front door's `cue_conflict`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from reprolib import store
from reprolib.boundary import Classifier, check_count, not_finite
from reprolib.data import cue_conflict as stimuli_of
from reprolib.data.cue_conflict import CATEGORIES, STIMULI
from reprolib.data.pictures import picture, pictures
from reprolib.errors import BadInput, CorruptFile, MissingData, nearest
from reprolib.measures.shape_bias import IMAGENET_CLASSES, ShapeBias, by_category, decisions, shape_bias
from reprolib.models.layers import eval_mode
from reprolib.models.wrapped import device_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORIGINAL_PX = 224
CSV = ("subj", "session", "trial", "rt", "object_response", "category", "condition", "imagename")
"""Columns of bethgelab/model-vs-human."""
COPIES = "The stimuli are copies of 96 px, enlarged or shrunk: no benchmark number. stimuli= takes a folder with the originals of 224 px."

Classes = str | Mapping[str, Sequence[int] | Sequence[str]]
"""Which logits speak for a category: "imagenet", or category -> numbers of logits, or names of classes."""


@dataclass(frozen=True)
class CueConflict:
    """What a network answered. answers: a row a stimulus, image, shape, texture, decision (a category, or "" for none).

    bias: its shape bias, over the stimuli whose two cues differ, with an interval over them (95 %). left_out: stimuli with a cue outside the
    categories given. note: which stimuli these were.
    """

    answers: pd.DataFrame
    bias: ShapeBias
    left_out: int
    note: str

    @property
    def by_category(self) -> pd.DataFrame:
        """A row a category of the shape: n_shape, n_texture, n, shape_bias."""
        return by_category(*(self.answers[name].tolist() for name in ("shape", "texture", "decision")))

    def to_csv(self, path: str | PathLike[str], name: str = "mine") -> Path:
        """Write the answers as bethgelab/model-vs-human keeps them; name: of the network. Returns the path."""
        told: dict[str, Any] = {"subj": name, "session": 1, "trial": range(1, len(self.answers) + 1), "rt": "NaN", "condition": "NaN"}
        answers = self.answers.rename(columns={"decision": "object_response", "shape": "category", "image": "imagename"})
        table = answers.assign(**told, object_response=answers["object_response"].replace("", "na"))
        return store.write_bytes(path, table[list(CSV)].to_csv(index=False, lineterminator="\n").encode())

    def plot(self, beside: Mapping[str, CueConflict] | None = None) -> Figure:
        """The category plot, with the shape bias of ResNet-50 and of people; and those of other networks beside it by name."""
        from reprolib.figures import own_network

        return own_network.cue_categories({"mine": self, **(beside or {})})


def cue_conflict(
    net: nn.Module, classes: Classes = "imagenet", size_px: int = ORIGINAL_PX, stimuli: str | PathLike[str] | None = None,
    how: str = "mean", labels: str = "restricted", batch_size: int = 50,
) -> CueConflict:  # fmt: skip
    """Whether a network goes by shape or by texture on the stimuli of Geirhos et al. 2019, of which 1,200 have a conflict.

    net: any callable module from images in [0, 1] to logits, see `wrap`. classes: "imagenet" (1000 logits in the usual order), or a mapping
    of 2 to 16 of the categories to numbers of logits, or to names of ImageNet's or CIFAR-10's classes; stimuli with a cue outside are left
    out and counted. size_px: to which stimuli are resized. stimuli: a folder with the 1,280 originals; absent, copies of 96 px.
    how: by which a category's score is made of its classes' probabilities; labels: "restricted" to the categories, or the "full" label set
    (`reprolib.measures.shape_bias.decisions`).
    Raises BadInput for classes that do not fit the network, and naming the stimuli where a logit is not a number; MissingData and
    CorruptFile for stimuli that are not there or not those.
    """
    check_count(size_px, "size_px")
    check_count(batch_size, "batch_size")
    if not isinstance(classes, str | Mapping):
        raise BadInput(
            f'classes={classes!r} is no mapping: give "imagenet", or categories with their logits, such as {{"cat": [3], "dog": [5]}}'
        )
    given = {category: list(IMAGENET_CLASSES[category]) for category in CATEGORIES} if isinstance(classes, str) else dict(classes)
    _check_categories(classes, given)
    images, names, pixels = _copies() if stimuli is None else _originals(Path(stimuli).expanduser())
    shape, texture = ([_categories(name)[k] for name in names] for k in (0, 1))
    kept = [k for k in range(len(names)) if shape[k] in given and texture[k] in given]
    device, found, classifier = device_of(net), [], Classifier(net)
    with eval_mode(net), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for start in range(0, len(kept), batch_size):
            x, _ = pictures(pixels(kept[start : start + batch_size]), size_px=size_px)
            found.append(classifier(x.to(device)).cpu())
            if start == 0:
                members = _members(classes, given, found[0].shape[1])  # before the rest is asked in vain
    logits = torch.cat(found)
    if unknown := not_finite(logits):
        stimuli_named = ", ".join(names[kept[k]] for k in unknown)
        raise BadInput(f"the network's logits for {stimuli_named} are not finite, so they name no class: look at its weights and precision")
    shape, texture = [shape[k] for k in kept], [texture[k] for k in kept]
    decision = decisions(logits, members, how, labels)
    answers = pd.DataFrame({"image": [f"{names[k]}.png" for k in kept], "shape": shape, "texture": texture, "decision": decision})
    print(images)
    return CueConflict(answers, shape_bias(shape, texture, decision), len(names) - len(kept), images)


Pixels = Callable[[Sequence[int]], Tensor]
"""Numbers of stimuli -> their pixels (n, 3, h, w) in [0, 1]."""


def _copies() -> tuple[str, list[str], Pixels]:
    x = stimuli_of.load().images.x
    return COPIES, list(_stems()), lambda chosen: x[list(chosen)].float() / 255


def _originals(folder: Path) -> tuple[str, list[str], Pixels]:
    """The note, names and pixels of a folder that holds the originals, known by their names, wherever below it they lie."""
    wanted = list(_stems())
    there = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".png", ".jpg", ".jpeg")}
    if not set(wanted) & set(there):
        raise MissingData(
            f"stimuli={str(folder)!r} holds none of the {len(wanted)} cue-conflict stimuli (airplane1-bicycle2.png and so on): name the folder "
            f"style-transfer-preprocessed-512 of rgeirhos/texture-vs-shape, or leave stimuli= out for the copies of 96 px"
        )
    if absent := [name for name in wanted if name not in there]:
        raise CorruptFile(
            f"{folder} holds {len(wanted) - len(absent)} of the {len(wanted)} stimuli, not {', '.join(absent[:3])}: fetch them all again"
        )

    def pixels(chosen: Sequence[int]) -> Tensor:
        return torch.cat([_original(there[wanted[k]]) for k in chosen])

    return f"The stimuli are those of {folder}.", wanted, pixels


def _original(path: Path) -> Tensor:
    x = picture(path)
    if x.shape[2:] != (ORIGINAL_PX, ORIGINAL_PX):
        raise BadInput(f"{path} has {x.shape[3]} x {x.shape[2]} px: the original stimuli have {ORIGINAL_PX} x {ORIGINAL_PX}")
    return x


def _stems() -> Iterator[str]:
    """The names of all stimuli, in the order of `reprolib.data.cue_conflict.load`."""
    return (Path(path).stem for path in STIMULI.checksums())


def _categories(stem: str) -> tuple[str, str]:
    """Shape and texture of a stimulus: of "cat7-elephant1" cat and elephant."""
    shape, texture = (part.rstrip("0123456789") for part in stem.rpartition("_")[2].rsplit("-", 1))
    return shape, texture


def _check_categories(classes: Classes, given: Mapping[str, object]) -> None:
    if isinstance(classes, str) and classes != "imagenet":
        hint = nearest(classes, ["imagenet"])
        raise BadInput(f'classes={classes!r} is not allowed: give "imagenet", or a mapping such as {{"cat": [3], "dog": [5]}}{hint}')
    for category in given:
        if category not in CATEGORIES:
            raise BadInput(f"category {category!r} is none of the stimuli's: {', '.join(CATEGORIES)}{nearest(category, CATEGORIES)}")
    if len(given) < 2:
        raise BadInput(f"{len(given)} category is given: two cues in conflict need at least 2 of the 16")


def _members(classes: Classes, given: Mapping[str, Sequence[int] | Sequence[str]], n_logits: int) -> dict[str, list[int]]:
    """Category -> numbers of its logits. Raises BadInput for numbers or names that the network does not have, and for one in two categories."""
    if isinstance(classes, str) and n_logits != 1000:
        raise BadInput(
            f'the model gives {n_logits} logits and classes="imagenet" needs 1000: give a mapping of categories to its own, '
            'such as {"cat": [3], "dog": [5]}'
        )
    found: dict[str, list[int]] = {}
    owner: dict[int, str] = {}
    for category, those in given.items():
        if isinstance(those, str) or not isinstance(those, Iterable) or not len(those):
            raise BadInput(f"classes[{category!r}]={those!r} is no list of logits: give at least one number or name, such as [3]")
        found[category] = [_number(category, one, n_logits) for one in those]
        for k in found[category]:
            if owner.setdefault(k, category) != category:
                raise BadInput(f"logit {k} is in category {owner[k]!r} and in {category!r}: give each to one")
    return found


def _number(category: str, one: int | str, n_logits: int) -> int:
    if isinstance(one, str):
        names = _names(n_logits)
        if one not in names:
            known = (
                "names are known of networks with 1000 logits (ImageNet) or 10 (CIFAR-10), give numbers" if not names else "it is unknown"
            )
            raise BadInput(f"class {one!r} of category {category!r} is not among the network's {n_logits}: {known}{nearest(one, names)}")
        return names.index(one)
    if isinstance(one, bool) or not isinstance(one, Integral) or not 0 <= one < n_logits:
        raise BadInput(f"logit {one!r} of category {category!r} is not one of the network's {n_logits}: allowed are 0 to {n_logits - 1}")
    return int(one)


def _names(n_logits: int) -> list[str]:
    if n_logits == 10:
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    if n_logits == 1000:
        from torchvision.models import ResNet18_Weights  # only here: it takes seconds to import

        return list(ResNet18_Weights.DEFAULT.meta["categories"])
    return []
