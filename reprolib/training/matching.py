"""`std_matched`, a control as accurate as the robust network: what a finding owes to lower clean accuracy shows in it too.

It is the state of the standard network, kept while it trained, whose clean accuracy on the scale's first test images is nearest the
robust network's; chosen by that and by nothing else. (`gauss` is chosen likewise among the noises, by the rule of tests/training/test_matching.py.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WITHIN = 0.02  # of clean accuracy: what counts as equally accurate
TOLERANCE = 1e-6  # accuracies are shares of some thousand images, in fp32


@dataclass(frozen=True)
class Match:
    """The state that was chosen (named by the epochs done), its clean accuracy, and the one it should have."""

    name: str
    accuracy: float
    target: float

    @property
    def distance(self) -> float:
        """How far the two accuracies are apart."""
        return abs(self.accuracy - self.target)

    @property
    def matched(self) -> bool:
        """Whether they are within two points."""
        return self.distance <= WITHIN + TOLERANCE


def not_applicable(standard: float, robust: float) -> str:
    """Why networks of these clean accuracies need no accuracy-matched control; empty where they do."""
    difference = abs(standard - robust)
    if difference >= WITHIN - TOLERANCE:
        return ""
    return f"clean accuracies {standard:.1%} (standard) and {robust:.1%} (robust) differ by under {100 * WITHIN:.0f} points"


def nearest(accuracies: Mapping[str, float], target: float) -> Match:
    """The entry whose accuracy is nearest the target, the first of equals in the order of names."""
    name = min(sorted(accuracies), key=lambda name: round(abs(accuracies[name] - target), 6))
    return Match(name, accuracies[name], target)
