"""The protocol of the block-structure finding: how alike the layers of standard and robust networks are, within and between.

Source of the question: Cianfarani et al. 2022 (arXiv 2206.09868); the index of blocks, seed baselines, removals and controls
are this project's.
"""

from reprolib.findings.block_structure.batches import Batches, batches
from reprolib.findings.block_structure.external import external_table
from reprolib.findings.block_structure.networks import Compared, networks
from reprolib.findings.block_structure.protocol import run

__all__ = ["Batches", "Compared", "batches", "external_table", "networks", "run"]
