"""Through training: when does each layer become what it is in the end, and what did it look like before?

The untrained network and states kept at the end of epochs, the first ones and then every third, are compared with the last one,
at equal depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib import store
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.batches import N_ESTIMATED, Batches, state_batches
from reprolib.findings.block_structure.committed import of_networks
from reprolib.findings.block_structure.networks import ARMS, Compared, listed, seed_of
from reprolib.findings.block_structure.question import Question
from reprolib.findings.block_structure.rows import SETTLING, SHOWN, measuring, single, tidied
from reprolib.findings.block_structure.states import Names, compare_states, untrained
from reprolib.measures.cka import BatchHSIC
from reprolib.models.networks import Network
from reprolib.study import Study
from reprolib.training.states import at, snapshots

DENSE, APART = 2, 3
"""Epochs up to which each one is looked at, and the steps in which later ones are."""

Array = NDArray[np.float64]


@dataclass
class Beginnings:
    """Networks before their training, one a seed, as both arms begin with the same weights; made when first asked for."""

    study: Study
    made: dict[int, Network] = field(default_factory=dict)

    def of(self, network: Network) -> Network:
        """The network that this one was."""
        seed = seed_of(network)
        if seed not in self.made:
            training = self.study.first_training_images(N_ESTIMATED).x[:N_ESTIMATED]
            self.made[seed] = untrained(network, training, self.study.device)
        return self.made[seed]


@measuring
def measure(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows of both deep arms: epochs against the last, and, shown, the CKA of all layers at every epoch.

    States of trainings are not shipped: where they are not here, committed rows of the same networks stand in, and a line says so.
    """
    beginnings, used = Beginnings(nets.study), state_batches(nets.study)
    frames, absent = [], []
    for role, network in listed(nets.deep, ARMS):
        settled = settle(network, used, question, beginnings)
        if settled is None:
            absent.append(network)
            continue
        upper = [(epoch, matrix, *pair) for epoch, matrix in settled[1].items() for pair in zip(*np.triu_indices(len(matrix)), strict=True)]
        maps = {f"epoch_{epoch}|{i}|{j}": float(matrix[i, j]) for epoch, matrix, i, j in upper}
        frames.append(tidied(SETTLING, "hsic_states", role, network, hsic_rows.of_states(settled[0])))
        frames.append(tidied(SHOWN, "cka", role, network, single(maps)))
    if not absent:
        return frames
    names = ", ".join(network.card["name"] for network in absent)
    print(f"States of the training are not kept here of {names}: BLK-7 is judged from committed rows, or without them.")
    return [*frames, of_networks(nets, absent, [(SETTLING, "hsic_states"), (SHOWN, "cka")])]


def settle(
    network: Network, batches: Batches, question: Question, beginnings: Beginnings
) -> tuple[dict[Names, BatchHSIC], dict[int, Array]] | None:
    """One network through its training: ("epoch_3", "epoch_10") -> HSICs at equal depth, and epoch -> CKA of all layers (L, L).

    None where its states were not kept here.
    """
    kept_states = snapshots(network)
    if len(kept_states) < 2:
        return None
    last = max(kept_states)
    files = {epoch: path for epoch, path in kept_states.items() if epoch in (*looked_at(last), last)}
    epochs = [0, *(epoch for epoch in files if epoch != last)]
    pairs: list[Names] = [(f"epoch_{epoch}", f"epoch_{last}") for epoch in epochs]
    states = {str(epoch): store.sha256_file(path) for epoch, path in files.items()}
    described = batches.describe() | {"network": network.sha256, "states": states}

    def compute() -> dict[str, Tensor]:
        beginnings.study.report(f"{network.card['name']}: comparing {len(files)} epochs with the last")
        running = {"epoch_0": beginnings.of(network)} | {f"epoch_{epoch}": at(network, path) for epoch, path in files.items()}
        hsics, whole = compare_states(running, dict.fromkeys(running, batches), pairs, question, whole=True)
        return hsic_rows.as_tensors(hsics) | {f"map {name}": torch.from_numpy(hsic.matrix()) for name, hsic in whole.items()}

    kept = store.cache("block_structure", described, compute)
    maps = {epoch: kept[f"map epoch_{epoch}"].numpy() for epoch in (*epochs, last)}
    return {pair: hsic_rows.from_tensors(kept, pair, batches.n) for pair in pairs}, maps


def looked_at(last: int) -> list[int]:
    """The epochs that are compared with the last: each of the first two, where most happens, then every third."""
    return [epoch for epoch in range(last) if epoch <= DENSE or (epoch - last) % APART == 0]
