"""Which networks the finding compares: deep ones for all that concerns depth, the scale's own for radii and controls."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import nn

from reprolib.measures import indices
from reprolib.models.grams import POOLED
from reprolib.models.networks import ARCHITECTURES, MINE, Network, build
from reprolib.models.public_networks import RESNET20, build_public
from reprolib.study import Study
from reprolib.training.specs import Spec

ARMS = ("standard", "robust")
DRAWN = (*ARMS, MINE)
CONTROLS = ("untrained", "gauss", "blur", "std_matched")
"""Roles that control, in the deep architecture where it has them, and in the scale's own."""
BESIDE = "robust_l2"
"""Role of deep networks robust by the scale's main recipe, where the finding's is another: shown beside."""

FASHION = "fashion_mnist"
OVERFIT = "_5k"
"""How the recipes of the pair that overfits end: trained on 5,000 images."""

Nets = Mapping[str, Sequence[Network]]


@dataclass(frozen=True)
class Compared:
    """A study and its networks by role, one a seed. deep: of the depth architecture, arms, controls and `BESIDE`; "robust" is the finding's robust recipe.

    main: of the scale's own architecture, every role. At most scales the two are one. fashion: trained on the second data
    set. overfit: trained on few images for long. The last two are empty where the scale has none.
    """

    study: Study
    deep: dict[str, list[Network]]
    main: dict[str, list[Network]]
    fashion: dict[str, list[Network]] = field(default_factory=dict)
    overfit: dict[str, list[Network]] = field(default_factory=dict)

    @property
    def main_is_deep(self) -> bool:
        """Whether the arms of the scale's own architecture are the deep ones."""
        main, deep = ({network.sha256 for _, network in listed(nets, ARMS)} for nets in (self.main, self.deep))
        return main == deep

    @property
    def everyone(self) -> dict[str, list[Network]]:
        """Every network once, by role."""
        by_role: dict[str, dict[str, Network]] = {}
        for nets in (self.deep, self.main, self.overfit, self.fashion):
            for role, of_role in nets.items():
                by_role.setdefault(role, {}).update({network.sha256: network for network in of_role})
        return {role: [*of_role.values()] for role, of_role in by_role.items()}


def networks(study: Study, mine: nn.Module | Sequence[nn.Module] | None = None) -> Compared:
    """The networks of the finding at the study's scale: loaded, or trained now and kept where the scale trains on demand.

    Of another architecture or data set than the scale's own none is trained here: what is missing is left out, and a line
    says so. mine: networks of the reader's own, among the deep ones, see `Roles.networks`.
    """
    scale, architecture = study.settings.scale, study.settings["architecture"]
    recipes = {role: scale.roles[role] for role in (*ARMS, *CONTROLS) if role in scale.roles} | {"robust": study.settings["robust"]}
    main = study.networks(mine=mine)
    own = {MINE: main.pop(MINE)} if MINE in main else {}
    if architecture == scale.architecture and recipes["robust"] == scale.roles["robust"]:
        deep = {role: main[role] for role in recipes if role in main}
    else:
        if scale.roles["robust"] != recipes["robust"]:
            recipes[BESIDE] = scale.roles["robust"]
        seeds = {role: scale.seeds_of(architecture, recipe) for role, recipe in recipes.items()}
        specs = {role: [Spec(recipes[role], architecture, scale.dataset, seed, scale.name) for seed in seeds[role]] for role in recipes}
        deep = {role: study.found(specs[role][: study.settings["seeds"]]) for role in recipes if seeds[role]}
    fashion: dict[str, list[Network]] = {}
    overfit: dict[str, list[Network]] = {}
    for of_table, recipe, seed, dataset in scale.entries():
        role = "standard" if recipe.startswith("std") else "robust"
        spec = Spec(recipe, of_table, dataset, seed, scale.name)
        if dataset == FASHION:
            fashion.setdefault(role, []).extend(study.found([spec]))
        elif recipe.endswith(OVERFIT):
            overfit.setdefault(role, []).extend(study.found([spec]))
    return Compared(study, deep | own, main, fashion, overfit)


def listed(nets: Nets, roles: Collection[str] = ()) -> list[tuple[str, Network]]:
    """Role and network of every network, of some roles where some are named."""
    return [(role, network) for role in nets if not roles or role in roles for network in nets[role]]


def seed_of(network: Network) -> int:
    """The seed it was trained from."""
    return int(network.card["description"]["seed"])


@cache
def layers_of(architecture: str) -> tuple[str, ...]:
    """The names of an architecture's layers: its post-activation maps in execution order and the pooled features; () where it is unknown."""
    if architecture == RESNET20.architecture:
        return (*build_public(RESNET20).layer_names, POOLED)
    if architecture not in ARCHITECTURES:
        return ()
    with torch.device("meta"):
        return (*build(architecture, 2, [0.5] * 3, [0.5] * 3, seed=0).layer_names, POOLED)


def named(architecture: str, n_layers: int) -> tuple[str, ...]:
    """The names of n layers: those of the architecture, or numbers where a notebook compares others."""
    names = layers_of(architecture)
    return names if len(names) == n_layers else tuple(str(layer) for layer in range(n_layers))


def stages_of(architecture: str, n_layers: int) -> list[list[int]]:
    """The layers of each stage; none where the architecture is unknown, or other layers than its own are compared."""
    return indices.stages_of(named(architecture, n_layers))
