"""What each bias becomes with the radius that a network was trained at."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from reprolib.figures import charts, style
from reprolib.figures.reading import of_claim
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import load_claims
from reprolib.measures.effects import NetworkValue
from reprolib.training.recipes import recipe

PANELS = {
    "SIM-1": "high-frequency share",
    "SIM-2": "response to noise",
    "SIM-4": "low-level share",
    "SIM-6": "diversity",
}


@style.housed
def trends(rows: pd.DataFrame) -> Figure:
    """Each claim's own number of every network against its training radius, a panel a claim; the line through the means.

    Networks without such a number (no detector) are left out, and so are panels without two radii.
    """
    found = {claim: values_of(rows, claim) for claim in PANELS if (rows["claim"] == claim).any()}
    found = {claim: table for claim, table in found.items() if table["eps"].nunique() > 1}
    figure = style.figure(style.WIDE, 2.4)
    for ax, (claim, table) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        charts.by_radius(table, ax)
        ax.set_title(f"{claim}\n{PANELS[claim]}")
        ax.set_xlabel("training radius, L2")
    handles = charts.radius_keys([arm for table in found.values() for arm in table["arm"]])
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def values_of(rows: pd.DataFrame, claim: str) -> pd.DataFrame:
    """A row a network of the radii, on the quantity that decides a claim: arm, seed, network, eps, value."""
    own = of_claim(rows, claim)
    arms = tuple(arm for arm in charts.RADII if (own["arm"] == arm).any())
    contrast = replace(load_claims("simplicity_biases")[claim].contrast, arms=arms)
    recipes = own.drop_duplicates("network").set_index("network")["recipe"]
    table = [
        (arm, seed, network, recipe(recipes[network]).eps, value.value)
        for arm, networks in Evidence(own, "smoke", is_rounded=True).values(contrast).items()
        for (*_, seed, network), value in networks.items()
        if isinstance(value, NetworkValue)
    ]
    return pd.DataFrame(table, columns=["arm", "seed", "network", "eps", "value"])
