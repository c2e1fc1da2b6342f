"""The figures of the simplicity biases, from tidy rows; filters from networks' weights."""

from reprolib.findings.simplicity_biases.figures.dissected import detectors
from reprolib.findings.simplicity_biases.figures.diverse import ablation, diversity, preferences, unit_cards
from reprolib.findings.simplicity_biases.figures.smooth import changes, first_filters, noise_on_maps
from reprolib.findings.simplicity_biases.figures.trends import trends

__all__ = [
    "ablation", "changes", "detectors", "diversity", "first_filters", "noise_on_maps", "preferences", "trends", "unit_cards",
]  # fmt: skip
