"""Sets of image files in class folders, recognised by their names and, where a file is not a known copy, by its pixels.

Two sets of natural images that no network here was trained on: 1,000 validation images of 20 classes of Tiny ImageNet
(none a CIFAR-10 class; made for Stanford CS231N from ImageNet, whose terms allow non-commercial research and education)
and 400 images of 10 classes of the Describable Textures Dataset (Cimpoi et al. 2014; made available for research).
BOTH ARE RESIZED COPIES: Tiny ImageNet's 64 px files are shrunk here to 32 px; the textures are centre-cropped and
resized to 96 px JPEG and are shrunk here to 32 px. They are for asking about other images, not for benchmark numbers.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from reprolib import store
from reprolib.data import archives
from reprolib.data.filesets import FileSet, Root
from reprolib.data.images import Images, images, shrink
from reprolib.errors import CorruptFile

CHECKSUMS = Path(__file__).parent / "checksums"
TOLERANCE = 5  # levels of 255: other decoders, filters and qualities make 1 to 3, another picture of a class typically 20
MOST_PIXELS = 1 << 24  # of an original: the largest known has about one million


@dataclass(frozen=True)
class FolderSet(FileSet):
    """A set of image files to look at, not to train on.

    classes: folder name to class name, in the order of labels. size_px: to which its square images are shrunk by area (None: as they are).
    published: a file's name in the archive, from its {folder} and {stem}. quality: of the JPEG copies that are made of the originals'
    centre squares, as large as the known copies (None: files as published).
    """

    classes: Mapping[str, str] = field(default_factory=dict)
    size_px: int | None = None
    published: str = ""
    quality: int | None = None
    splits = ("test",)
    algorithm = "sha256"
    files = "the files that reprolib/data/checksums/{name}.sha256 lists"

    def checksums(self) -> dict[str, str]:
        """Path below the set's folder to sha256, in the order of the images, by class folder, then by name: what `sha256sum -c` reads."""
        lines = (CHECKSUMS / f"{self.name}.sha256").read_text(encoding="utf-8").splitlines()
        return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}

    def fingerprint(self) -> str:
        """See `FileSet.fingerprint`; the size counts too."""
        return store.content_key({"set": self.name, "sha256": self.checksums(), "size_px": self.size_px, "resize": "area"})

    def known(self) -> tuple[int, npt.NDArray[np.uint8]]:
        """The width (and height) of the files in px, and `numbers` of each, rounded, in the order of `checksums`."""
        written = json.loads((CHECKSUMS / f"{self.name}.json").read_text(encoding="utf-8"))
        return written["side_px"], np.frombuffer(base64.b64decode(written["numbers"]), np.uint8).reshape(-1, 17)

    def load(self, split: str = "test", root: Root = None) -> Images:
        """All images of the set, (n, 3, size, size), in the order of `checksums`, labelled by their folder; other files are ignored.

        Images that are not the known copies, but recognised by `TOLERANCE`, say so in their name: `<name>_recognised`.
        """
        pixels, far = self._read(self.existing(root))
        folders = list(self.classes)
        labels = torch.tensor([folders.index(path.split("/")[0]) for path in self.checksums()])
        whole = images(pixels, labels, tuple(self.classes.values()), f"{self.name}_recognised" if far else self.name)
        return whole if self.size_px is None else shrink(whole, self.size_px)

    def check(self, folder: Path) -> str:
        """See `FileSet.check`."""
        _, far = self._read(folder)
        others = f"recognised: {len(far)} of {len(self.checksums())} files are other copies, by at most {max(far.values(), default=0):.1f}"
        return f"{others} of 255 levels" if far else "exact copies"

    def members(self) -> dict[str, str]:
        """Name in the published archive, below its one folder, to path below the set's folder."""
        paths = {path: PurePosixPath(path) for path in self.checksums()}
        return {self.published.format(folder=one.parent, stem=one.stem): path for path, one in paths.items()}

    def unpack(self, archive: Path) -> None:
        """See `FileSet.unpack`."""
        archives.unpack(archive, self.members(), self.own(), self._copy, self.check)

    def _copy(self, name: str, content: bytes) -> bytes:
        """A copy by the recipe by which the known ones were made, of the file published under `name`."""
        if self.quality is None:
            return content
        original, side_px, made = picture(content, name), self.known()[0], io.BytesIO()
        side = min(original.size)
        left, top = (original.width - side) // 2, (original.height - side) // 2
        square = original.crop((left, top, left + side, top + side)).resize((side_px, side_px), Image.Resampling.LANCZOS)
        square.save(made, "JPEG", quality=self.quality, subsampling=0, optimize=True)
        return made.getvalue()

    def _read(self, folder: Path) -> tuple[Tensor, dict[str, float]]:
        """Pixels (n, 3, side, side) of all files; and of those that are not the known copies, how far their numbers are from the known."""
        listed, (side_px, known), cure = self.checksums(), self.known(), f"move it away and run `reprolib data fetch {self.name}`"
        if missing := [path for path in listed if not (folder / path).is_file()]:
            raise CorruptFile(f"{folder} lacks {len(missing)} of the {len(listed)} files of {self.name}, such as {missing[0]}: {cure}")
        pixels, far = torch.empty(len(listed), 3, side_px, side_px, dtype=torch.uint8), {}
        for i, (path, digest) in enumerate(listed.items()):
            content = (folder / path).read_bytes()
            x = np.array(picture(content, str(folder / path)))
            if x.shape != (side_px, side_px, 3):
                raise CorruptFile(f"{folder / path} has {x.shape[1]} x {x.shape[0]} px, not {side_px} x {side_px}: {cure}")
            pixels[i] = torch.from_numpy(x).permute(2, 0, 1)
            if hashlib.sha256(content).hexdigest() != digest:
                far[path] = float(np.abs(numbers(x) - known[i]).max())
        if others := [path for path, distance in far.items() if distance > TOLERANCE]:
            worst = max(others, key=far.__getitem__)
            raise CorruptFile(
                f"{folder}: {len(others)} of {len(listed)} files are not the pictures of {self.name}, the worst, {worst}, by "
                f"{far[worst]:.1f} of 255 levels of grey where {TOLERANCE} are allowed: {cure}"
            )
        return pixels, far


