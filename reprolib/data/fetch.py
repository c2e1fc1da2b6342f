"""Archives of originals: downloaded over https, gone on with where it stopped, and unpacked by name; nothing half-written looks whole."""

from __future__ import annotations

import gzip
import http.client
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from reprolib import store
from reprolib.errors import CorruptFile, MissingData, ReprolibError, StorageError

MOST_BYTES = 4 << 30  # of an archive, packed or unpacked: the largest known is below 1 GB
MOST_FILE_BYTES = 64 << 20  # of one file in it: the largest known has 31 MB
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def download(url: str, file: Path, base: str | None = None) -> Path:
    """The file that `url` offers, as `file`; what an interrupted download left in `<file>.part` is gone on with where the server can.

    base: another place that offers a file of that name (for tests: http is taken on loopback only).
    Raises MissingData where it cannot be had, CorruptFile where it is too large, StorageError where it cannot be written.
    """
    url, part = url if base is None else f"{base}/{url.rpartition('/')[2]}", file.with_name(f"{file.name}.part")
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            _download(url, part, base is not None)
            part.replace(file)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        kept = f"{part.stat().st_size / 1e6:.0f} MB are kept and the same command goes on" if part.is_file() else "try again later"
        raise MissingData(
            f"{url} could not be downloaded ({error}): {kept}, or fetch it where there is a network and name the file with --from"
        ) from error
    except ReprolibError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {part}: {store.cure(error)}; the same command goes on") from error
    return file


def _download(url: str, part: Path, allows_loopback: bool) -> None:
    begin = (
        max(part.stat().st_size - 1, 0) if part.is_file() else 0
    )  # one byte again: a server has nothing to say of what lies beyond the end
    _check_address(url, allows_loopback)
    request = urllib.request.Request(url, headers={"User-Agent": "reprolib"} | ({"Range": f"bytes={begin}-"} if begin else {}))
    try:
        answer = urllib.request.urlopen(request, timeout=60)
        _check_address(answer.url, allows_loopback)
        if answer.status == 206 and not str(answer.headers["Content-Range"]).startswith(f"bytes {begin}-"):
            raise ConnectionError("another part was sent than was asked for")
    except (urllib.error.HTTPError, ConnectionError) as error:
        if getattr(error, "code", 416) == 416:  # what is there is no beginning of what is offered
            part.unlink(missing_ok=True)
        raise
    begin = begin if answer.status == 206 else 0
    length = answer.headers["Content-Length"]
    total = begin + int(length) if length else None
    with answer, open(part, "r+b" if begin else "wb") as file, progress(part.stem, "B", total, initial=begin, unit_scale=True) as bar:
        file.seek(begin)
        while content := answer.read(1 << 20):
            file.write(content)
            bar.update(len(content))
            if file.tell() > MOST_BYTES:
                raise CorruptFile(f"{url} sends more than {MOST_BYTES >> 30} GB: it is not the published archive")
        file.truncate()
        if total is not None and file.tell() < total:
            raise ConnectionError(f"the connection ended at {file.tell() / 1e6:.0f} of {total / 1e6:.0f} MB")


def unpack(
    archive: Path, wanted: Mapping[str, str], own: Path, convert: Callable[[str, bytes], bytes], check: Callable[[Path], object]
) -> None:
    """Make the folder `own` of files in an archive, at once and only when all of them are there and `check(folder)` raises nothing.

    wanted: name in the archive, below its one folder, to path below `own`. convert: from a name and its bytes to the bytes to write.
    In a folder that is there already these files are replaced one by one.
    """
    partial = own.with_name(f".{own.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process
    try:
        partial.mkdir(parents=True)
        for name, content in progress(f"unpacking {archive.name}", "file", len(wanted), extracted(archive, wanted)):
            (partial / wanted[name]).parent.mkdir(parents=True, exist_ok=True)
            (partial / wanted[name]).write_bytes(convert(name, content))
        check(partial)
        if not own.is_dir():
            partial.rename(own)
        for path in wanted.values() if partial.is_dir() else ():
            (own / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).replace(own / path)
    except ReprolibError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {own}: {store.cure(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def extracted(archive: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the wanted files of a zip or tar archive, as they come; no other is read, and no name in it becomes a path.

    Raises CorruptFile when the archive is cut off or of another kind, lacks a wanted file, or holds it as a link or too large.
    """
    left, total = set(wanted), 0
    try:
        for name, size, read in _members(archive):
            member = name.removeprefix("./").partition("/")[2]
            if member not in left:
                continue
            total += size
            if size > MOST_FILE_BYTES or total > MOST_BYTES:
                raise ValueError(f"{name} unpacks to {size} bytes, more than any published file")
            yield member, read()
            left.remove(member)
            if not left:
                return
    except Exception as error:
        raise CorruptFile(
            f"{archive} is cut off, damaged, or no zip or tar archive as it is published ({error or type(error).__name__}): get it again"
        ) from error
    raise CorruptFile(f"{archive} lacks {len(left)} of the {len(wanted)} files wanted, such as {min(left)}: it is another archive")


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Name, size and reader of every plain file in an archive; links, devices and folders are passed over."""
    with open(archive, "rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic == b"PK\x03\x04":
            with zipfile.ZipFile(raw) as packed:
                for one in packed.infolist():
                    if stat.S_IFMT(one.external_attr >> 16) in (0, stat.S_IFREG):
                        yield one.filename, one.file_size, lambda one=one: packed.read(one)  # type: ignore[misc]
            return
        stream = _Bounded(gzip.GzipFile(fileobj=raw) if magic[:2] == b"\x1f\x8b" else raw)
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            while (found := tar.next()) is not None:
                tar.members.clear()  # or a million headers stay in memory
                if found.isreg():
                    yield found.name, found.size, lambda found=found: tar.extractfile(found).read()  # type: ignore[misc]


class _Bounded:
    """A file of which tarfile reads no more at a time, nor in all, than known archives have: a header may claim any length."""

    def __init__(self, file: Any) -> None:
        self.file, self.tell = file, file.tell

    def read(self, size: int) -> Any:
        return self._bounded(self.file.read, size, size)

    def seek(self, offset: int) -> Any:
        return self._bounded(self.file.seek, offset, 0)

    def _bounded(self, move: Callable[[int], Any], size: int, at_once: int) -> Any:
        if at_once > MOST_FILE_BYTES or max(self.tell(), size) > MOST_BYTES:
            raise ValueError("it unpacks to more than any published archive")
        return move(size)


def progress(what: str, unit: str, total: int | None, of: Any = None, **options: Any) -> Any:
    """A progress bar, on a terminal only."""
    return tqdm(of, desc=what, unit=unit, total=total, disable=None, leave=False, **options)


def _check_address(url: str, allows_loopback: bool) -> None:
    address = urlsplit(url)
    if address.scheme != "https" and not (allows_loopback and address.scheme == "http" and address.hostname in LOOPBACK):
        raise MissingData(f"{url} is not https, so nothing was taken from there: fetch the file by hand and name it with --from")
