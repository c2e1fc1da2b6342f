"""What adversarial training does to representations: five papers, measured claim by claim in Jupyter notebooks.

A notebook needs one name: `reprolib.start(finding, globals())`. The rooms, ground floor first: `errors`, `store`, `provenance`,
`registry` and `scales`; `measures`; `data` and `models`; `perturb`; `training`; `judging`; `figures`; `study`; `findings`; `run` and `cli`.
A room imports from floors below it; what knows a finding by name lies in `findings/<finding>/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprolib.study import start

__all__ = ["__version__", "start"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `start` when it is first asked for: `reprolib --help` and the measures alone need none of what it needs."""
    if name == "start":
        from reprolib.study import start

        return start
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
