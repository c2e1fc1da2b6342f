"""What a notebook shows: tables and verdicts as Markdown, and outputs that are plain text where there is no notebook."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reprolib.judging.claims import networks_an_arm, numbers
from reprolib.measures.verdicts import TRAINED


def escaped(text: object) -> str:
    """Text as it reads, on one line of Markdown: nothing in it is markup, a link or the end of a table's cell."""
    return re.sub(r"[\\`*|<>&~]|\](?=\()", r"\\\g<0>", " ".join(str(text).split()))


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, its cells escaped."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(escaped, row)) + " |" for row in rows)


def show_table(frame: pd.DataFrame, metadata: Mapping[str, Any] | None = None) -> None:
    """Show a frame as a table, every cell as text."""
    show({"text/markdown": markdown_table(frame), "text/plain": frame.to_string(index=False)}, metadata)


def claim_line(entry: Mapping[str, Any]) -> str:
    """A claim's two answers, the interval they stand on, the controls, and why it is open where it is, as one line of Markdown."""
    answers = ", ".join(escaped(text) for text in (entry["verdict"], entry["specificity"]) if text)
    if entry["estimate"] is None:
        return f"**{entry['id']}: {answers}**"
    units = f"n = {entry['n']} ({entry['unit']})"
    line = f"**{entry['id']}: {answers}** {escaped(entry['quantity'])} {numbers(entry)}, {networks_an_arm(entry)}, {units}"
    if entry["verdict"].startswith("inconclusive"):
        line += f"; {escaped(entry['reason'].partition('; ')[0])}"
    controls = "; ".join(control_words(control) for control in entry["controls"] if control["share"] is not None)
    return f"{line}. Of the effect: {controls}." if controls else f"{line}."


def control_words(control: Mapping[str, Any]) -> str:
    """A control or check of results.json in words: "noise-trained 62 % [40, 85] open"."""
    name = TRAINED.get(control["name"], control["name"])
    if control["share"] is None:
        return f"{name} {control['state']}"
    ends = "" if control["low"] is None else f" [{round(100 * control['low'])}, {round(100 * control['high'])}]"
    return f"{name} {round(100 * control['share'])} %{ends} {control['state']}"


def shell() -> Any:
    """The IPython that runs this process; None where none does."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def show(content: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    """Show a mime bundle in a notebook; plain text elsewhere."""
    if shell() is None:
        print(content["text/plain"])
        return
    from IPython.display import display

    bundle = {kind: base64.b64encode(value).decode() if isinstance(value, bytes) else value for kind, value in content.items()}
    display(bundle, raw=True, metadata=dict(metadata or {}))
