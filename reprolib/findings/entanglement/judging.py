"""How entanglement judges: AUROCs and their differences, transfer between networks of one arm; pooling, masking and modes as checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from reprolib.errors import BadInput
from reprolib.judging.controls import Control
from reprolib.judging.evidence import TOLERANCE, Evidence
from reprolib.judging.ledger import Claim, Contrast
from reprolib.judging.quantities import Made, auroc, difference, minus, reached_auroc
from reprolib.measures.effects import Absent, Effect, Member, NetworkValue
from reprolib.measures.quantities import of_ratio
from reprolib.measures.verdicts import OPEN, verdict

OUTSIDE = ("outlier", "texture", "fashion", "adversarial")
"""Sets that are told from ordinary images; the first decides."""
SCORES = ("credibility", "late_credibility", "support", "energy")
"""Each is lower outside, like the largest softmax probability, against which they are held."""
MASKED = 0.05  # accuracy, as much as ENT-11 calls an effect, by which no weaker or longer attack may beat the one that judges
FEWER = 1.0  # modes by which the collapsing generator must fall short

TRANSFER = "transfer_rate"


def _alarm(score: str, outside: str) -> Made:
    """AUROC of a score, images that the network has right against others."""
    return reached_auroc(f"{score}@{outside}", f"{score}@id")


QUANTITIES: Mapping[str, Made] = {
    **{
        f"last_minus_first_third{pooled}": minus(f"entanglement_last{pooled}", f"entanglement_first_third{pooled}")
        for pooled in ("", "@pooled")
    },
    **{f"{of}_auroc@{outside}": auroc(f"{of}@{outside}", f"{of}@id") for of in ("support", "support_last_third") for outside in OUTSIDE},
    "support_auroc@outlier@pooled": auroc("support_pooled@outlier", "support_pooled@id"),
    **{f"credibility_auroc@{outside}": _alarm("credibility", outside) for outside in OUTSIDE},
    **{
        f"{score}_minus_softmax@{outside}": difference(_alarm(score, outside), _alarm("softmax", outside))
        for score in SCORES
        for outside in OUTSIDE
    },
}


def is_of_pairs(quantity: str) -> bool:
    """Whether a quantity is of two networks."""
    return quantity == TRANSFER


is_index = is_of_pairs


def rows_of(quantity: str) -> str:
    """The quantity under which a network's own rows are kept."""
    return "transferred" if quantity == TRANSFER else quantity


class Indices:
    """Transfer rates of pairs of networks, from rows of the networks that perturbations were made for.

    rows: (claim, quantity) -> frame or None; an image a unit, "<role>:<seed>" of the network they are shown to in unit_2, reached where
    they succeeded on their own.
    """

    def __init__(self, rows: Callable[[str, str], pd.DataFrame | None]) -> None:
        self._rows = rows

    def of_pairs(self, contrast: Contrast) -> dict[str, dict[tuple[Member, Member], NetworkValue | Absent]] | Absent:
        """By kind of pair, in the order that weights count them: "within" has two networks of each arm, "alike" one of either.

        Of two networks of one arm both directions count as one pair.
        """
        rows = self._rows(contrast.claim, rows_of(contrast.quantity))
        if rows is None:
            return Absent("not measured")
        pairs: dict[tuple[str, str], dict[tuple[Member, Member], list[pd.DataFrame]]] = {}
        for _, of_pair in rows.groupby(["arm", "seed", "unit_2"], sort=True):
            arm, seed, shown_to = of_pair.iloc[0][["arm", "seed", "unit_2"]]
            other, _, other_seed = shown_to.partition(":")
            pair = (arm, int(seed)), (other, int(other_seed))
            key = (min(pair), max(pair)) if arm == other else pair
            pairs.setdefault((arm, other), {}).setdefault(key, []).append(of_pair)
        first, second = contrast.arms
        kinds = {f"within {arm}": (arm, arm) for arm in contrast.arms} if contrast.statistic == "within" else {"across": (first, second)}
        if missing := [name for name, arms in kinds.items() if arms not in pairs]:
            return Absent(f"{', '.join(missing)} not measured")
        return {name: {pair: _rate(pair, of) for pair, of in pairs[arms].items()} for name, arms in kinds.items()}

    def remark(self, contrast: Contrast) -> str:
        """Nothing to add."""
        return ""


