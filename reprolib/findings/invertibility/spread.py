"""INV-4: how far apart are the inverses of one target that were found from different starts? Source of the question: Engstrom et al. 2019.

The measure is this project's: the distance of every pair of starts' inverses, in units of the mean distance of random image pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import Eyes, likeness
from reprolib.findings.invertibility.tidying import Part, Rows, kind_of, unit_rows
from reprolib.judging.tidy import identity

CLAIM = "INV-4"
N_PAIRS = 512
SEED = 0

Distance = Callable[[Tensor, Tensor], Tensor]


@section
def of(inversions: Inversions) -> Part:
    """Rows of INV-4 for every network that was inverted from several starts: one value a target and pair of starts, 0 for one image twice.

    Quantities: start_spread (standard judge, decides) and start_spread_robust_judge: perceptual distances; start_spread_ssim and
    start_spread_pixel_correlation: 1 - SSIM and 1 - correlation; start_spread_lowpass_mse. All are divided by their mean over
    `N_PAIRS` random pairs of different test images, so that smaller is closer in each and 1 is as far apart as two random images.
    unit_2 names the starts; reached: from both, at the deciding tau of each. See `apart` for targets that were not reached.
    """
    task, eyes = inversions.measured
    distances = _distances(eyes)
    pairs = _random_pairs(task.typical)
    units = {quantity: float(distance(*pairs).mean()) for quantity, distance in distances.items()}
    rows: Rows = []
    for inverse in inversions.inverted:
        base = identity(inverse.role, inverse.network)
        found = {start: (run.at[tau], run.reached[tau]) for start, run in inverse.runs.items() for tau in [inversions.taus[kind_of(start)]]}
        for one, other in combinations(found, 2):
            reached = found[one][1] & found[other][1]
            for quantity, distance in distances.items():
                value = apart(found[one][0], found[other][0], reached, distance, units[quantity])
                rows += unit_rows(base, CLAIM, quantity, task.ids, f"{one}+{other}", value, reached)
    return Part(pd.DataFrame(rows))


def apart(one: Tensor, other: Tensor, reached: Tensor, distance: Distance, unit: float) -> Tensor:
    """Distance (n,) of inverses (n, 3, h, w) of the same targets from two starts, in units of random pairs; reached: (n,), both.

    A pair of which one was not reached counts 1, like two random images: the starts themselves would not do in its place, for
    two images of grey noise are close to each other, and a network that reaches nothing would score well.
    """
    return torch.where(reached, distance(one, other) / unit, 1.0)


def _distances(eyes: Eyes) -> dict[str, Distance]:
    return {
        "start_spread": lambda a, b: eyes.distance("standard", a, b),
        "start_spread_robust_judge": lambda a, b: eyes.distance("robust", a, b),
        "start_spread_ssim": lambda a, b: 1 - likeness(a, b)["ssim"],
        "start_spread_pixel_correlation": lambda a, b: 1 - likeness(a, b)["pixel_correlation"],
        "start_spread_lowpass_mse": lambda a, b: likeness(a, b)["lowpass_mse"],
    }


def _random_pairs(images: Tensor) -> tuple[Tensor, Tensor]:
    """`N_PAIRS` pairs of different images out of n >= 2, drawn from a fixed generator."""
    generator, n = torch.Generator().manual_seed(SEED), len(images)
    first = torch.randint(n, (N_PAIRS,), generator=generator)
    second = (first + torch.randint(1, n, (N_PAIRS,), generator=generator)) % n  # a shift by 1 to n - 1 never meets itself
    return images[first.to(images.device)], images[second.to(images.device)]
