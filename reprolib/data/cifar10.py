"""CIFAR-10 from its official files, whose md5 is checked before anything is unpickled. Source: Krizhevsky 2009."""

from __future__ import annotations

from pathlib import Path

import torch

from reprolib.data.filesets import Published, Root
from reprolib.data.images import Images, images

# The md5 that torchvision checks (torchvision.datasets.CIFAR10); the folder holds Python pickles, so only these may be read.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}

# Mean as in MadryLab/robustness, standard deviation as in shashankkotyan/RepresentationMetrics (over all training pixels).
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


class _Cifar10(Published):
    bare, md5, normaliser = "cifar-10-batches-py", MD5, (MEAN, STD)

    def load(self, split: str, root: Root = None) -> Images:
        """The 50,000 training ("train") or 10,000 test ("test") images, (n, 3, 32, 32), in the official order."""
        from torchvision.datasets import CIFAR10  # only here: it takes seconds to import, and most runs need nothing of it

        self.check(folder := self.existing(root))
        official = CIFAR10(root=str(folder.parent), train=split == "train", download=False)
        pixels = torch.from_numpy(official.data).permute(0, 3, 1, 2)
        return images(pixels, torch.tensor(official.targets), tuple(official.classes), self.name)

    def download(self, own: Path, base: str | None) -> None:
        """See `FileSet.download`: by torchvision, from its own address."""
        from torchvision.datasets import CIFAR10  # only here, as above

        archive = own.parent / CIFAR10.filename
        CIFAR10(root=str(own.parent), train=True, download=True)
        archive.unlink(missing_ok=True)


URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
TERMS = "none stated; cite Krizhevsky 2009"
CIFAR10 = _Cifar10("cifar10", "CIFAR-10", "cifar10/cifar-10-batches-py", URL, "170 MB", TERMS, "to train networks on and ask them about")
