"""What neighbours are asked about: images of the scale, and sets from outside it; a network's own adversarial ones are added for each network."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reprolib import data
from reprolib.data import Images, shapetexture
from reprolib.data.images import as_rgb, pick
from reprolib.errors import BadInput, MissingData
from reprolib.models.networks import Network
from reprolib.perturb.attacks import pgd
from reprolib.study import Study

INDEX, CALIBRATION, INSIDE, ADVERSARIAL = "index", "calibration", "id", "adversarial"
OUTLIER, TEXTURE, FASHION = "outlier", "texture", "fashion"
NATURAL = {OUTLIER: "tiny_imagenet_20", TEXTURE: "textures", FASHION: "fashion_mnist"}
"""What stands outside natural images: the set's name in the rows -> data set. The first decides."""
SHOWN = 0.4  # of the number of outliers that decide: as many of each set that is only shown
CHUNK = 100  # images attacked at a time


@dataclass(frozen=True)
class Attack:
    """PGD of the scale's main ball on the first n ordinary images, as `attacks.pgd`, steps of 2.5 radii over their number."""

    norm: str
    eps: float
    steps: int
    n: int


@dataclass(frozen=True)
class Sets:
    """Images by name: "index" (training images that are neighbours), "calibration", "id" (held-out images, no image in two of them), "outlier", ..."""

    images: Mapping[str, Images]
    k: int
    attack: Attack

    @property
    def asked(self) -> tuple[str, ...]:
        """The sets that are asked about, "id" first; without the adversarial one."""
        return tuple(name for name in self.images if name not in (INDEX, CALIBRATION))

    def describe(self) -> dict[str, object]:
        """Plain values for cache keys: equal ones mean equal images in equal sets."""
        return {"sets": {name: of.sha256 for name, of in self.images.items()}, "k": self.k, "attack": vars(self.attack)}

    def only(self, *asked: str) -> Sets:
        """Neighbours, calibration and the named sets that are here; no adversarial ones."""
        kept = {name: of for name, of in self.images.items() if name in (INDEX, CALIBRATION, *asked)}
        return replace(self, images=kept, attack=replace(self.attack, n=0))

    def adversarial(self, network: Network, device: str | torch.device = "cpu") -> Tensor:
        """Images (n, c, h, w) in [0, 1]: the first ordinary ones, moved to fool the network."""
        how, of = self.attack, self.images[INSIDE]
        x, y = (one[: how.n].to(device) for one in (of.x, of.y))
        generator = torch.Generator().manual_seed(0)
        parts = zip(x.split(CHUNK), y.split(CHUNK), strict=True)
        moved = [
            pgd(network, a.float() / 255, b, how.norm, how.eps, 2.5 * how.eps / how.steps, how.steps, generator=generator) for a, b in parts
        ]
        return torch.cat(moved)


@functools.lru_cache(maxsize=1)
def of_scale(study: Study) -> Sets:
    """The scale's sets: neighbours among its first training images; of its test images the first calibrate, the next ask.

    ShapeTex: shapes and textures of no training set, crossed, in hues that tell nothing, are the outliers; those textures over the whole
    frame are shown. Natural images: photographs of 20 other classes decide; describable textures and clothes, in grey, are shown. A set
    that is not here is left out, with a printed line. Raises BadInput where an image would be in two of the first three sets.
    """
    n_index, n_calibration, n_query, n_outliers = (study.settings[f"n_{of}"] for of in (INDEX, CALIBRATION, "query", "outliers"))
    test, scale = study.images("test"), study.settings.scale
    if n_calibration + n_query > len(test):
        raise BadInput(f"n_calibration={n_calibration} and n_query={n_query} are more than the {len(test)} test images: give fewer")
    training = study.first_training_images(n_index)
    inside = {
        INDEX: pick(training, torch.arange(min(n_index, len(training)))),
        CALIBRATION: pick(test, torch.arange(n_calibration)),
        INSIDE: pick(test, torch.arange(n_calibration, n_calibration + n_query)),
    }
    check_disjoint(inside)
    n_shown = round(SHOWN * n_outliers)
    attack = Attack(scale.norm, scale.eps, study.settings["attack_steps"], min(n_shown, n_query))
    sets = inside | outside(study, n_outliers, n_shown, test.x.shape[-1])
    return Sets(sets, study.settings["n_neighbours"], attack)


def outside(study: Study, n: int, n_shown: int, side_px: int) -> dict[str, Images]:
    """Sets of images from outside the scale's, in turn from every class: n of the one that decides, n_shown of the others."""
    name = study.settings.scale.dataset
    if name in shapetexture.WORLDS:
        world = shapetexture.world_of(name, "test")
        others = replace(world, shapes=shapetexture.HELD_OUT_SHAPES, textures=shapetexture.HELD_OUT_TEXTURES)
        return {
            OUTLIER: study.reads(shapetexture.items(world, n, "held_out", f"{name}, held out")),
            TEXTURE: study.reads(shapetexture.items(others, n_shown, "texture_frame", f"{name}, held-out textures")),
        }
    sets = {}
    for at, source in NATURAL.items():
        try:
            loaded = study.reads(data.load(source, "test"))
        except MissingData as error:
            print(f"{error}: {at} is left out of what neighbours are asked about.")
            continue
        sets[at] = as_rgb(pick(loaded, _in_turn(loaded.y, n if at == OUTLIER else n_shown)), side_px)
    return sets


def check_disjoint(sets: Mapping[str, Images]) -> None:
    """Raise BadInput where two of the sets hold the same image, or one holds it twice beside another: it would be its own neighbour."""
    seen: dict[bytes, str] = {}
    for name, of in sets.items():
        own = [one.numpy().tobytes() for one in of.x]
        if twice := [i for i, one in enumerate(own) if one in seen]:
            raise BadInput(
                f"image {twice[0]} of {name} is one of {seen[own[twice[0]]]} too, {len(twice)} are: take sets without common images"
            )
        seen |= dict.fromkeys(own, name)


def _in_turn(y: Tensor, n: int) -> Tensor:
    """Places of the first n images when the classes take turns, in the set's order: all where there are fewer."""
    turn = torch.empty_like(y)
    for k in y.unique():
        turn[y == k] = torch.arange(int((y == k).sum()))
    return torch.argsort(turn * (int(y.max()) + 1) + y, stable=True)[:n]
