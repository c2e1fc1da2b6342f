"""An executed notebook as a Markdown page: prose, code, figures and verdicts for a reader who runs nothing.

The page is the same whenever the numbers are: no times, no execution counts, no memory addresses, no paths of a machine. Figures are
links to the files that `study.figure` saved: such an output carries {"reprolib_file": "inversions.png"} in its metadata, and its
text/plain is the caption. Other pictures and widgets are dropped: what counts is saved.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

from reprolib import store
from reprolib.display import escaped
from reprolib.errors import CorruptFile, RunFailed

FOLD_LINES = 8  # longer code is folded away
PICTURE = ("image/png", "image/svg+xml", "image/jpeg", "application/pdf")
WIDGET = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# "12 s", "3.5 min", "00:12<00:03": a printed line that tells a time tells of one machine on one day
TIME = re.compile(r"\b\d+(\.\d+)?\s?(ms|s|sec|seconds|min|minutes|h|hours)\b|\b\d+:\d\d\b")
OF_THE_RUN = ("device", "interactive")  # injected parameters that change no number


def folder_of(notebook: Path) -> Path:
    """Where the run that is recorded in an executed notebook drew, by its own word.

    Raises RunFailed where it never said so: `study.finish()` is its last call.
    """
    for cell in reversed(_read(notebook).cells):
        for output in cell.get("outputs", []):
            if folder := output.get("metadata", {}).get("reprolib_folder"):
                return Path(folder)
    raise RunFailed(f"{notebook} ran to its end without study.finish(), which judges and writes: put it last")


def write_page(notebook: Path, folder: Path, finding: str) -> Path:
    """Write `folder/README.md` from the executed notebook at `notebook`; return its path.

    Raises CorruptFile when the notebook cannot be read.
    """
    note = f"<!-- Generated from notebooks/{finding}.ipynb by `reprolib run`: edit the notebook, not this page. -->"
    return store.write_text(folder / "README.md", f"{note}\n\n{to_markdown(_read(notebook))}")


def _read(notebook: Path) -> NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{notebook} is not a readable notebook ({error}); run the finding again") from error


def to_markdown(notebook: NotebookNode) -> str:
    """The cells of an executed notebook as Markdown.

    The tags remove-input, remove-output and remove-cell leave out a cell's code, its outputs, or both.
    """
    blocks: list[str] = []
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if "remove-cell" in tags or "papermill-error-cell-tag" in tags:
            continue
        if cell.cell_type != "code":
            blocks.append(cell.source)
            continue
        if "remove-input" not in tags:
            blocks.append(_code(_without_run_parameters(cell.source) if "injected-parameters" in tags else cell.source))
        if "remove-output" not in tags:
            blocks += [_output(output) for output in _joined(cell.outputs)]
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"


def _code(source: str) -> str:
    """A fenced block of Python, folded when it is long; nothing for an empty cell or one of comments alone."""
    if all(not line.strip() or line.lstrip().startswith("#") for line in source.splitlines()):
        return ""
    block = _fenced(source.strip("\n"), "python")
    n_lines = source.strip().count("\n") + 1
    return block if n_lines <= FOLD_LINES else f"<details>\n<summary>Code ({n_lines} lines)</summary>\n\n{block}\n\n</details>"


def _without_run_parameters(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if line.partition("=")[0].strip() not in OF_THE_RUN)


def _joined(outputs: list[NotebookNode]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1]["output_type"] and output.name == joined[-1]["name"]:
            joined[-1] = {**joined[-1], "text": joined[-1]["text"] + output.text}
        else:
            joined.append(dict(output))
    return joined


def _output(output: dict[str, Any]) -> str:
    """One output as Markdown, "" for what a page does not show (warnings on stderr, widgets, pictures nobody saved)."""
    if output["output_type"] == "stream":
        return _stream(output["text"]) if output["name"] == "stdout" else ""
    if output["output_type"] == "error":
        return _fenced(f"{output['ename']}: {_clean(output['evalue'])}")
    data = output["data"]
    plain = _clean(data.get("text/plain", ""))
    if file := output.get("metadata", {}).get("reprolib_file"):
        return f"![{escaped(plain.translate({91: '(', 93: ')'}))}]({quote(file)})"
    if WIDGET in data or any(kind in data for kind in PICTURE):
        return ""
    if "text/markdown" in data:
        return _clean(data["text/markdown"])
    return _fenced(plain.rstrip()) if plain.strip() else ""


def _stream(text: str) -> str:
    lines = [line.rpartition("\r")[2] for line in re.sub(r"\r+\n", "\n", _clean(text)).rstrip().split("\n")]
    kept = "\n".join(line for line in lines if not TIME.search(line)).strip("\n")
    return _fenced(kept) if kept.strip() else ""


def _clean(text: str) -> str:
    text = ADDRESS.sub("0x...", ESCAPE.sub("", text))
    text = text.replace(f"{store.root()}/", "").replace(str(store.root()), ".")
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _fenced(text: str, language: str = "") -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language or 'text'}\n{text}\n{fence}"
