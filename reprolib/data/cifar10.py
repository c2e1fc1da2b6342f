"""CIFAR-10 from its official files, whose md5 is checked before anything is unpickled. Source: Krizhevsky 2009."""

from __future__ import annotations

import os
import urllib.error
from pathlib import Path

import torch

from reprolib import store
from reprolib.data.images import Images, images
from reprolib.data.official import Official
from reprolib.errors import CorruptFile, MissingData, StorageError

FOLDER = "cifar-10-batches-py"

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


OFFICIAL = Official("cifar10", "CIFAR-10", "cifar10", Path(FOLDER), MD5)
fingerprint, places, find, check = OFFICIAL.fingerprint, OFFICIAL.places, OFFICIAL.find, OFFICIAL.check


def load(split: str, root: str | os.PathLike[str] | None = None) -> Images:
    """The 50,000 training ("train") or 10,000 test ("test") images, (n, 3, 32, 32), in the official order.

    Raises MissingData when no folder is found and CorruptFile when a file is not the official one.
    """
    from torchvision.datasets import CIFAR10  # only here: it takes seconds to import, and most runs need nothing of it

    folder = OFFICIAL.checked(root)
    official = CIFAR10(root=str(folder.parent), train=split == "train", download=False)
    pixels = torch.from_numpy(official.data).permute(0, 3, 1, 2)
    return images(pixels, torch.tensor(official.targets), tuple(official.classes), "cifar10")


def fetch() -> Path:
    """Download CIFAR-10 into `data/cifar10/` by torchvision, unless an intact copy is found; returns its folder.

    Raises MissingData when there is no network, CorruptFile when what came is not the official archive, StorageError when
    it cannot be written.
    """
    from torchvision.datasets import CIFAR10  # only here: it takes seconds to import, and most runs need nothing of it

    if (found := OFFICIAL.intact()) is not None:
        return found
    target = OFFICIAL.own.parent
    archive = target / CIFAR10.filename
    with store.lock(archive):
        try:  # torchvision writes over what is broken there
            CIFAR10(root=str(target), train=True, download=True)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise MissingData(
                f"CIFAR-10 could not be downloaded from {CIFAR10.url} ({error}): fetch it where there is a network and put the "
                f"folder {FOLDER} into {target}; the scales smoke and laptop work without it"
            ) from error
        except RuntimeError as error:
            raise CorruptFile(
                f"{archive} is not the official archive (expected md5 {CIFAR10.tgz_md5}): delete it and fetch again"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot write CIFAR-10 into {target} ({error}): make room there and fetch again") from error
        archive.unlink(missing_ok=True)
    check(OFFICIAL.own)
    return OFFICIAL.own
