"""The pair that overfits: does a robust network's late change sit in its deep layers, beyond an equal stretch of training before?

Of every robust network of the pair the best checkpoint is chosen by adversarial accuracy on held-out images that the
comparison does not use, and its fall is measured on others still: the best of many epochs is best partly by luck. The
standard network is looked at, at the same epochs. Best against last, and the best against the epoch that lies as far before
it; a seed whose best comes too early for that is left out. Source of overfitting: Rice et al. 2020 (arXiv 2002.11569).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.block_structure.attacking import Attack
from reprolib.findings.block_structure.batches import Batches
from reprolib.findings.block_structure.networks import seed_of
from reprolib.findings.block_structure.states import Names, as_tensors, at, compare_states, from_tensors, snapshots
from reprolib.measures.cka import BatchHSIC
from reprolib.models.networks import Network
from reprolib.perturb.attacks import adversarial_accuracy, predictions

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


def overfit(
    networks: Mapping[str, Sequence[Network]],
    batches: Batches,
    choosing: Images,
    measuring: Images,
    training: Callable[[], Images],
    how: Attack,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, list[Overfitted]]:
    """The networks of the pair, by role, those of seeds that both roles have and whose states were kept here.

    choosing: the images on which the best state is chosen, by accuracy under `how`; measuring: those on which the accuracies
    that are told are measured.
    """
    by_seed = {
        role: {seed_of(network): network for network in networks.get(role, ()) if snapshots(network)} for role in ("standard", "robust")
    }
    found: dict[str, list[Overfitted]] = {"standard": [], "robust": []}
    for seed in sorted(set(by_seed["standard"]) & set(by_seed["robust"])):
        robust = by_seed["robust"][seed]
        states = snapshots(robust)
        every = sorted({epoch for epoch in states if epoch % EVERY == 0} | {min(states), max(states)})
        accuracy = _accuracies(robust, every, choosing, how, batches.device, report)
        epochs = chosen_epochs(accuracy, states)
        if epochs is None:
            print(f"{robust.card['name']} is best too early for an equal stretch of training before it: seed {seed} is left out of BLK-5.")
            continue
        fall = _accuracies(robust, sorted({epochs[state] for state in BEST_LAST}), measuring, how, batches.device, report)
        for role in found:
            told = {state: fall[epochs[state]] for state in BEST_LAST} if role == "robust" else {}
            found[role].append(_looked_at(by_seed[role][seed], epochs, batches, training, told, report))
    return {role: looked_at for role, looked_at in found.items() if looked_at}


def chosen_epochs(accuracy: Mapping[int, float], kept: Collection[int]) -> dict[str, int] | None:
    """The states to compare, from adversarial accuracy by epoch: the best (the first of equals), the last, and two before the best.

    "before_2" is the best state itself, "before_1" as many epochs earlier as the last is later; None where that is not `kept`.
    """
    last = max(accuracy)
    best = min(accuracy, key=lambda epoch: (-accuracy[epoch], epoch))
    before = best - (last - best)
    return {"best": best, "last": last, "before_1": before, "before_2": best} if before in kept else None


def _accuracies(
    network: Network, epochs: Sequence[int], images: Images, how: Attack, device: str, report: Callable[[str], None]
) -> dict[int, float]:
    """Adversarial accuracy at each of these epochs."""
    states = snapshots(network)
    described = {
        "network": network.sha256, "data": images.sha256, "attack": [how.norm, how.eps, how.steps, RESTARTS],
        "states": {str(epoch): store.sha256_file(states[epoch]) for epoch in epochs},
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        x, y = images.x.to(device).float() / 255, images.y.to(device)
        precision = network.card["training"]["precision"]
        values = []
        for epoch in epochs:
            report(f"{network.card['name']}: epoch {epoch} of {max(states)} under attack")
            past = at(network, states[epoch])
            values.append(adversarial_accuracy(past, x, y, how.norm, how.eps, how.steps, RESTARTS, precision=precision).value)
        return {"accuracy": torch.tensor(values, dtype=torch.float64)}

    return dict(zip(epochs, store.cache("block_structure", described, compute)["accuracy"].tolist(), strict=True))


def _looked_at(
    network: Network,
    epochs: Mapping[str, int],
    batches: Batches,
    training: Callable[[], Images],
    accuracy: dict[str, float],
    report: Callable[[str], None],
) -> Overfitted:
    files = snapshots(network)
    described = batches.describe() | {
        "network": network.sha256,
        "epochs": {state: [epoch, store.sha256_file(files[epoch])] for state, epoch in epochs.items()},
    }  # fmt: skip

    def compute() -> dict[str, Tensor]:
        report(f"{network.card['name']}: comparing the best state with the last")
        states = {state: at(network, files[epoch]) for state, epoch in epochs.items()}
        found, _ = compare_states(states, dict.fromkeys(states, batches), [BEST_LAST, BEFORE])
        used = training()
        n = network.card["description"]["schedule"]["n_images"] or len(used)
        x, y = used.x[:n].to(batches.device), used.y[:n].to(batches.device)
        right = [predictions(states["last"], part.float() / 255) == z for part, z in zip(x.split(500), y.split(500), strict=True)]
        return as_tensors(found) | {"train_accuracy": torch.cat(right).double().mean()}

    kept = store.cache("block_structure", described, compute)
    return Overfitted(network, dict(epochs), from_tensors(kept, [BEST_LAST, BEFORE], batches.n), float(kept["train_accuracy"]), accuracy)
