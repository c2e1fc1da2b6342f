"""Is there a person to move a slider?"""

from __future__ import annotations

import os

from reprolib.errors import BadInput, nearest

MODES = ("auto", "on", "off")


def is_wanted(interactive: str) -> bool:
    """Whether to make widgets: "on" and "off" decide; "auto" asks whether this kernel serves JupyterLab.

    JupyterLab names its session in the kernel's environment (JPY_SESSION_NAME); papermill does not, nor does VS Code.
    """
    if interactive not in MODES:
        raise BadInput(f"interactive={interactive!r} is not allowed: give one of {', '.join(MODES)}{nearest(interactive, MODES)}")
    return interactive == "on" or (interactive == "auto" and "JPY_SESSION_NAME" in os.environ)
