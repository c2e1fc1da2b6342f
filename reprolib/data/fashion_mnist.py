"""Fashion-MNIST (28 px, grey) from its official .gz files, whose md5 is checked. Source: Xiao et al. 2017 (arXiv 1708.07747).

Licence: MIT, copyright 2017 Zalando SE. The files are read packed: the md5s that are known are those of the packed files.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reprolib.data.filesets import Published, Root
from reprolib.data.images import Images, images

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


class _FashionMnist(Published):
    bare, md5, normaliser = "FashionMNIST/raw", MD5, (MEAN, STD)

    def load(self, split: str, root: Root = None) -> Images:
        """The 60,000 training ("train") or 10,000 test ("test") images, (n, 1, 28, 28), in the official order.

        `images.as_rgb` makes them fit networks of three channels.
        """
        from torchvision.datasets import FashionMNIST  # only here: it takes seconds to import, and most runs need nothing of it

        folder, prefix = self.existing(root), {"train": "train", "test": "t10k"}[split]
        self.check(folder)
        pixels = _idx(folder / f"{prefix}-images-idx3-ubyte.gz", n_dimensions=3).view(-1, 1, SIZE_PX, SIZE_PX)
        labels = _idx(folder / f"{prefix}-labels-idx1-ubyte.gz", n_dimensions=1)
        return images(pixels, labels, tuple(FashionMNIST.classes), self.name)

    def download(self, own: Path, base: str | None) -> None:
        """See `FileSet.download`: by torchvision, from its own address."""
        from torchvision.datasets.utils import download_url  # not its class: it hides whether the network failed or the file was another

        for name, md5 in MD5.items():
            download_url(f"{SOURCE}{name}", root=str(own), filename=name, md5=md5)


def _idx(path: Path, n_dimensions: int) -> Tensor:
    """The bytes of an idx file behind its header (a magic number and one size per dimension, 4 bytes each), flat."""
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8)[4 + 4 * n_dimensions :].copy())


FOLDER, TERMS = "fashion-mnist/FashionMNIST/raw", "MIT, copyright 2017 Zalando SE"
FASHION_MNIST = _FashionMnist("fashion_mnist", "Fashion-MNIST", FOLDER, SOURCE, "31 MB", TERMS, "a second set, of another kind")
