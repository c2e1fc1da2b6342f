"""Through training: when does each layer become what it is in the end, and what did it look like before?

The untrained network and states kept at the end of epochs, the first ones and then every third, are compared with the last one,
at equal depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib import store
from reprolib.findings.block_structure.batches import Batches
from reprolib.findings.block_structure.states import Names, as_tensors, at, compare_states, from_tensors, snapshots
from reprolib.measures.cka import BatchHSIC
from reprolib.models.networks import Network

DENSE, APART = 2, 3
"""Epochs up to which each one is looked at, and the steps in which later ones are."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settled:
    """One network through its training. pairs: ("epoch_3", "epoch_10") -> HSICs at equal depth. maps: epoch -> CKA of all layers (L, L)."""

    pairs: dict[Names, BatchHSIC]
    maps: dict[int, Array]


def looked_at(last: int) -> list[int]:
    """The epochs that are compared with the last: each of the first two, where most happens, then every third."""
    return [epoch for epoch in range(last) if epoch <= DENSE or (epoch - last) % APART == 0]


def settle(
    network: Network, batches: Batches, initial: Callable[[], Network], report: Callable[[str], None] = lambda line: None
) -> Settled | None:
    """Epochs of a network's training against its last; None where its states were not kept here.

    initial: gives the network before its training, asked for only when something is measured.
    """
    found_states = snapshots(network)
    if len(found_states) < 2:
        return None
    last = max(found_states)
    kept_states = {epoch: path for epoch, path in found_states.items() if epoch in (*looked_at(last), last)}
    epochs = [0, *(epoch for epoch in kept_states if epoch != last)]
    pairs: list[Names] = [(f"epoch_{epoch}", f"epoch_{last}") for epoch in epochs]
    described = batches.describe() | {
        "network": network.sha256, "states": {str(k): store.sha256_file(path) for k, path in kept_states.items()},
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: comparing {len(kept_states)} epochs with the last")
        states = {"epoch_0": initial()}
        states |= {f"epoch_{epoch}": at(network, path) for epoch, path in kept_states.items()}
        found, whole = compare_states(states, dict.fromkeys(states, batches), pairs, whole=True)
        return as_tensors(found) | {f"map {name}": torch.from_numpy(hsic.matrix()) for name, hsic in whole.items()}

    kept = store.cache("block_structure", described, compute)
    maps = {epoch: kept[f"map epoch_{epoch}"].numpy() for epoch in (*epochs, last)}
    return Settled(from_tensors(kept, pairs, batches.n), maps)
