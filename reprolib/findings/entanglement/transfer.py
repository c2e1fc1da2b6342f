"""Transfer of perturbations between networks: made for one of them at a success common to all, shown to those of another seed.

Each network is attacked at the radius at which PGD fools it on 80 % of images apart from those that are measured, so that a network
that is harder to attack is not said to resist what was made for others. All are attacked in fp32, whatever they were trained in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput
from reprolib.findings.entanglement import equal
from reprolib.findings.entanglement.accuracy import PER_ARM, Nets, Shown, fast, shown, with_labels
from reprolib.judging.tidy import rows_of
from reprolib.models.layers import movable_key
from reprolib.models.networks import MINE, Network
from reprolib.perturb.attacks import predictions
from reprolib.study import Study

CLAIM = "ENT-6"
ARMS = ("standard", "entangled")
SUCCESS = 0.8  # white-box, at which networks are compared
N_APART = 100  # test images, the last ones, on which radii are looked for
POOL = 4  # test images looked through for each one that all networks have right

Question = Callable[[Shown, Sequence[Network]], Tensor]
"""What is asked: perturbed images (n, c, h, w) made for one network, t other networks -> whether each is fooled too, (n, t)."""


def transfers(study: Study, nets: Nets, question: Question) -> pd.DataFrame:
    """Rows of ENT-6: of each network that perturbations are made for, what they do to every other network of another seed.

    "transferred": 1 where the network named in unit_2 ("<role>:<seed>") is fooled too, reached where the one it was made for is; "eps",
    its radius in pixel units, and "white_box", its own success. Images are the first `n_attacked` test images that all networks of both
    arms have right. The reader's network is a source alone, on the same images; its perturbations count where it had the image right.
    Kept under networks, images, radius and the question's code. Raises BadInput where the networks have no image right in common, and
    where the question gives another shape than (n, t).
    """
    if not study.can_measure:
        return pd.DataFrame()
    arms = with_labels(nets, ARMS, PER_ARM)
    if study.only_mine:  # the first of each arm stand for those whose rows are committed
        arms = {arm: [network] for arm in ARMS if (network := study.first(arm)) is not None}
    targets = {f"{arm}:{seed_of(network)}": network for arm, networks in arms.items() for network in networks}
    sources = with_labels(nets, (*ARMS, MINE), PER_ARM)
    if not sources or not targets:
        return pd.DataFrame()
    images, frames = common(study, arms), []
    for role, network in study.each(sources):
        others = {name: of for name, of in targets.items() if role == MINE or seed_of(of) != seed_of(network)}
        radius = radius_of(study, network, SUCCESS)
        fooled = _asked(study, network, images, radius.eps, others, question)
        own = fooled["own"]
        tell = {"eps": radius.eps, "white_box": float(own.float().mean())}
        frames += [rows_of(CLAIM, name, role, network, ["all"], torch.tensor([value]).double()) for name, value in tell.items()]
        frames += [rows_of(CLAIM, "transferred", role, network, images.units, fooled[name], own, name) for name in others]
    return pd.concat(frames, ignore_index=True)


def seed_of(network: Network) -> int:
    """The seed it was trained from; of the reader's own, its place among them."""
    return int(network.card["description"]["seed"])


def common(study: Study, arms: Nets) -> Shown:
    """The first `n_attacked` test images that all the networks have right; those of the committed rows where the reader's own alone is measured.

    None of them is among the last `N_APART`. Raises BadInput where there is none.
    """
    if study.only_mine:
        rows = study.rows[(study.rows["claim"] == CLAIM) & (study.rows["quantity"] == "transferred")]
        numbers = sorted({int(unit) for unit in rows["unit"]})
    else:
        n = study.settings.values["n_attacked"]
        looked = shown(study, range(min(POOL * n, n_before(study))))
        right = [_right(study, network, looked) for networks in arms.values() for network in networks]
        numbers = torch.stack(right).all(dim=0).nonzero().flatten()[:n].tolist() if right else []
    if not numbers:
        raise BadInput("no test image is right in every network that perturbations are made for: look at the networks' accuracies")
    return shown(study, numbers)


def n_before(study: Study) -> int:
    """Test images before those that radii are looked for on: a quarter of the set at most is set apart."""
    n = len(study.images("test"))
    return n - min(N_APART, n // 4)


def radius_of(study: Study, network: Network, success: float) -> equal.Radius:
    """The radius at which the scale's PGD fools a network on a share of the last test images that it has right; kept under both."""
    apart, steps = shown(study, range(n_before(study), len(study.images("test")))), study.settings.values["attack_steps"]

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: radius of {success:.0%} success, {len(apart.y)} images")
        found = equal.radius_for(network, apart.x, apart.y, success, study.settings.scale.norm, steps)
        return {name: torch.tensor(value).double() for name, value in vars(found).items()}

    kept = store.cache("radius", described(study, network, apart, success), compute)
    return equal.Radius(float(kept["eps"]), float(kept["success"]), int(kept["n"]), bool(kept["reached"]))


def attacked(study: Study, network: Network, images: Shown, eps: float) -> Shown:
    """The images moved by the scale's PGD against a network, at a radius in pixel units: made once, then read from the cache."""
    steps = study.settings.values["attack_steps"]

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: PGD-{steps} at {eps:.3g}, {len(images.y)} images")
        return {"x": equal.attacked(network, images.x, images.y, study.settings.scale.norm, eps, steps)}

    moved = store.cache("adversarial", described(study, network, images, eps), compute)["x"]
    return replace(images, x=moved.to(images.x.device))


def _asked(
    study: Study, network: Network, images: Shown, eps: float, others: Mapping[str, Network], question: Question
) -> dict[str, Tensor]:
    """Name of another network -> whether it is fooled, (n,); "own" -> whether the network itself is, on images that it had right."""

    def compute() -> dict[str, Tensor]:
        moved = attacked(study, network, images, eps)
        study.report(f"{network.card['name']}: {question.__name__} to {len(others)} networks")
        none = torch.zeros(len(images.y), 0, dtype=torch.bool)  # a single network has nobody to be shown to
        found = torch.as_tensor(question(moved, [fast(of) for of in others.values()])).cpu() if others else none
        if found.shape != (len(images.y), len(others)):
            raise BadInput(
                f"{question.__name__} gives shape {tuple(found.shape)} for {len(images.y)} images and {len(others)} networks: one answer "
                "an image and network is needed"
            )
        own = (predictions(network, moved.x) != moved.y) & (predictions(network, images.x) == images.y)
        return {"own": own.cpu(), **dict(zip(others, found.bool().T.contiguous(), strict=True))}

    shown_to = {name: of.sha256 for name, of in others.items()}
    return store.cache("transfer", described(study, network, images, eps) | {"shown to": shown_to}, compute)


def _right(study: Study, network: Network, images: Shown) -> Tensor:
    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: classes of {len(images.y)} images")
        return {"right": predictions(fast(network), images.x) == images.y}

    return store.cache("right", {"network": network.sha256, "images": images.key}, compute)["right"]


def described(study: Study, network: Network, images: Shown, size: float) -> dict[str, object]:
    """What an attack depends on, for cache keys; size: its radius, or the success that a radius is looked for at."""
    how = [study.settings.scale.norm, size, study.settings.values["attack_steps"]]
    return {"network": movable_key(network), "images": images.key, "attack": how}
