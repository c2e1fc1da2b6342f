"""Archives of originals: downloaded over https, gone on with where it stopped, and unpacked by name; nothing half-written looks whole."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reprolib.errors import CorruptFile, MissingData

MOST_BYTES = 4 << 30  # of an archive, packed or unpacked: the largest known is below 1 GB
MOST_FILE_BYTES = 64 << 20  # of one file in it: the largest known has 31 MB

Members = Iterator[tuple[str, int, Callable[[], Any]]]


def download(url: str, file: Path, base: str | None = None) -> Path:
    """The file that `url` offers, as `file`; what an interrupted download left in `<file>.part` is gone on with where the server can.

    base: another place that offers a file of that name (for tests: http is taken on loopback only).
    """
    if file.is_file():
        return file
    url, part = url if base is None else f"{base}/{url.rpartition('/')[2]}", file.with_name(f"{file.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    begin = max(part.stat().st_size - 1, 0) if part.is_file() else 0  # one byte again, since a server has none beyond the end
    request = urllib.request.Request(url, headers={"User-Agent": "reprolib", "Range": f"bytes={begin}-"})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is there is no beginning of what is offered
            part.unlink(missing_ok=True)
        raise
    begin = begin if str(answer.headers["Content-Range"]).startswith(f"bytes {begin}-") else 0
    total = begin + int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
    bar = tqdm(desc=file.name, total=total, initial=begin, unit="B", unit_scale=True, disable=None, leave=False)  # on a terminal only
    with answer, bar:
        if not answer.url.startswith(("https://",) if base is None else ("https://", "http://127.0.0.1:")):
            raise MissingData(f"{answer.url} is not https, so nothing was taken from there: fetch the file by hand and name it with --from")
        with open(part, "r+b" if begin else "wb") as stream:
            stream.seek(begin)
            while content := answer.read(1 << 20):
                bar.update(stream.write(content))
                if stream.tell() > MOST_BYTES:
                    raise CorruptFile(f"{url} sends more than {MOST_BYTES >> 30} GB: it is not the published archive")
            if total is not None and stream.tell() < total:
                raise ConnectionError(f"it ended at {stream.tell()} of {total} bytes")
    return part.replace(file)


def unpack(
    archive: Path, wanted: Mapping[str, str], own: Path, convert: Callable[[str, bytes], bytes], check: Callable[[Path], object]
) -> None:
    """Make the folder `own` of files in an archive, at once and only when all of them are there and `check(folder)` raises nothing.

    wanted: name in the archive, below its one folder, to path below `own`. convert: from a name and its bytes to the bytes to write.
    In a folder that is there already these files are replaced.
    """
    partial = own.with_name(f".{own.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process
    try:
        with contextlib.closing(extracted(archive, wanted)) as files:
            for name, content in tqdm(files, archive.name, len(wanted), unit="file", disable=None, leave=False):
                (partial / wanted[name]).parent.mkdir(parents=True, exist_ok=True)
                (partial / wanted[name]).write_bytes(convert(name, content))
        check(partial)
        shutil.copytree(partial, own, dirs_exist_ok=True) if own.is_dir() else partial.rename(own)
    except CorruptFile as error:
        raise CorruptFile(str(error).replace(str(partial), f"{archive}, unpacked,")) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def extracted(archive: Path, wanted: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
    """Name and bytes of the wanted files of a zip or tar.gz archive, as they come; no other is read, and no name in it becomes a path."""
    left, total = set(wanted), 0
    try:
        for name, size, opener in _zipped(archive) if zipfile.is_zipfile(archive) else _tarred(archive):
            member = name.removeprefix("./").partition("/")[2]
            if member in left:
                total += size
                if size > MOST_FILE_BYTES or total > MOST_BYTES:
                    raise ValueError(f"{name} unpacks to {size} bytes, more than any published file")
                with opener() as file:
                    content = file.read(size)
                yield member, content
                left.remove(member)
            if not left:
                return
    except Exception as error:
        raise CorruptFile(
            f"{archive} is cut off, damaged, or not the published archive ({error or type(error).__name__}): get it again"
        ) from error
    raise CorruptFile(f"{archive} lacks {len(left)} of the {len(wanted)} files wanted, such as {min(left)}: it is another archive")


def _zipped(archive: Path) -> Members:
    """Name, size and opener of every plain file; links and folders are passed over."""
    with zipfile.ZipFile(archive) as packed:
        for one in packed.infolist():
            if stat.S_IFMT(one.external_attr >> 16) in (0, stat.S_IFREG):
                yield one.filename, one.file_size, lambda one=one: packed.open(one)  # type: ignore[misc]


def _tarred(archive: Path) -> Members:
    """See `_zipped`; devices too are passed over."""
    with _Bounded(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        while (found := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # or a million headers stay in memory
            if found.offset_data + found.size > MOST_BYTES:
                raise ValueError("it unpacks to more than any published archive")
            if found.isreg():
                yield found.name, found.size, lambda found=found: tar.extractfile(found)  # type: ignore[misc]


class _Bounded(gzip.GzipFile):
    """A gzip file of which no header, whatever it claims, makes tarfile read more at a time than the largest file."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MOST_FILE_BYTES:
            raise ValueError("a header of it claims to be larger than any published file")
        return super().read(size)
