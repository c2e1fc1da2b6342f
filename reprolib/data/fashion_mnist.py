"""Fashion-MNIST (28 px, grey) from its official .gz files, whose md5 is checked. Source: Xiao et al. 2017 (arXiv 1708.07747).

Licence: MIT, copyright 2017 Zalando SE. The files are read packed: the md5s that are known are those of the packed files.
"""

from __future__ import annotations

import gzip
import os
import urllib.error
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reprolib import store
from reprolib.data.images import Images, images
from reprolib.data.official import Official
from reprolib.errors import CorruptFile, MissingData, StorageError

FOLDER = Path("FashionMNIST") / "raw"

SOURCE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
"""The authors' repository: torchvision knows a mirror without https only."""

# The md5 that torchvision checks (torchvision.datasets.FashionMNIST).
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}

# Over all training pixels, in units of [0, 1]; one channel (a test computes them again).
MEAN = (0.2860,)
STD = (0.3530,)

SIZE_PX = 28

_PREFIX = {"train": "train", "test": "t10k"}
_DIMENSIONS = {"images": 3, "labels": 1}


OFFICIAL = Official("fashion_mnist", "Fashion-MNIST", "fashion-mnist", FOLDER, MD5)
fingerprint, places, find, check = OFFICIAL.fingerprint, OFFICIAL.places, OFFICIAL.find, OFFICIAL.check


def load(split: str, root: str | os.PathLike[str] | None = None) -> Images:
    """The 60,000 training ("train") or 10,000 test ("test") images, (n, 1, 28, 28), in the official order.

    `images.as_rgb` makes them fit networks of three channels. Raises MissingData when no folder is found and CorruptFile
    when a file is not the official one.
    """
    from torchvision.datasets import FashionMNIST  # only here: it takes seconds to import, and most runs need nothing of it

    folder = OFFICIAL.checked(root)
    pixels = _read(folder, split, "images").view(-1, 1, SIZE_PX, SIZE_PX)
    return images(pixels, _read(folder, split, "labels"), tuple(FashionMNIST.classes), "fashion_mnist")


def fetch() -> Path:
    """Download Fashion-MNIST into `data/fashion-mnist/` from its authors over https, unless an intact copy is found; returns its folder.

    Raises MissingData when there is no network, CorruptFile when what came is not an official file, StorageError when it
    cannot be written.
    """
    from torchvision.datasets.utils import download_url

    if (found := OFFICIAL.intact()) is not None:
        return found
    own = OFFICIAL.own
    for name, md5 in MD5.items():
        url = f"{SOURCE}{name}"
        try:
            with store.lock(own):
                # Not by torchvision's class: it hides whether the network failed or the file was another.
                download_url(url, root=str(own), filename=name, md5=md5)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise MissingData(
                f"Fashion-MNIST could not be downloaded from {url} ({error}): fetch its four .gz files where there is a network "
                f"and put them into {own}; the scales smoke and laptop work without it"
            ) from error
        except RuntimeError as error:
            raise CorruptFile(f"{own / name} is not the official file (expected md5 {md5}): delete it and fetch again") from error
        except OSError as error:
            raise StorageError(f"cannot write Fashion-MNIST into {own} ({error}): make room there and fetch again") from error
    check(own)
    return own


def _read(folder: Path, split: str, what: str) -> Tensor:
    """The bytes of an idx file behind its header (a magic number and one size per dimension, 4 bytes each), flat."""
    dimensions = _DIMENSIONS[what]
    with gzip.open(folder / f"{_PREFIX[split]}-{what}-idx{dimensions}-ubyte.gz") as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8)[4 + 4 * dimensions :].copy())
