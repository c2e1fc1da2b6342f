"""The figures of block structure, from tidy rows alone."""

from reprolib.findings.block_structure.figures.bias import bias
from reprolib.findings.block_structure.figures.charts import index_panel, lags, radii
from reprolib.findings.block_structure.figures.depth import adversarial, overfitting, same_depth, settling
from reprolib.findings.block_structure.figures.maps import dominance, external_maps, maps

__all__ = [
    "adversarial", "bias", "dominance", "external_maps", "index_panel", "lags", "maps", "overfitting", "radii", "same_depth", "settling",
]  # fmt: skip
