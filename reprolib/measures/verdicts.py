"""From an interval to words: does it hold, and does only adversarial training do it?

Two questions, two answers. The first is read from one interval and the smallest effect that counts; the second, asked only of what
holds, from where each control network lies between the standard and the robust ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reprolib.errors import BadInput, nearest
from reprolib.measures.effects import Absent, Effect, reach

PLACES = {
    "greater": ("beyond ", "beyond -"),
    "less": ("beyond -", "beyond "),
    "inside": ("inside +-", "outside +-"),
    "not_below": ("above -", "below -"),
}
"""Where an interval lies that supports a claim of each direction, and one that contradicts it: to be followed by the smallest effect."""
DIRECTIONS = tuple(PLACES)
VERDICTS = ("contradicted", "negligible", "not run", "inconclusive", "supported")  # the worst part of many comes first
RULED_OUT, SAME, OPEN, NOT_APPLICABLE = "ruled out", "does the same", "open", "not applicable"
FALLS_SHORT = {"failed": "failed", "not measured": "was not measured", OPEN: "is open"}
CHECKS = ("passed", *FALLS_SHORT, NOT_APPLICABLE)
LEAST_UNITS = 8  # for a verdict
LEAST_OF_TRENDS = 3  # networks an arm
MOST_NETWORKS = 50  # an arm, that a forecast names
TRAINED = {"gauss": "noise-trained", "blur": "blur-trained", "label_smoothing": "label smoothing", "std_matched": "accuracy-matched"}
NUMBERS = ("no", "one", "two", "three")


@dataclass(frozen=True)
class Verdict:
    """An answer: the verdict with its short name in brackets, and one sentence why.

    room: how far the interval clears what it must clear, in smallest effects, below 0 where it does not: it tells the weaker of two parts
    with one verdict; -inf without an interval.
    """

    verdict: str
    reason: str
    room: float = -math.inf

    @property
    def word(self) -> str:
        """The verdict without what is in brackets."""
        return self.verdict.partition(" (")[0]


@dataclass(frozen=True)
class Share:
    """The share of an effect that a control explains, (control - standard)/(robust - standard), and the ends of its interval."""

    share: float
    low: float
    high: float


def verdict(effect: Effect | Absent, smallest: float, direction: str) -> Verdict:
    """Does it hold? supported, contradicted, negligible or inconclusive; not run where there is no effect.

    smallest: the smallest effect that counts, for "inside" and "not_below" (statements of sameness) the margin.
    """
    if direction not in DIRECTIONS:
        raise BadInput(f"direction={direction!r} is not allowed{nearest(direction, DIRECTIONS)}; allowed: {', '.join(DIRECTIONS)}")
    if not smallest >= 0:
        raise BadInput(f"smallest={smallest} is negative: the direction carries the sign")
    if isinstance(effect, Absent):
        return Verdict(f"not run ({effect.why})", effect.why)
    if few := too_few(effect):
        where = "an arm has" if effect.counted == "network" else "there are" if effect.k > 1 else "there is"
        return Verdict(f"inconclusive ({few})", f"{where} {few}, an interval needs {effect.needs}")
    if effect.n < LEAST_UNITS:
        return Verdict(f"inconclusive (fewer than {LEAST_UNITS} units)", f"{effect.n} units, a verdict needs {LEAST_UNITS}")
    low, high = effect.low, effect.high
    room = _room(low, high, smallest, direction)
    clears = room >= 0 if direction == "inside" else room > 0
    above, below = low > smallest, high < -smallest
    against = {"less": above, "inside": above or below}.get(direction, below)
    place, opposite = (f"{where}{smallest:.3g}" if smallest else f"{where.rstrip('+-')}0" for where in PLACES[direction])
    if clears:
        word, why = "supported", f"lies {place}"
    elif against:
        word, why = "contradicted", f"lies {opposite}, against the claim"
    elif direction in ("greater", "less") and -smallest <= low and high <= smallest:
        word, why = "negligible", f"lies within +-{smallest:.3g}"
    else:
        gap = _room(effect.estimate, effect.estimate, smallest, direction)
        word, why = "inconclusive", f"does not lie {place}" + (f"; {_forecast(effect, gap)}" if gap > 0 else "")
    if effect.doubt and word != "inconclusive":
        word, why = "inconclusive", f"{why}, but {effect.doubt}"
    return Verdict(word, f"the interval [{low:.3g}, {high:.3g}] {why}", -math.inf if math.isnan(room) else room / (smallest or 1.0))


def too_few(effect: Effect) -> str:
    """How many networks, or pairs, there are where they are too few for an interval that decides: "one network"; else an empty text."""
    return f"{NUMBERS[effect.k]} {effect.counted}{'s' if effect.k > 1 else ''}" if effect.k < effect.needs else ""


def after_checks(found: Verdict, checks: Mapping[str, str]) -> Verdict:
    """What is supported stays so only where every check (converged, calibrated, ...) passed; checks: name -> one of CHECKS."""
    for name, state in checks.items():
        if state not in CHECKS:
            raise BadInput(f"check {name} has state {state!r}: allowed are {', '.join(CHECKS)}")
    short = {name: state for name, state in checks.items() if state in FALLS_SHORT}
    if found.word != "supported" or not short:
        return found
    why = ", ".join(f"check {name} {FALLS_SHORT[state]}" for name, state in short.items())
    return replace(found, verdict=f"inconclusive (check {', '.join(short)})", reason=f"{found.reason}, but {why}")


def worst(parts: Mapping[str, Verdict]) -> str:
    """The name of the part that decides under rule "all": contradicted, negligible, not run, inconclusive, supported, in that order.

    Among parts of one verdict: the one whose interval goes least far.
    """
    if not parts:
        raise BadInput('rule "all" needs at least one part that applies')
    return min(parts, key=lambda name: (VERDICTS.index(parts[name].word), parts[name].room))


def trend(
    main_standard: Effect | Absent, small_standard: Effect | Absent, main_small: Effect | Absent, smallest: float, direction: str
) -> Verdict:
    """Does it grow with the radius? Three differences of arms (the main radius, a small one, standard), each as named.

    Supported: main minus standard lies beyond smallest, small minus standard beyond 0, main minus small above -smallest (it may level
    off, not turn back). Else the worst of the three. Three networks an arm.
    """
    if direction not in ("greater", "less"):
        raise BadInput(f"direction={direction!r}: a trend is greater or less")
    named = {"main minus standard": main_standard, "small minus standard": small_standard, "main minus small": main_small}
    fewest = min((one.k for one in named.values() if isinstance(one, Effect)), default=LEAST_OF_TRENDS)
    if fewest < LEAST_OF_TRENDS:
        few = f"{NUMBERS[fewest]} network{'s' if fewest > 1 else ''}"
        return Verdict(f"inconclusive ({few})", f"an arm has {few}, a trend needs {LEAST_OF_TRENDS}")
    back = main_small
    if direction == "less" and isinstance(back, Effect):
        back = replace(back, estimate=-back.estimate, low=-back.high, high=-back.low)
    parts = {
        "main minus standard": verdict(main_standard, smallest, direction),
        "small minus standard": verdict(small_standard, 0.0, direction),
        "main minus small": verdict(back, smallest, "not_below"),
    }
    name = worst(parts)
    return replace(parts[name], reason=f"{name}: {parts[name].reason}")


def control_state(half_way: Effect | Absent, robust_minus_standard: float) -> str:
    """Does a control network do the same? half_way: (m_robust + m_standard)/2 - m_control, `effects.HALF_WAY`.

    Ruled out: its interval lies beyond 0 on the robust side (the control is nearer to standard networks); does the same: on the other
    side; else open, as with one control network, fewer than three pairs or fewer than 8 units.
    """
    if isinstance(half_way, Absent):
        return OPEN if half_way.applicable else NOT_APPLICABLE
    if robust_minus_standard == 0 or half_way.n < LEAST_UNITS or half_way.k < half_way.needs:
        return OPEN
    near, far = sorted(math.copysign(1.0, robust_minus_standard) * end for end in (half_way.low, half_way.high))
    return RULED_OUT if near > 0 else SAME if far < 0 else OPEN  # an interval of nan is on neither side


def state_of_claim(found: Verdict) -> str:
    """The state of a control that is another claim: ruled out when it is supported, doing the same when contradicted or negligible."""
    return {"supported": RULED_OUT, "contradicted": SAME, "negligible": SAME}.get(found.word, OPEN)


def margin_state(even: Effect | Absent, twice: Effect | Absent, smallest: float, direction: str) -> str:
    """The state of control `margin`, from the shifts where shape's margin is once (1:1) and half (1:2) the texture's.

    Ruled out: both lie beyond 0 on the claimed side; does the same: that at 1:2 lies within +- smallest or beyond 0 on the other side
    (asked first: a shift at 1:2 too small to count follows the margin); else open, also without a shape answer in either arm there.
    """
    if isinstance(even, Absent) or isinstance(twice, Absent) or min(even.n, twice.n) < LEAST_UNITS or at_floor(twice):
        return OPEN
    if verdict(twice, smallest, direction).word == "negligible" or verdict(twice, 0.0, direction).word == "contradicted":
        return SAME
    both = all(verdict(one, 0.0, direction).word == "supported" for one in (even, twice))
    return RULED_OUT if both else OPEN


def at_floor(effect: Effect | Absent) -> bool:
    """Whether every network has 0, so that nothing could have become smaller: shape bias without a shape answer."""
    values = [value for networks in effect.networks.values() for value in networks.values()] if isinstance(effect, Effect) else []
    return bool(values) and not any(values)


def share_explained(half_way: Effect, robust_minus_standard: float) -> Share:
    """What a control explains of an effect, with the interval that its state is read from: below one half it is ruled out.

    (control - standard)/(robust - standard) = 1/2 - half_way/(robust - standard), so the ends are those of half_way, moved along.
    """
    if robust_minus_standard == 0:
        raise BadInput("robust minus standard is 0: no share of it can be explained")
    low, high = sorted(0.5 - end / robust_minus_standard for end in (half_way.low, half_way.high))
    return Share(0.5 - half_way.estimate / robust_minus_standard, low, high)


def specificity(found: Verdict, states: Mapping[str, str], shares: Mapping[str, float] | None = None) -> str:
    """Does only adversarial training do it? "specific", "not specific (noise-trained 62 %)", "open (blur-trained)".

    Asked where the claim is supported or contradicted, and of the controls that apply; else an empty text.
    states: control -> its state; shares: control -> the share it explains, of those that have one.
    """
    asked = {name: state for name, state in states.items() if state != NOT_APPLICABLE}
    if unknown := [state for state in asked.values() if state not in (RULED_OUT, SAME, OPEN)]:
        raise BadInput(f"state {unknown[0]!r} of a control is not allowed: give {RULED_OUT}, {SAME}, {OPEN} or {NOT_APPLICABLE}")
    if found.word not in ("supported", "contradicted") or not asked:
        return ""
    for state, answer in ((SAME, "not specific"), (OPEN, "open")):
        if short := [name for name in asked if asked[name] == state]:
            shown = [TRAINED.get(name, name) + (f" {round(100 * shares[name])} %" if shares and name in shares else "") for name in short]
            return f"{answer} ({', '.join(shown)})"
    return "specific"


def _forecast(effect: Effect, gap: float) -> str:
    """The networks an arm, or pairs, with which half the interval would fit into the gap, were estimate and scatter to stay."""
    for k in range(effect.k + 1, MOST_NETWORKS + 1):
        terms = [(variance / max(k, now), max(k, now) - 1) for variance, now in effect.arms]
        if reach([*terms, (effect.v_item, effect.n - 1)])[0] < gap:
            return f"{k} {'networks an arm' if effect.counted == 'network' else f'{effect.counted}s'} would tell it apart"
    return "more units would be needed"


def _room(low: float, high: float, smallest: float, direction: str) -> float:
    """How far the whole of low to high lies on the claimed side of what it must clear."""
    if direction == "inside":
        return smallest - max(-low, high)
    return {"greater": low - smallest, "less": -high - smallest}.get(direction, low + smallest)
