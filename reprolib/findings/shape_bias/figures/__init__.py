"""The figures of shape bias, from tidy rows; the sheet of stimuli from the images."""

from reprolib.findings.shape_bias.figures.answers import bias, categories, radii
from reprolib.findings.shape_bias.figures.cues import cues, frequency, retention
from reprolib.findings.shape_bias.figures.shifts import controls, margins
from reprolib.findings.shape_bias.figures.stimuli import sheet

__all__ = ["bias", "categories", "controls", "cues", "frequency", "margins", "radii", "retention", "sheet"]
