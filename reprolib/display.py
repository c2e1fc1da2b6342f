"""What a notebook shows: tables and verdicts as Markdown, and outputs that are plain text where there is no notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, bars inside cells escaped."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def claim_line(entry: Mapping[str, Any]) -> str:
    """A claim's verdict, the interval it stands on, and the reason, as one line of Markdown."""
    if entry["estimate"] is None:
        return f"**{entry['id']}: {entry['verdict']}** {entry['reason']}"
    interval = f"{entry['estimate']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"
    return f"**{entry['id']}: {entry['verdict']}** ({entry['primary']} {interval}, n = {entry['n']}) {entry['reason']}"


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
