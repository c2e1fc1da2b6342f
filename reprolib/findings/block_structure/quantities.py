"""Quantities that are indices of layer similarity: what each is computed from, and which rows hold it.

An index of a CKA matrix is nonlinear in the batch HSICs, so it has no rows of its own: the rows hold the HSICs. A quantity is
"<index>" or "<index>@<variant>"; its rows are those of `rows_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from reprolib.judging.quantities import minus, without_variant
from reprolib.measures import indices

Array = NDArray[np.float64]

PROCRUSTES, SHUFFLED = "procrustes", "procrustes_shuffled"
"""Variants whose rows are one number a batch, ready to be averaged: Procrustes similarity, and what it is when one side's rows are shuffled."""
DECONFOUNDED = "deconfounded"
"""The variant beyond what layers owe to the pixels: of the plain HSICs and of those with the pixels, rows "hsic_pixels"."""


def _at_lag(lag: int, c: Array) -> Array:
    found = indices.mean_by_lag(c)
    return found[..., lag - 1] if lag <= found.shape[-1] else np.full(found.shape[:-1], np.nan)


MATRIX: dict[str, Callable[[Array], Array]] = {
    "off_diagonal_mean": indices.off_diagonal_mean,
    "long_range_mean": indices.long_range_mean,
    "lag_slope": indices.lag_slope,
    "effective_rank": indices.effective_rank,
    **{f"mean_at_lag_{lag}": partial(_at_lag, lag) for lag in (1, 2, 4, 8)},
    **{f"share_above_{level}": partial(indices.share_above, threshold=level) for level in (0.8, 0.9)},
    **{f"longest_run_{tau}": partial(indices.longest_run, tau=tau) for tau in (0.7, 0.8, 0.9)},
}
"""Indices of one network's CKA matrix."""

STAGED: dict[str, Callable[..., Array]] = {
    "stage_contrast": indices.stage_contrast,
    "stage_contrast_shown": partial(indices.stage_contrast, least=2),
}
"""Indices of one network's CKA matrix and its stages."""

PAIRS: dict[str, Callable[[Array], Array]] = {
    "same_depth_mean": indices.same_depth_mean,
    "depth_agreement": indices.depth_agreement,
}
"""Indices of the CKA matrix between two networks."""


@dataclass(frozen=True)
class Course:
    """An index of curves of CKA over depth (T, ..., L), one for each of T pairs of states; times: of states named "epoch_<number>".

    pairs: absent for every epoch against the last. from_start: of what each layer still has to change; `of` then gets the layers that have.
    """

    of: Callable[..., Array]
    pairs: tuple[tuple[str, str], ...] = ()
    from_start: bool = False


def _changes_with_depth(curves: Array, times: Array) -> Array:
    return indices.depth_slope(1 - curves[0])


def _beyond_before(curves: Array, times: Array) -> Array:
    return indices.depth_slope(1 - curves[0]) - indices.depth_slope(1 - curves[1])


SIMILAR_FROM_START = 0.9  # CKA of the untrained state with the last: above it there is no settling to be seen


def _settling(curves: Array, times: Array, layers: Sequence[int]) -> Array:
    """Over the given layers, of the mean over training of (C_t - C_0)/(1 - C_0)."""
    chosen = curves[..., list(layers)]
    gained = np.zeros_like(curves)
    gained[..., list(layers)] = (chosen - chosen[:1]) / (1 - chosen[:1])
    return indices.depth_slope(indices.area_under(np.concatenate([gained, np.ones_like(gained[:1])]), times), layers)


def _stays(curves: Array, times: Array) -> Array:
    return indices.last_third_mean(curves[0])


BEST_LAST, BEFORE = ("best", "last"), ("before_1", "before_2")
STATES: dict[str, Course] = {
    "overfitting_depth_slope": Course(_beyond_before, (BEST_LAST, BEFORE)),
    "best_last_depth_slope": Course(_changes_with_depth, (BEST_LAST,)),
    "before_depth_slope": Course(_changes_with_depth, (BEFORE,)),
    "settling_depth_slope": Course(_settling, from_start=True),
    "start_depth_slope": Course(lambda curves, times: indices.depth_slope(curves[0])),
    **{f"clean_{other}_last_third": Course(_stays, (("clean", other),)) for other in ("adversarial", "noise", "equal_success")},
}
"""Indices of states of one network: checkpoints of its training, or the kinds of images it sees."""


def is_index(quantity: str) -> bool:
    """Whether a quantity is an index that is made from the rows of HSICs."""
    name, _, variant = quantity.partition("@")
    return variant not in (PROCRUSTES, SHUFFLED) and any(name in table for table in (MATRIX, STAGED, PAIRS, STATES))


def rows_of(quantity: str) -> str:
    """The quantity under which a network's own rows are: of HSICs for an index, the quantity itself for any other."""
    if not is_index(quantity):
        return quantity
    name, _, variant = quantity.partition("@")
    base = "hsic_states" if name in STATES else "hsic"
    return f"{base}@{variant}" if variant and variant != DECONFOUNDED else base


def is_of_pairs(quantity: str) -> bool:
    """Whether a quantity is of two networks."""
    return without_variant(quantity) in PAIRS


QUANTITIES = {
    f"{index}@{PROCRUSTES}": minus(f"{index}@{PROCRUSTES}", f"{index}@{SHUFFLED}")
    for index in ("off_diagonal_mean", "long_range_mean", "stage_contrast")
}
"""Of one network; those of pairs are taken alike by `similarity`."""
