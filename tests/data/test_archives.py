"""Sets are made of archives as they are published, from a server or a file; cut-off, wrong and hostile ones leave nothing behind."""

import gzip
import http.server
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprolib import data
from reprolib.cli import main
from reprolib.data import archives, cue_conflict, folders, registry
from reprolib.errors import CorruptFile, MissingData, StorageError

EDGES, SILHOUETTES, STIMULI, TEXTURES, TINY = SETS = (
    cue_conflict.EDGES,
    cue_conflict.SILHOUETTES,
    cue_conflict.STIMULI,
    folders.TEXTURES,
    folders.TINY_IMAGENET_20,
)
TOP = {"zip": "texture-vs-shape-ccd0c01d42c0a8a834e90ec141e7f24fa915dc23", "gz": "dtd"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file, by ranges; notes what was asked for; stops after `stops_at` bytes until `goes_on`, or redirects to `moved`."""

    content, asked, stops_at, moved, has_ranges = b"", [], None, None, True

    def do_GET(self):
        begin = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if self.has_ranges else 0
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
        self.wfile.write(self.content[begin : self.stops_at])
        if self.stops_at:
            self.goes_on.wait(60)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A handler class of its own, and the address it answers at."""
    monkeypatch.setenv("no_proxy", "*")
    own = type("Own", (Handler,), {"asked": [], "goes_on": threading.Event()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), own) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        own.address = f"http://127.0.0.1:{running.server_port}"
        yield own
        own.goes_on.set()
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


def few(monkeypatch, one):
    """The set with its first three files only, made up here; returns the files of its published archive."""
    listed, (side_px, _) = dict(list(one.checksums().items())[:3]), one.known()
    members, width, files, known = list(one.members())[:3], side_px if one.quality is None else 250, {}, []
    random = np.random.default_rng(0)
    for member in members:
        side = side_px if one.quality is None else 224
        original = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, side), Image.Resampling.BICUBIC)
        held, left = io.BytesIO(), (width - side) // 2
        original.save(held, "PNG" if member.endswith("png") else "JPEG", quality=95)
        files[member] = held.getvalue()
        square = original.crop((left, 0, left + side, side)).resize((side_px, side_px), Image.Resampling.BICUBIC)
        known.append(np.rint(folders.numbers(np.asarray(square))).astype(np.uint8))
    monkeypatch.setattr(folders.FolderSet, "checksums", lambda self: listed)
    monkeypatch.setattr(folders.FolderSet, "known", lambda self: (side_px, np.stack(known)))
    return files


@pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)
def test_a_whole_set_is_made_of_an_archive_of_the_published_layout(one, server, tmp_path, monkeypatch):
    """Edges, silhouettes and Tiny ImageNet are originals; of the others the copies stand in for originals, enlarged."""
    files, folder = {}, pack_of(one)
    if len(one.checksums()) > 160:  # every 16th file
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


@pytest.fixture
def edges(root, monkeypatch):
    """Edge images, three and made up: the files of the published archive."""
    return few(monkeypatch, EDGES)


def left_in(root):
    """What lies below the data root but for what was downloaded and locks."""
    return [path for path in root.rglob("*") if path.is_file() and path.parent.name != "downloads" and path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("one", "kind"), [(EDGES, "zip"), (STIMULI, "zip"), (TEXTURES, "gz"), (TINY, "gz")], ids=lambda one: getattr(one, "name", one)
)
def test_a_file_at_hand_is_taken_and_only_what_is_wanted_of_it(one, kind, root, tmp_path, monkeypatch, capsys):
    files = few(monkeypatch, one)
    archive = tmp_path / "an archive"
    archive.write_bytes(packed({"README": b"x", "../../evil": b"x", **files, "/evil": b"x"}, kind))
    assert main(["data", "fetch", one.name, "--from", str(archive)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{one.title}: from {archive}, into {root / one.folder}; licence: {one.licence}"
    assert last.startswith(f"{one.name:24} recognised: 3 of 3 files are other copies, by at most ")
    assert last.endswith(f"there: {root / one.folder}")
    assert sorted(path.relative_to(root / one.folder).as_posix() for path in left_in(root)) == sorted(one.checksums())
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or "partial" in path.name]
    assert data.fetch(one.name, base="http://127.0.0.1:9")["state"].startswith("recognised")  # it is there: nobody is asked
    next(iter(left_in(root))).unlink()
    assert data.fetch(one.name, archive)["state"].startswith("recognised: 3 of 3")  # a broken copy in its own place is mended


def test_a_killed_download_locks_others_out_while_it_lives_and_is_then_gone_on_with(server, root, edges):
    server.content, server.stops_at = packed({"other": os.urandom(3 << 20), **edges}), (2 << 20) + 1000
    file = root / "downloads" / EDGES.url.rpartition("/")[2]
    part = file.with_name(f"{file.name}.part")
    code = f"from reprolib import data; data.fetch('edges', base={server.address!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == (
            f"{EDGES.title}: from {EDGES.url}, some 200 MB (not announced), into {root / EDGES.folder}; licence: CC BY 4.0; cite Geirhos et al. 2019\n"
        )
        while not part.exists() or part.stat().st_size < 2 << 20:
            threading.Event().wait(0.01)
        with pytest.raises(MissingData, match="is locked by another process.: the same command goes on"):
            data.fetch("edges", base=server.address)
        process.kill()
    begin = part.stat().st_size - 1
    (root / "cue-conflict" / ".edges_224.partial" / "cat").mkdir(parents=True)  # as a process killed while it unpacked leaves it
    assert EDGES.find() is None
    server.stops_at = None
    assert data.fetch("edges", base=server.address)["found"]
    assert [asked for _, asked in server.asked] == [0, begin]
    assert file.read_bytes() == server.content
    assert len(left_in(root)) == 3


