"""Controls as accurate as the robust network: what a finding owes to lower clean accuracy shows in them too.

`std_matched` is the state of the standard network, kept while it trained, whose clean accuracy is nearest the robust
network's; `gauss` is trained on noise of the standard deviation that brings it there. Both are chosen by clean accuracy on
the scale's first test images, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reprolib.errors import BadInput
from reprolib.training.recipes import recipe

WITHIN = 0.02  # of clean accuracy: what counts as equally accurate
CEILING = 0.99  # both above it: accuracy tells them apart no longer, and the strongest noise is the harder control
NEAR_CEILING = 0.01
TOLERANCE = 1e-6  # accuracies are shares of some thousand images, in fp32


@dataclass(frozen=True)
class Match:
    """What was chosen (a recipe id, or the epochs done of a snapshot), its clean accuracy, and the one it should have."""

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
    """The entry whose accuracy is nearest the target, the first of equals in the order of names; raises BadInput for none."""
    if not accuracies:
        raise BadInput("there is nothing to choose from: give at least one accuracy")
    name = min(sorted(accuracies), key=lambda name: round(abs(accuracies[name] - target), 6))
    return Match(name, accuracies[name], target)


def choose_gauss(clean: Mapping[str, float], robust: str) -> Match:
    """The noise-trained network that controls for the robust one: nearest in clean accuracy, the stronger noise of equals.

    clean: {recipe id: clean accuracy on the same images}, of the robust recipe and of at least one recipe with noise; others
    are left out of account. Where the robust network is at the ceiling and noise-trained ones are too, it is the largest
    noise within one point. `matched` tells whether it is within two points. Raises BadInput when either is missing.
    """
    if robust not in clean:
        raise BadInput(f"the robust recipe {robust!r} is not among the accuracies given: {', '.join(clean) or 'none'}")
    by_noise = sorted((name for name in clean if recipe(name).noise), key=lambda name: -recipe(name).noise)
    if not by_noise:
        raise BadInput(f"no recipe with noise is among the accuracies given: {', '.join(clean)}; train gauss_05 to gauss_40")
    target = clean[robust]
    at_ceiling = [
        name for name in by_noise if min(target, clean[name]) >= CEILING and abs(clean[name] - target) <= NEAR_CEILING + TOLERANCE
    ]
    chosen = at_ceiling[0] if at_ceiling else min(by_noise, key=lambda name: round(abs(clean[name] - target), 6))
    return Match(chosen, clean[chosen], target)
