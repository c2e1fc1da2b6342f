"""The figures of entanglement, from tidy rows; the toy from its paths."""

from reprolib.findings.entanglement.figures.generated import generators, toy
from reprolib.findings.entanglement.figures.layers import by_layer, gradient_signs, over_temperature, through_training
from reprolib.findings.entanglement.figures.outside import alarms, support
from reprolib.findings.entanglement.figures.transfers import against_alpha, transfer

__all__ = [
    "against_alpha", "alarms", "by_layer", "generators", "gradient_signs", "over_temperature", "support", "through_training", "toy", "transfer",
]  # fmt: skip
