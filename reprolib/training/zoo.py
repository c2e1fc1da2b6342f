"""Trained networks: trained once, kept with a card, loaded ever after.

A network's key is a hash of everything meant to shape its weights (recipe and its version, architecture, data, seed, the
scale's schedule), not of code or hardware. Its files are `<architecture>-<recipe>-s<seed>-<key>.safetensors` and a .json
card beside it. Written atomically, locked while training, resumed from the last epoch after a kill, never unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprolib import data, provenance, scales, store
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.models.networks import Network, build, weights_sha256
from reprolib.perturb.attacks import adversarial_accuracy, noise_accuracy, predictions
from reprolib.training.loop import estimate_batch_norm, train
from reprolib.training.recipes import Recipe, recipe

VERSION = 1
"""Of the meaning of training itself (optimiser, initialisation, augmentation); bumped when that changes."""


@dataclass(frozen=True)
class Spec:
    """Which network: recipe id, architecture id, data set name, seed, and the scale whose schedule trains it."""

    recipe: str
    architecture: str
    dataset: str
    seed: int
    scale: str

    @property
    def name(self) -> str:
        """Readable and unique within a scale, e.g. `w8-l2_05-s0`."""
        return f"{self.architecture}-{self.recipe}-s{self.seed}"

    def description(self) -> dict[str, Any]:
        """Everything meant to shape the weights, as plain JSON."""
        schedule = scales.scale(self.scale).schedule.describe()
        if not recipe(self.recipe).trained:
            schedule = {"n_images": schedule["n_images"]}
        if recipe(self.recipe).norm is None:
            schedule.pop("eps_ramp", None)  # of adversarial radii alone
        return {
            "version": VERSION,
            "recipe": dict(recipe(self.recipe).describe()),
            "architecture": self.architecture,
            "data": data.fingerprint(self.dataset),
            "seed": self.seed,
            "schedule": schedule,
        }

    @property
    def key(self) -> str:
        """64 hexadecimal digits of `description`."""
        return store.content_key(self.description())

    @property
    def path(self) -> Path:
        """Where the weights are kept; the card lies beside them, ending in .json."""
        return zoo_folder() / self.scale / f"{self.name}-{self.key[:12]}.safetensors"


def spec_of(name: str, scale: str) -> Spec:
    """The network of that name at a scale, e.g. `w8-l2_05-s0`; raises BadInput when it is no such name."""
    try:
        architecture, recipe_id, seed = name.rsplit("-", 2)
        if not seed.startswith("s"):
            raise ValueError(seed)
        return Spec(recipe(recipe_id).id, architecture, scales.scale(scale).dataset, int(seed[1:]), scale)
    except ValueError as error:
        raise BadInput(f"network {name!r} is not <architecture>-<recipe>-s<seed>, e.g. w8-l2_05-s0 ({error})") from None


def zoo_folder() -> Path:
    """`$REPROLIB_ZOO` if set (relative paths count from the root), else `data/zoo`."""
    return store.root() / os.environ.get("REPROLIB_ZOO", "data/zoo")


def snapshot_folder(spec: Spec) -> Path:
    """Where the states kept during a training lie (bf16, named by epochs done); empty or absent when none were asked for."""
    return zoo_folder().parent / "snapshots" / spec.scale / f"{spec.name}-{spec.key[:12]}"


def network(
    recipe: str, architecture: str, dataset: str, seed: int, scale: str, device: str = "cpu", report: Callable[[str], None] | None = None
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

    Raises MissingData when it has not been trained, CorruptFile when weights and card do not belong together.
    """
    if not spec.path.exists():
        raise MissingData(
            f"network {spec.name} of scale {spec.scale} is not in {_shown(spec.path.parent)}; "
            f"train it with `reprolib train --scale {spec.scale} --only {spec.name}`"
        )
    tensors, _ = store.read_safetensors(spec.path)
    net = _fresh(spec)
    try:
        net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
        card = json.loads(spec.path.with_suffix(".json").read_text())
    except (RuntimeError, OSError, json.JSONDecodeError) as error:
        raise CorruptFile(f"{_shown(spec.path)} or its card cannot be read ({error}); delete both and train again") from error
    sha256 = weights_sha256(net)
    if card.get("sha256") != sha256:
        raise CorruptFile(
            f"{_shown(spec.path)}: the weights' sha256 {sha256[:12]} is not the card's {str(card.get('sha256'))[:12]}; delete both and train again"
        )
    net.card, net.sha256 = card, sha256
    return net.eval().requires_grad_(False).to(device)


def obtain(spec: Spec, device: str, report: Callable[[str], None], wait: bool = True) -> bool:
    """Train the network of `spec` and put it into the zoo, unless another process does or did; whether it is there afterwards.

    wait: whether to wait for another process that is training it.
    """
    try:
        with store.lock(spec.path, timeout_s=-1 if wait else 0):
            if not spec.path.exists():
                _train_and_keep(spec, device, report)
    except TimeoutError:
        return False
    return True


def card_of(spec: Spec) -> dict[str, Any] | None:
    """The card of a network of the zoo, without its weights; None when it has not been trained."""
    path = spec.path.with_suffix(".json")
    return json.loads(path.read_text()) if path.exists() else None


