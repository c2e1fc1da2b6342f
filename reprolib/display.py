"""What a notebook shows: tables and verdicts as Markdown, and outputs that are plain text where there is no notebook."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd


def escaped(text: object) -> str:
    """Text as it reads, on one line of Markdown: nothing in it is markup, a link or the end of a table's cell."""
    return re.sub(r"[\\`*|<>&~]|\](?=\()", r"\\\g<0>", " ".join(str(text).split()))


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, its cells escaped."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(escaped, row)) + " |" for row in rows)


def claim_line(entry: Mapping[str, Any]) -> str:
    """A claim's verdict, the interval it stands on, and the reason, as one line of Markdown."""
    verdict, reason, primary = (escaped(entry[name]) for name in ("verdict", "reason", "primary"))
    if entry["estimate"] is None:
        return f"**{entry['id']}: {verdict}** {reason}"
    interval = f"{entry['estimate']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"
    return f"**{entry['id']}: {verdict}** ({primary} {interval}, n = {entry['n']}) {reason}"


def show(content: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    """Show a mime bundle in a notebook; plain text elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        print(content["text/plain"])
        return
    import base64

    bundle = {kind: base64.b64encode(value).decode() if isinstance(value, bytes) else value for kind, value in content.items()}
    display(bundle, raw=True, metadata=dict(metadata or {}))
