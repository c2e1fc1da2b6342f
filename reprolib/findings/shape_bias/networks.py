"""Whom this finding asks: every role of the scale, other architectures, and the networks of the margin sets."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from reprolib.models.networks import MINE, Network
from reprolib.study import Study
from reprolib.training import zoo

Nets = dict[str, list[Network]]
"""Role -> networks."""
OWN = ""
ARMS = ("standard", "robust")
IN_FULL = (*ARMS, MINE)
"""Roles that are asked everything: both arms, and what a reader brings."""
CONTROLS = ("gauss", "blur", "std_matched")


def networks(study: Study, mine: nn.Module | Sequence[nn.Module] | None = None) -> dict[str, Nets]:
    """Networks by role, and these by what stands behind the quantities of their rows.

    OWN: of the scale's own architecture; "@tinycnn" and the like: of another one; "@1:1" and the like: trained on a margin set. Those that
    do not know the scale's classes are left out. mine: as in `study.networks`.
    """
    scale, wanted = study.settings.scale, study.settings.values
    found = {OWN: study.networks(mine=mine)}
    for architecture, roles in wanted.get("architectures", {}).items():
        found[f"@{architecture}"] = {role: _found(study, scale.roles[role], architecture, scale.dataset) for role in roles}
    for at, dataset in wanted.get("margins", {}).items():
        found[at] = {role: _found(study, scale.roles[role], "tinycnn", dataset) for role in ARMS}
    return {
        at: {role: [one for one in networks if one.n_classes == scale.n_classes] for role, networks in nets.items()}
        for at, nets in found.items()
    }


def with_cards(study: Study, compared: dict[str, Nets]) -> Nets:
    """Those of the scale's own images, in one table for `study.cards`."""
    there = [nets for at, nets in compared.items() if at not in study.settings.values.get("margins", {})]
    return {
        role: [network for nets in there for network in nets.get(role, ())] for role in dict.fromkeys(r for nets in there for r in nets)
    }


def only(nets: Nets, *roles: str) -> Nets:
    """The networks of some roles."""
    return {role: nets[role] for role in roles if role in nets}


def _found(study: Study, recipe: str, architecture: str, dataset: str) -> list[Network]:
    scale = study.settings.scale
    seeds = [seed for *what, seed, on in scale.entries() if (*what, on) == (architecture, recipe, dataset)]
    return study.found([zoo.Spec(recipe, architecture, dataset, seed, scale.name) for seed in seeds])
