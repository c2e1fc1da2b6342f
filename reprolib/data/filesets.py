"""A data set whose files are known by their checksums: where it is looked for, what is said of it, how it is fetched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.error
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from reprolib import store
from reprolib.data.images import Images
from reprolib.errors import CorruptFile, MissingData, StorageError

Root = str | os.PathLike[str] | None
Channels = tuple[float, ...]


@dataclass(frozen=True)
class FileSet:
    """What sets of known files have in common; nothing is opened, decoded or unpickled before its checksum was compared.

    name, title: what the set is called in code, and in sentences (resized copies labelled so). folder: its path below a data root.
    scales: those that need it.
    """

    name: str
    title: str
    folder: str
    scales: tuple[str, ...] = ("cifar", "gpu")
    splits: ClassVar[tuple[str, ...]]
    normaliser: ClassVar[tuple[Channels, Channels] | None] = None  # of the training split; None for a set that nothing is trained on
    is_fetchable: ClassVar[bool] = False
    algorithm: ClassVar[str]
    get: ClassVar[str]  # how to get the files, up to the word "into"
    cure: ClassVar[str]  # what to do about a broken file

    def checksums(self) -> Mapping[str, str]:
        """Path below the set's folder to its checksum."""
        raise NotImplementedError

    def load(self, split: str, root: Root = None) -> Images:
        """All images of a split. Raises as `existing` and `content` do."""
        raise NotImplementedError

    def how(self, base: str | os.PathLike[str] = "data") -> str:
        """How to get the set into its place below `base`, in one line."""
        get = self.get.format(name=self.name)
        return f"{get} into {os.path.join(base, self.folder)}, or name the folder that holds {self.folder} in REPROLIB_DATA"

    def fingerprint(self) -> str:
        """A content key over the known checksums: known without reading the files, which are refused when they differ."""
        return store.content_key({"set": self.name, self.algorithm: dict(self.checksums())})

    def places(self, root: Root = None) -> list[Path]:
        """The folders that are looked into, in order: below `root` when given, then below `$REPROLIB_DATA` and `data/`.

        A root that is the set's own folder is taken for it.
        """
        return [place for base in store.data_roots(root) for place in _below(base, self.folder)]

    def find(self, root: Root = None) -> Path | None:
        """The first of `places` that exists (its files are not checked), or None."""
        return next((place for place in self.places(root) if place.is_dir()), None)

    def existing(self, root: Root = None) -> Path:
        """The folder that is found. Raises MissingData, which says what is not here, where to put it, and which scales work without it."""
        if (found := self.find(root)) is None:
            raise MissingData(
                f"{self.title[:1].upper()}{self.title[1:]} is not here: {self.how(store.root() / 'data')}; the scales smoke and laptop "
                f"work without it (looked into {', '.join(map(str, store.data_roots(root)))})"
            )
        return found

    def content(self, file: Path, expected: str) -> bytes:
        """The bytes of one file of the set. Raises CorruptFile unless it is there and has the expected checksum."""
        cure = self.cure.format(name=self.name, folder=file.parent)
        if not file.is_file():
            raise CorruptFile(f"{file} is missing while its folder is there (expected {self.algorithm} {expected}): {cure}")
        content = file.read_bytes()
        found = hashlib.new(self.algorithm, content, usedforsecurity=False).hexdigest()
        if found != expected:
            raise CorruptFile(
                f"{file} has {self.algorithm} {found}, expected {expected}: it is truncated ({len(content)} bytes) or altered, "
                f"and was not opened; {cure}"
            )
        return content

    def check(self, folder: Path) -> Path:
        """The folder, once every file in it is the known one. Raises as `content` does."""
        for path, checksum in self.checksums().items():
            self.content(folder / path, checksum)
        return folder

    def fetch(self) -> Path:
        """The set's folder, its files checked; nobody offers exactly these files for download. Raises as `existing` and `content` do."""
        return self.check(self.existing())


class Published(FileSet):
    """A set whose publisher offers its files for download; it is also found where `bare`, the end of its folder, lies at a data root."""

    bare: ClassVar[str]
    md5: ClassVar[Mapping[str, str]]
    splits = ("train", "test")
    is_fetchable = True
    algorithm = "md5"
    get = "`reprolib data fetch {name}`, or put the official files"
    cure = "delete {folder} and put the official files there again, or run `reprolib data fetch {name}`"

    def checksums(self) -> Mapping[str, str]:
        """The official md5 of every file."""
        return self.md5

    def places(self, root: Root = None) -> list[Path]:
        """See `FileSet.places`."""
        return [place for base in store.data_roots(root) for own in (self.folder, self.bare) for place in _below(base, own)]

    def download(self, own: Path) -> None:
        """Write the official files into the folder `own`, over what is broken there."""
        raise NotImplementedError

    def fetch(self) -> Path:
        """Download the set into its folder below `data/`, unless an intact copy is found; returns the folder.

        Raises MissingData when there is no network, StorageError when it cannot be written, CorruptFile when what came is not
        official, and for a broken copy elsewhere: that is the user's to mend.
        """
        own, found = store.root() / "data" / self.folder, self.find()
        if found is not None:
            try:
                return self.check(found)
            except CorruptFile:
                if found != own:
                    raise
        with store.lock(own):
            self.download(own)
        return self.check(own)

    @contextlib.contextmanager
    def downloading(self, url: str, file: Path, md5: str) -> Iterator[None]:
        """Say what went wrong in a download by torchvision, which raises RuntimeError where the md5 is another."""
        try:
            yield
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise MissingData(
                f"{self.title} could not be downloaded from {url} ({error}): fetch it where there is a network and put "
                f"the official files into {store.root() / 'data' / self.folder}; the scales smoke and laptop work without it"
            ) from error
        except RuntimeError as error:
            raise CorruptFile(f"{file} is not the official file (expected md5 {md5}): delete it and fetch again") from error
        except OSError as error:
            raise StorageError(f"cannot write {self.title} to {file} ({error}): make room there and fetch again") from error


def _below(base: Path, folder: str) -> list[Path]:
    """Where a set's folder may lie at a data root: below it, or the root itself, where its path ends in that folder."""
    parts = Path(folder).parts
    return [base / folder, *([base] if base.parts[-len(parts) :] == parts else [])]
