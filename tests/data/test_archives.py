"""Sets are made of archives as they are published, from a server or a file; cut-off, wrong and hostile ones leave nothing behind."""

import contextlib
import http.server
import io
import os
import re
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprolib import data
from reprolib.data import cue_conflict, folders

EDGES, SILHOUETTES, STIMULI, TEXTURES, TINY = SETS = (
    cue_conflict.EDGES,
    cue_conflict.SILHOUETTES,
    cue_conflict.STIMULI,
    folders.TEXTURES,
    folders.TINY_IMAGENET_20,
)
TOP = {"zip": "texture-vs-shape-ccd0c01d42c0a8a834e90ec141e7f24fa915dc23", "gz": "dtd"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file, by ranges; notes what was asked for; breaks off after `stops_after` bytes, redirects to `moved`."""

    content, asked, stops_after, moved, has_ranges = b"", [], None, None, True

    def do_GET(self):
        begin = int((re.match(r"bytes=(\d+)-$", self.headers.get("Range", "")) or [0, 0])[1]) if self.has_ranges else 0
        self.asked.append((self.path, begin))
        if self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved)
            return self.end_headers()
        if begin >= len(self.content):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.content[begin : self.stops_after])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A handler class of its own, and the address it answers at."""
    monkeypatch.setenv("no_proxy", "*")
    own = type("Own", (Handler,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), own) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        own.address = f"http://127.0.0.1:{running.server_port}"
        yield own
        running.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, the only one."""
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "repository"))
    monkeypatch.setenv("REPROLIB_DATA", str(tmp_path / "sets"))
    return tmp_path / "sets"


def packed(files, kind="zip"):
    """The bytes of an archive in whose one folder the files lie."""
    held = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(held, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"{TOP[kind]}/{name}", content)
        return held.getvalue()
    with tarfile.open(fileobj=held, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(f"{TOP[kind]}/{name}")
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return held.getvalue()


def pack_of(one):
    """The set's folder in the data pack."""
    place = os.environ.get("REPROLIB_DATA")
    folder = Path(place or "/no") / one.folder
    if not folder.is_dir():
        pytest.skip(f"{one.folder} is not here: name the folder that holds it in REPROLIB_DATA to run this test")
    return folder


def few(monkeypatch, one, n=3):
    """The set with its first n files only, of noise made here; returns the published archive's files."""
    listed = dict(list(one.checksums().items())[:n])
    random, side_px = np.random.default_rng(0), one.known()[0]
    small = [random.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in listed]
    pictures = [Image.fromarray(x).resize((250, 224), Image.Resampling.BICUBIC) for x in small]
    files = {}
    for member, picture in zip(list(one.members())[:n], pictures, strict=True):
        held = io.BytesIO()
        picture.save(held, "PNG" if member.endswith("png") else "JPEG")
        files[member] = held.getvalue()
    squares = [picture.crop((13, 0, 237, 224)).resize((side_px, side_px), Image.Resampling.BICUBIC) for picture in pictures]
    known = np.rint([folders.numbers(np.asarray(square)) for square in squares]).astype(np.uint8)
    monkeypatch.setattr(folders.FolderSet, "checksums", lambda self: listed)
    monkeypatch.setattr(folders.FolderSet, "known", lambda self: (side_px, known))
    return files


@pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)
def test_a_whole_set_is_made_of_an_archive_of_the_published_layout(one, server, tmp_path, monkeypatch):
    """Edges, silhouettes and Tiny ImageNet are originals; of the others the copies stand in for originals, enlarged."""
    files, folder = {}, pack_of(one)
    if one.quality is not None:  # every 16th file
        listed, (side_px, known) = dict(list(one.checksums().items())[::16]), one.known()
        monkeypatch.setattr(folders.FolderSet, "checksums", lambda self: listed)
        monkeypatch.setattr(folders.FolderSet, "known", lambda self: (side_px, known[::16]))
    for member, path in one.members().items():
        files[member] = (folder / path).read_bytes()
        if one.quality is not None:
            held, original = io.BytesIO(), Image.open(folder / path)
            side = 224 if one is STIMULI else 192
            original.resize((side, side), Image.Resampling.BICUBIC).save(
                held, "PNG" if one is STIMULI else "JPEG", compress_level=1, quality=90
            )
            files[member] = held.getvalue()
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv("REPROLIB_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "repository"))
    server.content = packed(files, "gz" if one is TEXTURES else "zip")
    row = data.fetch(one.name, base=server.address)
    assert row["where"] == str(tmp_path / "sets" / one.folder)
    assert server.asked == [("/" + one.url.rpartition("/")[2], 0)]
    if one.quality is None:
        assert row["state"] == "exact copies"
        assert all((Path(row["where"]) / path).read_bytes() == (folder / path).read_bytes() for path in one.checksums())
    else:
        assert re.fullmatch(rf"recognised: {len(files)} of {len(files)} files .* by at most [012]\.\d of 255 levels", row["state"])
        assert data.load(one.name, "test").name == f"{one.name}_recognised"
