"""The rule that turns an effect into a verdict: parts (a) to (d), control states, what would settle it.

(a) the interval lies beyond the smallest effect in the claimed direction; (b) the sign holds in every seed pair;
(c) the effect exceeds twice the largest difference between two seeds of one arm; (d) the controls passed.
Images resampled inside a few fixed networks know nothing of seeds: (b) and (c) are there for that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reprolib.errors import BadInput
from reprolib.measures.statistics import VERDICT_UNITS, Effect, Interval

DIRECTIONS = ("greater", "less", "inside")
STATES = ("passed", "failed", "undecided", "not applicable")
VERDICTS = ("supported", "contradicted", "confounded", "negligible", "inconclusive", "not run")
MANY = 99  # seeds or units beyond which a forecast says no more than "many"


@dataclass(frozen=True)
class Conditions:
    """Which of (a), (b), (c) hold: as claimed, and mirrored; unmet says in words why one does not hold as claimed."""

    claimed: Mapping[str, bool]
    mirrored: Mapping[str, bool]
    negligible: bool
    n_units: int
    unmet: Mapping[str, str]


def sign_of(direction: str) -> int:
    """+1 for "greater", -1 for "less", 0 for "inside" (a statement of sameness)."""
    if direction not in DIRECTIONS:
        raise BadInput(f"direction={direction!r} is not allowed: give one of {', '.join(DIRECTIONS)}")
    return {"greater": 1, "less": -1, "inside": 0}[direction]


def conditions(effect: Effect, smallest: float, direction: str) -> Conditions:
    """Check (a), (b) and (c) of an effect against its smallest effect (for "inside": the margin; (c) is not asked there).

    With one network in an arm (b) and (c) cannot hold, nor can an effect be negligible.
    """
    sign, interval = sign_of(direction), effect.interval
    estimates = [pair.estimate for pair in effect.pairs]
    seeds = effect.n_networks > 1
    spread = 2 * max(map(abs, effect.same_arm), default=math.inf)
    inside = -smallest <= interval.low and interval.high <= smallest
    pairs_inside = all(abs(value) <= smallest for value in estimates)
    one_seed = "one network in an arm: no second seed to compare with"
    if sign == 0:
        beyond = interval.low > smallest or interval.high < -smallest
        claimed = {"a": inside, "b": seeds and pairs_inside, "c": seeds}
        mirrored = {"a": beyond, "b": seeds and not any(abs(value) <= smallest for value in estimates), "c": seeds}
        why = {
            "a": f"interval {_range(interval)} is not inside +-{smallest:.3g}",
            "b": f"{sum(abs(value) > smallest for value in estimates)} of {len(estimates)} seed pairs lie outside the margin",
            "c": one_seed,
        }
    else:
        beyond_spread = seeds and abs(interval.estimate) > spread
        claimed = {"a": _beyond(interval, smallest, sign), "b": seeds and all(sign * v > 0 for v in estimates), "c": beyond_spread}
        mirrored = {"a": _beyond(interval, smallest, -sign), "b": seeds and all(sign * v < 0 for v in estimates), "c": beyond_spread}
        why = {
            "a": f"interval {_range(interval)} is not beyond {sign * smallest:.3g} in the claimed direction",
            "b": f"the sign is not the claimed one in {sum(sign * value <= 0 for value in estimates)} of {len(estimates)} seed pairs",
            "c": f"the effect {interval.estimate:.3g} is not above twice the largest difference between two seeds of an arm, {spread:.3g}",
        }
    if not seeds:
        why |= {"b": one_seed, "c": one_seed}
    negligible = sign != 0 and seeds and inside and pairs_inside
    return Conditions(claimed, mirrored, negligible, interval.n, {part: why[part] for part, holds in claimed.items() if not holds})


def all_of(parts: Mapping[str, Conditions]) -> Conditions:
    """Rule "all": a part of the rule holds when it holds in every one of the named quantities."""
    if not parts:
        raise BadInput('rule "all" needs at least one applicable part')
    each = parts.values()
    if len(parts) == 1:
        return next(iter(each))
    unmet: dict[str, str] = {}
    for letter in "abc":
        lines = [f"{name}: {found.unmet[letter]}" for name, found in parts.items() if letter in found.unmet]
        if lines:
            unmet[letter] = "; ".join(lines)
    return Conditions(
        {letter: all(found.claimed[letter] for found in each) for letter in "abc"},
        {letter: all(found.mirrored[letter] for found in each) for letter in "abc"},
        all(found.negligible for found in each),
        min(found.n_units for found in each),
        unmet,
    )


def control_state(interval: Interval, sign: int, effect: float | None = None) -> str:
    """State of a control with its own interval; sign: the claimed direction; effect: the claim's, on the same quantity.

    Passed: the interval lies beyond 0 as claimed. Failed: the estimate is at or below 0, or below a quarter of the
    claim's effect with the far end of the interval below half of it. Undecided: else, or too few units.
    """
    near, far = sorted((sign * interval.low, sign * interval.high))
    if interval.n < VERDICT_UNITS:
        return "undecided"
    if near > 0:
        return "passed"
    if sign * interval.estimate <= 0:
        return "failed"
    if effect is not None and sign * interval.estimate < sign * effect / 4 and far < sign * effect / 2:
        return "failed"
    return "undecided"


def decide(found: Conditions, controls: Mapping[str, str], mirrored_controls: Mapping[str, str]) -> tuple[str, str]:
    """(verdict, reason) from the rule's parts and the controls' states in the claimed and in the mirrored direction.

    The verdict carries its short name in brackets: "confounded (gauss)", "inconclusive (a, c)", "inconclusive (control INV-10)".
    """
    _check_states(controls)
    _check_states(mirrored_controls)
    if found.n_units < VERDICT_UNITS:
        return f"inconclusive (fewer than {VERDICT_UNITS} units)", f"{found.n_units} units: no verdict below {VERDICT_UNITS}"
    if all(found.claimed.values()):
        if failed := _named(controls, "failed"):
            return f"confounded ({failed})", f"(a) to (c) hold, but control {failed} failed"
        if undecided := _named(controls, "undecided"):
            return f"inconclusive (control {undecided})", f"(a) to (c) hold; (d) control {undecided} is undecided or not measured"
        return "supported", "(a) to (d) hold"
    if all(found.mirrored.values()):
        if short := _named(mirrored_controls, "failed", "undecided"):
            return f"inconclusive (control {short})", f"(a) to (c) hold in the opposite direction; (d) control {short} did not pass"
        return "contradicted", "(a) to (d) hold in the direction opposite to the claim"
    if found.negligible:
        return "negligible", "the interval and every seed pair lie within the smallest effect that counts"
    letters = [letter for letter in "abc" if letter in found.unmet]
    lines = [f"({letter}) {found.unmet[letter]}" for letter in letters]
    if short := _named(controls, "failed", "undecided"):
        letters.append("d")
        lines.append(f"(d) control {short} did not pass")
    return f"inconclusive ({', '.join(letters)})", "; ".join(lines)


def detectable_effect(effect: Effect, smallest: float) -> float:
    """The smallest effect these data could have shown: half the interval beyond the smallest effect, and part (c)."""
    reach = (effect.interval.high - effect.interval.low) / 2
    return max(smallest + reach, 2 * max(map(abs, effect.same_arm), default=0.0))


def what_would_settle(effect: Effect, smallest: float, minutes_per_network: float | None = None, n_arms: int = 2) -> str:
    """A forecast in words: the seeds an arm (and hours, when a network's minutes are known) and the units it would take.

    Seeds: so many that 1.96 standard errors of the mean over seeds fit between the estimate and the smallest effect;
    units: so many that half the interval does. Both assume that the estimate and the spreads stay as they are, and
    neither promises (c), which more seeds of the same spread never make easier.
    """
    size = abs(effect.interval.estimate)
    gap = abs(size - smallest)
    if effect.n_networks < 2:
        return "at least 2 seeds in each arm would be needed" + _hours(2 - effect.n_networks, n_arms, minutes_per_network)
    if gap == 0:
        return f"an estimate equal to the smallest effect {smallest:.3g} is not settled by any number of seeds"
    seeds = max(2, math.ceil(1.96**2 * effect.seed_variance / gap**2))
    reach = (effect.interval.high - effect.interval.low) / 2
    units = math.ceil(effect.interval.n * (reach / gap) ** 2) if reach > gap else effect.interval.n
    wanted = []
    if seeds > effect.n_networks:
        more = f"more than {MANY}" if seeds > MANY else f"about {seeds}"
        wanted.append(f"{more} seeds in each arm{_hours(seeds - effect.n_networks, n_arms, minutes_per_network) if seeds <= MANY else ''}")
    if units > effect.interval.n:
        wanted.append(f"about {units} units" if units <= MANY * effect.interval.n else f"more than {MANY} times the units")
    if wanted:
        return f"{' and '.join(wanted)} would tell it from the smallest effect, were estimate and spread to stay"
    return "more seeds of the same spread would not settle it"


def _beyond(interval: Interval, smallest: float, sign: int) -> bool:
    return min(sign * interval.low, sign * interval.high) > smallest


def _range(interval: Interval) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"


def _named(controls: Mapping[str, str], *states: str) -> str:
    return ", ".join(name for state in states for name, found in controls.items() if found == state)


def _hours(more: int, n_arms: int, minutes: float | None) -> str:
    return "" if minutes is None else f" ({more * n_arms * minutes / 60:.1f} hours of training)"


def _check_states(controls: Mapping[str, str]) -> None:
    for name, state in controls.items():
        if state not in STATES:
            raise BadInput(f"control {name} has state {state!r}: allowed are {', '.join(STATES)}")
