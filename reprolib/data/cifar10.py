"""CIFAR-10 from its official files, whose md5 is checked before anything is unpickled. Source: Krizhevsky 2009."""

from __future__ import annotations

import hashlib
import os
import urllib.error
from pathlib import Path

import torch

from reprolib import store
from reprolib.data.images import Images, images
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


def fingerprint() -> str:
    """A content key over the official md5s: known without reading the files, which are refused when they differ."""
    return store.content_key({"set": "cifar10", "md5": MD5})


def places(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """The folders that are looked into, in order: below `root` when given, then below `$REPROLIB_DATA` and `data/`."""
    roots = ([Path(root)] if root is not None else []) + store.data_roots()
    return [place for base in roots for place in (base / "cifar10" / FOLDER, base / FOLDER)]


def find(root: str | os.PathLike[str] | None = None) -> Path | None:
    """The first of `places` that exists (its files are not checked), or None."""
    return next((place for place in places(root) if place.is_dir()), None)


def check(folder: Path) -> None:
    """Raise CorruptFile unless `folder` holds every official file with the official md5. Nothing is unpickled."""
    for name, expected in MD5.items():
        path = folder / name
        cure = f"delete {folder} and put the official folder there again, or run `reprolib data fetch cifar10`"
        if not path.is_file():
            raise CorruptFile(f"{path} is missing while its folder is there (expected md5 {expected}): {cure}")
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != expected:
            raise CorruptFile(
                f"{path} has md5 {found}, expected {expected}: it is truncated ({path.stat().st_size} bytes) or altered, "
                f"and was not opened; {cure}"
            )


def load(split: str, root: str | os.PathLike[str] | None = None) -> Images:
    """The 50,000 training ("train") or 10,000 test ("test") images, (n, 3, 32, 32), in the official order.

    Raises MissingData when no folder is found and CorruptFile when a file is not the official one.
    """
    from torchvision.datasets import CIFAR10  # only here: it takes seconds to import, and most runs need nothing of it

    folder = find(root)
    if folder is None:
        raise MissingData(
            f"CIFAR-10 is not here: put its folder {FOLDER} into {store.root() / 'data' / 'cifar10'}, or name the place that "
            "holds it in REPROLIB_DATA, or run `reprolib data fetch cifar10`; the scales smoke and laptop work without it"
        )
    check(folder)
    official = CIFAR10(root=str(folder.parent), train=split == "train", download=False)
    pixels = torch.from_numpy(official.data).permute(0, 3, 1, 2)
    return images(pixels, torch.tensor(official.targets), tuple(official.classes), "cifar10")


def fetch() -> Path:
    """Download CIFAR-10 into `data/cifar10/` by torchvision, unless an intact copy is found; returns its folder.

    Raises MissingData when there is no network, CorruptFile when what came is not the official archive, StorageError when
    it cannot be written.
    """
    from torchvision.datasets import CIFAR10  # only here: it takes seconds to import, and most runs need nothing of it

    found = find()
    if found is not None:
        try:
            check(found)
            return found
        except CorruptFile:
            # torchvision writes over what is broken in our own folder; a broken copy elsewhere is the user's to mend.
            if found.parent != store.root() / "data" / "cifar10":
                raise
    target = store.root() / "data" / "cifar10"
    archive = target / CIFAR10.filename
    with store.lock(archive):
        try:
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
    check(target / FOLDER)
    return target / FOLDER
