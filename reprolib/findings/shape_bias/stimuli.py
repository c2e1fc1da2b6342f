"""The images that are asked about: two cues in conflict, one cue alone, and clean images to be distorted."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import cue_conflict, shapetexture
from reprolib.data.images import Images, pick, shrink
from reprolib.data.variants import VARIANTS
from reprolib.findings.shape_bias.networks import OWN
from reprolib.study import Study

N_GRATINGS = 4  # textures of equal spectrum, the first of the procedural world
SIDE_PX = 32  # of photographs


@dataclass(frozen=True)
class Stimuli:
    """Images x (n, 3, h, w) in [0, 1] with the classes of their cues, as columns of the logits that may answer.

    allowed: numbers of those logits. shape, texture (n,): the columns that each cue speaks for; of images without a conflict both are the
    one right answer. shapes, textures: what the columns mean as either. hue (n,): the class whose hue the figure has; -1 where it means nothing.
    """

    x: Tensor
    shape: Tensor
    texture: Tensor
    allowed: list[int]
    shapes: tuple[str, ...]
    textures: tuple[str, ...]
    hue: Tensor = field(default_factory=lambda: torch.tensor(-1))

    @property
    def key(self) -> str:
        """A hash of all this."""
        digest = hashlib.sha256(self.x.contiguous().numpy().tobytes())
        cues = [one.tolist() for one in (self.shape, self.texture, self.hue)]
        return store.content_key({"x": digest.hexdigest(), "cues": cues, "allowed": self.allowed})

    @property
    def names(self) -> list[str]:
        """Of each stimulus "shape+texture"."""
        pairs = zip(self.shape.tolist(), self.texture.tolist(), strict=True)
        return [f"{self.shapes[shape]}+{self.textures[texture]}" for shape, texture in pairs]

    def shown(self, x: Tensor) -> Stimuli:
        """The same, shown as other images (n, 3, h, w)."""
        return dataclasses.replace(self, x=x)

    def on(self, device: str) -> Stimuli:
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("x", "shape", "texture", "hue")}
        return dataclasses.replace(self, **moved)


@functools.lru_cache(maxsize=1)
def conflicts(study: Study) -> dict[str, Stimuli]:
    """Stimuli whose cues conflict, by what stands behind the quantities of their rows: OWN, the margin sets, and "@10", of all ten classes.

    Raises MissingData where the original stimuli are not here.
    """
    if study.settings.values.get("photographs"):
        return _photographs(study)
    sets = {OWN: study.settings.scale.dataset, **study.settings.values.get("margins", {})}
    return {at: _conflict(shapetexture.world_of(dataset, "test"), study.settings["n_conflict"]) for at, dataset in sets.items()}


def gratings(study: Study) -> dict[str, Stimuli]:
    """Stimuli of the four gratings alone, on the scale's own set and on the margin sets; none of photographs."""
    sets = {OWN: study.settings.scale.dataset, **study.settings.values.get("margins", {})}
    worlds = {at: shapetexture.world_of(dataset, "test") for at, dataset in sets.items() if dataset in shapetexture.WORLDS}
    four = {
        at: dataclasses.replace(world, shapes=world.shapes[:N_GRATINGS], textures=world.textures[:N_GRATINGS])
        for at, world in worlds.items()
    }
    return {at: _conflict(world, study.settings["n_gratings"]) for at, world in four.items()}


def clean(study: Study, at: str = OWN) -> Stimuli:
    """The images that distortions are made from: test images, or of a procedural set those with uniform hues."""
    return variant(study, "both_uniform", at)


def variant(study: Study, name: str, at: str = OWN) -> Stimuli:
    """Images of a variant of the scale's procedural set, or of the margin set `at`, with one right answer each; of photographs, test images."""
    settings, n = study.settings, study.settings["n_images"]
    dataset = settings.values.get("margins", {}).get(at, settings.scale.dataset)
    if dataset not in shapetexture.WORLDS:
        return _labelled(pick(study.images("test"), torch.arange(n)), range(settings.scale.n_classes))
    world = shapetexture.world_of(dataset, "test")
    return _labelled(shapetexture.items(world, n, name, f"{dataset} {name}"), range(len(world.shapes)))


@functools.lru_cache(maxsize=1)
def outlines(study: Study) -> dict[str, Stimuli]:
    """The 70 silhouettes and the 70 edge images of CIFAR-10's categories; none of procedural sets, whose variants show the same."""
    if not study.settings.values.get("photographs"):
        return {}
    classes, found = study.images("test").classes, {}
    for name, source in (("silhouettes", cue_conflict.SILHOUETTES), ("edges", cue_conflict.EDGES)):
        small = shrink(cue_conflict.of(study.reads(source.load()), cue_conflict.IN_CIFAR10), SIDE_PX)
        numbers = [classes.index(cue_conflict.IN_CIFAR10[small.classes[y]]) for y in small.y.tolist()]
        relabelled = dataclasses.replace(small, y=torch.tensor(numbers), classes=classes)
        found[name] = _labelled(relabelled, _shared(classes))
    return found


def _conflict(world: shapetexture.World, n: int) -> Stimuli:
    items = shapetexture.items(world, n, "conflict", "conflict")
    k = len(world.shapes)
    drawn = shapetexture.draw(world, np.arange(n))
    hue = (torch.from_numpy(shapetexture.uniform_hues(drawn)[:, 0]) * k).round().long() % k
    return Stimuli(items.x.float() / 255, items.y // k, items.y % k, list(range(k)), world.shapes, world.textures, hue)


def _photographs(study: Study) -> dict[str, Stimuli]:
    """The 210 original stimuli of CIFAR-10's categories, shrunk by area: answered among their 7 classes, and among all 10."""
    everything = cue_conflict.load()
    study.reads(everything.images)
    chosen = cue_conflict.conflicts(everything, cue_conflict.IN_CIFAR10)
    x, classes = shrink(chosen.images, SIDE_PX).x.float() / 255, study.images("test").classes
    found = {}
    for at, allowed in ((OWN, _shared(classes)), ("@10", list(range(len(classes))))):
        column = {classes[k]: i for i, k in enumerate(allowed)}
        shape, texture = (torch.tensor([column[cue_conflict.IN_CIFAR10[name]] for name in of]) for of in (chosen.shape, chosen.texture))
        words = tuple(classes[k] for k in allowed)
        found[at] = Stimuli(x, shape, texture, allowed, words, words)
    return found


def _shared(classes: tuple[str, ...]) -> list[int]:
    """The numbers of CIFAR-10's classes that the stimuli show."""
    return sorted(classes.index(name) for name in cue_conflict.IN_CIFAR10.values())


def _labelled(source: Images, allowed: range | list[int]) -> Stimuli:
    columns = {k: i for i, k in enumerate(allowed)}
    y = torch.tensor([columns[k] for k in source.y.tolist()])
    words = tuple(source.classes[k] for k in allowed)
    return Stimuli(source.x.float() / 255, y, y, list(allowed), words, words)


def is_of_texture(name: str) -> bool:
    """Whether a variant of the procedural set shows a texture and no shape."""
    return VARIANTS[name].label == "texture"