def _rate(pair: tuple[Member, Member], frames: list[pd.DataFrame]) -> NetworkValue | Absent:
    """The share of perturbations that fool the other network too, among those that succeeded on their own; both directions together."""
    name = " and ".join(f"{arm} {seed}" for arm, seed in pair)
    units = [frame.sort_values("unit") for frame in frames]
    if any(list(one["unit"]) != list(units[0]["unit"]) for one in units):
        raise BadInput(f"{name}: both directions need the same images")
    reached = np.stack([one["reached"].to_numpy(dtype=np.float64) for one in units], axis=1)
    values = np.stack([one["value"].to_numpy(dtype=np.float64) for one in units], axis=1)
    return of_ratio(name, values * reached, reached)


def pooling(claim: Claim, evidence: Evidence) -> Control:
    """Whether the effect has the same sign where every map is averaged over its positions, and distances see channels alone."""
    found = evidence.effect(replace(claim.contrast, quantity=f"{claim.quantity}@pooled"))
    return _same_sign("pooling", "on maps averaged over their positions", found, claim)


def temperature(claim: Claim, evidence: Evidence) -> Control:
    """Whether the effect has the same sign at the highest temperature at which clean layers are as good: the lowest one tried may be an accident."""
    found = evidence.effect(replace(claim.contrast, quantity=f"{claim.quantity}@wide"))
    return _same_sign("temperature", "at the highest temperature as good", found, claim)


def _same_sign(name: str, where: str, found: Effect | Absent, claim: Claim) -> Control:
    if isinstance(found, Absent):
        return Control(name, "not measured", why=found.why)
    word = verdict(found, 0.0, claim.direction).word
    state = {"supported": "passed", "contradicted": "failed"}.get(word, OPEN)
    return Control(name, state, why=f"{where} {found.estimate:.2g} [{found.low:.2g}, {found.high:.2g}]")


def masking(claim: Claim, evidence: Evidence) -> Control:
    """Whether no network compared only hides its gradients: neither noise nor another network's perturbations beat its own attack, nor do more steps."""
    tables = {kind: evidence.rows("ENT-11", f"masking_{kind}") for kind in ("white_box", "noise", "transfer", "more_steps")}
    own = tables.pop("white_box")
    if own is None or any(table is None for table in tables.values()):
        return Control("masking", "not measured", why="noise, more steps and other networks' perturbations were not tried")
    accuracy = own.groupby(["arm", "network", "unit"])["value"].mean()
    accuracy = accuracy[accuracy.index.get_level_values("arm").isin(list(claim.arms))]
    worse = []
    for kind, table in tables.items():
        assert table is not None
        other = table.groupby(["arm", "network", "unit"])["value"].mean().reindex(accuracy.index)
        beaten = (accuracy - other).dropna()
        beaten = beaten[beaten > MASKED + TOLERANCE]
        told = beaten.rename("by").reset_index()
        worse += [
            f"{kind.replace('_', ' ')} beats the attack on {network} ({arm}) by {100 * by:.1f} points"
            for arm, network, by in zip(told["arm"], told["network"], told["by"], strict=True)
        ]
    arms = set(accuracy.index.get_level_values("arm"))
    if set(claim.arms) - arms:
        return Control("masking", "not measured", why=f"not tried on {', '.join(sorted(set(claim.arms) - arms))}")
    return Control("masking", "failed" if worse else "passed", why="; ".join(worse))


def modes_hit(claim: Claim, evidence: Evidence) -> Control:
    """Whether the setting that is to collapse did: fewer modes hit than by the healthy one."""
    group = evidence.rows(claim.id, "modes_hit")
    if group is None:
        return Control("modes_hit", "not measured", why="modes were not counted")
    modes = group.groupby("arm")["value"].mean()
    if set(claim.arms) - set(modes.index):
        return Control("modes_hit", "not measured", why="modes were not counted in both settings")
    few, many = (float(modes[arm]) for arm in claim.arms)
    why = f"{few:.1f} modes of 8 in the collapsing setting, {many:.1f} in the healthy one"
    return Control("modes_hit", "passed" if many - few >= FEWER - TOLERANCE else "failed", why=why)


CONDITIONS: Mapping[str, Callable[[Claim, Evidence], Control]] = {
    "pooling": pooling,
    "temperature": temperature,
    "masking": masking,
    "modes_hit": modes_hit,
}