def test_a_server_without_ranges_or_with_a_shorter_file_is_asked_from_the_start(server, root, edges):
    server.content, part = packed(edges), root / "downloads" / f"{EDGES.url.rpartition('/')[2]}.part"
    part.parent.mkdir()
    part.write_bytes(server.content + b"of another file")
    with pytest.raises(MissingData, match="could not be downloaded .*416"):
        data.fetch("edges", base=server.address)
    assert not part.exists()
    part.write_bytes(b"of another file")
    server.has_ranges = False
    assert data.fetch("edges", base=server.address)["found"]


def test_a_connection_that_ends_early_is_said_and_what_came_is_kept(server, root, edges):
    server.content, server.stops_at = packed(edges), 1000
    server.goes_on.set()
    with pytest.raises(
        MissingData,
        match=rf"^the set of edge images .* from https://github\.com/\S+ .it ended at 1000 of {len(server.content)} bytes.",
    ):
        data.fetch("edges", base=server.address)
    (part,) = (path for path in (root / "downloads").iterdir() if path.suffix == ".part")
    assert part.read_bytes() == server.content[:1000]


@pytest.mark.parametrize("moved", ["http://localhost:{port}/else", "file:///etc/hostname"])
def test_only_https_is_taken_but_for_loopback(server, root, edges, moved):
    server.moved = moved.format(port=server.address.rpartition(":")[2])
    with pytest.raises(MissingData):
        data.fetch("edges", base=server.address)
    server.moved, server.content = None, packed(edges)
    with pytest.raises(MissingData, match="http://127.0.0.1:.* is not https, so nothing was taken"):
        archives.download(f"{server.address}/x.zip", root / "downloads" / "x.zip")
    assert not [path for path in root.rglob("*") if path.suffix in (".zip", ".part")]


def tar(*headers):
    """A tar.gz of (name, type, size, content, link), whatever they claim."""
    held = io.BytesIO()
    with gzip.open(held, "wb", compresslevel=1) as stream:
        for name, kind, size, content in headers:
            header = tarfile.TarInfo(name)
            header.type, header.size, header.linkname = kind, size, "/etc/hostname"
            stream.write(header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
        stream.write(bytes(1024))
    return held.getvalue()


def linked(files):
    """A zip whose first file is a symbolic link."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for i, (name, content) in enumerate(files.items()):
            one = zipfile.ZipInfo(f"top/{name}")
            one.external_attr = (stat.S_IFREG if i else stat.S_IFLNK) << 16
            archive.writestr(one, content if i else b"/etc/hostname")
    return held.getvalue()


def lying(files):
    """A zip whose first file claims 1000 bytes and unpacks to more."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"top/{name}", content)
    size = len(next(iter(files.values())))
    return held.getvalue().replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))


def first(files, content):
    """The files, the first one with other content."""
    return files | {next(iter(files)): content}


def png(*size):
    held = io.BytesIO()
    Image.new("1", size).save(held, "PNG")
    return held.getvalue()


