"""How block structure judges: indices of CKA matrices, made from rows of batch HSICs; a pair of networks must have overfitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reprolib.findings.block_structure.quantities import QUANTITIES, is_index, is_of_pairs, rows_of
from reprolib.findings.block_structure.similarity import Similarities as Indices
from reprolib.judging.controls import Control
from reprolib.judging.evidence import TOLERANCE, Evidence
from reprolib.judging.ledger import Claim

__all__ = ["CONDITIONS", "QUANTITIES", "Indices", "is_index", "is_of_pairs", "rows_of"]

OVERFITTED = 0.995  # least train accuracy of a standard network that has overfitted
FALLEN = 0.02  # least adversarial accuracy that a robust one has lost from its best to its last checkpoint


def overfitted(claim: Claim, evidence: Evidence) -> Control:
    """Whether the standard networks of a claim's arms fit every training image, and its robust ones fell after their best checkpoint."""
    fitted = evidence.rows("overfitting", "train_accuracy")
    attacked = evidence.rows("overfitting", "adversarial_accuracy")
    failing, without = [], []
    standard = evidence.networks(claim.contrast, [arm for arm in claim.arms if arm == "standard"])
    robust = evidence.networks(claim.contrast, [arm for arm in claim.arms if arm != "standard"])
    for network in standard:
        accuracy = None if fitted is None else fitted.loc[fitted["network"] == network, "value"]
        if accuracy is None or accuracy.empty:
            without.append(network)
        elif accuracy.min() < OVERFITTED - TOLERANCE:
            failing.append(f"{network} is right on {100 * accuracy.min():.1f} % of its training images, not on {100 * OVERFITTED:.1f} %")
    for network in robust:
        found = {} if attacked is None else attacked[attacked["network"] == network].groupby("unit_2")["value"].mean().to_dict()
        if not {"best", "last"} <= set(found):
            without.append(network)
            continue
        fall = float(found["best"] - found["last"])
        if fall < FALLEN - TOLERANCE:
            failing.append(f"{network} falls by {100 * fall:.1f} points from its best checkpoint to its last, not by {100 * FALLEN:.0f}")
    if failing:
        return Control("overfitted", "failed", why=", ".join(failing))
    if without or not standard or not robust:
        return Control("overfitted", "not measured", why=f"not measured for {', '.join(without) or 'any network'}")
    return Control("overfitted", "passed")


CONDITIONS: Mapping[str, Callable[[Claim, Evidence], Control]] = {"overfitted": overfitted}
