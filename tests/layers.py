"""Planted networks and studies of block structure: cards, states of trainings, and images small enough for a test."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import problems
import torch
from inverses import planted_set

from reprolib import parameters, store
from reprolib.data.images import Images
from reprolib.errors import BadInput
from reprolib.findings.block_structure.networks import Compared
from reprolib.judging.tidy import joined, read_rows
from reprolib.models.grams import collect, layer_set
from reprolib.models.networks import Network, weights_sha256
from reprolib.training.specs import snapshot_folder
from reprolib.training.states import spec_of_card

CONTROLS = {"robust_small": "l2_025", "gauss": "gauss_20", "std_matched": "std_matched", "blur": "blur", "untrained": "untrained"}


def carded(seed: int = 0, recipe: str = "std", architecture: str = "tinycnn", weights: int | None = None) -> Network:
    """A network with the card and the hash that measuring asks for; weights: the seed they are drawn from, where it is another."""
    network = problems.network(architecture, seed=seed if weights is None else weights)
    network.sha256 = weights_sha256(network)
    network.card = {
        "name": f"{architecture}-{recipe}-s{seed}", "scale": "smoke", "training": {"precision": "fp32"},
        "description": {"recipe": {"id": recipe}, "architecture": architecture, "seed": seed, "schedule": {"n_images": 40}},
        "data": {"name": "shapetexture_gratings"}, "clean": {"first_value": 0.9},
        "adversarial": [{"first_value": 0.8 if recipe.startswith("l") else 0.1, "norm": "l2", "eps": 0.75, "noise": 0.8, "gradient_zero_share": 0.0}],
    }  # fmt: skip
    return network


def keep_states(network: Network, epochs: int, first: int = 100) -> None:
    """Keep `epochs` states of its training, random ones but for the last, which is the network itself."""
    for epoch in range(1, epochs + 1):
        state = network if epoch == epochs else problems.network(network.architecture, seed=first + epoch)
        store.write_safetensors(snapshot_folder(spec_of_card(network)) / f"{epoch:07.3f}.safetensors", state.state_dict())


def compared(network: Network, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The question of the notebook."""
    return collect(network, images, layer_set(network), reduce=torch.clone)


def planted_compared(study: Any = None) -> Compared:
    """Two seeds of each arm and one of each control, of one small architecture."""
    arms = {"standard": [carded(0), carded(1)], "robust": [carded(0, "l2_075", weights=10), carded(1, "l2_075", weights=11)]}
    controls = {role: [carded(0, recipe, weights=20 + k)] for k, (role, recipe) in enumerate(CONTROLS.items())}
    deep = arms | {role: controls[role] for role in ("untrained", "gauss", "blur", "std_matched")}
    return Compared(study, deep, arms | {"robust_large": []} | controls)


class PlantedStudy(SimpleNamespace):
    """What measuring asks of a study."""

    def add(self, rows: pd.DataFrame) -> None:
        """Keep rows, as a study does."""
        self.added.append(rows)

    def committed_rows(self) -> pd.DataFrame:
        """The committed rows."""
        return read_rows(self.committed / "rows.csv.gz")

    @property
    def rows(self) -> pd.DataFrame:
        """The rows so far."""
        if not self.added:
            raise BadInput("there are no rows yet")
        return joined(self.added)


def planted_study(folder: Path, images: Images | None = None, **turned: Any) -> Any:
    """A study at its smallest, on planted images; folder: of its committed rows."""
    settings = parameters.validate("block_structure", {"scale": "smoke", "batch_size": 8, "n_batches": 3, "attack_steps": 2, **turned})
    small = dict(settings.values) | {"state_batch_size": 8, "state_batches": 2, "procrustes_batches": 2}
    settings = parameters.Settings(settings.finding, settings.scale, small, {}, "cpu", "off")
    planted = planted_set(n=96) if images is None else images
    return PlantedStudy(
        can_measure=True,
        only_mine=False,
        settings=settings,
        device="cpu",
        committed=folder,
        added=[],
        images=lambda split: planted,
        first_training_images=lambda n: planted,
        report=lambda line: None,
    )
