"""Trained networks: trained once, kept with a card, loaded ever after.

A network's key is a hash of everything meant to shape its weights (recipe and its version, architecture, data, seed, the
scale's schedule), not of code or hardware. Its files are `<architecture>-<recipe>-s<seed>-<key>.safetensors` and a .json
card beside it. Written atomically, locked while training, resumed from the last epoch after a kill, never unpickled.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprolib import data, scales, store
from reprolib.data import Images
from reprolib.errors import CorruptFile, MissingData
from reprolib.models.networks import Network, build, weights_sha256
from reprolib.perturb.attacks import adversarial_accuracy, predictions
from reprolib.training import cards, choice, matching
from reprolib.training.loop import estimate_batch_norm, train
from reprolib.training.objective import step_cost
from reprolib.training.recipes import recipe, without_attack
from reprolib.training.specs import Spec, snapshot_folder, spec_of, state_path, zoo_folder

__all__ = ["Spec", "card_of", "load", "network", "not_applicable", "obtain", "snapshot_folder", "spec_of", "zoo_folder"]

Report = Callable[[str], None]


def network(
    recipe: str, architecture: str, dataset: str, seed: int, scale: str, device: str = "cpu", report: Report | None = None
) -> Network:
    """The trained network of that description, in eval mode: loaded, or trained now and kept.

    report: receives progress lines while training. The returned network carries `card` (dict) and `sha256` (of its weights).
    Raises MissingData when it must be trained and its data set is not there, CorruptFile when its file is damaged.
    """
    spec = Spec(recipe, architecture, dataset, seed, scale)
    if not spec.path.exists():
        obtain(spec, device, report or (lambda line: None))
    return load(spec, device)


def load(spec: Spec, device: str = "cpu") -> Network:
    """A network of the zoo in eval mode, fp32, with `card` and `sha256` attributes.

    Raises MissingData when it has not been trained or is not applicable, CorruptFile when weights and card do not belong
    together.
    """
    if not spec.path.exists():
        if why := not_applicable(spec):
            raise MissingData(f"network {spec.name} of scale {spec.scale} is not applicable: {why}")
        raise MissingData(
            f"network {spec.name} of scale {spec.scale} is not in {store.shown(spec.path.parent)}; "
            f"train it with `reprolib train --scale {spec.scale} --only {spec.name}`"
        )
    tensors, card = store.read_network(spec.path)
    try:
        told = card["data"]
        net = _fresh(spec, told.get("n_classes", scales.scale(spec.scale).n_classes), told.get("size_px", 32))
        net.load_state_dict(_floats(tensors))
    except (RuntimeError, KeyError) as error:
        raise CorruptFile(f"{store.shown(spec.path)} or its card cannot be read ({error}); delete both and train again") from error
    sha256 = weights_sha256(net)
    if card.get("sha256") != sha256:
        raise CorruptFile(
            f"{store.shown(spec.path)}: the weights' sha256 {sha256[:12]} is not the card's {str(card.get('sha256'))[:12]}; delete both and train again"
        )
    net.card, net.sha256 = card, sha256
    return net.eval().requires_grad_(False).to(device)


def obtain(spec: Spec, device: str, report: Report, wait: bool = True) -> bool:
    """Train the network of `spec` and put it into the zoo, unless another process does or did; whether it is there afterwards.

    A matched control is chosen among the states of the standard network, which is trained first where it has to be, like
    the robust one; where it is not applicable that is reported, and it is not there.
    wait: whether to wait for another process that is training it.
    """
    if spec.path.exists():  # to read needs no lock: the folder may be read-only
        return True
    try:
        with store.lock(spec.path, timeout_s=-1 if wait else 0):
            if not spec.path.exists():
                return _match_and_keep(spec, device, report, wait) if recipe(spec.recipe).matched else _train_and_keep(spec, device, report)
    except TimeoutError:
        return False
    return True


def card_of(spec: Spec) -> dict[str, Any] | None:
    """The card of a network of the zoo, without its weights; None when it has not been trained. Raises CorruptFile for an altered one."""
    return store.read_card(spec.path) if spec.path.exists() else None


def not_applicable(spec: Spec) -> str:
    """Why a matched control needs not be: the networks it would be chosen by are equally accurate. Empty otherwise, and while unknown."""
    if not recipe(spec.recipe).matched or not all(arm.path.exists() for arm in spec.arms()):
        return ""
    standard, robust = (_first_accuracy(arm) for arm in spec.arms())
    return matching.not_applicable(standard, robust)


def manipulation(spec: Spec) -> dict[str, Any] | None:
    """Whether adversarial training did its work (`cards.manipulation`), from its card or from two; None where that is not known."""
    card, how = card_of(spec), recipe(spec.recipe)
    if card is None or how.norm is None or "manipulation" in card:
        return card.get("manipulation") if card else None
    standard = card_of(_standard(spec))
    both = [cards.under_attack(one, how.norm, how.eps) if one else None for one in (card, standard)]
    return cards.manipulation(how, *both)


def _train_and_keep(spec: Spec, device: str, report: Report) -> bool:
    how = recipe(spec.recipe)
    sets = data.load(spec.dataset, "train"), data.load(spec.dataset, "test")
    net = _fresh(spec, len(sets[0].classes), sets[0].x.shape[-1]).to(device)
    x, y = _training_images(spec, sets[0], device)
    report(f"{spec.name}: training on {len(x)} images of {spec.dataset}" if how.trained else f"{spec.name}: initialising")
    told: dict[str, Any] = {"history": [], "seconds": 0.0, "precision": "fp32", "resumed": 0}
    if how.trained:
        told = _train(spec, net, x, y, _snapshots(spec), report)
    else:
        estimate_batch_norm(net, x[:4096])
    test_x, test_y = sets[1].x.to(device).float() / 255, sets[1].y.to(device)
    is_half = cards.shorten(net, test_x, test_y)
    measured = cards.measure(spec, net, test_x, test_y, told["precision"], report)
    if how.norm is not None:
        measured |= _check(spec, measured, test_x, test_y, told["precision"], device, report)
    if how.held_out:
        measured["held_out"] = choice.measure(net, *_held_out_images(spec, sets[0], device), spec.schedule.batch_size)
    if how.alpha:
        some = x[: spec.schedule.batch_size].float() / 255, y[: spec.schedule.batch_size]
        measured["step_cost"] = round(step_cost(copy.deepcopy(net).train(), *some, (how, recipe("std")), told["precision"]), 3)
    _keep(spec, net, measured, told, is_half, sets, device, report)
    state_path(spec).unlink(missing_ok=True)
    return True


def _match_and_keep(spec: Spec, device: str, report: Report, wait: bool) -> bool:
    for arm in spec.arms():
        if not arm.path.exists() and not obtain(arm, device, report, wait):
            return False
    if why := not_applicable(spec):
        report(f"{spec.name}: not applicable: {why}")
        return False
    began = time.monotonic()
    standard, robust = spec.arms()
    folder, per_epoch = snapshots = _snapshots(standard) or (snapshot_folder(standard), 8)
    precision = load(standard).card["training"]["precision"]
    sets = data.load(spec.dataset, "train"), data.load(spec.dataset, "test")
    net = _fresh(spec, len(sets[0].classes), sets[0].x.shape[-1]).to(device)
    if _n_readable(folder, report) < per_epoch * standard.schedule.epochs:  # they are not shipped: made anew
        report(f"{standard.name}: training again, for its states")
        with store.lock(standard.path):
            _train(standard, net, *_training_images(standard, sets[0], device), snapshots, report, precision)
            state_path(standard).unlink(missing_ok=True)
    test_x, test_y = sets[1].x.to(device).float() / 255, sets[1].y.to(device)
    n = scales.scale(spec.scale).n_test
    accuracies = {}
    for path in sorted(folder.glob("*.safetensors")):
        _load_state(net, path)
        accuracies[path.stem] = (predictions(net, test_x[:n]) == test_y[:n]).float().mean().item()
    target = _first_accuracy(robust)
    epoch = matching.nearest(accuracies, target)
    distance = abs(accuracies[epoch] - target)
    _load_state(net, folder / f"{epoch}.safetensors")
    measured = cards.measure(spec, net, test_x, test_y, precision, report)
    measured["matching"] = {
        "matched": matching.is_matched(distance),
        "epoch": float(epoch),
        "accuracy": accuracies[epoch],
        "robust_accuracy": target,
        "distance": distance,
        "n": min(n, len(test_x)),
        "standard": standard.name,
        "robust": robust.name,
    }
    told = {"history": [], "seconds": round(time.monotonic() - began, 1), "precision": precision, "resumed": 0}
    _keep(spec, net, measured, told, True, sets, device, report)
    if not matching.is_matched(distance):
        report(f"{spec.name}: no state lies within {matching.WITHIN:.0%} of {target:.1%}: it is no control, and its card says so")
    return True


def _keep(
    spec: Spec, net: Network, measured: Mapping[str, Any], told: Mapping[str, Any], is_half: bool, sets: tuple[Images, Images], device: str,
    report: Report,
) -> None:  # fmt: skip
    card = cards.write(spec, net, measured, told, is_half, sets, device)
    tensors = {name: t.to(torch.bfloat16) if is_half and t.dim() > 1 else t for name, t in net.state_dict().items()}
    store.write_network(spec.path, tensors, card, {"key": spec.key})
    report(f"{spec.name}: kept; {cards.summary(card)}")


def _train(
    spec: Spec, net: Network, x: Tensor, y: Tensor, snapshots: tuple[Path, int] | None, report: Report, precision: str | None = None
) -> dict[str, Any]:
    preset = scales.scale(spec.scale)
    return train(
        net, x, y, recipe(spec.recipe), spec.schedule, spec.seed, (preset.norm, preset.eps), state_path(spec), snapshots,
        lambda line: report(f"{spec.name}: {line}"), precision,
    )  # fmt: skip


def _check(spec: Spec, measured: dict[str, Any], x: Tensor, y: Tensor, precision: str, device: str, report: Report) -> dict[str, Any]:
    """The manipulation check for the card of a robust network, against its standard twin where that is in the zoo."""
    how, twin = recipe(spec.recipe), _standard(spec)
    if not twin.path.exists() or how.norm is None:
        return {}
    standard = load(twin, device)
    accuracy = cards.under_attack(standard.card, how.norm, how.eps)
    if accuracy is None:
        n = min(scales.scale(spec.scale).n_test, len(x))
        accuracy = adversarial_accuracy(standard, x[:n], y[:n], how.norm, how.eps, precision=precision).value
    found = cards.manipulation(how, cards.under_attack(measured, how.norm, how.eps), accuracy)
    if found and not found["holds"]:
        report(
            f"{spec.name}: fails the manipulation check: {found['robust']:.1%} under attack, {found['standard']:.1%} in {twin.name}; "
            f"{100 * cards.LEAST_DIFFERENCE:.0f} points are needed"
        )
    return {"manipulation": found}


def _standard(spec: Spec) -> Spec:
    """The network of the same recipe without its attack, on the same data from the same seed."""
    return dataclasses.replace(spec, recipe=without_attack(recipe(spec.recipe)).id)


def _first_accuracy(spec: Spec) -> float:
    card = card_of(spec)
    assert card is not None  # asked for only where it is there
    return card["clean"]["first_value"]


def _snapshots(spec: Spec) -> tuple[Path, int] | None:
    return (snapshot_folder(spec), spec.snapshots_per_epoch) if spec.snapshots_per_epoch else None


def _training_images(spec: Spec, training: Images, device: str) -> tuple[Tensor, Tensor]:
    end = len(_used(spec, training)) - _n_held_out(spec, training)
    return training.x[:end].to(device), training.y[:end].to(device)


def _held_out_images(spec: Spec, training: Images, device: str) -> tuple[Tensor, Tensor]:
    """The last of a scale's training images, which the recipe leaves for a choice; floats in [0, 1]."""
    part = _used(spec, training)[-_n_held_out(spec, training) :]
    return training.x[part.start : part.stop].to(device).float() / 255, training.y[part.start : part.stop].to(device)


def _used(spec: Spec, training: Images) -> range:
    return range(len(training))[: spec.schedule.n_images or None]


def _n_held_out(spec: Spec, training: Images) -> int:
    return round(recipe(spec.recipe).held_out * len(_used(spec, training)))


def _fresh(spec: Spec, n_classes: int, size_px: int) -> Network:
    mean, std = data.normaliser(spec.dataset)
    return build(spec.architecture, n_classes, mean, std, spec.seed, size_px)


def _n_readable(folder: Path, report: Report) -> int:
    """How many states of a training are kept in `folder` undamaged; a line for each that is damaged."""
    n = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            store.read_safetensors(path)
            n += 1
        except CorruptFile as error:
            report(f"{store.reason(error)}: it is made anew")
    return n


def _load_state(net: Network, path: Path) -> None:
    tensors, _ = store.read_safetensors(path)
    net.load_state_dict(_floats(tensors))
    net.eval()


def _floats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
