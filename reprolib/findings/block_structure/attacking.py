"""Features of adversarial images: how far they stay with the clean ones, layer by layer, and at equal attack success.

PGD-20 at the training radius with its full budget (no early stop), against each network itself. Beside it: random noise of
equal norm, and the same attack scaled down until it succeeds equally often in every network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.batches import Batches, state_batches
from reprolib.findings.block_structure.networks import ARMS, CONTROLS, Compared, Nets, listed
from reprolib.findings.block_structure.question import Question
from reprolib.findings.block_structure.rows import ADVERSARIAL, RADII, measuring, single, tidied
from reprolib.findings.block_structure.states import Names, compare_states
from reprolib.measures.cka import BatchHSIC
from reprolib.models.networks import MINE, Network
from reprolib.perturb.attacks import predictions, training_examples
from reprolib.perturb.engine import per_sample
from reprolib.study import Study
from reprolib.training.recipes import recipe

CHUNK = 250  # images attacked at a time
HALVINGS = 6
"""Of the interval in which the attack's scale lies: it is then known to 2 %."""
N_SCALED = 500
"""Images on which that scale is looked for; how often the scaled attack succeeds is then measured on all."""

CLEAN, MOVED = "clean", ("adversarial", "noise", "equal_success")


@dataclass(frozen=True)
class Attack:
    """norm, eps: the ball in pixel units; steps: of PGD, each 2.5 eps / steps long."""

    norm: str
    eps: float
    steps: int


@dataclass(frozen=True)
class Attacked:
    """One network's clean features against those of moved images: pairs -> HSICs at equal depth; success and scale per kind.

    success: share of the images it classified correctly that it then gets wrong. scale: of the perturbation, 1 for the attack itself.
    """

    pairs: dict[Names, BatchHSIC]
    success: dict[str, float]
    scale: dict[str, float]


