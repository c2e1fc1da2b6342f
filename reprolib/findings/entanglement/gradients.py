"""Rows of ENT-7: whether the signs of the loss's gradient to the pixels cluster by class, batch by batch.

Signs and not gradients: an image's gradient is the smaller the surer the network is of it, and distances would be of that alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput
from reprolib.findings.entanglement.batches import Batches, of_scale
from reprolib.judging.tidy import rows_of
from reprolib.measures.soft_nearest_neighbor import entanglement
from reprolib.models.external import PAIR
from reprolib.models.layers import eval_mode, movable_if_same
from reprolib.models.networks import MINE, Network
from reprolib.study import Study

Nets = Mapping[str, Sequence[Network]]
Question = Callable[[torch.nn.Module, Tensor, Tensor], Tensor]
"""network, images x (n, c, h, w), labels y (n,) -> signs (n, d) of the gradient of each image's loss: -1, 0 or 1."""

CLAIM = "ENT-7"
ROLES = ("standard", "robust", "robust_linf", "gauss", "std_matched", "entangled", MINE, *PAIR)


def signs(study: Study, nets: Nets, question: Question, batches: Batches | None = None) -> pd.DataFrame:
    """Rows of every network of `ROLES` in nets, by batch: entanglement of the signs by class, and the share of images without a gradient.

    batches: the scale's where none are given. Kept under network, images and the question's code. A network without the images' classes is
    left out. Raises BadInput where the question's values are no signs with a row an image.
    """
    frames: list[pd.DataFrame] = []
    if not study.can_measure:
        return pd.DataFrame()
    batches = of_scale(study) if batches is None else batches
    chosen = {role: [one for one in nets.get(role, ()) if getattr(one, "has_classes", True)] for role in ROLES}
    for role, network in study.each(chosen):

        def compute(network: Network = network) -> dict[str, Tensor]:
            study.report(f"{network.card['name']}: gradients of {batches.n * batches.count} images")
            return asked(question, network, batches)

        described = batches.describe() | {"network": network.sha256}
        values = store.cache("entanglement", described, compute, functools.partial(asked, question))
        frames += [rows_of(CLAIM, name, role, network, batches.units, value) for name, value in values.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def asked(question: Question, network: Network, batches: Batches) -> dict[str, Tensor]:
    """ "gradient_entanglement" and "gradient_zero_share" of every batch, (batches,) each; asked of a faster copy where that is the same function."""
    found: dict[str, list[float]] = {"gradient_entanglement": [], "gradient_zero_share": []}
    with eval_mode(network):
        fast: torch.nn.Module | None = None
        for x, y in batches:
            fast = movable_if_same(network, x) if fast is None else fast
            of = question(fast, x, y).detach()
            if of.ndim != 2 or len(of) != len(x) or not bool(torch.isin(of, of.new_tensor([-1, 0, 1])).all()):
                name, shape = getattr(question, "__name__", "the question"), tuple(of.shape)
                raise BadInput(f"{name} gives values of shape {shape} for {len(x)} images: signs (n, d), -1, 0 or 1, are needed")
            found["gradient_entanglement"].append(entanglement(of.float(), y).share)
            found["gradient_zero_share"].append(float((of == 0).all(dim=1).double().mean()))
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}
