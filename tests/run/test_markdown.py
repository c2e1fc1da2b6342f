"""The page of an executed notebook: what a reader needs, and nothing that differs between two runs with the same numbers."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import mistune
import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from reprolib import store
from reprolib.display import claim_line, markdown_table
from reprolib.errors import CorruptFile
from reprolib.run.page import to_markdown, write_page


def page(*outputs: nbformat.NotebookNode, source: str = "draw()", tags: tuple[str, ...] = (), count: int = 1) -> str:
    """The page of one code cell."""
    cell = new_code_cell(source, outputs=list(outputs), execution_count=count, metadata={"tags": list(tags)})
    return to_markdown(new_notebook(cells=[cell]))


def shown(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return new_output("stream", name=name, text=text)


def display(data: dict[str, str], **metadata: object) -> nbformat.NotebookNode:
    return new_output("display_data", data=data, metadata=metadata)


def test_prose_is_kept_word_for_word() -> None:
    prose = "# Title\n\nA line that ends in two blanks  \nand *another*; `code`, $x^2$"
    assert to_markdown(new_notebook(cells=[new_markdown_cell(prose)])) == prose + "\n"


def test_code_is_fenced_and_long_code_folded() -> None:
    assert page(source="x = 1") == "```python\nx = 1\n```\n"
    folded = page(source="\n".join(f"x = {i}" for i in range(9)))
    assert folded.startswith("<details>\n<summary>Code (9 lines)</summary>\n\n```python\nx = 0\n")
    assert folded.endswith("x = 8\n```\n\n</details>\n")


def test_a_saved_figure_is_a_link_to_its_file_with_its_caption() -> None:
    data = {"image/png": "aGVsbG8=", "text/plain": "Inverses of 24 targets\n[95 % interval]"}
    expected = "![Inverses of 24 targets (95 % interval)](inversions.png)\n"
    assert page(display(data, reprolib_file="inversions.png"), tags=("remove-input",)) == expected


HOSTILE = "a | b <img src=x> `code` *c* [d](e) \\ &lt;\n\n# f ~~g~~"


def test_no_caption_and_no_name_of_a_file_breaks_the_page() -> None:
    text = page(display({"image/png": "aGVsbG8=", "text/plain": HOSTILE}, reprolib_file="a b)(<.png"), tags=("remove-input",))
    assert text == r"![a \| b \<img src=x\> \`code\` \*c\* (d)(e) \\ \&lt; # f \~\~g\~\~](a%20b%29%28%3C.png)" + "\n"


@pytest.mark.parametrize("where", ["cell", "verdict"])
def test_what_is_said_of_a_claim_and_in_a_table_reads_as_it_was_written(where: str) -> None:
    entry = {
        "id": "X-1",
        "verdict": HOSTILE,
        "reason": HOSTILE,
        "quantity": HOSTILE,
        "estimate": 0.1,
        "low": 0.0,
        "high": 0.2,
        "n": 3,
        "specificity": "",
        "unit": "target",
        "controls": [],
        "networks": {},
        "arms": [],
    }
    source = claim_line(entry) if where == "verdict" else markdown_table(pd.DataFrame({HOSTILE: [HOSTILE], "b": [1]}))
    html = mistune.create_markdown(plugins=["table", "strikethrough"])(source)
    text = re.sub(r"</?(p|strong|table|thead|tbody|tr|th|td)[^>]*>", "", html)
    assert "<" not in text
    assert unescape(text).count(" ".join(HOSTILE.split())) == {"cell": 2, "verdict": 2}[where]
    assert html.count("<td>") == html.count("<th>") == {"cell": 2, "verdict": 0}[where]


def test_a_picture_nobody_saved_a_widget_and_a_warning_are_dropped() -> None:
    widget = display({"application/vnd.jupyter.widget-view+json": "{}", "text/plain": "interactive(...)"})
    assert (
        page(display({"image/png": "aGVsbG8=", "text/plain": "<Figure>"}), widget, shown("a warning", "stderr"))
        == "```python\ndraw()\n```\n"
    )


def test_a_table_in_markdown_is_kept_and_html_is_not() -> None:
    table = "| claim | verdict |\n|---|---|\n| INV-1 | supported |"
    assert table in page(display({"text/markdown": table, "text/html": "<table>", "text/plain": "DataFrame"}))
    plain = page(display({"text/html": "<table>", "text/plain": "claim verdict"}))
    assert "```text\nclaim verdict\n```" in plain
    assert "<table>" not in plain


def test_two_runs_with_the_same_numbers_give_the_same_page() -> None:
    def made(seconds: str, address: str, count: int) -> str:
        stream = shown(f"trained in {seconds}\nadversarial accuracy 0.53\n<object at {address}>\n\x1b[31m 50 %\r100 %\x1b[0m\n")
        return page(stream, shown(f"epoch 3 [00:{count:02d}<00:09]\n"), count=count)

    first, second = made("12.5 s", "0x7f3a5c1d2e90", 3), made("9 min", "0x7fffaa001122", 7)
    assert first == second
    assert "adversarial accuracy 0.53\n<object at 0x...>\n100 %" in first


def test_no_path_of_the_machine_is_on_the_page(repository: Path) -> None:
    text = page(shown(f"wrote {store.root()}/figures/laptop/rows.csv.gz\nroot {store.root()}\nhome {Path.home()}/.cache\n"))
    assert "wrote figures/laptop/rows.csv.gz\nroot .\nhome ~/.cache" in text
    assert str(repository) not in text


def test_injected_parameters_are_shown_without_those_that_change_no_number() -> None:
    text = page(source='# Parameters\nscale = "gpu"\ndevice = "cuda"\ninteractive = "off"\n', tags=("injected-parameters",))
    assert text == '```python\n# Parameters\nscale = "gpu"\n```\n'


def test_tags_leave_out_code_or_output_or_both() -> None:
    output = shown("result\n")
    assert page(output, tags=("remove-input",)) == "```text\nresult\n```\n"
    assert page(output, tags=("remove-output",)) == "```python\ndraw()\n```\n"
    assert page(output, tags=("remove-cell",)) == "\n"


def test_a_fence_is_longer_than_any_inside() -> None:
    assert "````text\n```\nquoted\n```\n````" in page(shown("```\nquoted\n```\n"))


def test_pieces_of_one_stream_are_one_block() -> None:
    assert page(shown("a\n"), shown("b\n"), tags=("remove-input",)) == "```text\na\nb\n```\n"


def test_a_damaged_notebook_is_named(tmp_path: Path) -> None:
    path = tmp_path / "executed.ipynb"
    path.write_text("{")
    with pytest.raises(CorruptFile, match=r"executed\.ipynb is not a readable notebook"):
        write_page(path, tmp_path, "invertibility")
