"""The protocol of the invertibility finding: networks and images in, tidy rows and pictures out.

Inverses are compared at the same relative distance in representation space (d_rel, in units of each network's own
random-pair median). Source of the question: Engstrom et al. 2019 (arXiv 1906.00945); matching, judges and controls are
this project's.
"""

from reprolib.findings.invertibility.external import external_table
from reprolib.findings.invertibility.inverting import TAUS, Eyes, Inverted, Task, invert_task, make_task
from reprolib.findings.invertibility.outside import outside_sets
from reprolib.findings.invertibility.parts import PARTS, Bench
from reprolib.findings.invertibility.protocol import Measured, frames, hero_cells, run
from reprolib.findings.invertibility.tidying import Part, code_size_rows, deciding_taus, reach_rows, reach_table, tidy

__all__ = [
    "PARTS", "TAUS", "Bench", "Eyes", "Inverted", "Measured", "Part", "Task", "code_size_rows", "deciding_taus", "external_table", "frames",
    "hero_cells", "invert_task", "make_task", "outside_sets", "reach_rows", "reach_table", "run", "tidy",
]  # fmt: skip
