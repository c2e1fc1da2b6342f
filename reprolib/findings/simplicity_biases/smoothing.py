"""Smoothness of every network, as tidy rows: its first filters, total variation of its maps with and without noise, changes of its layers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from reprolib import store
from reprolib.data import Images, distort
from reprolib.errors import BadInput
from reprolib.findings.simplicity_biases.rows import IN_FULL, names
from reprolib.judging.tidy import rows_of
from reprolib.measures import smoothness
from reprolib.measures.smoothness import is_dead
from reprolib.models.grams import collect
from reprolib.models.layers import fold_batch_norm
from reprolib.models.networks import Network
from reprolib.study import Study

Nets = Mapping[str, Sequence[Network]]
ByLayer = dict[str, dict[str, Tensor]]
"""Layer -> name -> values, of a channel (c,) or of an image (n,)."""

SIGMA = 0.05
BANDS = {"white": ("white", SIGMA), **{band: (band, SIGMA) for band in distort.BANDS}}
OTHER_SIGMAS = {"02": 0.02, "10": 0.1}
NOISES = {**BANDS, **{f"white_{name}": ("white", sigma) for name, sigma in OTHER_SIGMAS.items()}}
"""Noises: name -> (white or a band, sigma in units of [0, 1]); that of a band has L2 norm sigma sqrt(d), which white noise has on average."""
CLEAN = "clean"
FIRST = "conv1"
"""The layer that stands in rows of first filters."""
BATCH = 32  # images at a time, each with its noisy copies


@dataclass(frozen=True)
class Noisy:
    """Images x (n, c, h, w) uint8, the noises that each is shown with, and a key: equal keys mean equal images and equal noise."""

    x: Tensor
    noises: Mapping[str, tuple[str, float]]
    key: Mapping[str, Any]

    @functools.cached_property
    def shown(self) -> dict[str, Tensor]:
        """{"clean": x, noise: x'} as floats in [0, 1]: all images, made once for all networks. An image's noise hangs on its place alone."""
        x = self.x.float() / 255
        return {CLEAN: x} | {name: _moved(x, kind, sigma, range(len(x))) for name, (kind, sigma) in self.noises.items()}

    def batches(self, device: str | torch.device = "cpu", size: int = BATCH) -> Iterator[dict[str, Tensor]]:
        """The same, `size` images at a time."""
        for start in range(0, len(self.x), size):
            yield {name: pixels[start : start + size].to(device) for name, pixels in self.shown.items()}


def noisy(images: Images, n: int, noises: Mapping[str, tuple[str, float]] = NOISES) -> Noisy:
    """The first n images, to be shown with each of the noises. Raises BadInput for an unknown kind or a sigma below 0."""
    for name, (kind, sigma) in noises.items():
        if kind not in ("white", *distort.BANDS) or not sigma >= 0:
            kinds = ", ".join(("white", *distort.BANDS))
            raise BadInput(f"noise {name!r} is {kind!r} of sigma={sigma}: allowed are {kinds}, of 0 or more in units of [0, 1]")
    described = {name: [kind, sigma] for name, (kind, sigma) in noises.items()}
    key = {"data": images.sha256, "images": images.name, "n": min(n, len(images)), "noises": described}
    return Noisy(images.x[:n], dict(noises), key)


def by_layer(network: Network, images: Noisy, of_maps: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]) -> ByLayer:
    """What of_maps says of every layer's maps, streamed over the images.

    of_maps: {"clean": (n, c, h, w), noise: ...} of some images -> {name: values}, of each image (n,) or of each image's channels (n, c).
    Returns layer -> name -> (n,) of all images, or (c,), means over them.
    """
    results: ByLayer = {}
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    for shown in images.batches(device):
        n = len(shown[CLEAN])

        def of_layer(maps: Tensor, names: Sequence[str] = [*shown], n: int = n) -> Mapping[str, Tensor]:
            return of_maps(dict(zip(names, maps.split(n), strict=True)))

        for layer, values in collect(network, torch.cat([*shown.values()]), network.layer_names, reduce=of_layer).items():
            result = results.setdefault(layer, {})
            for name, value in values.items():
                if value.ndim == 1:
                    result[name] = torch.cat([result[name], value]) if name in result else value
                else:
                    share = value.double().sum(dim=0) / len(images.x)
                    result[name] = result[name] + share if name in result else share
    return results


def first_filters(network: nn.Module) -> Tensor:
    """The weights (o, c, k, k) of a network's first layer. Raises BadInput where that is no convolution."""
    weighted = (module for module in network.modules() if any(weight.ndim > 1 for weight in module.parameters(recurse=False)))
    layer = next(weighted, None)
    if not isinstance(layer, nn.Conv2d):
        what = "there is no layer with weights" if layer is None else f"the first layer with weights is a {type(layer).__name__}"
        raise BadInput(f"{what}: filter statistics are asked of a convolution")
    return layer.weight.detach()


def pictured(nets: Nets) -> dict[str, Tensor]:
    """First filters that can be compared by eye: of the first standard, robust, untrained network and of the reader's, where they are 7 x 7."""
    found: dict[str, Tensor] = {}
    for role in (*IN_FULL, "untrained"):
        for network in nets.get(role, ())[:1]:
            try:
                smoothness.filters(found.setdefault(role, first_filters(network)))
            except BadInput:
                found.pop(role, None)
    return found


def filters(study: Study, nets: Nets, question: Callable[[Network], Mapping[str, Tensor]]) -> pd.DataFrame:
    """Rows of SIM-1: of every network's first filters. question(network) -> {"index": which filters, quantity: their values (k,)}.

    Filters that have neither are counted, as "flat_filters". A network whose first layer has no such filters has no rows, and a line says why.
    """
    frames = []
    for role, network in study.each(nets) if study.can_measure else ():
        try:
            statistics = dict(question(network))
        except BadInput as error:
            print(f"{network.card['name']}: {error}.")
            continue
        units = names(FIRST, statistics.pop("index"))
        frames += [rows_of("SIM-1", quantity, role, network, units, values) for quantity, values in statistics.items()]
        n_flat = torch.tensor([len(first_filters(network)) - len(units)])
        frames.append(rows_of("SIM-1", "flat_filters", role, network, [FIRST], n_flat))
    return _joined(frames)


def blocking(study: Study, nets: Nets, question: Callable[[Network, Noisy], ByLayer], images: Noisy | None = None) -> pd.DataFrame:
    """Rows of SIM-2, of hidden units: what noise does to each channel, by thirds of the maps; how many channels are dead.

    question(network, images) -> layer -> {"tv@clean", "tv@white", "b@white", "b@white_02" (...), "size": mean |a| of clean maps}, (c,) each.
    Dead channels have no rows. Of both arms and the reader's network total variation is told as well.
    """
    frames = []
    for role, network, responses in _asked(study, nets, question, images):
        n = len(responses) // 3
        thirds = ["first"] * n + ["middle"] * (len(responses) - 2 * n) + ["last"] * n
        for third, (layer, response) in zip(thirds, responses.items(), strict=True):
            dead = is_dead(response["size"])
            alive = (~dead).nonzero().flatten()
            if not len(alive):
                print(f"{network.card['name']}: all {len(dead)} units of {layer} are dead, and left out.")
            quantities = {f"tv_response@{third}": response["b@white"]}
            if third == "first":
                quantities |= {f"tv_response@first_{noise}": response[f"b@white_{noise}"] for noise in OTHER_SIGMAS}
            if role in IN_FULL:
                quantities |= {"tv_clean": response["tv@clean"], "tv_noisy": response["tv@white"]}
            units = names(layer, alive)
            frames += [rows_of("SIM-2", quantity, role, network, units, values[alive]) for quantity, values in quantities.items()]
            frames.append(rows_of("SIM-2", "dead", role, network, [layer], dead.sum()[None]))
    return _joined(frames)


def changes(study: Study, nets: Nets, question: Callable[[Network, Noisy], ByLayer], images: Noisy | None = None) -> pd.DataFrame:
    """Rows of SIM-2 (white noise) and SIM-3 (bands): how far each image moves, mean over layers; under SIM-3 each layer, mean over images.

    question(network, images) -> layer -> {"change@white", "change@low", ...}, (n,) each, of the noises of BANDS. In unit_2 of a layer's rows
    stands its place in the network.
    """
    frames = []
    for role, network, responses in _asked(study, nets, question, images):
        places = [f"{k:02d}" for k in range(len(responses))]
        for noise in BANDS:
            change = torch.stack([response[f"change@{noise}"].double() for response in responses.values()])  # (layers, n)
            units = [f"{k:04d}" for k in range(change.shape[1])]
            claim = "SIM-2" if noise == "white" else "SIM-3"
            frames.append(rows_of(claim, f"relative_change@{noise}", role, network, units, change.mean(dim=0)))
            frames.append(rows_of("SIM-3", f"change_by_layer@{noise}", role, network, [*responses], change.mean(dim=1), unit_2=places))
    return _joined(frames)


def _asked(
    study: Study, nets: Nets, question: Callable[[Network, Noisy], ByLayer], images: Noisy | None
) -> Iterator[tuple[str, Network, ByLayer]]:
    """(role, network, its answer), network by network; kept under the network, the images with their noise, and the question's code.

    images: absent, the scale's first `n_images` test images.
    """
    if not study.can_measure:
        return
    images = _of_scale(study) if images is None else images
    for role, network in study.each(nets):

        def compute(network: Network = network, images: Noisy = images) -> dict[str, Tensor]:
            study.report(f"{network.card['name']}: {question.__name__}, {len(images.x)} images")
            responses = folded(question, network, images)
            return {f"{layer}|{name}": values for layer, response in responses.items() for name, values in response.items()}

        responses: ByLayer = {layer: {} for layer in network.layer_names}
        described = {"network": network.sha256, "images": images.key}
        for key, values in store.cache("smoothness", described, compute, functools.partial(folded, question)).items():
            layer, _, name = key.rpartition("|")
            if not bool(values.isfinite().all()):
                raise BadInput(f"{question.__name__} gives {name!r} of layer {layer} that are not finite: look at the network's weights")
            responses[layer][name] = values
        yield role, network, responses


def folded(question: Callable[[Network, Noisy], ByLayer], network: Network, images: Noisy) -> ByLayer:
    """What is asked of a network whose BatchNorm its convolutions absorb."""
    return question(fold_batch_norm(network), images)


@functools.lru_cache(maxsize=1)
def _of_scale(study: Study) -> Noisy:
    return noisy(study.images("test"), study.settings.values["n_images"])


def _moved(x: Tensor, kind: str, sigma: float, ids: Iterable[int]) -> Tensor:
    if kind == "white":
        return distort.gaussian_noise(x, sigma, ids)
    return distort.band_noise(x, kind, sigma * x[0].numel() ** 0.5, ids)


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
