"""The figures of zero-shot quality, from tidy rows."""

from reprolib.findings.zero_shot_quality.figures.attacks import with_attacks
from reprolib.findings.zero_shot_quality.figures.labels import mean_labels, plane, shares
from reprolib.findings.zero_shot_quality.figures.metrics import controls, over_temperature, paired

__all__ = ["controls", "mean_labels", "over_temperature", "paired", "plane", "shares", "with_attacks"]
