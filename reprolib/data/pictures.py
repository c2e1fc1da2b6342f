"""Images of the reader's own, or of a data set, as one tensor in [0, 1]: a tensor, a folder of pictures, a name."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from reprolib.boundary import check_count, checked_images
from reprolib.data import registry
from reprolib.errors import BadInput, CorruptFile, MissingData, nearest

Pictures = Tensor | str | PathLike[str]
"""Images (n, c, h, w) in [0, 1], a folder of pictures, or the name of a data set, whose test images are meant."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def pictures(images: Pictures, n: int | None = None, size_px: int | None = None, n_of_many: int = 256) -> tuple[Tensor, Tensor | None]:
    """Images (n, c, h, w) in [0, 1], and the labels where a data set is named.

    n: of a folder or a data set so many are drawn, always the same (absent: n_of_many); of a tensor the first n. size_px: to which the shorter
    side is resized (bilinear, antialiased), and the centre cropped; absent: 224 for a folder, else as they are.
    Raises MissingData for a folder or set that is not there, CorruptFile for a picture that cannot be read, BadInput for other images.
    """
    if n is not None:
        check_count(n, "n")
    if isinstance(images, Tensor):
        return _fitted(checked_images(images[:n]), size_px), None
    if isinstance(images, str) and images in registry.NAMES:
        whole = registry.load(images, "test")
        chosen = _drawn(len(whole), n or n_of_many)
        return _fitted(whole.x[chosen].float() / 255, size_px), whole.y[chosen]
    if not isinstance(images, (str, PathLike)):
        raise BadInput(
            f"images are a {type(images).__name__}: give a tensor (n, c, h, w) in [0, 1], a folder, or one of {', '.join(registry.NAMES)}"
        )
    folder = Path(fspath(images)).expanduser()
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if not files:
        why = (
            "holds no pictures"
            if folder.is_dir()
            else f"is no folder, and no data set ({', '.join(registry.NAMES)}){nearest(str(images), registry.NAMES)}"
        )
        raise MissingData(f"images={fspath(images)!r} {why}: name a folder with {', '.join(SUFFIXES)} files")
    return torch.cat([_fitted(picture(files[k]), size_px or 224) for k in _drawn(len(files), n or n_of_many)]), None


def _drawn(there: int, n: int) -> list[int]:
    """n of the numbers below `there`, drawn without replacement and always the same, in order: a folder may be sorted by class."""
    return sorted(torch.randperm(there, generator=torch.Generator().manual_seed(0))[:n].tolist())


def picture(path: Path) -> Tensor:
    """A picture file, upright, as (1, 3, h, w) in [0, 1]. Raises CorruptFile where it cannot be read, BadInput for more than 8 bits."""
    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                raise BadInput(f"{path} has pixels of more than 8 bits (mode {opened.mode}): convert it to 8-bit RGB")
            upright = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptFile(f"{path} cannot be read as a picture ({error}): mend it, or take it away") from error
    return torch.from_numpy(upright).permute(2, 0, 1)[None].float() / 255


def _fitted(x: Tensor, size_px: int | None) -> Tensor:
    """Images whose shorter side is resized to size_px, and whose centre is cropped."""
    height, width = x.shape[2:]
    if size_px is None or (height, width) == (size_px, size_px):
        return x
    if size_px < 1:
        raise BadInput(f"size_px={size_px}: images are at least 1 pixel wide")
    sides = [max(size_px, round(side * size_px / min(height, width))) for side in (height, width)]
    resized = F.interpolate(x, sides, mode="bilinear", antialias=True).clamp(0, 1)
    top, left = ((side - size_px) // 2 for side in sides)
    return resized[:, :, top : top + size_px, left : left + size_px]