HOSTILE = {
    "cut off": (lambda files: packed(files)[:-100], "is cut off, damaged, or not the published archive"),
    "cut off tar": (lambda files: packed(files, "gz")[:-2000], "is cut off, damaged"),
    "a flipped bit": (lambda files: packed(files).replace(b"IDAT", b"IDAU", 1), r"is cut off, damaged, .*Bad CRC-32"),
    "a web page": (lambda files: b"<html>sign in</html>", r"is cut off, damaged, .*Not a gzipped file"),
    "empty": (lambda files: b"", "is cut off, damaged"),
    "another": (lambda files: packed({"a": b"x"}), r"lacks 3 of the 3 files wanted, such as stimuli/edges/airplane/airplane1\.png"),
    "a link": (linked, "lacks 1 of the 3 files wanted"),
    "a link in a tar": (lambda files: tar(*((f"dtd/{name}", tarfile.SYMTYPE, 0, b"") for name in files)), "lacks 3 of the 3"),
    "a device": (lambda files: tar(*((f"dtd/{name}", tarfile.CHRTYPE, 0, b"") for name in files)), "lacks 3 of the 3"),
    "a bomb": (lambda files: packed(first(files, bytes(2 << 20)), "gz"), r"unpacks to 2097152 bytes, more than any published file"),
    "a zip that lies": (lambda files: lying(first(files, bytes(5 << 20))), "Bad CRC-32"),
    "a sparse bomb": (lambda files: tar((f"dtd/{next(iter(files))}", b"0", 1 << 50, b"")), "unpacks to more than any published"),
    "a long name": (lambda files: tar(("././@LongLink", b"L", 1 << 40, bytes(512))), "claims to be larger than any published file"),
    "absurd size": (
        lambda files: packed(first(files, png(5000, 5000))),
        r"airplane1\.png cannot be read as a picture .it claims 5000 x 5000 px",
    ),
    "a text": (lambda files: packed(first(files, b"text")), r"airplane1\.png cannot be read as a picture"),
    "another size": (lambda files: packed(first(files, png(96, 96))), r"unpacked,/airplane/airplane1\.png has 96 x 96 px, not 224 x 224"),
    "another picture": (
        lambda files: packed(first(files, png(224, 224))),
        r"unpacked,: 1 of 3 files are not the pictures of edges, the worst, airplane/airplane1\.png, by \d+\.\d of 255 levels",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_cut_off_wrong_and_hostile_archives_are_one_sentence_and_leave_nothing(kind, server, root, edges, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILE_BYTES", 1 << 20)
    make, message = HOSTILE[kind]
    content = make(edges)
    (tmp_path / "at hand").write_bytes(content)
    for source in ({"archive": tmp_path / "at hand"}, {"base": server.address}):
        server.content = content
        with pytest.raises(
            (CorruptFile, MissingData) if kind == "empty" else CorruptFile, match=message if source.get("archive") else None
        ) as caught:
            data.fetch("edges", **source)
        assert "\n" not in str(caught.value)
        assert left_in(root) == []
    assert EDGES.find() is None
    assert (tmp_path / "at hand").exists()
    assert not [path for path in root.rglob("*") if path.suffix == ".zip"]  # a damaged download is not taken again


def test_more_than_any_archive_has_is_not_downloaded(server, root, edges, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    server.content = packed(edges)
    with pytest.raises(CorruptFile, match="sends more than .* GB: it is not the published archive"):
        data.fetch("edges", base=server.address)


def test_a_folder_that_cannot_be_written_is_said(root, edges, tmp_path):
    (tmp_path / "a.zip").write_bytes(packed(edges))
    (root / "cue-conflict").write_bytes(b"a file in the way")
    with pytest.raises(StorageError, match=rf"^cannot write the set of edge images .* to {root / EDGES.folder}: "):
        data.fetch("edges", tmp_path / "a.zip")


def test_all_goes_on_where_one_set_cannot_be_had(root, monkeypatch, capsys):
    def download(one, own, base):
        if one.name == "textures":
            raise ConnectionError("no route")
        (own.parent / own.name).mkdir(parents=True)

    for kind in {type(source) for source in registry._SETS.values() if hasattr(source, "download")}:
        monkeypatch.setattr(kind, "download", download)
        monkeypatch.setattr(kind, "check", lambda one, folder: "exact copies")
    assert main(["data", "fetch", "all"]) == 3
    said = capsys.readouterr()
    assert re.search(rf"^edges +exact copies; there: {root}", said.out, re.MULTILINE)
    assert re.search(r"^textures .*no route.*; missing: `reprolib data fetch textures`", said.out, re.MULTILINE)
    assert re.fullmatch(r"reprolib: the set of describable textures .* could not be downloaded .*no route.*\n", said.err)
