"""Sets in which every shape comes with every texture, a class a pair, so that classes are relatives by one cue or by the other.

Hues are uniform, in training too: colour tells nothing. World, rendering and cache are those of `reprolib.data.shapetexture`.
"""

from __future__ import annotations

import dataclasses

from reprolib import store
from reprolib.data import shapetexture
from reprolib.data.images import Images
from reprolib.data.shapetexture import World

VARIANT = "factorial"
NAME, SMALL = "shapetexture_factorial", "shapetexture_factorial_small"

# The world of the training split, and how many training and test images a set has.
SETS: dict[str, tuple[World, dict[str, int]]] = {
    NAME: (World(shapes=("square", "star", "ring"), textures=("grating_45", "checker", "noise")), {"train": 3_000, "test": 900}),
    SMALL: (World(size=20, shapes=("square", "ring"), textures=("grating_45", "noise"), period_px=4.0), {"train": 600, "test": 200}),
}

# Mean and standard deviation per channel over the training split, in units of [0, 1] (a test computes them again).
NORMALISERS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    NAME: ((0.4309, 0.4310, 0.4293), (0.1681, 0.1684, 0.1675)),
    SMALL: ((0.4300, 0.4313, 0.4269), (0.1636, 0.1662, 0.1655)),
}


def world_of(name: str, split: str) -> World:
    """The world that split "train" or "test" of set `name` is rendered from: the splits differ in their seed."""
    return dataclasses.replace(SETS[name][0], seed={"train": 0, "test": 1}[split])


def fingerprint(name: str) -> str:
    """A content key of the generator's version, the worlds and the counts: changes when, and only when, images do."""
    splits = {split: {"n": n, **dataclasses.asdict(world_of(name, split))} for split, n in SETS[name][1].items()}
    return store.content_key({"set": name, "version": shapetexture.VERSION, "variant": VARIANT, "splits": splits})


def load(name: str, split: str) -> Images:
    """Images of set `name` (one of SETS), split "train" or "test", labelled by pair ("square+noise"); rendered once, then cached."""
    return shapetexture.items(world_of(name, split), SETS[name][1][split], VARIANT, name)
