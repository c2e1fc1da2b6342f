"""`std_matched`, a control as accurate as the robust network: what a finding owes to lower clean accuracy shows in it too.

It is the state of the standard network, kept while it trained, whose clean accuracy on the scale's first test images is nearest the
robust network's; chosen by that and by nothing else. (`gauss` is chosen likewise among the noises, by the rule of tests/training/test_matching.py.)
"""

from __future__ import annotations

from collections.abc import Mapping

WITHIN = 0.02  # of clean accuracy: what counts as equally accurate
TOLERANCE = 1e-6  # accuracies are shares of some thousand images, in fp32


def is_matched(distance: float) -> bool:
    """Whether accuracies that far apart are within two points."""
    return distance <= WITHIN + TOLERANCE


def not_applicable(standard: float, robust: float) -> str:
    """Why networks of these clean accuracies need no accuracy-matched control; empty where they do."""
    difference = abs(standard - robust)
    if difference >= WITHIN - TOLERANCE:
        return ""
    return f"clean accuracies {standard:.1%} (standard) and {robust:.1%} (robust) differ by under {100 * WITHIN:.0f} points"


def nearest(accuracies: Mapping[str, float], target: float) -> str:
    """The name of the entry whose accuracy is nearest the target, the first of equals in the order of names."""
    return min(sorted(accuracies), key=lambda name: round(abs(accuracies[name] - target), 6))
