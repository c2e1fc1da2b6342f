"""A data set whose files are known: where it is looked for, what is said of it, how it is fetched."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from reprolib import store
from reprolib.data import archives
from reprolib.data.images import Images
from reprolib.errors import BadInput, CorruptFile, MissingData, ReprolibError, StorageError

Root = str | os.PathLike[str] | None
Channels = tuple[float, ...]


@dataclass(frozen=True)
class FileSet:
    """What sets of known files have in common.

    name, title: what the set is called in code, and in sentences (resized copies labelled so). folder: its path below a data root.
    url: where it is published, an archive or (ending in /) a folder; its size, licence and purpose are in words. scales: those that need it.
    """

    name: str
    title: str
    folder: str
    url: str
    size: str
    licence: str
    purpose: str
    scales: tuple[str, ...] = ("cifar", "gpu")
    splits: ClassVar[tuple[str, ...]]
    normaliser: ClassVar[tuple[Channels, Channels] | None] = None  # of the training split; None for a set that nothing is trained on
    algorithm: ClassVar[str]
    files: ClassVar[str]  # which to put into its folder

    def checksums(self) -> Mapping[str, str]:
        """Path below the set's folder to its checksum."""
        raise NotImplementedError

    def load(self, split: str, root: Root = None) -> Images:
        """All images of a split. Raises as `existing` and `check` do."""
        raise NotImplementedError

    def how(self) -> str:
        """How to get the set into its place below the first data root, in one line."""
        files = self.files.format(name=self.name)
        return f"`reprolib data fetch {self.name}`, or put {files} into {self.own()}, or name the folder that holds {self.folder} in REPROLIB_DATA"

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

    def check(self, folder: Path) -> str:
        """Whether the files in `folder` are the set's: "exact copies", or how near they are. Raises CorruptFile when they are others."""
        raise NotImplementedError

    def unpack(self, archive: Path) -> None:
        """Make the set of its published archive. Raises CorruptFile when that is another, and leaves nothing behind."""
        archives.unpack(archive, {path: path for path in self.checksums()}, self.own(), lambda name, content: content, self.check)

    def download(self, own: Path, base: str | None) -> None:
        """Make the set, in the folder `own`, of what its publisher offers. base: see `archives.download`."""
        archive = archives.download(self.url, store.data_roots()[0] / "downloads" / self.url.rpartition("/")[2], base)
        try:
            self.unpack(archive)
        except CorruptFile:
            archive.unlink()  # or the next attempt would end the same
            raise
        print(f"{archive} is no longer needed: delete it, or keep it for other sets", flush=True)

    def fetch(self, archive: Root = None, base: str | None = None) -> str:
        """Get the set into its folder below the first data root, unless it is somewhere already; returns what `check` says of it.

        archive: the published archive, where one has it. base: see `archives.download`. Raises MissingData without a network, StorageError
        when it cannot be written, CorruptFile when what came is not the set, and for a broken copy elsewhere: that is the user's to mend.
        """
        own, found = self.own(), self.find()
        if found is not None:
            try:
                return self.check(found)
            except CorruptFile:
                if found != own:
                    raise
        if archive is not None and (self.url.endswith("/") or not Path(archive).is_file()):
            raise BadInput(f"--from {archive} is no archive that {self.title} is published as: see {self.url}")
        source = f"{self.url}, {self.size}" if archive is None else archive
        print(f"{self.title}: from {source}, into {own}; licence: {self.licence}", flush=True)
        try:
            with store.lock(store.data_roots()[0] / "downloads", timeout_s=0):
                self.download(own, base) if archive is None else self.unpack(Path(archive))
        except ReprolibError:
            raise
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
            raise MissingData(
                f"{self.title} could not be downloaded from {self.url} ({error}): the same command goes on, or fetch it where there is "
                f"a network and name it with --from, or put the files into {own}; the scales smoke and laptop work without it"
            ) from error
        except RuntimeError as error:  # torchvision's
            raise CorruptFile(f"what came from {self.url} is not the official {self.title} ({error}): fetch it again") from error
        except OSError as error:
            raise StorageError(f"cannot write {self.title} to {own}: {store.cure(error)}; the same command goes on") from error
        return self.check(own)


class Published(FileSet):
    """A set whose publisher offers its files for download; it is also found where `bare`, the end of its folder, lies at a data root."""

    bare: ClassVar[str]
    md5: ClassVar[Mapping[str, str]]
    splits = ("train", "test")
    algorithm = "md5"
    files = "the official files"

    def checksums(self) -> Mapping[str, str]:
        """The official md5 of every file."""
        return self.md5

    def check(self, folder: Path) -> str:
        """See `FileSet.check`. Nothing is opened or unpickled before its checksum was compared."""
        for path, expected in self.md5.items():
            file, cure = folder / path, f"delete {folder} and put the official files there again, or run `reprolib data fetch {self.name}`"
            if not file.is_file():
                raise CorruptFile(f"{file} is missing while its folder is there (expected md5 {expected}): {cure}")
            content = file.read_bytes()
            if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != expected:
                raise CorruptFile(
                    f"{file} has md5 {found}, expected {expected}: it is truncated ({len(content)} bytes) or altered, "
                    f"and was not opened; {cure}"
                )
        return "exact copies"

    def places(self, root: Root = None) -> list[Path]:
        """See `FileSet.places`."""
        return [place for base in store.data_roots(root) for own in (self.folder, self.bare) for place in _below(base, own)]


def _below(base: Path, folder: str) -> list[Path]:
    """Where a set's folder may lie at a data root: below it, or the root itself, where its path ends in that folder."""
    parts = Path(folder).parts
    return [base / folder, *([base] if base.parts[-len(parts) :] == parts else [])]
