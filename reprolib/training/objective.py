"""What a training lowers: cross-entropy, and for some recipes alpha times the soft nearest neighbour loss of each hidden layer.

Capsules have a loss of their own in its place (`CapsNet.loss`).

Regularised are all post-activation maps but the last one, which with its pooled code stays free to separate the classes. Maps are
pooled first, in the precision of the network. Nothing is carried from step to step. Source: Frosst et al. 2019 (arXiv
1902.01889), eq. 3; there one gradient step on a persistent temperature, here the minimum over it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.soft_nearest_neighbor import minimised
from reprolib.models.capsnet import CapsNet
from reprolib.models.layers import shrunk
from reprolib.models.networks import Network
from reprolib.training.recipes import Recipe


def regularised(network: Network) -> tuple[str, ...]:
    """Names of the layers whose entanglement a recipe with alpha changes."""
    return network.layer_names[:-1]


class Objective:
    """The loss of a batch under a recipe, called once a step; keeps every layer's term of one epoch (from 1) for the history."""

    def __init__(self, recipe: Recipe, precision: str, epoch: int) -> None:
        self.recipe, self.precision, self.epoch = recipe, precision, epoch
        self.terms: dict[str, list[tuple[float, bool]]] = {}

    def __call__(self, network: Network, images: Tensor, labels: Tensor) -> Tensor:
        """The objective of images (n, c, h, w) in [0, 1], a scalar. Raises FloatingPointError for a term that is not finite."""
        kept: dict[str, Tensor] = {}
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            if isinstance(network, CapsNet):
                if self.recipe.alpha or self.recipe.target < 1:
                    raise BadInput(
                        f"recipe {self.recipe.id} changes the cross-entropy: capsules have a loss of their own; give std, a noise or an attack"
                    )
                return network.loss(images, labels)
            if self.recipe.alpha:
                last = images
                for name, last in network.maps(images):
                    kept[name] = shrunk(last)
                kept.popitem()
                logits = network.linear(last.mean(dim=(2, 3)))
            else:
                logits = network(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.smoothing(logits.shape[1]))
        if len(labels.unique()) == len(labels):  # the few images of a last batch may have no neighbour of their class
            return loss
        for name, features in kept.items():
            try:
                term, found = minimised(features, labels)
            except BadInput as error:
                raise FloatingPointError(
                    f"the soft nearest neighbour loss of layer {name} is not finite in epoch {self.epoch}: {error}"
                ) from error
            self.terms.setdefault(name, []).append((found.share, found.at_bound))
            loss = loss + self.recipe.alpha * term
        return loss

    def told(self) -> dict[str, Any]:
        """For the history: of each regularised layer the mean of its term over its bound, and the share of steps at the bound."""
        if not self.terms:
            return {}
        columns = {name: tuple(zip(*terms, strict=True)) for name, terms in self.terms.items()}
        return {
            "snnl": {
                name: {"share": round(statistics.fmean(shares), 5), "at_bound": round(statistics.fmean(bounds), 5)}
                for name, (shares, bounds) in columns.items()
            }
        }


def step_cost(network: Network, images: Tensor, labels: Tensor, recipes: Sequence[Recipe], precision: str, n: int = 5) -> float:
    """CPU time of a step (forward, backward) under the first recipe over that under the second: medians of `n`, taken in turn."""
    spent: list[list[float]] = [[], []]
    for i in range(2 * (n + 1)):
        objective = Objective(recipes[i % 2], precision, 0)
        network.zero_grad(set_to_none=True)
        began = time.process_time()
        objective(network, images, labels).backward()
        spent[i % 2].append(time.process_time() - began)
    network.zero_grad(set_to_none=True)
    first, second = (statistics.median(times[1:]) for times in spent)
    return first / second
