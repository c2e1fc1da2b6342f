"""What adversarial training does to representations: five papers, measured claim by claim in Jupyter notebooks.

A notebook needs one name, `reprolib.start(finding, globals())`; a network of one's own begins at `reprolib.wrap`.
The rooms, ground floor first: `errors`, `store`, `provenance`,
`registry` and `scales`; `measures`; `data` and `models`; `perturb`; `training`; `judging`; `figures`;
`cue_conflicts`, `units`, `entangled` and `left_out`; `front_door`; `study`; `findings`; `run` and `cli`.
A room imports from floors below it; what knows a finding by name lies in `findings/<finding>/`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprolib.front_door import (
        attack_accuracy,
        cka_map,
        cue_conflict,
        dissect,
        entanglement_by_layer,
        inverses,
        leave_one_out,
        network,
        open_checkpoint,
        rows,
        smoothness,
        wrap,
    )
    from reprolib.study import start

__all__ = [
    "__version__", "attack_accuracy", "cka_map", "cue_conflict", "dissect", "entanglement_by_layer", "inverses", "leave_one_out",
    "network", "open_checkpoint", "rows", "smoothness", "start", "wrap",
]  # fmt: skip
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import public functions when they are first asked for: `reprolib --help` and the measures alone need none of what these need."""
    if name in __all__:
        return getattr(importlib.import_module("reprolib.study" if name == "start" else "reprolib.front_door"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
