"""Figures of the finding, from tidy rows alone."""

from reprolib.findings.entanglement.figures.layers import by_layer, gradient_signs, over_temperature, through_training

__all__ = ["by_layer", "gradient_signs", "over_temperature", "through_training"]
