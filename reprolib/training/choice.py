"""Which alpha entangles without costing accuracy: chosen on training images held out, before any claim is measured.

Among the recipes that raise the entanglement of the regularised layers enough over the standard network, the one of highest
accuracy; both on images that these networks were not trained on. They serve no claim.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from reprolib import scales, store
from reprolib.measures.soft_nearest_neighbor import entanglement
from reprolib.models.grams import collect
from reprolib.models.layers import shrunk
from reprolib.models.networks import Network
from reprolib.perturb.attacks import predictions
from reprolib.training.objective import regularised
from reprolib.training.recipes import recipe
from reprolib.training.specs import Spec

LEAST_RISE = 0.05
"""Of the loss over its bound, mean over the regularised layers: what counts as entangled."""
SUFFIX = "_choice"
"""Behind the id of a recipe: the same, on the images that a choice leaves for training."""

Numbers = Mapping[str, Any]


def measure(network: Network, x: Tensor, y: Tensor, batch_size: int) -> dict[str, Any]:
    """For a card: accuracy on held-out images x (n, c, h, w) in [0, 1], and entanglement of the regularised layers.

    entanglement: the minimum over temperature over its bound, mean over layers and over disjoint whole batches in the order of the images.
    """
    names, shares = regularised(network), []
    for k in range(len(x) // batch_size):
        part = slice(k * batch_size, (k + 1) * batch_size)
        maps = collect(network, x[part], names, reduce=lambda value: shrunk(value).clone())
        shares += [entanglement(value, y[part]).share for value in maps.values()]
    accuracy = (predictions(network, x) == y).float().mean().item()
    return {"accuracy": accuracy, "entanglement": statistics.fmean(shares), "n": len(x), "n_batches": len(x) // batch_size}


def choose(standard: Numbers, candidates: Mapping[str, Numbers]) -> str:
    """The recipe of highest accuracy among those that entangle by `LEAST_RISE`, the weakest alpha of equals; empty where none does."""
    enough = [name for name, one in candidates.items() if one["entanglement"] - standard["entanglement"] >= LEAST_RISE]
    return max(enough, key=lambda name: (candidates[name]["accuracy"], -abs(recipe(name).alpha)), default="")


def lines(scale: str) -> list[str]:
    """What `reprolib train` says of the choice at a scale: its numbers, a line a network, and the recipe; none where there is no choice."""
    preset = scales.scale(scale)
    specs = [Spec(name, architecture, data, seed, scale) for architecture, name, seed, data in preset.entries() if recipe(name).held_out]
    if not specs:
        return []
    missing = [spec.name for spec in specs if not spec.path.exists()]
    if missing:
        return [f"{scale}: alpha is chosen when {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} trained"]
    found = {spec.recipe.removesuffix(SUFFIX): store.read_card(spec.path)["held_out"] for spec in specs}
    said = [
        f"{scale}: {name} (alpha {recipe(name).alpha:g}) on {one['n']} training images held out: accuracy {one['accuracy']:.4f}, "
        f"entanglement of the regularised layers {one['entanglement']:.4f}"
        for name, one in found.items()
    ]
    standard = found.pop("std")
    chosen = choose(standard, found)
    if not chosen:
        return [*said, f"{scale}: no alpha raises the entanglement by {LEAST_RISE:g}: none is chosen"]
    accuracy, rise = (found[chosen][name] - standard[name] for name in ("accuracy", "entanglement"))
    return [*said, f"{scale}: chosen is {chosen}: accuracy {100 * accuracy:+.1f} points, entanglement {rise:+.3f}, against std"]
