"""A data set whose files are known: where it is looked for, what is said of it, how it is fetched."""

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
from reprolib.data import fetch
from reprolib.data.images import Images
from reprolib.errors import BadInput, CorruptFile, MissingData, StorageError

Root = str | os.PathLike[str] | None
Channels = tuple[float, ...]


@dataclass(frozen=True)
class Origin:
    """Who publishes a set: the address of an archive (or, ending in /, of a folder of files), its size and licence in words."""

    url: str
    size: str
    licence: str


@dataclass(frozen=True)
class FileSet:
    """What sets of known files have in common.

    name, title: what the set is called in code, and in sentences (resized copies labelled so). folder: its path below a data root.
    purpose: what it is for, in words. scales: those that need it.
    """

    name: str
    title: str
    folder: str
    origin: Origin
    purpose: str
    scales: tuple[str, ...] = ("cifar", "gpu")
    splits: ClassVar[tuple[str, ...]]
    normaliser: ClassVar[tuple[Channels, Channels] | None] = None  # of the training split; None for a set that nothing is trained on
    algorithm: ClassVar[str]
    get: ClassVar[str]  # how to get the files, up to the word "into"

    def checksums(self) -> Mapping[str, str]:
        """Path below the set's folder to its checksum."""
        raise NotImplementedError

    def load(self, split: str, root: Root = None) -> Images:
        """All images of a split. Raises as `existing` and `content` do."""
        raise NotImplementedError

    def how(self) -> str:
        """How to get the set into its place below the first data root, in one line."""
        return f"{self.get.format(name=self.name)} into {self.own()}, or name the folder that holds {self.folder} in REPROLIB_DATA"

    def own(self) -> Path:
        """Its folder below the first data root, where `fetch` puts it."""
        return store.data_roots()[0] / self.folder

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
                f"{self.title[:1].upper()}{self.title[1:]} is not here: {self.how()}; the scales smoke and laptop "
                f"work without it (looked into {', '.join(map(str, store.data_roots(root)))})"
            )
        return found

    def check(self, folder: Path, where: str | None = None) -> str:
        """Whether the files in `folder` are the set's: "exact copies", or how near they are. Raises CorruptFile, which says of `where`."""
        raise NotImplementedError

    def members(self) -> Mapping[str, str]:
        """Name in the published archive, below its one folder, to path below the set's folder."""
        return {path: path for path in self.checksums()}

    def converted(self, name: str, content: bytes) -> bytes:
        """The bytes of a file of the set, from those that are published under `name`."""
        return content

    def download(self, own: Path, base: str | None) -> None:
        """Make the set of what its publisher offers. base: see `fetch.download`."""
        archive = fetch.download(self.origin.url, store.data_roots()[0] / "downloads" / self.origin.url.rpartition("/")[2], base)
        try:
            self.unpack(archive)
        except CorruptFile:
            archive.unlink()  # or the next attempt would end the same
            raise
        print(f"{archive} is no longer needed: delete it, or keep it for other sets", flush=True)

    def unpack(self, archive: Path) -> None:
        """Make the set of its published archive. Raises CorruptFile when that is another, and leaves nothing behind."""
        fetch.unpack(archive, self.members(), self.own(), self.converted, lambda folder: self.check(folder, str(archive)))

    def fetch(self, archive: Root = None, base: str | None = None) -> str:
        """Get the set into its folder below the first data root, unless it is somewhere already; returns what `check` says of it.

        archive: the published archive, where one has it. base: another place that offers it, see `fetch.download`.
        Raises MissingData when there is no network, StorageError when it cannot be written or another process is at it, CorruptFile
        when what came is not the set, and for a broken copy elsewhere: that is the user's to mend.
        """
        own, found = self.own(), self.find()
        if found is not None:
            try:
                return self.check(found)
            except CorruptFile:
                if found != own:
                    raise
        if archive is not None and self.origin.url.endswith("/"):
            raise BadInput(f"{self.title} is published as single files, not as an archive: {self.how()}")
        if archive is not None and not Path(archive).is_file():
            raise MissingData(f"--from {archive}: there is no such file")
        source = f"{self.origin.url}, {self.origin.size}" if archive is None else str(archive)
        print(f"{self.title}: from {source}, into {own}; licence: {self.origin.licence}", flush=True)
        try:
            with store.lock(store.data_roots()[0] / "downloads", timeout_s=0):
                self.download(own, base) if archive is None else self.unpack(Path(archive))
        except TimeoutError as error:
            raise StorageError(f"another process fetches data into {store.data_roots()[0]}: wait until it is done") from error
        return self.check(own)


class Published(FileSet):
    """A set whose publisher offers its files for download; it is also found where `bare`, the end of its folder, lies at a data root."""

    bare: ClassVar[str]
    md5: ClassVar[Mapping[str, str]]
    splits = ("train", "test")
    algorithm = "md5"
    get = "`reprolib data fetch {name}`, or put the official files"
    cure = "delete {folder} and put the official files there again, or run `reprolib data fetch {name}`"

    def checksums(self) -> Mapping[str, str]:
        """The official md5 of every file."""
        return self.md5

    def check(self, folder: Path, where: str | None = None) -> str:
        """See `FileSet.check`. Nothing is opened or unpickled before its checksum was compared."""
        for path, expected in self.md5.items():
            file, cure = folder / path, self.cure.format(name=self.name, folder=folder)
            if not file.is_file():
                raise CorruptFile(f"{file} is missing while its folder is there (expected md5 {expected}): {cure}")
            content = file.read_bytes()
            if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != expected:
                raise CorruptFile(
                    f"{file} has md5 {found}, expected {expected}: it is truncated ({len(content)} bytes) or altered, "
                    f"and was not opened; {cure}"
                )
        return "exact copies"

    def checked(self, root: Root = None) -> Path:
        """The folder that is found, once its files are the official ones. Raises as `existing` and `check` do."""
        folder = self.existing(root)
        self.check(folder)
        return folder

    def places(self, root: Root = None) -> list[Path]:
        """See `FileSet.places`."""
        return [place for base in store.data_roots(root) for own in (self.folder, self.bare) for place in _below(base, own)]

    @contextlib.contextmanager
    def downloading(self, url: str, file: Path, md5: str) -> Iterator[None]:
        """Say what went wrong in a download by torchvision, which raises RuntimeError where the md5 is another."""
        try:
            yield
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise MissingData(
                f"{self.title} could not be downloaded from {url} ({error}): fetch it where there is a network and put "
                f"the official files into {self.own()}; the scales smoke and laptop work without it"
            ) from error
        except RuntimeError as error:
            raise CorruptFile(f"{file} is not the official file (expected md5 {md5}): delete it and fetch again") from error
        except OSError as error:
            raise StorageError(f"cannot write {self.title} to {file} ({error}): make room there and fetch again") from error


def _below(base: Path, folder: str) -> list[Path]:
    """Where a set's folder may lie at a data root: below it, or the root itself, where its path ends in that folder."""
    parts = Path(folder).parts
    return [base / folder, *([base] if base.parts[-len(parts) :] == parts else [])]
