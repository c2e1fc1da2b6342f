"""The pair that overfits: does a robust network's late change sit in its deep layers, beyond an equal stretch of training before?

Of every robust network of the pair the best checkpoint is chosen by adversarial accuracy on held-out images that the
comparison does not use, and its fall is measured on others still: the best of many epochs is best partly by luck. The
standard network is looked at, at the same epochs. Best against last, and the best against the epoch that lies as far before
it; a seed whose best comes too early for that is left out. Source of overfitting: Rice et al. 2020 (arXiv 2002.11569).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.block_structure import committed, hsic_rows
from reprolib.findings.block_structure.attacking import Attack, attack_of
from reprolib.findings.block_structure.batches import last_images, state_batches
from reprolib.findings.block_structure.networks import ARMS, Compared, listed, seed_of
from reprolib.findings.block_structure.question import Question
from reprolib.findings.block_structure.rows import FITTED, OVERFITTING, measuring, single, tidied
from reprolib.findings.block_structure.states import Names, compare_states
from reprolib.measures.cka import BatchHSIC
from reprolib.models.networks import Network
from reprolib.perturb.attacks import adversarial_accuracy, predictions
from reprolib.study import Study
from reprolib.training.states import at, snapshots

N_CHOOSING, N_MEASURING = 500, 1000
"""Test images, from their end, on which the best state of an overfitting network is chosen, and those on which its fall is measured."""

EVERY = 4
"""Epochs between those of which the best is chosen."""
RESTARTS = 1

BEST_LAST: Names = ("best", "last")
BEFORE: Names = ("before_1", "before_2")


@dataclass(frozen=True)
class Overfitted:
    """One network of the pair. epochs: state ("best", "last", "before_1", "before_2") -> epochs done. pairs: HSICs at equal depth.

    train_accuracy: of the last state, on the images it was trained on. accuracy: "best", "last" -> adversarial accuracy.
    """

    network: Network
    epochs: dict[str, int]
    pairs: dict[Names, BatchHSIC]
    train_accuracy: float
    accuracy: dict[str, float]


@measuring
def measure(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows of the pair that overfits: best against last, the pair before, and the conditions under which that says anything.

    States of trainings are not shipped: where they, or the networks, are not here, committed rows stand in.
    """
    frames = []
    pairs = overfit(nets, question) if all(nets.overfit.get(role) for role in ARMS) else {}
    for role, of_role in pairs.items():
        for one in of_role:
            states = {state: float(epoch) for state, epoch in one.epochs.items()}
            frames.append(tidied(OVERFITTING, "hsic_states", role, one.network, hsic_rows.of_states(one.pairs)))
            frames.append(tidied(OVERFITTING, "epochs", role, one.network, single(states)))
            frames.append(tidied(FITTED, "train_accuracy", role, one.network, single({"last": one.train_accuracy}, "train")))
            if one.accuracy:
                frames.append(tidied(FITTED, "adversarial_accuracy", role, one.network, single(one.accuracy, "test")))
    measured = {one.network.sha256 for of_role in pairs.values() for one in of_role}
    absent = [network for _, network in listed(nets.overfit) if network.sha256 not in measured]
    return [*frames, committed.of_pair(nets, absent)]


