"""What a figure file says about how it was made."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from reprolib import provenance
from reprolib.errors import BadInput, MissingData
from reprolib.run import explain

STAMP = {
    "finding": "invertibility",
    "scale": "laptop",
    "parameters": {"scale": "laptop", "seeds": 5, "n_targets": 48, "steps": 150, "step": 0.1, "tau": 0.25, "device": "cuda"},
    "tree": "ab" * 32,
    "networks": ["c" * 64],
    "figure": "inversions",
    "note": "a caption with (brackets), a \\ and d_rel ≤ τ",
}


def stamped(path: Path, stamp: object = STAMP) -> Path:
    """A figure file with a stamp where `style.save` puts it."""
    text = json.dumps(stamp)
    metadata = {".png": {"reprolib": text}, ".pdf": {"Keywords": text, "CreationDate": None}}
    figure = plt.figure(figsize=(1, 1))
    figure.savefig(path, metadata=metadata[path.suffix])
    plt.close(figure)
    return path


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I4s", len(data) if length is None else length, kind) + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_a_stamp_is_read_back_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    assert explain.read_stamp(stamped(tmp_path / f"figure{suffix}")) == STAMP


def test_the_command_names_turned_knobs_alone() -> None:
    assert explain.command(STAMP) == "reprolib run invertibility --scale laptop -p tau 0.25"
    assert explain.command(STAMP | {"parameters": {"seeds": 5}}) == "reprolib run invertibility --scale laptop"


OURS = json.dumps(STAMP).encode()
STRANGE = {
    "empty": b"",
    "text": b"plain text",
    "png without a chunk": explain.PNG,
    "png cut short": explain.PNG + chunk(b"tEXt", b"reprolib\0" + OURS)[:200],
    "png whose chunk claims 4 GB": explain.PNG + chunk(b"tEXt", b"reprolib\0{}", length=2**32 - 1),
    "png with a packed text": explain.PNG + chunk(b"zTXt", b"reprolib\0\0" + zlib.compress(b" " * 10**8)),
    "png with a text of 64 MiB": explain.PNG + chunk(b"tEXt", b"reprolib\0" + b" " * 2**26 + OURS),
    "png of empty chunks": explain.PNG + chunk(b"tEXt", b"") * 10**6,
    "png with a stamp that is no stamp": explain.PNG + chunk(b"tEXt", b'reprolib\0{"finding": "invertibility", "scale": "laptop"}'),
    "png with a deep stamp": explain.PNG + chunk(b"tEXt", b"reprolib\0" + b"[" * 10**5),
    "pdf": b"%PDF-1.4\n/Keywords (of mine)",
    "pdf whose keywords never end": b"%PDF-1.4\n" + b"/Keywords (" * 10**6,
    "svg": b"<svg><desc>{}</desc></svg>",
}


@pytest.mark.parametrize("content", STRANGE.values(), ids=list(STRANGE))
def test_a_file_without_a_stamp_says_what_to_give_instead_and_is_not_read_whole(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"photo\.png carries no stamp of reprolib: give a png or pdf file"):
            explain.read_stamp(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_stamp_at_the_end_of_a_long_pdf_is_read(tmp_path: Path) -> None:
    path = stamped(tmp_path / "figure.pdf")
    path.write_bytes(b"%PDF-1.4\n" + b" " * 2**21 + path.read_bytes())
    assert explain.read_stamp(path) == STAMP


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"nothing\.png is not there"):
        explain.read_stamp(tmp_path / "nothing.png")


def test_the_code_is_that_of_today_or_not_and_its_commit_is_read_beside_the_figure(repository: Path) -> None:
    (repository / "notebooks" / "invertibility.py").write_text("# %%\n")
    provenance.tree_hash.cache_clear()
    try:
        here = provenance.tree_hash()
        told = explain.lines(stamped(repository / "figure.png", STAMP | {"tree": here}))
        assert told[1] == f"code:     tree {here[:12]}: as it is here"
        assert told[-1] == "again:    reprolib run invertibility --scale laptop -p tau 0.25"
        path = stamped(repository / "figure.png")
        for tree, commit in (("ab" * 32, " of commit 0123"), ("cd" * 32, "")):
            (repository / "results.json").write_text(json.dumps({"provenance": {"tree": tree, "commit": "0123"}}))
            assert (
                explain.lines(path)[1]
                == f"code:     tree abababababab{commit}: not what is here (tree {here[:12]}), which may draw it otherwise"
            )
        (repository / "results.json").write_text("[")
        assert "commit" not in explain.lines(path)[1]
    finally:
        provenance.tree_hash.cache_clear()


def test_nothing_that_a_terminal_obeys_is_printed(tmp_path: Path) -> None:
    path = stamped(tmp_path / "figure.png", STAMP | {"figure": "\x1b[2J\nowned\u202e", "networks": ["\x07"], "tree": "\x1b]0;x"})
    told = explain.lines(path)
    assert told[0] == r"figure:   \x1b[2J\nowned\u202e of invertibility at scale laptop"
    assert all(line.isprintable() for line in told)
    for name in ("\x1b[31m.png", "\udcff.png"):
        with pytest.raises(MissingData, match=r"(x1b|udcff)\S*\.png is not there") as caught:
            explain.read_stamp(tmp_path / name)
        assert str(caught.value).isprintable()
    with pytest.raises(BadInput, match="finding '.x1b' is unknown") as refused:
        explain.lines(stamped(tmp_path / "figure.png", STAMP | {"finding": "\x1b"}))
    assert str(refused.value).isprintable()
