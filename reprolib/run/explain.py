"""How a figure file was made, read from the file itself: the stamp that `study.figure` leaves in its metadata.

A stamp is JSON {finding, scale, parameters, tree, commit, networks, figure}: in a png a text chunk named "reprolib", in a pdf the
Keywords (or Subject) of its Info dictionary, in an svg the text of its metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from reprolib import store
from reprolib.errors import BadInput, MissingData

KEY = "reprolib"
PNG = b"\x89PNG\r\n\x1a\n"


def read_stamp(path: Path) -> dict[str, Any]:
    """The stamp of a png, pdf or svg file.

    Raises MissingData when the file is not there, BadInput when it carries no stamp.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingData(f"{path} is not there: name a figure file, such as figures/laptop/invertibility/inversions.png")
    content = path.read_bytes()
    texts = _png_texts(content) if content.startswith(PNG) else _pdf_texts(content) if content.startswith(b"%PDF") else _svg_texts(content)
    for text in texts:
        try:
            stamp = json.loads(text)
        except ValueError:
            continue
        stamp = stamp.get(KEY, stamp) if isinstance(stamp, dict) else stamp
        if isinstance(stamp, dict) and {"finding", "scale", "parameters"} <= stamp.keys():
            return stamp
    raise BadInput(
        f"{path} carries no stamp of reprolib: give a png, pdf or svg file as `reprolib run` wrote it; editors and converters drop the stamp"
    )


def command(stamp: dict[str, Any]) -> str:
    """The command line that makes the figure again: its parameters are named where they are not the scale's presets."""
    from reprolib import parameters

    known = [name for name, parameter in parameters.of(stamp["finding"]).items() if parameter.shapes_results]
    given = {name: value for name, value in stamp["parameters"].items() if name in known} | {"scale": stamp["scale"]}
    turned = parameters.validate(stamp["finding"], given).overridden
    named = [part for name, value in turned.items() for part in ("-p", name, str(value))]
    return shlex.join(["reprolib", "run", stamp["finding"], "--scale", stamp["scale"], *named])


def commit_with_tree(tree: str) -> str | None:
    """The newest commit whose `reprolib/` and `notebooks/` hash to `tree` (as in `provenance.tree_hash`); None without one, or without git."""
    try:
        for commit in _git("log", "--all", "--format=%H", "--", "reprolib", "notebooks").decode().split():
            if _tree_of(commit) == tree:
                return commit
    except (OSError, subprocess.SubprocessError):
        pass
    return None


def lines(path: Path) -> list[str]:
    """What `reprolib explain` prints about a figure file."""
    stamp = read_stamp(path)
    tree = str(stamp.get("tree", ""))
    commit = commit_with_tree(tree) or stamp.get("commit")
    where = f"commit {commit}" if commit else "no commit found that holds it: is this a clone with its history?"
    return [
        f"figure:   {stamp.get('figure', path.stem)} of {stamp['finding']} at scale {stamp['scale']}",
        f"code:     tree {tree[:12]} ({where})",
        f"networks: {' '.join(str(network)[:12] for network in stamp.get('networks', ())) or 'none'}",
        f"again:    {command(stamp)}",
    ]


def _tree_of(commit: str) -> str:
    """`provenance.tree_hash` of a commit; a test holds the two together."""
    digest = hashlib.sha256()
    for line in sorted(
        _git("ls-tree", "-r", "-z", commit, "--", "reprolib", "notebooks").decode().split("\0"), key=lambda line: line.partition("\t")[2]
    ):
        entry, _, name = line.partition("\t")
        inside = name.startswith("reprolib/") and Path(name).suffix in (".py", ".toml", ".json")
        if inside or (Path(name).parent.name == "notebooks" and Path(name).suffix == ".py"):
            digest.update(name.encode() + b"\0")
            digest.update(hashlib.sha256(_git("cat-file", "blob", entry.split()[2])).digest())
    return digest.hexdigest()


def _git(*arguments: str) -> bytes:
    """What a git command prints, run at the repository root."""
    return subprocess.run(["git", *arguments], cwd=store.root(), capture_output=True, check=True, timeout=60).stdout


def _png_texts(content: bytes) -> Iterator[str]:
    """The texts of a png's tEXt, zTXt and iTXt chunks named "reprolib" (PNG specification, 11.3.4)."""
    at = len(PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        keyword, _, rest = content[at + 8 : at + 8 + length].partition(b"\0")
        at += 12 + length
        if keyword != KEY.encode():
            continue
        if kind == b"tEXt":
            yield rest.decode("latin-1")
        elif kind == b"zTXt":
            yield zlib.decompress(rest[1:]).decode("latin-1")
        elif kind == b"iTXt":
            text = rest[2:].split(b"\0", 2)[2]
            yield (zlib.decompress(text) if rest[0] else text).decode()


def _pdf_texts(content: bytes) -> Iterator[str]:
    """The Keywords and Subject strings of a pdf's Info dictionary, which matplotlib writes uncompressed."""
    for match in re.finditer(rb"/(?:Keywords|Subject)\s*\(((?:\\.|[^\\()])*)\)", content, re.DOTALL):
        raw = re.sub(rb"\\([0-7]{1,3}|.)", _pdf_escape, match[1], flags=re.DOTALL)
        yield raw[2:].decode("utf-16-be") if raw.startswith(b"\xfe\xff") else raw.decode("latin-1")


def _pdf_escape(match: re.Match[bytes]) -> bytes:
    """The byte an escape in a pdf string stands for."""
    named = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
    return bytes([int(match[1], 8)]) if match[1].isdigit() else named.get(match[1], match[1])


def _svg_texts(content: bytes) -> Iterator[str]:
    """The texts of an svg's elements; nothing when it is not XML, or declares entities, which matplotlib never does."""
    if b"<!ENTITY" in content:
        return
    try:
        tree = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        return
    yield from (element.text for element in tree.iter() if element.text and "{" in element.text)