def overfit(nets: Compared, question: Question) -> dict[str, list[Overfitted]]:
    """The networks of the pair, by role, those of seeds that both roles have and whose states were kept here.

    The best state is chosen by accuracy under attack on the very last test images, which nothing else uses; the accuracies that
    are told are measured on the images before those.
    """
    study, test = nets.study, nets.study.images("test")
    how = attack_of(study, study.settings["robust"])
    choosing, measuring = last_images(test, N_CHOOSING), last_images(test, N_MEASURING, skip=N_CHOOSING)
    by_seed = {role: {seed_of(network): network for network in nets.overfit.get(role, ()) if snapshots(network)} for role in ARMS}
    pairs: dict[str, list[Overfitted]] = {role: [] for role in ARMS}
    for seed in sorted(set(by_seed["standard"]) & set(by_seed["robust"])):
        robust = by_seed["robust"][seed]
        states = snapshots(robust)
        every = sorted({epoch for epoch in states if epoch % EVERY == 0} | {min(states), max(states)})
        epochs = chosen_epochs(_accuracies(study, robust, every, choosing, how), states)
        if epochs is None:
            print(f"{robust.card['name']} is best too early for an equal stretch of training before it: seed {seed} is left out of BLK-5.")
            continue
        fall = _accuracies(study, robust, sorted({epochs[state] for state in BEST_LAST}), measuring, how)
        for role in ARMS:
            accuracy = {state: fall[epochs[state]] for state in BEST_LAST} if role == "robust" else {}
            pairs[role].append(_through(study, by_seed[role][seed], epochs, question, accuracy))
    return {role: of_role for role, of_role in pairs.items() if of_role}


def chosen_epochs(accuracy: Mapping[int, float], kept: Collection[int]) -> dict[str, int] | None:
    """The states to compare, from adversarial accuracy by epoch: the best (the first of equals), the last, and two before the best.

    "before_2" is the best state itself, "before_1" as many epochs earlier as the last is later; None where that is not `kept`.
    """
    last = max(accuracy)
    best = min(accuracy, key=lambda epoch: (-accuracy[epoch], epoch))
    before = best - (last - best)
    return {"best": best, "last": last, "before_1": before, "before_2": best} if before in kept else None


def _accuracies(study: Study, network: Network, epochs: Sequence[int], images: Images, how: Attack) -> dict[int, float]:
    """Adversarial accuracy at each of these epochs."""
    states = snapshots(network)
    hashed = {str(epoch): store.sha256_file(states[epoch]) for epoch in epochs}
    attack = [how.norm, how.eps, how.steps, RESTARTS]
    described = {"network": network.sha256, "data": images.sha256, "attack": attack, "states": hashed}

    def compute() -> dict[str, Tensor]:
        x, y = images.x.to(study.device).float() / 255, images.y.to(study.device)
        precision = network.card["training"]["precision"]
        values = []
        for epoch in epochs:
            study.report(f"{network.card['name']}: epoch {epoch} of {max(states)} under attack")
            past = at(network, states[epoch])
            values.append(adversarial_accuracy(past, x, y, how.norm, how.eps, how.steps, RESTARTS, precision=precision).value)
        return {"accuracy": torch.tensor(values, dtype=torch.float64)}

    return dict(zip(epochs, store.cache("block_structure", described, compute)["accuracy"].tolist(), strict=True))


def _through(study: Study, network: Network, epochs: Mapping[str, int], question: Question, accuracy: dict[str, float]) -> Overfitted:
    """The chosen states of one network against each other."""
    files, batches = snapshots(network), state_batches(study)
    hashed = {state: [epoch, store.sha256_file(files[epoch])] for state, epoch in epochs.items()}
    described = batches.describe() | {"network": network.sha256, "epochs": hashed}

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: comparing the best state with the last")
        states = {state: at(network, files[epoch]) for state, epoch in epochs.items()}
        hsics, _ = compare_states(states, dict.fromkeys(states, batches), [BEST_LAST, BEFORE], question)
        used = study.images("train")
        n = network.card["description"]["schedule"]["n_images"] or len(used)
        x, y = used.x[:n].to(batches.device), used.y[:n].to(batches.device)
        right = [predictions(states["last"], part.float() / 255) == z for part, z in zip(x.split(500), y.split(500), strict=True)]
        return hsic_rows.as_tensors(hsics) | {"train_accuracy": torch.cat(right).double().mean()}

    kept = store.cache("block_structure", described, compute)
    pairs = {pair: hsic_rows.from_tensors(kept, pair, batches.n) for pair in (BEST_LAST, BEFORE)}
    return Overfitted(network, dict(epochs), pairs, float(kept["train_accuracy"]), accuracy)
