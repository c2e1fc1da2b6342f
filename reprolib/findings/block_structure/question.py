"""What is compared of a batch of images: a function that a notebook writes, asked of one network and checked.

The function itself counts in the key of every measurement kept: an edited one is asked anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.gram import full_precision, gram
from reprolib.models.grams import spatial_mean
from reprolib.models.networks import Network

Question = Callable[[Network, Tensor], Mapping[str, Tensor]]
"""Network, images (n, c, h, w) in [0, 1] -> features (n, ...) of every layer that is compared, in the order of execution."""

PART = 640  # images whose features are held at a time where only their averages are wanted


def features(question: Question, network: Network, images: Tensor) -> dict[str, Tensor]:
    """The features (n, ...) of every layer. Raises BadInput for fewer than two layers, and for a layer without a row an image."""
    with torch.no_grad(), full_precision():
        given = dict(question(network, images))
    name = getattr(question, "__name__", "the question")
    if len(given) < 2:
        raise BadInput(f"{name} gives {len(given)} layers: at least 2 are needed to compare")
    for layer, value in given.items():
        if not isinstance(value, Tensor) or value.ndim < 2 or len(value) != len(images):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise BadInput(f"{name} gives {shape} for layer {layer} of {len(images)} images: features (n, ...), a row an image, are needed")
    return given


def grams(question: Question, network: Network, images: Tensor) -> dict[str, Tensor]:
    """The centred Gram (n, n) of every layer."""
    return {layer: gram(value, layer) for layer, value in features(question, network, images).items()}


def averages(question: Question, network: Network, images: Tensor) -> dict[str, Tensor]:
    """The features averaged over their positions (n, p), from few images at a time."""
    parts = [{layer: spatial_mean(value) for layer, value in features(question, network, part).items()} for part in images.split(PART)]
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}


def as_tensor(layers: Sequence[str]) -> Tensor:
    """Names of layers for the measurement cache, which keeps tensors."""
    return torch.tensor(list("\n".join(layers).encode()), dtype=torch.uint8)


def from_tensor(kept: Tensor) -> tuple[str, ...]:
    """The inverse of `as_tensor`."""
    return tuple(bytes(kept.tolist()).decode().split("\n"))