def _train_and_keep(spec: Spec, device: str, report: Callable[[str], None]) -> None:
    preset, how = scales.scale(spec.scale), recipe(spec.recipe)
    training, test = data.load(spec.dataset, "train"), data.load(spec.dataset, "test")
    n = preset.schedule.n_images or len(training.y)
    x, y = training.x[:n].to(device), training.y[:n].to(device)
    net = _fresh(spec).to(device)
    report(f"{spec.name}: training on {n} images of {spec.dataset}" if how.trained else f"{spec.name}: initialising")
    told: dict[str, Any] = {"history": [], "seconds": 0.0, "precision": "fp32", "resumed": 0}
    state = zoo_folder().parent / "training" / spec.scale / f"{spec.name}-{spec.key[:12]}.safetensors"
    if how.trained:
        per_epoch = preset.snapshots_per_epoch(spec.architecture, spec.recipe)
        told = train(
            net, x, y, how, preset.schedule, spec.seed, (preset.norm, preset.eps), state,
            (snapshot_folder(spec), per_epoch) if per_epoch else None,
            lambda progress: report(f"{spec.name}: {progress}"),
        )  # fmt: skip
    else:
        estimate_batch_norm(net, x[:4096])
    test_x, test_y = test.x.to(device).float() / 255, test.y.to(device)
    is_half = _shorten(net, test_x, test_y)
    measured = measure(
        net, test_x, test_y, how, preset, spec.seed == 0 and spec.architecture == preset.architecture, told["precision"], report, spec.name
    )
    card = {
        "name": spec.name,
        "scale": spec.scale,
        "key": spec.key,
        "description": spec.description(),
        "sha256": weights_sha256(net),
        "weights": "bf16" if is_half else "fp32",
        **measured,
        "training": {k: told[k] for k in ("seconds", "precision", "resumed", "history")},
        "data": {"name": training.name, "train": training.sha256, "test": test.sha256},
        "hardware": provenance.hardware(device),
        "versions": provenance.versions(),
    }
    tensors = {name: t.to(torch.bfloat16) if is_half and t.dim() > 1 else t for name, t in net.state_dict().items()}
    store.write_json(spec.path.with_suffix(".json"), card)
    store.write_safetensors(spec.path, tensors, {"key": spec.key})  # the weights come last: their presence means "done"
    state.unlink(missing_ok=True)
    report(f"{spec.name}: kept; {summary(card)}")


def measure(
    net: Network,
    x: Tensor,
    y: Tensor,
    how: Recipe,
    preset: scales.Scale,
    is_first: bool,
    precision: str,
    report: Callable[[str], None],
    name: str,
) -> dict[str, Any]:
    """Clean accuracy, PGD-20 x 3 restarts, accuracy under noise of equal norm and gradient-zero share for a card.

    x: float test images (n, c, h, w) in [0, 1]. The attack uses the scale's first `n_test` images, all of them for the first
    seed of std and of the main robust arm in the scale's main architecture (clean accuracy always all).
    """
    report(f"{name}: measuring")
    is_main = how.id in (preset.roles["standard"], preset.roles["robust"]) and is_first and preset.is_evidence
    n = len(x) if is_main else min(preset.n_test, len(x))
    balls = [(preset.norm, preset.eps)]
    if how.norm is not None and (how.norm, how.eps) not in balls:
        balls.append((how.norm, how.eps))
    attacked = []
    for norm, eps in balls:
        result = adversarial_accuracy(net, x[:n], y[:n], norm, eps, precision=precision)
        first = result.correct[: preset.n_test].float().mean().item()
        attacked.append(
            result.describe()
            | {"first_n": min(n, preset.n_test), "first_value": first, "noise": noise_accuracy(net, x[:n], y[:n], norm, eps)}
        )
    correct = predictions(net, x) == y
    return {
        "clean": {"value": correct.float().mean().item(), "n": len(x), "first_value": correct[: preset.n_test].float().mean().item()},
        "adversarial": attacked,
    }


def summary(card: Mapping[str, Any]) -> str:
    """One line of a card: clean accuracy, accuracy under attack, minutes of training."""
    attack = card["adversarial"][0]
    return (
        f"clean {card['clean']['value']:.1%}, under PGD-{attack['steps']} x {attack['restarts']} at {attack['norm']} {attack['eps']:.4g} "
        f"{attack['value']:.1%} (n = {attack['n']}), {card['training']['seconds'] / 60:.1f} min"
    )


def _fresh(spec: Spec) -> Network:
    mean, std = data.normaliser(spec.dataset)
    return build(spec.architecture, scales.scale(spec.scale).n_classes, mean, std, spec.seed)


def _shorten(net: Network, x: Tensor, y: Tensor) -> bool:
    """Round the weights (not the BatchNorm vectors) to bf16 in place if that changes the accuracy by at most .1 point; whether it did."""
    full = {name: t.clone() for name, t in net.state_dict().items()}
    before = (predictions(net, x) == y).float().mean().item()
    net.load_state_dict({name: t.to(torch.bfloat16).to(t.dtype) if t.dim() > 1 else t for name, t in full.items()})
    if abs((predictions(net, x) == y).float().mean().item() - before) <= 0.001:
        return True
    net.load_state_dict(full)
    return False


def _shown(path: Path) -> str:
    """A path relative to the root where it lies below it."""
    return str(path.relative_to(store.root())) if path.is_relative_to(store.root()) else str(path)