@measuring
def measure(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows of the deep arms and their controls; and of those in the scale's own architecture, where it is another."""
    frames = _of_architecture(nets, nets.deep, nets.study.settings["robust"], ADVERSARIAL, question)
    if not nets.main_is_deep:
        frames += _of_architecture(nets, nets.main, nets.study.settings.scale.roles["robust"], RADII, question)
    return frames


def _of_architecture(nets: Compared, of_roles: Nets, robust: str, claim: str, question: Question) -> list[pd.DataFrame]:
    """Rows of networks of one architecture, attacked in the ball of its robust recipe."""
    study, how = nets.study, attack_of(nets.study, robust)
    n_controls = study.settings["attacked_controls"]
    chosen = {role: of_roles.get(role, ())[: None if role in ARMS else n_controls] for role in (*ARMS, *CONTROLS)}
    chosen[MINE] = [network for network in of_roles.get(MINE, ()) if getattr(network, "has_classes", True)]
    there = "claim == @claim and quantity == 'attack_success' and unit_2 == 'adversarial' and arm in @ARMS"
    target = study.rows.query(there)["value"].min() if study.only_mine else None
    attacked = stays(chosen, state_batches(study), how, question, target)
    frames = []
    for role, network in listed(chosen):
        moved = attacked[network.sha256]
        frames.append(tidied(claim, "hsic_states", role, network, hsic_rows.of_states(moved.pairs)))
        frames.append(tidied(claim, "attack_success", role, network, single(moved.success)))
        frames.append(tidied(claim, "attack_scale", role, network, single(moved.scale)))
    return frames


def attack_of(study: Study, robust: str) -> Attack:
    """The attack in the ball of a robust recipe, or at the radius that the reader asks for."""
    how = recipe(robust)
    if how.norm is None:
        raise BadInput(f"recipe {robust!r} of the robust networks is not adversarial: it has no radius to attack at")
    return Attack(how.norm, study.settings["attack_eps"] or how.eps, study.settings["attack_steps"])


def attack(network: Network, batches: Batches, how: Attack) -> tuple[Tensor, float]:
    """Adversarial images (m, c, h, w) for all images of the batches, and how often they succeed; attacked once, then read from the cache."""
    precision = network.card["training"]["precision"]

    def compute() -> dict[str, Tensor]:
        batches.report(f"{network.card['name']}: attacking {batches.n * batches.count} images")
        generator = torch.Generator().manual_seed(0)
        x, y = _all(batches)
        fast = copy.deepcopy(network).to(memory_format=torch.channels_last)  # three quarters of the time, on a CPU; folding gains nothing
        step = 2.5 * how.eps / how.steps
        parts = [
            training_examples(fast, a, b, how.norm, how.eps, step, how.steps, how.norm == "linf", generator, precision)
            for a, b in zip(x.contiguous(memory_format=torch.channels_last).split(CHUNK), y.split(CHUNK), strict=True)
        ]
        moved = torch.cat(parts).contiguous()
        return {"x": moved, "success": torch.tensor(success(network, moved, y, predictions(network, x) == y))}

    kept = store.cache("adversarial", _described(network, batches, how), compute)
    return kept["x"].to(batches.device), float(kept["success"])


def noise(x: Tensor, norm: str, eps: float) -> Tensor:
    """Images x (n, c, h, w) in [0, 1] moved by random noise of norm `eps`, the same for every network, and clipped."""
    drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    drawn = drawn.sign() * eps if norm == "linf" else drawn * per_sample(eps / drawn.flatten(1).norm(dim=1), drawn)
    return (x + drawn.to(x.device)).clamp(0, 1)


def stays(networks: Nets, batches: Batches, how: Attack, question: Question, target: float | None = None) -> dict[str, Attacked]:
    """Clean against moved features of every network, by its sha256.

    For "equal_success" each network's own attack is scaled down until it succeeds as often as against the network of the two arms
    that withstands it best, or with the share `target`; one that withstands it better still is attacked in full.
    """
    everyone = {network.sha256: network for _, network in listed(networks)}
    attacked = {key: attack(network, batches, how) for key, network in everyone.items()}
    if target is None:
        target = min((attacked[network.sha256][1] for _, network in listed(networks, ARMS)), default=1.0)
    return {key: _compared(network, *attacked[key], batches, how, question, target) for key, network in everyone.items()}


def success(network: Network, moved: Tensor, y: Tensor, right: Tensor) -> float:
    """Share of the images it got right of which it gets the moved ones wrong; 0 where it got none right."""
    return float((predictions(network, moved[right], CHUNK) != y[right]).float().mean()) if right.any() else 0.0


def _scale_of(network: Network, x: Tensor, away: Tensor, y: Tensor, right: Tensor, target: float) -> float:
    """The scale at which the perturbation succeeds with a share of `target`, by halving [0, 1]: success grows with the scale, nearly."""
    x, away, y, right = (one[:N_SCALED] for one in (x, away, y, right))
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if success(network, (x + middle * away).clamp(0, 1), y, right) < target:
            low = middle
        else:
            high = middle
    return high


def _compared(
    network: Network, adversarial: Tensor, share: float, batches: Batches, how: Attack, question: Question, target: float
) -> Attacked:
    """share: of success of the attack in full, target: of "equal_success"."""
    pairs: list[Names] = [(CLEAN, kind) for kind in MOVED]

    def compute() -> dict[str, Tensor]:
        x, y = _all(batches)
        right = predictions(network, x) == y
        scale = _scale_of(network, x, adversarial - x, y, right, target) if share > target else 1.0
        moved = {
            "adversarial": adversarial,
            "noise": noise(x, how.norm, how.eps),
            "equal_success": (x + scale * (adversarial - x)).clamp(0, 1),
        }
        inputs = {CLEAN: x.split(batches.n)} | {kind: moved[kind].split(batches.n) for kind in MOVED}
        hsics, _ = compare_states(dict.fromkeys(inputs, network), inputs, pairs, question)
        shares = {f"success {kind}": torch.tensor(success(network, moved[kind], y, right)) for kind in MOVED}
        return hsic_rows.as_tensors(hsics) | shares | {"scale": torch.tensor(scale)}

    described = _described(network, batches, how) | {"target": target}
    kept = store.cache("block_structure", described, compute)
    scales = {kind: float(kept["scale"]) if kind == "equal_success" else 1.0 for kind in MOVED}
    return Attacked(
        {pair: hsic_rows.from_tensors(kept, pair, batches.n) for pair in pairs},
        {kind: float(kept[f"success {kind}"]) for kind in MOVED},
        scales,
    )


def _described(network: Network, batches: Batches, how: Attack) -> dict[str, object]:
    """What the attacked images depend on, for cache keys."""
    precision = network.card["training"]["precision"]
    return batches.describe() | {"attack": [how.norm, how.eps, how.steps], "network": network.sha256, "precision": precision}


def _all(batches: Batches) -> tuple[Tensor, Tensor]:
    """The images of all batches (m, c, h, w), and their classes (m,)."""
    return torch.cat([*batches]), batches.labels.flatten().to(batches.device)
