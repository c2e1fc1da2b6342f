"""What a figure file says about how it was made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from reprolib import provenance
from reprolib.errors import BadInput, MissingData
from reprolib.run import explain

STAMP = {
    "finding": "invertibility",
    "scale": "laptop",
    "parameters": {"scale": "laptop", "seeds": 3, "n_targets": 24, "steps": 150, "step": 0.1, "tau": 0.25, "device": "cuda"},
    "tree": "ab" * 32,
    "commit": None,
    "networks": ["c" * 64],
    "figure": "inversions",
    "note": "a caption with (brackets), a \\ and d_rel ≤ τ",
}


def stamped(path: Path, stamp: object = STAMP) -> Path:
    """A figure file with a stamp where matplotlib can put it."""
    text = json.dumps(stamp, ensure_ascii=False)
    metadata = {".png": {"reprolib": text}, ".pdf": {"Keywords": text, "CreationDate": None}, ".svg": {"Description": text, "Date": None}}
    figure = plt.figure(figsize=(1, 1))
    figure.savefig(path, metadata=metadata[path.suffix])
    plt.close(figure)
    return path


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_stamp_is_read_back_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    assert explain.read_stamp(stamped(tmp_path / f"figure{suffix}")) == STAMP


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_stamp_under_the_key_reprolib_is_read_too(tmp_path: Path, suffix: str) -> None:
    assert explain.read_stamp(stamped(tmp_path / f"figure{suffix}", {"reprolib": STAMP})) == STAMP


def test_the_command_names_turned_knobs_alone() -> None:
    assert explain.command(STAMP) == "reprolib run invertibility --scale laptop -p tau 0.25"
    assert explain.command(STAMP | {"parameters": {"seeds": 3}}) == "reprolib run invertibility --scale laptop"


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4\n/Keywords (of mine)", b"<svg><desc>{}</desc></svg>", b"plain text"]
)
def test_a_file_without_a_stamp_says_what_to_give_instead(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"photo\.png carries no stamp of reprolib: give a png, pdf or svg file"):
        explain.read_stamp(path)


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"nothing\.png is not there"):
        explain.read_stamp(tmp_path / "nothing.png")


def test_the_commit_with_a_figures_tree_is_found_in_the_history(repository: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    trees, commits = [], []
    for content in ("x = 1\n", "x = 2\n"):
        (repository / "reprolib" / "judging").mkdir(parents=True, exist_ok=True)
        (repository / "reprolib" / "a.py").write_text(content)
        (repository / "reprolib" / "judging" / "claims.toml").write_text("[[claim]]\n")
        (repository / "reprolib" / "notes.txt").write_text("of no effect")
        (repository / "notebooks" / "invertibility.py").write_text("# %%\n")
        (repository / "notebooks" / "invertibility.ipynb").write_text("{}")
        git("add", "--all")
        git("commit", "-q", "-m", "A commit")
        commits.append(git("rev-parse", "HEAD"))
        provenance.tree_hash.cache_clear()
        trees.append(provenance.tree_hash())
    provenance.tree_hash.cache_clear()
    assert [explain.commit_with_tree(tree) for tree in trees] == commits
    assert explain.commit_with_tree("0" * 64) is None
    lines = explain.lines(stamped(repository / "figure.png", STAMP | {"tree": trees[0]}))
    assert f"code:     tree {trees[0][:12]} (commit {commits[0]})" in lines
    assert lines[-1] == "again:    reprolib run invertibility --scale laptop -p tau 0.25"


def test_without_git_the_stamp_still_explains_the_figure(repository: Path) -> None:
    assert "no commit found" in "\n".join(explain.lines(stamped(repository / "figure.png")))
