"""A data set as it was published: its official files, where they are looked for, and the md5 of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reprolib import store
from reprolib.errors import CorruptFile, MissingData


@dataclass(frozen=True)
class Official:
    """key, title: what the set is called in code and in messages. within / folder: where its files lie below a root, or folder alone.

    md5: of every file; nothing is unpacked or unpickled before it was checked.
    """

    key: str
    title: str
    within: str
    folder: Path
    md5: Mapping[str, str]

    @property
    def own(self) -> Path:
        """The folder below `data/` that `reprolib data fetch` writes."""
        return store.root() / "data" / self.within / self.folder

    def fingerprint(self) -> str:
        """A content key over the official md5s: known without reading the files, which are refused when they differ."""
        return store.content_key({"set": self.key, "md5": dict(self.md5)})

    def places(self, root: str | os.PathLike[str] | None = None) -> list[Path]:
        """The folders that are looked into, in order: below `root` when given, then below `$REPROLIB_DATA` and `data/`."""
        return [place for base in store.data_roots(root) for place in (base / self.within / self.folder, base / self.folder)]

    def find(self, root: str | os.PathLike[str] | None = None) -> Path | None:
        """The first of `places` that exists (its files are not checked), or None."""
        return next((place for place in self.places(root) if place.is_dir()), None)

    def check(self, folder: Path) -> None:
        """Raise CorruptFile unless `folder` holds every official file with the official md5."""
        cure = f"delete {folder} and put the official files there again, or run `reprolib data fetch {self.key}`"
        for name, expected in self.md5.items():
            path = folder / name
            if not path.is_file():
                raise CorruptFile(f"{path} is missing while its folder is there (expected md5 {expected}): {cure}")
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if found != expected:
                raise CorruptFile(
                    f"{path} has md5 {found}, expected {expected}: it is truncated ({path.stat().st_size} bytes) or altered, "
                    f"and was not opened; {cure}"
                )

    def checked(self, root: str | os.PathLike[str] | None = None) -> Path:
        """The folder, its files checked. Raises MissingData when there is none, CorruptFile as `check` does."""
        folder = self.find(root)
        if folder is None:
            raise MissingData(
                f"{self.title} is not here: put its folder {self.folder} into {store.root() / 'data' / self.within}, or name the place "
                f"that holds it in REPROLIB_DATA, or run `reprolib data fetch {self.key}`; the scales smoke and laptop work without it "
                f"(looked into {', '.join(map(str, store.data_roots(root)))})"
            )
        self.check(folder)
        return folder

    def intact(self) -> Path | None:
        """A folder that need not be fetched; None where there is none, or where `own` is broken and may be written over.

        Raises CorruptFile for a broken copy elsewhere: that is the user's to mend.
        """
        found = self.find()
        if found is None:
            return None
        try:
            self.check(found)
        except CorruptFile:
            if found != self.own:
                raise
            return None
        return found