def numbers(x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The 17 numbers that an image (side, side, 3) is recognised by: the grey of 4 x 4 cells, and the deviation over up to 32 x 32."""
    grey = x @ np.array([0.299, 0.587, 0.114])
    coarse, fine = (grey.reshape(n, len(grey) // n, n, -1).mean(axis=(1, 3)) for n in (4, min(32, len(grey))))
    return np.append(coarse, fine.std())


def picture(content: bytes, name: str) -> Image.Image:
    """A JPEG or PNG file decoded as RGB. Raises CorruptFile, which begins with `name`, for anything else and for one of absurd size."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of its size
            opened = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(f"it claims {opened.width} x {opened.height} px")
        return opened.convert("RGB")
    except Exception as error:
        raise CorruptFile(f"{name} cannot be read as a picture ({error}): it is damaged or another file; get it again") from error


TINY_IMAGENET_20 = FolderSet(
    name="tiny_imagenet_20",
    title="Tiny ImageNet (1,000 validation images of 20 classes, resized to 32 px)",
    folder="tiny-imagenet-20/val",
    url="https://cs231n.stanford.edu/tiny-imagenet-200.zip",
    size="about 250 MB",
    licence="ImageNet's terms: non-commercial research",
    purpose="natural images of other classes",
    published="val/images/{stem}.JPEG",
    size_px=32,
    classes={
        "n01443537": "goldfish",
        "n01770393": "scorpion",
        "n01882714": "koala",
        "n01910747": "jellyfish",
        "n01917289": "brain coral",
        "n01944390": "snail",
        "n01983481": "American lobster",
        "n02279972": "monarch",
        "n02769748": "backpack",
        "n02823428": "beer bottle",
        "n04254777": "sock",
        "n04398044": "teapot",
        "n04399382": "teddy",
        "n04507155": "umbrella",
        "n07695742": "pretzel",
        "n07734744": "mushroom",
        "n07747607": "orange",
        "n07753592": "banana",
        "n07873807": "pizza",
        "n07920052": "espresso",
    },
)

_TEXTURES = (
    *("banded", "blotchy", "braided", "bubbly", "bumpy"),
    *("chequered", "cobwebbed", "cracked", "crosshatched", "crystalline"),
)
TEXTURES = FolderSet(
    name="textures",
    title="the set of describable textures (400 images of 10 classes, resized to 32 px)",
    folder="dtd-subset-96",
    url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
    size="about 630 MB",
    licence="available for research purposes",
    purpose="images that have a texture and no shape",
    published="images/{folder}/{stem}.jpg",
    quality=92,
    size_px=32,
    classes={name: name for name in _TEXTURES},
)
