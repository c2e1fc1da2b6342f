"""Rows of ENT-10: how far the hidden layers of attacked images are pulled to wrong classes, in every network at the radius that fools half.

Of a layer: c, the clean entanglement of a batch as a share of its bound, and a, the loss of its attacked features at the temperature of the
clean ones (above 1 where neighbours are of a wrong class). Headroom lost is (a - c) / (1 - c), of means over layers.

Where a layer separates the classes, c is 0 at every low temperature, the one that is found is the lowest tried, and a grows like its
inverse, without bound. So everything is told at `WIDE` too: the highest temperature at which the clean loss is as good, to .01 of its bound.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images, shapetexture
from reprolib.data.images import pick
from reprolib.errors import BadInput
from reprolib.findings.entanglement import equal
from reprolib.findings.entanglement.batches import Batches, of_scale
from reprolib.judging.tidy import rows_of
from reprolib.measures.neighbour_sums import pairs_of
from reprolib.measures.soft_nearest_neighbor import LARGE, Entanglement, minimised
from reprolib.models.external import PAIR
from reprolib.models.grams import POOLED
from reprolib.models.layers import fold_batch_norm
from reprolib.models.networks import MINE, Network
from reprolib.perturb.attacks import predictions
from reprolib.study import Study
from reprolib.training.loop import choose_precision

Nets = Mapping[str, Sequence[Network]]
Question = Callable[[Network, Tensor, Tensor, Tensor], Mapping[str, Mapping[str, Sequence[Tensor]]]]
"""network, images x (n, c, h, w), labels y (n,), attacked images like x -> layer -> "" or `WIDE` -> (c, a)."""

CLAIM = "ENT-10"
ROLES = ("robust", "standard", "gauss", "std_matched", "entangled", MINE, *PAIR)
N_NETWORKS = 3  # of a role
SUCCESS = 0.5  # share of the images that a network has right which the attack fools
N_APART = 100  # images on which the radius is looked for, none of them measured
WIDE = "@wide"
AS_GOOD = 0.01  # of the bound, above the minimum
APART_SEED = 3
"""Of the procedural images on which it is: neither training nor testing draws them."""


def pulled(study: Study, nets: Nets, question: Question, batches: Batches | None = None) -> pd.DataFrame:
    """Rows of every network of `ROLES` in nets, three a role at most: by batch and by layer; its radius and the attack's success.

    Attacked are the first `attack_batch` images of each of the first `attack_batches` batches (the scale's where none are given), all of
    them, also those it has wrong. Kept under network, images, attack and the question's code; the attack itself is kept apart. A network
    without the images' classes is left out. Raises BadInput as `apart` does, and naming the layer where the question's values are not finite.
    """
    frames: list[pd.DataFrame] = []
    if not study.can_measure:
        return pd.DataFrame()
    batches = (of_scale(study) if batches is None else batches).first(study.settings["attack_batch"], study.settings["attack_batches"])
    chosen = {role: [one for one in nets.get(role, ()) if getattr(one, "has_classes", True)][:N_NETWORKS] for role in ROLES}
    for role, network in study.each(chosen):
        kept = attack(study, network, batches)
        moved = kept["moved"].to(study.device).split(batches.n)

        def compute(network: Network = network, moved: Sequence[Tensor] = moved) -> dict[str, Tensor]:
            return asked(question, network, batches, moved)

        described = batches.describe() | {"network": network.sha256, "moved": hashlib.sha256(kept["moved"].numpy().tobytes()).hexdigest()}
        values = store.cache("entanglement", described, compute, functools.partial(asked, question))
        frames += _rows(role, network, batches, values)
        frames.append(rows_of(CLAIM, "eps", role, network, ["all"], kept["eps"][None], reached=kept["reached"][None]))
        frames.append(rows_of(CLAIM, "success", role, network, ["all"], kept["success"][None]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def clean_at(x: Tensor, y: Tensor) -> dict[str, Entanglement]:
    """Clean features x (n, ...) with labels y (n,) at two temperatures: at the minimum, "", and at `WIDE`.

    The latter is the highest up to which, from the minimum on, the loss stays within `AS_GOOD` of its bound above it (to 12 %, and at most
    10,000 times the former): value, temperature and relative_temperature are those there. Both are the same where no temperature is below
    the bound. A third of the work of `entanglement`: T* to a few per cent, its value to 1e-4 of the bound. Errors as there.
    """
    x = x.detach().double()
    found = minimised(x, y, search=LARGE)[1]
    if found.at_bound:
        return {"": found, WIDE: found}
    factors = np.logspace(0, 4, 81)
    losses = pairs_of(x, y, "euclidean")[0].curve((found.temperature * factors).tolist())
    as_good = losses <= found.value + AS_GOOD * found.bound
    as_good[0] = True
    last = len(factors) - 1 if as_good.all() else int(as_good.argmin()) - 1
    by = float(factors[last])
    wide = replace(
        found, value=float(losses[last]), temperature=by * found.temperature, relative_temperature=by * found.relative_temperature
    )
    return {"": found, WIDE: wide}


def attack(study: Study, network: Network, batches: Batches) -> dict[str, Tensor]:
    """Attacked images of all batches, "moved" (m, c, h, w), at the radius "eps" that fools half; and the attack's "success" on them.

    success: share of the batches' images that the network has right which it then has wrong. "reached": whether some radius fools half of
    the images that it was looked for on. Attacked once, then read from the cache.
    """
    device, steps = torch.device(study.device), study.settings["attack_steps"]
    precision = choose_precision(device)

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: attacking {batches.n * batches.count} images at equal success")
        others = apart(study)
        radius = equal.radius_for(network, others.x.to(device).float() / 255, others.y.to(device), SUCCESS, "l2", steps, precision)
        x, y = (torch.cat(one) for one in zip(*batches, strict=True))
        moved = equal.attacked(network, x, y, "l2", radius.eps, steps, precision)
        right = predictions(network, x) == y
        success = equal.success_of(network, moved[right], y[right])
        found = {"eps": radius.eps, "success": success, "reached": radius.reached}
        return {"moved": moved} | {name: torch.tensor(value) for name, value in found.items()}

    kept = store.cache("adversarial", _described(study, network, batches) | {"success": SUCCESS}, compute)
    if not kept["reached"]:
        print(f"{network.card['name']}: no radius fools {SUCCESS:.0%} of the images it has right; attacked at {float(kept['eps']):.3g}.")
    return kept


def apart(study: Study) -> Images:
    """About `N_APART` images, as many of each class, none of them in the scale's batches: fresh ones of a procedural set, else the last test images.

    Raises BadInput where the batches leave too few.
    """
    name, test = study.settings.scale.dataset, study.images("test")
    n_each = -(-N_APART // len(test.classes))
    if name in shapetexture.WORLDS:
        world = replace(shapetexture.world_of(name, "test"), seed=APART_SEED)
        return shapetexture.items(world, n_each * len(test.classes), name=f"{name}, apart")
    n_used = study.settings["n_per_class"] * study.settings["n_batches"]
    last = []
    for k, of in enumerate(test.classes):
        own = (test.y == k).nonzero().flatten()
        if len(own) < n_used + n_each:
            most = max(len(own) - n_each, 0) // study.settings["n_per_class"]
            raise BadInput(
                f"the batches leave {len(own) - n_used} test images of {of!r}, {n_each} set radii of attacks: n_batches={most} at most"
            )
        last.append(own[-n_each:])
    return pick(test, torch.cat(last))


def asked(question: Question, network: Network, batches: Batches, moved: Sequence[Tensor]) -> dict[str, Tensor]:
    """What the question says of every batch, "layer|" and "layer|@wide", (2, batches) each: c, a; of the network with BatchNorm folded."""
    fast, found = fold_batch_norm(network), dict[str, list[Tensor]]()
    for (x, y), away in zip(batches, moved, strict=True):
        for layer, values in question(fast, x, y, away).items():
            for kind, pair in values.items():
                found.setdefault(f"{layer}|{kind}", []).append(torch.stack([torch.as_tensor(one).double() for one in pair]))
    return {name: torch.stack(values, dim=1) for name, values in found.items()}


def headroom_lost(clean: Tensor, attacked: Tensor) -> Tensor:
    """(a - c) / (1 - c) of shares of the bound, elementwise: of the room above the clean value, what the attack takes. 0 where there is none."""
    room = 1 - clean
    return torch.where(room > 0, (attacked - clean) / room.clamp_min(torch.finfo(room.dtype).tiny), 0.0)


def _rows(role: str, network: Network, batches: Batches, values: Mapping[str, Tensor]) -> list[pd.DataFrame]:
    for name, value in values.items():
        if not bool(value.isfinite().all()):
            raise BadInput(
                f"entanglement under attack is not finite in layer {name.rpartition('|')[0]} of {network.card['name']}: look at its weights"
            )
    found, frames = dict.fromkeys(name.rpartition("|")[0] for name in values), []
    own = [*network.layer_names, POOLED]  # in their order; the cache gives names in that of the alphabet
    layers = sorted(found, key=lambda name: own.index(name) if name in own else -1)
    places, last = [f"{k:02d}" for k in range(len(layers))], layers.index(POOLED) if POOLED in layers else -1
    for kind in ("", WIDE):
        clean, away = torch.stack([values[f"{layer}|{kind}"] for layer in layers], dim=1)  # (layers, batches) each
        c, a = clean.mean(dim=0), away.mean(dim=0)
        of_last = headroom_lost(clean[last], away[last])
        by_batch = {"headroom_lost": headroom_lost(c, a), "rise": a - c, "level": a, "headroom_lost_in_last": of_last}
        c, a = clean.mean(dim=1), away.mean(dim=1)
        by_layer = {"headroom_lost_by_layer": headroom_lost(c, a), "attacked_by_layer": a, "clean_by_layer": c}
        frames += [rows_of(CLAIM, f"{name}{kind}", role, network, batches.units, value) for name, value in by_batch.items()]
        frames += [rows_of(CLAIM, f"{name}{kind}", role, network, layers, value, unit_2=places) for name, value in by_layer.items()]
    return frames


def _described(study: Study, network: Network, batches: Batches) -> dict[str, object]:
    """What the attacked images depend on, for cache keys."""
    how = ["l2", study.settings["attack_steps"], choose_precision(torch.device(study.device))]
    others = [study.settings["n_per_class"], study.settings["n_batches"]]
    return batches.describe() | {"attack": how, "apart": [N_APART, APART_SEED, *others], "network": network.sha256}
