"""The original cue-conflict stimuli: the shape of one category in the texture of another. Source: Geirhos et al. 2019 (ICLR).

1,280 stimuli (80 a shape category, 80 a texture category), and beside them 160 edge images and 160 filled silhouettes, 10
a category. The stimuli here are RESIZED COPIES (224 px PNG to 96 px JPEG); edges and silhouettes are the originals. Shrink
them by `images.shrink`: 96 = 3 x 32, 224 = 7 x 32. Licence: CC BY 4.0, ATTRIBUTION belongs under what shows them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from reprolib.data.filesets import Root
from reprolib.data.folders import FolderSet
from reprolib.data.images import Images, pick
from reprolib.errors import BadInput, nearest

ATTRIBUTION = (
    "Cue-conflict stimuli, edges and silhouettes: Geirhos et al., ImageNet-trained CNNs are biased towards texture (ICLR 2019), "
    "github.com/rgeirhos/texture-vs-shape, CC BY 4.0; resized"
)

CATEGORIES = (
    *("airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat"),
    *("chair", "clock", "dog", "elephant", "keyboard", "knife", "oven", "truck"),
)

# The categories that CIFAR-10 has too, under its name for them; a boat is nearest to a ship.
IN_CIFAR10 = {
    "airplane": "airplane",
    "bird": "bird",
    "boat": "ship",
    "car": "automobile",
    "cat": "cat",
    "dog": "dog",
    "truck": "truck",
}


ARCHIVE = "https://github.com/rgeirhos/texture-vs-shape/archive/ccd0c01d42c0a8a834e90ec141e7f24fa915dc23.zip"


def _set(name: str, title: str, folder: str, published: str, quality: int | None = None) -> FolderSet:
    terms, purpose = "CC BY 4.0; cite Geirhos et al. 2019", "shape against texture, or without it"
    return FolderSet(
        name, title, f"cue-conflict/{folder}", ARCHIVE, "some 200 MB (not announced)", terms, purpose, ("cifar", "gpu", "imagenet"),
        {category: category for category in CATEGORIES}, published=f"stimuli/{published}/{{folder}}/{{stem}}.png", quality=quality,
    )  # fmt: skip


_ALSO = "that belongs to the cue-conflict stimuli"
STIMULI = _set("cue_conflict", "the cue-conflict set (1,280 stimuli, resized to 96 px)", "images_96", "style-transfer-preprocessed-512", 95)
EDGES = _set("edges", f"the set of edge images (160 at 224 px) {_ALSO}", "edges_224", "edges")
SILHOUETTES = _set("silhouettes", f"the set of filled silhouettes (160 at 224 px) {_ALSO}", "filled-silhouettes_224", "filled-silhouettes")


@dataclass(frozen=True)
class Stimuli:
    """Cue-conflict images with both their categories.

    images: (n, 3, h, w), labelled by shape. texture: n category names, each one of CATEGORIES.
    """

    images: Images
    texture: tuple[str, ...]

    @property
    def shape(self) -> tuple[str, ...]:
        """The category of each shape, as `texture`."""
        return tuple(self.images.classes[y] for y in self.images.y)

    def __len__(self) -> int:
        return len(self.images)


def load(root: Root = None) -> Stimuli:
    """All 1,280 stimuli, (n, 3, 96, 96), in the order of their shape categories, then of their file names.

    80 of them have one category for both cues; `conflicts` leaves these out. Raises MissingData and CorruptFile as
    `FolderSet.load` does.
    """
    stems = [path.rpartition("-")[2].partition(".")[0] for path in STIMULI.checksums()]  # of "cat/cat10-oven2.jpg" "oven2"
    return Stimuli(STIMULI.load(root=root), tuple(stem.rstrip("0123456789") for stem in stems))


def conflicts(stimuli: Stimuli, categories: Collection[str] = CATEGORIES) -> Stimuli:
    """The stimuli whose two cues differ and are both among `categories`: 1,200 of all, 210 of those IN_CIFAR10.

    Raises BadInput for a category that is none of CATEGORIES.
    """
    _check(categories)
    pairs = enumerate(zip(stimuli.shape, stimuli.texture, strict=True))
    kept = [i for i, (shape, texture) in pairs if shape != texture and shape in categories and texture in categories]
    return Stimuli(pick(stimuli.images, torch.tensor(kept, dtype=torch.int64)), tuple(stimuli.texture[i] for i in kept))


def of(source: Images, categories: Collection[str]) -> Images:
    """The images of `source` ("edges", "silhouettes") whose label is among `categories`; labels keep their meaning.

    Raises BadInput for a category that is none of CATEGORIES.
    """
    _check(categories)
    wanted = torch.tensor([name in categories for name in source.classes])
    return pick(source, wanted[source.y].nonzero().flatten())


def _check(categories: Collection[str]) -> None:
    for category in categories:
        if category not in CATEGORIES:
            raise BadInput(f"category {category!r} is unknown, allowed are {', '.join(CATEGORIES)}{nearest(category, CATEGORIES)}")
