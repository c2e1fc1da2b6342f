"""How invertibility judges: all its quantities are means of rows; inversions must have converged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from reprolib.errors import BadInput
from reprolib.judging.controls import Control
from reprolib.judging.evidence import TOLERANCE, Evidence
from reprolib.judging.ledger import Claim

CONVERGED = 0.05  # largest change of the share reached, and of the median final distance, when the steps are doubled


def converged(claim: Claim, evidence: Evidence) -> Control:
    """Whether twice the steps change nothing, in every network of the claim's arms."""
    group = evidence.rows("converged", "final_distance")
    failing, without = [], []
    networks = evidence.networks(claim.contrast)
    for network in networks:
        frame = None if group is None else group[group["network"] == network]
        if frame is None or frame.empty:
            without.append(network)
            continue
        once, twice = (_budget(frame, suffix) for suffix in ("|x1", "|x2"))
        if len(once) + len(twice) != len(frame) or not once.index.equals(twice.index):
            raise BadInput(f"converged rows of network {network}: unit_2 must end in |x1 or |x2, both for every target and start")
        moved = abs(float(twice["value"].median() - once["value"].median()))
        share = abs(float(twice["reached"].mean() - once["reached"].mean()))
        if max(moved, share) > CONVERGED + TOLERANCE:
            failing.append(f"{network} (share reached {share:.3f}, median distance {moved:.3f})")
    if failing:
        return Control("converged", "failed", why=f"twice the steps change {', '.join(failing)} by more than {CONVERGED}")
    if without or not networks:
        return Control("converged", "not measured", why=f"not measured for {', '.join(without) or 'any network'}")
    return Control("converged", "passed")


CONDITIONS: Mapping[str, Callable[[Claim, Evidence], Control]] = {"converged": converged}


def _budget(frame: pd.DataFrame, suffix: str) -> pd.DataFrame:
    chosen = frame[frame["unit_2"].str.endswith(suffix)]
    keys = pd.MultiIndex.from_arrays([chosen["unit"], chosen["unit_2"].str.removesuffix(suffix)])
    return chosen.set_index(keys).sort_index()
