"""Accuracy on all test images, and from networks' cards what the loss in the objective cost, and those that alpha was chosen by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput
from reprolib.judging.tidy import rows_of
from reprolib.models.layers import fold_batch_norm
from reprolib.models.networks import MINE, Network
from reprolib.study import Study
from reprolib.training import zoo
from reprolib.training.recipes import recipe

CLAIM = "ENT-2"
ROLES = ("standard", "entangled", "disentangled", MINE)
PER_ARM = 3  # networks: rows of all test images of more would not fit into what may be committed

Nets = Mapping[str, Sequence[Network]]


@dataclass(frozen=True)
class Shown:
    """Images x (n, c, h, w) in [0, 1] on the study's device, their classes y (n,), and their numbers in the test set.

    key: a hash of the test set's bytes and the numbers; moved images keep that of what they were made from.
    """

    x: Tensor
    y: Tensor
    numbers: tuple[int, ...]
    key: str

    @property
    def units(self) -> list[str]:
        """What rows call the images."""
        return [f"{k:05d}" for k in self.numbers]


Question = Callable[[Network, Shown], Tensor]
"""What is asked of one network: network, n images -> whether it has each right, (n,)."""


def shown(study: Study, numbers: Sequence[int] | range | None = None) -> Shown:
    """The test images of those numbers, or all of them. Raises MissingData where they are not here."""
    source = study.images("test")
    numbers = tuple(range(len(source)) if numbers is None else numbers)
    index = torch.tensor(numbers, dtype=torch.long)
    x, y = source.x[index].to(study.device).float() / 255, source.y[index].to(study.device)
    return Shown(x, y, numbers, store.content_key({"test set": source.sha256, "numbers": list(numbers)}))


def with_labels(nets: Nets, roles: Sequence[str], most: int | None = None) -> dict[str, list[Network]]:
    """The first `most` networks of each role that is there, without the reader's own whose classes are others."""
    kept = {role: [one for one in nets.get(role, ()) if getattr(one, "has_classes", True)][:most] for role in roles}
    return {role: networks for role, networks in kept.items() if networks}


def correct(study: Study, nets: Nets, question: Question) -> pd.DataFrame:
    """Rows of ENT-2: "correct" of every test image, 1 or 0, of networks with and without the loss in their objective.

    Kept under the network, the images and the question's code. Raises BadInput where the question gives another shape than (n,).
    """
    if not study.can_measure:
        return pd.DataFrame()
    images = shown(study)
    frames = [
        rows_of(CLAIM, "correct", role, network, images.units, asked(study, network, images, question))
        for role, network in study.each(with_labels(nets, ROLES, PER_ARM))
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def asked(study: Study, network: Network, images: Shown, question: Question) -> Tensor:
    """What a question says of each image, (n,) bool, from the cache where it was asked before. Raises BadInput as `correct` does."""

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: {question.__name__}, {len(images.y)} images")
        return {"right": answer(question, network, images)}

    return store.cache("right", {"network": network.sha256, "images": images.key}, compute)["right"]


def fast(network: Network) -> Network:
    """A copy that is the same function up to rounding, and quicker on a CPU: its BatchNorm merged, in the channels_last format."""
    return fold_batch_norm(network).to(memory_format=torch.channels_last)


def answer(question: Question, network: Network, images: Shown) -> Tensor:
    """The question's answer (n,) as bool. Raises BadInput where it has another shape."""
    right = torch.as_tensor(question(fast(network), images)).cpu()
    if right.shape != images.y.shape:
        raise BadInput(f"{question.__name__} gives shape {tuple(right.shape)} for {len(images.y)} images: one answer an image is needed")
    return right.bool()


def costs(study: Study, nets: Nets) -> pd.DataFrame:
    """Rows of ENT-2 from cards: "step_cost" (standard steps that one with the loss takes) and, of each layer, "at_bound".

    at_bound: share of the training's batches on which no temperature beats the bound, so that the layer's term has no gradient; a
    layer's place stands in unit_2. Of networks that alpha was chosen by (of a seed that serves no claim, in the arm entangled, or
    standard where alpha is 0): "choice_correct" and "choice_adversarial_correct", shares on the card's test images.
    """
    if not study.can_measure or study.only_mine:
        return pd.DataFrame()
    frames = []
    for role, networks in nets.items():
        for network in networks:
            if "step_cost" in network.card:
                frames.append(_row("step_cost", role, network, network.card["step_cost"]))
            terms = [epoch["snnl"] for epoch in network.card["training"].get("history", ()) if "snnl" in epoch]
            if terms:
                shares = torch.tensor([[of["at_bound"] for of in epoch.values()] for epoch in terms], dtype=torch.float64).mean(dim=0)
                places = [f"{k:02d}" for k in range(len(shares))]
                frames.append(rows_of(CLAIM, "at_bound", role, network, [*terms[0]], shares, unit_2=places))
    for network in _choice(study):
        card, role = network.card, "entangled" if recipe(network.card["description"]["recipe"]["id"]).alpha else "standard"
        frames.append(_row("choice_correct", role, network, card["clean"]["value"]))
        frames.append(_row("choice_adversarial_correct", role, network, card["adversarial"][0]["value"]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _choice(study: Study) -> list[Network]:
    """The networks of the scale's table that alpha was chosen by, where they are in the zoo."""
    scale = study.settings.scale
    named = [
        zoo.Spec(name, architecture, data, seed, scale.name) for architecture, name, seed, data in scale.entries() if recipe(name).held_out
    ]
    return study.found([spec for spec in named if spec.path.exists()])


def _row(quantity: str, role: str, network: Network, value: float) -> pd.DataFrame:
    return rows_of(CLAIM, quantity, role, network, ["all"], torch.tensor([value], dtype=torch.float64))
