"""How a figure file was made, read from the file itself: the stamp that `study.figure` leaves in its metadata.

A stamp is JSON (`FIELDS`): in a png a tEXt chunk named "reprolib", in a pdf the Keywords of its Info dictionary.
"""

from __future__ import annotations

import json
import re
import shlex
import struct
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from reprolib import provenance
from reprolib.errors import BadInput, MissingData

FIELDS = {"finding": str, "scale": str, "parameters": dict, "tree": str, "networks": list, "figure": str}
MOST = 2**20  # bytes that are read of a file: a stamp takes about one thousand, before the picture in a png, at the end of a pdf
PNG = b"\x89PNG\r\n\x1a\n"


def read_stamp(path: str | PathLike[str]) -> dict[str, Any]:
    """The stamp of a png or pdf file, of which no more than `MOST` bytes are read.

    Raises MissingData when the file is not there or cannot be opened, BadInput when it carries no stamp.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingData(f"{_plain(path)} is not there: name a figure file, such as figures/laptop/invertibility/inversions.png")
    try:
        texts = list(_texts(path))
    except OSError as error:
        raise MissingData(f"{_plain(path)} cannot be read ({error.strerror}): make it readable") from error
    for text in texts:
        try:
            stamp = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(stamp, dict) and all(isinstance(stamp.get(name), kind) for name, kind in FIELDS.items()):
            return stamp
    raise BadInput(
        f"{_plain(path)} carries no stamp of reprolib: give a png or pdf file as `reprolib run` wrote it; "
        "editors and converters drop the stamp"
    )


def command(stamp: dict[str, Any]) -> str:
    """The command line that makes the figure again: its parameters are named where they are not the scale's presets."""
    from reprolib import parameters

    known = [name for name, parameter in parameters.of(stamp["finding"]).items() if parameter.shapes_results]
    given = {name: value for name, value in stamp["parameters"].items() if name in known} | {"scale": stamp["scale"]}
    turned = parameters.validate(stamp["finding"], given).overridden
    named = [part for name, value in turned.items() for part in ("-p", name, str(value))]
    return shlex.join(["reprolib", "run", stamp["finding"], "--scale", stamp["scale"], *named])


def lines(path: Path) -> list[str]:
    """What `reprolib explain` prints about a figure file; what in it a terminal might obey is shown escaped."""
    stamp, here = read_stamp(path), provenance.tree_hash()
    commit = _commit_beside(path, stamp["tree"])
    is_here = "as it is here" if stamp["tree"] == here else f"not what is here (tree {here[:12]}), which may draw it otherwise"
    told = [
        f"figure:   {stamp['figure']} of {stamp['finding']} at scale {stamp['scale']}",
        f"code:     tree {stamp['tree'][:12]}{f' of commit {commit}' if commit else ''}: {is_here}",
        f"networks: {' '.join(str(network)[:12] for network in stamp['networks']) or 'none'}",
        f"again:    {command(stamp)}",
    ]
    return [_plain(line) for line in told]


def _commit_beside(path: Path, tree: str) -> str | None:
    """The commit of `tree` by the results.json beside a figure; no stamp holds it, so that equal trees draw equal bytes."""
    try:
        told = json.loads(Path(path).with_name("results.json").read_bytes())["provenance"]
        return told["commit"] if told["tree"] == tree else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _plain(text: object) -> str:
    """Text in which whatever is not printable (escape sequences, line breaks, bytes of no encoding) is spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def _texts(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        content = file.read(MOST)
        if content.startswith(PNG):
            yield from _png_texts(content)
        elif content.startswith(b"%PDF"):
            file.seek(max(0, path.stat().st_size - MOST))
            for match in re.finditer(rb"/Keywords \(((?:\\.|[^\\()])*+)\)", file.read(MOST), re.DOTALL):
                yield re.sub(rb"\\(.)", lambda escape: {b"n": b"\n", b"r": b"\r"}.get(escape[1], escape[1]), match[1]).decode("latin-1")


def _png_texts(content: bytes) -> Iterator[str]:
    """The texts of the tEXt chunks named "reprolib" (PNG specification, 11.3.4); packed ones, which we never write, are not opened."""
    at = len(PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        keyword, _, text = content[at + 8 : at + 8 + length].partition(b"\0") if kind == b"tEXt" else (b"", b"", b"")
        if keyword == b"reprolib":
            yield text.decode("latin-1")
        at += 12 + length
