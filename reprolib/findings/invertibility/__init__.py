"""The protocol of the invertibility finding: networks and images in, tidy rows and pictures out.

Inverses are compared at the same relative distance in representation space (d_rel, in units of each network's own
random-pair median). Source of the question: Engstrom et al. 2019 (arXiv 1906.00945); matching, judges and controls are
this project's.
"""

from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, invert_task, make_task
from reprolib.findings.invertibility.protocol import Measured, frames, hero_cells, run
from reprolib.findings.invertibility.tidying import code_size_rows, deciding_taus, reach_rows, reach_table, tidy

__all__ = [
    "TAUS", "Eyes", "Inverted", "Measured", "Task", "code_size_rows", "deciding_taus", "frames", "hero_cells", "invert_task", "make_task",
    "reach_rows", "reach_table", "run", "tidy",
]  # fmt: skip
