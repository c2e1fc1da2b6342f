"""One network in several states, compared at equal depth: with itself on moved images, with its own past, with what it became.

A state is a function from images to features; states of a network are compared on the same images, or on images that
correspond one to one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from reprolib import data
from reprolib.findings.block_structure.question import Question, grams
from reprolib.measures.cka import BatchHSIC, MinibatchCKA, flat_grams
from reprolib.models.networks import Network, build
from reprolib.training.loop import estimate_batch_norm

Names = tuple[str, str]
"""The names of two states."""


def untrained(network: Network, training: Tensor, device: str) -> Network:
    """The network before its training: the weights of its seed, BatchNorm as of these training images (uint8)."""
    card = network.card
    mean, std = data.normaliser(card["data"]["name"])
    fresh = build(network.architecture, network.n_classes, mean, std, card["description"]["seed"], card["data"].get("size_px", 32)).to(
        device
    )
    estimate_batch_norm(fresh, training.to(device))
    return fresh.eval().requires_grad_(False)


def compare_states(
    states: Mapping[str, Network], inputs: Mapping[str, Iterable[Tensor]], pairs: Sequence[Names], question: Question, whole: bool = False
) -> tuple[dict[Names, BatchHSIC], dict[str, BatchHSIC]]:
    """HSICs of the named pairs of states, batch by batch; with `whole` also those of every state with itself, over all layers.

    states: name -> network, all of one architecture. inputs: name -> its batches of images, rows corresponding; one Iterable
    under several names is read once a batch for each.
    """
    across: dict[Names, MinibatchCKA] = {}
    within: dict[str, MinibatchCKA] = {}
    for batch in zip(*inputs.values(), strict=True):
        flat = {name: flat_grams([*grams(question, states[name], x).values()]) for name, x in zip(inputs, batch, strict=True)}
        for a, b in pairs:
            across.setdefault((a, b), MinibatchCKA(len(flat[a]), len(flat[b]))).update_grams(flat[a], flat[b])
        for name in states if whole else ():
            within.setdefault(name, MinibatchCKA(len(flat[name]))).update_grams(flat[name])
    return {pair: one.batches() for pair, one in across.items()}, {name: one.batches() for name, one in within.items()}
