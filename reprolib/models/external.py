"""Pairs of networks that others trained, one plainly and one to be robust, with cards: shown beside ours.

Sources: EhanW/advrob-cifar10 (a ResNet-20, and one trained on PGD adversaries), oval-group/oval-bab (two convolutions and two linear
layers, and such a network certified by Wong and Kolter's bound); both MIT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reprolib import store
from reprolib.models.checkpoints import load_public
from reprolib.models.networks import Network

CLAIM = "external"
"""Under which rows of these networks are kept: one seed of each, so no verdict of their own."""
DATASET = "cifar10"


@dataclass(frozen=True)
class Checkpoint:
    """A file below `networks/` of a data root, its sha256, and the recipe it is called by in the rows."""

    file: str
    sha256: str
    recipe: str


PAIR = {
    "external_standard": Checkpoint(
        "ehanw_resnet20_std.pth", "1a11083200835bf42ed0e415589c6c1d1c7e23f38ea186d8efd55bdaa9efccca", "ehanw_std"
    ),
    "external_robust": Checkpoint(
        "ehanw_resnet20_pgd.pth", "e82e8084fb081b846d669e84b10a58e49aaa8d8739d75f21e28ff5c2ed323ef2", "ehanw_pgd"
    ),
}

CERTIFIED = {
    "external_standard": Checkpoint(
        "oval_cifar_sgd_8px.pth", "973ca9783105ba1ceb5f4244a8641ba3a510ffe5c10ad6f37687b9f196ff6c03", "oval_sgd"
    ),
    "external_robust": Checkpoint(
        "oval_cifar_wide_kw.pth", "1980beb15e180902fd48b50cd0ac24ac80d48f3ec166753d5773a7dc24d60a07", "oval_certified"
    ),
}


def networks(device: str = "cpu", pair: Mapping[str, Checkpoint] = PAIR) -> dict[str, Network]:
    """A pair by arm, each with a card that says recipe, architecture and seed; empty where a file is not here.

    Raises CorruptFile for a file that is not the one that is meant.
    """
    found = {}
    for arm, checkpoint in pair.items():
        path = next((p for root in store.data_roots() if (p := root / "networks" / checkpoint.file).is_file()), None)
        if path is None:
            return {}
        network = load_public(path, sha256=checkpoint.sha256).to(device)
        described = {"recipe": {"id": checkpoint.recipe}, "architecture": network.architecture, "seed": 0}
        network.card = network.card | {"name": f"{network.architecture}-{checkpoint.recipe}", "description": described}
        found[arm] = network
    return found
