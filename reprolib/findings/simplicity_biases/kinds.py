"""Fewer kinds of input: the images that each unit of a network answers to most, and how unlike those are to an independent judge."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data.images import pick
from reprolib.errors import BadInput
from reprolib.findings.simplicity_biases.rows import IN_FULL, names
from reprolib.judging.tidy import rows_of
from reprolib.measures import diversity
from reprolib.measures.smoothness import DEAD
from reprolib.models.layers import fold_batch_norm, representation
from reprolib.models.networks import Network
from reprolib.study import Study

Question = Callable[[Network, Any], Mapping[str, Tensor]]
"""What is asked of one network: network, what it is shown -> {quantity: values (units,)}, the channels of all layers side by side."""

CLAIM = "SIM-6"
OF_ALL = ("diversity",)
TOP = 25
BATCH = 100


@dataclass(frozen=True)
class Shown:
    """Images x (n, 3, h, w) uint8 with labels (n,) below n_classes, and their codes (n, d) in the standard judge. key: a hash of all this."""

    x: Tensor
    y: Tensor
    n_classes: int
    codes: Tensor
    key: str


def shown(study: Study) -> Shown:
    """The first `n_top_images` test images, and what the standard judge, a network of another architecture or seed, makes of them."""
    source = study.images("test")
    chosen = pick(source, torch.arange(min(study.settings["n_top_images"], len(source))))
    judge = study.judges()["standard"]

    def compute() -> dict[str, Tensor]:
        study.report(f"{judge.card['name']}: codes of {len(chosen)} images")
        folded = fold_batch_norm(judge)
        with torch.no_grad(), torch.autocast(study.device, enabled=False):
            return {"codes": torch.cat([representation(folded, pixels(part, folded)).cpu() for part in chosen.x.split(BATCH)])}

    codes = store.cache("codes", {"network": judge.sha256, "data": chosen.sha256}, compute)["codes"]
    key = store.content_key({"data": chosen.sha256, "judge": judge.sha256})
    return Shown(chosen.x, chosen.y, len(chosen.classes), codes, key)


def kinds(study: Study, nets: Mapping[str, Sequence[Network]], question: Question) -> pd.DataFrame:
    """Rows of SIM-6: what the question gives of every live unit of every network, and under "dead", a row a layer, how many units are dead."""
    if not study.can_measure:
        return pd.DataFrame()
    images, frames = shown(study), []
    for role, network in study.each(nets):
        found = asked(study, network, question, images, images.key)
        live = alive(network, images)
        frames += unit_rows(CLAIM, role, network, found, live, None if role in IN_FULL else OF_ALL)
        frames.append(_dead(role, network, live))
    return pd.concat(frames, ignore_index=True)


def asked(study: Study, network: Network, question: Question, given: Any, key: str) -> dict[str, Tensor]:
    """What a question gives of one network, kept under the network, what it is shown (`key`) and the question's code.

    Raises BadInput for values that are not one finite number a unit.
    """

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: {question.__name__}")
        with torch.no_grad():
            return {name: values.cpu() for name, values in question(network, given).items()}

    found, n = store.cache("units", {"network": network.sha256, "shown": key}, compute, question), len(unit_names(network, given))
    for name, values in found.items():
        if values.shape != (n,) or not bool(values.isfinite().all()):
            raise BadInput(
                f"{question.__name__} gives {name!r} of shape {tuple(values.shape)} for {n} units: one finite number a unit is needed"
            )
    return found


def top_images(network: Network, images: Shown, k: int = TOP) -> diversity.TopImages:
    """The k of the images that each unit answers to most, see `diversity.top_images`; kept under the network and the images."""

    def compute() -> dict[str, Tensor]:
        found = diversity.top_images(maps(network, images.x), k)
        return {"by_largest": found.by_largest, "by_mean": found.by_mean, "size": found.size}

    return diversity.TopImages(**store.cache("top images", {"network": network.sha256, "shown": images.key, "k": k}, compute))


def maps(network: Network, x: Tensor, batch_size: int = BATCH) -> Iterator[list[Tensor]]:
    """For each batch of images (n, 3, h, w), uint8 or in [0, 1], the maps of all layers: in eval mode, fp32, BatchNorm folded, no gradients."""
    folded = fold_batch_norm(network).to(memory_format=torch.channels_last)
    for part in x.split(batch_size):
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            yield [value for _, value in folded.maps(pixels(part, folded))]


def pixels(x: Tensor, network: torch.nn.Module) -> Tensor:
    """Images on the network's device, in [0, 1]."""
    there = next(itertools.chain(network.parameters(), network.buffers()), x).device
    return x.to(there).float() / 255 if x.dtype == torch.uint8 else x.to(there)


def unit_names(network: Network, given: Any) -> list[str]:
    """Of each unit "<layer>:<nnn>", the channels of all layers side by side. given: has images x."""
    widths = [one.shape[1] for one in next(maps(network, given.x[:1]))]
    return [name for layer, width in zip(network.layer_names, widths, strict=True) for name in names(layer, torch.arange(width))]


def alive(network: Network, images: Shown) -> dict[str, bool]:
    """Of each unit whether it is alive on these images; a line says which layers are dead as a whole."""
    size = top_images(network, images).size.tolist()
    found = {name: one >= DEAD for name, one in zip(unit_names(network, images), size, strict=True)}
    for layer, of in itertools.groupby(found, key=_layer):
        if not any(found[name] for name in of):
            print(f"{network.card['name']}: all units of {layer} are dead: they are counted, and have no other row.")
    return found


def unit_rows(
    claim: str, role: str, network: Network, found: Mapping[str, Tensor], live: Mapping[str, bool], wanted: Sequence[str] | None = None
) -> list[pd.DataFrame]:
    """Tidy rows of a network's live units. found: quantity -> values (units,) in the order of `live`; wanted: only these quantities."""
    chosen = torch.tensor(list(live.values()))
    units = [unit for unit, lives in live.items() if lives]
    return [
        rows_of(claim, name, role, network, units, values[chosen])
        for name, values in sorted(found.items())
        if wanted is None or name in wanted
    ]


def _dead(role: str, network: Network, live: Mapping[str, bool]) -> pd.DataFrame:
    counts = pd.Series(live).map(lambda one: not one).groupby(_layer, sort=False).sum()
    return rows_of(CLAIM, "dead", role, network, list(counts.index), torch.tensor(counts.to_numpy(dtype=float)))


def _layer(unit: str) -> str:
    return unit.rpartition(":")[0]
