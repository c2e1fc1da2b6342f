"""Images from outside the training distribution of a scale, by set."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reprolib import data, scales
from reprolib.data import Images, shapetexture
from reprolib.data.images import as_rgb, pick
from reprolib.errors import MissingData
from reprolib.findings.invertibility.inverting import in_turn

HELD_OUT = "held_out"

NATURAL = {"tiny_imagenet_20": "tiny_imagenet_20", "textures": "textures", "fashion": "fashion_mnist"}
"""What stands outside natural images: name in the rows -> data set. The first decides."""

N_SHOWN = 20


def outside_sets(
    scale_name: str, images: Images, n: int = 64, reads: Callable[[Images], Images] = lambda images: images
) -> dict[str, Tensor]:
    """Sets of images (m, 3, h, w) in [0, 1] from outside the scale's training distribution, by name, the one that decides first.

    images: the scale's test set, of whose side they come. n: images of the deciding set; of the others `N_SHOWN` at most. In
    turn from every class. ShapeTex: shapes and textures of no training set, crossed. Natural images: small photographs of
    other classes decide, describable textures and clothes (grey) are shown. A set that is not here is left out, with a printed
    line; without the one that decides there is none. reads: is given every set that is loaded.
    """
    dataset, side_px = scales.scale(scale_name).dataset, images.x.shape[-1]
    if dataset in shapetexture.WORLDS:
        found = shapetexture.items(shapetexture.world_of(dataset, "test"), n, HELD_OUT, f"{dataset}_{HELD_OUT}")
        return {HELD_OUT: as_rgb(found, side_px).x.float() / 255}
    sets: dict[str, Tensor] = {}
    for name, source in NATURAL.items():
        try:
            loaded = reads(data.load(source, "test"))
        except MissingData as error:
            print(f"{name} is left out of the targets from outside: {error}")
            if not sets:
                return {}  # without the set that decides there is no tau to show the others at
            continue
        places = in_turn(loaded.y, n if not sets else min(n, N_SHOWN))
        sets[name] = as_rgb(pick(loaded, torch.tensor(places)), side_px).x.float() / 255
    return sets
