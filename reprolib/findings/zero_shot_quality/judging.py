"""How raw zero-shot quality judges: rank correlations over networks; capsules also by raw lengths; margins as shape bias found them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from reprolib import store
from reprolib.judging.audit import read_results
from reprolib.judging.controls import Control
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import Claim
from reprolib.judging.quantities import Correlation
from reprolib.measures.effects import Absent
from reprolib.measures.verdicts import OPEN

OWN = "ZSQ-1"
"""The claim under which the metrics of every network are kept."""
RAW = "dbm_raw"

QUANTITIES: Mapping[str, Correlation] = {
    "dbm_with_distance": Correlation("dbm", "minimal_l2", x_rows=OWN),
    "matched_with_distance": Correlation("dbm_matched", "minimal_l2", x_rows=OWN),
    "am_with_distance": Correlation("am", "minimal_l2", x_rows=OWN),
    "dbm_with_distance@pearson": Correlation("dbm", "minimal_l2", x_rows=OWN, method="pearson"),
    "dbm_with_distance@given_confidence": Correlation("dbm", "minimal_l2", x_rows=OWN, given="confidence"),
    "dbm_with_error": Correlation("dbm", "adversarial_error", x_rows=OWN),
    "dbm_with_pixel_error": Correlation("dbm", "pixel_error", x_rows=OWN),
    "accuracy_with_dbm": Correlation("clean_accuracy", "dbm", x_rows="ZSQ-3", y_rows=OWN),
    "accuracy_with_am": Correlation("clean_accuracy", "am", x_rows="ZSQ-3", y_rows=OWN),
}


def normalisation(claim: Claim, evidence: Evidence) -> Control:
    """Whether raw capsule lengths lie on the same side of the other networks as normalised ones, at matched entropy."""
    turned = []
    for part in claim.deciding():
        pair = [evidence.effect(one) for one in (part, replace(part, quantity=RAW))]
        if any(isinstance(one, Absent) for one in pair):
            return Control("normalisation", "not measured", why=f"{part.name}: lengths not measured")
        normalised, raw = (one.estimate for one in pair if not isinstance(one, Absent))
        turned += [part.name] if normalised * raw <= 0 else []
    return Control(
        "normalisation", "failed" if turned else "passed", why=f"raw lengths turn the sign against {', '.join(turned)}" if turned else ""
    )


def margin(claim: Claim, evidence: Evidence) -> Control:
    """What the committed evidence on shape bias says of the same control: whether its shift follows the margins; open where there is none."""
    folder = store.root() / "figures" / evidence.scale / "shape_bias"
    if not (folder / "results.json").is_file():
        return Control("margin", OPEN, why=f"shape bias is not measured at {evidence.scale}")
    controls = next(one for one in read_results(folder)["claims"] if one["id"] == "SHP-1")["controls"]
    state = next(one["state"] for one in controls if one["name"] == "margin").partition(" (")[0]
    known = state in (OPEN, "ruled out", "does the same")
    return Control("margin", state if known else OPEN, why="" if known else f"shape bias: {state}")


CONDITIONS: Mapping[str, Callable[[Claim, Evidence], Control]] = {"normalisation": normalisation}
CONTROLS: Mapping[str, Callable[[Claim, Evidence], Control]] = {"margin": margin}
