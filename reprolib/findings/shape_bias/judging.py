"""How shape bias judges: ratios over the rows that a network reached; both cues must be equally easy to learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reprolib.data import shapetexture
from reprolib.judging.controls import Control
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import Claim
from reprolib.judging.quantities import EVEN, TWICE, Made, margin, ratio, share_reached
from reprolib.measures.quantities import of_mean

EQUALLY_LEARNT = 0.05  # largest difference of the accuracies that each cue alone reaches after one budget

FAMILIES = {"gratings": ("grating_0", "grating_45", "grating_90", "grating_135")} | {
    name: (name,) for name in ("checker", "dots", "blobs", "noise")
}
"""Textures of the procedural world that differ in more than orientation."""

_ASKED = ("", "@10", "@both", "@tinycnn", "@lenet", "@net14", "@2:1", EVEN, TWICE, *(f"@{family}" for family in FAMILIES))
_RETAINED = ("scrambled_2", "scrambled_4", "lowpass", "highpass", "shape_neutral", "shape_flat", "silhouette", "contour")
_LOST = ("high", "noise", "blur", "contrast", "jpeg", "pixelate")


def _share(cue: int) -> Callable[..., Made]:
    """The share of all stimuli that are answered by one cue: 1 shape, 0 texture."""
    return lambda of: Made((of,), lambda name, got, resampled: of_mean(name, got[1] * (got[0] == cue), resampled), with_reached=True)


QUANTITIES: Mapping[str, Made] = {
    **{
        f"{quantity}{at}": made(f"answers{at}")
        for quantity, made in {"shape_bias": ratio, "coverage": share_reached, "by_shape": _share(1), "by_texture": _share(0)}.items()
        for at in _ASKED
    },
    **{f"retention@{variant}{at}": ratio(f"right@{variant}{at}") for variant in _RETAINED for at in ("", EVEN, TWICE)},
    **{f"loss@{family}": ratio(f"lost@{family}") for family in _LOST},
    "loss_high_minus_low": ratio("lost@high_minus_low"),
}
"""Rows `answers`: 1 by shape, 0 by texture, reached where by either. `right`, `lost`: of a distorted image, reached where right on the clean one."""


def learnt() -> str:
    """What the committed calibration found of each cue alone, in one sentence: how equally, and how robustly, it can be learnt."""
    told = shapetexture.calibration()
    alone = " and ".join(f"{found['adversarial']:.2f} on {cue}" for cue, found in told["robust"].items())
    gap = f"single cues differ by {100 * abs(told['learnt']['gap']):.1f} points of accuracy after one budget, 5 are allowed"
    return f"{gap}; a network trained adversarially on one cue alone keeps an accuracy of {alone} under PGD-20"


def calibrated(claim: Claim, evidence: Evidence) -> Control:
    """Whether the committed calibration found both cues equally easy to learn alone."""
    if evidence.scale != "laptop":
        return Control("calibrated", "not applicable", why="the images are not of the calibrated world")
    gap = abs(shapetexture.calibration()["learnt"]["gap"])
    return Control("calibrated", "passed" if gap <= EQUALLY_LEARNT else "failed", why=learnt())


CONDITIONS: Mapping[str, Callable[[Claim, Evidence], Control]] = {"calibrated": calibrated}
CONTROLS: Mapping[str, Callable[[Claim, Evidence], Control]] = {"margin": margin}
